"""Store -> cells: one pass over windows that finds nuclei, grows cells, measures them and writes their labels.

Where study.toml names another segmenter than mihc's own, it finds the nuclei before, in `mihc.steps.find`, and the pass
reads them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from mihc import store
from mihc.cells import CellSettings, cells_in_window, features_halo_px, fixed_point_bits, halo_px
from mihc.nuclei import NucleusReference, slide_reference
from mihc.nuclei_stain import NuclearStain
from mihc.segmenters import CLASSICAL
from mihc.stages import Job, code_hash
from mihc.steps.find import (
    NUCLEI_MODULES,
    Found,
    find_by_segmenter,
    forget_segmenter,
    given_nuclei,
    stain_lines,
    stain_of,
)
from mihc.store import Record, StoredImage, Transaction, hash_json
from mihc.study import SlideRow
from mihc.windows import Window, windows

MODULES = (
    *NUCLEI_MODULES,
    "mihc.nuclei_cuts",
    "mihc.nuclei_masks",
    "mihc.nuclei_merges",
    "mihc.nuclei_rest",
    "mihc.nuclei_tree",
    "mihc.cells",
    "mihc.cells_kernels",
    "mihc.measures",
    "mihc.steps.segment",
)
LABELS = ("nuclei", "cells")
OPEN_IMAGES = 4


def measured_table(slide: str) -> str:
    """Where the measured part of a slide's cells table lies under results/, before regions and calls join it."""
    return f".stages/cells/{slide}.parquet"


def segment(job: Job, row: SlideRow, image: Record) -> Record:
    """Segment and measure one slide: labels/nuclei, labels/cells and the measured part of its cells table."""
    segmentation, panel = job.study.settings.segmentation, job.study.panel_of(row)
    if segmentation.method in CLASSICAL:
        found = None
        forget_segmenter(job, row)
    else:
        found = find_by_segmenter(job, row, image)
    own = [segmentation.nucleus_diameter_um, segmentation.cell_expansion_um, segmentation.sensitivity]
    key = {
        "image": image.digest,
        "segmentation": hash_json([*own, segmentation.method if found else "classical"]),
        "measure": hash_json(job.study.settings.measure.features),
        "nuclei": found.digest if found else hash_json([[line.marker, line.role] for line in stain_lines(panel)]),
        "code": code_hash(*MODULES),
    }
    return job.stage("cells", row.slide, key, lambda transaction: _segment(job, row, image, found, transaction))


def _segment(job: Job, row: SlideRow, image: Record, found: Found | None, transaction: Transaction) -> None:
    path = job.store.path(f"slides/{row.slide}.ome.zarr")
    stored = store.open_image(path)
    stain = stain_of(stored, job.study.panel_of(row))
    settings = _settings(job, stored, stain, image)
    reference = slide_reference(
        stain, pixel_size_um=stored.pixel_size_um, nucleus_diameter_um=settings.nucleus_diameter_um
    )
    shape = stored.levels[0].shape[1:]
    labels = {name: transaction.path(f"slides/{row.slide}.ome.zarr/labels/{name}") for name in LABELS}
    for name, folder in labels.items():
        store.create_labels(folder, shape=shape, pixel_size_um=stored.pixel_size_um, name=name)
    halo = _halo(stored, settings, found)
    parts = transaction.scratch("cells")
    out = (*(str(folder) for folder in labels.values()), str(parts))
    every = windows(shape, _side(job), halo)
    tasks = [(str(path), image.digest, out, window, settings, reference, found) for window in every]
    counts = job.map(row.slide, "cells", segment_window, tasks)
    for folder in labels.values():
        store.build_label_pyramid(folder, job.submit)
    store.write_cells_in_parts(transaction.path(measured_table(row.slide)), _in_order(row.slide, every, parts))
    transaction.notes |= {
        "cells": sum(counts),
        "reference": reference.as_dict(),
        "autofluorescence": settings.autofluorescence.as_dict() if settings.autofluorescence else None,
        "fixed_point_bits": dict(zip(stored.channels, settings.fixed_point_bits, strict=True)),
    }


