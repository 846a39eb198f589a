"""study.toml changed in one place, everything else as it was typed: comments, order, spaces.

The lines that hold a key are found by reading them; whatever comes of it is read again and compared with what was
meant, so that a file written in an unusual way is refused, and never spoilt.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping

from mihc.errors import InputError

FILE = "study.toml"
_HEADER = re.compile(r"\s*\[")
Value = str | Mapping[str, str]


def with_key(text: str, section: str, key: str, value: Value) -> str:
    """Set one key of a section of study.toml; a mapping is written as one line.

    Raises
    ------
    InputError
        When the text is no TOML, or is written in a way in which the key cannot be set by itself.
    """
    meant = _read(text)
    meant.setdefault(section, {})[key] = dict(value) if isinstance(value, Mapping) else value
    line = f"{_name(key)} = {_value(value)}"
    lines = text.split("\n")
    start, end = _section(lines, section)
    if start < 0:
        lines = [*_without_blank_end(lines), "", f"[{section}]", line, ""]
    else:
        found = _extents(lines, start, end).get(key)
        first, last = found or (start, start)
        lines[first:last] = [line + _comment(lines[first:last])]
    return _checked("\n".join(lines), meant, f"[{section}] {key}")


def with_table(text: str, section: str, entries: Mapping[str, str]) -> str:
    """Set all keys of a section of study.toml, texts only; keys that were there and are not in `entries` go.

    The section's name may have dots. Raises as `with_key`.
    """
    meant = _read(text)
    *above, last = section.split(".")
    inner = meant
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = dict(entries)
    written = [f"{_name(key)} = {_value(value)}" for key, value in entries.items()]
    lines = text.split("\n")
    start, end = _section(lines, section)
    if start < 0:
        lines = [*_without_blank_end(lines), "", f"[{section}]", *written, ""]
    else:
        taken = {k for first, last in _extents(lines, start, end).values() for k in range(first, last)}
        kept = [line for k, line in enumerate(lines[start:end], start) if k not in taken]
        lines[start:end] = [*written, *kept]
    return _checked("\n".join(lines), meant, f"[{section}]")


def _read(text: str) -> dict:
    try:
        return copy.deepcopy(tomllib.loads(text))
    except ValueError as error:
        raise InputError(f"is not valid TOML: {error}", place=FILE, fix="Repair it in a text editor.") from None


def _section(lines: list[str], section: str) -> tuple[int, int]:
    """The lines after a section's header, up to the next header; (-1, -1) where there is none."""
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?$")
    start = next((k + 1 for k, line in enumerate(lines) if header.match(line)), -1)
    if start < 0:
        return -1, -1
    end = next((k for k in range(start, len(lines)) if _HEADER.match(lines[k])), len(lines))
    return start, end


def _extents(lines: list[str], start: int, end: int) -> dict[str, tuple[int, int]]:
    """The lines of every key of a section: key -> (first, last + 1)."""
    found, k = {}, start
    while k < end:
        for last in range(k + 1, end + 1):
            try:
                read = tomllib.loads("\n".join(lines[k:last]))
            except ValueError:
                continue
            if read:
                found[next(iter(read))] = (k, last)
            k = last
            break
        else:
            k += 1
    return found


def _comment(lines: list[str]) -> str:
    """The comment at the end of a key's only line, with the spaces before it."""
    if len(lines) != 1:
        return ""
    for place in (match.start() for match in re.finditer("#", lines[0])):
        try:
            if tomllib.loads(lines[0][:place]):
                before = lines[0][:place]
                return before[len(before.rstrip()) :] + lines[0][place:]
        except ValueError:
            continue
    return ""


def _without_blank_end(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    inner = ", ".join(f"{_name(key)} = {_value(one)}" for key, one in value.items())
    return f"{{ {inner} }}" if inner else "{}"


def _checked(text: str, meant: dict, where: str) -> str:
    try:
        is_meant = tomllib.loads(text) == meant
    except ValueError:
        is_meant = False
    if not is_meant:
        raise InputError(
            f"{where} cannot be changed here, as the file is written in a way of its own",
            place=FILE,
            fix="Change it in a text editor.",
        )
    return text
