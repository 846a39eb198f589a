"""Rows that stand from the last run: where neither a marker's values nor anything clinical changed, tests are kept.

A test is a function of one marker's column, the clinical columns and the settings. p_adjusted is of a whole family, and
is made anew always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mihc.associations.columns import Marker, marker_columns
from mihc.associations.rows import COLUMNS, Row

CLINICAL = ""  # under which the fingerprint of all that is no marker stands


def fingerprints(patients: pd.DataFrame) -> dict[str, str]:
    """Hash every marker's column of the study table, and under CLINICAL all the others with their order."""
    markers = {marker.column for marker in marker_columns(patients)}
    rest = patients.drop(columns=[*markers])
    found = {CLINICAL: _hash("\n".join(f"{name}\t{rest[name].tolist()!r}" for name in rest).encode())}
    return found | {name: _hash(patients[name].to_numpy(np.float64).tobytes()) for name in patients if name in markers}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


@dataclass(frozen=True)
class Kept:
    """The rows of an earlier table that stand, by marker."""

    unchanged: frozenset[str] = frozenset()  # columns of the study table
    rows: Mapping[tuple[str, str, str, str], list[Row]] = field(default_factory=dict)  # endpoint, or "" between groups

    def survival(self, endpoint: str, marker: Marker) -> list[Row] | None:
        """The rows of a marker against an endpoint; None where they are to be made."""
        return self._of(endpoint, marker)

    def between_groups(self, marker: Marker) -> list[Row] | None:
        """The rows of a marker between groups of patients; None where they are to be made."""
        return self._of("", marker)

    def _of(self, endpoint: str, marker: Marker) -> list[Row] | None:
        if marker.column not in self.unchanged:
            return None
        return self.rows.get((endpoint, marker.population, marker.tissue_class, marker.measure), [])


def kept_rows(before: Mapping[str, str], statistics: pd.DataFrame, now: Mapping[str, str]) -> Kept:
    """What stands of an earlier statistics.csv.

    Parameters
    ----------
    before, now
        `fingerprints` of the study table that it was made of, and of this one.
    statistics
        The earlier table, by the same settings and code.
    """
    if before.get(CLINICAL) != now[CLINICAL]:
        return Kept()
    unchanged = frozenset(name for name, mark in now.items() if name != CLINICAL and before.get(name) == mark)
    rows: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in statistics[list(COLUMNS)].to_dict("records"):
        of_marker = row["split"] == "continuous" or row["split"].startswith("marker:")
        key = (row["endpoint"] if of_marker else "", row["population"], row["tissue_class"], row["measure"])
        rows.setdefault(key, []).append(row)
    return Kept(unchanged, rows)
