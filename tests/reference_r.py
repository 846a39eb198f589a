"""R's answers against mihc.statistics, one function per family of cases; `reference_run.py` runs them.

Arguments and fields are renamed here, and nothing is computed; an argument or an expected value that is not known here
is a failure. What is not compared, for each a reason: `iterations` (of R's own search), `warnings` and `rule` (text),
`r_printed` (fisher.test's root search stops at 1.2e-4; the format gives the solved value beside it).
"""

from __future__ import annotations

import math

import numpy as np
from reference_cases import Compared, number, numbers

from mihc import statistics

ALTERNATIVE = {"two.sided": "two-sided", "less": "less", "greater": "greater"}
R_BOUND = 12.0  # where the R script that made the cases cut an infinite coefficient off for its profile limits
TIME_RULES = {  # the reference's names of the rules for cutting times
    "two_lines": "two_lines", "broken_stick": "broken_stick", "two_means": "two_means", "chord_abs": "chord_either",
    "chord_above": "chord_above", "max_gap": "largest_gap", "second_difference": "second_difference",
}  # fmt: skip


def wilcoxon(c: Compared) -> None:
    c.knows("argument", c.args, ("alternative",))
    x, y = numbers(c.input["x"]), numbers(c.input["y"])
    alternative = ALTERNATIVE[c.args.get("alternative", "two.sided")]
    found = statistics.rank_sum(x, y, alternative=alternative)
    if c.case["error"]:
        c.true("refused", math.isnan(found.p) and bool(found.note))
        return
    kinds = {"default": {}, "exact": {"method": "exact"}, "normal_corrected": {"method": "normal"}}
    kinds["normal_uncorrected"] = {"method": "normal", "correct": False}
    shifts = {"hodges_lehmann": {}, "hodges_lehmann_normal": {"method": "normal"}}
    others = ("n1", "n2", "ties", "auc", "permutation_exact", "z_asymptotic_coin")
    c.knows("expected value", c.expected, (*kinds, *shifts, *others))
    for name, got in {"n1": found.n_x, "n2": found.n_y, "auc": found.auc, "z_asymptotic_coin": found.z}.items():
        if name in c.expected:
            c.same(name, got, c.expected[name])
    if "ties" in c.expected:
        c.same("ties", found.tied, c.expected["ties"])
    for kind, options in kinds.items():
        if kind in c.expected:
            test = statistics.rank_sum(x, y, alternative=alternative, **options)
            c.same(f"{kind} W", test.statistic, c.expected[kind]["W"])
            c.same(f"{kind} p", test.p, c.expected[kind]["p"])
            c.same(f"{kind} exact", "exact" in test.method, "exact" in c.expected[kind].get("method", test.method))
    permuted = c.expected.get("permutation_exact")
    if permuted is not None:
        test = statistics.rank_sum(x, y, alternative=alternative, method="exact")
        agreeing = {key: value for key, value in permuted.items() if value is not None}
        if "coin" in agreeing and abs(agreeing["coin"] - agreeing.get("exactRankTests", agreeing["coin"])) > 1e-9:
            agreeing = {"coin": agreeing["coin"]}  # exactRankTests does not rank infinite values
        for key, value in agreeing.items():
            c.same(f"permutation_exact {key}", test.p, value)
    for kind, options in shifts.items():
        want = c.expected.get(kind)
        if want is not None:
            shift = statistics.rank_sum(x, y, **options)
            got = {"estimate": shift.estimate, "lower": shift.ci_low, "upper": shift.ci_high}
            for name, value in got.items():
                c.same(f"{kind} {name}", value, None if "error" in want else want[name])


def fisher(c: Compared) -> None:
    c.knows("argument", c.args, ("alternative", "conf_level"))
    options = {"alternative": ALTERNATIVE[c.args.get("alternative", "two.sided")]}
    found = statistics.fisher_exact(c.input["table"], confidence=c.args.get("conf_level", 0.95), **options)
    if c.case["error"]:
        c.true("refused", math.isnan(found.p) and bool(found.note))
        return
    fields = {"p": found.p, "or": found.estimate, "lower": found.ci_low, "upper": found.ci_high}
    fields["or_sample"] = found.sample_odds_ratio
    c.knows("expected value", c.expected, (*fields, "r_printed"))
    for name, got in fields.items():
        if name in c.expected:
            c.same(name, got, c.expected[name])


