"""What a killed process leaves under .tmp without a claim is swept; what a living one may be at is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mihc.store import Store, write_text
from mihc.stores.transactions import OWNER, TMP, sweep_unclaimed

ROOT = Path(__file__).parents[1]
WRITING = """
import sys, time
from pathlib import Path
from mihc.store import Store, write_text
store = Store(Path(sys.argv[1]))
with store.transaction("positives", {"a": "1"}, "S1") as transaction:
    write_text(transaction.path("regions.csv"), "x" * 1000)
    next(store.folder.glob(".tmp/*~S1.open")).unlink()   # as a power cut may undo it
    print(transaction.id, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writing(tmp_path):
    """A process in the middle of a transaction whose claim is lost, and the name of its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, tmp_path / "results"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield process, tmp_path / "results", process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_an_unclaimed_folder_of_a_killed_process_is_swept_with_its_content(writing):
    process, results, name = writing
    assert (results / TMP / name / "regions.csv").stat().st_size == 1000
    Store(results).recover()
    assert (results / TMP / name / "regions.csv").is_file()  # its owner is alive
    process.send_signal(signal.SIGKILL)
    process.wait()
    Store(results).recover()
    assert list((results / TMP).iterdir()) == []


def folder_of(results: Path, name: str, owner: dict | None, *, days: float = 0.0) -> Path:
    folder = results / TMP / name
    folder.mkdir(parents=True)
    (folder / "cells.parquet").write_bytes(b"x")
    if owner is not None:
        (folder / OWNER).write_text(json.dumps(owner))
    then = folder.stat().st_mtime - 86_400 * days
    os.utime(folder, (then, then))
    return folder


def test_what_another_machine_may_be_at_and_what_tells_no_owner_stay(tmp_path):
    elsewhere = {"host": "another", "boot": "b", "pid": "1", "started": "1", "since": "", "nonce": "aaaa"}
    theirs = folder_of(tmp_path, "aaaa", elsewhere, days=30)
    recent, old = folder_of(tmp_path, "bbbb", None), folder_of(tmp_path, "cccc", None, days=2)
    replaced = folder_of(tmp_path, "dddd.old", None, days=2)
    claimed = folder_of(tmp_path, "eeee", None, days=2)
    (tmp_path / TMP / "eeee~S1.open").touch()
    (tmp_path / TMP / "ffff").mkdir()
    sweep_unclaimed(tmp_path)
    assert [path.is_dir() for path in (theirs, recent, claimed)] == [True, True, True]
    assert [path.exists() for path in (old, replaced, tmp_path / TMP / "ffff")] == [False, False, False]


def test_nothing_of_a_finished_transaction_is_left(tmp_path):
    store = Store(tmp_path / "results")
    with store.transaction("positives", {"a": "1"}, "S1") as transaction:
        write_text(transaction.path("regions.csv"), "x")
        assert (transaction.folder / OWNER).is_file()
    assert list((tmp_path / "results" / TMP).iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "results").iterdir() if not path.name.startswith(".")) == [
        "regions.csv"
    ]
