"""A study folder as one record, and the reading of its files in order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mihc.errors import PanelError, Problem
from mihc.panel import Panel, check_panels
from mihc.studies.clinical import read_clinical, typed_clinical
from mihc.studies.copies import repeated_tables
from mihc.studies.given_thresholds import read_thresholds
from mihc.studies.joining import check_join, near_pairs
from mihc.studies.pdl1 import pdl1_expressions
from mihc.studies.settings import Pdl1, Settings
from mihc.studies.slide_list import SlideRow, read_slides
from mihc.studies.tables import CONTROL
from mihc.studies.toml import read_settings


@dataclass(frozen=True)
class Study:
    """A study folder that has been read; nothing of a slide's pixels is in it."""

    folder: Path
    settings: Settings
    panels: dict[str, Panel]  # by name; "" where panel.csv has no panel column
    slides: tuple[SlideRow, ...]
    clinical: pd.DataFrame | None  # patient and the columns that study.toml names, all text
    thresholds: pd.DataFrame  # slide ("*" is every slide), marker, value (counts), who, when, reason

    @property
    def results(self) -> Path:
        """Where `mihc run` writes; it may be deleted at any time."""
        return self.folder / "results"

    def panel_of(self, row: SlideRow) -> Panel:
        """Return the panel that a slide was stained with."""
        return self.panels[row.panel]

    def populations(self) -> dict[str, frozenset[str]]:
        """Every population, markers first, with the names of the panels that can show it."""
        shown = {
            row.marker: frozenset(name for name, panel in self.panels.items() if row.marker in _markers(panel))
            for panel in self.panels.values()
            for row in panel.markers
        }
        for name, expression in self.settings.phenotypes.items():
            shown[name] = _panels_that_show(expression, self.panels)
        return shown

    def pdl1_panels(self) -> frozenset[str]:
        """Names of the panels that have every marker of [pdl1], so that their slides can be scored."""
        return frozenset() if self.settings.pdl1 is None else _panels_that_score(self.settings.pdl1, self.panels)

    def clinical_columns(self) -> pd.DataFrame | None:
        """Type the clinical columns: times float, events 0/1, responses and groups text; None without clinical.csv."""
        return None if self.clinical is None else typed_clinical(self.clinical, self.settings)


def _markers(panel: Panel) -> list[str]:
    return [row.marker for row in panel.markers]


def _all_markers(panels: dict[str, Panel]) -> list[str]:
    return list(dict.fromkeys(marker for panel in panels.values() for marker in _markers(panel)))


def _panels_that_show(expression: str, panels: dict[str, Panel]) -> frozenset[str]:
    used = _used(expression, panels)
    return frozenset(name for name, panel in panels.items() if used <= set(_markers(panel)))


def _panels_that_score(pdl1: Pdl1, panels: dict[str, Panel]) -> frozenset[str]:
    shown = [_panels_that_show(expression, panels) for expression in pdl1_expressions(pdl1).values()]
    return frozenset.intersection(*shown)


def _used(expression: str, panels: dict[str, Panel]) -> set[str]:
    from mihc.positives import parse_expression

    return set(parse_expression(expression, _all_markers(panels)).markers)


def gather(folder: Path) -> tuple[Study | None, list[Problem]]:
    """Read every text file of a study folder and list every problem, errors and warnings.

    The study is None when a file that everything hangs on (study.toml, panel.csv, slides.csv) cannot be used; with
    errors among the problems it is incomplete, and good for looking at only.
    """
    if not folder.is_dir():
        return None, [Problem(str(folder), "there is no such folder", "Name the folder that holds study.toml.")]
    settings, problems = read_settings(folder / "study.toml")
    panels, panel_problems = check_panels(folder / "panel.csv")
    panel_problems += _unreadable_names(panels)
    slides, slide_problems = read_slides(folder, tuple(panels))
    problems += panel_problems + slide_problems + repeated_tables(slides)
    if settings is None:
        return None, problems
    clinical, clinical_problems = read_clinical(folder, settings)
    thresholds, threshold_problems = read_thresholds(folder, {row.slide for row in slides}, _all_markers(panels))
    problems += clinical_problems + ([] if panel_problems else threshold_problems)
    if not panel_problems:  # else a marker may be missing for another reason than the one that would be named
        problems += _population_problems(settings, panels)
    problems += _patient_problems(slides, clinical, settings)
    problems += _annotation_problems(slides, settings) + _control_problems(slides)
    if not panels or not slides:
        return None, problems
    return Study(folder, settings, panels, slides, clinical, thresholds), problems


