"""The trained tissue classifier: from a slide's pixels to its regions, window by window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from mihc.areas.forest import Forest, forest_from_json
from mihc.areas.outlines import mask_to_polygons
from mihc.areas.region import OUTSIDE, TISSUE_CLASSES, Region
from mihc.areas.textures import ALIGN, KINDS, Light, at_pixels, halo_px, names_of, textures
from mihc.errors import InputError

GLASS = "glass"
SMOOTHED_UM = 3.0  # sigma by which probabilities are smoothed
SMALLEST_PIECE_UM2 = 1000.0  # smaller islands of a class become what surrounds them most
LARGEST_STRETCH = 1.5  # a slide's channel is taken for at most so much brighter or fainter than those of the strokes
STRIP = 64  # rows whose features are held at once
NOTHING = 255  # of a picture of classes: not looked at


@dataclass(frozen=True)
class TissueClass:
    """What the classifier can say of a pixel."""

    name: str  # of the regions it becomes: the tissue class, "glass", or the reason of what is excluded
    tissue_class: str  # "tumour" | "stroma" | "other" | "excluded", and "outside" for glass


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """A forest over textures, for slides of one panel."""

    panel: str
    channels: tuple[str, ...]
    classes: tuple[TissueClass, ...]
    scale: tuple[float, ...]  # of each channel, over the slides of the strokes
    forest: Forest
    method: str  # in words
    confusion: tuple[dict[str, Any], ...]  # rows of classifier.csv

    @property
    def finds_glass(self) -> bool:
        """Whether glass was among the strokes; else tissue is found as on any other slide."""
        return any(one.tissue_class == OUTSIDE for one in self.classes)

    def light_on(self, light: Light) -> Light:
        """Return a slide's light as the classifier takes it: not stretched beyond reason where a stain is absent."""
        scales = [
            min(max(own, usual / LARGEST_STRETCH), usual * LARGEST_STRETCH)
            for own, usual in zip(light.scale, self.scale, strict=True)
        ]
        return Light(light.dark, tuple(scales))


@dataclass(frozen=True)
class Frame:
    """Where a window of pixels lies: the part asked for, within what is read for it."""

    y0: int
    y1: int
    x0: int
    x1: int
    top: int  # of what is read, multiples of ALIGN
    bottom: int
    left: int
    right: int

    @property
    def asked(self) -> tuple[slice, slice]:
        """The part asked for, within what is read."""
        return (
            slice(self.y0 - self.top, self.y1 - self.top),
            slice(self.x0 - self.left, self.x1 - self.left),
        )

    @property
    def read(self) -> tuple[slice, slice]:
        """What is read, within the level."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @classmethod
    def around(cls, box: tuple[int, int, int, int], halo: int, shape: tuple[int, int]) -> Frame:
        """Return the frame of a box (y0, y1, x0, x1) of a level of `shape`; its corner lies on a multiple of ALIGN."""
        y0, y1, x0, x1 = box
        top, left = max(0, y0 - halo) // ALIGN * ALIGN, max(0, x0 - halo) // ALIGN * ALIGN
        return cls(y0, y1, x0, x1, top, min(shape[0], y1 + halo), left, min(shape[1], x1 + halo))


def window_side(channels: int) -> int:
    """Return the side of windows that keeps their features within about 200 MB, a multiple of 64 pixels."""
    whole = math.sqrt(200e6 / (channels * len(KINDS) * 4 * 4 / 3))
    return int(min(max(whole - 160, 256), 1024)) // 64 * 64


def window_halo(pixel_um: float) -> int:
    """Return how many pixels around a window its classes depend on: textures, and the smoothing of probabilities."""
    return halo_px(pixel_um) + _smoothing(pixel_um)[1] + ALIGN


def _smoothing(pixel_um: float) -> tuple[float, int]:
    sigma = SMOOTHED_UM / pixel_um
    return sigma, math.ceil(3 * sigma)


def classify_window(
    window: np.ndarray,
    frame: Frame,
    classifier: PixelClassifier,
    *,
    light: Light,
    pixel_um: float,
    wanted: np.ndarray,
    blocks: int = 1,
) -> np.ndarray:
    """Return the most probable class of each block of pixels of a window; the same for any windows.

    Parameters
    ----------
    window
        (c, y, x) counts of what `frame` reads, the classifier's channels in their order.
    frame
        Which part of it is asked for, with `window_halo` around.
    light
        The slide's, by `light_on`.
    pixel_um
        Side of a pixel.
    wanted
        (y, x) of what is read: False where no class is needed.
    blocks
        Pixels on a side of a block, which the part asked for begins on.

    Returns
    -------
    (y / blocks, x / blocks) uint8
        Index of the class, NOTHING where nothing was wanted. Of equal probabilities the first class wins.
    """
    sigma, radius = _smoothing(pixel_um)
    y0, y1 = max(frame.top, frame.y0 - radius), min(frame.bottom, frame.y1 + radius)
    x0, x1 = max(frame.left, frame.x0 - radius), min(frame.right, frame.x1 + radius)
    octaves = textures(window, light, pixel_um)
    shares = np.zeros((len(classifier.classes), y1 - y0, x1 - x0), dtype=np.float32)
    columns = slice(x0 - frame.left, x1 - frame.left)
    for start in range(y0, y1, STRIP):
        rows = slice(start - frame.top, min(start + STRIP, y1) - frame.top)
        asked = wanted[rows, columns]
        if asked.any():
            features = at_pixels(octaves, rows, columns)
            found = classifier.forest.probabilities(features.reshape(len(features), -1), asked.ravel())
            shares[:, start - y0 : start - y0 + asked.shape[0]] = found.reshape(-1, *asked.shape)
    inner = (slice(frame.y0 - y0, frame.y1 - y0), slice(frame.x0 - x0, frame.x1 - x0))
    blurred = (ndimage.gaussian_filter(share, sigma, mode="nearest", radius=radius)[inner] for share in shares)
    smooth = [_in_blocks(share, blocks) for share in blurred]
    asked = wanted[frame.asked].astype(np.float32)
    return np.where(_in_blocks(asked, blocks) >= 0.5, np.argmax(smooth, axis=0), NOTHING).astype(np.uint8)


def _in_blocks(plane: np.ndarray, side: int) -> np.ndarray:
    """Return means of side x side pixels, the last row and column repeated to fill them."""
    if side == 1:
        return plane
    plane = np.pad(plane, ((0, -plane.shape[0] % side), (0, -plane.shape[1] % side)), mode="edge")
    total = np.zeros((plane.shape[0] // side, plane.shape[1] // side), dtype=np.float32)
    for y in range(side):
        for x in range(side):
            total += plane[y::side, x::side]
    return total / np.float32(side * side)


def classified_regions(
    picture: np.ndarray, classifier: PixelClassifier, *, pixel_size_um: tuple[float, float]
) -> list[Region]:
    """Return a slide's regions from its picture of classes (y, x), along pixel edges; glass becomes none."""
    pixel_um2 = pixel_size_um[0] * pixel_size_um[1]
    tidy = without_small_pieces(picture, SMALLEST_PIECE_UM2 / pixel_um2)
    found = [
        Region(one.name, one.tissue_class, mask_to_polygons(tidy == index, pixel_size_um=pixel_size_um))
        for index, one in enumerate(classifier.classes)
        if one.tissue_class in TISSUE_CLASSES and (tidy == index).any()
    ]
    return sorted(found, key=lambda region: TISSUE_CLASSES.index(region.tissue_class))


