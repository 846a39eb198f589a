"""Pyramids and labels: right numbers at right places, valid for others, and no damage that reads as zeros."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import random
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.errors import DamagedError
from mihc.steps.decode import Pass, store_passes
from mihc.store import (
    IMAGE_SHARD,
    LABEL_CHUNK,
    Store,
    build_label_pyramid,
    build_pyramid,
    create_image,
    create_labels,
    digest_results,
    open_image,
    open_labels,
    set_display_windows,
    write_cells,
    write_image_window,
    write_label_window,
)
from mihc.stores import images, labels, ngff
from mihc.stores.images import halve


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch):
    """What is forced to the disk is the business of another file's tests."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def at_once(function, *args) -> Future:
    """An executor's submit, without an executor."""
    future = Future()
    future.set_result(function(*args))
    return future


def write_image(path: Path, image: np.ndarray, *, side=IMAGE_SHARD, submit=at_once, pixel_size_um=(0.5, 0.25)) -> None:
    planes, height, width = image.shape
    create_image(
        path,
        shape=image.shape,
        dtype=image.dtype,
        pixel_size_um=pixel_size_um,
        channels=[f"c{number}" for number in range(planes)],
        colours=["0000FF"] * planes,
        name="S1",
    )
    for y0 in range(0, height, side):
        for x0 in range(0, width, side):
            write_image_window(path, 0, 0, y0, x0, image[:, y0 : y0 + side, x0 : x0 + side])
    build_pyramid(path, submit)


def write_labels(path: Path, ids: np.ndarray, *, side=LABEL_CHUNK, submit=at_once, pixel_size_um=(0.5, 0.25)) -> None:
    create_labels(path, shape=ids.shape, pixel_size_um=pixel_size_um)
    for y0 in range(0, ids.shape[0], side):
        for x0 in range(0, ids.shape[1], side):
            write_label_window(path, 0, y0, x0, ids[y0 : y0 + side, x0 : x0 + side])
    build_label_pyramid(path, submit)


def noise(shape, dtype, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_image_comes_back_pixel_for_pixel_with_its_names_colours_and_micrometres(tmp_path, dtype):
    image = noise((2, 2050, 1100), dtype)
    write_image(tmp_path / "a.ome.zarr", image)
    set_display_windows(tmp_path / "a.ome.zarr", [(1, 9), (2, 1e6)])
    stored = open_image(tmp_path / "a.ome.zarr")
    assert np.array_equal(stored.levels[0][...], image) and stored.levels[0].dtype == np.dtype(dtype)
    assert np.array_equal(stored.levels[0][1, 2000:2050, 7:9], image[1, 2000:, 7:9])
    assert [level.shape for level in stored.levels] == [(2, 2050, 1100), (2, 1025, 550), (2, 513, 275)]
    assert stored.downsamples == (1, 2, 4)
    assert stored.pixel_size_um == (0.5, 0.25)
    assert stored.channels == ("c0", "c1") and stored.colours == ("0000FF", "0000FF")
    assert stored.windows == ((1, 9), (2, 1e6))


def test_the_mean_of_two_by_two_by_hand_odd_edges_too():
    block = np.array([[1, 2, 7], [3, 4, 8], [9, 10, 65535]], "uint16")
    # (1+2+3+4)/4 = 2.5 -> 3; (7+8)/2 = 7.5 -> 8; (9+10)/2 = 9.5 -> 10; a corner alone stays
    assert halve(block).tolist() == [[3, 8], [10, 65535]]
    assert halve(np.array([[-3, -2]], "int16")).tolist() == [[-2]]  # floor(-2.5 + 0.5)
    assert halve(np.full((2, 2), 255, "uint8")).tolist() == [[255]]  # no sum overflows
    assert halve(np.full((2, 2), 2**32 - 1, "uint32")).tolist() == [[2**32 - 1]]
    assert halve(np.array([[0.5, 1.5], [2.5, 0.5]], "float32")).tolist() == [[1.25]]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.sampled_from(["uint8", "uint16", "uint32"]))
