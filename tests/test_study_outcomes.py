"""Bad clinical tables and joins to the slides, each with one thing wrong; ids as in the catalogue of bad inputs."""

from __future__ import annotations

import pytest
from study_folders import CLINICAL, SETTINGS, SLIDES, errors_of, the_error, warnings_of, write_study

from mihc.studies.joining import LOOK_ALIKES, check_join, difference
from mihc.study import read_study


def test_OT1_a_leading_zero_is_a_near_miss_and_never_joined(tmp_path):
    folder = write_study(tmp_path / "study", slides=SLIDES.replace("P1", "001"), clinical=CLINICAL.replace("P1", "1"))
    problem = the_error(folder)
    assert "near-miss, a leading zero" in problem.what
    assert "'001'" in problem.what and "'1'" in problem.what


@pytest.mark.parametrize(
    ("in_slides", "in_clinical", "kind"),
    [
        ("P1 ", "P1", "a space"),
        ("p1", "P1", "capital letters"),
        ("Pe\u0301", "P\u00e9", "an accented letter"),
        ("P\u200b1", "P1", "an invisible character"),
        ("\u0420\u0031", "P1", "another alphabet"),
        ("1", "1.0", "a leading zero"),
        ("P-01 ", "p-1", "a space and capital letters and a leading zero"),
    ],
)
def test_OT2_near_misses_are_listed_with_what_differs(tmp_path, in_slides, in_clinical, kind):
    clinical = CLINICAL.replace("P1", in_clinical)
    problem = the_error(write_study(tmp_path / "study", slides=SLIDES.replace("P1", in_slides), clinical=clinical))
    assert "near-miss" in problem.what
    assert kind in problem.what


def test_OT3_a_blank_patient_id_is_refused_with_its_line(tmp_path):
    clinical = CLINICAL + " ,5,1,CR,no,60,X\n,6,1,CR,no,60,Y\n"
    problems = errors_of(write_study(tmp_path / "study", clinical=clinical))
    assert [problem.place for problem in problems] == [
        "clinical.csv, line 5, column patient",
        "clinical.csv, line 6, column patient",
    ]
    assert "blank" in problems[0].what


@pytest.mark.parametrize("patient", ["NA", "None", "1E3", "TRUE", "2020-01-02", "9007199254740993", "nan"])
def test_OT4_ids_that_look_like_something_else_are_text(tmp_path, patient):
    folder = write_study(
        tmp_path / "study", slides=SLIDES.replace("P2", patient), clinical=CLINICAL.replace("P2", patient)
    )
    study = read_study(folder)
    assert study.slides[1].patient == patient
    assert study.clinical["patient"].tolist() == ["P1", patient, "P3"]


def test_OT5_identical_rows_of_a_patient_are_read_once_and_said(tmp_path):
    folder = write_study(tmp_path / "study", clinical=CLINICAL + CLINICAL.splitlines()[1] + "\n")
    assert read_study(folder).clinical["patient"].tolist() == ["P1", "P2", "P3"]
    assert any("lines 2 and 5 with the same values" in problem.what for problem in warnings_of(folder))


def test_OT5_conflicting_rows_of_a_patient_are_refused_with_both_lines(tmp_path):
    folder = write_study(tmp_path / "study", clinical=CLINICAL + CLINICAL.splitlines()[1].replace("12.5", "13") + "\n")
    assert "lines 2 and 5 with different os_months" in the_error(folder).what


def test_OT6_several_slides_of_a_patient_are_no_problem(tmp_path):
    assert errors_of(write_study(tmp_path / "study", slides=SLIDES.replace("P2", "P1"))) == []


def test_OT7_OT8_patients_in_one_table_only_are_counted_and_named(tmp_path):
    folder = write_study(tmp_path / "study", slides=SLIDES.replace("P3", "X9"))
    assert errors_of(folder) == []
    whats = [problem.what for problem in warnings_of(folder)]
    assert "1 patient with slides has no row: 'X9'" in whats
    assert "1 patient has no slide: 'P3'" in whats
    slides = SLIDES.replace("P3", "X9") + "S4,d.tif,P1\nS5,e.tif,X8\n"
    more = write_study(tmp_path / "more", slides=slides, clinical=CLINICAL + "P7,9,1,CR,yes,60,x\n")
    whats = [problem.what for problem in warnings_of(more)]
    assert "2 patients with slides have no row: 'X8', 'X9'" in whats
    assert "2 patients have no slide: 'P3', 'P7'" in whats


