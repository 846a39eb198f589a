"""Cox's proportional hazards model, with R's handling of ties, missing values and coefficients that do not exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.errors import InputError
from mihc.estimates.concordances import concordance
from mihc.estimates.partial import (
    STILL_MOVING,
    TIES,
    Maximum,
    RiskSets,
    estimable,
    maximise,
    standard_errors,
)
from mihc.estimates.proportionality import ProportionalHazards, proportional_hazards
from mihc.estimates.records import (
    ChiSquared,
    Estimate,
    FloatArray,
    check_choice,
    chi_squared,
    coded_terms,
    follow_up,
    labels,
    same_length,
)
from mihc.estimates.roots import root_between
from mihc.estimates.survival import joined_times

FARTHEST = 600.0  # log hazard ratio between the lowest and the highest patient, beyond which exp() vanishes
Excess = Callable[[float, FloatArray], tuple[float, FloatArray]]
MUCH = 1e6  # twice the fall of a likelihood, more than which says nothing more
# hazard ratio per unit of a 0/1 covariate, or per SD of another, that no data of ours support
NEARLY_SEPARATED = 1000.0


@dataclass(frozen=True, kw_only=True)
class CoxTerm(Estimate):
    """One covariate of a Cox model: `estimate` is the hazard ratio per unit, `statistic` is Wald's z."""

    term: str = ""
    coefficient: float = nan  # log hazard ratio
    standard_error: float = nan
    log_likelihood: float = nan  # of the whole model
    log_likelihood_null: float = nan
    flag: str = (
        ""  # "" | "infinite +" | "infinite -" | "nearly separated" | "not estimable" | "beside an infinite term"
    )
    profile_low: float = nan  # profile-likelihood limits of the hazard ratio, 0 or infinite where the data set none
    profile_high: float = nan
    proportional_p: float = nan  # of `cox.zph`'s score test, where asked for


@dataclass(frozen=True, kw_only=True)
class CoxModel:
    """A whole Cox model: its terms and what is said about all of them together."""

    terms: tuple[CoxTerm, ...]
    n: int
    n_events: int
    n_missing: int  # patients left out because something was missing or infinite
    log_likelihood: float
    log_likelihood_null: float
    likelihood_ratio: ChiSquared  # of all terms against none
    wald: ChiSquared
    score: ChiSquared
    concordance: Estimate  # of the model's risk with the order of events
    proportional: tuple[ProportionalHazards, ...]  # one per estimable term, then "GLOBAL"; empty if not asked for
    method: str
    note: str = ""


def cox(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    names: Sequence[str] | None = None,
    strata: ArrayLike | None = None,
    ties: str = "efron",
    confidence: float = 0.95,
    profile: bool = False,
    bound: float | None = None,
    check: bool = False,
) -> tuple[CoxTerm, ...]:
    """Hazard ratios with Wald intervals and p, as R's `coxph` (iterated until converged).

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    covariates : (n,) or (n, k) numbers, or a DataFrame, whose names become the terms. A column of text becomes one
        0/1 term per level but the first in alphabetical order, named as R names them (`celltypelarge`).
    names : k names for covariates given as an array; x1, x2, ... otherwise.
    strata : (n,) labels; each stratum has its own baseline hazard.
    ties : "efron" (R's default), "breslow" or "exact" (Cox's discrete likelihood).
    profile : fill `profile_low` and `profile_high`, where twice the fall of the log likelihood, maximised over the
        other terms, is chi-squared's quantile. Flagged terms have them always.
    bound : an infinite coefficient's likelihood has no maximum, only a limit, from which its profile limits fall. A
        number takes the likelihood at that coefficient instead (per unit, or per SD where the SD is above 1), which
        gives wider limits; None takes the limit itself.
    check : fill `proportional_p`, as R's `cox.zph(transform = "km", terms = FALSE)`; not for exact ties.

    Returns
    -------
    tuple of CoxTerm : one per covariate, in their order. A patient with anything missing or infinite is left out.
        A covariate that is constant or a combination of earlier ones, and a coefficient that runs to infinity
        (a group without events, perfect separation), is NaN; its `flag` and its note say so, and the note gives the
        profile limits. A ratio beyond 1000 (per unit of a 0/1 covariate, per SD of another) stands, flagged as nearly
        separated: its Wald interval and p are not to be believed, the profile limits are.

    References
    ----------
    Efron, JASA 72, 1977 (ties); Therneau, Grambsch: Modeling Survival Data, 2000, sections 3.4 and 3.5 (infinite
    coefficients, profile likelihood), 6.2 (proportional hazards).
    """
    return _fitted(time, event, covariates, names, strata, ties, confidence, profile, bound, check)[0]


