"""The review table: a desk and a viewer, kept in step. It knows napari's layers and no widget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

import mihc
from napari_mihc.arrivals import Arrivals, insert
from napari_mihc.desk import Desk
from napari_mihc.model import POINT_UM, UM, LayerData, SlideView, region_layer, slide_layers
from napari_mihc.outlines import keep_outlines
from napari_mihc.strokes import StrokePainter

if TYPE_CHECKING:
    import napari

LABELS = ("nuclei", "cells")
Later = Callable[[Callable[[], Any], Callable[[Any], None]], object]
DRAWN, CHOSEN, MOVING = "draw here", "chosen cells", "positive cells"
KEYS = {
    "Shift-M": ("merge", "merge the chosen cells"),
    "Shift-X": ("delete", "delete the chosen cells"),
    "Shift-C": ("split", "cut a cell along the last line drawn"),
    "Shift-I": ("add", "insert a cell: the last outline drawn is its nucleus"),
    "Shift-R": ("redraw", "redraw a cell's nucleus by the last outline drawn"),
    "Shift-U": ("undo", "take the last gesture back, also one of yesterday"),
    "Shift-D": ("redo", "do again what was taken back last"),
    "Shift-Y": ("accept_slide", "accept the slide as it is"),
    "Shift-N": ("next_slide", "next slide"),
    "Shift-B": ("previous_slide", "previous slide"),
    "Shift-T": ("toggle_positive", "show or hide the positive cells"),
    "Shift-O": ("toggle_outlines", "show or hide nuclei and cells"),
}


class EditedPlane:
    """One level of a slide's labels with all edits so far, read where it is sliced."""

    ndim = 2

    def __init__(self, desk: Desk, name: str, level: int) -> None:
        self._session, self._name, self._level = desk.session, name, level
        first = self._session.labels(name)[level]
        self.shape, self.chunks, self.dtype = first.shape, first.chunks, first.dtype
        self.size = self.shape[0] * self.shape[1]

    def __getitem__(self, selection: Any) -> np.ndarray:
        wanted = selection if isinstance(selection, tuple) else (selection,)
        wanted = (*wanted, *(slice(None),) * (2 - len(wanted)))
        box = tuple(part if isinstance(part, slice) else slice(int(part), int(part) + 1) for part in wanted)
        found = self._session.labels(self._name)[self._level][box]
        return found[tuple(slice(None) if isinstance(part, slice) else 0 for part in wanted)]

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :], dtype=dtype)


