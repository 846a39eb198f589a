"""Which nuclei lie where on a synthetic slide, how they look, and which markers their cells carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mihc.drawing.tissue import Tissue, polygon_mask, smooth_noise

MEMBRANE_UM = 3.5  # a nest holds its cells whole: no centre of a nucleus lies nearer to its outline
NEST_RIM_UM = 7.0  # tumour cells line the nests; lymphocytes in them lie further in
TRIES = 60  # candidate places per nucleus
MARKERS = ("PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67")


@dataclass(frozen=True)
class Densities:
    """What to plant, in cells per mm² of the region named."""

    cells_tumour: float = 5000.0  # all cells; those that are nothing else are tumour cells
    cells_stroma: float = 2900.0  # outside aggregates; the rest are fibroblasts and macrophages
    cells_aggregate: float = 11000.0  # nearly all B cells; an expert counts 10,900 per mm² in CODEX lymphoid tissue
    b_tumour: float = 220.0  # CD20+
    b_stroma: float = 150.0  # outside aggregates
    t_tumour: float = 350.0  # CD3+
    t_stroma: float = 650.0  # aggregates included
    cd8_share: float = 0.45  # of the T cells
    ki67_tumour: float = 800.0  # cells of any type
    ki67_stroma: float = 260.0  # cells of any type, aggregates included
    ki67_b_share: float = 0.2  # of the B cells, as far as they are not most of those that divide


@dataclass(frozen=True)
class CellKind:
    """How the nuclei of one type of cell look."""

    diameter_um: float  # of the circle of equal area
    diameter_sd: float
    aspect: tuple[float, float]  # long over short axis
    waviness: float  # of the outline
    brightness: float  # median, relative
    grain: float  # chromatin texture
    rim: float  # 0 evenly stained .. 1 only the rim
    cytoplasm_um: float  # how far the cell reaches beyond its nucleus
    max_overlap: float  # share of the nucleus that may lie under another


KINDS = {
    "tumour": CellKind(9.2, 0.95, (1.08, 1.5), 0.035, 0.62, 0.17, 0.25, 6.0, 0.02),
    "B": CellKind(6.3, 0.45, (1.03, 1.28), 0.030, 1.35, 0.12, 0.05, 1.8, 0.015),
    "T": CellKind(6.2, 0.50, (1.03, 1.35), 0.035, 1.35, 0.12, 0.05, 1.8, 0.015),
    "fibroblast": CellKind(6.9, 0.70, (2.0, 3.2), 0.025, 0.75, 0.12, 0.08, 2.0, 0.015),
    "macrophage": CellKind(7.6, 0.70, (1.1, 1.7), 0.055, 0.62, 0.15, 0.15, 3.0, 0.02),
}


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of one slide, in the order of their labels 1..n."""

    labels: np.ndarray  # (y, x) uint32
    centres: np.ndarray  # (n, 2) y, x in pixels, of the outline
    shapes: np.ndarray  # (n, 11) as kernels.place takes them
    kinds: np.ndarray  # (n,) names of KINDS
    in_follicle: np.ndarray  # (n,) bool, in the core of a lymphoid aggregate
    in_fold: np.ndarray  # (n,) bool


@dataclass(frozen=True)
class _Group:
    kind: str
    number: int
    weight: np.ndarray  # (y, x) where its members may lie, and how gladly
    max_overlap: float | None = None


