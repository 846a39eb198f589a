"""What calls say of each other: which markers go together, and how often a pair is found that cannot exist.

A cell that is CD3+ and CD20+ does not exist, so each one that is found is wrongly called for at least one of the two.
Beside their number stands what could have made them: chance (calls that know nothing of each other), and light or
outlines shared with touching neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mihc.errors import PanelError
from mihc.phenotypes import Expression, conjuncts, parse_expression

if TYPE_CHECKING:
    import pandas as pd

ANALYSED = ("tumour", "stroma", "other")
COEXPRESSION_COLUMNS = (
    "tissue_class", "marker", "other", "cells", "positive_cells", "both_cells", "percent", "chance_percent",
)  # fmt: skip
PAIR_COLUMNS = (
    "pair", "first", "second", "cells", "first_cells", "second_cells", "both_cells", "percent_of_either",
    "percent_of_all", "percent_of_first", "percent_of_second", "chance_cells", "touching_cells",
    "touching_both_cells", "both_cells_uncorrected", "both_cells_corrected", "verdict", "explanation",
)  # fmt: skip
TOUCHING = 1.1  # cells touch where their centres are no farther apart than this times the sum of their radii
NEAREST = 6  # neighbours of the other kind that are looked at
FEWEST = 5  # doubles; fewer say nothing
WARN_PERCENT, FAIL_PERCENT = 5.0, 20.0  # of the rarer kind: docs/decisions/0019
MOST = 0.5  # of the doubles must touch a cell of either kind, before neighbours are said to explain them


@dataclass(frozen=True)
class Pair:
    """Two expressions that no cell can both match."""

    text: str
    first: Expression
    second: Expression


def parse_pair(text: str, markers: Sequence[str], phenotypes: Mapping[str, str]) -> Pair:
    """Parse an expression of two parts, `CD3+ CD20+` or `T cell & "B cell"`.

    Raises
    ------
    PanelError
        When it cannot be read, could match no cell even by wrong calls, or has not exactly two parts.
    """
    parts = conjuncts(parse_expression(text, markers, phenotypes=phenotypes))
    if len(parts) != 2:
        raise PanelError(
            f"{text!r} has {len(parts)} part{'s' * (len(parts) > 1)} where a pair has two",
            place="study.toml, [pairs] impossible",
            fix='Write two, such as "CD3+ CD20+"; what belongs together goes in parentheses: "(CD3+ CD8+) CD20+".',
        )
    return Pair(text, *parts)


def coexpression(cells: pd.DataFrame, markers: Sequence[str]) -> pd.DataFrame:
    """Count for every two markers how many of the cells positive for one are positive for the other.

    Parameters
    ----------
    cells
        `tissue_class` and `<marker>_positive`, nullable booleans.
    markers
        Names, in the order of the panel.

    Returns
    -------
    DataFrame
        A row per tissue class that has cells and ordered pair of markers: `tissue_class, marker, other, cells,
        positive_cells` (for marker), `both_cells`, `percent` = 100 both_cells / positive_cells, `chance_percent` = 100
        x the share of all the class's cells that are positive for other. NaN where a denominator is 0, and where a
        call of the class is null.
    """
    import pandas as pd

    if len(markers) < 2:
        return pd.DataFrame(columns=list(COEXPRESSION_COLUMNS))
    called = [cells[f"{marker}_positive"].astype("boolean") for marker in markers]
    bits = _packed([calls.fillna(False).to_numpy(bool) for calls in called])
    null = [calls.isna().to_numpy() for calls in called]
    tables = []
    for tissue_class in ANALYSED:
        here = (cells["tissue_class"] == tissue_class).to_numpy()
        if not here.any():
            continue
        mine = bits & _packed([here])
        known = np.array([not (one & here).any() for one in null])
        both = np.array([np.bitwise_count(mine & one).sum(axis=1, dtype=np.int64) for one in mine]).astype(float)
        both[~(known[:, None] & known[None, :])] = math.nan
        i, j = np.nonzero(~np.eye(len(markers), dtype=bool))
        names, positive, total = np.array(markers, dtype=object), np.diag(both), int(here.sum())
        columns = (tissue_class, names[i], names[j], total, positive[i], both[i, j])
        table = pd.DataFrame(dict(zip(COEXPRESSION_COLUMNS, columns)))
        table["percent"] = _percent(both[i, j], positive[i])
        tables.append(table.assign(chance_percent=100 * positive[j] / total))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COEXPRESSION_COLUMNS))


def _packed(columns: Sequence[np.ndarray]) -> np.ndarray:
    """(columns, words) uint64: 64 cells in each word."""
    bits = np.packbits(np.stack(columns), axis=1)
    padded = np.zeros((len(columns), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return 100 * part / np.where(whole > 0, whole, math.nan)


def impossible_pairs(
    cells: pd.DataFrame,
    pairs: Sequence[Pair],
    *,
    uncorrected: pd.DataFrame | None = None,
    corrected: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Count the pairs that cannot exist over the analysed cells of one slide.

    Parameters
    ----------
    cells
        Cells table with its calls; `x_um, y_um, cell_area_um2` for what touches, where known.
    pairs
        What cannot exist.
    uncorrected, corrected
        The calls without and with the correction for spillover, on the same index, where it is measured.

    Returns
    -------
    DataFrame
        A row per pair: `pair, first, second, cells, first_cells, second_cells, both_cells`; `percent_of_either` = 100
        both / cells positive for one or both; `percent_of_all, percent_of_first, percent_of_second`; `chance_cells` =
        the doubles that calls independent of each other would give, sum over classes of first x second / cells;
        `touching_cells` = the most that touching neighbours could make doubles: cells positive for one that touch a
        cell positive for the other; `touching_both_cells` = the doubles that touch a cell of either kind (cells touch
        where their centres are at most 1.1 times the sum of their radii, sqrt(area / pi), apart);
        `both_cells_uncorrected, both_cells_corrected`; `verdict` ("ok" | "warn" | "fail" | "cannot tell") and
        its `explanation`. NaN where it is not known.
    """
    import pandas as pd

    analysed = cells["tissue_class"].isin(ANALYSED).to_numpy()
    rows = []
    for pair in pairs:
        row = _count(cells, analysed, pair)
        for name, calls in (("uncorrected", uncorrected), ("corrected", corrected)):
            both = math.nan if calls is None else _both(calls, analysed, pair)
            row[f"both_cells_{name}"] = both
        row["verdict"], row["explanation"] = _judged(row)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def pair_checks(slide: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows of qc.csv for a slide's pairs: the doubles in % of the rarer of the two kinds."""
    import pandas as pd

    rows = [
        (slide, f"impossible pair: {row.pair}", row.percent, f"% of {row.of}", row.verdict, row.explanation)
        for row in pairs.assign(**_of_rarer(pairs)).itertuples()
    ]
    return pd.DataFrame(rows, columns=["slide", "check", "value", "unit", "verdict", "explanation"])


def _of_rarer(pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    first = (pairs["first_cells"] <= pairs["second_cells"]).to_numpy(bool)
    return {
        "of": np.where(first, pairs["first"], pairs["second"]),
        "percent": np.where(first, pairs["percent_of_first"], pairs["percent_of_second"]),
    }


def calls_of(expression: Expression, cells: pd.DataFrame, among: np.ndarray) -> tuple[np.ndarray, bool]:
    """(cells,) True where the expression holds, and whether its calls `among` are known; from the table's own calls."""
    columns = {str(name): name for name in cells}
    positive = {name.removesuffix("_positive"): cells[name].array for name in columns if name.endswith("_positive")}
    positive |= {
        name.removeprefix("phenotype_"): cells[name].array for name in columns if name.startswith("phenotype_")
    }
    levels = {name.removesuffix("_level"): cells[name].array for name in columns if name.endswith("_level")}
    found = expression.evaluate(positive, levels)
    return found.fillna(False).to_numpy(dtype=bool) & among, not (found.isna() & among).any()


def _both(cells: pd.DataFrame, among: np.ndarray, pair: Pair) -> float:
    (first, known), (second, known_too) = (calls_of(one, cells, among) for one in (pair.first, pair.second))
    return float((first & second).sum()) if known and known_too else math.nan


def _count(cells: pd.DataFrame, among: np.ndarray, pair: Pair) -> dict[str, object]:
    """A pair's row, of the cells `among`; no cell is copied for it."""
    row: dict[str, object] = dict.fromkeys(PAIR_COLUMNS, math.nan)
    total = int(among.sum())
    row |= {"pair": pair.text, "first": str(pair.first), "second": str(pair.second), "cells": total}
    (first, known), (second, known_too) = (calls_of(one, cells, among) for one in (pair.first, pair.second))
    if not (known and known_too):
        return row
    n_first, n_second, both = int(first.sum()), int(second.sum()), int((first & second).sum())
    row |= {"first_cells": n_first, "second_cells": n_second, "both_cells": both}
    wholes = {"either": n_first + n_second - both, "all": total, "first": n_first, "second": n_second}
    row |= {f"percent_of_{name}": 100 * both / whole if whole else math.nan for name, whole in wholes.items()}
    row["chance_cells"] = _by_chance(cells["tissue_class"], first, second)
    if "cell_area_um2" in cells:
        touching = _touching(cells, first, second)
        row |= {"touching_cells": int(touching.sum()), "touching_both_cells": int((touching & first & second).sum())}
    return row


def _by_chance(tissue_class: pd.Series, first: np.ndarray, second: np.ndarray) -> float:
    here = [(tissue_class == name).to_numpy() for name in ANALYSED]
    return math.fsum(int((h & first).sum()) * int((h & second).sum()) / int(h.sum()) for h in here if h.any())


def _touching(cells: pd.DataFrame, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(cells,) True for a cell of one kind that touches another cell of the other kind."""
    from scipy.spatial import cKDTree

    place = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    radius = np.sqrt(cells["cell_area_um2"].to_numpy(dtype=np.float64) / math.pi)
    found = np.zeros(len(cells), bool)
    for mine, others in ((first, second), (second, first)):
        at, other = np.flatnonzero(mine), np.flatnonzero(others)
        if not len(at) or not len(other):
            continue
        farthest = 2 * TOUCHING * float(np.nanmax(radius[first | second], initial=0.0))
        tree = cKDTree(place[other])
        apart, which = tree.query(place[at], k=range(1, NEAREST + 1), distance_upper_bound=farthest)
        there = np.append(other, -1)[which]  # past the end where there are fewer
        near = apart <= TOUCHING * (radius[at][:, None] + radius[there])
        found[at] |= (near & (there >= 0) & (there != at[:, None])).any(axis=1)
    return found


def _judged(row: Mapping[str, object]) -> tuple[str, str]:
    """A verdict and its reason, for a pathologist."""
    if math.isnan(row["both_cells"]):
        return "cannot tell", f"Not known: a threshold of {row['pair']} could not be told on this slide."
    both = int(row["both_cells"])
    if not both:
        return "ok", f"No cell is both {row['first']} and {row['second']}."
    rarer = "first" if row["first_cells"] <= row["second_cells"] else "second"
    share = row[f"percent_of_{rarer}"]
    verdict = "ok"
    if both >= FEWEST:
        verdict = "fail" if share >= FAIL_PERCENT else "warn" if share >= WARN_PERCENT else "ok"
    return verdict, " ".join(_said(row, both, row[rarer], share, verdict))


def _said(row: Mapping[str, object], both: int, rarer: str, share: float, verdict: str) -> Iterator[str]:
    yield (
        f"At least {_short(share)} % of the {cells_called(rarer)} are wrongly called: {both:,} "
        f"{'cell is' if both == 1 else 'cells are'} both {row['first']} and {row['second']}, which cannot be "
        f"({_short(row['percent_of_either'])} % of the cells that are either)."
    )
    if both >= FEWEST:
        yield f"Calls independent of each other would give {row['chance_cells']:,.0f}."
        yield from _cause(row, both)
    if verdict != "ok":
        level = FAIL_PERCENT if verdict == "fail" else WARN_PERCENT
        yield f"From {level:g} % on, numbers of the {cells_called(rarer)} should not be relied on" + (
            "." if verdict == "fail" else " before these cells were looked at."
        )


def _cause(row: Mapping[str, object], both: int) -> Iterator[str]:
    """What neighbours have to do with it, as far as it was measured."""
    left, touching = row["both_cells_corrected"], row["touching_both_cells"]
    if not math.isnan(left):
        plain = row["both_cells_uncorrected"]
        yield f"The light of touching neighbours makes {plain - left:,.0f} of {plain:,.0f}."
    if math.isnan(touching):
        return
    yield f"{touching:,} of the {both:,} touch a cell of either kind" + (
        ": neighbours do not explain the others; look at thresholds and stains."
        if touching < MOST * both
        else ", so that light or outlines shared with neighbours may have made them."
    )


def cells_called(kind: str) -> str:
    """ "CD3+ cells", "T cells": a kind of cells in the plural."""
    return f"{kind}s" if kind.endswith("cell") else f"{kind} cells"


def _short(percent: float) -> str:
    return "0" if percent == 0 else f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"
