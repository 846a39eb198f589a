"""The chapter of calls: phenotypes, pairs that cannot be, co-expression, corrections of means, levels, PD-L1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from mihc.errors import PanelError
from mihc.pairs import cells_called
from mihc.positives import parse_expression
from mihc.reports.numbers import Numbers, counted, rounded, sentence, text
from mihc.study import EVALUABLE_TUMOUR_CELLS, Study

CLASSES = ("tumour", "stroma", "other")
VERDICTS = ("fail", "warn", "cannot tell", "ok")
MOST_SLIDES = 12  # that are shown at once; more are folded away


@dataclass(frozen=True)
class Kind:
    """A phenotype among the others, and how many cells are of it on the slides that can tell."""

    name: str
    expression: str
    depth: int
    others: tuple[str, ...]  # its parents beside the one that it stands under
    cells: float  # analysed
    percent_of_all: float
    percent_of_parent: float  # NaN without a parent


@dataclass(frozen=True)
class PairOfStudy:
    """A pair that cannot exist over all slides that count."""

    name: str
    first: str
    second: str
    told: Markup
    verdicts: tuple[tuple[str, int], ...]  # how many slides have each, the worst first
    rows: tuple[int, ...]  # of pairs.csv, the worst first
    measured: bool  # whether spillover was


@dataclass(frozen=True)
class Grid:
    """How many of the cells positive for one marker are positive for another, slides pooled, in %."""

    tissue_class: str
    markers: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]  # NaN on the diagonal and where nothing is known


@dataclass(frozen=True)
class Light:
    """A marker with and without a correction of its means, slides pooled, in % of the analysed cells."""

    correction: str  # of mihc.corrections.CORRECTIONS
    marker: str
    slides: int
    uncorrected: float
    corrected: float
    slopes: tuple[float, float, float]  # of autofluorescence: of the slides the lowest, middle, highest; else NaN


@dataclass(frozen=True)
class Strength:
    """The medians of a marker over the positive cells of a population: of the slides the lowest, middle, highest."""

    population: str
    marker: str
    classes: tuple[tuple[str, tuple[float, float, float]], ...]


@dataclass(frozen=True)
class Scores:
    """The rows of pdl1.csv of one patient."""

    patient: str
    pooled: int
    slides: tuple[int, ...]


@dataclass(frozen=True)
class Calls:
    """Everything that the chapter shows."""

    kinds: tuple[Kind, ...]
    pairs: tuple[PairOfStudy, ...]
    lights: tuple[Light, ...]
    corrected_for: tuple[str, ...]  # the corrections by which calls were made
    grids: tuple[Grid, ...]
    strengths: tuple[Strength, ...]
    h_scores: tuple[int, ...]  # rows of regions.csv
    scores: tuple[Scores, ...]
    noted: bool  # whether a score has a note
    scored: tuple[Markup, ...]  # what TPS and CPS are here, in sentences

    @property
    def any(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.kinds or self.pairs or self.lights or self.grids or self.h_scores or self.scores)


def calls_chapter(numbers: Numbers, study: Study) -> Calls:
    """Gather the chapter from coexpression, intensities, pairs, corrections, pdl1 and regions."""
    corrections = _counting(numbers, "corrections")
    levelled = _with(numbers["regions"], "h_score")
    return Calls(
        kinds=tuple(_kinds(numbers, study)),
        pairs=tuple(_pairs(numbers)),
        lights=tuple(_lights(corrections)),
        corrected_for=tuple(_used(corrections)),
        grids=tuple(_grids(numbers)),
        strengths=tuple(_strengths(numbers)),
        h_scores=tuple(int(index) for index in levelled.index),
        scores=tuple(_scores(numbers["pdl1"])),
        noted=bool(len(numbers["pdl1"]) and numbers["pdl1"]["note"].map(text).any()),
        scored=tuple(_scored(study)),
    )


def _with(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table[table[column].notna()] if column in table else table.iloc[:0]


def _counting(numbers: Numbers, name: str) -> pd.DataFrame:
    """A table's rows of slides that count for a patient."""
    table = numbers[name]
    return table if table.empty else table[~table["slide"].map(text).isin(numbers.control_slides)]


