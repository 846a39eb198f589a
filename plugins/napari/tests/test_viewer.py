"""The real napari on a screen: what is shown, where, and how much is read for it."""

from __future__ import annotations

import napari
import numpy as np
import pytest
from qtpy.QtWidgets import QApplication
from typer.testing import CliRunner

import mihc
from mihc.cli import app
from napari_mihc import open_slide_in, review_study
from napari_mihc.model import Plane
from napari_mihc.review import look_at

CHANNELS = ["DAPI", "PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67", "AF"]


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def reads(monkeypatch):
    """(shape of the level, pixels) of every read."""
    found = []
    read = Plane.__getitem__

    def counted(self, selection):
        pixels = read(self, selection)
        found.append((self.shape, pixels.size))
        return pixels

    monkeypatch.setattr(Plane, "__getitem__", counted)
    return found


def settle():
    for _ in range(3):
        QApplication.processEvents()


def test_a_dropped_slide_gives_its_layers_with_outlines(viewer, study):
    viewer.open(mihc.slide_image(study, "S01"), plugin="napari-mihc")
    panel = study.panel_of(study.slides[0])
    assert [layer.name for layer in viewer.layers] == [*(row.marker for row in panel.measured), "nuclei", "cells"]
    assert viewer.layers["nuclei"].contour == viewer.layers["cells"].contour == 1
    assert not viewer.layers["nuclei"].editable


def test_a_slide_opens_with_everything(viewer, study_folder):
    open_slide_in(viewer, study_folder, slide="S01", population="B cell")
    assert [type(layer).__name__ for layer in viewer.layers] == ["Image"] * 8 + ["Labels"] * 2 + ["Shapes", "Points"]
    assert viewer.title == "mihc - S01"
    assert viewer.canvas.overlays.scale_bar.visible
    assert viewer.layers["DAPI"].colormap.map([1.0])[0].tolist() == pytest.approx(
        [0x3B / 255, 0x6F / 255, 0xE0 / 255, 1]
    )
    assert viewer.layers["nuclei"].contour == 1


