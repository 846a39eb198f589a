"""What the study table's columns mean to the statistics: markers, endpoints, covariates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.errors import ClinicalError
from mihc.estimates.records import FloatArray, is_label

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

MEASURES = ("density_per_mm2", "positivity_percent", "h_score")
SCORES = ("TPS_percent", "CPS")


@dataclass(frozen=True)
class Marker:
    """One measured column of the study table."""

    column: str  # its name there: "CD20|tumour|density_per_mm2"
    population: str
    tissue_class: str  # "" for a score of the whole slide
    measure: str


@dataclass(frozen=True, eq=False)
class Endpoint:
    """Follow-up of every patient for one outcome; NaN where unknown."""

    name: str
    time: FloatArray
    event: FloatArray  # 1 = it happened
    unit: str
    columns: frozenset[str]  # the clinical columns it is made of


def marker_columns(patients: pd.DataFrame) -> list[Marker]:
    """Every measured column of the study table, in its order."""
    markers = []
    for column in map(str, patients.columns):
        parts = tuple(column.rsplit("|", 2))
        if len(parts) == 3 and parts[2] in MEASURES:
            markers.append(Marker(column, *parts))
        elif column in SCORES:
            markers.append(Marker(column, column.removesuffix("_percent"), "", ""))
    return markers


def endpoints(patients: pd.DataFrame, settings: Settings) -> list[Endpoint]:
    """The outcomes of study.toml, in its order."""
    return [endpoint(patients, settings, name) for name in settings.outcomes]


def endpoint(patients: pd.DataFrame, settings: Settings, name: str) -> Endpoint:
    """One outcome of study.toml with its patients' times and events."""
    if name not in settings.outcomes:
        raise ClinicalError(f"no outcome {name!r}; study.toml has {', '.join(settings.outcomes) or 'none'}")
    outcome = settings.outcomes[name]
    time, event = (clinical(patients, column).astype(float).to_numpy() for column in (outcome.time, outcome.event))
    return Endpoint(name, time, event, outcome.unit, frozenset({outcome.time, outcome.event}))


def clinical(patients: pd.DataFrame, column: str) -> pd.Series:
    """A clinical column of the study table, or a `ClinicalError` that names it."""
    if column not in patients.columns:
        raise ClinicalError(
            f"no column {column!r} among the patients", fix="Add it to the clinical table or take it out of study.toml."
        )
    return patients[column]


def values_of(patients: pd.DataFrame, column: str) -> FloatArray:
    """A measured column as floats, NaN where not measured."""
    return patients[column].astype(float).to_numpy()


def label_text(value: object) -> str:
    """A clinical value as a group label: text as it is, whole numbers without ".0", missing as ""."""
    if not is_label(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def sorted_levels(labels: Sequence[str]) -> list[str]:
    """Distinct labels, by value if all are numbers, else as text; "" is no level."""
    levels = {label for label in labels if label}
    try:
        return sorted(levels, key=lambda level: (float(level), level))
    except ValueError:
        return sorted(levels)


def covariate_columns(patients: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Covariates as numbers: a column of numbers as it is, any other one 0/1 column per level but the first.

    A level's column is named "<column>: <level> vs <first level>"; a patient without a value is NaN in all of them.
    """
    made: dict[str, FloatArray] = {}
    for name in names:
        labels = [label_text(value) for value in clinical(patients, name)]
        try:
            made[name] = np.array([float(label) if label else np.nan for label in labels])
        except ValueError:
            made.update(level_columns(labels, sorted_levels(labels), f"{name}: "))
    return pd.DataFrame(made, index=patients.index)


def level_columns(labels: Sequence[str], levels: Sequence[str], prefix: str = "") -> dict[str, FloatArray]:
    """A 0/1 column for each level but the first; labels that are no level are NaN."""
    known = np.array([label in set(levels) for label in labels], dtype=bool)
    text = np.array(labels, dtype=object)
    return {f"{prefix}{level} vs {levels[0]}": np.where(known, text == level, np.nan) for level in levels[1:]}
