"""OME-TIFF: pages mapped to channels by the OME-XML of the first page.

The mapping is read here and not by tifffile, because it must say which plane is missing, must not open the other
files that a multi-file set names, and must not take a missing plane for a black one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import tifffile

from mihc.slides.contents import PixelSizeClaim, Refusal, SceneContents, SlideContents, unreadable
from mihc.slides.markup import child, children, local_name, parse_xml
from mihc.slides.pixel_size import claim_of
from mihc.slides.tiff_pages import TiffSkeleton, tag_claim
from mihc.slides.tiff_scene import IGNORED_NAMES, PlaneGrid, is_smaller_level, tiff_scene

_OME_TYPES = {"float": "float32", "double": "float64", "bit": "bool"}


@dataclass(frozen=True)
class OmeImage:
    """One Image element, and the page of each of its planes."""

    name: str
    size: tuple[int, int, int, int, int]  # c, z, t, y, x
    dtype: str
    channels: tuple[tuple[str, int], ...]  # name and samples per pixel
    pages: dict[tuple[int, int, int], int]  # (c, z, t) -> page
    elsewhere: int  # planes that the XML puts into other files
    twice: int  # planes that the XML puts on two pages
    dyes: tuple[str, ...]
    pixel_sizes: tuple[PixelSizeClaim, ...]
    significant_bits: int | None
    unit_missing: bool


def is_ome_tiff(skeleton: TiffSkeleton) -> bool:
    """Whether the first page's description is OME-XML."""
    text = skeleton.description
    return "<OME" in text[:4096] or "<ome:OME" in text[:4096] or text.rstrip().endswith("OME>")


def read_ome_tiff(skeleton: TiffSkeleton) -> SlideContents:
    """The contents of an OME-TIFF; no pixel is read."""
    root = parse_xml(skeleton.description, skeleton.path, "OME-XML")
    own = root.get("UUID", "")
    images = [_read_image(element, own, len(skeleton.pages), skeleton) for element in children(root, "Image")]
    images = [image for image in images if image is not None]
    if not images:
        raise unreadable(skeleton.path, "its OME-XML describes no image", "Open the file that holds the pixels.")
    kept = [image for image in images if image.name.casefold() not in IGNORED_NAMES] or images[:1]
    full, levels = _fold_levels(kept)
    objective = _objective(root)
    spare = _unclaimed(images, skeleton)
    scenes = tuple(_scene(skeleton, image, levels[i], objective, spare) for i, image in enumerate(full))
    ignored = tuple(image.name for image in images if image.name.casefold() in IGNORED_NAMES)
    ignored += tuple(page_words(page) for page in spare)
    return SlideContents(skeleton.path, "OME-TIFF", scenes, ignored=ignored)


def _read_image(element: Element, own: str, page_count: int, skeleton: TiffSkeleton) -> OmeImage | None:
    pixels = child(element, "Pixels")
    if pixels is None:
        return None
    try:
        c, z, t, y, x = (int(pixels.get(f"Size{axis}", "1")) for axis in "CZTYX")
        channels = tuple((e.get("Name", ""), int(e.get("SamplesPerPixel") or 1)) for e in children(pixels, "Channel"))
        bits = pixels.get("SignificantBits")
        pages, elsewhere, twice = _plane_pages(pixels, own, _plane_count(c, channels), page_count)
    except ValueError as error:
        raise unreadable(skeleton.path, f"its OME-XML has a size or index that is no number: {error}") from error
    claim = _claim(pixels)
    return OmeImage(
        name=element.get("Name", ""),
        size=(c, z, t, y, x),
        dtype=_OME_TYPES.get(pixels.get("Type", ""), pixels.get("Type", "")),
        channels=channels,
        pages=pages,
        elsewhere=elsewhere,
        twice=twice,
        dyes=tuple(element.get("Fluor", "") for element in children(pixels, "Channel")),
        pixel_sizes=(claim,) if claim else (),
        significant_bits=int(bits) if bits else None,
        unit_missing=claim is not None and not pixels.get("PhysicalSizeXUnit"),
    )


