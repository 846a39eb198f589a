"""Rows of regions.csv: cells, positive cells, positivity and density of every population, by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.regions import Region, assign_regions, count_populations, distance_to_margin


def region(tissue_class, polygon):
    return Region(tissue_class, tissue_class, polygon)


def counted(cells, area):
    return count_populations(cells, populations={"CD8": "CD8_positive"}, area_mm2=area)


def cells_of(*rows):
    cells = pd.DataFrame(rows, columns=["region", "tissue_class", "CD8_positive"])
    return cells.astype({"CD8_positive": "boolean"})


def test_positivity_and_density_by_hand():
    cells = cells_of(
        *[("t", "tumour", k < 3) for k in range(8)], ("fold", "excluded", True), ("outside", "outside", True)
    )
    (row,) = counted(cells, {("t", "tumour"): 0.5, ("fold", "excluded"): 1.0}).to_dict("records")
    assert row == {
        "region": "t",
        "tissue_class": "tumour",
        "population": "CD8",
        "cells": 8,
        "positive_cells": 3,
        "area_mm2": 0.5,
        "positivity_percent": 37.5,
        "density_per_mm2": 6.0,
    }


def test_a_null_population_leaves_cells_and_area_standing():
    cells = cells_of(("t", "tumour", None), ("t", "tumour", None))
    row = counted(cells, {("t", "tumour"): 0.5, ("s", "stroma"): 1.0}).set_index("region")
    assert row["cells"].tolist() == [2, 0]
    assert row["area_mm2"].tolist() == [0.5, 1.0]
    assert row[["positive_cells", "positivity_percent", "density_per_mm2"]].isna().all(axis=None)


def test_one_unknown_cell_makes_its_region_unknown_but_not_the_others():
    cells = cells_of(("t", "tumour", None), ("t", "tumour", True), ("s", "stroma", True))
    rows = counted(cells, {("t", "tumour"): 1.0, ("s", "stroma"): 1.0}).set_index("region")
    assert math.isnan(rows.loc["t", "positive_cells"])
    assert rows.loc["s", "positive_cells"] == 1


def test_zero_is_measured_none_and_nan_is_undefined():
    rows = counted(cells_of(("t", "tumour", False)), {("t", "tumour"): 0.0, ("s", "stroma"): 2.0}).set_index("region")
    assert rows.loc["t", "positivity_percent"] == 0
    assert math.isnan(rows.loc["t", "density_per_mm2"])
    assert rows.loc["s", "density_per_mm2"] == 0
    assert math.isnan(rows.loc["s", "positivity_percent"])


def test_where_no_area_is_known_density_is_nan():
    rows = counted(cells_of(("t", "tumour", True)), {})
    assert rows["positivity_percent"].tolist() == [100]
    assert rows[["area_mm2", "density_per_mm2"]].isna().all(axis=None)


def test_every_population_has_a_row_in_every_region():
    cells = cells_of(("a", "tumour", True)).assign(PD1=pd.array([False], dtype="boolean"))
    rows = count_populations(
        cells, populations={"CD8": "CD8_positive", "PD-1": "PD1"}, area_mm2={("a", "tumour"): 1, ("b", "stroma"): 1}
    )
    assert rows[["region", "population"]].to_numpy().tolist() == [
        ["a", "CD8"],
        ["a", "PD-1"],
        ["b", "CD8"],
        ["b", "PD-1"],
    ]


def test_a_slide_without_regions_has_no_rows():
    assert counted(cells_of(("outside", "outside", True)), {}).empty
    assert count_populations(cells_of(), populations={}, area_mm2={}).empty


@given(k=st.sampled_from([0.5, 2.0, 4.0]), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=20)
def test_NP29_pixel_size_scales_areas_and_densities_and_no_count(k, seed):
    random = np.random.default_rng(seed)
    x, y = random.random((2, 200)) * 100
    tables, margins = [], []
    for scale in (1.0, k):
        regions = [
            region("tumour", shapely.affinity.scale(shapely.Point(40, 50).buffer(30), scale, scale, origin=(0, 0)))
        ]
        cells = assign_regions(x * scale, y * scale, regions)
        cells["CD8_positive"] = pd.array(x > 30, dtype="boolean")
        margins.append(distance_to_margin(x * scale, y * scale, regions))
        tables.append(counted(cells, {("tumour", "tumour"): regions[0].area_mm2}).iloc[0])
    for same in ("cells", "positive_cells", "positivity_percent"):
        assert tables[0][same] == tables[1][same]
    assert np.allclose(margins[0] * k, margins[1], rtol=1e-12, atol=1e-9)
    assert math.isclose(tables[0]["area_mm2"] * k**2, tables[1]["area_mm2"], rel_tol=1e-12)
    assert math.isclose(tables[0]["density_per_mm2"] / k**2, tables[1]["density_per_mm2"], rel_tol=1e-12)
    for table in tables:
        assert 0 < table["positive_cells"] < table["cells"]
        assert table["density_per_mm2"] == table["positive_cells"] / table["area_mm2"]
