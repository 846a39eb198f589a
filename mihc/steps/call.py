"""Cells, regions and values -> positives: thresholds, calls, the slide's cells table and its counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from importlib import metadata

import numpy as np
import pandas as pd

from mihc import store
from mihc.batches import Offer, accepted
from mihc.bounds import Doubt, call_doubts
from mihc.panel import LEVEL_COLUMNS, Panel, PanelRow
from mihc.positives import Threshold, call_positives, manual_threshold, marker_values, populations
from mihc.regions import ANALYSED, OUTSIDE, Bands, count_bands, count_populations, region_codes
from mihc.results import cells_file
from mihc.stages import Job, code_hash
from mihc.steps.correct import Corrections, NearCells, found_corrections, used_columns
from mihc.steps.describe import describe, h_score_column, score_calls, with_columns
from mihc.steps.join import placed_cells, write_cells_table
from mihc.steps.propose import described
from mihc.store import Record, Transaction, hash_json
from mihc.studies.given_thresholds import typed_levels
from mihc.study import SlideRow, given_cells, pdl1_expressions

MODULES = (
    "mihc.batches",
    "mihc.bounds",
    "mihc.corrections",
    "mihc.positives",
    "mihc.thresholds",
    "mihc.gating",
    "mihc.phenotypes",
    "mihc.pairs",
    "mihc.strengths",
    "mihc.regions",
    "mihc.areas",
    "mihc.studies.cell_files",
    "mihc.studies.cell_tables",
    "mihc.studies.given_cells",
    "mihc.studies.expressions",
    "mihc.studies.given_thresholds",
    "mihc.studies.pdl1",
    "mihc.steps.call",
    "mihc.steps.correct",
    "mihc.steps.describe",
    "mihc.steps.edit",
    "mihc.steps.join",
)
WHO = {"manual": "a person", "given": "the table"}  # by verdict; every other verdict is mihc's


def part(table: str, slide: str) -> str:
    """Where a slide's part of one of the study's tables lies under results/."""
    return f".stages/positives/{slide}.{table}.csv"


@dataclass(frozen=True)
class Known:
    """What the calling of a slide starts from, beside its cells: its own thresholds, typed ones, its batch's."""

    own: Mapping[str, Threshold]  # marker -> chosen on this slide alone
    typed: Mapping[str, Mapping[str, object]]  # marker -> its row of thresholds.csv, or of the final review: value,
    # who, when, reason
    offers: Mapping[str, Offer | str]  # marker -> the batch's threshold, or why there is none
    corrections: Corrections  # as they were found with the values
    reviewed: frozenset[str] = frozenset()  # markers whose typed threshold is the final review's


def call(
    job: Job, row: SlideRow, done: Mapping[str, Record], offers: Mapping[str, Offer | str] | None = None
) -> Record:
    """Call one slide's cells: `cells/<slide>.parquet`, and its rows of regions.csv and thresholds.csv.

    Parameters
    ----------
    job, row
        The run and the slide; the pixel stages are skipped where it comes as a table of cells.
    done
        The slide's own records: "values", and "cells" and "regions" where there are pixels.
    offers
        marker -> the threshold of the slide's batch, where it may take that.
    """
    own = {one.marker: one.own for one in described(done["values"])}
    typed, reviewed = _typed(job, row), _reviewed(job, row)
    given = {line.marker for line in job.study.panel_of(row).markers if line.threshold is not None}
    open_to = {marker: offer for marker, offer in (offers or {}).items() if marker not in {*typed, *given}}
    known = Known(own, typed, open_to, found_corrections(done["values"]), reviewed)
    inputs = {name: done[name].digest for name in ("cells", "regions", "edits") if name in done}
    key = (inputs or {"cells": job.input_hash(row.cells)}) | _key(job, row, known)
    if row.cells is not None:
        return job.stage("positives", row.slide, key, lambda transaction: _call_given(job, row, known, transaction))
    regions = done["regions"]
    return job.stage(
        "positives", row.slide, key, lambda transaction: _call_measured(job, row, known, regions, transaction)
    )


