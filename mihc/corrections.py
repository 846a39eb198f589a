"""What is taken from a marker's mean before calls are made: light that is not the marker's on that cell.

    spillover           what blur carries over from touching cells (`<marker>_spillover`)
    background          by how much the background around the cell exceeds the slide's usual one: `<marker>_background`,
                        or where there is none, or one unlike that of the nearest cells, the middle one of theirs
    autofluorescence    by how much the cell's autofluorescence exceeds the usual one, times a slope: counts of the
                        marker for each count of the autofluorescence channel, as this slide's own cells show it

They are applied in this order, each to what the one before has left; the autofluorescence channel itself is corrected
like the marker before. Since usual light stays in, counts remain comparable with uncorrected ones. What is usual, and
the slope, are found once per slide on its cells as the machine found them; then each cell is corrected by itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mihc.batches import ROBUST_SD, negative_peak

if TYPE_CHECKING:
    import pandas as pd

CORRECTIONS = ("spillover", "background", "autofluorescence")
MOST_CELLS = 50_000  # that a fit looks at, evenly taken: more change it by less than it errs
NEAREST, UNLIKE = 9, 3.0  # cells around a cell that know its background, and how many SDs its own may lie from theirs
FAR, FEWEST_FAR = 3.0, 30  # widths of the usual autofluorescence from which a cell glows, and how many must
HEAVIEST = 10.0  # widths: what glows more counts no more than this, so that a few grains of dirt decide nothing
PART = 0.25  # of the glowing cells' weight: their most usual colour is the middle of the shortest range that has it
HELD, HELD_WIDTHS = 0.5, 3.0  # so many of them must lie so near the line: a marker's light varies from cell to cell


class Surroundings:
    """What the machine's cells of a slide know of the background: a cell lies among the nearest of them."""

    def __init__(self, cells: pd.DataFrame) -> None:
        """`cells` are all of the machine's cells: `x_um, y_um` and every `<marker>_background`."""
        columns = [name for name in cells if str(name).endswith("_background")]
        known = np.isfinite(cells[columns[0]].to_numpy(dtype=np.float64)) if columns else np.zeros(len(cells), bool)
        self._backgrounds = {name: cells[name].to_numpy(dtype=np.float64)[known] for name in columns}
        self._places = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)[known]

    def near(self, cells: pd.DataFrame) -> Near:
        """The nearest cells of each cell of a table with `x_um, y_um`."""
        from scipy.spatial import KDTree

        number = min(NEAREST, len(self._places))
        if not number or not len(cells):
            return Near(np.empty((len(cells), 0), np.int32), self._backgrounds)
        places = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
        _, rows = KDTree(self._places).query(places, k=[*range(1, number + 1)])
        return Near(rows.astype(np.int32), self._backgrounds)


@dataclass(frozen=True)
class Near:
    """The nearest cells of each cell of a table."""

    rows: np.ndarray  # (cells, nearest) of the machine's cells that know their background
    backgrounds: Mapping[str, np.ndarray]  # column -> counts of those

    def of(self, chosen: np.ndarray | slice) -> Near:
        """Those of some of the table's cells, by their positions or True where one is chosen."""
        return replace(self, rows=self.rows[chosen])

    def middle(self, marker: str) -> np.ndarray:
        """(cells,) counts: the middle one of the nearest cells' backgrounds; NaN where no cell of the slide has any."""
        if not self.rows.shape[1]:
            return np.full(len(self.rows), np.nan)
        return np.median(self.backgrounds[f"{marker}_background"][self.rows], axis=1)


