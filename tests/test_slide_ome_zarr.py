"""OME-Zarr 0.4 and 0.5, sharded or not, and the layout of bioformats2raw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from slide_fixtures import coded_image, write_bioformats2raw, write_ome_zarr

from mihc.errors import SlideError
from mihc.slide import inspect_slide, open_slide

IMAGE = coded_image(3, 70, 90)
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


def change(path: Path, version: str, edit: object) -> Path:
    """Edit the OME attributes of a group."""
    file = path / ("zarr.json" if version == "0.5" else ".zattrs")
    document = json.loads(file.read_text())
    edit(document["attributes"]["ome"] if version == "0.5" else document)
    file.write_text(json.dumps(document))
    return path


@VERSIONS
@pytest.mark.parametrize("axes", ["cyx", "czyx", "tczyx"])
def test_both_versions_and_all_axes_give_the_same_pixels(tmp_path: Path, version: str, axes: str):
    image = IMAGE if axes == "cyx" else IMAGE[:, np.newaxis]
    path = write_ome_zarr(tmp_path / "s.ome.zarr", image, version=version, axes=axes)
    with open_slide(path) as slide:
        assert slide.format == "OME-Zarr" and slide.channels == ("marker 0", "marker 1", "marker 2")
        assert slide.pixel_size_um == (0.5, 0.5) and slide.pixel_size_source == "OME-Zarr scale"
        assert slide.levels == ((70, 90), (35, 45))
        np.testing.assert_array_equal(slide.image[:], IMAGE)
        np.testing.assert_array_equal(slide.image[[2, 0], 30:66, 31:33], IMAGE[[2, 0], 30:66, 31:33])


def test_a_sharded_image_is_read(tmp_path: Path):
    with open_slide(write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE, shards=True)) as slide:
        np.testing.assert_array_equal(slide.image[:, 13:65], IMAGE[:, 13:65])


def test_ome_zarr_models_accepts_the_fixture(tmp_path: Path):
    import warnings

    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ome_zarr_models.v05 import Image

        path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
        Image.from_zarr(zarr.open_group(path, mode="r"))


def test_series_of_bioformats2raw_are_scenes_and_the_label_is_none(tmp_path: Path):
    other = coded_image(3, 33, 61)
    path = write_bioformats2raw(tmp_path / "s.zarr", [IMAGE, other, IMAGE], ["core A", "core B", "label image"])
    with pytest.raises(SlideError, match="holds 2 scenes") as caught:
        open_slide(path)
    assert "0 “core A”, 1 “core B”" in caught.value.fix
    with open_slide(path, scene="core B") as slide:
        np.testing.assert_array_equal(slide.image[:], other)
    assert "not read     label image" in inspect_slide(path)


@VERSIONS
def test_SL35_another_number_of_channel_labels_is_refused(tmp_path: Path, version: str):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE, version=version, names=["DAPI", "CD8"])
    with pytest.raises(SlideError, match=r"omero\.channels lists 2 channels, the array has 3"):
        open_slide(path)


@VERSIONS
@pytest.mark.parametrize("shards", [False, True])
def test_SL36_a_missing_chunk_is_refused_and_not_read_as_black(tmp_path: Path, version: str, shards: bool):
    if shards and version == "0.4":
        return
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE, version=version, shards=shards)
    key = "1/1/1" if version == "0.4" else "c/1/1/1"
    (path / "0" / key).unlink()
    with pytest.raises(SlideError, match=f"missing chunk {key}: 1 of"):
        open_slide(path)
    assert any(f"missing chunk {key}" in line for line in inspect_slide(path))


@VERSIONS
def test_SL37_axes_without_a_unit_are_refused_until_the_size_is_given(tmp_path: Path, version: str):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE, version=version, unit=None)
    with pytest.raises(SlideError, match="without a unit"):
        open_slide(path)
    with open_slide(path, pixel_size_um=0.5) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


def test_SL37_axes_that_are_no_image_are_refused(tmp_path: Path):
    def swap(ome: dict) -> None:
        ome["multiscales"][0]["axes"][0]["name"] = "q"

    path = change(write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE), "0.5", swap)
    with pytest.raises(SlideError, match="axes are q, y, x"):
        open_slide(path)


@pytest.mark.parametrize(("unit", "um"), [("nanometer", 500.0), ("millimeter", 5e-4), ("meter", 5e-7)])
def test_SL12_every_unit_gives_the_same_size(tmp_path: Path, unit: str, um: float):
    with open_slide(write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE, unit=unit, um=um)) as slide:
        assert slide.pixel_size_um == (0.5, 0.5)


def test_the_scale_of_the_whole_multiscale_counts_too(tmp_path: Path):
    def scale(ome: dict) -> None:
        ome["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1, 0.5, 0.5]}]

    path = change(write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE, um=0.5), "0.5", scale)
    with open_slide(path) as slide:
        assert slide.pixel_size_um == (0.25, 0.25)


def test_SL38_mixed_metadata_is_refused(tmp_path: Path):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
    (path / ".zattrs").write_text("{}")
    with pytest.raises(SlideError, match="mixed"):
        open_slide(path)


def test_SL39_a_dataset_outside_the_folder_is_refused(tmp_path: Path):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
    shutil.move(path / "0", tmp_path / "elsewhere")
    for target in ("../elsewhere", str(tmp_path / "elsewhere")):

        def point(ome: dict, target: str = target) -> None:
            ome["multiscales"][0]["datasets"][0]["path"] = target

        with pytest.raises(SlideError, match="outside the folder"):
            open_slide(change(path, "0.5", point))


@pytest.mark.parametrize("part", ["0", "0/c", "0/c/1", "0/c/1/0/0", "0/zarr.json", "zarr.json"])
def test_SL39_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, part: str):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
    shutil.move(path / part, tmp_path / "elsewhere")
    (path / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlideError, match=r"outside the folder|missing chunk"):
        open_slide(path)


def test_SL26_focal_planes_need_a_choice(tmp_path: Path):
    image = coded_image(6, 20, 20).reshape(2, 3, 20, 20)
    path = write_ome_zarr(tmp_path / "s.ome.zarr", image, axes="czyx")
    with pytest.raises(SlideError, match="3 focal planes"):
        open_slide(path)
    with open_slide(path, z=1) as slide:
        np.testing.assert_array_equal(slide.image[:], image[:, 1])


def test_a_folder_that_is_no_image_is_refused_naming_what_is_inside(tmp_path: Path):
    write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
    with pytest.raises(SlideError, match=r"no multiscales") as caught:
        open_slide(tmp_path)
    assert caught.value.fix == "Open the folder of the image: s.ome.zarr"


def test_broken_metadata_is_refused(tmp_path: Path):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
    (path / "0" / "zarr.json").unlink()
    with pytest.raises(SlideError, match="dataset “0” cannot be opened"):
        open_slide(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(SlideError, match="not valid JSON"):
        open_slide(path)


def test_a_damaged_chunk_is_an_error_and_not_black(tmp_path: Path):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", IMAGE)
    (path / "0" / "c" / "0" / "0" / "0").write_bytes(bytes(100))
    with open_slide(path) as slide, pytest.raises(SlideError, match="a chunk is damaged"):
        _ = slide.image[:]
