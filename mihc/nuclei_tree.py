"""Which connected pieces of a picture are nuclei: the tree of its level sets, and the best disjoint choice from it.

Every threshold of the picture cuts it into 8-connected pieces; pieces of rising thresholds nest, which makes a tree
(built with union-find as by Berger et al., ICIP 2007). A piece is judged by its own pixels alone, and one larger than
a limit is never chosen, so that a choice depends on no pixel further away than that limit.
"""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled, copied, room
from mihc.nuclei_masks import find_root, places_by_piece

ONE = 1 << 16  # qualities are integers in 1/ONE, so that sums over pieces have no rounding


def _groups() -> np.ndarray:
    """For each set of neighbours, as bits around the ring from a corner on, how many groups touch, and one of each."""
    out = np.zeros((256, 5), np.int64)
    for seen in range(256):
        there = [bool(seen >> k & 1) for k in range(8)]
        joined = [
            there[k] or (k % 2 == 0 and there[k - 1] and there[k + 1]) for k in range(8)
        ]  # sides touch at corners
        starts = [k for k in range(8) if there[k] and not joined[k - 1]] or [k for k in range(8) if there[k]][:1]
        out[seen, : len(starts) + 1] = [len(starts), *starts]
    return out


GROUPS = _groups()


@compiled
def _sort_by_level(places: np.ndarray, levels: np.ndarray, counts: np.ndarray, order: np.ndarray) -> None:
    """Fill `order` with `places`, those of the highest of the flat `levels` first; `counts` (257,) are zeros."""
    lowest, highest = 255, 0
    for at in places:
        level = np.int64(levels[at])
        counts[level + 1] += 1
        lowest, highest = min(lowest, level), max(highest, level)
    total = 0
    for level in range(highest, lowest - 1, -1):
        here = counts[level + 1]
        counts[level + 1] = total
        total += here
    for at in places:
        level = np.int64(levels[at])
        order[counts[level + 1]] = at
        counts[level + 1] += 1
    counts[lowest + 1 : highest + 2] = 0


@compiled
def _unite_by_level(order: np.ndarray, roots: np.ndarray, parents: np.ndarray, width: int) -> None:
    """Set the parent of each pixel in `order`, a later one of the smallest piece around; of a piece's last one, itself.

    `roots` (-1 where no pixel was seen, used up) and `parents` are flat pictures of `width` columns with a rim, so that
    each pixel has 8 neighbours.
    """
    ring = np.array([-width - 1, -width, -width + 1, 1, width + 1, width, width - 1, -1])
    for at in order:
        parents[at] = at
        roots[at] = at
        seen = 0
        for k in range(8):
            seen |= np.int64(roots[at + ring[k]] >= 0) << k
        for k in range(GROUPS[seen, 0]):
            top = find_root(roots, at + ring[GROUPS[seen, k + 1]])
            if top != at:
                parents[top] = at
                roots[top] = at


