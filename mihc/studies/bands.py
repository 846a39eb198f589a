"""Bands around the tumour's margin as classes of tissue, so that they pool to patients as tumour and stroma do."""

from __future__ import annotations

import numpy as np
import pandas as pd

PREFIX = "margin "


def band_name(from_um: float, to_um: float) -> str:
    """What stands for the tissue class in names of columns: "margin -25 to 0 um"."""
    return f"{PREFIX}{from_um:g} to {to_um:g} um"


def is_band(tissue_class: str) -> bool:
    """Whether a tissue class is a band."""
    return tissue_class.startswith(PREFIX)


def band_classes(bands: pd.DataFrame) -> tuple[str, ...]:
    """Return every band of the study, from the innermost outwards."""
    if not len(bands):
        return ()
    limits = bands[["from_um", "to_um"]].drop_duplicates().sort_values("from_um")
    return tuple(band_name(low, high) for low, high in limits.itertuples(index=False, name=None))


def rows_by_band(bands: pd.DataFrame, regions: pd.DataFrame) -> pd.DataFrame:
    """Return bands.csv's rows with the band as tissue class, and a row of nothing for what has no margin.

    A slide on which no margin was found adds no cells and no area to its patient's bands. A population that a slide
    cannot tell stays unknown, and so do the bands of a slide whose cells came as a table without distances.
    """
    classes = band_classes(bands)
    if not classes:
        return regions.iloc[:0]
    names = [band_name(low, high) for low, high in zip(bands["from_um"], bands["to_um"])]
    told = regions.groupby(["slide", "population"], sort=False)[["positive_cells", "area_mm2"]].count().reset_index()
    known = (told["area_mm2"] > 0) | told["slide"].isin(bands["slide"])
    nothing = pd.DataFrame(
        {
            "slide": told["slide"],
            "region": "",
            "tissue_class": classes[0],
            "population": told["population"],
            "cells": 0.0,
            "positive_cells": np.where((told["positive_cells"] > 0) & known, 0.0, np.nan),
            "area_mm2": 0.0,
        }
    )
    return pd.concat([bands.assign(tissue_class=names)[list(nothing)], nothing], ignore_index=True)
