"""Regions: who owns a cell, what is counted, and the account of area."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import Voronoi

from mihc.areas.outlines import mask_to_polygons
from mihc.errors import AnnotationError, LedgerError
from mihc.regions import (
    Region,
    area_ledger,
    assign_regions,
    check_ledger,
    distance_to_margin,
    ledger_warnings,
    partition,
    rasterise,
)

box = shapely.box


def region(tissue_class, polygon, name=None):
    return Region(name or tissue_class, tissue_class, polygon)


def random_partition(seed, cells=40):
    """Polygons of a Voronoi diagram that share their vertices exactly, and cover [0, 100) x [0, 100)."""
    random = np.random.default_rng(seed)
    inner = random.random((cells, 2)) * 100
    frame = [(x, y) for x in (-300, 50, 400) for y in (-300, 50, 400) if (x, y) != (50, 50)]
    diagram = Voronoi(np.vstack([inner, frame]))
    bounded = [diagram.regions[index] for index in diagram.point_region]
    return [shapely.Polygon(diagram.vertices[corners]) for corners in bounded if corners and -1 not in corners]


# whose is a cell


def test_a_cell_belongs_to_the_region_that_holds_its_centroid_by_a_half_open_rule():
    regions = [region("tumour", box(0, 0, 10, 10)), region("stroma", box(10, 0, 20, 10))]
    x = [0, 9.999, 10, 20, 5, 5, np.nan]
    y = [0, 9.999, 5, 5, 10, -1e-9, 5]
    called = assign_regions(x, y, regions)
    assert called["tissue_class"].tolist() == ["tumour", "tumour", "stroma"] + ["outside"] * 4
    assert called["region"].tolist() == ["tumour", "tumour", "stroma"] + ["outside"] * 4


def test_no_regions_and_no_cells_are_fine():
    assert assign_regions([1.0], [1.0], [])["tissue_class"].tolist() == ["outside"]
    assert assign_regions([], [], [region("tumour", box(0, 0, 1, 1))]).empty


def test_within_a_class_the_first_region_in_the_file_has_the_cell():
    regions = [region("tumour", box(0, 0, 10, 10), "a"), region("tumour", box(5, 0, 15, 10), "b")]
    assert assign_regions([7, 12], [5, 5], regions)["region"].tolist() == ["a", "b"]


def test_a_class_without_precedence_is_refused():
    with pytest.raises(AnnotationError, match="'Tumor'"):
        assign_regions([1], [1], [region("Tumor", box(0, 0, 1, 1))])


@pytest.mark.parametrize("seed", range(4))
def test_NP36_points_on_the_shared_edges_of_a_partition_are_each_in_exactly_one(seed):
    polygons = random_partition(seed)
    random = np.random.default_rng(seed)
    corners = np.vstack([shapely.get_coordinates(polygon) for polygon in polygons])
    start, end = corners[:-1], corners[1:]
    share = random.integers(0, 5, (40_000, 1)) / 4  # ends, quarters and middles of edges
    pick = random.integers(0, len(start), 40_000)
    points = start[pick] + share * (end[pick] - start[pick])
    grid = np.stack(np.meshgrid(corners[:60, 0], corners[:60, 1]), axis=-1).reshape(-1, 2)
    points = np.vstack([points, grid])
    points = points[((points > 5) & (points < 95)).all(axis=1)]
    assert len(points) > 25_000  # four seeds: more than 10^5
    held = sum(
        (assign_regions(points[:, 0], points[:, 1], [region("other", polygon)])["tissue_class"] == "other").to_numpy()
        for polygon in polygons
    )
    # a point between the ends of an edge is rounded off it, and lies in one or the other; on a corner it is exact
    assert held.min() == held.max() == 1
    parts = [region("other", polygon, str(k)) for k, polygon in enumerate(polygons)]
    alone = np.full(len(points), "outside", dtype=object)
    for part in parts:
        alone[(assign_regions(points[:, 0], points[:, 1], [part])["region"] == part.name).to_numpy()] = part.name
    assert assign_regions(points[:, 0], points[:, 1], parts)["region"].tolist() == alone.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_NP36_points_on_the_edges_and_corners_of_a_grid_of_boxes_are_each_in_the_one_to_their_right_and_below(seed):
    random = np.random.default_rng(seed)
    xs, ys = (np.sort(random.choice(400, 9, replace=False)) / 4.0 for _ in "xy")
    parts = [region("other", box(xs[i], ys[j], xs[i + 1], ys[j + 1]), f"{i} {j}") for i in range(8) for j in range(8)]
    x, y = np.append(xs, random.choice(xs, 500)), np.append(ys, random.uniform(ys[0], ys[-1], 500))
    x, y = np.concatenate([x, random.uniform(xs[0], xs[-1], 500)]), np.concatenate([y, random.choice(ys, 500)])
    x, y = np.concatenate([x, random.choice(xs, 500)]), np.concatenate([y, random.choice(ys, 500)])
    i, j = np.searchsorted(xs, x, side="right") - 1, np.searchsorted(ys, y, side="right") - 1
    within = (i < 8) & (j < 8)
    expected = np.where(within, [f"{a} {b}" for a, b in zip(i, j)], "outside")
    assert assign_regions(x, y, parts)["region"].tolist() == expected.tolist()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_the_rule_agrees_with_shapely_away_from_edges(seed):
    random = np.random.default_rng(seed)
    angles = np.sort(random.random(60)) * 2 * math.pi
    radius = random.uniform(10, 45, 60)
    star = shapely.Polygon(np.column_stack([50 + radius * np.cos(angles), 50 + radius * np.sin(angles)]))
    hole = shapely.Point(50, 50).buffer(5)
    shape = shapely.make_valid(star).difference(hole)
    x, y = random.random((2, 500)) * 100
    inside = assign_regions(x, y, [region("tumour", shape)])["tissue_class"] == "tumour"
    assert inside.tolist() == shapely.contains_xy(shape, x, y).tolist()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_NP32_a_region_cut_by_a_line_keeps_its_cells_and_area(seed):
    random = np.random.default_rng(seed)
    whole = box(10, 10, 90, 90)
    zigzag = np.column_stack([np.linspace(0, 100, 9), random.uniform(20, 80, 9)])
    below = shapely.Polygon([*zigzag, (100, 0), (0, 0)])
    parts = [whole.intersection(below), whole.difference(below)]
    x, y = random.random((2, 2000)) * 100
    held = [(assign_regions(x, y, [region("other", part)])["region"] == "other").sum() for part in (whole, *parts)]
    assert held[0] == held[1] + held[2] == shapely.contains_xy(whole, x, y).sum()
    assert math.isclose(whole.area, parts[0].area + parts[1].area, rel_tol=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_NP33_a_hole_takes_exactly_its_own_cells(seed):
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 41, (2, 3000)) / 2.0  # many on the edges
    outer, hole = box(2, 2, 18, 18), shapely.Polygon([(5, 5), (14, 6), (12, 13), (6, 15)])
    with_hole = shapely.Polygon(outer.exterior, [hole.exterior])
    count = [
        (assign_regions(x, y, [region("tumour", shape)])["region"] == "tumour").sum()
        for shape in (outer, with_hole, hole)
    ]
    assert count[0] == count[1] + count[2]
    assert count[0] == ((x >= 2) & (x < 18) & (y >= 2) & (y < 18)).sum()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_NP34_every_cell_is_in_exactly_one_class(seed):
    random = np.random.default_rng(seed)
    regions = [
        region(name, shapely.Point(*random.uniform(20, 80, 2)).buffer(random.uniform(5, 40)), f"{name} {k}")
        for k in range(3)
        for name in ("tumour", "stroma", "other", "excluded")
    ]
    x, y = random.random((2, 3000)) * 100
    called = assign_regions(x, y, regions)
    classes = called["tissue_class"].value_counts()
    assert classes.sum() == 3000
    order = ("excluded", "tumour", "stroma", "other")
    unions = [shapely.union_all([one.polygon_um for one in regions if one.tissue_class == name]) for name in order]
    expected = np.select([shapely.contains_xy(union, x, y) for union in unions], order, "outside")
    assert called["tissue_class"].tolist() == expected.tolist()
    parts = partition(regions, scanned=box(0, 0, 100, 100))
    for part in parts:
        mine = (called["region"] == part.name) & (called["tissue_class"] == part.tissue_class)
        assert shapely.contains_xy(part.polygon_um, x, y).sum() == mine.sum()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_NP35_overlaps_of_one_class_count_once(seed):
    random = np.random.default_rng(seed)
    a, b = (shapely.Point(*random.uniform(30, 70, 2)).buffer(random.uniform(10, 30)) for _ in range(2))
    x, y = random.random((2, 2000)) * 100

    def count(*shapes):
        return int(
            (
                assign_regions(x, y, [region("tumour", s, str(k)) for k, s in enumerate(shapes)])["region"] != "outside"
            ).sum()
        )

    both = a.intersection(b)
    assert count(a.union(b)) == count(a, b) == count(a) + count(b) - (0 if both.is_empty else count(both))
    assert count(a, a) == count(a)


# pictures of regions, and regions of pictures


@given(seed=st.integers(0, 100_000))
@settings(deadline=None, max_examples=200)
def test_a_mask_and_its_polygons_have_equal_areas_and_back(seed):
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 14, 2)) < random.random()
    outline = mask_to_polygons(mask)
    assert outline.area == mask.sum()
    assert outline.is_valid
    if mask.any():
        assert len(outline.geoms) == ndimage.label(mask)[1]
        assert np.array_equal(rasterise([region("tumour", outline)], mask.shape, 1.0) > 0, mask)


def test_pixels_that_touch_at_a_corner_are_two_polygons_and_two_holes():
    # 1 0    two polygons;   1 1 1 1
    # 0 1                    1 0 1 1   one polygon with two holes
    #                        1 1 0 1
    #                        1 1 1 1
    assert len(mask_to_polygons(np.eye(2)).geoms) == 2
    mask = np.ones((4, 4))
    mask[1, 1] = mask[2, 2] = 0
    (outline,) = mask_to_polygons(mask).geoms
    assert (len(outline.interiors), outline.area) == (2, 14)


def test_a_mask_has_its_area_in_square_microns_by_y_and_x():
    outline = mask_to_polygons(np.ones((3, 5)), pixel_size_um=(2.0, 0.5))
    assert outline.bounds == (0, 0, 2.5, 6)
    assert outline.area == 15


def test_rasterising_in_windows_is_the_whole_picture():
    random = np.random.default_rng(5)
    regions = [
        region(
            ("tumour", "stroma")[k % 2], shapely.Point(*random.uniform(0, 60, 2)).buffer(random.uniform(3, 20)), str(k)
        )
        for k in range(8)
    ]
    whole = rasterise(regions, (120, 130), 0.5)
    pieces = [[rasterise(regions, (40, 65), 0.5, origin=(y, x)) for x in (0, 65)] for y in (0, 40, 80)]
    assert np.array_equal(np.block(pieces), whole)
    y, x = np.mgrid[:120, :130]
    called = assign_regions((x.ravel() + 0.5) * 0.5, (y.ravel() + 0.5) * 0.5, regions)["region"]
    names = np.array(["outside", *(r.name for r in regions)], dtype=object)
    assert names[whole.ravel()].tolist() == called.tolist()


# the partition and the ledger


def test_a_partition_gives_each_area_to_the_class_first_in_precedence():
    regions = [
        region("stroma", box(0, 0, 100, 100)),
        region("tumour", box(20, 20, 60, 60)),
        region("excluded", box(50, 50, 70, 70), "fold"),
    ]
    parts = {part.name: part.polygon_um.area for part in partition(regions, scanned=box(0, 0, 90, 100))}
    assert parts == {"fold": 400, "tumour": 1600 - 100, "stroma": 9000 - 1600 - 400 + 100}


def test_a_region_covered_by_others_stays_with_no_area():
    parts = partition([region("stroma", box(1, 1, 2, 2)), region("tumour", box(0, 0, 3, 3))], scanned=box(0, 0, 9, 9))
    assert [(part.name, part.area_mm2) for part in parts] == [("tumour", 9e-6), ("stroma", 0)]


def ledger_of(regions, x, y, *, scanned, tissue):
    cells = assign_regions(x, y, regions).assign(x_um=x, y_um=y)
    return area_ledger("S01", partition(regions, scanned=scanned), scanned=scanned, tissue=tissue, cells=cells)


def test_the_ledger_by_hand():
    # 1 mm x 1 mm scanned; tissue is the left half; tumour 0.4 x 0.5 of which half on glass; a fold inside the tumour
    regions = [region("tumour", box(300, 0, 700, 500)), region("excluded", box(300, 0, 400, 100), "fold")]
    x, y = np.array([350, 350, 600, 100, 900]), np.array([50, 300, 300, 900, 900])
    ledger = ledger_of(regions, x, y, scanned=box(0, 0, 1000, 1000), tissue=box(0, 0, 500, 1000))
    found = {(row.category, row.region): (round(row.area_mm2, 12), row.cells) for row in ledger.itertuples()}
    assert found == {
        ("scanned", ""): (1.0, 5),
        ("glass", ""): (0.4, 1),
        ("holes", ""): (0.0, 0),
        ("tissue", ""): (0.6, 4),
        ("tumour", "tumour"): (0.19, 2),
        ("excluded", "fold"): (0.01, 1),
        ("unannotated", ""): (0.4, 1),
        ("analysed", ""): (0.19, 2),
    }
    assert ledger.set_index("region").loc["tumour", "glass_percent"] == pytest.approx(100 * 0.1 / 0.19)
    (warning,) = ledger_warnings(ledger)
    assert warning == 'S01: region "tumour" (tumour): 53 % of its area shows no tissue'


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_the_ledger_always_sums(seed):
    random = np.random.default_rng(seed)
    regions = [
        region(name, shapely.Point(*random.uniform(0, 1000, 2)).buffer(random.uniform(50, 400)), f"{name} {k}")
        for k in range(3)
        for name in ("tumour", "stroma", "other", "excluded")
    ]
    tissue = shapely.union_all([shapely.Point(*random.uniform(0, 1000, 2)).buffer(200) for _ in range(5)])
    x, y = random.random((2, 300)) * 1000
    table = ledger_of(regions, x, y, scanned=box(0, 0, 1000, 1000), tissue=tissue).set_index("category")
    for column in ("area_mm2", "cells"):
        total = table[column].groupby(level=0).sum().reindex(["tumour", "stroma", "other"]).sum()
        assert table.loc["scanned", column] == pytest.approx(table.loc["glass", column] + table.loc["tissue", column])
        assert table.loc["analysed", column] == pytest.approx(total)


def test_a_ledger_that_does_not_sum_stops_the_run():
    overlapping = [region("tumour", box(0, 0, 10, 10)), region("stroma", box(5, 0, 15, 10))]
    cells = pd.DataFrame({"x_um": [], "y_um": [], "region": [], "tissue_class": []})
    with pytest.raises(LedgerError, match="does not sum"):
        area_ledger("S01", overlapping, scanned=box(0, 0, 20, 20), tissue=box(0, 0, 20, 20), cells=cells)


def test_holes_in_tissue_are_a_line_of_the_glass_with_their_cells():
    # a ring of tissue around a lumen of 200 x 200 µm, on a slide of 1 mm²; an annotation covers a quarter of the lumen
    ring = box(100, 100, 900, 900).difference(box(400, 400, 600, 600))
    x, y = np.array([450, 550, 50, 200]), np.array([450, 550, 50, 200])
    regions = [region("tumour", box(400, 400, 500, 500))]
    ledger = ledger_of(regions, x, y, scanned=box(0, 0, 1000, 1000), tissue=ring).set_index("category")
    assert ledger.loc["holes", ["area_mm2", "cells"]].tolist() == [pytest.approx(0.03), 1]
    assert ledger.loc["glass", ["area_mm2", "cells"]].tolist() == [pytest.approx(0.39), 2]
    assert ledger.loc["tissue", ["area_mm2", "cells"]].tolist() == [pytest.approx(0.61), 2]


@pytest.mark.parametrize(
    ("category", "column", "change", "equation"),
    [
        ("glass", "area_mm2", 1e-6, "scanned = glass"),
        ("tissue", "cells", 1, "scanned = glass"),
        ("unannotated", "area_mm2", -1e-6, "tissue = regions"),
        ("analysed", "cells", 1, "analysed = tumour"),
        ("analysed", "area_mm2", math.nan, "analysed = tumour"),
    ],
)
def test_a_ledger_read_back_with_a_defect_stops_the_run(category, column, change, equation):
    regions, cells = [region("tumour", box(0, 0, 10, 10))], (np.array([5.0, 15.0]), np.array([5.0, 5.0]))
    ledger = ledger_of(regions, *cells, scanned=box(0, 0, 20, 20), tissue=box(0, 0, 20, 12))
    rows = pd.DataFrame({"slide": "S01", "region": "tumour", "tissue_class": "tumour", "population": ["CD8"],
                         "cells": [1], "area_mm2": [1e-4]})  # fmt: skip
    check_ledger(ledger, rows)
    with pytest.raises(LedgerError, match=r"analysed = regions\.csv of CD8"):
        check_ledger(ledger, rows.assign(cells=2))
    with pytest.raises(LedgerError, match=r"analysed = regions\.csv of CD8"):
        check_ledger(ledger, rows.assign(area_mm2=1.1e-4))
    ledger[column] = ledger[column].astype(float)
    ledger.loc[ledger["category"] == category, column] += change
    with pytest.raises(LedgerError, match=equation):
        check_ledger(ledger, rows)


# margins


def test_distance_to_the_margin_is_negative_inside_the_tumour():
    regions = [region("tumour", box(0, 0, 100, 100)), region("stroma", box(100, 0, 200, 100))]
    distance = distance_to_margin([50, 90, 130, 103], [50, 50, 50, 104], regions)
    assert distance.tolist() == [-50, -10, 30, 5]


def test_two_tumours_that_touch_have_no_margin_between_them():
    regions = [region("tumour", box(0, 0, 100, 100), "a"), region("tumour", box(100, 0, 200, 100), "b")]
    assert distance_to_margin([100], [50], regions).tolist() == [-50]


def test_the_edge_of_the_scan_is_no_margin():
    regions = [region("tumour", box(0, 0, 100, 200))]
    assert distance_to_margin([10], [100], regions, scanned=box(0, 0, 200, 200)).tolist() == [-90]
    assert np.isnan(distance_to_margin([10], [10], regions, scanned=box(0, 0, 100, 200))).all()


def test_without_tumour_the_distance_is_nan():
    assert np.isnan(distance_to_margin([1, 2], [1, 2], [region("stroma", box(0, 0, 9, 9))])).all()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_distances_agree_with_shapely(seed):
    random = np.random.default_rng(seed)
    nests = shapely.union_all(
        [shapely.Point(*p).buffer(r) for p, r in zip(random.uniform(0, 500, (6, 2)), random.uniform(5, 120, 6))]
    )
    x, y = random.uniform(-200, 700, (2, 60))
    distance = distance_to_margin(x, y, [region("tumour", nests)])
    exact = shapely.distance(nests.boundary, shapely.points(x, y))
    assert np.abs(np.abs(distance) - exact).max() < 1e-9
    assert ((distance < 0) == shapely.contains_xy(nests, x, y)).all()
