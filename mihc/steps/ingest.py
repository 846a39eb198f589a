"""Slide -> store: the measured channels of a slide as a checksummed OME-Zarr pyramid.

The slide is opened and decoded in processes of their own (`mihc.steps.decode`); here is what they are told, and
the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from mihc import store
from mihc.errors import SlideError
from mihc.stages import Job, code_hash
from mihc.steps.decode import (
    Box,
    Description,
    Pass,
    Source,
    close_slide,
    describe_slide,
    store_passes,
    use_in_place,
)
from mihc.store import Record, Transaction, hash_json
from mihc.study import SlideRow

MODULES = (
    "mihc.panel",
    "mihc.slide",
    "mihc.slides",
    "mihc.store",
    "mihc.stores",
    "mihc.steps.decode",
    "mihc.steps.ingest",
)
LARGE_BYTES = 16 << 20  # a file above keeps every worker busy, so that all of them may begin to start
TASKS_PER_WORKER = 4  # at least, before a task becomes a whole row of passes


def ingest(job: Job, row: SlideRow) -> Record:
    """Store one slide: `slides/<slide>.ome.zarr`."""
    panel = job.study.panel_of(row)
    before = _hashed_meanwhile(job, row)
    if before:  # it will be computed: the children start while the rest is prepared
        job.decoders.prepare(job.workers if row.file.stat().st_size > LARGE_BYTES else 1)
    key = {
        "input": "" if before else job.input_hash(row.file),
        "choice": hash_json([row.scene, row.z, row.pixel_size_um]),
        "panel": hash_json([(line.channel, line.marker, line.role, line.colour) for line in panel.measured]),
        "blank": str(job.study.settings.qc.allow_blank),
        "code": code_hash(*MODULES),
    }
    source = Source(str(row.file), row.scene or None, row.z or None, row.pixel_size_um, before or key["input"])

    def make(transaction: Transaction) -> None:
        if not before:
            _store(job, row, source, transaction)
            return
        hashing = job.submit(job.input_hash, row.file)
        try:
            _store(job, row, source, transaction)
        except BaseException:
            hashing.cancel()
            raise
        transaction.key["input"] = hashing.result()
        store.check_unchanged(row.file, before)

    return job.stage("slide", row.slide, key, make)


def _hashed_meanwhile(job: Job, row: SlideRow) -> str:
    """The slide's fingerprint where nothing can be reused, so that its hash decides nothing before it is stored.

    An OME-Zarr is hashed first: links to its files change their times.
    """
    if job.decoders is None or not row.file.is_file() or job.store.record("slide", row.slide):
        return ""
    return store.fingerprint(row.file)


def _store(job: Job, row: SlideRow, source: Source, transaction: Transaction) -> None:
    place = row.file.name
    slide = Description(*job.submit(job.apart(describe_slide, place), source).result())
    panel = job.study.panel_of(row)
    index = panel.match(slide.channels)
    job.store.require_space(int(np.prod(slide.shape)) * np.dtype(slide.dtype).itemsize)
    name = f"slides/{row.slide}.ome.zarr"
    path = transaction.path(name)
    shape = (len(panel.measured), *slide.shape[1:])
    markers = [line.marker for line in panel.measured]
    channels = [index[marker] for marker in markers]
    store.create_image(
        path,
        shape=shape,
        dtype=slide.dtype,
        pixel_size_um=slide.pixel_size_um,
        channels=markers,
        colours=[line.colour for line in panel.measured],
        windows=None,
        name=row.slide,
    )
    try:
        in_place = slide.format == "OME-Zarr" and use_in_place(source, str(path), slide.dtype, channels)
        passes = _passes_done(job, row, source, slide.dtype, in_place, channels, shape, transaction)
    finally:
        job.decoders.tell_idle(close_slide.__name__, [source]) if job.decoders else close_slide(source)
    facts = _channel_facts(markers, passes, slide)
    if not job.study.settings.qc.allow_blank:
        _refuse_blank(row.slide, facts["channels"])
    submit = _submit_apart(job, place)
    transaction.vouch(name, store.build_pyramid(path, submit, first=2))
    transaction.notes["in_place"] = in_place
    transaction.notes |= _notes(slide, markers) | facts
    last = len(store.level_shapes(shape[1:])) - 1
    windows = store.run_all(submit, store.display_window, [(str(path), last, plane) for plane in range(shape[0])])
    store.set_display_windows(path, windows)


def _passes_done(
    job: Job,
    row: SlideRow,
    source: Source,
    dtype: str,
    in_place: bool,
    channels: list[int],
    shape: tuple[int, int, int],
    transaction: Transaction,
) -> list[Pass]:
    """Read the slide once: levels 0 and 1."""
    name = f"slides/{row.slide}.ome.zarr"
    path = transaction.path(name)
    tasks = [
        (source, str(path), dtype, in_place, [(channels[plane], plane, box) for plane, box in run])
        for run in _runs(shape, job.workers)
    ]
    done: list[Pass] = []

    def keep(passes: list) -> None:
        for each in passes:
            done.append(Pass(*each))
            transaction.vouch(name, done[-1].written)

    job.map(row.slide, "slide", job.apart(store_passes, row.file.name), tasks, each=keep)
    return done


def _submit_apart(job: Job, place: str) -> Callable[..., Future]:
    return lambda function, *arguments: job.submit(job.apart(function, place), *arguments)


def _runs(shape: tuple[int, int, int], workers: int) -> list[list[tuple[int, Box]]]:
    """The passes (channel, (y0, y1, x0, x1)) of every task.

    A task is a row of passes over one channel, whose strips and overlapping tiles are then decoded by one process; a
    single pass where there would be too few tasks; and never less than the pixels of one full pass.
    """
    planes, height, width = shape
    side = store.IMAGE_PASS
    rows = [
        [(plane, (y, min(y + side, height), x, min(x + side, width))) for x in range(0, width, side)]
        for y in range(0, height, side)
        for plane in range(planes)
    ]
    if len(rows) < TASKS_PER_WORKER * workers:
        rows = [[each] for row in rows for each in row]
    runs: list[list[tuple[int, Box]]] = [[]]
    for row in rows:
        if sum((y1 - y0) * (x1 - x0) for _, (y0, y1, x0, x1) in runs[-1]) >= side**2:
            runs.append([])
        runs[-1] += row
    return runs


def _notes(slide: Description, markers: list[str]) -> dict:
    return {
        "pixel_size_um": slide.pixel_size_um,
        "pixel_size_source": slide.pixel_size_source,
        "format": slide.format,
        "scene": hash_json(slide.scene),  # compared only; its name may be a person's
        "shape": slide.shape,
        "markers": markers,
        "dtype": slide.dtype,
        "significant_bits": slide.significant_bits,
        "scanned_px": slide.scanned_px,
        "warnings": slide.warnings,
    }


def _channel_facts(markers: list[str], passes: list[Pass], slide: Description) -> dict:
    height, width = slide.shape[1:]
    facts = {}
    for plane, marker in enumerate(markers):
        found = [done for done in passes if done.plane == plane]
        facts[marker] = {
            "smallest": min(done.smallest for done in found),
            "largest": max(done.largest for done in found),
            "saturated_share": sum(done.saturated for done in found) / (height * width),
        }
    return {"channels": facts}


def _refuse_blank(slide: str, facts: dict[str, dict]) -> None:
    """A channel of zeros beside channels that show something was not exposed, or lost: 0 % positive would be wrong."""
    blank = [marker for marker, seen in facts.items() if not seen["smallest"] and not seen["largest"]]
    if blank and len(blank) < len(facts):
        raise SlideError(
            f"blank channel: every pixel of {', '.join(blank)} is 0",
            place=slide,
            fix="Export the slide again, give the channel the role ignore in panel.csv, or write allow_blank = true "
            "under [qc] in study.toml.",
        )
