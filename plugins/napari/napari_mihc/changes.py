"""What a save changed, as rows and words that people read; without Qt."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

import mihc

HEADS = ("what", "before", "after")
SHOWN = ("positivity_percent", "density_per_mm2")  # of what changed in regions; the tables in results/ have it all
UNITS = {"positivity_percent": "%", "density_per_mm2": "per mm²"}


def changed_rows(changes: mihc.review.Changes) -> pd.DataFrame:
    """Regions' positivity and density, patients' values with their groups, and each test's p: HEADS."""
    rows = [*_regions(changes), *_patients(changes), *_tests(changes)]
    return pd.DataFrame(rows, columns=list(HEADS))


def changes_in_words(changes: mihc.review.Changes) -> str:
    """How much changed, in how long, and what went wrong."""
    counts = [
        f"{len(rows)} {what}{'s' * (len(rows) != 1)} of {whose}"
        for rows, what, whose in (
            (changes.regions, "number", "regions"),
            (changes.patients, "value", "patients"),
            (changes.statistics, "result", "tests"),
        )
    ]
    lines = [f"Changed: {', '.join(counts)}, in {changes.seconds:.1f} s."]
    if changes.report is None:
        lines.append("The report is written by the next run, or by Save with report.")
    return "\n".join([*lines, *(f"FAILED {slide}: {what}" for slide, what in changes.failed.items())])


def _regions(changes: mihc.review.Changes) -> Iterator[tuple]:
    for one in changes.regions[changes.regions["measure"].isin(SHOWN)].itertuples():
        yield f"{one.slide} {one.region}: {one.population}, {UNITS[one.measure]}", one.before, one.after


def _patients(changes: mihc.review.Changes) -> Iterator[tuple]:
    for one in changes.patients.itertuples():
        before, after = f"{one.before:.4g} ({one.group_before})", f"{one.after:.4g} ({one.group_after})"
        yield f"patient {one.patient}: {_in_words(one.column)}", before, after


def _tests(changes: mihc.review.Changes) -> Iterator[tuple]:
    for one in changes.statistics.itertuples():
        parts = (one.analysis, one.endpoint, one.population, one.tissue_class, UNITS.get(one.measure, ""))
        yield (
            f"p: {_in_words(' '.join(str(part) for part in parts if part == part and part))}",
            one.p_before,
            one.p_after,
        )


def _in_words(column: str) -> str:
    """A column of patients.csv as people read it."""
    for name, unit in UNITS.items():
        column = column.replace(name, unit)
    return column.replace("|", ", ").replace("_", " ")
