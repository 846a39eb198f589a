"""What every format has in common: pixel sizes, scenes, channel names, the array, and what inspect says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_fixtures import TiffLayout, coded_image, ome_document, ome_xml, write_ome_tiff, write_ome_zarr, write_pages

from mihc.errors import PanelError, SlideError
from mihc.panel import Panel, PanelRow
from mihc.slide import inspect_slide, open_slide
from mihc.slides.contents import PixelSizeClaim, Refusal
from mihc.slides.pixel_size import differs, settle_pixel_size, um_per

IMAGE = coded_image(2, 20, 30)
HERE = Path("S12.ome.tiff")


def slide_with(
    tmp_path: Path, *, size: tuple[str, str] | None, unit: str | None = "µm", tag: float | None = None
) -> Path:
    """An OME-TIFF with these words about its pixel size; `tag` in µm goes to the resolution tags."""
    layout = TiffLayout() if tag is None else TiffLayout(resolution=(1e4 / tag,) * 2, resolutionunit="CENTIMETER")
    return write_ome_tiff(tmp_path / "S12.ome.tiff", IMAGE, layout=layout, xml=ome_xml(IMAGE, size=size, unit=unit))


def test_SL10_missing_pixel_size_is_refused_naming_the_column(tmp_path: Path):
    path = slide_with(tmp_path, size=None, unit=None)
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert str(caught.value) == (
        "S12.ome.tiff: no physical pixel size in its metadata, so areas in mm² cannot be computed\n"
        "Give it in slides.csv, column pixel_size_um, or run: mihc inspect S12.ome.tiff"
    )
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.pixel_size_um == (0.5, 0.5) and slide.pixel_size_source == "given as pixel_size_um"


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_SL11_a_unit_that_is_no_length_is_refused(tmp_path: Path, unit: str):
    path = slide_with(tmp_path, size=("0.5", "0.5"), unit=unit)
    with pytest.raises(SlideError, match=f"unit “{unit}”"):
        open_slide(path)
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


ENCODINGS = [
    ("500", "nm"),
    ("0.5", "µm"),
    ("0.5", "μm"),
    ("5e-4", "mm"),
    ("5e-5", "cm"),
    ("5e-7", "m"),
    ("500000", "pm"),
]


@pytest.mark.parametrize(("value", "unit"), ENCODINGS)
def test_SL12_every_unit_of_length_gives_the_same_size(tmp_path: Path, value: str, unit: str):
    with open_slide(slide_with(tmp_path, size=(value, value), unit=unit)) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


def test_SL12_inches_too():
    assert um_per("inch") == 25400 and um_per("parsec") is None


def test_SL13_a_missing_unit_is_micrometres_with_a_warning(tmp_path: Path):
    with open_slide(slide_with(tmp_path, size=("0.5", "0.5"), unit=None)) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)
        assert slide.warnings == ("PhysicalSizeXUnit is missing; µm by the OME standard",)


@pytest.mark.parametrize("value", ["5e-7", "0", "-0.5", "nan", "inf", "6"])
def test_SL14_an_implausible_size_is_refused(tmp_path: Path, value: str):
    with pytest.raises(SlideError, match="implausible"):
        open_slide(slide_with(tmp_path, size=(value, value)))


def test_SL14_the_message_has_the_number_as_it_is_read(tmp_path: Path):
    with pytest.raises(SlideError, match="implausible 5e-07 µm"):
        open_slide(slide_with(tmp_path, size=("5e-7", "5e-7")))


def test_SL15_sources_that_disagree_are_refused_until_one_is_given(tmp_path: Path):
    path = slide_with(tmp_path, size=("0.5", "0.5"), tag=0.25)
    with pytest.raises(
        SlideError, match=r"disagree: OME-XML PhysicalSize gives 0\.5 µm, TIFF resolution tags gives 0\.25"
    ):
        open_slide(path)
    with open_slide(path, pixel_size_um=0.25) as slide:
        assert slide.pixel_size_um == (0.25, 0.25)
    with open_slide(slide_with(tmp_path, size=("0.5", "0.5"), tag=0.501)) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


def test_SL16_pixels_that_are_not_square_are_refused_beyond_one_percent(tmp_path: Path):
    with pytest.raises(SlideError, match="not square"):
        open_slide(slide_with(tmp_path, size=("0.5", "0.506")))
    with open_slide(slide_with(tmp_path, size=("0.5", "0.504"))) as slide:
        assert slide.pixel_size_um == (0.504, 0.5)


def test_SL17_a_screen_resolution_is_no_pixel_size(tmp_path: Path):
    layout = TiffLayout(resolution=(72, 72), resolutionunit="INCH")
    path = write_pages(tmp_path / "s.tif", IMAGE, layout=layout)
    with pytest.raises(SlideError, match="screen resolution"):
        open_slide(path)
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


def test_SL17_a_screen_resolution_beside_ome_xml_says_nothing(tmp_path: Path):
    layout = TiffLayout(resolution=(72, 72), resolutionunit="INCH")
    with open_slide(write_ome_tiff(tmp_path / "s.ome.tif", IMAGE, layout=layout)) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


def test_a_given_size_must_not_contradict_the_file(tmp_path: Path):
    path = slide_with(tmp_path, size=("0.5", "0.5"))
    with pytest.raises(
        SlideError, match=r"pixel_size_um is 0\.25 µm, but OME-XML PhysicalSize of the file gives 0\.5 µm"
    ):
        open_slide(path, pixel_size_um=0.25)
    with open_slide(path, pixel_size_um=(0.504, 0.504)) as slide:  # within 1 %: the file's own holds
        assert slide.pixel_size_um == (0.5, 0.5) and slide.pixel_size_source == "OME-XML PhysicalSize"


@pytest.mark.parametrize("given", [0, -1, float("nan"), 500.0, (0.5, 0.6)])
def test_a_given_size_is_held_to_the_same_rules(tmp_path: Path, given: float):
    with pytest.raises(SlideError, match="pixel_size_um"):
        open_slide(slide_with(tmp_path, size=None), pixel_size_um=given)


@given(first=st.floats(0.05, 5), second=st.floats(0.05, 5))
def test_two_claims_settle_on_the_first_or_are_refused(first: float, second: float):
    claims = [PixelSizeClaim("a", first, first), PixelSizeClaim("b", second, second)]
    settled = settle_pixel_size(claims, None, HERE)
    assert isinstance(settled, Refusal) == (abs(first - second) > 0.01 * max(first, second) * (1 + 1e-9))
    assert differs(first, second) == differs(second, first)
    if not isinstance(settled, Refusal):
        assert settled == ((first, first), "a")


def panel_of(*channels: str) -> Panel:
    """A panel that names these channels, each as its own marker."""
    return Panel("", tuple(PanelRow(channel, channel, "marker", "cell", None, "FFFFFF") for channel in channels))


def test_SL32_duplicate_channel_names_are_kept_and_listed_for_the_panel(tmp_path: Path):
    image = coded_image(4)
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, xml=ome_xml(image, names=["DAPI", "CD8", "CD8", "CD3"]))
    with open_slide(path) as slide:
        assert slide.channels == ("DAPI", "CD8", "CD8", "CD3")
        assert slide.duplicate_channels == ("CD8",)
        with pytest.raises(PanelError, match=r"'CD8' .* occurs 2 times in the slide, at 1, 2"):
            panel_of("DAPI", "CD8").match(slide.channels)
        assert panel_of("DAPI", "2").match(slide.channels) == {"DAPI": 0, "2": 2}
    lines = [line for line in inspect_slide(path) if "more than once" in line]
    assert len(lines) == 2 and all("index" in line for line in lines)


def test_SL33_empty_channel_names_stay_empty_and_inspect_asks_for_indices(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "s.ome.tif", IMAGE, xml=ome_xml(IMAGE, names=["", ""]))
    with open_slide(path) as slide:
        assert slide.channels == ("", "") and slide.duplicate_channels == ()
    assert sum("give the index in panel.csv" in line for line in inspect_slide(path)) == 2


def two_scenes(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    first, second = coded_image(2, 40, 50), coded_image(2, 33, 61)[:, ::-1]
    xml = [
        ome_xml(first, image_name="core A", tiff_data='<TiffData IFD="0" PlaneCount="2"/>'),
        ome_xml(second, image_name="core B", tiff_data='<TiffData IFD="2" PlaneCount="2"/>'),
        ome_xml(IMAGE[:1], image_name="label", tiff_data='<TiffData IFD="4" PlaneCount="1"/>'),
    ]
    pages = [*second, IMAGE[0]]
    return write_pages(tmp_path / "s.ome.tif", first, description=ome_document(*xml), append=pages), first, second


def test_several_scenes_need_a_choice_by_name_or_index(tmp_path: Path):
    path, first, second = two_scenes(tmp_path)
    with pytest.raises(SlideError, match="holds 2 scenes") as caught:
        open_slide(path)
    assert caught.value.fix == "Choose one in slides.csv, column scene: 0 “core A”, 1 “core B”"
    for scene, image in ((0, first), ("1", second), ("core B", second), ("core A", first)):
        with open_slide(path, scene=scene) as slide:
            assert slide.scenes == ("core A", "core B")
            np.testing.assert_array_equal(slide.image[:], image)
    for scene in ("core C", 2, "all"):
        with pytest.raises(SlideError, match="no scene is named"):
            open_slide(path, scene=scene)


def test_pictures_of_the_label_are_no_scene(tmp_path: Path):
    path, _, _ = two_scenes(tmp_path)
    assert "not read     label" in inspect_slide(path)
    with pytest.raises(SlideError, match="no scene is named “label”"):
        open_slide(path, scene="label")


def test_the_scanned_area_is_the_canvas_unless_the_format_knows_better(tmp_path: Path):
    with open_slide(slide_with(tmp_path, size=("0.5", "0.5"))) as slide:
        assert slide.scanned_px.equals(shapely.box(0, 0, 30, 20))


def test_all_reasons_against_a_file_are_told_at_once(tmp_path: Path):
    path = write_ome_tiff(tmp_path / "s.ome.tif", IMAGE, xml=ome_xml(IMAGE, size=None, unit=None, size_c=1, size_z=2))
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert "2 focal planes" in caught.value.what and "no physical pixel size" in caught.value.what
    assert "column z" in caught.value.fix and "column pixel_size_um" in caught.value.fix


def test_indexing_is_numpys(tmp_path: Path):
    image = coded_image(3, 20, 30)
    with open_slide(write_ome_tiff(tmp_path / "s.ome.tif", image)) as slide:
        keys = [1, -1, (0, 3), (0, 3, 4), (slice(None), -4, slice(3, 9)), (..., 5), ([2, 2, 0],), (1, slice(2, 19, 3))]
        for key in [
            *keys,
            (slice(None, None, -1), slice(5, 5)),
            (slice(1, 9),),
            (2, slice(-8, None), slice(None, -25)),
        ]:
            np.testing.assert_array_equal(slide.image[key], image[key])
        assert (len(slide.image), slide.image.ndim, slide.image.size) == (3, 3, image.size)
        for key in [3, (0, 20), (0, 0, -31), (0, 0, 0, 0), (0, slice(9, 0, -1))]:
            with pytest.raises(IndexError):
                _ = slide.image[key]


def test_what_is_no_slide_is_refused_by_name(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not a slide, but some sixteen bytes")
    with pytest.raises(SlideError, match=r"notes\.txt: is no slide that mihc reads"):
        open_slide(tmp_path / "notes.txt")
    with pytest.raises(SlideError, match=r"missing\.tif: no such file"):
        open_slide(tmp_path / "missing.tif")
    (tmp_path / "short.tif").write_bytes(b"II*\0")
    with pytest.raises(SlideError):
        open_slide(tmp_path / "short.tif")


def test_inspect_says_what_is_there_and_how_large_it_is(tmp_path: Path):
    text = "\n".join(inspect_slide(slide_with(tmp_path, size=("0.5", "0.5"))))
    for words in (
        "format       OME-TIFF",
        "size         30 x 20 px, 0.015 x 0.01 mm",
        "2 channels, uint16",
        "pixel size   0.5 µm (OME-XML PhysicalSize)",
        "  0  marker 0",
        "  1  marker 1",
    ):
        assert words in text
    assert "cannot use" not in text


def test_SL34_hostile_channel_names_stay_data(tmp_path: Path):
    names = ["../../x", "&lt;script&gt;", "=cmd()", "A" * 300, "CD3\u202e8"]
    image = coded_image(5, 8, 8)
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, xml=ome_xml(image, names=names))
    with open_slide(path) as slide:
        assert slide.channels == ("../../x", "<script>", "=cmd()", "A" * 300, "CD3\u202e8")
    lines = inspect_slide(path)
    assert all(line.isprintable() and len(line) < 200 for line in lines)


def test_SL18_channels_called_red_green_and_blue_are_brightfield(tmp_path: Path):
    image = coded_image(3, 8, 8, np.uint8)
    path = write_ome_tiff(tmp_path / "s.ome.tif", image, xml=ome_xml(image, names=["Red", "Green", "Blue"]))
    with pytest.raises(SlideError, match="brightfield RGB"):
        open_slide(path)


def test_inspect_shows_the_file_and_the_refusal_with_what_to_type(tmp_path: Path):
    text = "\n".join(inspect_slide(slide_with(tmp_path, size=None, unit=None)))
    assert "size         30 x 20 px\n" in text and "marker 1" in text
    assert "cannot use this file yet" in text and "slides.csv, column pixel_size_um" in text


def test_SL25_a_blank_channel_is_opened_as_it_is(tmp_path: Path):
    """A channel of zeros is no fault of the file; that it shows nothing is a check of the slide's quality."""
    image = coded_image(2, 20, 30)
    image[1] = 0
    with open_slide(write_ome_tiff(tmp_path / "s.ome.tif", image)) as slide:
        assert slide.warnings == () and not slide.image[1].any()
        np.testing.assert_array_equal(slide.image[0], image[0])


