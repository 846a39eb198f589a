"""The course of a response: how long it lasted; and whether it goes with the categories of a PD-L1 score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mihc import statistics
from mihc.associations.columns import SCORES, Endpoint, clinical, endpoint, values_of
from mihc.associations.groupings import Grouping
from mihc.associations.response_rows import rows_of_groups
from mihc.associations.rows import Row, row
from mihc.associations.survival_rows import Cohort

PDL1_CUTS = (1, 10)  # scores from which on PD-L1 is called positive in trials


def duration_of_response(cohort: Cohort, response: Grouping) -> Endpoint | None:
    """Time from the first response to the event of the endpoint that ends it, of the responders.

    None where study.toml gives no start. NaN for others, for a responder without a start or without follow-up; a
    response that had not ended at the last contact is censored there.
    """
    written = cohort.settings.responses[response.endpoint]
    if not written.start:
        return None
    until = endpoint(cohort.patients, cohort.settings, written.until)
    start = clinical(cohort.patients, written.start).astype(float).to_numpy()
    time = np.where(response.members("responder"), until.time - start, np.nan)
    known = ~np.isnan(time) & ~np.isnan(until.event)
    columns = response.columns | until.columns | {written.start}
    return Endpoint(response.endpoint, np.where(known, time, np.nan), np.where(known, until.event, np.nan), until.unit,
                    columns)  # fmt: skip


def duration_rows(cohort: Cohort, response: Grouping) -> list[Row]:
    """Median duration of response, and the share still responding at the landmarks, both from the first response."""
    found = duration_of_response(cohort, response)
    if found is None:
        return []
    curve = statistics.kaplan_meier(found.time, found.event)
    unknown = int(response.members("responder").sum()) - curve.n
    note = f"{unknown} responders without a start or follow-up left out" if unknown else ""
    common = {
        "family": "Duration of response", "endpoint": found.name, "split": "overall", "term": "duration of response",
        "notes": [note],
    }  # fmt: skip
    return [
        row("km", curve.median(), kind="median", **common),
        *(row("km", curve.at(time), kind="survival", time=time, **common) for time in cohort.landmarks),
    ]


def category_rows(patients: pd.DataFrame, response: Grouping) -> list[Row]:
    """Response by TPS and CPS of at least 1 and at least 10, where the study scores PD-L1.

    The cuts are those of trials and not of these data; a score that is not evaluable is in no category.
    """
    rows = []
    for column in (name for name in SCORES if name in patients):
        score = column.removesuffix("_percent")
        for cut in PDL1_CUTS:
            grouping = _category(values_of(patients, column), patients.index, score, cut, column)
            rows += rows_of_groups(response, grouping, "Response by PD-L1 category")
    return rows


def _category(values: np.ndarray, index: pd.Index, score: str, cut: int, column: str) -> Grouping:
    levels = (f"{score} of {cut} and more", f"{score} under {cut}")
    labels = np.where(np.isnan(values), "", np.where(values >= cut, *levels)).astype(object)
    grouping = Grouping(f"group:{score}", "", pd.Series(labels, index=index, dtype=object), levels)
    unknown = int((labels == "").sum())
    note = f"not evaluable in {unknown} of {len(values)} patients" if unknown else ""
    return replace(grouping, note=note, columns=frozenset({column}))
