"""What must hold for any region, however it is turned, drawn, cut or encoded: NP11, NP13, NP15, NP31, NP32."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity

from mihc import open_slide
from mihc.regions import Region, assign_regions, count_populations, mask_to_polygons, partition, rasterise, read_regions

QUARTER_TURNS = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]
DIHEDRAL = [*QUARTER_TURNS, *((-a, b, -c, d) for a, b, c, d in QUARTER_TURNS)]  # and each of them mirrored


def star(random, middle=(500.0, 500.0), reach=(60.0, 300.0), corners=40, hole=True):
    """A random polygon around a point, with a hole."""
    angles = 2 * math.pi * (np.arange(corners) + random.uniform(0, 0.8, corners)) / corners
    radius = random.uniform(*reach, corners)
    outline = np.column_stack([middle[0] + radius * np.cos(angles), middle[1] + radius * np.sin(angles)])
    inner = shapely.Point(middle).buffer(reach[0] / 4, 8)
    return shapely.Polygon(outline, [inner.exterior] if hole else [])


def write_rings(path, rings):
    geometry = {"type": "Polygon", "coordinates": [np.asarray(ring).tolist() for ring in rings]}
    properties = {"objectType": "annotation", "classification": {"name": "Tumor"}}
    path.write_text(json.dumps({"type": "Feature", "geometry": geometry, "properties": properties}))
    return path


def rings_of(polygon):
    return [np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]


def held(polygon, x, y):
    return (assign_regions(x, y, [Region("r", "tumour", polygon)])["region"] == "r").to_numpy()


@given(seed=st.integers(0, 10_000), turn=st.sampled_from(DIHEDRAL))
@settings(deadline=None, max_examples=40)
def test_NP11_mirrors_turns_and_shifts_keep_the_area(seed, turn):
    random = np.random.default_rng(seed)
    drawn = star(random)
    moved = affinity.affine_transform(drawn, [*turn, *random.integers(-400, 400, 2)])
    scanned = shapely.box(-2000, -2000, 2000, 2000)
    areas = [partition([Region("r", "tumour", one)], scanned=scanned)[0].area_mm2 for one in (drawn, moved)]
    assert math.isclose(*areas, rel_tol=1e-12)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_NP13_points_added_along_edges_change_neither_area_nor_counts(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    drawn = star(random)
    longer = []
    for ring in rings_of(drawn):
        points = [ring[0]]
        for start, end in pairwise(ring):
            shares = np.sort(random.random(random.integers(0, 4)))
            points += [start + share * (end - start) for share in shares] + [end]
        longer.append(points)
    folder = tmp_path_factory.mktemp("np13")
    regions = [
        read_regions(write_rings(folder / f"{name}.geojson", rings), pixel_size_um=1.0)[0]
        for name, rings in (("plain", rings_of(drawn)), ("longer", longer))
    ]
    assert math.isclose(*(region.area_mm2 for region in regions), rel_tol=1e-12)
    one, other = (region.polygon_um for region in regions)
    assert shapely.get_num_coordinates(other) > shapely.get_num_coordinates(one)
    assert math.isclose(one.area, other.area, rel_tol=1e-12)
    x, y = random.random((2, 3000)) * 1000
    differs = held(one, x, y) != held(other, x, y)
    assert (shapely.distance(shapely.boundary(drawn), shapely.points(x[differs], y[differs])) < 1e-6).all()


def test_NP15_a_raster_of_a_polygon_has_its_area_without_bias():
    shares = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        drawn = star(random, middle=random.uniform(90, 110, 2), reach=(25.0, 85.0), corners=int(random.integers(8, 60)))
        mask = rasterise([Region("r", "tumour", drawn)], (200, 200), 1.0) > 0
        assert np.array_equal(mask, shapely.contains_xy(drawn, *(np.mgrid[:200, :200][::-1] + 0.5)))  # by its centre
        back = mask_to_polygons(mask)
        assert back.area == mask.sum()
        assert abs(back.area - drawn.area) <= 0.75 * drawn.length
        shares.append(back.area / drawn.area - 1)
    assert abs(np.mean(shares)) <= 1e-3


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_NP32_the_density_of_a_region_is_the_mean_of_its_parts_weighted_by_area(seed):
    random = np.random.default_rng(seed)
    whole = star(random)
    zigzag = np.column_stack([np.linspace(0, 1000, 9), random.uniform(400, 600, 9)])
    below = shapely.Polygon([*zigzag, (1000, 0), (0, 0)])
    x, y = random.random((2, 2000)) * 1000
    positive = pd.array(random.random(2000) < 0.3, dtype="boolean")
    rows = []
    for part in (whole, whole.intersection(below), whole.difference(below)):
        region = Region("r", "tumour", part)
        cells = assign_regions(x, y, [region]).assign(CD8_positive=positive)
        area = {("r", "tumour"): region.area_mm2}
        rows.append(count_populations(cells, populations={"CD8": "CD8_positive"}, area_mm2=area).iloc[0])
    one, first, second = rows
    for count in ("cells", "positive_cells"):
        assert one[count] == first[count] + second[count]
    assert one["cells"] == shapely.contains_xy(whole, x, y).sum() > 0
    assert math.isclose(one["area_mm2"], first["area_mm2"] + second["area_mm2"], rel_tol=1e-9)
    weighted = sum(part["density_per_mm2"] * part["area_mm2"] for part in (first, second)) / one["area_mm2"]
    assert math.isclose(one["density_per_mm2"], weighted, rel_tol=1e-9)


UNITS = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0}  # OME's names, in µm


@pytest.mark.parametrize("unit", UNITS)
def test_NP31_the_unit_of_the_pixel_size_changes_no_density(tmp_path, unit):
    size = 0.325
    image = np.random.default_rng(0).integers(0, 4000, (1, 64, 48), dtype=np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI"]}}
    for axis in "XY":
        metadata |= {f"PhysicalSize{axis}": size / UNITS[unit], f"PhysicalSize{axis}Unit": unit}
    path = tmp_path / "S1.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata=metadata)
    drawn = write_rings(tmp_path / "S1.geojson", [[(4, 4), (40, 6), (30, 50), (4, 4)]])
    with open_slide(path) as slide:
        regions = read_regions(drawn, pixel_size_um=slide.pixel_size_um)
        cells = assign_regions(*(np.array([20.0, 10.0]) * slide.pixel_size_um[0] for _ in range(2)), [
            Region("Tumor", "tumour", regions[0].polygon_um)
        ]).assign(CD8_positive=pd.array([True, True], dtype="boolean"))  # fmt: skip
    area = {("Tumor", "tumour"): regions[0].area_mm2}
    (row,) = count_populations(cells, populations={"CD8": "CD8_positive"}, area_mm2=area).to_dict("records")
    by_hand = shapely.Polygon([(4, 4), (40, 6), (30, 50)]).area * size**2 / 1e6
    assert row["positive_cells"] == 2
    assert math.isclose(row["density_per_mm2"], 2 / by_hand, rel_tol=1e-9)
