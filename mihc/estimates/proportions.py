"""Proportions and contingency tables, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, lgamma, log, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.errors import InputError
from mihc.estimates.ranks import ALTERNATIVES
from mihc.estimates.records import Estimate, FloatArray, check_choice

ABOUT_EQUAL = 1 + 1e-7  # tables this close in probability to the observed one count as no more probable (R's relErr)


@dataclass(frozen=True, kw_only=True)
class FisherExact(Estimate):
    """Fisher's test; `estimate` is the conditional odds ratio."""

    sample_odds_ratio: float = nan  # ad / bc of a 2 x 2 table; NaN where that is 0 / 0


def exact_proportion(
    k: int, n: int, *, p0: float | None = None, alternative: str = "two-sided", confidence: float = 0.95
) -> Estimate:
    """k of n with Clopper and Pearson's interval; with `p0`, also the exact binomial p (R's `binom.test`).

    The two-sided p sums all outcomes no more probable than k. n = 0 gives NaN and a note; k outside 0..n is refused.
    One-sided alternatives give one-sided intervals, as in R.
    """
    check_choice(alternative, ALTERNATIVES, "alternative")
    if k != int(k) or n != int(n) or not 0 <= k <= n:
        raise InputError(f"a proportion needs whole numbers with 0 <= k <= n; found k = {k}, n = {n}")
    k, n = int(k), int(n)
    if n == 0:
        return Estimate(n=0, method="Clopper-Pearson", note="no patients")
    miss_low, miss_high = _tails(alternative, confidence)
    low = 0.0 if k == 0 or miss_low == 0 else float(special.betaincinv(k, n - k + 1, miss_low))
    high = 1.0 if k == n or miss_high == 0 else float(special.betaincinv(k + 1, n - k, 1 - miss_high))
    p = nan if p0 is None else _binomial_p(k, n, p0, alternative)
    return Estimate(statistic=float(k), p=p, estimate=k / n, ci_low=low, ci_high=high, n=n, method="Clopper-Pearson")


def wilson_proportion(k: int, n: int, *, correct: bool = False, p0: float = 0.5, confidence: float = 0.95) -> Estimate:
    """k of n with Wilson's interval, as R's `prop.test(k, n, p = p0, correct = ...)`.

    `correct` adds R's continuity correction, min(1/2, |k - n p0|) / n, which is why it asks for `p0` (R's default is
    0.5). n = 0 gives NaN and a note; k outside 0..n is refused. It covers 95 % on average where Clopper and Pearson's
    covers at least 95 %.
    """
    if k != int(k) or n != int(n) or not 0 <= k <= n:
        raise InputError(f"a proportion needs whole numbers with 0 <= k <= n; found k = {k}, n = {n}")
    method = "Wilson" + ", continuity corrected" * correct
    if n == 0:
        return Estimate(n=0, method=method, note="no patients")
    z2 = float(special.ndtri(0.5 + confidence / 2)) ** 2
    shift = min(0.5, abs(k - n * p0)) / n if correct else 0.0

    def limit(share: float, sign: float) -> float:
        reach = sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2))
        return (share + z2 / (2 * n) + sign * reach) / (1 + z2 / n)

    low = limit(k / n - shift, -1.0) if k / n > shift else 0.0
    high = limit(k / n + shift, 1.0) if k / n + shift < 1 else 1.0
    return Estimate(
        statistic=float(k), estimate=k / n, ci_low=max(0.0, low), ci_high=min(1.0, high), n=int(n), method=method
    )


def _tails(alternative: str, confidence: float) -> tuple[float, float]:
    """How much probability the interval leaves below and above."""
    out = 1 - confidence
    return {"two-sided": (out / 2, out / 2), "less": (0.0, out), "greater": (out, 0.0)}[alternative]


