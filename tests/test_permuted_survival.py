"""The log-rank test by permutation: every way to deal the patients out, and its level where chi-squared fails."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from benchmarks.shuffled import cohort
from mihc import statistics
from mihc.estimates.permuted_survival import _Dealt


def test_p_is_the_share_of_all_ways_to_deal_the_patients_out():
    time, event = [2, 3, 5, 5, 7, 8, 11], [1, 1, 0, 1, 1, 0, 1]
    group = np.array(["a", "b", "a", "b", "b", "a", "b"])
    observed = statistics.log_rank(time, event, group).statistic
    ways = [np.isin(np.arange(7), chosen) for chosen in combinations(range(7), 3)]
    reached = [statistics.log_rank(time, event, way).statistic >= observed - 1e-9 for way in ways]
    found = statistics.log_rank_permuted(time, event, group)
    assert len(ways) == 35 and found.p == pytest.approx(np.mean(reached), abs=0.02)  # 4 standard errors of 10,000
    assert (found.statistic, found.p_chi_squared) == (observed, statistics.log_rank(time, event, group).p)
    assert found.method == "log-rank, 10,000 permutations"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 5))
def test_every_draw_has_the_chi_squared_of_log_rank(seed, k):
    rng = np.random.default_rng(seed)
    time, event = np.round(rng.exponential(4, 30)), rng.integers(0, 2, 30).astype(float)  # tied, events and censored
    order = np.lexsort((event, -time))
    member = rng.integers(0, k, (20, 30))
    found = _Dealt(time[order], event[order]).chi_squared(member[:, order], k)
    for mine, row in zip(found, member, strict=True):
        theirs = statistics.log_rank(time, event, row)
        if len(theirs.groups) == k and theirs.df:
            assert mine == pytest.approx(theirs.statistic, rel=1e-8, abs=1e-8)


def test_chi_squared_says_too_often_that_small_groups_differ_and_permutation_does_not():
    """4 patients of 39, as a rare mutation: of 1,000 shuffled studies chi-squared has 5 and more with p <= 0.001."""
    patients = cohort(39, 3)
    time, event = patients["pfs"].to_numpy(), patients["pfs_event"].to_numpy()
    rng, group = np.random.default_rng(0), np.repeat([0, 1], [4, 35])
    order = np.argsort(-time)
    many = rng.permuted(np.broadcast_to(group, (20_000, 39)), axis=1)
    p = special.chdtrc(1, _Dealt(time[order], event[order]).chi_squared(many, 2))
    assert (p <= 0.05).mean() > 0.06 and (p <= 0.001).mean() > 0.005
    found = np.array([statistics.log_rank_permuted(time, event, row).p for row in many[:300]])
    assert 4 <= (found <= 0.05).sum() <= 26  # 15 expected, three standard errors
    assert (found <= 0.001).sum() <= 3


def test_a_small_p_is_drawn_ten_times_as_often():
    time = np.arange(1.0, 61.0)
    found = statistics.log_rank_permuted(time, np.ones(60), np.where(time > 30, "late", "soon"))
    assert found.method == "log-rank, 100,000 permutations" and found.p == 1 / 100_001
    assert found.p_chi_squared < 1e-12


def test_NP40_the_order_of_patients_changes_no_permutation():
    patients = cohort(60, 11)
    mixed = patients.sample(frac=1, random_state=2)
    one, other = (statistics.log_rank_permuted(table["pfs"], table["pfs_event"], table["site"]) for table in
                  (patients, mixed))  # fmt: skip
    assert one.p == other.p and 0.01 < one.p < 0.1
    assert one.p != statistics.log_rank_permuted(patients["pfs"], patients["pfs_event"], patients["site"], seed=1).p


def test_what_log_rank_cannot_test_has_its_reason_and_no_p():
    alone = statistics.log_rank_permuted([1, 2, 3], [1, 1, 0], ["a", "a", "a"])
    assert np.isnan(alone.p) and alone.note == "fewer than two groups"
    nothing = statistics.log_rank_permuted([1, 2, 3], [0, 0, 0], ["a", "b", "a"])
    assert np.isnan(nothing.p) and nothing.note == "no events" and np.isnan(nothing.p_chi_squared)
    missing = statistics.log_rank_permuted([1, 2, 3, np.nan, 4], [1, 1, 0, 1, 1], ["a", "b", "a", "b", ""])
    assert missing.n == 3 and missing.p == 1.0  # 3 ways; each is as far from even as the one found
