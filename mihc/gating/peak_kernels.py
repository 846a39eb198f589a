"""Loops that fit one or two peaks to a histogram of cells.

A fit has eight entries: the logit of the upper peak's share; middle and log SD of the lower peak's core in X; mean and
log SD of the upper peak, which is normal in y = log(X + shift); and the lower peak's shape: logit of a part of its
cells, log of a length in SDs of the core, logit of the cells with a tail. By kind: CLEAN and DRIFTING, a normal core,
the latter spread over DRIFT, with an exponential of that length more in that part of the cells; SHADES, two normal
peaks that length apart, the brighter one that part, and a tail in some cells; SKEWED, log-normal, the length being
its skew. `edges` are those between bins in X, `log_edges` in y; the first bin holds all that lies below, the last all
above.
"""

from __future__ import annotations

import math

import numpy as np

from mihc.kernels import compiled

FLOOR = 3e-4  # share of the cells that belong to no peak: debris, evenly over the bins
CLEAN, DRIFTING, SHADES, SKEWED = range(4)  # kinds of lower peaks
DRIFT = 3.0  # SDs of the core over which a background drifts
SHADE_SPREAD = 0.08  # by how much the brighter of two shades is wider, per SD between them
SHADE_TAIL = 2.0  # length of the tail of two shades, in SDs
# The light of positive cells varies by this share of its mean at least (asked as of peaks FAR SDs apart at most).
VARIATION, FAR = 0.25, 4.0
NUDGE = 1e-4  # for the slopes
# What the shape's three entries usually are, for each kind, and how far from it they usually lie.
USUAL = ((-2.0, 0.7, -3.0), (-2.0, 0.7, -3.0), (0.0, 0.8, -3.0), (0.0, -0.9, -3.0))
SPREAD = ((2.0, 0.7, 1.5), (2.0, 0.7, 1.5), (1.5, 0.3, 1.5), (1.0, 0.7, 1.5))
# Limits of the log length, for each kind.
SHORTEST, LONGEST = (-0.7, -0.7, 0.0, -2.5), (1.6, 1.6, 1.25, 0.2)


@compiled
def _normal(x: float) -> float:
    """Share of a standard normal below x."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@compiled
def _tailed(x: float, tail: float) -> float:
    """Share below x of a standard normal plus an exponential of mean `tail`."""
    if x < -6:
        return 0.0
    return _normal(x) - math.exp(0.5 / (tail * tail) - x / tail) * _normal(x - 1 / tail)


@compiled
def lower_moments(fit: np.ndarray, kind: int) -> tuple[float, float]:
    """(mean, SD) of the lower peak in X."""
    sd = math.exp(fit[2])
    share, length = 1 / (1 + math.exp(-fit[5])), math.exp(fit[6])
    if kind == SKEWED:
        square = length * length
        spread = math.exp(square) * math.expm1(square) / square
        return fit[1] + sd * math.expm1(square / 2) / length, sd * math.sqrt(spread)
    if kind == SHADES:
        wider, tailed = 1 + SHADE_SPREAD * length, 1 / (1 + math.exp(-fit[7]))
        more, mass = tailed * SHADE_TAIL, 1 - share + share * wider
        spread = 1 - share + share * wider * wider + share * (1 - share) * length * length
        spread += mass * mass * (2 * tailed * SHADE_TAIL * SHADE_TAIL - more * more)
        return fit[1] + sd * (share * length + mass * more), sd * math.sqrt(spread)
    more = share * length
    spread = 1 + 2 * share * length * length - more * more
    if kind == DRIFTING:
        spread += DRIFT * DRIFT / 12
    return fit[1] + sd * more, sd * math.sqrt(spread)


@compiled
def _below(x: float, part: float, length: float, tailed: float, kind: int) -> float:
    """Share of the lower peak below x, in SDs of its core."""
    if kind == SKEWED:
        inside = 1 + length * x
        return _normal(math.log(inside) / length) if inside > 1e-9 else 0.0
    if kind == SHADES:
        bright = (x - length) / (1 + SHADE_SPREAD * length)
        plain = (1 - part) * _normal(x) + part * _normal(bright)
        if tailed < 1e-3:
            return plain
        lit = (1 - part) * _tailed(x, SHADE_TAIL) + part * _tailed(bright, SHADE_TAIL)
        return (1 - tailed) * plain + tailed * lit
    if kind == CLEAN:
        return (1 - part) * _normal(x) + part * _tailed(x, length)
    found = 0.0
    for k in range(4):
        at = x + DRIFT * (k - 1.5) / 4
        found += 0.25 * ((1 - part) * _normal(at) + part * _tailed(at, length))
    return found


@compiled
def expect(fit: np.ndarray, kind: int, edges: np.ndarray, log_edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (3, bins) with the probabilities of the lower peak, the upper one and both together."""
    bins = out.shape[1]
    share, part, length = 1 / (1 + math.exp(-fit[0])), 1 / (1 + math.exp(-fit[5])), math.exp(fit[6])
    tailed = 1 / (1 + math.exp(-fit[7]))
    sd, upper_sd = math.exp(fit[2]), math.exp(fit[4])
    before, upper_before = 0.0, 0.0
    for b in range(bins):
        after, upper_after = 1.0, 1.0
        if b + 1 < bins:
            after = _below((edges[b] - fit[1]) / sd, part, length, tailed, kind)
            upper_after = _normal((log_edges[b] - fit[3]) / upper_sd)
        out[0, b], out[1, b] = max(after - before, 0.0), upper_after - upper_before
        out[2, b] = (1 - FLOOR) * ((1 - share) * out[0, b] + share * out[1, b]) + FLOOR / bins
        before, upper_before = after, upper_after