def test_the_mean_of_two_by_two_is_that_of_exact_fractions(height, width, seed, dtype):
    block = noise((height, width), dtype, seed)
    got = halve(block)
    for y in range(0, height, 2):
        for x in range(0, width, 2):
            pixels = [int(pixel) for pixel in block[y : y + 2, x : x + 2].ravel()]
            assert got[y // 2, x // 2] == (2 * sum(pixels) + len(pixels)) // (2 * len(pixels))  # floor(mean + 1/2)


def test_S5_neither_windows_nor_workers_change_a_byte(tmp_path):
    image, ids = noise((1, 4100, 2100), "uint16"), noise((4100, 2100), "uint32")
    with ThreadPoolExecutor(4) as pool:
        write_image(tmp_path / "a", image, submit=pool.submit)
        write_labels(tmp_path / "a/labels/cells", ids, submit=pool.submit)
    write_image(tmp_path / "b", image, side=2 * IMAGE_SHARD)
    write_labels(tmp_path / "b/labels/cells", ids, side=4 * LABEL_CHUNK)
    stored = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    again = {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert stored == again and len(stored) > 20


@pytest.mark.parametrize("box", [(1, 0, 2048, 2048), (0, 512, 2048, 100), (0, 0, 1000, 2048), (2048, 0, 2048, 2048)])
def test_S5_a_window_that_shares_a_shard_with_another_is_refused(tmp_path, box):
    y0, x0, height, width = box
    create_image(
        tmp_path / "a", shape=(1, 4000, 4000), dtype="uint8", pixel_size_um=1, channels=["x"], colours=["FFFFFF"]
    )
    with pytest.raises(ValueError, match="whole blocks of 2048"):
        write_image_window(tmp_path / "a", 0, 0, y0, x0, np.zeros((height, width), "uint8"))
    create_labels(tmp_path / "l", shape=(4000, 4000), pixel_size_um=1)
    with pytest.raises(ValueError, match="whole blocks of 1024"):
        write_label_window(tmp_path / "l", 0, y0 + 3, x0, np.zeros((100, 100), "uint32"))


def test_N8_labels_wider_than_32_bits_or_signed_are_refused(tmp_path):
    create_labels(tmp_path / "l", shape=(10, 10), pixel_size_um=1)
    for dtype in ("int32", "uint64", "float32"):
        with pytest.raises(ValueError, match="uint32"):
            write_label_window(tmp_path / "l", 0, 0, 0, np.zeros((10, 10), dtype))
    write_label_window(tmp_path / "l", 0, 0, 0, np.full((10, 10), 2**32 - 1, "uint32"))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 10**6))
