"""The chapter of associations: the leading questions with their plots, forest plots, and every test by family."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from mihc.figures import ForestRow, box_plot, forest_plot, p_text, safe_name, survival_plot
from mihc.reports.claims import (
    LEVEL,
    MEASURES,
    TEST_NAMES,
    Finding,
    claimable,
    column_of,
    endpoint_of,
    is_exploratory,
    is_multivariable,
    named_test,
    not_proportional,
    place_words,
    question,
    rank,
    say,
    split_words,
    stands,
    subject_of,
)
from mihc.reports.groups import PatientGroups
from mihc.reports.numbers import Numbers, as_float, counted, rounded, text
from mihc.reports.outcomes import survival_groups
from mihc.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Question = tuple[str, str, str]  # endpoint, population or clinical column, tissue class
MOST_LEADING = 6  # questions that get plots
MOST_GROUPS = 4  # of clinical and mutation groups
MOST_FOREST = 20  # rows in a forest plot


@dataclass(frozen=True)
class Leading:
    """A question that is claimed, or one with the smallest p of the others, with its plots."""

    title: str
    stands: str  # which test stands after adjustment, the leading one: "Cox regression per SD"; "" where none does
    standing: int  # how many tests of the question stand
    asked: int  # of how many
    exploratory: bool  # what stands comes from a group that the data chose
    figures: tuple[str, ...]
    lines: tuple[Markup, ...]  # its tests in words, the smallest p first
    proportions: tuple[int, ...]  # rows of statistics.csv: the share of responders in each group


@dataclass(frozen=True)
class Family:
    """The tests that were adjusted together."""

    name: str
    count: int
    standing: int
    exploratory: bool
    kind: str  # estimate_kind where all rows have the same, else ""
    columns: frozenset[str]  # the columns of statistics.csv in which any row has something
    rows: tuple[int, ...]


def leading(
    numbers: Numbers, study: Study, groups: PatientGroups, figures: dict[str, Figure], found: Sequence[Finding] = ()
) -> list[Leading]:
    """What is claimed, then the questions of which nothing is claimed; their plots go into `figures`.

    Of the claims in `found` each endpoint's strongest come first. The others are questions of populations, and then of
    clinical and mutation groups, by their smallest adjusted p. Populations with the same values are shown once.
    """
    rows = claimable(numbers["statistics"])
    if rows.empty:
        return []
    order = rows.assign(
        _a=pd.to_numeric(rows["p_adjusted"], errors="coerce"), _p=pd.to_numeric(rows["p"], errors="coerce")
    )
    order = order.sort_values(["_a", "_p"], kind="stable", na_position="last")
    asked: dict[Question, list[int]] = {}
    for index, row in order.iterrows():
        asked.setdefault(question(row), []).append(int(index))
    claimed = _strongest_first(found)[:MOST_LEADING]
    others = [key for key in _once(numbers, asked) if not any(stands(rows.loc[index]) for index in asked[key])]
    of_markers = [key for key in others if text(rows.at[asked[key][0], "population"])]
    of_groups = [key for key in others if not text(rows.at[asked[key][0], "population"])]
    chosen = [*claimed, *of_markers[: MOST_LEADING - len(claimed)], *of_groups[:MOST_GROUPS]]
    return [_leading(numbers, study, asked[key], groups, figures) for key in chosen]


def _strongest_first(found: Sequence[Finding]) -> list[Question]:
    """The claims' questions: first the first one of each endpoint, then the rest."""
    first = {one.question[0]: one.question for one in reversed(found)}
    return list(dict.fromkeys([one.question for one in found if first[one.question[0]] == one.question]
                              + [one.question for one in found]))  # fmt: skip


def _once(numbers: Numbers, questions: Iterable[Question]) -> list[Question]:
    """The questions without those whose population has the values of an earlier one in every patient."""
    patients, told = numbers["patients"], {}
    for key in questions:
        endpoint, population, tissue_class = key
        names = [f"{population}|{tissue_class}|{measure}" for measure in MEASURES]
        values = tuple(tuple(patients[name].fillna("")) for name in names if name in patients)
        told.setdefault((endpoint, tissue_class, values) if values else key, key)
    return list(told.values())


