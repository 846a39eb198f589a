"""OME-Zarr 0.4 and 0.5: one multiscale image, or the series of a bioformats2raw folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mihc.slides.contents import PixelSizeClaim, Refusal, SceneContents, SlideContents, size_refusal, unreadable
from mihc.slides.pixel_size import claim_of
from mihc.slides.tiff_scene import IGNORED_NAMES
from mihc.slides.zarr_inventory import chunk_refusals

_AXES = "tczyx"
_MAX_METADATA_BYTES = 32 << 20


@dataclass(frozen=True)
class Axes:
    """Which axis of the stored array is which."""

    names: tuple[str, ...]
    units: tuple[str, ...]

    def at(self, name: str) -> int | None:
        """The position of an axis, None when the array has none of that name."""
        return self.names.index(name) if name in self.names else None


def read_ome_zarr(path: Path) -> SlideContents:
    """The contents of an OME-Zarr folder; no chunk is read."""
    attributes = _attributes(path, path)
    if "plate" in attributes or "well" in attributes:
        raise unreadable(path, "a plate of wells, not a slide", "Open one of its images, for example the folder A/1/0.")
    if "multiscales" in attributes:
        return SlideContents(path, "OME-Zarr", (_scene(path, path, attributes, ""),))
    series = _series(path)
    if not series:
        raise unreadable(path, "no OME-Zarr image: its metadata has no multiscales", _where_images_are(path))
    names = _series_names(path)
    if len(names) > len(series):
        raise unreadable(path, f"{len(names)} images declared in OME/METADATA.ome.xml, {len(series)} present")
    kept = [at for at in range(len(series)) if names.get(at, "").casefold() not in IGNORED_NAMES]
    scenes = tuple(_scene(path, series[at], _attributes(path, series[at]), names.get(at, "")) for at in kept)
    ignored = tuple(names[at] for at in range(len(series)) if at not in kept)
    return SlideContents(path, "OME-Zarr", scenes, ignored=ignored)


def _where_images_are(path: Path) -> str:
    inside = [
        each.name for each in sorted(path.iterdir()) if (each / ".zgroup").is_file() or (each / "zarr.json").is_file()
    ]
    return f"Open the folder of the image: {', '.join(inside[:5])}" if inside else "Open the folder of the image."


def _series(path: Path) -> list[Path]:
    """The folders 0, 1, ... of the bioformats2raw layout that hold images."""
    found = []
    while (folder := path / str(len(found))).is_dir() and "multiscales" in _attributes(path, folder):
        found.append(folder)
    return found


def _series_names(path: Path) -> dict[int, str]:
    """Image names by series from OME/METADATA.ome.xml, where there is one."""
    from mihc.slides.markup import children, decode_text, parse_xml

    file = path / "OME" / "METADATA.ome.xml"
    if not file.is_file():
        return {}
    root = parse_xml(decode_text(_bytes(path, file)), path, "OME/METADATA.ome.xml")
    return {at: image.get("Name", "") for at, image in enumerate(children(root, "Image"))}


def _bytes(path: Path, file: Path) -> bytes:
    if not file.resolve().is_relative_to(path.resolve()):
        raise unreadable(path, f"{file.name} lies outside the folder")
    if file.stat().st_size > _MAX_METADATA_BYTES:
        raise unreadable(path, f"{file.name} exceeds the limit of {_MAX_METADATA_BYTES} bytes")
    return file.read_bytes()


def _text(path: Path, file: Path) -> str:
    try:
        return _bytes(path, file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise unreadable(path, f"{file.name} is not UTF-8 text") from error


def _attributes(path: Path, folder: Path) -> dict[str, Any]:
    """The OME attributes of a group: 0.5 in zarr.json under "ome", 0.4 in .zattrs; both at once is refused."""
    new, old = folder / "zarr.json", folder / ".zattrs"
    if new.is_file() and ((folder / ".zgroup").is_file() or old.is_file()):
        raise unreadable(path, "metadata of OME-Zarr 0.4 (.zattrs) and 0.5 (zarr.json) mixed in one folder")
    try:
        if new.is_file():
            found = json.loads(_text(path, new)).get("attributes", {})
            return found.get("ome", found)
        return json.loads(_text(path, old)) if old.is_file() else {}
    except (ValueError, AttributeError, RecursionError) as error:
        raise unreadable(path, f"its metadata is not valid JSON: {error}") from error


def _scene(path: Path, folder: Path, attributes: dict[str, Any], name: str) -> SceneContents:
    try:
        return _described(path, folder, attributes, name)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise unreadable(path, f"its multiscales metadata is incomplete: {type(error).__name__} {error}") from error


def _described(path: Path, folder: Path, attributes: dict[str, Any], name: str) -> SceneContents:
    multiscale = attributes["multiscales"][0]
    datasets = multiscale["datasets"]
    arrays = [_open_array(path, folder, str(dataset["path"])) for dataset in datasets]
    full = arrays[0]
    axes = _axes(path, multiscale, full.ndim)
    lengths = dict(zip(axes.names, full.shape))
    shape = (lengths.get("c", 1), lengths["y"], lengths["x"])
    names, refusals = _channels(attributes, shape[0])
    if not refusals and size_refusal(shape) is None:
        refusals += chunk_refusals(full, folder / str(datasets[0]["path"]))
    return SceneContents(
        name=name or str(multiscale.get("name") or ""),
        shape=shape,
        dtype=np.dtype(full.dtype),
        channels=names,
        pixel_sizes=_pixel_sizes(multiscale, datasets[0], axes),
        open_pixels=lambda: ZarrPixels(path, folder / str(datasets[0]["path"]), full, axes),
        z_planes=lengths.get("z", 1),
        time_points=lengths.get("t", 1),
        levels=tuple(tuple(array.shape[axes.names.index(axis)] for axis in "yx") for array in arrays),
        refusals=tuple(refusals),
        facts={"chunks": " x ".join(map(str, full.chunks)), "zarr format": str(full.metadata.zarr_format)},
    )


def _open_array(path: Path, folder: Path, relative: str) -> Any:
    import zarr

    inside = (folder / relative).resolve()
    if not inside.is_relative_to(path.resolve()):
        raise unreadable(path, f"the dataset “{relative}” lies outside the folder")
    for name in ("zarr.json", ".zarray"):
        if (inside / name).is_file():
            _bytes(path, inside / name)  # zarr asks neither how large it is nor where it lies
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's hints to whoever wrote the file
            return zarr.open_array(inside, mode="r")
    except Exception as error:  # zarr and its codecs raise their own types
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise unreadable(path, f"the dataset “{relative}” cannot be opened: {first_line}") from error


def _axes(path: Path, multiscale: dict[str, Any], ndim: int) -> Axes:
    """The axes as written; before 0.3 they were always t, c, z, y, x."""
    written = multiscale.get("axes")
    if written is None:
        names, units = tuple(_AXES[-ndim:]), ("",) * ndim
    elif all(isinstance(axis, str) for axis in written):
        names, units = tuple(written), ("",) * len(written)
    else:
        names = tuple(str(axis["name"]).casefold() for axis in written)
        units = tuple(str(axis.get("unit") or "") for axis in written)
    odd = set(names) - set(_AXES)
    if odd or len(names) != ndim or len(set(names)) != ndim or not {"y", "x"} <= set(names):
        raise unreadable(path, f"its axes are {', '.join(names)} for an array of {ndim}; mihc needs c, y and x")
    return Axes(names, units)


def _channels(attributes: dict[str, Any], count: int) -> tuple[tuple[str, ...], list[Refusal]]:
    """Labels of omero.channels; a list of another length belongs to another image."""
    channels = (attributes.get("omero") or {}).get("channels") or []
    if channels and len(channels) != count:
        return ("",) * count, [Refusal(f"omero.channels lists {len(channels)} channels, the array has {count}")]
    labels = [channel.get("label") for channel in channels]
    return (*("" if label is None else str(label) for label in labels), *[""] * count)[:count], []


def _pixel_sizes(multiscale: dict[str, Any], dataset: dict[str, Any], axes: Axes) -> tuple[PixelSizeClaim, ...]:
    """scale of the dataset, times that of the multiscale, in the axes' units; a scale without a unit says nothing."""
    source = "OME-Zarr scale"
    y, x = axes.names.index("y"), axes.names.index("x")
    scale = _scale(dataset)
    if scale is None or len(scale) != len(axes.names):
        return ()
    whole = _scale(multiscale) or [1.0] * len(scale)
    if not axes.units[y] or not axes.units[x]:
        return (PixelSizeClaim(source, problem=f"gives {scale[x]:.6g} without a unit on its axes"),)
    values = [repr(float(scale[at]) * float(whole[at])) for at in (y, x)]
    return (claim_of(source, (values[0], axes.units[y]), (values[1], axes.units[x])),)


