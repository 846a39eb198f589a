"""CZI (ZEISS): mosaics and scenes, through libCZI.

libCZI fills with zeros what is not there: a scene or channel that does not exist, and glass that was not scanned.
So everything that is asked for is checked against the directory of subblocks first, and the scanned area is the
union of the subblocks' rectangles, never a matter of intensity.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from mihc.errors import SlideError
from mihc.slides.contents import Refusal, SceneContents, SlideContents, unreadable
from mihc.slides.czi_directory import Subblock, read_directory
from mihc.slides.czi_inventory import file_refusals, file_warnings, scene_refusals, scene_warnings
from mihc.slides.czi_text import CziText, read_czi_text

CACHE_BYTES = 200 << 20  # decoded subblocks that neighbouring windows share; in every process that decodes
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
    of_file = _OfFile(
        tuple(file_refusals(full, text.declared)), tuple(file_warnings(full, text.declared)) if text.declared else ()
    )
    scenes = tuple(
        _scene(path, _of_scene(blocks, number), text, of_file, number if with_s else None) for number in numbers
    )
    everything = _scene(path, blocks, text, of_file, None, name="all") if len(scenes) > 1 else None
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


@dataclass(frozen=True)
class _OfFile:
    """What the inventory of the whole file says of every scene."""

    refusals: tuple[Refusal, ...]
    warnings: tuple[str, ...]


def _scene(
    path: Path,
    blocks: Sequence[Subblock],
    text: CziText,
    of_file: _OfFile,
    number: int | None,
    name: str | None = None,
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
        dyes=(*text.dyes, *[""] * count)[:count] if any(text.dyes) else (),
        refusals=(*scene_refusals(full, types, set(_DTYPES), count), *of_file.refusals),
        warnings=(*scene_warnings(full), *of_file.warnings),
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


class CziPixels:
    """One scene's pixels, composed by libCZI; its reader may be used from several threads.

    libCZI sees the file when the first pixels are asked for: whoever only looks at what a slide says runs no decoder.
    """

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
        self._opening = threading.Lock()
        self._reader: Any = None
        self._closed = False

    def close(self) -> None:
        """Give the file back."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()

    def _opened(self) -> Any:
        with self._opening:
            if self._closed:
                raise ValueError("the slide is closed")
            if self._reader is None:
                self._reader = _open_reader(self._path)
        return self._reader

    def read(self, channels: Sequence[int], y0: int, y1: int, x0: int, x1: int, z: int) -> np.ndarray:
        """Pixels (len(channels), y1 - y0, x1 - x0); 0 where nothing was scanned."""
        out = np.empty((len(channels), y1 - y0, x1 - x0), self._dtype)
        roi = (self._x0 + x0, self._y0 + y0, x1 - x0, y1 - y0)
        for at, channel in enumerate(channels):
            plane = {"C": channel, **self._planes[z]}
            block = _guarded(
                self._path, lambda plane=plane: self._opened().read(roi=roi, plane=plane, scene=self._scene)
            )
            out[at] = block[..., 0]
        return out
