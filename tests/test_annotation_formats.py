"""ImageJ ROI, RoiSet.zip and ASAP XML: by hand, against roifile, and one shape in every program's writing."""

from __future__ import annotations

import math
import random
import stat
import struct
import zipfile

import numpy as np
import pytest
import roifile
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from region_files import (
    SQUARE,
    asap_annotation,
    declared_count,
    feature,
    refusal,
    roi_bytes,
    roi_composite,
    roi_polygon,
    stars,
    write_asap,
    write_geojson,
    write_halo,
    zip_with_name,
    zipped,
)

from mihc.annotations import archive
from mihc.errors import AnnotationError
from mihc.regions import map_classes, read_annotations, read_regions

HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
KIND, SUBTYPE = roifile.ROI_TYPE, roifile.ROI_SUBTYPE


@pytest.fixture
def roi(tmp_path):
    def write(content: bytes, name="S01.roi"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def only(path):
    (region,) = read_regions(path, pixel_size_um=1)
    return region


# ---- ImageJ


@pytest.mark.parametrize("kind", [KIND.POLYGON, KIND.FREEHAND, KIND.TRACED])
def test_a_polygon_of_imagej_has_its_vertices_at_pixel_corners(roi, kind):
    region = only(roi(roi_polygon([[3, 4], [13, 4], [13, 9], [3, 9], [3, 4]], kind=kind)))
    assert (region.name, region.tissue_class) == ("Tumor", "Tumor")
    assert region.polygon_um.bounds == (3, 4, 13, 9)
    assert region.polygon_um.area == 50


def test_sub_pixel_vertices_are_taken_as_they_are_and_reach_over_large_slides(roi):
    ring = [[100000.25, 4.5], [100010.25, 4.5], [100010.25, 9.5], [100000.25, 9.5], [100000.25, 4.5]]
    assert only(roi(roi_polygon(ring))).polygon_um.bounds == (100000.25, 4.5, 100010.25, 9.5)


def test_a_rectangle_lies_between_its_bounds(roi):
    found = only(roi(roi_bytes(roitype=KIND.RECT, left=2, top=3, right=12, bottom=8, name="a")))
    assert found.polygon_um.bounds == (2, 3, 12, 8)
    assert found.polygon_um.area == 50
    whole = {"options": roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION, "left": 2, "top": 3, "right": 12, "bottom": 8}
    sub = roi_bytes(roitype=KIND.RECT, name="a", xd=2.5, yd=3.25, widthd=9.5, heightd=4.5, **whole)
    assert only(roi(sub)).polygon_um.bounds == (2.5, 3.25, 12, 7.75)


def test_coordinates_below_minus_5000_are_those_beyond_32767(roi):
    far = roi_bytes(roitype=KIND.RECT, left=50000 - 65536, top=3, right=50010 - 65536, bottom=8, name="a")
    assert only(roi(far)).polygon_um.bounds == (50000, 3, 50010, 8)
    assert only(roi(roi_bytes(roitype=KIND.RECT, left=-7, top=-3, right=3, bottom=8))).polygon_um.bounds[0] == -7


def test_an_oval_has_the_area_of_an_ellipse(roi):
    found = only(roi(roi_bytes(roitype=KIND.OVAL, left=0, top=0, right=20, bottom=10, name="a")))
    assert found.polygon_um.area == pytest.approx(math.pi * 10 * 5, rel=1e-12)


def test_a_turned_ellipse_and_a_turned_rectangle_have_their_area_and_their_axis(roi):
    # the long axis from (10, 10) to (40, 50) has 50 pixels; the ellipse's other axis is half of it, the box is 6 wide
    ends = {"x1": 10, "y1": 10, "x2": 40, "y2": 50}
    half = struct.unpack(">2B", struct.pack(">f", 0.5)[:2])
    ellipse = roi_bytes(
        roitype=KIND.FREEHAND, subtype=SUBTYPE.ELLIPSE, name="a", arrow_style_or_aspect_ratio=half[0],
        arrow_head_size=half[1], **ends,
    )  # fmt: skip
    found = only(roi(ellipse)).polygon_um
    assert found.area == pytest.approx(math.pi * 25 * 12.5, rel=1e-6)
    assert found.distance(shapely.Point(10, 10)) < 1e-3
    six = struct.unpack(">2B", struct.pack(">f", 6.0)[:2])
    tilted = roi_bytes(
        roitype=KIND.FREEHAND, subtype=SUBTYPE.ROTATED_RECT, name="a", arrow_style_or_aspect_ratio=six[0],
        arrow_head_size=six[1], **ends,
    )  # fmt: skip
    corners = [[10 - 2.4, 10 + 1.8], [40 - 2.4, 50 + 1.8], [40 + 2.4, 50 - 1.8], [10 + 2.4, 10 - 1.8]]
    assert only(roi(tilted)).polygon_um.symmetric_difference(shapely.Polygon(corners)).area < 1e-9


def test_a_rectangle_with_round_corners_lacks_what_the_corners_lack(roi):
    fields = {"left": 100, "top": 50, "right": 130, "bottom": 70, "rounded_rect_arc_size": 10}
    found = only(roi(roi_bytes(roitype=KIND.RECT, name="a", **fields))).polygon_um
    assert found.area == pytest.approx(30 * 20 - (4 - math.pi) * 25, rel=1e-5)
    assert np.allclose(found.bounds, (100, 50, 130, 70), atol=1e-3)


def test_a_composite_is_filled_by_the_even_odd_rule(roi):
    away = [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]
    found = only(roi(roi_composite([SQUARE, HOLE, away]))).polygon_um
    assert found.area == 100 - 4 + 100
    overlapping = [[x + 5, y] for x, y in SQUARE]
    assert only(roi(roi_composite([SQUARE, overlapping]))).polygon_um.area == 100


def test_the_curves_of_a_composite_follow_their_circle(roi):
    # four cubic curves with the usual control points make a circle of radius 10 to 3e-4
    k, c = 10 * 0.5522847498, 50
    path = [0, c + 10, c]
    for turn in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        a, b = turn
        points = [(10 * a - k * b, 10 * b + k * a), (k * a - 10 * b, k * b + 10 * a), (-10 * b, 10 * a)]
        path += [3, *(value for x, y in points for value in (c + x, c + y))]
    made = roifile.ImagejRoi(roitype=KIND.RECT, version=228, name="a", shape_roi_size=len([*path, 4]))
    made.multi_coordinates = np.array([*path, 4], dtype=np.float32)
    assert only(roi(made.tobytes())).polygon_um.area == pytest.approx(math.pi * 100, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "tissue_class", "region"),
    [
        ("Tumor", "Tumor", "Tumor"),
        ("Tumor-1", "Tumor", "Tumor-1"),
        ("0345-0678", "0345-0678", "0345-0678"),
        ("a/b", "a/b", "a/b"),
        ("Närbe-12", "Närbe", "Närbe-12"),
    ],
)
def test_the_class_is_the_name_without_the_number_of_the_roi_manager(roi, name, tissue_class, region):
    found = only(roi(roi_polygon(SQUARE, name=name)))
    assert (found.tissue_class, found.name) == (tissue_class, region)


