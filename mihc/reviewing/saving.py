"""Save: the numbers follow what reviewers did, and what that changed is shown."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mihc.cells import measure_cells
from mihc.pipeline import run
from mihc.reviewing.overview import choose_final
from mihc.reviewing.tables import table
from mihc.reviews.final import read_final
from mihc.reviews.journal import journal_file
from mihc.stages import Event
from mihc.study import read_study

if TYPE_CHECKING:
    import pandas as pd

    from mihc.study import Study

MEASURES = ("cells", "positive_cells", "area_mm2", "positivity_percent", "density_per_mm2")
REGION_KEYS = ("slide", "region", "tissue_class", "population")
TEST_KEYS = ("family", "analysis", "endpoint", "population", "tissue_class", "measure", "split", "term", "time")
TABLES = ("regions", "patients", "statistics")
FEWEST_FOR_GROUPS = 2
LOADED_BY_A_SAVE = ("scipy.optimize", "mihc.measures.sum_kernels")  # and by little else


@dataclass(frozen=True)
class Changes:
    """What a save changed; tables hold changed rows only."""

    regions: pd.DataFrame  # slide, region, tissue_class, population, measure, before, after
    patients: pd.DataFrame  # patient, column, before, after, group_before, group_after (low, high; by the median)
    statistics: pd.DataFrame  # the keys of statistics.csv, p_before, p_after, estimate_before, estimate_after
    failed: dict[str, str]  # slide -> what went wrong
    computed: tuple[str, ...]  # what was computed, "stage slide"
    report: Path | None  # None where it was not asked for
    seconds: float


def get_ready() -> None:
    """Load what the first save of a process waits for: a second or two, which a viewer spends beside the picture."""
    for name in LOADED_BY_A_SAVE:
        importlib.import_module(name)
    one = np.ones((2, 2), np.uint32)  # compiled loops are loaded with the first cell that is measured
    measure_cells(one[None].astype(np.uint16), one, one, markers=["any"], pixel_size_um=0.5)


def save(
    folder: str | Path,
    *,
    reviewer: str = "",
    slides: Sequence[str] = (),
    report: bool = True,
    progress: Callable[[Event], None] = lambda event: None,
    stopping: threading.Event | None = None,
) -> Changes:
    """Compute what the journals of the reviews that count have changed since the last run.

    Parameters
    ----------
    folder
        The study folder.
    reviewer, slides
        Where nobody's review counts yet on one of these slides, this reviewer's does from now on.
    report
        Also write the report; without it everything is new but report.html and figures/, which the next run writes.
    progress, stopping
        As `mihc.run`.

    Returns
    -------
    Changes
        The same numbers are in results/ as `mihc run` gives.
    """
    folder, started = Path(folder), time.perf_counter()
    study = read_study(folder)
    final, _ = read_final(study.folder, [row.slide for row in study.slides])
    for slide in slides:
        if reviewer and not final.of(slide) and journal_file(study.folder, reviewer, slide).exists():
            choose_final(study.folder, reviewer, slides=[slide])
    before = {name: table(study, name) for name in TABLES}
    study = read_study(folder)
    done = run(study, until=None if report else "statistics", progress=progress, stopping=stopping)
    after = {name: table(study, name) for name in TABLES}
    return Changes(
        _changed_regions(before["regions"], after["regions"]),
        _changed_patients(study, before["patients"], after["patients"]),
        _changed_tests(before["statistics"], after["statistics"]),
        done.failed,
        tuple(f"{step.stage} {step.slide}".strip() for step in done.steps if step.why != "reused"),
        done.report,
        time.perf_counter() - started,
    )


def _changed_regions(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    columns = [*REGION_KEYS, "measure", "before", "after"]
    return _changed(_long(before, REGION_KEYS, MEASURES), _long(after, REGION_KEYS, MEASURES), columns)


def _changed_patients(study: Study, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Values of patients that changed, and their groups by the median."""
    columns = ["patient", "column", "before", "after"]
    known = study.populations()
    values = [name for name in after if _is_tested(known, name)]
    long = [_long(one, ("patient",), [name for name in values if name in one]) for one in (before, after)]
    changed = _changed(*(one.rename(columns={"measure": "column"}) for one in long), columns)
    for when, one in (("before", before), ("after", after)):
        groups = {name: _groups(one, name) for name in changed["column"].unique()}
        changed[f"group_{when}"] = [
            groups[name].get(patient, "") for patient, name in zip(changed["patient"], changed["column"])
        ]
    return changed


def _is_tested(known: Collection[str], column: str) -> bool:
    population, _, rest = column.partition("|")
    return population in known and rest.count("|") == 1 and rest.endswith(MEASURES[3:])


def _groups(patients: pd.DataFrame, column: str) -> dict[str, str]:
    """Each patient's group: low where its value is not above the median of all."""
    if column not in patients:
        return {}
    values = patients[column].astype(float)
    if values.notna().sum() < FEWEST_FOR_GROUPS:
        return {}
    cut = float(np.nanmedian(values))
    told = values.notna()
    return {p: "high" if value > cut else "low" for p, value in zip(patients["patient"][told], values[told])}


def _changed_tests(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    columns = [*TEST_KEYS, "p_before", "p_after", "estimate_before", "estimate_after"]
    if before.empty or after.empty:
        return pd.DataFrame(columns=columns)
    both = [one.drop_duplicates(list(TEST_KEYS)) for one in (before, after)]
    kept = [one[[*TEST_KEYS, "p", "estimate"]] for one in both]
    joined = kept[0].merge(kept[1], on=list(TEST_KEYS), how="outer", suffixes=("_before", "_after"))
    differs = np.zeros(len(joined), bool)
    for name in ("p", "estimate"):
        differs |= ~_same(joined[f"{name}_before"], joined[f"{name}_after"])
    return joined.loc[differs, columns].reset_index(drop=True)


def _long(wide: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    if wide.empty:
        return pd.DataFrame(columns=[*keys, "measure", "value"])
    return wide.melt(id_vars=list(keys), value_vars=list(measures), var_name="measure", value_name="value")


def _changed(before: pd.DataFrame, after: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows whose value is not what it was; a row that is only in one has NaN in the other."""
    keys = columns[:-2]
    joined = before.merge(after, on=keys, how="outer", suffixes=("_before", "_after"))
    joined = joined.rename(columns={"value_before": "before", "value_after": "after"})
    return joined.loc[~_same(joined["before"], joined["after"]), columns].reset_index(drop=True)


def _same(before: pd.Series, after: pd.Series) -> np.ndarray:
    one, other = (values.astype(float).to_numpy() for values in (before, after))
    return (one == other) | (np.isnan(one) & np.isnan(other))
