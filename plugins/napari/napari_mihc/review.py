"""`mihc review`: a study's slide in a viewer."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import mihc
from napari_mihc.desk import Desk, login_name
from napari_mihc.model import LayerData, region_box, slide_layers, slide_view
from napari_mihc.outlines import keep_outlines

if TYPE_CHECKING:
    import napari
    import numpy as np

    from napari_mihc.panels.window import ReviewPanels

BINDINGS = ("PySide6", "PyQt6")
BROKEN = "6.12.0"  # loses a reference to None with every call; from Python 3.12 on None cannot be lost


def review_study(
    folder: str | Path,
    *,
    slide: str | None = None,
    region: str | None = None,
    population: str | None = None,
    reviewer: str | None = None,
) -> None:
    """Open a slide of a study in napari, with the panels of a review, and wait until the window is closed.

    Parameters
    ----------
    folder
        The study folder.
    slide
        Its id; None opens the first slide that has results.
    region
        Look at this region; None shows the whole slide.
    population
        Show the positive cells of this population, and of the channels its own; None shows no points.
    reviewer
        Whose review it is; None: the name that the user has on this computer.

    Raises
    ------
    UsageError
        When the slide, region or population is not there, nothing has been measured, or there is no Qt to draw with.
    """
    view = slide_view(mihc.read_study(folder), slide)
    if population is not None:
        view.positive_cells(population)
    if region is not None:
        region_box(view, region)
    desk = Desk(Path(folder), reviewer or login_name())
    _need_screen()
    _choose_qt()
    import napari

    viewer = napari.Viewer(title=f"mihc - {view.slide}")
    napari.qt.get_qapp().processEvents()  # the canvas takes its size, which the zoom depends on
    begin_review(viewer, desk, slide=view.slide, region=region, population=population)
    napari.run()
    desk.close()


def begin_review(
    viewer: napari.Viewer,
    desk: Desk,
    *,
    slide: str | None = None,
    region: str | None = None,
    population: str | None = None,
) -> ReviewPanels:
    """Put a study's slide and the panels of a review into a viewer; the other arguments as `review_study`."""
    from napari_mihc.panels.window import ReviewPanels
    from napari_mihc.table import ReviewTable

    table = ReviewTable(viewer, desk)
    panels = ReviewPanels(table)
    table.show(slide, population=population)
    viewer.window.add_dock_widget(panels, name="mihc review", area="right", tabify=True)
    panels.destroyed.connect(lambda *_: desk.close())
    panels.refresh()
    viewer.canvas.overlays.scale_bar.visible = True
    if region is not None:
        look_at(viewer, region_box(desk.view, region))
    return panels


def open_slide_in(
    viewer: napari.Viewer,
    folder: str | Path,
    *,
    slide: str | None = None,
    region: str | None = None,
    population: str | None = None,
) -> None:
    """Put a slide's channels, outlines, regions and positive cells into a viewer; arguments as `review_study`."""
    view = slide_view(mihc.read_study(folder), slide)
    layers = slide_layers(view, population=population)
    box = None if region is None else region_box(view, region)
    viewer.title = f"mihc - {view.slide}"
    _show(viewer, layers, box)


def _show(viewer: napari.Viewer, layers: list[LayerData], box: np.ndarray | None) -> None:
    keep_outlines(viewer)
    for data, options, kind in layers:
        getattr(viewer, f"add_{kind}")(data, **options)
    viewer.canvas.overlays.scale_bar.visible = True
    if box is not None:
        look_at(viewer, box)


def look_at(viewer: napari.Viewer, box: np.ndarray) -> None:
    """Centre the view on a box [[y, x], [y, x]] in µm, with a margin around it."""
    sides = box[1] - box[0]
    camera = viewer.scene.camera
    camera.center = tuple(box.mean(axis=0))
    camera.zoom = 0.9 * min(pixels / max(side, 1e-6) for pixels, side in zip(viewer.canvas.size, sides))


def _need_screen() -> None:
    """Refuse in words where Qt would end the program."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in named):
        raise mihc.errors.UsageError(
            "there is no screen to draw on", fix="Type it in a desktop session, or after ssh -X from one."
        )


def _choose_qt() -> None:
    """Draw with PySide6 where several bindings are there and nobody has chosen; refuse in words where none will do."""
    there = [name for name in BINDINGS if find_spec(name)]
    if not there:
        raise mihc.errors.UsageError("napari has no Qt to draw with", fix="Type: pip install 'napari[pyside6]'")
    if "PySide6" in there and not any(name in sys.modules for name in BINDINGS):
        os.environ.setdefault("QT_API", "pyside6")
    if os.environ.get("QT_API") == "pyside6" and sys.version_info < (3, 12) and _version("shiboken6") == BROKEN:
        raise mihc.errors.UsageError(
            f"PySide6 {BROKEN} ends Python 3.11 after some minutes of use", fix="Type: pip install 'PySide6<6.12'"
        )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