def binom(c: Compared) -> None:
    c.knows("argument", c.args, ("p0", "alternative", "conf_level"))
    k, n = c.input["k"], c.input["n"]
    p0, confidence = c.args.get("p0", 0.5), c.args.get("conf_level", 0.95)
    alternative = ALTERNATIVE[c.args.get("alternative", "two.sided")]
    found = statistics.exact_proportion(k, n, p0=p0, alternative=alternative, confidence=confidence)
    if c.case["error"]:
        c.true("refused", math.isnan(found.estimate) and bool(found.note))
        return
    fields = {"estimate": found.estimate, "p": found.p, "lower": found.ci_low, "upper": found.ci_high}
    wilson = {"wilson": False, "wilson_cc": True}
    c.knows("expected value", c.expected, (*fields, *wilson))
    for name, got in fields.items():
        if name in c.expected:
            c.same(name, got, c.expected[name])
    for name, correct in wilson.items():
        if name in c.expected:
            found = statistics.wilson_proportion(k, n, correct=correct, confidence=confidence)
            c.same(f"{name} lower", found.ci_low, c.expected[name]["lower"])
            c.same(f"{name} upper", found.ci_high, c.expected[name]["upper"])


def survfit(c: Compared) -> None:
    c.knows("argument", c.args, ("formula", "times", "rmst_tau", "conf_level"))
    model = statistics.model_columns(c.args["formula"], c.table())
    confidence, tau = c.args.get("conf_level", 0.95), c.args.get("rmst_tau")
    everyone = np.full(len(model.time), "all", dtype=object)
    groups, names = (everyone, {"all": "all"}) if model.groups is None else (model.groups, model.group_names)

    def curves(conf_type: str) -> dict[str, statistics.KaplanMeier]:
        made = statistics.kaplan_meier_by(model.time, model.event, groups, conf_type=conf_type, confidence=confidence)
        return {names[label]: curve for label, curve in made.items()}

    plain = curves("log-log")
    if c.case["error"]:
        c.true("refused", all(not curve.n and bool(curve.note) for curve in plain.values()))
        return
    c.knows("expected value", c.expected, ("strata", "reverse_km_followup"))
    c.same("strata", list(plain), [stratum["stratum"] for stratum in c.expected["strata"]])
    for stratum in c.expected["strata"]:
        name = stratum["stratum"]
        known = ("stratum", "n", "events", "quantiles", "at_times", "curve", "rmst")
        c.knows(f"{name}: expected value", stratum, known)
        c.same(f"{name} n", plain[name].n, stratum["n"])
        c.same(f"{name} events", plain[name].n_events, stratum["events"])
        for conf_type, want in (stratum.get("quantiles") or {}).items():
            same_quantiles(c, f"{name} {conf_type}", curves(conf_type)[name], want)
        for conf_type, want in (stratum.get("at_times") or {}).items():
            same_at_times(c, f"{name} {conf_type}", curves(conf_type)[name], want)
        if stratum.get("curve"):
            same_curve(c, name, plain[name], curves("log")[name], stratum["curve"])
        if stratum.get("rmst"):
            members = np.array([names.get(group) == name for group in groups])
            want = stratum["rmst"]
            found = statistics.restricted_mean(model.time[members], model.event[members], want.get("tau", tau))
            c.same(f"{name} rmst", found.estimate, want["rmst"])
            c.same(f"{name} rmst se", found.standard_error, want["se"])
    want = c.expected.get("reverse_km_followup")
    if want is not None:
        found = statistics.follow_up(model.time, model.event, confidence=confidence).median()
        c.same("follow-up median", found.estimate, want["median"])
        c.same("follow-up lower", found.ci_low, want["lower_loglog"])
        c.same("follow-up upper", found.ci_high, want["upper_loglog"])