@compiled
def bound(fit: np.ndarray, shift: float, kind: int, nearest: float) -> None:
    """Keep the upper peak `nearest` SDs above the lower one and wider: its cells have the background too."""
    fit[0] = min(max(fit[0], -12.0), 6.0)
    fit[1] = min(max(fit[1], -10.0), 1e6)
    fit[2] = min(max(fit[2], -3.0), 14.0)
    fit[5] = min(max(fit[5], -9.0), 9.0)
    fit[7] = min(max(fit[7], -9.0), 0.0)
    fit[6] = min(max(fit[6], SHORTEST[kind]), LONGEST[kind])
    mean, sd = lower_moments(fit, kind)
    lowest = math.log(max(mean + nearest * sd + shift, 1e-3))
    fit[3] = min(max(fit[3], lowest), 25.0)
    away = min(max((math.exp(fit[3]) - shift - mean) / sd, 0.0), FAR)
    narrowest = math.log(sd) + 0.5 * math.log1p((VARIATION * away) ** 2) - fit[3]
    fit[4] = min(max(fit[4], narrowest), 1.0)


@compiled
def _misfit(
    probability: np.ndarray,
    fit: np.ndarray,
    free: np.ndarray,
    kind: int,
    counts: np.ndarray,
    weights: np.ndarray,
    total: float,
) -> float:
    """Half the weighted deviance of the counts, and what the shape is away from the usual one."""
    found = 0.0
    for i in free:
        if i >= 5:
            away = (fit[i] - USUAL[kind][i - 5]) / SPREAD[kind][i - 5]
            found += 0.5 * away * away
    for b in range(len(counts)):
        m = total * probability[2, b]
        term = m - counts[b]
        if counts[b] > 0:
            term += counts[b] * math.log(counts[b] / m)
        found += weights[b] * term
    return found


@compiled
def _solve(a: np.ndarray, g: np.ndarray, n: int) -> None:
    """Solve the n x n positive definite system in place of g, without pivoting."""
    for i in range(n):
        for j in range(i + 1, n):
            factor = a[j, i] / a[i, i]
            for k in range(i, n):
                a[j, k] -= factor * a[i, k]
            g[j] -= factor * g[i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            g[i] -= a[i, k] * g[k]
        g[i] /= a[i, i]


@compiled
def improve(
    fit: np.ndarray,
    free: np.ndarray,
    shift: float,
    kind: int,
    nearest: float,
    edges: np.ndarray,
    log_edges: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    rounds: int,
) -> float:
    """Improve the fit's free entries in place by damped scoring; the misfit (half the weighted deviance)."""
    bins, total, n = len(counts), counts.sum(), len(free)
    here, there = np.empty((3, bins)), np.empty((3, bins))
    slopes, trial = np.empty((n, bins)), np.empty(8)
    a, step = np.empty((n, n)), np.empty(n)
    bound(fit, shift, kind, nearest)
    expect(fit, kind, edges, log_edges, here)
    best, damping = _misfit(here, fit, free, kind, counts, weights, total), 1e-2
    for _ in range(rounds):
        for i in range(n):
            trial[:] = fit
            trial[free[i]] += NUDGE
            expect(trial, kind, edges, log_edges, there)
            for b in range(bins):
                slopes[i, b] = total * (there[2, b] - here[2, b]) / NUDGE
        gained = 0.0
        for _ in range(6):
            for i in range(n):
                step[i] = 0.0
                for b in range(bins):
                    step[i] -= weights[b] * (1 - counts[b] / (total * here[2, b])) * slopes[i, b]
                for j in range(n):
                    a[i, j] = 0.0
                    for b in range(bins):
                        a[i, j] += weights[b] * slopes[i, b] * slopes[j, b] / (total * here[2, b])
            for i in range(n):
                if free[i] >= 5:
                    k = free[i] - 5
                    step[i] -= (fit[5 + k] - USUAL[kind][k]) / (SPREAD[kind][k] * SPREAD[kind][k])
                    a[i, i] += 1 / (SPREAD[kind][k] * SPREAD[kind][k])
                a[i, i] = a[i, i] * (1 + damping) + 1e-9
            _solve(a, step, n)
            trial[:] = fit
            for i in range(n):
                trial[free[i]] += min(max(step[i], -1.0), 1.0)
            bound(trial, shift, kind, nearest)
            expect(trial, kind, edges, log_edges, there)
            found = _misfit(there, trial, free, kind, counts, weights, total)
            if found < best:
                gained, best = best - found, found
                fit[:] = trial
                here[:] = there
                damping = max(damping / 5, 1e-4)
                break
            damping *= 8
        if gained < 1e-3:
            break
    return best