def place_nuclei(
    tissue: Tissue, densities: Densities, size_px: tuple, pixel_size_um: float, rng: np.random.Generator
) -> Nuclei:
    """Put the planted numbers of nuclei into the planned tissue."""
    from mihc.drawing import kernels

    masks = _masks(tissue, size_px, pixel_size_um, rng)
    labels = np.zeros(size_px, np.uint32)
    along = streaming(tissue.field)
    centres, shapes, kinds = [np.empty((0, 2))], [np.empty((0, 11))], []
    for group in _groups(masks, densities, size_px, pixel_size_um, rng):
        ys, xs = _candidates(group, rng)
        outline = _shapes(KINDS[group.kind], len(ys), pixel_size_um, rng)
        if group.kind == "fibroblast" and len(ys):
            at = along[ys[:, 0].astype(int), xs[:, 0].astype(int)]
            outline[:, 2] = at + rng.normal(0, 0.25, len(ys))
        overlap = KINDS[group.kind].max_overlap if group.max_overlap is None else group.max_overlap
        done = kernels.place(labels, ys, xs, outline, np.full(len(ys), overlap), sum(map(len, centres)) + 1)
        placed = done[:, 0] >= 0
        centres.append(done[placed])
        shapes.append(outline[placed])
        kinds += [group.kind] * int(placed.sum())
    centres, shapes = np.concatenate(centres), np.concatenate(shapes)
    at = tuple(np.minimum(centres.astype(int), np.array(size_px) - 1).T)
    return Nuclei(labels, centres, shapes, np.array(kinds, dtype=object), masks["follicle"][at], masks["fold"][at])


def call_markers(
    nuclei: Nuclei, tissue_class: np.ndarray, densities: Densities, areas_mm2: dict, rng: np.random.Generator
) -> pd.DataFrame:
    """Which marker each cell carries: columns <marker>_positive, in label order.

    Ki67 is shared out so that its number in tumour and in stroma is the planted one, whatever the other cells are.
    """
    kinds = nuclei.kinds
    is_t, is_b = kinds == "T", kinds == "B"
    calls = pd.DataFrame({"PanCK": kinds == "tumour", "CD3": is_t, "CD8": np.zeros(len(kinds), bool), "CD20": is_b})
    calls["CD21"] = is_b & nuclei.in_follicle & (rng.random(len(kinds)) < 0.85)
    ki67 = np.zeros(len(kinds), bool)
    for place in ("tumour", "stroma", "excluded"):
        here = tissue_class == place
        calls.loc[_pick(here & is_t, densities.cd8_share * (here & is_t).sum(), rng), "CD8"] = True
        wanted = getattr(densities, f"ki67_{place}", 250.0) * areas_mm2.get(place, 0.0)
        dividing_b = _pick(here & is_b, min(densities.ki67_b_share * (here & is_b).sum(), 0.5 * wanted), rng)
        others = _pick(here & ~is_b, wanted - len(dividing_b), rng)
        ki67[dividing_b] = ki67[others] = True
    calls["Ki67"] = ki67
    return calls[list(MARKERS)].add_suffix("_positive")


