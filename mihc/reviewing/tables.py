"""The tables of results/ as reviewers need them; one that is not there yet is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mihc.steps.call import part
from mihc.store import Store, read_csv

if TYPE_CHECKING:
    import pandas as pd

    from mihc.study import Study

TEXT = ("slide", "patient", "marker", "region", "reason", "remark", "who", "when", "note", "term", "population")


def table(study: Study, name: str) -> pd.DataFrame:
    """One of the tables in results/ as it is now; empty without it."""
    import pandas as pd

    path = study.results / f"{name}.csv"
    return read_csv(path, text=TEXT) if path.exists() else pd.DataFrame()


def slide_thresholds(study: Study, slide: str) -> pd.DataFrame:
    """A measured slide's rows of thresholds.csv, its own part: there as soon as the slide is called."""
    return read_csv(Store(study.results).path(part("thresholds", slide)), text=TEXT)
