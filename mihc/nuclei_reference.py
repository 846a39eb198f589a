"""What the segmenter measures once per slide, before any window: background, contrast and noise of the nuclear stain.

Also the two conversions that everything after it shares: image values to integers, and µm to pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mihc.errors import InputError
from mihc.windows import pixel_size_pair

LARGEST_VALUE = 1 << 22  # counts are clipped here; sums over windows then stay exact
MOST_COUNTERS = 1 << 22  # values are counted one by one up to this range
BLUR = 0.06  # standard deviation, in nucleus diameters, of what background and contrast are taken from


@dataclass(frozen=True)
class NucleusReference:
    """What is measured once per slide; every window is segmented against it."""

    background: float  # counts where there is no nucleus
    contrast: float  # counts by which a typical nucleus exceeds the background
    noise: float  # standard deviation of one background pixel, counts
    fixed_point_bits: int = 0  # an image value v is used as round(v * 2^bits); the fields above are in that scale
    typical: float = 0.0  # how far the middle foreground pixel stands out from its surroundings, compressed to 0 .. 1

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
            float(numbers["typical"]),
        )


def light_of(blocks: Sequence[np.ndarray], diameter: float) -> NucleusReference:
    """Background, contrast and noise of (y, x) blocks of a nuclear stain; `diameter` in pixels."""
    bits = _fixed_point_bits(blocks)
    planes = [integers(block, bits) for block in blocks]
    if not planes:
        return NucleusReference(0.0, 0.0, 0.0, bits)
    from mihc.nuclei_kernels import FRACTION, smooth

    weights = gaussian(BLUR * diameter)
    values, counts = _distinct(np.concatenate([smooth(plane, weights).ravel() for plane in planes]))
    cut = _isodata(values, counts)
    bright = _not_above(values, cut)
    background = _middle(values[:bright], counts[:bright]) / FRACTION
    contrast = _middle(values[bright:], counts[bright:]) / FRACTION - background if bright < values.size else 0.0
    return NucleusReference(background, contrast, _noise(planes, cut / FRACTION), bits)


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
        [max(0, min(round((k + 0.5) * n / parts - side / 2), n - side)) for k in range(parts)]
        for n, parts in zip(shape_yx, (down, across), strict=True)
    ]
    return [(y, min(y + side, shape_yx[0]), x, min(x + side, shape_yx[1])) for y in starts[0] for x in starts[1]]


def sum_planes(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of (y, x) planes: int64 for integers, float64 for floats; one plane is returned as it is."""
    if len(planes) == 1:
        return planes[0]
    wide = np.float64 if any(plane.dtype.kind == "f" for plane in planes) else np.int64
    total = planes[0].astype(wide)
    for plane in planes[1:]:
        total = total + plane
    return total


def integers(image: np.ndarray, bits: int) -> np.ndarray:
    """The image as int32: round(value * 2^bits), clipped to +-LARGEST_VALUE."""
    if image.dtype.kind == "f" or bits:
        image = np.rint(np.ldexp(image.astype(np.float64), bits))
    if image.dtype.itemsize > 2:
        lowest = 0 if image.dtype.kind == "u" else -LARGEST_VALUE
        image = np.clip(image, lowest, LARGEST_VALUE)
    return np.ascontiguousarray(image, np.int32)


def _fixed_point_bits(blocks: Sequence[np.ndarray]) -> int:
    """Bits so that the brightest sampled value is used with 14 bits; 0 for whole numbers that fit as they are."""
    brightest = max((float(np.abs(block.astype(np.float64)).max()) for block in blocks), default=0.0)
    whole = all(block.dtype.kind != "f" or bool((block == np.rint(block)).all()) for block in blocks)
    if brightest == 0.0 or (whole and brightest < LARGEST_VALUE / 2):
        return 0
    return 14 - math.frexp(brightest)[1]


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different whole numbers among `values`, rising, and how often each occurs; both int64."""
    lowest = int(values.min())
    if int(values.max()) - lowest < min(4 * values.size, MOST_COUNTERS):  # a tenth of the time of sorting
        from mihc.nuclei_kernels import occurrences

        counts = occurrences(values, lowest, int(values.max()))
        present = np.flatnonzero(counts)
        return present + lowest, counts[present]
    present, counts = np.unique(values, return_counts=True)
    return present.astype(np.int64), counts


def _isodata(values: np.ndarray, counts: np.ndarray) -> float:
    """The threshold midway between the means of the pixels above and below it (Ridler and Calvard 1978).

    `values` are distinct, whole and rising; `counts` say how many pixels have each.
    """
    pixels, total = np.cumsum(counts), np.cumsum(values * counts)
    cut = float(total[-1] / pixels[-1])
    for _ in range(50):
        below = _not_above(values, cut)
        if below in (0, values.size):
            break
        darker = total[below - 1] / pixels[below - 1]
        brighter = (total[-1] - total[below - 1]) / (pixels[-1] - pixels[below - 1])
        new = 0.5 * float(darker + brighter)
        if new == cut:
            break
        cut = new
    return cut


def _not_above(values: np.ndarray, cut: float) -> int:
    """How many of the rising whole `values` are not above the cut."""
    return int(np.searchsorted(values, math.floor(cut), side="right"))


def _middle(values: np.ndarray, counts: np.ndarray) -> float:
    """Median of pixels that have these rising values, each so often."""
    pixels = np.cumsum(counts)
    lower, upper = (int(np.searchsorted(pixels, (pixels[-1] - k) // 2, side="right")) for k in (1, 0))
    return (float(values[lower]) + float(values[upper])) / 2


def _noise(planes: Sequence[np.ndarray], cut: float) -> float:
    """Standard deviation of a background pixel: of differences between neighbours, which blur does not reach."""
    from mihc.nuclei_kernels import steps_in_the_dark

    steps = np.concatenate([steps_in_the_dark(plane, math.floor(cut)) for plane in planes])
    return _middle(*_distinct(steps)) * 1.4826 / math.sqrt(2) if steps.size else 0.0


def gaussian(sigma: float) -> np.ndarray:
    """Gaussian weights as whole numbers in float64; their sum is near 1024."""
    reach = max(1, math.ceil(2.5 * sigma))
    at = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (at / max(sigma, 1e-3)) ** 2)
    return np.rint(1024 * weights / weights.sum())


def diameter_px(pixel_size_um: float | tuple[float, float], nucleus_diameter_um: float) -> float:
    """Diameter of the usual nucleus in pixels; refused below 3, where nothing can be told apart."""
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


def noise_left(weights: np.ndarray) -> float:
    """Share of the standard deviation of white noise that smoothing by `weights` along both axes leaves."""
    return float((weights**2).sum() / weights.sum() ** 2)