def leading_words(shown: Sequence[Leading], found: Sequence[Finding]) -> str:
    """What the figures are: how many of the claims, and how many questions of which nothing is claimed."""
    claimed = sum(bool(one.stands) for one in shown)
    rest = counted(len(shown) - claimed, "question")
    if not claimed:
        return f"Nothing is claimed; shown are {rest} with the smallest adjusted p." if shown else ""
    told = f"First what is claimed above: {counted(claimed, 'association')}"
    told += f" of {len(found)}, each endpoint's strongest first" if claimed < len(found) else ""
    return f"{told}. Then {rest} of which nothing is claimed." if claimed < len(shown) else f"{told}."


def _leading(
    numbers: Numbers, study: Study, indices: list[int], groups: PatientGroups, figures: dict[str, Figure]
) -> Leading:
    statistics = numbers["statistics"]
    drawn = [_box(numbers, index, groups, figures) for index in _first(statistics, indices, ("rank_sum", "kruskal"))]
    drawn += [
        _curves(numbers, study, index, groups, figures)
        for index in _first(statistics, indices, ("log_rank", "maxstat"))
    ]
    standing = sorted(
        (index for index in indices if stands(statistics.loc[index])), key=lambda index: rank(statistics.loc[index])
    )
    return Leading(
        title=_title(statistics.loc[indices[0]]),
        stands=named_test(statistics.loc[standing[0]]) if standing else "",
        standing=len(standing),
        asked=len(indices),
        exploratory=all(is_exploratory(statistics.loc[index]) for index in standing),
        figures=tuple(key for key in drawn if key),
        lines=tuple(say(numbers, index) for index in indices[:6]),
        proportions=_proportions(statistics, statistics.loc[indices[0]]),
    )


def _proportions(statistics: pd.DataFrame, row: pd.Series) -> tuple[int, ...]:
    """The share of responders in each group that Fisher's test compared."""
    if row["analysis"] != "fisher":
        return ()
    same = (statistics["analysis"] == "proportion") & (statistics["split"] == row["split"])
    return tuple(int(index) for index in statistics.index[same & (statistics["endpoint"] == row["endpoint"])])


def _title(row: pd.Series) -> str:
    return f"{text(row['population']) or column_of(row)}{place_words(text(row['tissue_class']))} and {endpoint_of(row)}"


def _first(statistics: pd.DataFrame, indices: list[int], analyses: tuple[str, ...]) -> list[int]:
    """The row of these analyses with the smallest p, from groups fixed in advance where there are such."""
    rows = [index for index in indices if statistics.at[index, "analysis"] in analyses]
    return sorted(rows, key=lambda index: is_exploratory(statistics.loc[index]))[:1]


def named_groups(row: pd.Series | dict, masks: dict) -> dict:
    """Groups made of an endpoint's times called by what they are: who had the event early, and who did not."""
    split, endpoint = text(row["split"]), text(row["endpoint"])
    if not split.startswith("outcome:"):
        return masks
    at = split.partition("landmark:")[2]
    words = (
        {"low": f"event by {at}", "high": f"beyond {at}"}
        if at
        else {"low": f"short {endpoint}", "high": f"long {endpoint}"}
    )
    return {words.get(label, label): mask for label, mask in masks.items()}


def _stamp(row: pd.Series) -> str:
    name = TEST_NAMES[str(row["analysis"])]
    return f"{name}: {p_text(as_float(row['p']))}, adjusted {p_text(as_float(row['p_adjusted']))}"


def _box(numbers: Numbers, index: int, groups: PatientGroups, figures: dict[str, Figure]) -> str:
    row = numbers["statistics"].loc[index]
    column, masks = groups.column(row), groups.masks(row)
    if not column or not masks:
        return ""
    values = groups.values(row)
    unit = {"density_per_mm2": " (cells/mm²)", "positivity_percent": " (%)"}.get(text(row["measure"]), "")
    words = split_words(row["split"])
    key = safe_name("box", endpoint_of(row), words, column)
    figures[key] = box_plot(
        {label: values[mask] for label, mask in named_groups(row, masks).items()},
        title=endpoint_of(row)
        + (f": {words}" if words and words != endpoint_of(row) else "")
        + (" (exploratory)" if is_exploratory(row) else ""),
        y_label=subject_of(row) + unit,
        test=_stamp(row),
    )
    return key


