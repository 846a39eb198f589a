"""The account of a slide's area and cells: every mm² and every cell is in exactly one place, or the run stops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.shapes import polygons_of
from mihc.areas.membership import first_holder
from mihc.areas.region import ANALYSED, OUTSIDE, PRECEDENCE, TISSUE_CLASSES, Region, by_precedence, united
from mihc.errors import LedgerError

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
        `slide, category, region, area_mm2, cells, glass_percent`. One row each for scanned = glass + tissue, glass,
        holes (of the glass, what tissue encloses: lumens, tears), tissue, unannotated and analysed = tumour + stroma +
        other; one per region of tumour, stroma, other and excluded (there `region` is the reason). glass_percent:
        share of it where no tissue was detected.

    Raises
    ------
    LedgerError
        When tissue + glass is not scanned, the regions + unannotated are not tissue, or holes + tissue are not what
        the tissue's outline encloses: areas to 1e-9 of the scanned area, cells exactly.
    """
    tissue = polygons_of(tissue.intersection(scanned)) or Polygon()
    covered = shapely.union_all([region.polygon_um for region in regions])
    all_tissue = shapely.union_all([tissue, covered])
    outside = cells[cells["tissue_class"] == OUTSIDE]
    enclosed = _filled(all_tissue).intersection(scanned)
    holes = polygons_of(enclosed.difference(all_tissue)) or Polygon()
    at = outside["x_um"].to_numpy(), outside["y_um"].to_numpy()
    on_tissue = first_holder(*at, [tissue]) >= 0
    in_holes = ~on_tissue & (first_holder(*at, [holes]) >= 0)
    glass = ("glass", "", scanned.difference(all_tissue).area, int((~on_tissue).sum()), 100.0)
    hole = ("holes", "", holes.area, int(in_holes.sum()), 100.0 if holes.area > 0 else math.nan)
    unannotated = ("unannotated", "", tissue.difference(covered).area, int(on_tissue.sum()), 0.0)
    held = Counter(zip(cells["region"], cells["tissue_class"]))
    rows = [_region_row(region, tissue, held[region.name, region.tissue_class]) for region in _by_class(regions)]
    glass_percent = 100 * (1 - tissue.area / all_tissue.area) if all_tissue.area > 0 else math.nan
    whole_tissue = ("tissue", "", all_tissue.area, len(cells) - glass[3], glass_percent)
    whole = ("scanned", "", scanned.area, len(cells), 100 * (1 - tissue.area / scanned.area))
    _must_sum(slide, "scanned = glass + tissue", whole, [glass, whole_tissue], scanned.area)
    _must_sum(slide, "tissue = regions + unannotated", whole_tissue, [*rows, unannotated], scanned.area)
    together = ("", "", enclosed.area, hole[3] + whole_tissue[3], math.nan)
    _must_sum(slide, "enclosed by tissue = tissue + holes", together, [hole, whole_tissue], scanned.area)
    table = [whole, glass, hole, whole_tissue, *rows, unannotated, _analysed(rows)]
    ledger = pd.DataFrame(table, columns=["category", "region", "area_um2", "cells", "glass_percent"])
    ledger.insert(0, "slide", slide)
    ledger.insert(3, "area_mm2", ledger.pop("area_um2") / 1e6)
    return ledger


def moved_cells(ledger: pd.DataFrame, change: Mapping[tuple[str, str], int]) -> pd.DataFrame:
    """Return a slide's account with cells more or less in its regions; no area changes.

    Parameters
    ----------
    ledger
        Rows of `area_ledger`.
    change
        (region, tissue class) -> how many cells more; no cell outside all regions, of which the ledger knows more.
    """
    found = ledger.copy()
    for (region, tissue_class), more in change.items():
        rows = (found["category"] == tissue_class) & (found["region"] == region)
        rows |= found["category"].isin(["scanned", "tissue", *(["analysed"] if tissue_class in ANALYSED else [])])
        found.loc[rows, "cells"] += more
    return found


LedgerRow = tuple[str, str, float, int, float]  # category, region, area_um2, cells, glass_percent


def _filled(polygons: shapely.Geometry) -> shapely.Geometry:
    """Return polygons without their holes."""
    parts = [part for part in shapely.get_parts(polygons) if part.geom_type == "Polygon"]
    return shapely.union_all([Polygon(part.exterior) for part in parts])


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
    if not abs(area - whole[2]) <= AREA_TOLERANCE * scale or cells != whole[3]:  # NaN does not sum either
        raise LedgerError(
            f"the area ledger does not sum: {equation}; found {whole[2] / 1e6:.9g} mm² with {whole[3]} cells "
            f"against {area / 1e6:.9g} mm² with {cells} cells",
            place=slide,
            fix="Its numbers cannot be trusted and are not written. Please report this with the slide's annotations.",
        )


def check_ledger(ledger: pd.DataFrame, regions: pd.DataFrame) -> None:
    """Compare the study's regions.csv with its area_ledger.csv, slide by slide.

    Parameters
    ----------
    ledger
        Rows of `area_ledger`, of every slide that has a picture.
    regions
        Rows of regions.csv; slides that the ledger does not have are passed over.

    Raises
    ------
    LedgerError
        When a slide's ledger does not sum as read back, or the regions' areas and cells of any population are not the
        analysed ones.
    """
    if not len(ledger):  # every slide came as a table of cells
        return
    for slide, mine in ledger.groupby("slide", sort=False):
        one = {name: _whole_row(mine, name) for name in ("scanned", "glass", "tissue", "unannotated", "analysed")}
        parts = [_as_row(row) for row in mine[mine["category"].isin(TISSUE_CLASSES)].itertuples()]
        scale = one["scanned"][2]
        _must_sum(str(slide), "scanned = glass + tissue", one["scanned"], [one["glass"], one["tissue"]], scale)
        _must_sum(str(slide), "tissue = regions + unannotated", one["tissue"], [*parts, one["unannotated"]], scale)
        counted = [row for row in parts if row[0] in ANALYSED]
        _must_sum(str(slide), "analysed = tumour + stroma + other", one["analysed"], counted, scale)
        here = regions[regions["slide"] == slide] if len(regions) else regions
        for population, rows in here.groupby("population", sort=False) if len(here) else ():
            told = [_as_row(row) for row in rows.assign(category="", glass_percent=math.nan).itertuples()]
            _must_sum(str(slide), f"analysed = regions.csv of {population}", one["analysed"], told, scale)


def _whole_row(ledger: pd.DataFrame, category: str) -> LedgerRow:
    found = [_as_row(row) for row in ledger[ledger["category"] == category].itertuples()]
    return found[0] if found else (category, "", math.nan, 0, math.nan)


def _as_row(row: tuple) -> LedgerRow:
    return row.category, row.region, row.area_mm2 * 1e6, int(row.cells), row.glass_percent


def ledger_warnings(ledger: pd.DataFrame) -> list[str]:
    """Return a sentence for each region of a ledger of which more than 10 % is glass."""
    regions = ledger[ledger["category"].isin(TISSUE_CLASSES) & (ledger["glass_percent"] > GLASS_WARNING_PERCENT)]
    return [
        f'{row.slide}: region "{row.region}" ({row.category}): {row.glass_percent:.0f} % of its area shows no tissue'
        for row in regions.itertuples()
    ]
