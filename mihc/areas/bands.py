"""Bands around the tumour's margin: which band a distance lies in, and how much of every region lies in each band."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon

from mihc.areas.margins import distance_to_margin, tumour_outline
from mihc.areas.membership import Edges
from mihc.areas.region import Region
from mihc.strengths import numbered

SQUARE_UM = (1.0, 2.0)  # side of the squares that areas are shared out by: fine, and coarser for
MOST_FINE_SQUARES = 16_000_000  # a slide that would have more of them; a band is at least ten squares wide
TILE = 1536  # squares on a side that are looked at together: bounds the memory, changes nothing
NO_BAND = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Bands:
    """Bands of one width on both sides of the margin, number k from k x width to (k + 1) x width, inside below 0."""

    width_um: float = 25.0
    to_um: float = 250.0  # on each side, a multiple of the width

    @property
    def per_side(self) -> int:
        """How many bands each side has."""
        return round(self.to_um / self.width_um)

    def limits(self, band: int) -> tuple[float, float]:
        """Return from_um and to_um of a band."""
        return band * self.width_um, (band + 1) * self.width_um

    def of(self, distance_um: np.ndarray) -> np.ndarray:
        """Return the band of each signed distance, NO_BAND where it is NaN or farther than `to_um`.

        A band starts at its end nearer to the margin, which belongs to it: outside [from, to), inside (from, to]. A
        point on the margin itself is inside or outside by the rule of regions; its distance is -0.0 or 0.0.
        """
        distance = np.asarray(distance_um, dtype=np.float64)
        away = np.floor(np.abs(distance) / self.width_um)
        near = away < self.per_side  # false for NaN too
        count = np.where(near, away, 0).astype(np.int64)
        return np.where(near, np.where(np.signbit(distance), -1 - count, count), NO_BAND)


BandAreas = Mapping[tuple[str, str, int], float]  # (region, tissue class, band) -> mm²


def band_areas(
    regions: Sequence[Region],
    parts: Sequence[Region],
    *,
    scanned: Polygon | MultiPolygon,
    bands: Bands,
    tile: int = TILE,
) -> dict[tuple[str, str, int], float]:
    """Return how many mm² of each part lie in each band around the margin of the regions' tumour.

    Parameters
    ----------
    regions
        What `distance_to_margin` takes: the tumour is the union of the regions of that class.
    parts
        The `partition` of the regions, µm; those without area have no entry.
    scanned
        What was imaged, µm: where the tumour ends only because the scan does, there is no margin.
    bands
        Their width and reach.
    tile
        Squares on a side that are looked at together; changes no digit.

    Returns
    -------
    dict
        (region, tissue class, band) -> mm², and under NO_BAND what is farther away. Each part's area is shared out by
        squares of 1 to 2 µm, so that its bands and its rest sum to the area of its polygon. Empty without a margin.
    """
    outline = tumour_outline(regions, scanned)
    if outline.is_empty:
        return {}
    step = _square_side(scanned, bands)
    counted = [part for part in parts if part.polygon_um.area > 0]
    squares, margin_seen = np.zeros((len(counted) + 1, 2 * bands.per_side + 1), dtype=np.int64), False
    parts_edges = Edges.of([part.polygon_um for part in counted], range(1, len(counted) + 1))
    edges = (parts_edges, Edges.of([outline], [1]), Edges.of([scanned], [1]))
    for window in _tiles(scanned, step, tile):
        found = _squares_by_band(edges, scanned, bands, step, window)
        if found is not None:
            squares += found[0]
            margin_seen |= found[1]
    if not margin_seen:
        return {}
    areas: dict[tuple[str, str, int], float] = {}
    for part, shares in zip(counted, squares[1:]):
        areas |= _shared_out(part, shares, regions, scanned, bands)
    return areas


def _square_side(scanned: shapely.Geometry, bands: Bands) -> float:
    """Return a side that divides the bands' width, so that no band has a row of squares too many."""
    finest, coarsest = SQUARE_UM
    side = min(max(finest, math.sqrt(scanned.area / MOST_FINE_SQUARES)), coarsest)
    return bands.width_um / max(10, math.ceil(bands.width_um / side))


