"""Numbers that say where they come from.

Every number that the report takes from a table is written once, here: rounded for the reader, with the unrounded value
and its table cell beside it, as in `<span data-value="0.4512" data-source="statistics.csv:17/estimate">0.45</span>`,
where 17 is the line in the file (the header is line 1).
"""

from __future__ import annotations

import math

import pandas as pd
from markupsafe import Markup, escape

from mihc.plots.style import p_number, plain

NOT_KNOWN = Markup('<span class="na">–</span>')


class Numbers:
    """The tables of a study, and each cell as a number for the page; `units` is the unit of each endpoint's time."""

    def __init__(self, tables: dict[str, pd.DataFrame], units: dict[str, str] | None = None):
        self.units = units or {}
        self.tables = {name: frame.reset_index(drop=True) for name, frame in tables.items()}

    def __getitem__(self, table: str) -> pd.DataFrame:
        return self.tables[table] if table in self.tables else pd.DataFrame()

    @property
    def control_slides(self) -> set[str]:
        """Slides that count for nobody: unstained and isotype controls."""
        slides = self["slides"]
        return set(slides.loc[slides["control"].map(text) != "", "slide"].map(text)) if "control" in slides else set()

    def show(self, table: str, row: int, column: str, form: str = "number") -> Markup:
        """One cell as Markup: rounded as `form` says, a dash where the table has nothing.

        Parameters
        ----------
        table, row, column
            The table's name, the row's position (0 = first below the header) and the column.
        form : str
            "number" (3 significant digits) | "count" | "ratio" | "percent" | "p" ("= 0.03") | "p_cell" ("0.03")
        """
        frame = self[table]
        value = as_float(frame.at[row, column]) if column in frame else math.nan
        if math.isnan(value):
            return NOT_KNOWN
        return Markup('<span data-value="{}" data-source="{}">{}</span>').format(
            exact(value), plain(f"{table}.csv:{row + 2}/{column}"), rounded(value, form)
        )


def as_float(value: object) -> float:
    """A table's cell as a float, NaN where it is empty or no number."""
    try:
        return math.nan if value is None or pd.isna(value) else float(value)
    except (TypeError, ValueError):
        return math.nan


def exact(value: float) -> str:
    """The value as the CSV has it: shortest text that reads back to the same number, whole numbers without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def rounded(value: float, form: str) -> str:
    """A number as a reader expects it, NaN as a dash; `form` as in `Numbers.show`."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if form in ("p", "p_cell"):
        return _p(value, sign=form == "p")
    if form == "count":
        return f"{value:,.0f}".replace(",", "\u202f")
    if form == "percent":
        return f"{value:.1f}"
    if form == "ratio":
        return _ratio(value)
    return _significant(value)


def _p(value: float, *, sign: bool) -> str:
    number = p_number(value)
    return f"=\u00a0{number}" if sign and not number.startswith("<") else number


def _ratio(value: float) -> str:
    if value >= 1000 or 0 < value < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _significant(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}".replace(",", "\u202f")
    elif size < 0.001:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return text.replace("-", "−")


def text(value: object) -> str:
    """A cell of text as it is, empty where the table has nothing; it is cleaned and escaped where it is shown."""
    return "" if value is None or (not isinstance(value, str) and pd.isna(value)) else str(value)


def sentence(template: str, pieces: dict[str, object]) -> Markup:
    """A sentence with its pieces escaped and cleaned: `sentence("{n} of {total}", {"n": 3, "total": 4})`."""
    safe = {name: piece if isinstance(piece, Markup) else escape(plain(piece)) for name, piece in pieces.items()}
    return Markup(template).format_map(safe)


def counted(n: int, one: str, many: str = "") -> str:
    """A count with its noun: "1 slide", "3 slides"."""
    return f"{n} {one if n == 1 else many or one + 's'}"
