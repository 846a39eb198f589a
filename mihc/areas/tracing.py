# ruff: noqa: ANN001, ANN201  (the compiler infers the types)
"""Compiled: walk around the pixels of each label. Imported only where it runs."""

from __future__ import annotations

import numpy as np

from mihc.areas.crossings import compiled


def trace(component: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corners (x, y) of every loop around a padded label image's labels, loop starts and labels.

    `component` has a border of one 0 on each side; the corners count from the first pixel within the border. A loop
    keeps its label to the right: its signed area (y down) is positive around pixels of it, negative around a hole. One
    label may have several loops of either kind; 0 has none.
    """
    corners = count_corners(component)
    points = np.empty((corners, 2), np.int64)
    starts = np.zeros(corners // 4 + 2, np.int64)  # a loop turns at least four times
    owners = np.empty(corners // 4 + 1, component.dtype)
    loops = walk(component, points, starts, owners)
    return points, starts[: loops + 1], owners[:loops]


@compiled
def count_corners(component):
    """Count the places where loops turn: around each 2 x 2 block, for each label that it holds.

    A label with one or three of the four pixels turns once, one with a diagonal pair twice.
    """
    rows, columns = component.shape
    corners = 0
    for y in range(rows - 1):
        for x in range(columns - 1):
            a, b = component[y, x], component[y, x + 1]
            c, d = component[y + 1, x], component[y + 1, x + 1]
            if a == b and c == d and a == c:
                continue
            corners += turns(a, a, b, c, d)
            corners += turns(b, a, b, c, d) if b != a else 0
            corners += turns(c, a, b, c, d) if c != a and c != b else 0
            corners += turns(d, a, b, c, d) if d != a and d != b and d != c else 0
    return corners


@compiled
def turns(label, a, b, c, d):
    """How often the loops of a label turn at the middle of the block a b / c d."""
    held = (label == a) + (label == b) + (label == c) + (label == d)
    if label == 0:
        return 0
    if held == 2:
        return 2 if (label == a) == (label == d) else 0
    return 1 if held != 4 else 0


@compiled
def walk(component, points, starts, owners):
    """Fill points, starts and owners; return the number of loops.

    A loop starts on the top edge of a pixel, heading right; each has at least one. At a corner it turns right where
    the pixel ahead on the right is not of its label (which keeps diagonal neighbours apart), left where both ahead are.
    """
    rows, columns = component.shape
    done = np.zeros((rows, columns), np.bool_)  # top edges that a loop went along
    loops = 0
    filled = 0
    for first_y in range(1, rows - 1):
        for first_x in range(1, columns - 1):
            label = component[first_y, first_x]
            if label == 0 or component[first_y - 1, first_x] == label or done[first_y, first_x]:
                continue
            owners[loops] = label
            y, x, heading = first_y, first_x, 0  # corner (y, x) is the top left of pixel (y, x)
            while True:
                if heading == 0:
                    if done[y, x]:
                        break
                    done[y, x] = True
                    x += 1
                    right = component[y, x] == label
                    left = component[y - 1, x] == label
                elif heading == 1:
                    y += 1
                    right = component[y, x - 1] == label
                    left = component[y, x] == label
                elif heading == 2:
                    x -= 1
                    right = component[y - 1, x - 1] == label
                    left = component[y, x - 1] == label
                else:
                    y -= 1
                    right = component[y - 1, x] == label
                    left = component[y - 1, x - 1] == label
                if right and not left:
                    continue
                heading = (heading + 3) % 4 if right else (heading + 1) % 4
                points[filled, 0] = x - 1
                points[filled, 1] = y - 1
                filled += 1
            loops += 1
            starts[loops] = filled
    return loops
