from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_folders import write_study

from mihc.errors import StudyProblems
from mihc.panel import Panel, PanelRow
from mihc.study import check_study, given_values, read_cell_table, read_study

PANEL = Panel(
    "",
    (
        PanelRow("0", "DAPI", "nuclei", "nucleus", None, "0000FF"),
        PanelRow("1", "CD20", "marker", "cell", None, "00FF00"),
        PanelRow("2", "Ki67", "marker", "nucleus", None, "FF0000"),
    ),
)
CELLS = (
    "slide,cell,x_um,y_um,tissue_class,CD20_positive,Ki67_nucleus_mean\n"
    "S1,7,1.5,2,tumour,1,100.25\n"
    "S1,9,3,4.5,stroma,0,20\n"
    "S2,7,5,6,tumour,,\n"
)


def written(folder: Path, text: str = CELLS) -> Path:
    path = folder / "cells.csv"
    path.write_text(text)
    return path


def problems_of(folder: Path, text: str) -> str:
    with pytest.raises(StudyProblems) as raised:
        read_cell_table(written(folder, text), PANEL, slide="S1")
    assert raised.value.exit_code == 3
    return str(raised.value)


def test_a_table_of_cells_read_by_hand(tmp_path):
    cells = read_cell_table(written(tmp_path), PANEL, slide="S1")
    assert cells["slide"].tolist() == ["S1", "S1"]
    assert cells["cell"].tolist() == [7, 9]
    assert cells["cell"].dtype == np.uint32
    assert cells["x_um"].tolist() == [1.5, 3.0]
    assert cells["y_um"].tolist() == [2.0, 4.5]
    assert cells["tissue_class"].tolist() == ["tumour", "stroma"]
    assert cells["region"].tolist() == ["tumour", "stroma"]
    assert cells["CD20_positive"].tolist() == [True, False]
    assert cells["Ki67_nucleus_mean"].tolist() == [100.25, 20.0]
    assert cells["flags"].tolist() == [0, 0]


def test_calls_are_nullable_and_as_they_are_given(tmp_path):
    text = "x_um,y_um,CD20_positive,Ki67_positive,phenotype_B cell\n" + "".join(
        f"{n},1,{call},0,{call}\n" for n, call in enumerate(["1", "TRUE", "0", "false", "", "1.0"])
    )
    cells = read_cell_table(written(tmp_path, text), PANEL, slide="S1", phenotypes=["B cell"])
    for column in ("CD20_positive", "phenotype_B cell"):
        assert cells[column].dtype == "boolean"
        assert cells[column].tolist() == [True, True, False, False, pd.NA, True]


def test_what_is_not_given_is_numbered_and_other(tmp_path):
    text = "x_um,y_um,CD20_positive,Ki67_positive\n1,1,1,0\n2,2,0,0\n"
    cells = read_cell_table(written(tmp_path, text), PANEL, slide="S1")
    assert cells["cell"].tolist() == [1, 2]
    assert cells["tissue_class"].tolist() == ["other", "other"]
    assert cells["region"].tolist() == ["other", "other"]


@pytest.mark.parametrize("name", ["cells.parquet", "cells.csv.gz"])
def test_parquet_and_packed_tables_read_the_same(tmp_path, name):
    expected = read_cell_table(written(tmp_path), PANEL, slide="S1")
    if name.endswith("parquet"):
        expected.to_parquet(tmp_path / name)
    else:
        expected.to_csv(tmp_path / name, index=False)
    pd.testing.assert_frame_equal(read_cell_table(tmp_path / name, PANEL, slide="S1"), expected)


def test_a_table_of_no_cells_is_a_table(tmp_path):
    cells = read_cell_table(written(tmp_path, "x_um,y_um,CD20_positive,Ki67_positive\n"), PANEL, slide="S1")
    assert len(cells) == 0
    assert cells["CD20_positive"].dtype == "boolean"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x_um,CD20_positive,Ki67_positive\n1,1,1\n", "y_um: the column is missing"),
        ("x_um,y_um,CD20_positive\n1,1,1\n", "neither Ki67_positive nor Ki67_nucleus_mean"),
        ("x_um,y_um,CD20_positive,Ki67_positive\n1,a,1,1\n", "1 cells are no number, first 'a' in row 1"),
        ("x_um,y_um,CD20_positive,Ki67_positive\n1,,1,1\n", "y_um: 1 cells are no number"),
        ("x_um,y_um,CD20_positive,Ki67_positive\n1,1,+,1\n", "unknown calls '+'"),
        ("x_um,y_um,CD20_positive,Ki67_positive,tissue_class\n1,1,1,1,Tumor\n", "unknown: 'Tumor'"),
        ("cell,x_um,y_um,CD20_positive,Ki67_positive\n1,1,1,1,1\n1,2,2,1,1\n", "1 cell ids are there twice"),
        ("cell,x_um,y_um,CD20_positive,Ki67_positive\n0,1,1,1,1\n", "no whole number from 1"),
        ("x_um,y_um,CD20_positive,Ki67_positive,CD2O_positive\n1,1,1,1,1\n", "did you mean CD20_positive"),
        ("slide,x_um,y_um,CD20_positive,Ki67_positive\ns1,1,1,1,1\n", "0 of 1 cells are of slide 'S1'"),
        ("x_um;y_um\n1;1\n", "found ';'"),
        ("", "cannot be read as a table of cells"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, text, what):
    assert what in problems_of(tmp_path, text)


