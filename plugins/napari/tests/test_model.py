"""What is to be seen of a slide, without a screen."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from shapely import MultiPolygon, Polygon, box

import mihc
from mihc.stores.arrays import StoredArray
from napari_mihc.model import (
    Plane,
    SlideView,
    image_layers,
    label_layers,
    positive_layer,
    region_box,
    region_layer,
    slide_layers,
    slide_view,
    thumbnail,
)

CHANNELS = ["DAPI", "PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67", "AF"]


def options_of(layers):
    return {options["name"]: options for _, options, _ in layers}


def test_layers_lie_from_channels_to_points(study):
    layers = slide_layers(slide_view(study, "S01"), population="B cell")
    assert [options["name"] for _, options, _ in layers] == [*CHANNELS, "nuclei", "cells", "regions", "B cell"]
    assert [kind for *_, kind in layers] == ["image"] * 8 + ["labels"] * 2 + ["shapes", "points"]


def test_every_layer_is_in_micrometres_of_the_pixel_size(study):
    for _, options, kind in slide_layers(slide_view(study, "S01"), population="B cell"):
        assert options["units"] == ("um", "um")
        assert options.get("scale", "none") == ((0.5, 0.5) if kind in ("image", "labels") else "none")


def test_channels_have_the_panels_colours(study):
    panel = study.panel_of(study.slides[0])
    shown = options_of(image_layers(mihc.slide_image(study, "S01")))
    assert {name: options["colormap"] for name, options in shown.items()} == {
        row.marker: f"#{row.colour.lower()}" for row in panel.measured
    }


def test_contrast_limits_are_the_stored_windows_and_never_empty(study, monkeypatch):
    path = mihc.slide_image(study, "S01")
    stored = mihc.open_image(path)
    assert [options["contrast_limits"] for _, options, _ in image_layers(path)] == list(stored.windows)
    flat = type(stored)(**{**vars(stored), "windows": ((5.0, 5.0),) * len(stored.channels)})
    monkeypatch.setattr(mihc, "open_image", lambda path: flat, raising=False)
    assert image_layers(path)[0][1]["contrast_limits"] == (5.0, 6.0)


def test_without_a_population_nuclei_and_tumour_are_shown(study):
    shown = options_of(slide_layers(slide_view(study, "S01")))
    assert [name for name in CHANNELS if shown[name]["visible"]] == ["DAPI", "PanCK"]
    assert shown["nuclei"]["visible"] and not shown["cells"]["visible"]


def test_without_a_tumour_marker_all_channels_are_shown_but_autofluorescence(study):
    view = slide_view(study, "S01")
    view.__dict__["roles"] = {name: "marker" if role == "tumour" else role for name, role in view.roles.items()}
    shown = options_of(slide_layers(view))
    assert [name for name in CHANNELS if not shown[name]["visible"]] == ["AF"]


def test_a_thumbnail_by_hand(study, pyramid, monkeypatch):
    # level 2 is 626 x 577 pixels; the block's rows 2008 to 2104 and columns 1904 to 2048 are its 502 to 526, 476 to 512
    view = SlideView(study, "S01")
    view.__dict__.update(path=pyramid.path, roles={"DAPI": "nuclei"})
    read, levels = StoredArray.__getitem__, []
    monkeypatch.setattr(
        StoredArray, "__getitem__", lambda self, selection: levels.append(self.shape) or read(self, selection)
    )
    picture = thumbnail(view, 40)  # blocks of 16 pixels; 40 of 40 rows, 37 columns from the second on
    assert picture.shape == (40, 40, 3) and picture.dtype == np.uint8 and set(levels) == {(1, 626, 577)}
    lit = np.argwhere(picture[..., 0] > 0)
    assert lit.min(axis=0).tolist() == [502 // 16, 476 // 16 + 1] and lit.max(axis=0).tolist() == [
        525 // 16,
        511 // 16 + 1,
    ]
    assert picture[32, 31].tolist() == [223, 223, 223]  # rows 512 to 525 of 512 to 527: 255 x 14 / 16


@pytest.mark.parametrize(
    ("population", "channels"),
    [("CD8", ["DAPI", "PanCK", "CD8"]), ("proliferating B cell", ["DAPI", "PanCK", "CD20", "Ki67"])],
)
def test_a_population_shows_nuclei_tumour_and_its_own_markers(study, monkeypatch, population, channels):
    nobody = pd.DataFrame({"cell": [], "x_um": [], "y_um": [], "region": []})
    monkeypatch.setattr(SlideView, "positive_cells", lambda self, population: (nobody, True))
    shown = options_of(slide_layers(slide_view(study, "S01"), population=population))
    assert [name for name in CHANNELS if shown[name]["visible"]] == channels


def test_points_are_the_positive_cells_moved_by_half_a_pixel(study):
    cells = mihc.slide_cells(study, "S01")
    positive = cells[cells["phenotype_B cell"].fillna(False)]
    assert len(positive) > 3
    position, options, _ = positive_layer(slide_view(study, "S01"), "B cell")
    np.testing.assert_array_equal(position, positive[["y_um", "x_um"]].to_numpy() - 0.25)
    assert options["features"]["cell"].tolist() == positive["cell"].tolist()
    assert options["features"]["region"].tolist() == positive["region"].tolist()


def test_a_population_nobody_belongs_to_gives_no_points(study, monkeypatch):
    table = pd.DataFrame({"cell": [1], "x_um": [2.0], "y_um": [3.0], "region": ["Tumor"], "CD3_positive": [False]})
    table["CD3_positive"] = table["CD3_positive"].astype("boolean")
    monkeypatch.setattr(mihc, "slide_cells", lambda *_, **__: table, raising=False)
    position, _, _ = positive_layer(slide_view(study, "S01"), "CD3")
    assert position.shape == (0, 2)


def test_a_population_that_cannot_be_told_opens_its_channel_without_points_and_says_so(study, monkeypatch):
    table = pd.DataFrame({"cell": [1], "x_um": [2.0], "y_um": [3.0], "region": ["Tumor"]})
    table["CD3_positive"] = pd.array([None], dtype="boolean")
    monkeypatch.setattr(mihc, "slide_cells", lambda *_, **__: table, raising=False)
    position, options, _ = positive_layer(slide_view(study, "S01"), "CD3")
    assert position.shape == (0, 2)
    assert options["name"] == "CD3+ (cannot tell)"


def test_an_unknown_population_is_refused_with_those_there_are(study):
    with pytest.raises(mihc.errors.UsageError, match=r"no population 'B cells'(.|\n)*CD20(.|\n)*B cell"):
        slide_layers(slide_view(study, "S01"), population="B cells")


def with_regions(study, *regions):
    view = slide_view(study, "S01")
    view.__dict__["regions"] = list(regions)
    return view


def test_a_region_with_a_hole_is_two_closed_lines_by_hand(study):
    # a square from 10 to 30 µm with a hole from 15 to 20; 0 lies a quarter of a µm, half a pixel, further in napari
    square = Polygon([(10, 10), (30, 10), (30, 30), (10, 30)], [[(15, 15), (20, 15), (20, 20), (15, 20)]])
    lines, options, _ = region_layer(with_regions(study, mihc.Region("nest", "tumour", square)))
    assert lines[0].tolist() == [[9.75, 9.75], [9.75, 29.75], [29.75, 29.75], [29.75, 9.75], [9.75, 9.75]]
    assert lines[1].tolist() == [[14.75, 14.75], [14.75, 19.75], [19.75, 19.75], [19.75, 14.75], [14.75, 14.75]]
    assert options["features"] == {"region": ["nest", "nest"], "tissue_class": ["tumour", "tumour"]}


def test_the_tumours_outline_lies_on_that_of_the_stroma(study):
    regions = [mihc.Region("a", "tumour", box(0, 0, 9, 9)), mihc.Region("b", "stroma", box(9, 0, 20, 9))]
    _, options, _ = region_layer(with_regions(study, *regions))
    assert options["features"]["tissue_class"] == ["stroma", "tumour"]


def test_regions_that_others_cover_have_no_line(study):
    empty = mihc.Region("covered", "stroma", MultiPolygon())
    lines, options, kind = region_layer(with_regions(study, empty))
    assert (lines, options["ndim"], kind) == (None, 2, "shapes")


def test_a_regions_box_spans_all_of_its_parts_by_hand(study):
    parts = [mihc.Region("a", "tumour", box(2, 4, 6, 10)), mihc.Region("a", "other", box(50, 1, 60, 2))]
    assert region_box(with_regions(study, *parts), "a").tolist() == [[0.75, 1.75], [9.75, 59.75]]


def test_an_unknown_region_is_refused_with_those_there_are(study):
    with pytest.raises(mihc.errors.UsageError, match=r"no region 'nest'(.|\n)*Tumor, Stroma"):
        region_box(slide_view(study, "S01"), "nest")


def test_the_first_measured_slide_is_taken(study):
    assert slide_view(study).slide == "S01"


def test_a_study_that_was_not_run_is_refused_with_what_to_type(study_folder, tmp_path):
    shutil.copytree(study_folder, tmp_path / "new", ignore=shutil.ignore_patterns("results", "truth"))
    study = mihc.read_study(tmp_path / "new")
    with pytest.raises(mihc.errors.UsageError, match="mihc run"):
        slide_view(study)
    with pytest.raises(mihc.errors.UsageError, match=r"S02: this slide has no results yet(.|\n)*mihc run"):
        slide_layers(slide_view(study, "S02"))


def test_an_unknown_slide_is_refused_with_those_there_are(study):
    with pytest.raises(mihc.errors.UsageError, match=r"no slide 'S99'(.|\n)*S01, S02"):
        slide_layers(slide_view(study, "S99"))


def test_a_pyramid_has_all_levels_and_one_level_is_an_array(pyramid, study):
    assert [level.shape for level in image_layers(pyramid.path)[0][0]] == [(2502, 2305), (1251, 1153), (626, 577)]
    assert [level.shape for level in label_layers(pyramid.path)[0][0]] == [(2502, 2305), (1251, 1153), (626, 577)]
    assert image_layers(mihc.slide_image(study, "S01"))[0][0].shape == (512, 512)


def test_labels_that_are_not_stored_are_left_out(pyramid, tmp_path):
    for name in ("zarr.json", "0", "1", "2"):
        (tmp_path / name).symlink_to(pyramid.path / name)
    assert label_layers(tmp_path) == []


class Counts:
    """A level that remembers what was read of it."""

    shape, chunks, dtype = (3, 40, 50), (1, 8, 8), np.dtype("uint16")

    def __init__(self):
        self.read = []
        self.pixels = np.arange(6000, dtype=np.uint16).reshape(self.shape)

    def __getitem__(self, selection):
        self.read.append(selection)
        return self.pixels[selection]


def test_a_plane_reads_only_what_is_sliced():
    level = Counts()
    plane = Plane(level, 1)
    assert (plane.shape, plane.chunks, plane.size, plane.ndim, plane.dtype) == ((40, 50), (8, 8), 2000, 2, np.uint16)
    assert level.read == []
    np.testing.assert_array_equal(plane[2:5, 7:9], level.pixels[1, 2:5, 7:9])
    np.testing.assert_array_equal(plane[3], level.pixels[1, 3])
    assert level.read == [(1, slice(2, 5), slice(7, 9)), (1, 3)]
    np.testing.assert_array_equal(np.asarray(plane), level.pixels[1])
