"""An Excel workbook's sheet as a table of texts: ids stay what they are, dates are written as dates, nothing is run.

A workbook (ECMA-376) is a zip of XML parts. Only the parts that a plain table needs are read, in memory and with caps;
a formula counts by the value that was stored with it, and is refused without one.
"""

from __future__ import annotations

import datetime
import io
import math
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

MOST_BYTES = 64 * 10**6  # of the file
MOST_MEMBERS = 10_000
MOST_PART_BYTES = 32 * 10**6  # of one XML part, unpacked
MOST_ROWS = 100_000
MOST_COLUMNS = 2_000
OLE = b"\xd0\xcf\x11\xe0"  # how .xls, and workbooks with a password, begin
ZIP = b"PK\x03\x04"
_DATE_FORMATS = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])  # built in: 18.8.30
_NOT_DATE = re.compile(r'"[^"]*"|\\.|\[(?!h|m|s)[^\]]*\]', re.IGNORECASE)  # texts and colours within a format
_DATE_LETTERS = re.compile("[dmyhs]", re.IGNORECASE)
_REFERENCE = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")


class WorkbookError(ValueError):
    """Why a workbook cannot be read, in words."""

    def __init__(self, what: str, fix: str = "In Excel: save the one sheet as a new .xlsx, or as CSV UTF-8."):
        super().__init__(what)
        self.what, self.fix = what, fix


@dataclass(frozen=True)
class Sheet:
    """The rows of a sheet that hold anything, from its first column on."""

    name: str
    rows: tuple[tuple[int, list[str]], ...]  # number of the row in Excel, and its texts; all of one length
    notes: tuple[str, ...]  # what a reader of the sheet may not see in Excel


def read_sheet(content: bytes, *, sheet: str = "") -> Sheet:
    """Read one sheet of a workbook.

    Parameters
    ----------
    content
        The bytes of an .xlsx file.
    sheet
        Its name; "" = the only visible one.

    Returns
    -------
    Sheet
        Every cell as text: numbers in their shortest form ("12", "12.5"), dates as 2020-03-01, True as TRUE.

    Raises
    ------
    WorkbookError
        It is an old or protected workbook, no workbook, or too large; it holds macros, links to other files, a DOCTYPE,
        merged cells, a formula without its value or an error value; or there are several sheets and none is named.
    """
    if content[:4] == OLE:
        raise WorkbookError("is an old Excel workbook (.xls) or one with a password", "In Excel: save it as .xlsx.")
    if len(content) > MOST_BYTES:
        raise WorkbookError(f"has {len(content) / 1e6:.0f} MB; the most is {MOST_BYTES / 1e6:.0f} MB")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _Workbook(archive).read(sheet)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise WorkbookError(f"is no whole Excel workbook: {str(error)[:80]}") from None