def same_quantiles(c: Compared, name: str, curve: statistics.KaplanMeier, want: dict) -> None:
    c.knows(f"{name}: quantile field", want, ("probs", "estimate", "lower", "upper"))
    for place, fraction in enumerate(want["probs"]):
        found = curve.quantile(fraction)
        fields = {"estimate": found.estimate, "lower": found.ci_low, "upper": found.ci_high}
        for key, got in fields.items():
            c.same(f"{name} quantile {fraction} {key}", got, want[key][place])


def same_at_times(c: Compared, name: str, curve: statistics.KaplanMeier, want: dict) -> None:
    c.knows(f"{name}: field at times", want, ("times", "surv", "lower", "upper", "std_err", "n_risk"))
    for place, moment in enumerate(want["times"]):
        found = curve.at(moment)
        fields = {"surv": found.estimate, "lower": found.ci_low, "upper": found.ci_high}
        fields |= {"std_err": found.standard_error, "n_risk": found.at_risk}
        for key in fields.keys() & want.keys():
            c.same(f"{name} at {moment} {key}", fields[key], want[key][place])


def same_curve(c: Compared, name: str, curve: statistics.KaplanMeier, log: statistics.KaplanMeier, want: dict) -> None:
    fields = {
        "time": curve.time, "n_risk": curve.at_risk, "n_event": curve.events, "n_censor": curve.censored,
        "surv": curve.survival, "std_err": curve.standard_error, "cumhaz": curve.cumulative_hazard,
        "lower_loglog": curve.ci_low, "upper_loglog": curve.ci_high, "lower_log": log.ci_low, "upper_log": log.ci_high,
    }  # fmt: skip
    c.knows(f"{name}: curve field", want, fields)
    for key in fields.keys() & want.keys():
        c.same(f"{name} curve {key}", fields[key].tolist(), want[key])


def logrank(c: Compared) -> None:
    c.knows("argument", c.args, ("formula", "rho"))
    model = statistics.model_columns(c.args["formula"], c.table())
    found = statistics.log_rank(model.time, model.event, model.groups, strata=model.strata, rho=c.args.get("rho", 0))
    if c.case["error"]:
        c.true("refused", math.isnan(found.p) and bool(found.note))
        return
    fields = {
        "groups": [model.group_names[group] for group in found.groups], "n": list(found.group_n),
        "observed": list(found.observed), "expected": list(found.expected), "chisq": found.statistic, "df": found.df,
        "p": found.p,
    }  # fmt: skip
    c.knows("expected value", c.expected, fields)
    for key in fields.keys() & c.expected.keys():
        c.same(key, fields[key], c.expected[key])


def coxph(c: Compared) -> None:
    c.knows("argument", c.args, ("formula", "ties"))
    model = statistics.model_columns(c.args["formula"], c.table())
    want = c.expected or {}
    options = {"ties": c.args.get("ties", "efron"), "strata": model.strata, "profile": "profile_ci" in want}
    options["bound"] = R_BOUND
    found = statistics.cox_model(model.time, model.event, model.covariates, **options)
    if c.case["error"]:
        c.true("refused", all(math.isnan(term.estimate) and term.note and term.flag for term in found.terms))
        return
    same_profile(c, found.terms[0], want.get("profile_ci"))
    c.same("n", found.n, want["n"])
    c.same("events", found.n_events, want["events"])
    if not c.case["compare"]:
        c.same("loglik", found.log_likelihood, want["loglik"], tol=1e-4)
        unsure = [term for term in found.terms if term.flag and term.note]
        c.true("a visible flag", bool(unsure))
        c.true("no number of a flagged term", all(math.isnan(t.estimate) and math.isnan(t.p) for t in unsure))
        return
    fields = {
        "n_missing": found.n_missing, "terms": [term.term for term in found.terms],
        "coef": [term.coefficient for term in found.terms], "hr": [term.estimate for term in found.terms],
        "se": [term.standard_error for term in found.terms], "z": [term.statistic for term in found.terms],
        "p": [term.p for term in found.terms], "hr_lower": [term.ci_low for term in found.terms],
        "hr_upper": [term.ci_high for term in found.terms], "loglik_null": found.log_likelihood_null,
        "loglik": found.log_likelihood,
    }  # fmt: skip
    tests = {"lr_test": found.likelihood_ratio, "wald_test": found.wald, "score_test": found.score}
    others = ("n", "events", "concordance", "zph", "profile_ci", "iterations")
    c.knows("expected value", want, (*fields, *tests, *others))
    for key in fields.keys() & want.keys():
        c.same(key, fields[key], want[key])
    for key in tests.keys() & want.keys():
        for name, got in {"test": tests[key].statistic, "df": tests[key].df, "pvalue": tests[key].p}.items():
            c.same(f"{key} {name}", got, want[key][name])
    if want.get("concordance"):
        c.same("concordance", found.concordance.estimate, want["concordance"]["c"])
        c.same("concordance se", found.concordance.standard_error, want["concordance"]["se"])
    if want.get("zph"):
        got = {"rows": [test.term for test in found.proportional], "df": [test.df for test in found.proportional]}
        got |= {"chisq": [test.statistic for test in found.proportional], "p": [test.p for test in found.proportional]}
        c.knows("zph field", want["zph"], got)
        for key in want["zph"]:
            c.same(f"zph {key}", got[key], want["zph"][key])


