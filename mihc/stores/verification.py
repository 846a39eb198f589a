"""Stored bytes against what was committed: before the first use of a result, and all of them for `mihc verify`."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

from mihc.errors import DamagedError, InputError
from mihc.stores.files import below, files_in, hash_file, size_of
from mihc.stores.labels import is_labels, listing
from mihc.stores.records import JUST_NOW_S, MOST_READ, Record, read_record, record_files, scope_folder


@dataclass(frozen=True)
class Damage:
    """A stored file that is not what was committed."""

    stage: str  # the stage to compute again
    slide: str  # empty for the cohort
    file: str  # relative to results/
    what: str  # what was found

    def __str__(self) -> str:
        return f"{self.file}: {self.what} (stage {self.stage}{' of ' + self.slide if self.slide else ''})"


def owner(results: Path, relative: str) -> Record:
    """The record of the stage that made a path visible, as a whole or as part of a whole.

    A slide's results carry its name, so its records are looked at first, then the cohort's, then all.
    """
    named = {part.partition(".")[0] for part in relative.split("/")} - {""}
    likely = [path for slide in (*sorted(named), "") for path in sorted(scope_folder(results, slide).glob("*.json"))]
    for path in itertools.chain(likely, record_files(results)):
        record = read_record(path)
        whole = record and any(below(relative, root) for root in record.roots)
        if record and whole and any(below(name, relative) for name in record.files):
            return record
    raise InputError("there is no such result", place=f"{results.name}/{relative}", fix="Type: mihc run STUDY")


def check(results: Path, record: Record, relative: str) -> None:
    """Compare a path's files with what was committed; chunks with checksums of their own, looked at when read, by size.

    Raises
    ------
    DamagedError
        a file is missing or changed
    """
    from mihc.stores.chunks import is_checked_when_read

    checked: dict[str, bool] = {}
    for name, expected in record.files.items():
        if below(name, relative):
            array, is_chunk, _ = name.partition("/c/")
            if is_chunk and array not in checked:
                checked[array] = is_checked_when_read(results / record.where(array))
            thorough = not is_chunk or not checked[array]
            problem = _difference(results, record, name, expected, thorough=thorough)
            if problem:
                fix = "Type: mihc verify STUDY --repair"
                raise DamagedError(problem, place=f"{results.name}/{name}", fix=fix)


def _difference(
    results: Path, record: Record, name: str, expected: tuple[int, str], *, thorough: bool, anew: bool = False
) -> str:
    path = f"{results}/{record.where(name)}"
    size = size_of(path)
    if size is None:
        return "the file is missing"
    if size != expected[0]:
        return f"the file has {size} bytes; {expected[0]} were committed"
    if thorough and (hash_file(path) if anew else _known_hash(path)) != expected[1]:
        return "the file's content is not what was committed"
    return ""


_hashed: dict[tuple[object, ...], str] = {}  # of files that this process has read whole -> sha256


def _known_hash(path: str) -> str:
    """sha256 of a file; one that this process has hashed is not read again while size, times and inode are the same.

    One that was written just now is, since some file systems count in seconds.
    """
    told = Path(path).stat()
    seen = (path, told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino)
    if seen not in _hashed:
        found = hash_file(path)
        if time.time() - max(told.st_mtime, told.st_ctime) < JUST_NOW_S:
            return found
        if len(_hashed) >= MOST_READ:
            _hashed.clear()
        _hashed[seen] = found
    return _hashed[seen]


def damage(results: Path) -> list[Damage]:
    """Every stored byte against its sha256, every record against its own, and no file that nobody committed."""
    found: list[Damage] = []
    committed: list[Record] = []
    for path in record_files(results):
        stage, slide = path.stem, path.parent.name if path.parent.parent.name == "slides" else ""
        try:
            record = read_record(path, anew=True)
        except DamagedError as error:
            found.append(Damage(stage, slide, path.relative_to(results).as_posix(), error.what))
            continue
        if record:
            committed.append(record)
            found.extend(_differences(results, record))
    return found + _strangers(results, committed) + _listings(results, committed)


def _differences(results: Path, record: Record) -> list[Damage]:
    problems = (
        (name, _difference(results, record, name, e, thorough=True, anew=True)) for name, e in record.files.items()
    )
    return [Damage(record.stage, record.slide, name, problem) for name, problem in problems if problem]


def _strangers(results: Path, committed: list[Record]) -> list[Damage]:
    """Files inside a stage's folder that no stage wrote: a reader would take them for results.

    Labels inside an image are looked at with the stage that owns them; the list of labels names all that are there.
    """
    known = {record.where(name) for record in committed for name in record.files}
    found: dict[str, Damage] = {}
    for record in committed:
        for root in record.roots:
            for name in files_in(results, record.where(root)):
                if name not in known and not below(name, f"{record.where(root)}/labels"):
                    found[name] = Damage(record.stage, record.slide, name, "the file was not committed by any stage")
    return list(found.values())


def _listings(results: Path, committed: list[Record]) -> list[Damage]:
    found: dict[str, Damage] = {}
    for record in committed:
        for root in filter(is_labels, record.roots):
            image = root.partition("/labels/")[0]
            path = results / image / "labels" / "zarr.json"
            if not path.is_file() or path.read_bytes() != listing(results / image):
                what = "the list of labels is not that of the labels there"
                found[image] = Damage(record.stage, record.slide, f"{image}/labels/zarr.json", what)
    return list(found.values())
