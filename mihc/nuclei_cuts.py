"""Nuclei that two ellipses fit better than one, cut in two: small nuclei that touch and have one brightness.

Such nuclei part in the splitting picture only so near its summits that no piece of it has a nucleus' shape. Their
outline still shows them: it has a neck. A nucleus is cut by a straight line across its long axis where the parts come
nearest to ellipses. What is cut, and where, depends on the nucleus' own pixels alone.
"""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled
from mihc.nuclei_kernels import boxes
from mihc.nuclei_tree import ellipse_quality, name_by_seed

GAP = 0.7072  # half the width, in pixels, of a band whose two sides do not touch, not even at a corner


@compiled
def cut_necks(
    labels: np.ndarray,
    cores: np.ndarray,
    levels: np.ndarray,
    count: int,
    limits: np.ndarray,
    costs: np.ndarray,
    gain: float,
    neck: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the labels 1 to `count` in place wherever the mean quality rises by `gain`; parts are cut again.

    Qualities are those of `nuclei_tree.ellipse_quality`, of the outline as spans across the long axis; `limits` is
    the pixels of the usual nucleus and of the smallest part, and
    the usual areas below which quality is lost. The span at the cut is at most `neck` of the widest span
    of either part. `cores` are the labels before they grew, which do not touch: a part has its seed in its core, and
    none within GAP of the cut.

    Returns (y, x) uint32 labels 1, 2, ... in row order of their seeds, and the seeds (n, 2), as `nuclei_tree.paint`.
    """
    most = count + labels.size // max(1, int(limits[1])) + 1
    box = boxes(labels, count, most)
    name = np.int64(1)  # a bare 1 is a type of its own, for which all would be compiled once more
    while name <= count:
        rows, columns = slice(box[name, 0], box[name, 1] + 1), slice(box[name, 2], box[name, 3] + 1)
        part, core = labels[rows, columns], cores[rows, columns]
        if count < most and _cut(part, core, name, count + 1, limits, costs, gain, neck):
            count += 1
            box[count] = box[name]  # not tight, which changes nothing; the first part is looked at again
        else:
            name += 1
    return labels, name_by_seed(labels, cores, levels, count)


@compiled
def _cut(
    part: np.ndarray,
    core: np.ndarray,
    name: int,
    new: int,
    limits: np.ndarray,
    costs: np.ndarray,
    gain: float,
    neck: float,
) -> bool:
    """Cut label `name` of `part`, and of its `core`, in two, the second called `new`; False where nothing is gained."""
    area, y_sum, x_sum, yy, yx, xx = 0, 0, 0, 0, 0, 0
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            if part[y, x] == name:
                area, y_sum, x_sum = area + 1, y_sum + y, x_sum + x
                yy, yx, xx = yy + y * y, yx + y * x, xx + x * x
    if area < 2 * limits[1]:
        return False
    turn = 0.5 * np.arctan2(
        2.0 * (area * yx - y_sum * x_sum), (area * xx - x_sum * x_sum) - (area * yy - y_sum * y_sum)
    )
    down, right = np.sin(turn), np.cos(turn)
    start = (down * y_sum + right * x_sum) / area - part.shape[0] - part.shape[1]
    at = _best_cut(_spans(part, name, down, right, start), limits, costs, gain, neck)
    if at < 0:
        return False
    sides = np.zeros(2, np.int64)
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            side = down * y + right * x - start - at
            if core[y, x] == name and abs(side) >= GAP:
                sides[int(side > 0)] += 1
    if sides.min() == 0:
        return False
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            side = down * y + right * x - start - at
            if part[y, x] == name and side > 0:
                part[y, x] = new
            if core[y, x] == name and abs(side) < GAP:
                core[y, x] = 0
            elif core[y, x] == name and side > 0:
                core[y, x] = new
    return True


@compiled
def _spans(part: np.ndarray, name: int, down: float, right: float, start: float) -> np.ndarray:
    """Per step of a pixel along the axis (steps, 6): area, sums of along, across, and their squares and product.

    Each step is the whole span between the outermost pixels of the label, so that holes do not count.
    """
    count = 2 * (part.shape[0] + part.shape[1]) + 1
    low = np.full(count, 1e9)
    high = np.full(count, -1e9)
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            if part[y, x] == name:
                k = int(np.floor(down * y + right * x - start))
                across = right * y - down * x
                low[k] = min(low[k], across)
                high[k] = max(high[k], across)
    out = np.zeros((count, 6))
    for k in range(count):
        span = high[k] - low[k] + 1
        if span > 0:
            middle = 0.5 * (low[k] + high[k])
            square = middle * middle + (span * span - 1) / 12
            out[k, 0], out[k, 1], out[k, 2] = span, k * span, middle * span
            out[k, 3], out[k, 4], out[k, 5] = k * k * span, k * middle * span, square * span
    return out


@compiled
def _best_cut(spans: np.ndarray, limits: np.ndarray, costs: np.ndarray, gain: float, neck: float) -> int:
    """The first step after the best cut, -1 without one."""
    areas = np.array([0.0, limits[2], np.inf, np.inf])
    every = spans.sum(axis=0)
    best, at = ellipse_quality(every, limits[0], areas, costs) + gain, -1
    last = len(spans) - 2
    pair = spans[:-1, 0] + spans[1:, 0]
    before, after = pair.copy(), pair.copy()  # the widest up to a step, and from it on
    for k in range(1, last + 1):
        before[k] = max(before[k], before[k - 1])
        after[last - k] = max(after[last - k], after[last - k + 1])
    first = np.zeros(6)
    for k in range(len(spans) - 1):
        first += spans[k]
        if first[0] < limits[1] or every[0] - first[0] < limits[1]:
            continue
        if pair[k] > neck * min(before[max(k - 1, 0)], after[min(k + 1, last)]):
            continue
        rest = every - first
        mean = first[0] * ellipse_quality(first, limits[0], areas, costs)
        mean = (mean + rest[0] * ellipse_quality(rest, limits[0], areas, costs)) / every[0]
        if mean > best:
            best, at = mean, k + 1
    return at
