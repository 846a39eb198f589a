"""How well a marker orders patients by their outcome."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mihc.estimates.records import Estimate, FloatArray, follow_up, labels, numbers, same_length
from mihc.estimates.survival import joined_times


@dataclass(frozen=True, kw_only=True)
class Concordance(Estimate):
    """`estimate` is the share of comparable pairs in which the higher x had the earlier event, ties in x one half."""

    standard_error: float = nan
    concordant: float = 0.0
    discordant: float = 0.0
    tied: float = 0.0  # comparable pairs with equal x


def concordance(
    time: ArrayLike, event: ArrayLike, x: ArrayLike, *, strata: ArrayLike | None = None, confidence: float = 0.95
) -> Concordance:
    """Harrell's C: how often the patient with the higher `x` has the earlier event.

    As R's `concordance(Surv(time, event) ~ x, reverse = TRUE)`, and the concordance that `summary(coxph(...))` prints
    when `x` is the model's linear predictor; without `reverse` R gives 1 - C.

    Parameters
    ----------
    time, event : (n,) as in `kaplan_meier`.
    x : (n,) the marker or risk score; a patient with anything missing is dropped.
    strata : (n,) labels; only pairs within a stratum are compared.

    Returns
    -------
    Concordance : a pair is comparable if the earlier time is an event (one censored at the same time counts as
        later; two events at one time are not comparable). The standard error is the infinitesimal jackknife's
        (Therneau, Atkinson: Concordance, vignette of R's survival, 2020), the interval C +- z SE cut to 0..1, p that of
        C = 1/2. NaN and a note without a comparable pair.
    """
    times, events = follow_up(time, event)
    values = numbers(x, "x")
    layers, layered = (
        (np.zeros(len(times), object), np.ones(len(times), bool)) if strata is None else labels(strata, "strata")
    )
    same_length(time=times, x=values, strata=layers)
    whole = ~np.isnan(times) & ~np.isnan(events) & ~np.isnan(values) & layered
    layer = np.unique(layers[whole].astype(str), return_inverse=True)[1].ravel()
    t, d, values = joined_times(times[whole]), events[whole], values[whole]
    common = {"n": len(t), "n_events": int(d.sum()), "method": "Harrell's concordance, infinitesimal jackknife"}
    agree, differ, equal = _pairs(t, d, values, layer)
    concordant, discordant, tied = (float(count.sum()) / 2 for count in (agree, differ, equal))
    pairs = concordant + discordant + tied
    if not pairs:
        return Concordance(**common, note="no pair of patients can be compared")
    C = (concordant + tied / 2) / pairs
    error = sqrt(float((((agree + equal / 2) - C * (agree + differ + equal)) ** 2).sum())) / pairs
    reach = float(special.ndtri(0.5 + confidence / 2)) * error
    z = (C - 0.5) / error if error > 0 else nan
    return Concordance(
        **common, estimate=C, standard_error=error, ci_low=max(0.0, C - reach), ci_high=min(1.0, C + reach),
        statistic=z, p=float(2 * special.ndtr(-abs(z))), concordant=concordant, discordant=discordant, tied=tied,
    )  # fmt: skip


def _pairs(t: FloatArray, d: FloatArray, x: FloatArray, layer: np.ndarray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """For each patient: in how many comparable pairs it is, by their kind. One patient's row at a time."""
    counts = np.zeros((3, len(t)))
    for i in np.flatnonzero(d == 1):
        later = (layer == layer[i]) & ((t > t[i]) | ((t == t[i]) & (d == 0)))
        for kind, among in enumerate((x < x[i], x > x[i], x == x[i])):
            partners = later & among
            counts[kind] += partners
            counts[kind, i] += partners.sum()
    return counts[0], counts[1], counts[2]
