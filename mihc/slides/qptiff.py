"""QPTIFF (Akoya) and inForm's component TIFF: XML on every page says which picture it belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import tifffile

from mihc.slides.contents import Refusal, SceneContents, SlideContents, unreadable
from mihc.slides.markup import child, parse_xml, text_of
from mihc.slides.tiff_pages import COPY_AGAIN, TiffSkeleton, tag_claim
from mihc.slides.tiff_scene import PlaneGrid, tiff_scene

_MARK = "PerkinElmer-QPI-ImageDescription"


@dataclass(frozen=True)
class QpiPage:
    """One page, and what its XML says of it."""

    page: tifffile.TiffPage
    kind: str  # "FullResolution" | "ReducedResolution" | "Thumbnail" | "Overview" | "Label"
    name: str
    dye: str
    unmixed: bool | None  # None = it does not say
    objective: str


def is_qptiff(skeleton: TiffSkeleton) -> bool:
    """Whether the file is written by Akoya's software."""
    return skeleton.software.startswith("PerkinElmer-QPI") or _MARK in skeleton.description


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
    silent = [each.page for each in ignored if not each.kind and _alike(each.page, full[0].page)]
    return SlideContents(skeleton.path, "QPTIFF", (_scene(skeleton, full, reduced, silent),), ignored=names)


def _alike(one: tifffile.TiffPage, other: tifffile.TiffPage) -> bool:
    return (one.imagelength, one.imagewidth, one.dtype) == (other.imagelength, other.imagewidth, other.dtype)


def _describe(skeleton: TiffSkeleton, page: tifffile.TiffPage) -> QpiPage:
    text = page.description or ""
    if _MARK not in text:
        return QpiPage(page, "", "", "", None, "")
    root = parse_xml(text, skeleton.path, f"description of page {page.index}")
    kind = text_of(child(root, "ImageType"))
    name, biomarker = text_of(child(root, "Name")), text_of(child(root, "Biomarker"))
    unmixed = {"true": True, "false": False}.get(text_of(child(root, "IsUnmixedComponent")).casefold())
    dye = _dye(name, biomarker)
    return QpiPage(page, kind, biomarker or name, dye, unmixed, text_of(child(root, "Objective")))


def _dye(name: str, biomarker: str) -> str:
    """The dye: in brackets after the marker, "CD8 (Opal 540)", or the whole name beside a Biomarker."""
    bracket = re.search(r"\(([^()]*)\)\s*$", name)
    if bracket is not None:
        return bracket.group(1).strip()
    return name if biomarker and name != biomarker else ""


def _scene(
    skeleton: TiffSkeleton,
    full: Sequence[QpiPage],
    reduced: Sequence[tifffile.TiffPage],
    silent: Sequence[tifffile.TiffPage],
) -> SceneContents:
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
        refusals=_refusals(full, reduced, silent),
        warnings=_warnings(full),
        facts={**_objective(full[0].objective), **_unmixed(full)},
        dyes=[each.dye for each in full] if samples == 1 else (),
    )


def _warnings(full: Sequence[QpiPage]) -> list[str]:
    """Unmixed and raw channels side by side have no common scale, and raw ones hold their neighbours' light."""
    raw = [at for at, each in enumerate(full) if each.unmixed is False]
    if raw and len(raw) < len(full) and any(each.unmixed for each in full):
        return [f"channels {', '.join(map(str, raw))} are not unmixed, the others are"]
    return []


def _unmixed(full: Sequence[QpiPage]) -> dict[str, str]:
    said = {each.unmixed for each in full}
    if said == {None}:
        return {}
    return {"unmixed": "yes" if said == {True} else "no" if True not in said else "in part"}


def _levels(size: tuple[int, int], reduced: Sequence[tifffile.TiffPage]) -> list[tuple[int, int]]:
    return list(dict.fromkeys([size, *[(page.imagelength, page.imagewidth) for page in reduced]]))


def _refusals(
    full: Sequence[QpiPage], reduced: Sequence[tifffile.TiffPage], silent: Sequence[tifffile.TiffPage]
) -> list[Refusal]:
    """Full-resolution pages that do not fit each other, or another number of them than a pyramid level has."""
    first = full[0].page
    if silent:
        text = f"page {silent[0].index} has the size of a channel and does not say which picture it is"
        return [Refusal(text, COPY_AGAIN)]
    for each in full[1:]:
        if (each.page.imagelength, each.page.imagewidth) != (first.imagelength, first.imagewidth):
            return [Refusal(f"full-resolution pages {first.index} and {each.page.index} differ in size")]
    per_level: dict[tuple[int, int], int] = {}
    for page in reduced:
        size = (page.imagelength, page.imagewidth)
        per_level[size] = per_level.get(size, 0) + 1
    for size, count in per_level.items():
        if count != len(full):
            level = f"the pyramid level of {size[1]} x {size[0]} px"
            return [Refusal(f"{count} channels in {level}, {len(full)} present at full resolution", COPY_AGAIN)]
    return []


def _objective(text: str) -> dict[str, str]:
    number = text.split("x", 1)[0].strip()
    return {"objective": f"{float(number):g}x"} if number.replace(".", "", 1).isdecimal() else {}
