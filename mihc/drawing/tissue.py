"""Where things lie on a synthetic slide: tumour nests in stroma, lymphoid aggregates, a fold, necrosis, glass.

Every region is a polygon whose corners are whole pixels, so that each annotation format can carry it exactly. The
arithmetic here is deliberately not that of `mihc.regions`: truth must not come from the code that it judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

MARGIN_UM = 60.0  # the tissue goes on beyond the slide's edges
STEP_UM = 4.0  # grid on which the outlines are drawn
CLASSES = {"fold": "excluded", "necrosis": "excluded", "tumour": "tumour", "stroma": "stroma", "glass": "outside"}


@dataclass(frozen=True)
class Layout:
    """What kind of tissue to draw."""

    tumour_fraction: float = 0.42  # of the tissue
    nest_um: float = 75.0  # size of the tumour nests
    aggregates: int = 1  # lymphoid aggregates in the stroma
    aggregate_radius_um: float = 62.0
    glass_fraction: float = 0.14  # blank glass beside the tissue
    fold: bool = False
    necrosis: bool = False


@dataclass(frozen=True)
class PlantedRegion:
    """A region as it was drawn."""

    name: str
    tissue_class: str  # "tumour" | "stroma" | "excluded" | "outside" (glass)
    polygon_um: Polygon | MultiPolygon  # x right, y down, 0 at the top-left corner of the first pixel

    @property
    def area_mm2(self) -> float:
        """Area of the polygon in mm²."""
        return self.polygon_um.area / 1e6


@dataclass(frozen=True)
class Tissue:
    """The plan of one slide."""

    regions: tuple[PlantedRegion, ...]  # disjoint; together the whole slide
    aggregates: tuple[tuple[float, float, float], ...]  # y, x, radius in µm; all of it stroma
    field: np.ndarray  # (y, x) float32, the smooth field whose level lines are the nests' outlines
    level: float  # the field is above this inside tumour

    def polygon(self, name: str) -> Polygon | MultiPolygon:
        """The union of the regions of one name, in µm; empty when there is none."""
        return shapely.union_all([region.polygon_um for region in self.regions if region.name == name])


def plan_tissue(layout: Layout, size_px: tuple[int, int], pixel_size_um: float, rng: np.random.Generator) -> Tissue:
    """Lay out a slide of `size_px` (y, x) pixels."""
    height, width = (side * pixel_size_um for side in size_px)
    slide, tissue = box(0, 0, width, height), _tissue_outline(layout, width, height, rng)
    field, level = _nest_field(layout, width, height, rng)
    nests = _above(field, level).intersection(tissue)
    outlines = {**_excluded(layout, tissue.intersection(slide), nests.intersection(slide), rng), "tumour": nests}
    regions = _partition({**outlines, "stroma": tissue, "glass": slide}, slide, pixel_size_um)
    stroma = shapely.union_all([region.polygon_um for region in regions if region.name == "stroma"])
    return Tissue(regions, _aggregates(layout, stroma, rng), _at_pixels(field, size_px, pixel_size_um), level)


def polygon_mask(polygon: Polygon | MultiPolygon, size_px: tuple[int, int], pixel_size_um: float) -> np.ndarray:
    """(y, x) bool, True where the pixel's centre is inside the polygon (µm), holes left out."""
    from mihc.drawing import kernels

    mask = np.zeros(size_px, bool)
    edges = polygon_edges(polygon) / pixel_size_um
    if edges.size:
        kernels.fill_edges(mask, *(np.ascontiguousarray(column) for column in edges.T))
    return mask


def polygon_edges(polygon: Polygon | MultiPolygon) -> np.ndarray:
    """(n, 4) edges x0, y0, x1, y1 of all rings, in the polygon's unit; (0, 4) for an empty one."""
    rings = [
        np.asarray(ring.coords) for part in shapely.get_parts(polygon) for ring in (part.exterior, *part.interiors)
    ]
    pieces = [np.hstack([ring[:-1], ring[1:]]) for ring in rings]
    return np.concatenate(pieces) if pieces else np.empty((0, 4))


