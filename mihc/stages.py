"""How a stage runs: reused when nothing it depends on has changed, else made aside, measured and committed.

A `Job` is one run of one study. Stages ask it for the executor, for the hash of an input, and for `stage(...)`, which
decides between "reused" and "recomputed because ..." and keeps time and peak memory.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mihc.decoders import Decoders
from mihc.memory import give_back_freed_memory
from mihc.store import Record, Store, Transaction
from mihc.study import Study

if TYPE_CHECKING:
    import psutil

NUMERIC_LIBRARIES = ("numpy", "scipy", "numba", "shapely", "zarr", "tifffile", "imagecodecs", "pylibCZIrw", "pandas")
SAMPLES_PER_SECOND = 10
SHARE_OF_TIME = 0.05  # that looking up memory may take
PACKAGE = Path(__file__).parent


class Stopped(Exception):
    """The run was asked to stop: no further stage or window is begun, and the same call goes on from there."""


@dataclass(frozen=True)
class Event:
    """Something a person watching would like to know."""

    slide: str  # "" for the cohort
    stage: str
    done: int
    total: int
    message: str = ""  # "reused", "recomputed because ...", "failed: ..."


@dataclass(frozen=True)
class Step:
    """A finished stage, as `run.json` tells it."""

    stage: str
    slide: str
    why: str  # "reused" or "recomputed because ..."
    seconds: float
    peak_memory_mb: float | None  # PSS summed over all processes while it ran; None when reused


@dataclass
class Job:
    """One run of one study: what the stages share."""

    study: Study
    store: Store
    executor: Executor
    tell: Callable[[Event], None]
    meter: MemoryMeter
    workers: int = 1  # tasks at once on a local executor
    decoders: Decoders | None = None  # None: the executor's workers are processes already
    whole: bool = True  # all slides of the study; False: some, in a job of an array beside others
    steps: list[Step] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)  # set when the run was interrupted
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def say(self, slide: str, stage: str, done: int = 0, total: int = 0, message: str = "") -> None:
        """Tell whoever watches; never two at once."""
        with self._telling:
            self.tell(Event(slide, stage, done, total, message))

    def go_on(self) -> None:
        """Raise Stopped once the run was interrupted; what was begun is then discarded, what was committed stays."""
        if self.stopping.is_set():
            raise Stopped

    def stage(self, name: str, slide: str, key: dict[str, str], make: Callable[[Transaction], None]) -> Record:
        """Reuse the stage's record when its key is the same, else make it and commit it."""
        self.go_on()
        reason = self.store.why_recompute(name, key, slide)
        if not reason:
            self._finish(name, slide, "reused", 0.0, None)
            return self.store.record(name, slide)
        self.say(slide, name, 0, 0, f"computing: {reason}")
        started = time.perf_counter()
        with self.meter.watch() as peak, self.store.transaction(name, key, slide) as transaction:
            make(transaction)
        give_back_freed_memory()
        self._finish(name, slide, f"recomputed because {reason}", time.perf_counter() - started, peak.megabytes)
        return self.store.record(name, slide)

    def _finish(self, name: str, slide: str, why: str, seconds: float, peak: float | None) -> None:
        with self._telling:
            self.steps.append(Step(name, slide, why, round(seconds, 3), peak))
        self.say(slide, name, 1, 1, why)

    def map(
        self,
        slide: str,
        stage: str,
        function: Callable[..., Any],
        tasks: Sequence[tuple],
        *,
        before: int = 0,
        total: int | None = None,
        each: Callable[[Any], None] = lambda result: None,
    ) -> list[Any]:
        """Run `function(*task)` for every task on the executor; results in the tasks' order, progress as they come.

        `before` and `total` count for those who watch, where the tasks are a part of more; `each` is given every result
        as it comes.
        """
        futures = [self.executor.submit(function, *task) for task in tasks]
        try:
            for done, future in enumerate(as_completed(futures), before + 1):
                self.go_on()
                each(future.result())
                self.say(slide, stage, done, total or len(futures))
            return [future.result() for future in futures]
        except BaseException:
            wait([future for future in futures if not future.cancel()])  # none may write after the stage is discarded
            raise

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Hand one module-level function to the executor."""
        self.go_on()
        return self.executor.submit(function, *arguments)

    def apart(self, function: Callable[..., Any], place: str) -> Callable[..., Any]:
        """`function`, one of `mihc.steps.decode`'s tasks, as a child does it; `place` is the file, for messages."""
        return partial(self._in_child, function.__name__, place) if self.decoders else function

    def _in_child(self, task: str, place: str, *arguments: Any) -> Any:
        self.go_on()
        return self.decoders.call(task, arguments, place=place, go_on=self.go_on)

    def input_hash(self, path: Path) -> str:
        """SHA-256 of a file's (or OME-Zarr folder's) content; read again only when its size or times have changed."""
        return self.store.hash_input(path)


