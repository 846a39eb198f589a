"""An exported slide in SpatialData's own hands: opened, validated, compared with the results, written again."""

from __future__ import annotations

import numpy as np
import pytest
import spatialdata
from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel, get_table_keys

import mihc
from mihc.export import export_study
from mihc.synthetic import draw_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A drawn study with results; its slides have two levels."""
    folder = draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=3, seed=5, size_px=(1100, 1040))
    assert mihc.run(mihc.read_study(folder)).failed == {}
    return mihc.read_study(folder)


@pytest.fixture(scope="module")
def opened(study, tmp_path_factory):
    """What SpatialData reads of every slide."""
    out = export_study(study, to="spatialdata", out=tmp_path_factory.mktemp("out") / "sd").folder
    return {slide: spatialdata.read_zarr(out / f"{slide}.zarr") for slide in mihc.measured_slides(study)}


def levels(element) -> list[np.ndarray]:
    return [np.asarray(element[name]["image"]) for name in element.children]


def test_every_element_passes_the_librarys_validation(opened):
    for data in opened.values():
        Image2DModel().validate(data.images["image"])
        for name in ("cells", "nuclei"):
            Labels2DModel().validate(data.labels[name])
        ShapesModel().validate(data.shapes["regions"])
        TableModel().validate(data.tables["table"])
        assert list(data.coordinate_systems) == ["global"]


def test_pixels_labels_and_channels_are_those_of_the_results(study, opened):
    for slide, data in opened.items():
        image = mihc.open_image(mihc.slide_image(study, slide))
        found = levels(data.images["image"])
        assert len(found) == len(image.levels) == 2
        for one, level in zip(found, image.levels):
            np.testing.assert_array_equal(one, level[:])
        names = data.images["image"]["scale0"]["image"].coords["c"].values.tolist()
        assert names == list(image.channels)
        for name in ("cells", "nuclei"):
            stored = mihc.open_labels(mihc.slide_image(study, slide), name)
            for one, level in zip(levels(data.labels[name]), stored):
                np.testing.assert_array_equal(one, level[:])


def test_the_table_annotates_the_cells_by_their_labels(study, opened):
    for slide, data in opened.items():
        table = data.tables["table"]
        assert get_table_keys(table) == ("cells", "element", "cell")
        labels = np.unique(levels(data.labels["cells"])[0])
        assert set(labels[labels > 0].tolist()) == set(table.obs["cell"].tolist())
        _, joined = spatialdata.join_spatialelement_table(
            sdata=data, spatial_element_names="cells", table_name="table", how="left"
        )
        assert joined.n_obs == len(mihc.slide_cells(study, slide))


def test_global_is_microns_as_in_the_cells_table(study, opened):
    for slide, data in opened.items():
        cells = mihc.slide_cells(study, slide).set_index("cell")
        centres = spatialdata.get_centroids(data.labels["nuclei"], coordinate_system="global").compute()
        np.testing.assert_allclose(centres["x"], cells.loc[centres.index, "x_um"], atol=1e-6)
        np.testing.assert_allclose(centres["y"], cells.loc[centres.index, "y_um"], atol=1e-6)
        regions = {region.name: region for region in mihc.slide_regions(study, slide)}
        for row in data.shapes["regions"].itertuples():
            assert row.geometry.equals(regions[row.name].polygon_um)
            assert row.tissue_class == regions[row.name].tissue_class


def test_the_library_writes_it_again(opened, tmp_path):
    data = next(iter(opened.values()))
    data.write(tmp_path / "again.zarr")
    again = spatialdata.read_zarr(tmp_path / "again.zarr")
    np.testing.assert_array_equal(levels(again.labels["cells"])[0], levels(data.labels["cells"])[0])


def test_pictures_may_be_left_out(study, tmp_path):
    out = export_study(study, to="spatialdata", out=tmp_path / "sd", images=False).folder
    data = spatialdata.read_zarr(next(out.glob("*.zarr")))
    assert list(data.images) == [] and set(data.labels) == {"cells", "nuclei"}
