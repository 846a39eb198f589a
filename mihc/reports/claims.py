"""What was found, in sentences: only what stands after adjustment within its family is claimed.

A claim is made where p_adjusted is below LEVEL. Tests of one question (a population in a class against an endpoint) are
told as one finding, led by the continuous analysis; what came from a data-driven split is told apart, as exploratory. A
finding whose leading test robustness_summary.csv calls fragile is said to be so, with the reason, after steady ones.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from mihc.associations.rows import LEVEL
from mihc.reports.numbers import Numbers, as_float, counted, sentence, text

TESTS = ("cox", "rank_sum", "kruskal", "log_rank", "fisher", "spearman", "maxstat")  # every other analysis describes
TEST_NAMES = {
    "cox": "Cox regression",
    "rank_sum": "Wilcoxon rank-sum test",
    "kruskal": "Kruskal-Wallis test",
    "log_rank": "log-rank test",
    "fisher": "Fisher's exact test",
    "spearman": "Spearman correlation",
    "maxstat": "maximally selected rank statistic",
    "weighted_auc": "area under the curve, weighted for censoring",
    "km": "Kaplan-Meier",
    "proportion": "exact proportion",
}
KINDS = {
    "HR": "hazard ratio",
    "location_shift": "shift",
    "odds_ratio": "odds ratio",
    "proportion": "proportion",
    "survival": "survival",
    "median": "median",
    "rho": "rank correlation",
    "AUC": "area under the curve",
}
MEASURES = {"density_per_mm2": "density", "positivity_percent": "positivity", "h_score": "H-score"}
RUNAWAY = 1000.0  # a hazard ratio beyond this, either way, is a coefficient on its way to infinity
_TEST = ("endpoint", "population", "tissue_class", "measure", "split")  # what names a test in robustness_summary.csv
_ORDER = {"cox": 0, "spearman": 1, "rank_sum": 2, "kruskal": 3, "log_rank": 4, "fisher": 5, "maxstat": 6}


@dataclass(frozen=True)
class Finding:
    """One question with the tests that answer it."""

    question: tuple[str, str, str]  # endpoint, population (or clinical column), tissue class
    rows: tuple[int, ...]  # rows of statistics.csv, the leading one first
    exploratory: bool
    headline: Markup
    evidence: tuple[Markup, ...]  # the other tests that agree, one line each
    asked: int = 1  # how many tests of the question there are, whether they stand or not
    fragile: str = ""  # why, where it hangs on a choice or on a single patient
    also: tuple[str, ...] = ()  # populations with the same values in every patient: the same finding, told once


def tests(statistics: pd.DataFrame) -> pd.DataFrame:
    """The rows that test something that was asked and could be computed; covariates of a model were not asked."""
    if statistics.empty:
        return statistics
    computed = statistics["analysis"].isin(TESTS) & pd.to_numeric(statistics["p"], errors="coerce").notna()
    return statistics[computed & ~statistics["family"].map(text).str.endswith("the covariates")]


def question(row: pd.Series) -> tuple[str, str, str]:
    """Which question a row answers: endpoint or clinical column, population or clinical column, tissue class."""
    return endpoint_of(row), text(row["population"]) or column_of(row), text(row["tissue_class"])


def column_of(row: pd.Series) -> str:
    """The clinical column that made a row's groups, "" where none did."""
    split = text(row["split"])
    return split.removeprefix("group:") if split.startswith("group:") else ""


def endpoint_of(row: pd.Series) -> str:
    """What a row sets the population against: an endpoint, a response, or a clinical column."""
    return text(row["endpoint"]) or column_of(row)


def runaway(statistics: pd.DataFrame) -> pd.Series:
    """Which Cox rows have a ratio so far from 1 that it is separation and no effect: fragile, never claimed."""
    ratio = pd.to_numeric(statistics["estimate"], errors="coerce")
    return (statistics["analysis"] == "cox") & ((ratio > RUNAWAY) | (ratio < 1 / RUNAWAY))


