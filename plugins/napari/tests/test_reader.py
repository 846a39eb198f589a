"""npe2's side: the manifest, what is taken for a slide of mihc's, and a slide dropped on napari."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from npe2 import PluginManager, PluginManifest

import mihc
from napari_mihc.model import label_layers, region_layer, slide_view
from napari_mihc.reader import get_reader
from napari_mihc.sample import drawn_slide
from napari_mihc.writer import write_labels, write_regions


def test_the_manifest_is_valid_and_its_commands_exist():
    manifest = PluginManifest.from_distribution("napari-mihc")
    manifest.validate_imports()
    assert manifest.name == "napari-mihc"
    assert [reader.filename_patterns for reader in manifest.contributions.readers] == [["*.ome.zarr"]]
    assert manifest.contributions.readers[0].accepts_directories
    assert [writer.layer_types for writer in manifest.contributions.writers] == [["shapes"], ["labels"]]
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Start here"]
    assert [sample.key for sample in manifest.contributions.sample_data] == ["drawn-slide"]


def test_npe2_finds_the_plugin_by_its_entry_point():
    manager = PluginManager()
    manager.discover()
    assert "napari-mihc" in manager


def test_a_stored_slide_is_read(study):
    path = str(mihc.slide_image(study, "S01"))
    layers = get_reader(path)(path)
    assert [kind for *_, kind in layers] == ["image"] * 8 + ["labels"] * 2
    assert [options["name"] for _, options, _ in get_reader([path, path])([path, path])].count("DAPI") == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"attributes": {}}', '{"attributes": {"ome": {"multiscales": []}}}']
)
def test_what_is_no_slide_of_ours_is_left_to_others(tmp_path, content):
    (tmp_path / "zarr.json").write_text(content, encoding="utf-8")
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "nothing.ome.zarr")) is None


def test_another_programs_ome_zarr_is_left_to_others(pyramid, tmp_path):
    group = json.loads((pyramid.path / "zarr.json").read_text(encoding="utf-8"))
    group["attributes"]["ome"]["multiscales"][0]["type"] = "gaussian"
    (tmp_path / "zarr.json").write_text(json.dumps(group), encoding="utf-8")
    assert get_reader(str(tmp_path)) is None
    assert get_reader([str(pyramid.path), str(tmp_path)]) is None


def test_a_damaged_slide_is_ours_and_refused_in_words(pyramid, tmp_path):
    (tmp_path / "zarr.json").write_bytes((pyramid.path / "zarr.json").read_bytes())
    read = get_reader(str(tmp_path))
    with pytest.raises(mihc.errors.DamagedError, match=r"cannot be read(.|\n)*mihc verify"):
        read(str(tmp_path))


# ---- writers and sample data


def test_regions_go_to_a_file_that_reads_the_same(study, tmp_path):
    view = slide_view(study, "S01")
    data, options, _ = region_layer(view)
    written = write_regions(str(tmp_path / "S01.geojson"), data, options)
    read = mihc.read_regions(written[0], pixel_size_um=view.pixel_size_um)
    kept = [one for one in view.regions if not one.polygon_um.is_empty]
    areas = {(one.name, one.tissue_class): one.area_mm2 for one in kept}
    assert {(one.name, one.tissue_class): one.area_mm2 for one in read} == pytest.approx(areas)


def test_a_layer_that_is_not_ours_is_refused_in_words(tmp_path):
    with pytest.raises(mihc.errors.UsageError, match="no layer of regions that mihc made"):
        write_regions(str(tmp_path / "a.geojson"), [], {"metadata": {}})


def test_labels_go_to_a_file_without_loss(pyramid, tmp_path):
    labels, options, _ = label_layers(pyramid.path)[0]
    written = write_labels(str(tmp_path / "nuclei.tif"), labels, options)
    read = tifffile.imread(written[0])
    assert read.dtype == np.uint32 and np.array_equal(read, np.asarray(labels[0]))


def test_the_sample_is_a_slide_with_its_cells():
    layers = drawn_slide()
    assert [kind for *_, kind in layers] == ["image"] * 8 + ["labels"] * 2
    cells = layers[-1][0]
    assert np.asarray(cells[0] if isinstance(cells, list) else cells).max() > 0
