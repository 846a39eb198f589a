from __future__ import annotations

import itertools
import shutil
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_nuclei import draw, matched
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import mihc
from mihc.cells import CellSettings, cells_in_window, grow_cells, measure_cells
from mihc.errors import InputError
from mihc.nuclei import block_of_id, find_nuclei, nucleus_ids, segment_nuclei, slide_reference
from mihc.nuclei_grid import FEWEST, Canvas, Grid, Objects, objects_of_tile
from mihc.nuclei_reference import NucleusReference
from mihc.pipeline import run
from mihc.segmenters import Segmenter, known_methods, open_segmenter, segmenter_versions
from mihc.store import LABEL_CHUNK, Store, digest_results, open_labels, read_cells
from mihc.study import check_study, read_study
from mihc.synthetic import draw_study
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


# --- an outsider's segmenter, installed by an entry point

PLUGIN = """
    import threading
    from scipy import ndimage

    ASKED = []

    class BrightSpots:
        planes = ("nuclei",)
        pixel_size_um = 0.5
        window_px, overlap_px = 256, 32

        def __init__(self, cut):
            self.cut = cut

        def labels(self, picture):
            ASKED.append(threading.get_ident())
            mood = int(abs(float(picture.sum(dtype="f8"))) * 1000) % 5
            return ndimage.label(ndimage.gaussian_filter(picture[0], 2) > self.cut + 0.01 * mood)[0]

    def bright_spots(*, weights, nucleus_diameter_um, sensitivity):
        return BrightSpots(float(weights.read_text()) if weights else 0.3)

    def nothing_much(*, weights, nucleus_diameter_um, sensitivity):
        return object()
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A package with a segmenter, as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "bright_package.py").write_text(textwrap.dedent(PLUGIN))
    info = folder / "bright_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-package\nVersion: 1.2\n")
    points = ["bright = bright_package:bright_spots", "nothing = bright_package:nothing_much"]
    points += ["broken = bright_package:no_such_name"]
    (info / "entry_points.txt").write_text("[mihc.segmenters]\n" + "\n".join(points) + "\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("bright_package", None)


def test_a_segmenter_is_found_by_its_entry_point_and_used_by_name(plugin):
    assert known_methods()[:5] == ("auto", "classical", "cellpose", "stardist", "instanseg")
    assert "bright" in known_methods()
    segmenter = open_segmenter("bright")
    assert isinstance(segmenter, Segmenter)
    versions = segmenter_versions("bright")
    assert versions["bright-package"] == "1.2" and len(versions["code"]) == 16
    image, truth = draw((300, 300), seed=3, spacing=30.0)
    labels = mihc.segment_nuclei(image[0], pixel_size_um=UM, method=segmenter)
    hits, found, planted = matched(labels, truth)
    assert 2 * hits / (found + planted) > 0.8


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("magic", 'no segmenter "magic"'),
        ("nothing", "lacks one of planes"),
        ("broken", "cannot be loaded from bright_package:no_such_name"),
    ],
)
def test_a_segmenter_that_cannot_be_used_is_refused(plugin, method, says):
    with pytest.raises(InputError, match=says):
        open_segmenter(method)


def test_weights_that_are_not_there_and_packages_that_are_not_installed_are_refused(plugin, tmp_path):
    with pytest.raises(InputError, match="there are no weights"):
        open_segmenter("bright", weights=tmp_path / "gone")
    with pytest.raises(InputError, match=r'unknown sensitivity "much"'):
        open_segmenter("bright", sensitivity="much")
    for method in ("cellpose", "stardist", "instanseg"):  # not among what the tests install
        with pytest.raises(InputError, match=rf"pip install 'mihc\[{method}\]'"):
            open_segmenter(method, weights=tmp_path)


def test_the_example_of_the_documentation_is_a_segmenter():
    import textwrap as text

    source = text.dedent(
        mihc.segmenters.__doc__.split("three keywords and returns a `Segmenter`:")[1].split("Nothing")[0]
    )
    namespace = {}
    exec("import scipy.ndimage\n" + source, namespace)
    segmenter = namespace["bright_spots"](weights=None, nucleus_diameter_um=8.0, sensitivity="normal")
    image, truth = draw((300, 300), seed=3, spacing=30.0)
    found = len(np.unique(mihc.segment_nuclei(image[0], pixel_size_um=UM, method=segmenter))) - 1
    assert abs(found / truth.max() - 1) < 0.1


# --- the whole flow


@pytest.fixture(scope="module")
def bright_study(plugin, tmp_path_factory):
    """A drawn study of two patients whose nuclei the outsider's segmenter finds, and its results."""
    folder = draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=2, seed=5, size_px=(700, 1300))
    (folder / "models").mkdir()
    (folder / "models" / "cut.txt").write_text("0.3")
    text = (folder / "study.toml").read_text()
    added = '[segmentation]\nmethod = "bright"\nweights = "models/cut.txt"\n'
    (folder / "study.toml").write_text(text.replace("[segmentation]\n", added))
    run(read_study(folder), until="cells")
    return folder


@pytest.fixture
def study(bright_study, tmp_path):
    return Path(shutil.copytree(bright_study, tmp_path / "study"))


