"""Compiled loops over region edges. Imported only where they run: compiling costs a second the first time.

An edge is (x0, y0, x1, y1) with y0 < y1: both regions at a shared edge compute its crossing from the same four numbers.
"""

# ruff: noqa: ANN001, ANN201  (the compiler infers the types)

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled


@compiled
def edges_of_rings(points, ring_starts, region_of_ring, regions):
    """Return (edges, starts): every edge of rings as (x0, y0, x1, y1) with y0 < y1, those of each region together.

    Ring k is points[ring_starts[k]:ring_starts[k + 1]] (x, y), closed, and rings come region by region. Horizontal
    edges are left out: no row crosses them under the half-open rule.
    """
    edges = np.empty((max(len(points) - len(region_of_ring), 0), 4), np.float64)
    starts = np.zeros(regions + 1, np.int64)
    count = 0
    for k in range(len(region_of_ring)):
        for i in range(ring_starts[k], ring_starts[k + 1] - 1):
            if points[i, 1] == points[i + 1, 1]:
                continue
            low, high = (i, i + 1) if points[i, 1] < points[i + 1, 1] else (i + 1, i)
            edges[count, 0] = points[low, 0]
            edges[count, 1] = points[low, 1]
            edges[count, 2] = points[high, 0]
            edges[count, 3] = points[high, 1]
            count += 1
        starts[region_of_ring[k] + 1] = count
    for r in range(regions):
        starts[r + 1] = max(starts[r + 1], starts[r])
    return edges[:count], starts


