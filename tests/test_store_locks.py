"""One writer at a time, and a dead one never stands in the way."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mihc.errors import OutputConflict
from mihc.store import Store
from mihc.stores import locks
from mihc.stores.locks import Lock

HOLDER = """
import sys, time
from mihc.store import Store
with Store(sys.argv[1]).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder, name):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), name], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_OD2_a_living_run_is_respected_and_named_and_OD3_a_dead_one_is_taken_over(tmp_path):
    store = Store(tmp_path / "results")
    with holder(store.folder, "S1") as process:
        with pytest.raises(OutputConflict, match=rf"held by .+/{process.pid} since") as conflict, store.lock("S1"):
            pass
        assert conflict.value.exit_code == 5
        with store.lock("S2"), store.lock():  # other slides and the cohort are free
            assert store.holds("S2") and store.holds("") and not store.holds("S1")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with store.lock("S1"):
        assert store.holds("S1")
    assert not store.holds("S1")


def test_OD3_a_killed_process_that_nobody_reaped_is_dead(tmp_path):
    store = Store(tmp_path / "results")
    with holder(store.folder, "S1") as process:
        process.send_signal(signal.SIGKILL)
        while locks._started(process.pid):  # a zombie until the parent waits for it
            time.sleep(0.01)
        with store.lock("S1"):
            assert store.holds("S1")


def test_OD2_the_lock_of_another_machine_is_respected(tmp_path):
    lock = Lock(tmp_path / ".locks/cohort")
    owner = lock.path / "owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "host": "elsewhere", "pid": "7", "boot": "x"}))
    with pytest.raises(OutputConflict, match="held by elsewhere/7 since"):
        Lock(lock.path)


def test_OD3_a_lock_from_before_a_reboot_is_dead(tmp_path):
    lock = Lock(tmp_path / ".locks/cohort")
    owner = lock.path / "owner.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "boot": "an earlier one"}))
    assert Lock(lock.path).still_ours() and not lock.still_ours()


def test_R8_two_threads_never_hold_one_lock(tmp_path):
    path, inside, most, wins = tmp_path / ".locks/cohort", [], [], []

    def compete():
        for _ in range(30):
            try:
                lock = Lock(path)
            except OutputConflict:
                continue
            inside.append(1)
            most.append(len(inside))
            wins.append(1)
            inside.pop()
            lock.release()

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(wins) >= 1
    assert list(path.parent.iterdir()) == []  # nothing is left of any of them


def test_R8_a_dead_lock_is_taken_over_by_exactly_one(tmp_path):
    for number in range(15):
        path = tmp_path / f".locks/slide-{number}"
        dead = Lock(path)
        owner = path / "owner.json"
        owner.write_text(json.dumps({**json.loads(owner.read_text()), "started": "1"}))
        barrier, won = threading.Barrier(6), []

        def compete(path=path, barrier=barrier, won=won):
            barrier.wait()
            with contextlib.suppress(OutputConflict):
                won.append(Lock(path))

        threads = [threading.Thread(target=compete) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and won[0].still_ours() and not dead.still_ours()


def test_R8_a_broken_lock_is_noticed_before_anything_becomes_visible(tmp_path):
    store = Store(tmp_path / "results")
    with pytest.raises(OutputConflict, match="lock was broken"), store.transaction("cells", {}, "S1") as transaction:
        transaction.path("cells.csv").write_text("cell\n")
        Store(store.folder)
        owner = store.folder / ".locks/slide-S1/owner.json"
        owner.write_text(json.dumps({**json.loads(owner.read_text()), "nonce": "theirs"}))
    assert not (store.folder / "cells.csv").exists()


def test_a_living_transaction_is_left_alone_by_somebody_elses_recovery(tmp_path):
    store = Store(tmp_path / "results")
    with store.transaction("cells", {}, "S1") as transaction:
        transaction.path("cells.csv").write_text("cell\n")
        store.recover()
        Store(store.folder).recover()
        assert (transaction.folder / "cells.csv").exists()
    assert store.path("cells.csv").read_text() == "cell\n"


def test_R8_a_lock_that_is_let_go_between_two_looks_is_a_conflict_at_most(tmp_path, monkeypatch):
    """Every rename finds the name taken, and every look finds nobody there."""
    rename = Path.rename

    def always_too_late(source, target):
        if Path(target).name == "cohort":
            raise OSError(errno.ENOTEMPTY, "taken", str(target))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", always_too_late)
    with pytest.raises(OutputConflict, match="held by another run"):
        Lock(tmp_path / ".locks/cohort")
    assert list((tmp_path / ".locks").iterdir()) == []


def test_who_takes_locks_in_turn_waits_while_the_holder_lives_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_LOOK_S", 0.01)
    monkeypatch.setattr(locks, "_SILENT_S", 0.3)
    store, looks = Store(tmp_path / "results"), []
    with Store(store.folder).lock():
        owner = store.folder / ".locks/cohort/owner.json"

        def beat():
            looks.append(owner.exists())
            os.utime(owner, ns=(len(looks), len(looks)))
            if len(looks) == 50:  # longer than a silence would be heard out
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), store.lock_in_turn("", beat):
            raise AssertionError
        with pytest.raises(OutputConflict, match="held by"), store.lock_in_turn("", lambda: None):
            raise AssertionError
        owner.write_text(json.dumps(json.loads(owner.read_text()) | {"started": "1"}))
        with store.lock_in_turn("", lambda: pytest.fail("a dead process is not waited for")):
            assert len(looks) == 50
