"""The report names whose review counts, and how much it changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from table_study import write_table_study

import mihc
from mihc.reports.methods import reviewers_told
from mihc.reviews.states import EditedCell, ReviewedThreshold, SlideReview

EDITS = {"removed": frozenset({3, 4}), "added": {9: EditedCell(9, ((0, 0, 2),), ((0, 0, 3),))}}
THRESHOLD = {"CD3": ReviewedThreshold("CD3", 9.0, (), "anna", "2026-01-01T00:00:00Z", "")}
DRAWN = ({"op": "remove", "name": "T"},)
REVIEWS = {
    "S1": SlideReview("S1", "anna", removed=EDITS["removed"], added=EDITS["added"], regions=DRAWN),
    "S2": SlideReview("S2", "anna", thresholds=THRESHOLD, accepted=("",)),
    "S3": SlideReview("S3", "anna", accepted=("",)),
    "S4": SlideReview("S4", "<b>ben"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_table_study(tmp_path_factory.mktemp("tables") / "study")


def told(folder: Path, **reviews: SlideReview) -> list[str]:
    return [str(one) for one in reviewers_told(replace(mihc.read_study(folder), reviews=reviews))]


def test_each_reviewer_is_named_with_what_they_changed_and_where(folder):
    assert told(folder, **REVIEWS) == [
        "&lt;b&gt;ben reviewed 1 slide: nothing changed.",
        "anna reviewed 3 slides: 2 cells removed or changed on S1; 1 cell made or changed on S1;"
        " 1 edit of regions on S1; 1 threshold set on S2.",
        "Corrected cells move no automatic threshold; what the machine found is kept beside.",
    ]


def test_without_a_review_nothing_is_said(folder):
    assert told(folder) == []
