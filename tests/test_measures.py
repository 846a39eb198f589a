"""What is measured of cells where it is asked for, against scikit-image, scipy, numpy and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import regionprops, regionprops_table
from skimage.morphology import convex_hull_image
from test_cells import assert_equal_results, in_windows

from mihc.cells import FLAGS, CellSettings, fixed_point_bits, grow_cells, halo_px, known_features, measure_cells
from mihc.errors import InputError
from mihc.nuclei import slide_reference

UM = 0.5
EVERY = ("median", "percentile:90", "percentile:2.5", "sd", "integrated", "shape", "background", "spillover")
MARKERS = ["A", "B"]
PARTS = ("nucleus", "cytoplasm", "cell")


@pytest.fixture(scope="module")
def picture():
    image, nuclei = draw((210, 240), channels=2, seed=5, spacing=26)
    return image, nuclei, grow_cells(nuclei, pixel_size_um=UM)


@pytest.fixture(scope="module")
def table(picture):
    return measure_cells(*picture, markers=MARKERS, pixel_size_um=UM, features=EVERY)


def compartments(nuclei, cells):
    return {"nucleus": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells), "cell": cells}


# --- what is asked for


def test_nothing_asked_gives_the_contracts_columns_and_more_is_added_after_them(picture, table):
    plain = measure_cells(*picture, markers=MARKERS, pixel_size_um=UM)
    means = [f"{marker}_{part}_mean" for marker in MARKERS for part in PARTS]
    assert list(plain) == ["cell", "x_um", "y_um", "nucleus_area_um2", "cell_area_um2", *means, "flags"]
    pd.testing.assert_frame_equal(table[list(plain)[:-1]], plain[list(plain)[:-1]], check_exact=True)
    assert list(table)[: plain.shape[1] - 1] == list(plain)[:-1] and list(table)[-1] == "flags"
    assert (table["flags"].astype(int) & ~FLAGS["crowded"] == plain["flags"]).all()
    each = [measure_cells(*picture, markers=MARKERS, pixel_size_um=UM, features=[name]) for name in EVERY]
    added = [column for one in each for column in one if column not in plain]
    assert sorted(added) == sorted(set(table) - set(plain))
    for one in each:  # a feature does not depend on which others are asked for
        pd.testing.assert_frame_equal(one.drop(columns="flags"), table[list(one)].drop(columns="flags"))


def test_features_have_one_order_and_one_spelling():
    assert known_features([]) == known_features(["mean"]) == ("mean",)
    assert known_features(["sd", "percentile:90.0", "percentile:5", "median", "percentile:90"]) == (
        "mean",
        "median",
        "percentile:5",
        "percentile:90",
        "sd",
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [("medain", "did you mean median"), ("percentile:100.5", "from 0 to 100"), ("percentile:", "from 0 to 100")],
)
def test_an_unknown_feature_is_refused_with_the_nearest(picture, name, says):
    with pytest.raises(InputError, match=says):
        measure_cells(*picture, markers=MARKERS, pixel_size_um=UM, features=[name])


# --- values


def test_medians_and_percentiles_are_numpys(picture, table):
    image, nuclei, cells = picture
    for (k, marker), (part, labels) in itertools.product(enumerate(MARKERS), compartments(nuclei, cells).items()):
        values = [image[k][labels == name] for name in table["cell"]]
        for column, percent in (("median", 50), ("p90", 90), ("p2.5", 2.5)):
            expected = [np.percentile(found, percent) if len(found) else np.nan for found in values]
            np.testing.assert_allclose(table[f"{marker}_{part}_{column}"], expected, rtol=1e-14)


def test_standard_deviations_and_sums_are_those_of_scipy(picture, table):
    image, nuclei, cells = picture
    for (k, marker), (part, labels) in itertools.product(enumerate(MARKERS), compartments(nuclei, cells).items()):
        spread = ndimage.standard_deviation(image[k].astype(float), labels, table["cell"])
        np.testing.assert_allclose(table[f"{marker}_{part}_sd"], spread, rtol=1e-12)
        total = ndimage.sum_labels(image[k].astype(np.int64), labels, table["cell"])
        assert (table[f"{marker}_{part}_integrated"] == total).all()


@settings(max_examples=60, deadline=None)
@given(values=hnp.arrays(np.float32, (4, 5), elements=st.floats(0, 2**20, width=32)), percent=st.floats(0, 100))
def test_NP47_spread_and_percentiles_of_float_channels_are_numpys(values, percent):
    nucleus = np.zeros((4, 5), np.uint8)
    nucleus[1:3, 1:3] = 1
    features = ["sd", f"percentile:{percent:.3f}", "integrated"]
    row = measure_cells(
        values[None], nucleus, np.ones((4, 5), int), markers=["A"], pixel_size_um=UM, features=features
    ).iloc[0]
    unit = 2.0 ** -fixed_point_bits(values)
    for part, chosen in (("nucleus", nucleus > 0), ("cytoplasm", nucleus == 0), ("cell", nucleus < 2)):
        inside = values[chosen].astype(float)
        assert row[f"A_{part}_sd"] == pytest.approx(inside.std(), rel=1e-6, abs=unit)
        column = f"A_{part}_p{float(f'{percent:.3f}'):.10g}"
        assert row[column] == pytest.approx(np.percentile(inside, float(f"{percent:.3f}")), rel=1e-12, abs=unit)
        assert row[f"A_{part}_integrated"] == pytest.approx(inside.sum(), rel=1e-12, abs=unit * inside.size)


def test_a_spread_of_values_that_no_float_holds_is_exact():
    # 2^40 and 2^40 + 1, half each: the deviation is 0.5
    image = np.full((1, 4, 4), 2**40, np.int64)
    image[0, :, ::2] += 1
    whole = np.ones((4, 4), int)
    row = measure_cells(image, whole, whole, markers=["A"], pixel_size_um=UM, features=["sd"]).iloc[0]
    assert row["A_nucleus_sd"] == row["A_cell_sd"] == 0.5 and math.isnan(row["A_cytoplasm_sd"])


# --- shapes


def test_axes_and_eccentricity_are_those_of_regionprops_with_pixels_as_squares(picture, table):
    # scikit-image takes moments of centres; a filled pixel has 1/12 more along each axis, 16/12 in a squared axis
    for part, labels in zip(("nucleus", "cell"), picture[1:], strict=True):
        theirs = regionprops_table(labels, properties=("axis_major_length", "axis_minor_length"))
        major, minor = (np.sqrt(theirs[f"axis_{name}_length"] ** 2 + 16 / 12) for name in ("major", "minor"))
        np.testing.assert_allclose(table[f"{part}_major_axis_um"], major * UM, rtol=1e-9)
        np.testing.assert_allclose(table[f"{part}_minor_axis_um"], minor * UM, rtol=1e-9)
        np.testing.assert_allclose(table[f"{part}_eccentricity"], np.sqrt(1 - (minor / major) ** 2), rtol=1e-6)


def test_a_drawn_ellipse_has_its_axes():
    y, x = np.mgrid[:200, :300]
    labels = (((x - 150) / 100) ** 2 + ((y - 100) / 60) ** 2 <= 1).astype(np.uint32)
    row = measure_cells(labels[None], labels, labels, markers=["A"], pixel_size_um=UM, features=["shape"]).iloc[0]
    assert row["nucleus_major_axis_um"] == pytest.approx(200 * UM, rel=0.002)
    assert row["nucleus_minor_axis_um"] == pytest.approx(120 * UM, rel=0.002)
    assert row["nucleus_eccentricity"] == pytest.approx(0.8, abs=0.002)
    assert row["nucleus_solidity"] == 1.0


def test_shapes_of_a_bar_by_hand():
    # Three pixels in a row of 0.5 x 0.4 µm: variance along x (2/3 + 1/12) 0.4^2, along y 0.5^2 / 12
    labels = np.zeros((3, 5), np.uint32)
    labels[1, 1:4] = 1
    row = measure_cells(
        np.ones((1, 3, 5)), labels, labels, markers=["A"], pixel_size_um=(0.5, 0.4), features=["shape"]
    ).iloc[0]
    assert row["nucleus_major_axis_um"] == pytest.approx(4 * math.sqrt((2 / 3 + 1 / 12) * 0.16), rel=1e-12)
    assert row["nucleus_minor_axis_um"] == pytest.approx(4 * math.sqrt(0.25 / 12), rel=1e-12)
    assert row["cell_eccentricity"] == row["nucleus_eccentricity"]


def test_solidity_is_that_of_the_hull_of_scikit_image(picture, table):
    for part, labels in zip(("nucleus", "cell"), picture[1:], strict=True):
        props = regionprops(labels)
        hulls = [convex_hull_image(np.pad(one.image, 1), offset_coordinates=False).sum() for one in props]
        assert (table[f"{part}_solidity"] == [one.area / hull for one, hull in zip(props, hulls, strict=True)]).all()
        # regionprops takes the hull of the middles of pixel edges, a little larger
        theirs = np.array([one.solidity for one in props])
        assert (theirs <= table[f"{part}_solidity"]).all()
        np.testing.assert_allclose(table[f"{part}_solidity"], theirs, atol=0.09)


@settings(max_examples=80, deadline=None)
@given(inside=hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_solidity_of_any_shape_is_that_of_scikit_image(inside):
    if not inside.any():
        inside[0, 0] = True
    labels = inside.astype(np.uint32)
    row = measure_cells(labels[None], labels, labels, markers=["A"], pixel_size_um=UM, features=["shape"]).iloc[0]
    y, x = np.nonzero(inside)
    flat = np.linalg.matrix_rank(np.stack([y - y[0], x - x[0]])) < 2
    # scikit-image draws no hull of points on one line
    steps = math.gcd(int(np.ptp(y)), int(np.ptp(x)))
    hull = steps + 1 if flat else convex_hull_image(inside, offset_coordinates=False).sum()
    assert row["cell_solidity"] == inside.sum() / hull


def test_moments_of_a_label_as_large_as_a_slide_do_not_overflow():
    labels = np.ones((3000, 2900), np.uint8)
    row = measure_cells(labels[None], labels, labels, markers=["A"], pixel_size_um=1.0, features=["shape"]).iloc[0]
    assert row["cell_major_axis_um"] == pytest.approx(4 * 3000 / math.sqrt(12), rel=1e-12)
    assert row["cell_minor_axis_um"] == pytest.approx(4 * 2900 / math.sqrt(12), rel=1e-12)


# --- around


def test_background_is_the_mean_of_the_free_pixels_within_15_um(picture, table):
    image, nuclei, cells = picture
    y, x = np.mgrid[: nuclei.shape[0], : nuclei.shape[1]]
    for row in table.itertuples():
        own = nuclei == row.cell
        near = (abs(y - y[own].mean()) <= 30) & (abs(x - x[own].mean()) <= 30) & (cells == 0)
        assert near.any()
        assert row.A_background == pytest.approx(image[0][near].mean(), rel=1e-13)


def test_background_is_nan_where_every_pixel_has_a_cell():
    whole = np.ones((9, 9), int)
    row = measure_cells(np.ones((1, 9, 9)), whole, whole, markers=["A"], pixel_size_um=UM, features=["background"])
    assert row["A_background"].isna().all()


def test_spillover_of_two_touching_cells_by_hand():
    # Two cells of 2 x 3 pixels of 0.5 x 0.5 µm share a border of two edges: pi / 4 x 1 µm
    labels = np.zeros((4, 8), np.uint32)
    labels[1:3, 1:4], labels[1:3, 4:7] = 7, 3
    image = np.where(labels == 7, 100, np.where(labels == 3, 10, 0))[None]
    table = measure_cells(image, labels, labels, markers=["A"], pixel_size_um=UM, features=["spillover"])
    carried = 0.5 / math.sqrt(2 * math.pi) * math.pi / 4 * 1.0 / (6 * 0.25)
    assert table["cell"].tolist() == [3, 7]
    np.testing.assert_allclose(table["A_spillover"], [100 * carried, 10 * carried], rtol=1e-14)
    assert (table["flags"] & FLAGS["crowded"] == 0).all()  # 2 of 10 edges


def test_spillover_is_the_light_that_a_blur_carries_over():
    # A bright half disc beside a dark one, turned; and the same picture blurred by 0.5 µm: what the dark half gained
    y, x = np.mgrid[:300, :300] - 149.7
    told, gained = [], []
    for angle in np.arange(12) * math.pi / 6:
        side = np.where(y * math.sin(angle) + x * math.cos(angle) > 0, 1, 2)
        labels = np.where(np.hypot(y, x) <= 120, side, 0)
        image = np.where(labels == 1, 2000.0, 0.0)
        found = measure_cells(image[None], labels, labels, markers=["A"], pixel_size_um=0.125, features=["spillover"])
        assert found["A_spillover"][0] == 0.0
        told.append(found["A_spillover"][1])
        gained.append(ndimage.gaussian_filter(image, 0.5 / 0.125)[labels == 2].mean())
    assert np.mean(told) == pytest.approx(np.mean(gained), rel=0.03)
    np.testing.assert_allclose(told, gained, rtol=0.25)  # a border along the pixels is drawn without steps


def test_a_cell_enclosed_by_others_is_crowded_and_a_lone_one_is_not():
    labels = np.zeros((12, 12), np.uint32)
    labels[1:4, 1:10], labels[4:7, 1:4], labels[4:7, 4:7], labels[4:7, 7:10] = 1, 2, 3, 4
    labels[9:11, 9:11] = 5
    table = measure_cells(labels[None], labels, labels, markers=["A"], pixel_size_um=UM, features=["spillover"])
    crowded = (table["flags"] & FLAGS["crowded"] > 0).tolist()
    assert crowded == [False, True, True, True, False]  # shared edges 9 of 24, 6 of 12, 9 of 12, 6 of 12, 0 of 8


def test_a_cytoplasm_of_less_than_a_fifth_of_the_nucleus_is_flagged():
    nuclei = np.zeros((9, 9), int)
    nuclei[2:5, 2:5] = 1
    for more, tiny in ((0, False), (1, True), (2, False)):  # of 9 pixels
        cells = nuclei.copy()
        cells[5, 2 : 2 + more] = 1
        flags = measure_cells(np.ones((1, 9, 9)), nuclei, cells, markers=["A"], pixel_size_um=UM)["flags"]
        assert (flags[0] & FLAGS["tiny_cytoplasm"] > 0) == tiny


# --- windows change nothing


def asked(image, bits=None):
    measured = tuple(enumerate(MARKERS))
    return CellSettings(8.0, 4.0, (0,), measured, bits or (0, 0), features=known_features(EVERY))


@pytest.fixture(scope="module")
def slide():
    image = draw((900, 840), channels=2, seed=21)[0]
    reference = slide_reference(image[0], pixel_size_um=UM)
    return image, reference, in_windows(image, None, 1, reference, asked(image))


@pytest.mark.parametrize(("side", "workers"), [(128, 2), (333, 1)])
def test_NP6_windows_change_no_digit_of_any_feature(slide, side, workers):
    image, reference, expected = slide
    assert len(expected[2]) > 1000 and not expected[2]["A_background"].isna().all()
    assert (expected[2]["A_spillover"] > 0).mean() > 0.5
    halo = halo_px(UM, features=EVERY)
    assert halo > halo_px(UM)
    assert_equal_results(in_windows(image, side, workers, reference, asked(image), halo), expected)


def test_one_pass_in_windows_is_measure_cells(slide):
    image, _, (nuclei, cells, table) = slide
    again = measure_cells(image, nuclei, cells, markers=MARKERS, pixel_size_um=UM, features=EVERY)
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_float_channels_have_the_same_digits_of_any_feature_in_any_window():
    image = draw((300, 340), channels=2, seed=2)[0].astype(np.float32) / 4096 + np.float32(1e-4)
    reference = slide_reference(image[0], pixel_size_um=UM)
    chosen = asked(image, tuple(fixed_point_bits(plane) for plane in image))
    expected = in_windows(image, None, 1, reference, chosen)
    halo = halo_px(UM, features=EVERY)
    assert_equal_results(in_windows(image, 100, 1, reference, chosen, halo), expected)