def claimable(statistics: pd.DataFrame) -> pd.DataFrame:
    """The tests of which something could be claimed."""
    rows = tests(statistics)
    return rows if rows.empty else rows[~runaway(rows)]


def findings(numbers: Numbers) -> list[Finding]:
    """Every finding that stands after adjustment, confirmatory ones first, each by its smallest adjusted p."""
    rows = claimable(numbers["statistics"])
    if rows.empty:
        return []
    grouped: dict[tuple[str, str, str], list[int]] = {}
    asked: Counter[tuple[str, str, str]] = Counter()
    for index, row in rows.iterrows():
        asked[question(row)] += 1
        if stands(row):
            grouped.setdefault(question(row), []).append(int(index))
    found = [replace(_finding(numbers, key, indices), asked=asked[key]) for key, indices in grouped.items()]

    def order(finding: Finding) -> tuple[bool, bool, float]:
        return finding.exploratory, bool(finding.fragile), _adjusted(numbers, finding.rows[0])

    return _once(numbers, sorted(found, key=order))


def _once(numbers: Numbers, found: list[Finding]) -> list[Finding]:
    """Populations that are one and the same in every patient ("B cell" = "CD20+") are told as one finding."""
    told: dict[tuple, Finding] = {}
    for finding in found:
        row = numbers["statistics"].loc[finding.rows[0]]
        column = "|".join(text(row[name]) for name in ("population", "tissue_class", "measure"))
        values = tuple(numbers["patients"][column].fillna("")) if column in numbers["patients"] else (finding.question,)
        key = (finding.question[0], *(text(row[name]) for name in _TEST[2:]), row["analysis"], row["family"], values)
        first = told.setdefault(key, finding)
        if first is not finding:
            told[key] = replace(first, also=(*first.also, finding.question[1]))
    return list(told.values())


def _finding(numbers: Numbers, key: tuple[str, str, str], indices: list[int]) -> Finding:
    ordered = sorted(indices, key=lambda index: rank(numbers["statistics"].loc[index]))
    lead = ordered[0]
    fragile = fragility(numbers, numbers["statistics"].loc[lead])
    told = say(numbers, lead)
    return Finding(
        question=key,
        rows=tuple(ordered),
        exploratory=is_exploratory(numbers["statistics"].loc[lead]),
        headline=sentence("Fragile: {told} That is, {why}.", {"told": told, "why": fragile}) if fragile else told,
        evidence=tuple(say(numbers, index) for index in ordered[1:]),
        fragile=fragile,
    )


def fragility(numbers: Numbers, row: pd.Series) -> str:
    """Why a test's result is fragile by robustness_summary.csv; "" where it is steady, or where nobody looked."""
    summary = numbers["robustness_summary"]
    if summary.empty:
        return ""
    same = summary["verdict"].map(text) == "fragile"
    for name in _TEST:
        same &= summary[name].map(text) == text(row[name])
    return text(summary.loc[same, "why"].iloc[0]) if same.any() else ""


def named_test(row: pd.Series) -> str:
    """Which test a row is, in a few words: "Cox regression per SD", "log-rank test (median)"."""
    how = " per SD" if row["analysis"] == "cox" and text(row["split"]) == "continuous" else _cut(row)
    return f"{TEST_NAMES[str(row['analysis'])]}{how}{' with covariates' if is_multivariable(row) else ''}"


def rank(row: pd.Series) -> tuple[bool, bool, int, float]:
    """Confirmatory before exploratory, one variable before several, continuous before cut, then by adjusted p."""
    return is_exploratory(row), is_multivariable(row), _ORDER.get(str(row["analysis"]), 9), as_float(row["p_adjusted"])


def _adjusted(numbers: Numbers, row: int) -> float:
    return as_float(numbers["statistics"].at[row, "p_adjusted"])


