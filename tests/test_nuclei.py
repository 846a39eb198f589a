from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from drawn_nuclei import draw, matched, relabelled
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.errors import InputError
from mihc.nuclei import (
    NucleusReference,
    block_of_id,
    find_nuclei,
    halo_px,
    nucleus_ids,
    reference_blocks,
    segment_nuclei,
    slide_reference,
)
from mihc.nuclei_stain import NuclearStain

UM = 0.5


@pytest.fixture(scope="module")
def picture():
    image, truth = draw((330, 410), seed=4)
    return image[0], truth


def disc(shape, y, x, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_drawn_nuclei_are_found_and_counted(picture):
    image, truth = picture
    hits, found, planted = matched(segment_nuclei(image, pixel_size_um=UM), truth)
    assert 2 * hits / (found + planted) > 0.95
    assert abs(found - planted) <= 0.02 * planted


def test_touching_nuclei_are_split_and_a_single_one_is_left_whole():
    shape = (60, 110)
    stain = np.full(shape, 100, np.uint16)
    stain[disc(shape, 30, 25, 8) | disc(shape, 30, 40, 8)] = 700  # two that overlap by a pixel
    stain[disc(shape, 30, 80, 9)] = 700
    labels = segment_nuclei(stain, pixel_size_um=UM)
    assert len(np.unique(labels)) - 1 == 3
    assert labels[30, 25] != labels[30, 40]
    assert (labels[disc(shape, 30, 80, 7)] == labels[30, 80]).all()


@pytest.mark.parametrize(("apart", "nuclei"), [(0, 1), (3, 1), (11, 2)])
def test_a_nucleus_is_cut_at_a_neck_and_nowhere_else(apart, nuclei):
    from mihc.nuclei_cuts import cut_necks

    shape = (40, 50)
    labels = (disc(shape, 20, 18, 6) | disc(shape, 20 + apart // 3, 18 + apart, 6)).astype(np.uint32)
    cores, levels = labels.copy(), np.full(shape, 9, np.uint8)
    whole = labels > 0
    limits, costs = np.array([200.0, 44.0, 0.5]), np.array([0.2, 0.0])
    labels, seeds = cut_necks(labels, cores, levels, 1, limits, costs, 0.03, 0.75)
    assert len(seeds) == nuclei == labels.max()
    assert ((labels > 0) == whole).all()
    assert labels[seeds[:, 0], seeds[:, 1]].tolist() == list(range(1, nuclei + 1))


@pytest.mark.parametrize(
    ("apart", "dark", "share", "nuclei"), [(0, 9, 9, 1), (11, 9, 9, 2), (0, 4, 9, 2), (0, 9, 4, 2)]
)
def test_parts_are_joined_where_one_ellipse_fits_and_nothing_tells_them_apart(apart, dark, share, nuclei):
    from mihc.nuclei_merges import join_parts

    shape = (40, 50)
    whole = disc(shape, 20, 18, 6) | disc(shape, 20, 18 + apart, 6)
    right = np.arange(50)[None, :] >= 18 + apart // 2
    labels = np.where(whole, np.where(right, 2, 1), 0).astype(np.uint32)
    bright = np.where(whole, np.where(right, 100 * share, 900), 0).astype(np.int32)
    bright[:, 17 + apart // 2 : 19 + apart // 2] = np.minimum(bright[:, 17 + apart // 2 : 19 + apart // 2], 100 * dark)
    labels[30, 40], bright[30, 40] = 3, 900  # alone
    cores, areas, costs = labels.copy(), np.array([0.0, 0.5, 1.3, 3.0]), np.array([0.2, 0.04])
    count = join_parts(
        labels, cores, bright, 3, 1, 32, 200.0, areas, costs, np.array([-0.04, 0.0, 1.3, 1.8, 0.8, 0.84])
    )
    assert count == nuclei + 1 == labels.max() == labels[30, 40]
    assert (labels == cores).all()
    assert ((labels > 0) == whole).sum() == labels.size - 1


@pytest.mark.parametrize(("usual", "nuclei"), [(300.0, 1), (90.0, 2)])
def test_a_pair_of_the_area_of_two_nuclei_needs_a_better_fit_than_parts_of_one(usual, nuclei):
    from mihc.nuclei_merges import join_parts

    shape = (40, 50)
    labels = np.where(disc(shape, 20, 18, 6), 1, np.where(disc(shape, 20, 25, 6), 2, 0)).astype(np.uint32)
    bright = np.where(labels > 0, 900, 0).astype(np.int32)
    areas, costs, needs = np.array([0.0, 0.5, 1.3, 3.0]), np.zeros(2), np.array([-0.1, 0.1, 1.3, 1.8, 0.8, 0.84])
    assert join_parts(labels, labels.copy(), bright, 2, 1, 32, usual, areas, costs, needs) == nuclei == labels.max()


@pytest.mark.parametrize(
    ("apart", "long", "found"), [(3, 6, True), (0, 2, False), (3, 2, False), (3, 17, False)], ids=str
)
def test_what_the_pieces_leave_is_a_nucleus_where_it_looks_like_one(apart, long, found):
    from mihc.nuclei_rest import add_rest

    shape, start = (40, 60), 16 + apart
    labels = disc(shape, 20, 10, 5).astype(np.uint32)
    rest = disc(shape, 20, start + 5, 5) if long == 6 else np.zeros(shape, bool)
    rest[18:22, start : start + long] = True
    foreground, levels = (labels > 0) | rest, np.full(shape, 7, np.uint8)
    areas, costs = np.array([0.3, 0.5, 1.3, 3.0]), np.zeros(2)
    seeds = add_rest(labels, foreground, levels, 1, 2, 16, 80.0, areas, costs, 0.85)
    assert len(seeds) == labels.max() == 1 + found
    assert labels[seeds[:, 0], seeds[:, 1]].tolist() == list(range(1, 2 + found))
    assert not found or (labels == labels[20, start + 5]).sum() == rest.sum()


def test_a_dim_nucleus_beside_a_bright_one_is_found():
    shape = (60, 80)
    stain = np.full(shape, 100, np.uint16)
    stain[disc(shape, 30, 25, 8)] = 2000
    stain[disc(shape, 30, 50, 8)] = 500
    labels = segment_nuclei(stain, pixel_size_um=UM)
    assert labels[30, 25] != labels[30, 50] != 0
    assert len(np.unique(labels)) - 1 == 2


def test_speckle_and_diffuse_haze_are_no_nuclei():
    shape = (200, 200)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    haze = 150 * np.exp(-((rows - 60) ** 2 + (columns - 140) ** 2) / (2 * 40.0**2))  # 40 px wide: no nucleus
    stain = 100 + haze + rng.normal(0, 5, shape)
    stain[rng.integers(0, 200, 60), rng.integers(0, 200, 60)] += 2000  # hot pixels
    stain[disc(shape, 150, 50, 8)] += 600
    labels = segment_nuclei(np.clip(stain, 0, 65535).astype(np.uint16), pixel_size_um=UM)
    assert np.unique(labels).tolist() == [0, labels[150, 50]]
    assert labels[150, 50] != 0


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_NP39_a_blank_image_has_no_nuclei(value):
    labels = segment_nuclei(np.full((50, 70), value, np.uint16), pixel_size_um=UM)
    assert labels.dtype == np.uint32 and labels.shape == (50, 70) and not labels.any()


def test_NP39_noise_alone_has_no_nuclei():
    noise = np.random.default_rng(1).poisson(200, (300, 300)).astype(np.uint16)
    assert not segment_nuclei(noise, pixel_size_um=UM).any()


@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (1, 1), (3, 200)])
def test_an_image_of_any_size_gives_labels_of_that_size(shape):
    image = np.random.default_rng(0).integers(0, 999, shape).astype(np.uint16)
    assert segment_nuclei(image, pixel_size_um=UM).shape == shape


def test_the_input_is_not_modified(picture):
    image = picture[0].copy()
    image.setflags(write=False)
    segment_nuclei(image, pixel_size_um=UM)
    assert (image == picture[0]).all()


@pytest.mark.parametrize("dtype", [">u2", "<u4", "<i2", "<i8", "<u8", "<f4", ">f8"])
def test_NP21_the_dtype_changes_nothing(picture, dtype):
    image = picture[0][:150, :150]
    expected = segment_nuclei(image, pixel_size_um=UM)
    assert expected.any()
    assert (segment_nuclei(image.astype(dtype), pixel_size_um=UM) == expected).all()


def test_NP21_eight_bits_and_sixteen_give_the_same_nuclei():
    image = draw((150, 150), dtype=np.uint16)[0][0] // 5
    assert (segment_nuclei(image.astype(np.uint8), pixel_size_um=UM) == segment_nuclei(image, pixel_size_um=UM)).all()


def test_NP9_a_shift_with_padding_shifts_the_partition(picture):
    image = picture[0]
    reference = slide_reference(image, pixel_size_um=UM)
    margin = halo_px(UM) // 2
    wide = np.pad(image, margin, mode="edge")

    def partition(plane):
        return find_nuclei(plane, pixel_size_um=UM, nucleus_diameter_um=8.0, reference=reference)[0]

    here = partition(wide)
    for dy, dx in ((1, 0), (3, 5), (10, 7)):
        there = partition(np.pad(wide, ((dy, 0), (dx, 0)), mode="edge"))[dy:, dx:]
        core = np.s_[margin // 2 : -margin // 2, margin // 2 : -margin // 2]
        assert (relabelled(here[core]) == relabelled(there[core])).all()


def test_NP37_empty_margins_add_no_nuclei(picture):
    image = picture[0]
    reference = slide_reference(image, pixel_size_um=UM)
    labels = segment_nuclei(
        np.pad(image, 200, constant_values=int(reference.background)), pixel_size_um=UM, reference=reference
    )
    assert not labels[:150].any() and not labels[-150:].any() and not labels[:, :150].any()


def test_NP10_mirrors_and_turns_keep_the_count(picture):
    counts = []
    for turns in range(4):
        turned = np.rot90(picture[0], turns)
        counts += [len(np.unique(segment_nuclei(p, pixel_size_um=UM))) - 1 for p in (turned, turned[:, ::-1])]
    assert max(counts) - min(counts) <= 0.01 * counts[0]


def test_NP8_the_id_is_one_and_the_index_of_the_block_of_the_seed():
    # A slide of 6 x 7 pixels has 3 x 4 blocks of 2 x 2
    seeds = np.array([[0, 0], [1, 1], [0, 2], [5, 6]])
    assert nucleus_ids(seeds, (6, 7)).tolist() == [1, 1, 2, 12]
    assert nucleus_ids(np.array([[1, 1]]), (6, 7), origin_yx=(1, 1)).tolist() == [6]
    assert block_of_id(np.array([1, 2, 6, 12]), (6, 7)).tolist() == [[0, 0], [0, 2], [2, 2], [4, 6]]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), sigma=st.sampled_from([0, 1, 3]))
def test_ids_are_unique_and_decode_to_the_seed_even_on_noise(seed, sigma):
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(0, 1, (140, 170)), sigma)
    image = np.rint(1000 + 400 * image / image.std()).astype(np.uint16)
    reference = NucleusReference(background=900.0, contrast=400.0, noise=1.0)
    _labels, seeds = find_nuclei(image, pixel_size_um=UM, nucleus_diameter_um=8.0, reference=reference)
    ids = nucleus_ids(seeds, image.shape)
    assert len(set(ids.tolist())) == len(seeds)
    assert (abs(block_of_id(ids, image.shape) - seeds) < 2).all() and (block_of_id(ids, image.shape) <= seeds).all()


