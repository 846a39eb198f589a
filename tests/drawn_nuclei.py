"""Small drawn pictures of nuclei with exact labels, for the tests of nuclei and cells."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def draw(shape=(400, 500), *, diameter=16.0, spacing=20.0, seed=0, noise=6.0, channels=1, dtype=np.uint16):
    """Jittered ellipses on a grid over an uneven, noisy background: (c, y, x) counts and (y, x) labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    stain = np.zeros(shape)
    centres = [
        (y, x) for y in np.arange(spacing / 2, shape[0], spacing) for x in np.arange(spacing / 2, shape[1], spacing)
    ]
    for number, (cy, cx) in enumerate(centres, start=1):
        inside, box = _ellipse(shape, cy + rng.normal(0, 1.5), cx + rng.normal(0, 1.5), diameter, rng)
        free = inside & (labels[box] == 0)
        labels[box][free] = number
        stain[box][free] = rng.uniform(400, 900)
    blurred = ndimage.gaussian_filter(stain, 0.07 * diameter)
    haze = 100 + 60 * np.sin(np.arange(shape[0]) / 170)[:, None] + 40 * np.cos(np.arange(shape[1]) / 230)
    planes = [blurred * (1 + k) / (1 + 0.5 * k) + haze + rng.normal(0, noise, shape) for k in range(channels)]
    return np.clip(np.rint(planes), 0, 65535).astype(dtype), labels


def _ellipse(shape, cy, cx, diameter, rng):
    a, b = diameter / 2 * rng.uniform(0.85, 1.2), diameter / 2 * rng.uniform(0.75, 1.05)
    turn = rng.uniform(0, np.pi)
    reach = int(diameter)
    y0, y1 = max(0, int(cy) - reach), min(shape[0], int(cy) + reach)
    x0, x1 = max(0, int(cx) - reach), min(shape[1], int(cx) + reach)
    y, x = np.mgrid[y0:y1, x0:x1]
    u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    return (u / a) ** 2 + (v / b) ** 2 <= 1, (slice(y0, y1), slice(x0, x1))


def matched(found, truth):
    """True positives at IoU 0.5, found objects, true objects."""
    both = (found > 0) & (truth > 0)
    pairs, overlap = np.unique(np.stack([found[both], truth[both]], 1), axis=0, return_counts=True)
    areas = [dict(zip(*np.unique(labels[labels > 0], return_counts=True), strict=True)) for labels in (found, truth)]
    hits = sum(n / (areas[0][a] + areas[1][b] - n) > 0.5 for (a, b), n in zip(pairs, overlap, strict=True))
    return hits, len(areas[0]), len(areas[1])


def relabelled(labels):
    """Labels renumbered 1, 2, ... in order of their first pixel, so that equal partitions are equal arrays."""
    names, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(names == 0, -1, first)))
    new = order if names[0] == 0 else order + 1
    return new[inverse].reshape(labels.shape)