def test_a_roi_without_a_name_has_that_of_its_file(roi):
    assert only(roi(zipped({"Stroma.roi": roi_polygon(SQUARE, name="")}), "S01.zip")).name == "Stroma"


def test_a_set_of_rois_is_read_and_maps_by_study_toml(roi):
    members = {"1.roi": roi_polygon(SQUARE), "2.roi": roi_polygon([[x + 50, y] for x, y in SQUARE], name="Nerve-3")}
    litter = {"__MACOSX/._1.roi": b"x", ".DS_Store": b"x", "notes.txt": b"x"}
    regions, notes = read_annotations(roi(zipped({**members, **litter}), "S01.zip"), pixel_size_um=0.5)
    mapped = map_classes(regions, {"Nerve": "other"})
    assert [(one.name, one.tissue_class, one.polygon_um.area) for one in mapped] == [
        ("Tumor", "tumour", 25),
        ("Nerve-3", "other", 25),
    ]
    assert notes == ["S01.zip: 1 files that are no .roi left aside"]


@pytest.mark.parametrize(("kind", "words"), [(KIND.POINT, "point"), (KIND.LINE, "line"), (KIND.POLYLINE, "segmented")])
def test_AN15_points_and_lines_of_imagej_are_refused_unless_their_name_is_ignored(roi, kind, words):
    line = roifile.ImagejRoi.frompoints([[1, 1], [5, 5]], name="Tumor")
    line.roitype = kind
    assert f"a {words}" in refusal(roi(line.tobytes()))
    line.name = "Ignore*"
    regions, notes = read_annotations(
        roi(zipped({"a.roi": roi_polygon(SQUARE), "b.roi": line.tobytes()}), "S01.zip"), pixel_size_um=1
    )
    assert len(regions) == len(notes) == 1
    assert "ignored name Ignore* left aside" in notes[0]


