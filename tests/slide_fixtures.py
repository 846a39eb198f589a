"""Small slides in every format that mihc reads, written here so that each test knows every pixel."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

GREY = "minisblack"


def coded_image(channels: int = 3, height: int = 70, width: int = 90, dtype: object = np.uint16) -> np.ndarray:
    """An image (c, y, x) in which every pixel of small images differs from its neighbours and other channels."""
    c, y, x = np.ogrid[:channels, :height, :width]
    ceiling = 250 if np.dtype(dtype).itemsize == 1 else 4000
    return ((c * 577 + y * 31 + x * 7) % ceiling).astype(dtype)


def halved(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::2, ::2])


# ---------------------------------------------------------------------------------------------------------------- TIFF


def ome_xml(
    image: np.ndarray,
    *,
    names: Sequence[str] | None = None,
    size: tuple[str, str] | None = ("0.5", "0.5"),  # x, y
    unit: str | None = "µm",
    size_c: int | None = None,
    size_z: int = 1,
    size_t: int = 1,
    order: str = "XYCZT",
    samples: int = 1,
    tiff_data: str | None = None,
    image_name: str = "slide",
    extra: str = "",
) -> str:
    """One Image element of OME-XML."""
    count = size_c if size_c is not None else image.shape[0]
    names = names if names is not None else [f"marker {i}" for i in range(count // samples)]
    physical = "" if size is None else f' PhysicalSizeX="{size[0]}" PhysicalSizeY="{size[1]}"'
    physical += "" if unit is None else f' PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"'
    channels = "".join(
        f'<Channel ID="Channel:0:{i}" Name="{name}" SamplesPerPixel="{samples}"/>' for i, name in enumerate(names)
    )
    if tiff_data is None:
        tiff_data = f'<TiffData IFD="0" PlaneCount="{image.shape[0]}"/>'
    return (
        f'<Image ID="Image:0" Name="{image_name}"><Pixels ID="Pixels:0" DimensionOrder="{order}"'
        f' Type="{image.dtype.name}"'
        f' SizeX="{image.shape[-1]}" SizeY="{image.shape[-2]}" SizeC="{count}" SizeZ="{size_z}" SizeT="{size_t}"'
        f"{physical}{extra}>{channels}"
        f"{tiff_data}</Pixels></Image>"
    )


def ome_document(*images: str, uuid: str = "urn:uuid:a") -> bytes:
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    space = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    return f'{head}<OME {space} UUID="{uuid}">{"".join(images)}</OME>'.encode()


@dataclass(frozen=True)
class TiffLayout:
    """How pages are stored."""

    tile: tuple[int, int] | None = None
    rowsperstrip: int | None = None
    compression: str | None = None
    predictor: bool = False
    byteorder: str = "<"
    bigtiff: bool = False
    resolution: tuple[float, float] | None = None  # pixels per unit, x and y
    resolutionunit: str | None = None


def write_pages(
    path: Path,
    image: np.ndarray,
    *,
    description: bytes | str | None = None,
    layout: TiffLayout | None = None,
    levels: int = 0,
    append: Sequence[np.ndarray] = (),
) -> Path:
    """A TIFF with one page per plane; `levels` smaller copies in SubIFDs; further pages after them."""
    layout = layout or TiffLayout()
    options = dict(
        photometric=GREY,
        metadata=None,
        tile=layout.tile,
        rowsperstrip=layout.rowsperstrip,
        compression=layout.compression,
        predictor=layout.predictor,
        resolution=layout.resolution,
        resolutionunit=layout.resolutionunit,
    )
    with tifffile.TiffWriter(path, ome=False, byteorder=layout.byteorder, bigtiff=layout.bigtiff) as tif:
        for at, plane in enumerate(image):
            tif.write(plane, description=description if at == 0 else None, subifds=levels, **options)
            smaller = plane
            for _ in range(levels):
                smaller = np.ascontiguousarray(smaller[::2, ::2])
                tif.write(smaller, subfiletype=1, **options)
        for plane in append:
            coloured = plane.ndim == 3
            tif.write(plane, **{**options, "photometric": "rgb" if coloured else GREY})
    return path


def write_ome_tiff(
    path: Path, image: np.ndarray, *, layout: TiffLayout | None = None, levels: int = 0, xml: str | None = None
) -> Path:
    return write_pages(path, image, description=ome_document(xml or ome_xml(image)), layout=layout, levels=levels)


def qpi_xml(kind: str, name: str = "", biomarker: str = "") -> bytes:
    marker = f"<Biomarker>{biomarker}</Biomarker>" if biomarker else ""
    return (
        '<?xml version="1.0" encoding="utf-16"?>\r\n<PerkinElmer-QPI-ImageDescription>'
        f"<DescriptionVersion>2</DescriptionVersion><ImageType>{kind}</ImageType><Name>{name}</Name>{marker}"
        "<Objective>20x</Objective></PerkinElmer-QPI-ImageDescription>"
    ).encode()


def write_qptiff(path: Path, image: np.ndarray, names: Sequence[str], *, levels: int = 1, um: float = 0.5) -> Path:
    """Akoya's order of pages: full resolution, thumbnail, pyramid, overview, label."""
    preview = np.full((20, 30, 3), 200, np.uint8)
    canary = np.full((16, 16, 3), 99, np.uint8)
    grey = dict(photometric=GREY, metadata=None, software="PerkinElmer-QPI", compression="lzw", tile=(32, 32))
    coloured = dict(photometric="rgb", metadata=None, software="PerkinElmer-QPI")
    with tifffile.TiffWriter(path, ome=False) as tif:
        smaller, scale = image, 1
        for level in range(levels + 1):
            kind = "ReducedResolution" if level else "FullResolution"
            resolution = (1e4 / um / scale,) * 2
            for plane, name in zip(smaller, names):
                description = qpi_xml(kind, name)
                tif.write(plane, description=description, resolution=resolution, resolutionunit="CENTIMETER", **grey)
            if level == 0:
                tif.write(preview, description=qpi_xml("Thumbnail"), **coloured)
            smaller, scale = halved(smaller), scale * 2
        tif.write(preview, description=qpi_xml("Overview"), **coloured)
        tif.write(canary, description=qpi_xml("Label"), **coloured)
    return path


