"""Compiled loops over region edges. Imported only where they run: compiling costs a second the first time.

An edge is (x0, y0, x1, y1) with y0 < y1: both regions at a shared edge compute its crossing from the same four numbers.
"""

# ruff: noqa: ANN001, ANN201  (the compiler infers the types)

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled


@compiled
def bin_edges(edges, y_first, y_last):
    """Sort edges into bands of y, an edge into each band it meets: (bands per µm, band starts, edges by band)."""
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
            sorted_edges[filled[b]] = edges[e]
            filled[b] += 1
    return scale, starts, sorted_edges


@compiled
def band_of(y, y_first, scale, bands):
    """Return the band of a y; it never falls as y grows, so an edge's bands hold every point beside it."""
    return max(0, min(bands - 1, int((y - y_first) * scale)))


@compiled
def first_holder(x, y, edges, starts, bounds, low, high, out):
    """Write to out, where it is still -1, the first region that holds each point; points come sorted by y.

    edges[starts[r]:starts[r + 1]] are those of region r, bounds its (x0, y0, x1, y1), low and high its points by y.
    A point is in where an odd number of edges with y0 <= y < y1 cross its row strictly to the right of it.
    """
    for r in range(len(bounds)):
        mine = edges[starts[r] : starts[r + 1]]
        if len(mine) == 0 or low[r] >= high[r]:
            continue
        scale, band_starts, banded = bin_edges(mine, bounds[r, 1], bounds[r, 3])
        bands = len(band_starts) - 1
        for i in range(low[r], high[r]):
            if out[i] >= 0 or x[i] < bounds[r, 0] or x[i] > bounds[r, 2]:
                continue
            inside = False
            b = band_of(y[i], bounds[r, 1], scale, bands)
            for e in range(band_starts[b], band_starts[b + 1]):
                if banded[e, 1] <= y[i] and y[i] < banded[e, 3] and x[i] < crossing(banded[e], y[i]):
                    inside = not inside
            if inside:
                out[i] = r


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
