"""The picture of a slide: what the pipeline hands over, and how small it can be made for a report."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import shapely

    from mihc.regions import Region


@dataclass(frozen=True)
class Histogram:
    """How often values occur: what is left of a million cells when a figure needs their distribution."""

    edges: np.ndarray  # (k + 1,) float, rising
    counts: np.ndarray  # (k,) integer


Histograms = Mapping[str, dict[str, Histogram]]  # slide -> marker -> its values over the slide's cells


@dataclass(frozen=True)
class SlidePicture:
    """What a report shows of one slide."""

    slide: str
    rgb: np.ndarray  # (y, x, 3) uint8, a low level of the pyramid in the panel's colours
    um_per_px: float  # of `rgb`
    regions: Sequence[Region]  # the partition, in µm of the slide
    positives: dict[str, np.ndarray]  # population -> (n, 2) x_um, y_um of its positive cells
    panel: str = ""
    histograms: dict[str, Histogram] = field(default_factory=dict)  # marker -> its values over the slide's cells
    tumour_um: shapely.Geometry | None = None  # whose outline is the margin, before anything is excluded from it
    bands_um: tuple[float, float] = (25.0, 250.0)  # width and reach of the bands around it


def composite(
    planes: np.ndarray, colours: Sequence[str], windows: Sequence[tuple[float, float]] | None = None
) -> np.ndarray:
    """Mix channels to one picture on black, each in its colour, by screening: light adds up and never overflows.

    Parameters
    ----------
    planes : (c, y, x) array
        A low level of the pyramid.
    colours : sequence of "RRGGBB", one per plane
    windows : sequence of (start, end) counts, one per plane
        None: from the 25th percentile to the 99.8th, or to four times the 25th where that is more, so that a channel
        without signal stays dark and is not stretched until its noise shines.

    Returns
    -------
    (y, x, 3) uint8
    """
    dark = np.ones((*planes.shape[1:], 3), dtype=np.float32)
    for index, (plane, colour) in enumerate(zip(planes, colours, strict=True)):
        start, end = windows[index] if windows else _display_window(plane)
        light = np.clip((plane.astype(np.float32) - start) / max(float(end) - float(start), 1e-6), 0.0, 1.0)
        dark *= 1.0 - light[..., None] * (np.frombuffer(bytes.fromhex(colour), dtype=np.uint8) / np.float32(255))
    return ((1.0 - dark) * 255 + 0.5).astype(np.uint8)


def _display_window(plane: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(plane, [25.0, 99.8])
    return float(low), float(max(high, 4.0 * low))


def value_histogram(values: np.ndarray, bins: int = 72) -> Histogram:
    """Count values in bins that are even on a log1p axis, from the 0.1st to the 99.9th percentile.

    Parameters
    ----------
    values : (n,) float
        NaN are left out; values beyond the percentiles fall into the first and last bin. Nothing left, or one
        value only: a histogram of one bin.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Histogram(np.array([0.0, 1.0]), np.array([0]))
    low, high = np.percentile(known, [0.1, 99.9])
    if high <= low:
        return Histogram(np.array([low, low + 1.0]), np.array([len(known)]))
    base = min(0.0, float(low))
    edges = np.expm1(np.linspace(np.log1p(low - base), np.log1p(high - base), bins + 1)) + base
    edges[0], edges[-1] = low, high
    return Histogram(edges, np.histogram(np.clip(known, low, high), edges)[0])


def shrunk(picture: SlidePicture, longest_px: int) -> SlidePicture:
    """The same picture with its longer side at most `longest_px`, averaged down; never enlarged."""
    from dataclasses import replace

    from PIL import Image

    height, width = picture.rgb.shape[:2]
    factor = longest_px / max(height, width)
    if factor >= 1.0:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(Image.fromarray(picture.rgb).resize(size, Image.Resampling.BOX))
    return replace(picture, rgb=small, um_per_px=picture.um_per_px * width / size[0])


def jpeg_uri(rgb: np.ndarray, quality: int = 70) -> str:
    """A (y, x, 3) uint8 picture as a data URI.

    A JPEG goes into a printed PDF as it is; a WebP, a fifth smaller here, would be ten times larger there.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, format="JPEG", quality=quality, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a data URI, so that a page needs no second file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def scale_bar_um(width_um: float) -> float:
    """The round length (1, 2 or 5 times a power of ten, µm) nearest below a quarter of the picture's width."""
    target = max(width_um / 4.0, 1e-9)
    power = 10.0 ** np.floor(np.log10(target))
    return float(max(step for step in (1.0, 2.0, 5.0) if step * power <= target * (1 + 1e-12)) * power)


def length_text(um: float) -> str:
    """A length for a scale bar: "200 µm", "2 mm"."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"
