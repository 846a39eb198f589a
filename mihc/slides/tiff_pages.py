"""The skeleton of a TIFF: its chain of pages, walked strictly before anything else trusts it.

A chain that is cut or circular would otherwise be read as a file with fewer pages, that is, with missing channels.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from mihc.errors import SlideError
from mihc.slides.contents import (
    MAX_SEGMENT_BYTES,
    MAX_TILE_SIDE_PX,
    PixelSizeClaim,
    Refusal,
    brightfield_refusal,
    size_refusal,
    unreadable,
)
from mihc.slides.pixel_size import resolution_claim

MAX_PAGES = 20_000
COPY_AGAIN = "Copy or export the slide again."
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 10_000.0}  # inch, centimetre
_COLOURED = {2: "RGB", 3: "palette colours", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}


@dataclass(frozen=True)
class TiffSkeleton:
    """A TIFF's parsed pages; no pixel has been read."""

    path: Path
    pages: tuple[tifffile.TiffPage, ...]
    size: int  # bytes of the file
    byteorder: str  # "<" | ">"
    big: bool

    @property
    def description(self) -> str:
        """The first page's ImageDescription."""
        return self.pages[0].description or ""

    @property
    def software(self) -> str:
        """The first page's Software tag."""
        return str(self.pages[0].tags.valueof("Software") or "")


def read_skeleton(path: Path) -> TiffSkeleton:
    """All pages of a TIFF; truncated, circular and endless chains are refused."""
    count = _walk_chain(path)
    try:
        with _quiet_tifffile(), tifffile.TiffFile(path) as tif:
            tif.pages.useframes = False
            pages = tuple(_load(tif.pages[index]) for index in range(count))
            skeleton = TiffSkeleton(path, pages, path.stat().st_size, tif.byteorder, bool(tif.is_bigtiff))
        for page in pages:
            _require_sane(skeleton, page)
            require_inside(skeleton, page.dataoffsets, page.databytecounts, f"page {page.index}")
        return skeleton
    except SlideError:
        raise
    except (OSError, MemoryError) as error:
        raise unreadable(path, f"cannot be read: {error}") from error
    except Exception as error:  # a fuzzed file can raise anything inside the parser
        raise unreadable(path, f"is not a valid TIFF: {_first_line(error)}") from error


def _load(page: tifffile.TiffPage) -> tifffile.TiffPage:
    """The page with every tag in memory, so that the file can be closed."""
    for tag in page.tags:
        _ = tag.value
    _ = page.dataoffsets, page.databytecounts, page.description, page.jpegtables
    return page


def _require_sane(skeleton: TiffSkeleton, page: tifffile.TiffPage) -> None:
    """Tags of the wrong kind make fields that are no positive whole numbers."""
    fields = [page.imagelength, page.imagewidth, page.samplesperpixel, page.imagedepth]
    fields += [page.tilelength, page.tilewidth] if page.is_tiled else []
    if not all(isinstance(field, int) and field >= 0 for field in fields):
        raise unreadable(skeleton.path, f"is not a valid TIFF: page {page.index} has no proper sizes")
    if page.is_tiled and min(page.tilelength, page.tilewidth) < 1:
        raise unreadable(skeleton.path, f"is not a valid TIFF: page {page.index} has tiles of no size")
    if not page.is_tiled and (not isinstance(page.rowsperstrip, int) or page.rowsperstrip < 1):
        raise unreadable(skeleton.path, f"is not a valid TIFF: page {page.index} has strips of no size")


