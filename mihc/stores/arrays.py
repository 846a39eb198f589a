"""Zarr v3 arrays on disk: made with checksums, written in whole shards, read only when every chunk is there.

zarr takes a chunk file that is missing for zeros, so every chunk is written, also an empty one, and presence is
checked when an array is opened. zarr describes the arrays; the bytes of their chunks are made in `mihc.stores.chunks`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from mihc.errors import DamagedError
from mihc.stores.chunks import Spans, layout_of, read_box


class AsideStore(LocalStore):
    """A store that writes each file under its own name at once.

    LocalStore writes to a long temporary name and renames. Here everything is written aside anyway, and the temporary
    name would be longer than some file systems take.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write one file."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one file."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.as_buffer_like())


def create_array(
    path: Path,
    *,
    shape: Sequence[int],
    dtype: np.dtype,
    chunk: Sequence[int],
    shard: Sequence[int] | None,
    dimension_names: Sequence[str],
) -> None:
    """Make an empty array of zeros; images in shards, labels in plain chunks."""
    codec = (
        BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=dtype.itemsize)
        if shard
        else ZstdCodec(level=1)
    )
    zarr.create_array(
        AsideStore(path),
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(chunk),
        shards=tuple(shard) if shard else None,
        compressors=[codec, Crc32cCodec()],
        fill_value=0,
        dimension_names=list(dimension_names),
    )


class StoredArray:
    """A committed array: sliced like numpy, every read checked, damage told instead of zeros."""

    def __init__(self, path: Path):
        self.path = path
        try:
            metadata = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
            self._layout = layout_of(metadata)
            self._array = zarr.open_array(LocalStore(path, read_only=True), mode="r")
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise _damaged(path, "zarr.json cannot be read") from error
        self.shape: tuple[int, ...] = self._array.shape
        self.dtype: np.dtype = self._array.dtype
        self.chunks: tuple[int, ...] = self._array.chunks
        missing = missing_chunks(path, self.shape, tuple(self._array.shards or self._array.chunks))
        if missing:
            raise _damaged(path, f"chunk {missing[0]} is missing or empty ({len(missing)} in all)")

    @cached_property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes when decoded."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, selection: object) -> np.ndarray:
        box = _box(selection, self.shape) if self._layout else None
        try:
            if box is None:
                return np.asarray(self._array[selection])
            spans, single = box
            return read_box(self.path, self._layout, spans)[tuple(0 if one else slice(None) for one in single)]
        except IndexError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise _damaged(self.path, f"a chunk does not match its checksum ({error})") from error

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]


def _box(selection: object, shape: tuple[int, ...]) -> tuple[Spans, list[bool]] | None:
    """(start, stop) of each axis, and which axes go away; None for what is no box of whole numbers and plain slices."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    if Ellipsis in [part for part in parts if part is Ellipsis]:
        at = next(number for number, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) + 1 - len(parts))
    parts += [slice(None)] * (len(shape) - len(parts))
    spans, single = [], []
    for part, length in zip(parts, shape):
        one = isinstance(part, (int, np.integer)) and -length <= part < length
        if one:
            start, stop, step = int(part) % length, int(part) % length + 1, 1
        elif isinstance(part, slice):
            start, stop, step = part.indices(length)
        else:
            return None
        if step != 1:
            return None
        spans.append((start, max(start, stop)))
        single.append(one)
    return (spans, single) if len(parts) == len(shape) else None


def missing_chunks(path: Path, shape: Sequence[int], unit: Sequence[int]) -> list[str]:
    """The chunk files that the array's shape asks for and that are absent or empty."""
    counts = [-(-length // side) for length, side in zip(shape, unit)]
    there = set(_filled_files(path / "c", "c", len(counts)))
    keys = ("/".join(("c", *map(str, index))) for index in itertools.product(*map(range, counts)))
    return [key for key in keys if key not in there]


def _filled_files(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if depth > 1 and entry.is_dir():
                yield from _filled_files(folder / entry.name, f"{prefix}/{entry.name}", depth - 1)
            elif depth == 1 and entry.stat().st_size:
                yield f"{prefix}/{entry.name}"


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(what, place=str(path), fix="Type: mihc verify STUDY --repair")


def read_group(path: Path) -> dict:
    """The `ome` attributes of a group's zarr.json."""
    try:
        return json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, "this is no OME-Zarr 0.5 group") from error
