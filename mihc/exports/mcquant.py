"""The table that MCMICRO's mcquant writes: a row per cell of the mask, everything in pixels.

Its columns: CellID, the mean of every channel over the cell, X_centroid, Y_centroid, Area, and shapes where study.toml
asked for them. A centroid there is the mean index of the pixels, half a pixel less than mihc's; it is that of the
nucleus, because a cell of mihc lies where its nucleus does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mihc import store
from mihc.exports.sources import Source

SHAPES = {
    "cell_major_axis_um": "MajorAxisLength",
    "cell_minor_axis_um": "MinorAxisLength",
    "cell_eccentricity": "Eccentricity",
    "cell_solidity": "Solidity",
}


def write_quantified(path: Path, source: Source) -> None:
    """Write a slide's cells part by part."""
    markers, pixel_size_um = _markers(source), source.image().pixel_size_um
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number, part in enumerate(source.parts()):
            table = mcquant_table(part, markers, pixel_size_um)
            file.write(("" if number else store.csv_header(table.columns)) + store.csv_lines(table))


def write_markers(folder: Path, chosen: Sequence[Source]) -> None:
    """Write markers.csv, or <slide>_markers.csv where slides differ in their markers."""
    listed = {source.slide: _markers(source) for source in chosen}
    alike = len({tuple(markers) for markers in listed.values()}) == 1
    for slide, markers in list(listed.items())[: 1 if alike else None]:
        name = "markers.csv" if alike else f"{slide}_markers.csv"
        store.write_csv(folder / name, pd.DataFrame({"cycle": 1, "marker_name": markers}))


def _markers(source: Source) -> list[str]:
    return [line.marker for line in source.panel.measured]


def mcquant_table(cells: pd.DataFrame, markers: Sequence[str], pixel_size_um: tuple[float, float]) -> pd.DataFrame:
    """Return rows of the cells table as mcquant's: means in counts, places, lengths and areas in pixels."""
    size_y, size_x = pixel_size_um
    table = {"CellID": cells["cell"]}
    table |= {marker: cells[f"{marker}_cell_mean"] for marker in markers}
    table |= {"X_centroid": cells["x_um"] / size_x - 0.5, "Y_centroid": cells["y_um"] / size_y - 0.5}
    table["Area"] = (cells["cell_area_um2"] / (size_y * size_x)).round().astype("int64")
    for column, name in SHAPES.items():
        if column in cells:
            table[name] = cells[column] / (math.sqrt(size_y * size_x) if column.endswith("_um") else 1.0)
    return pd.DataFrame(table)
