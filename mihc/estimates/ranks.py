"""Rank tests: two groups, several groups, and correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.estimates.records import Estimate, FloatArray, check_choice, numbers, same_length
from mihc.estimates.roots import root_between

ALTERNATIVES = ("two-sided", "less", "greater")


@dataclass(frozen=True, kw_only=True)
class RankSum(Estimate):
    """A rank-sum test: `statistic` is W of the first group, `estimate` the shift of the first against the second."""

    n_x: int = 0
    n_y: int = 0
    auc: float = nan  # P(x > y) + P(x = y) / 2 for a random pair


def rank_sum(
    x: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "auto",
    alternative: str = "two-sided",
    correct: bool = True,
    confidence: float = 0.95,
) -> RankSum:
    """Compare two groups by Wilcoxon's rank sum, as R's `wilcox.test(x, y, conf.int = TRUE)`.

    Parameters
    ----------
    x, y : (n,) values of the two groups; NaN is missing and dropped, infinite values are ranked.
    method : "auto" follows R 4.2: exact if both groups are smaller than 50 and nothing is tied, else "normal":
        tie-corrected variance with continuity correction (`correct`). "exact" permutes the ranks, ties included
        (as `coin::wilcox_test(distribution = "exact")`: two-sided = at least as far from the mean).
    alternative : "two-sided", "less" (x lower than y) or "greater".

    Returns
    -------
    RankSum : W, p, the Hodges-Lehmann shift of x against y with its two-sided interval, and the AUC.
        An empty group, or a normal approximation where all values are equal, gives NaN and a note.
        With ties, shift and limits come from inverting the normal test, as in R, whatever gave p.

    References
    ----------
    Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, chapter 4.
    Streitberg, Röhmel: Exact distributions for permutation and rank tests (the shift algorithm), 1986.
    """
    check_choice(method, ("auto", "exact", "normal"), "method")
    check_choice(alternative, ALTERNATIVES, "alternative")
    xs, ys = (values[~np.isnan(values)] for values in (numbers(x, "x"), numbers(y, "y")))
    if not len(xs) or not len(ys):
        return RankSum(
            n=len(xs) + len(ys), n_x=len(xs), n_y=len(ys), method="Wilcoxon rank sum", note="a group is empty"
        )
    ranks, ties = midranks(np.concatenate([xs, ys]))
    tied = bool(len(ties) < len(ranks))
    exact = _is_exact(method, tied, len(xs), len(ys))
    W, p = rank_sum_p(ranks, ties, len(xs), method=method, alternative=alternative, correct=correct)
    if exact:
        words = "Wilcoxon rank sum, exact" + ", ties permuted" * tied
    else:
        words = "Wilcoxon rank sum, normal, ties corrected" + ", continuity corrected" * correct
    shift, low, high = hodges_lehmann(xs, ys, exact=exact and not tied, correct=correct, confidence=confidence)
    return RankSum(
        statistic=W, p=p, estimate=shift, ci_low=low, ci_high=high, n=len(ranks), n_x=len(xs), n_y=len(ys),
        auc=W / (len(xs) * len(ys)), method=words, note="all values are equal" if len(ties) == 1 else "",
    )  # fmt: skip


def _is_exact(method: str, tied: bool, n_x: int, n_y: int) -> bool:
    return method == "exact" or (method == "auto" and not tied and max(n_x, n_y) < 50)


def rank_sum_p(
    ranks: FloatArray, ties: NDArray, n_x: int, *, method: str = "auto", alternative: str = "two-sided",
    correct: bool = True,
) -> tuple[float, float]:  # fmt: skip
    """W and p of `rank_sum` from what `midranks` gave of both groups, the first n_x ranks being the first group's."""
    n_y = len(ranks) - n_x
    W = float(ranks[:n_x].sum() - n_x * (n_x + 1) / 2)
    tied = bool(len(ties) < len(ranks))
    if _is_exact(method, tied, n_x, n_y):
        return W, _exact_p(ranks, n_x, alternative, tied)
    return W, _normal_p(W, n_x, n_y, ties, alternative, correct)


