"""QuPath's GeoJSON in its dialects (v0.2 to v0.6): a FeatureCollection, a list of features, or a single one.

Source of the format: QuPathTypeAdapters.java, ROITypeAdapters.java and GsonTools.java of QuPath.
Coordinates are full-resolution pixels, whatever the calibration of the image.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.shapes import (
    Outlines,
    Reading,
    Shape,
    closed_ring,
    ellipse,
    no_regions,
    polygons_of,
    read_bytes,
    without_area,
)
from mihc.errors import AnnotationError

# v0.2 wrote the Java class into "id"; later versions write "objectType" ("object_type" for a while)
V02_TYPES = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "PathRootObject": "root",
    "TMACoreObject": "tmaCore",
}
PIXELS = ("px", "pixel", "pixels")
MICRONS = ("µm", "μm", "um", "micrometer", "micrometers", "micrometre", "micrometres", "micron", "microns")
WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read_qupath(path: Path, *, even_odd: bool = False) -> Outlines:
    """Return the annotations of a GeoJSON file; `even_odd` as in `Reading`."""
    document = parse_geojson(read_bytes(path), path.name)
    reading, shapes = Reading(path.name, even_odd), []
    for number, feature in enumerate(features_of(document, path.name), start=1):
        place = f"{path.name}, feature {number}"
        if not isinstance(feature, dict):
            raise AnnotationError("found something that is not a GeoJSON feature", place=place, fix="Export it again.")
        if isinstance(feature.get("id"), str):
            place += f" (id {feature['id'][:60]})"
        shape = _shape(feature, place, reading)
        if shape is not None:
            shapes.append(shape)
    if not shapes:
        raise _nothing(reading)
    return replace(reading.outlines(shapes), **_declared(document, path.name))


def parse_geojson(content: bytes, place: str) -> Any:
    """Return the document of a file's bytes, refusing what is no JSON and numbers that are not finite."""
    fix = "Export the annotations from QuPath again (File, Export objects as GeoJSON)."
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_number, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise AnnotationError(f"not UTF-8 text: {error.reason} at byte {error.start}", place=place, fix=fix) from None
    except RecursionError:
        raise AnnotationError("nested too deeply to be a region file", place=place, fix=fix) from None
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"not GeoJSON: {error.msg} at line {error.lineno}, column {error.colno}", place=place, fix=fix
        ) from None
    except ValueError as error:
        raise AnnotationError(str(error), place=place, fix=fix) from None


def _refuse_number(word: str) -> float:
    raise ValueError(f"found the number {word}; coordinates and measurements must be finite")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text[:20])


def _declared(document: Any, place: str) -> dict[str, Any]:
    """What the file says of its numbers and of its slide, in members that GeoJSON leaves to those who write it.

    "unit" is px or µm; "mihc" is what `mihc export` writes. QuPath writes neither: its numbers are pixels.
    """
    if not isinstance(document, dict):
        return {}
    unit = document.get("unit", "px")
    if unit not in (*PIXELS, *MICRONS):
        raise AnnotationError(f"coordinates in the unit {str(unit)[:20]!r}", place=place, fix="Write them in px or µm.")
    said = document.get("mihc") if isinstance(document.get("mihc"), dict) else {}
    size = said.get("size_px")
    whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
    slide = said.get("slide")
    return {
        "in_um": unit in MICRONS,
        "slide": slide if isinstance(slide, str) else "",
        "size_px": tuple(size) if whole else None,
    }


def features_of(document: Any, place: str) -> list[Any]:
    """Return every feature of the document in file order, children after their parent."""
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        document = document.get("features")
    if isinstance(document, dict) and document.get("type") == "Feature":
        document = [document]
    if not isinstance(document, list):
        raise AnnotationError(
            "not GeoJSON of QuPath: a FeatureCollection, a list of features or a feature is needed", place=place
        )
    features, waiting = [], document[::-1]
    while waiting:
        feature = waiting.pop()
        features.append(feature)
        waiting.extend(reversed(_children(feature)))
    return features


