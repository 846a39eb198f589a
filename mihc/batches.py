"""A slide beside its batch: do its negative cells lie where those of the other slides do, may it take their threshold?

A batch is the slides of one panel that slides.csv gives one `batch` (all of the panel, where it gives none); controls
are looked at but count for nothing. Each slide brings a few numbers per marker, never its cells, so that a thousand
slides are compared in a second and a slide's own result stays its own.

Where a study asks for it, a slide whose own distribution is weak takes the batch's threshold, if its negative peak
agrees with those of the slides that the threshold comes from. The rule is `offers`, then `accepted` by the cells.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mihc.thresholds import Threshold

FEWEST_SLIDES = 3  # of a batch, below which nothing is compared; and of those that lend their threshold
ROBUST_SD = 1.4826  # of a normal distribution, over its median absolute deviation
FAR_SDS = 3.0  # robust SDs of the batch, beyond which a slide lies apart
FAR_WIDTHS = 2.0  # ... and, so that a batch of equal slides does not cry wolf, this many widths of its negative peak
WIDER, NARROWER = 2.0, 0.4  # widths over the batch's, beyond which a negative peak has another form
FAR_RATIO = 2.0  # of thresholds above the negative peak
FAR_POINTS, FAR_POSITIVITY_SDS = 10.0, 5.0  # percentage points: patients differ, so only what is far is said
WEAK_POINTS = 5.0  # of positivity between the ends of its interval make a separable slide's threshold weak
SAME_WIDTHS, SAME_FORM = 1.0, 1.5  # negative peaks agree: so many widths apart, and widths within this ratio
CLEAR_WIDTHS = 4.0  # a batch's threshold lies at least so many widths above the slide's own negative peak
CONTROL_SHARE = 0.99  # of a negative control's cells that ought to lie below a threshold


@dataclass(frozen=True)
class MarkerValues:
    """What the analysed cells of a slide say of one marker."""

    slide: str
    marker: str
    panel: str
    batch: str
    control: str  # "" | "isotype" | "unstained" | "negative"
    cells: int  # that have a value
    peak: float  # counts: summit of the negative cells; NaN without cells
    width: float  # counts: SD of the cells below that summit
    own: Threshold  # as chosen on this slide alone (and its controls)
    positive_median: float  # counts: of the cells at or above own.value; NaN where the slide is not separable
    open_percent: float  # points of positivity between the ends of own's interval; NaN without an interval
    control_p99: float  # counts: below it lie 99 % of the negative controls' cells; NaN without a control

    @property
    def is_separable(self) -> bool:
        """Whether the slide alone has a threshold."""
        return self.own.verdict == "separable"

    @property
    def is_weak(self) -> bool:
        """Whether the slide alone cannot tell, or leaves much open."""
        return self.own.verdict == "cannot tell" or (self.is_separable and self.open_percent > WEAK_POINTS)


@dataclass(frozen=True)
class Offer:
    """A batch's threshold for one slide and marker, in counts."""

    value: float  # median of the lenders' thresholds
    low: float  # 2.5 % and 97.5 % points of theirs
    high: float
    least_median: float  # the slide's cells at or above `value` must reach it with half of them
    slides: int  # that lend
    batch: str


def describe(
    values: np.ndarray, own: Threshold, *, slide: str, marker: str, panel: str, batch: str, control: str,
    negatives: np.ndarray | None = None,
) -> MarkerValues:  # fmt: skip
    """Reduce a marker's values to what a comparison needs.

    Parameters
    ----------
    values
        (cells,) counts of the slide's analysed cells; NaN is left out.
    own
        The threshold that was chosen on them.
    slide, marker, panel, batch, control
        Whose they are.
    negatives
        (cells,) counts of the same marker in negative controls; None without one.
    """
    known = np.sort(values[np.isfinite(values)])
    separable = own.verdict == "separable"
    peak, width = negative_peak(known[known < own.value] if separable else known)
    positive = known[known >= own.value] if separable else known[:0]
    between = np.count_nonzero((known >= own.low) & (known < own.high)) if separable else math.nan
    negatives = np.array([]) if negatives is None else negatives[np.isfinite(negatives)]
    return MarkerValues(
        slide, marker, panel, batch, control, len(known), peak, width, own,
        positive_median=float(np.median(positive)) if len(positive) else math.nan,
        open_percent=100 * between / len(known) if len(known) else math.nan,
        control_p99=float(np.quantile(negatives, CONTROL_SHARE)) if len(negatives) else math.nan,
    )  # fmt: skip


