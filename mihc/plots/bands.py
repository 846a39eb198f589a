"""Bands around the tumour's margin: the cohort's profile of each population, and lines on a slide's picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy import ndimage

from mihc.plots.pictures import SlidePicture
from mihc.plots.style import GRID, GROUP_COLOURS, QUIET, REGION_COLOURS, look, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
LINES_ASIDE = 5  # at most so many lines on each side of the margin
LONGEST_GRID = 400  # squares on a side that the lines are looked for on


def patient_bands(bands: pd.DataFrame) -> pd.DataFrame:
    """Pool bands.csv to one value per patient, population and band: all slides and tissue classes together.

    Returns
    -------
    DataFrame
        patient, population, from_um, to_um, density_per_mm2; NaN where a slide cannot tell or no area is known.
    """
    keys = ["patient", "population", "from_um", "to_um"]
    numbers = bands[["positive_cells", "area_mm2"]].astype(float)
    summed = numbers.groupby([bands[key] for key in keys], sort=True).agg(lambda one: one.sum(skipna=False))
    density = summed["positive_cells"] / summed["area_mm2"].where(summed["area_mm2"] > 0)
    return density.rename("density_per_mm2").reset_index()


def band_profiles(bands: pd.DataFrame, populations: Sequence[str], *, title: str) -> Figure:
    """Draw each population's density by distance to the margin: the patients' median, and their quartiles as a ribbon.

    Parameters
    ----------
    bands : DataFrame
        bands.csv of slides that count for a patient.
    populations : sequence of str
        What is drawn, in this order; one without a known value says so. Bands that fewer than half of the
        patients have are left out: their median is that of others.
    """
    values = patient_bands(bands)
    holders = values.groupby("from_um")["patient"].transform("nunique")
    values = values[2 * holders >= values["patient"].nunique()]
    rows = -(-len(populations) // COLUMNS)
    with look():
        figure = new_figure(7.2, 0.7 + 1.6 * rows)
        for place, population in enumerate(populations):
            axes = figure.add_subplot(rows, COLUMNS, place + 1)
            mine = values[(values["population"] == population) & values["density_per_mm2"].notna()]
            if len(mine):
                _profile(axes, mine, GROUP_COLOURS[place % len(GROUP_COLOURS)])
            else:  # no scale: nothing is measured that it could be of
                axes.set_axis_off()
                axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", fontsize=8.5, color=QUIET)
            axes.set_title(plain(population, 24), fontsize=8.5)
        figure.supxlabel("distance to the tumour's margin (µm), inside left of 0", fontsize=8.5)
        figure.supylabel("positive cells per mm²", fontsize=8.5)
        figure.suptitle(plain(title, 70), fontweight="bold", x=0.01, ha="left", fontsize=10)
    return figure


def _profile(axes: Axes, values: pd.DataFrame, colour: str) -> None:
    grouped = values.groupby("from_um")["density_per_mm2"]
    middle = (values.groupby("from_um")["to_um"].first() + grouped.first().index) / 2
    low, median, high = (grouped.quantile(share).to_numpy() for share in (0.25, 0.5, 0.75))
    axes.axvline(0, color=REGION_COLOURS["tumour"], linewidth=1.2)
    axes.fill_between(middle, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(middle, median, color=colour, linewidth=1.5, marker=".", markersize=4)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(labelsize=7)


def margin_lines(picture: SlidePicture, layer: int) -> Markup:
    """Return a layer of lines at equal distances from the margin, dashed inside the tumour; empty without a margin."""
    paths = [
        Markup('<path class="region" d="{}" stroke="{}" stroke-width="{:.1f}"{}><title>{}</title></path>').format(
            path,
            "#ffffff",
            max(picture.rgb.shape[:2]) / 600,
            Markup(' stroke-dasharray="3 3"') if distance < 0 else "",
            f"{abs(distance):g} µm {'inside' if distance < 0 else 'outside'} the margin",
        )
        for distance, path in _lines(picture)
    ]
    return Markup('<g class="layer layer-{}">{}</g>').format(layer, Markup("").join(paths))


def _lines(picture: SlidePicture) -> list[tuple[float, str]]:
    """(distance, SVG path) of some limits of bands, in pixels of the picture."""
    if picture.tumour_um is None or picture.tumour_um.is_empty:
        return []
    import contourpy

    from mihc.areas.membership import paint

    side = max(1, -(-max(picture.rgb.shape[:2]) // LONGEST_GRID))  # pixels of the picture to a square
    step = picture.um_per_px * side
    shape = tuple(-(-pixels // side) for pixels in picture.rgb.shape[:2])
    tumour = paint([picture.tumour_um], [1], shape, (step, step)) > 0
    if tumour.all() or not tumour.any():
        return []
    inside, outside = (ndimage.distance_transform_edt(mask) * step for mask in (tumour, ~tumour))
    away = np.where(tumour, step / 2 - inside, outside - step / 2)
    width, reach = picture.bands_um
    every = width * max(1, -(-round(reach / width) // LINES_ASIDE))
    generator = contourpy.contour_generator(z=away)
    found = []
    for k in range(-int(reach // every), int(reach // every) + 1):
        rings = [_path((line + 0.5) * side) for line in generator.lines(k * every)] if k else []
        if rings:
            found.append((k * every, "".join(rings)))
    return found


def _path(points: np.ndarray) -> str:
    """A line as an SVG path, every point moved by at most half a pixel."""
    from shapely.geometry import LineString

    simple = np.round(np.asarray(LineString(points).simplify(0.5).coords), 1)
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in simple)
