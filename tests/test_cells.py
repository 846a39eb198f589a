from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import regionprops_table

from mihc.cells import (
    FLAGS,
    CellSettings,
    cells_in_window,
    fixed_point_bits,
    grow_cells,
    halo_px,
    measure_cells,
)
from mihc.errors import InputError
from mihc.nuclei import NucleusReference, segment_nuclei, slide_reference
from mihc.windows import whole, windows

UM = 0.5

NUCLEI = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 5, 5, 0, 0, 0],
        [0, 5, 5, 0, 0, 0],
        [0, 0, 0, 0, 9, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ],
    np.uint32,
)


def settings_for(image, *, bits=None, ceilings=()):
    measured = tuple((k, f"M{k}") for k in range(len(image)))
    return CellSettings(8.0, 4.0, (0,), measured, bits or (0,) * len(image), ceilings)


def in_windows(image, side, workers, reference, chosen, halo=None):
    """Nuclei, cells and table of the whole slide, computed in windows."""
    shape = image.shape[1:]
    halo = halo_px(UM, 8.0, chosen.cell_expansion_um) if halo is None else halo
    todo = windows(shape, side, halo) if side else [whole(shape)]

    def one(window):
        block = image[(slice(None), *window.padded)]
        return cells_in_window(block, window, shape=shape, pixel_size_um=UM, settings=chosen, reference=reference)

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(one, todo))
    nuclei, cells = np.zeros((2, *shape), np.uint32)
    for window, part in zip(todo, parts, strict=True):
        nuclei[window.core], cells[window.core] = part.nuclei, part.cells
    table = pd.concat([part.table for part in parts]).sort_values("cell", ignore_index=True)
    return nuclei, cells, table


def assert_equal_results(a, b):
    assert (a[0] == b[0]).all() and (a[1] == b[1]).all()
    pd.testing.assert_frame_equal(a[2], b[2], check_exact=True)


# --- growth


def test_cells_grown_by_one_pixel_by_hand():
    assert grow_cells(NUCLEI, pixel_size_um=1.0, distance_um=1.0).tolist() == [
        [0, 5, 5, 0, 0, 0],
        [5, 5, 5, 5, 0, 0],
        [5, 5, 5, 5, 9, 0],
        [0, 5, 5, 9, 9, 9],
        [0, 0, 0, 0, 9, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_of_two_nuclei_equally_near_the_upper_then_the_left_one_wins():
    labels = np.zeros((5, 5), np.uint8)
    labels[0, 2], labels[4, 2] = 7, 3
    assert grow_cells(labels, pixel_size_um=1.0, distance_um=2.0)[2, 2] == 7
    assert grow_cells(labels.T, pixel_size_um=1.0, distance_um=2.0)[2, 2] == 7


@settings(max_examples=50, deadline=None)
@given(
    labels=hnp.arrays(
        np.uint32, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 0, 0, 0, 0, 2, 9])
    ),
    distance=st.floats(0, 8),
)
def test_growth_is_the_euclidean_distance_with_a_cut_off(labels, distance):
    grown = grow_cells(labels, pixel_size_um=1.0, distance_um=distance)
    assert (grown[labels > 0] == labels[labels > 0]).all()
    if not labels.any():
        assert not grown.any()
        return
    away = {n: ndimage.distance_transform_edt(labels != n) for n in np.unique(labels[labels > 0])}
    nearest = np.min(list(away.values()), axis=0)
    assert ((grown > 0) == (nearest <= distance)).all()
    for name, far in away.items():
        assert (far[grown == name] == nearest[grown == name]).all()


@given(shift=st.tuples(st.integers(0, 3), st.integers(0, 3)), swap=st.booleans())
def test_growth_depends_on_places_only(shift, swap):
    labels = np.where(NUCLEI == 9, 2, 11) * (NUCLEI > 0) if swap else NUCLEI
    there = np.pad(labels, 8)
    there = np.roll(there, shift, (0, 1))
    a = grow_cells(np.pad(NUCLEI, 8), pixel_size_um=0.7, distance_um=2.6)
    b = np.roll(grow_cells(there, pixel_size_um=0.7, distance_um=2.6), (-shift[0], -shift[1]), (0, 1))
    assert ((a == 9) == (b == (2 if swap else 9))).all() and ((a == 5) == (b == (11 if swap else 5))).all()


