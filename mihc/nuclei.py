"""Which pixels are which nucleus: a classical segmenter that gives one answer whatever the windows.

The steps, each with a bounded reach (their sum is the halo):

1. take hot pixels away, smooth, and compress the range, so that bright nuclei do not outvote dim ones;
2. a local threshold between the means of the brighter and the darker pixels around, never below a floor that the
   slide-wide reference sets, so that empty glass stays empty;
3. a splitting picture: mostly contrast against the surroundings of a nucleus' size, some brightness, some distance to
   the edge;
4. the pieces of all its thresholds; those most like one ellipse are nuclei (`nuclei_tree`), and so is what they leave
   of the foreground where it has a nucleus' outline (`nuclei_rest`);
5. rejection of pieces that are faint, in themselves or beside the slide's nuclei, or haze without a summit of a
   nucleus' size;
6. each nucleus ends near its own half maximum: its piece is trimmed to that, and grows to it by a bounded distance;
7. two pieces that one ellipse fits as well, alike in brightness and with no dark line between, are one nucleus
   (`nuclei_merges`);
8. a nucleus with a neck, better described by two ellipses, is cut there (`nuclei_cuts`).

The id of a nucleus is 1 + the index of the 2 x 2 block of pixels that holds its seed (the highest point of its piece).
Two pieces never touch, not even at a corner, so such a block holds one seed at most, and every window gives a nucleus
the same id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mihc.errors import InputError
from mihc.nuclei_ids import block_of_id, nucleus_ids
from mihc.nuclei_reference import (
    NucleusReference,
    diameter_px,
    gaussian,
    integers,
    light_of,
    noise_left,
    reference_blocks,
    sum_planes,
)
from mihc.windows import pixel_size_pair

if TYPE_CHECKING:
    from mihc.nuclei_grid import Segmenter

__all__ = [
    "NucleusReference",
    "block_of_id",
    "find_nuclei",
    "halo_px",
    "longest_nucleus_px",
    "nucleus_ids",
    "recipe_for",
    "reference_blocks",
    "segment_nuclei",
    "slide_reference",
    "sum_planes",
]

JOININGS = 2  # times that pairs of pieces are joined: a nucleus may come in three parts
DEEPEST = 0.5  # diameters; the distance to the edge is not followed deeper


@dataclass(frozen=True)
class Recipe:
    """Every constant of the method; lengths are in diameters of the usual nucleus, areas in its areas."""

    fine: tuple[float, ...] = (0.04, 0.07, 0.1, 0.14)  # standard deviations of the light smoothing: the first that
    calm: float = 0.06  # leaves at most this noise, in contrasts, else the last
    wide: float = 0.5  # standard deviation of the smoothing that spans a nucleus
    half: float = 1.0  # contrasts above the background that are compressed to one half
    around: float = 1.5  # reach of the local threshold
    cut: float = 0.45  # the threshold's way from the darker to the brighter local mean
    floor: float = 0.12  # the lowest threshold, in contrasts above the background
    noise: float = 6.0  # the threshold's least height above the darker mean, in standard deviations of smoothed noise
    hole: float = 0.1  # area of the largest hole that is filled
    hole_side: float = 0.7
    depth: float = 0.1  # weight of the distance to the edge in the splitting picture
    local: float = 0.8  # weight of local contrast in it; the rest is brightness
    longest: float = 2.0  # side of a piece
    smallest: float = 0.16  # area of a piece
    smallest_part: float = 0.22  # of a part that is cut off at a neck
    largest: float = 3.0
    large_from: float = 1.3  # area from which a piece loses quality,
    large_cost: float = 0.04  # by this for each area more
    small_from: float = 0.5
    small_cost: float = 0.2
    margin: float = 0.02  # by which the pieces within must look better than the whole
    dip: float = 0.2  # what the deepest dip between them adds to their quality
    rest: float = 0.85  # least quality of what the pieces leave of the foreground,
    rest_area: float = 0.3  # its least area,
    rest_away: float = 0.13  # and how far from them it begins
    summit: float = 0.11  # least share of a nucleus' brightness that stands out from the wide smoothing: haze has none;
    outshone: float = 0.85  # nor has what brighter pixels around outshine to this share,
    strong: float = 0.75  # kept where it stands out to this share of the slide's foreground
    faint: float = 0.1  # least brightness above the darker local mean, compressed
    share: float = 0.48  # and in that of the slide's foreground: out of focus, nuclei are haze
    beside: float = 0.57  # and in spans between the local means
    edge: float = 0.48  # a nucleus ends at this share of its own mean brightness
    growth: float = 0.5  # how far a piece grows
    joined: tuple[float, float] = (-0.06, 0.0)  # by which the quality must rise where two pieces are joined
    joined_area: tuple[float, float] = (1.3, 1.8)  # to one of these areas: two nuclei are more than parts of one
    alike: float = 0.8  # share to which the brightnesses of the two agree
    unbroken: float = 0.88  # share of the darker one's brightness that the line between them has
    gain: float = 0.03  # by which the quality must rise where a grown nucleus is cut in two
    neck: float = 0.75  # widest cut, in widths of the narrower part
    uphill: int = 2  # cost of growing one level up in the splitting picture, where one pixel costs 5


RECIPE = Recipe()
FAINTEST = {"low": 1.3, "normal": 1.0, "high": 0.7}  # sensitivity: by this the least brightness of a nucleus differs


def recipe_for(sensitivity: str) -> Recipe:
    """The recipe of a sensitivity: "low", "normal" or "high". What `slide_reference` measures is the same for all."""
    if sensitivity not in FAINTEST:
        raise InputError(f'unknown sensitivity "{sensitivity}"', fix='Use "low", "normal" or "high".')
    factor = FAINTEST[sensitivity]
    return replace(RECIPE, share=RECIPE.share * factor, beside=RECIPE.beside * factor)


def halo_px(
    pixel_size_um: float | tuple[float, float],
    nucleus_diameter_um: float = 8.0,
    cell_expansion_um: float = 4.0,
    recipe: Recipe = RECIPE,
) -> int:
    """Pixels that a window needs around its core, so that its nuclei and cells are those of the whole slide."""
    diameter = diameter_px(pixel_size_um, nucleus_diameter_um)
    piece, growth = _px(recipe.longest, diameter), _px(recipe.growth, diameter)
    expansion = math.ceil(cell_expansion_um / math.sqrt(math.prod(pixel_size_pair(pixel_size_um))))
    # From a seed in the core to the end of its cell, and to the nuclei that compete for that end.
    cell = piece + growth + 2 * expansion
    # Over the neighbours that it, or what it is joined with, might have been joined with instead.
    neighbours = JOININGS * (piece + 2 * growth)
    # From a nucleus' pixel to the piece that it grew from, over it to the end of the nucleus,
    # to the pieces that compete there, to the ends of those, to the pixels that made them.
    made = 3 * growth + 2 * piece + _reach_of_views(diameter, recipe)
    # A piece may be what others leave: from it to those, and over them.
    left = _px(recipe.rest_away, diameter) + piece
    return cell + neighbours + made + left + 2


def longest_nucleus_px(pixel_size_um: float | tuple[float, float], nucleus_diameter_um: float = 8.0) -> int:
    """Rows, and columns, that a nucleus covers at most."""
    diameter = diameter_px(pixel_size_um, nucleus_diameter_um)
    return _px(RECIPE.longest, diameter) + 2 * _px(RECIPE.growth, diameter)


def _reach_of_views(diameter: float, recipe: Recipe) -> int:
    """Pixels on which a pixel of the views and of the splitting picture depends."""
    fine, wide = (len(gaussian(sigma * diameter)) // 2 for sigma in (max(recipe.fine), recipe.wide))
    threshold = 1 + fine + 2 * _px(recipe.around, diameter)
    foreground = threshold + _px(recipe.hole_side, diameter) + 1
    return max(foreground + _px(DEEPEST, diameter), wide + 1)


def _px(length: float, diameter: float) -> int:
    """A length of the recipe in whole pixels, at least 1."""
    return max(1, round(length * diameter))


def segment_nuclei(
    image: np.ndarray,
    *,
    pixel_size_um: float | tuple[float, float],
    nucleus_diameter_um: float = 8.0,
    method: str | Segmenter = "auto",
    reference: NucleusReference | None = None,
    sensitivity: str = "normal",
) -> np.ndarray:
    """Find the nuclei of a nuclear stain.

    Parameters
    ----------
    image : (y, x) of any real dtype, counts. Not modified.
    pixel_size_um : µm, a number or a (y, x) pair.
    nucleus_diameter_um : µm, diameter of the usual nucleus: a hint, nuclei of a third to twice that are found.
    method : "auto" or "classical", or another segmenter, as `mihc.open_segmenter` opens one; it gives the same nuclei
        as a run does, whose windows change nothing.
    reference : what `slide_reference` measured on the whole slide; None measures it on this image.
    sensitivity : "low", "normal" or "high": how faint a nucleus may be beside the others. A segmenter of another kind
        has its own.

    Returns
    -------
    labels : (y, x) uint32
        0 is background. The ids are unique but not consecutive: the number of nuclei is the number of different
        labels above 0. An image without nuclei gives zeros.

    Raises
    ------
    InputError
        If the image is not two-dimensional, not real or not finite, the method or sensitivity is unknown, or a length
        is not positive.
    """
    image, recipe = _checked(image, method), recipe_for(sensitivity)
    diameter_px(pixel_size_um, nucleus_diameter_um)
    if reference is None:
        reference = slide_reference(image, pixel_size_um=pixel_size_um, nucleus_diameter_um=nucleus_diameter_um)
    if not isinstance(method, str):
        from mihc.nuclei_grid import nuclei_by

        return nuclei_by(method, [image], [reference], pixel_size_pair(pixel_size_um))
    labels, seeds = find_nuclei(
        image,
        pixel_size_um=pixel_size_um,
        nucleus_diameter_um=nucleus_diameter_um,
        reference=reference,
        recipe=recipe,
    )
    if len(seeds):
        from mihc.nuclei_kernels import name_labels

        name_labels(labels, nucleus_ids(seeds, image.shape))
    return labels


def slide_reference(
    image: object, *, pixel_size_um: float | tuple[float, float], nucleus_diameter_um: float = 8.0
) -> NucleusReference:
    """Measure a nuclear stain slide-wide: background, contrast, noise, and how far nuclei stand out.

    Parameters
    ----------
    image : (y, x) array or anything with `.shape` and `image[y0:y1, x0:x1]`, of any real dtype, counts. It is read in
        the boxes of `reference_blocks`, so windows and workers have no influence.
        Several stains: `NuclearStain` of mihc.nuclei_stain.
    pixel_size_um : µm, a number or a (y, x) pair.
    nucleus_diameter_um : µm, the usual nucleus.

    Returns
    -------
    NucleusReference
        An image without pixels, or of one value, has contrast 0 and no nuclei.
    """
    diameter = diameter_px(pixel_size_um, nucleus_diameter_um)
    blocks = [np.asarray(image[y0:y1, x0:x1]) for y0, y1, x0, x1 in reference_blocks(image.shape)]
    blocks = [block for block in blocks if block.size]
    reference = light_of(blocks, diameter)
    if reference.contrast <= reference.noise:
        return reference
    from mihc.nuclei_kernels import SCALE, despeckle

    above = []
    for block in blocks:
        views = _views(despeckle(integers(block, reference.fixed_point_bits)), reference, diameter, RECIPE)
        above.append((views.fine - views.low)[views.foreground])
    every = np.concatenate(above)
    return replace(reference, typical=float(np.median(every)) / SCALE if every.size else 0.0)


def find_nuclei(
    image: np.ndarray,
    *,
    pixel_size_um: float | tuple[float, float],
    nucleus_diameter_um: float,
    reference: NucleusReference,
    recipe: Recipe = RECIPE,
) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei of a (y, x) array as labels 1, 2, ... row by row of their seeds, and the seeds (n, 2)."""
    diameter = diameter_px(pixel_size_um, nucleus_diameter_um)
    if image.size == 0 or reference.contrast <= reference.noise:
        return np.zeros(image.shape, np.uint32), np.zeros((0, 2), np.int64)
    from mihc.nuclei_cuts import cut_necks
    from mihc.nuclei_kernels import despeckle

    plane = despeckle(integers(image, reference.fixed_point_bits))
    views, wide = _views(plane, reference, diameter, recipe), _wide(plane, reference, diameter, recipe)
    levels = _splitting_picture(views, wide, diameter, recipe)
    pieces = _pieces(levels, views.foreground, diameter, recipe)
    labels, seeds = _convincing(*pieces, views, wide, reference, recipe)
    cores = _end_at_half_maximum(labels, len(seeds), views, levels, reference, diameter, recipe)
    count = _join(labels, cores, len(seeds), views, diameter, recipe)
    limits = np.array([1.0, recipe.smallest_part, recipe.small_from]) * [_usual_px(diameter), _usual_px(diameter), 1.0]
    costs = np.array([recipe.small_cost, 0.0])
    return cut_necks(labels, cores, levels, count, limits, costs, recipe.gain, recipe.neck)


