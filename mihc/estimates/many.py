"""The same test on many columns at once, for analyses that are repeated thousands of times.

Each gives what `cox` and `rank_sum` give, column by column, without the interval of the shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.errors import InputError
from mihc.estimates.partial import LARGEST_STEP, STILL_MOVING
from mihc.estimates.ranks import midranks, rank_sum_p
from mihc.estimates.records import FloatArray, follow_up
from mihc.estimates.survival import joined_times

ROUNDS = 40  # of Newton's method; what has not settled by then runs to infinity
SETTLED = 1e-10  # standard deviations


@dataclass(frozen=True, eq=False)
class ManyHazards:
    """Univariable Cox models, one per column; NaN where a coefficient is infinite or not estimable."""

    coefficient: FloatArray  # (k,) log hazard ratio
    standard_error: FloatArray
    p: FloatArray  # Wald, two-sided
    n: NDArray[np.int64]
    n_events: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ManyRankSums:
    """Rank-sum tests, one per column."""

    auc: FloatArray  # (k,) P(x of the first group > x of the second) + ties / 2
    p: FloatArray
    n_x: NDArray[np.int64]
    n_y: NDArray[np.int64]


def cox_each(
    time: ArrayLike, event: ArrayLike, columns: FloatArray, *, weights: NDArray | None = None, per_sd: bool = False
) -> ManyHazards:
    """Univariable Cox regression of each column, ties by Efron as in `cox`.

    Parameters
    ----------
    time, event : (n,) as in `cox`.
    columns : (n, k) or (n, 1); a patient with NaN is left out of that column's model.
    weights : (n, k) how often each patient counts (a bootstrap draw; 0 leaves out). Ties are then Breslow's, so that a
        patient drawn twice is not a tie.
    per_sd : divide each column by its standard deviation over the patients analysed (divisor n - 1; in a draw that of
        the patients drawn).
    """
    times, events = follow_up(time, event)
    X = np.asarray(columns, dtype=float)
    if X.ndim != 2 or len(X) != len(times):
        raise InputError(f"columns must be ({len(times)}, k); found shape {X.shape}")
    known = ~np.isnan(times) & ~np.isnan(events)
    order = np.flatnonzero(known)[np.argsort(-times[known], kind="stable")]
    t, d, X = joined_times(times[order]), events[order], X[order]
    W = np.isfinite(X).astype(float) if weights is None else np.asarray(weights, dtype=float)[order] * np.isfinite(X)
    X = np.broadcast_to(np.where(np.isfinite(X), X, 0.0), W.shape)
    Z, scale = _standardised(X, W)
    kept = scale > 0
    beta, error = np.full(W.shape[1], np.nan), np.full(W.shape[1], np.nan)
    if kept.any() and d.any():
        beta[kept], error[kept] = _newton(_Sets(t, d, W[:, kept], efron=weights is None), Z[:, kept])
    n = W.sum(axis=0)
    unit = np.sqrt((n - 1) / np.maximum(n, 1), where=n > 1, out=np.ones(len(n))) if per_sd else scale
    unit = np.where(kept, unit, np.nan)
    with np.errstate(invalid="ignore"):
        coefficient, standard_error = beta / unit, error / unit
        p = 2 * special.ndtr(-np.abs(beta / error))
    counts = n.astype(np.int64), (W * d[:, None]).sum(axis=0).astype(np.int64)
    return ManyHazards(coefficient, standard_error, p, *counts)


def _standardised(X: FloatArray, W: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Columns with mean 0 and standard deviation 1 (divisor n) over the patients that count; 0 = constant."""
    n = np.maximum(W.sum(axis=0), 1)
    centred = X - (W * X).sum(axis=0) / n
    scale = np.sqrt((W * centred**2).sum(axis=0) / n)
    size = np.abs(X * (W > 0)).max(axis=0, initial=0.0)
    scale = np.where(scale > 1e-12 * np.maximum(size, 1e-300), scale, 0.0)
    return centred / np.where(scale > 0, scale, 1.0), scale


