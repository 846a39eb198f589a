"""What other tools count wrongly of regions: holes that are no holes, shifted frames, overlaps counted twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from region_files import feature, stars, write_geojson, write_halo
from shapely.geometry import Polygon
from slide_fixtures import Tile, czi_xml, write_czi

import mihc
from mihc.errors import AnnotationError
from mihc.regions import (
    Region,
    area_ledger,
    assign_regions,
    check_regions,
    count_populations,
    map_classes,
    partition,
    rasterise,
    read_regions,
)

CLASSES = ("tumour", "stroma", "other", "excluded")
BOXES = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30))


def ring(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


# N3: HALO's negatives


@given(shells=st.lists(BOXES, min_size=1, max_size=4, unique=True), hole=BOXES)
@settings(deadline=None, max_examples=60)
def test_N3_a_negative_is_taken_from_the_union_of_its_layer_or_refused(tmp_path_factory, shells, hole):
    path = tmp_path_factory.mktemp("n3") / "S01.annotations"
    write_halo(path, "Tumor", [ring(*box) for box in shells], [ring(*hole)])
    boxes, negative = [Polygon(ring(*box)) for box in shells], Polygon(ring(*hole))
    islands = [box for box in boxes if negative.covers(box)]  # drawn in the hole: they stay
    around = shapely.union_all([box for box in boxes if not negative.covers(box)])
    if around.intersection(negative).area == 0:
        with pytest.raises(AnnotationError, match="unmatched negative"):
            read_regions(path, pixel_size_um=1)
        return
    expected = shapely.union_all([around.difference(negative), *islands])
    regions = map_classes(read_regions(path, pixel_size_um=1), {})
    assert shapely.union_all([region.polygon_um for region in regions]).area == pytest.approx(expected.area, rel=1e-12)
    y, x = np.mgrid[:80, :80].reshape(2, -1) + 0.5
    inside = shapely.contains_xy(expected, x, y)
    np.testing.assert_array_equal(assign_regions(x, y, regions)["tissue_class"] == "tumour", inside)


# N4: the frame


@pytest.mark.parametrize("origin", [(0, 0), (-100, -50), (7000, 31)])
@pytest.mark.parametrize("scene", ["first", "all"])
def test_N4_an_annotation_lies_on_its_very_pixels_wherever_the_scene_lies_in_the_file(tmp_path, origin, scene):
    """A bright rectangle, outlined in pixels of the canvas as QuPath shows it: the offset is exactly 0 pixels."""
    picture = np.zeros((48, 64), np.uint16)
    picture[10:30, 20:45] = 900
    tiles = [Tile(picture.copy(), *origin, scene=0, m=0)]
    tiles += [Tile(np.zeros((16, 16), np.uint16), origin[0] + 80, origin[1] + 60, scene=1, m=0)]
    slide_file = write_czi(tmp_path / "s.czi", tiles, czi_xml(["DAPI"], scenes=["first", "second"]))
    outline = write_geojson(tmp_path / "S01.geojson", [feature([ring(20, 10, 25, 20)])])
    with mihc.open_slide(slide_file, scene=scene) as slide:
        regions = map_classes(read_regions(outline, pixel_size_um=slide.pixel_size_um), {})
        shape = slide.image.shape[1:]
        size_y, size_x = slide.pixel_size_um
        kept, notes = check_regions(regions, extent_um=(shape[0] * size_y, shape[1] * size_x), place="S01.geojson")
        assert notes == []
        np.testing.assert_array_equal(rasterise(kept, shape, slide.pixel_size_um) > 0, slide.image[0] > 0)
        y, x = np.indices(shape).reshape(2, -1) + 0.5
        held = assign_regions(x * size_x, y * size_y, kept)["tissue_class"] == "tumour"
        np.testing.assert_array_equal(held.to_numpy().reshape(shape), slide.image[0] > 0)


@pytest.mark.parametrize(("beyond", "refused"), [(0, False), (0.9, False), (1.1, True), (40, True)])
def test_N4_more_than_one_percent_beyond_the_canvas_is_a_frame_of_another_picture(beyond, refused):
    """100 columns of a region, of which some lie left of the picture: the outline of a crop, or of another scene."""
    moved = Region("t", "tumour", Polygon(ring(-beyond, 0, 100, 50)))
    if refused:
        with pytest.raises(AnnotationError, match=r"frame|beyond|outside"):
            check_regions([moved], extent_um=(50.0, 200.0), place="S01.geojson")
        return
    kept, notes = check_regions([moved], extent_um=(50.0, 200.0), place="S01.geojson")
    assert kept[0].polygon_um.area == pytest.approx((100 - beyond) * 50)
    assert bool(notes) == (beyond > 0)


# N5: overlaps


@st.composite
def overlapping(draw) -> list[Region]:
    count = draw(st.integers(1, 6))
    return [
        Region(f"{draw(st.sampled_from('ab'))}", draw(st.sampled_from(CLASSES)), Polygon(draw(stars(50, 50, 45))))
        for _ in range(count)
    ]


@given(drawn=overlapping(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_N5_area_and_cells_under_overlaps_are_counted_once(drawn, seed):
    scanned = shapely.box(0, 0, 100, 100)
    parts = partition(drawn, scanned=scanned)
    union = shapely.union_all([region.polygon_um for region in drawn]).intersection(scanned)
    assert sum(part.polygon_um.area for part in parts) == pytest.approx(union.area, rel=1e-9)
    for one in range(len(parts)):
        for other in parts[:one]:
            assert parts[one].polygon_um.intersection(other.polygon_um).area < 1e-6
    x, y = np.random.default_rng(seed).random((2, 500)) * 100
    cells = assign_regions(x, y, parts)
    assert len(cells) == 500
    in_union = shapely.contains_xy(union, x, y)
    assert ((cells["tissue_class"] != "outside") == in_union).all()
    cells = cells.assign(x_um=x, y_um=y, p_positive=True)
    cells["p_positive"] = cells["p_positive"].astype("boolean")
    areas = {(part.name, part.tissue_class): part.polygon_um.area / 1e6 for part in parts}
    rows = count_populations(cells, populations={"p": "p_positive"}, area_mm2=areas)
    analysed = cells["tissue_class"].isin(["tumour", "stroma", "other"]).sum()
    assert rows["cells"].sum() == rows["positive_cells"].sum() == analysed
    ledger = area_ledger("S01", parts, scanned=scanned, tissue=scanned, cells=cells)
    regions = ledger[ledger["category"].isin(CLASSES)]
    assert regions["cells"].sum() == in_union.sum()
    assert regions["area_mm2"].sum() == pytest.approx(union.area / 1e6, rel=1e-9)


def test_N5_two_boxes_of_one_millimetre_that_overlap_by_a_fifth_are_one_region_without_the_fifth_twice(tmp_path: Path):
    """As measured of other tools: the sum of the two areas is 11.1 % too large."""
    first, second = ring(0, 0, 1000, 1000), ring(800, 0, 1000, 1000)
    path = write_geojson(tmp_path / "S01.geojson", [feature([first]), feature([second])])
    regions = map_classes(read_regions(path, pixel_size_um=1.0), {})
    (part,) = partition(regions, scanned=shapely.box(0, 0, 2000, 1000))
    assert part.area_mm2 == pytest.approx(1.8, rel=1e-12)
    assert 2.0 / part.area_mm2 == pytest.approx(1.111, abs=1e-3)
