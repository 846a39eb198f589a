"""The bytes of chunks and shards: zarr reads what is written, what zarr writes is read, damage is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from mihc.errors import DamagedError
from mihc.stores.arrays import StoredArray, create_array
from mihc.stores.chunks import layout_of, read_box, read_layout, write_box

IMAGE = {"shape": (2, 1300, 700), "chunk": (1, 256, 256), "shard": (1, 1024, 768), "dimension_names": "cyx"}
LABELS = {"shape": (1300, 700), "chunk": (256, 256), "shard": None, "dimension_names": "yx"}
KINDS = [(IMAGE, "uint8"), (IMAGE, "uint16"), (IMAGE, "float32"), (LABELS, "uint32")]


def made(path: Path, kind: dict, dtype: str) -> np.ndarray:
    create_array(path, dtype=np.dtype(dtype), **kind)
    return np.random.default_rng(5).integers(0, 200, kind["shape"]).astype(dtype)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_zarr_reads_what_is_written_pixel_for_pixel(tmp_path, kind, dtype):
    image = made(tmp_path / "a", kind, dtype)
    layout = read_layout(tmp_path / "a")
    written = write_box(tmp_path / "a", layout, [0] * image.ndim, image)
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], image)
    assert {name: size for name, (size, _) in written.items()} == {
        p.relative_to(tmp_path / "a").as_posix(): p.stat().st_size for p in (tmp_path / "a/c").rglob("*") if p.is_file()
    }


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_what_zarr_writes_is_read_pixel_for_pixel(tmp_path, kind, dtype):
    image = made(tmp_path / "a", kind, dtype)
    zarr.open_array(tmp_path / "a", mode="r+").with_config({"write_empty_chunks": True})[...] = image
    layout = read_layout(tmp_path / "a")
    assert np.array_equal(read_box(tmp_path / "a", layout, [(0, side) for side in image.shape]), image)


SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: slice(min(ends), max(ends)))
ANY = st.one_of(st.integers(-30, 29), SPAN, st.just(slice(None)), st.just(slice(None, None, 2)))


@settings(max_examples=100, deadline=None)
@given(selection=st.one_of(st.tuples(st.integers(-2, 1), ANY, ANY), ANY, st.just(...), st.just((..., slice(3, 9)))))
def test_a_selection_is_what_numpy_gives(tmp_path_factory, selection):
    folder = tmp_path_factory.getbasetemp() / "selected"
    kind = {"shape": (2, 41, 30), "chunk": (1, 8, 8), "shard": (1, 16, 16), "dimension_names": "cyx"}
    image = np.arange(2 * 41 * 30, dtype="uint16").reshape(2, 41, 30)
    if not folder.exists():
        create_array(folder, dtype=image.dtype, **kind)
        write_box(folder, read_layout(folder), (0, 0, 0), image)
    try:
        wanted = image[selection]
    except IndexError:
        with pytest.raises(IndexError):
            StoredArray(folder)[selection]
        return
    got = StoredArray(folder)[selection]
    assert got.shape == wanted.shape and got.dtype == image.dtype and np.array_equal(got, wanted)


def test_a_layout_that_mihc_does_not_write_is_left_to_zarr(tmp_path):
    image = np.arange(600, dtype="uint16").reshape(20, 30)
    for number, compressors in enumerate([None, zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()]):
        path = tmp_path / str(number)
        zarr.create_array(path, data=image, chunks=(8, 8), compressors=compressors)
        assert layout_of(json.loads((path / "zarr.json").read_text())) is None
        assert np.array_equal(StoredArray(path)[3:9, ::2], image[3:9, ::2])
        with pytest.raises(ValueError, match="no array of mihc's"):
            read_layout(path)


def test_S3_every_flipped_bit_and_every_cut_of_a_small_shard_is_told(tmp_path):
    kind = {"shape": (1, 16, 16), "chunk": (1, 8, 8), "shard": (1, 16, 16), "dimension_names": "cyx"}
    image = made(tmp_path / "a", kind, "uint16")
    write_box(tmp_path / "a", read_layout(tmp_path / "a"), (0, 0, 0), image)
    shard = tmp_path / "a/c/0/0/0"
    good = shard.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(bad)
        with pytest.raises(DamagedError, match="checksum"):
            StoredArray(tmp_path / "a")[...]
    for length in range(1, len(good)):
        shard.write_bytes(good[:length])
        with pytest.raises(DamagedError):
            StoredArray(tmp_path / "a")[...]


def test_S4_a_chunk_left_out_of_a_shard_is_never_read_as_zeros(tmp_path):
    kind = {"shape": (1, 16, 16), "chunk": (1, 8, 8), "shard": (1, 16, 16), "dimension_names": "cyx"}
    create_array(tmp_path / "a", dtype=np.dtype("uint16"), **kind)
    part = np.zeros((1, 16, 16), "uint16")
    part[0, :8, :8] = 7
    array = zarr.open_array(tmp_path / "a", mode="r+").with_config({"write_empty_chunks": False})
    array[...] = part  # zarr leaves the chunks of zeros out
    assert StoredArray(tmp_path / "a")[0, :8, :8].tolist() == part[0, :8, :8].tolist()
    with pytest.raises(DamagedError, match="missing in its shard"):
        StoredArray(tmp_path / "a")[...]