def negative_peak(numbers: np.ndarray) -> tuple[float, float]:
    """Summit (middle of the shortest interval that holds a quarter of them) and SD below it, of sorted (n,) counts."""
    if not len(numbers):
        return math.nan, math.nan
    quarter = max(len(numbers) // 4, 1)
    if len(numbers) <= quarter:
        return float(numbers[0]), 0.0
    first = int((numbers[quarter:] - numbers[:-quarter]).argmin())
    summit = float(numbers[first] + numbers[first + quarter]) / 2
    below = numbers[numbers <= summit]
    return summit, math.sqrt(float(np.mean((below - summit) ** 2)))


@dataclass(frozen=True)
class Beside:
    """A slide's marker beside its batch; what is not known is NaN."""

    peak: float  # counts, of the slide
    width: float
    batch_peak: float  # counts: median over the batch's slides
    batch_width: float
    remark: str  # what stands out, in words; "" = nothing


@dataclass(frozen=True)
class BatchMarker:
    """One marker over the slides of one batch."""

    panel: str
    batch: str
    marker: str
    slides: int
    peak: float  # counts: median of the slides' negative peaks
    width: float
    threshold: float  # counts: median of the separable slides' thresholds; NaN without one
    remark: str  # how it lies beside the other batches; "" = nothing to say


def beside_batches(described: Iterable[MarkerValues]) -> dict[tuple[str, str], Beside]:
    """Compare every slide with its batch.

    Parameters
    ----------
    described
        Every marker of every slide.

    Returns
    -------
    dict
        (slide, marker) -> what was found. A batch of fewer than three slides is not compared. A peak stands out that
        lies more than 3 robust SDs of the batch's peaks and more than 2 widths of a peak from their median; a width
        that is over twice or under 0.4 times the median; a separable slide's threshold that lies over twice or under
        half as far above its negative peak as the median threshold does above the batch's.
    """
    found = {}
    for members in _batches(described).values():
        counting = [one for one in members if not one.control and math.isfinite(one.peak)]
        enough = len(counting) >= FEWEST_SLIDES
        peaks, widths = (np.array([getattr(one, name) for one in counting]) for name in ("peak", "width"))
        peak, width = (float(np.median(x)) if enough else math.nan for x in (peaks, widths))
        far = max(FAR_SDS * _robust_sd(peaks), FAR_WIDTHS * width) if enough else math.inf
        cuts = np.array([one.own.value for one in counting if one.is_separable])
        cut = float(np.median(cuts)) if len(cuts) >= FEWEST_SLIDES else math.nan
        for one in members:
            said = [] if one.control else [*_peak_remarks(one, peak, width, far), *_cut_remarks(one, peak, cut)]
            found[one.slide, one.marker] = Beside(one.peak, one.width, peak, width, "; ".join(said))
    return found


def _batches(described: Iterable[MarkerValues]) -> dict[tuple[str, str, str], list[MarkerValues]]:
    members: dict[tuple[str, str, str], list[MarkerValues]] = defaultdict(list)
    for one in described:
        members[one.panel, one.batch, one.marker].append(one)
    return members


def _robust_sd(numbers: np.ndarray) -> float:
    return ROBUST_SD * float(np.median(np.abs(numbers - np.median(numbers))))


def _peak_remarks(one: MarkerValues, peak: float, width: float, far: float) -> Iterable[str]:
    if abs(one.peak - peak) > far:
        yield f"the negative peak of {one.slide} lies {_beside(one.peak, peak)} that of {_others(one)}"
    ratio = one.width / width if width > 0 else math.nan
    if ratio > WIDER or ratio < NARROWER:
        yield f"the negative peak of {one.slide} is {ratio:.1f} times as wide as those of {_others(one)}"


def _cut_remarks(one: MarkerValues, peak: float, cut: float) -> Iterable[str]:
    if one.is_separable and cut > peak:
        ratio = (one.own.value - one.peak) / (cut - peak)
        if ratio > FAR_RATIO or ratio < 1 / FAR_RATIO:
            yield f"its own threshold, {_number(one.own.value)}, is far from {_number(cut)} of {_others(one)}"


def _others(one: MarkerValues) -> str:
    return f"batch {one.batch}" if one.batch else "the other slides"


def _beside(value: float, other: float) -> str:
    """How a place lies beside another: as a ratio where both are counts above 0 and it says something."""
    if value > 0 and other > 0 and (value / other >= 1.05 or value / other <= 1 / 1.05):
        ratio = value / other
        return f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2f} times"
    return f"{_number(abs(value - other))} counts {'above' if value > other else 'below'}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def control_remark(value: float, control_p99: float) -> str:
    """Say where a threshold lies among a negative control's cells; "" where that is as it should be, or not known."""
    if not value < control_p99:
        return ""
    return (
        f"the threshold, {_number(value)}, lies below {_number(control_p99)}, which 1 % of the negative control's "
        "cells reach"
    )


