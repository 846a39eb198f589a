"""Nuclei found by somebody else's segmenter, on one grid of network windows that is fixed for the slide.

A segmenter sees one picture at a time, and what it says of a pixel may depend on the whole picture. So the pictures
never follow the windows of a run: they lie on a grid of tiles that starts at the slide's first pixel; a tile is as
large as the segmenter's window less its overlap on both sides. Each picture is computed once.

A nucleus belongs to the tile that holds the pixel of its centroid, half-open. Two pictures may still disagree where
they meet: of two objects of which one covers half of the other, the one of the earlier tile stays (row by row); of two
that overlap less, the earlier one keeps the shared pixels. An object whose owner does not know it, because each picture
puts its centroid just beyond the border, is taken from the tile that it nearly belongs to.

The id of a nucleus is 1 + the index of the 2 x 2 block of pixels that holds its seed: the pixel of its own that is
nearest to its centroid and whose block is free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mihc.errors import InputError
from mihc.nuclei_ids import BLOCK, nucleus_ids
from mihc.nuclei_reference import NucleusReference

EMPTY = 0.06  # a picture in which too few pixels are brighter holds no nucleus, and the segmenter is not asked
FEWEST = 9  # pixels
BRIGHT = 2.0  # contrasts above the background that a picture shows as 1
SAME_SIZE = 0.02  # by which pixel sizes may differ without the picture being scaled
NEARLY = 16  # an object nearly belongs to a tile within this part of the margin; at least 2 pixels


@runtime_checkable
class Segmenter(Protocol):
    """What mihc asks of a segmenter: four facts, and the labels of one picture.

    `labels` must be a function of the picture alone (no state, no chance), and may be called by several threads at
    once. A factory makes it; see `mihc.segmenters`.
    """

    planes: tuple[str, ...]  # roles of panel.csv, one plane each (channels of one role are summed): ("nuclei",)
    pixel_size_um: float | None  # of the pictures that it wants; None: the slide's own
    window_px: int  # side of a picture, in its own pixels
    overlap_px: int  # border of a picture whose nuclei are other pictures' to decide

    def labels(self, picture: np.ndarray) -> np.ndarray:
        """Labels of one picture.

        Parameters
        ----------
        picture : (plane, y, x) float32, window_px x window_px. 0 is the slide's background, 1 is bright (twice as far
            above it as the usual nucleus); beyond the slide it is 0.

        Returns
        -------
        (y, x) of any integer dtype: 0 is background, each nucleus has a number of its own.
        """
        ...


@dataclass(frozen=True)
class Tile:
    """One tile of the grid: its core [y0, y1) x [x0, x1) and the box [by0, by1) x [bx0, bx1) of its picture.

    The core is cut to the slide; the box is not, and may begin before it.
    """

    row: int
    y0: int
    y1: int
    x0: int
    x1: int
    by0: int
    by1: int
    bx0: int
    bx1: int


@dataclass(frozen=True)
class Grid:
    """Where the pictures of a segmenter lie on a slide; all in pixels of the slide, and even, as the blocks of ids."""

    shape: tuple[int, int]  # (y, x) of the slide
    scale: float  # pixels of the slide across one pixel of a picture
    core: int  # side of a tile
    margin: int  # by which a picture reaches beyond its tile; no nucleus reaches farther from its centroid

    @classmethod
    def of(cls, shape: tuple[int, int], pixel_size_um: tuple[float, float], segmenter: Segmenter) -> Grid:
        """The grid of a segmenter on a slide of `shape`; refused where the segmenter's facts make none."""
        wanted, size = segmenter.pixel_size_um, math.sqrt(math.prod(pixel_size_um))
        scale = 1.0 if wanted is None or abs(wanted / size - 1) <= SAME_SIZE else wanted / size
        margin = int(segmenter.overlap_px * scale) // 2 * 2
        core = int(segmenter.window_px * scale + 1e-9) // 2 * 2 - 2 * margin
        if margin < 2 or core < 2:
            raise InputError(
                f"a segmenter with windows of {segmenter.window_px} pixels and an overlap of {segmenter.overlap_px} "
                "cannot be laid on a grid",
                fix="The overlap is at least 2 pixels of the slide and less than half of the window.",
            )
        return cls(shape, scale, core, margin)

    @property
    def halo_px(self) -> int:
        """Pixels from a nucleus' seed within which all of it lies."""
        return 2 * self.margin

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.shape[0] // self.core)

    def tiles(self, row: int) -> list[Tile]:
        """The tiles of one row, from left to right."""
        height, width = self.shape
        y0, margin = row * self.core, self.margin
        far = self.core + margin
        return [
            Tile(
                row, y0, min(y0 + self.core, height), x0, min(x0 + self.core, width),
                y0 - margin, y0 + far, x0 - margin, x0 + far,
            )
            for x0 in range(0, width, self.core)
        ]  # fmt: skip


