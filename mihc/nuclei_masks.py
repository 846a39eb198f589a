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


def squared_distance(mask: np.ndarray, reach: int) -> np.ndarray:
    """Squared distance to the nearest pixel that is not in `mask`, at most reach squared -> int16, or int32 if need be.

    What lies outside the array counts as mask.
    """
    out = np.empty(mask.shape, np.int16 if 2 * reach * reach <= np.iinfo(np.int16).max else np.int32)
    fill_squared_distance(mask, reach, out)
    return out


@compiled
def fill_squared_distance(mask: np.ndarray, reach: int, out: np.ndarray) -> None:
    """Fill `out`, of a type that holds twice reach squared, as `squared_distance` does."""
    height, width = mask.shape
    number = out.dtype.type
    none, one, deepest = number(0), number(1), number(reach)
    away = np.empty(width, out.dtype)  # along the column, to the nearest pixel above, or here, that is not in the mask
    away[:] = deepest
    for y in range(height):
        for x in range(width):
            away[x] = min(number(away[x] + one), deepest) if mask[y, x] else none
            out[y, x] = away[x]
    squares = np.empty(width + 2 * reach, out.dtype)
    squares[:] = number(reach * reach)
    away[:] = deepest
    for y in range(height - 1, -1, -1):
        line = out[y]
        for x in range(width):
            away[x] = min(number(away[x] + one), line[x])
            squares[x + reach] = number(away[x] * away[x])
        for x in range(width):
            line[x] = squares[x + reach]
        for k in range(1, reach):
            step, left, right = number(k * k), squares[reach - k :], squares[reach + k :]
            for x in range(width):
                line[x] = min(line[x], number(min(left[x], right[x]) + step))
