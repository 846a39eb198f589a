"""A CZI as an Axioscan writes it: scenes on one canvas, overlapping tiles, sub-block pyramids, 14 bits in 16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from slide_fixtures import Tile, write_czi

from mihc.errors import SlideError
from mihc.slide import inspect_slide, open_slide

SIDE, OVERLAP = 64, 8  # of a mosaic tile, and what neighbours share
STEP = SIDE - OVERLAP
SCENES = {0: (-700, -300, 3, 2), 1: (120, 40, 2, 3)}  # scene -> x, y, tiles across, tiles down
NOT_SCANNED = {(0, 2, 1), (1, 0, 0)}  # scene, column, row: the scan region is no rectangle
CHANNELS = ("DAPI", "AF488", "QD655")
MARK = 1000  # each tile's pixels hold its own number above it


def xml() -> str:
    """As in ZEISS's metadata: Ids from 1, names only in the display settings, scale in metres beside a unit to show."""
    channels = "".join(
        f'<Channel Id="Channel:{at}"><ExcitationWavelength>{400 + at}</ExcitationWavelength><Fluor>dye {at}</Fluor>'
        "<PixelType>Gray16</PixelType><ComponentBitCount>14</ComponentBitCount><ExposureTime>15000000</ExposureTime>"
        "</Channel>"
        for at in (1, 2, 3)
    )
    shown = "".join(
        f'<Channel Id="Channel:{at}" Name="{name}"><Low>0.01</Low><High>0.5</High></Channel>'
        for at, name in reversed(list(enumerate(CHANNELS, 1)))
    )
    scenes = "".join(
        f'<Scene Index="{at}" Name="ScanRegion{at + 1}"><CenterPosition>1,2</CenterPosition></Scene>' for at in (0, 1)
    )
    return (
        "<ImageDocument><Metadata><Information><Image><SizeX>940</SizeX><SizeY>516</SizeY><SizeC>3</SizeC>"
        f"<SizeS>2</SizeS><SizeM>6</SizeM><Dimensions><Channels>{channels}</Channels>"
        f"<S><Scenes>{scenes}</Scenes></S></Dimensions></Image></Information><Scaling><Items>"
        '<Distance Id="X"><Value>3.25E-07</Value><DefaultUnitFormat>um</DefaultUnitFormat></Distance>'
        '<Distance Id="Y"><Value>3.25E-07</Value><DefaultUnitFormat>um</DefaultUnitFormat></Distance></Items></Scaling>'
        f"<DisplaySetting><Channels>{shown}</Channels></DisplaySetting></Metadata></ImageDocument>"
    )


def value(scene: int, channel: int, m: int) -> int:
    return MARK * (1 + channel) + 100 * scene + m


def mosaic(scene: int, compression: str) -> list[Tile]:
    """The tiles of a scene, numbered row by row; the pyramid's cover four, at half the size."""
    x0, y0, across, down = SCENES[scene]
    tiles = []
    for channel in range(len(CHANNELS)):
        for m, (row, column) in enumerate((r, c) for r in range(down) for c in range(across)):
            if (scene, column, row) in NOT_SCANNED:
                continue
            plane = np.full((SIDE, SIDE), value(scene, channel, m), np.uint16)
            place = {"x": x0 + STEP * column, "y": y0 + STEP * row, "c": channel, "scene": scene}
            tiles.append(Tile(plane, **place, m=m, compression=compression))
        small = np.full((SIDE, SIDE), 7, np.uint16)
        tiles.append(Tile(small, x0, y0, channel, scene, compression=compression, shrink=2))
    return tiles


def expected(scene: int, channel: int) -> np.ndarray:
    """The scene painted tile by tile: a later M lies on top."""
    _, _, across, down = SCENES[scene]
    out = np.zeros((STEP * (down - 1) + SIDE, STEP * (across - 1) + SIDE), np.uint16)
    for m, (row, column) in enumerate((r, c) for r in range(down) for c in range(across)):
        if (scene, column, row) not in NOT_SCANNED:
            out[STEP * row : STEP * row + SIDE, STEP * column : STEP * column + SIDE] = value(scene, channel, m)
    return out


