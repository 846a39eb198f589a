"""Masks to polygons along the edges of their pixels, so that mask and polygons have the same area, exactly.

Pixels that touch at a corner only are two polygons (4-connected). A gap of two pixels that touch at a corner is two
holes, so that every ring is simple and every polygon valid. Nothing is smoothed or simplified; only the points on a
straight line are left out, which changes no area.
"""

from __future__ import annotations

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.shapes import polygons_of

STEP = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # (y, x) of a heading: right, down, left, up


def mask_to_polygons(mask: np.ndarray, *, pixel_size_um: tuple[float, float] = (1.0, 1.0)) -> Polygon | MultiPolygon:
    """Return the outline of a (y, x) mask's True pixels in µm; an empty Polygon when there is none.

    Pixel i spans [i, i + 1) x pixel size. The area is (number of True pixels) x pixel area, exactly in pixels.
    """
    mask = np.asarray(mask, dtype=bool)
    if not mask.any():
        return Polygon()
    from mihc.areas.tracing import trace

    component, _ = ndimage.label(mask)
    loops, owners = _simple_loops(*trace(np.pad(component.astype(np.int32), 1)))
    size = np.array([pixel_size_um[1], pixel_size_um[0]])  # x, y
    rings = _rings_by_owner(loops, owners)
    return MultiPolygon(
        [Polygon(shells[0] * size, [hole * size for hole in holes]) for shells, holes in rings.values()]
    )


def label_rings(labels: np.ndarray) -> dict[int, list[list[np.ndarray]]]:
    """Return the outlines of every label of a (y, x) image along its pixels' edges: label -> polygons -> rings.

    A ring is int64 (n, 2) corners x, y in pixels, not closed; a polygon's first is its shell, the others its holes. The
    pixels of a label that touch at a corner only are two polygons, as in `mask_to_polygons`. Raises nothing; an image
    of zeros gives {}.
    """
    from mihc.areas.tracing import trace

    loops, owners = _simple_loops(*trace(np.pad(np.asarray(labels), 1)))
    return {owner: _nested(*parts) for owner, parts in _rings_by_owner(loops, owners).items()}


def _rings_by_owner(loops: list[np.ndarray], owners: list[int]) -> dict[int, tuple[list[np.ndarray], list[np.ndarray]]]:
    """The shells and the holes of each owner."""
    rings: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for loop, owner in zip(loops, owners):
        rings.setdefault(owner, ([], []))[0 if _twice_signed_area(loop) > 0 else 1].append(loop)
    return rings


def _nested(shells: list[np.ndarray], holes: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Each shell with its own holes; a hole is of the smallest shell that covers it."""
    if len(shells) == 1 or not holes:
        return [[shell, *(holes if len(shells) == 1 else [])] for shell in shells]
    polygons = [Polygon(shell) for shell in shells]
    nested = [[shell] for shell in shells]
    for hole in holes:
        around = [k for k, polygon in enumerate(polygons) if polygon.covers(Polygon(hole))]
        nested[min(around, key=lambda k: polygons[k].area)].append(hole)
    return nested


def _simple_loops(points: np.ndarray, starts: np.ndarray, owners: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """Split every loop where it meets itself; points are (x, y), loop k is points[starts[k]:starts[k + 1]]."""
    loops, owner_of = [], []
    pinched = _pinched(points, starts)
    for k, owner in enumerate(owners.tolist()):
        loop = points[starts[k] : starts[k + 1]]
        parts = _split(loop) if pinched[k] else [loop]
        loops.extend(parts)
        owner_of.extend([owner] * len(parts))
    return loops, owner_of


def _pinched(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether each loop passes one corner twice."""
    loop = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    points = points[: len(loop)]
    order = np.lexsort((points[:, 0], points[:, 1], loop))
    same = (np.diff(loop[order]) == 0) & (np.diff(points[order], axis=0) == 0).all(axis=1)
    pinched = np.zeros(len(starts) - 1, dtype=bool)
    pinched[loop[order][1:][same]] = True
    return pinched


def _split(loop: np.ndarray) -> list[np.ndarray]:
    parts, path, position = [], [], {}
    for point in map(tuple, loop.tolist()):
        if point in position:
            first = position[point]
            parts.append(np.array(path[first:]))
            for left in path[first + 1 :]:
                del position[left]
            del path[first + 1 :]
        else:
            position[point] = len(path)
            path.append(point)
    return [*parts, np.array(path)]


def _twice_signed_area(loop: np.ndarray) -> int:
    x, y = loop[:, 0].astype(np.int64), loop[:, 1].astype(np.int64)
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def cut_to_extent(polygons: Polygon | MultiPolygon, extent_um: tuple[float, float] | None) -> Polygon | MultiPolygon:
    """Return polygons cut to an image of (height, width) µm: the last pixels of a coarse level reach beyond it."""
    if extent_um is None:
        return polygons
    return polygons_of(shapely.intersection(polygons, shapely.box(0, 0, extent_um[1], extent_um[0]))) or Polygon()
