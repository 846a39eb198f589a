"""Pixels of edited cells as runs (y, x, length) of the full resolution, and how they lie over the machine's labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mihc.reviews.states import EditedCell, Runs, SlideReview

PARTS = {"nuclei": "nucleus", "cells": "whole"}  # a label image, and what of an edited cell lies in it


def runs_of(mask: np.ndarray, *, origin_yx: tuple[int, int] = (0, 0)) -> Runs:
    """Runs of a mask's True pixels; `mask` (y, x) starts at `origin_yx` of the slide."""
    padded = np.pad(np.asarray(mask, bool), ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    y0, x0 = origin_yx
    return tuple((int(y) + y0, int(x) + x0, int(end - x)) for y, x, end in zip(rows, starts, ends))


def box_of(runs: Runs) -> tuple[int, int, int, int]:
    """(y0, y1, x0, x1), half open, that holds every pixel of some runs."""
    every = np.array(runs, dtype=np.int64)
    y, x, length = every.T
    return int(y.min()), int(y.max()) + 1, int(x.min()), int((x + length).max())


def paint(labels: np.ndarray, runs: Runs, value: int, *, origin_yx: tuple[int, int], step: int = 1) -> None:
    """Write `value` into the pixels of runs that lie in `labels` (y, x), which starts at `origin_yx` of its level.

    With a `step` the labels are of a coarser level, whose pixels are as many wide.
    """
    height, width = labels.shape
    for y, x, length in runs:
        row, first = y // step - origin_yx[0], x // step - origin_yx[1]
        end = (x + length - 1) // step + 1 - origin_yx[1]
        if 0 <= row < height and end > 0 and first < width:
            labels[row, max(first, 0) : end] = value


def laid_over(
    labels: np.ndarray, review: SlideReview, name: str, *, origin_yx: tuple[int, int], step: int = 1
) -> np.ndarray:
    """A piece of the machine's labels with a review's cell edits over it; `labels` is not modified.

    Parameters
    ----------
    labels
        (y, x) uint32 of "nuclei" or "cells", which `name` says.
    review
        Whose edits.
    origin_yx
        Where the piece starts on its level.
    step
        Pixels of the full resolution in a pixel of the level.
    """
    labels = np.array(labels)
    if review.removed:
        gone = np.fromiter(review.removed, np.uint32, len(review.removed))
        labels[np.isin(labels, gone)] = 0
    for one in review.added.values():
        paint(labels, getattr(one, PARTS[name]), one.cell, origin_yx=origin_yx, step=step)
    return labels


class EditedLabels:
    """A (y, x) level of the machine's labels with a review's edits over it, read where it is sliced."""

    ndim = 2

    def __init__(self, level: Any, review: SlideReview, name: str, *, step: int = 1) -> None:
        self.machine, self._review, self._name, self._step = level, review, name, step
        self.shape: tuple[int, int] = tuple(level.shape)
        self.chunks: tuple[int, int] = tuple(level.chunks)
        self.dtype: np.dtype = level.dtype

    def __getitem__(self, selection: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (part.indices(size) for part, size in zip(selection, self.shape, strict=True))
        found = np.asarray(self.machine[rows[0] : rows[1], columns[0] : columns[1]])
        edited = laid_over(found, self._review, self._name, origin_yx=(rows[0], columns[0]), step=self._step)
        return edited[:: rows[2], :: columns[2]]


def pixels_of(cells: Iterable[EditedCell] | Mapping[int, EditedCell]) -> list[tuple[int, int, int, int]]:
    """The box of each edited cell, (y0, y1, x0, x1)."""
    return [box_of(one.whole) for one in (cells.values() if isinstance(cells, Mapping) else cells)]
