"""Focus, window by window: how sharp nuclei are, and how large the spots of the nuclear stain are.

A window is a square of about 256 µm on a grid that starts at the slide's first pixel: it follows from the slide alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from mihc.quality.fields import pixel_noise

WINDOW_UM = 256.0
USUAL_UM = 8.0  # the nuclei that the next three are for
FINE_UM, MIDDLE_UM, COARSE_UM = 1.5, 3.0, 6.0  # standard deviations of the blurs that detail is told by
BLURRED = 0.70  # a window's sharpness below which its nuclei cannot be told apart
LEAST_TISSUE = 0.25  # share of a window that must be tissue for its focus to be judged
BAND = 4  # windows' rows that are held at once
SPOT_UM = tuple(float(2 ** (k / 2)) for k in range(-1, 7))  # 0.7 to 8 µm
SPOT_WINDOWS = 9
SPOT_TO_DIAMETER = 3.2  # a disc answers strongest where its diameter is this many standard deviations (measured)


@dataclass(frozen=True)
class FocusGrid:
    """The focus of every window of a slide."""

    sharpness: np.ndarray  # (rows, columns), see `sharpness`; NaN without nuclei to judge it by
    energy: np.ndarray  # (rows, columns) counts of detail of 3 to 6 µm
    tissue: np.ndarray  # (rows, columns) share of the window
    side_um: tuple[float, float]  # (y, x) of a window

    @property
    def blurred(self) -> np.ndarray:
        """(rows, columns), True on windows that are out of focus."""
        return self.sharpness < BLURRED  # NaN is not

    @property
    def overall(self) -> float:
        """The median of the windows; NaN when none could be judged."""
        judged = self.sharpness[np.isfinite(self.sharpness)]
        return float(np.median(judged)) if judged.size else float("nan")

    def holds(self, x_um: np.ndarray, y_um: np.ndarray) -> np.ndarray:
        """Return whether each point lies in a blurred window."""
        return self.blurred[windows_of(x_um, y_um, self.side_um, self.sharpness.shape)]

    def mask(self, shape: tuple[int, int], pixel_size_um: tuple[float, float]) -> np.ndarray:
        """Return the blurred windows as (y, x) pixels of a level, by their centres."""
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * pixel // side).astype(np.int64), count - 1)
            for n, pixel, side, count in zip(shape, pixel_size_um, self.side_um, self.sharpness.shape)
        )
        return self.blurred[rows][:, columns]


def windows_of(
    x_um: np.ndarray, y_um: np.ndarray, side_um: Sequence[float], counts: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, columns) of the windows that points lie in; `side_um` and `counts` are (y, x)."""
    rows, columns = (
        np.clip((np.asarray(at) // side).astype(np.int64), 0, count - 1)
        for at, side, count in zip((y_um, x_um), side_um, counts)
    )
    return rows, columns


def sharpness(nuclei: np.ndarray, pixel_um: float) -> float:
    """Return how sharp nuclei are: detail of 1.5 to 3 µm over detail of 3 to 6 µm.

    The standard deviations of two differences of Gaussians. About 0.95 to 1.25 in focus, 0.7 to 0.85 at a blur of 2 µm
    (standard deviation), 0.55 to 0.65 at 3 µm, 0.25 without any detail; it does not depend on brightness. NaN when the
    plane is flat.
    """
    fine, coarse = _detail(nuclei, pixel_um)
    spread = float(coarse.std(dtype=np.float64))
    return float(fine.std(dtype=np.float64)) / spread if spread > 0 else float("nan")


def _unit(pixel_um: float, nucleus_diameter_um: float) -> float:
    """Return the pixel in µm of nuclei of the usual size: those of larger ones have coarser detail."""
    return pixel_um / max(1.0, nucleus_diameter_um / USUAL_UM)


def _detail(plane: np.ndarray, pixel_um: float) -> tuple[np.ndarray, np.ndarray]:
    plane = np.asarray(plane, dtype=np.float32)
    one, two, four = (
        ndimage.gaussian_filter(plane, sigma / pixel_um, mode="nearest", truncate=3)
        for sigma in (FINE_UM, MIDDLE_UM, COARSE_UM)
    )
    return one - two, two - four


def focus_grid(
    level: Any,
    nuclei: Sequence[int],
    *,
    pixel_size_um: tuple[float, float],
    tissue: np.ndarray,
    tissue_pixel_um: tuple[float, float],
    nucleus_diameter_um: float = USUAL_UM,
) -> FocusGrid:
    """Return the focus of every window.

    Parameters
    ----------
    level : (c, y, x) array-like, read a band of windows at a time
        A level of about 2 µm per pixel, of `pixel_size_um` (y, x).
    nuclei : sequence of int
        The planes that are summed to the nuclear stain.
    tissue : (y, x) bool, where focus is judged
        On a level of `tissue_pixel_um` (y, x), which may be a coarser one. Debris and folds have their own sharpness:
        leave them out.
    nucleus_diameter_um : float
        What nuclei are expected to measure.
    """
    pixel_um = float(np.sqrt(pixel_size_um[0] * pixel_size_um[1]))
    side = max(8, round(WINDOW_UM / pixel_um))
    height, width = level.shape[1:]
    counts = -(-height // side), -(-width // side)
    unit_um = _unit(pixel_um, nucleus_diameter_um)
    halo = int(3 * COARSE_UM / unit_um + 1.5)
    sharp, energy = np.full(counts, np.nan), np.zeros(counts)
    for first in range(0, counts[0], BAND):
        rows = range(first, min(first + BAND, counts[0]))
        top, bottom = max(0, rows.start * side - halo), min(height, rows.stop * side + halo)
        plane = sum(np.asarray(level[k, top:bottom, 0:width], dtype=np.float32) for k in nuclei)
        fine, coarse = _detail(plane, unit_um)
        wanted = _resampled(tissue, tissue_pixel_um, pixel_size_um, (top, bottom, width))
        for row in rows:
            y = slice(row * side - top, min(height, (row + 1) * side) - top)
            for column in range(counts[1]):
                box = (y, slice(column * side, (column + 1) * side))
                detail = (fine[box][wanted[box]], coarse[box][wanted[box]])
                sharp[row, column], energy[row, column] = _judged(plane[box], *detail, unit_um)
    side_um = (side * pixel_size_um[0], side * pixel_size_um[1])
    share = _shares(tissue, tissue_pixel_um, side_um, counts)
    sharp[share < LEAST_TISSUE] = np.nan
    return FocusGrid(sharp, energy, share, side_um)


def _resampled(
    mask: np.ndarray, mask_pixel_um: tuple[float, float], pixel_um: tuple[float, float], band: tuple[int, int, int]
) -> np.ndarray:
    """Return a mask on rows [top, bottom) and `width` columns of another level, by the pixels' centres."""
    top, bottom, width = band
    rows, columns = (
        np.minimum(((np.arange(*span) + 0.5) * fine / coarse).astype(np.int64), n - 1)
        for span, fine, coarse, n in zip(((top, bottom), (0, width)), pixel_um, mask_pixel_um, mask.shape)
    )
    return mask[rows][:, columns]


def _judged(plane: np.ndarray, fine: np.ndarray, coarse: np.ndarray, pixel_um: float) -> tuple[float, float]:
    """Return a window's sharpness and coarse detail; NaN where that is no more than camera noise leaves of it."""
    if not coarse.size:
        return float("nan"), 0.0
    detail = float(coarse.std(dtype=np.float64))
    a, b = MIDDLE_UM / pixel_um, COARSE_UM / pixel_um  # what is left of white noise, from the Gaussians' overlaps
    left = (1 / (4 * a**2) + 1 / (4 * b**2) - 1 / (a**2 + b**2)) / np.pi
    if not detail > 4 * pixel_noise(plane) * np.sqrt(max(left, 0)):
        return float("nan"), detail
    return float(fine.std(dtype=np.float64)) / detail, detail


def _shares(
    mask: np.ndarray, pixel_um: tuple[float, float], side_um: tuple[float, float], counts: tuple[int, int]
) -> np.ndarray:
    """Return the share of every window that a mask covers."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * pixel // side).astype(np.int64), count - 1)
        for n, pixel, side, count in zip(mask.shape, pixel_um, side_um, counts)
    )
    place = (rows[:, None] * counts[1] + columns[None, :]).ravel()
    held = np.bincount(place[mask.ravel()], minlength=counts[0] * counts[1])
    return (held / np.maximum(np.bincount(place, minlength=counts[0] * counts[1]), 1)).reshape(counts)


def spot_diameter(level: Any, nuclei: Sequence[int], grid: FocusGrid, *, pixel_size_um: tuple[float, float]) -> float:
    """Return the diameter in µm of discs that give as strong a detail as the slide's nuclear stain; NaN without one.

    Not a measurement of nuclei but of the pixel size: it is told nothing about their size, and is off as that is. The
    scale (Lindeberg 1998) at which differences of Gaussians are strongest, in the median of the windows with the
    strongest detail. `level` is (c, y, x) of about 1 µm per pixel.
    """
    pixel_um = float(np.sqrt(pixel_size_um[0] * pixel_size_um[1]))
    order = np.argsort(-np.where(grid.tissue >= LEAST_TISSUE, grid.energy, -1).ravel(), kind="stable")
    found = []
    for place in order[:SPOT_WINDOWS]:
        row, column = divmod(int(place), grid.energy.shape[1])
        if grid.tissue[row, column] < LEAST_TISSUE or not grid.energy[row, column] > 0:
            continue
        box = tuple(
            slice(int(k * side / pixel), max(int((k + 1) * side / pixel), int(k * side / pixel) + 1))
            for k, side, pixel in zip((row, column), grid.side_um, pixel_size_um)
        )
        found.append(_strongest(sum(np.asarray(level[k, box[0], box[1]], np.float32) for k in nuclei), pixel_um))
    found = [one for one in found if one > 0]
    return SPOT_TO_DIAMETER * float(np.median(found)) if found else float("nan")


def _strongest(plane: np.ndarray, pixel_um: float) -> float:
    """Return the standard deviation in µm at which detail is strongest; 0 where no scale stands out."""
    smooth = [ndimage.gaussian_filter(plane, sigma / pixel_um, mode="nearest", truncate=3) for sigma in SPOT_UM]
    energy = [float((a - b).std(dtype=np.float64)) for a, b in pairwise(smooth)]
    peaks = [k for k in range(1, len(energy) - 1) if energy[k - 1] <= energy[k] > energy[k + 1]]
    if not peaks:
        return 0.0
    k = max(peaks, key=lambda peak: energy[peak])
    before, here, after = energy[k - 1 : k + 2]
    return SPOT_UM[k] * 2 ** (0.25 * (before - after) / (before - 2 * here + after))
