"""Draw a small study, run it, and take a picture of its review: docs/pictures/napari.png.

xvfb-run -a -s "-screen 0 1600x1000x24" python plugins/napari/picture.py docs/pictures/napari.png
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("QT_API", "pyside6")

import napari
import numpy as np
from PIL import Image

import mihc
from mihc.synthetic import draw_study
from napari_mihc import open_slide_in
from napari_mihc.review import look_at

COLOURS = 256  # of the picture, which keeps it small


def take(study: Path, target: Path) -> None:
    """Open a slide, look closely at a part of its tumour, and keep the whole window as a picture."""
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 900)
    _settle()
    open_slide_in(viewer, study, slide="S01", population="B cell")
    look_at(viewer, np.array([[230.0, 130.0], [430.0, 400.0]]))
    _settle()
    window = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).convert("RGB")
    target.parent.mkdir(parents=True, exist_ok=True)
    window.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(target, optimize=True)
    viewer.close()


def _settle() -> None:
    for _ in range(3):
        napari.qt.get_qapp().processEvents()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        folder = draw_study(Path(scratch) / "study", patients=2)
        mihc.run(mihc.read_study(folder), until="positives")
        take(folder, Path(sys.argv[1]))
