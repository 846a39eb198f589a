"""Where a marker becomes positive: manual thresholds, and an automatic one that may also refuse.

The automatic threshold (docs/thresholds.md) describes the cells' values as negatives alone and as negatives with
positives, each with several ideas of what negatives look like: normal, log-normal or gamma, on a drifting background,
with autofluorescence, two shades of tissue; a positive cell is a negative one with light on it. What all plausible
descriptions agree on is believed. The threshold is the value above which as many cells lie as are positive, so that
the positives below it are as many as the negatives above it and positivity is unbiased; its interval is the range
over the plausible descriptions. Where positives are not needed to describe the cells, there is no room for them, and
the cells are not two groups of which the brighter may be positive, the slide is called negative. Everything else is
"cannot tell" and goes to a person, with the plausible range of thresholds where there is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from mihc.gating.evidence import Evidence

VERDICTS = ("separable", "negative slide", "cannot tell", "manual", "given", "harmonised")
METHODS = ("auto", "manual")
FEWEST_CELLS = 50  # fewer say nothing about the shape of a distribution
FEWEST_BINS = 8  # that the cells' values span: fewer are steps of a coarse camera, not a distribution
CUT_OFF = 0.01  # of the cells at exactly the lowest value: what lay below was cut off, and with it a peak's shape
FEWEST_POSITIVES = 5
RARE, FEWEST_DOUBTED = 0.01, 10  # so small a share must be so many cells, for a slide with room for it to be doubted
NEXT_TO_NONE = 0.004  # a slide is negative when at most this share of its cells stands out: debris does too
FEWEST_SHARE = 0.0005  # positives must be more than this at the low end of the plausible range
ROOM = 0.005  # one peak leaves no room for positives when not even this share of them is plausible
NEAREST_SDS = 2.6  # the fits start from 2.5: what lies there is a shade that was pressed into the mould of positives
BESIDE_SHADES_SDS = 5.0  # from two shades of negatives: of three groups the middle one may be positive too
HALF = 0.55  # without a gap, what may be most of the cells may be the brighter of two tissues
NARROW = 0.02  # a range so narrow is an answer, however many times its low end it reaches
FEW_ABOVE = 0.05  # of the cells, beyond a gap: what lies below it may be two groups by itself
MOST_DEBRIS = 0.015  # of the cells; more, so far up, may be positives and what lies between them brighter tissue
WIDEST, FOLD = 0.2, 10.0  # plausible positivities further apart than this, or so many times, are no answer
SAME_OFFSET_SDS, SAME_WIDTH = 1.5, 1.6  # controls and slide agree: means within so many SDs, SDs within this factor


@dataclass(frozen=True)
class Threshold:
    """A marker's threshold on one slide; positive means value >= `value`."""

    value: float  # counts; NaN when the verdict is "cannot tell"; above every cell when it is "negative slide"
    low: float  # counts: the plausible range, NaN where there is none; "cannot tell" may have one too
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
        (cells,) the marker's mean in its compartment, counts; NaN is left out. Their order does not matter.
    method
        "auto".
    negatives
        (cells,) the marker's values on negative controls (isotype, unstained) of the same batch, counts. The shape of
        the negatives is then theirs; where their offset or width is not the slide's they are not used, and it is said.

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
    numbers = _finite(values)
    if numbers.size < FEWEST_CELLS:
        return _cannot_tell(f"only {numbers.size} cells with a value; {FEWEST_CELLS} are needed")
    if numbers.min() == numbers.max():
        return _cannot_tell(f"every cell has the same value, {numbers[0]:g}")
    evidence, note = examine(numbers, negatives)
    if evidence is None:
        return _cannot_tell(note)
    equal = np.count_nonzero(numbers == numbers.min())
    if equal > max(CUT_OFF * numbers.size, FEWEST_POSITIVES):
        share = f"{100 * equal / numbers.size:.2g} % of the cells"
        return _cannot_tell(f"{share} have the lowest value, {numbers.min():g}: what lay below was cut off")
    highest = float(numbers.max())
    return _unless_few_lie_apart(_verdict(evidence, highest, note), evidence, numbers, negatives, highest)


