"""CZI (ZEISS): mosaics and scenes, through libCZI.

libCZI fills with zeros what is not there: a scene or channel that does not exist, and glass that was not scanned.
So everything that is asked for is checked against the directory of subblocks first, and the scanned area is the
union of the subblocks' rectangles, never a matter of intensity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from mihc.errors import SlideError
from mihc.slides.contents import (
    MAX_SEGMENT_BYTES,
    Refusal,
    SceneContents,
    SlideContents,
    brightfield_refusal,
    unreadable,
)
from mihc.slides.czi_directory import Subblock, read_directory
from mihc.slides.czi_text import CziText, read_czi_text

CACHE_BYTES = 300 << 20  # decoded subblocks that neighbouring windows share
_DTYPES = {"Gray8": np.dtype(np.uint8), "Gray16": np.dtype(np.uint16), "Gray32Float": np.dtype(np.float32)}
_COMPRESSIONS = {0: "uncompressed", 1: "jpeg", 2: "lzw", 4: "jpeg-xr", 5: "zstd0", 6: "zstd1"}


def read_czi(path: Path) -> SlideContents:
    """The contents of a CZI; no pixel and no attachment (label, preview, thumbnail) is read."""
    blocks = read_directory(path)
    if not blocks:
        raise unreadable(path, "a CZI without subblocks, that is, without pixels")
    text = read_czi_text(path)
    full = [block for block in blocks if block.shrink == 1]
    if not full:
        raise unreadable(path, "a CZI without full-resolution subblocks")
    numbers = sorted({block.position.get("S", 0) for block in full})
    with_s = any("S" in block.position for block in full)
    scenes = tuple(_scene(path, _of_scene(blocks, number), text, number if with_s else None) for number in numbers)
    everything = _scene(path, blocks, text, None, name="all") if len(scenes) > 1 else None
    return SlideContents(
        path, "CZI", scenes, all_scenes=everything, ignored=("attachments (label, preview, thumbnail)",)
    )


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """libCZI raises plain RuntimeErrors for whatever is wrong with a file."""
    try:
        return read()
    except (SlideError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise unreadable(path, f"a truncated or damaged CZI: {first_line}") from error


def _open_reader(path: Path) -> Any:
    from pylibCZIrw import czi

    options = czi.CacheOptions(type=czi.CacheType.Standard, max_memory_usage=CACHE_BYTES, max_sub_block_count=10_000)
    return czi.CziReader(str(path), czi.ReaderFileInputTypes.Standard, cache_options=options)


def _of_scene(blocks: Sequence[Subblock], number: int) -> list[Subblock]:
    return [block for block in blocks if block.position.get("S", 0) == number]


def _scene(
    path: Path, blocks: Sequence[Subblock], text: CziText, number: int | None, name: str | None = None
) -> SceneContents:
    full = [block for block in blocks if block.shrink == 1]
    boxes = np.array([block.box for block in full])
    x0, y0 = (int(v) for v in boxes[:, :2].min(0))
    x1, y1 = (int(v) for v in boxes[:, 2:].max(0))
    channels = sorted({block.position.get("C", 0) for block in full})
    z_planes = sorted({block.position.get("Z", 0) for block in full})
    times = sorted({block.position.get("T", 0) for block in full})
    count = max(len(channels), channels[-1] + 1)
    types = {block.pixel_type for block in full}
    dtype = _DTYPES.get(next(iter(types)), np.dtype(np.uint8))
    planes = [{"Z": z, "T": times[0]} for z in z_planes]
    return SceneContents(
        name=text.scene_names.get(number or 0, "") if name is None else name,
        shape=(count, y1 - y0, x1 - x0),
        dtype=dtype,
        channels=(*text.names, *[""] * count)[:count],
        pixel_sizes=text.pixel_sizes,
        open_pixels=lambda: CziPixels(path, x0, y0, planes, number, dtype),
        z_planes=len(z_planes),
        time_points=len(times),
        levels=tuple(_levels(blocks, y1 - y0, x1 - x0)),
        significant_bits=text.bits,
        scanned_px=_scanned(boxes, x0, y0),
        refusals=tuple(_refusals(full, text, types, count)),
        facts={"compression": _compression(full), "mosaic": f"{len(np.unique(boxes, axis=0))} tiles", **text.objective},
    )


def _scanned(boxes: np.ndarray, x0: int, y0: int) -> shapely.Geometry:
    """The union of the tiles, in pixels of the canvas."""
    unique = np.unique(boxes, axis=0) - np.array([x0, y0, x0, y0])
    return shapely.union_all(shapely.box(*unique.T.astype(float)))


def _levels(blocks: Sequence[Subblock], height: int, width: int) -> list[tuple[int, int]]:
    factors = sorted({block.shrink for block in blocks})
    return [(-(-height // factor), -(-width // factor)) for factor in factors]


def _compression(blocks: Sequence[Subblock]) -> str:
    modes = sorted({block.compression for block in blocks})
    return ", ".join(_COMPRESSIONS.get(mode, str(mode)) for mode in modes)


def _refusals(full: Sequence[Subblock], text: CziText, types: set[str], count: int) -> list[Refusal]:
    if any(kind.startswith("Bgr") for kind in types):
        return [brightfield_refusal(", ".join(sorted(types)))]
    if len(types) > 1 or not types <= set(_DTYPES):
        return [
            Refusal(f"pixel types {', '.join(sorted(types))} are not supported", "Export one type, Gray8 or Gray16.")
        ]
    others = [d for d in "HIRVB" if len({block.position.get(d, 0) for block in full}) > 1]
    if others:
        return [Refusal(f"several entries in dimension {', '.join(others)}", "Export one of them as its own file.")]
    if text.size_c is not None and text.size_c != count:
        return [Refusal(f"{text.size_c} channels declared, {count} present", "Export the slide again.")]
    if max(block.width * block.height for block in full) * 4 > MAX_SEGMENT_BYTES:
        return [Refusal(f"a subblock exceeds the limit of {MAX_SEGMENT_BYTES} bytes decoded")]
    if any((block.stored_width, block.stored_height) != (block.width, block.height) for block in full):
        return [Refusal("a full-resolution subblock is stored in another size than the directory says")]
    return _missing_tiles(full, count)


def _missing_tiles(full: Sequence[Subblock], count: int) -> list[Refusal]:
    """Every channel and focal plane must have the same tiles: an absent one would be read as black."""
    tiles: dict[tuple[int, int, int], set[tuple[int, int, int, int]]] = {}
    for block in full:
        key = (block.position.get("C", 0), block.position.get("Z", 0), block.position.get("T", 0))
        tiles.setdefault(key, set()).add(block.box)
    present = {c for c, _, _ in tiles}
    if len(present) != count:
        return [Refusal(f"{count} channels declared, {len(present)} present", "Export the slide again.")]
    everything = set().union(*tiles.values())
    for (c, _, _), have in sorted(tiles.items()):
        if have != everything:
            return [
                Refusal(f"channel {c} has {len(have)} of {len(everything)} mosaic tiles", "Export the slide again.")
            ]
    return []


class CziPixels:
    """One scene's pixels, composed by libCZI; its reader may be used from several threads."""

    def __init__(
        self,
        path: Path,
        x0: int,
        y0: int,
        planes: Sequence[dict[str, int]],
        scene: int | None,
        dtype: np.dtype,
    ):
        self._path, self._x0, self._y0, self._planes = path, x0, y0, planes
        self._scene, self._dtype = scene, dtype
        self._reader = _guarded(path, lambda: _open_reader(path))

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()

    def read(self, channels: Sequence[int], y0: int, y1: int, x0: int, x1: int, z: int) -> np.ndarray:
        """Pixels (len(channels), y1 - y0, x1 - x0); 0 where nothing was scanned."""
        out = np.empty((len(channels), y1 - y0, x1 - x0), self._dtype)
        roi = (self._x0 + x0, self._y0 + y0, x1 - x0, y1 - y0)
        for at, channel in enumerate(channels):
            plane = {"C": channel, **self._planes[z]}
            block = _guarded(self._path, lambda plane=plane: self._reader.read(roi=roi, plane=plane, scene=self._scene))
            out[at] = block[..., 0]
        return out
