"""Patients in groups: by an endpoint's times, by response, by a clinical column, or by a marker's value.

The statistics and the figures both take their groups from here, so that a box plot shows what was tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mihc import statistics
from mihc.associations.columns import Endpoint, clinical, endpoint, label_text, sorted_levels
from mihc.errors import ClinicalError

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

MOST_LEVELS = 10
MARKER_SPLITS = ("median", "tertiles", "given", "maxstat")
OPTIMISM = "these data chose the cut: expect less in other patients"


@dataclass(frozen=True, eq=False)
class Grouping:
    """Patients in groups, and how they got there."""

    split: str  # "outcome:slope_change" | "outcome:landmark:12" | "response" | "group:<column>" | "marker:median" ...
    endpoint: str  # the endpoint or response whose values made the groups; "" for a clinical column or a marker
    labels: pd.Series  # one per patient; "" = in no group, "unknown" = censored before a landmark
    levels: tuple[str, ...]  # the groups that are compared, the reference last
    exploratory: bool = False  # the data chose the cut
    note: str = ""
    time: float = nan  # the landmark
    columns: frozenset[str] = frozenset()  # the clinical columns that made the groups

    def members(self, level: str) -> np.ndarray:
        """Which patients are in the group `level`, as booleans."""
        return (self.labels == level).to_numpy()

    @property
    def possible(self) -> bool:
        """Whether at least two groups have a patient."""
        return sum(bool(self.members(level).any()) for level in self.levels) > 1

    @property
    def term(self) -> str:
        """How the comparison is named: "high vs low", or all groups from the reference on."""
        return " vs ".join(self.levels) if len(self.levels) == 2 else ", ".join(reversed(self.levels))


def outcome_groups(patients: pd.DataFrame, settings: Settings, endpoint_name: str) -> dict[str, pd.Series]:
    """The groups that `settings.splits.outcome` makes of one endpoint's times.

    Returns
    -------
    dict : split as written in study.toml -> labels "high" | "low" | "unknown" (censored before the landmark) | ""
        (no follow-up), with the index of `patients`. Empty if the only split is "none". A split that cannot be made
        (no slope change) has "" for everybody.
    """
    found = endpoint(patients, settings, endpoint_name)
    return {
        split: outcome_grouping(patients, found, split).labels for split in settings.splits.outcome if split != "none"
    }


def outcome_grouping(patients: pd.DataFrame, found: Endpoint, split: str) -> Grouping:
    """One split of one endpoint's times: "slope_change", "median" or "landmark:<time in its unit>"."""
    kind, _, written = split.partition(":")
    if kind == "landmark":
        made = statistics.landmark_split(found.time, found.event, _landmark(split, written))
        note = f"{made.n_unknown} censored by then left out" if made.n_unknown else ""
    elif kind == "slope_change":
        made = statistics.slope_change_split(found.time, found.event)
        note = "; ".join(part for part in (_cut_note(made, found.unit), OPTIMISM if made.cuts else "") if part)
    elif kind == "median":
        made = statistics.median_time_split(found.time, found.event)
        note = _cut_note(made, found.unit)
    else:
        raise ClinicalError(
            f"unknown outcome split {split!r}", place="study.toml [splits] outcome",
            fix="Use slope_change, landmark:<time>, median or none.",
        )  # fmt: skip
    return Grouping(
        f"outcome:{split}", found.name, pd.Series(made.labels, index=patients.index, dtype=object), ("high", "low"),
        exploratory=kind != "landmark", note="; ".join(part for part in (made.note, note) if part),
        time=made.cut if kind == "landmark" else nan, columns=found.columns,
    )  # fmt: skip


