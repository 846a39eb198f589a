"""What the report says of doubtful slides: missing values, what to type to see them, and what became of the cells."""

import shlex
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from drawn_report import drawn_settings, drawn_study, drawn_tables
from report_page import Page, few_tests, written

from mihc import store
from mihc.reports.cell_flow import cell_flows, counted_flows, pooled
from mihc.reports.commands import Target, quoted
from mihc.reports.doubts import claimed_markers, doubts, suspects
from mihc.reports.numbers import Numbers
from mihc.reports.patient_slides import patient_slides
from mihc.reports.slide_pages import slide_pages
from mihc.reports.withheld import missing_values, withheld
from mihc.steps import describe, tell
from mihc.studies.patients import study_notes
from mihc.studies.settings import Pdl1
from mihc.study import SlideRow


@pytest.fixture(scope="module")
def tables():
    return drawn_tables()


@pytest.fixture(scope="module")
def html(tables, tmp_path_factory):
    return written(tmp_path_factory.mktemp("results"), few_tests(tables))


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def notes(*rows):
    return pd.DataFrame(rows, columns=["patient", "population", "tissue_class", "measure", "slide", "note"])


def note(population, tissue_class="all", measure="", patient="P006", slide="S06", said="the threshold cannot tell"):
    return (patient, population, tissue_class, measure, slide, f"withheld: {said}")


def lines(tables, *rows, study=None):
    found = missing_values(Numbers(tables | {"notes": notes(*rows)}), study or drawn_study())
    return [(one.slide, one.marker, one.values, one.patients) for one in found]


def test_a_withheld_value_stands_among_the_doubts_and_beside_the_patients(page):
    said = "S06, CD3: withheld for patient P006: CD3, B cell (the threshold cannot tell)"
    assert said in page.text["check"]
    assert page.text["check"].count("mihc review STUDY --slide S06 --population CD3") == 2  # there and among the slides
    for word in ("1 reason", "S06", "CD3", "P006", "CD3, B cell", "withheld: the threshold cannot tell"):
        assert word in page.text["missing"]


def test_one_line_per_slide_and_marker_and_a_phenotype_stands_with_the_marker_that_it_needs(tables):
    # B cell = CD20+ CD3-; on S06 CD3 cannot tell and CD20 can
    rows = [note(population, c) for population in ("CD3", "B cell") for c in ("tumour", "stroma", "all")]
    assert len(rows) == 6
    assert lines(tables, *rows) == [("S06", "CD3", "CD3, B cell", ("P006",))]


def test_two_unclear_markers_of_one_phenotype_are_two_lines(tables):
    thresholds = tables["thresholds"].copy()
    thresholds.loc[(thresholds["slide"] == "S06") & (thresholds["marker"] == "CD20"), "verdict"] = "cannot tell"
    found = lines(tables | {"thresholds": thresholds}, note("B cell"), note("CD20"), note("CD3"))
    told = [(marker, values) for _slide, marker, values, _patients in found]
    whole = " in the whole tissue"
    assert told == [("CD20", f"CD20, B cell{whole}"), ("CD3", f"CD3, B cell{whole}")]


def test_a_value_that_is_missing_in_one_class_or_measure_only_says_so(tables):
    rows = [note("CD3", "stroma", m) for m in ("density_per_mm2", "positivity_percent")]
    assert lines(tables, *rows)[0][2] == "CD3 in stroma"
    densities = [note("CD20", c, "density_per_mm2", said="the area is not known") for c in ("tumour", "stroma")]
    assert lines(tables, *densities)[0][1:3] == ("", "densities of CD20")


def test_patients_of_whom_the_same_is_missing_share_a_line_and_others_do_not(tables):
    unstained = "no slide of the patient is stained for it"
    rows = [(patient, "CD20", "", "", "", unstained) for patient in ("P001", "P002")]
    rows += [("P003", name, "", "", "", unstained) for name in ("CD20", "CD3")]
    assert lines(tables, *rows) == [("", "", "CD20", ("P001", "P002")), ("", "", "CD20, CD3", ("P003",))]
    assert withheld(missing_values(Numbers(tables | {"notes": notes(*rows)}), drawn_study())) == []


def test_a_failed_slide_withholds_every_population_and_has_no_command(tables):
    slides = tables["slides"].assign(failed=tables["slides"]["status"] == "failed")
    rows = study_notes(tables["regions"][tables["regions"]["slide"] != "S07"], slides)
    found = missing_values(Numbers(tables | {"notes": rows}), drawn_study())
    failed = next(one for one in found if one.slide == "S07")
    assert (failed.values, failed.patients, failed.command) == ("every population", ("P007",), "")
    assert failed.reason == "the slide failed: plane 3 is truncated after 1024 rows"


