"""The chapter of thresholds: every marker over slides and batches, what stands out, what was lent, who typed what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from mihc.plots.drift import DriftPoint, drift_svg
from mihc.reports.numbers import Numbers, as_float, counted, sentence, text

MOST_MARKS = 8000  # slides x markers in the page; of a larger study only the markers with a remark are shown
# remarks that doubt a number; a positivity far from the others may be true
DRIFTED = "negative peak|its own threshold|negative control"
TYPED = "the typed threshold"


@dataclass(frozen=True)
class Drift:
    """One marker of one panel over all slides."""

    name: str  # for a file
    picture: Markup
    remarks: tuple[Markup, ...]  # of its batches, then of its slides
    shown: bool  # in the page; else in figures/ only


def drifts(numbers: Numbers) -> list[Drift]:
    """Every marker over all slides, panel by panel; empty where no slide's values are known."""
    thresholds, slides = numbers["thresholds"], numbers["slides"]
    if thresholds.empty or "negative_peak" not in thresholds:
        return []
    panel_of = {text(row["slide"]): text(row.get("panel")) for _, row in slides.iterrows()}
    table = thresholds.assign(panel=thresholds["slide"].map(text).map(lambda slide: panel_of.get(slide, "")))
    several = len(set(table["panel"])) > 1
    all_of_them = len(table) <= MOST_MARKS
    found = []
    for (panel, marker), rows in table.groupby(["panel", "marker"], sort=False):
        if rows["negative_peak"].notna().any():
            name, title = (f"{panel}_{marker}", f"{marker} ({panel})") if several else (text(marker), text(marker))
            remarks = tuple(_remarks(numbers, text(panel), text(marker), rows))
            shown = all_of_them or bool(remarks)
            found.append(Drift(name, drift_svg(_points(rows), title=title), remarks, shown))
    return found


def _points(rows: pd.DataFrame) -> list[DriftPoint]:
    return [
        DriftPoint(
            slide=text(row.slide),
            batch=text(row.batch),
            control=bool(text(row.control)),
            peak=row.negative_peak,
            width=row.negative_width,
            value=math.nan if row.verdict == "negative slide" else row.value,  # that one lies above every cell
            low=row.low,
            high=row.high,
            own=row.own_value if _lent_or_typed(row) and row.own_verdict == "separable" else math.nan,
            verdict=text(row.verdict),
            remark=text(row.remark),
            apart=bool(apart),
        )
        for row, apart in zip(rows.itertuples(), drifted(rows))
    ]


def _lent_or_typed(row: object) -> bool:
    return row.verdict in ("harmonised", "manual")


def _remarks(numbers: Numbers, panel: str, marker: str, rows: pd.DataFrame) -> Iterable[Markup]:
    batches = numbers["batches"]
    if len(batches):
        mine = (batches["panel"].map(text) == panel) & (batches["marker"].map(text) == marker)
        for said in batches.loc[mine, "remark"].map(text):
            if said:
                yield sentence("{said}", {"said": said})
    for row in rows.itertuples():
        if text(row.remark):
            yield sentence("{slide}: {said}", {"slide": row.slide, "said": text(row.remark)})


@dataclass(frozen=True)
class Beside:
    """A threshold that is not the slide's own, with what the slide alone gave: rows of thresholds.csv."""

    index: int
    slide: str
    marker: str
    verdict: str
    own_verdict: str
    reason: str


def taken_beside_own(numbers: Numbers) -> list[Beside]:
    """Thresholds that a batch lent or a person typed where the slide alone gave another result."""
    thresholds = numbers["thresholds"]
    if thresholds.empty or "own_verdict" not in thresholds:
        return []
    said = ("slide", "marker", "verdict", "own_verdict", "reason")
    return [
        Beside(int(row.Index), *(text(getattr(row, name)) for name in said))
        for row in thresholds.itertuples()
        if _lent_or_typed(row) and text(row.own_verdict)
    ]


