"""The cells of one slide and marker as a histogram that is fine near the negative peak and coarse far above it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

STEP = 0.06  # width of a bin in arcsinh(X / LINEAR): about a fifth of the negatives' SD near their peak
LINEAR = 3.0  # X up to which bins are about equally wide; then their width grows with X
LOWEST = -1.0  # X of the lower edge: what lies below falls into the first bin
DEAD = -2.0  # X below which cells have no background either, on a slide that has one: they are left out
MOST_BINS = 300
MOST_COUNTED = 1_000_000  # more cells count as so many: no formula is exact enough for what more would say
# No formula gives the share of cells in a bin more exactly than this, however many cells there are. The first is what
# descriptions are weighed against each other with; a best one that misses by more than the second is none.
FORMULA_ERROR, COARSE_ERROR = 0.01, 0.03
NORMAL_GAPS = (0.93, 0.97)  # SDs between the 0.5 %, 5 % and 25 % points of a normal distribution


@dataclass(frozen=True)
class Histogram:
    """Counts of cells in bins of X = (value - origin) / unit; the first and last bin are open."""

    counts: np.ndarray  # (bins,) float64; fractions where cells are more than MOST_COUNTED
    z: np.ndarray  # (bins + 1,) edges in arcsinh(X / LINEAR)
    origin: float  # counts: about 2.6 SDs below the negative peak
    unit: float  # counts: about the SD of the negatives, from the lowest quarter of the cells

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """Count `values` (cells,), finite and not all equal, but for the dead. Their order does not matter."""
        ranks = [int(share * (values.size - 1)) for share in (0.005, 0.05, 0.25)]
        part = np.partition(values, ranks)
        lowest, low, quarter = (float(part[rank]) for rank in ranks)
        span = float(values.max()) - float(values.min())
        unit = max(min((low - lowest) / NORMAL_GAPS[0], (quarter - low) / NORMAL_GAPS[1]), span * 1e-4)
        origin = low - unit
        places = (values - origin) / unit
        z = np.arcsinh(np.maximum(places[places > DEAD], LOWEST) / LINEAR)
        first = math.asinh(LOWEST / LINEAR)
        bins = min(int((float(z.max()) - first) / STEP) + 1, MOST_BINS)
        places = np.minimum(((z - first) / STEP).astype(np.int64), bins - 1)
        counts = np.bincount(places, minlength=bins) * min(1.0, MOST_COUNTED / places.size)
        return cls(counts, first + STEP * np.arange(bins + 1), origin, unit)

    @cached_property
    def weights(self) -> np.ndarray:
        """(bins,) how much a bin says: 1 for few cells, less where FORMULA_ERROR exceeds chance."""
        return self._weights(FORMULA_ERROR)

    @cached_property
    def coarse_weights(self) -> np.ndarray:
        """(bins,) the same with COARSE_ERROR."""
        return self._weights(COARSE_ERROR)

    def _weights(self, error: float) -> np.ndarray:
        around = np.pad(self.counts, 1)
        return 1 / (1 + error**2 * (around[:-2] / 4 + around[1:-1] / 2 + around[2:] / 4))

    @property
    def cells(self) -> int:
        """Number of cells, at most MOST_COUNTED."""
        return round(self.counts.sum())

    @property
    def edges(self) -> np.ndarray:
        """(bins - 1,) X at the edges between bins."""
        return LINEAR * np.sinh(self.z[1:-1])

    @property
    def centres(self) -> np.ndarray:
        """(bins,) X in the middle of each bin."""
        return LINEAR * np.sinh((self.z[:-1] + self.z[1:]) / 2)

    @property
    def cumulated(self) -> tuple[np.ndarray, np.ndarray]:
        """z of the edges (bins + 1,) and the share of the cells below each."""
        return self.z, np.concatenate([[0.0], np.cumsum(self.counts)]) / self.counts.sum()

    def cut(self, share: float) -> float:
        """z above which this share of the cells lies; within a bin the cells are taken as evenly spread."""
        below = np.concatenate([[0.0], np.cumsum(self.counts)])
        wanted = (1 - min(max(share, 0.0), 1.0)) * below[-1]
        at = min(max(int(np.searchsorted(below, wanted)), 1), len(self.counts))
        inside = below[at] - below[at - 1]
        part = (wanted - below[at - 1]) / inside if inside else 0.5
        return float(self.z[at - 1] + (self.z[at] - self.z[at - 1]) * part)

    def value(self, z: float) -> float:
        """Counts at z."""
        return self.origin + self.unit * (LINEAR * math.sinh(z))
