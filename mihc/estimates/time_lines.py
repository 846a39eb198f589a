"""Two numbers beside a cut of follow-up times: how straight the times are, and how small a group may be."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import ArrayLike

from mihc.errors import InputError
from mihc.estimates.records import FloatArray, numbers


def straight_line_residual(time: ArrayLike) -> float:
    """Residual sum of squares of one least-squares line of the sorted times on their rank; NaN without times.

    What two lines have to beat: below 1e-10 of the times' total sum of squares no slope changes.
    """
    times = numbers(time, "time")
    ordered = np.sort(times[~np.isnan(times)])
    return _residual(ordered) if len(ordered) else float("nan")


def smallest_group(n: int, min_share: float = 0.1) -> int:
    """Patients that a cut of n follow-up times must leave on each side: max(2, ceil(min_share n))."""
    if n < 0 or not 0 <= min_share < 1:
        raise InputError(f"need n >= 0 and 0 <= min_share < 1; found {n}, {min_share}")
    return max(2, ceil(min_share * n))


def _residual(y: FloatArray) -> float:
    x = np.arange(len(y)) - (len(y) - 1) / 2
    centred = y - y.mean()
    return float(max(0.0, (centred**2).sum() - (x @ centred) ** 2 / (x @ x))) if len(y) > 1 else 0.0
