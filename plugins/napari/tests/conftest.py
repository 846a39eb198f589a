"""A small study that was run, and a large slide written by hand."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_API", "pyside6")  # where several Qt bindings are installed

import mihc
from mihc import store, synthetic

SHAPE = (2502, 2305)  # three levels, the last two of odd sides
PIXEL_UM = 0.5
BLOCK = (slice(2008, 2104), slice(1904, 2048))  # rows and columns of the one bright block; multiples of 4 and 8


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory) -> Path:
    """Two patients and a control, drawn and measured; S01 has annotations, S02 has automatic regions."""
    folder = synthetic.draw_study(tmp_path_factory.mktemp("study"), patients=2, size_px=(512, 512))
    (folder / "thresholds.csv").write_text("slide,marker,value\n*,CD20,700\n")  # a dozen positive cells tell little
    results = mihc.run(mihc.read_study(folder), until="positives")
    assert not results.failed
    return folder


@pytest.fixture(scope="session")
def study(study_folder):
    return mihc.read_study(study_folder)


@dataclass(frozen=True)
class Pyramid:
    """A slide of one channel with one bright block, which is also its only nucleus and its only cell."""

    path: Path
    corner_um: tuple[float, float]  # (x, y) of the block's first corner, mihc's µm
    end_um: tuple[float, float]
    centre_um: tuple[float, float]


@pytest.fixture(scope="session")
def pyramid(tmp_path_factory) -> Pyramid:
    path = tmp_path_factory.mktemp("slides") / "large.ome.zarr"
    counts, labels = np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint32)
    counts[BLOCK], labels[BLOCK] = 1000, 7
    store.create_image(
        path,
        shape=(1, *SHAPE),
        dtype="uint16",
        pixel_size_um=PIXEL_UM,
        channels=["DAPI"],
        colours=["FFFFFF"],
        windows=[(0, 1000)],
    )
    with ThreadPoolExecutor(2) as executor:
        for y in range(0, SHAPE[0], store.IMAGE_SHARD):
            for x in range(0, SHAPE[1], store.IMAGE_SHARD):
                box = slice(y, y + store.IMAGE_SHARD), slice(x, x + store.IMAGE_SHARD)
                store.write_image_window(path, 0, 0, y, x, counts[box])
        store.build_pyramid(path, executor.submit)
        for name in ("nuclei", "cells"):
            folder = path / "labels" / name
            store.create_labels(folder, shape=SHAPE, pixel_size_um=PIXEL_UM)
            store.write_label_window(folder, 0, 0, 0, labels)
            store.build_label_pyramid(folder, executor.submit)
    rows, columns = BLOCK
    corner = (columns.start * PIXEL_UM, rows.start * PIXEL_UM)
    end = (columns.stop * PIXEL_UM, rows.stop * PIXEL_UM)
    return Pyramid(path, corner, end, ((corner[0] + end[0]) / 2, (corner[1] + end[1]) / 2))
