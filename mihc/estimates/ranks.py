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
    auc_low: float = nan
    auc_high: float = nan
    z: float = nan  # W standardised with ties, without continuity correction
    tied: bool = False  # whether any two values are equal


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
        An empty group, or a normal approximation where all values are equal, gives NaN and a note. The AUC's interval
        is Newcombe's (fifth) method, which stays open where the groups do not overlap at all.
        With ties, shift and limits come from inverting the normal test, as in R, whatever gave p.

    References
    ----------
    Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, chapter 4.
    Streitberg, Röhmel: Exact distributions for permutation and rank tests (the shift algorithm), 1986.
    Newcombe: Statistics in Medicine 25, 2006 (interval of the AUC).
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
    spread, auc = _rank_sum_sd(len(xs), len(ys), ties), W / (len(xs) * len(ys))
    auc_low, auc_high = _auc_limits(auc, len(xs), len(ys), confidence)
    return RankSum(
        statistic=W, p=p, estimate=shift, ci_low=low, ci_high=high, n=len(ranks), n_x=len(xs), n_y=len(ys),
        auc=auc, auc_low=auc_low, auc_high=auc_high, z=(W - len(xs) * len(ys) / 2) / spread if spread > 0 else nan,
        tied=tied, method=words, note="all values are equal" if len(ties) == 1 else "",
    )  # fmt: skip


def _auc_limits(auc: float, n_x: int, n_y: int, confidence: float) -> tuple[float, float]:
    """Where the AUC found lies just z standard errors from the AUC supposed (Hanley and McNeil's error of that)."""
    z = float(special.ndtri(0.5 + confidence / 2))
    middle = (n_x + n_y) / 2 - 1

    def far(supposed: float) -> float:
        spread = (
            supposed * (1 - supposed) * (1 + middle * ((1 - supposed) / (2 - supposed) + supposed / (1 + supposed)))
        )
        return abs(auc - supposed) - z * sqrt(max(0.0, spread) / (n_x * n_y))

    limits = []
    for end in (0.0, 1.0):
        inner, outer = auc, end
        for _ in range(60):
            half = (inner + outer) / 2
            inner, outer = (inner, half) if far(half) > 0 else (half, outer)
        limits.append(outer if inner != end else end)
    return limits[0], limits[1]


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
    order = np.argsort(values, kind="stable")
    if (values[order[1:]] > values[order[:-1]]).all():  # no two are equal, as of most shifts that are tried
        ranks = np.empty(len(values))
        ranks[order] = np.arange(1.0, len(values) + 1)
        return ranks, np.ones(len(values), dtype=np.int64)
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


def spearman(x: ArrayLike, y: ArrayLike, *, method: str = "auto", confidence: float = 0.95) -> Estimate:
    """Rank correlation of paired values, as R's `cor.test(method = "spearman")`.

    Parameters
    ----------
    x, y : (n,) numbers; pairs with a NaN are dropped.
    method : "auto" follows R: "exact" without ties and below 1290 pairs, else "t". "exact" counts all permutations of
        up to nine pairs and takes Edgeworth's series beyond (algorithm AS 89, Best and Roberts: Applied Statistics 24,
        1975), as R does; with ties it is refused into "t", as in R. "t" is Student's approximation.

    Returns
    -------
    Estimate : rho with its two-sided p; `statistic` is R's S (the sum of squared differences of ranks) where p is
        exact, else t. The interval is Fisher's z with Bonett and Wright's variance (1 + rho²/2)/(n - 3) (Psychometrika
        65, 2000); R gives none. A constant column or fewer than three pairs gives NaN and a note.
    """
    check_choice(method, ("auto", "exact", "t"), "method")
    xs, ys = numbers(x, "x"), numbers(y, "y")
    same_length(x=xs, y=ys)
    whole = ~np.isnan(xs) & ~np.isnan(ys)
    n = int(whole.sum())
    if n < 3:
        return Estimate(n=n, method="Spearman", note="fewer than three pairs")
    ranks, ties = zip(*(midranks(values[whole]) for values in (xs, ys)), strict=True)
    centred = [rank - (n + 1) / 2 for rank in ranks]
    scale = sqrt(float((centred[0] ** 2).sum()) * float((centred[1] ** 2).sum()))
    if scale == 0:
        return Estimate(n=n, method="Spearman", note="one of the two is constant")
    rho = float(np.clip((centred[0] * centred[1]).sum() / scale, -1, 1))
    low, high = _fisher_z_limits(rho, n, confidence)
    tied = any(len(counts) < n for counts in ties)
    common = {"estimate": rho, "ci_low": low, "ci_high": high, "n": n}
    common["note"] = "" if n > 3 else "no interval from three pairs"
    if not tied and (method == "exact" or (method == "auto" and n < 1290)):
        S = float(((ranks[0] - ranks[1]) ** 2).sum())
        words = "Spearman, exact" if n <= 9 else "Spearman, Edgeworth series (AS 89)"
        return Estimate(**common, statistic=S, p=_squared_differences_p(round(S), n), method=words)
    t = rho * sqrt((n - 2) / (1 - rho**2)) if abs(rho) < 1 else np.copysign(np.inf, rho)
    p = float(2 * special.stdtr(n - 2, -abs(t)))
    return Estimate(**common, statistic=float(t), p=p, method="Spearman, t approximation" + ", ties" * tied)


