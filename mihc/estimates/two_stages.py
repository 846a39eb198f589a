"""Simon's two-stage design: the search for it, its error rates, and inference that knows of the first look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate, FloatArray


@dataclass(frozen=True, kw_only=True)
class TwoStageDesign:
    """Go on if more than `r1` of `n1` respond; success if more than `r` of `n` do."""

    n1: int
    r1: int
    n: int
    r: int
    alpha: float  # P(success) if the response rate is p0
    power: float  # P(success) if it is p1
    stop_p0: float  # P(stopping after the first stage)
    stop_p1: float
    expected_n_p0: float  # patients
    expected_n_p1: float


@dataclass(frozen=True, kw_only=True)
class TwoStageSearch:
    """Simon's two answers; None where no design of up to `n_max` patients keeps both error rates."""

    optimal: TwoStageDesign | None  # fewest patients expected under p0
    minimax: TwoStageDesign | None  # fewest patients at most


@dataclass(frozen=True, kw_only=True)
class TwoStageProportion(Estimate):
    """`estimate` is the uniformly minimum variance unbiased estimate; p is one-sided, against p0."""

    median_unbiased: float = nan
    observed: float = nan  # responses / patients, which the first look biases


def two_stage_design(n1: int, r1: int, n: int, r: int, *, p0: float, p1: float) -> TwoStageDesign:
    """Error rates and expected size of a two-stage design, exactly.

    Parameters
    ----------
    n1, r1 : patients of the first stage, and the responses up to which it stops there for futility.
    n, r : patients of both stages, and the responses up to which the treatment is not taken further.
    p0, p1 : response rates of no interest and of interest.

    References
    ----------
    Simon: Controlled Clinical Trials 10, 1989. As R's `clinfun::ph2simon` prints EN(p0) and PET(p0).
    """
    if not (0 <= r1 < n1 < n and r1 <= r < n) or any(value != int(value) for value in (n1, r1, n, r)):
        raise InputError(f"need whole numbers 0 <= r1 < n1 < n and r1 <= r < n; found {r1}/{n1}, {r}/{n}")
    _check_rates(p0, p1)
    stop = [float(special.bdtr(r1, n1, rate)) for rate in (p0, p1)]
    success = [_success(n1, r1, n, r, rate) for rate in (p0, p1)]
    expected = [n1 + (1 - early) * (n - n1) for early in stop]
    return TwoStageDesign(
        n1=int(n1), r1=int(r1), n=int(n), r=int(r), alpha=success[0], power=success[1], stop_p0=stop[0],
        stop_p1=stop[1], expected_n_p0=expected[0], expected_n_p1=expected[1],
    )  # fmt: skip


def simon_two_stage(
    p0: float, p1: float, *, alpha: float = 0.05, beta: float = 0.2, n_max: int = 100
) -> TwoStageSearch:
    """Simon's optimal and minimax two-stage designs, by trying all designs of up to `n_max` patients.

    Parameters
    ----------
    p0, p1 : response rates of no interest and of interest, p0 < p1.
    alpha, beta : P(success | p0) is to be at most `alpha`, P(no success | p1) at most `beta`.

    Returns
    -------
    TwoStageSearch : optimal has the smallest expected number of patients under p0, minimax the smallest n and then the
        smallest expected number; of equals the first with the smaller n, then n1.
    """
    _check_rates(p0, p1)
    if not (0 < alpha < 1 and 0 < beta < 1 and n_max >= 2):
        raise InputError(f"need 0 < alpha, beta < 1 and n_max >= 2; found {alpha}, {beta}, {n_max}")
    optimal: TwoStageDesign | None = None
    minimax: TwoStageDesign | None = None
    for n in range(2, n_max + 1):
        found = _best_of_size(n, p0, p1, alpha, beta)
        if found is None:
            continue
        minimax = minimax or found
        if optimal is None or found.expected_n_p0 < optimal.expected_n_p0 - 1e-12:
            optimal = found
    return TwoStageSearch(optimal=optimal, minimax=minimax)


def _best_of_size(n: int, p0: float, p1: float, alpha: float, beta: float) -> TwoStageDesign | None:
    best: tuple[float, int, int, int] | None = None
    for n1 in range(1, n):
        first = [_masses(n1, rate) for rate in (p0, p1)]
        # later[rate][s] = P(more than s responses in the second stage)
        later = [special.bdtrc(np.arange(n - n1 + 1), n - n1, rate) for rate in (p0, p1)]
        for r1 in range(n1):
            expected = n1 + (1 - float(first[0][: r1 + 1].sum())) * (n - n1)
            if float(first[1][: r1 + 1].sum()) > beta:
                break  # more stopping only loses power
            if best is not None and expected >= best[0] - 1e-12:
                continue
            r = _smallest_r(first[0], later[0], n1, r1, n, alpha)
            if r is not None and _reached(first[1], later[1], n1, r1, r) >= 1 - beta:
                best = (expected, n1, r1, r)
    return None if best is None else two_stage_design(best[1], best[2], n, best[3], p0=p0, p1=p1)


