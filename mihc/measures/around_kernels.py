"""What lies around cells: the borders between them, and the light where no cell is."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled


@compiled
def borders(cells: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges between pixels of different cells: (n, 3) int64, and how many edges each row's cell has, (rows, 2).

    An edge is two rows and 0 where it runs along y (its pixels lie side by side), 1 where it runs along x. Those to
    pixels without a cell, and to the end of the image, are counted too but not listed.
    """
    height, width = cells.shape
    edges = np.zeros((count, 2), np.int64)
    listed = np.empty((0, 3), np.int64)
    total = 0
    for filling in (False, True):
        if filling:
            listed = np.empty((total, 3), np.int64)
            total = 0
        for y in range(height):
            for x in range(width):
                here = cells[y, x]
                for direction in (0, 1):
                    below, beside = y + direction, x + 1 - direction
                    there = cells[below, beside] if below < height and beside < width else np.uint32(0)
                    if here == there:
                        continue
                    a = np.int64(rows[here]) if here != 0 else np.int64(-1)
                    b = np.int64(rows[there]) if there != 0 else np.int64(-1)
                    if not filling and a >= 0:
                        edges[a, direction] += 1
                    if not filling and b >= 0:
                        edges[b, direction] += 1
                    if a >= 0 and b >= 0:
                        if filling:
                            listed[total, 0], listed[total, 1], listed[total, 2] = a, b, direction
                        total += 1
        if not filling:
            _add_first_edges(cells, rows, edges)
    return listed, edges


@compiled
def _add_first_edges(cells: np.ndarray, rows: np.ndarray, edges: np.ndarray) -> None:
    """Count the edges before the first row and column of the image."""
    for y in range(cells.shape[0]):
        if cells[y, 0] != 0 and rows[cells[y, 0]] >= 0:
            edges[rows[cells[y, 0]], 0] += 1
    for x in range(cells.shape[1]):
        if cells[0, x] != 0 and rows[cells[0, x]] >= 0:
            edges[rows[cells[0, x]], 1] += 1


@compiled
def free_pixels(cells: np.ndarray) -> np.ndarray:
    """Pixels without a cell above and left of each corner of pixels: (y + 1, x + 1) int64."""
    height, width = cells.shape
    out = np.zeros((height + 1, width + 1), np.int64)
    for y in range(height):
        along = np.int64(0)
        for x in range(width):
            along += cells[y, x] == 0
            out[y + 1, x + 1] = out[y, x + 1] + along
    return out


@compiled
def free_light(plane: np.ndarray, cells: np.ndarray, out: np.ndarray) -> None:
    """As `free_pixels`, the sum of what the plane has there, into `out`."""
    height, width = cells.shape
    for y in range(height):
        along = np.int64(0)
        for x in range(width):
            if cells[y, x] == 0:
                along += plane[y, x]
            out[y + 1, x + 1] = out[y, x + 1] + along


@compiled
def box_sums(corners: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Sums over boxes (n, 4) y0, y1, x0, x1, half-open, of a table of `free_pixels` or `free_light`."""
    out = np.empty(len(boxes), np.int64)
    for k in range(len(boxes)):
        y0, y1, x0, x1 = boxes[k]
        out[k] = corners[y1, x1] - corners[y0, x1] - corners[y1, x0] + corners[y0, x0]
    return out
