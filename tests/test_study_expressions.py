"""What `mihc check` says of levels, phenotypes of phenotypes, impossible pairs, spillover and PD-L1's distance."""

from __future__ import annotations

import pytest
from study_folders import SETTINGS, errors_of, the_error, warnings_of, write_study

from mihc.panel import check_panels
from mihc.studies.given_thresholds import levels_of
from mihc.studies.settings import Measure, Pairs
from mihc.studies.toml import parse_settings
from mihc.study import read_study

PANEL = (
    "channel,marker,role,compartment,threshold,moderate,strong\n"
    "DAPI,DAPI,nuclei,nucleus,,,\nCD20,CD20,marker,cell,10,20,30\nKi67,Ki67,marker,nucleus,,,\n"
)


def with_phenotypes(*lines: str, more: str = "") -> str:
    return SETTINGS.replace('"proliferating B cell" = "CD20+ Ki67+"', "\n".join(lines)) + more


# ---- levels


def test_levels_are_read_from_the_panel(tmp_path):
    study = read_study(write_study(tmp_path / "study", panel=PANEL, settings=with_phenotypes('bright = "CD20+++"')))
    assert [row.levels for row in study.panels[""].rows] == [(), (20.0, 30.0), ()]
    assert levels_of(study.panels, study.slides[0], study.thresholds, "CD20") == (20.0, 30.0)


def test_levels_come_with_their_threshold_from_one_place(tmp_path):
    thresholds = "slide,marker,value,moderate,strong\n*,Ki67,5,6,7\nS1,Ki67,3,,\nS2,Ki67,5,8,9.5\n"
    study = read_study(write_study(tmp_path / "study", panel=PANEL, thresholds=thresholds))
    found = [levels_of(study.panels, row, study.thresholds, "Ki67") for row in study.slides]
    assert found == [(), (8.0, 9.5), (6.0, 7.0)]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("10,20,20", "levels do not ascend: threshold 10, moderate 20, strong 20"),
        ("25,20,30", "levels do not ascend: threshold 25, moderate 20, strong 30"),
        (",20,30", "all three typed; missing: threshold"),
        ("10,20,", "all three typed; missing: strong"),
        ("10,20,x", "strong 'x' is not a number"),
        ("10,nan,30", "moderate 'nan' is not a number of counts"),
    ],
)
def test_levels_of_the_panel_that_cannot_be_are_refused_with_the_line(tmp_path, cells, said):
    (tmp_path / "panel.csv").write_text(PANEL.replace("10,20,30", cells))
    _, problems = check_panels(tmp_path / "panel.csv")
    assert said in problems[0].what
    assert problems[0].place == "panel.csv, line 3"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("10,5,30", "levels do not ascend: threshold 10, moderate 5, strong 30"),
        ("10,,30", "missing: moderate"),
        ("10,20,-1", "'-1' is no number of counts"),
    ],
)
def test_levels_of_thresholds_csv_that_cannot_be_are_refused_with_the_line(tmp_path, cells, said):
    folder = write_study(tmp_path / "study", thresholds=f"slide,marker,value,moderate,strong\nS1,CD20,{cells}\n")
    problem = the_error(folder)
    assert said in problem.what
    assert problem.place.startswith("thresholds.csv, line 2")


def test_an_expression_that_asks_for_levels_needs_them_typed(tmp_path):
    folder = write_study(tmp_path / "study", settings=with_phenotypes('bright = "CD20++"', 'all = "bright Ki67+"'))
    errors = errors_of(folder)
    assert [problem.place for problem in errors] == ["study.toml, [phenotypes] bright", "study.toml, [phenotypes] all"]
    assert errors[0].what == "asks for levels of CD20, and they are typed for no slide"
    (folder / "thresholds.csv").write_text("slide,marker,value,moderate,strong\nS2,CD20,10,20,30\n")
    assert errors_of(folder) == []
    assert "none are typed for S1, S3: it stays unknown there" in warnings_of(folder)[0].what


# ---- phenotypes of phenotypes


def test_PC13_cycles_contradictions_and_unknown_names_are_all_listed(tmp_path):
    settings = with_phenotypes(
        '"B cell" = "CD20+"',
        '"odd" = "B cell CD20-"',
        '"a" = "b CD20+"',
        '"b" = "a"',
        '"near" = "B cel & Ki67+"',
    )
    whats = {p.place.split("] ")[1]: p.what for p in errors_of(write_study(tmp_path / "study", settings=settings))}
    assert set(whats) == {"odd", "a", "b", "near"}
    assert "contradicts itself (with B cell = 'CD20+')" in whats["odd"]
    assert "a > b > a: a phenotype cannot be made of itself" in whats["a"]
    assert "b > a > b: a phenotype cannot be made of itself" in whats["b"]
    assert "did you mean B cell" in whats["near"]


def test_a_child_is_shown_by_the_panels_that_have_its_parents_markers_too(tmp_path):
    panel = (
        "panel,channel,marker,role\nA,DAPI,DAPI,nuclei\nA,CD20,CD20,marker\nA,Ki67,Ki67,marker\n"
        "B,DAPI,DAPI,nuclei\nB,Ki67,Ki67,marker\n"
    )
    slides = "slide,file,patient,panel\nS1,a.tif,P1,A\nS2,b.tif,P2,B\nS3,c.tif,P3,A\n"
    settings = with_phenotypes('"B cell" = "CD20+"', '"dividing" = "Ki67+"', '"both" = "dividing & B cell"')
    study = read_study(write_study(tmp_path / "study", panel=panel, slides=slides, settings=settings))
    assert study.populations()["dividing"] == {"A", "B"}
    assert study.populations()["both"] == {"A"}


