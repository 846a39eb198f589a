"""Slide images in the store: an OME-Zarr 0.5 pyramid, written shard by shard.

Level k + 1 holds the mean of 2 x 2 pixels of level k: integers as floor(sum / 4 + 1 / 2), floats as the mean in double
precision. At an odd edge the last row or column stands for the one that is missing, so the mean is of what is
there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mihc.stores import ngff
from mihc.windows import pixel_size_pair

if TYPE_CHECKING:
    import zarr

    from mihc.stores.arrays import StoredArray
    from mihc.stores.chunks import Written

IMAGE_SHARD = 2048  # pixels: side of what one task writes; windows are multiples of it
IMAGE_PASS = 2 * IMAGE_SHARD  # pixels: side of what one task of ingest reads: four shards, and one of the level above
_CHUNK = 512  # pixels: side of what one read decodes
_BAND = 64  # rows that are halved together, so that they stay in the processor's cache

Submit = Callable[..., Future]
Result = TypeVar("Result")


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


def display_window(path: str, level: int, c: int) -> tuple[float, float]:
    """The 1st and the 99.8th percentile of one channel's pixels on a level, in counts: how bright it is shown."""
    from mihc.stores.chunks import read_box, read_layout

    folder = Path(path) / str(level)
    layout = read_layout(folder)
    pixels = read_box(folder, layout, ((c, c + 1), *((0, side) for side in layout.shape[1:])))
    start, end = np.percentile(pixels, (1, 99.8))
    return float(start), float(end)


def set_display_windows(path: str | Path, windows: Sequence[tuple[float, float]]) -> None:
    """Record how bright each channel is shown: (start, end) in counts, one per channel. Inside a transaction."""
    from mihc.stores.arrays import read_group

    ome = read_group(Path(path))
    for channel, (start, end) in zip(ome["omero"]["channels"], windows, strict=True):
        window = channel["window"]
        window.update(start=float(start), end=float(end))
        window.update(min=min(window["min"], float(start)), max=max(window["max"], float(end)))
    ngff.write_group(Path(path), {key: value for key, value in ome.items() if key != "version"})


def write_image_window(path: str | Path, level: int, c: int, y0: int, x0: int, block: np.ndarray) -> Written:
    """Write whole shards of one level.

    Parameters
    ----------
    c, y0, x0
        where the block begins; y0 and x0 are multiples of IMAGE_SHARD
    block
        (y, x) of channel c, or (n, y, x) of n channels from c on; it ends at a multiple of IMAGE_SHARD or at the edge

    Returns
    -------
    bytes and sha256 of each file, by its name in the image's folder

    Raises
    ------
    ValueError
        the block would share a shard with another window
    """
    from mihc.stores.chunks import check_aligned, read_layout, write_box

    planes = block[np.newaxis] if block.ndim == 2 else block
    folder = Path(path) / str(level)
    layout = read_layout(folder)
    check_aligned(layout, y0, x0, *planes.shape[1:])
    return _in_level(level, write_box(folder, layout, (c, y0, x0), planes))


def _in_level(level: int, written: Written) -> Written:
    return {f"{level}/{name}": fact for name, fact in written.items()}


def use_in_place(
    path: str | Path, array: zarr.Array, folder: Path, axes: Sequence[str], channels: Sequence[int]
) -> bool:
    """Make level 0 of the channels of an OME-Zarr slide's own chunk files; see `mihc.stores.in_place`.

    Returns
    -------
    False where they cannot be used as they are, or cannot be linked here: nothing has changed then
    """
    from mihc.stores import in_place

    found = in_place.takable(array, folder, axes)
    return found is not None and in_place.take(found, Path(path) / "0", channels)


