"""The study folder in, every problem listed, the study table out.

    read_study(folder)   the folder as a frozen record, or every error at once
    check_study(folder)  every problem, warnings too, before any pixel is read
    init_study(folder)   the files of a study, written from a folder of slides
    read_sheet, write_sheet(folder, ...)   its tables as texts that people edit; so _classes and _phenotypes
    study_table(...)     regions.csv pooled to one row per patient: patients.csv

The parts are in `mihc.studies`.
"""

from __future__ import annotations

from pathlib import Path

from mihc.errors import Problem, StudyProblems
from mihc.studies.cell_tables import is_of_one_slide, read_cell_table
from mihc.studies.check import slide_problems
from mihc.studies.copies import duplicate, same_scene
from mihc.studies.folder import Study, gather
from mihc.studies.given_cells import given_cells, given_values
from mihc.studies.patients import pdl1_table, study_notes, study_table
from mihc.studies.pdl1 import EVALUABLE_TUMOUR_CELLS, Pdl1Scores, pdl1_expressions, pdl1_scores
from mihc.studies.settings import Outcome, Pdl1, Response, Settings
from mihc.studies.sheets import (
    SHEETS,
    Sheet,
    read_classes,
    read_phenotypes,
    read_sheet,
    write_classes,
    write_phenotypes,
    write_sheet,
)
from mihc.studies.slide_list import SlideRow
from mihc.studies.start import InitReport, init_study
from mihc.studies.strokes import classifier_file, stroke_files
from mihc.studies.threshold_history import read_history, remember

__all__ = [
    "EVALUABLE_TUMOUR_CELLS",
    "SHEETS",
    "InitReport",
    "Outcome",
    "Pdl1",
    "Pdl1Scores",
    "Response",
    "Settings",
    "Sheet",
    "SlideRow",
    "Study",
    "check_study",
    "classifier_file",
    "duplicate",
    "given_cells",
    "given_values",
    "init_study",
    "is_of_one_slide",
    "pdl1_expressions",
    "pdl1_scores",
    "pdl1_table",
    "read_cell_table",
    "read_classes",
    "read_history",
    "read_phenotypes",
    "read_sheet",
    "read_study",
    "remember",
    "same_scene",
    "stroke_files",
    "study_notes",
    "study_table",
    "write_classes",
    "write_phenotypes",
    "write_sheet",
]


def read_study(folder: str | Path) -> Study:
    """Read a study folder: study.toml, panel.csv, slides.csv, clinical.csv and thresholds.csv; no slide is opened.

    Parameters
    ----------
    folder
        The folder that holds study.toml.

    Returns
    -------
    Study
        Paths in it are absolute. Slides without a clinical row, and the reverse, are no error; see `check_study`.

    Raises
    ------
    StudyProblems
        With every error of the folder at once, each with its place and its remedy.
    """
    study, problems = gather(Path(folder).resolve())
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors or study is None:
        raise StudyProblems(errors)
    return study


def check_study(folder: str | Path, *, open_slides: bool = True) -> list[Problem]:
    """List every problem of a study folder, errors first; an empty list means that it can be run.

    Parameters
    ----------
    folder
        The folder that holds study.toml.
    open_slides
        Also open every slide (its description, none of its pixels) to compare it with the panel, its annotations
        and the other slides.

    Returns
    -------
    list of Problem
        Of severity "error", which stop a run, and "warning", which are shown and reported.
    """
    study, problems = gather(Path(folder).resolve())
    if study is not None:
        problems += slide_problems(study, open_slides=open_slides)
    return sorted(problems, key=lambda problem: problem.severity != "error")
