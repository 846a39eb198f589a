"""A vendor's or OME file as a lazy (c, y, x) array with pixel size and channel names.

`open_slide` answers for OME-TIFF, plain TIFF, QPTIFF, CZI and OME-Zarr; what a file does not say is never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import shapely

from mihc.errors import SlideError
from mihc.slides.contents import (
    PixelSource,
    Refusal,
    SceneContents,
    SlideContents,
    brightfield_refusal,
    inspect_line,
    size_refusal,
    unreadable,
)
from mihc.slides.image import SlideImage, check_pixels, offered_dtype
from mihc.slides.pixel_size import settle_pixel_size
from mihc.slides.summary import summarise

__all__ = ["Slide", "check_pixels", "inspect_slide", "open_slide"]

PixelSize = float | tuple[float, float]


@dataclass(frozen=True)
class Slide:
    """One picture of a slide, open for reading; `close()` it or use it in a `with` statement."""

    path: Path
    format: str  # "OME-TIFF" | "TIFF" | "QPTIFF" | "CZI" | "OME-Zarr"
    scene: str  # the name of the scene, "" where the file has no names
    image: SlideImage  # (c, y, x) counts; native byte order; uint8, uint16, uint32, float32 or float64
    pixel_size_um: tuple[float, float]  # (y, x)
    pixel_size_source: str  # where the pixel size is written
    channels: tuple[str, ...]  # "" where the file names none; may repeat, see duplicate_channels
    dyes: tuple[str, ...]  # the dye of each channel, "" where the file names none
    scenes: tuple[str, ...]  # names of all scenes of the file
    significant_bits: int | None  # bits of the intensity that the file declares
    levels: tuple[tuple[int, int], ...]  # (y, x) of each pyramid level
    scanned_px: shapely.Geometry  # the scanned part of the canvas, in pixels, x right, y down
    warnings: tuple[str, ...]  # doubts that do not stop the reading
    facts: dict[str, str]  # numbers and codec names
    _source: PixelSource = field(repr=False)

    @property
    def duplicate_channels(self) -> tuple[str, ...]:
        """Channel names that occur more than once: such a channel can only be asked for by its index."""
        return duplicate_names(self.channels)

    @property
    def pixels(self) -> PixelSource:
        """Where the pixels come from, in the way of the file's format."""
        return self._source

    def close(self) -> None:
        """Give the file back; reading afterwards fails."""
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_slide(
    path: str | Path,
    *,
    scene: str | int | None = None,
    pixel_size_um: PixelSize | None = None,
    z: int | str | None = None,
) -> Slide:
    """Open a slide for reading.

    Parameters
    ----------
    path : file (OME-TIFF, TIFF, QPTIFF, CZI) or folder (OME-Zarr 0.4 or 0.5)
    scene : name or 0-based index of the scene, or "all" (CZI: one canvas around all scenes); needed when there are
        several
    pixel_size_um : µm, a number or (y, x), for a file that does not say it; must not contradict one that does
    z : 0-based focal plane, or "max" for the maximum over all of them; needed when there are several

    Returns
    -------
    Slide whose `image` is (c, y, x) and reads only what is indexed. Duplicate and empty channel names are kept as they
    are, because a panel may name channels by index; `Slide.duplicate_channels` lists them.

    Raises
    ------
    SlideError
        with every reason at once: an empty, truncated or foreign file, a missing or doubtful pixel size, brightfield
        RGB, missing planes, several scenes, focal planes or time points without a choice, sizes beyond every slide
    """
    contents = read_contents(Path(path))
    chosen, planes, settled = _decide(contents, scene, pixel_size_um, z)
    source = chosen.open_pixels()
    height, width = chosen.shape[1:]
    return Slide(
        path=contents.path,
        format=contents.format,
        scene=chosen.name,
        image=SlideImage(
            source,
            shape=chosen.shape,
            stored=chosen.dtype,
            planes=planes,
            place=contents.path.name,
            significant_bits=chosen.significant_bits,
        ),
        pixel_size_um=settled[0],
        pixel_size_source=settled[1],
        channels=chosen.channels,
        dyes=chosen.dyes or ("",) * len(chosen.channels),
        scenes=tuple(each.name for each in contents.scenes),
        significant_bits=chosen.significant_bits,
        levels=chosen.levels or ((height, width),),
        scanned_px=chosen.scanned_px or shapely.box(0, 0, width, height),
        warnings=chosen.warnings,
        facts=dict(chosen.facts),
        _source=source,
    )