class ReviewTable:
    """A desk and a viewer in step: what is done on the one is seen on the other."""

    def __init__(self, viewer: napari.Viewer, desk: Desk) -> None:
        self.viewer, self.desk = viewer, desk
        self.strokes = StrokePainter(viewer, desk)
        self.strokes.changed = self._changed
        self.said: list[str] = []  # what was told to the reviewer, the newest last
        self._listeners: list[Callable[[], None]] = []
        self._arrivals = Arrivals(viewer, [])
        self._taken = False  # whether the gesture under way took what was drawn
        self.later: Later = lambda work, then: then(work())  # how to do what the first picture does not wait for
        self.busy: Callable[[str], AbstractContextManager] = nullcontext  # how to show that something takes its time
        for key, (name, _) in KEYS.items():
            viewer.bind_key(key, self._on_key(name), overwrite=True)
        viewer.mouse_drag_callbacks.append(self._clicked)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this whenever anything has changed."""
        self._listeners.append(listener)

    def tell(self, text: str) -> None:
        """Say something to the reviewer, beside the picture and in no one's way."""
        self.said.append(text)
        self.viewer.status = text.splitlines()[0] if text else ""
        self._changed()

    def do(self, action: Callable[[], object], said: str = "") -> object:
        """Do something; what goes wrong is told in words."""
        try:
            done = action()
        except mihc.errors.MihcError as error:
            self.tell(str(error))
            return None
        if said:
            self.tell(said)
        else:
            self._changed()
        return done

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    def _on_key(self, name: str) -> Callable:
        def pressed(viewer: object) -> None:
            getattr(self, name)()

        return pressed

    def saved(self) -> None:
        """Take what a save, or a run elsewhere, has made of the study, and draw it."""
        self.desk.reread()
        if self.desk.session is not None:
            self.show_edits()
            self.show_regions()
        self._changed()

    # What is seen

    def show(self, slide: str | None = None, *, population: str | None = None) -> None:
        """Put a slide on the desk and into the viewer."""
        with self.busy("Opening the slide ..."):
            self._show(slide, population)

    def _show(self, slide: str | None, population: str | None) -> None:
        self.strokes.remember()
        view = self.desk.open(slide)
        layers = [self._edited(*layer) for layer in slide_layers(view, population=population, regions=False)]
        keep_outlines(self.viewer)
        if self.viewer.layers:
            self.viewer.layers.clear()
        self._arrivals = arrivals = Arrivals(self.viewer, layers)
        arrivals.show_first()
        self.viewer.title = f"mihc - {view.slide} - {self.desk.reviewer}"
        self.tell(f"{view.slide}: {self.desk.cell_count} cells")
        self._bring_next(arrivals)
        session, zoom = self.desk.session, self.viewer.scene.camera.zoom

        def drawn(layer: napari.layers.Layer) -> None:
            if (
                session is self.desk.session and "regions" not in self.viewer.layers
            ):  # else another slide, or drawn anew
                insert(self.viewer, len(self.viewer.layers), layer)

        self.later(lambda: _regions_of(view, session, zoom), drawn)

    def _edited(self, data: Any, options: dict, kind: str) -> LayerData:
        """The machine's labels with the edits; every other layer as it is."""
        if kind == "labels":
            count = len(self.desk.session.labels(options["name"]))
            data = [EditedPlane(self.desk, options["name"], level) for level in range(count)]
            data = data if count > 1 else data[0]
        return data, options, kind

    def _bring_next(self, arrivals: Arrivals) -> None:
        """Let the layers that wait come one by one, as long as their slide lies on the desk."""
        if arrivals is not self._arrivals:
            return
        if not arrivals.waiting:
            self.later(mihc.review.get_ready, lambda _: None)
            return
        place = arrivals.waiting[0]

        def made(layer: napari.layers.Layer) -> None:
            if arrivals is self._arrivals:
                arrivals.place(place, layer)
                self._bring_next(arrivals)

        self.later(lambda: arrivals.make(place), made)

    def show_edits(self) -> None:
        """Draw labels and chosen cells as they are now."""
        for name in LABELS:
            if name in self.viewer.layers:
                self.viewer.layers[name].refresh()
        self.show_chosen()

    def show_chosen(self) -> None:
        """Mark the chosen cells."""
        ids = self.desk.selected
        cells = self.desk.cells
        known = cells[cells["cell"].isin(ids)]
        where = self.desk.view.viewer_yx(known["x_um"].to_numpy(), known["y_um"].to_numpy())
        self._points(CHOSEN, where, "#ffe14d", 1.5 * POINT_UM)

    def show_regions(self) -> None:
        """Draw the regions as they are with all edits so far."""
        layer = _regions_of(self.desk.view, self.desk.session, self.viewer.scene.camera.zoom)
        at = len(self.viewer.layers)
        if "regions" in self.viewer.layers:
            at = self.viewer.layers.index("regions")
            self.viewer.layers.remove("regions")
        insert(self.viewer, at, layer)

    def look_for(self, marker: str) -> None:
        """Show a marker's channel beside nuclei and tumour, and no other."""
        shown = {"nuclei", "tumour"}
        self._arrivals.bring(marker)
        for name, role in self.desk.view.roles.items():
            if name in self.viewer.layers:
                self.viewer.layers[name].visible = role in shown or name == marker

    def show_positive(self, population: str) -> None:
        """Points at the cells that are positive by the threshold as it is being moved."""
        self._points(MOVING, self.desk.positive_points(population), "#ffffff", POINT_UM)

    def _points(self, name: str, where: np.ndarray, colour: str, size: float) -> None:
        if name in self.viewer.layers:
            self.viewer.layers[name].data = where
            return
        self.viewer.add_points(
            where, name=name, size=size, face_color="transparent", border_color=colour, border_width=0.2, units=UM
        )

    def drawing(self) -> napari.layers.Shapes:
        """The layer that lines and outlines are drawn on."""
        if DRAWN not in self.viewer.layers:
            layer = self.viewer.add_shapes(
                None, ndim=2, name=DRAWN, edge_color="#ffe14d", face_color="transparent", units=UM
            )
            layer.current_edge_width = 0.5
        return self.viewer.layers[DRAWN]

    def draw(self, mode: str) -> None:
        """Begin to draw, in one of napari's modes of shapes: by dragging."""
        layer = self.drawing()
        self.viewer.layers.selection.active = layer
        layer.mode = mode
        self.tell("Drag in the picture to draw; hold the space bar to move it.")

    def take_drawn(self) -> np.ndarray:
        """(n, 2) the last shape that was drawn; it stays on its layer until the gesture is kept."""
        layer = self.drawing()
        if not layer.data:
            raise mihc.errors.UsageError(
                "nothing is drawn yet", fix=f'Draw a line or an outline on the layer "{DRAWN}" first.'
            )
        self._taken = True
        return np.asarray(layer.data[-1])[:, -2:]

    def _kept(self, gesture: Callable[[], object]) -> None:
        """Make a gesture; only when it is kept is what was drawn for it gone, so that a full disk costs no outline."""
        self._taken = False
        gesture()
        if self._taken:
            self.drawing().data = []

    # What is done

    def _clicked(self, viewer: object, event: object) -> None:
        if "Control" in event.modifiers and self.desk.session is not None:
            self.do(lambda: self.choose(event.position))

    def choose(self, position: Sequence[float]) -> None:
        """Choose the cell at a position (µm, as napari has it), or let it go."""
        cell = self.desk.choose_cell(tuple(position)[-2:])
        self.show_chosen()
        self.tell(f"cell {cell}" if cell else "no cell here")

    def merge(self) -> None:
        """Make one cell of the chosen ones."""
        self._edit(self.desk.merge, "merged")

    def delete(self) -> None:
        """Delete the chosen cells."""
        self._edit(self.desk.delete, "deleted")

    def split(self) -> None:
        """Cut a cell along the last line drawn."""
        self._edit(lambda: self.desk.split(self.take_drawn()), "split")

    def add(self) -> None:
        """Add a cell by the last outline drawn."""
        self._edit(lambda: self.desk.add(self.take_drawn()), "added")

    def redraw(self) -> None:
        """Redraw a cell by the last outline drawn."""
        self._edit(lambda: self.desk.redraw(self.take_drawn()), "redrawn")

    def undo(self) -> None:
        """Take the last gesture back."""
        self._back_and_forth(self.desk.undo)

    def redo(self) -> None:
        """Do again what was taken back last."""
        self._back_and_forth(self.desk.redo)

    def _back_and_forth(self, step: Callable[[], str]) -> None:
        self.do(lambda: self.tell(step()))
        self.show_edits()
        self.show_regions()

    def _edit(self, gesture: Callable[[], object], said: str) -> None:
        def edited() -> None:
            self._kept(gesture)
            self.show_edits()
            self.tell(f"{said}; kept. Save to let the numbers follow.")

        self.do(edited)

    def draw_region(self, name: str, tissue_class: str) -> None:
        """Make a region of the last outline drawn."""
        session = self.desk.session
        self._region(
            lambda: session.draw_region(name, tissue_class, self.desk.polygon_um(self.take_drawn())), f"drew {name}"
        )

    def cut_region(self, name: str) -> None:
        """Take the last outline drawn out of a region."""
        session = self.desk.session
        self._region(lambda: session.cut_region(name, self.desk.polygon_um(self.take_drawn())), f"cut {name}")

    def remove_region(self, name: str) -> None:
        """Take a region away."""
        self._region(lambda: self.desk.session.remove_region(name), f"removed {name}")

    def reclassify_region(self, name: str, tissue_class: str) -> None:
        """Give a region another class."""
        self._region(lambda: self.desk.session.reclassify_region(name, tissue_class), f"{name} is {tissue_class} now")

    def _region(self, gesture: Callable[[], object], said: str) -> None:
        def edited() -> None:
            self._kept(gesture)
            self.show_regions()
            self.tell(f"{said}; kept. Save to let the numbers follow.")

        self.do(edited)

    def accept_slide(self) -> None:
        """Accept the slide as it is."""
        self.do(self.desk.accept, "slide accepted")

    def next_slide(self) -> None:
        """Open the next slide of the list."""
        self._move(1)

    def previous_slide(self) -> None:
        """Open the slide before this one."""
        self._move(-1)

    def _move(self, step: int) -> None:
        slide = self.desk.beside(step)
        self.do(lambda: self.show(slide) if slide else self.tell("no further slide"))

    def toggle_positive(self) -> None:
        """Show or hide the positive cells."""
        self._toggle([MOVING])

    def toggle_outlines(self) -> None:
        """Show or hide nuclei and cells."""
        self._toggle(LABELS)

    def _toggle(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self.viewer.layers:
                self.viewer.layers[name].visible = not self.viewer.layers[name].visible


def _regions_of(view: SlideView, session: mihc.review.Session, zoom: float) -> napari.layers.Layer:
    """The regions of a slide with the edits of its session, as lines that this zoom of the camera needs."""
    from napari.layers import Layer

    data, options, kind = region_layer(view, session.regions())
    if "line_px" in options.get("metadata", {}) and zoom > 0:
        options["edge_width"] = options["metadata"]["line_px"] / zoom
    return Layer.create(data, options, kind)