@compiled
def bin_edges(edges, y_first, y_last):
    """Sort edges into bands of y, an edge into each band it meets: (bands per µm, band starts, edges by band).

    Edges by band have (x0, y0, x per y, y1), so that a crossing costs no division; it has the bits of `crossing`.
    """
    n = len(edges)
    height = y_last - y_first
    total = 0.0
    for e in range(n):
        total += edges[e, 3] - edges[e, 1]
    bands = max(1, min(n // 2, int(4.0 * n * height / total) if total > 0 else 1))
    scale = bands / height if height > 0 else 0.0
    starts = np.zeros(bands + 1, np.int64)
    for e in range(n):
        for b in range(band_of(edges[e, 1], y_first, scale, bands), band_of(edges[e, 3], y_first, scale, bands) + 1):
            starts[b + 1] += 1
    for b in range(bands):
        starts[b + 1] += starts[b]
    filled = starts[:-1].copy()
    sorted_edges = np.empty((starts[bands], 4), np.float64)
    for e in range(n):
        for b in range(band_of(edges[e, 1], y_first, scale, bands), band_of(edges[e, 3], y_first, scale, bands) + 1):
            at = filled[b]
            sorted_edges[at, 0] = edges[e, 0]
            sorted_edges[at, 1] = edges[e, 1]
            sorted_edges[at, 2] = (edges[e, 2] - edges[e, 0]) / (edges[e, 3] - edges[e, 1])
            sorted_edges[at, 3] = edges[e, 3]
            filled[b] += 1
    return scale, starts, sorted_edges


@compiled
def band_of(y, y_first, scale, bands):
    """Return the band of a y; it never falls as y grows, so an edge's bands hold every point beside it."""
    return max(0, min(bands - 1, int((y - y_first) * scale)))


@compiled
def sort_into_cells(x, y, box, columns, rows):
    """Sort points into cells of a grid over box (x0, y0, x1, y1): (cell starts, points by cell, their x, their y).

    Cells go row by row, so that those side by side are one range. Points beyond the box, or NaN, are in none.
    """
    scale_x = columns / (box[2] - box[0]) if box[2] > box[0] else 0.0
    scale_y = rows / (box[3] - box[1]) if box[3] > box[1] else 0.0
    cell = np.empty(len(x), np.int32)
    starts = np.zeros(rows * columns + 1, np.int64)
    for i in range(len(x)):
        if x[i] >= box[0] and x[i] <= box[2] and y[i] >= box[1] and y[i] <= box[3]:
            row = band_of(y[i], box[1], scale_y, rows)
            cell[i] = row * columns + band_of(x[i], box[0], scale_x, columns)
            starts[cell[i] + 1] += 1
        else:
            cell[i] = -1
    for c in range(rows * columns):
        starts[c + 1] += starts[c]
    filled = starts[:-1].copy()
    points = np.empty(starts[-1], np.int64)
    sorted_x = np.empty(starts[-1], np.float64)
    sorted_y = np.empty(starts[-1], np.float64)
    for i in range(len(x)):
        if cell[i] >= 0:
            at = filled[cell[i]]
            points[at] = i
            sorted_x[at] = x[i]
            sorted_y[at] = y[i]
            filled[cell[i]] += 1
    return starts, points, sorted_x, sorted_y


@compiled
def first_holder(x, y, edges, starts, bounds, box, columns, rows, out):
    """Write to out, where it is still -1, the first region that holds each point.

    edges[starts[r]:starts[r + 1]] are those of region r, bounds its (x0, y0, x1, y1); box is that of all regions, and
    points are looked up in a grid of columns x rows cells over it. A point is in where an odd number of edges with
    y0 <= y < y1 cross its row strictly to the right of it.
    """
    cells, points, sorted_x, sorted_y = sort_into_cells(x, y, box, columns, rows)
    scale_x = columns / (box[2] - box[0]) if box[2] > box[0] else 0.0
    scale_y = rows / (box[3] - box[1]) if box[3] > box[1] else 0.0
    for r in range(len(bounds)):
        mine = edges[starts[r] : starts[r + 1]]
        if len(mine) == 0:
            continue
        scale, band_starts, banded = bin_edges(mine, bounds[r, 1], bounds[r, 3])
        bands = len(band_starts) - 1
        left = band_of(bounds[r, 0], box[0], scale_x, columns)
        right = band_of(bounds[r, 2], box[0], scale_x, columns)
        for row in range(
            band_of(bounds[r, 1], box[1], scale_y, rows), band_of(bounds[r, 3], box[1], scale_y, rows) + 1
        ):
            for i in range(cells[row * columns + left], cells[row * columns + right + 1]):
                px, py = sorted_x[i], sorted_y[i]
                if px < bounds[r, 0] or px > bounds[r, 2] or py < bounds[r, 1] or py > bounds[r, 3]:
                    continue
                if out[points[i]] >= 0:
                    continue
                inside = False
                b = band_of(py, bounds[r, 1], scale, bands)
                for e in range(band_starts[b], band_starts[b + 1]):
                    x_there = banded[e, 0] + (py - banded[e, 1]) * banded[e, 2]
                    if banded[e, 1] <= py and py < banded[e, 3] and px < x_there:
                        inside = not inside
                if inside:
                    out[points[i]] = r


@compiled
def crossing(edge, y):
    """Return the x at which an edge crosses a row."""
    return edge[0] + (y - edge[1]) * ((edge[2] - edge[0]) / (edge[3] - edge[1]))


@compiled
def paint(edges, value, first_row, first_column, pixel_y, pixel_x, out):
    """Write value into the pixels of out whose centre the edges hold, by the rule of `first_holder`.

    out[0, 0] is pixel (first_row, first_column) of the slide.
    """
    rows, columns = out.shape
    counts = np.zeros(rows + 1, np.int64)
    for e in range(len(edges)):
        for row in range(row_at(edges[e, 1], first_row, pixel_y, rows), row_at(edges[e, 3], first_row, pixel_y, rows)):
            counts[row + 1] += 1
    for row in range(rows):
        counts[row + 1] += counts[row]
    filled = counts[:-1].copy()
    xs = np.empty(counts[rows], np.float64)
    for e in range(len(edges)):
        for row in range(row_at(edges[e, 1], first_row, pixel_y, rows), row_at(edges[e, 3], first_row, pixel_y, rows)):
            xs[filled[row]] = crossing(edges[e], (first_row + row + 0.5) * pixel_y)
            filled[row] += 1
    for row in range(rows):
        line = np.sort(xs[counts[row] : counts[row + 1]])
        for k in range(0, len(line) - 1, 2):
            start = row_at(line[k], first_column, pixel_x, columns)
            stop = row_at(line[k + 1], first_column, pixel_x, columns)
            out[row, start:stop] = value


@compiled
def row_at(position, first, pixel, n):
    """Return the first of n pixels whose centre is at or beyond a position (n when none is)."""
    k = int(max(0.0, min(float(n), np.ceil(position / pixel - 0.5 - first))))
    while k > 0 and (first + k - 1 + 0.5) * pixel >= position:
        k -= 1
    while k < n and (first + k + 0.5) * pixel < position:
        k += 1
    return k
