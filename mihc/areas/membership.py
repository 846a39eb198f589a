"""Which polygon holds a point: the half-open even-odd rule, for points and for pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely


def edges_of(polygons: Sequence[shapely.Geometry]) -> tuple[np.ndarray, np.ndarray]:
    """Return every edge as (x0, y0, x1, y1) with y0 < y1, and where each polygon's edges start (n + 1).

    Horizontal edges are left out: no row crosses them under the half-open rule.
    """
    parts, polygon_of_part = shapely.get_parts(np.asarray(polygons, dtype=object), return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    one_ring = ring_of_point[1:] == ring_of_point[:-1]
    edges = np.hstack([points[:-1], points[1:]])[one_ring]
    owner = polygon_of_part[part_of_ring[ring_of_point[:-1][one_ring]]]
    upward = edges[:, 1] > edges[:, 3]
    edges[upward] = edges[upward][:, [2, 3, 0, 1]]
    slanted = edges[:, 1] < edges[:, 3]
    starts = np.searchsorted(owner[slanted], np.arange(len(polygons) + 1))
    return np.ascontiguousarray(edges[slanted]), starts


def first_holder(x: np.ndarray, y: np.ndarray, polygons: Sequence[shapely.Geometry]) -> np.ndarray:
    """Return for each point the index of the first polygon that holds it, -1 where none does (NaN included)."""
    from mihc.areas import crossings

    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found = np.full(len(x), -1, dtype=np.int32)
    if not len(polygons) or not len(x):
        return found
    edges, starts = edges_of(polygons)
    bounds = shapely.bounds(np.asarray(polygons, dtype=object))
    order = np.argsort(y, kind="stable")
    sorted_y = y[order]
    low = np.searchsorted(sorted_y, bounds[:, 1], side="left")
    high = np.searchsorted(sorted_y, bounds[:, 3], side="right")
    in_order = found.copy()
    crossings.first_holder(x[order], sorted_y, edges, starts, bounds, low, high, in_order)
    found[order] = in_order
    return found


def paint(
    polygons: Sequence[shapely.Geometry],
    values: Sequence[int],
    shape: tuple[int, int],
    pixel_size_um: tuple[float, float],
    origin: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Return uint32 (y, x) pixels that hold the value of the last polygon over their centre, 0 where none is."""
    from mihc.areas import crossings

    picture = np.zeros(shape, dtype=np.uint32)
    edges, starts = edges_of(polygons)
    for index, value in enumerate(values):
        mine = edges[starts[index] : starts[index + 1]]
        crossings.paint(mine, value, origin[0], origin[1], pixel_size_um[0], pixel_size_um[1], picture)
    return picture
