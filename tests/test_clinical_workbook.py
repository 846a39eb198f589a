"""OT19: clinical data as an Excel workbook, every cell as text; and workbooks that are refused, in words.

The oracle is openpyxl, which writes the workbooks here and reads none for mihc.
"""

from __future__ import annotations

import datetime
import io
import zipfile
from pathlib import Path

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from study_folders import CLINICAL, SETTINGS, errors_of, the_error, warnings_of, write_study
from table_study import write_table_study

from mihc.cli import main
from mihc.pipeline import run
from mihc.store import digest_results
from mihc.studies.workbook import WorkbookError, read_sheet
from mihc.study import init_study, read_study

ROWS = [
    ["patient", "os_months", "os_event", "response", "signature", "age", "Name"],
    ["P1", 12.5, 1, "CR", "yes", 61, "Ann"],
    ["P2", 3, 0, "SD", "no", 70, "Bob"],
    ["P3", 30, 0, "PR", "yes", 55, "Eve"],
]


def workbook(rows: list[list[object]], change=lambda book: None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def write(folder: Path, content: bytes, settings: str = SETTINGS) -> Path:
    write_study(folder, clinical=None, settings=settings)
    (folder / "clinical.xlsx").write_bytes(content)
    return folder


def repacked(content: bytes, change: dict[str, bytes]) -> bytes:
    """The same zip with some parts replaced or added."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change.get(name, old.read(name)))
        for name in change.keys() - set(old.namelist()):
            new.writestr(name, change[name])
    return changed.getvalue()


def part(content: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)


def cell(row: int, column: int, value: object, number_format: str = "General"):
    def change(book: openpyxl.Workbook) -> None:
        book.active.cell(row, column, value).number_format = number_format

    return change


def test_OT19_a_workbook_is_read_as_the_csv_of_the_same_cells(tmp_path):
    read, written = read_study(write(tmp_path / "a", workbook(ROWS))), read_study(write_study(tmp_path / "b"))
    assert read.clinical.equals(written.clinical)
    assert read.clinical_columns().equals(written.clinical_columns())
    assert read.clinical["os_months"].tolist() == ["12.5", "3", "30"]


def test_OT9_what_does_not_match_names_the_workbook(tmp_path):
    """A person who has clinical.xlsx is not sent to look for a clinical.csv."""
    others = [ROWS[0], *([f"X{row[0]}", *row[1:]] for row in ROWS[1:])]
    found = errors_of(write(tmp_path, workbook(others)))
    assert [problem.place for problem in found] == ["clinical.xlsx"]
    assert "are in clinical.xlsx; slides.csv has" in found[0].what and "clinical.csv" not in str(found[0])


def test_OT19_a_study_runs_alike_from_a_workbook_and_from_csv(tmp_path):
    folder = write_table_study(tmp_path / "study", patients=4)
    lines = [line.split(",") for line in (folder / "clinical.csv").read_text().splitlines()]
    numbers = [[float(x) if x.replace(".", "").isdecimal() else x for x in line] for line in lines[1:]]
    run(read_study(folder))
    before = digest_results(folder / "results")
    (folder / "clinical.csv").unlink()
    (folder / "clinical.xlsx").write_bytes(workbook([lines[0], *numbers]))
    run(read_study(folder))
    assert digest_results(folder / "results") == before


@pytest.mark.parametrize("patient", ["001", "NA", "1E3", "TRUE", "2020-01-02", "=1+1", "Jérôme \N{MICROSCOPE}", "  x"])
def test_OT19_text_stays_text(patient):
    inline = workbook([["patient"], ["-"]])
    sheet = part(inline, "xl/worksheets/sheet1.xml").replace(b"<t>-</t>", f"<t>{patient}</t>".encode())
    assert read_sheet(repacked(inline, {"xl/worksheets/sheet1.xml": sheet})).rows[1] == (2, [patient])
    shared = io.BytesIO()
    with xlsxwriter.Workbook(shared) as book:
        sheet = book.add_worksheet()
        sheet.write_string(0, 0, "patient")
        sheet.write_string(1, 0, patient)
        sheet.write_rich_string(2, 0, book.add_format({"bold": True}), patient, "-2")
    assert "xl/sharedStrings.xml" in zipfile.ZipFile(shared).namelist()
    assert read_sheet(shared.getvalue()).rows[1:] == ((2, [patient]), (3, [f"{patient}-2"]))


@given(number=st.floats(-1e9, 1e9) | st.integers(-(10**14), 10**14))
def test_OT19_a_number_comes_as_its_shortest_text(number):
    (_, _), (_, (text,)) = read_sheet(workbook([["x"], [number]])).rows
    stored = float(f"{number:.16g}")  # openpyxl keeps so many digits
    assert float(text) == stored
    assert len(text) <= len(repr(stored))


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (datetime.date(2020, 3, 1), "yyyy-mm-dd", "2020-03-01"),
        (datetime.datetime(2020, 3, 1, 13, 30), "dd/mm/yyyy hh:mm", "2020-03-01 13:30:00"),
        (43891, "dd.mm.yyyy", "2020-03-01"),
        (43891, '"day" 0', "43891"),  # the letters stand in quotes: a number
        (43891, "[Red]0.00", "43891"),
        (0.5, "0%", "0.5"),
        (True, "General", "TRUE"),
        (59, "yyyy", "1900-02-28"),  # Excel goes on with a 29 February that never was
        (61, "yyyy", "1900-03-01"),
    ],
)
def test_OT19_dates_are_written_as_dates_and_other_formats_change_nothing(value, number_format, text):
    content = workbook([["x"], ["-"]], cell(2, 1, value, number_format))
    assert read_sheet(content).rows[1] == (2, [text])


def test_OT19_a_workbook_that_counts_from_1904_has_the_same_dates():
    def change(book: openpyxl.Workbook) -> None:
        book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
        cell(2, 1, datetime.date(2020, 3, 1), "yyyy-mm-dd")(book)

    assert read_sheet(workbook([["x"], ["-"]], change)).rows[1] == (2, ["2020-03-01"])


def test_OT17_OT19_a_date_in_a_time_is_refused_with_its_row(tmp_path):
    problem = the_error(write(tmp_path / "a", workbook(ROWS, cell(3, 2, datetime.date(2020, 4, 3), "dd/mm/yyyy"))))
    assert problem.place == "clinical.xlsx, row 3, column os_months"
    assert "looks like a date" in problem.what


def test_OT18_OT19_a_date_that_lost_its_format_is_refused_with_its_row(tmp_path):
    problem = the_error(write(tmp_path / "a", workbook(ROWS, cell(3, 2, 43891))))
    assert problem.place == "clinical.xlsx, row 3, column os_months"
    assert "2020-03-01" in problem.what


def test_OT1_OT19_ids_that_excel_made_numbers_are_near_misses(tmp_path):
    rows = [[row[0].replace("P", "") if row[0] != "patient" else row[0], *row[1:]] for row in ROWS]
    content = workbook([rows[0], *[[int(row[0]), *row[1:]] for row in rows[1:]]])
    folder = write(tmp_path / "a", content)
    (folder / "slides.csv").write_text("slide,file,patient\nS1,a.tif,001\nS2,b.tif,2\nS3,c.tif,3\n")
    problem = the_error(folder)
    assert "'001'" in problem.what and "near-miss, a leading zero" in problem.what


def test_OT14_OT19_two_columns_of_one_name_are_refused(tmp_path):
    rows = [[*ROWS[0][:-1], "age"], *ROWS[1:]]
    assert the_error(write(tmp_path / "a", workbook(rows))).place == "clinical.xlsx, row 1"


def test_OT5_OT19_conflicting_rows_are_named_as_excel_numbers_them(tmp_path):
    problem = the_error(write(tmp_path / "a", workbook([*ROWS, [], ["P1", 99, *ROWS[1][2:]]])))
    assert "rows 2 and 6 with different os_months" in problem.what


def test_OT21_OT19_columns_that_study_toml_does_not_name_leave_no_trace(tmp_path):
    study = read_study(write(tmp_path / "a", workbook(ROWS)))
    assert "Ann" not in repr(study.clinical.values.tolist())


def with_formula(stored: str) -> bytes:
    content = workbook(ROWS)
    sheet = part(content, "xl/worksheets/sheet1.xml").replace(b"<v>12.5</v>", f"<f>25/2</f>{stored}".encode())
    return repacked(content, {"xl/worksheets/sheet1.xml": sheet})


def test_a_formula_counts_by_its_stored_value(tmp_path):
    study = read_study(write(tmp_path / "a", with_formula("<v>12.5</v>")))
    assert study.clinical["os_months"].tolist() == ["12.5", "3", "30"]


def a_second_sheet(book: openpyxl.Workbook) -> None:
    book.active.title = "patients"
    book.create_sheet("legend").append(["x"])


def test_a_sheet_of_several_is_named_and_a_hidden_one_is_not_asked_for(tmp_path):
    content = workbook(ROWS, a_second_sheet)
    problem = the_error(write(tmp_path / "a", content))
    assert "has 2 sheets: 'patients', 'legend'" in problem.what and "[clinical] sheet" in problem.fix
    named = write(tmp_path / "b", content, SETTINGS + '[clinical]\nsheet = "patients"\n')
    assert errors_of(named) == []
    wrong = write(tmp_path / "c", content, SETTINGS + '[clinical]\nsheet = "Patients"\n')
    assert "no sheet 'Patients'" in the_error(wrong).what

    def hide(book: openpyxl.Workbook) -> None:
        a_second_sheet(book)
        book["legend"].sheet_state = "hidden"

    assert errors_of(write(tmp_path / "d", workbook(ROWS, hide))) == []


def test_hidden_rows_are_read_and_said(tmp_path):
    def hide(book: openpyxl.Workbook) -> None:
        book.active.row_dimensions[3].hidden = True

    folder = write(tmp_path / "a", workbook(ROWS, hide))
    assert read_study(folder).clinical["patient"].tolist() == ["P1", "P2", "P3"]
    assert any("1 hidden rows" in problem.what for problem in warnings_of(folder))


def bomb() -> bytes:
    """A sheet of 200 MB of blanks in a workbook of 200 kB."""
    return repacked(workbook(ROWS), {"xl/worksheets/sheet1.xml": b" " * 200_000_000})


def many_parts() -> bytes:
    return repacked(workbook(ROWS), {f"xl/media/{n}.png": b"" for n in range(10_001)})


def with_doctype() -> bytes:
    content = workbook(ROWS)
    hostile = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    sheet = part(content, "xl/worksheets/sheet1.xml")
    start = sheet.index(b"<worksheet")
    return repacked(content, {"xl/worksheets/sheet1.xml": sheet[:start] + hostile + sheet[start:]})


def linked_relation() -> bytes:
    content = workbook(ROWS)
    relations = part(content, "xl/_rels/workbook.xml.rels")
    link = b'<Relationship Id="x" Type="y" Target="file:///etc/passwd" TargetMode="External"/></Relationships>'
    return repacked(content, {"xl/_rels/workbook.xml.rels": relations.replace(b"</Relationships>", link)})


REFUSED = {
    "bomb": (bomb, "unpacks to more than 32 MB"),
    "parts": (many_parts, "the most is 10000"),
    "doctype": (with_doctype, "DOCTYPE"),
    "external": (lambda: repacked(workbook(ROWS), {"xl/externalLinks/externalLink1.xml": b"<x/>"}), "other workbooks"),
    "relation": (linked_relation, "links to other files"),
    "macros": (lambda: repacked(workbook(ROWS), {"xl/vbaProject.bin": b"\0"}), "macros"),
    "formula": (lambda: with_formula(""), "cell B2 holds a formula whose value was never stored"),
    "error": (lambda: workbook(ROWS, cell(2, 2, "#N/A")), "cell B2 holds the error #N/A"),
    "merged": (lambda: workbook(ROWS, lambda book: book.active.merge_cells("A2:A3")), "merged cells at A2:A3"),
    "no sheet": (lambda: repacked(workbook(ROWS), {"xl/workbook.xml": b"<workbook/>"}), "has 0 sheets"),
    "not xml": (lambda: repacked(workbook(ROWS), {"xl/workbook.xml": b"hello"}), "no whole Excel workbook"),
    "no workbook": (lambda: repacked(b"PK\x05\x06" + b"\0" * 18, {"a.txt": b"x"}), "no Excel workbook"),
    "text": (lambda: CLINICAL.encode(), "no whole Excel workbook"),
    "cut": (lambda: workbook(ROWS)[:3000], "no whole Excel workbook"),
    "empty": (lambda: b"", "no whole Excel workbook"),
    "old": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "old Excel workbook (.xls)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_workbook_that_cannot_be_trusted_is_refused_in_words(tmp_path, name):
    make, said = REFUSED[name]
    problem = the_error(write(tmp_path / "study", make()))
    assert problem.place == "clinical.xlsx"
    assert said in problem.what
    assert problem.fix


@given(place=st.integers(0, 4000), bit=st.integers(0, 7))
def test_a_changed_bit_never_ends_in_a_traceback(place, bit):
    content = bytearray(CHANGED)
    content[place % len(content)] ^= 1 << bit
    try:
        assert read_sheet(bytes(content)).rows
    except WorkbookError as error:
        assert error.what and error.fix


CHANGED = workbook(ROWS)


def test_an_xls_file_and_two_clinical_tables_are_refused(tmp_path, capsys, monkeypatch):
    folder = write_study(tmp_path / "a", clinical=None)
    (folder / "clinical.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    assert "(.xls), which mihc does not read" in the_error(folder).what
    both = write_study(tmp_path / "b")
    (both / "clinical.xlsx").write_bytes(workbook(ROWS))
    monkeypatch.setattr("sys.argv", ["mihc", "check", str(both)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 3
    assert "there are both clinical.csv and clinical.xlsx" in capsys.readouterr().out


def test_init_writes_no_second_clinical_table_beside_a_workbook(tmp_path):
    folder = write_study(tmp_path / "a", clinical=None)
    for name in ("study.toml", "panel.csv", "slides.csv"):
        (folder / name).unlink()
    (folder / "clinical.xlsx").write_bytes(workbook(ROWS))
    report = init_study(folder)
    assert not (folder / "clinical.csv").exists()
    assert any("clinical.xlsx is the clinical table" in note for note in report.notes)
