"""What calls say of each other: co-expression, and pairs that cannot exist, by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import PanelError
from mihc.pairs import coexpression, impossible_pairs, pair_checks, parse_pair
from mihc.positives import call_positives

MARKERS = ["CD3", "CD20", "Ki67"]


def called(rows: list[tuple], columns: tuple[str, ...] = ("CD3", "CD20")) -> pd.DataFrame:
    """Cells of (tissue class, calls ...)."""
    table = pd.DataFrame(rows, columns=["tissue_class", *(f"{name}_positive" for name in columns)])
    return table.astype({name: "boolean" for name in table.columns[1:]})


def the_pair(cells: pd.DataFrame, text: str = "CD3+ CD20+", **kwargs) -> pd.Series:
    return impossible_pairs(cells, [parse_pair(text, ["CD3", "CD20"], {})], **kwargs).iloc[0]


# ---- co-expression


def test_coexpression_by_hand():
    cells = called([("tumour", 1, 1), ("tumour", 1, 0), ("tumour", 0, 0), ("stroma", 0, 1), ("outside", 1, 1)])
    found = coexpression(cells, ["CD3", "CD20"]).set_index(["tissue_class", "marker", "other"])
    assert found.loc[("tumour", "CD3", "CD20"), ["cells", "positive_cells", "both_cells"]].tolist() == [3, 2, 1]
    assert found.loc[("tumour", "CD3", "CD20"), "percent"] == 50.0
    assert found.loc[("tumour", "CD3", "CD20"), "chance_percent"] == pytest.approx(100 / 3)
    assert found.loc[("tumour", "CD20", "CD3"), "percent"] == 100.0
    assert math.isnan(found.loc[("stroma", "CD3", "CD20"), "percent"])  # no CD3+ cell there
    assert "outside" not in found.index.get_level_values(0)


def test_a_marker_that_cannot_be_told_has_no_coexpression():
    cells = called([("tumour", 1, None), ("tumour", 1, 0)])
    assert coexpression(cells, ["CD3", "CD20"])[["both_cells", "percent"]].isna().all(axis=None)


@pytest.mark.parametrize("cells", [called([]), called([("outside", 1, 1)])])
def test_without_analysed_cells_there_is_no_row(cells):
    assert coexpression(cells, ["CD3", "CD20"]).empty
    assert coexpression(cells, ["CD3"]).empty


@given(cells=st.lists(st.tuples(st.sampled_from(["tumour", "stroma", "excluded"]), *[st.booleans()] * 3), max_size=150))
def test_coexpression_is_what_counting_one_by_one_gives(cells):
    for row in coexpression(called(cells, tuple(MARKERS)), MARKERS).itertuples():
        a, b = (MARKERS.index(name) + 1 for name in (row.marker, row.other))
        here = [cell for cell in cells if cell[0] == row.tissue_class]
        assert row.cells == len(here)
        assert row.positive_cells == sum(cell[a] for cell in here)
        assert row.both_cells == sum(cell[a] and cell[b] for cell in here)
        assert row.both_cells <= row.positive_cells or math.isnan(row.percent)


@given(cells=st.lists(st.tuples(st.just("tumour"), st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_NP27_of_two_markers_either_is_the_sum_minus_both_and_both_is_no_more_than_each(cells):
    row = the_pair(called(cells))
    either = sum(a or b for _, a, b in cells)
    assert either == row.first_cells + row.second_cells - row.both_cells
    assert row.both_cells <= min(row.first_cells, row.second_cells)
    for name in ("either", "all", "first", "second"):  # NP28: 0 to 100, NaN without a denominator
        share = row[f"percent_of_{name}"]
        assert 0 <= share <= 100 or (math.isnan(share) and name != "all")
    assert math.isnan(row.percent_of_either) if not either else row.percent_of_either == 100 * row.both_cells / either


def test_NP27_kinds_that_share_out_the_cells_sum_to_the_total():
    rng = np.random.default_rng(3)
    cells = pd.DataFrame({f"{name}_cell_mean": rng.random(500) for name in MARKERS})
    phenotypes = {
        "T": "CD3+ CD20-",
        "B": "CD20+ CD3-",
        "both": "CD3+ CD20+",
        "dividing other": "CD3- CD20- Ki67+",
        "other": "!T !B !both !dividing other",
    }
    thresholds = dict.fromkeys(MARKERS, 0.4)
    found = call_positives(cells, thresholds, compartments=dict.fromkeys(MARKERS, "cell"), phenotypes=phenotypes)
    assert found.filter(like="phenotype_").sum().sum() == 500
    assert (found.filter(like="phenotype_").sum(axis=1) == 1).all()


# ---- pairs that cannot exist


def test_a_pair_by_hand():
    cells = called([("tumour", 1, 1)] + [("tumour", 1, 0)] * 3 + [("stroma", 0, 1)] * 4 + [("outside", 1, 1)])
    row = the_pair(cells)
    assert row[["cells", "first_cells", "second_cells", "both_cells"]].tolist() == [8, 4, 5, 1]
    assert (row.percent_of_either, row.percent_of_all) == (12.5, 12.5)
    assert (row.percent_of_first, row.percent_of_second) == (25.0, 20.0)
    assert row.chance_cells == 1.0  # tumour: 4 x 1 / 4; stroma: 0 x 4 / 4
    assert math.isnan(row.touching_cells) and math.isnan(row.both_cells_corrected)
    assert (row.verdict, row.explanation) == (
        "ok",
        "At least 25 % of the CD3+ cells are wrongly called: 1 cell is both CD3+ and CD20+, which cannot be "
        "(12 % of the cells that are either).",
    )  # one cell says nothing yet


@pytest.mark.parametrize(("both", "verdict"), [(4, "ok"), (5, "ok"), (8, "warn"), (30, "fail")])
def test_a_slide_is_marked_by_the_share_of_the_rarer_kind(both, verdict):
    cells = called(
        [("tumour", 1, 1)] * both + [("tumour", 0, 1)] * (120 - both) + [("tumour", 1, 0)] * 900 + [("tumour", 0, 0)]
    )
    row = the_pair(cells)
    assert row.verdict == verdict
    check = pair_checks("S1", impossible_pairs(cells, [parse_pair("CD3+ CD20+", ["CD3", "CD20"], {})])).iloc[0]
    assert check["check"] == "impossible pair: CD3+ CD20+"
    assert (check["value"], check["unit"]) == (pytest.approx(100 * both / 120), "% of CD20+")
    assert f"{100 * both / 120:.2g} % of the CD20+ cells are wrongly called" in check["explanation"]


def test_a_pair_of_a_marker_that_cannot_be_told_is_not_known():
    row = the_pair(called([("tumour", 1, None), ("tumour", 0, 0)]))
    assert math.isnan(row.both_cells)
    assert row.verdict == "cannot tell"
    assert "could not be told" in row.explanation


def placed(rows: list[tuple]) -> pd.DataFrame:
    """Cells of radius 5 µm on a line: (x, CD3, CD20)."""
    cells = called([("tumour", a, b) for _, a, b in rows])
    return cells.assign(x_um=[float(x) for x, *_ in rows], y_um=0.0, cell_area_um2=25 * math.pi)


def test_cells_that_touch_the_other_kind_are_counted_by_hand():
    # 0 CD3 | 10 CD20 touch; 100 CD3 alone; 200 both | 210 CD3 touch; 300 both alone; 400 CD3 | 412 CD20 too far
    cells = placed(
        [(0, 1, 0), (10, 0, 1), (100, 1, 0), (200, 1, 1), (210, 1, 0), (300, 1, 1), (400, 1, 0), (412, 0, 1)]
    )
    row = the_pair(cells)
    assert row.both_cells == 2
    assert row.touching_both_cells == 1  # the one at 200; the one at 300 does not touch itself
    assert row.touching_cells == 4  # 0, 10, 200, 210


def test_the_explanation_says_whether_neighbours_can_be_the_reason():
    beside = placed([(20 * k + 10 * part, 1, part) for k in range(8) for part in (0, 1)])
    alone = placed([(40 * k, 1, 1) for k in range(8)] + [(1000 + 40 * k, 1, 0) for k in range(20)])
    assert "may have made them" in the_pair(beside).explanation
    assert "0 of the 8 touch a cell of either kind: neighbours do not explain" in the_pair(alone).explanation


def test_the_doubles_are_counted_without_and_with_correction():
    cells = called([("tumour", 1, 1)] * 6 + [("tumour", 0, 1)] * 20)
    corrected = cells.assign(CD3_positive=pd.array([True] * 2 + [False] * 24, dtype="boolean"))
    row = the_pair(cells, uncorrected=cells, corrected=corrected)
    assert (row.both_cells_uncorrected, row.both_cells_corrected) == (6, 2)
    assert "The light of touching neighbours makes 4 of 6." in row.explanation


def test_a_pair_of_phenotypes_uses_their_calls():
    cells = called([("tumour", 1, 0), ("tumour", 0, 1)]).assign(
        **{"phenotype_T cell": pd.array([True, True], dtype="boolean")}
    )
    pair = parse_pair('"T cell" & CD20+', ["CD3", "CD20"], {"T cell": "CD3+"})
    assert impossible_pairs(cells, [pair]).iloc[0].both_cells == 1  # the second cell, as the table calls it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CD3+", "has 1 part where a pair has two"),
        ("CD3+ CD20+ Ki67+", "has 3 parts where a pair has two"),
        ("CD3+ | CD20+", "has 1 part"),
        ("CD3+ CD3-", "contradicts itself"),
        ("T cell CD20+", "contradicts itself"),
    ],
)
def test_what_is_no_pair_is_refused(text, said):
    with pytest.raises(PanelError, match=said):
        parse_pair(text, MARKERS, {"T cell": "CD3+ CD20-"})


def test_parentheses_make_one_part():
    pair = parse_pair("(CD3+ Ki67+) CD20+", MARKERS, {})
    assert (str(pair.first), str(pair.second)) == ("CD3+ Ki67+", "CD20+")
