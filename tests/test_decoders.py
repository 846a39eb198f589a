"""X9, R2: what ends or stops a decoder costs one slide; the driver, the other slides and their bytes are untouched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from mihc import decoders
from mihc.decoders import ChildError, Decoders
from mihc.errors import ResourceError, SlideError
from mihc.pipeline import run
from mihc.stages import Event
from mihc.store import digest_results
from mihc.study import read_study
from mihc.synthetic import draw_study

# ---- children by themselves


@pytest.fixture
def children() -> Iterator[Decoders]:
    with Decoders("decoder_tasks") as made:
        yield made
    assert psutil.Process().children() == []


def ask(children: Decoders, task: str, *arguments: object, go_on: Callable[[], None] = lambda: None) -> object:
    return children.call(task, arguments, place="S1.czi", go_on=go_on)


def test_what_goes_to_a_child_comes_back_the_same(children):
    value = {"numbers": [0.1, 1e-300, float("inf"), 2**70], "text": "µ \udcff\n", "nothing": None}
    assert ask(children, "echo", value) == value


def test_a_child_is_kept_and_another_one_only_started_when_all_are_busy(children):
    assert ask(children, "process") == ask(children, "process") != os.getpid()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(ask, children, "take", 1.0) for _ in range(2)]
        assert [future.result() for future in both] == ["done", "done"]
    assert len(psutil.Process().children()) == 2


def test_a_child_that_ended_while_it_waited_is_nobodys_fault(children):
    for _ in range(3):
        first = psutil.Process(ask(children, "process"))
        first.kill()
        first.wait()
        assert ask(children, "process") != first.pid


def test_errors_of_a_child_are_raised_as_they_are_and_it_lives_on(children):
    first = ask(children, "process")
    with pytest.raises(SlideError, match="no such thing") as refused:
        ask(children, "refuse", "S2.tif")
    assert (refused.value.place, refused.value.fix) == ("S2.tif", "Make one.")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ask(children, "read_nothing")
    with pytest.raises(ChildError, match="KeyError: 'a key'"):
        ask(children, "be_wrong")
    assert ask(children, "process") == first


def test_what_a_library_prints_is_no_answer(children):
    assert ask(children, "print_much") == "quiet"


def test_X9_a_crash_is_one_message_and_the_next_task_is_done(children):
    with pytest.raises(SlideError, match=r"S1.czi: the decoder crashed while reading it, twice \(SIGSEGV\)"):
        ask(children, "crash")
    assert ask(children, "echo", 1) == 1


def test_X9_a_child_that_was_ended_once_is_tried_again_alone(children, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(ask, children, "take", 1.0)
        assert ask(children, "crash_once", str(tmp_path / "mark")) == "done"
        assert other.done()  # it was waited for
    with pytest.raises(SlideError, match="memory ran out"):
        ask(children, "run_out_of_memory")


def test_X9_two_that_crash_at_once_wait_for_each_other_and_not_for_ever(children, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, children, "crash_once", str(tmp_path / str(n // 2))) for n in range(4)]
        assert [future.result() for future in asked] == ["done"] * 4


def test_X9_a_hang_ends_at_the_limit_and_progress_moves_it(children, monkeypatch):
    ask(children, "process")
    monkeypatch.setattr(decoders, "SECONDS_WITHOUT_PROGRESS", 3.0)
    assert ask(children, "take_and_tell", 6.0) == "done"
    with pytest.raises(SlideError, match="no progress for 3 s"):
        ask(children, "take", 60.0)
    assert psutil.Process().children() == []


def test_a_call_that_nobody_waits_for_any_more_ends_its_child(children):
    class Enough(Exception):
        pass

    def give_up() -> None:
        raise Enough

    with pytest.raises(Enough):
        ask(children, "take", 60.0, go_on=give_up)
    assert psutil.Process().children() == []


def test_children_that_cannot_start_are_a_resource_error():
    with (
        Decoders("decoder_tasks_that_are_not_there") as none,
        pytest.raises(ResourceError, match="ModuleNotFoundError"),
    ):
        ask(none, "echo", 1)


# ---- in a run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=3, seed=11, size_px=(256, 256))


@pytest.fixture(scope="module")
def stored(drawn, tmp_path_factory) -> Path:
    """The same with its slides stored, not to be written to."""
    folder = Path(shutil.copytree(drawn, tmp_path_factory.mktemp("stored") / "study"))
    assert run(read_study(folder), until="slide").failed == {}
    return folder


@pytest.fixture
def study(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "study"))


def image_bytes(folder: Path, slide: str) -> dict[str, bytes]:
    image = folder / "results" / "slides" / f"{slide}.ome.zarr"
    return {path.relative_to(image).as_posix(): path.read_bytes() for path in image.rglob("*") if path.is_file()}


@contextlib.contextmanager
def signalled(file: Path, number: int, *, times: int) -> Iterator[list[int]]:
    """Send a signal to whatever child has a file open, so often; gives the processes that were hit."""
    hit: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.wait(0.001) and len(hit) < times:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if child.pid not in hit and str(file) in [one.path for one in child.open_files()]:
                        child.send_signal(number)
                        hit.append(child.pid)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        yield hit
    finally:
        over.set()
        hunter.join()


def slow_to_read(folder: Path) -> tuple[list[str], Path]:
    """The study's slides, and the file of the second, which takes a child so long that it can be hit."""
    import numpy as np
    import tifffile

    rows = read_study(folder).slides
    file = rows[1].file
    with tifffile.TiffFile(file) as tiff:
        image, description = tiff.asarray(), tiff.pages[0].description
    big = np.tile(image, (1, 8, 8))
    description = description.replace('SizeX="256"', 'SizeX="2048"').replace('SizeY="256"', 'SizeY="2048"')
    tifffile.imwrite(
        file, big, tile=(256, 256), compression="zlib", description=description.encode(), photometric="minisblack",
        metadata=None,
    )  # fmt: skip
    return [row.slide for row in rows], file