def test_no_growth_gives_the_nuclei_and_a_new_array():
    grown = grow_cells(NUCLEI, pixel_size_um=1.0, distance_um=0.0)
    assert (grown == NUCLEI).all() and grown is not NUCLEI


# --- measuring


def test_two_cells_measured_by_hand():
    cells = grow_cells(NUCLEI, pixel_size_um=1.0, distance_um=1.0)
    image = np.arange(36, dtype=np.uint16).reshape(1, 6, 6)
    table = measure_cells(image, NUCLEI, cells, markers=["CD20"], pixel_size_um=(0.5, 0.5))
    assert table["cell"].tolist() == [5, 9] and table["cell"].dtype == np.uint32
    assert table["x_um"].tolist() == [(1.5 + 0.5) * 0.5, (4 + 0.5) * 0.5]  # (mean index + 0.5) x pixel size
    assert table["y_um"].tolist() == [(1.5 + 0.5) * 0.5, (3 + 0.5) * 0.5]
    assert table["nucleus_area_um2"].tolist() == [1.0, 0.25]
    assert table["cell_area_um2"].tolist() == [3.0, 1.25]
    assert table["CD20_nucleus_mean"].tolist() == [(7 + 8 + 13 + 14) / 4, 22]
    first = [1, 2, 6, 7, 8, 9, 12, 13, 14, 15, 19, 20]
    assert table["CD20_cell_mean"].tolist() == [sum(first) / 12, (16 + 21 + 22 + 23 + 28) / 5]
    assert table["CD20_cytoplasm_mean"].tolist() == [(sum(first) - 42) / 8, (16 + 21 + 23 + 28) / 4]
    assert table["flags"].tolist() == [FLAGS["touches_edge"], FLAGS["touches_edge"]]


def test_an_empty_cytoplasm_is_nan_and_an_empty_image_gives_no_rows():
    image = np.ones((1, 6, 6), np.uint8)
    table = measure_cells(image, NUCLEI, NUCLEI, markers=["A"], pixel_size_um=UM)
    assert table["A_cytoplasm_mean"].isna().all() and (table["A_cell_mean"] == 1).all()
    nothing = measure_cells(image, NUCLEI * 0, NUCLEI * 0, markers=["A"], pixel_size_um=UM)
    assert len(nothing) == 0 and list(nothing.columns) == list(table.columns)


@pytest.fixture(scope="module")
def measured():
    image, labels = draw((220, 260), channels=3, seed=8)
    cells = grow_cells(labels, pixel_size_um=UM)
    return image, labels, cells, measure_cells(image, labels, cells, markers=["A", "B", "C"], pixel_size_um=UM)


def test_NP47_areas_means_and_centroids_are_those_of_regionprops(measured):
    image, nuclei, cells, table = measured
    for part, labels in (("nucleus", nuclei), ("cell", cells)):
        props = regionprops_table(
            labels, np.moveaxis(image, 0, -1), properties=("label", "area", "mean_intensity", "centroid")
        )
        assert props["label"].tolist() == table["cell"].tolist()
        np.testing.assert_allclose(table[f"{part}_area_um2"], props["area"] * UM**2, rtol=1e-12)
        for k, marker in enumerate("ABC"):
            np.testing.assert_allclose(table[f"{marker}_{part}_mean"], props[f"mean_intensity-{k}"], rtol=1e-12)
        if part == "nucleus":
            np.testing.assert_allclose(table["y_um"], (props["centroid-0"] + 0.5) * UM, rtol=1e-12)
            np.testing.assert_allclose(table["x_um"], (props["centroid-1"] + 0.5) * UM, rtol=1e-12)


def test_NP22_cells_and_background_sum_to_the_image_and_means_lie_within(measured):
    image, _nuclei, cells, table = measured
    for plane, marker in zip(image, "ABC", strict=True):
        total = (table[f"{marker}_cell_mean"] * table["cell_area_um2"] / UM**2).round().sum()
        assert total + plane[cells == 0].sum(dtype=np.int64) == plane.sum(dtype=np.int64)
        for part in ("nucleus", "cytoplasm", "cell"):
            means = table[f"{marker}_{part}_mean"].dropna()
            assert ((means >= plane.min()) & (means <= plane.max())).all()


