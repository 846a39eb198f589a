"""The tables of results/ as reviewers need them; one that is not there yet is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mihc.store import read_csv

if TYPE_CHECKING:
    import pandas as pd

    from mihc.study import Study

TEXT = ("slide", "patient", "marker", "region", "reason", "remark", "who", "when", "note", "term", "population")


def table(study: Study, name: str) -> pd.DataFrame:
    """One of the tables in results/ as it is now; empty without it."""
    import pandas as pd

    path = study.results / f"{name}.csv"
    return read_csv(path, text=TEXT) if path.exists() else pd.DataFrame()


def slide_rows(study: Study, name: str, slide: str) -> pd.DataFrame:
    """A slide's rows of a table."""
    found = table(study, name)
    return found[found["slide"] == slide] if "slide" in found else found
