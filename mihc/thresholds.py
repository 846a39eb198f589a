"""Where a marker becomes positive: manual thresholds, and an automatic one that may also refuse.

The automatic threshold fits a mixture of two normal distributions to the cells' values on an arcsinh scale (linear
near the negative peak, logarithmic far above it) and asks three questions of the fit: are the two peaks far enough
apart, is there a valley between them, and are there enough cells in the upper one? Where all hold, the threshold is the
point at which a cell is as likely positive as negative, with a bootstrap interval. Where nothing lies above the
negative peak the slide is called negative. Everything else is "cannot tell", and goes to a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

VERDICTS = ("separable", "negative slide", "cannot tell", "manual")
METHODS = ("auto", "manual")
FEWEST_CELLS = 50  # fewer say nothing about the shape of a distribution
FEWEST_POSITIVES = 5
SMALLEST_SEPARATION = 3.0  # distance of the peaks' means in SDs of the negative cells
DEEPEST_VALLEY = 0.75  # density in the valley over that of the lower peak; above it the peaks are one
TAIL_SDS, TAIL_SHARE = 4.0, 0.002  # a negative slide has fewer than this share above this many SDs
BINS, RESAMPLES, STEPS = 256, 60, 300
LIKELY = (0.025, 0.975)


@dataclass(frozen=True)
class Threshold:
    """A marker's threshold on one slide; positive means value >= `value`."""

    value: float  # counts; NaN when the verdict is "cannot tell"; above every cell when it is "negative slide"
    low: float  # counts: 95 % bootstrap interval, NaN where there is none
    high: float
    method: str  # "manual" | "mixture"
    verdict: str  # "separable" | "negative slide" | "cannot tell" | "manual"
    reason: str  # one sentence for the report


def manual_threshold(value: float, *, reason: str = "typed by hand") -> Threshold:
    """Make the threshold that a person typed, in counts."""
    return Threshold(float(value), math.nan, math.nan, "manual", "manual", reason)


