"""Labels, rows and counts as the loops take them, and their sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mihc.errors import InputError
from mihc.measures.settings import CellSettings
from mihc.windows import windows

NO_CEILING = np.iinfo(np.int64).max
FIXED_POINT_LIMIT = 2.0**42  # sums over a cell then stay below 2^63
STRIP = 64  # rows of an image that are made whole numbers at a time
SPARSE = 8  # labels above so many times the pixels are numbered anew
DENSE = 32  # with more pixels than this to each number up to the highest label, every number has a row at first


@dataclass(frozen=True)
class Labelled:
    """Labels of an array, the row of the table that each has, and where the array lies on its slide."""

    nuclei: np.ndarray  # (y, x) uint32, within the cell of the same label
    cells: np.ndarray  # (y, x) uint32
    rows: np.ndarray  # int32 by label: its row, -1 for none
    ids: np.ndarray  # uint32 by row, rising within the table
    own: int  # rows of the table; the rows after them only lend their light to neighbours
    y0: int = 0
    x0: int = 0
    height: int = 0  # of the slide
    width: int = 0
    gaps: bool = False  # some ids may be of no pixel


@dataclass(frozen=True)
class Sums:
    """Integer sums by row, of its cytoplasm and its nucleus."""

    shapes: np.ndarray  # (rows, 2, 6): pixels, sums of y, x, yy, xy, xx in pixels of the slide
    light: np.ndarray  # (rows, 2, channels), in fixed point
    marks: np.ndarray  # (rows) bits of `sum_kernels`

    @property
    def pixels(self) -> dict[str, np.ndarray]:
        """Pixels by compartment."""
        return _by_compartment(self.shapes[:, :, 0])

    def light_of(self, channel: int) -> dict[str, np.ndarray]:
        """Sums of a measured channel by compartment."""
        return _by_compartment(self.light[:, :, channel])

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.shapes + other.shapes, self.light + other.light, self.marks | other.marks)

    def of_first(self, rows: int) -> Sums:
        """The sums of the first rows alone."""
        return self.of(slice(rows))

    def of(self, rows: slice | np.ndarray) -> Sums:
        """The sums of some rows alone."""
        return Sums(self.shapes[rows], self.light[rows], self.marks[rows])


def _by_compartment(parts: np.ndarray) -> dict[str, np.ndarray]:
    return {"nucleus": parts[:, 1], "cytoplasm": parts[:, 0], "cell": parts[:, 0] + parts[:, 1]}


def label_whole(nuclei: np.ndarray, cells: np.ndarray) -> Labelled:
    """The labels of a whole slide; every label of `cells` has a row, in order.

    Where labels are few for the pixels, every number up to the highest has one: that spares a pass over the pixels,
    and `without_gaps` takes away the rows that no pixel has.
    """
    from mihc.measures.sum_kernels import mark_labels

    highest = int(cells.max(initial=0))
    if 0 < DENSE * highest <= cells.size:
        rows, ids = np.arange(-1, highest, dtype=np.int32), np.arange(1, highest + 1, dtype=np.uint32)
        return Labelled(nuclei, cells, rows, ids, highest, 0, 0, *cells.shape, gaps=True)
    if highest >= max(SPARSE * cells.size, 1):
        nuclei, cells, names = _numbered(nuclei, cells)
    else:
        names = np.arange(highest + 1)
    present = np.zeros(len(names), bool)
    if cells.size:
        mark_labels(cells, present)
    present[0] = False
    rows = np.where(present, np.cumsum(present) - 1, -1).astype(np.int32)
    ids = names[present].astype(np.uint32)
    return Labelled(nuclei, cells, rows, ids, len(ids), 0, 0, *cells.shape)


def _numbered(nuclei: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels 0, 1, 2, ... for large ones with gaps, in their order, and the names that they had."""
    names, numbers = np.unique(np.append(cells.ravel(), np.uint32(0)), return_inverse=True)
    dense = numbers[:-1].reshape(cells.shape).astype(np.uint32)
    astray = np.where(nuclei != 0, np.uint32(len(names)), np.uint32(0))  # no label of a cell
    return np.where(nuclei == cells, dense, astray), dense, names


