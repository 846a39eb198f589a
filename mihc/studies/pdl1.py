"""PD-L1 scores: TPS and CPS from counts. Research use only.

TPS (%) = PD-L1 positive tumour cells / viable tumour cells x 100.
CPS     = (PD-L1 positive tumour cells + PD-L1 positive immune cells) / viable tumour cells x 100, at most 100.

Viable tumour cells, positive or not, are those of tumour regions; necrosis and whatever else is excluded is in no
region that counts. Immune cells are those of tumour regions and of stroma: of all analysed stroma, however far from the
tumour, or of stroma within `immune_within_um` of the margin (a pathologist counts those next to the tumour only, and a
large distant stroma raises CPS). Neither score is evaluable with fewer than 100 viable tumour cells, as the 22C3
pharmDx interpretation manual asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mihc.studies.settings import Pdl1

if TYPE_CHECKING:
    import pandas as pd

EVALUABLE_TUMOUR_CELLS = 100
# Populations of their own: a name with "|" is refused for a marker or a phenotype, so none can be meant by both.
TUMOUR_CELLS = "PD-L1 scores|tumour cells"
POSITIVE_TUMOUR_CELLS = "PD-L1 scores|positive tumour cells"
POSITIVE_IMMUNE_CELLS = "PD-L1 scores|positive immune cells"
# The same by the ends of the interval of the marker's threshold: the fewest and the most positive cells.
ENDS = ("fewest", "most")


@dataclass(frozen=True)
class Pdl1Scores:
    """TPS in percent and CPS; NaN with the reason in `note` when not evaluable."""

    tps_percent: float
    cps: float
    note: str


def pdl1_expressions(pdl1: Pdl1) -> dict[str, str]:
    """Name the three populations that the scores need, each as a phenotype expression.

    A cell that is both (tumour and immune by its markers) counts once, as tumour.
    """
    positive = f'"{pdl1.marker}"+'
    return {
        TUMOUR_CELLS: pdl1.tumour,
        POSITIVE_TUMOUR_CELLS: f"{positive} & ({pdl1.tumour})",
        POSITIVE_IMMUNE_CELLS: f"{positive} & ({pdl1.immune}) & !({pdl1.tumour})",
    }


def near_tumour(cells: pd.DataFrame, within_um: float | None) -> pd.arrays.BooleanArray:
    """(cells,) Whether an immune cell is near enough to the tumour to count: nullable booleans.

    Parameters
    ----------
    cells
        `tissue_class` and, where known, `distance_to_margin_um`.
    within_um
        How far a cell of stroma may be; None = as far as the stroma reaches.

    Returns
    -------
    BooleanArray
        True in tumour; elsewhere True within the distance, False beyond it and on a slide without a tumour region;
        null where a distance is asked for and the table has none.
    """
    import pandas as pd

    if within_um is None:
        return pd.array(np.ones(len(cells), bool), dtype="boolean")
    inside = (cells["tissue_class"] == "tumour").to_numpy(dtype=bool)
    if "distance_to_margin_um" not in cells:
        return pd.arrays.BooleanArray(inside.copy(), ~inside)
    distance = cells["distance_to_margin_um"].to_numpy(dtype=np.float64)
    return pd.array(inside | (distance <= within_um), dtype="boolean")


def pdl1_scores(*, tumour_cells: float, positive_tumour_cells: float, positive_immune_cells: float) -> Pdl1Scores:
    """Score a slide or a patient from counts: tumour cells of tumour regions, immune cells of tumour and stroma.

    Parameters
    ----------
    tumour_cells, positive_tumour_cells, positive_immune_cells
        Numbers of cells, pooled over the patient's slides; NaN where a slide could not tell.

    Returns
    -------
    Pdl1Scores
        NaN with fewer than 100 tumour cells or with an unknown count, and the reason.
    """
    if np.isnan(tumour_cells) or np.isnan(positive_tumour_cells):
        return Pdl1Scores(np.nan, np.nan, "not evaluable: a slide that should show it has no count")
    if tumour_cells < EVALUABLE_TUMOUR_CELLS:
        found = f"not evaluable: {tumour_cells:.0f} tumour cells, needed {EVALUABLE_TUMOUR_CELLS}"
        return Pdl1Scores(np.nan, np.nan, found)
    tps, cps = tps_and_cps(tumour_cells, positive_tumour_cells, positive_immune_cells)
    if np.isnan(positive_immune_cells):
        return Pdl1Scores(tps, np.nan, "CPS not evaluable: a slide that should show immune cells has no count")
    return Pdl1Scores(tps, cps, "")


def tps_and_cps(tumour_cells: float, positive_tumour_cells: float, positive_immune_cells: float) -> tuple[float, float]:
    """TPS in percent and CPS of viable cells, however few; NaN without tumour cells, and CPS where immune is NaN."""
    if not tumour_cells > 0:
        return np.nan, np.nan
    tps = 100 * positive_tumour_cells / tumour_cells
    cps = 100 * (positive_tumour_cells + positive_immune_cells) / tumour_cells
    return tps, np.nan if np.isnan(cps) else min(100.0, cps)
