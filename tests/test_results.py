from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from study_folders import SETTINGS, write_study

import mihc
from mihc.errors import UsageError
from mihc.results import polygon_from_json, region_as_json, region_from_json

PANEL = (
    "panel,channel,marker,role,compartment,threshold\n"
    "one,DAPI,DAPI,nuclei,nucleus,\none,CD20,CD20,marker,cell,\none,Ki67,Ki67,marker,nucleus,\n"
    "two,DAPI,DAPI,nuclei,nucleus,\ntwo,CD20,CD20,marker,cell,\ntwo,CK,CK,tumour,cell,\n"
)
SLIDES = "slide,file,cells,patient,panel\nS1,,one.csv,P1,one\nS2,,two.csv,P2,two\nS3,c.tif,,P3,one\n"
CELLS = {
    "one.csv": "cell,x_um,y_um,tissue_class,CD20_positive,Ki67_positive\n7,1.5,2,tumour,1,1\n9,3,4.5,stroma,0,0\n",
    "two.csv": "cell,x_um,y_um,tissue_class,CD20_positive,CK_positive\n4,5,6,tumour,,1\n",
}


@pytest.fixture
def study(tmp_path):
    for name, text in CELLS.items():
        (tmp_path / name).write_text(text)
    settings = SETTINGS.replace("[outcomes.OS]", '"not B" = "!CD20+"\n[outcomes.OS]')
    folder = write_study(tmp_path, panel=PANEL, slides=SLIDES, settings=settings)
    return mihc.read_study(folder)


@pytest.fixture
def measured(study):
    assert not mihc.run(study, slides=["S1", "S2"]).failed
    return study


def test_cells_are_read_back_as_they_were_given(measured):
    cells = mihc.slide_cells(measured, "S1")
    assert cells["cell"].tolist() == [7, 9]
    assert cells["CD20_positive"].tolist() == [True, False]
    assert list(mihc.slide_cells(measured, "S1", columns=["cell", "y_um"])) == ["cell", "y_um"]


def test_a_slide_without_an_image_is_none_to_look_at(measured):
    assert mihc.measured_slides(measured) == []
    with pytest.raises(UsageError, match="S1: its cells come from a table, so there is no image of it"):
        mihc.slide_image(measured, "S1")


def test_a_slide_that_was_not_measured_says_what_to_type(study):
    for read in (mihc.slide_image, mihc.slide_cells, mihc.slide_regions):
        with pytest.raises(UsageError, match=r"S3: this slide has no results yet(.|\n)*mihc run"):
            read(study, "S3")


def test_an_unknown_slide_is_refused_with_those_there_are(study):
    for read in (mihc.slide_image, mihc.slide_cells, mihc.slide_regions, mihc.population_columns):
        with pytest.raises(UsageError, match=r"no slide 'S9'(.|\n)*S1, S2, S3"):
            read(study, "S9")


def test_a_slide_has_the_populations_that_its_panel_shows(study):
    assert mihc.population_columns(study, "S1") == {
        "CD20": "CD20_positive",
        "Ki67": "Ki67_positive",
        "proliferating B cell": "phenotype_proliferating B cell",
        "not B": "phenotype_not B",
    }
    assert list(mihc.population_columns(study, "S2")) == ["CD20", "CK", "not B"]


def test_a_populations_markers_are_those_its_expression_names(study):
    assert mihc.population_markers(study, "S1", "Ki67") == ("Ki67",)
    assert mihc.population_markers(study, "S1", "proliferating B cell") == ("CD20", "Ki67")
    assert mihc.population_markers(study, "S2", "not B") == ("CD20",)
    with pytest.raises(UsageError, match=r"slide S2 has no population 'Ki67'(.|\n)*CD20, CK, not B"):
        mihc.population_markers(study, "S2", "Ki67")


def test_a_region_survives_json_bit_for_bit():
    hole = shapely.Polygon([(0, 0), (10 / 3, 0), (10 / 3, 7), (0, 7)], [[(1, 1), (2, 1), (2, 2)]])
    region = mihc.Region("Tumor", "tumour", shapely.MultiPolygon([hole, shapely.box(20, 20, 21, 21)]))
    again = region_from_json(region_as_json(region))
    assert (again.name, again.tissue_class) == ("Tumor", "tumour")
    assert again.polygon_um.wkb == region.polygon_um.wkb


def test_the_viewers_zero_is_the_first_pixels_centre_by_hand():
    # pixels of 0.5 (y) by 0.25 (x) µm: the centre of the first one is at mihc's (x, y) = (0.125, 0.25)
    y, x = mihc.viewer_um(np.array([0.125, 0.375]), np.array([0.25, 1.25]), pixel_size_um=(0.5, 0.25))
    assert (y.tolist(), x.tolist()) == ([0.0, 1.0], [0.0, 0.25])


RING = [(0.0, 0.0), (4.0, 0.5), (4.0, 4.0), (1 / 3, 4.1)]
SHAPES = {
    "plain": shapely.Polygon(RING),
    "with holes": shapely.Polygon(RING, [[(1, 1), (1, 2), (2, 2)], [(3, 3), (3, 3.5), (3.5, 3.5)]]),
    "several": shapely.MultiPolygon([shapely.Polygon(RING, [[(1, 1), (1, 2), (2, 2)]]), shapely.box(9, 9, 10, 11)]),
    "one of several": shapely.MultiPolygon([shapely.box(9, 9, 10, 11)]),
    "empty": shapely.Polygon(),
    "empty of several": shapely.MultiPolygon(),
}


@pytest.mark.parametrize("polygon", SHAPES.values(), ids=SHAPES)
def test_polygons_are_read_as_shapely_reads_them(polygon):
    content = json.loads(json.dumps(shapely.geometry.mapping(polygon)))
    found, expected = polygon_from_json(content), shapely.geometry.shape(content)
    assert shapely.to_wkb(found) == shapely.to_wkb(expected) == shapely.to_wkb(polygon)
