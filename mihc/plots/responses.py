"""Figures of responses, a patient each: waterfall of best changes, spider of changes in time, swimmer of follow-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mihc.plots.style import GROUP_COLOURS, INK, QUIET, headline, look, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROWTH_PERCENT, SHRINKING_PERCENT = 20.0, -30.0  # RECIST 1.1: progression and partial response of target lesions
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")  # categories differ without colour too
MARKERS = ("o", "s", "^", "D", "v", "P")
INCHES_PER_PATIENT = 0.19
INCHES_PER_NAME = 0.105  # of a spider's patients, at its right


@dataclass(frozen=True)
class Course:
    """What is known of one patient's response; NaN where it is not."""

    patient: str
    category: str  # the best response as it is written, "" = none
    best_change: float  # percent of the size at the start
    changes: tuple[tuple[float, float], ...]  # (time, percent), known ones only
    start: float  # time of the first response
    time: float  # end of follow-up for the endpoint that ends a response
    event: float  # 1 = it ended by that event, 0 = it goes on


def waterfall_plot(courses: Sequence[Course], *, title: str) -> Figure:
    """Best change of every patient who has one, from growth to loss; colour and hatch tell the best response."""
    known = sorted((c for c in courses if np.isfinite(c.best_change)), key=lambda c: (-c.best_change, c.patient))
    kinds = _kinds(courses)
    with look():
        figure = new_figure(max(4.6, 1.6 + INCHES_PER_PATIENT * len(known)), 3.9)
        axes = figure.subplots()
        for place, course in enumerate(known):
            colour, number = kinds[course.category]
            axes.bar(place, course.best_change, width=0.82, facecolor=colour, edgecolor="white", linewidth=0.4,
                     hatch=HATCHES[number % len(HATCHES)])  # fmt: skip
            if course.best_change == 0:
                axes.plot(place, 0, marker="_", color=colour, markersize=7)
        for level in (GROWTH_PERCENT, SHRINKING_PERCENT):
            axes.axhline(level, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(range(len(known)), [plain(course.patient, 16) for course in known], rotation=90, fontsize=7)
        axes.set_xlim(-0.7, len(known) - 0.3)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("best change of size (%)")
        axes.grid(axis="y")
        _legend(axes, {course.category for course in known}, kinds, patches=True)
        headline(axes, title, f"n = {len(known)}; dashed: {GROWTH_PERCENT:+.0f} % and {SHRINKING_PERCENT:+.0f} %")
    return figure


def spider_plot(courses: Sequence[Course], *, title: str, unit: str) -> Figure:
    """Change of size in time, a line per patient from 0 at the start; the patient is named at the line's end."""
    known = [course for course in courses if course.changes]
    kinds = _kinds(courses)
    with look():
        figure = new_figure(6.4, max(4.4, 1.3 + INCHES_PER_NAME * len(known)))
        axes = figure.subplots()
        ends = []
        for course in known:
            colour, number = kinds[course.category]
            points = np.array([(0.0, 0.0), *sorted(course.changes)])
            axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=1.1, marker=MARKERS[number % len(MARKERS)],
                      markersize=3.2, markeredgecolor="white", markeredgewidth=0.3)  # fmt: skip
            ends.append((points[-1, 1], points[-1, 0], course.patient, colour))
        for level in (GROWTH_PERCENT, SHRINKING_PERCENT):
            axes.axhline(level, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(f"time from the start of follow-up ({plain(unit, 20)})")
        axes.set_ylabel("change of size (%)")
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        _name_ends(axes, ends, room=max(40, len(known)))
        _legend(axes, {course.category for course in known}, kinds, patches=False)
        headline(axes, title, f"n = {len(known)}; dashed: {GROWTH_PERCENT:+.0f} % and {SHRINKING_PERCENT:+.0f} %")
    return figure


def swimmer_plot(courses: Sequence[Course], *, title: str, unit: str, until: str) -> Figure:
    """Follow-up of every patient as a bar, longest on top: first response, the event that ends it, or an arrow."""
    known = sorted((c for c in courses if np.isfinite(c.time)), key=lambda c: (c.time, c.patient))
    kinds = _kinds(courses)
    with look():
        figure = new_figure(6.6, max(2.6, 1.5 + INCHES_PER_PATIENT * len(known)))
        axes = figure.subplots()
        longest = max((course.time for course in known), default=1.0)
        for place, course in enumerate(known):
            colour, number = kinds[course.category]
            axes.barh(place, course.time, height=0.72, facecolor=colour, alpha=0.75, edgecolor="white", linewidth=0.4,
                      hatch=HATCHES[number % len(HATCHES)])  # fmt: skip
            if course.event == 1:
                axes.plot(course.time, place, marker="X", color=INK, markersize=5.5, linestyle="")
            else:
                axes.annotate(
                    "", (course.time + 0.035 * longest, place), (course.time, place),
                    arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0},
                )  # fmt: skip
            if np.isfinite(course.start):
                axes.plot(course.start, place, marker="^", markersize=5.5, markerfacecolor="white",
                          markeredgecolor=INK, linestyle="")  # fmt: skip
        axes.set_yticks(range(len(known)), [plain(course.patient, 16) for course in known], fontsize=7)
        axes.set_ylim(-0.7, len(known) - 0.3)
        axes.set_xlim(0, 1.06 * longest)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"time from the start of follow-up ({plain(unit, 20)})")
        axes.grid(axis="x")
        signs = [_sign("^", "first response", "white"), _sign("X", f"{plain(until, 20)} event", INK)]
        signs.append(_sign(">", "still followed", INK))
        _legend(axes, {course.category for course in known}, kinds, patches=True, more=signs)
        headline(axes, title, f"n = {len(known)}")
    return figure


