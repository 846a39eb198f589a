"""A region, and the order in which regions claim cells and area."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.annotations.shapes import polygons_of
from mihc.errors import AnnotationError

ANALYSED = ("tumour", "stroma", "other")
TISSUE_CLASSES = (*ANALYSED, "excluded")
PRECEDENCE = ("excluded", "tumour", "stroma", "other")
OUTSIDE = "outside"


@dataclass(frozen=True)
class Region:
    """The union of a slide's outlines of one name and one class."""

    name: str  # an unnamed one has its class as name; of an excluded one it is the reason
    tissue_class: str  # "tumour" | "stroma" | "other" | "excluded" (from a file: as there, until map_classes)
    polygon_um: Polygon | MultiPolygon  # x right, y down, 0 at the top-left corner of the slide's first pixel

    @property
    def area_mm2(self) -> float:
        """Area in mm², from the geometry."""
        return self.polygon_um.area / 1e6


def united(regions: Sequence[Region]) -> list[Region]:
    """Return the regions with those of one name and class united, in the order of their first outline."""
    groups: dict[tuple[str, str], list[Region]] = {}
    for region in regions:
        groups.setdefault((region.name, region.tissue_class), []).append(region)
    return [
        group[0] if len(group) == 1 else replace(group[0], polygon_um=_union([r.polygon_um for r in group]))
        for group in groups.values()
    ]


def _union(polygons: Sequence[shapely.Geometry]) -> Polygon | MultiPolygon:
    return polygons_of(shapely.normalize(shapely.union_all(list(polygons)))) or Polygon()


def by_precedence(regions: Sequence[Region], precedence: Sequence[str] = PRECEDENCE) -> list[Region]:
    """Return the regions in the order in which they claim cells and area: by class, within a class as in the file."""
    for region in regions:
        if region.tissue_class not in precedence:
            raise AnnotationError(
                f'region "{region.name}" has class {region.tissue_class!r}, which precedence does not order',
                place="study.toml, [regions]",
                fix=f"precedence = {json.dumps(PRECEDENCE)}, and every annotation class mapped to one of them.",
            )
    return sorted(regions, key=lambda region: list(precedence).index(region.tissue_class))
