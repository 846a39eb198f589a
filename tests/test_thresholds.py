"""The automatic threshold: held against truth over a small grid, what it refuses, and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.positives import choose_threshold
from mihc.thresholds import FEWEST_BINS, examine

SIGNAL_SPREAD = 0.35


def cells(share, distance_sds, seed, *, number=10_000, drift=0.0, glow=0.0):
    """Values of negatives and positives a number of negatives' SDs apart, and which are positive."""
    generator = np.random.default_rng(seed)
    positive = np.arange(number) < round(share * number)
    negative = (
        generator.normal(0, 1, number) + drift * generator.random(number) + generator.exponential(1, number) * glow
    )
    signal = distance_sds * negative.std() * generator.gamma(SIGNAL_SPREAD**-2, SIGNAL_SPREAD**2, number)
    return 300 + 25 * (negative + positive * signal), positive


def positivity(values, threshold):
    return 100 * np.mean(values >= threshold)


# ---- truth


@pytest.mark.parametrize(("drift", "glow"), [(0.0, 0.0), (3.0, 0.0), (0.0, 1.0), (3.0, 1.0)])
@pytest.mark.parametrize(("share", "distance"), [(0.02, 6), (0.1, 4), (0.4, 4), (0.005, 10), (0.1, 10)])
def test_positives_are_found_in_their_number(share, distance, drift, glow):
    values, positive = cells(share, distance, 1, drift=drift, glow=glow)
    chosen, truth = choose_threshold(values), 100 * positive.mean()
    assert chosen.verdict == "separable", chosen.reason
    assert chosen.low <= chosen.value <= chosen.high
    # 40 % positives 4 SDs up, under a tail in all cells, are a mere shoulder: the interval is wide and says so
    shoulder = 5.1 if (share, drift, glow) == (0.4, 0.0, 1.0) else 3.0
    assert abs(positivity(values, chosen.value) - truth) < (0.7 if distance > 4 else shoulder)
    assert positivity(values, chosen.high) - 0.2 <= truth <= positivity(values, chosen.low) + 0.2


