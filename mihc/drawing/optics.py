"""What a fluorescence scanner makes of a synthetic section: staining, blur, background, autofluorescence, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from mihc.drawing.nuclei import KINDS, Nuclei, streaming
from mihc.drawing.tissue import Tissue, enlarge, polygon_mask, smooth_noise

CHANNELS = ("DAPI", "PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67", "AF")


@dataclass(frozen=True)
class Optics:
    """The scanner. Intensities are counts, lengths µm."""

    blur_um: float = 0.42  # sigma of the point spread in focus
    soft_share: float = 0.18  # of the nuclei lie somewhat out of focus
    haze: float = 0.22  # share of the light that comes back wide, from above and below
    ghosts: float = 0.10  # brightness of nuclei far below the focus, relative to those in it
    shading: float = 0.16  # loss towards the corners of each camera field
    slope: float = 0.22  # change of the lamp across the slide
    counts_per_photon: float = 6.0
    read_noise: float = 9.0
    offset: float = 110.0
    dapi_counts: float = 2600.0  # of a nucleus of brightness 1
    dapi_spread: float = 0.38  # of the log of a nucleus' brightness


@dataclass(frozen=True)
class Stain:
    """How one antibody stains."""

    channel: str
    counts: float  # median of the positive cells
    spread: float  # of its log
    faint: float  # median of what negative cells keep
    background: float  # counts in tissue without cells
    where: str  # "membrane" | "nucleus"
    granules: float  # how strongly autofluorescent granules shine through


STAINS = (
    Stain("CD3", 2300.0, 0.35, 60.0, 190.0, "membrane", 0.30),
    Stain("CD8", 2000.0, 0.38, 50.0, 150.0, "membrane", 0.25),
    Stain("CD20", 2500.0, 0.35, 55.0, 170.0, "membrane", 0.22),
    Stain("CD21", 1900.0, 0.35, 45.0, 210.0, "membrane", 0.45),
    Stain("Ki67", 1900.0, 0.45, 70.0, 160.0, "nucleus", 0.20),
)


@dataclass(frozen=True)
class Scene:
    """What is the same in every channel of one slide."""

    tissue: np.ndarray  # (y, x) float32 0..1, soft
    tumour: np.ndarray  # (y, x) float32 0..1, soft
    fold: np.ndarray  # (y, x) float32 0..1, soft
    fibres: np.ndarray  # (y, x) float32, streaks along the stroma, mean 0, about unit spread
    granules: np.ndarray  # (y, x) float32 counts of autofluorescent granules and debris
    light: np.ndarray  # (y, x) float32 illumination, near 1
    mottle: np.ndarray  # (y, x) float32, unit spread, about 1 µm fine
    pixel_size_um: float


@dataclass(frozen=True)
class Bodies:
    """The cells around the nuclei, pixel by pixel."""

    cells: np.ndarray  # (y, x) uint32 labels of the whole cells
    nearest: np.ndarray  # (y, x) uint32 label of the nearest nucleus
    distance: np.ndarray  # (y, x) float32 µm to it, 0 inside


def draw_channels(
    nuclei: Nuclei, calls: pd.DataFrame, tissue: Tissue, optics: Optics, pixel_size_um: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """((c, y, x) uint16 counts in the order of CHANNELS, (y, x) uint32 labels of the whole cells)."""
    scene = _scene(tissue, nuclei.labels.shape, pixel_size_um, optics, rng)
    bodies = _bodies(nuclei, scene)
    light = {"DAPI": _dapi(nuclei, scene, optics, rng), "PanCK": _panck(nuclei, calls, bodies, scene, rng)}
    for stain in STAINS:
        light[stain.channel] = _stained(stain, nuclei, calls, bodies, scene, rng)
    light["AF"] = scene.tissue * (420 + 130 * scene.fibres) + 1.0 * scene.granules
    planes = [_scan(light[name], name, scene, optics, rng) for name in CHANNELS]
    return np.stack(planes), bodies.cells


def _scene(tissue: Tissue, shape: tuple, pixel_size_um: float, optics: Optics, rng: np.random.Generator) -> Scene:
    def soft(name: str, sigma_um: float, within_um: float = 0.0) -> np.ndarray:
        outline = tissue.polygon(name).buffer(-within_um) if within_um else tissue.polygon(name)
        mask = polygon_mask(outline, shape, pixel_size_um).astype(np.float32)
        return ndimage.gaussian_filter(mask, sigma_um / pixel_size_um)

    covered, tumour = 1 - soft("glass", 1.2), soft("tumour", 0.6)
    return Scene(
        tissue=covered,
        tumour=tumour,
        fold=soft("fold", 1.5, within_um=4.0)
        * np.clip(0.75 + 0.3 * smooth_noise(shape, 9 / pixel_size_um, rng), 0.3, 1.3),
        fibres=_fibres(tissue.field, tumour, rng),
        granules=_granules(shape, pixel_size_um, covered, rng),
        light=_illumination(shape, optics, rng),
        mottle=smooth_noise(shape, 0.9 / pixel_size_um, rng),
        pixel_size_um=pixel_size_um,
    )


def _fibres(field: np.ndarray, tumour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Collagen that streams around the nests: noise combed along the level lines of the nest field, unit spread."""
    from mihc.drawing import kernels

    shape = field.shape
    half = tuple(side // 2 for side in shape)
    angle = streaming(field)[: half[0] * 2 : 2, : half[1] * 2 : 2] + 0.35 * smooth_noise(half, 9, rng)
    fibres = kernels.comb(rng.standard_normal(half, np.float32), angle.astype(np.float32), 10)
    fibres = ndimage.gaussian_filter(fibres, 0.7)
    fibres = fibres / fibres.std() * (0.55 + 0.6 * np.abs(smooth_noise(half, 22, rng)))
    return enlarge(fibres.astype(np.float32), shape) * (1 - 0.75 * tumour)


def _granules(shape: tuple, pixel_size_um: float, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lipofuscin and red cells as small bright grains in the tissue, and a few specks of dirt anywhere."""
    area_mm2 = shape[0] * shape[1] * pixel_size_um**2 / 1e6
    fine, coarse = (np.zeros(shape, np.float32) for _ in range(2))
    n = rng.poisson(450 * area_mm2)
    at = tuple(rng.integers(0, side, n) for side in shape)
    np.add.at(fine, at, rng.lognormal(8.6, 0.7, n).astype(np.float32) * (tissue[at] > 0.5))
    n = rng.poisson(16 * area_mm2)
    at = tuple(rng.integers(0, side, n) for side in shape)
    np.add.at(coarse, at, rng.lognormal(11.0, 0.5, n).astype(np.float32))
    return ndimage.gaussian_filter(fine, 0.5 / pixel_size_um) + ndimage.gaussian_filter(coarse, 1.1 / pixel_size_um)


def _illumination(shape: tuple, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """Each camera field is darker at its corners; the lamp changes slowly over the slide."""
    field_px = 640
    rows, columns = (
        ((np.arange(side) + rng.integers(field_px)) % field_px / field_px - 0.5).astype(np.float32) for side in shape
    )
    shade = 1 - optics.shading * 2 * (rows[:, None] ** 2 + columns[None, :] ** 2)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.sin(angle) * np.linspace(-0.5, 0.5, shape[0])[:, None] + np.cos(angle) * np.linspace(-0.5, 0.5, shape[1])
    return (shade * (1 + optics.slope * ramp)).astype(np.float32)


def _bodies(nuclei: Nuclei, scene: Scene) -> Bodies:
    away, (rows, columns) = ndimage.distance_transform_edt(nuclei.labels == 0, return_indices=True)
    nearest = nuclei.labels[rows, columns]
    distance = (away * scene.pixel_size_um).astype(np.float32)
    reach = np.array([0.0, *(KINDS[kind].cytoplasm_um for kind in nuclei.kinds)], np.float32)
    in_cell = (distance <= reach[nearest]) & (scene.tissue > 0.5)
    return Bodies(np.where(in_cell, nearest, 0).astype(np.uint32), nearest, distance)


def _dapi(nuclei: Nuclei, scene: Scene, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    from mihc.drawing import kernels

    kinds = [KINDS[kind] for kind in nuclei.kinds]
    amplitude = np.array([kind.brightness for kind in kinds]) * rng.lognormal(0, optics.dapi_spread, len(kinds))
    amplitude = np.maximum(amplitude, 0.38) * optics.dapi_counts
    soft = rng.random(len(kinds))
    layer = np.where((soft < 0.3 * optics.soft_share) | nuclei.in_fold, 2, np.where(soft < optics.soft_share, 1, 0))
    layers = np.zeros((3, *nuclei.labels.shape), np.float32)
    rim, grain = (np.array([getattr(kind, name) for kind in kinds]) for name in ("rim", "grain"))
    kernels.paint(layers, nuclei.centres, nuclei.shapes, amplitude, layer, rim, grain, scene.mottle)
    sharp = optics.blur_um / scene.pixel_size_um
    light = sum(ndimage.gaussian_filter(plane, sharp * widen) for plane, widen in zip(layers[1:], (1.5, 2.2)))
    light = light + layers[0]  # the sharp layer is blurred with everything else
    wide = _wide(light, 7 / scene.pixel_size_um)
    background = scene.tissue * (240 + 70 * scene.fibres.clip(-2, 3))
    return (
        (1 - optics.haze) * light
        + optics.haze * wide
        + _ghosts(scene, optics, rng)
        + background
        + 0.12 * scene.granules
    )


def _ghosts(scene: Scene, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """Nuclei far out of focus: broad faint spots that nobody would outline."""
    shape = scene.tissue.shape
    n = int(900 * shape[0] * shape[1] * scene.pixel_size_um**2 / 1e6)
    spots, at = np.zeros(shape, np.float32), tuple(rng.integers(0, side, n) for side in shape)
    np.add.at(spots, at, (scene.tissue[at] * rng.uniform(0.5, 1.5, n)).astype(np.float32))
    sigma = 4.0 / scene.pixel_size_um
    return _wide(spots, sigma) * (2 * np.pi * sigma**2 * optics.ghosts * optics.dapi_counts)


def _wide(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A broad Gaussian blur, computed on every fourth pixel's mean."""
    height, width = (side // 4 * 4 for side in plane.shape)
    coarse = plane[:height, :width].reshape(height // 4, 4, width // 4, 4).mean(axis=(1, 3))
    return enlarge(ndimage.gaussian_filter(coarse, sigma / 4, mode="nearest"), plane.shape)


def _panck(nuclei: Nuclei, calls: pd.DataFrame, bodies: Bodies, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Cytokeratin fills the cytoplasm of the tumour cells and is brightest where two of them meet."""
    n = len(nuclei.kinds)
    distance = bodies.distance
    nearest = np.where(distance > 0, _wavy(bodies.nearest, scene, rng), bodies.nearest)  # no border crosses a nucleus
    amount = np.concatenate([[0.0], np.where(calls["PanCK_positive"], 2100 * rng.lognormal(0, 0.3, n), 0.0)])
    owner = amount.astype(np.float32)[nearest]
    other = (owner == 0) & (distance < 3.4)  # the cells between: lymphocytes keep their own body free
    owner = np.where((owner == 0) & ~other, 1500.0 if calls["PanCK_positive"].any() else 0.0, owner)
    border = np.zeros(nearest.shape, np.float32)
    border[:, 1:] = nearest[:, 1:] != nearest[:, :-1]
    border[1:] = np.maximum(border[1:], nearest[1:] != nearest[:-1])
    border = ndimage.gaussian_filter(border, 0.55 / scene.pixel_size_um) * (distance > 0)
    inside = np.where(nuclei.labels > 0, 0.16, 0.62) * np.clip(1 + 0.22 * scene.mottle, 0.2, None)
    stained = scene.tumour * owner * (inside + 0.75 * border)
    return stained + scene.tissue * (150 + 45 * scene.fibres) + 0.25 * scene.granules


def _wavy(nearest: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The territories of the nuclei with borders that wander by about a µm instead of running straight."""
    rows, columns = (
        np.arange(side, dtype=np.float32)[(slice(None), None) if axis == 0 else (None, slice(None))]
        + smooth_noise(nearest.shape, 2.4 / scene.pixel_size_um, rng) * (1.0 / scene.pixel_size_um)
        for axis, side in enumerate(nearest.shape)
    )
    height, width = nearest.shape
    return nearest[
        np.rint(rows).astype(np.int32).clip(0, height - 1), np.rint(columns).astype(np.int32).clip(0, width - 1)
    ]


def _stained(
    stain: Stain, nuclei: Nuclei, calls: pd.DataFrame, bodies: Bodies, scene: Scene, rng: np.random.Generator
) -> np.ndarray:
    positive = calls[f"{stain.channel}_positive"].to_numpy()
    strong = stain.counts * rng.lognormal(0, stain.spread, len(positive))
    amount = np.where(positive, strong, stain.faint * rng.lognormal(0, 0.5, len(positive)))
    amount = np.concatenate([[0.0], amount]).astype(np.float32)
    patchy = np.clip(1 + 0.35 * scene.mottle[::-1], 0.15, None)
    if stain.where == "nucleus":
        body = amount[nuclei.labels] * np.clip(1 + 0.3 * scene.mottle[:, ::-1], 0.2, None)
    else:
        ring = np.where(bodies.distance > 0, np.exp(-(((bodies.distance - 0.7) / 0.8) ** 2)), 0.38)
        body = amount[bodies.cells] * ring * patchy
    loose = scene.tissue * stain.background * (1 + 0.4 * scene.tumour) * (1 + 0.25 * scene.fibres + 0.15 * scene.mottle)
    return body + loose + stain.granules * scene.granules


def _scan(light: np.ndarray, channel: str, scene: Scene, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """Blur, uneven light, the fold's doubled thickness, camera noise: counts."""
    light = light * (1 + 0.9 * scene.fold) + scene.fold * (900 if channel != "PanCK" else 600)
    blurred = ndimage.gaussian_filter(light.astype(np.float32), optics.blur_um / scene.pixel_size_um)
    glass = 35 + 10 * rng.random()
    expected = (blurred + glass) * scene.light
    spread = np.sqrt(np.maximum(expected, 0) * optics.counts_per_photon + optics.read_noise**2)
    counts = expected + spread * rng.standard_normal(expected.shape, np.float32) + optics.offset
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
