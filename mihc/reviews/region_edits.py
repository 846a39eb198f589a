"""Edits of a slide's regions, in the order in which they were made: what a reviewer drew beside or over what was found.

Each is plain JSON with `op`, and polygons as GeoJSON geometries in µm (x right, y down, 0 at the slide's corner):

    draw        name, tissue_class, polygon   a new region; all that lay under it gives way
    cut         name, polygon                 take a piece out of every region of a name; "" = out of all
    remove      name                          a region is none
    reclassify  name, tissue_class            a region is of another class
    replace     regions                       other regions instead of all, as an import gives them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.errors import UsageError
from mihc.regions import TISSUE_CLASSES, Region

OPERATIONS = ("draw", "cut", "remove", "reclassify", "replace")


def edit_regions(regions: Sequence[Region], edits: Iterable[Mapping]) -> tuple[list[Region], list[str]]:
    """Apply edits to a slide's regions -> the regions, and a remark for each edit that no longer finds its region."""
    found, remarks = list(regions), []
    for what in edits:
        names = {one.name for one in found}
        if what["op"] in ("cut", "remove", "reclassify") and what["name"] and what["name"] not in names:
            remarks.append(f"a review's edit ({what['op']}) found no region {what['name']!r} and was passed over")
            continue
        found = _applied(found, what)
    return found, remarks


def _applied(regions: list[Region], what: Mapping) -> list[Region]:
    name, op = what.get("name", ""), what["op"]
    if op == "draw":
        drawn = polygon_from_json(what["polygon"])
        return [*_without(regions, "", drawn), Region(name, what["tissue_class"], drawn)]
    if op == "cut":
        return _without(regions, name, polygon_from_json(what["polygon"]))
    if op == "remove":
        return [one for one in regions if one.name != name]
    if op == "reclassify":
        return [replace(one, tissue_class=what["tissue_class"]) if one.name == name else one for one in regions]
    return [Region(r["name"], r["tissue_class"], polygon_from_json(r["polygon"])) for r in what["regions"]]


def _without(regions: list[Region], name: str, piece: Polygon | MultiPolygon) -> list[Region]:
    """Regions less a piece, those of one name or ("") all; one of which nothing is left is gone."""
    left = [
        replace(one, polygon_um=_areas(one.polygon_um.difference(piece))) if name in ("", one.name) else one
        for one in regions
    ]
    return [one for one in left if not one.polygon_um.is_empty]


def _areas(geometry: shapely.Geometry) -> Polygon | MultiPolygon:
    """The polygons of a geometry; lines and points have no area and are left out."""
    if isinstance(geometry, (Polygon, MultiPolygon)):
        return geometry
    return MultiPolygon([one for one in shapely.get_parts(geometry) if isinstance(one, Polygon) and one.area > 0])


def polygon_as_json(polygon_um: Polygon | MultiPolygon) -> dict:
    """A polygon as GeoJSON.

    Raises
    ------
    UsageError
        When it crosses itself or holds no area.
    """
    if polygon_um.is_empty or polygon_um.area == 0:
        raise UsageError("the outline holds no area", fix="Draw around a piece of tissue.")
    if not polygon_um.is_valid:
        raise UsageError(
            f"the outline crosses itself ({shapely.is_valid_reason(polygon_um)})", fix="Draw it again without a loop."
        )
    return shapely.geometry.mapping(polygon_um)


def polygon_from_json(content: Mapping) -> Polygon | MultiPolygon:
    """The polygon that `polygon_as_json` gave."""
    return shapely.geometry.shape(content)


def class_name(text: str) -> str:
    """`text` if it is a tissue class that a region can have; else UsageError."""
    if text not in TISSUE_CLASSES:
        raise UsageError(f"there is no tissue class {text!r}", fix=f"Write one of {', '.join(TISSUE_CLASSES)}.")
    return text
