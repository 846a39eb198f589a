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
from mihc.measures.extras import background_px
from mihc.measures.features import known_features
from mihc.measures.pixels import Labelled, label_whole
from mihc.measures.settings import FLAGS, CellSettings
from mihc.measures.table import cell_table
from mihc.nuclei import (
    NucleusReference,
    block_of_id,
    find_nuclei,
    longest_nucleus_px,
    nucleus_ids,
    recipe_for,
    reference_blocks,
)
from mihc.nuclei import halo_px as nuclei_halo_px
from mihc.nuclei_stain import nuclear_stain
from mihc.windows import Window, pixel_size_pair

__all__ = [
    "FLAGS",
    "CellSettings",
    "WindowCells",
    "cells_in_window",
    "features_halo_px",
    "fixed_point_bits",
    "grow_cells",
    "halo_px",
    "known_features",
    "measure_cells",
]


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
    features: Sequence[str] = ("mean",),
    window: int | None = None,
) -> pd.DataFrame:
    """Measure every cell of an image.

    Parameters
    ----------
    image : (c, y, x) array of any real dtype, or anything with `.shape`, `.dtype` and `image[:, y0:y1, x0:x1]`, counts.
        Not modified.
    nuclei, cells : (y, x) labels of any integer dtype; a nucleus and its cell share the label.
    markers : a name for each plane of the image.
    pixel_size_um : µm, a number or a (y, x) pair.
    features : what is measured beside the means: some of "median", "percentile:90" (any from 0 to 100), "sd",
        "integrated", "shape", "background", "spillover".
    window : pixels of the side of the windows in which the image is read where means alone are asked for; None reads
        it whole. Changes no result.

    Returns
    -------
    DataFrame
        One row per cell by id: `cell` (uint32); `x_um`, `y_um` = (mean index of the nucleus' pixels + 0.5) x pixel
        size; `nucleus_area_um2`, `cell_area_um2` = pixels x pixel area, nucleus included; for each marker
        `<marker>_nucleus_mean`, `<marker>_cytoplasm_mean` (cell minus nucleus, NaN if empty), `<marker>_cell_mean` in
        counts; then what `features` asks for; `flags` (uint32, bits of FLAGS). No cells give no rows.

        - shape: of nucleus and cell `<part>_major_axis_um`, `<part>_minor_axis_um` (full axes of the ellipse with the
          same second moments, a pixel being a filled square), `<part>_eccentricity` = sqrt(1 - (minor / major)^2),
          `<part>_solidity` = pixels / pixels whose centres lie in or on the convex hull of the centres
        - median, percentile:90: `<marker>_<compartment>_median`, `..._p90` in counts, R's type 7; NaN if empty
        - sd: `<marker>_<compartment>_sd` in counts, of the population (divided by n); NaN if empty
        - integrated: `<marker>_<compartment>_integrated`, the sum of counts, 0 if empty
        - background: `<marker>_background` in counts, the mean over the pixels of no cell whose centres are at most
          15 µm in y and in x from the nucleus' centroid; NaN where there is none
        - spillover: `<marker>_spillover` in counts per pixel of the cell, to be compared with its mean: the light that
          a blur of 0.5 µm (standard deviation) carries over the borders with touching cells, 0.5 / sqrt(2 pi) x
          sum(border in µm x the neighbour's cell mean) / the cell's area; a border is pi / 4 x its pixel edges. It
          also sets the flag `crowded`

    Raises
    ------
    InputError
        If shapes or names do not fit, a nucleus lies outside its cell, a cell has no nucleus, values are not finite,
        or a feature is unknown.
    """
    image = np.asarray(image) if window is None else image
    nuclei, cells = _label_image(nuclei, "nuclei"), _label_image(cells, "cells")
    _check_fit(image, nuclei, cells, markers)
    bits = tuple(fixed_point_bits(_Plane(image, k)) for k in range(len(markers)))
    try:
        wanted = known_features(features)
    except ValueError as error:
        raise InputError(f"features needs {error}") from None
    settings = CellSettings(1.0, 0.0, (), tuple(enumerate(markers)), bits, features=wanted)
    return cell_table(image, label_whole(nuclei, cells), pixel_size_um, settings, window)


def halo_px(
    pixel_size_um: float | tuple[float, float],
    nucleus_diameter_um: float = 8.0,
    cell_expansion_um: float = 4.0,
    features: Sequence[str] = ("mean",),
) -> int:
    """Pixels that a window needs around its core, so that its cells, and what is asked of them, are the slide's."""
    halo = nuclei_halo_px(pixel_size_um, nucleus_diameter_um, cell_expansion_um)
    longest = longest_nucleus_px(pixel_size_um, nucleus_diameter_um)
    return halo + features_halo_px(pixel_size_um, longest, cell_expansion_um, features)


