"""Automatic thresholds held against truth: a grid of drawn cell values, drawn slides, and people's gates on real data.

python -m benchmarks.thresholds [--repeats N]         the grid of drawn cell values
python -m benchmarks.thresholds --slides              drawn slides, measured through their pixels
python -m benchmarks.thresholds --data FOLDER         agreement with gates that people set (needs scikit-learn)
python -m benchmarks.thresholds --speed               20 markers on 1,000,000 cells
python -m benchmarks.thresholds --pictures FOLDER     a dozen histograms with interval and verdict
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import astuple, dataclass

import numpy as np

PREVALENCES = (0.0, 0.005, 0.02, 0.1, 0.4)
SEPARATIONS = (2.0, 3.0, 4.0, 6.0, 10.0)
CELLS = (2_000, 10_000, 50_000)
DRIFTS = (0.0, 3.0)
TAILS = ("none", "skewed", "granules")
SHAPES = ("normal", "log-normal", "gamma")
SIGNAL_SPREAD = 0.35  # SD of the positives' signal over its mean, as the drawn slides have it


@dataclass(frozen=True)
class Case:
    """One drawn slide and marker. The separation is the distance of the means in SDs of all negatives."""

    prevalence: float
    separation: float
    drift: float  # how far the background rises over the slide, in SDs of the noise
    tail: str  # autofluorescence: "none", "skewed" (exponential, one SD), "granules" (in 8 % of cells, 3 SDs)
    cells: int
    shape: str  # of the positives' signal

    def draw(self, repeat: int) -> tuple[np.ndarray, np.ndarray]:
        """(cells,) counts and (cells,) bool, which are positive."""
        generator = np.random.default_rng([zlib.crc32(repr(astuple(self)).encode()), repeat])
        positive = np.arange(self.cells) < round(self.prevalence * self.cells)
        negative = negatives(self, generator)
        signal = self.separation * negative.std() * _signal(self.shape, generator, self.cells)
        return 300 + 25 * (negative + positive * signal), positive


def negatives(case: Case, generator: np.random.Generator) -> np.ndarray:
    """(cells,) values without any marker, in SDs of the noise."""
    values = generator.normal(0, 1, case.cells) + case.drift * generator.random(case.cells)
    if case.tail == "skewed":
        values += generator.exponential(1.0, case.cells)
    if case.tail == "granules":
        values += (generator.random(case.cells) < 0.08) * generator.exponential(3.0, case.cells)
    return values


def _signal(shape: str, generator: np.random.Generator, cells: int) -> np.ndarray:
    """(cells,) with mean 1 and SD SIGNAL_SPREAD."""
    if shape == "normal":
        return generator.normal(1, SIGNAL_SPREAD, cells)
    if shape == "gamma":
        return generator.gamma(SIGNAL_SPREAD**-2, SIGNAL_SPREAD**2, cells)
    spread = np.sqrt(np.log1p(SIGNAL_SPREAD**2))
    return generator.lognormal(-(spread**2) / 2, spread, cells)


def grid() -> list[Case]:
    """Every case; without positives, separation and shape say nothing."""
    cases = []
    for prevalence, drift, tail, cells in itertools.product(PREVALENCES, DRIFTS, TAILS, CELLS):
        if not prevalence:
            cases.append(Case(prevalence, 0.0, drift, tail, cells, "normal"))
            continue
        for separation, shape in itertools.product(SEPARATIONS, SHAPES):
            cases.append(Case(prevalence, separation, drift, tail, cells, shape))
    return cases
