"""Whether hazards are proportional: the score test of R's `cox.zph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mihc.estimates.partial import RiskSets
from mihc.estimates.records import ChiSquared, FloatArray, chi_squared


@dataclass(frozen=True, kw_only=True)
class ProportionalHazards(ChiSquared):
    """One term's (or "GLOBAL") test that its log hazard ratio does not change with time."""

    term: str = ""


def proportional_hazards(
    risk: RiskSets, Z: FloatArray, beta: FloatArray, time: FloatArray, event: FloatArray, names: Sequence[str]
) -> tuple[ProportionalHazards, ...]:
    """The score test for adding each term times g(time) to the model, g = 1 - Kaplan-Meier just before the time.

    Parameters
    ----------
    risk, Z, beta : the fitted model; Z (n, k) and `time`, `event` in the order of `risk`.
    names : (k,) terms.

    Returns
    -------
    tuple of ProportionalHazards : per term with 1 degree of freedom, adjusted for all the model's coefficients, then
        "GLOBAL" with k; NaN where the events say nothing about it (a single event time).

    References
    ----------
    Therneau, Grambsch: Modeling Survival Data, 2000, section 6.2; R's survival from 3.0 on (a true score test; before,
    and in lifelines, an approximation). All strata share one Kaplan-Meier curve, as in R.
    """
    g = _distance_along_curve(time, event)[risk.deaths]
    g = g - g.mean()
    eta = (Z * beta).sum(axis=1)
    _, mean, second = risk.moments(Z, eta - eta.max())
    variance = second - mean[:, :, None] * mean[:, None, :]
    score = ((Z[risk.deaths] - mean) * g[:, None]).sum(axis=0)
    plain, crossed, squared = (np.tensordot(g**power, variance, axes=1) for power in (0, 1, 2))
    rest = squared - crossed @ _solved(plain, crossed)
    tests = [_test(score[[j]], rest[[j]][:, [j]]) for j in range(len(names))] + [_test(score, rest)]
    return tuple(
        ProportionalHazards(**{**vars(test), "term": term})
        for term, test in zip([*names, "GLOBAL"], tests, strict=True)
    )


def _solved(information: FloatArray, b: FloatArray) -> FloatArray:
    """The least solution: the events may say nothing about a coefficient, and its row is then all zeros."""
    spread = np.sqrt(np.maximum(information.diagonal(), 0))
    unit = np.where(spread > 0, spread, 1)
    return np.linalg.lstsq(information / np.outer(unit, unit), b / unit[:, None], rcond=None)[0] / unit[:, None]


def _test(score: FloatArray, variance: FloatArray) -> ChiSquared:
    largest = float(np.abs(variance).max(initial=0.0))
    if largest < 1e-10 or np.linalg.matrix_rank(variance, tol=1e-9 * largest) < len(score):
        return ChiSquared(df=len(score), note="the event times do not allow it")
    return chi_squared(float(score @ np.linalg.solve(variance, score)), len(score))


def _distance_along_curve(time: FloatArray, event: NDArray) -> FloatArray:
    """1 - S(t-) of all patients together."""
    distinct, place = np.unique(time, return_inverse=True)
    leaving = np.bincount(place, minlength=len(distinct))
    died = np.bincount(place, weights=event, minlength=len(distinct))
    at_risk = len(time) - np.cumsum(leaving) + leaving
    survival = np.cumprod(1 - died / at_risk)
    return (1 - np.concatenate([[1.0], survival[:-1]]))[place]
