"""Slides -> study: the parts of every slide gathered to the study's tables, pooled to patients, put to the tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import pandas as pd

from mihc import store
from mihc.associate import (
    CLINICAL,
    Kept,
    associate,
    dropout_table,
    family_table,
    fingerprints,
    kept_rows,
    split_table,
)
from mihc.batches import (
    BatchMarker,
    MarkerValues,
    beside_batches,
    control_remark,
    drift,
    positivity_remarks,
    typed_remark,
)
from mihc.errors import InputError, MihcError
from mihc.regions import check_ledger
from mihc.stages import Job, code_hash
from mihc.steps import call, describe, edit, learn, place
from mihc.store import Record, Transaction, hash_json
from mihc.study import (
    SlideRow,
    Study,
    duplicate,
    is_of_one_slide,
    pdl1_table,
    same_scene,
    study_notes,
    study_table,
)

TABLE_MODULES = ("mihc.studies", "mihc.study", "mihc.batches", "mihc.steps.gather")
TEST_MODULES = ("mihc.associate", "mihc.associations", "mihc.statistics", "mihc.estimates", "mihc.steps.gather")
BATCH_COLUMNS = [field.name for field in fields(BatchMarker)]
SLIDE_COLUMNS = (
    "slide", "patient", "panel", "batch", "control", "status", "message", "failed",
    "pixel_size_um", "pixel_size_source", "region_source", "cells",
)  # fmt: skip


def gather(job: Job, slides: pd.DataFrame, records: Mapping[str, Record], described: Sequence[MarkerValues]) -> Record:
    """Write the study's tables: regions, thresholds, area ledger, QC, patients, and the notes to them.

    Parameters
    ----------
    job, slides
        The run, and what is known of every slide.
    records
        What was stored of each slide's positives.
    described
        What each slide's cells say of each marker, to set it beside its batch.

    Raises
    ------
    InputError
        When two slides that count for a patient have the same content.
    """
    study = job.study
    refuse_copies(job, records)
    clinical = study.clinical_columns()
    key = {
        "slides": hash_json({slide: record.digest for slide, record in sorted(records.items())}),
        "list": hash_json(slides[["slide", "patient", "panel", "batch", "control", "failed"]].to_dict("list")),
        "clinical": hash_json(clinical.astype(str).to_dict("list")) if clinical is not None else "none",
        "settings": hash_json([study.settings.thresholds.unclear, sorted(study.settings.phenotypes)]),
        "bands": hash_json(study.settings.regions.bands_in_tests),
        "classifier": job.store.record(learn.STAGE).digest if study.settings.regions.source == "classifier" else "none",
        "values": hash_json([repr(one) for one in described]),
        "areas": hash_json({slide: one.digest for slide, one in _placed(job, records).items()}),
        "code": code_hash(*TABLE_MODULES),
    }
    return job.stage(
        "study", "", key, lambda transaction: _gather(job, slides, clinical, list(records), described, transaction)
    )


def _placed(job: Job, records: Mapping[str, Record]) -> dict[str, Record]:
    """What made the slides' rows of the area ledger and of qc.csv, which may change where no count does."""
    stages = [(slide, stage) for slide in sorted(records) for stage in (place.STAGE, edit.STAGE)]
    found = {f"{slide} {stage}": job.store.record(stage, slide) for slide, stage in stages}
    return {name: record for name, record in found.items() if record}


def refuse_copies(job: Job, records: Mapping[str, Record]) -> None:
    """Raise InputError when the same scene, or the same table of cells, would count twice.

    Parameters
    ----------
    job
        The run; what it has stored of the slides' pictures is looked up.
    records
        What was stored of each slide's positives.
    """
    seen: dict[str, list[SlideRow]] = {}
    for row in job.study.slides:
        if not row.counts or row.slide not in records or not records[row.slide].notes["cells"]:
            continue  # a slide without a cell counts no cell twice
        alike = seen.setdefault(_content(job, row, records[row.slide]), [])
        twin = next((other for other in alike if _same_part(job, row, other)), None)
        if twin is not None:
            fix = "Remove one of the two lines and type the same command again."
            raise InputError(duplicate(twin, row), place="slides.csv", fix=fix)
        alike.append(row)


def _content(job: Job, row: SlideRow, positives: Record) -> str:
    return positives.key["cells"] if row.cells is not None else job.store.record("slide", row.slide).key["input"]


