"""Which tests mihc.associate runs, on whom, and what it refuses to claim."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mihc import statistics
from mihc.associate import COLUMNS, associate, marker_columns, marker_groups, outcome_groups, patient_groupings
from mihc.associations.rows import row, table
from mihc.errors import ClinicalError
from mihc.studies.settings import Outcome, Response, Settings, Splits, StudyInfo

CD20 = "CD20|tumour|density_per_mm2"
KI67 = "proliferating B cell|stroma|positivity_percent"


def study(
    *, outcome=("slope_change",), marker=("median",), given=None, groups=("signature",), covariates=("ecog", "site")
) -> Settings:
    return Settings(
        StudyInfo("test"),
        outcomes={"PFS": Outcome("pfs", "pfs_event"), "OS": Outcome("os", "os_event")},
        responses={"ORR": Response("best", ("CR", "PR"))},
        groups=groups,
        cox_covariates=covariates,
        splits=Splits(outcome=outcome, marker=marker, given=given or {}),
    )


def cohort(seed: int = 0, n: int = 60, effect: float = 0.0) -> pd.DataFrame:
    """Patients whose log hazard falls by `effect` per unit of log1p(CD20); the second marker is independent."""
    rng = np.random.default_rng(seed)
    density = np.round(np.exp(rng.normal(4, 1, n)), 1)
    hazard = np.exp(-effect * (np.log1p(density) - 4))
    table = {"patient": [f"P{place:02d}" for place in range(n)], "slides": "S", CD20: density}
    table[KI67] = np.round(rng.uniform(0, 30, n), 2)
    for name, scale in (("pfs", 8), ("os", 14)):
        death, end = rng.exponential(scale / hazard), rng.uniform(3, 30, n)
        table[name], table[f"{name}_event"] = np.round(np.minimum(death, end), 2), (death <= end).astype(float)
    table["best"] = rng.choice(["CR", "PR", "SD", "PD", "NE"], n)
    table["signature"] = rng.choice(["wild type", "mutated"], n)
    table["ecog"], table["site"] = rng.integers(0, 2, n).astype(str), rng.choice(["a", "b", "c"], n)
    return pd.DataFrame(table)


def pick(found: pd.DataFrame, analysis: str, **wanted) -> pd.DataFrame:
    chosen = found[found["analysis"] == analysis]
    for column, value in wanted.items():
        chosen = chosen[chosen[column] == value]
    return chosen


def one(found: pd.DataFrame, analysis: str, **wanted) -> pd.Series:
    chosen = pick(found, analysis, **wanted)
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


# ---- the table ----


def test_the_table_has_the_contracts_columns_and_words():
    found = associate(cohort(), study(outcome=("slope_change", "landmark:12", "median"), marker=("median", "tertiles")))
    assert tuple(found.columns) == COLUMNS
    assert set(found["analysis"]) <= {
        "rank_sum", "kruskal", "cox", "log_rank", "km", "fisher", "proportion", "spearman", "maxstat", "weighted_auc",
    }  # fmt: skip
    kinds = {"", "HR", "location_shift", "odds_ratio", "proportion", "survival", "median", "rho", "AUC"}
    assert set(found["estimate_kind"]) <= kinds
    assert set(found["measure"]) == {"", "density_per_mm2", "positivity_percent"}
    assert found["n"].notna().all() and (found["adjust_method"] == "BH").sum() == found["p"].notna().sum()


def test_p_is_adjusted_within_each_family_and_a_family_is_one_analysis_with_one_split():
    found = associate(cohort(), study(outcome=("slope_change", "landmark:9"), marker=("median", "tertiles", "maxstat")))
    for family, rows in found.groupby("family"):
        assert len(set(rows["analysis"])) == 1 or rows["p"].isna().all(), family
        assert len(set(rows["split"])) == 1 or rows["p"].isna().all(), family
        assert rows["p_adjusted"].to_numpy() == pytest.approx(statistics.adjust(rows["p"].to_numpy()), nan_ok=True)
    markers = pick(found, "cox", family="Continuous marker: Cox")
    assert len(markers) == 4 and set(markers["endpoint"]) == {"PFS", "OS"} and markers["population"].nunique() == 2


def test_a_column_called_response_is_a_family_apart_from_the_responses():
    patients = cohort().assign(response=["a", "b"] * 30)
    settings = study(groups=("response",))
    families = pick(associate(patients, settings), "rank_sum").groupby("split")["family"].unique()
    assert families["response"].tolist() == ["Markers by response: rank-sum"]
    assert families["group:response"].tolist() == ["Markers by column response: rank-sum"]


def test_every_missing_estimate_has_its_reason():
    patients = cohort()
    patients["empty|tumour|density_per_mm2"], patients["zero|tumour|density_per_mm2"] = np.nan, 0.0
    patients["one|tumour|density_per_mm2"] = np.where(patients.index == 3, 5.0, np.nan)
    found = associate(
        patients, study(outcome=("slope_change", "landmark:12"), marker=("median", "tertiles", "maxstat"))
    )
    estimated = found["estimate_kind"] != ""
    assert (found.loc[estimated & found["estimate"].isna(), "note"] != "").all()
    tested = ~found["analysis"].isin(["km", "proportion"])
    assert (found.loc[tested & found["p"].isna(), "note"] != "").all()
    assert found.loc[found["population"] == "empty", "p"].isna().all()
    assert found.loc[found["population"] == "zero", "p"].isna().all()


def test_a_hazard_ratio_that_cannot_be_made_counts_the_patients_that_it_would_compare():
    """60 patients, all low but for the 40 whose marker is not known."""
    patients = cohort()
    patients["few|tumour|density_per_mm2"] = np.where(patients.index < 20, 0.0, np.nan)
    found = associate(patients, study())
    wanted = {"endpoint": "OS", "population": "few", "split": "marker:median"}
    hazards = pick(found, "cox", **wanted)
    assert len(hazards) == 2 and hazards["note"].eq("nobody is high").all()
    assert hazards["n"].tolist() == [20, 20] and one(found, "log_rank", **wanted)["n"] == 20


def test_a_study_without_outcomes_responses_and_groups_has_no_rows():
    found = associate(cohort(), Settings(StudyInfo("test")))
    assert found.empty and tuple(found.columns) == COLUMNS


def test_a_column_that_study_toml_names_and_nobody_has_is_refused_by_name():
    with pytest.raises(ClinicalError, match="os_event"):
        associate(cohort().drop(columns="os_event"), study())
    with pytest.raises(ClinicalError, match="slope"):
        associate(cohort(), study(outcome=("slope",)))
    with pytest.raises(ClinicalError, match="landmark"):
        associate(cohort(), study(outcome=("landmark:soon",)))


def test_NP40_the_order_of_patients_changes_no_number():
    patients, settings = cohort(), study(outcome=("slope_change", "median"), marker=("median", "maxstat"))
    patients[KI67] = np.round(patients[KI67] / 10)  # many ties
    found, other = associate(patients, settings), associate(patients.sample(frac=1, random_state=1), settings)
    pd.testing.assert_frame_equal(found, other, rtol=1e-7)


# ---- patients by outcome, markers compared ----


def test_patients_split_by_follow_up_have_their_markers_compared_and_nothing_else():
    patients = cohort()
    found = associate(patients, study(outcome=("slope_change",)))
    split = statistics.slope_change_split(patients["os"], patients["os_event"])
    by_hand = statistics.rank_sum(patients[CD20][split.labels == "high"], patients[CD20][split.labels == "low"])
    row = one(found, "rank_sum", endpoint="OS", population="CD20", split="outcome:slope_change")
    assert (row["p"], row["estimate"], row["n_high"], row["n_low"]) == (
        by_hand.p, by_hand.estimate, split.n_high, split.n_low,
    )  # fmt: skip
    assert row["term"] == "high vs low" and row["exploratory"] and f"cut at {split.cut:g} months" in row["note"]
    assert set(found.loc[found["split"].str.startswith("outcome:"), "analysis"]) == {"rank_sum"}


def test_a_split_by_survival_is_never_tested_against_survival():
    patients = cohort()
    found = associate(patients, study(groups=("os_event", "signature")))
    circular = found[(found["split"] == "group:os_event") & found["analysis"].isin(["cox", "log_rank", "km"])]
    assert len(circular) == 2 and circular["p"].isna().all()
    assert circular["note"].str.contains("made of survival itself").all()


def test_a_group_made_of_the_response_is_not_tested_against_it():
    found = associate(cohort(), study(groups=("best",)))
    row = one(found, "fisher", split="group:best")
    assert np.isnan(row["p"]) and "made of the response" in row["note"]
    assert pick(found, "log_rank", split="group:best")["note"].str.contains("guarantee-time").all()


def test_the_landmark_leaves_out_who_was_censored_before_it_and_says_so():
    patients = cohort()
    unknown = int(((patients["os"] <= 12) & (patients["os_event"] == 0)).sum())
    row = one(associate(patients, study(outcome=("landmark:12",))), "rank_sum", endpoint="OS", population="CD20",
              split="outcome:landmark:12")  # fmt: skip
    assert unknown and row["n"] == len(patients) - unknown and f"{unknown} censored" in row["note"]
    assert row["time"] == 12 and not row["exploratory"]


def test_response_groups_keep_every_other_value_in_the_denominator():
    patients = cohort()
    patients.loc[:2, "best"] = ["", "NE", "CR"]
    found = associate(patients, study())
    row = one(found, "proportion", endpoint="ORR", split="overall")
    responders = int(patients["best"].isin(["CR", "PR"]).sum())
    assert (row["n"], row["estimate"]) == (59, responders / 59) and "1 patients without" in row["note"]
    compared = one(found, "rank_sum", endpoint="ORR", population="CD20")
    assert (compared["term"], compared["n_high"], compared["n_low"]) == (
        "responder vs non-responder", responders, 59 - responders,
    )  # fmt: skip


def test_three_groups_are_compared_by_kruskal_wallis():
    patients = cohort()
    row = one(associate(patients, study(groups=("site",))), "kruskal", population="CD20")
    by_hand = statistics.kruskal([patients[CD20][patients["site"] == level] for level in "abc"])
    assert (row["p"], row["term"]) == (pytest.approx(by_hand.p), "a, b, c") and pd.isna(row["n_high"])


# ---- patients by marker, survival compared ----


def test_the_continuous_marker_enters_as_log1p_per_standard_deviation_of_those_analysed():
    # Conventions: "In Cox a marker enters as log1p(value) / its SD over the patients analysed."
    patients = cohort(effect=0.8)
    patients.loc[[1, 5], CD20], patients.loc[7, "os"] = np.nan, np.nan
    analysed = patients.dropna(subset=[CD20, "os"])
    x = np.log1p(analysed[CD20])
    (by_hand,) = statistics.cox(analysed["os"], analysed["os_event"], x / x.std(ddof=1))
    row = one(associate(patients, study()), "cox", family="Continuous marker: Cox", endpoint="OS", population="CD20")
    assert (row["estimate"], row["p"], row["n"]) == (pytest.approx(by_hand.estimate), pytest.approx(by_hand.p), 57)
    assert row["estimate"] < 1 and row["estimate_kind"] == "HR"


def test_covariates_are_numbers_or_levels_against_the_first():
    patients = cohort()
    patients.loc[3, "site"] = ""
    found = associate(patients, study())
    row = one(found, "cox", family="Continuous marker: Cox with covariates", endpoint="OS", population="CD20")
    assert row["n"] == 59 and row["method"].endswith("with ecog, site: b vs a, site: c vs a")
    rows = pick(found, "cox", family="Survival by signature: Cox with covariates, the covariates", endpoint="OS")
    assert rows["term"].tolist() == ["ecog", "site: b vs a", "site: c vs a"]


def test_a_log_rank_p_that_permutations_do_not_bear_out_claims_nothing():
    """By chi-squared 0.02, by permutation 0.024 or 0.06: only the first is claimed, and R's p stands in both."""
    found = statistics.LogRank(statistic=5.0, p=0.02, n=39, method="log-rank")
    alike = {"family": "Survival by mutation: log-rank", "endpoint": "OS"}
    borne_out = table([row("log_rank", found, p_permuted=0.024, **alike)]).iloc[0]
    refuted = table([row("log_rank", found, p_permuted=0.06, **alike)]).iloc[0]
    assert (borne_out["p"], borne_out["p_adjusted"], borne_out["adjust_method"]) == (0.02, 0.02, "BH")
    assert (refuted["p"], refuted["p_adjusted"], refuted["adjust_method"]) == (0.02, 0.06, "BH of permutation p")
    assert (borne_out["p_permuted"], refuted["p_permuted"]) == (0.024, 0.06)
    again = table([refuted.to_dict(), borne_out.to_dict()])  # as rows that are kept from the last run
    assert again["p_adjusted"].tolist() == [0.06, 0.02 * 2 / 2]
    two = table([row("log_rank", found, p_permuted=0.03, **alike), row("log_rank", found, p_permuted=0.06, **alike)])
    assert two["p_adjusted"].tolist() == [0.06, 0.06]  # 0.03 x 2 and 0.06


