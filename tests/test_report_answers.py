"""The first card of the report: one answer per endpoint, what is the same told once, what was withheld and why."""

from __future__ import annotations

import pytest
from drawn_report import drawn_notes, drawn_regions_table, drawn_slide_tables, drawn_study, drawn_tables
from report_page import Page, written

from mihc.associate import associate
from mihc.reports.answers import answers, same_words, words_of
from mihc.reports.associations import leading, leading_words
from mihc.reports.claims import claimable, findings, question, say, silent_endpoints
from mihc.reports.groups import PatientGroups
from mihc.reports.numbers import Numbers
from mihc.reports.withheld import missing_values, summed_up, withheld

TWIN = {"population": "B cell", "tissue_class": "tumour"}


@pytest.fixture(scope="module")
def tables():
    return drawn_tables()


@pytest.fixture(scope="module")
def twins(tables):
    """A study in which B cells are CD20's cells, in tumour."""
    patients = tables["patients"].copy()
    for measure in ("density_per_mm2", "positivity_percent"):
        patients[f"B cell|tumour|{measure}"] = patients[f"CD20|tumour|{measure}"]
    return {"patients": patients, "statistics": associate(patients, drawn_study().settings)}


def plain(markup) -> str:
    return markup.striptags().replace("\u00a0", " ")


def test_everything_that_was_asked_has_its_answer_in_the_order_of_study_toml(tables):
    numbers = Numbers(tables)
    told = answers(numbers, drawn_study(), findings(numbers))
    assert [one.name for one in told] == ["PFS", "OS", "ORR", "signature"]
    assert told[0].findings[0].question == ("PFS", "CD20", "tumour")
    claimed = {one.name for one in told if one.findings}
    silent = silent_endpoints(numbers, findings(numbers))
    assert set(silent) == {"PFS", "OS", "ORR", "signature"} - claimed != set()
    for one in told:
        assert all(finding.question[0] == one.name for finding in one.findings)
        if not one.findings:
            assert plain(one.silent).startswith(f"No association with {one.name} was found after adjustment (")


def test_the_page_answers_each_endpoint_under_its_name(tables, tmp_path):
    page = Page(written(tmp_path, tables))
    card = page.text["answer"]
    places = [card.index(f"\n{name}") for name in ("PFS", "OS", "ORR", "signature") if f"\n{name}" in card]
    assert places == sorted(places)
    assert "Higher CD20 density in tumour went with longer PFS" in card
    assert "A hazard ratio says by how much the risk" in card
    assert "Withheld: CD3 of 1 patient (the threshold cannot tell)." in card


def test_where_nothing_is_claimed_that_is_said_once(tables):
    nothing = Numbers(tables | {"statistics": tables["statistics"].assign(p_adjusted=0.9)})
    assert answers(nothing, drawn_study(), findings(nothing)) == []


def test_populations_with_the_same_values_are_one_finding(twins, tables):
    apart = [one.question for one in findings(Numbers(tables)) if one.question[0] == "PFS"]
    numbers = Numbers(twins)
    found = [one for one in findings(numbers) if one.question[0] == "PFS"]
    first = next(one for one in found if one.question == ("PFS", "CD20", "tumour"))
    assert first.also == ("B cell",) and ("PFS", "B cell", "tumour") not in [one.question for one in found]
    assert all(not one.also for one in findings(Numbers(tables))) and ("PFS", "CD20", "tumour") in apart
    other = Numbers(twins | {"patients": tables["patients"]})  # one patient's value differs: two findings
    both = [one.question for one in findings(other) if one.question[0] == "PFS"]
    assert {("PFS", "CD20", "tumour"), ("PFS", "B cell", "tumour")} <= set(both)


def test_an_estimate_is_explained_where_it_is_used(tables):
    numbers = Numbers(tables)
    found = findings(numbers)
    hazard = [one for one in found if numbers["statistics"].at[one.rows[0], "estimate_kind"] == "HR"]
    assert len(words_of(numbers, hazard)) == 1 and "hazard ratio" in words_of(numbers, hazard)[0]
    assert words_of(numbers, []) == []


def test_what_was_withheld_is_one_sentence_per_reason():
    regions = drawn_regions_table(1.0)
    numbers = Numbers({"notes": drawn_notes(regions), **drawn_slide_tables(regions)})
    found = withheld(missing_values(numbers, drawn_study()))
    assert [plain(line) for line in summed_up(found)] == ["Withheld: CD3 of 1 patient (the threshold cannot tell)."]
    assert summed_up([]) == []