def midranks(values: NDArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Ranks from 1, ties sharing their mean rank, and how many values share each distinct value."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place.ravel()], counts


def _exact_p(ranks: FloatArray, n_x: int, alternative: str, tied: bool) -> float:
    """P over all choices of n_x of these ranks."""
    sums, mass = _rank_sum_distribution(n_x, tuple(np.rint(ranks * (1 + tied)).astype(int)) if tied else len(ranks))
    observed = round(float(ranks[:n_x].sum()) * (1 + tied))
    below, above = float(mass[sums <= observed].sum()), float(mass[sums >= observed].sum())
    if alternative != "two-sided":
        return min(1.0, below if alternative == "less" else above)
    twice_mean = 2 * n_x * float(ranks.sum() * (1 + tied)) / len(ranks)
    far = np.abs(2 * sums - twice_mean) >= abs(2 * observed - twice_mean) - 1e-6
    return min(1.0, float(mass[far].sum()))


@lru_cache(maxsize=64)
def _rank_sum_distribution(n_x: int, ranks: int | tuple[int, ...]) -> tuple[NDArray, FloatArray]:
    """Every rank sum that n_x of the whole-numbered `ranks` (or of 1..ranks) can have, and its probability."""
    scores = sorted(range(1, ranks + 1) if isinstance(ranks, int) else ranks)
    ways = np.zeros((n_x + 1, sum(scores[len(scores) - n_x :]) + 1))
    ways[0, 0] = 1.0
    for score in scores:
        ways[1:, score:] += ways[:-1, : ways.shape[1] - score]
    return np.arange(ways.shape[1]), ways[n_x] / ways[n_x].sum()


def _normal_p(W: float, n_x: int, n_y: int, ties: NDArray, alternative: str, correct: bool) -> float:
    excess = W - n_x * n_y / 2
    spread = _rank_sum_sd(n_x, n_y, ties)
    if spread == 0:
        return nan
    half = {"two-sided": np.sign(excess) * 0.5, "greater": 0.5, "less": -0.5}[alternative] * correct
    z = float(excess - half) / spread
    tail = {
        "two-sided": 2 * min(special.ndtr(z), special.ndtr(-z)),
        "greater": special.ndtr(-z),
        "less": special.ndtr(z),
    }
    return min(1.0, float(tail[alternative]))


def _rank_sum_sd(n_x: int, n_y: int, ties: NDArray) -> float:
    n = n_x + n_y
    tied = float((ties.astype(float) ** 3 - ties).sum())
    return sqrt(max(0.0, n_x * n_y / 12 * (n + 1 - tied / (n * (n - 1)))))


def hodges_lehmann(
    x: FloatArray, y: FloatArray, *, exact: bool, correct: bool = True, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The shift of x against y and its limits: of all differences if `exact`, else by inverting the normal test."""
    if exact:
        return _shift_of_differences(x, y, confidence)
    if not np.isfinite(x).all() or not np.isfinite(y).all() or np.ptp(np.concatenate([x, y])) == 0:
        return nan, nan, nan
    low, high = float(x.min() - y.max()), float(x.max() - y.min())
    if low == high:
        return low, nan, nan
    z = float(special.ndtri(1 - (1 - confidence) / 2))

    differences = np.subtract.outer(x, y)

    def crossing(quantile: float, corrected: bool) -> float:
        root = root_between(lambda shift: _shifted_z(x, y, shift, corrected) - quantile, low, high)
        nearest = float(differences.flat[int(np.abs(differences - root).argmin())])
        return nearest if abs(nearest - root) <= 1e-9 * max(1.0, abs(high - low)) else root  # a jump is a difference

    return crossing(0.0, False), crossing(z, correct), crossing(-z, correct)


def _shift_of_differences(x: FloatArray, y: FloatArray, confidence: float) -> tuple[float, float, float]:
    with np.errstate(invalid="ignore"):
        differences = np.sort(np.subtract.outer(x, y), axis=None)
    sums, mass = _rank_sum_distribution(len(x), len(x) + len(y))
    cumulative = np.cumsum(mass)
    first = sums[np.searchsorted(cumulative, (1 - confidence) / 2 * (1 - 1e-12))] - len(x) * (len(x) + 1) // 2
    skip = max(int(first), 1)
    with np.errstate(invalid="ignore"):
        return float(np.median(differences)), float(differences[skip - 1]), float(differences[-skip])


def _shifted_z(x: FloatArray, y: FloatArray, shift: float, correct: bool) -> float:
    ranks, ties = midranks(np.concatenate([x - shift, y]))
    excess = float(ranks[: len(x)].sum()) - len(x) * (len(x) + 1) / 2 - len(x) * len(y) / 2
    return (excess - correct * float(np.sign(excess)) * 0.5) / _rank_sum_sd(len(x), len(y), ties)


def kruskal(groups: Sequence[ArrayLike]) -> Estimate:
    """Compare several groups by Kruskal-Wallis, tie-corrected, chi-squared with groups - 1 (R's `kruskal.test`).

    `groups` holds one list of values per group, NaN dropped. Empty groups are left out and named in the note by
    their place; fewer than two groups, or all values equal, gives NaN.
    """
    values = [array[~np.isnan(array)] for array in (numbers(group, "group") for group in groups)]
    filled = [array for array in values if len(array)]
    n, method = sum(len(array) for array in filled), "Kruskal-Wallis, ties corrected"
    if len(filled) < 2:
        return Estimate(n=n, method=method, note="fewer than two groups have values")
    ranks, ties = midranks(np.concatenate(filled))
    correction = 1 - float((ties.astype(float) ** 3 - ties).sum()) / (n**3 - n)
    if correction <= 0:
        return Estimate(n=n, method=method, note="all values are equal")
    parts = np.split(ranks, np.cumsum([len(array) for array in filled])[:-1])
    H = (12 / (n * (n + 1)) * sum(part.sum() ** 2 / len(part) for part in parts) - 3 * (n + 1)) / correction
    empty = len(values) - len(filled)
    return Estimate(
        statistic=float(H), p=float(special.chdtrc(len(filled) - 1, H)), n=n, method=method,
        note=f"{empty} empty group(s) left out" if empty else "",
    )  # fmt: skip


def spearman(x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Rank correlation of paired values, p from Student's t (R's `cor.test(method = "spearman", exact = FALSE)`).

    Pairs with a NaN are dropped. The interval is Fisher's z with Bonett and Wright's variance (1 + rho²/2)/(n - 3)
    (Psychometrika 65, 2000). A constant column or fewer than three pairs gives NaN and a note.
    """
    xs, ys = numbers(x, "x"), numbers(y, "y")
    same_length(x=xs, y=ys)
    whole = ~np.isnan(xs) & ~np.isnan(ys)
    n, method = int(whole.sum()), "Spearman, t approximation"
    if n < 3:
        return Estimate(n=n, method=method, note="fewer than three pairs")
    ranks = [midranks(values[whole])[0] for values in (xs, ys)]
    centred = [rank - (n + 1) / 2 for rank in ranks]
    scale = sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    if scale == 0:
        return Estimate(n=n, method=method, note="one of the two is constant")
    rho = float(np.clip((centred[0] * centred[1]).sum() / scale, -1, 1))
    t = rho * sqrt((n - 2) / (1 - rho**2)) if abs(rho) < 1 else np.copysign(np.inf, rho)
    low, high = _fisher_z_limits(rho, n, confidence)
    return Estimate(
        statistic=float(t), p=float(2 * special.stdtr(n - 2, -abs(t))), estimate=rho, ci_low=low, ci_high=high, n=n,
        method=method, note="" if n > 3 else "no interval from three pairs",
    )  # fmt: skip


def _fisher_z_limits(rho: float, n: int, confidence: float) -> tuple[float, float]:
    if n < 4:
        return nan, nan
    if abs(rho) == 1:
        return rho, rho
    reach = float(special.ndtri(0.5 + confidence / 2)) * sqrt((1 + rho**2 / 2) / (n - 3))
    return float(np.tanh(np.arctanh(rho) - reach)), float(np.tanh(np.arctanh(rho) + reach))


@dataclass(frozen=True)
class Box:
    """The numbers of one box plot."""

    whisker_low: float
    quartile_low: float
    median: float
    quartile_high: float
    whisker_high: float
    outliers: tuple[float, ...]
    n: int


def box_numbers(values: ArrayLike) -> Box:
    """Quartiles by R's type 7, whiskers to the furthest value within 1.5 interquartile ranges (as ggplot2).

    NaN is dropped; without values everything is NaN.
    """
    whole = np.sort(numbers(values, "values"))
    whole = whole[~np.isnan(whole)]
    if not len(whole):
        return Box(nan, nan, nan, nan, nan, (), 0)
    low, middle, high = (float(quartile) for quartile in np.quantile(whole, [0.25, 0.5, 0.75]))
    reach = 1.5 * (high - low)
    inside = (whole >= low - reach) & (whole <= high + reach)
    near = whole[inside]
    return Box(
        min(low, float(near.min())), low, middle, high, max(high, float(near.max())),
        tuple(float(value) for value in whole[~inside]), len(whole),
    )  # fmt: skip