@dataclass(frozen=True)
class Correction:
    """What is taken from one marker's mean on one slide; nothing, as it comes."""

    marker: str
    compartment: str
    spillover: bool = False
    background: float | None = None  # counts: the slide's usual one, which stays; None = left as it is
    unlike: float = 0.0  # counts from the nearest cells' background, beyond which a cell's own is not believed
    glow: Correction | None = None  # the autofluorescence channel, as it is before its own slope
    usual_glow: float = 0.0  # counts, which stay
    slope: float = 0.0  # counts of the marker for each of autofluorescence
    note: str = ""  # why the slope is 0, where it was looked for

    @property
    def names(self) -> tuple[str, ...]:
        """Which of CORRECTIONS it is."""
        set_here = (self.spillover, self.background is not None, self.glow is not None)
        return tuple(name for name, here in zip(CORRECTIONS, set_here, strict=True) if here)

    @property
    def told(self) -> str:
        """Which, in a few words for a table: "background, autofluorescence x 0.21"; "" where nothing is taken."""
        said = [name for name in self.names if name != "autofluorescence"]
        return ", ".join([*said, f"autofluorescence x {self.slope:.3g}"] if self.glow else said)

    def values(self, cells: pd.DataFrame, near: Near | None = None) -> np.ndarray:
        """The corrected means of a table of cells, (cells,) float64 counts; NaN where the mean is.

        `near` are the nearest cells of these cells; needed where background is corrected.

        Spillover lies in the cytoplasm where there is any, as it comes over the cell's border: cell = mean -
        spillover; cytoplasm = mean - spillover x cell area / cytoplasm area; nucleus = mean, or mean - spillover in a
        cell without cytoplasm; never below 0. Background: mean - (around it - usual). Autofluorescence: mean - slope x
        (its own - usual).
        """
        values = cells[f"{self.marker}_{self.compartment}_mean"].to_numpy(dtype=np.float64)
        if self.spillover:
            values = np.maximum(values - _spilled(cells, self.marker, self.compartment), 0.0)
        if self.background is not None:
            own, theirs = _around(cells, self.marker, near)
            values = values - (np.where(np.abs(own - theirs) <= self.unlike, own, theirs) - self.background)
        if self.glow is not None and self.slope:
            values = values - self.slope * (self.glow.values(cells, near) - self.usual_glow)
        return values


def needed_columns(marker: str, compartment: str, glow: str) -> set[str]:
    """The columns of the cells table that a marker's corrections are made from, beside the two areas."""
    found = {f"{marker}_{compartment}_mean", f"{marker}_spillover", f"{marker}_background"}
    return found | (needed_columns(glow, compartment, "") if glow else set())


def measured_corrections(cells: pd.DataFrame, marker: str, compartment: str, glow: str) -> tuple[str, ...]:
    """Which of CORRECTIONS a table of cells allows for a marker; `glow` is the autofluorescence channel, "" = none."""
    if f"{marker}_{compartment}_mean" not in cells:
        return ()
    has = {
        "spillover": f"{marker}_spillover" in cells,
        "background": f"{marker}_background" in cells,
        "autofluorescence": bool(glow) and f"{glow}_{compartment}_mean" in cells,
    }
    return tuple(name for name in CORRECTIONS if has[name])


def fit_corrections(
    cells: pd.DataFrame,
    compartments: Mapping[str, str],
    *,
    glow: str,
    asked: Collection[str],
    near: Near | None = None,
) -> dict[str, Correction]:
    """Find what is taken from each marker on one slide.

    Parameters
    ----------
    cells
        The slide's analysed cells, or some of them (`looked_at`): `<marker>_<compartment>_mean` and, as far as they are
        measured, `<marker>_spillover` with the two areas, `<marker>_background`, the means of the autofluorescence
        channel.
    compartments
        marker -> "nucleus" | "cytoplasm" | "cell".
    glow
        Name of the autofluorescence channel; "" = none.
    asked
        Some of CORRECTIONS. What is not measured is left out.
    near
        The nearest cells of these cells; without them background is left out.

    Returns
    -------
    dict
        marker -> correction, of the markers for which there is any.
    """
    found = {}
    for marker, compartment in compartments.items():
        measured = measured_corrections(cells, marker, compartment, glow)
        names = [name for name in measured if name in asked and (name != "background" or near)]
        if names:
            found[marker] = _fit(cells, marker, compartment, glow, names, near)
    return {marker: one for marker, one in found.items() if one.names}


