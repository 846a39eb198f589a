"""Cells and regions as XLSX, one workbook per slide; text is text there, whatever it looks like."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc import store
from mihc.errors import InputError
from mihc.exports.sources import Source

if TYPE_CHECKING:
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

MOST_ROWS = 1_048_576  # of a sheet, its header among them
MOST_COLUMNS = 16_384
LONGEST_TEXT = 32_767
WIDTH = 14  # characters


def write_regions_book(path: Path, regions: pd.DataFrame) -> None:
    """Write rows of regions.csv as a workbook of one sheet."""
    with _workbook(path) as book:
        _write_sheet(book, "regions", regions.columns, [regions], "regions.csv")


def write_cells_book(path: Path, source: Source, regions: pd.DataFrame) -> None:
    """Write a slide's workbook: the sheet cells, one row per cell with its region, and the sheet regions."""
    with _workbook(path) as book:
        _write_sheet(book, "cells", ["slide", "patient", *source.columns[1:]], source.parts(), source.slide)
        _write_sheet(book, "regions", regions.columns, [regions], source.slide)


def refuse_too_many(source: Source) -> None:
    """Raise InputError for a slide with more cells than a sheet has rows, or more columns."""
    rows, columns = len(source.some(["cell"])), len(source.columns) + 1
    if rows + 1 > MOST_ROWS or columns > MOST_COLUMNS:
        raise InputError(
            f"{rows:,} cells with {columns} columns; a sheet of Excel holds {MOST_ROWS - 1:,} with {MOST_COLUMNS:,}",
            place=source.slide,
            fix="Export it with --to csv, and the other slides with --slides.",
        )


def _workbook(path: Path) -> Workbook:
    """A workbook that is written row by row, so that memory does not grow with its sheets."""
    from xlsxwriter.workbook import Workbook

    plain = {"strings_to_formulas": False, "strings_to_numbers": False, "strings_to_urls": False}
    return Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent), **plain})


def _write_sheet(book: Workbook, name: str, columns: Iterable[str], parts: Iterable[pd.DataFrame], place: str) -> None:
    sheet = book.add_worksheet(name)
    columns = list(columns)
    sheet.set_column(0, len(columns) - 1, WIDTH)
    sheet.freeze_panes(1, 0)
    bold = book.add_format({"bold": True})
    for column, title in enumerate(columns):
        _write_text(sheet, 0, column, str(title), place, bold)
    row = 1
    for part in parts:
        values = [_values(part[title]) for title in columns]
        for line in zip(*values):
            _write_line(sheet, row, line, place)
            row += 1


def _values(column: pd.Series) -> list[object]:
    """Plain Python values; None for NaN and null."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return [value if math.isfinite(value) else None for value in column.tolist()]
    return [None if value is pd.NA or value is None else value for value in column.tolist()]


def _write_line(sheet: Worksheet, row: int, line: tuple[object, ...], place: str) -> None:
    for column, value in enumerate(line):
        if isinstance(value, str):
            _write_text(sheet, row, column, value, place)
        elif isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif value is not None:
            sheet.write_number(row, column, value)


def _write_text(sheet: Worksheet, row: int, column: int, text: str, place: str, *form: object) -> None:
    text = store.guarded(text)
    if len(text) > LONGEST_TEXT:
        raise InputError(
            f"a text of {len(text):,} characters; a cell of Excel holds {LONGEST_TEXT:,}",
            place=place,
            fix="Export it with --to csv.",
        )
    sheet.write_string(row, column, text, *form)
