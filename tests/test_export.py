"""What goes out to other programs: read back by their own libraries, and nothing else touched."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import anndata
import numpy as np
import openpyxl
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import mihc
from mihc.areas.outlines import label_rings
from mihc.errors import DamagedError, InputError, OutputConflict, ResourceError, UsageError
from mihc.export import FORMATS, export_study
from mihc.exports import workbooks
from mihc.exports.annotated import plainly_named
from mihc.exports.folders import MARKER
from mihc.exports.geojson import object_id, pixels_of, polygon_px
from mihc.exports.outlines import cell_outlines, label_boxes
from mihc.regions import assign_regions, map_classes, read_annotations
from mihc.store import Store, digest_results, read_csv

SPREADSHEET_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@pytest.fixture(scope="module")
def study(finished):
    return mihc.read_study(finished)


@pytest.fixture(scope="module")
def exported(study, tmp_path_factory):
    """The folder of each format, made once."""
    made: dict[str, Path] = {}

    def folder(to: str) -> Path:
        if to not in made:
            made[to] = export_study(study, to=to, out=tmp_path_factory.mktemp("exports") / to).folder
        return made[to]

    return folder


def slides_of(study) -> list[str]:
    return mihc.measured_slides(study)


def image_of(study, slide):
    return mihc.open_image(mihc.slide_image(study, slide))


# ---- CSV and XLSX


def test_the_csv_has_every_cell_with_its_region_and_every_number_as_it_is(study, exported):
    for slide in slides_of(study):
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
    slide = slides_of(study)[1]
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
    for slide in slides_of(study):
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
    fewest = min(len(mihc.slide_cells(study, slide)) for slide in slides_of(study))
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
    for slide in slides_of(study):
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


# ---- QuPath


def test_regions_written_and_read_again_have_the_same_areas_and_the_same_cells(study, exported):
    for slide in slides_of(study):
        image, before = image_of(study, slide), mihc.slide_regions(study, slide)
        before = [region for region in before if not region.polygon_um.is_empty]
        found, notes = read_annotations(
            exported("geojson") / f"{slide}.geojson",
            pixel_size_um=image.pixel_size_um,
            slide=slide,
            size_px=image.levels[0].shape[1:],
        )
        after = map_classes(found, {})
        assert notes == []
        assert [(one.name, one.tissue_class) for one in after] == [(one.name, one.tissue_class) for one in before]
        assert [one.polygon_um.area for one in after] == [one.polygon_um.area for one in before]
        cells = mihc.slide_cells(study, slide)
        placed = assign_regions(cells["x_um"].to_numpy(), cells["y_um"].to_numpy(), after)
        assert placed["region"].tolist() == cells["region"].tolist()
        assert placed["tissue_class"].tolist() == cells["tissue_class"].tolist()


def test_every_cell_goes_to_qupath_with_its_outline_nucleus_class_and_values(study, exported):
    for slide in slides_of(study):
        features = json.loads((exported("geojson") / f"{slide}_cells.geojson").read_text(encoding="utf-8"))["features"]
        cells = mihc.slide_cells(study, slide).set_index("cell")
        size_y, size_x = image_of(study, slide).pixel_size_um
        assert sorted(int(one["properties"]["name"]) for one in features) == sorted(cells.index)
        for one in features:
            row = cells.loc[int(one["properties"]["name"])]
            whole = shapely.geometry.shape(one["geometry"])
            nucleus = shapely.geometry.shape(one["nucleusGeometry"])
            assert whole.is_valid and nucleus.is_valid
            assert whole.covers(nucleus)
            assert whole.area * size_y * size_x == pytest.approx(row["cell_area_um2"], rel=1e-12)
            assert nucleus.area * size_y * size_x == pytest.approx(row["nucleus_area_um2"], rel=1e-12)
            centre = nucleus.centroid
            assert (centre.x * size_x, centre.y * size_y) == pytest.approx((row["x_um"], row["y_um"]), abs=1e-9)
            assert one["properties"]["objectType"] == "cell"
            assert one["properties"]["measurements"]["Cell: CD3 mean"] == row["CD3_cell_mean"]
            assert one["properties"].get("classification", {}).get("color", [0, 0, 0])[2] >= 0


def test_the_class_of_a_cell_is_its_phenotypes_else_its_markers_with_name_and_colour(study, exported):
    populations = mihc.population_columns(study, slides_of(study)[0])
    seen = set()
    for slide in slides_of(study):
        cells = mihc.slide_cells(study, slide).set_index("cell")
        for one in json.loads((exported("geojson") / f"{slide}_cells.geojson").read_text("utf-8"))["features"]:
            row = cells.loc[int(one["properties"]["name"])]
            held = [name for name, column in populations.items() if row[column] is not pd.NA and row[column]]
            phenotypes = [name for name in held if name in study.settings.phenotypes]
            wanted = phenotypes or held
            told = one["properties"].get("classification")
            assert (told is None) == (not wanted)
            if told:
                assert told.get("names", [told.get("name")]) == wanted
                assert len(told["color"]) == 3 and all(0 <= part <= 255 for part in told["color"])
                seen.add(len(wanted) if not phenotypes else "phenotype")
    assert seen >= {1, "phenotype"}


def test_regions_have_classes_with_names_and_colours_and_no_plane(study, exported):
    for slide in slides_of(study):
        for one in json.loads((exported("geojson") / f"{slide}.geojson").read_text(encoding="utf-8"))["features"]:
            assert one["properties"]["objectType"] == "annotation"
            assert set(one["properties"]["classification"]) == {"name", "color"}
            assert "plane" not in one["geometry"] and one["geometry"]["type"] in ("Polygon", "MultiPolygon")


def test_ids_are_uuids_that_stay_the_same_and_differ_between_objects(study, exported, tmp_path):
    again = export_study(study, to="geojson", out=tmp_path / "again").folder
    ids = []
    for path in sorted(exported("geojson").glob("*.geojson")):
        assert (again / path.name).read_bytes() == path.read_bytes()
        ids += [one["id"] for one in json.loads(path.read_text(encoding="utf-8"))["features"]]
    assert len(set(ids)) == len(ids) > 500
    assert all(str(uuid.UUID(one)) == one for one in ids)
    assert object_id("S1", "cell", "7") != object_id("S1", "region", "7") != object_id("S2", "region", "7")


def test_the_file_of_another_slide_is_refused_when_it_comes_back(study, exported):
    one, other = slides_of(study)[:2]
    with pytest.raises(InputError, match=f"drawn on slide {one}"):
        read_annotations(exported("geojson") / f"{one}.geojson", pixel_size_um=0.5, slide=other)
    with pytest.raises(InputError, match="QuPath cell objects"):
        read_annotations(exported("geojson") / f"{one}_cells.geojson", pixel_size_um=0.5)


@given(
    px=st.lists(st.floats(0, 1e5, allow_nan=False), min_size=1, max_size=50),
    size=st.sampled_from([0.5, 0.325, 0.24934, 0.16432520108980473, 1 / 3, 2.02]),
)
@settings(max_examples=300)
def test_microns_that_were_pixels_become_the_same_microns_again(px, size):
    um = np.array(px) * size
    assert np.array_equal(pixels_of(um, size) * size, um)


@given(um=st.lists(st.floats(1e-3, 1e5, allow_nan=False), min_size=1, max_size=50), size=st.floats(0.05, 5))
@settings(max_examples=300)
def test_any_microns_become_microns_that_differ_by_their_last_digit_at_most(um, size):
    um = np.array(um)
    assert (np.abs(pixels_of(um, size) * size - um) <= np.spacing(um)).all()


def test_an_outline_in_pixels_takes_y_and_x_by_their_own_size():
    found = polygon_px(shapely.box(0, 0, 3, 8), (2.0, 0.5))
    assert found.bounds == (0, 0, 6, 4)


# ---- outlines of cells


def test_the_outlines_of_labels_by_hand():
    labels = np.array([[1, 1, 0, 3], [1, 2, 3, 0], [1, 1, 1, 0], [0, 0, 0, 1]], dtype=np.uint32)
    rings = label_rings(labels)
    assert {label: len(polygons) for label, polygons in rings.items()} == {1: 2, 2: 1, 3: 2}
    assert sorted(map(tuple, rings[2][0][0].tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert label_rings(np.zeros((3, 3), dtype=np.uint32)) == {}


@st.composite
def label_images(draw) -> np.ndarray:
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    many = draw(st.integers(1, 5))
    values = draw(st.lists(st.integers(0, many), min_size=height * width, max_size=height * width))
    return np.array(values, dtype=np.uint32).reshape(height, width)


def areas_of(rings: dict) -> dict[int, float]:
    polygons = {
        label: shapely.MultiPolygon([shapely.Polygon(polygon[0], polygon[1:]) for polygon in found])
        for label, found in rings.items()
    }
    assert all(polygon.is_valid for polygon in polygons.values())
    return {label: polygon.area for label, polygon in polygons.items()}


@given(labels=label_images())
@settings(max_examples=300)
def test_the_area_of_every_outline_is_the_number_of_its_pixels_and_it_holds_their_centres(labels):
    rings = label_rings(labels)
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    assert areas_of(rings) == dict(zip(values.tolist(), counts.tolist()))
    y, x = np.nonzero(labels)
    for label, polygons in rings.items():
        area = shapely.MultiPolygon([shapely.Polygon(polygon[0], polygon[1:]) for polygon in polygons])
        assert np.array_equal(shapely.contains_xy(area, x + 0.5, y + 0.5), labels[y, x] == label)


@given(labels=label_images(), side=st.integers(1, 9))
@settings(max_examples=200)
def test_windows_change_no_outline(labels, side):
    from unittest.mock import patch

    ids = np.append(np.unique(labels[labels > 0]), np.uint32(99))
    with patch("mihc.exports.outlines.SIDE", side):  # a setting of the reader, not a part that is stood in for
        boxes = label_boxes(labels, ids)
        found, given_ids = {}, []
        for mine, cells, nuclei in cell_outlines(labels, labels, ids):
            given_ids += ids[mine].tolist()
            for label in ids[mine].tolist():
                if label in cells:
                    assert areas_of({label: cells[label]}) == areas_of({label: nuclei[label]})
                    found[label] = cells[label]
    assert sorted(given_ids) == sorted(ids.tolist())
    assert boxes[-1].tolist() == [0, 0, 0, 0]
    whole = label_rings(labels)
    assert set(found) == set(whole)
    for label, polygons in whole.items():
        mine = [[set(map(tuple, ring.tolist())) for ring in polygon] for polygon in found[label]]
        assert all([set(map(tuple, ring.tolist())) for ring in polygon] in mine for polygon in polygons)


def test_a_cell_of_the_table_without_pixels_stops_the_export(study, finished, tmp_path):
    from mihc.store import write_cells

    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    slide = slides_of(study)[0]
    cells = mihc.slide_cells(study, slide)
    cells.loc[0, "cell"] = 4_000_000_000
    changed = mihc.read_study(folder)
    opened = Store(changed.results)
    key = opened.record("positives", slide).key
    record = opened.record("positives", slide)
    with opened.transaction("positives", key, slide) as transaction:
        for root in record.roots:
            if root.endswith(".parquet"):
                write_cells(transaction.path(root), cells)
            else:
                shutil.copy(changed.results / root, transaction.path(root))
        transaction.notes |= record.notes
    with pytest.raises(DamagedError, match="1 cells of the table have no pixels"):
        export_study(changed, to="geojson", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- mcquant


def test_mcquant_has_pixels_its_names_and_its_markers_in_order(study, exported):
    markers = pd.read_csv(exported("mcquant") / "markers.csv")
    assert list(markers.columns) == ["cycle", "marker_name"]
    for slide in slides_of(study):
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


# ---- the folder


def test_nothing_under_results_is_touched(study, exported):
    before = {path: path.stat().st_mtime_ns for path in study.results.rglob("*") if path.is_file()}
    digest = digest_results(study.results)
    for to in FORMATS:
        exported(to)
        export_study(study, to=to, out=exported(to))
    after = {path: path.stat().st_mtime_ns for path in study.results.rglob("*") if path.is_file()}
    assert {path for path in before if ".locks" not in path.parts} == {p for p in after if ".locks" not in p.parts}
    assert all(after[path] == time for path, time in before.items() if ".locks" not in path.parts)
    assert digest_results(study.results) == digest


def test_an_older_export_is_replaced_and_a_foreign_file_is_not(study, tmp_path):
    out = tmp_path / "mine"
    export_study(study, out=out)
    slide = slides_of(study)[0]
    export_study(study, to="geojson", out=out, slides=[slide])
    assert sorted(path.name for path in out.iterdir()) == [f"{slide}.geojson", f"{slide}_cells.geojson", MARKER]
    (out / "notes.docx").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputConflict, match=r"holds notes\.docx, which no export") as caught:
        export_study(study, out=out)
    assert caught.value.exit_code == 5
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize("kind", ["folder", "file", "marker"])
def test_what_no_export_wrote_is_refused(study, tmp_path, kind):
    out = tmp_path / "there"
    if kind == "file":
        out.write_text("x")
    else:
        out.mkdir()
        (out / ("slide.czi" if kind == "folder" else MARKER)).write_text("x")
    with pytest.raises(OutputConflict if kind != "marker" else DamagedError):
        export_study(study, out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_an_export_does_not_lie_in_the_results_nor_hold_them(study):
    for out in (study.results / "export", study.results, study.folder, study.folder.parent):
        with pytest.raises(UsageError, match="cannot lie in results"):
            export_study(study, out=out)


def test_an_error_half_way_leaves_the_older_export_whole(study, tmp_path, monkeypatch):
    from mihc.exports import geojson

    out = export_study(study, to="geojson", out=tmp_path / "out").folder
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(path, source):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(geojson, "write_cell_file", full)  # a full disk
    with pytest.raises(ResourceError, match="no room"):
        export_study(study, to="geojson", out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import sys, mihc, os, signal
from pathlib import Path
from mihc.stores import files
from mihc.export import export_study
steps, move = [], files.move
def deadly(source, target):
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    steps.append(target)
    move(source, target)
files.move = deadly
export_study(mihc.read_study(sys.argv[1]), out=Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("step", [0, 1])
def test_a_kill_between_the_renames_loses_nothing_and_the_same_command_goes_on(study, tmp_path, step):
    out = export_study(study, out=tmp_path / "out").folder
    before = {path.name: path.read_bytes() for path in (out / "cells").iterdir()}
    done = subprocess.run([sys.executable, "-c", KILLED, str(study.folder), str(out), str(step)], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    held = out if step == 0 else out.with_name(".out.old")
    assert {path.name: path.read_bytes() for path in (held / "cells").iterdir()} == before
    assert export_study(study, out=out).folder == out
    assert {path.name: path.read_bytes() for path in (out / "cells").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if "lock" not in path.name] == ["out"]


def test_results_that_change_meanwhile_are_not_exported(study, finished, tmp_path, monkeypatch):
    from mihc.exports import csv_tables

    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    changed = mihc.read_study(folder)
    slide, write = slides_of(study)[0], csv_tables.write_cells_csv

    def meanwhile(path, source):
        write(path, source)
        Store(changed.results).forget("positives", slide)  # as a run does that computes it anew

    monkeypatch.setattr(csv_tables, "write_cells_csv", meanwhile)
    with pytest.raises(OutputConflict, match="a run changed the results"):
        export_study(changed, out=tmp_path / "out", slides=[slide])
    assert not (tmp_path / "out").exists()


# ---- what is asked for wrongly


def test_unknown_formats_slides_and_studies_without_results_are_refused(study, drawn, tmp_path):
    with pytest.raises(UsageError, match="Write one of csv, xlsx"):
        export_study(study, to="parquet", out=tmp_path / "out")
    with pytest.raises(UsageError, match="no slide 'S99'"):
        export_study(study, out=tmp_path / "out", slides=["S99"])
    with pytest.raises(UsageError, match="Type: mihc run"):
        export_study(mihc.read_study(drawn), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_slide_without_results_is_named_and_the_others_are_exported(study, finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    slide, *others = slides_of(study)
    Store(folder / "results").forget("positives", slide)
    done = export_study(mihc.read_study(folder), out=tmp_path / "out")
    assert done.slides == tuple(others)
    assert done.notes == (f"{slide}: has no results, so it is not in the export",)


def test_the_verb_says_where_the_files_lie(study, tmp_path):
    command = [sys.executable, "-m", "mihc", "export", str(study.folder), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--to", "mcquant"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    slides = slides_of(study)
    assert done.stdout == f"wrote {tmp_path / 'out'}: {len(slides)} slides as mcquant\n"
    refused = subprocess.run([*command, "--to", "tiff"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
