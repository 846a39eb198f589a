"""Adjusting p for the number of tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mihc.errors import InputError
from mihc.estimates.records import FloatArray, check_choice, numbers

METHODS = ("BH", "BY", "holm", "hochberg", "bonferroni")


def adjust(p: ArrayLike, method: str = "BH") -> FloatArray:
    """p values adjusted for their number, in their order, as R's `p.adjust`.

    Parameters
    ----------
    p : (m,) raw p values; NaN (a test that could not be made) stays NaN and does not count.
    method : "BH" (Benjamini-Hochberg), "BY", "holm", "hochberg" or "bonferroni".
    """
    check_choice(method, METHODS, "method")
    raw = numbers(p, "p")
    made = ~np.isnan(raw)
    if np.any((raw[made] < 0) | (raw[made] > 1)):
        raise InputError(
            f"p values must lie between 0 and 1; found {raw[made][(raw[made] < 0) | (raw[made] > 1)][0]:g}"
        )
    adjusted = np.full(len(raw), np.nan)
    adjusted[made] = _adjusted(raw[made], method)
    return adjusted


def _adjusted(p: FloatArray, method: str) -> FloatArray:
    m = len(p)
    if method == "bonferroni":
        return np.minimum(p * m, 1)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, m + 1)
    factor = {
        "BH": m / rank,
        "BY": m / rank * (1 / rank).sum(),
        "holm": m + 1 - rank,
        "hochberg": m + 1 - rank,
    }[method]
    grown = np.minimum(p[order] * factor, 1)
    steps = np.maximum.accumulate(grown) if method == "holm" else np.minimum.accumulate(grown[::-1])[::-1]
    result = np.empty(m)
    result[order] = steps
    return result
