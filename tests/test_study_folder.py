"""Bad study folders, each with one thing wrong; the ids are those of the catalogue of bad inputs."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_folders import CLINICAL, PANEL, SETTINGS, SLIDES, errors_of, the_error, warnings_of, write_study

from mihc.errors import StudyProblems
from mihc.study import check_study, read_study


def test_a_good_folder_is_read_whole(tmp_path):
    folder = write_study(tmp_path / "study", thresholds="slide,marker,value\n*,CD20,300\nS2,CD20,250.5\n")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "S2.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    study = read_study(folder)
    assert [row.slide for row in study.slides] == ["S1", "S2", "S3"]
    assert [row.patient for row in study.slides] == ["P1", "P2", "P3"]
    assert study.slides[0].file == folder / "a.tif"
    assert [row.annotations for row in study.slides] == [None, folder / "annotations" / "S2.geojson", None]
    assert study.panel_of(study.slides[0]).name == ""
    assert study.populations() == {
        "CD20": frozenset([""]),
        "Ki67": frozenset([""]),
        "proliferating B cell": frozenset([""]),
    }
    assert study.thresholds[["moderate", "strong"]].isna().all(axis=None)
    assert study.thresholds[["slide", "marker", "value", "who", "when", "reason"]].to_dict("list") == {
        "slide": ["*", "S2"],
        "marker": ["CD20", "CD20"],
        "value": [300.0, 250.5],
        "who": ["", ""],
        "when": ["", ""],
        "reason": ["", ""],
    }
    assert study.results == folder / "results"


def test_clinical_columns_are_typed_as_study_toml_names_them(tmp_path):
    clinical = CLINICAL + "P4,,NA,,,NA,Kim\n"
    typed = read_study(write_study(tmp_path / "study", clinical=clinical)).clinical_columns()
    assert typed["patient"].tolist() == ["P1", "P2", "P3", "P4"]
    assert typed["os_months"].tolist()[:3] == [12.5, 3.0, 30.0]
    assert typed["os_event"].tolist()[:3] == [1.0, 0.0, 0.0]
    assert typed["response"].tolist() == ["CR", "SD", "PR", None]
    assert typed["signature"].tolist() == ["yes", "no", "yes", None]
    assert typed["age"].tolist()[:3] == [61.0, 70.0, 55.0]
    assert typed[["os_months", "os_event", "age"]].iloc[3].isna().all()


def test_a_covariate_of_words_stays_text(tmp_path):
    clinical = CLINICAL.replace(",61,", ",old,")
    typed = read_study(write_study(tmp_path / "study", clinical=clinical)).clinical_columns()
    assert typed["age"].tolist() == ["old", "70", "55"]


def test_a_study_without_clinical_table_is_read(tmp_path):
    study = read_study(write_study(tmp_path / "study", settings='[study]\nname = "x"', clinical=None))
    assert study.clinical is None
    assert study.clinical_columns() is None


def test_every_problem_is_listed_at_once_and_reading_raises_them(tmp_path):
    folder = write_study(
        tmp_path / "study",
        settings=SETTINGS.replace("age", "aeg") + "[compute]\nwindwo = 1\n",
        slides=SLIDES.replace("b.tif", "missing.tif"),
        clinical=CLINICAL.replace(",3,0", ",-3,0"),
        thresholds="slide,marker,value\nS9,CD20,1\n",
    )
    with pytest.raises(StudyProblems) as raised:
        read_study(folder)
    text = str(raised.value)
    for expected in ("windwo", "'aeg'", "missing.tif", "time '-3'", "slide 'S9'"):
        assert expected in text
    assert raised.value.exit_code == 3
    assert len(raised.value.problems) == 5


# --- CL, R, OD: slides ---


def test_CL1_no_slides_is_an_error_of_the_input(tmp_path):
    folder = write_study(
        tmp_path / "study", slides="slide,file,patient\n", clinical=None, settings='[study]\nname = "x"'
    )
    assert "0 files match" in the_error(folder).what
    with pytest.raises(StudyProblems) as raised:
        read_study(folder)
    assert raised.value.exit_code == 3


def test_R9_slide_ids_that_differ_by_case_only_are_refused(tmp_path):
    folder = write_study(tmp_path / "study", slides=SLIDES.replace("S2", "s1"))
    problem = the_error(folder)
    assert problem.place == "slides.csv, line 3, column slide"
    assert "already in line 2, as 'S1'" in problem.what


@pytest.mark.parametrize("slide", ["CON", "a b", "../x", "", "x" * 65, "é", "S1.tif", "lpt1"])
def test_a_slide_id_that_cannot_name_a_file_is_refused(tmp_path, slide):
    assert the_error(write_study(tmp_path / "study", slides=SLIDES.replace("S2", slide))).place.endswith("column slide")


def test_the_longest_slide_id_is_allowed(tmp_path):
    assert errors_of(write_study(tmp_path / "study", slides=SLIDES.replace("S2", "x" * 63 + "_"))) == []


def test_OD6_a_slide_inside_results_is_refused(tmp_path):
    folder = write_study(tmp_path / "study", slides=SLIDES.replace("b.tif", "results/b.tif"))
    (folder / "results").mkdir()
    (folder / "results" / "b.tif").write_bytes(b"another")
    assert "may be deleted at any time" in the_error(folder).what


def test_CL8_a_path_that_no_file_can_have_is_refused(tmp_path):
    folder = write_study(tmp_path / "a", slides=SLIDES.replace("b.tif", "b" * 300))
    assert the_error(folder).place == "slides.csv, line 3, column file"
    circle = write_study(tmp_path / "b")
    (circle / "b.tif").unlink()
    (circle / "b.tif").symlink_to("b.tif")
    assert the_error(circle).place == "slides.csv, line 3, column file"


def test_one_of_file_and_cells_is_needed(tmp_path):
    slides = "slide,file,patient,cells\nS1,a.tif,P1,\nS2,,P2,\nS3,c.tif,P3,c.csv\n"
    folder = write_study(tmp_path / "study", slides=slides)
    (folder / "c.csv").write_text("x_um,y_um\n")
    assert [problem.what for problem in errors_of(folder)] == [
        "one of file and cells is needed; neither is given",
        "one of file and cells is needed; both are given",
    ]


def test_one_file_may_stand_in_two_lines_only_with_its_scenes_kept_apart(tmp_path):
    slides = "slide,file,patient,scene\nS1,a.tif,P1,{}\nS2,./a.tif,P2,{}\nS3,c.tif,P3,\n"
    assert errors_of(write_study(tmp_path / "a", slides=slides.format("0", "1"))) == []
    for number, scenes in enumerate([("0", "0"), ("", ""), ("all", "1"), ("1", "all"), ("A", "a")]):
        folder = write_study(tmp_path / f"b{number}", slides=slides.format(*scenes))
        assert "already in line 2" in the_error(folder).what


@pytest.mark.parametrize(("size", "what"), [("0,5", "decimal point"), ("500", "implausible"), ("x", "not a number")])
def test_a_pixel_size_must_be_a_plausible_number(tmp_path, size, what):
    slides = f'slide,file,patient,pixel_size_um\nS1,a.tif,P1,"{size}"\nS2,b.tif,P2,0.5\nS3,c.tif,P3,\n'
    folder = write_study(tmp_path / "study", slides=slides)
    assert what in the_error(folder).what
    fixed = read_study(write_study(tmp_path / "fixed", slides=slides.replace(f'"{size}"', "0.25")))
    assert [row.pixel_size_um for row in fixed.slides] == [0.25, 0.5, None]


def test_a_control_needs_no_patient_and_a_slide_does(tmp_path):
    slides = "slide,file,patient,control\nS1,a.tif,P1,\nS2,b.tif,,isotype\nS3,c.tif,{},{}\n"
    good = read_study(write_study(tmp_path / "a", slides=slides.format("P3", "")))
    assert [row.counts for row in good.slides] == [True, False, True]
    assert "patient id is blank" in the_error(write_study(tmp_path / "b", slides=slides.format("", ""))).what
    assert "'isotyp'" in the_error(write_study(tmp_path / "c", slides=slides.format("P3", "isotyp"))).what


def test_an_unknown_column_of_slides_names_the_nearest(tmp_path):
    slides = "slide,file,patient,anotations\nS1,a.tif,P1,\nS2,b.tif,P2,\nS3,c.tif,P3,\n"
    problem = the_error(write_study(tmp_path / "study", slides=slides))
    assert problem.what == "unknown column 'anotations'; did you mean annotations"


def test_annotations_are_asked_for_where_only_they_count(tmp_path):
    folder = write_study(tmp_path / "study", settings=SETTINGS + '[regions]\nsource = "annotations"\n')
    assert len([problem for problem in errors_of(folder) if "has no annotations" in problem.what]) == 3


def test_two_annotation_files_of_one_slide_need_a_choice(tmp_path):
    folder = write_study(tmp_path / "study")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "S1.geojson").write_text("{}")
    (folder / "annotations" / "S1.annotations").write_text("<x/>")
    assert any("several files annotate" in problem.what for problem in errors_of(folder))


# --- PC: panel, phenotypes, thresholds ---


def test_two_panels_must_be_named_by_the_slides_and_show_what_they_stain(tmp_path):
    panel = (
        "panel,channel,marker,role\nB,DAPI,DAPI,nuclei\nB,CD20,CD20,marker\n"
        "T,DAPI,DAPI,nuclei\nT,CD20,CD20,marker\nT,Ki67,Ki67,marker\n"
    )
    slides = "slide,file,patient,panel\nS1,a.tif,P1,B\nS2,b.tif,P2,T\nS3,c.tif,P3,{}\n"
    study = read_study(write_study(tmp_path / "a", panel=panel, slides=slides.format("T")))
    assert study.populations() == {
        "CD20": frozenset("BT"),
        "Ki67": frozenset("T"),
        "proliferating B cell": frozenset("T"),
    }
    assert study.panel_of(study.slides[0]).name == "B"
    assert (
        "not in panel.csv; it has B, T"
        in the_error(write_study(tmp_path / "b", panel=panel, slides=slides.format("X"))).what
    )
    assert "is not named" in the_error(write_study(tmp_path / "c", panel=panel, slides=slides.format(""))).what


def test_a_phenotype_over_two_panels_is_refused_for_cells_are_never_joined(tmp_path):
    panel = (
        "panel,channel,marker,role\nB,DAPI,DAPI,nuclei\nB,CD20,CD20,marker\nT,DAPI,DAPI,nuclei\nT,Ki67,Ki67,marker\n"
    )
    slides = "slide,file,patient,panel\nS1,a.tif,P1,B\nS2,b.tif,P2,T\nS3,c.tif,P3,T\n"
    assert "no single panel has all markers" in the_error(write_study(tmp_path / "a", panel=panel, slides=slides)).what


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "abc", '"1,5"'])
def test_PC6_PC7_a_threshold_is_a_number_of_counts(tmp_path, value):
    folder = write_study(tmp_path / "study", thresholds=f"slide,marker,value\n*,CD20,{value}\n")
    assert the_error(folder).place == "thresholds.csv, line 2, column value"


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("nan", "It must be 0 or more."),
        ("inf", "It must be 0 or more."),
        ("-1", "It must be 0 or more."),
        ("abc", "Write a number of counts, or leave it empty."),
        ('"1,5"', "Write a decimal point."),
    ],
)
def test_PC6_PC7_a_threshold_of_the_panel_is_a_number_of_counts(tmp_path, value, fix):
    panel = PANEL.replace("CD20,CD20,marker,cell,", f"CD20,CD20,marker,cell,{value}")
    problem = next(one for one in errors_of(write_study(tmp_path / "study", panel=panel)) if "threshold" in one.what)
    assert (problem.place, problem.fix) == ("panel.csv, line 3", fix)


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ('*,CD20,"1,5"', "thresholds.csv, line 2, column value", "has a comma; needed a number with a decimal point"),
        ("*,CD20,1,5", "thresholds.csv, line 2", "4 cells, but the first line names 3 columns"),
        ("*;CD20;1,5", "thresholds.csv, line 2", "2 cells, but the first line names 3 columns"),
        ("*,CD20,1_000", "thresholds.csv, line 2, column value", "is not a number"),
    ],
)
def test_T5_a_decimal_comma_in_thresholds_csv_is_refused(tmp_path, line, place, said):
    problem = the_error(write_study(tmp_path / "study", thresholds=f"slide,marker,value\n{line}\n"))
    assert problem.place == place and said in problem.what


def test_who_set_a_threshold_when_and_why_are_read_in_their_own_words(tmp_path):
    text = 'slide,marker,value,when,who,reason\n*,CD20,300,2026-03-01,007," faint, see S2 "\nS2,CD20,250,,=Ada,NA\n'
    thresholds = read_study(write_study(tmp_path / "study", thresholds=text)).thresholds
    assert thresholds[["who", "when", "reason"]].to_numpy().tolist() == [
        ["007", "2026-03-01", "faint, see S2"],
        ["=Ada", "", "NA"],
    ]


def test_an_unknown_column_of_thresholds_csv_is_refused_with_the_nearest(tmp_path):
    problem = the_error(write_study(tmp_path / "study", thresholds="slide,marker,value,reasons\n*,CD20,300,x\n"))
    assert "did you mean reason" in problem.what


def test_a_control_beside_no_slide_is_warned_of(tmp_path):
    slides = "slide,file,patient,batch,control\nS1,a.tif,P1,A,\nS2,b.tif,,B,isotype\nS3,c.tif,P3,A,\n"
    warnings = warnings_of(write_study(tmp_path / "a", slides=slides))
    assert [one.place for one in warnings if "control" in one.what] == ["slides.csv, slide S2"]
    assert not [
        one
        for one in warnings_of(write_study(tmp_path / "b", slides=slides.replace(",B,", ",A,")))
        if "control" in one.what
    ]


def test_thresholds_of_unknown_slides_and_markers_are_refused_with_the_nearest(tmp_path):
    folder = write_study(
        tmp_path / "study", thresholds="slide,marker,value\nS11,CD20,5\n*,CD2O,5\nS1,CD20,5\nS1,CD20,6\n"
    )
    whats = [problem.what for problem in errors_of(folder)]
    assert "did you mean S1" in whats[0]
    assert "did you mean CD20" in whats[1]
    assert "already in line 4" in whats[2]


@pytest.mark.parametrize("name", ["slides.csv", "clinical.csv", "panel.csv"])
def test_PC9_semicolons_are_refused_by_name(tmp_path, name):
    folder = write_study(tmp_path / "study")
    (folder / name).write_text((folder / name).read_text().replace(",", ";"))
    found = [one for one in errors_of(folder) if "found ';'" in one.what and one.place.startswith(name)]
    assert found and (name != "clinical.csv" or '[clinical] separator = ";"' in found[0].fix)


def test_PC9_semicolons_and_decimal_commas_are_read_where_declared(tmp_path):
    settings = SETTINGS + '[clinical]\nseparator = ";"\ndecimal = ","\n'
    clinical = CLINICAL.replace(",", ";").replace("12.5", "12,5")
    typed = read_study(write_study(tmp_path / "study", settings=settings, clinical=clinical)).clinical_columns()
    assert typed["os_months"].tolist() == [12.5, 3.0, 30.0]


def test_PC10_byte_order_marks_windows_lines_and_blank_lines_are_no_problem(tmp_path):
    def windows(text: str) -> str:
        return "\ufeff" + text.replace("\n", "\r\n") + "\r\n,,\r\n".replace(",,", "," * text.split("\n")[0].count(","))

    folder = write_study(
        tmp_path / "study", slides=windows(SLIDES), clinical=windows(CLINICAL), settings="\ufeff" + SETTINGS
    )
    assert len(read_study(folder).slides) == 3


def test_PC11_a_header_without_the_needed_columns_is_refused(tmp_path):
    assert "no column 'patient'" in errors_of(write_study(tmp_path / "a", clinical="id\n1\n"))[0].what
    assert "the column slide is missing" in errors_of(write_study(tmp_path / "b", slides="name,file,patient\n"))[0].what
    for panel, said in [
        ("marker_name\n", "unknown: marker_name; missing: channel, marker, role"),
        ("channel,marker\nDAPI,DAPI\n", "missing: role"),
        ("channel,marker,role\n", "no channel is listed"),
    ]:
        assert said in errors_of(write_study(tmp_path / "c", panel=panel))[0].what
    assert "0 slides are listed" in errors_of(write_study(tmp_path / "d", slides="slide,file,patient\n"))[0].what


def test_PC12_a_panel_without_nuclei_is_refused(tmp_path):
    panel = PANEL.replace("nuclei", "marker")
    assert "nuclei" in the_error(write_study(tmp_path / "study", panel=panel)).what


@pytest.mark.parametrize(
    ("expression", "what"), [("CD20+ CD20-", "contradicts"), ("CD8+", "no marker"), ("CD20", "+ or -")]
)
def test_PC13_a_phenotype_that_cannot_be_is_refused(tmp_path, expression, what):
    settings = SETTINGS.replace("CD20+ Ki67+", expression)
    problem = the_error(write_study(tmp_path / "study", settings=settings))
    assert what in problem.what
    assert problem.place == "study.toml, [phenotypes] proliferating B cell"


def test_a_phenotype_may_not_have_the_name_of_a_marker(tmp_path):
    settings = SETTINGS.replace('"proliferating B cell"', "CD20")
    assert "already the name of a marker" in the_error(write_study(tmp_path / "study", settings=settings)).what


def test_pdl1_and_cut_offs_are_checked_against_the_panel(tmp_path):
    settings = (
        SETTINGS
        + '[pdl1]\nmarker = "PD-L1"\ntumour = "PanCK+"\nimmune = "CD20+"\n[splits]\nmarker = "given"\n'
        + 'given = { "CD20|tumor|density_per_mm2" = 5 }\n'
    )
    whats = " ".join(problem.what for problem in errors_of(write_study(tmp_path / "study", settings=settings)))
    assert "marker 'PD-L1' is not in panel.csv" in whats
    assert "'PanCK+'" in whats
    assert "'CD20|tumor|density_per_mm2' is no column of patients.csv" in whats


TWO_PANELS = (
    "panel,channel,marker,role\nA,DAPI,DAPI,nuclei\nA,PD-L1,PD-L1,marker\nA,PanCK,PanCK,tumour\n"
    "B,DAPI,DAPI,nuclei\nB,CD3,CD3,marker\nB,PD-L1,PD-L1,marker\n"
)
PDL1 = '[study]\nname = "x"\n[pdl1]\nmarker = "PD-L1"\ntumour = "PanCK+"\nimmune = "CD3+"\n'


def test_pdl1_needs_one_panel_with_all_its_markers_and_says_what_each_lacks(tmp_path):
    slides = "slide,file,patient,panel\nS1,a.tif,P1,A\nS2,b.tif,P2,B\n"
    folder = write_study(tmp_path / "study", settings=PDL1, panel=TWO_PANELS, slides=slides, clinical=None)
    assert the_error(folder).what == (
        "no single panel has all of CD3, PD-L1, PanCK: panel 'A' lacks CD3; panel 'B' lacks PanCK"
    )
    (folder / "panel.csv").write_text(TWO_PANELS + "B,PanCK,PanCK,tumour\n")
    assert errors_of(folder) == []
    assert read_study(folder).pdl1_panels() == {"B"}


def test_pdl1_immune_cells_that_no_cell_can_be_are_an_error(tmp_path):
    panel = "channel,marker,role\nDAPI,DAPI,nuclei\nPD-L1,PD-L1,marker\nPanCK,PanCK,tumour\n"
    settings = PDL1.replace("CD3+", "PanCK+")
    folder = write_study(tmp_path / "study", settings=settings, panel=panel, clinical=None)
    assert "contradicts itself" in the_error(folder).what


# --- files ---


def test_a_folder_that_is_none_is_one_problem(tmp_path):
    assert "no such folder" in the_error(tmp_path / "nowhere").what


def test_a_missing_file_says_which_command_writes_it(tmp_path):
    folder = write_study(tmp_path / "study")
    (folder / "study.toml").unlink()
    assert "mihc init" in the_error(folder).fix


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    name=st.sampled_from(["study.toml", "slides.csv", "clinical.csv", "thresholds.csv"]),
    at=st.integers(0, 120),
    junk=st.one_of(
        st.binary(max_size=12), st.sampled_from([b'"', b",", b"\n", b"\0", b"\xff\xfe", b"..", b"[a.b]", b"="])
    ),
)
def test_no_junk_in_a_file_is_more_than_a_problem(tmp_path, name, at, junk):
    """Whatever stands in a file, it is read or refused in words; nothing else is raised."""
    folder = write_study(tmp_path / "study", thresholds="slide,marker,value\n*,CD20,300\n")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:at] + junk + content[at:])
    for problem in check_study(folder, open_slides=False):
        assert problem.place and problem.what


# --- control characters ---


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\x7f"])
@pytest.mark.parametrize(
    ("file", "before"), [("slides.csv", "P1"), ("panel.csv", "CD20"), ("clinical.csv", "yes"), ("clinical.csv", "age")]
)
def test_T7_control_characters_in_a_table_are_refused(tmp_path, file, before, character):
    folder = write_study(tmp_path / "study")
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace(before, before[0] + character + before[1:], 1))
    told = "holds a zero byte" if character == "\0" and file != "panel.csv" else "holds a control character"
    line = text[: text.index(before)].count("\n") + 1
    found = [problem for problem in errors_of(folder) if told in problem.what]
    assert found and all(problem.place == f"{file}, line {line}" for problem in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"proliferating B cell"', '"B\\u0000cell"'),
        ('"proliferating B cell"', '"B\\ncell"'),
        ("[outcomes.OS]", '[outcomes."O\\u0001S"]'),
        ('"signature"', '"signa\\u0000ture"'),
    ],
)
def test_T7_control_characters_in_study_toml_are_refused(tmp_path, old, new):
    folder = write_study(tmp_path / "study", settings=SETTINGS.replace(old, new))
    assert "holds a control character" in the_error(folder).what


def test_lines_and_tabs_within_a_quoted_cell_are_no_control_characters(tmp_path):
    clinical = CLINICAL.replace("Ann", '"Ann\n\tsays"')
    assert errors_of(write_study(tmp_path / "study", clinical=clinical)) == []
