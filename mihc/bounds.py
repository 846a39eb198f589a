"""What the ends of the thresholds' intervals make of the calls: who may be no positive cell, and who else may be one.

Every threshold of an expression is taken at its worst end at once: at its high end where a positive marker helps the
phenotype, at its low end where it harms it (`CD3+ CD8-`: fewest with CD3 at its high and CD8 at its low end). So the
bounds hold whatever the thresholds are within their intervals; they are wider than an interval of 95 %.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mihc.phenotypes import Expression, parse_expression
from mihc.positives import marker_values
from mihc.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd
    from pandas.arrays import BooleanArray, IntegerArray


@dataclass(frozen=True)
class Doubt:
    """Cells of one population whose call the intervals leave open, as positions in the cells table."""

    positive: np.ndarray  # (n,) int64: called positive, and perhaps not
    negative: np.ndarray  # (m,) int64: not called positive, and perhaps so


def call_doubts(
    cells: pd.DataFrame,
    thresholds: Mapping[str, Threshold],
    called: pd.DataFrame,
    *,
    compartments: Mapping[str, str],
    phenotypes: Mapping[str, str] | None = None,
    brought: Collection[str] = (),
) -> dict[str, Doubt]:
    """Find the cells that another threshold within the intervals would call otherwise.

    Parameters
    ----------
    cells
        Cells table with `<marker>_<compartment>_mean`, counts.
    thresholds
        marker -> threshold; one without an interval (low or high is NaN) is taken as certain, and the plausible range
        of one that cannot be told is no interval.
    called
        What `call_positives` made of them: `<marker>_positive`, `<marker>_level`, `phenotype_<name>`.
    compartments
        marker -> "nucleus" | "cytoplasm" | "cell", of every marker that `called` has.
    phenotypes
        name -> expression over these markers and over the other names.
    brought
        Phenotypes among them that were called elsewhere, and are certain.

    Returns
    -------
    dict
        Column of `called` -> its doubt; a column that hangs on no interval is not in it. An unknown marker stays
        unknown: a cell counts as called for certain only where no value of it changes that.
    """
    ends = {
        marker: _ends(marker_values(cells, marker, compartments[marker]), threshold)
        for marker, threshold in thresholds.items()
        if np.isfinite([threshold.value, threshold.low, threshold.high]).all()
    }
    doubts = {}
    for marker, (fewest, most) in ends.items():
        column = f"{marker}_positive"
        doubts[column] = _doubt(np.flatnonzero(most & ~fewest), called[column], fewest, most)
    for name, text in (phenotypes or {}).items():
        expression = parse_expression(text, list(compartments), name=name, phenotypes=phenotypes)
        if name not in brought and any(marker in ends for marker in expression.markers):
            doubts[f"phenotype_{name}"] = _doubt_of(expression, ends, brought, called, called[f"phenotype_{name}"])
    return doubts


def bounds(
    expression: Expression,
    fewest: Mapping[str, BooleanArray],
    most: Mapping[str, BooleanArray],
    levels: Mapping[str, IntegerArray] | None = None,
) -> tuple[BooleanArray, BooleanArray]:
    """Evaluate an expression for as few and for as many cells as the markers allow, by Kleene's logic.

    Parameters
    ----------
    expression
        As `parse_expression` gives it.
    fewest, most
        marker, or phenotype that is certain, -> (cells,) nullable booleans; whoever is in `fewest` is in `most`.
    levels
        marker -> (cells,) levels 0 to 3, which are certain, as they are typed.
    """
    if expression.operator == "not":
        low, high = bounds(expression.parts[0], fewest, most, levels)
        return ~high, ~low
    if expression.operator == "phenotype" and expression.marker not in fewest:
        return bounds(expression.parts[0], fewest, most, levels)
    if expression.operator not in ("and", "or"):
        return expression.evaluate(fewest, levels), expression.evaluate(most, levels)
    low, high = bounds(expression.parts[0], fewest, most, levels)
    for part in expression.parts[1:]:
        other_low, other_high = bounds(part, fewest, most, levels)
        both = expression.operator == "and"
        low, high = (low & other_low, high & other_high) if both else (low | other_low, high | other_high)
    return low, high


def _ends(values: np.ndarray, threshold: Threshold) -> tuple[np.ndarray, np.ndarray]:
    """Positive at the high end of the interval, and at its low end."""
    return values >= threshold.high, values >= threshold.low


def _doubt_of(
    expression: Expression,
    ends: Mapping[str, tuple[np.ndarray, np.ndarray]],
    brought: Collection[str],
    called: pd.DataFrame,
    calls: pd.Series,
) -> Doubt:
    """Only cells that lie within an interval of one of its markers can be in doubt: few are looked at."""
    import pandas as pd

    within = np.zeros(len(called), dtype=bool)
    for marker in expression.markers:
        if marker in ends:
            within |= ends[marker][1] & ~ends[marker][0]
    place = np.flatnonzero(within)
    certain = {name: called[f"phenotype_{name}"].array[place] for name in brought}
    both: tuple[dict, dict] = dict(certain), dict(certain)
    for marker in expression.markers:
        for end, found in enumerate(both):
            found[marker] = (
                pd.array(ends[marker][end][place], dtype="boolean")
                if marker in ends
                else called[f"{marker}_positive"].array[place]
            )
    levels = {
        marker: called[f"{marker}_level"].array[place] for marker in expression.markers if f"{marker}_level" in called
    }
    low, high = bounds(expression, *both, levels)
    fewest, most = np.zeros(len(called), dtype=bool), np.zeros(len(called), dtype=bool)
    fewest[place], most[place] = low.fillna(False).to_numpy(bool), high.fillna(True).to_numpy(bool)
    return _doubt(place, calls, fewest, most)


def _doubt(place: np.ndarray, calls: pd.Series, fewest: np.ndarray, most: np.ndarray) -> Doubt:
    is_called = calls.array[place].fillna(False).to_numpy(bool)
    return Doubt(place[is_called & ~fewest[place]], place[~is_called & most[place]])