def _same_part(job: Job, one: SlideRow, other: SlideRow) -> bool:
    """Whether two slides of one content are the same cells of it."""
    if one.cells is not None or other.cells is not None:
        return is_of_one_slide(one.cells or other.cells)
    first, second = ((row.scene, job.store.record("slide", row.slide).notes["scene"]) for row in (one, other))
    return same_scene(first, second)


def _gather(
    job: Job,
    slides: pd.DataFrame,
    clinical: pd.DataFrame | None,
    done: Sequence[str],
    described: Sequence[MarkerValues],
    transaction: Transaction,
) -> None:
    study = job.study
    imaged = [row.slide for row in study.slides if row.slide in done and row.file is not None]
    counted = [row.slide for row in study.slides if row.slide in done and row.counts]
    regions = _with_patients(study, _joined(job, [call.part("regions", slide) for slide in counted]))
    bands = _with_patients(study, _joined(job, [call.part("bands", slide) for slide in counted]))
    pdl1 = _joined(job, [call.part("pdl1", slide) for slide in counted]) if study.settings.pdl1 else None
    arguments = {
        "unclear": study.settings.thresholds.unclear,
        "populations": study.populations(),
        "pdl1_counts": pdl1,
    }
    in_bands = bands if study.settings.regions.bands_in_tests else None
    beside_counts = {name: _joined(job, [describe.part(name, slide) for slide in done]) for name in describe.TABLES}
    tables = {
        "regions": regions,
        "bands": bands,
        "thresholds": beside(_joined(job, [call.part("thresholds", slide) for slide in done]), described),
        "area_ledger": _joined(job, [edit.ledger_part(job, slide) for slide in imaged]),
        "qc": _joined(
            job,
            [part for slide in done for part in (*_outlined(slide, imaged), describe.part("qc", slide))],
        ),
        **{name: _with_patients(study, table) for name, table in beside_counts.items()},
        "patients": study_table(regions, slides, clinical, **arguments, bands=in_bands),
    }
    check_ledger(tables["area_ledger"], regions)
    if study.settings.regions.source == "classifier":
        tables["classifier"] = store.read_csv(job.store.path(learn.TABLE), text=learn.TEXT)
    if study.settings.pdl1:
        tables["pdl1"] = pdl1_table(regions, slides, **arguments)
    for name, table in tables.items():
        store.write_csv(transaction.path(f"{name}.csv"), table)
    store.write_csv(transaction.path(".stages/study/notes.csv"), study_notes(regions, slides, **arguments))
    store.write_csv(
        transaction.path(".stages/study/batches.csv"), pd.DataFrame(drift(described), columns=BATCH_COLUMNS)
    )
    transaction.notes["slides"] = sorted(done)


def _outlined(slide: str, imaged: Sequence[str]) -> list[str]:
    return [place.part("qc", slide)] if slide in imaged else []


def beside(thresholds: pd.DataFrame, described: Sequence[MarkerValues]) -> pd.DataFrame:
    """Add to thresholds.csv how each slide's marker lies beside its batch and its negative controls.

    Parameters
    ----------
    thresholds
        One row per slide and marker.
    described
        What the slides' cells say.

    Returns
    -------
    DataFrame
        With `batch, control`, `negative_peak, negative_width, batch_peak, batch_width, control_p99` (counts; NaN where
        not known) and `remark`: what stands out, "" where nothing does.
    """
    if thresholds.empty:
        return thresholds
    known = {(one.slide, one.marker): one for one in described}
    compared = beside_batches(described)
    unlike = _unlike_positivity(thresholds, known)
    rows = []
    for row in thresholds.itertuples():
        one, other = known.get((row.slide, row.marker)), compared.get((row.slide, row.marker))
        said = [other.remark] if other else []
        if one and row.verdict != "negative slide":  # whose threshold lies above every cell, not among the control's
            said.append(control_remark(row.value, one.control_p99))
        if one and row.verdict == "manual":
            said.append(typed_remark(row.value, one.own, one.peak))
        said.append(unlike.get((row.slide, row.marker), ""))
        rows.append({
            "batch": one.batch if one else "", "control": one.control if one else "",
            "negative_peak": one.peak if one else math.nan, "negative_width": one.width if one else math.nan,
            "batch_peak": other.batch_peak if other else math.nan,
            "batch_width": other.batch_width if other else math.nan,
            "control_p99": one.control_p99 if one else math.nan, "remark": "; ".join(filter(None, said)),
        })  # fmt: skip
    return thresholds.join(pd.DataFrame(rows, index=thresholds.index))