@dataclass(frozen=True)
class _Views:
    """What the steps look at, all (y, x). Compressed: x / (x + half) in 1/SCALE, see `compress`."""

    smoothed: np.ndarray  # int32 in 1/FRACTION of a count
    fine: np.ndarray  # the same, compressed
    low: np.ndarray  # local mean of the darker pixels, compressed
    high: np.ndarray  # of the brighter pixels
    foreground: np.ndarray  # True in nuclei


def _views(plane: np.ndarray, reference: NucleusReference, diameter: float, recipe: Recipe) -> _Views:
    from mihc.nuclei_kernels import SCALE, above_cut, box_mean, class_means, compress, smooth
    from mihc.nuclei_masks import fill_holes

    around, half = _px(recipe.around, diameter), recipe.half * reference.contrast
    weights = _fine_weights(reference, diameter, recipe)
    smoothed = smooth(plane, weights)
    fine = compress(smoothed, reference.background, half)
    noise = SCALE * recipe.noise * reference.noise * noise_left(weights) / half
    floor = SCALE * recipe.floor / (recipe.floor + recipe.half)
    high, low = class_means(fine, box_mean(fine, around), floor, around)
    foreground = above_cut(fine, low, high, recipe.cut, noise, floor)
    fill_holes(foreground, round(recipe.hole * _usual_px(diameter)), _px(recipe.hole_side, diameter))
    return _Views(smoothed, fine, low, high, foreground)


