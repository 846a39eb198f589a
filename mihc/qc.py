"""Is this slide fit to be measured? Simple checks, each with its value, a verdict and a sentence for a pathologist.

The limits are plain rules of thumb, stated with each check; nothing is corrected and no cell is dropped by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mihc.quality.findings import Findings, Level, Overview, examine
from mihc.quality.focus import sharpness
from mihc.quality.rows import Row, grade, light_rows, mask_rows, seam_rows, size_rows
from mihc.quality.seams import Seams, audit_seams

__all__ = [
    "COLUMNS",
    "Findings",
    "Level",
    "Overview",
    "Seams",
    "audit_seams",
    "cells_qc",
    "examine",
    "picture_qc",
    "sharpness",
]

COLUMNS = ["slide", "check", "value", "unit", "verdict", "explanation"]


def picture_qc(
    slide: str,
    overview: Overview,
    notes: Mapping[str, Any],
    *,
    findings: Findings,
    roles: Sequence[str] = (),
    exclude: Sequence[str] = (),
    nucleus_diameter_um: float = 8.0,
) -> pd.DataFrame:
    """Return the quality checks of one slide's picture.

    Parameters
    ----------
    slide : str
        Its id.
    overview : Overview
        All channels of a level of about 2 µm per pixel.
    notes : dict
        What was seen when every pixel was read: notes["channels"][name] has smallest, largest and saturated_share.
    findings : Findings
        What `examine` saw.
    roles : sequence of str
        What each channel is, in panel.csv's words.
    exclude : sequence of str
        The masks that are excluded from every number.
    nucleus_diameter_um : float
        What nuclei are expected to measure.

    Returns
    -------
    DataFrame
        `slide, check, value, unit, verdict, explanation`; verdict is "ok", "warn" or "fail". A value that cannot be had
        is NaN, with the reason in the explanation.
    """
    rows = [
        *_focus(overview, roles, findings),
        *_saturation(notes),
        *_blank(notes, overview),
        *_duplicates(overview),
        *light_rows(findings),
        *size_rows(findings, nucleus_diameter_um),
        *mask_rows(findings, exclude),
    ]
    return _table(slide, rows)


def cells_qc(slide: str, cells: pd.DataFrame, ledger: pd.DataFrame, *, seams: Seams | None = None) -> pd.DataFrame:
    """Return the quality checks of one slide's cells and areas, as `picture_qc` does.

    Parameters
    ----------
    slide : str
        Its id.
    cells : DataFrame
        The slide's cells, with nucleus_area_um2.
    ledger : DataFrame
        The slide's rows of area_ledger.csv.
    seams : Seams
        What `audit_seams` saw; None on a slide without seams.
    """
    return _table(slide, [*_nuclei(cells, ledger), *seam_rows(seams), *_excluded(ledger)])


def _table(slide: str, rows: Sequence[Row]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=COLUMNS[1:])
    table.insert(0, "slide", slide)
    return table


def _focus(overview: Overview, roles: Sequence[str], findings: Findings) -> Iterator[Row]:
    channels = [channel for channel, role in zip(overview.channels, roles) if role == "nuclei"]
    if findings.focus is None or not channels:
        return
    value = findings.focus.overall
    verdict = grade(value, warn=value < 0.8, fail=value < 0.55)
    said = {
        "ok": "Nuclei are sharp.",
        "warn": "Nuclei look blurred: many may be merged or missed. Look at the slide; rescan it if you can.",
        "fail": "The slide is out of focus: its nuclei cannot be told apart. Rescan it.",
    }[verdict]
    if np.isnan(value):
        said = "Too few nuclei stand out from the background to say whether they are sharp."
    yield f"focus: {' + '.join(channels)}", value, "ratio", verdict, said


def _saturation(notes: Mapping[str, Any]) -> Iterator[Row]:
    for channel, facts in notes.get("channels", {}).items():
        share = 100 * float(facts["saturated_share"])
        verdict = grade(share, warn=share > 1, fail=share > 10)
        said = "Hardly a pixel is at the camera's ceiling."
        if verdict != "ok":
            said = (
                f"{share:.2g} % of the pixels of {channel} are at the camera's ceiling, so bright cells look alike: "
                "mean intensities are too low. Rescan with a shorter exposure."
            )
        yield f"saturation: {channel}", share, "%", verdict, said


def _blank(notes: Mapping[str, Any], overview: Overview) -> Iterator[Row]:
    seen = notes.get("channels", {})
    for plane, channel in zip(overview.pixels, overview.channels):
        low, high = (float(value) for value in np.quantile(plane, [0.001, 0.999]))
        facts = seen.get(channel, {"smallest": plane.min(), "largest": plane.max()})
        if facts["smallest"] == facts["largest"]:  # 0 came this far because the study allows it
            said = f"{channel} has the same value everywhere: the channel is blank. Was it exposed and exported?"
            yield f"signal: {channel}", 0.0, "counts", "fail" if facts["largest"] else "warn", said
        elif high - low < 1:
            said = f"{channel} hardly varies: it may be blank. Look at it before you trust its counts."
            yield f"signal: {channel}", high - low, "counts", "warn", said
        else:
            yield f"signal: {channel}", high - low, "counts", "ok", "The channel shows something."


def _duplicates(overview: Overview) -> Iterator[Row]:
    if len(overview.pixels) < 2:
        return
    centred = [_centred(plane) for plane in _thinned(overview.pixels)]
    strongest, pair = 0.0, ("", "")
    for first, (a, a_squares) in enumerate(centred):
        for second, (b, b_squares) in enumerate(centred[:first]):
            scale = np.sqrt(a_squares * b_squares)
            alike = float((a * b).sum() / scale) if scale > 0 else 0.0
            if alike > strongest:
                strongest, pair = alike, (overview.channels[second], overview.channels[first])
    verdict = grade(strongest, warn=strongest > 0.99, fail=strongest > 0.9999)
    said = {
        "ok": "No two channels show the same picture.",
        "warn": f"{pair[0]} and {pair[1]} look almost the same: strong bleed-through, or one channel exported twice?",
        "fail": f"{pair[0]} and {pair[1]} are the same picture: one channel was exported twice, or panel.csv is wrong.",
    }[verdict]
    yield "channels alike", strongest, "correlation", verdict, said


def _thinned(pixels: np.ndarray) -> np.ndarray:
    step = max(1, int(np.sqrt(pixels[0].size / 1_000_000)))
    return pixels[:, ::step, ::step]


def _centred(plane: np.ndarray) -> tuple[np.ndarray, float]:
    """A plane less its mean, and the sum of its squares. Pearson's correlation of two is the sum of their product over
    the root of both sums; summed by numpy itself: a BLAS product's last digits follow its number of threads."""
    flat = np.asarray(plane, dtype=np.float64).ravel()
    flat = flat - flat.mean()
    return flat, float((flat * flat).sum())


