"""The outlines of every cell of a slide, window by window, each cell whole and once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mihc.areas.outlines import label_rings

if TYPE_CHECKING:
    from mihc.stores.arrays import StoredArray

SIDE = 2048  # pixels: side of what is read at once, beside what its cells reach beyond it

Rings = list[list[np.ndarray]]  # polygons; a polygon is its shell, then its holes; a ring is (n, 2) corners x, y


def cell_outlines(
    cells: StoredArray, nuclei: StoredArray, ids: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[int, Rings], dict[int, Rings]]]:
    """Give the cells of one window after the other: their places in `ids`, outlines of the cells and of their nuclei.

    Parameters
    ----------
    cells, nuclei
        (y, x) uint32 labels of full resolution.
    ids
        Ids of the cells to give, sorted. One without pixels comes with the first window, without an outline.
    """
    boxes = label_boxes(cells, ids)
    present = boxes[:, 2] > 0
    corner = np.where(present[:, None], boxes[:, :2] // SIDE, 0)
    order = np.lexsort((np.arange(len(ids)), corner[:, 1], corner[:, 0]))
    breaks = np.flatnonzero((np.diff(corner[order], axis=0) != 0).any(axis=1)) + 1
    for mine in np.split(order, breaks):
        reached = boxes[mine][present[mine]]
        if not len(reached):
            yield mine, {}, {}
            continue
        (y0, x0), (y1, x1) = reached[:, :2].min(axis=0), reached[:, 2:].max(axis=0)
        window = np.s_[y0:y1, x0:x1]
        yield mine, _shifted(cells[window], x0, y0), _shifted(nuclei[window], x0, y0)


def _shifted(labels: np.ndarray, x0: int, y0: int) -> dict[int, Rings]:
    corner = np.array([x0, y0])
    return {
        label: [[ring + corner for ring in polygon] for polygon in polygons]
        for label, polygons in label_rings(labels).items()
    }


def label_boxes(labels: StoredArray, ids: np.ndarray) -> np.ndarray:
    """Return (y0, x0, y1, x1), end not included, of each id's pixels, zeros where it has none; reads by windows."""
    from mihc.exports.box_kernels import widen

    boxes = np.zeros((len(ids), 4), dtype=np.int64)
    height, width = labels.shape
    for y in range(0, height, SIDE):
        for x in range(0, width, SIDE):
            widen(labels[y : y + SIDE, x : x + SIDE], y, x, ids, boxes)
    return boxes
