"""Which polygon holds a point: the half-open even-odd rule, for points and for pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

POINTS_IN_CELL = 32  # of the grid that points are looked up in: it sets the speed, not the result
MOST_CELLS_ASIDE = 512


def edges_of(polygons: Sequence[shapely.Geometry]) -> tuple[np.ndarray, np.ndarray]:
    """Return every edge as (x0, y0, x1, y1) with y0 < y1, and where each polygon's edges start (n + 1).

    Horizontal edges are left out: no row crosses them under the half-open rule.
    """
    parts, polygon_of_part = shapely.get_parts(np.asarray(polygons, dtype=object), return_index=True)
    areas = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON  # overlays leave lines and points beside them
    if not areas.any():
        return np.empty((0, 4)), np.zeros(len(polygons) + 1, dtype=np.int64)
    from mihc.areas import crossings

    _, points, (ring_starts, part_starts) = shapely.to_ragged_array(parts[areas], include_z=False)
    region_of_ring = np.repeat(polygon_of_part[areas], np.diff(part_starts))
    return crossings.edges_of_rings(points, ring_starts, region_of_ring, len(polygons))


def first_holder(x: np.ndarray, y: np.ndarray, polygons: Sequence[shapely.Geometry]) -> np.ndarray:
    """Return for each point the index of the first polygon that holds it, -1 where none does (NaN included)."""
    from mihc.areas import crossings

    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found = np.full(len(x), -1, dtype=np.int32)
    if not len(polygons) or not len(x):
        return found
    edges, starts = edges_of(polygons)
    bounds = shapely.bounds(np.asarray(polygons, dtype=object))
    filled = bounds[~np.isnan(bounds[:, 0])]  # those of empty polygons are NaN
    if not len(filled):
        return found
    box = np.concatenate([filled[:, :2].min(axis=0), filled[:, 2:].max(axis=0)])
    side = int(min(max(np.sqrt(len(x) / POINTS_IN_CELL), 1), MOST_CELLS_ASIDE))
    crossings.first_holder(x, y, edges, starts, bounds, box, side, side, found)
    return found


@dataclass(frozen=True)
class Edges:
    """Polygons as their edges, each polygon with the value that its pixels get."""

    table: np.ndarray  # (n, 4) as `edges_of` gives them
    starts: np.ndarray  # (polygons + 1)
    values: tuple[int, ...]

    @classmethod
    def of(cls, polygons: Sequence[shapely.Geometry], values: Sequence[int]) -> Edges:
        """The edges of polygons."""
        return cls(*edges_of(polygons), tuple(values))

    def between(self, low: float, high: float) -> Edges:
        """What is needed to paint rows whose centres lie from `low` to `high` (y)."""
        near = (self.table[:, 1] <= high) & (self.table[:, 3] >= low)
        return Edges(self.table[near], np.append(0, np.cumsum(near))[self.starts], self.values)

    def paint(
        self, shape: tuple[int, int], pixel_size_um: tuple[float, float], origin: tuple[int, int] = (0, 0)
    ) -> np.ndarray:
        """Return uint32 (y, x) pixels that hold the value of the last polygon over their centre, 0 where none is."""
        from mihc.areas import crossings

        picture = np.zeros(shape, dtype=np.uint32)
        for index, value in enumerate(self.values):
            mine = self.table[self.starts[index] : self.starts[index + 1]]
            if len(mine):
                crossings.paint(mine, value, *origin, *pixel_size_um, picture)
        return picture


def paint(
    polygons: Sequence[shapely.Geometry],
    values: Sequence[int],
    shape: tuple[int, int],
    pixel_size_um: tuple[float, float],
    origin: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Return uint32 (y, x) pixels that hold the value of the last polygon over their centre, 0 where none is."""
    return Edges.of(polygons, values).paint(shape, pixel_size_um, origin)
