from __future__ import annotations

import re
from dataclasses import fields, is_dataclass

import pytest
from study_folders import the_error, write_study

from mihc.studies.settings import Measure, Outcome, Pdl1, Response, Segmentation, Settings, Splits
from mihc.studies.template import study_toml
from mihc.studies.toml import SECTIONS, parse_settings

FULL = """
[study]
name = "ESCC pilot"
[segmentation]
nucleus_diameter_um = 9
cell_expansion_um = 3.5
[measure]
features = ["shape", "percentile:90.0", "median"]
[thresholds]
method = "auto"
unclear = "leave_out"
[phenotypes]
"B cell" = "CD20+"
[pdl1]
marker = "PD-L1"
tumour = "PanCK+"
immune = "CD3+ | CD68+"
[regions]
source = "annotations"
classes = { Tumor = "tumour", "Tumor: CD8" = "tumour" }
precedence = ["tumour", "excluded", "stroma", "other"]
[outcomes.PFS]
time = "pfs_months"
event = "pfs_event"
event_value = 2
unit = "days"
[responses.ORR]
column = "best_response"
responders = ["CR", "PR"]
[groups]
columns = ["signature"]
[cox]
covariates = ["liver_metastasis", "ecog"]
[splits]
outcome = ["slope_change", "landmark:12"]
marker = ["median", "given"]
given = { "CD20|tumour|density_per_mm2" = 50.0 }
[compute]
window = 512
workers = 4
"""


def only_problem(text: str):
    _, problems = parse_settings('[study]\nname = "x"\n' + text)
    assert len(problems) == 1, problems
    return problems[0]


def test_every_key_of_the_contract_is_read():
    settings, problems = parse_settings(FULL)
    assert problems == []
    assert settings.study.name == "ESCC pilot"
    assert settings.segmentation == Segmentation(nucleus_diameter_um=9.0, cell_expansion_um=3.5)
    assert settings.measure == Measure(("mean", "median", "percentile:90", "shape"))
    assert settings.thresholds.unclear == "leave_out"
    assert settings.phenotypes == {"B cell": "CD20+"}
    assert settings.pdl1 == Pdl1("PD-L1", "PanCK+", "CD3+ | CD68+")
    assert settings.regions.classes["Tumor: CD8"] == "tumour"
    assert settings.regions.precedence[0] == "tumour"
    assert settings.outcomes == {"PFS": Outcome("pfs_months", "pfs_event", 2, "days")}
    assert settings.responses == {"ORR": Response("best_response", ("CR", "PR"))}
    assert settings.groups == ("signature",)
    assert settings.cox_covariates == ("liver_metastasis", "ecog")
    given = {"CD20|tumour|density_per_mm2": 50.0}
    assert settings.splits == Splits(("slope_change", "landmark:12"), ("median", "given"), given)
    assert (settings.compute.window, settings.compute.workers) == (512, 4)


def test_only_the_name_is_needed():
    settings, problems = parse_settings('[study]\nname = "x"')
    assert problems == []
    assert settings == Settings(settings.study)
    assert parse_settings("")[1][0].what == "the key `name` is missing"


def test_PC1_unknown_key_names_the_nearest(tmp_path):
    problem = only_problem("[tresholds]\nmethod = 'auto'")
    assert "unknown key `tresholds`; did you mean thresholds" in problem.what
    assert problem.place == "study.toml, line 3"
    inside = only_problem("[segmentation]\nnucleus_diametre_um = 8.0")
    assert "unknown key `nucleus_diametre_um`; did you mean nucleus_diameter_um" in inside.what
    assert inside.place == "study.toml, line 4, [segmentation]"
    folder = write_study(tmp_path / "study", settings='[study]\nname = "x"\nnam = "y"\n')
    assert "unknown key `nam`; did you mean name" in the_error(folder).what


@pytest.mark.parametrize("section", ["outcomes.PFS", "responses.ORR"])
def test_PC1_unknown_keys_are_refused_in_named_sections(section):
    needed = 'time = "t"\nevent = "e"' if section == "outcomes.PFS" else 'column = "c"\nresponders = ["CR"]'
    assert "unknown key `colum`" in only_problem(f'[{section}]\n{needed}\ncolum = "x"').what


OPEN = {"phenotypes"}  # their keys are names that people choose
NAMED = {"outcomes": '.OS]\ntime = "t"\nevent = "e"', "responses": '.ORR]\ncolumn = "c"\nresponders = ["CR"]'}
ASKED = {"pdl1": ']\nmarker = "A"\ntumour = "B+"\nimmune = "C+"', "study": ']\nname = "x"'}


@pytest.mark.parametrize("section", sorted({"cox" if name == "cox_covariates" else name for name in SECTIONS} - OPEN))
def test_PC1_an_unknown_key_is_refused_in_every_section(section):
    written = f"[{section}" + NAMED.get(section, ASKED.get(section, "]")) + "\nqqqqqqqqq = 1\n"
    problems = parse_settings(written if section == "study" else '[study]\nname = "x"\n' + written)[1]
    assert [problem.what.partition(";")[0] for problem in problems] == ["unknown key `qqqqqqqqq`"]


