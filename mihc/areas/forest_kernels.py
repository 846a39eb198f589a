"""Compiled loops of the tissue classifier. Imported only where they run."""

# ruff: noqa: ANN001, ANN201  (the compiler infers the types)

from __future__ import annotations

import math

import numpy as np

from mihc.kernels import compiled


@compiled
def log_light(plane, dark, scale, lift):
    """Return float32 log2 of a (y, x) plane's counts above dark, in units of scale, lifted; one pixel at a time."""
    out = np.empty(plane.shape, np.float32)
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            out[y, x] = math.log2(max(plane[y, x] - dark, 0.0) / scale + lift)
    return out


@compiled
def probabilities(features, wanted, roots, feature, threshold, left, right, leaf):
    """Return (classes, n) float32: the mean over all trees of their leaves' shares, for columns of (features, n).

    A column goes left at a node where its feature is at most the threshold; a leaf has left = -1. Columns that are
    not wanted are 0 in every class.
    """
    n, classes = features.shape[1], leaf.shape[1]
    out = np.zeros((classes, n), np.float32)
    total = np.empty(classes, np.float64)
    for i in range(n):
        if not wanted[i]:
            continue
        total[:] = 0.0
        for t in range(len(roots)):
            node = roots[t]
            while left[node] >= 0:
                node = left[node] if features[feature[node], i] <= threshold[node] else right[node]
            for k in range(classes):
                total[k] += leaf[node, k]
        for k in range(classes):
            out[k, i] = total[k] / len(roots)
    return out
