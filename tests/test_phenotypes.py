"""Phenotype expressions, by hand and against Python's own logic."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import PanelError
from mihc.positives import parse_expression

MARKERS = ["CD3", "CD8", "CD20", "Ki67", "PD-L1", "PD", "HLA-DR", "Pan CK"]


def truth(text: str, markers: list[str]) -> list[bool]:
    """Value of an expression over all combinations of the markers, False first."""
    rows = np.array(list(itertools.product((False, True), repeat=len(markers)))).T
    values = {name: pd.array(row, dtype="boolean") for name, row in zip(markers, rows)}
    return parse_expression(text, markers).evaluate(values).to_numpy(dtype=bool).tolist()


def test_a_space_is_and():
    assert truth("CD20+ Ki67+", ["CD20", "Ki67"]) == [False, False, False, True]


def test_a_minus_sign_is_not():
    assert truth("CD3+ CD8-", ["CD3", "CD8"]) == [False, False, True, False]


def test_a_bar_is_or_and_binds_less_than_and():
    assert truth("CD3+ CD8+ | CD20+", ["CD3", "CD8", "CD20"]) == [False, True, False, True, False, True, True, True]


def test_parentheses_and_not():
    assert truth("CD3+ & !(CD8+ | CD20+)", ["CD3", "CD8", "CD20"]) == [False] * 4 + [True] + [False] * 3


def test_marker_names_with_a_hyphen_are_matched_longest_first():
    assert parse_expression("PD-L1+ HLA-DR-", MARKERS).markers == ("PD-L1", "HLA-DR")
    assert parse_expression("PD- CD3+", MARKERS).markers == ("PD", "CD3")


def test_a_name_with_a_space_goes_in_double_quotes():
    assert parse_expression('"Pan CK"+ CD3-', MARKERS).markers == ("Pan CK", "CD3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CD9+", "no marker followed by + or - is here at character 1"),
        ("CD3+ CD8", "at character 6"),
        ("(CD3+ | CD8+", "a closing parenthesis is missing"),
        ("CD3+ |", "a marker is missing at character 7"),
        ('"CD3+', "a closing double quote is missing"),
        ("CD3+ )", "unexpected ')' at character 6"),
        ("", "a marker is missing at character 1"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_position(text, said):
    with pytest.raises(PanelError) as refused:
        parse_expression(text, MARKERS, name="T cell")
    assert said in str(refused.value)
    assert "[phenotypes] T cell" in str(refused.value)


def test_PC13_a_phenotype_that_no_cell_can_have_is_refused():
    with pytest.raises(PanelError, match="contradicts itself"):
        parse_expression("CD3+ CD3-", MARKERS)


def test_unknown_calls_follow_kleenes_logic():
    values = {
        "CD3": pd.array([True, True, False, False], dtype="boolean"),
        "CD8": pd.array([None, True, None, False], dtype="boolean"),
    }
    both = parse_expression("CD3+ CD8+", ["CD3", "CD8"]).evaluate(values)
    either = parse_expression("CD3+ | CD8+", ["CD3", "CD8"]).evaluate(values)
    assert both.isna().tolist() == [True, False, False, False]
    assert either.isna().tolist() == [False, False, True, False]


expressions = st.recursive(
    st.sampled_from(["CD3", "CD8", "CD20"]).flatmap(lambda m: st.sampled_from([f"{m}+", f"{m}-"])),
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) | ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) ({two[1]})"),
    ),
    max_leaves=8,
)


@given(text=expressions)
def test_expressions_agree_with_pythons_logic(text):
    python = text
    for marker in ("CD3", "CD8", "CD20"):
        python = python.replace(f"{marker}+", marker).replace(f"{marker}-", f"(not {marker})")
    python = python.replace("!", " not ").replace("|", " or ").replace(") (", ") and (")
    markers = ["CD3", "CD8", "CD20"]
    expected = [eval(python, dict(zip(markers, row))) for row in itertools.product((False, True), repeat=3)]
    if not any(expected):
        with pytest.raises(PanelError, match="contradicts itself"):
            parse_expression(text, markers)
        return
    assert truth(text, markers) == expected


# ---- levels

LEVELLED = {"CD3": pd.array([0, 1, 2, 3, None], dtype="UInt8")}
POSITIVE = {"CD3": pd.array([False, True, True, True, None], dtype="boolean")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CD3-", [True, False, False, False, None]),
        ("CD3+", [False, True, True, True, None]),
        ("CD3++", [False, False, True, True, None]),
        ("CD3+++", [False, False, False, True, None]),
        ("CD3+ !CD3+++", [False, True, True, False, None]),
    ],
)
def test_more_signs_ask_for_higher_levels(text, expected):
    found = parse_expression(text, ["CD3"]).evaluate(POSITIVE, LEVELLED)
    assert [None if value is pd.NA else value for value in found] == expected


def test_a_level_that_is_not_typed_is_unknown_where_the_cell_is_positive():
    found = parse_expression("CD3++", ["CD3"]).evaluate(POSITIVE)
    assert [None if value is pd.NA else value for value in found] == [False, None, None, None, None]


def test_four_signs_are_no_level():
    with pytest.raises(PanelError, match=r"CD3\+\+\+\+ is no level"):
        parse_expression("CD3++++", MARKERS)


@pytest.mark.parametrize("text", ["CD3+++ CD3-", "CD3++ !CD3+", "CD3+ CD8+ (CD3- | CD8-)"])
def test_PC13_levels_contradict_each_other_too(text):
    with pytest.raises(PanelError, match="contradicts itself"):
        parse_expression(text, MARKERS)


@pytest.mark.parametrize("text", ["CD3+ !CD3++", "CD3++ !CD3+++", "!CD3+++ CD3+", "CD3- | CD3++", "CD3++ CD3+"])
def test_PC13_levels_that_agree_are_no_contradiction(text):
    assert parse_expression(text, ["CD3"]).markers == ("CD3",)


def test_PC13_a_contradiction_is_found_among_many_markers():
    markers = [f"M{number:02d}" for number in range(40)]
    text = " ".join(f"{marker}+" for marker in markers)
    assert len(parse_expression(text, markers).markers) == 40
    with pytest.raises(PanelError, match="contradicts itself"):
        parse_expression(f"{text} M39-", markers)


# ---- phenotypes of phenotypes

TREE = {
    "T cell": "CD3+ CD20-",
    "CD8 T cell": "T cell & CD8+",
    "dividing CD8 T cell": 'Ki67+ "CD8 T cell"',
    "lymphocyte": "T cell | CD20+",
}


def parsed(name: str, phenotypes: dict[str, str] = TREE):
    return parse_expression(phenotypes[name], MARKERS, name=name, phenotypes=phenotypes)


def test_a_phenotype_may_name_another_with_and_without_quotes():
    assert parsed("CD8 T cell").markers == ("CD3", "CD20", "CD8")
    assert parsed("dividing CD8 T cell").markers == ("Ki67", "CD3", "CD20", "CD8")
    assert str(parsed("dividing CD8 T cell")) == "Ki67+ CD8 T cell"


def test_the_parent_stands_among_the_conjuncts():
    assert [parsed(name).parents for name in TREE] == [(), ("T cell",), ("CD8 T cell",), ()]


def test_a_name_that_looks_like_an_expression_is_read_as_markers_first():
    phenotypes = {"CD3+": "CD3+", "CD3+ CD8+": "CD3+ CD8+"}
    assert parsed("CD3+", phenotypes).operator == "marker"
    assert parsed("CD3+ CD8+", phenotypes).parents == ()


def test_PC13_a_contradiction_through_the_parent_is_refused_and_says_so():
    with pytest.raises(PanelError, match=r"contradicts itself \(with T cell = 'CD3\+ CD20-'\): no cell can ever match"):
        parsed("odd", TREE | {"odd": "T cell CD20+"})


@pytest.mark.parametrize("way", [{"a": "a CD3+"}, {"a": "b", "b": "CD3+ | !(c)", "c": "a CD8+"}])
def test_PC13_a_phenotype_that_is_made_of_itself_is_refused_with_the_way_round(way):
    with pytest.raises(PanelError, match="a phenotype cannot be made of itself") as refused:
        parsed("a", way)
    assert " > ".join([*way, "a"]) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("T cel CD8+", "did you mean T cell"),
        ('"T cel" CD8+', "no marker and no phenotype at character 1 of '\"T cel\" CD8+'; did you mean T cell"),
        ("T cell+ CD8+", "'T cell' is a phenotype and takes no +"),
        ("CD9+ T cell", "no marker followed by + or - and no phenotype is here at character 1 of 'CD9+ T cell'; did"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(text, said):
    with pytest.raises(PanelError) as refused:
        parse_expression(text, MARKERS, phenotypes=TREE)
    assert said in str(refused.value)


def test_parentheses_without_end_are_refused():
    with pytest.raises(PanelError, match="more than 50 parentheses"):
        parse_expression("(" * 5000 + "CD3+" + ")" * 5000, MARKERS)


names = st.sampled_from(["CD3", "CD8", "CD20"])
literals = st.tuples(names, st.sampled_from(["+", "++", "+++", "-"])).map("".join)
levelled = st.recursive(
    st.one_of(literals, st.just("parent")),
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) | ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) ({two[1]})"),
    ),
    max_leaves=6,
)
PARENT = "CD3++ | CD8-"
COMBINATIONS = list(itertools.product((None, 0, 1, 2, 3), repeat=3))
ALL_LEVELS = {m: pd.array(column, dtype="UInt8") for m, column in zip(("CD3", "CD8", "CD20"), zip(*COMBINATIONS))}
ALL_POSITIVE = {m: column >= 1 for m, column in ALL_LEVELS.items()}


def brute_force(expression, cell: dict[str, int | None]) -> bool | None:
    """Kleene's logic by its definition: what holds for every level that an unknown marker could have."""
    free = [marker for marker, level in cell.items() if level is None]
    fillings = itertools.product(range(4), repeat=len(free))
    found = {holds(expression, cell | dict(zip(free, filling))) for filling in fillings}
    return found.pop() if len(found) == 1 else None