def test_patients_split_at_a_markers_median_get_curves_log_rank_and_hazard_ratio():
    patients = cohort()
    found = associate(patients, study(outcome=("landmark:12",), marker=("median",)))
    wanted = {"endpoint": "OS", "population": "CD20", "split": "marker:median"}
    high = (patients[CD20] > patients[CD20].median()).to_numpy()
    by_hand = statistics.log_rank_permuted(patients["os"], patients["os_event"], np.where(high, "high", "low"))
    test = one(found, "log_rank", **wanted)
    assert (test["statistic"], test["method"]) == (by_hand.statistic, "log-rank")
    assert f"by 10,000 permutations: p = {by_hand.p:.3g}" in test["note"]
    assert (test["p"], test["n_high"], test["n_low"], test["term"]) == (
        pytest.approx(by_hand.p_chi_squared), high.sum(), (~high).sum(), "high vs low",
    )  # fmt: skip
    (ratio,) = statistics.cox(patients["os"], patients["os_event"], high)
    row = one(found, "cox", family="Survival by marker (median): Cox", **wanted)
    assert row["estimate"] == pytest.approx(ratio.estimate) and row["term"] == "high vs low"
    curve = statistics.kaplan_meier(patients["os"][high], patients["os_event"][high])
    rows = pick(found, "km", term="high", **wanted).set_index("estimate_kind")
    assert (
        rows.loc["survival", "estimate"] == pytest.approx(curve.at(12).estimate) and rows.loc["survival", "time"] == 12
    )
    assert rows.loc["median", "estimate"] == pytest.approx(curve.median().estimate, nan_ok=True)
    assert not found.loc[found["split"] == "marker:median", "exploratory"].any()


