from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import draw, matched
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mihc.cells import CellSettings, cells_in_window, grow_cells, measure_cells
from mihc.errors import InputError
from mihc.nuclei import block_of_id, find_nuclei, nucleus_ids, segment_nuclei, slide_reference
from mihc.nuclei_grid import FEWEST, Canvas, Grid, Objects, objects_of_tile
from mihc.nuclei_reference import NucleusReference
from mihc.windows import whole, windows

UM = 0.5
LIGHT = NucleusReference(background=0.0, contrast=0.5, noise=0.0)  # a picture then holds the image's own values


class Bright:
    """Connected bright pixels."""

    planes = ("nuclei",)

    def __init__(self, window_px=64, overlap_px=16, pixel_size_um=None, cut=0.3):
        self.window_px, self.overlap_px, self.pixel_size_um, self.cut = window_px, overlap_px, pixel_size_um, cut

    def labels(self, picture):
        return ndimage.label(picture[0] > self.cut)[0]


class Moody(Bright):
    """Connected bright pixels, of which each picture sees a little more or less, as a network would."""

    def labels(self, picture):
        mood = int(abs(float(picture.sum(dtype=np.float64))) * 1000) % 7
        return ndimage.label(picture[0] > 0.25 + 0.03 * mood)[0]


class Classical(Bright):
    """mihc's own method, as if it were somebody else's."""

    def labels(self, picture):
        reference = NucleusReference(0.0, 500.0, 8.0, 0, 0.35)
        counts = np.rint(1000 * picture[0]).astype(np.int32)
        return find_nuclei(counts, pixel_size_um=UM, nucleus_diameter_um=8.0, reference=reference)[0]


def disc(shape, y, x, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def painted(image, segmenter, light=LIGHT, take=0):
    """Labels of an image, row by row of the grid; `take`: rows that are taken from the canvas as soon as they can."""
    grid = Grid.of(image.shape, (UM, UM), segmenter)
    canvas, done = Canvas(grid), []
    for row in range(grid.rows):
        canvas.add_row([objects_of_tile([image], [light], grid, tile, segmenter) for tile in grid.tiles(row)])
        while take and canvas.ready >= take:
            done.append(canvas.take(take))
    return np.concatenate([*done, canvas.labels])


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


# --- the grid


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 700), width=st.integers(1, 700), window=st.integers(20, 300), share=st.floats(0.05, 0.45),
    wanted=st.sampled_from([None, 0.25, 0.5, 0.505, 0.7, 1.0]),
)  # fmt: skip
def test_the_tiles_cover_every_pixel_once_and_are_all_alike(height, width, window, share, wanted):
    segmenter = Bright(window, max(5, int(share * window)), wanted)
    grid = Grid.of((height, width), (UM, UM), segmenter)
    seen = np.zeros((height, width), int)
    for row in range(grid.rows):
        for tile in grid.tiles(row):
            seen[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
            assert (tile.by1 - tile.by0, tile.bx1 - tile.bx0) == (grid.core + 2 * grid.margin,) * 2
            assert tile.y0 % 2 == tile.x0 % 2 == tile.by0 % 2 == tile.bx0 % 2 == 0
    assert (seen == 1).all()
    assert grid.core + 2 * grid.margin <= window * grid.scale + 1e-6  # a picture shows the whole box


@pytest.mark.parametrize(("window", "overlap"), [(64, 32), (64, 1), (4, 2)])
def test_a_window_without_room_for_a_core_or_a_border_is_refused(window, overlap):
    with pytest.raises(InputError, match="cannot be laid on a grid"):
        Grid.of((100, 100), (UM, UM), Bright(window, overlap))


# --- ownership


def test_NP7_ten_thousand_discs_on_seams_are_found_once_each():
    """Tiles of 32 pixels, discs every 8: a quarter of them lie on a seam or a corner."""
    side = 808
    image = np.zeros((side, side), np.float32)
    for y in range(4, side - 4, 8):
        for x in range(4, side - 4, 8):
            image[y - 2 : y + 3, x - 2 : x + 3] = 1.0
            image[y - 2 : y + 3 : 4, x - 2 : x + 3 : 4] = 0.0
    truth = ndimage.label(image)[0]
    assert truth.max() == 10_000
    labels = painted(image, Bright())
    assert len(np.unique(labels)) - 1 == 10_000
    assert same_partition(labels, truth)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), window=st.sampled_from([48, 64, 90]), overlap=st.sampled_from([12, 16]))