def same_profile(c: Compared, term: statistics.CoxTerm, want: dict | None) -> None:
    if not want:
        return
    c.knows("profile field", want, ("coef_lower", "coef_upper", "hr_lower", "hr_upper", "tol"))
    c.same("profile lower", term.profile_low, want["hr_lower"], tol=want.get("tol"))
    c.same("profile upper", term.profile_high, want["hr_upper"], tol=want.get("tol"))


def maxstat(c: Compared) -> None:
    c.knows("argument", c.args, ("time", "status", "x", "minprop", "maxprop"))
    table, args = c.table(), c.args
    shares = {"min_share": args.get("minprop", 0.1), "max_share": args.get("maxprop", 0.9)}
    columns = (table[args["time"]], table[args["status"]], table[args["x"]])
    found = statistics.max_selected(*columns, corrections="all", **shares)
    if c.case["error"]:
        c.true("refused", math.isnan(found.p) and bool(found.note))
        return
    want = c.expected
    fields = {
        "n": found.n, "events": found.n_events, "statistic": found.statistic, "cutpoint": found.estimate,
        "cuts": list(found.cuts), "stats": list(found.statistics), "scores_sum": found.scores_sum,
        "p_HL": found.p_hl, "statistic_HL": found.statistic_hl,
    }  # fmt: skip
    capped = {"p_Lau92": found.p_lau92, "p_Lau94": found.p_lau94}  # R's can exceed 1, which no p does
    drawn = {"p_exactGauss": found.p_gauss, "p_condMC": found.p}
    c.knows("expected value", want, (*fields, *capped, *drawn, "rule", "naive_logrank"))
    for key in fields.keys() & want.keys():
        if want[key] is not None or key == "cutpoint":  # null: R could not compute it
            c.same(key, fields[key], want[key])
    for key in capped.keys() & want.keys():
        c.same(key, capped[key], min(number(want[key]), 1.0))
    for key in drawn.keys() & want.keys():
        c.same(key, drawn[key], want[key]["value"], tol=want[key]["tol"])
    naive = {"p_at_cutpoint": found.p_naive, "min_p": found.p_naive_smallest, "cut_min_p": found.cut_naive_smallest}
    for key in naive.keys() & (want.get("naive_logrank") or {}).keys():
        c.same(f"naive_logrank {key}", naive[key], want["naive_logrank"][key])


def padjust(c: Compared) -> None:
    c.knows("argument", c.args, ())
    raw = numbers(c.input["p"])
    for method, want in c.expected.items():
        c.same(method, statistics.adjust(raw, method).tolist(), want)