def examine(values: np.ndarray, negatives: ArrayLike | None = None) -> tuple[Evidence | None, str]:
    """What `values` (cells,) say, and a note about the controls; without evidence the note is the reason."""
    from mihc.gating.evidence import weigh
    from mihc.gating.histogram import Histogram
    from mihc.gating.peaks import LOWERS

    histogram = Histogram.of(values)
    if np.count_nonzero(histogram.counts) < FEWEST_BINS:
        return None, f"the values lie on only {np.count_nonzero(histogram.counts)} steps"
    controls = _finite([] if negatives is None else negatives)
    if negatives is None:
        return weigh(histogram, LOWERS), ""
    if controls.size < FEWEST_CELLS:
        return weigh(histogram, LOWERS), f"; the negative controls have only {controls.size} cells and are not used"
    steps = 1 if controls.min() == controls.max() else np.count_nonzero(Histogram.of(controls).counts)
    if steps < FEWEST_BINS:
        differs = f"their values lie on only {steps} {'steps' if steps > 1 else 'step'}"
    else:
        from mihc.gating.evidence import known_lower

        shape, mean, sd = known_lower(controls)
        evidence = weigh(histogram, (shape,))
        differs = _differs(evidence, mean, sd)
        if not differs and evidence.no_formula:
            differs = "no description of this slide fits with negatives like theirs"
    if differs:
        return weigh(histogram, LOWERS), f"; the negative controls are not used: {differs}"
    return evidence, f", the negatives as on {controls.size} cells of negative controls"


def _finite(values: ArrayLike) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float64).ravel()
    return numbers[np.isfinite(numbers)]


def _differs(evidence: Evidence, mean: float, sd: float) -> str:
    """In which way the slide's negatives are not those of the controls; empty where they agree."""
    found_mean, found_sd = evidence.negatives
    away, wider = (found_mean - mean) / sd, found_sd / sd
    if abs(away) > SAME_OFFSET_SDS:
        return f"this slide's negatives lie {abs(away):.1f} SDs {'above' if away > 0 else 'below'} theirs"
    if not 1 / SAME_WIDTH < wider < SAME_WIDTH:
        return f"this slide's negatives are {wider:.2g} times as wide"
    return ""


def _verdict(evidence: Evidence, highest: float, note: str) -> Threshold:
    doubt = _doubt_in_groups(evidence)
    if not doubt:
        none = _why_negative(evidence)
        if none and evidence.brighter:
            doubt = f"two shades of cells, of which the brighter, {100 * evidence.brighter:.2g} %, may be positive"
        elif none:
            return _negative(none + note, highest)
        else:
            doubt = _doubt_in_share(evidence)
    if doubt:
        return _cannot_tell(doubt + note, evidence)
    if evidence.no_formula:
        reason = f"a gap between two groups of cells, {100 * evidence.above_valley:.2g} % above it"
    else:
        found = f"{100 * evidence.share:.2g} % are positive ({_range(evidence)} %)"
        reason = f"two groups of cells {_apart(evidence)} apart; {found}"
    return Threshold(evidence.cut, evidence.low, evidence.high, "mixture", "separable", reason + note)


def _unless_few_lie_apart(
    chosen: Threshold, evidence: Evidence, numbers: np.ndarray, negatives: ArrayLike | None, highest: float
) -> Threshold:
    """What the cells below a gap say where few lie above it: debris does, above negatives and positives alike.

    Debris may lie in two places: what lies below is judged in the same way.
    """
    below = numbers[numbers < evidence.histogram.value(evidence.valley)]
    above = (numbers.size - below.size) / numbers.size
    if not 0 < above <= FEW_ABOVE:
        return chosen
    rest, note = examine(below, negatives)
    if rest is None:
        return chosen
    found = _unless_few_lie_apart(_verdict(rest, highest, note), rest, below, negatives, highest)
    few = f"; {100 * above:.2g} % lie far above these cells"
    if chosen.verdict == found.verdict == "negative slide":
        return chosen
    if found.verdict == "separable":
        least, share, most = (np.mean(below >= cut) for cut in (found.high, found.value, found.low))
        if share >= above and above <= MOST_DEBRIS:
            return replace(found, reason=found.reason + few)
        if (share if rest.no_formula else least) > above / 2:
            middle = f"three groups of cells, {100 * least:.2g} to {100 * most:.2g} % in the middle one{few}"
            return replace(found, value=math.nan, verdict="cannot tell", reason=middle)
        return replace(chosen, low=min(chosen.low, found.low)) if chosen.verdict == "separable" else chosen
    unclear = evidence.no_formula and found.verdict == "cannot tell" and not rest.no_formula
    if unclear or above < NEXT_TO_NONE:
        return replace(found, reason=found.reason + few)
    return chosen


