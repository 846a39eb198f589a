"""The source trial's main result from study.toml alone: a mutation group, response, PFS, OS, populations.

Every number of statistics.csv that it consists of is made again by direct calls of mihc.statistics on the clinical
table that was drawn.
"""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_study import draw_cells, draw_clinical, write_table_study

import mihc
from mihc import statistics
from mihc.store import read_csv

PATIENTS, SEED = 40, 11
POPULATIONS = ("PanCK", "CD3", "CD8", "cytotoxic T cell")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = write_table_study(tmp_path_factory.mktemp("main") / "study", patients=PATIENTS, seed=SEED)
    assert mihc.run(mihc.read_study(folder)).failed == {}
    return folder


@pytest.fixture(scope="module")
def rows(finished) -> pd.DataFrame:
    table = read_csv(finished / "results" / "statistics.csv", text=("family", "term", "split", "endpoint"))
    return table[table["split"] == "group:signature"]


CLINICAL = draw_clinical(PATIENTS, SEED)
SIGNED = (CLINICAL["signature"] == "positive").to_numpy()
RESPONDS = CLINICAL["best_response"].isin(["CR", "PR"]).to_numpy()


def one(rows: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_response_by_the_group_is_fishers_test_and_exact_proportions(rows):
    table = [[int((part & RESPONDS).sum()), int((part & ~RESPONDS).sum())] for part in (SIGNED, ~SIGNED)]
    found, expected = one(rows, family="Response by signature: Fisher"), statistics.fisher_exact(table)
    assert found["term"] == "positive vs negative"
    assert found[["estimate", "ci_low", "ci_high", "p"]].tolist() == pytest.approx(
        [expected.estimate, expected.ci_low, expected.ci_high, expected.p], rel=1e-12
    )
    for level, members in (("positive", SIGNED), ("negative", ~SIGNED)):
        share = statistics.exact_proportion(int((members & RESPONDS).sum()), int(members.sum()))
        row = one(rows, family="Response by signature", term=level)
        assert row[["estimate", "ci_low", "ci_high"]].tolist() == pytest.approx(
            [share.estimate, share.ci_low, share.ci_high], rel=1e-12
        )


@pytest.mark.parametrize("endpoint", ["PFS", "OS"])
def test_survival_by_the_group_is_log_rank_and_cox_alone_and_beside_the_covariates(rows, endpoint):
    time, event = (CLINICAL[f"{endpoint.lower()}_{part}"].to_numpy(float) for part in ("months", "event"))
    test = statistics.log_rank_permuted(time, event, CLINICAL["signature"].to_numpy())
    assert test.p_chi_squared == statistics.log_rank(time, event, CLINICAL["signature"].to_numpy()).p
    found = one(rows, family="Survival by signature: log-rank", endpoint=endpoint)
    assert found[["statistic", "p"]].tolist() == pytest.approx([test.statistic, test.p_chi_squared], rel=1e-12)
    assert (found["n_high"], found["n_low"]) == (SIGNED.sum(), (~SIGNED).sum())
    alone = pd.DataFrame({"signature": SIGNED.astype(float)})
    beside = alone.assign(
        liver=(CLINICAL["liver_metastasis"] == "yes").astype(float), age=CLINICAL["age"].astype(float)
    )
    for family, covariates in (("Cox", alone), ("Cox with covariates", beside)):
        terms = statistics.cox(time, event, covariates)
        row = one(rows, family=f"Survival by signature: {family}", endpoint=endpoint)
        assert row[["estimate", "ci_low", "ci_high", "p"]].tolist() == pytest.approx(
            [terms[0].estimate, terms[0].ci_low, terms[0].ci_high, terms[0].p], rel=1e-9
        )
    own = rows[(rows["family"] == "Survival by signature: Cox with covariates, the covariates")]
    own = own[own["endpoint"] == endpoint].set_index("term")
    for name, term in (("liver_metastasis: yes vs no", terms[1]), ("age", terms[2])):
        assert own.loc[name, "estimate"] == pytest.approx(term.estimate, rel=1e-9)
        assert own.loc[name, "p"] == pytest.approx(term.p, rel=1e-9)


def positivity(population: str, tissue_class: str) -> np.ndarray:
    """Positivity of every patient, counted in the drawn cells."""
    calls = {
        "PanCK": lambda cells: cells["PanCK_positive"] == 1,
        "CD3": lambda cells: cells["CD3_positive"] == 1,
        "CD8": lambda cells: cells["CD8_positive"] == 1,
        "cytotoxic T cell": lambda cells: (cells["CD3_positive"] == 1) & (cells["CD8_positive"] == 1),
    }
    tables = draw_cells(CLINICAL, SEED).values()
    parts = [cells if tissue_class == "all" else cells[cells["tissue_class"] == tissue_class] for cells in tables]
    return np.array([100 * calls[population](part).sum() / len(part) for part in parts])


@pytest.mark.parametrize("tissue_class", ["tumour", "stroma", "all"])
@pytest.mark.parametrize("population", POPULATIONS)
def test_every_population_is_tested_between_the_groups(rows, population, tissue_class):
    values = positivity(population, tissue_class)
    expected = statistics.rank_sum(values[SIGNED], values[~SIGNED])
    found = one(
        rows, analysis="rank_sum", population=population, tissue_class=tissue_class, measure="positivity_percent"
    )
    assert (found["n_high"], found["n_low"]) == (SIGNED.sum(), (~SIGNED).sum())
    assert found[["estimate", "p"]].tolist() == pytest.approx([expected.estimate, expected.p], rel=1e-9)


def test_the_planted_effects_are_found_and_the_report_draws_them(finished, rows):
    assert one(rows, family="Survival by signature: Cox", endpoint="PFS")["estimate"] < 1
    found = rows[(rows["analysis"] == "rank_sum") & (rows["population"] == "CD8") & (rows["tissue_class"] == "all")]
    assert found.dropna(subset=["p"])["p_adjusted"].max() < 0.05
    report = html.unescape((finished / "results" / "report.html").read_text())
    assert "signature" in report
    figures = [path.name for path in (finished / "results" / "figures").glob("*.svg")]
    assert any("signature" in name for name in figures), figures


def test_the_settings_of_docs_outcomes_are_those_that_run(finished):
    """The study.toml that docs/outcomes.md shows for this is read without a problem and asks for the same."""
    from mihc.studies.toml import parse_settings

    page = (Path(__file__).parents[1] / "docs" / "outcomes.md").read_text(encoding="utf-8")
    shown = page.split("```toml\n")[1].split("```")[0]
    settings, problems = parse_settings(shown)
    assert problems == []
    of_study = mihc.read_study(finished).settings
    assert (settings.groups, settings.cox_covariates) == (("signature",), ("liver_metastasis", "age"))
    assert {name: (o.time, o.event) for name, o in settings.outcomes.items()} == {
        name: (o.time, o.event) for name, o in of_study.outcomes.items()
    }
    assert settings.responses["ORR"].responders == of_study.responses["ORR"].responders
    assert settings.responses["DCR"].responders == ("CR", "PR", "SD")