def test_PC2_a_key_given_twice_is_refused_with_its_line():
    settings, problems = parse_settings('[study]\nname = "x"\nname = "y"\n')
    assert settings is None
    assert "line 3" in problems[0].what


def test_PC6_a_decimal_comma_is_told_to_be_a_point():
    assert "decimal point" in only_problem('[segmentation]\ncell_expansion_um = "3,5"').what


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("[segmentation]\nnucleus_diameter_um = nan", "from 2 to 100"),
        ("[segmentation]\nnucleus_diameter_um = true", "a number"),
        ("[segmentation]\nnucleus_diameter_um = -8", "from 2 to 100"),
        ("[measure]\nfeatures = ['medain']", "did you mean median"),
        ("[measure]\nfeatures = ['percentile:101']", "a percentile from 0 to 100"),
        ("[measure]\nfeatures = 3", "a list of text"),
        ("[compute]\nworkers = 0", "a whole number from 1"),
        ("[compute]\nwindow = 2048.0", "a whole number"),
        ("[thresholds]\nunclear = 'withold'", "did you mean withhold"),
        ("[thresholds]\nharmonise = 'batches'", "did you mean batch"),
        ("[thresholds]\nharmonise = true", 'one of "none", "batch"'),
        ("[thresholds]\nharmonize = 'batch'", "unknown key `harmonize`; did you mean harmonise"),
        ("[regions]\nprecedence = ['tumour', 'stroma']", "each of excluded, tumour, stroma, other once"),
        ("[regions]\nclasses = { Tumor = 'tumor' }", "did you mean tumour"),
        ("[splits]\noutcome = ['landmark:12,5']", "decimal point"),
        ("[splits]\nmarker = ['given']", "no cut-off"),
        ("[splits]\ngiven = { 'CD20|tumour|density_per_mm2' = 5 }", "no split uses"),
        ("[groups]\ncolumns = [1]", "a list of text"),
        ("[cox]\ncovariates = ['age', 'age']", "each thing once"),
        ("[phenotypes]\n'a|b' = 'CD20+'", "holds |"),
        ("[clinical]\nencoding = 'latin-99'", "name of a text encoding"),
        ("[outcomes.OS]\ntime = 't'", "the key `event` is missing"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_what_is_needed(text, needed):
    assert needed in only_problem(text).what


def test_a_section_written_as_a_value_is_refused():
    _, problems = parse_settings('outcomes = 3\n[study]\nname = "x"')
    assert [problem.place for problem in problems] == ["study.toml, line 1"]
    assert "a section" in problems[0].what


def test_one_split_may_be_written_without_brackets():
    settings, _ = parse_settings('[study]\nname = "x"\n[splits]\noutcome = "landmark:12.5"\nmarker = "tertiles"')
    assert (settings.splits.outcome, settings.splits.marker) == (("landmark:12.5",), ("tertiles",))


def test_all_problems_of_the_file_are_listed_at_once():
    _, problems = parse_settings("[segmentation]\nx = 1\n[compute]\nwindow = 1\n")
    assert len(problems) == 3  # the name, x, the window


def test_the_template_is_valid_and_says_the_defaults():
    settings, problems = parse_settings(study_toml('a "quoted" näme\\'))
    assert problems == []
    assert settings == Settings(settings.study)
    assert settings.study.name == 'a "quoted" näme\\'


@pytest.mark.parametrize("glow", [(), ("AF",)])
def test_every_example_of_the_template_is_valid_when_its_mark_is_removed(glow):
    text = re.sub(r'(?m)^# (?=\[|[\w"]+( [\w"]+)* = )', "", study_toml("x", autofluorescence=glow))
    settings, problems = parse_settings(text.replace('marker = ["median"]', 'marker = ["median", "given"]'))
    assert problems == []
    assert settings.pdl1 is not None and "background" in settings.measure.features
    assert settings.phenotypes and settings.outcomes and settings.responses and settings.groups
    assert settings.cox_covariates and settings.regions.classes and settings.splits.given


def test_corrections_are_proposed_where_there_is_a_channel_of_autofluorescence_and_taken_when_its_marks_are_removed():
    text = study_toml("x", autofluorescence=["AF", "Blank\x01\x7f"])
    assert "a channel of autofluorescence (AF, Blank??): what glows by itself can look positive" in text
    assert parse_settings(text) == parse_settings(study_toml("x"))  # a proposal is none of the settings
    start, end = text.index("# [measure]"), text.index("# spillover_correction")
    settings, problems = parse_settings(text[:start] + re.sub("(?m)^# ", "", text[start:end]) + text[end:])
    assert problems == []
    assert settings.measure == Measure(("mean", "background"), "off", "on", "on")
    assert "Proposed" not in study_toml("x")


@pytest.mark.parametrize("glow", [(), ("AF",)])
def test_the_template_explains_every_key(glow):
    text = study_toml("x", autofluorescence=glow)
    keys = {field.name for field in fields(Settings)} - {"cox_covariates"}
    for part in Settings(None).__dict__.values():
        keys |= {field.name for field in fields(part)} if is_dataclass(part) else set()
    for record in (Outcome, Response, Pdl1):
        keys |= {field.name for field in fields(record)}
    missing = {key for key in keys if not re.search(rf"(?m)^(# )?(\[{key}[\].]|{key} = )", text)}
    assert missing == set()
