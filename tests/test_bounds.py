"""A threshold's interval carried to calls, phenotypes and counts: bounds hold, and are no wider than they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.bounds import call_doubts
from mihc.errors import PanelError
from mihc.phenotypes import Expression
from mihc.positives import Threshold, call_positives, manual_threshold, parse_expression
from mihc.regions import count_populations, region_codes

MARKERS = ("A", "B", "C")
COMPARTMENTS = dict.fromkeys(MARKERS, "cell")
AREA = {("nest", "tumour"): 2.0, ("rest", "stroma"): 4.0}


def separable(value: float, low: float, high: float) -> Threshold:
    return Threshold(value, low, high, "mixture", "separable", "")


def table(values: list[tuple[float, ...]], regions: list[str] | None = None) -> pd.DataFrame:
    cells = pd.DataFrame(values, columns=[f"{marker}_cell_mean" for marker in MARKERS[: len(values[0])]])
    cells["region"] = regions or ["nest"] * len(cells)
    cells["tissue_class"] = cells["region"].map({"nest": "tumour", "rest": "stroma", "glass": "outside"})
    return cells


def counted(cells: pd.DataFrame, thresholds: dict, phenotypes: dict[str, str]) -> pd.DataFrame:
    compartments = {marker: "cell" for marker in thresholds}
    called = call_positives(cells, thresholds, compartments=compartments, phenotypes=phenotypes)
    doubts = call_doubts(cells, thresholds, called, compartments=compartments, phenotypes=phenotypes)
    populations = {name.removesuffix("_positive").removeprefix("phenotype_"): name for name in called}
    rows = count_populations(cells.join(called), populations=populations, area_mm2=AREA, doubts=doubts)
    return rows.set_index(["region", "population"])


def test_the_interval_of_a_marker_by_hand():
    cells = table([(5.0,), (9.0,), (11.0,), (30.0,), (9.5,)], ["nest", "nest", "nest", "nest", "rest"])
    rows = counted(cells, {"A": separable(10.0, 9.0, 12.0)}, {})
    nest, rest = rows.loc[("nest", "A")], rows.loc[("rest", "A")]
    assert nest[["positive_cells_low", "positive_cells", "positive_cells_high"]].tolist() == [1, 2, 3]
    assert nest[["positivity_percent_low", "positivity_percent_high"]].tolist() == [25, 75]
    assert nest[["density_per_mm2_low", "density_per_mm2_high"]].tolist() == [0.5, 1.5]
    assert rest[["positive_cells_low", "positive_cells", "positive_cells_high"]].tolist() == [0, 0, 1]


def test_a_minus_takes_the_other_end():
    """A+ B- with A typed: fewest with B at its low end, most with B at its high end."""
    cells = table([(11.0, 1.0), (30.0, 9.5), (30.0, 1.0), (9.5, 10.5), (30.0, 11.0)])
    thresholds = {"A": manual_threshold(10.0), "B": separable(10.0, 9.0, 12.0)}
    row = counted(cells, thresholds, {"only A": "A+ B-"}).loc[("nest", "only A")]
    assert row[["positive_cells_low", "positive_cells", "positive_cells_high"]].tolist() == [2, 3, 4]


def test_what_was_typed_or_is_negative_has_no_interval():
    cells = table([(11.0, 9.5), (1.0, 1.0)])
    nothing = Threshold(100.0, math.nan, math.nan, "mixture", "negative slide", "")
    rows = counted(cells, {"A": manual_threshold(10.0), "B": nothing}, {"both": "A+ B-"})
    assert rows.filter(regex="_(low|high)$").isna().all(axis=None)
    assert rows["positive_cells"].dropna().tolist() == [1, 0, 1, 0, 0, 0]


def test_a_typed_marker_leaves_the_others_interval():
    cells = table([(11.0, 9.5), (9.5, 50.0), (1.0, 1.0)])
    rows = counted(cells, {"A": separable(10.0, 9.0, 12.0), "B": manual_threshold(9.0)}, {"both": "A+ B+"})
    assert rows.loc[("nest", "both"), ["positive_cells_low", "positive_cells", "positive_cells_high"]].tolist() == [
        0,
        1,
        2,
    ]


def test_what_cannot_be_told_has_neither_value_nor_interval():
    unclear = Threshold(math.nan, math.nan, math.nan, "mixture", "cannot tell", "")
    rows = counted(table([(11.0, 9.5)]), {"A": separable(10.0, 9.0, 12.0), "B": unclear}, {"both": "A+ B+"})
    names = ["positive_cells", "positive_cells_low", "positive_cells_high", "density_per_mm2_high"]
    assert rows.loc[("nest", "both"), names].isna().all()
    assert rows.loc[("nest", "A"), names].notna().all()


def test_without_doubts_there_are_no_columns_for_them():
    cells = table([(11.0,)])
    called = call_positives(cells, {"A": 10.0}, compartments={"A": "cell"})
    rows = count_populations(cells.join(called), populations={"A": "A_positive"}, area_mm2=AREA)
    assert not rows.filter(regex="_(low|high)$").columns.tolist()


# ---- properties: brute force over every threshold within the intervals


def expressions() -> st.SearchStrategy[str]:
    literal = st.sampled_from([f"{marker}{sign}" for marker in MARKERS for sign in "+-"])

    def larger(inner):
        joined = st.lists(inner, min_size=2, max_size=3)
        return joined.map(lambda parts: f"({' | '.join(parts)})") | joined.map(lambda parts: f"({' '.join(parts)})")

    either = st.recursive(literal, lambda inner: larger(inner) | inner.map(lambda part: f"!({part})"), max_leaves=6)
    return either.filter(_can_be_true)


def _can_be_true(text: str) -> bool:
    try:
        parse_expression(text, MARKERS)
    except PanelError:  # it contradicts itself
        return False
    return True


def calls_at(cells: pd.DataFrame, cuts: dict[str, float | None], text: str) -> np.ndarray:
    """Calls by these thresholds; None for a marker: each cell may be either, so both are tried."""
    thresholds = {m: manual_threshold(cut) for m, cut in cuts.items()}
    called = call_positives(cells, thresholds, compartments=COMPARTMENTS, phenotypes={"x": text})
    return called["phenotype_x"].to_numpy(bool)


def drawn_table(seed: int, cells: int = 40) -> tuple[pd.DataFrame, dict[str, Threshold]]:
    """Cells with whole values, and thresholds at 6 whose intervals are of several widths."""
    generator = np.random.default_rng(seed)
    values = table([tuple(row) for row in generator.integers(0, 12, (cells, 3)).astype(float)])
    ends = zip(MARKERS, generator.integers(3, 7, 3), generator.integers(6, 10, 3))
    return values, {marker: separable(6.0, float(low), float(high)) for marker, low, high in ends}


@given(text=expressions(), seed=st.integers(0, 10_000), typed=st.sampled_from(["", "A", "BC"]))
def test_no_end_lies_beyond_the_worst_thresholds_within_the_intervals(text, seed, typed):
    cells, thresholds = drawn_table(seed)
    thresholds = {m: manual_threshold(6.0) if m in typed else one for m, one in thresholds.items()}
    row = counted(cells, thresholds, {"x": text}).loc[("nest", "x")]
    within = [[6.0] if m in typed else [t.low, 6.0, *np.arange(t.low, t.high), t.high] for m, t in thresholds.items()]
    each = [calls_at(cells, dict(zip(MARKERS, cuts)), text) for cuts in itertools.product(*map(np.unique, within))]
    if np.isnan(row["positive_cells_low"]):  # the expression names typed markers only
        assert {int(calls.sum()) for calls in each} == {row["positive_cells"]}
        return
    fewest, most = np.logical_and.reduce(each).sum(), np.logical_or.reduce(each).sum()
    assert row["positive_cells_low"] <= row["positive_cells"] <= row["positive_cells_high"]
    moving = [marker for marker in text if marker in MARKERS and marker not in typed]
    if len(moving) == len(set(moving)):  # else draws beyond the ends may cross in ways that no corner shows
        assert fewest <= row["positive_cells_low"]
        assert row["positive_cells_high"] <= most
    if len(moving) == 1:  # its interval is the answer, no more and no less
        assert (row["positive_cells_low"], row["positive_cells_high"]) == (fewest, most)


@pytest.mark.parametrize("text", ["A+ | A-", "B- | A+ | A-", "!(A+ B+) | A+"])
def test_what_is_true_of_every_cell_has_no_doubt(text):
    cells = table([(a, b) for a in np.linspace(0, 20, 41) for b in np.linspace(0, 20, 41)])
    thresholds = {"A": separable(10.0, 9.0, 12.0), "B": separable(10.0, 9.0, 12.0)}
    row = counted(cells, thresholds, {"x": text}).loc[("nest", "x")]
    assert row[["positive_cells_low", "positive_cells", "positive_cells_high"]].tolist() == [41 * 41] * 3


def drawn_counts(cells: pd.DataFrame, thresholds: dict[str, Threshold], text: str, draws: int) -> np.ndarray:
    """Counts by thresholds drawn one by one: each half of a normal reaches its end at 1.96 SDs."""
    generator = np.random.default_rng(9)
    counts = []
    for _ in range(draws):
        deviates = dict(zip(thresholds, generator.normal(0, 1 / 1.959963984540054, len(thresholds))))
        cuts = {
            marker: one.value + z * ((one.high - one.value) if z > 0 else (one.value - one.low))
            for (marker, one), z in zip(thresholds.items(), deviates.values())
        }
        counts.append(int(calls_at(cells, cuts, text).sum()))
    return np.array(counts)


@pytest.mark.parametrize(
    "text", ["A+ B+", "A+ B-", "A+ | B+", "A+ B- C+", "A- B- C-", "(A+ | B+) C-", "!(A+ B+) | C+", "(A+ B-) | (A- B+)"]
)
def test_95_percent_of_thresholds_drawn_one_by_one_give_counts_within_the_ends(text):
    generator = np.random.default_rng(3)
    cells = table([tuple(row) for row in generator.lognormal(3, 1, (4000, 3))])
    thresholds = {
        marker: separable(value, value - 0.3 * width, value + width)
        for marker, value, width in zip(MARKERS, (15.0, 25.0, 30.0), (6.0, 3.0, 4.0))
    }
    low, high = (
        counted(cells, thresholds, {"x": text}).loc[("nest", "x"), f"positive_cells_{end}"] for end in ("low", "high")
    )
    counts = drawn_counts(cells, thresholds, text, 1500)
    outside = 100 * np.mean([counts < low, counts > high], axis=1)
    assert (outside > 0.5).all() and (outside < 5.0).all(), outside  # 2.5 % on either side, +- 3 SDs of 1,500 draws
    cut = [np.quantile(counts, share) for share in (0.025, 0.975)]
    assert np.allclose([low, high], cut, atol=0.12 * (cut[1] - cut[0]))


def test_independent_thresholds_reach_less_far_than_all_at_their_worst_end():
    """Two markers that matter alike: the square root of two, not two, times what one of them does."""
    cells = table([(a, b) for a in np.linspace(0, 20, 201) for b in np.linspace(0, 20, 201)])
    thresholds = {"A": separable(10.0, 9.0, 11.0), "B": separable(10.0, 9.0, 11.0)}
    both = counted(cells, thresholds, {"x": "A+ B+"}).loc[("nest", "x")]
    one = counted(cells, thresholds | {"B": manual_threshold(10.0)}, {"x": "A+ B+"}).loc[("nest", "x")]
    reach, alone = (row["positive_cells_high"] - row["positive_cells"] for row in (both, one))
    assert alone == 10 * 101  # ten more columns of 101
    assert reach / alone == pytest.approx(math.sqrt(2), abs=0.05)


def test_every_region_has_ends_of_its_own():
    """Where only one of the markers matters, its interval is all there is: nothing is shared out over the slide."""
    in_nest = [(value, 20.0) for value in np.arange(0, 20, 0.01)]  # of doubt by A alone
    in_rest = [(20.0, value) for value in np.arange(0, 20, 0.01)]  # by B alone
    cells = table(in_nest + in_rest, ["nest"] * 2000 + ["rest"] * 2000)
    thresholds = {"A": separable(10.0, 9.0, 11.0), "B": separable(10.0, 9.0, 11.0)}
    compartments = {"A": "cell", "B": "cell"}
    named = {"compartments": compartments, "phenotypes": {"x": "A+ B+"}}
    called = call_positives(cells, thresholds, **named)
    doubts = call_doubts(cells, thresholds, called, groups=region_codes(cells), **named)
    rows = count_populations(cells.join(called), populations={"x": "phenotype_x"}, area_mm2=AREA, doubts=doubts)
    for row in rows.itertuples():
        assert row.positive_cells - row.positive_cells_low == pytest.approx(100, abs=2)
        assert row.positive_cells_high - row.positive_cells == pytest.approx(100, abs=2)


@given(text=expressions(), seed=st.integers(0, 10_000), order=st.permutations(MARKERS))
def test_neither_the_order_of_markers_nor_that_of_cells_changes_an_end(text, seed, order):
    cells, thresholds = drawn_table(seed)
    shuffled = cells.sample(frac=1, random_state=seed).reset_index(drop=True)
    turned = {marker: thresholds[marker] for marker in order}
    first, second = (
        counted(one, given, {"x": text}).loc[("nest", "x")].filter(like="positive_cells")
        for one, given in ((cells, thresholds), (shuffled, turned))
    )
    assert first.equals(second)


@given(text=expressions(), seed=st.integers(0, 10_000))
def test_an_unknown_marker_widens_and_never_narrows(text, seed):
    """Every cell of a marker that cannot be told may be either: whatever it is, the true count lies within the ends."""
    cells, thresholds = drawn_table(seed)
    unclear = thresholds | {"B": Threshold(math.nan, math.nan, math.nan, "mixture", "cannot tell", "")}
    named = {"compartments": COMPARTMENTS, "phenotypes": {"x": text}}
    called = call_positives(cells, unclear, **named)["phenotype_x"]
    doubt = call_doubts(cells, unclear, call_positives(cells, unclear, **named), **named).get("phenotype_x")
    for cut in (-1.0, 6.0, 99.0):
        truth = calls_at(cells, {"A": 6.0, "B": cut, "C": 6.0}, text)
        assert not (called.fillna(False).to_numpy(bool) & ~truth).any()
        assert not (truth & ~called.fillna(True).to_numpy(bool)).any()
    if doubt is not None:
        assert called.iloc[doubt.positive].fillna(False).all()
        assert not called.iloc[doubt.negative].fillna(False).any()


@given(low=st.floats(0, 100), step=st.floats(0, 100), text=expressions())
def test_NP24_a_lower_threshold_of_a_marker_that_only_helps_calls_no_fewer(low, step, text):
    """Pos(t2) is a subset of Pos(t1) for t1 <= t2, for a marker and for what it only adds to."""
    cells = table([(float(value), 50.0, 50.0) for value in np.linspace(0, 200, 41)])
    fewer, more = (calls_at(cells, {"A": cut, "B": 60.0, "C": 40.0}, "A+ B-") for cut in (low + step, low))
    assert not (fewer & ~more).any()
    if not _hurts(parse_expression(text, MARKERS), "A"):
        fewer, more = (calls_at(cells, {"A": cut, "B": 60.0, "C": 40.0}, text) for cut in (low + step, low))
        assert not (fewer & ~more).any()


def _hurts(expression: Expression, marker: str, *, turned: bool = False) -> bool:
    """Whether a positive marker can ever take a cell out."""
    if expression.operator == "marker":
        return turned and expression.marker == marker
    turned = turned != (expression.operator == "not")
    return any(_hurts(part, marker, turned=turned) for part in expression.parts)


@given(power=st.integers(-20, 20), seed=st.integers(0, 1000))
def test_NP26_counts_scaled_by_a_power_of_two_are_called_alike(power, seed):
    values = np.random.default_rng(seed).uniform(1234, 1235, 60)  # all within a count of the threshold
    factor = 2.0**power
    plain, scaled = (
        call_positives(pd.DataFrame({"A_cell_mean": values * f}), {"A": 1234.5 * f}, compartments={"A": "cell"})[
            "A_positive"
        ].tolist()
        for f in (1.0, factor)
    )
    assert plain == scaled


@given(seed=st.integers(0, 1000))
def test_NP27_both_is_at_most_either_alone_and_the_phenotypes_sum_to_all(seed):
    cells = table([tuple(row) for row in np.random.default_rng(seed).uniform(0, 12, (50, 3))])
    phenotypes = {"both": "A+ B+", "only A": "A+ B-", "only B": "A- B+", "other": "A- B-"}
    thresholds = {marker: manual_threshold(6.0) for marker in MARKERS}
    sums = call_positives(cells, thresholds, compartments=COMPARTMENTS, phenotypes=phenotypes).sum()
    assert sums["phenotype_both"] <= min(sums["A_positive"], sums["B_positive"])
    assert sum(sums[f"phenotype_{name}"] for name in phenotypes) == len(cells)


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_NP28_positivity_lies_between_0_and_100_and_is_nothing_without_cells(seed, share):
    generator = np.random.default_rng(seed)
    places = generator.choice(["nest", "glass"], 30, p=[share, 1 - share]).tolist()
    cells = table([(value,) for value in generator.uniform(0, 20, 30)], places)
    rows = counted(cells, {"A": separable(10.0, 8.0, 13.0)}, {})
    ends = [f"positivity_percent{end}" for end in ("_low", "", "_high")]
    assert rows.loc[("rest", "A"), ends].isna().all()
    if "nest" in places:
        low, value, high = rows.loc[("nest", "A"), ends]
        assert 0 <= low <= value <= high <= 100
    else:
        assert rows.loc[("nest", "A"), ends].isna().all()


@pytest.mark.parametrize("share", [0.005, 0.05, 0.4])
def test_the_interval_contains_the_value_on_drawn_cells(share):
    from mihc.positives import choose_threshold

    generator = np.random.default_rng(8)
    positive = np.arange(4000) < 4000 * share
    values = generator.normal(200, 20, 4000) + positive * 200 * generator.lognormal(0, 0.2, 4000)
    chosen = choose_threshold(values)
    assert chosen.verdict == "separable"
    row = counted(table([(value,) for value in values]), {"A": chosen}, {}).loc[("nest", "A")]
    assert row["positivity_percent_low"] <= row["positivity_percent"] <= row["positivity_percent_high"]
    assert row["positivity_percent_low"] - 0.5 <= 100 * share <= row["positivity_percent_high"] + 0.5


def test_phenotypes_of_phenotypes_and_typed_levels_have_bounds():
    cells = table([(11.0, 1.0), (30.0, 9.5), (30.0, 25.0), (9.5, 10.5), (9.5, 30.0)])
    thresholds = {"A": separable(10.0, 9.0, 12.0), "B": manual_threshold(10.0, levels=(20.0, 29.0))}
    phenotypes = {"kind": "A+", "bright kind": "kind & B++", "dim kind": "kind & !(B++)"}
    rows = counted(cells, thresholds, phenotypes).loc["nest"][
        ["positive_cells_low", "positive_cells", "positive_cells_high"]
    ]
    assert rows.loc["kind"].tolist() == [2, 3, 5]
    assert rows.loc["bright kind"].tolist() == [1, 1, 2]
    assert rows.loc["dim kind"].tolist() == [1, 2, 3]


def test_a_phenotype_that_was_brought_is_certain():
    cells = table([(11.0, 1.0), (9.5, 1.0)])
    thresholds = {"A": separable(10.0, 9.0, 12.0), "B": separable(10.0, 0.5, 12.0)}
    phenotypes = {"kind": "A+", "kind with B": "kind & B+"}
    brought = {"kind": pd.Series([True, False], dtype="boolean")}
    compartments = {"A": "cell", "B": "cell"}
    called = call_positives(cells, thresholds, compartments=compartments, phenotypes=phenotypes, given=brought)
    doubts = call_doubts(
        cells, thresholds, called, compartments=compartments, phenotypes=phenotypes, brought=list(brought)
    )
    assert "phenotype_kind" not in doubts
    assert doubts["phenotype_kind with B"].negative.tolist() == [0]
