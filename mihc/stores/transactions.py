"""Writing a stage aside and making it visible in one step that no kill can halve.

    .tmp/<id>/                  the new files, in the layout they will have under results/
    .tmp/<id>~<slide>.open      whose that is (the cohort's has no slide)
    .tmp/<id>~<slide>.commit    the journal: with it the transaction is decided, without it it never was
    .tmp/<id>.old/              what the new files replaced, until it is deleted

The journal appears by one atomic rename after every new byte is forced to the disk. From then on the same steps, each
of which may be repeated, lead to the new generation; a process that finds the journal takes them up where they ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mihc.errors import DamagedError, MihcError, OutputConflict
from mihc.stores import files
from mihc.stores.labels import is_labels, refresh_listing
from mihc.stores.locks import is_alive, this_process
from mihc.stores.records import (
    Record,
    forget_record,
    read_record,
    record_path,
    scope_folder,
    void_records,
    write_record,
)

if TYPE_CHECKING:
    from mihc.store import Store

TMP = ".tmp"
OWNER = "owner.json"  # in a transaction's own folder: the process that writes there
_LONG_AGO_S = 86_400.0  # what tells no owner is left alone for a day: clocks of two machines differ by less
SCRATCH = "scratch"  # in a transaction's own folder, beside what it will make visible


class Transaction:
    """One stage being written: files go to `path(...)`; a clean exit of the `with` makes them visible together."""

    def __init__(self, store: Store, stage: str, key: dict[str, str], slide: str):
        files.checked_relative(stage)
        self.store, self.stage, self.key, self.slide = store, stage, dict(key), slide
        self.notes: dict[str, object] = {}  # JSON facts kept in the record; part of its digest, so no times in here
        self.peak_mb = 0.0
        self._roots: set[str] = set()
        self._known: dict[str, tuple[int, str]] = {}  # vouched for
        self._forcing = ThreadPoolExecutor(files.SYNCS_AT_ONCE, thread_name_prefix="mihc-disk")
        self._forced: list[Future[None]] = []

    def path(self, relative: str) -> Path:
        """Where to write what will be `results/<relative>`: a file, or a folder that is replaced as a whole."""
        if relative.split("/")[0] in (TMP, ".locks", ".records", SCRATCH):
            raise MihcError(f"{relative}: this name belongs to the store itself")
        self._roots.add(files.checked_relative(relative))
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def scratch(self, name: str) -> Path:
        """Make a folder for what is needed only until the stage is written; it never becomes visible."""
        path = self.folder / SCRATCH / name
        path.mkdir(parents=True)
        return path

    def vouch(self, relative: str, written: Mapping[str, tuple[int, str]]) -> None:
        """Tell bytes and sha256 of files in `path(relative)`, by their names there, hashed while they were written.

        They are not read again for the record, so what the disk makes of them is noticed by `mihc verify`. From now on
        they are forced to the disk, while others are computed.
        """
        for name, (size, sha) in written.items():
            self._known[f"{relative}/{name}"] = int(size), str(sha)
            self._forced.append(self._forcing.submit(files.sync_file, self.folder / relative / name))

    def __enter__(self) -> Self:
        self._lock = contextlib.ExitStack()
        if not self.store.holds(self.slide):
            self._lock.enter_context(self.store.lock(self.slide))
        try:
            with files.told_plainly(self.store.folder):
                recover_scope(self.store.folder, self.slide, busy=self.store.busy)
                self.id = _new_id(self.store.folder, self.slide)
        except BaseException:
            self._lock.close()
            raise
        self.store.busy.add(self.id)
        self.folder = self.store.folder / TMP / self.id
        self._start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            try:
                with files.told_plainly(self.store.folder):
                    if error is not None:
                        raise error
                    self._commit()
            finally:
                self._forcing.shutdown(cancel_futures=True)
                self.store.busy.discard(self.id)
                if not _journal(self.store.folder, self.id, self.slide).exists():
                    _clear(self.store.folder, self.id, self.slide)

    def _commit(self) -> None:
        roots = files.outermost(sorted(self._roots))
        missing = [root for root in roots if not (self.folder / root).exists()]
        if missing:
            raise MihcError(f"stage {self.stage} announced {missing[0]} and did not write it", place=self.slide)
        for forced in self._forced:
            forced.result()
        sealed, durable = files.seal(self.folder, roots, self._known)
        if not durable:
            self.store.remark("This file system cannot force folders to the disk: a power cut may undo the last step.")
        if not self.store.holds(self.slide):
            raise OutputConflict("the lock was broken while this stage was written", place=self.slide or "the cohort")
        record = Record(
            stage=self.stage,
            slide=self.slide,
            key=self.key,
            digest=files.hash_json({"files": {name: sha for name, (_, sha) in sealed.items()}, "notes": self.notes}),
            files=sealed,
            notes=self.notes,
            seconds=round(time.monotonic() - self._start, 3),
            peak_mb=self.peak_mb,
            roots=tuple(roots),
        )
        removed = _left_over(self.store.folder, record)
        write_journal(self.store.folder, self.id, record, removed)
        held = finish(self.store.folder, self.id, self.slide)
        if held:
            raise _held_open(self.store.folder, held)


def _new_id(results: Path, slide: str) -> str:
    """Claim a name under .tmp; a folder without an .open file is a claim that a kill or a power cut took back."""
    (results / TMP).mkdir(exist_ok=True)
    while True:
        name = secrets.token_hex(2)
        try:
            (results / TMP / name).mkdir()
            (results / TMP / name / OWNER).write_text(json.dumps(this_process(name)), encoding="utf-8")
        except (FileExistsError, FileNotFoundError):  # taken, or swept before it was claimed
            continue
        (results / TMP / f"{name}~{slide}.open").touch()
        return name


def _journal(results: Path, name: str, slide: str) -> Path:
    return results / TMP / f"{name}~{slide}.commit"


def _left_over(results: Path, record: Record) -> list[str]:
    """What the stage's former generation had made visible and the new one does not replace."""
    with contextlib.suppress(MihcError):
        old = read_record(record_path(results, record.stage, record.slide))
        if old:
            roots = [r for r in old.roots if not any(files.below(r, n) or files.below(n, r) for n in record.roots)]
            return [path for root in roots for path in (root, _beside_name(root)) if (results / path).exists()]
    return []