def test_S10_a_level_of_labels_invents_no_id(height, width, seed):
    ids = np.random.default_rng(seed).integers(0, 2**32, (height, width), dtype="uint32")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngff, "SMALLEST", 8)  # pixels, so that small pictures have levels
        write_labels(Path(folder) / "labels/cells", ids)
        levels = [level[...] for level in open_labels(folder, "cells")]
    assert [level.shape for level in levels] == [(-(-height // 2**k), -(-width // 2**k)) for k in range(len(levels))]
    assert max(levels[-1].shape) <= 8 and np.array_equal(levels[0], ids)
    assert all(set(level.ravel()) <= set(ids.ravel()) for level in levels)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 3), st.integers(0, 10**6))
def test_S5_any_shape_in_any_order_by_any_threads_keeps_every_pixel_and_the_means_of_all_levels(h, w, planes, seed):
    image = noise((planes, h, w), "uint16", seed)
    shards = {"IMAGE_SHARD": 32, "IMAGE_PASS": 64, "_CHUNK": 8}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(ngff, "SMALLEST", 10)
        for name, side in shards.items():
            patch.setattr(images, name, side)
        path = Path(folder) / "a"
        create_image(
            path,
            shape=image.shape,
            dtype="uint16",
            pixel_size_um=1,
            channels=["c"] * planes,
            colours=["F" * 6] * planes,
        )
        tasks = [(c, (y, min(y + 64, h), x, min(x + 64, w)))
                 for c in range(planes) for y in range(0, h, 64) for x in range(0, w, 64)]  # fmt: skip
        random.Random(seed).shuffle(tasks)
        done = [
            pool.submit(images.write_image_pass, path, c, box, lambda y0, y1, x0, x1, c=c: image[c, y0:y1, x0:x1])
            for c, box in tasks
        ]
        written = {name: fact for future in done for name, fact in future.result().items()}
        written |= build_pyramid(path, pool.submit, first=2)
        levels = [level[...] for level in open_image(path).levels]
        files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*/c/*/*/*")}
    assert int(levels[0].sum(dtype="u8")) == int(image.sum(dtype="u8")) and np.array_equal(levels[0], image)
    for finer, level in itertools.pairwise(levels):
        assert np.array_equal(level, np.stack([halve(plane) for plane in finer]))
    assert written == {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}


def test_S10_every_level_on_disk_holds_ids_of_level_0_only(tmp_path):
    ids = np.kron(noise((300, 230), "uint32"), np.ones((7, 9), "uint32"))
    write_labels(tmp_path / "a.ome.zarr/labels/cells", ids)
    levels = open_labels(tmp_path / "a.ome.zarr", "cells")
    assert [level.shape for level in levels] == [(2100, 2070), (1050, 1035), (525, 518)]
    assert np.array_equal(levels[0][...], ids)
    for level in levels[1:]:
        assert np.isin(level[...], ids).all()
    assert np.array_equal(levels[2][...], ids[::4, ::4])


def test_a_sampled_level_lies_where_the_pixels_that_it_took_lie(tmp_path):
    places = np.broadcast_to(np.arange(1, 2101, dtype=np.uint32), (2100, 2100))  # each id is its column
    write_labels(tmp_path / "a.ome.zarr/labels/cells", places)
    ome = json.loads((tmp_path / "a.ome.zarr/labels/cells/zarr.json").read_text())["attributes"]["ome"]
    sizes = [dataset["coordinateTransformations"] for dataset in ome["multiscales"][0]["datasets"]]
    side = sizes[0][0]["scale"][1]
    for level, (scale, move) in zip(open_labels(tmp_path / "a.ome.zarr", "cells"), sizes):
        told = scale["scale"][1] * np.arange(level.shape[1]) + move["translation"][1]
        assert (level[0:1, :][0] - 1).tolist() == (told / side).tolist()
    assert len(sizes) == 3


def test_the_places_of_all_levels_agree_in_ngff_coordinates(tmp_path):
    write_image(tmp_path / "a", noise((1, 4096, 1024), "uint8"), pixel_size_um=(0.5, 0.25))
    ome = json.loads((tmp_path / "a/zarr.json").read_text())["attributes"]["ome"]
    for level, dataset in enumerate(ome["multiscales"][0]["datasets"]):
        scale, move = dataset["coordinateTransformations"]
        assert scale["type"] == "scale" and move["type"] == "translation"
        # the corner of the first pixel is half a pixel of level 0 before 0, at every level
        for axis, side in ((1, 0.5), (2, 0.25)):
            assert scale["scale"][axis] == side * 2**level
            assert move["translation"][axis] - scale["scale"][axis] / 2 == -side / 2
    assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == ["c", "y", "x"]
    assert ome["multiscales"][0]["axes"][1] == {"name": "y", "type": "space", "unit": "micrometer"}
    level = json.loads((tmp_path / "a/0/zarr.json").read_text())
    assert level["dimension_names"] == ["c", "y", "x"]


def committed(folder: Path, *, seed=0, labels_side=LABEL_CHUNK) -> Store:
    """A store with one small slide, its labels and its cells."""
    store, shape = Store(folder), (1200, 1100)
    with store.transaction("slide", {}, "S1") as transaction:
        write_image(transaction.path("slides/S1.ome.zarr"), noise((2, *shape), "uint16", seed))
    with store.transaction("cells", {}, "S1") as transaction:
        for name in ("nuclei", "cells"):
            ids = noise(shape, "uint32", seed) // 100
            write_labels(transaction.path(f"slides/S1.ome.zarr/labels/{name}"), ids, side=labels_side)
        write_cells(transaction.path("cells/S1.parquet"), pd.DataFrame({"cell": [1, 2], "x_um": [0.5, np.nan]}))
    return store


def test_ome_zarr_models_finds_image_labels_and_list_of_labels_valid(tmp_path):
    import zarr
    from ome_zarr_models.common.omero import Omero
    from ome_zarr_models.v05 import Image, ImageLabel
    from ome_zarr_models.v05.labels import Labels

    store = committed(tmp_path / "results")
    path = store.path("slides/S1.ome.zarr")
    image = Image.from_zarr(zarr.open_group(path, mode="r"))
    omero = Omero.model_validate(json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["omero"])
    assert [(channel.color, channel.window.end) for channel in omero.channels] == [("0000FF", 65535)] * 2
    listed = Labels.from_zarr(zarr.open_group(path / "labels", mode="r")).ome_attributes.labels
    assert listed == ["cells", "nuclei"]
    for name in listed:
        label = ImageLabel.from_zarr(zarr.open_group(path / "labels" / name, mode="r"))
        assert label.ome_attributes.image_label.source.image == "../../"
        assert len(label.ome_attributes.multiscales[0].datasets) == len(image.ome_attributes.multiscales[0].datasets)


def test_S4_a_missing_or_empty_chunk_is_told_and_never_read_as_zeros(tmp_path):
    store = committed(tmp_path / "results")
    path = store.path("slides/S1.ome.zarr")
    chunks = [p for p in path.rglob("*") if p.is_file() and "c" in p.relative_to(path).parts]
    assert len(chunks) == 2 + 2 + 2 * (4 + 1)  # two channels and two label images at two levels
    for chunk in chunks:
        content = chunk.read_bytes()
        for damage in (chunk.unlink, lambda chunk=chunk: chunk.write_bytes(b"")):
            damage()
            assert any(chunk.relative_to(store.folder).as_posix() in line for line in store.verify())
            with pytest.raises(DamagedError, match="missing"):
                open_image(path), open_labels(path, "cells"), open_labels(path, "nuclei")
            whole = path / "labels" / chunk.relative_to(path).parts[1] if "labels" in chunk.parts else path
            with pytest.raises(DamagedError, match=r"missing|0 bytes"):
                Store(store.folder).path(whole.relative_to(store.folder).as_posix())
            assert store.why_recompute("cells", {}, "S1") or store.why_recompute("slide", {}, "S1")
            chunk.write_bytes(content)
    assert store.verify() == []


def test_S3_no_flipped_bit_of_a_chunk_reads_as_a_number(tmp_path):
    rng, store = np.random.default_rng(3), committed(tmp_path / "results")
    path = store.path("slides/S1.ome.zarr")
    truth = {"image": open_image(path).levels[0][...], "cells": open_labels(path, "cells")[0][...]}
    silent, loud = 0, 0
    for name, folder in (("image", path / "0"), ("cells", path / "labels/cells/0")):
        chunks = sorted(p for p in (folder / "c").rglob("*") if p.is_file())
        for _ in range(40):
            chunk = chunks[rng.integers(len(chunks))]
            content = bytearray(chunk.read_bytes())
            bit = int(rng.integers(8 * len(content)))
            content[bit // 8] ^= 1 << bit % 8
            good = chunk.read_bytes()
            chunk.write_bytes(content)
            try:
                got = open_image(path).levels[0][...] if name == "image" else open_labels(path, "cells")[0][...]
                silent += not np.array_equal(got, truth[name])
            except DamagedError:
                loud += 1
            chunk.write_bytes(good)
    assert silent == 0 and loud == 80


def test_damaged_metadata_is_told(tmp_path):
    store = committed(tmp_path / "results")
    path = store.folder / "slides/S1.ome.zarr"
    for name in ("zarr.json", "0/zarr.json"):
        good = (path / name).read_bytes()
        for bad in (b"", b"{", good.replace(b"0", b"1", 1), b"\xff" + good):
            (path / name).write_bytes(bad)
            assert store.verify() != []
            with pytest.raises(DamagedError):
                Store(store.folder).path("slides/S1.ome.zarr")
        (path / name).write_bytes(good)


def test_a_label_image_that_nobody_committed_or_a_changed_list_is_found(tmp_path):
    store = committed(tmp_path / "results")
    group = store.folder / "slides/S1.ome.zarr/labels/zarr.json"
    good = group.read_bytes()
    group.write_bytes(good.replace(b"nuclei", b"nuklei"))
    assert any("list of labels" in line for line in store.verify())
    group.write_bytes(good)
    shutil.copytree(group.parent / "cells", group.parent / "mine")
    assert any("list of labels" in line for line in store.verify())


def test_the_digest_is_of_labels_and_cells_and_not_of_pictures_windows_or_times(tmp_path):
    first = digest_results(committed(tmp_path / "a").folder)
    assert digest_results(committed(tmp_path / "b", labels_side=2 * LABEL_CHUNK).folder) == first
    shutil.rmtree(tmp_path / "b/slides/S1.ome.zarr/0")
    (tmp_path / "b/run.json").write_text("{}")
    assert digest_results(tmp_path / "b") == first
    assert digest_results(committed(tmp_path / "c", seed=1).folder) != first
    write_cells(tmp_path / "b/cells/S1.parquet", pd.DataFrame({"cell": [1, 2], "x_um": [0.5, 0.5000001]}))
    assert digest_results(tmp_path / "b") != first


def test_no_path_is_longer_than_120_characters_while_or_after_it_is_written(tmp_path, monkeypatch):
    slide, longest = "s" * 64, []
    store = Store(tmp_path / "results")
    with store.lock(slide):
        with store.transaction("slide", {}, slide) as transaction:
            write_image(transaction.path(f"slides/{slide}.ome.zarr"), noise((1, 1100, 1100), "uint8"))
        with store.transaction("regions", {}, slide) as transaction:
            write_labels(transaction.path(f"slides/{slide}.ome.zarr/labels/regions"), noise((1100, 1100), "uint32"))
            longest += [p.relative_to(store.folder).as_posix() for p in store.folder.rglob("*")]
    longest += [p.relative_to(store.folder).as_posix() for p in store.folder.rglob("*")]
    assert any("/labels/regions/0/c/1/1" in path for path in longest)
    assert max(len(path) for path in longest) + 2 <= 120  # a slide of 102,400 pixels has chunks 99/99


def test_what_is_handed_to_workers_can_be_pickled():
    for function in (
        images.halve_image_window,
        images.halve_image_plane,
        images.display_window,
        labels.halve_label_window,
        write_image_window,
        write_label_window,
        store_passes,
    ):
        assert pickle.loads(pickle.dumps(function)) is function
    done = Pass(0, {"0/c/0/0/0": (3, "a")}, 1.0, 2.0, 0)
    assert pickle.loads(pickle.dumps(done)) == done


def test_a_failing_task_leaves_no_other_one_running():
    ran = []

    def task(number):
        ran.append(number)
        if number == 0:
            raise RuntimeError("disk")

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="disk"):
            images.run_all(pool.submit, task, [(number,) for number in range(500)])
        after = len(ran)
    assert len(ran) == after < 500
