"""What every test and estimate returns, and the checks that every one of them makes first."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One test or estimate; what could not be computed is NaN and `note` says why."""

    statistic: float = nan
    p: float = nan  # two-sided unless `method` says otherwise
    estimate: float = nan  # the effect on its own scale: shift, odds ratio, hazard ratio, proportion, months ...
    ci_low: float = nan
    ci_high: float = nan
    n: int = 0  # patients analysed
    n_events: int | None = None  # of them with an event; None where nothing is followed up
    method: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ChiSquared(Estimate):
    """A test whose `statistic` is chi-squared with `df` degrees of freedom."""

    df: int = 0


def chi_squared(statistic: float, df: int) -> ChiSquared:
    """The upper tail of chi-squared; with no degree of freedom p is 1, as R has it."""
    if df < 1:
        return ChiSquared(statistic=0.0, df=0, p=1.0, note="nothing to test")
    statistic = max(0.0, statistic)
    return ChiSquared(statistic=statistic, df=df, p=float(special.chdtrc(df, statistic)))


def numbers(values: ArrayLike, name: str) -> FloatArray:
    """`values` as a 1-D float array (missing = NaN), or an `InputError` that names `name`."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers; found {values!r:.80}") from error
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional; found {array.ndim} dimensions")
    return array


def labels(values: ArrayLike, name: str) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Group labels as objects, and where they are present (not None, NaN or "")."""
    array = np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional; found {array.ndim} dimensions")
    return array, np.array([is_label(value) for value in array], dtype=bool)


def is_label(value: object) -> bool:
    """Whether `value` names a group: anything but None, "", NaN and pandas' NA."""
    if value is None or (isinstance(value, str) and not value):
        return False
    same = value == value  # NaN is not equal to itself; pandas' NA answers neither yes nor no
    return bool(same) if isinstance(same, (bool, np.bool_)) else False


def in_order(values: list[object]) -> list[object]:
    """Distinct labels, numbers by size and text alphabetically (capitals beside small letters, as R's factors)."""
    distinct = set(values)
    try:
        return sorted(distinct, key=lambda label: (label.casefold(), label) if isinstance(label, str) else label)
    except TypeError as error:
        raise InputError("group labels must be of one kind, all text or all numbers") from error


def coded_terms(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of text as 0/1 columns, one per level but the first, as R's treatment contrasts; numbers as they are."""
    columns: dict[str, FloatArray] = {}
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            columns[str(name)] = column.to_numpy(dtype=float, na_value=nan)
            continue
        values, present = labels(column.to_numpy(dtype=object), str(name))
        if not any(isinstance(value, str) for value in values[present]):
            columns[str(name)] = numbers([value if one else nan for value, one in zip(values, present)], str(name))
            continue
        for level in in_order(values[present].tolist())[1:]:
            columns[f"{name}{level}"] = np.where(present, (values == level).astype(float), nan)
    return pd.DataFrame(columns, index=table.index)


def same_length(**arrays: NDArray) -> None:
    """Refuse columns of different lengths, naming each."""
    if len({len(array) for array in arrays.values()}) > 1:
        found = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise InputError(f"columns of different lengths: {found}", fix="Give one value per patient in each.")


def follow_up(time: ArrayLike, event: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Times (>= 0) and events (0 or 1), each possibly NaN, checked."""
    times, events = numbers(time, "time"), numbers(event, "event")
    same_length(time=times, event=events)
    if np.any(times < 0):
        raise InputError(f"times must not be negative; found {times[times < 0][0]:g}")
    odd = events[~np.isnan(events) & (events != 0) & (events != 1)]
    if len(odd):
        raise InputError(f"events must be 0 (censored) or 1; found {odd[0]:g}", fix="Set event_value in study.toml.")
    return times, events


def check_choice(value: str, allowed: tuple[str, ...], name: str) -> None:
    """Refuse a word that is not one of `allowed`."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}; found {value!r}")