def test_a_slide_that_is_left_out_is_said_too(tables):
    regions = tables["regions"]
    rows = study_notes(regions, tables["slides"][["slide", "patient"]], unclear="leave_out")
    line = withheld(missing_values(Numbers(tables | {"notes": rows}), drawn_study()))[0].line
    assert line == "pooled without this slide for patient P006: CD3, B cell (the threshold cannot tell)"


def test_what_lacks_for_tps_and_cps_is_told_by_their_names(tables):
    study = replace(drawn_study(), settings=replace(drawn_settings(), pdl1=Pdl1("CD3", "PanCK+", "CD20+")))
    rows = [note("PD-L1 scores|positive tumour cells", "tumour"), note("PD-L1 scores|tumour cells", "tumour")]
    assert lines(tables, rows[0], study=study) == [("S06", "CD3", "TPS and CPS", ("P006",))]
    assert "|" not in str(missing_values(Numbers(tables | {"notes": notes(*rows)}), study))


def commands(tables):
    return {suspect.slide: suspect.commands for suspect in suspects(Numbers(tables))}


def test_each_command_opens_what_is_in_doubt(tables):
    found = commands(tables)
    assert found["S06"] == ("mihc review STUDY --slide S06 --population CD3",)  # a threshold
    assert found["S09"] == ("mihc review STUDY --slide S09 --region stroma",)  # glass in a region
    assert found["S03"] == ("mihc review STUDY --slide S03",)  # the focus of the whole slide
    assert found["S07"] == ()  # it failed: there is nothing to open


def test_the_page_of_a_slide_has_the_same_commands(tables, html):
    numbers = Numbers(tables)
    pages = {one.slide: one for one in slide_pages(numbers, [], {}, ["CD20"], suspected=suspects(numbers))}
    assert pages["S06"].doubt.commands == commands(tables)["S06"]
    assert f"In doubt: no threshold for CD3.<br><code>{pages['S06'].doubt.commands[0]}</code>" in html
    assert "Open it: <code>mihc review STUDY --slide S01 --region tumour --population CD20</code>" in html
    assert "Open it: <code>mihc review STUDY --slide S06 " not in html
    assert pages["S07"].command == ""


def test_the_page_of_a_slide_gives_its_reasons_in_the_order_of_the_first_card(tables, tmp_path):
    """Two markers of one slide cannot be told; the one that carries the claim comes first in both places."""
    rows = tables["thresholds"].copy()
    rows.loc[(rows["slide"] == "S06") & (rows["marker"] == "CD20"), "verdict"] = "cannot tell"
    both = rows[(rows["slide"] == "S06") & rows["marker"].isin(["CD3", "CD20"])].index
    rows.loc[both] = rows.loc[both[::-1]].to_numpy()  # CD3 stands first in the file
    html = written(tmp_path, few_tests(tables | {"thresholds": rows}))
    reasons = "no threshold for CD20; no threshold for CD3"
    assert f"S06: {reasons}" in Page(html).text["check"] and f"In doubt: {reasons}.<br>" in html


def test_every_patient_leads_to_its_slides(tables, tmp_path):
    slides = tables["slides"].copy()
    slides["control"] = ""
    more = pd.DataFrame({"slide": ["S25", "S26", "C1"], "patient": ["P001", "P025", ""], "panel": "", "status": "ok",
                         "message": "", "control": ["", "", "isotype"]})  # fmt: skip
    numbers = Numbers(tables | {"slides": pd.concat([slides, more], ignore_index=True)})
    found = {one.patient: one.slides for one in patient_slides(numbers)}
    assert found["P001"] == (("S01", ""), ("S25", "")) and found["P007"] == (("S07", "failed"),)
    assert list(found)[-1] == "P025" and len(found) == 25  # a control is nobody's, and a slide without values is told
    html = written(tmp_path, few_tests(tables))
    assert '<tr><td>P007</td><td class="n">1</td><td><a href="#slide-7">S07</a> (failed)</td></tr>' in html


def test_a_population_that_a_slide_cannot_tell_is_not_opened_as_an_example(tables):
    page = next(one for one in slide_pages(Numbers(tables), [], {}, ["CD3"]) if one.slide == "S06")
    assert page.command.endswith("--population CD20")


@pytest.mark.parametrize(
    ("check", "explanation", "target"),
    [
        ("saturation: CD20", "", Target("S03", population="CD20")),
        ("focus: DAPI", "", Target("S03")),
        ("excluded tissue", "", Target("S03", region="fold")),
        ("remark", 'S03: region "stroma" (stroma): 14 % of its area shows no tissue', Target("S03", region="stroma")),
    ],
)
def test_a_quality_check_opens_the_marker_or_region_that_it_names(tables, check, explanation, target):
    qc = tables["qc"].copy()
    qc.loc[(qc["slide"] == "S03") & (qc["verdict"] == "fail"), ["check", "explanation"]] = [check, explanation]
    assert commands(tables | {"qc": qc})["S03"] == (target.command,)