def _scale(holder: dict[str, Any]) -> list[float] | None:
    for transformation in holder.get("coordinateTransformations") or []:
        if transformation.get("type") == "scale":
            return transformation.get("scale")
    return None


class ZarrPixels:
    """Pixels of the full-resolution array, whose chunks are all there; zarr may be read from several threads."""

    def __init__(self, path: Path, folder: Path, array: Any, axes: Axes):
        self._path, self.folder, self.array, self.axes = path, folder, array, axes

    def close(self) -> None:
        """Nothing is held open between reads."""

    def read(self, channels: Sequence[int], y0: int, y1: int, x0: int, x1: int, z: int) -> np.ndarray:
        """Pixels (len(channels), y1 - y0, x1 - x0)."""
        out = np.empty((len(channels), y1 - y0, x1 - x0), self.array.dtype.newbyteorder("="))
        for at, run in _runs(channels):
            place = {"t": 0, "z": z, "c": slice(run.start, run.stop), "y": slice(y0, y1), "x": slice(x0, x1)}
            selection = tuple(place[name] for name in self.axes.names)
            out[at : at + len(run)] = self._ordered(self._block(selection))
        return out

    def _block(self, selection: tuple[int | slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self.array[selection])
        except Exception as error:  # codecs raise their own types
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise unreadable(self._path, f"a chunk is damaged: {first_line}") from error

    def _ordered(self, block: np.ndarray) -> np.ndarray:
        """The block as (c, y, x)."""
        left = [name for name in self.axes.names if name in "cyx"]
        if "c" not in left:
            block, left = block[np.newaxis], ["c", *left]
        return block.transpose([left.index(name) for name in "cyx"])


def _runs(channels: Sequence[int]) -> list[tuple[int, range]]:
    """Consecutive channels read together: (position in the result, channels)."""
    runs: list[tuple[int, range]] = []
    for at, channel in enumerate(channels):
        if runs and runs[-1][1].stop == channel:
            runs[-1] = (runs[-1][0], range(runs[-1][1].start, channel + 1))
        else:
            runs.append((at, range(channel, channel + 1)))
    return runs