def _kinds(courses: Sequence[Course]) -> dict[str, tuple[str, int]]:
    """category -> colour and number; in one order for all figures, "" last and grey."""
    order = ("CR", "PR", "SD", "PD", "NE")
    found = sorted(
        {course.category for course in courses} - {""},
        key=lambda category: (order.index(category) if category in order else len(order), category),
    )
    kinds = {category: (GROUP_COLOURS[n % len(GROUP_COLOURS)], n) for n, category in enumerate(found)}
    return kinds | {"": (QUIET, 0)}


def _name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], *, room: int) -> None:
    """The patients' names at the right, in the order of their last changes, so far apart that `room` of them fit."""
    ordered = sorted(ends)
    low, high = axes.get_ylim()
    heights = np.array([end[0] for end in ordered], dtype=float)
    step = (high - low) / room
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + step)
    heights -= max(0.0, heights[-1] - high) if len(heights) else 0.0
    for height, (change, time, patient, colour) in zip(heights, ordered):
        axes.annotate(
            plain(patient, 16), xy=(time, change), xytext=(1.03, height), textcoords=axes.get_yaxis_transform(),
            va="center", fontsize=6.5, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "alpha": 0.6, "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip


def _sign(marker: str, label: str, face: str) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, color=INK, markerfacecolor=face, markersize=5.5, linestyle="", label=label)


def _legend(
    axes: Axes, shown: set[str], kinds: dict[str, tuple[str, int]], *, patches: bool, more: Sequence[object] = ()
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = []
    for category, (colour, number) in kinds.items():
        if category in shown:
            label = plain(category, 20) or "not recorded"
            if patches:
                handles.append(Patch(facecolor=colour, edgecolor="white", hatch=HATCHES[number % 6], label=label))
            else:
                handles.append(Line2D([], [], color=colour, marker=MARKERS[number % 6], markersize=4, label=label))
    axes.figure.legend(
        handles=[*handles, *more], loc="outside lower left", ncols=5, fontsize=7.5, handlelength=1.6, columnspacing=1.2
    )
