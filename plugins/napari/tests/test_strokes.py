"""The real napari and Qt: strokes are painted, a map is looked at, rejected without a trace, accepted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

import mihc
from napari_mihc.desk import Desk
from napari_mihc.review import begin_review
from napari_mihc.strokes import LAYER, MAP

STROKES = "annotations/strokes/S01.geojson"


@pytest.fixture
def folder(study_folder, tmp_path) -> Path:
    copied = shutil.copytree(study_folder, tmp_path / "study")
    (copied / "annotations" / "S01.geojson").unlink()  # the classifier is for slides without annotations
    return copied


@pytest.fixture
def panels(make_napari_viewer, folder):
    desk = Desk(folder, "anna")
    opened = begin_review(make_napari_viewer(show=True), desk, slide="S01")
    opened.tabs.setCurrentWidget(opened.strokes)
    yield opened
    desk.close()


def paint_everything(panels) -> None:
    """Strokes through planted tumour, stroma and glass, where the drawn regions have them."""
    painter = panels.table.strokes
    for region in mihc.slide_regions(panels.table.desk.study, "S01"):
        if region.tissue_class in ("tumour", "stroma"):
            for piece in _lines(region.polygon_um):
                panels.strokes.tissue_class.setCurrentText(region.tissue_class)
                panels.strokes.paint()
                painter.layer().add_paths([piece])


def _lines(polygon) -> list[np.ndarray]:
    """Two lines well inside a polygon, (n, 2) y, x."""
    import shapely

    inside = polygon.buffer(-8)
    x0, y0, x1, y1 = inside.bounds
    cuts = [inside.intersection(shapely.LineString([(x0, y), (x1, y)])) for y in np.linspace(y0, y1, 23)[1:-1]]
    parts = [one for cut in cuts for one in getattr(cut, "geoms", [cut]) if one.length > 15]
    longest = sorted(parts, key=lambda one: -one.length)[:2]
    return [shapely.get_coordinates(one)[:, ::-1] for one in longest]


def learn(panels, qtbot) -> None:
    panels.strokes.start()
    qtbot.waitUntil(lambda: panels.strokes.working is None, timeout=600_000)
    QApplication.processEvents()


def test_a_map_is_seen_rejected_without_a_trace_and_accepted(panels, folder, qtbot):
    page, viewer = panels.strokes, panels.table.viewer
    assert not page.accept.isEnabled()
    page.start()
    qtbot.waitUntil(lambda: page.working is None, timeout=60_000)
    assert "no stroke is painted" in page.said.text()
    paint_everything(panels)
    count = len(viewer.layers[LAYER].data)
    assert count >= 4 and f"{count} strokes painted" in page.said.text()
    learn(panels, qtbot)
    assert page.accept.isEnabled() and page.areas.rowCount() >= 2 and MAP in viewer.layers
    assert not viewer.layers["regions"].visible
    page.drop()
    assert MAP not in viewer.layers and viewer.layers["regions"].visible
    assert not (folder / STROKES).exists() and not (folder / "review" / "classifier").exists()
    panels.table.next_slide()
    panels.table.previous_slide()
    panels.table.strokes.layer()
    assert len(viewer.layers[LAYER].data) == count  # not accepted, not lost while the study is open
    learn(panels, qtbot)
    expected = list(page.painter.trial.regions)
    page.keep()
    assert (folder / STROKES).is_file() and "accepted" in panels.said.text()
    assert panels.table.desk.study.settings.regions.source == "classifier"
    mihc.run(mihc.read_study(folder), until="regions")
    assert mihc.slide_regions(panels.table.desk.study, "S01") == expected


def test_the_last_stroke_is_taken_away_and_learning_can_be_stopped(panels, qtbot):
    page = panels.strokes
    page.paint()
    layer = panels.table.strokes.layer()
    assert layer.mode == "add_path"
    layer.add_paths([np.array([[10.0, 10.0], [50.0, 50.0]])])
    assert [one.label for one in panels.table.strokes.painted()] == ["tumour"]
    panels.table.do(panels.table.strokes.take_last)
    assert len(layer.data) == 0
    panels.table.do(panels.table.strokes.take_last)
    assert "no stroke" in panels.said.text()
    paint_everything(panels)
    page.start()
    page.painter.stopping.set()
    qtbot.waitUntil(lambda: page.working is None, timeout=120_000)
    assert "nothing was written" in page.said.text()
