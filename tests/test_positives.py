"""Thresholds that may refuse, and the calls made by them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.positives import Threshold, call_positives, choose_threshold, manual_threshold, populations


def two_peaks(share: float, distance_sds: float, seed: int, cells: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Values of negatives (mean 200, SD 20) and positives, and which are positive."""
    generator = np.random.default_rng(seed)
    positive = np.arange(cells) < round(share * cells)
    values = generator.normal(200, 20, cells) + positive * (distance_sds * 20 * generator.lognormal(0, 0.15, cells))
    return values, positive


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_two_peaks_are_separable_and_the_share_is_found(share, seed):
    values, positive = two_peaks(share, 10, seed)
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable"
    assert chosen.low <= chosen.value <= chosen.high
    assert abs(np.mean(values >= chosen.value) - positive.mean()) < 0.01


@pytest.mark.parametrize("seed", range(20))
def test_a_slide_without_positives_gets_none(seed):
    values, _ = two_peaks(0.0, 10, seed)
    chosen = choose_threshold(values)
    assert chosen.verdict == "negative slide"
    assert not (values >= chosen.value).any()


@pytest.mark.parametrize("seed", range(10))
def test_a_skewed_peak_is_never_called_separable(seed):
    values = 100 + np.random.default_rng(seed).gamma(4.0, 20.0, 3000)
    assert choose_threshold(values).verdict in ("negative slide", "cannot tell")


def test_peaks_that_overlap_are_not_called_negative_when_many_cells_lie_far_out():
    generator = np.random.default_rng(5)
    values = np.concatenate([100 + generator.gamma(9, 10, 1800), 190 + 150 * generator.lognormal(0, 0.35, 200)])
    chosen = choose_threshold(values)
    assert chosen.verdict != "negative slide"
    assert np.mean(values >= chosen.high) < 0.1 < np.mean(values >= chosen.low)


@pytest.mark.parametrize("values", [[], [5.0] * 10, [7.0] * 100, [math.nan] * 100])
def test_too_few_or_equal_values_cannot_tell(values):
    assert choose_threshold(values).verdict == "cannot tell"


def test_NP25_positive_means_at_least_the_threshold():
    cells = pd.DataFrame({"CD3_cell_mean": [np.nextafter(10.0, 0.0), 10.0, 10.5, np.nan]})
    calls = call_positives(cells, {"CD3": 10.0}, compartments={"CD3": "cell"})["CD3_positive"]
    assert calls.tolist() == [False, True, True, False]  # NaN: the cell has no such compartment


def test_NP25_each_level_begins_at_its_own_cut_off():
    cuts = [10.0, 20.0, 30.0]
    cells = pd.DataFrame({"CD3_cell_mean": [*(np.nextafter(cut, 0.0) for cut in cuts), *cuts, np.nan]})
    leveled = manual_threshold(10.0, levels=(20.0, 30.0))
    levels = call_positives(cells, {"CD3": leveled}, compartments={"CD3": "cell"})["CD3_level"]
    assert levels.tolist() == [0, 1, 2, 1, 2, 3, 0]


@given(low=st.floats(0, 100), step=st.floats(0, 100))
def test_NP24_a_higher_threshold_calls_a_subset(low, step):
    cells = pd.DataFrame({"CD3_cell_mean": np.linspace(0, 200, 41)})
    fewer, more = (
        call_positives(cells, {"CD3": t}, compartments={"CD3": "cell"})["CD3_positive"] for t in (low + step, low)
    )
    assert not (fewer & ~more).any()


def test_a_negative_slide_is_false_and_an_undecided_one_is_null():
    cells = pd.DataFrame({"A_cell_mean": [1.0, 9.0], "B_cell_mean": [1.0, 9.0]})
    nothing = (math.nan, math.nan, math.nan, "mixture")
    thresholds = {"A": Threshold(*nothing, "negative slide", ""), "B": Threshold(*nothing, "cannot tell", "")}
    called = call_positives(
        cells, thresholds, compartments={"A": "cell", "B": "cell"}, phenotypes={"either": "A+ | B+", "both": "A+ B+"}
    )
    assert called["A_positive"].tolist() == [False, False]
    assert called["B_positive"].isna().all()
    assert called["phenotype_either"].isna().all()
    assert called["phenotype_both"].tolist() == [False, False]


def test_the_value_is_taken_in_the_panels_compartment():
    cells = pd.DataFrame({"Ki67_nucleus_mean": [50.0], "Ki67_cell_mean": [5.0]})
    assert call_positives(cells, {"Ki67": 20.0}, compartments={"Ki67": "nucleus"})["Ki67_positive"].tolist() == [True]
    assert call_positives(cells, {"Ki67": 20.0}, compartments={"Ki67": "cell"})["Ki67_positive"].tolist() == [False]


@given(st.integers(0, 1000))
def test_NP27_either_is_the_sum_minus_both(seed):
    generator = np.random.default_rng(seed)
    cells = pd.DataFrame({"A_cell_mean": generator.random(50), "B_cell_mean": generator.random(50)})
    called = call_positives(
        cells,
        {"A": 0.5, "B": 0.3},
        compartments={"A": "cell", "B": "cell"},
        phenotypes={"either": "A+ | B+", "both": "A+ B+"},
    ).sum()
    assert called["phenotype_either"] == called["A_positive"] + called["B_positive"] - called["phenotype_both"]


def test_populations_name_their_columns():
    assert populations(["CD3"], ["T cell"]) == {"CD3": "CD3_positive", "T cell": "phenotype_T cell"}