def without_small_pieces(picture: np.ndarray, smallest_px: float) -> np.ndarray:
    """Return a picture of classes whose 4-connected pieces below a size have become what touches them most.

    Of what touches a piece equally, the smaller number wins; a piece that touches nothing but NOTHING stays. It is
    repeated until no piece changes, at most 8 times: small pieces may touch small pieces.
    """
    picture = picture.copy()
    for _ in range(8):
        piece, count = _pieces(picture)
        small = np.bincount(piece.ravel(), minlength=count + 1) < smallest_px
        small[0] = False
        if not small.any():
            break
        into = _surroundings(picture, piece, count)
        into[~small] = NOTHING
        becomes = into[piece]
        change = becomes != NOTHING
        if not change.any():
            break
        picture[change] = becomes[change]
    return picture


def _pieces(picture: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the pieces of all classes, numbered from 1; 0 where there is NOTHING."""
    pieces, count = np.zeros(picture.shape, dtype=np.int32), 0
    for index in np.unique(picture[picture != NOTHING]):
        mask = picture == index
        found, here = ndimage.label(mask)
        pieces[mask] = found[mask] + count
        count += here
    return pieces, count


def _surroundings(picture: np.ndarray, piece: np.ndarray, count: int) -> np.ndarray:
    """Return for each piece the class that it shares most edges of pixels with, NOTHING where there is none."""
    classes = int(picture[picture != NOTHING].max(initial=0)) + 1
    edges = np.zeros((count + 1) * classes, dtype=np.int64)
    for axis in (0, 1):
        one = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        other = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        for mine, theirs in ((one, other), (other, one)):
            touching = (piece[mine] != piece[theirs]) & (piece[mine] > 0) & (piece[theirs] > 0)
            place = piece[mine][touching].astype(np.int64) * classes + picture[theirs][touching]
            edges += np.bincount(place, minlength=len(edges))
    edges = edges.reshape(count + 1, classes)
    return np.where(edges.max(axis=1) > 0, edges.argmax(axis=1), NOTHING).astype(np.uint8)


def classifier_as_json(classifier: PixelClassifier) -> dict[str, Any]:
    """Return the classifier as plain JSON: numbers and texts, no code."""
    return {
        "panel": classifier.panel,
        "channels": list(classifier.channels),
        "features": names_of(classifier.channels),
        "classes": [[one.name, one.tissue_class] for one in classifier.classes],
        "scale": list(classifier.scale),
        "method": classifier.method,
        "confusion": [dict(row) for row in classifier.confusion],
        "forest": classifier.forest.as_json(),
    }


def classifier_from_json(content: Mapping[str, Any]) -> PixelClassifier:
    """Return the classifier that `classifier_as_json` wrote.

    Raises
    ------
    InputError
        When it is damaged, or of another mihc whose features are not these.
    """
    try:
        channels = tuple(str(name) for name in content["channels"])
        classes = tuple(TissueClass(str(name), str(kind)) for name, kind in content["classes"])
        scale = tuple(float(one) for one in content["scale"])
        told = str(content["panel"]), str(content["method"]), tuple(dict(row) for row in content["confusion"])
        features, forest = list(content["features"]), content["forest"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"it cannot be read: {error}") from None
    if features != names_of(channels):
        raise InputError("it was trained by another mihc, on other features")
    if len(scale) != len(channels) or any(one.tissue_class not in (*TISSUE_CLASSES, OUTSIDE) for one in classes):
        raise InputError("it is damaged: its channels or classes do not fit")
    trees = forest_from_json(forest, features=len(features), classes=len(classes))
    return PixelClassifier(told[0], channels, classes, scale, trees, told[1], told[2])


def classes_in_order(found: Sequence[TissueClass]) -> tuple[TissueClass, ...]:
    """Return each class once, in the order of TISSUE_CLASSES with glass last, then by name."""
    order = (*TISSUE_CLASSES, OUTSIDE)
    return tuple(sorted(set(found), key=lambda one: (order.index(one.tissue_class), one.name)))
