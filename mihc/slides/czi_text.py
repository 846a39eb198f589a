"""The XML of a CZI: channel names, pixel size, scene names.

It is read from the file itself, because libCZI hands out its own rewriting of it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from mihc.slides.contents import PixelSizeClaim, unreadable
from mihc.slides.markup import MAX_XML_BYTES, child, children, decode_text, local_name, parse_xml, text_of
from mihc.slides.pixel_size import claim_of

_SEGMENT = struct.Struct("<16sqq")  # name, room, used
_METADATA_POSITION = 32 + 60  # in the file header's segment


@dataclass(frozen=True)
class CziText:
    """What the XML metadata says."""

    names: tuple[str, ...]
    bits: int | None
    dyes: tuple[str, ...]
    declared: dict[str, int]  # dimension -> its size as declared, for example {"C": 5, "S": 23}
    pixel_sizes: tuple[PixelSizeClaim, ...]
    scene_names: dict[int, str]
    objective: dict[str, str]


def read_czi_text(path: Path) -> CziText:
    """What the XML metadata of a CZI says."""
    with path.open("rb") as file:
        file.seek(_METADATA_POSITION)
        position = int.from_bytes(file.read(8), "little", signed=True)
        size = path.stat().st_size
        if not 0 < position <= size - _SEGMENT.size - 256:
            raise unreadable(path, f"truncated: the CZI metadata at offset {position} lie beyond file size {size}")
        file.seek(position)
        name = _SEGMENT.unpack(file.read(_SEGMENT.size))[0].rstrip(b"\0")
        length = int.from_bytes(file.read(4), "little", signed=True)
        if length > MAX_XML_BYTES:
            raise unreadable(path, f"the CZI metadata of {length} bytes exceed the limit of {MAX_XML_BYTES}")
        if name != b"ZISRAWMETADATA" or length <= 0:
            raise unreadable(path, "a damaged CZI: its header does not point to its metadata")
        file.seek(position + _SEGMENT.size + 256)
        data = file.read(length)
    return _parse(parse_xml(decode_text(data), path, "CZI metadata"))


def _parse(root: Element) -> CziText:
    metadata = root if local_name(root) == "Metadata" else child(root, "Metadata")
    image = child(metadata, "Information", "Image")
    names, dyes, bits = _channels(metadata, image)
    return CziText(
        names=names,
        bits=bits,
        dyes=dyes,
        declared=_declared(image),
        pixel_sizes=_pixel_sizes(metadata),
        scene_names=_scene_names(image),
        objective=_objective(metadata),
    )


def _declared(image: Element | None) -> dict[str, int]:
    """SizeX, SizeC and their like, where they are whole numbers."""
    sizes = {dimension: text_of(child(image, f"Size{dimension}")) for dimension in "XYCZTSM"}
    return {dimension: int(text) for dimension, text in sizes.items() if text.isdecimal() and len(text) < 10}


def _channels(metadata: Element | None, image: Element | None) -> tuple[tuple[str, ...], tuple[str, ...], int | None]:
    """Channel names by document order, which is the C index whatever the Ids say; dyes; and the common bit count."""
    elements = children(child(image, "Dimensions", "Channels"), "Channel")
    shown = _display_names(metadata, [element.get("Id", "") for element in elements])
    names = [
        element.get("Name") or shown.get(element.get("Id", ""), "") or text_of(child(element, "Fluor"))
        for element in elements
    ]
    dyes = [text_of(child(element, "Fluor")) for element in elements]
    dyes = [dye if dye != name else "" for dye, name in zip(dyes, names)]
    bits = {text_of(child(element, "ComponentBitCount")) for element in elements}
    common = bits.pop() if len(bits) == 1 else ""
    return tuple(names), tuple(dyes), int(common) if common.isdecimal() else None


def _display_names(metadata: Element | None, ids: Sequence[str]) -> dict[str, str]:
    """Names of the display settings by channel Id.

    Channels added by processing have a new Id there; when exactly one is left on each side, they are the same.
    """
    elements = children(child(metadata, "DisplaySetting", "Channels"), "Channel")
    names = {e.get("Id", ""): e.get("Name") or text_of(child(e, "DyeName")) for e in elements}
    foreign = [key for key in names if key not in ids]
    unnamed = [key for key in ids if key not in names]
    if len(foreign) == len(unnamed) == 1:
        names[unnamed[0]] = names[foreign[0]]
    return names


def _pixel_sizes(metadata: Element | None) -> tuple[PixelSizeClaim, ...]:
    """Scaling/Items/Distance is in metres, whatever DefaultUnitFormat says; 0 is what writers put for unknown."""
    values = {
        element.get("Id", ""): text_of(child(element, "Value"))
        for element in children(child(metadata, "Scaling", "Items"), "Distance")
    }
    x, y = values.get("X", ""), values.get("Y", "")
    if x in ("", "0") and y in ("", "0"):
        return ()
    return (claim_of("CZI Scaling", (y, "m"), (x, "m")),)


def _scene_names(image: Element | None) -> dict[int, str]:
    names = {}
    for element in children(child(image, "Dimensions", "S", "Scenes"), "Scene"):
        index = element.get("Index", "")
        if index.isdecimal():
            names[int(index)] = element.get("Name", "")
    return names


def _objective(metadata: Element | None) -> dict[str, str]:
    for element in children(child(metadata, "Information", "Instrument", "Objectives"), "Objective"):
        try:
            return {"objective": f"{float(text_of(child(element, 'NominalMagnification'))):g}x"}
        except ValueError:
            continue
    return {}
