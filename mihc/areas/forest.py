"""A forest of decision trees as arrays of numbers: stored as JSON, evaluated by our own loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mihc.errors import InputError


@dataclass(frozen=True, eq=False)
class Forest:
    """All nodes of all trees one after the other; children and roots are indices of nodes."""

    roots: np.ndarray  # (trees,) int64
    feature: np.ndarray  # (nodes,) int64, -1 in a leaf
    threshold: np.ndarray  # (nodes,) float64: at most this goes left
    left: np.ndarray  # (nodes,) int64, -1 in a leaf
    right: np.ndarray
    leaf: np.ndarray  # (nodes, classes) float64, shares that sum to 1; only read in leaves

    def probabilities(self, features: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return (classes, n) float32 for columns of features (features, n) float32; 0 where not `wanted` (n,)."""
        from mihc.areas import forest_kernels

        wanted = np.ones(features.shape[1], dtype=bool) if wanted is None else wanted
        nodes = (self.roots, self.feature, self.threshold, self.left, self.right, self.leaf)
        return forest_kernels.probabilities(np.ascontiguousarray(features, dtype=np.float32), wanted, *nodes)

    def as_json(self) -> dict[str, list]:
        """Return the forest as plain lists; leaves hold their shares, inner nodes none."""
        inner = self.left >= 0
        return {
            "roots": self.roots.tolist(),
            "feature": self.feature.tolist(),
            "threshold": self.threshold.tolist(),
            "left": self.left.tolist(),
            "right": self.right.tolist(),
            "leaf": [[] if one else shares for one, shares in zip(inner, self.leaf.tolist())],
        }


def forest_from_json(content: Mapping[str, Any], *, features: int, classes: int) -> Forest:
    """Return the forest that `as_json` wrote.

    Raises
    ------
    InputError
        When the numbers are no forest over that many features and classes: every walk must end in a leaf.
    """
    try:
        integers = {name: np.array(content[name], dtype=np.int64) for name in ("roots", "feature", "left", "right")}
        threshold = np.array(content["threshold"], dtype=np.float64)
        leaf = np.array([shares or [0.0] * classes for shares in content["leaf"]], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"its forest cannot be read: {error}") from None
    forest = Forest(threshold=threshold, leaf=leaf, **integers)
    if not _is_sound(forest, features, classes):
        raise InputError("its forest is damaged: a node names what is not there")
    return forest


def _is_sound(forest: Forest, features: int, classes: int) -> bool:
    nodes = len(forest.left)
    shapes = {len(forest.feature), len(forest.threshold), len(forest.right), nodes}
    if len(shapes) != 1 or not nodes or forest.leaf.shape != (nodes, classes) or not len(forest.roots):
        return False
    number, inner = np.arange(nodes), forest.left >= 0
    children = np.concatenate([forest.left[inner], forest.right[inner]])
    onward = np.concatenate([number[inner], number[inner]])
    return bool(
        ((forest.roots >= 0) & (forest.roots < nodes)).all()
        and ((children > onward) & (children < nodes)).all()  # onwards only: no walk goes round in a circle
        and ((forest.feature[inner] >= 0) & (forest.feature[inner] < features)).all()
        and np.isfinite(forest.threshold[inner]).all()
        and np.isfinite(forest.leaf).all()
    )
