"""Tables for other programs (CSV, XLSX, AnnData, mcquant): read back by their own libraries."""

from __future__ import annotations

import csv
from pathlib import Path

import anndata
import numpy as np
import openpyxl
import pandas as pd
import pytest

import mihc
from mihc.errors import InputError, UsageError
from mihc.export import export_study
from mihc.exports import workbooks
from mihc.exports.annotated import plainly_named
from mihc.exports.folders import MARKER
from mihc.store import read_csv

SPREADSHEET_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


# ---- CSV and XLSX


def test_the_csv_has_every_cell_with_its_region_and_every_number_as_it_is(study, exported):
    for slide in mihc.measured_slides(study):
        cells = mihc.slide_cells(study, slide)
        back = read_csv(exported("csv") / "cells" / f"{slide}.csv")
        assert back.drop(columns="patient").astype(cells.dtypes.to_dict()).equals(cells)
        (row,) = [row for row in study.slides if row.slide == slide]
        assert set(back["patient"]) <= {row.patient}
        assert {"region", "tissue_class"} <= set(back)


def test_the_regions_are_those_of_regions_csv(study, exported):
    whole = read_csv(study.results / "regions.csv")
    assert read_csv(exported("csv") / "regions.csv").equals(whole)


def test_slides_may_be_chosen(study, tmp_path):
    slide = mihc.measured_slides(study)[1]
    folder = export_study(study, out=tmp_path / "one", slides=[slide]).folder
    assert [path.name for path in (folder / "cells").iterdir()] == [f"{slide}.csv"]
    assert set(read_csv(folder / "regions.csv")["slide"]) == {slide}


def test_the_parts_of_a_long_table_are_written_as_one(study, exported, tmp_path, monkeypatch):
    from mihc.exports import sources

    monkeypatch.setattr(sources.Source.parts, "__defaults__", (7,))
    folder = export_study(study, out=tmp_path / "parts").folder
    for path in (exported("csv") / "cells").iterdir():
        assert (folder / "cells" / path.name).read_bytes() == path.read_bytes()


def test_openpyxl_reads_every_cell_of_the_workbooks(study, exported):
    for slide in mihc.measured_slides(study):
        book = openpyxl.load_workbook(exported("xlsx") / f"{slide}.xlsx", read_only=True)
        assert book.sheetnames == ["cells", "regions"]
        header, *rows = book["cells"].iter_rows(values_only=True)
        cells = mihc.slide_cells(study, slide)
        assert list(header) == ["slide", "patient", *cells.columns[1:]]
        back = pd.DataFrame(rows, columns=header)
        assert len(back) == len(cells)
        assert back["slide"].tolist() == cells["slide"].tolist()
        assert all(isinstance(patient, str | None) for patient in back["patient"])
        for column in cells.select_dtypes("number"):
            np.testing.assert_allclose(back[column].astype(float), cells[column].astype(float), rtol=2e-15)
        for column in cells.select_dtypes("boolean"):
            assert back[column].astype("boolean").equals(cells[column])
    regions = pd.read_excel(exported("xlsx") / "regions.xlsx", dtype={"patient": str})
    assert len(regions) == len(read_csv(study.results / "regions.csv"))


def test_a_slide_with_more_cells_than_a_sheet_has_rows_is_refused_with_a_way_out(study, tmp_path, monkeypatch):
    fewest = min(len(mihc.slide_cells(study, slide)) for slide in mihc.measured_slides(study))
    monkeypatch.setattr(workbooks, "MOST_ROWS", fewest)
    with pytest.raises(InputError, match="--to csv"):
        export_study(study, to="xlsx", out=tmp_path / "book")
    assert list(tmp_path.iterdir()) == []


# ---- names from strangers

