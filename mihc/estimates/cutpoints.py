"""The best cut of a marker by survival, with a p that pays for the search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mihc.errors import InputError
from mihc.estimates.exact_limits import whole_score_limit
from mihc.estimates.records import Estimate, FloatArray, check_choice, follow_up, numbers, same_length
from mihc.estimates.survival import joined_times, log_rank

AT_ONCE = 500_000  # values
KEPT = 64  # distributions by chance, of 80 kB each


@dataclass(frozen=True, kw_only=True)
class MaxSelected(Estimate):
    """A maximally selected log-rank statistic: `estimate` is the cut (low = value <= cut), `p` is by permutation."""

    p_lau92: float = nan  # Lausen and Schumacher 1992, capped at 1
    p_lau94: float = nan  # Lausen, Sauerbrei and Schumacher 1994 (improved Bonferroni), capped at 1
    p_hl: float = nan  # an upper limit of the exact p, from whole-numbered scores (see `exact_limits.py`)
    statistic_hl: float = nan  # the largest statistic of those scores
    p_gauss: float = nan  # of the statistics' joint normal distribution; filled if `corrections` is "all"
    p_naive: float = nan  # log-rank at the chosen cut as if it had been given: never to be quoted
    p_naive_smallest: float = nan  # the smallest log-rank p of all cuts, and where
    cut_naive_smallest: float = nan
    scores_sum: float = nan
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
    corrections: str = "usual",
) -> MaxSelected:
    """The cut of `x` that separates survival best, as R's `maxstat.test(smethod = "LogRank")`.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    x : (n,) the marker; a patient with anything missing is dropped.
    min_share, max_share : which shares of patients may be in the low group.
    permutations, seed : p is the share of permutations of the marker with an equal or larger maximum, the observed
        order counted as one (R's `pmethod = "condMC"`).
    corrections : "usual": the permutation p, Lau92 and Lau94; "all": also the exact Gaussian p (`"exactGauss"`) and
        what log-rank tests would have said without correction.

    Returns
    -------
    MaxSelected : `statistic` is the largest absolute standardised log-rank score sum, first if several are equal.
        Without an admissible cut or without events everything is NaN and the note says why.

    References
    ----------
    Hothorn, Lausen: On the exact distribution of maximally selected rank statistics, CSDA 43, 2003.
    Lausen, Schumacher: Biometrics 48, 1992. Genz: J. Comp. Graph. Stat. 1, 1992 (R's integral; ours goes cut by cut,
    because the statistics are a Markov chain, and draws nothing). Lausen, Sauerbrei, Schumacher: Computational
    Statistics, 1994.
    """
    check_choice(corrections, ("usual", "all"), "corrections")
    times, events = follow_up(time, event)
    values = numbers(x, "x")
    same_length(time=times, x=values)
    if not 0 < min_share < max_share < 1:
        raise InputError(f"need 0 < min_share < max_share < 1; found {min_share:g}, {max_share:g}")
    whole = ~np.isnan(times) & ~np.isnan(events) & ~np.isnan(values)
    times = joined_times(times)
    times, events, values = times[whole], events[whole], values[whole]
    common = {"n": len(times), "n_events": int(events.sum()), "method": "maximally selected log-rank, permutation p"}
    cuts, sizes = _admissible(np.sort(values), min_share, max_share)
    if not len(cuts):
        return MaxSelected(**common, note="no cut leaves enough patients on both sides")
    scores = _scores(times, events)
    common["scores_sum"] = float(scores.sum())
    if corrections == "all":
        common |= _uncorrected(times, events, values, cuts)
    scores = scores[np.lexsort((scores, values))]  # equal markers by score, so that p ignores the patients' order
    if np.ptp(scores) < 1e-12:
        common |= {"cuts": tuple(cuts.tolist()), "statistics": (nan,) * len(cuts)}
        return MaxSelected(**common, note="no events, or all times equal")
    statistics = _standardised(scores, sizes)
    best = int(np.argmax(statistics > statistics.max() - 1e-12))
    if corrections == "all":
        common["p_naive"] = log_rank(times, events, values > cuts[best]).p
        common["p_gauss"] = _gauss(float(statistics[best]), len(times), sizes)
        common["statistic_hl"], common["p_hl"] = whole_score_limit(scores, sizes)
    return MaxSelected(
        **common, statistic=float(statistics[best]), estimate=float(cuts[best]),
        p=_permutation_p(scores, sizes, float(statistics[best]), permutations, seed),
        p_lau92=_lau92(float(statistics[best]), min_share, max_share),
        p_lau94=_lau94(float(statistics[best]), len(times), sizes),
        n_low=int(sizes[best]), n_high=len(times) - int(sizes[best]),
        cuts=tuple(cuts.tolist()), statistics=tuple(statistics.tolist()),
    )  # fmt: skip


def log_rank_scores(time: ArrayLike, event: ArrayLike) -> FloatArray:
    """One number per patient that carries what the log-rank test knows: high = an event sooner than expected.

    Hothorn and Lausen's scores of `max_selected`, for rank tests of survival (`westfall_young`); NaN where time or
    event is missing.
    """
    times, events = follow_up(time, event)
    whole = ~np.isnan(times) & ~np.isnan(events)
    scores = np.full(len(times), nan)
    scores[whole] = _scores(joined_times(times[whole]), events[whole])
    return scores


def _scores(time: FloatArray, event: FloatArray) -> FloatArray:
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
    by_chance = _largest_by_chance(np.sort(scores).tobytes(), sizes.tobytes(), permutations, seed)
    reached = permutations - int(np.searchsorted(by_chance, observed - 1e-9))
    return (reached + 1) / (permutations + 1)


@lru_cache(maxsize=KEPT)
def _largest_by_chance(scores: bytes, sizes: bytes, permutations: int, seed: int) -> FloatArray:
    """(permutations,) sorted largest statistics of shuffled scores: the same for all markers with the same cuts."""
    values, at = np.frombuffer(scores), np.frombuffer(sizes)
    generator, found = np.random.default_rng(seed), []
    for start in range(0, permutations, rows := max(1, AT_ONCE // len(values))):
        asked = min(rows, permutations - start)
        shuffled = generator.permuted(np.broadcast_to(values, (asked, len(values))), axis=1)
        found.append(_standardised(shuffled, at).max(axis=1))
    return np.sort(np.concatenate(found)) if found else np.zeros(0)


def _gauss(b: float, n: int, sizes: FloatArray) -> float:
    """1 - P(all |Z| < b) for the statistics' normal limit, which is a Markov chain over the cuts."""
    if b <= 0:
        return 1.0
    ratios = np.sqrt(sizes[:-1] * (n - sizes[1:]) / (sizes[1:] * (n - sizes[:-1])))
    narrowest = float(np.sqrt(1 - ratios.max(initial=0.0) ** 2))
    nodes = int(np.clip(6 * b / max(narrowest, 1e-3), 64, 1500))
    at, weight = np.polynomial.legendre.leggauss(nodes)
    at, weight = at * b, weight * b
    density = np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)
    for ratio in ratios:
        spread = float(np.sqrt(1 - ratio**2))
        step = np.exp(-(((at[:, None] - ratio * at[None, :]) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))
        density = (step * (density * weight)[None, :]).sum(axis=1)
    return float(np.clip(1 - (density * weight).sum(), 0, 1))


def _uncorrected(times: FloatArray, events: FloatArray, values: FloatArray, cuts: FloatArray) -> dict[str, float]:
    """The smallest log-rank p of all cuts; without events every chi-squared is 0 and p is 1."""
    tests = [log_rank(times, events, values > cut) for cut in cuts]
    ps = np.array([1.0 if np.isnan(test.p) else test.p for test in tests])
    best = int(np.argmin(ps))
    return {"p_naive_smallest": float(ps[best]), "cut_naive_smallest": float(cuts[best])}


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
