"""Ids and names are text, whatever they look like, and meet exactly or not at all; study.toml runs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_folders import (
    CLINICAL,
    PANEL,
    SETTINGS,
    SLIDES,
    errors_of,
    the_error,
    warnings_of,
    write_picture,
    write_study,
)

import mihc
from mihc.errors import ClinicalError, StudyProblems
from mihc.store import read_csv
from mihc.studies.joining import check_join
from mihc.studies.near_names import near_miss
from mihc.studies.toml import parse_settings
from mihc.study import read_study, study_table

WORDS = ("NO", "ON", "NA", "None", "TRUE", "1E3", "2020-01-02")  # what YAML, spreadsheets and pandas make values of


def problems_of(text: str) -> list[str]:
    return [str(problem) for problem in parse_settings('[study]\nname = "x"\n' + text)[1]]


@pytest.fixture(scope="module")
def worded(tmp_path_factory) -> Path:
    """A finished study whose markers, and some patients and groups, are called as programs call values."""
    folder = tmp_path_factory.mktemp("words") / "study"
    panel = "channel,marker,role\nDAPI,DAPI,nuclei\n" + "".join(f"{word},{word},marker\n" for word in WORDS)
    settings = f'[study]\nname = "words"\n[phenotypes]\nno = "{" & ".join(f"{word}+" for word in WORDS[1:])}"\n'
    settings += '[groups]\ncolumns = ["arm"]\n'
    settings = settings.replace("no =", '"off" =')
    slides = "slide,patient,cells\n" + "".join(f"S{n},{word},S{n}.csv\n" for n, word in enumerate(WORDS))
    clinical = "patient,arm\n" + "".join(f"{word},{'NO' if n % 2 else 'NA'}\n" for n, word in enumerate(WORDS))
    write_study(folder, settings=settings, panel=panel, slides=slides, clinical=clinical)
    header = "x_um,y_um," + ",".join(f"{word}_positive" for word in WORDS)
    for slide in range(len(WORDS)):
        rows = [
            f"{cell},{slide}," + ",".join(str(int(cell % 10 >= k)) for k in range(len(WORDS))) for cell in range(10)
        ]
        (folder / f"S{slide}.csv").write_text("\n".join([header, *rows]) + "\n")
    assert mihc.run(read_study(folder)).failed == {}
    return folder


def test_PC3_markers_named_like_a_value_stay_text_from_the_panel_to_the_report(worded):
    results = worded / "results"
    regions = read_csv(results / "regions.csv")
    assert set(regions["population"]) == {*WORDS, "off"}
    first = regions[regions["slide"] == "S0"].set_index("population")["positive_cells"]
    assert [first[word] for word in WORDS] == [10 - k for k in range(len(WORDS))]
    assert first["off"] == 10 - (len(WORDS) - 1)
    patients = read_csv(results / "patients.csv")
    for k, word in enumerate(WORDS):
        assert (patients[f"{word}|other|positivity_percent"] == 10 * (10 - k)).all()
    assert set(read_csv(results / "thresholds.csv")["marker"]) == set(WORDS)
    statistics = read_csv(results / "statistics.csv")
    assert set(WORDS) <= set(statistics["population"])
    report = (results / "report.html").read_text(encoding="utf-8")
    assert all(f">{word}<" in report for word in WORDS)


def test_T2_an_id_that_looks_missing_joins_its_own_row_and_no_other(worded):
    patients = read_csv(worded / "results" / "patients.csv")
    assert sorted(patients["patient"]) == sorted(WORDS)
    assert (patients["slides"] == 1).all()
    arms = dict(zip(patients["patient"], patients["arm"]))
    assert arms == {word: "NO" if n % 2 else "NA" for n, word in enumerate(WORDS)}


def test_T2_blank_ids_are_refused_and_never_meet_each_other(tmp_path):
    slides = SLIDES.replace("S2,b.tif,P2", "S2,b.tif,").replace("S3,c.tif,P3", "S3,c.tif, ")
    blank = "patient,os_months,os_event,response,signature,age\n,1,1,CR,yes,1\nP1,2,1,CR,yes,2\n ,3,1,CR,yes,3\n"
    errors = errors_of(write_study(tmp_path / "s", slides=slides, clinical=blank))
    assert [one.place for one in errors if "blank" in one.what] == [
        "slides.csv, line 3, column patient",
        "slides.csv, line 4, column patient",
        "clinical.csv, line 2, column patient",
        "clinical.csv, line 4, column patient",
    ]
    with pytest.raises(StudyProblems):
        read_study(tmp_path / "s")


IDS = st.sampled_from(["P1", "P2", "p1", "01", "1", "NA", "None", "nan", "", " ", "é"])


@given(slides=st.lists(IDS.filter(str.strip), min_size=1, max_size=12), clinical=st.lists(IDS, max_size=12))
def test_T3_a_patient_has_one_row_before_any_test_and_nobody_is_lost(slides, clinical):
    names = [f"S{n}" for n in range(len(slides))]
    regions = pd.DataFrame(
        [(name, "t", "tumour", "CD20", 10, 5, 1.0) for name in names],
        columns=["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"],
    )
    rows = pd.DataFrame({"patient": clinical, "os": np.arange(len(clinical), dtype=float)})
    listed = pd.DataFrame({"slide": names, "patient": slides})
    if len(set(clinical)) < len(clinical):  # many to many: every row of the one with every row of the other
        with pytest.raises(ClinicalError, match="has several rows"):
            study_table(regions, listed, rows)
        return
    table = study_table(regions, listed, rows)
    assert table["patient"].tolist() == sorted(set(slides))
    assert table["slides"].tolist() == [slides.count(patient) for patient in table["patient"]]
    found = {patient: os for patient, os in zip(table["patient"], table["os"]) if not np.isnan(os)}
    assert found == {patient: os for patient, os in zip(clinical, rows["os"]) if patient in slides}
    told = "\n".join(map(str, check_join(slides, [name for name in clinical if name.strip()], min_match=0.0)))
    if found:
        unmatched = set(slides) - set(clinical)
        who = "1 patient with slides has" if len(unmatched) == 1 else f"{len(unmatched)} patients with slides have"
        assert (f"{who} no row" in told) == bool(unmatched)
        unused = {name for name in clinical if name.strip()} - set(slides)
        who = "1 patient has" if len(unused) == 1 else f"{len(unused)} patients have"
        assert (f"{who} no slide" in told) == bool(unused)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("P1 ", "a space"),
        ("P 1", "a space"),
        ("p1", "capital letters"),
        ("P01", "a leading zero"),
        ("P1\u200b", "an invisible character"),
        ("\uff301", "an accented letter written in another way"),
        ("\u04201", "a letter of another alphabet that looks alike"),
        ("P\u20131", "another dash"),
    ],
)
def test_T4_an_id_that_is_nearly_another_is_an_error_and_never_joined(tmp_path, written, kind):
    of = "P-1" if "\u2013" in written else "P1"
    slides, clinical = SLIDES.replace("P1", written), CLINICAL.replace("P1", of)
    folder = write_study(tmp_path / "s", slides=slides, clinical=clinical)
    problem = the_error(folder)
    assert f"{written!r} is not in clinical.csv, but {of!r} is: near-miss, {kind}" in problem.what
    with pytest.raises(StudyProblems):
        read_study(folder)
    regions = pd.DataFrame(
        [("S1", "t", "tumour", "CD20", 10, 5, 1.0)],
        columns=["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"],
    )
    listed = pd.DataFrame({"slide": ["S1"], "patient": [written]})
    table = study_table(regions, listed, pd.DataFrame({"patient": [of], "os": [12.0]}))
    assert table["patient"].tolist() == [written]
    assert table["os"].isna().all()


@pytest.mark.parametrize(
    ("text", "said"),
    [  # what YAML reads as something else: here it is text in quotes, or refused
        ("[groups]\ncolumns = [no, on]", "is not valid TOML"),
        ("[groups]\ncolumns = [012]", "is not valid TOML"),
        ('[outcomes.OS]\ntime = 12\nevent = "e"', "time = 12, needed: text in double quotes"),
        ('[outcomes.OS]\ntime = "t"\nevent = true', "event = true, needed: text in double quotes"),
        ("[phenotypes]\nB = [1]", "B = [1], needed: text in double quotes"),
        ("[groups]\ncolumns = 12", "columns = 12, needed: a list of text in double quotes"),
        ("[groups]\ncolumns = { signature = 1 }", "needed: a list of text in double quotes"),
        ("[groups]\ncolumns = [12]", "columns = [12], needed: a list of text in double quotes"),
        ("[groups]\ncolumns = [true]", "columns = [True], needed: a list of text in double quotes"),
        ("[groups]\ncolumns = [2020-01-02]", "needed: a list of text in double quotes"),
        ("[groups]\ncolumns = [12:30:00]", "needed: a list of text in double quotes"),
        ("[groups]\ncolumns = 12:30", "is not valid TOML"),
        ('[groups]\ncolumns = ["a"]\ncolumns = ["b"]', "is not valid TOML: Cannot overwrite a value"),
        ('[groups]\ncolumns = ["a"]\n[groups]\n', "is not valid TOML: Cannot declare ('groups',) twice (at line 5"),
    ],
)
def test_T6_a_value_that_is_no_text_in_quotes_is_refused_and_never_turned_into_one(text, said):
    (problem,) = problems_of(text)
    assert said in problem


@pytest.mark.parametrize("word", [*WORDS, "no", "on", "off", "yes", "012", "12:30", "1_000", "~", "null", ".inf"])
def test_T6_a_text_in_quotes_is_that_text(word):
    settings, problems = parse_settings(
        f'[study]\nname = "{word}"\n[phenotypes]\n"{word}" = "A+"\n[groups]\ncolumns = ["{word}"]\n'
        f'[responses.ORR]\ncolumn = "c"\nresponders = ["{word}"]\n'
    )
    assert problems == []
    assert settings.study.name == word
    assert settings.phenotypes == {word: "A+"}
    assert settings.groups == (word,)
    assert settings.responses["ORR"].responders == (word,)


@pytest.mark.parametrize(
    ("text", "said"),
    [  # TOML has no tags that build objects and no aliases that multiply; what is left is depth and length
        ('[groups]\ncolumns = !!python/object/apply:os.system ["touch x"]', "is not valid TOML"),
        ('a: &a ["x"]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]', "is not valid TOML"),
        ("[groups]\ncolumns = " + "[" * 100_000, "nested too deeply"),
        ("x = " + "{a = " * 100_000, "nested too deeply"),
        (".".join("a" * 3_000) + " = 1", "nested too deeply"),
        ("[" + ".".join("a" * 20_000) + "]", "nested too deeply"),
        ("[compute]\nworkers = " + "9" * 5_000, "is not valid TOML: Exceeds the limit"),
        ("[compute]\nworkers = " + "9" * 400, "needed: a whole number"),
        ("[segmentation]\nnucleus_diameter_um = 1e999", "needed: a number in µm"),
        ('[outcomes.OS]\ntime = "a"\nevent = "b"\nevent_value = nan', "needed: the number or the text in the event"),
    ],
)
def test_PC14_a_hostile_study_toml_is_refused_in_words(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    problems = problems_of(text)
    assert len(problems) == 1
    assert said in problems[0]
    folder = write_study(tmp_path / "s", settings='[study]\nname = "x"\n' + text)
    assert any(said in problem.what for problem in errors_of(folder))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("depth", [100, 300, 800])
def test_PC14_a_list_of_any_depth_that_can_be_read_is_refused_as_no_list_of_text(depth):
    (problem,) = problems_of("[groups]\ncolumns = " + "[" * depth + '"a"' + "]" * depth)
    assert "double quotes" in problem or "nested too deeply" in problem


TWO_PANELS = "panel,channel,marker,role\nA,DAPI,DAPI,nuclei\nA,c1,{},marker\nB,DAPI,DAPI,nuclei\nB,c1,{},marker\n"


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("CD\u03b1", "CDa", "a letter of another alphabet that looks alike"),
        ("\u0421D20", "CD20", "a letter of another alphabet that looks alike"),
        ("PD\u2013L1", "PD-L1", "another dash"),
        ("CD 20", "CD20", "a space"),
    ],
)
def test_PC15_two_markers_that_look_alike_are_refused(tmp_path, one, other, kind):
    panel = f"channel,marker,role\nDAPI,DAPI,nuclei\nc1,{one},marker\nc2,{other},marker\n"
    problem = the_error(write_study(tmp_path / "one", settings='[study]\nname = "x"\n', panel=panel, clinical=None))
    assert problem.place == "panel.csv, column marker"
    assert "near-misses" in problem.what
    assert kind in problem.what


def test_PC15_two_markers_of_one_panel_that_differ_by_case_are_one_problem(tmp_path):
    panel = "channel,marker,role\nDAPI,DAPI,nuclei\nc1,cd20,marker\nc2,CD20,marker\n"
    problem = the_error(write_study(tmp_path / "one", settings='[study]\nname = "x"\n', panel=panel, clinical=None))
    assert problem.what == "marker 'CD20' is listed twice"


@pytest.mark.parametrize(("one", "other"), [("CD\u03b1", "CDa"), ("cd20", "CD20")])
def test_PC15_a_marker_of_two_panels_is_written_alike_or_it_would_not_be_pooled(tmp_path, one, other):
    slides = "slide,file,patient,panel\nS1,a.tif,P1,A\nS2,b.tif,P1,B\n"
    folder = write_study(
        tmp_path / "s",
        settings='[study]\nname = "x"\n',
        panel=TWO_PANELS.format(one, other),
        slides=slides,
        clinical=None,
    )
    assert "near-misses" in the_error(folder).what
    write_study(folder, settings='[study]\nname = "x"\n', panel=TWO_PANELS.format(other, other), slides=slides)
    assert errors_of(folder) == []


def test_PC15_a_phenotype_that_looks_like_a_marker_is_refused(tmp_path):
    settings = SETTINGS.replace('"proliferating B cell"', '"\u0421D20"')
    problem = the_error(write_study(tmp_path / "s", settings=settings))
    assert problem.place == "study.toml, [phenotypes]"
    assert "near-misses" in problem.what


def test_PC15_look_alikes_in_thresholds_slides_and_tables_of_cells_are_named(tmp_path):
    typed = "slide,marker,value\nS1,\u0421D20,5\n"
    problem = the_error(write_study(tmp_path / "t", thresholds=typed))
    assert "near-miss of 'CD20': a letter of another alphabet that looks alike" in problem.what
    slides = "slide,cells,patient\nS1,s.csv,P1\n"
    folder = write_study(tmp_path / "c", settings='[study]\nname = "x"\n', slides=slides, clinical=None)
    (folder / "s.csv").write_text("x_um,y_um,\u0421D20_positive,CD20_positive,Ki67_positive\n1,1,1,0,1\n")
    assert "near-miss of 'CD20_positive'" in the_error(folder, open_slides=True).what
    folder = write_study(tmp_path / "p", settings='[study]\nname = "x"\n', slides="slide,file,patient\nS1,a.tif,P1\n",
                         panel=PANEL.replace("CD20,CD20", "\u0421D20,CD20"), clinical=None)  # fmt: skip
    write_picture(folder / "a.tif")
    what = the_error(folder, open_slides=True).what
    assert "panel CD20 not in slide" in what
    assert "CD20; near-miss of 'CD20': a letter of another alphabet that looks alike" in what


def test_PC15_greek_letters_in_the_name_of_one_marker_are_no_problem(tmp_path):
    panel = PANEL.replace("Ki67,Ki67", "IFN\u03b3,IFN\u03b3")
    folder = write_study(tmp_path / "s", settings='[study]\nname = "x"\n', panel=panel, clinical=None)
    assert errors_of(folder) == []
    assert not any("near" in problem.what for problem in warnings_of(folder))
    assert near_miss("IFN\u03b3", ["CD20", "TGF\u03b2"]) == ""
