"""The study's tests, each as a function of many columns of marker values at once, for analyses that repeat them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from mihc import statistics
from mihc.associations.columns import Endpoint
from mihc.associations.groupings import Grouping, column_grouping, outcome_grouping, response_grouping
from mihc.associations.survival_rows import Cohort
from mihc.estimates.records import FloatArray

CONTINUOUS = "continuous"
CUTS = ("marker:median", "marker:tertiles")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One test of many columns."""

    n: np.ndarray  # (k,) patients
    n_events: np.ndarray  # (k,) NaN where nothing is followed up
    estimate: FloatArray  # (k,) hazard ratio or AUC
    p: FloatArray
    direction: np.ndarray  # (k,) 1: higher values go with longer follow-up or the first group; -1: the other way; 0


@dataclass(frozen=True, eq=False)
class Trial:
    """One of the study's questions, put in one way."""

    endpoint: str  # endpoint or response; "" for a clinical column
    split: str  # as in statistics.csv
    analysis: str  # "cox" or "rank_sum"
    kind: str  # "HR" or "AUC"
    asked: bool  # whether statistics.csv has it
    run: Callable[[FloatArray], Outcomes]  # (n, k) values, NaN = not measured
    without_each: Callable[[FloatArray], Outcomes]  # (n,) values -> one outcome without each patient
    drawn: Callable[[FloatArray, np.ndarray], FloatArray]  # (n,) values, (n, k) weights -> (k,) estimates


def trials(cohort: Cohort, *, only_asked: bool = False) -> list[Trial]:
    """Every way in which a marker is set against the endpoints, responses and two-level columns of the study.

    Cox per SD first; cut at the median and at the tertiles (high against low), whether study.toml asks for them or not
    unless `only_asked`; the splits by outcome that it asks for; two groups of patients.
    """
    settings, found = cohort.settings, []
    asked_cuts = {f"marker:{split}" for split in settings.splits.marker}
    for endpoint in cohort.endpoints:
        for split in (CONTINUOUS, *CUTS):
            asked = split == CONTINUOUS or split in asked_cuts
            if asked or not only_asked:
                found.append(_by_marker(endpoint, split, asked))
        for split in settings.splits.outcome:
            if split != "none":
                found.append(_by_groups(outcome_grouping(cohort.patients, endpoint, split), (cohort, endpoint, split)))
    for name in settings.responses:
        found.append(_by_groups(response_grouping(cohort.patients, settings, name), None))
    for name in settings.groups:
        grouping = column_grouping(cohort.patients, name)
        if len(grouping.levels) == 2:
            found.append(_by_groups(grouping, None))
    return found


def _by_marker(endpoint: Endpoint, split: str, asked: bool) -> Trial:
    return Trial(
        endpoint.name, split, "cox", "HR", asked, partial(_hazards, endpoint, split),
        lambda values: _hazards(endpoint, split, _left_out(values)),
        lambda values, weights: _hazards(endpoint, split, values[:, None], weights).estimate,
    )  # fmt: skip


def _left_out(values: FloatArray) -> FloatArray:
    """(n,) values -> (n, n), the i-th column without the i-th patient."""
    columns = np.tile(values[:, None], (1, len(values)))
    np.fill_diagonal(columns, np.nan)
    return columns


def _hazards(endpoint: Endpoint, split: str, columns: FloatArray, weights: np.ndarray | None = None) -> Outcomes:
    followed = ~np.isnan(endpoint.time) & ~np.isnan(endpoint.event)
    columns = np.where(followed[:, None], columns, np.nan)
    entered = np.log1p(columns) if split == CONTINUOUS else _cut(columns, 1 / 3 if split == "marker:tertiles" else 0.5)
    made = statistics.cox_each(endpoint.time, endpoint.event, entered, weights=weights, per_sd=split == CONTINUOUS)
    with np.errstate(over="ignore"):
        ratio = np.exp(made.coefficient)
    return Outcomes(made.n, made.n_events, ratio, made.p, -np.sign(np.nan_to_num(made.coefficient)).astype(int))


def _cut(columns: FloatArray, share: float) -> FloatArray:
    """1 above the upper quantile, 0 up to the lower, NaN between and where not measured; one column at a time."""
    made = np.full(columns.shape, np.nan)
    for place in range(columns.shape[1]):
        x = columns[:, place]
        known = x[~np.isnan(x)]
        if len(known):
            low, high = np.quantile(known, [share, 1 - share])
            made[x <= low, place] = 0.0
            made[x > high, place] = 1.0
    return made


def _by_groups(grouping: Grouping, remade: tuple[Cohort, Endpoint, str] | None) -> Trial:
    first, second = (grouping.members(level) for level in grouping.levels)
    without = cache(partial(_groups_without, first, second, remade))  # for all markers the same
    return Trial(
        grouping.endpoint, grouping.split, "rank_sum", "AUC", True,
        lambda columns: _ranks(columns, first, second),
        lambda values: _ranks(_left_out(values), *without()),
        lambda values, weights: _weighted(values, weights, first, second),
    )  # fmt: skip


def _groups_without(
    first: np.ndarray, second: np.ndarray, remade: tuple[Cohort, Endpoint, str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """(n, n): the groups without each patient; those made of follow-up are made anew."""
    if remade is None:
        return first, second
    cohort, endpoint, split = remade
    groups = []
    for place in range(len(first)):
        time = endpoint.time.copy()
        time[place] = np.nan
        without = Endpoint(endpoint.name, time, endpoint.event, endpoint.unit, endpoint.columns)
        grouping = outcome_grouping(cohort.patients, without, split)
        groups.append([grouping.members(level) for level in grouping.levels])
    both = np.array(groups)
    return both[:, 0].T, both[:, 1].T


def _ranks(columns: FloatArray, first: np.ndarray, second: np.ndarray) -> Outcomes:
    made = statistics.rank_sum_each(columns, first, second)
    direction = np.sign(np.nan_to_num(made.auc - 0.5)).astype(int)
    return Outcomes(made.n_x + made.n_y, np.full(columns.shape[1], np.nan), made.auc, made.p, direction)


def _weighted(values: FloatArray, weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> FloatArray:
    """AUC in draws of the patients, the groups as they are."""
    known = ~np.isnan(values)
    x, y = values[first & known], values[second & known]
    if not len(x) or not len(y):
        return np.full(weights.shape[1], np.nan)
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    of_first, of_second = (weights[group & known].astype(float) for group in (first, second))
    won = np.zeros(weights.shape[1])
    for place in range(len(x)):
        won += of_first[place] * (wins[place][:, None] * of_second).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (of_first.sum(axis=0) * of_second.sum(axis=0))
