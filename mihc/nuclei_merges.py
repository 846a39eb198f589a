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

STRETCH = 64  # pixels of a row that are asked at once whether labels meet there


@compiled
def join_parts(
    labels: np.ndarray,
    cores: np.ndarray,
    bright: np.ndarray,
    count: int,
    rounds: int,
    longest: int,
    usual: float,
    areas: np.ndarray,
    costs: np.ndarray,
    needs: np.ndarray,
) -> int:
    """Join pairs of labels 1 to `count` in place, and their `cores`; number them anew, in order -> how many there are.

    In each of the `rounds`, what was joined before may be joined again. Qualities are those of
    `nuclei_tree.ellipse_quality` with `usual`, `areas` and `costs`. `bright` is an int32 picture above the background.
    A pair is joined where the quality rises enough, the darker part has the share needs[4] of the other's brightness,
    the line between has needs[5] of the darker one's, and the whole is no longer than `longest` and no larger than
    areas[3]. Enough is needs[0] for a whole of at most needs[2] usual areas, needs[1] from needs[3] on, and in
    proportion between.
    """
    sums, box = _sums(labels, bright, count), boxes(labels, count, count)
    pairs, lines = _contacts(labels, bright, count)
    names = np.arange(count + 1)
    for _ in range(rounds):  # sums, boxes and lines add up, so the pixels need not be asked again
        gains = np.zeros(len(pairs), np.int64)
        for k in range(len(pairs)):
            gains[k] = _gain(pairs[k], lines[k], sums, box, longest, usual, areas, costs, needs)
        new, kept = _names_of_best(pairs, gains, count)
        if kept == count:
            break
        sums, box = _put_together(sums, box, new, kept)
        pairs, lines = _lines_of(new[pairs[:, 0]], new[pairs[:, 1]], lines, kept)
        names, count = new[names], kept
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            labels[y, x] = names[labels[y, x]]
            cores[y, x] = names[cores[y, x]]
    return count


@compiled
def _names_of_best(pairs: np.ndarray, gains: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """New names of the labels 0 to `count`, one for two that are each other's best partner, and how many there are."""
    best = np.zeros(count + 1, np.int64)
    partner = np.zeros(count + 1, np.int64)
    for k in range(len(pairs)):
        for side in (0, 1):  # pairs are sorted: of equal gains the first partner stays
            if gains[k] > best[pairs[k, side]]:
                best[pairs[k, side]], partner[pairs[k, side]] = gains[k], pairs[k, 1 - side]
    new = np.zeros(count + 1, np.int64)
    kept = 0
    for name in range(1, count + 1):
        other = partner[name]
        if 0 < other < name and partner[other] == name:
            new[name] = new[other]
        else:
            kept += 1
            new[name] = kept
    return new, kept


@compiled
def _put_together(sums: np.ndarray, box: np.ndarray, new: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums and boxes of the labels by their new names, 1 to `kept`."""
    summed = np.zeros((kept + 1, sums.shape[1]), np.int64)
    around = np.empty((kept + 1, 4), np.int64)
    around[:, 0::2] = 2**31 - 1
    around[:, 1::2] = -1
    for name in range(1, len(new)):
        to = new[name]
        for k in range(sums.shape[1]):
            summed[to, k] += sums[name, k]
        for k in (0, 2):
            around[to, k] = min(around[to, k], box[name, k])
            around[to, k + 1] = max(around[to, k + 1], box[name, k + 1])
    return summed, around


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
def _contacts(labels: np.ndarray, bright: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of labels side by side (n, 2), sorted, and of each: pixels along the line, both sides, and brightness."""
    height, width = labels.shape
    first, second = np.empty(1024, np.int64), np.empty(1024, np.int64)
    lines = np.zeros((1024, 2), np.int64)
    found = 0
    for y in range(height):
        for k in range(2 if y + 1 < height else 1):  # beside, and below
            here, there, end = labels[y], labels[y + k, 1 - k :], width + k - 1
            for start in range(0, end, STRETCH):
                stop = min(start + STRETCH, end)
                if not _any_contact(here[start:stop], there[start:stop]):
                    continue
                last = False
                for x in range(start, stop):
                    if here[x] == there[x] or here[x] == 0 or there[x] == 0:
                        last = False
                        continue
                    a, b = np.int64(min(here[x], there[x])), np.int64(max(here[x], there[x]))
                    if not last or first[found - 1] != a or second[found - 1] != b:  # else more of a line along the row
                        if found == len(first):
                            first, second = np.concatenate((first, first)), np.concatenate((second, second))
                            lines = np.concatenate((lines, np.zeros_like(lines)))
                        first[found], second[found] = a, b
                        found += 1
                        last = True
                    lines[found - 1, 0] += 2
                    lines[found - 1, 1] += np.int64(bright[y, x]) + bright[y + k, x + 1 - k]
    return _lines_of(first[:found], second[:found], lines, count)


@compiled
def _any_contact(here: np.ndarray, there: np.ndarray) -> bool:
    """Whether two labels lie side by side; without a way out, so that many pixels are asked at once."""
    found = False
    for x in range(len(here)):
        found |= (here[x] != there[x]) & (here[x] != 0) & (there[x] != 0)
    return found


@compiled
def _lines_of(first: np.ndarray, second: np.ndarray, lines: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different labels (n, 2), sorted, and the sums (n, 2) of each pair's `lines`."""
    keys = np.minimum(first, second) * (count + 1) + np.maximum(first, second)
    order = np.argsort(keys)
    pairs = np.empty((len(keys), 2), np.int64)
    summed = np.zeros((len(keys), 2), np.int64)
    n, last = 0, np.int64(-1)
    for at in order:
        if first[at] == second[at]:
            continue
        if keys[at] != last:
            last = keys[at]
            pairs[n, 0], pairs[n, 1] = last // (count + 1), last % (count + 1)
            n += 1
        summed[n - 1, 0] += lines[at, 0]
        summed[n - 1, 1] += lines[at, 1]
    return pairs[:n], summed[:n]


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