def _binomial_p(k: int, n: int, p0: float, alternative: str) -> float:
    if not 0 <= p0 <= 1:
        raise InputError(f"p0 must be a probability; found {p0}")
    outcomes = np.arange(n + 1)
    log_mass = special.gammaln(n + 1) - special.gammaln(outcomes + 1) - special.gammaln(n - outcomes + 1)
    mass = np.exp(log_mass + special.xlogy(outcomes, p0) + special.xlog1py(n - outcomes, -p0))
    side = {"less": outcomes <= k, "greater": outcomes >= k, "two-sided": mass <= mass[k] * ABOUT_EQUAL}[alternative]
    return min(1.0, float(mass[side].sum()))


def fisher_exact(
    table: ArrayLike, *, alternative: str = "two-sided", confidence: float = 0.95, draws: int = 20_000
) -> FisherExact:
    """Fisher's exact test of a table of counts, as R's `fisher.test`.

    Parameters
    ----------
    table : (r, c) whole numbers >= 0, r and c at least 2.
    alternative : for 2 x 2 only; "greater" means an odds ratio above 1.
    draws : tables drawn with a fixed seed where an r x c table has too many to list; the method then says so.

    Returns
    -------
    FisherExact : p = sum over all tables with these margins no more probable than this one. For 2 x 2 `estimate` is the
        conditional maximum likelihood odds ratio (not ad/bc; 0 or infinite at the edge of the support) with its exact
        interval. Where the margins allow one table only, p = 1 and the odds ratio is NaN.
    """
    check_choice(alternative, ALTERNATIVES, "alternative")
    counts = _checked_table(table)
    if counts.shape != (2, 2):
        return _larger_table(counts, draws)
    a, row, other_row, column = int(counts[0, 0]), int(counts[0].sum()), int(counts[1].sum()), int(counts[:, 0].sum())
    support = np.arange(max(0, column - other_row), min(row, column) + 1)
    n, method = int(counts.sum()), "Fisher exact, conditional odds ratio"
    if len(support) == 1:
        return FisherExact(
            p=1.0, ci_low=0.0, ci_high=inf, n=n, method=method, note="a margin is empty: only one table is possible"
        )
    log_ways = _log_choose(row, support) + _log_choose(other_row, column - support)
    mass = _tilted(log_ways, support, 0.0)
    at = a - int(support[0])
    side = {"less": support <= a, "greater": support >= a, "two-sided": mass <= mass[at] * ABOUT_EQUAL}[alternative]
    low, high = _odds_limits(log_ways, support, a, _tails(alternative, confidence))
    return FisherExact(
        statistic=float(a), p=min(1.0, float(mass[side].sum())), estimate=_conditional_odds(log_ways, support, a),
        ci_low=low, ci_high=high, n=n, method=method, sample_odds_ratio=_sample_odds(counts),
    )  # fmt: skip


