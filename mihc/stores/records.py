"""What the store remembers of a committed stage: its key, its files with size and sha256, its facts."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mihc.errors import DamagedError, OutputConflict
from mihc.stores.files import below, hash_json, replace_file

FOLDER = ".records"
MOST_READ = 4096  # records that are kept as they were read
JUST_NOW_S = 3.0  # the coarsest clocks of file systems count in 2 s
SCHEMA = 1  # of the records and the layout under results/; a higher one was written by a newer mihc


@dataclass(frozen=True)
class Record:
    """A stage that is visible, whole and verified."""

    stage: str
    slide: str  # empty for the cohort's stages
    key: dict[str, str]  # what the result depends on
    digest: str  # of the content: the files and the notes
    files: dict[str, tuple[int, str]]  # (bytes, sha256) by path relative to results/
    notes: dict[str, object]  # JSON facts that later stages read
    seconds: float
    peak_mb: float
    roots: tuple[str, ...] = ()  # the paths that were made visible as a whole
    beside: dict[str, str] = field(default_factory=dict)  # root -> where it lies while another program holds its name

    def where(self, relative: str) -> str:
        """Where a recorded file lies now: at its name, or beside it while that is held open."""
        for root, beside in self.beside.items():
            if below(relative, root):
                return beside + relative[len(root) :]
        return relative


_read: dict[tuple[str, int, int, int, int], Record | None] = {}


def changed_fields(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The fields of two keys that differ, sorted."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def scope_folder(results: Path, slide: str) -> Path:
    """The folder of a slide's records, or of the cohort's."""
    return results / FOLDER / "slides" / slide if slide else results / FOLDER / "cohort"


def record_path(results: Path, stage: str, slide: str) -> Path:
    """Where the record of a stage lies."""
    return scope_folder(results, slide) / f"{stage}.json"


def write_record(results: Path, record: Record) -> None:
    """Write a record in one atomic step, with a checksum over itself."""
    path = record_path(results, record.stage, record.slide)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dataclasses.asdict(record)
    envelope = {"schema": SCHEMA, "sha256": hash_json(content), "record": content}
    replace_file(path, json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode())


def read_record(path: Path, *, anew: bool = False) -> Record | None:
    """The record at `path`, None when there is none, or only that of an older mihc, which is computed again.

    One that this process has read is not parsed again while size, times and inode of its file are the same; one that
    was just written is, since some file systems count in seconds, and so is one asked for `anew`.

    Raises
    ------
    DamagedError
        the record does not match its own checksum
    OutputConflict
        a newer mihc wrote it
    """
    try:
        told = path.stat()
        seen = str(path), told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino
        if seen in _read and not anew:
            return _read[seen]
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _damaged(path) from error
    record = _parsed(path, text)
    if len(_read) >= MOST_READ:
        _read.clear()
    if time.time() - told.st_mtime > JUST_NOW_S:
        _read[seen] = record
    return record


def _parsed(path: Path, text: str) -> Record | None:
    try:
        envelope = json.loads(text)
        schema, content = envelope["schema"], envelope["record"]
        if schema <= SCHEMA and hash_json(content) == envelope["sha256"]:
            return _from_json(content) if schema == SCHEMA else None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if isinstance(schema, int) and schema > SCHEMA:
        raise newer(path)
    raise _damaged(path)


def _from_json(content: dict) -> Record:
    files = {name: (int(size), str(sha)) for name, (size, sha) in content["files"].items()}
    return Record(**{**content, "files": files, "roots": tuple(content["roots"])})


def newer(path: Path) -> OutputConflict:
    """The refusal of what a newer mihc wrote."""
    return OutputConflict(
        "a newer mihc wrote these results; reading them needs mihc >= that version",
        place=str(path),
        fix="Update mihc, or delete the results folder: everything in it can be computed again.",
    )


def _damaged(path: Path) -> DamagedError:
    return DamagedError(
        "the record of a stage does not match its checksum",
        place=str(path),
        fix="Type: mihc verify STUDY --repair",
    )


def record_files(results: Path) -> Iterator[Path]:
    """The paths of every record, the cohort's first, then slide by slide."""
    yield from sorted((results / FOLDER / "cohort").glob("*.json"))
    yield from sorted((results / FOLDER / "slides").glob("*/*.json"))


def slides_with_records(results: Path) -> list[str]:
    """The slides that any stage has results of."""
    return sorted({path.parent.name for path in (results / FOLDER / "slides").glob("*/*.json")})


def void_records(results: Path, slide: str, keep: str, replaced: list[str]) -> list[str]:
    """The stages of a scope that own a file in one of the replaced paths: their results go with those."""
    void = []
    for path in sorted(scope_folder(results, slide).glob("*.json")):
        if path.stem == keep:
            continue
        try:
            record = read_record(path)
        except DamagedError:
            continue
        if record and _owns_any(record, replaced):
            void.append(path.stem)
    return void


def _owns_any(record: Record, paths: list[str]) -> bool:
    """Whether a file of the stage lies in one of the paths; a picture has thousands, so its roots come first."""
    near = [
        path for path in paths if any(below(path, root) or below(root, path) for root in record.roots or record.files)
    ]
    return any(below(name, path) for path in near for name in record.files)


def forget_record(results: Path, stage: str, slide: str) -> None:
    """Delete a record, so that the next run computes its stage again."""
    record_path(results, stage, slide).unlink(missing_ok=True)
