"""Every figure of the source trial that its own text allows to be recomputed, recomputed by mihc.statistics.

The trial: anlotinib and benmelstobart in oesophageal squamous-cell carcinoma, 46 patients, of whom 43 had mIF and 41
sequencing. Quoted are figures only, each with its number in our check of the paper: "R07 26/46 56.5" is the response
rate of Table 2. R Table 2, S statistical analysis, B Table 1 and results, T Table 3 and safety, G and F genomic
alterations, K and H survival, M mIF. What the text contradicts or does not allow to be recomputed is not here.
"""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from math import comb, inf

import numpy as np
import pytest
from scipy import special, stats

from mihc import statistics

PERCENTAGES = """
    R01 1/46 2.2, R03 16/46 34.8, R04 1/46 2.2, R05 3/46 6.5, R07 26/46 56.5, R09 42/46 91.3, B01 15/46 32.6,
    B02 31/46 67.4, B03 31/46 67.4, B04 15/46 32.6, B05 14/46 30.4, B07 1/46 2.2, B09 36/46 78.3, B10 19/46 41.3,
    B11 27/46 58.7, B12 19/46 41.3, B13 27/46 58.7, B14 15/46 32.6, B15 7/46 15.2, B17 27/46 58.7, B18 45/46 97.8,
    B19 15/46 32.6, B20 12/31 38.7, T01a 43/46 93.5, T01b 13/46 28.3, T02a 22/46 47.8, T02b 5/46 10.9,
    T03a 17/46 37.0, T04a 16/46 34.8, T04b 1/46 2.2, T05a 15/46 32.6, T06a 11/46 23.9, T07a 11/46 23.9,
    T07b 1/46 2.2, T08a 10/46 21.7, T08b 2/46 4.3, T09a 9/46 19.6, T10a 9/46 19.6, T11a 7/46 15.2, T12a 7/46 15.2,
    T12b 1/46 2.2, T13a 7/46 15.2, T13b 1/46 2.2, T14a 6/46 13.0, T14b 2/46 4.3, T15a 5/46 10.9, T16a 5/46 10.9,
    T17a 4/46 8.7, T18a 4/46 8.7, T19a 3/46 6.5, T20a 3/46 6.5, T21a 3/46 6.5, T22a 3/46 6.5, T22b 1/46 2.2,
    T23a 3/46 6.5, T24a 3/46 6.5, T25a 3/46 6.5, T26a 3/46 6.5, T26b 1/46 2.2, T27a 2/46 4.3, T27b 1/46 2.2,
    T28 6/46 13.0, T29 3/46 6.5, T30 4/46 8.7, G01 35/41 85.4, G02 13/41 31.7, G03 12/41 29.3, G04 12/41 29.3,
    G05 9/41 22.0, G06 6/41 14.6, G07 4/41 9.8
"""


@pytest.mark.parametrize("printed", [line.strip() for line in PERCENTAGES.replace("\n", " ").split(",")])
def test_a_printed_percentage(printed):
    _, counts, want = printed.split()
    k, n = (int(part) for part in counts.split("/"))
    percent = Decimal(100 * k) / Decimal(n)  # rounded half up, as printed
    assert str(percent.quantize(Decimal("0.1"), ROUND_HALF_UP)) == want
    assert 100 * statistics.exact_proportion(k, n).estimate == pytest.approx(float(percent), rel=1e-12)


@pytest.mark.parametrize(
    ("number", "parts", "printed"),
    [
        ("R06", (1, 25, 16, 1, 3), 46), ("B21", (4, 2, 2, 2, 1, 1), 12), ("B22", (15, 31), 46), ("F10", (21, 1), 22),
        ("M01", (17, 26), 43), ("M02", (27, 16), 43), ("M06", (42, 4), 46),
    ],
)  # fmt: skip
def test_a_printed_sum(number, parts, printed):
    assert sum(parts) == printed, number


@pytest.mark.parametrize(("k", "low", "high"), [(26, 41.1, 71.1), (42, 79.2, 97.6)])
def test_R08_R10_the_intervals_are_clopper_and_pearsons(k, low, high):
    found, wilson = statistics.exact_proportion(k, 46), statistics.wilson_proportion(k, 46)
    assert (round(100 * found.ci_low, 1), round(100 * found.ci_high, 1)) == (low, high)
    assert (round(100 * wilson.ci_low, 1), round(100 * wilson.ci_high, 1)) != (low, high)


# ---- the two-stage design


def test_S01_S02_S03_the_printed_designs_error_rates():
    design = statistics.two_stage_design(15, 5, 46, 18, p0=0.3, p1=0.5)
    assert (round(design.alpha, 6), round(design.power, 6)) == (0.049865, 0.803206)
    assert (round(design.stop_p0, 4), round(design.expected_n_p0, 2)) == (0.7216, 23.63)


@pytest.mark.parametrize(("historical", "alpha"), [(0.293, 0.040150), (1 / 3, 0.120389)])
def test_S04_alpha_at_the_ends_of_the_historical_response_rates(historical, alpha):
    assert statistics.two_stage_design(15, 5, 46, 18, p0=historical, p1=0.5).alpha == pytest.approx(alpha, abs=5e-7)