def _key(job: Job, row: SlideRow, known: Known) -> dict[str, str]:
    panel, settings = job.study.panel_of(row), job.study.settings
    offers = {marker: offer if isinstance(offer, str) else asdict(offer) for marker, offer in known.offers.items()}
    return {
        "panel": hash_json([(line.marker, line.compartment, line.threshold, line.levels) for line in panel.markers]),
        "thresholds": hash_json([settings.thresholds.method, known.typed, sorted(known.reviewed)]),
        "values": hash_json({marker: asdict(own) for marker, own in known.own.items()}),
        "batch": hash_json(offers),
        "phenotypes": hash_json(_expressions(job, panel)),
        "bands": hash_json([settings.regions.band_um, settings.regions.bands_to_um]),
        "pairs": hash_json(job.study.impossible_pairs(panel)),
        "corrections": hash_json(known.corrections.as_json()),
        "pdl1": hash_json(astuple(settings.pdl1) if settings.pdl1 else None),
        "code": code_hash(*MODULES),
    }


def _call_measured(job: Job, row: SlideRow, known: Known, regions: Record, transaction: Transaction) -> None:
    areas = {(name, tissue_class): area for name, tissue_class, area in regions.notes["areas_mm2"]}
    in_bands = {(name, kind, band): area for name, kind, band, area in regions.notes["band_areas_mm2"]}

    def write(table: pd.DataFrame, thresholds: Mapping[str, Threshold]) -> None:
        write_cells_table(job, row.slide, transaction, table, _made_by(transaction.key, table, thresholds))

    _write(job, row, known, placed_cells(job, row), areas, in_bands, transaction, write)


def _call_given(job: Job, row: SlideRow, known: Known, transaction: Transaction) -> None:
    path = transaction.path(cells_file(row.slide))

    def write(table: pd.DataFrame, _: object) -> None:
        store.write_cells(path, table)

    _write(job, row, known, given_cells(job.study, row), None, {}, transaction, write)


def _made_by(key: Mapping[str, str], table: pd.DataFrame, thresholds: Mapping[str, Threshold]) -> str:
    """A hash of all that a row of the cells table hangs on beside the edits, and of how it is written.

    The thresholds are told as they were taken: of some the slide's other cells have a say.
    """
    before = {name: value for name, value in key.items() if name != "edits"}
    taken = {marker: (one.value, one.verdict, one.levels) for marker, one in thresholds.items()}
    return hash_json([before, taken, list(table), code_hash("mihc.stores"), metadata.version("pyarrow")])


def _unknown_areas(cells: pd.DataFrame) -> dict[tuple[str, str], float]:
    present = cells.loc[cells["tissue_class"].isin(ANALYSED), ["region", "tissue_class"]].drop_duplicates()
    return {(region, tissue_class): math.nan for region, tissue_class in present.itertuples(index=False)}


def _write(
    job: Job,
    row: SlideRow,
    known: Known,
    cells: pd.DataFrame,
    areas: dict[tuple[str, str], float] | None,
    areas_in_bands: dict[tuple[str, str, int], float],
    transaction: Transaction,
    write_table: Callable[[pd.DataFrame, Mapping[str, Threshold]], None],
) -> None:
    """Call the cells, which the caller holds no longer, and write what comes of it.

    `write_table` makes the cells table of the cells with their calls, while they are counted. Without a picture
    (`areas` None) no area is known.
    """
    panel = job.study.panel_of(row)
    areas = _unknown_areas(cells) if areas is None else areas
    near_cells = NearCells(job, row, cells, asked=known.corrections.asked)
    cells = with_columns(cells, used_columns(known.corrections, cells, near_cells))
    thresholds = {line.marker: _threshold(cells, line, known, job) for line in panel.markers}
    called = _calls(job, panel, cells, thresholds)
    doubts = _doubts(job, panel, cells, thresholds, called)
    names = populations([line.marker for line in panel.markers], _shown_phenotypes(job, panel))
    table = with_columns(cells, called, without=[f"{marker}_level" for marker in thresholds])
    del cells
    scored = {name: f"phenotype_{name}" for name in _scores(job, panel)}
    with ThreadPoolExecutor(1, thread_name_prefix="mihc-cells") as beside:
        written = beside.submit(write_table, with_columns(table, {}, without=scored.values()), thresholds)
        counts = _counts(table, names, areas, doubts, row)
        scored, table = score_calls(job, row, table, thresholds, scored)
        pdl1 = _counts(table, scored, areas, doubts, row)
        is_analysed = table["tissue_class"].isin(ANALYSED).to_numpy()
        describe(job, row, table, thresholds, known.corrections, near_cells, transaction)
        bands = _band_counts(job, table, names, areas_in_bands, row)
        written.result()
    told = _threshold_rows(row, thresholds, known, called, is_analysed)
    for name, rows in {"regions": counts, "bands": bands, "pdl1": pdl1, "thresholds": told}.items():
        store.write_csv(transaction.path(part(name, row.slide)), rows)
    transaction.notes |= {
        "cells": len(table),
        "analysed_cells": int(is_analysed.sum()),
        "outside_cells": int((table["tissue_class"] == OUTSIDE).sum()),
        "unclear": [marker for marker, chosen in thresholds.items() if chosen.verdict == "cannot tell"],
    }


