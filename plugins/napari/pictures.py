"""Draw a small study, begin it, run it, review a slide of it; a picture of every panel: start-*.png, review-*.png.

xvfb-run -a -s "-screen 0 1600x1000x24" python plugins/napari/pictures.py docs/pictures [light]
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_API", "pyside6")

import napari
import numpy as np
import shapely
from PIL import Image

import mihc
from mihc.synthetic import draw_study
from napari_mihc.desk import Desk
from napari_mihc.panels.start import StartPanel
from napari_mihc.panels.window import ReviewPanels
from napari_mihc.review import begin_review, look_at
from napari_mihc.start import CELLS

COLOURS = 48  # of a picture, which keeps it small
SIZE = (1400, 860)
SECONDS = 900  # that anything may take
KINDS = [["B cell", "CD20+"], ["proliferating B cell", '"B cell" & Ki67+']]


def begin(slides: Path, finished: Path, target: Path) -> None:
    """From a folder of slides to a run, which is stopped; then a study that has been run."""
    viewer = _viewer()
    panel = StartPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Start here", area="right")
    panel.open(str(slides))
    panel.begin()
    _wait(lambda: panel.working is None)
    _shoot(viewer, target / "start-slides.png")
    panel.pages.setCurrentIndex(1)
    _shoot(viewer, target / "start-panel.png")
    panel.study.write(CELLS, ("name", "is"), KINDS)
    panel.pages.widget(4).read()
    panel.pages.setCurrentIndex(4)
    panel.check()
    _wait(lambda: panel.working is None)
    _shoot(viewer, target / "start-check.png")
    panel.run()
    _wait(lambda: "finding cells" in panel.said.text() or panel.working is None)
    _shoot(viewer, target / "start-run.png")
    panel.stop()
    _wait(lambda: panel.working is None)
    panel.open(str(finished))
    _shoot(viewer, target / "start-done.png")
    viewer.close()


def review(study: Path, target: Path) -> None:
    """A whole review of one slide, step by step, with a picture of each."""
    viewer = _viewer()
    desk = Desk(study, "anna")
    panels = begin_review(viewer, desk, slide="S01", population="B cell")
    look_at(viewer, np.array([[20.0, 60.0], [220.0, 240.0]]))
    _open(panels, "Slides")
    _wait(lambda: {"nuclei", "cells", "regions", "AF"} <= {layer.name for layer in viewer.layers})
    _wait(lambda: all(desk.has_thumbnail(slide) for slide in mihc.measured_slides(desk.study)))
    panels.slides.listed.setCurrentCell(len(desk.study.slides) - 1, 0)
    _keep(viewer, panels, "Slides", target / "review-slides.png")
    _thresholds(viewer, panels, target)
    _cells(viewer, panels, target)
    _regions(viewer, panels, target)
    _strokes(viewer, panels, target)
    _open(panels, "Save")
    panels.save.start()
    _wait(lambda: panels.save.working is None)
    _keep(viewer, panels, "Save", target / "review-save.png")
    with mihc.review.open_review(desk.study, "S01", "ben") as other:
        other.set_threshold("CD20", 1300.0)  # above some of the cells that anna calls
    _open(panels, "Reviewers")
    panels.reviewers.refresh()
    panels.reviewers.compare()
    _wait(lambda: panels.reviewers.working is None)
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
    near = np.argsort(np.linalg.norm(where - (130, 120), axis=1), kind="stable")
    for place in near[:2]:
        panels.table.choose(where[place])
    look_at(viewer, np.array([where[near[0]] - 30, where[near[0]] + 30]))
    _keep(viewer, panels, "Cells", target / "review-cells.png")
    panels.table.merge()


def _regions(viewer: napari.Viewer, panels: ReviewPanels, target: Path) -> None:
    _open(panels, "Regions")
    panels.table.drawing().add_polygons([np.array([[120.0, 100.0], [120.0, 170.0], [180.0, 190.0], [190.0, 110.0]])])
    panels.regions.name.setText("Necrosis 2")
    panels.regions.tissue_class.setCurrentText("excluded")
    panels.regions.draw()
    look_at(viewer, np.array([[0.0, 20.0], [256.0, 250.0]]))
    _keep(viewer, panels, "Regions", target / "review-regions.png")


def _strokes(viewer: napari.Viewer, panels: ReviewPanels, target: Path) -> None:
    """Strokes as a hand would draw them, their map, and no: it is rejected."""
    _open(panels, "Strokes")
    page = panels.strokes
    for region in mihc.slide_regions(panels.table.desk.study, "S01"):
        if region.tissue_class in ("tumour", "stroma"):
            for line in _lines(region.polygon_um):
                page.tissue_class.setCurrentText(region.tissue_class)
                page.paint()
                page.painter.layer().add_paths([line])
    page.painter.layer().mode = "pan_zoom"
    page.start()
    _wait(lambda: page.working is None)
    viewer.layers["chosen cells"].visible = False
    look_at(viewer, np.array([[0.0, 0.0], [256.0, 256.0]]))
    _keep(viewer, panels, "Strokes", target / "review-strokes.png")
    page.drop()


def _lines(polygon: shapely.Geometry) -> list[np.ndarray]:
    """Three lines well inside a polygon, (n, 2) y, x."""
    inside = polygon.buffer(-8)
    x0, y0, x1, y1 = inside.bounds
    cuts = [inside.intersection(shapely.LineString([(x0, y), (x1, y + 20)])) for y in np.linspace(y0, y1, 23)[1:-1]]
    parts = [one for cut in cuts for one in getattr(cut, "geoms", [cut]) if one.length > 15]
    return [shapely.get_coordinates(one)[:, ::-1] for one in sorted(parts, key=lambda one: -one.length)[:9:3]]


def _viewer() -> napari.Viewer:
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.theme = "light" if "light" in sys.argv[2:] else "dark"
    viewer.window.resize(*SIZE)
    _settle()
    return viewer


def _open(panels: ReviewPanels, name: str) -> None:
    names = [panels.tabs.tabText(k) for k in range(panels.tabs.count())]
    panels.tabs.setCurrentIndex(names.index(name))
    _settle()


def _keep(viewer: napari.Viewer, panels: ReviewPanels, name: str, path: Path) -> None:
    _open(panels, name)
    _shoot(viewer, path)


def _shoot(viewer: napari.Viewer, path: Path) -> None:
    _settle()
    window = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    window.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)


def _wait(until: Callable[[], bool]) -> None:
    """Let the viewer go on until something is so."""
    end = time.monotonic() + SECONDS
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("the viewer waits for something that does not come")
        _settle()
        time.sleep(0.02)


def _settle() -> None:
    for _ in range(3):
        napari.qt.get_qapp().processEvents()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw_study(Path(scratch) / "study", patients=4, size_px=(512, 512))
        mihc.run(mihc.read_study(folder))
        target = Path(sys.argv[1]).resolve()
        os.chdir(scratch)  # so that the pictures show no path of this computer
        shutil.copytree(folder / "slides", "new slides")
        begin(Path("new slides"), Path("study"), target)
        review(folder, target)