@dataclass(frozen=True)
class Objects:
    """Objects of one tile, in the order of their first pixels; pixels of the slide."""

    pixels: np.ndarray  # (n, 2) int32: y, x, object after object
    starts: np.ndarray  # (k + 1,) int64: where each object's pixels begin; the last is n
    inside: np.ndarray  # (k,) True: the centroid lies in the tile; False: nearly


def objects_of_tile(
    planes: Sequence[object], lights: Sequence[NucleusReference], grid: Grid, tile: Tile, segmenter: Segmenter
) -> Objects:
    """Ask the segmenter for one tile: the objects whose centroids lie in it, or nearly.

    `planes` are (y, x) arrays or anything with `plane[y0:y1, x0:x1]`, one for each plane that the segmenter wants;
    `lights` are what was measured on each of them, slide-wide.
    """
    box = np.stack([_box(plane, light, grid, tile) for plane, light in zip(planes, lights, strict=True)])
    picture = _scaled(box, grid.scale, segmenter.window_px)
    if np.count_nonzero(picture > EMPTY) < FEWEST:
        return _objects(np.zeros(box.shape[1:], np.int64), grid, tile)
    picture.setflags(write=False)
    labels = np.asarray(segmenter.labels(picture))
    if labels.shape != picture.shape[1:] or labels.dtype.kind not in "bui":
        raise InputError(
            f"{type(segmenter).__name__} gave labels of shape {labels.shape} and {labels.dtype} for a picture of "
            f"{picture.shape[1:]}",
            fix="A segmenter returns a (y, x) array of integers, as large as the picture.",
        )
    return _objects(_scaled_back(labels.astype(np.int64), grid.scale, box.shape[1:]), grid, tile)


def _box(plane: object, light: NucleusReference, grid: Grid, tile: Tile) -> np.ndarray:
    """The plane in the box of a tile: 0 is background, 1 bright; 0 beyond the slide."""
    height, width = grid.shape
    y0, y1, x0, x1 = max(tile.by0, 0), min(tile.by1, height), max(tile.bx0, 0), min(tile.bx1, width)
    one = 2.0**light.fixed_point_bits
    values = np.asarray(plane[y0:y1, x0:x1]).astype(np.float64)
    out = np.zeros((tile.by1 - tile.by0, tile.bx1 - tile.bx0), np.float32)
    part = np.s_[y0 - tile.by0 : y1 - tile.by0, x0 - tile.bx0 : x1 - tile.bx0]
    if light.contrast > light.noise:
        out[part] = (values * one - light.background) / (BRIGHT * light.contrast)
    return out


def _scaled(box: np.ndarray, scale: float, side: int) -> np.ndarray:
    """A box of the slide as the picture that the segmenter wants; what lies beyond the box is 0."""
    if scale == 1.0:
        return np.ascontiguousarray(np.pad(box, [(0, 0), *((0, side - n) for n in box.shape[1:])]))
    from scipy import ndimage

    if scale > 1:
        box = ndimage.gaussian_filter(box, (0, (scale - 1) / 2, (scale - 1) / 2), mode="nearest")
    first = 0.5 * scale - 0.5
    picture = [
        ndimage.affine_transform(p, (scale, scale), (first, first), (side, side), order=1, mode="grid-constant")
        for p in box
    ]
    return np.stack(picture).astype(np.float32)


