"""What there is to see of a slide, as napari's layer tuples; without Qt, so that it is tested without a screen.

mihc's micrometres start at the corner of the first pixel, napari's at its centre; `mihc.viewer_um` converts. Images and
labels are scaled by the pixel size of level 0, shapes and points are given in the viewer's µm. napari lays the levels
of a pyramid corner on corner, as mihc halves them, so that one scale serves all of them: level 0 lies exactly, and
where a side is odd, a lower level is stretched by less than one of its own pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mihc

if TYPE_CHECKING:
    import pandas as pd

LayerData = tuple[Any, dict, str]
UM = ("um", "um")
REGION_COLOURS = {"other": "#c9a27a", "stroma": "#6ec6f5", "tumour": "#ff8c42", "excluded": "#ff3b6b"}  # last on top
OUTLINE_COLOURS = {"nuclei": "#ffffff", "cells": "#9a9a9a"}
POINT_COLOUR = "#ffffff"  # no panel colour is white
POINT_UM = 4.0
THUMBNAIL_PX = 56


@dataclass(frozen=True)
class SlideView:
    """One measured slide of a study; nothing is read before it is asked for."""

    study: mihc.Study
    slide: str

    @cached_property
    def path(self) -> Path:
        """The folder of its OME-Zarr."""
        return mihc.slide_image(self.study, self.slide)

    @cached_property
    def pixel_size_um(self) -> tuple[float, float]:
        """(y, x) of the full-resolution level."""
        return mihc.open_image(self.path).pixel_size_um

    @cached_property
    def regions(self) -> list[mihc.Region]:
        """Its regions, cut so that none overlap."""
        return mihc.slide_regions(self.study, self.slide)

    @cached_property
    def roles(self) -> dict[str, str]:
        """What each channel is for, by the panel."""
        row = next(row for row in self.study.slides if row.slide == self.slide)
        return {line.marker: line.role for line in self.study.panel_of(row).rows}

    def positive_cells(self, population: str) -> tuple[pd.DataFrame, bool]:
        """Its cells that are positive: cell, x_um, y_um, region; and whether it could tell. A strange name is refused.

        Where it cannot tell, none is positive: a person looks at the channel and gives a threshold.
        """
        mihc.population_markers(self.study, self.slide, population)
        column = mihc.population_columns(self.study, self.slide)[population]
        wanted = ["cell", "x_um", "y_um", "region"]
        cells = mihc.slide_cells(self.study, self.slide, columns=[*wanted, column])
        calls = cells[column]
        positive = cells.loc[calls.fillna(False).to_numpy(dtype=bool), wanted]
        return positive, not (len(calls) and calls.isna().all())

    def viewer_yx(self, x_um: np.ndarray, y_um: np.ndarray) -> np.ndarray:
        """(n, 2) positions as napari has them."""
        return np.column_stack(mihc.viewer_um(x_um, y_um, pixel_size_um=self.pixel_size_um))


def slide_view(study: mihc.Study, slide: str | None = None) -> SlideView:
    """Look at one slide of a study; None: the first that is measured."""
    if slide is None:
        measured = mihc.measured_slides(study)
        if not measured:
            raise mihc.errors.UsageError(
                "no slide with an image has been measured yet",
                place=str(study.folder),
                fix=f"Type: mihc run {study.folder}",
            )
        slide = measured[0]
    return SlideView(study, slide)


def slide_layers(view: SlideView, *, population: str | None = None, regions: bool = True) -> list[LayerData]:
    """Everything there is to see of a slide, from the bottom up: channels, outlines, regions, positive cells."""
    path = view.path
    shown = _shown_channels(view, population)
    layers = [*image_layers(path, shown=shown), *label_layers(path), *([region_layer(view)] if regions else [])]
    return layers if population is None else [*layers, positive_layer(view, population)]


def _shown_channels(view: SlideView, population: str | None) -> set[str]:
    """Nuclei and tumour, and a population's own markers: all channels at once are a white haze."""
    markers = () if population is None else mihc.population_markers(view.study, view.slide, population)
    shown = {marker for marker, role in view.roles.items() if role in ("nuclei", "tumour") or marker in markers}
    alone = len({view.roles[marker] for marker in shown}) < 2  # nuclei without tumour: there is room for the others
    others = {marker for marker, role in view.roles.items() if role != "autofluorescence"}
    return others if population is None and alone else shown


def image_layers(path: str | Path, *, shown: set[str] | None = None) -> list[LayerData]:
    """Every channel of a stored slide as a lazy multiscale image in its colour; only `shown` are visible, None: all."""
    stored = mihc.open_image(path)
    return [
        (
            _pyramid([Plane(level, index) for level in stored.levels]),
            {
                "name": channel,
                "colormap": f"#{colour.lower()}",
                "contrast_limits": _rising(window),
                "blending": "additive",
                "scale": stored.pixel_size_um,
                "units": UM,
                "visible": shown is None or channel in shown,
            },
            "image",
        )
        for index, (channel, colour, window) in enumerate(zip(stored.channels, stored.colours, stored.windows))
    ]


