"""What a slide's cells may be made of: kinds of negatives, kinds of positives, and their fits to a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mihc.gating.histogram import Histogram

LIGHTS = ("log-normal", "gamma", "normal")  # kinds of the positives' light, see peak_kernels
STARTS = (0.004, 0.03, 0.15, 0.4, 0.7)  # shares of positives at which the fits start
NEAREST_SDS = 2.5  # of the negatives, that the light is bright on average; less is a shade, not a population
PENALTY = 1.0  # per parameter that a fit has more (Akaike's), in log-likelihood
NONE = -9.0  # logit of no cell
FAR_AWAY = (-12.0, 7.6, -0.9)  # an upper peak without cells
LONG_TAIL = (-2.4, 1.1, NONE)  # autofluorescence of a shape from which fits that stand still are tried again
SCOUTS, WORTH_TRYING = ("normal", "gamma"), 2  # lower peaks that try every start, and the starts that the others try
QUICK, THOROUGH = 5, 60  # rounds of a first look, and at most
CLEAN, DRIFTING, SHADES, LIT_SHADES, LOG, ROOT, LOG_BROAD, ROOT_BROAD = range(8)
SHARE, LOWER, UPPER = 0, (1, 2), (3, 4)  # places in a fit, see peak_kernels
BOTH = (SHARE, *LOWER, *UPPER)


@dataclass(frozen=True)
class Lower:
    """One idea of what the negatives look like."""

    name: str
    kind: int
    shape: tuple[float, float, float]  # the last entries of a fit, see peak_kernels
    free: tuple[int, ...] = ()  # places of the shape's entries that are fitted

    @property
    def shaded(self) -> bool:
        """Whether it holds two groups of cells by itself."""
        return self.kind in (SHADES, LIT_SHADES)

    def known(self, fit: np.ndarray) -> Lower:
        """This idea with the shape of a fit, fixed."""
        return Lower(self.name, self.kind, tuple(float(entry) for entry in fit[5:8]))


LOWERS = (
    Lower("normal", CLEAN, (NONE, 0.3, NONE)),
    Lower("normal on a drifting background", DRIFTING, (NONE, 0.3, NONE)),
    Lower("with autofluorescence in some cells", CLEAN, (-2.0, 0.3, NONE), (5, 6)),
    Lower("with autofluorescence in some cells on a drifting background", DRIFTING, (-2.0, 0.3, NONE), (5, 6)),
    Lower("with autofluorescence in all cells", CLEAN, (-NONE, 0.3, NONE), (6,)),
    Lower("with autofluorescence in all cells on a drifting background", DRIFTING, (-NONE, 0.3, NONE), (6,)),
    Lower("two shades of tissue", SHADES, (0.0, 0.7, 0.1), (5, 6, 7)),
    Lower("two shades of tissue with autofluorescence", LIT_SHADES, (0.0, 0.7, -3.0), (5, 6, 7)),
    Lower("log-normal", LOG, (NONE, -1.2, 0.7), (6,)),
    Lower("gamma", ROOT, (NONE, -1.2, 0.7), (6,)),
    Lower("log-normal with autofluorescence in some cells", LOG, (-3.0, -1.2, 0.7), (5, 6, 7)),
    Lower("gamma with autofluorescence in some cells", ROOT, (-3.0, -1.2, 0.7), (5, 6, 7)),
    Lower("log-normal with broad autofluorescence in some cells", LOG_BROAD, (-3.0, -1.2, 0.7), (5, 6, 7)),
    Lower("gamma with broad autofluorescence in some cells", ROOT_BROAD, (-3.0, -1.2, 0.7), (5, 6, 7)),
)


@dataclass(frozen=True)
class Fit:
    """A lower peak and, where `positives`, an upper one, fitted to a histogram."""

    lower: Lower
    light: int  # of LIGHTS: the positives'
    entries: np.ndarray  # (8,) see peak_kernels
    misfit: float  # negative log-likelihood but for a constant, penalties included
    positives: bool

    @property
    def penalty(self) -> float:
        """What its parameters cost."""
        return PENALTY * (len(self.lower.free) + 3 * self.positives)

    @property
    def share(self) -> float:
        """Share of the upper peak."""
        return 1 / (1 + math.exp(-self.entries[SHARE]))

    @property
    def negatives(self) -> tuple[float, float]:
        """Mean and SD of the lower peak in X."""
        from mihc.gating.peak_kernels import lower_moments

        return lower_moments(self.entries, self.lower.kind)

    @property
    def separation(self) -> float:
        """Mean light of the positives, which is the distance of the peaks' means, in SDs of the lower one."""
        return math.exp(self.entries[3]) / self.negatives[1]


