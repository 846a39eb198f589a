"""A slide beside its batch: what stands out, what a batch may lend, and what it never may."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.batches import (
    MarkerValues,
    Offer,
    accepted,
    beside_batches,
    control_remark,
    describe,
    drift,
    negative_peak,
    offers,
    positivity_remarks,
    typed_remark,
)
from mihc.positives import Threshold, choose_threshold


def drawn(
    share: float, *, negative: float = 200, sd: float = 20, positive: float = 600, seed: int = 0, cells: int = 2000
):
    generator = np.random.default_rng(seed)
    bright = np.arange(cells) < round(share * cells)
    return np.where(
        bright,
        negative + (positive - negative) * generator.lognormal(0, 0.2, cells),
        generator.normal(negative, sd, cells),
    )


def described(slide: str, values: np.ndarray, *, batch: str = "A", control: str = "", negatives=None) -> MarkerValues:
    own = choose_threshold(values)
    whose = {"slide": slide, "marker": "CD3", "panel": "", "batch": batch, "control": control}
    return describe(values, own, negatives=negatives, **whose)


def alike(count: int = 4, batch: str = "A", **drawing) -> list[MarkerValues]:
    return [described(f"{batch}{k}", drawn(0.2, seed=k, **drawing), batch=batch) for k in range(count)]


UNCLEAR = Threshold(math.nan, math.nan, math.nan, "mixture", "cannot tell", "too few cells")


# ---- the negative peak


def test_the_negative_peak_by_hand():
    # the shortest interval with a quarter (2 of 8 steps) is 10..12; below its middle, 11, lie 10, 10.5
    numbers = np.array([1.0, 10.0, 10.5, 12.0, 20.0, 40.0, 60.0, 80.0])
    summit, width = negative_peak(numbers)
    assert summit == 11.0
    assert width == pytest.approx(math.sqrt(((1 - 11) ** 2 + 1 + 0.25) / 3))
    assert np.isnan(negative_peak(np.array([]))).all()
    assert negative_peak(np.array([5.0])) == (5.0, 0.0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.85])
def test_positive_cells_move_the_negative_peak_little(share):
    one = described("S1", drawn(share, cells=6000))
    assert one.peak == pytest.approx(200, abs=8)
    assert one.width == pytest.approx(20, rel=0.35)


# ---- beside the batch


def test_a_drifted_slide_is_named_with_its_ratio():
    batch = [*alike(5), described("S07", drawn(0.2, negative=460, positive=900, seed=9))]
    found = beside_batches(batch)
    assert found["S07", "CD3"].remark.startswith("the negative peak of S07 lies 2.3 times that of batch A")
    assert [one.remark for (slide, _), one in found.items() if slide != "S07"] == [""] * 5
    assert found["A0", "CD3"].batch_peak == pytest.approx(200, abs=10)


def test_a_peak_of_another_form_is_named():
    found = beside_batches([*alike(5), described("S07", drawn(0.0, sd=60, seed=9))])
    assert "times as wide as those of batch A" in found["S07", "CD3"].remark


@settings(max_examples=15)
@given(seed=st.integers(0, 500), slides=st.integers(3, 8))
def test_equal_slides_are_never_named(seed, slides):
    batch = [described(f"S{k}", drawn(0.1, seed=seed + k, cells=500)) for k in range(slides)]
    assert {one.remark for one in beside_batches(batch).values()} == {""}


def test_two_slides_are_no_batch():
    found = beside_batches([described("S1", drawn(0.2)), described("S2", drawn(0.2, negative=800, positive=2000))])
    assert {one.remark for one in found.values()} == {""}
    assert all(math.isnan(one.batch_peak) for one in found.values())


def test_a_control_is_no_part_of_the_batch():
    dark = [described(f"N{k}", drawn(0.0, negative=20, sd=3, seed=k), control="unstained") for k in range(9)]
    found = beside_batches([*alike(3), *dark])
    assert found["A0", "CD3"].batch_peak == pytest.approx(200, abs=10)
    assert {one.remark for one in found.values()} == {""}


def test_another_batch_is_another_measure():
    found = beside_batches([*alike(3), *alike(3, batch="B", negative=500, positive=1500)])
    assert {one.remark for one in found.values()} == {""}


def test_drift_over_batches_is_told_of_the_batch():
    told = drift([*alike(3), *alike(3, batch="B"), *alike(3, batch="C", negative=500, positive=1500)])
    remarks = {one.batch: one.remark for one in told}
    assert remarks["C"] == "batch C: the negative peak lies 2.5 times that of the other batches"
    assert (remarks["A"], remarks["B"]) == ("", "")
    assert [one.slides for one in told] == [3, 3, 3]
    two = {one.batch: one.remark for one in drift([*alike(4), *alike(3, batch="B", negative=500, positive=1500)])}
    assert two == {"A": "", "B": "batch B: the negative peak lies 2.5 times that of the other batch"}


def test_a_threshold_below_the_controls_99th_percentile_is_told():
    control = drawn(0.0, negative=300, sd=30, seed=4)
    one = described("S1", drawn(0.2), negatives=control)
    assert one.control_p99 == pytest.approx(np.quantile(control, 0.99))
    assert "lies below" in control_remark(310.0, one.control_p99)
    assert control_remark(500.0, one.control_p99) == ""
    assert control_remark(math.nan, one.control_p99) == control_remark(310.0, math.nan) == ""


@pytest.mark.parametrize(
    ("typed", "said"), [(60_000.0, "above"), (600.0, ""), (360.0, ""), (201.0, "below"), (3.0, "below")]
)
def test_a_typed_threshold_far_from_what_the_slides_cells_allow_is_told(typed, said):
    """The slide's own: somewhere from 330 to 700 counts, its negative peak at 200."""
    one = described("S1", drawn(0.2))
    own = replace(one.own, low=330.0, high=700.0)
    told = typed_remark(typed, own, 200.0)
    assert (f"lies far {said} what its own threshold may be, 330 to 700" in told) == bool(said) and bool(told) == bool(
        said
    )
    assert typed_remark(typed, replace(own, verdict="cannot tell"), 200.0) == ""


