"""What the cells of one slide and marker say: one peak or two, what share is positive, and what else is plausible."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mihc.gating.histogram import Histogram
from mihc.gating.peaks import LOWERS, Fit, Fitter, Lower

# A fit is plausible whose log-likelihood is at most this below the best one's: 95 % of a chi-square of 1 degree.
PLAUSIBLE = 2.3
CONVINCING = 2.3  # gain in log-likelihood from which two peaks are believed: 10 to 1
CLOSE_SDS = 1.8  # positives so near are no finding, but neither is a slide negative that may have them
CLEAR_SDS = 3.0  # from here on a peak is a population that a slide called negative must not have
MAJORITY = 0.55  # of the cells: positives that are so many must lie behind a valley
# Positives further away than this, of so clear a gain, have a valley where the fit dips to this part of its lower side.
FAR_SDS, SURE, BOTTOM = 8.0, 10.0, 0.3
UNEXPLAINED = (1.3, 3.0)  # deviance over degrees of freedom that a formula may have, plus so many of its SDs
SHALLOWEST, CHANCE_SDS = 0.75, 3.0  # a valley's bottom over its lower side, and how far it must lie below it
SMOOTH_BINS = 1.5  # SD of the smoothing in which valleys are looked for
HOPELESS = (3.0, 50.0)  # times and plus: sketches that explain the cells so much worse are not finished
CLOSE_TRIED, CLOSE_SHARE = 14, 0.03  # sketches that are tried as close positives, and the least share that matters
CLOSE_MOST = 0.5  # of the cells: more, so near, are the brighter of two tissues
SHADE_SDS, SHADE_MOST = 1.2, 0.55  # of the core, between two shades, and the share of the brighter: positives perhaps
NEARLY = 1.0  # how much less likely close positives may be, in log-likelihood, and yet leave a slide undecided
TRIED_SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5)
FARTHEST_LOGITS = (-11.0, 5.0)
STRIDES = 14
NARROWEST = 0.6  # of a plausible range is kept when the chance of drawing these cells is taken out of it
INEXACT = 0.016  # times the root of a share (1 point of 40 %): no description is more exact, however many cells
TOLERANCE = 0.1  # of the plausible shares, within which the cut moves to the middle of a valley


@dataclass(frozen=True)
class Evidence:
    """What one slide says about one marker. Log-likelihoods are in units of what the formulas explain at best."""

    histogram: Histogram
    unexplained: float  # the best fit's deviance over what chance and small errors of the formulas allow
    valley: float  # z of the bottom of the valley between two peaks of the histogram; NaN without one
    gain: float  # log-likelihood of two peaks over that of one
    shade: float  # log-likelihood of a larger upper peak near by over that of everything else
    separation: float  # of the two peaks' means, in SDs of the negatives
    share: float  # of the positives
    share_low: float
    share_high: float
    possible: float  # where one peak will do: the largest share of a clear peak that is plausible all the same
    close: float  # where one peak will do: the share of positives nearer than is trusted that would do as well, or 0
    brighter: float  # where nothing but two shades of tissue explains the cells: the share of the brighter, or 0
    shaded: bool  # only where the negatives have two shades do positives beside them explain the cells
    best: Fit  # of the two peaks, or of the one where that explains as much

    @property
    def gapless(self) -> bool:
        """Whether the histogram has no valley."""
        return math.isnan(self.valley)

    @property
    def above_valley(self) -> float:
        """Share of the cells above the bottom of the valley."""
        return float(1 - np.interp(self.valley, *self.histogram.cumulated))

    @property
    def negatives(self) -> tuple[float, float]:
        """Counts: mean and SD of the negatives by the best fit."""
        mean, sd = self.best.negatives
        return self.histogram.origin + self.histogram.unit * mean, self.histogram.unit * sd

    @property
    def no_formula(self) -> bool:
        """Whether the cells are like nothing that was tried, so that shares computed from it say little."""
        return self.unexplained > 1

    @property
    def cut(self) -> float:
        """Counts: as many cells lie above as are positive; in the middle of a valley where there is one.

        Where no formula fits, it is the bottom of the valley, and without a valley Otsu's threshold.
        """
        if self.no_formula:
            return self.histogram.value(otsu(self.histogram) if self.gapless else self.valley)
        slack = TOLERANCE * (self.share_high - self.share_low) / 2 + 0.5 / self.histogram.cells
        sides = [self.histogram.cut(self.share + away) for away in (slack, -slack)]
        return self.histogram.value((sides[0] + sides[1]) / 2)

    @property
    def low(self) -> float:
        """Counts: the lowest plausible cut."""
        return min(self.histogram.value(self.histogram.cut(self.share_high)), self.cut)

    @property
    def high(self) -> float:
        """Counts: the highest plausible cut."""
        return max(self.histogram.value(self.histogram.cut(self.share_low)), self.cut)


def weigh(histogram: Histogram, lowers: tuple[Lower, ...] = LOWERS) -> Evidence:
    """Fit every kind of negatives with every kind of positives and without, and weigh them."""
    fitter, valley = Fitter(histogram), valley_bottom(histogram)
    ones = [fitter.alone(lower) for lower in lowers]
    sketches = list(fitter.sketches(lowers))
    hopeless = min(fit.misfit for fit in sketches) * HOPELESS[0] + HOPELESS[1]
    twos = fitter.settle([fitter.finish(fit) for fit in sketches if fit.misfit < hopeless])
    allowed = [fit for fit in twos if not (_shade(fit) and math.isnan(valley))] or twos
    one, two, any_two = (min(fits, key=lambda fit: fit.misfit) for fits in (ones, allowed, twos))
    freedom = max(np.count_nonzero(histogram.counts) - 6, 1)
    scale = max(1.0, 2 * (two.misfit - two.penalty) / freedom)
    plausible = two.misfit + PLAUSIBLE * scale
    kept = [fit for fit in allowed if fit.misfit <= plausible]
    weights = [math.exp((two.misfit - fit.misfit) / scale) for fit in kept]
    share = sum(weight * fit.share for weight, fit in zip(weights, kept)) / sum(weights)
    ends = [end for fit in kept for end in _ends(fitter, fit, plausible)]
    low, high = _of_these_cells(share, min(ends), max(ends), histogram.cells)
    gain = (one.misfit - two.misfit) / scale
    fitted = _fitted_valley(fitter, two)
    if math.isnan(valley) and gain >= SURE and two.separation > FAR_SDS and fitted[1] < BOTTOM:
        valley = fitted[0]  # few positives far away make no valley that chance would not make
    alike = gain < CONVINCING
    return Evidence(
        histogram=histogram,
        unexplained=_unexplained(fitter, allowed, freedom),
        valley=valley,
        gain=gain,
        shade=(min(one.misfit, two.misfit) - any_two.misfit) / scale,
        separation=two.separation,
        share=share,
        share_low=low,
        share_high=high,
        possible=_possible(fitter, twos, one.misfit + PLAUSIBLE * scale) if alike else math.nan,
        close=_close(fitter, ones, sketches, scale) if alike else 0.0,
        brighter=_brighter_shade(ones, kept, scale),
        shaded=all(fit.lower.shaded for fit in kept),
        best=two if gain > 0 else one,
    )


def _unexplained(fitter: Fitter, fits: list[Fit], freedom: int) -> float:
    """The best fit's deviance, where bins may be wrong by COARSE_ERROR, over what a formula may have."""
    deviance = 2 * min(fitter.coarse_misfit(fit) for fit in fits)
    return deviance / freedom / (UNEXPLAINED[0] + UNEXPLAINED[1] * math.sqrt(2 / freedom))


