"""Whether hazards are proportional stands beside every Cox term, and a claim that may not be one number says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from drawn_report import drawn_study, drawn_tables
from report_page import Page, written

from mihc import statistics
from mihc.associate import associate
from mihc.reports.associations import forests
from mihc.reports.checklists import checklists
from mihc.reports.claims import findings
from mihc.reports.doubts import doubts
from mihc.reports.numbers import Numbers
from mihc.studies.settings import Outcome, Settings, StudyInfo

CD20 = "CD20|tumour|density_per_mm2"
SETTINGS = Settings(
    StudyInfo("test"), outcomes={"OS": Outcome("os", "os_event")}, groups=("arm",), cox_covariates=("ecog",)
)


def crossing(n: int = 80) -> pd.DataFrame:
    """Much CD20 means a high risk at first and a low one later; between the two arms the risk differs alike always."""
    rng = np.random.default_rng(2)
    high, arm = np.arange(n) % 2 == 1, np.arange(n) % 4 >= 2
    early, late = rng.exponential(np.where(high, 4, 14)), rng.exponential(np.where(high, 40, 6))
    time = np.where(early < 5, early, 5 + late) * np.where(arm, 1.6, 1.0)
    table = pd.DataFrame({"patient": [f"P{place:02d}" for place in range(n)], "slides": 1})
    table[CD20] = np.where(high, 300, 30) * np.exp(rng.normal(0, 0.2, n))
    table["os"], table["os_event"] = np.minimum(time, 40), (time <= 40).astype(float)
    table["arm"], table["ecog"] = np.where(arm, "b", "a"), rng.integers(0, 2, n).astype(str)
    return table


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return associate(crossing(), SETTINGS)


def test_each_cox_term_has_the_p_of_its_own_check(found):
    patients = crossing()
    x = np.log1p(patients[CD20])
    alone = statistics.cox_model(patients["os"], patients["os_event"], (x / x.std(ddof=1)).to_frame("marker"))
    row = found[found["family"] == "Continuous marker: Cox"].iloc[0]
    assert row["p_proportional"] == pytest.approx(alone.proportional[0].p, rel=1e-12) and row["p_proportional"] < 0.001
    assert f"hazards may not be proportional (p = {row['p_proportional']:.2g})" in row["note"]
    beside = pd.DataFrame({"b": patients["arm"] == "b", "ecog": patients["ecog"] == "1"}).astype(float)
    both = statistics.cox_model(patients["os"], patients["os_event"], beside).proportional
    rows = found[found["family"].str.startswith("Survival by arm: Cox with covariates")]
    assert rows["p_proportional"].tolist() == pytest.approx([both[0].p, both[1].p], rel=1e-12)
    assert not rows["note"].str.contains("proportional").any()


def test_what_is_no_cox_term_or_was_not_estimated_has_no_check(found):
    assert set(found.loc[found["p_proportional"].notna(), "analysis"]) == {"cox"}
    patients = crossing().assign(**{CD20: 5.0})
    rows = associate(patients, SETTINGS)
    constant = rows[rows["split"] == "continuous"]
    assert len(constant) == 2 and constant["p_proportional"].isna().all()
    assert not constant["note"].str.contains("proportional").any()


@pytest.fixture(scope="module")
def claimed() -> dict[str, pd.DataFrame]:
    """The drawn study, in which the claimed ratio of CD20 fails the check."""
    tables = drawn_tables()
    rows = tables["statistics"].copy()
    lead = (rows["family"] == "Continuous marker: Cox") & (rows["endpoint"] == "PFS")
    lead &= (rows["population"] == "CD20") & (rows["tissue_class"] == "tumour")
    assert (rows.loc[lead, "p_adjusted"] < 0.05).any()
    rows.loc[lead, "p_proportional"] = 0.0123
    return tables | {"statistics": rows}


def plain(markup) -> str:
    return markup.striptags().replace("\u00a0", " ")


def test_a_claim_whose_hazards_are_not_proportional_says_so(claimed):
    numbers = Numbers(claimed)
    told = [plain(finding.headline) for finding in findings(numbers)]
    assert "events (hazards may not be proportional, p = 0.012)." in told[0]
    said = [plain(line) for line in doubts(numbers)]
    assert any(
        line.startswith("PFS: hazards may not be proportional for CD20 density in tumour") and "look at the curves"
        in line for line in said
    )  # fmt: skip
    unclaimed = claimed["statistics"].assign(p_adjusted=0.5)
    assert not [line for line in doubts(Numbers(claimed | {"statistics": unclaimed})) if "proportional" in line]


def test_the_check_stands_in_the_tables_the_forest_and_the_checklist(claimed, tmp_path):
    page = written(tmp_path, claimed)
    (line,) = np.flatnonzero(claimed["statistics"]["p_proportional"] == 0.0123)[:1]
    assert f'data-source="statistics.csv:{line + 2}/p_proportional">0.012</span>' in page
    assert "p, proportional" in Page(page).text["every-test"]
    drawn: dict = {}
    keys = forests(Numbers(claimed), drawn)
    axes = drawn[keys[0]].axes[0]
    assert [text.get_text() for text in axes.texts if "†" in text.get_text()]
    assert remark_18(claimed).startswith("Proportional hazards of each Cox term")
    earlier = claimed | {"statistics": claimed["statistics"].drop(columns="p_proportional")}  # of an earlier version
    assert "roportional" not in remark_18(earlier)
    assert "p, proportional" not in Page(written(tmp_path / "old", earlier)).text["every-test"]


def remark_18(tables: dict[str, pd.DataFrame]) -> str:
    return next(one.told for one in checklists(Numbers(tables), drawn_study(), {})[0].items if one.number == "18")
