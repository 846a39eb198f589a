"""How far a cell is from the tumour's margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from scipy.spatial import cKDTree
from shapely.geometry import MultiPolygon, Polygon

from mihc.areas.membership import first_holder
from mihc.areas.region import Region

PIECE_UM = 10.0  # margins are cut into pieces no longer than this; it sets the speed, not the result
CHUNK = 65536  # points at a time, which bounds the memory
FEW = 32  # points that are held against every piece; it sets the speed, not the result
LOOKED_AT = 64  # pieces that are held against the edge of the scan at a time


def distance_to_margin(
    x_um: np.ndarray,
    y_um: np.ndarray,
    regions: Sequence[Region],
    *,
    scanned: Polygon | MultiPolygon | None = None,
) -> np.ndarray:
    """Return each point's distance in µm to the outline of the tumour, negative inside it; float64 (n,).

    The tumour is the union of the regions of that class, before anything excluded is taken out (a fold is no margin);
    where its outline is only the edge of what was scanned, it is no margin either. NaN where the slide has no tumour,
    or none of its margin was scanned.
    """
    return distance_to_outline(x_um, y_um, tumour_outline(regions, scanned), scanned=scanned)


def distance_to_outline(
    x_um: np.ndarray, y_um: np.ndarray, outline: shapely.Geometry, *, scanned: Polygon | MultiPolygon | None = None
) -> np.ndarray:
    """Return what `distance_to_margin` does, of a tumour's outline that is known; a few points cost no tree."""
    x, y = np.asarray(x_um, dtype=np.float64), np.asarray(y_um, dtype=np.float64)
    pieces = _pieces(outline)
    if len(x) <= FEW:
        distance = np.array([_nearest_to_one(point, pieces, scanned) for point in zip(x, y)])
    else:
        pieces = pieces[~_on_edge(pieces, scanned)]
        distance = _nearest(np.column_stack([x, y]), pieces) if len(pieces) else np.full(len(x), np.nan)
    inside = first_holder(x, y, [outline]) >= 0
    return np.where(inside, -distance, distance)


def tumour_outline(regions: Sequence[Region], scanned: Polygon | MultiPolygon | None) -> shapely.Geometry:
    """Return the union of the regions of class tumour, µm, as far as it was scanned."""
    outline = shapely.union_all([region.polygon_um for region in regions if region.tissue_class == "tumour"])
    return outline if scanned is None else outline.intersection(scanned)


def _pieces(outline: shapely.Geometry) -> np.ndarray:
    """Return the outline as pieces (n, 2 ends, 2) of at most PIECE_UM."""
    rings = shapely.get_rings(shapely.get_parts(outline))
    points, ring = shapely.get_coordinates(shapely.segmentize(rings, PIECE_UM), return_index=True)
    return np.stack([points[:-1], points[1:]], axis=1)[ring[1:] == ring[:-1]]


def _on_edge(pieces: np.ndarray, scanned: Polygon | MultiPolygon | None) -> np.ndarray:
    """Return (n,) whether a piece lies on the edge of the scan, where there is no margin."""
    if scanned is None or not len(pieces):
        return np.zeros(len(pieces), dtype=bool)
    edge = shapely.boundary(scanned).segmentize(100 * PIECE_UM)
    shapely.prepare(edge)
    looked_at = np.concatenate([pieces, pieces.mean(axis=1, keepdims=True)], axis=1)  # ends, and the middle between
    return shapely.dwithin(shapely.points(looked_at), edge, 1e-6).all(axis=1)


def _nearest_to_one(point: tuple[float, float], pieces: np.ndarray, scanned: Polygon | MultiPolygon | None) -> float:
    """Return the distance from one point to its nearest piece that is on no edge of the scan; NaN where none is."""
    if not (len(pieces) and np.isfinite(point).all()):
        return float("nan")
    distance = _to_each(np.array([point]), pieces[None])[0]
    order = np.argsort(distance, kind="stable")
    for start in range(0, len(order), LOOKED_AT):
        these = order[start : start + LOOKED_AT]
        free = ~_on_edge(pieces[these], scanned)
        if free.any():
            return float(distance[these[free][0]])
    return float("nan")


def _nearest(points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Return the distance from each point to its nearest piece, exactly.

    A piece closer than the nearest known one (distance d) has an end within sqrt(d² + (length / 2)²): ends are looked
    up nearest first until they are farther than that.
    """
    tree = cKDTree(pieces.reshape(-1, 2))
    half = np.sqrt(((pieces[:, 1] - pieces[:, 0]) ** 2).sum(axis=1).max()) / 2
    distance = np.full(len(points), np.nan)
    for start in range(0, len(points), CHUNK):
        waiting = start + np.flatnonzero(np.isfinite(points[start : start + CHUNK]).all(axis=1))
        looked_at = 8
        while len(waiting):
            looked_at = min(looked_at, 2 * len(pieces))
            reach, ends = tree.query(points[waiting], k=np.arange(1, looked_at + 1))
            distance[waiting] = _to_pieces(points[waiting], pieces[ends // 2])
            unsure = reach[:, -1] < np.hypot(distance[waiting], half)
            waiting = waiting[unsure] if looked_at < 2 * len(pieces) else waiting[:0]
            looked_at *= 4
    return distance


def _to_pieces(points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Return each point's distance to the nearest of its own k pieces (n, k, 2 ends, 2)."""
    return _to_each(points, pieces).min(axis=1)


def _to_each(points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Return each point's distance (n, k) to each of its own k pieces."""
    start, along = pieces[:, :, 0], pieces[:, :, 1] - pieces[:, :, 0]
    offset = points[:, None] - start
    length2 = np.maximum((along**2).sum(axis=2), np.finfo(np.float64).tiny)
    share = np.clip((offset * along).sum(axis=2) / length2, 0, 1)
    return np.sqrt(((offset - share[:, :, None] * along) ** 2).sum(axis=2))