def _nuclei(cells: pd.DataFrame, ledger: pd.DataFrame) -> Iterator[Row]:
    count = len(cells)
    said = f"{count} nuclei were found." if count else "No nucleus was found. Is the nuclei channel the right one?"
    yield "nuclei", float(count), "cells", "ok" if count else "fail", said
    if not count:
        return
    if "nucleus_area_um2" in cells:
        yield _diameter(float(np.sqrt(4 * cells["nucleus_area_um2"].median() / np.pi)))
    tissue = float(ledger.loc[ledger["category"] == "tissue", "area_mm2"].sum())
    if tissue > 0:
        yield _density(count / tissue)


def _diameter(value: float) -> Row:
    verdict = grade(value, warn=not 5 <= value <= 11, fail=not 3.5 <= value <= 16)
    said = f"The median nucleus is {value:.2g} µm across, as nuclei in sections are."
    if verdict != "ok":
        size = "small" if value < 7 else "large"
        said = (
            f"The median nucleus is {value:.2g} µm across, which is {size} (5 to 11 µm are usual). "
            "Is the pixel size right? If it is off by 2, all areas are off by 4."
        )
    return "nucleus diameter", value, "µm", verdict, said


def _density(value: float) -> Row:
    verdict = grade(value, warn=not 300 <= value <= 16_000, fail=not 50 <= value <= 40_000)
    said = f"{value:.0f} cells per mm² of tissue, as in most sections."
    if verdict != "ok":
        said = f"{value:.0f} cells per mm² of tissue is unusual (300 to 16,000 are usual): check pixel size and nuclei."
    return "cell density", value, "cells/mm²", verdict, said


def _excluded(ledger: pd.DataFrame) -> Iterator[Row]:
    area = ledger.groupby("category")["area_mm2"].sum()
    tissue = float(area.get("tissue", 0.0))
    if not tissue > 0:
        yield "excluded tissue", float("nan"), "%", "fail", "No tissue was found on the slide."
        return
    share = 100 * float(area.get("excluded", 0.0)) / tissue
    verdict = grade(share, warn=share > 20, fail=share > 60)
    said = f"{share:.2g} % of the tissue is excluded from every number."
    yield (
        "excluded tissue",
        share,
        "%",
        verdict,
        said + (" That is much: does the rest stand for it?" if share > 20 else ""),
    )
