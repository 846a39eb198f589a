"""Merge, split, delete, add and redraw cells on a piece of a slide's labels: which are no more, and which there are.

Pure arrays. A piece holds whole every cell that is edited, and is as large as its surroundings need. What comes back
names pixels of the slide, so that nothing has to be worked out again when the edit is replayed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mihc.cells import grow_cells
from mihc.errors import UsageError
from mihc.reviews.runs import runs_of
from mihc.reviews.states import EditedCell

SMALLEST = 4  # pixels of a nucleus that is drawn, or split off


@dataclass(frozen=True)
class Piece:
    """A piece of a slide's labels, as they are after all edits so far."""

    nuclei: np.ndarray  # (y, x) uint32
    cells: np.ndarray  # (y, x) uint32
    origin_yx: tuple[int, int]  # its first pixel on the slide
    pixel_size_um: tuple[float, float]  # (y, x)
    expansion_um: float  # how far cells reach beyond their nuclei

    def cell(self, name: int, nucleus: np.ndarray, whole: np.ndarray) -> EditedCell:
        """An edited cell from masks of the piece."""
        parts = (runs_of(mask, origin_yx=self.origin_yx) for mask in (nucleus, whole))
        return EditedCell(name, *parts)


@dataclass(frozen=True)
class CellEdit:
    """What an edit takes away and what it puts there; an id in both is a cell whose pixels changed."""

    removed: tuple[int, ...]
    added: tuple[EditedCell, ...]

    def as_json(self) -> dict:
        """As a journal keeps it."""
        added = [{"cell": one.cell, "nucleus": one.nucleus, "whole": one.whole} for one in self.added]
        return {"removed": list(self.removed), "added": added}


def merge(piece: Piece, cells: Sequence[int], *, new: int) -> CellEdit:
    """Make one cell, named `new`, of several."""
    if len(set(cells)) < 2:
        raise UsageError("one cell alone cannot be merged", fix="Choose two or more cells that touch.")
    _check_there(piece, cells)
    one = piece.cell(new, np.isin(piece.nuclei, cells), np.isin(piece.cells, cells))
    return CellEdit(tuple(dict.fromkeys(cells)), (one,))


def delete(piece: Piece, cells: Sequence[int]) -> CellEdit:
    """Make background of cells; those around do not grow into it."""
    _check_there(piece, cells)
    return CellEdit(tuple(dict.fromkeys(cells)), ())


def split(piece: Piece, cell: int, line_yx: np.ndarray, *, new: tuple[int, int]) -> CellEdit:
    """Cut a cell in two along a line, (n, 2) y, x in pixels of the slide; each pixel goes to the nearer part.

    Raises
    ------
    UsageError
        When the line leaves the nucleus in one piece.
    """
    from scipy import ndimage

    _check_there(piece, [cell])
    nucleus, whole = piece.nuclei == cell, piece.cells == cell
    parts, count = ndimage.label(nucleus & ~_line_mask(piece, line_yx))  # neighbours by edges: a line is not leapt over
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:2]
    if count < 2 or sizes[largest[1]] < SMALLEST:
        raise UsageError("the line does not cut the nucleus in two", fix="Draw it right across, from side to side.")
    away = [ndimage.distance_transform_edt(parts != k + 1, sampling=piece.pixel_size_um) for k in sorted(largest)]
    is_second = away[1] < away[0]
    masks = [(nucleus & side, whole & side) for side in (~is_second, is_second)]
    return CellEdit((cell,), tuple(piece.cell(name, *both) for name, both in zip(new, masks, strict=True)))


def add(piece: Piece, outline_yx: np.ndarray, *, new: int) -> CellEdit:
    """Add a nucleus by its outline, (n, 2) y, x in pixels of the slide, and the cell around it.

    It takes no pixel of another nucleus. Its cell is grown as every other; what it takes from the cytoplasm of cells
    around is no longer theirs.
    """
    return _drawn(piece, piece.nuclei, piece.cells, outline_yx, new, ())


def redraw(piece: Piece, cell: int, outline_yx: np.ndarray) -> CellEdit:
    """Give a cell another nucleus by its outline, as `add`; it keeps its id."""
    _check_there(piece, [cell])
    nuclei, cells = (np.where(labels == cell, 0, labels) for labels in (piece.nuclei, piece.cells))
    return _drawn(piece, nuclei, cells, outline_yx, cell, (cell,))


def _drawn(
    piece: Piece, nuclei: np.ndarray, cells: np.ndarray, outline_yx: np.ndarray, name: int, gone: tuple[int, ...]
) -> CellEdit:
    nucleus = _inside(piece, outline_yx) & (nuclei == 0)
    if nucleus.sum() < SMALLEST:
        raise UsageError(
            f"the outline holds fewer than {SMALLEST} pixels that are no other nucleus",
            fix="Draw around the nucleus, or delete the one that lies there first.",
        )
    alone = np.where(nucleus, np.uint32(2), (nuclei > 0).astype(np.uint32))
    grown = grow_cells(alone, pixel_size_um=piece.pixel_size_um, distance_um=piece.expansion_um)
    whole = nucleus | ((grown == 2) & (nuclei == 0))
    losers = [int(one) for one in np.setdiff1d(cells[whole], [0])]
    left = tuple(piece.cell(one, nuclei == one, (cells == one) & ~whole) for one in losers)
    return CellEdit((*gone, *losers), (piece.cell(name, nucleus, whole), *left))


def _check_there(piece: Piece, cells: Sequence[int]) -> None:
    missing = [int(cell) for cell in cells if cell == 0 or not (piece.nuclei == cell).any()]
    if missing:
        raise UsageError(f"there is no cell {', '.join(map(str, missing))} here", fix="Choose cells in the view.")


def _line_mask(piece: Piece, line_yx: np.ndarray) -> np.ndarray:
    """The pixels that a line runs through."""
    line = np.asarray(line_yx, float)
    if len(line) < 2:
        raise UsageError("a line needs two points", fix="Draw it right across the cell.")
    mask = np.zeros(piece.cells.shape, bool)
    for start, end in itertools.pairwise(line):
        steps = 2 * math.ceil(float(np.abs(end - start).max())) + 2
        y, x = np.floor(np.linspace(start, end, steps)).astype(int).T - np.array(piece.origin_yx)[:, None]
        inside = (y >= 0) & (x >= 0) & (y < mask.shape[0]) & (x < mask.shape[1])
        mask[y[inside], x[inside]] = True
    return mask


def _inside(piece: Piece, outline_yx: np.ndarray) -> np.ndarray:
    """The pixels whose centres lie in an outline."""
    import shapely

    outline = np.asarray(outline_yx, float)
    polygon = shapely.Polygon(outline) if len(outline) > 2 else shapely.Polygon()
    if polygon.is_empty or not polygon.is_valid:
        raise UsageError("the outline crosses itself or holds nothing", fix="Draw it again without a loop.")
    height, width = piece.cells.shape
    y, x = (np.arange(size) + start + 0.5 for size, start in zip((height, width), piece.origin_yx))
    return shapely.contains_xy(polygon, *np.meshgrid(y, x, indexing="ij"))