def test_the_best_cut_has_a_corrected_p_and_no_hazard_ratio():
    found = associate(cohort(), study(marker=("maxstat",)))
    rows = found[found["split"] == "marker:maxstat"]
    assert set(rows["analysis"]) == {"maxstat", "km"} and rows["exploratory"].all()
    tests = pick(rows, "maxstat")
    assert tests["p"].notna().all() and tests["estimate"].isna().all() and tests["note"].str.contains("too large").all()


def test_a_given_cut_is_used_for_its_own_column_only_and_counts_itself_as_high():
    patients = cohort()
    cut = float(patients[CD20].iloc[4])
    found = associate(patients, study(marker=("given",), given={CD20: cut}))
    rows = pick(found, "log_rank", split="marker:given")
    assert set(rows["population"]) == {"CD20"}
    assert set(rows["n_high"]) == {int((patients[CD20] >= cut).sum())}


# ---- clinical and mutation groups ----


def test_the_source_trials_signature_against_response():
    # fisher.test(matrix(c(21, 11, 1, 8), 2, byrow = TRUE)): p = 0.00643, conditional odds ratio 14.3 (1.59 to 709)
    patients = pd.DataFrame(
        {"best": ["PR"] * 21 + ["SD"] * 11 + ["PR"] + ["PD"] * 8, "signature": ["yes"] * 32 + ["no"] * 9}
    )
    settings = Settings(StudyInfo("t"), responses={"ORR": Response("best", ("CR", "PR"))}, groups=("signature",))
    found = associate(patients, settings)
    row = one(found, "fisher")
    assert [round(row[name], 5) for name in ("p",)] == [0.00643] and row["term"] == "yes vs no"
    assert (row["estimate"], row["ci_low"], row["ci_high"]) == pytest.approx((14.2968, 1.58692, 708.966), rel=1e-4)
    assert (row["n_high"], row["n_low"], row["n"]) == (32, 9, 41)
    shares = pick(found, "proportion").set_index("term")["estimate"]
    assert [round(100 * shares[level], 1) for level in ("yes", "no")] == [65.6, 11.1]


