"""Loops that fit one or two peaks to a histogram of cells.

A fit has eight entries: the logit of the upper peak's share; middle and log SD of the lower peak's core in X; mean and
log SD of the upper peak, which is normal in y = log(X + shift); and the lower peak's shape. The shape is, by kind:
CLEAN and DRIFTING, a normal core, the latter spread over DRIFT: logit of the part of the cells that have an exponential
more, log of its length in SDs of the core; SHADES, two normal peaks: logit of the brighter one's part, log of their
distance, log of their SDs' ratio, or in LIT_SHADES logit of the cells with a tail; LOG and ROOT, normal in the
logarithm or (as a gamma distribution is, nearly: Wilson and Hilferty 1931) the cube root: logit of the part with a
tail, log of the core's skew, log of the tail's length in SDs of the core; the tail is an exponential, or a broad one of
two lengths in LOG_BROAD and ROOT_BROAD. `edges` are those between bins in X, `log_edges` in y; the first bin holds all
that lies below, the last all above.
"""

from __future__ import annotations

import math

import numpy as np

from mihc.kernels import compiled

FLOOR = 3e-4  # share of the cells that belong to no peak: debris, evenly over the bins
CLEAN, DRIFTING, SHADES, LIT_SHADES, LOG, ROOT, LOG_BROAD, ROOT_BROAD = range(8)  # kinds of lower peaks
DRIFT = 3.0  # SDs of the core over which a background drifts
SHADE_SPREAD = 0.08  # by how much the brighter of two shades is wider, per SD between them
SHADE_TAIL = 2.0  # length of the tail of two shades, in SDs
SHORT, LONG = 0.6, 2.0  # lengths of the two halves of a broad tail, over the one that is fitted
# Near the negatives the light of positive cells varies by this share of its mean at least, on top of the background:
# that tells them from a second shade of tissue. Where no shade lies, beyond FAR SDs, they may be as narrow as the rest.
VARIATION, NEAR, FAR = 0.25, 3.0, 4.5
WIDEST = 1.0  # SD of the upper peak in y
NUDGE = 1e-4  # for the slopes
# What the shape's three entries usually are, for each kind, how far from it they usually lie, and their limits.
_TAILED = ((-3.0, -0.9, 0.7), (1.0, 1.2, 0.7), (-9.0, -5.0, -0.7), (0.0, 0.2, 1.6))
_PLAIN = ((-2.0, 0.7, -3.0), (2.0, 0.7, 1.5), (-9.0, -0.7, -9.0), (9.0, 1.6, 0.0))
_SHADED = ((0.0, 0.8, 0.1), (1.5, 0.3, 0.2), (-9.0, 0.0, -0.5), (9.0, 1.25, 0.5))
_LIT = ((0.0, 0.8, -3.0), (1.5, 0.3, 1.5), (-9.0, 0.0, -9.0), (9.0, 1.25, 0.0))
USUAL, SPREAD, LEAST, MOST = zip(_PLAIN, _PLAIN, _SHADED, _LIT, _TAILED, _TAILED, _TAILED, _TAILED)


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
def _core_moments(skew: float, kind: int) -> tuple[float, float]:
    """(mean, SD) of a log-normal or a cube-root normal core over its median, in its unit."""
    if kind in (ROOT, ROOT_BROAD):
        w = skew / 3
        return w, math.sqrt(1 + 4 * w * w + 5 / 3 * w**4)
    square = skew * skew
    return math.expm1(square / 2) / skew, math.sqrt(math.exp(square) * math.expm1(square)) / skew


