"""Comma-separated tables in which every cell is text: ids stay exact (001, NA, 1E3), and nothing is guessed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mihc.errors import CONTROL, Problem
from mihc.studies.workbook import MOST_BYTES, ZIP, WorkbookError, read_sheet

MISSING = ("", "NA")  # in times, events and numeric covariates; in other columns NA is a word like any other
SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class TextTable:
    """A table as it is written: `rows[i]` stands in line `lines[i]` of the file."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    line_word: str = "line"  # what a line is called where a person looks it up; "row" in a workbook
    header_line: int = 1

    def cell(self, row: int, column: str) -> str:
        """Text of a cell; "" when there is no such column."""
        return self.rows[row][self.columns.index(column)] if column in self.columns else ""

    def column(self, column: str) -> list[str]:
        """Texts of a column, from the first row to the last."""
        return [self.cell(row, column) for row in range(len(self.rows))]

    def place(self, row: int, column: str = "") -> str:
        """Where a person finds a row or a cell."""
        return f"{self.name}, {self.line_word} {self.lines[row]}" + (f", column {column}" if column else "")

    @property
    def header(self) -> str:
        """Where the names of the columns stand."""
        return f"{self.name}, {self.line_word} {self.header_line}"


def read_table(path: Path, *, encoding: str = "utf-8", separator: str = ",") -> tuple[TextTable | None, list[Problem]]:
    """Read a table; None together with problems when it cannot be read.

    A byte order mark, Windows line ends and blank lines are no problem. Lines with too few or too many cells, two
    columns of one name, another separator and another encoding are.

    Parameters
    ----------
    path
        The file.
    encoding, separator
        As declared; a UTF-8 byte order mark is always understood.
    """
    name = path.name
    text, problem = _decode(path, encoding)
    if problem:
        return None, [problem]
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        return None, [Problem(name, f"cannot be read as a table: {error}", "Look for a stray double quote.")]
    return _checked(name, [(line, row) for line, row in rows if any(cell.strip() for cell in row)], separator)


def read_workbook_table(path: Path, *, sheet: str = "") -> tuple[TextTable | None, list[Problem]]:
    """Read a sheet of an Excel workbook as `read_table` reads a text table; rows are numbered as in Excel."""
    name = path.name
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WorkbookError(f"has more than {MOST_BYTES / 1e6:.0f} MB: too much for a table of patients")
        found = read_sheet(path.read_bytes(), sheet=sheet)
    except WorkbookError as error:
        return None, [Problem(name, error.what, error.fix)]
    except OSError as error:
        return None, [Problem(name, f"cannot be read: {error.strerror}", "Close it in Excel; check its permissions.")]
    table, problems = _checked(name, list(found.rows), ",", "row")
    fix = "Show them, and delete what does not belong to the study."
    return table, problems + [Problem(name, note, fix, "warning") for note in found.notes]


def _decode(path: Path, encoding: str) -> tuple[str, Problem | None]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return "", Problem(path.name, "the file does not exist", "Check the name, or run: mihc init")
    except OSError as error:
        return "", Problem(path.name, f"cannot be read: {error.strerror}", "Check the file's permissions.")
    if raw[:4] == ZIP:
        fix = "In Excel: save as CSV UTF-8; clinical data may also stay a workbook, named clinical.xlsx."
        return "", Problem(path.name, "is an Excel workbook, not a text table", fix)
    return _decode_bytes(raw, path.name, encoding)