def choose_threshold(values: ArrayLike, *, method: str = "auto") -> Threshold:
    """Choose the threshold between negative and positive cells of one slide and marker.

    Parameters
    ----------
    values
        (cells,) the marker's mean in its compartment, counts; NaN is left out.
    method
        "auto".

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
    mixture = _fit(histogram.centres, histogram.counts[None, :])
    return _judge(numbers, scale, histogram, mixture)


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
class _Mixture:
    """Two normal distributions for each of n histograms; arrays are (n, 2), lower mean first."""

    weight: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    log_likelihood: np.ndarray  # (n,)

    def densities(self, z: np.ndarray) -> np.ndarray:
        """(n, 2, z) weighted densities."""
        return _weighted_densities(z, self.weight, self.mean, self.sd)


def _weighted_densities(z: np.ndarray, weight: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    offset = (z[None, None, :] - mean[:, :, None]) / sd[:, :, None]
    return weight[:, :, None] * np.exp(-0.5 * offset * offset) / (sd[:, :, None] * math.sqrt(2 * math.pi))


def _fit(z: np.ndarray, counts: np.ndarray, starts: tuple[float, ...] = (0.5, 0.8, 0.95, 0.99)) -> _Mixture:
    """Fit by expectation and maximisation from several splits of the cells; the likeliest fit wins."""
    best: _Mixture | None = None
    cumulative = np.cumsum(counts.sum(0))
    for share in starts:
        split = z[min(int(np.searchsorted(cumulative, share * cumulative[-1])), len(z) - 2)]
        fit = _maximise(z, counts, split)
        if best is None or fit.log_likelihood[0] > best.log_likelihood[0]:
            best = fit
    return best


def _maximise(z: np.ndarray, counts: np.ndarray, split: float | np.ndarray) -> _Mixture:
    narrowest = 2 * (z[1] - z[0])
    share = np.stack([z <= split, z > split]).astype(np.float64)[None] * np.ones((len(counts), 1, 1))
    previous = np.full(len(counts), -np.inf)
    for _ in range(STEPS):
        mass = share * counts[:, None, :]
        total = np.maximum(mass.sum(2), 1e-9)
        mean = (mass * z).sum(2) / total
        sd = np.sqrt((mass * (z - mean[:, :, None]) ** 2).sum(2) / total + narrowest**2)
        weight = total / total.sum(1, keepdims=True)
        density = _weighted_densities(z, weight, mean, sd)
        both = density.sum(1) + 1e-300
        share = density / both[:, None, :]
        likelihood = (counts * np.log(both)).sum(1)
        if np.all(likelihood - previous < 1e-7 * np.abs(likelihood)):
            break
        previous = likelihood
    order = np.argsort(mean, axis=1)
    weight, mean, sd = (np.take_along_axis(array, order, 1) for array in (weight, mean, sd))
    return _Mixture(weight, mean, sd, likelihood)


def _crossing(mixture: _Mixture, z: np.ndarray) -> np.ndarray:
    """(n,) where the upper distribution becomes the likelier one, between the two means; NaN where it never does."""
    lower, upper = np.moveaxis(mixture.densities(z), 1, 0)
    between = (z >= mixture.mean[:, :1]) & (z <= mixture.mean[:, 1:])
    above = between & (upper > lower)
    first = above.argmax(1)
    return np.where(above.any(1), z[first], np.nan)


def _judge(numbers: np.ndarray, scale: _Scale, histogram: _Histogram, mixture: _Mixture) -> Threshold:
    fine = np.linspace(histogram.centres[0], histogram.centres[-1], 8 * BINS)
    cut = float(_crossing(mixture, fine)[0])
    if math.isnan(cut):
        return _one_peak(numbers, "the cells form one peak")
    threshold = float(scale.backward(cut))
    negative, positive = numbers[numbers < threshold], numbers[numbers >= threshold]
    if positive.size < FEWEST_POSITIVES:
        return _one_peak(numbers, f"only {positive.size} cells lie apart from the rest")
    separation = (positive.mean() - negative.mean()) / max(negative.std(), 1e-12)
    valley = _valley_depth(mixture, fine, cut)
    if separation < SMALLEST_SEPARATION or valley > DEEPEST_VALLEY:
        return _one_peak(
            numbers,
            f"no valley between two peaks (means {separation:.1f} SDs apart, valley at {valley:.0%} of the peak)",
        )
    low, high = _interval(scale, histogram, fine, cut)
    reason = (
        f"two peaks {separation:.1f} SDs of the negative cells apart, "
        f"{positive.size} of {numbers.size} cells in the upper one"
    )
    return Threshold(threshold, low, high, "mixture", "separable", reason)


def _valley_depth(mixture: _Mixture, z: np.ndarray, cut: float) -> float:
    """Density at its lowest between the peaks, over the lower peak's density."""
    density = mixture.densities(z)[0].sum(0)
    below, above = density[z < cut], density[z >= cut]
    inside = (z >= mixture.mean[0, 0]) & (z <= mixture.mean[0, 1])
    return float(density[inside].min() / min(below.max(), above.max())) if inside.any() else 1.0


def _one_peak(numbers: np.ndarray, why: str) -> Threshold:
    """Negative when next to nothing lies far above the peak, else undecided."""
    centre = np.median(numbers)
    sd = max(1.4826 * np.median(np.abs(numbers - centre)), (numbers[-1] - numbers[0]) * 1e-6)
    tail = np.count_nonzero(numbers > centre + TAIL_SDS * sd)
    if tail <= TAIL_SHARE * numbers.size:
        return Threshold(
            float(np.nextafter(numbers[-1], np.inf)),
            math.nan,
            math.nan,
            "mixture",
            "negative slide",
            f"{why}; {tail} of {numbers.size} cells lie above {TAIL_SDS:g} SDs",
        )
    return _cannot_tell(f"{why}, yet {tail} of {numbers.size} cells lie above {TAIL_SDS:g} SDs")


def _interval(scale: _Scale, histogram: _Histogram, fine: np.ndarray, cut: float) -> tuple[float, float]:
    """95 % percentile interval of the crossing over resampled cells; the seed is fixed."""
    generator = np.random.default_rng(20221)
    total = int(histogram.counts.sum())
    resampled = generator.multinomial(total, histogram.counts / total, size=RESAMPLES).astype(np.float64)
    cuts = _crossing(_maximise(histogram.centres, resampled, cut), fine)
    cuts = cuts[np.isfinite(cuts)]
    if cuts.size < RESAMPLES // 2:
        return math.nan, math.nan
    low, high = np.quantile(cuts, LIKELY)
    return float(scale.backward(min(low, cut))), float(scale.backward(max(high, cut)))
