"""The real napari and Qt: the panels of a review, by hand and by key."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

import mihc
from napari_mihc.desk import Desk
from napari_mihc.review import begin_review
from napari_mihc.table import CHOSEN, DRAWN, KEYS, MOVING


@pytest.fixture
def folder(study_folder, tmp_path) -> Path:
    return shutil.copytree(study_folder, tmp_path / "study")


@pytest.fixture
def panels(make_napari_viewer, folder):
    desk = Desk(folder, "anna")
    opened = begin_review(make_napari_viewer(show=True), desk, slide="S01")
    yield opened
    desk.close()


def page(panels, name: str):
    index = [panels.tabs.tabText(k) for k in range(panels.tabs.count())].index(name)
    panels.tabs.setCurrentIndex(index)
    QApplication.processEvents()
    return panels.tabs.widget(index)


def press(panels, key: str) -> None:
    """Do what a key does."""
    bound = {str(key): action for key, action in panels.table.viewer.keymap.items()}
    bound[key](panels.table.viewer)


def in_viewer(panels, place: int) -> np.ndarray:
    row = panels.table.desk.cells.iloc[place]
    return panels.table.desk.view.viewer_yx(np.array([row["x_um"]]), np.array([row["y_um"]]))[0]


def test_the_list_of_slides_opens_a_slide(panels):
    listed = page(panels, "Slides").listed
    assert [listed.item(row, 0).text() for row in range(2)] == ["S01", "S02"]
    listed.cellDoubleClicked.emit(1, 0)
    assert panels.table.desk.session.row.slide == "S02" and panels.table.viewer.title == "mihc - S02 - anna"
    press(panels, "Shift+B")
    assert panels.table.desk.session.row.slide == "S01"
    press(panels, "Shift+Y")
    assert listed.item(0, 5).text() == "accepted"


def test_slides_in_sight_get_their_thumbnails_beside_the_picture(panels, qtbot):
    slides = page(panels, "Slides")
    qtbot.waitUntil(lambda: not slides.listed.item(2, 0).icon().isNull(), timeout=30_000)
    assert [panels.table.desk.has_thumbnail(name) for name in ("S01", "S02", "CONTROL")] == [True] * 3
    qtbot.waitUntil(lambda: slides.working is None)
    slides.refresh()
    assert not slides.listed.item(0, 0).icon().isNull()
    slides.listed.setCurrentCell(2, 0)
    assert slides.said.text() == "It has no checks yet."  # the run ended before the study's tables


def test_no_key_is_one_of_naparis_own():
    """A layer's own shortcut would be taken before the review's."""
    from napari.utils.key_bindings import coerce_keybinding
    from napari.utils.shortcuts import default_shortcuts

    taken = {str(coerce_keybinding(key)) for keys in default_shortcuts.values() for key in keys}
    assert len(taken) > 40 and {str(coerce_keybinding(key)) for key in KEYS} & taken == set()


def test_the_line_is_dragged_and_counts_and_points_follow(panels):
    thresholds = page(panels, "Thresholds")
    thresholds.marker.setCurrentText("CD20")
    histogram, desk = thresholds.histogram, panels.table.desk
    histogram.resize(400, 150)
    for value in (650.0, 900.0):
        spot = QPointF(histogram.x_of(value), 60.0)
        kind, left = QMouseEvent.Type.MouseMove, Qt.MouseButton.LeftButton
        histogram.mouseMoveEvent(QMouseEvent(kind, spot, spot, left, left, Qt.KeyboardModifier.NoModifier))
        assert thresholds.value.value() == pytest.approx(value, abs=0.1)
        positive = int((desk.live.values["CD20"] >= histogram.value).sum())
        rows = [k for k in range(thresholds.counts.rowCount()) if thresholds.counts.item(k, 1).text() == "CD20"]
        assert sum(int(thresholds.counts.item(k, 3).text()) for k in rows) == positive
        assert len(panels.table.viewer.layers[MOVING].data) == positive
    histogram.dropped.emit(histogram.value)
    assert not thresholds.gallery.pixmap().isNull()
    thresholds.reason.setText("by eye")
    thresholds.keep()
    kept = desk.session.state.thresholds["CD20"]
    assert kept.value == pytest.approx(900.0, abs=0.1) and kept.reason == "by eye"
    thresholds.negative()
    assert "negative slide" in thresholds.said.text()
    press(panels, "Shift+U")
    assert desk.session.state.thresholds["CD20"].value == kept.value
    assert thresholds.value.value() == pytest.approx(kept.value, abs=0.1)  # what is shown goes back too
    press(panels, "Shift+D")
    assert "negative slide" in thresholds.said.text()
    visible = {layer.name for layer in panels.table.viewer.layers if layer.visible and type(layer).__name__ == "Image"}
    assert visible == {"DAPI", "PanCK", "CD20"}


def test_cells_are_chosen_edited_and_undone_in_the_picture(panels):
    table = panels.table
    page(panels, "Cells")
    nuclei = table.viewer.layers["nuclei"]
    spot = in_viewer(panels, 40)
    cell = int(table.desk.cells["cell"].iloc[40])
    row, column = np.floor(table.desk.pixel(spot)).astype(int)

    def here() -> int:
        level = nuclei.data[0] if nuclei.multiscale else nuclei.data
        return int(np.asarray(level[row : row + 1, column : column + 1])[0, 0])

    table.choose(spot)
    assert len(table.viewer.layers[CHOSEN].data) == 1 and here() == cell
    press(panels, "Shift+X")
    assert here() == 0 and "deleted" in panels.said.text()
    press(panels, "Shift+U")
    assert here() == cell
    press(panels, "Shift+X")
    assert "no cell is chosen" in panels.said.text()
    press(panels, "Shift+C")
    assert "nothing is drawn yet" in panels.said.text()
    table.drawing().add_paths([spot + np.array([[0, -20], [0, 20]])])
    table.choose(spot)
    press(panels, "Shift+C")
    assert "split" in panels.said.text() and len(table.desk.session.state.added) == 2
    assert len(table.viewer.layers[DRAWN].data) == 0


def test_regions_are_drawn_over_what_was_found(panels):
    regions, table = page(panels, "Regions"), panels.table
    outline = np.array([[10.0, 10.0], [10.0, 40.0], [40.0, 40.0], [40.0, 10.0]])
    table.drawing().add_polygons([outline])
    regions.name.setText("Lymphoid")
    regions.tissue_class.setCurrentText("other")
    regions.draw()
    drawn = next(one for one in table.desk.session.regions() if one.name == "Lymphoid")
    assert drawn.area_mm2 == pytest.approx(900e-6)
    shown = table.viewer.layers["regions"]
    ring = shown.data[list(shown.features["region"]).index("Lymphoid")]
    assert np.ptp(ring, axis=0) == pytest.approx([30.0, 30.0]) and ring.min() == pytest.approx(10.0)
    assert "Lymphoid" in [regions.region.itemText(k) for k in range(regions.region.count())]
    regions.region.setCurrentText("Lymphoid")
    table.remove_region("Lymphoid")
    assert "Lymphoid" not in {one.name for one in table.desk.session.regions()}


def test_save_shows_before_and_after(panels, qtbot):
    save, table = page(panels, "Save"), panels.table
    table.desk.session.set_threshold("CD20", 900.0)
    with qtbot.waitSignal(_returned(save), timeout=120_000):
        pass
    qtbot.waitUntil(lambda: save.working is None, timeout=10_000)
    texts = [save.changed.item(row, 0).text() for row in range(save.changed.rowCount())]
    assert any("S01" in text and "CD20, per mm²" in text for text in texts)
    assert any(text.startswith("patient") for text in texts) and "saved" in panels.said.text()
    assert mihc.review.final_reviewer(table.desk.study, "S01") == "anna"


def _returned(save):
    save.start()
    return save.working.finished


def test_two_reviewers_are_compared(panels, qtbot):
    table = panels.table
    reviewers = page(panels, "Reviewers")
    with mihc.review.open_review(table.desk.study, "S01", "ben") as other:
        other.set_threshold("CD20", 600.0)
    reviewers.refresh()
    assert reviewers.other.currentText() == "ben"
    reviewers.compare()
    qtbot.waitUntil(lambda: reviewers.working is None, timeout=60_000)
    assert reviewers.agreement.rowCount() > 3
    reviewers.choose("ben")
    assert mihc.review.final_reviewer(table.desk.study, "S01") == "ben" and "ben" in reviewers.said.text()


def test_the_help_names_every_key(panels):
    from qtpy.QtWidgets import QLabel

    text = page(panels, "Help").findChild(QLabel).text()
    assert all(words in text for words in ("Shift-M", "Shift-N", "Ctrl + click", "Save"))
