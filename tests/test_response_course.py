"""Dated responses and best changes: from columns of clinical.csv to the duration of response and its figures."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_folders import errors_of, the_error, warnings_of
from table_study import SETTINGS, draw_clinical, write_table_study

import mihc
from mihc import statistics
from mihc.figures import Course, spider_plot, svg_bytes, swimmer_plot, waterfall_plot
from mihc.store import read_csv

COURSE = """change = "best_change"
changes = { change_2 = 2, change_4 = 4.5 }
start = "response_months"
until = "PFS"
"""
SCORES = '[pdl1]\nmarker = "CD8"\ntumour = "PanCK+"\nimmune = "CD3+"\n'
WITH_COURSE = SETTINGS.replace('responders = ["CR", "PR"]\n', f'responders = ["CR", "PR"]\n{COURSE}')


def with_courses(patients: int = 24, seed: int = 2) -> pd.DataFrame:
    clinical = draw_clinical(patients, seed)
    rng = np.random.default_rng(seed)
    responds = clinical["best_response"].isin(["CR", "PR"])
    best = np.select([responds, clinical["best_response"] == "SD"], [rng.uniform(-100, -30, patients), -10.0], 35.0)
    clinical["best_change"] = np.where(clinical["best_response"] == "NE", np.nan, np.round(best, 1))
    clinical["change_2"] = np.round(clinical["best_change"] / 2, 1)
    clinical["change_4"] = clinical["best_change"].where(clinical["pfs_months"] > 4.5)
    clinical["response_months"] = np.round(clinical["pfs_months"] * rng.uniform(0.1, 0.5, patients), 2).where(responds)
    return clinical


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("course") / "study"
    write_table_study(folder, settings=WITH_COURSE + SCORES, clinical=with_courses())
    assert errors_of(folder) == []
    assert mihc.run(mihc.read_study(folder)).failed == {}
    return folder


def statistics_of(folder: Path) -> pd.DataFrame:
    return read_csv(folder / "results" / "statistics.csv").fillna({"split": "", "term": "", "family": ""})


def test_the_duration_of_response_is_kaplan_meier_from_the_first_response_of_responders(finished):
    clinical = with_courses()
    responders = clinical[clinical["best_response"].isin(["CR", "PR"])]
    time = (responders["pfs_months"] - responders["response_months"]).to_numpy()
    expected = statistics.kaplan_meier(time, responders["pfs_event"].to_numpy()).median()
    rows = statistics_of(finished)
    found = rows[rows["family"] == "Duration of response"].iloc[0]
    assert (found["endpoint"], found["term"], found["estimate_kind"]) == ("ORR", "duration of response", "median")
    assert (found["n"], found["n_events"]) == (len(responders), responders["pfs_event"].sum())
    assert found["estimate"] == pytest.approx(expected.estimate, rel=1e-12)
    assert found["ci_low"] == pytest.approx(expected.ci_low, rel=1e-12)


def test_response_by_categories_of_the_scores_is_fisher_of_the_patients_in_them(finished):
    patients = read_csv(finished / "results" / "patients.csv", text=("patient", "best_response"))
    assert patients["CPS"].notna().sum() == 0  # 240 cells are too few tumour cells for a score here
    rows = statistics_of(finished)
    found = rows[rows["family"] == "Response by PD-L1 category: Fisher"]
    assert found["term"].tolist() == [
        "TPS of 1 and more vs TPS under 1", "TPS of 10 and more vs TPS under 10",
        "CPS of 1 and more vs CPS under 1", "CPS of 10 and more vs CPS under 10",
    ]  # fmt: skip
    assert found["p"].isna().all()
    assert found["note"].str.contains("not evaluable in 24 of 24 patients").all()


def test_scores_of_1_and_10_and_more_are_in_the_upper_category():
    from mihc.associate import associate
    from mihc.studies.toml import parse_settings

    settings, _ = parse_settings('[study]\nname = "x"\n[responses.ORR]\ncolumn = "best"\nresponders = ["PR"]\n')
    cps = np.array([0.0, 0.5, 1.0, 5.0, 9.99, 10.0, 40.0, np.nan, 80.0, 0.2])
    best = np.array(["SD", "SD", "PR", "SD", "PR", "PR", "PR", "PR", "SD", "PR"])
    rows = associate(pd.DataFrame({"patient": list("abcdefghij"), "CPS": cps, "best": best}), settings)
    tests = rows[rows["family"] == "Response by PD-L1 category: Fisher"].set_index("term")
    known = ~np.isnan(cps)
    for cut in (1, 10):
        high, low = known & (cps >= cut), known & (cps < cut)
        table = [[int((part & (best == "PR")).sum()), int((part & (best != "PR")).sum())] for part in (high, low)]
        expected, found = statistics.fisher_exact(table), tests.loc[f"CPS of {cut} and more vs CPS under {cut}"]
        assert (found["n_high"], found["n_low"]) == (high.sum(), low.sum())
        assert found["p"] == pytest.approx(expected.p, rel=1e-12)
        assert found["estimate"] == pytest.approx(expected.estimate, rel=1e-12)
        assert "not evaluable in 1 of 10 patients" in found["note"]


def test_the_report_shows_the_three_figures_and_the_duration(finished):
    names = {path.name for path in (finished / "results" / "figures").iterdir()}
    assert {"waterfall-ORR.svg", "spider-ORR.svg", "swimmer-ORR.svg"} <= {re.sub("_+", "-", name) for name in names}
    report = (finished / "results" / "report.html").read_text()
    assert "ORR: every patient's course" in html.unescape(report)
    assert "duration of response: " in report
    run = json.loads((finished / "results" / "run.json").read_text())
    assert run["settings"]["responses"]["ORR"]["until"] == "PFS"


def test_an_older_study_toml_has_no_such_figures(tmp_path):
    folder = write_table_study(tmp_path / "study", patients=4)
    mihc.run(mihc.read_study(folder))
    assert not list((folder / "results" / "figures").glob("waterfall*"))
    assert "every patient's course" not in html.unescape((folder / "results" / "report.html").read_text())


COURSES = [
    Course("P1", "CR", -100.0, ((2.0, -60.0), (4.0, -100.0)), 2.0, 20.0, 0.0),
    Course("P2 <b>", "PD", 40.0, ((2.0, 40.0),), np.nan, 3.0, 1.0),
    Course("P3", "", np.nan, (), np.nan, np.nan, np.nan),
]


@pytest.mark.parametrize(
    "figure",
    [
        waterfall_plot(COURSES, title="a"),
        spider_plot(COURSES, title="a", unit="months"),
        swimmer_plot(COURSES, title="a", unit="months", until="PFS"),
    ],
    ids=["waterfall", "spider", "swimmer"],
)
def test_every_patient_with_a_value_is_named_and_nobody_else(figure):
    drawn = svg_bytes(figure).decode()
    assert ">P1<" in drawn and "P2 &lt;b&gt;" in drawn and "P3" not in drawn
    assert "n = 2" in drawn


def test_bars_fall_from_growth_to_loss():
    bars = waterfall_plot(COURSES, title="a").axes[0].patches
    assert [bar.get_height() for bar in bars] == [40.0, -100.0]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("best_change", "-101", "it is -100 or more"),
        ("best_change", "NE", "is not a number"),
        ("change_2", "inf", "it is -100 or more"),
        ("response_months", "-1", "it is 0 or more"),
        ("response_months", "999", "after PFS ends it at"),
        ("response_months", "03/04/2020", "looks like a date"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_row(tmp_path, column, value, said):
    clinical = with_courses(6).astype({column: object})
    clinical.loc[2, column] = value
    problem = the_error(write_table_study(tmp_path / "study", settings=WITH_COURSE, clinical=clinical))
    assert problem.place == f"clinical.csv, line 4, column {column}"
    assert said in problem.what


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('until = "PFS"\n', "", "nothing says their unit"),
        ('until = "PFS"', 'until = "TTP"', "is no endpoint of study.toml"),
        ('start = "response_months"', 'begin = "x"', "unknown key `begin`"),
        ("change_4 = 4.5", 'change_4 = "4,5"', "a number with a decimal point"),
        ('change = "best_change"', 'change = "best_chance"', "did you mean best_change"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path, old, new, said):
    assert old in WITH_COURSE
    folder = write_table_study(tmp_path / "study", settings=WITH_COURSE.replace(old, new), clinical=with_courses(6))
    assert any(said in problem.what for problem in errors_of(folder)), errors_of(folder)


def test_responders_without_a_start_are_named(tmp_path):
    clinical = with_courses(12)
    first = clinical.index[clinical["response_months"].notna()][0]
    clinical.loc[first, "response_months"] = np.nan
    folder = write_table_study(tmp_path / "study", settings=WITH_COURSE, clinical=clinical)
    whats = [problem.what for problem in warnings_of(folder)]
    patient = clinical.loc[first, "patient"]
    assert f"1 responders of [responses.ORR] without a time in response_months: {patient!r}" in whats
