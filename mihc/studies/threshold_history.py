"""review/thresholds_history.csv: who set which threshold when, kept for as long as the study is.

It lies beside results/, which may be deleted at any time. A run compares thresholds.csv with the last line of each
threshold in here and adds what has changed; nothing is ever taken out, and lines that people add stay as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mihc.store import csv_text
from mihc.stores.files import replace_file
from mihc.studies.given_thresholds import SAID
from mihc.studies.tables import TextTable, check_columns, read_table

FILE = "review/thresholds_history.csv"
LEVELS = ("value", "moderate", "strong")  # columns of thresholds.csv that hold a threshold
COLUMNS = ("noticed", "slide", "marker", "level", "old_value", "new_value", *SAID)
_GUARDED = re.compile(r"'+[=+\-@\t\r\n]")

_Key = tuple[str, str, str]  # slide ("*" is every slide), marker, level


def read_history(folder: Path) -> pd.DataFrame | None:
    """Read the history of a study's thresholds, all text; None where there is none, or it cannot be read."""
    table, _ = _table(folder / FILE)
    if table is None:
        return None
    return pd.DataFrame(
        [[_bare(cell) for cell in _line(table, row)] for row in range(len(table.rows))], columns=COLUMNS
    )


def remember(folder: Path, thresholds: pd.DataFrame, *, noticed: str) -> str:
    """Add to the history what has changed in thresholds.csv since its last line.

    Parameters
    ----------
    folder
        The study's folder.
    thresholds
        thresholds.csv as it was read.
    noticed
        The time to write beside the new lines.

    Returns
    -------
    str
        "" when all is well, else why nothing was added; the next run tries again.
    """
    path = folder / FILE
    table, problem = _table(path)
    if problem:
        return f"{FILE} was left alone, and changed thresholds are not in it: {problem}"
    added = _changes(_last(table) if table else {}, thresholds, noticed)
    if added.empty:
        return ""
    header, _, lines = csv_text(added).partition("\n")
    try:
        old = path.read_bytes() if table else f"{header}\n".encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, old + (b"" if old.endswith(b"\n") else b"\n") + lines.encode())
    except OSError as error:  # held open by another program, or a folder that may not be written to
        return f"{FILE} could not be written ({error.strerror}): the next run adds what has changed."
    return ""


def _table(path: Path) -> tuple[TextTable | None, str]:
    if not path.exists():
        return None, ""
    table, problems = read_table(path)
    if table is not None:
        problems += check_columns(table, COLUMNS, table.columns)
    return (None, problems[0].what) if problems else (table, "")


def _line(table: TextTable, row: int) -> list[str]:
    return [table.cell(row, name) for name in COLUMNS]


def _bare(text: str) -> str:
    """Text as it was before it was kept from running in a spreadsheet."""
    return text[1:] if _GUARDED.match(text) else text


def _last(table: TextTable) -> dict[_Key, tuple[str, ...]]:
    """(slide, marker, level) -> the new value and what was said, of the last line of each."""
    lines = [dict(zip(COLUMNS, map(_bare, _line(table, row)))) for row in range(len(table.rows))]
    return {
        (line["slide"], line["marker"], line["level"]): (line["new_value"], *(line[name] for name in SAID))
        for line in lines
    }


def _changes(last: Mapping[_Key, tuple[str, ...]], thresholds: pd.DataFrame, noticed: str) -> pd.DataFrame:
    now = {
        (str(line["slide"]), str(line["marker"]), level): (float(line[level]), *(str(line[name]) for name in SAID))
        for line in thresholds.to_dict("records")
        for level in LEVELS
        if level in line and not math.isnan(float(line[level]))
    }
    gone = {key: (math.nan, "", "", "removed from thresholds.csv") for key in last if key not in now and last[key][0]}
    rows = [
        (noticed, *key, _number(last.get(key, ("",))[0]), *new)
        for key, new in (now | gone).items()
        if not _same(last.get(key), new)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _same(old: tuple[str, ...] | None, new: tuple[object, ...]) -> bool:
    return old is not None and _number(old[0]) == new[0] and old[1:] == new[1:]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