@pytest.mark.parametrize(
    ("word", "typed"),
    [("CD8", "CD8"), ("PD-L1", "PD-L1"), ("B cell", '"B cell"'), ("O'Hara", '"O\'Hara"'), ("-x", '"-x"'), ("", "''")],
)
def test_a_word_is_quoted_where_it_must_be(word, typed):
    assert quoted(word) == typed


@pytest.mark.parametrize(
    "word", ['a"$b', "$(rm x)", "`x`", "a\\b", "100 %!", "a;b", "it's $5", "*", "~", "ß µ", "a|b", "#1"]
)
def test_a_posix_shell_reads_the_word_back(word):
    assert shlex.split(Target("S1", region=word, population=word).command)[-3:] == [word, "--population", word]


def ledger(*rows):
    return pd.DataFrame(rows, columns=["slide", "category", "region", "cells"]).assign(area_mm2=1.0)


S1 = [("S1", "scanned", "", 100), ("S1", "glass", "", 3), ("S1", "tissue", "", 97), ("S1", "tumour", "T", 50),
      ("S1", "stroma", "S", 20), ("S1", "excluded", "fold", 10), ("S1", "excluded", "Necrosis", 15),
      ("S1", "unannotated", "", 2), ("S1", "analysed", "", 70)]  # fmt: skip
S2 = [("S2", "scanned", "", 9), ("S2", "excluded", "Fold", 4), ("S2", "analysed", "", 5)]


def test_segmented_is_excluded_and_analysed_by_hand():
    numbers = Numbers({"slides": pd.DataFrame({"slide": ["S1"]}), "area_ledger": ledger(*S1)})
    flow = cell_flows(numbers)["S1"]
    assert (flow.segmented.count, flow.excluded, flow.analysed.count, flow.sums) == (100, 30, 70, True)
    assert flow.told(numbers).striptags() == (
        "100 segmented → 30 excluded (Necrosis 15, fold 10, outside on glass 3, outside the annotations 2) "
        "→ 70 analysed"
    )
    assert flow.told(numbers).count("data-source") == 6  # every number but the sum is a cell of area_ledger.csv


def test_slides_are_pooled_without_controls_and_reasons_without_case():
    slides = pd.DataFrame({"slide": ["S1", "S2", "C"], "control": ["", "", "isotype"]})
    control = [("C", category, "", 1000) for category in ("scanned", "analysed")]
    numbers = Numbers({"slides": slides, "area_ledger": ledger(*S1, *S2, *control)})
    whole = pooled(counted_flows(numbers, cell_flows(numbers)))
    assert (whole.segmented.count, whole.excluded, whole.analysed.count, whole.sums) == (109, 34, 75, True)
    assert whole.reasons[1][0] == "fold" and whole.reasons[1][1].count == 14


def test_a_slide_of_a_table_of_cells_sums_too():
    rows = [("S1", "tumour", "T", 5), ("S1", "outside", "", 2), ("S1", "excluded", "Necrosis", 1)]
    given = pd.DataFrame(rows, columns=["slide", "tissue_class", "region", "cells"])
    numbers = Numbers({"slides": pd.DataFrame({"slide": ["S1"]}), "given_cells": given})
    flow = cell_flows(numbers)["S1"]
    assert flow.told(numbers) == "8 segmented → 3 excluded (outside 2, Necrosis 1) → 5 analysed"
    assert flow.sums


def test_cells_that_do_not_sum_are_a_doubt():
    wrong = [row if row[1] != "analysed" else ("S1", "analysed", "", 71) for row in S1]
    numbers = Numbers({"slides": pd.DataFrame({"slide": ["S1"]}), "area_ledger": ledger(*wrong)})
    assert "Slide S1: its cells do not sum" in " ".join(doubts(numbers))


def test_the_report_shows_the_cells_of_every_slide_and_together(page, tables):
    said = "16\u202f012 segmented → 8\u202f012 excluded"
    assert (
        f"Cells: {said} (fold 4\u202f000, outside the annotations 4\u202f000, outside on glass 12)"
        in (page.text["slide-1"])
    )
    together = page.text["cells"]
    slides = len(tables["slides"])
    shown = [f"{n:,}".replace(",", "\u202f") for n in (16012 * slides, 8012 * slides, 8000 * slides)]
    assert f"{shown[0]} segmented → {shown[1]} excluded" in together and f"{shown[2]} analysed" in together
    assert together.count("16\u202f012") == slides


