"""Which cells are positive: thresholds with verdicts, calls per marker, phenotypes from expressions.

The door to three files: `thresholds.py` chooses, `phenotypes.py` parses, and this one calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mihc.phenotypes import Expression, parse_expression
from mihc.thresholds import VERDICTS, Threshold, choose_threshold, manual_threshold

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "VERDICTS",
    "Expression",
    "Threshold",
    "call_positives",
    "choose_threshold",
    "manual_threshold",
    "marker_values",
    "parse_expression",
    "populations",
]


def marker_values(cells: pd.DataFrame, marker: str, compartment: str) -> np.ndarray:
    """Return the marker's value of every cell: its mean in the panel's compartment, (cells,) float64 counts."""
    return cells[f"{marker}_{compartment}_mean"].to_numpy(dtype=np.float64)


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
) -> pd.DataFrame:
    """Call every cell positive or negative for every marker and phenotype.

    Parameters
    ----------
    cells
        Cells table with `<marker>_<compartment>_mean`, counts.
    thresholds
        marker -> threshold; positive means value >= threshold. A number is a manual threshold.
    compartments
        marker -> "nucleus" | "cytoplasm" | "cell".
    phenotypes
        name -> expression over these markers; evaluated by Kleene's logic.
    given
        marker -> calls that were made elsewhere, nullable booleans; such a marker needs no threshold.

    Returns
    -------
    DataFrame
        `<marker>_positive` and `phenotype_<name>`, nullable booleans on the cells' index. A negative slide is False in
        every cell, one that cannot be told is null. A cell without the compartment (its value is NaN) is not positive.

    Raises
    ------
    PanelError
        When an expression cannot be read.
    """
    import pandas as pd

    positive = {
        marker: _call(marker_values(cells, marker, compartments[marker]), threshold)
        for marker, threshold in thresholds.items()
    }
    positive |= {marker: calls.astype("boolean").array for marker, calls in (given or {}).items()}
    called = {f"{marker}_positive": calls for marker, calls in positive.items()}
    for name, text in (phenotypes or {}).items():
        expression = parse_expression(text, list(positive), name=name)
        called[f"phenotype_{name}"] = expression.evaluate(positive)
    return pd.DataFrame(called, index=cells.index)


def _call(values: np.ndarray, threshold: Threshold | float) -> pd.arrays.BooleanArray:
    import pandas as pd

    if not isinstance(threshold, Threshold):
        threshold = manual_threshold(threshold)
    if threshold.verdict == "negative slide":
        return pd.arrays.BooleanArray(np.zeros(len(values), bool), np.zeros(len(values), bool))
    unknown = np.full(len(values), threshold.verdict == "cannot tell")
    return pd.arrays.BooleanArray(values >= threshold.value, unknown)
