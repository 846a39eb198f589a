"""Rows that stand from the last run: where neither a marker's values nor anything clinical changed, tests are kept.

A test is a function of one marker's column, the clinical columns and the settings; one between groups of a marker, of
who is in which group. p_adjusted is of a whole family, and is made anew always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from mihc.associations.columns import Marker, marker_columns
from mihc.associations.groupings import Grouping
from mihc.associations.rows import COLUMNS, Row

BETWEEN_NOTES = "; "
CLINICAL = ""  # under which the fingerprint of all that is no marker stands


def fingerprints(patients: pd.DataFrame) -> dict[str, str]:
    """Hash every marker's column of the study table, and under CLINICAL all the others with their order.

    The ends of markers' intervals, which no test reads, are in neither.
    """
    markers = {marker.column for marker in marker_columns(patients)}
    ends = {f"{marker}_{end}" for marker in markers for end in ("low", "high")}
    rest = patients.drop(columns=[name for name in patients if name in markers or name in ends])
    found = {CLINICAL: _hash("\n".join(f"{name}\t{rest[name].tolist()!r}" for name in rest).encode())}
    return found | {name: _hash(patients[name].to_numpy(np.float64).tobytes()) for name in patients if name in markers}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


Groups = dict[str, tuple[str, str]]  # endpoint, column and split -> a hash of who is in which group; how they were cut


@dataclass(frozen=True)
class Kept:
    """The rows of an earlier table that stand, by marker."""

    unchanged: frozenset[str] = frozenset()  # columns of the study table
    rows: Mapping[tuple[str, str, str, str], list[Row]] = field(default_factory=dict)  # endpoint, or "" between groups
    before: Groups = field(default_factory=dict)  # of the earlier table
    groups: Groups = field(default_factory=dict)  # of this one, as far as they were asked for

    def survival(self, endpoint: str, marker: Marker) -> list[Row] | None:
        """The rows of a marker against an endpoint; None where they are to be made."""
        found = self._of(endpoint, marker)
        if found is not None:
            mine = f"{endpoint}\t{marker.column}\t"
            self.groups.update({name: mark for name, mark in self.before.items() if name.startswith(mine)})
        return found

    def between_groups(self, marker: Marker) -> list[Row] | None:
        """The rows of a marker between groups of patients; None where they are to be made."""
        return self._of("", marker)

    def by_groups(self, endpoint: str, marker: Marker, grouping: Grouping) -> list[Row] | None:
        """The rows of survival by a marker's groups, where they are of the same patients, be they cut elsewhere."""
        name = f"{endpoint}\t{marker.column}\t{grouping.split}"
        mark, cut = _hash("\n".join(grouping.labels).encode()), grouping.note
        self.groups[name] = mark, cut
        known, former = self.before.get(name, ("", ""))
        if known != mark or (former != cut and BETWEEN_NOTES in former + cut):
            return None
        found = self.rows.get((endpoint, marker.population, marker.tissue_class, marker.measure), [])
        return [row | {"note": _with_cut(row["note"], former, cut)} for row in found if row["split"] == grouping.split]

    def _of(self, endpoint: str, marker: Marker) -> list[Row] | None:
        if marker.column not in self.unchanged:
            return None
        return self.rows.get((endpoint, marker.population, marker.tissue_class, marker.measure), [])


def _with_cut(note: str, former: str, cut: str) -> str:
    """A row's note, which names how the groups were cut among other things."""
    return BETWEEN_NOTES.join(cut if part == former else part for part in note.split(BETWEEN_NOTES))


def kept_rows(
    before: Mapping[str, str], statistics: pd.DataFrame, now: Mapping[str, str], groups: Mapping = MappingProxyType({})
) -> Kept:
    """What stands of an earlier statistics.csv.

    Parameters
    ----------
    before, now
        `fingerprints` of the study table that it was made of, and of this one.
    statistics
        The earlier table, by the same settings and code.
    groups
        The `groups` of what it was made with.
    """
    if before.get(CLINICAL) != now[CLINICAL]:
        return Kept()
    unchanged = frozenset(name for name, mark in now.items() if name != CLINICAL and before.get(name) == mark)
    rows: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in statistics[list(COLUMNS)].to_dict("records"):
        of_marker = row["split"] == "continuous" or row["split"].startswith("marker:")
        key = (row["endpoint"] if of_marker else "", row["population"], row["tissue_class"], row["measure"])
        rows.setdefault(key, []).append(row)
    return Kept(unchanged, rows, {name: tuple(mark) for name, mark in groups.items()})
