"""What goes wrong with a slide: bubbles, debris, a stripe out of focus, vignetted camera fields, on a drawn slide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry import MultiPolygon, Point, Polygon, box

from mihc.drawing.optics import Optics
from mihc.drawing.slide import DrawnSlide
from mihc.drawing.tissue import PlantedRegion, inside, polygon_mask, smooth_noise

FOREIGN = "debris"


@dataclass(frozen=True)
class Faults:
    """How many of each fault to add; all are off by default. Lengths in µm."""

    bubbles: int = 0  # air in the mounting medium: a bright rim around a dim, blurred disc
    bubble_radius_um: float = 90.0
    debris: int = 0  # dust that shines in every channel
    debris_radius_um: float = 22.0
    stripe_um: float = 0.0  # width of a stripe down the slide that is out of focus
    stripe_blur_um: float = 4.0  # standard deviation of its blur
    vignette: float = 0.0  # loss of light towards the corners of each camera field, as a share
    field_um: float = 320.0  # side of a camera field


def add_faults(
    drawn: DrawnSlide, faults: Faults, *, seed: int, optics: Optics | None = None
) -> tuple[DrawnSlide, dict[str, Polygon | MultiPolygon]]:
    """Add faults to a drawn slide.

    Returns the slide, its regions cut and its cells called "excluded" under bubbles and debris, and the outlines in µm
    by name: "bubble", "debris", "out of focus". The same seed gives the same bytes; without faults the slide is
    returned as it was.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 7]))
    optics = optics or Optics()
    shape, pixel = drawn.image.shape[1:], drawn.pixel_size_um
    placed = _places(drawn, faults, rng)
    image = drawn.image
    if faults.vignette:
        image = _vignetted(image, faults, pixel, optics)
    if "out of focus" in placed:
        mask = polygon_mask(placed["out of focus"], shape, pixel)
        image = _blurred(image, mask, faults.stripe_blur_um / pixel, np.ones(shape, np.float32), optics, rng)
    if "bubble" in placed:
        mask = polygon_mask(placed["bubble"], shape, pixel)
        image = _blurred(image, mask, 6.0 / pixel, _bubble_light(mask, pixel), optics, rng)
    if FOREIGN in placed:
        image = _with_debris(image, polygon_mask(placed[FOREIGN], shape, pixel), pixel, optics, rng)
    planted = {name: placed[name] for name in ("bubble", FOREIGN) if name in placed}
    return _replanted(replace(drawn, image=image), planted), placed


def _places(drawn: DrawnSlide, faults: Faults, rng: np.random.Generator) -> dict[str, Polygon | MultiPolygon]:
    """Outlines of the faults, on whole pixels: bubbles and debris on tissue, clear of each other and of the edges."""
    height, width = (side * drawn.pixel_size_um for side in drawn.image.shape[1:])
    tissue = shapely.union_all([r.polygon_um for r in drawn.regions if r.tissue_class in ("tumour", "stroma")])
    placed = {}
    if faults.stripe_um:
        x = rng.uniform(0.25, 0.55) * width
        placed["out of focus"] = box(x, 0, min(x + faults.stripe_um, width), height)
    taken = Polygon()
    for name, count, radius in (
        ("bubble", faults.bubbles, faults.bubble_radius_um),
        (FOREIGN, faults.debris, faults.debris_radius_um),
    ):
        outlines = []
        for _ in range(count):
            outline = _clear_place(tissue, taken, radius, name, rng)
            if outline is not None:
                outlines.append(outline)
                taken = shapely.union_all([taken, outline.buffer(60)])
        if outlines:
            placed[name] = shapely.set_precision(shapely.union_all(outlines), drawn.pixel_size_um)
    return placed


