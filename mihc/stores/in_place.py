"""A slide that is an OME-Zarr already: its pixels get a second name in the store instead of a copy.

Level 0 is made of hard links to the slide's own chunk files under metadata of mihc's. So the stored image is whole,
opens anywhere and holds no path of the slide, and of the slide nothing changes but the number of its files' names. The
levels above are always mihc's own, so that no result depends on who made the slide's pyramid. See docs/decisions.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mihc.stores.chunks import IN_PLACE

if TYPE_CHECKING:
    import zarr

SIDES = (256, 4096)  # pixels: smallest and largest side of what one read decodes; beyond, windows or viewers are slow
_CODECS = {"bytes", "blosc", "zstd", "gzip", "crc32c"}
_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


@dataclass(frozen=True)
class Chunked:
    """An array whose chunk files can be taken as they are."""

    array: zarr.Array
    folder: Path
    axes: tuple[str, ...]  # t, c, z, y, x or some of them
    unit_yx: tuple[int, int]  # pixels of one file
    codecs: list[dict]  # as zarr v3 tells them for axes c, y, x


def takable(array: zarr.Array, folder: Path, axes: Sequence[str]) -> Chunked | None:
    """The array if its chunk files can be taken as they are, else None.

    It has to have: one time point and one focal plane, chunks of one channel and of 256 to 4096 pixels a side, pixels
    in C order, and only the codecs bytes, blosc, zstd, gzip, crc32c and sharding_indexed (zarr v2: blosc, zstd, gzip or
    none, without filters).
    """
    lengths = dict(zip(axes, array.shape, strict=True))
    files, reads = (dict(zip(axes, sides)) for sides in (array.shards or array.chunks, array.chunks))
    single = all(lengths.get(axis, 1) == files.get(axis, 1) == 1 for axis in "tz") and files.get("c", 1) == 1
    ordered = [axis for axis in axes if axis in "cyx"] in (["c", "y", "x"], ["y", "x"])
    sized = all(min(lengths[axis], SIDES[0]) <= reads[axis] <= SIDES[1] for axis in "yx")
    if not (single and ordered and sized):
        return None
    try:
        version = array.metadata.zarr_format
        codecs = _codecs_of_v2(folder, array.dtype.itemsize) if version == 2 else _codecs_of_v3(folder, axes)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return Chunked(array, folder, tuple(axes), (files["y"], files["x"]), codecs) if codecs else None


def _codecs_of_v2(folder: Path, itemsize: int) -> list[dict] | None:
    told = json.loads((folder / ".zarray").read_text(encoding="utf-8"))
    compressor = told["compressor"] or {"id": ""}
    if told.get("filters") or told["order"] != "C":
        return None
    order = {"<": "little", ">": "big", "|": ""}[told["dtype"][0]]
    plain = [{"name": "bytes", "configuration": {"endian": order}} if order else {"name": "bytes"}]
    if compressor["id"] == "blosc":
        shuffle = compressor.get("shuffle", 1)
        automatic = "bitshuffle" if itemsize == 1 else "shuffle"
        settings = {name: compressor.get(name, 0) for name in ("cname", "clevel", "blocksize")}
        settings |= {"shuffle": _SHUFFLES.get(shuffle, automatic), "typesize": itemsize}
        return [*plain, {"name": "blosc", "configuration": settings}]
    if compressor["id"] == "zstd":
        settings = {"level": compressor.get("level", 0), "checksum": bool(compressor.get("checksum", False))}
        return [*plain, {"name": "zstd", "configuration": settings}]
    if compressor["id"] == "gzip":
        return [*plain, {"name": "gzip", "configuration": {"level": compressor.get("level", 1)}}]
    return plain if compressor["id"] == "" else None


def _codecs_of_v3(folder: Path, axes: Sequence[str]) -> list[dict] | None:
    codecs = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["codecs"]
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        settings = codecs[0]["configuration"]
        sides = dict(zip(axes, settings["chunk_shape"]))
        inner = {codec["name"] for codec in (*settings["codecs"], *settings["index_codecs"])}
        three = [1, sides["y"], sides["x"]]
        whole = all(side == 1 for axis, side in sides.items() if axis in "tcz")
        codecs = [{"name": "sharding_indexed", "configuration": {**settings, "chunk_shape": three}}]
        return codecs if whole and inner <= _CODECS else None
    return codecs if {codec["name"] for codec in codecs} <= _CODECS else None


def take(chunked: Chunked, folder: Path, channels: Sequence[int]) -> bool:
    """Make `folder` level 0 of an image of some channels, in their order, out of links to the slide's chunk files.

    Returns
    -------
    False where the file system or this user's rights allow no links: then `folder` is as it was
    """
    lengths = dict(zip(chunked.axes, chunked.array.shape))
    shape_yx = lengths["y"], lengths["x"]
    former = (folder / "zarr.json").read_bytes()
    try:
        for source, target in _names(chunked, shape_yx, channels):
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            if (chunked.folder / source).is_symlink():
                raise OSError("a link to a link would hold a path")
            os.link(chunked.folder / source, folder / target)
    except OSError:
        shutil.rmtree(folder / "c", ignore_errors=True)
        return False
    told = json.loads(former)
    unit = [1, *chunked.unit_yx]
    told |= {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": unit}}, "codecs": chunked.codecs}
    told["attributes"] = {IN_PLACE: True}
    (folder / "zarr.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    return True


def _names(chunked: Chunked, shape_yx: Sequence[int], channels: Sequence[int]) -> Iterator[tuple[str, str]]:
    """(file of the slide's array, file of the store's) of every chunk of the channels."""
    counts = [range(-(-length // side)) for length, side in zip(shape_yx, chunked.unit_yx)]
    for plane, channel in enumerate(channels):
        for y, x in itertools.product(*counts):
            at: Mapping[str, int] = {"t": 0, "c": channel, "z": 0, "y": y, "x": x}
            source = chunked.array.metadata.encode_chunk_key(tuple(at[axis] for axis in chunked.axes))
            yield source, f"c/{plane}/{y}/{x}"
