"""The automatic threshold's rules against denying positives that a slide may have, each by a drawn slide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mihc.positives import choose_threshold


def slide(share, distance, seed, *, varies=0.35, number=10_000):
    """Normal negatives and, `distance` of their SDs up, positives whose light varies by `varies` of its mean."""
    generator = np.random.default_rng(seed)
    light = distance * generator.normal(1, varies, number)
    return 300 + 25 * (generator.normal(0, 1, number) + (np.arange(number) < round(share * number)) * light)


@pytest.mark.parametrize(("share", "seed"), [(0.1, 0), (0.1, 1), (0.4, 0)])
def test_positives_so_near_that_they_cannot_be_told_are_not_denied(share, seed):
    """At 2 SDs: neither a number nor "negative slide"."""
    chosen = choose_threshold(slide(share, 2.0, seed))
    assert chosen.verdict == "cannot tell" and math.isnan(chosen.value), chosen.reason


def test_a_brighter_group_as_narrow_as_the_negatives_may_be_tissue_or_positives():
    """40 % of cells 3 SDs up and no wider: two shades of tissue say it as well as positives do."""
    chosen = choose_threshold(slide(0.4, 3.0, 0, varies=0.0))
    assert chosen.verdict == "cannot tell" and "shades" in chosen.reason


def test_half_a_percent_three_sds_up_is_not_denied():
    """50 of 10,000 cells are too few to be found at 3 SDs, and too many to be called none."""
    assert choose_threshold(slide(0.005, 3.0, 0)).verdict == "cannot tell"
    assert choose_threshold(slide(0.0, 3.0, 0)).verdict == "negative slide"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("share", "verdict"), [(0.002, "negative slide"), (0.003, "negative slide"), (0.006, "separable")]
)
def test_what_stands_out_is_no_population_under_four_in_a_thousand(share, verdict, seed):
    """12 SDs up nothing is in doubt but what so few cells are: debris, or positives."""
    chosen = choose_threshold(slide(share, 12.0, seed))
    assert chosen.verdict == verdict, chosen.reason
    assert ("stand out" in chosen.reason) == (verdict == "negative slide")


def test_five_cells_are_no_population_however_far_they_stand_out():
    """4 of 600 cells are 0.7 %, more than debris; 8 of them may be positives."""
    few, more = (choose_threshold(slide(number / 600, 14.0, 0, number=600)) for number in (4, 8))
    assert few.verdict == "negative slide" and "stand out" in few.reason
    assert more.verdict == "separable", more.reason


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_on_a_whole_slide_too_positives_at_two_sds_are_not_denied(share):
    """200,000 cells show two shades and nothing else, not which of them is tissue and which is positive."""
    chosen = choose_threshold(slide(share, 2.0, 0, number=200_000))
    assert chosen.verdict == "cannot tell" and "shades" in chosen.reason, chosen.reason


def test_many_cells_say_how_many_are_positive_where_the_peaks_run_into_each_other():
    """40 % at 3 SDs, no gap: to a point among 200,000 cells."""
    generator = np.random.default_rng(4)
    light = 3 * generator.gamma(0.35**-2, 0.35**2, 200_000)
    values = 300 + 25 * (generator.normal(0, 1, 200_000) + (np.arange(200_000) < 80_000) * light)
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable", chosen.reason
    assert abs(100 * np.mean(values >= chosen.value) - 40) < 1
    assert np.mean(values >= chosen.high) <= 0.4 <= np.mean(values >= chosen.low)


def test_few_bright_cells_beyond_a_long_tail_need_no_gap():
    """0.5 % at 10 SDs where 8 % glow so that nothing dips: on 200,000 cells formulas tell them apart."""
    generator = np.random.default_rng(5)
    negative = generator.normal(0, 1, 200_000) + (generator.random(200_000) < 0.08) * generator.exponential(3, 200_000)
    light = 10 * negative.std() * generator.gamma(0.35**-2, 0.35**2, 200_000)
    values = 300 + 25 * (negative + (np.arange(200_000) < 1_000) * light)
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable", chosen.reason
    assert abs(100 * np.mean(values >= chosen.value) - 0.5) < 0.25


def test_what_lies_between_dark_and_bright_cells_is_not_all_called_negative():
    """A tenth of the cells evenly between: no formula has that, and the gap's bottom is the threshold."""
    generator = np.random.default_rng(6)
    dark, bright = generator.normal(0, 1, 9_000), generator.lognormal(math.log(25), 0.4, 10_000)
    values = 300 + 25 * np.concatenate([dark, generator.uniform(2, 18, 2_000), bright])
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable", chosen.reason
    assert 10_000 / 21_000 <= np.mean(values >= chosen.value) <= 12_000 / 21_000


