"""QPTIFF (Akoya) and inForm's component TIFF: XML on every page says which picture it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tifffile

from mihc.slides.contents import Refusal, SceneContents, SlideContents, unreadable
from mihc.slides.markup import child, parse_xml, text_of
from mihc.slides.tiff_pages import TiffSkeleton, tag_claim
from mihc.slides.tiff_scene import PlaneGrid, tiff_scene

_MARK = "PerkinElmer-QPI-ImageDescription"


@dataclass(frozen=True)
class QpiPage:
    """One page, and what its XML says of it."""

    page: tifffile.TiffPage
    kind: str  # "FullResolution" | "ReducedResolution" | "Thumbnail" | "Overview" | "Label"
    name: str
    objective: str


def is_qptiff(skeleton: TiffSkeleton) -> bool:
    """Whether the file is written by Akoya's software."""
    return skeleton.software.startswith("PerkinElmer-QPI") or _MARK in skeleton.description[:4096]


def read_qptiff(skeleton: TiffSkeleton) -> SlideContents:
    """The contents of a QPTIFF; no pixel is read.

    Only pages that say FullResolution are the slide. Label, overview and thumbnail are never decoded, and neither is
    a page that says nothing.
    """
    pages = [_describe(skeleton, page) for page in skeleton.pages]
    full = [each for each in pages if each.kind == "FullResolution"]
    if not full:
        raise unreadable(skeleton.path, "a QPTIFF without a full-resolution page")
    ignored = [each for each in pages if each.kind not in ("FullResolution", "ReducedResolution")]
    names = tuple(f"{each.kind or 'unnamed'} page" for each in ignored)
    reduced = [each.page for each in pages if each.kind == "ReducedResolution"]
    return SlideContents(skeleton.path, "QPTIFF", (_scene(skeleton, full, reduced),), ignored=names)


def _describe(skeleton: TiffSkeleton, page: tifffile.TiffPage) -> QpiPage:
    text = page.description or ""
    if _MARK not in text:
        return QpiPage(page, "", "", "")
    root = parse_xml(text, skeleton.path, f"description of page {page.index}")
    kind = text_of(child(root, "ImageType"))
    name = text_of(child(root, "Biomarker")) or text_of(child(root, "Name"))
    return QpiPage(page, kind, name, text_of(child(root, "Objective")))


def _scene(skeleton: TiffSkeleton, full: Sequence[QpiPage], reduced: Sequence[tifffile.TiffPage]) -> SceneContents:
    first = full[0].page
    size = (first.imagelength, first.imagewidth)
    samples = first.samplesperpixel
    names = [each.name for each in full] if samples == 1 else [""] * (samples * len(full))
    claim = tag_claim(first)
    return tiff_scene(
        skeleton,
        PlaneGrid([[each.page] for each in full], names, *size, len(names)),
        name="",
        pixel_sizes=(claim,) if claim else (),
        levels=_levels(size, reduced),
        refusals=_refusals(full, reduced),
        facts=_objective(full[0].objective),
    )


def _levels(size: tuple[int, int], reduced: Sequence[tifffile.TiffPage]) -> list[tuple[int, int]]:
    return list(dict.fromkeys([size, *[(page.imagelength, page.imagewidth) for page in reduced]]))


def _refusals(full: Sequence[QpiPage], reduced: Sequence[tifffile.TiffPage]) -> list[Refusal]:
    """Full-resolution pages that do not fit each other, or fewer of them than a pyramid level has."""
    first = full[0].page
    for each in full[1:]:
        if (each.page.imagelength, each.page.imagewidth) != (first.imagelength, first.imagewidth):
            return [Refusal(f"full-resolution pages {first.index} and {each.page.index} differ in size")]
    per_level: dict[tuple[int, int], int] = {}
    for page in reduced:
        size = (page.imagelength, page.imagewidth)
        per_level[size] = per_level.get(size, 0) + 1
    most = max(per_level.values(), default=0)
    if most > len(full):
        return [Refusal(f"{most} channels in a pyramid level, {len(full)} present at full resolution")]
    return []


def _objective(text: str) -> dict[str, str]:
    number = text.split("x", 1)[0].strip()
    return {"objective": f"{float(number):g}x"} if number.replace(".", "", 1).isdecimal() else {}
