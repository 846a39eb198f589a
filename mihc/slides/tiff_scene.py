"""From pages to a scene: what OME-TIFF, QPTIFF and plain TIFF have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tifffile

from mihc.slides.contents import PixelSizeClaim, PixelSource, Refusal, SceneContents, size_refusal
from mihc.slides.tiff_inventory import segment_table, shared_segments
from mihc.slides.tiff_levels import sub_levels
from mihc.slides.tiff_pages import COPY_AGAIN, TiffSkeleton, page_facts, page_refusal
from mihc.slides.tiff_pixels import TiffPixels, TiffPlane, decode_segment

# Pictures of the glass and its label: they may show a patient's name and are never decoded.
IGNORED_NAMES = frozenset({"label", "label image", "macro", "macro image", "overview", "thumbnail", "slidepreview"})


@dataclass(frozen=True)
class PlaneGrid:
    """The pages of a scene as planes[c][z]; a page with several samples a pixel stands for several channels."""

    pages: Sequence[Sequence[tifffile.TiffPage | None]]
    names: Sequence[str]
    height: int
    width: int
    channels: int  # as declared
    stack_bytes: int = 0  # from one plane to the next when the first page stands for all (large ImageJ stacks)
    palette_is_display: bool = False  # ImageJ's colour tables


def tiff_scene(
    skeleton: TiffSkeleton,
    grid: PlaneGrid,
    *,
    name: str,
    pixel_sizes: Sequence[PixelSizeClaim],
    levels: Sequence[tuple[int, int]],
    z_planes: int = 1,
    time_points: int = 1,
    significant_bits: int | None = None,
    refusals: Sequence[Refusal] = (),
    warnings: Sequence[str] = (),
    facts: dict[str, str] | None = None,
    dyes: Sequence[str] = (),
) -> SceneContents:
    """A scene from its pages; whatever is wrong with them is among its refusals."""
    found = [page for channel in grid.pages for page in channel if page is not None]
    problems = list(refusals)
    size = size_refusal((grid.channels, grid.height, grid.width))
    problems += [size] if size else []
    planes: list[list[TiffPlane]] = []
    if found and not size:
        problems += _page_problems(found, palette_is_display=grid.palette_is_display)
    if not problems:
        planes, table_problems = _planes(skeleton, grid)
        problems += table_problems
    dtype = found[0].dtype if found and found[0].dtype is not None else np.dtype(np.uint8)
    return SceneContents(
        name=name,
        shape=(grid.channels, grid.height, grid.width),
        dtype=np.dtype(dtype).newbyteorder("="),
        channels=tuple(grid.names),
        pixel_sizes=tuple(pixel_sizes),
        open_pixels=_opener(skeleton, planes),
        z_planes=z_planes,
        time_points=time_points,
        levels=(*levels, *_sub_levels(skeleton, found)),
        significant_bits=significant_bits,
        dyes=tuple(dyes),
        refusals=tuple(problems),
        warnings=tuple(warnings),
        facts={**(page_facts(skeleton, found[0]) if found else {}), **(facts or {})},
    )


def _opener(skeleton: TiffSkeleton, planes: list[list[TiffPlane]]) -> Callable[[], PixelSource]:
    def open_pixels() -> TiffPixels:
        return TiffPixels(skeleton.path, planes)

    return open_pixels


def _page_problems(pages: Sequence[tifffile.TiffPage], *, palette_is_display: bool) -> list[Refusal]:
    for page in pages:
        refusal = page_refusal(page, palette_is_display=palette_is_display)
        if refusal is not None:
            return [refusal]
        if page.dtype != pages[0].dtype or page.samplesperpixel != pages[0].samplesperpixel:
            return [
                Refusal(f"page {page.index} has {page.dtype.name} pixels, page {pages[0].index} {pages[0].dtype.name}")
            ]
    return []


def _planes(skeleton: TiffSkeleton, grid: PlaneGrid) -> tuple[list[list[TiffPlane]], list[Refusal]]:
    planes: list[list[TiffPlane]] = []
    for at, channel in enumerate(grid.pages):
        columns: list[list[TiffPlane]] = []
        for z, page in enumerate(channel):
            if page is None:
                return [], [Refusal(f"no page for channel {at}", "Export the slide again.")]
            table = segment_table(skeleton, page, f"page {page.index} (channel {at})")
            if isinstance(table, Refusal):
                return [], [table]
            shift = grid.stack_bytes * (z * len(grid.pages) + at)
            if int(table[0][0]) + shift + grid.stack_bytes > skeleton.size:
                return [], [
                    Refusal(f"truncated: the plane of channel {at} ends beyond file size {skeleton.size}", COPY_AGAIN)
                ]
            columns.append([TiffPlane(page, *table, sample, shift) for sample in range(page.samplesperpixel)])
        planes += [list(of_sample) for of_sample in zip(*columns)]
    if len(planes) != grid.channels:
        return [], [Refusal(f"{grid.channels} channels declared, {len(planes)} present", "Export the slide again.")]
    return planes, _used_twice(skeleton, grid)


def _used_twice(skeleton: TiffSkeleton, grid: PlaneGrid) -> list[Refusal]:
    """Pages or tiles that stand for two places of the picture, unless they hold one value everywhere."""
    pages = [page for channel in grid.pages for page in channel if page is not None]
    if grid.stack_bytes == 0 and len({page.index for page in pages}) < len(pages):
        twice = next(page for at, page in enumerate(pages) if page in pages[:at])
        return [Refusal(f"page {twice.index} stands for two channels or focal planes", COPY_AGAIN)]
    shared = shared_segments(list({page.index: page for page in pages}.values()))
    if isinstance(shared, Refusal):
        return [shared]
    with skeleton.path.open("rb") as file:
        for page, index in shared:
            plane = TiffPlane(page, page.dataoffsets, page.databytecounts)
            file.seek(int(plane.offsets[index]))
            pixels = decode_segment(skeleton.path, plane, index, file.read(int(plane.counts[index])))
            if (pixels != pixels.flat[0]).any():
                kind = "tile" if page.is_tiled else "strip"
                text = f"{kind} {index} of page {page.index} stands for several places of the picture"
                return [Refusal(f"{text}, so others are missing", COPY_AGAIN)]
    return []


def _sub_levels(skeleton: TiffSkeleton, pages: Sequence[tifffile.TiffPage]) -> tuple[tuple[int, int], ...]:
    """(y, x) of the first page's SubIFDs; every page's are checked."""
    shapes = [sub_levels(skeleton, page) for page in dict.fromkeys(pages)]
    return shapes[0] if shapes else ()


def is_smaller_level(full: tuple[int, int], smaller: tuple[int, int]) -> bool:
    """Whether (y, x) is `full` divided by one whole number of at least 2, up to rounding."""
    if min(smaller) < 1 or smaller[1] >= full[1]:
        return False
    factor = round(full[1] / smaller[1]) if full[1] >= full[0] else round(full[0] / smaller[0])
    return factor >= 2 and all(abs(a / factor - b) <= 1 for a, b in zip(full, smaller))
