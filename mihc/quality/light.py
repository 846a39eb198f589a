"""Light, window by window: how bright empty tissue is, how much is at the camera's ceiling, and slow shading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mihc.quality.fields import quantiles

FEWEST_WINDOWS = 48  # about 3 mm²: on less, a slow change over the slide cannot be told from the tissue
LEAST_TISSUE = 0.25  # share of a window that must be tissue
AT_CEILING = 0.99  # of the ceiling: a pixel of a coarse level is the mean of some


@dataclass(frozen=True)
class Shading:
    """The slow change of one channel over a slide."""

    percent: float  # brightest over darkest place of the fit, less 1
    explained: float  # share of the windows' variance that it explains: light is smooth, tissue is not


def window_levels(
    plane: np.ndarray, tissue: np.ndarray, counts: tuple[int, int], side: tuple[float, float]
) -> np.ndarray:
    """Return (rows, columns) the dark level of the tissue in each window: the 10th percentile of every second pixel.

    `side` is a window's (y, x) in pixels. NaN where less than a quarter of a window is tissue.
    """
    levels = np.full(counts, np.nan)
    for row, column, box in boxes(counts, side):
        inside = tissue[box][::2, ::2]
        if inside.sum() >= max(1, LEAST_TISSUE * inside.size):
            levels[row, column] = np.quantile(plane[box][::2, ::2][inside], 0.1)
    return levels


def at_ceiling(plane: np.ndarray, ceiling: float, counts: tuple[int, int], side: tuple[float, float]) -> np.ndarray:
    """Return (rows, columns) the percentage of each window's pixels at the camera's ceiling."""
    share = np.zeros(counts)
    if np.isfinite(ceiling) and plane.max() >= AT_CEILING * ceiling:
        for row, column, box in boxes(counts, side):
            share[row, column] = 100 * float((plane[box] >= AT_CEILING * ceiling).mean()) if plane[box].size else 0.0
    return share


def boxes(counts: tuple[int, int], side: tuple[float, float]) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Yield (row, column, box of pixels) of every window."""
    edges = [[round(k * length) for k in range(count + 1)] for count, length in zip(counts, side)]
    for row in range(counts[0]):
        for column in range(counts[1]):
            yield row, column, (slice(*edges[0][row : row + 2]), slice(*edges[1][column : column + 2]))


def shading(levels: np.ndarray, plane: np.ndarray, tissue: np.ndarray) -> Shading | None:
    """Return the slow change of a channel: a paraboloid through the logarithms of its windows' levels.

    Fitted by least squares, three times, windows far off weighing less each time (Tukey's weights). None on fewer than
    FEWEST_WINDOWS windows of tissue. Levels are lifted by 2 % of the channel's range, so that counts near 0
    do not rule.
    """
    known = np.isfinite(levels)
    if known.sum() < FEWEST_WINDOWS:
        return None
    dark, bright = quantiles(plane[tissue], [0.001, 0.999])
    values = np.log2(np.maximum(levels[known] - min(dark, 0), 0) + max(0.02 * float(bright - dark), 1e-6))
    v, u = (2 * (k + 0.5) / n - 1 for k, n in zip(np.nonzero(known), levels.shape))
    terms = [np.ones_like(u), u, v, u * u, u * v, v * v]
    weights = np.ones_like(values)
    fit = values
    for _ in range(3):
        fit = sum(factor * term for factor, term in zip(_least_squares(terms, values, weights), terms))
        off = values - fit
        spread = 1.4826 * float(np.median(np.abs(off)))
        weights = np.clip(1 - (off / max(4 * spread, 1e-9)) ** 2, 0, 1) ** 2 if spread > 0 else weights
    total = float((weights * (values - (weights * values).sum() / weights.sum()) ** 2).sum())
    left = float((weights * (values - fit) ** 2).sum())
    return Shading(100 * float(2 ** (fit.max() - fit.min()) - 1), 1 - left / total if total > 0 else 0.0)


def _least_squares(terms: Sequence[np.ndarray], values: np.ndarray, weights: np.ndarray) -> list[float]:
    """Solve the normal equations by elimination: in plain numbers, as a BLAS product's digits follow its threads."""
    n = len(terms)
    rows = [
        [float((weights * a * b).sum()) + (1e-6 if i == j else 0.0) for j, b in enumerate(terms)]
        + [float((weights * a * values).sum())]
        for i, a in enumerate(terms)
    ]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, n):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i])]
    found = [0.0] * n
    for i in reversed(range(n)):
        found[i] = (rows[i][n] - sum(rows[i][j] * found[j] for j in range(i + 1, n))) / rows[i][i]
    return found