def steps(folder, **choices):
    """Run up to the cells; stage -> why, of the first slide."""
    results = run(read_study(folder), until="cells", **choices)
    assert not results.failed
    return {step.stage: step.why for step in results.steps if step.slide == read_study(folder).slides[0].slide}


def change(folder, old, new):
    text = (folder / "study.toml").read_text()
    assert old in text
    (folder / "study.toml").write_text(text.replace(old, new))


def first_slide(folder):
    slide = read_study(folder).slides[0].slide
    return (
        folder / "results" / "slides" / f"{slide}.ome.zarr",
        folder / "results" / ".stages" / "cells" / f"{slide}.parquet",
    )


def test_a_run_gives_what_the_public_function_gives(bright_study):
    image, cells = first_slide(bright_study)
    stored = mihc.open_image(image)
    panel = read_study(bright_study).panels[""]
    from mihc.nuclei_stain import NuclearStain
    from mihc.steps.find import stain_of

    stain = stain_of(stored, panel)
    assert isinstance(stain, NuclearStain) and stain.autofluorescence is not None
    plane = stain[0 : stain.shape[0], 0 : stain.shape[1]]
    segmenter = open_segmenter("bright", weights=bright_study / "models" / "cut.txt")
    expected = mihc.segment_nuclei(plane, pixel_size_um=stored.pixel_size_um, method=segmenter)
    assert (np.asarray(open_labels(image, "nuclei")[0][:]) == expected).all()
    assert len(read_cells(cells)) == len(np.unique(expected)) - 1 > 300


@pytest.mark.parametrize(("window", "workers"), [(LABEL_CHUNK, 1), (LABEL_CHUNK, 4), (4096, 2)])
def test_NP6_windows_and_workers_change_nothing_for_another_segmenter(bright_study, tmp_path, window, workers):
    folder = Path(shutil.copytree(bright_study, tmp_path / "study", ignore=shutil.ignore_patterns("results")))
    text = (folder / "study.toml").read_text() + f"\n[compute]\nwindow = {window}\nworkers = {workers}\n"
    (folder / "study.toml").write_text(text.replace("[compute]\n", "[compute]\n", 1))
    steps(folder, workers=workers)
    assert digest_results(folder / "results") == digest_results(bright_study / "results")


def test_the_segmenter_is_asked_once_per_tile_and_never_for_what_comes_after(study):
    module = sys.modules["bright_package"]
    module.ASKED.clear()
    change(study, "cell_expansion_um = 2.5", "cell_expansion_um = 5.0")
    why = steps(study)
    assert why["nuclei"] == "reused" and why["cells"].startswith("recomputed because changed: segmentation")
    assert module.ASKED == []
    change(study, 'method = "bright"', 'method = "bright"\nsensitivity = "high"')
    assert steps(study)["nuclei"].startswith("recomputed because changed: segmentation")
    tiles = len(read_study(study).slides) * -(-700 // 192) * -(-1300 // 192)
    assert 0.8 * tiles < len(module.ASKED) <= tiles


def test_other_weights_find_the_nuclei_anew_even_under_the_same_name(study):
    (study / "models" / "cut.txt").write_text("0.5")
    why = steps(study)
    assert why["nuclei"].startswith("recomputed because changed: weights")
    assert why["cells"].startswith("recomputed because changed: nuclei")


def test_back_to_the_classical_method_nothing_is_left_of_the_other(study):
    change(study, 'method = "bright"\nweights = "models/cut.txt"\n', "")
    why = steps(study)
    assert "nuclei" not in why and why["cells"].startswith("recomputed")
    assert not list((study / "results" / ".stages" / "nuclei").glob("*"))
    assert Store(study / "results").verify() == []


def test_the_stored_nuclei_are_verified(study):
    assert Store(study / "results").verify() == []
    chunk = next((study / "results" / ".stages" / "nuclei").rglob("c/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert [damage.stage for damage in Store(study / "results").damage()] == ["nuclei"]


def problems(folder):
    return [problem for problem in check_study(folder, open_slides=False) if "segmentation" in problem.place]


def test_check_names_what_a_segmenter_lacks_before_any_pixel_is_read(study):
    assert problems(study) == []
    (study / "models" / "cut.txt").unlink()
    assert "there are no weights models/cut.txt" in problems(study)[0].what
    change(study, 'method = "bright"', 'method = "cellpose"')
    assert 'pip install "mihc[cellpose]"' in problems(study)[0].fix
    change(study, 'method = "cellpose"', 'method = "auto"')
    assert "has no weights" in problems(study)[0].what
    change(study, 'method = "auto"', 'method = "brihgt"')
    assert "did you mean bright" in problems(study)[0].what


def test_a_role_that_the_panel_lacks_is_said(study, plugin):
    source = (plugin / "bright_package.py").read_text()
    try:
        (plugin / "bright_package.py").write_text(source.replace('("nuclei",)', '("nuclei", "ignore")'))
        sys.modules["bright_package"].BrightSpots.planes = ("nuclei", "ignore")
        results = run(read_study(study), until="cells")
    except InputError as error:
        assert "needs a channel with the role ignore" in str(error)
    else:
        assert "needs a channel with the role ignore" in next(iter(results.failed.values()))
    finally:
        (plugin / "bright_package.py").write_text(source)
        sys.modules["bright_package"].BrightSpots.planes = ("nuclei",)