def drift_doubts(numbers: Numbers) -> Iterable[Markup]:
    """One sentence per batch, and per group of slides, that stand apart; one for thresholds that batches lent."""
    batches, thresholds = numbers["batches"], numbers["thresholds"]
    apart = batches[batches["remark"].map(text) != ""] if len(batches) else batches
    for batch, rows in apart.groupby("batch", sort=False) if len(apart) else ():
        named = f"batch {batch}" if text(batch) else "the slides without a batch"
        pieces = {"batch": named, "markers": _listed(rows["marker"])}
        yield sentence("In {batch} the negative cells lie elsewhere than in the other batches: {markers}", pieces)
    if thresholds.empty or "remark" not in thresholds:
        return
    of_slides: dict[tuple[str, ...], list[str]] = {}
    rows = thresholds if "batch" in thresholds else thresholds.assign(batch="")
    names = dict(zip(rows["slide"].map(text), rows["batch"].map(text)))
    counting = thresholds[~thresholds["slide"].map(text).isin(numbers.control_slides)]
    far = counting["remark"].map(text).str.contains(TYPED)
    for marker, rows in counting[far].groupby("marker", sort=False):
        pieces = {"marker": text(marker), "n": counted(len(rows), "slide"), "slides": _listed(rows["slide"])}
        yield sentence("{marker}: the threshold typed for {n} lies far from what their cells say: {slides}", pieces)
    for marker, rows in counting[drifted(counting) & ~far].groupby("marker", sort=False):
        of_slides.setdefault(tuple(dict.fromkeys(rows["slide"].map(text))), []).append(text(marker))
    for slides, markers in of_slides.items():
        batches = sorted({names[slide] for slide in slides})
        others = f"their batch {_listed(batches)}" if all(batches) else "the other slides"
        pieces = {"markers": _listed(markers), "n": counted(len(slides), "slide"), "slides": _listed(slides)}
        told = "{markers}: on {n} the negative cells or the threshold stand apart from {others} or a control: {slides}"
        yield sentence(told, pieces | {"others": others})
    lent = thresholds[thresholds["verdict"] == "harmonised"]
    if len(lent):
        pieces = {"n": counted(len(lent), "threshold"), "markers": _listed(lent["marker"])}
        yield sentence("{n} taken from the batch, because the slide's own was weak: {markers}", pieces)


def drifted(thresholds: pd.DataFrame) -> pd.Series:
    """Rows of thresholds.csv with a remark on where cells or threshold lie; positivity alone is the patient's own."""
    if "remark" not in thresholds or thresholds.empty:
        return pd.Series(False, index=thresholds.index)
    return thresholds["remark"].map(text).str.contains(DRIFTED, regex=True)


def _listed(names: Iterable[object], most: int = 6) -> str:
    whole = list(dict.fromkeys(map(text, names)))
    return ", ".join(whole[:most]) + (f" and {len(whole) - most} more" if len(whole) > most else "")


def typed(numbers: Numbers) -> list[dict[str, str]]:
    """The history of typed thresholds, the newest first: review/thresholds_history.csv."""
    history = numbers["history"]
    lines = [{str(name): text(value) for name, value in row.items()} for row in history.to_dict("records")]
    return lines[::-1]


def interval_columns(columns: Sequence[object]) -> tuple[list[str], set[str]]:
    """Columns to show as their own, and those whose interval (`_low`, `_high`) stands in their cell."""
    names = [str(name) for name in columns]
    bounded = {name for name in names if f"{name}_low" in names and f"{name}_high" in names}
    ends = {f"{name}_{end}" for name in bounded for end in ("low", "high")}
    return [name for name in names if name not in ends], bounded


def has_interval(frame: pd.DataFrame, row: int, column: str) -> bool:
    """Whether a table has both ends of a value's interval, and they are not the value itself."""
    if f"{column}_low" not in frame or f"{column}_high" not in frame:
        return False
    low, high = (as_float(frame.at[row, f"{column}_{end}"]) for end in ("low", "high"))
    return low < high
