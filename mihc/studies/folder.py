"""A study folder as one record, and the reading of its files in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mihc.errors import Problem
from mihc.panel import Panel, check_panels
from mihc.reviews.final import read_final_reviews, with_reviewed
from mihc.reviews.states import SlideReview
from mihc.studies.clinical import clinical_name, read_clinical, typed_clinical
from mihc.studies.copies import repeated_tables
from mihc.studies.expressions import (
    all_markers,
    level_problems,
    markers_of,
    panels_that_score,
    panels_that_show,
    population_problems,
)
from mihc.studies.given_thresholds import read_thresholds
from mihc.studies.joining import check_join, near_pairs
from mihc.studies.near_names import near_names
from mihc.studies.patients import MEASURES
from mihc.studies.settings import Settings
from mihc.studies.slide_list import SlideRow, read_slides
from mihc.studies.toml import read_settings

FILES = ("clinical.csv", "clinical.xlsx", "panel.csv", "slides.csv", "study.toml", "thresholds.csv")


@dataclass(frozen=True)
class Study:
    """A study folder that has been read; nothing of a slide's pixels is in it."""

    folder: Path
    settings: Settings
    panels: dict[str, Panel]  # by name; "" where panel.csv has no panel column
    slides: tuple[SlideRow, ...]
    clinical: pd.DataFrame | None  # patient and the columns that study.toml names, all text
    thresholds: pd.DataFrame  # slide ("*": every slide), marker, value, moderate, strong (counts), who, when, reason
    reviews: Mapping[str, SlideReview] = field(default_factory=dict)  # by slide, those that count; their thresholds
    # stand in `thresholds`

    @property
    def results(self) -> Path:
        """Where `mihc run` writes; it may be deleted at any time."""
        return self.folder / "results"

    def files(self) -> list[Path]:
        """The text files and workbooks that say what the study is, those that exist; a slide's own table is none."""
        return [path for path in (self.folder / name for name in FILES) if path.is_file()]

    def panel_of(self, row: SlideRow) -> Panel:
        """Return the panel that a slide was stained with."""
        return self.panels[row.panel]

    def populations(self) -> dict[str, frozenset[str]]:
        """Every population, markers first, with the names of the panels that can show it."""
        shown = {
            row.marker: frozenset(name for name, panel in self.panels.items() if row.marker in markers_of(panel))
            for panel in self.panels.values()
            for row in panel.markers
        }
        for name, expression in self.settings.phenotypes.items():
            shown[name] = panels_that_show(expression, self.panels, self.settings.phenotypes)
        return shown

    def pdl1_panels(self) -> frozenset[str]:
        """Names of the panels that have every marker of [pdl1], so that their slides can be scored."""
        pdl1, phenotypes = self.settings.pdl1, self.settings.phenotypes
        return frozenset() if pdl1 is None else panels_that_score(pdl1, self.panels, phenotypes)

    def impossible_pairs(self, panel: Panel) -> list[str]:
        """The pairs of [pairs] whose markers a panel has."""
        phenotypes = self.settings.phenotypes
        return [p for p in self.settings.pairs.impossible if panel.name in panels_that_show(p, self.panels, phenotypes)]

    def clinical_columns(self) -> pd.DataFrame | None:
        """Type the clinical columns: times float, events 0/1, responses and groups text; None without clinical.csv."""
        return None if self.clinical is None else typed_clinical(self.clinical, self.settings)


def gather(folder: Path) -> tuple[Study | None, list[Problem]]:
    """Read every text file of a study folder and list every problem, errors and warnings.

    The study is None when a file that everything hangs on (study.toml, panel.csv, slides.csv) cannot be used; with
    errors among the problems it is incomplete, and good for looking at only.
    """
    if not folder.is_dir():
        return None, [Problem(str(folder), "there is no such folder", "Name the folder that holds study.toml.")]
    settings, problems = read_settings(folder / "study.toml")
    panels, panel_problems = check_panels(folder / "panel.csv")
    slides, slide_problems = read_slides(folder, tuple(panels))
    problems += panel_problems + slide_problems + repeated_tables(slides)
    if settings is None:
        return None, problems
    clinical, clinical_problems = read_clinical(folder, settings)
    thresholds, threshold_problems = read_thresholds(folder, {row.slide for row in slides}, all_markers(panels))
    reviews, review_problems = read_final_reviews(folder, [row.slide for row in slides])
    markers = {row.slide: markers_of(panels[row.panel]) for row in slides if row.panel in panels}
    thresholds, reviewed_problems = with_reviewed(thresholds, reviews, markers)
    problems += clinical_problems + review_problems + ([] if panel_problems else threshold_problems + reviewed_problems)
    if not panel_problems:  # else a marker may be missing for another reason than the one that would be named
        found = near_names(settings, panels) + population_problems(settings, panels)
        found += _cut_problems(settings, all_markers(panels))
        problems += found or level_problems(settings, panels, slides, thresholds)
    problems += _correction_problems(settings, panels)
    problems += _patient_problems(slides, clinical, settings, clinical_name(folder))
    problems += _annotation_problems(slides, settings) + _control_problems(slides) + _nothing_asked(settings)
    if not panels or not slides:
        return None, problems
    return Study(folder, settings, panels, slides, clinical, thresholds, reviews), problems