def inspect_slide(
    path: str | Path,
    *,
    scene: str | int | None = None,
    pixel_size_um: PixelSize | None = None,
    z: int | str | None = None,
) -> list[str]:
    """What is in a file, as lines for people; where `open_slide` refuses, the refusal and what to type.

    Raises
    ------
    SlideError
        when nothing of the file can be read
    """
    contents = read_contents(Path(path))
    chosen, _ = _choose_scene(contents, scene)
    try:
        chosen, _, settled = _decide(contents, scene, pixel_size_um, z)
        return summarise(contents, chosen, *settled)
    except SlideError as error:
        return [*summarise(contents, chosen), "", "mihc cannot use this file yet:", *_indented(error)]


def _decide(
    contents: SlideContents, scene: str | int | None, pixel_size_um: PixelSize | None, z: int | str | None
) -> tuple[SceneContents, Sequence[int], tuple[tuple[float, float], str]]:
    """The scene, its focal planes and its pixel size with source; raises with every reason against the file."""
    chosen, refusals = _choose_scene(contents, scene)
    if chosen is None:
        raise _refuse(contents.path, refusals)
    planes, z_refusal = _choose_planes(chosen, z)
    settled = settle_pixel_size(chosen.pixel_sizes, _pair(pixel_size_um), contents.path)
    refusals = [*_content_refusals(chosen), *([z_refusal] if z_refusal else [])]
    if isinstance(settled, Refusal):
        raise _refuse(contents.path, [*refusals, settled])
    if refusals:
        raise _refuse(contents.path, refusals)
    return chosen, planes, settled