def test_NP20_a_linear_change_of_the_image_changes_the_sums_alike(measured):
    image, nuclei, cells, table = measured
    changed = measure_cells(3 * image.astype(np.int32) + 7, nuclei, cells, markers=["A", "B", "C"], pixel_size_um=UM)
    for part in ("nucleus", "cell"):
        pixels = table[f"{part}_area_um2"] / UM**2
        sums, new = (np.rint(t[f"B_{part}_mean"] * pixels) for t in (table, changed))
        assert (new == 3 * sums + 7 * pixels).all()


@pytest.mark.parametrize("dtype", [">u2", "<u4", "<i2", ">i8", "<f4", ">f8"])
def test_NP21_the_dtype_changes_no_number(measured, dtype):
    image, nuclei, cells, table = measured
    again = measure_cells(image.astype(dtype), nuclei, cells, markers=["A", "B", "C"], pixel_size_um=UM)
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_NP16_NP18_planes_may_be_permuted_and_an_extra_one_changes_nothing(measured):
    image, nuclei, cells, table = measured
    markers = ["C", "X", "A", "B"]
    image = np.stack([image[2], image[0] // 2, image[0], image[1]])
    again = measure_cells(image, nuclei, cells, markers=markers, pixel_size_um=UM)
    pd.testing.assert_frame_equal(again[table.columns], table, check_exact=True)


def test_NP23_a_cell_with_a_pixel_at_the_ceiling_is_flagged_and_only_that():
    image = np.full((1, 6, 6), 10, np.uint16)
    image[0, 3, 4] = 4095
    padded = [np.pad(a, 3) for a in (image[0], NUCLEI)]
    window = whole(padded[0].shape)

    def flags(plane):
        return measure_cells(plane[None], padded[1], padded[1], markers=["A"], pixel_size_um=UM)["flags"].tolist()

    assert flags(padded[0]) == [0, 0]  # 4095 is not the ceiling of 16 bits
    padded[0][6, 7] = 65535
    assert flags(padded[0]) == [0, FLAGS["saturated"]]
    image = np.clip(draw((150, 150))[0], 0, 4095)
    reference = slide_reference(image[0], pixel_size_um=UM)
    window = whole(image.shape[1:])
    plain, declared = (
        cells_in_window(
            image,
            window,
            shape=image.shape[1:],
            pixel_size_um=UM,
            settings=settings_for(image, ceilings=ceilings),
            reference=reference,
        ).table
        for ceilings in ((), (700,))
    )
    pd.testing.assert_frame_equal(plain.drop(columns="flags"), declared.drop(columns="flags"), check_exact=True)
    assert (declared["flags"] & FLAGS["saturated"]).any() and not (plain["flags"] & FLAGS["saturated"]).any()


def test_NP30_areas_use_both_sides_of_a_pixel():
    table = measure_cells(np.ones((1, 6, 6), np.uint8), NUCLEI, NUCLEI, markers=["A"], pixel_size_um=(0.5, 0.505))
    assert table["cell_area_um2"][0] == pytest.approx(4 * 0.5 * 0.505, rel=1e-12)
    assert table["x_um"][0] == 2 * 0.505 and table["y_um"][0] == 2 * 0.5


def test_N9_the_number_of_cells_is_the_number_of_labels_not_the_largest():
    table = measure_cells(np.ones((1, 6, 6)), NUCLEI, NUCLEI, markers=["A"], pixel_size_um=UM)
    assert len(table) == 2 and table["cell"].max() == 9


def test_N8_labels_above_16_bits_stay_what_they_are():
    high = np.where(NUCLEI == 9, 4_294_967_294, NUCLEI).astype(np.uint32)
    cells = grow_cells(high, pixel_size_um=UM)
    assert measure_cells(np.ones((1, 6, 6)), high, cells, markers=["A"], pixel_size_um=UM)["cell"].tolist() == [
        5,
        4_294_967_294,
    ]


def test_float_channels_are_summed_in_fixed_point_that_keeps_24_bits():
    assert fixed_point_bits(np.array([[0.9, -0.2]], np.float32)) == 24
    assert fixed_point_bits(np.array([[1500.0]], np.float64)) == 13
    assert fixed_point_bits(np.array([[1500]], np.uint16)) == 0
    assert fixed_point_bits(np.zeros((3, 3))) == 0
    image = np.random.default_rng(0).random((1, 6, 6)).astype(np.float32)
    table = measure_cells(image, NUCLEI, NUCLEI, markers=["A"], pixel_size_um=UM)
    assert table["A_cell_mean"][0] == pytest.approx(float(image[0][NUCLEI == 5].mean(dtype=np.float64)), abs=2**-24)


def test_nothing_that_is_given_is_modified(measured):
    image, nuclei, cells, table = (a.copy() for a in measured)
    for array in (image, nuclei, cells):
        array.setflags(write=False)
    again = measure_cells(image, nuclei, cells, markers=["A", "B", "C"], pixel_size_um=UM)
    grow_cells(nuclei, pixel_size_um=UM)
    pd.testing.assert_frame_equal(again, table, check_exact=True)


@pytest.mark.parametrize(
    ("image", "nuclei", "cells", "markers", "says"),
    [
        (np.ones((1, 6, 6)), NUCLEI, NUCLEI[:5], ["A"], "differ in size"),
        (np.ones((2, 6, 6)), NUCLEI, NUCLEI, ["A"], "marker names"),
        (np.ones((2, 6, 6)), NUCLEI, NUCLEI, ["A", "A"], "different marker names"),
        (np.ones((6, 6)), NUCLEI, NUCLEI, ["A"], r"\(c, y, x\)"),
        (np.full((1, 6, 6), np.inf), NUCLEI, NUCLEI, ["A"], "non-finite"),
        (np.ones((1, 6, 6)), NUCLEI, NUCLEI[::-1], ["A"], "outside the cell"),
        (np.ones((1, 6, 6)), NUCLEI * 0, NUCLEI, ["A"], r"without a nucleus: \[5, 9\]"),
        (np.ones((1, 6, 6)), -NUCLEI.astype(int), NUCLEI, ["A"], "labels outside 0"),
        (np.ones((1, 6, 6)), NUCLEI * 1.0, NUCLEI, ["A"], "image of integers"),
    ],
)
def test_what_cannot_be_measured_is_refused(image, nuclei, cells, markers, says):
    with pytest.raises(InputError, match=says):
        measure_cells(image, nuclei, cells, markers=markers, pixel_size_um=UM)


def test_growing_by_nonsense_is_refused():
    with pytest.raises(InputError, match="cannot grow by -1"):
        grow_cells(NUCLEI, pixel_size_um=UM, distance_um=-1)
    with pytest.raises(InputError, match="at most 500"):
        grow_cells(NUCLEI, pixel_size_um=0.001, distance_um=4)


# --- windows change nothing


@pytest.fixture(scope="module")
def slide():
    image, _truth = draw((1100, 1050), channels=2, seed=11)
    reference = slide_reference(image[0], pixel_size_um=UM)
    chosen = settings_for(image)
    return image, reference, chosen, in_windows(image, None, 1, reference, chosen)


@pytest.mark.parametrize(("side", "workers"), list(itertools.product((256, 384, 1000), (1, 4))))
def test_NP6_the_window_side_and_the_workers_change_nothing(slide, side, workers):
    image, reference, chosen, expected = slide
    assert len(expected[2]) > 2000
    assert_equal_results(in_windows(image, side, workers, reference, chosen), expected)


def test_one_pass_over_the_whole_image_is_segment_grow_measure(slide):
    image, reference, _, (nuclei, cells, table) = slide
    labels = segment_nuclei(image[0], pixel_size_um=UM, reference=reference)
    grown = grow_cells(labels, pixel_size_um=UM)
    assert (labels == nuclei).all() and (grown == cells).all()
    again = measure_cells(image, labels, grown, markers=["M0", "M1"], pixel_size_um=UM)
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_too_small_a_halo_is_noticed_by_these_tests(slide):
    image, reference, chosen, expected = slide
    nuclei, _, _ = in_windows(image, 256, 1, reference, chosen, halo=10)
    assert (nuclei != expected[0]).any()


def noisy(kind, seed):
    """Pictures that nobody would take: the segmenter finds much in them, none of it nuclei."""
    rng = np.random.default_rng(seed)
    if kind == "flat nuclei":
        return draw((300, 340), seed=seed, noise=0.0, spacing=14)[0]
    white = rng.normal(0, 1, (1, 300, 340))
    blurred = ndimage.gaussian_filter(white, (0, *{"white": (0.6, 0.6), "clouds": (6, 6), "stripes": (0.5, 9)}[kind]))
    return np.clip(np.rint(1000 + 400 * blurred / blurred.std()), 0, 65535).astype(np.uint16)


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(["white", "clouds", "stripes", "flat nuclei"]),
    seed=st.integers(0, 99),
    side=st.integers(90, 301),
)
def test_NP6_windows_change_nothing_on_noise_either(kind, seed, side):
    image = noisy(kind, seed)
    reference = NucleusReference(background=800.0, contrast=400.0, noise=2.0)
    if kind == "flat nuclei":
        reference = slide_reference(image[0], pixel_size_um=UM)
    chosen = settings_for(image)
    expected = in_windows(image, None, 1, reference, chosen)
    assert_equal_results(in_windows(image, side, 1, reference, chosen), expected)


def test_NP38_a_crop_with_its_halo_has_the_same_cells(slide):
    image, reference, chosen, expected = slide
    window = windows(image.shape[1:], 300, halo_px(UM))[4]
    part = cells_in_window(
        image[(slice(None), *window.padded)],
        window,
        shape=image.shape[1:],
        pixel_size_um=UM,
        settings=chosen,
        reference=reference,
    )
    assert (part.nuclei == expected[0][window.core]).all() and (part.cells == expected[1][window.core]).all()


def test_N6_NP7_cells_on_seams_are_neither_lost_nor_doubled():
    # Discs centred on the seams and corners of windows of 64 pixels
    image = np.full((1, 640, 640), 100, np.uint16)
    rows, columns = np.mgrid[:640, :640]
    near = np.minimum.reduce([np.hypot((rows % 64) - a, (columns % 64) - b) for a in (0, 64) for b in (0, 64)])
    image[0][near <= 7] = 900
    image[0][np.hypot((rows % 64) - 32, np.minimum(columns % 64, 64 - columns % 64)) <= 7] = 900
    reference = slide_reference(image[0], pixel_size_um=UM)
    nuclei, _, table = in_windows(image, 64, 1, reference, settings_for(image), halo=None)
    _, planted = ndimage.label(image[0] > 500)
    # the seams at row and column 0 and 640 cut discs; slivers of less than half a nucleus may be left out
    inner = (table["x_um"] > 5) & (table["x_um"] < 315) & (table["y_um"] > 5) & (table["y_um"] < 315)
    assert inner.sum() == 9 * 9 + 9 * 10
    assert table["cell"].is_unique and len(table) <= planted
    assert set(table["cell"]) == set(np.unique(nuclei[nuclei > 0]))


def test_a_block_that_does_not_fill_its_window_is_refused(slide):
    image, reference, chosen, _ = slide
    window = windows(image.shape[1:], 256, 10)[0]
    with pytest.raises(ValueError, match="does not fill"):
        cells_in_window(
            image[:, :5, :5],
            window,
            shape=image.shape[1:],
            pixel_size_um=UM,
            settings=chosen,
            reference=reference,
        )


def test_float_channels_give_the_same_digits_in_any_window():
    image = draw((300, 340), channels=2, seed=2)[0].astype(np.float32) / 4096 + np.float32(1e-4)
    reference = slide_reference(image[0], pixel_size_um=UM)
    chosen = settings_for(image, bits=tuple(fixed_point_bits(plane) for plane in image))
    expected = in_windows(image, None, 1, reference, chosen)
    assert len(expected[2]) > 150
    assert_equal_results(in_windows(image, 100, 1, reference, chosen), expected)
