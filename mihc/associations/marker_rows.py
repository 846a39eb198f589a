"""Markers: compared between groups of patients, and patients compared between groups of a marker."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mihc import statistics
from mihc.associations.columns import Endpoint, Marker, label_text, values_of
from mihc.associations.dropout import dropout_warning
from mihc.associations.groupings import Grouping, marker_grouping
from mihc.associations.kept import Kept
from mihc.associations.rows import Row, not_made, row
from mihc.associations.survival_rows import Cohort, group_survival_rows, hazard_per_sd, km_rows
from mihc.estimates.records import FloatArray

SPLIT_WORDS = {
    "outcome:slope_change": "Markers by follow-up (slope change)",
    "outcome:median": "Markers by follow-up (median of the times)",
    "response": "Markers by response",
}


def markers_between_groups(cohort: Cohort, marker: Marker, groupings: list[Grouping]) -> list[Row]:
    """Rank-sum (two groups) or Kruskal-Wallis (more) of one marker for every grouping of the patients.

    Beside a landmark stands the AUC weighted for censoring, which drops nobody. A clinical column of numbers with too
    many levels for groups is correlated with the marker instead.
    """
    values = values_of(cohort.patients, marker.column)
    rows = []
    for grouping in groupings:
        if _is_measured(cohort, grouping):
            rows.append(_correlated(cohort, values, marker, grouping))
            continue
        followed = next((one for one in cohort.endpoints if _is_split_of(grouping, one)), None)
        rows.append(_compared(values, marker, grouping, _doubts(followed, values)))
        if followed and grouping.split.startswith("outcome:landmark:"):
            rows.append(_weighted(values, marker, grouping, followed))
    return rows


def _is_split_of(grouping: Grouping, endpoint: Endpoint) -> bool:
    return grouping.split.startswith("outcome:") and grouping.endpoint == endpoint.name


def _doubts(endpoint: Endpoint | None, values: FloatArray) -> str:
    """A warning for groups made of follow-up where patients were censored in step with the marker."""
    return dropout_warning(endpoint, values) if endpoint else ""


def _is_measured(cohort: Cohort, grouping: Grouping) -> bool:
    """Whether a clinical column holds numbers, too many for groups."""
    column = grouping.split.removeprefix("group:")
    return not grouping.levels and column != grouping.split and bool(_numbers(cohort, column) is not None)


def _numbers(cohort: Cohort, column: str) -> FloatArray | None:
    try:
        return np.array([float(text) if text else np.nan for text in map(label_text, cohort.patients[column])])
    except ValueError:
        return None


def _correlated(cohort: Cohort, values: FloatArray, marker: Marker, grouping: Grouping) -> Row:
    found = statistics.spearman(values, _numbers(cohort, grouping.split.removeprefix("group:")))
    return row(
        "spearman", found, family=f"{_split_words(grouping.split)}: Spearman", marker=marker, split=grouping.split,
        term="rank correlation", kind="rho",
    )  # fmt: skip


def _weighted(values: FloatArray, marker: Marker, grouping: Grouping, endpoint: Endpoint) -> Row:
    found = statistics.weighted_auc(endpoint.time, endpoint.event, values, grouping.time)
    return row(
        "weighted_auc", found, family=f"{_split_words(grouping.split)}: censoring-weighted AUC", marker=marker,
        endpoint=grouping.endpoint, split=grouping.split, term="event by then vs followed beyond", time=grouping.time,
        kind="AUC", exploratory=grouping.exploratory,
    )  # fmt: skip


def _compared(values: FloatArray, marker: Marker, grouping: Grouping, doubt: str = "") -> Row:
    groups = [values[grouping.members(level)] for level in grouping.levels]
    two = len(grouping.levels) <= 2
    analysis = "rank_sum" if two else "kruskal"
    common = {
        "family": f"{_split_words(grouping.split)}: {'rank-sum' if two else 'Kruskal-Wallis'}", "marker": marker,
        "endpoint": grouping.endpoint, "split": grouping.split, "term": grouping.term, "time": grouping.time,
        "exploratory": grouping.exploratory, "kind": "location_shift" if two else "",
    }  # fmt: skip
    if not grouping.possible:
        return row(analysis, not_made(grouping, 0), **common)
    if not two:
        return row(analysis, statistics.kruskal(groups), notes=[grouping.note, doubt], **common)
    found = statistics.rank_sum(*groups)
    auc = f"AUC {found.auc:.3g}" if found.n_x and found.n_y else ""
    return row(analysis, found, groups=(found.n_x, found.n_y), notes=[grouping.note, auc, doubt], **common)


def _split_words(split: str) -> str:
    if split.startswith("outcome:landmark:"):
        return f"Markers by landmark {split.removeprefix('outcome:landmark:')}"
    return SPLIT_WORDS.get(split, f"Markers by column {split.removeprefix('group:')}")


def marker_survival(cohort: Cohort, endpoint: Endpoint, marker: Marker, kept: Kept) -> list[Row]:
    """One marker against one endpoint: continuous first, then by the splits that study.toml asks for.

    Rows by groups of the same patients as before are taken from `kept`.
    """
    values = cohort.patients[marker.column].astype(float)
    rows = hazard_per_sd(cohort, endpoint, marker, values.to_numpy())
    splits = cohort.settings.splits
    for split in splits.marker:
        if split == "maxstat":
            rows += _best_cut(cohort, endpoint, marker, values)
        elif split != "given" or marker.column in splits.given:
            followed = values.where((~pd.isna(endpoint.time)) & (~pd.isna(endpoint.event)))
            grouping = marker_grouping(followed, split, splits.given)
            about = f"Survival by marker ({split})"
            stands = kept.by_groups(endpoint.name, marker, grouping)
            anew = stands is None
            rows += group_survival_rows(cohort, endpoint, grouping, about=about, marker=marker) if anew else stands
    return rows


def _best_cut(cohort: Cohort, endpoint: Endpoint, marker: Marker, values: pd.Series) -> list[Row]:
    """The maximally selected cut: a p that pays for the search, curves, and no hazard ratio."""
    found = statistics.max_selected(endpoint.time, endpoint.event, values.to_numpy())
    grouping = marker_grouping(values, "maxstat", selected=found)
    about = "Survival by marker (best cut)"
    notes = [grouping.note]
    if found.n_low:
        notes.append(f"Lausen-Schumacher 1994 p = {found.p_lau94:.3g}")
        notes.append("no hazard ratio: after choosing the cut it would be too large")
    test = row(
        "maxstat", found, family=f"{about}: maximally selected log-rank", endpoint=endpoint.name, marker=marker,
        split=grouping.split, term=grouping.term, exploratory=True, notes=notes,
        groups=(found.n_high, found.n_low) if found.n_low else None,
    )  # fmt: skip
    return [test, *(km_rows(cohort, endpoint, grouping, about=about, marker=marker) if found.n_low else [])]
