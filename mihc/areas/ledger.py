"""The account of a slide's area and cells: every mm² and every cell is in exactly one place, or the run stops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.shapes import polygons_of
from mihc.areas.membership import first_holder
from mihc.areas.region import ANALYSED, OUTSIDE, PRECEDENCE, TISSUE_CLASSES, Region, by_precedence, united
from mihc.errors import MihcError

GLASS_WARNING_PERCENT = 10.0
AREA_TOLERANCE = 1e-9  # relative to the scanned area: what overlaying polygons in double precision may leave


def partition(
    regions: Sequence[Region], *, scanned: Polygon | MultiPolygon, precedence: Sequence[str] = PRECEDENCE
) -> list[Region]:
    """Return the regions cut to the scanned area (µm) and to each other, so that no two overlap.

    The class first in `precedence` keeps the area, within a class the region first in the list. A region that is wholly
    covered by others stays, with an empty polygon: it has an area of 0 and is seen.
    """
    ordered = by_precedence(united(regions), precedence)
    polygons = np.array([region.polygon_um for region in ordered], dtype=object)
    tree = shapely.STRtree(polygons)
    parts = []
    for index, region in enumerate(ordered):
        mine = region.polygon_um
        if not shapely.covers(scanned, mine):
            mine = mine.intersection(scanned)
        before = [other for other in tree.query(region.polygon_um, predicate="intersects") if other < index]
        if before:
            mine = mine.difference(shapely.union_all(polygons[sorted(before)]))
        parts.append(replace(region, polygon_um=polygons_of(mine) or Polygon()))
    return parts


def area_ledger(
    slide: str,
    regions: Sequence[Region],
    *,
    scanned: Polygon | MultiPolygon,
    tissue: Polygon | MultiPolygon,
    cells: pd.DataFrame,
) -> pd.DataFrame:
    """Return a slide's account of area and cells.

    Parameters
    ----------
    slide : str
        Its id.
    regions : list of Region
        The slide's `partition`.
    scanned, tissue : polygons in µm
        What was imaged, and what of it was detected as tissue. What a region covers counts as tissue too.
    cells : DataFrame
        `x_um, y_um, region, tissue_class` of every cell, as `assign_regions` called them.

    Returns
    -------
    DataFrame
        `slide, category, region, area_mm2, cells, glass_percent`. One row each for scanned = glass + tissue, tissue,
        glass, unannotated and analysed = tumour + stroma + other; one per region of tumour, stroma, other and
        excluded (there `region` is the reason). glass_percent: share of it where no tissue was detected.

    Raises
    ------
    MihcError
        When tissue + glass is not scanned, or the regions + unannotated are not tissue: areas to 1e-9 of the scanned
        area, cells exactly.
    """
    tissue = polygons_of(tissue.intersection(scanned)) or Polygon()
    covered = shapely.union_all([region.polygon_um for region in regions])
    all_tissue = shapely.union_all([tissue, covered])
    outside = cells[cells["tissue_class"] == OUTSIDE]
    on_tissue = first_holder(outside["x_um"].to_numpy(), outside["y_um"].to_numpy(), [tissue]) >= 0
    glass = ("glass", "", scanned.difference(all_tissue).area, int((~on_tissue).sum()), 100.0)
    unannotated = ("unannotated", "", tissue.difference(covered).area, int(on_tissue.sum()), 0.0)
    held = Counter(zip(cells["region"], cells["tissue_class"]))
    rows = [_region_row(region, tissue, held[region.name, region.tissue_class]) for region in _by_class(regions)]
    glass_percent = 100 * (1 - tissue.area / all_tissue.area) if all_tissue.area > 0 else math.nan
    whole_tissue = ("tissue", "", all_tissue.area, len(cells) - glass[3], glass_percent)
    whole = ("scanned", "", scanned.area, len(cells), 100 * (1 - tissue.area / scanned.area))
    _must_sum(slide, "scanned = glass + tissue", whole, [glass, whole_tissue], scanned.area)
    _must_sum(slide, "tissue = regions + unannotated", whole_tissue, [*rows, unannotated], scanned.area)
    table = [whole, glass, whole_tissue, *rows, unannotated, _analysed(rows)]
    ledger = pd.DataFrame(table, columns=["category", "region", "area_um2", "cells", "glass_percent"])
    ledger.insert(0, "slide", slide)
    ledger.insert(3, "area_mm2", ledger.pop("area_um2") / 1e6)
    return ledger


LedgerRow = tuple[str, str, float, int, float]  # category, region, area_um2, cells, glass_percent


def _by_class(regions: Sequence[Region]) -> list[Region]:
    return sorted(regions, key=lambda region: TISSUE_CLASSES.index(region.tissue_class))


def _region_row(region: Region, tissue: shapely.Geometry, cells: int) -> LedgerRow:
    area = region.polygon_um.area
    glass = 100 * region.polygon_um.difference(tissue).area / area if area > 0 else math.nan
    return region.tissue_class, region.name, area, cells, glass


def _analysed(rows: Sequence[LedgerRow]) -> LedgerRow:
    counted = [row for row in rows if row[0] in ANALYSED]
    area = math.fsum(row[2] for row in counted)
    glass = math.fsum(row[2] * row[4] for row in counted if row[2] > 0)
    return "analysed", "", area, sum(row[3] for row in counted), glass / area if area > 0 else math.nan


def _must_sum(slide: str, equation: str, whole: LedgerRow, parts: Sequence[LedgerRow], scale: float) -> None:
    area, cells = math.fsum(part[2] for part in parts), sum(part[3] for part in parts)
    if abs(area - whole[2]) > AREA_TOLERANCE * scale or cells != whole[3]:
        raise MihcError(
            f"the area ledger does not sum: {equation}; found {whole[2] / 1e6:.9g} mm² with {whole[3]} cells "
            f"against {area / 1e6:.9g} mm² with {cells} cells",
            place=slide,
            fix="Its numbers cannot be trusted and are not written. Please report this with the slide's annotations.",
        )


def ledger_warnings(ledger: pd.DataFrame) -> list[str]:
    """Return a sentence for each region of a ledger of which more than 10 % is glass."""
    regions = ledger[ledger["category"].isin(TISSUE_CLASSES) & (ledger["glass_percent"] > GLASS_WARNING_PERCENT)]
    return [
        f'{row.slide}: region "{row.region}" ({row.category}): {row.glass_percent:.0f} % of its area shows no tissue'
        for row in regions.itertuples()
    ]
