"""patients.csv: the slides of a patient pooled, sum of positives over sum of area or of cells.

A patient's value is that of all its slides as if they were one: never a mean of slides. A slide counts for a
population only if its panel can show it. Where such a slide has no value (it failed, or its threshold cannot tell),
the patient has none either (`unclear = "withhold"`), or the other slides are pooled without it ("leave_out"); both
are noted.

A value's interval pools the ends of its slides: all low ends, all high ends, as slides of one batch err together; where
they do not it is too wide. A slide without an interval (a threshold typed by hand, a negative slide) adds its value to
both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mihc.errors import CONTROL, ClinicalError, InputError
from mihc.studies.bands import band_classes, rows_by_band
from mihc.studies.class_counts import ALL, NOTHING, UNKNOWN, Counts, count_by_class, summed, with_ends, with_levels
from mihc.studies.pdl1 import (
    ENDS,
    POSITIVE_IMMUNE_CELLS,
    POSITIVE_TUMOUR_CELLS,
    TUMOUR_CELLS,
    pdl1_scores,
)

MEASURES = ("density_per_mm2", "positivity_percent", "h_score")  # the last of markers with levels only
REGION_COLUMNS = ("slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2")
NOTE_COLUMNS = ("patient", "population", "tissue_class", "measure", "slide", "note")
PDL1_COLUMNS = (
    "patient", "slide", "viable_tumour_cells", "positive_tumour_cells", "positive_immune_cells", "TPS_percent",
    "TPS_percent_low", "TPS_percent_high", "CPS", "CPS_low", "CPS_high", "evaluable", "note",
)  # fmt: skip


SCORED_IN = (
    (TUMOUR_CELLS, "tumour"),
    (POSITIVE_TUMOUR_CELLS, "tumour"),
    (POSITIVE_IMMUNE_CELLS, "tumour"),
    (POSITIVE_IMMUNE_CELLS, "stroma"),
)  # what TPS (the first two) and CPS are made of


def study_table(
    regions: pd.DataFrame,
    slides: pd.DataFrame,
    clinical: pd.DataFrame | None,
    *,
    unclear: str = "withhold",
    populations: Mapping[str, Collection[str]] | None = None,
    pdl1_counts: pd.DataFrame | None = None,
    bands: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Pool regions to patients.

    Parameters
    ----------
    regions
        regions.csv: slide, region, tissue_class, population, cells, positive_cells (NaN: unknown), area_mm2, h_score
        where there are levels, and where it is known positive_cells_low, positive_cells_high.
    slides
        slide, patient, and where they apply panel, control (not empty: never counted), failed (bool), message.
    clinical
        patient and typed columns, one row per patient; they are appended. None: nothing is appended.
    unclear
        "withhold" or "leave_out", as in study.toml.
    populations
        population -> names of the panels that can show it, in the order of the columns. None: a panel can show what
        one of its slides has rows of, and the order is alphabetical.
    pdl1_counts
        Rows like `regions` for the populations of `pdl1_expressions`: adds TPS_percent and CPS.
    bands
        Rows like `regions` with from_um and to_um: adds the columns of every band around the tumour's margin.

    Returns
    -------
    DataFrame
        `patient` (sorted), `slides` (number that were measured), `<population>|<tissue_class>|density_per_mm2` and
        `...|positivity_percent` for tumour, stroma, other where any slide has it, and all, each with its interval as
        `..._low` and `..._high` where any slide has one of the population, and `...|h_score` for populations that have
        levels on any slide; then TPS_percent and CPS; then the bands, `<population>|margin -25 to 0 um|density_per_mm2`
        and so on; then the clinical columns. A patient without a clinical row has them missing; one without a slide
        has no row.

    Raises
    ------
    ClinicalError
        When a patient has two clinical rows.
    ValueError
        When `regions` names a slide that `slides` does not.
    """
    pool = _Pool.of(regions, slides, unclear, populations, pdl1_counts)
    table = pool.table()
    if bands is not None:
        in_bands = _Pool.of(rows_by_band(bands, regions), slides, unclear, populations, None)
        values = replace(in_bands, classes=band_classes(bands)).table()
        table = pd.concat([table, values.drop(columns=["patient", "slides"])], axis=1)
    return table if clinical is None else _with_clinical(table, clinical)


