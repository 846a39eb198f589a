"""Cells and regions as CSV, the one that a spreadsheet opens and runs nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mihc import store
from mihc.errors import UsageError, quoted_path
from mihc.exports.sources import Source


def write_cells_csv(path: Path, source: Source) -> None:
    """Write a slide's cells part by part, so that a million of them need no more memory than some."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number, part in enumerate(source.parts()):
            if number == 0:
                file.write(store.csv_header(part.columns))
            file.write(store.csv_lines(part))


def region_rows(chosen: Sequence[Source]) -> pd.DataFrame:
    """Return the rows of regions.csv of some slides.

    Raises
    ------
    UsageError
        The run has not come as far as the study's tables.
    """
    first = chosen[0]
    if first.store.record("study") is None:
        raise UsageError(
            "there is no regions.csv yet",
            place=str(first.study.folder),
            fix=f"Type: mihc run {quoted_path(first.study.folder)}",
        )
    rows = store.read_csv(first.store.path("regions.csv"))
    return rows[rows["slide"].isin([source.slide for source in chosen])].reset_index(drop=True)
