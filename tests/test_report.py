import base64
import re
from dataclasses import replace
from hashlib import sha256
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_report import (
    drawn_picture,
    drawn_settings,
    drawn_study,
    drawn_tables,
)
from hostile_report import HOSTILE, marked
from report_page import Page, few_tests, written

from mihc.plots.overlays import MOST_POINTS, slide_layers
from mihc.report import write_report
from mihc.reports.associations import forests
from mihc.reports.claims import findings, nothing_found, say
from mihc.reports.claims import tests as asked
from mihc.reports.doubts import doubts, suspects
from mihc.reports.explorer import explorer
from mihc.reports.groups import PatientGroups
from mihc.reports.numbers import Numbers, rounded
from mihc.reports.slide_pages import most_points, point_colours, review_command, slide_pages, thumbnail_px


@pytest.fixture(scope="module")
def tables():
    return drawn_tables()


@pytest.fixture(scope="module")
def report(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    pictures = [drawn_picture(slide, k, side=60, um_per_px=20.0) for k, slide in enumerate(["S01", "S02", "S09"])]
    study = replace(drawn_study(), folder=Path("/data/KAREN_SMITH_1951"))
    html = written(folder, tables, study=study, pictures=pictures)
    return folder, html, Page(html)


def without_effect(tables):
    statistics = tables["statistics"].copy()
    statistics["p_adjusted"] = statistics["p_adjusted"].where(statistics["p_adjusted"].isna(), 0.4)
    return tables | {"statistics": statistics}


def test_NP46_every_number_is_its_table_cell(report, tables):
    _folder, _html, page = report
    assert len(page.numbers) > 2000
    for value, source, shown in page.numbers:
        table, line, column = re.fullmatch(r"(\w+)\.csv:(\d+)/(.+)", source).groups()
        cell = tables[table][column].iloc[int(line) - 2]
        assert float(value) == float(cell)
        form = {"= ": "p", "< ": "p"}.get(shown[:2].replace("\u00a0", " "))
        assert form is None or rounded(float(cell), "p") == shown


def test_the_planted_association_is_claimed_first_with_its_numbers(tables):
    found = findings(Numbers(tables))
    row = tables["statistics"].loc[found[0].rows[0]]
    assert found[0].question == ("PFS", "CD20", "tumour")
    assert (row["analysis"], row["split"]) == ("cox", "continuous")
    text = re.sub("<[^>]*>", "", found[0].headline).replace("\u00a0", " ")
    assert text == (
        f"Higher CD20 density in tumour went with longer PFS: hazard ratio {row['estimate']:.2f} per SD "
        f"(95 % CI {rounded(row['ci_low'], 'ratio')} to {rounded(row['ci_high'], 'ratio')}), "
        f"p {rounded(row['p'], 'p')}, adjusted p {rounded(row['p_adjusted'], 'p')}; "
        f"{row['n']} patients, {row['n_events']} events."
    ).replace("\u00a0", " ").replace("&lt;", "<").replace("<", "&lt;")
    assert row["p_adjusted"] < 0.05


def test_nothing_is_claimed_where_nothing_stands(tables, tmp_path):
    few = few_tests(without_effect(tables))
    rows = few["statistics"]
    separated = rows.index[(rows["analysis"] == "cox") & rows["p"].notna()][0]
    rows.loc[separated, "estimate"] = 1e-230  # a test too, though nothing could be claimed of it
    page = Page(written(tmp_path, few))
    number = len(asked(rows))
    assert f"No association was found after adjustment: {number} tests in" in page.text["answer"]
    for word in ("went with", "was higher", "was lower", "differed", "frequent"):
        assert word not in page.text["answer"]


@pytest.mark.parametrize("p_adjusted", [0.05, 0.9, np.nan])
def test_a_raw_p_alone_claims_nothing(tables, p_adjusted):
    statistics = tables["statistics"].assign(p=1e-6, p_adjusted=p_adjusted)
    assert findings(Numbers(tables | {"statistics": statistics})) == []


def test_a_covariate_is_never_claimed(tables):
    statistics = tables["statistics"].copy()
    covariate = statistics["family"].str.endswith("the covariates")
    statistics.loc[~covariate, "p_adjusted"], statistics.loc[covariate, "p_adjusted"] = 0.9, 1e-6
    assert covariate.any()
    assert findings(Numbers(tables | {"statistics": statistics})) == []


@pytest.mark.parametrize("ratio", [2.1e-147, 5e4])
def test_a_ratio_that_runs_away_is_fragile_and_no_claim(tables, ratio):
    statistics = tables["statistics"].assign(p_adjusted=0.9)
    row = statistics.index[statistics["family"] == "Continuous marker: Cox with covariates"][0]
    statistics.loc[row, ["estimate", "p_adjusted"]] = [ratio, 1e-9]
    numbers = Numbers(tables | {"statistics": statistics})
    assert findings(numbers) == []
    assert "0.90" in nothing_found(numbers)
    assert "1 Cox coefficient infinite or not to be estimated" in " ".join(doubts(numbers))


def test_a_claim_from_few_events_says_so(tables):
    statistics = tables["statistics"].head(3).assign(note="cut at 3; only 7 events for 2 terms")
    assert "(only 7 events for 2 terms)" in say(Numbers({"statistics": statistics}), 0)


def test_what_comes_from_a_data_driven_split_is_exploratory(tables):
    statistics = tables["statistics"].assign(p_adjusted=0.9)
    row = statistics.index[(statistics["split"] == "outcome:slope_change") & (statistics["population"] == "CD3")][0]
    statistics.loc[row, "p_adjusted"] = 0.01
    found = findings(Numbers(tables | {"statistics": statistics}))
    assert [(finding.exploratory, finding.rows) for finding in found] == [(True, (row,))]


def test_a_forest_shows_what_could_be_estimated_and_counts_the_rest(tables):
    statistics, drawn = tables["statistics"].copy(), {}
    alone = statistics["family"] == "Continuous marker: Cox"
    lost = statistics.index[alone & (statistics["endpoint"] == "PFS")][:2]
    statistics.loc[lost, ["estimate", "ci_low", "ci_high", "p", "p_adjusted"]] = np.nan
    keys = forests(Numbers({"statistics": statistics}), drawn)
    said = [text.get_text() for text in drawn["forest_PFS"].axes[0].texts]
    assert "forest_PFS" in keys and "2 more could not be estimated" in said
    assert not [text for text in said if "not estimable" in text]
    assert len(drawn["forest_PFS"].axes[0].get_yticks()) == (alone & (statistics["endpoint"] == "PFS")).sum() - 2 + 1


def test_the_weighted_auc_can_be_chosen_beside_its_landmark(tables):
    numbers = Numbers(tables)
    data = explorer(numbers, PatientGroups(numbers["patients"], drawn_settings()), []).data
    named = [(data["questions"][place][1], name) for _line, _column, place, name in data["tests"]]
    words = ("landmark at 12", "area under the curve, weighted for censoring (event by then vs followed beyond)")
    assert words in named and ("landmark at 12", "Wilcoxon rank-sum test (high vs low)") in named


COX, RANK_SUM = {"analysis": "cox", "estimate": 0.5}, {"analysis": "rank_sum", "estimate": 3.0}
ORR, TP53 = {"split": "response", "endpoint": "ORR"}, {"population": "", "split": "group:TP53", "term": "1 vs 0"}
DENSITY = "CD20 density in tumour"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (COX | {"estimate": 2.0}, f"Higher {DENSITY} went with shorter PFS"),
        (
            COX | {"family": "Continuous marker: Cox with covariates"},
            f"With the covariates in the model, higher {DENSITY} went with longer PFS",
        ),
        (
            RANK_SUM | {"split": "outcome:landmark:12", "term": "high vs low"},
            f"{DENSITY} was higher in patients with PFS beyond 12 months than in patients with the event by 12 months",
        ),
        (
            RANK_SUM | ORR | {"estimate": -3.0, "term": "responder vs non-responder"},
            f"{DENSITY} was lower in responders (ORR) than in non-responders",
        ),
        ({"analysis": "log_rank", "estimate": np.nan, "split": "marker:median"}, f"PFS differed by {DENSITY} (median)"),
        (
            {"analysis": "fisher", "estimate": 4.0} | TP53 | {"endpoint": "ORR"},
            "ORR was more frequent in TP53 1 than in 0",
        ),
        (COX | TP53, "TP53 1 against 0 went with longer PFS"),
        (
            {"analysis": "kruskal", "estimate": np.nan, "endpoint": "", "split": "group:stage"},
            f"{DENSITY} differed by stage",
        ),
    ],
)
def test_the_direction_is_said_in_words(tables, changes, sentence):
    statistics = tables["statistics"].head(1).copy()
    for name, value in changes.items():
        statistics[name] = value
    statistics["population"] = changes.get("population", "CD20")
    statistics["tissue_class"], statistics["measure"] = "tumour", "density_per_mm2"
    statistics["endpoint"] = changes.get("endpoint", "PFS")
    statistics["split"], statistics["p_adjusted"] = changes.get("split", "continuous"), 0.01
    said = say(Numbers({"statistics": statistics}, {"PFS": "months"}), 0).striptags().replace("\u00a0", " ")
    assert said.startswith(sentence + ":")