def looked_at(cells: int) -> slice:
    """Which rows of a table of so many cells a fit looks at: evenly taken, MOST_CELLS at most."""
    return slice(None, None, max(1, -(-cells // MOST_CELLS)))


def _fit(
    cells: pd.DataFrame, marker: str, compartment: str, glow: str, names: Collection[str], near: Near | None
) -> Correction:
    taken = Correction(marker, compartment, spillover="spillover" in names)
    if "background" in names and near is not None:
        own, theirs = _around(cells, marker, near)
        away = np.abs(own - theirs)
        if np.isfinite(away).any():
            taken = replace(
                taken, background=float(np.median(theirs)), unlike=UNLIKE * ROBUST_SD * float(np.nanmedian(away))
            )
    if "autofluorescence" not in names:
        return taken
    before = [name for name in measured_corrections(cells, glow, compartment, "") if name in names]
    light = _fit(cells, glow, compartment, "", before, near)
    usual, slope, note = glow_slope(taken.values(cells, near), light.values(cells, near))
    return replace(taken, glow=light, usual_glow=usual, slope=slope, note=note)


def _around(cells: pd.DataFrame, marker: str, near: Near | None) -> tuple[np.ndarray, np.ndarray]:
    """(cells,) counts: each cell's own background, and the middle one of the nearest cells'."""
    if near is None:
        raise ValueError(f"the background of {marker} is corrected beside the nearest cells, and they are not given")
    return cells[f"{marker}_background"].to_numpy(dtype=np.float64), near.middle(marker)


def glow_slope(values: np.ndarray, glow: np.ndarray) -> tuple[float, float, str]:
    """How much of a marker's light comes with autofluorescence.

    Of the cells that glow, more than FAR widths above the usual autofluorescence (the peak of its distribution, and the
    SD below it), each has a ratio: its light beyond that of usual cells over its autofluorescence beyond the usual.
    Their most usual ratio gives a line, positive cells being brighter each by another amount, and least squares through
    the cells near that line give the slope.

    Parameters
    ----------
    values, glow
        (cells,) counts of the marker and of the autofluorescence channel; a cell with a NaN is left out.

    Returns
    -------
    tuple
        The usual autofluorescence (counts), the slope (never below 0), and why it is 0. It is where too few cells glow,
        and where fewer than half of them lie near the line: their light is a marker's then.
    """
    known = np.isfinite(values) & np.isfinite(glow)
    values, glow = values[known], glow[known]
    if not len(glow):
        return 0.0, 0.0, "no cell has both values"
    usual, width = negative_peak(np.sort(glow))
    more = glow - usual
    far, near = more > FAR * width, np.abs(more) <= width
    if np.count_nonzero(far) < FEWEST_FAR or not width > 0:
        return usual, 0.0, f"cells that glow: {np.count_nonzero(far)}, {FEWEST_FAR} are needed"
    dark, spread = negative_peak(np.sort(values[near]))
    light, more = values[far] - dark, more[far]
    first = _summit(light / more, np.minimum(more, HEAVIEST * width))
    held = np.abs(light - first * more) <= HELD_WIDTHS * math.hypot(spread, first * width)
    share = np.count_nonzero(held) / len(held)
    if share < HELD:
        return usual, 0.0, f"of the cells that glow {100 * share:.0f} % lie near one line, {100 * HELD:.0f} are needed"
    slope = float((light[held] * more[held]).sum() / (more[held] ** 2).sum())
    return (usual, slope, "") if slope > 0 else (usual, 0.0, "cells that glow are no brighter than others")


def _summit(numbers: np.ndarray, weights: np.ndarray) -> float:
    """The middle of the shortest range that holds PART of the weight."""
    order = np.argsort(numbers, kind="stable")
    numbers, before = numbers[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    last = np.searchsorted(before, before[:-1] + PART * before[-1]) - 1
    first = np.flatnonzero(last < len(numbers))
    at = first[int((numbers[last[first]] - numbers[first]).argmin())]
    return float(numbers[at] + numbers[last[at]]) / 2


def _spilled(cells: pd.DataFrame, marker: str, compartment: str) -> np.ndarray:
    """Spillover per pixel of the compartment."""
    spilled = cells[f"{marker}_spillover"].to_numpy(dtype=np.float64)
    if compartment == "cell":
        return spilled
    nucleus, cell = (cells[f"{part}_area_um2"].to_numpy(dtype=np.float64) for part in ("nucleus", "cell"))
    cytoplasm = cell - nucleus
    if compartment == "cytoplasm":
        return spilled * cell / np.where(cytoplasm > 0, cytoplasm, np.nan)
    return np.where(cytoplasm > 0, 0.0, spilled)
