"""Label images in the store: uint32 pyramids under an image's `labels` group, halved by taking every second pixel.

Nearest neighbours only: a mean of two ids would be a third cell's id. Every id of a level is one of level 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mihc.stores import ngff
from mihc.stores.files import replace_file
from mihc.stores.images import Submit, run_all
from mihc.windows import pixel_size_pair

if TYPE_CHECKING:
    from mihc.stores.arrays import StoredArray
    from mihc.stores.chunks import Written

LABEL_CHUNK = 1024  # pixels: side of what one task writes; windows are multiples of it


def create_labels(
    path: str | Path, *, shape: Sequence[int], pixel_size_um: float | Sequence[float], name: str = ""
) -> None:
    """Make an empty label image with as many levels as its image.

    Parameters
    ----------
    path
        the labels' own folder, `.../<slide>.ome.zarr/labels/<name>`, new, inside a transaction
    shape
        (y, x) in pixels, the image's
    pixel_size_um
        one number or (y, x), in µm
    """
    from mihc.stores.arrays import create_array

    path = Path(path)
    shapes = ngff.level_shapes(shape)
    name = name or path.name
    scales = ngff.multiscales(len(shapes), pixel_size_pair(pixel_size_um), name=name, kind="nearest", channels=False)
    ngff.write_group(path, {"multiscales": scales, "image-label": {"source": {"image": "../../"}}})
    for level, shape_yx in enumerate(shapes):
        create_array(
            path / str(level),
            shape=shape_yx,
            dtype=np.dtype("uint32"),
            chunk=(LABEL_CHUNK, LABEL_CHUNK),
            shard=None,
            dimension_names=("y", "x"),
        )


def write_label_window(path: str | Path, level: int, y0: int, x0: int, block: np.ndarray) -> Written:
    """Write whole chunks of one level: block (y, x) from (y0, x0), multiples of LABEL_CHUNK or up to the edge.

    Returns
    -------
    bytes and sha256 of each file, by its name in the level's folder

    Raises
    ------
    ValueError
        the block would share a chunk with another window, or holds what is no uint32
    """
    from mihc.stores.chunks import check_aligned, read_layout, write_box

    if not np.can_cast(block.dtype, np.uint32, casting="safe"):
        raise ValueError(f"labels are uint32, not {block.dtype}")
    folder = Path(path) / str(level)
    layout = read_layout(folder)
    check_aligned(layout, y0, x0, *block.shape)
    return write_box(folder, layout, (y0, x0), block)


def build_label_pyramid(path: str | Path, submit: Submit) -> None:
    """Fill every level from the one before, one task per chunk; `submit` is an executor's."""
    from mihc.stores.arrays import read_group
    from mihc.stores.chunks import boxes, read_layout

    path = Path(path)
    for level in range(1, len(read_group(path)["multiscales"][0]["datasets"])):
        layout = read_layout(path / str(level))
        run_all(submit, halve_label_window, [(str(path), level, *box) for box in boxes(layout.shape, layout.unit)])


def halve_label_window(path: str, level: int, y0: int, y1: int, x0: int, x1: int) -> Written:
    """Take every second pixel of the level before for one chunk of a level."""
    from mihc.stores.chunks import read_box, read_layout

    folder = Path(path) / str(level - 1)
    finer = read_layout(folder)
    height, width = finer.shape
    block = read_box(folder, finer, ((2 * y0, min(2 * y1, height)), (2 * x0, min(2 * x1, width))))
    return write_label_window(path, level, y0, x0, block[::2, ::2])


def open_labels(path: str | Path, name: str) -> list[StoredArray]:
    """The levels (y, x) of one of an image's label images, largest first.

    Raises
    ------
    DamagedError
        it is not there, or a chunk is missing or empty
    """
    from mihc.stores.arrays import StoredArray, read_group

    folder = Path(path) / "labels" / name
    return [StoredArray(folder / dataset["path"]) for dataset in read_group(folder)["multiscales"][0]["datasets"]]


def is_labels(root: str) -> bool:
    """Whether a path relative to results/ is a label image of a slide, or lies in one."""
    image, found, _ = root.partition("/labels/")
    return bool(found) and image.endswith(".ome.zarr")


def label_names(image: Path) -> list[str]:
    """The label images that lie in an image's folder, sorted."""
    return sorted(path.parent.name for path in (image / "labels").glob("*/zarr.json"))


def listing(image: Path) -> bytes:
    """What the zarr.json of an image's `labels` group has to say."""
    return ngff.group_json({"labels": label_names(image)})


def refresh_listing(image: Path) -> None:
    """Write the list of an image's labels; it follows from the folders alone, so no stage owns it."""
    if label_names(image):
        replace_file(image / "labels" / "zarr.json", listing(image))
    else:
        (image / "labels" / "zarr.json").unlink(missing_ok=True)
