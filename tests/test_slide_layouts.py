"""N10: whatever the layout of a file, each channel is found by its name: 24 layouts for each of four readers.

Channel i has the value 40 (i + 1) everywhere, and the names are dealt anew for each layout, so that a channel taken by
its position is seen.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_fixtures import Tile, czi_xml, halved, ome_document, ome_xml, qpi_xml, write_czi, write_ome_zarr

from mihc.panel import Panel, PanelRow
from mihc.slide import open_slide

NAMES = ("DAPI", "CD3", "CD20", "PanCK")
CODES = {name: 40 * (at + 1) for at, name in enumerate(NAMES)}
ORDERS = list(itertools.permutations(NAMES))  # 24
SHAPE = (64, 96)


def coded(order: tuple[str, ...], dtype: str) -> np.ndarray:
    """(c, y, x) with each channel's code everywhere."""
    return np.stack([np.full(SHAPE, CODES[name], dtype) for name in order])


def ome_tiff(folder: Path, order: tuple[str, ...], at: int) -> Path:
    """Pages, planar or interleaved samples; tiles or strips; both byte orders; 8 and 16 bits."""
    layouts = itertools.product(("pages", "separate", "contig"), ((32, 32), None), "<>", ("u1", "u2"))
    kind, tile, byteorder, dtype = list(layouts)[at]
    image = coded(order, dtype)
    pages = len(order) if kind == "pages" else 1
    xml = ome_xml(image, names=order, tiff_data=f'<TiffData IFD="0" PlaneCount="{pages}"/>')
    common = {"photometric": "minisblack", "metadata": None, "tile": tile, "compression": "zlib"}
    samples = {"planarconfig": kind, "extrasamples": [0, 0, 0]}
    with tifffile.TiffWriter(folder / "s.ome.tif", ome=False, byteorder=byteorder) as tif:
        if kind == "pages":
            for c, plane in enumerate(image):
                tif.write(plane, description=None if c else ome_document(xml), **common)
        else:
            pixels = image if kind == "separate" else np.ascontiguousarray(np.moveaxis(image, 0, -1))
            tif.write(pixels, description=ome_document(xml), **common, **samples)
    return folder / "s.ome.tif"


def qptiff(folder: Path, order: tuple[str, ...], at: int) -> Path:
    """Three compressions; tiles or strips; with and without a pyramid; marker in Biomarker or before the dye."""
    layouts = itertools.product((None, "lzw", "zlib"), ((32, 32), None), (0, 2), (True, False))
    compression, tile, levels, biomarker = list(layouts)[at]
    image = coded(order, "u2")
    common = {"photometric": "minisblack", "metadata": None, "compression": compression, "tile": tile}
    common |= {"software": "PerkinElmer-QPI", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(folder / "s.qptiff", ome=False) as tif:
        for level in range(levels + 1):
            kind = "ReducedResolution" if level else "FullResolution"
            resolution = (2e4 / 2**level,) * 2
            for plane, name in zip(image, order):
                text = qpi_xml(kind, f"Opal {CODES[name]}", name) if biomarker else qpi_xml(kind, name)
                tif.write(plane, description=text, resolution=resolution, **common)
            if not level:
                preview = np.zeros((20, 30, 3), np.uint8)
                tif.write(preview, photometric="rgb", metadata=None, description=qpi_xml("Thumbnail"))
            image = halved(image)
    return folder / "s.qptiff"


def czi(folder: Path, order: tuple[str, ...], at: int) -> Path:
    """Four compressions; one tile, a mosaic, a mosaic at a negative origin; 8 and 16 bits; subblocks in any order."""
    layouts = itertools.product(("raw", "jpegxr", "zstd0", "zstd1"), ((96, 0), (32, 0), (32, -500)), ("u1", "u2"))
    compression, (side, origin), dtype = list(layouts)[at]
    tiles = [
        Tile(plane[y : y + side, x : x + side].copy(), origin + x, origin + y, c=c, m=m, compression=compression)
        for c, plane in enumerate(coded(order, dtype))
        for m, (y, x) in enumerate(itertools.product(range(0, SHAPE[0], side), range(0, SHAPE[1], side)))
    ]
    shuffled = [tiles[k] for k in np.random.default_rng(at).permutation(len(tiles))]
    return write_czi(folder / "s.czi", shuffled, czi_xml(order))


def zarr(folder: Path, order: tuple[str, ...], at: int) -> Path:
    """0.4, 0.5, 0.5 in shards; four sets of axes; 8 and 16 bits."""
    layouts = itertools.product((("0.4", False), ("0.5", False), ("0.5", True)), ("cyx", "czyx", "tcyx", "tczyx"), "BH")
    (version, shards), axes, dtype = list(layouts)[at]
    image = coded(order, dtype)
    pixels = image[:, np.newaxis] if "z" in axes else image
    return write_ome_zarr(folder / "s.zarr", pixels, version=version, axes=axes, names=order, shards=shards)


READERS = {"OME-TIFF": ome_tiff, "QPTIFF": qptiff, "CZI": czi, "OME-Zarr": zarr}


@pytest.mark.parametrize(("reader", "at"), list(itertools.product(READERS, range(len(ORDERS)))))
def test_N10_a_channel_is_its_name_in_every_layout(tmp_path: Path, reader: str, at: int):
    panel = Panel("", tuple(PanelRow(name, name, "marker", "cell", None, "FFFFFF") for name in NAMES))
    with open_slide(READERS[reader](tmp_path, ORDERS[at], at)) as slide:
        assert slide.format == reader and slide.image.shape == (4, *SHAPE) and slide.warnings == ()
        places = panel.match(slide.channels)
        assert {name: np.unique(slide.image[c]).tolist() for name, c in places.items()} == {
            name: [code] for name, code in CODES.items()
        }
