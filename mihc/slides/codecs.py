"""Which compressions of a TIFF are decoded, and how large a compressed tile says it is.

A TIFF's codecs of bytes (deflate, LZW, zstd, ...) are told how many bytes may come out. Codecs of pictures, and
libCZI, make room for what the tile itself declares, so that is looked at first.
"""

from __future__ import annotations

import struct

NAMES = {
    1: "none", 5: "lzw", 7: "jpeg", 8: "deflate", 32773: "packbits", 32946: "deflate", 33003: "jpeg2000",
    33004: "jpeg2000", 33005: "jpeg2000", 34712: "jpeg2000", 34925: "lzma", 50000: "zstd",
}  # fmt: skip
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_WMPHOTO = b"WMPHOTO\0"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, followed by its size segment


def declared_size(data: bytes, compression: int) -> tuple[int, int] | None:
    """(rows, columns) that a compressed picture declares; None for codecs of bytes, or when nothing is declared."""
    if NAMES.get(compression) == "jpeg":
        return _jpeg_size(data)
    if NAMES.get(compression) == "jpeg2000":
        return _jpeg2000_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the first frame header; segments before it are skipped by their lengths."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            return struct.unpack_from(">HH", data, at + 5)
        fill = marker == 0xFF
        at += 1 if fill else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    at = data.find(_SIZ)
    if at < 0 or at + 24 > len(data):
        return None
    x1, y1, x0, y0 = struct.unpack_from(">IIII", data, at + 8)
    return y1 - y0, x1 - x0


def jpegxr_size(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG XR picture's codestream; None when it is not among the first bytes."""
    at = data.find(_WMPHOTO)
    if at < 0 or at + 20 > len(data):
        return None
    short = bool(data[at + 10] & 0x80)
    columns, rows = struct.unpack_from(">HH" if short else ">II", data, at + 12)
    return rows + 1, columns + 1


def zstd_bytes(data: bytes) -> int | None:
    """Bytes that a zstd frame declares to hold; None when it declares none or is no frame."""
    if len(data) < 18 or not data.startswith(_ZSTD):
        return None
    kind, single, dictionary = data[4] >> 6, data[4] >> 5 & 1, data[4] & 3
    at = 5 + (not single) + (0, 1, 2, 4)[dictionary]
    if kind == 0:
        return data[at] if single else None
    width = (0, 2, 4, 8)[kind]
    return int.from_bytes(data[at : at + width], "little") + (256 if kind == 1 else 0)
