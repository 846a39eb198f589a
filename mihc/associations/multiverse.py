"""Every association under every plausible choice: how positive cells are told, counted, pooled, and patients cut.

The choices: the thresholds within their intervals, density or positivity, slides pooled or averaged, annotated or
automatic regions where a slide has both, and how patients are split. Each combination is one analysis, one row of
robustness.csv; none is picked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.associations.recount import AS_ANALYSED
from mihc.associations.repeated import Trial, trials
from mihc.associations.survival_rows import Cohort
from mihc.studies.patients import study_table

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

MULTIVERSE_COLUMNS = (
    "endpoint", "population", "tissue_class", "analysis", "split", "threshold", "measure", "pooling", "regions",
    "as_reported", "n", "n_events", "estimate", "estimate_kind", "p", "direction",
)  # fmt: skip
MEASURES = ("density_per_mm2", "positivity_percent")
POOLED, AVERAGED = "pooled", "mean of slides"
AT_ONCE = 2000  # columns of values


@dataclass(frozen=True, eq=False)
class Universe:
    """Every patient's values under one choice of thresholds, pooling and regions."""

    threshold: str
    pooling: str
    regions: str
    values: pd.DataFrame  # by patient; `<population>|<tissue_class>|<measure>`


def multiverse(
    counts: pd.DataFrame,
    slides: pd.DataFrame,
    patients: pd.DataFrame,
    settings: Settings,
    populations: Mapping[str, Collection[str]],
) -> pd.DataFrame:
    """Test every population under every choice.

    Parameters
    ----------
    counts
        Rows of `recount` of all slides that count, with its columns.
    slides
        The table of slides, as `study_table` takes it.
    patients
        patients.csv: whose clinical columns are used.
    settings
        study.toml.
    populations
        population -> panels that can show it.

    Returns
    -------
    DataFrame
        `MULTIVERSE_COLUMNS`, one row per analysis in which anybody has a value. `direction` is 1 where higher values go
        with longer follow-up or with the first group of the split, -1 where with the other, 0 where nothing can be
        said; `as_reported` marks the choices of statistics.csv.
    """
    cohort = Cohort(patients, settings)
    columns = _columns(universes(counts, slides, settings, populations), patients["patient"].astype(str))
    asked = trials(cohort)
    frames = []
    for first in range(0, len(columns), AT_ONCE):
        part = columns[first : first + AT_ONCE]
        values = np.column_stack([column[-1] for column in part])
        keys = pd.DataFrame([column[:-1] for column in part], columns=list(_KEYS))
        frames += [_tested(trial, values, keys) for trial in asked]
    if not frames:
        return pd.DataFrame(columns=list(MULTIVERSE_COLUMNS))
    table = pd.concat(frames, ignore_index=True)
    order = ["endpoint", "population", "tissue_class", "split", "measure", "regions", "pooling", "threshold"]
    return table.sort_values(order, kind="stable", ignore_index=True)[list(MULTIVERSE_COLUMNS)]


def universes(
    counts: pd.DataFrame, slides: pd.DataFrame, settings: Settings, populations: Mapping[str, Collection[str]]
) -> Iterator[Universe]:
    """The patients' values under every choice, by `study_table` itself, so that the first are those of patients.csv."""
    arguments = {"unclear": settings.thresholds.unclear}
    apart = slides.assign(patient=slides["slide"])
    owner = dict(zip(slides["slide"].astype(str), slides["patient"].astype(str)))
    definitions = list(dict.fromkeys(counts["regions"]))
    several = slides.loc[_counting(slides), "patient"].duplicated().any()
    for threshold, rows in counts.groupby("threshold", sort=False):
        shown = {name: populations[name] for name in populations if name in set(rows["population"])}
        for definition in definitions:
            regions = _defined(rows, definition)
            pooled = study_table(regions, slides, None, populations=shown, **arguments).set_index("patient")
            yield Universe(str(threshold), POOLED, definition, pooled)
            if several:
                single = study_table(regions, apart, None, populations=shown, **arguments).set_index("patient")
                means = single.groupby(single.index.map(owner)).mean()
                yield Universe(str(threshold), AVERAGED, definition, means.where(pooled.reindex(means.index).notna()))


def _counting(slides: pd.DataFrame) -> pd.Series:
    """Slides that were measured and are no controls."""
    control = slides["control"].fillna("").astype(bool) if "control" in slides else False
    failed = slides["failed"].fillna(False).astype(bool) if "failed" in slides else False
    return pd.Series(True, index=slides.index) & ~control & ~failed


def _defined(rows: pd.DataFrame, definition: str) -> pd.DataFrame:
    """The counts in one definition of the regions; a slide without it is counted as it was analysed."""
    chosen = rows[rows["regions"] == definition]
    rest = rows[(rows["regions"] == AS_ANALYSED) & ~rows["slide"].isin(set(chosen["slide"]))]
    return pd.concat([chosen, rest], ignore_index=True)


_KEYS = ("population", "tissue_class", "measure", "threshold", "pooling", "regions")


def _columns(found: Iterator[Universe], patients: pd.Series) -> list[tuple]:
    """Every column of every universe with its choices; one without a value is no analysis."""
    columns = []
    for universe in found:
        values = universe.values.reindex(list(patients))
        for name in values.columns:
            population, tissue_class, measure = name.rsplit("|", 2) if name.count("|") >= 2 else ("", "", "")
            column = values[name].to_numpy(dtype=float) if measure in MEASURES else np.array([np.nan])
            if not np.isnan(column).all():
                keys = (population, tissue_class, measure, universe.threshold, universe.pooling, universe.regions)
                columns.append((*keys, column))
    return columns


def _tested(trial: Trial, values: np.ndarray, keys: pd.DataFrame) -> pd.DataFrame:
    found = trial.run(values)
    reported = (keys["threshold"] == AS_ANALYSED) & (keys["pooling"] == POOLED) & (keys["regions"] == AS_ANALYSED)
    return keys.assign(
        endpoint=trial.endpoint, analysis=trial.analysis, split=trial.split, estimate_kind=trial.kind,
        as_reported=reported & trial.asked, n=found.n,
        n_events=pd.array(found.n_events, dtype="Float64").astype("Int64"),
        estimate=found.estimate, p=found.p, direction=found.direction,
    )  # fmt: skip
