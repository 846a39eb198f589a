"""The one pass over the pixels: integer sums of every cell and channel, row by row over runs of equal labels."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled

TOUCHES_EDGE, SATURATED = 1, 2  # bits of the marks
WORD = 8  # pixels whose changes are looked at together


@compiled
def add_sums(
    image: np.ndarray,
    channels: np.ndarray,
    nuclei: np.ndarray,
    cells: np.ndarray,
    rows: np.ndarray,
    place: np.ndarray,
    ceilings: np.ndarray,
    shapes: np.ndarray,
    light: np.ndarray,
    marks: np.ndarray,
) -> bool:
    """Add what an image holds to the sums of its cells -> whether each nucleus lies within the cell of its label.

    `image` (c, y, x) of any integer dtype, of which the planes `channels` are summed; `rows` the row of each label, -1
    for one that is not wanted; `place` = first y and x of the image on the slide, and the slide's height and width.
    Added to, both (rows, 2, ...) int64 for cytoplasm and nucleus: `shapes` pixels and sums of y, x, yy, xy and xx in
    pixels of the slide; `light` the sum of each channel. `marks` (rows) uint8 are set where a cell touches the edge of
    the slide or has a pixel at or above one of the `ceilings`.
    """
    height, width = cells.shape
    changes = np.zeros((width // WORD + 1) * WORD, np.uint8)
    changes[width] = 1
    words = changes.view(np.uint64)
    runs = np.empty((width, 4), np.int64)
    whole = True
    for y in range(height):
        count, fits = _runs_of_row(nuclei[y], cells[y], rows, changes, words, runs)
        whole &= fits
        if count == 0:
            continue
        _add_shapes(runs, count, y + place[0], place, shapes, marks)
        for k in range(len(channels)):
            _add_light(image[channels[k], y], runs, count, k, ceilings[k], light, marks)
    return whole


@compiled
def _runs_of_row(
    nuclei: np.ndarray, cells: np.ndarray, rows: np.ndarray, changes: np.ndarray, words: np.ndarray, runs: np.ndarray
) -> tuple[int, bool]:
    """Runs of one cell and compartment: first and one past the last column, row, 1 for nucleus -> how many.

    The second answer is whether each nucleus lies within the cell of its label.
    """
    width = len(cells)
    # an index that may be negative, as x - 1 is to the compiler, would keep the loop from being vectorised
    next_cells, next_nuclei, changed = cells[1:], nuclei[1:], changes[1:]
    for x in range(width - 1):
        changed[x] = (next_cells[x] != cells[x]) | (next_nuclei[x] != nuclei[x])
    count, start, fits = 0, 0, True
    for k in range(len(words)):
        if words[k] == 0:
            continue
        for x in range(WORD * k, WORD * k + WORD):
            if changes[x] == 0:
                continue
            cell, nucleus = cells[start], nuclei[start]
            fits &= nucleus == 0 or nucleus == cell
            row = np.int64(rows[cell]) if cell != 0 else np.int64(-1)
            if row >= 0:
                runs[count, 0], runs[count, 1], runs[count, 2], runs[count, 3] = start, x, row, nucleus != 0
                count += 1
            start = x
    return count, fits


@compiled
def _add_shapes(runs: np.ndarray, count: int, y: int, place: np.ndarray, shapes: np.ndarray, marks: np.ndarray) -> None:
    at_edge = y == 0 or y == place[2] - 1
    for k in range(count):
        first, end = runs[k, 0] + place[1], runs[k, 1] + place[1]
        length = end - first
        along = (first + end - 1) * length // 2
        squares = ((end - 1) * end * (2 * end - 1) - (first - 1) * first * (2 * first - 1)) // 6
        sums = shapes[runs[k, 2], runs[k, 3]]
        sums[0] += length
        sums[1] += y * length
        sums[2] += along
        sums[3] += y * y * length
        sums[4] += y * along
        sums[5] += squares
        if at_edge or first == 0 or end == place[3]:
            marks[runs[k, 2]] |= TOUCHES_EDGE


@compiled
def _add_light(
    values: np.ndarray, runs: np.ndarray, count: int, channel: int, ceiling: int, light: np.ndarray, marks: np.ndarray
) -> None:
    brightest = values[0]
    for x in range(len(values)):
        brightest = max(brightest, values[x])
    for k in range(count):
        total = np.int64(0)
        for x in range(runs[k, 0], runs[k, 1]):
            total += values[x]
        light[runs[k, 2], runs[k, 3], channel] += total
    if brightest < ceiling:
        return
    for k in range(count):
        for x in range(runs[k, 0], runs[k, 1]):
            if values[x] >= ceiling:
                marks[runs[k, 2]] |= SATURATED


@compiled
def mark_labels(labels: np.ndarray, present: np.ndarray) -> None:
    """Set present[label] for each label of an image."""
    height, width = labels.shape
    changes = np.zeros((width // WORD + 1) * WORD, np.uint8)
    words = changes.view(np.uint64)
    for y in range(height):
        row = labels[y]
        present[row[0]] = True
        after, changed = row[1:], changes[1:]
        for x in range(width - 1):
            changed[x] = after[x] != row[x]
        for k in range(len(words)):
            if words[k] == 0:
                continue
            for x in range(WORD * k, WORD * k + WORD):
                if changes[x]:
                    present[row[x]] = True


@compiled
def fixed_point(values: np.ndarray, scale: float, limit: float, out: np.ndarray) -> bool:
    """round(value * scale) of (y, x) floats into int64 `out`, clipped to +-limit -> whether all values are finite."""
    finite = True
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            value = np.float64(values[y, x])
            if not np.isfinite(value):
                finite = False
                value = 0.0
            out[y, x] = np.int64(min(max(np.rint(value * scale), -limit), limit))
    return finite