def _wide(plane: np.ndarray, reference: NucleusReference, diameter: float, recipe: Recipe) -> np.ndarray:
    """The plane smoothed over a nucleus, compressed."""
    from mihc.nuclei_kernels import compress, smooth

    smoothed = smooth(plane, gaussian(recipe.wide * diameter))
    return compress(smoothed, reference.background, recipe.half * reference.contrast)


def _fine_weights(reference: NucleusReference, diameter: float, recipe: Recipe) -> np.ndarray:
    """The lightest smoothing that leaves nuclei standing clear of the noise."""
    choices = [gaussian(sigma * diameter) for sigma in recipe.fine]
    calm = [w for w in choices if reference.noise * noise_left(w) <= recipe.calm * reference.contrast]
    return (calm or choices[-1:])[0]


def _splitting_picture(views: _Views, wide: np.ndarray, diameter: float, recipe: Recipe) -> np.ndarray:
    """(y, x) uint8: 0 outside the foreground, higher towards the middle of a nucleus."""
    from mihc.nuclei_kernels import splitting_levels
    from mihc.nuclei_masks import squared_distance

    distance = squared_distance(views.foreground, _px(DEEPEST, diameter))
    weights = np.array([recipe.depth, 1 - recipe.depth - recipe.local, recipe.local])
    return splitting_levels(
        views.fine, wide, views.low, views.high, distance, views.foreground, weights, 0.5 * diameter
    )


