"""Content hashes of slides, so that a slide of gigabytes is read again only when it may have changed.

A time stamp alone never proves that a file is unchanged: the hash is reused only when size, both times and the inode
of every file are those of the last time, and when the file had been at rest for a while by then.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from mihc.errors import InputError
from mihc.stores.files import hash_file, hash_json, replace_file

_AT_REST_NS = 5_000_000_000  # coarse clocks of file systems: a change within them would show no new time


def fingerprint(path: Path) -> str:
    """What changes whenever an input's files do: a hash of their names, sizes, times and inodes."""
    return _fingerprint(path)[0]


def check_unchanged(path: Path, before: str) -> None:
    """Refuse an input whose fingerprint is no longer what it was.

    Raises
    ------
    InputError
        somebody wrote to it meanwhile
    """
    if fingerprint(path) != before:
        raise InputError("changed while reading", place=path.name, fix="Wait until it is copied whole, then run again.")


def hash_input(path: Path, cache: Path) -> str:
    """sha256 of a file's bytes, or of a folder's names and bytes.

    Raises
    ------
    InputError
        the input changed while it was read
    """
    note = cache / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]}.json"
    before, newest = _fingerprint(path)
    known = _read_note(note)
    if known.get("fingerprint") == before:
        return str(known["sha256"])
    began = time.time_ns()
    digest = _hash_folder(path) if path.is_dir() else hash_file(path)
    check_unchanged(path, before)
    if began - newest > _AT_REST_NS:
        cache.mkdir(parents=True, exist_ok=True)
        replace_file(note, json.dumps({"fingerprint": before, "sha256": digest}).encode(), shared=True)
    return digest


def _fingerprint(path: Path) -> tuple[str, int]:
    """Hash of the names, sizes, times and inodes; the newest time in ns."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    facts, newest = [], 0
    for file in files:
        stat = file.stat()
        facts.append([file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
    return hash_json(facts), newest


def _hash_folder(path: Path) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return hash_json([[file.relative_to(path).as_posix(), hash_file(file)] for file in files])


def _read_note(note: Path) -> dict[str, str]:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "sha256" in known else {}