def _landmark(split: str, written: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise ClinicalError(
            f"{split!r} names no time", place="study.toml [splits] outcome", fix='Write for example "landmark:12".'
        ) from None


def _cut_note(made: statistics.Split, unit: str) -> str:
    if not made.cuts:
        return ""
    censored = f"; {made.n_censored_low} censored patients counted as low" if made.n_censored_low else ""
    return f"cut at {made.cut:g} {unit}{censored}"


def response_grouping(patients: pd.DataFrame, settings: Settings, name: str) -> Grouping:
    """Responders against everybody else with a value in the response's column (NE too)."""
    response = settings.responses[name]
    values = [label_text(value) for value in clinical(patients, response.column)]
    answers = {label_text(value) for value in response.responders}
    labels = ["" if not value else "responder" if value in answers else "non-responder" for value in values]
    return Grouping(
        "response", name, pd.Series(labels, index=patients.index, dtype=object), ("responder", "non-responder"),
        columns=frozenset({response.column}),
    )  # fmt: skip


def column_grouping(patients: pd.DataFrame, column: str) -> Grouping:
    """The levels of a clinical column; the first in sorted order is the reference."""
    labels = [label_text(value) for value in clinical(patients, column)]
    levels, note = sorted_levels(labels), ""
    if len(levels) > MOST_LEVELS:
        note, labels, levels = f"{len(levels)} levels are too many to compare", [""] * len(labels), []
    return Grouping(
        f"group:{column}", "", pd.Series(labels, index=patients.index, dtype=object), tuple(reversed(levels)),
        note=note or ("" if len(levels) > 1 else "fewer than two groups"), columns=frozenset({column}),
    )  # fmt: skip


def patient_groupings(patients: pd.DataFrame, settings: Settings) -> list[Grouping]:
    """Every grouping that markers are compared between: outcome splits, responses, clinical columns."""
    by_time = [
        outcome_grouping(patients, endpoint(patients, settings, name), split)
        for split in settings.splits.outcome
        if split != "none"
        for name in settings.outcomes
    ]
    by_response = [response_grouping(patients, settings, name) for name in settings.responses]
    return by_time + by_response + [column_grouping(patients, column) for column in settings.groups]


def marker_groups(
    values: pd.Series,
    split: str,
    given: Mapping[str, float] | float | None = None,
    *,
    time: ArrayLike | None = None,
    event: ArrayLike | None = None,
) -> pd.Series:
    """Patients grouped by a marker's value.

    Parameters
    ----------
    values : one per patient, NaN = not measured; its name is the column of the study table.
    split : "median", "tertiles", "given" or "maxstat".
    given : the clinical cut-off, or `settings.splits.given`, from which the column's own is taken.
    time, event : follow-up, for "maxstat" only.

    Returns
    -------
    Series : "high" | "middle" (tertiles) | "low" | "" (no value, or no cut), with the index of `values`.
    """
    return marker_grouping(values, split, given, time=time, event=event).labels


def marker_grouping(
    values: pd.Series,
    split: str,
    given: Mapping[str, float] | float | None = None,
    *,
    time: ArrayLike | None = None,
    event: ArrayLike | None = None,
    selected: statistics.MaxSelected | None = None,
) -> Grouping:
    """As `marker_groups`, with the cut in the note; `selected` saves searching the best cut again."""
    numbers = values.astype(float).to_numpy()
    if split == "median":
        made = statistics.median_split(numbers)
    elif split == "tertiles":
        made = statistics.tertile_split(numbers)
    elif split == "given":
        made = statistics.given_split(numbers, _given_cut(given, str(values.name)))
    elif split == "maxstat":
        selected = selected or _selected(numbers, time, event)
        made = statistics.cut_split(numbers, selected.estimate) if selected.n_low else None
    else:
        raise ClinicalError(
            f"unknown marker split {split!r}", place="study.toml [splits] marker",
            fix=f"Use one or several of {', '.join(MARKER_SPLITS)}.",
        )  # fmt: skip
    labels = made.labels if made else np.full(len(numbers), "", dtype=object)
    return Grouping(
        f"marker:{split}", "", pd.Series(labels, index=values.index, dtype=object),
        ("high", "middle", "low") if split == "tertiles" else ("high", "low"),
        exploratory=split == "maxstat", note=_marker_note(made, selected),
    )  # fmt: skip


def _marker_note(made: statistics.Split | None, selected: statistics.MaxSelected | None) -> str:
    if made is None:
        return selected.note if selected else ""
    chosen = f"; {OPTIMISM}" if selected else ""
    return made.note or f"cut at {' and '.join(f'{cut:g}' for cut in made.cuts)}{chosen}"


def _given_cut(given: Mapping[str, float] | float | None, column: str) -> float:
    if isinstance(given, Mapping):
        given = given.get(column)
    if given is None:
        raise ClinicalError(
            f"no cut-off is given for {column}", place="study.toml [splits]", fix=f'Add given = {{ "{column}" = ... }}.'
        )
    return float(given)


def _selected(values: np.ndarray, time: ArrayLike | None, event: ArrayLike | None) -> statistics.MaxSelected:
    if time is None or event is None:
        raise ClinicalError("the best cut by survival needs time and event")
    return statistics.max_selected(time, event, values)