def write_image_pass(
    path: str | Path,
    c: int,
    box: tuple[int, int, int, int],
    read: Callable[[int, int, int, int], np.ndarray],
    *,
    in_place: bool = False,
) -> Written:
    """Write levels 0 and 1 of one square of one channel, each pixel read once; only level 1 if 0 is used in place.

    Parameters
    ----------
    box
        (y0, y1, x0, x1) of level 0: from multiples of IMAGE_PASS to the next ones or to the edge
    read
        returns the pixels (y, x) of a part (y0, y1, x0, x1) of the box, at most IMAGE_SHARD a side

    Returns
    -------
    bytes and sha256 of each file, by its name in the image's folder
    """
    from mihc.stores.chunks import boxes

    y0, y1, x0, x1 = box
    halved: np.ndarray | None = None
    written: Written = {}
    for top, bottom, left, right in boxes((y1 - y0, x1 - x0), (IMAGE_SHARD, IMAGE_SHARD)):
        block = read(y0 + top, y0 + bottom, x0 + left, x0 + right)
        if not in_place:
            written |= write_image_window(path, 0, c, y0 + top, x0 + left, block)
        if halved is None:
            halved = np.empty((-(-(y1 - y0) // 2), -(-(x1 - x0) // 2)), block.dtype)
        halved[top // 2 : -(-bottom // 2), left // 2 : -(-right // 2)] = halve(block)
    if (Path(path) / "1").is_dir():
        written |= write_image_window(path, 1, c, y0 // 2, x0 // 2, halved)
    return written


def build_pyramid(path: str | Path, submit: Submit, *, first: int = 1) -> Written:
    """Fill the levels from `first` on, each from the one before; `submit` is an executor's.

    There is one task per shard, and one per channel for the levels that are a single shard.

    Returns
    -------
    bytes and sha256 of each file, by its name in the image's folder
    """
    from mihc.stores.arrays import read_group
    from mihc.stores.chunks import boxes, read_layout

    path, written = Path(path), {}
    for level in range(first, len(read_group(path)["multiscales"][0]["datasets"])):
        layout = read_layout(path / str(level))
        places = list(boxes(layout.shape[1:], layout.unit[1:]))
        planes = range(layout.shape[0])
        last = len(places) == 1
        tasks = [(str(path), level, c) if last else (str(path), level, c, *box) for c in planes for box in places]
        for files in run_all(submit, halve_image_plane if last else halve_image_window, tasks):
            written |= files
        if last:
            break
    return written


def halve_image_plane(path: str, first: int, c: int) -> Written:
    """Compute and write every level of one channel from `first` on, which are a single shard each."""
    from mihc.stores.chunks import read_layout

    written: Written = {}
    for level in itertools.count(first):
        if not (Path(path) / str(level)).is_dir():
            return written
        height, width = read_layout(Path(path) / str(level)).shape[1:]
        written |= halve_image_window(path, level, c, 0, height, 0, width)


def halve_image_window(path: str, level: int, c: int, y0: int, y1: int, x0: int, x1: int) -> Written:
    """Compute and write one shard of one channel of a level; the four shards below it are read one after the other."""
    from mihc.stores.chunks import boxes, read_box, read_layout

    folder = Path(path) / str(level - 1)
    finer = read_layout(folder)
    height, width = finer.shape[1:]
    block = np.empty((y1 - y0, x1 - x0), finer.dtype.newbyteorder("="))
    for top, bottom, left, right in boxes(block.shape, (IMAGE_SHARD // 2, IMAGE_SHARD // 2)):
        ys = 2 * (y0 + top), min(2 * (y0 + bottom), height)
        xs = 2 * (x0 + left), min(2 * (x0 + right), width)
        block[top:bottom, left:right] = halve(read_box(folder, finer, ((c, c + 1), ys, xs))[0])
    return write_image_window(path, level, c, y0, x0, block)


def halve(block: np.ndarray) -> np.ndarray:
    """The mean of 2 x 2 pixels: (y, x) of any real dtype to (ceil(y / 2), ceil(x / 2)) of the same."""
    odd = [(0, side % 2) for side in block.shape]
    even = np.pad(block, odd, mode="edge") if any(after for _, after in odd) else block
    if block.dtype.kind == "u" and block.dtype.itemsize <= 2:
        return _halved_by_pairs(even)
    wide = np.float64 if block.dtype.kind == "f" else np.int64
    total = even[0::2, 0::2].astype(wide)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        total += even[dy::2, dx::2]
    if wide is np.float64:
        total *= 0.25
    else:
        total += 2
        total >>= 2
    return total.astype(block.dtype)


def _halved_by_pairs(even: np.ndarray) -> np.ndarray:
    """`halve` of uint8 or uint16 with even sides: two neighbours are taken as one number and added by its halves."""
    bits = 8 * even.dtype.itemsize
    pairs = np.ascontiguousarray(even).view(f"u{2 * even.dtype.itemsize}")
    low, two, shift = (pairs.dtype.type(number) for number in (2**bits - 1, 2, bits))
    out = np.empty((even.shape[0] // 2, even.shape[1] // 2), even.dtype)
    for row in range(0, len(pairs), _BAND):
        band = pairs[row : row + _BAND]
        total = band & low
        total += band >> shift
        total = total[0::2] + total[1::2]
        total += two
        total >>= two
        out[row // 2 : row // 2 + len(total)] = total
    return out


def run_all(submit: Submit, function: Callable[..., Result], tasks: Iterable[tuple]) -> list[Result]:
    """What every task returns; after a failure no task is left running on files that are about to be discarded."""
    futures = [submit(function, *task) for task in tasks]
    try:
        return [future.result() for future in futures]
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
