"""Where sorted follow-up times may be cut: every rule beside the others, and how far the cut moves by chance.

No rule is right: with a true effect they disagree on p <= 0.05 in half of all cohorts, so that whoever shows one shows
all. Every rule but the last two reads censored times as event times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, isnan, log, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mihc.errors import InputError
from mihc.estimates.records import FloatArray, check_choice, follow_up
from mihc.estimates.survival import joined_times, kaplan_meier

STRAIGHT = 1e-10  # residual / total sum of squares below which sorted times are one line
FEWEST_EVENTS = 3  # on each side of a change of the hazard
Score = Callable[[FloatArray, NDArray[np.int64]], FloatArray]  # sorted times, sizes k of the low group -> badness


@dataclass(frozen=True)
class TimeCut:
    """One rule's cut of follow-up times; low = time <= cut."""

    rule: str
    cut: float = nan  # in the unit of the times; NaN without one
    n: int = 0  # patients with a time
    n_low: int = 0
    n_high: int = 0
    n_unknown: int = 0  # censored up to the cut, for rules that do not count them as low
    n_censored_low: int = 0  # censored patients counted as low
    objective: float = nan  # what the rule made smallest (a residual sum of squares) or largest
    note: str = ""


@dataclass(frozen=True, eq=False)
class CutBootstrap:
    """A rule's cut in patients drawn again with replacement."""

    draws: int  # how many were asked for
    n_cut: int  # in how many of them the rule found a cut
    cut_low: float  # 95 % interval of the cut, percentiles
    cut_high: float
    n_low_low: float  # 95 % interval of how many of the patients would be low
    n_low_high: float
    switched: FloatArray  # (n,) share of the draws that put the patient on the other side; NaN without a time


def time_cuts(time: ArrayLike, event: ArrayLike, *, min_share: float = 0.1) -> tuple[TimeCut, ...]:
    """Every rule's cut of the same follow-up times, the rule of `slope_change_split` first.

    A cut leaves max(2, ceil(min_share n)) patients on each side (the median and the landmark-like rules excepted) and
    lies between two distinct times, at their middle; the first optimum wins. On a straight line there is none.

    two_lines : two unconnected least-squares lines of time on rank
    broken_stick : two lines that meet at the last patient of the low group
    chord_above, chord_either : largest vertical distance to the line from the first to the last point
    second_difference : largest second difference of the sorted times
    largest_gap : largest gap between neighbours
    two_means : smallest sum of squares within the groups, a change of level and not of slope
    median : of the times
    hazard_change : two constant hazards, by their likelihood; censored before the cut are unknown
    km_median : the Kaplan-Meier median; censored before it are unknown

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    """
    times, events = follow_up(time, event)
    found = [time_cut(times, events, rule, min_share=min_share) for rule in (*_SCORES, "median")]
    return (*found, _hazard_change(times, events, min_share), _km_median(times, events))


def time_cut(time: ArrayLike, event: ArrayLike, rule: str = "two_lines", *, min_share: float = 0.1) -> TimeCut:
    """One rule's cut that reads censored times as event times; rules and arguments as in `time_cuts`."""
    check_choice(rule, (*_SCORES, "median"), "rule")
    times, events = follow_up(time, event)
    ordered = np.sort(times[~np.isnan(times)])
    if rule == "median":
        cut = float(np.median(ordered)) if len(ordered) else nan
        note = (
            "" if len(ordered) and ordered[-1] > cut else "nobody is above the median" if len(ordered) else "no times"
        )
        return _counted(rule, cut if not note else nan, times, events, nan, note)
    sizes = admissible(ordered, min_share)
    if not len(sizes):
        note = "no cut leaves enough patients with distinct times on both sides"
        return _counted(rule, nan, times, events, nan, note)
    if _prefix_residuals(ordered)[-1] <= STRAIGHT * _total(ordered):
        note = "the sorted times lie on one straight line: no slope change"
        return _counted(rule, nan, times, events, nan, note)
    k, objective = _best(ordered, sizes, rule)
    return _counted(rule, float((ordered[k - 1] + ordered[k]) / 2), times, events, objective)


