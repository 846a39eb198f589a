"""CZI: mosaics, scenes with negative origins, overlaps, compression; what libCZI would fill with zeros is refused."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import shapely
from slide_fixtures import Tile, coded_image, czi_xml, write_czi

from mihc.errors import SlideError
from mihc.slide import inspect_slide, open_slide

NAMES = ["DAPI", "AF488"]


def cut_tiles(image: np.ndarray, x: int, y: int, side: int, *, scene: int | None = None, **kind: object) -> list[Tile]:
    """An image (c, y, x) as a mosaic of square tiles from (x, y) on."""
    height, width = image.shape[1:]
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    return [
        Tile(plane[top : top + side, left : left + side].copy(), x + left, y + top, c=c, scene=scene, m=m, **kind)
        for c, plane in enumerate(image)
        for m, (top, left) in enumerate(corners)
    ]


@pytest.mark.parametrize("compression", ["raw", "jpegxr", "zstd0"])
def test_a_mosaic_is_one_canvas_whatever_its_compression(tmp_path: Path, compression: str):
    image = coded_image(2, 96, 128)
    path = write_czi(tmp_path / "s.czi", cut_tiles(image, 0, 0, 32, compression=compression), czi_xml(NAMES))
    with open_slide(path) as slide:
        assert slide.format == "CZI" and slide.channels == ("DAPI", "AF488") and slide.image.dtype == np.uint16
        assert slide.pixel_size_um == (0.5, 0.5) and slide.pixel_size_source == "CZI Scaling"
        assert slide.scanned_px.equals(shapely.box(0, 0, 128, 96))
        np.testing.assert_array_equal(slide.image[:], image)
        np.testing.assert_array_equal(slide.image[1, 20:70, 31:100], image[1, 20:70, 31:100])


def test_the_reader_agrees_with_what_pylibczirw_writes(tmp_path: Path):
    from pylibCZIrw import czi

    image = coded_image(2, 80, 100)
    path = tmp_path / "s.czi"
    with czi.create_czi(str(path), compression_options="zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack") as document:
        for c, plane in enumerate(image):
            document.write(plane[:, :60, np.newaxis].copy(), plane={"C": c}, location=(-30, 7))
            document.write(plane[:, 60:, np.newaxis].copy(), plane={"C": c}, location=(30, 7))
        document.write_metadata(channel_names=dict(enumerate(NAMES)), scale_x=0.325e-6, scale_y=0.325e-6)
    with open_slide(path) as slide:
        assert slide.channels == ("DAPI", "AF488") and slide.pixel_size_um == (0.325, 0.325)
        assert slide.facts["compression"] == "zstd1"
        np.testing.assert_array_equal(slide.image[:], image)


def test_SL27_several_scenes_need_a_choice(tmp_path: Path):
    path, first, second = two_scenes(tmp_path)
    with pytest.raises(SlideError, match="holds 2 scenes") as caught:
        open_slide(path)
    assert "0 “ScanRegion0”, 1 “ScanRegion2”, or all" in caught.value.fix
    for scene, image in ((0, first), ("ScanRegion2", second), (1, second)):
        with open_slide(path, scene=scene) as slide:
            assert slide.scenes == ("ScanRegion0", "ScanRegion2")
            np.testing.assert_array_equal(slide.image[:], image)
    with pytest.raises(SlideError, match="no scene is named “7”"):
        open_slide(path, scene=7)
    assert any("scene 1" in line and "ScanRegion2" in line for line in inspect_slide(path))


def two_scenes(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Scenes at (-100, -50) and (40, 10) of the file's coordinates."""
    first, second = coded_image(2, 64, 96), coded_image(2, 32, 64)[:, ::-1]
    tiles = [*cut_tiles(first, -100, -50, 32, scene=0), *cut_tiles(second, 40, 10, 32, scene=1)]
    return write_czi(tmp_path / "s.czi", tiles, czi_xml(NAMES, scenes=["ScanRegion0", "ScanRegion2"])), first, second


def test_SL30_a_negative_origin_moves_the_canvas_to_the_scene(tmp_path: Path):
    path, first, _ = two_scenes(tmp_path)
    with open_slide(path, scene=0) as slide:
        assert slide.image.shape == first.shape and slide.scanned_px.bounds == (0, 0, 96, 64)
        assert slide.image[0, 0, 0] == first[0, 0, 0] and slide.image[1, 63, 95] == first[1, 63, 95]