def test_AN18_texts_and_images_of_imagej_are_left_aside_with_a_count(roi):
    text = roi_bytes(roitype=KIND.RECT, subtype=SUBTYPE.TEXT, text="hello", left=0, top=0, right=9, bottom=9)
    image = roi_bytes(roitype=KIND.RECT, subtype=SUBTYPE.IMAGE, left=0, top=0, right=9, bottom=9)
    packed = roi(zipped({"a.roi": roi_polygon(SQUARE), "b.roi": text, "c.roi": text, "d.roi": image}), "S01.zip")
    regions, notes = read_annotations(packed, pixel_size_um=1)
    assert [region.polygon_um.area for region in regions] == [100]
    assert notes == ["S01.zip: 1 images left aside", "S01.zip: 2 texts left aside"]
    assert "no regions" in refusal(roi(text))


def test_AN4_a_roi_that_crosses_itself_is_refused_with_its_name_and_the_point(roi):
    message = refusal(roi(zipped({"ok.roi": roi_polygon(SQUARE), "bad.roi": roi_polygon(BOW_TIE)}), "S01.zip"))
    assert "ROI 2 (bad): self-intersection at (5, 5)" in message


@pytest.mark.parametrize("cut", [0, 3, 40, 63, 64, 70, 80])
def test_a_roi_that_ends_early_is_refused(roi, cut):
    message = refusal(roi(roi_polygon([[0, 0], [90, 0], [90, 90], [50, 99], [0, 90], [0, 0]])[:cut]))
    assert any(words in message for words in ("truncated", "begin with", "empty"))


@pytest.mark.parametrize("count", [-1, -(2**31), 2**31 - 1, 10**6])
def test_a_roi_that_declares_more_than_it_has_is_refused(roi, count):
    content = bytearray(roi_polygon(SQUARE))
    content[16:18] = b"\0\0"
    content[18:22] = struct.pack(">i", count)
    assert "truncated" in refusal(roi(bytes(content)))
    composite = bytearray(roi_composite([SQUARE]))
    composite[36:40] = struct.pack(">i", abs(count) % 2**31 or 2**31 - 1)
    assert any(word in refusal(roi(bytes(composite))) for word in ("truncated", "path cannot be read", "no area"))


def test_AN6_a_roi_with_numbers_that_are_not_finite_is_refused(roi):
    ring = [[0.5, 0.5], [9.5, 0.5], [9.5, 9.5], [0.5, 0.5]]
    broken = roi_polygon(ring).replace(struct.pack(">f", 9.5), struct.pack(">f", math.nan))
    assert "no pixel" in refusal(roi(broken))


# ---- zips from strangers

BOMB = b"\0" * (archive.MOST_MEMBER_BYTES + 1)
ELSEWHERE = ["../a.roi", "a/../../b.roi", "/etc/a.roi", "C:/a.roi", "C:\\a.roi", "\\\\host\\a.roi", "..\\a.roi", "a/.."]
ELSEWHERE += ["a\\b.roi", "a.roi\0/../b.roi"]  # a folder for Windows alone; what stands behind the end of a C string


def test_X5_the_caps_are_those_that_are_promised():
    caps = archive.MOST_MEMBERS, archive.MOST_MEMBER_BYTES, archive.MOST_BYTES
    assert caps == (10_000, 64_000_000, 512_000_000)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_X5_a_member_that_leads_elsewhere_is_refused(roi, name):
    assert "leads elsewhere" in refusal(roi(zip_with_name(name, roi_polygon(SQUARE)), "S01.zip"))


