"""Every association of every population at a glance: one square per test, its adjusted p inside.

A square says its direction by an arrow and its strength by the number, so that it can be read without its colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from mihc.reports.claims import LEVEL, MEASURES, TEST_NAMES, claimable, endpoint_of, is_multivariable, split_words
from mihc.reports.explorer import Explorer
from mihc.reports.numbers import Numbers, as_float, text

_NOTHING = {"odds_ratio": 1.0, "AUC": 0.5}  # what an estimate of this kind is where there is no difference; else 0
_BELOW = (0.001, 0.01, 0.05)  # raw p at which a square gets darker


@dataclass(frozen=True)
class Square:
    """One test: its row of statistics.csv, how it looks, and the choice of the explorer that shows it."""

    row: int
    kind: str  # CSS classes: "up2" .. "down3", "flat1"; with "stands" where it stands after adjustment
    arrow: str  # ▲ higher goes with longer, or is higher in the first group; ▼ the opposite; • no direction
    choice: str  # "column question" of the explorer, "" where it does not draw it


@dataclass(frozen=True)
class HeatRow:
    """A population in a class, with a square per column; None where there is no such test."""

    population: str
    tissue_class: str
    squares: tuple[Square | None, ...]


@dataclass(frozen=True)
class HeatMap:
    """All tests of one measure."""

    measure: str
    columns: tuple[tuple[str, str], ...]  # what it is set against, and how
    rows: tuple[HeatRow, ...]
    standing: int


def heat_maps(numbers: Numbers, explored: Explorer) -> list[HeatMap]:
    """One map per measure, the tests in the order of statistics.csv; empty where no population was tested."""
    rows = claimable(numbers["statistics"])
    rows = rows[rows["population"].map(text) != ""] if len(rows) else rows
    if rows.empty:
        return []
    choices = {line - 2: f"{column} {question}" for line, column, question, _name in explored.data["tests"]}
    return [_map(text(measure), mine, choices) for measure, mine in rows.groupby("measure", sort=False, dropna=False)]


def _map(measure: str, rows: pd.DataFrame, choices: dict[int, str]) -> HeatMap:
    records = rows.to_dict("records")
    keys = [_column(row) for row in records]
    columns = tuple(dict.fromkeys(keys))
    found: dict[tuple[str, str], dict[tuple[str, str], Square]] = {}
    for index, row, key in zip(rows.index, records, keys):
        place = (text(row["population"]), text(row["tissue_class"]))
        found.setdefault(place, {})[key] = _square(int(index), row, choices.get(int(index), ""))
    return HeatMap(
        MEASURES.get(measure, measure or "score"),
        columns,
        tuple(HeatRow(*place, tuple(squares.get(key) for key in columns)) for place, squares in found.items()),
        int((pd.to_numeric(rows["p_adjusted"], errors="coerce") < LEVEL).sum()),
    )


def _column(row: dict) -> tuple[str, str]:
    words = split_words(row["split"])
    against = endpoint_of(row)
    name = TEST_NAMES[text(row["analysis"])] + (" + covariates" if is_multivariable(row) else "")
    term = text(row["term"]) if row["analysis"] == "cox" and row["split"] != "continuous" else ""
    return against, ", ".join(part for part in (name, words if words != against else "", term) if part)


def _square(index: int, row: dict, choice: str) -> Square:
    p, estimate = as_float(row["p"]), as_float(row["estimate"])
    strength = sum(p < level for level in _BELOW)
    if not math.isfinite(estimate) or row["analysis"] in ("log_rank", "maxstat", "kruskal"):
        way, arrow = "flat", "•"
    else:
        up = estimate < 1 if row["analysis"] == "cox" else estimate > _NOTHING.get(text(row["estimate_kind"]), 0.0)
        way, arrow = ("up", "▲") if up else ("down", "▼")
    stands = " stands" if as_float(row["p_adjusted"]) < LEVEL else ""
    return Square(index, f"{way}{strength}{stands}", arrow, choice)
