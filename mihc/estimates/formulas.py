"""R's survival formulas, read as columns of a table, so that an R call can be repeated word for word."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mihc.errors import InputError
from mihc.estimates.records import FloatArray, coded_terms, is_label, numbers

FUNCTIONS = {"log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt, "exp": np.exp}
FORM = "Surv(time, event) ~ term + term * term + strata(column)"


@dataclass(frozen=True, eq=False)
class ModelColumns:
    """What a formula names, as columns of the table it was read with."""

    time: FloatArray
    event: FloatArray
    covariates: (
        pd.DataFrame
    )  # for `cox`: text coded 0/1, interactions after the plain terms, as R orders and names them
    groups: NDArray[np.object_] | None  # for `log_rank` and `kaplan_meier_by`; None for "~ 1"
    group_names: dict[object, str]  # how R names each group: "sex=1"
    strata: NDArray[np.object_] | None


def model_columns(formula: str, table: pd.DataFrame) -> ModelColumns:
    """The columns that a survival formula of R names.

    Parameters
    ----------
    formula : `Surv(time, event) ~ a + b`, with `a * b` or `a:b` for interactions, log(), log1p(), log2(), log10(),
        sqrt() and exp() of a column, `strata(a)` or `strata(a, b)`, or `~ 1`.
    table : the columns; missing is NaN, None or "".

    Returns
    -------
    ModelColumns : see its fields. With several terms the groups are their combinations, the last term changing fastest.

    Raises
    ------
    InputError : for a column that is not there or a formula of another form.
    """
    parts = re.fullmatch(r"\s*Surv\(\s*([^,()]+?)\s*,\s*([^,()]+?)\s*\)\s*~\s*(.+?)\s*", formula)
    if parts is None:
        raise InputError(f"not a survival formula: {formula}", fix=f"Write it as {FORM}.")
    time, event = (numbers(_column(table, parts[place]), parts[place]) for place in (1, 2))
    plain: list[tuple[str, ...]] = []
    strata: list[str] = []
    for written in re.split(r"\+(?![^(]*\))", parts[3]):
        term = written.strip()
        layered = re.fullmatch(r"strata\(\s*(.+?)\s*\)", term)
        if layered:
            strata += [name.strip() for name in layered[1].split(",")]
        elif term != "1":
            plain += _expanded(term)
    terms = list(dict.fromkeys(sorted(plain, key=len)))
    groups, names = _groups(table, [term[0] for term in terms if len(term) == 1])
    return ModelColumns(
        time=time, event=event, covariates=_covariates(table, terms), groups=groups, group_names=names,
        strata=_combined(table, strata) if strata else None,
    )  # fmt: skip


def _expanded(term: str) -> list[tuple[str, ...]]:
    """`a * b` is a, b and a:b."""
    factors = [factor.strip() for factor in term.split("*")]
    if len(factors) > 2:
        raise InputError(f"interactions of more than two terms are not read: {term}")
    if len(factors) == 2:
        return [(factors[0],), (factors[1],), tuple(factors)]
    return [tuple(factor.strip() for factor in term.split(":"))]


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table.columns:
        raise InputError(f"no column {name!r}; the table has {', '.join(map(str, table.columns))}")
    return table[name]


def _term(table: pd.DataFrame, name: str) -> pd.Series:
    """A column, or a function of one, NaN where the function has no value."""
    called = re.fullmatch(r"(\w+)\(\s*([^()]+?)\s*\)", name)
    if called is None:
        return _column(table, name)
    if called[1] not in FUNCTIONS:
        raise InputError(f"{called[1]}() is not known; known are {', '.join(FUNCTIONS)}")
    values = numbers(_column(table, called[2]), called[2])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return pd.Series(FUNCTIONS[called[1]](values), index=table.index)


def _covariates(table: pd.DataFrame, terms: list[tuple[str, ...]]) -> pd.DataFrame:
    coded: dict[str, pd.Series] = {}
    for term in terms:
        sides = [coded_terms(pd.DataFrame({name: _term(table, name)})) for name in term]
        made = {str(name): sides[0][name] for name in sides[0].columns}
        for side in sides[1:]:
            made = {f"{one}:{two}": made[one] * side[two] for two in side.columns for one in made}
        coded |= made
    return pd.DataFrame(coded, index=table.index)


def _groups(table: pd.DataFrame, terms: list[str]) -> tuple[NDArray[np.object_] | None, dict[object, str]]:
    if not terms:
        return None, {}
    groups = _combined(table, terms)
    names = {}
    for group in dict.fromkeys(group for group in groups if is_label(group)):
        parts = group if isinstance(group, tuple) else (group,)
        names[group] = ", ".join(f"{term}={_text(part)}" for term, part in zip(terms, parts, strict=True))
    return groups, names


def _combined(table: pd.DataFrame, names: list[str]) -> NDArray[np.object_]:
    """One column as it is; several as tuples, None where any is missing."""
    columns = [_term(table, name).to_numpy(dtype=object) for name in names]
    combined = np.empty(len(table), dtype=object)
    for place, row in enumerate(zip(*columns, strict=True)):
        combined[place] = None if not all(is_label(value) for value in row) else row if len(row) > 1 else row[0]
    return combined


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, (float, np.floating)) else str(value)
