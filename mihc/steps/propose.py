"""Cells and regions -> values: what a slide's cells say of each marker, and the threshold they suggest on their own.

    .stages/values/<slide>.histograms.csv   how often values occur, for pictures
    .stages/values/<slide>.parquet          of a negative control: the values themselves, for the slides beside it

What a slide's threshold finally is, `mihc.steps.judge` and `mihc.steps.call` say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from mihc import store
from mihc.batches import MarkerValues, describe
from mihc.panel import Panel
from mihc.plots.pictures import Histogram, value_histogram
from mihc.positives import Threshold, choose_threshold, marker_values
from mihc.regions import ANALYSED
from mihc.stages import Job, code_hash
from mihc.steps.correct import (
    NearCells,
    asked_corrections,
    correction_columns,
    find_corrections,
    glow_of,
    used_columns,
)
from mihc.steps.describe import with_columns
from mihc.steps.place import regions_table
from mihc.steps.segment import measured_table
from mihc.store import Record, Transaction, hash_json
from mihc.study import SlideRow, given_values

MODULES = (
    "mihc.thresholds",
    "mihc.gating",
    "mihc.batches",
    "mihc.corrections",
    "mihc.positives",
    "mihc.plots.pictures",
    "mihc.studies.cell_files",
    "mihc.studies.cell_tables",
    "mihc.studies.given_cells",
    "mihc.steps.correct",
    "mihc.steps.describe",
    "mihc.steps.propose",
)


def part(kind: str, slide: str) -> str:
    """Where a slide's "histograms.csv", or a control's "parquet" of values, lies under results/."""
    return f".stages/values/{slide}.{kind}"


def propose(job: Job, row: SlideRow, done: Mapping[str, Record], controls: Sequence[Record]) -> Record:
    """Describe one slide's values of every marker, and choose a threshold for each on this slide alone.

    Parameters
    ----------
    job, row
        The run and the slide.
    done
        The slide's own records, "cells" and "regions"; none where it comes as a table of cells.
    controls
        Of its batch and panel, what this stage wrote of the negative controls.
    """
    measured = {name: done[name].digest for name in ("cells", "regions") if name in done}
    panel = job.study.panel_of(row)
    key = (measured or {"cells": job.input_hash(row.cells)}) | {
        "panel": hash_json([(line.marker, line.compartment) for line in panel.markers]),
        "thresholds": job.study.settings.thresholds.method,
        "corrections": hash_json([asked_corrections(job), glow_of(panel)]),
        "batch": hash_json([row.panel, row.batch, row.control]),
        "controls": hash_json(sorted(record.digest for record in controls)),
        "code": code_hash(*MODULES),
    }
    return job.stage("values", row.slide, key, lambda transaction: _describe(job, row, controls, transaction))


def control_of(row: SlideRow, other: SlideRow) -> bool:
    """Whether `other` is a negative control of a slide: of the same panel and batch."""
    return bool(other.control) and not row.control and (other.panel, other.batch) == (row.panel, row.batch)


def described(record: Record) -> list[MarkerValues]:
    """Read what was kept of a slide's markers."""
    return [_from_json(one) for one in record.notes["markers"]]


def histograms(job: Job, slide: str) -> dict[str, Histogram]:
    """Read a slide's histograms, by marker."""
    table = store.read_csv(job.store.path(part("histograms.csv", slide)))
    return {
        str(marker): Histogram(
            np.append(rows["from_counts"].to_numpy(float), float(rows["to_counts"].iloc[-1])), rows["cells"].to_numpy()
        )
        for marker, rows in (table.groupby("marker", sort=False) if len(table) else ())
    }


