"""Tables of robustness, drawn by hand: their columns are the contract's, their numbers nobody's."""

import itertools

import numpy as np
import pandas as pd

QUESTION = {"endpoint": "PFS", "population": "CD20", "tissue_class": "tumour"}


def drawn_robustness(hostile: str = "") -> dict[str, pd.DataFrame]:
    """40 analyses, 24 patients left out, and what sums them up; `hostile` stands behind every name."""
    question = {
        name: word if name != "population" else word + hostile.replace("|", "\u00a6") for name, word in QUESTION.items()
    }
    question["endpoint"] += hostile
    rng = np.random.default_rng(3)
    choices = itertools.product(
        ("continuous", "marker:median"), ("as analysed", "low", "high", "low/high", "high/low"),
        ("density_per_mm2", "positivity_percent"), ("pooled", "mean of slides"),
    )  # fmt: skip
    rows = [
        {
            **question, "analysis": "cox" if split == "continuous" else "log_rank", "split": split,
            "threshold": threshold + hostile, "measure": measure, "pooling": pooling, "regions": "both",
            "as_reported": place == 0, "n": 24, "n_events": 18, "estimate": float(rng.uniform(0.3, 1.1)),
            "estimate_kind": "HR", "p": float(rng.uniform(0.0001, 0.2)), "direction": 1 if place % 10 else -1,
        }
        for place, (split, threshold, measure, pooling) in enumerate(choices)
    ]  # fmt: skip
    test = {**question, "measure": "density_per_mm2", "split": "continuous", "analysis": "cox", "estimate_kind": "HR"}
    left_out = [
        {**test, "patient": f"P{k:03d}{hostile}", "n": 23, "n_events": 17, "estimate": 0.4, "p": 0.01 + 0.003 * k,
         "direction": 1}
        for k in range(24)
    ]  # fmt: skip
    summary = test | {
        "estimate": 0.4, "p": 0.02, "direction": 1, "analyses": 40, "same_direction_percent": 90.0,
        "significant_percent": 25.0, "same_and_significant_percent": 25.0, "p_q05": 0.001, "p_median": 0.1,
        "p_q95": 0.19, "estimate_q05": 0.3, "estimate_median": 0.7, "estimate_q95": 1.0, "left_out_p_max": 0.079,
        "left_out_patient": f"P023{hostile}", "left_out_turns": 0, "left_out_loses": 10, "bootstrap_low": 0.21,
        "bootstrap_high": 0.83, "bootstrap_draws": 1000, "bootstrap_same_direction_percent": 99.0,
        "verdict": "fragile", "why": f"without patient P023 p is 0.079{hostile}",
    }  # fmt: skip
    split = {
        "endpoint": question["endpoint"], "rule": "two_lines", "split": "slope_change", "cut": 7.5, "n": 24,
        "n_low": 14, "n_high": 10, "n_unknown": 0, "n_censored_low": 2, "cut_low": 5.0, "cut_high": 11.0,
        "n_low_low": 10, "n_low_high": 16, "agreement_percent": 91.0, "n_switching": 1,
        "switching": f"P004 (31 %){hostile}", "exploratory": True, "note": "",
    }  # fmt: skip
    family = {
        "family": f"Continuous marker: Cox{hostile}", "analysis": "cox", "split": "continuous",
        "endpoints": question["endpoint"],
        "tests": 32, "patients": 24, "events": 18, "smallest_p": 0.001, "smallest_p_adjusted": 0.02,
        "adjust_method": "BH", "raw_below_0.05": 4, "adjusted_below_0.05": 1, "expected_by_chance": 1.6,
        "detectable_effect": 2.1, "detectable_in_family": 3.4, "effect_kind": "HR", "power_method": "",
        "exploratory": False,
    }  # fmt: skip
    dropout = {
        **question, "measure": "density_per_mm2", "n": 24, "n_censored": 6, "estimate": 2.2, "ci_low": 1.1,
        "ci_high": 4.4, "p": 0.03, "p_adjusted": 0.4, "warning": f"patients with more leave sooner{hostile}",
    }  # fmt: skip
    return {
        "robustness": pd.DataFrame(rows), "influence": pd.DataFrame(left_out),
        "robustness_summary": pd.DataFrame([summary]), "splits": pd.DataFrame([split]),
        "families": pd.DataFrame([family]), "dropout": pd.DataFrame([dropout]),
    }  # fmt: skip