def write_journal(results: Path, name: str, record: Record, removed: list[str]) -> None:
    """Decide the transaction: from here on it will be the new generation."""
    content = {
        "record": dataclasses.asdict(record),
        "removed": removed,
        "void": void_records(results, record.slide, record.stage, [*record.roots, *removed]),
    }
    files.replace_file(_journal(results, name, record.slide), json.dumps(content).encode())


def finish(results: Path, name: str, slide: str) -> list[str]:
    """Take every step that the journal asks for and that is not done yet; returns the roots that are held open."""
    journal = _journal(results, name, slide)
    content = _read_journal(journal)
    new, old = results / TMP / name, results / TMP / f"{name}.old"
    old.mkdir(exist_ok=True)
    for number, root in enumerate(content["removed"]):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            files.move(results / root, old / f"removed{number}")
    roots = content["record"]["roots"]
    beside = {}
    for number, root in enumerate(roots):
        if not _placed(results, root, new, old / str(number)):
            beside[root] = _beside_name(root)
    moved = [*roots, *content["removed"]]
    _sync_parents(results, moved)
    for image in sorted({root.partition("/labels/")[0] for root in moved if is_labels(root)}):
        refresh_listing(results / image)
    for stage in content["void"]:
        forget_record(results, stage, slide)
    stored = {**content["record"], "beside": beside}
    write_record(results, Record(**{**stored, "roots": tuple(stored["roots"])}))
    journal.unlink()
    _clear(results, name, slide)
    return list(beside)


