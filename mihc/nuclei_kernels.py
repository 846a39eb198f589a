"""Loops over pixels for `nuclei`: smoothing, local threshold, growth.

A pixel's result is the same in any window whose halo covers the loop's support: sums are of integers, and where floats
are summed, each pixel's sum has one order. Borders repeat the edge pixel.
"""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled, compiled_unchecked, copied, room

FRACTION = 16  # smoothed values are in 1/16 of a count
SCALE = 4096  # compressed values are in 1/4096
NEAR, DIAGONAL = 5, 7  # cost of a step to a side or corner neighbour: 5 is one pixel


@compiled
def smooth(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(y, x) int32 convolved with symmetric integer `weights` along both axes -> int32 in 1/FRACTION of a count."""
    height, width = image.shape
    reach = len(weights) // 2
    total = 0.0
    for weight in weights:
        total += weight
    single = weights.astype(np.float32)  # each pixel's sum has one order, so that rounding is the same in any window
    scale, half = np.float32(FRACTION / (total * total)), np.float32(0.5)
    rows = 2 * reach + 1
    across = np.empty((rows, width), np.float32)  # the rows in reach, smoothed along x; row y lies at y % rows
    padded = np.empty(width + 2 * reach, np.float32)
    line = np.empty(width, np.float32)
    out = room((height, width), np.int32)
    for last in range(height + reach):
        if last < height:
            for x in range(width):
                padded[x + reach] = image[last, x]
            for x in range(reach):
                padded[x] = image[last, 0]
                padded[width + reach + x] = image[last, width - 1]
            _weigh(padded, single, across[last % rows])
        y = last - reach
        if y < 0:
            continue
        line[:] = single[reach] * across[y % rows]
        for k in range(reach):
            above, below = across[max(y + k - reach, 0) % rows], across[min(y + reach - k, height - 1) % rows]
            weight = single[k]
            for x in range(width):
                line[x] += weight * (above[x] + below[x])
        for x in range(width):
            out[y, x] = np.int32(np.floor(line[x] * scale + half))
    return out


@compiled
def _weigh(padded: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Sum, by symmetric weights, of the values around each one of a line that is padded by their reach."""
    reach = len(weights) // 2
    for x in range(len(out)):
        out[x] = weights[reach] * padded[x + reach]
    for k in range(reach):
        weight, left, right = weights[k], padded[k:], padded[2 * reach - k :]
        for x in range(len(out)):
            out[x] += weight * (left[x] + right[x])


@compiled
def despeckle(image: np.ndarray) -> np.ndarray:
    """Each pixel cut down to the brightest of its 8 neighbours, which takes single hot pixels away."""
    height, width = image.shape
    out = copied(image)
    if image.size == 1:
        return out
    around = np.empty(width, image.dtype)
    column = np.empty(width, image.dtype)
    for y in range(height):
        up, down = (y - 1 if y > 0 else y + 1), (y + 1 if y + 1 < height else y - 1)
        if height == 1:
            around[:] = np.int32(-(2**31))
            column[:] = image[y]
        else:
            for x in range(width):
                around[x] = max(image[up, x], image[down, x])
            for x in range(width):
                column[x] = max(around[x], image[y, x])
        for x in range(1, width):
            around[x] = max(around[x], column[x - 1])
        for x in range(width - 1):
            around[x] = max(around[x], column[x + 1])
        for x in range(width):
            out[y, x] = min(image[y, x], around[x])
    return out


@compiled
def steps_in_the_dark(image: np.ndarray, cut: int) -> np.ndarray:
    """Differences, without their sign, between neighbours along x of (y, x) int32 that are both at most `cut`."""
    steps = room(image.size, np.int32)
    count = 0
    for y in range(image.shape[0]):
        for x in range(1, image.shape[1]):
            if image[y, x] <= cut and image[y, x - 1] <= cut:
                steps[count] = abs(image[y, x] - image[y, x - 1])
                count += 1
    return steps[:count]


@compiled
def occurrences(values: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """How often each whole number from `lowest` to `highest` occurs among the (n,) values: int64."""
    counts = np.zeros(highest - lowest + 1, np.int64)
    for value in values:
        counts[value - lowest] += 1
    return counts


@compiled_unchecked
def compress(smoothed: np.ndarray, background: float, half: float) -> np.ndarray:
    """x / (x + half) in 1/SCALE of the x by which smoothed values exceed the background: int16, 0 to SCALE - 1.

    Bright nuclei then do not outvote dim ones. `background` and `half` are in counts.
    """
    out = room(smoothed.shape, np.int16)
    none, scale = np.float32(0.0), np.float32(SCALE)
    dark, middle = np.float32(FRACTION * background), np.float32(FRACTION * half)
    for y in range(smoothed.shape[0]):
        for x in range(smoothed.shape[1]):
            above = max(np.float32(smoothed[y, x]) - dark, none)
            out[y, x] = np.int16(min(scale * (above / (above + middle)), scale - np.float32(1.0)))
    return out


@compiled
def brightness(fine: np.ndarray, low: np.ndarray) -> np.ndarray:
    """How far compressed values exceed a compressed level, not below 0 -> int32."""
    out = room(fine.shape, np.int32)
    for y in range(fine.shape[0]):
        for x in range(fine.shape[1]):
            out[y, x] = np.int32(max(fine[y, x] - low[y, x], np.float32(0.0)))
    return out


@compiled_unchecked
def excess(smoothed: np.ndarray, low: np.ndarray, background: float, half: float) -> np.ndarray:
    """Smoothed counts above a compressed level, not below 0 -> int32 in 1/FRACTION of a count."""
    out = room(smoothed.shape, np.int32)
    for y in range(smoothed.shape[0]):
        for x in range(smoothed.shape[1]):
            dark = background + half * low[y, x] / (SCALE - low[y, x])
            out[y, x] = np.int32(max(smoothed[y, x] - FRACTION * dark, 0.0))
    return out


@compiled
def above_cut(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, share: float, step: float, floor: float
) -> np.ndarray:
    """True where a value exceeds its cut: `share` of the way from low to high, at least `floor` and `step` above low.

    The step is uncompressed.
    """
    out = room(values.shape, np.bool_)
    part, rise, least, one = np.float32(share), np.float32(step), np.float32(floor), np.float32(1.0)
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            dark = low[y, x]
            slope = one - dark / np.float32(SCALE)  # squared: of the compression at the darker mean
            cut = max(dark + max(part * (high[y, x] - dark), rise * slope * slope), least)
            out[y, x] = np.float32(values[y, x]) > cut
    return out


@compiled_unchecked
def box_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean of compressed values over the square of 2 reach + 1 pixels, as far as it lies in the array -> float32."""
    height, width = values.shape
    out = room((height, width), np.float32)
    column, columns = np.zeros(width, np.int32), _columns_in_reach(width, reach)
    line = np.empty(width, np.float32)
    rows = 0
    for y in range(min(reach, height)):
        rows += 1
        for x in range(width):
            column[x] += values[y, x]
    for y in range(height):
        if y + reach < height:
            rows += 1
            for x in range(width):
                column[x] += values[y + reach, x]
        if y - reach - 1 >= 0:
            rows -= 1
            for x in range(width):
                column[x] -= values[y - reach - 1, x]
        total = np.int64(0)
        for x in range(min(reach, width)):
            total += column[x]
        for x in range(width):
            if x + reach < width:
                total += column[x + reach]
            if x - reach - 1 >= 0:
                total -= column[x - reach - 1]
            line[x] = total
        for x in range(width):
            out[y, x] = line[x] / np.float32(rows * columns[x])
    return out


@compiled
def _columns_in_reach(width: int, reach: int) -> np.ndarray:
    """How many columns of a row of `width` lie within `reach` of each one."""
    out = np.empty(width, np.int32)
    for x in range(width):
        out[x] = min(x + reach, width - 1) - max(x - reach, 0) + 1
    return out


@compiled_unchecked
def class_means(values: np.ndarray, mean: np.ndarray, floor: float, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of compressed values above their cut, and of the others, over a square of 2 reach + 1 -> float32 arrays.

    A pixel's cut is the float32 `mean` there, at least `floor`. An empty class takes the value of the pixel's own cut.
    """
    height, width = values.shape
    least, one = np.float32(floor), np.float32(1.0)
    columns = _columns_in_reach(width, reach)
    bright, others = np.empty(width, np.float32), np.empty(width, np.float32)
    high = room((height, width), np.float32)
    low = room((height, width), np.float32)
    # Of a column's pixels in reach: sums of the brighter and of all, at most SCALE each, and how many are brighter.
    high_sum, high_count, every_sum = np.zeros(width, np.int32), np.zeros(width, np.int32), np.zeros(width, np.int32)
    rows = 0
    for step in range(height + reach):
        for sign in (np.int32(1), np.int32(-1)):
            source = step if sign == 1 else step - 2 * reach - 1
            if source < 0 or source >= height:
                continue
            rows += sign
            for x in range(width):
                value = sign * np.int32(values[source, x])
                above = np.float32(values[source, x]) > max(mean[source, x], least)
                high_sum[x] += value if above else np.int32(0)
                high_count[x] += sign if above else np.int32(0)
                every_sum[x] += value
        y = step - reach
        if y < 0:
            continue
        a, b, c = np.int64(0), np.int64(0), np.int64(0)
        for x in range(min(reach, width)):
            a, b, c = a + high_sum[x], b + high_count[x], c + every_sum[x]
        for at in range(width):
            if at + reach < width:
                x = at + reach
                a, b, c = a + high_sum[x], b + high_count[x], c + every_sum[x]
            if at - reach - 1 >= 0:
                x = at - reach - 1
                a, b, c = a - high_sum[x], b - high_count[x], c - every_sum[x]
            bright[at], others[at] = b, rows * columns[at] - b
            high[y, at], low[y, at] = a, c - a
        for x in range(width):
            cut = max(mean[y, x], least)
            above, below = high[y, x] / max(bright[x], one), low[y, x] / max(others[x], one)
            high[y, x] = above if bright[x] > 0 else cut
            low[y, x] = below if others[x] > 0 else cut
    return high, low


@compiled_unchecked
def splitting_levels(
    fine: np.ndarray,
    wide: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    distance: np.ndarray,
    foreground: np.ndarray,
    weights: np.ndarray,
    radius: float,
) -> np.ndarray:
    """(y, x) uint8: 0 outside the foreground, higher towards the middle of a nucleus.

    The sum, by `weights`, of the distance to the edge (in radii), the brightness between the local means, and the
    contrast of a fine against a wide smoothing, which has a summit even where a dim nucleus leans on a bright one.
    """
    height, width = fine.shape
    out = room((height, width), np.uint8)
    out[...] = 0
    for y in range(height):
        for x in range(width):
            if not foreground[y, x]:
                continue
            spread = np.float64(high[y, x]) - low[y, x]
            bright = min(max((fine[y, x] - low[y, x]) / max(spread, 1.0), 0.0), 3.0)
            local = 0.8 + (fine[y, x] - wide[y, x]) / max(0.3 * spread + wide[y, x] - low[y, x], 1.0)
            depth = np.sqrt(np.float64(distance[y, x])) / radius
            level = 100.0 * (weights[0] * depth + weights[1] * bright + weights[2] * local)
            out[y, x] = np.uint8(min(max(level, 1.0), 255.0))
    return out


@compiled
def piece_means(labels: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Mean value per label 1 to `count` -> (count,) float64."""
    pixels = np.zeros(count, np.int64)
    total = np.zeros(count, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            name = labels[y, x]
            if name != 0:
                pixels[name - 1] += 1
                total[name - 1] += values[y, x]
    return total / pixels


@compiled
def piece_evidence(
    labels: np.ndarray, fine: np.ndarray, wide: np.ndarray, low: np.ndarray, high: np.ndarray, count: int
) -> np.ndarray:
    """Per label (count, 4) int64: pixels, and sums of fine - wide, fine - low and high - low (compressed)."""
    out = np.zeros((count, 4), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            name = labels[y, x]
            if name != 0:
                out[name - 1, 0] += 1
                out[name - 1, 1] += fine[y, x] - wide[y, x]
                out[name - 1, 2] += np.int64(np.floor(fine[y, x] - low[y, x]))
                out[name - 1, 3] += np.int64(np.floor(high[y, x] - low[y, x]))
    return out


@compiled
def name_labels(labels: np.ndarray, ids: np.ndarray) -> None:
    """Replace labels 1, 2, ... by their ids, in place; 0 stays 0."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            labels[y, x] = ids[label - 1] if label != 0 else np.uint32(0)


@compiled
def boxes(labels: np.ndarray, count: int, most: int) -> np.ndarray:
    """First row, last row, first column, last column of each label, with room for `most`."""
    box = np.empty((most + 1, 4), np.int64)
    box[:, 0::2] = 2**31 - 1
    box[:, 1::2] = -1
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            name = labels[y, x]
            if name != 0:
                box[name, 0] = min(box[name, 0], y)
                box[name, 1] = max(box[name, 1], y)
                box[name, 2] = min(box[name, 2], x)
                box[name, 3] = max(box[name, 3], x)
    return box


@compiled
def trim(labels: np.ndarray, values: np.ndarray, bounds: np.ndarray) -> None:
    """Take from each label, in place, its pixels below its bound (one per label)."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            name = labels[y, x]
            if name != 0 and values[y, x] < bounds[name - 1]:
                labels[y, x] = 0


@compiled
def _edge_pixels(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Places of labelled pixels that have an unlabelled mask pixel among their 8 neighbours."""
    height, width = labels.shape
    out = room(labels.size, np.int32)
    free = np.zeros((3, width), np.uint8)  # of a row and the two beside it, row y at y % 3
    near = np.zeros(width + 2, np.uint8)
    count = 0
    for last in range(height + 1):
        for x in range(width):
            free[last % 3, x] = (labels[last, x] == 0) & mask[last, x] if last < height else False
        y = last - 1
        if y < 0:
            continue
        for x in range(width):
            near[x + 1] = free[0, x] | free[1, x] | free[2, x]
        for x in range(width):
            if (labels[y, x] != 0) & ((near[x] | near[x + 1] | near[x + 2]) != 0):
                out[count] = y * width + x
                count += 1
    return out[:count].copy()


@compiled
def grow(
    labels: np.ndarray,
    mask: np.ndarray,
    levels: np.ndarray,
    uphill: int,
    values: np.ndarray,
    bounds: np.ndarray,
    limit: int,
) -> None:
    """Give mask pixels the label of the nearest labelled one, by paths within the mask of cost at most `limit`.

    A step to a side neighbour costs NEAR, to a corner DIAGONAL, and a step up to a higher level (uint8) `uphill` for
    each level more, so that a label does not climb out of its own basin; of two labels at equal cost the smaller wins.
    A label takes no pixel whose value is below the label's bound. Changes `labels` in place.
    """
    height, width = labels.shape
    cost = room((height, width), np.int16)
    cost[...] = limit + 1
    first = np.full(limit + 1, -1, np.int64)  # per cost a chain of entries: a place, and the next entry
    places = _edge_pixels(labels, mask)
    count = len(places)
    follow = np.arange(-1, count - 1)
    first[0] = count - 1
    for y in range(height):
        for x in range(width):
            if labels[y, x] != 0:
                cost[y, x] = 0
    for spent in range(limit + 1 - NEAR):
        entry = first[spent]
        while entry >= 0:
            y, x = places[entry] // width, places[entry] % width
            entry = follow[entry]
            if cost[y, x] != spent:
                continue
            name = labels[y, x]
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if cost[v, u] <= spent or not mask[v, u] or values[v, u] < bounds[name - 1]:
                        continue
                    price = spent + (NEAR if v == y or u == x else DIAGONAL)
                    price += uphill * max(np.int64(levels[v, u]) - np.int64(levels[y, x]), 0)
                    if price == cost[v, u]:
                        labels[v, u] = min(labels[v, u], name)
                    elif price < cost[v, u]:
                        cost[v, u] = price
                        labels[v, u] = name
                        if count == len(places):
                            places = np.concatenate((places, np.empty(count + 1, np.int32)))
                            follow = np.concatenate((follow, np.empty(count + 1, np.int64)))
                        places[count] = v * width + u
                        follow[count] = first[price]
                        first[price] = count
                        count += 1
