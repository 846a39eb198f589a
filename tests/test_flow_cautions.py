"""What a person corrects, repeats or leaves out in a study of tables of cells, and what the results then say."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_folders import write_study

import mihc
from mihc.store import read_csv

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
    tables = {f"S{n}": calls(*[("tumour", int(n < k)) for k in range(6)]) for n in range(1, 7)}
    clinical = f"patient,os,{column}\n" + "".join(f"P{n},{n},{n % 2}\n" for n in range(1, 6)) + "P6,,\n"
    outcome = f'[outcomes.OS]\ntime = "os"\nevent = "{column}"\n'
    folder = write_tables(tmp_path, tables, settings=NAMED + outcome, clinical=clinical)
    assert run(folder).failed == {}
    statistics = read_csv(folder / "results" / "statistics.csv")
    curve = statistics[(statistics["endpoint"] == "OS") & (statistics["n_events"] > 0)]
    assert curve["n"].max() == 5
    assert curve["n_events"].max() == 3
