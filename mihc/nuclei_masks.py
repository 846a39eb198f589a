"""Loops over masks for `nuclei`: holes filled, distance to the edge. Exact integers, as in `nuclei_kernels`."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled, room


@compiled
def fill_holes(mask: np.ndarray, largest: int, longest: int) -> None:
    """Fill (in place) the 4-connected holes of at most `largest` pixels and sides of at most `longest`.

    Holes are put together from the runs of unset pixels in each row.
    """
    rows, ends, first = _runs(mask, False)
    roots = _joined_runs(ends, first, 0)
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
def places_by_piece(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The set pixels of a (y, x) mask, one 8-connected piece after the other.

    Returns
    -------
    places : (n,) int32, flat places, row by row within a piece.
    starts : (pieces + 1,) int64, where in `places` each piece begins, and n.
    """
    rows, ends, first = _runs(mask, True)
    roots = _joined_runs(ends, first, 1)
    size = np.zeros(len(rows), np.int64)
    for run in range(len(rows)):
        size[find_root(roots, run)] += ends[run, 1] - ends[run, 0]
    starts = np.zeros(len(rows) + 1, np.int64)
    pieces, total = 0, 0
    for run in range(len(rows)):
        if roots[run] == run:
            starts[pieces] = total
            pieces += 1
            size[run], total = total, total + size[run]
    starts[pieces] = total
    places = room(total, np.int32)
    for run in range(len(rows)):
        top = find_root(roots, run)
        line = rows[run] * mask.shape[1]
        for x in range(ends[run, 0], ends[run, 1]):
            places[size[top]] = line + x
            size[top] += 1
    return places, starts[: pieces + 1].copy()


@compiled
def _runs(mask: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each run of `wanted` pixels the row (n,), and first and past-the-last column (n, 2); each row's first run."""
    height, width = mask.shape
    count = 0
    for y in range(height):
        before = not wanted
        for x in range(width):
            here = mask[y, x] != 0
            count += here == wanted and before != wanted
            before = here
    rows = np.empty(count, np.int64)
    ends = np.empty((count, 2), np.int64)
    first = np.empty(height + 1, np.int64)
    run = 0
    for y in range(height):
        first[y] = run
        x = 0
        while x < width:
            if (mask[y, x] != 0) != wanted:
                x += 1
                continue
            rows[run], ends[run, 0] = y, x
            while x < width and (mask[y, x] != 0) == wanted:
                x += 1
            ends[run, 1] = x
            run += 1
    first[height] = run
    return rows, ends, first


@compiled
def _joined_runs(ends: np.ndarray, first: np.ndarray, corner: int) -> np.ndarray:
    """A union-find forest of runs that touch those of the row above: at sides (`corner` 0), or at corners too (1).

    The root of a piece is its first run.
    """
    roots = np.arange(len(ends))
    for y in range(1, len(first) - 1):
        above, here = first[y - 1], first[y]
        while above < first[y] and here < first[y + 1]:
            if ends[above, 0] < ends[here, 1] + corner and ends[here, 0] < ends[above, 1] + corner:
                _unite(roots, above, here)
            if ends[above, 1] < ends[here, 1]:
                above += 1
            else:
                here += 1
    return roots


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
