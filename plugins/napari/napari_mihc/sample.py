"""npe2's sample data: a slide that is drawn, then measured, which takes some seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mihc
from mihc import synthetic
from napari_mihc.model import LayerData, image_layers, label_layers

SIZE_PX = (512, 512)


def drawn_slide() -> list[LayerData]:
    """Draw a slide, find its nuclei and cells, and give its layers; it lies in the folder for temporary files."""
    folder = synthetic.draw_study(Path(tempfile.mkdtemp(prefix="mihc-sample-")) / "study", patients=2, size_px=SIZE_PX)
    study = mihc.read_study(folder)
    slide = study.slides[0].slide
    mihc.run(study, slides=[slide], until="cells")
    path = study.results / "slides" / f"{slide}.ome.zarr"
    return [*image_layers(path), *label_layers(path)]
