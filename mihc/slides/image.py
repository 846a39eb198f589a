"""The lazy (c, y, x) array that every slide offers, checked as it is read."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from mihc.errors import SlideError
from mihc.slides.contents import PixelSource

Index = int | slice | Sequence[int]


def offered_dtype(stored: np.dtype) -> np.dtype | None:
    """The dtype in which pixels are handed out; None for one that is no intensity.

    Native byte order; signed integers become unsigned of the same width once no pixel is negative; float16 becomes
    float32. No value is changed.
    """
    kind, size = stored.kind, stored.itemsize
    if kind == "b":
        return np.dtype(np.uint8)
    if kind in "ui" and size <= 4:
        return np.dtype(f"u{size}")
    if kind == "f" and size <= 8:
        return np.dtype(f"f{max(size, 4)}")
    return None


def check_pixels(block: np.ndarray, *, place: str, significant_bits: int | None = None) -> None:
    """Refuse a block of pixels that cannot be intensities.

    Parameters
    ----------
    block : array of any shape and dtype, as stored in the file
    place : the file, for the message
    significant_bits : bits that the file says hold the intensity, None when it says nothing

    Raises
    ------
    SlideError
        negative integers, NaN or infinity in floats, values above the declared bits
    """
    if block.size == 0:
        return
    if block.dtype.kind == "f":
        finite = np.isfinite(block)
        if not finite.all():
            count = int(block.size - np.count_nonzero(finite))
            raise SlideError(f"non-finite pixels (NaN or infinity), count {count} in one block", place=place)
    elif block.dtype.kind == "i" and block.min() < 0:
        raise SlideError(
            f"negative intensities, the lowest {block.min()} in a signed {block.dtype.name} image",
            place=place,
            fix="Export it as unsigned integers.",
        )
    elif significant_bits is not None and block.dtype.kind == "u" and significant_bits < 8 * block.dtype.itemsize:
        highest = int(block.max())
        if highest >= 1 << significant_bits:
            raise SlideError(
                f"an intensity of {highest} exceeds SignificantBits, {significant_bits}, that the file declares",
                place=place,
            )


class SlideImage:
    """A slide's pixels (c, y, x), read where they are indexed; safe to read from several threads.

    `image[c, y0:y1, x0:x1]` is (y, x), `image[:, y0:y1, x0:x1]` is (c, y, x); a list of channels works too.
    """

    ndim = 3

    def __init__(
        self,
        source: PixelSource,
        *,
        shape: tuple[int, int, int],
        stored: np.dtype,
        planes: Sequence[int],
        place: str,
        significant_bits: int | None = None,
    ):
        """Focal `planes` with more than one entry are projected by their maximum."""
        offered = offered_dtype(stored)
        if offered is None:
            raise SlideError(f"{stored.name} pixels are no intensities", place=place)
        self.shape, self.dtype = shape, offered
        self._source, self._planes, self._place, self._bits = source, tuple(planes), place, significant_bits

    def __repr__(self) -> str:
        return f"SlideImage(shape={self.shape}, dtype={self.dtype})"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Pixels in all channels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Index | tuple[Index, ...]) -> np.ndarray:
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in [part for part in parts if part is Ellipsis]:
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            parts[at : at + 1] = [slice(None)] * (4 - len(parts))
        if len(parts) > 3:
            raise IndexError(f"an image (c, y, x) has 3 axes, not {len(parts)}")
        parts += [slice(None)] * (3 - len(parts))
        channels, one_channel = _channel_list(parts[0], self.shape[0])
        (y0, y1, y_step), one_row = _span(parts[1], self.shape[1])
        (x0, x1, x_step), one_column = _span(parts[2], self.shape[2])
        block = self._read(channels, y0, y1, x0, x1)[:, ::y_step, ::x_step]
        return block[
            (0 if one_channel else slice(None), 0 if one_row else slice(None), 0 if one_column else slice(None))
        ]

    def _read(self, channels: list[int], y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        if not channels or y0 >= y1 or x0 >= x1:
            return np.zeros((len(channels), max(y1 - y0, 0), max(x1 - x0, 0)), self.dtype)
        block = self._read_plane(channels, y0, y1, x0, x1, self._planes[0])
        for z in self._planes[1:]:
            np.maximum(block, self._read_plane(channels, y0, y1, x0, x1, z), out=block)
        return block

    def _read_plane(self, channels: list[int], y0: int, y1: int, x0: int, x1: int, z: int) -> np.ndarray:
        stored = self._source.read(channels, y0, y1, x0, x1, z)
        for plane in stored:
            check_pixels(plane, place=self._place, significant_bits=self._bits)
        if stored.dtype.kind == "i" and stored.dtype.isnative:
            return stored.view(self.dtype)
        return stored.astype(self.dtype, copy=False)


def _channel_list(part: Index, count: int) -> tuple[list[int], bool]:
    if isinstance(part, slice):
        return list(range(*part.indices(count))), False
    if isinstance(part, (list, tuple, np.ndarray, range)):
        return [_position(index, count) for index in part], False
    return [_position(part, count)], True


def _position(index: int, count: int) -> int:
    position = operator.index(index)
    if not -count <= position < count:
        raise IndexError(f"index {position} is out of bounds for an axis of {count}")
    return position % count


def _span(part: Index, length: int) -> tuple[tuple[int, int, int], bool]:
    if isinstance(part, slice):
        start, stop, step = part.indices(length)
        if step < 1:
            raise IndexError("a slide is read forwards: the step of a slice must be positive")
        return (start, max(start, stop), step), False
    at = _position(part, length)
    return (at, at + 1, 1), True
