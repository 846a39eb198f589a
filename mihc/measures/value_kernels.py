"""Spread, percentiles and hulls: loops over the runs of each cell, which lie together and in the order of the rows."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled

BUCKETS = 256
FULL = 32  # values of a bucket above which sorting them one by one is slow
HALF = 22  # bits of the lower part of a difference: the squares of both parts then sum without overflow


@compiled
def runs_by_row(nuclei: np.ndarray, cells: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal labels, those of the first row of the table first: (n, 4) int32 and where each row's begin.

    A run is y, first and one past the last column, and 1 for nucleus.
    """
    height, width = cells.shape
    starts = np.zeros(count + 2, np.int64)
    runs = np.empty((0, 4), np.int32)
    for filling in (False, True):
        if filling:
            for row in range(2, count + 2):
                starts[row] += starts[row - 1]
            runs = np.empty((starts[count + 1], 4), np.int32)
        for y in range(height):
            x = 0
            while x < width:
                cell, nucleus, first = cells[y, x], nuclei[y, x], x
                x += 1
                while x < width and cells[y, x] == cell and nuclei[y, x] == nucleus:
                    x += 1
                row = np.int64(rows[cell]) if cell != 0 else np.int64(-1)
                if not 0 <= row < count:
                    continue
                if filling:
                    at = starts[row + 1]
                    runs[at, 0], runs[at, 1], runs[at, 2], runs[at, 3] = y, first, x, nucleus != 0
                    starts[row + 1] += 1
                else:
                    starts[row + 2] += 1
    return runs, starts[: count + 1]


