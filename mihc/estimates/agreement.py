"""How well two observers, or two ways of measuring, agree: kappa for categories, ICC for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate, FloatArray, check_choice, in_order, labels, same_length

KINDS = ("agreement", "consistency", "one-way")
WEIGHTS = ("none", "linear", "quadratic")
NOBODY = "no subject was labelled by both"


@dataclass(frozen=True, kw_only=True)
class Kappa(Estimate):
    """Chance-corrected agreement; the interval uses `standard_error`, p the error under no agreement."""

    standard_error: float = nan
    observed: float = nan  # share of subjects on which the two agree (weighted)
    expected: float = nan  # by chance


def kappa(a: ArrayLike, b: ArrayLike, *, weights: str = "none", confidence: float = 0.95) -> Kappa:
    """Cohen's kappa of two observers' labels, as R's `psych::cohen.kappa` and `vcd::Kappa`.

    Parameters
    ----------
    a, b : (n,) labels of the same subjects; None, NaN and "" are missing, and such a subject is dropped.
    weights : "none", or "linear" or "quadratic" by the distance of the labels in their order (numbers by size, text
        alphabetically: number the categories to order them).

    Returns
    -------
    Kappa : 1 is full agreement, 0 what chance gives. NaN and a note where both used one and the same label throughout
        (chance alone gives full agreement) or nobody was labelled by both.

    References
    ----------
    Fleiss, Cohen, Everitt: Psychological Bulletin 72, 1969 (large-sample standard errors).
    """
    check_choice(weights, WEIGHTS, "weights")
    (first, one), (second, two) = labels(a, "a"), labels(b, "b")
    same_length(a=first, b=second)
    both = one & two
    levels = in_order([*first[both].tolist(), *second[both].tolist()])
    place = {level: at for at, level in enumerate(levels)}
    counts = np.zeros((len(levels), len(levels)), dtype=np.int64)
    for left, right in zip(first[both], second[both], strict=True):
        counts[place[left], place[right]] += 1
    return kappa_of_counts(counts, weights=weights, confidence=confidence)


def kappa_of_counts(counts: ArrayLike, *, weights: str = "none", confidence: float = 0.95) -> Kappa:
    """`kappa` of a table that counts the subjects: rows one observer's labels, columns the other's, in one order."""
    check_choice(weights, WEIGHTS, "weights")
    counted = np.asarray(counts)
    if counted.ndim != 2 or counted.shape[0] != counted.shape[1] or (counted < 0).any():
        raise InputError(f"counts must be a square table of numbers from 0; found shape {counted.shape}")
    n, method = int(counted.sum()), "Cohen's kappa" + ("" if weights == "none" else f", {weights} weights")
    if not n:
        return Kappa(n=0, method=method, note=NOBODY)
    table = counted / n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    credit = _credit(len(table), weights)
    observed, expected = float((credit * table).sum()), float(rows @ credit @ columns)
    if expected >= 1 - 1e-12:
        note = "both gave one and the same label throughout"
        return Kappa(n=n, method=method, observed=observed, expected=expected, note=note)
    found = (observed - expected) / (1 - expected)
    by_row, by_column = credit @ columns, rows @ credit
    outer = by_row[:, None] + by_column[None, :]
    spread = (table * (credit - outer * (1 - found)) ** 2).sum() - (found - expected * (1 - found)) ** 2
    error = sqrt(max(0.0, float(spread)) / n) / (1 - expected)
    chance = (rows[:, None] * columns[None, :] * (credit - outer) ** 2).sum() - expected**2
    chance_error = sqrt(max(0.0, float(chance)) / n) / (1 - expected)
    z = found / chance_error if chance_error > 0 else nan
    reach = float(special.ndtri(0.5 + confidence / 2)) * error
    return Kappa(
        statistic=z, p=float(2 * special.ndtr(-abs(z))), estimate=found, ci_low=max(-1.0, found - reach),
        ci_high=min(1.0, found + reach), n=n, method=method, standard_error=error, observed=observed, expected=expected,
    )  # fmt: skip


def _credit(k: int, weights: str) -> FloatArray:
    if weights == "none" or k < 2:
        return np.eye(k)
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k))) / (k - 1)
    return 1 - (distance if weights == "linear" else distance**2)


def icc(table: ArrayLike, *, kind: str = "agreement", confidence: float = 0.95) -> Estimate:
    """Intraclass correlation of one measurement, as R's `irr::icc(type = ..., unit = "single")`.

    Parameters
    ----------
    table : (subjects, raters) numbers; a subject with anything missing is dropped.
    kind : "agreement": two-way, raters drawn at random, absolute agreement: ICC(A,1), Shrout and Fleiss's ICC(2,1);
        "consistency": two-way, raters may differ by a constant: ICC(C,1), ICC(3,1);
        "one-way": each subject has raters of its own: ICC(1,1).

    Returns
    -------
    Estimate : the correlation, F limits, and F with its p against no correlation. NaN and a note with fewer than two
        subjects or raters, or where all values are equal.

    References
    ----------
    Shrout, Fleiss: Psychological Bulletin 86, 1979; McGraw, Wong: Psychological Methods 1, 1996 (limits).
    """
    check_choice(kind, KINDS, "kind")
    try:
        values = np.asarray(table, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("the table must hold numbers, one row per subject and one column per rater") from error
    if values.ndim != 2:
        raise InputError(f"the table must be (subjects, raters); found shape {values.shape}")
    values = values[np.isfinite(values).all(axis=1)]
    n, k = values.shape
    method = f"ICC, {kind}, single measurement"
    if n < 2 or k < 2:
        return Estimate(n=n, method=method, note="fewer than two subjects or raters")
    largest = float(np.abs(values).max())
    values = values / largest if largest > 0 else values
    centred = values - values.mean()
    total = float((centred**2).sum())
    if total <= 1e-20:
        return Estimate(n=n, method=method, note="all values are equal")
    subjects = float(k * (centred.mean(axis=1) ** 2).sum())
    raters = float(n * (centred.mean(axis=0) ** 2).sum())
    between = subjects / (n - 1)
    if kind == "one-way":
        within = max(0.0, total - subjects) / (n * (k - 1))
        return _from_f(between, within, k, n - 1, n * (k - 1), n, method, confidence)
    rest = max(0.0, total - subjects - raters) / ((n - 1) * (k - 1))
    if kind == "consistency":
        return _from_f(between, rest, k, n - 1, (n - 1) * (k - 1), n, method, confidence)
    return _absolute(between, raters / (k - 1), rest, n, k, method, confidence)


def _from_f(
    between: float, within: float, k: int, df1: int, df2: int, n: int, method: str, confidence: float
) -> Estimate:
    if within <= 1e-20 * between:
        return Estimate(estimate=1.0, ci_low=1.0, ci_high=1.0, statistic=np.inf, p=0.0, n=n, method=method)
    F, tail = between / within, (1 - confidence) / 2
    low = F / float(special.fdtri(df1, df2, 1 - tail))
    high = F * float(special.fdtri(df2, df1, 1 - tail))
    return Estimate(
        statistic=F, p=float(special.fdtrc(df1, df2, F)), estimate=(F - 1) / (F + k - 1),
        ci_low=(low - 1) / (low + k - 1), ci_high=(high - 1) / (high + k - 1), n=n, method=method,
    )  # fmt: skip


def _absolute(between: float, raters: float, rest: float, n: int, k: int, method: str, confidence: float) -> Estimate:
    """McGraw and Wong's limits for ICC(A,1), with Satterthwaite's degrees of freedom."""
    whole = between + (k - 1) * rest + k * (raters - rest) / n
    if whole <= 1e-12 * (between + rest + raters):
        return Estimate(n=n, method=method, note="the raters contradict each other: no variance is left to share")
    found = (between - rest) / whole
    if rest <= 1e-20 * max(between, raters):
        note = "the raters differ by a constant only: no interval" if raters > 1e-20 * between else ""
        limits = (nan, nan) if note else (1.0, 1.0)
        return Estimate(estimate=found, ci_low=limits[0], ci_high=limits[1], n=n, method=method, note=note)
    a = k * found / (n * (1 - found))
    b = 1 + k * found * (n - 1) / (n * (1 - found))
    mix = (a * raters) ** 2 / (k - 1) + (b * rest) ** 2 / ((n - 1) * (k - 1))
    if mix <= 1e-20 * (raters + rest) ** 2:
        return Estimate(estimate=found, n=n, method=method, note="no interval: the approximation has no freedom left")
    df = (a * raters + b * rest) ** 2 / mix
    tail = (1 - confidence) / 2
    upper, lower = (float(special.fdtri(*pair, 1 - tail)) for pair in ((n - 1, df), (df, n - 1)))
    mixed = k * raters + (k * n - k - n) * rest
    F = between / rest
    return Estimate(
        statistic=F, p=float(special.fdtrc(n - 1, (n - 1) * (k - 1), F)), estimate=found,
        ci_low=n * (between - upper * rest) / (upper * mixed + n * between),
        ci_high=n * (lower * between - rest) / (mixed + n * lower * between), n=n, method=method,
    )  # fmt: skip
