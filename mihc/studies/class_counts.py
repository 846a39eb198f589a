"""What a slide, or several pooled, have of a population in a tissue class: cells, positive cells, area and levels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mihc.studies.pdl1 import ENDS, POSITIVE_IMMUNE_CELLS, POSITIVE_TUMOUR_CELLS

ALL = "all"  # tumour + stroma + other


@dataclass(frozen=True)
class Counts:
    """What one slide, or several pooled, have of a population in a tissue class."""

    positive_cells: float  # NaN: the slide cannot tell
    cells: float
    area_mm2: float  # NaN: unknown, as in a table of cells
    positive_low: float = math.nan  # positive cells at the low end of their interval; NaN: no interval
    positive_high: float = math.nan  # at the high end
    summed_levels: float = 0.0  # 1 for each weak cell, 2 for a moderate, 3 for a strong one; NaN: no levels are known

    @property
    def density_per_mm2(self) -> float:
        """positive_cells / area_mm2, NaN without area."""
        return self.positive_cells / self.area_mm2 if self.area_mm2 > 0 else np.nan

    @property
    def positivity_percent(self) -> float:
        """100 x positive_cells / cells, NaN without cells."""
        return 100 * self.positive_cells / self.cells if self.cells > 0 else np.nan

    @property
    def h_score(self) -> float:
        """100 x summed_levels / cells, NaN without cells."""
        return 100 * self.summed_levels / self.cells if self.cells > 0 else np.nan

    def ends(self, measure: str) -> dict[str, float]:
        """A measure of positive cells, and its interval as `_low` and `_high`, NaN where there is none."""
        counts = {"": self.positive_cells, "_low": self.positive_low, "_high": self.positive_high}
        return {
            f"{measure}{end}": getattr(Counts(positive, self.cells, self.area_mm2), measure)
            for end, positive in counts.items()
        }


NOTHING = Counts(0.0, 0.0, 0.0)
UNKNOWN = Counts(math.nan, math.nan, math.nan)


def count_by_class(regions: pd.DataFrame) -> dict[tuple[str, str, str], Counts]:
    """Sum the regions of a class on a slide, and of all classes."""
    parts = defaultdict(list)
    names = ("slide", "population", "tissue_class")
    columns = ("positive_cells", "cells", "area_mm2", "positive_cells_low", "positive_cells_high")
    numbers = [
        regions[name].to_numpy(dtype=np.float64, na_value=np.nan) if name in regions else np.full(len(regions), np.nan)
        for name in columns
    ]
    numbers.append(_summed_levels(regions))
    for slide, population, tissue_class, *counts in zip(*(regions[name] for name in names), *numbers):
        parts[slide, population, tissue_class].append(Counts(*counts))
        parts[slide, population, ALL].append(Counts(*counts))
    return {key: summed(counts) for key, counts in parts.items()}


def with_ends(scored: dict[tuple[str, str, str], Counts]) -> dict[tuple[str, str, str], Counts]:
    """The counts of TPS and CPS; of a slide without an interval the ends are its counts themselves."""
    plain = {
        (slide, f"{name}|{end}", tissue_class): counts
        for (slide, name, tissue_class), counts in scored.items()
        if name in (POSITIVE_TUMOUR_CELLS, POSITIVE_IMMUNE_CELLS)
        for end in ENDS
    }
    return plain | scored


def _summed_levels(regions: pd.DataFrame) -> np.ndarray:
    """The whole number that an H-score is 100 x of, over cells; 0 in a region without cells."""
    cells = regions["cells"].to_numpy(dtype=np.float64, na_value=np.nan)
    if "h_score" not in regions:
        return np.full(len(regions), np.nan)
    scores = regions["h_score"].to_numpy(dtype=np.float64, na_value=np.nan)
    levelled = regions["population"].isin(with_levels(regions)).to_numpy(dtype=bool)
    return np.where(levelled & (cells == 0), 0.0, np.rint(scores * cells / 100))


def with_levels(regions: pd.DataFrame) -> frozenset[str]:
    """The populations that have levels in any region."""
    if "h_score" not in regions:
        return frozenset()
    return frozenset(regions.loc[regions["h_score"].notna(), "population"])


def summed(counts: Iterable[Counts]) -> Counts:
    """Sums that no order of the rows changes (math.fsum rounds once); an interval where any part has one."""
    listed = list(counts)
    bounded = any(not math.isnan(part.positive_low) for part in listed)
    return Counts(
        math.fsum(part.positive_cells for part in listed),
        math.fsum(part.cells for part in listed),
        math.fsum(part.area_mm2 for part in listed),
        math.fsum(_end(part, part.positive_low) for part in listed) if bounded else math.nan,
        math.fsum(_end(part, part.positive_high) for part in listed) if bounded else math.nan,
        math.fsum(part.summed_levels for part in listed),
    )


def _end(part: Counts, end: float) -> float:
    return part.positive_cells if math.isnan(end) else end
