"""Every case in tests/reference against mihc.statistics; here arguments and fields are renamed, nothing is computed."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mihc import statistics
from mihc.errors import InputError

HERE = Path(__file__).parent / "reference"
ALTERNATIVE = {"two.sided": "two-sided", "less": "less", "greater": "greater"}
PLANTED = {"Inf": math.inf, "-Inf": -math.inf, "NaN": math.nan, None: math.nan}


def cases(family: str) -> list:
    found = json.loads((HERE / f"{family}.json").read_text(encoding="utf-8"))["cases"]
    return [pytest.param(case, id=case["id"]) for case in found]


def table(case: dict) -> pd.DataFrame:
    with (HERE / case["input"]["file"]).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return pd.DataFrame({name: [cell(row[name]) for row in rows] for name in rows[0]})


def cell(text: str) -> float | str:
    """A field as Python reads it: floating_ties.csv depends on the last bit."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        return text


def number(value) -> float:
    return PLANTED[value] if value is None or isinstance(value, str) else float(value)


def numbers(values) -> list[float]:
    return [number(value) for value in values]


def same(got, want, tol: float, what: str = "") -> None:
    want = number(want)
    if math.isnan(want) or math.isinf(want):
        assert got == want or (math.isnan(got) and math.isnan(want)), (what, got, want)
    else:
        assert abs(got - want) <= tol * max(1.0, abs(want)), (what, got, want)


def formula(case: dict, data: pd.DataFrame) -> tuple[pd.Series, pd.Series, list[str]]:
    left, right = case["args"]["formula"].split("~")
    time, event = left.strip().removeprefix("Surv(").removesuffix(")").split(",")
    return data[time.strip()], data[event.strip()], [term.strip() for term in right.split("+")]


@pytest.mark.parametrize("case", cases("wilcoxon"))
def test_rank_sum_is_r_wilcox_test(case):
    x, y, want = numbers(case["input"]["x"]), numbers(case["input"]["y"]), case["expected"]
    alternative = ALTERNATIVE[case["args"]["alternative"]]
    if case["error"]:
        found = statistics.rank_sum(x, y, alternative=alternative)
        assert math.isnan(found.p) and found.note
        return
    kinds = {
        "default": {},
        "exact": {"method": "exact"},
        "normal_corrected": {"method": "normal"},
        "normal_uncorrected": {"method": "normal", "correct": False},
    }
    for kind, options in kinds.items():
        if kind in want:
            found = statistics.rank_sum(x, y, alternative=alternative, **options)
            same(found.statistic, want[kind]["W"], 1e-6, kind)
            same(found.p, want[kind]["p"], 1e-6, kind)
            same(found.auc, want["auc"], 1e-6, "auc")
    if want.get("permutation_exact", {}).get("coin") is not None:
        found = statistics.rank_sum(x, y, alternative=alternative, method="exact")
        same(found.p, want["permutation_exact"]["coin"], 1e-6, "coin")
    for kind, options in (("hodges_lehmann", {}), ("hodges_lehmann_normal", {"method": "normal"})):
        if kind in want:
            found = statistics.rank_sum(x, y, **options)
            refused = "error" in want[kind]
            for name, got in (("estimate", found.estimate), ("lower", found.ci_low), ("upper", found.ci_high)):
                same(got, None if refused else want[kind][name], 1e-6, f"{kind} {name}")


@pytest.mark.parametrize("case", cases("fisher"))
def test_fisher_exact_is_r_fisher_test(case):
    options = {"alternative": ALTERNATIVE[case["args"]["alternative"]], "confidence": case["args"]["conf_level"]}
    if case["error"]:
        with pytest.raises(InputError, match="whole counts"):
            statistics.fisher_exact(case["input"]["table"], **options)
        return
    found, want = statistics.fisher_exact(case["input"]["table"], **options), case["expected"]
    same(found.p, want["p"], case["tol"], "p")
    if "or" in want:
        same(found.estimate, want["or"], case["tol"], "odds ratio")
        same(found.ci_low, want["lower"], case["tol"], "lower")
        same(found.ci_high, want["upper"], case["tol"], "upper")


