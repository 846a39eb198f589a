"""Quality checks: what is worth a warning, and in which words."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from mihc.areas.automatic import tissue_mask
from mihc.qc import Level, cells_qc, examine, picture_qc, sharpness
from mihc.synthetic import draw_slide


@pytest.fixture(scope="module")
def slide():
    drawn = draw_slide(seed=0)
    c, y, x = drawn.image.shape
    pixels = drawn.image.reshape(c, y // 4, 4, x // 4, 4).mean(axis=(2, 4))
    cells = drawn.table.assign(flags=0)
    return pixels, drawn.channels, cells


def seen(pixels, channels, roles, pixel_um=2.0):
    """An overview, and what is seen on it."""
    size = (pixel_um, pixel_um)
    overview = SimpleNamespace(pixels=pixels, pixel_size_um=size, channels=channels)
    level = Level(pixels, size)
    tissue = tissue_mask(pixels, pixel_um, roles)
    return overview, examine(overview, tissue=tissue, roles=roles, near_2_um=level, near_1_um=level, ceiling=65535.0)


def checked(pixels, channels, cells, *, saturated=0.0, tissue=0.226, excluded=0.0, roles=None, pixel_um=2.0):
    roles = roles or ("nuclei", *["marker"] * (len(channels) - 1))
    overview, findings = seen(pixels, channels, roles, pixel_um)
    facts = {
        name: {"smallest": float(plane.min()), "largest": float(plane.max()), "saturated_share": saturated}
        for name, plane in zip(channels, pixels)
    }
    ledger = pd.DataFrame(
        [("S01", "tissue", "", tissue), ("S01", "excluded", "fold", excluded)],
        columns=["slide", "category", "region", "area_mm2"],
    )
    looks = picture_qc("S01", overview, {"channels": facts}, findings=findings, roles=roles)
    return pd.concat([looks, cells_qc("S01", cells, ledger)]).set_index("check")


def test_a_good_slide_passes_every_check(slide):
    table = checked(*slide)
    assert set(table["verdict"]) == {"ok"}
    assert set(table["slide"]) == {"S01"}
    assert table["value"].notna().all()
    assert 5.5 < table.loc["nucleus diameter", "value"] < 10


@pytest.mark.parametrize(("blur_um", "verdict"), [(1.0, "ok"), (3.0, "warn"), (6.0, "fail")])
def test_focus_is_judged_on_the_nuclei(slide, blur_um, verdict):
    pixels, channels, cells = slide
    blurred = pixels.copy()
    blurred[0] = ndimage.gaussian_filter(pixels[0], blur_um / 2.0)
    assert checked(blurred, channels, cells).loc["focus: DAPI", "verdict"] == verdict


def test_sharpness_does_not_depend_on_brightness(slide):
    nuclei = slide[0][0]
    assert sharpness(3 * nuclei + 500, 2.0) == pytest.approx(sharpness(nuclei, 2.0), rel=1e-3)
    assert np.isnan(sharpness(np.ones((20, 20)), 2.0))


@pytest.mark.parametrize(("share", "verdict"), [(0.01, "ok"), (0.0101, "warn"), (0.2, "fail")])
def test_SL24_more_than_one_percent_saturated_is_a_warning(slide, share, verdict):
    table = checked(*slide, saturated=share)
    assert table.loc["saturation: CD8", "verdict"] == verdict
    assert table.loc["saturation: CD8", "value"] == pytest.approx(100 * share)


def test_a_blank_channel_is_named(slide):
    pixels, channels, cells = slide
    blank = pixels.copy()
    blank[3] = 17
    row = checked(blank, channels, cells).loc["signal: CD8"]
    assert (row["verdict"], row["value"]) == ("fail", 0)
    assert "CD8 has the same value everywhere" in row["explanation"]


def test_a_channel_exported_twice_is_named(slide):
    pixels, channels, cells = slide
    twice = pixels.copy()
    twice[4] = 2 * pixels[2] + 5
    row = checked(twice, channels, cells).loc["channels alike"]
    assert row["verdict"] == "fail"
    assert "CD3 and CD20 are the same picture" in row["explanation"]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_pixel_size_off_by_two_is_noticed(slide, factor):
    pixels, channels, cells = slide
    wrong = cells.assign(nucleus_area_um2=cells["nucleus_area_um2"] * factor**2)
    row = checked(pixels, channels, wrong, tissue=0.226 * factor**2).loc["nucleus diameter"]
    assert row["verdict"] in ("warn", "fail")
    assert "pixel size" in row["explanation"]


def test_a_slide_without_nuclei_fails_and_says_so(slide):
    pixels, channels, cells = slide
    table = checked(pixels, channels, cells.iloc[:0], tissue=0.0)
    assert table.loc["nuclei", "verdict"] == "fail"
    assert table.loc["excluded tissue", "verdict"] == "fail"
    assert "nucleus diameter" not in table.index


@pytest.mark.parametrize(("excluded", "verdict"), [(0.01, "ok"), (0.1, "warn"), (0.2, "fail")])
def test_much_excluded_tissue_is_a_warning(slide, excluded, verdict):
    table = checked(*slide, excluded=excluded)
    assert table.loc["excluded tissue", "verdict"] == verdict
    assert table.loc["excluded tissue", "value"] == pytest.approx(100 * excluded / 0.226)


def test_without_a_nuclei_channel_focus_and_size_are_not_claimed(slide):
    pixels, channels, cells = slide
    table = checked(pixels, channels, cells, roles=("marker",) * len(channels))
    assert not table.index.str.contains("focus|size").any()
