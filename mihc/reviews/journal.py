"""review/<reviewer>/<slide>/journal.jsonl: one line per gesture, forced to the disk before the gesture counts as done.

Lines are added and never changed; an undo is a line too, and so is a redo. Each line carries a hash of itself and of
the line before, so that a line that was changed, lost or put elsewhere is noticed. A last line that a kill tore is no
line: it is passed over by readers and cut off by the next writer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mihc.errors import DamagedError, OutputConflict, ResourceError, UsageError
from mihc.stores.files import size_of, sync_folder, told_plainly
from mihc.stores.locks import Lock

FOLDER, FILE = "review", "journal.jsonl"
GESTURES = ("threshold", "merge", "split", "delete", "add", "redraw", "region", "accept", "undo", "redo")
CELL_GESTURES = GESTURES[1:6]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHECK = 16  # hex digits of a line's hash
_TAKEN = frozenset({"classifier"})  # a folder beside the reviewers' own


@dataclass(frozen=True)
class Line:
    """One gesture of a reviewer on a slide."""

    number: int  # from 1, without a gap
    when: str  # UTC, ISO 8601
    who: str
    gesture: str  # of GESTURES
    content: dict  # by gesture; plain JSON


def reviewer_name(text: str) -> str:
    """`text` if it can name a reviewer, and so a folder.

    Raises
    ------
    UsageError
        When it holds anything but letters, digits, - and _, or is too long, or is not a person's.
    """
    if not _NAME.fullmatch(text) or text.casefold() in _TAKEN:
        raise UsageError(
            f"{text!r} cannot be a reviewer's name", fix="Write letters, digits, - and _ only, at most 64 of them."
        )
    return text


def journal_file(folder: Path, reviewer: str, slide: str) -> Path:
    """Where a reviewer's journal of a slide lies in a study folder."""
    return folder / FOLDER / reviewer_name(reviewer) / slide / FILE


def read_journal(path: Path) -> list[Line]:
    """Read a journal; none gives no lines.

    Raises
    ------
    DamagedError
        When a line before the last is not what was written.
    """
    return _parse(path)[0]


class Journal:
    """A journal that this process may write to, until it is closed; one writer at a time."""

    def __init__(self, folder: Path, reviewer: str, slide: str) -> None:
        self.path, self.who = journal_file(folder, reviewer, slide), reviewer
        with told_plainly(folder / FOLDER):
            (folder / FOLDER / ".locks").mkdir(parents=True, exist_ok=True)
            self._lock = Lock(folder / FOLDER / ".locks" / f"{reviewer}.{slide}")
        try:
            self.lines, self._size, self._check = _parse(self.path)
            self._there = size_of(self.path) or 0  # bytes of the file as this process knows it
        except BaseException:
            self._lock.release()
            raise
        self._tried = b""  # a line that could not be written, of which any part may be in the file

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in."""
        self._lock.release()

    def add(self, gesture: str, content: Mapping[str, object]) -> Line:
        """Write a gesture and wait until it is on the disk; when this returns, no kill can lose it.

        Lines that somebody took from the file meanwhile are written again.

        Raises
        ------
        ResourceError
            When it cannot be written; the journal is then as it was.
        OutputConflict
            When the folder may not be written to, or somebody else wrote to the journal; it is left as it is then.
        """
        if gesture not in GESTURES:
            raise ValueError(f"there is no gesture {gesture!r}")
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = Line(len(self.lines) + 1, when, self.who, gesture, json.loads(json.dumps(content, allow_nan=False)))
        data, check = _encoded(line, self._check)
        if not self._lock.still_ours():
            raise self._conflict("its lock was taken away while it was open")
        try:
            with told_plainly(self.path.parents[2]):
                self._append(data)
        except OSError as error:
            raise ResourceError(
                f"the gesture could not be written ({error.strerror}) and does not count; all before it are kept",
                place=str(self.path),
                fix="Look after the disk, then do it again.",
            ) from error
        self.lines.append(line)
        self._size, self._check = self._size + len(data), check
        self._there, self._tried = self._size, b""
        return line

    def _append(self, data: bytes) -> None:
        there = size_of(self.path)
        start = self._size if (there or 0) == self._there and not self._tried else self._taken_up()
        missing = b"" if start == self._size else self._bytes()[start:]
        self._tried = missing + data
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab" if there is None else "r+b", buffering=0) as file:
            file.truncate(start)  # what a kill tore
            file.seek(start)
            try:
                _write_all(file.fileno(), missing + data)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(start)
                raise
        if there is None:
            for folder in self.path.parents[:4]:  # the slide's, the reviewer's, review/ and the study's
                sync_folder(folder)

    def _taken_up(self) -> int:
        """How far a file that is not as this process left it holds what it should; else OutputConflict."""
        found = self.path.read_bytes() if self.path.exists() else b""
        mine = self._bytes()
        if mine.startswith(found):
            return found.rfind(b"\n") + 1
        more = found[len(mine) :]
        if found.startswith(mine) and (b"\n" not in more or self._tried.startswith(more)):
            return len(mine)
        raise self._conflict("another program wrote to it while it was open")

    def _bytes(self) -> bytes:
        """All lines as the file should hold them."""
        pieces, check = [], ""
        for line in self.lines:
            data, check = _encoded(line, check)
            pieces.append(data)
        return b"".join(pieces)

    def _conflict(self, what: str) -> OutputConflict:
        return OutputConflict(what, place=str(self.path), fix="Open the slide again: what the file holds is taken up.")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _parse(path: Path) -> tuple[list[Line], int, str]:
    """The whole lines, the bytes that they take, and the hash of the last."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0, ""
    lines, size, check = [], 0, ""
    pieces = data.split(b"\n")
    whole = pieces[:-1]  # what follows the last end of a line is torn, or nothing
    for number, piece in enumerate(whole, 1):
        line = _line(piece, number, check)
        if line is None and number == len(whole) and pieces[-1] == b"" and not _is_json(piece):
            break  # the system lengthened the file, and the power failed before the bytes came
        if line is None:
            raise DamagedError(
                f"line {number} is not what was written",
                place=str(path),
                fix=f"Put a copy of the file back, or keep its first {number - 1} lines in a new one.",
            )
        lines.append(line)
        size, check = size + len(piece) + 1, json.loads(piece)["check"]
    return lines, size, check


def _line(piece: bytes, number: int, before: str) -> Line | None:
    try:
        content = json.loads(piece)
        line = Line(content["n"], content["when"], content["who"], content["gesture"], content["what"])
    except (ValueError, LookupError, TypeError):
        return None
    fits = line.number == number and line.gesture in GESTURES and isinstance(line.content, dict)
    return line if fits and content.get("check") == _hash(before, line) else None


def _is_json(piece: bytes) -> bool:
    try:
        return isinstance(json.loads(piece), dict)
    except ValueError:
        return False


def _encoded(line: Line, before: str) -> tuple[bytes, str]:
    """A line as the file holds it, and its hash."""
    check = _hash(before, line)
    return (json.dumps(_as_json(line) | {"check": check}, separators=(",", ":")) + "\n").encode(), check


def _as_json(line: Line) -> dict:
    return {"n": line.number, "when": line.when, "who": line.who, "gesture": line.gesture, "what": line.content}


def _hash(before: str, line: Line) -> str:
    text = json.dumps(_as_json(line), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256((before + text).encode()).hexdigest()[:_CHECK]
