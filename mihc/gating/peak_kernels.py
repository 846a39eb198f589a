"""Loops that fit one or two peaks to a histogram of cells.

A positive cell is a negative one with an antibody's light on it: the upper peak is the lower one's distribution
convolved with that of the light. A fit has eight entries: the logit of the upper peak's share; middle and log SD of the
lower peak's core in X; log of the light's mean in X and of its SD over that mean; and the lower peak's shape. The light
is, by its kind, LOG_LIGHT (log-normal), GAMMA_LIGHT (its cube root is normal: Wilson and Hilferty 1931) or
NORMAL_LIGHT. The shape is, by kind of the lower peak: CLEAN and DRIFTING, a normal core, the latter spread over DRIFT:
logit of the part of the cells that have an exponential more, log of its length in SDs of the core; SHADES, two normal
peaks: logit of the brighter one's part, log of their distance, log of their SDs' ratio, or in LIT_SHADES logit of the
cells with a tail; LOG and ROOT, normal in the logarithm or the cube root: logit of the part with a tail, log of the
core's skew, log of the tail's length in SDs of the core; the tail is an exponential, or a broad one of two lengths in
LOG_BROAD and ROOT_BROAD. `edges` are those between bins in X; the first bin holds all that lies below, the last all
above.
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
LOG_LIGHT, GAMMA_LIGHT, NORMAL_LIGHT = range(3)  # kinds of the positives' light
# Near the negatives the light of positive cells varies by this share of its mean at least: that tells them from a
# second shade of tissue. Where no shade lies, beyond FAR SDs, they may be nearly as narrow as the rest.
VARIATION, NEAR, FAR = 0.25, 3.0, 4.5
SMOOTH = 0.3  # SDs of the negatives: the light varies by so much at least
WIDEST, WIDEST_NORMAL = 0.2, -0.8  # log of the light's SD over its mean, at most
USUAL_VARIATION, VARIATION_SPREAD = -0.92, 0.35  # of that logarithm: 0.4, and from 0.28 to 0.57 in two of three markers
PLAIN_SLABS, TAIL_SLABS = 14, (0.0, 0.4, 0.9, 1.6, 2.6, 4.2)  # of the lower peak; the latter in lengths of its tail
LAST_SLAB = 5.4  # where the cells above the last of these lie, in lengths
MOST_GLOW = 0.8  # SDs of the core: what autofluorescence in some cells adds to the mean of all, at most
REACH = 4.5  # SDs of the light, beyond which there is none
SHARELESS = -12.0  # logit of the upper peak's share at which there is none
LEAST_PART = 1e-3  # fewer cells with a tail are none
NUDGE = 1e-4  # for the slopes
TRIES = 8  # of a step, each shorter or with fewer entries
TABLE_REACH, TABLE_STEPS = 6, 200  # of a standard normal's shares: SDs to both sides, and steps in an SD
SQRT_TAU, ENDS = math.sqrt(2 * math.pi), TABLE_REACH * TABLE_STEPS
BELOW = np.array([0.5 * math.erfc(-k / TABLE_STEPS * 0.5**0.5) for k in range(-ENDS, ENDS + 1)])
# What the shape's three entries usually are, for each kind, how far from it they usually lie, and their limits.
_TAILED = ((-3.0, -0.9, 0.7), (1.0, 1.2, 0.7), (-9.0, -5.0, -0.7), (0.0, 0.2, 1.6))
_PLAIN = ((-2.0, 0.7, -3.0), (2.0, 0.7, 1.5), (-9.0, -0.7, -9.0), (9.0, 1.6, 0.0))
_SHADED = ((0.0, 0.8, 0.1), (1.5, 0.3, 0.2), (-9.0, 0.0, -0.5), (9.0, 1.25, 0.3))
_LIT = ((0.0, 0.8, -3.0), (1.5, 0.3, 1.5), (-9.0, 0.0, -9.0), (9.0, 1.25, 0.0))
USUAL, SPREAD, LEAST, MOST = zip(_PLAIN, _PLAIN, _SHADED, _LIT, _TAILED, _TAILED, _TAILED, _TAILED)


@compiled
def _normal(x: float) -> float:
    """Share of a standard normal below x, to a millionth, from a table."""
    at = (x + TABLE_REACH) * TABLE_STEPS
    if at <= 0:
        return 0.0
    k = int(at)
    if k >= len(BELOW) - 1:
        return 1.0
    return BELOW[k] + (at - k) * (BELOW[k + 1] - BELOW[k])


@compiled
def _tailed(x: float, tail: float) -> float:
    """Share below x of a standard normal plus an exponential of mean `tail`."""
    if x < -TABLE_REACH:
        return 0.0
    z = 1 / tail - x
    if z < TABLE_REACH:
        return _normal(x) - math.exp(0.5 / (tail * tail) - x / tail) * _normal(-z)
    square = 1 / (z * z)  # below the table: Mills' ratio, of which these terms are right to a ten-thousandth
    mills = (1 - square * (1 - square * (3 - 15 * square))) / z
    return max(_normal(x) - math.exp(-0.5 * x * x) / SQRT_TAU * mills, 0.0)


@compiled
def _part(logit: float) -> float:
    """Part of the cells that have a tail."""
    part = 1 / (1 + math.exp(-logit))
    return part if part > LEAST_PART else 0.0


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
    share, length = _part(fit[5]), math.exp(fit[6])
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
        wider, tailed = 1 + SHADE_SPREAD * length, _part(fit[7])
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
    if part == 0:
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
        if tailed == 0:
            return plain
        lit = (1 - part) * _tailed(x, SHADE_TAIL) + part * _tailed(bright, SHADE_TAIL)
        return (1 - tailed) * plain + tailed * lit
    if kind == CLEAN:
        return (1 - part) * _normal(x) + (part * _tailed(x, length) if part else 0.0)
    found = 0.0
    for k in range(4):
        at = x + DRIFT * (k - 1.5) / 4
        found += 0.25 * ((1 - part) * _normal(at) + (part * _tailed(at, length) if part else 0.0))
    return found


@compiled
def _lower_below(x: float, fit: np.ndarray, kind: int) -> float:
    """Share of the lower peak below x, in SDs of its core."""
    if kind >= LOG:
        return _skewed_below(x, _part(fit[5]), math.exp(fit[6]), math.exp(fit[7]), kind)
    tailed = math.exp(fit[7]) if kind == SHADES else _part(fit[7])
    return _below(x, _part(fit[5]), math.exp(fit[6]), tailed, kind)


@compiled
def _fill_lower(fit: np.ndarray, kind: int, edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (bins,) with the probabilities of the lower peak."""
    sd, before = math.exp(fit[2]), 0.0
    for b in range(len(out)):
        after = _lower_below((edges[b] - fit[1]) / sd, fit, kind) if b + 1 < len(out) else 1.0
        out[b] = max(after - before, 0.0)
        before = after


