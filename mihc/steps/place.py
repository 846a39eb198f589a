"""Outlines and cells -> regions: the region of every cell, its distance to the margin, the ledger and the checks.

    .stages/regions/<slide>.parquet       region, class, distance and flags of every cell
    .stages/regions/<slide>.area_ledger.csv, .qc.csv   the slide's rows of the study's tables

No pixel is read. The cells are the machine's; those that a review edited are placed by `mihc.steps.edit`.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import shapely

from mihc import store
from mihc.cells import FLAGS
from mihc.qc import Seams, audit_seams, cells_qc
from mihc.quality.focus import windows_of
from mihc.regions import Region, area_ledger, assign_regions, distance_to_outline, ledger_warnings
from mihc.results import outlines_file, region_from_json, tumour_file
from mihc.stages import Job, code_hash
from mihc.steps.outline import looks_file, shapes_file, tissue_file
from mihc.steps.segment import measured_table
from mihc.store import Record, Transaction
from mihc.study import SlideRow

MODULES = (
    "mihc.regions",
    "mihc.areas",
    "mihc.qc",
    "mihc.quality",
    "mihc.results",
    "mihc.stores",
    "mihc.steps.place",
)
STAGE = "regions"
CELL_COLUMNS = ("slide", "cell", "x_um", "y_um", "nucleus_area_um2", "flags")  # of the many, what is needed here
LOOKS_TEXT = ("slide", "check", "unit", "verdict", "explanation")
HANDED_ON = ("source", "areas_mm2", "band_areas_mm2", "automatic_areas_mm2")  # of the outlines, to those who count


def regions_table(slide: str) -> str:
    """Where the region of every cell of a slide lies under results/."""
    return f".stages/regions/{slide}.parquet"


def automatic_table(slide: str) -> str:
    """Where the tissue class of every cell of an annotated slide lies, as the automatic regions would have it."""
    return f".stages/regions/{slide}.automatic.parquet"


def part(table: str, slide: str) -> str:
    """Where a slide's part of one of the study's tables lies under results/."""
    return f".stages/regions/{slide}.{table}.csv"


def place(job: Job, row: SlideRow, outlines: Record, cells: Record) -> Record:
    """Say of every cell of a slide where it lies, and account for them."""
    key = {"outlines": outlines.digest, "cells": cells.digest, "code": code_hash(*MODULES)}
    return job.stage(STAGE, row.slide, key, lambda transaction: _place(job, row, outlines, transaction))


def _place(job: Job, row: SlideRow, outlines: Record, transaction: Transaction) -> None:
    cells = store.read_cells(job.store.path(measured_table(row.slide)), columns=CELL_COLUMNS)
    shapes = shapes_of(job, row.slide)
    x, y = cells["x_um"].to_numpy(), cells["y_um"].to_numpy()
    placed = placed_cells(job, row.slide, cells, shapes, outlines)
    cells = cells.drop(columns="flags").join(placed)
    ledger = whole_ledger(job, row.slide, cells, shapes)
    remarks = [*outlines.notes["remarks"], *ledger_warnings(ledger)]
    tables = [
        store.read_csv(job.store.path(looks_file(row.slide)), text=LOOKS_TEXT),
        cells_qc(row.slide, cells, ledger, seams=_seams(job, row.slide, shapes, x, y)),
        _remark_rows(row.slide, remarks),
    ]
    quality = pd.concat([one for one in tables if len(one)], ignore_index=True)
    store.write_cells(transaction.path(regions_table(row.slide)), cells[["slide", "cell", *placed]])
    store.write_csv(transaction.path(part("area_ledger", row.slide)), ledger)
    store.write_csv(transaction.path(part("qc", row.slide)), quality)
    if shapes["automatic"]:
        table = cells[["slide", "cell"]].assign(tissue_class=automatic_classes(cells, shapes, outlines))
        store.write_cells(transaction.path(automatic_table(row.slide)), table)
    transaction.notes |= {name: outlines.notes[name] for name in HANDED_ON if name in outlines.notes}


def shapes_of(job: Job, slide: str) -> dict:
    """What the outlines keep of a slide: regions, tissue, windows out of focus."""
    return json.loads(job.store.path(shapes_file(slide)).read_text(encoding="utf-8"))


def placed_cells(job: Job, slide: str, cells: pd.DataFrame, shapes: dict, outlines: Record) -> pd.DataFrame:
    """Say of cells where they lie: region, tissue_class, distance_to_margin_um, and flags with those of the place.

    `cells` needs x_um, y_um and flags; what is said of one does not hang on the others.
    """
    x, y = cells["x_um"].to_numpy(), cells["y_um"].to_numpy()
    regions = [region_from_json(one) for one in shapes["regions"]]
    placed = assign_regions(x, y, regions, precedence=outlines.notes["precedence"])
    tumour = json.loads(job.store.path(tumour_file(slide)).read_text(encoding="utf-8"))
    outline = shapely.geometry.shape(tumour) if tumour else shapely.Polygon()
    placed["distance_to_margin_um"] = distance_to_outline(
        x, y, outline, scanned=shapely.geometry.shape(shapes["scanned"])
    )
    placed["flags"] = _flags(cells, shapes)
    return placed


def automatic_classes(cells: pd.DataFrame, shapes: dict, outlines: Record) -> np.ndarray:
    """The tissue class of cells of an annotated slide, as its automatic regions would have it."""
    found = [region_from_json(one) for one in shapes["automatic"]]
    x, y = cells["x_um"].to_numpy(), cells["y_um"].to_numpy()
    return assign_regions(x, y, found, precedence=outlines.notes["precedence"])["tissue_class"].to_numpy()


def whole_ledger(job: Job, slide: str, cells: pd.DataFrame, shapes: dict) -> pd.DataFrame:
    """A slide's account of area and cells; `cells` are all of them, with their places."""
    scanned, tissue = (shapely.geometry.shape(shapes[name]) for name in ("scanned", "tissue"))
    return area_ledger(slide, _parts(job, slide), scanned=scanned, tissue=tissue, cells=cells)


