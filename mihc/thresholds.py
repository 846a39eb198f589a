"""Where a marker becomes positive: manual thresholds, and an automatic one that may also refuse.

The automatic threshold fits a mixture of two normal distributions to the cells' values on an arcsinh scale (linear
near the negative peak, logarithmic far above it) and asks three questions of the fit: are the two peaks far enough
apart, is there a valley between them, and are there enough cells in the upper one? Where all hold, the threshold is the
bottom of the valley in the smoothed distribution, with a bootstrap interval. Where nothing lies above the negative peak
the slide is called negative. Everything else is "cannot tell", and goes to a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

VERDICTS = ("separable", "negative slide", "cannot tell", "manual", "given", "harmonised")
METHODS = ("auto", "manual")
FEWEST_CELLS = 50  # fewer say nothing about the shape of a distribution
FEWEST_POSITIVES = 5
SMALLEST_SEPARATION = 3.0  # distance of the peaks' means in SDs of the negative cells
# Density in the valley over that of the lower peak: above the first the peaks are one; a peak near by needs the second.
DEEPEST_VALLEY, CLEAR_VALLEY = 0.75, 0.5
TAIL_SDS, TAIL_SHARE = 6.0, 0.002  # a negative slide has fewer than this share above this many SDs
STARTS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # shares of the cells at which the fits start to split
SHOULDER_SDS = {0.95: 4.0, 0.99: 4.6}  # how far a peak of negatives alone reaches at most (normal: 1.6 and 2.3)
FEWEST_FAR_CELLS, FAR_SDS = 10, 7.0
CHANCE_SDS = 2.0  # of Poisson counts, by which the upper peak must stand above the valley
FLAT = 0.02  # of the lower peak: how much above its lowest point the valley still counts as its bottom
SMOOTHING = 0.5  # of the narrower peak's SD, when the bottom of the valley is looked for
BINS, RESAMPLES, STEPS = 256, 200, 300
LIKELY = (0.025, 0.975)


@dataclass(frozen=True)
class Threshold:
    """A marker's threshold on one slide; positive means value >= `value`."""

    value: float  # counts; NaN when the verdict is "cannot tell"; above every cell when it is "negative slide"
    low: float  # counts: 95 % bootstrap interval, NaN where there is none
    high: float
    method: str  # "manual" | "mixture" | "given" | "harmonised"
    verdict: str  # of VERDICTS; "given": calls made elsewhere; "harmonised": the threshold of its batch
    reason: str  # one sentence for the report
    levels: tuple[float, ...] = ()  # counts from which a cell is "moderate" and "strong"; () = one level only


def manual_threshold(value: float, *, reason: str = "typed by hand", levels: tuple[float, ...] = ()) -> Threshold:
    """Make the threshold that a person typed, in counts, with the cut-offs of "moderate" and "strong" above it."""
    return Threshold(float(value), math.nan, math.nan, "manual", "manual", reason, tuple(map(float, levels)))


def choose_threshold(values: ArrayLike, *, method: str = "auto", negatives: ArrayLike | None = None) -> Threshold:
    """Choose the threshold between negative and positive cells of one slide and marker.

    Parameters
    ----------
    values
        (cells,) the marker's mean in its compartment, counts; NaN is left out.
    method
        "auto".
    negatives
        (cells,) the same of cells that are known to be negative, from control slides; None without any. They do not
        change the threshold: whether it lies among them is told beside it.

    Returns
    -------
    Threshold
        With a verdict and the reason. No cells at all: "cannot tell".

    Raises
    ------
    ValueError
        When the method is unknown.
    """
    if method != "auto":
        raise ValueError(f"method {method!r} is unknown; the automatic method is 'auto'")
    numbers = np.asarray(values, dtype=np.float64)
    numbers = np.sort(numbers[np.isfinite(numbers)])
    if numbers.size < FEWEST_CELLS:
        return _cannot_tell(f"only {numbers.size} cells with a value; {FEWEST_CELLS} are needed")
    if numbers[0] == numbers[-1]:
        return _cannot_tell(f"every cell has the same value, {numbers[0]:g}")
    scale = _Scale.of(numbers)
    histogram = _Histogram.of(scale.forward(numbers))
    peaks = [_two_peaks(histogram, share) for share in STARTS]
    apart = [found for found in peaks if found.valley <= DEEPEST_VALLEY]
    if not apart:
        return _one_peak(numbers, "the cells form one peak")
    return _judge(numbers, scale, histogram, max(apart, key=lambda found: found.log_likelihood))


def _cannot_tell(reason: str) -> Threshold:
    return Threshold(math.nan, math.nan, math.nan, "mixture", "cannot tell", reason)