def _shade(fit: Fit) -> bool:
    """The larger group of cells as positives: without a valley it may be the brighter of two shades of negatives."""
    return fit.share > MAJORITY


def _brighter_shade(ones: list[Fit], kept: list[Fit], scale: float) -> float:
    """Share of the brighter of two shades of tissue where nothing else explains the cells, 0 where something does.

    It may be positives near the negatives.
    """
    plain = min((fit.misfit for fit in ones if not fit.lower.shaded), default=math.inf)
    best = min([*ones, *kept], key=lambda fit: fit.misfit)
    if not best.lower.shaded or not best.misfit + PLAUSIBLE * scale < plain < math.inf:
        return 0.0
    if not all(fit.lower.shaded for fit in kept):
        return 0.0
    part = 1 / (1 + math.exp(-best.entries[5]))
    return part if math.exp(best.entries[6]) > SHADE_SDS and CLOSE_SHARE < part < SHADE_MOST else 0.0


def _close(fitter: Fitter, ones: list[Fit], sketches: list[Fit], scale: float) -> float:
    """Share of positives nearer than is trusted that explains the cells about as well as negatives alone, or 0."""
    one = min(ones, key=lambda fit: fit.misfit)
    likely = sorted(sketches, key=lambda fit: fit.misfit)[:CLOSE_TRIED]
    near = (_at_least(fitter, fitter.finish(fit, CLOSE_SDS), CLOSE_SHARE) for fit in likely)
    shares = [fit.share for fit in near if fit.misfit < one.misfit + NEARLY * scale and fit.share < CLOSE_MOST]
    return max(shares, default=0.0)


def _at_least(fitter: Fitter, fit: Fit, share: float) -> Fit:
    """This fit of close positives, or the best one near it with `share` of them."""
    return fit if fit.share >= share else fitter.with_share(fit, math.log(share / (1 - share)), CLOSE_SDS)


