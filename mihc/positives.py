"""Which cells are positive: thresholds with verdicts, calls per marker, phenotypes from expressions.

The door to three files: `thresholds.py` chooses, `phenotypes.py` parses, and this one calls. What calls say of each
other (pairs that cannot be, co-expression) is in `pairs.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mihc.phenotypes import LEVELS, Expression, conjuncts, parse_expression
from mihc.thresholds import VERDICTS, Threshold, choose_threshold, manual_threshold

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LEVELS",
    "VERDICTS",
    "Expression",
    "Threshold",
    "call_positives",
    "choose_threshold",
    "conjuncts",
    "manual_threshold",
    "marker_values",
    "parse_expression",
    "populations",
]


def marker_values(cells: pd.DataFrame, marker: str, compartment: str) -> np.ndarray:
    """Return the marker's value of every cell, (cells,) float64 counts: what calls are made by.

    That is `<marker>_corrected` where the table has it (`mihc.corrections`), else the mean in the panel's compartment.
    """
    corrected = f"{marker}_corrected"
    name = corrected if corrected in cells else f"{marker}_{compartment}_mean"
    return cells[name].to_numpy(dtype=np.float64)


def populations(markers: Iterable[str], phenotypes: Iterable[str]) -> dict[str, str]:
    """Map every population, a marker or a phenotype, to its column of the cells table."""
    return {marker: f"{marker}_positive" for marker in markers} | {name: f"phenotype_{name}" for name in phenotypes}


def call_positives(
    cells: pd.DataFrame,
    thresholds: Mapping[str, Threshold | float],
    *,
    compartments: Mapping[str, str],
    phenotypes: Mapping[str, str] | None = None,
    given: Mapping[str, pd.Series] | None = None,
    given_levels: Mapping[str, pd.Series] | None = None,
) -> pd.DataFrame:
    """Call every cell positive or negative for every marker and phenotype.

    Parameters
    ----------
    cells
        Cells table with `<marker>_<compartment>_mean`, counts, or `<marker>_corrected`, which goes before it.
    thresholds
        marker -> threshold; positive means value >= threshold, and so do moderate and strong where it has levels. A
        number is a manual threshold.
    compartments
        marker -> "nucleus" | "cytoplasm" | "cell".
    phenotypes
        name -> expression over these markers and over the other names; evaluated by Kleene's logic.
    given
        marker or phenotype -> calls that were made elsewhere, nullable booleans; such a marker needs no threshold.
    given_levels
        marker -> levels 0 to 3 that came with given calls.

    Returns
    -------
    DataFrame
        `<marker>_positive`, `<marker>_level` (nullable UInt8: 0 negative, 1 weak, 2 moderate, 3 strong) where levels
        are known, and `phenotype_<name>`; nullable booleans on the cells' index. A negative slide is False in every
        cell, one that cannot be told is null. A cell without the compartment (its value is NaN) is not positive.

    Raises
    ------
    PanelError
        When an expression cannot be read.
    """
    import pandas as pd

    cut = {name: one if isinstance(one, Threshold) else manual_threshold(one) for name, one in thresholds.items()}
    values = {marker: marker_values(cells, marker, compartments[marker]) for marker in cut}
    positive = {marker: _call(values[marker], threshold) for marker, threshold in cut.items()}
    levels = {marker: _level(values[marker], threshold) for marker, threshold in cut.items() if threshold.levels}
    levels |= {marker: found.astype("UInt8").array for marker, found in (given_levels or {}).items()}
    brought = {name: calls.astype("boolean").array for name, calls in (given or {}).items()}
    known = positive | brought
    expressions = phenotypes or {}
    markers = [name for name in known if name not in expressions]
    called = {f"{marker}_positive": known[marker] for marker in markers}
    called |= {f"{marker}_level": found for marker, found in levels.items()}
    for name, text in expressions.items():
        expression = parse_expression(text, markers, name=name, phenotypes=expressions)
        if name not in brought:
            known[name] = expression.evaluate(known, levels)
        called[f"phenotype_{name}"] = known[name]
    return pd.DataFrame(called, index=cells.index)


def _call(values: np.ndarray, threshold: Threshold) -> pd.arrays.BooleanArray:
    import pandas as pd

    if threshold.verdict == "negative slide":
        return pd.arrays.BooleanArray(np.zeros(len(values), bool), np.zeros(len(values), bool))
    unknown = np.full(len(values), threshold.verdict == "cannot tell")
    return pd.arrays.BooleanArray(values >= threshold.value, unknown)


def _level(values: np.ndarray, threshold: Threshold) -> pd.arrays.IntegerArray:
    """0 to 3: how many of the three cut-offs the value reaches."""
    import pandas as pd

    reached = np.zeros(len(values), np.uint8)
    for cut in (threshold.value, *threshold.levels):
        reached += values >= cut
    return pd.arrays.IntegerArray(reached, np.full(len(values), threshold.verdict == "cannot tell"))
