"""mihc.statistics beside lifelines, statsmodels and scipy, and by hand: what test_statistics.py does not hold."""

from __future__ import annotations

import math
import warnings
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mihc import statistics
from mihc.errors import InputError


@pytest.fixture
def lifelines():
    """lifelines, whose Kaplan-Meier fitter sets numpy's error handling for everybody; put back afterwards."""
    before = np.geterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lifelines
        import lifelines.utils

        yield lifelines
    np.seterr(**before)


def cohort(seed: int, n: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    death, end = rng.exponential(10 * np.exp(-0.5 * x - 0.3 * z)), rng.uniform(2, 25, n)
    time = np.ceil(np.minimum(death, end))
    return pd.DataFrame({"time": time, "event": (death <= end).astype(float), "x": x, "z": z})


# ---- restricted mean, follow-up, concordance


def test_restricted_mean_by_hand():
    # S is 1 to 2, 3/4 to 3, 1/2 to 5 (one censored at 4), 0 after 5: up to 4: 2 + 3/4 + 1/2
    found = statistics.restricted_mean([2, 3, 4, 5], [1, 1, 0, 1], 4)
    assert found.estimate == pytest.approx(3.25)
    # areas left after the two events: 1.25 and 0.5; times d / (r (r - d)) = 1/12 and 1/6
    assert found.standard_error == pytest.approx(math.sqrt(1.25**2 / 12 + 0.25 / 6))
    assert "carried on" in statistics.restricted_mean([2, 3], [1, 0], 9).note
    assert statistics.restricted_mean([2, 3], [1, 1], 9).estimate == 2.5


@pytest.mark.parametrize("seed", range(4))
def test_NP48_restricted_mean_equals_lifelines(lifelines, seed):
    data = cohort(seed)
    curve = lifelines.KaplanMeierFitter().fit(data["time"], data["event"])
    theirs = lifelines.utils.restricted_mean_survival_time(curve, t=12.0)
    assert statistics.restricted_mean(data["time"], data["event"], 12.0).estimate == pytest.approx(theirs, rel=1e-6)


def test_follow_up_is_what_it_would_have_been_without_events():
    # two die at 1 and 2; the others were followed for 10, 12, 14
    found = statistics.follow_up([1, 2, 10, 12, 14], [1, 1, 0, 0, 0])
    assert found.median().estimate == 12
    assert np.median([1, 2, 10, 12, 14]) == 10


def test_concordance_by_hand():
    # comparable: (1,2) (1,3) (1,4) (3,4); the higher x has the earlier event in (1,2), (3,4); (1,3) is tied
    found = statistics.concordance([1, 2, 3, 4], [1, 0, 1, 0], [5, 4, 5, 9])
    assert (found.concordant, found.discordant, found.tied) == (1, 2, 1)
    assert found.estimate == 1.5 / 4


@pytest.mark.parametrize("seed", range(4))
def test_NP48_concordance_equals_lifelines(lifelines, seed):
    data = cohort(seed)
    data["x"] = data["x"].round(1)
    theirs = lifelines.utils.concordance_index(data["time"], -data["x"], data["event"])
    assert statistics.concordance(data["time"], data["event"], data["x"]).estimate == pytest.approx(theirs, rel=1e-9)


def test_concordances_standard_error_is_that_of_leaving_patients_out():
    data = cohort(5, n=200)
    whole = statistics.concordance(data["time"], data["event"], data["x"])
    left = []
    for out in range(len(data)):
        rest = data.drop(index=out)
        left.append(statistics.concordance(rest["time"], rest["event"], rest["x"]).estimate)
    jackknife = math.sqrt(199 / 200 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert whole.standard_error == pytest.approx(jackknife, rel=0.03)


# ---- log-rank's trend, Cox's model


def test_a_trend_of_two_groups_is_the_log_rank_test():
    data = cohort(1)
    one = statistics.log_rank(data["time"], data["event"], data["z"])
    other = statistics.log_rank(data["time"], data["event"], data["z"], trend=True)
    assert other.statistic == pytest.approx(one.statistic, rel=1e-9) and other.df == 1


def test_without_ties_the_trend_is_coxs_score_test():
    rng = np.random.default_rng(3)
    time, event, dose = rng.exponential(size=60), rng.integers(0, 2, 60), rng.integers(1, 4, 60)
    found = statistics.log_rank(time, event, dose, trend=True)
    assert found.statistic == pytest.approx(statistics.cox_model(time, event, dose).score.statistic, rel=1e-8)
    named = statistics.log_rank(time, event, np.array(["low", "mid", "top"])[dose - 1], trend=True)
    assert named.statistic == pytest.approx(found.statistic, rel=1e-9)  # text: 1, 2, 3 in its order


@pytest.mark.parametrize("strata", [None, "z"])
def test_NP48_the_whole_cox_model_equals_lifelines(lifelines, strata):
    data = cohort(7, n=150)
    model = statistics.cox_model(
        data["time"], data["event"], data[["x"]], strata=None if strata is None else data[strata]
    )
    columns = ["time", "event", "x"] + ([strata] if strata else [])
    fitter = lifelines.CoxPHFitter()
    fitter.fit(data[columns], "time", "event", strata=[strata] if strata else None, fit_options={"precision": 1e-12})
    assert model.terms[0].coefficient == pytest.approx(fitter.params_["x"], rel=1e-6)
    assert model.log_likelihood == pytest.approx(fitter.log_likelihood_, rel=1e-6)
    assert model.likelihood_ratio.statistic == pytest.approx(
        fitter.log_likelihood_ratio_test().test_statistic, rel=1e-6
    )
    if strata is None:
        assert model.concordance.estimate == pytest.approx(fitter.concordance_index_, rel=1e-6)


def test_exact_ties_by_hand():
    """Two of three die at once: the likelihood is exp(b(x1 + x2)) over the three pairs."""
    x, b = np.array([1.0, 0.0, 2.0, 0.5]), 0.3
    from mihc.estimates.partial import RiskSets

    risk = RiskSets.of(np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4), "exact")
    pairs = [(i, j) for i in range(4) for j in range(i)]
    by_hand = b * (x[0] + x[1]) - math.log(sum(math.exp(b * (x[i] + x[j])) for i, j in pairs))
    assert risk.likelihood(x[risk.order][:, None], np.array([b]))[0] == pytest.approx(by_hand, rel=1e-12)


def test_what_the_events_say_nothing_about_has_no_test_of_its_hazards():
    """Every patient is a stratum of its own: nobody is compared, and that is no error."""
    x = pd.DataFrame({"x": [1.0, 0.3, 0.0, 0.0]})
    model = statistics.cox_model([1.0, 5.0, 1.0, 1.0], [1, 1, 0, 1], x, strata=["a", "b", "c", "d"])
    assert all(math.isnan(found.p) and found.note for found in model.proportional)


def test_hazards_that_cross_are_not_proportional():
    rng = np.random.default_rng(0)
    group = np.repeat([0.0, 1.0], 150)
    time = np.where(group == 1, rng.weibull(0.6, 300), rng.weibull(3.0, 300))
    crossing = statistics.cox_model(time, np.ones(300), pd.DataFrame({"group": group}))
    (term, overall) = crossing.proportional
    assert term.p < 1e-4 and overall.statistic == pytest.approx(term.statistic)
    steady = statistics.cox(rng.exponential(np.exp(-group)), np.ones(300), group, check=True)[0]
    assert steady.proportional_p > 0.01


def test_profile_limits_are_where_the_likelihood_has_fallen():
    data = cohort(3)
    (term,) = statistics.cox(data["time"], data["event"], data["x"], profile=True)
    for limit in (term.profile_low, term.profile_high):
        beta = math.log(limit)
        shifted = statistics.cox_model(data["time"], data["event"], data["x"], check=False)
        from mihc.estimates.partial import RiskSets

        risk = RiskSets.of(data["time"].to_numpy(), data["event"].to_numpy(), np.zeros(80), "efron")
        fallen = risk.likelihood(data["x"].to_numpy()[risk.order][:, None], np.array([beta]))[0]
        assert 2 * (shifted.log_likelihood - fallen) == pytest.approx(3.841459, rel=1e-5)
    assert term.profile_low == pytest.approx(term.ci_low, rel=0.05)


def test_near_separation_is_flagged_by_cox_itself():
    """Times fall almost steadily with x: the coefficient is finite, absurd, and its Wald interval wrong."""
    x = np.concatenate([np.linspace(12, 8, 40), np.linspace(4, 0, 40)]) + np.tile([0.0, 0.2], 40)
    (found,) = statistics.cox(np.arange(1.0, 81.0), np.ones(80), x)
    assert found.flag == "nearly separated" and "near separation" in found.note
    assert np.isfinite(found.estimate) and 1 < found.profile_low < found.estimate < found.profile_high
    assert not statistics.cox(cohort(1)["time"], cohort(1)["event"], cohort(1)["x"])[0].flag


def test_text_becomes_terms_as_r_names_them():
    data = cohort(4)
    data["cell"] = np.array(["small", "adeno", "large"])[np.arange(80) % 3]
    found = statistics.cox(data["time"], data["event"], data[["cell", "x"]])
    assert [term.term for term in found] == ["celllarge", "cellsmall", "x"]


def test_a_formula_is_read_as_r_reads_it():
    table = pd.DataFrame(
        {"t": [1.0, 2, 3], "d": [1.0, 0, 1], "a": [1.0, 2, 3], "g": ["x", "y", None], "b": [2.0, 0, 1]}
    )
    model = statistics.model_columns("Surv(t, d) ~ a * b + log1p(a) + strata(g)", table)
    assert list(model.covariates.columns) == ["a", "b", "log1p(a)", "a:b"]
    assert model.covariates["a:b"].tolist() == [2, 0, 3] and list(model.strata) == ["x", "y", None]
    assert statistics.model_columns("Surv(t, d) ~ g", table).group_names == {"x": "g=x", "y": "g=y"}
    assert statistics.model_columns("Surv(t, d) ~ 1", table).groups is None
    for wrong in ("t ~ a", "Surv(t, d) ~ nobody", "Surv(t, d) ~ sin(a)", "Surv(t, d) ~ a * b * g"):
        with pytest.raises(InputError):
            statistics.model_columns(wrong, table)


# ---- ranks


def test_spearmans_exact_p_counts_all_orders():
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
    found = statistics.spearman(x, y)
    S = sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    sums = [sum((a - b) ** 2 for a, b in zip(x, order, strict=True)) for order in permutations(x)]
    assert found.statistic == S and "exact" in found.method
    assert found.p == pytest.approx(2 * np.mean([value <= S for value in sums]))


def test_spearmans_series_is_close_to_the_count_of_all_orders():
    from mihc.estimates.ranks import _squared_differences

    sums, mass = _squared_differences(10)  # ten pairs are the first that R gives to the series
    rng = np.random.default_rng(5)
    for _ in range(20):
        found = statistics.spearman(np.arange(10), rng.permutation(10))
        low, high = mass[sums <= found.statistic].sum(), mass[sums >= found.statistic].sum()
        assert "AS 89" in found.method and found.p == pytest.approx(min(1, 2 * min(low, high)), abs=1e-3)


@pytest.mark.parametrize("n", [50, 1000])
def test_spearmans_t_is_scipys_and_the_series_comes_close(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    y = 0.1 * x + rng.normal(size=n)
    found, t = statistics.spearman(x, y), statistics.spearman(x, y, method="t")
    assert t.p == pytest.approx(stats.spearmanr(x, y).pvalue, rel=1e-9) and found.estimate == t.estimate
    assert found.p == pytest.approx(t.p, abs=2e-3) and found.p != t.p


def test_spearman_with_ties_is_students_t_as_in_r():
    assert "t approximation" in statistics.spearman([1, 1, 2, 3, 4], [2, 1, 4, 3, 6]).method


def test_the_aucs_interval_is_open_where_the_groups_do_not_overlap():
    apart = statistics.rank_sum([5, 6, 7, 8], [1, 2, 3, 4])
    assert apart.auc == 1 and 0.5 < apart.auc_low < 1 and apart.auc_high == 1
    mirrored = statistics.rank_sum([1, 2, 3, 4], [5, 6, 7, 8])
    assert (1 - mirrored.auc_high, mirrored.auc_low) == pytest.approx((apart.auc_low, 0))


def test_the_aucs_interval_covers():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(300):
        found = statistics.rank_sum(rng.normal(1, 1, 20), rng.normal(0, 1, 25))
        inside += found.auc_low <= stats.norm.cdf(1 / math.sqrt(2)) <= found.auc_high
    assert inside >= 276  # 95 % of 300 is 285, three standard errors are 11


# ---- agreement


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_NP48_kappa_equals_statsmodels(weights):
    from statsmodels.stats.inter_rater import cohens_kappa

    rng = np.random.default_rng(2)
    a = rng.integers(0, 4, 120)
    b = np.where(rng.uniform(size=120) < 0.6, a, rng.integers(0, 4, 120))
    table = pd.crosstab(a, b).to_numpy()
    theirs = cohens_kappa(table, wt=None if weights == "none" else weights, return_results=True)
    found = statistics.kappa(a, b, weights=weights)
    assert found.estimate == pytest.approx(theirs.kappa, rel=1e-9)
    if weights == "none":
        assert found.standard_error == pytest.approx(theirs.std_kappa, rel=1e-6)
        assert found.statistic == pytest.approx(theirs.z_value, rel=1e-6)


def test_kappa_by_hand():
    # 20 of 50 yes/yes, 15 no/no: agreement 0.7; yes by 25 and 30 of 50: chance 0.5
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = statistics.kappa(a, b)
    assert (found.observed, found.expected, found.estimate) == pytest.approx((0.7, 0.5, 0.4))
    assert "one and the same" in statistics.kappa(["x"] * 5, ["x"] * 5).note


def test_kappa_of_counts_is_that_of_the_labels():
    # Fleiss, Statistical Methods for Rates and Proportions: 20 both, 15 neither, 5 and 10 apart of 50 -> 0.4
    assert statistics.kappa_of_counts([[20, 5], [10, 15]]).estimate == pytest.approx(0.4)
    assert statistics.kappa_of_counts([[7, 0], [0, 3]]).estimate == 1.0
    assert "one and the same" in statistics.kappa_of_counts([[7, 0], [0, 0]]).note
    nobody = statistics.kappa_of_counts(np.zeros((2, 2), int))
    assert math.isnan(nobody.estimate) and nobody.note == statistics.kappa([], []).note
    with pytest.raises(InputError, match="square table"):
        statistics.kappa_of_counts([[1, 2]])


def test_icc_is_shrout_and_fleisss():
    """Table 2 of Shrout and Fleiss, 1979: ICC(1,1) 0.17, ICC(2,1) 0.29, ICC(3,1) 0.71; F of (2,1) and (3,1) 11.03."""
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    one, two, three = (statistics.icc(table, kind=kind) for kind in ("one-way", "agreement", "consistency"))
    assert [round(found.estimate, 2) for found in (one, two, three)] == [0.17, 0.29, 0.71]
    assert round(three.statistic, 2) == 11.03 and round(one.statistic, 2) == 1.79
    # R's irr::icc of the same table prints 0.019 < ICC < 0.761 (agreement) and 0.342 < ICC < 0.946 (consistency)
    assert (round(two.ci_low, 3), round(two.ci_high, 3)) == (0.019, 0.761)
    assert (round(three.ci_low, 3), round(three.ci_high, 3)) == (0.342, 0.946)


# ---- many tests, two stages, counts


def test_westfall_young_is_fishers_permutation_where_there_is_one_marker():
    rng = np.random.default_rng(1)
    x, group = rng.normal(size=12), np.repeat([0.0, 1.0], 6)
    x[:6] += 1
    raw, adjusted = statistics.westfall_young(x[:, None], group, permutations=20_000)
    exact = statistics.rank_sum(x[:6], x[6:], method="exact").p
    assert raw == pytest.approx(exact, abs=0.01) and adjusted == pytest.approx(raw)


def test_westfall_young_takes_less_than_holm_from_markers_that_go_together():
    rng = np.random.default_rng(4)
    shared = rng.normal(size=(60, 1))
    markers, outcome = shared + 0.05 * rng.normal(size=(60, 12)), rng.normal(size=60) + 0.35 * shared[:, 0]
    raw, adjusted = statistics.westfall_young(markers, outcome, permutations=1999)
    assert (adjusted >= raw).all() and adjusted.min() < statistics.adjust(raw, "holm").min() / 2
    again = statistics.westfall_young(markers[::-1], outcome[::-1], permutations=1999)
    assert np.array_equal(again[1], adjusted)  # NP40: the order of patients


def test_westfall_young_keeps_its_level():
    rng, hits = np.random.default_rng(8), 0
    for seed in range(100):
        data = cohort(seed, n=40)
        scores = statistics.log_rank_scores(data["time"], data["event"])
        hits += statistics.westfall_young(rng.normal(size=(40, 8)), scores, permutations=99)[1].min() <= 0.05
    assert hits <= 13  # 5 of 100 expected, binomial 99.9 %


def test_a_two_stage_trial_that_stops_has_stopped():
    found = statistics.two_stage_proportion(3, n1=15, r1=5, n=46, p0=0.3)
    assert (found.n, found.estimate, found.observed) == (15, 0.2, 0.2) and "stopped" in found.note
    assert found.p == pytest.approx(1 - stats.binom.cdf(2, 15, 0.3))


def test_a_two_stage_estimate_is_unbiased():
    """The UMVUE's mean over all results of a trial with rate 0.4 is 0.4; that of responses / patients is not."""
    n1, r1, n, rate = 10, 3, 24, 0.4
    first = stats.binom.pmf(np.arange(n1 + 1), n1, rate)
    share = {s: first[s] for s in range(r1 + 1)}
    for x in range(r1 + 1, n1 + 1):
        for more in range(n - n1 + 1):
            share[x + more] = share.get(x + more, 0) + first[x] * stats.binom.pmf(more, n - n1, rate)
    made = {s: statistics.two_stage_proportion(s, n1=n1, r1=r1, n=n) for s in share}
    assert sum(share.values()) == pytest.approx(1)
    assert sum(share[s] * made[s].estimate for s in share) == pytest.approx(rate, abs=1e-12)
    assert abs(sum(share[s] * made[s].observed for s in share) - rate) > 0.005


def test_the_gaussian_p_of_the_best_cut_is_the_chance_of_its_normal_limit():
    data = cohort(11, n=60)
    found = statistics.max_selected(data["time"], data["event"], data["x"], corrections="all", permutations=9)
    sizes = np.searchsorted(np.sort(data["x"]), found.cuts, side="right")
    n, small, large = 60, np.minimum.outer(sizes, sizes), np.maximum.outer(sizes, sizes)
    correlation = np.sqrt(small * (n - large) / (large * (n - small)))
    drawn = np.abs(
        np.random.default_rng(0).multivariate_normal(np.zeros(len(sizes)), correlation, 40_000, method="eigh")
    )
    assert found.p_gauss == pytest.approx((drawn.max(axis=1) >= found.statistic).mean(), abs=0.01)
    assert 0 < found.p_naive <= 1 and found.p_naive_smallest <= found.p_naive


def test_the_exact_limit_is_one():
    """Of eight patients every order of the scores can be tried: the limit is above the share that goes beyond b."""
    from mihc.estimates.exact_limits import whole_score_limit

    scores = statistics.log_rank_scores([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 0, 1, 1, 0, 1, 1])
    sizes = np.array([2.0, 3, 4, 5, 6])
    b, p = whole_score_limit(scores, sizes)
    whole = np.rint((scores - scores.min()) * 8 / np.ptp(scores))
    orders = np.array(list(permutations(whole)))
    sums = np.cumsum(orders, axis=1)[:, sizes.astype(int) - 1]
    spread = np.sqrt(sizes * (8 - sizes) / (64 * 7) * (8 * (whole**2).sum() - whole.sum() ** 2))
    beyond = (np.abs(sums - sizes / 8 * whole.sum()) / spread).max(axis=1) > b + 1e-9
    assert beyond.mean() <= p + 1e-12 <= 1


def test_the_exact_limit_by_hand():
    """Five scores, cuts after two and three patients; sums of two are 0 2 2 3 3 5 5 5 7 8, of three 10 less these."""
    from mihc.estimates.exact_limits import whole_score_limit

    cuts, spread = np.array([2.0, 3]), math.sqrt(2 * 3 / (25 * 4) * (5 * 38 - 10**2))
    # Patients in the order 0 0 2 3 5: 0 of two lies furthest from its mean of 4, and no sum lies further.
    assert whole_score_limit(np.array([0.0, 0, 2, 3, 5]), cuts) == (pytest.approx(4 / spread), 0)
    # In the order 2 0 5 3 0: 2 of two. Further out are 7, 8 (R leaves 0 out) of two and 2, 3, 10 of three; neither 7
    # nor 8 is far with a third score of 0 (the mean is then 6), so that nothing is counted twice.
    assert whole_score_limit(np.array([2.0, 0, 5, 3, 0]), cuts) == (pytest.approx(2 / spread), pytest.approx(5 / 10))


def test_counts_of_cells_by_hand():
    assert statistics.positivity_percent(33, 950) == pytest.approx(3.473684)
    assert math.isnan(statistics.positivity_percent(0, 0)) and math.isnan(statistics.density_per_mm2(3, 0))
    scores = statistics.pdl1_ratios(tumour=1000, positive_tumour=30, positive_lymphocytes=12, positive_macrophages=5)
    assert (scores.tps_percent, scores.cps, scores.adequate) == (3.0, 4.7, True)
    with pytest.raises(InputError, match="negative"):
        statistics.density_per_mm2(-1, 2)
