"""How strongly cells are positive: H-scores of regions, and the intensities of positive cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mihc.positives import marker_values

if TYPE_CHECKING:
    import pandas as pd

ANALYSED = ("tumour", "stroma", "other")
INTENSITY_COLUMNS = ("region", "tissue_class", "population", "marker", "positive_cells", "mean", "median")


def h_scores(cells: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """H-scores of rows of regions.csv: 1 x % weak + 2 x % moderate + 3 x % strong of all cells, from 0 to 300.

    Parameters
    ----------
    cells
        Cells table with `region`, `tissue_class` and, for markers with levels, `<marker>_level`.
    rows
        `region`, `tissue_class`, `population`.

    Returns
    -------
    ndarray
        (rows,) float64; NaN for a population without levels, in a region without cells, and where a level is null.
    """
    found = np.full(len(rows), np.nan)
    populations = rows["population"].to_numpy()
    if not any(f"{name}_level" in cells for name in set(populations)):
        return found
    import pandas as pd

    place = pd.MultiIndex.from_frame(rows[["region", "tissue_class"]].drop_duplicates())
    code = place.get_indexer(pd.MultiIndex.from_frame(cells[["region", "tissue_class"]]))
    total = np.bincount(code[code >= 0], minlength=len(place))
    of_row = place.get_indexer(pd.MultiIndex.from_frame(rows[["region", "tissue_class"]]))
    for name in [name for name in dict.fromkeys(populations) if f"{name}_level" in cells]:
        levels = cells[f"{name}_level"].astype("UInt8")
        null = levels.isna().to_numpy()
        summed = sum(
            level
            * np.bincount(code[(code >= 0) & (levels == level).fillna(False).to_numpy(bool)], minlength=len(place))
            for level in (1, 2, 3)
        )
        unknown = np.bincount(code[(code >= 0) & null], minlength=len(place)) > 0
        score = np.where((total > 0) & ~unknown, 100 * summed / np.maximum(total, 1), np.nan)
        found[populations == name] = score[of_row[populations == name]]
    return found


def intensities(
    cells: pd.DataFrame, populations: Mapping[str, Sequence[str]], *, compartments: Mapping[str, str]
) -> pd.DataFrame:
    """Mean and median of markers over the positive cells of populations, region by region.

    Parameters
    ----------
    cells
        Cells table with `region`, `tissue_class`, its calls, and the values that `marker_values` takes.
    populations
        Column of calls -> markers whose values are wanted; the population's name is the column's.
    compartments
        marker -> "nucleus" | "cytoplasm" | "cell".

    Returns
    -------
    DataFrame
        A row per analysed region, population and marker: `region, tissue_class, population, marker, positive_cells,
        mean, median` (counts; over the positive cells that have a value, NaN without one). A population with a null
        call in the region has NaN in the last three. Markers without values are left out.
    """
    import pandas as pd

    analysed = cells["tissue_class"].isin(ANALYSED).to_numpy()
    place = cells.loc[analysed, ["region", "tissue_class"]]
    keys = list(dict.fromkeys(sorted(place.drop_duplicates().itertuples(index=False, name=None))))
    if not keys:
        return pd.DataFrame(columns=list(INTENSITY_COLUMNS))
    code = pd.MultiIndex.from_tuples(keys).get_indexer(pd.MultiIndex.from_frame(place))
    known = {name for names in populations.values() for name in names if _has_values(cells, name, compartments[name])}
    values = {name: marker_values(cells, name, compartments[name])[analysed] for name in sorted(known)}
    rows = []
    for column, markers in populations.items():
        calls = cells.loc[analysed, column].astype("boolean")
        null, positive = calls.isna().to_numpy(), calls.fillna(False).to_numpy(bool)
        unknown = np.bincount(code[null], minlength=len(keys)) > 0
        at = np.flatnonzero(positive)
        at = at[np.argsort(code[at], kind="stable")]
        ends = np.searchsorted(code[at], np.arange(len(keys) + 1))
        for marker in [name for name in markers if name in values]:
            mine = values[marker][at]
            for number, key in enumerate(keys):
                found = mine[ends[number] : ends[number + 1]]
                row = (math.nan,) * 3 if unknown[number] else (len(found), *_middle(found))
                rows.append((*key, _population(column), marker, *row))
    return pd.DataFrame(rows, columns=list(INTENSITY_COLUMNS))


def _has_values(cells: pd.DataFrame, marker: str, compartment: str) -> bool:
    return f"{marker}_corrected" in cells or f"{marker}_{compartment}_mean" in cells


def _population(column: str) -> str:
    return column.removeprefix("phenotype_") if column.startswith("phenotype_") else column.removesuffix("_positive")


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Mean and median of the values that are there."""
    values = values[~np.isnan(values)]
    return (float(values.mean()), float(np.median(values))) if len(values) else (math.nan, math.nan)
