"""The footer of a parquet file as plain values: Thrift's compact protocol, read and written.

A struct is a dict, field number -> (kind, value), in the order of the fields; a list is (kind, values). What this file
does not know of parquet it hands on as it was: https://github.com/apache/thrift/blob/master/doc/specs/
thrift-compact-protocol.md, and parquet.thrift for what the numbers mean.
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
WHOLE_NUMBERS = frozenset({I16, I32, I64})
LONG = 15  # from so many values on the length of a list stands in bytes of its own, and so does a field's number
Struct = dict[int, tuple[int, Any]]


def decode(data: bytes) -> Struct:
    """A struct from its bytes.

    Raises
    ------
    ValueError
        they are none
    """
    try:
        return _struct(data, 0)[0]
    except (IndexError, struct.error) as error:
        raise ValueError("a footer that ends too early") from error


def encode(content: Struct) -> bytes:
    """The bytes of a struct; those that it was decoded from."""
    out = bytearray()
    _write_struct(out, content)
    return bytes(out)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number without sign, seven bits in a byte -> it, and where it ends."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7


def _struct(data: bytes, at: int) -> tuple[Struct, int]:
    found: Struct = {}
    field = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step:
            field += step
        else:
            folded, at = _number(data, at)
            field = folded >> 1 ^ -(folded & 1)
        if kind <= FALSE:  # a truth value is its kind
            found[field] = kind, kind == TRUE
        else:
            value, at = _value(data, at, kind)
            found[field] = kind, value
    return found, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in WHOLE_NUMBERS:
        folded, at = _number(data, at)
        return folded >> 1 ^ -(folded & 1), at
    if kind == BINARY:
        size, at = _number(data, at)
        if at + size > len(data):
            raise IndexError
        return data[at : at + size], at + size
    if kind == STRUCT:
        return _struct(data, at)
    if kind == LIST:
        return _list(data, at)
    if kind <= BYTE:
        return data[at], at + 1
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    raise ValueError(f"a footer with a value of kind {kind}")


def _list(data: bytes, at: int) -> tuple[tuple[int, list[Any]], int]:
    kind, count = data[at] & 15, data[at] >> 4
    at += 1
    if count == LONG:
        count, at = _number(data, at)
    values = []
    for _ in range(count):
        value, at = _value(data, at, kind)
        values.append(value)
    return (kind, values), at


def _write_number(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _write_struct(out: bytearray, content: Struct) -> None:
    last = 0
    for field, (kind, value) in content.items():
        step = field - last
        if 0 < step <= LONG:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _write_value(out, I16, field)
        last = field
        if kind > FALSE:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in WHOLE_NUMBERS:
        _write_number(out, value << 1 if value >= 0 else ~(value << 1))
    elif kind == BINARY:
        _write_number(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind == LIST:
        inner, values = value
        if len(values) < LONG:
            out.append(len(values) << 4 | inner)
        else:
            out.append(LONG << 4 | inner)
            _write_number(out, len(values))
        for one in values:
            _write_value(out, inner, one)
    elif kind == DOUBLE:
        out += value
    else:
        out.append(value)
