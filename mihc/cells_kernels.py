"""Loops over pixels for `cells`: growth by distance."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled, room

FARTHEST = 500  # pixels a nucleus can grow: a step in y or x fits in 10 bits
NEAR = 30  # up to which steps fit in 6 bits, and a distance with its steps in 32


def nearest_label(labels: np.ndarray, reach: int, limit: int) -> np.ndarray:
    """Each background pixel gets the label of its nearest labelled pixel, at most the root of `limit` pixels away.

    Of labelled pixels equally near, the upper one wins, then the left one: a rule of places, not of label numbers.
    """
    bits, dtype = (6, np.int32) if reach <= NEAR else (10, np.int64)
    width = labels.shape[1]
    out = np.zeros(labels.shape, np.uint32)
    _spread(labels, _column_steps(labels, reach), np.empty(width + 2 * reach, dtype), np.empty(width, dtype),
            reach, limit, bits, out)  # fmt: skip
    return out


@compiled
def _column_steps(labels: np.ndarray, reach: int) -> np.ndarray:
    """From each pixel to the nearest labelled one of its column, the upper of two; reach + 1 if none is in reach."""
    height, width = labels.shape
    none = np.int16(reach + 1)
    step = room((height, width), np.int16)
    away = np.full(width, none, np.int16)
    for y in range(height):
        for x in range(width):
            away[x] = np.int16(0) if labels[y, x] != 0 else min(np.int16(away[x] + 1), none)
            step[y, x] = -away[x]
    away[:] = none
    for y in range(height - 1, -1, -1):
        for x in range(width):
            away[x] = np.int16(0) if labels[y, x] != 0 else min(np.int16(away[x] + 1), none)
            if away[x] < -step[y, x]:
                step[y, x] = away[x]
    return step


@compiled
def _spread(
    labels: np.ndarray,
    step: np.ndarray,
    key: np.ndarray,
    best: np.ndarray,
    reach: int,
    limit: int,
    bits: int,
    out: np.ndarray,
) -> None:
    """Fill `out` row by row; `key` and `best` hold squared distance, step in y and step in x in one number each."""
    height, width = labels.shape
    number = key.dtype.type
    half, ones = 1 << (bits - 1), (1 << bits) - 1
    far = number(np.int64(1) << (2 * bits + 1 + 2 * (bits - 1)))
    for y in range(height):
        key[:] = far
        some = False
        for x in range(width):
            dy = np.int64(step[y, x])
            if -reach <= dy <= reach:
                key[x + reach] = number((dy * dy << 2 * bits) | (dy + half) << bits)
                some = True
        if not some:
            continue
        best[:] = far
        for k in range(-reach, reach + 1):
            extra = number((k * k << 2 * bits) + k + half)
            beside = key[reach + k : reach + k + width]
            for x in range(width):
                best[x] = min(best[x], number(beside[x] + extra))
        for x in range(width):
            if best[x] >> 2 * bits <= limit:
                out[y, x] = labels[y + ((best[x] >> bits) & ones) - half, x + (best[x] & ones) - half]


@compiled
def box_of_rows(labels: np.ndarray, rows: np.ndarray) -> tuple[int, int, int, int]:
    """First row and the one past the last, and so the columns, of the pixels whose label has a row; zeros if none."""
    height, width = labels.shape
    top, bottom, left, right = 0, height, width, 0
    while top < height and not _any_of(labels[top], rows):
        top += 1
    if top == height:
        return 0, 0, 0, 0
    while not _any_of(labels[bottom - 1], rows):
        bottom -= 1
    for y in range(top, bottom):  # what lies between is not looked at
        for x in range(left):
            if labels[y, x] != 0 and rows[labels[y, x]] >= 0:
                left = x
                break
        for x in range(width - 1, right - 1, -1):
            if labels[y, x] != 0 and rows[labels[y, x]] >= 0:
                right = x + 1
                break
    return top, bottom, left, right


@compiled
def _any_of(line: np.ndarray, rows: np.ndarray) -> bool:
    """Whether a label of the line has a row."""
    found = False
    for label in line:
        found |= label != 0 and rows[label] >= 0
    return found
