"""An upper limit of the exact p of a maximally selected rank statistic, from scores rounded to whole numbers.

The formula was found by comparing bounds with R's answers, not taken from a proof.

Hothorn and Lausen (CSDA 43, 2003) bound P(max |T| > b) through the exact permutation distributions of the statistics of
single cuts, which are countable when the scores are whole numbers. Ours is such a bound: a permutation is counted at
its last cut beyond b only, as far as that can be told from one cut's sum: with S the sum of the first m scores and k
patients more in the next group, S + (the k smallest scores) above the next upper limit, or S + (the k largest) below
the next lower one, makes sure of the next cut too. R's maxstat (`pmethod = "HL"`) knows somewhat more than that, so
that its p can be smaller than ours, and where rounding decides (a perfect order) both can be below the true p.
"""

from __future__ import annotations

from math import nan

import numpy as np

from mihc.estimates.records import FloatArray

LARGEST_COHORT = 170  # R gives none beyond, because its factorials overflow


def whole_score_limit(scores: FloatArray, sizes: FloatArray) -> tuple[float, float]:
    """The largest standardised statistic of the scores rounded to 0..n, and the upper limit of its p.

    Parameters
    ----------
    scores : (n,) in the marker's order; they are shifted to 0 and stretched to n before rounding, as in R.
    sizes : how many patients are at or below each cut.

    Returns
    -------
    statistic, p : p counts statistics strictly above the one found, as R does (with one cut: at least as large); NaN
        for more than 170 patients, as in R.
    """
    n, groups = len(scores), sizes.astype(np.int64)
    if n > LARGEST_COHORT or n < 2 or np.ptp(scores) == 0:
        return nan, nan
    whole = np.rint((scores - scores.min()) * n / np.ptp(scores)).astype(np.int64)
    total = int(whole.sum())
    mean = groups / n * total
    spread = np.sqrt(groups * (n - groups) / (n**2 * (n - 1)) * (n * float((whole**2).sum()) - float(total) ** 2))
    b = float((np.abs(np.cumsum(whole)[groups - 1] - mean) / spread).max())
    shares = _sum_shares(whole, groups)
    far = (np.arange(total + 1)[None, :] - mean[:, None]) / spread[:, None]
    if len(groups) == 1:
        return b, min(1.0, float(shares[0][np.abs(far[0]) >= b - 1e-9].sum()))
    above, below = far > b, far < -b
    ordered = np.sort(whole)
    p = float(shares[-1][above[-1] | below[-1]].sum())
    for place, more in enumerate(np.diff(groups)):
        least, most = int(ordered[:more].sum()), int(ordered[len(ordered) - more :].sum())
        also_above = _moved(above[place + 1], least, beyond=True)
        also_below = _moved(below[place + 1], most, beyond=False)
        p += float(shares[place][(above[place] & ~also_above) | (below[place] & ~also_below)].sum())
    return b, min(1.0, p)


def _sum_shares(whole: np.ndarray, groups: np.ndarray) -> FloatArray:
    """For each group size: the share of all sets of that many patients whose scores have each sum."""
    ways = np.zeros((int(groups.max()) + 1, int(whole.sum()) + 1))
    ways[0, 0] = 1.0
    for score in whole:
        ways[1:, score:] += ways[:-1, : ways.shape[1] - score].copy()
    return ways[groups] / ways[groups].sum(axis=1, keepdims=True)


def _moved(flags: np.ndarray, by: int, *, beyond: bool) -> np.ndarray:
    """Whether the sum `by` higher is flagged; sums higher than any are `beyond`."""
    moved = np.full(len(flags), beyond)
    moved[: max(0, len(flags) - by)] = flags[by:]
    return moved
