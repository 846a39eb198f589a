"""OME-TIFF and plain TIFF: every layout gives the same pixels, and what is missing or broken is refused."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_fixtures import (
    TiffLayout,
    coded_image,
    halved,
    ome_document,
    ome_xml,
    write_ome_tiff,
    write_pages,
)

from mihc.errors import SlideError
from mihc.slide import check_pixels, inspect_slide, open_slide

LAYOUTS = {
    "tiles, zstd": TiffLayout(tile=(32, 48), compression="zstd", predictor=True),
    "tiles, lzw": TiffLayout(tile=(16, 16), compression="lzw"),
    "tiles, raw": TiffLayout(tile=(32, 32)),
    "strips, deflate": TiffLayout(rowsperstrip=7, compression="zlib"),
    "strips, raw": TiffLayout(rowsperstrip=7),
    "one strip": TiffLayout(),
    "big-endian tiles": TiffLayout(tile=(32, 32), compression="zlib", predictor=True, byteorder=">"),
    "big-endian strips": TiffLayout(rowsperstrip=11, byteorder=">"),
    "BigTIFF": TiffLayout(tile=(32, 32), bigtiff=True),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_tiff_layout_gives_the_same_pixels(tmp_path: Path, layout: TiffLayout):
    image = coded_image()
    with open_slide(write_ome_tiff(tmp_path / "s.ome.tiff", image, layout=layout)) as slide:
        assert slide.format == "OME-TIFF"
        assert slide.image.shape == image.shape and slide.image.dtype == np.uint16 and slide.image.dtype.isnative
        np.testing.assert_array_equal(np.asarray(slide.image), image)
        np.testing.assert_array_equal(slide.image[1, 13:50, 30:90], image[1, 13:50, 30:90])
        np.testing.assert_array_equal(slide.image[[2, 0], 69:, :1], image[[2, 0], 69:, :1])


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_tiles_compressed_as_pictures_are_decoded(tmp_path: Path, codec: str):
    image = coded_image(2, 64, 96, np.uint8)
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, layout=TiffLayout(tile=(32, 32), compression=codec))
    with open_slide(path) as slide:
        assert slide.facts["compression"] == codec
        np.testing.assert_array_equal(slide.image[:], tifffile.imread(path))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_same_slice_of_the_whole(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    layout = data.draw(st.sampled_from(list(LAYOUTS.values())))
    path = tmp_path_factory.mktemp("window") / "s.ome.tiff"
    image = coded_image(2, 40, 53)
    y, x = (sorted(data.draw(st.tuples(*[st.integers(-3, n + 3)] * 2))) for n in image.shape[1:])
    with open_slide(write_ome_tiff(path, image, layout=layout)) as slide:
        np.testing.assert_array_equal(slide.image[:, y[0] : y[1], x[0] : x[1]], image[:, y[0] : y[1], x[0] : x[1]])


def test_threads_read_the_same_as_one(tmp_path: Path):
    image = coded_image(4, 200, 210)
    path = write_ome_tiff(tmp_path / "s.ome.tiff", image, layout=LAYOUTS["strips, deflate"])
    boxes = [(y, x) for y in range(0, 200, 23) for x in range(0, 210, 19)]
    with open_slide(path) as slide, ThreadPoolExecutor(8) as pool:
        blocks = pool.map(lambda box: slide.image[:, box[0] : box[0] + 23, box[1] : box[1] + 19], boxes)
        for (y, x), block in zip(boxes, blocks):
            np.testing.assert_array_equal(block, image[:, y : y + 23, x : x + 19])


def test_a_pyramid_in_subifds_is_listed_and_the_full_resolution_is_read(tmp_path: Path):
    image = coded_image(2, 96, 128)
    path = write_ome_tiff(tmp_path / "s.ome.tiff", image, layout=TiffLayout(tile=(32, 32)), levels=2)
    with open_slide(path) as slide:
        assert slide.levels == ((96, 128), (48, 64), (24, 32))
        np.testing.assert_array_equal(slide.image[:], image)


def test_a_flat_pyramid_of_ome_images_is_one_scene(tmp_path: Path):
    image = coded_image(2, 96, 128)
    small = halved(image)
    xml = [
        ome_xml(image, tiff_data='<TiffData IFD="0" PlaneCount="2"/>'),
        ome_xml(small, tiff_data='<TiffData IFD="2" PlaneCount="2"/>', size=("1.0", "1.0")),
    ]
    path = write_pages(tmp_path / "s.ome.tiff", image, description=ome_document(*xml), append=list(small))
    with open_slide(path) as slide:
        assert slide.levels == ((96, 128), (48, 64)) and len(slide.scenes) == 1
        np.testing.assert_array_equal(slide.image[:], image)


def test_planes_follow_tiffdata_and_not_the_order_of_pages(tmp_path: Path):
    image = coded_image(3)
    placed = "".join(f'<TiffData FirstC="{c}" IFD="{page}" PlaneCount="1"/>' for c, page in ((0, 2), (1, 0), (2, 1)))
    path = write_ome_tiff(tmp_path / "s.ome.tiff", image, xml=ome_xml(image, tiff_data=placed))
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.image[:], image[[2, 0, 1]])


def test_the_reader_agrees_with_tifffile_on_what_tifffile_writes(tmp_path: Path):
    image = coded_image(5)
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.325, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.325}
    metadata |= {"PhysicalSizeYUnit": "µm", "Channel": {"Name": ["DAPI", "CD3", "CD8", "CD20", "PanCK"]}}
    tifffile.imwrite(tmp_path / "s.ome.tif", image, metadata=metadata, photometric="minisblack", tile=(64, 64))
    with open_slide(tmp_path / "s.ome.tif") as slide:
        assert slide.channels == ("DAPI", "CD3", "CD8", "CD20", "PanCK")
        assert slide.pixel_size_um == (0.325, 0.325) and slide.pixel_size_source == "OME-XML PhysicalSize"
        np.testing.assert_array_equal(slide.image[:], tifffile.imread(tmp_path / "s.ome.tif"))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_SL19_planar_and_contiguous_channels_give_the_same_numbers(tmp_path: Path, planar: str):
    image = coded_image(4)
    samples = image if planar == "separate" else np.ascontiguousarray(np.moveaxis(image, 0, -1))
    options = {"photometric": "minisblack", "planarconfig": planar, "metadata": None, "tile": (32, 32)}
    tifffile.imwrite(tmp_path / "s.tif", samples, compression="zlib", extrasamples=[0, 0, 0], **options)
    with open_slide(tmp_path / "s.tif", pixel_size_um=0.5) as slide:
        np.testing.assert_array_equal(slide.image[:], image)
        np.testing.assert_array_equal(slide.image[2, 5:40, 33:60], image[2, 5:40, 33:60])


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_SL20_big_endian_and_every_type_keep_their_values(tmp_path: Path, dtype: str, byteorder: str):
    image = coded_image(dtype=dtype)
    layout = TiffLayout(byteorder=byteorder, tile=(32, 32))
    xml = ome_xml(image).replace("float32", "float").replace("float64", "double")
    with open_slide(write_ome_tiff(tmp_path / "s.ome.tif", image, layout=layout, xml=xml)) as slide:
        assert slide.image.dtype == np.dtype(dtype) and slide.image.dtype.isnative
        np.testing.assert_array_equal(slide.image[:], image)


def test_SL21_signed_pixels_are_read_as_they_are_until_one_is_negative(tmp_path: Path):
    image = coded_image(1, 40, 40).astype(np.int16)
    with open_slide(write_ome_tiff(tmp_path / "a.ome.tif", image)) as slide:
        assert slide.image.dtype == np.uint16
        np.testing.assert_array_equal(slide.image[:], image)
    image[0, 30, 30] = -1
    with open_slide(write_ome_tiff(tmp_path / "b.ome.tif", image)) as slide:
        assert slide.image[0, :30, :30].sum() == image[0, :30, :30].sum()
        with pytest.raises(SlideError, match="negative"):
            _ = slide.image[0]


def test_SL22_a_float_that_is_not_finite_is_refused_with_its_count(tmp_path: Path):
    image = coded_image(1, 8, 8, np.float32)
    image[0, 3, 3:5] = np.nan, np.inf
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, xml=ome_xml(image).replace("float32", "float"))
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"non-finite.*count 2"):
        _ = slide.image[:]
    with pytest.raises(SlideError, match="non-finite"):
        check_pixels(image, place="s.ome.tif")


def test_SL23_twelve_bits_in_sixteen_are_not_rescaled_and_not_exceeded(tmp_path: Path):
    image = np.full((1, 8, 8), 4095, np.uint16)
    xml = ome_xml(image, extra=' SignificantBits="12"')
    with open_slide(write_ome_tiff(tmp_path / "a.ome.tif", image, xml=xml)) as slide:
        assert slide.significant_bits == 12 and slide.image[0, 0, 0] == 4095
    brighter = write_ome_tiff(tmp_path / "b.ome.tif", image + 1, xml=xml)
    with open_slide(brighter) as slide, pytest.raises(SlideError, match="4096 exceeds SignificantBits"):
        _ = slide.image[:]


def test_SL1_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "s.ome.tiff").touch()
    with pytest.raises(SlideError, match=r"s\.ome\.tiff: empty file"):
        open_slide(tmp_path / "s.ome.tiff")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_SL3_a_truncated_tiff_is_refused(tmp_path: Path, share: float, compression: str | None):
    layout = TiffLayout(tile=(32, 32), compression=compression)
    path = write_ome_tiff(tmp_path / "s.ome.tiff", coded_image(4, 150, 150), layout=layout, levels=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SlideError, match=r"truncated: .*beyond file size \d+"):
        open_slide(path)


def test_SL3_the_message_names_the_page_and_its_offset(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "s.ome.tiff", coded_image(2))
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[1].offset
    path.write_bytes(path.read_bytes()[: offset - 1])
    with pytest.raises(SlideError, match=f"truncated: page 1 offset {offset} lies beyond file size {offset - 1}"):
        open_slide(path)


def test_SL4_declared_channels_without_planes_are_refused(tmp_path: Path):
    image = coded_image(3)
    path = write_ome_tiff(tmp_path / "s.ome.tiff", image, xml=ome_xml(image, size_c=5))
    with pytest.raises(SlideError, match="5 channels declared, 3 present"):
        open_slide(path)
    assert any("5 channels declared, 3 present" in line for line in inspect_slide(path))


def test_SL4_a_plane_that_points_behind_the_last_page_is_missing(tmp_path: Path):
    image = coded_image(3)
    placed = "".join(f'<TiffData FirstC="{c}" IFD="{page}" PlaneCount="1"/>' for c, page in ((0, 0), (1, 1), (2, 7)))
    path = write_ome_tiff(tmp_path / "s.ome.tiff", image, xml=ome_xml(image, tiff_data=placed))
    with pytest.raises(SlideError, match="3 channels declared, 2 present"):
        open_slide(path)


def test_SL4_planes_in_other_files_are_refused_and_not_opened(tmp_path: Path):
    image = coded_image(2)
    placed = '<TiffData IFD="0"/><TiffData FirstC="1" IFD="0"><UUID FileName="other.tif">urn:uuid:b</UUID></TiffData>'
    path = write_ome_tiff(tmp_path / "s.ome.tiff", image, xml=ome_xml(image, tiff_data=placed))
    with pytest.raises(SlideError, match="1 planes lie in other files"):
        open_slide(path)


def test_SL5_a_tile_without_data_is_refused(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "s.ome.tiff", coded_image(2), layout=TiffLayout(tile=(32, 32)))
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[1].tags["TileByteCounts"]
        at, kind = tag.valueoffset, {3: "<H", 4: "<I"}[int(tag.dtype)]
    data = bytearray(path.read_bytes())
    struct.pack_into(kind, data, at + 4 * struct.calcsize(kind), 0)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"missing tile \(1, 1\) of page 1 \(channel 1\)"):
        open_slide(path)


def test_SL6_a_circular_chain_of_pages_is_refused(tmp_path: Path):
    path = write_pages(tmp_path / "s.tif", coded_image(3))
    with tifffile.TiffFile(path) as tif:
        first, last = tif.pages[0].offset, tif.pages[2].offset
        entries = len(tif.pages[2].tags)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, last + 2 + 12 * entries, first)
    path.write_bytes(data)
    with pytest.raises(SlideError, match="circular"):
        open_slide(path, pixel_size_um=0.5)


@pytest.mark.parametrize(("width", "tile"), [(1 << 20, 256), (1, 1 << 14)], ids=["SL7 width", "SL8 tile"])
def test_SL7_SL8_declared_sizes_are_capped_before_memory_is_asked_for(tmp_path: Path, width: int, tile: int):
    values = {256: width, 257: width, 258: 16, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 8, 325: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    path = tmp_path / "s.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(16))
    with pytest.raises(SlideError, match="exceed"):
        open_slide(path, pixel_size_um=0.5)


def test_SL18_brightfield_rgb_is_refused(tmp_path: Path):
    rgb = np.zeros((40, 50, 3), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", rgb, photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "s.ome.tif", rgb, photometric="rgb", metadata=metadata)
    for name in ("plain.tif", "s.ome.tif"):
        with pytest.raises(SlideError, match="brightfield RGB"):
            open_slide(tmp_path / name)


def test_SL26_focal_planes_need_a_choice(tmp_path: Path):
    image = coded_image(6, 20, 20)  # pages in the order c0z0 c1z0 c0z1 c1z1 c0z2 c1z2
    xml = ome_xml(image, size_c=2, size_z=3, order="XYCZT")
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, xml=xml)
    with pytest.raises(SlideError, match=r"3 focal planes.*choose z or a projection") as caught:
        open_slide(path)
    assert "slides.csv, column z" in caught.value.fix
    with open_slide(path, z=1) as slide:
        np.testing.assert_array_equal(slide.image[:], image[2:4])
    with open_slide(path, z="max") as slide:
        np.testing.assert_array_equal(slide.image[:], np.maximum(np.maximum(image[:2], image[2:4]), image[4:]))
    with pytest.raises(SlideError, match="no focal plane"):
        open_slide(path, z=3)


def test_SL26_time_points_are_refused(tmp_path: Path):
    image = coded_image(4, 20, 20)
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, xml=ome_xml(image, size_c=2, size_t=2))
    with pytest.raises(SlideError, match="2 time points"):
        open_slide(path)


def test_SL40_a_doctype_in_ome_xml_is_refused(tmp_path: Path):
    image = coded_image(1)
    bomb = b'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    document = ome_document(ome_xml(image, names=["&amp;"])).split(b"?>", 1)[1]
    path = write_pages(tmp_path / "s.ome.tif", image, description=bomb + document)
    with pytest.raises(SlideError, match="DTD"):
        open_slide(path)


def test_a_page_that_is_not_what_the_xml_says_is_refused(tmp_path: Path):
    image = coded_image(2)
    wrong_type = write_ome_tiff(tmp_path / "a.ome.tif", image, xml=ome_xml(image.astype(np.uint8)))
    with pytest.raises(SlideError, match="declares uint8 pixels, page 0 has uint16"):
        open_slide(wrong_type)
    wrong_size = write_ome_tiff(tmp_path / "b.ome.tif", image, xml=ome_xml(image[:, 1:]))
    with pytest.raises(SlideError, match="declares 90 x 69 px, page 0 has 90 x 70 px"):
        open_slide(wrong_size)


def test_a_damaged_tile_is_an_error_and_not_black(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "s.ome.tif", coded_image(1), layout=TiffLayout(tile=(32, 32), compression="zlib"))
    with tifffile.TiffFile(path) as tif:
        at, count = tif.pages[0].dataoffsets[4], tif.pages[0].databytecounts[4]
    data = bytearray(path.read_bytes())
    data[at : at + count] = bytes(count)
    path.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(SlideError, match="tile 4 of page 0 is damaged"):
        _ = slide.image[:]


def test_pages_of_a_plain_tiff_are_channels_and_coloured_previews_are_ignored(tmp_path: Path):
    image = coded_image(3, 64, 80)
    layout = TiffLayout(resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    preview = np.zeros((16, 20, 3), np.uint8)
    path = write_pages(tmp_path / "s.tif", image, layout=layout, append=[*halved(image), preview])
    with open_slide(path) as slide:
        assert slide.format == "TIFF" and slide.channels == ("", "", "")
        assert slide.pixel_size_um == (0.5, 0.5) and slide.pixel_size_source == "TIFF resolution tags"
        assert slide.levels == ((64, 80), (32, 40))
        np.testing.assert_array_equal(slide.image[:], image)


@pytest.mark.parametrize("one_page", [False, True])
def test_an_imagej_stack_has_its_channels_and_its_own_unit(tmp_path: Path, one_page: bool):
    image = coded_image(3, 20, 30)
    path = tmp_path / "s.tif"
    metadata = {"axes": "CYX", "unit": "um"}
    tifffile.imwrite(path, image, imagej=True, resolution=(4.0, 4.0), metadata=metadata)
    if one_page:  # as ImageJ writes stacks over 4 GB: the first page stands for all
        with tifffile.TiffFile(path) as tif:
            after = tif.pages[0].offset + 2 + 12 * len(tif.pages[0].tags)
        data = bytearray(path.read_bytes())
        struct.pack_into(">I" if data[:2] == b"MM" else "<I", data, after, 0)
        path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.pixel_size_um == (0.25, 0.25)
        np.testing.assert_array_equal(slide.image[:], image)


def test_reading_leaves_the_file_as_it_was(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "s.ome.tif", coded_image())
    before = path.read_bytes()
    with open_slide(path) as slide:
        _ = slide.image[:]
    assert path.read_bytes() == before