def inside(x_um: np.ndarray, y_um: np.ndarray, polygon: Polygon | MultiPolygon) -> np.ndarray:
    """True where a point is in the polygon: even-odd, half-open, so that of two neighbours exactly one holds it."""
    crossed = np.zeros(len(x_um), np.int64)
    for x0, y0, x1, y1 in polygon_edges(polygon):
        passes = (y0 <= y_um) != (y1 <= y_um)
        if y0 != y1:
            crossed += passes & (x_um < x0 + (y_um - y0) * (x1 - x0) / (y1 - y0))
    return crossed % 2 == 1


def smooth_noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """(y, x) float32 field of zero mean and unit spread, smooth over `sigma` pixels."""
    shrink = max(1, int(sigma / 1.6))
    coarse = [int(np.ceil(side / shrink)) + 8 for side in shape]
    field = ndimage.gaussian_filter(rng.standard_normal(coarse, np.float32), sigma / shrink, truncate=3)
    field = (field - field.mean()) / (field.std() + 1e-9)
    if shrink == 1:
        return field[4 : 4 + shape[0], 4 : 4 + shape[1]]
    return enlarge(field[3:-3, 3:-3], shape)


def enlarge(coarse: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`coarse` stretched over `shape` by straight lines between its points, float32."""
    for axis, side in enumerate(shape):
        at = np.linspace(0, coarse.shape[axis] - 1, side)
        low = np.minimum(at.astype(np.int64), coarse.shape[axis] - 2)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        coarse = coarse.take(low, axis) * (1 - share) + coarse.take(low + 1, axis) * share
    return coarse.astype(np.float32, copy=False)


def _tissue_outline(layout: Layout, width: float, height: float, rng: np.random.Generator) -> Polygon:
    """The tissue's outline: everything but a wavy strip along one side of the slide."""
    if layout.glass_fraction <= 0:
        return box(-1, -1, width + 1, height + 1)
    side = int(rng.integers(4))
    along, across = (height, width) if side < 2 else (width, height)
    t = np.linspace(-1, along + 1, max(8, int(along / 6)))
    wave = ndimage.gaussian_filter1d(rng.standard_normal(t.size), 5, mode="nearest")
    wave = wave / (np.abs(wave).max() + 1e-9)
    edge = across * layout.glass_fraction * (1 + 0.4 * wave)
    edge, far = (edge, across + 1) if side % 2 == 0 else (across - edge, -1)
    outline = np.concatenate([np.stack([edge, t], 1), [[far, along + 1], [far, -1]]])
    return Polygon(outline if side < 2 else outline[:, ::-1]).buffer(0)


def _nest_field(layout: Layout, width: float, height: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    shape = tuple(int(np.ceil((side + 2 * MARGIN_UM) / STEP_UM)) + 1 for side in (height, width))
    sigma = layout.nest_um / STEP_UM / 2
    field = smooth_noise(shape, sigma, rng) + 0.25 * smooth_noise(shape, sigma / 3.5, rng)
    inner = int(MARGIN_UM / STEP_UM)
    return field, float(np.quantile(field[inner:-inner, inner:-inner], 1 - layout.tumour_fraction))


def _above(field: np.ndarray, level: float) -> MultiPolygon:
    """The parts of the grid where the field is above the level, without crumbs and pinholes, in µm."""
    import contourpy

    generator = contourpy.contour_generator(z=field.astype(np.float64), fill_type=contourpy.FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(level, 1e9)):
        rings = [points[a:b] * STEP_UM - MARGIN_UM for a, b in pairwise(offsets)]
        holes = [ring for ring in rings[1:] if Polygon(ring).area > 1500]
        polygons.append(Polygon(rings[0], holes).buffer(0))
    return shapely.union_all([polygon for polygon in polygons if polygon.area > 2500])


def _partition(
    outlines: dict[str, Polygon | MultiPolygon], slide: Polygon, pixel_size_um: float
) -> tuple[PlantedRegion, ...]:
    """Cut the slide into disjoint regions with corners on pixels' corners; the first outline over a place has it.

    All outlines become one net of lines, and each mesh of it belongs to one region: neighbours share their borders.
    """
    simple = [outline.simplify(pixel_size_um / 2) for outline in outlines.values()]
    snapped = [_areas_only(shapely.intersection(slide, outline, grid_size=pixel_size_um)) for outline in simple]
    net = shapely.union_all([polygon.boundary for polygon in snapped], grid_size=pixel_size_um)
    meshes = np.array(shapely.get_parts(shapely.polygonize([net])))
    middle = shapely.point_on_surface(meshes)
    owner = np.argmax([shapely.covers(polygon, middle) for polygon in snapped], axis=0)
    regions = []
    for i, name in enumerate(outlines):
        if (owner == i).any():
            polygon = shapely.normalize(shapely.coverage_union_all(meshes[owner == i]))
            regions.append(PlantedRegion(name, CLASSES[name], polygon))
    return tuple(regions)


def _areas_only(geometry: shapely.Geometry) -> MultiPolygon:
    """Without the points and lines that an overlay leaves where outlines only touch."""
    return MultiPolygon([part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon" and part.area > 0])


def _excluded(
    layout: Layout, tissue: Polygon | MultiPolygon, nests: Polygon | MultiPolygon, rng: np.random.Generator
) -> dict[str, Polygon | MultiPolygon]:
    """What must not be analysed, by name."""
    found = {}
    if layout.necrosis and nests.area > 0:
        largest = max(shapely.get_parts(nests), key=lambda part: part.area)
        circle = shapely.maximum_inscribed_circle(largest)
        necrosis = Point(circle.coords[0]).buffer(0.6 * circle.length)
        found["necrosis"] = necrosis.intersection(largest.buffer(-8))
    if layout.fold:
        found["fold"] = _fold(tissue, rng).intersection(tissue)
    return found


def _fold(tissue: Polygon | MultiPolygon, rng: np.random.Generator) -> Polygon:
    x0, y0, x1, y1 = tissue.bounds
    start, end = rng.uniform(0.2, 0.8, 2)
    t = np.linspace(-0.1, 1.1, 30)
    sway = 0.06 * np.sin(2 * np.pi * (t * rng.uniform(0.6, 1.2) + rng.random()))
    across, along = start + (end - start) * t + sway, t
    if rng.random() < 0.5:
        across, along = along, across
    line = LineString(np.stack([x0 + across * (x1 - x0), y0 + along * (y1 - y0)], 1))
    return line.buffer(rng.uniform(11, 16))


def _aggregates(layout: Layout, stroma: Polygon | MultiPolygon, rng: np.random.Generator) -> tuple:
    """Up to `layout.aggregates` round places in the widest parts of the stroma, each clear of the others."""
    found, free = [], stroma
    for _ in range(layout.aggregates):
        widest = max(shapely.get_parts(free), key=lambda part: shapely.maximum_inscribed_circle(part).length)
        circle = shapely.maximum_inscribed_circle(widest)
        (x, y), radius = circle.coords[0], min(layout.aggregate_radius_um * rng.uniform(0.85, 1.1), circle.length)
        if radius < 25:
            break
        found.append((y, x, radius))
        free = free.difference(Point(x, y).buffer(radius + 15))
    return tuple(found)


def _at_pixels(field: np.ndarray, size_px: tuple[int, int], pixel_size_um: float) -> np.ndarray:
    rows, columns = (
        (np.arange(side, dtype=np.float32) + 0.5) * pixel_size_um / STEP_UM + MARGIN_UM / STEP_UM for side in size_px
    )
    for axis, at in enumerate((rows, columns)):
        low = np.minimum(at.astype(np.int64), field.shape[axis] - 2)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        field = field.take(low, axis) * (1 - share) + field.take(low + 1, axis) * share
    return field.astype(np.float32)
