"""InstanSeg (Goldsborough et al. 2024): method = "instanseg", pip install "mihc[instanseg]".

`weights` is a model as InstanSeg publishes it: one TorchScript file, `instanseg.pt`, that carries its own code, pixel
size and thresholds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mihc.segmenters.models import needed, steady, unreadable

SEEDS = {"low": 0.8, "normal": 0.7, "high": 0.6}  # height of a seed from which it is a nucleus; 0.7 is InstanSeg's
LOWEST, HIGHEST = -2.0, 3.0  # InstanSeg's own limits of a picture


class InstanSeg:
    """An InstanSeg network on pictures of 512 pixels."""

    planes = ("nuclei",)
    window_px, overlap_px = 512, 80  # InstanSeg's own

    def __init__(self, model: object, channels: int, seed: float):
        self.model, self.channels, self.seed = model, channels, seed
        size = float(model.pixel_size)
        self.pixel_size_um: float | None = size if 0.05 <= size <= 5 else None

    def labels(self, picture: np.ndarray) -> np.ndarray:
        """See `Segmenter.labels`."""
        import torch

        with steady(), torch.jit.optimized_execution(False):
            plane = torch.from_numpy(picture.clip(LOWEST, HIGHEST)).repeat(self.channels, 1, 1)[None]
            found = self.model(plane, target_segmentation=torch.tensor([1, 0]), seed_threshold=self.seed)
        return found[0, 0].numpy().astype(np.int64)


def make(*, weights: Path | None, nucleus_diameter_um: float, sensitivity: str) -> InstanSeg:
    """Load an InstanSeg model from its TorchScript file; it has its own idea of how wide nuclei are."""
    path = needed(weights, "instanseg", "the TorchScript file of an InstanSeg model, instanseg.pt")
    import torch

    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
        channels = _channels(model)
    except (RuntimeError, AttributeError, ValueError) as error:
        raise unreadable(path, "a TorchScript file of InstanSeg", error) from error
    return InstanSeg(model, channels, SEEDS[sensitivity])


def _channels(model: object) -> int:
    """Planes that the network takes: one where it takes any number, three where it was trained on colours."""
    import torch

    with steady(), torch.jit.optimized_execution(False):
        for channels in (1, 2, 3):
            try:
                model(torch.zeros(1, channels, 64, 64), target_segmentation=torch.tensor([1, 0]))
            except RuntimeError:
                continue
            return channels
    raise ValueError("the network takes none of 1, 2 or 3 planes")