def test_the_smallest_adjusted_p_is_told_where_nothing_stands(tables):
    quiet = without_effect(tables)
    quiet["statistics"].loc[quiet["statistics"]["p_adjusted"].first_valid_index(), "p_adjusted"] = 0.21
    assert "0.21" in nothing_found(Numbers(quiet))


def test_fragile_numbers_and_slides_are_named(report):
    text = report[2].text["check"]
    for said in (
        "Slide S07 (patient P007) failed",
        "plane 3 is truncated",
        "CD3: no threshold could be told on 1 slide",
        "14 %",
    ):
        assert said in text
    assert "mihc review STUDY --slide S06 --population CD3" in text


def test_the_worst_slides_come_first(tables):
    assert [suspect.slide for suspect in suspects(Numbers(tables))] == ["S07", "S03", "S06", "S09", "S08", "S20"]


def test_few_events_and_infinite_coefficients_are_named(tables):
    statistics = tables["statistics"].copy()
    cox = statistics.index[statistics["analysis"] == "cox"][0]
    statistics.loc[cox, ["n_events", "note"]] = [4, "coefficient is infinite (+): events are perfectly separated"]
    said = " ".join(doubts(Numbers({"statistics": statistics})))
    assert "as few as" in said and "infinite" in said


def test_a_study_without_doubts_has_none():
    assert doubts(Numbers({})) == []
    assert suspects(Numbers({})) == []