def _squared_differences_p(S: int, n: int) -> float:
    """Two-sided p of a sum of squared rank differences without ties (always even)."""
    middle = (n**3 - n) / 6
    one_side = _at_least(S, n) if middle < S else 1 - _at_least(S + 2, n)
    return min(1.0, max(0.0, 2 * one_side))


def _at_least(S: int, n: int) -> float:
    """P(sum of squared rank differences >= S) over all permutations, or its Edgeworth series."""
    if S <= 0:
        return 1.0
    if (n**3 - n) / 3 < S:
        return 0.0
    if n <= 9:
        sums, mass = _squared_differences(n)
        return float(mass[sums >= S].sum())
    b = 1 / n
    x = (6 * (S - 1) * b / (n**2 - 1) - 1) * sqrt(n - 1)
    y = x * x
    inner = 0.0072 - 0.0831 * b + y * b * (0.0131 - 4.6e-4 * y)
    u = x * b * (
        0.2274 + b * (0.2531 + 0.1745 * b)
        + y * (-0.0758 + b * (0.1033 + 0.3932 * b) - y * b * (0.0879 + 0.0151 * b - y * inner))
    )  # fmt: skip
    return float(np.clip(u * np.exp(-y / 2) + special.ndtr(-x), 0, 1))


@lru_cache(maxsize=16)
def _squared_differences(n: int) -> tuple[NDArray, FloatArray]:
    """Every sum of squared differences of a permutation of 1..n from 1..n, and its probability."""
    size = (n**3 - n) // 3 + 1
    ways = {0: np.eye(1, size)[0]}  # by which ranks are taken
    for place in range(n):
        following: dict[int, FloatArray] = {}
        for taken, counts in ways.items():
            for rank in range(n):
                if taken >> rank & 1:
                    continue
                moved = np.zeros(size)
                shift = (rank - place) ** 2
                moved[shift:] = counts[: size - shift]
                following[taken | 1 << rank] = following.get(taken | 1 << rank, 0.0) + moved
        ways = following
    (counts,) = ways.values()
    return np.arange(size), counts / counts.sum()


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
    notch_low: float = nan  # median -+ 1.58 (box height) / sqrt(n)
    notch_high: float = nan


def box_numbers(values: ArrayLike, *, hinges: str = "type7") -> Box:
    """Quartiles, whiskers to the furthest value within 1.5 box heights, and the values beyond.

    Parameters
    ----------
    values : (n,) numbers; NaN is dropped. Without values everything is NaN.
    hinges : "type7": R's default quantile, as ggplot2 and numpy; "tukey": the medians of the two halves, each with the
        middle value, as R's `boxplot.stats`. They differ unless n mod 4 = 1.
    """
    check_choice(hinges, ("type7", "tukey"), "hinges")
    whole = np.sort(numbers(values, "values"))
    whole = whole[~np.isnan(whole)]
    n = len(whole)
    if not n:
        return Box(nan, nan, nan, nan, nan, (), 0)
    if hinges == "tukey":
        half = whole[: (n + 1) // 2]
        low, middle, high = (float(np.median(part)) for part in (half, whole, whole[n // 2 :]))
    else:
        low, middle, high = (float(quartile) for quartile in np.quantile(whole, [0.25, 0.5, 0.75]))
    reach, notch = 1.5 * (high - low), 1.58 * (high - low) / sqrt(n)
    inside = (whole >= low - reach) & (whole <= high + reach)
    near = whole[inside] if inside.any() else np.array([low, high])
    ends = float(near.min()), float(near.max())
    if hinges == "type7":
        ends = min(low, ends[0]), max(high, ends[1])
    return Box(
        ends[0], low, middle, high, ends[1], tuple(float(value) for value in whole[~inside]), n, middle - notch,
        middle + notch,
    )  # fmt: skip
