"""What the report says of regions beyond their numbers: profiles around the margin, and the tissue classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mihc.plots.bands import band_profiles
from mihc.reports.numbers import Numbers, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POPULATIONS = 16
FIGURE = "margin_bands"


@dataclass(frozen=True)
class Drawn:
    """One class of strokes: how the pixels of those left out were called."""

    panel: str
    slide: str  # "" = all
    name: str
    strokes: int  # row of classifier.csv that has their number
    rows: dict[str, int]  # predicted class -> row of classifier.csv


def margin_profiles(numbers: Numbers, populations: Sequence[str], drawn: dict[str, Figure]) -> bool:
    """Draw the profiles of the study's populations into `drawn`; False where no slide has a margin."""
    bands = numbers["bands"]
    if not len(bands):
        return False
    shown = [name for name in populations if (bands["population"].astype(str) == name).any()][:MOST_POPULATIONS]
    if shown:
        drawn[FIGURE] = band_profiles(bands, shown, title="Around the tumour's margin")
    return bool(shown)


def confusion(numbers: Numbers) -> list[Drawn]:
    """Rows of classifier.csv put together by panel, slide and drawn class; empty where no classifier was used."""
    table = numbers["classifier"]
    if not len(table):
        return []
    grouped = table.groupby(["panel", "slide", "drawn"], sort=False, dropna=False)
    return [
        Drawn(
            text(panel),
            "" if text(slide) == "*" else text(slide),
            text(name),
            int(rows.index[0]),
            {text(called): int(index) for index, called in rows["predicted"].items()},
        )
        for (panel, slide, name), rows in grouped
    ]
