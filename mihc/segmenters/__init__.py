"""Segmenters by name: mihc's own, those of the extras cellpose, stardist and instanseg, and anybody's.

Whoever has a better segmenter makes it available to `method = "<name>"` in study.toml with three lines of a package's
pyproject.toml

    [project.entry-points."mihc.segmenters"]
    bright = "my_package:bright_spots"

and a factory that takes these three keywords and returns a `Segmenter`:

    class BrightSpots:
        planes = ("nuclei",)          # one plane: the sum of the channels with this role
        pixel_size_um = 0.5           # pictures come at this pixel size; None: the slide's own
        window_px, overlap_px = 256, 32

        def labels(self, picture):    # (1, 256, 256) float32: 0 is the slide's background, 1 is bright
            return scipy.ndimage.label(picture[0] > 0.3)[0]

    def bright_spots(*, weights, nucleus_diameter_um, sensitivity):
        return BrightSpots()

Nothing more is asked of it: where its windows lie, which of them owns a nucleus, ids and workers are mihc's business
(`mihc.nuclei_grid`), so the answer does not depend on them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from mihc.errors import InputError
from mihc.nuclei import FAINTEST
from mihc.nuclei_grid import Segmenter

GROUP = "mihc.segmenters"
CLASSICAL = ("auto", "classical")
SENSITIVITIES = tuple(FAINTEST)
EXTRAS = {  # method -> the packages whose versions its answers depend on; the adapter is the module of that name here
    "cellpose": ("cellpose", "torch"),
    "stardist": ("stardist", "tensorflow-cpu", "tensorflow"),
    "instanseg": ("torch",),  # its model file brings its own code
}
IMPORTED = {  # what they are imported as
    "cellpose": ("cellpose", "torch"),
    "stardist": ("stardist", "tensorflow"),
    "instanseg": ("torch",),
}

__all__ = ["Segmenter", "known_methods", "open_segmenter", "segmenter_versions"]


def known_methods() -> tuple[str, ...]:
    """Every name that `method` may have here: mihc's own, the extras', and the entry points that are installed."""
    return (*CLASSICAL, *EXTRAS, *sorted(set(_plugged_in()) - {*CLASSICAL, *EXTRAS}))


def open_segmenter(
    method: str,
    *,
    weights: str | Path | None = None,
    nucleus_diameter_um: float = 8.0,
    sensitivity: str = "normal",
) -> Segmenter:
    """Open a segmenter, for `segment_nuclei(image, method=...)`.

    Parameters
    ----------
    method : "cellpose", "stardist", "instanseg", or the name of an installed entry point of the group mihc.segmenters.
    weights : file or folder with the trained model. It is only read here: nothing is ever downloaded.
    nucleus_diameter_um : µm, diameter of the usual nucleus.
    sensitivity : "low", "normal" or "high", where the segmenter knows such a thing.

    Raises
    ------
    InputError
        If there is no such method, its package is not installed, or its weights are missing or not what it reads.
    """
    if sensitivity not in SENSITIVITIES:
        raise InputError(f'unknown sensitivity "{sensitivity}"', fix='Use "low", "normal" or "high".')
    factory = _factory(method)
    path = None if weights is None else Path(weights)
    if path is not None and not path.exists():
        raise InputError(f"there are no weights {path}", fix="Copy the trained model there: mihc downloads nothing.")
    made = factory(weights=path, nucleus_diameter_um=float(nucleus_diameter_um), sensitivity=sensitivity)
    if not isinstance(made, Segmenter) or not made.planes:
        raise InputError(
            f'the segmenter "{method}" lacks one of planes, pixel_size_um, window_px, overlap_px, labels(picture)',
            fix="What each of them is, is said by: python -c 'import mihc.segmenters as s; help(s.Segmenter)'",
        )
    return made


def segmenter_versions(method: str) -> dict[str, str]:
    """The packages and versions that a method's answers depend on; none for mihc's own."""
    if method in CLASSICAL:
        return {}
    if method in EXTRAS:
        return _installed(EXTRAS[method])
    entry = _plugged_in().get(method)
    if entry is None or entry.dist is None:
        return {}
    return {entry.dist.name: entry.dist.version, "code": _code_of(entry)}


def missing_packages(method: str) -> str:
    """The package that a method of the extras lacks; "" when it has all."""
    return next((module for module in IMPORTED.get(method, ()) if importlib.util.find_spec(module) is None), "")


def _factory(method: str) -> Callable[..., Segmenter]:
    if method in EXTRAS:
        missing = missing_packages(method)
        if missing:
            fix = f"Type: pip install 'mihc[{method}]'"
            raise InputError(f'the segmenter "{method}" needs the package {missing}', fix=fix)
        return importlib.import_module(f"mihc.segmenters.{method}").make
    entry = _plugged_in().get(method)
    if entry is None:
        names = ", ".join(f'"{name}"' for name in known_methods())
        raise InputError(f'there is no segmenter "{method}"', fix=f"There are {names}.")
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f'the segmenter "{method}" cannot be loaded from {entry.value}: {error}',
            fix=f"Install {entry.dist.name if entry.dist else 'its package'} again, with what it needs.",
        ) from error


def _plugged_in() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _code_of(entry: metadata.EntryPoint) -> str:
    """Hash of the module that holds the factory: packages under development keep their version while they change."""
    spec = importlib.util.find_spec(entry.module)
    file = Path(spec.origin) if spec and spec.origin else None
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file and file.is_file() else ""
