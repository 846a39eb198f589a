"""The slides of a study as a reviewer's list, and whose review of each counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mihc.errors import DamagedError, StudyProblems, UsageError
from mihc.reviewing.tables import table
from mihc.reviews.final import held_final, read_final, write_final
from mihc.reviews.journal import journal_file, read_journal, reviewer_name
from mihc.reviews.states import replay, standing
from mihc.store import Store
from mihc.study import read_study

if TYPE_CHECKING:
    import pandas as pd

    from mihc.study import Study

WORST = ("fail", "warn", "ok")  # verdicts of qc.csv, the gravest first
NOT_MEASURED, NOT_BEGUN, BEGUN, ACCEPTED = "not measured", "not begun", "begun", "accepted"
COLUMNS = ("slide", "patient", "cells", "qc", "unclear", "review", "gestures", "final")


def slide_list(study: Study, reviewer: str = "") -> pd.DataFrame:
    """The slides of a study, in the order of slides.csv.

    Returns
    -------
    DataFrame
        `slide, patient`; `cells`: how many; `qc`: the gravest verdict of its checks; `unclear`: markers whose threshold
        cannot tell, with commas between; `review`: "not measured", "not begun", "begun", "accepted" or "damaged", of
        this reviewer; `gestures`: how many stand; `final`: whose review counts.
    """
    import pandas as pd

    store, quality, thresholds = Store(study.results), table(study, "qc"), table(study, "thresholds")
    final, _ = read_final(study.folder, [row.slide for row in study.slides])
    rows = []
    for row in study.slides:
        record = store.record("positives", row.slide) if study.results.is_dir() else None
        verdicts = set(quality.loc[quality["slide"] == row.slide, "verdict"]) if len(quality) else set()
        mine = thresholds[thresholds["slide"] == row.slide] if len(thresholds) else thresholds
        unclear = mine.loc[mine["verdict"] == "cannot tell", "marker"] if len(mine) else ()
        state, count = _review(study, reviewer, row.slide) if record else (NOT_MEASURED, 0)
        worst = next((one for one in WORST if one in verdicts), "")
        cells = record.notes["cells"] if record else None
        rows.append((row.slide, row.patient, cells, worst, ", ".join(unclear), state, count, final.of(row.slide)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"cells": "Int64"})


def slide_checks(study: Study, slide: str) -> pd.DataFrame:
    """What the checks of a slide have to say, the gravest first: rows of qc.csv; empty before the first tables."""
    quality = table(study, "qc")
    if quality.empty:
        return quality
    mine = quality[quality["slide"] == slide]
    return mine.sort_values("verdict", key=lambda verdicts: verdicts.map(WORST.index), kind="stable", ignore_index=True)


def _review(study: Study, reviewer: str, slide: str) -> tuple[str, int]:
    if not reviewer:
        return NOT_BEGUN, 0
    try:
        lines = read_journal(journal_file(study.folder, reviewer, slide))
    except DamagedError:
        return "damaged", 0
    if "" in replay(slide, reviewer, lines).accepted:
        return ACCEPTED, len(standing(lines))
    return (BEGUN if standing(lines) else NOT_BEGUN), len(standing(lines))


def final_reviewer(study: Study, slide: str) -> str:
    """Whose review of a slide counts; "" for nobody's."""
    return read_final(study.folder, [row.slide for row in study.slides])[0].of(slide)


def choose_final(folder: str | Path, reviewer: str, *, slides: Sequence[str] | None = None) -> None:
    """Let a reviewer's work count from the next run on, for some slides or (None) for all; "" = nobody's.

    Raises
    ------
    UsageError
        When the reviewer has reviewed nothing, or a slide is not in slides.csv.
    StudyProblems
        When review/final.toml is damaged; it is left as it is.
    """
    folder = Path(folder)
    known = [row.slide for row in read_study(folder).slides]
    unknown = [slide for slide in slides or () if slide not in known]
    if unknown:
        raise UsageError(f"slides.csv has no slide {unknown[0]!r}", fix=f"It has {', '.join(known[:10])}.")
    if reviewer and not (folder / "review" / reviewer_name(reviewer)).is_dir():
        raise UsageError(f"{reviewer} has reviewed nothing in this study", place=str(folder / "review"))
    with held_final(folder):
        final, problems = read_final(folder, known)
        if problems:
            raise StudyProblems(problems)
        if slides is None:
            write_final(folder, replace(final, reviewer=reviewer, slides={}))
        else:
            write_final(folder, replace(final, slides={**final.slides, **dict.fromkeys(slides, reviewer)}))
