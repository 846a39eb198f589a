"""Whatever happens while results are written, they are the old generation or the new one."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from mihc.errors import InputError, MihcError, OutputConflict, ResourceError
from mihc.store import Store, write_csv, write_text
from mihc.stores import files

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


@pytest.fixture
def generations(tmp_path):
    found = {0: {}}
    for number in (1, 2):
        store = Store(tmp_path / f"reference{number}")
        write_generation(store, number)
        found[number] = visible(store.folder)
    return found


def killed_at(folder: Path, step: int, action) -> tuple[bool, int]:
    """Run `action` until the given step; whether it got to its end, and how many steps there were."""
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, at=step)
        try:
            action()
            return faults.count < step, faults.count
        except Killed:
            return False, faults.count


def test_S1_a_kill_at_every_single_step_leaves_the_old_or_the_new_generation(tmp_path, generations):
    seen = []
    for step in range(1, 400):
        folder = tmp_path / f"k{step}"
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch)  # fsync costs nothing here
            write_generation(Store(folder), 1)
        ended, _ = killed_at(folder, step, lambda folder=folder: write_generation(Store(folder), 2))
        leave_locks_dead(folder)
        Store(folder).recover()
        seen.append(assert_old_or_new(folder, generations))
        if ended:
            break
    assert ended and seen == sorted(seen) and {1, 2} == set(seen)  # decided at one step, and never undecided again
    assert seen.count(1) > 10 and seen.count(2) > 10


def test_S1_a_kill_at_every_step_of_the_very_first_generation_leaves_nothing_or_all(tmp_path, generations):
    seen = set()
    for step in range(1, 400):
        folder = tmp_path / f"k{step}"
        ended, _ = killed_at(folder, step, lambda folder=folder: write_generation(Store(folder), 1))
        leave_locks_dead(folder)
        Store(folder).recover()
        if (folder / ".tmp").exists():
            seen.add(assert_old_or_new(folder, generations))
        if ended:
            break
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch)
            write_generation(Store(folder), 2)
        assert assert_old_or_new(folder, generations) == 2
    assert ended and seen == {0, 1}


def test_R7_recovery_may_be_killed_at_every_step_too(tmp_path, generations):
    with pytest.MonkeyPatch.context() as patch:
        steps = Faults(patch)
        write_generation(Store(tmp_path / "count"), 1)
        before = steps.count
        write_generation(Store(tmp_path / "count"), 2)
        total = steps.count - before
    for step in range(3, total, 6):
        folder = tmp_path / f"k{step}"
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch)
            write_generation(Store(folder), 1)
        killed_at(folder, step, lambda folder=folder: write_generation(Store(folder), 2))
        for again in range(1, 200):
            leave_locks_dead(folder)
            ended, _ = killed_at(folder, again, lambda folder=folder: Store(folder).recover())
            if ended:
                break
        leave_locks_dead(folder)
        Store(folder).recover()
        assert ended and assert_old_or_new(folder, generations) in (1, 2)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_S1_an_error_of_the_disk_at_every_single_step_is_told_and_survived(tmp_path, generations, number):
    told = 0
    for step in range(1, 400):
        folder = tmp_path / f"k{step}"
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch)
            write_generation(Store(folder), 1)
        store = Store(folder)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at=step, error=OSError(number, "the disk says no"), forever=False)
            try:
                write_generation(store, 2)
            except ResourceError:
                assert number == errno.ENOSPC
                told += 1
            except OSError as error:
                assert error.errno == number == errno.EIO
                told += 1
        store.recover()
        assert assert_old_or_new(folder, generations) in (1, 2)
        if faults.count < step:
            break
    assert faults.count < step and told > 20


def test_S7_every_byte_is_forced_to_the_disk_before_the_journal_decides(tmp_path, monkeypatch):
    events = []
    sync, replace = files.sync_file, os.replace
    monkeypatch.setattr(files, "sync_file", lambda path: (events.append(("sync", path.name)), sync(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(("to", Path(b).name)), replace(a, b))[1])
    write_generation(Store(tmp_path / "results"), 1)
    decided = next(i for i, (what, name) in enumerate(events) if what == "to" and name.endswith(".commit"))
    synced = {name for what, name in events[:decided] if what == "sync"}
    assert {"regions.csv", "old_only.csv", "p1.svg", "p2.svg"} <= synced
    assert any(name.endswith(".commit~new") for name in synced)
    assert not any(what == "to" and name in ("regions.csv", "figures") for what, name in events[:decided])


# Forks one writer per line "folder number" of its input, and says when the writer is dead.
WRITERS = """
import os, sys
from mihc.store import Store, write_text