@compiled
def lower_moments(fit: np.ndarray, kind: int) -> tuple[float, float]:
    """(mean, SD) of the lower peak in X."""
    sd = math.exp(fit[2])
    share, length = 1 / (1 + math.exp(-fit[5])), math.exp(fit[6])
    if kind >= LOG:
        core, core_sd = _core_moments(length, kind)
        tail, square = math.exp(fit[7]) * core_sd, 2.0
        if kind >= LOG_BROAD:
            square = SHORT * SHORT + LONG * LONG
            square, tail = square * tail * tail, tail * (SHORT + LONG) / 2
        else:
            square *= tail * tail
        more = share * tail
        return fit[1] + sd * (core + more), sd * math.sqrt(core_sd * core_sd + share * square - more * more)
    if kind == SHADES:
        spread = 1 - share + share * math.exp(2 * fit[7]) + share * (1 - share) * length * length
        return fit[1] + sd * share * length, sd * math.sqrt(spread)
    if kind == LIT_SHADES:
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
def _core_below(x: float, skew: float, kind: int) -> float:
    """Share of a log-normal or a cube-root normal core below x, in its unit."""
    inside = 1 + skew * x
    if kind in (ROOT, ROOT_BROAD):
        root = math.copysign(math.exp(math.log(max(abs(inside), 1e-30)) / 3), inside)
        return _normal(3 * (root - 1) / skew)
    return _normal(math.log(inside) / skew) if inside > 1e-9 else 0.0


@compiled
def _skewed_below(x: float, part: float, skew: float, tail: float, kind: int) -> float:
    """Share of a skewed lower peak below x, in the unit of its core; cells with a tail have a normal core."""
    core = _core_below(x, skew, kind)
    if part < 1e-3:
        return core
    mean, sd = _core_moments(skew, kind)
    at = (x - mean) / sd
    if kind < LOG_BROAD:
        return (1 - part) * core + part * _tailed(at, tail)
    return (1 - part) * core + part * 0.5 * (_tailed(at, SHORT * tail) + _tailed(at, LONG * tail))


@compiled
def _below(x: float, part: float, length: float, tailed: float, kind: int) -> float:
    """Share of a lower peak with a normal core below x, in SDs of that core; `tailed` is the last entry's meaning."""
    if kind == SHADES:
        return (1 - part) * _normal(x) + part * _normal((x - length) / tailed)
    if kind == LIT_SHADES:
        bright = (x - length) / (1 + SHADE_SPREAD * length)
        plain = (1 - part) * _normal(x) + part * _normal(bright)
        if tailed < 1e-3:
            return plain
        lit = (1 - part) * _tailed(x, SHADE_TAIL) + part * _tailed(bright, SHADE_TAIL)
        return (1 - tailed) * plain + tailed * lit
    if kind == CLEAN:
        return (1 - part) * _normal(x) + (part * _tailed(x, length) if part > 1e-3 else 0.0)
    found = 0.0
    for k in range(4):
        at = x + DRIFT * (k - 1.5) / 4
        found += 0.25 * ((1 - part) * _normal(at) + (part * _tailed(at, length) if part > 1e-3 else 0.0))
    return found