@pytest.mark.parametrize("case", cases("binom"))
def test_exact_proportion_is_r_binom_test(case):
    k, n, args = case["input"]["k"], case["input"]["n"], case["args"]
    options = {"p0": args["p0"], "alternative": ALTERNATIVE[args["alternative"]], "confidence": args["conf_level"]}
    if case["error"] and n > 0:
        with pytest.raises(InputError, match="0 <= k <= n"):
            statistics.exact_proportion(k, n, **options)
        return
    found = statistics.exact_proportion(k, n, **options)
    if case["error"]:
        assert math.isnan(found.estimate) and found.note
        return
    for name, got in (("estimate", found.estimate), ("p", found.p), ("lower", found.ci_low), ("upper", found.ci_high)):
        same(got, case["expected"][name], case["tol"], name)


@pytest.mark.parametrize("case", cases("survfit"))
def test_kaplan_meier_is_r_survfit(case):
    data = table(case)
    time, event, terms = formula(case, data)
    for stratum in case["expected"]["strata"]:
        members = np.ones(len(data), bool)
        if terms != ["1"]:
            names = [f"{name:g}" if isinstance(name, float) else name for name in data[terms[0]]]
            members = np.array(names, dtype=object) == stratum["stratum"].split("=")[1]
        for conf_type, quantiles in stratum["quantiles"].items():
            curve = statistics.kaplan_meier(
                time[members], event[members], conf_type=conf_type, confidence=case["args"]["conf_level"]
            )
            assert (curve.n, curve.n_events) == (stratum["n"], stratum["events"])
            for place, fraction in enumerate(quantiles["probs"]):
                found = curve.quantile(fraction)
                same(found.estimate, quantiles["estimate"][place], 1e-6, f"{conf_type} {fraction}")
                same(found.ci_low, quantiles["lower"][place], 1e-6, f"{conf_type} {fraction} lower")
                same(found.ci_high, quantiles["upper"][place], 1e-6, f"{conf_type} {fraction} upper")
            at = stratum["at_times"][conf_type]
            for place, moment in enumerate(at["times"]):
                found = curve.at(moment)
                same(found.estimate, at["surv"][place], 1e-6, f"{conf_type} S({moment})")
                same(found.ci_low, at["lower"][place], 1e-6, f"{conf_type} S({moment}) lower")
                same(found.ci_high, at["upper"][place], 1e-6, f"{conf_type} S({moment}) upper")
                assert curve.number_at_risk(moment) == at["n_risk"][place]
        if "curve" in stratum:
            same_curve(statistics.kaplan_meier(time[members], event[members]), stratum["curve"])
    if "reverse_km_followup" in case["expected"] and terms == ["1"]:
        found, want = statistics.kaplan_meier(time, 1 - event).median(), case["expected"]["reverse_km_followup"]
        same(found.estimate, want["median"], 1e-6)
        same(found.ci_low, want["lower_loglog"], 1e-6)
        same(found.ci_high, want["upper_loglog"], 1e-6)


def same_curve(curve: statistics.KaplanMeier, want: dict) -> None:
    fields = {
        "time": curve.time,
        "n_risk": curve.at_risk,
        "n_event": curve.events,
        "n_censor": curve.censored,
        "surv": curve.survival,
        "lower_loglog": curve.ci_low,
        "upper_loglog": curve.ci_high,
    }
    for name, got in fields.items():
        assert len(got) == len(want[name])
        for one, other in zip(got, want[name], strict=True):
            same(float(one), other, 1e-6, name)


@pytest.mark.parametrize("case", cases("logrank"))
def test_log_rank_is_r_survdiff(case):
    data = table(case)
    time, event, terms = formula(case, data)
    found, want = statistics.log_rank(time, event, data[terms[0]], rho=case["args"]["rho"]), case["expected"]
    if case["error"]:
        assert math.isnan(found.p) and found.note == "fewer than two groups"
        return
    same(found.statistic, want["chisq"], case["tol"], "chi-squared")
    same(found.p, want["p"], case["tol"], "p")
    assert (found.df, list(found.group_n)) == (want["df"], want["n"])
    assert found.observed == pytest.approx(want["observed"], abs=1e-6)
    assert found.expected == pytest.approx(want["expected"], rel=1e-6)


def design(terms: list[str], data: pd.DataFrame) -> pd.DataFrame:
    columns = {}
    for term in terms:
        inner = term.removeprefix("log(").removesuffix(")")
        columns[term] = np.log(data[inner]) if inner != term else data[term]
    return pd.DataFrame(columns)


