"""How much the results hang on choices, on single patients and on the draw.

Read from robustness.csv (every analysis of the multiverse), influence.csv (each patient left out in turn),
robustness_summary.csv (both summed up), splits.csv, families.csv and dropout.csv; what a study has not is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from mihc.plots.curves import Point, choice_curve, left_out_curve
from mihc.plots.style import p_text
from mihc.reports.claims import (
    KINDS,
    LEVEL,
    MEASURES,
    Finding,
    endpoint_of,
    place_words,
    question,
    split_words,
    subject_of,
)
from mihc.reports.numbers import Numbers, as_float, rounded, sentence, text

TABLES = ("robustness", "influence", "robustness_summary", "splits", "families", "dropout")
CHOICES = ("split", "threshold", "measure", "pooling", "regions")
MOST_SHOWN = 6  # questions with curves
MOST_POINTS = 400  # analyses in one curve; of more, evenly taken ones by strength
_TEST = ("endpoint", "population", "tissue_class", "measure", "split")


@dataclass(frozen=True)
class Hold:
    """One question: what its choices and patients do to it."""

    title: str
    said: Markup
    pictures: tuple[Markup, ...]


@dataclass(frozen=True)
class Robustness:
    """The chapter: curves of the questions that the report speaks of, and the tables, by row."""

    holds: tuple[Hold, ...]
    summary: tuple[int, ...]  # rows of robustness_summary.csv of tests below 0.05, the fragile first
    splits: tuple[int, ...]
    families: tuple[int, ...]
    warned: tuple[int, ...]  # rows of dropout.csv with a warning

    @property
    def any(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.holds or self.summary or self.splits or self.families or self.warned)


def robustness(numbers: Numbers, leading: Sequence[int]) -> Robustness:
    """Gather the chapter; `leading` are rows of statistics.csv, the one that the report speaks of first."""
    summary = numbers["robustness_summary"]
    shown = summary[pd.to_numeric(summary["p"], errors="coerce") < LEVEL] if len(summary) else summary
    if len(shown):
        shown = shown.assign(_fine=shown["verdict"].map(text) != "fragile").sort_values(["_fine", "p"], kind="stable")
    dropout = numbers["dropout"]
    warned = dropout.index[dropout["warning"].map(text) != ""] if len(dropout) else ()
    return Robustness(
        tuple(_holds(numbers, leading)),
        tuple(map(int, shown.index)),
        tuple(map(int, numbers["splits"].index)),
        tuple(map(int, numbers["families"].index)),
        tuple(map(int, warned)),
    )


def sureness(numbers: Numbers, finding: Finding) -> Markup:
    """How sure a finding is, in one sentence; empty where nobody looked."""
    rows = [_summary_row(numbers, numbers["statistics"].loc[index]) for index in finding.rows]
    found = next((row for row in rows if row is not None), None)
    if found is None:
        return Markup("")
    fragile = text(numbers["robustness_summary"].at[found, "verdict"]) == "fragile"  # the claim itself says why
    return _said(numbers, found, verdict=not fragile)


def _holds(numbers: Numbers, leading: Sequence[int]) -> list[Hold]:
    statistics, universes, influence = numbers["statistics"], numbers["robustness"], numbers["influence"]
    asked: dict[tuple[str, str, str], int] = {}
    for index in leading:
        if text(statistics.at[index, "population"]):
            asked.setdefault(question(statistics.loc[index]), int(index))
    found = []
    for (endpoint, population, tissue_class), index in list(asked.items())[:MOST_SHOWN]:
        row = statistics.loc[index]
        of_question = _TEST[:3] if text(row["endpoint"]) else (*_TEST[:3], "split")
        pictures = [_choices(_same(universes, of_question, row), row), _left_out(_same(influence, _TEST, row), row)]
        pictures = [picture for picture in pictures if picture]
        if pictures:
            summed = _summary_row(numbers, row)
            title = f"{population}{place_words(tissue_class)} and {endpoint}"
            found.append(
                Hold(title, _opened(_said(numbers, summed)) if summed is not None else Markup(""), tuple(pictures))
            )
    return found


def _same(table: pd.DataFrame, columns: Sequence[str], row: pd.Series) -> pd.DataFrame:
    """The rows of a table that have a p and agree with `row` in these columns."""
    if table.empty:
        return table
    mask = pd.to_numeric(table["p"], errors="coerce").notna()
    for name in columns:
        mask &= table[name].map(text) == text(row[name])
    return table[mask]


def _summary_row(numbers: Numbers, row: pd.Series) -> int | None:
    rows = _same(numbers["robustness_summary"], (*_TEST, "analysis"), row)
    return int(rows.index[0]) if len(rows) else None


def _said(numbers: Numbers, index: int, *, verdict: bool = True) -> Markup:
    row = numbers["robustness_summary"].loc[index]

    def show(column: str, form: str = "number") -> Markup:
        return numbers.show("robustness_summary", index, column, form)

    parts = []
    if as_float(row["analyses"]) > 1:
        pieces = {name: show(name, "count") for name in ("analyses", "same_direction_percent", "significant_percent")}
        told = "of {analyses} analyses, this one and other plausible ones, {same_direction_percent} % point the same "
        parts.append(sentence(told + "way and {significant_percent} % have p below 0.05", pieces))
    if not math.isnan(as_float(row["left_out_p_max"])):
        pieces = {"patient": row["left_out_patient"], "p": show("left_out_p_max", "p_cell")}
        parts.append(sentence("leaving out each patient in turn, the largest p is {p} (without {patient})", pieces))
    if as_float(row["bootstrap_draws"]) > 0:
        kind = KINDS.get(text(row["estimate_kind"]), text(row["estimate_kind"]))
        pieces = {"kind": kind, "low": show("bootstrap_low", "ratio"), "high": show("bootstrap_high", "ratio")}
        parts.append(sentence("bootstrap 95 % interval of the {kind} {low} to {high}", pieces))
    joined = Markup("; ").join(parts)
    if not verdict:
        return sentence("{joined}.", {"joined": joined}) if parts else Markup("")
    word, why = text(row["verdict"]), text(row["why"])
    told = sentence("{word}{why}", {"word": word, "why": f" ({why})" if why else ""})
    return sentence("{told}: {parts}.", {"told": told, "parts": joined}) if parts else told


def _opened(said: Markup) -> Markup:
    """A sentence that begins with a word, with a capital."""
    return Markup("{}{}").format(said[:1].upper(), said[1:])


def _choices(rows: pd.DataFrame, lead: pd.Series) -> Markup:
    if len(rows) < 2:
        return Markup("")
    points = [
        Point(
            float(row["p"]),
            int(as_float(row["direction"]) or 0),
            f"{_effect(row)}; {'; '.join(words for _kind, words in _chosen(row))}",
            _chosen(row),
            str(row["as_reported"]).lower() in ("true", "1", "1.0") and text(row["split"]) == text(lead["split"])
            and text(row["measure"]) == text(lead["measure"]),
        )
        for row in rows.to_dict("records")
    ]  # fmt: skip
    if len(points) > MOST_POINTS:
        points.sort(key=lambda one: one.p)
        every = -(-len(points) // MOST_POINTS)
        points = [one for place, one in enumerate(points) if one.marked or place % every == 0]
    return choice_curve(points, title=f"Every analysis of {subject_of(lead)} and {endpoint_of(lead)}")


def _chosen(row: dict) -> tuple[tuple[str, str], ...]:
    words = {"split": split_words(row["split"]) or text(row["split"])}
    words["measure"] = MEASURES.get(text(row["measure"]), text(row["measure"]))
    return tuple((name, words.get(name, text(row[name]))) for name in CHOICES if text(row.get(name)))


def _left_out(rows: pd.DataFrame, lead: pd.Series) -> Markup:
    if rows.empty:
        return Markup("")
    points = [
        Point(float(row["p"]), int(as_float(row["direction"]) or 0), f"without {text(row['patient'])}: {_effect(row)}")
        for row in rows.to_dict("records")
    ]
    return left_out_curve(points, title=f"{subject_of(lead)} and {endpoint_of(lead)} without each patient in turn")


def _effect(row: dict) -> str:
    """ "HR 0.31, p = 0.002, n = 35"."""
    kind, estimate = text(row["estimate_kind"]), as_float(row["estimate"])
    told = [f"{kind} {rounded(estimate, 'ratio')}"] if kind and math.isfinite(estimate) else []
    return ", ".join([*told, p_text(as_float(row["p"])), f"n = {as_float(row['n']):.0f}"])
