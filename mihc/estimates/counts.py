"""From counts of cells to the two definitions of mihc, and to the PD-L1 scores."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

from mihc.errors import InputError
from mihc.studies.pdl1 import EVALUABLE_TUMOUR_CELLS, tps_and_cps


def positivity_percent(positive_cells: float, cells: float) -> float:
    """Positive cells / all cells of the region x 100; NaN without cells (never 0)."""
    _check(positive_cells=positive_cells, cells=cells)
    return 100 * positive_cells / cells if cells > 0 else nan


def density_per_mm2(positive_cells: float, area_mm2: float) -> float:
    """Positive cells / analysed area in mm²; NaN without an area (never 0)."""
    _check(positive_cells=positive_cells, area_mm2=area_mm2)
    return positive_cells / area_mm2 if area_mm2 > 0 else nan


@dataclass(frozen=True, kw_only=True)
class Pdl1Ratios:
    """TPS and CPS as ratios of counts, whether or not there are cells enough to believe them."""

    tps_percent: float
    cps: float
    adequate: bool  # at least 100 viable tumour cells; a score of fewer is not reported (the study table has NaN)
    tps_positive: bool | None  # >= 1 %; None where there is no score
    cps_positive: bool | None  # >= 1


def pdl1_ratios(
    *, tumour: float, positive_tumour: float, positive_lymphocytes: float, positive_macrophages: float
) -> Pdl1Ratios:
    """PD-L1 scores from counts of viable cells.

    TPS (%) = positive tumour cells / tumour cells x 100. CPS = (positive tumour cells + lymphocytes + macrophages) /
    tumour cells x 100, at most 100. Without tumour cells both are NaN.
    """
    _check(tumour=tumour, positive_tumour=positive_tumour)
    _check(positive_lymphocytes=positive_lymphocytes, positive_macrophages=positive_macrophages)
    tps, cps = tps_and_cps(tumour, positive_tumour, positive_lymphocytes + positive_macrophages)
    return Pdl1Ratios(
        tps_percent=tps, cps=cps, adequate=tumour >= EVALUABLE_TUMOUR_CELLS,
        tps_positive=None if isnan(tps) else tps >= 1, cps_positive=None if isnan(cps) else cps >= 1,
    )  # fmt: skip


def _check(**counts: float) -> None:
    for name, count in counts.items():
        if count < 0:
            raise InputError(f"{name} must not be negative; found {count:g}")