def _patient_problems(
    slides: Collection[SlideRow], clinical: pd.DataFrame | None, settings: Settings, table: str
) -> list[Problem]:
    patients = {row.patient for row in slides if row.counts}
    problems = [
        Problem("slides.csv, column patient", f"{one!r} and {other!r} differ only by {kind}", fix, "warning")
        for one, other, kind in near_pairs(patients)
        for fix in ("They count as two patients; if it is one, write the id alike.",)
    ]
    if clinical is None:
        return problems
    return problems + check_join(patients, clinical["patient"], min_match=settings.clinical.min_match, table=table)


def _correction_problems(settings: Settings, panels: Mapping[str, Panel]) -> list[Problem]:
    """Corrections of the means that cannot be, or that mislead alone."""
    place, measure = 'study.toml, [measure] {}_correction = "on"', settings.measure
    if measure.autofluorescence_correction == "off":
        what = "leaves autofluorescence to stand out among the evened cells, which then looks like positives"
        fix = 'Write autofluorescence_correction = "on" too, or look at every threshold.'
        alone = measure.background_correction == "on"
        return [Problem(place.format("background"), what, fix, "warning")] if alone else []
    without = [name for name, panel in panels.items() if all(row.role != "autofluorescence" for row in panel.rows)]
    return [
        Problem(
            place.format("autofluorescence"),
            (f"panel {name!r}" if name else "panel.csv") + " has no channel of autofluorescence",
            'Give that channel the role autofluorescence in panel.csv, or write "off".',
            "error" if len(without) == len(panels) else "warning",
        )
        for name in without
    ]


def _nothing_asked(settings: Settings) -> list[Problem]:
    """A study that names no outcome: mihc measures it, and can answer no question about patients."""
    if settings.outcomes or settings.responses:
        return []
    asked = "only groups are compared" if settings.groups else "nothing is compared between patients"
    what = f"names no outcome and no response: cells are counted, and {asked}"
    fix = 'Write for example, under [outcomes.PFS]: time = "pfs_months" and event = "pfs_event"; see docs/outcomes.md.'
    return [Problem("study.toml", what, fix, "warning")]


def _control_problems(slides: Collection[SlideRow]) -> list[Problem]:
    """Controls that are beside no slide, so that no threshold is held against them."""
    stained = {(row.panel, row.batch) for row in slides if not row.control}
    return [
        Problem(
            f"slides.csv, slide {row.slide}",
            f"is a {row.control} control, but no slide of its panel has its batch, {row.batch or 'none'}",
            "Write the batch of the slides that were stained with it.",
            "warning",
        )
        for row in slides
        if row.control and (row.panel, row.batch) not in stained
    ]


def _annotation_problems(slides: Collection[SlideRow], settings: Settings) -> list[Problem]:
    """Slides without the annotations that they need, and files that annotate another slide."""
    if settings.regions.source == "auto":
        return []
    problems = _foreign_annotations(slides)
    if settings.regions.source != "annotations":
        return problems
    fix = 'Put the file into annotations/, or write source = "both" under [regions].'
    return problems + [
        Problem(
            f"slides.csv, slide {row.slide}", "has no annotations, but study.toml takes regions from them only", fix
        )
        for row in slides
        if row.annotations is None and row.counts and row.cells is None
    ]


def _foreign_annotations(slides: Collection[SlideRow]) -> list[Problem]:
    """Files named after another slide, and one file for two pictures: outlines are of one picture's pixels."""
    ids = {row.slide.casefold(): row.slide for row in slides}
    problems, first = [], {}
    for row in slides:
        if row.annotations is None:
            continue
        place = f"slides.csv, slide {row.slide}, column annotations"
        named = ids.get(row.annotations.stem.casefold(), row.slide)
        other = first.setdefault(row.annotations.resolve(), row)
        if named != row.slide:
            what = f"{row.annotations.name} is named after slide {named}"
            problems.append(Problem(place, what, "Name this slide's own file, or give the file another name."))
        elif (other.file, other.scene) != (row.file, row.scene):
            what = f"{row.annotations.name} is the file of slide {other.slide} too, another picture"
            problems.append(Problem(place, what, "Export the annotations of each picture into a file of its own."))
    return problems


def _cut_problems(settings: Settings, markers: list[str]) -> list[Problem]:
    """Cut-offs of columns that patients.csv cannot have; a phenotype has no H-score."""
    problems = []
    for name in settings.splits.given:
        population, _, rest = name.partition("|")
        tissue_class, _, measure = rest.partition("|")
        if (
            population not in (markers if measure == MEASURES[2] else [*markers, *settings.phenotypes])
            or tissue_class not in ("tumour", "stroma", "other", "all")
            or measure not in MEASURES
        ):
            named = ", ".join(MEASURES[:-1]) + f" or {MEASURES[-1]}"
            fix = f'Write "<population>|<tumour, stroma, other or all>|<{named}>" = number.'
            problems.append(Problem("study.toml, [splits] given", f"{name!r} is no column of patients.csv", fix))
    return problems
