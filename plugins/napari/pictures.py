"""Draw a small study, run it, review a slide of it, and take a picture of every panel: docs/pictures/review-*.png.

xvfb-run -a -s "-screen 0 1600x1000x24" python plugins/napari/pictures.py docs/pictures
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_API", "pyside6")

import napari
import numpy as np
from PIL import Image

import mihc
from mihc.synthetic import draw_study
from napari_mihc.desk import Desk
from napari_mihc.panels.window import ReviewPanels
from napari_mihc.review import begin_review, look_at

COLOURS = 48  # of a picture, which keeps it small
SIZE = (1400, 860)


def review(study: Path, target: Path) -> None:
    """A whole review of one slide, step by step, with a picture of each."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    _settle()
    desk = Desk(study, "anna")
    panels = begin_review(viewer, desk, slide="S01", population="B cell")
    look_at(viewer, np.array([[130.0, 80.0], [330.0, 300.0]]))
    _keep(viewer, panels, "Slides", target / "review-slides.png")
    _thresholds(viewer, panels, target)
    _cells(viewer, panels, target)
    _regions(viewer, panels, target)
    panels.save.show_changes(mihc.review.save(study, reviewer="anna", slides=["S01"], report=False))
    panels.save.changed.setColumnWidth(0, 330)
    _keep(viewer, panels, "Save", target / "review-save.png")
    with mihc.review.open_review(desk.study, "S01", "ben") as other:
        other.set_threshold("CD20", 500.0)
    panels.tabs.setCurrentIndex(5)
    panels.reviewers.refresh()
    panels.reviewers.compare()
    _keep(viewer, panels, "Reviewers", target / "review-reviewers.png")
    _keep(viewer, panels, "Help", target / "review-help.png")
    desk.close()
    viewer.close()


def _thresholds(viewer: napari.Viewer, panels: ReviewPanels, target: Path) -> None:
    _open(panels, "Thresholds")
    page = panels.thresholds
    page.marker.setCurrentText("CD20")
    page.histogram.move_to(700.0)
    page.try_value(700.0)
    page.show_near()
    page.reason.setText("dim cells are background")
    _keep(viewer, panels, "Thresholds", target / "review-thresholds.png")
    page.keep()


def _cells(viewer: napari.Viewer, panels: ReviewPanels, target: Path) -> None:
    _open(panels, "Cells")
    cells, view = panels.table.desk.cells, panels.table.desk.view
    where = view.viewer_yx(cells["x_um"].to_numpy(), cells["y_um"].to_numpy())
    near = np.argsort(np.linalg.norm(where - (230, 190), axis=1), kind="stable")
    for place in near[:2]:
        panels.table.choose(where[place])
    look_at(viewer, np.array([where[near[0]] - 30, where[near[0]] + 30]))
    _keep(viewer, panels, "Cells", target / "review-cells.png")
    panels.table.merge()


def _regions(viewer: napari.Viewer, panels: ReviewPanels, target: Path) -> None:
    _open(panels, "Regions")
    panels.table.drawing().add_polygons([np.array([[180.0, 120.0], [180.0, 200.0], [240.0, 220.0], [250.0, 130.0]])])
    panels.regions.name.setText("Necrosis 2")
    panels.regions.tissue_class.setCurrentText("excluded")
    panels.regions.draw()
    look_at(viewer, np.array([[100.0, 50.0], [360.0, 330.0]]))
    _keep(viewer, panels, "Regions", target / "review-regions.png")


def _open(panels: ReviewPanels, name: str) -> None:
    names = [panels.tabs.tabText(k) for k in range(panels.tabs.count())]
    panels.tabs.setCurrentIndex(names.index(name))
    _settle()


def _keep(viewer: napari.Viewer, panels: ReviewPanels, name: str, path: Path) -> None:
    _open(panels, name)
    window = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    window.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)


def _settle() -> None:
    for _ in range(3):
        napari.qt.get_qapp().processEvents()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw_study(Path(scratch) / "study", patients=4)
        mihc.run(mihc.read_study(folder), until="statistics")
        review(folder, Path(sys.argv[1]))