def pdl1_table(
    regions: pd.DataFrame,
    slides: pd.DataFrame,
    *,
    unclear: str = "withhold",
    populations: Mapping[str, Collection[str]] | None = None,
    pdl1_counts: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Say what TPS and CPS were made of; arguments as in `study_table`.

    Returns
    -------
    DataFrame
        A row per patient, slide "" (pooled), followed by one per slide that counts for the patient: patient, slide,
        viable_tumour_cells, positive_tumour_cells (of them), positive_immune_cells, TPS_percent, CPS, and `_low` and
        `_high` of both where the marker's threshold has an interval on any slide (another adds its value to both ends);
        evaluable (bool) and why not
        (note). The pooled scores are those of patients.csv.
    """
    pool = _Pool.of(regions, slides, unclear, populations, pdl1_counts)
    rows = []
    for patient, of_patient in pool.slides.items():
        rows.append(pool.score_row(patient, "", of_patient))
        rows += [pool.score_row(patient, slide.slide, [slide]) for slide in of_patient]
    return pd.DataFrame(rows, columns=list(PDL1_COLUMNS))


def study_notes(
    regions: pd.DataFrame,
    slides: pd.DataFrame,
    *,
    unclear: str = "withhold",
    populations: Mapping[str, Collection[str]] | None = None,
    pdl1_counts: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Say why values of `study_table` are missing or pool fewer slides; arguments as there.

    Returns
    -------
    DataFrame
        patient, population, tissue_class ("" = every), measure ("" = every), slide ("" = none in particular), note.
    """
    pool = _Pool.of(regions, slides, unclear, populations, pdl1_counts)
    pool.table()
    return pd.DataFrame(sorted(set(pool.notes)), columns=list(NOTE_COLUMNS), dtype=object)


def _refuse_unreadable(table: str, rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Names with a control character; read as text, since pandas tells no names apart that differ after a zero."""
    for column in columns:
        names = [name if isinstance(name, str) else "" for name in rows[column]]
        if CONTROL.search("\n".join(names)):
            row = next(row for row, name in enumerate(names) if CONTROL.search(name))
            place, fix = f"{table}, column {column}, row {row + 1}", "Write names that can be read."
            raise InputError(f"{names[row][:60]!r} holds a control character", place=place, fix=fix)


def _with_clinical(table: pd.DataFrame, clinical: pd.DataFrame) -> pd.DataFrame:
    _refuse_unreadable("clinical", clinical, ("patient",))
    repeated = clinical["patient"][clinical["patient"].duplicated()]
    if len(repeated):
        raise ClinicalError(
            f"patient {repeated.iloc[0]!r} has several rows", place="clinical.csv", fix="Keep one row per patient."
        )
    columns = clinical.set_index("patient").reindex(table["patient"]).reset_index(drop=True)
    texts = [name for name in columns if not pd.api.types.is_numeric_dtype(columns[name])]
    columns[texts] = columns[texts].astype(object).where(columns[texts].notna(), None)
    return pd.concat([table, columns], axis=1)


@dataclass(frozen=True, order=True)
class _Slide:
    """A slide that counts for a patient."""

    patient: str
    slide: str
    panel: str
    failed: str  # the reason, "" = it was measured


@dataclass
class _Pool:
    """The counts of every slide, and what is noted while they are pooled."""

    counts: dict[tuple[str, str, str], Counts]  # (slide, population, tissue class)
    measured: set[str]  # slides that have rows
    slides: dict[str, list[_Slide]]  # of each patient, both sorted
    shown_by: dict[str, Collection[str]]
    reported: list[str]  # populations with columns
    classes: tuple[str, ...]
    unclear: str
    scored: bool
    ended: frozenset[str]  # slides whose threshold for TPS and CPS has an interval
    levelled: frozenset[str]  # populations with levels on any slide
    bounded: frozenset[str]  # populations of which a slide has an interval
    notes: list[tuple[str, ...]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        regions: pd.DataFrame,
        slides: pd.DataFrame,
        unclear: str,
        populations: Mapping[str, Collection[str]] | None,
        pdl1_counts: pd.DataFrame | None,
    ) -> _Pool:
        if unclear not in ("withhold", "leave_out"):
            raise ValueError(f"unclear {unclear!r}; needed 'withhold' or 'leave_out'")
        regions = regions if len(regions) else regions.reindex(columns=list(REGION_COLUMNS))  # every slide failed
        _refuse_unreadable("regions", regions, ("slide", "region", "population"))
        _refuse_unreadable("slides", slides, ("slide", "patient"))
        strangers = sorted(set(regions["slide"]) - set(slides["slide"]))
        if strangers:
            raise ValueError(f"regions name slides that the table of slides does not: {', '.join(strangers)}")
        of_patient = _patients_slides(slides)
        counts = count_by_class(regions)
        reported = list(populations) if populations else sorted({population for _, population, _ in counts})
        ended: frozenset[str] = frozenset()
        if pdl1_counts is not None and len(pdl1_counts):
            scored = count_by_class(pdl1_counts)
            ended = frozenset(slide for slide, name, _ in scored if name.endswith(ENDS))
            counts |= with_ends(scored)
        seen = _shown_by(counts, of_patient)
        classes = ("tumour", "stroma", "other") if "other" in set(regions["tissue_class"]) else ("tumour", "stroma")
        return cls(
            counts=counts,
            measured={slide for slide, _, _ in counts},
            slides=of_patient,
            shown_by={**seen, **(populations or {})},
            reported=reported,
            classes=(*classes, ALL),
            unclear=unclear,
            scored=pdl1_counts is not None,
            ended=ended,
            levelled=with_levels(regions),
            bounded=frozenset(
                population for (_, population, _), one in counts.items() if not math.isnan(one.positive_low)
            ),
        )

    def table(self) -> pd.DataFrame:
        rows = [self._row(patient, slides) for patient, slides in self.slides.items()]
        columns = ["patient", "slides"]
        columns += [
            f"{p}|{c}|{measure}{end}"
            for p in self.reported
            for c in self.classes
            for measure in self._measures(p)
            for end in self._ends(p, measure)
        ]
        columns += ["TPS_percent", "CPS"] if self.scored else []
        return pd.DataFrame(rows, columns=columns)

    def _row(self, patient: str, slides: list[_Slide]) -> dict[str, object]:
        row: dict[str, object] = {"patient": patient, "slides": sum(not slide.failed for slide in slides)}
        for population in self.reported:
            for tissue_class in self.classes:
                for measure in self._measures(population):
                    pooled = self._pooled(patient, slides, population, tissue_class, measure) or UNKNOWN
                    bounded = len(self._ends(population, measure)) > 1
                    ends = pooled.ends(measure) if bounded else {measure: getattr(pooled, measure)}
                    row |= {f"{population}|{tissue_class}|{name}": value for name, value in ends.items()}
        return row | (self._scores(patient, slides) if self.scored else {})

    def _measures(self, population: str) -> tuple[str, ...]:
        return MEASURES if population in self.levelled else MEASURES[:2]

    def _ends(self, population: str, measure: str) -> tuple[str, ...]:
        bounded = population in self.bounded and measure in MEASURES[:2]
        return ("", "_low", "_high") if bounded else ("",)

    def _score_counts(self, patient: str, slides: list[_Slide], end: str = "") -> dict[str, float]:
        """Pooled counts of the same slides: no slide adds to a denominator and not to its numerator."""
        counted = self._fully_counted(patient, slides) if self.unclear == "leave_out" else slides

        def positive(population: str, *classes: str) -> float:
            found = [self._pooled(patient, counted, population, name, "positivity_percent") for name in classes]
            return math.fsum(counts.positive_cells if counts else np.nan for counts in found)

        return {
            "tumour_cells": positive(TUMOUR_CELLS, "tumour"),
            "positive_tumour_cells": positive(POSITIVE_TUMOUR_CELLS + end, "tumour"),
            "positive_immune_cells": positive(POSITIVE_IMMUNE_CELLS + end, "tumour", "stroma"),
        }

    def score_row(self, patient: str, slide: str, slides: list[_Slide]) -> dict[str, object]:
        """A row of `pdl1_table`."""
        counts = self._score_counts(patient, slides)
        scores = pdl1_scores(**counts)
        evaluable = not math.isnan(scores.tps_percent)
        row = {"patient": patient, "slide": slide, "viable_tumour_cells": counts.pop("tumour_cells"), **counts}
        row |= {"TPS_percent": scores.tps_percent, "CPS": scores.cps, "evaluable": evaluable, "note": scores.note}
        for end, name in zip(ENDS, ("low", "high")):
            known = evaluable and any(one.slide in self.ended for one in slides)
            bound = pdl1_scores(**self._score_counts(patient, slides, f"|{end}")) if known else None
            row |= {f"TPS_percent_{name}": bound.tps_percent if bound else np.nan}
            row |= {f"CPS_{name}": bound.cps if bound else np.nan}
        return row

    def _fully_counted(self, patient: str, slides: list[_Slide]) -> list[_Slide]:
        """The slides that have every count of TPS and CPS, else those that have TPS's; the others are noted."""
        shown = [slide for slide in slides if slide.panel in self.shown_by.get(TUMOUR_CELLS, ())]
        for needed in (SCORED_IN, SCORED_IN[:2]):
            kept = [slide for slide in shown if self._knows(slide, needed)]
            if kept:
                note = "left out: a count that TPS and CPS need is not known"
                others = [slide.slide for slide in shown if slide not in kept and not slide.failed]
                self.notes += [(patient, "TPS and CPS", "", "", name, note) for name in others]
                return kept
        return slides

    def _knows(self, slide: _Slide, needed: Iterable[tuple[str, str]]) -> bool:
        found = [self._counts_of(slide.slide, population, name) for population, name in needed]
        return not slide.failed and not any(_why_unknown(one, "positivity_percent") for one in found)

    def _scores(self, patient: str, slides: list[_Slide]) -> dict[str, float]:
        scores = pdl1_scores(**self._score_counts(patient, slides))
        if scores.note:
            self.notes.append((patient, "TPS and CPS", "tumour", "", "", scores.note))
        return {"TPS_percent": scores.tps_percent, "CPS": scores.cps}

    def _pooled(
        self, patient: str, slides: list[_Slide], population: str, tissue_class: str, measure: str
    ) -> Counts | None:
        """Counts of the slides that count for a value; None when it is withheld or no slide can show it."""
        can_show = [slide for slide in slides if slide.panel in self.shown_by.get(population, ())]
        if not can_show:
            self.notes.append((patient, population, "", "", "", "no slide of the patient is stained for it"))
            return None
        used, missing = [], False
        for slide in can_show:
            counts = self._counts_of(slide.slide, population, tissue_class)
            reason = slide.failed or _why_unknown(counts, measure)
            if reason:
                missing = True
                said = "left out" if self.unclear == "leave_out" else "withheld"
                self.notes.append((patient, population, tissue_class, measure, slide.slide, f"{said}: {reason}"))
            else:
                used.append(counts)
        if not used or (missing and self.unclear == "withhold"):
            return None
        pooled = summed(used)
        if not (pooled.area_mm2 > 0 or pooled.cells > 0):
            self.notes.append((patient, population, tissue_class, "", "", "no such region was analysed"))
        return pooled

    def _counts_of(self, slide: str, population: str, tissue_class: str) -> Counts | None:
        """None: the slide was measured, but not for this population; no region of the class is NOTHING."""
        if slide in self.measured and (slide, population, ALL) not in self.counts:
            return None
        return self.counts.get((slide, population, tissue_class), NOTHING)


def _why_unknown(counts: Counts | None, measure: str) -> str:
    if counts is None:
        return "the slide has no value of it"
    if math.isnan(counts.positive_cells):
        return "the threshold cannot tell"
    if measure == "density_per_mm2" and math.isnan(counts.area_mm2):
        return "the area is not known"
    if measure == "h_score" and math.isnan(counts.summed_levels):
        return "no levels are typed for it"
    return ""


def _patients_slides(slides: pd.DataFrame) -> dict[str, list[_Slide]]:
    """The slides that count for a patient: controls are left out."""

    def texts(column: str) -> list[str]:
        return (
            ["" if pd.isna(text) else str(text) for text in slides[column]] if column in slides else [""] * len(slides)
        )

    failed = [pd.notna(value) and bool(value) for value in slides.get("failed", [False] * len(slides))]
    reasons = [
        f"the slide failed: {message}".removesuffix(": ") if bad else ""
        for bad, message in zip(failed, texts("message"))
    ]
    listed = zip(slides["patient"], slides["slide"], texts("panel"), reasons, texts("control"))
    kept = sorted(_Slide(*slide) for *slide, control in listed if not control)
    of_patient: dict[str, list[_Slide]] = {}
    for slide in kept:
        of_patient.setdefault(slide.patient, []).append(slide)
    return of_patient


def _shown_by(counts: Iterable[tuple[str, str, str]], slides: Mapping[str, list[_Slide]]) -> dict[str, Collection[str]]:
    panel_of = {slide.slide: slide.panel for listed in slides.values() for slide in listed}
    shown: dict[str, set[str]] = defaultdict(set)
    for slide, population, _ in counts:
        if slide in panel_of:
            shown[population].add(panel_of[slide])
    return dict(shown)
