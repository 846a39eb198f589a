"""Folds: long bands of tissue that lies double; and debris: compact pieces that outshine everything."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mihc.quality.excess import Excess
from mihc.quality.fields import enlarge, without_specks

SMALLEST_FOLD_UM2 = 1500.0
FOLD_LEAST = 0.35  # log2: a band of tissue that lies double is a quarter brighter in nearly every channel
SMALLEST_DEBRIS_UM2 = 250.0  # five nuclei: no cell is as large
DEBRIS_LEAST = 0.8  # log2 at its edge,
DEBRIS_PEAK = 1.3  # and in its brightest quarter


def fold_mask(excess: Excess, tissue: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return (y, x), True on folds: long bands that outshine their surroundings in nearly every channel.

    Tissue that lies double is bright in every channel at once, which no cell is.
    """
    least = enlarge(excess.least, excess.step, tissue.shape)
    labels, _ = ndimage.label(without_specks(tissue & (least > FOLD_LEAST), SMALLEST_FOLD_UM2, pixel_um))
    fold = np.zeros(tissue.shape, dtype=bool)
    for index, place in enumerate(ndimage.find_objects(labels), start=1):
        island = labels[place] == index
        if is_long(np.pad(island, 1)):  # its edge is somewhat below half of its height
            fold[place] |= island & (least[place] > 0.42 * np.quantile(least[place][island], 0.75))
    return without_specks(fold, SMALLEST_FOLD_UM2, pixel_um)


def debris_mask(excess: Excess, tissue: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return (y, x), True on debris: compact pieces, larger than cells, that shine in nearly every channel at once."""
    least = enlarge(excess.least, excess.step, tissue.shape)
    labels, _ = ndimage.label(without_specks(tissue & (least > DEBRIS_LEAST), SMALLEST_DEBRIS_UM2, pixel_um))
    debris = np.zeros(tissue.shape, dtype=bool)
    for index, place in enumerate(ndimage.find_objects(labels), start=1):
        island = labels[place] == index
        if np.quantile(least[place][island], 0.75) > DEBRIS_PEAK and not is_long(np.pad(island, 1)):
            debris[place] |= island
    return debris


def is_long(island: np.ndarray) -> bool:
    """Say whether an island is at least three times as long as wide: its area against its widest inscribed circle."""
    width = 2 * ndimage.distance_transform_edt(island).max()
    return bool(island.sum() / width >= 3 * width)
