"""The formats that drawings are written in: OME-TIFF, a QPTIFF look-alike, QuPath GeoJSON and HALO annotations."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

COLOURS = {"Tumor": (200, 0, 0), "Stroma": (150, 200, 150), "Necrosis": (90, 90, 90), "Fold": (60, 60, 60)}
TILE_PX = 256
SMALLEST_PX = 200  # the pyramid stops when a side would be smaller

Outline = tuple[str, Polygon | MultiPolygon]  # class as an annotator would name it, polygon in µm


def halved(image: np.ndarray) -> np.ndarray:
    """(c, y, x) image at half the size: mean of 2 x 2 pixels, half up; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in image.shape[1:])
    blocks = image[:, :height, :width].astype(np.uint32).reshape(image.shape[0], height // 2, 2, width // 2, 2)
    return ((blocks.sum(axis=(2, 4)) + 2) // 4).astype(image.dtype)


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """The image and its halves, largest first."""
    levels = [image]
    while min(levels[-1].shape[1:]) >= 2 * SMALLEST_PX:
        levels.append(halved(levels[-1]))
    return levels


def write_ome_tiff(path: Path, image: np.ndarray, *, channels: Sequence[str], pixel_size_um: float) -> None:
    """Write (c, y, x) counts as OME-TIFF: tiled, zlib, pyramid in SubIFDs. The same image gives the same bytes."""
    import tifffile

    levels = pyramid(image)
    options = {"photometric": "minisblack", "tile": (TILE_PX, TILE_PX), "compression": "zlib", "predictor": True}
    with tifffile.TiffWriter(path, ome=True, bigtiff=False) as tiff:
        for k, level in enumerate(levels):
            per_cm = 1e4 / (pixel_size_um * 2**k)
            first = {"subifds": len(levels) - 1, "metadata": ome_metadata(path.name, channels, pixel_size_um)}
            reduced = {"subfiletype": 1, "metadata": None}
            tiff.write(
                level,
                **options,
                **(reduced if k else first),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                software="mihc synthetic",
            )


def ome_metadata(name: str, channels: Sequence[str], pixel_size_um: float) -> dict:
    """What tifffile turns into the OME-XML of a drawn slide."""
    return {
        "axes": "CYX",
        "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "PhysicalSizeX": pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": list(channels)},
    }


def write_qptiff(path: Path, image: np.ndarray, *, channels: Sequence[str], pixel_size_um: float) -> None:
    """Write (c, y, x) counts in the layout of Akoya's QPTIFF: full planes, RGB thumbnail, then each smaller level."""
    import tifffile

    levels = pyramid(image)
    options = {"photometric": "minisblack", "tile": (TILE_PX, TILE_PX), "compression": "lzw", "metadata": None}
    thumbnail = (levels[-1][0] >> 4).clip(0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        for k, level in enumerate(levels):
            per_cm = 1e4 / (pixel_size_um * 2**k)
            place = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER", "software": "PerkinElmer-QPI"}
            for channel, plane in zip(channels, level, strict=True):
                kind = "ReducedResolution" if k else "FullResolution"
                tiff.write(plane, **options, **place, subfiletype=int(k > 0), description=_qpi_xml(kind, channel))
            if k == 0:
                rgb = np.repeat(thumbnail[..., None], 3, axis=2)
                tiff.write(rgb, photometric="rgb", metadata=None, **place, description=_qpi_xml("Thumbnail", ""))


def _qpi_xml(image_type: str, channel: str) -> str:
    named = f"<Name>{channel}</Name><Biomarker>{channel}</Biomarker>" if channel else ""
    return (
        '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
        f"<DescriptionVersion>5</DescriptionVersion><ImageType>{image_type}</ImageType>{named}"
        "<Objective>20x</Objective></PerkinElmer-QPI-ImageDescription>"
    )


def write_qupath(path: Path, outlines: Sequence[Outline], pixel_size_um: float) -> None:
    """Write outlines as QuPath's GeoJSON: full-resolution pixels, holes as further rings."""
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{path.name}/{i}")),
            "geometry": shapely.geometry.mapping(_in_pixels(polygon, pixel_size_um)),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": list(COLOURS.get(name, (0, 0, 200)))},
            },
        }
        for i, (name, polygon) in enumerate(outlines)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


def write_halo(path: Path, outlines: Sequence[Outline], pixel_size_um: float) -> None:
    """Write outlines as HALO's .annotations: a layer per class, whole pixels, holes as siblings with NegativeROA."""
    lines = ["<Annotations>"]
    for name in dict.fromkeys(name for name, _ in outlines):
        red, green, blue = COLOURS.get(name, (0, 0, 200))
        colour = red + 256 * green + 65536 * blue
        lines.append(f'  <Annotation LineColor="{colour}" Name={quoteattr(name)} Visible="True">\n    <Regions>')
        for polygon in (polygon for layer, polygon in outlines if layer == name):
            for part in shapely.get_parts(_in_pixels(polygon, pixel_size_um)):
                lines.append(_halo_region(part.exterior, negative=False))
                lines += [_halo_region(ring, negative=True) for ring in part.interiors]
        lines.append("    </Regions>\n  </Annotation>")
    lines.append("</Annotations>")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _halo_region(ring: shapely.LinearRing, *, negative: bool) -> str:
    points = "".join(f'<V X="{round(x)}" Y="{round(y)}"/>' for x, y in ring.coords)
    return (
        f'      <Region Type="Polygon" HasEndcaps="0" NegativeROA="{int(negative)}">'
        f"<Vertices>{points}</Vertices></Region>"
    )


def _in_pixels(polygon: Polygon | MultiPolygon, pixel_size_um: float) -> Polygon | MultiPolygon:
    return shapely.transform(polygon, lambda points: np.rint(points / pixel_size_um))
