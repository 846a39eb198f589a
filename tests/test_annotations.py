"""Region files of other programs: what is read, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_files import HOLE, SQUARE, feature, refusal, shifted

from mihc.errors import AnnotationError
from mihc.regions import assign_regions, check_regions, map_classes, read_annotations, read_regions

BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


@pytest.fixture
def geojson(tmp_path):
    def write(document):
        path = tmp_path / "S01.geojson"
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return path

    return write


def test_a_square_of_ten_pixels_at_half_a_micron_is_25_square_microns(geojson):
    (region,) = read_regions(geojson(feature([SQUARE])), pixel_size_um=0.5)
    assert (region.name, region.tissue_class) == ("Tumor", "Tumor")
    assert region.area_mm2 == 25 / 1e6


def test_pixel_sizes_are_taken_as_y_x(geojson):
    (region,) = read_regions(geojson(feature([[[0, 0], [10, 0], [10, 1], [0, 1], [0, 0]]])), pixel_size_um=(0.5, 0.25))
    assert region.polygon_um.bounds == (0, 0, 2.5, 0.5)


@pytest.mark.parametrize("content", ["", "  \n", '{"type": "FeatureCollection", "features": []}', "[]"])
def test_AN1_a_file_without_regions_is_refused(geojson, content):
    assert "no regions" in refusal(geojson(content))


def test_AN2_a_list_a_feature_and_a_collection_are_the_same(geojson):
    one = feature([SQUARE])
    documents = [one, [one], {"type": "FeatureCollection", "features": [one]}]
    read = [read_regions(geojson(document), pixel_size_um=0.5) for document in documents]
    assert read[0] == read[1] == read[2]


def test_AN2_another_json_document_is_refused(geojson):
    assert "not GeoJSON" in refusal(geojson({"filename": "CMU-1.mrxs"}))


def test_AN3_a_multipolygon_keeps_its_holes(geojson):
    far = shifted(SQUARE, x=100)
    (region,) = read_regions(geojson(feature([[SQUARE, HOLE], [far]], kind="MultiPolygon")), pixel_size_um=1)
    assert region.polygon_um.area == 100 - 4 + 100


def test_AN4_a_bow_tie_is_refused_with_the_feature_and_the_point(geojson):
    message = refusal(geojson([feature([SQUARE]), feature([shifted(BOW_TIE, x=20)])]))
    assert "self-intersection at (25, 5)" in message
    assert "feature 2 (id 6423a977-ffff)" in message


def test_AN4_an_outline_that_only_touches_itself_has_one_area_and_is_read(geojson):
    touching = [[0, 0], [10, 0], [10, 10], [5, 10], [7, 5], [3, 5], [5, 10], [0, 10], [0, 0]]  # a hole by its outline
    (region,) = read_regions(geojson(feature([touching])), pixel_size_um=1)
    assert region.polygon_um.area == 100 - 10


def test_AN4_an_outline_that_goes_round_a_part_of_itself_twice_is_refused(geojson):
    twice = [[0, 0], [10, 0], [10, 10], [5, 10], [3, 5], [7, 5], [5, 10], [0, 10], [0, 0]]  # its triangle: in, or out?
    assert "ring self-intersection at (5, 10): the outline's area can be read" in refusal(geojson(feature([twice])))


@pytest.mark.parametrize(
    ("ring", "words"),
    [
        (SQUARE[:-1], "not closed"),
        (SQUARE[:3], "not closed"),
        ([[0, 0], [1, 1], [0, 0]], "an outline of 2 points"),
        ([[0, 0], [1, 1], [0, 0], [1, 1], [0, 0]], "an outline of 2 points"),
        ([], "an outline of 0 points"),
        ([[0, 0], [1e-170, 0], [0, 1e-170], [0, 0]], "zero area"),
        ([[0, 0], [5, 0], [10, 0], [0, 0]], "zero area"),
        ([[0, 0], [3, 1], [9, 3], [6, 2], [0, 0]], "zero area"),
        ([[0, 0], ["a", 0], [10, 0], [0, 0]], "vertex"),
        ([[0, 0], [True, 0], [10, 0], [0, 0]], "vertex"),
        ([[0, 0], [1e9, 0], [10, 10], [0, 0]], "no pixel"),
        ([0, 1, 2], "vertex"),
    ],
)
def test_AN5_a_ring_that_bounds_no_area_is_refused(geojson, ring, words):
    assert words in refusal(geojson(feature([ring])))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_AN6_numbers_that_are_not_finite_are_refused(geojson, number):
    text = json.dumps(feature([SQUARE])).replace("[10, 10]", f"[{number}, 10]")
    assert number in refusal(geojson(text))


def test_AN7_nesting_of_100000_is_refused_without_traceback(tmp_path):
    path = tmp_path / "S01.geojson"
    path.write_text("[" * 100_000 + "]" * 100_000)
    assert "nested" in refusal(path)
    code = f"from mihc.regions import read_regions\ntry:\n read_regions({str(path)!r}, pixel_size_um=1)\n" + (
        "except Exception as error:\n print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("AnnotationError", "", 0)


def test_AN8_unknown_classes_are_listed_with_the_line_to_add(geojson):
    features = [feature([SQUARE], "Glomerulus"), feature([shifted(SQUARE, 20)], None, name="ROI 1")]
    regions = read_regions(geojson(features), pixel_size_um=1)
    with pytest.raises(AnnotationError, match=r'"Glomerulus" = "\?", "ROI 1" = "\?"') as caught:
        map_classes(regions, {"Tumor": "tumour"})
    assert "'Glomerulus' (1 region)" in str(caught.value)


def test_AN8_a_class_is_found_exactly_then_without_case_then_among_the_common_names(geojson):
    regions = read_regions(geojson([feature([SQUARE], "TUMOR"), feature([SQUARE], "Necrosis")]), pixel_size_um=1)
    classes = {"Tumor": "other", "TUMOR": "tumour"}
    assert [region.tissue_class for region in map_classes(regions, classes)] == ["tumour", "excluded"]
    assert map_classes(regions, {"tumor": "stroma"})[0].tissue_class == "stroma"
    assert map_classes(regions, {})[0].tissue_class == "tumour"


def test_AN8_a_region_without_class_may_carry_it_in_its_name(geojson):
    regions = read_regions(geojson([feature([SQUARE], None, name="UT")]), pixel_size_um=1)
    (region,) = map_classes(regions, {"UT": "tumour"})
    assert (region.name, region.tissue_class) == ("UT", "tumour")


def test_AN8_a_class_that_mihc_does_not_have_is_refused():
    with pytest.raises(AnnotationError, match="'tumor', which is none of tumour"):
        map_classes([], {"Tumor": "tumor"})


@pytest.mark.parametrize(
    "classification", ["Tumor: CD8", {"names": ["Tumor", "CD8"], "color": [1, 2, 3]}, {"name": "Tumor: CD8"}]
)
def test_AN9_a_derived_class_is_mapped_only_by_its_own_line(geojson, classification):
    regions = read_regions(geojson(feature([SQUARE], classification)), pixel_size_um=1)
    with pytest.raises(AnnotationError, match="Tumor: CD8"):
        map_classes(regions, {"Tumor": "tumour"})
    assert map_classes(regions, {"Tumor: CD8": "tumour"})[0].tissue_class == "tumour"


def test_AN10_an_identical_annotation_counts_once_with_a_warning(geojson):
    other_start = [*SQUARE[2:], *SQUARE[1:3]]
    regions, notes = read_annotations(geojson([feature([SQUARE]), feature([other_start])]), pixel_size_um=1)
    assert [region.polygon_um.area for region in regions] == [100]
    assert len(notes) == 1
    assert "feature 2" in notes[0]


def test_AN10_one_outline_of_two_names_or_two_classes_is_no_repetition(geojson):
    features = [
        feature([SQUARE], "Tumor", name="a"),
        feature([SQUARE], "Tumor", name="b"),
        feature([SQUARE], "CD8", name="a"),
    ]
    regions, notes = read_annotations(geojson(features), pixel_size_um=1)
    assert [(one.name, one.tissue_class) for one in regions] == [("a", "Tumor"), ("b", "Tumor"), ("a", "CD8")]
    assert notes == []


def test_AN11_where_tumour_and_stroma_overlap_precedence_decides(geojson):
    features = [feature([SQUARE], "Stroma"), feature([shifted(SQUARE, 5)], "Tumor")]
    regions = map_classes(read_regions(geojson(features), pixel_size_um=1), {})
    called = assign_regions([2, 7, 12], [5, 5, 5], regions, precedence=["tumour", "stroma"])
    assert called["tissue_class"].tolist() == ["stroma", "tumour", "tumour"]


def test_AN12_a_region_more_than_one_percent_outside_is_refused(geojson):
    regions = read_regions(geojson(feature([shifted(SQUARE, x=0.1001)])), pixel_size_um=1)  # 1.001 % beyond x = 10
    with pytest.raises(AnnotationError, match=r"frame\?"):
        check_regions(regions, extent_um=(10, 10))


def test_AN12_up_to_one_percent_outside_is_cut_off_with_a_warning(geojson):
    regions = read_regions(geojson(feature([shifted(SQUARE, x=0.05)])), pixel_size_um=1)
    (kept,), (note,) = check_regions(regions, extent_um=(10, 10), place="S01")
    assert kept.polygon_um.area == pytest.approx(99.5, rel=1e-12)
    assert note.startswith('S01: region "Tumor": 0.5 %')


def test_AN12_a_region_inside_is_left_as_it_is(geojson):
    regions = read_regions(geojson(feature([SQUARE])), pixel_size_um=1)
    assert check_regions(regions, extent_um=(10, 10)) == (regions, [])


def test_AN12_the_limit_is_one_percent(geojson):
    regions = read_regions(geojson(feature([shifted(SQUARE, x=0.0999)])), pixel_size_um=1)
    assert check_regions(regions, extent_um=(10, 10))[1]


@pytest.mark.parametrize("unit", ["µm", "um", "micrometer"])
def test_AN13_coordinates_that_are_declared_to_be_microns_are_taken_as_microns(geojson, unit):
    document = {"type": "FeatureCollection", "unit": unit, "features": [feature([SQUARE])]}
    (region,) = read_regions(geojson(document), pixel_size_um=0.5)
    assert region.polygon_um.bounds == (0, 0, 10, 10)
    (region,) = read_regions(geojson(document | {"unit": "px"}), pixel_size_um=0.5)
    assert region.polygon_um.bounds == (0, 0, 5, 5)
    assert "the unit 'mm'" in refusal(geojson(document | {"unit": "mm"}))


def test_AN13_the_report_shows_the_outlines_over_the_slide_for_a_person_to_judge():
    from drawn_report import drawn_picture

    from mihc.plots.overlays import slide_layers

    picture = dataclasses.replace(drawn_picture("S01", um_per_px=8.0), positives={})
    drawn = str(slide_layers(picture, {}))
    assert "<image" in drawn
    for region in picture.regions:
        path = re.search(f'<path class="region" d="([^"]*)"[^>]*><title>{re.escape(region.name)} ', drawn)[1]
        rings = [re.findall(r"-?(?:\d+\.?\d*|\.\d+)", ring) for ring in path.split("z") if ring]
        corners = np.concatenate([np.array(ring, dtype=float).reshape(-1, 2).cumsum(axis=0) for ring in rings])
        x0, y0, x1, y1 = region.polygon_um.bounds
        assert np.allclose([*corners.min(axis=0), *corners.max(axis=0)], np.array([x0, y0, x1, y1]) / 8.0, atol=1)


@pytest.mark.parametrize(
    ("slide", "size_px", "words"),
    [
        ("S02", (20, 30), "drawn on slide S01, and this is S02"),
        ("S01", (30, 20), "drawn on an image of 30 x 20 pixels"),
    ],
)
def test_AN21_a_file_that_says_it_is_of_another_slide_is_refused(geojson, slide, size_px, words):
    said = {"mihc": {"slide": "S01", "size_px": [20, 30]}}
    path = geojson({"type": "FeatureCollection", **said, "features": [feature([SQUARE])]})
    assert len(read_annotations(path, pixel_size_um=1, slide="S01", size_px=(20, 30))[0]) == 1
    assert len(read_annotations(path, pixel_size_um=1)[0]) == 1
    with pytest.raises(AnnotationError, match=words):
        read_annotations(path, pixel_size_um=1, slide=slide, size_px=size_px)


HOSTILE_NAMES = [
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "@SUM(A1)",
    "a\nb",
    "-1+1",
    "tumour|x",
    "../../x",
    "\u202e",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_AN23_a_hostile_name_is_kept_disarmed_in_tables_and_escaped_in_pictures(geojson, tmp_path, name):
    from drawn_report import drawn_picture

    from mihc.plots.overlays import slide_layers
    from mihc.store import read_csv, write_csv

    regions = map_classes(read_regions(geojson([feature([SQUARE], name=name)]), pixel_size_um=0.5), {})
    assert [region.name for region in regions] == [name]
    table = pd.DataFrame({"region": [region.name for region in regions], "cells": [7]})
    write_csv(tmp_path / "regions.csv", table)
    cell = (tmp_path / "regions.csv").read_text(encoding="utf-8").split("\n", 1)[1].lstrip('"')
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert read_csv(tmp_path / "regions.csv")["region"].tolist() == [name]
    drawn = str(slide_layers(dataclasses.replace(drawn_picture("S01"), regions=regions, positives={}), {}))
    assert "<script" not in drawn


def test_AN23_half_a_character_of_a_name_is_replaced(geojson):
    (region,) = read_regions(geojson([feature([SQUARE], name="half \ud83d of it")]), pixel_size_um=0.5)
    assert region.name == "half \ufffd of it"
    assert region.name.encode("utf-8")  # half a character would raise


@pytest.mark.parametrize("said", [{"name": "Tumor\0one"}, {"name": "a\x1bb"}, {"classification": "Tumor\x07"}])
def test_AN23_a_control_character_in_a_name_is_refused_with_its_place(geojson, said):
    """pandas would take names that differ only after a zero as one region."""
    with pytest.raises(AnnotationError, match=r"S01\.geojson, feature 2.*holds a control character") as raised:
        read_regions(geojson([feature([SQUARE]), feature([SQUARE], **said)]), pixel_size_um=0.5)
    assert "Rename it where it was drawn" in str(raised.value)


@pytest.mark.parametrize(
    "properties", [{"objectType": "detection"}, {"objectType": "cell"}, {"object_type": "cell", "objectType": None}]
)
def test_AN14_detections_and_cells_alone_are_refused(geojson, properties):
    assert "annotations" in refusal(geojson(feature([SQUARE], **properties)))


def test_AN14_cells_are_known_by_their_nucleus_and_by_the_id_of_version_0_2(geojson):
    old = feature([SQUARE], objectType=None) | {"id": "PathCellObject"}
    assert "1 QuPath cell objects" in refusal(geojson(old))
    nucleus = feature([SQUARE]) | {"nucleusGeometry": {}}
    assert "1 QuPath cell objects" in refusal(geojson(nucleus))


def test_AN14_cells_beside_annotations_are_left_aside_with_a_count(geojson):
    features = [feature([SQUARE]), *[feature([shifted(SQUARE, 20)], objectType="cell")] * 3]
    regions, notes = read_annotations(geojson(features), pixel_size_um=1)
    assert len(regions) == 1
    assert notes == ["S01.geojson: 3 QuPath cell objects (regions are annotations) left aside"]


def test_version_0_2_of_qupath_is_read(geojson):
    old = feature([SQUARE], {"name": "Stroma", "colorRGB": -6895466}, objectType=None) | {"id": "PathAnnotationObject"}
    assert read_regions(geojson(old), pixel_size_um=1)[0].tissue_class == "Stroma"


def test_children_within_a_feature_are_regions_too(geojson):
    parent = feature([SQUARE], childObjects=[feature([HOLE], "Necrosis")])
    assert [region.name for region in read_regions(geojson(parent), pixel_size_um=1)] == ["Tumor", "Necrosis"]


def test_an_ellipse_of_qupath_has_the_area_of_an_ellipse(geojson):
    diamond = feature([[[0, 5], [10, 0], [20, 5], [10, 10], [0, 5]]])
    diamond["geometry"]["isEllipse"] = True
    (region,) = read_regions(geojson(diamond), pixel_size_um=1)
    assert region.polygon_um.area == pytest.approx(math.pi * 10 * 5, rel=1e-12)


@pytest.mark.parametrize(("kind", "coordinates"), [("Point", [1, 2]), ("LineString", [[0, 0], [5, 5]])])
def test_AN15_points_and_lines_are_refused_unless_their_class_is_ignored(geojson, kind, coordinates):
    line = feature(coordinates, kind=kind)
    assert f"a {kind} has no area" in refusal(geojson(line))
    ignored = feature(coordinates, "Ignore*", kind=kind)
    regions, notes = read_annotations(geojson([ignored, feature([SQUARE])]), pixel_size_um=1)
    assert len(regions) == 1
    assert notes == [f"S01.geojson: 1 {kind} objects of the ignored class Ignore* left aside"]


def test_files_of_other_kinds_are_refused_by_what_they_are(tmp_path):
    for name, words in [
        ("a.roi", "not an ImageJ ROI"),
        ("a.zip", "not a whole zip"),
        ("a.xml", "not XML"),
        ("a.csv", ".csv"),
    ]:
        (tmp_path / name).write_text("x")
        assert words in refusal(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refusal(tmp_path / "S01.geojson")


def test_N16_an_outline_that_crosses_itself_is_read_by_the_even_odd_rule_only_where_study_toml_asks(geojson):
    path = geojson([feature([BOW_TIE])])
    with pytest.raises(AnnotationError, match='repair = "even-odd" under'):
        read_annotations(path, pixel_size_um=1)
    (region,), (note,) = read_annotations(path, pixel_size_um=1, repair="even-odd")
    assert region.polygon_um.area == 50
    assert note.endswith(
        "self-intersection at (5, 5), read by the even-odd rule: 50 square pixels (by its outline alone 0)"
    )


def test_N16_what_an_outline_goes_around_twice_is_not_of_it(geojson):
    # a square, then from its corner a smaller one inside it the same way around
    twice = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
    (region,), _ = read_annotations(geojson([feature([twice])]), pixel_size_um=1, repair="even-odd")
    assert region.polygon_um.area == 100 - 16


def test_N16_nothing_else_is_repaired(geojson):
    for ring in (SQUARE[:-1], [[0, 0], [5, 0], [10, 0], [0, 0]]):
        with pytest.raises(AnnotationError):
            read_annotations(geojson([feature([ring])]), pixel_size_um=1, repair="even-odd")


@given(holes=st.lists(st.integers(0, 24), max_size=12, unique=True), reverse=st.booleans())
@settings(deadline=None, max_examples=100)
def test_N2_holes_are_taken_from_the_area_and_hold_no_cell(tmp_path_factory, holes, reverse):
    """A square of 50 pixels on a side with holes of 4 pixels on a grid of 5 x 5: 1,000 of its cells sit on pixels."""
    boxes = [(10 * (k % 5) + 3, 10 * (k // 5) + 3) for k in holes]
    rings = [[[x, y], [x + 4, y], [x + 4, y + 4], [x, y + 4], [x, y]] for x, y in boxes]
    shell = [[0, 0], [50, 0], [50, 50], [0, 50], [0, 0]]
    rings = [ring[::-1] if reverse else ring for ring in rings]
    path = tmp_path_factory.mktemp("n2") / "S01.geojson"
    path.write_text(json.dumps(feature([shell, *rings])))
    regions = map_classes(read_regions(path, pixel_size_um=1), {})
    assert regions[0].polygon_um.area == 2500 - 16 * len(holes)
    y, x = np.mgrid[:50, :50].reshape(2, -1) + 0.5
    assert (assign_regions(x, y, regions)["region"] == "Tumor").sum() == 2500 - 16 * len(holes)


@given(start=st.integers(0, 11), reverse=st.booleans(), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_NP12_start_vertex_and_direction_change_no_bit(tmp_path_factory, start, reverse, seed):
    random = np.random.default_rng(seed)
    angles = np.sort(random.random(12)) * 2 * math.pi
    star = [
        [float(50 + r * math.cos(a)), float(50 + r * math.sin(a))] for r, a in zip(random.uniform(9, 40, 12), angles)
    ]
    turned = star[start:] + star[:start]
    if reverse:
        turned = turned[::-1]
    path = tmp_path_factory.mktemp("np12") / "S01.geojson"
    read = []
    for ring in (star, turned):
        path.write_text(json.dumps(feature([[*ring, ring[0]]])))
        try:
            read.append(read_regions(path, pixel_size_um=0.325))
        except AnnotationError:
            read.append(None)  # angles can leave the centre outside, and the star crossing itself
    assert read[0] == read[1]


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes_are_refused_and_never_crash(tmp_path_factory, content):
    for suffix in (".geojson", ".annotations"):
        path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
        path.write_bytes(content)
        with pytest.raises(AnnotationError):
            read_regions(path, pixel_size_um=1)
