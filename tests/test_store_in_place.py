"""A slide that is an OME-Zarr already: used in place, with the numbers and the pyramid that a copy would have."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from mihc import pipeline
from mihc.drawing.slide import draw_slide
from mihc.errors import DamagedError, MihcError
from mihc.slide import open_slide
from mihc.store import Store, digest_results, open_image, open_labels
from mihc.study import read_study

PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\nCD20,CD20,marker,cell\n"
UNUSED = "channel,marker,role,compartment\nCD20,B,marker,cell\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,ignore,cell\n"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    drawn = draw_slide(seed=4, size_px=(1280, 1100))
    return np.ascontiguousarray(drawn.image[:3])


def write_zarr(path: Path, image: np.ndarray, *, version=3, axes="cyx", dtype="<u2", **layout) -> Path:
    """An OME-Zarr without a pyramid, as other programs write them; `layout` as zarr.create_array takes it."""
    group = zarr.create_group(path, zarr_format=version)
    full = image.reshape(
        [{"c": image.shape[0], "y": image.shape[1], "x": image.shape[2]}.get(axis, 1) for axis in axes]
    )
    chunks = [512 if axis in "yx" else 1 for axis in axes]
    shards = [1024 if axis in "yx" else 1 for axis in axes] if layout.pop("sharded", False) else None
    array = group.create_array(
        "0", shape=full.shape, dtype=dtype, chunks=chunks, shards=shards, config={"write_empty_chunks": True}, **layout
    )
    array[...] = full
    kinds = {"c": {"type": "channel"}, "t": {"type": "time"}}
    written = [{"name": axis, **kinds.get(axis, {"type": "space", "unit": "micrometer"})} for axis in axes]
    scale = [{"type": "scale", "scale": [0.5 if axis in "yx" else 1.0 for axis in axes]}]
    told = {
        "multiscales": [{"axes": written, "datasets": [{"path": "0", "coordinateTransformations": scale}]}],
        "omero": {"channels": [{"label": name, "color": "FFFFFF"} for name in ("DAPI", "CD3", "CD20")]},
    }
    group.attrs.update({"ome": {"version": "0.5", **told}} if version == 3 else told)
    return path


def study(folder: Path, slide: Path, *, panel: str = PANEL) -> Path:
    folder.mkdir()
    (folder / "study.toml").write_text('[study]\nname = "in place"\n')
    (folder / "panel.csv").write_text(panel)
    (folder / "slides.csv").write_text(f"slide,file,patient\nS1,{slide},P1\n")
    (folder / "clinical.csv").write_text("patient\nP1\n")
    return folder


def run(folder: Path, until="cells") -> pipeline.Results:
    results = pipeline.run(read_study(folder), workers=2, until=until)
    assert results.failed == {}
    return results


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def inodes(folder: Path) -> set[int]:
    return {p.stat().st_ino for p in folder.rglob("*") if p.is_file()}


SUITABLE = {
    "0.5 of zarr": {},
    "0.5 in shards": {"sharded": True},
    "0.4 of bioformats2raw": {
        "version": 2, "axes": "tczyx", "dtype": ">u2", "compressors": [Blosc(cname="lz4", clevel=5, shuffle=1)],
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "0.4 with dots and without codec": {
        "version": 2, "compressors": None, "chunk_key_encoding": {"name": "v2", "separator": "."},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def copied(tmp_path_factory, image) -> Path:
    """The results of the same pixels as a store that cannot be used in place: chunks over several channels."""
    folder = tmp_path_factory.mktemp("copied")
    write_zarr(folder / "s.ome.zarr", image)
    shutil.rmtree(folder / "s.ome.zarr/0")
    zarr.create_array(folder / "s.ome.zarr/0", data=image, chunks=(3, 512, 512))
    run(study(folder / "study", folder / "s.ome.zarr"))
    assert not Store(folder / "study/results").open_notes("slide", "S1")["in_place"]
    return folder / "study/results"


@pytest.mark.parametrize("kind", SUITABLE)
def test_pixels_pyramid_and_cells_are_those_of_a_copy_and_the_slide_is_as_it_was(tmp_path, image, copied, kind):
    slide = write_zarr(tmp_path / "s.ome.zarr", image, **SUITABLE[kind])
    before, its_files = content(slide), inodes(slide)
    run(study(tmp_path / "study", slide))
    results = tmp_path / "study/results"
    path = results / "slides/S1.ome.zarr"
    assert Store(results).open_notes("slide", "S1")["in_place"]
    assert inodes(path / "0/c") <= its_files  # not one byte of level 0 is copied
    for level, other in zip(open_image(path).levels, open_image(copied / "slides/S1.ome.zarr").levels, strict=True):
        assert level.dtype == other.dtype and np.array_equal(level[...], other[...])
    assert np.array_equal(open_image(path).levels[0][1, 500:700, 3:9], image[1, 500:700, 3:9])
    assert open_labels(path, "cells")[0][...].any()
    assert digest_results(results) == digest_results(copied)
    assert Store(results).verify() == []
    assert content(slide) == before
    again = run(tmp_path / "study")
    assert {step.why for step in again.steps} == {"reused"}
    shutil.rmtree(results)
    assert content(slide) == before


def test_others_open_it_as_plain_ome_zarr(tmp_path, image):
    from ome_zarr_models.v05 import Image

    slide = write_zarr(tmp_path / "s.ome.zarr", image, **SUITABLE["0.4 of bioformats2raw"])
    run(study(tmp_path / "study", slide, panel=UNUSED), until="slide")
    path = tmp_path / "study/results/slides/S1.ome.zarr"
    group = zarr.open_group(path, mode="r")
    Image.from_zarr(group)
    assert np.array_equal(group["0"][...], image[[2, 0]])  # only the channels that are used, in the panel's order
    text = "".join(p.read_text() for p in path.rglob("zarr.json"))
    assert "s.ome.zarr" not in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    "layout",
    [{"chunks": 64}, {"filters": "transpose"}, {"dtype": "<i2"}, {"compressors": "zlib"}],
    ids=["small chunks", "another order", "signed", "another codec"],
)
def test_what_is_not_suitable_is_copied(tmp_path, image, layout):
    slide = write_zarr(tmp_path / "s.ome.zarr", image)
    shutil.rmtree(slide / "0")
    side = layout.get("chunks", 512)
    pixels = image.astype(layout.get("dtype", "<u2"))
    options = {}
    if "filters" in layout:
        options["filters"] = [zarr.codecs.TransposeCodec(order=(0, 2, 1))]
    if "compressors" in layout:
        from zarr.codecs.numcodecs import Zlib

        with warnings.catch_warnings(action="ignore", category=UserWarning):  # some versions: not in the specification
            zarr.create_array(slide / "0", data=pixels, chunks=(1, side, side), compressors=[Zlib(level=1)])
    else:
        zarr.create_array(slide / "0", data=pixels, chunks=(1, side, side), **options)
    results = run(study(tmp_path / "study", slide), until="slide")
    assert not Store(results.folder).open_notes("slide", "S1")["in_place"]
    assert np.array_equal(open_image(results.folder / "slides/S1.ome.zarr").levels[0][...], image)


def test_where_links_cannot_be_made_the_slide_is_copied(tmp_path, image, monkeypatch):
    slide = write_zarr(tmp_path / "s.ome.zarr", image)
    link, made = os.link, []

    def at_most_two(source, target, **keywords):
        if len(made) == 2:
            raise OSError(18, "Invalid cross-device link")
        made.append(target)
        link(source, target, **keywords)

    monkeypatch.setattr(os, "link", at_most_two)
    run(study(tmp_path / "study", slide), until="slide")
    results = tmp_path / "study/results"
    assert len(made) == 2 and not inodes(results) & inodes(slide)
    assert np.array_equal(open_image(results / "slides/S1.ome.zarr").levels[0][...], image)


def test_a_slide_that_changes_or_vanishes_later_is_noticed_or_does_no_harm(tmp_path, image):
    slide = write_zarr(tmp_path / "s.ome.zarr", image)
    folder = study(tmp_path / "study", slide)
    run(folder, until="slide")
    results = folder / "results"
    changed = image.copy()
    changed[0, :512, :512] //= 2
    zarr.open_array(slide / "0", mode="r+")[0, :512, :512] = changed[0, :512, :512]  # zarr makes a new file
    path = Store(results).path("slides/S1.ome.zarr")
    assert np.array_equal(open_image(path).levels[0][...], image)  # the generation that was committed, whole
    (step,) = run(folder, until="slide").steps
    assert "changed: input" in step.why
    assert np.array_equal(open_image(results / "slides/S1.ome.zarr").levels[0][...], changed)

    chunk = slide / "0/c/1/0/0"
    good = chunk.read_bytes()
    with chunk.open("r+b") as file:  # a program that writes into the file itself, without a new size
        file.seek(len(good) // 2)
        file.write(bytes([good[len(good) // 2] ^ 1]))
    with pytest.raises(DamagedError, match="not what was committed"):
        Store(results).path("slides/S1.ome.zarr")
    assert [line for line in Store(results).verify() if "slides/S1.ome.zarr/0/c/1/0/0" in line]
    chunk.write_bytes(good)

    shutil.rmtree(slide)
    assert Store(results).verify() == []
    assert np.array_equal(open_image(Store(results).path("slides/S1.ome.zarr")).levels[0][...], changed)


def test_a_chunk_that_is_a_link_is_not_there(tmp_path, image):
    slide = write_zarr(tmp_path / "s.ome.zarr", image)
    (slide / "0/c/2/0/0").rename(tmp_path / "elsewhere")
    (slide / "0/c/2/0/0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MihcError, match="missing chunk c/2/0/0"):
        open_slide(slide)


def test_a_chunk_left_out_of_a_foreign_shard_is_missing(tmp_path, image):
    sparse = image.copy()
    sparse[:, :512, :512] = 0
    slide = write_zarr(tmp_path / "s.ome.zarr", sparse, sharded=True)
    array = zarr.open_array(slide / "0", mode="r+").with_config({"write_empty_chunks": False})
    array[...] = sparse
    with pytest.raises(MihcError, match="missing chunk in shard"):
        open_slide(slide)
