"""ASAP's XML: what is read, and what is refused with which words."""

from __future__ import annotations

import pytest
from region_files import asap_annotation, write_asap

from mihc.errors import AnnotationError
from mihc.regions import map_classes, read_annotations, read_regions

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def refusal(path) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path, pixel_size_um=1)
    assert caught.value.place.startswith(path.name)
    return str(caught.value)


def only(path):
    (region,) = read_regions(path, pixel_size_um=1)
    return region


def test_an_outline_of_asap_is_closed_by_its_last_vertex_and_has_the_class_of_its_group(tmp_path):
    region = only(write_asap(tmp_path / "S01.xml", asap_annotation(SQUARE, group="metastasis")))
    assert (region.name, region.tissue_class, region.polygon_um.area) == ("metastasis", "metastasis", 100)


@pytest.mark.parametrize("group", ["_0", "Tumor", "metastasis", "0"])
def test_the_groups_of_camelyon_are_mapped_in_study_toml(tmp_path, group):
    regions = read_regions(write_asap(tmp_path / "S01.xml", asap_annotation(SQUARE, group=group)), pixel_size_um=1)
    assert map_classes(regions, {group: "tumour"})[0].tissue_class == "tumour"


def test_a_name_that_a_person_gave_is_the_regions_and_one_that_asap_gave_is_not(tmp_path):
    away = [[x + 20, y] for x, y in SQUARE]
    path = write_asap(
        tmp_path / "S01.xml", asap_annotation(SQUARE, name="Annotation 7"), asap_annotation(away, name="core 1")
    )
    assert [region.name for region in read_regions(path, pixel_size_um=1)] == ["Tumor", "core 1"]
    alone = write_asap(tmp_path / "S01.xml", asap_annotation(SQUARE, group="None", name="Tumor"))
    assert (only(alone).name, only(alone).tissue_class) == ("Tumor", "")


def test_vertices_are_taken_in_the_order_that_they_state(tmp_path):
    shuffled = asap_annotation([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]], orders=[0, 2, 1, 3])
    assert only(write_asap(tmp_path / "S01.xml", shuffled)).polygon_um.area == 100
    assert "Order" in refusal(write_asap(tmp_path / "S01.xml", asap_annotation(SQUARE, orders=[0, 1, 1, 2])))


@pytest.mark.parametrize("kind", ["Dot", "PointSet", "Measurement"])
def test_AN15_dots_and_measurements_of_asap_are_refused_unless_their_group_is_ignored(tmp_path, kind):
    path = tmp_path / "S01.xml"
    assert f"a {kind} has no area" in refusal(write_asap(path, asap_annotation([[1, 1], [2, 2]], kind=kind)))
    ignored = asap_annotation([[1, 1], [2, 2]], kind=kind, group="Ignore*")
    regions, notes = read_annotations(write_asap(path, asap_annotation(SQUARE), ignored), pixel_size_um=1)
    assert len(regions) == 1
    assert notes == [f"S01.xml: 1 {kind} objects of the ignored group Ignore* left aside"]


def test_a_spline_is_read_through_its_points_and_that_is_said(tmp_path):
    regions, notes = read_annotations(
        write_asap(tmp_path / "S01.xml", asap_annotation(SQUARE, kind="Spline")), pixel_size_um=1
    )
    assert regions[0].polygon_um.area == 100
    assert notes == ["S01.xml: 1 splines taken as polygons through their points, as in ASAP's masks"]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (asap_annotation(BOW_TIE, name="Annotation 3"), "annotation 1 (Annotation 3): self-intersection at (5, 5)"),
        (asap_annotation([[0, 0], [1, 1]]), "at least 3"),
        (asap_annotation([]), "at least 3"),
        (asap_annotation([[0, 0], [5, 0], [10, 0]]), "area"),
        (asap_annotation([[0, 0], ["x", 0], [10, 0]]), "not a number"),
        (asap_annotation([[0, 0], ["nan", 0], [10, 0]]), "no pixel"),
        (asap_annotation([[0, 0], ["1e999", 0], [10, 0]]), "no pixel"),
        (asap_annotation(SQUARE, kind="None"), "type 'None' is unknown"),
        ("", "no regions"),
    ],
)
def test_AN4_AN5_AN6_what_bounds_no_area_in_an_asap_file_is_refused(tmp_path, annotation, words):
    assert words in refusal(write_asap(tmp_path / "S01.xml", annotation))


def test_AN20_a_doctype_in_an_asap_file_is_refused(tmp_path):
    path = write_asap(tmp_path / "S01.xml", asap_annotation(SQUARE))
    path.write_text('<!DOCTYPE a [<!ENTITY x "y">]>' + path.read_text().split("\n", 1)[1])
    assert "DOCTYPE" in refusal(path)


def test_an_xml_of_another_program_is_refused(tmp_path):
    (tmp_path / "S01.xml").write_text("<Annotations><Annotation/></Annotations>")
    assert "not an ASAP file" in refusal(tmp_path / "S01.xml")


@pytest.mark.parametrize("name", ["S01.xml", "S01.annotations"])
def test_AN7_xml_nested_100000_deep_is_refused_without_traceback(tmp_path, name):
    (tmp_path / name).write_text("<a>" * 100_000 + "</a>" * 100_000)
    assert "not" in refusal(tmp_path / name)