def simon(c: Compared) -> None:
    c.knows("argument", c.args, ("p0", "p1", "alpha", "beta", "n_max"))
    if "optimal" in c.expected or "minimax" in c.expected:
        rates = {key: c.args[key] for key in ("alpha", "beta", "n_max") if key in c.args}
        found = statistics.simon_two_stage(c.input["p0"], c.input["p1"], **rates)
        c.knows("expected value", c.expected, ("optimal", "minimax"))
        for name, design in {"optimal": found.optimal, "minimax": found.minimax}.items():
            if name in c.expected:
                same_fields(c, f"{name} ", design_fields(design), c.expected[name])
    elif "s" in c.input:
        plan = {key: c.input[key] for key in ("n1", "r1", "n")}
        found = statistics.two_stage_proportion(c.input["s"], p0=c.args["p0"], **plan)
        fields = {
            "p": found.p, "lower": found.ci_low, "upper": found.ci_high, "median_unbiased": found.median_unbiased,
            "umvue": found.estimate, "mle": found.observed,
        }  # fmt: skip
        same_fields(c, "", fields, c.expected)
    else:
        found = statistics.two_stage_design(**c.input, p0=c.args["p0"], p1=c.args["p1"])
        same_fields(c, "", design_fields(found), c.expected)


def design_fields(design: statistics.TwoStageDesign) -> dict[str, float]:
    return {
        "n1": design.n1, "r1": design.r1, "n": design.n, "r": design.r, "alpha": design.alpha, "power": design.power,
        "pet0": design.stop_p0, "pet1": design.stop_p1, "en0": design.expected_n_p0, "en1": design.expected_n_p1,
    }  # fmt: skip


def same_fields(c: Compared, name: str, fields: dict, want: dict) -> None:
    c.knows(f"{name}expected value", want, fields)
    for key in fields.keys() & want.keys():
        c.same(f"{name}{key}", fields[key], want[key])


def split_times(c: Compared) -> None:
    c.knows("argument", c.args, ("time", "status", "frac"))
    table, want, share = c.table(), c.expected, c.args.get("frac", 0.1)
    time, event = table[c.args["time"]], table[c.args["status"]]
    found = {cut.rule: cut for cut in statistics.time_cuts(time, event, min_share=share)}
    refused = ("no_slope_change", "no_admissible_cut")
    others = ("n", "min_group", "median", "rss_line", "hazard_changepoint", "km_median", "km_median_status")
    c.knows("expected value", want, (*TIME_RULES, *refused, *others))
    c.same("n", found["two_lines"].n, want["n"])
    if "min_group" in want:
        c.same("min_group", statistics.smallest_group(found["two_lines"].n, share), want["min_group"])
    if "rss_line" in want:
        c.same("rss_line", statistics.straight_line_residual(time), want["rss_line"])
    if any(want.get(key) for key in refused):
        split = statistics.slope_change_split(time, event, min_share=share)
        c.true("no cut, and why", math.isnan(split.cut) and bool(split.note))
        c.true("no rule finds one", all(math.isnan(found[rule].cut) for rule in TIME_RULES.values()))
    for name, rule in TIME_RULES.items():
        if name in want:
            fields = {"k": found[rule].n_low, "tau": found[rule].cut, "rss": found[rule].objective}
            same_fields(c, f"{name} ", fields, want[name])
    if want.get("two_lines"):
        c.same(
            "slope_change_split",
            statistics.slope_change_split(time, event, min_share=share).cut,
            want["two_lines"]["tau"],
        )
    if want.get("median"):
        same_fields(c, "median ", {"k": found["median"].n_low, "tau": found["median"].cut}, want["median"])
    if want.get("hazard_changepoint"):
        cut = found["hazard_change"]
        fields = {"tau": cut.cut, "n_low_event": cut.n_low, "n_unknown": cut.n_unknown, "n_high": cut.n_high}
        same_fields(c, "hazard_changepoint ", {**fields, "lrt": cut.objective}, want["hazard_changepoint"])
    if "km_median" in want:
        median = statistics.kaplan_meier(time, event).median().estimate
        c.same("km_median", median, want["km_median"])
    if want.get("km_median_status"):
        split = statistics.landmark_split(time, event, median)
        fields = {"low": split.n_low, "unknown": split.n_unknown, "high": split.n_high}
        same_fields(c, "km_median_status ", fields, want["km_median_status"])