def test_X5_a_symbolic_link_is_refused(roi):
    link = zipped({"a.roi": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    assert "leads elsewhere" in refusal(roi(link, "S01.zip"))


def test_X5_too_many_members_are_refused(roi):
    packed = zipped({f"{k}.roi": b"" for k in range(archive.MOST_MEMBERS + 1)}, method=zipfile.ZIP_STORED)
    assert "10001 files" in refusal(roi(packed, "S01.zip"))


def test_X5_a_member_that_unpacks_to_more_than_64_MB_is_refused_whatever_it_declares(roi):
    packed = zipped({"a.roi": BOMB})
    assert len(packed) < 1e6
    assert "too much for regions" in refusal(roi(packed, "S01.zip"))
    assert any(word in refusal(roi(declared_count(packed, 99), "S01.zip")) for word in ("too much", "not a whole zip"))


def test_X5_members_of_512_MB_in_all_are_refused(roi, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 10**6)  # 512 MB take seconds; the sum is what is looked at
    packed = zipped({f"{k}.roi": b"\0" * 300_000 for k in range(4)})
    assert "too much for regions" in refusal(roi(packed, "S01.zip"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_X5_packings_that_imagej_does_not_use_are_refused(roi, method):
    assert "does not use" in refusal(roi(zipped({"a.roi": roi_polygon(SQUARE)}, method=method), "S01.zip"))


def test_X5_an_encrypted_or_damaged_zip_is_refused(roi):
    packed = bytearray(zipped({"a.roi": roi_polygon(SQUARE)}))
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    assert "does not use" in refusal(roi(bytes(packed), "S01.zip"))
    whole = zipped({"a.roi": roi_polygon(SQUARE)}, method=zipfile.ZIP_STORED)
    assert "not a whole zip" in refusal(roi(whole.replace(b"Iout", b"Iaut"), "S01.zip"))
    assert "not a whole zip" in refusal(roi(whole[:50], "S01.zip"))


def test_AN24_a_set_with_a_path_or_a_zip_within_it_is_refused_and_writes_nothing(roi, tmp_path):
    assert "leads elsewhere" in refusal(roi(zip_with_name("../evil.roi", roi_polygon(SQUARE)), "S01.zip"))
    nested = zipped({"a.zip": zipped({"a.roi": roi_polygon(SQUARE)})})
    assert "no regions" in refusal(roi(nested, "S01.zip"))
    assert [path.name for path in tmp_path.rglob("*")] == ["S01.zip"]
    assert not (tmp_path.parent / "evil.roi").exists()


# ---- one shape, four programs


@given(shell=stars(), x=st.integers(-8, 8), pixel=st.sampled_from([0.325, 0.5, 1.0]))
@settings(max_examples=60)
def test_NP14_geojson_halo_roi_and_asap_of_one_outline_are_equal(tmp_path_factory, shell, x, pixel):
    folder = tmp_path_factory.mktemp("np14")
    ring = [[a + x, b] for a, b in shell]
    (folder / "S01.roi").write_bytes(roi_polygon(ring))
    (folder / "S01.zip").write_bytes(zipped({"Tumor.roi": roi_polygon(ring)}))
    (folder / "c.roi").write_bytes(roi_composite([ring]))
    files = [
        write_geojson(folder / "S01.geojson", [feature([ring])]),
        write_halo(folder / "S01.annotations", "Tumor", [ring], []),
        write_asap(folder / "S01.xml", asap_annotation(ring)),
        *(folder / name for name in ("S01.roi", "S01.zip", "c.roi")),
    ]
    read = [read_regions(path, pixel_size_um=pixel) for path in files]
    assert all(other == read[0] for other in read)
    assert read[0][0].polygon_um.area == pytest.approx(shapely.Polygon(ring).area * pixel**2, rel=1e-12)


@given(shell=stars(quarters=True, largest=30))
@settings(max_examples=30)
def test_NP14_a_sub_pixel_roi_equals_the_geojson(tmp_path_factory, shell):
    folder = tmp_path_factory.mktemp("np14")
    (folder / "S01.roi").write_bytes(roi_polygon(shell))
    geojson = write_geojson(folder / "S01.geojson", [feature([shell])])
    assert read_regions(folder / "S01.roi", pixel_size_um=0.325) == read_regions(geojson, pixel_size_um=0.325)


@given(corner=st.integers(-3, 3), reverse=st.booleans())
@settings(max_examples=20)
def test_NP14_a_hole_is_the_same_in_geojson_halo_and_roi(tmp_path_factory, corner, reverse):
    folder = tmp_path_factory.mktemp("np14")
    shell = [[x * 5, y * 5] for x, y in SQUARE]
    hole = [[x * 4 + corner, y * 4 - corner] for x, y in HOLE]
    (folder / "S01.roi").write_bytes(roi_composite([hole, shell] if reverse else [shell, hole]))
    read = [
        read_regions(write_geojson(folder / "S01.geojson", [feature([shell, hole])]), pixel_size_um=0.5),
        read_regions(write_halo(folder / "S01.annotations", "Tumor", [shell], [hole[::-1]]), pixel_size_um=0.5),
        read_regions(folder / "S01.roi", pixel_size_um=0.5),
    ]
    assert read[0] == read[1] == read[2]
    assert read[0][0].polygon_um.area == (2500 - 64) / 4


@given(shells=st.tuples(stars(40, 40), stars(60, 60), stars(300, 40)), seed=st.integers(0, 999), apart=st.booleans())
@settings(max_examples=60)
def test_NP12_the_order_of_features_rings_and_vertices_and_their_direction_change_no_bit(
    tmp_path_factory, shells, seed, apart
):
    """Overlapping outlines of one class are united; those of a name of their own stay what they are."""
    folder = tmp_path_factory.mktemp("np12")
    holes = [[[x + 300 + k, y + 40 - k] for x, y in HOLE] for k in (0, 4)]  # within the third star's smallest radius
    features = [feature([shell], name=f"core {k}" if apart else None) for k, shell in enumerate(shells[:2])]
    features.append(feature([shells[2], *holes] if _holds(shells[2], holes) else [shells[2]], "Stroma"))
    before = read_regions(write_geojson(folder / "S01.geojson", features), pixel_size_um=0.325)
    after = read_regions(
        write_geojson(folder / "S01.geojson", _shuffled(features, random.Random(seed))), pixel_size_um=0.325
    )
    assert {region.name: region for region in before} == {region.name: region for region in after}


def _holds(shell, holes) -> bool:
    polygon = shapely.Polygon(shell, holes)
    return polygon.is_valid and all(shapely.Polygon(shell).contains(shapely.Polygon(hole)) for hole in holes)


def _shuffled(features, rng: random.Random):
    """The features in another order, their holes too, every ring begun elsewhere and half of them reversed."""
    changed = []
    for one in features:
        shell, *holes = one["geometry"]["coordinates"]
        rng.shuffle(holes)
        rings = []
        for ring in (shell, *holes):
            start = rng.randrange(len(ring) - 1)
            turned = [*ring[start:-1], *ring[:start]]
            turned = turned[::-1] if rng.random() < 0.5 else turned
            rings.append([*turned, turned[0]])
        changed.append({**one, "geometry": {"type": "Polygon", "coordinates": rings}})
    rng.shuffle(changed)
    return changed


# ---- bytes from strangers


@given(
    content=st.binary(max_size=300), head=st.sampled_from([b"", b"Iout\0\xe3", b"PK\x03\x04", b"<ASAP_Annotations>"])
)
@settings(max_examples=300)
def test_arbitrary_bytes_are_refused_and_never_crash(tmp_path_factory, content, head):
    for suffix in (".roi", ".zip", ".xml", ".geojson", ".annotations"):
        path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
        path.write_bytes(head + content)
        _read_or_refuse(path)


@given(where=st.integers(0, 400), byte=st.integers(0, 255), which=st.integers(0, 2))
@settings(max_examples=300)
def test_a_roi_with_a_changed_byte_is_read_or_refused(tmp_path_factory, where, byte, which):
    made = (roi_polygon(SQUARE), roi_composite([SQUARE, HOLE]), roi_polygon([[0.5, 0.5], [9, 0], [9, 9], [0.5, 0.5]]))
    content = bytearray(made[which])
    content[where % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "changed.roi"
    path.write_bytes(bytes(content))
    _read_or_refuse(path)


def _read_or_refuse(path) -> None:
    try:
        regions, _ = read_annotations(path, pixel_size_um=1)
    except AnnotationError:
        return
    assert all(region.polygon_um.is_valid and region.polygon_um.area > 0 for region in regions)
