"""The whole flow on one page.

    slide -> store -> cells -> regions -> values -> positives -> study table -> statistics -> robustness -> report

Each step is one file in `mihc.steps`; `mihc.stages` decides what is computed and what is reused, and keeps time and
memory. A slide that fails is named and stops no other. The slides meet before their thresholds are taken: each is
judged beside its batch and its negative controls.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import (
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd

import mihc
from mihc.batches import Offer
from mihc.decoders import Decoders
from mihc.errors import InputError, LedgerError, MihcError, OutputConflict, ResourceError, UsageError, quoted_path
from mihc.memory import give_back_large_arrays
from mihc.stages import NUMERIC_LIBRARIES, PACKAGE, Event, Job, MemoryMeter, Step, Stopped
from mihc.steps.call import call
from mihc.steps.edit import edit
from mihc.steps.gather import compare, gather, slide_table
from mihc.steps.ingest import ingest
from mihc.steps.judge import all_described, batch_offers, stored_values
from mihc.steps.learn import learn
from mihc.steps.outline import outline
from mihc.steps.place import place
from mihc.steps.propose import control_of, propose
from mihc.steps.segment import segment
from mihc.steps.tell import tell
from mihc.steps.vary import vary
from mihc.store import Record, Store, hash_file, hash_json, write_json
from mihc.study import SlideRow, Study, remember

STAGES = ("slide", "cells", "regions", "values", "positives", "study", "statistics", "robustness", "report")
DECODING = "mihc.steps.decode"
Records = dict[str, Record]  # of one slide, by stage
SECONDS_UNHEARD = 0.5  # at most, between a signal and its being heard


@dataclass(frozen=True)
class Results:
    """What a run did."""

    folder: Path  # the study's results/
    report: Path | None  # report.html, None when the run stopped before it
    slides: int  # how many were asked for
    failed: dict[str, str]  # slide -> what went wrong
    steps: tuple[Step, ...]  # every stage: reused, or recomputed and why
    peak_memory_mb: float | None  # PSS summed over all processes


def run(
    study: Study,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    slides: Sequence[str] | None = None,
    until: str | None = None,
    progress: Callable[[Event], None] = lambda event: None,
    stopping: threading.Event | None = None,
) -> Results:
    """Run a study from its slides to its report; only what changed is computed.

    Parameters
    ----------
    study
        What `read_study` returned.
    executor
        Where windows are computed; None makes a pool of threads, shut down at the end. Beside threads, slides are
        decoded in processes of their own.
    workers
        Threads of that pool, and how many slides are under way at once; None: study.toml's. Changes no result.
    slides
        Ids of the slides to measure; None: all. With ids no tables of the study are made: a last run without joins.
    until
        Stop after this stage: "slide", "cells", "regions", "values", "positives", "study", "statistics", "robustness".
    progress
        Called with an Event as things happen, never from two threads at once.
    stopping
        Set it from anywhere to end the run as soon as it can: what was committed stays, what was begun is discarded.

    Returns
    -------
    Results

    Raises
    ------
    Stopped
        When `stopping` was set; another run goes on from there.
    UsageError
        For an unknown slide or stage.
    InputError
        When no slide could be measured.
    OutputConflict, ResourceError, DamagedError
        When results cannot be written or read.
    """
    rows = _chosen(study, slides)
    _check_stage(until)
    workers = workers or study.settings.compute.workers
    give_back_large_arrays()
    with ExitStack() as stack:
        executor = executor or stack.enter_context(local_executor(workers))
        meter = stack.enter_context(MemoryMeter())
        decoders = stack.enter_context(Decoders(DECODING)) if isinstance(executor, ThreadPoolExecutor) else None
        job = Job(
            study,
            Store(study.results),
            executor,
            progress,
            meter,
            workers,
            decoders,
            whole=slides is None,
            stopping=stopping or threading.Event(),
        )
        if slides is None:  # else each slide's lock recovers that slide: jobs beside this one are at the others
            stack.enter_context(job.store.lock_run())
            job.store.recover()
            _tell_unlisted(job)
        if until not in STAGES[:2]:
            learn(job)
        measured, failed = _each_slide(job, rows, until, workers)
        report = None
        if slides is None and until not in STAGES[:5]:
            _need_one(measured, failed)
            report = _conclude(job, rows, measured, failed, until)
        for remark in job.store.remarks:
            job.say("", "results", message=remark)
        return Results(study.results, report, len(rows), failed, tuple(job.steps), meter.overall.megabytes)


def _each_slide(
    job: Job, rows: Sequence[SlideRow], until: str | None, workers: int
) -> tuple[dict[str, Records], dict[str, str]]:
    """From the slides' files to their counts: measured one by one, then judged beside each other, then called."""
    slides = _Slides(job, workers, {row.slide: {} for row in rows}, {})
    slides.each(rows, lambda row: _measure(job, row, until), last=until in STAGES[:3])
    if until not in STAGES[:3]:
        for group in ([row for row in rows if row.control], [row for row in rows if not row.control]):  # controls first
            slides.each(group, lambda row: _propose(job, row, slides.done), last=until == "values")
    if until not in STAGES[:4]:
        offers = batch_offers(job, slides.records("values"))
        slides.each(rows, lambda row: _call(job, row, slides.done, offers.get(row.slide)), last=True)
    return {slide: done for slide, done in slides.done.items() if slide not in slides.failed}, slides.failed


