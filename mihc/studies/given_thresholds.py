"""thresholds.csv: thresholds that a person gives, per slide and marker; "*" is every slide.

Who set a threshold, when and why may stand beside it, in their own words; they are carried to results/thresholds.csv.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from mihc.errors import Problem
from mihc.studies.tables import TextTable, check_columns, number_in, read_table

FILE = "thresholds.csv"
NEEDED = ("slide", "marker", "value")
SAID = ("who", "when", "reason")
COLUMNS = (*NEEDED, *SAID)
EVERY_SLIDE = "*"


def read_thresholds(
    folder: Path, slides: Collection[str], markers: Collection[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """Read thresholds.csv: slide, marker, value (float, counts), who, when, reason (text, "" = not said).

    Without a file the table is empty.
    """
    empty = pd.DataFrame({name: pd.Series(dtype="f8" if name == "value" else object) for name in COLUMNS})
    if not (folder / FILE).exists():
        return empty, []
    table, problems = read_table(folder / FILE)
    if table is not None:
        problems += check_columns(table, NEEDED, COLUMNS)
    if problems:
        return empty, problems
    rows, seen = [], {}
    for row in range(len(table.rows)):
        slide, marker = table.cell(row, "slide").strip(), table.cell(row, "marker").strip()
        problems += _unknown(table, row, "slide", slide, [EVERY_SLIDE, *slides])
        problems += _unknown(table, row, "marker", marker, markers)
        first = seen.setdefault((slide, marker), row)
        if first != row:
            what = f"slide {slide!r}, marker {marker!r} is already in line {table.lines[first]}"
            problems.append(Problem(table.place(row), what, "Keep one of the lines."))
        try:
            said = (table.cell(row, name).strip() for name in SAID)
            rows.append((slide, marker, _threshold(table.cell(row, "value")), *said))
        except ValueError as error:
            problems.append(Problem(table.place(row, "value"), str(error), "Write a number of counts, 0 or more."))
    return (pd.DataFrame(rows, columns=list(COLUMNS)) if rows else empty), problems


def _unknown(table: TextTable, row: int, column: str, found: str, known: Collection[str]) -> list[Problem]:
    if found in known:
        return []
    near = get_close_matches(found, known, n=1)
    hint = f"; did you mean {near[0]}" if near else f"; there are {', '.join(sorted(known))}"
    return [Problem(table.place(row, column), f"{column} {found!r} is unknown{hint}", "Correct the name.")]


def _threshold(text: str) -> float:
    value = number_in(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"threshold {text!r} is no number of counts")
    return value