def without_gaps(labelled: Labelled, sums: Sums) -> tuple[Labelled, Sums]:
    """The labels and their sums without the rows that no pixel has, where there may be such."""
    if not labelled.gaps:
        return labelled, sums
    present = sums.pixels["cell"] > 0
    rows = np.append(np.int32(-1), np.where(present, np.cumsum(present) - 1, -1).astype(np.int32))
    ids = labelled.ids[present]
    return replace(labelled, rows=rows, ids=ids, own=len(ids), gaps=False), sums.of(present)


def sum_pixels(image: np.ndarray, labelled: Labelled, settings: CellSettings) -> Sums:
    """Sum pixels, places and every measured channel over each cell, in one pass."""
    from mihc.measures.sum_kernels import add_sums

    count, channels = len(labelled.ids), len(settings.measured)
    sums = Sums(np.zeros((count, 2, 6), np.int64), np.zeros((count, 2, channels), np.int64), np.zeros(count, np.uint8))
    ceilings = np.array(settings.ceilings or (_ceiling(image.dtype),) * channels, np.int64)
    fits = True
    for y, strip, planes in _whole_numbers(image, settings):
        part = slice(y, y + strip.shape[1])
        place = np.array([labelled.y0 + y, labelled.x0, labelled.height, labelled.width], np.int64)
        fits &= add_sums(
            strip, planes, labelled.nuclei[part], labelled.cells[part], labelled.rows, place, ceilings,
            sums.shapes, sums.light, sums.marks,
        )  # fmt: skip
    if not fits:
        raise InputError("a nucleus reaches outside the cell of its label", fix="Grow the cells with grow_cells.")
    return sums


def sum_windows(image: object, labelled: Labelled, settings: CellSettings, side: int) -> Sums:
    """As `sum_pixels` of an image that is read in windows: whole numbers may be added in any parts."""
    total: Sums | None = None
    for window in windows(labelled.cells.shape, side, 0):
        part = replace(
            labelled,
            nuclei=labelled.nuclei[window.core],
            cells=labelled.cells[window.core],
            y0=window.y0,
            x0=window.x0,
        )
        found = sum_pixels(np.asarray(image[(slice(None), *window.core)]), part, settings)
        total = found if total is None else total + found
    return total or sum_pixels(np.asarray(image), labelled, settings)


def _whole_numbers(image: np.ndarray, settings: CellSettings) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row, whole numbers (c, y, x) and which of its planes are measured: the image as it is, or strips of it."""
    chosen = np.array([channel for channel, _ in settings.measured], np.int64)
    if image.dtype in (np.uint8, np.uint16):
        native = image.astype(image.dtype.newbyteorder("="), copy=False)
        yield 0, np.ascontiguousarray(native), chosen
        return
    for y in range(0, image.shape[1], STRIP):
        strip = np.empty((len(chosen), *image[0, y : y + STRIP].shape), np.int64)
        for k, channel in enumerate(chosen):
            _fill(strip[k], image[channel, y : y + STRIP], settings.fixed_point_bits[k])
        yield y, strip, np.arange(len(chosen))


def whole_plane(image: np.ndarray, k: int, settings: CellSettings) -> np.ndarray:
    """The k-th measured channel (y, x) in whole numbers: uint8 and uint16 as they are, others int64 in fixed point."""
    plane = image[settings.measured[k][0]]
    if plane.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder("="), copy=False))
    out = np.empty(plane.shape, np.int64)
    _fill(out, plane, settings.fixed_point_bits[k])
    return out


def _fill(out: np.ndarray, plane: np.ndarray, bits: int) -> None:
    if plane.dtype.kind != "f":
        out[:] = plane
        return
    from mihc.measures.sum_kernels import fixed_point

    values = np.ascontiguousarray(plane, np.float64)
    if not fixed_point(values, 2.0**bits, FIXED_POINT_LIMIT, out):
        raise InputError("a measured channel has non-finite values", fix="Replace NaN and inf before.")


def _ceiling(dtype: np.dtype) -> int:
    return int(min(np.iinfo(dtype).max, NO_CEILING)) if dtype.kind in "iu" else NO_CEILING
