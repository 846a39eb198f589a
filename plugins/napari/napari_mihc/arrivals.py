"""A slide's layers in two steps: what is seen comes at once, all else one by one after the first picture.

A channel that is hidden takes as long to come as one that is seen, outlines of nuclei longer, and of the whole slide
none of them is visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_mihc.model import LayerData

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

FIRST = ("image", "points")  # kinds of layers that belong to the first picture where they are visible


class Arrivals:
    """The layers of one slide on their way into a viewer, in the order of the slide whenever they come."""

    def __init__(self, viewer: napari.Viewer, layers: Sequence[LayerData]) -> None:
        self.viewer = viewer
        self._placed: list[tuple[int, Layer]] = []
        self._waiting = dict(enumerate(layers))

    def show_first(self) -> None:
        """Put what is seen into the viewer."""
        seen = [k for k, (_, told, kind) in self._waiting.items() if kind in FIRST and told.get("visible", True)]
        for place in seen or list(self._waiting)[:1]:
            self.place(place, self.make(place))

    @property
    def waiting(self) -> list[int]:
        """The places of the layers that are still to come, those that are visible first."""
        return sorted(self._waiting, key=lambda place: not self._waiting[place][1].get("visible", True))

    def make(self, place: int) -> Layer:
        """Make the layer of a place, which may be done in a thread: it reads what is seen of it at first."""
        from napari.layers import Layer

        return Layer.create(*self._waiting[place])

    def place(self, place: int, layer: Layer) -> None:
        """Put a layer into the viewer, above those that belong below it; the active layer stays what it is."""
        if self._waiting.pop(place, None) is None:  # it was asked for meanwhile
            return
        layers = self.viewer.layers
        below = [layers.index(one) for at, one in self._placed if at < place and one in layers]
        insert(self.viewer, max(below, default=-1) + 1, layer)
        self._placed.append((place, layer))

    def bring(self, name: str) -> None:
        """Put the layer of a name into the viewer now, if it is still to come."""
        for place in [place for place, (_, told, _) in self._waiting.items() if told["name"] == name]:
            self.place(place, self.make(place))


def insert(viewer: napari.Viewer, at: int, layer: Layer) -> None:
    """Put a layer into a viewer; the one that somebody works on stays the active one."""
    active = viewer.layers.selection.active
    viewer.layers.insert(at, layer)
    if active is not None:
        viewer.layers.selection.active = active