def test_OT9_no_match_at_all_shows_five_ids_of_each_table(tmp_path):
    clinical = CLINICAL.splitlines()[0] + "\n" + "".join(f"C{n},5,1,CR,yes,60,x\n" for n in range(7))
    problem = the_error(write_study(tmp_path / "study", clinical=clinical))
    assert "0 of 3 patients" in problem.what
    assert "'P1', 'P2', 'P3'" in problem.what
    assert "'C0', 'C1', 'C2', 'C3', 'C4' and 2 more" in problem.what


def test_OT10_fewer_than_half_is_refused_unless_study_toml_allows_it(tmp_path):
    slides = SLIDES.replace("P2", "X2").replace("P3", "X3")
    problem = the_error(write_study(tmp_path / "a", slides=slides))
    assert "only 1 of 3 patients" in problem.what
    assert "min_match = 0.33" in problem.fix
    assert (
        errors_of(write_study(tmp_path / "b", slides=slides, settings=SETTINGS + "[clinical]\nmin_match = 0.33\n"))
        == []
    )


def test_OT10_just_half_is_enough():
    found = check_join(["P1", "P2"], ["P1", "Q7"], min_match=0.5)
    assert [problem.severity for problem in found] == ["warning", "warning"]
    assert "only 1 of 3" in check_join(["P1", "P2", "P3"], ["P1", "Q7"], min_match=0.5)[0].what


def test_OT11_a_decimal_comma_in_a_time_is_refused(tmp_path):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,", 'P2,"3,5",')))
    assert problem.place == "clinical.csv, line 3, column os_months"
    assert "decimal point" in problem.what
    assert 'decimal = ","' in problem.fix


def test_OT12_a_row_of_another_length_is_refused_with_its_line(tmp_path):
    for number, row in enumerate(["P2,3,5,0,SD,no,70,Bob", "P2,3,0"]):
        clinical = CLINICAL.replace("P2,3,0,SD,no,70,Bob", row)
        assert the_error(write_study(tmp_path / f"{number}", clinical=clinical)).place == "clinical.csv, line 3"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_OT13_another_encoding_is_refused_unless_declared(tmp_path, encoding):
    clinical = CLINICAL.replace("yes", "für").encode(encoding)
    assert "encoding" in the_error(write_study(tmp_path / "a", clinical=clinical)).what
    settings = SETTINGS + f'[clinical]\nencoding = "{encoding}"\n'
    study = read_study(write_study(tmp_path / "b", clinical=clinical, settings=settings))
    assert study.clinical["signature"].tolist() == ["für", "no", "für"]


def test_OT14_two_columns_of_one_name_are_refused(tmp_path):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("Name", "Age")))
    assert "is there twice, as number 6 and 7" in problem.what


def test_OT15_time_zero_is_warned_of(tmp_path):
    folder = write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,", "P2,0,"))
    assert errors_of(folder) == []
    assert [p.place for p in warnings_of(folder) if "time 0" in p.what] == ["clinical.csv, line 3, column os_months"]


@pytest.mark.parametrize("time", ["-1", "-0.5", "x", "inf", "nan", "1_0"])
def test_OT15_a_time_that_is_negative_or_no_number_is_refused_with_its_row(tmp_path, time):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,", f"P2,{time},")))
    assert problem.place == "clinical.csv, line 3, column os_months"


@pytest.mark.parametrize("event", ["yes", "3", "0.5", "-1", "TRUE"])
def test_OT15_an_event_that_is_neither_0_nor_1_is_refused_with_its_row(tmp_path, event):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,0", f"P2,3,{event}")))
    assert problem.place == "clinical.csv, line 3, column os_event"
    assert repr(event) in problem.what