def bootstrap_cut(
    time: ArrayLike, event: ArrayLike, rule: str = "two_lines", *, min_share: float = 0.1, draws: int = 1000,
    seed: int = 1,
) -> CutBootstrap | None:  # fmt: skip
    """How far a rule's cut moves when the patients are drawn again, with replacement; None where it has no cut.

    The patients are sorted before they are drawn, so that their order changes nothing; a draw in which the rule finds
    no cut (few distinct times) counts for nothing.
    """
    if draws < 1:
        raise InputError(f"draws must be at least 1; found {draws}")
    check_choice(rule, tuple(_SCORES), "rule")
    times, events = follow_up(time, event)
    own = time_cut(times, events, rule, min_share=min_share).cut
    if isnan(own):
        return None
    ordered = np.sort(times[~np.isnan(times)])
    generator = np.random.default_rng(seed)
    drawn = np.sort(ordered[generator.integers(0, len(ordered), (draws, len(ordered)))], axis=1)
    cuts = np.array([cut for cut in (_cut_of(sample, rule, min_share) for sample in drawn) if not isnan(cut)])
    if not len(cuts):
        return None
    low, high = np.quantile(cuts, [0.025, 0.975])
    sizes = np.searchsorted(ordered, cuts, side="right")
    other = (times[:, None] <= cuts) != (times[:, None] <= own)
    return CutBootstrap(
        draws, len(cuts), float(low), float(high), *(float(end) for end in np.quantile(sizes, [0.025, 0.975])),
        switched=np.where(np.isnan(times), nan, other.mean(axis=1)),
    )  # fmt: skip


def admissible(ordered: FloatArray, min_share: float) -> NDArray[np.int64]:
    """Sizes of the low group that leave enough patients on both sides and cut between two distinct times."""
    smallest = max(2, ceil(min_share * len(ordered)))
    sizes = np.arange(smallest, len(ordered) - smallest + 1)
    return sizes[ordered[sizes - 1] < ordered[sizes]] if len(sizes) else sizes


def _cut_of(ordered: FloatArray, rule: str, min_share: float) -> float:
    sizes = admissible(ordered, min_share)
    if not len(sizes) or _prefix_residuals(ordered)[-1] <= STRAIGHT * _total(ordered):
        return nan
    k = _best(ordered, sizes, rule)[0]
    return float((ordered[k - 1] + ordered[k]) / 2)


def _best(ordered: FloatArray, sizes: NDArray[np.int64], rule: str) -> tuple[int, float]:
    """The first size of the smallest badness, equal but for rounding, and that badness."""
    badness = _SCORES[rule](ordered, sizes)
    scale = _total(ordered) if rule in SQUARES else float(np.ptp(ordered))
    place = int(np.argmax(badness <= badness.min() + 1e-12 * scale))
    return int(sizes[place]), float(badness[place] if rule in SQUARES else -badness[place])


def _counted(rule: str, cut: float, times: FloatArray, events: FloatArray, objective: float, note: str = "") -> TimeCut:
    low, high = times <= cut, times > cut
    censored = int((low & (events == 0)).sum())
    n = int((~np.isnan(times)).sum())
    return TimeCut(rule, cut, n, int(low.sum()), int(high.sum()), 0, censored, objective, note)


def _total(ordered: FloatArray) -> float:
    return float(((ordered - ordered.mean()) ** 2).sum())


def _prefix_residuals(y: FloatArray) -> FloatArray:
    """Residual sums of squares of the least-squares line of the first 1, 2, ... n values on their rank."""
    y = y - y.mean()
    n = np.arange(1, len(y) + 1, dtype=float)
    x = np.arange(len(y), dtype=float)
    Sy, Syy, Sxy = np.cumsum(y), np.cumsum(y**2), np.cumsum(x * y)
    mean_x = (n - 1) / 2
    Sxx = n * (n**2 - 1) / 12
    cross = Sxy - mean_x * Sy
    return np.maximum(0.0, Syy - Sy**2 / n - cross**2 / np.where(Sxx > 0, Sxx, 1.0))


