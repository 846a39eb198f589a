"""The two peaks that the automatic threshold fits: their formulas held against drawn cells, and how they are fitted."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from mihc.gating.histogram import Histogram
from mihc.gating.peaks import CLEAN, DRIFTING, LIGHTS, LIT_SHADES, LOG, LOWERS, ROOT, ROOT_BROAD, SHADES, Fitter

EDGES = np.linspace(-2, 60, 125)
DRAWN = 1_000_000
LIGHT = {"mean": 12.0, "varies": 0.4}


def tailed(values, part, lengths, generator):
    """`values` (cells,) with an exponential more in `part` of them, half of one mean length and half of the other."""
    length = np.where(generator.random(values.size) < 0.5, *lengths)
    return values + (generator.random(values.size) < part) * generator.exponential(1, values.size) * length


def drawn_negatives(kind, generator):
    """Cells of this kind with median 3 and SD 1 of the core, and the last three entries of the fit that says so."""
    normal, part = generator.normal(0, 1, DRAWN), 0.2
    logit = math.log(part / (1 - part))
    if kind == SHADES:
        bright = generator.random(DRAWN) < part
        return 3 + np.where(bright, 2 + 1.2 * normal, normal), (logit, math.log(2), math.log(1.2))
    if kind == LIT_SHADES:
        bright = generator.random(DRAWN) < part
        shades = np.where(bright, 2 + (1 + 0.08 * 2) * normal, normal)
        lit = tailed(np.zeros(DRAWN), part, (2.0, 2.0), generator)
        return 3 + shades + lit * np.where(bright, 1.16, 1.0), (logit, math.log(2), logit)
    if kind in (LOG, ROOT, ROOT_BROAD):
        skew = 0.3
        core = np.expm1(skew * normal) / skew if kind == LOG else ((1 + skew * normal / 3) ** 3 - 1) / skew
        tails = (0.6, 2.0) if kind == ROOT_BROAD else (1.0, 1.0)
        glows = core.mean() + core.std() * generator.normal(0, 1, DRAWN)
        lit = generator.random(DRAWN) < part
        more = tailed(glows, 1.0, [core.std() * 1.5 * tail for tail in tails], generator)
        return 3 + np.where(lit, more, core), (logit, math.log(skew), math.log(1.5))
    if kind == DRIFTING:
        normal = normal + 3 * (generator.integers(0, 4, DRAWN) - 1.5) / 4
    return 3 + tailed(normal, part, (1.5, 1.5), generator), (logit, math.log(1.5), -9.0)


def drawn_light(light, generator):
    mean, varies = LIGHT["mean"], LIGHT["varies"]
    if LIGHTS[light] == "log-normal":
        spread = math.log1p(varies**2)
        return generator.lognormal(math.log(mean) - spread / 2, math.sqrt(spread), DRAWN)
    if LIGHTS[light] == "gamma":
        return generator.gamma(varies**-2, mean * varies**2, DRAWN)
    return generator.normal(mean, mean * varies, DRAWN)


def peaks(shape, kind, light, *, share=0.3):
    """(3, bins) probabilities of the lower peak, the upper one, and both."""
    from mihc.gating.peak_kernels import expect

    fit = np.array(
        [math.log(share / (1 - share)), 3.0, 0.0, math.log(LIGHT["mean"]), math.log(LIGHT["varies"]), *shape]
    )
    out = np.empty((3, len(EDGES) + 1))
    expect(fit, kind, light, EDGES, out)
    return fit, out


def counted(values):
    """Shares of `values` in the bins between EDGES, the first and last open."""
    return np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1) / values.size


@pytest.mark.parametrize("kind", [CLEAN, DRIFTING, SHADES, LIT_SHADES, LOG, ROOT, ROOT_BROAD])
@pytest.mark.parametrize("light", range(len(LIGHTS)))
def test_the_upper_peak_is_the_lower_one_with_light_on_it(kind, light):
    """Each probability within chance and a thousandth of what a million drawn cells have, and the moments as well."""
    from mihc.gating.peak_kernels import lower_moments

    generator = np.random.default_rng([kind, light])
    negatives, shape = drawn_negatives(kind, generator)
    fit, out = peaks(shape, kind, light)
    assert np.abs(out[0] - counted(negatives)).max() < 2e-3
    assert np.abs(out[1] - counted(negatives + drawn_light(light, generator))).max() < 2e-3
    assert out.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert lower_moments(fit, kind) == pytest.approx((negatives.mean(), negatives.std()), rel=0.01)


@pytest.mark.parametrize("lower", LOWERS, ids=lambda lower: lower.name)
def test_what_hardly_any_cell_has_is_lost_in_no_bin(lower):
    """A tail in 1 of 8,000 cells is none; its cells belong to the core and not to the last bin."""
    shape = [-9.0 if entry == 0 and lower.kind != SHADES else value for entry, value in enumerate(lower.shape)]
    _, out = peaks(shape, lower.kind, 0)
    assert out[0].sum() == pytest.approx(1, abs=1e-9)
    assert out[0, -1] < 1e-9


def test_shares_of_a_normal_distribution_are_right_to_a_millionth():
    from mihc.gating.peak_kernels import _normal

    for x in np.linspace(-7, 7, 1401):
        assert _normal(x) == pytest.approx(statistics.NormalDist().cdf(x), abs=1.1e-6)


@pytest.mark.parametrize("tail", [0.3, 0.4, 0.5, 1.0, 7.0])
def test_a_short_tail_takes_cells_from_below_and_adds_none(tail):
    """Where the table of the normal distribution ends, too: the share below never falls as values rise."""
    from mihc.gating.peak_kernels import _tailed

    places = np.linspace(-6, 9, 3001)
    shares = np.array([_tailed(x, tail) for x in places])
    cdf = statistics.NormalDist().cdf
    truth = [cdf(x) - math.exp(0.5 / tail**2 - x / tail) * 0.5 * math.erfc((1 / tail - x) / 2**0.5) for x in places]
    assert np.abs(shares - truth).max() < 1e-5
    assert np.diff(shares).min() > -1e-6


def test_a_fit_without_positives_has_none():
    _, out = peaks((-9.0, 0.3, -9.0), CLEAN, 0, share=1e-9)
    assert not out[1].any()


# ---- fitting


def slide(share, distance, varies, seed, *, number=100_000, glow=0.0):
    generator = np.random.default_rng(seed)
    negative = generator.normal(0, 1, number) + glow * generator.exponential(1.0, number)
    light = distance * negative.std() * generator.gamma(varies**-2, varies**2, number)
    return 300 + 25 * (negative + (np.arange(number) < round(share * number)) * light)


@pytest.mark.parametrize("varies", [0.25, 0.5])
def test_a_fit_finds_share_light_and_its_variation(varies):
    fitter = Fitter(Histogram.of(slide(0.1, 8.0, varies, 1)))
    fit = min((fitter.finish(one) for one in fitter.sketches(LOWERS[:1])), key=lambda one: one.misfit)
    assert LIGHTS[fit.light] == "gamma"
    assert fit.share == pytest.approx(0.1, abs=0.003)
    assert fit.separation == pytest.approx(8, rel=0.03)
    assert math.exp(fit.entries[4]) == pytest.approx(varies, rel=0.06)


def test_fits_that_settle_are_better_where_they_stood_elsewhere_and_never_worse():
    """2 % at 4 SDs beside long tails in 8 % of the cells."""
    generator = np.random.default_rng(2)
    negative = generator.normal(0, 1, 100_000) + (generator.random(100_000) < 0.08) * generator.exponential(3, 100_000)
    light = 4 * negative.std() * generator.gamma(0.35**-2, 0.35**2, 100_000)
    fitter = Fitter(Histogram.of(300 + 25 * (negative + (np.arange(100_000) < 2_000) * light)))
    before = [fitter.finish(one) for one in fitter.sketches(LOWERS)]
    after = fitter.settle(before)
    assert all(new.misfit <= old.misfit for old, new in zip(before, after))
    assert any(new.misfit < old.misfit - 1 for old, new in zip(before, after))


def test_autofluorescence_in_some_cells_stays_within_what_it_can_add():
    """Half of the cells bright and a tenth between: what lies between is no tail of half of the dark cells."""
    from mihc.gating.peak_kernels import MOST_GLOW

    generator = np.random.default_rng(3)
    dark, bright = generator.normal(0, 1, 9_000), generator.lognormal(math.log(25), 0.4, 10_000)
    between = generator.uniform(2, 18, 2_000)
    fitter = Fitter(Histogram.of(300 + 25 * np.concatenate([dark, between, bright])))
    for lower in LOWERS[2:4]:
        for sketch in fitter.sketches((lower,)):
            fit = fitter.finish(sketch)
            part = 1 / (1 + math.exp(-fit.entries[5]))
            assert part * math.exp(fit.entries[6]) <= MOST_GLOW * (1 + 1e-9)
            assert fit.share > 0.45
