"""mihc.statistics by hand, against scipy, lifelines and statsmodels, and by properties."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc import statistics
from mihc.errors import InputError


@pytest.fixture
def lifelines():
    """lifelines, whose Kaplan-Meier fitter sets numpy's error handling for everybody; put back afterwards."""
    before = np.geterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lifelines
        import lifelines.statistics

        yield lifelines
    np.seterr(**before)


def cohort(seed: int, n: int = 80, tied: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    death, end = rng.exponential(10 * np.exp(-0.5 * x - 0.3 * z)), rng.uniform(2, 25, n)
    time = np.minimum(death, end)
    return pd.DataFrame(
        {"time": np.ceil(time) if tied else time, "event": (death <= end).astype(float), "x": x, "z": z}
    )


# ---- rank sum ----


def test_rank_sum_by_hand():
    # x = 3, 5; y = 1, 2, 4: pairs with x > y: (3,1) (3,2) (5,1) (5,2) (5,4) = 5 of 6
    found = statistics.rank_sum([3, 5], [1, 2, 4])
    assert (found.statistic, found.auc, found.n_x, found.n_y) == (5, 5 / 6, 2, 3)
    # of the 10 ways to choose 2 ranks of 5, W >= 5 in two (4,5 and 3,5): twice 2/10
    assert found.p == pytest.approx(0.4)
    assert found.estimate == 1.5  # the median of -1, 1, 1, 2, 3, 4


def test_rank_sum_is_exact_below_fifty_without_ties_only():
    x = np.arange(49) + 0.5
    assert "exact" in statistics.rank_sum(x, [100.0]).method
    assert "normal" in statistics.rank_sum(np.append(x, 50.5), [100.0]).method
    assert "normal" in statistics.rank_sum([1.0, 2.0], [2.0, 3.0]).method


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_rank_sum_equals_scipy(alternative):
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(3)
    for n, m in ((5, 7), (30, 12), (60, 55)):
        x, y = rng.normal(size=n), rng.normal(0.4, size=m)
        for method, name in (("exact", "exact"), ("normal", "asymptotic")):
            if method == "exact" and n > 50:
                continue
            ours = statistics.rank_sum(x, y, method=method, alternative=alternative)
            theirs = mannwhitneyu(x, y, alternative=alternative, method=name)
            assert (ours.statistic, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)


def test_exact_rank_sum_with_ties_lists_every_permutation():
    from itertools import combinations

    from scipy.stats import rankdata

    x, y = [0, 0, 3, 3, 7], [0, 3, 8, 8]
    ranks = rankdata([*x, *y])
    sums = np.array([sum(chosen) for chosen in combinations(ranks, len(x))])
    far = np.abs(sums - sums.mean()) >= abs(ranks[:5].sum() - sums.mean()) - 1e-9
    assert statistics.rank_sum(x, y, method="exact").p == pytest.approx(far.mean(), rel=1e-12)


def test_a_group_without_values_gives_nan_and_the_reason():
    found = statistics.rank_sum([1.0, np.nan], [np.nan])
    assert math.isnan(found.p) and math.isnan(found.estimate) and found.note == "a group is empty" and found.n == 1


def test_equal_values_give_nan_not_one():
    found = statistics.rank_sum([2, 2, 2], [2, 2])
    assert math.isnan(found.p) and found.note == "all values are equal"


values = st.lists(st.integers(-30, 30), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(x=values, y=values, seed=st.integers(0, 9))
def test_rank_sum_ignores_order_and_monotone_scale(x, y, seed):
    one = statistics.rank_sum(x, y)
    rng = np.random.default_rng(seed)
    other = statistics.rank_sum(rng.permutation(x) * 2.0, rng.permutation(y) * 2.0)
    assert (one.statistic, one.auc) == (other.statistic, other.auc)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    swapped = statistics.rank_sum(y, x)
    assert swapped.auc == pytest.approx(1 - one.auc)
    assert swapped.p == pytest.approx(one.p, nan_ok=True)


def test_kruskal_equals_scipy_and_says_what_it_left_out():
    from scipy.stats import kruskal

    groups = [[1, 2, 2, 9], [4, 4, 7], [2, 8, 8, 8, 10]]
    theirs, ours = kruskal(*groups), statistics.kruskal(groups)
    assert (ours.statistic, ours.p, ours.n) == pytest.approx((theirs.statistic, theirs.pvalue, 12))
    assert statistics.kruskal([*groups, [np.nan]]).note == "1 empty group(s) left out"
    assert statistics.kruskal([[1, 1], [1]]).note == "all values are equal"
    assert statistics.kruskal([[1, 2], []]).note == "fewer than two groups have values"


def test_spearman_equals_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(5)
    x = rng.integers(0, 9, 40).astype(float)
    y = x + rng.normal(0, 4, 40)
    theirs, ours = spearmanr(x, y), statistics.spearman(np.append(x, np.nan), np.append(y, 1.0))
    assert (ours.estimate, ours.p, ours.n) == pytest.approx((theirs.statistic, theirs.pvalue, 40))
    assert ours.ci_low < ours.estimate < ours.ci_high
    assert statistics.spearman([1, 2, 3], [1, 1, 1]).note == "one of the two is constant"


# ---- tables and proportions ----


def test_the_source_trials_response_rate():
    # binom.test(26, 46): 56.5 % (41.1 to 71.1)
    found = statistics.exact_proportion(26, 46)
    assert [round(100 * part, 1) for part in (found.estimate, found.ci_low, found.ci_high)] == [56.5, 41.1, 71.1]


def test_fisher_two_by_two_equals_scipy():
    from scipy.stats import fisher_exact
    from scipy.stats.contingency import odds_ratio

    for table in ([[21, 11], [1, 8]], [[3, 1], [1, 3]], [[12, 5], [29, 2]]):
        ours, ratio = statistics.fisher_exact(table), odds_ratio(table)
        limits = ratio.confidence_interval()
        assert ours.p == pytest.approx(fisher_exact(table).pvalue, rel=1e-9)
        assert (ours.estimate, ours.ci_low, ours.ci_high) == pytest.approx(
            (ratio.statistic, limits.low, limits.high), rel=1e-6
        )


def test_fisher_three_by_two_by_hand():
    # margins 1,1,1 and 2,1: three tables, all as probable: p = 1; rows without counts change nothing
    assert statistics.fisher_exact([[1, 0], [1, 0], [0, 1]]).p == pytest.approx(1)
    # margins 2,1,1 and 2,2 have 1, 4, 1 of 6 ways; this one is one of the two rare tables
    assert statistics.fisher_exact([[2, 0], [0, 1], [0, 1], [0, 0]]).p == pytest.approx(2 / 6)


def test_fisher_draws_tables_where_there_are_too_many_to_list():
    table = np.random.default_rng(0).integers(4, 12, (3, 5))
    found = statistics.fisher_exact(table, draws=300)
    assert "drawn" in found.method and 0 < found.p <= 1
    assert statistics.fisher_exact(np.diag([20] * 6), draws=150).p < 0.01


@pytest.mark.parametrize("table", [[1, 2], [[1, 2]], [[1.5, 2], [3, 4]], [[-1, 2], [3, 4]]])
def test_what_is_no_table_of_counts_is_refused(table):
    with pytest.raises(InputError):
        statistics.fisher_exact(table)


# ---- survival ----


def test_kaplan_meier_by_hand():
    # 1: one of 4 dies; 2: one censored; 3: one of 2 dies; 4: censored
    curve = statistics.kaplan_meier([1, 2, 3, 4], [1, 0, 1, 0])
    assert curve.survival.tolist() == pytest.approx([0.75, 0.75, 0.375, 0.375])
    assert curve.at_risk.tolist() == [4, 3, 2, 1]
    assert curve.median().estimate == 3
    assert (curve.at(0.5).estimate, curve.at(3).estimate) == pytest.approx((1, 0.375))
    assert [curve.number_at_risk(t) for t in (0, 1, 1.5, 4, 5)] == [4, 4, 3, 1, 0]
    assert curve.at(9).note == "nobody was followed beyond 4"


def test_a_median_on_a_plateau_is_its_middle():
    assert statistics.kaplan_meier([1, 2, 3, 4], [1, 1, 1, 1]).median().estimate == 2.5


def test_a_median_that_is_not_reached_is_nan():
    found = statistics.kaplan_meier([1, 2, 3], [1, 0, 0]).median()
    assert math.isnan(found.estimate) and found.note == "not reached"


def test_times_that_differ_by_rounding_are_one_time():
    times = [0.3, 0.1 + 0.2, 1.0]
    assert times[0] != times[1]
    assert statistics.kaplan_meier(times, [1, 1, 0]).time.tolist() == [0.3, 1.0]


def test_a_curve_of_nobody_is_empty_and_says_so():
    curve = statistics.kaplan_meier([np.nan, 3], [1, np.nan])
    assert curve.n == 0 and len(curve.time) == 0
    for found in (curve.median(), curve.at(2)):
        assert math.isnan(found.estimate) and found.note == "no patients with time and event"


@pytest.mark.parametrize("seed", range(3))
def test_kaplan_meier_equals_lifelines(lifelines, seed):
    data = cohort(seed)
    theirs = lifelines.KaplanMeierFitter().fit(data["time"], data["event"])
    ours = statistics.kaplan_meier(data["time"], data["event"])
    assert ours.survival == pytest.approx(theirs.survival_function_at_times(ours.time).to_numpy(), rel=1e-9)
    inside = (ours.survival > 0) & (ours.survival < 1)
    limits = theirs.confidence_interval_.loc[ours.time[inside]].to_numpy()
    assert ours.ci_low[inside] == pytest.approx(limits[:, 0], rel=1e-6)
    assert ours.ci_high[inside] == pytest.approx(limits[:, 1], rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_log_rank_equals_lifelines(lifelines, seed):
    data = cohort(seed)
    group = pd.cut(data["x"], 3, labels=["low", "middle", "high"]).astype(str)
    theirs = lifelines.statistics.multivariate_logrank_test(data["time"], group, data["event"])
    ours = statistics.log_rank(data["time"], data["event"], group)
    assert (ours.statistic, ours.p, ours.df) == pytest.approx((theirs.test_statistic, theirs.p_value, 2), rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cox_equals_statsmodels(seed, ties):
    from statsmodels.duration.hazard_regression import PHReg

    data = cohort(seed)
    theirs = PHReg(data["time"], data[["x", "z"]], status=data["event"], ties=ties).fit()
    ours = statistics.cox(data["time"], data["event"], data[["x", "z"]], ties=ties)
    assert [term.coefficient for term in ours] == pytest.approx(np.asarray(theirs.params), rel=1e-6)
    assert [term.standard_error for term in ours] == pytest.approx(np.asarray(theirs.bse), rel=1e-6)
    assert [term.p for term in ours] == pytest.approx(np.asarray(theirs.pvalues), rel=1e-5)
    assert ours[0].log_likelihood == pytest.approx(theirs.llf, rel=1e-9)


def test_cox_within_strata_equals_lifelines(lifelines):
    data = cohort(7)
    theirs = lifelines.CoxPHFitter().fit(
        data, "time", "event", strata=["z"], fit_options={"precision": 1e-12, "step_size": 1.0}
    )
    (ours,) = statistics.cox(data["time"], data["event"], data[["x"]], strata=data["z"])
    assert ours.coefficient == pytest.approx(theirs.params_["x"], rel=1e-5)
    assert ours.standard_error == pytest.approx(theirs.standard_errors_["x"], rel=1e-5)


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_cox_does_not_depend_on_the_scale_of_a_covariate(factor):
    data = cohort(2)
    (one,) = statistics.cox(data["time"], data["event"], data["x"])
    (other,) = statistics.cox(data["time"], data["event"], data["x"] * factor + 5 * factor)
    assert other.coefficient * factor == pytest.approx(one.coefficient, rel=1e-7)
    assert other.p == pytest.approx(one.p, rel=1e-6)


def test_a_group_without_events_has_no_hazard_ratio_and_the_other_terms_stand():
    data = cohort(4)
    data["never"] = ((data["event"] == 0) & (np.arange(len(data)) % 2 == 0)).astype(float)
    never, x = statistics.cox(data["time"], data["event"], data[["never", "x"]])
    assert math.isnan(never.estimate) and math.isnan(never.p) and "infinite (-)" in never.note
    (alone,) = statistics.cox(data["time"], data["event"].where(data["never"] == 0), data["x"])
    assert x.coefficient == pytest.approx(alone.coefficient, rel=0.2) and x.note


def test_an_outlier_does_not_stop_cox():
    data = cohort(9, n=300, tied=False)
    data.loc[0, "x"] = 1e6
    (found,) = statistics.cox(data["time"], data["event"], data["x"])
    assert np.isfinite(found.coefficient) or found.note


@pytest.mark.parametrize(
    ("time", "event", "covariate", "why"),
    [
        ([1, 2, 3], [0, 0, 0], [1, 2, 3], "no events"),
        ([1, 2, 3], [1, 1, 0], [5, 5, 5], "constant"),
        ([np.nan, 2], [1, 1], [1, np.nan], "no patients"),
    ],
)
def test_OT20_what_cox_cannot_estimate_is_nan_with_the_reason(time, event, covariate, why):
    (found,) = statistics.cox(time, event, covariate)
    assert math.isnan(found.estimate) and math.isnan(found.p) and why in found.note


@pytest.mark.parametrize("call", [statistics.kaplan_meier, lambda t, e: statistics.cox(t, e, [1.0, 2.0])])
def test_impossible_follow_up_is_refused(call):
    with pytest.raises(InputError, match="negative"):
        call([-1, 2], [1, 0])
    with pytest.raises(InputError, match="events must be 0"):
        call([1, 2], [1, 2])
    with pytest.raises(InputError, match="different lengths"):
        call([1, 2, 3], [1, 0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_NP40_the_order_of_patients_changes_no_statistic(seed):
    data = cohort(seed, n=25)
    mixed = data.sample(frac=1, random_state=seed)
    group = [np.where(part["x"] > 0, "high", "low") for part in (data, mixed)]
    one, other = (
        (
            statistics.log_rank(part["time"], part["event"], names).statistic,
            statistics.cox(part["time"], part["event"], part["x"])[0].coefficient,
            statistics.kaplan_meier(part["time"], part["event"]).median().estimate,
            statistics.slope_change_split(part["time"], part["event"]).cut,
        )
        for part, names in zip((data, mixed), group, strict=True)
    )
    assert one == pytest.approx(other, rel=1e-8, nan_ok=True)


# ---- splits, cuts, many tests ----


def test_slope_change_finds_a_planted_bend():
    # ten times rise by 1, ten by 10 after a step: the slope changes after rank 10
    times = [*range(1, 11), *range(25, 125, 10)]
    found = statistics.slope_change_split(times, [1] * 19 + [0])
    assert (found.n_low, found.n_high, found.cut) == (10, 10, 17.5)
    assert found.labels.tolist() == ["low"] * 10 + ["high"] * 10


def test_slope_change_refuses_a_straight_line_and_never_cuts_equal_times():
    assert "straight line" in statistics.slope_change_split(np.arange(20.0), np.ones(20)).note
    ties = statistics.slope_change_split([1] * 5 + [9] * 5, [1] * 10)
    assert (ties.n_low, ties.cut) == (5, 5.0)
    assert "no cut" in statistics.slope_change_split([3] * 10, [1] * 10).note


def test_slope_change_leaves_a_tenth_on_each_side_and_counts_the_censored_it_calls_low():
    times = np.concatenate([[0.0], np.full(18, 10.0) + np.arange(18) / 100, [500.0]])
    found = statistics.slope_change_split(times, np.arange(20) % 2)
    assert 2 <= found.n_low <= 18
    assert found.n_censored_low == sum(1 for place in range(20) if found.labels[place] == "low" and place % 2 == 0)


def test_landmark_counts_who_was_censored_before_it():
    # event at 12 is low, censored at 12 is unknown, followed to 12.1 is high
    found = statistics.landmark_split([3, 12, 12, 12.1, 30, np.nan], [1, 1, 0, 0, 1, 1], 12)
    assert found.labels.tolist() == ["low", "low", "unknown", "high", "high", ""]
    assert (found.n_low, found.n_high, found.n_unknown, found.n) == (2, 2, 1, 5)


def test_low_is_up_to_the_cut_and_a_given_number_is_high_itself():
    assert statistics.median_split([1, 2, 3]).labels.tolist() == ["low", "low", "high"]
    assert statistics.given_split([1, 2, 3], 2).labels.tolist() == ["low", "high", "high"]
    assert statistics.tertile_split([1, 2, 3, 4, np.nan]).labels.tolist() == ["low", "low", "middle", "high", ""]
    assert statistics.tertile_split([1, 2, 3, 4]).cuts == (2.0, 3.0)


def test_a_marker_that_is_constant_has_no_high_group():
    found = statistics.median_split([0, 0, 0])
    assert found.note == "nobody is high" and found.n_high == 0


def test_the_best_cut_pays_for_the_search():
    rng = np.random.default_rng(11)
    naive, corrected = 0, 0
    for _ in range(60):
        time, x = rng.exponential(size=40), rng.normal(size=40)
        found = statistics.max_selected(time, np.ones(40), x, permutations=199)
        group = np.where(x <= found.estimate, "low", "high")
        naive += statistics.log_rank(time, np.ones(40), group).p <= 0.05
        corrected += found.p <= 0.05
    assert naive >= 14 and corrected <= 8  # nominal 3 of 60; searching the cut alone makes about 24


def test_the_best_cuts_p_is_the_same_every_time():
    data = cohort(1)
    one, other = (statistics.max_selected(data["time"], data["event"], data["x"], permutations=500) for _ in range(2))
    assert one.p == other.p and one.n_low + one.n_high == 80


def test_adjust_by_hand():
    # sorted .01 .02 .04: BH .03 .03 .04; Holm .03 .04 .04
    assert statistics.adjust([0.04, 0.01, np.nan, 0.02]) == pytest.approx([0.04, 0.03, np.nan, 0.03], nan_ok=True)
    assert statistics.adjust([0.04, 0.01, 0.02], "holm") == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.adjust([], "BH").tolist() == []
    with pytest.raises(InputError, match="between 0 and 1"):
        statistics.adjust([1.2])


@pytest.mark.parametrize(("method", "name"), [("BH", "fdr_bh"), ("BY", "fdr_by"), ("holm", "holm")])
def test_adjust_equals_statsmodels(method, name):
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).uniform(size=50) ** 3
    assert statistics.adjust(p, method) == pytest.approx(multipletests(p, method=name)[1], rel=1e-9)


def test_an_unknown_word_is_refused_with_the_words_that_are_known():
    with pytest.raises(InputError, match="BH, BY, holm"):
        statistics.adjust([0.1], "fdr")
    with pytest.raises(InputError, match="log-log, log"):
        statistics.kaplan_meier([1], [1], conf_type="loglog")