def test_X7_hostile_strings_in_every_field_make_no_element(tmp_path):
    benign, hostile = (
        Page(written(tmp_path / "a", **marked("-benign"))),
        Page(written(tmp_path / "b", **marked(HOSTILE))),
    )
    assert hostile.skeleton == benign.skeleton
    assert "<script>alert(1)</script>" in hostile.text["answer"]  # it is there, as text
    assert "{{7*7}}" in hostile.text["answer"]
    for name in (path.name for path in (tmp_path / "b" / "figures").iterdir()):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}\.(svg|png)", name)


def test_X7_nothing_is_fetched(report):
    _folder, html, page = report
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    ours = [text for kind, text in re.findall("<script([^>]*)>(.*?)</script>", html, re.DOTALL) if not kind]
    allowed = " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in ours)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    policy = re.search('Content-Security-Policy" content="([^"]*)"', html)[1]
    assert unescape(policy) == f"default-src 'none'; script-src {allowed}; {rest}"
    assert [kind for tag, kind in page.skeleton if tag == "script"] == [("id", "type"), (), ()]
    assert not [tag for tag, _names in page.skeleton if tag in ("link", "iframe", "object", "embed", "form", "base")]
    assert not [name for _tag, names in page.skeleton for name in names if name.startswith("on")]


def test_X7_embedded_figures_hold_no_script_and_no_link(report):
    embedded = [link.partition(",")[2] for link in report[2].links if link.startswith("data:image/svg+xml")]
    assert embedded
    for svg in (base64.b64decode(code) for code in embedded):
        assert b"<script" not in svg
        assert not re.search(rb'href="(?!#)', svg)


def test_the_report_has_its_chapters_in_order(report):
    html = report[1]
    chapters = [
        "answer",
        "check",
        "outcomes",
        "associations",
        "tests",
        "slides",
        "slide-1",
        "tables",
        "methods",
        "provenance",
    ]
    places = [html.index(f'id="{name}"') for name in chapters]
    assert places == sorted(places)
    assert all(f'href="#{name}"' in html for name in chapters)
    assert ">Signature<" not in html  # a clinical column may have that name


def test_every_family_states_how_many_tests_it_has(report, tables):
    statistics = tables["statistics"]
    for family, rows in statistics[statistics["p_adjusted"].notna()].groupby("family"):
        assert f"<summary>{family}: {len(rows)} test" in report[1]


def test_the_figures_lie_beside_the_report_as_svg_and_png(report):
    folder = report[0]
    names = {path.stem: set() for path in (folder / "figures").iterdir()}
    for path in (folder / "figures").iterdir():
        names[path.stem].add(path.suffix)
        assert len(f"figures/{path.name}") <= 120
    assert set(map(frozenset, names.values())) == {frozenset({".svg", ".png"})}
    assert {"km_PFS", "km_OS", "area_ledger", "slide_S01", "thresholds_S01", "forest_PFS"} <= set(names)


def test_a_failed_slide_keeps_its_place_and_says_why(report):
    assert "plane 3 is truncated after 1024 rows" in report[2].text["slide-7"]
    assert "There is no picture of this slide." in report[2].text["slide-7"]


def test_P3_no_path_of_this_computer_is_in_the_report(report):
    folder, html, _page = report
    assert "KAREN" not in html and str(folder) not in html