def _kinds(numbers: Numbers, study: Study) -> Iterable[Kind]:
    """Phenotypes as a tree: those without a parent in the order of study.toml, each followed by its own."""
    phenotypes = study.settings.phenotypes
    markers = list(dict.fromkeys(row.marker for panel in study.panels.values() for row in panel.markers))
    parents = {name: _parents(expression, markers, phenotypes) for name, expression in phenotypes.items()}
    known = _with(numbers["regions"], "positive_cells")
    counts = known.set_index(["slide", "region", "tissue_class", "population"]) if len(known) else known

    def below(parent: str, depth: int) -> Iterable[Kind]:
        for name, found in parents.items():
            if (found[0] if found else "") == parent:
                yield Kind(name, phenotypes[name], depth, found[1:], *_shares(counts, name, parent))
                yield from below(name, depth + 1)

    return below("", 0)


def _parents(expression: str, markers: list[str], phenotypes: dict[str, str]) -> tuple[str, ...]:
    try:
        return parse_expression(expression, markers, phenotypes=phenotypes).parents
    except PanelError:  # a study that was checked has none such; a report is written all the same
        return ()


def _shares(counts: pd.DataFrame, name: str, parent: str) -> tuple[float, float, float]:
    """Cells, % of all cells, and % of the parent's cells where both are known."""
    mine = _of(counts, name)
    if mine.empty:
        return math.nan, math.nan, math.nan
    cells, all_cells = float(mine["positive_cells"].sum()), float(mine["cells"].sum())
    both = mine.join(_of(counts, parent)[["positive_cells"]], rsuffix="_parent", how="inner") if parent else mine[:0]
    whole = float(both["positive_cells_parent"].sum()) if len(both) else 0.0
    of_parent = 100 * float(both["positive_cells"].sum()) / whole if whole else math.nan
    return cells, 100 * cells / all_cells if all_cells else math.nan, of_parent


def _of(counts: pd.DataFrame, population: str) -> pd.DataFrame:
    if counts.empty or population not in counts.index.get_level_values("population"):
        return counts.iloc[:0]
    return counts.xs(population, level="population")


def _pairs(numbers: Numbers) -> Iterable[PairOfStudy]:
    table = _counting(numbers, "pairs")
    for name, rows in table.groupby("pair", sort=False) if len(table) else ():
        known = rows[rows["both_cells"].notna()]
        worst = _worst(known)
        order = sorted(rows.index, key=lambda index: (VERDICTS.index(rows.at[index, "verdict"]), -worst.get(index, -1)))
        counts = rows["verdict"].value_counts()
        verdicts = tuple((word, int(counts[word])) for word in VERDICTS if word in counts)
        measured = bool(rows["both_cells_corrected"].notna().any())
        kinds = (text(rows["first"].iloc[0]), text(rows["second"].iloc[0]))
        yield PairOfStudy(text(name), *kinds, _pooled_pair(known), verdicts, tuple(map(int, order)), measured)


def _worst(rows: pd.DataFrame) -> dict[int, float]:
    """The doubles in % of the rarer kind, by row."""
    shares = rows[["percent_of_first", "percent_of_second"]].max(axis=1).fillna(0.0)
    return {int(index): float(share) for index, share in shares.items()}


def _pooled_pair(rows: pd.DataFrame) -> Markup:
    if rows.empty:
        return Markup("No slide can tell.")
    first, second, both = (float(rows[f"{name}_cells"].sum()) for name in ("first", "second", "both"))
    rarer, cells = ("first", first) if first <= second else ("second", second)
    if not both:
        return sentence("No cell was found to be both on {n}.", {"n": counted(len(rows), "slide")})
    pieces = {
        "share": rounded(100 * both / cells, "number"),
        "rarer": cells_called(text(rows[rarer].iloc[0])),
        "both": rounded(both, "count"),
        "cells": rounded(cells, "count"),
        "chance": rounded(float(rows["chance_cells"].sum()), "count"),
        "n": counted(len(rows), "slide"),
    }
    told = "At least {share} % of the {rarer} are wrongly called ({both} of {cells}, {n} together)"
    told += "; calls independent of each other would give {chance}"
    if rows["touching_cells"].notna().all():
        pieces["touching"] = rounded(float(rows["touching_cells"].sum()), "count")
        told += ", touching neighbours at most {touching}"
    return sentence(told + ".", pieces)