def _measure(job: Job, row: SlideRow, until: str | None) -> Records:
    """One slide, from its file to its cells and regions; one that comes as a table of cells has no pixels."""
    if row.cells is not None:
        return {}
    done = {"slide": ingest(job, row)}
    if until != "slide":
        done["cells"] = segment(job, row, done["slide"])
    if until not in STAGES[:2]:
        outlines = outline(job, row, done["slide"])
        done["regions"] = place(job, row, outlines, done["cells"])
        edits = edit(job, row, done["slide"], done["cells"], outlines, done["regions"])
        done |= {"edits": edits} if edits else {}
    return done


def _propose(job: Job, row: SlideRow, done: Mapping[str, Records]) -> Records:
    """One slide's values, and its own thresholds beside its negative controls."""
    controls = [other for other in job.study.slides if control_of(row, other)]
    known = [done.get(other.slide, {}).get("values") or stored_values(job, other.slide) for other in controls]
    return {"values": propose(job, row, done[row.slide], [record for record in known if record])}


def _call(job: Job, row: SlideRow, done: Mapping[str, Records], offers: Mapping[str, Offer | str] | None) -> Records:
    return {"positives": call(job, row, done[row.slide], offers)}


def _conclude(
    job: Job,
    rows: Sequence[SlideRow],
    measured: Mapping[str, Records],
    failed: dict[str, str],
    until: str | None,
) -> Path | None:
    """The cohort, from the slides' counts to the report."""
    slides = slide_table(rows, failed, {slide: _facts(done) for slide, done in measured.items()})
    beside = all_described(job, {slide: done["values"] for slide, done in measured.items()})
    with job.store.lock():
        positives = {slide: done["positives"] for slide, done in measured.items()}
        tables = gather(job, slides, positives, beside)
        _remember_thresholds(job)
        if until == "study":
            return None
        statistics = compare(job, tables)
        if until == "statistics":
            return None
        robustness = vary(job, slides, tables, positives)
        if until == "robustness":
            return None
        summary = _summary(job, measured)
        tell(job, slides, {"study": tables, "statistics": statistics, "robustness": robustness}, summary)
        _write_run(job, summary, failed)
        return job.store.path("report.html")


def _tell_unlisted(job: Job) -> None:
    """Say which slides have results and no line any more: kept, as they may be hours of work, and not counted."""
    left = sorted(set(job.store.slides()) - {row.slide for row in job.study.slides})
    if left:
        listed = ", ".join(left[:10]) + (f" and {len(left) - 10} more" if len(left) > 10 else "")
        job.store.remark(
            f"slides.csv does not list {listed}: what was measured of them is kept in results/, and is in no table,"
            " test or report. It is used again when the line comes back. To be rid of it, delete results/ and run."
        )


def _remember_thresholds(job: Job) -> None:
    """Add changed thresholds to the study's history: the tables that were just made are the first that they made."""
    noticed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    unsaid = remember(job.study.folder, job.study.thresholds, noticed=noticed)
    if unsaid:
        job.store.remark(unsaid)


def local_executor(workers: int | None = None) -> Executor:
    """Make the local pool: threads, since the kernels and codecs let go of the interpreter while they work."""
    return ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="mihc")


def _chosen(study: Study, slides: Sequence[str] | None) -> tuple[SlideRow, ...]:
    if slides is None:
        return study.slides
    known = {row.slide: row for row in study.slides}
    unknown = [slide for slide in slides if slide not in known]
    if unknown:
        raise UsageError(
            f"slides.csv has no slide {', '.join(map(repr, unknown))}", fix=f"It has {', '.join(list(known)[:10])}."
        )
    return tuple(known[slide] for slide in dict.fromkeys(slides))


def _check_stage(until: str | None) -> None:
    if until is not None and until not in STAGES:
        raise UsageError(f"there is no stage {until!r}", fix=f"Write one of {', '.join(STAGES)}.")


