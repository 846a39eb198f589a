"""Kaplan-Meier curves and log-rank tests, by the rules of R's package survival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mihc.estimates.records import Estimate, FloatArray, check_choice, follow_up, in_order, labels, same_length

SAME_TIME = 1.5e-8  # relative; R's timefix
CONF_TYPES = ("log-log", "log", "plain", "logit", "arcsin")


def joined_times(time: FloatArray) -> FloatArray:
    """Times that differ only by rounding (within 1.5e-8 of the mean time) made equal, as R's `timefix`.

    0.3 and 0.1 + 0.2 are one time; without this rule log-rank's p moved by up to 0.12 in reference cases.
    """
    distinct = np.unique(time[np.isfinite(time)])
    if len(distinct) < 2:
        return time
    gaps = np.diff(distinct)
    new = np.concatenate([[True], (gaps > SAME_TIME) & (gaps / np.abs(distinct).mean() > SAME_TIME)])
    firsts = distinct[new]
    return np.where(np.isfinite(time), firsts[np.searchsorted(firsts, time, side="right") - 1], time)


@dataclass(frozen=True, kw_only=True)
class SurvivalAt(Estimate):
    """Survival at one time."""

    standard_error: float = nan  # Greenwood, of survival itself; NaN once survival is 0
    at_risk: int = 0  # still followed just before the time


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """A survival curve: one entry per distinct time at which somebody had an event or was last seen."""

    time: FloatArray
    survival: FloatArray  # just after each time
    ci_low: FloatArray  # NaN where the interval is undefined (after survival reached 0; log-log and logit also at 1)
    ci_high: FloatArray
    at_risk: NDArray[np.int64]  # just before each time
    events: NDArray[np.int64]
    censored: NDArray[np.int64]
    standard_error: FloatArray  # Greenwood, of survival itself
    n: int
    n_events: int
    method: str
    note: str = ""

    def median(self) -> Estimate:
        """The first time at which survival is below one half; see `quantile`."""
        return self.quantile(0.5)

    def quantile(self, fraction: float) -> Estimate:
        """The time by which `fraction` have had the event, with limits, by R's rule.

        The first time with survival < 1 - fraction; where survival equals it, the middle of that flat stretch (or of
        its start and the last follow-up). The same rule on the confidence curves gives the limits. NaN = not reached.
        """
        value, low, high = (
            _crossing(self.time, curve, 1 - fraction) for curve in (self.survival, self.ci_low, self.ci_high)
        )
        note = self.note or ("not reached" if np.isnan(value) else "")
        return Estimate(
            estimate=value, ci_low=low, ci_high=high, n=self.n, n_events=self.n_events, method=self.method, note=note
        )

    @property
    def cumulative_hazard(self) -> FloatArray:
        """Nelson and Aalen's estimate at each time (R's `cumhaz`)."""
        return np.cumsum(self.events / self.at_risk)

    def at(self, t: float) -> SurvivalAt:
        """Survival at time `t` with its interval: 1 before the first time, and after the last time its last value."""
        if not self.n:
            return SurvivalAt(n=0, n_events=0, method=self.method, note=self.note)
        place = int(np.searchsorted(self.time, t * (1 + SAME_TIME), side="right")) - 1
        value, low, high, error = (1.0, 1.0, 1.0, 0.0) if place < 0 else (
            float(curve[place]) for curve in (self.survival, self.ci_low, self.ci_high, self.standard_error)
        )  # fmt: skip
        late = t > self.time[-1] * (1 + SAME_TIME)
        return SurvivalAt(
            estimate=value, ci_low=low, ci_high=high, n=self.n, n_events=self.n_events, method=self.method,
            standard_error=error, at_risk=self.number_at_risk(t),
            note=f"nobody was followed beyond {self.time[-1]:g}" if late else "",
        )  # fmt: skip

    def number_at_risk(self, t: float) -> int:
        """How many are still followed just before `t`."""
        place = int(np.searchsorted(self.time, t * (1 - SAME_TIME), side="left"))
        return int(self.at_risk[place]) if place < len(self.time) else 0


def kaplan_meier(
    time: ArrayLike, event: ArrayLike, *, conf_type: str = "log-log", confidence: float = 0.95
) -> KaplanMeier:
    """The Kaplan-Meier curve with Greenwood's variance, as R's `survfit(Surv(time, event) ~ 1, conf.type = ...)`.

    Parameters
    ----------
    time : (n,) follow-up >= 0 in the endpoint's unit.
    event : (n,) 1 = event, 0 = censored. A patient with NaN in either is dropped.
    conf_type : scale of the interval: "log-log" (default, as SAS and most trial reports; R's own default is "log"),
        "log", "plain", "logit" or "arcsin".

    Returns
    -------
    KaplanMeier : empty arrays and a note if nobody has both values. For follow-up time by reverse Kaplan-Meier give
        `1 - event`.
    """
    check_choice(conf_type, CONF_TYPES, "conf_type")
    times, events = follow_up(time, event)
    whole = ~np.isnan(times) & ~np.isnan(events)
    times, events = joined_times(times[whole]), events[whole]
    distinct, place = np.unique(times, return_inverse=True)
    leaving = np.bincount(place, minlength=len(distinct))
    died = np.bincount(place, weights=events, minlength=len(distinct)).astype(np.int64)
    at_risk = len(times) - np.cumsum(leaving) + leaving
    survival = np.cumprod((at_risk - died) / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_error = np.sqrt(np.cumsum(died / (at_risk * (at_risk - died).astype(float))))
        standard_error = np.where(survival > 0, survival * log_error, nan)
        z = float(special.ndtri(0.5 + confidence / 2))
        low, high = _limits(survival, log_error, z, conf_type)
    return KaplanMeier(
        distinct, survival, low, high, at_risk, died, leaving - died, standard_error, len(times), int(events.sum()),
        f"Kaplan-Meier, Greenwood, {conf_type}", "" if len(times) else "no patients with time and event",
    )  # fmt: skip


def kaplan_meier_by(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, *, conf_type: str = "log-log", confidence: float = 0.95
) -> dict[object, KaplanMeier]:
    """One curve per group, in the groups' order, as R's `survfit(Surv(time, event) ~ group)`.

    `group` (n,) holds labels of any kind; None, NaN and "" are missing, and such a patient is in no curve.
    """
    times, events = follow_up(time, event)
    names, named = labels(group, "group")
    same_length(time=times, group=names)
    return {
        name: kaplan_meier(times[members], events[members], conf_type=conf_type, confidence=confidence)
        for name in in_order(names[named].tolist())
        for members in [np.array([named[place] and names[place] == name for place in range(len(names))], dtype=bool)]
    }


def _limits(S: FloatArray, log_error: FloatArray, z: float, conf_type: str) -> tuple[FloatArray, FloatArray]:
    """The interval of S on the asked scale; `log_error` is the standard error of log S."""
    alive = np.where(S > 0, S, nan)
    inner = np.where((S > 0) & (S < 1), S, nan)
    if conf_type == "plain":
        return np.maximum(S - z * S * log_error, 0), np.minimum(S + z * S * log_error, 1)
    if conf_type == "log":
        return np.exp(np.log(alive) - z * log_error), np.minimum(np.exp(np.log(alive) + z * log_error), 1)
    if conf_type == "log-log":
        middle, reach = np.log(-np.log(inner)), z * log_error / np.log(inner)
        return np.exp(-np.exp(middle - reach)), np.exp(-np.exp(middle + reach))
    if conf_type == "logit":
        middle, reach = special.logit(inner), z * log_error / (1 - inner)
        return special.expit(middle - reach), special.expit(middle + reach)
    middle, reach = np.arcsin(np.sqrt(alive)), z * log_error / 2 * np.sqrt(alive / (1 - alive))
    return np.sin(np.maximum(middle - reach, 0)) ** 2, np.sin(np.minimum(middle + reach, np.pi / 2)) ** 2


def _crossing(time: FloatArray, curve: FloatArray, level: float) -> float:
    equal = np.abs(curve - level) < SAME_TIME
    below = np.flatnonzero((curve < level) & ~equal)
    if not equal.any():
        return float(time[below[0]]) if len(below) else nan
    start = int(np.flatnonzero(equal)[0])
    if len(below) and below[0] < start:
        return float(time[below[0]])
    later = np.flatnonzero(~equal[start:] & ~np.isnan(curve[start:]))
    end = time[start + later[0]] if len(later) else time[-1]
    return float((time[start] + end) / 2)


@dataclass(frozen=True, kw_only=True)
class LogRank(Estimate):
    """A log-rank test: `statistic` is chi-squared; per group what was observed and what equal hazards would give."""

    groups: tuple[object, ...] = ()
    group_n: tuple[int, ...] = ()
    observed: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()
    df: int = 0
    p_chi_squared: float = nan  # R's p, where `p` is by permutation (`log_rank_permuted`)


def log_rank(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    rho: float = 0.0,
    trend: bool = False,
) -> LogRank:
    """Compare survival between groups by the log-rank test with hypergeometric variance, as R's `survdiff`.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    group : (n,) labels of any kind; None, NaN and "" are missing. A patient with anything missing is dropped.
    strata : (n,) labels; the comparison is made within each and summed.
    rho : weight S(t-)^rho of the pooled curve: 0 log-rank, 1 Peto-Peto.
    trend : test for a trend over ordered groups (Tarone: Biometrika 62, 1975), 1 degree of freedom: the groups count
        as their own numbers, or as 1, 2, ... in their order where the labels are text. Without tied events it is the
        score test of `cox` on that number.

    Returns
    -------
    LogRank : chi-squared with (groups expecting events) - 1 degrees of freedom; NaN and a note with fewer than two
        groups or without events.
    """
    times, events = follow_up(time, event)
    names, named = labels(group, "group")
    layers, layered = (
        (np.zeros(len(times), object), np.ones(len(times), bool)) if strata is None else labels(strata, "strata")
    )
    same_length(time=times, group=names, strata=layers)
    whole = ~np.isnan(times) & ~np.isnan(events) & named & layered
    times, events, layers = joined_times(times[whole]), events[whole], layers[whole]
    groups, member = coded(names[whole])
    counts = dict(n=len(times), n_events=int(events.sum()), method="log-rank" if rho == 0 else f"G-rho, rho = {rho:g}")
    if len(groups) < 2:
        return LogRank(**counts, groups=tuple(groups), note="fewer than two groups")
    observed, expected, variance = np.zeros(len(groups)), np.zeros(len(groups)), np.zeros((len(groups),) * 2)
    for layer in coded(layers)[0]:
        inside = np.array([value == layer for value in layers])
        parts = _hypergeometric(times[inside], events[inside], member[inside], len(groups), rho)
        observed, expected, variance = observed + parts[0], expected + parts[1], variance + parts[2]
    if trend:
        chi_squared, df = _trend(observed - expected, variance, groups)
        counts["method"] += ", trend"
    else:
        chi_squared, df = _quadratic(observed - expected, variance, expected > 0)
    return LogRank(
        **counts, statistic=chi_squared, p=float(special.chdtrc(df, chi_squared)) if df > 0 else nan, df=df,
        groups=tuple(groups), group_n=tuple(int(count) for count in np.bincount(member, minlength=len(groups))),
        observed=tuple(observed.tolist()), expected=tuple(expected.tolist()),
        note="" if df > 0 else "no events" if not events.any() else "only one group was ever at risk of an event",
    )  # fmt: skip


def coded(values: NDArray[np.object_]) -> tuple[list[object], NDArray[np.int64]]:
    """Distinct labels in order, and each value's place among them."""
    distinct = in_order(values.tolist())
    places = {label: place for place, label in enumerate(distinct)}
    return distinct, np.array([places[value] for value in values], dtype=np.int64)


def _hypergeometric(
    time: FloatArray, event: FloatArray, member: NDArray, k: int, rho: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Observed and expected events per group and their covariance, summed over the event times of one stratum."""
    at = np.unique(time[event == 1])
    risk = np.stack([(time[member == g][:, None] >= at).sum(axis=0) for g in range(k)], axis=1).astype(float)
    died = np.stack([(time[(member == g) & (event == 1)][:, None] == at).sum(axis=0) for g in range(k)], axis=1)
    n, d = risk.sum(axis=1), died.sum(axis=1).astype(float)
    before = np.concatenate([[1.0], np.cumprod(1 - d / n)[:-1]]) if len(at) else np.ones(0)
    weight, share = before**rho, risk / n[:, None] if len(at) else risk
    spread = weight**2 * d * np.where(n > 1, (n - d) / np.maximum(n - 1, 1), 0)
    variance = np.diag(spread @ share) - np.einsum("t,ti,tj->ij", spread, share, share)
    return weight @ died, (weight * d) @ share, variance


def _trend(excess: FloatArray, variance: FloatArray, groups: Sequence[object]) -> tuple[float, int]:
    numeric = all(isinstance(group, (int, float, np.number)) for group in groups)
    scores = np.array(groups if numeric else range(1, len(groups) + 1), dtype=float)
    scores = scores / np.abs(scores).max() if np.abs(scores).max() > 0 else scores
    scores = scores - scores.mean()
    spread = float(scores @ variance @ scores)
    return (float((scores @ excess) ** 2 / spread), 1) if spread > 1e-14 else (nan, 0)


def _quadratic(excess: FloatArray, variance: FloatArray, used: NDArray[np.bool_]) -> tuple[float, int]:
    df = int(used.sum()) - 1
    if df < 1:
        return 0.0 if df < 0 else nan, df
    keep = np.flatnonzero(used)[:-1]  # the last group's excess is minus the sum of the others'
    block = variance[np.ix_(keep, keep)]
    if np.linalg.matrix_rank(block) < len(keep):
        return nan, 0
    return float(excess[keep] @ np.linalg.solve(block, excess[keep])), df
