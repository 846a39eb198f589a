"""Store and cells -> regions: annotations where a slide has them, else tumour and stroma from its tumour marker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
import shapely.wkt
from shapely.geometry import MultiPolygon, Polygon

from mihc import store
from mihc.cells import FLAGS
from mihc.errors import AnnotationError, InputError
from mihc.qc import Findings, audit_seams, examine, slide_qc
from mihc.quality.fields import mean_pixel
from mihc.regions import (
    ANALYSED,
    Bands,
    Edges,
    Region,
    area_ledger,
    assign_regions,
    automatic_regions,
    band_areas,
    check_regions,
    distance_to_margin,
    excluded_regions,
    ledger_warnings,
    map_classes,
    mask_to_polygons,
    partition,
    read_annotations,
    region_edges,
    tissue_mask,
    tumour_outline,
)
from mihc.results import found_file, outlines_file, region_as_json, tumour_file
from mihc.reviews.region_edits import edit_regions
from mihc.stages import Job, code_hash
from mihc.steps import learn
from mihc.steps.classify import classify_slide
from mihc.steps.edit import table_of
from mihc.steps.levels import Overview, level_near, overview_of
from mihc.store import Record, StoredImage, Transaction, hash_json
from mihc.study import SlideRow

MODULES = (
    "mihc.windows",
    "mihc.kernels",
    "mihc.regions",
    "mihc.areas",
    "mihc.annotations",
    "mihc.qc",
    "mihc.quality",
    "mihc.results",
    "mihc.reviews.region_edits",
    "mihc.stores",
    "mihc.steps.levels",
    "mihc.steps.classify",
    "mihc.steps.outline",
)


CELL_COLUMNS = ("slide", "cell", "x_um", "y_um", "nucleus_area_um2", "flags")  # of the many, what is needed here


def regions_table(slide: str) -> str:
    """Where the region of every cell of a slide lies under results/."""
    return f".stages/regions/{slide}.parquet"


def automatic_table(slide: str) -> str:
    """Where the tissue class of every cell of an annotated slide lies, as the automatic regions would have it."""
    return f".stages/regions/{slide}.automatic.parquet"


def part(table: str, slide: str) -> str:
    """Where a slide's part of one of the study's tables lies under results/."""
    return f".stages/regions/{slide}.{table}.csv"


def outline(job: Job, row: SlideRow, image: Record, cells: Record) -> Record:
    """Outline one slide: its regions, their areas, the region of every cell, the ledger and the quality checks."""
    settings = job.study.settings.regions
    drawn = _annotations(job, row)
    key = {
        "image": image.digest,
        "cells": cells.digest,
        "annotations": job.input_hash(drawn) if drawn else "none",
        "settings": hash_json([settings.source, settings.classes, settings.precedence, settings.repair]),
        "bands": hash_json([settings.band_um, settings.bands_to_um]),
        "classifier": job.store.record(learn.STAGE).digest if _classified(job, row) else "none",
        "automatic": hash_json(job.study.settings.robustness.analyse),
        "review": hash_json(_region_edits(job, row)),
        "qc": hash_json([job.study.settings.qc.exclude, job.study.settings.segmentation.nucleus_diameter_um]),
        "panel": hash_json([(line.marker, line.role) for line in job.study.panel_of(row).measured]),
        "code": code_hash(*MODULES),
    }
    return job.stage("regions", row.slide, key, lambda transaction: _outline(job, row, image, transaction))


def _annotations(job: Job, row: SlideRow) -> Path | None:
    return None if job.study.settings.regions.source == "auto" else row.annotations


def _classified(job: Job, row: SlideRow) -> bool:
    """Whether a slide's regions come from the tissue classifier."""
    return job.study.settings.regions.source == "classifier" and _annotations(job, row) is None


def _region_edits(job: Job, row: SlideRow) -> tuple[dict, ...]:
    """The final review's edits of the slide's regions."""
    review = job.study.reviews.get(row.slide)
    return review.regions if review else ()


def _reviewed(job: Job, row: SlideRow, regions: list[Region]) -> tuple[list[Region], list[str]]:
    """The regions as a final review left them, and what there is to say of it."""
    edits = _region_edits(job, row)
    if not edits:
        return regions, []
    edited, passed_over = edit_regions(regions, edits)
    count = f"{len(edits)} edit{'s' * (len(edits) > 1)}"
    return edited, [f"regions as {job.study.reviews[row.slide].reviewer} left them in a review ({count})", *passed_over]


@dataclass(frozen=True)
class _Field:
    """What regions are looked for on."""

    stored: StoredImage
    scanned: Polygon | MultiPolygon  # µm
    roles: tuple[str, ...]  # of the stored channels


