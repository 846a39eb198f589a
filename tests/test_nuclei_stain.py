"""What enters the segmentation: stains summed, autofluorescence taken away, sensitivity in words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import draw, matched
from scipy import ndimage

from mihc.cells import CellSettings, cells_in_window
from mihc.errors import InputError
from mihc.nuclei import RECIPE, halo_px, recipe_for, segment_nuclei, slide_reference
from mihc.nuclei_stain import Autofluorescence, NuclearStain, measure_autofluorescence, nuclear_stain
from mihc.pipeline import run
from mihc.store import Store, read_cells
from mihc.study import read_study
from mihc.synthetic import draw_slide
from mihc.windows import whole, windows

UM = 0.5
EVERY = np.s_[:, :]


def disc(shape, y, x, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


# --- autofluorescence


def test_the_share_is_taken_pixel_by_pixel_by_hand():
    # 512 / 1024 of what exceeds 100; never below the background of 50, nor above what was there
    image = np.array([[[500, 500, 500, 60, 40]], [[100, 101, 300, 900, 900]]], np.uint16)
    glow = Autofluorescence(channel=1, usual=100.0, share=512, floor=50.0)
    assert nuclear_stain(image, (0,), glow, EVERY).tolist() == [[500, 500, 400, 50, 40]]
    assert nuclear_stain(image, (0,), None, EVERY).tolist() == image[0].tolist()
    floats = nuclear_stain(image.astype(np.float32), (0,), glow, EVERY)
    assert floats[0, 1] == 499.5 and floats[0, 2] == 400


def test_several_stains_are_summed_before_the_share_is_taken():
    image = np.array([[[40_000]], [[40_000]], [[300]]], np.uint16)
    glow = Autofluorescence(channel=2, usual=100.0, share=1024, floor=10.0)
    assert NuclearStain(image, (0, 1), glow)[0:1, 0:1].tolist() == [[79_800]]


@pytest.fixture(scope="module")
def dirty():
    """A drawn slide, clean; with debris that glows, of which the nuclear stain has a third; and where debris is."""
    drawn = draw_slide(seed=3, size_px=(768, 768))
    dapi, glow = drawn.channels.index("DAPI"), drawn.channels.index("AF")
    rng = np.random.default_rng(0)
    debris = np.zeros((768, 768))
    for y, x in rng.integers(0, 768, (90, 2)):
        debris[disc(debris.shape, y, x, rng.uniform(3, 8))] = rng.lognormal(8.3, 0.4)
    debris = ndimage.gaussian_filter(debris, 1.2)
    image = drawn.image.copy()
    image[glow] = np.clip(image[glow] + debris, 0, 65535)
    image[dapi] = np.clip(image[dapi] + 0.33 * debris, 0, 65535)
    return drawn, image, (debris > 800) & (drawn.nuclei == 0), dapi, glow


def segmented(image, dapi, autofluorescence):
    return segment_nuclei(NuclearStain(image, (dapi,), autofluorescence)[EVERY], pixel_size_um=UM)


def on(labels, where):
    """How many nuclei have more than half of their pixels there."""
    names, inverse, count = np.unique(labels, return_inverse=True, return_counts=True)
    there = np.bincount(inverse.ravel(), weights=where.ravel(), minlength=len(names))
    return int(((there > 0.5 * count) & (names > 0)).sum())


def test_autofluorescent_debris_is_left_out_and_no_nucleus_with_it(dirty):
    drawn, image, debris, dapi, glow = dirty
    measured = measure_autofluorescence(image, (dapi,), glow)
    assert abs(measured.share / 1024 - 0.33) < 0.05
    before, after = segmented(image, dapi, None), segmented(image, dapi, measured)
    assert on(before, debris) > 40
    assert on(after, debris) <= 2
    hits, found, planted = matched(after, drawn.nuclei)
    clean_hits, clean_found, _ = matched(segmented(drawn.image, dapi, None), drawn.nuclei)
    assert hits >= clean_hits - 0.01 * planted and found <= clean_found + 0.01 * planted


def test_on_a_clean_slide_nothing_real_is_lost(dirty):
    drawn, _, _, dapi, glow = dirty
    measured = measure_autofluorescence(drawn.image, (dapi,), glow)
    before, after = segmented(drawn.image, dapi, None), segmented(drawn.image, dapi, measured)
    hits = [matched(labels, drawn.nuclei) for labels in (before, after)]
    assert abs(hits[0][0] - hits[1][0]) <= 0.004 * hits[0][2] and abs(hits[0][1] - hits[1][1]) <= 0.004 * hits[0][2]


@pytest.mark.parametrize("bleed", [0.05, 0.3, 1.0])
def test_nuclear_stain_that_shines_into_the_autofluorescence_takes_no_nucleus_away(dirty, bleed):
    drawn, _, _, dapi, glow = dirty
    image = drawn.image.astype(np.int64)
    image[glow] = 100 + np.rint(bleed * image[dapi])
    image = np.clip(image, 0, 65535).astype(np.uint16)
    measured = measure_autofluorescence(image, (dapi,), glow)
    assert measured.share == 0
    assert (segmented(image, dapi, measured) == segmented(image, dapi, None)).all()


def test_the_share_is_the_same_in_other_units(dirty):
    """Float pictures from 0 to 1, as inForm writes them."""
    _, image, _, dapi, glow = dirty
    counts, units = (measure_autofluorescence(picture, (dapi,), glow) for picture in (image, image / 2.0**16))
    assert abs(counts.share - units.share) <= 1
    assert units.usual == pytest.approx(counts.usual / 2**16) and units.floor == pytest.approx(counts.floor / 2**16)


@pytest.mark.parametrize("level", [0, 300])
def test_an_even_autofluorescence_is_harmless(level):
    image = draw((300, 300))[0]
    image = np.stack([image[0], np.full_like(image[0], level)])
    assert measure_autofluorescence(image, (0,), 1).share == 0
    assert measure_autofluorescence(image * 0, (0,), 1).share == 0
    assert measure_autofluorescence(image[:, :0], (0,), 1).share == 0


def test_NP6_taking_autofluorescence_away_depends_on_no_window(dirty):
    _, image, _, dapi, glow = dirty
    measured = measure_autofluorescence(image, (dapi,), glow)
    whole_picture = NuclearStain(image, (dapi,), measured)[EVERY]
    parts = [NuclearStain(image, (dapi,), measured)[y : y + 100, 0:768] for y in range(0, 768, 100)]
    assert (np.concatenate(parts) == whole_picture).all() and (whole_picture != image[dapi]).any()


# --- sensitivity


@pytest.fixture(scope="module")
def dim():
    """Nuclei from bright to hardly there, over noise."""
    _, truth = draw((500, 520), seed=9, spacing=26.0)
    rng = np.random.default_rng(1)
    share = np.concatenate([[0], rng.uniform(0.12, 1.0, truth.max())])
    soft = ndimage.gaussian_filter(share[truth] * 700, 1.2)
    return np.rint(100 + soft + rng.normal(0, 6, soft.shape)).clip(0).astype(np.uint16), truth


def count(labels):
    return len(np.unique(labels)) - 1


def test_a_higher_sensitivity_finds_more_dim_nuclei_and_they_are_real(dim):
    image, truth = dim
    found = {word: segment_nuclei(image, pixel_size_um=UM, sensitivity=word) for word in ("low", "normal", "high")}
    hits = {word: matched(labels, truth)[0] for word, labels in found.items()}
    assert hits["low"] < hits["normal"] < hits["high"]
    assert count(found["low"]) < count(found["normal"]) < count(found["high"])
    assert count(found["high"]) <= 1.03 * truth.max()


def test_the_normal_sensitivity_is_the_recipe_and_others_change_two_constants():
    assert recipe_for("normal") == RECIPE
    changed = {
        name for name in RECIPE.__dataclass_fields__ if getattr(recipe_for("low"), name) != getattr(RECIPE, name)
    }
    assert changed == {"share", "beside"}
    with pytest.raises(InputError, match='"low", "normal" or "high"'):
        segment_nuclei(np.zeros((9, 9)), pixel_size_um=UM, sensitivity="medium")


@pytest.mark.parametrize(("word", "side", "workers"), [("low", 256, 4), ("high", 256, 1), ("high", 384, 4)])
def test_NP6_windows_and_workers_change_nothing_at_any_sensitivity(word, side, workers):
    image, _truth = draw((600, 620), seed=9, spacing=26.0)
    glow = np.zeros_like(image)
    glow[0, ::60, ::45] = 3000
    image = np.concatenate([image, (100 + 40 * ndimage.gaussian_filter(glow, (0, 3, 3))).astype(np.uint16)])
    shape = image.shape[1:]
    chosen = CellSettings(
        8.0, 4.0, (0,), ((0, "M"),), (0,), sensitivity=word,
        autofluorescence=Autofluorescence(channel=1, usual=150.0, share=300, floor=100.0),
    )  # fmt: skip
    stain = NuclearStain(image, (0,), chosen.autofluorescence)
    reference = slide_reference(stain, pixel_size_um=UM)

    def one(window):
        block = image[(slice(None), *window.padded)]
        return cells_in_window(block, window, shape=shape, pixel_size_um=UM, settings=chosen, reference=reference)

    expected = one(whole(shape))
    labels = segment_nuclei(stain[EVERY], pixel_size_um=UM, reference=reference, sensitivity=word)
    assert (expected.nuclei == labels).all()
    todo = windows(shape, side, halo_px(UM))
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(one, todo))
    for window, part in zip(todo, parts, strict=True):
        assert (part.nuclei == expected.nuclei[window.core]).all() and (part.cells == expected.cells[window.core]).all()
    table = pd.concat([part.table for part in parts]).sort_values("cell", ignore_index=True)
    pd.testing.assert_frame_equal(table, expected.table, check_exact=True)


# --- from panel.csv


def written(folder, image, roles, more=""):
    """A study of one slide whose channels have these roles."""
    from mihc.drawing.files import write_ome_tiff

    folder.mkdir()
    write_ome_tiff(folder / "a.ome.tif", image, channels=list(roles), pixel_size_um=UM)
    (folder / "study.toml").write_text(f'[study]\nname = "small"\n{more}')
    lines = [f"{channel},{channel},{role}" for channel, role in roles.items()]
    (folder / "panel.csv").write_text("\n".join(["channel,marker,role", *lines, ""]))
    (folder / "slides.csv").write_text("slide,file,patient\nS1,a.ome.tif,P1\n")
    (folder / "clinical.csv").write_text("patient\nP1\n")
    return folder


def cells_of(folder):
    results = run(read_study(folder), until="cells")
    assert not results.failed
    return read_cells(folder / "results" / ".stages" / "cells" / "S1.parquet")


def test_the_channels_with_the_role_nuclei_are_summed(tmp_path):
    """Half of the nuclei are stained by one dye, half by the other: only the sum shows all."""
    image, truth = draw((400, 400), seed=2, spacing=30.0)
    odd = (truth % 2 == 1)[None]
    first, second = np.where(odd | (truth == 0), image, 100), np.where(~odd, image, 100)
    both = np.concatenate([first, second]).astype(np.uint16)
    alone = cells_of(written(tmp_path / "one", both, {"DAPI": "nuclei", "H3": "marker"}))
    summed = cells_of(written(tmp_path / "two", both, {"DAPI": "nuclei", "H3": "nuclei"}))
    assert abs(len(alone) / (truth.max() / 2) - 1) < 0.1
    assert abs(len(summed) / truth.max() - 1) < 0.05


def test_a_channel_with_the_role_autofluorescence_is_used_and_kept_in_the_record(tmp_path, dirty):
    drawn, image, _, dapi, glow = dirty
    image = image[[dapi, glow]]
    used = cells_of(written(tmp_path / "used", image, {"DAPI": "nuclei", "AF": "autofluorescence"}))
    unused = cells_of(written(tmp_path / "unused", image, {"DAPI": "nuclei", "AF": "marker"}))
    planted = drawn.nuclei.max()
    assert abs(len(used) / planted - 1) < 0.03 and len(unused) > len(used) + 40
    kept = Store(tmp_path / "used" / "results").record("cells", "S1").notes["autofluorescence"]
    assert kept == measure_autofluorescence(image, (0,), 1).as_dict() and kept["share"] > 0
    assert Store(tmp_path / "unused" / "results").record("cells", "S1").notes["autofluorescence"] is None


def test_the_sensitivity_of_study_toml_reaches_the_nuclei_and_the_stages_key(tmp_path, dim):
    folder = written(tmp_path / "study", dim[0][None], {"DAPI": "nuclei"}, '[segmentation]\nsensitivity = "low"\n')
    low = cells_of(folder)
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace('"low"', '"high"'))
    assert len(cells_of(folder)) > len(low)
