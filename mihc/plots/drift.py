"""A marker over all slides, batch by batch: where its negative cells lie, where its threshold, and what stands out.

Written by hand as SVG, like the other small pictures of the page: light, and drawn from a few numbers per slide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from mihc.plots.style import INK, QUIET, VERDICT_COLOURS, plain

HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 190.0, 22.0, 34.0, 46.0, 8.0
STEP, NARROWEST, WIDEST = 16.0, 300.0, 860.0  # px per slide; of the whole picture
BATCH_LABEL_PX = 6.2  # per letter
INTERVAL, PEAK = "#d0802b66", "#8a95a0"
DASHED = "3 1.5"  # a threshold that the batch lent


@dataclass(frozen=True)
class DriftPoint:
    """One slide's marker; counts, NaN where not known."""

    slide: str
    batch: str
    control: bool
    peak: float  # of the negative cells
    width: float
    value: float  # the threshold that was used; NaN where every cell is negative or none could be told
    low: float
    high: float
    own: float  # what the slide alone gave, where another was used; else NaN
    verdict: str
    remark: str  # in words; "" = nothing to say
    apart: bool  # whether its negative cells or its threshold stand apart from batch or control


def drift_svg(points: Sequence[DriftPoint], *, title: str) -> Markup:
    """Draw slides side by side on a log axis of counts, a gap and a line between batches.

    A dot with a whisker is the negative peak and its width, in a ring where it stands apart; the bar is the
    threshold with its interval: thick where a person typed it, dashed where it is the batch's, a thin grey bar what
    the slide alone gave. A question mark stands for "cannot tell". The dotted line is the batch's median peak.
    """
    batches = list(dict.fromkeys(point.batch for point in points))
    ordered = [point for batch in batches for point in points if point.batch == batch]
    slots = [index + batches.index(point.batch) for index, point in enumerate(ordered)]
    named = any(batches)
    height = HEIGHT if named else HEIGHT - 20
    width = float(np.clip(LEFT + RIGHT + STEP * (len(ordered) + len(batches)), NARROWEST, WIDEST))
    step = (width - LEFT - RIGHT) / max(1, len(ordered) + len(batches) - 1)
    x = [LEFT + step * (slot + 0.5) for slot in slots]
    place = _axis(ordered)
    parts = [_ticks(ordered, place, width)]
    for batch in batches:
        members = [(at, point) for at, point in zip(x, ordered) if point.batch == batch]
        parts.append(_batch(batch, members, place, step, named=named))
    parts += [_slide(point, at, min(step, STEP), place) for at, point in zip(x, ordered)]
    return Markup(
        '<svg class="drift" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" role="img" '
        'aria-label="{}" font-family="DejaVu Sans,Verdana,Arial,sans-serif" font-size="9">'
        '<text x="0" y="11" font-size="11" font-weight="bold" fill="{}">{}</text>{}</svg>'
    ).format(width, height, width, plain(title), INK, plain(title, 60), Markup("").join(parts))


def _axis(points: Sequence[DriftPoint]) -> Callable[[float], float]:
    """Counts -> y, linear near 0 and logarithmic above, over all that is drawn."""
    low, high = _span(points)
    bottom, top = np.arcsinh(low / _unit(low, high)), np.arcsinh(high / _unit(low, high))
    scale = (HEIGHT - TOP - BOTTOM) / max(float(top - bottom), 1e-9)
    return lambda counts: HEIGHT - BOTTOM - (float(np.arcsinh(counts / _unit(low, high))) - float(bottom)) * scale


def _span(points: Sequence[DriftPoint]) -> tuple[float, float]:
    drawn = [(p.peak - p.width, p.peak + p.width, p.value, p.low, p.high, p.own) for p in points]
    known = np.array(drawn, dtype=float).ravel()
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    spare = 0.04 * max(float(np.ptp(known)), 1.0)
    return float(known.min()) - spare, float(known.max()) + spare


def _unit(low: float, high: float) -> float:
    return max(abs(high), abs(low), 1e-9) / 100


