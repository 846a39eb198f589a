"""What was found on a slide as rows of qc.csv: value, unit, verdict and a sentence for a pathologist."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mihc.quality.findings import Findings
from mihc.quality.flaws import FLAWS, OUT_OF_FOCUS
from mihc.quality.seams import Seams

Row = tuple[str, float, str, str, str]  # check, value, unit, verdict, explanation
SPOTS = (0.65, 1.38)  # usual size of the nuclear stain's spots, as a share of nucleus_diameter_um
WHAT = {
    "fold": "tissue that lies double",
    "debris": "pieces larger than cells that shine in every channel",
    "bubble": "round dim places with a bright rim in every channel",
    OUT_OF_FOCUS: "windows whose nuclei are blurred",
}
CHECKS = {"fold": "folds", "debris": "debris", "bubble": "bubbles", OUT_OF_FOCUS: OUT_OF_FOCUS}
MUCH_PERCENT = 10.0  # of the tissue


def grade(value: float, *, warn: bool, fail: bool) -> str:
    """Return a verdict; a value that is not known is worth a warning."""
    if fail:
        return "fail"
    return "warn" if warn or math.isnan(value) else "ok"


def _percent(value: float) -> str:
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def mask_rows(findings: Findings, exclude: Sequence[str]) -> Iterator[Row]:
    """The area of folds, debris, bubbles and of what is out of focus."""
    if not findings.flaws:
        said = "Folds, debris and bubbles were not looked for: fewer than three channels cannot tell them from cells."
        yield "folds, debris, bubbles", math.nan, "mm²", "ok", said
    tissue = float(findings.tissue.sum()) * math.prod(findings.pixel_size_um) / 1e6
    masks = findings.masks
    for name in (*FLAWS, OUT_OF_FOCUS):
        if name in masks:
            yield _mask_row(name, findings.area_mm2(name), tissue, name in exclude)


def _mask_row(name: str, area: float, tissue: float, excluded: bool) -> Row:
    if not area:
        return CHECKS[name], 0.0, "mm²", "ok", f"None was found ({WHAT[name]})."
    percent = 100 * area / tissue
    shared = f"{area:.2g} mm², as large as {_percent(percent)} of the tissue, show {WHAT[name]}"
    if excluded:
        said = f"{shared}; they are excluded from every number. Look whether they are outlined rightly."
        return CHECKS[name], area, "mm²", "warn" if percent > MUCH_PERCENT else "ok", said
    advice = "counts there are doubtful. Look at them, rescan them, or exclude them"
    said = f'{shared}; they are counted as they are, and {advice} (study.toml, [qc] exclude = [..., "{name}"]).'
    return CHECKS[name], area, "mm²", "warn" if percent > 1 else "ok", said


def light_rows(findings: Findings) -> Iterator[Row]:
    """The slow change of every channel over the slide."""
    for channel, found in findings.shading.items():
        smooth = found.percent > 60 and found.explained > 0.5
        verdict = grade(found.percent, warn=smooth, fail=False)
        said = f"The dark level of the tissue in {channel} changes slowly by {_percent(found.percent)} over the slide."
        if smooth:
            said += " Light or staining is uneven: like cells may be positive on one side and negative on the other."
        yield f"light: {channel}", found.percent, "% peak to peak", verdict, said


def size_rows(findings: Findings, nucleus_diameter_um: float) -> Iterator[Row]:
    """The size of the nuclear stain's spots, which is told nothing and so is off where the pixel size is."""
    if findings.focus is None:
        return
    value = findings.spot_um
    low, high = (share * nucleus_diameter_um for share in SPOTS)
    verdict = grade(value, warn=not low <= value <= high, fail=False)
    said = f"The spots of the nuclear stain are about {value:.2g} µm wide, as nuclei of {nucleus_diameter_um:g} µm are."
    if math.isnan(value):
        said = (
            "The nuclear stain has no spots of one size: is it the right channel, in focus, and the pixel size right?"
        )
    elif verdict != "ok":
        kind, other = ("large", "half") if value > high else ("small", "twice")
        said = (
            f"The spots of the nuclear stain are about {value:.2g} µm wide, {kind} for nuclei of "
            f"{nucleus_diameter_um:g} µm. "
            f"Is the pixel size right? If it is {other} as large, all areas are off by 4. "
            + ("Or is the slide out of focus? " if value > high else "")
            + "If such nuclei are right, set nucleus_diameter_um in study.toml."
        )
    yield "size of nuclear spots", value, "µm", verdict, said


def seam_rows(seams: Seams | None) -> Iterator[Row]:
    """The audit of the seams between computing windows."""
    if seams is None:
        return
    differs = (seams.high < 1 and seams.ratio < 0.95) or (seams.low > 1 and seams.ratio > 1.05)
    said = (
        f"Within 20 µm of the seams between windows of {seams.window_px:,} pixels there are {seams.ratio:.3g} times "
        f"as many nuclei per area as beside them (99.9 % interval {seams.low:.3g} to {seams.high:.3g})"
    )
    if differs:
        said += ": nuclei are lost or doubled where windows meet. Do not trust these counts, and report this."
    else:
        said += ": none are lost or doubled where windows meet."
    yield "seams", seams.ratio, "ratio", "fail" if differs else "ok", said
