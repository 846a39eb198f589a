"""The inventory of a TIFF's tiles and strips: each there once, of the size it must have, before any pixel is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tifffile

from mihc.slides.contents import Refusal
from mihc.slides.tiff_pages import COPY_AGAIN, TiffSkeleton, strip_rows

MAX_SHARED = 1000  # tiles that are stored once and used again


def segment_grid(page: tifffile.TiffPage) -> tuple[int, int, int]:
    """(planes, down, across): how many tiles or strips a page needs."""
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (strip_rows(page), page.imagewidth)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    return planes, -(-page.imagelength // rows), -(-page.imagewidth // columns)


def segment_table(
    skeleton: TiffSkeleton, page: tifffile.TiffPage, what: str
) -> tuple[np.ndarray, np.ndarray] | Refusal:
    """Offsets and byte counts of a page's tiles or strips, each present."""
    offsets, counts = page.dataoffsets, page.databytecounts
    planes, down, across = segment_grid(page)
    kind = "tile" if page.is_tiled else "strip"
    needed = planes * down * across
    listed = [number for number in skeleton.listed[page.index] if number]  # a table that is left out is worked out
    wrong = [number for number in (*listed, len(offsets), len(counts)) if number != needed]
    if wrong:
        return Refusal(f"{what} lists {wrong[0]} {kind}s, {needed} are needed", COPY_AGAIN)
    empty = np.flatnonzero((offsets == 0) | (counts == 0))
    if len(empty):
        y, x = divmod(int(empty[0]) % (across * down), across)
        return Refusal(f"missing {kind} ({x}, {y}) of {what}: {len(empty)} of {needed} have no data", COPY_AGAIN)
    short = np.flatnonzero(counts < raw_bytes(page)) if page.compression == 1 else ()
    if len(short):
        y, x = divmod(int(short[0]) % (across * down), across)
        return Refusal(f"truncated: {kind} ({x}, {y}) of {what} has {int(counts[short[0]])} bytes, more are needed")
    return offsets, counts


def raw_bytes(page: tifffile.TiffPage) -> np.ndarray:
    """Bytes that each uncompressed tile or strip must have at least."""
    planes, down, across = segment_grid(page)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    row = (page.tilewidth if page.is_tiled else page.imagewidth) * samples * page.dtype.itemsize
    if page.is_tiled:
        return np.full(planes * down * across, page.tilelength * row, np.uint64)
    rows = np.full(down, strip_rows(page), np.uint64)
    rows[-1] = page.imagelength - (down - 1) * strip_rows(page)
    return np.tile(rows * np.uint64(row), planes)


def shared_segments(pages: Sequence[tifffile.TiffPage]) -> list[tuple[tifffile.TiffPage, int]] | Refusal:
    """The tiles or strips whose bytes others use too, one of each group.

    A writer may store a blank tile once and point to it again; anything else that is used twice is a tile that is
    missing somewhere. Byte ranges that overlap in part are never right.
    """
    offsets = np.concatenate([page.dataoffsets for page in pages])
    ends = offsets + np.concatenate([page.databytecounts for page in pages])
    order = np.lexsort((ends, offsets))
    offsets, ends = offsets[order], ends[order]
    overlap = np.flatnonzero(offsets[1:] < ends[:-1])
    if not len(overlap):
        return []
    starts = np.cumsum([0, *(len(page.dataoffsets) for page in pages)])
    same = (offsets[overlap] == offsets[overlap + 1]) & (ends[overlap] == ends[overlap + 1])
    if not same.all():
        at = overlap[np.flatnonzero(~same)[0]]
        first, second = (_name(pages, starts, int(order[k])) for k in (at, at + 1))
        return Refusal(f"a damaged TIFF: {first} and {second} overlap in the file", COPY_AGAIN)
    leaders = overlap[(overlap == 0) | (offsets[overlap] != offsets[overlap - 1])]
    if len(leaders) > MAX_SHARED:
        return Refusal(f"a damaged TIFF: {len(leaders)} groups of tiles use the same data", COPY_AGAIN)
    return [_place(pages, starts, int(order[at])) for at in leaders]


def _place(pages: Sequence[tifffile.TiffPage], starts: np.ndarray, at: int) -> tuple[tifffile.TiffPage, int]:
    page = int(np.searchsorted(starts, at, side="right")) - 1
    return pages[page], at - int(starts[page])


def _name(pages: Sequence[tifffile.TiffPage], starts: np.ndarray, at: int) -> str:
    page, index = _place(pages, starts, at)
    return f"{'tile' if page.is_tiled else 'strip'} {index} of page {page.index}"
