"""Loops over masks for `nuclei`: holes filled, distance to the edge. Exact integers, as in `nuclei_kernels`."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled


@compiled
def fill_holes(mask: np.ndarray, largest: int, longest: int) -> None:
    """Fill (in place) the 4-connected holes of at most `largest` pixels and sides of at most `longest`.

    Holes are put together from the runs of unset pixels in each row.
    """
    rows, ends, first = _empty_runs(mask)
    roots = np.arange(len(rows))
    for y in range(1, mask.shape[0]):
        above, here = first[y - 1], first[y]
        while above < first[y] and here < first[y + 1]:
            if ends[above, 0] < ends[here, 1] and ends[here, 0] < ends[above, 1]:
                _unite(roots, above, here)
            if ends[above, 1] < ends[here, 1]:
                above += 1
            else:
                here += 1
    size = np.zeros(len(rows), np.int64)
    box = np.empty((len(rows), 4), np.int64)
    box[:, 0::2] = 2**31 - 1
    box[:, 1::2] = -1
    for run in range(len(rows)):
        top = find_root(roots, run)
        size[top] += ends[run, 1] - ends[run, 0]
        box[top, 0] = min(box[top, 0], rows[run])
        box[top, 1] = max(box[top, 1], rows[run])
        box[top, 2] = min(box[top, 2], ends[run, 0])
        box[top, 3] = max(box[top, 3], ends[run, 1] - 1)
    for run in range(len(rows)):
        top = find_root(roots, run)
        tall, wide = box[top, 1] - box[top, 0], box[top, 3] - box[top, 2]
        if size[top] <= largest and tall < longest and wide < longest:
            mask[rows[run], ends[run, 0] : ends[run, 1]] = True


@compiled
def _empty_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row (n,), and first and past-the-last column (n, 2), of each run of unset pixels; the first run of each row."""
    height, width = mask.shape
    count = 0
    for y in range(height):
        for x in range(width):
            count += not mask[y, x] and (x == 0 or mask[y, x - 1])
    rows = np.empty(count, np.int64)
    ends = np.empty((count, 2), np.int64)
    first = np.empty(height + 1, np.int64)
    run = 0
    for y in range(height):
        first[y] = run
        x = 0
        while x < width:
            if mask[y, x]:
                x += 1
                continue
            rows[run], ends[run, 0] = y, x
            while x < width and not mask[y, x]:
                x += 1
            ends[run, 1] = x
            run += 1
    first[height] = run
    return rows, ends, first


@compiled
def find_root(roots: np.ndarray, at: int) -> int:
    """The root of a tree of a union-find forest; the path to it is halved."""
    while roots[at] != at:
        roots[at] = roots[roots[at]]
        at = roots[at]
    return at


@compiled
def _unite(roots: np.ndarray, one: int, other: int) -> None:
    a, b = find_root(roots, one), find_root(roots, other)
    roots[max(a, b)] = min(a, b)


@compiled
def squared_distance(mask: np.ndarray, reach: int) -> np.ndarray:
    """Squared distance to the nearest pixel that is not in `mask`, at most reach squared -> int32.

    What lies outside the array counts as mask.
    """
    height, width = mask.shape
    down = np.empty((height, width), np.int32)
    for x in range(width):
        down[0, x] = reach if mask[0, x] else 0
    for y in range(1, height):
        for x in range(width):
            down[y, x] = min(down[y - 1, x] + 1, reach) if mask[y, x] else 0
    for y in range(height - 2, -1, -1):
        for x in range(width):
            down[y, x] = min(down[y, x], down[y + 1, x] + 1)
    out = np.empty((height, width), np.int32)
    limit = np.int32(reach * reach)
    squares = np.empty(width + 2 * reach, np.int32)
    for y in range(height):
        squares[:] = limit
        for x in range(width):
            squares[x + reach] = down[y, x] * down[y, x]
        line = out[y]
        for x in range(width):
            line[x] = squares[x + reach]
        for k in range(-reach, reach + 1):
            step = np.int32(k * k)
            for x in range(width):
                line[x] = min(line[x], squares[x + reach + k] + step)
    return out
