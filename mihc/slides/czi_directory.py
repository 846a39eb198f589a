"""The directory of a CZI: every stored rectangle, checked against the file before libCZI touches it.

Segment layout as in ZEISS's published description (DirectoryEntryDV, DimensionEntryDV1). libCZI trusts the directory
and may crash on one that lies; here each entry must lie inside the file and agree with its subblock's own header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mihc.slides.codecs import jpegxr_size, zstd_bytes
from mihc.slides.contents import MAX_SIDE_PX, unreadable

MAX_ENTRIES = 2_000_000
_SEGMENT = struct.Struct("<16sqq")  # name, room, used
_ENTRY = struct.Struct("<2siqiiB5xi")  # schema, pixel type, position, file part, compression, pyramid, dimensions
_DIMENSION = struct.Struct("<4siifi")  # name, start, size, start coordinate, stored size
_SUBBLOCK = struct.Struct("<iiq")  # sizes of metadata, attachment and data
_DIRECTORY_POSITION = 32 + 52  # in the file header's segment
_MAX_DIMENSIONS = 40
_FIXED_BYTES = 256  # of a subblock before its metadata, at least
_PEEK_BYTES = 1024  # enough for the header of a compressed picture
_BUFFER_BYTES = 1 << 14  # a subblock's header, metadata and first pixels in one read: each costs a trip to the server
UNCOMPRESSED, JPEG_XR, ZSTD0, ZSTD1 = 0, 4, 5, 6
_PIXEL_BYTES = {"Gray8": 1, "Gray16": 2, "Gray32Float": 4, "Bgr24": 3, "Bgr48": 6}
_PIXEL_TYPES = {
    0: "Gray8", 1: "Gray16", 2: "Gray32Float", 3: "Bgr24", 4: "Bgr48", 8: "Bgr96Float", 9: "Bgra32", 12: "Gray32",
}  # fmt: skip


@dataclass(frozen=True)
class Subblock:
    """One stored rectangle of one plane, as the directory lists it."""

    position: dict[str, int]  # dimension -> index, for example {"C": 0, "S": 1}
    x: int
    y: int
    width: int
    height: int
    shrink: int  # 1 = full resolution, 2 = half, ...
    stored_width: int
    stored_height: int
    pixel_type: str
    compression: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) in the file's coordinates, which may be negative."""
        return self.x, self.y, self.x + self.width, self.y + self.height


def read_directory(path: Path) -> list[Subblock]:
    """Every subblock of a CZI.

    Raises
    ------
    SlideError
        when the file is truncated, or an entry lies outside it or contradicts its subblock
    """
    size = path.stat().st_size
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        file.seek(_DIRECTORY_POSITION)
        start = int.from_bytes(file.read(8), "little", signed=True)
        data, count = _directory_bytes(file, path, start, size)
        blocks, at = [], 0
        for number in range(count):
            block, length, where = _entry(data, at, number, path)
            start, stored = _check_subblock(file, path, data[at : at + length], where, size, number)
            _check_pixels(file, path, block, start, stored, number)
            blocks.append(block)
            at += length
    if data[at : at + 2] == b"DV":
        raise unreadable(path, f"a damaged CZI: its directory counts {count} subblocks and lists more")
    return blocks


def _directory_bytes(file: BinaryIO, path: Path, start: int, size: int) -> tuple[bytes, int]:
    if not 0 < start <= size - _SEGMENT.size - 128:
        raise unreadable(path, f"truncated: the CZI directory at offset {start} lies beyond file size {size}")
    file.seek(start)
    name, _, used = _SEGMENT.unpack(file.read(_SEGMENT.size))
    if name.rstrip(b"\0") != b"ZISRAWDIRECTORY":
        raise unreadable(path, "a damaged CZI: its header does not point to its directory")
    count = int.from_bytes(file.read(4), "little", signed=True)
    if not 0 <= count <= MAX_ENTRIES or start + _SEGMENT.size + used > size:
        raise unreadable(path, f"truncated: the CZI directory lists {count} subblocks beyond file size {size}")
    file.seek(124, 1)
    return file.read(max(0, used - 128)), count


