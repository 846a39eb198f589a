"""Loops over pixels for `cells`: growth by distance, and sums per cell in one pass over runs of equal labels."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled

FARTHEST = 500  # pixels a nucleus can grow: a step in y or x fits in 10 bits


@compiled
def nearest_label(labels: np.ndarray, reach: int, limit: int) -> np.ndarray:
    """Each background pixel gets the label of its nearest labelled pixel, at most the root of `limit` pixels away.

    Of labelled pixels equally near, the upper one wins, then the left one: a rule of places, not of label numbers.
    """
    height, width = labels.shape
    none = np.int64(FARTHEST + 1)
    step = np.empty((height, width), np.int16)  # to the nearest labelled pixel of the column
    away = np.full(width, none, np.int64)
    for y in range(height):
        for x in range(width):
            away[x] = 0 if labels[y, x] != 0 else min(away[x] + 1, none)
            step[y, x] = -away[x]
    away[:] = none
    for y in range(height - 1, -1, -1):
        for x in range(width):
            away[x] = 0 if labels[y, x] != 0 else min(away[x] + 1, none)
            if away[x] < -step[y, x]:
                step[y, x] = away[x]
    out = np.zeros((height, width), np.uint32)
    far = np.int64(1) << 60
    key = np.empty(width + 2 * reach, np.int64)
    best = np.empty(width, np.int64)
    for y in range(height):
        key[:] = far
        best[:] = far
        for x in range(width):
            dy = np.int64(step[y, x])
            if -reach <= dy <= reach:
                key[x + reach] = (dy * dy << 20) | (dy + 512) << 10
        for k in range(-reach, reach + 1):
            extra = (np.int64(k * k) << 20) + k + 512
            for x in range(width):
                best[x] = min(best[x], key[x + reach + k] + extra)
        for x in range(width):
            if best[x] >> 20 <= limit:
                out[y, x] = labels[y + ((best[x] >> 10) & 1023) - 512, x + (best[x] & 1023) - 512]
    return out


@compiled
def runs_of_cells(nuclei: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal (cell, nucleus) labels along the rows, where there is a cell.

    Returns (n, 3) int32 row, first and one past the last column, and (n, 2) uint32 cell and nucleus labels.
    """
    height, width = cells.shape
    count = 0
    for y in range(height):
        for x in range(width):
            here = cells[y, x]
            if here != 0 and (x == 0 or cells[y, x - 1] != here or nuclei[y, x - 1] != nuclei[y, x]):
                count += 1
    runs = np.empty((count, 3), np.int32)
    names = np.empty((count, 2), np.uint32)
    at = 0
    for y in range(height):
        x = 0
        while x < width:
            cell, nucleus = cells[y, x], nuclei[y, x]
            start = x
            x += 1
            while x < width and cells[y, x] == cell and nuclei[y, x] == nucleus:
                x += 1
            if cell != 0:
                runs[at, 0], runs[at, 1], runs[at, 2] = y, start, x
                names[at, 0], names[at, 1] = cell, nucleus
                at += 1
    return runs, names


@compiled
def shape_sums(
    runs: np.ndarray, index: np.ndarray, inside: np.ndarray, count: int, y0: int, x0: int, height: int, width: int
) -> np.ndarray:
    """Per cell (count, 5) int64: cell pixels, nucleus pixels, sum of the nucleus' y and of its x, touches the edge.

    `index` is the cell of each run, -1 for one that is not wanted; `inside` whether it is nucleus. (y0, x0) is the
    place of the array on a slide of `height` x `width`; sums of y and x are in pixels of the slide.
    """
    out = np.zeros((count, 5), np.int64)
    for r in range(len(runs)):
        cell = index[r]
        if cell < 0:
            continue
        y, first, last = runs[r, 0] + y0, runs[r, 1] + x0, runs[r, 2] + x0 - 1
        length = last - first + 1
        out[cell, 0] += length
        if inside[r]:
            out[cell, 1] += length
            out[cell, 2] += y * length
            out[cell, 3] += (first + last) * length // 2
        if y == 0 or first == 0 or y == height - 1 or last == width - 1:
            out[cell, 4] = 1
    return out


@compiled
def plane_sums(
    plane: np.ndarray, runs: np.ndarray, index: np.ndarray, inside: np.ndarray, count: int, ceiling: int
) -> np.ndarray:
    """Per cell (count, 3) int64: sum over the cell, over its nucleus, and pixels at or above `ceiling`."""
    out = np.zeros((count, 3), np.int64)
    for r in range(len(runs)):
        cell = index[r]
        if cell < 0:
            continue
        y = runs[r, 0]
        total = np.int64(0)
        saturated = np.int64(0)
        for x in range(runs[r, 1], runs[r, 2]):
            value = np.int64(plane[y, x])
            total += value
            saturated += value >= ceiling
        out[cell, 0] += total
        if inside[r]:
            out[cell, 1] += total
        out[cell, 2] += saturated
    return out
