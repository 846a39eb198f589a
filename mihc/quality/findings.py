"""All that is looked for on the coarse levels of a slide, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from mihc.quality.fields import mean_pixel, near
from mihc.quality.flaws import OUT_OF_FOCUS, find_flaws
from mihc.quality.focus import FocusGrid, focus_grid, spot_diameter
from mihc.quality.light import Shading, at_ceiling, shading, window_levels

AROUND_UM = 12.0  # what a flaw's own edge does to the detail around it


class Overview(Protocol):
    """A coarse level of a slide's stored image."""

    pixels: np.ndarray  # (c, y, x) counts
    pixel_size_um: tuple[float, float]  # (y, x)
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Level:
    """A level of the pyramid that is read piece by piece."""

    pixels: Any  # (c, y, x) array-like
    pixel_size_um: tuple[float, float]  # (y, x)


@dataclass(frozen=True)
class Findings:
    """What was seen on a slide. Masks are (y, x) pixels of the overview."""

    tissue: np.ndarray
    flaws: Mapping[str, np.ndarray]  # fold, debris, bubble; empty where they were not looked for
    focus: FocusGrid | None  # None without a nuclei channel
    spot_um: float  # diameter of the nuclear stain's spots, NaN where none stand out
    shading: Mapping[str, Shading]  # by channel; empty on a slide too small to tell
    windows: pd.DataFrame  # one row per window
    pixel_size_um: tuple[float, float]  # of the masks

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Every mask that study.toml may exclude, by name."""
        if self.focus is None:
            return dict(self.flaws)
        blurred = self.focus.mask(self.tissue.shape, self.pixel_size_um) & self.tissue
        return {**self.flaws, OUT_OF_FOCUS: blurred & ~flawed(self.flaws, self.tissue)}

    def area_mm2(self, name: str) -> float:
        """The area of one of the masks."""
        return float(self.masks[name].sum()) * self.pixel_size_um[0] * self.pixel_size_um[1] / 1e6


def flawed(flaws: Mapping[str, np.ndarray], tissue: np.ndarray) -> np.ndarray:
    """Return (y, x), True where any of the flaws is."""
    return np.logical_or.reduce([np.zeros_like(tissue), *flaws.values()])


def examine(
    overview: Overview,
    *,
    tissue: np.ndarray,
    roles: Sequence[str],
    near_2_um: Level,
    near_1_um: Level,
    ceiling: float,
    nucleus_diameter_um: float = 8.0,
) -> Findings:
    """Look a slide over.

    Parameters
    ----------
    overview : Overview
        A coarse level, all channels.
    tissue : (y, x) bool, the overview's tissue
    roles : what each channel is, in panel.csv's words
    near_2_um, near_1_um : Level
        The levels nearest to 2 and to 1 µm per pixel, for focus and for the size of nuclei.
    ceiling : float
        The counts at which the camera saturates; inf where that is not known.
    nucleus_diameter_um : float
        What nuclei are expected to measure: larger ones have coarser detail.
    """
    flaws = find_flaws(overview.pixels, tissue, mean_pixel(overview.pixel_size_um))
    sound = tissue & ~near(flawed(flaws, tissue), AROUND_UM, mean_pixel(overview.pixel_size_um))
    nuclei = [k for k, role in enumerate(roles) if role == "nuclei"]
    if not nuclei or not tissue.any():
        return Findings(tissue, flaws, None, float("nan"), {}, pd.DataFrame(), overview.pixel_size_um)
    grid = focus_grid(
        near_2_um.pixels,
        nuclei,
        pixel_size_um=near_2_um.pixel_size_um,
        tissue=sound,
        tissue_pixel_um=overview.pixel_size_um,
        nucleus_diameter_um=nucleus_diameter_um,
    )
    spot = spot_diameter(near_1_um.pixels, nuclei, grid, pixel_size_um=near_1_um.pixel_size_um)
    windows, shades = _light(overview, sound, grid, ceiling)
    return Findings(tissue, flaws, grid, spot, shades, windows, overview.pixel_size_um)


def _light(
    overview: Overview, tissue: np.ndarray, grid: FocusGrid, ceiling: float
) -> tuple[pd.DataFrame, dict[str, Shading]]:
    """One row per window, and the slow change of each channel."""
    counts = grid.sharpness.shape
    side = tuple(length / pixel for length, pixel in zip(grid.side_um, overview.pixel_size_um))
    rows, columns = (place.ravel() for place in np.indices(counts))
    table = {
        "x_um": columns * grid.side_um[1],
        "y_um": rows * grid.side_um[0],
        "width_um": grid.side_um[1],
        "height_um": grid.side_um[0],
        "tissue_percent": 100 * grid.tissue.ravel(),
        "sharpness": grid.sharpness.ravel(),
        "out_of_focus": grid.blurred.ravel(),
    }
    shades = {}
    for plane, channel in zip(overview.pixels, overview.channels):
        levels = window_levels(plane, tissue, counts, side)
        table[f"{channel}_dark"] = levels.ravel()
        table[f"{channel}_ceiling_percent"] = at_ceiling(plane, ceiling, counts, side).ravel()
        found = shading(levels, plane, tissue)
        if found is not None:
            shades[channel] = found
    return pd.DataFrame(table), shades
