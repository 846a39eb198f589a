"""One drawn tile repeated into an OME-TIFF of any size, for measuring time and memory on big slides."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mihc.drawing.files import halved, ome_metadata
from mihc.drawing.slide import draw_slide
from mihc.drawing.tissue import Layout

TILE_PX = 256


def draw_mosaic(
    path: str | Path,
    *,
    size: tuple[int, int] = (16384, 16384),
    channels: Sequence[str] | None = None,
    tile: int = 2048,
    seed: int = 1,
    levels: int = 3,
) -> Path:
    """Write an OME-TIFF of `size` (y, x) pixels made of one drawn slide of `tile` x `tile` pixels, repeated.

    Each piece is compressed once and written many times, so memory stays that of one tile and time that of the disk.
    `size` must be a multiple of `tile`, `tile` of 256 x 2^levels (otherwise ValueError). `channels` = names for the
    planes, repeated from the eight that are drawn; None = those eight. 0.5 µm per pixel, pyramid in SubIFDs.
    """
    import tifffile

    if any(side % tile for side in size) or tile % (TILE_PX << levels):
        raise ValueError(f"size {size} must be a multiple of tile {tile}, and tile of {TILE_PX << levels}")
    drawn = draw_slide(seed=seed, size_px=(tile, tile), layout=Layout(aggregates=4, glass_fraction=0.1))
    names = list(channels or drawn.channels)
    image = drawn.image[np.arange(len(names)) % len(drawn.channels)]
    path = Path(path)
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for k in range(levels + 1):
            shape = (len(names), size[0] >> k, size[1] >> k)
            first = {"subifds": levels, "metadata": ome_metadata(path.name, names, drawn.pixel_size_um)}
            per_cm = 1e4 / (drawn.pixel_size_um * 2**k)
            tiff.write(
                _pieces(image, shape),
                shape=shape,
                dtype=image.dtype,
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                predictor=True,
                photometric="minisblack",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                **({"subfiletype": 1, "metadata": None} if k else first),
            )
            image = halved(image)
    return path


def _pieces(image: np.ndarray, shape: tuple[int, int, int]) -> Iterator[bytes]:
    """The compressed tiles of the repeated image, channel by channel, row by row."""
    side = image.shape[1] // TILE_PX
    for plane in image:
        once = [
            [_compressed(plane[y : y + TILE_PX, x : x + TILE_PX]) for x in range(0, plane.shape[1], TILE_PX)]
            for y in range(0, plane.shape[0], TILE_PX)
        ]
        for row in range(shape[1] // TILE_PX):
            for column in range(shape[2] // TILE_PX):
                yield once[row % side][column % side]


def _compressed(block: np.ndarray) -> bytes:
    """A tile as TIFF's zlib with horizontal differences (predictor 2) holds it."""
    differences = block.copy()
    differences[:, 1:] -= block[:, :-1]
    return zlib.compress(np.ascontiguousarray(differences), 6)
