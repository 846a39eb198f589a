"""Joins lose and invent nobody: 1,000 random tables; several slides and panels of a patient; missing outcomes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_study import PANEL, draw_cells, draw_clinical, write_table_study

import mihc
from mihc.store import read_csv
from mihc.studies.joining import check_join, difference
from mihc.study import study_table

IDS = [*(f"P{number}" for number in range(12)), "001", "1E3", "NA", "TRUE", "2020-01-02", "é", "zz", "x y"]
ids = st.lists(st.sampled_from(IDS), max_size=14)


@settings(max_examples=1000)
@given(
    of_slides=ids.filter(len), clinical=st.lists(st.sampled_from(IDS), unique=True, max_size=14), share=st.floats(0, 1)
)
def test_T3_of_1000_random_tables_rows_in_are_matched_and_unmatched_and_nobody_is_invented(of_slides, clinical, share):
    slides = pd.DataFrame({"slide": [f"S{n}" for n in range(len(of_slides))], "patient": of_slides})
    regions = pd.DataFrame({
        "slide": slides["slide"], "patient": slides["patient"], "region": "a", "tissue_class": "tumour",
        "population": "CD8", "cells": 10, "positive_cells": np.arange(len(slides)) % 10, "area_mm2": 1.0,
    })  # fmt: skip
    times = pd.DataFrame({"patient": clinical, "os": np.arange(1.0, len(clinical) + 1)})
    table = study_table(regions, slides, times)
    matched = [patient for patient in table["patient"] if patient in clinical]
    unmatched = [patient for patient in table["patient"] if patient not in clinical]
    assert len(matched) + len(unmatched) == len(table) == len(set(of_slides))
    assert set(table["patient"]) == set(of_slides)
    assert table["slides"].sum() == len(slides)
    assert table["os"].notna().sum() == len(matched)
    assert dict(zip(table["patient"], table["os"].fillna(0))) == {
        patient: float(clinical.index(patient) + 1) if patient in clinical else 0.0 for patient in set(of_slides)
    }
    told = " ".join(problem.what for problem in check_join(of_slides, clinical, min_match=share))
    lonely = r"(\d+) patients? (?:with slides ha(?:s|ve) no row|ha(?:s|ve) no slide)"
    counts = [int(number) for number in re.findall(lonely, told)]
    only_slides, only_clinical = set(of_slides) - set(clinical), set(clinical) - set(of_slides)
    if matched and clinical:
        enough = len(matched) >= share * len(set(of_slides))
        assert ("only " in told) == (not enough)
        assert sorted(counts) == sorted(n for n in (len(only_slides), len(only_clinical)) if n)
    assert told.count("near-miss") == sum(bool(difference(a, b)) for a in only_slides for b in clinical)


def test_T3_the_share_that_must_match_is_enough_by_itself():
    assert not any("only " in problem.what for problem in check_join(["A", "B"], ["A", "C"], min_match=0.5))
    assert any("only 1 of 2" in problem.what for problem in check_join(["A", "B"], ["A", "C"], min_match=0.51))


def patients_of(folder: Path) -> pd.DataFrame:
    return read_csv(folder / "results" / "patients.csv", text=("patient", "best_response", "signature")).set_index(
        "patient"
    )


def test_NP43_a_replicate_slide_with_the_same_cells_under_other_bytes_moves_no_number_and_adds_no_patient(tmp_path):
    once, twice = (write_table_study(tmp_path / name) for name in ("once", "twice"))
    for number in range(1, 7):
        cells = pd.read_csv(twice / f"S{number:02}.csv")
        cells[cells.columns[::-1]].to_csv(twice / f"R{number:02}.csv", index=False, sep=",", lineterminator="\r\n")
    with (twice / "slides.csv").open("a") as slides:
        slides.writelines(f"R{number:02},P{number:02},R{number:02}.csv\n" for number in range(1, 7))
    for folder in (once, twice):
        assert mihc.run(mihc.read_study(folder), until="statistics").failed == {}
    one, two = patients_of(once), patients_of(twice)
    assert (one["slides"] == 1).all() and (two["slides"] == 2).all()
    pd.testing.assert_frame_equal(one.drop(columns="slides"), two.drop(columns="slides"), rtol=1e-12, atol=0)
    tests = [read_csv(folder / "results" / "statistics.csv") for folder in (once, twice)]
    pd.testing.assert_frame_equal(*tests, rtol=1e-9)


@pytest.fixture(scope="module")
def two_panels(tmp_path_factory) -> Path:
    """P01 to P04 have a slide of each panel, P05 of the first and P06 of the second alone; P03 has no outcome row."""
    folder = write_table_study(tmp_path_factory.mktemp("panels") / "study")
    first = "".join(f"T,{line}\n" for line in PANEL.splitlines()[1:])
    (folder / "panel.csv").write_text(
        f"panel,{PANEL.splitlines()[0]}\n{first}B,DAPI,DAPI,nuclei,nucleus\nB,CD20,CD20,marker,cell\n"
    )
    clinical = pd.read_csv(folder / "clinical.csv")
    clinical[clinical["patient"] != "P03"].to_csv(folder / "clinical.csv", index=False)
    lines = ["slide,patient,panel,cells\n"]
    for number in range(1, 7):
        name = f"S{number:02}"
        if number != 6:
            lines.append(f"{name},P{number:02},T,{name}.csv\n")
        if number != 5:
            cells = pd.read_csv(folder / f"{name}.csv").iloc[: 100 + number]
            b_cells = cells[["x_um", "y_um", "tissue_class"]].assign(
                CD20_positive=np.arange(len(cells)) % (number + 1) == 0
            )
            b_cells.astype({"CD20_positive": int}).to_csv(folder / f"B{number:02}.csv", index=False)
            lines.append(f"B{number:02},P{number:02},B,B{number:02}.csv\n")
    (folder / "slides.csv").write_text("".join(lines))
    assert mihc.run(mihc.read_study(folder), until="statistics").failed == {}
    return folder


def test_NP42_panels_of_a_patient_meet_in_one_row_and_never_cell_by_cell(two_panels):
    table = patients_of(two_panels)
    assert table.index.tolist() == [f"P{number:02}" for number in range(1, 7)]
    assert table["slides"].tolist() == [2, 2, 2, 2, 1, 1]
    drawn = draw_cells(draw_clinical(6, 5), 5)
    for number, patient in enumerate(table.index, 1):
        own, cells = table.loc[patient], drawn[f"S{number:02}"]
        cd8, cd20 = own["CD8|all|positivity_percent"], own["CD20|all|positivity_percent"]
        assert cd8 == pytest.approx(100 * cells["CD8_positive"].mean()) if number != 6 else np.isnan(cd8)
        of_b = 100 + number
        expected = 100 * -(-of_b // (number + 1)) / of_b  # of its own slide's cells, not of those of the other panel
        assert cd20 == pytest.approx(expected) if number != 5 else np.isnan(cd20)
    regions = read_csv(two_panels / "results" / "regions.csv")
    by_slide = regions.groupby("slide")["population"].agg(set)
    assert all(found == {"CD20"} if slide[0] == "B" else "CD20" not in found for slide, found in by_slide.items())


def test_NP42_a_patient_without_an_outcome_stays_and_is_in_no_test_of_it(two_panels):
    table = patients_of(two_panels)
    assert np.isnan(table.loc["P03", "pfs_months"]) and np.isfinite(table.loc["P03", "CD8|all|positivity_percent"])
    rows = read_csv(two_panels / "results" / "statistics.csv", text=("family", "split"))
    overall = rows[(rows["family"] == "Survival of all patients") & (rows["endpoint"] == "PFS")]
    assert set(overall["n"]) == {5}
    cd8 = rows[
        (rows["split"] == "continuous") & (rows["population"] == "CD8") & (rows["measure"] == "positivity_percent")
    ]
    assert set(cd8["n"]) == {4}  # of six: one has no outcome, one no slide of the panel


def test_NP41_clinical_rows_without_slides_change_no_number_of_a_run(tmp_path):
    one, more = (write_table_study(tmp_path / name) for name in ("one", "more"))
    extra = draw_clinical(9, 77).assign(patient=[f"X{number}" for number in range(9)])
    clinical = pd.concat([pd.read_csv(more / "clinical.csv"), extra])
    clinical.to_csv(more / "clinical.csv", index=False)
    for folder in (one, more):
        mihc.run(mihc.read_study(folder), until="statistics")
    for name in ("patients.csv", "statistics.csv", "regions.csv"):
        assert (one / "results" / name).read_bytes() == (more / "results" / name).read_bytes()
