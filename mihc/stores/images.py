"""Slide images in the store: an OME-Zarr 0.5 pyramid, written shard by shard.

Level k + 1 holds the mean of 2 x 2 pixels of level k: integers as floor(sum / 4 + 1 / 2), floats as the mean in double
precision. At an odd edge the last row or column stands for the one that is missing, so the mean is of what is
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mihc.stores import ngff
from mihc.windows import pixel_size_pair

if TYPE_CHECKING:
    from mihc.stores.arrays import StoredArray

IMAGE_SHARD = 2048  # pixels: side of what one task writes; windows are multiples of it
_CHUNK = 512  # pixels: side of what one read decodes

Submit = Callable[..., Future]


@dataclass(frozen=True)
class StoredImage:
    """A committed pyramid."""

    levels: list[StoredArray]  # each (c, y, x), largest first; sliced like numpy arrays
    pixel_size_um: tuple[float, float]  # (y, x) of level 0
    channels: tuple[str, ...]
    colours: tuple[str, ...]  # RRGGBB
    windows: tuple[tuple[float, float], ...]  # (start, end) of each channel's display, in counts
    downsamples: tuple[int, ...]  # 1, 2, 4, ...: pixels of level 0 along one pixel of the level


def create_image(
    path: str | Path,
    *,
    shape: Sequence[int],
    dtype: np.dtype | str,
    pixel_size_um: float | Sequence[float],
    channels: Sequence[str],
    colours: Sequence[str],
    windows: Sequence[tuple[float, float]] | None = None,
    name: str = "",
) -> None:
    """Make an empty OME-Zarr 0.5 image with all its levels.

    Parameters
    ----------
    path
        the image's folder, new, inside a transaction
    shape
        (c, y, x) in pixels
    dtype
        integers or floats of the counts
    pixel_size_um
        one number or (y, x), in µm
    channels, colours
        one name and one RRGGBB per channel
    windows
        (start, end) in counts per channel; None: the whole range, until `set_display_windows`
    """
    from mihc.stores.arrays import create_array

    path, dtype = Path(path), np.dtype(dtype)
    planes = int(shape[0])
    if not len(channels) == len(colours) == planes:
        raise ValueError(f"{planes} channels, but {len(channels)} names and {len(colours)} colours")
    shapes = ngff.level_shapes(shape[1:])
    scales = ngff.multiscales(len(shapes), pixel_size_pair(pixel_size_um), name=name, kind="mean of 2x2", channels=True)
    omero = {"channels": _channels(dtype, channels, colours, windows)}
    ngff.write_group(path, {"multiscales": scales, "omero": omero})
    for level, shape_yx in enumerate(shapes):
        sides = [min(IMAGE_SHARD, -(-side // _CHUNK) * _CHUNK) for side in shape_yx]
        create_array(
            path / str(level),
            shape=(planes, *shape_yx),
            dtype=dtype,
            chunk=(1, _CHUNK, _CHUNK),
            shard=(1, *sides),
            dimension_names=("c", "y", "x"),
        )


def _channels(
    dtype: np.dtype, channels: Sequence[str], colours: Sequence[str], windows: Sequence[tuple[float, float]] | None
) -> list[dict]:
    low, high = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if dtype.kind in "iu" else (0.0, 1.0)
    shown = windows or [(low, high)] * len(channels)
    return [
        {
            "label": label,
            "color": colour.lstrip("#").upper(),
            "active": True,
            "window": {"min": min(low, float(s)), "max": max(high, float(e)), "start": float(s), "end": float(e)},
        }
        for label, colour, (s, e) in zip(channels, colours, shown, strict=True)
    ]


def set_display_windows(path: str | Path, windows: Sequence[tuple[float, float]]) -> None:
    """Record how bright each channel is shown: (start, end) in counts, one per channel. Inside a transaction."""
    from mihc.stores.arrays import read_group

    ome = read_group(Path(path))
    for channel, (start, end) in zip(ome["omero"]["channels"], windows, strict=True):
        window = channel["window"]
        window.update(start=float(start), end=float(end))
        window.update(min=min(window["min"], float(start)), max=max(window["max"], float(end)))
    ngff.write_group(Path(path), {key: value for key, value in ome.items() if key != "version"})


def write_image_window(path: str | Path, level: int, c: int, y0: int, x0: int, block: np.ndarray) -> None:
    """Write whole shards of one level.

    Parameters
    ----------
    c, y0, x0
        where the block begins; y0 and x0 are multiples of IMAGE_SHARD
    block
        (y, x) of channel c, or (n, y, x) of n channels from c on; it ends at a multiple of IMAGE_SHARD or at the edge

    Raises
    ------
    ValueError
        the block would share a shard with another window
    """
    from mihc.stores.arrays import check_aligned, open_for_writing

    planes = block[np.newaxis] if block.ndim == 2 else block
    array = open_for_writing(Path(path) / str(level))
    height, width = planes.shape[1:]
    check_aligned(array, y0, x0, height, width)
    for number, plane in enumerate(planes):
        array[c + number, y0 : y0 + height, x0 : x0 + width] = plane


def build_pyramid(path: str | Path, submit: Submit) -> None:
    """Fill every level from the one before, one task per shard; `submit` is an executor's."""
    from mihc.stores.arrays import boxes, open_for_writing, read_group, write_unit

    path = Path(path)
    levels = len(read_group(path)["multiscales"][0]["datasets"])
    for level in range(1, levels):
        array = open_for_writing(path / str(level))
        places = list(boxes(array.shape[1:], write_unit(array)[1:]))
        run_all(submit, halve_image_window, [(str(path), level, c, *b) for c in range(array.shape[0]) for b in places])


