"""The groups of patients behind a row of statistics.csv.

They come from where the test took them, so that a plot shows what was tested.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from mihc.associate import Grouping, column_grouping, endpoint, marker_columns, marker_grouping, patient_groupings
from mihc.reports.numbers import text
from mihc.statistics import max_selected
from mihc.study import Settings

MaskedGroups = dict[str, np.ndarray]  # label -> (n,) bool over the patients


class PatientGroups:
    """Every grouping of a study's patients, found by a row of statistics.csv."""

    def __init__(self, patients: pd.DataFrame, settings: Settings):
        self.patients, self.settings = patients, settings

    @cached_property
    def _made(self) -> dict[tuple[str, str], Grouping]:
        return {(made.split, made.endpoint): made for made in patient_groupings(self.patients, self.settings)}

    @cached_property
    def _columns(self) -> dict[tuple[str, str, str], str]:
        found = marker_columns(self.patients)
        return {(marker.population, marker.tissue_class, marker.measure): marker.column for marker in found}

    def column(self, row: pd.Series) -> str:
        """The column of patients.csv that a row is about, "" where it is about none."""
        return self._columns.get((text(row["population"]), text(row["tissue_class"]), text(row["measure"])), "")

    def values(self, row: pd.Series) -> np.ndarray:
        """That column's values, one per patient."""
        return self.patients[self.column(row)].astype(float).to_numpy()

    def masks(self, row: pd.Series) -> MaskedGroups:
        """The groups that a row compared, the reference first; empty where it compared none."""
        grouping = self._grouping(row)
        if grouping is None:
            return {}
        found = {level: grouping.members(level) for level in reversed(grouping.levels)}
        return {level: mask for level, mask in found.items() if mask.any()}

    def _grouping(self, row: pd.Series) -> Grouping | None:
        split = text(row["split"])
        if split.startswith("marker:") and self.column(row):
            return self._by_marker(row, split.removeprefix("marker:"))
        if split.startswith("group:"):
            return self._made.get((split, "")) or column_grouping(self.patients, split.removeprefix("group:"))
        return self._made.get((split, text(row["endpoint"])))

    def _by_marker(self, row: pd.Series, split: str) -> Grouping:
        found = endpoint(self.patients, self.settings, text(row["endpoint"]))
        followed = ~np.isnan(found.time) & ~np.isnan(found.event)
        values = self.patients[self.column(row)].astype(float)
        if split == "maxstat":
            selected = max_selected(found.time, found.event, values, permutations=1)  # the cut, not its p
            return marker_grouping(values, split, time=found.time, event=found.event, selected=selected)
        return marker_grouping(values.where(followed), split, self.settings.splits.given)
