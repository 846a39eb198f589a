"""OME-NGFF 0.5 metadata: axes, levels, channels. The one place where pixel coordinates meet NGFF's.

mihc's own micrometres start at the corner of the first pixel. NGFF puts 0 at its centre: a level made by halving k
times is then scaled by 2^k and moved by (2^k - 1) / 2 pixels of level 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

SMALLEST = 1024  # the pyramid ends with the first level whose larger side is at most this


def level_shapes(shape_yx: Sequence[int]) -> list[tuple[int, int]]:
    """(y, x) of every level: halved, rounded up, until the larger side is at most 1024."""
    shapes = [(int(shape_yx[0]), int(shape_yx[1]))]
    while max(shapes[-1]) > SMALLEST:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def multiscales(levels: int, pixel_size_um: tuple[float, float], *, name: str, kind: str, channels: bool) -> list[dict]:
    """The `multiscales` entry of an image (c, y, x) or of labels (y, x).

    A pixel of `kind` "mean of 2x2" lies between the four that it is made of, one of "nearest" on the first of them.
    """
    shift = 0.0 if kind == "nearest" else 0.5
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    lead: list[float] = []
    if channels:
        axes, lead = [{"name": "c", "type": "channel"}, *axes], [1.0]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*lead, *(side * 2**level for side in pixel_size_um)]},
                {
                    "type": "translation",
                    "translation": [*(0.0 for _ in lead), *(side * (2**level - 1) * shift for side in pixel_size_um)],
                },
            ],
        }
        for level in range(levels)
    ]
    return [{"name": name, "axes": axes, "datasets": datasets, "type": kind}]


def pixel_size_of(ome: Mapping) -> tuple[float, float]:
    """(y, x) in µm of level 0."""
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    return float(scale[-2]), float(scale[-1])


def write_group(path: Path, ome: Mapping) -> None:
    """Write a group's zarr.json."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "zarr.json").write_bytes(group_json(ome))


def group_json(ome: Mapping) -> bytes:
    """The bytes of a group's zarr.json."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **ome}}}
    return (json.dumps(group, indent=2, ensure_ascii=False) + "\n").encode()