def _children(feature: Any) -> list[Any]:
    for holder in (feature, _properties(feature)):
        for key in ("childObjects", "children"):
            if isinstance(holder, dict) and isinstance(holder.get(key), list):
                return holder[key]
    return []


def _properties(feature: Any) -> dict[str, Any]:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return properties if isinstance(properties, dict) else {}


def _shape(feature: dict[str, Any], place: str, reading: Reading) -> Shape | None:
    kind = _object_type(feature)
    if kind != "annotation":
        reading.told[f"QuPath {kind} objects (regions are annotations) left aside"] += 1
        return None
    properties, geometry = _properties(feature), feature.get("geometry")
    tissue_class = classification_of(properties.get("classification"), place)
    if not isinstance(geometry, dict):
        raise AnnotationError("a feature without geometry", place=place, fix="Export it again.")
    if geometry.get("type") in WITHOUT_AREA and tissue_class.endswith("*"):
        reading.told[f"{geometry['type']} objects of the ignored class {tissue_class} left aside"] += 1
        return None
    name = properties.get("name")
    return Shape(name if isinstance(name, str) else "", tissue_class, _geometry(geometry, place, reading), place)


def _object_type(feature: dict[str, Any]) -> str:
    if "nucleusGeometry" in feature:
        return "cell"
    properties = _properties(feature)
    stated = properties.get("objectType", properties.get("object_type"))
    if stated is None:
        stated = V02_TYPES.get(str(feature.get("id")), "annotation")
    return str(stated)[:40]


def classification_of(value: Any, place: str) -> str:
    """Return the class as QuPath shows it; the parts of a derived class are joined by ": "."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = value.get("names", value.get("name"))
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ": ".join(value)
    if value is None or isinstance(value, str):
        return value or ""
    raise AnnotationError("a classification that is neither text nor has a name", place=place, fix="Export it again.")


def _geometry(geometry: dict[str, Any], place: str, reading: Reading) -> Polygon | MultiPolygon:
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind in WITHOUT_AREA:
        raise without_area(kind, place)
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        parts = [_geometry(_flat(part, place), place, reading) for part in geometry["geometries"]]
    elif kind == "MultiPolygon" and isinstance(coordinates, list):
        parts = [_polygon(rings, place, reading) for rings in coordinates]
    elif kind == "Polygon":
        parts = [_polygon(coordinates, place, reading)]
    else:
        raise AnnotationError(f"a geometry of type {str(kind)[:40]!r} is no region", place=place, fix="Use polygons.")
    if not parts:
        raise AnnotationError("a geometry without polygons", place=place, fix="Draw the region again, or delete it.")
    if geometry.get("isEllipse") is True and len(parts) == 1:
        x0, y0, x1, y1 = parts[0].bounds
        return Polygon(ellipse((x0, y0), (x1, y1)))
    return parts[0] if len(parts) == 1 else polygons_of(shapely.union_all(parts))


def _flat(part: Any, place: str) -> dict[str, Any]:
    if not isinstance(part, dict) or part.get("type") == "GeometryCollection":
        raise AnnotationError("a GeometryCollection within another", place=place, fix="Use polygons.")
    return part


def _polygon(rings: Any, place: str, reading: Reading) -> Polygon | MultiPolygon:
    if not isinstance(rings, list) or not rings or not all(isinstance(ring, list) for ring in rings):
        raise AnnotationError("a polygon without rings", place=place, fix="Draw the region again, or delete it.")
    return reading.polygon([closed_ring(ring, place=place) for ring in rings], place)


def _nothing(reading: Reading) -> AnnotationError:
    if not reading.told:
        return no_regions(reading.file, "the file holds no features")
    held = "; ".join(f"{count} {what.removesuffix(' left aside')}" for what, count in sorted(reading.told.items()))
    return AnnotationError(
        f"no regions: the file holds only {held}",
        place=reading.file,
        fix="In QuPath select the annotations (Objects, Select, Select annotations), then export the selected objects.",
    )