def thumbnail(view: SlideView, side_px: int = THUMBNAIL_PX) -> np.ndarray:
    """(side_px, side_px, 3) uint8: the slide in its channels' colours, from the pyramid's smallest level alone."""
    stored = mihc.open_image(view.path)
    level = stored.levels[-1]
    step = -(-max(level.shape[-2:]) // side_px)
    shown, picture = _shown_channels(view, None), np.zeros((side_px, side_px, 3))
    for index, (channel, colour, window) in enumerate(zip(stored.channels, stored.colours, stored.windows)):
        if channel in shown:
            low, high = _rising(window)
            light = np.clip((_block_means(np.asarray(level[index]), step) - low) / (high - low), 0, 1)
            y, x = ((side_px - size) // 2 for size in light.shape)
            tint = np.array([int(colour[k : k + 2], 16) for k in (0, 2, 4)])
            picture[y : y + light.shape[0], x : x + light.shape[1]] += light[..., None] * tint
    return np.clip(picture, 0, 255).astype(np.uint8)


def _block_means(plane: np.ndarray, step: int) -> np.ndarray:
    """Means of step x step pixels; the last row and column are repeated to fill them."""
    padded = np.pad(plane, [(0, -size % step) for size in plane.shape], mode="edge")
    height, width = (size // step for size in padded.shape)
    return padded.reshape(height, step, width, step).mean(axis=(1, 3))


def label_layers(path: str | Path) -> list[LayerData]:
    """Nuclei and cells, as far as they are stored, to be drawn as outlines; cells are hidden at first."""
    from napari.utils.colormaps import CyclicLabelColormap

    pixel_size_um = mihc.open_image(path).pixel_size_um
    return [
        (
            _pyramid([Plane(level) for level in mihc.open_labels(path, name)]),
            {
                "name": name,
                "colormap": CyclicLabelColormap(["transparent", colour], name=f"mihc {name}"),
                "scale": pixel_size_um,
                "units": UM,
                "visible": name == "nuclei",
                "opacity": 0.7,
                "metadata": {"outline_px": 1},
            },
            "labels",
        )
        for name, colour in OUTLINE_COLOURS.items()
        if (Path(path) / "labels" / name).is_dir()
    ]


def region_layer(view: SlideView, regions: Sequence[mihc.Region] | None = None) -> LayerData:
    """The slide's regions, or those given, as closed lines, one for each ring: a polygon with a hole has two.

    They are lines, not filled polygons, since napari cannot triangulate the long outlines that follow pixels.
    """
    classes = list(REGION_COLOURS)
    ordered = sorted(
        view.regions if regions is None else regions, key=lambda region: classes.index(region.tissue_class)
    )
    rings = [(region, ring) for region in ordered for ring in _rings(region)]
    options = {
        "name": "regions",
        "shape_type": "path",
        "edge_color": [REGION_COLOURS[region.tissue_class] for region, _ in rings],
        "features": {
            "region": [region.name for region, _ in rings],
            "tissue_class": [region.tissue_class for region, _ in rings],
        },
        "opacity": 1.0,
        "units": UM,
        "metadata": {"line_px": 2, **_said_of(view)},
    }
    if not rings:
        return None, {"name": "regions", "ndim": 2, "units": UM}, "shapes"
    return [view.viewer_yx(*ring.T) for _, ring in rings], options, "shapes"


def _said_of(view: SlideView) -> dict[str, object]:
    """What a writer has to know to put regions into a file: the slide, its pixels and their size."""
    stored = mihc.open_image(view.path)
    return {"slide": view.slide, "shape": stored.levels[0].shape[-2:], "pixel_size_um": stored.pixel_size_um}


def _rings(region: mihc.Region) -> list[np.ndarray]:
    """(n, 2) x, y in µm of every ring of a region; the last point is the first."""
    polygons = [one for one in getattr(region.polygon_um, "geoms", [region.polygon_um]) if not one.is_empty]
    return [np.asarray(ring.coords)[:, :2] for one in polygons for ring in (one.exterior, *one.interiors)]


def positive_layer(view: SlideView, population: str) -> LayerData:
    """The positive cells of a population as points at their nuclei's centroids."""
    positive, told = view.positive_cells(population)
    name = f"{population}+" if population in view.roles else population  # a marker's channel has its name already
    options = {
        "name": name if told else f"{name} (cannot tell)",
        "size": POINT_UM,
        "face_color": POINT_COLOUR,
        "border_color": "black",
        "border_width": 0.15,
        "features": {
            "cell": positive["cell"].to_numpy(),
            "region": positive["region"].astype("string").fillna("").to_numpy(dtype=str),
        },
        "units": UM,
    }
    return view.viewer_yx(positive["x_um"].to_numpy(), positive["y_um"].to_numpy()), options, "points"


def region_box(view: SlideView, name: str) -> np.ndarray:
    """[[y, x], [y, x]]: the smallest and the largest corner of all regions of a name, in the viewer's µm."""
    boxes = [one.polygon_um.bounds for one in view.regions if one.name == name and not one.polygon_um.is_empty]
    if not boxes:
        known = dict.fromkeys(one.name for one in view.regions if not one.polygon_um.is_empty)
        raise mihc.errors.UsageError(
            f"slide {view.slide} has no region {name!r}", fix=f"It has {', '.join(known) or 'none'}."
        )
    x0, y0, x1, y1 = np.array(boxes).T
    return view.viewer_yx(np.array([x0.min(), x1.max()]), np.array([y0.min(), y1.max()]))


def _pyramid(levels: list[Plane]) -> list[Plane] | Plane:
    """What napari takes for a pyramid; one level alone is none."""
    return levels if len(levels) > 1 else levels[0]


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    return window[0], max(window[1], window[0] + 1)


class Plane:
    """One (y, x) level of a pyramid, read where it is sliced; napari then reads whole chunks of it."""

    ndim = 2

    def __init__(self, level: Any, channel: int | None = None) -> None:
        self._level, self._lead = level, () if channel is None else (channel,)
        self.shape: tuple[int, int] = tuple(level.shape[-2:])
        self.chunks: tuple[int, int] = tuple(level.chunks[-2:])
        self.dtype: np.dtype = level.dtype

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, selection: Any) -> np.ndarray:
        inner = selection if isinstance(selection, tuple) else (selection,)
        return self._level[(*self._lead, *inner)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :], dtype=dtype)
