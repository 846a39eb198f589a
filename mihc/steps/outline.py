"""Store -> outlines: a slide's regions, from its annotations or from its pixels, and what there is to see on it.

    .stages/regions/<slide>.regions.json    the regions, cut so that none overlap; .found.json before a review's edits
    .stages/outlines/<slide>.shapes.json    the regions as they were drawn or found, tissue, windows out of focus
    .stages/outlines/<slide>.tissue.parquet the mask of tissue as runs of pixels
    .stages/outlines/<slide>.looks.csv      the checks of its picture

No cell is in it: where cells are edited, all of this stays. Which cell lies where, `mihc.steps.place` says.
"""

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
from mihc.areas.classifier import PixelClassifier
from mihc.errors import AnnotationError, InputError
from mihc.qc import Findings, examine, picture_qc
from mihc.quality.fields import mean_pixel
from mihc.regions import (
    ANALYSED,
    Bands,
    Edges,
    Region,
    automatic_regions,
    band_areas,
    check_regions,
    excluded_regions,
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
from mihc.reviews.runs import runs_of
from mihc.stages import Job, code_hash
from mihc.steps import learn
from mihc.steps.classify import classify_slide
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
    "mihc.reviews.runs",
    "mihc.stores",
    "mihc.steps.levels",
    "mihc.steps.classify",
    "mihc.steps.outline",
)


STAGE = "outlines"


def shapes_file(slide: str) -> str:
    """Where a slide's regions as drawn or found, its tissue and what is out of focus lie under results/."""
    return f".stages/outlines/{slide}.shapes.json"


def tissue_file(slide: str) -> str:
    """Where the mask of a slide's tissue lies under results/, as runs of pixels of the overview."""
    return f".stages/outlines/{slide}.tissue.parquet"


def looks_file(slide: str) -> str:
    """Where the checks of a slide's picture lie under results/."""
    return f".stages/outlines/{slide}.looks.csv"


def windows_file(slide: str) -> str:
    """Where a slide's windows, and what was seen in each, lie under results/."""
    return f".stages/regions/{slide}.qc_windows.csv"


