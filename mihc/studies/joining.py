"""Do the patients of slides.csv and clinical.csv meet? Ids join exactly or not at all; near-misses are errors."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable

from mihc.errors import Problem

EXAMPLES = 5
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
DASHES = re.compile("[\u2010-\u2015\u2212]")
# Letters of other alphabets that look like a Latin one: Cyrillic and Greek capitals, and small ones.
LOOK_ALIKES = str.maketrans(
    "АВСЕНІЈКМОРТХУЅавсеоріхуѕјԁһΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγικνορτυχ",
    "ABCEHIJKMOPTXYSabceopixysjdhABEZHIKMNOPTYXayikvoptux",
)


def _without_leading_zeros(text: str) -> str:
    number = re.fullmatch(r"(\d+)\.0+", text)  # 1.0, as a program writes an id that it took for a number
    return re.sub(r"(?<!\d)0+(?=\d)", "", number.group(1) if number else text)


# Each step undoes one thing that people and programs do to ids; the first that makes two ids equal names it.
DIFFERENCES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("an invisible character", lambda text: INVISIBLE.sub("", text)),
    ("a space", lambda text: "".join(text.split())),
    ("an accented letter written in another way", lambda text: unicodedata.normalize("NFKC", text)),
    ("capital letters", str.casefold),
    ("a leading zero", _without_leading_zeros),
    ("another dash", lambda text: DASHES.sub("-", text)),
    ("a letter of another alphabet that looks alike", lambda text: text.translate(LOOK_ALIKES).casefold()),
)


def plain(identifier: str) -> str:
    """An id without everything that makes near-misses."""
    for _, undo in DIFFERENCES:
        identifier = undo(identifier)
    return identifier


def difference(one: str, other: str) -> str:
    """Name what keeps two ids apart, "" when they are different beyond a near-miss.

    One kind alone is named if it suffices, else every kind that is needed to make them equal.
    """
    for name, undo in DIFFERENCES:
        if undo(one) == undo(other):
            return name
    needed = []
    for name, undo in DIFFERENCES:
        undone = undo(one), undo(other)
        if undone != (one, other):
            needed.append(name)
        one, other = undone
        if one == other:
            return " and ".join(needed)
    return ""


def check_join(
    slide_patients: Iterable[str], clinical_patients: Iterable[str], *, min_match: float, table: str = "clinical.csv"
) -> list[Problem]:
    """Compare the patients of slides.csv with those of the clinical table.

    Parameters
    ----------
    slide_patients, clinical_patients
        Ids as they are written; order and repetition change nothing.
    min_match
        Share of the slides' patients that must be in the clinical table.
    table
        What the clinical table's file is called.

    Returns
    -------
    list of Problem
        Errors: no match at all, fewer than `min_match`, near-misses. Warnings: who is in one table only, counted.
    """
    slides, clinical = set(slide_patients), set(clinical_patients)
    if not slides or not clinical:
        return []
    near = _near_misses(slides - clinical, clinical, table)
    matched = slides & clinical
    if not matched:
        what = (
            f"0 of {len(slides)} patients of slides.csv are in {table}; "
            f"slides.csv has {_examples(slides)}; {table} has {_examples(clinical)}"
        )
        return [Problem(table, what, "Write the same ids in both tables."), *near]
    problems = near
    if len(matched) < min_match * len(slides):
        what = f"only {len(matched)} of {len(slides)} patients of slides.csv are in {table}"
        share = math.floor(100 * len(matched) / len(slides)) / 100
        fix = f"Add the others, or write min_match = {share} under [clinical] in study.toml."
        problems.append(Problem(table, f"{what}; missing {_examples(slides - clinical)}", fix))
    return problems + _alone(slides - clinical, clinical - slides, table)


def _near_misses(unmatched: set[str], clinical: set[str], table: str) -> list[Problem]:
    by_plain: dict[str, list[str]] = {}
    for identifier in sorted(clinical):
        by_plain.setdefault(plain(identifier), []).append(identifier)
    return [
        Problem(
            "slides.csv, column patient",
            f"{patient!r} is not in {table}, but {candidate!r} is: near-miss, {difference(patient, candidate)}",
            "Write the id in the same way in both tables.",
        )
        for patient in sorted(unmatched)
        for candidate in by_plain.get(plain(patient), [])
    ]


def _alone(only_slides: set[str], only_clinical: set[str], table: str) -> list[Problem]:
    problems = []
    if only_slides:
        who = "1 patient with slides has" if len(only_slides) == 1 else f"{len(only_slides)} patients with slides have"
        what = f"{who} no row: {_examples(only_slides)}"
        fix = "They are measured, and left out of every comparison with outcomes."
        problems.append(Problem(table, what, fix, "warning"))
    if only_clinical:
        who = "1 patient has" if len(only_clinical) == 1 else f"{len(only_clinical)} patients have"
        what = f"{who} no slide: {_examples(only_clinical)}"
        problems.append(Problem(table, what, "They are in no table and no test.", "warning"))
    return problems


def near_pairs(identifiers: Iterable[str]) -> list[tuple[str, str, str]]:
    """Ids of one table that are near-misses of each other: (one, other, what differs)."""
    by_plain: dict[str, list[str]] = {}
    for identifier in sorted(set(identifiers)):
        by_plain.setdefault(plain(identifier), []).append(identifier)
    return [(group[0], other, difference(group[0], other)) for group in by_plain.values() for other in group[1:]]


def _examples(identifiers: set[str]) -> str:
    listed = sorted(identifiers)
    more = f" and {len(listed) - EXAMPLES} more" if len(listed) > EXAMPLES else ""
    return ", ".join(map(repr, listed[:EXAMPLES])) + more