@pytest.mark.parametrize("case", cases("coxph"))
def test_cox_is_r_coxph(case):
    data = table(case)
    time, event, terms = formula(case, data)
    found, want = statistics.cox(time, event, design(terms, data), ties=case["args"]["ties"]), case["expected"]
    if case["error"]:
        assert all(math.isnan(term.estimate) and term.note for term in found)
        return
    assert [term.term for term in found] == want["terms"]
    assert {(term.n, term.n_events) for term in found} == {(want["n"], want["events"])}
    if want["events"]:
        same(found[0].log_likelihood, want["loglik"], 1e-6 if case["compare"] else 1e-4, "log likelihood")
        same(found[0].log_likelihood_null, want["loglik_null"], 1e-6)
    for place, term in enumerate(found):
        if not case["compare"] and case["id"] != "edge_collinear":
            assert math.isnan(term.estimate) and math.isnan(term.p) and term.note
            continue
        assert bool(term.note) == (want["coef"][place] is None)
        same(term.coefficient, want["coef"][place], 1e-6, "coef")
        same(term.estimate, want["hr"][place], 1e-6, "hr")
        same(term.ci_low, want["hr_lower"][place], 1e-6, "lower")
        same(term.ci_high, want["hr_upper"][place], 1e-6, "upper")
        same(term.statistic, want["z"][place], 1e-6, "z")
        same(term.p, want["p"][place], 1e-6, "p")


@pytest.mark.parametrize("case", cases("maxstat"))
def test_max_selected_is_r_maxstat_test(case):
    data, args, want = table(case), case["args"], case["expected"]
    found = statistics.max_selected(
        data[args["time"]], data[args["status"]], data[args["x"]], min_share=args["minprop"], max_share=args["maxprop"]
    )
    if case["error"]:
        assert math.isnan(found.p) and found.note
        return
    same(found.statistic, want["statistic"], 1e-6, "statistic")
    same(found.estimate, want["cutpoint"], 1e-6, "cut")
    assert list(found.cuts) == pytest.approx(want["cuts"])
    if found.statistics:
        assert list(found.statistics) == pytest.approx(want["stats"], rel=1e-6, abs=1e-6)
        same(found.p_lau92, min(1.0, want["p_Lau92"]), 1e-6, "Lau92")  # capped: R's can exceed 1
        same(found.p_lau94, min(1.0, want["p_Lau94"]), 1e-6, "Lau94")
    if want.get("p_condMC", {}).get("value") is not None:
        same(found.p, want["p_condMC"]["value"], want["p_condMC"]["tol"], "permutation p")


@pytest.mark.parametrize("case", cases("padjust"))
def test_adjust_is_r_p_adjust(case):
    raw = numbers(case["input"]["p"])
    for method in ("holm", "hochberg", "BH", "BY", "bonferroni"):
        want = numbers(case["expected"][method])
        assert statistics.adjust(raw, method) == pytest.approx(want, rel=1e-6, abs=1e-300, nan_ok=True)


@pytest.mark.parametrize("case", cases("split_times"))
def test_times_are_split_where_the_reference_splits_them(case):
    data, args, want = table(case), case["args"], case["expected"]
    time, event = data[args["time"]], data[args["status"]]
    found = statistics.slope_change_split(time, event, min_share=args["frac"])
    assert found.n == want["n"]
    if "two_lines" in want:
        assert found.n_low == want["two_lines"]["k"]
        same(found.cut, want["two_lines"]["tau"], 1e-6)
    else:
        assert math.isnan(found.cut) and found.note and not any(found.labels)
    if want.get("median"):
        middle = statistics.median_time_split(time, event)
        assert middle.n_low == want["median"]["k"]
        same(middle.cut, want["median"]["tau"], 1e-6)
    if want.get("km_median") is not None:
        landmark = statistics.kaplan_meier(time, event).median().estimate
        same(landmark, want["km_median"], 1e-6)
        status = statistics.landmark_split(time, event, landmark)
        assert {"low": status.n_low, "unknown": status.n_unknown, "high": status.n_high} == want["km_median_status"]


@pytest.mark.parametrize("case", cases("boxplot"))
def test_box_numbers_are_ggplot2s(case):
    found, want = statistics.box_numbers(numbers(case["input"]["x"])), case["expected"]
    got = (found.whisker_low, found.quartile_low, found.median, found.quartile_high, found.whisker_high)
    assert got == pytest.approx(want["type7"]["stats"], rel=1e-6)
    assert list(found.outliers) == pytest.approx(want["type7"]["outliers"])
    assert found.n == want["n"]
