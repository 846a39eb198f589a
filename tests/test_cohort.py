"""Slides of two batches with drift, a control and a weak slide: judged together, called one by one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mihc
from mihc.store import digest_results, read_csv

SETTINGS = """
[study]
name = "two batches"
[thresholds]
harmonise = "{harmonise}"
[outcomes.OS]
time = "months"
event = "event"
"""
PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\nCD8,CD8,marker,cell\n"
NEGATIVE = {"S07": 460.0}  # all others 200 in batch A, 300 in batch B
BATCHES = {**{f"S{k:02d}": "A" for k in range(1, 8)}, **{f"S{k:02d}": "B" for k in range(8, 12)}, "CTRL": "A"}
FEW = "S05"  # too few cells to tell anything alone


def write_cohort(folder: Path, *, harmonise: str = "none") -> Path:
    """Eleven slides and a control, as tables of cells: CD3 in a fifth of the cells, CD8 in none."""
    folder.mkdir()
    (folder / "study.toml").write_text(SETTINGS.format(harmonise=harmonise))
    (folder / "panel.csv").write_text(PANEL)
    lines = ["slide,patient,cells,batch,control"]
    for number, (slide, batch) in enumerate(BATCHES.items()):
        rng = np.random.default_rng(number + 60)
        cells = 40 if slide == FEW else 1200
        negative = NEGATIVE.get(slide, 200.0 if batch == "A" else 300.0)
        bright = np.arange(cells) < (0 if slide == "CTRL" else 0.2 * cells)
        table = pd.DataFrame({"x_um": rng.uniform(0, 500, cells), "y_um": rng.uniform(0, 500, cells)})
        table["CD3_cell_mean"] = rng.normal(negative, 20, cells) + bright * 500 * rng.lognormal(0, 0.15, cells)
        table["CD8_cell_mean"] = rng.normal(negative, 20, cells)
        table.to_csv(folder / f"{slide}.csv", index=False)
        control = "negative" if slide == "CTRL" else ""
        lines.append(f"{slide},{'' if control else f'P{number}'},{slide}.csv,{batch},{control}")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n")
    patients = [f"P{number},{10 + number},{number % 2}" for number in range(len(BATCHES) - 1)]
    (folder / "clinical.csv").write_text("patient,months,event\n" + "\n".join(patients) + "\n")
    return folder


def thresholds_of(folder: Path) -> pd.DataFrame:
    return read_csv(folder / "results" / "thresholds.csv").set_index(["slide", "marker"])


def recomputed(folder: Path, **choices) -> set[tuple[str, str]]:
    results = mihc.run(mihc.read_study(folder), **choices)
    assert results.failed == {}
    return {(step.stage, step.slide) for step in results.steps if step.why != "reused" and step.stage != "run"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Every slide by itself, not to be written to."""
    folder = write_cohort(tmp_path_factory.mktemp("alone") / "study")
    assert mihc.run(mihc.read_study(folder)).failed == {}
    return folder


@pytest.fixture(scope="module")
def harmonised(tmp_path_factory) -> Path:
    """The same, where a weak slide may take its batch's threshold; not to be written to."""
    folder = write_cohort(tmp_path_factory.mktemp("harmonised") / "study", harmonise="batch")
    assert mihc.run(mihc.read_study(folder)).failed == {}
    return folder


@pytest.fixture
def study(harmonised, tmp_path) -> Path:
    """A copy with results, to be changed."""
    return Path(shutil.copytree(harmonised, tmp_path / "study"))


def test_a_drifted_slide_and_a_drifted_batch_are_named(alone):
    rows = thresholds_of(alone)
    assert re.fullmatch(
        r"the negative peak of S07 lies 2\.[23] times that of batch A", rows.loc[("S07", "CD3"), "remark"]
    )
    assert rows.loc[("S01", "CD3"), "remark"] == ""
    assert rows.loc[("S01", "CD3"), "batch_peak"] == pytest.approx(200, abs=10)
    report = (alone / "results" / "report.html").read_text()
    assert "batch B: the negative peak lies 1.5 times that of the other batch" in report
    assert "In batch B the negative cells lie elsewhere than in the other batches: CD3, CD8" in report
    assert rows.loc[("S07", "CD3"), "remark"] in report


