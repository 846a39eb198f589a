"""The log-rank test by dealing the patients out to the groups again.

The chi-squared of `log_rank` (R's `survdiff`) has its distribution for many patients only. In groups as small as those
of a trial it says "p below 0.05" too often: of shuffled outcomes in 5.9 % of studies with three groups of 20, in 7.3 %
with 4 patients against 35, and there "p below 0.001" nine times too often.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mihc.estimates.records import FloatArray, follow_up, labels
from mihc.estimates.survival import LogRank, coded, joined_times, log_rank

FEW = 10  # so few draws that reach the observed statistic are too few to tell how small p is
MORE = 10  # times as many draws then
AT_ONCE = 1_000_000  # values
KEPT = 64  # distributions by chance, of 80 or 800 kB each


def log_rank_permuted(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, *, permutations: int = 10_000, seed: int = 0
) -> LogRank:
    """The log-rank test with p by permutation: `log_rank`, whose own p is kept in `p_chi_squared`.

    Parameters
    ----------
    time, event, group : (n,) as in `log_rank`; a patient with anything missing is dropped.
    permutations, seed : p is the share of draws whose chi-squared is as large, the observed one counted as one. Where
        fewer than 10 of the draws are, ten times as many are made, so that a small p can stand among many tests.

    Returns
    -------
    LogRank : statistic, observed, expected and df as `log_rank`; NaN and its note where that has no p. The patients'
        order changes nothing. With two groups of a few patients p cannot be smaller than 1 / (ways to deal them out).

    Notes
    -----
    Each draw has its own hypergeometric variance (a "studentised" permutation), so that the test is exact where groups
    are followed up alike, and right for many patients where they are not (Neuhaus: Annals of Statistics 21, 1993;
    Brendel, Janssen, Mayer, Pauly: Scandinavian Journal of Statistics 41, 2014).
    """
    found = log_rank(time, event, group)
    if np.isnan(found.p) or permutations < 1:
        return found
    times, events = follow_up(time, event)
    names, named = labels(group, "group")
    whole = ~np.isnan(times) & ~np.isnan(events) & named
    times, events = joined_times(times[whole]), events[whole]
    order = np.lexsort((events, -times))  # last times first, so that whoever comes before is at risk
    groups, places = coded(names[whole][order])
    dealt = _Dealt(times[order], events[order])
    observed = dealt.chi_squared(places[None], len(groups))[0]
    sizes = np.bincount(places)
    for made in (permutations, MORE * permutations):
        by_chance = _by_chance(times[order].tobytes(), events[order].tobytes(), sizes.tobytes(), made, seed)
        reached = made - int(np.searchsorted(by_chance, observed * (1 - 1e-9) - 1e-9))
        if reached >= FEW:
            break
    return replace(
        found, p=(reached + 1) / (made + 1), p_chi_squared=found.p, method=f"log-rank, {made:,} permutations"
    )


@lru_cache(maxsize=KEPT)
def _by_chance(times: bytes, events: bytes, sizes: bytes, permutations: int, seed: int) -> FloatArray:
    """(permutations,) sorted chi-squared values of groups of these sizes, dealt out again and again.

    Who was in which group does not matter, so that one follow-up serves all markers that cut it into as many patients.
    """
    dealt = _Dealt(np.frombuffer(times), np.frombuffer(events))
    counts = np.frombuffer(sizes, dtype=np.int64)
    member = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
    generator, found = np.random.default_rng(seed), []
    for start in range(0, permutations, rows := max(1, AT_ONCE // len(member))):
        asked = min(rows, permutations - start)
        drawn = generator.permuted(np.broadcast_to(member, (asked, len(member))), axis=1)
        found.append(dealt.chi_squared(drawn, len(counts)))
    return np.sort(np.concatenate(found))


class _Dealt:
    """The log-rank chi-squared of one follow-up for many ways of dealing the patients out to groups."""

    def __init__(self, time: FloatArray, event: FloatArray):
        """`time` falls from patient to patient; equal times are one time."""
        at = np.unique(time[event == 1])[::-1]
        self.last = np.searchsorted(-time, -at, side="right") - 1  # the last patient at risk at each event time
        self.risk = self.last + 1.0
        died = np.array([((time == moment) & (event == 1)).sum() for moment in at], dtype=float)
        self.spread = died * np.where(self.risk > 1, (self.risk - died) / np.maximum(self.risk - 1, 1), 0)
        followed = time[:, None] >= at[None, :]
        self.score = event - (followed * (died / self.risk)).sum(axis=1)  # observed less expected, per patient
        self.share = (followed * (self.spread / self.risk)).sum(axis=1)

    def chi_squared(self, member: NDArray, k: int) -> FloatArray:
        """(draws, n) group of each patient -> (draws,)."""
        excess, variance, at_risk = [], np.zeros((k - 1, k - 1, len(member))), []
        for g in range(k - 1):  # the last group's excess is minus the sum of the others'
            inside = member == g
            excess.append(np.where(inside, self.score, 0.0).sum(axis=1))
            at_risk.append(np.cumsum(inside, axis=1, dtype=np.int32)[:, self.last] / self.risk)
            variance[g, g] = np.where(inside, self.share, 0.0).sum(axis=1)
            for h in range(g + 1):
                both = (at_risk[g] * at_risk[h] * self.spread).sum(axis=1)
                variance[g, h] -= both
                variance[h, g] = variance[g, h]
        return _quadratic_each(excess, variance)


def _quadratic_each(excess: list[FloatArray], variance: FloatArray) -> FloatArray:
    """x' V^-1 x of every draw, by elimination; what V cannot tell apart from the groups before adds nothing."""
    total = np.zeros(variance.shape[-1])
    for g in range(len(excess)):
        known = variance[g, g] > 1e-10
        pivot = np.where(known, variance[g, g], 1.0)
        total += np.where(known, excess[g] ** 2 / pivot, 0.0)
        for h in range(g + 1, len(excess)):
            factor = np.where(known, variance[h, g] / pivot, 0.0)
            excess[h] = excess[h] - factor * excess[g]
            variance[h, g + 1 :] -= factor * variance[g, g + 1 :]
    return total
