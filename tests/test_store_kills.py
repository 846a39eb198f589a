"""Whatever happens while results are written, they are the old generation or the new one."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from store_generations import (
    Faults,
    Killed,
    assert_old_or_new,
    leave_locks_dead,
    reference_generations,
    write_generation,
)

from mihc.errors import ResourceError
from mihc.store import (
    Store,
    build_label_pyramid,
    create_image,
    create_labels,
    write_image_pass,
    write_label_window,
)
from mihc.stores import files


@pytest.fixture
def generations(tmp_path):
    return reference_generations(tmp_path)


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


SHAPE = (1, 1100, 1030)  # two levels: one shard each of the image, four chunks and one of the labels


def image_and_labels(store: Store, slide: str = "S1") -> None:
    """An image in one stage and its labels in the next, as a run writes them."""
    counts = np.random.default_rng(2).integers(0, 300, SHAPE, dtype="uint16")
    with store.lock(slide):
        with store.transaction("slide", {}, slide) as transaction:
            path = transaction.path(f"slides/{slide}.ome.zarr")
            create_image(path, shape=SHAPE, dtype="uint16", pixel_size_um=0.5, channels=["a"], colours=["FFFFFF"])
            written = write_image_pass(path, 0, (0, SHAPE[1], 0, SHAPE[2]), lambda *box: counts[0])
            transaction.vouch(f"slides/{slide}.ome.zarr", written)
        with store.transaction("cells", {}, slide) as transaction:
            path = transaction.path(f"slides/{slide}.ome.zarr/labels/cells")
            create_labels(path, shape=SHAPE[1:], pixel_size_um=0.5)
            write_label_window(path, 0, 0, 0, counts[0].astype("uint32"))
            build_label_pyramid(path, at_once)


def at_once(function, *arguments) -> Future:
    future = Future()
    future.set_result(function(*arguments))
    return future


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_S2_a_chunk_or_shard_torn_by_a_kill_is_never_read_and_the_retry_is_whole(tmp_path, monkeypatch, share):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    image_and_labels(Store(tmp_path / "undisturbed"))
    undisturbed = bytes_of(tmp_path / "undisturbed/slides")
    chunks = [name for name in undisturbed if "/c/" in name]
    assert len(chunks) == 2 + 4 + 1
    write = Path.write_bytes
    for number in range(1, len(chunks) + 1):
        folder, torn = tmp_path / f"k{number}", []

        def tearing(path, data, number=number, torn=torn):
            """The process dies with the file as long as it got."""
            if torn:
                raise Killed
            if "c" in path.parts[-4:-1] and len(tearing.seen | {path}) == number:
                torn.append(path)
                write(path, bytes(data)[: int(share * len(data))])
                raise Killed
            tearing.seen |= {path} if "c" in path.parts[-4:-1] else set()
            return write(path, data)

        tearing.seen = set()
        monkeypatch.setattr(Path, "write_bytes", tearing)
        with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
            patch.setattr("mihc.stores.transactions._clear", lambda *_: None)  # the dead clear nothing
            image_and_labels(Store(folder))
        monkeypatch.setattr(Path, "write_bytes", write)
        assert torn[0].exists()
        leave_locks_dead(folder)
        found = []

        def noting(path, data, torn=torn, found=found):
            found.append(torn[0].exists())
            return write(path, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "write_bytes", noting)
            image_and_labels(Store(folder))
        assert not any(found[1:])  # gone before the first new chunk, so no retry can build on it
        assert bytes_of(folder / "slides") == undisturbed
        assert Store(folder).verify() == [] and list((folder / ".tmp").iterdir()) == []
