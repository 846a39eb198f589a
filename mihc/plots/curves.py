"""Curves of robustness: one result under every choice, and without each patient. Small vector pictures for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from mihc.associations.rows import LEVEL
from mihc.plots.style import DOWN_COLOUR, GRID, INK, QUIET, UP_COLOUR, plain

WIDTH, LEFT, RIGHT = 720.0, 150.0, 8.0
TALL, ROW = 130.0, 13.0
LEAST_P = 1e-6  # smaller ones are drawn as this


@dataclass(frozen=True)
class Point:
    """One analysis or one patient left out."""

    p: float
    direction: int  # 1: more of it goes with longer time or is more in the first group; -1: the opposite; 0: none
    told: str  # what stands where the pointer rests
    choices: tuple[tuple[str, str], ...] = ()  # (kind of choice, what was chosen)
    marked: bool = False  # the analysis that was reported


def signed_strength(p: float, direction: int) -> float:
    """-log10 p with the sign of the direction: 0 = nothing, beyond ±1.3 = p below 0.05."""
    return -np.log10(max(p, LEAST_P)) * (direction or 1)


def choice_curve(points: Sequence[Point], *, title: str) -> Markup:
    """Draw a specification curve: every analysis by its signed strength, and below it what was chosen for each.

    Simonsohn, Simmons, Nelson: Specification curve analysis. Nature Human Behaviour 4, 2020. A choice that all
    analyses share has no row. The reported analysis is a ring.
    """
    ordered = sorted(points, key=lambda one: signed_strength(one.p, one.direction))
    kinds: dict[str, list[str]] = {}
    for one in ordered:
        for kind, choice in one.choices:
            if choice not in kinds.setdefault(kind, []):
                kinds[kind].append(choice)
    rows = [(kind, choice) for kind, found in kinds.items() if len(found) > 1 for choice in sorted(found)]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(ordered))
    x = LEFT + step * (np.arange(len(ordered)) + 0.5)
    parts = [_strengths(ordered, x)]
    for place, (kind, choice) in enumerate(rows):
        y = TALL + 18 + ROW * place
        at = [position for position, one in zip(x, ordered) if (kind, choice) in one.choices]
        ticks = "".join(f"M{position:.1f} {y - 4:.1f}v7" for position in at)
        parts.append(
            Markup(
                '<text x="{:g}" y="{:.1f}" text-anchor="end" fill="{}">{}<title>{}</title></text>'
                '<path d="{}" stroke="{}" stroke-width="{:.1f}"/>'
            ).format(LEFT - 8, y + 3, INK, plain(f"{kind}: {choice}", 24), plain(f"{kind}: {choice}"), ticks, QUIET,
                     float(np.clip(step * 0.7, 0.4, 3.0)))
        )  # fmt: skip
    return _picture(TALL + 20 + ROW * len(rows), title, parts)


def left_out_curve(points: Sequence[Point], *, title: str) -> Markup:
    """Draw the strength without each patient in turn, the weakest first; a patient is told where the pointer rests."""
    ordered = sorted(points, key=lambda one: signed_strength(one.p, one.direction))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(ordered))
    return _picture(TALL + 10, title, [_strengths(ordered, LEFT + step * (np.arange(len(ordered)) + 0.5))])


def _strengths(ordered: Sequence[Point], x: np.ndarray) -> Markup:
    """The dots over a zone of p above 0.05, with the axis and its words."""
    strengths = np.array([signed_strength(one.p, one.direction) for one in ordered])
    reach = max(2.0, float(np.abs(strengths).max()) * 1.1)
    low, high = (-reach if (strengths < 0).any() else -0.2), (reach if (strengths > 0).any() else 0.2)
    zero = -np.log10(LEVEL)

    def y(strength: float) -> float:
        return 8 + (high - min(max(strength, low), high)) / (high - low) * (TALL - 8)

    parts = [
        Markup('<rect x="{:g}" y="{:.1f}" width="{:g}" height="{:.1f}" fill="{}"/>').format(
            LEFT, y(zero), WIDTH - LEFT - RIGHT, y(-zero) - y(zero), GRID
        )
    ]
    for at in (0.05, 0.001):
        for sign in (1, -1):
            place = sign * -np.log10(at)
            if low <= place <= high:
                parts.append(
                    Markup('<text x="{:g}" y="{:.1f}" text-anchor="end" fill="{}">p = {:g} {}</text>').format(
                        LEFT - 8, y(place) + 3, QUIET, at, "▲" if sign > 0 else "▼"
                    )
                )
    radius = float(np.clip(160 / max(1, len(ordered)), 1.3, 3.2))
    for one, position, strength in zip(ordered, x, strengths):
        colour = UP_COLOUR if one.direction >= 0 else DOWN_COLOUR
        inside = colour if one.p < LEVEL else "#ffffff"
        ring = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6" fill="none" stroke="{}"/>').format(
            position, y(strength), INK
        )
        dot = Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" stroke="{}"><title>{}</title></circle>'
        ).format(position, y(strength), radius, inside, colour, plain(one.told))
        parts.append(ring + dot if one.marked else dot)
    return Markup("").join(parts)


def _picture(height: float, title: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="curve" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:g} {:.0f}" role="img" aria-label="{}" '
        'font-family="DejaVu Sans,Verdana,Arial,sans-serif" font-size="9">{}</svg>'
    ).format(WIDTH, height, plain(title), Markup("").join(parts))
