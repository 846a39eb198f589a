"""The inventory of an OME-Zarr array's chunks: every one there, in its shard too, before any pixel is used.

zarr reads a chunk that is not there as its fill value: lost pixels would count as glass.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mihc.slides.contents import MAX_SEGMENT_BYTES, Refusal

MAX_CHUNKS = 20_000_000
MAX_ENCODED = 2  # times the decoded size: no codec makes noise larger than that
_ROOM = 1 << 16  # headers and small chunks
_ABSENT = np.uint64(2**64 - 1)
_FIX = "Copy the image again. If its empty chunks were left out, write it with write_empty_chunks=True."


def chunk_refusals(array: Any, folder: Path) -> list[Refusal]:
    """Why the chunks of an array in a folder are not whole; () when they are. Only names, sizes and shard indices are
    looked at."""
    stored = getattr(array, "shards", None) or array.chunks
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_SEGMENT_BYTES:
        return [Refusal(f"chunks of {array.chunks} exceed the limit of {MAX_SEGMENT_BYTES} bytes decoded")]
    grid = [-(-length // size) for length, size in zip(array.shape, stored)]
    if math.prod(grid) > MAX_CHUNKS:
        return [Refusal(f"{math.prod(grid)} chunks exceed the limit of {MAX_CHUNKS}")]
    sizes = _files(folder)
    keys = (array.metadata.encode_chunk_key(at) for at in itertools.product(*map(range, grid)))
    missing = [key for key in keys if not sizes.get(key)]
    if missing:
        return [Refusal(f"missing chunk {missing[0]}: {len(missing)} of {math.prod(grid)} are not there", _FIX)]
    return _contents(array, folder, grid, sizes)


def _contents(array: Any, folder: Path, grid: list[int], sizes: dict[str, int]) -> list[Refusal]:
    stored = getattr(array, "shards", None) or array.chunks
    most = MAX_ENCODED * math.prod(stored) * array.dtype.itemsize + _ROOM
    for at in itertools.product(*map(range, grid)):
        key = array.metadata.encode_chunk_key(at)
        if sizes[key] > most:
            return [Refusal(f"chunk {key} has {sizes[key]} bytes, more than its pixels need")]
        absent = _absent_in_shard(array, folder / key, at) if getattr(array, "shards", None) else 0
        if absent:
            return [Refusal(f"missing chunk in shard {key}: {absent} of its chunks are not there", _FIX)]
    return []


def _files(folder: Path) -> dict[str, int]:
    """Bytes of every file in a folder by its path with "/": one listing a folder, because a stat each is slow."""
    return dict(_walk(folder, ""))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


def _absent_in_shard(array: Any, file: Path, at: tuple[int, ...]) -> int:
    """Chunks of a shard that lie inside the image and that its index does not list.

    The index is a table of (offset, length), 16 bytes a chunk, with a checksum of 4 bytes: the only form that writers
    use. Another form is left to zarr.
    """
    codec = array.metadata.codecs[0]
    if [type(each).__name__ for each in getattr(codec, "index_codecs", ())] != ["BytesCodec", "Crc32cCodec"]:
        return 0
    per_shard = [whole // part for whole, part in zip(array.shards, array.chunks)]
    count = math.prod(per_shard)
    length = 16 * count + 4
    with file.open("rb") as opened:
        if str(getattr(codec.index_location, "value", codec.index_location)) == "end":
            opened.seek(max(0, file.stat().st_size - length))
        index = opened.read(length)
    if len(index) < length:
        return count
    offsets = np.frombuffer(index, "<u8", 2 * count).reshape(*per_shard, 2)[..., 0]
    inside = tuple(
        slice(0, min(parts, -(-(shape - n * shard) // chunk)))
        for parts, shape, n, shard, chunk in zip(per_shard, array.shape, at, array.shards, array.chunks)
    )
    return int(np.count_nonzero(offsets[inside] == _ABSENT))