def _in_order(slide: str, every: Sequence[Window], parts: Path) -> Iterator[pd.DataFrame]:
    """The rows of all windows by id, which rises with the seeds' rows: a row of windows at a time."""
    for _, row in itertools.groupby(every, key=lambda window: window.y0):
        tables = [store.read_cells(_part(parts, window)) for window in row]
        cells = pd.concat(tables, ignore_index=True).sort_values("cell", kind="stable", ignore_index=True)
        cells.insert(0, "slide", slide)
        yield cells


def _part(folder: str | Path, window: Window) -> Path:
    """Where the rows of a window wait for those of the others."""
    return Path(folder) / f"{window.y0}_{window.x0}.parquet"


def _settings(job: Job, stored: StoredImage, stain: NuclearStain, image: Record) -> CellSettings:
    segmentation = job.study.settings.segmentation
    bits = image.notes["significant_bits"]
    planes = [_Plane(stored.levels[0], index) for index in range(len(stored.channels))]
    return CellSettings(
        nucleus_diameter_um=segmentation.nucleus_diameter_um,
        cell_expansion_um=segmentation.cell_expansion_um,
        nuclei_channels=stain.channels,
        measured=tuple(enumerate(stored.channels)),
        fixed_point_bits=tuple(fixed_point_bits(plane) for plane in planes),
        ceilings=(2**bits - 1,) * len(planes) if bits else (),
        features=job.study.settings.measure.features,
        sensitivity=segmentation.sensitivity,
        autofluorescence=stain.autofluorescence,
    )


def _halo(stored: StoredImage, settings: CellSettings, found: Found | None) -> int:
    """Pixels around a window: what the nuclei need, whoever finds them, and two cells that compete for a pixel."""
    size, expansion = stored.pixel_size_um, settings.cell_expansion_um
    if found is None:
        return halo_px(size, settings.nucleus_diameter_um, expansion, settings.features)
    more = features_halo_px(size, found.halo_px, expansion, settings.features)
    return found.halo_px + 2 * math.ceil(expansion / min(size)) + 2 + more


class _Plane:
    """One channel of a stored image as a (y, x) array that is read where it is sliced."""

    def __init__(self, image: store.StoredArray, channel: int) -> None:
        self.image, self.channel = image, channel
        self.shape, self.dtype = image.shape[1:], image.dtype

    def __getitem__(self, box: tuple[slice, slice]) -> np.ndarray:
        return self.image[self.channel, box[0], box[1]]


class _Padded:
    """A window's padded box of a stored image as a (c, y, x) array that is read where it is sliced."""

    def __init__(self, image: store.StoredArray, window: Window) -> None:
        self.image, self.window = image, window
        self.shape, self.dtype = (image.shape[0], *window.padded_shape), image.dtype

    def __getitem__(self, box: tuple[int | slice, slice, slice]) -> np.ndarray:
        rows, columns = (
            slice(start + part.indices(size)[0], start + part.indices(size)[1])
            for part, start, size in zip(box[1:], (self.window.py0, self.window.px0), self.shape[1:], strict=True)
        )
        return np.asarray(self.image[box[0], rows, columns])


def _side(job: Job) -> int:
    """The window's side: study.toml's, rounded up to whole label chunks, which one task must write alone."""
    return -(-job.study.settings.compute.window // store.LABEL_CHUNK) * store.LABEL_CHUNK


@lru_cache(maxsize=OPEN_IMAGES)
def _image(path: str, digest: str) -> StoredImage:
    """An image by its digest too: the same path may hold another generation later in the same process."""
    return store.open_image(path)


def segment_window(
    image: str,
    digest: str,
    out: tuple[str, str, str],
    window: Window,
    settings: CellSettings,
    reference: NucleusReference,
    given: Found | None,
) -> int:
    """Read one window; write its core of both labels, and the rows of the cells it owns -> how many they are.

    `out` names the folders of the nuclei, of the cells and of the rows.
    """
    stored = _image(image, digest)
    level = stored.levels[0]
    found = cells_in_window(
        _Padded(level, window),
        window,
        shape=level.shape[1:],
        pixel_size_um=stored.pixel_size_um,
        settings=settings,
        reference=reference,
        given=given_nuclei(given, window.padded) if given else None,
    )
    for folder, core in zip(out, (found.nuclei, found.cells)):
        store.write_label_window(Path(folder), 0, window.y0, window.x0, core)
    store.write_cells(_part(out[2], window), found.table)
    return len(found.table)