# ----------------------------------------------------------------------------------------------------------------- CZI


@dataclass(frozen=True)
class Tile:
    """One subblock: pixels at (x, y) of the file's coordinates."""

    pixels: np.ndarray  # (h, w) or (h, w, 3)
    x: int
    y: int
    c: int = 0
    scene: int | None = None
    m: int | None = None
    z: int | None = None
    compression: str = "raw"  # "raw" | "jpegxr" | "zstd0" | "zstd1"
    shrink: int = 1  # a pyramid tile covers shrink times its stored size
    data: bytes | None = None  # written instead of the compressed pixels


def czi_xml(
    names: Sequence[str], *, metres: str | None = "5e-07", scenes: Sequence[str] = (), bits: int | None = None
) -> str:
    channels = "".join(
        f'<Channel Id="Channel:{i + 1}" Name="{name}"><PixelType>Gray16</PixelType>'
        f"{f'<ComponentBitCount>{bits}</ComponentBitCount>' if bits else ''}</Channel>"
        for i, name in enumerate(names)
    )
    listed = "".join(f'<Scene Index="{i}" Name="{name}"/>' for i, name in enumerate(scenes))
    scale = "".join(f'<Distance Id="{axis}"><Value>{metres}</Value></Distance>' for axis in "XY") if metres else ""
    return (
        f"<ImageDocument><Metadata><Information><Image><SizeC>{len(names)}</SizeC><Dimensions>"
        f"<Channels>{channels}</Channels><S><Scenes>{listed}</Scenes></S></Dimensions></Image></Information>"
        f"<Scaling><Items>{scale}</Items></Scaling></Metadata></ImageDocument>"
    )


def write_czi(path: Path, tiles: Sequence[Tile], xml: str) -> Path:
    """A minimal CZI: file header, subblocks, directory, metadata (ZEISS's published segment layout)."""
    body = bytearray(_segment(b"ZISRAWFILE", bytes(512)))
    entries = []
    for tile in tiles:
        entries.append(_directory_entry(tile, len(body)))
        body += _subblock(tile, entries[-1])
    directory_at = len(body)
    body += _segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    metadata_at = len(body)
    text = xml.encode()
    body += _segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(text), 0) + text)
    header = struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, b"p" * 16, b"p" * 16, 0, directory_at, metadata_at, 0, 0)
    body[32 : 32 + len(header)] = header
    path.write_bytes(bytes(body))
    return path


