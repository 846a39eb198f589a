"""Bubbles: air under the cover slip, a round dim place with a bright rim in every channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mihc.quality.excess import Excess
from mihc.quality.fields import blur, enlarge

SMALLEST_RADIUS_UM = 30.0
LARGEST_RADIUS_UM = 1500.0
DIM = (-0.2, -0.4)  # log2: three quarters of the channels are this much below their wide surroundings
SQUARE = 1.25  # the longer side of a round place's box over the shorter
FILLED = 0.6  # share of the disc in its box that a round place fills
SECTORS = 24
RIMMED = 0.6  # share of the circumference with a rim
STEP_UM = 2.0  # of the profile across the rim
RIM_UM = 4.0  # from the brightest of a rim to its outside


@dataclass(frozen=True)
class _Disc:
    y: float  # pixels
    x: float
    radius: float


def bubble_mask(channels: np.ndarray, excess: Excess, scanned: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return (y, x), True on bubbles with their rims.

    A round place, dim in nearly every channel, and around most of it a rim that outshines both its sides in nearly
    every channel: a lumen and a vessel are round and dim too, but no wall shines in all channels.
    """
    bubbles = np.zeros(scanned.shape, dtype=bool)
    most = enlarge(excess.most, excess.step, scanned.shape)
    for dim in DIM:
        for disc in _round_places((most < dim) & scanned, pixel_um):
            if not bubbles[round(disc.y), round(disc.x)]:
                rim = _rim(channels, disc, pixel_um)
                _fill(bubbles, _rim(channels, rim, pixel_um) or rim if rim else None)
    return bubbles & scanned


def _round_places(dim: np.ndarray, pixel_um: float) -> list[_Disc]:
    labels, _ = ndimage.label(dim)
    found = []
    for index, place in enumerate(ndimage.find_objects(labels), start=1):
        radii = sorted((side.stop - side.start) / 2 for side in place)
        if radii[0] * pixel_um < SMALLEST_RADIUS_UM or radii[1] * pixel_um > LARGEST_RADIUS_UM:
            continue
        disc = _Disc(*((side.start + side.stop - 1) / 2 for side in place), sum(radii) / 2)
        if radii[1] <= SQUARE * radii[0] and (labels[place] == index).sum() >= FILLED * np.pi * disc.radius**2:
            found.append(disc)
    return found


def _rim(channels: np.ndarray, disc: _Disc, pixel_um: float) -> _Disc | None:
    """Return the disc up to the outside of its rim, None without one."""
    reach = int(disc.radius + 40 / pixel_um)
    rows, columns = (slice(max(0, int(middle) - reach), int(middle) + reach + 1) for middle in (disc.y, disc.x))
    crop = channels[:, rows, columns]
    y, x = np.ogrid[rows.start : rows.start + crop.shape[1], columns.start : columns.start + crop.shape[2]]
    step = max(STEP_UM, pixel_um)
    first, bins = max(0.0, disc.radius * pixel_um - 25), int(60 / step)
    ring = np.floor((np.hypot(y - disc.y, x - disc.x) * pixel_um - first) / step).astype(np.int64)
    sector = ((np.arctan2(y - disc.y, x - disc.x) / (2 * np.pi) + 1) * SECTORS).astype(np.int64) % SECTORS
    used = (ring >= 0) & (ring < bins)
    place, shape = (sector * bins + ring)[used], (SECTORS, bins)
    count = np.bincount(place, minlength=SECTORS * bins).reshape(shape)
    rimmed = np.zeros(shape, dtype=np.int64)
    for plane in crop:
        light = np.bincount(place, blur(plane, 1.5, pixel_um)[used], SECTORS * bins).reshape(shape)
        rimmed += _peaks(light / np.maximum(count, 1), count > 0, step)
    good = rimmed.max(axis=1) >= len(channels) - len(channels) // 4
    if good.sum() < RIMMED * SECTORS:
        return None
    return _through(first + (np.argmax(rimmed, axis=1) + 0.5) * step, good, disc, pixel_um)


def _through(radius_um: np.ndarray, good: np.ndarray, disc: _Disc, pixel_um: float) -> _Disc:
    """Return the disc moved into the middle of its rim, and as large as the rim's outside."""
    angle = 2 * np.pi * (np.arange(SECTORS) + 0.5) / SECTORS
    both = good & np.roll(good, SECTORS // 2)
    off = np.where(both, radius_um - np.roll(radius_um, SECTORS // 2), 0) / max(int(both.sum()), 1) / pixel_um
    outside = (float(np.median(radius_um[good])) + RIM_UM) / pixel_um
    return _Disc(disc.y + float((off * np.sin(angle)).sum()), disc.x + float((off * np.cos(angle)).sum()), outside)


def _peaks(profile: np.ndarray, known: np.ndarray, step: float) -> np.ndarray:
    """Return (sector, ring), 1 near the ring where a profile peaks above both of its sides."""
    beside = round(10 / step)
    marks = np.zeros(profile.shape, dtype=np.int64)
    for k in range(beside, profile.shape[1] - beside):
        inner, outer = profile[:, k - beside], profile[:, k + beside]
        above = (profile[:, k] > 1.12 * outer) & (profile[:, k] > 1.25 * inner)
        marks[:, max(0, k - 1) : k + 2] |= (above & known[:, k - beside] & known[:, k + beside])[:, None]
    return marks


def _fill(mask: np.ndarray, disc: _Disc | None) -> None:
    if disc is None:
        return
    rows, columns = (
        slice(max(0, int(middle - disc.radius)), int(middle + disc.radius) + 2) for middle in (disc.y, disc.x)
    )
    part = mask[rows, columns]
    y, x = np.ogrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
    part |= (y - disc.y) ** 2 + (x - disc.x) ** 2 <= disc.radius**2
