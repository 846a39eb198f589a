"""The columns of the cells table's measured part, from integer sums."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mihc.errors import InputError
from mihc.measures.extras import Extras
from mihc.measures.features import Features
from mihc.measures.pixels import Labelled, Sums, sum_pixels, sum_windows, without_gaps
from mihc.measures.settings import FLAGS, CellSettings
from mihc.windows import pixel_size_pair

TINY = 5  # cytoplasm below this part of the nucleus' area is tiny


def cell_table(
    image: np.ndarray | object,
    labelled: Labelled,
    pixel_size_um: float | tuple[float, float],
    settings: CellSettings,
    side: int | None = None,
) -> pd.DataFrame:
    """The rows of the first `labelled.own` cells; the columns are told by `mihc.measure_cells`.

    With a `side` the image is read in windows, as far as sums alone are asked for.
    """
    size = pixel_size_pair(pixel_size_um)
    features = Features(settings.features)
    if side is None or features.names != ("mean",):
        side, image = None, np.asarray(image)
    everyone = sum_windows(image, labelled, settings, side) if side else sum_pixels(image, labelled, settings)
    labelled, everyone = without_gaps(labelled, everyone)
    lost = labelled.ids[everyone.pixels["nucleus"] == 0][:5].tolist()
    if lost:
        raise InputError(f"cells without a nucleus: {lost}", fix="Give labels in which each cell has its nucleus.")
    sums = everyone.of_first(labelled.own)
    columns = {"cell": labelled.ids[: labelled.own]} | _places(sums, size)
    for k, (_, marker) in enumerate(settings.measured):
        columns |= _means(marker, sums, k, settings.fixed_point_bits[k])
    flags = _flags(sums)
    if features.names != ("mean",):
        more, more_flags = Extras(image, labelled, sums, everyone, size, settings).columns(features)
        columns, flags = columns | more, flags | more_flags
    return pd.DataFrame(columns | {"flags": flags.astype(np.uint32)})


def _places(sums: Sums, size: tuple[float, float]) -> dict[str, np.ndarray]:
    size_y, size_x = size
    pixels = sums.pixels
    _, y, x = sums.shapes[:, 1, :3].T
    return {
        "x_um": (x / pixels["nucleus"] + 0.5) * size_x,
        "y_um": (y / pixels["nucleus"] + 0.5) * size_y,
        "nucleus_area_um2": pixels["nucleus"] * (size_y * size_x),
        "cell_area_um2": pixels["cell"] * (size_y * size_x),
    }


def _means(marker: str, sums: Sums, k: int, bits: int) -> dict[str, np.ndarray]:
    light, one = sums.light_of(k), float(2**bits)
    return {
        f"{marker}_{part}_mean": light[part] / (np.where(pixels > 0, pixels, np.nan) * one)
        for part, pixels in sums.pixels.items()
    }


def _flags(sums: Sums) -> np.ndarray:
    from mihc.measures.sum_kernels import SATURATED, TOUCHES_EDGE

    cytoplasm, nucleus = sums.pixels["cytoplasm"], sums.pixels["nucleus"]
    tiny = (cytoplasm > 0) & (TINY * cytoplasm < nucleus)
    found = {
        "touches_edge": sums.marks & TOUCHES_EDGE > 0,
        "saturated": sums.marks & SATURATED > 0,
        "tiny_cytoplasm": tiny,
    }
    return np.bitwise_or.reduce([np.where(where, FLAGS[name], 0) for name, where in found.items()])
