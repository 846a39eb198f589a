"""Which level of a stored pyramid is looked at: the coarse one whole, finer ones window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mihc.qc import Level
from mihc.store import StoredImage

TISSUE_PIXEL_UM = 2.0  # tissue, tumour and folds are looked for at about this size,
MOST_TISSUE_PIXELS = 6_000_000  # and coarser on a slide that would have more of them


@dataclass(frozen=True)
class Overview:
    """A low level of the pyramid, all channels."""

    pixels: np.ndarray  # (c, y, x) counts
    pixel_size_um: tuple[float, float]  # (y, x)
    channels: tuple[str, ...]


def overview_of(stored: StoredImage) -> Overview:
    """Read the level whose pixels are nearest to TISSUE_PIXEL_UM, or the first with few enough of them."""
    nearest = nearest_level(stored, TISSUE_PIXEL_UM)
    pixels = [array.shape[1] * array.shape[2] for array in stored.levels]
    level = next((k for k in range(nearest, len(pixels)) if pixels[k] <= MOST_TISSUE_PIXELS), len(pixels) - 1)
    return Overview(np.asarray(stored.levels[level][:]), level_pixel_um(stored, level), stored.channels)


def nearest_level(stored: StoredImage, pixel_um: float) -> int:
    """The level whose pixels are nearest to a size."""
    size = max(stored.pixel_size_um)
    return min(range(len(stored.levels)), key=lambda k: abs(np.log2(stored.downsamples[k] * size / pixel_um)))


def level_pixel_um(stored: StoredImage, level: int) -> tuple[float, float]:
    """The (y, x) pixel size of a level."""
    factor_y, factor_x = (stored.downsamples[level] * one for one in stored.pixel_size_um)
    return factor_y, factor_x


def level_near(stored: StoredImage, pixel_um: float) -> Level:
    """The level whose pixels are nearest to a size, for the quality checks."""
    k = nearest_level(stored, pixel_um)
    return Level(stored.levels[k], level_pixel_um(stored, k))
