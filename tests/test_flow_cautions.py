"""What a person corrects, repeats or leaves out in a study of tables of cells, and what the results then say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from study_folders import errors_of, warnings_of, write_study

import mihc
from mihc.errors import InputError
from mihc.steps.gather import refuse_copies
from mihc.store import read_csv
from mihc.study import SlideRow

NAMED = '[study]\nname = "x"\n'
PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\n"
CALLED = "x_um,y_um,tissue_class,CD3_positive\n"


def write_tables(
    folder: Path,
    tables: dict[str, str],
    *,
    slides: str = "",
    settings: str = NAMED,
    panel: str = PANEL,
    clinical: str | None = None,
    thresholds: str | None = None,
) -> Path:
    """A study of tables of cells, by default one per patient."""
    listed = "slide,patient,cells\n" + "".join(f"{name},P{n},{name}.csv\n" for n, name in enumerate(tables, 1))
    write_study(
        folder, settings=settings, panel=panel, slides=slides or listed, clinical=clinical, thresholds=thresholds
    )
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def run(folder: Path) -> mihc.pipeline.Results:
    return mihc.run(mihc.read_study(folder))


def calls(*cells: tuple[str, int], start: int = 0) -> str:
    """A table of cells of these classes and CD3 calls."""
    return CALLED + "".join(f"{n},{n},{name},{call}\n" for n, (name, call) in enumerate(cells, start))


def test_a_corrected_patient_id_reaches_every_table(tmp_path):
    tables = {"S1": calls(("tumour", 1), ("tumour", 0)), "S2": calls(("tumour", 1), ("tumour", 1))}
    folder = write_tables(tmp_path, tables)
    run(folder)
    (folder / "slides.csv").write_text("slide,patient,cells\nS1,P3,S1.csv\nS2,P2,S2.csv\n")
    steps = run(folder).steps
    regions = read_csv(folder / "results" / "regions.csv")
    assert dict(zip(regions["slide"], regions["patient"])) == {"S1": "P3", "S2": "P2"}
    assert regions.columns[:3].tolist() == ["slide", "patient", "region"]
    assert read_csv(folder / "results" / "patients.csv")["patient"].tolist() == ["P2", "P3"]
    assert {step.why for step in steps if step.stage == "positives"} == {"reused"}  # no cell is called anew


@pytest.mark.parametrize("column", ["status", "unit", "reason"])
def test_an_event_column_may_have_the_name_of_a_column_of_words(tmp_path, column):
    tables = {f"S{n}": calls(*[("tumour", int(n < k)) for k in range(6)], start=n) for n in range(1, 7)}
    clinical = f"patient,os,{column}\n" + "".join(f"P{n},{n},{n % 2}\n" for n in range(1, 6)) + "P6,,\n"
    outcome = f'[outcomes.OS]\ntime = "os"\nevent = "{column}"\n'
    folder = write_tables(tmp_path, tables, settings=NAMED + outcome, clinical=clinical)
    assert run(folder).failed == {}
    statistics = read_csv(folder / "results" / "statistics.csv")
    curve = statistics[(statistics["endpoint"] == "OS") & (statistics["n_events"] > 0)]
    assert curve["n"].max() == 5
    assert curve["n_events"].max() == 3


PDL1 = '[pdl1]\nmarker = "PD-L1"\ntumour = "PanCK+"\nimmune = "CD3+"\n'
STAINED = "DAPI,DAPI,nuclei\nPD-L1,PD-L1,marker\nPanCK,PanCK,tumour\nCD3,CD3,marker\n"


def scored(immune_in_stroma: int = 10) -> str:
    """200 tumour cells, 50 of them PD-L1+ and one CD3+ too; then PD-L1+ T cells of the stroma."""
    rows = [("tumour", int(n < 50), 1, int(n == 0)) for n in range(200)]
    rows += [("stroma", 1, 0, 1)] * immune_in_stroma
    text = "".join(f"{n},{n},{','.join(map(str, row))}\n" for n, row in enumerate(rows))
    return "x_um,y_um,tissue_class,PD-L1_positive,PanCK_positive,CD3_positive\n" + text


def test_pdl1_is_scored_where_the_panel_shows_it_and_fails_no_other_panel(tmp_path):
    panel = "panel,channel,marker,role\n" + "".join(f"A,{line}\n" for line in STAINED.splitlines())
    panel += "B,DAPI,DAPI,nuclei\nB,PD-L1,PD-L1,marker\nB,CD8,CD8,marker\n"
    tables = {"S1": scored(), "S2": "x_um,y_um,PD-L1_positive,CD8_positive\n1,2,1,0\n3,4,0,1\n"}
    slides = "slide,patient,cells,panel\nS1,P1,S1.csv,A\nS2,P1,S2.csv,B\n"
    folder = write_tables(tmp_path, tables, slides=slides, settings=NAMED + PDL1, panel=panel)
    assert run(folder).failed == {}
    patients = read_csv(folder / "results" / "patients.csv")
    assert patients[["TPS_percent", "CPS"]].to_numpy().tolist() == [[25.0, 30.0]]


def test_a_phenotype_keeps_its_meaning_beside_the_pdl1_scores(tmp_path):
    phenotypes = '[phenotypes]\n"tumour cells" = "PanCK+ CD3-"\n"PD-L1 positive tumour cells" = "CD3+"\n'
    panel = "channel,marker,role\n" + STAINED
    folder = write_tables(tmp_path, {"S1": scored()}, settings=NAMED + phenotypes + PDL1, panel=panel)
    run(folder)
    regions = read_csv(folder / "results" / "regions.csv").groupby("population")["positive_cells"].sum()
    assert regions["tumour cells"] == 199
    assert regions["PD-L1 positive tumour cells"] == 11
    assert read_csv(folder / "results" / "patients.csv")["TPS_percent"].tolist() == [25.0]


def test_the_report_says_what_tps_and_cps_count(tmp_path):
    panel = "channel,marker,role\n" + STAINED
    folder = write_tables(tmp_path, {"S1": scored(0)}, settings=NAMED + PDL1, panel=panel)
    run(folder)
    report = (folder / "results" / "report.html").read_text()
    assert "TPS (%) = PD-L1 positive tumour cells / viable tumour cells × 100." in report
    assert "all analysed stroma, so that stroma far from the tumour raises CPS" in report
    assert "TPS and CPS are for research use only" in report


# --- thresholds ---


def table_of(folder: Path) -> pd.DataFrame:
    return read_csv(folder / "results" / "thresholds.csv").set_index(["slide", "marker"])


def test_a_threshold_for_every_slide_leaves_a_table_of_calls_as_it_is_and_says_so(tmp_path):
    measured = "x_um,y_um,tissue_class,CD3_cell_mean\n1,1,tumour,4\n2,2,tumour,5\n"
    tables = {"S1": calls(("tumour", 1), ("tumour", 0)), "S2": measured}
    folder = write_tables(tmp_path, tables, thresholds="slide,marker,value\n*,CD3,5\n")
    assert errors_of(folder, open_slides=True) == []
    assert run(folder).failed == {}
    rows = table_of(folder)
    assert rows.loc[("S1", "CD3"), ["verdict", "who", "positive_cells"]].tolist() == ["given", "the table", 1]
    assert "thresholds.csv is not used, the table has no CD3_cell_mean" in rows.loc[("S1", "CD3"), "reason"]
    assert rows.loc[("S2", "CD3"), ["verdict", "who", "positive_cells"]].tolist() == ["manual", "a person", 1]


def test_a_threshold_for_this_very_slide_needs_means(tmp_path):
    tables = {"S1": calls(("tumour", 1)), "S2": calls(("tumour", 0), start=9)}
    folder = write_tables(tmp_path, tables, thresholds="slide,marker,value\nS1,CD3,5\n")
    (problem,) = errors_of(folder, open_slides=True)
    assert "a threshold of CD3 is given, but S1.csv has no CD3_cell_mean" in problem.what
    failed = run(folder).failed
    assert list(failed) == ["S1"]
    assert "no CD3_cell_mean" in failed["S1"]


def test_manual_thresholds_are_typed_ones_and_nothing_else(tmp_path):
    panel = "channel,marker,role,threshold\nDAPI,DAPI,nuclei,\nCD3,CD3,marker,7\nCD8,CD8,marker,\n"
    table = "x_um,y_um,CD3_cell_mean,CD8_cell_mean\n" + "".join(f"{n},{n},{n},{n}\n" for n in range(10))
    called = "x_um,y_um,CD3_cell_mean,CD8_positive\n0,0,0,0\n1,1,1,1\n"
    settings = NAMED + '[thresholds]\nmethod = "manual"\n'
    folder = write_tables(tmp_path, {"S1": table, "S2": called}, settings=settings, panel=panel)
    (warning,) = (each for each in warnings_of(folder, open_slides=True) if "names no outcome" not in each.what)
    assert "no threshold of CD8 is typed for S1: it stays unknown there" in warning.what
    assert run(folder).failed == {}
    rows = table_of(folder)
    assert rows.loc[("S1", "CD3"), ["verdict", "positive_cells"]].tolist() == ["manual", 3]
    assert rows.loc[("S1", "CD8"), ["verdict", "reason"]].tolist() == ["cannot tell", "no threshold was typed"]
    assert rows.loc[("S2", "CD8"), "verdict"] == "given"
    patients = read_csv(folder / "results" / "patients.csv").set_index("patient")
    assert patients["CD8|other|positivity_percent"].isna().tolist() == [True, False]


# --- the same cells twice ---


def test_SL44_copies_of_a_table_are_refused_by_the_run_before_any_patient_has_them_twice(tmp_path):
    tables = {"S1": calls(("tumour", 1)), "S2": calls(("tumour", 0)), "S3": calls(("tumour", 1))}
    folder = write_tables(tmp_path, tables)
    assert [problem.what for problem in errors_of(folder)] == [
        "duplicate content S1=S3: S1.csv and S3.csv are the same"
    ]
    with pytest.raises(InputError, match="duplicate content S1=S3"):
        run(folder)
    assert not (folder / "results" / "patients.csv").exists()
    (folder / "slides.csv").write_text(
        "slide,patient,cells,control\nS1,P1,S1.csv,\nS2,P2,S2.csv,\nS3,,S3.csv,negative\n"
    )
    assert run(folder).failed == {}  # a control counts for nobody


def test_copies_of_a_table_of_several_slides_are_no_copies_of_a_slide(tmp_path):
    text = "slide,x_um,y_um,CD3_positive\nS1,1,1,1\nS2,2,2,0\n"
    folder = write_tables(tmp_path, {"S1": text, "S2": text})
    assert errors_of(folder, open_slides=True) == []
    assert run(folder).failed == {}
    assert read_csv(folder / "results" / "regions.csv")["positive_cells"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("scenes", "refused"),
    [
        ((("0", "A"), ("A", "A")), True),
        ((("0", "A"), ("1", "B")), False),
        ((("0", "A"), ("1", "A")), False),  # two scenes of one name
        (((None, ""), ("0", ""), ), True),
        ((("all", ""), ("1", "B")), True),
    ],
)  # fmt: skip
def test_SL44_copies_of_a_picture_are_refused_by_the_run_when_the_scene_is_the_same(scenes, refused):
    rows = [SlideRow(f"S{n}", Path(f"{n}.tif"), "P", scene=word) for n, (word, _) in enumerate(scenes)]
    stored = {f"S{n}": SimpleNamespace(key={"input": "x"}, notes={"scene": name}) for n, (_, name) in enumerate(scenes)}
    job = SimpleNamespace(
        study=SimpleNamespace(slides=rows), store=SimpleNamespace(record=lambda stage, slide: stored[slide])
    )
    records = {row.slide: SimpleNamespace(key={"cells": row.slide}, notes={"cells": 5}) for row in rows}
    if refused:
        with pytest.raises(InputError, match=r"duplicate content S0=S1: 0\.tif and 1\.tif are the same"):
            refuse_copies(job, records)
    else:
        refuse_copies(job, records)
