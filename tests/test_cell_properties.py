"""Properties of cells and of what is measured of them, whatever the picture: named as the catalogue has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from slide_fixtures import (
    TiffLayout,
    Tile,
    czi_xml,
    ome_xml,
    write_bioformats2raw,
    write_czi,
    write_ome_tiff,
    write_ome_zarr,
    write_pages,
    write_qptiff,
)
from test_cells import in_windows

import mihc
from mihc.cells import CellSettings, cells_in_window, grow_cells, halo_px, known_features, measure_cells
from mihc.nuclei import segment_nuclei, slide_reference
from mihc.windows import windows

UM = 0.5
EVERY = ("median", "percentile:90", "sd", "integrated", "shape", "background", "spillover")
MARKERS = ["A", "B"]


def planted(seed, shape=(60, 70), count=14):
    """A noisy picture of two channels, nuclei of any size, and their cells."""
    rng = np.random.default_rng(seed)
    nuclei = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for name in rng.choice(np.arange(1, 500), count, replace=False):
        at, size = rng.uniform(0, shape), rng.uniform(1, 7, 2)
        nuclei[(((y - at[0]) / size[0]) ** 2 + ((x - at[1]) / size[1]) ** 2 <= 1) & (nuclei == 0)] = name
    image = rng.integers(0, 3000, (2, *shape)).astype(np.uint16)
    return image, nuclei, grow_cells(nuclei, pixel_size_um=UM, distance_um=2.0)


def measured(image, nuclei, cells, **more):
    return measure_cells(image, nuclei, cells, markers=MARKERS, pixel_size_um=UM, features=EVERY, **more)


# --- tiles


class Read:
    """An image that says how large the boxes are that are read of it."""

    def __init__(self, image):
        self.image, self.shape, self.dtype, self.largest = image, image.shape, image.dtype, 0

    def __getitem__(self, box):
        found = self.image[box]
        self.largest = max(self.largest, *found.shape[-2:])
        return found


@pytest.mark.parametrize("tile", [64, 250, 256, 1000])
def test_NP5_fixed_labels_measured_in_tiles_give_the_same_table(tile):
    image, nuclei = draw((1010, 1020), channels=2, seed=3)
    nuclei[500:504, 20:990] = 4_000  # larger than a tile
    nuclei[246:254, 246:254] = 4_001  # in four tiles
    cells = grow_cells(nuclei, pixel_size_um=UM)
    given = {"markers": MARKERS, "pixel_size_um": UM}
    expected = measure_cells(image, nuclei, cells, **given)
    assert len(expected) > 2000
    read = Read(image)
    pd.testing.assert_frame_equal(measure_cells(read, nuclei, cells, window=tile, **given), expected, check_exact=True)
    assert read.largest == tile
    floats = image / np.float32(7)
    pd.testing.assert_frame_equal(
        measure_cells(Read(floats), nuclei, cells, window=tile, **given),
        measure_cells(floats, nuclei, cells, **given),
        check_exact=True,
    )


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), tile=st.integers(1, 80))
def test_NP5_any_tile_gives_the_same_table(seed, tile):
    image, nuclei, cells = planted(seed)
    given = {"markers": MARKERS, "pixel_size_um": UM}
    pd.testing.assert_frame_equal(
        measure_cells(Read(image), nuclei, cells, window=tile, **given),
        measure_cells(image, nuclei, cells, **given),
        check_exact=True,
    )


def discs(centres, shape, radius):
    """A picture of discs of 900 counts on 100, and whether they are apart from each other."""
    image = np.full(shape, 100, np.uint16)
    y, x = np.mgrid[-4:5, -4:5]
    dy, dx = np.nonzero(np.hypot(y, x) <= radius)
    for cy, cx in centres:
        image[cy + dy - 4, cx + dx - 4] = 900
    assert ndimage.label(image > 500)[1] == len(centres)
    return image[None]


def every_disc_once(centres, shape, side):
    """Cells in windows of a side: one for each disc, where it lies, and its labels in all windows fit together."""
    um = 1.0
    image = discs(centres, shape, 3.6)
    reference = slide_reference(image[0], pixel_size_um=um)
    chosen = CellSettings(8.0, 2.0, (0,), ((0, "A"),), (0,))
    rows, nuclei = [], np.zeros(shape, np.uint32)
    for window in windows(shape, side, halo_px(um, 8.0, 2.0)):
        block = image[(slice(None), *window.padded)]
        part = cells_in_window(block, window, shape=shape, pixel_size_um=um, settings=chosen, reference=reference)
        rows.append(part.table)
        nuclei[window.core] = part.nuclei
    table = pd.concat(rows)
    assert len(table) == len(centres) and table["cell"].is_unique
    ids, pixels = np.unique(nuclei[nuclei > 0], return_counts=True)
    assert (table.set_index("cell").loc[ids, "nucleus_area_um2"] == pixels).all()
    at = np.rint(table[["y_um", "x_um"]].to_numpy() - 0.5).astype(int)
    assert set(map(tuple, at.tolist())) == set(centres)


def test_NP7_of_10000_discs_1900_of_them_on_seams_none_is_lost_and_none_is_there_twice():
    # 100 x 100 discs, 12 pixels apart; each tenth row and column of them lies on a seam of windows of 120 pixels
    along = range(12, 1212, 12)
    centres = [(y, x) for y in along for x in along]
    assert sum(y % 120 == 0 or x % 120 == 0 for y, x in centres) == 1900
    every_disc_once(centres, (1212, 1212), 120)


@pytest.mark.slow
def test_NP7_of_10000_discs_on_seams_and_corners_none_is_lost_and_none_is_there_twice():
    # Along each seam of 24 x 24 windows, 12 pixels apart, and on every corner
    side, count = 120, 24
    ends = range(side, side * count, side)
    along = range(12, side * count, 12)
    centres = sorted({(a, b) for a in ends for b in along} | {(b, a) for a in ends for b in along})[:10_000]
    assert len(centres) == 10_000
    every_disc_once(centres, (side * count, side * count), side)


# --- geometry


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), before=st.tuples(st.integers(0, 9), st.integers(0, 9)), after=st.integers(0, 9))
def test_NP9_a_shift_with_padding_shifts_places_and_changes_nothing_else(seed, before, after):
    image, nuclei, cells = planted(seed)
    image, nuclei, cells = (np.pad(a, [(0, 0)] * (a.ndim - 2) + [(40, 40)] * 2) for a in (image, nuclei, cells))
    expected = measured(image, nuclei, cells)
    sides = [(before[0], after), (before[1], after)]
    moved = measured(np.pad(image, [(0, 0), *sides]), np.pad(nuclei, sides), np.pad(cells, sides))
    places = ["x_um", "y_um"]
    pd.testing.assert_frame_equal(moved.drop(columns=places), expected.drop(columns=places), check_exact=True)
    away = (moved[places] - expected[places]).to_numpy() / UM
    assert (abs(away - before[::-1]) <= 1e-9).all()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), turns=st.integers(0, 3), mirrored=st.booleans())
def test_NP10_mirrors_and_turns_of_image_and_labels_change_no_number(seed, turns, mirrored):
    def turned(array):
        array = np.rot90(array, turns, (-2, -1))
        return np.ascontiguousarray(array[..., ::-1] if mirrored else array)

    image, nuclei, cells = planted(seed)
    expected, found = measured(image, nuclei, cells), measured(*map(turned, (image, nuclei, cells)))
    places = ["x_um", "y_um"]
    pd.testing.assert_frame_equal(found.drop(columns=places), expected.drop(columns=places), check_exact=True)
    labels = turned(nuclei)
    for name, plane in zip(places, np.indices(labels.shape)[::-1], strict=True):
        there = ndimage.mean(plane, labels, expected["cell"])
        np.testing.assert_allclose(found[name], (there + 0.5) * UM, rtol=1e-12)


@pytest.mark.parametrize("turns", range(4))
def test_NP10_turned_slides_have_the_same_number_of_cells(turns):
    image = draw((420, 400), seed=13)[0][0]
    reference = slide_reference(image, pixel_size_um=UM)
    counts = [
        len(np.unique(segment_nuclei(np.ascontiguousarray(plane), pixel_size_um=UM, reference=reference)))
        for plane in (image, np.rot90(image, turns), np.rot90(image, turns)[:, ::-1])
    ]
    assert max(counts) - min(counts) <= 0.01 * counts[0]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), sides=st.tuples(st.floats(0.05, 5), st.floats(0.05, 5)))
def test_NP30_areas_are_pixels_times_both_sides_of_a_pixel(seed, sides):
    image, nuclei, cells = planted(seed)
    table = measure_cells(image, nuclei, cells, markers=MARKERS, pixel_size_um=sides)
    for part, labels in (("nucleus", nuclei), ("cell", cells)):
        pixels = np.bincount(labels.ravel())[table["cell"]]
        np.testing.assert_allclose(table[f"{part}_area_um2"], pixels * sides[0] * sides[1], rtol=1e-12)


# --- channels


def asked(order=(0, 1), features=EVERY):
    measured = tuple((k, MARKERS[k]) for k in order)
    return CellSettings(8.0, 4.0, (0,), measured, (0,) * len(order), features=known_features(features))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_NP16_NP18_planes_permuted_with_their_names_and_an_extra_one_change_nothing(seed):
    image, nuclei, cells = planted(seed)
    expected = measured(image, nuclei, cells)
    extra = np.random.default_rng(seed).integers(0, 9, image.shape[1:]).astype(np.uint16)
    again = measure_cells(
        np.stack([image[1], extra, image[0]]), nuclei, cells, markers=["B", "X", "A"], pixel_size_um=UM, features=EVERY
    )
    pd.testing.assert_frame_equal(again[expected.columns], expected, check_exact=True)


def test_NP17_the_order_in_which_channels_are_measured_changes_no_column():
    image = draw((260, 240), channels=2, seed=9)[0]
    reference = slide_reference(image[0], pixel_size_um=UM)
    here, there = (in_windows(image, None, 1, reference, asked(order))[2] for order in ((0, 1), (1, 0)))
    pd.testing.assert_frame_equal(there[here.columns], here, check_exact=True)
    assert len(here) > 100 and list(there) != list(here)


def little_study(folder, rows):
    """A study of one small slide with every feature, run until the cohort's tables."""
    folder.mkdir()
    write_ome_tiff(folder / "a.ome.tiff", draw((200, 220), channels=3, seed=6)[0])
    (folder / "panel.csv").write_text("\n".join(["channel,marker,role,threshold", *rows, ""]))
    (folder / "slides.csv").write_text("slide,file,patient\nS1,a.ome.tiff,P1\n")
    asked_for(folder, EVERY)
    ran(folder)
    return folder