def _pieces(
    levels: np.ndarray, foreground: np.ndarray, diameter: float, recipe: Recipe
) -> tuple[np.ndarray, np.ndarray]:
    """What looks like a nucleus: pieces of the splitting picture's levels, and of the foreground that they leave.

    Labels 1, 2, ... and their seeds.
    """
    from mihc.nuclei_rest import add_rest
    from mihc.nuclei_tree import ONE, choose, level_set_tree, paint, qualities

    places, nodes, parent, level, box, sums = level_set_tree(levels)
    usual = _usual_px(diameter)
    areas = np.array([recipe.smallest, recipe.small_from, recipe.large_from, recipe.largest])
    costs = np.array([recipe.small_cost, recipe.large_cost])
    longest = _px(recipe.longest, diameter)
    quality = qualities(box, sums, longest, usual, areas, costs)
    chosen = choose(parent, level, sums, quality, round(recipe.margin * ONE), round(recipe.dip * ONE))
    labels, seeds = paint(places, nodes, parent, chosen, levels)
    areas[0], costs[0] = recipe.rest_area, 0.0
    away = _px(recipe.rest_away, diameter)
    return labels, add_rest(labels, foreground, levels, len(seeds), away, longest, usual, areas, costs, recipe.rest)


def _convincing(
    labels: np.ndarray, seeds: np.ndarray, views: _Views, wide: np.ndarray, reference: NucleusReference, recipe: Recipe
) -> tuple[np.ndarray, np.ndarray]:
    """The pieces, and their seeds, that are neither haze (no summit of a nucleus' size) nor faint."""
    from mihc.nuclei_kernels import SCALE, name_labels, piece_evidence

    evidence = piece_evidence(labels, views.fine, wide, views.low, views.high, len(seeds))
    pixels, summit, bright, span = evidence.T
    typical = reference.typical * SCALE * pixels
    beside_brighter = (bright >= recipe.strong * typical) & (bright <= recipe.outshone * span)
    keep = (summit >= recipe.summit * bright) | beside_brighter
    keep &= bright >= recipe.faint * SCALE * pixels
    keep &= (bright >= recipe.share * typical) & (bright >= recipe.beside * span)
    new = np.zeros(len(seeds), np.uint32)
    new[keep] = np.arange(1, keep.sum() + 1)
    name_labels(labels, new)
    return labels, seeds[keep]


