"""A slide's cells as AnnData: the markers' values in X, everything else beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import mihc
from mihc.exports.sources import Source
from mihc.positives import marker_values

if TYPE_CHECKING:
    from anndata import AnnData

_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")
COMPARTMENTS = ("nucleus", "cytoplasm", "cell")


def write_annotated(path: Path, source: Source) -> None:
    """Write a slide's cells as .h5ad."""
    annotated(source).write_h5ad(path, compression="gzip")


def annotated(source: Source) -> AnnData:
    """Return a slide's cells as AnnData.

    X is (cells, markers): each marker's mean in the compartment that the panel names, in counts; the layers
    nucleus_mean, cytoplasm_mean and cell_mean hold the means of each, and called_by, where means were corrected, what
    the calls were made by: var["threshold"] is in counts of that. obsm["spatial"] is (cells, 2) x, y of the nucleus in
    µm. obs holds every other column of the cells table, var the panel, uns["mihc"] the units, "review" where one counts
    (whose, and how much it changed), and "renamed" the columns whose names other programs would stumble over.
    """
    from anndata import AnnData

    cells = source.cells()
    lines = [line for line in source.panel.measured if f"{line.marker}_{line.compartment}_mean" in cells]
    layers = {f"{part}_mean": _matrix(cells, [f"{line.marker}_{part}_mean" for line in lines]) for part in COMPARTMENTS}
    corrected = [line.marker for line in lines if f"{line.marker}_corrected" in cells]
    if corrected:
        layers["called_by"] = np.column_stack([marker_values(cells, line.marker, line.compartment) for line in lines])
    used = {f"{line.marker}_{part}_mean" for line in lines for part in COMPARTMENTS}
    used |= {f"{marker}_corrected" for marker in corrected}
    obs, renamed = plainly_named(cells.drop(columns=[name for name in cells if name in used]))
    obs.index = pd.Index([f"{source.slide}_{cell}" for cell in cells["cell"].tolist()], dtype=object)
    for name in obs.select_dtypes(include=["object", "string"]):
        obs[name] = pd.Categorical(obs[name].map(str, na_action="ignore"))  # what is missing is no word
    made = AnnData(
        X=_matrix(cells, [f"{line.marker}_{line.compartment}_mean" for line in lines]),
        obs=obs,
        var=_panel(source, lines).assign(corrected=[line.marker in corrected for line in lines]),
        layers=layers if lines else None,
    )
    if {"x_um", "y_um"} <= set(cells):
        made.obsm["spatial"] = cells[["x_um", "y_um"]].to_numpy(np.float64)
    made.uns["mihc"] = {"version": mihc.__version__, "slide": source.slide, "spatial_unit": "µm", "X_unit": "counts"}
    if source.review:
        made.uns["mihc"]["review"] = {**source.reviewed(), "thresholds": ", ".join(source.reviewed()["thresholds"])}
    if renamed:
        made.uns["mihc"]["renamed"] = renamed
    if source.has_image:
        size_y, size_x = source.image().pixel_size_um
        made.uns["mihc"] |= {"pixel_size_y_um": size_y, "pixel_size_x_um": size_x}
    return made


def plainly_named(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table whose columns are named with letters, digits, _ . - only, and new name -> old of the changed.

    A slash would be a path in a file of AnnData's, and SpatialData refuses every other character, and names that differ
    by case only.
    """
    names: dict[str, str] = {}
    for old in table.columns:
        plain = _STRANGE.sub("_", str(old)).lstrip("_") or "column"
        taken = {name.casefold() for name in names}
        new, number = plain, 2
        while new.casefold() in taken or new == "_index":
            new, number = f"{plain}_{number}", number + 1
        names[new] = str(old)
    return table.set_axis(list(names), axis=1), {new: old for new, old in names.items() if new != old}


def _matrix(cells: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(cells, columns) float64; NaN where the table has no such column."""
    return cells.reindex(columns=columns).to_numpy(np.float64)


def _panel(source: Source, lines: Sequence) -> pd.DataFrame:
    fields = {name: [getattr(line, name) for line in lines] for name in ("channel", "role", "compartment")}
    index = pd.Index([line.marker for line in lines], dtype=object)
    return pd.DataFrame(fields, index=index, dtype=object).assign(threshold=_thresholds(source, index))


def _thresholds(source: Source, markers: pd.Index) -> np.ndarray:
    """The threshold that each marker was called with, counts; NaN where there is none."""
    from mihc import store
    from mihc.steps.call import part

    table = store.read_csv(source.store.path(part("thresholds", source.slide))).set_index("marker")
    return table["value"].astype(np.float64).reindex(markers).to_numpy()
