"""What the report says of choices, patients left out and the draw, on tables written by hand."""

import re

import numpy as np
import pytest
from drawn_report import drawn_tables
from drawn_robustness import QUESTION, drawn_robustness
from report_page import Page, few_tests, written

from mihc.plots.curves import Point, choice_curve, left_out_curve, signed_strength
from mihc.reports.claims import findings
from mihc.reports.numbers import Numbers
from mihc.reports.robustness import MOST_POINTS, robustness, sureness


@pytest.fixture(scope="module")
def tables():
    return drawn_tables() | drawn_robustness()


def lead(tables):
    return next(one for one in findings(Numbers(tables)) if one.question == tuple(QUESTION.values()))


def words(markup):
    return markup.striptags().replace("\u00a0", " ")


def test_a_finding_says_how_sure_it_is_and_its_chapter_the_verdict(tables):
    told = (
        "of 40 analyses, this one and other plausible ones, 90 % point the same way and 25 % have p below 0.05; "
        "leaving out each patient in turn, the largest p is 0.079 (without P023); "
        "bootstrap 95 % interval of the hazard ratio 0.21 to 0.83."
    )
    assert words(sureness(Numbers(tables), lead(tables))) == told
    steady = tables["robustness_summary"].assign(verdict="steady", why="")
    assert words(sureness(Numbers(tables | {"robustness_summary": steady}), lead(tables))) == f"steady: {told}"
    chapter = robustness(Numbers(tables), list(lead(tables).rows))
    assert words(chapter.holds[0].said) == f"Fragile (without patient P023 p is 0.079): {told}"


def test_what_was_asked_in_one_way_only_says_nothing_of_other_choices(tables):
    alone = tables["robustness_summary"].assign(analyses=1)
    told = words(sureness(Numbers(tables | {"robustness_summary": alone}), lead(tables)))
    assert told.startswith("leaving out each patient in turn") and "analyses" not in told
    single = robustness(Numbers(tables | {"robustness": tables["robustness"].iloc[:1]}), list(lead(tables).rows))
    assert len(single.holds[0].pictures) == 1  # only that of the patients left out


def test_a_finding_of_which_nobody_looked_says_nothing():
    tables = drawn_tables()
    assert sureness(Numbers(tables), lead(tables)) == ""
    assert not robustness(Numbers(tables), list(lead(tables).rows)).any


def test_every_analysis_is_a_dot_and_the_reported_one_a_ring(tables):
    chapter = robustness(Numbers(tables), list(lead(tables).rows))
    choices, left_out = chapter.holds[0].pictures
    assert choices.count("<title>HR") == 40 and choices.count('r="6"') == 1
    assert left_out.count("<title>without P") == 24
    assert chapter.holds[0].title == "CD20 in tumour and PFS"


def test_a_choice_that_all_share_has_no_row():
    points = [Point(0.01, 1, "a", (("split", "median"), ("regions", "both"))), Point(0.2, -1, "b", (("split", "no"),))]
    svg = choice_curve(points, title="")
    assert "split: median" in svg and "split: no" in svg and "regions" not in svg


@pytest.mark.parametrize(("p", "direction", "strength"), [(0.05, 1, 1.30103), (0.05, -1, -1.30103), (1.0, 1, 0.0),
                                                        (0.01, 0, 2.0), (0.0, 1, 6.0)])  # fmt: skip
def test_strength_is_minus_log_p_with_its_direction(p, direction, strength):
    assert signed_strength(p, direction) == pytest.approx(strength, abs=1e-5)


def test_the_weakest_stands_first_and_what_is_not_below_5_percent_is_hollow():
    svg = left_out_curve([Point(0.001, 1, "strong"), Point(0.2, 1, "weak")], title="")
    assert re.findall("<title>(.*?)</title>", svg) == ["weak", "strong"]
    assert re.findall('fill="(#[0-9a-f]{6})" stroke', svg)[0] == "#ffffff"


def test_of_very_many_analyses_some_are_drawn_and_the_reported_one_always(tables):
    many = tables["robustness"].sample(3000, replace=True, random_state=1).reset_index(drop=True)
    many["as_reported"] = np.arange(3000) == 777
    many.loc[777, ["split", "measure"]] = ["continuous", "density_per_mm2"]
    chapter = robustness(Numbers(tables | {"robustness": many}), list(lead(tables).rows))
    drawn = chapter.holds[0].pictures[0]
    assert drawn.count("<title>HR") <= MOST_POINTS + 1 and drawn.count('r="6"') == 1


def test_NP46_the_numbers_of_robustness_are_their_table_cells(tables, tmp_path):
    page = Page(written(tmp_path, few_tests(tables)))
    tables = few_tests(tables)
    sources = {source.split(".csv")[0] for _value, source, _shown in page.numbers}
    assert {"robustness_summary", "splits", "families", "dropout"} <= sources
    for value, source, _shown in page.numbers:
        table, line, column = re.fullmatch(r"(\w+)\.csv:(\d+)/(.+)", source).groups()
        assert float(value) == float(tables[table][column].iloc[int(line) - 2])