def test_a_segmenter_that_sees_alike_everywhere_gives_what_one_picture_would(seed, window, overlap):
    rng = np.random.default_rng(seed)
    image = np.zeros((150, 170), np.float32)
    for y, x in rng.integers(0, 150, (60, 2)):
        image[disc(image.shape, y, x, 2)] = 1.0
    truth, count = ndimage.label(image)
    short = [o for o in ndimage.find_objects(truth) if max(s.stop - s.start for s in o) <= overlap]
    labels = painted(image, Bright(window, overlap))
    shown = np.bincount(truth.ravel())[1:].min() >= FEWEST  # a picture with fewer bright pixels is not asked for
    if len(short) == count and shown:  # none larger than the overlap
        assert same_partition(labels, truth)
    assert (labels > 0).sum() <= (truth > 0).sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_pictures_that_disagree_lose_no_nucleus_and_count_none_twice(seed):
    """Blurred discs, well apart: whatever level each picture cuts them at, each is one nucleus."""
    rng = np.random.default_rng(seed)
    image = np.zeros((210, 240), np.float32)
    places = [(y, x) for y in range(12, 200, 20) for x in range(12, 230, 20)]
    for y, x in places:
        image[disc(image.shape, y + rng.integers(-3, 4), x + rng.integers(-3, 4), rng.uniform(3, 5))] = 1.0
    image = ndimage.gaussian_filter(image, 1.2) * (1 + 0.1 * rng.random(image.shape, np.float32))
    labels = painted(image, Moody())
    assert len(np.unique(labels)) - 1 == len(places)
    centres = [labels[y - 3 : y + 4, x - 3 : x + 4] for y, x in places]
    assert all(len(np.unique(part[part > 0])) == 1 for part in centres)


def objects(*parts, inside=True):
    pixels = np.concatenate([np.asarray(part, np.int32) for part in parts])
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return Objects(pixels, starts, np.full(len(parts), inside))


def square(y, x, side):
    return [(y + a, x + b) for a in range(side) for b in range(side)]


def one_row(*found, width=40):
    canvas = Canvas(Grid((32, width), 1.0, 64, 16))
    canvas.add_row(list(found))
    return canvas.labels


def test_pixels_claimed_twice_stay_with_the_earlier_object_by_hand():
    labels = one_row(objects(square(4, 4, 4)), objects(square(6, 7, 4)))
    assert np.count_nonzero(labels == labels[4, 4]) == 16
    assert np.count_nonzero(labels == labels[9, 10]) == 14
    assert len(np.unique(labels)) == 3


@pytest.mark.parametrize(("y", "known"), [(4, True), (6, False), (7, False)])
def test_of_two_objects_of_which_one_half_covers_the_other_the_earlier_stays(y, known):
    labels = one_row(objects(square(4, 4, 4)), objects(square(y, 5, 4)))
    assert len(np.unique(labels)) == (2 if known else 3)


def test_a_small_object_within_a_large_one_is_not_counted_again_whichever_came_first():
    for first, second in ((12, 3), (3, 12)):
        labels = one_row(objects(square(4, 4, first)), objects(square(4, 4, second)))
        assert len(np.unique(labels)) == 2
        assert np.count_nonzero(labels) == first**2


def test_an_object_that_every_border_puts_beyond_itself_is_taken_once():
    nearly = [objects(square(6, 6, 4), inside=False), objects(square(6, 7, 4), inside=False)]
    labels = one_row(*nearly)
    assert len(np.unique(labels)) == 2 and np.count_nonzero(labels) == 16
    labels = one_row(*nearly, objects(square(7, 6, 4)))
    assert labels[10, 6] > 0 and labels[6, 6] == 0  # its owner's word counts


