"""What is told of one slide's calls beside its counts: pairs, co-expression, intensities, PD-L1's interval.

Its parts lie beside those of `mihc.steps.call`, which calls it, and are joined by `mihc.steps.gather`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from mihc import store
from mihc.pairs import ANALYSED, coexpression, impossible_pairs, pair_checks, parse_pair
from mihc.positives import Threshold, call_positives, parse_expression, populations
from mihc.stages import Job
from mihc.steps.correct import Corrections, NearCells, correction_checks, correction_columns, effect_rows
from mihc.store import Transaction
from mihc.strengths import h_scores, intensities
from mihc.studies.pdl1 import ENDS, POSITIVE_IMMUNE_CELLS, POSITIVE_TUMOUR_CELLS, near_tumour
from mihc.study import SlideRow, pdl1_expressions

TABLES = ("coexpression", "intensities", "pairs", "corrections")  # the files in results/ that are made here


def part(table: str, slide: str) -> str:
    """Where a slide's part of one of the study's tables lies under results/."""
    return f".stages/positives/{slide}.{table}.csv"


def with_columns(table: pd.DataFrame, columns: Mapping[str, object], *, without: Collection[str] = ()) -> pd.DataFrame:
    """The table but for its columns of these names and those `without`, then these; no column is copied.

    pandas' assign, drop, join and concat each hold every cell twice, and memory that was held is seldom given back.
    """
    kept = {name: table[name] for name in table if name not in columns and name not in without}
    return pd.DataFrame(kept | {name: columns[name] for name in columns}, index=table.index, copy=False)


def h_score_column(cells: pd.DataFrame, counts: pd.DataFrame) -> dict[str, np.ndarray]:
    """The column h_score of regions.csv."""
    return {"h_score": h_scores(cells, counts)}


def score_calls(
    job: Job, row: SlideRow, table: pd.DataFrame, thresholds: Mapping[str, Threshold], scored: dict[str, str]
) -> tuple[dict[str, str], pd.DataFrame]:
    """The populations of TPS and CPS, with immune cells near the tumour only, and by the ends of the interval."""
    pdl1 = job.study.settings.pdl1
    if pdl1 is None or not scored:
        return scored, table
    chosen = thresholds[pdl1.marker]
    wanted = {name: pdl1_expressions(pdl1)[name] for name in (POSITIVE_TUMOUR_CELLS, POSITIVE_IMMUNE_CELLS)}
    added: dict[str, pd.Series] = {}
    for end, value in zip(ENDS, (chosen.high, chosen.low)):  # fewest by the highest threshold
        if np.isfinite(value):
            called = _called(job, row, table, {**thresholds, pdl1.marker: replace(chosen, value=value)}, wanted)
            added |= {f"phenotype_{name}|{end}": called[f"phenotype_{name}"] for name in wanted}
    column = f"phenotype_{POSITIVE_IMMUNE_CELLS}"
    near = near_tumour(table, pdl1.immune_within_um)
    added = {
        name: calls.array & near if name.startswith(column) else calls
        for name, calls in {column: table[column], **added}.items()
    }
    names = scored | {name.removeprefix("phenotype_"): name for name in added}
    return names, with_columns(table, added)


def describe(
    job: Job,
    row: SlideRow,
    table: pd.DataFrame,
    thresholds: Mapping[str, Threshold],
    corrections: Corrections,
    near_cells: NearCells,
    transaction: Transaction,
) -> None:
    """Write a slide's parts of coexpression.csv, intensities.csv, pairs.csv, corrections.csv and qc.csv.

    `table` is the cells table with its calls, and `near_cells` those near its cells.
    """
    panel = job.study.panel_of(row)
    markers = [line.marker for line in panel.markers]
    names = populations(markers, [name for name in job.study.settings.phenotypes if f"phenotype_{name}" in table])
    shown = {column: _markers_of(job, markers, name) for name, column in names.items()}
    compartments = {line.marker: line.compartment for line in panel.markers}
    pairs = [parse_pair(text, markers, _phenotypes(job, table)) for text in job.study.impossible_pairs(panel)]
    without, corrected = _both_ways(job, row, table, thresholds, corrections, near_cells) if pairs else (None, None)
    found = impossible_pairs(table, pairs, uncorrected=without, corrected=corrected)
    parts = {
        "coexpression": coexpression(table, markers),
        "intensities": intensities(table, shown, compartments=compartments),
        "pairs": found,
    }
    for one in parts.values():
        one.insert(0, "slide", row.slide)
    needed = correction_columns(panel)
    chosen = table["tissue_class"].isin(ANALYSED).to_numpy()
    analysed = table.loc[chosen, [name for name in table if name in needed] if corrections.shown else []]
    near = near_cells.of(chosen) if corrections.shown else None
    parts["corrections"] = effect_rows(job, row, analysed, thresholds, corrections, near)
    for name, one in parts.items():
        store.write_csv(transaction.path(part(name, row.slide)), one)
    checks = pair_checks(row.slide, found)
    for check in correction_checks(row.slide, corrections):
        checks.loc[len(checks)] = check
    store.write_csv(transaction.path(part("qc", row.slide)), checks)


def _phenotypes(job: Job, table: pd.DataFrame) -> dict[str, str]:
    """The phenotypes that the slide can show."""
    return {name: text for name, text in job.study.settings.phenotypes.items() if f"phenotype_{name}" in table}


def _markers_of(job: Job, markers: list[str], population: str) -> tuple[str, ...]:
    phenotypes = job.study.settings.phenotypes
    if population not in phenotypes:
        return (population,)
    return parse_expression(phenotypes[population], markers, name=population, phenotypes=phenotypes).markers


def _called(
    job: Job,
    row: SlideRow,
    table: pd.DataFrame,
    thresholds: Mapping[str, Threshold],
    expressions: Mapping[str, str],
) -> pd.DataFrame:
    """Call the cells again, by other thresholds or other values; what a table of cells brought stays."""
    given = {name: table[f"{name}_positive"] for name, chosen in thresholds.items() if chosen.method == "given"}
    wanted = {**_phenotypes(job, table), **expressions}
    return call_positives(
        table,
        {marker: chosen for marker, chosen in thresholds.items() if marker not in given},
        compartments={line.marker: line.compartment for line in job.study.panel_of(row).markers},
        phenotypes=wanted,
        given=given,
        given_levels={name: table[f"{name}_level"] for name in given if f"{name}_level" in table},
    )


def _both_ways(
    job: Job,
    row: SlideRow,
    table: pd.DataFrame,
    thresholds: Mapping[str, Threshold],
    corrections: Corrections,
    near_cells: NearCells,
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The calls without and with the correction for spillover, by the thresholds in use; None where not measured."""
    if "spillover" not in corrections.shown:
        return None, None
    used = [f"{marker}_corrected" for marker in corrections.used]
    ways = [
        with_columns(table, corrections.columns(table, way, near_cells), without=used)
        for way in corrections.both_ways("spillover")
    ]
    calls = [_called(job, row, one, thresholds, {}).assign(tissue_class=table["tissue_class"]) for one in ways]
    return calls[0], calls[1]
