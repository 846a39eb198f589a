"""The pyramid in a page's SubIFDs: its shapes, and whether the file holds it whole."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
import tifffile

from mihc.slides.contents import unreadable
from mihc.slides.tiff_chain import MAX_TAG_BYTES
from mihc.slides.tiff_pages import TiffSkeleton, require_inside

MAX_LEVELS = 64
_SIZES = {3: "u2", 4: "u4", 16: "u8", 13: "u4", 18: "u8"}  # SHORT, LONG, LONG8, IFD, IFD8
_WIDTH, _HEIGHT, _OFFSETS, _COUNTS = 256, 257, (273, 324), (279, 325)
_WANTED = frozenset({_WIDTH, _HEIGHT, *_OFFSETS, *_COUNTS})


def sub_levels(skeleton: TiffSkeleton, page: tifffile.TiffPage) -> tuple[tuple[int, int], ...]:
    """(y, x) of each pyramid level under a page; a level that the file does not hold whole is refused."""
    shapes = []
    if len(page.subifds or ()) > MAX_LEVELS:
        text = f"page {page.index} has {len(page.subifds)} pyramid levels, which exceeds the limit of {MAX_LEVELS}"
        raise unreadable(skeleton.path, text)
    with skeleton.path.open("rb") as file:
        for number, offset in enumerate(page.subifds or ()):
            what = f"page {page.index}, pyramid level {number + 1},"
            try:
                tags = _tags(file, skeleton, offset)
                shapes.append((int(tags[_HEIGHT][0]), int(tags[_WIDTH][0])))
            except (struct.error, KeyError, IndexError, OverflowError, ValueError) as error:
                text = f"truncated: {what} offset {offset} ends beyond file size {skeleton.size}"
                raise unreadable(skeleton.path, text) from error
            for offsets, counts in zip(_OFFSETS, _COUNTS):
                if offsets in tags and counts in tags:
                    require_inside(skeleton, tags[offsets], tags[counts], what)
    return tuple(shapes)


def _tags(file: BinaryIO, skeleton: TiffSkeleton, offset: int) -> dict[int, np.ndarray]:
    """The wanted integer tags of one directory."""
    order = skeleton.byteorder
    head, entry = (order + "Q", 20) if skeleton.big else (order + "H", 12)
    file.seek(offset)
    count = struct.unpack(head, file.read(struct.calcsize(head)))[0]
    data = file.read(min(count, 4096) * entry)
    if len(data) < count * entry:
        raise struct.error("directory cut off")
    tags = {}
    for at in range(0, len(data), entry):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in _WANTED and kind in _SIZES:
            tags[tag] = _values(file, skeleton, data[at + 4 : at + entry], _SIZES[kind])
    return tags


def _values(file: BinaryIO, skeleton: TiffSkeleton, field: bytes, kind: str) -> np.ndarray:
    """A tag's numbers, in the entry itself or where it points."""
    order, pointer = skeleton.byteorder, "Q" if skeleton.big else "I"
    width = struct.calcsize(pointer)
    count = struct.unpack_from(order + pointer, field)[0]
    dtype = np.dtype(order + kind)
    if count * dtype.itemsize <= width:
        return np.frombuffer(field, dtype, count, width)
    at = struct.unpack_from(order + pointer, field, width)[0]
    if at + count * dtype.itemsize > skeleton.size or count * dtype.itemsize > MAX_TAG_BYTES:
        raise struct.error("values cut off")
    file.seek(at)
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)