def _tiles(scanned: shapely.Geometry, step: float, tile: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows (y0, y1, x0, x1) of squares that cover what was scanned."""
    x0, y0, x1, y1 = (edge / step for edge in scanned.bounds)
    for top in range(math.floor(y0), math.ceil(y1), tile):
        for left in range(math.floor(x0), math.ceil(x1), tile):
            yield top, min(top + tile, math.ceil(y1)), left, min(left + tile, math.ceil(x1))


def _squares_by_band(
    edges: tuple[Edges, Edges, Edges],
    scanned: shapely.Geometry,
    bands: Bands,
    step: float,
    window: tuple[int, int, int, int],
) -> tuple[np.ndarray, bool] | None:
    """Count a window's squares by part (0 = none) and band (the last = beyond), and say whether a margin is near.

    `edges` are those of the parts, of the tumour and of what was scanned.
    """
    halo = math.ceil(bands.to_um / step) + 2
    x0, y0, x1, y1 = (edge / step for edge in scanned.bounds)
    first = max(window[0] - halo, math.floor(y0)), max(window[2] - halo, math.floor(x0))
    last = min(window[1] + halo, math.ceil(y1)), min(window[3] + halo, math.ceil(x1))
    shape = (last[0] - first[0], last[1] - first[1])
    inner = (
        slice(window[0] - first[0], window[1] - first[0]),
        slice(window[2] - first[1], window[3] - first[1]),
    )

    of_parts, of_tumour, of_scan = (one.between(first[0] * step, last[0] * step) for one in edges)

    def painted(outlines: Edges) -> np.ndarray:
        return outlines.paint(shape, (step, step), first)

    part = painted(of_parts)[inner]
    if not part.any():
        return None
    tumour = painted(of_tumour) > 0
    around = (painted(of_scan) > 0) & ~tumour
    beside = (tumour & ndimage.binary_dilation(around)) | (around & ndimage.binary_dilation(tumour))
    away = np.full(part.shape, np.inf)
    if beside.any():  # the margin runs between two squares: half a step from the centre of either
        away = (ndimage.distance_transform_edt(~beside)[inner] + 0.5) * step
    band = bands.of(np.where(tumour[inner], -away, away))
    place = np.where(band == NO_BAND, 2 * bands.per_side, band + bands.per_side)
    columns = 2 * bands.per_side + 1
    counts = np.bincount(
        (part.astype(np.int64) * columns + place).ravel(), minlength=(len(edges[0].values) + 1) * columns
    )
    return counts.reshape(-1, columns), bool(beside.any())


def _shared_out(
    part: Region, squares: np.ndarray, regions: Sequence[Region], scanned: shapely.Geometry, bands: Bands
) -> dict[tuple[str, str, int], float]:
    """Share a part's area out by its squares; one that is too small to have any lies where its middle does."""
    total = int(squares.sum())
    if not total:
        middle = part.polygon_um.representative_point()
        (band,) = bands.of(distance_to_margin([middle.x], [middle.y], regions, scanned=scanned)).tolist()
        return {(part.name, part.tissue_class, band): part.area_mm2}
    numbers = [*range(-bands.per_side, bands.per_side), NO_BAND]
    return {
        (part.name, part.tissue_class, band): part.area_mm2 * int(count) / total
        for band, count in zip(numbers, squares)
        if count
    }


def in_bands(
    place: np.ndarray, places: Sequence[tuple[str, str]], distance_um: pd.Series, bands: Bands
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """What `counted_places` says of cells, with the region followed by the band, as `banded_name` writes it.

    A cell that is in no band is counted nowhere.
    """
    band = bands.of(distance_um.to_numpy(dtype=np.float64, na_value=np.nan))
    near, across = (place >= 0) & (band != NO_BAND), 2 * bands.per_side
    code = np.where(near, place * across + np.where(near, band, 0) + bands.per_side, -1)
    code, present = numbered(code, len(places) * across)
    named = [(*places[both // across], both % across - bands.per_side) for both in present]
    return code, [(banded_name(region, number), tissue_class) for region, tissue_class, number in named]


def banded_name(region: str, band: int) -> str:
    """A region's name and a band as one text."""
    return f"{region}\x1f{band}"


def split_name(name: str) -> tuple[str, int]:
    """The region and the band of a `banded_name`."""
    region, _, band = name.rpartition("\x1f")
    return region, int(band)