def test_a_study_may_hold_tables_of_cells_instead_of_pictures(tmp_path):
    slides = "slide,cells,patient\nS1,cells.csv,P1\nS2,cells.csv,P2\n"
    folder = write_study(tmp_path / "study", slides=slides, settings='[study]\nname = "x"\n', clinical=None)
    written(folder, CELLS.replace("tumour,,", "tumour,1,5"))
    assert ["names no outcome" in problem.what for problem in check_study(folder)] == [True]
    assert [row.cells for row in read_study(folder).slides] == [folder / "cells.csv"] * 2
    written(folder, CELLS.replace("S2,", "S3,"))
    assert "0 of 3 cells are of slide 'S2'" in check_study(folder)[0].what


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_one_table_of_cells_for_two_slides_needs_a_column_that_divides_it(tmp_path, suffix):
    slides = f"slide,cells,patient\nS1,cells.{suffix},P1\nS2,cells.{suffix},P1\n"
    folder = write_study(tmp_path / "study", slides=slides, settings='[study]\nname = "x"\n', clinical=None)
    table = pd.DataFrame({"x_um": [1.0], "y_um": [1.0], "CD20_positive": [1], "Ki67_positive": [0]})
    table.to_csv(folder / "cells.csv", index=False)
    table.to_parquet(folder / "cells.parquet")
    with pytest.raises(StudyProblems, match=r"is the table of slide S1 too, and has no column slide"):
        read_study(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_with_zero_bytes_is_refused_since_regions_would_merge(tmp_path, packed):
    text = b"x_um,y_um,region,CD20_positive,Ki67_positive\n1,1,a\0b,1,1\n2,2,a\0c,1,1\n"
    path = tmp_path / ("cells.csv.gz" if packed else "cells.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(StudyProblems, match="it holds zero bytes"):
        read_cell_table(path, PANEL, slide="S1")


@pytest.mark.parametrize("character", ["\0", "\x1b"])
def test_a_region_with_a_control_character_in_its_name_is_refused(tmp_path, character):
    table = pd.DataFrame({"x_um": [1.0], "y_um": [1.0], "CD20_positive": [1], "Ki67_positive": [0]})
    table.assign(region=f"a{character}b").to_parquet(tmp_path / "cells.parquet")
    with pytest.raises(StudyProblems, match="holds a control character"):
        read_cell_table(tmp_path / "cells.parquet", PANEL, slide="S1")


def test_numbers_are_the_nearest_whatever_the_kind_of_file(tmp_path):
    values = np.random.default_rng(0).random(2000) * 1000
    table = pd.DataFrame({"x_um": values, "y_um": values, "CD20_positive": 1, "Ki67_nucleus_mean": values})
    for name in ("cells.csv", "cells.csv.gz", "cells.parquet"):
        table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_csv(tmp_path / name, index=False)
        cells = read_cell_table(tmp_path / name, PANEL, slide="S1")
        np.testing.assert_array_equal(cells["Ki67_nucleus_mean"], values)


@pytest.mark.parametrize("line", ["1,5,2,1,1", "1,2,1"])
def test_T5_a_line_of_another_width_is_refused_and_no_column_moves(tmp_path, line):
    """As a decimal comma without quotes makes it: pandas alone would take the first column for row names."""
    what = problems_of(tmp_path, f"x_um,y_um,CD20_positive,Ki67_positive\n{line}\n{line}\n")
    assert "cannot be read as a table of cells" in what
    assert "Expected 4 columns, got" in what


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    assert "'x_um' is there twice" in problems_of(tmp_path, "x_um,x_um,y_um,CD20_positive,Ki67_positive\n1,2,3,1,1\n")


def test_words_that_look_missing_stay_words_and_a_line_end_within_quotes_is_none(tmp_path):
    text = "x_um,y_um,region,CD20_positive,Ki67_positive,note\n" + "".join(
        f'{n},1,{name},1,0,"two\nlines"\n' for n, name in enumerate(["NA", "None", "", "null", "01"])
    )
    cells = read_cell_table(written(tmp_path, text), PANEL, slide="S1")
    assert cells["region"].tolist() == ["NA", "None", "other", "null", "01"]
    assert cells["cell"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("blank", ["", "NA", " nan ", "<NA>"])
def test_a_blank_number_is_not_a_number_and_is_no_problem(tmp_path, blank):
    text = f"x_um,y_um,CD20_positive,Ki67_nucleus_mean\n1,1,1, 2.5\n1,1,1,{blank}\n"
    cells = read_cell_table(written(tmp_path, text), PANEL, slide="S1")
    np.testing.assert_array_equal(cells["Ki67_nucleus_mean"], [2.5, np.nan])


def test_for_thresholds_only_the_means_are_read_and_yet_every_problem_is_told(tmp_path):
    cells = read_cell_table(written(tmp_path), PANEL, slide="S1", means_only=True)
    assert list(cells) == ["tissue_class", "Ki67_nucleus_mean"]
    assert cells["Ki67_nucleus_mean"].tolist() == [100.25, 20.0]
    folder = write_study(
        tmp_path / "s", slides="slide,cells,patient\nS1,cells.csv,P1\n", settings='[study]\nname = "x"\n', clinical=None
    )
    written(folder, "x_um,y_um,CD20_positive,Ki67_nucleus_mean\n1,b,1,c\n")
    study = read_study(folder)
    with pytest.raises(StudyProblems) as raised:
        given_values(study, study.slides[0])
    assert len(raised.value.problems) == 2
