"""Every association under other choices, without each patient, and drawn again: against what is computed one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mihc
from mihc import statistics
from mihc.associate import SlideCells, asked_tests, associate, influence_table, recount, robustness_summary, settings_of
from mihc.associations.influence import bootstrap_estimates
from mihc.associations.recount import moved
from mihc.positives import Threshold, call_positives
from mihc.reports.claims import findings
from mihc.reports.numbers import Numbers
from mihc.store import read_csv
from mihc.studies.settings import Outcome, Response, Settings, Splits, StudyInfo
from mihc.studies.toml import parse_settings

CD20 = "CD20|tumour|density_per_mm2"
MARKED = {
    "CD3": Threshold(100, 80, 140, "auto", "separable", ""),
    "CD8": Threshold(100, 90, 110, "auto", "separable", ""),
}
ASKED = Settings(
    StudyInfo("t"), outcomes={"OS": Outcome("os", "os_event")}, responses={"ORR": Response("best", ("PR",))},
    groups=("sex",), splits=Splits(outcome=("slope_change",), marker=("median",)),
)  # fmt: skip


def cohort(n: int = 30, seed: int = 1, effect: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": [f"P{place:02d}" for place in range(n)], "slides": 1})
    table[CD20] = np.exp(rng.normal(4, 1, n))
    table["CD3|tumour|density_per_mm2"] = np.where(rng.random(n) < 0.1, np.nan, np.exp(rng.normal(3, 1, n)))
    event = rng.exponential(10 * np.exp(effect * (np.log1p(table[CD20]) - 4)))
    end = rng.uniform(5, 40, n)
    table["os"], table["os_event"] = np.minimum(event, end), (event <= end).astype(float)
    table["best"], table["sex"] = rng.choice(["PR", "SD"], n), rng.choice(["f", "m"], n)
    return table


# ---- counting again ----


def test_a_marker_moves_to_five_places_of_its_interval_and_of_several_each_alone():
    assert settings_of(("CD3",), ["CD3"]) == {
        "as analysed": {"CD3": 0.0}, "low": {"CD3": -1.0}, "half low": {"CD3": -0.5}, "half high": {"CD3": 0.5},
        "high": {"CD3": 1.0},
    }  # fmt: skip
    assert settings_of(("CD3",), []) == {"as analysed": {}}
    assert len(settings_of(("CD3", "CD8"), ["CD3", "CD8"])) == 5 + 4
    assert [moved(MARKED["CD3"], at) for at in (-1, -0.5, 0, 0.5, 1)] == [80, 90, 100, 120, 140]
    for verdict in ("negative slide", "cannot tell"):
        assert moved(Threshold(100, 80, 140, "auto", verdict, ""), 1) == 100


def test_cells_are_counted_again_as_calling_them_again_would_count_them():
    rng = np.random.default_rng(2)
    cells = pd.DataFrame({f"{marker}_cell_mean": rng.normal(100, 25, 400) for marker in MARKED})
    cells["tissue_class"] = rng.choice(["tumour", "stroma", "outside", "excluded"], 400)
    compartments, phenotypes = dict.fromkeys(MARKED, "cell"), {"cytotoxic": "CD3+ CD8+", "helper": "CD3+ CD8-"}
    calls = call_positives(cells, MARKED, compartments=compartments, phenotypes=phenotypes)
    other = np.where(cells["tissue_class"] == "stroma", "tumour", "outside").astype(object)
    regions = {
        "as analysed": (cells["tissue_class"].to_numpy(), {"tumour": 2.0, "stroma": 1.0}),
        "automatic": (other, {"tumour": 1.0}),
    }
    slide = SlideCells("S1", cells.join(calls), MARKED, compartments, phenotypes, regions)
    settings = {"CD3": settings_of(("CD3",), list(MARKED)), "helper": settings_of(("CD3", "CD8"), list(MARKED))}
    rows = recount(slide, settings)
    assert len(rows) == (5 + 9) * 3
    for name, definition, _slide, kind, _kind, population, n, positive, _area in rows:
        positions = settings[population][name]
        cut = {marker: moved(one, positions.get(marker, 0)) for marker, one in MARKED.items()}
        again = call_positives(cells, cut, compartments=compartments, phenotypes=phenotypes)
        column = f"phenotype_{population}" if population in phenotypes else f"{population}_positive"
        here = regions[definition][0] == kind
        assert (n, positive) == (here.sum(), (again[column].to_numpy(bool) & here).sum()), (name, population)


def test_a_phenotype_that_a_table_brought_does_not_move_and_an_unknown_one_stays_unknown():
    cells = pd.DataFrame({"CD3_cell_mean": [50.0, 90, 130, 150], "CD8_cell_mean": [50.0, 95, 105, 150]})
    cells["tissue_class"] = "tumour"
    compartments, phenotypes = dict.fromkeys(MARKED, "cell"), {"both": "CD3+ CD8+"}
    unclear = MARKED | {"CD8": Threshold(math.nan, math.nan, math.nan, "auto", "cannot tell", "")}
    calls = call_positives(cells, unclear, compartments=compartments, phenotypes=phenotypes)
    regions = {"as analysed": (cells["tissue_class"].to_numpy(), {"tumour": 1.0})}
    settings = {name: settings_of(("CD3",), ["CD3"]) for name in ("CD8", "both")}
    rows = recount(SlideCells("S", cells.join(calls), unclear, compartments, phenotypes, regions), settings)
    assert all(math.isnan(row[7]) for row in rows if row[5] == "CD8")
    calls = call_positives(cells, MARKED, compartments=compartments).assign(phenotype_both=pd.array([True] * 4))
    rows = recount(SlideCells("S", cells.join(calls), MARKED, compartments, phenotypes, regions), settings)
    assert {row[7] for row in rows if row[5] == "both"} == {4.0}


# ---- single patients and draws ----


def test_leaving_a_patient_out_is_the_study_without_that_patient():
    patients = cohort()
    found = influence_table(patients, asked_tests(patients, ASKED))
    for place in (0, 7, 29):
        without = associate(patients.drop(index=place), ASKED)
        rows = found[(found["patient"] == f"P{place:02d}") & (found["population"] == "CD20")]
        assert set(rows["split"]) == {"continuous", "marker:median", "outcome:slope_change", "response", "group:sex"}
        for row in rows.itertuples():
            same = without[
                (without["population"] == "CD20") & (without["split"] == row.split)
                & (without["endpoint"] == row.endpoint) & (without["analysis"] == row.analysis)
            ]  # fmt: skip
            assert len(same) == 1
            assert (row.n, row.p) == (same["n"].iloc[0], pytest.approx(same["p"].iloc[0], rel=1e-6)), row.split
            if row.analysis == "cox":
                assert row.estimate == pytest.approx(same["estimate"].iloc[0], rel=1e-6)
                assert row.direction == (1 if row.estimate < 1 else -1)
    measured = patients["CD3|tumour|density_per_mm2"].notna().sum()
    assert (found["population"] == "CD3").sum() == 5 * measured


def test_the_bootstrap_draws_patients_by_name_and_covers_what_r_would_estimate():
    patients = cohort(60)
    test = next(one for one in asked_tests(patients, ASKED) if one.trial.split == "continuous")
    drawn = bootstrap_estimates(patients, test, 300)
    whole = float(test.trial.run(test.values[:, None]).estimate[0])
    assert np.quantile(drawn, 0.025) < whole < np.quantile(drawn, 0.975) < 1
    mixed = patients.sample(frac=1, random_state=3, ignore_index=True)
    again = next(one for one in asked_tests(mixed, ASKED) if one.trial.split == "continuous")
    assert bootstrap_estimates(mixed, again, 300) == pytest.approx(drawn, rel=1e-8)


def test_the_auc_of_a_draw_is_that_of_the_patients_drawn():
    patients = cohort(25)
    test = next(one for one in asked_tests(patients, ASKED) if one.trial.split == "response")
    weights = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=10).T
    found = test.trial.drawn(test.values, weights)
    for place in range(10):
        drawn = patients.loc[np.repeat(np.arange(25), weights[:, place])]
        groups = [drawn.loc[drawn["best"] == level, CD20] for level in ("PR", "SD")]
        assert found[place] == pytest.approx(statistics.rank_sum(*groups).auc)


def test_a_result_that_one_patient_makes_is_fragile_and_the_claim_says_so():
    patients = cohort(24, seed=5, effect=0.0)
    patients.loc[0, [CD20, "os", "os_event"]] = [1e6, 0.01, 1.0]  # one patient with very many cells dies at once
    rest = patients.index > 0
    patients.loc[rest, CD20] = np.linspace(90, 110, rest.sum())
    tests = [one for one in asked_tests(patients, ASKED) if one.marker.column == CD20]
    influence = influence_table(patients, tests)
    universes = pd.DataFrame(columns=["endpoint", "population", "tissue_class", "split", "estimate", "p", "direction"])
    summary = robustness_summary(patients, tests, universes, influence, 0)
    row = summary[summary["split"] == "continuous"].iloc[0]
    assert row["p"] < 0.05 and row["verdict"] == "fragile"
    name = row["left_out_patient"]
    assert row["left_out_loses"] >= 1 and f"without patient {name} p is" in row["why"]
    rows = associate(patients.drop(columns="CD3|tumour|density_per_mm2"), ASKED)
    told = findings(Numbers({"statistics": rows, "robustness_summary": summary}))
    assert told and f"without patient {name}" in told[0].fragile and str(told[0].headline).startswith("Fragile: ")
    quiet = findings(Numbers({"statistics": rows}))
    assert quiet[0].fragile == "" and not str(quiet[0].headline).startswith("Fragile")


def test_a_result_that_other_choices_turn_round_is_fragile():
    patients = cohort(40)
    tests = [one for one in asked_tests(patients, ASKED) if one.marker.column == CD20 and one.trial.asked][:1]
    universes = pd.DataFrame({
        "endpoint": "OS", "population": "CD20", "tissue_class": "tumour", "split": "continuous", "estimate": 0.5,
        "p": [0.01] * 8 + [0.6] * 2, "direction": [1] * 8 + [-1] * 2,
    })  # fmt: skip
    row = robustness_summary(patients, tests, universes, pd.DataFrame(), 50).iloc[0]
    assert (row["analyses"], row["same_direction_percent"], row["significant_percent"]) == (10, 80.0, 80.0)
    assert row["verdict"] == "fragile" and "80 % of 10" in row["why"]
    steady = robustness_summary(patients, tests, universes.iloc[:8], pd.DataFrame(), 50).iloc[0]
    assert steady["verdict"] == "steady" and steady["why"] == "" and steady["bootstrap_draws"] == 50


def test_each_clinical_column_is_a_question_of_its_own():
    """Both have no endpoint; what choices do to the one says nothing of the other."""
    patients = cohort(40)
    asked = replace(ASKED, groups=("site", "arm"))
    high = patients[CD20] > patients[CD20].median()
    patients = patients.assign(site=np.where(high, "b", "a"), arm=np.where(high, "a", "b"))
    tests = [one for one in asked_tests(patients, asked) if one.marker.column == CD20]
    universes = pd.DataFrame({
        "endpoint": "", "population": "CD20", "tissue_class": "tumour", "split": ["group:site", "group:arm"] * 3,
        "estimate": 0.9, "p": 0.001, "direction": [1, -1] * 3,
    })  # fmt: skip
    summary = robustness_summary(patients, tests, universes, pd.DataFrame(), 0).set_index("split")
    for split, direction in (("group:site", 1), ("group:arm", -1)):
        assert summary.loc[split, ["analyses", "same_direction_percent", "direction"]].tolist() == [3, 100.0, direction]


# ---- the stage ----

PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\nCD8,CD8,marker,cell\n"
SETTINGS = """
[study]
name = "robust"
[phenotypes]
"cytotoxic T cell" = "CD3+ CD8+"
[outcomes.OS]
time = "os"
event = "os_event"
[splits]
outcome = ["slope_change", "landmark:12"]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """12 patients with two tables of cells each, 200 cells in a table."""
    folder = tmp_path_factory.mktemp("robust") / "study"
    folder.mkdir()
    rng, rows, clinical = np.random.default_rng(7), ["slide,patient,cells"], ["patient,os,os_event"]
    for patient in range(12):
        clinical.append(f"P{patient:02d},{2 + 3 * patient + rng.uniform(0, 1):.2f},{int(rng.random() < 0.7)}")
        for slide in "ab":
            table = pd.DataFrame({"x_um": rng.uniform(0, 500, 200), "y_um": rng.uniform(0, 500, 200)})
            table["tissue_class"] = rng.choice(["tumour", "stroma"], 200)
            for marker in ("CD3", "CD8"):
                positive = rng.random(200) < rng.uniform(0.15, 0.5)
                table[f"{marker}_cell_mean"] = np.exp(rng.normal(np.where(positive, 6.6, 4.5), 0.45))
            table.to_csv(folder / f"P{patient:02d}{slide}.csv", index=False)
            rows.append(f"P{patient:02d}{slide},P{patient:02d},P{patient:02d}{slide}.csv")
    for name, lines in (("slides", rows), ("clinical", clinical)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "panel.csv").write_text(PANEL)
    (folder / "study.toml").write_text(SETTINGS)
    results = mihc.run(mihc.read_study(folder), until="robustness")
    assert results.failed == {} and results.report is None
    return folder