def _clear_place(
    tissue: shapely.Geometry, taken: shapely.Geometry, radius: float, name: str, rng: np.random.Generator
) -> Polygon | None:
    x0, y0, x1, y1 = tissue.bounds
    for _ in range(200):
        x, y = rng.uniform(x0 + radius + 20, x1 - radius - 20), rng.uniform(y0 + radius + 20, y1 - radius - 20)
        outline = Point(x, y).buffer(radius)
        if name == FOREIGN:
            outline = _ragged(x, y, radius, rng)
        if tissue.intersection(outline).area > 0.9 * outline.area and not outline.intersects(taken):
            return outline
    return None


def _ragged(x: float, y: float, radius: float, rng: np.random.Generator) -> Polygon:
    """A clump: a circle whose radius wanders."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wander = sum(rng.uniform(-0.15, 0.15) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 5))
    reach = radius * (1 + wander)
    return Polygon(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], 1)).buffer(0)


def _vignetted(image: np.ndarray, faults: Faults, pixel: float, optics: Optics) -> np.ndarray:
    rows, columns = (((np.arange(side) * pixel / faults.field_um) % 1 - 0.5) for side in image.shape[1:])
    light = 1 - faults.vignette * 2 * (rows[:, None] ** 2 + columns[None, :] ** 2)
    return np.stack([_counts((plane - optics.offset) * light + optics.offset) for plane in image.astype(np.float32)])


def _bubble_light(mask: np.ndarray, pixel: float) -> np.ndarray:
    """What a bubble makes of the light: dim inside, a bright rim of about 5 µm where it refracts."""
    within = ndimage.distance_transform_edt(mask) * pixel
    return (0.45 + 1.6 * np.exp(-(((within - 4) / 3) ** 2))).astype(np.float32)


def _blurred(
    image: np.ndarray, mask: np.ndarray, sigma: float, light: np.ndarray, optics: Optics, rng: np.random.Generator
) -> np.ndarray:
    """Blur and dim an image under a mask; the camera's noise comes after the blur, as it does in a camera."""
    planes = []
    for plane in image:
        smooth = ndimage.gaussian_filter(plane.astype(np.float32) - optics.offset, sigma) * light
        spread = np.sqrt(np.maximum(smooth, 0) * optics.counts_per_photon + optics.read_noise**2)
        noisy = smooth + spread * rng.standard_normal(smooth.shape, np.float32) + optics.offset
        planes.append(np.where(mask, _counts(noisy), plane))
    return np.stack(planes)


def _with_debris(
    image: np.ndarray, mask: np.ndarray, pixel: float, optics: Optics, rng: np.random.Generator
) -> np.ndarray:
    """Lay dust over the tissue: it shines in every channel, several times as bright as cells, unevenly."""
    body = ndimage.gaussian_filter(mask.astype(np.float32), 1.2 / pixel)
    body = body * np.clip(1 + 0.35 * smooth_noise(mask.shape, 4 / pixel, rng), 0.4, 1.8)
    planes = []
    for plane in image:
        light = body * rng.uniform(6_000, 14_000)
        noise = np.sqrt(light * optics.counts_per_photon) * rng.standard_normal(light.shape, np.float32)
        planes.append(_counts(plane + light + noise))
    return np.stack(planes)


def _counts(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


def _replanted(drawn: DrawnSlide, planted: dict[str, Polygon | MultiPolygon]) -> DrawnSlide:
    """The truth under the faults: regions cut, cells there in an excluded region."""
    if not planted:
        return drawn
    covered = shapely.union_all(list(planted.values()))
    left = [replace(r, polygon_um=shapely.difference(r.polygon_um, covered)) for r in drawn.regions]
    regions = [r for r in left if not r.polygon_um.is_empty]
    regions += [PlantedRegion(name, "excluded", polygon) for name, polygon in planted.items()]
    table = drawn.table.copy()
    x, y = table["x_um"].to_numpy(), table["y_um"].to_numpy()
    for name, polygon in planted.items():
        here = inside(x, y, polygon)
        table.loc[here, ["region", "tissue_class"]] = [name, "excluded"]
    return replace(drawn, regions=tuple(regions), table=table)