def test_mutation_groups_are_compared_in_survival_alone_and_beside_covariates():
    patients = cohort()
    found = associate(patients, study())
    wanted = {"endpoint": "PFS", "split": "group:signature", "term": "wild type vs mutated"}
    assert len(pick(found, "log_rank", **wanted)) == 1 and len(pick(found, "cox", **wanted)) == 2
    (ratio,) = statistics.cox(patients["pfs"], patients["pfs_event"], patients["signature"] == "wild type")
    row = one(found, "cox", family="Survival by signature: Cox", endpoint="PFS")
    assert row["estimate"] == pytest.approx(ratio.estimate)
    assert row["n_high"] == (patients["signature"] == "wild type").sum()


def test_a_covariate_is_not_put_beside_itself():
    found = associate(cohort(), study(groups=("site",), covariates=("site", "ecog")))
    rows = pick(found, "cox", family="Survival by site: Cox with covariates")
    assert set(rows["term"]) == {"b vs a", "c vs a"} and rows["method"].str.endswith("with ecog").all()


def test_a_group_with_too_many_levels_is_named_and_not_tested():
    patients = cohort()
    patients["signature"] = patients["patient"]
    found = associate(patients, study())
    rows = found[(found["split"] == "group:signature") & (found["analysis"] != "proportion")]
    assert rows["p"].isna().all() and rows["note"].str.contains("60 levels are too many").all()


