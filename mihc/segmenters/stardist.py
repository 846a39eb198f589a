"""StarDist (Schmidt, Weigert, Broaddus and Myers 2018): method = "stardist", pip install "mihc[stardist]".

`weights` is a model's folder as StarDist saves it: config.json, thresholds.json and weights_best.h5.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from mihc.errors import InputError
from mihc.segmenters.models import needed, unreadable

TRAINED_UM = 0.5  # µm per pixel of the fluorescence nuclei that StarDist's own 2D models were trained on, about
FILES = ("config.json", "weights_best.h5")
CERTAINTY = {"low": 1.25, "normal": 1.0, "high": 0.75}  # of the least probability that the model's folder gives


class StarDist:
    """A 2D StarDist network on pictures of 512 pixels."""

    planes = ("nuclei",)
    pixel_size_um: float | None = TRAINED_UM
    window_px, overlap_px = 512, 64

    def __init__(self, model: object, certainty: float):
        self.model, self.certainty = model, certainty
        self.channels = int(model.config.n_channel_in)
        self._one_at_a_time = threading.Lock()  # a Keras model is not made for several threads

    def labels(self, picture: np.ndarray) -> np.ndarray:
        """See `Segmenter.labels`."""
        plane = picture[0] if self.channels == 1 else np.repeat(picture[0][..., None], self.channels, axis=-1)
        least = min(self.model.thresholds.prob * self.certainty, 0.99)
        with self._one_at_a_time:
            labels, _ = self.model.predict_instances(
                plane.copy(), normalizer=None, prob_thresh=least, nms_thresh=self.model.thresholds.nms,
                show_tile_progress=False,
            )  # fmt: skip
        return np.asarray(labels).astype(np.int64)


def make(*, weights: Path | None, nucleus_diameter_um: float, sensitivity: str) -> StarDist:
    """Load a StarDist model from its folder; it takes any usual size of nuclei at its own pixel size."""
    folder = needed(weights, "stardist", "the folder of a StarDist model, with config.json and weights_best.h5")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        fix = f"A model's folder holds {' and '.join(FILES)}, as StarDist saves it."
        raise InputError(f"{folder} holds no {missing[0]}", fix=fix)
    import tensorflow as tf
    from stardist.models import StarDist2D

    with suppress(RuntimeError):  # TensorFlow is at work in this process already
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    try:
        model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    except Exception as error:
        raise unreadable(folder, "a 2D model of StarDist", error) from error
    return StarDist(model, CERTAINTY[sensitivity])
