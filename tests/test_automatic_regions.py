"""Tissue, tumour, stroma and folds from pixels, against what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import ndimage

from mihc.areas.automatic import two_levels
from mihc.quality.fields import without_gaps, without_specks
from mihc.regions import automatic_regions, find_tissue, partition
from mihc.synthetic import Layout, draw_slide

ROLES = ("nuclei", "tumour", "marker", "marker", "marker", "marker", "marker", "autofluorescence")
PIXEL = (2.0, 2.0)


def overview(drawn):
    """The slide at 2 µm per pixel: means of 4 x 4 pixels."""
    c, y, x = drawn.image.shape
    means = drawn.image.reshape(c, y // 4, 4, x // 4, 4).mean(axis=(2, 4), dtype=np.float64)
    return np.rint(means).astype(np.uint16)


def planted(drawn, *names):
    return shapely.union_all([region.polygon_um for region in drawn.regions if region.name in names])


def overlap(a, b):
    return a.intersection(b).area / a.union(b).area


def found_on(drawn):
    pixels = overview(drawn)
    tissue = find_tissue(pixels, pixel_size_um=PIXEL, roles=ROLES)
    found = automatic_regions(pixels, pixel_size_um=PIXEL, roles=ROLES, tissue=tissue)
    height, width = (side * drawn.pixel_size_um for side in drawn.image.shape[1:])
    parts = partition(found.regions, scanned=shapely.box(0, 0, width, height))
    return tissue, {part.name: part.polygon_um for part in parts}, found


@pytest.mark.parametrize(
    ("seed", "nest_um", "fraction", "least", "rel"),
    [(0, 75, 0.42, 0.93, 0.03), (3, 75, 0.42, 0.93, 0.03), (7, 150, 0.6, 0.93, 0.03), (8, 50, 0.3, 0.88, 0.06)],
)
def test_tumour_and_stroma_are_found_as_drawn(seed, nest_um, fraction, least, rel):  # small nests are mostly edge
    drawn = draw_slide(seed=seed, layout=Layout(nest_um=nest_um, tumour_fraction=fraction))
    tissue, parts, _ = found_on(drawn)
    assert overlap(tissue, planted(drawn, "tumour", "stroma")) > 0.97
    for name in ("tumour", "stroma"):
        truth = planted(drawn, name)
        assert overlap(parts[name], truth) >= least
        assert parts[name].area == pytest.approx(truth.area, rel=rel)


def test_a_fold_is_excluded_by_its_name():
    drawn = draw_slide(seed=20, layout=Layout(fold=True))
    _, parts, found = found_on(drawn)
    light = planted(drawn, "fold").buffer(-4)  # as it is drawn: it ends 4 µm inside the planted outline
    assert overlap(parts["fold"], light) > 0.75
    assert next(region for region in found.regions if region.name == "fold").tissue_class == "excluded"


def test_a_fold_in_stroma_makes_no_tumour_and_no_margin_of_its_own():
    drawn = draw_slide(seed=20, layout=Layout(fold=True))
    _, _, found = found_on(drawn)
    tumour = next(region.polygon_um for region in found.regions if region.name == "tumour")
    below_fold = tumour.intersection(planted(drawn, "fold")).area / planted(drawn, "fold").area
    assert 0.1 < below_fold < 0.6  # it crosses both
    assert overlap(tumour.difference(planted(drawn, "fold")), planted(drawn, "tumour")) > 0.93


def test_lymphoid_aggregates_are_no_folds():
    _, parts, _ = found_on(draw_slide(seed=80, layout=Layout(aggregates=4)))
    assert set(parts) == {"tumour", "stroma"}


def test_without_tumour_in_the_tissue_all_of_it_is_other_and_it_is_said():
    drawn = draw_slide(seed=40, layout=Layout(tumour_fraction=0.0))
    tissue, parts, found = found_on(drawn)
    assert set(parts) == {"other"}
    assert parts["other"].area == tissue.area
    assert found.remarks[0].startswith("no tumour found: the tumour marker does not divide")


def test_a_slide_without_antibodies_has_no_tumour():
    _, parts, _ = found_on(draw_slide(seed=30, antibodies=False))
    assert set(parts) == {"other"}


def test_without_a_tumour_channel_all_tissue_is_other():
    pixels = overview(draw_slide(seed=0))[[0, 2, 7]]
    found = automatic_regions(pixels, pixel_size_um=PIXEL, roles=("nuclei", "marker", "autofluorescence"))
    assert [region.name for region in found.regions] == ["other"]
    assert "no channel of role tumour" in found.remarks[0]


def test_tissue_without_any_glass_is_all_tissue():
    drawn = draw_slide(seed=70, layout=Layout(glass_fraction=0.0))
    tissue, _, _ = found_on(drawn)
    assert tissue.area == 512 * 512


def test_NP39_blank_glass_has_no_tissue_and_no_regions():
    random = np.random.default_rng(0)
    light = np.linspace(0.8, 1.2, 256)
    glass = np.rint((150 + 10 * random.standard_normal((3, 256, 256))) * light).astype(np.uint16)
    roles = ("nuclei", "tumour", "marker")
    assert find_tissue(glass, pixel_size_um=PIXEL, roles=roles).is_empty
    found = automatic_regions(glass, pixel_size_um=PIXEL, roles=roles)
    assert (found.regions, found.remarks) == ([], ["no tissue found: no nuclei stand out from the background"])


def test_what_was_not_scanned_is_no_tissue():
    pixels = overview(draw_slide(seed=70, layout=Layout(glass_fraction=0.0)))
    pixels[:, :, :100] = 0
    tissue = find_tissue(pixels, pixel_size_um=PIXEL, roles=ROLES)
    assert tissue.bounds == (200, 0, 512, 512)
    assert tissue.area == 312 * 512


def test_dark_pixels_within_tissue_are_tissue():
    pixels = overview(draw_slide(seed=70, layout=Layout(glass_fraction=0.0)))
    pixels[:, 100:103, 50] = 0
    pixels[:, 200, 200] = 0
    pixels[:, :, 0] = 0  # a line along the edge, as some cameras leave it
    assert find_tissue(pixels, pixel_size_um=PIXEL, roles=ROLES).area == 512 * 512


def test_speckle_and_single_positive_cells_make_no_tumour_and_no_gaps():
    drawn = draw_slide(seed=0)
    pixels = overview(drawn)
    random = np.random.default_rng(1)
    y, x = np.mgrid[:256, :256]
    tumour = np.reshape(
        shapely.contains_xy(planted(drawn, "tumour"), (x.ravel() + 0.5) * 2, (y.ravel() + 0.5) * 2), (256, 256)
    )
    spots = np.zeros((256, 256))
    spots[random.integers(0, 256, 60), random.integers(0, 256, 60)] = 1
    single_cells = ndimage.gaussian_filter(spots, 1.5) * 14 * 2500 * ~tumour
    dropout = 1 - 0.8 * ndimage.binary_dilation(random.random((256, 256)) < 0.002) * tumour
    pixels[1] = pixels[1] * dropout + single_cells + 3000 * (random.random((256, 256)) < 0.002)
    found = automatic_regions(pixels, pixel_size_um=PIXEL, roles=ROLES)
    outline = next(region.polygon_um for region in found.regions if region.name == "tumour")
    assert overlap(outline, planted(drawn, "tumour")) > 0.85


def test_patchy_staining_is_followed():
    drawn = draw_slide(seed=3)
    pixels = overview(drawn).astype(np.float64)
    dark = np.percentile(pixels[1], 0.5)
    patches = np.linspace(0.35, 1.0, 256)  # the marker fades to a third across the slide
    pixels[1] = dark + (pixels[1] - dark) * patches
    found = automatic_regions(pixels, pixel_size_um=PIXEL, roles=ROLES)
    outline = next(region.polygon_um for region in found.regions if region.name == "tumour")
    assert overlap(outline, planted(drawn, "tumour")) > 0.85


def test_the_same_pixels_give_the_same_outlines():
    pixels = overview(draw_slide(seed=5))
    first, second = (automatic_regions(pixels, pixel_size_um=PIXEL, roles=ROLES).regions for _ in range(2))
    assert [shapely.to_wkb(region.polygon_um) for region in first] == [shapely.to_wkb(r.polygon_um) for r in second]


def test_one_heap_of_values_has_no_two_levels():
    random = np.random.default_rng(2)
    assert two_levels(random.normal(8, 1, 50_000)) is None
    assert two_levels(random.uniform(6, 12, 50_000)) is None
    assert two_levels(np.full(10, 3.0)) is None
    two = two_levels(np.concatenate([random.normal(8, 0.3, 50_000), random.normal(11, 0.3, 9_000)]))
    assert 8.8 < two.cut < 10.2


def test_specks_and_gaps_go_by_their_area_in_square_microns():
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[5, 5] = False
    mask[15, 15] = True
    assert without_specks(mask, 4.0, 2.0).sum() == 100  # one pixel of 2 µm has exactly 4 µm²
    assert without_specks(mask, 4.1, 2.0).sum() == 99
    assert without_gaps(mask, 4.1, 2.0).sum() == 101
    assert without_gaps(mask, 4.1, 2.0, within=mask).sum() == 100