@pytest.mark.parametrize("workers", [1, 2])
def test_X9_R2_a_crash_fails_its_slide_and_no_other(study, stored, workers):
    slides, file = slow_to_read(study)
    with signalled(file, signal.SIGSEGV, times=sys.maxsize) as hit:
        results = run(read_study(study), until="slide", workers=workers)
    assert len(hit) >= 2
    assert list(results.failed) == [slides[1]]
    assert "the decoder crashed while reading it, twice (SIGSEGV)" in results.failed[slides[1]]
    for slide in (slides[0], *slides[2:]):
        assert image_bytes(study, slide) == image_bytes(stored, slide)
    assert not (study / "results" / "slides" / f"{slides[1]}.ome.zarr").exists()


def test_R2_a_child_killed_once_costs_nothing(study):
    _, file = slow_to_read(study)
    undisturbed = Path(shutil.copytree(study, study.with_name("undisturbed")))
    with signalled(file, signal.SIGKILL, times=1) as hit:
        results = run(read_study(study), until="slide", workers=2)
    assert (len(hit), results.failed) == (1, {})
    run(read_study(undisturbed), until="slide")
    for row in read_study(study).slides:
        assert image_bytes(study, row.slide) == image_bytes(undisturbed, row.slide)


def test_X9_a_hanging_decoder_fails_its_slide_and_is_gone(study, monkeypatch):
    slides, file = slow_to_read(study)
    monkeypatch.setattr(decoders, "SECONDS_WITHOUT_PROGRESS", 5.0)
    with signalled(file, signal.SIGSTOP, times=1) as hit:
        results = run(read_study(study), until="slide", workers=1)
    assert list(results.failed) == [slides[1]]
    assert "no progress for 5 s" in results.failed[slides[1]]
    assert not psutil.pid_exists(hit[0])


def test_SL42_a_slide_that_is_written_to_while_it_is_stored_is_refused(study):
    row = read_study(study).slides[0]

    def disturb(event: Event) -> None:
        if (event.slide, event.stage, event.message) == (row.slide, "slide", "") and event.done:
            with row.file.open("ab") as file:
                file.write(b"more")

    results = run(read_study(study), until="slide", progress=disturb)
    assert list(results.failed) == [row.slide] and "changed while reading" in results.failed[row.slide]
    assert run(read_study(study), until="slide").failed == {}


def test_a_run_that_reuses_every_slide_starts_no_child(stored, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(decoders._Child, "__init__", never)
    assert {step.why for step in run(read_study(stored), until="slide").steps} == {"reused"}


PLAIN = """
import sys
import mihc
print("begun", flush=True)
results = mihc.run(mihc.read_study(sys.argv[1]), until="slide")
print("failed", results.failed)
"""


def test_a_plain_script_without_a_main_guard_may_run_a_study(study, stored, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PLAIN)
    done = subprocess.run([sys.executable, script, study], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\nfailed {}\n", "")
    assert digest_results(study / "results") == digest_results(stored / "results")


def started(study: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A run in a process and group of its own, and its children once one has the large slide open."""
    _, file = slow_to_read(study)
    command = [sys.executable, "-m", "mihc", "run", str(study), "--until", "slide"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    while driver.poll() is None:
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(driver.pid).children()
            if any(str(file) in [one.path for one in child.open_files()] for child in found):
                return driver, found
        time.sleep(0.002)
    raise AssertionError("the run ended before it was seen to decode")


@pytest.mark.parametrize("busy", [True, False])
def test_no_child_outlives_a_killed_driver(study, busy):
    driver, found = started(study)
    if not busy:
        time.sleep(0.5)
    driver.kill()
    driver.communicate()
    gone, left = psutil.wait_procs(found, timeout=10)
    assert gone and left == []


def test_ctrl_c_reaches_the_whole_group_and_is_no_crash(study):
    driver, found = started(study)
    os.killpg(driver.pid, signal.SIGINT)
    _, told = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert b"The same command goes on from here." in told and b"crashed" not in told and b"Traceback" not in told
    assert psutil.wait_procs(found, timeout=10)[1] == []


def test_children_import_no_more_than_decoding_needs():
    code = "import mihc.steps.decode, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pandas", "pyarrow", "scipy", "numba", "zarr", "matplotlib", "psutil", "pylibCZIrw", "typer"}
    assert set(done.stdout.split()) & heavy == set()
