"""What a study of this size could have found: the smallest effect with a given power at a given level."""

from __future__ import annotations

from math import exp, inf, nan, sin, sqrt, tanh

import numpy as np
from scipy import special

from mihc.errors import InputError
from mihc.estimates.records import Estimate

HALF_PI = float(np.pi / 2)


def detectable_effect(
    analysis: str,
    *,
    n: int = 0,
    n_events: int | None = None,
    n_high: int | None = None,
    n_low: int | None = None,
    share: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
) -> Estimate:
    """The smallest effect that a two-sided test at `level` finds with `power`, in the patients at hand.

    Parameters
    ----------
    analysis : "cox" with n_events: the hazard ratio per standard deviation, or, with both groups' sizes, between them;
        "log_rank": between the groups. "rank_sum" with the groups' sizes: the AUC above 0.5. "spearman" with n: rho.
        "fisher" with the groups' sizes: the odds ratio against a group in which `share` respond. Every other analysis
        has no such number and gives NaN.
    n, n_events, n_high, n_low : patients, events among them, and patients in each group.

    Returns
    -------
    Estimate : `estimate` above 1 (ratios), 0.5 (AUC) or 0 (rho), its mirror image is as detectable; `method` names
        the source. Infinite where nothing could be found (no events, an empty group).

    References
    ----------
    Schoenfeld, Biometrics 39, 1983; Hsieh, Lavori, Controlled Clinical Trials 21, 2000 (a continuous covariate).
    Noether, JASA 82, 1987. Cohen, Statistical Power Analysis, 1988, chapter 6 (arcsine). Fisher's z with Bonett and
    Wright's variance.
    """
    if not (0 < level < 1 and 0 < power < 1):
        raise InputError(f"level and power must lie between 0 and 1; found {level:g} and {power:g}")
    reach = float(special.ndtri(1 - level / 2) + special.ndtri(power))
    sizes = (n_high or 0, n_low or 0)
    grouped = n_high is not None and n_low is not None
    total = sum(sizes)
    among = {"n": n or total, "n_events": n_events}
    if analysis in ("cox", "log_rank") and (grouped or analysis == "cox"):
        spread = sizes[0] * sizes[1] / total**2 if grouped and total else 0.0 if grouped else 1.0
        information = (n_events or 0) * spread
        found = _ratio(reach / sqrt(information)) if information else inf
        return Estimate(estimate=found, method="Schoenfeld 1983" if grouped else "Hsieh and Lavori 2000", **among)
    if analysis == "rank_sum" and grouped:
        found = 0.5 + reach / sqrt(12 * sizes[0] * sizes[1] / total) if all(sizes) else inf
        return Estimate(estimate=found if found < 1 else inf, method="Noether 1987", **among)
    if analysis == "spearman":
        return Estimate(estimate=_rho(reach, n) if n > 3 else inf, method="Fisher's z, Bonett and Wright 2000", **among)
    if analysis == "fisher" and grouped:
        return Estimate(estimate=_odds_ratio(reach, sizes, share), method="arcsine, Cohen 1988", **among)
    return Estimate(estimate=nan, method="", note="no detectable effect is known for this analysis", **among)


def _ratio(logarithm: float) -> float:
    return exp(logarithm) if logarithm < 700 else inf


def _rho(reach: float, n: int) -> float:
    """The correlation whose Fisher z is `reach` standard errors from 0, the error itself growing with rho."""
    rho = 0.0
    for _ in range(200):
        rho = tanh(reach * sqrt((1 + rho**2 / 2) / (n - 3)))
    return rho


def _odds_ratio(reach: float, sizes: tuple[int, int], share: float) -> float:
    """Of a group that responds more often than `share`, by the difference of the arcsines of the roots."""
    if not all(sizes) or not 0 < share < 1:
        return inf
    angle = float(np.arcsin(sqrt(share))) + reach / 2 * sqrt(1 / sizes[0] + 1 / sizes[1])
    if angle >= HALF_PI:
        return inf
    higher = sin(angle) ** 2
    return higher / (1 - higher) / (share / (1 - share))
