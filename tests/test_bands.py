"""Bands around the tumour's margin: every cell in one of them, areas that sum, patients and tests where asked."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.areas.bands import NO_BAND
from mihc.plots.bands import band_profiles, margin_lines, patient_bands
from mihc.plots.pictures import SlidePicture
from mihc.regions import Bands, Region, assign_regions, band_areas, count_bands, distance_to_margin, partition
from mihc.study import study_table

SCANNED = shapely.box(0, 0, 1200, 1000)
BANDS = Bands(25.0, 250.0)


def disc(x, y, radius):
    return shapely.Point(x, y).buffer(radius, quad_segs=90)


def tumour_in_stroma(tumour, *more):
    return [Region("tumour", "tumour", tumour), Region("stroma", "stroma", SCANNED), *more]


def areas_of(regions, bands=BANDS, scanned=SCANNED, **options):
    return band_areas(regions, partition(regions, scanned=scanned), scanned=scanned, bands=bands, **options)


# which band


def test_a_band_holds_its_end_nearer_to_the_margin():
    distance = [0.0, 24.999, 25.0, 249.99, 250.0, -0.0, -24.99, -25.0, -249.99, -250.0, np.nan]
    expected = [0, 0, 1, 9, NO_BAND, -1, -1, -2, -10, NO_BAND, NO_BAND]
    assert BANDS.of(np.array(distance)).tolist() == expected
    assert BANDS.limits(-2) == (-50.0, -25.0)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_every_cell_is_in_exactly_one_band_on_its_side_of_the_margin(seed):
    random = np.random.default_rng(seed)
    tumour = shapely.union_all([disc(*random.uniform(200, 800, 2), random.uniform(30, 200)) for _ in range(3)])
    regions = tumour_in_stroma(tumour)
    x, y = random.random((2, 400)) * [[1200], [1000]]
    called = assign_regions(x, y, regions)
    distance = distance_to_margin(x, y, regions, scanned=SCANNED)
    band = Bands(50.0, 5000.0).of(distance)
    assert (band != NO_BAND).all()
    assert ((band < 0) == (called["tissue_class"] == "tumour")).all()
    low, high = band * 50.0, (band + 1) * 50.0
    assert ((low <= distance) & (distance <= high)).all()


# areas


def test_the_bands_around_a_disc_have_the_areas_of_rings():
    radius = 180.0
    areas = areas_of(tumour_in_stroma(disc(600, 500, radius)))
    for k in range(-7, 10):
        low, high = BANDS.limits(k)
        ring = math.pi * abs((radius + high) ** 2 - (radius + low) ** 2) / 1e6
        name = "tumour" if k < 0 else "stroma"
        third_of_a_square = 2 / 3 * math.pi * (radius + max(low, high)) / 1e6  # along the longer outline
        assert areas[name, name, k] == pytest.approx(ring, abs=third_of_a_square)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=10)
def test_areas_in_bands_and_beyond_sum_to_every_region_and_are_those_of_buffers(seed):
    random = np.random.default_rng(seed)
    angles = np.sort(random.random(40)) * 2 * math.pi
    reach = random.uniform(120, 300, 40)
    star = shapely.make_valid(
        shapely.Polygon(np.column_stack([600 + reach * np.cos(angles), 500 + reach * np.sin(angles)]))
    )
    hole = disc(600, 500, 40)
    regions = tumour_in_stroma(star.difference(hole), Region("Necrosis", "excluded", disc(700, 560, 60)))
    parts = partition(regions, scanned=SCANNED)
    areas = areas_of(regions)
    for part in parts:
        mine = [area for (name, kind, _), area in areas.items() if (name, kind) == (part.name, part.tissue_class)]
        assert math.fsum(mine) == pytest.approx(part.area_mm2, rel=1e-9)
    margin = shapely.boundary(star.difference(hole))
    for k in (0, 3, -1):
        near, far = sorted((abs(BANDS.limits(k)[0]), abs(BANDS.limits(k)[1])))
        ring = margin.buffer(far).difference(margin.buffer(near) if near else shapely.Polygon())
        name = "tumour" if k < 0 else "stroma"
        truth = next(part for part in parts if part.name == name).polygon_um.intersection(ring).area / 1e6
        assert areas[name, name, k] == pytest.approx(truth, rel=0.03)


def test_looking_tile_by_tile_changes_no_digit():
    regions = tumour_in_stroma(shapely.union_all([disc(300, 500, 150), disc(900, 300, 80)]))
    whole = areas_of(regions)
    assert areas_of(regions, tile=64) == areas_of(regions, tile=101) == whole


def test_a_tumour_cut_by_the_edge_of_the_scan_has_no_margin_there():
    regions = tumour_in_stroma(shapely.box(-50, -50, 400, 1050))  # the left part of the slide
    areas = areas_of(regions)
    assert {(name, k) for name, _, k in areas} == {
        *(("tumour", k) for k in range(-10, 0)), *(("stroma", k) for k in range(10)),
        ("tumour", NO_BAND), ("stroma", NO_BAND),
    }  # fmt: skip
    assert all(area == pytest.approx(25 * 1000 / 1e6, rel=0.05) for (_, _, k), area in areas.items() if k != NO_BAND)
    distance = distance_to_margin([1.0, 399.0, 401.0], [1.0, 2.0, 3.0], regions, scanned=SCANNED)
    assert distance.tolist() == [-399.0, -1.0, 1.0]


def test_a_gap_in_the_scan_is_no_margin_either():
    scanned = shapely.box(0, 0, 1200, 1000).difference(shapely.box(500, 0, 520, 1000))  # a strip was not scanned
    regions = [Region("tumour", "tumour", shapely.box(0, 0, 700, 1000)), Region("stroma", "stroma", SCANNED)]
    areas = areas_of(regions, scanned=scanned)
    assert areas["tumour", "tumour", -8] == pytest.approx(5 * 1000 / 1e6, rel=0.1)  # 520 to 525 µm
    assert areas["tumour", "tumour", -9] == pytest.approx(25 * 1000 / 1e6, rel=0.05)  # 475 to 500 µm
    (distance,) = distance_to_margin([499.0], [500.0], regions, scanned=scanned)
    assert distance == -201.0


def test_without_a_margin_there_are_no_bands():
    assert areas_of([Region("other", "other", SCANNED)]) == {}
    assert areas_of([Region("tumour", "tumour", SCANNED)]) == {}


def test_a_region_smaller_than_a_square_lies_where_its_middle_does():
    speck = shapely.box(690.1, 500.1, 690.4, 500.4)
    regions = tumour_in_stroma(disc(600, 500, 50), Region("speck", "other", speck))
    order = ("excluded", "tumour", "other", "stroma")
    parts = partition(regions, scanned=SCANNED, precedence=order)
    areas = band_areas(regions, parts, scanned=SCANNED, bands=BANDS)
    assert areas["speck", "other", 1] == pytest.approx(0.09 / 1e6)


# rows


def cells_on_a_line():
    """Cells at 0.5, 1.5 ... µm along a row through a margin at x = 100; every third is positive."""
    x = np.arange(200) + 0.5
    regions = [Region("T", "tumour", shapely.box(0, 0, 100, 10)), Region("S", "stroma", shapely.box(0, 0, 200, 10))]
    scanned = shapely.box(0, 0, 200, 10)
    cells = assign_regions(x, np.full(200, 5.0), regions)
    cells["distance_to_margin_um"] = distance_to_margin(x, np.full(200, 5.0), regions, scanned=scanned)
    cells["CD8_positive"] = pd.array(np.arange(200) % 3 == 0, dtype="boolean")
    bands = Bands(20.0, 60.0)
    parts = partition(regions, scanned=scanned)
    return cells, band_areas(regions, parts, scanned=scanned, bands=bands), bands


def test_rows_of_bands_by_hand():
    cells, areas, bands = cells_on_a_line()
    rows = count_bands(cells, populations={"CD8": "CD8_positive"}, area_mm2=areas, bands=bands)
    assert rows["from_um"].tolist() == [-60, -40, -20, 0, 20, 40]
    assert rows["to_um"].tolist() == [-40, -20, 0, 20, 40, 60]
    assert rows["region"].tolist() == ["T"] * 3 + ["S"] * 3
    assert rows["tissue_class"].tolist() == ["tumour"] * 3 + ["stroma"] * 3
    assert rows["cells"].tolist() == [20] * 6
    positive = [sum(k % 3 == 0 for k in range(start, start + 20)) for start in range(40, 160, 20)]
    assert rows["positive_cells"].tolist() == positive
    assert rows["area_mm2"].to_numpy() == pytest.approx([200 / 1e6] * 6, rel=1e-9)
    assert rows["density_per_mm2"].to_numpy() == pytest.approx(np.array(positive) / (200 / 1e6))
    assert list(rows)[:4] == ["region", "tissue_class", "population", "cells"]


def test_a_population_that_cannot_be_told_has_bands_with_cells_and_area_only():
    cells, areas, bands = cells_on_a_line()
    cells["CD8_positive"] = pd.array([pd.NA] * 200, dtype="boolean")
    rows = count_bands(cells, populations={"CD8": "CD8_positive"}, area_mm2=areas, bands=bands)
    assert (len(rows), rows["cells"].sum(), rows["area_mm2"].notna().all()) == (6, 120, True)
    assert rows["positive_cells"].isna().all()


def test_cells_without_a_margin_are_in_no_band():
    cells, _, bands = cells_on_a_line()
    cells["distance_to_margin_um"] = np.nan
    assert count_bands(cells, populations={"CD8": "CD8_positive"}, area_mm2={}, bands=bands).empty


# patients


def region_rows(slide, positive, *, margin=True):
    regions = pd.DataFrame(
        {"slide": slide, "region": "S", "tissue_class": "stroma", "population": "CD8", "cells": [40],
         "positive_cells": [float(positive)], "area_mm2": [0.4]}
    )  # fmt: skip
    bands = pd.DataFrame(
        {"slide": slide, "region": "S", "tissue_class": "stroma", "population": "CD8", "cells": [10, 20],
         "positive_cells": [float(positive), 0.0], "area_mm2": [0.1, 0.2], "from_um": [0.0, 25.0],
         "to_um": [25.0, 50.0]}
    )  # fmt: skip
    return regions, bands if margin else bands.iloc[:0]


def test_bands_pool_to_patients_as_regions_do():
    one, two = region_rows("A", 4), region_rows("B", 2)
    slides = pd.DataFrame({"slide": ["A", "B"], "patient": ["P", "P"]})
    table = study_table(pd.concat([one[0], two[0]]), slides, None, bands=pd.concat([one[1], two[1]]))
    assert table["CD8|margin 0 to 25 um|density_per_mm2"].tolist() == pytest.approx([6 / 0.2])
    assert table["CD8|margin 0 to 25 um|positivity_percent"].tolist() == [30.0]
    assert table["CD8|margin 25 to 50 um|density_per_mm2"].tolist() == [0.0]
    without = study_table(pd.concat([one[0], two[0]]), slides, None)
    assert [name for name in without if "margin" in name] == []
    assert list(table)[: len(without.columns)] == list(without)


def test_a_slide_without_a_margin_adds_nothing_to_the_bands_and_one_that_cannot_tell_withholds():
    one, two = region_rows("A", 4), region_rows("B", 2, margin=False)
    slides = pd.DataFrame({"slide": ["A", "B"], "patient": ["P", "P"]})
    table = study_table(pd.concat([one[0], two[0]]), slides, None, bands=one[1])
    assert table["CD8|margin 0 to 25 um|density_per_mm2"].tolist() == [40.0]
    two[0]["positive_cells"] = np.nan
    table = study_table(pd.concat([one[0], two[0]]), slides, None, bands=one[1])
    assert table["CD8|margin 0 to 25 um|density_per_mm2"].isna().all()


def test_cells_from_a_table_without_distances_withhold_the_bands():
    one, two = region_rows("A", 4), region_rows("B", 2, margin=False)
    two[0]["area_mm2"] = np.nan
    slides = pd.DataFrame({"slide": ["A", "B"], "patient": ["P", "P"]})
    table = study_table(pd.concat([one[0], two[0]]), slides, None, bands=one[1])
    assert table["CD8|margin 0 to 25 um|positivity_percent"].isna().all()


# pictures


def test_a_patients_profile_pools_slides_and_classes_and_keeps_what_is_unknown():
    rows = pd.DataFrame(
        [("P", "CD8", 0.0, 25.0, 4.0, 0.1), ("P", "CD8", 0.0, 25.0, 2.0, 0.1), ("P", "CD8", 25.0, 50.0, np.nan, 0.1)],
        columns=["patient", "population", "from_um", "to_um", "positive_cells", "area_mm2"],
    )
    values = patient_bands(rows)
    assert values["density_per_mm2"].tolist() == pytest.approx([30.0, np.nan], nan_ok=True)
    figure = band_profiles(rows, ["CD8"], title="Margin")
    (line,) = [one for one in figure.axes[0].lines if len(one.get_xdata()) == 1]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([12.5], pytest.approx([30.0]))


def test_lines_on_the_picture_lie_at_their_distance():
    rgb = np.zeros((300, 300, 3), np.uint8)
    picture = SlidePicture("S1", rgb, 1.0, [], {}, tumour_um=shapely.box(-10, -10, 100, 310), bands_um=(25.0, 75.0))
    svg = str(margin_lines(picture, 3))
    assert svg.startswith('<g class="layer layer-3">')
    found = dict(re.findall(r'd="M([^"]+)"[^>]*><title>(.*?)</title>', svg))
    at = {said: {round(float(point.split()[0])) for point in path.split("L")} for path, said in found.items()}
    assert at["25 µm outside the margin"] == {125} and at["50 µm inside the margin"] == {50}
    assert len(at) == 6
    assert "path" not in str(margin_lines(replace(picture, tumour_um=shapely.Polygon()), 3))


def test_a_population_that_no_slide_can_tell_has_no_scale():
    bands = pd.DataFrame(
        [("P", "CD8", -25.0, 0.0, np.nan, 1.0), ("P", "CD8", 0.0, 25.0, np.nan, 1.0)],
        columns=["patient", "population", "from_um", "to_um", "positive_cells", "area_mm2"],
    )
    (axes,) = band_profiles(bands, ["CD8"], title="Margin").axes
    assert not axes.axison
    assert [text.get_text() for text in axes.texts] == ["not known"]
