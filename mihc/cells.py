"""Nuclei grown to cells, and one row per cell: places, areas, and the mean of every marker per compartment.

Sums are integers, so no window, order or number of workers can change a digit; float channels are summed in fixed
point, round(value * 2^bits), with bits chosen once per slide. `cells_in_window` is the whole pass of one window:
segment, grow, measure; the union over windows equals one pass over the whole slide bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mihc.errors import InputError
from mihc.nuclei import (
    NucleusReference,
    block_of_id,
    find_nuclei,
    halo_px,
    named,
    nucleus_ids,
    recipe_for,
    reference_blocks,
)
from mihc.nuclei_stain import Autofluorescence, nuclear_stain
from mihc.windows import Window, pixel_size_pair

FLAGS = {
    "touches_edge": 1,  # the cell reaches the border of the slide, so part of it may be missing
    "saturated": 2,  # at least one pixel of a measured channel is at its ceiling
    "out_of_focus": 4,
    "edited": 8,
}
NO_CEILING = np.iinfo(np.int64).max

__all__ = [
    "FLAGS",
    "CellSettings",
    "WindowCells",
    "cells_in_window",
    "fixed_point_bits",
    "grow_cells",
    "halo_px",
    "measure_cells",
]


@dataclass(frozen=True)
class CellSettings:
    """What the window pass does on every window of a slide."""

    nucleus_diameter_um: float
    cell_expansion_um: float
    nuclei_channels: tuple[int, ...]  # planes of the block that are summed to the nuclear stain
    measured: tuple[tuple[int, str], ...]  # (plane of the block, marker), in the order of the table's columns
    fixed_point_bits: tuple[int, ...]  # one per measured channel, 0 for integers; see `fixed_point_bits`
    ceilings: tuple[int, ...] = ()  # one per measured channel: the count that is saturation; () = the dtype's largest
    sensitivity: str = "normal"  # how faint a nucleus may be: "low" | "normal" | "high"
    autofluorescence: Autofluorescence | None = None  # what is taken from the nuclear stain; None = nothing


@dataclass(frozen=True)
class WindowCells:
    """What one window gives: labels of its core, and the rows of the cells that it owns."""

    nuclei: np.ndarray  # (y, x) uint32, the core
    cells: np.ndarray  # (y, x) uint32, the core
    table: pd.DataFrame  # the cells whose seed lies in the core, by id; columns as of measure_cells


def grow_cells(
    nuclei: np.ndarray, *, pixel_size_um: float | tuple[float, float], distance_um: float = 4.0
) -> np.ndarray:
    """Grow nuclei to cells: each pixel within a distance goes to its nearest nucleus.

    Parameters
    ----------
    nuclei : (y, x) labels of any integer dtype, 0 is background. Not modified.
    pixel_size_um : µm, a number or a (y, x) pair (its geometric mean is used).
    distance_um : µm between pixel centres; a pixel exactly as far belongs to the cell. 0 gives the nuclei.

    Returns
    -------
    cells : (y, x) uint32
        A nucleus keeps its pixels and its label, cells never overlap. Of nuclei equally near, the one whose nearest
        pixel is higher wins, then the one further left. No nuclei give zeros.
    """
    labels = _label_image(nuclei, "nuclei")
    size = math.sqrt(math.prod(pixel_size_pair(pixel_size_um)))
    if not (distance_um >= 0 and math.isfinite(distance_um)):
        raise InputError(f"cells cannot grow by {distance_um} µm", fix="Give a distance of 0 µm or more.")
    reach = int(distance_um / size + 1e-9)
    if reach < 1 or labels.size == 0:
        return labels.copy()
    from mihc.cells_kernels import FARTHEST, nearest_label

    if reach > FARTHEST:
        raise InputError(
            f"{distance_um} µm are {reach} pixels of {size:.3g} µm, and cells grow by at most {FARTHEST}",
            fix="Check the pixel size, or give a smaller distance.",
        )
    return nearest_label(labels, reach, math.floor((distance_um / size) ** 2 + 1e-9))


def measure_cells(
    image: np.ndarray,
    nuclei: np.ndarray,
    cells: np.ndarray,
    *,
    markers: Sequence[str],
    pixel_size_um: float | tuple[float, float],
) -> pd.DataFrame:
    """Measure every cell of an image.

    Parameters
    ----------
    image : (c, y, x) of any real dtype, counts. Not modified.
    nuclei, cells : (y, x) labels of any integer dtype; a nucleus and its cell share the label.
    markers : a name for each plane of the image.
    pixel_size_um : µm, a number or a (y, x) pair.

    Returns
    -------
    DataFrame
        One row per cell by id: `cell` (uint32); `x_um`, `y_um` = (mean index of the nucleus' pixels + 0.5) x pixel
        size; `nucleus_area_um2`, `cell_area_um2` = pixels x pixel area, nucleus included; for each marker
        `<marker>_nucleus_mean`, `<marker>_cytoplasm_mean` (cell minus nucleus, NaN if empty), `<marker>_cell_mean` in
        counts; `flags` (uint32, bits of FLAGS). No cells give no rows.

    Raises
    ------
    InputError
        If shapes or names do not fit, a nucleus lies outside its cell, a cell has no nucleus, or values are not finite.
    """
    image = np.asarray(image)
    nuclei, cells = _label_image(nuclei, "nuclei"), _label_image(cells, "cells")
    _check_fit(image, nuclei, cells, markers)
    bits = tuple(fixed_point_bits(plane) for plane in image)
    measured = tuple((k, marker) for k, marker in enumerate(markers))
    settings = CellSettings(1.0, 0.0, (), measured, bits)
    runs, names = _runs(nuclei, cells)
    ids = np.unique(names[:, 0])
    index = np.searchsorted(ids, names[:, 0])
    window = _Place(0, 0, *cells.shape)
    return _table(image, ids, runs, index, names[:, 1] != 0, window, pixel_size_um, settings)


def cells_in_window(
    block: np.ndarray,
    window: Window,
    *,
    shape: tuple[int, int],
    pixel_size_um: float | tuple[float, float],
    settings: CellSettings,
    reference: NucleusReference,
    given: np.ndarray | None = None,
) -> WindowCells:
    """Segment, grow and measure one window of a slide.

    Parameters
    ----------
    block : (c, y, x) of any real dtype: every plane that `settings` names, over the window's padded box.
    window : its halo must be at least `halo_px(...)` where the slide does not end.
    shape : (y, x) pixels of the slide.
    pixel_size_um : µm, a number or a (y, x) pair.
    settings : the same for every window.
    reference : what `slide_reference` measured on the slide.
    given : (y, x) uint32 over the padded box, where another segmenter has found the nuclei of the slide, with the ids
        that `nucleus_ids` gives; the halo then covers a nucleus and the growth of two. None: they are found here.

    Returns
    -------
    WindowCells
        Labels of the core, of every cell that reaches into it, and rows of the cells whose seed lies in it: over the
        windows of a slide each cell has one row. Coordinates are those of the slide.
    """
    if block.shape[1:] != window.padded_shape:
        raise ValueError(f"a block of shape {block.shape} does not fill the padded box {window.padded_shape}")
    if given is None:
        labels, seeds = _found(block, pixel_size_um, settings, reference)
        ids = nucleus_ids(seeds, shape, origin_yx=(window.py0, window.px0))
    else:
        ids, labels = np.unique(np.append(given.ravel(), np.uint32(0)), return_inverse=True)
        ids, labels = ids[1:], labels[:-1].reshape(given.shape).astype(np.uint32)
        seeds = block_of_id(ids, shape) - (window.py0, window.px0)
    grown = grow_cells(labels, pixel_size_um=pixel_size_um, distance_um=settings.cell_expansion_um)
    own, row_of_label = _owned(seeds, ids, window)
    runs, names = _runs(labels, grown)
    place = _Place(window.py0, window.px0, *shape)
    table = _table(block, ids[own], runs, row_of_label[names[:, 0]], names[:, 1] != 0, place, pixel_size_um, settings)
    core = window.core_in_padded
    return WindowCells(named(labels[core], ids), named(grown[core], ids), table)


def fixed_point_bits(plane: object) -> int:
    """Bits of the fixed point in which a channel is summed: 0 for integers, else 24 for its brightest value.

    `plane` is a (y, x) array or anything with `.shape`, `.dtype` and `plane[y0:y1, x0:x1]`; of a large one the boxes
    of `reference_blocks` are read, so that the answer follows from the slide alone.
    """
    if np.dtype(plane.dtype).kind != "f":
        return 0
    boxes = reference_blocks(plane.shape)
    brightest = max((_brightest(plane[y0:y1, x0:x1]) for y0, y1, x0, x1 in boxes), default=0.0)
    return min(max(24 - math.frexp(brightest)[1], 0), 60) if brightest > 0 else 0


def _found(
    block: np.ndarray, pixel_size_um: float | tuple[float, float], settings: CellSettings, reference: NucleusReference
) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1, 2, ... of a block's nuclei, and their seeds."""
    return find_nuclei(
        nuclear_stain(block, settings.nuclei_channels, settings.autofluorescence, np.s_[:, :]),
        pixel_size_um=pixel_size_um,
        nucleus_diameter_um=settings.nucleus_diameter_um,
        reference=reference,
        recipe=recipe_for(settings.sensitivity),
    )


@dataclass(frozen=True)
class _Place:
    """Where an array lies on its slide, and how large the slide is, in pixels."""

    y0: int
    x0: int
    height: int
    width: int


def _brightest(values: np.ndarray) -> float:
    values = np.abs(np.asarray(values, np.float64))
    return float(values[np.isfinite(values)].max(initial=0.0))


def _owned(seeds: np.ndarray, ids: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Which seeds the window owns, by id, and the table row of each label (-1 for a cell of another window)."""
    y, x = seeds[:, 0] + window.py0, seeds[:, 1] + window.px0
    inside = (y >= window.y0) & (y < window.y1) & (x >= window.x0) & (x < window.x1)
    own = np.flatnonzero(inside)
    own = own[np.argsort(ids[own])]
    rows = np.full(len(seeds) + 1, -1, np.int64)
    rows[own + 1] = np.arange(len(own))
    return own, rows


def _runs(nuclei: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from mihc.cells_kernels import runs_of_cells

    return runs_of_cells(nuclei, cells)


def _table(
    image: np.ndarray,
    ids: np.ndarray,
    runs: np.ndarray,
    index: np.ndarray,
    inside: np.ndarray,
    place: _Place,
    pixel_size_um: float | tuple[float, float],
    settings: CellSettings,
) -> pd.DataFrame:
    """The rows of `ids`, from runs of which `index` gives the row (-1: none) and `inside` whether they are nucleus."""
    from mihc.cells_kernels import shape_sums

    sums = shape_sums(runs, index, inside, len(ids), place.y0, place.x0, place.height, place.width)
    cell_px, nucleus_px = sums[:, 0], sums[:, 1]
    if (nucleus_px == 0).any():
        lost = ids[nucleus_px == 0][:5].tolist()
        raise InputError(f"cells without a nucleus: {lost}", fix="Give labels in which each cell has its nucleus.")
    size_y, size_x = pixel_size_pair(pixel_size_um)
    columns = {
        "cell": ids.astype(np.uint32),
        "x_um": (sums[:, 3] / nucleus_px + 0.5) * size_x,
        "y_um": (sums[:, 2] / nucleus_px + 0.5) * size_y,
        "nucleus_area_um2": nucleus_px * (size_y * size_x),
        "cell_area_um2": cell_px * (size_y * size_x),
    }
    flags = np.where(sums[:, 4] > 0, FLAGS["touches_edge"], 0)
    for k, (channel, marker) in enumerate(settings.measured):
        means, saturated = _means(image[channel], k, settings, (runs, index, inside), cell_px, nucleus_px)
        columns |= {f"{marker}_{part}_mean": mean for part, mean in means.items()}
        flags |= np.where(saturated > 0, FLAGS["saturated"], 0)
    return pd.DataFrame(columns | {"flags": flags.astype(np.uint32)})


def _means(
    plane: np.ndarray,
    k: int,
    settings: CellSettings,
    runs: tuple[np.ndarray, np.ndarray, np.ndarray],
    cell_px: np.ndarray,
    nucleus_px: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Means of the k-th measured channel per compartment, and the saturated pixels of each cell."""
    from mihc.cells_kernels import plane_sums

    bits = settings.fixed_point_bits[k]
    ceiling = settings.ceilings[k] if settings.ceilings else _ceiling(np.asarray(plane).dtype)
    sums = plane_sums(_fixed_point(plane, bits), *runs, len(cell_px), ceiling)
    cell, nucleus = sums[:, 0], sums[:, 1]
    one = float(2**bits)
    cytoplasm_px = (cell_px - nucleus_px).astype(np.float64)
    cytoplasm_px[cytoplasm_px == 0] = np.nan
    means = {
        "nucleus": nucleus / (nucleus_px * one),
        "cytoplasm": (cell - nucleus) / (cytoplasm_px * one),
        "cell": cell / (cell_px * one),
    }
    return means, sums[:, 2]


def _ceiling(dtype: np.dtype) -> int:
    return int(min(np.iinfo(dtype).max, NO_CEILING)) if dtype.kind in "iu" else NO_CEILING


def _fixed_point(plane: np.ndarray, bits: int) -> np.ndarray:
    """The plane as integers that `plane_sums` adds: as it is if 8 or 16 bits without sign, else int64."""
    plane = np.asarray(plane)
    if plane.dtype.kind == "f":
        if not np.isfinite(plane).all():
            raise InputError("a measured channel has non-finite values", fix="Replace NaN and inf before.")
        limit = 2.0**42  # sums over a cell then stay below 2^63
        return np.clip(np.rint(np.ldexp(plane.astype(np.float64), bits)), -limit, limit).astype(np.int64)
    if plane.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder("="), copy=False))
    return np.ascontiguousarray(plane.astype(np.int64))


def _label_image(labels: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise InputError(f"{name} must be a (y, x) image of integers, not of shape {labels.shape} and {labels.dtype}")
    if labels.dtype != np.uint32 and labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.uint32).max):
        raise InputError(f"{name} has labels outside 0 to {np.iinfo(np.uint32).max}")
    return np.ascontiguousarray(labels, np.uint32)


def _check_fit(image: np.ndarray, nuclei: np.ndarray, cells: np.ndarray, markers: Sequence[str]) -> None:
    if image.ndim != 3 or image.dtype.kind not in "buif":
        raise InputError(f"cells are measured in a (c, y, x) image of real numbers, not in {image.shape} {image.dtype}")
    if not image.shape[1:] == nuclei.shape == cells.shape:
        raise InputError(f"image {image.shape}, nuclei {nuclei.shape} and cells {cells.shape} differ in size")
    if len(markers) != len(image) or len(set(markers)) != len(markers):
        raise InputError(f"{len(image)} channels need as many different marker names, not {list(markers)}")
    if ((nuclei != 0) & (nuclei != cells)).any():
        raise InputError("a nucleus reaches outside the cell of its label", fix="Grow the cells with grow_cells.")
