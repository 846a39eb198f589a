"""Study -> report: the slides' pictures, the figures and the one HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from mihc import store
from mihc.figures import SlidePicture, composite
from mihc.positives import populations
from mihc.report import write_report
from mihc.results import cells_file, slide_regions, slide_tumour
from mihc.stages import Job, code_hash
from mihc.steps import describe
from mihc.steps.gather import patients_table
from mihc.steps.learn import TEXT as CLASSIFIER_TEXT
from mihc.steps.propose import histograms
from mihc.store import Record, Transaction, hash_json
from mihc.study import SlideRow, read_history

MODULES = (
    "mihc.figures",
    "mihc.plots",
    "mihc.report",
    "mihc.reports",
    "mihc.templates",
    "mihc.associate",
    "mihc.associations",
    "mihc.estimates",
    "mihc.steps.describe",
    "mihc.steps.tell",
)
NOTES = ".stages/study/notes.csv"  # why patients' values are missing
BATCHES = ".stages/study/batches.csv"  # how batches lie beside each other
THUMBNAIL_SIDE = 900  # pixels at most
MOST_POINTS = 5000  # of a population on a picture, evenly taken
STATISTICS_TEXT = ("family", "analysis", "endpoint", "population", "tissue_class", "measure", "split", "term")
STATISTICS_TEXT += ("estimate_kind", "adjust_method", "method", "note")
STATISTICAL = ("families", "splits", "dropout", "robustness", "robustness_summary", "influence")
STATISTICAL_TEXT = (*STATISTICS_TEXT, "patient", "rule", "switching", "endpoints", "effect_kind", "power_method")
STATISTICAL_TEXT += ("warning", "threshold", "pooling", "regions", "left_out_patient", "verdict", "why")
TEXT = ("slide", "patient", "region", "tissue_class", "population", "marker", "check", "verdict", "category")


def tell(job: Job, slides: pd.DataFrame, cohort: Mapping[str, Record], run: dict) -> Record:
    """Write report.html and figures/; `cohort` are the records of the stages study, statistics and robustness."""
    key = {
        **{name: record.digest for name, record in cohort.items()},
        "slides": hash_json(slides.astype(str).to_dict("list")),
        "settings": hash_json(run["settings"]),
        "history": hash_json(_history(job).to_dict("list")),
        "reviews": hash_json({slide: review.told() for slide, review in sorted(job.study.reviews.items())}),
        "code": code_hash(*MODULES),
    }
    return job.stage("report", "", key, lambda transaction: _tell(job, slides, run, transaction))


def _tell(job: Job, slides: pd.DataFrame, run: dict, transaction: Transaction) -> None:
    names = ("regions", "bands", "thresholds", "area_ledger", "qc", *describe.TABLES)
    names += ("pdl1",) if job.study.settings.pdl1 else ()
    tables = {name: store.read_csv(job.store.path(f"{name}.csv"), text=TEXT) for name in names}
    if job.study.settings.regions.source == "classifier":
        tables["classifier"] = store.read_csv(job.store.path("classifier.csv"), text=CLASSIFIER_TEXT)
    tables["patients"] = patients_table(job)
    tables["statistics"] = store.read_csv(job.store.path("statistics.csv"), text=STATISTICS_TEXT)
    for name in STATISTICAL:
        tables[name] = store.read_csv(job.store.path(f"{name}.csv"), text=STATISTICAL_TEXT)
    tables["notes"] = store.read_csv(job.store.path(NOTES))
    tables["batches"] = store.read_csv(job.store.path(BATCHES))
    tables["history"] = _history(job)
    tables["slides"] = slides
    measured = {row.slide for row in slides[~slides["failed"]].itertuples()}
    shown = [row for row in job.study.slides if row.slide in measured and row.file is not None]
    tables["given_cells"] = _given_cells(job, [row for row in job.study.slides if row.slide in measured and row.cells])
    pictures = []
    with ThreadPoolExecutor(job.study.settings.compute.workers) as pool:
        for done, picture in enumerate(pool.map(lambda row: _picture(job, row), shown), 1):
            pictures.append(picture)
            job.say("", "report", done, len(shown))
    folder = transaction.path("report.html").parent
    transaction.path("figures").mkdir(exist_ok=True)
    tabled = {row.slide: histograms(job, row.slide) for row in job.study.slides if row.slide in measured and row.cells}
    write_report(folder, study=job.study, tables=tables, run=run, pictures=pictures, histograms=tabled)


def _history(job: Job) -> pd.DataFrame:
    """The history of typed thresholds; empty where there is none."""
    history = read_history(job.study.folder)
    return pd.DataFrame() if history is None else history


def _given_cells(job: Job, rows: Sequence[SlideRow]) -> pd.DataFrame:
    """How many cells lie where on the slides that came as tables of cells, which have no area ledger."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        cells = store.read_cells(job.store.path(cells_file(row.slide)), columns=["tissue_class", "region"]).fillna("")
        counts.update((row.slide, *place) for place in cells.itertuples(index=False, name=None))
    table = [(*place, count) for place, count in counts.items()]
    return pd.DataFrame(table, columns=["slide", "tissue_class", "region", "cells"])


def _picture(job: Job, row: SlideRow) -> SlidePicture:
    stored = store.open_image(job.store.path(f"slides/{row.slide}.ome.zarr"))
    panel = job.study.panel_of(row)
    level = next(k for k, array in enumerate(stored.levels) if _small(array) or k == len(stored.levels) - 1)
    shown = [index for index, name in enumerate(stored.channels) if _is_shown(panel, name)]
    planes = np.asarray(stored.levels[level][:])[shown]
    cells = _places_and_calls(job, row)
    return SlidePicture(
        slide=row.slide,
        rgb=composite(planes, [stored.colours[index] for index in shown]),
        um_per_px=stored.pixel_size_um[1] * stored.downsamples[level],
        regions=slide_regions(job.study, row.slide),
        positives=_positives(job, row, cells),
        panel=row.panel,
        tumour_um=slide_tumour(job.study, row.slide),
        bands_um=(job.study.settings.regions.band_um, job.study.settings.regions.bands_to_um),
        histograms=histograms(job, row.slide),
    )


def _small(array: object) -> bool:
    return max(array.shape[1:]) <= THUMBNAIL_SIDE


def _is_shown(panel: object, channel: str) -> bool:
    return next(line.role for line in panel.measured if line.marker == channel) != "autofluorescence"


def _places_and_calls(job: Job, row: SlideRow) -> pd.DataFrame:
    """The few columns of the cells that a picture needs."""
    path = job.store.path(f"cells/{row.slide}.parquet")
    wanted = {"x_um", "y_um", "tissue_class"}
    return store.read_cells(
        path,
        columns=[
            n for n in store.cell_columns(path) if n in wanted or n.endswith("_positive") or n.startswith("phenotype_")
        ],
    )


def _positives(job: Job, row: SlideRow, cells: pd.DataFrame) -> dict[str, np.ndarray]:
    """Positions of the analysed positive cells of every population."""
    columns = populations([line.marker for line in job.study.panel_of(row).markers], job.study.settings.phenotypes)
    analysed = cells["tissue_class"].isin(("tumour", "stroma", "other")).to_numpy()
    position = cells[["x_um", "y_um"]].to_numpy()
    return {
        name: _thinned(position[analysed & cells[column].fillna(False).to_numpy(dtype=bool)])
        for name, column in columns.items()
        if column in cells
    }


def _thinned(points: np.ndarray) -> np.ndarray:
    return points[:: -(-len(points) // MOST_POINTS) or 1].copy()
