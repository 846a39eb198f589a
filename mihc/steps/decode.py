"""What ingest does in processes of its own: open a foreign slide, decode it and write its pyramid.

Everything here takes and gives plain values, since a child is told in JSON what to do, and imports little, since each
child has to import it: the store's parts are imported one by one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mihc.decoders import still_at_it
from mihc.errors import SlideError
from mihc.slide import Slide, open_slide
from mihc.stores import images

OPEN_SLIDES = 2  # idle ones kept open in each process, so that a window does not open its slide anew
STORED = {"uint8": "uint8", "uint16": "uint16", "float32": "float32", "bool": "uint8", "int8": "uint8",
          "int16": "uint16", "float64": "float32", "float16": "float32"}  # fmt: skip

Box = tuple[int, int, int, int]  # y0, y1, x0, x1


class Source(NamedTuple):
    """What it takes to open a slide again in another thread, process or machine."""

    path: str
    scene: str | None
    z: str | None
    pixel_size_um: float | None
    content: str  # the file's hash or state, so that one that was replaced is opened anew

    def open(self) -> Slide:
        """Open the slide."""
        return open_slide(self.path, scene=self.scene, z=self.z, pixel_size_um=self.pixel_size_um)


class Description(NamedTuple):
    """What is known of a slide before its pixels."""

    format: str
    scene: str
    channels: list[str]
    shape: list[int]  # (c, y, x)
    dtype: str  # in which pixels are stored
    pixel_size_um: list[float]  # (y, x)
    pixel_size_source: str
    significant_bits: int | None
    scanned_px: str  # WKT
    warnings: list[str]


class Pass(NamedTuple):
    """What one pass over a square of one channel did and saw."""

    plane: int
    written: dict[str, tuple[int, str]]  # (bytes, sha256) by name in the image's folder
    smallest: float
    largest: float
    saturated: int  # pixels at the camera's ceiling


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


def describe_slide(source: Source) -> Description:
    """Open a slide and say what it is."""
    with _open_slides.borrow(Source(*source)) as slide:
        return Description(
            format=slide.format,
            scene=slide.scene,
            channels=list(slide.channels),
            shape=list(slide.image.shape),
            dtype=_stored_dtype(slide),
            pixel_size_um=list(slide.pixel_size_um),
            pixel_size_source=slide.pixel_size_source,
            significant_bits=slide.significant_bits,
            scanned_px=slide.scanned_px.wkt,
            warnings=list(slide.warnings),
        )


def close_slide(source: Source) -> None:
    """Give the file and what was decoded of it back."""
    _open_slides.close(Source(*source))


def _stored_dtype(slide: Slide) -> str:
    name = np.dtype(slide.image.dtype).name
    if name not in STORED:
        raise SlideError(
            f"pixels of type {name} cannot be stored without loss",
            place=slide.path.name,
            fix="Export the slide with 8 or 16 bits, or as 32-bit floating point numbers.",
        )
    return STORED[name]


def use_in_place(source: Source, path: str, dtype: str, channels: list[int]) -> bool:
    """Make level 0 of the image of an OME-Zarr's own chunk files; False where they cannot be used as they are.

    Nothing is decoded.
    """
    with source.open() as slide:
        if slide.pixels.array.dtype.newbyteorder("=") != np.dtype(dtype):
            return False
        return images.use_in_place(path, slide.pixels.array, slide.pixels.folder, slide.pixels.axes.names, channels)


def store_passes(
    source: Source, path: str, dtype: str, in_place: bool, passes: list[tuple[int, int, Box]]
) -> list[Pass]:
    """Do some passes, each (channel, plane, box), one after the other."""
    source = Source(*source)
    return [store_pass(source, path, channel, plane, dtype, box, in_place) for channel, plane, box in passes]


def store_pass(source: Source, path: str, channel: int, plane: int, dtype: str, box: Box, in_place: bool) -> Pass:
    """Read one square of one channel, once; write it, unless it is used in place, and the level above."""
    seen: list[tuple[float, float, int]] = []
    with _open_slides.borrow(source) as slide:
        ceiling = _ceiling(slide, dtype)

        def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
            still_at_it()
            block = _lossless(np.asarray(slide.image[channel, y0:y1, x0:x1]), dtype, Path(source.path).name)
            largest = block.max()
            saturated = int(np.count_nonzero(block >= ceiling)) if largest >= ceiling else 0
            seen.append((float(block.min()), float(largest), saturated))
            return block

        written = images.write_image_pass(path, plane, box, read, in_place=in_place)
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


TASKS = {
    task.__name__: task
    for task in (
        describe_slide,
        close_slide,
        store_passes,
        images.halve_image_window,
        images.halve_image_plane,
        images.display_window,
    )
}
