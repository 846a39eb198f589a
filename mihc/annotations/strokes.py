"""Strokes that teach the tissue classifier: lines of QuPath's GeoJSON, each with a class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString, MultiLineString

from mihc.annotations.qupath import classification_of, features_of, parse_geojson
from mihc.annotations.shapes import FARTHEST_PX, no_regions, read_bytes
from mihc.errors import AnnotationError

SUFFIX = ".geojson"


@dataclass(frozen=True)
class Stroke:
    """One line that a person drew."""

    label: str  # its class as the file has it
    line_px: LineString | MultiLineString  # full-resolution pixels, x right, y down
    place: str  # file and feature, for messages


def read_strokes(path: Path) -> list[Stroke]:
    """Return the strokes of a GeoJSON file: LineStrings with a property class, or QuPath's classification.

    Raises
    ------
    AnnotationError
        Naming the feature that is no line, has no class or leaves the numbers that pixels can have.
    """
    strokes = []
    for number, feature in enumerate(features_of(parse_geojson(read_bytes(path), path.name), path.name), start=1):
        place = f"{path.name}, feature {number}"
        if not isinstance(feature, dict) or not isinstance(feature.get("geometry"), dict):
            raise AnnotationError("found something that is not a GeoJSON feature", place=place, fix="Export it again.")
        strokes.append(Stroke(_label(feature, place), _line(feature["geometry"], place), place))
    if not strokes:
        raise no_regions(path.name, "the file holds no strokes")
    return strokes


def _label(feature: dict[str, Any], place: str) -> str:
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    label = properties.get("class")
    if not isinstance(label, str) or not label.strip():
        label = classification_of(properties.get("classification"), place)
    if not label.strip():
        raise AnnotationError(
            "a stroke without a class",
            place=place,
            fix="Give it a class in QuPath: tumour, stroma, other, glass or a reason to exclude, such as necrosis.",
        )
    return label.strip()


def _line(geometry: dict[str, Any], place: str) -> LineString | MultiLineString:
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("LineString", "MultiLineString") or not isinstance(coordinates, list):
        raise AnnotationError(
            f"a stroke is a line, and this is a {str(kind)[:40]}",
            place=place,
            fix="Draw it with QuPath's line or polyline tool; areas belong into annotations/.",
        )
    lines = [coordinates] if kind == "LineString" else coordinates
    try:
        drawn = [np.array([(float(x), float(y)) for x, y, *_ in line], dtype=np.float64) for line in lines]
    except (TypeError, ValueError):
        raise AnnotationError("a point that is not two numbers", place=place, fix="Export it again.") from None
    if not drawn or any(len(line) < 2 for line in drawn):
        raise AnnotationError("a line needs two points", place=place, fix="Draw it again, or delete it.")
    if not all((np.abs(line) <= FARTHEST_PX).all() for line in drawn):
        raise AnnotationError("a point that is no pixel of any slide", place=place, fix="Export it again.")
    found = LineString(drawn[0]) if len(drawn) == 1 else MultiLineString(drawn)
    if not math.isfinite(found.length) or found.length == 0:
        raise AnnotationError("a line without length", place=place, fix="Draw it again, or delete it.")
    return shapely.force_2d(found)
