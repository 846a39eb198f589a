"""The tables of the report beside those of `drawn_report`, and a review, with a mark behind every name and remark."""

import math

import numpy as np
import pandas as pd
from drawn_report import CLASSES, POPULATIONS

from mihc.reviews.states import EditedCell, ReviewedThreshold, SlideReview

MARKERS = ("CD20", "CD3", "PanCK")


def as_population(mark: str) -> str:
    """The mark as a marker or phenotype may have it: "|" is refused in their names."""
    return mark.replace("|", "\u00a6")


def more_tables(mark: str) -> dict[str, pd.DataFrame]:
    """Every table that `mihc.steps.tell` gives and `drawn_report` and `drawn_robustness` do not."""
    slide, patient, named = f"S01{mark}", f"P001{mark}", as_population(mark)
    pair = {
        "slide": slide, "patient": patient, "pair": f"CD3{named}+ CD20{named}+", "first": f"CD3{named}+",
        "second": f"CD20{named}+", "cells": 100, "first_cells": 50, "second_cells": 20, "both_cells": 5.0,
        "percent_of_either": 7.0, "percent_of_all": 5.0, "percent_of_first": 10.0, "percent_of_second": 25.0,
        "chance_cells": 10.0, "touching_cells": 3.0, "touching_both_cells": 1.0, "both_cells_uncorrected": 6.0,
        "both_cells_corrected": 5.0, "verdict": "fail", "explanation": f"too many{mark}",
    }  # fmt: skip
    together = [
        {"slide": slide, "patient": patient, "tissue_class": "tumour", "marker": one + named, "other": other + named,
         "cells": 100, "positive_cells": 40, "both_cells": 4, "percent": 10.0, "chance_percent": 12.0}
        for one in MARKERS for other in MARKERS if one != other
    ]  # fmt: skip
    bright = [
        {"slide": slide, "patient": patient, "region": f"nest{mark}", "tissue_class": "tumour",
         "population": one + named, "marker": one + named, "positive_cells": 40, "mean": 900.0, "median": 800.0}
        for one in MARKERS
    ]  # fmt: skip
    light = {
        "slide": slide, "patient": patient, "marker": f"CD3{named}", "correction": "autofluorescence",
        "threshold": 500.0, "cells": 100, "positive_cells_uncorrected": 20,
        "positive_cells_corrected": 15, "positivity_percent_uncorrected": 20.0,
        "positivity_percent_corrected": 15.0, "used": "uncorrected",
        "slope": 0.5, "note": "no cell has both values",
    }  # fmt: skip
    scores = [
        {"patient": patient, "slide": name, "viable_tumour_cells": 900, "positive_tumour_cells": 90,
         "positive_immune_cells": 20, "TPS_percent": 10.0, "TPS_percent_low": 8.0, "TPS_percent_high": 12.0,
         "CPS": 12.2, "CPS_low": 10.0, "CPS_high": 14.0, "note": f"few{mark}"}
        for name in ("", slide)
    ]  # fmt: skip
    strokes = [
        {"panel": f"panel{mark}", "slide": slide, "drawn": f"tumour{mark}", "predicted": called, "strokes": 3,
         "percent": 80.0}
        for called in (f"tumour{mark}", f"stroma{mark}", f"other{mark}", f"glass{mark}")
    ]  # fmt: skip
    batch = {
        "panel": f"panel{mark}", "batch": f"A{mark}", "marker": f"CD20{named}", "slides": 3, "peak": 300.0,
        "width": 30.0, "threshold": 600.0, "remark": f"batch A lies elsewhere{mark}",
    }  # fmt: skip
    typed = {
        "noticed": f"today{mark}", "slide": slide, "marker": f"CD20{named}", "level": f"value{mark}",
        "old_value": f"4{mark}", "new_value": f"5{mark}", "who": f"Ada{mark}", "when": f"March{mark}",
        "reason": f"too low{mark}",
    }  # fmt: skip
    given = {"slide": f"S24{mark}", "tissue_class": "tumour", "region": f"nest{mark}", "cells": 70}
    return {
        "pairs": pd.DataFrame([pair]), "coexpression": pd.DataFrame(together), "intensities": pd.DataFrame(bright),
        "corrections": pd.DataFrame([light]), "pdl1": pd.DataFrame(scores), "classifier": pd.DataFrame(strokes),
        "batches": pd.DataFrame([batch]), "history": pd.DataFrame([typed]), "given_cells": pd.DataFrame([given]),
        "bands": _bands(mark),
    }  # fmt: skip


def _bands(mark: str) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = [
        {"slide": f"S{k:02d}{mark}", "patient": f"P{k:03d}{mark}", "region": f"nest{mark}", "tissue_class": kind,
         "population": population + as_population(mark), "cells": 90,
         "positive_cells": int(rng.integers(5, 60)), "area_mm2": 0.1,
         "from_um": start, "to_um": start + 25.0}
        for k in (1, 2) for kind in CLASSES for population in POPULATIONS for start in (-50.0, -25.0, 0.0, 25.0)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["positivity_percent"] = 100 * table["positive_cells"] / table["cells"]
    return table.assign(density_per_mm2=table["positive_cells"] / table["area_mm2"])


def beside_a_batch(thresholds: pd.DataFrame, mark: str) -> pd.DataFrame:
    """What people and batches add to the thresholds: who, when, why, what was lent, what stands apart."""
    found = thresholds.assign(
        when=f"March{mark}", reason=f"two peaks{mark}", batch=f"A{mark}", control="", remark="", own_value=500.0,
        own_verdict="separable", negative_peak=300.0, negative_width=30.0, batch_peak=310.0, batch_width=31.0,
        control_p99=math.nan,
    )  # fmt: skip
    found.loc[2, ["verdict", "own_verdict"]] = ["harmonised", "cannot tell"]
    found.loc[3, ["verdict", "value"]] = ["manual", 700.0]
    found.loc[5, "verdict"] = "cannot tell"
    found.loc[4, "remark"] = f"the negative peak of S02 lies 2.3 times that of batch A{mark}"
    return found


def reviews(mark: str) -> dict[str, SlideReview]:
    """Two reviewers: one changed cells, a region and a threshold with a reason, the other only looked."""
    cell = EditedCell(9, ((0, 0, 2),), ((0, 0, 3),))
    drawn = ({"op": "remove", "name": f"nest{mark}"},)
    marker = f"CD3{as_population(mark)}"
    threshold = {marker: ReviewedThreshold(marker, 9.0, (), f"anna{mark}", f"now{mark}", f"dim{mark}")}
    made = [
        SlideReview(f"S01{mark}", f"anna{mark}", threshold, frozenset({3}), {9: cell}, regions=drawn),
        SlideReview(f"S02{mark}", f"ben{mark}", accepted=(marker,)),
    ]
    return {one.slide: one for one in made}