FORMULAS = ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "==x", "=cmd|' /C calc'!A0", "../../x", "a/b", "<b>", "ä µ", "."]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A study from tables whose patients, regions, markers and phenotypes have names that other programs trip over."""
    folder = tmp_path_factory.mktemp("hostile") / "study"
    folder.mkdir()
    markers = [f"{name} m" for name in FORMULAS if "|" not in name]  # a marker's name may not hold one
    (folder / "study.toml").write_text(
        '[study]\nname = "hostile"\n[phenotypes]\n"=p/q" = \'"a/b m"+\'\n"../p" = \'"<b> m"+\'\n', encoding="utf-8"
    )
    rows = [["channel", "marker", "role"], ["DAPI", "DAPI", "nuclei"], *([name, name, "marker"] for name in markers)]
    with (folder / "panel.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    with (folder / "slides.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["slide", "patient", "cells"], ["S1", "=007", "S1.csv"], ["S2", "007", "S2.csv"]])
    for slide in ("S1", "S2"):
        header = ["x_um", "y_um", "region", "tissue_class", *(f"{name}_cell_mean" for name in markers)]
        values = [
            [k, k + (slide == "S2"), name, "tumour", *range(k, k + len(markers))] for k, name in enumerate(FORMULAS)
        ]
        with (folder / f"{slide}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *values])
    lines = "".join(f'"*","{name}",3\n' for name in markers)
    (folder / "thresholds.csv").write_text("slide,marker,value\n" + lines, encoding="utf-8")
    results = mihc.run(mihc.read_study(folder))
    assert results.failed == {}
    return folder


def test_T7_no_text_of_a_csv_is_a_formula_and_every_name_comes_back(hostile, tmp_path):
    folder = export_study(mihc.read_study(hostile), out=tmp_path / "csv").folder
    looked_at = 0
    for path in folder.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                texts = [cell for cell in row if not _is_number(cell)]
                looked_at += len(texts)
                assert [text for text in texts if text.startswith(SPREADSHEET_STARTS)] == []
    assert looked_at > 300
    back = read_csv(folder / "cells" / "S1.csv")
    assert set(back["region"]) == set(FORMULAS)
    assert set(back["patient"]) == {"=007"}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_T7_no_cell_of_a_workbook_is_a_formula_and_ids_stay_text(hostile, tmp_path):
    folder = export_study(mihc.read_study(hostile), to="xlsx", out=tmp_path / "xlsx").folder
    for path in folder.glob("*.xlsx"):
        for sheet in openpyxl.load_workbook(path):
            cells = [cell for row in sheet.iter_rows() for cell in row]
            assert {cell.data_type for cell in cells} <= {"s", "n", "b"}
            texts = [cell.value for cell in cells if cell.data_type == "s"]
            assert [text for text in texts if text.startswith(SPREADSHEET_STARTS)] == []
    second = openpyxl.load_workbook(folder / "S2.xlsx")["cells"]
    assert second["B2"].value == "007" and second["B1"].value == "patient"


def test_X4_names_from_strangers_lead_to_no_file_outside_and_to_no_path_inside(hostile, tmp_path):
    before = {path for path in tmp_path.parent.rglob("*")}
    for to in ("csv", "xlsx", "anndata"):
        folder = export_study(mihc.read_study(hostile), to=to, out=tmp_path / to).folder
        wanted = {"csv": {"S1.csv", "S2.csv", "regions.csv", "cells"}, "anndata": {"S1.h5ad", "S2.h5ad"}}
        wanted["xlsx"] = {"S1.xlsx", "S2.xlsx", "regions.xlsx"}
        assert {path.name for path in folder.rglob("*")} == wanted[to] | {MARKER}
    made = {path for path in tmp_path.parent.rglob("*")} - before
    assert all(path.is_relative_to(tmp_path) for path in made)
    table = anndata.read_h5ad(tmp_path / "anndata" / "S1.h5ad")
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") for name in table.obs
    )
    assert set(table.obs["region"]) == set(FORMULAS)
    assert "phenotype_=p/q" in table.uns["mihc"]["renamed"].values()


def test_columns_that_differ_by_case_or_by_strange_letters_only_stay_apart():
    table = pd.DataFrame([[1, 2, 3, 4, 5]], columns=["a b", "A_b", "a_b_2", "__x", "/"])
    plain, renamed = plainly_named(table)
    assert plain.columns.tolist() == ["a_b", "A_b_2", "a_b_2_2", "x", "column"]
    assert renamed == {"a_b": "a b", "A_b_2": "A_b", "a_b_2_2": "a_b_2", "x": "__x", "column": "/"}


def test_slides_from_tables_have_no_pixels_to_export(hostile, tmp_path):
    for to in ("geojson", "mcquant", "spatialdata"):
        with pytest.raises(UsageError, match="no slide has an image"):
            export_study(mihc.read_study(hostile), to=to, out=tmp_path / to)


# ---- AnnData


def test_anndata_reads_values_places_and_calls(study, exported):
    for slide in mihc.measured_slides(study):
        table = anndata.read_h5ad(exported("anndata") / f"{slide}.h5ad")
        cells = mihc.slide_cells(study, slide)
        assert table.obs_names.tolist() == [f"{slide}_{cell}" for cell in cells["cell"]]
        np.testing.assert_array_equal(table.obsm["spatial"], cells[["x_um", "y_um"]])
        assert table.uns["mihc"]["spatial_unit"] == "µm"
        for marker, compartment in table.var["compartment"].items():
            np.testing.assert_array_equal(table[:, marker].X.ravel(), cells[f"{marker}_{compartment}_mean"])
            np.testing.assert_array_equal(table[:, marker].layers["cell_mean"].ravel(), cells[f"{marker}_cell_mean"])
        assert table.obs["CD3_positive"].astype("boolean").tolist() == cells["CD3_positive"].tolist()
        assert table.obs["phenotype_B_cell"].tolist() == cells["phenotype_B cell"].tolist()
        assert table.obs["region"].astype(str).tolist() == cells["region"].tolist()
        called = read_csv(study.results / "thresholds.csv").set_index(["slide", "marker"]).loc[slide, "value"]
        np.testing.assert_array_equal(table.var["threshold"].reindex(called.index), called)


# ---- mcquant


def test_mcquant_has_pixels_its_names_and_its_markers_in_order(study, exported):
    markers = pd.read_csv(exported("mcquant") / "markers.csv")
    assert list(markers.columns) == ["cycle", "marker_name"]
    for slide in mihc.measured_slides(study):
        table = pd.read_csv(exported("mcquant") / f"{slide}_cells.csv", float_precision="round_trip")
        names = markers["marker_name"].tolist()
        assert list(table.columns) == ["CellID", *names, "X_centroid", "Y_centroid", "Area"]
        cells = mihc.slide_cells(study, slide)
        nuclei = np.asarray(mihc.open_labels(mihc.slide_image(study, slide), "nuclei")[0][:])
        whole = np.asarray(mihc.open_labels(mihc.slide_image(study, slide), "cells")[0][:])
        for row in table.iloc[:: max(1, len(table) // 20)].itertuples():
            y, x = np.nonzero(nuclei == row.CellID)
            assert (row.X_centroid, row.Y_centroid) == pytest.approx((x.mean(), y.mean()), abs=1e-9)
            assert row.Area == (whole == row.CellID).sum()
        np.testing.assert_array_equal(table["CD3"], cells["CD3_cell_mean"])
