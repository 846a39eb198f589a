"""How follow-up was, or could have been, cut in two: rows of splits.csv, every rule beside the one that was used."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc import statistics
from mihc.associations.columns import Endpoint, endpoints
from mihc.associations.groupings import outcome_grouping

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

COLUMNS = (
    "endpoint", "rule", "split", "cut", "n", "n_low", "n_high", "n_unknown", "n_censored_low",
    "cut_low", "cut_high", "n_low_low", "n_low_high", "agreement_percent", "n_switching", "switching",
    "exploratory", "note",
)  # fmt: skip
COUNTS = ("n", "n_low", "n_high", "n_unknown", "n_censored_low", "n_switching")
USED = {"two_lines": "slope_change", "median": "median"}  # rule -> the split of study.toml that cuts by it
BOOTSTRAPPED = ("two_lines", "broken_stick", "chord_above", "chord_either", "second_difference", "largest_gap")
BOOTSTRAPPED += ("two_means",)
DRAWS = 500
SWITCHES = 0.05  # of the draws on the other side: the patient's side hangs on chance


def split_table(patients: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Every rule's cut of every endpoint, and the landmarks that study.toml asks for.

    Parameters
    ----------
    patients, settings : as in `associate`.

    Returns
    -------
    DataFrame : `COLUMNS`, a row per endpoint and rule; no row where no split by outcome is asked for. `split` is the
        split of study.toml that uses the rule, "" where none does; `cut_low` to `cut_high` is the 95 % interval of the
        cut over 500 draws of the patients, `agreement_percent` the share of patients and draws on the same side, and
        `switching` names those whom 5 % of the draws or more put on the other side, with that percentage.
    """
    asked = [split for split in settings.splits.outcome if split != "none"]
    rows = []
    for found in endpoints(patients, settings) if asked else []:
        rows += [_rule_row(patients, found, made, asked) for made in statistics.time_cuts(found.time, found.event)]
        rows += [_landmark_row(patients, found, split) for split in asked if split.startswith("landmark:")]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in COUNTS:
        table[name] = table[name].astype(float).astype("Int64")
    return table


def _rule_row(patients: pd.DataFrame, found: Endpoint, made: statistics.TimeCut, asked: list[str]) -> dict[str, object]:
    split = USED.get(made.rule, "")
    row = {
        "endpoint": found.name, "rule": made.rule, "split": split if split in asked else "", "cut": made.cut,
        "n": made.n, "n_low": made.n_low, "n_high": made.n_high, "n_unknown": made.n_unknown,
        "n_censored_low": made.n_censored_low, "exploratory": True, "note": made.note,
    }  # fmt: skip
    boot = statistics.bootstrap_cut(found.time, found.event, made.rule, draws=DRAWS) if _is_drawn(made) else None
    return row | _drawn(patients, boot)


def _is_drawn(made: statistics.TimeCut) -> bool:
    return made.rule in BOOTSTRAPPED and not np.isnan(made.cut)


def _drawn(patients: pd.DataFrame, boot: statistics.CutBootstrap | None) -> dict[str, object]:
    if boot is None:
        return dict.fromkeys(("cut_low", "cut_high", "n_low_low", "n_low_high", "agreement_percent"), nan) | {
            "n_switching": None, "switching": "",
        }  # fmt: skip
    names = patients["patient"].astype(str).to_numpy() if "patient" in patients else patients.index.astype(str)
    moved = sorted((-share, name) for share, name in zip(boot.switched, names) if share >= SWITCHES)
    return {
        "cut_low": boot.cut_low, "cut_high": boot.cut_high, "n_low_low": boot.n_low_low, "n_low_high": boot.n_low_high,
        "agreement_percent": 100 * (1 - float(np.nanmean(np.sort(boot.switched)))), "n_switching": len(moved),
        "switching": "; ".join(f"{name} ({-100 * share:.0f} %)" for share, name in moved),
    }  # fmt: skip


def _landmark_row(patients: pd.DataFrame, found: Endpoint, split: str) -> dict[str, object]:
    grouping = outcome_grouping(patients, found, split)
    counts = {name: int((grouping.labels == name).sum()) for name in ("low", "high", "unknown")}
    return {
        "endpoint": found.name, "rule": "landmark", "split": split, "cut": grouping.time, "n": sum(counts.values()),
        "n_low": counts["low"], "n_high": counts["high"], "n_unknown": counts["unknown"], "n_censored_low": 0,
        "exploratory": False, "note": grouping.note,
    } | _drawn(patients, None)  # fmt: skip
