"""The chain of a TIFF's page directories, walked by itself before a parser trusts it.

A chain that is cut or circular would otherwise be read as a file with fewer pages, that is, with missing channels; a
directory may ask for more memory than the file is worth.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mihc.slides.contents import unreadable

MAX_PAGES = 20_000
MAX_TAGS = 4096  # in one directory
MAX_TAG_BYTES = 256 << 20  # in all directories together: 16 million tiles
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class TiffDialect:
    """How a TIFF writes its numbers."""

    order: str  # "<" | ">"
    big: bool

    @property
    def count_format(self) -> str:
        """The number of entries of a directory."""
        return self.order + ("Q" if self.big else "H")

    @property
    def pointer_format(self) -> str:
        """An offset in the file."""
        return self.order + ("Q" if self.big else "I")

    @property
    def entry_bytes(self) -> int:
        """The length of one entry."""
        return 20 if self.big else 12


def walk_chain(path: Path) -> int:
    """The number of pages, from the chain of directories alone.

    Raises
    ------
    SlideError
        when the chain is cut, circular or endless, or its directories exceed the limits
    """
    size = path.stat().st_size
    seen: set[int] = set()
    tag_bytes = 0
    with path.open("rb") as file:
        dialect, offset = _start(file, path)
        while offset:
            if offset in seen:
                raise unreadable(path, f"circular chain of pages: page {len(seen)} points back to offset {offset}")
            if len(seen) >= MAX_PAGES:
                raise unreadable(path, f"more than {MAX_PAGES} pages, which exceeds the limit")
            page = len(seen)
            seen.add(offset)
            entries, offset = _directory(file, path, size, page, offset, dialect)
            tag_bytes += sum(_value_bytes(entries, dialect, size))
            if tag_bytes > MAX_TAG_BYTES:
                raise unreadable(path, f"the tags of its pages exceed the limit of {MAX_TAG_BYTES} bytes")
    if not seen:
        raise unreadable(path, "a TIFF without pages")
    return len(seen)


def _start(file: BinaryIO, path: Path) -> tuple[TiffDialect, int]:
    header = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None or len(header) < 8:
        raise unreadable(path, "is not a TIFF")
    dialect = TiffDialect(order, struct.unpack(order + "H", header[2:4])[0] == 43)
    start = 8 if dialect.big else 4
    width = struct.calcsize(dialect.pointer_format)
    if len(header) < start + width:
        raise unreadable(path, "truncated: a TIFF that ends in its header")
    return dialect, struct.unpack_from(dialect.pointer_format, header, start)[0]


def _directory(
    file: BinaryIO, path: Path, size: int, page: int, offset: int, dialect: TiffDialect
) -> tuple[bytes, int]:
    """The entries of one directory, and the offset of the next."""
    head, width = struct.calcsize(dialect.count_format), struct.calcsize(dialect.pointer_format)
    if offset + head > size:
        raise unreadable(path, f"truncated: page {page} offset {offset} lies beyond file size {size}")
    file.seek(offset)
    count = struct.unpack(dialect.count_format, file.read(head))[0]
    length = count * dialect.entry_bytes
    if offset + head + length + width > size:
        raise unreadable(path, f"truncated: page {page} at offset {offset} ends beyond file size {size}")
    if count > MAX_TAGS:
        raise unreadable(path, f"page {page} has {count} tags, which exceeds the limit of {MAX_TAGS}")
    data = file.read(length + width)
    return data[:length], struct.unpack_from(dialect.pointer_format, data, length)[0]


def _value_bytes(entries: bytes, dialect: TiffDialect, size: int) -> Iterator[int]:
    """The bytes that the values of each entry fill; what cannot lie in the file is the parser's to refuse."""
    for at in range(0, len(entries), dialect.entry_bytes):
        _, kind = struct.unpack_from(dialect.order + "HH", entries, at)
        count = struct.unpack_from(dialect.pointer_format, entries, at + 4)[0]
        claimed = count * _BYTES.get(kind, 1)
        yield claimed if claimed <= size else 0


def open_descriptor(path: Path) -> int:
    """A read-only file descriptor, binary on every system."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
