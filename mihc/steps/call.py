"""Cells and regions -> positives: thresholds, calls, the slide's cells table and its counts."""

from __future__ import annotations

import math

import pandas as pd

from mihc import store
from mihc.errors import InputError
from mihc.panel import Panel, PanelRow
from mihc.positives import Threshold, call_positives, choose_threshold, manual_threshold, marker_values, populations
from mihc.regions import ANALYSED, OUTSIDE, count_populations
from mihc.stages import Job, code_hash
from mihc.steps.outline import regions_table
from mihc.steps.segment import measured_table
from mihc.store import Record, Transaction, hash_json
from mihc.study import SlideRow, given_cells, pdl1_expressions

MODULES = (
    "mihc.positives",
    "mihc.thresholds",
    "mihc.gating",
    "mihc.phenotypes",
    "mihc.regions",
    "mihc.areas",
    "mihc.studies.cell_tables",
    "mihc.studies.given_cells",
    "mihc.studies.pdl1",
    "mihc.steps.call",
)
WHO = {"manual": "a person", "given": "the table"}  # by verdict; every other verdict is mihc's
POSITIVITY_AND_AREA = ["region", "tissue_class", "distance_to_margin_um"]


def part(table: str, slide: str) -> str:
    """Where a slide's part of one of the study's tables lies under results/."""
    return f".stages/positives/{slide}.{table}.csv"


def call(job: Job, row: SlideRow, cells: Record, regions: Record) -> Record:
    """Call one slide's cells: `cells/<slide>.parquet`, and its rows of regions.csv and thresholds.csv."""
    key = {"cells": cells.digest, "regions": regions.digest} | _key(job, row)
    return job.stage("positives", row.slide, key, lambda transaction: _call_measured(job, row, regions, transaction))


def call_table(job: Job, row: SlideRow) -> Record:
    """Call the cells of a slide that comes as a table: the pixel stages are skipped."""
    key = {"cells": job.input_hash(row.cells)} | _key(job, row)
    return job.stage("positives", row.slide, key, lambda transaction: _call_given(job, row, transaction))


def _key(job: Job, row: SlideRow) -> dict[str, str]:
    panel = job.study.panel_of(row)
    settings = job.study.settings
    return {
        "panel": hash_json([(line.marker, line.compartment, line.threshold) for line in panel.markers]),
        "thresholds": hash_json([settings.thresholds.method, _typed(job, row)]),
        "phenotypes": hash_json(_expressions(job, panel)),
        "code": code_hash(*MODULES),
    }


def _call_measured(job: Job, row: SlideRow, regions: Record, transaction: Transaction) -> None:
    cells = store.read_cells(job.store.path(measured_table(row.slide)))
    placed = store.read_cells(job.store.path(regions_table(row.slide)), columns=["cell", *POSITIVITY_AND_AREA, "flags"])
    if not cells["cell"].equals(placed["cell"]):
        raise InputError("cells and regions are of different runs", place=row.slide, fix="Type the same command again.")
    for offset, name in enumerate(POSITIVITY_AND_AREA):
        cells.insert(6 + offset, name, placed[name])
    cells["flags"] = placed["flags"]
    areas = {(name, tissue_class): area for name, tissue_class, area in regions.notes["areas_mm2"]}
    _write(job, row, cells, areas, transaction)


def _call_given(job: Job, row: SlideRow, transaction: Transaction) -> None:
    cells = given_cells(job.study, row)
    present = cells.loc[cells["tissue_class"].isin(ANALYSED), ["region", "tissue_class"]].drop_duplicates()
    areas = {(region, tissue_class): math.nan for region, tissue_class in present.itertuples(index=False)}
    _write(job, row, cells, areas, transaction)


def _write(
    job: Job, row: SlideRow, cells: pd.DataFrame, areas: dict[tuple[str, str], float], transaction: Transaction
) -> None:
    panel = job.study.panel_of(row)
    thresholds = _thresholds(job, row, cells)
    called = _calls(job, panel, cells, thresholds)
    names = populations([line.marker for line in panel.markers], _shown_phenotypes(job, panel))
    table = cells.drop(columns=[name for name in called if name in cells]).join(called)
    counts = _counts(table, names, areas, row)
    scored = {name: f"phenotype_{name}" for name in _scores(job, panel)}
    pdl1 = _counts(table, scored, areas, row)
    analysed = called[table["tissue_class"].isin(ANALYSED)]
    only_for_scores = [name for name in called if name not in set(names.values())]
    store.write_cells(transaction.path(f"cells/{row.slide}.parquet"), table.drop(columns=only_for_scores))
    store.write_csv(transaction.path(part("regions", row.slide)), counts)
    store.write_csv(transaction.path(part("pdl1", row.slide)), pdl1)
    store.write_csv(transaction.path(part("thresholds", row.slide)), _threshold_rows(row, thresholds, analysed))
    transaction.notes |= {
        "cells": len(cells),
        "analysed_cells": len(analysed),
        "outside_cells": int((cells["tissue_class"] == OUTSIDE).sum()),
        "unclear": [marker for marker, chosen in thresholds.items() if chosen.verdict == "cannot tell"],
    }