class _Sets:
    """Patients at risk at each event, in falling time, for every column's own weights."""

    def __init__(self, t: FloatArray, d: FloatArray, W: FloatArray, *, efron: bool):
        self.W, self.deaths = W, np.flatnonzero(d == 1)
        block = np.concatenate([[True], t[1:] != t[:-1]]).cumsum() - 1
        ends = np.concatenate([np.flatnonzero(np.diff(block)), [len(t) - 1]])
        self.last = ends[block[self.deaths]]
        self.tie = np.unique(block[self.deaths], return_inverse=True)[1].ravel()
        self.first_of_tie = np.searchsorted(self.tie, np.arange(self.tie.max() + 1))
        self.weight = W[self.deaths]  # (events, k)
        self.removed = self._removed() if efron else None

    def _removed(self) -> FloatArray | None:
        """Share of its tied set that is removed before each event: of those that count in the column (Efron)."""
        if len(self.first_of_tie) == len(self.deaths):
            return None
        before = np.cumsum(self.weight, axis=0) - self.weight
        size = np.add.reduceat(self.weight, self.first_of_tie, axis=0)
        return (before - before[self.first_of_tie][self.tie]) / np.maximum(size, 1.0)[self.tie]

    def likelihood(self, Z: FloatArray, beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log partial likelihood, its slope and its curvature, of every column."""
        eta = Z * beta
        eta = eta - np.max(np.where(self.W > 0, eta, -np.inf), axis=0)
        risk = self.W * np.exp(np.minimum(eta, 0.0))
        sums = [self._at_risk(moment) for moment in (risk, risk * Z, risk * Z * Z)]
        counts = self.weight > 0
        s0 = np.where(counts & (sums[0] > 0), sums[0], 1.0)
        mean, square = sums[1] / s0, sums[2] / s0
        value = (self.weight * (eta[self.deaths] - np.log(s0))).sum(axis=0)
        slope = (self.weight * (Z[self.deaths] - mean)).sum(axis=0)
        return value, slope, (self.weight * (square - mean**2)).sum(axis=0)

    def _at_risk(self, moment: FloatArray) -> FloatArray:
        total = np.cumsum(moment, axis=0)[self.last]
        if self.removed is None:
            return total
        tied = np.add.reduceat(moment[self.deaths], self.first_of_tie, axis=0)
        return total - self.removed * tied[self.tie]


def _newton(sets: _Sets, Z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients and standard errors per standard deviation; NaN where the likelihood has no maximum."""
    beta = np.zeros(Z.shape[1])
    value, slope, curve = sets.likelihood(Z, beta)
    step = np.full(Z.shape[1], np.inf)
    for _ in range(ROUNDS):
        step = np.clip(slope / np.where(curve > 0, curve, np.inf), -LARGEST_STEP, LARGEST_STEP)
        if np.abs(step).max() < SETTLED:
            break
        taken = step.copy()
        for _ in range(30):
            following = sets.likelihood(Z, beta + taken)
            worse = ~(following[0] >= value - 1e-11 * (1 + np.abs(value)))
            if not worse.any():
                break
            taken[worse] /= 2
        beta = beta + taken
        value, slope, curve = following
    far = (np.abs(step) > STILL_MOVING) | ~(curve > 1e-9) | (np.abs(beta) > 30)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(far, np.nan, beta), np.where(far, np.nan, 1 / np.sqrt(curve))


def rank_sum_each(columns: FloatArray, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> ManyRankSums:
    """Wilcoxon's rank sum of each column between two groups, p as in `rank_sum(method="auto")`.

    Parameters
    ----------
    columns : (n, k); NaN is missing.
    first, second : (n,) or (n, k) who is in which group.
    """
    X = np.asarray(columns, dtype=float)
    groups = [np.broadcast_to(group[:, None] if group.ndim == 1 else group, X.shape) for group in (first, second)]
    k = X.shape[1]
    auc, p, sizes = np.full(k, np.nan), np.full(k, np.nan), np.zeros((2, k), dtype=np.int64)
    for place in range(k):
        x, y = (X[group[:, place], place] for group in groups)
        x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        sizes[:, place] = len(x), len(y)
        if len(x) and len(y):
            ranks, ties = midranks(np.concatenate([x, y]))
            statistic, p[place] = rank_sum_p(ranks, ties, len(x))
            auc[place] = statistic / (len(x) * len(y))
    return ManyRankSums(auc, p, *sizes)