def _plane_count(size_c: int, channels: tuple[tuple[str, int], ...]) -> int:
    """Planes along c: a channel with several samples a pixel is one plane."""
    samples = max((samples for _, samples in channels), default=1)
    return max(1, size_c // samples) if samples > 1 else size_c


def _claim(pixels: Element) -> PixelSizeClaim | None:
    source = "OME-XML PhysicalSize"
    x, y = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")
    if x is None and y is None:
        return None
    if x is None or y is None:
        return PixelSizeClaim(source, problem=f"gives only {'x' if y is None else 'y'}")
    return claim_of(source, (y, pixels.get("PhysicalSizeYUnit", "")), (x, pixels.get("PhysicalSizeXUnit", "")))


def _plane_pages(pixels: Element, own: str, planes: int, page_count: int) -> tuple[dict, int, int]:
    """The page of each (c, z, t), as the TiffData elements say; how many lie in other files; how many on two pages."""
    sizes = {"C": planes, "Z": int(pixels.get("SizeZ", "1")), "T": int(pixels.get("SizeT", "1"))}
    order = [axis for axis in pixels.get("DimensionOrder", "XYCZT") if axis in "CZT"]
    total = min(sizes["C"] * sizes["Z"] * sizes["T"], page_count)
    pages: dict[tuple[int, int, int], int] = {}
    elsewhere = twice = 0
    for data in children(pixels, "TiffData"):
        uuid = child(data, "UUID")
        page = int(data.get("IFD", "0"))
        count = int(data.get("PlaneCount", "1" if data.get("IFD") else str(total)))
        if uuid is not None and own and (uuid.text or "").strip() != own:
            elsewhere += count
            continue
        position = {axis: int(data.get(f"First{axis}", "0")) for axis in "CZT"}
        for step in range(min(count, total)):
            place = position["C"], position["Z"], position["T"]
            twice += pages.setdefault(place, page + step) != page + step
            _advance(position, order, sizes)
    return pages, elsewhere, twice


def _advance(position: dict[str, int], order: list[str], sizes: dict[str, int]) -> None:
    """The next plane in the file's order, the first named axis fastest."""
    for axis in order:
        position[axis] += 1
        if position[axis] < sizes[axis]:
            return
        position[axis] = 0


def _fold_levels(images: list[OmeImage]) -> tuple[list[OmeImage], list[list[tuple[int, int]]]]:
    """Images that are smaller copies of the one before them are its pyramid (written flat), not scenes."""
    full: list[OmeImage] = []
    levels: list[list[tuple[int, int]]] = []
    for image in images:
        owner = full[-1] if full else None
        same = owner is not None and owner.size[:3] == image.size[:3] and owner.dtype == image.dtype
        if same and is_smaller_level(owner.size[3:], image.size[3:]):
            levels[-1].append(image.size[3:])
        else:
            full.append(image)
            levels.append([image.size[3:]])
    return full, levels


def _unclaimed(images: list[OmeImage], skeleton: TiffSkeleton) -> list[tifffile.TiffPage]:
    """Pages that no image names."""
    claimed = {page for image in images for page in image.pages.values()}
    return [page for page in skeleton.pages if page.index not in claimed]


def page_words(page: tifffile.TiffPage) -> str:
    """A page for people."""
    return f"page {page.index}, {page.imagewidth} x {page.imagelength} px"


def _scene(
    skeleton: TiffSkeleton,
    image: OmeImage,
    levels: list[tuple[int, int]],
    objective: dict[str, str],
    spare: list[tifffile.TiffPage],
) -> SceneContents:
    c, z, t, y, x = image.size
    planes = _stored_planes(image, skeleton)
    problems = (_missing(image, planes, skeleton), _mismatch(image, skeleton), _surplus(image, planes, spare))
    refusals = [refusal for refusal in problems if refusal]
    grid = [
        [_page(skeleton, image.pages.get((i, k, 0))) for k in range(z)] for i in range(min(planes, len(image.pages)))
    ]
    first = next((page for channel in grid for page in channel if page is not None), None)
    tag = tag_claim(first) if first is not None else None
    return tiff_scene(
        skeleton,
        PlaneGrid(grid, names=_names(image), height=y, width=x, channels=c),
        name=image.name,
        pixel_sizes=_claims(image.pixel_sizes, tag),
        levels=levels,
        z_planes=z,
        time_points=t,
        significant_bits=image.significant_bits,
        refusals=refusals,
        warnings=_warnings(image),
        facts=objective,
        dyes=image.dyes if len(image.dyes) == c else (),
    )


def _stored_planes(image: OmeImage, skeleton: TiffSkeleton) -> int:
    """Planes along c; some writers list every sample of a page as a channel of one sample."""
    c, z, t = image.size[:3]
    first = _page(skeleton, image.pages.get((0, 0, 0)))
    if z == t == 1 and c > 1 and len(image.pages) == 1 and first is not None and first.samplesperpixel == c:
        return 1
    return _plane_count(c, image.channels)


def _claims(ome: tuple[PixelSizeClaim, ...], tag: PixelSizeClaim | None) -> tuple[PixelSizeClaim, ...]:
    """OME-XML first; a resolution tag that no slide has says nothing beside it."""
    if tag is None or (ome and tag.problem):
        return ome
    return (*ome, tag)


def _warnings(image: OmeImage) -> tuple[str, ...]:
    return ("PhysicalSizeXUnit is missing; µm by the OME standard",) if image.unit_missing else ()


def _names(image: OmeImage) -> tuple[str, ...]:
    """A name for each channel; samples of one plane share no name."""
    names: list[str] = []
    for name, samples in image.channels:
        names += [name] if samples == 1 else [""] * samples
    return (*names, *[""] * image.size[0])[: image.size[0]]


def _page(skeleton: TiffSkeleton, index: int | None) -> tifffile.TiffPage | None:
    if index is None or not 0 <= index < len(skeleton.pages):
        return None
    return skeleton.pages[index]


def _missing(image: OmeImage, planes: int, skeleton: TiffSkeleton) -> Refusal | None:
    z, t = image.size[1:3]
    if image.elsewhere:
        return Refusal(
            f"{image.elsewhere} planes lie in other files of a multi-file OME-TIFF",
            "Export the slide as one OME-TIFF file.",
        )
    if planes * z * t > len(skeleton.pages) and planes > len(skeleton.pages):
        return Refusal(f"{planes} channels declared, {len(skeleton.pages)} present", "Export the slide again.")
    absent = [
        (i, k, m)
        for i in range(planes)
        for k in range(z)
        for m in range(t)
        if not 0 <= image.pages.get((i, k, m), -1) < len(skeleton.pages)
    ]
    if not absent:
        return None
    present = planes - len({i for i, _, _ in absent})
    if present < planes and z == t == 1:
        return Refusal(f"{planes} channels declared, {present} present", "Export the slide again.")
    return Refusal(
        f"{planes * z * t} planes declared, {planes * z * t - len(absent)} present", "Export the slide again."
    )


def _surplus(image: OmeImage, planes: int, spare: list[tifffile.TiffPage]) -> Refusal | None:
    """Planes that the XML puts on two pages, and pages that could be channels but that it does not know."""
    if image.twice:
        return Refusal(f"its OME-XML puts {image.twice} planes on two pages each", "Export the slide again.")
    twice = [page for page, count in Counter(image.pages.values()).items() if count > 1]
    if twice:
        return Refusal(f"its OME-XML puts several planes on page {twice[0]}", "Export the slide again.")
    alike = [page for page in spare if (page.imagelength, page.imagewidth) == image.size[3:]]
    alike = [page for page in alike if page.dtype is not None and page.dtype.name == image.dtype]
    if not alike or image.elsewhere:
        return None
    declared = planes * image.size[1] * image.size[2]
    found = f"{declared} planes declared, {declared + len(alike)} pages of that size present"
    return Refusal(found, "Export the slide again, or correct SizeC in its OME-XML.")


def _mismatch(image: OmeImage, skeleton: TiffSkeleton) -> Refusal | None:
    """A page that is not what the XML says of it."""
    for index in image.pages.values():
        page = _page(skeleton, index)
        if page is None:
            continue
        declared, found = image.size[3:], (page.imagelength, page.imagewidth)
        if declared != found:
            sizes = f"{declared[1]} x {declared[0]} px, page {index} has {found[1]} x {found[0]} px"
            return Refusal(f"its OME-XML declares {sizes}")
        if page.dtype is not None and image.dtype and page.dtype.name != image.dtype:
            return Refusal(f"its OME-XML declares {image.dtype} pixels, page {index} has {page.dtype.name}")
    return None


def _objective(root: Element) -> dict[str, str]:
    for instrument in root.iter():
        if local_name(instrument) == "Objective" and (text := instrument.get("NominalMagnification")):
            try:
                return {"objective": f"{float(text):g}x"}
            except ValueError:
                return {}
    return {}
