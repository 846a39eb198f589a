"""R's `pmethod = "HL"`: the p of a maximally selected rank statistic from scores rounded to whole numbers.

Hothorn and Lausen (CSDA 43, 2003) count permutations: the exact distribution of one cut's sum is countable when the
scores are whole numbers, and of several cuts the chances are added, less those that are surely counted twice. With A_k
the sums of k scores that lie further out than the largest found, and B_k those of A_{k-1} that stay in A_k after one
more score (none in the upper tail, the largest in the lower one),

    p = sum over the cuts k of P(T_k in A_k) - sum over the cuts after the first of P(T_{k-1} in B_k).

It is computed as R does, which a statistician who repeats it will see: strictly further out, by double arithmetic in
R's order; a sum of 0 is in no A_k; k - 1 is one patient fewer even where the cut before is several. With such steps it
is no proved limit, and the p that mihc quotes is by permutation.
"""

from __future__ import annotations

from math import nan

import numpy as np

from mihc.estimates.records import FloatArray

LARGEST_COHORT = 170  # R gives none beyond, because its factorials overflow


def whole_score_limit(scores: FloatArray, sizes: FloatArray) -> tuple[float, float]:
    """The largest standardised statistic of the scores rounded to 0..n, and R's p for it.

    Parameters
    ----------
    scores : (n,) in the marker's order; they are shifted to 0 and stretched to n before rounding, as in R.
    sizes : how many patients are at or below each cut, increasing.

    Returns
    -------
    statistic, p : p counts statistics strictly above the one found, as R does (with one cut: at least as large); NaN
        for more than 170 patients, as in R.
    """
    n, groups = len(scores), sizes.astype(np.int64)
    if n > LARGEST_COHORT or n < 2 or np.ptp(scores) == 0:
        return nan, nan
    whole = np.rint((scores - scores.min()) * n / (scores - scores.min()).max()).astype(np.int64)
    mean, spread = _moments(whole)
    found = np.abs((np.cumsum(whole)[groups - 1] - mean[groups]) / spread[groups]).max()
    shares = _sum_shares(whole)
    sums = np.arange(shares.shape[1])
    if len(groups) == 1:
        away = np.abs(sums - mean[groups[0]])
        return float(found), _at_most_one(shares[groups[0], away >= found * spread[groups[0]] - 1e-9 * n].sum())
    far = np.zeros(shares.shape, dtype=bool)  # (n + 1, sums): A_k
    far[1:n] = np.abs((sums - mean[1:n, None]) / spread[1:n, None]) > found
    far &= shares > 0
    far[:, 0] = False
    once = sum(shares[k, far[k]].sum() for k in groups)
    twice = sum(
        shares[k - 1, _stays(far[k - 1], far[k], sums < mean[k - 1], int(whole.max()))].sum() for k in groups[1:]
    )
    return float(found), _at_most_one(once - twice)


def _moments(whole: np.ndarray) -> tuple[FloatArray, FloatArray]:
    """(n + 1,) mean and SD of the sum of k scores drawn without replacement, in R's order of operations."""
    n, total, squares = len(whole), float(whole.sum()), float((whole**2).sum())
    k = np.arange(n + 1)
    return k / n * total, np.sqrt(k * (n - k) / (n**2 * (n - 1)) * (n * squares - total**2))


def _sum_shares(whole: np.ndarray) -> FloatArray:
    """(n + 1, sums): the share of all sets of k patients whose scores have each sum."""
    ways = np.zeros((len(whole) + 1, int(whole.sum()) + 1))
    ways[0, 0] = 1.0
    for score in whole:
        ways[1:, score:] += ways[:-1, : ways.shape[1] - score].copy()
    return ways / ways.sum(axis=1, keepdims=True)


def _stays(before: np.ndarray, after: np.ndarray, low: np.ndarray, largest: int) -> np.ndarray:
    """Which of the far sums of k - 1 scores are far with k too: the low ones even with the largest score more."""
    moved = np.zeros_like(after)
    moved[: len(after) - largest] = after[largest:]
    return before & np.where(low, moved, after)


def _at_most_one(p: float) -> float:
    return float(min(1.0, p))