def test_a_threshold_beside_its_control(alone):
    rows = thresholds_of(alone)
    control = pd.read_csv(alone / "CTRL.csv")["CD3_cell_mean"]
    assert rows.loc[("S01", "CD3"), "control_p99"] == pytest.approx(np.quantile(control, 0.99))
    assert np.isnan(rows.loc[("S08", "CD3"), "control_p99"])  # the control is of the other batch
    assert rows.loc[("CTRL", "CD3"), "control"] == "negative"
    assert np.isnan(rows.loc[("CTRL", "CD3"), "control_p99"])  # a control is none of itself


def test_harmonising_is_off_by_default(alone):
    rows = thresholds_of(alone)
    assert rows.loc[(FEW, "CD3"), "verdict"] == "cannot tell"
    assert "harmonised" not in set(rows["verdict"])


def test_a_weak_slide_takes_its_batchs_threshold_and_keeps_its_own_beside_it(harmonised):
    rows = thresholds_of(harmonised)
    row = rows.loc[(FEW, "CD3")]
    lenders = [rows.loc[(slide, "CD3"), "value"] for slide in ("S01", "S02", "S03", "S04", "S06")]  # S07 has drifted
    assert (row["verdict"], row["method"], row["own_verdict"]) == ("harmonised", "harmonised", "cannot tell")
    assert row["value"] == pytest.approx(np.median(lenders))
    assert np.isnan(row["own_value"])
    assert (row["cells"], row["positive_cells"]) == (40, 8)
    assert "median of 5 slides" in row["reason"]
    regions = read_csv(harmonised / "results" / "regions.csv").set_index(["slide", "population"])
    assert regions.loc[(FEW, "CD3"), "positive_cells_low"] <= 8 <= regions.loc[(FEW, "CD3"), "positive_cells_high"]


def test_a_slide_without_positives_gets_none_from_its_batch(harmonised):
    rows = thresholds_of(harmonised)
    cd8 = rows.xs("CD8", level="marker")
    assert set(cd8.drop(FEW)["verdict"]) == {"negative slide"}
    assert cd8.loc[FEW, "verdict"] == "cannot tell"  # nobody has a threshold to lend
    assert "the batch's threshold was not taken" in cd8.loc[FEW, "reason"]


def test_harmonising_changes_the_weak_slide_only(alone, study):
    (study / "study.toml").write_text((alone / "study.toml").read_text())
    assert recomputed(study) == {
        ("positives", FEW),
        ("study", ""),
        ("statistics", ""),
        ("robustness", ""),
        ("report", ""),
    }
    assert digest_results(study / "results") == digest_results(alone / "results")


def test_another_slide_without_effect_recomputes_no_other(study):
    """A typed threshold on a slide that lends none changes what is called there, and nowhere else."""
    (study / "thresholds.csv").write_text("slide,marker,value\nS09,CD3,600\n")
    assert recomputed(study) == {
        ("positives", "S09"),
        ("study", ""),
        ("statistics", ""),
        ("robustness", ""),
        ("report", ""),
    }


def test_another_control_is_seen_by_its_batch_only(study):
    table = pd.read_csv(study / "CTRL.csv")
    table["CD3_cell_mean"] += 700
    table.to_csv(study / "CTRL.csv", index=False)
    done = recomputed(study)
    assert {slide for stage, slide in done if stage == "values"} == {s for s, batch in BATCHES.items() if batch == "A"}
    assert "lies below" in thresholds_of(study).loc[("S01", "CD3"), "remark"]


def test_a_control_with_positive_cells_of_its_own_is_no_control(study):
    shutil.copy(study / "S01.csv", study / "CTRL.csv")
    table = pd.read_csv(study / "CTRL.csv")
    table["x_um"] += 1
    table.to_csv(study / "CTRL.csv", index=False)
    mihc.run(mihc.read_study(study))
    rows = thresholds_of(study)
    assert rows.loc[("CTRL", "CD3"), "verdict"] == "separable"
    assert np.isnan(rows.loc[("S01", "CD3"), "control_p99"])
    assert rows.loc[("S01", "CD8"), "control_p99"] > 0  # of that marker it is a control still