def test_the_same_study_is_the_same_report(tables, tmp_path):
    pictures = [drawn_picture("S01", side=40)]
    once = write_report(tmp_path / "a", study=drawn_study(), tables=few_tests(tables), run={}, pictures=pictures)
    again = write_report(tmp_path / "b", study=drawn_study(), tables=few_tests(tables), run={}, pictures=pictures)
    assert [path.name for path in once] == [path.name for path in again]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]


@pytest.mark.parametrize("outcomes", [{}, drawn_settings().outcomes])
def test_a_study_without_patients_has_a_report(tmp_path, outcomes):
    study = replace(drawn_study(), settings=replace(drawn_settings(), outcomes=outcomes))
    slides = pd.DataFrame({"slide": ["S1"], "patient": [""], "status": ["ok"]})
    page = Page(written(tmp_path, {"slides": slides}, study=study))
    assert "No association could be tested." in page.text["answer"]
    assert page.text["slide-1"]


def test_controls_are_counted_apart(tmp_path):
    slides = pd.DataFrame({"slide": ["S1", "C1"], "patient": ["P1", ""], "status": "ok", "control": ["", "isotype"]})
    assert "2 slides (1 control)" in written(tmp_path, {"slides": slides})


def test_the_command_opens_the_slide_region_and_population(tables):
    pages = slide_pages(Numbers(tables), [], {}, ["CD3"])
    assert pages[0].command == "mihc review STUDY --slide S01 --region tumour --population CD3"
    assert review_command("S1", (), (), ()) == ""
    assert review_command("S1", pages[0].regions, (), ()) == "mihc review STUDY --slide S1 --region tumour"


def test_36_slides_stay_under_15_megabytes():
    noisy = drawn_picture("S01", side=1200)
    pages = slide_pages(Numbers({"slides": pd.DataFrame({"slide": ["S01"]})}), [noisy] * 36, {}, [])
    assert 36 * len(pages[0].picture) < 12e6
    assert thumbnail_px(10) == 900 and 100 * 0.34 * thumbnail_px(100) ** 2 <= 5_000_000


def test_the_dots_of_100_crowded_slides_stay_under_2_megabytes():
    crowded = {name: np.random.default_rng(1).uniform(0, 480, (9000, 2)) for name in "abcdefghi"}
    picture = replace(drawn_picture("S01", side=400, um_per_px=1.2), positives=crowded)
    most = most_points([picture] * 100)
    svg = slide_layers(picture, point_colours(list(crowded), None), most)
    assert 100 < most < 300
    assert 100 * sum(map(len, re.findall('<path class="layer[^>]*>', svg))) < 2e6
    assert most_points([picture]) == MOST_POINTS


def test_a_colour_that_is_none_is_not_used():
    panel = drawn_study().panels[""]
    bad = replace(panel, rows=tuple(replace(row, colour="red;background:url(x)") for row in panel.rows))
    assert set(point_colours(["CD20"], bad).values()) == {"#f0e442"}
    assert point_colours(["CD20"], panel) == {"CD20": "#2EB888"}


def test_a_slide_has_a_layer_for_regions_and_one_per_population():
    picture = drawn_picture("S01", side=40)
    svg = slide_layers(picture, point_colours(list(picture.positives), None))
    assert re.findall(r"layer-(\d)", svg) == ["0", "1", "2", "3", "4"]


def test_the_outline_of_tumour_lies_over_that_of_stroma_and_of_excluded_over_both():
    picture = drawn_picture("S01", side=40)
    svg = slide_layers(picture, point_colours(list(picture.positives), None))
    assert re.findall(r"<title>\w+ \((\w+)\)", svg) == ["stroma", "tumour", "excluded"]


def test_a_report_without_a_claim_shows_a_population_that_has_dots(tables):
    picture = replace(drawn_picture("S01"), positives={"CD20": np.zeros((0, 2)), "CD3": np.ones((5, 2))})
    page = slide_pages(Numbers(tables), [picture], {}, [])[0]
    assert [layer.name for layer in page.layers if layer.on] == ["regions", "CD3"]
    assert page.command.endswith("--population CD3")


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [(1234.5, "number", "1\u202f234"), (0.04567, "number", "0.0457"), (12.34, "number", "12.3"),
     (-3.0, "number", "−3.00"), (0.0, "number", "0"), (12345, "count", "12\u202f345"), (0.4512, "ratio", "0.45"),
     (0.0312, "ratio", "0.031"),
     (np.inf, "ratio", "∞"), (np.nan, "ratio", "–"), (0.0004, "p_cell", "0.0004"), (5.04, "percent", "5.0")],
)  # fmt: skip
def test_numbers_are_rounded_for_the_reader(value, form, shown):
    assert rounded(float(value), form) == shown
