"""What a pixel's surroundings look like, at several sizes: what the tissue classifier tells classes by.

The logarithm of each channel, on one scale for all slides, is looked at in octaves of about 2, 4, 8 and 16 µm; each
octave is made of means of 2 x 2 pixels of the one before. Everything has bounded reach, and blocks are counted from the
slide's first pixel: any window gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

KINDS = ("level", "gradient", "laplacian", "spread", "texture")  # what is seen in each octave of each channel
OCTAVES = 4
FINEST_UM = 2.0  # of the first octave's Gaussian; it doubles with every octave
ALIGN = 2 ** (OCTAVES - 1)  # windows begin at multiples of this many pixels
LIFT = 0.02  # of the scale: what is darker than this is dark


@dataclass(frozen=True)
class Light:
    """How bright a slide's channels are, fixed once for the slide."""

    dark: tuple[float, ...]  # counts without stain
    scale: tuple[float, ...]  # counts from there to the brightest places


def slide_light(pixels: np.ndarray) -> Light:
    """Return the light of a slide from a coarse level (c, y, x): quantiles 0.01 and 0.995 of what was scanned."""
    scanned = pixels.any(axis=0)
    dark, scale = [], []
    for plane in pixels:
        values = plane[scanned] if scanned.any() else np.zeros(1, plane.dtype)
        low, high = np.quantile(values[:: max(1, len(values) // 1_000_000)].astype(np.float64), [0.01, 0.995])
        dark.append(float(low))
        scale.append(float(max(high - low, 1e-6)))
    return Light(tuple(dark), tuple(scale))


def names_of(channels: Sequence[str]) -> list[str]:
    """Return the name of every feature in its order: channel, octave's size, what is seen."""
    sizes = [f"{FINEST_UM * 2**octave:g} µm" for octave in range(OCTAVES)]
    return [f"{channel} {size} {kind}" for channel in channels for size in sizes for kind in KINDS]


def halo_px(pixel_um: float) -> int:
    """Return how many pixels around a window its features depend on, a multiple of ALIGN."""
    reach = 2 * _radius(pixel_um) + 3  # a Gaussian, differences, a Gaussian of them, and interpolation
    return (reach + 1) * ALIGN


def _sigma(pixel_um: float) -> float:
    return FINEST_UM / pixel_um  # the same in every octave's own pixels


def _radius(pixel_um: float) -> int:
    return int(np.ceil(3 * _sigma(pixel_um)))


def textures(window: np.ndarray, light: Light, pixel_um: float) -> list[np.ndarray]:
    """Return each octave's features, a list of (features of all channels, y / 2^k, x / 2^k) float32.

    `window` is (c, y, x) counts that begin at a multiple of ALIGN pixels; its outer `halo_px` are only reliable where
    the slide ends there.
    """
    from mihc.areas.forest_kernels import log_light

    octaves: list[list[np.ndarray]] = [[] for _ in range(OCTAVES)]
    for plane, dark, scale in zip(window, light.dark, light.scale, strict=True):
        seen = log_light(np.ascontiguousarray(plane, dtype=np.float32), np.float32(dark), np.float32(scale), LIFT)
        for octave in range(OCTAVES):
            seen = _halved(seen) if octave else seen
            octaves[octave] += _looked_at(seen, pixel_um)
    return [np.stack(features) for features in octaves]


def _halved(plane: np.ndarray) -> np.ndarray:
    """Return means of 2 x 2 pixels; a last odd row or column is repeated."""
    plane = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)), mode="edge")
    top, bottom = plane[::2], plane[1::2]
    return ((top[:, ::2] + top[:, 1::2]) + (bottom[:, ::2] + bottom[:, 1::2])) * np.float32(0.25)


def _looked_at(plane: np.ndarray, pixel_um: float) -> list[np.ndarray]:
    """Return a plane's features in the order of KINDS, in units of its own pixels."""
    level = _blurred(plane, pixel_um)
    y, x = _slopes(level)
    spread = np.sqrt(np.maximum(_blurred(plane * plane, pixel_um) - level * level, np.float32(0)))
    return [level, np.sqrt(y * y + x * x), _laplacian(level), spread, _texture(y, x, pixel_um)]


def _blurred(plane: np.ndarray, pixel_um: float) -> np.ndarray:
    return ndimage.gaussian_filter(plane, _sigma(pixel_um), mode="nearest", radius=_radius(pixel_um))


def _slopes(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(plane, 1, mode="edge")
    half = np.float32(0.5)
    return (padded[2:, 1:-1] - padded[:-2, 1:-1]) * half, (padded[1:-1, 2:] - padded[1:-1, :-2]) * half


def _laplacian(plane: np.ndarray) -> np.ndarray:
    padded = np.pad(plane, 1, mode="edge")
    around = (padded[2:, 1:-1] + padded[:-2, 1:-1]) + (padded[1:-1, 2:] + padded[1:-1, :-2])
    return around - np.float32(4) * plane


def _texture(y: np.ndarray, x: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return the root of the structure tensor's smaller eigenvalue: slopes in every direction, not along one edge."""
    yy, xx, yx = (_blurred(product, pixel_um) for product in (y * y, x * x, y * x))
    apart = np.sqrt((yy - xx) * (yy - xx) + np.float32(4) * yx * yx)
    return np.sqrt(np.maximum(yy + xx - apart, np.float32(0)) * np.float32(0.5))


def at_pixels(octaves: Sequence[np.ndarray], rows: slice, columns: slice) -> np.ndarray:
    """Return (features, y, x) float32 of a part of the window at its full resolution, straight lines in between.

    The order of features is that of `names_of`: by channel, then by octave.
    """
    planes = [_enlarged(features, octave, rows, columns) for octave, features in enumerate(octaves)]
    channels = len(planes[0]) // len(KINDS)
    by_channel = [plane.reshape(channels, len(KINDS), *plane.shape[1:]) for plane in planes]
    return np.stack(by_channel, axis=1).reshape(-1, *planes[0].shape[1:])


def _enlarged(features: np.ndarray, octave: int, rows: slice, columns: slice) -> np.ndarray:
    if octave == 0:
        return features[:, rows, columns]
    low_y, high_y, share_y = _between(rows, octave, features.shape[1])
    low_x, high_x, share_x = _between(columns, octave, features.shape[2])
    low, high = features[:, low_y], features[:, high_y]
    along = low + (high - low) * share_y[:, None]
    left, right = along[:, :, low_x], along[:, :, high_x]
    return left + (right - left) * share_x


def _between(part: slice, octave: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two blocks between whose centres each pixel lies, and how far it is towards the second."""
    at = (np.arange(part.start, part.stop) + 0.5) / 2**octave - 0.5
    low = np.floor(at)
    share = (at - low).astype(np.float32)
    return np.clip(low, 0, side - 1).astype(int), np.clip(low + 1, 0, side - 1).astype(int), share