def duplicate_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Names that occur more than once, ignoring empty ones, in order."""
    return tuple(name for name, count in Counter(channels).items() if name and count > 1)


def _indented(error: SlideError) -> list[str]:
    fix = error.fix.partition(", or run: mihc inspect")[0]  # it is running
    return [f"  {line}" for line in f"{error.what}\n{fix}".strip().splitlines()]


def read_contents(path: Path) -> SlideContents:
    """What a file says about itself, in the format that its first bytes show."""
    try:
        if path.is_dir():
            from mihc.slides.ome_zarr import read_ome_zarr

            return read_ome_zarr(path)
        return _read_file(path)
    except FileNotFoundError as error:
        raise SlideError(
            "no such file", place=str(path), fix="Correct the path, or slides.csv, column file."
        ) from error
    except PermissionError as error:
        raise SlideError("no permission to read it", place=path.name, fix="Ask its owner for read access.") from error


def _read_file(path: Path) -> SlideContents:
    with path.open("rb") as file:
        magic = file.read(16)
    if not magic:
        raise unreadable(path, "empty file (0 bytes)", "Copy it again from the scanner.")
    if magic.startswith(b"ZISRAWFILE"):
        from mihc.slides.czi import read_czi

        return read_czi(path)
    if path.suffix.casefold() == ".czi":
        raise unreadable(path, "is not a CZI: it does not start with ZISRAWFILE")
    if magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff_family(path)
    raise unreadable(
        path,
        "is no slide that mihc reads",
        "mihc reads OME-TIFF, TIFF, QPTIFF, CZI and OME-Zarr: export the slide as one of them.",
    )


def _read_tiff_family(path: Path) -> SlideContents:
    from mihc.slides.ome_tiff import is_ome_tiff, read_ome_tiff
    from mihc.slides.qptiff import is_qptiff, read_qptiff
    from mihc.slides.tiff import read_tiff
    from mihc.slides.tiff_pages import read_skeleton

    try:
        skeleton = read_skeleton(path)
        if is_qptiff(skeleton):
            return read_qptiff(skeleton)
        return read_ome_tiff(skeleton) if is_ome_tiff(skeleton) else read_tiff(skeleton)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:  # tags of a type that no TIFF has
        raise unreadable(path, f"is not a valid TIFF: {type(error).__name__} {error}") from error


def _refuse(path: Path, refusals: Sequence[Refusal]) -> SlideError:
    fixes = dict.fromkeys(refusal.fix for refusal in refusals if refusal.fix)
    what = "; ".join(dict.fromkeys(refusal.what for refusal in refusals))
    return SlideError(what, place=path.name, fix="\n".join(fixes) or f"See what is in it: {inspect_line(path)}")


def _pair(pixel_size_um: PixelSize | None) -> tuple[float, float] | None:
    if pixel_size_um is None:
        return None
    if isinstance(pixel_size_um, (int, float)):
        return float(pixel_size_um), float(pixel_size_um)
    y_um, x_um = pixel_size_um
    return float(y_um), float(x_um)


def _choose_scene(contents: SlideContents, scene: str | int | None) -> tuple[SceneContents | None, list[Refusal]]:
    scenes = contents.scenes
    wanted = "" if scene is None else str(scene).strip()
    listed = ", ".join(f"{at} “{each.name}”" if each.name else str(at) for at, each in enumerate(scenes))
    fix = f"Choose one in slides.csv, column scene: {listed}" + (", or all" if contents.all_scenes else "")
    if wanted.casefold() == "all" and (contents.all_scenes or len(scenes) == 1):
        return contents.all_scenes or scenes[0], []
    if not wanted:
        if len(scenes) == 1:
            return scenes[0], []
        return None, [Refusal(f"holds {len(scenes)} scenes", fix)]
    named = [each for each in scenes if each.name == wanted]
    if len(named) == 1:
        return named[0], []
    if wanted.isdecimal() and int(wanted) < len(scenes) and not named:
        return scenes[int(wanted)], []
    found = "several scenes are" if named else "no scene is"
    return None, [Refusal(f"{found} named “{wanted}”", fix)]


def _choose_planes(scene: SceneContents, z: int | str | None) -> tuple[Sequence[int], Refusal | None]:
    count = scene.z_planes
    wanted = "" if z is None else str(z).strip().casefold()
    fix = f"Choose one in slides.csv, column z: 0 to {count - 1}, or max for the maximum projection."
    if wanted == "max":
        return range(count), None
    if wanted.isdecimal() and int(wanted) < count:
        return (int(wanted),), None
    if wanted:
        return (0,), Refusal(f"has no focal plane “{z}” ({count} in the file)", fix)
    if count == 1:
        return (0,), None
    return (0,), Refusal(f"holds {count} focal planes (choose z or a projection)", fix)


def _content_refusals(scene: SceneContents) -> list[Refusal]:
    refusals = list(scene.refusals)
    size = size_refusal(scene.shape)
    if size is not None and size not in refusals:
        refusals.append(size)
    if sorted(name.casefold() for name in scene.channels) == ["blue", "green", "red"]:
        refusals.append(brightfield_refusal("channels Red, Green and Blue"))
    if scene.time_points > 1:
        refusals.append(
            Refusal(f"holds {scene.time_points} time points", "mihc measures fixed tissue: export one time point.")
        )
    if not refusals and offered_dtype(scene.dtype) is None:
        refusals.append(Refusal(f"{scene.dtype.name} pixels are no intensities", "Export it with 8 or 16 bits."))
    return refusals
