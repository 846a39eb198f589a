"""npe2's writers: regions as GeoJSON, labels as TIFF without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mihc

NEEDED = ("slide", "shape", "pixel_size_um")


def write_regions(path: str, data: Any, attributes: dict) -> list[str]:
    """Write the region layer of a slide as QuPath's GeoJSON, which mihc reads too -> the file.

    Raises
    ------
    UsageError
        When the layer is none of mihc's region layers: nothing says whose pixels its shapes are.
    """
    said, features = attributes.get("metadata", {}), attributes.get("features")
    if not set(NEEDED) <= set(said) or features is None or not {"region", "tissue_class"} <= set(features):
        raise mihc.errors.UsageError(
            "this is no layer of regions that mihc made", fix='Choose the layer "regions" of a slide of mihc.'
        )
    regions = _regions(data, list(features["region"]), list(features["tissue_class"]), said["pixel_size_um"])
    mihc.review.write_regions(Path(path), said["slide"], said["shape"], regions, said["pixel_size_um"])
    return [path]


def write_labels(path: str, data: Any, attributes: dict) -> list[str]:
    """Write a layer of labels, its full resolution, as a TIFF of 32 bits -> the file."""
    import tifffile

    full = data[0] if attributes.get("multiscale") or isinstance(data, list | tuple) else data
    tifffile.imwrite(path, np.asarray(full).astype(np.uint32, copy=False), compression="zlib")
    return [path]


def _regions(rings: Any, names: list[str], classes: list[str], size_um: tuple[float, float]) -> list[mihc.Region]:
    """Regions of rings, one of each name and class: what an odd number of its rings holds."""
    import shapely

    found: dict[tuple[str, str], Any] = {}
    for ring, name, tissue_class in zip(rings, names, classes, strict=True):
        y, x = (np.asarray(ring, float)[:, -2:] + np.asarray(size_um) / 2).T
        polygon = shapely.Polygon(np.column_stack([x, y]))
        known = found.get((name, tissue_class))
        found[name, tissue_class] = polygon if known is None else known.symmetric_difference(polygon)
    return [mihc.Region(name, tissue_class, polygon) for (name, tissue_class), polygon in found.items()]