OF_CD20 = {"population": "CD20", "tissue_class": "tumour", "measure": "density_per_mm2", "endpoint": "PFS"}
OF_TP53 = {"population": "", "tissue_class": "", "measure": "", "split": "group:TP53", "endpoint": "PFS"}
DENSITY = "CD20 density in tumour"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (OF_TP53 | {"analysis": "cox", "term": "1 vs 0"}, "No association of TP53 (1 against 0) with PFS"),
        (
            OF_TP53 | {"analysis": "cox", "term": "1 vs 0", "family": "Cox with covariates"},
            "With the covariates in the model, no association of TP53 (1 against 0) with PFS",
        ),
        (OF_TP53 | {"analysis": "log_rank", "term": "1 vs 0"}, "No difference in PFS by TP53"),
        (OF_TP53 | {"analysis": "fisher", "endpoint": "ORR", "term": ""}, "No difference in TP53 by ORR"),
        (
            OF_TP53 | {"analysis": "fisher", "endpoint": "ORR", "term": "1 vs 0"},
            "No difference in ORR between TP53 1 and 0",
        ),
        (OF_CD20 | {"analysis": "cox", "split": "continuous"}, f"No association of {DENSITY} with PFS"),
        (
            OF_CD20 | {"analysis": "cox", "split": "marker:median", "term": "high vs low"},
            f"No association of {DENSITY} (median) with PFS",
        ),
        (OF_CD20 | {"analysis": "log_rank", "split": "marker:median"}, f"No difference in PFS by {DENSITY} (median)"),
        (
            OF_CD20 | {"analysis": "rank_sum", "split": "response", "endpoint": "ORR"},
            f"No difference in {DENSITY} between responders (ORR) and non-responders",
        ),
        (
            OF_CD20 | {"analysis": "kruskal", "split": "group:stage", "endpoint": ""},
            f"No difference in {DENSITY} by stage",
        ),
        (
            OF_CD20 | {"analysis": "spearman", "endpoint": "", "split": "group:age"},
            f"No association of {DENSITY} with age",
        ),
    ],
)
@pytest.mark.parametrize("p_adjusted", [0.05, 0.66, float("nan")])
def test_what_does_not_stand_is_told_as_not_found(tables, row, told, p_adjusted):
    statistics = tables["statistics"].head(1).copy()
    terms = {"rank_sum": "responder vs non-responder"}
    given = {"family": "some", "term": terms.get(row["analysis"], ""), "estimate": 0.6, "p_adjusted": p_adjusted}
    for name, value in (given | row).items():
        statistics[name] = value
    assert plain(say(Numbers({"statistics": statistics}), 0)).startswith(f"{told} was found after adjustment: ")


def test_groups_that_the_data_chose_are_called_exploratory_in_the_sentence(tables):
    rows = tables["statistics"]
    chosen = rows[(rows["split"] == "outcome:slope_change") & rows["p"].notna()].head(1).assign(p_adjusted=0.01)
    said = plain(say(Numbers({"statistics": chosen}), 0))
    assert "in patients with long PFS (slope change, exploratory) than in those with short" in said


def test_a_finding_says_how_many_tests_of_its_question_stand(tables, tmp_path):
    found = findings(Numbers(tables))
    rows = claimable(tables["statistics"])
    questions = [question(row) for _index, row in rows.iterrows()]
    assert [one.asked for one in found] == [questions.count(one.question) for one in found]
    first = found[0]
    assert len(first.rows) < first.asked
    page = Page(written(tmp_path, tables))
    said = f"{len(first.rows)} of {first.asked} tests of this question stand after adjustment"
    assert said in page.text["answer"]


def test_a_twin_is_said_to_be_the_same_finding_and_why(twins):
    first = next(one for one in findings(Numbers(twins)) if one.also)
    assert same_words(first, {"B cell": "CD20+"}) == [
        "B cell (CD20+) is counted from the same cells, so it is the same finding."
    ]
    assert same_words(first, {"B cell": "CD20+ CD3-"}) == [
        "B cell (CD20+ CD3-) has the same value as CD20 in every patient, so it is the same finding."
    ]


def shown(tables, found):
    groups = PatientGroups(tables["patients"], drawn_study().settings)
    return leading(Numbers(tables), drawn_study(), groups, {}, found)


def test_the_figures_are_those_of_the_claims_first_and_each_only_once(twins, tables):
    """A study of a few questions: two claims (PFS, OS), one of them with a twin, and questions of which none is."""
    kept = twins["statistics"]
    keep = kept["population"].isin(["CD20", "B cell", "CD3", ""]) & kept["tissue_class"].isin(["tumour", ""])
    small = twins | {"statistics": kept[keep & kept["endpoint"].isin(["PFS", "OS", "ORR"])].reset_index(drop=True)}
    found = findings(Numbers(small))
    pictured = shown(small, found)
    claimed = [one for one in pictured if one.stands]
    assert claimed and [one.stands != "" for one in pictured] == [True] * len(claimed) + [False] * (
        len(pictured) - len(claimed)
    )
    names = [f"{population} in {place} and {endpoint}" for endpoint, population, place in (f.question for f in found)]
    assert sorted(one.title for one in claimed) == sorted(names)
    assert not [one for one in pictured if one.title.startswith("B cell")]  # CD20's values in every patient
    first = claimed[0]
    assert (first.stands, first.standing, first.asked) == (
        "Cox regression per SD", len(found[0].rows), found[0].asked,
    )  # fmt: skip
    rest = len(pictured) - len(claimed)
    assert leading_words(pictured, found) == (
        f"First what is claimed above: {len(claimed)} association{'s' * (len(claimed) != 1)}. "
        f"Then {rest} question{'s' * (rest != 1)} of which nothing is claimed."
    )


def test_where_nothing_is_claimed_the_figures_say_so(tables):
    rows = tables["statistics"].assign(p_adjusted=0.5)
    few = rows[(rows["population"] == "CD3") & (rows["endpoint"] == "ORR")].reset_index(drop=True)
    pictured = shown(tables | {"statistics": few}, [])
    assert [one.stands for one in pictured] == ["", ""]
    assert leading_words(pictured, []) == "Nothing is claimed; shown are 2 questions with the smallest adjusted p."
