"""Which tests are run on which columns of the study table, in which families.

    each marker, continuous                           ->  Cox per SD of log1p, alone and beside the covariates
    patients by outcome, response or clinical column  ->  each marker: rank-sum, or Kruskal-Wallis for three and more;
                                                          AUC weighted for censoring beside a landmark; Spearman
    each marker's groups (median, tertiles, given)    ->  Kaplan-Meier, log-rank, Cox; best cut: corrected p only
    clinical and mutation groups                      ->  response (Fisher), Kaplan-Meier, log-rank, Cox
    everybody                                         ->  survival, follow-up, response with its exact interval
    responders, where their first response has a time ->  how long it lasted (Kaplan-Meier)
    PD-L1 scores in categories (1, 10)                ->  response (Fisher)

Groups made of an endpoint are compared in their markers, never in that or any other survival. A family is one analysis
with one split over all populations, tissue classes, measures and endpoints; p is adjusted within it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mihc.associations.columns import (
    Endpoint,
    Marker,
    covariate_columns,
    endpoint,
    endpoints,
    label_text,
    marker_columns,
)
from mihc.associations.dropout import dropout_table
from mihc.associations.families import family_table
from mihc.associations.groupings import (
    Grouping,
    column_grouping,
    marker_grouping,
    marker_groups,
    outcome_groups,
    patient_groupings,
    response_grouping,
)
from mihc.associations.influence import asked_tests, influence_table
from mihc.associations.kept import CLINICAL, Kept, fingerprints, kept_rows
from mihc.associations.marker_rows import marker_survival, markers_between_groups
from mihc.associations.multiverse import multiverse
from mihc.associations.recount import SlideCells, movable_markers, recount, settings_of
from mihc.associations.response_course import category_rows, duration_of_response, duration_rows
from mihc.associations.response_rows import response_rows
from mihc.associations.robustness import robustness_summary
from mihc.associations.rows import COLUMNS, table
from mihc.associations.survival_rows import Cohort, group_survival_rows, overall_rows
from mihc.associations.time_splits import split_table

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

__all__ = [
    "CLINICAL",
    "COLUMNS",
    "Endpoint",
    "Grouping",
    "Kept",
    "Marker",
    "SlideCells",
    "asked_tests",
    "associate",
    "column_grouping",
    "covariate_columns",
    "dropout_table",
    "duration_of_response",
    "endpoint",
    "endpoints",
    "family_table",
    "fingerprints",
    "influence_table",
    "kept_rows",
    "label_text",
    "marker_columns",
    "marker_grouping",
    "marker_groups",
    "movable_markers",
    "multiverse",
    "outcome_groups",
    "patient_groupings",
    "recount",
    "response_grouping",
    "robustness_summary",
    "settings_of",
    "split_table",
]


def associate(patients: pd.DataFrame, settings: Settings, *, kept: Kept | None = None) -> pd.DataFrame:
    """Every association that the study asks for.

    Parameters
    ----------
    patients : the study table, one row per patient: `<population>|<tissue_class>|<measure>` columns (NaN = not
        measured) and the clinical columns that `settings` names (times and events as floats, groups as text, "" or
        NaN = missing).
    settings : study.toml; read are outcomes, responses, groups, cox_covariates and splits.
    kept : what stands of an earlier table; None: everything is computed.

    Returns
    -------
    DataFrame : the columns of statistics.csv (`COLUMNS`), one row per estimate; without outcomes, responses and groups
        no row. An estimate that cannot be made is NaN with the reason in `note`.

    Raises
    ------
    ClinicalError : a column that study.toml names is not among the patients, or a split is unknown.
    """
    cohort, kept = Cohort(patients, settings), kept or Kept()
    markers = marker_columns(patients)
    groupings = patient_groupings(patients, settings)
    columns = [column_grouping(patients, name) for name in settings.groups]
    rows = []
    for found in cohort.endpoints:
        rows += overall_rows(cohort, found)
        for marker in markers:
            stands = kept.survival(found.name, marker)
            rows += marker_survival(cohort, found, marker, kept) if stands is None else stands
        for grouping in columns:
            rows += group_survival_rows(cohort, found, grouping, about=f"Survival by {grouping.split[6:]}")
    for marker in markers:
        stands = kept.between_groups(marker)
        rows += markers_between_groups(cohort, marker, groupings) if stands is None else stands
    for name in settings.responses:
        response = response_grouping(patients, settings, name)
        rows += response_rows(response, columns) + duration_rows(cohort, response)
        rows += category_rows(patients, response)
    return table(rows)
