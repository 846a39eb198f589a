"""The nuclear stain of a slide: its channels summed, and what autofluorescence adds to them taken away again.

Debris that glows by itself glows in every channel, and in the nuclear one it looks like a nucleus. An autofluorescence
channel shows it alone: where that channel is far brighter than nuclei are in it, the nuclear stain owes it a share of
its light. The share is one number for the slide, measured before any window; pixels in which autofluorescence is as
usual are left as they are, and so is a slide on which debris and nuclei have the same colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mihc.nuclei_reference import reference_blocks, sum_planes

STRIP = 256  # rows that are worked on at a time
PARTS = 1024  # the share is a whole number of these, so that it is written and read without a change
USUAL = 80  # percentile of the autofluorescence on nuclear pixels up to which it is usual
FAR = 3.0  # spreads above that from which a pixel is far brighter
FEWEST = 200  # such pixels in the sampled blocks, else there is nothing to measure
OTHER_COLOUR = 3.0  # by which debris has less nuclear stain for its autofluorescence than nuclei have


@dataclass(frozen=True)
class Autofluorescence:
    """What is measured once per slide: which light of the nuclear stain is not of nuclei."""

    channel: int  # its plane
    usual: float  # counts up to which it is usual on nuclei
    share: int  # of what exceeds that, in 1/PARTS: so much is taken from the nuclear stain; 0: nothing
    floor: float  # counts of the nuclear stain that are left in any case: its background

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for the slide's record."""
        return asdict(self)


def nuclear_stain(
    image: object, channels: Sequence[int], autofluorescence: Autofluorescence | None, box: tuple[slice, slice]
) -> np.ndarray:
    """The nuclear stain (y, x) in a box of a (c, y, x) image, in counts, pixel by pixel."""
    stain = sum_planes([np.asarray(image[channel, box[0], box[1]]) for channel in channels])
    if autofluorescence is None or autofluorescence.share == 0:
        return stain
    left = np.empty_like(stain)
    glow = np.asarray(image[autofluorescence.channel, box[0], box[1]])
    for y in range(0, len(stain), STRIP):
        part = slice(y, y + STRIP)
        left[part] = _without_glow(stain[part], glow[part], autofluorescence)
    return left


def _without_glow(stain: np.ndarray, glow: np.ndarray, autofluorescence: Autofluorescence) -> np.ndarray:
    owed = np.maximum(glow.astype(np.float64) - autofluorescence.usual, 0.0) * (autofluorescence.share / PARTS)
    if stain.dtype.kind != "f":
        stain, owed = stain.astype(np.int64), np.rint(owed).astype(np.int64)
    return np.maximum(stain - owed, np.minimum(stain, stain.dtype.type(autofluorescence.floor)))


class NuclearStain:
    """The nuclear stain of a slide as one lazy (y, x) array, for `slide_reference` and for other segmenters."""

    def __init__(self, image: object, channels: Sequence[int], autofluorescence: Autofluorescence | None = None):
        self.image, self.channels, self.autofluorescence = image, tuple(channels), autofluorescence
        self.shape = tuple(image.shape[-2:])

    def __getitem__(self, box: tuple[slice, slice]) -> np.ndarray:
        return nuclear_stain(self.image, self.channels, self.autofluorescence, box)


def measure_autofluorescence(image: object, channels: Sequence[int], channel: int) -> Autofluorescence:
    """Measure, on the boxes of `reference_blocks`, how much of a slide's autofluorescence is in its nuclear stain.

    Parameters
    ----------
    image : (c, y, x) array or anything with `.shape` and `image[c, y0:y1, x0:x1]`, of any real dtype, counts.
    channels : planes that are summed to the nuclear stain.
    channel : plane of autofluorescence.

    Returns
    -------
    Autofluorescence
        Its share is 0 where too little is far brighter than usual, or where debris has the colour of nuclei, so that
        taking its light away would take nuclei away.
    """
    stain, glow = _samples(image, channels, channel)
    nothing = Autofluorescence(channel, 0.0, 0, 0.0)
    if not len(stain) or stain.min() == stain.max():
        return nothing
    nuclear = stain > _midway(stain)
    background = float(np.median(stain[~nuclear]))
    low, usual = (float(value) for value in np.percentile(glow[nuclear], (100 - USUAL, USUAL)))
    far = glow > usual + FAR * (usual - low)
    if far.sum() < FEWEST:
        return nothing
    share = _slope(glow[far] - usual, stain[far] - background)
    dark = float(np.percentile(glow, 1))
    least = (float(glow.max()) - dark) / PARTS
    of_nuclei = float(np.median((stain[nuclear] - background) / np.maximum(glow[nuclear] - dark, least)))
    if not 0 < share * OTHER_COLOUR <= of_nuclei:
        return nothing
    return Autofluorescence(channel, usual, round(share * PARTS), background)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """The middle of y / x, each weighing x²: nuclei that lie under debris then count little, and far ones nothing."""
    ratio = y / x
    order = np.argsort(ratio, kind="stable")
    weight = np.cumsum((x * x)[order])
    return float(ratio[order][np.searchsorted(weight, 0.5 * weight[-1])])


def _midway(values: np.ndarray) -> float:
    """The threshold midway between the means of what lies above and below it, to a thousandth of the range."""
    cut, step = float(values.mean()), (float(values.max()) - float(values.min())) / 1000
    for _ in range(50):
        above = values > cut
        new = 0.5 * (float(values[above].mean()) + float(values[~above].mean()))
        if abs(new - cut) <= step:
            break
        cut = new
    return cut


def _samples(image: object, channels: Sequence[int], channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Nuclear stain and autofluorescence of the sampled pixels, each the mean of 2 x 2 against noise."""
    stain, glow = [], []
    for y0, y1, x0, x1 in reference_blocks(image.shape[-2:]):
        box = (slice(y0, y1), slice(x0, x1))
        stain.append(_halved(nuclear_stain(image, channels, None, box)))
        glow.append(_halved(np.asarray(image[channel, box[0], box[1]])))
    return np.concatenate(stain or [np.zeros(0)]), np.concatenate(glow or [np.zeros(0)])


def _halved(plane: np.ndarray) -> np.ndarray:
    height, width = (n // 2 for n in plane.shape)
    plane = plane[: 2 * height, : 2 * width].astype(np.float64)
    return plane.reshape(height, 2, width, 2).mean(axis=(1, 3)).ravel()
