"""Masks of what should not be measured as excluded regions, beside what people have outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import shapely
from shapely.geometry import MultiPolygon

from mihc.areas.outlines import mask_to_polygons
from mihc.areas.region import Region


def excluded_regions(
    masks: Mapping[str, np.ndarray],
    *,
    pixel_size_um: tuple[float, float],
    exclude: Sequence[str],
    outlined: Sequence[Region] = (),
) -> list[Region]:
    """Return a region of class "excluded" for each mask that `exclude` names, along its pixels' edges.

    What people have `outlined` as excluded holds: a piece that lies at least half in it is theirs, and left out here.
    A mask of which nothing is left gives no region.
    """
    theirs = shapely.union_all([region.polygon_um for region in outlined if region.tissue_class == "excluded"])
    regions = []
    for name in exclude:
        if name not in masks or not masks[name].any():
            continue
        pieces = shapely.get_parts(mask_to_polygons(masks[name], pixel_size_um=pixel_size_um))
        new = [piece for piece in pieces if 2 * piece.intersection(theirs).area < piece.area]
        if new:
            regions.append(Region(name, "excluded", MultiPolygon(new)))
    return regions