def test_what_is_reported_is_among_the_analyses(finished):
    tests, universes = (read_csv(finished / "results" / f"{name}.csv") for name in ("statistics", "robustness"))
    reported = universes[universes["as_reported"]]
    assert 0 < len(reported) < len(universes) / 4
    key = ["endpoint", "population", "tissue_class", "measure", "split", "analysis"]
    both = reported.merge(tests, on=key, suffixes=("", "_told"))
    assert len(both) == len(reported)
    assert both["p"].to_numpy() == pytest.approx(both["p_told"].to_numpy(), rel=1e-6, nan_ok=True)
    assert both["n"].tolist() == both["n_told"].tolist()
    ratio = both["analysis"] == "cox"
    told = both.loc[ratio, "estimate_told"].to_numpy()
    assert both.loc[ratio, "estimate"].to_numpy() == pytest.approx(told, rel=1e-6, nan_ok=True)


def test_the_choices_are_crossed(finished):
    universes = read_csv(finished / "results" / "robustness.csv")
    assert {"as analysed", "low", "half low", "half high", "high"} <= set(universes["threshold"])
    assert set(universes["pooling"]) == {"pooled", "mean of slides"}
    assert set(universes["split"]) >= {"continuous", "marker:median", "marker:tertiles", "outcome:slope_change"}
    phenotype = universes[universes["population"] == "cytotoxic T cell"]
    assert {"CD3 low", "CD8 high"} <= set(phenotype["threshold"])
    assert not universes.duplicated(
        ["endpoint", "population", "tissue_class", "split", "threshold", "measure", "pooling", "regions"]
    ).any()


