"""Small vector pictures that go into the page itself: the slide with its layers, a histogram, a ledger bar.

They are written by hand because they must be light (dozens to a page) and because a layer that is an element of the
page can be switched on and off without a script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from mihc.plots.bands import margin_lines
from mihc.plots.pictures import Histogram, SlidePicture, jpeg_uri, length_text, scale_bar_um
from mihc.plots.style import AREA_COLOURS, QUIET, REGION_COLOURS, VERDICT_COLOURS, plain

if TYPE_CHECKING:
    from mihc.regions import Region

MOST_POINTS = 1500  # per population and slide; more would be a solid patch at this size


def slide_layers(picture: SlidePicture, colours: dict[str, str], most_points: int = MOST_POINTS) -> Markup:
    """One slide as inline SVG: the thumbnail, a layer of outlines, a layer of dots per population, the scale bar.

    Parameters
    ----------
    picture : SlidePicture
    colours : dict of population to "#rrggbb"
    most_points : int
        Of a population; of more, evenly taken ones are drawn.

    Returns
    -------
    Markup
        Layer k (0 = regions, then populations in the picture's order, then lines around the margin where the picture
        has one) has the classes "layer" and "layer-k".
    """
    height, width = picture.rgb.shape[:2]
    named = enumerate(picture.positives, 1)
    dots = (_dots(picture, name, k, colours[name], most_points) for k, name in named)
    layers = [_outlines(picture), *dots]
    if picture.tumour_um is not None:
        layers.append(margin_lines(picture, len(layers)))
    return Markup(
        '<svg class="slide" viewBox="0 0 {} {}" height="{}" role="img" aria-label="{}">'
        '<image width="{}" height="{}" href="{}"/>{}{}</svg>'
    ).format(
        width,
        height,
        height,
        plain(f"Slide {picture.slide} with its regions and positive cells"),
        width,
        height,
        jpeg_uri(picture.rgb),
        Markup("").join(layers),
        _scale_bar(picture),
    )


_ALONE = Markup(
    "<style>.region,.dots{fill:none;stroke-linejoin:round;stroke-linecap:round}"
    ".scale{fill:#fff;stroke:#0c0f12;stroke-width:.8;paint-order:stroke}"
    "text{font-family:DejaVu Sans,Verdana,Arial,sans-serif}</style>"
)


def slide_svg(picture: SlidePicture, colours: dict[str, str]) -> Markup:
    """The same picture as a file of its own, all layers shown and a legend below."""
    height, width = picture.rgb.shape[:2]
    line = max(height, width) * 0.034
    classes = {region.tissue_class for region in picture.regions}
    key = {name: colour for name, colour in REGION_COLOURS.items() if name in classes} | colours
    entries = [
        Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" stroke="{}"/>'
            '<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}">{}</text>'
        ).format(line * 0.7, y, line * 0.28, colour, QUIET, line * 1.3, y + line * 0.25, line * 0.75, plain(name, 40))
        for (name, colour), y in zip(key.items(), height + line * (0.8 + np.arange(len(key))))
    ]
    whole = height + line * (len(key) + 0.6)
    return Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {:.1f}" width="{}">{}{}{}</svg>\n').format(
        width, whole, width, _ALONE, slide_layers(picture, colours), Markup("").join(entries)
    )


def _outlines(picture: SlidePicture) -> Markup:
    size = max(picture.rgb.shape[:2])
    paths = [
        Markup('<path class="region" d="{}" stroke="{}" stroke-width="{:.1f}"{}><title>{}</title></path>').format(
            polygon_path(region.polygon_um, picture.um_per_px),
            REGION_COLOURS.get(region.tissue_class, QUIET),
            size / 300,
            Markup(' stroke-dasharray="{} {}"').format(size // 90, size // 150)
            if region.tissue_class == "excluded"
            else "",
            plain(f"{region.name} ({region.tissue_class}), {region.polygon_um.area / 1e6:.3g} mm²"),
        )
        for region in sorted(picture.regions, key=drawn_late)
    ]
    return Markup('<g class="layer layer-0">{}</g>').format(Markup("").join(paths))


def drawn_late(region: Region) -> int:
    """Where two regions share a line, that of the tumour is to be seen, and of what is excluded."""
    return {"tumour": 1, "excluded": 2}.get(region.tissue_class, 0)


def polygon_path(polygon: object, um_per_px: float) -> str:
    """A polygon or multipolygon in µm as an SVG path in thumbnail pixels, simplified by at most half a pixel."""
    simple = polygon.simplify(0.5 * um_per_px)
    parts = [part for part in getattr(simple, "geoms", [simple]) if part.geom_type == "Polygon" and not part.is_empty]
    return "".join(_ring(ring.coords, um_per_px) for part in parts for ring in (part.exterior, *part.interiors))


def _ring(coordinates: Sequence, um_per_px: float) -> str:
    """A closed ring in tenths of a pixel, each point as a step from the one before, which takes half the letters."""
    tenths = np.round(np.asarray(coordinates, dtype=float)[:-1, :2] / um_per_px * 10).astype(np.int64)
    steps = np.diff(tenths, axis=0)
    walked = "".join(f"{_tenth(x)}{' ' if y >= 0 else ''}{_tenth(y)}" + " " for x, y in steps.tolist() if x or y)
    x, y = tenths[0].tolist()
    return f"M{_tenth(x)} {_tenth(y)}" + (f"l{walked.rstrip()}" if walked else "") + "z"


def _tenth(tenths: int) -> str:
    """A number of tenths in as few letters as SVG allows: 12 as "1.2", -3 as "-.3", 40 as "4"."""
    whole, rest = divmod(abs(tenths), 10)
    return f"{'-' if tenths < 0 else ''}{whole or ('' if rest else '0')}{f'.{rest}' if rest else ''}"


def _dots(picture: SlidePicture, population: str, layer: int, colour: str, most: int) -> Markup:
    shown = shown_points(picture.positives[population], picture.um_per_px, most)
    steps = np.diff(shown, axis=0, prepend=[[0, 0]]) if len(shown) else shown
    path = "".join(f"m{dx} {dy}h0" for dx, dy in steps)
    return Markup(
        '<path class="layer layer-{} dots" d="{}" stroke="{}" stroke-width="{:.1f}"><title>{}</title></path>'
    ).format(layer, path, colour, max(picture.rgb.shape[:2]) / 190, plain(f"{population} positive"))


def shown_points(points_um: np.ndarray, um_per_px: float, most: int = MOST_POINTS) -> np.ndarray:
    """Thumbnail pixels that hold at least one of the points, (n, 2) x, y integers; evenly thinned to `most`."""
    points = np.asarray(points_um, dtype=float).reshape(-1, 2)
    pixels = np.unique(np.floor(points / um_per_px).astype(np.int64)[:, ::-1], axis=0)[:, ::-1]
    if len(pixels) > most:
        pixels = pixels[np.linspace(0, len(pixels) - 1, most).astype(np.int64)]
    return pixels


def _scale_bar(picture: SlidePicture) -> Markup:
    height, width = picture.rgb.shape[:2]
    length_um = scale_bar_um(width * picture.um_per_px)
    size = max(height, width)
    left, top, bar = size * 0.02, height - size * 0.025, length_um / picture.um_per_px
    return Markup(
        '<g class="scale"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
        '<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}">{}</text></g>'
    ).format(left, top, bar, size * 0.008, left, top - size * 0.012, size * 0.032, length_text(length_um))


def histogram_svg(histogram: Histogram, *, value: float, low: float, high: float, verdict: str) -> Markup:
    """A marker's values on a slide (square roots of cells over counts on a log1p axis), its threshold and interval.

    An undefined threshold or interval is not drawn. The axis names where it starts, its middle and where it ends.
    """
    width, height, foot = 220.0, 54.0, 16.0
    place = _log_axis(histogram.edges, width)
    tall = np.sqrt(histogram.counts / max(1, histogram.counts.max()))
    parts = [
        Markup('<path d="{}" fill="{}"/>').format(
            _steps(place(histogram.edges), height * (1 - tall), height), "#9fb3c4"
        )
    ]
    colour = VERDICT_COLOURS["warn"] if verdict == "cannot tell" else "#16324a"
    if np.isfinite([low, high]).all():
        x0, x1 = place(np.array([low, high]))
        parts.insert(
            0,
            Markup('<rect x="{:.1f}" width="{:.1f}" height="{:g}" fill="{}"/>').format(
                x0, max(1, x1 - x0), height, "#d0802b40"
            ),
        )
    if np.isfinite(value):
        x = float(place(np.array([value]))[0])
        parts.append(Markup('<path d="M{:.1f} 0v{:g}" stroke="{}" stroke-width="1.6"/>').format(x, height, colour))
    axis = Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = short_number(axis_value(histogram.edges, share))
        parts.append(axis.format(share * width, height + foot - 2, anchor, at))
    return Markup(
        '<svg class="histogram" viewBox="0 0 {:g} {:g}" role="img" aria-label="distribution of the cells">{}</svg>'
    ).format(width, height + foot, Markup("").join(parts))


def _steps(edges: np.ndarray, tops: np.ndarray, floor: float) -> str:
    """Bars side by side as one outline; equal neighbours are one step."""
    ends = [*(np.flatnonzero(np.diff(np.round(tops, 1))) + 1).tolist(), len(tops)]
    x, y = (np.round(values, 1).tolist() for values in (edges, tops))
    return f"M{x[0]:g} {floor:g}" + "".join(f"V{y[end - 1]:g}H{x[end]:g}" for end in ends) + f"V{floor:g}z"


def _log_axis(edges: np.ndarray, width: float) -> Callable[[np.ndarray], np.ndarray]:
    base = min(0.0, float(edges[0]))
    first, last = np.log1p(edges[0] - base), np.log1p(edges[-1] - base)
    span = max(float(last - first), 1e-9)
    return lambda values: np.clip((np.log1p(np.maximum(values - base, 0.0)) - first) / span, 0.0, 1.0) * width


def axis_value(edges: np.ndarray, share: float) -> float:
    """The counts at a share of the way along the log1p axis of a histogram with these edges."""
    base = min(0.0, float(edges[0]))
    first, last = np.log1p(edges[0] - base), np.log1p(edges[-1] - base)
    return float(np.expm1(first + share * (last - first)) + base)


def short_number(value: float) -> str:
    """A number for an axis: whole from 100 on, else three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ledger_svg(ledger: pd.DataFrame) -> Markup:
    """One slide's scanned area as a bar: glass, then what the tissue is; `ledger` is its rows of area_ledger.csv."""
    areas = ledger_areas(ledger)
    total, left, parts = sum(areas.values()), 0.0, []
    for category, area in areas.items():
        share = 600.0 * area / total if total > 0 else 0.0
        parts.append(
            Markup('<rect x="{:.2f}" width="{:.2f}" height="16" fill="{}"><title>{}</title></rect>').format(
                left, share, AREA_COLOURS[category], f"{category}: {area:.4g} mm²"
            )
        )
        left += share
    return Markup(
        '<svg class="ledger" viewBox="0 0 600 16" preserveAspectRatio="none" role="img" '
        'aria-label="area ledger">{}</svg>'
    ).format(Markup("").join(parts))


def ledger_areas(ledger: pd.DataFrame) -> dict[str, float]:
    """mm² of each part of the scanned area, in the order they are drawn; parts without area are left out."""
    sums = ledger.groupby("category")["area_mm2"].sum()
    order = ("tumour", "stroma", "other", "excluded", "unannotated", "glass")
    return {category: float(sums[category]) for category in order if sums.get(category, 0.0) > 0}