def test_OT16_events_coded_1_and_2_need_event_value(tmp_path):
    clinical = CLINICAL.replace("12.5,1", "12.5,2").replace("3,0", "3,1").replace("30,0", "30,1")
    problem = the_error(write_study(tmp_path / "a", clinical=clinical))
    assert "coded 1/2" in problem.what
    assert "event_value = 2" in problem.fix
    settings = SETTINGS.replace('event = "os_event"', 'event = "os_event"\nevent_value = 2')
    typed = read_study(write_study(tmp_path / "b", clinical=clinical, settings=settings)).clinical_columns()
    assert typed["os_event"].tolist() == [1.0, 0.0, 0.0]


def test_OT16_an_event_may_be_a_word_when_it_is_named(tmp_path):
    clinical = CLINICAL.replace("12.5,1", "12.5,dead").replace("3,0", "3,alive").replace("30,0", "30,alive")
    settings = SETTINGS.replace('event = "os_event"', 'event = "os_event"\nevent_value = "dead"')
    typed = read_study(write_study(tmp_path / "a", clinical=clinical, settings=settings)).clinical_columns()
    assert typed["os_event"].tolist() == [1.0, 0.0, 0.0]
    folder = write_study(tmp_path / "b", clinical=clinical.replace("30,alive", "30,Dead"), settings=settings)
    assert {problem.place for problem in errors_of(folder)} == {
        "clinical.csv, line 3, column os_event",
        "clinical.csv, line 4, column os_event",
    }


def test_OT17_a_date_is_no_time(tmp_path):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,", "P2,03/04/2020,")))
    assert "looks like a date" in problem.what and "how long it took" in problem.fix


@pytest.mark.parametrize("serial", ["43891", "43891.5", "25569"])
def test_OT18_a_date_as_excel_counts_it_is_no_time(tmp_path, serial):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,", f"P2,{serial},")))
    assert problem.place == "clinical.csv, line 3, column os_months"
    assert (
        "looks like a date that Excel counts in days: " + ("1970" if serial == "25569" else "2020-03-01")
        in problem.what
    )


def test_OT19_a_workbook_under_another_name_is_refused(tmp_path):
    problem = the_error(write_study(tmp_path / "study", clinical=b"PK\x03\x04rest"))
    assert "Excel workbook" in problem.what and "clinical.xlsx" in problem.fix


def test_OT21_columns_that_study_toml_does_not_name_leave_no_trace(tmp_path):
    study = read_study(write_study(tmp_path / "study"))
    assert study.clinical.columns.tolist() == ["patient", "os_months", "os_event", "response", "signature", "age"]
    assert "Ann" not in repr(study.clinical.values.tolist())


def test_a_missing_column_names_who_asked_for_it_and_the_nearest(tmp_path):
    problem = the_error(write_study(tmp_path / "study", clinical=CLINICAL.replace("os_months", "OS_months")))
    assert "'os_months', which study.toml names under [outcomes.OS] time; did you mean OS_months" in problem.what


def test_a_missing_clinical_table_is_a_problem_only_when_it_is_asked_for(tmp_path):
    assert "study.toml names os_months" in the_error(write_study(tmp_path / "study", clinical=None)).what


def test_a_time_without_an_event_is_warned_of(tmp_path):
    folder = write_study(tmp_path / "study", clinical=CLINICAL.replace("P2,3,0", "P2,3,").replace("P3,30,", "P3,,"))
    whats = [problem.what for problem in warnings_of(folder)]
    assert "2 patients have only one of os_months and os_event: 'P2', 'P3'; counted as missing" in whats


def test_a_clinical_column_may_not_take_a_name_of_patients_csv(tmp_path):
    folder = write_study(
        tmp_path / "study",
        clinical=CLINICAL.replace("signature", "slides"),
        settings=SETTINGS.replace("signature", "slides"),
    )
    assert "'slides' is a name that patients.csv uses itself" in the_error(folder).what


def test_a_responder_that_never_occurs_is_warned_of(tmp_path):
    folder = write_study(tmp_path / "study", settings=SETTINGS.replace('"PR"]', '"Pr"]'))
    assert any("responder 'Pr'" in problem.what for problem in warnings_of(folder))


def test_different_ids_are_not_called_near_misses():
    assert difference("P1", "P2") == ""
    assert difference("P10", "P1") == ""
    assert difference("100", "1") == ""


def test_look_alikes_map_other_alphabets_to_latin():
    assert all(key > 127 and value < 128 for key, value in LOOK_ALIKES.items())
