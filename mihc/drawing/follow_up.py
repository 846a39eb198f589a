"""Response and survival times that depend on a density by a planted hazard ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd

SHAPE = 1.25  # of the Weibull times, the same for progression and death, so that their minimum is Weibull too
PROGRESSION_MONTHS = 13.0  # scale for a patient of mean density
DEATH_MONTHS = 30.0
LIVER_HAZARD_RATIO = 1.4
FOLLOW_UP_MONTHS = (20.0, 44.0)  # from inclusion to the closing of the data


def standardised(density: np.ndarray) -> np.ndarray:
    """log1p(density) with mean 0 and SD 1 (n - 1) over the patients, as a Cox model of the study sees it."""
    logged = np.log1p(np.asarray(density, dtype=float))
    spread = logged.std(ddof=1) if len(logged) > 1 else 0.0
    return (logged - logged.mean()) / spread if spread > 0 else np.zeros_like(logged)


def draw_follow_up(density: pd.Series | np.ndarray, *, hazard_ratio: float, seed: int) -> pd.DataFrame:
    """Draw one follow-up of a cohort.

    Parameters
    ----------
    density
        (n,) cells per mm², one per patient; the index of a Series gives the patient ids.
    hazard_ratio
        Of progression and of death, per SD of log1p(density); below 1 = a high density protects.
    seed
        The same seed gives the same follow-up.

    Returns
    -------
    DataFrame
        patient, age, sex, ecog, liver_metastasis, signature, best_response, pfs_months, pfs_event, os_months,
        os_event. Death and progression have proportional Weibull hazards; PFS ends with the first of them, and both
        end with the closing of the data. liver_metastasis raises both hazards by 1.4; age, sex, ecog and signature
        have no effect.
    """
    rng = np.random.default_rng(seed)
    patients = (
        density.index.astype(str) if isinstance(density, pd.Series) else [f"{i + 1:03d}" for i in range(len(density))]
    )
    n = len(patients)
    liver = rng.random(n) < 0.3
    log_hazard = np.log(hazard_ratio) * standardised(np.asarray(density)) + np.log(LIVER_HAZARD_RATIO) * (liver - 0.3)
    progression, death = (
        scale * (rng.exponential(1.0, n) / np.exp(log_hazard)) ** (1 / SHAPE)
        for scale in (PROGRESSION_MONTHS, DEATH_MONTHS)
    )
    closing = rng.uniform(*FOLLOW_UP_MONTHS, n)
    pfs = np.minimum(progression, death)
    return pd.DataFrame(
        {
            "patient": list(patients),
            "age": np.clip(np.rint(rng.normal(64, 9, n)), 35, 88).astype(int),
            "sex": rng.choice(["f", "m"], n),
            "ecog": rng.choice([0, 1, 2], n, p=[0.45, 0.42, 0.13]),
            "liver_metastasis": np.where(liver, "yes", "no"),
            "signature": rng.choice(["APOBEC", "clock-like", "smoking"], n, p=[0.3, 0.4, 0.3]),
            "best_response": _response(pfs, rng),
            "pfs_months": _months(np.minimum(pfs, closing)),
            "pfs_event": (pfs <= closing).astype(int),
            "os_months": _months(np.minimum(death, closing)),
            "os_event": (death <= closing).astype(int),
        }
    )


def _months(time: np.ndarray) -> np.ndarray:
    return np.maximum(np.round(time, 2), 0.03)


def _response(pfs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Best response, as it goes with the time to progression: those who progress at the first scan are PD or NE."""
    score = np.log(np.maximum(pfs, 0.1)) + rng.normal(0, 0.45, len(pfs))
    best = np.select([score > np.log(24), score > np.log(11), score > np.log(4.5)], ["CR", "PR", "SD"], "PD")
    return np.where((pfs < 1.2) & (rng.random(len(pfs)) < 0.6), "NE", best)
