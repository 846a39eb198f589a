"""HALO's .annotations: layers, holes that are siblings, shapes of two corners, and what has no area."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from region_files import HOLE, SQUARE, feature, refusal, shifted, write_geojson

from mihc.regions import read_annotations, read_regions


@pytest.fixture
def halo(tmp_path):
    def write(*layers):
        path = tmp_path / "S01.annotations"
        path.write_text("<Annotations>" + "".join(layers) + "</Annotations>", encoding="utf-8")
        return path

    return write


def layer(name, *regions):
    return (
        f'<Annotation LineColor="65535" Name="{name}" Visible="True"><Regions>{"".join(regions)}</Regions></Annotation>'
    )


def halo_region(points, kind="Polygon", negative=0, extra="", endcaps=0):
    vertices = "".join(f'<V X="{x}" Y="{y}" />' for x, y in points)
    return (
        f'<Region Type="{kind}" HasEndcaps="{endcaps}" NegativeROA="{negative}">'
        f"<Vertices>{vertices}</Vertices>{extra}</Region>"
    )


def test_AN1_a_halo_file_without_regions_is_refused(halo):
    assert "no regions" in refusal(halo(layer("Tumor")))


def test_an_open_line_of_halo_is_no_region(halo):
    wave = [(0, 0), (10, 3), (20, -2), (30, 3), (40, 0)]
    assert "open line" in refusal(halo(layer("Tumor", halo_region(wave))))
    regions, notes = read_annotations(
        halo(layer("Tumor", halo_region(wave, endcaps=1), halo_region(SQUARE))), pixel_size_um=1
    )
    assert len(regions) == 1
    assert notes == ["S01.annotations: 1 open lines left aside"]


def test_AN16_a_negative_that_nothing_holds_is_refused(halo):
    away = halo_region(shifted(HOLE, 50), negative=1)
    assert "unmatched negative" in refusal(halo(layer("Tumor", halo_region(SQUARE), away)))


def test_AN16_a_negative_is_a_hole_of_its_own_layer_only(halo):
    path = halo(
        layer("Tumor", halo_region(SQUARE), halo_region(HOLE, negative=1)), layer("Stroma", halo_region(SQUARE))
    )
    areas = {region.name: region.polygon_um.area for region in read_regions(path, pixel_size_um=1)}
    assert areas == {"Tumor": 96, "Stroma": 100}


def test_AN16_an_island_in_a_hole_stays(halo):
    island = [[2.5, 2.5], [3.5, 2.5], [3.5, 3.5], [2.5, 3.5], [2.5, 2.5]]
    path = halo(layer("Tumor", halo_region(SQUARE), halo_region(HOLE, negative=1), halo_region(island)))
    assert read_regions(path, pixel_size_um=1)[0].polygon_um.area == 97


def test_AN17_two_corners_are_a_rectangle_and_an_exact_ellipse(halo):
    corners = [(20, 10), (0, 0)]
    path = halo(layer("Box", halo_region(corners, "Rectangle")), layer("Oval", halo_region(corners, "Ellipse")))
    box, oval = read_regions(path, pixel_size_um=1)
    assert box.polygon_um.area == 200
    assert oval.polygon_um.area == pytest.approx(math.pi * 50, rel=1e-12)
    radius = np.hypot(*((shapely.get_coordinates(oval.polygon_um) - (10, 5)) / (10, 5)).T)
    assert np.abs(radius - 1).max() < 1.3e-5


@pytest.mark.parametrize("kind", ["Rectangle", "Ellipse"])
@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_AN17_a_rectangle_or_an_ellipse_of_other_than_two_corners_is_refused(halo, kind, count):
    assert f"a {kind} of {count} vertices" in refusal(halo(layer("Tumor", halo_region(SQUARE[:count], kind))))


def test_AN18_pins_rulers_and_comments_are_left_aside_with_a_count(halo):
    extras = [halo_region([(1, 1)], "Pin"), halo_region([(1, 1), (9, 9)], "Ruler"), halo_region([(1, 1)], "Pin")]
    extras += [halo_region([(1, 1), (9, 9)], "Arrow"), halo_region([(1, 1)], "Text")]
    extras += [halo_region(shifted(SQUARE, 50), endcaps=1)]  # a line, though it ends where it begins
    comment = '<Comments><Comment Author="x" Body="y" /></Comments>'
    regions, notes = read_annotations(
        halo(layer("Tumor", halo_region(SQUARE, extra=comment), *extras)), pixel_size_um=1
    )
    assert [region.polygon_um.area for region in regions] == [100]
    assert [note.removeprefix("S01.annotations: ") for note in notes] == [
        "1 arrows left aside",
        "1 comments left aside",
        "1 open lines left aside",
        "2 pins left aside",
        "1 rulers left aside",
        "1 texts left aside",
    ]
    with pytest.warns(UserWarning, match="left aside"):
        read_regions(halo(layer("Tumor", halo_region(SQUARE), extras[0])), pixel_size_um=1)


def test_AN19_two_layers_of_one_name_are_one_region(halo):
    path = halo(layer("Tumor", halo_region(SQUARE)), layer("Tumor", halo_region(shifted(SQUARE, 5))))
    (region,) = read_regions(path, pixel_size_um=1)
    assert region.polygon_um.area == 150


@pytest.mark.parametrize(
    "head", ["<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY x "y">]>', '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>']
)
def test_AN20_a_doctype_is_refused(tmp_path, head):
    path = tmp_path / "S01.annotations"
    path.write_text(f"{head}<Annotations></Annotations>")
    assert "DOCTYPE" in refusal(path)


def test_NP14_geojson_and_halo_of_one_shape_are_equal(tmp_path, halo):
    path = write_geojson(tmp_path / "S01.geojson", [feature([SQUARE, HOLE])])
    from_qupath = read_regions(path, pixel_size_um=0.325)
    from_halo = read_regions(
        halo(layer("Tumor", halo_region(SQUARE[::-1]), halo_region(HOLE, negative=1))), pixel_size_um=0.325
    )
    assert from_qupath == from_halo