def stands(row: pd.Series) -> bool:
    """Whether a test stands after adjustment within its family."""
    return as_float(row["p_adjusted"]) < LEVEL


def is_exploratory(row: pd.Series) -> bool:
    """True where the row says so: as a bool, or as the text that a CSV has."""
    return str(row["exploratory"]).strip().lower() in ("true", "1", "1.0", "yes")


def is_multivariable(row: pd.Series) -> bool:
    """True for a Cox model with covariates."""
    return "with covariates" in text(row["family"])


def say(numbers: Numbers, index: int) -> Markup:
    """One row of statistics.csv as a sentence: direction, effect, interval, p, adjusted p, patients, events.

    A direction is said only of what stands after adjustment; of anything else, that nothing was found.
    """
    row = numbers["statistics"].loc[index]
    return sentence("{what}: {effect}{p}, {adjusted}; {size}.", {
        "what": _direction(row, numbers.units) if stands(row) else _no_direction(row, numbers.units),
        "effect": _effect(numbers, index),
        "p": sentence("p\u00a0{p}", {"p": numbers.show("statistics", index, "p", "p")}),
        "adjusted": sentence("adjusted p\u00a0{p}", {"p": numbers.show("statistics", index, "p_adjusted", "p")}),
        "size": _size(numbers, index),
    })  # fmt: skip


def _direction(row: pd.Series, units: dict[str, str]) -> str:
    """What goes with what, in words, from the sign of the estimate; without a sign: that it differs."""
    analysis, estimate, subject = str(row["analysis"]), as_float(row["estimate"]), subject_of(row)
    if math.isfinite(estimate):
        if analysis == "cox":
            longer = "longer" if estimate < 1 else "shorter"
            return f"{_beside(row)}{_higher(row, subject)} went with {longer} {endpoint_of(row)}"
        if analysis == "rank_sum":
            first, second = _compared(row, units)
            return f"{subject} was {'higher' if estimate > 0 else 'lower'} in {first} than in {second}"
        if analysis == "fisher":
            first, second = _compared(row, units)
            return f"{endpoint_of(row)} was {'more' if estimate > 1 else 'less'} frequent in {first} than in {second}"
        if analysis == "spearman":
            return f"{subject} {'rose' if estimate > 0 else 'fell'} with {endpoint_of(row)}"
    if analysis in ("log_rank", "maxstat"):
        return f"{endpoint_of(row)} differed by {subject}{_cut(row)}"
    return f"{subject} differed by {endpoint_of(row)}{_cut(row)}"


def _no_direction(row: pd.Series, units: dict[str, str]) -> str:
    """That a test found nothing after adjustment, in words that claim no direction."""
    analysis, subject = str(row["analysis"]), subject_of(row)
    if analysis == "cox":
        sought = f"{subject}{_cut(row)}" if text(row["population"]) else f"{subject} ({_against(row)})"
        told = f"no association of {sought} with {endpoint_of(row)}"
        return f"{_beside(row) or told[:1].upper()}{told if _beside(row) else told[1:]} was found after adjustment"
    if analysis == "spearman":
        told = f"association of {subject} with {endpoint_of(row)}"
    elif analysis in ("rank_sum", "fisher") and " vs " in text(row["term"]):
        first, second = _compared(row, units)
        what = subject if analysis == "rank_sum" else endpoint_of(row)
        told = f"difference in {what} between {first} and {second}"
    elif analysis in ("log_rank", "maxstat"):
        told = f"difference in {endpoint_of(row)} by {subject}{_cut(row)}"
    else:
        told = f"difference in {subject} by {endpoint_of(row)}{_cut(row)}"
    return f"No {told} was found after adjustment"


def _against(row: pd.Series) -> str:
    return text(row["term"]).replace(" vs ", " against ")


