"""ImageJ's ROI files, one (.roi) or a set of them (RoiSet.zip), areas only.

Source of the format: RoiDecoder.java, ShapeRoi.java, EllipseRoi.java and RotatedRectRoi.java of ImageJ. Coordinates
are full-resolution pixels, 0 at the corner of the first. The outlines of a composite are filled by the even-odd rule.
ImageJ has no classes: the name is the class, without the "-1" by which the ROI Manager tells ROIs of one name apart.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.archive import read_members
from mihc.annotations.roi_paths import path_rings
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
    without_area,
)
from mihc.errors import AnnotationError

HEADER_BYTES = 64
AREAS = {0: "polygon", 1: "rectangle", 2: "oval", 7: "freehand", 8: "traced"}
WITHOUT_AREA = {3: "line", 4: "freehand line", 5: "segmented line", 6: "ROI without area", 9: "angle", 10: "point"}
TEXT, ELLIPSE, IMAGE, TILTED_BOX = 1, 3, 4, 5  # subtypes
SUB_PIXEL = 128  # option: coordinates as 32-bit floats follow the whole ones
_NUMBERED = re.compile(r"(.*\D)-\d+")  # "Tumour-1", but not "0345-0678", a name that ImageJ itself gave


def read_roi(path: Path, *, even_odd: bool = False) -> Outlines:
    """Return the outline of a .roi file; `even_odd` as in `Reading`."""
    return _read([(path.stem, read_bytes(path))], Reading(path.name, even_odd))


def read_roi_set(path: Path, *, even_odd: bool = False) -> Outlines:
    """Return the outlines of a RoiSet.zip; nothing is unpacked to the disk. `even_odd` as in `Reading`."""
    reading = Reading(path.name, even_odd)
    members, others = read_members(read_bytes(path), path.name, suffix=".roi")
    if others:
        reading.told["files that are no .roi left aside"] = others
    return _read([(name.rpartition("/")[2][: -len(".roi")], content) for name, content in members], reading)


def _read(rois: list[tuple[str, bytes]], reading: Reading) -> Outlines:
    shapes = []
    for number, (name, content) in enumerate(rois, start=1):
        roi = _Roi(content, f"{reading.file}, ROI {number} ({name[:60]})")
        shape = _shape(roi, _name(roi) or name, reading)
        if shape is not None:
            shapes.append(shape)
    if not shapes:
        raise no_regions(reading.file, "no ROI has an area")
    return reading.outlines(shapes)


@dataclass(frozen=True)
class _Roi:
    """The bytes of one ROI, read with bounds."""

    content: bytes
    place: str

    def __post_init__(self) -> None:
        if len(self.content) < HEADER_BYTES or self.content[:4] != b"Iout":
            raise AnnotationError(
                "not an ImageJ ROI: it does not begin with 'Iout'", place=self.place, fix="Save it in ImageJ again."
            )

    def numbers(self, layout: str, offset: int, count: int = 1) -> tuple:
        """`count` big-endian numbers of one struct letter."""
        size = struct.calcsize(">" + layout) * count
        if offset < 0 or count < 0 or offset + size > len(self.content):
            raise AnnotationError(
                f"truncated: {offset + size} bytes are needed, {len(self.content)} are there",
                place=self.place,
                fix="Save it in ImageJ again.",
            )
        return struct.unpack_from(f">{count}{layout}", self.content, offset)

    def number(self, layout: str, offset: int) -> float:
        return self.numbers(layout, offset)[0]

    def coordinate(self, offset: int) -> int:
        """A 16-bit coordinate: from -5000 to 60535."""
        value = self.number("h", offset)
        return value + 65536 if value < -5000 else value


def _name(roi: _Roi) -> str:
    """The name in the second header; "" where there is none."""
    header = roi.number("i", 60)
    if not HEADER_BYTES <= header <= len(roi.content) - 24:
        return ""
    offset, length = roi.numbers("i", header + 16, 2)
    if offset <= 0 or length <= 0:
        return ""
    return roi.content[offset : offset + 2 * length].decode("utf-16-be", "replace").removesuffix(".roi")


def _shape(roi: _Roi, name: str, reading: Reading) -> Shape | None:
    kind, subtype = roi.content[6], roi.number("h", 48)
    numbered = _NUMBERED.fullmatch(name)
    tissue_class = numbered[1] if numbered else name
    if subtype in (TEXT, IMAGE):
        reading.told[f"{'texts' if subtype == TEXT else 'images'} left aside"] += 1
        return None
    if kind not in AREAS:
        what = WITHOUT_AREA.get(kind, f"ROI of type {kind}")
        if not tissue_class.endswith("*"):
            raise without_area(what, roi.place, "name")
        reading.told[f"{what} ROIs of the ignored name {tissue_class} left aside"] += 1
        return None
    outline = _composite(roi, reading) if roi.number("i", 36) > 0 else _simple(roi, kind, subtype, reading)
    return Shape("" if tissue_class == name else name, tissue_class, outline, roi.place)


def _simple(roi: _Roi, kind: int, subtype: int, reading: Reading) -> Polygon | MultiPolygon:
    if AREAS[kind] in ("rectangle", "oval"):
        left, top, right, bottom = _bounds(roi)
        arc = roi.number("h", 54) if AREAS[kind] == "rectangle" else 0
        ring = ellipse((left, top), (right, bottom)) if AREAS[kind] == "oval" else box((left, top), (right, bottom))
        if arc > 0:
            ring = _rounded(left, top, right, bottom, arc)
    elif AREAS[kind] == "freehand" and subtype in (ELLIPSE, TILTED_BOX):
        ring = _tilted(roi, subtype)
    else:
        ring = _vertices(roi)
    return reading.polygon([closed_ring(ring.tolist(), place=roi.place)], roi.place)


def _sub_pixel(roi: _Roi, version: int) -> bool:
    return roi.number("h", 4) >= version and bool(roi.number("h", 50) & SUB_PIXEL)


def _bounds(roi: _Roi) -> tuple[float, float, float, float]:
    if _sub_pixel(roi, 223):
        left, top, width, height = roi.numbers("f", 18, 4)
        return left, top, left + width, top + height
    top, left, bottom, right = (roi.coordinate(offset) for offset in (8, 10, 12, 14))
    return left, top, right, bottom


def _vertices(roi: _Roi) -> np.ndarray:
    """The vertices of a polygon, closed."""
    count = roi.number("H", 16) or roi.number("i", 18)  # more than 65535 stand further on
    if count < 0:
        roi.numbers("h", HEADER_BYTES, count)
    if _sub_pixel(roi, 222):
        first, layout, left, top = HEADER_BYTES + 4 * count, "f", 0, 0
    else:
        first, layout, left, top = HEADER_BYTES, "h", roi.coordinate(10), roi.coordinate(8)
    size = struct.calcsize(layout)
    points = [roi.numbers(layout, first + axis * size * count, count) for axis in (0, 1)]
    if layout == "h":
        points = [[max(0, one) for one in axis] for axis in points]  # as ImageJ does
    ring = np.array(points, dtype=np.float64).T + np.array([left, top])
    return ring if len(ring) == 0 or np.array_equal(ring[0], ring[-1]) else np.vstack([ring, ring[:1]])


def _tilted(roi: _Roi, subtype: int) -> np.ndarray:
    """An ellipse, given by the ends of its long axis and the ratio of its axes, or a box by its midline and width."""
    x1, y1, x2, y2 = roi.numbers("f", 18, 4)
    parameter = roi.number("f", 52)
    length, angle = math.hypot(x2 - x1, y2 - y1), math.atan2(y2 - y1, x2 - x1)
    across = length * parameter if subtype == ELLIPSE else parameter
    shape = ellipse if subtype == ELLIPSE else box
    ring = shape((-length / 2, -across / 2), (length / 2, across / 2))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (ring[:, :1] * turn[0] + ring[:, 1:] * turn[1]) + ((x1 + x2) / 2, (y1 + y2) / 2)


def _rounded(left: float, top: float, right: float, bottom: float, arc: float) -> np.ndarray:
    """A rectangle with rounded corners: quarters of the ellipse whose axes are `arc`, at most the sides."""
    wide, high = min(arc, right - left), min(arc, bottom - top)
    turned = ellipse((0, 0), (wide, high))[:-1]
    quarters = np.roll(turned, len(turned) // 4, axis=0).reshape(4, -1, 2)
    far = np.array([right - left - wide, bottom - top - high])
    # the ellipse runs from its right end downwards: quarters of right bottom, left bottom, left top, right top
    moved = [quarter + far * side for quarter, side in zip(quarters, [(1, 0), (1, 1), (0, 1), (0, 0)])]
    ring = np.vstack(moved) + np.array([left, top])
    return np.vstack([ring, ring[:1]])


def _composite(roi: _Roi, reading: Reading) -> Polygon | MultiPolygon:
    """The area of several outlines: what an odd number of them holds."""
    values = roi.numbers("f", HEADER_BYTES, roi.number("i", 36))
    rings = [ring for ring in path_rings(values, roi.place) if len(np.unique(ring, axis=0)) > 2]
    parts = [reading.polygon([closed_ring(ring.tolist(), place=roi.place)], roi.place) for ring in rings]
    while len(parts) > 1:  # in pairs, so that no outline is gone over once for every other one
        pairs = shapely.symmetric_difference(parts[: len(parts) // 2 * 2 : 2], parts[1::2])
        parts = [*pairs, *parts[len(parts) // 2 * 2 :]]
    area = polygons_of(parts[0]) if parts else None
    if area is None:
        raise AnnotationError("a composite that encloses no area", place=roi.place, fix="Draw it again, or delete it.")
    return area
