"""Whatever is thrown at mihc.statistics: a number that is right, or NaN with the reason; never a warning or a crash.

Warnings are errors in these tests.
"""

from __future__ import annotations

import math
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc import statistics

ODD = st.sampled_from([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 0.1 + 0.2, 0.3, 1e-300, 1e-9, 1e9, 1e300, math.nan])
VALUES = st.one_of(ODD, st.floats(-1e6, 1e6), st.sampled_from([math.inf, -math.inf, -1e300]))
TIMES = st.one_of(ODD, st.integers(0, 5).map(float), st.floats(0, 1e6), st.just(math.inf))
EVENTS = st.sampled_from([0.0, 1.0, 1.0, math.nan])
MANY = settings(max_examples=80, deadline=None)
PATIENTS = st.lists(st.tuples(TIMES, EVENTS, VALUES, st.sampled_from(["a", "b", "c", ""])), max_size=14)


def columns(patients: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, list]:
    time, event, x, group = zip(*patients, strict=True) if patients else ([], [], [], [])
    return np.array(time, float), np.array(event, float), np.array(x, float), list(group)


def sound(found: statistics.Estimate) -> None:
    """p is a probability, the interval holds the estimate, and what is missing is explained."""
    assert math.isnan(found.p) or 0 <= found.p <= 1, found
    assert math.isnan(found.estimate) or not found.estimate < found.ci_low - 1e-9 * abs(found.ci_low), found
    assert math.isnan(found.estimate) or not found.estimate > found.ci_high + 1e-9 * abs(found.ci_high), found
    if math.isnan(found.estimate) and math.isnan(found.p):
        assert found.note, found
    assert found.n >= 0 and (found.n_events is None or 0 <= found.n_events <= found.n)


@MANY
@given(patients=PATIENTS, conf_type=st.sampled_from(["log-log", "log", "plain", "logit", "arcsin"]))
def test_curves_fall_and_their_intervals_hold_them(patients, conf_type):
    time, event, _, _ = columns(patients)
    curve = statistics.kaplan_meier(time, event, conf_type=conf_type)
    assert (np.diff(curve.survival) <= 1e-12).all() and ((curve.survival >= 0) & (curve.survival <= 1)).all()
    known = ~np.isnan(curve.ci_low)
    assert (curve.ci_low[known] <= curve.survival[known] + 1e-9).all()
    assert (curve.ci_high[known] >= curve.survival[known] - 1e-9).all()
    for found in (curve.median(), curve.at(1.0), statistics.restricted_mean(time, event, 3.0)):
        assert found.note or not math.isnan(found.estimate)
    mean = statistics.restricted_mean(time, event, 3.0)
    assert math.isnan(mean.estimate) or -1e-9 <= mean.estimate <= 3 + 1e-9
    assert statistics.follow_up(time, event).n == curve.n


@MANY
@given(patients=PATIENTS, trend=st.booleans(), rho=st.sampled_from([0.0, 1.0]))
def test_log_rank_is_a_probability_or_says_why_not(patients, trend, rho):
    time, event, x, group = columns(patients)
    found = statistics.log_rank(time, event, group, trend=trend, rho=rho)
    assert math.isnan(found.p) or 0 <= found.p <= 1
    assert found.note or not math.isnan(found.p)
    assert sum(found.observed) == pytest.approx(sum(found.expected), rel=1e-6, abs=1e-9)
    statistics.log_rank(time, event, np.where(np.isnan(x), 0, 1), strata=group)


@MANY
@given(patients=PATIENTS, ties=st.sampled_from(["efron", "breslow", "exact"]))
def test_OT20_cox_gives_a_finite_ratio_or_a_flag(patients, ties):
    time, event, x, group = columns(patients)
    table = pd.DataFrame({"x": x, "group": [one or None for one in group]})
    for covariates, strata in ((table[["x"]], None), (table[["x"]], group), (table, None)):
        model = statistics.cox_model(time, event, covariates, strata=strata, ties=ties)
        for term in model.terms:
            sound(term)
            assert bool(term.flag) == bool(term.note)
            if not term.flag:
                assert 0 < term.estimate < math.inf and term.standard_error > 0
        for found in (model.likelihood_ratio, model.score, model.wald, *model.proportional):
            assert math.isnan(found.p) or 0 <= found.p <= 1
        assert model.n + model.n_missing == len(time)


