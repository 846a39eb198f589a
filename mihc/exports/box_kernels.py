# ruff: noqa: ANN001, ANN201  (the compiler infers the types)
"""Compiled: where the pixels of each label lie. Imported only where it runs."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled


@compiled
def widen(labels, first_y, first_x, ids, boxes):
    """Widen the boxes (y0, x0, y1, x1) of the sorted ids by the pixels of a window; a box with y1 = 0 is empty."""
    rows, columns = labels.shape
    for y in range(rows):
        last, index = np.uint32(0), -1
        for x in range(columns):
            label = labels[y, x]
            if label == 0:
                continue
            if label != last:
                last, index = label, np.searchsorted(ids, label)
                if index == len(ids) or ids[index] != label:
                    index = -1
            if index < 0:
                continue
            top, left = first_y + y, first_x + x
            if boxes[index, 2] == 0:
                boxes[index] = (top, left, top + 1, left + 1)
                continue
            boxes[index, 0] = min(boxes[index, 0], top)
            boxes[index, 1] = min(boxes[index, 1], left)
            boxes[index, 2] = max(boxes[index, 2], top + 1)
            boxes[index, 3] = max(boxes[index, 3], left + 1)