def asked_for(folder, features):
    (folder / "study.toml").write_text(f'[study]\nname = "x"\n[measure]\nfeatures = {list(features)}\n')


def ran(folder):
    """Run the study -> whether each of its stages was reused."""
    results = mihc.run(mihc.read_study(folder), until="study")
    assert results.failed == {}
    return {step.stage: step.why == "reused" for step in results.steps}


PANEL = ["0,DAPI,nuclei,", "1,CD3,marker,150", "2,CD8,marker,90"]


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return little_study(tmp_path_factory.mktemp("little") / "study", PANEL)


def test_NP17_the_order_of_the_panel_changes_no_number(little, tmp_path):
    tables = []
    for folder in (little, little_study(tmp_path / "reversed", PANEL[::-1])):
        study = mihc.read_study(folder)
        counts = pd.read_csv(study.results / "regions.csv").sort_values("population", ignore_index=True)
        tables.append((mihc.slide_cells(study, "S1"), counts))
    (cells, counts), (cells_again, counts_again) = tables
    assert len(cells) > 50 and list(cells) != list(cells_again) and "CD8_spillover" in cells
    pd.testing.assert_frame_equal(cells_again[cells.columns], cells, check_exact=True)
    pd.testing.assert_frame_equal(counts_again, counts, check_exact=True)