def test_every_point_lies_on_its_cell(viewer, study_folder, study):
    open_slide_in(viewer, study_folder, slide="S01", population="PanCK")
    points, cells = viewer.layers["PanCK+"], viewer.layers["cells"]
    stored = np.asarray(mihc.open_labels(mihc.slide_image(study, "S01"), "cells")[0])
    cells.visible = True
    settle()
    seen = [cells.get_value(points.data_to_world(point), world=True) for point in points.data]
    table = mihc.slide_cells(study, "S01").set_index("cell").loc[points.features["cell"]]
    by_hand = stored[(table["y_um"] // 0.5).astype(int), (table["x_um"] // 0.5).astype(int)]
    assert len(seen) > 50
    assert seen == by_hand.tolist()
    assert np.mean(np.array(seen) == points.features["cell"]) > 0.98  # a nucleus may be bent around its centroid


def test_region_lines_are_as_thin_on_every_zoom(viewer, study_folder):
    open_slide_in(viewer, study_folder, slide="S01")
    for zoom in (0.5, 8.0):
        viewer.scene.camera.zoom = zoom
        assert set(viewer.layers["regions"].edge_width) == {2 / zoom}


def test_a_region_fills_the_view(viewer, study_folder):
    open_slide_in(viewer, study_folder, slide="S01", region="Tumor")
    lines, names = viewer.layers["regions"].data, viewer.layers["regions"].features["region"]
    corners = np.concatenate([line for line, name in zip(lines, names) if name == "Tumor"])
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert viewer.scene.camera.center[-2:] == pytest.approx((low + high) / 2)
    filled = (high - low) * viewer.scene.camera.zoom / viewer.canvas.size
    assert filled.max() == pytest.approx(0.9)


def test_an_unknown_name_is_refused_before_anything_is_shown(viewer, study_folder):
    for wrong in ({"slide": "S99"}, {"region": "nest"}, {"population": "B cells"}):
        with pytest.raises(mihc.errors.UsageError):
            open_slide_in(viewer, study_folder, **wrong)
    assert len(viewer.layers) == 0


def show_everything(viewer, pyramid):
    """The pyramid's channel and labels, its block as a line and its centroid as a point, as the model places them."""
    viewer.open(pyramid.path, plugin="napari-mihc")
    (x0, y0), (x1, y1) = pyramid.corner_um, pyramid.end_um
    ring = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    size = mihc.open_image(pyramid.path).pixel_size_um
    line = np.column_stack(mihc.viewer_um(*ring.T, pixel_size_um=size))
    centre = np.column_stack(mihc.viewer_um(*np.array([pyramid.centre_um]).T, pixel_size_um=size))
    viewer.add_shapes([line], shape_type="path", edge_color="white", edge_width=1, name="line", units=("um", "um"))
    viewer.add_points(centre, face_color="white", border_color="white", size=8, name="point", units=("um", "um"))


def seen_centre(viewer, name):
    """(y, x) µm of the middle of what a layer alone draws, from a picture of the canvas."""
    for layer in viewer.layers:
        layer.visible = layer.name == name
    settle()
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=2)
    rows, columns = np.nonzero(picture > 60)
    assert len(rows) > 0, name
    middle = np.array([rows.min() + rows.max() + 1, columns.min() + columns.max() + 1]) / 2
    return np.array(viewer.scene.camera.center[-2:]) + (middle - np.array(picture.shape) / 2) / viewer.scene.camera.zoom


@pytest.mark.parametrize(("level", "tolerance_um"), [(0, 0.2), (1, 1.0), (2, 2.0)])
def test_channels_labels_lines_and_points_coincide_on_every_level(viewer, pyramid, level, tolerance_um):
    show_everything(viewer, pyramid)
    expected = np.array(pyramid.centre_um[::-1]) - 0.25  # 0 is half a pixel further in napari
    viewer.scene.camera.center = tuple(expected + 3)
    viewer.scene.camera.zoom = 4
    for name in ("DAPI", "nuclei", "cells"):
        viewer.layers[name].locked_data_level = level
    for name in ("DAPI", "nuclei", "cells", "line", "point"):
        off = np.abs(seen_centre(viewer, name) - expected).max()
        assert off <= tolerance_um, (name, off)  # an odd side is stretched by less than one pixel of the level


def test_opening_reads_no_full_resolution(viewer, pyramid, reads):
    viewer.open(pyramid.path, plugin="napari-mihc")
    settle()
    assert reads
    assert max(pixels for _, pixels in reads) <= 1251 * 1153
    assert (2502, 2305) not in {shape for shape, _ in reads}


def test_zooming_in_reads_the_chunks_in_view_only(viewer, pyramid, reads):
    viewer.open(pyramid.path, plugin="napari-mihc")
    settle()
    reads.clear()
    look_at(viewer, np.array([[700.0, 700.0], [740.0, 740.0]]))  # µm, within the chunk that ends at 1024 µm
    settle()
    full = [pixels for shape, pixels in reads if shape == (2502, 2305)]
    assert full
    assert max(full) <= 1024 * 1024  # one chunk of the labels


def test_review_opens_what_was_asked_for_and_waits(make_napari_viewer, study_folder, monkeypatch, qtbot):
    opened, waited, active = [], [], []

    def look() -> None:
        waited.append([layer.name for layer in opened[0].layers])
        active.append(opened[0].layers.selection.active.name)

    def wait() -> None:
        look()
        qtbot.waitUntil(lambda: len(opened[0].layers) == 12, timeout=60_000)
        look()

    monkeypatch.setattr(napari, "Viewer", lambda title: opened.append(make_napari_viewer(title=title)) or opened[0])
    monkeypatch.setattr(napari, "run", wait)
    review_study(study_folder, slide="S01", region="Tumor", population="B cell")
    assert opened[0].title.startswith("mihc - S01 - ")
    first, then = waited  # what is seen comes at once, all else after the first picture, to its place
    assert first == ["DAPI", "PanCK", "CD20", "B cell"]
    assert [name for name in then if name != "regions"] == [*CHANNELS, "nuclei", "cells", "B cell"]
    assert active[0] == active[1]  # nobody's tool is changed by what comes later


def test_review_without_a_qt_binding_says_what_to_type(study_folder, monkeypatch):
    monkeypatch.setattr("napari_mihc.review.find_spec", lambda name: None)
    with pytest.raises(mihc.errors.UsageError, match=r"napari\[pyside6\]"):
        review_study(study_folder)


def test_review_without_a_screen_says_where_to_type_it(study_folder, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(mihc.errors.UsageError, match="no screen"):
        review_study(study_folder)


def test_review_refuses_the_qt_that_ends_python_3_11(study_folder, monkeypatch):
    monkeypatch.setattr("napari_mihc.review._version", lambda name: "6.12.0")
    monkeypatch.setattr("sys.version_info", (3, 11, 7))
    with pytest.raises(mihc.errors.UsageError, match=r"PySide6 6\.12\.0 ends Python 3\.11"):
        review_study(study_folder)


def test_mihc_review_passes_on_what_was_typed(monkeypatch, study_folder):
    asked = []
    monkeypatch.setattr("napari_mihc.review_study", lambda folder, **options: asked.append((folder, options)))
    typed = ["review", str(study_folder), "--slide", "S01", "--region", "R", "--population", "proliferating B cell"]
    typed += ["--reviewer", "anna"]
    assert CliRunner().invoke(app, typed).exit_code == 0
    options = {"slide": "S01", "region": "R", "population": "proliferating B cell", "reviewer": "anna"}
    assert asked == [(study_folder, options)]
