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
    points, starts, owners = trace(np.pad(component.astype(np.int32), 1))
    loops, owners = _simple_loops(points, starts, owners)
    size = np.array([pixel_size_um[1], pixel_size_um[0]])  # x, y
    shells: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {}
    for loop, owner in zip(loops, owners):
        if _twice_signed_area(loop) > 0:
            shells[owner] = loop * size
        else:
            holes.setdefault(owner, []).append(loop * size)
    return MultiPolygon([Polygon(shell, holes.get(owner, [])) for owner, shell in shells.items()])


def _simple_loops(points: np.ndarray, starts: np.ndarray, owners: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """Split every loop where it meets itself; points are (x, y), loop k is points[starts[k]:starts[k + 1]]."""
    loops, owner_of = [], []
    for k, owner in enumerate(owners):
        loop = points[starts[k] : starts[k + 1]]
        parts = [loop] if len(np.unique(loop, axis=0)) == len(loop) else _split(loop)
        loops.extend(parts)
        owner_of.extend([int(owner)] * len(parts))
    return loops, owner_of


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
