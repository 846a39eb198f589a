"""The path of a composite ROI of ImageJ: moves, lines and Bézier curves, as `java.awt.geom.PathIterator` has them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mihc.errors import AnnotationError

MOVE, LINE, QUADRATIC, CUBIC, CLOSE = range(5)
POINTS = {MOVE: 1, LINE: 1, QUADRATIC: 2, CUBIC: 3, CLOSE: 0}
STEPS = 64  # a quarter of a circle as one curve: its chords stay within 8e-5 of the radius


def path_rings(values: Sequence[float], place: str) -> list[np.ndarray]:
    """Return the closed outlines (n, 2) of a path given as segments: a code, then its points; curves as chords."""
    rings: list[list[tuple[float, float]]] = []
    at = 0
    while at < len(values):
        code = values[at]
        if code not in POINTS or at + 1 + 2 * POINTS[int(code)] > len(values):
            raise _broken(place)
        flat = values[at + 1 : at + 1 + 2 * POINTS[int(code)]]
        points = list(zip(flat[::2], flat[1::2]))
        at += 1 + len(flat)
        if code == MOVE:
            rings.append(points)
        elif not rings or not rings[-1]:
            raise _broken(place)
        elif code == CLOSE:
            rings[-1].append(rings[-1][0])
        else:
            rings[-1].extend(points if code == LINE else _curve([rings[-1][-1], *points]))
    closed = [ring if ring[0] == ring[-1] and len(ring) > 1 else [*ring, ring[0]] for ring in rings]
    return [np.array(ring, dtype=np.float64) for ring in closed]


def _curve(controls: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a Bézier curve after its first, by de Casteljau's rule; the last is the last control exactly."""
    t = np.linspace(0, 1, STEPS + 1)[1:, None]
    layer = [np.broadcast_to(np.asarray(point, dtype=np.float64), (STEPS, 2)) for point in controls]
    while len(layer) > 1:
        layer = [a * (1 - t) + b * t for a, b in pairwise(layer)]
    return [*map(tuple, layer[0][:-1].tolist()), controls[-1]]


def _broken(place: str) -> AnnotationError:
    return AnnotationError("a composite whose path cannot be read", place=place, fix="Save it in ImageJ again.")