def _outline(job: Job, row: SlideRow, image: Record, transaction: Transaction) -> None:
    stored = store.open_image(job.store.path(f"slides/{row.slide}.ome.zarr"))
    roles = {line.marker: line.role for line in job.study.panel_of(row).measured}
    size_y, size_x = stored.pixel_size_um
    scanned = shapely.transform(shapely.wkt.loads(image.notes["scanned_px"]), lambda xy: xy * (size_x, size_y))
    field = _Field(stored, scanned, tuple(roles[channel] for channel in stored.channels))
    cells = store.read_cells(table_of(job, row.slide), columns=CELL_COLUMNS)
    precedence = job.study.settings.regions.precedence
    overview = overview_of(stored)
    diameter = job.study.settings.segmentation.nucleus_diameter_um
    findings = _findings(field, overview, image, diameter)
    regions, facts, tissue = _regions(job, row, field, overview, findings)
    found = regions
    regions, reviewed = _reviewed(job, row, found)
    if tissue is None:
        tissue = mask_to_polygons(findings.tissue, pixel_size_um=overview.pixel_size_um)
    parts = partition(regions, scanned=scanned, precedence=precedence)
    x, y = cells["x_um"].to_numpy(), cells["y_um"].to_numpy()
    placed = assign_regions(x, y, regions, precedence=precedence)
    placed["distance_to_margin_um"] = distance_to_margin(x, y, regions, scanned=scanned)
    placed["flags"] = _flags(cells, findings)
    cells = cells.drop(columns="flags").join(placed)
    ledger = area_ledger(row.slide, parts, scanned=scanned, tissue=tissue, cells=cells)
    quality = slide_qc(
        row.slide,
        overview,
        cells,
        ledger,
        image.notes,
        findings=findings,
        roles=field.roles,
        exclude=job.study.settings.qc.exclude,
        nucleus_diameter_um=diameter,
        seams=audit_seams(
            x,
            y,
            findings.tissue,
            tissue_pixel_um=overview.pixel_size_um,
            pixel_size_um=stored.pixel_size_um,
            step_px=store.LABEL_CHUNK,
        ),
    )
    remarks = [*image.notes["warnings"], *facts, *reviewed, *ledger_warnings(ledger)]
    if remarks:
        quality = pd.concat([quality, _remark_rows(row.slide, remarks)], ignore_index=True)
    store.write_cells(transaction.path(regions_table(row.slide)), cells[["slide", "cell", *placed]])
    store.write_csv(transaction.path(part("area_ledger", row.slide)), ledger)
    store.write_csv(transaction.path(part("qc", row.slide)), quality)
    store.write_csv(transaction.path(part("qc_windows", row.slide)), findings.windows)
    store.write_json(
        transaction.path(outlines_file(row.slide)), [region_as_json(region) for region in parts], indent=None
    )
    if reviewed:  # what the reviewer started from stays known, beside what they made of it
        before = partition(found, scanned=scanned, precedence=precedence)
        store.write_json(transaction.path(found_file(row.slide)), [region_as_json(one) for one in before], indent=None)
    tumour = tumour_outline(regions, scanned)
    shown = None if tumour.is_empty else shapely.geometry.mapping(tumour)
    store.write_json(transaction.path(tumour_file(row.slide)), shown, indent=None)
    _paint(job, row.slide, stored, parts, transaction)
    _place_automatically(job, row, overview, findings, field, cells, transaction)
    settings = job.study.settings.regions
    areas = band_areas(regions, parts, scanned=scanned, bands=Bands(settings.band_um, settings.bands_to_um))
    transaction.notes |= {
        "source": "annotations" if _annotations(job, row) else "classifier" if _classified(job, row) else "automatic",
        "areas_mm2": [[r.name, r.tissue_class, r.area_mm2] for r in parts if r.tissue_class in ANALYSED],
        "band_areas_mm2": [[*key, area] for key, area in areas.items() if key[1] in ANALYSED],
    }


def _place_automatically(
    job: Job, row: SlideRow, overview: Overview, findings: Findings, field: _Field, cells: pd.DataFrame,
    transaction: Transaction,
) -> None:  # fmt: skip
    """Where an annotated slide's cells and areas would be by its automatic regions: another plausible choice.

    Only where the study takes both kinds; regions are cut and cells placed as those of any other slide.
    """
    settings = job.study.settings
    if settings.regions.source != "both" or _annotations(job, row) is None or not settings.robustness.analyse:
        return
    found = automatic_regions(
        overview.pixels,
        pixel_size_um=overview.pixel_size_um,
        roles=field.roles,
        tissue=findings.tissue,
        flaws=findings.masks,
        exclude=settings.qc.exclude,
    ).regions
    parts = partition(found, scanned=field.scanned, precedence=settings.regions.precedence)
    x, y = cells["x_um"].to_numpy(), cells["y_um"].to_numpy()
    placed = assign_regions(x, y, found, precedence=settings.regions.precedence)
    table = cells[["slide", "cell"]].assign(tissue_class=placed["tissue_class"].to_numpy())
    store.write_cells(transaction.path(automatic_table(row.slide)), table)
    analysed = [one for one in parts if one.tissue_class in ANALYSED]
    areas = {kind: [one.area_mm2 for one in analysed if one.tissue_class == kind] for kind in ANALYSED}
    transaction.notes["automatic_areas_mm2"] = [[kind, math.fsum(these)] for kind, these in areas.items() if these]


