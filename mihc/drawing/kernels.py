"""The compiled loops of drawing. Imported only by the functions that draw, so that `import mihc` stays light."""

from __future__ import annotations

import numpy as np

from mihc.kernels import compiled


@compiled
def fill_edges(mask: np.ndarray, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray) -> None:
    """Set True every pixel whose centre lies inside the edges by the even-odd rule. Coordinates in pixels."""
    height, width = mask.shape
    crossings = np.empty(x0.size, np.float64)
    for row in range(height):
        y = row + 0.5
        n = 0
        for e in range(x0.size):
            if (y0[e] <= y) != (y1[e] <= y):
                crossings[n] = x0[e] + (y - y0[e]) * (x1[e] - x0[e]) / (y1[e] - y0[e])
                n += 1
        ordered = np.sort(crossings[:n])
        for k in range(0, n - 1, 2):
            first = max(0, int(np.ceil(ordered[k] - 0.5)))
            last = min(width, int(np.ceil(ordered[k + 1] - 0.5)))
            for column in range(first, last):
                mask[row, column] = True


@compiled
def relative_radius(dy: float, dx: float, shape: np.ndarray) -> float:
    """Distance from the centre over the outline's radius in that direction: 1 on the outline of the nucleus."""
    cos, sin = np.cos(shape[2]), np.sin(shape[2])
    u, v = (dx * cos + dy * sin) / shape[0], (-dx * sin + dy * cos) / shape[1]
    rho = np.sqrt(u * u + v * v)
    if rho > 1.5 or rho < 0.3:
        return rho
    angle = np.arctan2(v, u)
    outline = 1.0
    for k in range(4):
        outline += shape[3 + k] * np.cos((k + 2) * angle + shape[7 + k])
    return rho / outline


@compiled
def fits(labels: np.ndarray, cy: float, cx: float, shape: np.ndarray, max_overlap: float) -> bool:
    """True where at most that share of the nucleus lies on nuclei already there and half of it is on the image."""
    if labels[int(cy), int(cx)]:
        return False
    whole = np.pi * shape[0] * shape[1]
    reach = int(max(shape[0], shape[1]) * 1.3) + 2
    taken, area = 0, 0
    for y in range(max(0, int(cy) - reach), min(labels.shape[0], int(cy) + reach + 1)):
        for x in range(max(0, int(cx) - reach), min(labels.shape[1], int(cx) + reach + 1)):
            if relative_radius(y + 0.5 - cy, x + 0.5 - cx, shape) <= 1.0:
                area += 1
                if labels[y, x]:
                    taken += 1
                    if taken > 1.2 * whole * max_overlap:  # no outline is larger than 1.2 times its ellipse
                        return False
    return area >= 0.5 * whole and taken <= max_overlap * area


@compiled
def stamp(labels: np.ndarray, cy: float, cx: float, shape: np.ndarray, label: int) -> None:
    """Give the free pixels of a nucleus its label; earlier nuclei keep theirs."""
    reach = int(max(shape[0], shape[1]) * 1.3) + 2
    for y in range(max(0, int(cy) - reach), min(labels.shape[0], int(cy) + reach + 1)):
        for x in range(max(0, int(cx) - reach), min(labels.shape[1], int(cx) + reach + 1)):
            if labels[y, x] == 0 and relative_radius(y + 0.5 - cy, x + 0.5 - cx, shape) <= 1.0:
                labels[y, x] = label


@compiled
def place(
    labels: np.ndarray, ys: np.ndarray, xs: np.ndarray, shapes: np.ndarray, max_overlap: np.ndarray, first_label: int
) -> np.ndarray:
    """Stamp each nucleus at the first of its candidate places where it overlaps little enough.

    ys, xs are (n, tries) candidate centres in pixels; shapes is (n, 11): half axes, angle, four outline waves and their
    phases. Returns (n, 2) centres, -1 where no candidate was free.
    """
    n, tries = ys.shape
    centres = np.full((n, 2), -1.0)
    label = first_label
    for i in range(n):
        for t in range(tries):
            if fits(labels, ys[i, t], xs[i, t], shapes[i], max_overlap[i]):
                stamp(labels, ys[i, t], xs[i, t], shapes[i], label)
                centres[i, 0], centres[i, 1] = ys[i, t], xs[i, t]
                label += 1
                break
    return centres


@compiled
def paint(
    layers: np.ndarray,
    centres: np.ndarray,
    shapes: np.ndarray,
    amplitude: np.ndarray,
    layer: np.ndarray,
    rim: np.ndarray,
    grain: np.ndarray,
    texture: np.ndarray,
) -> None:
    """Add every nucleus to its focus layer: soft outline, chromatin texture, bright rim where vesicular.

    layers is (k, y, x) float32; overlapping nuclei add up, as light does in a section.
    """
    for i in range(centres.shape[0]):
        cy, cx = centres[i, 0], centres[i, 1]
        shape = shapes[i]
        radius = np.sqrt(shape[0] * shape[1])
        reach = int(max(shape[0], shape[1]) * 1.3) + 3
        for y in range(max(0, int(cy) - reach), min(layers.shape[1], int(cy) + reach + 1)):
            for x in range(max(0, int(cx) - reach), min(layers.shape[2], int(cx) + reach + 1)):
                rho = relative_radius(y + 0.5 - cy, x + 0.5 - cx, shape)
                cover = min(1.0, max(0.0, 0.5 + (1.0 - rho) * radius))
                if cover > 0.0:
                    body = 1.0 - rim[i] * (1.0 - min(1.0, rho) ** 4)
                    value = body * max(0.25, 1.0 + grain[i] * texture[y, x])
                    layers[layer[i], y, x] += np.float32(amplitude[i] * cover * value)


@compiled
def comb(noise: np.ndarray, angle: np.ndarray, steps: int) -> np.ndarray:
    """Mean of the noise along the direction field, `steps` pixels both ways: fibres (line integral convolution).

    noise and angle are (y, x) float32; angle in radians, 0 along x, y down.
    """
    height, width = noise.shape
    fibres = np.zeros_like(noise)
    for row in range(height):
        for column in range(width):
            total, n = noise[row, column], 1
            for sign in (-1.0, 1.0):
                y, x = row + 0.5, column + 0.5
                for _ in range(steps):
                    a = angle[int(y), int(x)]
                    y, x = y + sign * np.sin(a), x + sign * np.cos(a)
                    if y < 0 or x < 0 or y >= height or x >= width:
                        break
                    total += noise[int(y), int(x)]
                    n += 1
            fibres[row, column] = total / np.sqrt(n)
    return fibres


@compiled
def centroids(labels: np.ndarray, n: int) -> np.ndarray:
    """(n, 3): pixels, mean row and mean column (pixel centres at + 0.5) of the labels 1..n."""
    sums = np.zeros((n, 3))
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label:
                sums[label - 1, 0] += 1
                sums[label - 1, 1] += y + 0.5
                sums[label - 1, 2] += x + 0.5
    for i in range(n):
        if sums[i, 0]:
            sums[i, 1] /= sums[i, 0]
            sums[i, 2] /= sums[i, 0]
    return sums
