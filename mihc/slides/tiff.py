"""Plain multi-page TIFF and ImageJ stacks: one page per channel, names where the pages have them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import tifffile

from mihc.slides.contents import PixelSizeClaim, Refusal, SceneContents, SlideContents
from mihc.slides.pixel_size import resolution_claim, um_per
from mihc.slides.tiff_pages import TiffSkeleton, tag_claim, tag_resolution
from mihc.slides.tiff_scene import PlaneGrid, is_smaller_level, tiff_scene

_COLOURED = frozenset({2, 3, 5, 6, 8})


def read_tiff(skeleton: TiffSkeleton) -> SlideContents:
    """The contents of a TIFF without OME or Akoya metadata; no pixel is read.

    Pages of the first page's size are its channels, in order. Smaller pages of the same shape are its pyramid;
    coloured or single smaller pages beside it are previews and ignored; pages of another size are further scenes.
    """
    if "ImageJ=" in skeleton.description[:64]:
        return SlideContents(skeleton.path, "TIFF", (_imagej_scene(skeleton),))
    groups = _groups(skeleton.pages)
    scenes: list[tuple[list[tifffile.TiffPage], list[tuple[int, int]]]] = []
    ignored: list[str] = []
    for pages in groups:
        page = pages[0]
        size = (page.imagelength, page.imagewidth)
        owner = scenes[0][0] if scenes else None
        full = (owner[0].imagelength, owner[0].imagewidth) if owner else (0, 0)
        smaller = owner is not None and size[0] < full[0] and size[1] < full[1]
        if smaller and len(pages) == len(owner) and is_smaller_level(full, size) and not _coloured(page):
            scenes[0][1].append(size)
        elif smaller and (_coloured(page) or page.is_reduced):
            ignored.append(f"page {page.index}, {size[1]} x {size[0]} px")
        else:
            scenes.append((pages, [size]))
    described = tuple(_scene(skeleton, pages, levels, at) for at, (pages, levels) in enumerate(scenes))
    return SlideContents(skeleton.path, "TIFF", described, ignored=tuple(ignored))


def _coloured(page: tifffile.TiffPage) -> bool:
    return page.photometric in _COLOURED


def _groups(pages: Sequence[tifffile.TiffPage]) -> list[list[tifffile.TiffPage]]:
    """Pages of one size, type and colour, in the order of their first."""
    groups: dict[tuple, list[tifffile.TiffPage]] = {}
    for page in pages:
        key = (
            page.imagelength,
            page.imagewidth,
            page.samplesperpixel,
            page.bitspersample,
            page.sampleformat,
            page.photometric,
        )
        groups.setdefault(key, []).append(page)
    return list(groups.values())


def _scene(
    skeleton: TiffSkeleton, pages: Sequence[tifffile.TiffPage], levels: Sequence[tuple[int, int]], at: int
) -> SceneContents:
    first = pages[0]
    names = [str(page.tags.valueof("PageName") or "") for page in pages]
    if first.samplesperpixel > 1 or len(pages) == 1:
        names = [""] * (len(pages) * first.samplesperpixel)
    claim = tag_claim(first)
    return tiff_scene(
        skeleton,
        PlaneGrid([[page] for page in pages], names, first.imagelength, first.imagewidth, len(names)),
        name=f"image {at}" if at else "",
        pixel_sizes=(claim,) if claim else (),
        levels=levels,
        refusals=() if at else _shape_refusals(skeleton, pages),
    )


def _imagej_scene(skeleton: TiffSkeleton) -> SceneContents:
    """An ImageJ hyperstack: channels fastest, then focal planes, then time."""
    first = skeleton.pages[0]
    told = dict(line.split("=", 1) for line in skeleton.description.splitlines() if "=" in line)
    c, z, t = (max(1, _whole(told.get(key, "1"))) for key in ("channels", "slices", "frames"))
    images = max(_whole(told.get("images", "1")), 1)
    if c * z * t != images:
        c, z, t = images, 1, 1
    c, z, t = min(c, 100_000), min(z, 100_000), min(t, 100_000)
    one_page = len(skeleton.pages) == 1 and images > 1 and first.compression == 1
    stack_bytes = first.imagelength * first.imagewidth * (first.dtype.itemsize if first.dtype else 1) if one_page else 0
    pages = [[_imagej_page(skeleton, one_page, k * c + i) for k in range(z)] for i in range(min(c, 1000))]
    surplus = len(skeleton.pages) > images
    claim = _imagej_claim(first, told.get("unit", ""))
    coloured = c * first.samplesperpixel
    return tiff_scene(
        skeleton,
        PlaneGrid(pages, [""] * coloured, first.imagelength, first.imagewidth, coloured, stack_bytes, True),
        name="",
        pixel_sizes=(claim,) if claim else (),
        levels=[(first.imagelength, first.imagewidth)],
        z_planes=z,
        time_points=t,
        refusals=[_count_refusal(images, len(skeleton.pages))] if surplus else (),
    )


def _count_refusal(declared: int, present: int) -> Refusal:
    return Refusal(f"its description declares {declared} planes, {present} pages are present", "Export it again.")


def _shape_refusals(skeleton: TiffSkeleton, pages: Sequence[tifffile.TiffPage]) -> list[Refusal]:
    """tifffile writes the shape of the array as JSON; with `truncate` one page stands for all, and only it is read."""
    if not skeleton.description.startswith('{"shape": ['):
        return []
    try:
        shape = [int(side) for side in json.loads(skeleton.description)["shape"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return []
    page = pages[0].imagelength * pages[0].imagewidth * pages[0].samplesperpixel
    declared = math.prod(shape) // page if page and math.prod(shape) % page == 0 else len(pages)
    return [_count_refusal(declared, len(pages))] if declared > len(pages) else []


def _imagej_page(skeleton: TiffSkeleton, one_page: bool, index: int) -> tifffile.TiffPage | None:
    if one_page:
        return skeleton.pages[0]
    return skeleton.pages[index] if index < len(skeleton.pages) else None


def _imagej_claim(page: tifffile.TiffPage, unit: str) -> PixelSizeClaim | None:
    """ImageJ counts pixels per its own unit, whatever ResolutionUnit says."""
    if not unit.strip() or unit.strip().casefold() in {"pixel", "pixels"}:
        return tag_claim(page)
    um = um_per(unit)
    resolution = tag_resolution(page)
    if um is None and resolution is not None:
        return PixelSizeClaim("ImageJ unit", problem=f"gives it in the unit “{unit}”, which is no length")
    return resolution_claim(resolution, None if um is None else float(um))


def _whole(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 1
