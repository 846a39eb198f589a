"""Tissue, tumour and stroma from pixels, on a coarse level of the slide (about 2 µm per pixel).

Tissue is what is as bright as the surroundings of nuclei, told from glass by having nuclei. Tumour is where the tumour
marker, its nuclei-sized holes closed, rises from the local level of stroma towards that of tumour: patchy staining
moves the local level, speckle and single positive cells are too small. Everything is a fixed rule of the pixels, so the
same slide gives the same outlines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon

from mihc.areas.exclusions import excluded_regions
from mihc.areas.membership import paint
from mihc.areas.outlines import mask_to_polygons
from mihc.areas.region import Region
from mihc.quality.fields import (
    blur,
    blur_within,
    log_light,
    mean_pixel,
    near,
    nucleus_spots,
    quantiles,
    without_gaps,
    without_specks,
)
from mihc.quality.flaws import FLAWS, find_flaws

SMALLEST_TISSUE_UM2 = 2000.0
SMALLEST_LUMEN_UM2 = 2000.0  # smaller holes in tissue are tissue
SMALLEST_NEST_UM2 = 1200.0  # about ten cells
SMALLEST_GAP_UM2 = 800.0  # of stroma within tumour
NUCLEUS_UM = 9.0
EDGE_LEVEL = 0.36  # from stroma to tumour; below half, as closing lifts the level within


@dataclass(frozen=True)
class FoundRegions:
    """What was found on a slide that nobody annotated."""

    regions: list[Region]  # named by their class; excluded ones by their reason
    remarks: list[str]  # what people should look at, in words; empty when all is as it should be


def find_tissue(
    channels: np.ndarray, *, pixel_size_um: tuple[float, float], roles: Sequence[str]
) -> Polygon | MultiPolygon:
    """Return the outline of the tissue in µm, along pixel edges; empty on a slide without nuclei.

    `channels` is (c, y, x) counts of a coarse level with pixels of `pixel_size_um` (y, x); `roles` says what each
    channel is (panel.csv's words). Areas that are 0 in every channel were not scanned and are no tissue.
    """
    return mask_to_polygons(tissue_mask(channels, mean_pixel(pixel_size_um), roles), pixel_size_um=pixel_size_um)


def tissue_mask(channels: np.ndarray, pixel_um: float, roles: Sequence[str]) -> np.ndarray:
    """Return (y, x), True on tissue; see `find_tissue`."""
    scanned = without_gaps(channels.any(axis=0), SMALLEST_LUMEN_UM2, pixel_um)  # a few pixels of 0 are dark, no gap
    spots = nucleus_spots(_sum_of(channels, roles, "nuclei"), pixel_um) & scanned
    if not spots.any():
        return np.zeros(scanned.shape, dtype=bool)
    light = np.zeros(scanned.shape, dtype=np.float32)
    for plane in channels:
        light += log_light(plane, 5.0, pixel_um, scanned)
    beside = light[near(spots, 6.0, pixel_um) & scanned]
    empty = light[scanned & ~near(spots, 36.0, pixel_um)]
    faintest, faint = quantiles(beside, [0.02, 0.25])
    glass = quantiles(empty, [0.1])[0]
    if not glass < faintest:  # no empty place, or none darker than what surrounds nuclei: all of it is tissue
        return scanned
    tissue = scanned & (light > (glass + faint) / 2)
    tissue = without_gaps(tissue, SMALLEST_LUMEN_UM2, pixel_um, scanned)
    return _holding(without_specks(tissue, SMALLEST_TISSUE_UM2, pixel_um), spots)


def _sum_of(channels: np.ndarray, roles: Sequence[str], role: str) -> np.ndarray:
    planes = [plane for plane, its_role in zip(channels, roles) if its_role == role]
    return np.sum(planes, axis=0, dtype=np.float32) if planes else np.zeros(channels.shape[1:], dtype=np.float32)


def _holding(mask: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """Return the mask's islands that hold a spot."""
    labels, count = ndimage.label(mask)
    keep = np.zeros(count + 1, dtype=bool)
    keep[np.unique(labels[spots])] = True
    keep[0] = False
    return keep[labels]


def automatic_regions(
    channels: np.ndarray,
    *,
    pixel_size_um: tuple[float, float],
    roles: Sequence[str],
    tissue: Polygon | MultiPolygon | np.ndarray | None = None,
    flaws: Mapping[str, np.ndarray] | None = None,
    exclude: Sequence[str] = FLAWS,
) -> FoundRegions:
    """Return a slide's tumour, stroma, folds, debris and bubbles as regions whose outlines follow pixel edges.

    Parameters
    ----------
    channels : (c, y, x) counts of a coarse level, about 2 µm per pixel
    pixel_size_um : (y, x) of that level
    roles : what each channel is, in panel.csv's words: the channels of role "tumour" mark tumour epithelium
    tissue : what `find_tissue` found, or its mask (y, x), or None to look for it here
    flaws : masks by name as `find_flaws` gives them, or None to look for them here
    exclude : the names of those that become excluded regions

    Returns
    -------
    FoundRegions
        "tumour" and "stroma" side by side over all tissue; flaws of class "excluded" lie over them and take precedence.
        Without a tumour marker, or where it does not divide the tissue in two, all tissue is "other" and a remark says
        so. Nothing where there is no tissue.
    """
    pixel_um = mean_pixel(pixel_size_um)
    if tissue is None:
        mask = tissue_mask(channels, pixel_um, roles)
    else:
        mask = tissue if isinstance(tissue, np.ndarray) else paint([tissue], [1], channels.shape[1:], pixel_size_um) > 0
    if not mask.any():
        return FoundRegions([], ["no tissue found: no nuclei stand out from the background"])
    flaws = find_flaws(channels, mask, pixel_um) if flaws is None else flaws
    flawed = np.logical_or.reduce([flaws[name] for name in FLAWS if name in flaws] or [np.zeros_like(mask)])
    flat = mask & ~near(flawed, 4.0, pixel_um)
    tumour, remarks = _tumour(channels, roles, flat, pixel_um)
    if flawed.any():  # a fold is bright in the marker too: under it, tumour is what its two sides are
        tumour |= mask & ~flat & (blur_within(tumour, flat, 15.0, pixel_um) > 0.5)
    areas = [("tumour", "tumour", tumour), ("stroma", "stroma", mask & ~tumour)]
    if not tumour.any():
        areas = [("other", "other", mask)]
    regions = [
        Region(name, tissue_class, mask_to_polygons(area, pixel_size_um=pixel_size_um))
        for name, tissue_class, area in areas
        if area.any()
    ]
    regions += excluded_regions(flaws, pixel_size_um=pixel_size_um, exclude=exclude)
    return FoundRegions(regions, remarks)


def _tumour(
    channels: np.ndarray, roles: Sequence[str], tissue: np.ndarray, pixel_um: float
) -> tuple[np.ndarray, list[str]]:
    nothing = np.zeros(tissue.shape, dtype=bool)
    if "tumour" not in roles:
        return nothing, ["no tumour found: the panel has no channel of role tumour; all tissue is other"]
    marker = _closed(_sum_of(channels, roles, "tumour"), pixel_um)
    levels = two_levels(np.log2(np.maximum(blur(marker, 4.0, pixel_um), 0) + _lift(marker, tissue))[tissue])
    if levels is None:
        return nothing, ["no tumour found: the tumour marker does not divide the tissue in two; all tissue is other"]
    smooth = blur(marker, 3.0, pixel_um)
    cut = float(2**levels.cut - _lift(marker, tissue))
    tumour = _tidy(tissue & (smooth > cut), tissue, pixel_um)
    for _ in range(3):  # the cut follows the local levels on both sides
        if not tumour.any() or not (tissue & ~tumour).any():
            break
        bright = blur_within(smooth, tumour, 40.0, pixel_um)
        dark = blur_within(smooth, tissue & ~tumour, 40.0, pixel_um)
        tumour = _tidy(
            tissue & (smooth > dark + EDGE_LEVEL * (bright - dark)) & (smooth > dark * 1.2), tissue, pixel_um
        )
    if not tumour.any():
        return nothing, ["no tumour found: what its marker shows is no larger than single cells; all tissue is other"]
    return tumour, []


def _closed(marker: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return the marker with holes of a nucleus' size closed: nuclei are dark in a cytoplasmic stain."""
    reach = max(1, round(NUCLEUS_UM / 2 / pixel_um))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return ndimage.grey_closing(marker, footprint=x**2 + y**2 <= reach**2 + 0.5, mode="nearest")


def _lift(marker: np.ndarray, tissue: np.ndarray) -> float:
    dark, bright = quantiles(marker[tissue], [0.001, 0.999])
    return max(0.02 * float(bright - dark), 1e-6)


def _tidy(mask: np.ndarray, tissue: np.ndarray, pixel_um: float) -> np.ndarray:
    """Return a mask without specks and gaps, its outline smoothed over a few µm."""
    mask = without_gaps(without_specks(mask, 150.0, pixel_um), 150.0, pixel_um, tissue)
    mask = tissue & (blur_within(mask.astype(np.float32), tissue, 3.0, pixel_um) > 0.5)
    return without_gaps(without_specks(mask, SMALLEST_NEST_UM2, pixel_um), SMALLEST_GAP_UM2, pixel_um, tissue)


@dataclass(frozen=True)
class Levels:
    """Two levels that values gather at, in log2 counts."""

    low: float
    high: float
    cut: float


def two_levels(values: np.ndarray) -> Levels | None:
    """Return the two levels that values gather at, None when they gather at one.

    The cut is Otsu's (1979). Two levels are believed when their distance is at least 4 times the spread within them (a
    normal distribution cut in two has 2.7, a uniform one 3.5) and at least 0.8 (in log2: a factor of 1.7).
    """
    low, high = quantiles(values, [0.0005, 0.9995])
    if not high > low:
        return None
    counts, edges = np.histogram(np.clip(values, low, high), bins=512, range=(low, high))
    centre = (edges[1:] + edges[:-1]) / 2
    n, s, q = (np.cumsum(counts * centre**power) for power in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean0, mean1 = s / n, (s[-1] - s) / (n[-1] - n)
        between = n * (n[-1] - n) * (mean1 - mean0) ** 2
        within = (q - n * mean0**2 + (q[-1] - q) - (n[-1] - n) * mean1**2) / n[-1]
    at = int(np.nanargmax(between))
    apart = (mean1 - mean0)[at]
    if apart < 0.8 or apart < 4 * np.sqrt(max(within[at], 0)):
        return None
    return Levels(float(mean0[at]), float(mean1[at]), float(edges[at + 1]))
