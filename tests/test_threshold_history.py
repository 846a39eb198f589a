"""review/thresholds_history.csv: every change of a typed threshold, kept beside whatever people write there."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from mihc.studies.given_thresholds import SAID
from mihc.studies.threshold_history import COLUMNS, FILE, read_history, remember


def typed(*lines: tuple, levels: tuple[str, ...] = ()) -> pd.DataFrame:
    """thresholds.csv as `read_thresholds` has it: slide, marker, value, who, when, reason."""
    columns = ["slide", "marker", "value", *levels, *SAID]
    return pd.DataFrame([(*line, *[""] * (len(columns) - len(line))) for line in lines], columns=columns)


def lines_of(folder: Path) -> list[list[str]]:
    with (folder / FILE).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def noted(folder: Path, table: pd.DataFrame, time: str = "2026-01-01T00:00:00Z") -> None:
    assert remember(folder, table, noticed=time) == ""


def test_a_change_is_kept_with_the_value_before_and_who_made_it(tmp_path):
    noted(tmp_path, typed(("S1", "CD3", 500.0, "Ada", "March", "faint")), "t1")
    noted(tmp_path, typed(("S1", "CD3", 520.5, "Ben", "", "")), "t2")
    assert lines_of(tmp_path) == [
        ["t1", "S1", "CD3", "value", "", "500.0", "Ada", "March", "faint"],
        ["t2", "S1", "CD3", "value", "500.0", "520.5", "Ben", "", ""],
    ]
    assert tuple(read_history(tmp_path)) == COLUMNS


def test_nothing_is_added_where_nothing_changed(tmp_path):
    table = typed(("*", "CD3", 0.1 + 0.2, "Ada", "", "=SUM(A1)"), ("-S1", "+CD8", 7.0))
    noted(tmp_path, table)
    before = (tmp_path / FILE).read_bytes()
    noted(tmp_path, table)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_study_without_typed_thresholds_gets_no_file(tmp_path):
    noted(tmp_path, typed())
    assert not (tmp_path / FILE).exists()
    assert read_history(tmp_path) is None


def test_a_line_taken_out_is_a_change_and_its_return_another(tmp_path):
    table = typed(("*", "CD3", 500.0))
    for time, now in (("t1", table), ("t2", typed()), ("t3", typed()), ("t4", table)):
        noted(tmp_path, now, time)
    assert [line[0:1] + line[4:6] for line in lines_of(tmp_path)] == [
        ["t1", "", "500.0"], ["t2", "500.0", ""], ["t4", "", "500.0"],
    ]  # fmt: skip
    assert lines_of(tmp_path)[1][-1] == "removed from thresholds.csv"


def test_another_persons_confirmation_is_kept_too(tmp_path):
    noted(tmp_path, typed(("*", "CD3", 500.0, "Ada")))
    noted(tmp_path, typed(("*", "CD3", 500.0, "Ben", "", "looked again")))
    assert lines_of(tmp_path)[1][4:] == ["500.0", "500.0", "Ben", "", "looked again"]


def test_levels_are_kept_one_by_one(tmp_path):
    nan = float("nan")
    noted(tmp_path, typed(("*", "CD3", 500.0, 800.0, nan), levels=("moderate", "strong")))
    noted(tmp_path, typed(("*", "CD3", 500.0, 900.0, nan), levels=("moderate", "strong")))
    assert [line[3:6] for line in lines_of(tmp_path)] == [
        ["value", "", "500.0"], ["moderate", "", "800.0"], ["moderate", "800.0", "900.0"],
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_T7_text_that_a_spreadsheet_would_run_is_disarmed_in_the_history(tmp_path, start):
    table = typed(("*", "CD3", 500.0, f"{start}who", f"{start}when", f"{start}why"))
    noted(tmp_path, table)
    assert [cell[0] for cell in lines_of(tmp_path)[0][-3:]] == ["'"] * 3
    noted(tmp_path, table)
    assert len(lines_of(tmp_path)) == 1  # it reads back as what it was
    assert read_history(tmp_path)["who"].tolist() == [f"{start}who"]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"noticed;slide\n", b'"', b"\xff\xfe"])
def test_a_history_that_cannot_be_read_is_left_alone_and_told(tmp_path, content):
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(content)
    assert remember(tmp_path, typed(("*", "CD3", 500.0)), noticed="t").startswith(f"{FILE} was left alone")
    assert (tmp_path / FILE).read_bytes() == content


def test_lines_that_people_add_stay_byte_for_byte(tmp_path):
    noted(tmp_path, typed(("*", "CD3", 500.0)))
    by_hand = (tmp_path / FILE).read_bytes().replace(b"\n", b"\r\n") + "t2,*,CD3,value,500,510,Zoë,,by hand".encode()
    (tmp_path / FILE).write_bytes(by_hand)
    noted(tmp_path, typed(("*", "CD3", 520.0)), "t3")
    assert (tmp_path / FILE).read_bytes().startswith(by_hand)
    assert lines_of(tmp_path)[-1] == ["t3", "*", "CD3", "value", "510.0", "520.0", "", "", ""]


def test_a_folder_that_cannot_be_written_is_told_and_stops_nothing(tmp_path):
    (tmp_path / "review").write_text("a file in the way")
    told = remember(tmp_path, typed(("*", "CD3", 500.0)), noticed="t")
    assert "could not be written" in told and "the next run adds" in told
