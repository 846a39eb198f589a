"""npe2's side: the manifest, what is taken for a slide of mihc's, and a slide dropped on napari."""

from __future__ import annotations

import json

import pytest
from npe2 import PluginManager, PluginManifest

import mihc
from napari_mihc.reader import get_reader


def test_the_manifest_is_valid_and_its_commands_exist():
    manifest = PluginManifest.from_distribution("napari-mihc")
    manifest.validate_imports()
    assert manifest.name == "napari-mihc"
    assert [reader.filename_patterns for reader in manifest.contributions.readers] == [["*.ome.zarr"]]
    assert manifest.contributions.readers[0].accepts_directories


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