def test_jobs_of_an_array_and_a_last_run_are_one_run(harmonised, tmp_path):
    """Each job judges with what is known when it comes to it; the last run calls anew only who is judged otherwise."""
    folder = write_cohort(tmp_path / "study", harmonise="batch")
    slides = [FEW, *(slide for slide in BATCHES if slide != FEW)]  # the weak slide first: nobody can lend yet
    for slide in slides:
        assert mihc.run(mihc.read_study(folder), slides=[slide]).report is None
    assert recomputed(folder) >= {("positives", FEW), ("study", ""), ("report", "")}
    assert digest_results(folder / "results") == digest_results(harmonised / "results")
    assert recomputed(folder) == set()


def test_the_last_job_of_an_array_knows_the_others(harmonised, tmp_path):
    folder = write_cohort(tmp_path / "study", harmonise="batch")
    for slide in [*(slide for slide in ("CTRL", *BATCHES) if slide != FEW), FEW]:
        mihc.run(mihc.read_study(folder), slides=[slide])
    assert ("positives", FEW) not in recomputed(folder)


def test_the_patient_has_the_interval(harmonised):
    patients = read_csv(harmonised / "results" / "patients.csv", text=["patient"]).set_index("patient")
    low, value, high = (patients[f"CD3|all|positivity_percent{end}"] for end in ("_low", "", "_high"))
    assert (low <= value).all() and (value <= high).all()
    statistics = read_csv(harmonised / "results" / "statistics.csv")
    assert set(statistics["measure"]) <= {"density_per_mm2", "positivity_percent", ""}  # no end of one is tested
    assert not [name for name in patients if name.startswith("CD8") and name.endswith("_low")]  # negative everywhere


# ---- thresholds that people type


TYPED = (
    "slide,marker,value,who,when,reason\n"
    "*,CD3,520,=Ada,2026-03-01,agreed in the tumour board\nS02,CD3,480,Ben,,faint slide\n"
)
HISTORY = "review/thresholds_history.csv"


def test_who_when_and_why_travel_to_the_results_and_to_the_history(study):
    (study / "thresholds.csv").write_text(TYPED)
    mihc.run(mihc.read_study(study), slides=["S01"])
    assert not (study / HISTORY).exists()  # a job of an array adds nothing: the last run does
    mihc.run(mihc.read_study(study))
    rows = thresholds_of(study)
    said = ["value", "verdict", "who", "when", "reason"]
    assert rows.loc[("S01", "CD3"), said].tolist() == [
        520, "manual", "=Ada", "2026-03-01", "from thresholds.csv: agreed in the tumour board",
    ]  # fmt: skip
    assert rows.loc[("S02", "CD3"), said].tolist() == [480, "manual", "Ben", "", "from thresholds.csv: faint slide"]
    assert rows.loc[("S02", "CD3"), "own_verdict"] == "separable"  # what the slide alone gave stays beside it
    assert np.isnan(rows.loc[("S02", "CD3"), ["low", "high"]].astype(float)).all()
    assert "faint slide" in (study / "results" / "report.html").read_text()
    lines = [line.split(",")[1:] for line in (study / HISTORY).read_text().splitlines()[1:]]
    assert lines == [
        ["*", "CD3", "value", "", "520.0", "'=Ada", "2026-03-01", "agreed in the tumour board"],
        ["S02", "CD3", "value", "", "480.0", "Ben", "", "faint slide"],
    ]
    cells = [
        cell for line in (study / "results" / "thresholds.csv").read_text().splitlines() for cell in line.split(",")
    ]
    assert "'=Ada" in cells and "=Ada" not in cells


def test_a_study_that_types_nothing_has_no_history(alone):
    assert not (alone / HISTORY).exists()