def holds(expression, cell: dict[str, int]) -> bool:
    if expression.operator == "marker":
        return cell[expression.marker] >= expression.level
    values = [holds(part, cell) for part in expression.parts]
    return {"not": not values[0], "or": any(values)}.get(expression.operator, all(values))


@given(text=levelled)
def test_evaluation_is_the_truth_table_and_never_claims_more(text):
    try:
        expression = parse_expression(text, ["CD3", "CD8", "CD20"], phenotypes={"parent": PARENT})
    except PanelError as refused:
        assert "contradicts itself" in str(refused)
        return
    found = expression.evaluate(ALL_POSITIVE, ALL_LEVELS)
    for value, combination in zip(found, COMBINATIONS):
        true = brute_force(expression, dict(zip(("CD3", "CD8", "CD20"), combination)))
        assert value is not pd.NA or None in combination
        if value is not pd.NA:  # Kleene's logic may say "unknown" where all cases agree, and never the contrary
            assert value == true


@given(text=levelled)
def test_what_is_refused_as_a_contradiction_matches_no_cell_and_what_is_not_matches_one(text):
    complete = [dict(zip(("CD3", "CD8", "CD20"), row)) for row in itertools.product(range(4), repeat=3)]
    raw = parse_expression(f"({text}) | CD3+ | CD3-", ["CD3", "CD8", "CD20"], phenotypes={"parent": PARENT}).parts[0]
    possible = any(holds(raw, cell) for cell in complete)
    try:
        parse_expression(text, ["CD3", "CD8", "CD20"], phenotypes={"parent": PARENT})
        assert possible
    except PanelError:
        assert not possible


@given(text=levelled)
def test_a_child_is_a_subset_of_its_parent(text):
    phenotypes = {"parent": PARENT, "child": f"parent & ({text})"}
    try:
        child = parse_expression(phenotypes["child"], ["CD3", "CD8", "CD20"], phenotypes=phenotypes)
    except PanelError:
        return
    parent = parse_expression(PARENT, ["CD3", "CD8", "CD20"])
    assert "parent" in child.parents
    inside, around = (one.evaluate(ALL_POSITIVE, ALL_LEVELS) for one in (child, parent))
    assert around[inside.fillna(False)].fillna(False).all()