def _describe(job: Job, row: SlideRow, controls: Sequence[Record], transaction: Transaction) -> None:
    panel = job.study.panel_of(row)
    lines, cells = panel.markers, _analysed(job, row, panel)
    near_cells = NearCells(job, row, cells, asked=asked_corrections(job))
    corrections = find_corrections(job, row, cells, near_cells)
    cells = with_columns(cells, used_columns(corrections, cells, near_cells))
    del near_cells
    found, counted, kept = [], [], {}
    for line in lines:
        if f"{line.marker}_{line.compartment}_mean" not in cells:
            continue  # a table of cells that brings calls instead
        values = marker_values(cells, line.marker, line.compartment)
        negatives = _negatives(job, controls, line.marker)
        own = _own(job, values, negatives)
        whose = {"slide": row.slide, "panel": row.panel, "batch": row.batch, "control": row.control}
        found.append(describe(values, own, marker=line.marker, negatives=negatives, **whose))
        counted.append(_histogram_rows(line.marker, value_histogram(values)))
        if row.control and not found[-1].is_separable:  # a control with a peak of positive cells of its own is none
            kept[line.marker] = values
    columns = ["marker", "from_counts", "to_counts", "cells"]
    table = pd.concat(counted, ignore_index=True) if counted else pd.DataFrame(columns=columns)
    store.write_csv(transaction.path(part("histograms.csv", row.slide)), table)
    if kept:
        store.write_cells(transaction.path(part("parquet", row.slide)), pd.DataFrame(kept))
    notes = {"markers": [_as_json(one) for one in found], "control_of": sorted(kept)}
    transaction.notes |= notes | {"corrections": corrections.as_json()}


def _analysed(job: Job, row: SlideRow, panel: Panel) -> pd.DataFrame:
    """The markers' values of the cells in tumour, stroma and other: folds and glass have their own light."""
    if row.cells is not None:
        cells = given_values(job.study, row)
    else:
        wanted = correction_columns(panel)
        path = job.store.path(measured_table(row.slide))
        cells = store.read_cells(path, columns=[name for name in store.cell_columns(path) if name in wanted])
        placed = store.read_cells(job.store.path(regions_table(row.slide)), columns=["tissue_class"])
        cells = cells.assign(tissue_class=placed["tissue_class"])
    return cells[cells["tissue_class"].isin(ANALYSED)]


def _own(job: Job, values: np.ndarray, negatives: np.ndarray | None) -> Threshold:
    """Of the slide alone; where that cannot be told, with the shape of the negatives that its controls show.

    A control has its own background and few cells: a slide that speaks for itself knows its negatives better.
    """
    method = job.study.settings.thresholds.method
    if method == "manual":
        return Threshold(math.nan, math.nan, math.nan, "manual", "cannot tell", "thresholds are typed in this study")
    alone = choose_threshold(values, method=method)
    if alone.verdict != "cannot tell" or negatives is None:
        return alone
    beside = choose_threshold(values, method=method, negatives=negatives)
    return alone if beside.verdict == "cannot tell" else beside


def _negatives(job: Job, controls: Sequence[Record], marker: str) -> np.ndarray | None:
    """The marker's values in the negative controls; None where there are none."""
    parts = [
        store.read_cells(job.store.path(part("parquet", record.slide)), columns=[marker])[marker].to_numpy(float)
        for record in controls
        if marker in record.notes["control_of"]
    ]
    return np.concatenate(parts) if parts else None


def _histogram_rows(marker: str, histogram: Histogram) -> pd.DataFrame:
    edges = histogram.edges.astype(float)
    return pd.DataFrame(
        {"marker": marker, "from_counts": edges[:-1], "to_counts": edges[1:], "cells": histogram.counts.astype(int)}
    )


def _as_json(one: MarkerValues) -> dict:
    """Plain JSON: NaN is null."""
    flat = asdict(one) | {"own": {name: _null(value) for name, value in asdict(one.own).items()}}
    return {name: _null(value) for name, value in flat.items()}


def _from_json(content: dict) -> MarkerValues:
    own = {name: tuple(value) if isinstance(value, list) else _nan(value) for name, value in content["own"].items()}
    return MarkerValues(**{name: _nan(value) for name, value in content.items() if name != "own"}, own=Threshold(**own))


def _null(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _nan(value: object) -> object:
    return math.nan if value is None else value
