"""What a region file holds once read: outlines in pixels, each checked before it becomes a number."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.errors import AnnotationError

FARTHEST_PX = 1e8  # no slide is larger; a coordinate beyond it is a defect of the file
LARGEST_FILE_BYTES = 512 * 1024**2
ELLIPSE_SIDES = 720  # half a degree each; see `ellipse`


@dataclass(frozen=True)
class Shape:
    """One outline of a region file."""

    name: str  # "" when the file gives none
    tissue_class: str  # as the file has it, "" when it has none
    polygon_px: Polygon | MultiPolygon  # full-resolution pixels, x right, y down
    place: str  # file and feature, for messages


@dataclass(frozen=True)
class Outlines:
    """What one region file holds."""

    shapes: list[Shape]
    notes: list[str]  # what was left aside or repaired, for people
    in_um: bool = False  # the file says that its numbers are µm: `polygon_px` then holds µm
    slide: str = ""  # the slide that the file says it was drawn on; "" where it does not say
    size_px: tuple[int, int] | None = None  # (height, width) of that slide, where the file says it


@dataclass
class Reading:
    """A region file while it is read: how strictly, and what there is to tell about it."""

    file: str
    even_odd: bool = False  # an outline that crosses itself is read by the even-odd rule instead of refused
    told: Counter[str] = field(default_factory=Counter)  # what was left aside, with how many of it
    repaired: list[str] = field(default_factory=list)

    def polygon(self, rings: Sequence[np.ndarray], place: str) -> Polygon | MultiPolygon:
        """Return the polygon of an outer ring and its holes; see `polygon`."""
        try:
            return polygon(rings, place=place)
        except CrossingError as error:
            repaired = even_odd_area(rings) if self.even_odd else None
            if repaired is None:
                raise
            raw = Polygon(rings[0], rings[1:]).area
            self.repaired.append(
                f"{place}: {error.where}, read by the even-odd rule: {repaired.area:.10g} square pixels "
                f"(by its outline alone {raw:.10g})"
            )
            return repaired

    def outlines(self, shapes: list[Shape]) -> Outlines:
        """Return the shapes with everything there is to tell about the file."""
        return Outlines(
            shapes, [*(f"{self.file}: {count} {what}" for what, count in sorted(self.told.items())), *self.repaired]
        )


class CrossingError(AnnotationError):
    """An outline whose area can be read in more than one way."""

    def __init__(self, where: str, place: str):
        super().__init__(
            f"{where}: the outline's area can be read in more than one way",
            place=place,
            fix="Open it in the drawing program, correct the outline at that point and export again; or write\n"
            'repair = "even-odd" under [regions] of study.toml, and what an odd number of loops holds is taken.',
        )
        self.where = where


def read_bytes(path: Path) -> bytes:
    """Return the content of a region file, refusing what is missing, empty or absurdly large."""
    if not path.is_file():
        raise AnnotationError("there is no such file", place=path.name, fix="Check slides.csv, column annotations.")
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise AnnotationError(
            f"{size / 1e6:.0f} MB is more than the {LARGEST_FILE_BYTES / 1e6:.0f} MB a region file may have",
            place=path.name,
            fix="Export annotations only, without cells or detections.",
        )
    content = path.read_bytes()
    if not content.strip():
        raise no_regions(path.name, "the file is empty")
    return content


def no_regions(place: str, why: str) -> AnnotationError:
    """Return the error for a file that outlines nothing."""
    return AnnotationError(
        f"no regions: {why}", place=place, fix="Export the slide's annotations again, or remove the file."
    )


def without_area(kind: str, place: str, label: str = "class") -> AnnotationError:
    """Return the error for a point or a line among the outlines; `label` is what the program calls a class."""
    return AnnotationError(
        f"a {kind} has no area and cannot be a region",
        place=place,
        fix=f'Delete it, or give it a {label} that ends in "*" (QuPath ignores such classes, and so does mihc).',
    )


def closed_ring(points: Iterable[Sequence[float]], *, place: str) -> np.ndarray:
    """Return a ring's vertices (n, 2) as x, y in pixels, refusing what cannot bound an area.

    The first vertex is repeated as the last; a ring that comes without the repetition is refused.
    """
    ring = _positions(points, place)
    if len(np.unique(ring, axis=0)) < 3:
        raise AnnotationError(
            f"an outline of {len(np.unique(ring, axis=0))} points encloses no area; at least 3 are needed",
            place=place,
            fix="Draw the region again, or delete it.",
        )
    if not np.array_equal(ring[0], ring[-1]):
        raise AnnotationError(
            f"an outline that is not closed: it starts at {_at(ring[0])} and ends at {_at(ring[-1])}",
            place=place,
            fix="Repeat the first point as the last, or export the file again.",
        )
    return ring


def _positions(points: Iterable[Sequence[float]], place: str) -> np.ndarray:
    broken = AnnotationError(
        "a vertex that is not two numbers", place=place, fix="Export the file again; vertices are [x, y] in pixels."
    )
    try:
        pairs = [(point[0], point[1]) for point in points]
    except (TypeError, IndexError, KeyError):
        raise broken from None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for pair in pairs for v in pair):
        raise broken
    if not all(abs(v) <= FARTHEST_PX for pair in pairs for v in pair):  # false for NaN and infinity too
        worst = next(pair for pair in pairs if not all(abs(v) <= FARTHEST_PX for v in pair))
        raise AnnotationError(
            f"a vertex at ({worst[0]!s:.20}, {worst[1]!s:.20}), which is no pixel of any slide",
            place=place,
            fix="Vertices are finite full-resolution pixels; export the file again.",
        )
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def polygon(rings: Sequence[np.ndarray], *, place: str) -> Polygon | MultiPolygon:
    """Return the polygon of an outer ring and its holes, refusing one that can be read in several ways.

    An outline that merely touches itself at a point is taken as it stands: by every reading its area is the same.
    """
    shape = Polygon(rings[0], rings[1:])
    if not shapely.is_valid(shape):
        shape = _unambiguous(shape, place)
    if not shape.area > 0:
        raise _nothing_within(place)
    return shape


def _nothing_within(place: str) -> AnnotationError:
    return AnnotationError("an outline of zero area", place=place, fix="Draw the region again, or delete it.")


def _unambiguous(shape: Polygon, place: str) -> Polygon | MultiPolygon:
    parts = polygons_of(shapely.make_valid(shape))
    if parts is None:  # all on one line
        raise _nothing_within(place)
    reason = str(shapely.is_valid_reason(shape))
    if reason.startswith("Ring Self-intersection") and math.isclose(parts.area, shape.area, rel_tol=1e-12):
        return parts
    found = re.match(r"(.*)\[(\S+) (\S+)\]", reason)
    where = f"{found[1].lower()} at ({float(found[2]):.10g}, {float(found[3]):.10g})" if found else reason.lower()
    raise CrossingError(where, place)


def even_odd_area(rings: Sequence[np.ndarray]) -> Polygon | MultiPolygon | None:
    """Return the area that an odd number of loops holds of rings that cross; None where it is none.

    The rings are cut where they cross; of the faces between the pieces those stay from which a ray crosses the rings an
    odd number of times.
    """
    lines = shapely.union_all([shapely.LinearRing(ring) for ring in rings])
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    edges = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])
    held = [
        face for face in faces if _crossings(edges, *shapely.get_coordinates(shapely.point_on_surface(face))[0]) % 2
    ]
    return polygons_of(shapely.union_all(held)) if held else None


def _crossings(edges: np.ndarray, x: float, y: float) -> int:
    """How many edges (x0, y0, x1, y1) a ray from a point to the right crosses."""
    x0, y0, x1, y1 = edges[(edges[:, 1] <= y) != (edges[:, 3] <= y)].T
    return int((x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0))).sum())


def polygons_of(geometry: shapely.Geometry) -> Polygon | MultiPolygon | None:
    """Return the areas of a geometry, without the lines and points that overlays leave; None when it has none."""
    flat = shapely.get_parts(geometry)
    while any(part.geom_type in ("GeometryCollection", "MultiPolygon") for part in flat):
        flat = shapely.get_parts(flat)
    areas = [part for part in flat if part.geom_type == "Polygon" and not part.is_empty]
    if not areas:
        return None
    return areas[0] if len(areas) == 1 else MultiPolygon(areas)


def box(corner: Sequence[float], opposite: Sequence[float]) -> np.ndarray:
    """Return the ring of an upright rectangle given by two opposite corners."""
    (x0, y0), (x1, y1) = corner, opposite
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], dtype=np.float64)


def ellipse(corner: Sequence[float], opposite: Sequence[float]) -> np.ndarray:
    """Return the ring of the upright ellipse that touches the box of two opposite corners.

    720 vertices whose radii are stretched by 6.3e-6 so that the polygon's area is exactly that of the ellipse, π a b;
    its outline stays within 1.3e-5 of the radius (0.13 pixels at a radius of 10,000).
    """
    (x0, y0), (x1, y1) = corner, opposite
    step = 2 * math.pi / ELLIPSE_SIDES
    stretch = math.sqrt(step / math.sin(step))
    angles = step * np.arange(ELLIPSE_SIDES)
    x = (x0 + x1) / 2 + abs(x1 - x0) / 2 * stretch * np.cos(angles)
    y = (y0 + y1) / 2 + abs(y1 - y0) / 2 * stretch * np.sin(angles)
    ring = np.column_stack([x, y])
    return np.vstack([ring, ring[:1]])


def _at(point: np.ndarray) -> str:
    return f"({point[0]:.10g}, {point[1]:.10g})"