def _entry(data: bytes, at: int, number: int, path: Path) -> tuple[Subblock, int, int]:
    """One entry: the subblock, the entry's length and the subblock's place in the file."""
    try:
        schema, kind, where, part, compression, _, dimensions = _ENTRY.unpack_from(data, at)
        if schema != b"DV" or not 2 <= dimensions <= _MAX_DIMENSIONS:
            raise unreadable(path, f"a damaged CZI: subblock {number} has no valid directory entry")
        rows = [_DIMENSION.unpack_from(data, at + _ENTRY.size + i * _DIMENSION.size) for i in range(dimensions)]
    except struct.error as error:
        raise unreadable(path, f"a damaged CZI: its directory ends before subblock {number}") from error
    if part != 0:
        raise unreadable(path, "a CZI of several files", "Export the slide as one file.")
    named = {name.rstrip(b"\0").decode("latin-1"): (start, size, stored) for name, start, size, _, stored in rows}
    if not {"X", "Y"} <= set(named):
        raise unreadable(path, f"a damaged CZI: subblock {number} has no X or Y")
    return _subblock(named, kind, compression, number, path), _ENTRY.size + dimensions * _DIMENSION.size, where


def _subblock(named: dict[str, tuple[int, int, int]], kind: int, compression: int, number: int, path: Path) -> Subblock:
    (x, width, stored_width), (y, height, stored_height) = named.pop("X"), named.pop("Y")
    stored_width, stored_height = stored_width or width, stored_height or height
    if not (0 < stored_width <= width <= MAX_SIDE_PX and 0 < stored_height <= height <= MAX_SIDE_PX):
        raise unreadable(path, f"a damaged CZI: subblock {number} is {width} x {height} px")
    if max(abs(x), abs(y)) > 1 << 30:
        raise unreadable(path, f"a damaged CZI: subblock {number} lies at ({x}, {y})")
    return Subblock(
        position={name: start for name, (start, _, _) in named.items()},
        x=x,
        y=y,
        width=width,
        height=height,
        shrink=max(1, round(width / stored_width)),
        stored_width=stored_width,
        stored_height=stored_height,
        pixel_type=_PIXEL_TYPES.get(kind, f"type {kind}"),
        compression=compression,
    )


def _check_subblock(file: BinaryIO, path: Path, entry: bytes, where: int, size: int, number: int) -> tuple[int, int]:
    """The subblock's own header must repeat the directory's entry, and its data must lie inside the file.

    Returns where its pixels start, and their bytes.
    """
    head = _SEGMENT.size + _SUBBLOCK.size + len(entry)
    if not 0 < where <= size - head:
        raise unreadable(path, f"truncated: subblock {number} at offset {where} lies beyond file size {size}")
    file.seek(where)
    data = file.read(head)
    name, _, used = _SEGMENT.unpack_from(data)
    metadata, attachment, pixels = _SUBBLOCK.unpack_from(data, _SEGMENT.size)
    if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK" or not _same_entry(entry, data[-len(entry) :]):
        raise unreadable(path, f"a damaged CZI: subblock {number} is not what the directory says of it")
    start = where + _SEGMENT.size + max(_FIXED_BYTES, _SUBBLOCK.size + len(entry)) + metadata
    if min(metadata, attachment, pixels, used) < 0 or start + pixels + attachment > size:
        raise unreadable(path, f"truncated: subblock {number} at offset {where} has pixels beyond file size {size}")
    return start, pixels


def _check_pixels(file: BinaryIO, path: Path, block: Subblock, start: int, stored: int, number: int) -> None:
    """What is stored must have the size that the directory says: libCZI fills what is short with black."""
    needed = block.stored_width * block.stored_height * _PIXEL_BYTES.get(block.pixel_type, 0)
    if not needed:
        return
    found: int | None = stored
    if block.compression != UNCOMPRESSED:
        file.seek(start)
        found = _declared_bytes(file.read(min(stored, _PEEK_BYTES)), block)
    if found is not None and (found < needed if block.compression == UNCOMPRESSED else found != needed):
        text = f"subblock {number} holds {found} bytes of pixels, {needed} are needed"
        raise unreadable(path, f"a damaged CZI: {text}")


def _declared_bytes(data: bytes, block: Subblock) -> int | None:
    """Bytes that come out of a compressed subblock, as its own header says; None when it says nothing."""
    if block.compression == JPEG_XR:
        size = jpegxr_size(data)
        return None if size is None else size[0] * size[1] * _PIXEL_BYTES[block.pixel_type]
    if block.compression == ZSTD1:
        return zstd_bytes(data[data[0] :]) if data else 0
    return zstd_bytes(data) if block.compression == ZSTD0 else None


def _same_entry(first: bytes, second: bytes) -> bool:
    """Equal pixel type, compression and dimensions; the position and spare bytes may differ between writers."""
    a, b = _ENTRY.unpack_from(first), _ENTRY.unpack_from(second)
    return (a[0], a[1], a[4], a[6]) == (b[0], b[1], b[4], b[6]) and first[_ENTRY.size :] == second[_ENTRY.size :]
