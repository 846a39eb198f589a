"""Rows of regions.csv and bands.csv: cells, positive cells, positivity and density of every population."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mihc.areas.bands import NO_BAND, Bands, banded_name, in_bands, split_name
from mihc.areas.region import ANALYSED
from mihc.bounds import Doubt
from mihc.strengths import counted_places

INTERVAL_COLUMNS = tuple(
    f"{name}_{end}" for name in ("positive_cells", "positivity_percent", "density_per_mm2") for end in ("low", "high")
)


def count_populations(
    cells: pd.DataFrame,
    *,
    populations: Mapping[str, str],
    area_mm2: Mapping[tuple[str, str], float],
    doubts: Mapping[str, Doubt] | None = None,
) -> pd.DataFrame:
    """Return rows of regions.csv for one slide: every population in every region of tumour, stroma and other.

    Parameters
    ----------
    cells : DataFrame
        One row per cell: `region`, `tissue_class` and a nullable boolean column per population. Cells of the classes
        excluded and outside are in no row.
    populations : dict
        Population name -> its column in `cells`.
    area_mm2 : dict
        (region, tissue_class) -> analysed area in mm². A region without cells still has its rows; NaN, or a region that
        is missing here, means that the area is unknown.
    doubts : dict
        Column of `cells` -> the rows whose call a threshold's interval leaves open, as `call_doubts` finds them.

    Returns
    -------
    DataFrame
        `region, tissue_class, population, cells, positive_cells, area_mm2, positivity_percent, density_per_mm2`, and
        with `doubts` positive_cells, positivity_percent and density_per_mm2 again as `_low` and `_high`, as far as
        the doubtful calls may turn, NaN for a column that is not among the doubts;
        positivity_percent = 100 positive_cells / cells, density_per_mm2 = positive_cells / area_mm2, NaN where the
        denominator is 0 or unknown. Where a cell of the region (or every cell of the slide) is null, it is not known
        how many are positive: positive_cells and what follows are NaN, cells and area_mm2 stand.
    """
    return _rows(cells, *counted_places(cells), populations, area_mm2, doubts)


def region_codes(cells: pd.DataFrame) -> np.ndarray:
    """(cells,) int64: 0, 1, ... for the region and class that a cell is counted in, -1 for one that is in no count."""
    return counted_places(cells)[0]


def _rows(
    cells: pd.DataFrame,
    place: np.ndarray,
    places: Sequence[tuple[str, str]],
    populations: Mapping[str, str],
    area_mm2: Mapping[tuple[str, str], float],
    doubts: Mapping[str, Doubt] | None,
) -> pd.DataFrame:
    """Rows of regions.csv where each cell is counted in one of `places`, (cells,) by number, or in none, -1."""
    keys = [key for key in area_mm2 if key[1] in ANALYSED]
    keys += sorted(set(places) - set(keys))
    number = {key: k for k, key in enumerate(keys)}
    code = np.array([*(number[key] for key in places), -1], dtype=np.int64)[place]
    total = np.bincount(code[code >= 0], minlength=len(keys))
    tables = [
        _count_one(cells[column], code, keys, total, name, area_mm2, (doubts or {}).get(column))
        for name, column in populations.items()
    ]
    if not tables or not keys:
        tables = [_count_one(pd.Series([], dtype="boolean"), code[:0], [], total[:0], "", {}, None)]
    rows = pd.concat(tables, ignore_index=True)
    rows = rows if doubts is not None else rows.drop(columns=list(INTERVAL_COLUMNS))
    order = np.arange(len(rows)).reshape(len(tables), len(rows) // len(tables)).T.ravel()  # region by region
    return rows.iloc[order].reset_index(drop=True)


def _count_one(
    column: pd.Series,
    code: np.ndarray,
    keys: Sequence[tuple[str, str]],
    total: np.ndarray,
    population: str,
    area_mm2: Mapping[tuple[str, str], float],
    doubt: Doubt | None,
) -> pd.DataFrame:
    calls = column.astype("boolean").array
    null, called = np.asarray(calls.isna()), calls.to_numpy(bool, na_value=False)
    positive = _in_regions(code[called], keys)
    unknown = _in_regions(code[null], keys) > 0
    positive[unknown | (len(null) > 0 and null.all())] = np.nan
    area = np.array([area_mm2.get(key, np.nan) for key in keys], dtype=np.float64)
    numbers = {"": positive, "_low": np.full(len(keys), np.nan), "_high": np.full(len(keys), np.nan)}
    if doubt is not None:
        numbers["_low"] = positive - _in_regions(code[doubt.positive], keys)
        numbers["_high"] = positive + _in_regions(code[doubt.negative], keys)
    measures = {end: _measures(count, total, area) for end, count in numbers.items()}
    return pd.DataFrame(
        {
            "region": [region for region, _ in keys],
            "tissue_class": [tissue_class for _, tissue_class in keys],
            "population": population,
            "cells": total.astype(np.int64),
            "positive_cells": positive,
            "area_mm2": area,
            "positivity_percent": measures[""][0],
            "density_per_mm2": measures[""][1],
            "positive_cells_low": numbers["_low"],
            "positive_cells_high": numbers["_high"],
            "positivity_percent_low": measures["_low"][0],
            "positivity_percent_high": measures["_high"][0],
            "density_per_mm2_low": measures["_low"][1],
            "density_per_mm2_high": measures["_high"][1],
        }
    )


def count_bands(
    cells: pd.DataFrame,
    *,
    populations: Mapping[str, str],
    area_mm2: Mapping[tuple[str, str, int], float],
    bands: Bands,
) -> pd.DataFrame:
    """Return rows of bands.csv for one slide: what `count_populations` counts, by the band that a cell lies in.

    Parameters
    ----------
    cells, populations
        As for `count_populations`; cells with `distance_to_margin_um`.
    area_mm2 : dict
        (region, tissue_class, band) -> mm², as `band_areas` gives it; a band that is missing has an unknown area.
    bands
        Their width and reach.

    Returns
    -------
    DataFrame
        The columns of `count_populations` and `from_um, to_um`, from the innermost band outwards. A band in which a
        region has neither area nor cells has no row.
    """
    areas = {(banded_name(name, k), kind): area for (name, kind, k), area in area_mm2.items() if k != NO_BAND}
    place, places = in_bands(*counted_places(cells), cells["distance_to_margin_um"], bands)
    rows = _rows(cells, place, places, populations, areas, None)
    placed = [split_name(name) for name in rows["region"]]
    limits = [bands.limits(band) for _, band in placed]
    rows["region"] = pd.Series([name for name, _ in placed], dtype=object)
    rows["from_um"] = np.array([low for low, _ in limits], dtype=np.float64)
    rows["to_um"] = np.array([high for _, high in limits], dtype=np.float64)
    return rows.sort_values("from_um", kind="stable", ignore_index=True)


def _in_regions(code: np.ndarray, keys: Sequence[object]) -> np.ndarray:
    """How many of the cells with these codes lie in each region; -1 is none of them."""
    return np.bincount(code[code >= 0], minlength=len(keys)).astype(np.float64)


def _measures(positive: np.ndarray, total: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positivity in percent and density per mm² of each region, NaN where there are no cells or there is no area."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            np.where(total > 0, 100 * positive / total, np.nan),
            np.where(area > 0, positive / area, np.nan),
        )