def test_other_features_measure_the_cells_anew_and_nothing_before_them(little, tmp_path):
    folder = Path(shutil.copytree(little, tmp_path / "study"))
    asked_for(folder, [*reversed(EVERY), "mean"])  # the same, in other words
    assert all(ran(folder).values())
    before = mihc.slide_cells(mihc.read_study(folder), "S1")
    asked_for(folder, ["sd"])
    reused = ran(folder)
    assert reused["slide"] and not reused["cells"]
    after = mihc.slide_cells(mihc.read_study(folder), "S1")
    assert "CD3_cell_sd" in after and "CD3_cell_median" not in after
    kept = [name for name in after if name != "flags"]  # crowded cells are looked for with spillover only
    pd.testing.assert_frame_equal(after[kept], before[kept], check_exact=True)


NAMES = ["m0", "m1", "m2"]


def czi(path, image):
    tiles = [Tile(plane[:, x : x + 48].copy(), x, 0, c=c, m=x // 48) for c, plane in enumerate(image) for x in (0, 48)]
    return write_czi(path, tiles, czi_xml(NAMES))


def tiff(**layout):
    def write(path, image):
        xml = ome_xml(image).replace("float32", "float").replace("float64", "double")
        return write_ome_tiff(path, image, layout=TiffLayout(**layout), xml=xml)

    return write


WRITERS = {
    "OME-TIFF, strips": (".ome.tiff", tiff(), "u2"),
    "OME-TIFF, tiles": (".ome.tiff", tiff(tile=(32, 32), compression="zlib", predictor=True), "u2"),
    "OME-TIFF, big-endian": (".ome.tiff", tiff(tile=(32, 32), byteorder=">"), "u2"),
    "OME-TIFF, BigTIFF of 16 bits with a sign": (".ome.tiff", tiff(bigtiff=True), "i2"),
    "OME-TIFF, 32-bit floats": (".ome.tiff", tiff(rowsperstrip=7), "f4"),
    "OME-TIFF, big-endian 64-bit floats": (".ome.tiff", tiff(rowsperstrip=7, byteorder=">"), "f8"),
    "OME-TIFF, 32 bits": (".ome.tiff", tiff(), "u4"),
    "plain TIFF": (".tif", write_pages, "u2"),
    "QPTIFF": (".qptiff", lambda path, image: write_qptiff(path, image, NAMES), "u2"),
    "CZI": (".czi", czi, "u2"),
    "OME-Zarr 0.4": (".zarr", lambda path, image: write_ome_zarr(path, image, version="0.4"), "u2"),
    "OME-Zarr 0.5, big-endian": (".zarr", lambda path, image: write_ome_zarr(path, image), ">u2"),
    "OME-Zarr 0.5, shards": (".zarr", lambda path, image: write_ome_zarr(path, image, shards=True), "f4"),
    "bioformats2raw": (".zarr", lambda path, image: write_bioformats2raw(path, [image], NAMES), "u2"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_NP19_channels_of_a_constant_have_that_mean_through_every_reader(tmp_path, kind):
    ending, write, dtype = WRITERS[kind]
    nuclei = planted(1, (64, 96))[1]
    cells = grow_cells(nuclei, pixel_size_um=UM)
    image = np.empty((3, 64, 96), dtype)
    image[:] = 1000 * np.arange(1, 4)[:, None, None]
    with mihc.open_slide(write(tmp_path / f"s{ending}", image), pixel_size_um=UM) as slide:
        markers = list(slide.channels) if len(set(slide.channels)) == 3 else NAMES
        for window in (None, 40):
            table = measure_cells(slide.image, nuclei, cells, markers=markers, pixel_size_um=UM, window=window)
            for k, marker in enumerate(markers):
                for part in ("nucleus", "cytoplasm", "cell"):
                    assert set(table[f"{marker}_{part}_mean"].dropna()) == {1000.0 * (k + 1)}


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), a=st.integers(1, 15), b=st.integers(0, 20_000))
def test_NP20_of_a_linear_change_the_sums_change_alike(seed, a, b):
    image, nuclei, cells = planted(seed)
    given = {"markers": MARKERS, "pixel_size_um": UM, "features": ["integrated", "sd", "median"]}
    here = measure_cells(image, nuclei, cells, **given)
    there = measure_cells((a * image.astype(np.int64) + b).astype(np.uint16), nuclei, cells, **given)
    for part in ("nucleus", "cell"):
        pixels = np.rint(here[f"{part}_area_um2"] / UM**2)
        for marker in MARKERS:
            sums = a * here[f"{marker}_{part}_integrated"] + b * pixels
            assert (there[f"{marker}_{part}_integrated"] == sums).all()
            assert (there[f"{marker}_{part}_median"] == a * here[f"{marker}_{part}_median"] + b).all()
            np.testing.assert_allclose(there[f"{marker}_{part}_sd"], a * here[f"{marker}_{part}_sd"], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", ">i4", "<u4", "<u8", "<f4", ">f4", "<f8"])
def test_NP21_the_dtype_changes_no_digit_of_any_feature(dtype):
    image, nuclei, cells = planted(3)
    small = (image // 12).astype(np.uint8)
    expected = measured(small, nuclei, cells)
    found = measured(small.astype(dtype), nuclei, cells)
    pd.testing.assert_frame_equal(found.drop(columns="flags"), expected.drop(columns="flags"), check_exact=True)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), whole=st.booleans())
def test_NP22_cells_and_background_sum_to_the_image_and_means_lie_between_the_extremes(seed, whole):
    image, nuclei, cells = planted(seed)
    image = image if whole else np.random.default_rng(seed).random(image.shape, np.float32)
    table = measured(image, nuclei, cells)
    for plane, marker in zip(image.astype(np.float64), MARKERS, strict=True):
        total = table[f"{marker}_cell_integrated"].sum() + plane[cells == 0].sum()
        assert total == plane.sum() if whole else total == pytest.approx(plane.sum(), rel=1e-6)
        parts = table[f"{marker}_nucleus_integrated"] + table[f"{marker}_cytoplasm_integrated"]
        assert (parts == table[f"{marker}_cell_integrated"]).all()
        for part, labels in (("nucleus", nuclei), ("cell", cells)):
            low, high = (pick(plane, labels, table["cell"]) for pick in (ndimage.minimum, ndimage.maximum))
            for name in ("mean", "median", "p90"):
                value = table[f"{marker}_{part}_{name}"]
                slack = 0 if whole else 2.0**-24
                assert ((value >= low - slack) & (value <= high + slack)).all()


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), ceiling=st.integers(2900, 3100))
def test_NP23_exactly_the_cells_with_a_pixel_at_the_ceiling_are_flagged(seed, ceiling):
    from mihc.measures.pixels import label_whole
    from mihc.measures.settings import FLAGS
    from mihc.measures.table import cell_table

    image, nuclei, cells = planted(seed)
    chosen = CellSettings(8.0, 4.0, (), tuple(enumerate(MARKERS)), (0, 0), (ceiling, 2999))
    table = cell_table(image, label_whole(nuclei, cells), UM, chosen)
    reached = set(np.unique(cells[(image[0] >= ceiling) | (image[1] >= 2999)])) - {0}
    assert set(table.loc[table["flags"] & FLAGS["saturated"] > 0, "cell"]) == reached
    plain = measure_cells(image, nuclei, cells, markers=MARKERS, pixel_size_um=UM)
    pd.testing.assert_frame_equal(table.drop(columns="flags"), plain.drop(columns="flags"), check_exact=True)