def _checked_table(table: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(table)
    if counts.ndim != 2 or min(counts.shape) < 2:
        raise InputError(f"Fisher's test needs a table of at least 2 x 2; found shape {counts.shape}")
    if not np.all(np.isfinite(counts)) or np.any(counts < 0) or np.any(counts != np.floor(counts)):
        raise InputError(f"Fisher's test needs whole counts >= 0; found {counts.tolist()}")
    return counts.astype(np.int64)


def _sample_odds(counts: NDArray[np.int64]) -> float:
    (a, b), (c, d) = counts.astype(float).tolist()
    return a * d / (b * c) if b * c else inf if a * d else nan


def _log_choose(n: int | NDArray, k: NDArray) -> FloatArray:
    return special.gammaln(np.asarray(n) + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)


def _tilted(log_ways: FloatArray, support: NDArray, log_odds: float) -> FloatArray:
    """Probabilities of the support when the odds ratio is exp(log_odds)."""
    weights = log_ways + support * log_odds
    mass = np.exp(weights - weights.max())
    return mass / mass.sum()


def _conditional_odds(log_ways: FloatArray, support: NDArray, a: int) -> float:
    if a == support[0]:
        return 0.0
    if a == support[-1]:
        return inf
    return _solve(lambda log_odds: float((_tilted(log_ways, support, log_odds) * support).sum()) - a)


def _odds_limits(log_ways: FloatArray, support: NDArray, a: int, tails: tuple[float, float]) -> tuple[float, float]:
    """Odds ratios at which a or more (a or fewer) has just the probability that the interval leaves out."""
    low, high = 0.0, inf
    if a > support[0] and tails[0] > 0:
        low = _solve(lambda log_odds: float(_tilted(log_ways, support, log_odds)[support >= a].sum()) - tails[0])
    if a < support[-1] and tails[1] > 0:
        high = _solve(lambda log_odds: tails[1] - float(_tilted(log_ways, support, log_odds)[support <= a].sum()))
    return low, high


def _solve(rising: Callable[[float], float]) -> float:
    """exp of the root of a rising function of the log odds ratio."""
    from scipy.optimize import brentq

    reach = 1.0
    while rising(-reach) > 0 or rising(reach) < 0:
        reach *= 2
    return float(np.exp(brentq(rising, -reach, reach, xtol=1e-13, rtol=1e-14)))


def _larger_table(counts: NDArray[np.int64], draws: int) -> FisherExact:
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    n = int(counts.sum())
    if min(counts.shape, default=0) < 2:
        return FisherExact(
            p=1.0, n=n, method="Fisher exact, r x c", note="a margin is empty: only one table is possible"
        )
    if counts.shape[0] < counts.shape[1]:
        counts = counts.T
    observed = -float(special.gammaln(counts + 1.0).sum())
    mass = _all_tables(counts.sum(axis=1), counts.sum(axis=0))
    if mass is None:
        p = _drawn_tables(counts, observed, draws)
        return FisherExact(p=p, n=n, method=f"Fisher, r x c, {draws} tables drawn with seed 0")
    log_p, ways = mass
    weights = ways * np.exp(log_p - log_p.max())
    p = float(weights[log_p <= observed + log(ABOUT_EQUAL)].sum() / weights.sum())
    return FisherExact(p=min(1.0, p), n=n, method="Fisher exact, r x c")


def _all_tables(rows: NDArray, columns: NDArray, limit: int = 200_000) -> tuple[FloatArray, FloatArray] | None:
    """-sum log(cell!) of every table with these margins, and how many tables share it; None if there are too many.

    Row by row, tables that leave the same columns open with the same score so far are kept as one.
    """
    open_tables = {tuple(int(c) for c in columns): {0.0: 1.0}}
    steps = 0
    for row in rows[:-1]:
        following: dict[tuple[int, ...], dict[float, float]] = {}
        for left, scores in open_tables.items():
            for filled in _fillings(int(row), left):
                steps += len(scores)
                if steps > limit:
                    return None
                cost = sum(lgamma(count + 1) for count in filled)
                bucket = following.setdefault(tuple(have - take for have, take in zip(left, filled)), {})
                for score, ways in scores.items():
                    key = round(score - cost, 10)
                    bucket[key] = bucket.get(key, 0.0) + ways
        open_tables = following
    scores = [
        (score - sum(lgamma(count + 1) for count in left), ways)
        for left, bucket in open_tables.items()
        for score, ways in bucket.items()
    ]
    return np.array([score for score, _ in scores]), np.array([ways for _, ways in scores])


def _fillings(total: int, room: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All ways to spread `total` over columns that can take at most `room` each."""
    if len(room) == 1:
        yield (total,)
        return
    rest = sum(room[1:])
    for take in range(max(0, total - rest), min(total, room[0]) + 1):
        for others in _fillings(total - take, room[1:]):
            yield (take, *others)


def _drawn_tables(counts: NDArray, observed: float, draws: int) -> float:
    generator = np.random.default_rng(0)
    row_of = np.repeat(np.arange(counts.shape[0]), counts.sum(axis=1))
    column_of = np.repeat(np.arange(counts.shape[1]), counts.sum(axis=0))
    as_extreme = 0
    for _ in range(draws):
        table = np.zeros_like(counts)
        np.add.at(table, (row_of, generator.permutation(column_of)), 1)
        as_extreme += -float(special.gammaln(table + 1.0).sum()) <= observed + log(ABOUT_EQUAL)
    return (as_extreme + 1) / (draws + 1)
