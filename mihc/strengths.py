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


def counted_places(cells: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Say where each cell is counted.

    Parameters
    ----------
    cells
        `region` and `tissue_class`, texts or categories.

    Returns
    -------
    ndarray, list
        (cells,) int64: the number of its region and class in the list, -1 where the class is not analysed; the list
        has those that any cell is in.
    """
    regions, names = _coded(cells["region"])
    classes, kinds = _coded(cells["tissue_class"])
    both = regions * len(kinds) + classes
    there = np.bincount(both, minlength=len(names) * len(kinds)) > 0
    present = np.flatnonzero(there & np.tile(kinds.isin(ANALYSED), len(names)))
    number = np.full(len(there), -1, dtype=np.int64)
    number[present] = np.arange(len(present))
    return number[both], [(names[one // len(kinds)], kinds[one % len(kinds)]) for one in present.tolist()]


def _coded(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """(rows,) int64: which of the texts each is; categories have that at hand."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype) and column.notna().all():
        return column.cat.codes.to_numpy(dtype=np.int64), column.cat.categories
    return pd.factorize(column, use_na_sentinel=False)


def numbered(codes: np.ndarray, count: int) -> tuple[np.ndarray, list[int]]:
    """Number the codes below `count` that occur 0, 1, ..., -1 staying -1 -> (n,) int64, and the codes by number."""
    present = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=count))
    number = np.full(count + 1, -1, dtype=np.int64)
    number[present] = np.arange(len(present))
    return number[codes], present.tolist()


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
    at, places = counted_places(cells)
    number = {key: k for k, key in enumerate(dict.fromkeys([*zip(rows["region"], rows["tissue_class"]), *places]))}
    code = np.array([*(number[key] for key in places), -1], dtype=np.int64)[at]
    total = np.bincount(code[code >= 0], minlength=len(number))
    of_row = np.array([number[key] for key in zip(rows["region"], rows["tissue_class"])], dtype=np.int64)
    for name in [name for name in dict.fromkeys(populations) if f"{name}_level" in cells]:
        levels = cells[f"{name}_level"].astype("UInt8")
        null = levels.isna().to_numpy()
        summed = sum(
            level
            * np.bincount(code[(code >= 0) & (levels == level).fillna(False).to_numpy(bool)], minlength=len(number))
            for level in (1, 2, 3)
        )
        unknown = np.bincount(code[(code >= 0) & null], minlength=len(number)) > 0
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

    place, places = counted_places(cells)
    keys = sorted(places)
    if not keys:
        return pd.DataFrame(columns=list(INTENSITY_COLUMNS))
    code = np.array([*(keys.index(key) for key in places), -1])[place]
    known = {name for names in populations.values() for name in names if _has_values(cells, name, compartments[name])}
    values = {name: marker_values(cells, name, compartments[name]) for name in sorted(known)}
    rows = []
    for column, markers in populations.items():
        calls = cells[column].astype("boolean")
        unknown = np.bincount(code[calls.isna().to_numpy() & (code >= 0)], minlength=len(keys)) > 0
        at = np.flatnonzero(calls.to_numpy(bool, na_value=False) & (code >= 0))
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