class _Workbook:
    """The parts of an open workbook."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        self.members = {member.filename: member for member in archive.infolist()}
        if len(self.members) > MOST_MEMBERS:
            raise WorkbookError(f"holds {len(self.members)} parts; the most is {MOST_MEMBERS}")
        for name in self.members:
            if name.startswith("xl/externalLinks/"):
                raise WorkbookError("holds links to other workbooks", "In Excel: paste as values, and save again.")
            if name.endswith("vbaProject.bin"):
                raise WorkbookError("holds macros", "In Excel: save it as a plain .xlsx.")

    def part(self, name: str) -> Element | None:
        """The root of an XML part; None when there is none."""
        if name not in self.members:
            return None
        with self.archive.open(self.members[name]) as packed:
            content = packed.read(MOST_PART_BYTES + 1)
        if len(content) > MOST_PART_BYTES:
            raise WorkbookError(f"unpacks to more than {MOST_PART_BYTES / 1e6:.0f} MB in {name}: too much for a table")
        try:
            return ElementTree.fromstring(content, forbid_dtd=True)
        except DefusedXmlException:
            raise WorkbookError("holds a DOCTYPE (DTD), which no workbook needs") from None
        except (ParseError, ValueError, RecursionError) as error:
            raise WorkbookError(f"is no whole Excel workbook: {name}: {str(error)[:60]}") from None

    def read(self, sheet: str) -> Sheet:
        book = self.part("xl/workbook.xml")
        if book is None:
            raise WorkbookError("is a zip, but no Excel workbook")
        name, part = self._chosen(book, sheet)
        root = self.part(part)
        if root is None:
            raise WorkbookError(f"lacks its sheet {name!r}")
        merged = next((each.get("ref", "") for each in _all(root, "mergeCell")), "")
        if merged:
            raise WorkbookError(f"sheet {name!r} has merged cells at {merged}", "Unmerge them: one cell, one value.")
        settings = next(_all(book, "workbookPr"), None)
        of_1904 = settings is not None and settings.get("date1904") in ("1", "true")
        reader = _Cells(self._strings(), self._date_styles(), datetime.datetime(1904, 1, 1) if of_1904 else None)
        return Sheet(name, tuple(_rows(root, reader)), tuple(_hidden(root, name)))

    def _chosen(self, book: Element, wanted: str) -> tuple[str, str]:
        """Name and part of the sheet that is asked for."""
        targets = {}
        relations = self.part("xl/_rels/workbook.xml.rels")
        for relation in relations if relations is not None else ():
            if relation.get("TargetMode") == "External":
                raise WorkbookError("holds links to other files", "In Excel: paste as values, and save again.")
            targets[relation.get("Id", "")] = posixpath.normpath(posixpath.join("/xl", relation.get("Target", "")))[1:]
        sheets = {
            each.get("name", ""): next((value for key, value in each.items() if key.endswith("}id")), "")
            for each in _all(book, "sheet")
            if wanted or each.get("state", "visible") == "visible"
        }
        named = ", ".join(map(repr, sheets))
        if wanted and wanted not in sheets:
            raise WorkbookError(f"has no sheet {wanted!r}; it has {named}", "Correct [clinical] sheet in study.toml.")
        if not wanted and len(sheets) != 1:
            fix = 'Name one in study.toml: [clinical] sheet = "..."'
            raise WorkbookError(f"has {len(sheets)} sheets: {named}", fix)
        name = wanted or next(iter(sheets))
        return name, targets.get(sheets[name], "")

    def _strings(self) -> list[str]:
        root = self.part("xl/sharedStrings.xml")
        return [] if root is None else [_text_of(item) for item in root if _tag(item) == "si"]

    def _date_styles(self) -> frozenset[int]:
        """Numbers of the cell styles whose numbers are dates or times of day."""
        root = self.part("xl/styles.xml")
        if root is None:
            return frozenset()
        own = {
            each.get("numFmtId", ""): bool(_DATE_LETTERS.search(_NOT_DATE.sub("", each.get("formatCode", ""))))
            for each in _all(root, "numFmt")
            if each.get("formatCode", "").casefold() != "general"
        }
        styles = next(_all(root, "cellXfs"), ())
        ids = [each.get("numFmtId", "0") for each in styles]
        return frozenset(n for n, i in enumerate(ids) if own.get(i, i.isdecimal() and int(i) in _DATE_FORMATS))


@dataclass(frozen=True)
class _Cells:
    """What a cell's stored text means."""

    strings: list[str]
    date_styles: frozenset[int]
    epoch: datetime.datetime | None  # of workbooks that count from 1904

    def text(self, cell: Element) -> str:
        kind, place = cell.get("t", "n"), cell.get("r", "?")
        value = next((each.text or "" for each in cell if _tag(each) == "v"), None)
        if kind == "inlineStr":
            return "".join(_text_of(each) for each in cell if _tag(each) == "is")
        if value is None:
            if any(_tag(each) == "f" for each in cell):
                fix = "Open and save it in Excel, or paste as values."
                raise WorkbookError(f"cell {place} holds a formula whose value was never stored", fix)
            return ""
        if kind == "s":
            if not value.strip().isdecimal() or int(value) >= len(self.strings):
                raise WorkbookError(f"is damaged: cell {place} names a text that is not there")
            return self.strings[int(value)]
        if kind == "e":
            raise WorkbookError(f"cell {place} holds the error {value}", "Correct or empty the cell.")
        if kind == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        if kind in ("str", "d"):
            return value
        style = cell.get("s", "0")
        return self._number(value, place, dated=style.isdecimal() and int(style) in self.date_styles)

    def _number(self, value: str, place: str, *, dated: bool) -> str:
        try:
            number = float(value)
        except ValueError:
            raise WorkbookError(f"is damaged: cell {place} holds {value[:20]!r} as a number") from None
        if not math.isfinite(number):
            raise WorkbookError(f"cell {place} holds {value[:20]!r}", "Correct or empty the cell.")
        if not dated:
            return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
        try:  # days; up to 1900-02-28 a day later than Excel counts, which takes 1900 for a leap year
            start = self.epoch or datetime.datetime(1899, 12, 30) + datetime.timedelta(days=number < 61)
            moment = start + datetime.timedelta(days=number)
        except OverflowError:
            raise WorkbookError(f"cell {place} holds a date that does not exist", "Correct the cell.") from None
        return moment.date().isoformat() if number.is_integer() else moment.isoformat(" ", "seconds")


def _rows(root: Element, reader: _Cells) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, all of the first row's length or of the longest beyond it."""
    found: list[tuple[int, dict[int, str]]] = []
    for place, row in enumerate(_all(root, "row"), 1):
        number = int(row.get("r", "") if row.get("r", "").isdecimal() else place)
        cells: dict[int, str] = {}
        place_in_row = 0  # of a cell that does not say where it is
        for cell in row:
            if _tag(cell) == "c":
                column = _column(cell.get("r", ""))
                column = place_in_row if column is None else column
                place_in_row = column + 1
                text = reader.text(cell)
                if text.strip():
                    cells[column] = text
        if cells:
            found.append((number, cells))
            if len(found) > MOST_ROWS or max(cells) >= MOST_COLUMNS:
                raise WorkbookError(f"has more than {MOST_ROWS} rows or {MOST_COLUMNS} columns: too much for patients")
    width = 1 + max((max(cells) for _, cells in found), default=-1)
    for number, cells in found:
        yield number, [cells.get(column, "") for column in range(width)]


def _column(reference: str) -> int | None:
    """0-based column of a cell such as AB12; None where the cell does not say it."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        return None
    number = 0
    for letter in match.group(1):
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _hidden(root: Element, name: str) -> Iterator[str]:
    hidden = sum(row.get("hidden") in ("1", "true") for row in _all(root, "row"))
    if hidden:
        yield f"sheet {name!r} has {hidden} hidden rows, which are read like the others"


def _all(root: Element, tag: str) -> Iterator[Element]:
    """Elements of a name, in whatever namespace (transitional or strict) the workbook is written."""
    return (each for each in root.iter() if _tag(each) == tag)


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _text_of(item: Element) -> str:
    """The text of a string: its runs joined, without the readings that stand above Japanese text."""
    if _tag(item) == "rPh":
        return ""
    own = (item.text or "") if _tag(item) == "t" else ""
    return own + "".join(_text_of(each) for each in item)
