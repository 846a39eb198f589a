"""Survival of groups and of a continuous marker: rows of Kaplan-Meier, log-rank and Cox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc import statistics
from mihc.associations.columns import Endpoint, Marker, covariate_columns, endpoints, level_columns
from mihc.associations.groupings import Grouping
from mihc.associations.rows import LEVEL, NO_MARKER, Row, not_made, row
from mihc.estimates.records import FloatArray

if TYPE_CHECKING:
    from mihc.studies.settings import Settings

EVENTS_PER_TERM = 10


@dataclass(frozen=True, eq=False)
class Cohort:
    """The study table with everything the survival analyses ask of it again and again."""

    patients: pd.DataFrame
    settings: Settings

    @cached_property
    def endpoints(self) -> list[Endpoint]:
        """The outcomes of study.toml."""
        return endpoints(self.patients, self.settings)

    @cached_property
    def follow_up_columns(self) -> frozenset[str]:
        """Every clinical column that an endpoint is made of."""
        return frozenset().union(*(endpoint.columns for endpoint in self.endpoints))

    def guarantee_time(self, grouping: Grouping) -> str:
        """A warning where the groups are made of a response, which comes after the start of follow-up."""
        columns = {response.column for response in self.settings.responses.values()}
        return "who lives longer has more time to respond (guarantee-time bias)" if columns & grouping.columns else ""

    @cached_property
    def landmarks(self) -> list[float]:
        """The times at which survival is reported: those of the landmark splits."""
        written = [split.partition(":") for split in self.settings.splits.outcome]
        return sorted({float(time) for kind, _, time in written if kind == "landmark"})

    @cached_property
    def all_covariates(self) -> pd.DataFrame:
        """The covariates of study.toml as numbers."""
        return covariate_columns(self.patients, self.settings.cox_covariates)

    def covariates_but(self, without: frozenset[str]) -> pd.DataFrame:
        """The covariates, but for those made of the columns `without`."""
        return covariate_columns(self.patients, [name for name in self.settings.cox_covariates if name not in without])


def overall_rows(cohort: Cohort, endpoint: Endpoint) -> list[Row]:
    """Survival of everybody, and how long people were followed (reverse Kaplan-Meier)."""
    curve = statistics.kaplan_meier(endpoint.time, endpoint.event)
    follow_up = statistics.kaplan_meier(endpoint.time, 1 - endpoint.event).median()
    follow_up = replace(follow_up, n_events=curve.n_events, method="reverse Kaplan-Meier, log-log")
    common = {"family": "Survival of all patients", "endpoint": endpoint.name, "split": "overall"}
    return [
        *_curve_rows(curve, cohort.landmarks, term="all patients", **common),
        row("km", follow_up, term="follow-up", kind="median", **common),
    ]


def _curve_rows(curve: statistics.KaplanMeier, landmarks: Sequence[float], **common: object) -> list[Row]:
    return [
        row("km", curve.median(), kind="median", **common),
        *(row("km", curve.at(time), kind="survival", time=time, **common) for time in landmarks),
    ]


def group_survival_rows(
    cohort: Cohort, endpoint: Endpoint, grouping: Grouping, *, about: str, marker: Marker = NO_MARKER
) -> list[Row]:
    """Median and landmark survival of each group, log-rank, and hazard ratios against the reference group."""
    common = {
        "endpoint": endpoint.name, "marker": marker, "split": grouping.split, "exploratory": grouping.exploratory,
    }  # fmt: skip
    if cohort.follow_up_columns & grouping.columns:
        circular = not_made(grouping, 0, "not tested: these groups are made of survival itself")
        return [row("log_rank", circular, family=f"{about}: log-rank", term=grouping.term, **common)]
    rows = km_rows(cohort, endpoint, grouping, about=about, marker=marker)
    known = grouping.labels.isin(grouping.levels).to_numpy()
    compared = grouping.labels.where(known, "")
    test = statistics.log_rank_permuted(endpoint.time, endpoint.event, compared.to_numpy())
    p_permuted, drawn = test.p, test.method.removeprefix("log-rank, ")
    test = replace(test, p=test.p_chi_squared, method="log-rank")
    if not grouping.possible:
        test, p_permuted = not_made(grouping, test.n), nan
    followed = ~np.isnan(endpoint.time) & ~np.isnan(endpoint.event)
    notes = [grouping.note, cohort.guarantee_time(grouping)]
    rows.append(
        row(
            "log_rank",
            test,
            family=f"{about}: log-rank",
            term=grouping.term,
            notes=[*notes, "" if isnan(p_permuted) else f"by {drawn}: p = {p_permuted:.3g}"],
            groups=_sizes(grouping, followed, *grouping.levels) if len(grouping.levels) == 2 else None,
            p_permuted=p_permuted,
            **common,
        )
    )
    columns = pd.DataFrame(level_columns(list(compared), grouping.levels[::-1]), index=cohort.patients.index)
    rows += _group_hazards(endpoint, grouping, columns, None, f"{about}: Cox", notes, common)
    beside = cohort.covariates_but(grouping.columns)
    if len(beside.columns):
        rows += _group_hazards(endpoint, grouping, columns, beside, f"{about}: Cox with covariates", notes, common)
    return rows


def km_rows(
    cohort: Cohort, endpoint: Endpoint, grouping: Grouping, *, about: str, marker: Marker = NO_MARKER
) -> list[Row]:
    """Median and landmark survival of each group."""
    rows = []
    for level in grouping.levels:
        members = grouping.members(level)
        curve = statistics.kaplan_meier(endpoint.time[members], endpoint.event[members])
        rows += _curve_rows(
            curve, cohort.landmarks, family=f"{about}: Kaplan-Meier", endpoint=endpoint.name, marker=marker,
            split=grouping.split, exploratory=grouping.exploratory, term=level, notes=[grouping.note],
        )  # fmt: skip
    return rows


def _group_hazards(
    endpoint: Endpoint, grouping: Grouping, columns: pd.DataFrame, beside: pd.DataFrame | None, family: str,
    notes: Sequence[str], common: dict[str, object],
) -> list[Row]:  # fmt: skip
    """Hazard ratios of each level against the reference.

    Beside a clinical group the covariates' own are reported too, in a family of their own.
    """
    if not grouping.possible:
        known = grouping.labels.isin(grouping.levels).to_numpy()
        n = int((_complete(endpoint, beside if beside is not None else columns[[]]) & known).sum())
        return [row("cox", not_made(grouping, n), family=family, term=grouping.term, kind="HR", **common)]
    design = columns if beside is None else pd.concat([columns, beside], axis=1)
    terms = statistics.cox(endpoint.time, endpoint.event, design, check=True)
    analysed = _complete(endpoint, design)
    rows = []
    for place, term in enumerate(terms):
        own = place < len(columns.columns)
        if not own and grouping.split.startswith("marker:"):
            continue
        level, reference = (grouping.levels[-2 - place], grouping.levels[-1]) if own else ("", "")
        rows.append(
            row(
                "cox",
                named_covariates(term, beside),
                family=family if own else f"{family}, the covariates",
                term=term.term,
                kind="HR",
                groups=_sizes(grouping, analysed, level, reference) if own else None,
                notes=[*notes, few_events(term.n_events, len(terms)), not_proportional(term)],
                **common,
            )
        )
    return rows


def hazard_per_sd(cohort: Cohort, endpoint: Endpoint, marker: Marker, values: FloatArray) -> list[Row]:
    """Hazard ratio per standard deviation of log1p(value), alone and beside the covariates of study.toml."""
    models = [(None, "Continuous marker: Cox")]
    beside = cohort.all_covariates
    if len(beside.columns):
        models.append((beside, "Continuous marker: Cox with covariates"))
    rows = []
    for covariates, family in models:
        term, n_terms = _per_sd(endpoint, values, covariates)
        rows.append(
            row(
                "cox",
                named_covariates(term, covariates),
                family=family,
                endpoint=endpoint.name,
                marker=marker,
                split="continuous",
                term="per SD of log1p",
                kind="HR",
                notes=[few_events(term.n_events, n_terms), not_proportional(term)],
            )
        )
    return rows


def _per_sd(endpoint: Endpoint, values: FloatArray, covariates: pd.DataFrame | None) -> tuple[statistics.CoxTerm, int]:
    design = pd.DataFrame({"marker": np.log1p(values)})
    if covariates is not None:
        design = pd.concat([design, covariates.reset_index(drop=True)], axis=1)
    analysed = _complete(endpoint, design)
    spread = float(np.std(design["marker"].to_numpy()[analysed], ddof=1)) if analysed.sum() > 1 else 0.0
    if spread <= 1e-12:
        events = int(endpoint.event[analysed].sum())
        why = "the marker is constant" if analysed.sum() > 1 else "fewer than two patients with all values"
        return statistics.CoxTerm(n=int(analysed.sum()), n_events=events, method="Cox, Efron, Wald", note=why), 1
    design["marker"] = design["marker"] / spread
    return statistics.cox(endpoint.time, endpoint.event, design, check=True)[0], len(design.columns)


def _complete(endpoint: Endpoint, design: pd.DataFrame) -> np.ndarray:
    """Patients with follow-up and every column."""
    return ~np.isnan(endpoint.time) & ~np.isnan(endpoint.event) & design.notna().all(axis=1).to_numpy()


def _sizes(grouping: Grouping, among: np.ndarray, first: str, second: str) -> tuple[int, int]:
    return int((grouping.members(first) & among).sum()), int((grouping.members(second) & among).sum())


def named_covariates(term: statistics.CoxTerm, covariates: pd.DataFrame | None) -> statistics.CoxTerm:
    """The term with its model's covariates in `method`."""
    if covariates is None:
        return term
    return replace(term, method=f"{term.method}, with {', '.join(map(str, covariates.columns))}")


def few_events(n_events: int | None, n_terms: int) -> str:
    """A warning where the model has too few events for its terms."""
    if not n_events or n_events >= EVENTS_PER_TERM * n_terms:
        return ""
    return f"only {n_events} events for {n_terms} term{'s' if n_terms > 1 else ''}"


def not_proportional(term: statistics.CoxTerm) -> str:
    """A warning where the check speaks against one hazard ratio for all times; before adjustment, to miss little."""
    return f"hazards may not be proportional (p = {term.proportional_p:.2g})" if term.proportional_p < LEVEL else ""
