"""Store -> nuclei, where study.toml names another segmenter than mihc's own: each tile of its grid is asked once.

The labels are kept as a stage of their own, because a network takes hours where measuring takes minutes: a change of
anything behind the nuclei computes none of them again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mihc import store
from mihc.errors import InputError
from mihc.nuclei_grid import Canvas, Grid, Objects, Segmenter, Tile, objects_of_tile
from mihc.nuclei_reference import NucleusReference, diameter_px, light_of, reference_blocks
from mihc.nuclei_stain import Autofluorescence, NuclearStain, measure_autofluorescence
from mihc.panel import Panel, PanelRow
from mihc.segmenters import open_segmenter, segmenter_versions
from mihc.stages import Job, code_hash
from mihc.store import Record, StoredImage, Transaction, hash_json
from mihc.study import SlideRow

NUCLEI_MODULES = (
    "mihc.windows",
    "mihc.kernels",
    "mihc.nuclei",
    "mihc.nuclei_grid",
    "mihc.nuclei_ids",
    "mihc.nuclei_kernels",
    "mihc.nuclei_reference",
    "mihc.nuclei_stain",
    "mihc.store",
    "mihc.stores",
    "mihc.steps.find",
)
STAGE = "nuclei"
TILES_AT_ONCE = 64  # as many rows of tiles are handed out together as hold these
OPEN_IMAGES = 4


@dataclass(frozen=True)
class Found:
    """Nuclei that another segmenter found on a slide."""

    folder: str  # holds labels/nuclei
    digest: str
    halo_px: int  # from a seed, all of its nucleus


@dataclass(frozen=True)
class Choice:
    """What it takes to open a segmenter again in another thread, process or machine."""

    method: str
    weights: str  # a path, or "" for none
    content: str  # hash of the weights and versions, so that what was replaced is opened anew
    nucleus_diameter_um: float
    sensitivity: str


@dataclass(frozen=True)
class Pictures:
    """What is the same for every tile of a slide."""

    image: str
    digest: str  # the same path may hold another generation later in the same process
    channels: tuple[tuple[int, ...], ...]  # of each plane that the segmenter wants
    autofluorescence: Autofluorescence | None
    lights: tuple[NucleusReference, ...]  # of each plane
    grid: Grid


def find_by_segmenter(job: Job, row: SlideRow, image: Record) -> Found:
    """Find a slide's nuclei with the segmenter that study.toml names, or reuse what it found before."""
    segmentation = job.study.settings.segmentation
    weights = job.study.folder / segmentation.weights if segmentation.weights else None
    if weights is not None and not weights.exists():
        raise InputError(
            f"there are no weights {segmentation.weights}",
            place="study.toml, [segmentation]",
            fix="Copy the trained model into the study's folder: mihc downloads nothing.",
        )
    content = hash_json([job.input_hash(weights) if weights else "", segmenter_versions(segmentation.method)])
    choice = Choice(
        segmentation.method,
        str(weights or ""),
        content,
        segmentation.nucleus_diameter_um,
        segmentation.sensitivity,
    )
    key = {
        "image": image.digest,
        "segmentation": hash_json([choice.method, choice.nucleus_diameter_um, choice.sensitivity]),
        "weights": content,
        "panel": hash_json([[line.marker, line.role] for line in job.study.panel_of(row).measured]),
        "code": code_hash(*NUCLEI_MODULES, "mihc.segmenters"),
    }
    record = job.stage(STAGE, row.slide, key, lambda transaction: _find(job, row, image, choice, transaction))
    folder = job.store.path(_folder(row.slide))
    return Found(str(folder), record.digest, int(record.notes["halo_px"]))


def forget_segmenter(job: Job, row: SlideRow) -> None:
    """Take away what another segmenter found, when the study no longer names one."""
    if job.store.record(STAGE, row.slide) is not None:
        job.store.withdraw(STAGE, row.slide)


def stain_lines(panel: Panel) -> list[PanelRow]:
    """The panel's lines that make its nuclear stain."""
    return [*panel.nuclei, *(line for line in panel.rows if line.role == "autofluorescence")]


def stain_of(stored: StoredImage, panel: Panel) -> NuclearStain:
    """The nuclear stain of a stored slide: its channels, and what their first autofluorescence channel explains."""
    index = {marker: number for number, marker in enumerate(stored.channels)}
    channels = tuple(index[line.marker] for line in panel.nuclei)
    glowing = [index[line.marker] for line in stain_lines(panel) if line.role == "autofluorescence"]
    level = stored.levels[0]
    return NuclearStain(level, channels, measure_autofluorescence(level, channels, glowing[0]) if glowing else None)


def _folder(slide: str) -> str:
    return f".stages/nuclei/{slide}"