def _fitted_valley(fitter: Fitter, two: Fit) -> tuple[float, float]:
    """z of the deepest dip between the peaks of a fit, and the density there over that of its lower side."""
    first = int(np.searchsorted(fitter.histogram.centres, two.negatives[0]))
    density = fitter.density(two)[first:-1]
    if not len(density):
        return math.nan, 1.0
    sides = np.minimum(np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1])
    at = int((density / sides).argmin())
    return float(fitter.histogram.z[first + at : first + at + 2].mean()), float(density[at] / sides[at])


def _ends(fitter: Fitter, fit: Fit, plausible: float) -> Iterator[float]:
    """Shares of positives down and up to which this kind of fit stays plausible: the profile of its likelihood."""
    yield fit.share
    first = max(0.5 / math.sqrt(fitter.histogram.cells * fit.share * (1 - fit.share)), 0.04)
    for direction in (-1, 1):
        before, stride = fit, first
        for _ in range(STRIDES):
            logit = before.entries[0] + direction * stride
            if not FARTHEST_LOGITS[0] < logit < FARTHEST_LOGITS[1]:
                break
            after = fitter.with_share(before, logit)
            if _shade(after) and not _shade(fit):
                break
            if after.misfit > plausible:
                yield _between(fit, before, after, plausible)
                break
            yield after.share
            before, stride = after, stride * 1.5


def _between(fit: Fit, before: Fit, after: Fit, plausible: float) -> float:
    """Share at which the profile reaches `plausible`, taken as a parabola around its best fit."""
    root = [math.sqrt(max(misfit - fit.misfit, 0.0)) for misfit in (before.misfit, plausible, after.misfit)]
    part = min(max((root[1] - root[0]) / max(root[2] - root[0], 1e-9), 0.0), 1.0)
    logit = before.entries[0] + part * (after.entries[0] - before.entries[0])
    return float(1 / (1 + math.exp(-logit)))


def _of_these_cells(share: float, low: float, high: float, cells: int) -> tuple[float, float]:
    """The range without the chance of having drawn these cells: the share of this slide is asked, not of all tissue."""
    drawn, least = 1.96 * math.sqrt(share * (1 - share) / cells), min(INEXACT * math.sqrt(share), share)
    down, up = (
        max(math.sqrt(max(half * half - drawn * drawn, 0.0)), NARROWEST * half, least)
        for half in (max(share - low, 0.0), max(high - share, 0.0))
    )
    return share - down, min(share + up, 1.0)


def _possible(fitter: Fitter, twos: list[Fit], plausible: float) -> float:
    """The largest share of positives, CLEAR_SDS away at least, with which a fit is still plausible."""
    found = 0.0
    for fit in twos:
        if fit.misfit > plausible:
            continue
        here = fit
        for share in TRIED_SHARES:
            here = fitter.with_share(here, math.log(share / (1 - share)), CLEAR_SDS)
            if here.misfit <= plausible:
                found = max(found, share)
    return found


def known_lower(controls: np.ndarray) -> tuple[Lower, float, float]:
    """What the cells of negative controls look like: the shape of their one peak, its mean and SD in counts."""
    histogram = Histogram.of(controls)
    fitter = Fitter(histogram)
    best = min((fitter.alone(lower) for lower in LOWERS), key=lambda fit: fit.misfit)
    mean, sd = best.negatives
    return best.lower.known(best.entries), histogram.origin + histogram.unit * mean, histogram.unit * sd


def valley_bottom(histogram: Histogram) -> float:
    """z of the bottom of the deepest valley in the smoothed histogram, NaN where there is none but chance."""
    away = np.arange(-5, 6)
    kernel = np.exp(-0.5 * (away / SMOOTH_BINS) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(histogram.counts, 5)
    counts = sum(weight * padded[5 + at : len(padded) - 5 + at] for at, weight in zip(away, kernel))
    sides = np.minimum(np.maximum.accumulate(counts), np.maximum.accumulate(counts[::-1])[::-1])
    chance = CHANCE_SDS * np.sqrt((sides + counts) * (kernel**2).sum())
    deep = (counts < SHALLOWEST * sides) & (sides - counts > chance)
    if not deep.any():
        return math.nan
    at = int(np.where(deep, counts / np.maximum(sides, 1e-9), np.inf).argmin())
    return float((histogram.z[at] + histogram.z[at + 1]) / 2)


def otsu(histogram: Histogram) -> float:
    """z of Otsu's threshold: the cut in counts that leaves the least variance on its two sides."""
    places, counts = histogram.centres, histogram.counts
    below, total = np.cumsum(counts)[:-1], counts.sum()
    light = np.cumsum(counts * places)
    lower, upper = light[:-1] / np.maximum(below, 1), (light[-1] - light[:-1]) / np.maximum(total - below, 1)
    return float(histogram.z[int((below * (total - below) * (upper - lower) ** 2).argmax()) + 1])