def _end_at_half_maximum(
    labels: np.ndarray,
    count: int,
    views: _Views,
    levels: np.ndarray,
    reference: NucleusReference,
    diameter: float,
    recipe: Recipe,
) -> np.ndarray:
    """Trim each piece, in place, to the pixels near its own brightness, and grow it over such pixels around.

    Returns the pieces before they grew.
    """
    from mihc.nuclei_kernels import NEAR, excess, grow, piece_means, trim

    above = excess(views.smoothed, views.low, reference.background, recipe.half * reference.contrast)
    bounds = np.floor(recipe.edge * piece_means(labels, above, count)).astype(np.int32)
    trim(labels, above, bounds)
    cores = labels.copy()
    grow(labels, views.foreground, levels, recipe.uphill, above, bounds, NEAR * _px(recipe.growth, diameter))
    return cores


def _join(labels: np.ndarray, cores: np.ndarray, count: int, views: _Views, diameter: float, recipe: Recipe) -> int:
    """Join, in place, the parts of one nucleus -> how many nuclei there are."""
    from mihc.nuclei_kernels import brightness
    from mihc.nuclei_merges import join_parts

    areas = np.array([0.0, recipe.small_from, recipe.large_from, recipe.largest])
    costs = np.array([recipe.small_cost, recipe.large_cost])
    needs = np.array([*recipe.joined, *recipe.joined_area, recipe.alike, recipe.unbroken])
    longest = _px(recipe.longest, diameter)
    bright = brightness(views.fine, views.low)
    return join_parts(labels, cores, bright, count, JOININGS, longest, _usual_px(diameter), areas, costs, needs)


def _checked(image: np.ndarray, method: str | Segmenter) -> np.ndarray:
    image = np.asarray(image)
    if isinstance(method, str) and method not in ("auto", "classical"):
        fix = 'Use "auto" or "classical", or give a segmenter: method=mihc.open_segmenter("cellpose", weights="...").'
        raise InputError(f'unknown segmentation method "{method}"', fix=fix)
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise InputError(
            f"nuclei are found in a (y, x) image of real numbers, not in one of shape {image.shape} and {image.dtype}",
            fix="Give one plane: the nuclear stain, or the sum of several.",
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int((~np.isfinite(image)).sum())
        raise InputError(f"the nuclear stain has {bad} non-finite values", fix="Replace NaN and inf before.")
    return image


def _usual_px(diameter: float) -> float:
    """Pixels of the usual nucleus."""
    return math.pi / 4 * diameter * diameter
