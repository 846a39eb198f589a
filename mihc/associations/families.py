"""The families of tests: how many tests each holds, how small its p is, and what it could have found."""

from __future__ import annotations

from math import nan

import numpy as np
import pandas as pd

from mihc import statistics
from mihc.associations.rows import LEVEL, TESTED

COLUMNS = (
    "family", "analysis", "split", "endpoints", "tests", "patients", "events", "smallest_p", "smallest_p_adjusted",
    "adjust_method", "raw_below_0.05", "adjusted_below_0.05", "expected_by_chance",
    "detectable_effect", "detectable_in_family", "effect_kind", "power_method", "exploratory",
)  # fmt: skip
KINDS = {"cox": "HR", "log_rank": "HR", "rank_sum": "AUC", "spearman": "rho", "fisher": "odds_ratio"}
POWER = 0.8


def family_table(found: pd.DataFrame) -> pd.DataFrame:
    """One row per family of tests in statistics.csv.

    Parameters
    ----------
    found : the table that `associate` returns.

    Returns
    -------
    DataFrame : `COLUMNS`. patients and events are the medians over the family's tests. `detectable_effect` is the
        smallest effect that one test of that size finds with 80 % power at 0.05, `detectable_in_family` the same at
        0.05 / tests: a hazard ratio (per SD, or between groups of the median sizes), an AUC, a rho or an odds ratio;
        NaN where no formula is known. Infinite = nothing could have been found.
    """
    tested = found[found["analysis"].isin(TESTED) & found["p"].notna()]
    rows = [_row(str(family), rows, found) for family, rows in tested.groupby("family", sort=False)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(family: str, rows: pd.DataFrame, found: pd.DataFrame) -> dict[str, object]:
    analysis = str(rows["analysis"].iloc[0])
    one = _detectable(rows, found, LEVEL)
    return {
        "family": family, "analysis": analysis, "split": rows["split"].iloc[0],
        "endpoints": "; ".join(dict.fromkeys(name for name in rows["endpoint"] if name)), "tests": len(rows),
        "patients": _median(rows["n"]), "events": _median(rows["n_events"]), "smallest_p": rows["p"].min(),
        "smallest_p_adjusted": rows["p_adjusted"].min(), "adjust_method": rows["adjust_method"].iloc[0],
        "raw_below_0.05": int((rows["p"] < LEVEL).sum()),
        "adjusted_below_0.05": int((rows["p_adjusted"] < LEVEL).sum()),
        "expected_by_chance": LEVEL * len(rows), "detectable_effect": one.estimate,
        "detectable_in_family": _detectable(rows, found, LEVEL / len(rows)).estimate,
        "effect_kind": KINDS.get(analysis, "") if not np.isnan(one.estimate) else "",
        "power_method": one.method, "exploratory": bool(rows["exploratory"].any()),
    }  # fmt: skip


def _median(counts: pd.Series) -> float:
    known = counts.dropna().to_numpy(dtype=float)
    return float(np.median(known)) if len(known) else nan


def _detectable(rows: pd.DataFrame, found: pd.DataFrame, level: float) -> statistics.Estimate:
    sizes = {name: _median(rows[name]) for name in ("n", "n_events", "n_high", "n_low")}
    known = {name: round(size) for name, size in sizes.items() if not np.isnan(size)}
    share = found.loc[
        (found["analysis"] == "proportion") & (found["split"] == "overall")
        & found["endpoint"].isin(set(rows["endpoint"])), "estimate",
    ]  # fmt: skip
    base = float(share.median()) if len(share) else 0.5
    return statistics.detectable_effect(
        str(rows["analysis"].iloc[0]), **known, share=base, power=POWER, level=max(level, 1e-12)
    )