def typed_remark(value: float, own: Threshold, peak: float) -> str:
    """Say where a typed threshold lies far from all that the slide's cells allow, seen from their negative peak."""
    above, below = value - peak > FAR_RATIO * (own.high - peak), value - peak < (own.low - peak) / FAR_RATIO
    if own.verdict != "separable" or not (above or below):
        return ""
    far = "far above" if above else "far below"
    own_range = f"{_number(own.low)} to {_number(own.high)}"
    return f"the typed threshold, {_number(value)}, lies {far} what its own threshold may be, {own_range}"


def positivity_remarks(positivity: Mapping[str, float]) -> dict[str, str]:
    """Say which slides of one batch and marker have a positivity (%) far from the others; slide -> remark."""
    known = {slide: percent for slide, percent in positivity.items() if math.isfinite(percent)}
    if len(known) < FEWEST_SLIDES:
        return {}
    percents = np.array(list(known.values()))
    middle = float(np.median(percents))
    far = max(FAR_POINTS, FAR_POSITIVITY_SDS * _robust_sd(percents))
    return {
        slide: f"its positivity, {percent:.3g} %, is far from the others' {middle:.3g} %; patients differ, so look"
        for slide, percent in known.items()
        if abs(percent - middle) > far
    }


def drift(described: Iterable[MarkerValues]) -> list[BatchMarker]:
    """Compare the batches of a panel with each other, marker by marker.

    Returns
    -------
    list of BatchMarker
        Without controls. A batch stands out whose median negative peak lies more than 2 widths of a peak from the
        median over the panel's batches, or from the other one where there are two.
    """
    of_marker: dict[tuple[str, str], list[BatchMarker]] = defaultdict(list)
    for (panel, batch, marker), members in _batches(one for one in described if not one.control).items():
        known = [one for one in members if math.isfinite(one.peak)]
        if known:
            cuts = [one.own.value for one in known if one.is_separable]
            peak, width = (float(np.median([getattr(one, name) for one in known])) for name in ("peak", "width"))
            cut = float(np.median(cuts)) if cuts else math.nan
            of_marker[panel, marker].append(BatchMarker(panel, batch, marker, len(known), peak, width, cut, ""))
    return [_beside_others(one, batches) for batches in of_marker.values() for one in batches]