def halve_image_window(path: str, level: int, c: int, y0: int, y1: int, x0: int, x1: int) -> None:
    """Compute and write one shard of one channel of a level; the four shards below it are read one after the other."""
    from mihc.stores.arrays import boxes, open_for_writing

    finer, array = open_for_writing(Path(path) / str(level - 1)), open_for_writing(Path(path) / str(level))
    block = np.empty((y1 - y0, x1 - x0), array.dtype)
    for top, bottom, left, right in boxes(block.shape, (IMAGE_SHARD // 2, IMAGE_SHARD // 2)):
        ys, xs = slice(2 * (y0 + top), 2 * (y0 + bottom)), slice(2 * (x0 + left), 2 * (x0 + right))
        block[top:bottom, left:right] = halve(np.asarray(finer[c, ys, xs]))
    array[c, y0:y1, x0:x1] = block


def halve(block: np.ndarray) -> np.ndarray:
    """The mean of 2 x 2 pixels: (y, x) of any real dtype to (ceil(y / 2), ceil(x / 2)) of the same."""
    odd = [(0, side % 2) for side in block.shape]
    even = np.pad(block, odd, mode="edge") if any(after for _, after in odd) else block
    wide = np.float64 if block.dtype.kind == "f" else np.uint32 if block.dtype.itemsize <= 2 else np.int64
    if block.dtype.kind == "i":
        wide = np.int64
    total = even[0::2, 0::2].astype(wide)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        total += even[dy::2, dx::2]
    if wide is np.float64:
        total *= 0.25
    else:
        total += 2
        total >>= 2
    return total.astype(block.dtype)


def run_all(submit: Submit, function: Callable[..., None], tasks: Iterable[tuple]) -> None:
    """Run every task; after a failure no task is left running on files that are about to be discarded."""
    futures = [submit(function, *task) for task in tasks]
    try:
        for future in futures:
            future.result()
    except BaseException:
        for future in futures:
            future.cancel()
        wait([future for future in futures if not future.cancelled()])
        raise


def open_image(path: str | Path) -> StoredImage:
    """Open a committed image; nothing is read but its metadata.

    Raises
    ------
    DamagedError
        its metadata cannot be read, or a chunk is missing or empty
    """
    from mihc.stores.arrays import StoredArray, read_group

    path = Path(path)
    ome = read_group(path)
    levels = [StoredArray(path / dataset["path"]) for dataset in ome["multiscales"][0]["datasets"]]
    channels = ome["omero"]["channels"]
    return StoredImage(
        levels=levels,
        pixel_size_um=ngff.pixel_size_of(ome),
        channels=tuple(channel["label"] for channel in channels),
        colours=tuple(channel["color"] for channel in channels),
        windows=tuple((channel["window"]["start"], channel["window"]["end"]) for channel in channels),
        downsamples=tuple(2**level for level in range(len(levels))),
    )
