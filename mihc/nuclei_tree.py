"""Which connected pieces of a picture are nuclei: the tree of its level sets, and the best disjoint choice from it.

Every threshold of the picture cuts it into 8-connected pieces; pieces of rising thresholds nest, which makes a tree
(built with union-find as by Berger et al., ICIP 2007). A piece is judged by its own pixels alone, and one larger than
a limit is never chosen, so that a choice depends on no pixel further away than that limit.
"""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled
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
def level_set_tree(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The tree of (y, x) uint8 `levels`; level 0 belongs to no piece.

    Returns
    -------
    nodes : (y, x) int32, the node of every pixel, -1 at level 0. Children have smaller numbers than their parent.
    parent : (n,) int32, a root is its own parent.
    level : (n,) uint8.
    box : (n, 4) int32: first row, last row, first column, last column.
    sums : (n, 6) int64: pixels, sum of y, x, yy, yx, xx.
    """
    height, width = levels.shape
    rimmed = np.zeros((height + 2, width + 2), np.uint8)
    rimmed[1:-1, 1:-1] = levels
    flat = rimmed.ravel()
    places, starts = places_by_piece(rimmed)
    nodes = np.full((height + 2, width + 2), -1, np.int32)
    node_at = nodes.ravel()
    parents, order, counts = np.empty(len(flat), np.int32), np.empty(len(places), np.int32), np.zeros(257, np.int64)
    first = most = len(places)  # nodes get their numbers from the last one down, so that parents come first
    parent, level = np.empty(most, np.int32), np.empty(most, np.uint8)
    for piece in range(len(starts) - 1):  # one by one, so that all that is looked at lies near in memory
        pixels = order[: starts[piece + 1] - starts[piece]]
        _sort_by_level(places[starts[piece] : starts[piece + 1]], flat, counts, pixels)
        _unite_by_level(pixels, node_at, parents, width + 2)
        for at in pixels[::-1]:
            above = parents[at]
            if flat[parents[above]] == flat[above]:  # of one piece and level, the last pixel stands for all
                above = parents[above]
                parents[at] = above
            if above == at or flat[above] != flat[at]:
                first -= 1
                parent[first] = first if above == at else node_at[above]
                level[first] = flat[at]
                node_at[at] = first
            else:
                node_at[at] = node_at[above]
    count = most - first
    parent, level = parent[first:] - np.int32(first), level[first:].copy()
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            nodes[y, x] = nodes[y, x] - first if rimmed[y, x] > 0 else -1
    nodes = nodes[1:-1, 1:-1].copy()
    box, sums = _measured(nodes, count)
    for node in range(count):
        above = parent[node]
        if above != node:
            box[above, 0] = min(box[above, 0], box[node, 0])
            box[above, 1] = max(box[above, 1], box[node, 1])
            box[above, 2] = min(box[above, 2], box[node, 2])
            box[above, 3] = max(box[above, 3], box[node, 3])
            for k in range(6):
                sums[above, k] += sums[node, k]
    return nodes, parent, level, box, sums


@compiled
def _measured(nodes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Box and sums, as in `level_set_tree`, of each node's own pixels."""
    box = np.empty((count, 4), np.int32)
    box[:, 0::2] = 2**31 - 1
    box[:, 1::2] = -1
    sums = np.zeros((count, 6), np.int64)
    for y in range(nodes.shape[0]):
        for x in range(nodes.shape[1]):
            node = nodes[y, x]
            if node >= 0:
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
    return box, sums


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
    nodes: np.ndarray, parent: np.ndarray, chosen: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1, 2, ... of the chosen pieces, in row order of their seeds, and the seeds.

    The seed of a piece is its first pixel, row by row, among those of its highest level.

    Returns (y, x) uint32 labels and (n, 2) int64 seeds.
    """
    height, width = levels.shape
    owner = np.full(len(parent), -1, np.int32)
    count = np.int64(0)  # a bare 0 is a type of its own, for which name_by_seed would be compiled once more
    for node in range(len(parent) - 1, -1, -1):
        above = parent[node]
        if chosen[node]:
            owner[node] = count
            count += 1
        elif above != node:
            owner[node] = owner[above]
    labels = np.zeros((height, width), np.uint32)
    for y in range(height):
        for x in range(width):
            node = nodes[y, x]
            if node >= 0 and owner[node] >= 0:
                labels[y, x] = owner[node] + 1
    return labels, name_by_seed(labels, labels.copy(), levels, count)


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