def _ticks(points: Sequence[DriftPoint], place: Callable[[float], float], width: float) -> Markup:
    low, high = _span(points)
    unit = _unit(low, high)
    at = np.sinh(np.linspace(np.arcsinh(low / unit), np.arcsinh(high / unit), 4)) * unit
    return Markup("").join(
        Markup(
            '<path d="M{:.1f} {:.1f}H{:.1f}" stroke="#e3e8ec"/><text x="{:.1f}" y="{:.1f}" text-anchor="end" '
            'fill="{}">{}</text>'
        ).format(LEFT, place(value), width - RIGHT, LEFT - 5, place(value) + 3, QUIET, _short(float(value)))
        for value in at
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _batch(
    batch: str,
    members: Sequence[tuple[float, DriftPoint]],
    place: Callable[[float], float],
    step: float,
    *,
    named: bool,
) -> Markup:
    """The median peak over a batch's slides, its name below, and a line before it."""
    left, right = members[0][0] - step / 2, members[-1][0] + step / 2
    peaks = [point.peak for _, point in members if not point.control and np.isfinite(point.peak)]
    line = Markup("")
    if peaks:
        y = place(float(np.median(peaks)))
        line = Markup('<path d="M{:.1f} {:.1f}H{:.1f}" stroke="{}" stroke-dasharray="2 2"/>').format(
            left, y, right, QUIET
        )
    if not named:
        return line
    room = int(max(3, (right - left) / BATCH_LABEL_PX))
    name = batch or "no batch"
    label = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" fill="{}">{}<title>{}</title></text>').format(
        (left + right) / 2, HEIGHT - 8, INK, plain(name, room), plain(name)
    )
    rule = Markup('<path d="M{:.1f} {:.1f}H{:.1f}" stroke="{}"/>').format(left + 2, HEIGHT - 22, right - 2, QUIET)
    return line + rule + label


def _slide(point: DriftPoint, x: float, step: float, place: Callable[[float], float]) -> Markup:
    """One slide's marks, with all of it in words where the pointer rests."""
    half = step * 0.36
    marks = []
    if np.isfinite([point.low, point.high]).all():
        top, tall = place(point.high), max(1.0, place(point.low) - place(point.high))
        marks.append(
            Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"/>').format(
                x - half, top, 2 * half, tall, INTERVAL
            )
        )
    if np.isfinite(point.peak):
        colour = QUIET if point.control else PEAK
        marks.append(
            Markup(
                '<path d="M{:.1f} {:.1f}V{:.1f}" stroke="{}"/><circle cx="{:.1f}" cy="{:.1f}" r="2.6" fill="{}" '
                'stroke="{}"/>'
            ).format(
                x, place(point.peak - point.width), place(point.peak + point.width), colour,
                x, place(point.peak), "#ffffff" if point.control else colour, colour,
            )
        )  # fmt: skip
    if np.isfinite(point.own):
        marks.append(_bar(x, half, place(point.own), "#9aa5af", 1.2))
    if np.isfinite(point.value):
        thick, dashed = 3.0 if point.verdict == "manual" else 1.8, point.verdict == "harmonised"
        marks.append(_bar(x, half, place(point.value), INK, thick, DASHED if dashed else ""))
    if point.verdict == "cannot tell":
        marks.append(
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" font-size="10" fill="{}">?</text>').format(
                x, TOP + 8, VERDICT_COLOURS["warn"]
            )
        )
    if point.apart and np.isfinite(point.peak):
        marks.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5.5" fill="none" stroke="{}" stroke-width="1.5"/>').format(
                x, place(point.peak), VERDICT_COLOURS["fail"]
            )
        )
    told = [f"{point.slide}{' (control)' if point.control else ''}: {point.verdict}", point.remark]
    words = Markup("<title>{}</title>").format(plain("; ".join(filter(None, told))))
    return Markup("<g>{}{}</g>").format(words, Markup("").join(marks))


def _bar(x: float, half: float, y: float, colour: str, thick: float, dashes: str = "") -> Markup:
    dashed = Markup(' stroke-dasharray="{}"').format(dashes) if dashes else ""
    return Markup('<path d="M{:.1f} {:.1f}H{:.1f}" stroke="{}" stroke-width="{:.1f}"{}/>').format(
        x - half, y, x + half, colour, thick, dashed
    )