def _doubt_in_groups(evidence: Evidence) -> str:
    """Why it cannot be told whether there is a group of positive cells; empty where it can."""
    from mihc.gating.evidence import CONVINCING

    if evidence.unexplained > 1 and evidence.gapless:
        return "the cells are like no negatives known, and there is no gap between groups"
    if evidence.shade > CONVINCING:
        return "most cells form the brighter of two groups without a gap, positives or brighter tissue"
    few = evidence.possible <= RARE and evidence.possible * evidence.histogram.cells < FEWEST_DOUBTED
    if evidence.gain < CONVINCING and evidence.possible >= ROOM and not few:
        return f"one group of cells explains them all, but so would up to {100 * evidence.possible:.2g} % positives"
    if evidence.close:
        return f"one group of cells or two shades, or {100 * evidence.close:.2g} % of positives near the negatives"
    return ""


def _why_negative(evidence: Evidence) -> str:
    """Why there is no group of positive cells; empty where there is one."""
    from mihc.gating.evidence import CONVINCING

    if evidence.gain < CONVINCING:
        room = max(ROOM, evidence.possible)
        return f"one group of cells and no room for more than {100 * room:.2g} % of positives beside it"
    if evidence.share_high < NEXT_TO_NONE or evidence.share * evidence.histogram.cells < FEWEST_POSITIVES:
        return f"at most {100 * evidence.share_high:.2g} % of the cells stand out from one group"
    return ""


def _doubt_in_share(evidence: Evidence) -> str:
    """Why it cannot be told how many cells the group of positives has; empty where it can."""
    if evidence.separation < NEAREST_SDS:
        return f"the brighter cells lie only {_apart(evidence)} above them, {_range(evidence)} %"
    if evidence.shaded and evidence.separation < BESIDE_SHADES_SDS:
        return f"three groups of cells, the brightest {_apart(evidence)} up: where the positives begin is not clear"
    if evidence.gapless and evidence.share_high > HALF:
        return f"{_range(evidence)} % lie {_apart(evidence)} above the rest without a gap, positives or brighter tissue"
    wide = evidence.share_high - evidence.share_low > NARROW
    if evidence.share_low < FEWEST_SHARE or (wide and evidence.share_low < evidence.share_high / FOLD):
        return f"the cells that stand out may be {_range(evidence)} %, next to none or many"
    if evidence.share_high - evidence.share_low > WIDEST:
        return f"the two groups, {_apart(evidence)} apart, run into each other: {_range(evidence)} % may be positive"
    return ""


def _range(evidence: Evidence) -> str:
    return f"{100 * evidence.share_low:.2g} to {100 * evidence.share_high:.2g}"


def _apart(evidence: Evidence) -> str:
    return f"{evidence.separation:.1f} SDs of the negative cells"


def _negative(reason: str, highest: float) -> Threshold:
    above_all = float(np.nextafter(highest, np.inf))
    return Threshold(above_all, math.nan, math.nan, "mixture", "negative slide", reason)


def _cannot_tell(reason: str, evidence: Evidence | None = None) -> Threshold:
    low, high = (evidence.low, evidence.high) if evidence else (math.nan, math.nan)
    return Threshold(math.nan, low, high, "mixture", "cannot tell", reason)
