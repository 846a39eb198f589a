"""How far any method could get on drawn cell values: an oracle that knows the draws' formulas, but not their numbers.

python -m benchmarks.threshold_ceiling [--draws] [--repeats N] [--first N] [--cells N]

For each drawn slide the likeliest slide without positives and the likeliest one with them are found among all that the
formulas of its draw allow: offset, width, drift of the background, part and length of the autofluorescence, share and
distance of the positives are free, all else is known. (In the other families the shape of the negatives and the width
of the positives are free too.) The oracle calls a slide separable where positives make the cells 10 times as likely,
each number more that is free costing a factor of e, as in the method; its share of positives is the likeliest slide's.
What it cannot tell, or gets wrong by more than a point, the cells do not say.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy.special import j0

from benchmarks.threshold_draws import DRIFT_SDS, GLOW_LOG_SD, GLOW_SDS, Draw, draws
from benchmarks.thresholds import CELLS, SIGNAL_SPREAD, Case, grid, repeats

POINTS = 1024  # of the grid on which densities are computed
CONVINCING = math.log(10)
NEAREST = 1.9  # SDs between the means: no draw has nearer positives
ROUNDS, NUDGE, STILL = 60, 1e-4, 1e-3
Waves = Callable[[np.ndarray, np.ndarray], np.ndarray]  # numbers of a formula, frequencies -> characteristic function


class Counted:
    """Cells counted on a grid, in SDs of the noise, and the characteristic functions' frequencies that belong to it."""

    def __init__(self, values: np.ndarray) -> None:
        low, high = values.min() - 2, values.max() + 2
        self.step = 1.3 * (high - low) / POINTS  # what a density has beyond the cells comes round to its other end
        self.low = low - 0.15 * (high - low)
        self.counts = np.bincount(((values - self.low) / self.step).astype(int), minlength=POINTS).astype(float)
        self.frequencies = 2 * np.pi * np.fft.rfftfreq(POINTS, self.step)
        self._middle = np.exp(1j * self.frequencies * (self.low + self.step / 2))

    def shares(self, wave: np.ndarray) -> np.ndarray:
        """(points,) probabilities of a characteristic function."""
        return np.maximum(np.fft.irfft(np.conj(wave / self._middle), POINTS), 1e-10)

    def wave_of(self, density: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Characteristic function of a density above 0 that has no formula for it."""
        places = self.step * (np.arange(POINTS) + 0.5)
        weights = density(places)
        return np.conj(np.fft.rfft(weights / weights.sum())) * np.exp(1j * self.frequencies * self.step / 2)


def likeliest(
    counted: Counted, formula: Callable[[np.ndarray], np.ndarray], start: list[float]
) -> tuple[float, np.ndarray]:
    """Log-likelihood and numbers of the likeliest slide near `start`, by damped scoring."""
    here = np.array(start, float)
    total, counts = counted.counts.sum(), counted.counts

    def value(at: np.ndarray) -> tuple[float, np.ndarray]:
        shares = counted.shares(formula(at))
        return float(counts @ np.log(shares)), shares

    best, shares = value(here)
    damping = 1e-2
    for _ in range(ROUNDS):
        slopes = np.array([(value(here + NUDGE * unit)[1] - shares) / NUDGE for unit in np.eye(len(here))])
        gradient = slopes @ (counts / shares)
        curvature = total * (slopes / shares) @ slopes.T
        before = best
        for _ in range(8):
            step = np.linalg.solve(curvature + np.diag(damping * np.diag(curvature) + 1e-6), gradient)
            found, there = value(here + np.clip(step, -1, 1))
            if found > best:
                here, best, shares, damping = here + np.clip(step, -1, 1), found, there, max(damping / 5, 1e-6)
                break
            damping *= 6
        if best - before < STILL:
            break
    return best, here


def _part(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -30), 30)))


def _uniform(width: float, f: np.ndarray) -> np.ndarray:
    return np.sinc(f * width / (2 * np.pi)) * np.exp(0.5j * f * width)


# ---- the grid's formulas


def grid_formula(counted: Counted, shape: str) -> Waves:
    """Numbers: offset, log SD, drift, logit of the part with autofluorescence, log of its length; with positives the
    logit of their share and the log of their distance.
    """
    f = counted.frequencies
    spread = math.sqrt(math.log1p(SIGNAL_SPREAD**2))

    def signal(mean: float) -> np.ndarray:
        if shape == "normal":
            return np.exp(1j * f * mean - (SIGNAL_SPREAD * mean * f) ** 2 / 2)
        if shape == "gamma":
            return (1 - 1j * f * mean * SIGNAL_SPREAD**2) ** (-(SIGNAL_SPREAD**-2))
        middle = math.log(mean) - spread**2 / 2
        return counted.wave_of(lambda x: np.exp(-(((np.log(x) - middle) / spread) ** 2) / 2) / x)

    def formula(numbers: np.ndarray) -> np.ndarray:
        offset, log_sd, drift, part, length = numbers[:5]
        sd, part, length = math.exp(log_sd), _part(part), math.exp(min(length, 3))
        wave = np.exp(1j * f * offset - (sd * f) ** 2 / 2) * _uniform(abs(drift), f)
        wave = wave * (1 - part + part / (1 - 1j * f * length))
        if len(numbers) == 5:
            return wave
        more = part * length
        whole = math.sqrt(sd**2 + drift**2 / 12 + 2 * part * length**2 - more**2)
        share = _part(numbers[5])
        return wave * (1 - share + share * signal(whole * max(math.exp(min(numbers[6], 4)), NEAREST)))

    return formula


GRID_STARTS = (
    [0, 0, 0.3, -6, 0],
    [0, 0, 3, -6, 0],
    [0, 0, 0.5, 3, 0],
    [0, 0, 3, 3, 0],
    [0, 0, 0.5, 9, 0],
    [0, 0, 3, 9, 0],
    [0, 0, 0.5, -2.4, 1.1],
    [0, 0, 3, -2.4, 1.1],
    [0, 0, 0.5, -4.5, 1.4],
)


def of_grid(case: Case, values: np.ndarray, _: np.ndarray) -> tuple[Counted, Waves, list, list]:
    """Cells, formula, and the numbers from which slides without and with positives are sought."""
    counted = Counted((values - 300) / 25)
    nearest = max(case.separation, 2.0)
    share = min(max(case.prevalence, 0.002), 0.6)
    positive = [[math.log(s / (1 - s)), math.log(d)] for s, d in ((share, nearest), (share / 2, nearest * 1.3))]
    starts = [start + more for start in GRID_STARTS for more in positive]
    return counted, grid_formula(counted, case.shape), list(GRID_STARTS), starts


# ---- the other families' formulas


def draw_formula(counted: Counted, case: Draw) -> Waves:
    """Numbers: offset, log scale, shape of the negatives, drift (two), logit of the part that glows; with positives the
    logit of their share, the log of their distance and their shape.
    """
    f = counted.frequencies

    def negative(shape: float, unit: np.ndarray) -> np.ndarray:
        """Characteristic function at `unit` of mean 0 and SD 1."""
        if case.family == "normal":
            return np.exp(-(unit**2) / 2)
        if case.family == "gamma":
            k = math.exp(shape)
            return np.exp(-1j * unit * math.sqrt(k)) * (1 - 1j * unit / math.sqrt(k)) ** (-k)
        log_sd = math.exp(shape)
        sd = math.exp(log_sd**2 / 2) * math.sqrt(math.expm1(log_sd**2))
        scale = unit[1] / f[1] / sd
        return lognormal(math.log(scale), log_sd) * np.exp(-1j * f * scale * math.exp(log_sd**2 / 2))

    def lognormal(middle: float, log_sd: float) -> np.ndarray:
        return counted.wave_of(lambda x: np.exp(-(((np.log(x) - middle) / log_sd) ** 2) / 2) / x)

    def positive(mean: float, shape: float, scale: float) -> np.ndarray:
        width = math.exp(shape)
        if case.family == "normal":
            return np.exp(1j * f * scale * mean - (f * scale * width) ** 2 / 2)
        back = np.exp(-2j * f * scale)
        if case.family == "gamma":
            return back * (1 - 1j * f * scale * (mean + 2) * width**2) ** (-(width**-2))
        return back * lognormal(math.log(scale * (mean + 2)) - width**2 / 2, width)

    def formula(numbers: np.ndarray) -> np.ndarray:
        offset, scale, shape, first, second, part = numbers[:6]
        scale, part = math.exp(scale), _part(part)
        wave = np.exp(1j * f * offset)
        if case.drift == "ramp":
            wave = wave * _uniform(abs(first) * scale, f) * _uniform(abs(second) * scale, f)
        if case.drift == "wave":
            wave = wave * j0(f * scale * first / 2) * np.exp(0.5j * f * scale * first)
        wave = wave * (1 - part + part * lognormal(math.log(GLOW_SDS * scale), GLOW_LOG_SD))
        dark = negative(min(max(shape, -3), 4), f * scale)
        if len(numbers) == 6:
            return wave * dark
        share = _part(numbers[6])
        bright = positive(max(math.exp(min(numbers[7], 4)), NEAREST), min(max(numbers[8], -2.5), 0.8), scale)
        return wave * ((1 - share) * dark + share * bright)

    return formula


def of_draw(case: Draw, values: np.ndarray, positive: np.ndarray) -> tuple[Counted, Waves, list, list]:
    """Cells, formula, and the numbers from which slides without and with positives are sought."""
    low, middle = np.quantile(values, [0.05, 0.25])
    places = (values - middle) / ((middle - low) / 0.97)
    counted, negative = Counted(places), places[~positive]
    shapes = {"normal": (0.0,), "gamma": (1.4, 2.2, 2.8), "log-normal": (-1.6, -1.0, -0.7)}[case.family]
    drift = [0.0, 0.0] if case.drift == "flat" else [DRIFT_SDS / 2, DRIFT_SDS / 2]
    sd = 0.7413 * np.subtract(*np.quantile(negative, [0.75, 0.25]))
    seen = ((float(np.median(negative)), math.log(sd)), (0.7, 0.0))
    starts = [[*at, shape, *drift, part] for at in seen for shape in shapes for part in (-7.0, -3.0)]
    share = min(max(case.prevalence, 0.002), 0.6)
    widths = {"normal": (0.0, 0.4, 0.7), "gamma": (-1.1,), "log-normal": (-1.2,)}[case.family]
    away = math.log(max(case.separation, 2.0) * float(negative.std()) / sd)
    more = [[math.log(share / (1 - share)), away, width] for width in widths]
    return counted, draw_formula(counted, case), starts, [start + some for start in starts for some in more]


# ---- verdicts


def oracle_row(job: tuple[Case | Draw, int]) -> dict:
    """What the oracle says of one drawn slide."""
    case, repeat = job
    values, positive = case.draw(repeat)
    counted, formula, without, with_them = (of_grid if isinstance(case, Case) else of_draw)(case, values, positive)
    none = max((likeliest(counted, formula, start) for start in without), key=lambda found: found[0])
    some = max(_seeded(counted, formula, none[1], with_them), key=lambda found: found[0])
    at = len(without[0])
    gain = some[0] - none[0] - (len(with_them[0]) - at)
    share = _part(some[1][at])
    verdict = "separable" if gain >= CONVINCING else "cannot tell"
    error = 100 * (share - positive.mean()) if verdict == "separable" else np.nan
    return asdict(case) | {"verdict": verdict, "gain": gain, "error": error, "share": share}


def _seeded(counted: Counted, formula: Waves, none: np.ndarray, starts: list) -> Iterator[tuple[float, np.ndarray]]:
    """From every start, and from the likeliest slide without positives, with some added."""
    at = len(none)
    for more in {tuple(start[at:]) for start in starts}:
        yield likeliest(counted, formula, [*none, *more])
    for start in starts:
        yield likeliest(counted, formula, start)


def tables(rows: pd.DataFrame) -> None:
    """Print how often the oracle decides, and how often it is right to a point, by parts of the draws."""
    pd.set_option("display.width", 200, "display.max_rows", 200, "display.precision", 0)
    near = rows["error"].abs() <= 1
    share = {"slides": rows["verdict"], "separable": rows["verdict"] == "separable", "and within 1 point": near}
    rows = rows.assign(**share, part=np.where(rows["prevalence"] == 0, 0, np.where(rows["separation"] >= 3, 3, 2)))
    kinds = {"slides": "count", "separable": "mean", "and within 1 point": "mean"}
    for by in (["part"], ["part", "tail"], ["part", "family"], ["tail", "prevalence", "separation"]):
        if set(by) <= set(rows):
            print(rows.groupby(by).agg(kinds) * {"slides": 1, "separable": 100, "and within 1 point": 100}, "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cells", type=int, default=0, help="only this number of cells per slide")
    parser.add_argument("--draws", action="store_true")
    parser.add_argument("--shape", default="", help="of the grid only this shape of the positives' light")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    cases = draws() if chosen.draws else grid((chosen.cells,) if chosen.cells else CELLS)
    cases = [case for case in cases if not chosen.cells or case.cells == chosen.cells]
    cases = [case for case in cases if not chosen.shape or not case.prevalence or case.shape == chosen.shape]
    with ProcessPoolExecutor(chosen.workers) as pool:
        rows = list(pool.map(oracle_row, repeats(cases, chosen.first, chosen.repeats, 2), chunksize=4))
    tables(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
