"""The only module that writes results: what is visible under results/ is whole, verified and of one generation.

A stage writes aside, inside a `Transaction`; a clean exit makes all its files visible in one decided step, and a kill
at any moment leaves, after recovery, the old generation or the new one. The parts are in `mihc.stores`:

    files          names, hashes, durable moves        images, labels   OME-Zarr pyramids
    in_place       a slide's own chunks                arrays, chunks   their bytes
    locks          one writer at a time                tables           parquet, CSV, JSON
    records        what a committed stage was          contents         the digest of what the results say
    transactions   the journal and its recovery        inputs           content hashes of slides
    verification   every byte against its sha256
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mihc
from mihc.errors import DamagedError, InputError, OutputConflict, ResourceError
from mihc.stores import records, transactions, verification
from mihc.stores.files import LITTER, checked_relative, hash_file, hash_json, replace_file, shared_file_system, size_of
from mihc.stores.images import (
    IMAGE_PASS,
    IMAGE_SHARD,
    StoredImage,
    build_pyramid,
    create_image,
    display_window,
    open_image,
    run_all,
    set_display_windows,
    write_image_pass,
    write_image_window,
)
from mihc.stores.inputs import check_unchanged, fingerprint, hash_input
from mihc.stores.labels import (
    LABEL_CHUNK,
    build_label_pyramid,
    create_labels,
    open_labels,
    write_label_window,
)
from mihc.stores.locks import Held, Lock, await_release
from mihc.stores.ngff import level_shapes
from mihc.stores.records import Record
from mihc.stores.row_groups import KeptRows, StoredRows, write_joined_cells
from mihc.stores.tables import (
    cell_columns,
    csv_header,
    csv_lines,
    csv_text,
    empty_cells,
    guarded,
    read_cells,
    read_cells_in_parts,
    read_csv,
    read_csv_parts,
    row_groups,
    write_bytes,
    write_cells,
    write_cells_in_parts,
    write_csv,
    write_json,
    write_text,
)
from mihc.stores.transactions import Transaction
from mihc.stores.verification import Damage

__all__ = [
    "IMAGE_PASS",
    "IMAGE_SHARD",
    "LABEL_CHUNK",
    "Damage",
    "KeptRows",
    "Record",
    "Store",
    "StoredImage",
    "StoredRows",
    "Transaction",
    "build_label_pyramid",
    "build_pyramid",
    "cell_columns",
    "check_unchanged",
    "create_image",
    "create_labels",
    "csv_header",
    "csv_lines",
    "csv_text",
    "digest_results",
    "display_window",
    "empty_cells",
    "fingerprint",
    "guarded",
    "hash_file",
    "hash_json",
    "level_shapes",
    "open_image",
    "open_labels",
    "read_cells",
    "read_cells_in_parts",
    "read_csv",
    "read_csv_parts",
    "rebuild_marker",
    "row_groups",
    "run_all",
    "set_display_windows",
    "write_beside",
    "write_bytes",
    "write_cells",
    "write_cells_in_parts",
    "write_csv",
    "write_image_pass",
    "write_image_window",
    "write_joined_cells",
    "write_json",
    "write_label_window",
    "write_text",
]

_MARKER = f"{records.FOLDER}/mihc.json"


def digest_results(folder: str | Path) -> str:
    """sha256 of every label, cells table and number under results/; see `mihc.stores.contents`."""
    from mihc.stores import contents

    return contents.digest_results(folder)


def write_beside(path: Path, data: bytes) -> None:
    """Write a file of people's work beside results/: a kill leaves the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data, shared=True)


