"""Loops over pixels for `cells`: growth by distance."""

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
