"""What hangs on a single patient, and how far an estimate moves when the patients are drawn again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.associations.columns import Marker, marker_columns, values_of
from mihc.associations.repeated import Trial, trials
from mihc.associations.survival_rows import Cohort
from mihc.estimates.records import FloatArray
from mihc.studies.bands import is_band

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

INFLUENCE_COLUMNS = (
    "endpoint", "population", "tissue_class", "measure", "analysis", "split", "patient",
    "n", "n_events", "estimate", "estimate_kind", "p", "direction",
)  # fmt: skip
SEED = 1


@dataclass(frozen=True, eq=False)
class Asked:
    """One test of statistics.csv: a marker's column, put in one way."""

    marker: Marker
    trial: Trial
    values: FloatArray


def asked_tests(patients: pd.DataFrame, settings: Settings) -> list[Asked]:
    """Every test of a marker that `trials` can repeat, those of bands around the margin left out: they are too many."""
    markers = [marker for marker in marker_columns(patients) if not is_band(marker.tissue_class)]
    made = trials(Cohort(patients, settings), only_asked=True)
    return [Asked(marker, trial, values_of(patients, marker.column)) for trial in made for marker in markers]


def influence_table(patients: pd.DataFrame, tests: list[Asked]) -> pd.DataFrame:
    """Every test without each patient in turn.

    Parameters
    ----------
    patients
        The study table; a patient without a value of the marker leaves nothing out and has no row.
    tests
        As `asked_tests` gives them.

    Returns
    -------
    DataFrame
        `INFLUENCE_COLUMNS`, one row per test and patient. Cuts by the marker or by follow-up are made anew without the
        patient.
    """
    names = patients["patient"].astype(str).to_numpy()
    frames = [_without_each(one, names) for one in tests]
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(INFLUENCE_COLUMNS))


def _without_each(one: Asked, names: np.ndarray) -> pd.DataFrame:
    found, measured = one.trial.without_each(one.values), ~np.isnan(one.values)
    made = pd.DataFrame({
        **test_key(one), "analysis": one.trial.analysis, "patient": names, "n": found.n,
        "n_events": pd.array(found.n_events, dtype="Float64").astype("Int64"), "estimate": found.estimate,
        "estimate_kind": one.trial.kind, "p": found.p, "direction": found.direction,
    })[list(INFLUENCE_COLUMNS)]  # fmt: skip
    return made[measured]


def test_key(one: Asked) -> dict[str, str]:
    """What names a test: endpoint, population, tissue class, measure and split."""
    return {
        "endpoint": one.trial.endpoint, "population": one.marker.population, "tissue_class": one.marker.tissue_class,
        "measure": one.marker.measure, "split": one.trial.split,
    }  # fmt: skip


def bootstrap_estimates(patients: pd.DataFrame, one: Asked, draws: int, seed: int = SEED) -> FloatArray:
    """One test's estimate in patients drawn again with replacement, (draws,); NaN where it cannot be made.

    Drawn by the patients' names, so that their order in the table changes nothing. Groups and cuts stay as they are:
    the interval does not contain the luck of choosing them.
    """
    n = len(patients)
    place = np.argsort(patients["patient"].astype(str).to_numpy(), kind="stable")
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).T
    weights = np.empty_like(drawn)
    weights[place] = drawn
    return one.trial.drawn(one.values, weights)
