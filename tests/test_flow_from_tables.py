"""The flow from tables of cells that another program made: no picture, no area, and yet every count."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mihc
from mihc.steps.call import call
from mihc.store import read_csv

PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\nCD8,CD8,marker,cell\n"
SETTINGS = """
[study]
name = "from tables"
[phenotypes]
"cytotoxic T cell" = "CD3+ CD8+"
[outcomes.OS]
time = "os_months"
event = "os_event"
"""
CLINICAL = "patient,os_months,os_event\nP1,10,1\nP2,20,0\nP3,30,1\n"
HEADER = "x_um,y_um,tissue_class,CD3_positive,CD8_positive\n"
CALLS = {  # tissue class, CD3, CD8 of every cell
    "S1": [("tumour", 1, 1), ("tumour", 1, 0), ("tumour", 0, 0), ("stroma", 1, 1), ("outside", 1, 1)],
    "S2": [("tumour", 0, 1), ("stroma", 1, 0)],
    "S3": [("tumour", 1, 1), ("excluded", 1, 1), ("tumour", 0, 0)],
}


def write_tables(folder: Path, tables: dict[str, str], settings: str = SETTINGS, panel: str = PANEL) -> Path:
    """A study of one table of cells per patient."""
    folder.mkdir()
    (folder / "study.toml").write_text(settings)
    (folder / "panel.csv").write_text(panel)
    (folder / "clinical.csv").write_text(CLINICAL)
    lines = [f"{slide},P{number},{slide}.csv" for number, slide in enumerate(tables, 1)]
    (folder / "slides.csv").write_text("slide,patient,cells\n" + "\n".join(lines) + "\n")
    for slide, text in tables.items():
        (folder / f"{slide}.csv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def called(tmp_path_factory) -> Path:
    """A study of given calls with its results, not to be written to."""
    tables = {
        slide: HEADER + "".join(f"{n},{n + 1},{','.join(map(str, cell))}\n" for n, cell in enumerate(cells))
        for slide, cells in CALLS.items()
    }
    folder = write_tables(tmp_path_factory.mktemp("called") / "study", tables)
    results = mihc.run(mihc.read_study(folder))
    assert results.failed == {}
    assert results.report == folder / "results" / "report.html"
    return folder


def counted(slide: str, tissue_class: str, population: str) -> tuple[int, int]:
    """Cells and positive cells, by hand from CALLS."""
    cells = [(cd3, cd8) for its_class, cd3, cd8 in CALLS[slide] if its_class == tissue_class]
    positive = {
        "CD3": [a for a, _ in cells],
        "CD8": [b for _, b in cells],
        "cytotoxic T cell": [a & b for a, b in cells],
    }
    return len(cells), sum(positive[population])


def test_every_count_is_that_of_the_table(called):
    regions = read_csv(called / "results" / "regions.csv")
    expected = {
        (slide, tissue_class, population): counted(slide, tissue_class, population)
        for slide, cells in CALLS.items()
        for tissue_class in {"tumour", "stroma"} & {one[0] for one in cells}
        for population in ("CD3", "CD8", "cytotoxic T cell")
    }
    found = {
        (row.slide, row.tissue_class, row.population): (row.cells, row.positive_cells) for row in regions.itertuples()
    }
    assert found == expected
    assert found["S1", "tumour", "cytotoxic T cell"] == (3, 1)


def test_without_an_area_a_density_is_not_a_number_and_the_reason_is_told(called):
    regions = read_csv(called / "results" / "regions.csv")
    assert regions["area_mm2"].isna().all()
    assert regions["density_per_mm2"].isna().all()
    patients = read_csv(called / "results" / "patients.csv").set_index("patient")
    assert patients.filter(like="density_per_mm2").isna().all(axis=None)
    assert patients.loc["P1", "CD3|tumour|positivity_percent"] == 100 * 2 / 3
    assert patients.loc["P1", "CD3|all|positivity_percent"] == 100 * 3 / 4
    report = (called / "results" / "report.html").read_text()
    assert "The analysed area of 3 slides is not known" in report
    assert "area not known" in report
    assert "its cells came as a table" in report
    assert "mihc review" not in report  # there is no image to open


def test_the_cells_are_kept_with_their_classes_and_calls(called):
    cells = pd.read_parquet(called / "results" / "cells" / "S1.parquet")
    assert cells["tissue_class"].tolist() == ["tumour", "tumour", "tumour", "stroma", "outside"]
    assert cells["CD3_positive"].tolist() == [True, True, False, True, True]
    assert cells["phenotype_cytotoxic T cell"].tolist() == [True, False, False, True, True]


def test_thresholds_say_that_the_calls_were_given(called):
    thresholds = read_csv(called / "results" / "thresholds.csv")
    assert set(thresholds["method"]) == set(thresholds["verdict"]) == {"given"}
    assert set(thresholds["who"]) == {"the table"}
    assert thresholds["value"].isna().all()


def test_thresholds_count_the_analysed_cells_only(called):
    thresholds = read_csv(called / "results" / "thresholds.csv").set_index(["slide", "marker"])
    assert thresholds.loc[("S1", "CD3"), ["cells", "positive_cells"]].tolist() == [4, 3]  # not the one outside
    assert thresholds.loc[("S3", "CD8"), ["cells", "positive_cells"]].tolist() == [2, 1]  # nor the excluded one


def test_a_second_run_reuses_everything(called):
    assert [step.why for step in mihc.run(mihc.read_study(called)).steps if step.stage != "run"].count("reused") == 10


def test_intensities_get_thresholds_of_their_own(tmp_path):
    rng = np.random.default_rng(3)
    tables, truth = {}, {}
    for slide, share in (("S1", 0.1), ("S2", 0.3), ("S3", 0.5)):
        positive = np.arange(800) < 800 * share
        counts = rng.normal(100, 12, (800, 2)) + np.array([900.0, 0.0]) * positive[:, None]
        table = pd.DataFrame(counts, columns=["CD3_cell_mean", "CD8_cell_mean"])
        table.insert(0, "x_um", rng.uniform(0, 500, 800))
        table.insert(1, "y_um", rng.uniform(0, 500, 800))
        tables[slide], truth[slide] = table.to_csv(index=False), int(positive.sum())
    folder = write_tables(tmp_path / "study", tables)
    mihc.run(mihc.read_study(folder))
    rows = read_csv(folder / "results" / "thresholds.csv").set_index(["slide", "marker"])
    for slide, number in truth.items():
        assert rows.loc[(slide, "CD3"), "verdict"] == "separable"
        assert 150 < rows.loc[(slide, "CD3"), "value"] < 950
        assert rows.loc[(slide, "CD3"), "positive_cells"] == number
        assert rows.loc[(slide, "CD8"), "verdict"] == "negative slide"
        assert rows.loc[(slide, "CD8"), "positive_cells"] == 0
    patients = read_csv(folder / "results" / "patients.csv").set_index("patient")
    assert patients["CD3|other|positivity_percent"].to_dict() == pytest.approx({"P1": 10, "P2": 30, "P3": 50})
    report = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert report.count('<svg class="histogram"') == 6  # as on slides with a picture
    assert all((folder / "results" / "figures" / f"thresholds_{slide}.png").is_file() for slide in truth)


def test_a_threshold_typed_far_from_the_cells_is_said_wherever_it_counts(tmp_path):
    """A slip of the hand: 9,000 for 900 makes 0 %, and the slide's cells lie in two groups at 100 and 1,000."""
    rng = np.random.default_rng(3)
    tables = {}
    for slide in ("S1", "S2", "S3"):
        counts = rng.normal(100, 12, 800) + 900 * (np.arange(800) < 240)
        table = pd.DataFrame({"x_um": rng.uniform(0, 500, 800), "y_um": 1.0, "CD3_cell_mean": counts})
        tables[slide] = table.to_csv(index=False)
    panel = "".join(line for line in PANEL.splitlines(keepends=True) if "CD8" not in line)
    settings = SETTINGS.replace('[phenotypes]\n"cytotoxic T cell" = "CD3+ CD8+"\n', "")
    folder = write_tables(tmp_path / "study", tables, settings, panel)
    (folder / "thresholds.csv").write_text("slide,marker,value\nS2,CD3,9000\nS3,CD3,600\n")
    mihc.run(mihc.read_study(folder))
    rows = read_csv(folder / "results" / "thresholds.csv").set_index("slide")
    assert rows.loc["S2", "positive_cells"] == 0 and rows.loc["S3", "positive_cells"] == 240
    told = rows["remark"].fillna("").str.contains("the typed threshold, ")
    assert told.to_dict() == {"S1": False, "S2": True, "S3": False}
    report = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert "CD3: the threshold typed for 1 slide lies far from what their cells say: S2" in re.sub(
        "<[^>]+>", "", report
    )


def test_a_panel_without_a_marker_runs_to_its_report(tmp_path):
    tables = {f"S{n}": f"x_um,y_um\n{n},2\n3,4\n" for n in (1, 2, 3)}
    panel, settings = "channel,marker,role\nDAPI,DAPI,nuclei\n", '[study]\nname = "nuclei only"\n'
    folder = write_tables(tmp_path / "study", tables, settings, panel)
    results = mihc.run(mihc.read_study(folder))
    assert results.failed == {}
    assert len(read_csv(folder / "results" / "regions.csv")) == 0
    run = json.loads((folder / "results" / "run.json").read_text())
    assert run["failed"] == {}


def test_a_defect_is_told_in_one_line_with_where_it_lies(called, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(called, tmp_path / "study"))

    def broken(job, row, *others):
        if row.slide == "S2":
            raise ZeroDivisionError("one\nline")
        return call(job, row, *others)

    monkeypatch.setattr("mihc.pipeline.call", broken)
    results = mihc.run(mihc.read_study(folder), until="positives")
    assert list(results.failed) == ["S2"]
    assert re.fullmatch(
        r"a defect of mihc: ZeroDivisionError: one line \(pipeline.py, line \d+\)", results.failed["S2"]
    )
