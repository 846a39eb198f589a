"""Cox's partial likelihood: risk sets, the three ways to treat tied events, and where the likelihood is largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from mihc.estimates.records import FloatArray

TIES = ("efron", "breslow", "exact")
CONVERGED_STEP = 1e-10  # Newton's last step, in standard deviations of the covariate
STILL_MOVING = 1e-3  # a step this long while the likelihood no longer changes: the coefficient runs to infinity
SAME_LIKELIHOOD = 1e-11
LARGEST_STEP = 5.0
MOST_HALVED = 40
MOST_IDLE = 3  # Newton's next step after one that gains nothing is exact, or there is none
NO_PIVOT = 1e-9  # share of a term's information that the other terms leave over; below it the term is not estimable
HUGE = 1e200  # sums of products are scaled down beyond it


@dataclass(frozen=True, eq=False)
class RiskSets:
    """Who is at risk at each event, as index arrays into the patients sorted by stratum, then falling time."""

    order: NDArray[np.int64]  # patients in that order
    deaths: NDArray[np.int64]  # places (in that order) of the events
    last: NDArray[np.int64]  # for each event: last place still at risk
    before: NDArray[np.int64]  # for each event: place before its stratum, -1 if there is none
    tie: NDArray[np.int64]  # for each event: which tied set it belongs to
    removed: FloatArray  # for each event: share of its tied set already removed (Efron), 0 for Breslow
    exact: bool = False

    @classmethod
    def of(cls, time: FloatArray, event: FloatArray, strata: NDArray, ties: str) -> RiskSets:
        """The risk sets of joined times (see `joined_times`)."""
        layer = np.unique(strata.astype(str), return_inverse=True)[1].ravel()
        order = np.lexsort((-time, layer))
        t, d, s = time[order], event[order], layer[order]
        block = np.concatenate([[True], (t[1:] != t[:-1]) | (s[1:] != s[:-1])]).cumsum() - 1
        deaths = np.flatnonzero(d == 1)
        ends = np.concatenate([np.flatnonzero(np.diff(block)), [len(t) - 1]])
        starts = np.concatenate([[0], np.flatnonzero(np.diff(s)) + 1])
        tie = np.unique(block[deaths], return_inverse=True)[1].ravel()
        size = np.bincount(tie)
        place = np.arange(len(deaths)) - np.searchsorted(tie, tie)
        removed = place / size[tie] if ties == "efron" else np.zeros(len(deaths))
        return cls(order, deaths, ends[block[deaths]], starts[s[deaths]] - 1, tie, removed, ties == "exact")

    def likelihood(self, X: FloatArray, beta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Log partial likelihood, its gradient and the information, for X sorted in `order`."""
        k = X.shape[1]
        if self.exact:
            return self._exact_likelihood(X, beta)
        eta = X @ beta
        eta = eta - eta.max()
        s0, mean, second = self.moments(X, eta)
        if not np.all(s0 > 0):  # weights underflowed: beta is absurd, and the step will be halved
            return -np.inf, np.zeros(k), np.zeros((k, k))
        gradient = (X[self.deaths] - mean).sum(axis=0)
        return float((eta[self.deaths] - np.log(s0)).sum()), gradient, second.sum(axis=0) - mean.T @ mean

    def moments(self, X: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """For each event: total weight at risk, the weighted mean of X (k), and of its squares and products (k, k)."""
        weight, k = np.exp(eta), X.shape[1]
        products = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)
        sums = self._at_risk(np.concatenate([np.ones((len(X), 1)), X, products], axis=1) * weight[:, None])
        s0 = sums[:, 0]
        safe = np.where(s0 > 0, s0, 1.0)[:, None]
        return s0, sums[:, 1 : k + 1] / safe, (sums[:, k + 1 :] / safe).reshape(-1, k, k)

    def _at_risk(self, moments: FloatArray) -> FloatArray:
        total = np.concatenate([np.cumsum(moments, axis=0), np.zeros((1, moments.shape[1]))])  # [-1] is 0
        tied = np.zeros((int(self.tie.max()) + 1, moments.shape[1]))
        np.add.at(tied, self.tie, moments[self.deaths])
        return total[self.last] - total[self.before] - self.removed[:, None] * tied[self.tie]

    def _exact_likelihood(self, X: FloatArray, beta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Cox's discrete likelihood: those who died, among all sets of that many of those at risk."""
        k = X.shape[1]
        value, gradient, information = 0.0, np.zeros(k), np.zeros((k, k))
        eta = X @ beta
        starts = np.searchsorted(self.tie, np.arange(int(self.tie.max()) + 1))
        for first, end in zip(starts, [*starts[1:], len(self.deaths)]):
            members = slice(int(self.before[first]) + 1, int(self.last[first]) + 1)
            dead = self.deaths[first:end]
            top = float(eta[members].max())
            total, slope, bend = log_sum_of_sets(X[members], eta[members] - top, end - first)
            value += float((eta[dead] - top).sum()) - total
            gradient += X[dead].sum(axis=0) - slope
            information += bend
        return (value, gradient, information) if np.isfinite(value) else (-np.inf, np.zeros(k), np.zeros((k, k)))


def log_sum_of_sets(X: FloatArray, eta: FloatArray, size: int) -> tuple[float, FloatArray, FloatArray]:
    """log of the sum over all sets of `size` members of exp(sum of eta), its gradient and second derivative.

    By adding one member at a time to the sums over sets of 0, 1, ... `size` members (Gail, Lubin, Rubinstein:
    Biometrika 68, 1981).
    """
    k, scale = X.shape[1], 0.0
    sums, slopes, bends = np.zeros(size + 1), np.zeros((size + 1, k)), np.zeros((size + 1, k, k))
    sums[0] = 1.0
    for weight, x in zip(np.exp(eta), X):
        taken, moved = weight * sums[:-1], weight * slopes[:-1]
        turned = moved[:, :, None] * x[None, None, :]
        bends[1:] += weight * bends[:-1] + turned + turned.transpose(0, 2, 1) + taken[:, None, None] * np.outer(x, x)
        slopes[1:] += moved + taken[:, None] * x
        sums[1:] += taken
        largest = float(sums.max())
        if largest > HUGE:
            sums, slopes, bends, scale = sums / largest, slopes / largest, bends / largest, scale + log(largest)
    if not sums[size] > 0:
        return float("nan"), np.zeros(k), np.zeros((k, k))
    slope = slopes[size] / sums[size]
    return log(sums[size]) + scale, slope, bends[size] / sums[size] - np.outer(slope, slope)


@dataclass(frozen=True, eq=False)
class Maximum:
    """Where the likelihood is largest, over the coefficients that were free to move."""

    beta: FloatArray
    information: FloatArray
    value: float
    step: FloatArray  # what Newton still wanted: 0 where converged, long where a coefficient runs to infinity


def maximise(
    risk: RiskSets, Z: FloatArray, *, start: FloatArray | None = None, free: Sequence[int] | None = None
) -> Maximum:
    """Newton's method, steps halved while the likelihood falls; coefficients that are not `free` stay at `start`."""
    k = Z.shape[1]
    beta = np.zeros(k) if start is None else start.astype(float)
    moving = np.arange(k) if free is None else np.asarray(free, dtype=np.int64)
    value, gradient, information = risk.likelihood(Z, beta)
    idle = 0  # rounds in a row in which nothing was gained but rounding errors
    for _ in range(100 if len(moving) else 0):
        step = np.zeros(k)
        step[moving] = _newton_step(information[np.ix_(moving, moving)], gradient[moving])
        if np.abs(step).max() < CONVERGED_STEP:
            break
        following = risk.likelihood(Z, beta + step)
        halved = 0
        while following[0] < value - SAME_LIKELIHOOD * (1 + abs(value)) and halved < MOST_HALVED:
            step, halved = step / 2, halved + 1
            following = risk.likelihood(Z, beta + step)
        gain = following[0] - value
        beta, (value, gradient, information) = beta + step, following
        same = gain < SAME_LIKELIHOOD * (1 + abs(value))
        if same and np.abs(step).max() > STILL_MOVING:
            return Maximum(beta, information, value, step)
        idle = idle + 1 if same or halved > MOST_HALVED // 2 else 0
        if idle == MOST_IDLE:
            break
    return Maximum(beta, information, value, np.zeros(k))


def _newton_step(information: FloatArray, gradient: FloatArray) -> FloatArray:
    step = np.linalg.lstsq(information, gradient, rcond=None)[0]
    return step * min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))


def estimable(information: FloatArray) -> list[int]:
    """Terms that add information beyond the earlier ones (pivots of a Cholesky factorisation, in order)."""
    kept: list[int] = []
    for j in range(len(information)):
        rest = information[j, j]
        if kept:
            cross = information[kept, j]
            rest = rest - cross @ np.linalg.solve(information[np.ix_(kept, kept)], cross)
        if rest > NO_PIVOT * max(information[j, j], information.diagonal().max()):
            kept.append(j)
    return kept


def standard_errors(information: FloatArray) -> FloatArray:
    """Square roots of the inverse's diagonal; infinite where there is no information."""
    try:
        variance = np.linalg.inv(information).diagonal()
    except np.linalg.LinAlgError:
        return np.full(len(information), np.inf)
    return np.sqrt(np.where(variance > 0, variance, np.inf))