def _pick(among: np.ndarray, number: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of `number` of those that are True, or of all when there are fewer."""
    at = np.flatnonzero(among)
    return rng.permutation(at)[: max(0, min(len(at), round(number)))]


def _masks(tissue: Tissue, size_px: tuple, pixel_size_um: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    names = ("tumour", "stroma", "fold", "necrosis")
    masks = {name: polygon_mask(tissue.polygon(name), size_px, pixel_size_um) for name in names}
    for name, rim in (("epithelium", MEMBRANE_UM), ("nest", NEST_RIM_UM)):
        inner = tissue.polygon("tumour").buffer(-rim)
        masks[name] = polygon_mask(inner, size_px, pixel_size_um) if inner.area > 0 else masks["tumour"]
    masks["aggregate"], masks["follicle"] = np.zeros(size_px, bool), np.zeros(size_px, bool)
    rows, columns = (np.arange(side, dtype=np.float32) + 0.5 for side in size_px)
    ragged = smooth_noise(size_px, 7 / pixel_size_um, rng)
    for y, x, radius in tissue.aggregates:
        away = np.hypot((rows * pixel_size_um - y)[:, None], (columns * pixel_size_um - x)[None, :])
        away = away + 5 * ragged  # µm
        masks["aggregate"] |= (away < radius) & masks["stroma"]
        masks["follicle"] |= away < 0.72 * radius
    return masks


def _groups(
    masks: dict, densities: Densities, size_px: tuple, pixel_size_um: float, rng: np.random.Generator
) -> list[_Group]:
    """The groups in the order in which they are placed: small cells that must be there first, the rest around them."""
    mm2 = pixel_size_um**2 / 1e6
    area = {name: mask.sum() * mm2 for name, mask in masks.items()}
    clumps = np.exp(0.6 * smooth_noise(size_px, 25 / pixel_size_um, rng))
    free_stroma = masks["stroma"] & ~masks["aggregate"]
    free_area = free_stroma.sum() * mm2
    in_aggregate = round(densities.cells_aggregate * area["aggregate"])
    t_aggregate = round(0.12 * in_aggregate)
    t_stroma = max(0, round(densities.t_stroma * area["stroma"]) - t_aggregate)
    b_stroma = round(densities.b_stroma * free_area)
    b_tumour, t_tumour = round(densities.b_tumour * area["tumour"]), round(densities.t_tumour * area["tumour"])
    rest_stroma = max(0, round(densities.cells_stroma * free_area) - t_stroma - b_stroma)
    rest_tumour = max(0, round(densities.cells_tumour * area["tumour"]) - b_tumour - t_tumour)
    groups = [
        _Group("T", t_aggregate, masks["aggregate"]),
        _Group("B", in_aggregate - t_aggregate, masks["aggregate"]),
        _Group("T", t_tumour, masks["nest"] * clumps),
        _Group("B", b_tumour, masks["nest"] * clumps[::-1, ::-1]),
        _Group("tumour", rest_tumour, masks["epithelium"]),
        _Group("T", t_stroma, free_stroma * clumps),
        _Group("B", b_stroma, free_stroma * clumps[::-1, ::-1]),
        _Group("macrophage", round(0.35 * rest_stroma), free_stroma),
        _Group("fibroblast", rest_stroma - round(0.35 * rest_stroma), free_stroma),
        _Group("macrophage", round(500 * area["necrosis"]), masks["necrosis"]),
    ]
    for kind, number in (("fibroblast", 2500), ("T", 1500), ("macrophage", 1500)):
        groups.append(_Group(kind, round(number * area["fold"]), masks["fold"], 0.35))
    return [group for group in groups if group.number > 0]


def _candidates(group: _Group, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n, TRIES) candidate centres y and x in pixels, drawn by the group's weight."""
    cumulative = np.cumsum(group.weight.ravel(), dtype=np.float64)
    drawn = rng.random((group.number, TRIES)) * cumulative[-1]
    at = np.minimum(np.searchsorted(cumulative, drawn, side="right"), cumulative.size - 1)
    ys, xs = np.divmod(at, group.weight.shape[1])
    return ys + rng.random(ys.shape), xs + rng.random(xs.shape)


def _shapes(kind: CellKind, n: int, pixel_size_um: float, rng: np.random.Generator) -> np.ndarray:
    """(n, 11) outlines: half axes in pixels, angle, four waves and their phases."""
    diameter = np.clip(
        rng.normal(kind.diameter_um, kind.diameter_sd, n), 0.75 * kind.diameter_um, 1.3 * kind.diameter_um
    )
    aspect = rng.uniform(*kind.aspect, n)
    long, short = diameter / 2 * np.sqrt(aspect), diameter / 2 / np.sqrt(aspect)
    waves = rng.normal(0, kind.waviness, (n, 4)) / np.array([1.0, 1.0, 1.4, 2.0])
    columns = [long / pixel_size_um, short / pixel_size_um, rng.uniform(0, np.pi, n)]
    return np.concatenate([np.stack(columns, 1), waves, rng.uniform(0, 2 * np.pi, (n, 4))], axis=1)


def streaming(field: np.ndarray) -> np.ndarray:
    """(y, x) angle along the level lines of the nest field: stroma streams around the nests."""
    dy, dx = np.gradient(field)
    return np.arctan2(dx, -dy)
