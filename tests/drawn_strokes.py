"""Strokes as a person would draw them on a drawn slide, and its pixels at 2 µm."""

from __future__ import annotations

import json

import numpy as np
import shapely
from scipy import ndimage

from mihc.areas.classifier import TissueClass
from mihc.areas.learning import StrokePixels
from mihc.areas.membership import paint
from mihc.areas.textures import at_pixels, slide_light, textures
from mihc.synthetic import DrawnSlide

PIXEL_UM = 2.0
CLASSES = {"tumour": "tumour", "stroma": "stroma", "glass": "outside"}


def overview(drawn: DrawnSlide) -> np.ndarray:
    """The slide at 2 µm per pixel: means of 4 x 4 pixels."""
    c, y, x = drawn.image.shape
    means = drawn.image.reshape(c, y // 4, 4, x // 4, 4).mean(axis=(2, 4), dtype=np.float64)
    return np.rint(means).astype(np.uint16)


def planted(drawn: DrawnSlide, *names: str) -> shapely.Geometry:
    return shapely.union_all([region.polygon_um for region in drawn.regions if region.name in names])


def overlap(a: shapely.Geometry, b: shapely.Geometry) -> float:
    return a.intersection(b).area / a.union(b).area


def patchy(pixels: np.ndarray, seed: int) -> np.ndarray:
    """The tumour marker lost in patches of some 25 µm."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal(pixels.shape[1:]), 12)
    share = np.clip((field - field.min()) / (field.max() - field.min()) * 5 - 2.25, 0.03, 1)
    dark = np.percentile(pixels[1], 0.5)
    lost = pixels.astype(np.float64)
    lost[1] = dark + (lost[1] - dark) * share
    return np.rint(lost).astype(np.uint16)


def strokes_on(drawn: DrawnSlide, each: int, seed: int) -> list[tuple[str, shapely.LineString]]:
    """Scribbles (class, µm) well within each class's areas, the longest of some tries."""
    random = np.random.default_rng(seed)
    drawn_so_far = []
    for name in CLASSES:
        area = planted(drawn, name).buffer(-6)
        for _ in range(each):
            tries = [_scribble(area, random) for _ in range(25)]
            line = max((one for one in tries if one is not None), key=lambda one: one.length)
            drawn_so_far.append((name, line))
            area = area.difference(line.buffer(15))
    return drawn_so_far


def _scribble(area: shapely.Geometry, random: np.random.Generator) -> shapely.LineString | None:
    x0, y0, x1, y1 = area.bounds
    at, heading = random.uniform((x0, y0), (x1, y1)), random.uniform(0, 2 * np.pi)
    points = []
    while len(points) < 25 and shapely.contains_xy(area, *at):
        points.append(at)
        heading += random.normal(0, 0.5)
        at = at + 6 * np.array([np.cos(heading), np.sin(heading)])
    return shapely.LineString(points) if len(points) > 2 else None


def stroke_pixels(pixels: np.ndarray, strokes: list, slide: str = "S1") -> list[StrokePixels]:
    """What the strokes cover, as training takes it."""
    octaves = textures(pixels, slide_light(pixels), PIXEL_UM)
    features = at_pixels(octaves, slice(0, pixels.shape[1]), slice(0, pixels.shape[2]))
    taught = []
    for name, line in strokes:
        mine = paint([line.buffer(3)], [1], pixels.shape[1:], (PIXEL_UM, PIXEL_UM)) > 0
        taught.append(StrokePixels(slide, TissueClass(name, CLASSES[name]), features[:, mine].T))
    return taught


def strokes_geojson(strokes: list, pixel_size_um: float) -> str:
    """The strokes as QuPath writes lines."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": (shapely.get_coordinates(line) / pixel_size_um).tolist()},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
        }
        for name, line in strokes
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})