@pytest.mark.parametrize("unit", [b"\xb5m", b"\xc2\xb5m", b"\xce\xbcm", b"\xc3\x82\xc2\xb5m"])
def test_SL41_a_micro_sign_in_any_encoding_is_a_micrometre(tmp_path: Path, unit: bytes):
    """Latin-1, UTF-8, the Greek letter, and UTF-8 that was taken for Latin-1 and encoded again."""
    document = ome_document(ome_xml(IMAGE, unit="µm")).replace("µm".encode(), unit)
    with open_slide(write_pages(tmp_path / "s.ome.tif", IMAGE, description=document)) as slide:
        assert slide.pixel_size_um == (0.5, 0.5) and slide.warnings == ()


@pytest.mark.parametrize("unit", [b"\xff\xfem", b"\xef\xbf\xbdm", b"?m"])
def test_SL41_a_unit_that_cannot_be_recognised_is_refused(tmp_path: Path, unit: bytes):
    document = ome_document(ome_xml(IMAGE, unit="µm")).replace("µm".encode(), unit)
    path = write_pages(tmp_path / "s.ome.tif", IMAGE, description=document)
    with pytest.raises(SlideError, match=r"in the unit .* which is no length"):
        open_slide(path)
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


@pytest.mark.parametrize("folder", [False, True])
def test_SL43_a_slide_that_may_not_be_read_is_refused(tmp_path: Path, folder: bool):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE) if folder else write_ome_tiff(tmp_path / "s.ome.tif", IMAGE)
    open_slide(path).close()
    for part in (*path.rglob("*"), path):
        part.chmod(0)
    with without_roots_rights(), pytest.raises(SlideError, match="no permission to read it") as caught:
        open_slide(path)
    assert caught.value.exit_code == 3 and "read access" in caught.value.fix


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Root may read everything, so the test becomes nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=8))
def test_a_damaged_header_is_refused_or_read_but_never_a_crash(
    cut: int, flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("fuzz") / "s.ome.tif"
    data = bytearray(write_ome_tiff(path, coded_image(1, 16, 16), layout=TiffLayout(tile=(16, 16))).read_bytes())
    for at, value in flips:
        if at < len(data):
            data[at] = value
    path.write_bytes(data[: len(data) - cut] if cut < 1000 else data)
    try:
        with open_slide(path, pixel_size_um=0.5) as slide:
            _ = slide.image[:]
    except SlideError:
        pass


def test_importing_the_readers_is_light():
    heavy = ("tifffile", "zarr", "pylibCZIrw", "imagecodecs")
    code = f"import mihc.slide, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