def test_two_objects_in_one_block_get_ids_of_their_own_by_hand():
    # Both centroids lie in block (2, 2), pixels 4 and 5 of both axes; the ring's seed moves to its nearest free block
    ring = [(y, x) for y, x in square(3, 3, 4) if not (4 <= y <= 5 and 4 <= x <= 5)]
    labels = one_row(objects(square(4, 4, 2), ring))
    ids = np.unique(labels[labels > 0])
    assert len(ids) == 2
    assert block_of_id(ids, (32, 40)).tolist() == [[2, 4], [4, 4]]
    assert np.count_nonzero(labels == ids[1]) == 4 and np.count_nonzero(labels == ids[0]) == 12


def test_an_object_without_any_free_block_cannot_be_named_and_is_left_out():
    labels = one_row(objects([(4, 4)], [(5, 5)]))
    assert labels[4, 4] > 0 and labels[5, 5] == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([(90, 130), (131, 77), (64, 200)]))
def test_ids_are_unique_and_name_the_block_of_a_pixel_of_the_nucleus_even_on_noise(seed, size):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random(size), 0.8).astype(np.float32)
    image = (image - image.min()) / (image.max() - image.min())
    labels = painted(image, Moody())
    ids = np.unique(labels[labels > 0])
    for (y, x), name in zip(block_of_id(ids, size), ids, strict=True):
        assert (labels[y : y + 2, x : x + 2] == name).any()
    assert nucleus_ids(block_of_id(ids, size), size).tolist() == ids.tolist()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), take=st.sampled_from([2, 10, 64]))
def test_a_strip_of_the_canvas_gives_what_the_whole_gives(seed, take):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random((260, 90)), 1.5).astype(np.float32)
    image = (image - image.min()) / (image.max() - image.min())
    assert (painted(image, Moody(), take=take) == painted(image, Moody())).all()


# --- pictures


def test_a_picture_has_background_0_and_a_bright_nucleus_1_and_is_0_beyond_the_slide():
    seen = []

    class Looks(Bright):
        def labels(self, picture):
            seen.append(picture)
            return np.zeros(picture.shape[1:], int)

    image = np.full((40, 50), 100, np.uint16)
    image[10:30, 10:30] = 500
    light = NucleusReference(background=100.0, contrast=200.0, noise=1.0)
    painted(image, Looks(), light)
    picture = seen[0]
    assert picture.shape == (1, 64, 64) and picture.dtype == np.float32
    assert picture[0, 16 + 10, 16 + 10] == 1.0 and picture[0, 16, 16] == 0.0
    assert not picture[0, :16].any() and not picture[0, 16 + 40 :].any()


def test_an_empty_picture_is_not_shown_to_the_segmenter():
    class Inventive(Bright):
        def labels(self, picture):
            assert picture.max() > 0.5, "an empty picture"
            return np.ones(picture.shape[1:], int)

    image = np.full((200, 200), 100, np.uint16)
    light = NucleusReference(background=100.0, contrast=200.0, noise=1.0)
    assert not painted(image, Inventive(), light).any()
    image[100:110, 100:110] = 600
    assert painted(image, Inventive(), light).any()


@pytest.mark.parametrize("wanted", [0.25, 0.4, 0.5, 0.8, 1.0])
def test_the_pixel_size_that_the_segmenter_wants_moves_and_resizes_no_nucleus(wanted):
    image, truth = draw((300, 340), seed=5, spacing=30.0)
    light = slide_reference(image[0], pixel_size_um=UM)
    labels = painted(image[0], Bright(128, 24, wanted), light)
    hits, found, planted = matched(labels, truth)
    assert hits >= 0.97 * planted and found <= 1.03 * planted
    areas = [np.bincount(np.unique(labels[labels > 0], return_inverse=True)[1]).mean() for labels in (labels, truth)]
    assert abs(areas[0] / areas[1] - 1) < 0.12
    names = [np.bincount(labels[truth == k]).argmax() for k in range(1, planted + 1)]
    moved = [
        np.subtract(ndimage.center_of_mass(labels == name), ndimage.center_of_mass(truth == k))
        for k, name in enumerate(names, 1)
        if name
    ]
    # By no half pixel of either picture; of a picture twice as fine, the label beside the centre of a pixel is taken.
    assert abs(np.median(moved, axis=0)).max() < (0.27 if wanted == 0.25 else 0.15)


