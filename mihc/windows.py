"""Windows and halos: pure geometry.

A slide is computed in square windows that start at multiples of their side. A window owns its core (half-open, so every
pixel has one owner) and reads its padded box: the core and a halo, cut to the image. A step whose result at a pixel
depends on at most `halo` pixels around it gives the same core in any window as in one pass over the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """One window: its half-open core [y0, y1) x [x0, x1) and the padded box around it, in pixels of the slide."""

    y0: int
    y1: int
    x0: int
    x1: int
    py0: int
    py1: int
    px0: int
    px1: int

    @property
    def core(self) -> tuple[slice, slice]:
        """The core as slices of the slide's plane."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def padded(self) -> tuple[slice, slice]:
        """The padded box as slices of the slide's plane."""
        return slice(self.py0, self.py1), slice(self.px0, self.px1)

    @property
    def core_in_padded(self) -> tuple[slice, slice]:
        """The core as slices of an array that holds the padded box."""
        rows = slice(self.y0 - self.py0, self.y1 - self.py0)
        return rows, slice(self.x0 - self.px0, self.x1 - self.px0)

    @property
    def padded_shape(self) -> tuple[int, int]:
        """Rows and columns of the padded box."""
        return self.py1 - self.py0, self.px1 - self.px0


def windows(shape_yx: tuple[int, int], side: int, halo: int) -> list[Window]:
    """Windows of `side` pixels from (0, 0), row by row; their cores tile the image exactly.

    Parameters
    ----------
    shape_yx : (y, x) pixels of the slide; a side of 0 gives no window.
    side : pixels; the last window of a row or column may be smaller.
    halo : pixels added on every side of the padded box, cut to the image.

    Raises
    ------
    ValueError
        If `side` is less than 1 or `halo` less than 0.
    """
    if side < 1 or halo < 0:
        raise ValueError(f"a window needs side >= 1 and halo >= 0, not side {side} and halo {halo}")
    height, width = shape_yx
    starts = ((y, x) for y in range(0, height, side) for x in range(0, width, side))
    return [_window(y, x, shape_yx, side, halo) for y, x in starts]


def whole(shape_yx: tuple[int, int]) -> Window:
    """The one window that is the whole image."""
    height, width = shape_yx
    return Window(0, height, 0, width, 0, height, 0, width)


def _window(y: int, x: int, shape_yx: tuple[int, int], side: int, halo: int) -> Window:
    (y0, y1, py0, py1), (x0, x1, px0, px1) = (
        (start, min(start + side, size), max(start - halo, 0), min(start + side + halo, size))
        for start, size in zip((y, x), shape_yx, strict=True)
    )
    return Window(y0, y1, x0, x1, py0, py1, px0, px1)


def pixel_size_pair(pixel_size_um: float | Sequence[float]) -> tuple[float, float]:
    """Pixel size as (y, x) in µm, of a number or of a pair."""
    try:
        y, x = pixel_size_um
    except TypeError:
        y = x = pixel_size_um
    return float(y), float(x)