def _unlike_positivity(
    thresholds: pd.DataFrame, known: Mapping[tuple[str, str], MarkerValues]
) -> dict[tuple[str, str], str]:
    """(slide, marker) -> what is said of a positivity far from that of the batch's other slides."""
    batches: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in thresholds.itertuples():
        one = known.get((row.slide, row.marker))
        if one and not one.control and row.cells:
            percent = 100 * row.positive_cells / row.cells
            batches.setdefault((one.panel, one.batch, one.marker), {})[row.slide] = percent
    return {
        (slide, marker): said
        for (_, _, marker), positivity in batches.items()
        for slide, said in positivity_remarks(positivity).items()
    }


def _with_patients(study: Study, counts: pd.DataFrame) -> pd.DataFrame:
    """Insert the patient of every slide as slides.csv has it now; a slide's own part knows no patient."""
    patients = {row.slide: row.patient for row in study.slides}
    if "slide" in counts:
        counts.insert(1, "patient", counts["slide"].map(patients))
    return counts


def _joined(job: Job, parts: Sequence[str]) -> pd.DataFrame:
    return store.read_csv_parts([job.store.path(part) for part in parts])


def compare(job: Job, table: Record) -> Record:
    """Write statistics.csv, families.csv, splits.csv and dropout.csv from the study table."""
    settings = job.study.settings
    asked = [settings.outcomes, settings.responses, settings.groups, settings.cox_covariates, settings.splits]
    key = {"study": table.digest, "settings": hash_json([repr(one) for one in asked]), "code": code_hash(*TEST_MODULES)}

    def make(transaction: Transaction) -> None:
        patients = patients_table(job)
        marks = fingerprints(patients)
        kept, dropout, splits = _kept(job, key, marks)
        found = associate(patients, settings, kept=kept)
        made = {
            "statistics": found,
            "families": family_table(found),
            "dropout": dropout_table(patients, settings, before=dropout, unchanged=kept.unchanged),
        }
        for name, table in made.items():
            store.write_csv(transaction.path(f"{name}.csv"), table)
        store.write_text(transaction.path("splits.csv"), splits or store.csv_text(split_table(patients, settings)))
        transaction.notes |= {"columns": marks, "groups": kept.groups}

    return job.stage("statistics", "", key, make)


def _kept(job: Job, key: Mapping[str, str], marks: Mapping[str, str]) -> tuple[Kept, pd.DataFrame | None, str]:
    """What stands of the statistics that are stored, dropout.csv as it is, and splits.csv, which is of clinical columns
    alone ("": anew).
    """
    record = job.store.record("statistics")
    if record is None or any(record.key.get(name) != key[name] for name in ("settings", "code")):
        return Kept(), None, ""
    before = record.notes.get("columns", {})
    try:
        rows = store.read_csv(job.store.path("statistics.csv"))
        kept = kept_rows(before, rows, marks, record.notes.get("groups", {}))
        if before.get(CLINICAL) != marks[CLINICAL]:
            return kept, None, ""
        dropout = store.read_csv(job.store.path("dropout.csv"), text=["warning"])
        return kept, dropout, job.store.path("splits.csv").read_text(encoding="utf-8")
    except MihcError:  # damaged, or taken away: it is all computed
        return Kept(), None, ""


def patients_table(job: Job) -> pd.DataFrame:
    """Read patients.csv as the tests need it: ids and the clinical columns that hold text as text, all else numbers."""
    text = {"patient"}
    clinical = job.study.clinical_columns()
    if clinical is not None:
        text |= {name for name in clinical if not pd.api.types.is_numeric_dtype(clinical[name])}
    return store.read_csv(job.store.path("patients.csv"), text=sorted(text), only=True)


def slide_table(
    rows: Sequence[SlideRow], failed: Mapping[str, str], facts: Mapping[str, Mapping[str, object]]
) -> pd.DataFrame:
    """One row per slide of slides.csv: whether it was measured, and what is known of it."""
    table = [
        {
            "slide": row.slide,
            "patient": row.patient,
            "panel": row.panel,
            "batch": row.batch,
            "control": row.control,
            "status": "failed" if row.slide in failed else "ok",
            "message": failed.get(row.slide, ""),
            "failed": row.slide in failed,
            **facts.get(row.slide, {}),
        }
        for row in rows
    ]
    return pd.DataFrame(table, columns=list(SLIDE_COLUMNS))
