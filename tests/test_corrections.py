"""What is taken from a marker's mean before calls: by hand, held against planted light, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.corrections import (
    CORRECTIONS,
    Correction,
    Surroundings,
    fit_corrections,
    glow_slope,
    looked_at,
    measured_corrections,
)
from mihc.positives import choose_threshold


def spilled() -> pd.DataFrame:
    """100 µm² of cell, 25 of them nucleus; 6 counts per pixel of the cell are 8 per pixel of its cytoplasm."""
    return pd.DataFrame(
        {
            "nucleus_area_um2": [25.0, 100.0, 25.0],
            "cell_area_um2": [100.0, 100.0, 100.0],
            "CD3_cell_mean": [50.0, 50.0, 2.0],
            "CD3_cytoplasm_mean": [60.0, math.nan, 4.0],
            "CD3_nucleus_mean": [20.0, 50.0, 1.0],
            "CD3_spillover": [6.0, 6.0, 6.0],
        }
    )


# ---- by hand


def test_spillover_is_taken_from_where_it_lies():
    def corrected(compartment: str) -> list[float]:
        return Correction("CD3", compartment, spillover=True).values(spilled()).tolist()

    assert corrected("cell") == [44.0, 44.0, 0.0]  # never below 0
    cytoplasm = corrected("cytoplasm")
    assert [cytoplasm[0], cytoplasm[2]] == [52.0, 0.0] and math.isnan(cytoplasm[1])
    assert corrected("nucleus") == [20.0, 44.0, 1.0]


def test_background_beyond_the_usual_is_taken():
    """A row of cells, each between its neighbours: what surrounds them rises from 10 to 50."""
    cells = pd.DataFrame({"x_um": np.arange(1.0, 42.0), "y_um": 5.0, "A_cell_mean": 100.0})
    cells["A_background"] = 10.0 + np.arange(41.0)
    near = Surroundings(cells).near(cells)
    (found,) = fit_corrections(cells, {"A": "cell"}, glow="", asked=["background"], near=near).values()
    assert found.background == 30.0 and found.told == "background"  # the middle one
    assert near.middle("A")[[0, 20, 40]].tolist() == [14.0, 30.0, 46.0]  # of the nearest nine
    values = found.values(cells, near)
    assert values[4:-4].tolist() == (100.0 - np.arange(-16.0, 17.0)).tolist()
    assert np.abs(np.diff(values)).max() <= 4  # and none leaps at the ends


def test_a_cell_with_no_surroundings_or_odd_ones_takes_those_of_the_nearest_cells():
    """Without a free pixel around it, beside glass, or beside a bright speck."""
    generator = np.random.default_rng(1)
    cells = pd.DataFrame({"x_um": 10.0 * (np.arange(400) % 20), "y_um": 10.0 * (np.arange(400) // 20)})
    cells = cells.assign(A_cell_mean=300.0, A_background=200 + generator.normal(0, 2, 400))
    cells.loc[[105, 210, 315], "A_background"] = [math.nan, 20.0, 900.0]
    near = Surroundings(cells).near(cells)
    (found,) = fit_corrections(cells, {"A": "cell"}, glow="", asked=["background"], near=near).values()
    values = found.values(cells, near)
    assert np.abs(values - 300).max() < 8
    expected = 300 - (near.middle("A") - found.background)
    assert values[[105, 210, 315]].tolist() == expected[[105, 210, 315]].tolist()
    assert (values != expected).mean() > 0.8  # the others by their own, which is the middle one of nine now and then


def test_a_slide_without_any_surroundings_is_left_as_it_is():
    cells = pd.DataFrame({"x_um": [1.0, 2.0], "y_um": 1.0, "A_cell_mean": [5.0, 6.0], "A_background": math.nan})
    near = Surroundings(cells).near(cells)
    assert np.isnan(near.middle("A")).all()
    assert fit_corrections(cells, {"A": "cell"}, glow="", asked=["background"], near=near) == {}
    assert fit_corrections(cells, {"A": "cell"}, glow="", asked=["background"]) == {}


def test_the_three_are_applied_in_their_order_and_glow_is_corrected_before_its_slope():
    cells = pd.DataFrame(
        {
            "x_um": [1.0], "y_um": [1.0],
            "CD3_cell_mean": [100.0], "CD3_spillover": [4.0], "CD3_background": [30.0],
            "AF_cell_mean": [70.0], "AF_spillover": [2.0], "AF_background": [15.0],
        }
    )  # fmt: skip
    near = Surroundings(cells).near(cells)
    glow = Correction("AF", "cell", spillover=True, background=10.0)
    found = Correction("CD3", "cell", spillover=True, background=20.0, glow=glow, usual_glow=43.0, slope=0.5)
    assert glow.values(cells, near).tolist() == [63.0]  # 70 - 2 - (15 - 10)
    assert found.values(cells, near).tolist() == [76.0]  # 100 - 4 - (30 - 20) - 0.5 x (63 - 43)
    assert found.names == CORRECTIONS and found.told == "spillover, background, autofluorescence x 0.5"
    with pytest.raises(ValueError, match="nearest cells"):
        found.values(cells)


def test_only_what_is_measured_and_asked_for_is_taken():
    cells = spilled().assign(AF_cell_mean=1.0)
    assert measured_corrections(cells, "CD3", "cell", "AF") == ("spillover", "autofluorescence")
    assert measured_corrections(cells, "CD3", "cell", "") == ("spillover",)
    assert measured_corrections(cells, "CD8", "cell", "AF") == ()
    assert fit_corrections(cells, {"CD3": "cell"}, glow="AF", asked=["background"]) == {}
    (found,) = fit_corrections(cells, {"CD3": "cell", "CD8": "cell"}, glow="AF", asked=["spillover"]).values()
    assert found == Correction("CD3", "cell", spillover=True)


# ---- the slope of autofluorescence, held against planted light


def glowing(seed, slope, *, share=0.0, part=0.08, number=10_000, signal=400.0, among=None):
    """Marker and autofluorescence of cells of which `part` glow; positives anywhere, or only among the glowing."""
    generator = np.random.default_rng(seed)
    lit = generator.random(number) < part
    glow = 100 + generator.normal(0, 10, number) + lit * generator.exponential(120.0, number)
    where = generator.random(number) < share if among is None else lit & (generator.random(number) < among)
    light = where * signal * generator.gamma(8, 1 / 8, number)
    return 300 + generator.normal(0, 25, number) + slope * (glow - 100) + light, glow, where


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("slope", [0.2, 0.5, 1.5])
def test_the_slope_is_the_planted_one_whatever_share_is_positive(slope, share):
    values, glow, _ = glowing(1, slope, share=share)
    usual, found, note = glow_slope(values, glow)
    assert note == "" and abs(usual - 100) < 3
    assert abs(found / slope - 1) < 0.15


@pytest.mark.parametrize("seed", range(3))
def test_without_such_light_next_to_nothing_is_taken(seed):
    values, glow, _ = glowing(seed, 0.0, share=0.1)
    assert 0 <= glow_slope(values, glow)[1] < 0.05


def test_what_grows_darker_with_autofluorescence_is_not_made_brighter():
    values, glow, _ = glowing(2, -0.5)
    assert glow_slope(values, glow)[1:] == (0.0, "cells that glow are no brighter than others")


def test_a_marker_of_the_cells_that_glow_is_not_taken_for_their_glow():
    """Macrophages glow, and carry CD68: their light varies from cell to cell and follows no line."""
    values, glow, positive = glowing(3, 0.0, among=0.9, signal=600.0)
    _, slope, note = glow_slope(values, glow)
    assert slope == 0 and "near one line" in note
    cells = pd.DataFrame({"CD68_cell_mean": values, "AF_cell_mean": glow})
    (found,) = fit_corrections(cells, {"CD68": "cell"}, glow="AF", asked=["autofluorescence"]).values()
    assert np.array_equal(found.values(cells), values) and positive.any()


def test_too_few_cells_that_glow_say_nothing():
    values, glow, _ = glowing(4, 0.5, part=0.001, number=2000)
    _, slope, note = glow_slope(values, glow)
    assert slope == 0 and "30 are needed" in note
    assert glow_slope(np.array([]), np.array([]))[1] == 0
    assert glow_slope(np.ones(99), np.ones(99))[1] == 0


def test_corrected_cells_tell_what_autofluorescence_had_hidden():
    """1 % of positives under a tail of autofluorescence: the means cannot tell them, the corrected ones can."""
    values, glow, positive = glowing(5, 0.8, share=0.01, signal=160.0)
    cells = pd.DataFrame({"CD3_cell_mean": values, "AF_cell_mean": glow})
    (found,) = fit_corrections(cells, {"CD3": "cell"}, glow="AF", asked=["autofluorescence"]).values()
    before, after = choose_threshold(values), choose_threshold(found.values(cells))
    assert before.verdict == "cannot tell" and after.verdict == "separable", (before.reason, after.reason)
    assert abs((found.values(cells) >= after.value).mean() - positive.mean()) < 0.01


# ---- what must hold


@settings(max_examples=20)
@given(power=st.integers(-6, 6), seed=st.integers(0, 50))
def test_NP26_scaling_by_a_power_of_two_scales_corrected_values_exactly(power, seed):
    values, glow, _ = glowing(seed, 0.5, share=0.1, number=2000)
    generator = np.random.default_rng(seed)
    columns = {"A_cell_mean": values, "F_cell_mean": glow, "nucleus_area_um2": 30.0, "cell_area_um2": 90.0}
    columns |= {f"{one}_background": 90 + 40 * generator.random(2000) for one in "AF"}
    columns |= {f"{one}_spillover": 9 * generator.random(2000) for one in "AF"}
    cells = pd.DataFrame(columns).assign(x_um=generator.random(2000), y_um=generator.random(2000))
    larger = cells * np.array([1.0 if name.endswith(("um", "um2")) else 2.0**power for name in cells])
    found = []
    for table in (cells, larger):
        near = Surroundings(table).near(table)
        (one,) = fit_corrections(table, {"A": "cell"}, glow="F", asked=CORRECTIONS, near=near).values()
        assert one.names == CORRECTIONS
        found.append(one.values(table, near))
    assert np.array_equal(found[0] * 2.0**power, found[1])


@settings(max_examples=20)
@given(cut=st.integers(0, 500), seed=st.integers(0, 50))
def test_each_cell_is_corrected_by_itself(cut, seed):
    """So that cells may be corrected in parts, and an edited cell moves no other."""
    values, glow, _ = glowing(seed, 0.5, number=500)
    generator = np.random.default_rng(seed)
    cells = pd.DataFrame({"A_cell_mean": values, "A_background": values[::-1], "F_cell_mean": glow})
    cells = cells.assign(x_um=100 * generator.random(500), y_um=100 * generator.random(500))
    around = Surroundings(cells)
    near = around.near(cells)
    (found,) = fit_corrections(cells, {"A": "cell"}, glow="F", asked=CORRECTIONS, near=near).values()
    parts = [found.values(part, around.near(part)) for part in (cells[:cut], cells[cut:])]
    assert np.array_equal(found.values(cells, near), np.concatenate(parts))


def test_many_cells_are_looked_at_in_part_and_say_the_same():
    values, glow, _ = glowing(6, 0.5, share=0.1, number=200_000)
    some = pd.DataFrame({"A": values, "F": glow}).iloc[looked_at(len(values))]
    assert len(some) == 50_000
    (_, every, _), (_, part, _) = glow_slope(values, glow), glow_slope(some["A"].to_numpy(), some["F"].to_numpy())
    assert part != every and part == pytest.approx(every, rel=0.1) == pytest.approx(0.5, rel=0.1)
