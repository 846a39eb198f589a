"""Tests on many columns at once are those on one; what could have been found is what textbooks say."""

from __future__ import annotations

import numpy as np
import pytest

from mihc import statistics
from mihc.errors import InputError


def follow_up(n: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return np.round(rng.exponential(10, n)) + 1, (rng.random(n) < 0.6).astype(float), rng  # many ties


@pytest.mark.parametrize("per_sd", [False, True])
def test_many_cox_models_are_each_the_one(per_sd):
    time, event, rng = follow_up()
    X = rng.normal(size=(50, 40))
    X[rng.random(X.shape) < 0.08] = np.nan
    X[:, 3], X[:, 4] = 1.0, (time < 4) & (event == 1)  # constant, and perfectly separated
    X[:, 5] = rng.random(50) < 0.4
    time[7] = np.nan
    found = statistics.cox_each(time, event, X, per_sd=per_sd)
    for place in range(40):
        x = X[:, place]
        known = ~np.isnan(x) & ~np.isnan(time)
        spread = x[known].std(ddof=1) if per_sd else 1.0
        (one,) = statistics.cox(time, event, x / (spread or 1.0))
        got = found.coefficient[place], found.standard_error[place], found.p[place]
        want = one.coefficient, one.standard_error, one.p
        assert got == pytest.approx(want, rel=1e-6, abs=1e-8, nan_ok=True), place
        assert (found.n[place], found.n_events[place]) == (one.n, one.n_events)
    assert np.isnan(found.p[3]) and np.isnan(found.p[4])


def test_a_patient_that_is_drawn_twice_counts_twice():
    time, event, rng = follow_up(30)
    x, weights = rng.normal(size=30), rng.multinomial(30, np.full(30, 1 / 30), size=20).T
    found = statistics.cox_each(time, event, x[:, None], weights=weights)
    for place in range(20):
        again = np.repeat(np.arange(30), weights[:, place])
        (one,) = statistics.cox(time[again], event[again], x[again], ties="breslow")
        assert found.coefficient[place] == pytest.approx(one.coefficient, rel=1e-6, abs=1e-8)
        assert (found.n[place], found.n_events[place]) == (one.n, one.n_events)


def test_many_rank_sums_are_each_the_one():
    _, _, rng = follow_up()
    X = rng.normal(size=(50, 30))
    X[:, 10:] = np.round(X[:, 10:])  # ties
    X[rng.random(X.shape) < 0.1] = np.nan
    first = rng.random(50) < 0.4
    found = statistics.rank_sum_each(X, first, ~first)
    for place in range(30):
        one = statistics.rank_sum(X[first, place], X[~first, place])
        assert (found.p[place], found.auc[place]) == (one.p, one.auc)
        assert (found.n_x[place], found.n_y[place]) == (one.n_x, one.n_y)


def test_without_events_or_values_nothing_is_estimated():
    found = statistics.cox_each([1, 2, 3], [0, 0, 0], np.ones((3, 2)))
    assert np.isnan(found.p).all() and found.n.tolist() == [3, 3]
    assert np.isnan(statistics.rank_sum_each(np.full((3, 1), np.nan), np.ones(3, bool), np.zeros(3, bool)).p).all()
    with pytest.raises(InputError, match="columns must be"):
        statistics.cox_each([1, 2, 3], [1, 1, 1], np.ones((2, 1)))


def test_schoenfelds_88_events_find_a_hazard_ratio_of_1_82_between_halves():
    # Schoenfeld 1983: events = (1.96 + 0.8416)^2 / (0.5^2 log(HR)^2); HR 1.8172 needs 88 events
    found = statistics.detectable_effect("log_rank", n_events=88, n_high=50, n_low=50)
    assert found.estimate == pytest.approx(np.exp(2 * 2.8015852 / np.sqrt(88)), rel=1e-6)
    per_sd = statistics.detectable_effect("cox", n=43, n_events=22)
    assert per_sd.estimate == pytest.approx(np.exp(2.8015852 / np.sqrt(22)), rel=1e-6)
    assert "Hsieh" in per_sd.method and "Schoenfeld" in found.method


def test_noethers_auc_and_the_others_grow_with_fewer_patients_and_a_stricter_level():
    # Noether 1987: N = (1.96 + 0.8416)^2 / (12 c (1 - c) (AUC - 0.5)^2)
    found = statistics.detectable_effect("rank_sum", n_high=20, n_low=20)
    assert found.estimate == pytest.approx(0.5 + 2.8015852 / np.sqrt(12 * 0.25 * 40), rel=1e-6)
    for analysis in ("rank_sum", "fisher", "log_rank", "cox"):
        sizes = {"n_high": 40, "n_low": 40, "n_events": 50}
        small = {"n_high": 20, "n_low": 20, "n_events": 25}
        whole, half = (statistics.detectable_effect(analysis, **given).estimate for given in (sizes, small))
        stricter = statistics.detectable_effect(analysis, level=0.01, **sizes).estimate
        assert whole < half and whole < stricter
    assert 0.3 < statistics.detectable_effect("spearman", n=43).estimate < 0.45
    assert statistics.detectable_effect("spearman", n=3).estimate == np.inf
    assert statistics.detectable_effect("cox", n=10, n_events=0).estimate == np.inf
    assert np.isnan(statistics.detectable_effect("kruskal", n=40).estimate)


@pytest.mark.slow
def test_what_is_called_detectable_is_found_in_four_of_five_studies():
    rng, hits = np.random.default_rng(8), {"cox": 0, "rank_sum": 0}
    ratio = statistics.detectable_effect("cox", n_events=80).estimate
    auc = statistics.detectable_effect("rank_sum", n_high=40, n_low=40).estimate
    from scipy import special

    shift = np.sqrt(2) * special.ndtri(auc)
    for _ in range(300):
        x = rng.normal(size=80)
        time = rng.exponential(1 / np.exp(np.log(ratio) * x))
        hits["cox"] += statistics.cox(time, np.ones(80), x)[0].p < 0.05
        hits["rank_sum"] += statistics.rank_sum(rng.normal(shift, 1, 40), rng.normal(size=40)).p < 0.05
    assert all(0.70 * 300 <= found <= 0.90 * 300 for found in hits.values()), hits


def test_without_censoring_the_weighted_auc_is_the_plain_one():
    time, _, rng = follow_up(60)
    x = rng.normal(size=60) - 0.3 * np.log(time)
    found = statistics.weighted_auc(time, np.ones(60), x, 8)
    by_hand = statistics.rank_sum(x[time <= 8], x[time > 8])
    assert found.estimate == pytest.approx(by_hand.auc) and found.n_events == (time <= 8).sum()
    assert found.ci_low < found.estimate < found.ci_high