def test_all_scenes_are_one_canvas_with_unscanned_gaps(tmp_path: Path):
    path, first, second = two_scenes(tmp_path)
    expected = np.zeros((2, 92, 204), np.uint16)  # from (-100, -50) to (104, 42)
    expected[:, :64, :96] = first
    expected[:, 60:92, 140:204] = second
    with open_slide(path, scene="all") as slide:
        assert slide.scene == "all" and slide.image.shape == expected.shape
        np.testing.assert_array_equal(slide.image[:], expected)
        assert slide.scanned_px.equals(shapely.union(shapely.box(0, 0, 96, 64), shapely.box(140, 60, 204, 92)))


def test_SL28_overlapping_tiles_compose_by_m_index_and_their_area_counts_once(tmp_path: Path):
    below, above = np.full((40, 40), 100, np.uint16), np.full((40, 40), 200, np.uint16)
    for order in (1, -1):  # the M index decides, not the order in the file
        tiles = [Tile(below, 0, 0, m=0, scene=0), Tile(above, 30, 0, m=1, scene=0)][::order]
        path = write_czi(tmp_path / f"{order}.czi", tiles, czi_xml(["DAPI"], scenes=["a"]))
        with open_slide(path) as slide:
            assert slide.image.shape == (1, 40, 70) and slide.scanned_px.area == 70 * 40
            np.testing.assert_array_equal(slide.image[0, 0], [100] * 30 + [200] * 40)


def test_unscanned_corners_are_not_scanned_area(tmp_path: Path):
    tiles = cut_tiles(coded_image(1, 64, 64), 0, 0, 32)
    with open_slide(write_czi(tmp_path / "s.czi", tiles[:3], czi_xml(["DAPI"]))) as slide:
        assert slide.image.shape == (1, 64, 64) and slide.scanned_px.area == 3 * 32 * 32
        assert not slide.scanned_px.contains(shapely.Point(48, 48))


def test_a_pyramid_is_listed_and_full_resolution_is_read(tmp_path: Path):
    image = coded_image(1, 64, 64)
    small = Tile(np.zeros((32, 32), np.uint16), 0, 0, shrink=2)
    path = write_czi(tmp_path / "s.czi", [*cut_tiles(image, 0, 0, 32), small], czi_xml(["DAPI"]))
    with open_slide(path) as slide:
        assert slide.levels == ((64, 64), (32, 32))
        np.testing.assert_array_equal(slide.image[:], image)


def test_threads_read_the_same_as_one(tmp_path: Path):
    image = coded_image(2, 160, 160)
    path = write_czi(tmp_path / "s.czi", cut_tiles(image, -7, -7, 32, compression="jpegxr"), czi_xml(NAMES))
    boxes = [(y, x) for y in range(0, 160, 23) for x in range(0, 160, 29)]
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        blocks = pool.map(lambda box: slide.image[:, box[0] : box[0] + 23, box[1] : box[1] + 29], boxes)
        for (y, x), block in zip(boxes, blocks):
            np.testing.assert_array_equal(block, image[:, y : y + 23, x : x + 29])


def test_SL2_a_text_file_named_czi_is_refused(tmp_path: Path):
    (tmp_path / "s.czi").write_text("this is only text, long enough")
    with pytest.raises(SlideError, match="is not a CZI"):
        open_slide(tmp_path / "s.czi")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_czi_is_refused(tmp_path: Path, share: float):
    path = write_czi(tmp_path / "s.czi", cut_tiles(coded_image(2, 64, 64), 0, 0, 32), czi_xml(NAMES))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SlideError):
        open_slide(path)


def test_SL4_a_declared_channel_without_subblocks_is_refused(tmp_path: Path):
    path = write_czi(tmp_path / "s.czi", cut_tiles(coded_image(2, 32, 32), 0, 0, 32), czi_xml([*NAMES, "AF555"]))
    with pytest.raises(SlideError, match="3 channels declared, 2 present"):
        open_slide(path)


def test_SL4_a_mosaic_tile_missing_in_one_channel_is_refused(tmp_path: Path):
    tiles = cut_tiles(coded_image(2, 64, 64), 0, 0, 32)
    path = write_czi(tmp_path / "s.czi", tiles[:-1], czi_xml(NAMES))
    with pytest.raises(SlideError, match="channel 1 has 3 of 4 mosaic tiles"):
        open_slide(path)


