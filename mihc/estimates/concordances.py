"""How well a marker orders patients by their outcome: concordance, and the AUC at a time, weighted for censoring."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate, FloatArray, labels, numbers, follow_up, same_length
from mihc.estimates.survival import SAME_TIME, joined_times


@dataclass(frozen=True, kw_only=True)
class Concordance(Estimate):
    """`estimate` is the share of comparable pairs in which the higher x had the earlier event, ties in x one half."""

    standard_error: float = nan
    concordant: float = 0.0
    discordant: float = 0.0
    tied: float = 0.0  # comparable pairs with equal x


def concordance(
    time: ArrayLike, event: ArrayLike, x: ArrayLike, *, strata: ArrayLike | None = None, confidence: float = 0.95
) -> Concordance:
    """Harrell's C: how often the patient with the higher `x` has the earlier event.

    As R's `concordance(Surv(time, event) ~ x, reverse = TRUE)`, and the concordance that `summary(coxph(...))` prints
    when `x` is the model's linear predictor; without `reverse` R gives 1 - C.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    x : (n,) the marker or risk score; a patient with anything missing is dropped.
    strata : (n,) labels; only pairs within a stratum are compared.

    Returns
    -------
    Concordance : a pair is comparable if the earlier time is an event (one censored at the same time counts as
        later; two events at one time are not comparable). The standard error is the infinitesimal jackknife's
        (Therneau, Atkinson: Concordance, vignette of R's survival, 2020), the interval C +- z SE cut to 0..1, p that of
        C = 1/2. NaN and a note without a comparable pair.
    """
    times, events = follow_up(time, event)
    values = numbers(x, "x")
    layers, layered = (
        (np.zeros(len(times), object), np.ones(len(times), bool)) if strata is None else labels(strata, "strata")
    )
    same_length(time=times, x=values, strata=layers)
    whole = ~np.isnan(times) & ~np.isnan(events) & ~np.isnan(values) & layered
    layer = np.unique(layers[whole].astype(str), return_inverse=True)[1].ravel()
    t, d, values = joined_times(times[whole]), events[whole], values[whole]
    common = {"n": len(t), "n_events": int(d.sum()), "method": "Harrell's concordance, infinitesimal jackknife"}
    agree, differ, equal = _pairs(t, d, values, layer)
    concordant, discordant, tied = (float(count.sum()) / 2 for count in (agree, differ, equal))
    pairs = concordant + discordant + tied
    if not pairs:
        return Concordance(**common, note="no pair of patients can be compared")
    C = (concordant + tied / 2) / pairs
    error = sqrt(float((((agree + equal / 2) - C * (agree + differ + equal)) ** 2).sum())) / pairs
    reach = float(special.ndtri(0.5 + confidence / 2)) * error
    z = (C - 0.5) / error if error > 0 else nan
    return Concordance(
        **common, estimate=C, standard_error=error, ci_low=max(0.0, C - reach), ci_high=min(1.0, C + reach),
        statistic=z, p=float(2 * special.ndtr(-abs(z))), concordant=concordant, discordant=discordant, tied=tied,
    )  # fmt: skip


def _pairs(t: FloatArray, d: FloatArray, x: FloatArray, layer: np.ndarray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """For each patient: in how many comparable pairs it is, by their kind. One patient's row at a time."""
    counts = np.zeros((3, len(t)))
    for i in np.flatnonzero(d == 1):
        later = (layer == layer[i]) & ((t > t[i]) | ((t == t[i]) & (d == 0)))
        for kind, among in enumerate((x < x[i], x > x[i], x == x[i])):
            partners = later & among
            counts[kind] += partners
            counts[kind, i] += partners.sum()
    return counts[0], counts[1], counts[2]


def weighted_auc(
    time: ArrayLike, event: ArrayLike, x: ArrayLike, at: float, *, permutations: int = 2_000, seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """P(x of a patient with the event by `at` > x of a patient followed beyond it), weighted for censoring.

    Each patient with an event by `at` counts 1 / G(time-), with G the Kaplan-Meier curve of censoring (IPCW), so that
    those censored before `at` are made up for by those who were like them in time; ties in x count one half. This is
    the cumulative/dynamic AUC of Uno et al. (JASA 102, 2007), R's `timeROC(weighting = "marginal", cause = 1)`.
    It assumes that censoring has nothing to do with the marker.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`; x : (n,) the marker. A patient with anything missing is dropped.
    at : the landmark, in the unit of `time`.
    permutations, seed : p is the share of permutations of x at least as far from 1/2, the observed order counted as
        one; the interval is by as many bootstrap draws of patients (percentiles).

    Returns
    -------
    Estimate : NaN and a note if nobody had the event by `at` or nobody was followed beyond it.
    """
    times, events = follow_up(time, event)
    values = numbers(x, "x")
    same_length(time=times, x=values)
    if not np.isfinite(at):
        raise InputError(f"the landmark must be a number; found {at}")
    whole = ~np.isnan(times) & ~np.isnan(events) & ~np.isnan(values)
    order = np.lexsort((values[whole], events[whole], times[whole]))  # so that patients' order changes no draw
    t, d, v = (column[whole][order] for column in (joined_times(times), events, values))
    common = {"n": len(t), "n_events": int(d.sum()), "method": f"AUC at {at:g}, weighted by inverse censoring"}
    found = _auc(t, d, v, at)
    if np.isnan(found):
        by_then = ((t <= at * (1 + SAME_TIME)) & (d == 1)).any()
        return Estimate(**common, note=f"nobody {'followed beyond' if by_then else 'had the event by'} {at:g}")
    generator = np.random.default_rng(seed)
    weights, later = _weights(t, d, at)
    reached = 0
    for _ in range(permutations):
        reached += abs(_weighted_share(generator.permutation(v), weights, later) - 0.5) >= abs(found - 0.5) - 1e-12
    draws = np.array([_auc(t[rows], d[rows], v[rows], at) for rows in generator.integers(0, len(t), (permutations, len(t)))])
    draws = draws[~np.isnan(draws)]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(draws, tails) if len(draws) else (nan, nan)
    return Estimate(
        **common, estimate=found, ci_low=float(low), ci_high=float(high), p=(reached + 1) / (permutations + 1)
    )


def _auc(t: FloatArray, d: FloatArray, x: FloatArray, at: float) -> float:
    return _weighted_share(x, *_weights(t, d, at))


def _weights(t: FloatArray, d: FloatArray, at: float) -> tuple[FloatArray, np.ndarray]:
    """1 / G(t-) of each patient with an event by `at`, else 0; and who was followed beyond `at`."""
    end = at * (1 + SAME_TIME)
    distinct, place = np.unique(t, return_inverse=True)
    leaving = np.bincount(place, minlength=len(distinct))
    died = np.bincount(place, weights=d, minlength=len(distinct))
    at_risk = len(t) - np.cumsum(leaving) + leaving - died  # an event comes before a censoring at the same time
    still = np.cumprod(1 - (leaving - died) / np.maximum(at_risk, 1))
    before = np.concatenate([[1.0], still[:-1]])[place] if len(t) else np.zeros(0)
    case = (t <= end) & (d == 1)
    return np.where(case, 1 / np.where(before > 0, before, 1.0), 0.0), t > end


def _weighted_share(x: FloatArray, weights: FloatArray, later: np.ndarray) -> float:
    total = float(weights.sum())
    others = np.sort(x[later])
    if not total or not len(others):
        return nan
    case = weights > 0
    below, up_to = (np.searchsorted(others, x[case], side=side) for side in ("left", "right"))
    return float((weights[case] * (below + up_to) / 2).sum()) / (total * len(others))