def subject_of(row: pd.Series) -> str:
    """What was measured: "CD20 density in tumour", or the clinical column."""
    population = text(row["population"])
    if not population:
        return column_of(row) or text(row["term"])
    measure = MEASURES.get(text(row["measure"]), text(row["measure"]))
    return f"{population} {measure}".rstrip() + place_words(text(row["tissue_class"]))


def place_words(tissue_class: str) -> str:
    """ " in tumour", " in the whole tissue"; a band around the margin by its name, and "" for no class."""
    return {"": "", "all": " in the whole tissue"}.get(tissue_class, f" in {tissue_class}")


def split_words(split: object) -> str:
    """A split's name for people: "marker:median" is "median", "outcome:landmark:12" is "landmark at 12"."""
    name = text(split)
    kind, _, rest = name.partition(":")
    if kind in ("marker", "outcome") and rest:
        return rest.replace("landmark:", "landmark at ").replace("_", " ").replace("maxstat", "best cut")
    return "" if name in ("continuous", "overall", "response") else rest or name


def _beside(row: pd.Series) -> str:
    return "With the covariates in the model, " if is_multivariable(row) else ""


def _higher(row: pd.Series, subject: str) -> str:
    word = "higher" if is_multivariable(row) else "Higher"
    if text(row["split"]) == "continuous":
        return f"{word} {subject}"
    if text(row["population"]):
        return (
            f"{text(row['term'])} {subject}{_cut(row)}"
            if "high vs low" not in text(row["term"])
            else f"{word} {subject}{_cut(row)}"
        )
    return f"{subject} {_against(row)}"


def _cut(row: pd.Series) -> str:
    return f" ({_split_told(row)})" if split_words(row["split"]) and not column_of(row) else ""


def _split_told(row: pd.Series) -> str:
    """A split's name, marked where the data chose it."""
    return split_words(row["split"]) + (", exploratory" if is_exploratory(row) else "")


def _compared(row: pd.Series, units: dict[str, str]) -> tuple[str, str]:
    """The two groups of a comparison, in words: first the one that the estimate is of."""
    first, _vs, second = text(row["term"]).partition(" vs ")
    split, endpoint = text(row["split"]), text(row["endpoint"])
    if split.startswith("outcome:landmark:"):
        at = f"{split.rpartition(':')[2]}\u00a0{units.get(endpoint, '')}".strip()
        return f"patients with {endpoint} beyond {at}", f"patients with the event by {at}"
    if split.startswith("outcome:"):
        return f"patients with long {endpoint} ({_split_told(row)})", "those with short"
    if split == "response":
        return f"{first}s ({endpoint})", f"{second}s"
    return f"{column_of(row)} {first}".strip(), second


def _effect(numbers: Numbers, index: int) -> Markup:
    """The estimate with its interval: "hazard ratio 0.45 per SD (95 % CI 0.30 to 0.68), "."""
    row = numbers["statistics"].loc[index]
    if not math.isfinite(as_float(row["estimate"])):
        return sentence("{name}, ", {"name": TEST_NAMES.get(str(row["analysis"]), str(row["analysis"]))})
    name, unit = _effect_words(row)
    interval = Markup("")
    if not (math.isnan(as_float(row["ci_low"])) and math.isnan(as_float(row["ci_high"]))):
        form = effect_form(row)
        ends = {end: numbers.show("statistics", index, end, form) for end in ("ci_low", "ci_high")}
        interval = sentence(" (95\u00a0%\u00a0CI {ci_low} to {ci_high})", ends)
    shown = numbers.show("statistics", index, "estimate", effect_form(row))
    return sentence(
        "{name} {value}{unit}{interval}, ", {"name": name, "value": shown, "unit": unit, "interval": interval}
    )


def effect_form(row: pd.Series) -> str:
    """How an estimate of this kind is rounded."""
    return "ratio" if text(row["estimate_kind"]) in ("HR", "odds_ratio", "rho") else "number"


