"""Two pieces that one ellipse fits as well, joined: parts of a nucleus with coarse chromatin.

The summits of a mottled nucleus part at a level at which a touching neighbour still hangs on to it, so that no piece
of the splitting picture is the whole nucleus. Its parts have one brightness, no dark line between them, and a common
outline without a neck. Each piece is joined with the best of its neighbours, where it is that one's best too, so that
what is joined depends on the two and on the pieces that touch them alone.
"""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled
from mihc.nuclei_kernels import boxes
from mihc.nuclei_tree import ONE, ellipse_quality


@compiled
def join_parts(
    labels: np.ndarray,
    cores: np.ndarray,
    bright: np.ndarray,
    count: int,
    longest: int,
    usual: float,
    areas: np.ndarray,
    costs: np.ndarray,
    needs: np.ndarray,
) -> int:
    """Join pairs of labels 1 to `count` in place, and their `cores`; number them anew, in order -> how many there are.

    Qualities are those of `nuclei_tree.ellipse_quality` with `usual`, `areas` and `costs`. `bright` is an int32
    picture above the background. A pair is joined where the quality rises enough, the darker part has the share
    needs[4] of the other's brightness, the line between has needs[5] of the darker one's, and the whole is no longer
    than `longest` and no larger than areas[3]. Enough is needs[0] for a whole of at most needs[2] usual areas, needs[1]
    from needs[3] on, and in proportion between.
    """
    sums, box = _sums(labels, bright, count), boxes(labels, count, count)
    pairs, lines = _contacts(labels, bright, count)
    best = np.zeros(count + 1, np.int64)
    partner = np.zeros(count + 1, np.int64)
    for k in range(len(pairs)):
        gain = _gain(pairs[k], lines[k], sums, box, longest, usual, areas, costs, needs)
        for side in (0, 1):  # pairs are sorted: of equal gains the first partner stays
            if gain > best[pairs[k, side]]:
                best[pairs[k, side]], partner[pairs[k, side]] = gain, pairs[k, 1 - side]
    new = np.zeros(count + 1, np.uint32)
    kept = 0
    for name in range(1, count + 1):
        other = partner[name]
        if 0 < other < name and partner[other] == name:
            new[name] = new[other]
        else:
            kept += 1
            new[name] = kept
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            labels[y, x] = new[labels[y, x]]
            cores[y, x] = new[cores[y, x]]
    return kept


@compiled
def _sums(labels: np.ndarray, bright: np.ndarray, count: int) -> np.ndarray:
    """Of each label pixels, sums of y, x, yy, yx, xx and brightness: (count + 1, 7) int64."""
    sums = np.zeros((count + 1, 7), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            name = labels[y, x]
            if name != 0:
                sums[name, 0] += 1
                sums[name, 1] += y
                sums[name, 2] += x
                sums[name, 3] += y * y
                sums[name, 4] += y * x
                sums[name, 5] += x * x
                sums[name, 6] += bright[y, x]
    return sums


@compiled
def _borders(labels: np.ndarray) -> int:
    """How many pairs of pixels side by side have two labels."""
    height, width = labels.shape
    found = 0
    for y in range(height):
        for x in range(width - 1):
            here, there = labels[y, x], labels[y, x + 1]
            found += (here != there) & (here != 0) & (there != 0)
        for x in range(width if y + 1 < height else 0):
            here, there = labels[y, x], labels[y + 1, x]
            found += (here != there) & (here != 0) & (there != 0)
    return found


@compiled
def _contacts(labels: np.ndarray, bright: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of labels side by side (n, 2), sorted, and of each: pixels along the line, both sides, and brightness."""
    height, width = labels.shape
    most = _borders(labels)
    keys, light, pixels = np.empty(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.int64)
    found = 0
    for y in range(height):
        for k in range(2):  # beside, and below
            last = np.int64(-1)
            for x in range(width + k - 1 if y + k < height else 0):
                here, there = labels[y, x], labels[y + k, x + 1 - k]
                if here == there or here == 0 or there == 0:
                    last = np.int64(-1)
                    continue
                key = np.int64(min(here, there)) * (count + 1) + np.int64(max(here, there))
                if key != last:  # else one more of a line that runs along the row
                    keys[found] = key
                    found += 1
                    last = key
                light[found - 1] += np.int64(bright[y, x]) + bright[y + k, x + 1 - k]
                pixels[found - 1] += 2
    order = np.argsort(keys[:found])
    pairs = np.empty((found, 2), np.int64)
    lines = np.zeros((found, 2), np.int64)
    n = 0
    for k in range(found):
        at = order[k]
        if k == 0 or keys[at] != keys[order[k - 1]]:
            pairs[n, 0], pairs[n, 1] = keys[at] // (count + 1), keys[at] % (count + 1)
            n += 1
        lines[n - 1, 0] += pixels[at]
        lines[n - 1, 1] += light[at]
    return pairs[:n], lines[:n]


@compiled
def _gain(
    pair: np.ndarray,
    line: np.ndarray,
    sums: np.ndarray,
    box: np.ndarray,
    longest: int,
    usual: float,
    areas: np.ndarray,
    costs: np.ndarray,
    needs: np.ndarray,
) -> int:
    """By how much the quality of the joined pair exceeds what is needed, in 1/ONE; 0 where it may not be joined."""
    a, b = pair
    first, second = sums[a], sums[b]
    whole = first + second
    tall = max(box[a, 1], box[b, 1]) - min(box[a, 0], box[b, 0]) + 1
    wide = max(box[a, 3], box[b, 3]) - min(box[a, 2], box[b, 2]) + 1
    if tall > longest or wide > longest or whole[0] > areas[3] * usual:
        return 0
    low = min(first[6] / first[0], second[6] / second[0])
    high = max(first[6] / first[0], second[6] / second[0])
    if low < needs[4] * high or line[1] / line[0] < needs[5] * low:
        return 0
    apart = first[0] * ellipse_quality(first, usual, areas, costs)
    apart = (apart + second[0] * ellipse_quality(second, usual, areas, costs)) / whole[0]
    on_the_way = min(max((whole[0] / usual - needs[2]) / (needs[3] - needs[2]), 0.0), 1.0)
    enough = needs[0] + (needs[1] - needs[0]) * on_the_way
    return np.int64(np.floor((ellipse_quality(whole, usual, areas, costs) - apart - enough) * ONE))