def _parts(job: Job, slide: str) -> list[Region]:
    """The slide's regions, cut so that none overlap."""
    content = json.loads(job.store.path(outlines_file(slide)).read_text(encoding="utf-8"))
    return [region_from_json(one) for one in content]


def _flags(cells: pd.DataFrame, shapes: dict) -> np.ndarray:
    """The cells' flags, with those that lie in windows out of focus."""
    flags, blurred = cells["flags"].to_numpy(), np.array(shapes["blurred"], bool)
    if not blurred.size:
        return flags
    at = windows_of(cells["x_um"].to_numpy(), cells["y_um"].to_numpy(), shapes["window_um"], blurred.shape)
    return flags | np.where(blurred[at], FLAGS["out_of_focus"], 0).astype(flags.dtype)


def _seams(job: Job, slide: str, shapes: dict, x: np.ndarray, y: np.ndarray) -> Seams | None:
    """Whether nuclei are lost or doubled where windows meet."""
    tissue = np.zeros(shapes["mask_shape"], bool)
    runs = store.read_cells(job.store.path(tissue_file(slide)))
    for row, first, length in runs.itertuples(index=False, name=None):
        tissue[row, first : first + length] = True
    return audit_seams(
        x,
        y,
        tissue,
        tissue_pixel_um=tuple(shapes["pixel_size_um"]),
        pixel_size_um=store.open_image(job.store.path(f"slides/{slide}.ome.zarr")).pixel_size_um,
        step_px=store.LABEL_CHUNK,
    )


def _remark_rows(slide: str, remarks: list[str]) -> pd.DataFrame:
    """What the slide's file, its annotations and the search for tissue had to say, as rows of qc.csv."""
    return pd.DataFrame(
        [(slide, "remark", math.nan, "", "warn", remark) for remark in dict.fromkeys(remarks)],
        columns=["slide", "check", "value", "unit", "verdict", "explanation"],
    )
