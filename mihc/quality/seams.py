"""Are nuclei lost where computing windows meet? Their density beside seams, against a little further away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_UM = 20.0  # from a seam,
BESIDE_UM = 60.0  # and what it is held against: as near as can be, so that the tissue is the same
MOST_STEPS = 8  # windows are looked for that are 1 to 8 steps wide
CONFIDENCE = 0.999  # of the interval: many seams on many slides are looked at


@dataclass(frozen=True)
class Seams:
    """Nuclei beside the seams of windows of one size."""

    window_px: int
    ratio: float  # density within NEAR_UM of a seam over that beside it
    low: float  # of its interval, as of two Poisson counts
    high: float
    cells: int  # within NEAR_UM


def audit_seams(
    x_um: np.ndarray,
    y_um: np.ndarray,
    tissue: np.ndarray,
    *,
    tissue_pixel_um: tuple[float, float],
    pixel_size_um: tuple[float, float],
    step_px: int,
) -> Seams | None:
    """Return the seams at which the density of nuclei differs most; None on a slide without seams or nuclei.

    Windows are multiples of `step_px` pixels (y and x of `pixel_size_um`), and which multiple a run chose must change
    no result: so every multiple up to eight is looked at, whatever was chosen. Only what lies on `tissue`, a (y, x)
    mask with pixels of `tissue_pixel_um`, is counted.
    """
    height, width = (n * size for n, size in zip(tissue.shape, tissue_pixel_um))
    rows, columns = (
        np.clip((np.asarray(at) / size).astype(np.int64), 0, n - 1)
        for at, size, n in zip((y_um, x_um), tissue_pixel_um, tissue.shape)
    )
    on = tissue[rows, columns]
    x, y = np.asarray(x_um)[on], np.asarray(y_um)[on]
    middle_y, middle_x = ((np.arange(n) + 0.5) * size for n, size in zip(tissue.shape, tissue_pixel_um))
    found = []
    for steps in range(1, MOST_STEPS + 1):
        side_y, side_x = (steps * step_px * size for size in pixel_size_um)
        if side_y >= height and side_x >= width:
            break
        cells = np.minimum(_to_seam(y, side_y, height), _to_seam(x, side_x, width))
        to_y, to_x = _to_seam(middle_y, side_y, height), _to_seam(middle_x, side_x, width)
        near, beside = _areas(tissue, to_y, to_x)
        n_near, n_beside = int((cells <= NEAR_UM).sum()), int(((cells > NEAR_UM) & (cells <= BESIDE_UM)).sum())
        if near and beside and n_near + n_beside:
            found.append(_compared(steps * step_px, n_near, n_beside, near / beside))
    return max(found, key=lambda one: max(one.low - 1, 1 - one.high), default=None)


def _to_seam(at: np.ndarray, side: float, end: float) -> np.ndarray:
    """Return the distance in µm to the nearest multiple of `side` that lies within the slide."""
    last = np.ceil(end / side) - 1
    if last < 1:
        return np.full(np.shape(at), np.inf)
    return np.abs(at - side * np.clip(np.rint(at / side), 1, last))


def _areas(tissue: np.ndarray, to_y: np.ndarray, to_x: np.ndarray) -> tuple[int, int]:
    """Return how many pixels of tissue lie near a seam, and how many beside it."""
    within = [
        int(tissue[to_y <= reach].sum()) + int(tissue[to_y > reach][:, to_x <= reach].sum())
        for reach in (NEAR_UM, BESIDE_UM)
    ]
    return within[0], within[1] - within[0]


def _compared(window_px: int, near: int, beside: int, areas: float) -> Seams:
    """Return the ratio of two densities with the exact interval of two Poisson counts (Przyborowski, Wilenski 1940)."""
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(near, beside + 1, tail)) if near else 0.0
    high = float(betaincinv(near + 1, beside, 1 - tail)) if beside else 1.0
    ratio = near / beside / areas if beside else np.inf
    return Seams(
        window_px, float(ratio), low / (1 - low) / areas, high / (1 - high) / areas if high < 1 else np.inf, near
    )
