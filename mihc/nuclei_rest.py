"""What the pieces leave of the foreground: nuclei whose summit a brighter neighbour's light has drowned.

A dim nucleus that leans on a bright one may have no summit of its own in the splitting picture, and then it is in no
piece; but what remains of the foreground beyond its neighbour's surroundings has its outline. Such a remainder is a
piece where it looks like one nucleus.
"""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled, copied, room
from mihc.nuclei_masks import fill_squared_distance
from mihc.nuclei_tree import ellipse_quality, name_by_seed


@compiled
def add_rest(
    labels: np.ndarray,
    foreground: np.ndarray,
    levels: np.ndarray,
    count: int,
    away: int,
    longest: int,
    usual: float,
    areas: np.ndarray,
    costs: np.ndarray,
    least: float,
) -> np.ndarray:
    """Add to the labels 1 to `count`, in place, the remainders of the foreground -> the seeds of all (n, 2).

    A remainder is an 8-connected part of the foreground farther than `away` pixels from each piece. It is taken where
    its `nuclei_tree.ellipse_quality` with `usual`, `areas` and `costs` is `least` or more, its area is between the
    first and the last of `areas`, and no side is above `longest`.
    """
    height, width = labels.shape
    far = room(labels.shape, np.int16)
    free = room(labels.shape, np.bool_)
    for row in range(height):
        for column in range(width):
            free[row, column] = labels[row, column] == 0
    fill_squared_distance(free, away + 1, far)
    limit = max(away * away, 2)  # farther than a corner neighbour
    left_over = 0
    for row in range(height):
        for column in range(width):
            free[row, column] = foreground[row, column] and far[row, column] > limit
            left_over += free[row, column]
    queue = np.empty((left_over, 2), np.int32)
    sums = np.empty(6, np.int64)
    for row in range(height):
        for column in range(width):
            if not free[row, column]:
                continue
            free[row, column] = False
            queue[0, 0], queue[0, 1] = row, column
            done, found = 0, 1
            sums[:] = 0
            top, bottom, left, right = height, -1, width, -1
            while done < found:
                y, x = np.int64(queue[done, 0]), np.int64(queue[done, 1])
                done += 1
                top, bottom, left, right = min(top, y), max(bottom, y), min(left, x), max(right, x)
                sums[0] += 1
                sums[1] += y
                sums[2] += x
                sums[3] += y * y
                sums[4] += y * x
                sums[5] += x * x
                for v in range(max(y - 1, 0), min(y + 2, height)):
                    for u in range(max(x - 1, 0), min(x + 2, width)):
                        if free[v, u]:
                            free[v, u] = False
                            queue[found, 0], queue[found, 1] = v, u
                            found += 1
            size = sums[0] / usual
            if max(bottom - top, right - left) >= longest or size < areas[0] or size > areas[3]:
                continue
            if ellipse_quality(sums, usual, areas, costs) >= least:
                count += 1
                for k in range(found):
                    labels[queue[k, 0], queue[k, 1]] = count
    return name_by_seed(labels, copied(labels), levels, count)