def _find(job: Job, row: SlideRow, image: Record, choice: Choice, transaction: Transaction) -> None:
    path = job.store.path(f"slides/{row.slide}.ome.zarr")
    stored = store.open_image(path)
    pictures = _pictures(str(path), image.digest, stored, job.study.panel_of(row), choice)
    folder = transaction.path(_folder(row.slide)) / "labels" / "nuclei"
    store.create_labels(folder, shape=pictures.grid.shape, pixel_size_um=stored.pixel_size_um, name="nuclei")
    canvas = Canvas(pictures.grid)
    for found in _asked(job, row.slide, pictures, choice):
        canvas.add_row(found)
        _write_what_is_ready(canvas, folder)
    store.build_label_pyramid(folder, job.submit)
    glow = pictures.autofluorescence
    transaction.notes |= {
        "halo_px": pictures.grid.halo_px,
        "versions": segmenter_versions(choice.method),
        "lights": [light.as_dict() for light in pictures.lights],
        "autofluorescence": glow.as_dict() if glow else None,
    }


def _pictures(path: str, digest: str, stored: StoredImage, panel: Panel, choice: Choice) -> Pictures:
    segmenter = _segmenter(choice)
    stain = stain_of(stored, panel)
    channels, lights = [], []
    diameter = diameter_px(stored.pixel_size_um, choice.nucleus_diameter_um)
    for role in segmenter.planes:
        of_role = tuple(stored.channels.index(line.marker) for line in panel.measured if line.role == role)
        if not of_role:
            raise InputError(
                f'the segmenter "{choice.method}" needs a channel with the role {role}',
                place="panel.csv",
                fix="Give a channel this role, or choose another method.",
            )
        plane = _plane(stored, role, of_role, stain.autofluorescence)
        blocks = [plane[y0:y1, x0:x1] for y0, y1, x0, x1 in reference_blocks(plane.shape)]
        channels.append(of_role)
        lights.append(light_of(blocks, diameter))
    grid = Grid.of(stain.shape, stored.pixel_size_um, segmenter)
    return Pictures(path, digest, tuple(channels), stain.autofluorescence, tuple(lights), grid)


def _plane(stored: StoredImage, role: str, channels: tuple[int, ...], glow: Autofluorescence | None) -> NuclearStain:
    return NuclearStain(stored.levels[0], channels, glow if role == "nuclei" else None)


def _asked(job: Job, slide: str, pictures: Pictures, choice: Choice) -> Iterator[list[Objects]]:
    """What was found in the tiles of each row of the grid, from the first."""
    grid = pictures.grid
    across = len(grid.tiles(0))
    step = max(1, TILES_AT_ONCE // across)
    for first in range(0, grid.rows, step):
        rows = [grid.tiles(row) for row in range(first, min(first + step, grid.rows))]
        tasks = [(pictures, choice, tile) for row in rows for tile in row]
        found = job.map(slide, STAGE, find_tile, tasks, before=first * across, total=grid.rows * across)
        for number in range(len(rows)):
            yield found[number * across : (number + 1) * across]


def _write_what_is_ready(canvas: Canvas, folder: Path) -> None:
    """Whole rows of chunks, and at the end the rest."""
    side = store.LABEL_CHUNK
    while canvas.ready >= side or (canvas.ready and canvas.y0 + canvas.ready == canvas.grid.shape[0]):
        y0 = canvas.y0
        strip = canvas.take(side)
        for x0 in range(0, strip.shape[1], side):
            store.write_label_window(folder, 0, y0, x0, strip[:, x0 : x0 + side])


def find_tile(pictures: Pictures, choice: Choice, tile: Tile) -> Objects:
    """Read one tile of a slide and ask the segmenter."""
    stored = _image(pictures.image, pictures.digest)
    segmenter = _segmenter(choice)
    planes = [
        _plane(stored, role, channels, pictures.autofluorescence)
        for role, channels in zip(segmenter.planes, pictures.channels, strict=True)
    ]
    return objects_of_tile(planes, pictures.lights, pictures.grid, tile, segmenter)


def given_nuclei(found: Found, box: tuple[slice, slice]) -> np.ndarray:
    """Labels (y, x) uint32 of what was found, in a box of the slide."""
    return np.asarray(_labels(found)[box])


@lru_cache(maxsize=OPEN_IMAGES)
def _image(path: str, digest: str) -> StoredImage:
    return store.open_image(path)


@lru_cache(maxsize=OPEN_IMAGES)
def _labels(found: Found) -> store.StoredArray:
    return store.open_labels(found.folder, "nuclei")[0]


_opening = threading.Lock()


def _segmenter(choice: Choice) -> Segmenter:
    """The segmenter of this process: loaded once, whichever thread asks first."""
    with _opening:
        return _opened(choice)


@lru_cache(maxsize=1)
def _opened(choice: Choice) -> Segmenter:
    return open_segmenter(
        choice.method,
        weights=choice.weights or None,
        nucleus_diameter_um=choice.nucleus_diameter_um,
        sensitivity=choice.sensitivity,
    )