def _remark_rows(slide: str, remarks: list[str]) -> pd.DataFrame:
    """What the slide's file, its annotations and the search for tissue had to say, as rows of qc.csv."""
    return pd.DataFrame(
        [(slide, "remark", math.nan, "", "warn", remark) for remark in dict.fromkeys(remarks)],
        columns=["slide", "check", "value", "unit", "verdict", "explanation"],
    )


def _findings(field: _Field, overview: Overview, image: Record, nucleus_diameter_um: float) -> Findings:
    """What there is to see on the slide's coarse levels."""
    bits, kind = image.notes["significant_bits"], np.dtype(overview.pixels.dtype)
    limit = np.iinfo(kind).max if kind.kind == "u" else math.inf
    return examine(
        overview,
        tissue=tissue_mask(overview.pixels, mean_pixel(overview.pixel_size_um), field.roles),
        roles=field.roles,
        near_2_um=level_near(field.stored, 2.0),
        near_1_um=level_near(field.stored, 1.0),
        ceiling=float(2**bits - 1 if bits and kind.kind == "u" else limit),
        nucleus_diameter_um=nucleus_diameter_um,
    )


def _flags(cells: pd.DataFrame, findings: Findings) -> np.ndarray:
    """The cells' flags, with those that lie in windows out of focus."""
    flags = cells["flags"].to_numpy()
    if findings.focus is None:
        return flags
    blurred = findings.focus.holds(cells["x_um"].to_numpy(), cells["y_um"].to_numpy())
    return flags | np.where(blurred, FLAGS["out_of_focus"], 0).astype(flags.dtype)


def _regions(
    job: Job, row: SlideRow, field: _Field, overview: Overview, findings: Findings
) -> tuple[list[Region], list[str], Polygon | MultiPolygon | None]:
    """Regions in the order of their file, what is excluded after them, remarks for people, and tissue if drawn anew."""
    exclude, size = job.study.settings.qc.exclude, overview.pixel_size_um
    drawn = _annotations(job, row)
    if drawn is not None:
        regions, remarks = _from_annotations(job, row, drawn, field)
        found = excluded_regions(findings.masks, pixel_size_um=size, exclude=exclude, outlined=regions)
        return [*regions, *found], remarks, None
    if _classified(job, row):
        classifier = learn.classifier_of(job, row)
        regions, tissue = classify_slide(job, row.slide, field.stored, overview, findings.tissue, classifier)
        found = excluded_regions(findings.masks, pixel_size_um=size, exclude=exclude, outlined=regions)
        remarks = [] if regions else ["no tissue found: the classifier calls every pixel glass"]
        return [*regions, *found], remarks, tissue
    if job.study.settings.regions.source == "annotations":
        raise InputError(
            "there is no annotation file, and study.toml takes regions from annotations only",
            place=row.slide,
            fix=f'Save annotations/{row.slide}.geojson, or write source = "both" under [regions].',
        )
    found = automatic_regions(
        overview.pixels,
        pixel_size_um=size,
        roles=field.roles,
        tissue=findings.tissue,
        flaws=findings.masks,
        exclude=exclude,
    )
    return found.regions, found.remarks, None


def _from_annotations(job: Job, row: SlideRow, path: Path, field: _Field) -> tuple[list[Region], list[str]]:
    shape = field.stored.levels[0].shape[1:]
    regions, remarks = read_annotations(
        path,
        pixel_size_um=field.stored.pixel_size_um,
        slide=row.slide,
        size_px=shape,
        repair=job.study.settings.regions.repair,
    )
    if not regions:
        raise AnnotationError("no regions are in it", place=path.name, fix="Draw at least one, or remove the file.")
    regions = map_classes(regions, job.study.settings.regions.classes)
    extent = tuple(pixels * size for pixels, size in zip(shape, field.stored.pixel_size_um, strict=True))
    regions, cut = check_regions(regions, extent_um=extent, place=path.name)
    return regions, [*remarks, *cut]


def _paint(job: Job, slide: str, stored: StoredImage, parts: list[Region], transaction: Transaction) -> None:
    """Write labels/regions, a picture of the polygons: 1 + the index of the region in the stored list."""
    folder = transaction.path(f"slides/{slide}.ome.zarr/labels/regions")
    shape = stored.levels[0].shape[1:]
    store.create_labels(folder, shape=shape, pixel_size_um=stored.pixel_size_um, name="regions")
    edges, size, side = region_edges(parts), stored.pixel_size_um, 2 * store.LABEL_CHUNK
    tasks = []
    for y in range(0, shape[0], side):
        y1 = min(y + side, shape[0])
        strip = edges.between(y * size[0], y1 * size[0])
        tasks += [(str(folder), strip, size, (y, y1, x, min(x + side, shape[1]))) for x in range(0, shape[1], side)]
    job.map(slide, "regions", paint_box, tasks)
    store.build_label_pyramid(folder, job.submit)


def paint_box(folder: str, strip: Edges, pixel_size_um: tuple[float, float], box: tuple[int, int, int, int]) -> None:
    """Paint one box of labels/regions from the edges of its rows."""
    y0, y1, x0, x1 = box
    painted = strip.paint((y1 - y0, x1 - x0), pixel_size_um, (y0, x0))
    store.write_label_window(Path(folder), 0, y0, x0, painted)
