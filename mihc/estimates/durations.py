"""How long: restricted mean survival, and how long patients were followed."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate
from mihc.estimates.records import follow_up as checked
from mihc.estimates.survival import SAME_TIME, KaplanMeier, kaplan_meier


@dataclass(frozen=True, kw_only=True)
class RestrictedMean(Estimate):
    """`estimate` is the mean time up to the horizon, in the unit of the times."""

    standard_error: float = nan


def restricted_mean(time: ArrayLike, event: ArrayLike, at: float, *, confidence: float = 0.95) -> RestrictedMean:
    """Mean survival time up to `at`: the area under the Kaplan-Meier curve, as R's `print(survfit(...), rmean = at)`.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    at : the horizon, >= 0, in the unit of `time`. Beyond the last time the curve is carried on at its last value, and
        the note says so.

    Returns
    -------
    RestrictedMean : standard error by Greenwood: the square root of the sum over event times t up to `at` of
        (area from t to `at`)² d / (r (r - d)); normal interval cut to 0..at. NaN and a note without patients.
    """
    if not (np.isfinite(at) and at >= 0):
        raise InputError(f"the horizon must be a number >= 0; found {at}")
    curve = kaplan_meier(time, event)
    common = {"n": curve.n, "n_events": curve.n_events, "method": f"restricted mean up to {at:g}, Greenwood"}
    if not curve.n:
        return RestrictedMean(**common, note=curve.note)
    inside = (curve.time <= at * (1 + SAME_TIME)) & np.isfinite(curve.time)
    starts = np.concatenate([[0.0], curve.time[inside]])
    heights = np.concatenate([[1.0], curve.survival[inside]])
    areas = heights * np.diff(np.append(np.minimum(starts, at), at))
    left = (areas[::-1].cumsum()[::-1])[1:]  # from each time up to `at`
    at_risk, died = curve.at_risk[inside].astype(float), curve.events[inside]
    counted = (died > 0) & (at_risk > died)  # after the last patient's event nothing is left
    error = sqrt(float((left[counted] ** 2 * died[counted] / (at_risk * (at_risk - died))[counted]).sum()))
    mean, reach = float(areas.sum()), float(special.ndtri(0.5 + confidence / 2)) * error
    late = at > curve.time[-1] * (1 + SAME_TIME) and curve.survival[-1] > 0
    return RestrictedMean(
        **common, estimate=mean, standard_error=error, ci_low=max(0.0, mean - reach), ci_high=min(at, mean + reach),
        note=f"nobody was followed beyond {curve.time[-1]:g}: the curve is carried on" if late else "",
    )  # fmt: skip


def follow_up(
    time: ArrayLike, event: ArrayLike, *, conf_type: str = "log-log", confidence: float = 0.95
) -> KaplanMeier:
    """How long patients were followed: Kaplan-Meier with events and censoring exchanged (reverse Kaplan-Meier).

    As R's `survfit(Surv(time, 1 - event) ~ 1)`. `.median()` is the median follow-up: how long patients would have been
    followed had nobody had the event. The median of the observed times, which is often printed instead, is shorter the
    more patients die (Schemper, Smith: Controlled Clinical Trials 17, 1996).
    """
    times, events = checked(time, event)
    return kaplan_meier(times, 1 - events, conf_type=conf_type, confidence=confidence)
