"""Levels, H-scores and intensities, by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.positives import Threshold, call_positives, manual_threshold, marker_values
from mihc.regions import count_populations
from mihc.strengths import h_scores, intensities

CELL = {"CD3": "cell"}


def in_regions(levels: list, regions: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({"region": regions, "tissue_class": ["tumour"] * len(regions)})
    return table.assign(CD3_level=pd.array(levels, dtype="UInt8"))


def rows_of(regions: list[str], populations: list[str]) -> pd.DataFrame:
    rows = [(region, "tumour", population) for region in regions for population in populations]
    return pd.DataFrame(rows, columns=["region", "tissue_class", "population"])


# ---- levels


def test_levels_by_hand():
    cells = pd.DataFrame({"CD3_cell_mean": [9.0, 10.0, 19.9, 20.0, 30.0, math.nan]})
    called = call_positives(cells, {"CD3": manual_threshold(10, levels=(20, 30))}, compartments=CELL)
    assert called["CD3_level"].tolist() == [0, 1, 1, 2, 3, 0]
    assert str(called["CD3_level"].dtype) == "UInt8"
    assert called["CD3_positive"].tolist() == [False, True, True, True, True, False]


def test_without_levels_there_is_no_column_of_them():
    called = call_positives(pd.DataFrame({"CD3_cell_mean": [9.0]}), {"CD3": 10.0}, compartments=CELL)
    assert list(called) == ["CD3_positive"]
    assert Threshold(1, 1, 1, "manual", "manual", "").levels == ()


@given(st.lists(st.floats(0, 100), max_size=40), st.lists(st.floats(0, 100), min_size=3, max_size=3, unique=True))
def test_a_higher_level_is_a_part_of_the_lower_one(values, cuts):
    weak, *levels = sorted(cuts)
    cells = pd.DataFrame({"CD3_cell_mean": np.array(values, dtype=float)})
    phenotypes = {"weak": "CD3+", "moderate": "CD3++", "strong": "CD3+++", "none": "CD3-"}
    thresholds = {"CD3": manual_threshold(weak, levels=tuple(levels))}
    found = call_positives(cells, thresholds, compartments=CELL, phenotypes=phenotypes)
    none, weak, moderate, strong = (found[f"phenotype_{n}"] for n in ("none", "weak", "moderate", "strong"))
    assert not (strong & ~moderate).any() and not (moderate & ~weak).any()
    assert (none == ~weak).all()
    assert (found["CD3_level"] == weak.astype(int) + moderate.astype(int) + strong.astype(int)).all()


# ---- H-scores


def test_h_score_by_hand():
    # A: 10 % weak, 20 % moderate, 30 % strong of ten cells; B: one strong cell; C: no cell
    cells = in_regions([1, 2, 2, 3, 3, 3, 0, 0, 0, 0, 3], ["A"] * 10 + ["B"])
    found = h_scores(cells, rows_of(["A", "B", "C"], ["CD3", "CD20"]))
    assert found[::2].tolist()[:2] == [10 + 2 * 20 + 3 * 30, 300.0]
    assert math.isnan(found[4])
    assert np.isnan(found[1::2]).all()  # CD20 has no levels


def test_a_region_with_an_unknown_level_has_no_h_score():
    found = h_scores(in_regions([1, None, 3], ["A", "A", "B"]), rows_of(["A", "B"], ["CD3"]))
    assert math.isnan(found[0]) and found[1] == 300.0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_h_scores_lie_between_0_and_300_and_positivity_bounds_them(levels):
    found = h_scores(in_regions(levels, ["A"] * len(levels)), rows_of(["A"], ["CD3"]))[0]
    positivity = 100 * sum(level > 0 for level in levels) / len(levels)
    assert 0 <= found <= 300
    assert positivity - 1e-9 <= found <= 3 * positivity + 1e-9
    assert found == pytest.approx(100 * sum(levels) / len(levels), rel=1e-12, abs=0)


# ---- intensities


def test_intensities_by_hand():
    cells = pd.DataFrame(
        {
            "region": ["A", "A", "A", "B", "glass"],
            "tissue_class": ["tumour", "tumour", "tumour", "stroma", "outside"],
            "CD3_cell_mean": [10.0, 20.0, 60.0, 5.0, 99.0],
            "CD20_cell_mean": [1.0, 2.0, math.nan, 3.0, 4.0],
            "CD3_positive": pd.array([True, True, True, False, True], dtype="boolean"),
            "phenotype_B": pd.array([True, False, True, None, True], dtype="boolean"),
        }
    )
    wanted = {"CD3_positive": ("CD3",), "phenotype_B": ("CD20", "CD3")}
    found = intensities(cells, wanted, compartments={"CD3": "cell", "CD20": "cell"})
    by = found.set_index(["region", "population", "marker"])[["positive_cells", "mean", "median"]]
    assert by.loc[("A", "CD3", "CD3")].tolist() == [3, 30.0, 20.0]
    assert by.loc[("A", "B", "CD20")].tolist() == [2, 1.0, 1.0]  # one of the two has no such compartment
    assert by.loc[("A", "B", "CD3")].tolist() == [2, 35.0, 35.0]
    assert by.loc[("B", "CD3", "CD3")].isna().tolist() == [False, True, True]  # 0 cells
    assert by.loc[("B", "B", "CD3")].isna().all()  # it cannot be told
    assert set(found["region"]) == {"A", "B"}


def test_a_marker_without_values_is_left_out():
    cells = pd.DataFrame({"region": ["A"], "tissue_class": ["tumour"], "CD3_positive": [True]})
    assert intensities(cells, {"CD3_positive": ("CD3",)}, compartments=CELL).empty


# ---- corrected values


def test_calls_are_made_by_the_corrected_value_where_the_table_has_it():
    cells = pd.DataFrame({"CD3_cell_mean": [50.0, 50.0], "CD3_corrected": [50.0, 44.0]})
    assert marker_values(cells, "CD3", "cell").tolist() == [50.0, 44.0]
    assert call_positives(cells, {"CD3": 45.0}, compartments=CELL)["CD3_positive"].tolist() == [True, False]


# ---- shares


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.integers(0, 3)), max_size=40),
    st.sampled_from([0.0, 0.5, math.nan]),
)
def test_NP28_shares_lie_between_0_and_100_and_a_denominator_of_0_gives_none(cells, area):
    table = in_regions([level for _, level in cells], [region for region, _ in cells])
    table["CD3_positive"] = (table["CD3_level"] >= 1).astype("boolean")
    areas = {(region, "tumour"): area for region in ("A", "B", "C")}
    rows = count_populations(table, populations={"CD3": "CD3_positive"}, area_mm2=areas)
    rows["h_score"] = h_scores(table, rows)
    for row in rows.itertuples():
        if row.cells:
            assert 0 <= row.positivity_percent <= 100 and 0 <= row.h_score <= 300
        else:
            assert math.isnan(row.positivity_percent) and math.isnan(row.h_score)
        assert math.isnan(row.density_per_mm2) == (not area > 0)
