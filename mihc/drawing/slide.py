"""One synthetic slide with everything that is true of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mihc.drawing.nuclei import Densities, Nuclei, call_markers, place_nuclei
from mihc.drawing.optics import CHANNELS, Optics, draw_channels
from mihc.drawing.tissue import Layout, PlantedRegion, inside, plan_tissue


@dataclass(frozen=True)
class DrawnSlide:
    """A slide as a scanner would give it, and its truth."""

    image: np.ndarray  # (c, y, x) uint16 counts
    channels: tuple[str, ...]
    nuclei: np.ndarray  # (y, x) uint32 labels, 0 is background
    cells: np.ndarray  # (y, x) uint32 labels, the nucleus included; same ids
    table: (
        pd.DataFrame
    )  # one row per nucleus: cell, x_um, y_um, nucleus_area_um2, type, region, tissue_class, <marker>_positive
    regions: tuple[PlantedRegion, ...]  # disjoint; together the whole slide
    pixel_size_um: float


def draw_slide(
    *,
    size_px: tuple[int, int] = (1024, 1024),
    pixel_size_um: float = 0.5,
    seed: int,
    layout: Layout | None = None,
    densities: Densities | None = None,
    optics: Optics | None = None,
    antibodies: bool = True,
) -> DrawnSlide:
    """Draw a multiplex immunofluorescence slide whose truth is known.

    Parameters
    ----------
    size_px
        Height and width in pixels.
    pixel_size_um
        Side of a pixel in µm.
    seed
        The same seed and settings give the same slide, byte for byte.
    layout, densities, optics
        The tissue, the cells planted per mm², and the scanner; None = their defaults.
    antibodies
        False = a negative control: DAPI and autofluorescence only, no cell carries a marker.

    Returns
    -------
    DrawnSlide
        image (c, y, x) uint16; nuclei and cells (y, x) uint32; table with the centroid of each drawn nucleus
        ((mean index + 0.5) x pixel size), its type, the region that holds the centroid, and its markers.
        A slide of glass alone has an empty table.
    """
    layout, densities, optics = layout or Layout(), densities or Densities(), optics or Optics()
    rng = np.random.default_rng(np.random.SeedSequence([seed, *size_px]))
    tissue = plan_tissue(layout, size_px, pixel_size_um, rng)
    nuclei = place_nuclei(tissue, densities, size_px, pixel_size_um, rng)
    table = _table(nuclei, tissue.regions, pixel_size_um)
    areas = {region.tissue_class: 0.0 for region in tissue.regions}
    for region in tissue.regions:
        areas[region.tissue_class] += region.area_mm2
    calls = call_markers(nuclei, table["tissue_class"].to_numpy(), densities, areas, rng)
    if not antibodies:
        calls[:] = False
    image, cells = draw_channels(nuclei, calls, tissue, optics, pixel_size_um, rng)
    table = pd.concat([table, calls], axis=1)
    return DrawnSlide(image, CHANNELS, nuclei.labels, cells, table, tissue.regions, pixel_size_um)


def _table(nuclei: Nuclei, regions: tuple[PlantedRegion, ...], pixel_size_um: float) -> pd.DataFrame:
    from mihc.drawing import kernels

    n = len(nuclei.kinds)
    pixels, rows, columns = kernels.centroids(nuclei.labels, n).T
    table = pd.DataFrame(
        {
            "cell": np.arange(1, n + 1, dtype=np.uint32),
            "x_um": columns * pixel_size_um,
            "y_um": rows * pixel_size_um,
            "nucleus_area_um2": pixels * pixel_size_um**2,
            "type": nuclei.kinds.astype(str),
        }
    )
    region, tissue_class = np.full(n, "", object), np.full(n, "outside", object)
    for planted in regions:
        here = inside(table["x_um"].to_numpy(), table["y_um"].to_numpy(), planted.polygon_um)
        region[here], tissue_class[here] = planted.name, planted.tissue_class
    return table.assign(region=region.astype(str), tissue_class=tissue_class.astype(str))