def features_halo_px(
    pixel_size_um: float | tuple[float, float], nucleus_px: int, cell_expansion_um: float, features: Sequence[str]
) -> int:
    """Pixels that `features` need beyond what the cells themselves do; a nucleus covers at most `nucleus_px` rows."""
    size = pixel_size_pair(pixel_size_um)
    expansion = math.ceil(cell_expansion_um / math.sqrt(math.prod(size)))
    more = 0
    if "background" in features:  # from the centroid over the box, to the nuclei that could grow into it
        more = max(background_px(side) for side in size) + expansion + 1
    if "spillover" in features:  # over a whole neighbour
        more = max(more, nucleus_px + 2 * expansion + 1)
    return more


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
    block : (c, y, x) array of any real dtype, or anything with `.shape`, `.dtype` and `block[c, y0:y1, x0:x1]`: every
        plane that `settings` names, over the window's padded box. The nuclear stain alone is read of the whole box, of
        the other planes only what the window's own cells cover.
    window : its halo must be at least `halo_px(...)` of these settings where the slide does not end.
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
    own, rows, order = _rows(seeds, ids, window, everyone="spillover" in settings.features)
    near = _near_cells(grown, rows, pixel_size_um, settings)
    place = (window.py0 + near[0].start, window.px0 + near[1].start)
    nuclei, cells = (np.ascontiguousarray(both[near]) for both in (labels, grown))
    labelled = Labelled(nuclei, cells, rows, ids[order], own, *place, *shape)
    table = cell_table(np.asarray(block[:, near[0], near[1]]), labelled, pixel_size_um, settings)
    core = window.core_in_padded
    return WindowCells(_renamed(labels[core], ids), _renamed(grown[core], ids), table)


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


class _Plane:
    """One channel of an image as a (y, x) array that is read where it is sliced."""

    def __init__(self, image: object, channel: int) -> None:
        self.image, self.channel = image, channel
        self.shape, self.dtype = image.shape[1:], np.dtype(image.dtype)

    def __getitem__(self, box: tuple[slice, slice]) -> np.ndarray:
        return np.asarray(self.image[self.channel, box[0], box[1]])


def _brightest(values: np.ndarray) -> float:
    values = np.abs(np.asarray(values, np.float64))
    return float(values[np.isfinite(values)].max(initial=0.0))


def _renamed(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Labels 1, 2, ... replaced by their ids, in place."""
    from mihc.nuclei_kernels import name_labels

    name_labels(labels, ids)
    return labels


def _rows(seeds: np.ndarray, ids: np.ndarray, window: Window, *, everyone: bool) -> tuple[int, np.ndarray, np.ndarray]:
    """How many seeds the window owns, the row of each label, and the seed of each row: its own by id, then the others.

    Only with `everyone` do the others have rows, else -1.
    """
    y, x = seeds[:, 0] + window.py0, seeds[:, 1] + window.px0
    inside = (y >= window.y0) & (y < window.y1) & (x >= window.x0) & (x < window.x1)
    own = int(inside.sum())
    order = np.lexsort((ids, ~inside))[: None if everyone else own]
    rows = np.full(len(seeds) + 1, -1, np.int32)
    rows[order + 1] = np.arange(len(order))
    return own, rows, order


def _near_cells(
    grown: np.ndarray, rows: np.ndarray, pixel_size_um: float | tuple[float, float], settings: CellSettings
) -> tuple[slice, slice]:
    """The box around the cells that have a row, and around what is measured beside them."""
    from mihc.cells_kernels import box_of_rows

    y0, y1, x0, x1 = (int(edge) for edge in box_of_rows(grown, rows))
    more = [0, 0]
    if "background" in settings.features:
        more = [background_px(side) + 1 for side in pixel_size_pair(pixel_size_um)]
    height, width = grown.shape
    return (
        slice(max(y0 - more[0], 0), min(y1 + more[0], height)),
        slice(max(x0 - more[1], 0), min(x1 + more[1], width)),
    )


def _label_image(labels: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise InputError(f"{name} must be a (y, x) image of integers, not of shape {labels.shape} and {labels.dtype}")
    if labels.dtype != np.uint32 and labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.uint32).max):
        raise InputError(f"{name} has labels outside 0 to {np.iinfo(np.uint32).max}")
    return np.ascontiguousarray(labels, np.uint32)


def _check_fit(image: object, nuclei: np.ndarray, cells: np.ndarray, markers: Sequence[str]) -> None:
    if len(image.shape) != 3 or np.dtype(image.dtype).kind not in "buif":
        raise InputError(f"cells are measured in a (c, y, x) image of real numbers, not in {image.shape} {image.dtype}")
    if not tuple(image.shape[1:]) == nuclei.shape == cells.shape:
        raise InputError(f"image {image.shape}, nuclei {nuclei.shape} and cells {cells.shape} differ in size")
    if len(markers) != image.shape[0] or len(set(markers)) != len(markers):
        raise InputError(f"{image.shape[0]} channels need as many different marker names, not {list(markers)}")
