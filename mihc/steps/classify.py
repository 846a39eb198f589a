"""Apply the trained tissue classifier to a slide: its pixels of about 2 µm, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc import store
from mihc.areas.classifier import (
    NOTHING,
    Frame,
    PixelClassifier,
    classified_regions,
    classify_window,
    window_halo,
    window_side,
)
from mihc.areas.textures import Light, slide_light
from mihc.errors import InputError
from mihc.quality.fields import mean_pixel
from mihc.regions import Region
from mihc.stages import Job
from mihc.steps.levels import TISSUE_PIXEL_UM, Overview, level_pixel_um, nearest_level
from mihc.store import StoredImage

MOST_PICTURE_PIXELS = 24_000_000  # of the picture of classes; a larger slide's is made of blocks of pixels


@dataclass(frozen=True, eq=False)
class Task:
    """One window, for a worker anywhere."""

    folder: str  # the slide's OME-Zarr
    level: int
    frame: Frame
    classifier: PixelClassifier
    light: Light
    pixel_um: float
    blocks: int
    wanted: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # a coarse mask with the window's rows and columns in it


def classify_slide(
    job: Job, slide: str, stored: StoredImage, overview: Overview, tissue: np.ndarray, classifier: PixelClassifier
) -> tuple[list[Region], Polygon | MultiPolygon | None]:
    """Return the regions that the classifier finds, and the tissue where it tells it from glass, else None.

    `tissue` is the mask found on the overview: where the classifier knows no glass, only that is looked at.
    """
    if tuple(stored.channels) != classifier.channels:
        raise InputError(
            f"the tissue classifier was trained on {', '.join(classifier.channels)}; "
            f"this slide has {', '.join(stored.channels)}",
            place=slide,
            fix="Draw strokes on a slide of this panel, or bring the panel's own classifier.",
        )
    level = nearest_level(stored, TISSUE_PIXEL_UM)
    size, shape = level_pixel_um(stored, level), stored.levels[level].shape[1:]
    blocks = next(side for side in (1, 2, 4, 8, 16, 32) if shape[0] * shape[1] <= MOST_PICTURE_PIXELS * side**2)
    folder = str(job.store.path(f"slides/{slide}.ome.zarr"))
    light = classifier.light_on(slide_light(overview.pixels))
    halo, side = window_halo(mean_pixel(size)), window_side(len(stored.channels))
    tasks = []
    for box in _boxes(shape, side):
        frame = Frame.around(box, halo, shape)
        wanted = None if classifier.finds_glass else _mask_of(frame, tissue, size, overview.pixel_size_um)
        if wanted is None or wanted[0].any():
            tasks.append((Task(folder, level, frame, classifier, light, mean_pixel(size), blocks, wanted),))
    picture = np.full([-(-pixels // blocks) for pixels in shape], NOTHING, dtype=np.uint8)
    for (task,), found in zip(tasks, job.map(slide, "regions", classify_box, tasks)):
        y, x = task.frame.y0 // blocks, task.frame.x0 // blocks
        picture[y : y + found.shape[0], x : x + found.shape[1]] = found
    regions = classified_regions(picture, classifier, pixel_size_um=(size[0] * blocks, size[1] * blocks))
    if not classifier.finds_glass:
        return regions, None
    return regions, shapely.union_all([region.polygon_um for region in regions])


def classify_box(task: Task) -> np.ndarray:
    """Read one window and return its classes."""
    pixels = read_window(store.open_image(task.folder), task.level, task.frame)
    if task.wanted is None:
        wanted = np.ones(pixels.shape[1:], dtype=bool)
    else:
        mask, rows, columns = task.wanted
        wanted = mask[np.ix_(rows, columns)]
    return classify_window(
        pixels,
        task.frame,
        task.classifier,
        light=task.light,
        pixel_um=task.pixel_um,
        wanted=wanted,
        blocks=task.blocks,
    )


def read_window(stored: StoredImage, level: int, frame: Frame) -> np.ndarray:
    """Read what a frame needs, all channels (c, y, x)."""
    rows, columns = frame.read
    return np.asarray(stored.levels[level][:, rows, columns])


def _boxes(shape: tuple[int, int], side: int) -> list[tuple[int, int, int, int]]:
    return [
        (y, min(y + side, shape[0]), x, min(x + side, shape[1]))
        for y in range(0, shape[0], side)
        for x in range(0, shape[1], side)
    ]


def _mask_of(
    frame: Frame, mask: np.ndarray, pixel_um: tuple[float, float], mask_pixel_um: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the part of a coarse mask that covers a frame, and in which of its rows and columns each pixel lies."""
    at = []
    for part, fine, coarse, side in zip(frame.read, pixel_um, mask_pixel_um, mask.shape):
        inside = (np.arange(part.start, part.stop) + 0.5) * fine / coarse
        at.append(np.minimum(inside.astype(np.int64), side - 1))
    rows, columns = at
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut, rows - rows[0], columns - columns[0]
