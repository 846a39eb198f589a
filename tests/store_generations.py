"""Two generations of a small stage, and a disk that fails at a chosen step."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from mihc.store import Store, write_text

PRIMITIVES = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")


class Killed(BaseException):
    """The process is dead: nothing it would still do happens."""


class Faults:
    """Counts the steps that change the disk's names or force bytes to it, and fails at the k-th (and all after)."""

    def __init__(self, monkeypatch, *, at=None, error=Killed, forever=True):
        self.count, self.at, self.error, self.forever, self.lock = 0, at, error, forever, threading.Lock()
        for name in PRIMITIVES:
            monkeypatch.setattr(os, name, self._faulty(getattr(os, name), real=name != "fsync"))

    def _faulty(self, function, *, real):
        def step(*args, **keywords):
            with self.lock:
                self.count += 1
                now = self.count
            if self.at is not None and (now == self.at or (self.forever and now > self.at)):
                raise self.error
            return function(*args, **keywords) if real else None

        return step


def write_generation(store: Store, number: int) -> None:
    """Three files and a folder in one stage; the second generation drops one file and changes the others."""
    with store.transaction("table", {"input": str(number)}) as transaction:
        write_text(transaction.path("regions.csv"), f"generation\n{number}\n")
        figures = transaction.path("figures")
        for picture in range(number, number + 2):
            write_text(figures / f"p{picture}.svg", f"picture {picture} of {number}")
        if number == 1:
            write_text(transaction.path("old_only.csv"), "generation\n1\n")
        transaction.notes["number"] = number


def visible(folder: Path) -> dict[str, str]:
    """Every file that a person sees, with its text."""
    paths = (p for p in folder.rglob("*") if p.is_file() and not p.relative_to(folder).parts[0].startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_text() for p in paths}


def leave_locks_dead(folder: Path) -> None:
    """Make every lock that of a process that has ended."""
    for owner in (folder / ".locks").glob("*/owner.json"):
        content = json.loads(owner.read_text())
        owner.write_text(json.dumps({**content, "started": "1"}))


def assert_old_or_new(folder: Path, generations: dict[int, dict[str, str]]) -> int:
    store = Store(folder)
    record = store.record("table")
    number = record.notes["number"] if record else 0
    assert visible(folder) == generations[number]
    assert store.verify() == []
    assert list((folder / ".tmp").iterdir()) == []
    return number


def reference_generations(folder: Path) -> dict[int, dict[str, str]]:
    """What is visible of no generation, of the first and of the second, written undisturbed."""
    found = {0: {}}
    for number in (1, 2):
        store = Store(folder / f"reference{number}")
        write_generation(store, number)
        found[number] = visible(store.folder)
    return found