def _decode_bytes(raw: bytes, name: str, encoding: str) -> tuple[str, Problem | None]:
    utf_8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")
    fix = 'Save it as "CSV UTF-8"'
    fix += '; clinical.csv may declare another: [clinical] encoding = "latin-1" in study.toml.'
    if utf_8 and raw[:2] in BYTE_ORDER_MARKS:
        return "", Problem(name, f"encoding: found {BYTE_ORDER_MARKS[raw[:2]]}, needed UTF-8", fix)
    try:
        text = raw.decode("utf-8-sig" if utf_8 else encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        found = f"encoding: byte 0x{raw[error.start]:02X} in line {line} is not {encoding}"
        return "", Problem(name, found + " (often it is latin-1 or cp1252)", fix)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return "", Problem(f"{name}, line {line}", f"encoding: holds a zero byte, so it is no text in {encoding}", fix)
    return text, None


def _checked(
    name: str, rows: list[tuple[int, list[str]]], separator: str, line_word: str = "line"
) -> tuple[TextTable | None, list[Problem]]:
    if not rows:
        return None, [Problem(name, "the table is empty", "Its first line names the columns.")]
    header, body = rows[0][1], rows[1:]
    other = _other_separator(header, separator)
    if other:
        found = f"found {other!r} between the columns, needed {separator!r}"
        fix = f"Save it with {SEPARATOR_NAMES[separator]}"
        fix += f'; clinical.csv may declare another: [clinical] separator = "{other}" in study.toml.'
        return None, [Problem(f"{name}, {line_word} {rows[0][0]}", found, fix)]
    problems = [
        Problem(
            f"{name}, {line_word} {line}",
            f"{len(row)} cells, but the first line names {len(header)} columns",
            "Put a cell that holds a comma into double quotes; write a decimal point in numbers.",
        )
        for line, row in body
        if len(row) != len(header)
    ]
    problems += _header_problems(f"{name}, {line_word} {rows[0][0]}", header, body)
    problems += _unreadable(f"{name}, {line_word}", rows)
    if problems:
        return None, problems
    named = [index for index, column in enumerate(header) if column.strip()]
    columns = tuple(header[index].strip() for index in named)
    cells = tuple(tuple(row[index] for index in named) for _, row in body)
    return TextTable(name, columns, cells, tuple(line for line, _ in body), line_word, rows[0][0]), []


def _unreadable(place: str, rows: list[tuple[int, list[str]]]) -> list[Problem]:
    return [
        Problem(f"{place} {line}", f"{cell[:60]!r} holds a control character", "Type the text anew.")
        for line, row in rows
        for cell in row
        if CONTROL.search(cell)
    ]


def _other_separator(header: Sequence[str], separator: str) -> str:
    if len(header) > 1:
        return ""
    return next((mark for mark in SEPARATOR_NAMES if mark != separator and mark in header[0]), "")


def _header_problems(place: str, header: list[str], body: list[tuple[int, list[str]]]) -> list[Problem]:
    """Two columns of one name (without case); cells below a column without a name."""
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, column in enumerate(header, 1):
        key = column.strip().casefold()
        if not key:
            filled = next((at for at, row in body if len(row) == len(header) and row[number - 1].strip()), None)
            if filled:
                what = f"column {number} has no name, but line {filled} fills it"
                problems.append(Problem(place, what, "Name the column or empty it."))
        elif key in seen:
            what = f"column {column.strip()!r} is there twice, as number {seen[key]} and {number}"
            problems.append(Problem(place, what, "Rename or remove one of them."))
        seen.setdefault(key, number)
    return problems


def check_columns(table: TextTable, needed: Sequence[str], allowed: Sequence[str]) -> list[Problem]:
    """Columns that a table lacks, and columns that it may not have, with the nearest name."""
    place = f"{table.name}, line 1"
    problems = [
        Problem(place, f"the column {name} is missing; found {', '.join(table.columns)}", f"Add the column {name}.")
        for name in needed
        if name not in table.columns
    ]
    for name in table.columns:
        if name not in allowed:
            near = get_close_matches(name.casefold(), allowed, n=1)
            hint = f"; did you mean {near[0]}" if near else f"; the columns are {', '.join(allowed)}"
            problems.append(Problem(place, f"unknown column {name!r}{hint}", "Correct the name or remove the column."))
    return problems


def filled_cells(table: TextTable, rows: Sequence[int], column: str) -> Iterator[tuple[int, str]]:
    """Row and text of the cells of a column that are not missing."""
    if column in table.columns:
        yield from ((row, table.cell(row, column)) for row in rows if table.cell(row, column).strip() not in MISSING)


def number_in(text: str, *, decimal: str = ".") -> float:
    """A number as text; ValueError says what was found instead."""
    found = text.strip()
    if decimal == "." and "," in found:
        raise ValueError(f"{text!r} has a comma; needed a number with a decimal point")
    if any(mark in found for mark in "/:") or found.count("-") > 1 or found.count(".") > 1:
        raise ValueError(f"{text!r} looks like a date; needed a number")
    try:
        if "_" in found:
            raise ValueError
        return float(found.replace(",", ".") if decimal == "," else found)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
