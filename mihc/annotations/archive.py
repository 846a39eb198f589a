"""Zip files from strangers: read in memory, with caps, and never unpacked to the disk."""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib

from mihc.errors import AnnotationError

MOST_MEMBERS = 10_000
MOST_MEMBER_BYTES = 64 * 10**6
MOST_BYTES = 512 * 10**6
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ELSEWHERE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\\")
_LITTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")


def read_members(content: bytes, place: str, *, suffix: str) -> tuple[list[tuple[str, bytes]], int]:
    """Return (name, bytes) of every member with a suffix, in the order of the zip, and how many others there are.

    Folders and what file browsers leave behind are passed over.

    Raises
    ------
    AnnotationError
        It is no zip, is damaged or encrypted, has more than 10,000 members, one of more than 64 MB or 512 MB in all
        (counted while they are unpacked, whatever it declares), or a name that leads elsewhere: absolute, with "..",
        a symbolic link.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check(members, place)
            wanted = [member for member in members if not _LITTER.search(member.filename)]
            chosen = [member for member in wanted if member.filename.casefold().endswith(suffix)]
            return _unpacked(archive, chosen, place), len(wanted) - len(chosen)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise AnnotationError(
            f"not a whole zip: {str(error)[:80]}", place=place, fix="Save the set of ROIs in ImageJ again."
        ) from None


def _check(members: list[zipfile.ZipInfo], place: str) -> None:
    if len(members) > MOST_MEMBERS:
        raise _too_much(f"{len(members)} files", place)
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if _ELSEWHERE.search(member.orig_filename) or kind not in (0, stat.S_IFREG):
            raise AnnotationError(
                f"a member that leads elsewhere: {member.orig_filename[:60]!r}",
                place=place,
                fix="Save the set of ROIs in ImageJ again; do not use this file if a stranger sent it.",
            )
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            raise AnnotationError(
                f"a member packed in a way that ImageJ does not use: {member.orig_filename[:60]!r}",
                place=place,
                fix="Save the set of ROIs in ImageJ again.",
            )


def _unpacked(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], place: str) -> list[tuple[str, bytes]]:
    found, total = [], 0
    for member in members:
        with archive.open(member) as packed:
            content = packed.read(MOST_MEMBER_BYTES + 1)
        total += len(content)
        if len(content) > MOST_MEMBER_BYTES or total > MOST_BYTES:
            raise _too_much(
                f"more than {MOST_MEMBER_BYTES // 10**6} MB in one file or {MOST_BYTES // 10**6} in all", place
            )
        found.append((member.filename, content))
    return found


def _too_much(what: str, place: str) -> AnnotationError:
    return AnnotationError(
        f"the zip holds {what}: too much for regions", place=place, fix="Save the slide's regions only."
    )