def _scaled_back(labels: np.ndarray, scale: float, shape: tuple[int, int]) -> np.ndarray:
    if scale == 1.0:
        return labels[: shape[0], : shape[1]]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) / scale).astype(np.int64), side - 1)
        for n, side in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns[None, :]]


def _objects(labels: np.ndarray, grid: Grid, tile: Tile) -> Objects:
    """The objects of a box of labels that belong to its tile, or nearly, cut to the slide."""
    y, x = np.nonzero(labels)
    name = labels[y, x]
    y, x = y + tile.by0, x + tile.bx0
    on_slide = (y >= 0) & (y < grid.shape[0]) & (x >= 0) & (x < grid.shape[1])
    y, x, name = y[on_slide], x[on_slide], name[on_slide]
    # Names in the order of first pixels, whatever numbers the segmenter gave.
    _, first, name, count = np.unique(name, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    name, count = rank[name], count[order]
    cy, cx = ((2 * np.bincount(name, at, len(count)).astype(np.int64) + count) // (2 * count) for at in (y, x))
    inside = (cy >= tile.y0) & (cy < tile.y1) & (cx >= tile.x0) & (cx < tile.x1)
    near = max(2, grid.margin // NEARLY)
    nearly = (cy >= tile.y0 - near) & (cy < tile.y1 + near) & (cx >= tile.x0 - near) & (cx < tile.x1 + near)
    # A nucleus reaches at most the margin from its centroid: then a window's halo can be bounded.
    keep = nearly[name] & (np.maximum(abs(y - cy[name]), abs(x - cx[name])) < grid.margin)
    y, x, name = y[keep], x[keep], name[keep]
    order = np.argsort(name, kind="stable")
    _, starts = np.unique(name[order], return_index=True)
    kept = name[order][starts] if len(starts) else np.zeros(0, np.int64)
    pixels = np.stack([y[order], x[order]], axis=1).astype(np.int32)
    return Objects(pixels, np.append(starts, len(pixels)), inside[kept])


class Canvas:
    """The labels of a slide, painted tile by tile; a strip of rows that moves down with them."""

    def __init__(self, grid: Grid):
        self.grid, self.y0 = grid, 0
        self.labels = np.zeros((0, grid.shape[1]), np.uint32)  # from row y0 on
        self._taken = np.zeros((0, -(-grid.shape[1] // BLOCK)), bool)  # blocks that hold a seed, from row y0 on
        self._waiting: list[Objects] = []
        self._rows = 0  # of tiles, painted

    def add_row(self, found: Sequence[Objects]) -> None:
        """Paint what was found in the tiles of the next row; the last row also brings what waited for it."""
        for objects in found:
            self._paint(objects, objects.inside)
        self._paint_nearly()
        self._waiting = list(found)
        self._rows += 1
        if self._rows == self.grid.rows:
            self._paint_nearly()
            self._reach(self.grid.shape[0])

    @property
    def ready(self) -> int:
        """Rows from `y0` on that nothing will change, nor look at."""
        if self._rows == self.grid.rows:
            return len(self.labels)
        return max(0, (self._rows - 1) * self.grid.core - 3 * self.grid.margin - self.y0)

    def take(self, rows: int) -> np.ndarray:
        """The uppermost rows (even, or all); the strip then begins below them."""
        done = self.labels[:rows]
        self.labels, self._taken = self.labels[rows:].copy(), self._taken[-(-rows // BLOCK) :].copy()
        self.y0 += rows
        return done

    def _reach(self, bottom: int) -> None:
        """Lengthen the strip down to a row."""
        more = bottom - self.y0 - len(self.labels)
        if more > 0:
            self.labels = np.pad(self.labels, [(0, more), (0, 0)])
            blocks = -(-len(self.labels) // BLOCK) - len(self._taken)
            self._taken = np.pad(self._taken, [(0, blocks), (0, 0)])

    def _paint_nearly(self) -> None:
        """Objects that their tile does not own, where nobody painted them: their centroid lay beyond each border."""
        for objects in self._waiting:
            self._paint(objects, ~objects.inside)

    def _paint(self, objects: Objects, which: np.ndarray) -> None:
        if not which.any():
            return
        self._reach(int(objects.pixels[:, 0].max()) + 1)
        areas = np.diff(objects.starts)
        owner = np.repeat(np.arange(len(areas)), areas)
        y, x = objects.pixels[:, 0].astype(np.int64) - self.y0, objects.pixels[:, 1].astype(np.int64)
        there = self.labels[y, x]
        free = (which & ~self._known(owner, there, y, x, areas))[owner] & (there == 0)
        y, x, owner = y[free], x[free], owner[free]
        if len(owner):
            self.labels[y, x] = self._named(y, x, owner)

    def _known(
        self, owner: np.ndarray, there: np.ndarray, y: np.ndarray, x: np.ndarray, areas: np.ndarray
    ) -> np.ndarray:
        """Which objects are painted already: this one, or the painted one, is covered by half."""
        known = np.zeros(len(areas), bool)
        hit = there > 0
        pairs, shared = np.unique(np.stack([owner[hit], there[hit]], axis=1), axis=0, return_counts=True)
        for (number, rival), pixels in zip(pairs.tolist(), shared.tolist(), strict=True):
            if not known[number]:
                known[number] = 2 * pixels > min(int(areas[number]), self._area(rival, y, x, there == rival))
        return known

    def _area(self, rival: int, y: np.ndarray, x: np.ndarray, hit: np.ndarray) -> int:
        """Pixels of a painted object, of which some were hit."""
        reach = 2 * self.grid.margin
        rows = slice(max(int(y[hit].min()) - reach, 0), int(y[hit].max()) + reach + 1)
        columns = slice(max(int(x[hit].min()) - reach, 0), int(x[hit].max()) + reach + 1)
        return int(np.count_nonzero(self.labels[rows, columns] == rival))

    def _named(self, y: np.ndarray, x: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """The id of each pixel, from the seed of its object; 0 where an object finds no block for its seed."""
        _, number, count = np.unique(owner, return_inverse=True, return_counts=True)
        away = sum(
            (count[number] * at - np.bincount(number, at, len(count)).astype(np.int64)[number]) ** 2 for at in (y, x)
        )
        order = np.lexsort((x, y, away, number))
        block = (y // BLOCK) * self._taken.shape[1] + x // BLOCK
        starts = np.concatenate([[0], np.cumsum(count)])
        seeds = np.full(len(count), -1, np.int64)
        taken = self._taken.reshape(-1)
        for k in range(len(count)):
            for pixel in order[starts[k] : starts[k + 1]]:
                if not taken[block[pixel]]:
                    taken[block[pixel]] = True
                    seeds[k] = pixel
                    break
        at = np.stack([y[seeds], x[seeds]], axis=1)
        ids = np.where(seeds >= 0, nucleus_ids(at, self.grid.shape, origin_yx=(self.y0, 0)), 0)
        return ids[number].astype(np.uint32)


def nuclei_by(
    segmenter: Segmenter,
    planes: Sequence[object],
    lights: Sequence[NucleusReference],
    pixel_size_um: tuple[float, float],
) -> np.ndarray:
    """Labels (y, x) uint32 of a whole image, in memory; the arguments are those of `objects_of_tile`."""
    grid = Grid.of(tuple(planes[0].shape), pixel_size_um, segmenter)
    canvas = Canvas(grid)
    for row in range(grid.rows):
        canvas.add_row([objects_of_tile(planes, lights, grid, tile, segmenter) for tile in grid.tiles(row)])
    return canvas.labels
