"""thresholds.csv: thresholds that a person gives, per slide and marker; "*" is every slide.

Who set a threshold, when and why may stand beside it, in their own words; they are carried to results/thresholds.csv.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from mihc.errors import Problem
from mihc.panel import LEVEL_COLUMNS, LEVELS_FIX, Panel, levels_problem
from mihc.studies.near_names import near_miss
from mihc.studies.slide_list import SlideRow
from mihc.studies.tables import TextTable, check_columns, number_in, read_table

FILE = "thresholds.csv"
NEEDED = ("slide", "marker", "value")
SAID = ("who", "when", "reason")
COLUMNS = (*NEEDED, *SAID)
EVERY_SLIDE = "*"
NO_LEVELS = (None, None)


def read_thresholds(
    folder: Path, slides: Collection[str], markers: Collection[str]
) -> tuple[pd.DataFrame, list[Problem]]:
    """Read thresholds.csv: slide, marker, value (float, counts), who, when, reason (text, "" = not said), moderate and
    strong (float, counts, NaN where no levels are typed).

    Without a file the table is empty.
    """
    names, counts = [*COLUMNS, *LEVEL_COLUMNS], ("value", *LEVEL_COLUMNS)
    empty = pd.DataFrame({name: pd.Series(dtype="f8" if name in counts else object) for name in names})
    if not (folder / FILE).exists():
        return empty, []
    table, problems = read_table(folder / FILE)
    if table is not None:
        problems += check_columns(table, NEEDED, names)
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
            value, levels = _threshold(table.cell(row, "value")), _levels(table, row)
        except ValueError as error:
            problems.append(Problem(table.place(row, "value"), str(error), "Write a number of counts, 0 or more."))
            continue
        said = (table.cell(row, name).strip() for name in SAID)
        rows.append((slide, marker, value, *said, *levels))
        what = levels_problem(value, levels) if levels != NO_LEVELS else ""
        problems += [Problem(table.place(row, "moderate"), what, LEVELS_FIX)] if what else []
    found = pd.DataFrame(rows, columns=names) if rows else empty
    return found.astype(dict.fromkeys(LEVEL_COLUMNS, "f8")), problems


def _levels(table: TextTable, row: int) -> tuple[float | None, ...]:
    """Moderate and strong; None where they are not typed."""
    texts = [table.cell(row, name).strip() for name in LEVEL_COLUMNS]
    return tuple(_threshold(text) if text else None for text in texts)


def levels_of(panels: Mapping[str, Panel], row: SlideRow, thresholds: pd.DataFrame, marker: str) -> tuple[float, ...]:
    """The cut-offs of moderate and strong that hold for a marker on a slide; () where none are typed.

    They come with their threshold: from the slide's own line of thresholds.csv, else the line of every slide, else
    panel.csv.
    """
    for scope in (row.slide, EVERY_SLIDE):
        lines = thresholds[(thresholds["slide"] == scope) & (thresholds["marker"] == marker)]
        if len(lines):
            return typed_levels(lines.iloc[0])
    return next((line.levels for line in panels[row.panel].markers if line.marker == marker), ())


def typed_levels(line: Mapping[str, object] | pd.Series) -> tuple[float, ...]:
    """moderate and strong of a line of thresholds.csv; () where they are not typed."""
    levels = tuple(float(line[name]) for name in LEVEL_COLUMNS)
    return () if any(map(math.isnan, levels)) else levels


def _unknown(table: TextTable, row: int, column: str, found: str, known: Collection[str]) -> list[Problem]:
    if found in known:
        return []
    near = get_close_matches(found, known, n=1)
    hint = f"; did you mean {near[0]}" if near else f"; there are {', '.join(sorted(known))}"
    hint = near_miss(found, known) or hint
    return [Problem(table.place(row, column), f"{column} {found!r} is unknown{hint}", "Correct the name.")]


def _threshold(text: str) -> float:
    value = number_in(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"threshold {text!r} is no number of counts")
    return value
