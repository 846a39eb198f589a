"""A folder of files for others: written aside, then visible at once, and only over what an export wrote before.

<name>                the export, with its list in mihc-export.json
.<name>.part/         one being written
.<name>.old/          what a new one replaced, until it is deleted
.<name>.lock/         held while one is written
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from mihc.errors import DamagedError, OutputConflict, UsageError
from mihc.stores import files
from mihc.stores.locks import Lock

MARKER = "mihc-export.json"


@contextlib.contextmanager
def export_folder(folder: Path, *, results: Path, about: dict[str, object]) -> Iterator[Path]:
    """Give an empty folder to write to; a clean exit renames it to `folder`, an error or a kill leaves that as it was.

    Parameters
    ----------
    folder
        Where the export will lie; an older export of mihc there is replaced.
    results
        The study's results, where nothing may be written.
    about
        What the marker says beside the list of files.

    Raises
    ------
    UsageError
        `folder` lies in the results, or holds them.
    OutputConflict
        It holds what no export wrote, another export is being written there, or it may not be written.
    """
    folder = folder.absolute().resolve()
    if folder.is_relative_to(results.resolve()) or results.resolve().is_relative_to(folder):
        raise UsageError("an export cannot lie in results/ or hold it", place=str(folder), fix="Name another --out.")
    aside, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    with files.told_plainly(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder.with_name(f".{folder.name}.lock"))
        try:
            _recover(folder, aside, old)
            _refuse_foreign(folder)
            aside.mkdir()
            yield aside
            names = sorted(path.name for path in aside.iterdir())
            text = json.dumps({**about, "files": names}, indent=2, ensure_ascii=False)
            (aside / MARKER).write_text(text + "\n", encoding="utf-8")
            _sync(aside)
            _swap(folder, aside, old)
        finally:
            files.remove(aside)
            lock.release()


def _recover(folder: Path, aside: Path, old: Path) -> None:
    """Take up what a kill left: an old export that was moved aside comes back, or goes where a new one is there."""
    if old.exists() and not folder.exists():
        files.move(old, folder)
    for leftover in (aside, old):
        if not files.remove(leftover):
            raise _held(leftover)


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputConflict("is a file; an export needs a folder of this name", place=str(folder))
    there = {path.name for path in folder.iterdir()} - files.LITTER
    foreign = sorted(there - _written(folder))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise OutputConflict(
            f"holds {foreign[0]}{more}, which no export of mihc wrote; nothing was touched",
            place=str(folder),
            fix="Name another folder with --out, or move these files away.",
        )


def _written(folder: Path) -> set[str]:
    """The names that the export which lies there wrote."""
    if not (folder / MARKER).is_file():
        return set()
    try:
        return {MARKER, *map(str, json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            "the list of an older export cannot be read", place=str(folder / MARKER), fix="Delete that export."
        ) from error


def _sync(folder: Path) -> None:
    """Force every byte to the disk before the name appears."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.sync_file(path)
    files.sync_folder(folder)


def _swap(folder: Path, aside: Path, old: Path) -> None:
    try:
        if folder.exists():
            files.move(folder, old)
        files.move(aside, folder)
    except PermissionError:
        if old.exists() and not folder.exists():
            files.move(old, folder)
        raise _held(folder) from None
    files.sync_folder(folder.parent)
    files.remove(old)


def _held(folder: Path) -> OutputConflict:
    return OutputConflict(
        "is held open by another program, or may not be replaced",
        place=str(folder),
        fix="Close it there and type the same command again.",
    )
