"""Tables of cells beside the rest of the study: their thresholds, and which of them repeat another slide's cells."""

from __future__ import annotations

import pandas as pd

from mihc.errors import Problem, StudyProblems
from mihc.studies.cell_tables import read_cell_table
from mihc.studies.folder import Study
from mihc.studies.given_thresholds import EVERY_SLIDE, FILE
from mihc.studies.slide_list import SlideRow


def given_cells(study: Study, row: SlideRow) -> pd.DataFrame:
    """Read a slide's table of cells as `read_cell_table` does, and check the slide's thresholds against it.

    Raises
    ------
    StudyProblems
        When the table cannot be used, or thresholds.csv has a threshold for this very slide and the table no means.
    """
    panel = study.panel_of(row)
    cells = read_cell_table(row.cells, panel, slide=row.slide, phenotypes=study.settings.phenotypes)
    own = study.thresholds.loc[study.thresholds["slide"] == row.slide, "marker"].tolist()
    needed = {line.marker: f"{line.marker}_{line.compartment}_mean" for line in panel.markers if line.marker in own}
    problems = [
        Problem(
            f"{FILE}, slide {row.slide}",
            f"a threshold of {marker} is given, but {row.cells.name} has no {mean} to hold against it",
            f"Add the column {mean}, or remove the threshold: the table's own calls are then used.",
        )
        for marker, mean in needed.items()
        if mean not in cells
    ]
    if problems:
        raise StudyProblems(problems)
    return cells


def given_values(study: Study, row: SlideRow) -> pd.DataFrame:
    """Read of a slide's table what thresholds are taken from: `tissue_class` and the markers' means.

    Raises
    ------
    StudyProblems
        As `given_cells` does, with every problem of the table, when one of these columns cannot be used.
    """
    try:
        return read_cell_table(row.cells, study.panel_of(row), slide=row.slide, means_only=True)
    except StudyProblems:
        given_cells(study, row)
        raise


def markers_without_threshold(study: Study, row: SlideRow) -> list[str]:
    """Name the markers of a slide's panel for which neither panel.csv nor thresholds.csv has a threshold."""
    scopes = study.thresholds["slide"].isin([EVERY_SLIDE, row.slide])
    typed = set(study.thresholds.loc[scopes, "marker"])
    return [line.marker for line in study.panel_of(row).markers if line.threshold is None and line.marker not in typed]
