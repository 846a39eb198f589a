"""The panel of help: what to do in which order, and the keys."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_mihc.table import CHOSEN, DRAWN, KEYS

STEPS = {
    "Slides": "a double click opens one; begin with those that failed a check or cannot tell. A click shows what the"
    " checks say.",
    "Thresholds": "choose a marker: its channel and its positive cells come into the picture. Drag the line, look at"
    " the points and at the cells nearest to it, then Keep, Accept or Negative slide.",
    "Cells": f"Ctrl and click chooses cells (layer '{CHOSEN}'). Press Draw, then drag a line across a cell, or around a"
    f" nucleus (layer '{DRAWN}'); then the button, or its key.",
    "Regions": "drag an outline, choose a class, give it a name. What lay under it gives way.",
    "Strokes": "paint tumour, stroma and glass, let the tissue classifier learn, look at its map, accept it or not.",
    "Save": "the numbers follow; before and after are shown. Every gesture is on the disk already.",
    "Reviewers": "two people beside each other, and whose work counts.",
}
MOUSE = {
    "wheel": "zoom",
    "drag": "move the picture (while drawing: with the space bar held)",
    "Ctrl + click": "choose a cell, or let it go",
    "eye in the layer list": "show or hide a channel, nuclei, cells, regions",
}
TEXT = (
    "<p>{steps}</p><p><b>Keys</b> (click into the picture first)</p><p>{keys}</p><p><b>Mouse</b></p><p>{mouse}</p>"
    "<p>A new study: <b>Plugins > mihc > Start here</b>.</p>"
)


class HelpPanel(QScrollArea):
    """What to do, and the keys."""

    def __init__(self) -> None:
        super().__init__()
        steps = "<br>".join(f"<b>{name}</b>: {words}" for name, words in STEPS.items())
        keys = "<br>".join(f"<b>{key}</b> {words}" for key, (_, words) in KEYS.items())
        mouse = "<br>".join(f"<b>{name}</b> {words}" for name, words in MOUSE.items())
        text, inner = QLabel(TEXT.format(steps=steps, keys=keys, mouse=mouse)), QWidget()
        text.setWordWrap(True)
        layout = QVBoxLayout(inner)
        layout.addWidget(text)
        layout.addStretch()
        self.setWidget(inner)
        self.setWidgetResizable(True)