@dataclass
class _Slides:
    """The slides of a run on their way, several at once; whatever goes wrong with one is kept with its name."""

    job: Job
    workers: int
    done: dict[str, Records]  # slide -> its records so far, in the order of the run
    failed: dict[str, str]  # slide -> what went wrong

    def records(self, stage: str) -> Records:
        """slide -> its record of one stage, of the slides that have come so far."""
        return {slide: done[stage] for slide, done in self.done.items() if stage in done and slide not in self.failed}

    def each(self, rows: Sequence[SlideRow], work: Callable[[SlideRow], Records], *, last: bool) -> None:
        """Do one work for every slide that has not failed; after the last a slide is done."""
        still = [row for row in rows if row.slide not in self.failed]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mihc-slide") as drivers:
            futures = [drivers.submit(self._one, row, work, last) for row in still]
            try:
                _await(futures)
            except BaseException:
                self.job.stopping.set()
                for future in futures:
                    future.cancel()
                raise
        self.failed = {slide: self.failed[slide] for slide in self.done if slide in self.failed}

    def _one(self, row: SlideRow, work: Callable[[SlideRow], Records], last: bool) -> None:
        told = ""
        try:
            with self.job.store.lock(row.slide):
                self.done[row.slide] |= work(row)
        except (LedgerError, OutputConflict, ResourceError, Stopped):
            raise
        except MihcError as error:
            told = _one_line(error)
            self.failed[row.slide] = _without_file_name(told, row)
        except (MemoryError, BrokenExecutor, CancelledError) as error:
            raise ResourceError(f"{type(error).__name__}: {error}", place=row.slide) from error
        except OSError as error:  # a full disk has become a ResourceError in the store
            self.failed[row.slide] = f"{error.strerror or type(error).__name__}"
        except Exception as error:
            self.failed[row.slide] = _defect(error)
        if row.slide in self.failed:
            for stage in ("values", "positives"):
                self.job.store.withdraw(stage, row.slide)
            self.job.say(row.slide, "", 0, 0, f"failed: {told or self.failed[row.slide]}")
        if last or row.slide in self.failed:
            self.job.say(row.slide, "done", 1, 1)


def _await(futures: Sequence[Future]) -> None:
    """Wait for all, or for the first error, looking up now and then.

    A signal that another thread received, or that came just before the wait, wakes no wait without a limit.
    """
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=SECONDS_UNHEARD, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


def _one_line(error: MihcError) -> str:
    """The message's lines as sentences one after the other."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line if line[-1] in ".:,;" or line is lines[-1] else f"{line}." for line in lines)


def _without_file_name(message: str, row: SlideRow) -> str:
    """A message as it may be kept: the names of files may tell who a patient is, and stay on the screen."""
    for path in filter(None, (row.file, row.cells, row.annotations)):
        message = message.removeprefix(f"{path.name}: ")
        for name in (quoted_path(path), str(path), quoted_path(path.name), path.name):
            message = message.replace(name, "FILE")
    return message


def _defect(error: Exception) -> str:
    """What a person can report: the error and the line of mihc that it came from."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(PACKAGE)
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"a defect of mihc: {type(error).__name__}: {' '.join(str(error).split())}{where}"


def _need_one(measured: Mapping[str, object], failed: Mapping[str, str]) -> None:
    if not measured:
        first = next(iter(failed.items()), ("", "0 slides are listed"))
        raise InputError(f"no slide could be measured; the first: {first[1]}", place=first[0])


def _facts(done: Mapping[str, Record]) -> dict[str, object]:
    """What the table of slides says of a slide that was measured."""
    facts: dict[str, object] = {"cells": done["positives"].notes["cells"]}
    if "slide" in done:
        notes = done["slide"].notes
        size_y, size_x = notes["pixel_size_um"]
        facts |= {"pixel_size_um": (size_y * size_x) ** 0.5, "pixel_size_source": notes["pixel_size_source"]}
    if "regions" in done:
        facts["region_source"] = done["regions"].notes["source"]
    return facts


def _summary(job: Job, measured: Mapping[str, Records]) -> dict:
    """The part of run.json that follows from the inputs: versions, settings, hashes."""
    return {
        "versions": {
            "mihc": mihc.__version__,
            "python": platform.python_version(),
            **{library: metadata.version(library) for library in NUMERIC_LIBRARIES},
        },
        "settings": asdict(job.study.settings),
        "inputs": {
            slide: {
                stage: {name: record.key[name] for name in ("input", "annotations", "cells") if name in record.key}
                for stage, record in done.items()
            }
            for slide, done in measured.items()
        },
        "files": {path.name: hash_file(path) for path in job.study.files()},
        "settings_hash": hash_json(asdict(job.study.settings)),
    }


def _write_run(job: Job, summary: dict, failed: Mapping[str, str]) -> None:
    """Write run.json: what was run, and time and peak memory of every stage of this run."""
    content = {
        **summary,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "failed": dict(failed),
        "peak_memory_mb": job.meter.overall.megabytes,
        "stages": [asdict(step) for step in job.steps],
        "seconds_per_stage": _seconds_per_stage(job.steps),
    }
    with job.store.transaction("run", {"always": str(time.time_ns())}) as transaction:
        write_json(transaction.path("run.json"), content)


def _seconds_per_stage(steps: Sequence[Step]) -> dict[str, float]:
    table = pd.DataFrame([asdict(step) for step in steps])
    return {stage: round(float(table.loc[table["stage"] == stage, "seconds"].sum()), 3) for stage in STAGES}