@compiled
def _fill_lower(fit: np.ndarray, kind: int, edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (bins,) with the probabilities of the lower peak."""
    part, length, sd, before = 1 / (1 + math.exp(-fit[5])), math.exp(fit[6]), math.exp(fit[2]), 0.0
    tailed = math.exp(fit[7]) if kind >= LOG or kind == SHADES else 1 / (1 + math.exp(-fit[7]))
    for b in range(len(out)):
        after = 1.0
        if b + 1 < len(out):
            x = (edges[b] - fit[1]) / sd
            if kind >= LOG:
                after = _skewed_below(x, part, length, tailed, kind)
            else:
                after = _below(x, part, length, tailed, kind)
        out[b] = max(after - before, 0.0)
        before = after


@compiled
def _glow(fit: np.ndarray, kind: int) -> tuple[float, float, float]:
    """Autofluorescence: part of the cells that have it, and mean and variance of its light in X."""
    sd = math.exp(fit[2])
    if kind == SHADES:
        return 0.0, 0.0, 0.0
    if kind == LIT_SHADES:
        return 1 / (1 + math.exp(-fit[7])), SHADE_TAIL * sd, (SHADE_TAIL * sd) ** 2
    part = 1 / (1 + math.exp(-fit[5]))
    if kind < LOG:
        length = math.exp(fit[6]) * sd
        return part, length, length * length
    _, core_sd = _core_moments(math.exp(fit[6]), kind)
    length = math.exp(fit[7]) * core_sd * sd
    if kind < LOG_BROAD:
        return part, length, length * length
    mean = (SHORT + LONG) / 2 * length
    return part, mean, (SHORT * SHORT + LONG * LONG) * length * length - mean * mean


@compiled
def _fill_upper(fit: np.ndarray, kind: int, log_edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (bins,) with the probabilities of the upper peak; as many of its cells glow as of the negatives.

    What glows too is again normal in y, with the sums of both lights' means and variances.
    """
    sd, before = math.exp(fit[4]), 0.0
    part, more, spread = _glow(fit, kind)
    mean = math.exp(fit[3] + sd * sd / 2)
    lit = mean + more
    lit_sd = math.sqrt(math.log1p((mean * mean * math.expm1(sd * sd) + spread) / (lit * lit)))
    middle = math.log(lit) - lit_sd * lit_sd / 2
    for b in range(len(out)):
        after = 1.0
        if b + 1 < len(out):
            after = _normal((log_edges[b] - fit[3]) / sd)
            if part > 1e-3:
                after += part * (_normal((log_edges[b] - middle) / lit_sd) - after)
        out[b] = after - before
        before = after


@compiled
def _mix(share: float, out: np.ndarray) -> None:
    """Fill out[2] with the probabilities of both peaks together."""
    for b in range(out.shape[1]):
        out[2, b] = (1 - FLOOR) * ((1 - share) * out[0, b] + share * out[1, b]) + FLOOR / out.shape[1]


@compiled
def expect(fit: np.ndarray, kind: int, edges: np.ndarray, log_edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (3, bins) with the probabilities of the lower peak, the upper one and both together."""
    _fill_lower(fit, kind, edges, out[0])
    _fill_upper(fit, kind, log_edges, out[1])
    _mix(1 / (1 + math.exp(-fit[0])), out)


@compiled
def bound(fit: np.ndarray, shift: float, kind: int, nearest: float) -> None:
    """Keep the upper peak `nearest` SDs above the lower one and about as wide: its cells have the background too."""
    fit[0] = min(max(fit[0], -12.0), 6.0)
    fit[1] = min(max(fit[1], -10.0), 1e6)
    fit[2] = min(max(fit[2], -3.0), 14.0)
    for k in range(3):
        fit[5 + k] = min(max(fit[5 + k], LEAST[kind][k]), MOST[kind][k])
    mean, sd = lower_moments(fit, kind)
    lowest = math.log(max(mean + nearest * sd + shift, 1e-3))
    fit[3] = min(max(fit[3], lowest), 25.0)
    away = max((math.exp(fit[3]) - shift - mean) / sd, 0.0)
    part, more, spread = _glow(fit, kind)  # the positives have it as well, so that it makes them no wider here
    core = math.sqrt(max(sd * sd - part * (spread + more * more) + part * part * more * more, 0.25 * sd * sd))
    varies = VARIATION * away * min(max((FAR - away) / (FAR - NEAR), 0.0), 1.0)
    narrowest = 0.5 * math.log(core * core + varies * varies * sd * sd) - fit[3]
    fit[4] = min(max(fit[4], narrowest), WIDEST)


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
def _slope(
    fit: np.ndarray,
    entry: int,
    kind: int,
    edges: np.ndarray,
    log_edges: np.ndarray,
    here: np.ndarray,
    there: np.ndarray,
    trial: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill out (bins,) with the slope of both peaks' probabilities along one entry; `there` and `trial` are room."""
    share = 1 / (1 + math.exp(-fit[0]))
    if entry == 0:
        for b in range(len(out)):
            out[b] = (1 - FLOOR) * share * (1 - share) * (here[1, b] - here[0, b])
        return
    trial[:] = fit
    trial[entry] += NUDGE
    which, part = (1, share) if entry == 3 or entry == 4 else (0, 1 - share)
    if which == 1:
        _fill_upper(trial, kind, log_edges, there[1])
    else:
        _fill_lower(trial, kind, edges, there[0])
    for b in range(len(out)):
        out[b] = (1 - FLOOR) * part * (there[which, b] - here[which, b]) / NUDGE


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
            _slope(fit, free[i], kind, edges, log_edges, here, there, trial, slopes[i])
            for b in range(bins):
                slopes[i, b] *= total
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
