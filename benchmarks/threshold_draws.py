"""Cell values drawn as others would draw them, so that the method is not judged on its own grid alone.

Three families, none of which shares a formula with the grid of `benchmarks.thresholds`: normal groups of one background
and a free ratio of their SDs; log-normal light over a camera's offset; gamma. All three have a background that changes
over the slide (a ramp or a wave over x and y) and autofluorescent cells with a broad tail, or none. Values are means of
a cell's pixels in counts of a camera of 12, 14 or 16 bits.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import astuple, dataclass

import numpy as np

FAMILIES = ("normal", "log-normal", "gamma")
PREVALENCES = (0.0, 0.005, 0.02, 0.1, 0.4)
SEPARATIONS = (2.0, 3.0, 4.0, 6.0, 10.0)
CELLS = (2_000, 5_000, 20_000, 100_000)
FIELDS = ("flat", "ramp", "wave")  # of the background over the slide
DRIFT_SDS = 1.5  # between its darkest and its brightest place, in SDs of the flat negatives
TAILS = ("none", "autofluorescent")
GLOWING = 0.05  # share of the cells that shine by themselves
GLOW_SDS, GLOW_LOG_SD = 2.0, 0.8  # median of their light in SDs of the negatives, and the SD of its logarithm
SD_RATIOS = (1.0, 1.5, 2.0)  # of the normal positives over the negatives
BITS = (12, 14, 16)
LEVEL = 0.04  # of the camera's range: where the negatives lie


@dataclass(frozen=True)
class Draw:
    """One drawn slide and marker. The separation is the distance of the means in SDs of all negatives."""

    family: str
    prevalence: float
    separation: float
    drift: str
    tail: str
    cells: int

    def draw(self, repeat: int) -> tuple[np.ndarray, np.ndarray]:
        """(cells,) counts and (cells,) bool, which are positive."""
        generator = np.random.default_rng([zlib.crc32(repr(astuple(self)).encode()), repeat])
        positive = np.arange(self.cells) < round(self.prevalence * self.cells)
        negative = _flat(self.family, generator, self.cells)
        background = _field(self.drift, generator, self.cells)
        glow = np.zeros(self.cells)
        if self.tail == "autofluorescent":
            glow = (generator.random(self.cells) < GLOWING) * generator.lognormal(
                np.log(GLOW_SDS), GLOW_LOG_SD, self.cells
            )
        bare = negative + background + glow
        mean = bare.mean() + self.separation * bare.std()
        light = _positives(self.family, generator, self.cells, mean - background.mean() - glow.mean())
        values = np.where(positive, light, negative) + background + glow
        bits = generator.choice(BITS)
        sd = LEVEL * 2**bits * generator.choice((0.1, 0.2))  # of the negatives, in counts
        return np.clip(LEVEL * 2**bits + sd * values, 0, 2**bits - 1), positive


def _flat(family: str, generator: np.random.Generator, cells: int) -> np.ndarray:
    """(cells,) of mean 0 and SD 1."""
    if family == "normal":
        return generator.normal(0, 1, cells)
    if family == "gamma":
        shape = generator.choice((4.0, 9.0, 16.0))
        return (generator.gamma(shape, 1, cells) - shape) / np.sqrt(shape)
    log_sd = generator.choice((0.2, 0.35, 0.5))
    mean, sd = np.exp(log_sd**2 / 2), np.exp(log_sd**2 / 2) * np.sqrt(np.expm1(log_sd**2))
    return (generator.lognormal(0, log_sd, cells) - mean) / sd


def _positives(family: str, generator: np.random.Generator, cells: int, mean: float) -> np.ndarray:
    """(cells,) of that mean over the negatives' 0, in their SDs: normal, or skewed above the offset."""
    if family == "normal":
        return generator.normal(mean, generator.choice(SD_RATIOS), cells)
    signal = mean + 2.0  # above the darkest of the negatives, about
    if family == "gamma":
        shape = generator.choice((6.0, 12.0))
        return generator.gamma(shape, signal / shape, cells) - 2.0
    log_sd = generator.choice((0.25, 0.4))
    return signal * generator.lognormal(-(log_sd**2) / 2, log_sd, cells) - 2.0


def _field(kind: str, generator: np.random.Generator, cells: int) -> np.ndarray:
    """(cells,) background at each cell's place, in SDs of the flat negatives."""
    x, y = generator.random((2, cells))
    if kind == "ramp":
        angle = generator.uniform(0, np.pi / 2)
        place = x * np.cos(angle) + y * np.sin(angle)
        return DRIFT_SDS * place / (np.cos(angle) + np.sin(angle))
    if kind == "wave":
        return DRIFT_SDS / 2 * (1 + np.sin(2 * np.pi * (x + 0.5 * y + generator.random())))
    return np.zeros(cells)


def draws() -> list[Draw]:
    """Every case; without positives the separation says nothing."""
    cases = []
    for family, prevalence, drift, tail, cells in itertools.product(FAMILIES, PREVALENCES, FIELDS, TAILS, CELLS):
        for separation in SEPARATIONS if prevalence else (0.0,):
            cases.append(Draw(family, prevalence, separation, drift, tail, cells))
    return cases