@pytest.fixture(params=["jpegxr", "zstd1"])
def axioscan(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tiles = [*mosaic(0, request.param), *mosaic(1, request.param)]
    shuffled = [tiles[at] for at in np.random.default_rng(3).permutation(len(tiles))]
    return write_czi(tmp_path / "axioscan.czi", shuffled, xml())


def scanned(scene: int) -> shapely.Geometry:
    _, _, across, down = SCENES[scene]
    return shapely.union_all(
        [
            shapely.box(STEP * c, STEP * r, STEP * c + SIDE, STEP * r + SIDE)
            for r in range(down)
            for c in range(across)
            if (scene, c, r) not in NOT_SCANNED
        ]
    )


@pytest.mark.parametrize("scene", [0, 1])
def test_each_scene_is_composed_on_its_own_canvas(axioscan: Path, scene: int):
    with open_slide(axioscan, scene=f"ScanRegion{scene + 1}") as slide:
        assert slide.channels == CHANNELS and slide.dyes == ("dye 1", "dye 2", "dye 3")
        assert slide.pixel_size_um == (0.325, 0.325) and slide.significant_bits == 14
        assert slide.scanned_px.equals(scanned(scene)) and slide.warnings == ()
        height, width = slide.image.shape[1:]
        assert slide.levels == ((height, width), (-(-height // 2), -(-width // 2)))
        for channel in range(3):
            np.testing.assert_array_equal(slide.image[channel], expected(scene, channel))


def test_a_tile_that_no_channel_has_is_no_scanned_area(axioscan: Path):
    with open_slide(axioscan, scene=1) as slide:
        assert not slide.scanned_px.contains(shapely.Point(10, 10))
    with open_slide(axioscan, scene=0) as slide:
        assert slide.scanned_px.area == slide.image.shape[1] * slide.image.shape[2] - STEP * STEP


def test_all_scenes_share_the_canvas_of_the_file(axioscan: Path):
    with open_slide(axioscan, scene="all") as slide:
        assert slide.image.shape == (3, 40 + 2 * STEP + SIDE + 300, 120 + STEP + SIDE + 700)
        np.testing.assert_array_equal(slide.image[1, :120, :176], expected(0, 1))
        np.testing.assert_array_equal(slide.image[2, 340:, 820:], expected(1, 2))
        assert slide.scanned_px.area == scanned(0).area + scanned(1).area


@pytest.mark.parametrize("window", [13, 50, 64, 200])
def test_overlaps_are_the_same_in_every_window(axioscan: Path, window: int):
    with open_slide(axioscan, scene=0) as slide:
        height, width = slide.image.shape[1:]
        whole = np.zeros((height, width), np.uint16)
        for y in range(0, height, window):
            for x in range(0, width, window):
                whole[y : y + window, x : x + window] = slide.image[0, y : y + window, x : x + window]
        np.testing.assert_array_equal(whole, expected(0, 0))


def test_fourteen_bits_set_the_ceiling(tmp_path: Path):
    bright = np.full((SIDE, SIDE), 1 << 14, np.uint16)
    tiles = [Tile(bright - 1, 0, 0, c=c, scene=0, m=0) for c in range(3)]
    text = xml().replace("<SizeS>2", "<SizeS>1")
    with open_slide(write_czi(tmp_path / "a.czi", tiles, text)) as slide:
        assert slide.image[0].max() == (1 << slide.significant_bits) - 1
    tiles[2] = Tile(bright, 0, 0, c=2, scene=0, m=0)
    with (
        open_slide(write_czi(tmp_path / "b.czi", tiles, text)) as slide,
        pytest.raises(SlideError, match="16384 exceeds"),
    ):
        _ = slide.image[2]


def test_inspect_lists_scenes_channels_and_what_is_never_decoded(axioscan: Path):
    lines = inspect_slide(axioscan, scene=0)
    assert "scene 0      “ScanRegion1”, 176 x 120 px" in lines and "scene 1      “ScanRegion2”, 120 x 176 px" in lines
    assert "    0  DAPI [dye 1]" in lines and "    2  QD655 [dye 3]" in lines
    assert "not read     attachments (label, preview, thumbnail)" in lines
    assert "pixels       3 channels, uint16, 14 significant bits" in lines
