"""What stands beside the tests: every split's rule, what a family could find, dropout, and shuffled outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.shuffled import cohort as shuffled_cohort
from benchmarks.shuffled import settings as shuffled_settings
from benchmarks.shuffled import shuffled
from mihc import statistics
from mihc.associate import associate, dropout_table, family_table, split_table
from mihc.reports.claims import findings
from mihc.reports.numbers import Numbers
from mihc.studies.settings import Outcome, Response, Settings, Splits, StudyInfo

CD20 = "CD20|tumour|density_per_mm2"


def asked(*outcome: str, groups: tuple[str, ...] = ()) -> Settings:
    return Settings(
        StudyInfo("t"), outcomes={"OS": Outcome("os", "os_event")}, responses={"ORR": Response("best", ("PR",))},
        groups=groups, splits=Splits(outcome=outcome or ("none",)),
    )  # fmt: skip


def cohort(n: int = 60, seed: int = 1, dropout: float = 0.0) -> pd.DataFrame:
    """Censoring comes earlier the higher the marker, by `dropout`; survival has nothing to do with it."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": [f"P{place:02d}" for place in range(n)], "slides": 1})
    table[CD20] = np.exp(rng.normal(4, 1, n))
    event = rng.exponential(20, n)
    end = rng.exponential(20 * np.exp(-dropout * (np.log1p(table[CD20]) - 4)))
    table["os"], table["os_event"] = np.minimum(event, end), (event <= end).astype(float)
    table["best"], table["age"] = rng.choice(["PR", "SD"], n), np.round(rng.normal(60, 10, n), 1)
    return table


def test_every_rule_stands_beside_the_one_that_was_used():
    patients = cohort()
    found = split_table(patients, asked("slope_change", "landmark:12")).set_index("rule")
    rules = [cut.rule for cut in statistics.time_cuts(patients["os"], patients["os_event"])]
    assert found.index.tolist() == [*rules, "landmark"]
    used = statistics.slope_change_split(patients["os"], patients["os_event"])
    row = found.loc["two_lines"]
    assert (row["split"], row["cut"], row["n_low"], row["n_censored_low"]) == (
        "slope_change", used.cut, used.n_low, used.n_censored_low,
    )  # fmt: skip
    assert row["cut_low"] <= row["cut"] <= row["cut_high"] and 50 < row["agreement_percent"] <= 100
    assert row["n_switching"] == len(row["switching"].split("; ")) > 0 and "%)" in row["switching"]
    landmark = statistics.landmark_split(patients["os"], patients["os_event"], 12)
    assert found.loc["landmark", "n_unknown"] == landmark.n_unknown > 0
    assert not found.loc["landmark", "exploratory"] and found.loc["median", "split"] == ""
    assert split_table(patients, asked()).empty


def test_NP40_the_order_of_patients_changes_no_split_family_or_dropout():
    patients, settings = cohort(), asked("slope_change", "landmark:12")
    mixed = patients.sample(frac=1, random_state=2)
    for made in (split_table, dropout_table):
        pd.testing.assert_frame_equal(made(patients, settings), made(mixed, settings), rtol=1e-7)
    families = [family_table(associate(table, settings)) for table in (patients, mixed)]
    pd.testing.assert_frame_equal(*families, rtol=1e-7)


def test_NP41_NP42_an_unrelated_outcome_changes_no_statistic_and_patients_count_once():
    patients, settings = cohort(), asked("slope_change", "landmark:12")
    patients.loc[59, CD20] = np.nan  # a patient whose slide gave nothing
    found = associate(patients, settings)
    more = pd.concat([patients, patients.iloc[[0]].assign(patient="P99", os=np.nan, os_event=np.nan, best="")])
    again = associate(more.reset_index(drop=True), settings)
    followed = found["population"] == "CD20"
    assert found.loc[followed, "n"].max() == 59
    pd.testing.assert_frame_equal(found[followed], again[followed.to_numpy()], rtol=1e-9)