def _read_journal(journal: Path) -> dict:
    try:
        return json.loads(journal.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(
            "the journal of an interrupted step cannot be read",
            place=str(journal),
            fix="Delete the results folder and run again: everything in it can be computed again.",
        ) from error


def _sync_parents(results: Path, roots: list[str]) -> None:
    folders = {parent for root in roots for parent in (results / root).parents if parent.is_relative_to(results)}
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        if folder.is_dir():
            files.sync_folder(folder)


def _placed(results: Path, root: str, new: Path, old: Path) -> bool:
    """Bring one new path to its name, or beside it when another program holds the old one: then False."""
    source, target, beside = new / root, results / root, results / _beside_name(root)
    if not source.exists():  # moved before a kill
        return not beside.exists()
    if not files.remove(beside):
        raise _still_open(beside)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.exists() and (target.is_dir() or source.is_dir()):
            files.move(target, old)
        files.move(source, target)
    except PermissionError:
        files.move(source, beside)
        return False
    return True


def _still_open(path: Path) -> OutputConflict:
    return OutputConflict(
        "is held open by another program, or may not be deleted",
        place=str(path),
        fix="Close it there and type the same command again: nothing is computed twice.",
    )


def _beside_name(root: str) -> str:
    parent, _, name = root.rpartition("/")
    stem, dot, suffix = name.partition(".")
    return f"{parent}/{stem}_new{dot}{suffix}" if parent else f"{stem}_new{dot}{suffix}"


def _held_open(results: Path, roots: list[str]) -> OutputConflict:
    names = ", ".join(f"{results.name}/{root}" for root in roots)
    news = ", ".join(f"{results.name}/{_beside_name(root)}" for root in roots)
    return OutputConflict(
        f"{names} is held open by another program (Excel?); the new version lies beside it as {news}",
        place=str(results),
        fix="Close it there and type the same command again: nothing is computed twice.",
    )


def recover_scope(results: Path, slide: str, *, busy: set[str]) -> None:
    """Complete or discard what a kill left of one slide's (or the cohort's) transactions. Call with its lock held."""
    folder = results / TMP
    for leftover in sorted(folder.glob(f"*~{slide}.open")):
        name = leftover.name.partition("~")[0]
        if name in busy:
            continue
        if _journal(results, name, slide).exists():
            finish(results, name, slide)
        else:
            _clear(results, name, slide)
    _place_what_was_held(results, slide)


def _clear(results: Path, name: str, slide: str) -> None:
    """Delete a transaction's files; the claim goes last, so that a kill in here leaves work for the next one."""
    folder = results / TMP
    gone = [files.remove(folder / name), files.remove(folder / f"{name}.old")]
    gone.append(files.remove(folder / f"{name}~{slide}.commit~new"))
    if all(gone):
        files.remove(folder / f"{name}~{slide}.open")


def _place_what_was_held(results: Path, slide: str) -> None:
    for path in sorted(scope_folder(results, slide).glob("*.json")):
        with contextlib.suppress(MihcError):
            record = read_record(path)
            if record and record.beside:
                _place_record(results, record)


def _place_record(results: Path, record: Record) -> None:
    name = _new_id(results, record.slide)
    still = {}
    for number, (root, beside) in enumerate(record.beside.items()):
        target, source = results / root, results / beside
        try:
            if source.exists():
                if target.is_dir() or (target.exists() and source.is_dir()):
                    files.move(target, results / TMP / name / str(number))
                files.move(source, target)
        except PermissionError:
            still[root] = beside
    if still != record.beside:
        write_record(results, dataclasses.replace(record, beside=still))
    _clear(results, name, record.slide)


def scopes_with_leftovers(results: Path) -> list[str]:
    """The slides ("" for the cohort) that an ended or killed process left something of."""
    left = {path.name.partition("~")[2].removesuffix(".open") for path in (results / TMP).glob("*~*.open")}
    return sorted(left)


def sweep_unclaimed(results: Path) -> None:
    """Remove what lies under .tmp without a claim: a kill between making and claiming, or a power cut, left it.

    A folder whose owner may be alive, which every process of another machine may be, is left alone; one that tells no
    owner is removed when it is empty, or a day after it was last touched.
    """
    for folder in (results / TMP).glob("[0-9a-f]*"):
        name = folder.name.removesuffix(".old")
        if folder.is_dir() and not _claimed(results, name) and _abandoned(folder):
            if _claimed(results, name):  # meanwhile: the claim comes before any content
                continue
            files.remove(folder)


def _claimed(results: Path, name: str) -> bool:
    return any((results / TMP).glob(f"{name}~*"))


def _abandoned(folder: Path) -> bool:
    """Whether nobody can be at work in a folder that nobody claims."""
    with contextlib.suppress(OSError):
        folder.rmdir()  # empty
        return False
    try:
        return not is_alive(json.loads((folder / OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        with contextlib.suppress(OSError):
            return time.time() - folder.stat().st_mtime > _LONG_AGO_S
        return False
