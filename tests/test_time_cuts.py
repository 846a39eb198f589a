"""Where follow-up may be cut: every rule against R's answers, and how far a cut moves when patients are drawn again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mihc import statistics
from mihc.errors import InputError
from mihc.estimates.time_cuts import RULES

REFERENCE = Path(__file__).parent / "reference"
NAMES = {  # ours -> the reference's (R 4.2.2, split_times of the reference's common.R)
    "two_lines": "two_lines", "broken_stick": "broken_stick", "two_means": "two_means", "chord_either": "chord_abs",
    "chord_above": "chord_above", "largest_gap": "max_gap", "second_difference": "second_difference",
    "median": "median",
}  # fmt: skip
CASES = json.loads((REFERENCE / "split_times.json").read_text(encoding="utf-8"))["cases"]


def data_of(case: dict) -> pd.DataFrame:
    if "file" in case["input"]:
        return pd.read_csv(REFERENCE / case["input"]["file"], float_precision="round_trip")
    return pd.DataFrame(case["input"])


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_rule_cuts_where_r_cuts(case):
    data, args, want = data_of(case), case["args"], case["expected"]
    cuts = statistics.time_cuts(data[args["time"]], data[args["status"]], min_share=args["frac"])
    found = {cut.rule: cut for cut in cuts}
    assert set(found) == {*RULES, "median", "hazard_change", "km_median"}
    for rule, name in NAMES.items():
        if want.get(name) is None or want[name]["tau"] is None:
            assert np.isnan(found[rule].cut) and found[rule].note, rule
            continue
        assert found[rule].n_low == want[name]["k"], rule
        assert found[rule].cut == pytest.approx(want[name]["tau"], abs=1e-6)
        if "rss" in want[name]:
            assert found[rule].objective == pytest.approx(want[name]["rss"], rel=1e-6)
    hazard = want.get("hazard_changepoint")
    if hazard:
        one = found["hazard_change"]
        assert (one.cut, one.objective) == pytest.approx((hazard["tau"], hazard["lrt"]), rel=1e-6)
        assert (one.n_low, one.n_unknown, one.n_high) == (hazard["n_low_event"], hazard["n_unknown"], hazard["n_high"])
    if want.get("km_median") is not None:
        one, status = found["km_median"], want["km_median_status"]
        assert (one.n_low, one.n_unknown, one.n_high) == (status["low"], status["unknown"], status["high"])


def test_a_cut_between_two_clear_groups_does_not_move_and_one_in_a_smooth_curve_does():
    apart = np.concatenate([np.arange(1, 11) / 10, 50 + np.arange(10) / 10])
    steady = statistics.bootstrap_cut(apart, np.ones(20), draws=200)
    assert steady.n_cut >= 199 and 1 < steady.cut_low <= steady.cut_high < 51
    assert np.nanmax(steady.switched) <= 0.01
    smooth = np.random.default_rng(2).exponential(10, 40)
    loose = statistics.bootstrap_cut(smooth, np.ones(40), draws=200)
    assert loose.cut_high - loose.cut_low > 5
    assert (loose.switched > 0.05).sum() >= 3 and loose.switched.max() <= 1


def test_the_bootstrap_of_a_cut_is_seeded_and_knows_no_order_of_the_patients():
    times = np.random.default_rng(4).exponential(10, 30)
    times[3] = np.nan
    place = np.random.default_rng(5).permutation(30)
    one, other = (statistics.bootstrap_cut(t, np.ones(30), draws=100) for t in (times, times[place]))
    assert (one.cut_low, one.cut_high, one.n_low_low) == (other.cut_low, other.cut_high, other.n_low_low)
    assert one.switched[place] == pytest.approx(other.switched, nan_ok=True) and np.isnan(one.switched[3])


def test_no_cut_has_no_bootstrap_and_unknown_rules_are_refused():
    assert statistics.bootstrap_cut(np.arange(20.0), np.ones(20)) is None
    with pytest.raises(InputError, match="rule must be one of"):
        statistics.time_cut([1, 2, 3], [1, 1, 1], "by_eye")
    with pytest.raises(InputError, match="draws"):
        statistics.bootstrap_cut([1, 2, 3], [1, 1, 1], draws=0)


def test_slope_change_split_takes_every_rule():
    times = [*range(1, 11), *range(25, 125, 10)]
    for rule in RULES:
        made = statistics.slope_change_split(times, np.ones(20), method=rule)
        assert made.cut == next(one.cut for one in statistics.time_cuts(times, np.ones(20)) if one.rule == rule)
