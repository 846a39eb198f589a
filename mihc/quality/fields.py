"""Smooth fields on a coarse level of a slide: what tissue, tumour and folds are told by. Lengths in µm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

SAMPLES = 1_000_000  # at most this many pixels, evenly spread, for a percentile: fixed, so it never depends on chance


def mean_pixel(pixel_size_um: tuple[float, float]) -> float:
    """Return one side for pixels that are square within 1 %."""
    return float(np.sqrt(pixel_size_um[0] * pixel_size_um[1]))


def blur(plane: np.ndarray, sigma_um: float, pixel_um: float) -> np.ndarray:
    """Return a plane blurred by a Gaussian; a wide one by three running means, which cost the same at any width."""
    sigma = sigma_um / pixel_um
    plane = np.asarray(plane, dtype=np.float32)
    if sigma < 4:
        return ndimage.gaussian_filter(plane, sigma, mode="nearest", truncate=3)
    side = 2 * round((np.sqrt(4 * sigma**2 + 1) - 1) / 2) + 1
    for _ in range(3):
        plane = ndimage.uniform_filter(plane, side, mode="nearest")
    return plane


def blur_within(plane: np.ndarray, mask: np.ndarray, sigma_um: float, pixel_um: float) -> np.ndarray:
    """Return the local mean of a plane over the mask's True pixels only; where none is near, their overall mean.

    A mean over many pixels is taken on blocks of them: it hardly changes within a block.
    """
    step = max(1, int(sigma_um / pixel_um / 5))
    overall = float(plane[mask].mean(dtype=np.float64)) if mask.any() else 0.0
    weight = blur(block_mean(mask, step), sigma_um, step * pixel_um)
    total = blur(block_mean(np.where(mask, plane, 0), step), sigma_um, step * pixel_um)
    return enlarge((total + 1e-3 * overall) / (weight + 1e-3), step, plane.shape)


def block_mean(plane: np.ndarray, step: int) -> np.ndarray:
    """Return the means of blocks of step x step pixels, float32; the last row and column are repeated to fill them."""
    plane = np.asarray(plane, dtype=np.float32)
    if step == 1:
        return plane
    height, width = (-(-side // step) * step for side in plane.shape)
    padded = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
    return padded.reshape(height // step, step, width // step, step).mean(axis=(1, 3))


def enlarge(blocks: np.ndarray, step: int, shape: tuple[int, int]) -> np.ndarray:
    """Return blocks as pixels again, each block's value in all of its pixels."""
    if step == 1:
        return blocks
    return np.repeat(np.repeat(blocks, step, axis=0), step, axis=1)[: shape[0], : shape[1]]


def sample(values: np.ndarray) -> np.ndarray:
    """Return at most SAMPLES of the values, evenly spread."""
    flat = values.ravel()
    return flat[:: max(1, len(flat) // SAMPLES)]


def quantiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    """Return quantiles (0 to 1) of the values; NaN when there are none."""
    picked = sample(values)
    return np.quantile(picked, at) if len(picked) else np.full(len(at), np.nan)


def log_light(plane: np.ndarray, sigma_um: float, pixel_um: float, scanned: np.ndarray) -> np.ndarray:
    """Return log2 of a blurred channel, lifted by 2 % of its range so that its darkest counts do not rule."""
    smooth = blur(plane, sigma_um, pixel_um)
    dark, bright = quantiles(smooth[scanned], [0.001, 0.999])
    lift = max(0.02 * (bright - dark), 1e-6)
    return np.log2(np.maximum(smooth, 0) + lift)


def nucleus_spots(nuclei: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return where the nuclear stain stands out at the size of a nucleus: True on spots, nowhere on blank glass.

    A difference of Gaussians (2 and 6 µm). Camera noise gives as many dips as spots, none above its own size once
    blurred; nuclei give more and stronger spots.
    """
    spots = blur(nuclei, 2.0, pixel_um) - blur(nuclei, 6.0, pixel_um)
    dip, high = quantiles(spots, [0.001, 0.999])
    noise = pixel_noise(nuclei)
    if not high > 1.1 * -dip or not high > 3 * noise:
        return np.zeros(nuclei.shape, dtype=bool)
    return spots > max(0.2 * high, 1.5 * noise)


def pixel_noise(plane: np.ndarray) -> float:
    """Return the spread of a plane's noise: median difference of a pixel from the mean of its four neighbours."""
    if min(plane.shape) < 3:
        return 0.0
    plane = np.asarray(plane, dtype=np.float32)
    around = (plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]) / 4
    return float(1.4826 * np.median(np.abs(sample(plane[1:-1, 1:-1] - around))) / np.sqrt(1.25))


def near(mask: np.ndarray, reach_um: float, pixel_um: float) -> np.ndarray:
    """Return the pixels within a square of `reach_um` to each side of a True one."""
    return ndimage.maximum_filter(mask, 2 * round(reach_um / pixel_um) + 1, mode="constant")


def without_specks(mask: np.ndarray, smallest_um2: float, pixel_um: float) -> np.ndarray:
    """Return a mask without its 4-connected islands below an area."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    keep = sizes * pixel_um**2 >= smallest_um2
    keep[0] = False
    return keep[labels]


def without_gaps(
    mask: np.ndarray, smallest_um2: float, pixel_um: float, within: np.ndarray | None = None
) -> np.ndarray:
    """Return a mask with its gaps below an area filled, as far as they lie `within` another mask."""
    allowed = np.ones(mask.shape, dtype=bool) if within is None else within
    gaps = ~mask
    return mask | (gaps & ~without_specks(gaps, smallest_um2, pixel_um) & allowed)
