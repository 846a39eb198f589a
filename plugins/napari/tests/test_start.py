"""A new study from a folder of slides: the model without a screen, then the real napari and Qt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from qtpy.QtWidgets import QAbstractItemView, QComboBox, QWidget

import mihc
from napari_mihc.panels.start import StartPanel
from napari_mihc.start import CELLS, CLASSES, NewStudy, Progress, problems_in_words


@pytest.fixture
def slides(study_folder, tmp_path) -> Path:
    """A folder with slides and nothing else."""
    folder = tmp_path / "new"
    shutil.copytree(study_folder / "slides", folder)
    return folder


# ---- the model


def test_a_folder_of_slides_becomes_a_study_that_can_run(slides):
    study = NewStudy(slides)
    assert not study.is_begun and study.report is None
    notes = study.begin()
    assert study.is_begun and "panel.csv" in notes[0] and not any("--" in note for note in notes)
    assert [row[0] for row in study.page("slides.csv").rows] == ["CONTROL", "S01", "S02"]
    assert [one for one in study.check() if one.severity == "error"] == []


def test_tables_are_kept_and_read_back(slides):
    study = NewStudy(slides)
    study.begin(pseudonyms=True)
    panel = study.page("panel.csv")
    role = panel.columns.index("role")
    rows = [list(row) for row in panel.rows]
    rows[2][role] = " ignore "
    study.write("panel.csv", panel.columns, [*rows, [""] * len(panel.columns)])
    assert [row[role] for row in study.page("panel.csv").rows][:3] == ["nuclei", "tumour", "ignore"]
    study.write(CELLS, ("name", "is"), [["B cell", "CD20+"], ["", ""]])
    assert study.page(CELLS).rows == (("B cell", "CD20+"),)
    study.write(CLASSES, ("class", "tissue class"), [["Nest", "tumour"]])
    assert study.page(CLASSES).rows == (("Nest", "tumour"),)
    study.write(CELLS, ("name", "is"), [["B cell", "CD200+"]])
    problems = study.check()
    assert any("CD200" in one.what for one in problems)
    assert problems_in_words(problems).startswith("1 problem to solve")


def test_a_run_is_stopped_and_says_so(slides):
    study, heard = NewStudy(slides), []
    study.begin()

    def tell(event):
        heard.append(event.stage)
        study.stop()

    with pytest.raises(mihc.Stopped):
        study.run(tell)
    assert heard and "done" not in heard


def test_progress_is_told_in_words():
    from mihc.stages import Event

    progress = Progress(3)
    for event in (
        Event("S01", "cells", 2, 9),
        Event("S01", "done", 1, 1),
        Event("S02", "", 0, 0, "failed: no such file"),
        Event("S02", "done", 1, 1),
        Event("", "report", 1, 1, "recomputed because no earlier result"),
    ):
        progress.tell(event)
    assert progress.words == "2 of 3 slides done. the study: report"
    assert progress.failed == {"S02": "no such file"}


# ---- on the screen


@pytest.fixture
def panel(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    made = StartPanel(viewer)
    viewer.window.add_dock_widget(made, name="Start here")
    return made


def wait(panel, qtbot, seconds=600):
    qtbot.waitUntil(lambda: panel.working is None, timeout=1000 * seconds)


def test_from_a_folder_to_report_and_review_without_a_terminal(panel, slides, qtbot):
    assert not panel.run_button.isEnabled()
    panel.open(str(slides))
    panel.begin_button.click()
    wait(panel, qtbot)
    assert panel.said.text().startswith("Wrote study.toml, panel.csv") and panel.pages.count() == 5
    sheet = panel.pages.widget(1)
    column = sheet.columns.index("role")
    row = next(k for k in range(sheet.cells.rowCount()) if sheet.cells.item(k, 1).text() == "CD21")
    delegate = sheet.cells.itemDelegate()
    index = sheet.cells.model().index(row, column)
    parent = QWidget()
    box = delegate.createEditor(parent, None, index)
    assert isinstance(box, QComboBox) and box.findText("ignore") >= 0
    delegate.setEditorData(box, index)
    assert box.currentText() == "marker"
    box.setCurrentText("ignore")
    delegate.setModelData(box, sheet.cells.model(), index)
    assert "CD21,CD21,ignore" in (slides / "panel.csv").read_text()
    controls = panel.pages.widget(0)
    controls.cells.item(0, controls.columns.index("patient")).setText("P0")
    assert "P0" in (slides / "slides.csv").read_text()
    panel.check_button.click()
    wait(panel, qtbot)
    assert panel.said.text().startswith("It can run.")
    panel.run_button.click()
    assert panel.stop_button.isEnabled() and not panel.run_button.isEnabled()
    qtbot.waitUntil(lambda: "slides done" in panel.said.text(), timeout=600_000)
    wait(panel, qtbot)
    assert panel.said.text().startswith("Done: 3 of 3 slides")
    assert panel.report_button.isEnabled() and panel.study.report.is_file()
    panel.review_button.click()
    assert panel.viewer.title.startswith("mihc - ") and "DAPI" in panel.viewer.layers
    qtbot.waitUntil(lambda: {"nuclei", "cells", "regions", "AF"} <= {layer.name for layer in panel.viewer.layers})


def test_what_is_wrong_is_told_in_words_and_nothing_pops_up(panel, slides, qtbot):
    panel.open(str(slides / "nowhere"))
    assert "no such folder" in panel.said.text() and panel.study is None
    empty = slides / "empty"
    empty.mkdir()
    panel.open(str(empty))
    panel.begin()
    wait(panel, qtbot)
    assert "0 files match" in panel.said.text()
    NewStudy(slides).begin()
    panel.open(str(slides))
    panel.pages.widget(4).study.write(CELLS, ("name", "is"), [["B cell", "CD200+"]])
    panel.run()
    wait(panel, qtbot)
    assert panel.problems.rowCount() >= 1 and "CD200" in panel.problems.item(0, 2).text()
    assert "problem" in panel.said.text()
    assert panel.problems.editTriggers() == QAbstractItemView.EditTrigger.NoEditTriggers
