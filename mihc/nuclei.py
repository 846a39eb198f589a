"""Which pixels are which nucleus: a classical segmenter that gives one answer whatever the windows.

The steps, each with a bounded reach (their sum is the halo):

1. smooth a little;
2. a local threshold between the means of the brighter and the darker pixels around, never below a floor that the
   slide-wide reference sets, so that empty glass and diffuse haze stay empty;
3. a splitting picture from intensity and distance to the edge;
4. the pieces of all its thresholds; those most like one ellipse are nuclei (`nuclei_tree`);
5. growth of each piece into what is left of the foreground around it, up to a distance;
6. rejection of what is too small or too faint.

The id of a nucleus is 1 + the index of the 2 x 2 block of pixels that holds its seed (its brightest point in step 3).
Two pieces never touch, not even at a corner, so such a block holds one seed at most, and every window gives a nucleus
the same id.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mihc.errors import InputError

BLOCK = 2  # side of the blocks that can hold only one seed
LARGEST_VALUE = 1 << 22  # counts are clipped here; sums over windows then stay exact


@dataclass(frozen=True)
class NucleusReference:
    """What is measured once per slide; every window is segmented against it."""

    background: float  # counts where there is no nucleus
    contrast: float  # counts by which a typical nucleus exceeds the background
    noise: float  # standard deviation of one background pixel, counts
    fixed_point_bits: int = 0  # an image value v is used as round(v * 2^bits); the fields above are in that scale

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, as run.json keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: dict[str, float]) -> NucleusReference:
        """The reference that `as_dict` wrote."""
        return cls(
            float(numbers["background"]),
            float(numbers["contrast"]),
            float(numbers["noise"]),
            int(numbers["fixed_point_bits"]),
        )


@dataclass(frozen=True)
class _Recipe:
    """Every constant of the method; lengths in nucleus diameters."""

    smoothing: float = 0.03  # standard deviation
    splitting: float = 0.06  # standard deviation of the splitting picture
    around: float = 2.5  # reach of the local threshold
    half: float = 1.0  # contrasts above the background at which the compression reaches one half
    wide: float = 0.35
    blob_weight: float = 0.5
    contra: bool = False
    edge: float = 0.45
    cut: float = 0.4  # of the way from the darker to the brighter mean
    floor: float = 0.16  # of the slide's contrast above its background
    noise_floor: float = 6.0  # smoothed noise above the local darker mean
    shape_weight: float = 0.1  # of the distance to the edge in the splitting picture
    longest: float = 2.5  # sides of a piece
    smallest: float = 0.2  # area, in areas of the usual nucleus
    largest: float = 3.5  # area
    margin: float = 0.03  # by which pieces within must look better
    dip: float = 0.1  # how much a full dip counts against the margin
    growth: float = 0.5
    hole: float = 0.1  # largest hole that is filled, in areas of the usual nucleus
    hole_side: float = 0.7


RECIPE = _Recipe()


def slide_reference(
    image: object, *, pixel_size_um: float | tuple[float, float], nucleus_diameter_um: float = 8.0
) -> NucleusReference:
    """Measure background, contrast and noise of a nuclear stain, slide-wide.

    Parameters
    ----------
    image : (y, x) array or anything with `.shape` and `image[y0:y1, x0:x1]`, of any real dtype, counts. It is read in
        the boxes of `reference_blocks`, so windows and workers have no influence. Several stains: `NucleiPlane`.
    pixel_size_um : µm, a number or a (y, x) pair.
    nucleus_diameter_um : µm, the usual nucleus.

    Returns
    -------
    NucleusReference
        An image without pixels, or of one value, has contrast 0 and no nuclei.
    """
    blocks = [np.asarray(image[y0:y1, x0:x1]) for y0, y1, x0, x1 in reference_blocks(image.shape)]
    blocks = [block for block in blocks if block.size]
    bits = _fixed_point_bits(blocks)
    diameter = _diameter_px(pixel_size_um, nucleus_diameter_um)
    planes = [_integers(block, bits) for block in blocks]
    if not planes:
        return NucleusReference(0.0, 0.0, 0.0, bits)
    from mihc.nuclei_kernels import FRACTION, smooth

    weights = _gaussian(RECIPE.splitting * diameter)
    values = np.concatenate([(smooth(plane, weights) / FRACTION).ravel() for plane in planes])
    cut = _isodata(values)
    background = float(np.median(values[values <= cut]))
    bright = values[values > cut]
    contrast = float(np.median(bright)) - background if bright.size else 0.0
    return NucleusReference(background, contrast, _noise(planes, cut), bits)


def reference_blocks(shape_yx: tuple[int, int], *, side: int = 256, most: int = 100) -> list[tuple[int, int, int, int]]:
    """Boxes (y0, y1, x0, x1) that `slide_reference` reads: a fixed even grid over the slide, or all of a small one.

    They follow from the slide's shape alone. A slide of at most `most` blocks is read whole.
    """
    rows, columns = (max(1, math.ceil(n / side)) for n in shape_yx)
    if rows * columns <= most:
        return [
            (y * side, min((y + 1) * side, shape_yx[0]), x * side, min((x + 1) * side, shape_yx[1]))
            for y in range(rows)
            for x in range(columns)
        ]
    across = min(columns, most, max(1, round(math.sqrt(most * columns / rows))))
    down = min(rows, most // across)
    starts = [
        [round((k + 0.5) * n / parts - side / 2) if n > side else 0 for k in range(parts)]
        for n, parts in zip(shape_yx, (down, across), strict=True)
    ]
    return [(y, min(y + side, shape_yx[0]), x, min(x + side, shape_yx[1])) for y in starts[0] for x in starts[1]]


class NucleiPlane:
    """The sum of a slide's nuclear stains as one lazy (y, x) array, for `slide_reference`."""

    def __init__(self, image: object, channels: Sequence[int]):
        self.image, self.channels = image, tuple(channels)
        self.shape = tuple(image.shape[-2:])

    def __getitem__(self, box: tuple[slice, slice]) -> np.ndarray:
        return sum_planes([np.asarray(self.image[channel, box[0], box[1]]) for channel in self.channels])


