"""Cox's proportional hazards model, with R's handling of ties, missing values and coefficients that do not exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate, FloatArray, check_choice, follow_up, labels, same_length
from mihc.estimates.survival import joined_times

CONVERGED_STEP = 1e-10  # Newton's last step, in standard deviations of the covariate
STILL_MOVING = 1e-3  # a step this long while the likelihood no longer changes: the coefficient runs to infinity
SAME_LIKELIHOOD = 1e-11
LARGEST_STEP = 5.0
NO_PIVOT = 1e-9  # share of a term's information that the other terms leave over; below it the term is not estimable


@dataclass(frozen=True, kw_only=True)
class CoxTerm(Estimate):
    """One covariate of a Cox model: `estimate` is the hazard ratio per unit, `statistic` is Wald's z."""

    term: str = ""
    coefficient: float = nan  # log hazard ratio
    standard_error: float = nan
    log_likelihood: float = nan  # of the whole model
    log_likelihood_null: float = nan


def cox(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    names: Sequence[str] | None = None,
    strata: ArrayLike | None = None,
    ties: str = "efron",
    confidence: float = 0.95,
) -> tuple[CoxTerm, ...]:
    """Hazard ratios with Wald intervals and p, as R's `coxph` (iterated until converged).

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    covariates : (n,) or (n, k) numbers, or a DataFrame of number columns, whose names become the terms.
    names : k names for covariates given as an array; x1, x2, ... otherwise.
    strata : (n,) labels; each stratum has its own baseline hazard.
    ties : "efron" (R's default) or "breslow".

    Returns
    -------
    tuple of CoxTerm : one per covariate, in their order. A patient with anything missing or infinite is left out.
        A covariate that is constant or a combination of earlier ones, and a coefficient that runs to infinity
        (a group without events, perfect separation), is NaN and its note says so; the other terms stand.

    References
    ----------
    Efron, JASA 72, 1977 (ties); Therneau, Grambsch: Modeling Survival Data, 2000, section 3.5 (infinite coefficients).
    """
    check_choice(ties, ("efron", "breslow"), "ties")
    X, terms = _design(covariates, names)
    times, events = follow_up(time, event)
    layers, layered = (
        (np.zeros(len(times), object), np.ones(len(times), bool)) if strata is None else labels(strata, "strata")
    )
    same_length(time=times, covariates=X, strata=layers)
    whole = ~np.isnan(times) & ~np.isnan(events) & np.isfinite(X).all(axis=1) & layered
    counts = Estimate(n=int(whole.sum()), n_events=int(events[whole].sum()), method=f"Cox, {ties.capitalize()}, Wald")
    if not counts.n_events:
        return _not_made(terms, counts, "no events" if counts.n else "no patients with all values")
    risk = _RiskSets.of(joined_times(times[whole]), events[whole], layers[whole], ties)
    return _terms(_fit(risk, X[whole]), terms, counts, confidence)


def _not_made(terms: Sequence[str], counts: Estimate, why: str) -> tuple[CoxTerm, ...]:
    common = {"n": counts.n, "n_events": counts.n_events, "method": counts.method}
    return tuple(CoxTerm(term=term, note=why, **common) for term in terms)


def _design(covariates: pd.DataFrame | ArrayLike, names: Sequence[str] | None) -> tuple[FloatArray, list[str]]:
    if isinstance(covariates, pd.DataFrame):
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


