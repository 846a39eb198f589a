# ruff: noqa: ANN001, ANN201  (the compiler infers the types)
"""Compiled: walk around the pixels of a mask. Imported only where it runs."""

from __future__ import annotations

import numpy as np

from mihc.areas.crossings import compiled


def trace(component: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the corners (x, y) of every loop around a padded label image's components, loop starts and components.

    `component` has a border of one 0 on each side; the corners count from the first pixel within the border. A loop
    keeps its component to the right: its signed area (y down) is positive around a component, negative around a hole.
    """
    corners = count_corners(component)
    points = np.empty((corners, 2), np.int64)
    starts = np.zeros(corners // 4 + 2, np.int64)  # a loop turns at least four times
    owners = np.empty(corners // 4 + 1, np.int64)
    loops = walk(component, points, starts, owners)
    return points, starts[: loops + 1], owners[:loops]


@compiled
def count_corners(component):
    """Count the places where loops turn: a 2 x 2 block with one or three of the mask has one, a diagonal pair two."""
    rows, columns = component.shape
    corners = 0
    for y in range(rows - 1):
        for x in range(columns - 1):
            a, b = component[y, x] > 0, component[y, x + 1] > 0
            c, d = component[y + 1, x] > 0, component[y + 1, x + 1] > 0
            held = a + b + c + d
            if held == 1 or held == 3:
                corners += 1
            elif held == 2 and a == d:
                corners += 2
    return corners


@compiled
def walk(component, points, starts, owners):
    """Fill points, starts and owners; return the number of loops.

    A loop starts on the top edge of a pixel, heading right; each has at least one. At a corner it turns right where
    the pixel ahead on the right is not of the mask (which keeps diagonal neighbours apart), left where both ahead are.
    """
    rows, columns = component.shape
    done = np.zeros((rows, columns), np.bool_)  # top edges that a loop went along
    loops = 0
    filled = 0
    for first_y in range(1, rows - 1):
        for first_x in range(1, columns - 1):
            if component[first_y, first_x] == 0 or component[first_y - 1, first_x] > 0 or done[first_y, first_x]:
                continue
            owners[loops] = component[first_y, first_x]
            y, x, heading = first_y, first_x, 0  # corner (y, x) is the top left of pixel (y, x)
            while True:
                if heading == 0:
                    if done[y, x]:
                        break
                    done[y, x] = True
                    x += 1
                    right = component[y, x] > 0
                    left = component[y - 1, x] > 0
                elif heading == 1:
                    y += 1
                    right = component[y, x - 1] > 0
                    left = component[y, x] > 0
                elif heading == 2:
                    x -= 1
                    right = component[y - 1, x - 1] > 0
                    left = component[y, x - 1] > 0
                else:
                    y -= 1
                    right = component[y - 1, x] > 0
                    left = component[y - 1, x - 1] > 0
                if right and not left:
                    continue
                heading = (heading + 3) % 4 if right else (heading + 1) % 4
                points[filled, 0] = x - 1
                points[filled, 1] = y - 1
                filled += 1
            loops += 1
            starts[loops] = filled
    return loops
