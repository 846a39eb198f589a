"""ASAP's XML (Camelyon and others): one Annotation per outline, its class the group that it is part of.

Source of the format: ASAP's XmlRepository.cpp and Annotation.cpp. Full-resolution pixels; outlines are closed by
their last vertex, not by repeating the first. ASAP has no holes: what is drawn within another outline for leaving out
has a group of its own, which study.toml maps to "excluded".
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from mihc.annotations.markup import coordinate, parse_xml
from mihc.annotations.shapes import Outlines, Reading, Shape, closed_ring, no_regions, read_bytes, without_area
from mihc.errors import AnnotationError

OUTLINES = ("Polygon", "Rectangle", "Spline")
WITHOUT_AREA = ("Dot", "PointSet", "Measurement")
_GIVEN_BY_ASAP = re.compile(r"Annotation \d+")  # what ASAP names an outline that nobody named


def read_asap(path: Path, *, even_odd: bool = False) -> Outlines:
    """Return the outlines of an ASAP file; `even_odd` as in `Reading`.

    A spline is taken as the polygon through its points, which is what ASAP makes of it in masks.
    """
    root = parse_xml(read_bytes(path), path.name)
    if root.tag != "ASAP_Annotations":
        raise AnnotationError(
            f"not an ASAP file: its root is <{root.tag[:40]}>, <ASAP_Annotations> is needed", place=path.name
        )
    reading = Reading(path.name, even_odd)
    found = [
        _shape(annotation, f"{path.name}, annotation {number}", reading)
        for number, annotation in enumerate(root.iterfind("Annotations/Annotation"), start=1)
    ]
    shapes = [shape for shape in found if shape is not None]
    if not shapes:
        raise no_regions(path.name, "no annotation is a polygon, rectangle or spline")
    return reading.outlines(shapes)


def _shape(annotation: Element, place: str, reading: Reading) -> Shape | None:
    kind, name, group = (annotation.get(key, "") for key in ("Type", "Name", "PartOfGroup"))
    place += f" ({name[:60]})" if name else ""
    tissue_class = "" if group == "None" else group
    if kind in WITHOUT_AREA:
        if tissue_class.endswith("*"):
            reading.told[f"{kind} objects of the ignored group {tissue_class} left aside"] += 1
            return None
        raise without_area(kind, place, "group")
    if kind not in OUTLINES:
        fix = "Draw it again as a polygon, or delete it."
        raise AnnotationError(f"an annotation of type {kind[:40]!r} is unknown", place=place, fix=fix)
    if kind == "Spline":
        reading.told["splines taken as polygons through their points, as in ASAP's masks"] += 1
    vertices = _vertices(annotation, place)
    ring = vertices if vertices[:1] == vertices[-1:] else [*vertices, vertices[0]]
    given = _GIVEN_BY_ASAP.fullmatch(name) and tissue_class
    outline = reading.polygon([closed_ring(ring, place=place)], place)
    return Shape("" if given else name, tissue_class, outline, place)


def _vertices(annotation: Element, place: str) -> list[tuple[float, float]]:
    """The vertices in the order that they state."""
    listed = list(annotation.iterfind("Coordinates/Coordinate"))
    stated = [vertex.get("Order", "") for vertex in listed]
    if not all(re.fullmatch(r"\d{1,9}", order) for order in stated) or len({int(order) for order in stated}) < len(
        stated
    ):
        raise AnnotationError(
            "vertices whose Order is missing, repeated or no whole number", place=place, fix="Export the file again."
        )
    pairs = [(coordinate(vertex.get("X"), place), coordinate(vertex.get("Y"), place)) for vertex in listed]
    return [pair for _, pair in sorted(zip(map(int, stated), pairs), key=lambda both: both[0])]
