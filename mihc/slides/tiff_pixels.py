"""Tiles and strips of a TIFF, read and decoded where a window needs them.

Each segment is read with one positioned read and decoded in the calling thread: the codecs release the interpreter
lock, so that windows read from several threads decode in parallel.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from mihc.slides.codecs import declared_size
from mihc.slides.contents import unreadable
from mihc.slides.tiff_chain import open_descriptor
from mihc.slides.tiff_pages import strip_rows

CACHE_BYTES = 320 << 20  # decoded strips that neighbouring windows share; in every process that decodes
_WIDE_PX = 4096  # a segment at least this wide outlives the window that decoded it


@dataclass(frozen=True)
class TiffPlane:
    """Where one channel's plane lies."""

    page: tifffile.TiffPage
    offsets: np.ndarray
    counts: np.ndarray
    sample: int = 0  # of a page with several samples a pixel
    shift: int = 0  # bytes after the page's own data (ImageJ stacks have one page for all planes)

    @property
    def segment_rows(self) -> int:
        """Rows of a tile or strip."""
        return self.page.tilelength if self.page.is_tiled else strip_rows(self.page)

    @property
    def segment_columns(self) -> int:
        """Columns of a tile or strip."""
        return self.page.tilewidth if self.page.is_tiled else self.page.imagewidth

    @property
    def raw_rows(self) -> bool:
        """Whether rows of pixels lie in the file as they are."""
        page = self.page
        return page.compression == 1 and not page.is_tiled and page.predictor == 1 and page.fillorder == 1

    def segment(self, row: int, column: int) -> int:
        """The number of a tile or strip."""
        across = -(-self.page.imagewidth // self.segment_columns)
        down = -(-self.page.imagelength // self.segment_rows)
        plane = self.sample if self.page.planarconfig == 2 else 0
        return (plane * down + row) * across + column


def decode_segment(path: Path, plane: TiffPlane, index: int, data: bytes) -> np.ndarray:
    """One tile or strip as (rows, columns, samples).

    Raises
    ------
    SlideError
        when it cannot be decoded, or says that it holds another size than its page
    """
    page = plane.page
    what = f"{'tile' if page.is_tiled else 'strip'} {index} of page {page.index}"
    size = declared_size(data, page.compression)
    if size is not None and size != (rows_of(plane, index), plane.segment_columns):
        raise unreadable(path, f"{what} is damaged: it declares {size[1]} x {size[0]} px")
    try:
        pixels, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
    except Exception as error:  # codecs raise their own types
        raise unreadable(path, f"{what} is damaged: {error}") from error
    if pixels is None or pixels.ndim != 4:
        raise unreadable(path, f"{what} is damaged: nothing comes out of it")
    return pixels[0]


def rows_of(plane: TiffPlane, index: int) -> int:
    """Rows that a tile or strip holds; the last strip may be shorter."""
    if plane.page.is_tiled:
        return plane.segment_rows
    down = -(-plane.page.imagelength // plane.segment_rows)
    return min(plane.segment_rows, plane.page.imagelength - index % down * plane.segment_rows)


class TiffPixels:
    """Pixels of planes[channel][z], read from several threads at once."""

    def __init__(self, path: Path, planes: Sequence[Sequence[TiffPlane]]):
        self._path, self._planes = path, planes
        self._file = open_descriptor(path)
        self._lock = threading.Lock()
        self._cache = _SegmentCache(CACHE_BYTES)
        first = planes[0][0].page
        self._dtype = first.dtype.newbyteorder("=")
        _ = [plane.page.decode for channel in planes for plane in channel]  # built once, before threads ask for it

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, channels: Sequence[int], y0: int, y1: int, x0: int, x1: int, z: int) -> np.ndarray:
        """Pixels (len(channels), y1 - y0, x1 - x0)."""
        out = np.empty((len(channels), y1 - y0, x1 - x0), self._dtype)
        together: dict[tuple[int, int, int], list[tuple[int, TiffPlane]]] = {}
        for at, channel in enumerate(channels):
            plane = self._planes[channel][z]
            sample = plane.sample if plane.page.planarconfig == 2 else 0
            together.setdefault((id(plane.page), plane.shift, sample), []).append((at, plane))
        for group in together.values():
            if group[0][1].raw_rows:
                self._read_rows(group, out, y0, y1, x0, x1)
            else:
                self._read_segments(group, out, y0, y1, x0, x1)
        return out

    def _read_segments(
        self, group: list[tuple[int, TiffPlane]], out: np.ndarray, y0: int, y1: int, x0: int, x1: int
    ) -> None:
        plane = group[0][1]
        rows, columns = plane.segment_rows, plane.segment_columns
        for row in range(y0 // rows, -(-y1 // rows)):
            for column in range(x0 // columns, -(-x1 // columns)):
                pixels = self._decoded(plane, plane.segment(row, column))
                top, left = row * rows, column * columns
                ya, yb = max(y0, top), min(y1, top + rows)
                xa, xb = max(x0, left), min(x1, left + columns)
                part = pixels[ya - top : yb - top, xa - left : xb - left]
                for at, member in group:
                    sample = member.sample if member.page.planarconfig == 1 else 0
                    out[at, ya - y0 : yb - y0, xa - x0 : xb - x0] = part[..., sample]

    def _decoded(self, plane: TiffPlane, index: int) -> np.ndarray:
        """One segment as (rows, columns, samples)."""
        wide = plane.segment_columns >= _WIDE_PX or not plane.page.is_tiled
        key = (id(plane.page), index)
        if wide and (kept := self._cache.get(key)) is not None:
            return kept
        data = self._pread(int(plane.offsets[index]), int(plane.counts[index]))
        pixels = decode_segment(self._path, plane, index, data)
        if wide:
            self._cache.put(key, pixels)
        return pixels

    def _read_rows(
        self, group: list[tuple[int, TiffPlane]], out: np.ndarray, y0: int, y1: int, x0: int, x1: int
    ) -> None:
        plane = group[0][1]
        page, rows = plane.page, plane.segment_rows
        samples = page.samplesperpixel if page.planarconfig == 1 else 1
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        pixel = samples * dtype.itemsize
        for y, count in _row_runs(y0, y1, rows, whole=x0 == 0 and x1 == page.imagewidth):
            start = int(plane.offsets[plane.segment(y // rows, 0)]) + plane.shift
            start += (y % rows * page.imagewidth + x0) * pixel
            data = self._pread(start, count * (x1 - x0) * pixel)
            pixels = np.frombuffer(data, dtype).reshape(count, x1 - x0, samples)
            for at, member in group:
                sample = member.sample if page.planarconfig == 1 else 0
                out[at, y - y0 : y - y0 + count] = pixels[..., sample]

    def _pread(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            data = os.pread(self._file, count, offset)
        else:  # Windows has one position per file
            with self._lock:
                os.lseek(self._file, offset, os.SEEK_SET)
                data = os.read(self._file, count)
        if len(data) != count:
            raise unreadable(self._path, f"truncated or changed while reading: {count} bytes needed at offset {offset}")
        return data


def _row_runs(y0: int, y1: int, rows: int, *, whole: bool) -> list[tuple[int, int]]:
    """(first row, number of rows) that one read can fetch: a strip's rows when whole, single rows otherwise."""
    if not whole:
        return [(y, 1) for y in range(y0, y1)]
    starts = [y0, *range((y0 // rows + 1) * rows, y1, rows)]
    return [(start, min(y1, (start // rows + 1) * rows) - start) for start in starts]


class _SegmentCache:
    """The most recently used decoded segments, up to a number of bytes."""

    def __init__(self, limit: int):
        self._limit, self._bytes = limit, 0
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: tuple[int, int], pixels: np.ndarray) -> None:
        with self._lock:
            if key in self._kept or pixels.nbytes > self._limit:
                return
            self._kept[key] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.nbytes
