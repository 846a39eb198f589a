"""How much each result hangs on choices, on single patients and on the draw: one row per test that was reported."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.associations.influence import SEED, Asked, bootstrap_estimates, test_key
from mihc.associations.rows import LEVEL

if TYPE_CHECKING:
    from pandas.core.groupby import DataFrameGroupBy

SUMMARY_COLUMNS = (
    "endpoint", "population", "tissue_class", "measure", "analysis", "split", "estimate", "estimate_kind", "p",
    "direction", "analyses", "same_direction_percent", "significant_percent", "same_and_significant_percent",
    "p_q05", "p_median", "p_q95", "estimate_q05", "estimate_median", "estimate_q95",
    "left_out_p_max", "left_out_patient", "left_out_turns", "left_out_loses",
    "bootstrap_low", "bootstrap_high", "bootstrap_draws", "bootstrap_same_direction_percent", "verdict", "why",
)  # fmt: skip
COUNTS = ("analyses", "left_out_turns", "left_out_loses", "bootstrap_draws", "direction")
KEEPS = 90.0  # per cent of the analyses that must point the same way
TEST = ["endpoint", "population", "tissue_class", "measure", "split"]


def robustness_summary(
    patients: pd.DataFrame, tests: list[Asked], universes: pd.DataFrame, influence: pd.DataFrame, draws: int
) -> pd.DataFrame:
    """Sum up what the multiverse, leaving out each patient and the bootstrap say of every reported test.

    Parameters
    ----------
    patients, tests
        The study table, and its tests as `asked_tests` gives them.
    universes, influence
        robustness.csv and influence.csv.
    draws
        Of the bootstrap; 0 makes none.

    Returns
    -------
    DataFrame
        `SUMMARY_COLUMNS`. The shares are of all analyses of one question (an endpoint or a clinical column, a
        population and a tissue class) that give a p, whatever their measure and split; the quantiles of the estimate
        are of those with the test's own split. `left_out_p_max` is the largest p without one patient, who is named;
        `left_out_turns` and `left_out_loses` count those without whom the direction turns, or p passes 0.05. The
        interval of the bootstrap is of percentiles. `verdict` is "not significant" (raw p > 0.05), "fragile" with the
        reason in `why`, or "steady".
    """
    of_question = {key: rows for key, rows in _by_question(universes)} if len(universes) else {}
    of_test = {key: rows for key, rows in influence.groupby(TEST, sort=False)} if len(influence) else {}
    rows = []
    for one in tests:
        found = one.trial.run(one.values[:, None])
        if not found.n[0]:
            continue
        key = test_key(one)
        row = {
            **key, "analysis": one.trial.analysis, "estimate": float(found.estimate[0]), "p": float(found.p[0]),
            "estimate_kind": one.trial.kind, "direction": int(found.direction[0]),
        }  # fmt: skip
        asked = key["endpoint"] or key["split"]
        row |= _among_choices(row, of_question.get((asked, key["population"], key["tissue_class"])))
        row |= _without_one(row, of_test.get(tuple(key[name] for name in TEST)))
        row |= _drawn_again(patients, one, row, draws)
        rows.append(row | _verdict(row))
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    for name in COUNTS:
        table[name] = table[name].astype(float).astype("Int64")
    return table


def _by_question(universes: pd.DataFrame) -> DataFrameGroupBy:
    """Analyses of one question together; what has no endpoint asks of the clinical column that its split names."""
    asked = universes["endpoint"].where(universes["endpoint"].fillna("") != "", universes["split"])
    return universes.groupby([asked, "population", "tissue_class"], sort=False)


def _among_choices(row: dict, rows: pd.DataFrame | None) -> dict[str, float]:
    made = None if rows is None else rows[rows["p"].notna()]
    if made is None or not len(made):
        return {"analyses": 0}
    same, low = made["direction"] == row["direction"], made["p"] < LEVEL
    own = made.loc[made["split"] == row["split"], "estimate"].to_numpy(dtype=float)
    p = np.quantile(made["p"].to_numpy(dtype=float), [0.05, 0.5, 0.95])
    estimate = np.quantile(own, [0.05, 0.5, 0.95]) if len(own) else [nan] * 3
    return {
        "analyses": len(made), "same_direction_percent": 100 * same.mean(), "significant_percent": 100 * low.mean(),
        "same_and_significant_percent": 100 * (same & low).mean(),
        **dict(zip(("p_q05", "p_median", "p_q95"), map(float, p))),
        **dict(zip(("estimate_q05", "estimate_median", "estimate_q95"), map(float, estimate))),
    }  # fmt: skip


def _without_one(row: dict, rows: pd.DataFrame | None) -> dict[str, object]:
    made = None if rows is None else rows[rows["p"].notna()]
    if made is None or not len(made):
        return {"left_out_p_max": nan, "left_out_patient": ""}
    worst = made.loc[made["p"].idxmax()]
    return {
        "left_out_p_max": float(worst["p"]), "left_out_patient": str(worst["patient"]),
        "left_out_turns": int((made["direction"] == -row["direction"]).sum()) if row["direction"] else 0,
        "left_out_loses": int((made["p"] >= LEVEL).sum()) if row["p"] < LEVEL else 0,
    }  # fmt: skip


def _drawn_again(patients: pd.DataFrame, one: Asked, row: dict, draws: int) -> dict[str, float]:
    drawn = bootstrap_estimates(patients, one, draws, SEED) if draws else np.array([])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return {"bootstrap_low": nan, "bootstrap_high": nan, "bootstrap_draws": 0}
    low, high = np.quantile(drawn, [0.025, 0.975])
    towards = np.sign(drawn - 0.5) if row["estimate_kind"] == "AUC" else -np.sign(drawn - 1)
    return {
        "bootstrap_low": float(low), "bootstrap_high": float(high), "bootstrap_draws": len(drawn),
        "bootstrap_same_direction_percent": 100 * float((towards == row["direction"]).mean()),
    }  # fmt: skip


def _verdict(row: dict) -> dict[str, str]:
    if not row["p"] < LEVEL:
        return {"verdict": "not significant", "why": ""}
    why = []
    if row["analyses"] and row["same_direction_percent"] < KEEPS:
        share, count = row["same_direction_percent"], row["analyses"]
        why.append(f"only {share:.0f} % of {count} analyses with other plausible choices point the same way")
    if row.get("left_out_loses"):
        count = row["left_out_loses"]
        others = f" (so without any of {count} patients)" if count > 1 else ""
        why.append(f"without patient {row['left_out_patient']} p is {row['left_out_p_max']:.2g}{others}")
    return {"verdict": "fragile" if why else "steady", "why": "; ".join(why)}
