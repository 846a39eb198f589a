"""Patients in groups: by their follow-up times, or by a marker's value. Each rule is named and says what it ignores."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mihc.errors import InputError
from mihc.estimates.records import FloatArray, check_choice, follow_up, numbers
from mihc.estimates.time_cuts import RULES, time_cut

RULE_WORDS = {
    "two_lines": "two unconnected lines",
    "broken_stick": "two lines that meet",
    "chord_above": "largest distance above the chord",
    "chord_either": "largest distance to the chord",
    "second_difference": "largest second difference",
    "largest_gap": "largest gap",
    "two_means": "two means",
}


@dataclass(frozen=True, eq=False)
class Split:
    """Groups and the cut that made them."""

    labels: NDArray[np.object_]  # "low" | "middle" | "high" | "unknown" | "" (missing), one per patient
    cuts: tuple[float, ...]  # in the unit of what was cut; empty if no split was possible
    n: int  # patients with a value
    n_low: int
    n_high: int
    n_unknown: int  # censored before the landmark
    n_censored_low: int  # censored patients counted as low by a rule that reads censored times as event times
    method: str
    note: str = ""

    @property
    def cut(self) -> float:
        """The only (or lowest) cut; NaN without one."""
        return self.cuts[0] if self.cuts else nan


def slope_change_split(
    time: ArrayLike, event: ArrayLike, *, method: str = "two_lines", min_share: float = 0.1
) -> Split:
    """Cut the sorted follow-up times where their slope changes.

    The times are sorted and two unconnected least-squares lines of time on rank are fitted for every admissible cut;
    the smallest residual wins, the first where several are equal. A cut leaves max(2, ceil(min_share n)) patients on
    each side and lies between two distinct times, at their middle. low = time <= cut.

    This reads censored times as event times: the cut follows the data cut-off, and a censored patient in the low group
    may outlive the cut. It is exploratory, and groups made of survival are never to be tested against survival.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`; the event only counts the censored patients in the low group.
    method : "two_lines", or another rule of `time_cuts` that cuts sorted times.

    Returns
    -------
    Split : without a cut (and with a note) if one straight line fits, or no cut is admissible.
    """
    check_choice(method, RULES, "method")
    times, events = follow_up(time, event)
    found = time_cut(times, events, method, min_share=min_share)
    words = f"slope change of the sorted times, {RULE_WORDS[method]}, censored times read as event times"
    if np.isnan(found.cut):
        return _no_split(times, words, found.note)
    return _by_time(times, events, found.cut, words)


def median_time_split(time: ArrayLike, event: ArrayLike) -> Split:
    """Cut follow-up at the median of the times, low = time <= median, censored times read as event times."""
    times, events = follow_up(time, event)
    words = "median of the times, censored times read as event times"
    if np.isnan(times).all():
        return _no_split(times, words, "no times")
    return _by_time(times, events, float(np.nanmedian(times)), words)


def landmark_split(time: ArrayLike, event: ArrayLike, at: float) -> Split:
    """Who had the event by `at` (low) and who was followed beyond it without one (high).

    Censored at or before `at` is "unknown": to be left out and counted. An event exactly at `at` is low.
    """
    times, events = follow_up(time, event)
    known = ~np.isnan(times) & ~np.isnan(events)
    late = known & (times > at)
    labels = np.full(len(times), "", dtype=object)
    labels[known & ~late & (events == 1)] = "low"
    labels[known & ~late & (events == 0)] = "unknown"
    labels[late] = "high"
    return _split(labels, (float(at),), f"landmark at {at:g}: event by then against followed beyond", events, False)


def _by_time(times: FloatArray, events: FloatArray, cut: float, words: str) -> Split:
    labels = np.full(len(times), "", dtype=object)
    labels[times <= cut] = "low"
    labels[times > cut] = "high"
    return _split(labels, (cut,), words, events, True)


def _split(labels: NDArray, cuts: tuple[float, ...], words: str, events: FloatArray | None, ignores: bool) -> Split:
    counts = {name: int((labels == name).sum()) for name in ("low", "middle", "high", "unknown")}
    censored = int(((labels == "low") & (events == 0)).sum()) if events is not None and ignores else 0
    note = "" if counts["low"] and counts["high"] else f"nobody is {'low' if counts['high'] else 'high'}"
    return Split(
        labels, cuts, sum(counts.values()), counts["low"], counts["high"], counts["unknown"], censored, words,
        note if sum(counts.values()) else "no values",
    )  # fmt: skip


def _no_split(values: FloatArray, words: str, why: str) -> Split:
    return Split(np.full(len(values), "", dtype=object), (), int((~np.isnan(values)).sum()), 0, 0, 0, 0, words, why)


def median_split(values: ArrayLike) -> Split:
    """Cut a marker at its median: low = value <= median, high = above."""
    return _by_value(numbers(values, "values"), (0.5,), "median")


def tertile_split(values: ArrayLike) -> Split:
    """Cut a marker at its tertiles (R's quantile type 7): low <= first < middle <= second < high."""
    return _by_value(numbers(values, "values"), (1 / 3, 2 / 3), "tertiles, quantile type 7")


def cut_split(values: ArrayLike, cut: float) -> Split:
    """Cut a marker at a found value, as maxstat's: low = value <= cut."""
    return _low_up_to(numbers(values, "values"), (float(cut),), f"cut at {cut:g}")


def given_split(values: ArrayLike, cut: float) -> Split:
    """Cut a marker at a clinical cut-off: high = value >= cut."""
    numeric = numbers(values, "values")
    if not np.isfinite(cut):
        raise InputError(f"a given cut must be a number; found {cut}")
    labels = np.full(len(numeric), "", dtype=object)
    labels[numeric < cut] = "low"
    labels[numeric >= cut] = "high"
    return _split(labels, (float(cut),), f"given cut-off, high >= {cut:g}", None, False)


def _by_value(values: FloatArray, shares: tuple[float, ...], words: str) -> Split:
    known = values[~np.isnan(values)]
    if not len(known):
        return _no_split(values, words, "no values")
    return _low_up_to(values, tuple(float(cut) for cut in np.quantile(known, shares)), words)


def _low_up_to(values: FloatArray, cuts: tuple[float, ...], words: str) -> Split:
    labels = np.full(len(values), "", dtype=object)
    labels[values > cuts[-1]] = "high"
    labels[values <= cuts[-1]] = "middle" if len(cuts) > 1 else "low"
    labels[values <= cuts[0]] = "low"
    return _split(labels, cuts, words, None, False)
