"""QPTIFF and inForm's component TIFF."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_fixtures import coded_image, halved, qpi_xml, write_pages, write_qptiff

from mihc.errors import SlideError
from mihc.slide import inspect_slide, open_slide

NAMES = ["DAPI", "CD8 (Opal 540)", "Autofluorescence"]


def test_a_qptiff_gives_its_full_resolution_channels_names_and_pixel_size(tmp_path: Path):
    image = coded_image(3, 96, 128)
    with open_slide(write_qptiff(tmp_path / "s.qptiff", image, NAMES, levels=2)) as slide:
        assert slide.format == "QPTIFF" and slide.channels == tuple(NAMES)
        assert slide.pixel_size_um == (0.5, 0.5) and slide.pixel_size_source == "TIFF resolution tags"
        assert slide.levels == ((96, 128), (48, 64), (24, 32)) and slide.facts["objective"] == "20x"
        np.testing.assert_array_equal(slide.image[:], image)


def test_SL31_label_overview_and_thumbnail_are_never_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = coded_image(3, 64, 64)
    path = write_qptiff(tmp_path / "s.qptiff", image, NAMES)
    with tifffile.TiffFile(path) as tif:
        previews = [page for page in tif.pages if page.photometric == 2]
        pixels = {(page.dataoffsets[0], page.databytecounts[0]) for page in previews}
    assert len(pixels) == 3
    data = bytearray(path.read_bytes())
    for offset, count in pixels:  # pixels that cannot be what they were: nothing of mihc may notice
        data[offset : offset + count] = bytes(range(256)) * (count // 256) + bytes(count % 256)
    path.write_bytes(data)
    reads, pread = [], os.pread

    def watched(file: int, count: int, offset: int) -> bytes:
        reads.append((offset, count))
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", watched)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.image[:], image)
    assert reads and not any(o < offset + count and offset < o + c for o, c in reads for offset, count in pixels)
    assert [line for line in inspect_slide(path) if line.startswith("not read")] == [
        "not read     Thumbnail page",
        "not read     Overview page",
        "not read     Label page",
    ]


def test_the_biomarker_is_the_name_where_there_is_one(tmp_path: Path):
    image = coded_image(1)
    path = write_pages(tmp_path / "s.qptiff", image, description=qpi_xml("FullResolution", "Opal 540", "CD8"))
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.channels == ("CD8",)


def test_a_component_tiff_of_floats_keeps_every_value(tmp_path: Path):
    image = (coded_image(3, 40, 50).astype(np.float32) / 7).astype(np.float32)
    with open_slide(write_qptiff(tmp_path / "s_component_data.tif", image, NAMES, levels=0)) as slide:
        assert slide.image.dtype == np.float32
        np.testing.assert_array_equal(slide.image[:], image)


def test_SL4_a_channel_lost_at_full_resolution_is_seen_from_the_pyramid(tmp_path: Path):
    image = coded_image(3, 64, 64)
    small = halved(image)
    with tifffile.TiffWriter(tmp_path / "s.qptiff", ome=False) as tif:
        for kind, planes in (("FullResolution", image[:2]), ("ReducedResolution", small)):
            for plane in planes:
                tif.write(plane, description=qpi_xml(kind, "CD8"), metadata=None, software="PerkinElmer-QPI")
    with pytest.raises(SlideError, match=r"3 channels in the pyramid level of .*, 2 present"):
        open_slide(tmp_path / "s.qptiff", pixel_size_um=0.5)


def test_SL18_an_rgb_qptiff_is_refused(tmp_path: Path):
    rgb = np.zeros((32, 32, 3), np.uint8)
    description = qpi_xml("FullResolution", "H&amp;E")
    tifffile.imwrite(tmp_path / "s.qptiff", rgb, photometric="rgb", description=description, metadata=None)
    with pytest.raises(SlideError, match="brightfield RGB"):
        open_slide(tmp_path / "s.qptiff", pixel_size_um=0.5)


def test_SL40_a_doctype_in_a_page_is_refused(tmp_path: Path):
    text = qpi_xml("FullResolution", "DAPI").replace(b"?>", b'?><!DOCTYPE a [<!ENTITY b "c">]>')
    path = write_pages(tmp_path / "s.qptiff", coded_image(1), description=text)
    with pytest.raises(SlideError, match="DTD"):
        open_slide(path, pixel_size_um=0.5)


def write_components(path: Path, unmixed: list[str | None], names: list[str]) -> Path:
    """Full-resolution pages that say whether they are unmixed (None = nothing)."""
    with tifffile.TiffWriter(path, ome=False) as tif:
        for plane, said, name in zip(coded_image(len(names)), unmixed, names):
            text = qpi_xml("FullResolution", name).decode()
            if said is not None:
                text = text.replace("<Objective>", f"<IsUnmixedComponent>{said}</IsUnmixedComponent><Objective>")
            tif.write(plane, description=text.encode(), metadata=None, software="PerkinElmer-QPI")
    return path


@pytest.mark.parametrize(
    ("unmixed", "fact", "warnings"),
    [
        (["True", "True"], "yes", ()),
        (["False", "False"], "no", ()),
        (["True", "False"], "in part", ("channels 1 are not unmixed, the others are",)),
        ([None, None], None, ()),
    ],
)
def test_channels_say_whether_they_are_unmixed(tmp_path: Path, unmixed: list, fact: str | None, warnings: tuple):
    path = write_components(tmp_path / "s.qptiff", unmixed, ["DAPI", "CD8 (Opal 540)"])
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.facts.get("unmixed") == fact and slide.warnings == warnings
        assert slide.dyes == ("", "Opal 540")


def test_the_dye_beside_a_biomarker_is_its_name(tmp_path: Path):
    path = write_pages(tmp_path / "s.qptiff", coded_image(1), description=qpi_xml("FullResolution", "Opal 540", "CD8"))
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert (slide.channels, slide.dyes) == (("CD8",), ("Opal 540",))
    assert "    0  CD8 [Opal 540]" in inspect_slide(path, pixel_size_um=0.5)