@dataclass(frozen=True)
class _Scale:
    """z = arcsinh((value - origin) / unit): unit is the spread of the lowest tenth to half of the cells."""

    origin: float
    unit: float

    @classmethod
    def of(cls, numbers: np.ndarray) -> _Scale:
        low, middle = np.quantile(numbers, (0.01, 0.25))
        unit = max(middle - low, (numbers[-1] - numbers[0]) * 1e-4)
        return cls(float(low), float(unit))

    def forward(self, values: np.ndarray) -> np.ndarray:
        return np.arcsinh((values - self.origin) / self.unit)

    def backward(self, z: np.ndarray | float) -> np.ndarray | float:
        return np.sinh(z) * self.unit + self.origin


@dataclass(frozen=True)
class _Histogram:
    centres: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, z: np.ndarray) -> _Histogram:
        counts, edges = np.histogram(z, bins=BINS)
        return cls((edges[:-1] + edges[1:]) / 2, counts.astype(np.float64))


@dataclass(frozen=True)
class _TwoPeaks:
    """Two normal distributions on the arcsinh scale, lower mean first."""

    weight: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    log_likelihood: float

    @property
    def valley(self) -> float:
        """Density at its lowest between the means, over that of the lower peak; 1 where there is no valley."""
        z = np.linspace(self.mean[0], self.mean[1], 256)
        density = _weighted_densities(z, self.weight, self.mean, self.sd).sum(0)
        return float(density.min() / max(min(density[0], density[-1]), 1e-300))