def test_the_mean_of_slides_is_a_mean_of_the_slides(finished):
    universes = read_csv(finished / "results" / "robustness.csv")
    regions, slides = (read_csv(finished / "results" / f"{name}.csv") for name in ("regions", "patients"))
    own = regions[(regions["population"] == "CD3") & (regions["tissue_class"] == "tumour")]
    means = own.groupby("patient")["positivity_percent"].agg(lambda values: values.mean(skipna=False))
    x = np.log1p(means.reindex(slides["patient"]).to_numpy())
    (by_hand,) = statistics.cox(slides["os"], slides["os_event"], x / np.nanstd(x, ddof=1))
    row = universes[
        (universes["population"] == "CD3") & (universes["tissue_class"] == "tumour")
        & (universes["split"] == "continuous") & (universes["pooling"] == "mean of slides")
        & (universes["threshold"] == "as analysed") & (universes["measure"] == "positivity_percent")
    ].iloc[0]  # fmt: skip
    assert (row["estimate"], row["p"]) == (pytest.approx(by_hand.estimate), pytest.approx(by_hand.p))


def test_the_stage_is_reused_and_can_be_switched_off(finished):
    again = {step.stage: step.why for step in mihc.run(mihc.read_study(finished), until="robustness").steps}
    assert again["robustness"] == "reused"
    (finished / "study.toml").write_text(SETTINGS + "[robustness]\nanalyse = false\n")
    off = {step.stage: step.why for step in mihc.run(mihc.read_study(finished), until="robustness").steps}
    assert off["robustness"].startswith("recomputed because") and "settings" in off["robustness"]
    assert off["statistics"] == "reused"
    for name in ("robustness", "influence", "robustness_summary"):
        assert len(read_csv(finished / "results" / f"{name}.csv")) == 0
    assert len(read_csv(finished / "results" / "splits.csv")) == 11  # ten rules and one landmark


def test_check_names_what_is_wrong_in_robustness():
    text = '[study]\nname = "t"\n[robustness]\nanalyze = true\nbootstrap_draws = -3\n'
    _, problems = parse_settings(text)
    told = " ".join(map(str, problems))
    assert len(problems) == 2 and "did you mean analyse" in told and "bootstrap_draws = -3" in told
    settings, problems = parse_settings('[study]\nname = "t"\n[robustness]\nanalyse = false\nbootstrap_draws = 0\n')
    assert problems == [] and not settings.robustness.analyse and settings.robustness.bootstrap_draws == 0
