"""The chapter of outcomes: responses with exact intervals, survival of everybody, follow-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.figures import SurvivalGroup, safe_name, survival_plot
from mihc.reports.numbers import Numbers, text
from mihc.study import Outcome, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Endpoint:
    """An endpoint's overall curve and the rows of statistics.csv that describe it."""

    name: str
    unit: str
    figure: str  # key of the figure in the report, "" without follow-up
    rows: tuple[int, ...]


def follow_up(patients: pd.DataFrame, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Times and 0/1 events of an endpoint, one entry per patient; NaN where not known or not recorded."""
    if outcome.time not in patients or outcome.event not in patients:
        nothing = np.full(len(patients), np.nan)
        return nothing, nothing
    time = pd.to_numeric(patients[outcome.time], errors="coerce").to_numpy(dtype=float)
    event = pd.to_numeric(patients[outcome.event], errors="coerce").to_numpy(dtype=float)
    known = np.isfinite(time) & np.isfinite(event)
    return np.where(known, time, np.nan), np.where(known, event, np.nan)


def survival_groups(patients: pd.DataFrame, outcome: Outcome, labels: dict[str, np.ndarray]) -> list[SurvivalGroup]:
    """The follow-up of each group; `labels` maps a group's name to a mask over the patients."""
    time, event = follow_up(patients, outcome)
    known = np.isfinite(time)
    return [SurvivalGroup(label, time[mask & known], event[mask & known]) for label, mask in labels.items()]


def endpoints(numbers: Numbers, study: Study, figures: dict[str, Figure]) -> list[Endpoint]:
    """Every endpoint of the study; its overall Kaplan-Meier curve is put into `figures`."""
    return [_endpoint(numbers, name, outcome, figures) for name, outcome in study.settings.outcomes.items()]


def _endpoint(numbers: Numbers, name: str, outcome: Outcome, figures: dict[str, Figure]) -> Endpoint:
    patients = numbers["patients"]
    groups = survival_groups(patients, outcome, {"all patients": np.ones(len(patients), dtype=bool)})
    key = ""
    if len(groups[0].time):
        key = safe_name("km", name)
        figures[key] = survival_plot(
            groups,
            title=f"{name}, all patients",
            x_label=f"time ({outcome.unit})",
            y_label=name,
            test="Kaplan-Meier, log-log 95 % band, ticks: censored",
        )
    return Endpoint(name, outcome.unit, key, overall_rows(numbers["statistics"], name))


def overall_rows(statistics: pd.DataFrame, endpoint: str) -> tuple[int, ...]:
    """Rows that describe the whole cohort's endpoint: medians, rates, follow-up, proportions."""
    if statistics.empty:
        return ()
    overall = (statistics["split"].map(text) == "overall") & (statistics["endpoint"].map(text) == endpoint)
    return tuple(int(index) for index in statistics.index[overall])


def responses(numbers: Numbers, study: Study) -> dict[str, tuple[int, ...]]:
    """The rows of each response's proportion."""
    return {name: overall_rows(numbers["statistics"], name) for name in study.settings.responses}
