"""What should not be measured: folds, debris and bubbles, each as a mask with its name."""

from __future__ import annotations

import numpy as np

from mihc.quality.bubbles import bubble_mask
from mihc.quality.excess import FEWEST_CHANNELS, excess_of
from mihc.quality.fields import near
from mihc.quality.folds import debris_mask, fold_mask

FLAWS = ("fold", "debris", "bubble")
BESIDE_UM = 8.0
OUT_OF_FOCUS = "out of focus"


def find_flaws(channels: np.ndarray, tissue: np.ndarray, pixel_um: float) -> dict[str, np.ndarray]:
    """Return (y, x) masks by name, True on folds, debris and bubbles; they share no pixel.

    `channels` is (c, y, x) counts of a coarse level, `tissue` its tissue. All three are told by what nearly every
    channel shows at once, so on fewer than three channels nothing is looked for: the dict is empty.
    """
    if len(channels) < FEWEST_CHANNELS:
        return {}
    if not tissue.any():
        return {name: np.zeros(tissue.shape, dtype=bool) for name in FLAWS}
    excess = excess_of(channels, tissue, pixel_um)
    bubble = bubble_mask(channels, excess, channels.any(axis=0), pixel_um)
    fold = fold_mask(excess, tissue & ~bubble, pixel_um)
    beside = tissue & ~bubble & ~near(fold, BESIDE_UM, pixel_um)  # what is brightest in a fold is fold
    return {"fold": fold, "debris": debris_mask(excess, beside, pixel_um), "bubble": bubble}
