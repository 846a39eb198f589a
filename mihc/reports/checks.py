"""Cross-checks: what must agree between the tables of this report, computed from them and told with a tick or a cross.

A cross is a defect of the program or of a file that somebody changed; what a study merely lacks is told in
`doubts`. A check whose tables the study has not is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mihc.reports.cell_flow import cell_flows
from mihc.reports.commands import failed
from mihc.reports.numbers import Numbers, text

ANALYSED = ("tumour", "stroma", "other")
CLOSE = 1e-9  # relative; areas are sums of polygons in floats
LEDGER_CLOSE = 1e-6


@dataclass(frozen=True)
class Check:
    """One thing that must hold, whether it does, and how much of it was looked at."""

    name: str
    holds: bool
    told: str


def checks(numbers: Numbers) -> list[Check]:
    """Every check that the tables allow."""
    found = (one(numbers) for one in _CHECKS)
    return [check for check in found if check is not None]


def _check(name: str, wrong: Iterable[str], looked: int, what: str) -> Check:
    """`wrong` names what breaks the rule, of `looked` things that were looked at."""
    named = list(dict.fromkeys(wrong))
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    told = f"{looked} {what}" + (f"; not so: {', '.join(named[:5])}{more}" if named else "")
    return Check(name, not named, told)


def _near(first: pd.Series, second: pd.Series, close: float = CLOSE) -> np.ndarray:
    """Where two columns agree; two unknowns do."""
    return np.isclose(first.astype(float), second.astype(float), rtol=close, atol=close, equal_nan=True)


def _positivity(numbers: Numbers) -> Check | None:
    rows = numbers["regions"]
    if rows.empty:
        return None
    cells = rows["cells"].astype(float)
    share = 100 * rows["positive_cells"].astype(float) / cells.where(cells > 0)
    wrong = rows[~_near(share, rows["positivity_percent"])]
    name = "Positivity is positive cells / all cells of the region × 100"
    return _check(name, _places(wrong), len(rows), "rows of regions.csv")


def _density(numbers: Numbers) -> Check | None:
    rows = numbers["regions"]
    if rows.empty:
        return None
    area = rows["area_mm2"].astype(float)
    wrong = rows[~_near(rows["positive_cells"].astype(float) / area.where(area > 0), rows["density_per_mm2"])]
    name = "Density is positive cells / analysed area of the region"
    return _check(name, _places(wrong), len(rows), "rows of regions.csv")


def _places(rows: pd.DataFrame) -> list[str]:
    return [" ".join(map(text, row)) for row in rows[["slide", "region", "population"]].to_numpy()]


def _denominators(numbers: Numbers) -> Check | None:
    """Every population of a region is counted among the same cells on the same area, and is no more than they are."""
    rows = numbers["regions"]
    if rows.empty:
        return None
    grouped = rows.groupby(["slide", "region", "tissue_class"], sort=False)
    ends = grouped[["cells", "area_mm2"]].agg(["min", "max"])
    same = np.ones(len(ends), dtype=bool)
    for column in ("cells", "area_mm2"):
        same &= _near(ends[column]["min"], ends[column]["max"])
    wrong = [" ".join(map(text, place[:2])) for place in ends.index[~same]]
    over = rows[rows["positive_cells"].astype(float) > rows["cells"].astype(float)]
    name = "All populations of a region have one denominator and are no more than it"
    return _check(name, [*wrong, *_places(over)], len(ends), "regions")


def _patients(numbers: Numbers) -> Check | None:
    """patients.csv against regions.csv: sum of positives / sum of areas."""
    regions, patients = numbers["regions"], numbers["patients"]
    columns = [str(name) for name in patients if str(name).endswith("|density_per_mm2")]
    columns = [name for name in columns if name.split("|")[-2] in (*ANALYSED, "all")]
    if regions.empty or not columns:
        return None
    known = regions[regions["positive_cells"].notna() & regions["area_mm2"].notna() & (regions["patient"] != "")]
    everywhere = known.assign(tissue_class="all")
    sums = pd.concat([known[known["tissue_class"].isin(ANALYSED)], everywhere])
    sums = sums.groupby(["population", "tissue_class", "patient"])[["positive_cells", "area_mm2"]].sum()
    pooled = sums["positive_cells"] / sums["area_mm2"].where(sums["area_mm2"] > 0)
    names, wrong, looked = patients["patient"].map(text), [], 0
    for column in columns:
        population, kind, _measure = column.rsplit("|", 2)
        for patient, value in zip(names, patients[column].astype(float)):
            if value == value:
                looked += 1
                mine = pooled.get((population, kind, patient), np.nan)
                if not np.isclose(mine, value, rtol=CLOSE):
                    wrong.append(f"{patient} {column}")
    return _check(
        "A patient's density is the sum over the slides, never a mean", wrong, looked, "values of patients.csv"
    )


def _joined(numbers: Numbers) -> Check | None:
    """Nobody is lost or invented: each patient stands once, and slides and patients name each other."""
    slides, patients = numbers["slides"], numbers["patients"]
    if slides.empty or patients.empty:
        return None
    names = patients["patient"].map(text)
    control = slides["control"].map(text) if "control" in slides else pd.Series("", index=slides.index)
    counting = slides[(control == "") & ~slides.index.isin(failed(slides).index)]
    lost = [f"slide {slide}" for slide, patient in zip(counting["slide"], counting["patient"].map(text))
            if patient and patient not in set(names)]  # fmt: skip
    twice = list(names[names.duplicated()])
    without = int((~names.isin(set(counting["patient"].map(text)))).sum())
    told = f"patients, {len(names) - without} with a measured slide and {without} without"
    return _check("Every slide's patient is in the table of patients, each once", [*lost, *twice], len(names), told)


def _slides(numbers: Numbers) -> Check | None:
    """A failed slide is in no number, and every other one that is listed has numbers."""
    slides, regions = numbers["slides"], numbers["regions"]
    if slides.empty or regions.empty:
        return None
    measured, lost = set(regions["slide"].map(text)), set(failed(slides)["slide"].map(text))
    wrong = [f"{slide} failed" for slide in lost & measured]
    unknown = [f"{slide} is not listed" for slide in measured - set(slides["slide"].map(text))]
    told = f"slides, {len(lost)} failed"
    return _check(
        "Failed slides are in no number, and no number is of an unlisted slide", wrong + unknown, len(slides), told
    )


def _ledger(numbers: Numbers) -> Check | None:
    """scanned = glass + tissue; tissue = all its parts; analysed = tumour + stroma + other."""
    ledger = numbers["area_ledger"]
    if ledger.empty:
        return None
    sums = ledger.pivot_table("area_mm2", "slide", "category", "sum", fill_value=0.0, sort=False).astype(float)
    sums = sums.reindex(columns=[*_PARTS, "glass", "tissue", "scanned", "analysed"], fill_value=0.0)
    right = _near(sums["scanned"], sums["glass"] + sums["tissue"], LEDGER_CLOSE)
    right &= _near(sums["tissue"], sums[list(_PARTS)].sum(axis=1), LEDGER_CLOSE)
    right &= _near(sums["analysed"], sums[list(ANALYSED)].sum(axis=1), LEDGER_CLOSE)
    name = "Areas sum: scanned = glass + tissue, tissue = its parts, analysed = tumour + stroma + other"
    return _check(name, map(text, sums.index[~right]), len(sums), "slides of area_ledger.csv")


_PARTS = (*ANALYSED, "excluded", "unannotated")


def _cells(numbers: Numbers) -> Check | None:
    flows = cell_flows(numbers)
    if not flows:
        return None
    wrong = [flow.slide for flow in flows.values() if not flow.sums]
    return _check("Cells sum: segmented = excluded + analysed", wrong, len(flows), "slides")


def _families(numbers: Numbers) -> Check | None:
    """An adjusted p is never below its raw p, and every test that has a p has one."""
    rows = numbers["statistics"]
    if rows.empty:
        return None
    p, adjusted = (pd.to_numeric(rows[name], errors="coerce") for name in ("p", "p_adjusted"))
    wrong = rows[(p.notna() != adjusted.notna()) | (adjusted < p * (1 - CLOSE)) | (p > 1) | (p < 0)]
    name = "Every p has an adjusted p in its family, which is no smaller"
    beside = int((p.notna() & rows["family"].map(text).str.endswith("the covariates")).sum())
    told = "p values" + (f", {beside} of them of covariates" if beside else "")
    return _check(name, wrong["family"].map(text), int(p.notna().sum()), told)


def _sizes(numbers: Numbers) -> Check | None:
    """No test has more patients than there are, nor more events than patients."""
    rows, patients = numbers["statistics"], numbers["patients"]
    if rows.empty or patients.empty:
        return None
    n, events = (pd.to_numeric(rows[name], errors="coerce") for name in ("n", "n_events"))
    wrong = rows[(n > len(patients)) | (events > n)]
    return _check("No test has more patients than the study, nor more events than patients", wrong["family"].map(text),
                  int(n.notna().sum()), "estimates")  # fmt: skip


_CHECKS: tuple[Callable[[Numbers], Check | None], ...] = (
    _joined, _slides, _cells, _ledger, _denominators, _positivity, _density, _patients, _families, _sizes,
)  # fmt: skip