def sum_planes(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of (y, x) planes: int64 for integers, float64 for floats; one plane is returned as it is."""
    if len(planes) == 1:
        return planes[0]
    wide = np.float64 if any(plane.dtype.kind == "f" for plane in planes) else np.int64
    total = planes[0].astype(wide)
    for plane in planes[1:]:
        total = total + plane
    return total


def halo_px(
    pixel_size_um: float | tuple[float, float], nucleus_diameter_um: float = 8.0, cell_expansion_um: float = 4.0
) -> int:
    """Pixels that a window needs around its core, so that its nuclei and cells are those of the whole slide."""
    diameter = _diameter_px(pixel_size_um, nucleus_diameter_um)
    piece = round(RECIPE.longest * diameter)
    growth = max(1, round(RECIPE.growth * diameter))
    expansion = math.ceil(cell_expansion_um / math.sqrt(math.prod(pixel_size_pair(pixel_size_um))))
    # From a seed in the core to the end of its cell, and to the nuclei that compete for that end.
    cell = piece + growth + 2 * expansion
    # From a nucleus' pixel to the piece that it grew from, to the end of that piece, to the pixels that made it.
    return cell + growth + piece + _levels_reach(diameter) + 2


def _levels_reach(diameter: float) -> int:
    """Pixels on which a pixel of the splitting picture depends."""
    smoothing, splitting = (len(_gaussian(s * diameter)) // 2 for s in (RECIPE.smoothing, RECIPE.wide))
    threshold = 3 * round(RECIPE.around * diameter) + smoothing
    foreground = threshold + round(RECIPE.hole_side * diameter) + 1
    return max(foreground + _distance_reach(diameter), splitting)


def _distance_reach(diameter: float) -> int:
    return max(2, round(0.75 * diameter))


def segment_nuclei(
    image: np.ndarray,
    *,
    pixel_size_um: float | tuple[float, float],
    nucleus_diameter_um: float = 8.0,
    method: str = "auto",
    reference: NucleusReference | None = None,
) -> np.ndarray:
    """Find the nuclei of a nuclear stain.

    Parameters
    ----------
    image : (y, x) of any real dtype, counts. Not modified.
    pixel_size_um : µm, a number or a (y, x) pair.
    nucleus_diameter_um : µm, diameter of the usual nucleus: a hint, nuclei of a third to twice that are found.
    method : "auto" or "classical".
    reference : what `slide_reference` measured on the whole slide; None measures it on this image.

    Returns
    -------
    labels : (y, x) uint32
        0 is background. The ids are unique but not consecutive: the number of nuclei is the number of different
        labels above 0. An image without nuclei gives zeros.

    Raises
    ------
    InputError
        If the image is not two-dimensional, not real or not finite, the method is unknown, or a length is not positive.
    """
    image = _checked(image, method)
    _diameter_px(pixel_size_um, nucleus_diameter_um)
    if reference is None:
        reference = slide_reference(image, pixel_size_um=pixel_size_um, nucleus_diameter_um=nucleus_diameter_um)
    labels, seeds = find_nuclei(
        image, pixel_size_um=pixel_size_um, nucleus_diameter_um=nucleus_diameter_um, reference=reference
    )
    return named(labels, nucleus_ids(seeds, image.shape))


def find_nuclei(
    image: np.ndarray,
    *,
    pixel_size_um: float | tuple[float, float],
    nucleus_diameter_um: float,
    reference: NucleusReference,
) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei of a (y, x) array as labels 1, 2, ... row by row of their seeds, and the seeds (n, 2)."""
    diameter = _diameter_px(pixel_size_um, nucleus_diameter_um)
    if image.size == 0 or reference.contrast <= reference.noise:
        return np.zeros(image.shape, np.uint32), np.zeros((0, 2), np.int64)
    from mihc.nuclei_kernels import NEAR, excess, grow, piece_sums, smooth, trim
    from mihc.nuclei_tree import ONE, choose, level_set_tree, paint, qualities

    plane = _integers(image, reference.fixed_point_bits)
    smoothed = smooth(plane, _gaussian(RECIPE.smoothing * diameter))
    foreground, low, high = _foreground(smoothed, reference, diameter)
    levels = _splitting_picture(plane, foreground, low, high, reference, diameter)
    nodes, parent, level, box, sums = level_set_tree(levels)
    usual = _usual_px(diameter)
    quality = qualities(
        box, sums, round(RECIPE.longest * diameter), RECIPE.smallest * usual, RECIPE.largest * usual, usual
    )
    chosen = choose(parent, level, sums, quality, round(RECIPE.margin * ONE), round(RECIPE.dip * ONE))
    labels, seeds = paint(nodes, parent, chosen, levels, *levels.shape)
    above = excess(smoothed, low, reference.background, RECIPE.half * reference.contrast)
    sums = piece_sums(labels, above, len(seeds))
    typical = sums[:, 2] / np.maximum(sums[:, 1], 1) if RECIPE.contra else sums[:, 1] / sums[:, 0]
    bounds = np.floor(RECIPE.edge * typical).astype(np.int32)
    trim(labels, above, bounds)
    grow(labels, foreground, above, bounds, NEAR * max(1, round(RECIPE.growth * diameter)))
    return labels, seeds


def nucleus_ids(seeds: np.ndarray, shape_yx: tuple[int, int], *, origin_yx: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Ids (uint32) of seeds (n, 2), pixels from `origin_yx`, on a slide of `shape_yx`: 1 + the index of their block."""
    columns = -(-shape_yx[1] // BLOCK)
    if -(-shape_yx[0] // BLOCK) * columns >= 2**32 - 1:
        raise InputError(
            f"a slide of {shape_yx[0]} x {shape_yx[1]} pixels is too large for ids of 32 bits",
            fix="Segment it by scenes.",
        )
    y, x = seeds[:, 0] + origin_yx[0], seeds[:, 1] + origin_yx[1]
    return (1 + (y // BLOCK) * columns + x // BLOCK).astype(np.uint32)


def block_of_id(ids: np.ndarray, shape_yx: tuple[int, int]) -> np.ndarray:
    """First pixel (n, 2: y, x) of the block that holds the seed of each id; the reverse of `nucleus_ids`."""
    index = np.asarray(ids).astype(np.int64) - 1
    columns = -(-shape_yx[1] // BLOCK)
    return np.stack([index // columns, index % columns], axis=-1) * BLOCK


def named(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Labels 1, 2, ... replaced by their ids (uint32); 0 stays 0."""
    return np.concatenate([np.zeros(1, np.uint32), ids])[labels]


def _foreground(
    smoothed: np.ndarray, reference: NucleusReference, diameter: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask of nuclear pixels, and the local means of the darker and of the brighter pixels, compressed."""
    from mihc.nuclei_kernels import SCALE, box_mean, brighter, class_means, compress, cut_between, fill_holes

    around = round(RECIPE.around * diameter)
    half = RECIPE.half * reference.contrast
    value = compress(smoothed, reference.background, half)
    noise = SCALE * reference.noise * _noise_left(RECIPE.smoothing * diameter) / half
    floor = SCALE * RECIPE.floor / (RECIPE.floor + RECIPE.half)
    mean = box_mean(value, around)
    high, low = class_means(value, cut_between(mean, mean, 0.0, 0.0, floor), around)
    high, low = class_means(value, cut_between(low, high, RECIPE.cut, 0.0, floor), around)
    mask = brighter(value, cut_between(low, high, RECIPE.cut, RECIPE.noise_floor * noise, floor))
    fill_holes(mask, round(RECIPE.hole * _usual_px(diameter)), round(RECIPE.hole_side * diameter))
    return mask, low, high


def _splitting_picture(
    plane: np.ndarray,
    foreground: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    reference: NucleusReference,
    diameter: float,
) -> np.ndarray:
    """(y, x) uint8: 0 outside the foreground, higher towards the middle of a nucleus."""
    from mihc.nuclei_kernels import compress, smooth, splitting_levels, squared_distance

    background, half = reference.background, RECIPE.half * reference.contrast
    fine, wide = (
        compress(smooth(plane, _gaussian(sigma * diameter)), background, half)
        for sigma in (RECIPE.splitting, RECIPE.wide)
    )
    distance = squared_distance(foreground, _distance_reach(diameter))
    shape, blob = RECIPE.shape_weight, RECIPE.blob_weight
    weights = np.array([shape, 1 - shape - blob, blob])
    return splitting_levels(fine, wide, low, high, distance, foreground, weights, 0.5 * diameter)


def _checked(image: np.ndarray, method: str) -> np.ndarray:
    image = np.asarray(image)
    if method not in ("auto", "classical"):
        raise InputError(f'unknown segmentation method "{method}"', fix='Use "auto" or "classical".')
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise InputError(
            f"nuclei are found in a (y, x) image of real numbers, not in one of shape {image.shape} and {image.dtype}",
            fix="Give one plane: the nuclear stain, or the sum of several.",
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int((~np.isfinite(image)).sum())
        raise InputError(f"the nuclear stain has {bad} non-finite values", fix="Replace NaN and inf before.")
    return image


def _integers(image: np.ndarray, bits: int) -> np.ndarray:
    """The image as int32: round(value * 2^bits), clipped to +-LARGEST_VALUE."""
    if image.dtype.kind == "f" or bits:
        image = np.rint(np.ldexp(image.astype(np.float64), bits))
    elif image.dtype.itemsize <= 2:
        return image.astype(np.int32)
    elif image.dtype.kind == "u":
        return np.minimum(image, LARGEST_VALUE).astype(np.int32)
    return np.clip(image, -LARGEST_VALUE, LARGEST_VALUE).astype(np.int32)


def _fixed_point_bits(blocks: Sequence[np.ndarray]) -> int:
    """Bits so that the brightest sampled value is used with 14 bits; 0 for whole numbers that fit as they are."""
    brightest = max((float(np.abs(block.astype(np.float64)).max()) for block in blocks), default=0.0)
    whole = all(block.dtype.kind != "f" or bool((block == np.rint(block)).all()) for block in blocks)
    if brightest == 0.0 or (whole and brightest < LARGEST_VALUE / 2):
        return 0
    return 14 - math.frexp(brightest)[1]


def _isodata(values: np.ndarray) -> float:
    """The threshold midway between the means of what lies above and below it (Ridler and Calvard 1978)."""
    cut = float(values.mean())
    for _ in range(50):
        above = values > cut
        if not above.any() or above.all():
            break
        new = 0.5 * (float(values[above].mean()) + float(values[~above].mean()))
        if new == cut:
            break
        cut = new
    return cut


def _noise(planes: Sequence[np.ndarray], cut: float) -> float:
    """Standard deviation of a background pixel: of differences between neighbours, which blur does not reach."""
    differences = []
    for plane in planes:
        dark = (plane[:, 1:] <= cut) & (plane[:, :-1] <= cut)
        differences.append((plane[:, 1:].astype(np.int64) - plane[:, :-1])[dark])
    every = np.abs(np.concatenate(differences)) if differences else np.zeros(0)
    return float(np.median(every)) * 1.4826 / math.sqrt(2) if every.size else 0.0


def _noise_left(sigma: float) -> float:
    """Share of white noise that smoothing leaves: the root of the sum of squared weights, along both axes."""
    weights = _gaussian(sigma)
    return float((weights**2).sum() / weights.sum() ** 2)


def _usual_px(diameter: float) -> float:
    """Pixels of the usual nucleus."""
    return math.pi / 4 * diameter * diameter


def _gaussian(sigma: float) -> np.ndarray:
    """Gaussian weights as whole numbers in float64; their sum is near 1024."""
    reach = max(1, math.ceil(2.5 * sigma))
    at = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (at / max(sigma, 1e-3)) ** 2)
    return np.rint(1024 * weights / weights.sum())


def pixel_size_pair(pixel_size_um: float | tuple[float, float]) -> tuple[float, float]:
    """Pixel size as (y, x) in µm, of a number or of a pair."""
    y, x = np.broadcast_to(np.asarray(pixel_size_um, np.float64), (2,))
    return float(y), float(x)


def _diameter_px(pixel_size_um: float | tuple[float, float], nucleus_diameter_um: float) -> float:
    y, x = pixel_size_pair(pixel_size_um)
    if not (y > 0 and x > 0 and nucleus_diameter_um > 0 and math.isfinite(y * x * nucleus_diameter_um)):
        raise InputError(
            f"pixel size {pixel_size_um} µm and nucleus diameter {nucleus_diameter_um} µm must be above 0",
            fix="Give both in µm.",
        )
    diameter = nucleus_diameter_um / math.sqrt(y * x)
    if diameter < 3:
        raise InputError(
            f"a nucleus of {nucleus_diameter_um} µm has only {diameter:.1f} pixels of {math.sqrt(y * x):.3g} µm across",
            fix="Use a finer pyramid level, or check the pixel size.",
        )
    return diameter