def _smallest_r(first: FloatArray, later: FloatArray, n1: int, r1: int, n: int, alpha: float) -> int | None:
    low, high = r1, n - 1  # P(success) falls with r
    if _reached(first, later, n1, r1, high) > alpha:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _reached(first, later, n1, r1, middle) <= alpha else (middle + 1, high)
    return low


def _reached(first: FloatArray, later: FloatArray, n1: int, r1: int, r: int) -> float:
    """P(going on and more than r responses in all)."""
    x = np.arange(r1 + 1, n1 + 1)
    needed = r - x
    sure = needed < 0
    tail = np.where(sure, 1.0, later[np.clip(needed, 0, len(later) - 1)])
    return float((first[x] * tail).sum())


def two_stage_proportion(
    responses: int, *, n1: int, r1: int, n: int, p0: float | None = None, confidence: float = 0.95
) -> TwoStageProportion:
    """The response rate after a two-stage trial, with inference that counts the first look.

    The possible results are ordered by their number of responses, every trial that stopped early below every one that
    went on. p is P(a result at least this high) under `p0`; the limits are the rates at which that, or the probability
    of a result at least this low, is (1 - confidence) / 2; at the median-unbiased estimate it is one half (Koyama,
    Chen: Statistics in Medicine 27, 2008, ordered by responses). The estimate is Jung and Kim's UMVUE (Statistics in
    Medicine 23, 2004).

    Parameters
    ----------
    responses : in all; up to `r1` means that the trial stopped after `n1` patients.
    n1, r1, n : the design; `n` is the number of patients actually treated in both stages.
    p0 : response rate of no interest; without it p is NaN.
    """
    if not (0 <= r1 < n1 < n) or not 0 <= responses <= n or any(v != int(v) for v in (responses, n1, r1, n)):
        raise InputError(
            f"need whole numbers 0 <= r1 < n1 < n and 0 <= responses <= n; found {r1}/{n1}, {responses}/{n}"
        )
    if p0 is not None and not 0 <= p0 <= 1:
        raise InputError(f"p0 must be a probability; found {p0}")
    s, treated, outside = int(responses), int(n1 if responses <= r1 else n), (1 - confidence) / 2

    def at_least(rate: float, count: int) -> float:
        if count <= r1:
            return 1 - float(special.bdtr(count - 1, n1, rate)) if count > 0 else 1.0
        return _success(n1, r1, n, count - 1, rate)

    low = 0.0 if s == 0 else _rate(lambda rate: at_least(rate, s) - outside)
    high = 1.0 if s == n else _rate(lambda rate: outside - (1 - at_least(rate, s + 1)))
    middle = 0.0 if s == 0 else _rate(lambda rate: at_least(rate, s) - 0.5)
    return TwoStageProportion(
        statistic=float(s), p=nan if p0 is None else at_least(p0, s), estimate=_unbiased(s, n1, r1, n), ci_low=low,
        ci_high=high, n=treated, median_unbiased=middle, observed=s / treated,
        method="two-stage, ordered by responses; UMVUE", note="stopped after the first stage" if s <= r1 else "",
    )  # fmt: skip


def _unbiased(s: int, n1: int, r1: int, n: int) -> float:
    """Of all ways to have s responses, the share of first patients who responded (Jung and Kim)."""
    if s <= r1:
        return s / n1
    n2 = n - n1
    first = np.arange(max(r1 + 1, s - n2), min(s, n1) + 1)
    ways = _log_choose(n1, first) + _log_choose(n2, s - first)
    fewer = _log_choose(n1 - 1, first - 1) + _log_choose(n2, s - first)
    return float(np.exp(special.logsumexp(fewer) - special.logsumexp(ways)))


def _log_choose(n: int, k: np.ndarray) -> FloatArray:
    return special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)


def _success(n1: int, r1: int, n: int, r: int, rate: float) -> float:
    """P(more than r1 of the first n1 respond, and more than r of all n)."""
    first = _masses(n1, rate)
    later = special.bdtrc(np.arange(n - n1 + 1), n - n1, rate)
    return _reached(first, later, n1, r1, r)


def _masses(n: int, rate: float) -> FloatArray:
    x = np.arange(n + 1)
    return np.exp(_log_choose(n, x) + special.xlogy(x, rate) + special.xlog1py(n - x, -rate))


def _rate(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _check_rates(p0: float, p1: float) -> None:
    if not 0 <= p0 < p1 <= 1:
        raise InputError(f"need response rates 0 <= p0 < p1 <= 1; found {p0}, {p1}")