@cache
def code_hash(*modules: str) -> str:
    """Hash the source of modules (packages whole, templates too) and the versions of the numeric libraries."""
    digest = hashlib.sha256()
    for module in modules:
        for file in _sources(PACKAGE.joinpath(*module.split(".")[1:])):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    for library in NUMERIC_LIBRARIES:
        digest.update(f"{library}=={metadata.version(library)}".encode())
    return digest.hexdigest()[:16]


def _sources(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path.with_suffix(".py")]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


@dataclass
class Peak:
    """The largest memory seen while watched, in MB; None before the first sample."""

    megabytes: float | None = None


class MemoryMeter:
    """Samples the memory of this process and its children ten times a second.

    It is PSS, so that shared pages count once. Looking it up takes 10 to 30 ms, in which no other thread gets memory;
    so that is done once a second, and for new peaks as far as it takes a twentieth of the time. In between resident
    memory is followed, which grows at least as much.
    """

    def __init__(self) -> None:
        self._watched: list[Peak] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="mihc-memory", daemon=True)
        self._family: Family = []
        self._looked = self._took = 0.0  # when that was looked up, and how long it took
        self.overall = Peak()

    def __enter__(self) -> MemoryMeter:
        self._watched.append(self.overall)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def watch(self) -> Iterator[Peak]:
        """Keep the peak until the block ends; stages that run side by side see each other's memory."""
        if not self._family:
            self._look_up()
        peak = Peak(_used_megabytes(self._family))
        with self._lock:
            self._watched.append(peak)
        try:
            yield peak
        finally:
            with self._lock:
                # by identity: two peaks of the same value are equal
                self._watched = [other for other in self._watched if other is not peak]

    def _sample(self) -> None:
        while not self._stop.wait(1 / SAMPLES_PER_SECOND):
            since = time.perf_counter() - self._looked
            if since >= 1:
                self._look_up()
            with self._lock:
                lowest = min((peak.megabytes or 0.0) for peak in self._watched)
            used = _used_megabytes(self._family)
            if used > lowest and 1 > since >= self._took / SHARE_OF_TIME:
                self._look_up()
                used = _used_megabytes(self._family)
            with self._lock:
                for peak in self._watched:
                    peak.megabytes = max(peak.megabytes or 0.0, used)

    def _look_up(self) -> None:
        started = time.perf_counter()
        self._family = _family()
        self._looked = time.perf_counter()
        self._took = self._looked - started


Family = list[tuple["psutil.Process", int]]


def _family() -> Family:
    """This process and those that it started, each with what its PSS is more than its resident memory: none or less.

    Both grow alike where a process takes memory for itself, and the resident one is looked up in no time.
    """
    import psutil

    me, found = psutil.Process(), []
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.Error):  # it ended between the listing and the look
            memory = process.memory_full_info()
            found.append((process, (getattr(memory, "pss", 0) or memory.uss) - memory.rss))
    return found


def _used_megabytes(family: Family) -> float:
    import psutil

    total = 0
    for process, more in family:
        with suppress(psutil.Error):
            total += max(process.memory_info().rss + more, 0)
    return round(total / 1e6, 1)