def test_a_picture_of_another_pixel_size_shows_places_exactly():
    """A ramp keeps its values under linear interpolation: pixel i of the picture lies at (i + 0.5) x 0.5 - 0.5."""
    seen = {}

    class Looks(Bright):
        def labels(self, picture):
            seen["picture"] = picture.copy()
            return np.zeros(picture.shape[1:], int)

    ramp = np.tile(np.arange(100, dtype=np.float32), (100, 1))
    painted(ramp[:60, :60], Looks(100, 20, 0.25))
    grid = Grid.of((60, 60), (UM, UM), Looks(100, 20, 0.25))
    assert (grid.scale, grid.margin, grid.core) == (0.5, 10, 30)
    # The last tile of the only rows seen: its box begins at 30 - 10 = 20
    inner = seen["picture"][0, 40, 20:60]
    assert np.allclose(inner, 20 + (np.arange(20, 60) + 0.5) * 0.5 - 0.5, atol=1e-4)


def test_labels_of_the_wrong_shape_or_kind_are_refused():
    class Wrong(Bright):
        def labels(self, picture):
            return picture[0]

    with pytest.raises(InputError, match=r"Wrong gave labels of shape \(64, 64\) and float32"):
        painted(np.ones((40, 40), np.float32), Wrong())


# --- the public function


def test_the_classical_method_through_the_protocol_finds_what_it_finds_by_itself():
    image, truth = draw((330, 410), seed=4)
    labels = segment_nuclei(image[0], pixel_size_um=UM, method=Classical(256, 64))
    hits, found, planted = matched(labels, truth)
    assert labels.dtype == np.uint32 and 2 * hits / (found + planted) > 0.93
    own = segment_nuclei(image[0], pixel_size_um=UM)
    hits, found, planted = matched(labels, own)
    assert 2 * hits / (found + planted) > 0.95


@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (9, 0), (1, 1), (3, 200)])
def test_an_image_of_any_size_gives_labels_of_that_size(shape):
    image = np.random.default_rng(0).integers(0, 999, shape).astype(np.uint16)
    assert segment_nuclei(image, pixel_size_um=UM, method=Bright()).shape == shape


def test_NP39_a_blank_image_has_no_nuclei():
    assert not segment_nuclei(np.full((90, 90), 7, np.uint16), pixel_size_um=UM, method=Bright()).any()


# --- windows change nothing


@pytest.fixture(scope="module")
def slide():
    image, _truth = draw((1100, 1050), channels=2, seed=11)
    nuclei = segment_nuclei(image[0], pixel_size_um=UM, method=Classical(200, 40))
    return image, slide_reference(image[0], pixel_size_um=UM), nuclei


def in_windows(slide, side, workers):
    """Nuclei, cells and table of a slide whose nuclei somebody else found."""
    image, reference, nuclei = slide
    shape = image.shape[1:]
    chosen = CellSettings(8.0, 4.0, (0,), ((0, "M0"), (1, "M1")), (0, 0))
    halo = Grid.of(shape, (UM, UM), Classical(200, 40)).halo_px + 2 * 8 + 2
    todo = windows(shape, side, halo) if side else [whole(shape)]

    def one(window):
        block = image[(slice(None), *window.padded)]
        return cells_in_window(
            block, window, shape=shape, pixel_size_um=UM, settings=chosen, reference=reference,
            given=nuclei[window.padded],
        )  # fmt: skip

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(one, todo))
    labels, cells = np.zeros((2, *shape), np.uint32)
    for window, part in zip(todo, parts, strict=True):
        labels[window.core], cells[window.core] = part.nuclei, part.cells
    return labels, cells, pd.concat([part.table for part in parts]).sort_values("cell", ignore_index=True)


@pytest.mark.parametrize(("side", "workers"), list(itertools.product((256, 384, 1000, None), (1, 4))))
def test_NP6_given_nuclei_are_measured_alike_in_any_windows(slide, side, workers):
    image, _, nuclei = slide
    labels, cells, table = in_windows(slide, side, workers)
    assert (labels == nuclei).all()
    assert (cells == grow_cells(nuclei, pixel_size_um=UM)).all()
    expected = measure_cells(image, nuclei, cells, markers=["M0", "M1"], pixel_size_um=UM)
    assert len(expected) > 2000
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
