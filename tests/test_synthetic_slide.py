"""Truth by construction: what a drawn slide says of itself is what can be counted on it."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapely.geometry import Point, Polygon

from mihc.drawing.tissue import inside, polygon_mask
from mihc.synthetic import Densities, Layout, draw_slide

LAYOUT = Layout(nest_um=60, aggregates=1, aggregate_radius_um=45, fold=True, glass_fraction=0.12)


@pytest.fixture(scope="module")
def drawn():
    return draw_slide(seed=3, size_px=(640, 576), layout=LAYOUT)


def test_the_table_has_one_row_per_nucleus_with_its_centroid_and_area(drawn):
    cells, table = drawn.table["cell"].to_numpy(), drawn.table
    assert cells.tolist() == list(range(1, drawn.nuclei.max() + 1))
    centre = np.array(ndimage.center_of_mass(drawn.nuclei > 0, drawn.nuclei, cells))
    np.testing.assert_allclose(table["y_um"], (centre[:, 0] + 0.5) * 0.5, rtol=1e-12)
    np.testing.assert_allclose(table["x_um"], (centre[:, 1] + 0.5) * 0.5, rtol=1e-12)
    assert table["nucleus_area_um2"].tolist() == (np.bincount(drawn.nuclei.ravel())[1:] * 0.25).tolist()


def test_a_cell_holds_its_nucleus_and_shares_its_id(drawn):
    nuclei = drawn.nuclei > 0
    assert np.array_equal(drawn.cells[nuclei & (drawn.cells > 0)], drawn.nuclei[nuclei & (drawn.cells > 0)])
    assert (drawn.cells[nuclei] == 0).mean() < 0.02  # only what the blurred edge of the tissue cuts off
    assert (drawn.cells > 0).sum() > 1.3 * nuclei.sum()


def test_the_same_seed_draws_the_same_slide_and_another_seed_another():
    one, two, other = (draw_slide(seed=seed, size_px=(256, 256), layout=LAYOUT) for seed in (5, 5, 6))
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.nuclei, two.nuclei)
    assert one.table.equals(two.table)
    assert not np.array_equal(one.nuclei, other.nuclei)


def test_the_regions_tile_the_slide_with_corners_on_pixels(drawn):
    polygons = [region.polygon_um for region in drawn.regions]
    assert {region.name for region in drawn.regions} == {"fold", "tumour", "stroma", "glass"}
    assert sum(polygon.area for polygon in polygons) == pytest.approx(320 * 288, rel=1e-12)
    assert shapely.union_all(polygons).area == pytest.approx(320 * 288, rel=1e-12)
    corners = shapely.get_coordinates(polygons) / 0.5
    np.testing.assert_array_equal(corners, np.rint(corners))


def test_the_region_of_a_cell_holds_its_centroid(drawn):
    by_name = {region.name: region for region in drawn.regions}
    for row in drawn.table.itertuples():
        region = by_name[row.region]
        assert region.polygon_um.distance(Point(row.x_um, row.y_um)) == 0  # shapely as the oracle
        assert row.tissue_class == region.tissue_class


def test_the_planted_numbers_are_there(drawn):
    area = {region.name: region.area_mm2 for region in drawn.regions}
    planted = Densities()
    in_tumour = drawn.table[drawn.table["region"] == "tumour"]
    # a centroid may lie on the other side of the border from where the nucleus was put
    assert in_tumour["CD20_positive"].sum() == pytest.approx(planted.b_tumour * area["tumour"], abs=3)
    assert in_tumour["CD3_positive"].sum() == pytest.approx(planted.t_tumour * area["tumour"], abs=3)
    assert in_tumour["Ki67_positive"].sum() == pytest.approx(planted.ki67_tumour * area["tumour"], abs=1)
    assert len(in_tumour) == pytest.approx(planted.cells_tumour * area["tumour"], rel=0.04)
    assert (drawn.table["CD8_positive"] & ~drawn.table["CD3_positive"]).sum() == 0
    assert (drawn.table["CD21_positive"] & ~drawn.table["CD20_positive"]).sum() == 0


@pytest.mark.parametrize("marker", ["PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67"])
def test_positive_cells_stain_brighter_than_negative_ones_but_not_trivially(drawn, marker):
    where = drawn.nuclei if marker == "Ki67" else drawn.cells
    plane = drawn.image[drawn.channels.index(marker)]
    here = drawn.table["tissue_class"].isin(["tumour", "stroma"]).to_numpy()
    value = ndimage.mean(plane, where, drawn.table["cell"])[here]
    positive = drawn.table[f"{marker}_positive"].to_numpy()[here]
    assert positive.sum() >= 5
    # chance that a positive cell is brighter than a negative one (area under the ROC curve)
    brighter = (value[positive][:, None] > value[~positive][None, :]).mean()
    assert brighter > 0.985
    assert value[positive].std() / value[positive].mean() > 0.15


def test_without_antibodies_no_cell_is_positive_and_the_channels_hold_background_only():
    stained, bare = (draw_slide(seed=8, size_px=(320, 320), layout=Layout(), antibodies=on) for on in (True, False))
    assert not bare.table.filter(like="_positive").to_numpy().any()
    assert np.array_equal(stained.nuclei, bare.nuclei)
    cd3 = bare.channels.index("CD3")
    assert np.percentile(bare.image[cd3], 99) < 0.5 * np.percentile(stained.image[cd3], 99)


def test_a_slide_of_glass_alone_has_no_cells():
    drawn = draw_slide(seed=1, size_px=(128, 128), layout=Layout(glass_fraction=50.0, aggregates=0))
    assert len(drawn.table) == 0
    assert drawn.nuclei.max() == 0
    assert [region.tissue_class for region in drawn.regions] == ["outside"]


def recipe(image):
    """The common scikit-image recipe: Gaussian, Otsu, distance transform, maxima, watershed."""
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu
    from skimage.segmentation import watershed

    smooth = gaussian(image, 1, preserve_range=True)
    mask = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    depth = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(gaussian(depth, 1), min_distance=5, exclude_border=False, threshold_abs=0.5)
    seeds = np.zeros(depth.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, seeds, mask=mask)


def f1(found, truth):
    """F1 at IoU above 0.5, where a match is unique."""
    both = (found > 0) & (truth > 0)
    pair, overlap = np.unique(np.stack([found[both], truth[both]], 1), axis=0, return_counts=True)
    area_found, area_truth = np.bincount(found.ravel()), np.bincount(truth.ravel())
    iou = overlap / (area_found[pair[:, 0]] + area_truth[pair[:, 1]] - overlap)
    return 2 * (iou > 0.5).sum() / ((area_found[1:] > 0).sum() + (area_truth[1:] > 0).sum())


def test_drawn_nuclei_are_as_hard_as_tissue_for_the_common_recipe():
    layouts = (Layout(), Layout(aggregates=2), Layout(aggregates=0))
    slides = [draw_slide(seed=20 + i, size_px=(768, 768), layout=layout) for i, layout in enumerate(layouts)]
    scores = [f1(recipe(drawn.image[0]), drawn.nuclei.astype(np.int64)) for drawn in slides]
    assert 0.65 <= np.mean(scores) <= 0.85, scores


def test_every_nucleus_can_be_seen(drawn):
    # the median of each nucleus stands out from the ring of 1 to 3 µm around it that holds no other
    dapi, ids = drawn.image[0].astype(float), drawn.table["cell"].to_numpy()
    away, (rows, columns) = ndimage.distance_transform_edt(drawn.nuclei == 0, return_indices=True)
    ring = np.where((away > 2) & (away <= 6), drawn.nuclei[rows, columns], 0)
    analysed = (drawn.table["tissue_class"] != "excluded").to_numpy() & np.isin(ids, ring)
    inner, outer = ndimage.median(dapi, drawn.nuclei, ids), ndimage.median(dapi, ring, ids)
    assert analysed.mean() > 0.8
    assert (inner / outer)[analysed].min() > 1.15


SQUARE = Polygon([(1, 1), (4, 1), (4, 4), (1, 4)], [[(2, 2), (3, 2), (3, 3), (2, 3)]])


def test_a_square_with_a_hole_filled_by_hand():
    expected = [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    assert polygon_mask(SQUARE, (5, 5), 1.0).astype(int).tolist() == expected


def test_of_two_neighbours_exactly_one_holds_a_point_of_their_border():
    left, right = shapely.box(0, 0, 2, 4), shapely.box(2, 0, 4, 4)
    x, y = np.array([2.0, 2.0, 0.0, 4.0, 1.0]), np.array([1.0, 0.0, 1.0, 1.0, 4.0])
    assert inside(x, y, left).tolist() == [False, False, True, False, False]
    assert inside(x, y, right).tolist() == [True, True, False, False, False]


@settings(max_examples=40, deadline=None)
@given(corners=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=9, unique=True))
def test_pixels_filled_are_those_whose_centre_is_inside(corners):
    outline = Polygon(corners).buffer(0)
    centres = np.arange(12) + 0.5
    x, y = (axis.ravel() for axis in np.meshgrid(centres, centres))
    on_border = shapely.distance(outline.boundary, shapely.points(x, y)) < 1e-9
    expected, found = shapely.contains_xy(outline, x, y), polygon_mask(outline, (12, 12), 1.0).ravel()
    assert np.array_equal(found[~on_border], expected[~on_border])
    assert np.array_equal(found, inside(x, y, outline))