@compiled
def level_set_tree(
    levels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The tree of (y, x) uint8 `levels`; level 0 belongs to no piece.

    Returns
    -------
    places : (pixels,) int32, those above level 0 as places in the flat picture, one connected part after the other.
    nodes : (pixels,) int32, the node of each. Children have smaller numbers than their parent.
    parent : (n,) int32, a root is its own parent.
    level : (n,) uint8.
    box : (n, 4) int32: first row, last row, first column, last column.
    sums : (n, 6) int64: pixels, sum of y, x, yy, yx, xx.
    """
    height, width = levels.shape
    rimmed = room((height + 2, width + 2), np.uint8)
    rimmed[...] = 0
    rimmed[1:-1, 1:-1] = levels
    flat = rimmed.ravel()
    places, starts = places_by_piece(rimmed)
    node_at, parents = room(len(flat), np.int32), room(len(flat), np.int32)
    node_at[...] = -1
    nodes, order, counts = room(len(places), np.int32), room(len(places), np.int32), np.zeros(257, np.int64)
    parent, level = room(len(places), np.int32), room(len(places), np.uint8)
    box, sums = room((len(places), 4), np.int32), room((len(places), 6), np.int64)
    count = np.int64(0)
    for piece in range(len(starts) - 1):  # one by one, so that all that is looked at lies near in memory
        here = slice(starts[piece], starts[piece + 1])
        pixels = order[: starts[piece + 1] - starts[piece]]
        _sort_by_level(places[here], flat, counts, pixels)
        _unite_by_level(pixels, node_at, parents, width + 2)
        first, count = count, _number(pixels, flat, parents, node_at, parent, level, count)
        _measure(places[here], node_at, nodes[here], width + 2, first, parent[:count], box, sums)
    return _without_rim(places, width), nodes, parent[:count], level[:count], box[:count], sums[:count]


@compiled
def _number(
    pixels: np.ndarray,
    levels: np.ndarray,
    parents: np.ndarray,
    node_at: np.ndarray,
    parent: np.ndarray,
    level: np.ndarray,
    count: int,
) -> int:
    """Give the nodes of a part the numbers from `count` on, children before parents -> the next number.

    Of the pixels of one piece and level, the last one in `pixels` stands for all.
    """
    for at in pixels[::-1]:
        above = parents[at]
        if levels[parents[above]] == levels[above]:
            parents[at] = parents[above]
    for at in pixels:
        if parents[at] == at or levels[parents[at]] != levels[at]:
            node_at[at] = count
            level[count] = levels[at]
            count += 1
    for at in pixels:
        above = parents[at]
        if above == at:
            parent[node_at[at]] = node_at[at]
        elif levels[above] != levels[at]:
            parent[node_at[at]] = node_at[above]
        else:
            node_at[at] = node_at[above]
    return count


@compiled
def _measure(
    places: np.ndarray,
    node_at: np.ndarray,
    nodes: np.ndarray,
    width: int,
    first: int,
    parent: np.ndarray,
    box: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Fill the nodes of a part's pixels, and box and sums of its nodes from `first` on; `width` has the rim."""
    box[first : len(parent), 0::2] = 2**31 - 1
    box[first : len(parent), 1::2] = -1
    sums[first : len(parent)] = 0
    for k in range(len(places)):
        node = node_at[places[k]]
        nodes[k] = node
        row = np.uint32(places[k]) // np.uint32(width)  # whole numbers of 32 bits without a sign are divided fast
        y, x = np.int64(row) - 1, np.int64(places[k]) - np.int64(row) * width - 1
        box[node, 0] = min(box[node, 0], y)
        box[node, 1] = max(box[node, 1], y)
        box[node, 2] = min(box[node, 2], x)
        box[node, 3] = max(box[node, 3], x)
        sums[node, 0] += 1
        sums[node, 1] += y
        sums[node, 2] += x
        sums[node, 3] += y * y
        sums[node, 4] += y * x
        sums[node, 5] += x * x
    for node in range(first, len(parent)):
        above = parent[node]
        if above != node:
            box[above, 0] = min(box[above, 0], box[node, 0])
            box[above, 1] = max(box[above, 1], box[node, 1])
            box[above, 2] = min(box[above, 2], box[node, 2])
            box[above, 3] = max(box[above, 3], box[node, 3])
            for k in range(6):
                sums[above, k] += sums[node, k]


@compiled
def _without_rim(places: np.ndarray, width: int) -> np.ndarray:
    """Places in a picture of `width` columns, from those in the picture with its rim; in the same array."""
    for k in range(len(places)):
        row = np.uint32(places[k]) // np.uint32(width + 2)
        places[k] -= width + 3 + 2 * (np.int64(row) - 1)
    return places


@compiled
def ellipse_quality(sums: np.ndarray, usual: float, areas: np.ndarray, costs: np.ndarray) -> float:
    """How much a piece of these `sums` looks like one nucleus, 1 at best: see `qualities`."""
    area, y, x = sums[0], sums[1], sums[2]
    n = np.float64(area)
    yy = (area * sums[3] - y * y) / (n * n) + 1 / 12
    xx = (area * sums[5] - x * x) / (n * n) + 1 / 12
    yx = (area * sums[4] - y * x) / (n * n)
    ellipse = n / (4 * np.pi * np.sqrt(yy * xx - yx * yx))
    size = area / usual
    return ellipse - costs[0] * max(areas[1] - size, 0.0) - costs[1] * max(size - areas[2], 0.0)


@compiled
def qualities(
    box: np.ndarray, sums: np.ndarray, longest: int, usual: float, areas: np.ndarray, costs: np.ndarray
) -> np.ndarray:
    """How much each piece looks like one nucleus, in 1/ONE; 0 for a piece that cannot be chosen.

    The area is compared with that of the ellipse of the same second moments, 4 pi sqrt(det): 1 for an ellipse, less
    for two that touch. In areas of the `usual` nucleus, a piece must lie between the first and the last of `areas`,
    and loses costs[0] for each below the second, costs[1] for each above the third. No side may exceed `longest`.
    """
    out = np.zeros(len(box), np.int64)
    for node in range(len(box)):
        tall = box[node, 1] - box[node, 0] + 1
        wide = box[node, 3] - box[node, 2] + 1
        area = sums[node, 0]
        size = area / usual
        if tall > longest or wide > longest or size < areas[0] or size > areas[3]:
            continue
        quality = ellipse_quality(sums[node], usual, areas, costs)
        out[node] = np.int64(max(quality, 0.01) * ONE)
    return out


@compiled
def choose(
    parent: np.ndarray, level: np.ndarray, sums: np.ndarray, quality: np.ndarray, margin: int, dip_weight: int
) -> np.ndarray:
    """The disjoint pieces that are nuclei: a piece, or the best of the pieces within it where they are better.

    The pieces within must beat the whole by `margin` (in 1/ONE, mean over their pixels), less as the dip between
    them is deeper. Returns a bool per node.
    """
    count = len(parent)
    best_area = np.zeros(count, np.int64)
    best_sum = np.zeros(count, np.int64)
    inside = np.zeros(count, np.int64)
    lowest_peak = np.full(count, 255, np.int64)
    peak = np.zeros(count, np.int64)
    chosen = np.zeros(count, np.bool_)
    for node in range(count):
        peak[node] = max(peak[node], level[node])
        own = quality[node]
        if own > 0:
            need = margin
            if inside[node] > 1:
                dip = (lowest_peak[node] - level[node]) * ONE // lowest_peak[node]
                need = margin - dip_weight * dip // ONE
            if inside[node] == 0 or (own + need) * best_area[node] >= best_sum[node]:
                chosen[node] = True
                best_area[node] = sums[node, 0]
                best_sum[node] = own * sums[node, 0]
                inside[node] = 1
                lowest_peak[node] = peak[node]
        above = parent[node]
        if above != node:
            peak[above] = max(peak[above], peak[node])
            best_area[above] += best_area[node]
            best_sum[above] += best_sum[node]
            inside[above] += inside[node]
            if inside[node] > 0:
                lowest_peak[above] = min(lowest_peak[above], lowest_peak[node])
    for node in range(count - 1, -1, -1):
        above = parent[node]
        if above != node and chosen[above]:
            chosen[node] = True  # for now: within a chosen piece
    for node in range(count):
        if chosen[node] and parent[node] != node and chosen[parent[node]]:
            chosen[node] = False
    return chosen


@compiled
def paint(
    places: np.ndarray, nodes: np.ndarray, parent: np.ndarray, chosen: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1, 2, ... of the chosen pieces, in row order of their seeds, and the seeds.

    The seed of a piece is its first pixel, row by row, among those of its highest level.

    Returns (y, x) uint32 labels and (n, 2) int64 seeds.
    """
    owner = np.full(len(parent), -1, np.int32)
    count = np.int64(0)  # a bare 0 is a type of its own, for which name_by_seed would be compiled once more
    for node in range(len(parent) - 1, -1, -1):
        above = parent[node]
        if chosen[node]:
            owner[node] = count
            count += 1
        elif above != node:
            owner[node] = owner[above]
    labels = room(levels.shape, np.uint32)
    labels[...] = 0
    out = labels.ravel()
    for k in range(len(places)):
        if owner[nodes[k]] >= 0:
            out[places[k]] = owner[nodes[k]] + 1
    return labels, name_by_seed(labels, copied(labels), levels, count)


@compiled
def name_by_seed(labels: np.ndarray, cores: np.ndarray, levels: np.ndarray, count: int) -> np.ndarray:
    """Rename labels 1 to `count`, in place, in row order of their seeds in `cores` -> the seeds (n, 2)."""
    width = labels.shape[1]
    top = np.zeros(count, np.int64)
    seeds = np.zeros((count, 2), np.int64)
    out = labels.ravel()
    flat = levels.ravel()
    core = cores.ravel()
    for at in range(len(core)):
        piece = np.int64(core[at]) - 1
        if piece >= 0 and flat[at] > top[piece]:
            top[piece] = flat[at]
            seeds[piece, 0] = at // width
            seeds[piece, 1] = at % width
    place = np.argsort(seeds[:, 0] * width + seeds[:, 1])
    name = np.zeros(count + 1, np.uint32)
    for k in range(count):
        name[place[k] + 1] = k + 1
    for at in range(len(out)):
        out[at] = name[out[at]]
    return seeds[place]