def _beside_others(one: BatchMarker, batches: Sequence[BatchMarker]) -> BatchMarker:
    others = [other for other in batches if other is not one]
    if not others or (len(others) == 1 and one is not min(batches[::-1], key=lambda batch: batch.slides)):
        return one  # of two that differ the smaller is named, of two alike the second
    measure = others if len(others) == 1 else batches  # of three, the one that drifted is not to name the two
    peak, width = (float(np.median([getattr(other, name) for other in measure])) for name in ("peak", "width"))
    if abs(one.peak - peak) <= FAR_WIDTHS * max(width, one.width):
        return one
    where = f"batch {one.batch}" if one.batch else "the slides without a batch"
    said = (
        f"{where}: the negative peak lies {_beside(one.peak, peak)} that of the other batch{'es' * (len(others) > 1)}"
    )
    return BatchMarker(one.panel, one.batch, one.marker, one.slides, one.peak, one.width, one.threshold, said)


def offers(described: Iterable[MarkerValues]) -> dict[tuple[str, str], Offer | str]:
    """Find the batch's threshold for every slide and marker whose own is weak, or say why there is none.

    It is lent by the slides of the batch that are separable, leave at most 5 points of positivity open, are no control
    and whose negative peak agrees with the slide's: at most one width apart (the narrower one's), widths within a
    factor of 1.5. There must be three of them; their thresholds must lie within half their distance from the slide's
    negative peak, at least 4 widths above it, and not below the 99 % point of the slide's negative control.

    Returns
    -------
    dict
        (slide, marker) -> an offer, or the reason for none.
    """
    found: dict[tuple[str, str], Offer | str] = {}
    for members in _batches(described).values():
        lenders = [one for one in members if one.is_separable and not one.is_weak and not one.control]
        for one in members:
            if one.is_weak and not one.control:
                found[one.slide, one.marker] = _offer(one, lenders)
    return found


def _offer(one: MarkerValues, lenders: Sequence[MarkerValues]) -> Offer | str:
    agreeing = [other for other in lenders if _agree(one, other)]
    if len(agreeing) < FEWEST_SLIDES:
        return f"negative peaks agree with only {len(agreeing)} of {len(lenders)} slides of the batch that could lend"
    values = np.array([other.own.value for other in agreeing])
    value, (low, high) = float(np.median(values)), np.quantile(values, (0.025, 0.975))
    if high - low > (value - one.peak) / 2:
        return "the thresholds of the batch's slides differ too much"
    if value < one.peak + CLEAR_WIDTHS * one.width:
        return f"the batch's threshold, {_number(value)}, lies too near the slide's own negative peak"
    if value < one.control_p99:
        return f"the batch's threshold, {_number(value)}, lies among the negative control's cells"
    medians = float(np.median([other.positive_median for other in agreeing]))
    return Offer(value, float(low), float(high), (value + medians) / 2, len(agreeing), one.batch)


def _agree(one: MarkerValues, other: MarkerValues) -> bool:
    narrow, wide = sorted((one.width, other.width))
    return abs(one.peak - other.peak) <= SAME_WIDTHS * narrow and wide <= SAME_FORM * narrow


def accepted(own: Threshold, offer: Offer | str, values: np.ndarray) -> Threshold:
    """Take the batch's threshold where the slide's cells bear it out, else keep the slide's own and say why.

    Parameters
    ----------
    own
        The slide's own threshold.
    offer
        Of its batch.
    values
        (cells,) counts of the slide's analysed cells; NaN is left out. Half of those at or above the offered
        threshold must lie at least half the way from it to the median of the lenders' positive cells: what only
        trails off from the negative peak is no peak of positive cells. None at all is fine too.
    """
    if isinstance(offer, str):
        return _kept(own, offer)
    above = values[values >= offer.value]
    if len(above) and float(np.median(above)) < offer.least_median:
        return _kept(own, f"the {len(above)} cells above {_number(offer.value)} do not look like its positive cells")
    batch = f"batch {offer.batch}" if offer.batch else "the batch"
    reason = (
        f"the threshold of {batch}: the median of {offer.slides} slides whose negative peaks agree with this one's; "
        f"alone: {own.verdict}, {own.reason}"
    )
    return Threshold(offer.value, offer.low, offer.high, "harmonised", "harmonised", reason)


def _kept(own: Threshold, why: str) -> Threshold:
    from dataclasses import replace

    return replace(own, reason=f"{own.reason}; the batch's threshold was not taken: {why}")