def boxplot(c: Compared) -> None:
    c.knows("argument", c.args, ())
    c.knows("expected value", c.expected, ("n", "base", "type7"))
    x = numbers(c.input["x"])
    for name, hinges in {"base": "tukey", "type7": "type7"}.items():
        if name in c.expected:
            box = statistics.box_numbers(x, hinges=hinges)
            stats = [box.whisker_low, box.quartile_low, box.median, box.quartile_high, box.whisker_high]
            fields = {"stats": stats, "outliers": list(box.outliers), "notch": [box.notch_low, box.notch_high]}
            same_fields(c, f"{name} ", fields, c.expected[name])
            c.same("n", box.n, c.expected["n"])


def cell_metrics(c: Compared) -> None:
    c.knows("argument", c.args, ())
    if "positive" in c.input:
        c.knows("input", c.input, ("positive", "total", "area_mm2"))
        fields = {
            "positivity_pct": statistics.positivity_percent(c.input["positive"], c.input["total"]),
            "density_per_mm2": statistics.density_per_mm2(c.input["positive"], c.input["area_mm2"]),
        }
    else:
        c.knows("input", c.input, ("pdl1_tumor", "pdl1_lymphocyte", "pdl1_macrophage", "viable_tumor"))
        found = statistics.pdl1_ratios(
            tumour=c.input["viable_tumor"], positive_tumour=c.input["pdl1_tumor"],
            positive_lymphocytes=c.input["pdl1_lymphocyte"], positive_macrophages=c.input["pdl1_macrophage"],
        )  # fmt: skip
        fields = {"cps": found.cps, "tps_pct": found.tps_percent, "adequate": found.adequate}
        fields |= {"cps_positive": found.cps_positive, "tps_positive": found.tps_positive}
    same_fields(c, "", fields, c.expected)


def pipeline(c: Compared) -> None:
    c.knows("argument", c.args, ("markers",))
    table = c.table()
    rows = [pipeline_row(table, want["endpoint"], want["marker"]) for want in c.expected]
    for raw in ("p_wilcoxon", "cox_p", "logrank_p", "maxstat_p_HL"):
        for method in ("BH", "holm"):
            for row, adjusted in zip(rows, statistics.adjust([row[raw] for row in rows], method), strict=True):
                row[f"{raw}_{method}"] = adjusted
    for want, row in zip(c.expected, rows, strict=True):
        same_fields(c, f"{want['endpoint']} {want['marker']} ", row, want)


def pipeline_row(table: object, endpoint: str, marker: str) -> dict:
    time, event, x = table[endpoint], table[f"{endpoint}_event"], table[marker]
    split = statistics.slope_change_split(time, event)
    low, high = (x[split.labels == side] for side in ("low", "high"))
    test = statistics.rank_sum(low, high)
    model = statistics.model_columns(f"Surv({endpoint}, {endpoint}_event) ~ log1p({marker})", table)
    (term,) = statistics.cox(model.time, model.event, model.covariates)
    median = statistics.median_split(x)
    best = statistics.max_selected(time, event, x, corrections="all", permutations=9)
    return {
        "endpoint": endpoint, "marker": marker, "n_low": split.n_low, "n_high": split.n_high, "tau": split.cut,
        "median_low": statistics.box_numbers(low).median, "median_high": statistics.box_numbers(high).median,
        "W": test.statistic, "p_wilcoxon": test.p, "cox_coef": term.coefficient, "cox_se": term.standard_error,
        "cox_p": term.p, "marker_median": median.cut, "n_above": median.n_high,
        "logrank_p": statistics.log_rank(time, event, median.labels).p, "maxstat_cut": best.estimate,
        "maxstat_p_HL": best.p_hl,
    }  # fmt: skip


FAMILIES = (
    wilcoxon, fisher, binom, survfit, logrank, coxph, maxstat, padjust, simon, split_times, boxplot, cell_metrics,
    pipeline,
)  # fmt: skip
BY_NAME = {family.__name__: family for family in FAMILIES}