# --- margins and crops


@pytest.fixture(scope="module")
def island():
    """Nuclei amid an empty margin, the reference of that slide, and its cells in one pass."""
    image = draw((420, 400), channels=2, seed=17)[0]
    level = int(slide_reference(image[0], pixel_size_um=UM).background)
    image = np.pad(image, ((0, 0), (90, 90), (90, 90)), constant_values=level)
    reference = slide_reference(image[0], pixel_size_um=UM)
    return image, level, reference, in_windows(image, None, 1, reference, asked())


@pytest.mark.parametrize("margins", [((0, 0), (0, 64)), ((64, 128), (256, 2)), ((33, 7), (1, 50))])
def test_NP37_empty_margins_change_neither_the_cells_nor_their_numbers(island, margins):
    image, level, reference, (_, _, expected) = island
    wide = np.pad(image, ((0, 0), *margins), constant_values=level)
    _, _, table = in_windows(wide, None, 1, reference, asked())
    assert len(table) == len(expected) > 300
    places = ["y_um", "x_um"]
    here, there = (one.sort_values(places, ignore_index=True) for one in (expected, table))
    moved = here[places] + np.array([margins[0][0], margins[1][0]]) * UM
    np.testing.assert_allclose(there[places], moved, atol=1e-9 * UM)
    plain = [name for name in here if name not in {"cell", *places} and not name.endswith("_spillover")]
    pd.testing.assert_frame_equal(there[plain], here[plain], check_exact=True)
    for marker in MARKERS:  # neighbours are added in the order of their ids, which name places on the slide
        np.testing.assert_allclose(there[f"{marker}_spillover"], here[f"{marker}_spillover"], rtol=1e-14)


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_NP38_a_crop_with_its_halo_has_the_same_cells_and_numbers(island, data):
    from mihc.windows import Window

    image, _, reference, (nuclei, cells, expected) = island
    shape, halo = image.shape[1:], halo_px(UM, features=EVERY)
    (y0, y1), (x0, x1) = (sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
                          for n in shape)  # fmt: skip
    window = Window(
        y0, y1, x0, x1, max(y0 - halo, 0), min(y1 + halo, shape[0]), max(x0 - halo, 0), min(x1 + halo, shape[1])
    )
    part = cells_in_window(
        image[(slice(None), *window.padded)], window, shape=shape, pixel_size_um=UM, settings=asked(),
        reference=reference,
    )  # fmt: skip
    assert (part.nuclei == nuclei[window.core]).all() and (part.cells == cells[window.core]).all()
    own = expected[expected["cell"].isin(part.table["cell"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.table, own, check_exact=True)
    inside = (expected["y_um"] / UM).between(y0 + 20, y1 - 20) & (expected["x_um"] / UM).between(x0 + 20, x1 - 20)
    assert set(expected.loc[inside, "cell"]) <= set(part.table["cell"])
