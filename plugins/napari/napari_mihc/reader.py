"""npe2's reader: a slide that mihc has stored, dropped on napari."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from napari_mihc.model import LayerData, image_layers, label_layers

AXES, HALVED = ["c", "y", "x"], "mean of 2x2"  # how mihc stores an image


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return a reader for `*.ome.zarr` as mihc stores them, None for anything else."""
    return _read if all(_is_ours(Path(one)) for one in _listed(path)) else None


def _listed(path: str | list[str]) -> list[str]:
    return path if isinstance(path, list) else [path]


def _is_ours(path: Path) -> bool:
    try:
        ome = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]
        image = ome["multiscales"][0]
        return "omero" in ome and [axis["name"] for axis in image["axes"]] == AXES and image["type"] == HALVED
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _read(path: str | list[str]) -> list[LayerData]:
    """Layer tuples of one or several slides; in a viewer, labels are drawn as outlines."""
    from napari import current_viewer

    from napari_mihc.outlines import keep_outlines

    if (viewer := current_viewer()) is not None:
        keep_outlines(viewer)
    return [layer for one in _listed(path) for layer in (*image_layers(one), *label_layers(one))]