def _weighted_densities(z: np.ndarray, weight: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """(2, z) densities of the two distributions, times their weights."""
    offset = (z - mean[:, None]) / sd[:, None]
    return weight[:, None] * np.exp(-0.5 * offset * offset) / (sd[:, None] * math.sqrt(2 * math.pi))


def _two_peaks(histogram: _Histogram, share_below: float) -> _TwoPeaks:
    """Fit by expectation and maximisation, starting from a split with this share of the cells below."""
    z, counts = histogram.centres, histogram.counts
    narrowest = 2 * (z[1] - z[0])
    cumulative = np.cumsum(counts)
    split = min(int(np.searchsorted(cumulative, share_below * cumulative[-1])), len(z) - 2)
    share = np.stack([np.arange(len(z)) <= split, np.arange(len(z)) > split]).astype(np.float64)
    previous = -math.inf
    for _ in range(STEPS):
        mass = share * counts
        total = np.maximum(mass.sum(1), 1e-9)
        mean = (mass * z).sum(1) / total
        sd = np.sqrt((mass * (z - mean[:, None]) ** 2).sum(1) / total + narrowest**2)
        weight = total / total.sum()
        density = _weighted_densities(z, weight, mean, sd)
        both = density.sum(0) + 1e-300
        share = density / both
        likelihood = float((counts * np.log(both)).sum())
        if likelihood - previous < 1e-8 * abs(likelihood):
            break
        previous = likelihood
    order = np.argsort(mean)
    return _TwoPeaks(weight[order], mean[order], sd[order], likelihood)


def _judge(numbers: np.ndarray, scale: _Scale, histogram: _Histogram, peaks: _TwoPeaks) -> Threshold:
    cut = _valley_bottoms(histogram, peaks, histogram.counts[None])[0]
    threshold = float(scale.backward(cut))
    negative, positive = numbers[numbers < threshold], numbers[numbers >= threshold]
    if positive.size < FEWEST_POSITIVES or not negative.size:
        return _one_peak(numbers, f"only {positive.size} cells lie apart from the rest")
    separation = (positive.mean() - negative.mean()) / max(negative.std(), 1e-12)
    if separation < SMALLEST_SEPARATION:
        return _one_peak(numbers, f"the two peaks are only {separation:.1f} SDs of the negative cells apart")
    if not _stands_out(numbers, histogram, peaks, cut, threshold):
        return _one_peak(numbers, f"the {positive.size} upper cells may be chance, they do not stand out as a peak")
    low, high = _interval(scale, histogram, peaks)
    reason = (
        f"two peaks {separation:.1f} SDs of the negative cells apart, "
        f"{positive.size} of {numbers.size} cells in the upper one"
    )
    return Threshold(threshold, min(low, threshold), max(high, threshold), "mixture", "separable", reason)


def _stands_out(numbers: np.ndarray, histogram: _Histogram, peaks: _TwoPeaks, cut: float, threshold: float) -> bool:
    """Is the upper peak more than chance, and more than two shades of negative cells?

    Either there is a clear valley, and the peak holds more cells than it by more than a Poisson count varies; or the
    peak is so far out (half of its cells FAR_SDS above the summit of the negatives) that a shallow one will do.
    """
    upper = numbers[numbers >= threshold]
    summit, sd = _negative_peak(numbers)
    if upper.size >= FEWEST_FAR_CELLS and np.median(upper) > summit + FAR_SDS * sd:
        return True
    reach = min(peaks.sd[1], (peaks.mean[1] - cut) / 2)
    at_peak, in_valley = (
        histogram.counts[np.abs(histogram.centres - centre) <= reach].sum() for centre in (peaks.mean[1], cut)
    )
    more = at_peak - in_valley > CHANCE_SDS * math.sqrt(at_peak + in_valley)
    return bool(peaks.valley <= CLEAR_VALLEY and more)


def _valley_bottoms(histogram: _Histogram, peaks: _TwoPeaks, counts: np.ndarray) -> np.ndarray:
    """(n,) middle of the valley's bottom in counts (n, bins), on the arcsinh scale."""
    return _valley_runs(histogram, peaks, counts).mean(axis=1)


def _valley_runs(histogram: _Histogram, peaks: _TwoPeaks, counts: np.ndarray) -> np.ndarray:
    """(n, 2) first and last place of the lowest stretch of the smoothed counts (n, bins) between the two means."""
    z = histogram.centres
    step = z[1] - z[0]
    smooth = gaussian_filter1d(counts, SMOOTHING * peaks.sd.min() / step, axis=1, mode="constant")
    between = np.flatnonzero((z >= peaks.mean[0]) & (z <= peaks.mean[1]))
    inside = smooth[:, between]
    peak = np.minimum(inside[:, :1], inside[:, -1:])
    lowest = inside <= inside.min(axis=1, keepdims=True) + FLAT * peak
    return np.array([_unbroken(z[between], row, int(values.argmin())) for row, values in zip(lowest, inside)])


def _unbroken(z: np.ndarray, low: np.ndarray, start: int) -> tuple[float, float]:
    """First and last place of the unbroken run of `low` around `start`."""
    gaps = np.flatnonzero(~low)
    first = gaps[gaps < start].max() + 1 if (gaps < start).any() else 0
    last = gaps[gaps > start].min() - 1 if (gaps > start).any() else len(z) - 1
    return float(z[first]), float(z[last])


def _one_peak(numbers: np.ndarray, why: str) -> Threshold:
    """Negative when next to nothing lies far above the peak, else undecided.

    The peak's SD is taken from the cells below its summit, which no positive cell can widen.
    """
    summit, sd = _negative_peak(numbers)
    tail = np.count_nonzero(numbers > summit + TAIL_SDS * sd)
    if tail > TAIL_SHARE * numbers.size:
        return _cannot_tell(f"{why}, yet {tail} of {numbers.size} cells lie over {TAIL_SDS:g} SDs above its summit")
    for share, most in SHOULDER_SDS.items():
        found = (float(np.quantile(numbers, share)) - summit) / sd
        if found > most:
            return _cannot_tell(
                f"{why}, yet it has a shoulder: its {share:.0%} point lies {found:.1f} SDs above its summit"
            )
    reason = f"{why}; {tail} of {numbers.size} cells lie over {TAIL_SDS:g} SDs above its summit"
    above_all = float(np.nextafter(numbers[-1], np.inf))
    return Threshold(above_all, math.nan, math.nan, "mixture", "negative slide", reason)


def _negative_peak(numbers: np.ndarray) -> tuple[float, float]:
    """Summit (middle of the shortest interval that holds a quarter of the sorted cells) and SD of the cells below."""
    quarter = max(numbers.size // 4, 1)
    first = int((numbers[quarter:] - numbers[:-quarter]).argmin())
    summit = float(numbers[first] + numbers[first + quarter]) / 2
    below = numbers[numbers <= summit]
    return summit, max(math.sqrt(np.mean((below - summit) ** 2)), (numbers[-1] - numbers[0]) * 1e-6)


def _interval(scale: _Scale, histogram: _Histogram, peaks: _TwoPeaks) -> tuple[float, float]:
    """95 % percentile interval of the valley's bottom over resampled cells; the seed is fixed."""
    generator = np.random.default_rng(20221)
    total = int(histogram.counts.sum())
    resampled = generator.multinomial(total, histogram.counts / total, size=RESAMPLES).astype(np.float64)
    low, high = np.quantile(_valley_bottoms(histogram, peaks, resampled), LIKELY)
    return float(scale.backward(low)), float(scale.backward(high))
