"""Figures over slides for the figures folder: overview, thresholds, area ledgers."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.plots.overlays import axis_value, drawn_late, ledger_areas, short_number, shown_points
from mihc.plots.pictures import Histogram, SlidePicture, length_text, scale_bar_um
from mihc.plots.style import AREA_COLOURS, GRID, INK, QUIET, REGION_COLOURS, headline, look, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

LEGEND_COLUMNS = 4
HISTOGRAM_WORDS = (
    "Cells by their mean (counts, log axis; height: square root of their number). Line: threshold; shaded: its "
    "interval, or where it might lie if it cannot be told."
)
LETTERS = 46  # of them in a line below one histogram


def slide_overview(picture: SlidePicture, colours: dict[str, str]) -> Figure:
    """A slide's thumbnail with region outlines, positive cells as dots, a legend and a scale bar.

    Parameters
    ----------
    picture : SlidePicture
    colours : dict of population to "#rrggbb"
        Only these populations are drawn, in this order.
    """
    height, width = picture.rgb.shape[:2]
    with look():
        key = _legend(picture, colours)
        below = 0.08 + 0.2 * -(-len(key) // LEGEND_COLUMNS)  # inches
        tall = float(np.clip(6.4 * height / width, 1.5, 12.0)) + 0.4 + below
        figure = new_figure(6.4, tall, layout=None)
        axes = figure.add_axes((0.01, below / tall, 0.98, 1 - (0.4 + below) / tall))
        axes.imshow(picture.rgb, interpolation="antialiased")
        for region in sorted(picture.regions, key=drawn_late):
            _outline(axes, region, picture.um_per_px)
        for population, colour in colours.items():
            points = shown_points(picture.positives.get(population, np.empty((0, 2))), picture.um_per_px)
            axes.plot(points[:, 0], points[:, 1], ".", color=colour, markersize=4.2, markeredgewidth=0)
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        axes.set_axis_off()
        _bar(axes, width, height, picture.um_per_px)
        headline(axes, picture.slide)
        if key:
            figure.legend(handles=key, loc="lower center", ncols=LEGEND_COLUMNS, fontsize=8, borderaxespad=0.2)
    return figure


def _outline(axes: Axes, region: object, um_per_px: float) -> None:
    colour = REGION_COLOURS.get(region.tissue_class, QUIET)
    dashes = "--" if region.tissue_class == "excluded" else "-"
    simple = region.polygon_um.simplify(0.5 * um_per_px)
    for part in getattr(simple, "geoms", [simple]):
        if part.geom_type != "Polygon" or part.is_empty:
            continue
        for ring in (part.exterior, *part.interiors):
            x, y = np.asarray(ring.coords)[:, :2].T / um_per_px - 0.5
            axes.plot(x, y, dashes, color=colour, linewidth=1.0)


def _bar(axes: Axes, width: int, height: int, um_per_px: float) -> None:
    length_um = scale_bar_um(width * um_per_px)
    left, bottom = 0.02 * width, height - 0.03 * max(width, height)
    axes.plot([left, left + length_um / um_per_px], [bottom, bottom], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(left, bottom - 0.015 * height, length_text(length_um), color="white", va="bottom", fontsize=9)


def _legend(picture: SlidePicture, colours: dict[str, str]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    classes = [name for name in REGION_COLOURS if any(region.tissue_class == name for region in picture.regions)]
    lines = [
        Line2D([], [], color=REGION_COLOURS[name], linestyle="--" if name == "excluded" else "-", label=name)
        for name in classes
    ]
    dots = [
        Line2D(
            [],
            [],
            color=colour,
            marker="o",
            markersize=4,
            markeredgecolor=QUIET,
            markeredgewidth=0.4,
            linestyle="",
            label=plain(name, 24),
        )
        for name, colour in colours.items()
    ]
    return lines + dots


def threshold_plot(histograms: dict[str, Histogram], thresholds: pd.DataFrame, *, title: str) -> Figure:
    """One histogram per marker of a slide, with threshold, interval and verdict.

    Parameters
    ----------
    histograms : dict of marker to Histogram
    thresholds : DataFrame
        The slide's rows of thresholds.csv: marker, value, low, high, verdict.
    title : str
    """
    rows = thresholds.set_index("marker")
    names = list(histograms)
    columns = min(3, max(1, len(names)))
    lines = max(1, -(-len(names) // columns))
    with look():
        words = wrap(HISTOGRAM_WORDS, LETTERS * columns)
        below = 0.34 + 0.13 * len(words)  # inches
        tall = 1.55 * lines + 0.1 + below
        figure = new_figure(2.6 * columns, tall, layout=None)
        figure.subplots_adjust(0.1 / columns, below / tall, 1 - 0.1 / columns, 1 - 0.65 / tall, 0.12, 0.5)
        for axes, name in zip(
            figure.subplots(lines, columns, squeeze=False).flat,
            names + [""] * (lines * columns - len(names)),
            strict=True,
        ):
            if name:
                _one_histogram(axes, name, histograms[name], rows.loc[name] if name in rows.index else None)
            else:
                axes.set_axis_off()
        figure.suptitle(plain(title, 60), x=0.01, ha="left", fontsize=10, fontweight="bold")
        figure.text(0.01, 0.05 / tall, "\n".join(words), fontsize=7.5, va="bottom")
    return figure


def _one_histogram(axes: Axes, name: str, histogram: Histogram, row: pd.Series | None) -> None:
    base = min(0.0, float(histogram.edges[0]))
    edges = np.log1p(histogram.edges - base)
    axes.stairs(np.sqrt(histogram.counts), edges, fill=True, color="#9fb3c4")
    verdict = "" if row is None else str(row["verdict"])
    if row is not None:
        low, value, high = (np.log1p(max(float(row[key]) - base, 0.0)) for key in ("low", "value", "high"))
        if np.isfinite([low, high]).all():
            axes.axvspan(low, high, color="#d0802b", alpha=0.25, linewidth=0)
        if np.isfinite(value):
            axes.axvline(value, color=INK, linewidth=1.4)
    ticks = [short_number(axis_value(histogram.edges, share)) for share in np.linspace(0, 1, 4)]
    axes.set_xticks(np.linspace(edges[0], edges[-1], 4), ticks, fontsize=7)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title(plain(f"{plain(name, 20)}: {verdict}" if verdict else name, 44), fontsize=8.5)


def ledger_plot(ledger: pd.DataFrame, *, title: str) -> Figure:
    """Every slide's scanned area as one bar; `ledger` is area_ledger.csv."""
    slides = list(dict.fromkeys(ledger["slide"]))
    used: dict[str, str] = {}
    with look():
        figure = new_figure(6.8, 1.3 + 0.2 * max(1, len(slides)))
        axes = figure.subplots()
        for place, (_slide, rows) in enumerate(ledger.groupby("slide", sort=False)):
            left = 0.0
            for category, area in ledger_areas(rows).items():
                colour = AREA_COLOURS[category]
                label = "" if category in used else category
                axes.barh(
                    place,
                    area,
                    left=left,
                    height=0.7,
                    color=colour,
                    edgecolor="white",
                    linewidth=0.4,
                    label=label or None,
                )
                used[category] = colour
                left += area
        axes.set_yticks(range(len(slides)), [plain(slide, 28) for slide in slides], fontsize=7)
        axes.set_ylim(len(slides) - 0.4, -0.6)
        axes.set_xlabel("scanned area (mm²)")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GRID)
        headline(axes, title)
        if used:
            figure.legend(loc="outside lower center", ncols=6, fontsize=8)
    return figure