class Store:
    """The results/ folder of one study.

    Raises
    ------
    OutputConflict
        the folder holds something else than mihc's results, or those of a newer mihc; nothing was touched
    InputError
        the folder is a symbolic link
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.busy: set[str] = set()  # transactions open in this process
        self.remarks: list[str] = []  # what the file system does not give; told to people once
        self._locks: dict[str, Lock] = {}
        self._guard = threading.Lock()
        self._checked: set[tuple[str, str]] = set()
        self._refuse_foreign()
        weak = shared_file_system(self.folder)
        if weak:
            self.remark(
                f"The results lie on a shared file system ({weak}), which may keep locks and order less strictly than"
                " a disk: run one mihc at a time on this study, from one machine."
            )

    def _refuse_foreign(self) -> None:
        if self.folder.is_symlink():
            raise InputError(
                "is a symbolic link; results are written in the study's own folder",
                place=str(self.folder),
                fix="Delete the link, or move the whole study to where there is room.",
            )
        marker = self.folder / _MARKER
        if marker.is_file():
            self._refuse_newer(marker)
            return
        if any(records.record_files(self.folder)):
            raise _marker_damaged(marker, "is missing")
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputConflict("is a file; results need a folder of this name", place=str(self.folder))
        begun = {records.FOLDER, *LITTER}  # a kill in the very first step leaves the folder without its marker
        if self.folder.is_dir() and any(path.name not in begun for path in self.folder.iterdir()):
            raise OutputConflict(
                "not a mihc output: the folder is not empty and mihc did not make it; nothing was touched",
                place=str(self.folder),
                fix="Move it away, or give the study another folder.",
            )

    def _refuse_newer(self, marker: Path) -> None:
        try:
            content = json.loads(marker.read_text(encoding="utf-8"))
            schema, version = int(content["schema"]), str(content["mihc"])
        except (ValueError, KeyError, TypeError) as error:
            raise _marker_damaged(marker, "cannot be read") from error
        if schema < records.SCHEMA:
            self.remark("These results are of an older mihc: what it computed is computed again.")
        if schema > records.SCHEMA:
            raise OutputConflict(
                f"these results need mihc >= {version}; this is {_version()}",
                place=str(self.folder),
                fix="Update mihc, or delete the results folder: everything in it can be computed again.",
            )

    def _mark(self) -> None:
        marker = self.folder / _MARKER
        if not marker.is_file() or json.loads(marker.read_text(encoding="utf-8"))["schema"] < records.SCHEMA:
            marker.parent.mkdir(parents=True, exist_ok=True)
            replace_file(marker, json.dumps({"schema": records.SCHEMA, "mihc": _version()}).encode(), shared=True)

    # Locks and recovery

    @contextlib.contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Hold a slide's lock, or with "" the cohort's; what a kill left of it is completed or discarded first.

        Raises
        ------
        OutputConflict
            another run, or another thread of this one, holds it; the message says who and since when
        """
        with transactions.files.told_plainly(self.folder):
            self._mark()
            lock = Lock(self._lock_path(name))
        with self._guard:
            self._locks[name] = lock
        try:
            with transactions.files.told_plainly(self.folder):
                transactions.recover_scope(self.folder, name, busy=self.busy)
            yield
        finally:
            with self._guard:
                del self._locks[name]
            lock.release()

    @contextlib.contextmanager
    def lock_in_turn(self, name: str, go_on: Callable[[], None]) -> Iterator[None]:
        """`lock`, once whoever holds it has let go; `go_on` is called meanwhile and may raise to end the wait.

        Raises
        ------
        OutputConflict
            the holder gives no sign of life
        """
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(self.lock(name))
                    break
                except Held:
                    if not await_release(self._lock_path(name), go_on):
                        raise
            yield

    def _lock_path(self, name: str) -> Path:
        return self.folder / ".locks" / (f"slide-{checked_relative(name)}" if name else "cohort")

    @contextlib.contextmanager
    def lock_run(self) -> Iterator[None]:
        """Keep other runs of the whole study out: of two, each could stop the other at a slide that it is at.

        Raises
        ------
        OutputConflict
            another run of the whole study has begun and not ended; the message says who and since when
        """
        with transactions.files.told_plainly(self.folder):
            self._mark()
            lock = Lock(self.folder / ".locks" / "run")
        try:
            yield
        finally:
            lock.release()

    def holds(self, name: str) -> bool:
        """Whether this store holds the lock of a slide ("" for the cohort), and nobody broke it."""
        with self._guard:
            lock = self._locks.get(name)
        return lock is not None and lock.still_ours()

    def recover(self) -> None:
        """Complete or discard what killed runs left of any slide; what a living run is at is left alone."""
        if not (self.folder / _MARKER).is_file():
            return
        for slide in transactions.scopes_with_leftovers(self.folder):
            if self.holds(slide):
                transactions.recover_scope(self.folder, slide, busy=self.busy)
            else:
                with contextlib.suppress(OutputConflict), self.lock(slide):
                    pass
        transactions.sweep_unclaimed(self.folder)

    def slides(self) -> list[str]:
        """The slides that any stage has results of, whether slides.csv still lists them or not."""
        return records.slides_with_records(self.folder)

    def remark(self, text: str) -> None:
        """Keep a remark for people, once."""
        with self._guard:
            if text not in self.remarks:
                self.remarks.append(text)

    def require_space(self, needed: int) -> None:
        """Refuse, before any pixel is read, when fewer than `needed` bytes are free.

        Raises
        ------
        ResourceError
            with both numbers
        """
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            raise ResourceError(
                f"about {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
                place=str(self.folder),
                fix="Free some space and type the same command again.",
            )

    # Stages

    def transaction(self, stage: str, key: dict[str, str], slide: str = "") -> Transaction:
        """Begin to write a stage; takes the lock of the slide (or cohort) unless this store holds it."""
        return Transaction(self, stage, key, slide)

    def record(self, stage: str, slide: str = "") -> Record | None:
        """What was committed of a stage; None when nothing was."""
        return records.read_record(records.record_path(self.folder, stage, slide))

    def open_notes(self, stage: str, slide: str = "") -> dict[str, object]:
        """The facts that a stage kept; empty when it was not committed."""
        record = self.record(stage, slide)
        return record.notes if record else {}

    def why_recompute(self, stage: str, key: dict[str, str], slide: str = "") -> str:
        """Why a stage has to be computed, in words; "" when what is stored can be used."""
        record = self.record(stage, slide)
        if record is None:
            return "no earlier result"
        changed = records.changed_fields(record.key, key)
        if changed:
            return "changed: " + ", ".join(changed)
        folder = str(self.folder)  # a slide has thousands of files: paths are put together as texts
        for name, (size, _) in record.files.items():
            found = size_of(f"{folder}/{record.where(name)}")
            if found != size:
                return f"missing file {name}" if found is None else f"changed file {name}"
        return ""

    def forget(self, stage: str, slide: str = "") -> None:
        """Take a stage for not computed, so that the next run computes it."""
        with contextlib.nullcontext() if self.holds(slide) else self.lock(slide):
            records.forget_record(self.folder, stage, slide)

    def withdraw(self, stage: str, slide: str = "") -> None:
        """Take back what a stage made visible: its files, then its record."""
        with contextlib.nullcontext() if self.holds(slide) else self.lock(slide):
            record = self.record(stage, slide)
            for root in record.roots if record else ():
                transactions.files.remove(self.folder / record.where(root))
            records.forget_record(self.folder, stage, slide)

    def hash_input(self, path: str | Path) -> str:
        """sha256 of a slide's content; read again only when size, times or inode have changed since."""
        self._mark()
        return hash_input(Path(path), self.folder / records.FOLDER / "inputs")

    # Reading

    def path(self, relative: str) -> Path:
        """Where a committed file or folder lies; on first use it is compared with what was committed.

        Raises
        ------
        InputError
            no stage made it visible; folders that only hold results of stages (`cells`, `slides`) are none themselves
        DamagedError
            a file is missing or changed; chunks of images and labels are checked by size here, by checksum when read
        """
        record = verification.owner(self.folder, checked_relative(relative))
        if (record.digest, relative) not in self._checked:
            verification.check(self.folder, record, relative)
            self._checked.add((record.digest, relative))
        return self.folder / record.where(relative)

    def verify(self) -> list[str]:
        """Every stored byte against its sha256: one line per problem, naming the file; empty when all is well."""
        return [str(damage) for damage in self.damage()]

    def damage(self) -> list[Damage]:
        """What `verify` finds, with the stage to compute again (see `forget`)."""
        return verification.damage(self.folder)


def rebuild_marker(folder: str | Path) -> None:
    """Write the marker of results again, from their records; without a record that is whole nothing is done."""
    folder = Path(folder)
    for path in records.record_files(folder):
        with contextlib.suppress(DamagedError):
            records.read_record(path)
            marker = {"schema": records.SCHEMA, "mihc": _version()}
            replace_file(folder / _MARKER, json.dumps(marker).encode(), shared=True)
            return


def _marker_damaged(marker: Path, what: str) -> DamagedError:
    return DamagedError(
        f"the marker of the results {what}",
        place=str(marker),
        fix="Type: mihc verify STUDY --repair, or delete the results folder and run again.",
    )


def _version() -> str:
    return getattr(mihc, "__version__", "0")
