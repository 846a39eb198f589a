"""Root finding: Brent's method with his own stopping rule, which R's `uniroot` follows.

A rank statistic is a step function of the shift, and may be zero over a whole interval; which point of it is reported
depends on the path of the search. To report R's point we walk R's path. (R. P. Brent: Algorithms for Minimization
without Derivatives, 1973, chapter 4.)
"""

from __future__ import annotations

from collections.abc import Callable

MACHINE_STEP = 2.220446049250313e-16


def root_between(f: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-10) -> float:
    """Where the falling f crosses zero in [low, high]; `low` if it is already <= 0 there, `high` if still >= 0."""
    at_low, at_high = f(low), f(high)
    if at_low <= 0:
        return low
    if at_high >= 0:
        return high
    old, f_old, best, f_best = low, at_low, high, at_high
    other, f_other = old, f_old  # the root lies between best and other
    for _ in range(1000):
        last_step = best - old
        if abs(f_other) < abs(f_best):
            old, best, other = best, other, best
            f_old, f_best, f_other = f_best, f_other, f_best
        enough = 2 * MACHINE_STEP * abs(best) + tolerance / 2
        step = (other - best) / 2
        if abs(step) <= enough or f_best == 0:
            break
        if abs(last_step) >= enough and abs(f_old) > abs(f_best):
            step = _interpolated(old, best, other, f_old, f_best, f_other, last_step, enough, step)
        if abs(step) < enough:
            step = enough if step > 0 else -enough
        old, f_old = best, f_best
        best += step
        f_best = f(best)
        if (f_best > 0) == (f_other > 0) and f_best != 0:
            other, f_other = old, f_old
    return best


def _interpolated(
    old: float, best: float, other: float, f_old: float, f_best: float, f_other: float,
    last_step: float, enough: float, bisection: float,
) -> float:  # fmt: skip
    """The secant or inverse quadratic step if it stays well inside the bracket, else the bisection step."""
    width = other - best
    ratio = f_best / f_old
    if old == other:
        p, q = width * ratio, 1 - ratio
    else:
        s, r = f_old / f_other, f_best / f_other
        p = ratio * (width * s * (s - r) - (best - old) * (r - 1))
        q = (s - 1) * (r - 1) * (ratio - 1)
    p, q = (p, -q) if p > 0 else (-p, q)
    inside = p < 0.75 * width * q - abs(enough * q) / 2 and p < abs(last_step * q / 2)
    return p / q if inside else bisection
