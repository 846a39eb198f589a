"""What was drawn is gone only once its gesture is kept."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_mihc.desk import Desk
from napari_mihc.review import begin_review
from napari_mihc.table import DRAWN


@pytest.fixture
def table(make_napari_viewer, study_folder, tmp_path):
    desk = Desk(shutil.copytree(study_folder, tmp_path / "study"), "anna")
    yield begin_review(make_napari_viewer(), desk, slide="S01").table
    desk.close()


def test_a_gesture_that_the_disk_refuses_leaves_the_outline_where_it_was_drawn(table, monkeypatch):
    outline = np.array([[20.0, 20.0], [20.0, 60.0], [60.0, 60.0], [60.0, 20.0]])
    table.drawing().add_polygons(outline)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        table.draw_region("Nest 2", "tumour")
    assert "no room to write" in table.said[-1] and table.desk.session.gestures == []
    np.testing.assert_array_equal(table.viewer.layers[DRAWN].data[0], outline)
    table.draw_region("Nest 2", "tumour")
    assert len(table.desk.session.gestures) == 1 and len(table.viewer.layers[DRAWN].data) == 0


def test_a_gesture_without_a_drawing_leaves_other_drawings(table):
    table.drawing().add_polygons(np.array([[20.0, 20.0], [20.0, 60.0], [60.0, 60.0]]))
    table.desk.selected.append(int(table.desk.cells["cell"].iloc[40]))
    table.delete()
    assert len(table.desk.session.gestures) == 1 and len(table.viewer.layers[DRAWN].data) == 1
    assert Path(table.desk.folder / "review" / "anna" / "S01" / "journal.jsonl").exists()
