"""Cells and study table -> robustness: every association under other choices, without each patient, and drawn again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mihc import store
from mihc.associate import SlideCells, asked_tests, influence_table, movable_markers, multiverse, recount, settings_of
from mihc.associations.influence import INFLUENCE_COLUMNS
from mihc.associations.multiverse import MULTIVERSE_COLUMNS
from mihc.associations.recount import AS_ANALYSED, COUNT_COLUMNS
from mihc.associations.robustness import SUMMARY_COLUMNS, robustness_summary
from mihc.phenotypes import parse_expression
from mihc.positives import Threshold
from mihc.regions import ANALYSED
from mihc.results import cells_file
from mihc.stages import Job, code_hash
from mihc.steps import call, edit, place
from mihc.steps.gather import patients_table
from mihc.store import Record, Transaction, hash_json
from mihc.study import SlideRow

MODULES = (
    "mihc.associate",
    "mihc.associations",
    "mihc.statistics",
    "mihc.estimates",
    "mihc.phenotypes",
    "mihc.studies.patients",
    "mihc.steps.vary",
)
AUTOMATIC = "automatic"
TABLES = {
    "robustness": MULTIVERSE_COLUMNS,
    "robustness_summary": SUMMARY_COLUMNS,
    "influence": INFLUENCE_COLUMNS,
}  # the files in results/ that are made here


def vary(job: Job, slides: pd.DataFrame, tables: Record, records: Mapping[str, Record]) -> Record:
    """Write robustness.csv, robustness_summary.csv and influence.csv.

    Parameters
    ----------
    job, slides
        The run, and the table of slides.
    tables
        What was stored of the study's tables.
    records
        slide -> what was stored of its positives.
    """
    settings = job.study.settings
    asked = [settings.outcomes, settings.responses, settings.groups, settings.splits, settings.robustness]
    key = {
        "study": tables.digest,
        "cells": hash_json({slide: record.digest for slide, record in sorted(records.items())}),
        "settings": hash_json([repr(one) for one in asked]),
        "code": code_hash(*MODULES),
    }
    return job.stage("robustness", "", key, lambda transaction: _vary(job, slides, list(records), transaction))


def _vary(job: Job, slides: pd.DataFrame, measured: list[str], transaction: Transaction) -> None:
    settings = job.study.settings
    made = {name: pd.DataFrame(columns=list(columns)) for name, columns in TABLES.items()}
    if settings.robustness.analyse and (settings.outcomes or settings.responses or settings.groups):
        patients = patients_table(job)
        counts = _counts(job, [row for row in job.study.slides if row.slide in measured and row.counts])
        made["robustness"] = multiverse(counts, slides, patients, settings, job.study.populations())
        tests = asked_tests(patients, settings)
        made["influence"] = influence_table(patients, tests)
        made["robustness_summary"] = robustness_summary(
            patients, tests, made["robustness"], made["influence"], settings.robustness.bootstrap_draws
        )
    for name, table in made.items():
        store.write_csv(transaction.path(f"{name}.csv"), table)
    transaction.notes["analyses"] = len(made["robustness"])


def _counts(job: Job, rows: list[SlideRow]) -> pd.DataFrame:
    """Every slide counted under every setting; one slide's cells are held at a time."""
    thresholds = {row.slide: _thresholds(job, row) for row in rows}
    movable = movable_markers(list(thresholds.values()))
    markers = {line.marker: None for panel in job.study.panels.values() for line in panel.markers}
    settings = {name: settings_of(_markers(job, name, list(markers)), movable) for name in job.study.populations()}
    found = []
    for done, row in enumerate(rows, 1):
        job.go_on()
        found += recount(_slide_cells(job, row, thresholds[row.slide]), settings)
        job.say("", "robustness", done, len(rows))
    return pd.DataFrame(found, columns=list(COUNT_COLUMNS))


def _markers(job: Job, population: str, markers: list[str]) -> tuple[str, ...]:
    phenotypes = job.study.settings.phenotypes
    if population not in phenotypes:
        return (population,)
    return parse_expression(phenotypes[population], markers, name=population, phenotypes=phenotypes).markers


def _thresholds(job: Job, row: SlideRow) -> dict[str, Threshold]:
    table = store.read_csv(job.store.path(call.part("thresholds", row.slide)), text=("marker", "method", "verdict"))
    return {
        str(one.marker): Threshold(one.value, one.low, one.high, one.method, one.verdict, "")
        for one in table.itertuples()
    }


def _slide_cells(job: Job, row: SlideRow, thresholds: Mapping[str, Threshold]) -> SlideCells:
    panel, shown = job.study.panel_of(row), job.study.populations()
    phenotypes = {name: text for name, text in job.study.settings.phenotypes.items() if row.panel in shown[name]}
    path = job.store.path(cells_file(row.slide))
    wanted = {f"phenotype_{name}" for name in phenotypes}
    for line in panel.markers:
        wanted |= {f"{line.marker}_{end}" for end in ("positive", "level", "corrected", f"{line.compartment}_mean")}
    names = [name for name in store.cell_columns(path) if name in wanted or name == "tissue_class"]
    cells = store.read_cells(path, columns=names)
    regions = {AS_ANALYSED: (cells["tissue_class"].astype(object).to_numpy(), _areas(job, row))}
    return SlideCells(
        row.slide, cells, thresholds, {line.marker: line.compartment for line in panel.markers}, phenotypes,
        regions | _automatic(job, row),
    )  # fmt: skip


def _areas(job: Job, row: SlideRow) -> dict[str, float]:
    """mm² of each analysed class that the slide has, NaN where no area is known."""
    counts = store.read_csv(job.store.path(call.part("regions", row.slide)), text=("region", "tissue_class"))
    if counts.empty:
        return {}
    regions = counts.drop_duplicates(["region", "tissue_class"])
    found = {kind: regions.loc[regions["tissue_class"] == kind, "area_mm2"] for kind in ANALYSED}
    return {kind: math.fsum(areas) for kind, areas in found.items() if len(areas)}


def _automatic(job: Job, row: SlideRow) -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    """The automatic regions of an annotated slide."""
    record = job.store.record("regions", row.slide) if row.file is not None else None
    areas = record.notes.get("automatic_areas_mm2") if record else None
    if not areas:
        return {}
    placed = store.read_cells(job.store.path(place.automatic_table(row.slide)), columns=["cell", "tissue_class"])
    edits = edit.edits_of(job, row.slide)
    if edits is not None:
        mine = edits.rows.drop(columns="tissue_class").rename(columns={edit.AUTOMATIC: "tissue_class"})
        placed = edit.Edits(mine, edits.gone).over(placed)
    return {AUTOMATIC: (placed["tissue_class"].astype(object).to_numpy(), dict(areas))}