def require_inside(skeleton: TiffSkeleton, offsets: Sequence[int], counts: Sequence[int], what: str) -> None:
    """Refuse a file that ends before the pixels of a page or level do."""
    starts, lengths = (
        np.asarray(list(values)[: min(len(offsets), len(counts))], np.uint64) for values in (offsets, counts)
    )
    ends = starts + lengths
    beyond = np.flatnonzero((ends > skeleton.size) | (ends < starts))
    if len(beyond):
        at = int(starts[beyond[0]])
        raise unreadable(skeleton.path, f"truncated: {what} offset {at} has pixels beyond file size {skeleton.size}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """tifffile logs what it repairs; mihc refuses instead, in its own words."""
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _walk_chain(path: Path) -> int:
    """The number of pages, from the chain of directory offsets alone."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        if order is None or len(header) < 8:
            raise unreadable(path, "is not a TIFF")
        big = struct.unpack(order + "H", header[2:4])[0] == 43
        count_format, entry, next_format = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
        start = 8 if big else 4
        offset = struct.unpack(next_format, header[start : start + struct.calcsize(next_format)])[0]
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise unreadable(path, f"circular chain of pages: page {len(seen)} points back to offset {offset}")
            if len(seen) >= MAX_PAGES:
                raise unreadable(path, f"more than {MAX_PAGES} pages, which exceeds the limit")
            seen.add(offset)
            offset = _next_directory(file, path, size, len(seen) - 1, offset, count_format, entry, next_format)
    if not seen:
        raise unreadable(path, "a TIFF without pages")
    return len(seen)


def _next_directory(
    file: BinaryIO, path: Path, size: int, page: int, offset: int, count_format: str, entry: int, next_format: str
) -> int:
    head = struct.calcsize(count_format)
    if offset + head > size:
        raise unreadable(path, f"truncated: page {page} offset {offset} lies beyond file size {size}")
    file.seek(offset)
    entries = struct.unpack(count_format, file.read(head))[0]
    after = offset + head + entries * entry
    if after + struct.calcsize(next_format) > size:
        raise unreadable(path, f"truncated: page {page} at offset {offset} ends beyond file size {size}")
    file.seek(after)
    return struct.unpack(next_format, file.read(struct.calcsize(next_format)))[0]


def page_refusal(page: tifffile.TiffPage) -> Refusal | None:
    """Why a page cannot be a channel's plane, from its tags alone; None when it can."""
    if page.photometric in _COLOURED:
        return brightfield_refusal(_COLOURED[page.photometric])
    if page.photometric == 0:
        return Refusal("pixels are inverted (photometric MINISWHITE)", "Export it with black as zero.")
    if page.dtype is None or page.bitspersample not in (8, 16, 32, 64):
        return Refusal(f"{page.bitspersample} bits a sample are not supported", "Export it with 8 or 16 bits.")
    if page.imagedepth > 1:
        return Refusal("pages that hold volumes are not supported", "Export one focal plane per page.")
    refusal = size_refusal((1, page.imagelength, page.imagewidth))
    if refusal is not None:
        return refusal
    if page.is_tiled and max(page.tilelength, page.tilewidth) > MAX_TILE_SIDE_PX:
        return Refusal(f"tiles of {page.tilewidth} x {page.tilelength} px exceed the limit of {MAX_TILE_SIDE_PX} px")
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (strip_rows(page), page.imagewidth)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    if page.compression != 1 and rows * columns * samples * page.dtype.itemsize > MAX_SEGMENT_BYTES:
        return Refusal(f"a strip of {columns} x {rows} px exceeds the limit of {MAX_SEGMENT_BYTES} bytes decoded")
    return None


def strip_rows(page: tifffile.TiffPage) -> int:
    """Rows of a full strip."""
    return max(1, min(int(page.rowsperstrip or page.imagelength), page.imagelength))


def segment_table(page: tifffile.TiffPage, what: str) -> tuple[np.ndarray, np.ndarray] | Refusal:
    """Offsets and byte counts of a page's tiles or strips, each present."""
    offsets = np.asarray(page.dataoffsets, np.uint64)
    counts = np.asarray(page.databytecounts, np.uint64)
    height, width = page.imagelength, page.imagewidth
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (strip_rows(page), width)
    across, down = -(-width // columns), -(-height // rows)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    kind = "tile" if page.is_tiled else "strip"
    if len(offsets) != len(counts) or len(offsets) < across * down * planes:
        return Refusal(f"{what} lists {len(offsets)} {kind}s, {across * down * planes} are needed")
    empty = np.flatnonzero((offsets == 0) | (counts == 0))
    if len(empty):
        y, x = divmod(int(empty[0]) % (across * down), across)
        return Refusal(f"missing {kind} ({x}, {y}) of {what}: {len(empty)} of {len(offsets)} have no data", COPY_AGAIN)
    return offsets, counts


def tag_claim(page: tifffile.TiffPage) -> PixelSizeClaim | None:
    """What a page's resolution tags say about the pixel size."""
    unit = _UM_PER_RESOLUTION_UNIT.get(int(page.tags.valueof("ResolutionUnit") or 1))
    return resolution_claim(tag_resolution(page), unit)


def tag_resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Pixels per resolution unit (y, x), None when a tag is missing or zero."""
    values = []
    for name in ("YResolution", "XResolution"):
        value = page.tags.valueof(name)
        if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
            return None
        values.append(value[0] / value[1])
    return values[0], values[1]


def page_facts(skeleton: TiffSkeleton, page: tifffile.TiffPage) -> dict[str, str]:
    """Numbers and codec names of a page for people."""
    layout = f"tiles {page.tilewidth} x {page.tilelength}" if page.is_tiled else f"strips of {strip_rows(page)} rows"
    compression = getattr(page.compression, "name", str(page.compression)).lower()
    order = "big-endian" if skeleton.byteorder == ">" else "little-endian"
    return {"compression": compression, "layout": layout, "byte order": order}


def open_descriptor(path: Path) -> int:
    """A read-only file descriptor, binary on every system."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