def _two_lines(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    from_behind = _prefix_residuals(-y[::-1])[::-1]
    return _prefix_residuals(y)[sizes - 1] + from_behind[sizes]


def _broken_stick(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    """Least squares of 1, rank and what the rank is beyond k; the knot is the last patient of the low group."""
    hinges = _hinges(len(y))[:, sizes - 1]
    gained = (hinges * (y - y.mean())[:, None]).sum(axis=0) ** 2 / np.maximum((hinges**2).sum(axis=0), 1e-300)
    return np.maximum(0.0, _prefix_residuals(y)[-1] - gained)


@lru_cache(maxsize=16)
def _hinges(n: int) -> FloatArray:
    """max(rank - k, 0) for k = 1 ... n, less what a straight line in the rank explains of it; (n, n)."""
    rank = np.arange(1.0, n + 1)
    hinge = np.maximum(rank[:, None] - rank, 0.0)
    hinge -= hinge.mean(axis=0)
    line = rank - rank.mean()
    return hinge - line[:, None] * ((line[:, None] * hinge).sum(axis=0) / max((line**2).sum(), 1.0))


def _two_means(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    y = y - y.mean()
    total, left = np.cumsum(y**2)[-1], np.cumsum(y)[sizes - 1]
    return total - left**2 / sizes - left**2 / (len(y) - sizes)  # the whole sums to 0


def _over_chord(y: FloatArray) -> FloatArray:
    return y - np.linspace(y[0], y[-1], len(y))


def _chord_above(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    return -_over_chord(y)[sizes - 1]


def _chord_either(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    return -np.abs(_over_chord(y))[sizes - 1]


def _largest_gap(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    return -(y[sizes] - y[sizes - 1])


def _second_difference(y: FloatArray, sizes: NDArray[np.int64]) -> FloatArray:
    return -(y[sizes] - 2 * y[sizes - 1] + y[sizes - 2])


SQUARES = ("two_lines", "broken_stick", "two_means")  # rules whose badness is a sum of squares
_SCORES: dict[str, Score] = {
    "two_lines": _two_lines,
    "broken_stick": _broken_stick,
    "chord_above": _chord_above,
    "chord_either": _chord_either,
    "second_difference": _second_difference,
    "largest_gap": _largest_gap,
    "two_means": _two_means,
}
RULES = tuple(_SCORES)  # that cut sorted times where their course changes


def _hazard_change(times: FloatArray, events: FloatArray, min_share: float) -> TimeCut:
    """The event time at which a constant hazard changes, by the profile likelihood; `objective` is twice its gain."""
    known = ~np.isnan(times) & ~np.isnan(events)
    t, d = joined_times(times[known]), events[known]
    best, gain = nan, -np.inf
    for tau in np.unique(t[d == 1]):
        early = d[t <= tau].sum(), np.minimum(t, tau).sum()
        late = d[t > tau].sum(), np.maximum(t - tau, 0).sum()
        smallest = min((t <= tau).sum(), (t > tau).sum())
        if min(early[0], late[0]) < FEWEST_EVENTS or smallest < min_share * len(t):
            continue
        found = 2 * (sum(n * log(n / at_risk) for n, at_risk in (early, late)) - d.sum() * log(d.sum() / t.sum()))
        if found > gain + 1e-12:
            best, gain = float(tau), found
    if isnan(best):
        return TimeCut("hazard_change", n=int(known.sum()), note="no change leaves enough events on both sides")
    return _by_status("hazard_change", best, times, events, gain)


def _km_median(times: FloatArray, events: FloatArray) -> TimeCut:
    median = kaplan_meier(times, events).median()
    if isnan(median.estimate):
        return TimeCut("km_median", n=median.n, note="survival does not fall to one half")
    return _by_status("km_median", median.estimate, times, events, nan)


def _by_status(rule: str, cut: float, times: FloatArray, events: FloatArray, objective: float) -> TimeCut:
    """Low is who had the event by then; who was censored by then is unknown."""
    by_then = times <= cut
    low, unknown = (int((by_then & (events == status)).sum()) for status in (1, 0))
    high = int((times > cut).sum())
    return TimeCut(rule, float(cut), low + high + unknown, low, high, unknown, 0, objective)
