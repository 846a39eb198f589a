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