@MANY
@given(patients=PATIENTS)
def test_ranks_and_cuts_are_sound(patients):
    time, event, x, group = columns(patients)
    half = len(x) // 2
    for method in ("auto", "exact", "normal"):
        found = statistics.rank_sum(x[:half], x[half:], method=method)
        assert math.isnan(found.p) or 0 <= found.p <= 1
        assert found.note or not math.isnan(found.p)
        assert math.isnan(found.auc) or found.auc_low - 1e-9 <= found.auc <= found.auc_high + 1e-9
    sound(statistics.spearman(x[:half], x[half : 2 * half]))
    sound(statistics.kruskal([x[:half], x[half:], []]))
    best = statistics.max_selected(time, event, x, permutations=19, corrections="all")
    for p in (best.p, best.p_lau92, best.p_lau94, best.p_gauss, best.p_hl, best.p_naive_smallest):
        assert math.isnan(p) or 0 <= p <= 1
    assert best.note or 0 < best.n_low < best.n
    agreement = statistics.concordance(time, event, x)
    sound(agreement)
    assert math.isnan(agreement.estimate) or 0 <= agreement.estimate <= 1
    markers, outcome = np.stack([x, -x], axis=1), np.where(np.isnan(event), 0, event)
    raw, adjusted = statistics.westfall_young(markers, outcome, permutations=9)
    assert np.all((adjusted >= raw - 1e-12) | np.isnan(raw))
    kappa = statistics.kappa(group, group)
    assert kappa.note or kappa.estimate == pytest.approx(1)
    ratings = np.clip(np.stack([x, x[::-1]], axis=1), -1e9, 1e9)
    for kind in ("agreement", "consistency", "one-way"):
        sound(statistics.icc(ratings, kind=kind))


@MANY
@given(patients=PATIENTS, factor=st.sampled_from([1e-200, 1e-9, 1.0, 1e9, 1e150]), seed=st.integers(0, 99))
def test_NP40_neither_order_nor_unit_changes_an_answer(patients, factor, seed):
    patients = [(t, d, x, g) for t, d, x, g in patients if t < 1e7 and abs(x) < 1e7 and (x == 0 or abs(x) > 1e-7)]
    patients = [(round(t, 3), d, round(x, 3), g) for t, d, x, g in patients]
    mixed = [patients[place] for place in np.random.default_rng(seed).permutation(len(patients))]
    one, other = columns(patients), columns(mixed)
    for first, second in (
        (statistics.cox(*one[:3])[0], statistics.cox(other[0], other[1], other[2] * factor)[0]),
        (statistics.concordance(*one[:3]), statistics.concordance(other[0], other[1], other[2] * factor)),
        (statistics.log_rank(one[0], one[1], one[3]), statistics.log_rank(other[0], other[1], other[3])),
    ):
        assert first.p == pytest.approx(second.p, rel=1e-5, abs=1e-9, nan_ok=True)
        assert getattr(first, "flag", "") == getattr(second, "flag", "")
        assert first.n == second.n and bool(first.note) == bool(second.note)


@given(k=st.integers(0, 60), n=st.integers(0, 60), p0=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_proportions_lie_in_their_intervals(k, n, p0, confidence):
    k = min(k, n)
    for found in (
        statistics.exact_proportion(k, n, p0=p0, confidence=confidence),
        statistics.wilson_proportion(k, n, confidence=confidence),
        statistics.wilson_proportion(k, n, confidence=confidence, correct=True),
    ):
        assert found.note or -1e-12 <= found.ci_low <= found.estimate + 1e-12
        assert found.note or found.estimate - 1e-12 <= found.ci_high <= 1 + 1e-12


@settings(max_examples=60, deadline=None)
@given(n1=st.integers(1, 12), more=st.integers(1, 14), data=st.data(), p0=st.floats(0, 1))
def test_two_stage_results_are_ordered(n1, more, data, p0):
    r1, n = data.draw(st.integers(0, n1 - 1)), n1 + more
    results = [statistics.two_stage_proportion(s, n1=n1, r1=r1, n=n, p0=p0) for s in range(n + 1)]
    for one, other in pairwise(results):
        assert one.p >= other.p - 1e-12 and one.ci_low <= other.ci_low + 1e-9 and one.ci_high <= other.ci_high + 1e-9
    assert all(0 <= found.ci_low <= found.ci_high <= 1 for found in results)


@given(p=st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_adjusted_p_are_never_smaller_and_never_above_one(p):
    raw = np.array(p, float)
    found = {
        method: statistics.adjust(raw, method) for method in ("BH", "BY", "holm", "hochberg", "hommel", "bonferroni")
    }
    for adjusted in found.values():
        assert np.array_equal(np.isnan(adjusted), np.isnan(raw))
        assert np.all((adjusted >= raw - 1e-12) & (adjusted <= 1) | np.isnan(raw))
    order = ("hommel", "hochberg", "holm", "bonferroni")
    for sharper, blunter in pairwise(order):
        assert np.all((found[sharper] <= found[blunter] + 1e-12) | np.isnan(raw))


def test_every_result_speaks_the_same_words():
    words = {"statistic", "p", "estimate", "ci_low", "ci_high", "n", "n_events", "method", "note"}
    records = [value for name, value in vars(statistics).items() if isinstance(value, type) and name[0].isupper()]
    estimates = [record for record in records if issubclass(record, statistics.Estimate)]
    assert len(estimates) >= 10
    assert all(words <= {field.name for field in fields(record)} for record in estimates)
