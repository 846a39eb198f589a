"""What comes after the first picture comes to its place, once, and only for the slide that lies on the desk."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import mihc
from napari_mihc.desk import Desk
from napari_mihc.review import begin_review

CHANNELS = ["DAPI", "PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67", "AF"]
ALL = [*CHANNELS, "nuclei", "cells", "regions"]
SECONDS = 60


@pytest.fixture
def panels(make_napari_viewer, study_folder, tmp_path):
    desk = Desk(shutil.copytree(study_folder, tmp_path / "study"), "anna")
    opened = begin_review(make_napari_viewer(show=True), desk, slide="S01")
    yield opened
    desk.close()


def names(panels) -> list[str]:
    return [layer.name for layer in panels.table.viewer.layers]


def all_there(panels, qtbot) -> list[str]:
    """The names of the layers once no more come."""
    qtbot.waitUntil(lambda: set(ALL) <= set(names(panels)), timeout=1000 * SECONDS)
    qtbot.wait(500)
    return names(panels)


def test_the_first_picture_has_what_is_seen_and_all_else_comes_to_its_place(panels, qtbot):
    assert names(panels) == ["DAPI", "PanCK"]
    there = all_there(panels, qtbot)
    assert [name for name in there if name != "regions"] == [name for name in ALL if name != "regions"]
    seen = {layer.name for layer in panels.table.viewer.layers if layer.visible}
    assert seen == {"DAPI", "PanCK", "nuclei", "regions"} and there.count("regions") == 1


def test_a_slide_that_was_left_sends_nothing_after(panels, qtbot):
    table = panels.table
    table.next_slide()
    table.previous_slide()
    table.next_slide()
    assert names(panels) == ["DAPI", "PanCK"]
    there = all_there(panels, qtbot)
    assert sorted(there) == sorted(ALL) and table.desk.session.row.slide == "S02"
    assert table.viewer.layers["regions"].metadata["slide"] == "S02"
    stored = mihc.open_labels(mihc.slide_image(table.desk.study, "S02"), "nuclei")[0]
    assert np.array_equal(np.asarray(table.viewer.layers["nuclei"].data), stored[:, :])


def test_a_marker_that_is_chosen_before_its_channel_came_comes_at_once(panels, qtbot):
    table = panels.table
    table.look_for("Ki67")
    assert names(panels) == ["DAPI", "PanCK", "Ki67"] and table.viewer.layers["Ki67"].visible
    there = all_there(panels, qtbot)
    assert [name for name in there if name != "regions"] == [name for name in ALL if name != "regions"]
    assert table.viewer.layers["Ki67"].visible and not table.viewer.layers["CD20"].visible


def test_a_region_drawn_before_the_regions_came_is_there_once(panels, qtbot):
    table = panels.table
    drawing = table.drawing()
    table.viewer.layers.selection.active = drawing
    drawing.add_polygons([[[10.0, 10.0], [10.0, 40.0], [40.0, 40.0], [40.0, 10.0]]])
    table.draw_region("Lymphoid", "other")
    there = all_there(panels, qtbot)
    assert there.count("regions") == 1 and "Lymphoid" in set(table.viewer.layers["regions"].features["region"])
    assert table.viewer.layers.selection.active is drawing
