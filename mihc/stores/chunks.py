"""The bytes of chunks and shards of the zarr v3 arrays that mihc writes, made and read in the calling thread.

zarr-python hands the chunks of all threads to one event loop, which costs half as much as the codecs do; here each
thread works on its own. What lies on the disk is zarr's: zarr describes it (`create_array`) and zarr reads it (the
tests). crc32c follows the compressor, so that no byte of a chunk can change unseen.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import imagecodecs
import numpy as np

Spans = Sequence[tuple[int, int]]  # (start, stop) of each axis
Written = dict[str, tuple[int, str]]  # (bytes, sha256) of each file, by its name in the array's or image's folder

IN_PLACE = "in_place"  # attribute of an array whose chunks are a slide's own files: see `mihc.stores.in_place`
_CRC_BYTES = 4
_ABSENT = 2**64 - 1  # in a shard's index: no such chunk


@dataclass(frozen=True)
class Layout:
    """How an array lies on the disk."""

    shape: tuple[int, ...]
    dtype: np.dtype  # little-endian
    chunk: tuple[int, ...]  # what is compressed and read as one
    unit: tuple[int, ...]  # what one file holds and one task writes: a shard, or a chunk where there are none
    sharded: bool
    codec: str  # "blosc" | "zstd"


def layout_of(metadata: dict) -> Layout | None:
    """The layout that a zarr.json tells; None for one that mihc does not write, which zarr has to read.

    Raises
    ------
    KeyError, TypeError, ValueError
        the metadata is no zarr v3 array's
    """
    if metadata.get("attributes", {}).get(IN_PLACE):
        return None
    unit = tuple(int(side) for side in metadata["chunk_grid"]["configuration"]["chunk_shape"])
    shape, codecs, chunk = tuple(int(side) for side in metadata["shape"]), metadata["codecs"], unit
    sharded = [codec["name"] for codec in codecs] == ["sharding_indexed"]
    if sharded:
        settings = codecs[0]["configuration"]
        chunk, codecs = tuple(int(side) for side in settings["chunk_shape"]), settings["codecs"]
        plain_index = [codec["name"] for codec in settings["index_codecs"]] == ["bytes", "crc32c"]
        if settings.get("index_location", "end") != "end" or not plain_index:
            return None
    names = [codec["name"] for codec in codecs]
    keys = metadata["chunk_key_encoding"]
    default = keys["name"] == "default" and keys.get("configuration", {}).get("separator", "/") == "/"
    little = codecs[0].get("configuration", {}).get("endian", "little") == "little"
    if not default or not little or len(names) != 3 or names[::2] != ["bytes", "crc32c"]:
        return None
    if names[1] not in ("blosc", "zstd"):
        return None
    dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
    return Layout(shape, dtype, chunk, unit, sharded, names[1])


def is_checked_when_read(folder: Path) -> bool:
    """Whether every chunk of an array carries a checksum of its own; False where the metadata cannot be read."""
    try:
        return layout_of(json.loads((folder / "zarr.json").read_text(encoding="utf-8"))) is not None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def read_layout(folder: Path) -> Layout:
    """The layout of an array that mihc is writing."""
    layout = layout_of(json.loads((folder / "zarr.json").read_text(encoding="utf-8")))
    if layout is None:
        raise ValueError(f"{folder.name} is no array of mihc's")
    return layout


def check_aligned(layout: Layout, y0: int, x0: int, height: int, width: int) -> None:
    """Refuse a window that would share a shard with another one: such writes lose data without a word."""
    for start, length, unit, end in zip((y0, x0), (height, width), layout.unit[-2:], layout.shape[-2:]):
        whole = start % unit == 0 and (length % unit == 0 or start + length == end) and start + length <= end
        if not whole:
            raise ValueError(f"a window from {start} of {length} pixels does not fill whole blocks of {unit} to {end}")


def boxes(shape_yx: Sequence[int], side_yx: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """(y0, y1, x0, x1) of every write unit of a plane, row by row."""
    (height, width), (side_y, side_x) = shape_yx, side_yx
    for y0, x0 in itertools.product(range(0, height, side_y), range(0, width, side_x)):
        yield y0, min(y0 + side_y, height), x0, min(x0 + side_x, width)


def write_box(folder: Path, layout: Layout, start: Sequence[int], block: np.ndarray) -> Written:
    """Write a block that fills whole units (up to the array's edge) from `start` on; each file in one piece.

    Returns
    -------
    the files, relative to the array's folder
    """
    written: Written = {}
    spans = [(at, at + length) for at, length in zip(start, block.shape, strict=True)]
    for index in _touched(spans, layout.unit):
        part = tuple(
            slice(at * side - begin, min((at + 1) * side, end) - begin)
            for at, side, (begin, end) in zip(index, layout.unit, spans)
        )
        data = _shard(block[part], layout) if layout.sharded else _packed(block[part], layout)
        name = _key(index)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written[name] = (len(data), hashlib.sha256(data).hexdigest())
    return written


def read_box(folder: Path, layout: Layout, spans: Spans) -> np.ndarray:
    """The pixels of a box inside the array.

    Raises
    ------
    FileNotFoundError, ValueError
        a chunk is missing, or does not match its checksum
    """
    out = np.empty([stop - start for start, stop in spans], layout.dtype.newbyteorder("="))
    for index in _touched(spans, layout.unit):
        inside = [
            (max(start, at * side), min(stop, (at + 1) * side))
            for at, side, (start, stop) in zip(index, layout.unit, spans)
        ]
        with (folder / _key(index)).open("rb") as file:
            places = _index(file, layout) if layout.sharded else None
            for chunk in _touched(inside, layout.chunk):
                data = file.read() if places is None else _chunk_bytes(file, places, chunk)
                _place(out, spans, _unpacked(data, layout), [at * side for at, side in zip(chunk, layout.chunk)])
    return out


def _touched(spans: Spans, sides: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(start // side, -(-stop // side)) for (start, stop), side in zip(spans, sides)))


def _key(index: Sequence[int]) -> str:
    return "/".join(("c", *map(str, index)))


def _place(out: np.ndarray, spans: Spans, pixels: np.ndarray, origin: Sequence[int]) -> None:
    """Copy the part of a chunk at `origin` that lies in the box."""
    to, part = [], []
    for (start, stop), at, length in zip(spans, origin, pixels.shape):
        first, last = max(start, at), min(stop, at + length)
        to.append(slice(first - start, last - start))
        part.append(slice(first - at, last - at))
    out[tuple(to)] = pixels[tuple(part)]


def _shard(block: np.ndarray, layout: Layout) -> bytes:
    """One shard: its chunks in C order, then where each lies. Chunks wholly beyond the array's edge are left out."""
    grid = [unit // side for unit, side in zip(layout.unit, layout.chunk)]
    places = np.full((*grid, 2), _ABSENT, "<u8")
    parts, at = [], 0
    for chunk in _touched([(0, length) for length in block.shape], layout.chunk):
        data = _packed(
            block[tuple(slice(i * side, (i + 1) * side) for i, side in zip(chunk, layout.chunk))],
            layout,
        )
        places[chunk] = at, len(data)
        parts.append(data)
        at += len(data)
    index = places.tobytes()
    return b"".join([*parts, index, _crc(index)])


def _packed(pixels: np.ndarray, layout: Layout) -> bytes:
    """One chunk, padded with zeros to its full size."""
    whole = np.ascontiguousarray(pixels, layout.dtype)
    if whole.shape != layout.chunk:
        whole = np.zeros(layout.chunk, layout.dtype)
        whole[tuple(map(slice, pixels.shape))] = pixels
    if layout.codec == "zstd":
        data = imagecodecs.zstd_encode(whole, level=1)
    else:
        data = imagecodecs.blosc_encode(
            whole, level=1, compressor="zstd", shuffle="bitshuffle", typesize=layout.dtype.itemsize, numthreads=1
        )
    return bytes(data) + _crc(data)


def _unpacked(data: bytes, layout: Layout) -> np.ndarray:
    body = memoryview(data)[:-_CRC_BYTES]
    if len(data) <= _CRC_BYTES or _crc(bytes(body)) != data[-_CRC_BYTES:]:
        raise ValueError("a chunk's crc32c is not that of its bytes")
    try:
        raw = imagecodecs.zstd_decode(body) if layout.codec == "zstd" else imagecodecs.blosc_decode(body, numthreads=1)
    except RuntimeError as error:
        raise ValueError(f"a chunk cannot be decoded: {error}") from error
    return np.frombuffer(raw, layout.dtype).reshape(layout.chunk)


def _index(file: BinaryIO, layout: Layout) -> np.ndarray:
    """Where the chunks of a shard lie: (*grid, 2) of offset and bytes, the grid of the whole array's chunk numbers."""
    grid = [unit // side for unit, side in zip(layout.unit, layout.chunk)]
    size = 16 * int(np.prod(grid))
    file.seek(0, 2)
    if file.tell() < size + _CRC_BYTES:
        raise ValueError("a shard is too short for its index")
    file.seek(-size - _CRC_BYTES, 2)
    data = file.read(size + _CRC_BYTES)
    if _crc(data[:size]) != data[size:]:
        raise ValueError("a shard's index does not match its crc32c")
    return np.frombuffer(data, "<u8", count=size // 8).reshape(*grid, 2)


def _chunk_bytes(file: BinaryIO, places: np.ndarray, chunk: Sequence[int]) -> bytes:
    offset, size = (int(number) for number in places[tuple(i % n for i, n in zip(chunk, places.shape))])
    if offset == _ABSENT:
        raise ValueError("a chunk is missing in its shard")
    file.seek(offset)
    return file.read(size)


def _crc(data: bytes) -> bytes:
    return google_crc32c.value(bytes(data)).to_bytes(_CRC_BYTES, "little")