def _curves(numbers: Numbers, study: Study, index: int, groups: PatientGroups, figures: dict[str, Figure]) -> str:
    row = numbers["statistics"].loc[index]
    outcome, masks = study.settings.outcomes.get(text(row["endpoint"])), groups.masks(row)
    if outcome is None or not masks:
        return ""
    words = split_words(row["split"])
    key = safe_name("km", text(row["endpoint"]), words, groups.column(row))
    figures[key] = survival_plot(
        survival_groups(groups.patients, outcome, masks),
        title=f"{text(row['endpoint'])} by {subject_of(row)}" + (f" ({words})" if text(row["population"]) else ""),
        x_label=f"time ({outcome.unit})",
        y_label=text(row["endpoint"]),
        test=_stamp(row),
    )
    return key


def forests(numbers: Numbers, figures: dict[str, Figure]) -> list[str]:
    """One forest plot of hazard ratios per endpoint and kind of model; returns the figures' keys.

    What could not be estimated is counted in the title; why stands in the table of all tests.
    """
    statistics = numbers["statistics"]
    if statistics.empty:
        return []
    cox = statistics[(statistics["analysis"] == "cox") & ~statistics["split"].map(text).str.startswith("marker:")]
    keys = []
    for (endpoint, several), rows in (
        cox.groupby([cox["endpoint"], cox.apply(is_multivariable, axis=1)], sort=False) if len(cox) else ()
    ):
        rows = rows.assign(_p=pd.to_numeric(rows["p"], errors="coerce")).sort_values("_p", kind="stable")
        missing, rows = int(rows["_p"].isna().sum()), rows[rows["_p"].notna()]
        if rows.empty:
            continue
        key = safe_name("forest", text(endpoint), "with-covariates" if several else "")
        kind = "with covariates" if several else "one variable at a time"
        told = [f"the {MOST_FOREST} smallest p of {len(rows)}"] if len(rows) > MOST_FOREST else []
        told += [f"{missing} more could not be estimated"] if missing else []
        told += ["† hazards may not be proportional"] * bool(rows.apply(not_proportional, axis=1).any())
        figures[key] = forest_plot(
            [_forest_row(row) for _index, row in rows.head(MOST_FOREST).iterrows()],
            title=f"{text(endpoint)}: Cox, {kind}",
            note="; ".join(told),
            x_label=f"hazard ratio (populations: per SD), 95 % CI; below 1: longer; bold: adjusted p below {LEVEL:g}",
        )
        keys.append(key)
    return keys


def _forest_row(row: pd.Series) -> ForestRow:
    estimate, low, high = (as_float(row[key]) for key in ("estimate", "ci_low", "ci_high"))
    p, adjusted = as_float(row["p"]), as_float(row["p_adjusted"])
    ratio = f"{rounded(estimate, 'ratio')} ({rounded(low, 'ratio')}–{rounded(high, 'ratio')})"
    told = ratio if math.isfinite(estimate) and math.isfinite(low) and math.isfinite(high) else "not estimable"
    return ForestRow(
        _forest_label(row),
        estimate,
        low,
        high,
        f"{told}{' †' if not_proportional(row) else ''}  {p_text(p)}, adj. {rounded(adjusted, 'p_cell')}",
        adjusted < LEVEL,
    )


def _forest_label(row: pd.Series) -> str:
    if text(row["family"]).endswith("the covariates"):
        return f"{text(row['term'])} (beside {column_of(row)})"
    return subject_of(row) if text(row["population"]) else f"{column_of(row)}: {text(row['term'])}"


def families(numbers: Numbers) -> list[Family]:
    """Every family with its rows, the smallest p first; families that only describe stand at the end."""
    statistics = numbers["statistics"]
    if statistics.empty:
        return []
    found = [_family(name, rows) for name, rows in statistics.groupby(statistics["family"].map(text), sort=False)]
    return sorted(found, key=lambda family: family.count == 0)


def _family(name: str, rows: pd.DataFrame) -> Family:
    p, adjusted = (pd.to_numeric(rows[column], errors="coerce") for column in ("p", "p_adjusted"))
    kinds = set(rows["estimate_kind"].map(text)) - {""}
    return Family(
        name=name,
        count=int(adjusted.notna().sum()),
        standing=int((adjusted < LEVEL).sum()),
        exploratory=bool(rows.apply(is_exploratory, axis=1).any()),
        kind=kinds.pop() if len(kinds) == 1 else "",
        columns=frozenset(str(column) for column in rows if rows[column].map(text).ne("").any()),
        rows=tuple(int(index) for index in rows.assign(_p=p).sort_values("_p", kind="stable").index),
    )