def cox_model(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    names: Sequence[str] | None = None,
    strata: ArrayLike | None = None,
    ties: str = "efron",
    confidence: float = 0.95,
    profile: bool = False,
    bound: float | None = None,
    check: bool = True,
) -> CoxModel:
    """`cox` with the tests of the whole model, its concordance and the check of proportional hazards.

    Arguments as in `cox`. As R's `summary(coxph(...))` and `cox.zph(fit, transform = "km", terms = FALSE)`.

    Returns
    -------
    CoxModel : likelihood ratio, Wald and score test against no effect (chi-squared with one degree of freedom per
        estimable term; none with an infinite coefficient for Wald's), and `concordance` of the linear predictor within
        strata (NaN where a coefficient is infinite or ties are exact).
    """
    terms, fit, dropped = _fitted(time, event, covariates, names, strata, ties, confidence, profile, bound, check)
    first = terms[0]
    likelihood_ratio = wald = score = ChiSquared(note=first.note)
    agreement, checked = Estimate(n=first.n, n_events=first.n_events, note=first.note), ()
    if fit is not None:
        df = len(fit.kept)
        likelihood_ratio = chi_squared(2 * (fit.likelihood - fit.likelihood_null), df)
        score, wald = chi_squared(fit.score, df), chi_squared(fit.wald(), df)
        agreement, checked = fit.concordance(), fit.checked if check else ()
    return CoxModel(
        terms=terms, n=first.n, n_events=first.n_events or 0, n_missing=dropped, log_likelihood=first.log_likelihood,
        log_likelihood_null=first.log_likelihood_null, likelihood_ratio=likelihood_ratio, wald=wald, score=score,
        concordance=agreement, proportional=checked, method=first.method,
        note="; ".join(dict.fromkeys(f"{term.term}: {term.note}" for term in terms if term.note)),
    )  # fmt: skip


def _fitted(
    time: ArrayLike, event: ArrayLike, covariates: pd.DataFrame | ArrayLike, names: Sequence[str] | None,
    strata: ArrayLike | None, ties: str, confidence: float, profile: bool, bound: float | None, check: bool,
) -> tuple[tuple[CoxTerm, ...], _Fit | None, int]:  # fmt: skip
    check_choice(ties, TIES, "ties")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1; found {confidence}")
    X, terms = _design(covariates, names)
    times, events = follow_up(time, event)
    layers, layered = (
        (np.zeros(len(times), object), np.ones(len(times), bool)) if strata is None else labels(strata, "strata")
    )
    same_length(time=times, covariates=X, strata=layers)
    whole = np.isfinite(times) & ~np.isnan(events) & np.isfinite(X).all(axis=1) & layered
    counts = Estimate(n=int(whole.sum()), n_events=int(events[whole].sum()), method=f"Cox, {ties.capitalize()}, Wald")
    dropped = int(len(times) - counts.n)
    if not counts.n_events:
        why, likelihood = ("no events", 0.0) if counts.n else ("no patients with all values", nan)
        return _not_made(terms, counts, why, likelihood), None, dropped
    fit = _Fit(joined_times(times[whole]), events[whole], X[whole], layers[whole], ties)
    fit.bound = bound
    return fit.terms(terms, counts, confidence, profile, check), fit, dropped


def _not_made(terms: Sequence[str], counts: Estimate, why: str, likelihood: float) -> tuple[CoxTerm, ...]:
    common = {"n": counts.n, "n_events": counts.n_events, "method": counts.method}
    common |= {"log_likelihood": likelihood, "log_likelihood_null": likelihood, "flag": "not estimable"}
    return tuple(CoxTerm(term=term, note=why, **common) for term in terms)