def test_N8_a_slide_too_large_for_ids_of_32_bits_is_refused():
    with pytest.raises(InputError, match="32 bits"):
        nucleus_ids(np.zeros((1, 2), np.int64), (200_000, 200_000))


def test_several_stains_are_summed_without_wrapping():
    planes = np.full((2, 3, 4), 60_000, np.uint16)
    assert (NuclearStain(planes, (0, 1))[0:3, 0:4] == 120_000).all()
    assert NuclearStain(planes, (0, 1)).shape == (3, 4)


def test_the_reference_measures_background_contrast_and_noise():
    rng = np.random.default_rng(0)
    shape = (256, 256)
    stain = rng.normal(300, 12, shape)
    for y in range(20, 256, 40):
        for x in range(20, 256, 40):
            stain[disc(shape, y, x, 9)] += 1000
    reference = slide_reference(np.rint(stain).astype(np.uint16), pixel_size_um=UM)
    assert abs(reference.background - 300) < 5
    assert abs(reference.contrast - 1000) < 60
    assert abs(reference.noise - 12) < 1
    assert NucleusReference.from_dict(reference.as_dict()) == reference


@given(height=st.integers(1, 40_000), width=st.integers(1, 40_000))
def test_reference_blocks_lie_on_the_slide_and_are_at_most_a_hundred(height, width):
    boxes = reference_blocks((height, width))
    assert 1 <= len(boxes) <= 100
    assert all(0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width for y0, y1, x0, x1 in boxes)
    if max(height, width) <= 2560:
        assert sum((y1 - y0) * (x1 - x0) for y0, y1, x0, x1 in boxes) == height * width