def _unreadable_names(panels: dict[str, Panel]) -> list[Problem]:
    texts = [text for name, panel in panels.items() for row in panel.rows for text in (name, row.channel, row.marker)]
    return [
        Problem("panel.csv", f"{text!r} holds a control character", "Type the name anew.")
        for text in dict.fromkeys(texts)
        if CONTROL.search(text)
    ]


def _patient_problems(slides: Collection[SlideRow], clinical: pd.DataFrame | None, settings: Settings) -> list[Problem]:
    patients = {row.patient for row in slides if row.counts}
    problems = [
        Problem("slides.csv, column patient", f"{one!r} and {other!r} differ only by {kind}", fix, "warning")
        for one, other, kind in near_pairs(patients)
        for fix in ("They count as two patients; if it is one, write the id alike.",)
    ]
    if clinical is None:
        return problems
    return problems + check_join(patients, clinical["patient"], min_match=settings.clinical.min_match)


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
    if settings.regions.source != "annotations":
        return []
    fix = 'Put the file into annotations/, or write source = "both" under [regions].'
    return [
        Problem(
            f"slides.csv, slide {row.slide}", "has no annotations, but study.toml takes regions from them only", fix
        )
        for row in slides
        if row.annotations is None and row.counts and row.cells is None
    ]


def _population_problems(settings: Settings, panels: dict[str, Panel]) -> list[Problem]:
    """Phenotypes, [pdl1] and cut-offs against the panels' markers."""
    markers = _all_markers(panels)
    problems = []
    for name, text in settings.phenotypes.items():
        place = f"study.toml, [phenotypes] {name}"
        if name.casefold() in {marker.casefold() for marker in markers}:
            problems.append(Problem(place, f"{name!r} is already the name of a marker", "Choose another name."))
        problems += _expression_problems(text, place, panels)
    if settings.pdl1 is not None:
        problems += _pdl1_problems(settings.pdl1, panels)
    return problems + _cut_problems(settings, [*markers, *settings.phenotypes])


def _expression_problems(text: str, place: str, panels: dict[str, Panel]) -> list[Problem]:
    try:
        shown = _panels_that_show(text, panels)
    except PanelError as error:
        return [Problem(place, error.what, error.fix)]
    if shown:
        return []
    return [Problem(place, f"no single panel has all markers of {text!r}", "Cells are never joined between slides.")]


def _pdl1_problems(pdl1: Pdl1, panels: dict[str, Panel]) -> list[Problem]:
    markers, problems = _all_markers(panels), []
    if pdl1.marker not in markers:
        what = f"marker {pdl1.marker!r} is not in panel.csv; it has {', '.join(markers)}"
        problems.append(Problem("study.toml, [pdl1] marker", what, "Write one of these names."))
    for key in ("tumour", "immune"):
        problems += _expression_problems(getattr(pdl1, key), f"study.toml, [pdl1] {key}", panels)
    return problems or _score_problems(pdl1, panels)


def _score_problems(pdl1: Pdl1, panels: dict[str, Panel]) -> list[Problem]:
    """The marker, the tumour cells and the immune cells of [pdl1] must be seen on one slide."""
    try:
        if _panels_that_score(pdl1, panels):
            return []
        needed = set.union(*(_used(text, panels) for text in pdl1_expressions(pdl1).values()))
    except PanelError as error:  # each alone can be read, but not all together: "CD3+" as tumour and as immune
        return [Problem("study.toml, [pdl1]", error.what, error.fix)]
    lacking = "; ".join(
        f"panel {name!r} lacks {', '.join(sorted(needed - set(_markers(panel))))}" for name, panel in panels.items()
    )
    what = f"no single panel has all of {', '.join(sorted(needed))}: {lacking}"
    return [Problem("study.toml, [pdl1]", what, "Cells are never joined between slides.")]


def _cut_problems(settings: Settings, populations: list[str]) -> list[Problem]:
    problems = []
    for name in settings.splits.given:
        population, _, rest = name.partition("|")
        tissue_class, _, measure = rest.partition("|")
        if (
            population not in populations
            or tissue_class not in ("tumour", "stroma", "other", "all")
            or measure not in ("density_per_mm2", "positivity_percent")
        ):
            fix = (
                'Write "<population>|<tumour, stroma, other or all>|<density_per_mm2 or positivity_percent>" = number.'
            )
            problems.append(Problem("study.toml, [splits] given", f"{name!r} is no column of patients.csv", fix))
    return problems
