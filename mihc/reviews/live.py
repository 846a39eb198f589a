"""Counts that follow a threshold while it is dragged: sorted once, then looked up.

A marker's values are sorted once per region; the positives of a threshold are those from its place in the order on. A
phenotype is evaluated by its expression, on booleans, as the flow does it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mihc.phenotypes import Expression, parse_expression
from mihc.positives import Threshold, marker_values
from mihc.regions import ANALYSED

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("region", "tissue_class", "population", "cells", "positive_cells", "positivity_percent", "density_per_mm2")


class LiveCounts:
    """One slide's cells, ready to be counted by other thresholds."""

    def __init__(
        self,
        cells: pd.DataFrame,
        thresholds: Mapping[str, Threshold],
        *,
        compartments: Mapping[str, str],
        phenotypes: Mapping[str, str],
        area_mm2: Mapping[tuple[str, str], float],
    ) -> None:
        """Take the cells of a slide.

        Parameters
        ----------
        cells
            The cells table with `region`, `tissue_class` and the markers' values; cells of no analysed class are left
            out.
        thresholds
            marker -> its threshold now.
        compartments
            marker -> "nucleus", "cytoplasm" or "cell".
        phenotypes
            name -> expression, of those that the slide can show.
        area_mm2
            (region, tissue class) -> area; every region of an analysed class.
        """
        import pandas as pd

        analysed = cells["tissue_class"].isin(ANALYSED).to_numpy()
        self.rows = np.flatnonzero(analysed)  # of the table, for those who look cells up
        cells = cells[analysed]
        keys = pd.MultiIndex.from_tuples(area_mm2, names=["region", "tissue_class"])
        self.regions: list[tuple[str, str]] = list(area_mm2)
        self._areas = np.array(list(area_mm2.values()), float)
        self._code = keys.get_indexer(pd.MultiIndex.from_frame(cells[["region", "tissue_class"]].astype(object)))
        self._cells = np.bincount(self._code[self._code >= 0], minlength=len(keys))
        self.values = {one: marker_values(cells, one, compartments[one]) for one in thresholds}
        self.thresholds = dict(thresholds)
        markers = list(thresholds)
        self.expressions: dict[str, Expression] = {
            name: parse_expression(text, markers, name=name, phenotypes=phenotypes) for name, text in phenotypes.items()
        }
        self._sorted: dict[str, list[np.ndarray]] = {}

    def set(self, marker: str, threshold: Threshold) -> None:
        """Count by another threshold from now on."""
        self.thresholds[marker] = threshold

    def marker_counts(self, marker: str) -> np.ndarray:
        """(regions,) positive cells of a marker; NaN where it cannot be told."""
        threshold = self.thresholds[marker]
        if threshold.verdict == "cannot tell":
            return np.full(len(self.regions), math.nan)
        if threshold.verdict == "negative slide":
            return np.zeros(len(self.regions))
        ordered = self._ordered(marker)
        return np.array([len(one) - np.searchsorted(one, threshold.value, "left") for one in ordered], float)

    def phenotype_counts(self, name: str) -> np.ndarray:
        """(regions,) positive cells of a phenotype; NaN where any cell of the region cannot be told."""
        calls = self.expressions[name].evaluate(self._positive(name), self._levels(name))
        yes, unknown = calls.to_numpy(bool, na_value=False), calls.isna()
        inside = self._code >= 0
        counts = np.bincount(self._code[yes & inside], minlength=len(self.regions)).astype(float)
        if unknown.all():
            counts[:] = math.nan
        elif unknown.any():
            counts[np.bincount(self._code[unknown & inside], minlength=len(self.regions)) > 0] = math.nan
        return counts

    def table(self, populations: Sequence[str] | None = None) -> pd.DataFrame:
        """Counts, positivity (%) and density (cells/mm²) per region: columns COLUMNS.

        `populations` are markers and phenotypes; None: all.
        """
        import pandas as pd

        wanted = [*self.values, *self.expressions] if populations is None else populations
        parts = []
        for name in wanted:
            positive = self.marker_counts(name) if name in self.values else self.phenotype_counts(name)
            with np.errstate(divide="ignore", invalid="ignore"):
                percent = np.where(self._cells > 0, 100 * positive / self._cells, math.nan)
                density = np.where(self._areas > 0, positive / self._areas, math.nan)
            regions, classes = zip(*self.regions) if self.regions else ((), ())
            columns = (regions, classes, name, self._cells, positive, percent, density)
            parts.append(pd.DataFrame(dict(zip(COLUMNS, columns))))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))

    def touched(self, marker: str) -> list[str]:
        """The populations that a marker's threshold decides: itself and the phenotypes that name it."""
        return [marker, *(name for name, one in self.expressions.items() if marker in one.markers)]

    def nearest(self, marker: str, value: float, count: int = 24) -> np.ndarray:
        """Rows of the table of the cells whose values lie nearest to a threshold, half below and half from it on."""
        ordered, values = self._order[marker], self.values[marker]
        known = ordered[: len(ordered) - np.count_nonzero(np.isnan(values))]
        place = int(np.searchsorted(values[known], value, "left"))
        half = count // 2
        return self.rows[known[max(place - half, 0) : place + half]]

    def positive_rows(self, population: str) -> np.ndarray:
        """Rows of the table of the cells that are positive."""
        if population in self.values:
            calls = self._called(population)
        else:
            calls = self.expressions[population].evaluate(self._positive(population), self._levels(population))
        return self.rows[calls.to_numpy(bool, na_value=False)]

    @cached_property
    def _order(self) -> dict[str, np.ndarray]:
        return {marker: np.argsort(values, kind="stable") for marker, values in self.values.items()}

    def _ordered(self, marker: str) -> list[np.ndarray]:
        """The marker's values in each region, rising; NaN is left out, since such a cell is never positive."""
        if marker not in self._sorted:
            values = self.values[marker]
            known = ~np.isnan(values)
            self._sorted[marker] = [np.sort(values[known & (self._code == k)]) for k in range(len(self.regions))]
        return self._sorted[marker]

    def _called(self, marker: str) -> pd.arrays.BooleanArray:
        import pandas as pd

        threshold, values = self.thresholds[marker], self.values[marker]
        none = np.zeros(len(values), bool)
        if threshold.verdict == "negative slide":
            return pd.arrays.BooleanArray(none, none.copy())
        return pd.arrays.BooleanArray(
            values >= threshold.value, np.full(len(values), threshold.verdict == "cannot tell")
        )

    def _positive(self, name: str) -> dict:
        return {marker: self._called(marker) for marker in self.expressions[name].markers}

    def _levels(self, name: str) -> dict:
        """Levels of the markers that the expression asks for at more than weak."""
        import pandas as pd

        found = {}
        for marker in self.expressions[name].markers:
            threshold = self.thresholds[marker]
            if threshold.levels:
                cuts = (threshold.value, *threshold.levels)
                reached = sum((self.values[marker] >= cut).astype(np.uint8) for cut in cuts)
                unknown = np.full(len(reached), threshold.verdict == "cannot tell")
                found[marker] = pd.arrays.IntegerArray(reached, unknown)
        return found
