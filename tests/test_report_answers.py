"""The first card of the report: one answer per endpoint, what is the same told once, what was withheld and why."""

from __future__ import annotations

import pytest
from drawn_report import drawn_notes, drawn_regions_table, drawn_slide_tables, drawn_study, drawn_tables
from report_page import Page, written

from mihc.associate import associate
from mihc.reports.answers import answers, words_of
from mihc.reports.claims import findings, silent_endpoints
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