def test_a_float_image_in_other_units_gives_the_same_nuclei(picture):
    image = picture[0]
    a = segment_nuclei(image.astype(np.float32), pixel_size_um=UM)
    b = segment_nuclei(image.astype(np.float64) / 2**16, pixel_size_um=UM)  # 0 to 1, as inForm writes
    assert len(np.unique(a)) == len(np.unique(b))
    assert ((a > 0) == (b > 0)).mean() > 0.999


@pytest.mark.parametrize(
    ("image", "changes", "says"),
    [
        (np.zeros((2, 9, 9)), {}, r"\(y, x\) image"),
        (np.zeros((9, 9), complex), {}, "real numbers"),
        (np.full((9, 9), np.nan), {}, "81 non-finite"),
        (np.zeros((9, 9)), {"method": "magic"}, 'method "magic"'),
        (np.zeros((9, 9)), {"pixel_size_um": 0.0}, "above 0"),
        (np.zeros((9, 9)), {"pixel_size_um": 4.0}, "2.0 pixels"),
        (np.zeros((9, 9)), {"nucleus_diameter_um": float("nan")}, "above 0"),
    ],
)
def test_what_cannot_be_segmented_is_refused(image, changes, says):
    with pytest.raises(InputError, match=says):
        segment_nuclei(image, **({"pixel_size_um": UM} | changes))


def test_importing_nuclei_does_not_import_numba():
    code = "import sys, mihc.nuclei, mihc.cells; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compiled_loops_work_where_no_cache_can_be_written(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numba.core.caching as c\n"
        "c.FunctionCache._impl_class._locator_classes = []\n"
        "from mihc.kernels import compiled\n"
        "def twice(x):\n    return 2 * x\n"
        "assert compiled(twice)(4) == 8\n"
    )
    subprocess.run([sys.executable, "-c", code, "."], check=True)