def _counts(
    cells: pd.DataFrame, names: dict[str, str], areas: dict, doubts: dict[str, Doubt], row: SlideRow
) -> pd.DataFrame:
    counts = count_populations(cells, populations=names, area_mm2=areas, doubts=doubts)
    counts.insert(0, "slide", row.slide)
    return counts.assign(**h_score_column(cells, counts))


def _band_counts(job: Job, cells: pd.DataFrame, names: dict[str, str], areas: dict, row: SlideRow) -> pd.DataFrame:
    """Rows of bands.csv; none where no distance to a margin is known."""
    settings = job.study.settings.regions
    if "distance_to_margin_um" not in cells:
        needed = ["region", "tissue_class", *names.values()]
        cells = with_columns(cells[needed], {"distance_to_margin_um": np.full(len(cells), math.nan)})
    bands = Bands(settings.band_um, settings.bands_to_um)
    counts = count_bands(cells, populations=names, area_mm2=areas, bands=bands)
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


def _typed(job: Job, row: SlideRow) -> dict[str, dict[str, object]]:
    """Thresholds of thresholds.csv with what is said of them: the slide's own before the study's ("*")."""
    table = job.study.thresholds
    if table.empty:
        return {}
    typed: dict[str, dict[str, object]] = {}
    for scope in ("*", row.slide):
        mine = table[table["slide"] == scope].drop(columns="slide")
        typed |= {str(line["marker"]): line for line in mine.to_dict("records")}
    return typed


def _reviewed(job: Job, row: SlideRow) -> frozenset[str]:
    """The markers whose threshold a final review set."""
    review = job.study.reviews.get(row.slide)
    return frozenset(review.thresholds) if review else frozenset()


def _threshold(cells: pd.DataFrame, line: PanelRow, known: Known, job: Job) -> Threshold:
    """Take one marker's: a typed one (the final review's, else thresholds.csv's), calls given in a table of cells,
    panel.csv's, the batch's, the slide's own.
    """
    given = f"{line.marker}_positive" in cells
    measured = f"{line.marker}_{line.compartment}_mean" in cells
    if line.marker in known.typed and measured:
        return _typed_threshold(cells, line, known)
    if given:
        source = "the review" if line.marker in known.reviewed else "thresholds.csv"
        unused = f"; {source} is not used, the table has no {line.marker}_{line.compartment}_mean"
        return _not_taken("given", "calls given in the table" + (unused if line.marker in known.typed else ""))
    if line.threshold is not None:
        return manual_threshold(line.threshold, reason="from panel.csv", levels=line.levels)
    if job.study.settings.thresholds.method == "manual":
        return _not_taken("manual", "no threshold was typed")
    own, offer = known.own[line.marker], known.offers.get(line.marker)
    if offer is None:
        return own
    analysed = cells[cells["tissue_class"].isin(ANALYSED)]
    return accepted(own, offer, marker_values(analysed, line.marker, line.compartment))


def _typed_threshold(cells: pd.DataFrame, line: PanelRow, known: Known) -> Threshold:
    """What a person typed; where they called the slide negative, just above its brightest cell."""
    typed = known.typed[line.marker]
    said = f": {typed['reason']}" if typed["reason"] else ""
    reason = f"from {'a review' if line.marker in known.reviewed else 'thresholds.csv'}{said}"
    if not math.isinf(typed["value"]):
        return manual_threshold(typed["value"], reason=reason, levels=typed_levels(typed))
    values = marker_values(cells, line.marker, line.compartment)
    above = float(np.nextafter(np.nanmax(values, initial=0.0), np.inf))
    levels = (above,) * len(typed_levels(typed))
    return Threshold(above, math.nan, math.nan, "manual", "negative slide", reason, levels)