def _segment(name: bytes, data: bytes) -> bytes:
    room = -(-len(data) // 32) * 32
    return struct.pack("<16sqq", name, room, len(data)) + data.ljust(room, b"\0")


def _directory_entry(tile: Tile, at: int) -> bytes:
    height, width = tile.pixels.shape[:2]
    kind = {("u", 1, 2): 0, ("u", 2, 2): 1, ("f", 4, 2): 2, ("u", 1, 3): 3}
    pixel_type = kind[tile.pixels.dtype.kind, tile.pixels.dtype.itemsize, tile.pixels.ndim]
    compression = {"raw": 0, "jpegxr": 4, "zstd0": 5, "zstd1": 6}[tile.compression]
    dimensions = [("X", tile.x, width * tile.shrink, width), ("Y", tile.y, height * tile.shrink, height)]
    positions = [("C", tile.c), ("Z", tile.z), ("S", tile.scene), ("M", tile.m)]
    dimensions += [(name, start, 1, 1) for name, start in positions if start is not None]
    head = struct.pack(
        "<2siqiiB5xi", b"DV", pixel_type, at, 0, compression, 2 if tile.shrink > 1 else 0, len(dimensions)
    )
    rows = (
        struct.pack("<4siifi", n.encode(), start, size, float(start), stored) for n, start, size, stored in dimensions
    )
    return head + b"".join(rows)


def _subblock(tile: Tile, entry: bytes) -> bytes:
    data = encoded(tile) if tile.data is None else tile.data
    fixed = struct.pack("<iiq", 0, 0, len(data)) + entry
    return _segment(b"ZISRAWSUBBLOCK", fixed.ljust(256, b"\0") + data)


def encoded(tile: Tile) -> bytes:
    """The bytes of a subblock's pixels."""
    import imagecodecs

    plain = np.ascontiguousarray(tile.pixels)
    if tile.compression == "jpegxr":
        return imagecodecs.jpegxr_encode(plain)
    if tile.compression == "zstd0":
        return imagecodecs.zstd_encode(plain.tobytes())
    if tile.compression == "zstd1" and plain.dtype.itemsize == 1:
        return bytes([1]) + imagecodecs.zstd_encode(plain.tobytes())
    if tile.compression == "zstd1":  # a header of 3 bytes, chunk 1 = the low bytes of all pixels before the high ones
        split = np.frombuffer(plain.tobytes(), np.uint8).reshape(-1, plain.dtype.itemsize).T.tobytes()
        return bytes([3, 1, 1]) + imagecodecs.zstd_encode(split)
    return plain.tobytes()


# ------------------------------------------------------------------------------------------------------------ OME-Zarr


def write_ome_zarr(
    path: Path,
    image: np.ndarray,
    *,
    version: str = "0.5",
    axes: str = "cyx",
    unit: str | None = "micrometer",
    um: float = 0.5,
    names: Sequence[str] | None = None,
    levels: int = 2,
    shards: bool = False,
) -> Path:
    """An OME-Zarr image with one array per level, written with plain zarr."""
    import zarr

    new = version == "0.5"
    group = zarr.create_group(path, zarr_format=3 if new else 2, overwrite=True)
    datasets, level = [], image
    for at in range(levels):
        full = level.reshape([1] * (len(axes) - level.ndim) + list(level.shape)) if len(axes) > level.ndim else level
        chunks = tuple(32 if axis in "yx" else 1 for axis in axes)
        array = group.create_array(
            str(at),
            shape=full.shape,
            dtype=full.dtype,
            chunks=chunks,
            shards=tuple(64 if axis in "yx" else 1 for axis in axes) if shards else None,
            chunk_key_encoding=None if new else {"name": "v2", "separator": "/"},
            dimension_names=list(axes) if new else None,
            config={"write_empty_chunks": True},
        )
        array[...] = full
        scale = [um * 2**at if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(at), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
        level = level[..., ::2, ::2]
    written = [_axis(axis, unit) for axis in axes]
    names = names if names is not None else [f"marker {i}" for i in range(image.shape[0])]
    attributes = {
        "multiscales": [{"name": "slide", "axes": written, "datasets": datasets}],
        "omero": {"channels": [{"label": name, "color": "FFFFFF"} for name in names]},
    }
    _write_attributes(path, attributes, version)
    return path


def _axis(axis: str, unit: str | None) -> dict[str, str]:
    if axis in "zyx":
        return {"name": axis, "type": "space", **({"unit": unit} if unit else {})}
    return {"name": axis, "type": "channel" if axis == "c" else "time"}


def _write_attributes(path: Path, attributes: dict, version: str) -> None:
    if version == "0.5":
        document = json.loads((path / "zarr.json").read_text())
        document["attributes"] = {"ome": {"version": "0.5", **attributes}}
        (path / "zarr.json").write_text(json.dumps(document))
    else:
        attributes["multiscales"][0]["version"] = "0.4"
        (path / ".zattrs").write_text(json.dumps(attributes))


def write_bioformats2raw(path: Path, images: Sequence[np.ndarray], names: Sequence[str]) -> Path:
    """The layout of bioformats2raw: series 0, 1, ... and OME/METADATA.ome.xml."""
    import zarr

    zarr.create_group(path, zarr_format=2)
    (path / ".zattrs").write_text(json.dumps({"bioformats2raw.layout": 3}))
    for at, image in enumerate(images):
        write_ome_zarr(path / str(at), image[:, np.newaxis], version="0.4", axes="tczyx")
    (path / "OME").mkdir()
    elements = [ome_xml(image, image_name=name) for image, name in zip(images, names)]
    (path / "OME" / "METADATA.ome.xml").write_bytes(ome_document(*elements))
    return path
