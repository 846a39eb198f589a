"""Strokes on a slide in a viewer, and the map that a tissue classifier makes of them; it knows no widget.

A stroke is a line of a class on a layer of its own. They are kept in memory per slide while the study is open, and on
the disk once a map is accepted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

import mihc
from napari_mihc.desk import Desk
from napari_mihc.model import REGION_COLOURS, UM, region_layer

if TYPE_CHECKING:
    import napari

LAYER, MAP = "strokes", "map, not accepted"
CLASSES = ("tumour", "stroma", "other", "glass", "necrosis")
COLOURS = {name: REGION_COLOURS.get(name, REGION_COLOURS["excluded"]) for name in CLASSES} | {"glass": "#c8c8c8"}
WIDTH_UM = 6.0  # what a stroke teaches lies within 3 µm of its line


class StrokePainter:
    """The strokes of the slide on the desk, and the map of them."""

    def __init__(self, viewer: napari.Viewer, desk: Desk) -> None:
        self.viewer, self.desk = viewer, desk
        self.trial: mihc.review.Trial | None = None
        self.stopping = threading.Event()
        self.changed: Callable[[], None] = lambda: None  # called after a stroke was painted or taken away
        self._unkept: dict[str, list[mihc.review.Painted]] = {}  # slide -> strokes that were not accepted

    @property
    def is_begun(self) -> bool:
        """Whether the slide's strokes are in the picture."""
        return LAYER in self.viewer.layers

    def remember(self) -> None:
        """Keep in mind what is painted on the slide that is about to be taken off the desk."""
        if self.desk.session is not None and LAYER in self.viewer.layers:
            self._unkept[self.desk.view.slide] = self.painted()
        self.trial = None

    def layer(self) -> napari.layers.Shapes:
        """The layer that strokes are painted on, with those that the slide has."""
        if LAYER not in self.viewer.layers:
            slide = self.desk.view.slide
            known = self._unkept.get(slide)
            known = mihc.review.painted_strokes(self.desk.study, slide) if known is None else known
            lines = [(one.line_yx - 0.5) * self.desk.view.pixel_size_um for one in known]
            added = self.viewer.add_shapes(
                lines or None,
                ndim=2,
                shape_type="path",
                name=LAYER,
                edge_width=WIDTH_UM,
                edge_color=[_colour(one.label) for one in known] or "white",
                face_color="transparent",
                features={"class": np.array([one.label for one in known], object)},
                opacity=0.8,
                units=UM,
            )
            added.current_edge_width = WIDTH_UM
            added.events.data.connect(lambda _: self.changed())
        return self.viewer.layers[LAYER]

    def paint(self, label: str) -> None:
        """Begin to paint strokes of a class: drag with the mouse."""
        layer = self.layer()
        self.viewer.layers.selection.active = layer
        layer.selected_data = set()
        layer.feature_defaults = {"class": label}
        layer.current_edge_color = _colour(label)
        layer.current_edge_width = WIDTH_UM
        layer.mode = "add_path"

    def take_last(self) -> None:
        """Take the stroke that was painted last away."""
        layer = self.layer()
        if not layer.data:
            raise mihc.errors.UsageError("there is no stroke on this slide", fix="Choose a class and paint one.")
        layer.selected_data = {len(layer.data) - 1}
        layer.remove_selected()

    def painted(self) -> list[mihc.review.Painted]:
        """The strokes of the layer, in pixels of the slide."""
        layer = self.layer()
        labels = [str(one) for one in layer.features["class"]]
        lines = [self.desk.pixel(np.asarray(line)[:, -2:]) for line in layer.data]
        return [mihc.review.Painted(label, line) for label, line in zip(labels, lines, strict=True)]

    def map_of(
        self, strokes: Sequence[mihc.review.Painted], progress: Callable[[object], None] = lambda event: None
    ) -> mihc.review.Trial:
        """Train on the strokes and map the slide; may run beside the viewer, and writes nothing."""
        study, slide = self.desk.study, self.desk.view.slide
        return mihc.review.try_strokes(study, slide, strokes, progress=progress, stopping=self.stopping)

    def show_map(self, trial: mihc.review.Trial) -> None:
        """Draw a trial's regions over the picture."""
        self.drop_map()
        self.trial = trial
        data, options, _ = region_layer(self.desk.view, trial.regions)
        options |= {"name": MAP}
        options["metadata"] = {"line_px": 4}
        layer = self.viewer.add_shapes(data, **options)
        self.viewer.layers.move(self.viewer.layers.index(layer), len(self.viewer.layers))
        if "regions" in self.viewer.layers:
            self.viewer.layers["regions"].visible = False

    def drop_map(self) -> None:
        """Take the map out of the picture; nothing of it is left."""
        self.trial = None
        if MAP in self.viewer.layers:
            self.viewer.layers.remove(MAP)
        if "regions" in self.viewer.layers:
            self.viewer.layers["regions"].visible = True

    def keep(self) -> None:
        """Accept the map: the next run, or Save, takes regions from this classifier."""
        if self.trial is None:
            raise mihc.errors.UsageError("there is no map to accept", fix="Paint strokes and show their map first.")
        slide = self.trial.slide
        mihc.review.keep_trial(self.desk.study, self.trial)
        self._unkept.pop(slide, None)
        self.drop_map()
        self.desk.reread()


def areas_of(regions: Sequence[mihc.Region]) -> dict[str, float]:
    """Class -> mm², of regions that do not overlap."""
    found: dict[str, float] = {}
    for one in regions:
        found[one.tissue_class] = found.get(one.tissue_class, 0.0) + one.area_mm2
    return found


def _colour(label: str) -> str:
    return COLOURS.get(label.casefold(), REGION_COLOURS["excluded"])