def _counts(cells: pd.DataFrame, names: dict[str, str], areas: dict, row: SlideRow) -> pd.DataFrame:
    counts = count_populations(cells, populations=names, area_mm2=areas)
    counts.insert(0, "slide", row.slide)
    return counts


def _expressions(job: Job, panel: Panel) -> dict[str, str]:
    """Phenotypes that the panel can show, and the populations that TPS and CPS need."""
    phenotypes = job.study.settings.phenotypes
    return {name: phenotypes[name] for name in _shown_phenotypes(job, panel)} | _scores(job, panel)


def _scores(job: Job, panel: Panel) -> dict[str, str]:
    """What TPS and CPS count on slides of a panel that has all markers of [pdl1]."""
    return pdl1_expressions(job.study.settings.pdl1) if panel.name in job.study.pdl1_panels() else {}


def _shown_phenotypes(job: Job, panel: Panel) -> list[str]:
    shown = job.study.populations()
    return [name for name in job.study.settings.phenotypes if panel.name in shown[name]]


def _typed(job: Job, row: SlideRow) -> dict[str, float]:
    """Thresholds of thresholds.csv: the slide's own before the study's ("*")."""
    table = job.study.thresholds
    typed: dict[str, float] = {}
    for scope in ("*", row.slide):
        mine = table[table["slide"] == scope]
        typed |= dict(zip(mine["marker"], mine["value"].astype(float)))
    return typed


def _thresholds(job: Job, row: SlideRow, cells: pd.DataFrame) -> dict[str, Threshold]:
    """Take each marker's threshold."""
    typed = _typed(job, row)
    return {line.marker: _threshold(job, cells, line, typed) for line in job.study.panel_of(row).markers}


def _threshold(job: Job, cells: pd.DataFrame, line: PanelRow, typed: dict[str, float]) -> Threshold:
    """Take one marker's: thresholds.csv, then calls given in a table of cells, then panel.csv, then the automatic."""
    given = f"{line.marker}_positive" in cells
    measured = f"{line.marker}_{line.compartment}_mean" in cells
    if line.marker in typed and measured:
        return manual_threshold(typed[line.marker], reason="from thresholds.csv")
    if given:
        unused = f"; thresholds.csv is not used, the table has no {line.marker}_{line.compartment}_mean"
        return _not_taken("given", "calls given in the table" + (unused if line.marker in typed else ""))
    if line.threshold is not None:
        return manual_threshold(line.threshold, reason="from panel.csv")
    if job.study.settings.thresholds.method == "manual":
        return _not_taken("manual", "no threshold was typed")
    return _automatic(job, cells, line)


def _not_taken(method: str, reason: str) -> Threshold:
    """No number: the calls came with the table ("given"), or a person has still to type one ("manual")."""
    verdict = "given" if method == "given" else "cannot tell"
    return Threshold(math.nan, math.nan, math.nan, method, verdict, reason)


def _automatic(job: Job, cells: pd.DataFrame, line: PanelRow) -> Threshold:
    analysed = cells[cells["tissue_class"].isin(ANALYSED)]  # folds and glass have their own light
    values = marker_values(analysed, line.marker, line.compartment)
    return choose_threshold(values, method=job.study.settings.thresholds.method)


def _calls(job: Job, panel: Panel, cells: pd.DataFrame, thresholds: dict[str, Threshold]) -> pd.DataFrame:
    """Call by thresholds; where a table of cells brings its own calls, those are used."""
    given = {name: cells[f"{name}_positive"] for name, chosen in thresholds.items() if chosen.method == "given"}
    expressions = _expressions(job, panel)
    called = call_positives(
        cells,
        {marker: chosen for marker, chosen in thresholds.items() if marker not in given},
        compartments={line.marker: line.compartment for line in panel.markers},
        phenotypes=expressions,
        given=given,
    )
    brought = [f"phenotype_{name}" for name in expressions if f"phenotype_{name}" in cells]
    return called.assign(**{name: cells[name] for name in brought})


def _threshold_rows(row: SlideRow, thresholds: dict[str, Threshold], analysed: pd.DataFrame) -> pd.DataFrame:
    """Rows of thresholds.csv; `analysed` are the calls of the cells in tumour, stroma and other."""
    return pd.DataFrame(
        [
            {
                "slide": row.slide,
                "marker": marker,
                "value": chosen.value,
                "low": chosen.low,
                "high": chosen.high,
                "method": chosen.method,
                "verdict": chosen.verdict,
                "who": WHO.get(chosen.verdict, "mihc"),
                "reason": chosen.reason,
                "cells": len(analysed),
                "positive_cells": _positive(analysed[f"{marker}_positive"]),
            }
            for marker, chosen in thresholds.items()
        ]
    )


def _positive(calls: pd.Series) -> float:
    return math.nan if calls.isna().any() else float(calls.sum())