def test_SL29_a_subblock_that_is_not_what_the_directory_says_is_refused(tmp_path: Path):
    path = write_czi(tmp_path / "s.czi", [Tile(np.zeros((32, 32), np.uint16), 0, 0)], czi_xml(["DAPI"]))
    data = bytearray(path.read_bytes())
    width = b"X\0\0\0" + struct.pack("<ii", 0, 32)
    at = data.index(width)  # in the subblock's header; the directory follows
    data[at : at + len(width)] = b"X\0\0\0" + struct.pack("<ii", 0, 64)
    path.write_bytes(data)
    with pytest.raises(SlideError, match="subblock 0 is not what the directory says"):
        open_slide(path)


def test_SL29_a_full_resolution_subblock_of_fewer_pixels_is_refused_and_not_padded(tmp_path: Path):
    path = write_czi(tmp_path / "s.czi", [Tile(np.zeros((32, 32), np.uint16), 0, 0)], czi_xml(["DAPI"]))
    stored = struct.pack("<iifi", 0, 32, 0.0, 32)
    path.write_bytes(path.read_bytes().replace(b"Y\0\0\0" + stored, b"Y\0\0\0" + stored[:-4] + struct.pack("<i", 20)))
    with pytest.raises(SlideError, match="stored in another size"):
        open_slide(path)


@pytest.mark.parametrize("metres", [None, "0"])
def test_SL10_a_czi_without_scaling_is_refused(tmp_path: Path, metres: str | None):
    path = write_czi(tmp_path / "s.czi", [Tile(np.ones((8, 8), np.uint16), 0, 0)], czi_xml(["DAPI"], metres=metres))
    with pytest.raises(SlideError, match="no physical pixel size"):
        open_slide(path)
    with open_slide(path, pixel_size_um=0.3) as slide:
        assert slide.pixel_size_um == (0.3, 0.3)


def test_SL18_brightfield_is_refused(tmp_path: Path):
    path = write_czi(tmp_path / "s.czi", [Tile(np.zeros((8, 8, 3), np.uint8), 0, 0)], czi_xml(["TL Brightfield"]))
    with pytest.raises(SlideError, match="brightfield RGB"):
        open_slide(path)


def test_SL26_focal_planes_need_a_choice(tmp_path: Path):
    image = coded_image(3, 32, 32)
    tiles = [Tile(plane, 0, 0, z=z) for z, plane in enumerate(image)]
    path = write_czi(tmp_path / "s.czi", tiles, czi_xml(["DAPI"]))
    with pytest.raises(SlideError, match="3 focal planes"):
        open_slide(path)
    with open_slide(path, z=2) as slide:
        np.testing.assert_array_equal(slide.image[0], image[2])


def test_SL40_a_doctype_is_refused(tmp_path: Path):
    xml = '<!DOCTYPE a [<!ENTITY b "c">]>' + czi_xml(["DAPI"])
    path = write_czi(tmp_path / "s.czi", [Tile(np.ones((8, 8), np.uint16), 0, 0)], xml)
    with pytest.raises(SlideError, match="DTD"):
        open_slide(path)


def test_names_may_stand_in_the_display_settings_only(tmp_path: Path):
    display = (
        '<DisplaySetting><Channels><Channel Id="Channel:2" Name="AF488"/><Channel Id="Channel:1" Name="DAPI"/>'
        "</Channels></DisplaySetting></Metadata>"
    )
    xml = czi_xml(["", ""]).replace("</Metadata>", display)
    tiles = cut_tiles(coded_image(2, 32, 32), 0, 0, 32)
    with open_slide(write_czi(tmp_path / "s.czi", tiles, xml)) as slide:
        assert slide.channels == ("DAPI", "AF488")
    added = xml.replace('Id="Channel:2" Name="AF488"', 'Id="c15b6ce0" Name="GFP"')
    with open_slide(write_czi(tmp_path / "t.czi", tiles, added)) as slide:
        assert slide.channels == ("DAPI", "GFP")


def test_SL23_declared_bits_are_kept_and_not_exceeded(tmp_path: Path):
    tile = Tile(np.full((8, 8), 5000, np.uint16), 0, 0)
    with open_slide(write_czi(tmp_path / "a.czi", [tile], czi_xml(["DAPI"], bits=14))) as slide:
        assert slide.significant_bits == 14 and slide.image[0, 0, 0] == 5000
    path = write_czi(tmp_path / "b.czi", [tile], czi_xml(["DAPI"], bits=12))
    with open_slide(path) as slide, pytest.raises(SlideError, match="exceeds SignificantBits"):
        _ = slide.image[:]
