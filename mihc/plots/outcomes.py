"""Figures over patients: grouped box plots, survival curves, forest plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mihc.plots.style import GRID, GROUP_COLOURS, INK, QUIET, headline, look, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SurvivalGroup:
    """The follow-up of one group of patients."""

    label: str
    time: np.ndarray  # (n,) float, in the endpoint's unit
    event: np.ndarray  # (n,) 1 = event, 0 = censored


@dataclass(frozen=True)
class ForestRow:
    """One estimate with its interval, on a ratio scale."""

    label: str
    estimate: float
    ci_low: float
    ci_high: float
    text: str  # what stands at the right: "0.45 (0.30–0.68)  p = 0.0002"
    marked: bool = False  # True: stands after adjustment, drawn in bold


def box_plot(
    groups: dict[str, np.ndarray], *, title: str, y_label: str, test: str = "", log_scale: bool = False
) -> Figure:
    """Grouped box plots, every patient a dot.

    Parameters
    ----------
    groups : dict of label to (n,) float
        Values of each group's patients; NaN are left out and so not in the n under the label.
    title, y_label, test : str
        `test` names the test and its p value and stands under the title.
    log_scale : bool
        True: a symmetric-log axis, for densities over several decades.

    Notes
    -----
    Boxes are type-7 quartiles (R's and numpy's default), whiskers the last patient within 1.5 interquartile
    ranges. A group of fewer than 4 patients has dots and a median only. Dots are spread by rank, not by chance.
    """
    with look():
        figure = new_figure(1.0 + 1.15 * max(3, len(groups)), 3.7)
        axes = figure.subplots()
        for position, (_label, values) in enumerate(groups.items()):
            known = np.asarray(values, dtype=float)
            _one_box(axes, position, known[np.isfinite(known)], GROUP_COLOURS[position % len(GROUP_COLOURS)])
        if log_scale:
            axes.set_yscale("symlog", linthresh=1.0)
        axes.set_xticks(range(len(groups)), [_with_n(label, values) for label, values in groups.items()])
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylabel(plain(y_label, 60))
        axes.grid(axis="y")
        axes.tick_params(length=0)
        headline(axes, title, test)
    return figure


def _with_n(label: str, values: np.ndarray) -> str:
    return f"{plain(label, 24)}\nn = {int(np.isfinite(np.asarray(values, dtype=float)).sum())}"


def _one_box(axes: Axes, position: int, values: np.ndarray, colour: str) -> None:
    from mihc.statistics import box_numbers

    if not len(values):
        return
    if len(values) >= 4:
        box = box_numbers(values)
        stats = {
            "med": box.median,
            "q1": box.quartile_low,
            "q3": box.quartile_high,
            "whislo": box.whisker_low,
            "whishi": box.whisker_high,
            "fliers": [],
        }
        line = {"color": colour, "linewidth": 1.2}
        axes.bxp(
            [stats],
            positions=[position],
            widths=0.5,
            patch_artist=True,
            showfliers=False,
            manage_ticks=False,
            boxprops={"facecolor": colour + "26", "edgecolor": colour, "linewidth": 1.2},
            medianprops={"color": colour, "linewidth": 2.4},
            whiskerprops=line,
            capprops={"linewidth": 0},
        )
    else:
        axes.hlines(np.median(values), position - 0.25, position + 0.25, color=colour, linewidth=2.4)
    dots = np.sort(values)
    axes.scatter(position + _spread(dots), dots, s=15, color=colour, edgecolor="white", linewidth=0.5, zorder=3)


def _spread(ordered: np.ndarray) -> np.ndarray:
    """Sideways places of dots, so that neighbours in value stand apart: the same places every time."""
    golden = 0.6180339887498949
    return ((np.arange(len(ordered)) * golden) % 1.0 - 0.5) * 0.34


def survival_plot(groups: Sequence[SurvivalGroup], *, title: str, x_label: str, y_label: str, test: str = "") -> Figure:
    """Kaplan-Meier curves with log-log 95 % bands, ticks where patients are censored and the numbers at risk below.

    Parameters
    ----------
    groups : sequence of SurvivalGroup
        One curve each; an empty group is named in the legend with n = 0 and has no curve.
    test : str
        Names the test and its p value under the title.
    """
    with look():
        figure = new_figure(5.2, 3.5 + 0.2 * len(groups))
        ratio = [1.0, 0.085 * (len(groups) + 1)]
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=ratio)
        for group, colour in zip(groups, GROUP_COLOURS * len(groups), strict=False):
            _one_curve(axes, group, colour)
        end = max((float(np.max(group.time)) for group in groups if len(group.time)), default=1.0)
        axes.set_xlim(0, end * 1.03)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _position: f"{100 * value:.0f} %")
        axes.set_ylabel(plain(y_label, 40))
        axes.grid(axis="y")
        axes.tick_params(length=3)
        axes.legend(loc="best", fontsize=8, handlelength=1.4)
        headline(axes, title, test)
        _risk_table(below, groups, x_label)
    return figure


def _one_curve(axes: Axes, group: SurvivalGroup, colour: str) -> None:
    from mihc.statistics import kaplan_meier

    events = int(np.sum(group.event))
    label = f"{plain(group.label, 34)} (n = {len(group.time)}, {events} events)"
    if not len(group.time):
        axes.plot([], [], color=colour, label=label)
        return
    curve = kaplan_meier(group.time, group.event)
    time, survival = (np.concatenate([[0.0 if k == 0 else 1.0], v]) for k, v in enumerate((curve.time, curve.survival)))
    low, high = (np.concatenate([[1.0], _carried(limit)]) for limit in (curve.ci_low, curve.ci_high))
    axes.fill_between(time, low, high, step="post", color=colour, alpha=0.13, linewidth=0)
    axes.plot(time, survival, drawstyle="steps-post", color=colour, linewidth=1.8, label=label)
    censored = np.asarray(group.time, dtype=float)[np.asarray(group.event) == 0]
    heights = survival[np.searchsorted(time, censored + 1.5e-8, side="right") - 1]
    axes.plot(censored, heights, "|", color=colour, markersize=6, markeredgewidth=1.1)


def _carried(limit: np.ndarray) -> np.ndarray:
    """A limit with its undefined ends (before the first event, at survival 0) drawn as the last defined one."""
    shown, last = np.array(limit, dtype=float), 1.0
    for index, value in enumerate(shown):
        last = value if np.isfinite(value) else last
        shown[index] = last
    return shown


def _risk_table(axes: Axes, groups: Sequence[SurvivalGroup], x_label: str) -> None:
    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= axes.get_xlim()[1]]
    axes.set_ylim(len(groups) - 0.4, -1.0)
    axes.text(0, 1.0, "At risk", transform=axes.transAxes, fontsize=8, color=QUIET, va="top")
    for row, group in enumerate(groups):
        colour = GROUP_COLOURS[row % len(GROUP_COLOURS)]
        for tick in ticks:
            at_risk = int(np.sum(np.asarray(group.time, dtype=float) >= tick - 1.5e-8))
            axes.text(tick, row, str(at_risk), ha="center", va="center", fontsize=8, color=colour)
    axes.set_yticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelbottom=True)
    axes.set_xlabel(plain(x_label, 60))


def forest_plot(rows: Sequence[ForestRow], *, title: str, x_label: str, note: str = "") -> Figure:
    """Estimates and intervals on a log axis, the line of no effect at 1; rows top to bottom as given.

    A row whose estimate or interval is not finite keeps its label and text and has no mark; an interval that leaves the
    axis ends in an arrow. `note` stands under the title.
    """
    with look():
        figure = new_figure(7.6, 1.25 + 0.27 * max(1, len(rows)))
        axes = figure.subplots()
        low, high = _forest_range(rows)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.axvline(1.0, color=QUIET, linewidth=0.9)
        for place, row in enumerate(rows):
            _forest_mark(axes, place, row, low, high)
        axes.set_yticks(range(len(rows)), [plain(row.label, 52) for row in rows], fontsize=8)
        axes.tick_params(axis="y", length=0)
        _forest_ticks(axes, low, high)
        axes.set_xlabel(plain(x_label, 90))
        axes.spines["left"].set_visible(False)
        headline(axes, title, note)
    return figure


def _forest_range(rows: Sequence[ForestRow]) -> tuple[float, float]:
    ends = np.array([value for row in rows for value in (row.estimate, row.ci_low, row.ci_high)], dtype=float)
    ends = np.abs(np.log(ends[np.isfinite(ends) & (ends > 0)]))
    reach = float(np.clip(ends.max() if len(ends) else 1.0, np.log(2.0), np.log(20.0))) * 1.08
    return float(np.exp(-reach)), float(np.exp(reach))


def _forest_mark(axes: Axes, place: int, row: ForestRow, low: float, high: float) -> None:
    colour, weight = (INK, "bold") if row.marked else (QUIET, "normal")
    axes.text(
        1.02, place, plain(row.text, 60), transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK,
        fontweight=weight,
    )  # fmt: skip
    if place % 2:
        axes.axhspan(place - 0.5, place + 0.5, color=GRID, alpha=0.35, linewidth=0)
    if not np.isfinite([row.estimate, row.ci_low, row.ci_high]).all() or row.estimate <= 0:
        return
    left, right = max(row.ci_low, low), min(row.ci_high, high)
    axes.plot([left, right], [place, place], color=colour, linewidth=2.4 if row.marked else 1.3, solid_capstyle="butt")
    if row.ci_low < low:
        axes.plot(low * 1.02, place, marker="<", color=colour, markersize=4)
    if row.ci_high > high:
        axes.plot(high / 1.02, place, marker=">", color=colour, markersize=4)
    axes.plot(row.estimate, place, marker="s", color=colour, markersize=5.5, clip_on=True)


def _forest_ticks(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import NullLocator

    ticks = [tick for tick in (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