def _effect_words(row: pd.Series) -> tuple[str, str]:
    """What the estimate is called, and what follows the number."""
    kind, measure = text(row["estimate_kind"]), text(row["measure"])
    if kind == "HR":
        return KINDS[kind], " per SD" if text(row["split"]) == "continuous" else f" for {text(row['term'])}"
    unit = {"density_per_mm2": "\u00a0cells/mm²", "positivity_percent": "\u00a0percentage points"}.get(measure, "")
    return KINDS.get(kind, kind), unit if kind == "location_shift" else ""


def _size(numbers: Numbers, index: int) -> Markup:
    row = numbers["statistics"].loc[index]
    size = sentence("{n} patients", {"n": numbers.show("statistics", index, "n", "count")})
    if not math.isnan(as_float(row["n_events"])):
        size += sentence(", {n} events", {"n": numbers.show("statistics", index, "n_events", "count")})
    if not math.isnan(as_float(row["n_high"])) and row["analysis"] != "cox":
        pair = {key: numbers.show("statistics", index, key, "count") for key in ("n_high", "n_low")}
        size += sentence(" ({n_high} against {n_low})", pair)
    few = re.search("only [0-9]+ events for [0-9]+ terms?", text(row["note"]))
    cautions = [Markup.escape(few.group())] if few else []
    if not_proportional(row):
        shown = {"p": numbers.show("statistics", index, "p_proportional", "p")}
        cautions.append(sentence("hazards may not be proportional, p\u00a0{p}", shown))
    return size + sentence(" ({cautions})", {"cautions": Markup("; ").join(cautions)}) if cautions else size


def not_proportional(row: pd.Series) -> bool:
    """Whether the check speaks against one hazard ratio for all times."""
    return as_float(row.get("p_proportional")) < LEVEL


def nothing_found(numbers: Numbers) -> Markup:
    """The sentence for a study in which nothing stands after adjustment; with the smallest adjusted p."""
    rows = claimable(numbers["statistics"])
    adjusted = pd.to_numeric(rows["p_adjusted"], errors="coerce").dropna() if len(rows) else pd.Series(dtype=float)
    if not len(adjusted):
        return Markup("No association could be tested.")
    lead = int(adjusted.idxmin())
    row, computed = rows.loc[lead], tests(numbers["statistics"])
    families = computed["family"].nunique()
    return sentence(
        "No association was found after adjustment: {n} tests in {families}. "
        "The smallest adjusted p is {p} ({subject}, {endpoint}).",
        {
            "n": len(computed),
            "families": counted(families, "family", "families"),
            "p": numbers.show("statistics", lead, "p_adjusted", "p_cell"),
            "subject": subject_of(row),
            "endpoint": endpoint_of(row),
        },
    )


def silent_endpoints(numbers: Numbers, found: Sequence[Finding]) -> dict[str, Markup]:
    """A sentence for each endpoint that was tested and of which nothing is claimed."""
    rows = claimable(numbers["statistics"])
    if rows.empty:
        return {}
    spoken = {finding.question[0] for finding in found}
    silent = rows.assign(endpoint=rows.apply(endpoint_of, axis=1))
    silent = silent[~silent["endpoint"].isin(spoken)]
    return {
        text(endpoint): sentence(
            "No association with {endpoint} was found after adjustment ({n}; smallest adjusted p {p}).",
            {
                "endpoint": text(endpoint),
                "n": counted(len(group), "test"),
                "p": _smallest(numbers, group),
            },
        )
        for endpoint, group in silent.groupby("endpoint", sort=False)
    }


def _smallest(numbers: Numbers, rows: pd.DataFrame) -> Markup:
    adjusted = pd.to_numeric(rows["p_adjusted"], errors="coerce").dropna()
    return (
        numbers.show("statistics", int(adjusted.idxmin()), "p_adjusted", "p_cell")
        if len(adjusted)
        else Markup("not known")
    )
