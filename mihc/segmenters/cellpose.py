"""Cellpose (Stringer, Wang, Michaelos and Pachitariu 2021): method = "cellpose", pip install "mihc[cellpose]".

`weights` is a model file of the installed version: of Cellpose 4 a Cellpose-SAM (`cpsam` or one trained from it), of
Cellpose 3 a network of nuclei or of cells.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np

from mihc.segmenters.models import needed, steady, unreadable

TRAINED_PX = 30.0  # diameter, in pixels, that Cellpose-SAM was trained around; a Cellpose 3 file says its own
CELL_PROBABILITY = {"low": 1.0, "normal": 0.0, "high": -1.0}  # logit above which a pixel may belong to a nucleus
FLOW_ERROR = 0.4  # Cellpose's own default
SMALLEST_SHARE = 0.04  # area of the usual nucleus below which Cellpose drops a mask


class Cellpose:
    """A Cellpose network on pictures of 512 pixels."""

    planes = ("nuclei",)
    window_px = 512

    def __init__(self, model: object, version: int, diameter_px: float, nucleus_diameter_um: float, threshold: float):
        self.model, self.version, self.threshold = model, version, threshold
        self.pixel_size_um: float | None = nucleus_diameter_um / diameter_px
        self.overlap_px = round(2 * diameter_px) + 4
        self.smallest_px = round(SMALLEST_SHARE * np.pi / 4 * diameter_px**2)

    def labels(self, picture: np.ndarray) -> np.ndarray:
        """See `Segmenter.labels`."""
        given = {"channels": [0, 0]} if self.version < 4 else {}
        with steady():
            masks, *_ = self.model.eval(
                picture[0].copy(),
                batch_size=1,
                normalize=False,  # the picture is normalised by slide-wide constants
                diameter=None,
                flow_threshold=FLOW_ERROR,
                cellprob_threshold=self.threshold,
                min_size=self.smallest_px,
                **given,
            )
        return np.asarray(masks).astype(np.int64)


def make(*, weights: Path | None, nucleus_diameter_um: float, sensitivity: str) -> Cellpose:
    """Load a Cellpose model from its file."""
    path = needed(weights, "cellpose", "the file of a Cellpose model")
    from cellpose.models import CellposeModel

    version = int(metadata.version("cellpose").split(".")[0])
    given = {} if version < 4 else {"use_bfloat16": False}  # 8 bits of fraction are too few for equal results
    try:
        model = CellposeModel(gpu=False, pretrained_model=str(path), **given)
    except Exception as error:
        raise unreadable(path, f"a model of Cellpose {version}", error) from error
    model.net.eval()
    diameter = float(model.diam_mean) if version < 4 else TRAINED_PX
    return Cellpose(model, version, diameter, nucleus_diameter_um, CELL_PROBABILITY[sensitivity])