@pytest.mark.parametrize(("drift", "glow"), [(0.0, 0.0), (3.0, 0.0), (0.0, 1.0), (3.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_no_positives_are_invented(drift, glow, seed):
    values, _ = cells(0.0, 0, seed, drift=drift, glow=glow)
    chosen = choose_threshold(values)
    assert chosen.verdict in ("negative slide", "cannot tell"), chosen.reason
    assert not (values >= chosen.value).any()


@pytest.mark.parametrize("seed", range(4))
def test_two_shades_of_tissue_are_no_positives(seed):
    generator = np.random.default_rng(seed)
    values = np.concatenate([generator.normal(360, 30, 900), generator.normal(450, 36, 800)])
    chosen = choose_threshold(values)
    assert chosen.verdict in ("negative slide", "cannot tell"), chosen.reason


def test_a_few_bright_specks_leave_a_slide_negative():
    generator = np.random.default_rng(3)
    values = np.concatenate([generator.normal(300, 25, 5000), [900.0, 1500.0, 4000.0, 60000.0]])
    assert choose_threshold(values).verdict == "negative slide"


def test_dead_pixels_far_below_change_little():
    values, positive = cells(0.1, 6, 4)
    dark = np.concatenate([values, np.zeros(20)])
    assert abs(positivity(dark, choose_threshold(dark).value) - 100 * positive.mean()) < 1


def test_where_peaks_run_into_each_other_the_plausible_range_is_kept():
    """The review can start there; the value stays NaN, so that no number is made of it."""
    values, _ = cells(0.02, 3, 0, number=2000, glow=1.0)
    chosen = choose_threshold(values)
    assert chosen.verdict == "cannot tell" and math.isnan(chosen.value)
    assert chosen.low < chosen.high
    assert "%" in chosen.reason


def test_few_steps_of_a_coarse_camera_cannot_tell():
    chosen = choose_threshold(np.repeat([1.0, 2.0, 3.0], 200))
    assert chosen.verdict == "cannot tell" and "3 steps" in chosen.reason
    assert FEWEST_BINS > 3


@pytest.mark.parametrize("share", [0.997, 0.999])
def test_cells_that_are_nearly_all_equal_are_judged_and_crash_nothing(share):
    """A marker whose background was taken off to 0: nearly all cells in the lowest bin, the few others far above."""
    few = np.random.default_rng(0).lognormal(3, 1, round((1 - share) * 20_000))
    chosen = choose_threshold(np.concatenate([np.zeros(20_000 - few.size), few]))
    assert chosen.verdict in ("cannot tell", "negative slide"), chosen.reason


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("below", [2, 20, 50])
def test_cells_cut_off_at_zero_are_told_so(share, below):
    """A background taken off and clipped: the spike of equal cells beside the others is no group of negatives."""
    values, _ = cells(share, 6, 7)
    chosen = choose_threshold(np.maximum(values - np.percentile(values, below), 0))
    assert chosen.verdict == "cannot tell" and f"{below} % of the cells have the lowest value, 0" in chosen.reason


def test_a_few_equal_cells_cut_nothing_off():
    values, positive = cells(0.1, 6, 7)
    chosen = choose_threshold(np.where(np.arange(values.size) % 200 == 1, values.min(), values))
    assert chosen.verdict == "separable", chosen.reason
    assert abs(positivity(values, chosen.value) - 100 * positive.mean()) < 2
    assert positivity(values, chosen.high) <= 100 * positive.mean() <= positivity(values, chosen.low)


# ---- negative controls


def test_controls_settle_what_the_slide_cannot():
    """Autofluorescence in some cells looks like positives; a control that has it too tells them apart."""

    def slide(share, seed):
        generator = np.random.default_rng(seed)
        negative = generator.normal(0, 1, 20_000) + (generator.random(20_000) < 0.08) * generator.exponential(3, 20_000)
        positive = np.arange(20_000) < round(share * 20_000)
        return 300 + 25 * (negative + positive * 7 * generator.gamma(8, 1 / 8, 20_000)), positive

    control, _ = slide(0.0, 1)
    values, positive = slide(0.05, 2)
    chosen = choose_threshold(values, negatives=control)
    assert chosen.verdict == "separable" and "of negative controls" in chosen.reason
    assert abs(positivity(values, chosen.value) - 100 * positive.mean()) < 1
    bare, _ = slide(0.0, 3)
    assert choose_threshold(bare, negatives=control).verdict == "negative slide"


@pytest.mark.parametrize(("offset", "gain", "words"), [(200, 1, "below theirs"), (0, 3, "times as wide")])
def test_controls_of_another_offset_or_width_are_not_used(offset, gain, words):
    values, _ = cells(0.1, 8, 5)
    control, _ = cells(0.0, 0, 6)
    control = (control - 300) * gain + 300 + offset
    chosen = choose_threshold(values, negatives=control)
    assert "negative controls are not used" in chosen.reason and words in chosen.reason
    alone = choose_threshold(values)
    assert (chosen.value, chosen.low, chosen.high) == (alone.value, alone.low, alone.high)


def test_a_control_with_positives_of_its_own_leaves_the_slide_its_other_descriptions():
    values, positive = cells(0.1, 6, 5, number=5000)
    chosen = choose_threshold(values, negatives=values)
    assert abs(positivity(values, chosen.value) - 100 * positive.mean()) < 1
    assert positivity(values, chosen.high) <= 100 * positive.mean() <= positivity(values, chosen.low)


def test_controls_of_too_few_cells_are_not_used():
    values, _ = cells(0.1, 8, 5)
    chosen = choose_threshold(values, negatives=[300.0, 310.0])
    assert chosen.verdict == "separable" and "only 2 cells" in chosen.reason


@pytest.mark.parametrize(("control", "words"), [([300.0], "only 1 step"), ([300.0, 340.0], "only 2 steps")])
def test_controls_on_few_steps_have_no_shape_and_are_not_used(control, words):
    values, _ = cells(0.1, 8, 5)
    chosen = choose_threshold(values, negatives=np.repeat(control, 200))
    assert chosen.reason.endswith(words) and chosen.value == choose_threshold(values).value


# ---- what must not change it


@settings(max_examples=10)
@given(power=st.integers(-8, 8), seed=st.integers(0, 20))
def test_NP26_scaling_by_a_power_of_two_scales_the_threshold_exactly(power, seed):
    values, _ = cells(0.1, 5, seed, number=1500)
    one, other = choose_threshold(values), choose_threshold(values * 2.0**power)
    assert one.verdict == other.verdict == "separable"
    assert [number * 2.0**power for number in (one.value, one.low, one.high)] == [other.value, other.low, other.high]
    assert ((values >= one.value) == (values * 2.0**power >= other.value)).all()


@settings(max_examples=10)
@given(order=st.randoms(), seed=st.integers(0, 20))
def test_the_order_of_cells_changes_nothing(order, seed):
    values, _ = cells(0.1, 5, seed, number=600)
    shuffled = values.tolist()
    order.shuffle(shuffled)
    assert choose_threshold(shuffled) == choose_threshold(values)


@settings(max_examples=10)
@given(share=st.sampled_from([0.0, 0.01, 0.1, 0.5]), distance=st.floats(2, 12), seed=st.integers(0, 99))
def test_NP28_positivity_and_its_range_are_percentages_in_order(share, distance, seed):
    values, _ = cells(share, distance, seed, number=800)
    evidence, _ = examine(values)
    assert 0 <= evidence.share_low <= evidence.share <= evidence.share_high <= 1
    assert evidence.low <= evidence.cut <= evidence.high
    assert 0 <= positivity(values, evidence.high) <= positivity(values, evidence.low) <= 100


def test_controls_whose_negatives_are_two_shades_leave_a_slide_without_another_description():
    from mihc.gating.evidence import weigh
    from mihc.gating.histogram import Histogram
    from mihc.gating.peaks import LOWERS

    random = np.random.default_rng(4)
    shades = random.normal(300, 20, 1200)
    found = weigh(Histogram.of(shades), tuple(lower for lower in LOWERS if lower.shaded))
    assert found.close == 0
    assert 0 <= found.share_low <= found.share <= found.share_high <= 1
