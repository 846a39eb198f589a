"""By how much channels outshine, or fall below, their surroundings: what folds, debris and bubbles are told by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mihc.quality.fields import block_mean, blur_within, log_light

BLOCK_UM = 4.0
NEAR_UM = 60.0  # a fold and a piece of dust are held against what lies this near,
WIDE_UM = 200.0  # a bubble, which is larger, against this
FEWEST_CHANNELS = 3  # with fewer, what is bright in all of them may be a cell


@dataclass(frozen=True)
class Excess:
    """log2 of the light over that of the surroundings, on blocks; all channels ranked at each block."""

    least: np.ndarray  # (y, x) the channel a quarter from the least, against what is near
    most: np.ndarray  # (y, x) the channel a quarter from the most, against what is wide around
    step: int  # pixels per block
    block_um: float


def excess_of(channels: np.ndarray, tissue: np.ndarray, pixel_um: float) -> Excess:
    """Return the excess of (c, y, x) counts; `tissue` is what counts as surroundings. At least one channel."""
    step = max(1, int(BLOCK_UM / pixel_um))  # blocks of about 4 µm hold what a blur of 4 µm leaves
    blocks, block_um = block_mean(tissue, step) > 0.5, step * pixel_um
    smallest: list[np.ndarray] = []  # those of the channels so far, sorted at each block
    greatest: list[np.ndarray] = []  # the same of the wide ones with their sign turned
    kept = len(channels) // 4 + 1
    for plane in channels:
        light = log_light(block_mean(plane, step), BLOCK_UM, block_um, blocks) if blocks.any() else 0 * blocks
        _rank(smallest, light - blur_within(light, blocks, NEAR_UM, block_um), kept)
        _rank(greatest, blur_within(light, blocks, WIDE_UM, block_um) - light, kept)
    return Excess(smallest[-1], -greatest[-1], step, block_um)


def _rank(smallest: list[np.ndarray], values: np.ndarray, kept: int) -> None:
    """Sort values into the `kept` smallest at each place."""
    for index, known in enumerate(smallest):
        smallest[index], values = np.minimum(known, values), np.maximum(known, values)
    if len(smallest) < kept:
        smallest.append(values)