def test_the_report_is_handed_the_notes_and_the_cells_of_tables(tables, tmp_path, monkeypatch):
    for name in ("regions", "thresholds", "area_ledger", "qc", "patients", "statistics"):
        store.write_csv(tmp_path / f"{name}.csv", tables[name])
    for name in (*describe.TABLES, *tell.STATISTICAL):
        store.write_csv(tmp_path / f"{name}.csv", pd.DataFrame())
    store.write_csv(tmp_path / "bands.csv", tables["regions"].assign(from_um=0.0, to_um=25.0))
    store.write_csv(tmp_path / ".stages/study/notes.csv", notes(note("CD3", patient="007")))
    store.write_csv(tmp_path / ".stages/study/batches.csv", pd.DataFrame({"panel": [], "batch": [], "remark": []}))
    cells = pd.DataFrame({"tissue_class": ["tumour", "tumour", "outside"], "region": ["T", "T", None]})
    store.write_cells(tmp_path / "cells/S1.parquet", cells)
    counted = pd.DataFrame({"marker": ["CD3"], "from_counts": [1.0], "to_counts": [9.0], "cells": [2]})
    store.write_csv(tmp_path / ".stages/values/S1.histograms.csv", counted)
    study = replace(drawn_study(), slides=(SlideRow("S1", None, "007", cells=tmp_path / "S1.csv"),))
    job = SimpleNamespace(study=study, store=SimpleNamespace(path=lambda name: tmp_path / name))
    handed = {}
    monkeypatch.setattr(
        tell, "write_report", lambda folder, *, tables, histograms, **_others: handed.update(tables, shapes=histograms)
    )
    tell._tell(job, pd.DataFrame({"slide": ["S1"], "failed": [False]}), {}, job.store)
    assert handed["notes"]["patient"].tolist() == ["007"]
    assert handed["given_cells"].to_numpy().tolist() == [["S1", "tumour", "T", 2], ["S1", "outside", "", 1]]
    assert handed["shapes"]["S1"]["CD3"].edges.tolist() == [1.0, 9.0]


def qc(*rows):
    return pd.DataFrame(rows, columns=["slide", "check", "value", "unit", "verdict", "explanation"])


def test_a_remark_is_told_with_its_slide_in_its_own_words_and_controls_make_nothing_fragile():
    slides = pd.DataFrame({"slide": ["S1", "S2", "C"], "control": ["", "", "isotype"]})
    found = [
        ("S1", "remark", None, "", "warn", "S1: no annotation covers it"),
        ("S2", "focus", 0.4, "share", "warn", "share of tissue tiles in focus"),
        ("C", "remark", None, "", "warn", "C: no tumour was found"),
        ("C", "focus", 0.1, "share", "fail", "share of tissue tiles in focus"),
    ]
    told = [line.striptags() for line in doubts(Numbers({"slides": slides, "qc": qc(*found)}))]
    assert told == ["1 slide had warnings in quality checks: focus (S2)", "S1: no annotation covers it"]


def test_a_control_that_stands_apart_makes_nothing_fragile():
    slides = pd.DataFrame({"slide": ["S1", "C"], "control": ["", "isotype"]})
    rows = pd.DataFrame({"slide": ["S1", "C"], "marker": "CD3", "verdict": "separable",
                         "remark": "its own threshold, 5, is far from its batch's 9"})  # fmt: skip
    told = [line.striptags() for line in doubts(Numbers({"slides": slides, "thresholds": rows}))]
    assert len(told) == 1 and told[0].startswith("CD3: on 1 slide ") and told[0].endswith(": S1")


def test_a_slide_whose_doubt_is_about_a_claimed_marker_comes_before_a_withheld_value():
    thresholds = pd.DataFrame(
        [
            ("S1", "CD21", "cannot tell", ""),
            ("S2", "CD3", "separable", "negative peak far"),
            ("S2", "CD20", "separable", "its own threshold, 5, is far from 9"),
        ],
        columns=["slide", "marker", "verdict", "remark"],
    )
    numbers = Numbers({"slides": pd.DataFrame({"slide": ["S1", "S2"]}), "thresholds": thresholds})
    assert {one.slide: one.reasons[0][:4] for one in suspects(numbers)} == {"S1": "no t", "S2": "CD3:"}
    markers = claimed_markers(numbers, ["B cell", "PD1"], {"B cell": "CD20+", "T cell": "CD21+"})
    assert markers == {"CD20", "PD1"}
    assert [one.slide for one in suspects(numbers, markers)] == ["S2", "S1"]
    assert suspects(numbers, markers)[0].reasons[0].startswith("CD20: ")


def test_every_value_that_is_withheld_has_its_command_whatever_stands_beside_it(page, html):
    assert page.text["check"].count("mihc review STUDY --slide S06 --population CD3") == 2
    assert "(the threshold cannot tell)<br><code>mihc review STUDY --slide S06 --population CD3</code>" in html