def _lights(table: pd.DataFrame) -> Iterable[Light]:
    for (name, marker), rows in table.groupby(["correction", "marker"], sort=False) if len(table) else ():
        known = rows.dropna(subset=["positive_cells_uncorrected", "positive_cells_corrected"])
        total = float(known["cells"].sum())
        if total:
            plain, corrected = (
                100 * float(known[f"positive_cells_{way}"].sum()) / total for way in ("uncorrected", "corrected")
            )
            low, middle, high = known["slope"].dropna().quantile([0.0, 0.5, 1.0])
            yield Light(text(name), text(marker), len(known), plain, corrected, (low, middle, high))


def _used(table: pd.DataFrame) -> Iterable[str]:
    """The corrections by whose values calls were made."""
    return dict.fromkeys(table.loc[table["used"] == "corrected", "correction"].map(text)) if len(table) else ()


def _grids(numbers: Numbers) -> Iterable[Grid]:
    table = _counting(numbers, "coexpression")
    for tissue_class in CLASSES:
        mine = table[table["tissue_class"] == tissue_class] if len(table) else table
        mine = mine.dropna(subset=["positive_cells", "both_cells"]) if len(mine) else mine
        if mine.empty:
            continue
        sums = mine.groupby(["marker", "other"], sort=False)[["positive_cells", "both_cells"]].sum()
        markers = tuple(dict.fromkeys(mine["marker"]))
        shares = {pair: 100 * b / p if p else math.nan for pair, p, b in sums.itertuples(name=None)}
        rows = tuple(tuple(shares.get((one, other), math.nan) for other in markers) for one in markers)
        yield Grid(tissue_class, markers, rows)


def _strengths(numbers: Numbers) -> Iterable[Strength]:
    table = _with(_counting(numbers, "intensities"), "median")
    for (population, marker), rows in table.groupby(["population", "marker"], sort=False) if len(table) else ():
        found = []
        for tissue_class in CLASSES:
            medians = rows.loc[rows["tissue_class"] == tissue_class, "median"]
            if len(medians):
                found.append((tissue_class, (medians.min(), medians.median(), medians.max())))
        yield Strength(text(population), text(marker), tuple(found))


def _scores(table: pd.DataFrame) -> Iterable[Scores]:
    for patient, rows in table.groupby("patient", sort=False) if len(table) else ():
        pooled = rows.index[rows["slide"].map(text) == ""]
        yield Scores(text(patient), int(pooled[0]), tuple(int(index) for index in rows.index.difference(pooled)))


def _scored(study: Study) -> Sequence[Markup]:
    pdl1 = study.settings.pdl1
    if pdl1 is None:
        return ()
    near = "of all analysed stroma"
    if pdl1.immune_within_um is not None:
        near = f"of stroma within {pdl1.immune_within_um:g} µm of the tumour's margin"
    pieces = {"marker": pdl1.marker, "tumour": pdl1.tumour, "immune": pdl1.immune, "near": near}
    return (
        sentence("TPS = {marker}+ tumour cells / viable tumour cells × 100; CPS adds {marker}+ immune cells.", pieces),
        sentence(
            "Viable tumour cells ({tumour}) are those of tumour regions, without necrosis and all else that is "
            "excluded; immune cells ({immune}) those of tumour regions and {near}.",
            pieces,
        ),
        sentence("Fewer than {n} viable tumour cells are not evaluable.", {"n": EVALUABLE_TUMOUR_CELLS}),
    )