def test_millions_of_cells_are_described_as_well_as_one_million():
    """What belongs to no peak is a share of the cells: of 5 million it was more than an empty bin could lack."""
    assert choose_threshold(slide(0.0, 0.0, 3, number=5_000_000)).verdict == "negative slide"
    values = slide(0.1, 6.0, 3, number=3_000_000)
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable" and "two groups of cells 6" in chosen.reason, chosen.reason
    assert abs(100 * np.mean(values >= chosen.value) - 10) < 0.3


def test_a_small_slide_called_negative_says_for_how_many_there_is_room():
    """1 % of 200 cells are two: no doubt, but not less than half a percent either."""
    chosen = choose_threshold(np.random.default_rng(3).normal(300, 25, 200))
    assert chosen.verdict == "negative slide" and "no room for more than 1 %" in chosen.reason, chosen.reason


@pytest.mark.parametrize(("share", "least"), [(0.4, 0.0101), (0.005, 0.00113), (1e-5, 1e-5)])
def test_no_range_is_narrower_than_descriptions_are_exact(share, least):
    """However many cells, and however well they agree; and never below none."""
    from mihc.gating.evidence import _of_these_cells

    low, high = _of_these_cells(share, 0.999 * share, 1.001 * share, 10**9)
    assert (share - low, high - share) == pytest.approx((least, least), rel=0.01)


@pytest.mark.parametrize(("distance", "verdict"), [(6, "cannot tell"), (8, "separable")])
def test_beside_two_shades_of_tissue_positives_must_lie_further_away(distance, verdict):
    """Three groups: 4.2 SDs up the middle one may be positive as well; 5.9 SDs up the brightest are far from both."""
    generator = np.random.default_rng(0)
    negative = generator.normal(0, 1, 20_000) + 2 * (generator.random(20_000) < 0.3)
    values = 300 + 25 * (negative + (np.arange(20_000) < 4_000) * distance * generator.gamma(16, 1 / 16, 20_000))
    chosen = choose_threshold(values)
    assert chosen.verdict == verdict, chosen.reason
    assert ("three groups" in chosen.reason) == (verdict == "cannot tell")


def test_in_a_gap_the_threshold_keeps_away_from_both_groups():
    """Every value in it calls the same cells; the next slide's cells lie a little elsewhere."""
    generator = np.random.default_rng(8)
    values = np.concatenate([generator.normal(300, 25, 9_000), generator.normal(2_000, 100, 1_000)])
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable" and 500 < chosen.value < 1_500, chosen


def with_debris(values, share, sds, seed=4):
    """The last `share` of the cells put about `sds` of the negatives' SDs up."""
    number = round(share * values.size)
    values[values.size - number :] = 300 + 25 * sds * np.random.default_rng(seed).lognormal(0, 0.3, number)
    return values


@pytest.mark.parametrize("distance", [100, 2_500])
@pytest.mark.parametrize("share", [0.002, 0.01])
def test_a_little_debris_far_above_does_not_take_the_place_of_the_positives(share, distance):
    chosen = choose_threshold(values := with_debris(slide(0.1, 6.0, 0, number=50_000), share, distance))
    assert chosen.verdict == "separable" and f"{100 * share:g} % lie far above" in chosen.reason
    truth = 100 * (0.1 + share)
    assert abs(100 * np.mean(values >= chosen.value) - truth) < 1
    assert 100 * np.mean(values >= chosen.high) <= truth <= 100 * np.mean(values >= chosen.low)