@compiled
def _span(fit: np.ndarray, kind: int) -> tuple[float, float, float]:
    """Where the lower peak lies but for its tail: from, to, and the tail's length, all in SDs of its core."""
    length = math.exp(fit[6])
    if kind == CLEAN:
        return -3.5, 3.5, length
    if kind == DRIFTING:
        return -3 - DRIFT / 2, 3 + DRIFT / 2, length
    if kind == SHADES:
        ratio = math.exp(fit[7])
        return min(-3.3, length - 3.3 * ratio), max(3.3, length + 3.3 * ratio), 0.5
    if kind == LIT_SHADES:
        return -3.3, length + 3.3 * (1 + SHADE_SPREAD * length), SHADE_TAIL
    _, core_sd = _core_moments(length, kind)
    tail = math.exp(fit[7]) * core_sd * (LONG if kind >= LOG_BROAD else 1.0)
    if kind in (ROOT, ROOT_BROAD):
        return ((1 - 1.1 * length) ** 3 - 1) / length, ((1 + 1.1 * length) ** 3 - 1) / length, tail
    return math.expm1(-3.3 * length) / length, math.expm1(3.3 * length) / length, tail


@compiled
def _fill_slabs(fit: np.ndarray, kind: int, places: np.ndarray, masses: np.ndarray) -> None:
    """Cut the lower peak into slabs: fill `places` (slabs,) with their middles in X and `masses` with their shares."""
    sd, before = math.exp(fit[2]), 0.0
    start, stop, tail = _span(fit, kind)
    width, above = (stop - start) / PLAIN_SLABS, start
    for k in range(len(places)):
        below = above
        if k < PLAIN_SLABS:
            above = start + (k + 1) * width
        elif k + 1 < len(places):
            above = stop + tail * TAIL_SLABS[k - PLAIN_SLABS + 1]
        after = _lower_below(above, fit, kind) if k + 1 < len(places) else 1.0
        middle = (below + above) / 2 if k + 1 < len(places) else stop + tail * LAST_SLAB
        places[k], masses[k] = fit[1] + sd * middle, max(after - before, 0.0)
        before = after


