"""Adjusting p for the number of tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mihc.errors import InputError
from mihc.estimates.ranks import midranks
from mihc.estimates.records import FloatArray, check_choice, numbers

METHODS = ("BH", "BY", "holm", "hochberg", "hommel", "bonferroni", "none")


def adjust(p: ArrayLike, method: str = "BH") -> FloatArray:
    """p values adjusted for their number, in their order, as R's `p.adjust`.

    Parameters
    ----------
    p : (m,) raw p values; NaN (a test that could not be made) stays NaN and does not count.
    method : "BH" (Benjamini-Hochberg), "BY", "holm", "hochberg", "hommel", "bonferroni" or "none".
    """
    check_choice(method, METHODS, "method")
    raw = numbers(p, "p")
    made = ~np.isnan(raw)
    if np.any((raw[made] < 0) | (raw[made] > 1)):
        raise InputError(
            f"p values must lie between 0 and 1; found {raw[made][(raw[made] < 0) | (raw[made] > 1)][0]:g}"
        )
    adjusted = np.full(len(raw), np.nan)
    adjusted[made] = _adjusted(raw[made], method)
    return adjusted


def _adjusted(p: FloatArray, method: str) -> FloatArray:
    m = len(p)
    if method == "none" or m < 2:
        return p.copy()
    if method == "bonferroni":
        return np.minimum(p * m, 1)
    if method == "hommel":
        return _hommel(p)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, m + 1)
    factor = {
        "BH": m / rank,
        "BY": m / rank * (1 / rank).sum(),
        "holm": m + 1 - rank,
        "hochberg": m + 1 - rank,
    }[method]
    grown = np.minimum(p[order] * factor, 1)
    steps = np.maximum.accumulate(grown) if method == "holm" else np.minimum.accumulate(grown[::-1])[::-1]
    result = np.empty(m)
    result[order] = steps
    return result


def _hommel(p: FloatArray) -> FloatArray:
    """Hommel's closed test of Simes's (Biometrika 75, 1988), by Wright's algorithm (Biometrics 48, 1992)."""
    m = len(p)
    order = np.argsort(p, kind="stable")
    ordered = p[order]
    largest = np.full(m, float((m * ordered / np.arange(1, m + 1)).min()))
    for size in range(m - 1, 1, -1):
        head, tail = slice(0, m - size + 1), slice(m - size + 1, m)
        bound = float((size * ordered[tail] / np.arange(2, size + 1)).min())
        found = np.empty(m)
        found[head] = np.minimum(size * ordered[head], bound)
        found[tail] = found[m - size]
        largest = np.maximum(largest, found)
    result = np.empty(m)
    result[order] = np.maximum(largest, ordered)
    return result


def westfall_young(
    columns: ArrayLike, outcome: ArrayLike, *, permutations: int = 9_999, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """p values of many markers against one outcome, adjusted by permuting the outcome (step-down maxT).

    The outcomes are dealt out anew to the patients, all markers of a patient staying together, so that the adjustment
    knows how strongly the markers go with each other: with correlated markers it takes less than Holm's.

    Parameters
    ----------
    columns : (n, m) one column per marker; NaN is missing, and such a patient does not count for that marker.
    outcome : (n,) numbers: a group as 0/1 (rank-sum test), a response, or `log_rank_scores(time, event)` (a rank
        test of survival). A patient without outcome is dropped.
    permutations, seed : the observed order is counted as one.

    Returns
    -------
    raw, adjusted : (m,) permutation p values, two-sided: of the absolute rank statistic, standardised by its
        permutation variance, for each marker alone and step-down over all. NaN where a marker is constant.

    References
    ----------
    Westfall, Young: Resampling-Based Multiple Testing, 1993, algorithm 4.1.
    """
    try:
        values = np.asarray(columns, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("columns must be numbers, one column per marker") from error
    outcomes = numbers(outcome, "outcome")
    if values.ndim != 2 or len(values) != len(outcomes):
        raise InputError(f"columns must be (n, m) with n = {len(outcomes)} outcomes; found shape {values.shape}")
    values, outcomes = values[~np.isnan(outcomes)], outcomes[~np.isnan(outcomes)]
    raw, adjusted = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    scores = np.stack([_centred_ranks(column) for column in values.T], axis=1) if values.shape[1] else values
    made = np.flatnonzero((scores**2).sum(axis=0) > 0)
    centred = outcomes - outcomes.mean() if len(outcomes) else outcomes
    if not len(made) or len(outcomes) < 3 or np.ptp(outcomes) == 0:
        return raw, adjusted
    order = np.lexsort((*scores[:, made].T, centred))  # so that the patients' order changes no permutation
    scores, centred = scores[order][:, made], centred[order]
    spread = np.sqrt((scores**2).sum(axis=0) * (centred**2).sum() / (len(centred) - 1))
    observed = np.abs(np.einsum("nm,n->m", scores, centred)) / spread
    falling = np.argsort(-observed, kind="stable")
    generator = np.random.default_rng(seed)
    alone, together = np.ones(len(made)), np.ones(len(made))
    for _ in range(permutations):
        drawn = np.abs(np.einsum("nm,n->m", scores, generator.permutation(centred))) / spread
        alone += drawn >= observed - 1e-9
        largest = np.maximum.accumulate(drawn[falling][::-1])[::-1]
        together += largest >= observed[falling] - 1e-9
    raw[made] = alone / (permutations + 1)
    adjusted[made[falling]] = np.maximum.accumulate(together / (permutations + 1))
    return raw, adjusted


def _centred_ranks(column: FloatArray) -> FloatArray:
    known = ~np.isnan(column)
    centred = np.zeros(len(column))
    if known.any():
        ranks = midranks(column[known])[0]
        centred[known] = ranks - ranks.mean()
    return centred
