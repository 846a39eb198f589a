"""A reviewer's desk without a screen: thresholds that are tried and kept, cells chosen where napari says, saving."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mihc
from mihc.reviews.live import LiveCounts
from napari_mihc.desk import Desk, login_name


@pytest.fixture
def folder(study_folder, tmp_path) -> Path:
    return shutil.copytree(study_folder, tmp_path / "study")


@pytest.fixture
def desk(folder):
    opened = Desk(folder, "anna")
    opened.open("S01")
    yield opened
    opened.close()


def in_viewer(desk: Desk, row: pd.Series) -> np.ndarray:
    """Where napari has a cell of the table."""
    return desk.view.viewer_yx(np.array([row["x_um"]]), np.array([row["y_um"]]))[0]


def test_a_cell_is_chosen_where_napari_shows_it(desk):
    for k in (3, 30, 80):
        row = desk.cells.iloc[k]
        assert desk.choose_cell(in_viewer(desk, row)) == row["cell"]
    assert desk.selected == desk.cells["cell"].iloc[[3, 30, 80]].tolist()
    desk.choose_cell(in_viewer(desk, desk.cells.iloc[30]))
    assert len(desk.selected) == 2 and desk.choose_cell((-5.0, -5.0)) == 0


def test_a_threshold_is_tried_without_trace_and_kept_on_the_disk(desk, folder):
    rows = desk.try_threshold("CD20", 800.0).set_index(["region", "population"])
    values = desk.live.values["CD20"]
    assert rows.loc[(slice(None), "CD20"), "positive_cells"].sum() == (values >= 800).sum()
    assert len(desk.positive_points("CD20")) == (values >= 800).sum()
    assert not (folder / "review" / "anna").exists()
    assert desk.keep_threshold("CD20", 800.0, slides=["S01", "S02"], reason="by eye") == {}
    assert {path.parent.name for path in (folder / "review" / "anna").rglob("journal.jsonl")} == {"S01", "S02"}
    assert desk.marker_view("CD20").threshold.value == 800.0
    assert desk.undo() == "took back: threshold CD20" and desk.marker_view("CD20").threshold.value == 700.0
    assert desk.undo() == "nothing to undo"
    assert desk.redo() == "did again: threshold CD20" and desk.marker_view("CD20").threshold.value == 800.0
    assert desk.redo() == "nothing to do again"


def test_a_negative_slide_has_no_positive_cell(desk):
    assert desk.try_threshold("CD20", None)["positive_cells"].sum() == 0
    assert len(desk.positive_points("CD20")) == 0


def test_the_gallery_shows_the_cells_nearest_to_the_threshold(desk):
    tiles, where = desk.gallery("CD20", 700.0)
    assert tiles.shape == (24, 32, 32) and where.shape == (24, 2) and (tiles.max(axis=(1, 2)) > 0).all()
    values = desk.live.values["CD20"]
    rows = desk.live.nearest("CD20", 700.0, 24)
    near = values[np.searchsorted(desk.live.rows, rows)]
    assert (near < 700).sum() == 12 and near[:12].max() < 700 <= near[12:].min()


def test_the_histogram_is_of_the_cells_and_of_the_batch(desk):
    view = desk.marker_view("CD3")
    assert view.cells.sum() == pytest.approx(1) and view.batch.sum() == pytest.approx(1)
    assert (np.diff(np.log(view.edges)) > 0).all() and np.ptp(np.diff(np.log(view.edges))) < 1e-9


def test_edits_and_regions_are_kept_and_saved(desk, folder):
    desk.choose_cell(in_viewer(desk, desk.cells.iloc[40]))
    desk.delete()
    assert desk.selected == [] and len(desk.session.state.removed) == 1
    with pytest.raises(mihc.errors.UsageError, match="no cell is chosen"):
        desk.delete()
    before = len(desk.cells)
    assert desk.checks("S01") == ["It has no checks yet."]
    changes = desk.save()
    assert changes.failed == {} and len(desk.cells) == before - 1 and not changes.regions.empty
    quality = pd.read_csv(folder / "results" / "qc.csv").query("slide == 'CONTROL' and verdict != 'ok'")
    assert len(desk.checks("CONTROL")) == max(len(quality), 1)
    assert all(line.startswith(("fail: ", "warn: ", "Every check")) for line in desk.checks("CONTROL"))
    again = Desk(folder, "ben")
    with pytest.raises(mihc.errors.UsageError, match="has no slide 'S99'"):
        again.open("S99")


def test_the_other_slides_are_a_step_away(desk):
    measured = mihc.measured_slides(desk.study)
    assert desk.beside(1) == measured[1] and desk.beside(-1) is None


def test_the_login_name_can_be_a_reviewers():
    assert mihc.review.reviewer_name(login_name())


def test_a_threshold_follows_the_hand_on_a_million_cells():
    """Issue 6: under 100 ms per update in the model; the median of 20, marker and its phenotypes in every region."""
    rng = np.random.default_rng(0)
    count, markers = 1_000_000, ["A", "B", "C"]
    cells = pd.DataFrame({f"{name}_cell_mean": rng.lognormal(5, 1, count) for name in markers})
    classes = np.array(["tumour", "stroma", "other", "outside"])[rng.integers(0, 4, count)]
    cells = cells.assign(tissue_class=classes, region=classes)
    live = LiveCounts(
        cells,
        {name: mihc.Threshold(300.0, 250.0, 350.0, "mixture", "separable", "") for name in markers},
        compartments=dict.fromkeys(markers, "cell"),
        phenotypes={"AB": "A+ B+", "ABC": "AB & C-"},
        area_mm2={(name, name): 5.0 for name in ("tumour", "stroma", "other")},
    )
    live.table(live.touched("A"))  # sorts
    seconds = []
    for value in np.linspace(200, 400, 20):
        started = time.process_time()
        live.set("A", mihc.Threshold(value, 0, 0, "manual", "manual", ""))
        rows = live.table(live.touched("A"))
        seconds.append(time.process_time() - started)
    analysed = cells[classes != "outside"]
    assert rows.loc[rows["population"] == "A", "positive_cells"].sum() == (analysed["A_cell_mean"] >= 400).sum()
    both = (analysed["A_cell_mean"] >= 400) & (analysed["B_cell_mean"] >= 300) & (analysed["C_cell_mean"] < 300)
    assert rows.loc[rows["population"] == "ABC", "positive_cells"].sum() == both.sum()
    assert np.median(seconds) < 0.1
