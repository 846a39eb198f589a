"""HALO's .annotations: one Annotation per layer, its Regions flat, holes among them as negatives.

Source of the format: the vendor's description and the test files of pyhaloxml. Integer full-resolution pixels that may
be negative. A layer is a class: its name is what study.toml maps.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.markup import coordinate, parse_xml
from mihc.annotations.shapes import (
    Outlines,
    Reading,
    Shape,
    box,
    closed_ring,
    ellipse,
    no_regions,
    polygons_of,
    read_bytes,
)
from mihc.errors import AnnotationError

SKIPPED = {"Pin": "pins", "Ruler": "rulers", "Text": "texts", "Arrow": "arrows"}


def read_halo(path: Path, *, even_odd: bool = False) -> Outlines:
    """Return the outlines of a HALO file, holes subtracted; `even_odd` as in `Reading`."""
    root = parse_xml(read_bytes(path), path.name)
    if root.tag != "Annotations":
        raise AnnotationError(
            f"not a HALO file: its root is <{root.tag[:40]}>, <Annotations> is needed", place=path.name
        )
    reading, shapes = Reading(path.name, even_odd), []
    for layer in root.iter("Annotation"):
        shapes.extend(_layer(layer, reading))
    if not shapes:
        raise no_regions(path.name, "no layer holds a polygon, rectangle or ellipse")
    return reading.outlines(shapes)


def _layer(layer: Element, reading: Reading) -> list[Shape]:
    name = layer.get("Name", "")
    positives: list[Shape] = []
    negatives: list[Shape] = []
    for number, region in enumerate(layer.iter("Region"), start=1):
        place = f'{reading.file}, layer "{name}", region {number}'
        reading.told.update("comments left aside" for _ in region.iter("Comment"))
        shape = _shape(region, name, place, reading)
        if shape is not None:
            (negatives if region.get("NegativeROA", "0").strip().lower() in ("1", "true") else positives).append(shape)
    return _subtract(positives, negatives)


def _shape(region: Element, layer: str, place: str, reading: Reading) -> Shape | None:
    kind = region.get("Type", "Polygon")
    if kind in SKIPPED:
        reading.told[f"{SKIPPED[kind]} left aside"] += 1
        return None
    if region.get("HasEndcaps", "0").strip().lower() in ("1", "true"):
        reading.told["open lines left aside"] += 1
        return None
    vertices = [(coordinate(v.get("X"), place), coordinate(v.get("Y"), place)) for v in region.iter("V")]
    if kind in ("Rectangle", "Ellipse"):
        if len(vertices) != 2:
            raise AnnotationError(f"a {kind} of {len(vertices)} vertices; its two corners are needed", place=place)
        ring = box(*vertices) if kind == "Rectangle" else ellipse(*vertices)
    elif kind == "Polygon":
        ring = np.array(_closed(vertices, place)).reshape(-1, 2)
    else:
        raise AnnotationError(f"a region of type {kind[:40]!r} is unknown", place=place, fix="Delete it, or redraw it.")
    return Shape("", layer, reading.polygon([closed_ring(ring.tolist(), place=place)], place), place)


def _closed(vertices: list[tuple[float, float]], place: str) -> list[tuple[float, float]]:
    """Close a polygon, unless its two ends lie so far apart that a line was drawn (HALO stores both alike)."""
    if len(vertices) < 2 or vertices[0] == vertices[-1]:
        return vertices
    steps = np.hypot(*np.diff(np.array(vertices), axis=0).T)
    gap = float(np.hypot(vertices[0][0] - vertices[-1][0], vertices[0][1] - vertices[-1][1]))
    if len(vertices) > 4 and gap > steps.max() and gap > steps.sum() / 2:
        raise AnnotationError(
            f"an open line, not an outline: its ends are {gap:.0f} pixels apart",
            place=place,
            fix="Delete the line in HALO, or draw the region closed.",
        )
    return [*vertices, vertices[0]]


def _subtract(positives: list[Shape], negatives: list[Shape]) -> list[Shape]:
    """Take each negative from the outlines of its layer that it overlaps, but not from islands drawn inside it."""
    areas: list[Polygon | MultiPolygon | None] = [shape.polygon_px for shape in positives]
    for hole in negatives:
        parents = [
            index
            for index, shape in enumerate(positives)
            if shape.polygon_px.intersection(hole.polygon_px).area > 0
            and not shapely.covers(hole.polygon_px, shape.polygon_px)
        ]
        if not parents:
            raise AnnotationError(
                "an unmatched negative region: no outline of its layer holds it",
                place=hole.place,
                fix="Delete it in HALO, or move it to the layer that it is a hole of.",
            )
        for index in parents:
            if areas[index] is not None:
                areas[index] = polygons_of(areas[index].difference(hole.polygon_px))
    return [
        Shape(shape.name, shape.tissue_class, area, shape.place)
        for shape, area in zip(positives, areas)
        if area is not None
    ]