def test_OT20_one_class_of_events_gives_reasons_and_no_number():
    patients = cohort()
    patients["os_event"], patients["ecog"] = 0.0, "1"
    found = associate(patients, study())
    rows = found[(found["endpoint"] == "OS") & found["analysis"].isin(["cox", "log_rank"])]
    assert rows["p"].isna().all() and rows["note"].str.contains("no events").all()
    beside = one(found, "cox", family="Survival by signature: Cox with covariates, the covariates", endpoint="PFS",
                 term="ecog")  # fmt: skip
    assert np.isnan(beside["p"]) and "constant" in beside["note"]


# ---- the same groups for the figures ----


def test_figures_get_the_groups_that_were_tested():
    patients, settings = cohort(), study(outcome=("slope_change", "landmark:12", "none"))
    groups = outcome_groups(patients, settings, "OS")
    assert list(groups) == ["slope_change", "landmark:12"]
    found = associate(patients, settings)
    for split, labels in groups.items():
        row = one(found, "rank_sum", endpoint="OS", population="CD20", split=f"outcome:{split}")
        assert ((labels == "high").sum(), (labels == "low").sum()) == (row["n_high"], row["n_low"])
    high = marker_groups(patients[CD20], "median", {}) == "high"
    assert high.sum() == one(found, "log_rank", endpoint="OS", population="CD20")["n_high"]
    assert marker_groups(patients[CD20], "given", {CD20: 50}).eq("high").equals(patients[CD20] >= 50)
    assert set(marker_groups(patients[CD20], "maxstat", time=patients["os"], event=patients["os_event"])) == {
        "high",
        "low",
    }
    assert [(made.split, made.endpoint) for made in patient_groupings(patients, settings)] == [
        ("outcome:slope_change", "PFS"), ("outcome:slope_change", "OS"), ("outcome:landmark:12", "PFS"),
        ("outcome:landmark:12", "OS"), ("response", "ORR"), ("group:signature", ""),
    ]  # fmt: skip


def test_marker_columns_are_read_from_their_names():
    patients = pd.DataFrame({"patient": ["a"], "x|y": [1], KI67: [1.0], "CPS": [3.0], "TPS_percent": [1.0]})
    assert [(m.population, m.tissue_class, m.measure) for m in marker_columns(patients)] == [
        ("proliferating B cell", "stroma", "positivity_percent"), ("CPS", "", ""), ("TPS", "", ""),
    ]  # fmt: skip


# ---- planted truth ----


def test_a_planted_association_is_found_and_an_independent_marker_is_not():
    claims = {"CD20": 0, "proliferating B cell": 0}
    for seed in range(10):
        found = associate(cohort(seed, n=45, effect=1.0), study(outcome=("none",), groups=(), covariates=()))
        rows = pick(found, "cox", family="Continuous marker: Cox", endpoint="OS").set_index("population")
        for population in claims:
            claims[population] += rows.loc[population, "p_adjusted"] < 0.05
    assert claims["CD20"] >= 9 and claims["proliferating B cell"] <= 2