@compiled
def _light_below(x: float, mean: float, varies: float, light: int) -> float:
    """Share of light below x: of this mean, and SD over mean."""
    if light == NORMAL_LIGHT:
        return _normal((x / mean - 1) / varies)
    if x <= 0:
        return 0.0
    if light == GAMMA_LIGHT:
        return _normal((math.exp(math.log(x / mean) / 3) - 1 + varies * varies / 9) * 3 / varies)
    square = math.log1p(varies * varies)
    return _normal((math.log(x / mean) + square / 2) / math.sqrt(square))


@compiled
def _light_ends(mean: float, varies: float, light: int) -> tuple[float, float]:
    """Between what values all light lies."""
    if light == NORMAL_LIGHT:
        return mean * (1 - REACH * varies), mean * (1 + REACH * varies)
    if light == GAMMA_LIGHT:
        middle = 1 - varies * varies / 9
        return mean * max(middle - REACH * varies / 3, 0.0) ** 3, mean * (middle + REACH * varies / 3) ** 3
    square = math.log1p(varies * varies)
    sd = math.sqrt(square)
    return mean * math.exp(-square / 2 - REACH * sd), mean * math.exp(-square / 2 + REACH * sd)


@compiled
def _fill_upper(fit: np.ndarray, kind: int, light: int, edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (bins,) with the probabilities of the upper peak: every slab of the lower one with light on it."""
    out[:] = 0.0
    if fit[0] <= SHARELESS:
        return
    slabs = PLAIN_SLABS + len(TAIL_SLABS)
    places, masses = np.empty(slabs), np.empty(slabs)
    _fill_slabs(fit, kind, places, masses)
    mean, varies = math.exp(fit[3]), math.exp(fit[4])
    least, most = _light_ends(mean, varies, light)
    for k in range(slabs):
        if masses[k] < 1e-7:
            continue
        b, before = np.searchsorted(edges, places[k] + least), 0.0
        while b < len(edges) and edges[b] < places[k] + most:
            after = _light_below(edges[b] - places[k], mean, varies, light)
            out[b] += masses[k] * (after - before)
            before = after
            b += 1
        out[b] += masses[k] * (1 - before)


@compiled
def _mix(share: float, out: np.ndarray) -> None:
    """Fill out[2] with the probabilities of both peaks together."""
    for b in range(out.shape[1]):
        out[2, b] = (1 - FLOOR) * ((1 - share) * out[0, b] + share * out[1, b]) + FLOOR / out.shape[1]


@compiled
def expect(fit: np.ndarray, kind: int, light: int, edges: np.ndarray, out: np.ndarray) -> None:
    """Fill out (3, bins) with the probabilities of the lower peak, the upper one and both together."""
    _fill_lower(fit, kind, edges, out[0])
    _fill_upper(fit, kind, light, edges, out[1])
    _mix(1 / (1 + math.exp(-fit[0])), out)


@compiled
def bound(fit: np.ndarray, kind: int, light: int, nearest: float) -> None:
    """Keep the light `nearest` SDs of the negatives bright, and neither too even nor too uneven."""
    fit[0] = min(max(fit[0], SHARELESS), 6.0)
    fit[1] = min(max(fit[1], -10.0), 1e6)
    fit[2] = min(max(fit[2], -3.0), 14.0)
    for k in range(3):
        fit[5 + k] = min(max(fit[5 + k], LEAST[kind][k]), MOST[kind][k])
    if kind >= LOG or (kind in (CLEAN, DRIFTING) and fit[5] < MOST[kind][0]):
        length = 6 if kind < LOG else 7
        fit[length] = min(fit[length], math.log(MOST_GLOW * (1 + math.exp(-fit[5]))))
    _, sd = lower_moments(fit, kind)
    fit[3] = min(max(fit[3], math.log(nearest * sd)), 25.0)
    away = math.exp(fit[3]) / sd
    varies = VARIATION * min(max((FAR - away) / (FAR - NEAR), 0.0), 1.0)
    widest = WIDEST_NORMAL if light == NORMAL_LIGHT else WIDEST
    fit[4] = min(max(fit[4], math.log(max(varies, SMOOTH / away))), widest)


@compiled
def _usual(entry: int, kind: int) -> tuple[float, float]:
    """What an entry of a fit usually is, and how far from it it usually lies; for places and shares all is usual."""
    if entry == 4:
        return USUAL_VARIATION, VARIATION_SPREAD
    if entry > 4:
        return USUAL[kind][entry - 5], SPREAD[kind][entry - 5]
    return 0.0, math.inf


@compiled
def _misfit(
    probability: np.ndarray, fit: np.ndarray, free: np.ndarray, kind: int, counts: np.ndarray, weights: np.ndarray
) -> float:
    """Half the weighted deviance of the counts, and what shape and light are away from the usual ones."""
    found, total = 0.0, counts.sum()
    for i in free:
        usual, spread = _usual(i, kind)
        found += 0.5 * ((fit[i] - usual) / spread) ** 2
    for b in range(len(counts)):
        m = total * probability[2, b]
        term = m - counts[b]
        if counts[b] > 0:
            term += counts[b] * math.log(counts[b] / m)
        found += weights[b] * term
    return found


@compiled
def _slope(
    fit: np.ndarray, entry: int, kind: int, light: int, edges: np.ndarray, here: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """(bins,) slope of both peaks' probabilities along one entry; `here` are those of the fit, `there` is room."""
    share, was = 1 / (1 + math.exp(-fit[0])), fit[entry]
    if entry == 0:
        return (1 - FLOOR) * share * (1 - share) * (here[1] - here[0])
    fit[entry] += NUDGE
    _fill_upper(fit, kind, light, edges, there[1])
    if entry in (3, 4):
        there[0] = here[0]
    else:
        _fill_lower(fit, kind, edges, there[0])
    fit[entry] = was
    return (1 - FLOOR) * ((1 - share) * (there[0] - here[0]) + share * (there[1] - here[1])) / NUDGE


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
def _normal_equations(
    expected: np.ndarray, counts: np.ndarray, weights: np.ndarray, slopes: np.ndarray, a: np.ndarray, g: np.ndarray
) -> None:
    """Fill a (free, free) and g (free,) with the equations of one step of scoring; `slopes` (free, bins) in cells."""
    a[:], g[:] = 0.0, 0.0
    for b in range(len(counts)):
        pull, weight = weights[b] * (1 - counts[b] / expected[b]), weights[b] / expected[b]
        for i in range(len(g)):
            g[i] -= pull * slopes[i, b]
            for j in range(i + 1):
                a[i, j] += weight * slopes[i, b] * slopes[j, b]
    for i in range(len(g)):
        for j in range(i):
            a[j, i] = a[i, j]


@compiled
def improve(
    fit: np.ndarray,
    free: np.ndarray,
    kind: int,
    light: int,
    nearest: float,
    edges: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    rounds: int,
) -> float:
    """Improve the fit's free entries in place by damped scoring; the misfit (half the weighted deviance)."""
    bins, total, n = len(counts), counts.sum(), len(free)
    here, there = np.empty((3, bins)), np.empty((3, bins))
    slopes, trial = np.empty((n, bins)), np.empty(8)
    stuck = np.zeros(n, np.bool_)
    normal, towards, a, step = np.empty((n, n)), np.empty(n), np.empty((n, n)), np.empty(n)
    bound(fit, kind, light, nearest)
    expect(fit, kind, light, edges, here)
    best, damping = _misfit(here, fit, free, kind, counts, weights), 1e-2
    for _ in range(rounds):
        for i in range(n):
            slopes[i] = total * _slope(fit, free[i], kind, light, edges, here, there)
        _normal_equations(total * here[2], counts, weights, slopes, normal, towards)
        for i in range(n):
            usual, spread = _usual(free[i], kind)
            towards[i] -= (fit[free[i]] - usual) / spread**2
            normal[i, i] += 1 / spread**2
        gained = 0.0
        stuck[:] = False
        for _ in range(TRIES):
            a[:], step[:] = normal, towards
            for i in range(n):
                if stuck[i]:
                    a[i, :], a[:, i], step[i] = 0.0, 0.0, 0.0
                a[i, i] = a[i, i] * (1 + damping) + 1e-9
            _solve(a, step, n)
            trial[:] = fit
            for i in range(n):
                trial[free[i]] += min(max(step[i], -1.0), 1.0)
            bound(trial, kind, light, nearest)
            expect(trial, kind, light, edges, there)
            found = _misfit(there, trial, free, kind, counts, weights)
            if found < best:
                gained, best = best - found, found
                fit[:] = trial
                here[:] = there
                damping = max(damping / 5, 1e-4)
                break
            more = False
            for i in range(n):
                if not stuck[i] and step[i] != 0 and trial[free[i]] == fit[free[i]]:
                    stuck[i] = more = True  # at its limit: the others move without it
            if not more:
                damping *= 8
        if gained < 1e-3:
            break
    return best