@dataclass(frozen=True, eq=False)
class _RiskSets:
    """Who is at risk at each event, as index arrays into the patients sorted by stratum, then falling time."""

    order: NDArray[np.int64]  # patients in that order
    deaths: NDArray[np.int64]  # places (in that order) of the events
    last: NDArray[np.int64]  # for each event: last place still at risk
    before: NDArray[np.int64]  # for each event: place before its stratum, -1 if there is none
    tie: NDArray[np.int64]  # for each event: which tied set it belongs to
    removed: FloatArray  # for each event: share of its tied set already removed (Efron), 0 for Breslow

    @classmethod
    def of(cls, time: FloatArray, event: FloatArray, strata: NDArray, ties: str) -> _RiskSets:
        layer = np.unique(strata.astype(str), return_inverse=True)[1].ravel()
        order = np.lexsort((-time, layer))
        t, d, s = time[order], event[order], layer[order]
        block = np.concatenate([[True], (t[1:] != t[:-1]) | (s[1:] != s[:-1])]).cumsum() - 1
        deaths = np.flatnonzero(d == 1)
        ends = np.concatenate([np.flatnonzero(np.diff(block)), [len(t) - 1]])
        starts = np.concatenate([[0], np.flatnonzero(np.diff(s)) + 1])
        tie = np.unique(block[deaths], return_inverse=True)[1].ravel()
        size = np.bincount(tie)
        place = np.arange(len(deaths)) - np.searchsorted(tie, tie)
        removed = place / size[tie] if ties == "efron" else np.zeros(len(deaths))
        return cls(order, deaths, ends[block[deaths]], starts[s[deaths]] - 1, tie, removed)

    def likelihood(self, X: FloatArray, beta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Log partial likelihood, its gradient and the information, for X sorted in `order`."""
        eta = X @ beta
        eta = eta - eta.max()
        weight = np.exp(eta)
        moments = np.concatenate([np.ones((len(X), 1)), X, _squares(X)], axis=1) * weight[:, None]
        sums, k = self._at_risk(moments), X.shape[1]
        if not np.all(sums[:, 0] > 0):  # weights underflowed: beta is absurd, and the step will be halved
            return -np.inf, np.zeros(k), np.zeros((k, k))
        s0, mean = sums[:, 0], sums[:, 1 : k + 1] / sums[:, :1]
        second = (sums[:, k + 1 :] / sums[:, :1]).sum(axis=0).reshape(k, k)
        gradient = (X[self.deaths] - mean).sum(axis=0)
        return float((eta[self.deaths] - np.log(s0)).sum()), gradient, second - mean.T @ mean

    def _at_risk(self, moments: FloatArray) -> FloatArray:
        total = np.concatenate([np.cumsum(moments, axis=0), np.zeros((1, moments.shape[1]))])  # [-1] is 0
        tied = np.zeros((int(self.tie.max()) + 1, moments.shape[1]))
        np.add.at(tied, self.tie, moments[self.deaths])
        return total[self.last] - total[self.before] - self.removed[:, None] * tied[self.tie]


def _squares(X: FloatArray) -> FloatArray:
    return (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)


@dataclass(frozen=True, eq=False)
class _Fit:
    beta: FloatArray  # NaN = not estimable or infinite
    error: FloatArray
    notes: list[str]
    likelihood: float
    likelihood_null: float


def _fit(risk: _RiskSets, X: FloatArray) -> _Fit:
    """Newton's method on standardised covariates, steps halved while the likelihood falls."""
    centre, scale = X.mean(axis=0), X.std(axis=0)
    Z = ((X - centre) / np.where(scale > 0, scale, 1))[risk.order]
    null, _, information = risk.likelihood(Z, np.zeros(X.shape[1]))
    kept = _estimable(information)
    notes = [
        "" if place in kept else "not estimable: constant, or a combination of other terms"
        for place in range(X.shape[1])
    ]
    beta, error, likelihood = np.full(X.shape[1], nan), np.full(X.shape[1], nan), null
    if kept:
        found, information, likelihood, step = _newton(risk, Z[:, kept])
        infinite = np.abs(step) > STILL_MOVING
        spread = _standard_errors(information)
        for place, j in enumerate(kept):
            if infinite[place] or not np.isfinite(spread[place]):
                notes[j] = (
                    f"coefficient is infinite ({'+' if found[place] > 0 else '-'}): events are perfectly separated"
                )
            else:
                beta[j], error[j] = found[place] / scale[j], spread[place] / scale[j]
        if infinite.any():
            notes = [note or "another term of this model runs away" for note in notes]
    return _Fit(beta, error, notes, likelihood, null)


def _estimable(information: FloatArray) -> list[int]:
    """Terms that add information beyond the earlier ones (pivots of a Cholesky factorisation, in order)."""
    kept: list[int] = []
    for j in range(len(information)):
        rest = information[j, j]
        if kept:
            cross = information[kept, j]
            rest = rest - cross @ np.linalg.solve(information[np.ix_(kept, kept)], cross)
        if rest > NO_PIVOT * max(information[j, j], information.diagonal().max()):
            kept.append(j)
    return kept


def _newton(risk: _RiskSets, Z: FloatArray) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """The maximum, the information there, the likelihood, and the step that was still wanted (0 where converged)."""
    beta = np.zeros(Z.shape[1])
    value, gradient, information = risk.likelihood(Z, beta)
    for _ in range(100):
        step = _newton_step(information, gradient)
        if np.abs(step).max() < CONVERGED_STEP:
            break
        following = risk.likelihood(Z, beta + step)
        for _ in range(40):
            if following[0] >= value - SAME_LIKELIHOOD * (1 + abs(value)):
                break
            step = step / 2
            following = risk.likelihood(Z, beta + step)
        gain = following[0] - value
        beta, (value, gradient, information) = beta + step, following
        if gain < SAME_LIKELIHOOD * (1 + abs(value)) and np.abs(step).max() > STILL_MOVING:
            return beta, information, value, step
    return beta, information, value, np.zeros_like(beta)


def _newton_step(information: FloatArray, gradient: FloatArray) -> FloatArray:
    step = np.linalg.lstsq(information, gradient, rcond=None)[0]
    return step * min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))


def _standard_errors(information: FloatArray) -> FloatArray:
    try:
        variance = np.linalg.inv(information).diagonal()
    except np.linalg.LinAlgError:
        return np.full(len(information), np.inf)
    return np.sqrt(np.where(variance > 0, variance, np.inf))


def _terms(fit: _Fit, terms: Sequence[str], counts: Estimate, confidence: float) -> tuple[CoxTerm, ...]:
    reach = float(special.ndtri(0.5 + confidence / 2))
    made = []
    for term, beta, error, note in zip(terms, fit.beta, fit.error, fit.notes):
        record = CoxTerm(
            term=term, coefficient=float(beta), standard_error=float(error), n=counts.n, n_events=counts.n_events,
            method=counts.method, note=note, log_likelihood=fit.likelihood, log_likelihood_null=fit.likelihood_null,
        )  # fmt: skip
        with np.errstate(over="ignore"):
            ratio, low, high = (float(np.exp(beta + sign * reach * error)) for sign in (0, -1, 1))
        z = float(beta / error)
        p = float(2 * special.ndtr(-abs(z)))
        made.append(replace(record, statistic=z, p=p, estimate=ratio, ci_low=low, ci_high=high))
    return tuple(made)