def _design(covariates: pd.DataFrame | ArrayLike, names: Sequence[str] | None) -> tuple[FloatArray, list[str]]:
    if isinstance(covariates, pd.DataFrame):
        covariates = coded_terms(covariates)
        names = [str(name) for name in covariates.columns]
    try:
        X = np.asarray(covariates, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("covariates must be numbers", fix="Code categories as 0/1 columns.") from error
    X = X[:, None] if X.ndim == 1 else X
    if X.ndim != 2 or not X.shape[1]:
        raise InputError(f"covariates must be (n,) or (n, k) with k >= 1; found shape {X.shape}")
    terms = [f"x{place + 1}" for place in range(X.shape[1])] if names is None else list(names)
    if len(terms) != X.shape[1]:
        raise InputError(f"{len(terms)} names for {X.shape[1]} covariates")
    return X, terms


class _Fit:
    """One model, fitted on standardised covariates so that their units change nothing."""

    bound: float | None = None

    def __init__(self, time: FloatArray, event: FloatArray, X: FloatArray, strata: NDArray, ties: str) -> None:
        self.time, self.event, self.strata, self.exact = time, event, strata, ties == "exact"
        self.risk = RiskSets.of(time, event, strata, ties)
        largest = np.abs(X).max(axis=0)
        units = np.where(largest > 0, largest, 1.0)  # so that squares neither overflow nor vanish
        centre, spread = (X / units).mean(axis=0), (X / units).std(axis=0)
        self.binary = np.array([len(np.unique(column)) == 2 for column in X.T])
        self.width = np.where(self.binary, np.ptp(X / units, axis=0), spread) / np.where(spread > 0, spread, 1.0)
        self.scale = np.where(spread > 0, spread, 1.0) * units
        self.Z = ((X / units - centre) / np.where(spread > 0, spread, 1.0))[self.risk.order]
        self.likelihood_null, gradient, information = self.risk.likelihood(self.Z, np.zeros(X.shape[1]))
        self.kept = estimable(information)
        self.score, self.best, self.likelihood, self.checked = 0.0, None, self.likelihood_null, ()
        if self.kept:
            block = information[np.ix_(self.kept, self.kept)]
            self.score = float(gradient[self.kept] @ np.linalg.solve(block, gradient[self.kept]))
            self.best: Maximum | None = maximise(self.risk, self.Z[:, self.kept])
            self.likelihood = self.best.value
            self.spread = standard_errors(self.best.information)
            self.infinite = (np.abs(self.best.step) > STILL_MOVING) | ~np.isfinite(self.spread)

    @property
    def finite(self) -> bool:
        return self.best is not None and not self.infinite.any()

    def wald(self) -> float:
        if not self.finite:
            return nan if self.kept else 0.0
        return float(self.best.beta @ self.best.information @ self.best.beta)

    def concordance(self) -> Estimate:
        """Of the linear predictor; rounded, so that patients with equal covariates are equal."""
        if self.exact or not (self.finite or not self.kept):
            why = "not defined with exact ties" if self.exact else "a coefficient is infinite"
            return Estimate(n=len(self.time), n_events=int(self.event.sum()), method="concordance", note=why)
        eta = np.zeros(len(self.time))
        if self.kept:
            beta = (
                self.best.beta if self.best.beta.any() else np.ones(len(self.kept))
            )  # R orders by a 0 that is not quite 0
            eta[self.risk.order] = (self.Z[:, self.kept] * (beta / np.abs(beta).max())).sum(axis=1)
            eta = np.round(eta, 10)
        return concordance(self.time, self.event, eta, strata=self.strata)

    def terms(
        self, names: Sequence[str], counts: Estimate, confidence: float, profile: bool, check: bool
    ) -> tuple[CoxTerm, ...]:
        if check and self.finite and not self.exact:
            order = self.risk.order
            self.checked = proportional_hazards(
                self.risk, self.Z[:, self.kept], self.best.beta, self.time[order], self.event[order],
                [names[j] for j in self.kept],
            )  # fmt: skip
        tested = {found.term: found.p for found in self.checked}
        reach = float(special.ndtri(0.5 + confidence / 2))
        made = []
        for j, name in enumerate(names):
            term = CoxTerm(
                term=name, n=counts.n, n_events=counts.n_events, method=counts.method,
                log_likelihood=self.likelihood, log_likelihood_null=self.likelihood_null,
                proportional_p=tested.get(name, nan),
            )  # fmt: skip
            made.append(self._term(term, j, reach, confidence, profile))
        return tuple(made)

    def _term(self, term: CoxTerm, j: int, reach: float, confidence: float, profile: bool) -> CoxTerm:
        if j not in self.kept:
            note = "not estimable: constant, or a combination of other terms"
            return replace(term, note=note, flag="not estimable")
        place = self.kept.index(j)
        found, error = float(self.best.beta[place]), float(self.spread[place])
        if self.infinite[place]:
            sign = "+" if found > 0 else "-"
            low, high = self._profile(place, confidence)
            note = f"coefficient is infinite ({sign}): events are perfectly separated; {_told(low, high, confidence)}"
            return replace(term, note=note, flag=f"infinite {sign}", profile_low=low, profile_high=high)
        beta, width = found / self.scale[j], error / self.scale[j]
        ratio, low, high = (_exp(beta + sign * reach * width) for sign in (0, -1, 1))
        z = found / error
        term = replace(
            term, coefficient=beta, standard_error=width, statistic=z, p=float(2 * special.ndtr(-abs(z))),
            estimate=ratio, ci_low=low, ci_high=high,
        )  # fmt: skip
        near = abs(found) * float(self.width[j]) > log(NEARLY_SEPARATED)
        if profile or near:
            low, high = self._profile(place, confidence)
            term = replace(term, profile_low=low, profile_high=high)
        if near:
            unit = "" if self.binary[j] else " per SD"
            note = f"near separation: a hazard ratio beyond {NEARLY_SEPARATED:g}{unit} is not to be believed, nor its"
            return replace(term, flag="nearly separated", note=f"{note} Wald p; {_told(low, high, confidence)}")
        if self.infinite.any():
            return replace(term, note="another term of this model runs away", flag="beside an infinite term")
        return term

    def _profile(self, place: int, confidence: float) -> tuple[float, float]:
        """Limits of the hazard ratio where twice the fall of the likelihood is chi-squared's quantile, 1 df."""
        drop = float(special.chdtri(1, 1 - confidence))
        others = [other for other in range(len(self.kept)) if other != place]
        Z, best, scale = self.Z[:, self.kept], self.best, self.scale[self.kept[place]]
        if self.bound is not None and self.infinite[place]:
            best = self._held(Z, place, others, scale)
        farthest = FARTHEST / float(np.ptp(Z[:, place]))

        def excess(value: float, start: FloatArray) -> tuple[float, FloatArray]:
            fixed = start.copy()
            fixed[place] = value
            found = maximise(self.risk, Z, start=fixed, free=others)
            return 2 * (best.value - found.value) - drop, found.beta

        at = float(best.beta[place])
        endless = np.sign(at) if self.infinite[place] else 0  # the direction in which the likelihood only rises
        low, high = (
            sign * inf if sign == endless else _limit(excess, at, best.beta, sign, farthest) for sign in (-1.0, 1.0)
        )
        return _exp(low / scale), _exp(high / scale)

    def _held(self, Z: FloatArray, place: int, others: list[int], scale: float) -> Maximum:
        """The maximum with an infinite coefficient held at the bound."""
        spread = scale * float(np.sqrt(len(Z) / max(1, len(Z) - 1)))  # the sample's SD
        start = self.best.beta.copy()
        start[place] = np.copysign(self.bound / max(1.0, spread), start[place]) * scale
        return maximise(self.risk, Z, start=start, free=others)


def _limit(excess: Excess, at: float, start: FloatArray, sign: float, farthest: float) -> float:
    """Where `excess` is 0, going from the maximum in one direction; infinite if the likelihood never falls so far."""

    def fallen(value: float) -> float:
        nonlocal start
        found, start = excess(value, start)
        return min(found, MUCH)  # an absurd coefficient has no likelihood at all

    inner, step = at, 0.25
    while True:
        outer = inner + sign * step
        if abs(outer) > max(farthest, abs(at)):  # nothing falls any more, and exp() would not hold it
            return sign * inf
        if fallen(outer) > 0:
            break
        inner, step = outer, step * 1.5
    close = 1e-10 * max(1.0, abs(outer))
    if sign < 0:
        return root_between(fallen, outer, inner, tolerance=close)
    return root_between(lambda value: -fallen(value), inner, outer, tolerance=close)


def _told(low: float, high: float, confidence: float) -> str:
    top = "infinity" if high == inf else f"{high:.3g}"
    return f"profile {100 * confidence:g} % limits of the ratio {low:.3g} to {top}"


def _exp(value: float) -> float:
    return exp(value) if value < 700 else inf
