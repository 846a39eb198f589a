"""What a slide file says about itself, the same words for every format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely

from mihc.errors import SlideError, quoted_path

# Declared sizes are refused above these before any memory is asked for.
MAX_SIDE_PX = 1_000_000
MAX_PLANE_PX = 100_000_000_000
MAX_CHANNELS = 256
MAX_TILE_SIDE_PX = 8192
MAX_SEGMENT_BYTES = 1 << 30


@dataclass(frozen=True)
class Refusal:
    """One reason why a slide cannot be used as it is."""

    what: str  # what was found and what is needed
    fix: str = ""  # what to type or change


@dataclass(frozen=True)
class PixelSizeClaim:
    """What one place in a file says about the pixel size."""

    source: str  # where it is written, for example "OME-XML PhysicalSizeX"
    y_um: float = float("nan")
    x_um: float = float("nan")
    problem: str = ""  # why it cannot be used; empty = usable


class PixelSource(Protocol):
    """Where pixels come from: one scene of one file at full resolution."""

    def read(self, channels: Sequence[int], y0: int, y1: int, x0: int, x1: int, z: int) -> np.ndarray:
        """Pixels (len(channels), y1 - y0, x1 - x0) of focal plane `z`; the box lies inside the canvas."""

    def close(self) -> None:
        """Give the file back."""


@dataclass(frozen=True)
class SceneContents:
    """One picture of a file: a CZI scene, an OME image, a series of pages."""

    name: str
    shape: tuple[int, int, int]  # (c, y, x)
    dtype: np.dtype  # as stored
    channels: tuple[str, ...]  # "" where the file names none
    pixel_sizes: tuple[PixelSizeClaim, ...]
    open_pixels: Callable[[], PixelSource]
    z_planes: int = 1
    time_points: int = 1
    levels: tuple[tuple[int, int], ...] = ()  # (y, x) of each pyramid level, full resolution first
    significant_bits: int | None = None
    scanned_px: shapely.Geometry | None = None  # None = the whole canvas
    dyes: tuple[str, ...] = ()  # one for each channel, "" where the file names none; () = none at all
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)  # numbers and codec names only


@dataclass(frozen=True)
class SlideContents:
    """Everything mihc reads from a file before its pixels."""

    path: Path
    format: str  # "OME-TIFF" | "TIFF" | "QPTIFF" | "CZI" | "OME-Zarr"
    scenes: tuple[SceneContents, ...]
    all_scenes: SceneContents | None = None  # the box of all scenes as one picture, where a format has that
    ignored: tuple[str, ...] = ()  # pictures that are never decoded: label, macro, thumbnail


def inspect_line(path: Path) -> str:
    """The command that shows what is in a file, as a person would type it."""
    return f"mihc inspect {quoted_path(path.name)}"


def unreadable(path: Path, what: str, fix: str = "") -> SlideError:
    """The error for a file that is broken or no slide."""
    return SlideError(what, place=path.name, fix=fix or "Copy or export the slide again from the scanner's program.")


def size_refusal(shape: tuple[int, int, int]) -> Refusal | None:
    """The refusal of a declared size that no slide has, None when it is plausible."""
    channels, height, width = shape
    if min(shape) < 1:
        return Refusal(f"an empty image: {channels} channels of {width} x {height} px")
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PLANE_PX:
        return Refusal(
            f"declares {width} x {height} px, which exceeds the limit of {MAX_SIDE_PX} px a side"
            f" and {MAX_PLANE_PX} px in all"
        )
    if channels > MAX_CHANNELS:
        return Refusal(f"declares {channels} channels, which exceeds the limit of {MAX_CHANNELS}")
    return None


def brightfield_refusal(kind: str) -> Refusal:
    """The refusal of a coloured picture."""
    return Refusal(
        f"a brightfield RGB picture ({kind}), not one channel per marker",
        "mihc measures fluorescence: export the unmixed channels, for example as OME-TIFF.",
    )