# ---- pairs


def test_impossible_pairs_are_read_and_shown_where_a_panel_has_both(tmp_path):
    settings = SETTINGS + '[pairs]\nimpossible = ["CD20+ Ki67+"]\n'
    study = read_study(write_study(tmp_path / "study", settings=settings))
    assert study.settings.pairs == Pairs(("CD20+ Ki67+",))
    assert study.impossible_pairs(study.panels[""]) == ["CD20+ Ki67+"]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("CD20+", "has 1 part where a pair has two"),
        ("CD20+ CD3+", "no marker followed by + or - and no phenotype is here"),
        ("proliferating B cell & CD20-", "contradicts itself"),
        ("CD20++ Ki67+", "asks for levels of CD20"),
    ],
)
def test_a_pair_that_is_none_is_refused(tmp_path, pair, said):
    folder = write_study(tmp_path / "study", settings=SETTINGS + f'[pairs]\nimpossible = ["{pair}"]\n')
    problem = the_error(folder)
    assert said in problem.what
    assert problem.place == "study.toml, [pairs] impossible"


# ---- keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pairs]\nimposible = []", "unknown key `imposible`; did you mean impossible"),
        ("[pairs]\nimpossible = 3", "a list of text"),
        ("[measure]\nspillover_correction = 'yes'", 'one of "off", "on"'),
        ("[measure]\nspillover_correction = true", 'one of "off", "on"'),
        ("[measure]\nspillover_correction = 'on'", "a spillover that is not measured"),
        ("[measure]\nbackground_correction = 'yes'", 'one of "off", "on"'),
        ("[measure]\nbackground_correction = 'on'", "a background that is not measured"),
        ("[measure]\nautofluorescence_correction = 1", 'one of "off", "on"'),
        ("[measure]\nautofluoresence_correction = 'on'", "did you mean autofluorescence_correction"),
        ("[pdl1]\nmarker = 'a'\ntumour = 'b+'\nimmune = 'c+'\nimmune_within_um = '50'", "a number in µm"),
        ("[pdl1]\nmarker = 'a'\ntumour = 'b+'\nimmune = 'c+'\nimmune_within_um = 0", "from 1 to 100000"),
        ("[pdl1]\nmarker = 'a'\ntumour = 'b+'\nimmune = 'c+'\nimmune_within = 5", "did you mean immune_within_um"),
    ],
)
def test_new_keys_say_what_they_need(text, said):
    _, problems = parse_settings('[study]\nname = "x"\n' + text)
    assert len(problems) == 1
    assert said in problems[0].what


def test_the_correction_is_read_where_spillover_is_measured():
    text = '[study]\nname = "x"\n[measure]\nfeatures = ["spillover"]\nspillover_correction = "on"\n'
    settings, problems = parse_settings(text)
    assert problems == []
    assert settings.measure == Measure(("mean", "spillover"), "on", "off", "off")


def test_every_correction_is_read_by_its_own_key():
    text = '[study]\nname = "x"\n[measure]\nfeatures = ["background"]\n'
    settings, problems = parse_settings(text + 'background_correction = "on"\nautofluorescence_correction = "on"\n')
    assert problems == []
    assert settings.measure == Measure(("mean", "background"), "off", "on", "on")


def test_autofluorescence_cannot_be_taken_without_its_channel(tmp_path):
    asked = '[measure]\nautofluorescence_correction = "on"\n'
    folder = write_study(tmp_path / "study", panel=PANEL, settings=SETTINGS + asked)
    problem = the_error(folder)
    assert "panel.csv has no channel of autofluorescence" in problem.what and '"off"' in problem.fix
    (folder / "panel.csv").write_text(PANEL + "AF,AF,autofluorescence,cell,,,\n")
    assert errors_of(folder) == []


def test_background_corrected_alone_is_warned_of(tmp_path):
    """On drawn slides it makes more of them separable, and half of their intervals miss the truth."""
    asked = '[measure]\nfeatures = ["background"]\nbackground_correction = "on"\n'
    folder = write_study(
        tmp_path / "study", panel=PANEL + "AF,AF,autofluorescence,cell,,,\n", settings=SETTINGS + asked
    )
    (problem,) = [one for one in warnings_of(folder) if "background_correction" in one.place]
    assert problem.severity == "warning" and "autofluorescence" in problem.what
    (folder / "study.toml").write_text(SETTINGS + asked + 'autofluorescence_correction = "on"\n')
    assert not [one for one in warnings_of(folder) if "correction" in one.place]


def test_an_h_score_may_have_a_clinical_cut_off(tmp_path):
    cut = '[splits]\nmarker = ["given"]\ngiven = { "CD20|tumour|h_score" = 150.0 }\n'
    assert errors_of(write_study(tmp_path / "study", panel=PANEL, settings=SETTINGS + cut)) == []


def test_a_cut_off_of_an_h_score_needs_levels_and_a_marker(tmp_path):
    cut = '[splits]\nmarker = ["given"]\ngiven = { "CD20|tumour|h_score" = 150.0 }\n'
    folder = write_study(tmp_path / "study", settings=SETTINGS + cut)
    assert the_error(folder).what == "asks for levels of CD20, and they are typed for no slide"
    (folder / "study.toml").write_text(SETTINGS + cut.replace("CD20", "proliferating B cell"))
    assert "no column of patients.csv" in the_error(folder).what
