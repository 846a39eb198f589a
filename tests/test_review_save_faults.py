"""Faults of a review's save: edits stand, nothing is damaged, and the next save ends what the first began."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from store_generations import Faults, leave_locks_dead

import mihc
from mihc import review, synthetic
from mihc.errors import OutputConflict, ResourceError
from mihc.reviews.journal import read_journal
from mihc.stages import Event
from mihc.store import Store, digest_results

ROOT = Path(__file__).parents[1]
SLIDE, REVIEWER = "S01", "anna"


@pytest.fixture(scope="module")
def edited(tmp_path_factory) -> Path:
    """A study that was run and then edited: a cell deleted, a threshold set; not saved, not to be written to."""
    folder = synthetic.draw_study(tmp_path_factory.mktemp("edited") / "study", patients=2, size_px=(384, 384))
    assert mihc.run(mihc.read_study(folder), until="statistics").failed == {}
    study = mihc.read_study(folder)
    cells = mihc.slide_cells(study, SLIDE, columns=["cell", "tissue_class"])
    with review.open_review(study, SLIDE, REVIEWER) as session:
        session.delete(cells.loc[cells["tissue_class"] == "tumour", "cell"].tolist()[:1])
        session.set_threshold("CD20", 700.0)
    review.choose_final(folder, REVIEWER, slides=[SLIDE])
    return folder


@pytest.fixture
def folder(edited, tmp_path) -> Path:
    return Path(shutil.copytree(edited, tmp_path / "study"))


@pytest.fixture(scope="module")
def states(edited, tmp_path_factory) -> dict[str, str]:
    """The digests before the save and after one that nothing disturbs."""
    folder = Path(shutil.copytree(edited, tmp_path_factory.mktemp("saved") / "study"))
    before = digest(folder)
    assert save(folder).failed == {}
    assert digest(folder) != before
    return {"before": before, "after": digest(folder)}


def save(folder: Path) -> review.Changes:
    return review.save(folder, reviewer=REVIEWER, slides=[SLIDE], report=False)


def digest(folder: Path) -> str:
    return digest_results(folder / "results")


def assert_edits_stand_and_the_next_save_ends_it(folder: Path, states: dict[str, str]) -> None:
    gestures = read_journal(folder / "review" / REVIEWER / SLIDE / "journal.jsonl")
    assert [line.gesture for line in gestures] == ["delete", "threshold"]
    leave_locks_dead(folder / "results")  # the process that could not let go of them would have ended
    Store(folder / "results").recover()
    assert Store(folder / "results").verify() == []
    assert save(folder).failed == {} and digest(folder) == states["after"]
    assert not list((folder / "results" / ".tmp").iterdir())


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EROFS, OutputConflict), (errno.EIO, (OSError, review.Changes)), (errno.ENOSPC, ResourceError)],
)
def test_a_disk_that_refuses_from_some_step_on_is_told_and_survived(folder, states, tmp_path, number, raised):
    """Each time many steps later, until the save needs no more of them."""
    told, step = 0, 1
    while True:
        copy = Path(shutil.copytree(folder, tmp_path / f"k{step}"))
        refusal = OSError(number, os.strerror(number), str(copy / "results" / "regions.csv"))
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at=step, error=refusal)
            try:
                told += bool(save(copy).failed)
            except (OutputConflict, ResourceError, OSError) as error:
                assert isinstance(error, raised), f"at step {step}: {error!r}"
                told += 1
        assert_edits_stand_and_the_next_save_ends_it(copy, states)
        shutil.rmtree(copy)
        if faults.count < step:
            break
        step = step * 3 + 4
    assert told >= 3


SAVE = f"""
import resource, sys
from mihc import review
from mihc.errors import MihcError
if int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
print("begun", flush=True)
try:
    done = review.save(sys.argv[1], reviewer={REVIEWER!r}, slides=[{SLIDE!r}], report=False)
    print(done.failed)
except MihcError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


def saver(folder: Path, largest: int = 0) -> subprocess.Popen:
    """A save in a process of its own, whose files may not be larger than that many bytes."""
    command = [sys.executable, "-c", SAVE, str(folder), str(largest)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.parametrize("largest", [64, 20_000])
def test_files_that_may_not_grow_are_told_as_a_lack_of_room(folder, states, largest):
    told, trouble = saver(folder, largest).communicate(timeout=120)
    assert "Traceback" not in trouble and "ResourceError" in told and "no room to write" in told
    assert_edits_stand_and_the_next_save_ends_it(folder, states)


def test_of_two_saves_at_once_none_undoes_the_other(folder, states):
    """Each ends, or says that the other is at it (exit 5); what is there is then what one alone makes."""
    both = [saver(folder), saver(folder)]
    ended = [(one.communicate(timeout=180), one.returncode) for one in both]
    assert all(code in (0, OutputConflict.exit_code) for _, code in ended), ended
    assert any(code == 0 for _, code in ended), ended
    assert digest(folder) == states["after"]
    assert_edits_stand_and_the_next_save_ends_it(folder, states)


@pytest.mark.parametrize("after", [0.2, 1.5])
def test_an_interrupted_save_ends_soon(folder, states, after):
    child = saver(folder)
    assert child.stdout.readline() == "begun\n"
    time.sleep(after)
    child.send_signal(signal.SIGINT)
    sent = time.monotonic()
    child.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert_edits_stand_and_the_next_save_ends_it(folder, states)


@pytest.mark.parametrize("stage", ["edits", "positives", "study"])
def test_a_save_that_is_stopped_at_a_stage_goes_on_from_there(folder, states, stage):
    stopping = threading.Event()

    def watch(event: Event) -> None:
        if event.stage == stage:
            stopping.set()

    with pytest.raises(mihc.Stopped):
        review.save(folder, reviewer=REVIEWER, slides=[SLIDE], report=False, progress=watch, stopping=stopping)
    assert_edits_stand_and_the_next_save_ends_it(folder, states)