def outline(job: Job, row: SlideRow, image: Record) -> Record:
    """Outline one slide: its regions, what of its tissue is excluded, and the checks of its picture."""
    settings = job.study.settings.regions
    drawn = _annotations(job, row)
    key = {
        "image": image.digest,
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
    return job.stage(STAGE, row.slide, key, lambda transaction: _outline(job, row, image, transaction))


def _annotations(job: Job, row: SlideRow) -> Path | None:
    return None if job.study.settings.regions.source == "auto" else row.annotations


def _classified(job: Job, row: SlideRow) -> bool:
    """Whether a slide's regions come from the tissue classifier."""
    return job.study.settings.regions.source == "classifier" and _annotations(job, row) is None


def _region_edits(job: Job, row: SlideRow) -> tuple[dict, ...]:
    """The final review's edits of the slide's regions."""
    review = job.study.reviews.get(row.slide)
    return review.regions if review else ()


def _check_picture(job: Job, row: SlideRow, edits: tuple[dict, ...], shape: tuple[int, ...]) -> None:
    """Outlines are of one picture's pixels: those that were drawn on another are refused, as annotation files are."""
    sizes = {tuple(one["size_px"]) for one in edits if "size_px" in one}
    if sizes - {tuple(shape)}:
        raise InputError(
            f"{job.study.reviews[row.slide].reviewer} drew regions on another picture, of {max(sizes - {tuple(shape)})}"
            f" pixels; this one has {tuple(shape)}",
            place=row.slide,
            fix="Undo the edits of regions in mihc review, or give the slide its picture back.",
        )


def _reviewed(job: Job, row: SlideRow, regions: list[Region], shape: tuple[int, ...]) -> tuple[list[Region], list[str]]:
    """The regions as a final review left them, and what there is to say of it."""
    edits = _region_edits(job, row)
    if not edits:
        return regions, []
    _check_picture(job, row, edits, shape)
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
    field = _field(job, row, image)
    settings, precedence = job.study.settings, job.study.settings.regions.precedence
    overview = overview_of(field.stored)
    findings = _findings(field, overview, image, settings.segmentation.nucleus_diameter_um)
    found, facts, tissue = _regions(job, row, field, overview, findings)
    regions, reviewed = _reviewed(job, row, found, field.stored.levels[0].shape[1:])
    parts = partition(regions, scanned=field.scanned, precedence=precedence)
    automatic = _automatic_beside(job, row, overview, findings, field)
    shapes = {
        "pixel_size_um": overview.pixel_size_um,
        "mask_shape": findings.tissue.shape,
        "scanned": shapely.geometry.mapping(field.scanned),
        "tissue": shapely.geometry.mapping(_tissue(findings, overview) if tissue is None else tissue),
        "regions": [region_as_json(one) for one in regions],
        "automatic": [region_as_json(one) for one in automatic],
        "blurred": findings.focus.blurred.tolist() if findings.focus else [],
        "window_um": findings.focus.side_um if findings.focus else [],
    }
    store.write_json(transaction.path(shapes_file(row.slide)), shapes, indent=None)
    store.write_cells(transaction.path(tissue_file(row.slide)), _runs(findings.tissue))
    store.write_csv(transaction.path(looks_file(row.slide)), _looks(job, row, field, overview, image, findings))
    store.write_csv(transaction.path(windows_file(row.slide)), findings.windows)
    store.write_json(transaction.path(outlines_file(row.slide)), [region_as_json(one) for one in parts], indent=None)
    if reviewed:  # what the reviewer started from stays known, beside what they made of it
        before = partition(found, scanned=field.scanned, precedence=precedence)
        store.write_json(transaction.path(found_file(row.slide)), [region_as_json(one) for one in before], indent=None)
    tumour = tumour_outline(regions, field.scanned)
    shown = None if tumour.is_empty else shapely.geometry.mapping(tumour)
    store.write_json(transaction.path(tumour_file(row.slide)), shown, indent=None)
    _paint(job, row.slide, field.stored, parts, transaction)
    bands = Bands(settings.regions.band_um, settings.regions.bands_to_um)
    areas = band_areas(regions, parts, scanned=field.scanned, bands=bands)
    transaction.notes |= {
        "source": "annotations" if _annotations(job, row) else "classifier" if _classified(job, row) else "automatic",
        "precedence": list(precedence),
        "remarks": [*image.notes["warnings"], *facts, *reviewed],
        "areas_mm2": [[r.name, r.tissue_class, r.area_mm2] for r in parts if r.tissue_class in ANALYSED],
        "band_areas_mm2": [[*key, area] for key, area in areas.items() if key[1] in ANALYSED],
    }
    if automatic:
        transaction.notes["automatic_areas_mm2"] = _class_areas(
            partition(automatic, scanned=field.scanned, precedence=precedence)
        )


def regions_by(job: Job, row: SlideRow, image: Record, classifier: PixelClassifier) -> list[Region]:
    """What a slide's regions would be by a tissue classifier, cut so that none overlap; nothing is written."""
    field, settings = _field(job, row, image), job.study.settings
    overview = overview_of(field.stored)
    findings = _findings(field, overview, image, settings.segmentation.nucleus_diameter_um)
    regions, _, _ = _by_classifier(job, row, field, overview, findings, classifier)
    return partition(regions, scanned=field.scanned, precedence=settings.regions.precedence)


def _field(job: Job, row: SlideRow, image: Record) -> _Field:
    stored = store.open_image(job.store.path(f"slides/{row.slide}.ome.zarr"))
    roles = {line.marker: line.role for line in job.study.panel_of(row).measured}
    size_y, size_x = stored.pixel_size_um
    scanned = shapely.transform(shapely.wkt.loads(image.notes["scanned_px"]), lambda xy: xy * (size_x, size_y))
    return _Field(stored, scanned, tuple(roles[channel] for channel in stored.channels))


def _tissue(findings: Findings, overview: Overview) -> Polygon | MultiPolygon:
    return mask_to_polygons(findings.tissue, pixel_size_um=overview.pixel_size_um)


def _runs(mask: np.ndarray) -> pd.DataFrame:
    """A mask as runs of pixels: y, x, length."""
    return pd.DataFrame(runs_of(mask), columns=["y", "x", "length"], dtype=np.int32)


def _looks(
    job: Job, row: SlideRow, field: _Field, overview: Overview, image: Record, findings: Findings
) -> pd.DataFrame:
    settings = job.study.settings
    return picture_qc(
        row.slide,
        overview,
        image.notes,
        findings=findings,
        roles=field.roles,
        exclude=settings.qc.exclude,
        nucleus_diameter_um=settings.segmentation.nucleus_diameter_um,
    )


def _automatic_beside(job: Job, row: SlideRow, overview: Overview, findings: Findings, field: _Field) -> list[Region]:
    """The automatic regions of an annotated slide: another plausible choice. None where the study takes one kind."""
    settings = job.study.settings
    if settings.regions.source != "both" or _annotations(job, row) is None or not settings.robustness.analyse:
        return []
    return automatic_regions(
        overview.pixels,
        pixel_size_um=overview.pixel_size_um,
        roles=field.roles,
        tissue=findings.tissue,
        flaws=findings.masks,
        exclude=settings.qc.exclude,
    ).regions


def _class_areas(parts: list[Region]) -> list[list]:
    """mm² of each analysed class that is there."""
    areas = {kind: [one.area_mm2 for one in parts if one.tissue_class == kind] for kind in ANALYSED}
    return [[kind, math.fsum(these)] for kind, these in areas.items() if these]


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
        return _by_classifier(job, row, field, overview, findings, learn.classifier_of(job, row))
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


def _by_classifier(
    job: Job, row: SlideRow, field: _Field, overview: Overview, findings: Findings, classifier: PixelClassifier
) -> tuple[list[Region], list[str], Polygon | MultiPolygon | None]:
    regions, tissue = classify_slide(job, row.slide, field.stored, overview, findings.tissue, classifier)
    exclude, size = job.study.settings.qc.exclude, overview.pixel_size_um
    found = excluded_regions(findings.masks, pixel_size_um=size, exclude=exclude, outlined=regions)
    remarks = [] if regions else ["no tissue found: the classifier calls every pixel glass"]
    return [*regions, *found], remarks, tissue


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
    job.map(slide, STAGE, paint_box, tasks)
    store.build_label_pyramid(folder, job.submit)


def paint_box(folder: str, strip: Edges, pixel_size_um: tuple[float, float], box: tuple[int, int, int, int]) -> None:
    """Paint one box of labels/regions from the edges of its rows."""
    y0, y1, x0, x1 = box
    painted = strip.paint((y1 - y0, x1 - x0), pixel_size_um, (y0, x0))
    store.write_label_window(Path(folder), 0, y0, x0, painted)