def test_S05_S06_the_printed_design_is_simons_optimal_one_and_not_the_minimax():
    found = statistics.simon_two_stage(0.3, 0.5, alpha=0.05, beta=0.2, n_max=60)
    best, least = found.optimal, found.minimax
    assert (best.r1, best.n1, best.r, best.n) == (5, 15, 18, 46)
    assert (round(best.expected_n_p0, 2), round(best.stop_p0, 3)) == (23.63, 0.722)
    assert (least.r1, least.n1, least.r, least.n) == (6, 19, 16, 39)
    assert (round(least.expected_n_p0, 2), round(least.stop_p0, 3)) == (25.69, 0.666)


def test_S07_inference_that_knows_of_the_first_look():
    found = statistics.two_stage_proportion(26, n1=15, r1=5, n=46, p0=0.3)
    assert found.p == pytest.approx(1.599e-4, abs=5e-8)
    assert [round(100 * value, 2) for value in (found.ci_low, found.ci_high, found.median_unbiased)] == [
        41.17, 71.23, 55.52,
    ]  # fmt: skip
    assert round(100 * found.estimate, 3) == 57.266


# ---- responses by mutation


@pytest.mark.parametrize(
    ("number", "mutated", "others", "p", "odds", "low", "high"),
    [
        ("F01", (21, 33), (1, 6), 0.068388, 8.284, 0.795, 431.91),
        ("F02", (4, 4), (18, 35), 0.117871, inf, 0.535, inf),
        ("F03", (0, 4), (22, 35), 0.028936, 0.0, 0.0, 1.066),
        ("F05", (21, 30), (1, 9), 0.004986, 17.225, 1.873, 861.806),
        ("F07", (21, 35), (1, 6), 0.079522, None, None, None),
        ("F08", (4, 6), (18, 35), 0.668120, None, None, None),
        ("F09", (0, 4), (22, 37), 0.038274, None, None, None),
    ],
)
def test_fishers_tests_by_mutation(number, mutated, others, p, odds, low, high):
    table = [[k, n - k] for k, n in (mutated, others)]
    found = statistics.fisher_exact(table)
    assert found.p == pytest.approx(p, abs=5e-7), number
    if odds is not None:  # R prints its odds ratios to about three digits
        got = (found.estimate, found.ci_low, found.ci_high)
        assert got == pytest.approx((odds, low, high), rel=6e-3, abs=5e-4), number


def test_F06_no_other_test_of_the_signature_gives_p_below_0_001():
    table = [[21, 11], [1, 8]]
    one_sided, two_sided = (statistics.fisher_exact(table, alternative=side).p for side in ("greater", "two-sided"))
    plain, corrected = (stats.chi2_contingency(table, correction=correct)[1] for correct in (False, True))
    this_table = comb(32, 21) * comb(9, 1) / comb(41, 22)
    found = [plain, corrected, one_sided, two_sided - this_table / 2]
    assert [round(p, 5) for p in found] == [0.00376, 0.01177, 0.00501, 0.00406]


# ---- survival


def test_K05_the_printed_rate_is_33_of_46_with_a_log_log_interval():
    time, event = [6.0] * 13 + [20.0] * 33, [1] * 13 + [0] * 33  # nobody censored before 12 months
    found = statistics.kaplan_meier(time, event).at(12)
    values = (found.estimate, found.ci_low, found.ci_high)
    assert [round(100 * value, 3) for value in values] == [71.739, 56.359, 82.5]
    other = statistics.kaplan_meier(time, event, conf_type="log").at(12)
    assert (round(100 * other.ci_low, 1), round(100 * other.ci_high, 1)) == (59.8, 86.0)


@pytest.mark.parametrize(
    ("ratio", "low", "high", "least", "most"), [(0.18, 0.06, 0.51, 0.0011, 0.0015), (0.38, 0.14, 0.99, 0.0465, 0.0488)]
)
def test_H01_H02_the_printed_p_are_walds_of_the_printed_ratios(ratio, low, high, least, most):
    """All p that a ratio in the middle of its limits on the log scale can have, before rounding to two digits."""
    ratios, lows = np.meshgrid(*(np.linspace(value - 0.005, value + 0.005, 801) for value in (ratio, low)))
    highs = ratios**2 / lows
    fits = np.abs(highs - high) <= 0.005
    errors = np.log(highs[fits] / lows[fits]) / (2 * special.ndtri(0.975))
    p = 2 * special.ndtr(-np.abs(np.log(ratios[fits])) / errors)
    assert (round(p.min(), 4), round(p.max(), 4)) == pytest.approx((least, most), abs=1.01e-4)


def test_H03_the_printed_reduction_is_one_minus_the_ratio():
    assert round(100 * (1 - 0.27), 1) == 73.0


# ---- the mIF groups


def test_M03_M04_where_the_times_were_cut():
    assert (round(17 / 43, 4), round(27 / 43, 4)) == (0.3953, 0.6279)


def test_M05_whoever_is_still_followed_was_followed_for_17_months_at_least():
    month = 365.25 / 12
    shortest, longest = ((date(2024, 2, 29) - start).days / month for start in (date(2022, 9, 30), date(2022, 3, 1)))
    assert (round(shortest, 2), round(longest, 2)) == (16.99, 23.98)


@pytest.mark.parametrize(("small", "large", "p"), [(17, 26, 4.75e-12), (16, 27, 7.54e-12), (4, 37, 1.97e-5)])
def test_M07_M08_the_smallest_p_that_these_groups_can_have(small, large, p):
    found = statistics.rank_sum(range(small), range(small, small + large), method="exact").p
    assert found == pytest.approx(2 / comb(small + large, small), rel=1e-9)
    assert found == pytest.approx(p, rel=3e-3)