def write_without_end(folder, number):
    os.fsync = lambda descriptor: None  # a kill, unlike a power cut, loses nothing that was written
    store = Store(folder)
    while True:
        number += 1
        for slide in ("S1", "S2", ""):
            name = slide or "all"
            with store.lock(slide):
                with store.transaction("image", {"g": str(number)}, slide) as transaction:
                    image = transaction.path(f"slides/{name}.ome.zarr")
                    for part in ("zarr.json", "0/zarr.json", "0/c/0"):
                        write_text(image / part, f"{number} " * number)
                with store.transaction("cells", {"g": str(number)}, slide) as transaction:
                    write_text(transaction.path(f"slides/{name}.ome.zarr/labels/cells/zarr.json"), f"{number} ")
                    write_text(transaction.path(f"cells/{name}.csv"), f"{number} ")
            print("wrote", name, number, flush=True)

for line in sys.stdin:
    folder, number = line.split()
    writer = os.fork()
    if not writer:
        write_without_end(folder, int(number))
    print("writer", writer, 0, flush=True)
    os.waitpid(writer, 0)
    print(flush=True)
    print("dead", writer, 0, flush=True)
"""


def killed_writer(writers: subprocess.Popen, folder: Path, number: int, seconds: float) -> dict[str, int]:
    """Start a writer, kill it some time after its first commit; the generations that it said were committed."""
    writers.stdin.write(f"{folder} {number}\n")
    writers.stdin.flush()
    told, pid, timer = {}, 0, None
    for line in writers.stdout:
        words = line.split()
        if len(words) != 3 or not words[2].isdecimal():
            continue  # cut short by the kill
        if words[0] == "writer":
            pid = int(words[1])
        elif words[0] == "dead":
            return told
        elif words[0] == "wrote":
            told[words[1]] = int(words[2])
        if timer is None and pid and told:
            timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
            timer.start()
    raise AssertionError("the writers ended")


def test_R7_thirty_kills_at_random_times_and_every_acknowledged_generation_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    folder, rng, least, number = tmp_path / "results", random.Random(7), {}, 0
    command, pipe = [sys.executable, "-c", WRITERS], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as writers:
        for _ in range(30):
            least |= killed_writer(writers, folder, number, rng.uniform(0, 0.1))
            store = Store(folder)
            store.recover()
            assert store.verify() == []
            assert list((folder / ".tmp").iterdir()) == []
            for name, told in least.items():
                generation = int(store.record("image", name.replace("all", "")).key["g"])
                parts = (folder / f"slides/{name}.ome.zarr").rglob("*")
                texts = {p.read_text() for p in parts if p.is_file() and "labels" not in p.parts}
                assert texts == {f"{generation} " * generation}
                assert generation >= told
                number = max(number, generation)
        writers.stdin.close()
    assert number >= 30


def test_R6_an_exception_inside_leaves_the_old_generation_and_no_trace(tmp_path, generations):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    with pytest.raises(ZeroDivisionError), store.transaction("table", {"input": "2"}) as transaction:
        write_text(transaction.path("regions.csv"), "half")
        raise ZeroDivisionError
    assert assert_old_or_new(store.folder, generations) == 1


def test_R6_a_file_that_was_announced_and_not_written_commits_nothing(tmp_path, generations):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    with pytest.raises(MihcError, match="announced patients"), store.transaction("table", {}) as transaction:
        write_text(transaction.path("regions.csv"), "new")
        transaction.path("patients.csv")
    assert assert_old_or_new(store.folder, generations) == 1


def test_R4_the_reason_to_compute_again_names_the_fields_that_changed(tmp_path):
    store, key = Store(tmp_path / "results"), {"input": "a", "settings": "b", "code": "1"}
    assert store.why_recompute("cells", key, "S1") == "no earlier result"
    with store.transaction("cells", key, "S1") as transaction:
        write_text(transaction.path("cells/S1.csv"), "cell\n1\n")
    assert store.why_recompute("cells", key, "S1") == ""
    assert store.why_recompute("cells", key, "S2") == "no earlier result"
    assert store.why_recompute("cells", {**key, "code": "2", "input": "z"}, "S1") == "changed: code, input"
    assert store.why_recompute("cells", {"input": "a", "settings": "b"}, "S1") == "changed: code"
    store.path("cells/S1.csv").write_text("cell\n1\n2\n")
    assert store.why_recompute("cells", key, "S1") == "changed file cells/S1.csv"
    (store.folder / "cells/S1.csv").unlink()
    assert store.why_recompute("cells", key, "S1") == "missing file cells/S1.csv"
    store.forget("cells", "S1")
    assert store.why_recompute("cells", key, "S1") == "no earlier result"


def test_R5_the_digest_follows_the_content_and_not_the_time(tmp_path):
    digests = []
    for name, notes in (("a", 1), ("b", 1), ("c", 2)):
        store = Store(tmp_path / name)
        with store.transaction("cells", {"run": name}, "S1") as transaction:
            write_text(transaction.path("cells/S1.csv"), "cell\n1\n")
            transaction.notes["bits"] = notes
        digests.append(store.record("cells", "S1").digest)
    assert digests[0] == digests[1] != digests[2]
    assert Store(tmp_path / "c").open_notes("cells", "S1") == {"bits": 2}


def test_S6_a_new_image_takes_the_stages_with_it_whose_labels_lay_inside(tmp_path):
    store = Store(tmp_path / "results")

    def image(number):
        with store.transaction("slide", {"n": str(number)}, "S1") as transaction:
            write_text(transaction.path("slides/S1.ome.zarr") / "zarr.json", "{}")

    image(1)
    for stage, labels in (("cells", "cells"), ("regions", "regions")):
        with store.transaction(stage, {}, "S1") as transaction:
            write_text(transaction.path(f"slides/S1.ome.zarr/labels/{labels}/zarr.json"), "{}")
            if stage == "regions":
                write_csv_of_one(transaction.path("unrelated.csv"))
    names = json.loads((store.folder / "slides/S1.ome.zarr/labels/zarr.json").read_text())
    assert names["attributes"]["ome"] == {"version": "0.5", "labels": ["cells", "regions"]}
    assert store.verify() == []
    image(2)
    assert store.why_recompute("cells", {}, "S1") == store.why_recompute("regions", {}, "S1") == "no earlier result"
    assert store.verify() == []


def write_csv_of_one(path):
    write_csv(path, pd.DataFrame({"cells": [1]}))


def test_R1_many_slides_are_written_at_once_by_threads_of_one_process(tmp_path):
    store, barrier = Store(tmp_path / "results"), threading.Barrier(8)

    def slide(number):
        barrier.wait()
        for generation in range(5):
            with (
                store.lock(f"S{number}"),
                store.transaction("cells", {"g": str(generation)}, f"S{number}") as transaction,
            ):
                write_text(transaction.path(f"cells/S{number}.csv"), f"{generation}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(slide, range(8)))
    assert store.verify() == []
    assert {store.path(f"cells/S{number}.csv").read_text() for number in range(8)} == {"4"}


def test_OD1_a_folder_of_somebody_else_is_refused_and_not_touched(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputConflict, match="not a mihc output") as refusal:
        Store(folder)
    assert refusal.value.exit_code == 5
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("thesis.docx", "years of work")]


def test_OD4_results_of_a_newer_mihc_are_refused(tmp_path):
    write_generation(Store(tmp_path / "results"), 1)
    marker = tmp_path / "results/.records/mihc.json"
    marker.write_text(json.dumps({"schema": 99, "mihc": "7.1"}))
    with pytest.raises(OutputConflict, match=r"need mihc >= 7\.1") as refusal:
        Store(tmp_path / "results")
    assert refusal.value.exit_code == 5


def test_OD7_results_behind_a_symbolic_link_are_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        Store(tmp_path / "results")


def test_OD8_too_little_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(ResourceError, match="needed") as refusal:
        Store(tmp_path / "results").require_space(10**18)
    assert refusal.value.exit_code == 6 and not (tmp_path / "results").exists()


def test_OD10_a_file_changed_by_hand_is_found_by_name_and_not_read(tmp_path):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    (store.folder / "regions.csv").write_text("generation\n7\n")
    assert store.verify() == ["regions.csv: the file's content is not what was committed (stage table)"]
    with pytest.raises(MihcError, match="not what was committed") as refusal:
        store.path("regions.csv")
    assert refusal.value.exit_code == 7


def test_OD10_whatever_is_done_to_any_stored_file_is_found(tmp_path):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    stored = [p for p in store.folder.rglob("*") if p.is_file() and p.name not in ("mihc.json",)]
    assert len(stored) == 5  # regions.csv, old_only.csv, two pictures, the record
    for path in stored:
        content = path.read_bytes()
        for bit in range(0, 8 * len(content), 13):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            assert store.verify() != []
        for damaged in (b"", content[:-1], content + b"\0"):
            path.write_bytes(damaged)
            assert store.verify() != []
        path.write_bytes(content)
        assert store.verify() == []
    (store.folder / "figures/p9.svg").write_text("not mine")
    assert store.verify() == ["figures/p9.svg: the file was not committed by any stage (stage table)"]


def test_a_missing_result_says_what_to_type(tmp_path):
    with pytest.raises(InputError, match="mihc run"):
        Store(tmp_path / "results").path("cells/S1.parquet")


def test_X4_names_that_some_file_system_cannot_hold_are_refused(tmp_path):
    hostile = [
        "../x",
        "/x",
        "a//b",
        "a/../b",
        "x:y",
        "a\\b",
        "CON",
        "nul.csv",
        "a.",
        "a b",
        "",
        ".",
        "é",
        "x" * 121,
        "a\0",
    ]
    with Store(tmp_path / "results").transaction("table", {}) as transaction:
        for name in hostile:
            with pytest.raises(MihcError):
                transaction.path(name)
        for name in (".tmp/x", ".locks/x", ".records/x"):
            with pytest.raises(MihcError, match="belongs to the store"):
                transaction.path(name)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_file_held_open_by_another_program_keeps_both_and_the_next_run_puts_it_in_place(tmp_path, monkeypatch):
    store, replace = Store(tmp_path / "results"), os.replace
    write_generation(store, 1)
    monkeypatch.setattr(files, "_PAUSES", (0.0,))

    def held(source, target):
        if Path(target) == store.folder / "regions.csv":
            raise PermissionError(errno.EACCES, "in use", str(target))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OutputConflict, match=r"results/regions\.csv is held open") as conflict:
        write_generation(store, 2)
    assert conflict.value.exit_code == 5
    assert (store.folder / "regions.csv").read_text() == "generation\n1\n"
    assert store.path("regions.csv").read_text() == "generation\n2\n"  # the store knows where the new one is
    assert store.path("figures/p3.svg").read_text() == "picture 3 of 2"  # the rest is finished
    assert store.why_recompute("table", {"input": "2"}) == ""
    assert store.verify() == []
    monkeypatch.setattr(os, "replace", replace)
    with store.lock():
        pass
    assert (store.folder / "regions.csv").read_text() == "generation\n2\n"
    assert not (store.folder / "regions_new.csv").exists()
    assert store.record("table").beside == {} and store.verify() == []


def test_a_folder_held_open_is_kept_beside_too(tmp_path, monkeypatch, generations):
    store, replace = Store(tmp_path / "results"), os.replace
    write_generation(store, 1)
    monkeypatch.setattr(files, "_PAUSES", ())
    held = store.folder / "figures"
    monkeypatch.setattr(
        os,
        "replace",
        lambda a, b: (_ for _ in ()).throw(PermissionError(13, "in use")) if Path(a) == held else replace(a, b),
    )
    with pytest.raises(OutputConflict, match="results/figures_new"):
        write_generation(store, 2)
    assert store.verify() == []
    monkeypatch.setattr(os, "replace", replace)
    store.recover()
    with store.lock():
        pass
    assert assert_old_or_new(store.folder, generations) == 2


def test_an_input_is_hashed_again_only_when_it_may_have_changed(tmp_path, monkeypatch):
    store, slide = Store(tmp_path / "results"), tmp_path / "slide.tif"
    slide.write_bytes(b"pixels")
    monkeypatch.setattr("mihc.stores.inputs._AT_REST_NS", -1)
    first = store.hash_input(slide)
    monkeypatch.setattr("mihc.stores.inputs.hash_file", lambda path: pytest.fail("read again"))
    assert store.hash_input(slide) == first
    monkeypatch.undo()
    monkeypatch.setattr("mihc.stores.inputs._AT_REST_NS", -1)
    stat = slide.stat()
    slide.write_bytes(b"pixelZ")
    os.utime(slide, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time: still seen by its ctime
    assert store.hash_input(slide) != first


def test_an_input_at_rest_for_less_than_a_clock_tick_is_read_every_time(tmp_path):
    store, slide = Store(tmp_path / "results"), tmp_path / "slide.tif"
    slide.write_bytes(b"pixels")
    store.hash_input(slide)
    assert not (store.folder / ".records/inputs").exists()


def test_SL42_an_input_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    store, slide = Store(tmp_path / "results"), tmp_path / "slide.tif"
    slide.write_bytes(b"pixels")
    monkeypatch.setattr("mihc.stores.inputs.hash_file", lambda path: path.write_bytes(b"more pixels") and "x")
    with pytest.raises(InputError, match="changed while reading"):
        store.hash_input(slide)
