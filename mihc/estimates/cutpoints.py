"""The best cut of a marker by survival, with a p that pays for the search."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate, FloatArray, follow_up, numbers, same_length


@dataclass(frozen=True, kw_only=True)
class MaxSelected(Estimate):
    """A maximally selected log-rank statistic: `estimate` is the cut (low = value <= cut), `p` is by permutation."""

    p_lau92: float = nan  # Lausen and Schumacher 1992, capped at 1
    p_lau94: float = nan  # Lausen, Sauerbrei and Schumacher 1994 (improved Bonferroni), capped at 1
    n_low: int = 0
    n_high: int = 0
    cuts: tuple[float, ...] = ()  # every cut that was tried
    statistics: tuple[float, ...] = ()  # and its standardised statistic


def max_selected(
    time: ArrayLike,
    event: ArrayLike,
    x: ArrayLike,
    *,
    min_share: float = 0.1,
    max_share: float = 0.9,
    permutations: int = 10_000,
    seed: int = 0,
) -> MaxSelected:
    """The cut of `x` that separates survival best, as R's `maxstat.test(smethod = "LogRank")`.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    x : (n,) the marker; a patient with anything missing is dropped.
    min_share, max_share : which shares of patients may be in the low group.
    permutations, seed : p is the share of permutations of the marker with an equal or larger maximum, the observed
        order counted as one.

    Returns
    -------
    MaxSelected : `statistic` is the largest absolute standardised log-rank score sum, first if several are equal.
        Without an admissible cut or without events everything is NaN and the note says why.

    References
    ----------
    Hothorn, Lausen: On the exact distribution of maximally selected rank statistics, CSDA 43, 2003.
    Lausen, Schumacher: Biometrics 48, 1992. Lausen, Sauerbrei, Schumacher: Computational Statistics, 1994.
    """
    times, events = follow_up(time, event)
    values = numbers(x, "x")
    same_length(time=times, x=values)
    if not 0 < min_share < max_share < 1:
        raise InputError(f"need 0 < min_share < max_share < 1; found {min_share:g}, {max_share:g}")
    whole = ~np.isnan(times) & ~np.isnan(events) & ~np.isnan(values)
    times, events, values = times[whole], events[whole], values[whole]
    common = {"n": len(times), "n_events": int(events.sum()), "method": "maximally selected log-rank, permutation p"}
    cuts, sizes = _admissible(np.sort(values), min_share, max_share)
    if not len(cuts):
        return MaxSelected(**common, note="no cut leaves enough patients on both sides")
    scores = log_rank_scores(times, events)
    scores = scores[np.lexsort((scores, values))]  # equal markers by score, so that p ignores the patients' order
    if np.ptp(scores) < 1e-12:
        return MaxSelected(**common, cuts=tuple(cuts.tolist()), note="no events, or all times equal")
    statistics = _standardised(scores, sizes)
    best = int(np.argmax(statistics > statistics.max() - 1e-12))
    return MaxSelected(
        **common, statistic=float(statistics[best]), estimate=float(cuts[best]),
        p=_permutation_p(scores, sizes, float(statistics[best]), permutations, seed),
        p_lau92=_lau92(float(statistics[best]), min_share, max_share),
        p_lau94=_lau94(float(statistics[best]), len(times), sizes),
        n_low=int(sizes[best]), n_high=len(times) - int(sizes[best]),
        cuts=tuple(cuts.tolist()), statistics=tuple(statistics.tolist()),
    )  # fmt: skip


def log_rank_scores(time: FloatArray, event: FloatArray) -> FloatArray:
    """event_i - sum over t_j <= t_i of event_j / (N - g_j + 1), with g_j = how many times are <= t_j."""
    up_to = np.searchsorted(np.sort(time), time, side="right")
    order = np.argsort(time, kind="stable")
    cumulative = np.cumsum((event / (len(time) - up_to + 1))[order])
    return event - cumulative[up_to - 1]


def _admissible(ordered: FloatArray, min_share: float, max_share: float) -> tuple[FloatArray, FloatArray]:
    """Cuts between distinct values, and how many patients are at or below each."""
    n = len(ordered)
    if not n:
        return ordered, ordered
    cuts = np.unique(ordered)[:-1]
    sizes = np.searchsorted(ordered, cuts, side="right")
    fits = (sizes >= max(1, np.floor(n * min_share))) & (sizes <= np.floor(n * max_share))
    return cuts[fits], sizes[fits].astype(float)


def _standardised(scores: FloatArray, sizes: FloatArray) -> FloatArray:
    """|sum of the low group's scores - its mean| / its permutation SD; `scores` in the marker's order, last axis."""
    n, total = scores.shape[-1], scores.sum(axis=-1, keepdims=True)
    below = np.cumsum(scores, axis=-1)[..., sizes.astype(int) - 1]
    spread = n * (scores**2).sum(axis=-1, keepdims=True) - total**2
    return np.abs(below - sizes * total / n) / np.sqrt(sizes * (n - sizes) / (n**2 * (n - 1)) * spread)


def _permutation_p(scores: FloatArray, sizes: FloatArray, observed: float, permutations: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    reached, left = 0, permutations
    while left:
        rows = min(left, max(1, 500_000 // len(scores)))
        shuffled = generator.permuted(np.broadcast_to(scores, (rows, len(scores))), axis=1)
        reached += int((_standardised(shuffled, sizes).max(axis=1) >= observed - 1e-9).sum())
        left -= rows
    return (reached + 1) / (permutations + 1)


def _lau92(b: float, low: float, high: float) -> float:
    if b < 1:
        return 1.0
    density = np.exp(-(b**2) / 2) / np.sqrt(2 * np.pi)
    odds = np.log(high * (1 - low) / ((1 - high) * low))
    return float(np.clip(4 * density / b + density * (b - 1 / b) * odds, 0, 1))


def _lau94(b: float, n: int, sizes: FloatArray) -> float:
    one, two = sizes[:-1], sizes[1:]
    t = np.sqrt(1 - one * (n - two) / ((n - one) * two))
    between = (np.exp(-(b**2) / 2) / np.pi * (t - (b**2 / 4 - 1) * t**3 / 6)).sum()
    return float(np.clip(2 * special.ndtr(-b) + between, 0, 1))