@compiled
def squares(plane: np.ndarray, runs: np.ndarray, starts: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    """Sums of (value - pivot)^2 of cytoplasm and nucleus (rows, 2, 3): sum = a 2^44 + b 2^23 + c, each an integer.

    `pivots` (rows, 2) int64 are whole numbers near the means.
    """
    count = len(starts) - 1
    out = np.zeros((count, 2, 3), np.int64)
    low = (np.int64(1) << HALF) - 1
    narrow = plane.itemsize <= 2  # its differences have no upper part
    for row in range(count):
        for k in range(starts[row], starts[row + 1]):
            part = runs[k, 3]
            pivot = pivots[row, part]
            sums = out[row, part]
            if narrow:
                total = np.int64(0)
                for x in range(runs[k, 1], runs[k, 2]):
                    away = np.int64(plane[runs[k, 0], x]) - pivot
                    total += away * away
                sums[2] += total
                continue
            for x in range(runs[k, 1], runs[k, 2]):
                away = abs(np.int64(plane[runs[k, 0], x]) - pivot)
                upper, lower = away >> HALF, away & low
                sums[0] += upper * upper
                sums[1] += upper * lower
                sums[2] += lower * lower
    return out


@compiled
def quantiles(plane: np.ndarray, runs: np.ndarray, starts: np.ndarray, percents: np.ndarray) -> np.ndarray:
    """Percentiles of nucleus, cytoplasm and cell, (rows, 3, percents) float64; NaN of no pixels.

    R's type 7, numpy's default: linear between the values around rank (n - 1) percent / 100.
    """
    count = len(starts) - 1
    out = np.full((count, 3, len(percents)), np.nan)
    largest = 0
    for row in range(count):
        largest = max(largest, _pixels(runs, starts[row], starts[row + 1]))
    nucleus, cytoplasm, spare = np.empty((3, largest), plane.dtype)
    counts = np.empty(BUCKETS + 1, np.int64)
    for row in range(count):
        inside, outside = 0, 0
        for k in range(starts[row], starts[row + 1]):
            for x in range(runs[k, 1], runs[k, 2]):
                if runs[k, 3]:
                    nucleus[inside] = plane[runs[k, 0], x]
                    inside += 1
                else:
                    cytoplasm[outside] = plane[runs[k, 0], x]
                    outside += 1
        _sort(nucleus[:inside], spare, counts)
        _sort(cytoplasm[:outside], spare, counts)
        for k in range(len(percents)):
            share = percents[k] / 100
            out[row, 0, k] = _quantile(nucleus[:inside], cytoplasm[:0], share)
            out[row, 1, k] = _quantile(cytoplasm[:outside], nucleus[:0], share)
            out[row, 2, k] = _quantile(nucleus[:inside], cytoplasm[:outside], share)
    return out


@compiled
def _sort(values: np.ndarray, spare: np.ndarray, counts: np.ndarray) -> None:
    """Sort in place: into buckets of equal width, then within them; plainly where one bucket holds too much."""
    size = len(values)
    if size < 2:
        return
    lowest, highest = values[0], values[0]
    for k in range(size):
        lowest, highest = min(lowest, values[k]), max(highest, values[k])
    shift = 0
    while (np.int64(highest) - np.int64(lowest)) >> shift >= BUCKETS:
        shift += 1
    counts[:] = 0
    for k in range(size):
        counts[((np.int64(values[k]) - np.int64(lowest)) >> shift) + 1] += 1
    if shift > 0 and counts.max() > FULL:
        values.sort()
        return
    for bucket in range(BUCKETS):
        counts[bucket + 1] += counts[bucket]
    for k in range(size):
        bucket = (np.int64(values[k]) - np.int64(lowest)) >> shift
        spare[counts[bucket]] = values[k]
        counts[bucket] += 1
    for k in range(size):
        value, at = spare[k], k
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


@compiled
def _pixels(runs: np.ndarray, first: int, end: int) -> int:
    pixels = 0
    for k in range(first, end):
        pixels += runs[k, 2] - runs[k, 1]
    return pixels


@compiled
def _quantile(a: np.ndarray, b: np.ndarray, share: float) -> float:
    """A quantile of the values of two sorted arrays together."""
    size = len(a) + len(b)
    if size == 0:
        return np.nan
    place = (size - 1) * share
    rank = min(np.int64(np.floor(place)), size - 1)
    lower = np.float64(_ranked(a, b, rank))
    upper = np.float64(_ranked(a, b, min(rank + 1, size - 1)))
    return lower + (upper - lower) * (place - rank)


@compiled
def _ranked(a: np.ndarray, b: np.ndarray, rank: int) -> int:
    """The value of that rank, from 0, of two sorted arrays together: how many come from `a` is found by halving."""
    low, high = max(0, rank + 1 - len(b)), min(len(a), rank + 1)
    while low < high:
        middle = (low + high) // 2
        if a[middle] < b[rank - middle]:
            low = middle + 1
        else:
            high = middle
    rest = rank + 1 - low
    if low == 0:
        return b[rest - 1]
    if rest == 0:
        return a[low - 1]
    return max(a[low - 1], b[rest - 1])


@compiled
def hull_pixels(runs: np.ndarray, starts: np.ndarray, nucleus_only: bool) -> np.ndarray:
    """Pixels whose centres lie in or on the convex hull of the centres of a cell's pixels, (rows) int64."""
    count = len(starts) - 1
    out = np.zeros(count, np.int64)
    longest = 1
    for row in range(count):
        if starts[row + 1] > starts[row]:
            longest = max(longest, runs[starts[row + 1] - 1, 0] - runs[starts[row], 0] + 1)
    left, right = np.empty((longest, 2), np.int64), np.empty((longest, 2), np.int64)
    for row in range(count):
        lefts, rights, y = 0, 0, -1
        k = starts[row]
        while k < starts[row + 1]:
            y, first, last = np.int64(runs[k, 0]), np.int64(2**40), np.int64(-1)
            while k < starts[row + 1] and runs[k, 0] == y:
                if runs[k, 3] or not nucleus_only:
                    first, last = min(first, np.int64(runs[k, 1])), max(last, np.int64(runs[k, 2] - 1))
                k += 1
            if last >= 0:
                lefts = _push(left, lefts, first, y, 1)
                rights = _push(right, rights, last, y, -1)
        if lefts:
            out[row] = _lattice_points(left, lefts, right, rights)
    return out


@compiled
def _push(chain: np.ndarray, size: int, x: int, y: int, side: int) -> int:
    """Add a point below a chain of the hull, left (side 1) or right (-1), and drop what it makes hollow -> its size."""
    while size >= 2:
        ax, ay, bx, by = chain[size - 2, 0], chain[size - 2, 1], chain[size - 1, 0], chain[size - 1, 1]
        if side * ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) < 0:
            break
        size -= 1
    chain[size, 0], chain[size, 1] = x, y
    return size + 1


@compiled
def _lattice_points(left: np.ndarray, lefts: int, right: np.ndarray, rights: int) -> int:
    """Whole-numbered points in or on the polygon down the left chain and up the right one (Pick's theorem)."""
    size = lefts + rights
    area, boundary = np.int64(0), np.int64(0)  # twice the area
    for k in range(size):
        here, there = _corner(left, lefts, right, size, k), _corner(left, lefts, right, size, (k + 1) % size)
        area += here[0] * there[1] - there[0] * here[1]
        boundary += _common(abs(here[0] - there[0]), abs(here[1] - there[1]))
    return (abs(area) + boundary) // 2 + 1


@compiled
def _corner(left: np.ndarray, lefts: int, right: np.ndarray, size: int, k: int) -> np.ndarray:
    return left[k] if k < lefts else right[size - 1 - k]


@compiled
def _common(a: int, b: int) -> int:
    """Greatest common divisor; of 0 and 0 it is 0."""
    while b:
        a, b = b, a % b
    return a
