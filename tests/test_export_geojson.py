"""Regions and cells for QuPath, and the outlines that they are drawn with."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import mihc
from mihc.areas.outlines import label_rings
from mihc.errors import DamagedError, InputError
from mihc.export import export_study
from mihc.exports.geojson import object_id, pixels_of, polygon_px
from mihc.exports.outlines import cell_outlines, label_boxes
from mihc.regions import assign_regions, map_classes, read_annotations
from mihc.store import Store

# ---- QuPath


def test_regions_written_and_read_again_have_the_same_areas_and_the_same_cells(study, exported):
    for slide in mihc.measured_slides(study):
        image, before = mihc.open_image(mihc.slide_image(study, slide)), mihc.slide_regions(study, slide)
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
    for slide in mihc.measured_slides(study):
        features = json.loads((exported("geojson") / f"{slide}_cells.geojson").read_text(encoding="utf-8"))["features"]
        cells = mihc.slide_cells(study, slide).set_index("cell")
        size_y, size_x = mihc.open_image(mihc.slide_image(study, slide)).pixel_size_um
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
    populations = mihc.population_columns(study, mihc.measured_slides(study)[0])
    seen = set()
    for slide in mihc.measured_slides(study):
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
    for slide in mihc.measured_slides(study):
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
    one, other = mihc.measured_slides(study)[:2]
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
    slide = mihc.measured_slides(study)[0]
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