def test_a_far_positivity_is_told_and_patients_differ():
    assert list(positivity_remarks({"S1": 4.0, "S2": 5.0, "S3": 6.0, "S4": 60.0})) == ["S4"]
    assert positivity_remarks({"S1": 4.0, "S2": 12.0, "S3": 6.0, "S4": 9.0}) == {}
    assert positivity_remarks({"S1": 0.0, "S2": 90.0}) == {}


# ---- what a batch may lend


def unclear(values: np.ndarray, **whose) -> MarkerValues:
    """A slide that cannot be told, whatever its cells say."""
    return replace(described("X", values, **whose), own=UNCLEAR, positive_median=math.nan, open_percent=math.nan)


def offer_for(one: MarkerValues, lenders: list[MarkerValues]) -> Offer | str:
    return offers([*lenders, one])[one.slide, one.marker]


def test_a_slide_that_cannot_tell_is_offered_the_median_of_those_that_agree():
    lenders = alike(5)
    offer = offer_for(unclear(drawn(0.02, seed=77)), lenders)
    values = [one.own.value for one in lenders]
    assert offer.value == np.median(values)
    assert (offer.low, offer.high) == tuple(np.quantile(values, (0.025, 0.975)))
    assert (offer.slides, offer.batch) == (5, "A")


def test_a_threshold_that_leaves_much_open_is_weak_and_one_that_is_firm_is_never_touched():
    one = described("X", drawn(0.2, seed=77))
    assert not one.is_weak and (one.slide, one.marker) not in offers([*alike(5), one])
    assert isinstance(offer_for(replace(one, open_percent=6.0), alike(5)), Offer)


def test_a_negative_slide_is_offered_nothing():
    negative = described("X", drawn(0.0, seed=78))
    assert negative.own.verdict == "negative slide"
    assert offers([*alike(5), negative]) == {}


@pytest.mark.parametrize(
    ("values", "lenders", "reason"),
    [
        (drawn(0.02, negative=260), alike(5), "negative peaks agree with only 0 of 5"),
        (drawn(0.02, sd=45), alike(5), "negative peaks agree with only 0 of 5"),
        (drawn(0.02), alike(2), "negative peaks agree with only 2 of 2"),
        (drawn(0.02), alike(5, batch="B"), "negative peaks agree with only 0 of 0"),
    ],
)
def test_nothing_is_lent_where_the_negative_peaks_do_not_agree(values, lenders, reason):
    assert reason in offer_for(unclear(values), lenders)


def test_nothing_is_lent_by_controls_or_by_weak_slides():
    weak = [replace(one, open_percent=50.0) for one in alike(5)]
    controls = [replace(one, control="isotype") for one in alike(5)]
    assert isinstance(offer_for(unclear(drawn(0.02)), weak), str)
    assert isinstance(offer_for(unclear(drawn(0.02)), controls), str)


def test_nothing_is_lent_where_the_lenders_differ_or_the_control_lies_above():
    lenders = [
        replace(one, own=replace(one.own, value=one.own.value * (1 + 0.4 * k))) for k, one in enumerate(alike(5))
    ]
    assert "differ too much" in offer_for(unclear(drawn(0.02)), lenders)
    bright = drawn(0.0, negative=900, sd=90)
    assert "negative control's cells" in offer_for(unclear(drawn(0.02), negatives=bright), alike(5))
    near = [replace(one, own=replace(one.own, value=one.peak + 2 * one.width)) for one in alike(5)]
    assert "too near" in offer_for(unclear(drawn(0.02)), near)


# ---- what the cells must bear out


def test_a_lent_threshold_is_named_and_tells_what_the_slide_alone_gave():
    values = drawn(0.02, seed=77)
    taken = accepted(UNCLEAR, offer_for(unclear(values), alike(5)), values)
    assert (taken.method, taken.verdict) == ("harmonised", "harmonised")
    assert taken.low <= taken.value <= taken.high
    assert "median of 5 slides" in taken.reason and "alone: cannot tell, too few cells" in taken.reason
    assert np.mean(values >= taken.value) == pytest.approx(0.02, abs=0.002)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("tail", [30.0, 60.0, 90.0])
def test_no_positives_are_invented_from_a_tail(seed, tail):
    """Negative cells with a long tail: some reach the batch's threshold, and are no peak of positive cells."""
    generator = np.random.default_rng(seed)
    values = generator.normal(200, 20, 3000) + np.where(
        generator.random(3000) < 0.1, generator.exponential(tail, 3000), 0
    )
    offer = offer_for(unclear(values), alike(5))
    taken = accepted(UNCLEAR, offer, values)
    assert taken.verdict == "cannot tell" or not (values >= taken.value).any()


def test_a_refusal_is_told_in_the_reason():
    refused = accepted(UNCLEAR, "negative peaks agree with only 1 of 2 slides", np.array([]))
    assert refused.verdict == "cannot tell"
    assert refused.reason == (
        "too few cells; the batch's threshold was not taken: negative peaks agree with only 1 of 2 slides"
    )