def _not_taken(method: str, reason: str) -> Threshold:
    """No number: the calls came with the table ("given"), or a person has still to type one ("manual")."""
    verdict = "given" if method == "given" else "cannot tell"
    return Threshold(math.nan, math.nan, math.nan, method, verdict, reason)


def _calls(job: Job, panel: Panel, cells: pd.DataFrame, thresholds: dict[str, Threshold]) -> pd.DataFrame:
    """Call by thresholds; where a table of cells brings its own calls, those are used."""
    given = {name: cells[f"{name}_positive"] for name, chosen in thresholds.items() if chosen.method == "given"}
    expressions = _expressions(job, panel)
    given_levels = {name: cells[f"{name}_level"] for name in given if f"{name}_level" in cells}
    brought = [name for name in expressions if f"phenotype_{name}" in cells]
    return call_positives(
        cells,
        {marker: chosen for marker, chosen in thresholds.items() if marker not in given},
        compartments={line.marker: line.compartment for line in panel.markers},
        phenotypes=expressions,
        given=given | {name: cells[f"phenotype_{name}"] for name in brought},
        given_levels=given_levels,
    )


def _doubts(
    job: Job, panel: Panel, cells: pd.DataFrame, thresholds: dict[str, Threshold], called: pd.DataFrame
) -> dict[str, Doubt]:
    """Which calls the thresholds' intervals leave open; of a phenotype that the table brought, none."""
    expressions = _expressions(job, panel)
    compartments = {line.marker: line.compartment for line in panel.markers}
    brought = [name for name in expressions if f"phenotype_{name}" in cells]
    return call_doubts(
        cells,
        thresholds,
        called,
        compartments=compartments,
        phenotypes=expressions,
        brought=brought,
        groups=region_codes(cells),
    )


def _threshold_rows(
    row: SlideRow, thresholds: dict[str, Threshold], known: Known, called: pd.DataFrame, is_analysed: np.ndarray
) -> pd.DataFrame:
    """Rows of thresholds.csv; `is_analysed` is True for the cells in tumour, stroma and other."""
    return pd.DataFrame(
        [
            {
                "slide": row.slide,
                "marker": marker,
                "value": chosen.value,
                **dict(zip(LEVEL_COLUMNS, chosen.levels or (math.nan, math.nan))),
                "low": chosen.low,
                "high": chosen.high,
                "method": chosen.method,
                "verdict": chosen.verdict,
                **_whose(chosen, known.typed.get(marker, {})),
                "reason": chosen.reason,
                "correction": _told(known.corrections, marker, chosen),
                "cells": int(is_analysed.sum()),
                "positive_cells": _positive(called[f"{marker}_positive"], is_analysed),
                **_alone(known.own.get(marker)),
            }
            for marker, chosen in thresholds.items()
        ]
    )


def _whose(chosen: Threshold, typed: Mapping[str, object]) -> dict[str, object]:
    """Who set a threshold, and when: what thresholds.csv says of those that it gave."""
    said = typed if chosen.method == "manual" and typed else {}
    return {"who": said.get("who") or WHO.get(chosen.verdict, "mihc"), "when": said.get("when", "")}


def _told(corrections: Corrections, marker: str, chosen: Threshold) -> str:
    """What the counts of a threshold are corrected for."""
    used = corrections.used.get(marker)
    return used.told if used and chosen.method != "given" else ""


def _alone(own: Threshold | None) -> dict[str, object]:
    """The slide's own result, whatever was taken in the end; nothing where the study has only typed thresholds."""
    own = None if own and own.method == "manual" else own
    numbers = {name: getattr(own, name, math.nan) for name in ("value", "low", "high")}
    return {f"own_{name}": number for name, number in numbers.items()} | {"own_verdict": own.verdict if own else ""}


def _positive(calls: pd.Series, among: np.ndarray) -> float:
    if (calls.isna().to_numpy() & among).any():
        return math.nan
    return float((calls.to_numpy(bool, na_value=False) & among).sum())