def test_a_little_debris_on_a_slide_without_positives_makes_none():
    chosen = choose_threshold(with_debris(slide(0.0, 0.0, 0, number=50_000), 0.002, 100))
    assert chosen.verdict == "negative slide", chosen.reason


def test_positives_far_above_are_positive_where_the_rest_are_one_group():
    chosen = choose_threshold(values := with_debris(slide(0.0, 0.0, 0, number=50_000), 0.01, 30))
    assert chosen.verdict == "separable" and 100 * np.mean(values >= chosen.value) == pytest.approx(1, abs=0.01)


def test_of_a_middle_group_about_as_large_as_the_one_above_it_nothing_is_said():
    """1.5 % far up and 1.2 % between: weak and strong positives, or autofluorescence and positives."""
    chosen = choose_threshold(with_debris(slide(0.012, 9.0, 0, number=50_000, varies=0.2), 0.015, 200))
    assert chosen.verdict == "cannot tell" and "three groups" in chosen.reason


def test_a_smaller_middle_group_lies_within_the_interval():
    """0.5 % at 8 SDs below 1.2 % far up: positive is what lies far up, and perhaps what lies between."""
    chosen = choose_threshold(values := with_debris(slide(0.005, 8.0, 0, number=50_000, varies=0.2), 0.012, 200))
    assert chosen.verdict == "separable", chosen.reason
    assert 100 * np.mean(values >= chosen.value) == pytest.approx(1.2, abs=0.01)
    assert 100 * np.mean(values >= chosen.low) == pytest.approx(1.7, abs=0.1)


@pytest.mark.parametrize("debris", [0.0005, 0.005])
def test_debris_does_not_hide_that_the_rest_cannot_be_told(debris):
    """10 % at 2 SDs of skewed negatives: neither denied nor left to the debris."""
    glow = np.random.default_rng(1).exponential(25, 200_000)
    chosen = choose_threshold(with_debris(slide(0.1, 2.0, 0, number=200_000) + glow, debris, 1_000))
    assert chosen.verdict == "cannot tell" and f"{100 * debris:g} % lie far above" in chosen.reason


@pytest.mark.parametrize(("share", "distance", "debris"), [(0.1, 6.0, 0.002), (0.02, 6.0, 0.002), (0.3, 4.0, 0.005)])
def test_debris_in_two_places_does_not_stand_for_the_positives_either(share, distance, debris):
    """Beneath the brighter debris the darker is no group of positives, nor are the real positives denied for it."""
    values = with_debris(slide(share, distance, 0, number=100_000), 2 * debris, 60)
    chosen = choose_threshold(values := with_debris(values, debris, 1_500, seed=5))
    assert chosen.verdict == "separable", chosen.reason
    assert abs(100 * np.mean(values >= chosen.value) - 100 * (share + 2 * debris)) < 1


def test_a_slide_called_negative_has_no_cell_above_its_threshold_nor_has_its_debris():
    values = with_debris(slide(0.0, 0.0, 0, number=50_000), 0.002, 60)
    chosen = choose_threshold(values := with_debris(values, 0.001, 1_500, seed=5))
    assert chosen.verdict == "negative slide" and chosen.value > values.max(), chosen


def test_more_than_a_little_debris_may_be_positives_beside_two_tissues():
    """3 % far above a brighter tissue of 30 %: 3 or 33 % are positive, and nothing in the cells says which."""
    generator = np.random.default_rng(2)
    tissue = 125 * (generator.random(50_000) < 0.3) * generator.normal(1, 0.2, 50_000)
    values = with_debris(slide(0.0, 0.0, 1, number=50_000) + tissue, 0.03, 60)
    chosen = choose_threshold(values)
    assert chosen.verdict == "cannot tell" and "three groups" in chosen.reason, chosen.reason
    assert 100 * np.mean(values >= chosen.low) == pytest.approx(33, abs=3)


def test_what_lies_below_a_gap_on_few_steps_says_nothing_more():
    """A coarse camera's whole numbers: eight steps with the debris, too few without it."""
    values = np.round(np.random.default_rng(1).normal(10, 0.6, 3_000))
    values[-60:] = np.round(np.random.default_rng(2).lognormal(4.6, 0.3, 60))
    assert choose_threshold(values).verdict == "cannot tell"
