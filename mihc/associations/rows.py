"""Rows of statistics.csv: one per estimate, p adjusted within its family."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd

from mihc import statistics
from mihc.associations.columns import Marker
from mihc.associations.groupings import Grouping
from mihc.studies.bands import is_band

COLUMNS = (
    "family", "analysis", "endpoint", "population", "tissue_class", "measure", "split", "term", "time",
    "n", "n_events", "n_high", "n_low", "estimate", "ci_low", "ci_high", "estimate_kind",
    "statistic", "p", "p_adjusted", "adjust_method", "exploratory", "method", "note",
    "p_permuted", "p_proportional",
)  # fmt: skip
LEVEL = 0.05  # of an adjusted p, below which something is claimed
COUNTS = ("n", "n_events", "n_high", "n_low")
NUMBERS = ("time", "estimate", "ci_low", "ci_high", "statistic", "p", "p_adjusted", "p_permuted", "p_proportional")
TESTED = (
    "rank_sum",
    "kruskal",
    "cox",
    "log_rank",
    "fisher",
    "spearman",
    "maxstat",
    "weighted_auc",
)  # analyses that give a p
NO_MARKER = Marker("", "", "", "")

Row = dict[str, object]


def row(
    analysis: str,
    found: statistics.Estimate,
    *,
    family: str,
    endpoint: str = "",
    marker: Marker = NO_MARKER,
    split: str = "",
    term: str = "",
    kind: str = "",
    time: float = nan,
    groups: tuple[int, int] | None = None,
    exploratory: bool = False,
    notes: Sequence[str] = (),
    p_permuted: float = nan,
) -> Row:
    """One row; `groups` = how many patients are in the first and in the second group named in `term`.

    `p_permuted` is the p of the same test by permutation, where p holds for many patients only (see `table`);
    `p_proportional`, of a Cox term, of the check that its hazards are proportional.

    Bands around the margin are families of their own: there are too many of them to share one with the tissue classes.
    """
    family += ", in bands around the margin" if is_band(marker.tissue_class) else ""
    return {
        "family": family, "analysis": analysis, "endpoint": endpoint, "population": marker.population,
        "tissue_class": marker.tissue_class, "measure": marker.measure, "split": split, "term": term, "time": time,
        "n": found.n, "n_events": found.n_events, "n_high": groups and groups[0], "n_low": groups and groups[1],
        "estimate": found.estimate if kind else nan, "ci_low": found.ci_low if kind else nan,
        "ci_high": found.ci_high if kind else nan, "estimate_kind": kind, "statistic": found.statistic,
        "p": found.p if analysis in TESTED else nan, "exploratory": exploratory, "method": found.method,
        "note": "; ".join(dict.fromkeys(note for note in (found.note, *notes) if note)), "p_permuted": p_permuted,
        "p_proportional": getattr(found, "proportional_p", nan),
    }  # fmt: skip


def not_made(grouping: Grouping, n: int, why: str = "") -> statistics.Estimate:
    """The estimate that cannot be made for these groups, with the reason."""
    empty = [level for level in grouping.levels if not grouping.members(level).any()]
    reason = why or grouping.note or (f"nobody is {' or '.join(empty)}" if empty else "fewer than two groups")
    return statistics.Estimate(n=n, note=reason)


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as statistics.csv has them, with p_adjusted by Benjamini-Hochberg within each family.

    A p that holds for many patients only (log-rank) claims nothing that permutations do not bear out: where the
    adjusted p is below LEVEL and would not be with the family's permutation ps, it is the latter's (`adjust_method`).
    """
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for name in COUNTS:
        frame[name] = frame[name].astype(float).astype("Int64")
    for name in NUMBERS:
        frame[name] = frame[name].astype(float)
    frame["exploratory"] = frame["exploratory"].astype(bool)
    permuted = frame["p_permuted"].to_numpy()
    adjusted = _adjusted(frame, frame["p"].to_numpy())
    cautious = _adjusted(frame, np.where(np.isnan(permuted), frame["p"], permuted))
    refuted = ~np.isnan(permuted) & (adjusted < LEVEL) & (cautious >= LEVEL)
    frame["p_adjusted"] = np.where(refuted, cautious, adjusted)
    frame["adjust_method"] = np.select([np.isnan(adjusted), refuted], ["", "BH of permutation p"], "BH")
    return frame


def _adjusted(frame: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    """(rows,) p adjusted by Benjamini-Hochberg within each family."""
    adjusted = np.full(len(frame), nan)
    for members in frame.groupby("family", sort=False).indices.values():
        adjusted[members] = statistics.adjust(p[members])
    return adjusted
