"""Outlines that layer tuples cannot ask for: labels as contours, region lines that are as thin on every zoom.

A layer asks by its metadata: `outline_px` (labels), `line_px` (shapes), both in pixels of the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

STEP = 1.25  # lines are drawn anew when they are off by this factor,
COARSE, MANY = 2.0, 2000  # or by this one where they are so many that drawing them takes a second
_followed: WeakSet[napari.Viewer] = WeakSet()


def keep_outlines(viewer: napari.Viewer) -> None:
    """Draw every layer that asks for it as outlines, also those that come later. Calling it again changes nothing."""
    camera = viewer.scene.camera

    def added(event: object) -> None:
        _outline(event.value, camera.zoom)

    def zoomed() -> None:
        for layer in viewer.layers:
            _outline(layer, camera.zoom)

    if viewer not in _followed:
        _followed.add(viewer)
        viewer.layers.events.inserted.connect(added)
        camera.events.zoom.connect(zoomed)


def _outline(layer: Layer, zoom: float) -> None:
    if "outline_px" in layer.metadata and layer.contour != layer.metadata["outline_px"]:
        layer.contour = layer.metadata["outline_px"]
        layer.editable = False  # what the machine found is never painted over
    if "line_px" in layer.metadata and zoom > 0:
        width = layer.metadata["line_px"] / zoom
        step = STEP if len(layer.edge_width) < MANY else COARSE
        if not 1 / step < layer.edge_width[0] / width < step:
            layer.edge_width = width
            layer.refresh(extent=False, thumbnail=False)
