"""Slide -> store: the measured channels of a slide as a checksummed OME-Zarr pyramid."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mihc import store
from mihc.errors import SlideError
from mihc.slide import Slide, open_slide
from mihc.stages import Job, code_hash
from mihc.store import Record, Transaction, hash_json
from mihc.study import SlideRow

MODULES = ("mihc.panel", "mihc.slide", "mihc.slides", "mihc.store", "mihc.stores", "mihc.steps.ingest")
OPEN_SLIDES = 4  # idle ones kept open in each process, so that a window does not open its slide anew
STORED = {"uint8": "uint8", "uint16": "uint16", "float32": "float32", "bool": "uint8", "int8": "uint8",
          "int16": "uint16", "float64": "float32", "float16": "float32"}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """What it takes to open a slide again in another thread, process or machine."""

    path: str
    scene: str | None
    z: str | None
    pixel_size_um: float | None
    content: str  # hash of the file, so that one that was replaced is opened anew

    @classmethod
    def of(cls, row: SlideRow, content: str) -> Source:
        """Take it from a line of slides.csv."""
        return cls(str(row.file), row.scene or None, row.z or None, row.pixel_size_um, content)

    def open(self) -> Slide:
        """Open the slide."""
        return open_slide(self.path, scene=self.scene, z=self.z, pixel_size_um=self.pixel_size_um)


class _OpenSlides:
    """Slides that tasks of this process read from; the oldest that nobody uses is closed when there are too many."""

    def __init__(self) -> None:
        self._slides: dict[Source, Slide] = {}
        self._users: Counter[Source] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, source: Source) -> Iterator[Slide]:
        with self._lock:
            if source not in self._slides:
                self._slides[source] = source.open()
            self._users[source] += 1
            slide = self._slides[source]
        try:
            yield slide
        finally:
            with self._lock:
                self._users[source] -= 1
                self._close_oldest(len(self._slides) - OPEN_SLIDES)

    def close(self, source: Source) -> None:
        """Close a slide that no task will ask for again."""
        with self._lock:
            if source in self._slides and not self._users[source]:
                self._slides.pop(source).close()

    def _close_oldest(self, too_many: int) -> None:
        idle = [source for source in self._slides if not self._users[source]]
        for source in idle[: max(too_many, 0)]:
            self._slides.pop(source).close()


_open_slides = _OpenSlides()


def ingest(job: Job, row: SlideRow) -> Record:
    """Store one slide: `slides/<slide>.ome.zarr`."""
    panel = job.study.panel_of(row)
    key = {
        "input": job.input_hash(row.file),
        "choice": hash_json([row.scene, row.z, row.pixel_size_um]),
        "panel": hash_json([(line.channel, line.marker, line.role, line.colour) for line in panel.measured]),
        "blank": str(job.study.settings.qc.allow_blank),
        "code": code_hash(*MODULES),
    }
    source = Source.of(row, key["input"])
    return job.stage("slide", row.slide, key, lambda transaction: _store(job, row, source, transaction))


def _store(job: Job, row: SlideRow, source: Source, transaction: Transaction) -> None:
    with source.open() as slide:
        panel = job.study.panel_of(row)
        index = panel.match(slide.channels)
        dtype = _stored_dtype(slide)
        job.store.require_space(int(np.prod(slide.image.shape)) * np.dtype(dtype).itemsize)
        name = f"slides/{row.slide}.ome.zarr"
        path = transaction.path(name)
        shape = (len(panel.measured), *slide.image.shape[1:])
        markers = [line.marker for line in panel.measured]
        store.create_image(
            path,
            shape=shape,
            dtype=dtype,
            pixel_size_um=slide.pixel_size_um,
            channels=markers,
            colours=[line.colour for line in panel.measured],
            windows=None,
            name=row.slide,
        )
        in_place = _used_in_place(slide, path, dtype, [index[marker] for marker in markers])
        tasks = [
            (source, str(path), index[markers[plane]], plane, dtype, box, in_place) for plane, box in _passes(shape)
        ]
        try:
            passes = job.map(row.slide, "slide", store_pass, tasks)
        finally:
            _open_slides.close(source)
        facts = _channel_facts(markers, passes, slide)
        if not job.study.settings.qc.allow_blank:
            _refuse_blank(row.slide, facts["channels"])
        for done in passes:
            transaction.vouch(name, done.written)
        transaction.vouch(name, store.build_pyramid(path, job.submit, first=2))
        transaction.notes["in_place"] = in_place
        transaction.notes |= _notes(slide, markers, dtype) | facts
    _show_contrast(path)


def _stored_dtype(slide: Slide) -> str:
    name = np.dtype(slide.image.dtype).name
    if name not in STORED:
        raise SlideError(
            f"pixels of type {name} cannot be stored without loss",
            place=slide.path.name,
            fix="Export the slide with 8 or 16 bits, or as 32-bit floating point numbers.",
        )
    return STORED[name]


def _used_in_place(slide: Slide, path: Path, dtype: str, channels: list[int]) -> bool:
    """Whether the store's level 0 is now the slide's own chunk files."""
    if slide.format != "OME-Zarr" or slide.pixels.array.dtype.newbyteorder("=") != np.dtype(dtype):
        return False
    return store.use_in_place(path, slide.pixels.array, slide.pixels.folder, slide.pixels.axes.names, channels)


def _passes(shape: tuple[int, int, int]) -> list[tuple[int, tuple[int, int, int, int]]]:
    """(channel, (y0, y1, x0, x1)) of every task: along a row before the next channel, since strips span the slide."""
    planes, height, width = shape
    side = store.IMAGE_PASS
    return [
        (plane, (y, min(y + side, height), x, min(x + side, width)))
        for y in range(0, height, side)
        for plane in range(planes)
        for x in range(0, width, side)
    ]


@dataclass(frozen=True)
class Pass:
    """What one task of ingest did and saw."""

    plane: int
    written: dict[str, tuple[int, str]]  # (bytes, sha256) by name in the image's folder
    smallest: float
    largest: float
    saturated: int  # pixels at the camera's ceiling


def store_pass(
    source: Source, path: str, channel: int, plane: int, dtype: str, box: tuple[int, int, int, int], in_place: bool
) -> Pass:
    """Read one square of one channel, once; write it, unless it is used in place, and the level above."""
    seen: list[tuple[float, float, int]] = []
    with _open_slides.borrow(source) as slide:
        ceiling = _ceiling(slide, dtype)

        def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
            block = _lossless(np.asarray(slide.image[channel, y0:y1, x0:x1]), dtype, Path(source.path).name)
            largest = block.max()
            saturated = int(np.count_nonzero(block >= ceiling)) if largest >= ceiling else 0
            seen.append((float(block.min()), float(largest), saturated))
            return block

        written = store.write_image_pass(path, plane, box, read, in_place=in_place)
    smallest, largest, saturated = zip(*seen)
    return Pass(plane, written, min(smallest), max(largest), sum(saturated))


def _lossless(block: np.ndarray, dtype: str, place: str) -> np.ndarray:
    stored = block.astype(dtype, copy=False)
    if block.dtype == np.float64 and not np.array_equal(stored, block):
        raise SlideError(
            "pixels of 64-bit floating point that 32 bits cannot hold",
            place=place,
            fix="Export the slide with 32 bits.",
        )
    return stored


def _ceiling(slide: Slide, dtype: str) -> float:
    if np.dtype(dtype).kind != "u":
        return np.inf
    return float(2**slide.significant_bits - 1 if slide.significant_bits else np.iinfo(dtype).max)


def _notes(slide: Slide, markers: list[str], dtype: str) -> dict:
    return {
        "pixel_size_um": list(slide.pixel_size_um),
        "pixel_size_source": slide.pixel_size_source,
        "format": slide.format,
        "scene": slide.scene,
        "shape": list(slide.image.shape),
        "markers": markers,
        "dtype": dtype,
        "significant_bits": slide.significant_bits,
        "scanned_px": slide.scanned_px.wkt,
        "warnings": list(slide.warnings),
    }


def _channel_facts(markers: list[str], passes: list[Pass], slide: Slide) -> dict:
    height, width = slide.image.shape[1:]
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


def _show_contrast(path: Path) -> None:
    """Display windows for viewers: the 1st to the 99.8th percentile of the smallest level."""
    smallest = np.asarray(store.open_image(path).levels[-1][:])
    store.set_display_windows(path, [tuple(float(v) for v in np.percentile(plane, (1, 99.8))) for plane in smallest])
