"""The files of a study as tables that people edit: what is typed is kept, and what is meant is what is read."""

from __future__ import annotations

import stat
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import InputError
from mihc.studies.template import study_toml
from mihc.studies.toml_writing import with_key, with_table
from mihc.study import (
    Sheet,
    read_classes,
    read_phenotypes,
    read_sheet,
    write_classes,
    write_phenotypes,
    write_sheet,
)

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
SQUARE = '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0,0],[9,0],[9,9],[0,9],[0,0]]]},'


# ---- study.toml


def test_a_key_is_changed_and_its_comment_stays():
    text = '[regions]\nsource = "both"     # where they come from\nrepair = "none"\n'
    after = with_key(text, "regions", "source", "classifier")
    assert after == '[regions]\nsource = "classifier"     # where they come from\nrepair = "none"\n'


def test_a_key_is_added_below_its_section_and_a_section_at_the_end():
    assert with_key('[study]\nname = "a"\n', "study", "note", "b") == '[study]\nnote = "b"\nname = "a"\n'
    added = with_key('[study]\nname = "a"\n', "regions", "classes", {"Tumor": "tumour", "a b": "other"})
    assert added == '[study]\nname = "a"\n\n[regions]\nclasses = { Tumor = "tumour", "a b" = "other" }\n'


def test_a_value_of_several_lines_is_one_value():
    text = (
        "[regions]\nclasses = {}\nprecedence = [  # the first wins\n  'excluded',\n  'tumour', # ]\n]\nband_um = 20\n"
    )
    assert with_key(text, "regions", "precedence", "none").count("\n") == 4
    assert tomllib.loads(with_key(text, "regions", "precedence", "none"))["regions"]["band_um"] == 20


@given(entries=st.dictionaries(WORDS, WORDS, max_size=4), more=st.dictionaries(WORDS, WORDS, max_size=4))
def test_what_is_written_is_what_is_read_whatever_it_is_called(entries, more):
    text = study_toml("a study")
    first = with_table(text, "phenotypes", entries)
    again = with_table(first, "phenotypes", more)
    assert tomllib.loads(first)["phenotypes"] == entries and tomllib.loads(again)["phenotypes"] == more
    for line in text.splitlines():
        assert line in again.splitlines()  # every explanation stays
    classes = with_key(again, "regions", "classes", entries)
    assert tomllib.loads(classes)["regions"]["classes"] == entries


@pytest.mark.parametrize(
    "text", ['regions = { source = "both" }\n', 'regions.source = "both"\n', '["regions"]\nsource = "both"\n']
)
def test_a_file_written_in_a_way_of_its_own_is_refused_and_not_spoilt(text):
    with pytest.raises(InputError, match="cannot be changed here"):
        with_key(text, "regions", "source", "classifier")


def test_what_is_no_toml_is_refused():
    with pytest.raises(InputError, match="not valid TOML"):
        with_key("[regions\n", "regions", "source", "both")


# ---- the folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.toml").write_text(study_toml("a study"))
    (tmp_path / "annotations").mkdir()
    return tmp_path


def test_a_table_is_read_and_written_as_it_was_typed(folder):
    (folder / "slides.csv").write_text('slide,patient\n001,"Doe, J"\n1E3,NA\n')
    sheet = read_sheet(folder, "slides.csv")
    assert sheet == Sheet("slides.csv", ("slide", "patient"), (("001", "Doe, J"), ("1E3", "NA")))
    write_sheet(folder, sheet)
    assert (folder / "slides.csv").read_text() == 'slide,patient\n001,"Doe, J"\n1E3,NA\n'


def test_a_key_to_the_patients_stays_its_owners(folder):
    (folder / "slides.csv").write_text("slide,patient\nS001,7\n")
    (folder / "slides.csv").chmod(0o600)
    write_sheet(folder, read_sheet(folder, "slides.csv"))
    assert stat.S_IMODE((folder / "slides.csv").stat().st_mode) == 0o600


def test_a_table_that_cannot_be_read_is_told_in_words(folder):
    with pytest.raises(InputError, match="does not exist"):
        read_sheet(folder, "panel.csv")
    (folder / "panel.csv").write_text("channel,marker\nDAPI\n")
    with pytest.raises(InputError, match="line 2"):
        read_sheet(folder, "panel.csv")


def test_classes_of_the_annotations_are_listed_with_what_they_mean(folder):
    for name in ("Tumor", "Nest"):
        (folder / "annotations" / f"{name}.geojson").write_text(
            SQUARE + f'"properties": {{"classification": {{"name": "{name}"}}}}}}'
        )
    (folder / "annotations" / "broken.geojson").write_text("{")
    assert read_classes(folder) == {"Nest": "", "Tumor": "tumour"}
    write_classes(folder, {"Nest": "other", "Tumor": "tumour", "Unsaid": ""})
    assert tomllib.loads((folder / "study.toml").read_text())["regions"]["classes"] == {
        "Nest": "other",
        "Tumor": "tumour",
    }
    assert read_classes(folder) == {"Nest": "other", "Tumor": "tumour"}


def test_classes_in_a_section_of_their_own_are_changed_there(folder):
    settings = folder / "study.toml"
    settings.write_text(settings.read_text() + '\n[regions.classes]\nNest = "other"\n')
    write_classes(folder, {"Nest": "tumour"})
    assert read_classes(folder) == {"Nest": "tumour"}
    assert '[regions.classes]\nNest = "tumour"\n' in settings.read_text()


def test_kinds_of_cells_keep_their_order(folder):
    kinds = {"T cell": "CD3+", "B cell": "CD20+ & !CD3+", "proliferating": '"B cell" & Ki67+'}
    write_phenotypes(folder, kinds)
    assert list(read_phenotypes(folder).items()) == list(kinds.items())
