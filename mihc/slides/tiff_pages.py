"""The skeleton of a TIFF: its pages, parsed once their chain is known to be sound."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from mihc.errors import SlideError
from mihc.slides.codecs import NAMES
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
from mihc.slides.tiff_chain import walk_chain

COPY_AGAIN = "Copy or export the slide again."
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 10_000.0}  # inch, centimetre
_OFFSETS, _COUNTS = (324, 273, 513), (325, 279, 514)
_USED = (270, 282, 283, 285, 296, 305, 330, 347)  # description, resolution, page name, software, SubIFDs, JPEG tables
_COLOURED = {2: "RGB", 3: "palette colours", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}


@dataclass(frozen=True)
class TiffSkeleton:
    """A TIFF's parsed pages; no pixel has been read."""

    path: Path
    pages: tuple[tifffile.TiffPage, ...]
    size: int  # bytes of the file
    byteorder: str  # "<" | ">"
    big: bool
    listed: tuple[tuple[int, int], ...]  # per page: how many offsets and byte counts its tags hold

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
    count = walk_chain(path)
    try:
        with _quiet_tifffile(), tifffile.TiffFile(path) as tif:
            tif.pages.useframes = False
            size, big = path.stat().st_size, bool(tif.is_bigtiff)
            pages, listed = zip(*(_load(tif.pages[index]) for index in range(count)))
            skeleton = TiffSkeleton(path, pages, size, tif.byteorder, big, listed)
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


def _load(page: tifffile.TiffPage) -> tuple[tifffile.TiffPage, tuple[int, int]]:
    """The page with the tags that are used in memory, so that the file can be closed; its tables as arrays."""
    if page.compression == 7 and page.dataoffsets:
        _ = page.is_jfif  # asked for when the decoder is built, from the file
    listed = []
    for codes in (_OFFSETS, _COUNTS):
        tags = [page.tags[code] for code in codes if code in page.tags]
        listed.append(tags[0].count if tags else 0)
        for tag in tags:  # a slide's tables as tuples would need ten times the room
            del page.tags[tag.code]
    page.dataoffsets = np.asarray(page.dataoffsets, np.uint64)
    page.databytecounts = np.asarray(page.databytecounts, np.uint64)
    _ = [page.tags.valueof(code) for code in _USED]
    _ = page.description, page.jpegtables, page.subifds
    return page, (listed[0], listed[1])


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
    both = min(len(offsets), len(counts))
    starts, lengths = (np.asarray(values[:both], np.uint64) for values in (offsets, counts))
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


def page_refusal(page: tifffile.TiffPage, *, palette_is_display: bool = False) -> Refusal | None:
    """Why a page cannot be a channel's plane, from its tags alone; None when it can.

    `palette_is_display` is for ImageJ, whose colour tables only say how to show intensities.
    """
    if page.photometric in _COLOURED and not (page.photometric == 3 and palette_is_display):
        return brightfield_refusal(_COLOURED[page.photometric])
    if page.photometric == 0:
        return Refusal("pixels are inverted (photometric MINISWHITE)", "Export it with black as zero.")
    if page.dtype is None or page.bitspersample not in (8, 16, 32, 64):
        bits = f"{page.bitspersample} bit{'s' if page.bitspersample != 1 else ''} a sample"
        return Refusal(f"intensities of {bits} are not supported", "Export it with 8 or 16 bits.")
    if page.compression not in NAMES:
        name = getattr(page.compression, "name", str(page.compression)).lower()
        return Refusal(f"compression “{name}” is not supported", "Export it with deflate, LZW or zstd.")
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
    compression = NAMES.get(page.compression, str(page.compression))
    order = "big-endian" if skeleton.byteorder == ">" else "little-endian"
    return {"compression": compression, "layout": layout, "byte order": order}
