"""How well a marker tells who has the event by a time from who is followed beyond it."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate, FloatArray, follow_up, numbers, same_length
from mihc.estimates.survival import joined_times

PERMUTATIONS = 2000
SEED = 1
METHOD = "AUC weighted for censoring, cumulative cases and dynamic controls"


def weighted_auc(time: ArrayLike, event: ArrayLike, x: ArrayLike, at: float) -> Estimate:
    """P(x of a patient with the event by `at` > x of one followed beyond it), ties half, weighted for censoring.

    A case, with the event by `at`, weighs 1 / G(time-), where G is the Kaplan-Meier curve of not being censored; a
    control, followed beyond `at`, weighs the same as any other. Who is censored by then is in neither, but in G. So
    above 0.5 the marker is higher in those with the early event.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    x : (n,) the marker; a patient with anything missing is left out.
    at : the landmark, in the unit of the times.

    Returns
    -------
    Estimate : `estimate` the AUC; p from 2,000 seeded permutations of x (two-sided); 95 % limits on the logit scale
        from the weighted placement values, the weights taken as known. `n_events` counts the cases.

    References
    ----------
    Uno and others, JASA 102, 2007; Hung and Chiang, Canadian Journal of Statistics 38, 2010. DeLong and others,
    Biometrics 44, 1988 (placement values).
    """
    times, events = follow_up(time, event)
    values = numbers(x, "x")
    same_length(time=times, x=values)
    if not np.isfinite(at):
        raise InputError(f"the landmark must be a number; found {at}")
    whole = ~np.isnan(times) & ~np.isnan(events) & ~np.isnan(values)
    order = np.lexsort((values[whole], events[whole], times[whole]))  # the order of patients changes no permutation
    t, d, v = joined_times(times[whole][order]), events[whole][order], values[whole][order]
    cases, controls = (t <= at) & (d == 1), t > at
    counts = {"n": len(t), "n_events": int(cases.sum()), "method": METHOD}
    if not cases.any() or not controls.any():
        return Estimate(
            note=f"nobody {'had the event by' if not cases.any() else 'was followed beyond'} {at:g}", **counts
        )
    if np.ptp(v) == 0:
        return Estimate(note="the marker is constant", **counts)
    weight = 1 / _uncensored(t, d)[cases]
    weight = weight / weight.sum()
    place = np.unique(v, return_inverse=True)[1]
    shuffled = np.random.default_rng(SEED).permuted(np.tile(place, (PERMUTATIONS, 1)), axis=1)
    found = float(_auc(place[None], cases, controls, weight)[0])
    by_chance = np.abs(_auc(shuffled, cases, controls, weight) - 0.5)
    p = (1 + int((by_chance >= abs(found - 0.5) - 1e-12).sum())) / (1 + PERMUTATIONS)
    low, high = _limits(v, cases, controls, weight, found)
    return Estimate(statistic=found, p=p, estimate=found, ci_low=low, ci_high=high, **counts)


def _uncensored(t: FloatArray, d: FloatArray) -> FloatArray:
    """G(t-): the chance of not yet being censored just before each time; at equal times events come first."""
    moments = np.unique(t)
    censored = np.array([((t == moment) & (d == 0)).sum() for moment in moments])
    at_risk = np.array([((t > moment) | ((t == moment) & (d == 0))).sum() for moment in moments])
    stays = np.where(censored > 0, 1 - censored / np.maximum(at_risk, 1), 1.0)
    before = np.concatenate([[1.0], np.cumprod(stays)[:-1]])
    return before[np.searchsorted(moments, t)]


def _auc(places: NDArray, cases: NDArray, controls: NDArray, weight: FloatArray) -> FloatArray:
    """One AUC for each row of markers, given as their places among the distinct values: no pair is looked at."""
    rows, distinct = len(places), int(places.max()) + 1
    cell = places[:, controls] + distinct * np.arange(rows)[:, None]
    at = np.bincount(cell.ravel(), minlength=rows * distinct).reshape(rows, distinct)
    up_to = np.cumsum(at, axis=1)
    below_twice = np.take_along_axis(2 * up_to - at, places[:, cases], axis=1)  # ties half
    return (below_twice / (2 * int(controls.sum())) * weight).sum(axis=1)


def _limits(v: FloatArray, cases: NDArray, controls: NDArray, weight: FloatArray, auc: float) -> tuple[float, float]:
    above = (v[cases][:, None] > v[controls]) + 0.5 * (v[cases][:, None] == v[controls])
    of_case, of_control = above.mean(axis=1), (weight[:, None] * above).sum(axis=0)
    n_controls = len(of_control)
    effective = 1 / float((weight**2).sum())
    if effective <= 1 or n_controls < 2 or not 0 < auc < 1:
        return nan, nan
    variance = float((weight**2 * (of_case - auc) ** 2).sum()) * effective / (effective - 1)
    variance += float(((of_control - auc) ** 2).sum()) / (n_controls - 1) / n_controls
    reach = float(special.ndtri(0.975)) * sqrt(variance) / (auc * (1 - auc))
    middle = float(special.logit(auc))
    return float(special.expit(middle - reach)), float(special.expit(middle + reach))