class Fitter:
    """Fits peaks to one histogram."""

    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self._edges, self._centres = histogram.edges, histogram.centres
        self._splits = list(self._split_counts())

    def alone(self, lower: Lower) -> Fit:
        """The lower peak without positives."""
        everyone = self.histogram.counts
        begins = [_moments(self._centres, counts) for counts in (everyone, *(low for low, _ in self._splits[:2]))]
        fits = [
            self._improved(Fit(lower, 0, _entries(FAR_AWAY, begin, lower), 0.0, False), LOWER, QUICK)
            for begin in begins
        ]
        return self._improved(min(fits, key=lambda fit: fit.misfit), LOWER, THOROUGH)

    def sketches(self, lowers: tuple[Lower, ...]) -> Iterator[Fit]:
        """Every lower peak with every light, after a few rounds from the best of several starts.

        What few of the lower peaks make of all starts says which starts the others need. Each light is tried from where
        the lower peak's first one came, too.
        """
        first: dict[Lower, Fit] = {}
        for light in range(len(LIGHTS)):
            scouts = [lower for lower in lowers if lower.name in SCOUTS] or lowers[:1]
            tried = {lower: [self._sketch(lower, light, split) for split in self._splits] for lower in scouts}
            best = [min(misfits) for misfits in zip(*([fit.misfit for fit in fits] for fits in tried.values()))]
            worth = np.argsort(best, kind="stable")[:WORTH_TRYING]
            for lower in lowers:
                fits = tried.get(lower) or [self._sketch(lower, light, self._splits[at]) for at in worth]
                if lower in first:
                    fits = [*fits, self._improved(replace(first[lower], light=light), BOTH, QUICK)]
                found = min(fits, key=lambda fit: fit.misfit)
                first.setdefault(lower, found)
                yield found

    def _sketch(self, lower: Lower, light: int, split: tuple[np.ndarray, np.ndarray]) -> Fit:
        negatives, positives = (_moments(self._centres, counts) for counts in split)
        mean = max(positives[0] - negatives[0], 1.0)
        spread = math.sqrt(max(math.exp(2 * positives[1]) - math.exp(2 * negatives[1]), 0.01)) / mean
        upper = (math.log(split[1].sum() / split[0].sum()), math.log(mean), math.log(spread))
        return self._improved(Fit(lower, light, _entries(upper, negatives, lower), 0.0, True), BOTH, QUICK)

    def finish(self, fit: Fit, nearest_sds: float = NEAREST_SDS) -> Fit:
        """A sketch of two peaks, improved until it stands still."""
        return self._improved(fit, BOTH, THOROUGH, nearest_sds)

    def settle(self, fits: list[Fit]) -> list[Fit]:
        """Finished fits, each tried again from elsewhere, because what stands still need not be the best.

        From where the best of its lower peak stands, with the positives of the best of all, and from a long tail.
        """
        leader = min(fits, key=lambda fit: fit.misfit)
        best: dict[Lower, Fit] = {}
        for fit in fits:
            if fit.lower not in best or fit.misfit < best[fit.lower].misfit:
                best[fit.lower] = fit
        return [self._settled(fit, best[fit.lower], leader) for fit in fits]

    def _settled(self, fit: Fit, best: Fit, leader: Fit) -> Fit:
        begins = [] if fit is best else [best.entries]
        if fit.lower is not leader.lower:
            begins.append(fit.entries.copy())
            begins[-1][[SHARE, *UPPER]] = leader.entries[[SHARE, *UPPER]]
        if fit.lower.kind in (CLEAN, DRIFTING) and fit.lower.free == (5, 6):
            begins.append(np.concatenate([fit.entries[:5], LONG_TAIL]))
        tried = [self.finish(replace(fit, entries=entries)) for entries in begins]
        return min([fit, *tried], key=lambda fit: fit.misfit)

    def with_share(self, fit: Fit, logit: float, nearest_sds: float = NEAREST_SDS) -> Fit:
        """The best fit near this one with a given share of positives."""
        entries = fit.entries.copy()
        entries[SHARE] = logit
        return self._improved(replace(fit, entries=entries), (*LOWER, *UPPER), 10, nearest_sds)

    def _improved(self, fit: Fit, places: tuple[int, ...], rounds: int, nearest_sds: float = NEAREST_SDS) -> Fit:
        from mihc.gating.peak_kernels import improve

        entries, free = fit.entries.copy(), np.array((*places, *fit.lower.free))
        counts, weights = self.histogram.counts, self.histogram.weights
        misfit = improve(entries, free, fit.lower.kind, fit.light, nearest_sds, self._edges, counts, weights, rounds)
        return replace(fit, entries=entries, misfit=float(misfit) + fit.penalty)

    def density(self, fit: Fit) -> np.ndarray:
        """(bins,) share of the cells in each bin by a fit."""
        from mihc.gating.peak_kernels import expect

        out = np.empty((3, len(self.histogram.counts)))
        expect(fit.entries, fit.lower.kind, fit.light, self._edges, out)
        return out[2]

    def coarse_misfit(self, fit: Fit) -> float:
        """Half the deviance of a fit where its bins may be wrong by COARSE_ERROR."""
        counts = self.histogram.counts
        expected = counts.sum() * self.density(fit)
        terms = expected - counts + counts * np.log(np.where(counts > 0, counts, expected) / expected)
        return float((self.histogram.coarse_weights * terms).sum())

    def _split_counts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Counts below and above the places where the fits start."""
        counts = self.histogram.counts
        below = np.cumsum(counts) / counts.sum()
        places = [min(max(int(np.searchsorted(below, 1 - share)), 2), len(counts) - 2) for share in STARTS]
        if not any(below[at - 1] for at in places):  # nearly all cells lie in one bin, and the rest above it
            places = [int(np.flatnonzero(counts)[0]) + 1]
        for at in places:
            low = np.where(np.arange(len(counts)) < at, counts, 0.0)
            high = counts - low
            if low.sum() and high.sum():
                yield low, high


def _entries(upper: tuple[float, float, float], lower: tuple[float, float], shape: Lower) -> np.ndarray:
    return np.array([upper[0], *lower, *upper[1:], *shape.shape])


def _moments(places: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and log SD."""
    total = counts.sum()
    mean = (places * counts).sum() / total
    return float(mean), 0.5 * math.log(max(float(((places - mean) ** 2 * counts).sum() / total), 1e-6))