def test_dropout_in_step_with_the_marker_is_warned_of_where_it_matters():
    patients, settings = cohort(80, dropout=1.2), asked("slope_change", "landmark:12")
    row = dropout_table(patients, settings).iloc[0]
    assert row["p"] < 0.01 and row["estimate"] > 1.5 and "censored sooner" in row["warning"]
    tests = associate(patients, settings)
    by_time = tests[tests["split"].str.startswith("outcome:") & (tests["analysis"] == "rank_sum")]
    assert len(by_time) == 2 and by_time["note"].str.contains("censoring goes with this marker").all()
    quiet = dropout_table(cohort(80), settings).iloc[0]
    assert quiet["p"] > 0.05 and quiet["warning"] == ""
    assert quiet["n_censored"] == 80 - cohort(80)["os_event"].sum()


def test_what_chose_its_own_cut_warns_of_optimism():
    found = associate(cohort(), asked("slope_change", "landmark:12"))
    told = found[found["analysis"] == "rank_sum"].set_index("split")["note"]
    assert "expect less in other patients" in told["outcome:slope_change"]
    assert "expect less" not in told["outcome:landmark:12"] and "expect less" not in told["response"]


def test_a_landmark_has_the_weighted_auc_beside_it_which_drops_nobody():
    patients = cohort()
    found = associate(patients, asked("landmark:12")).set_index("analysis")
    row, by_hand = found.loc["weighted_auc"], statistics.weighted_auc(patients["os"], patients["os_event"],
                                                                      patients[CD20], 12)  # fmt: skip
    assert (row["n"], row["estimate"], row["p"]) == (60, by_hand.estimate, by_hand.p)
    assert row["estimate_kind"] == "AUC" and found.loc["rank_sum", "n"].min() < 60


def test_a_clinical_column_of_many_numbers_is_correlated_with_the_marker():
    patients = cohort()
    row = associate(patients, asked(groups=("age",))).set_index("analysis").loc["spearman"]
    by_hand = statistics.spearman(patients[CD20], patients["age"])
    assert (row["estimate"], row["p"], row["split"]) == (by_hand.estimate, by_hand.p, "group:age")


def test_a_family_says_how_many_tests_it_has_and_what_it_could_have_found():
    found = associate(cohort(), asked("slope_change"))
    families = family_table(found).set_index("family")
    tested = found[found["p"].notna()]
    assert families["tests"].sum() == len(tested) and set(families.index) == set(tested["family"])
    cox = families.loc["Continuous marker: Cox"]
    events = int(cox["events"])
    want = statistics.detectable_effect("cox", n_events=events).estimate
    assert cox["detectable_effect"] == want == cox["detectable_in_family"] and cox["effect_kind"] == "HR"
    ranks = families.loc["Markers by follow-up (slope change): rank-sum"]
    assert 0.5 < ranks["detectable_effect"] < 1 and ranks["effect_kind"] == "AUC" and ranks["exploratory"]
    assert families["expected_by_chance"].tolist() == pytest.approx(0.05 * families["tests"])


def test_the_continuous_marker_comes_before_any_cut():
    found = associate(cohort(), asked("slope_change", "landmark:12"))
    of_marker = found[found["population"] == "CD20"]
    assert of_marker["split"].iloc[0] == "continuous" and of_marker["analysis"].iloc[0] == "cox"


@pytest.mark.slow
def test_NP44_shuffled_outcomes_are_claimed_in_few_studies():
    """Of 60 studies with chance 0.05 each more than 11 come with p < 0.0002; `benchmarks.shuffled` does 1,000."""
    rng, table, settings = np.random.default_rng(4), shuffled_cohort(50, 4), shuffled_settings()
    raw, claims, told = {}, {}, 0
    for _ in range(60):
        found = associate(shuffled(table, rng), settings)
        for family, rows in found[found["p"].notna()].groupby("family"):
            raw[family] = raw.get(family, 0) + bool(rows["p"].iloc[0] <= 0.05)
            claims[family] = claims.get(family, 0) + bool((rows["p_adjusted"] < 0.05).any())
        told += any(not one.exploratory for one in findings(Numbers({"statistics": found})))
    assert len(raw) == 19 and max(raw.values()) <= 11 and max(claims.values()) <= 11, (raw, claims)
    assert sum(raw.values()) > 10  # p values do fall below 0.05: the test sees something
    assert told < 50
