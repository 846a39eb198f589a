"""Which marker each channel shows: `panel.csv` as a frozen table, matched to a slide's channels by name."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mihc.errors import CONTROL, PanelError, Problem, StudyProblems

ROLES = ("nuclei", "tumour", "marker", "autofluorescence", "ignore")
COMPARTMENTS = ("nucleus", "cytoplasm", "cell")
COLUMNS = ("panel", "channel", "marker", "role", "compartment", "threshold", "moderate", "strong", "colour")
LEVEL_COLUMNS = ("moderate", "strong")  # counts; "weak" is the threshold itself
LEVELS_FIX = "Weak (the threshold) < moderate < strong; or leave moderate and strong empty."
NUCLEAR_BLUE = "3B6FE0"
# Okabe and Ito's colours, made a little lighter for a dark ground: they stay apart for the colour-blind.
MARKER_COLOURS = ("F0B400", "2EB888", "E8743B", "CC79A7", "6EC6F5", "F0E442", "B98AE6", "E05656", "9AD14B", "C9A27A")
GREY = "808080"


@dataclass(frozen=True)
class PanelRow:
    """One channel of a panel."""

    channel: str  # name in the slide, or a 0-based index
    marker: str  # name in every table; without "|" and without double quotes
    role: str  # "nuclei" | "tumour" | "marker" | "autofluorescence" | "ignore"
    compartment: str  # where its value is taken: "nucleus" | "cytoplasm" | "cell"
    threshold: float | None  # counts; None = automatic
    colour: str  # "RRGGBB"
    levels: tuple[float, ...] = ()  # counts from which a cell is moderate and strong; () = positive or negative only


@dataclass(frozen=True)
class Panel:
    """The channels of one staining, in the order of `panel.csv`."""

    name: str
    rows: tuple[PanelRow, ...]

    @property
    def nuclei(self) -> tuple[PanelRow, ...]:
        """Rows whose channels are summed to find nuclei."""
        return tuple(row for row in self.rows if row.role == "nuclei")

    @property
    def tumour(self) -> tuple[PanelRow, ...]:
        """Rows that mark tumour epithelium."""
        return tuple(row for row in self.rows if row.role == "tumour")

    @property
    def markers(self) -> tuple[PanelRow, ...]:
        """Rows that are populations: roles marker and tumour."""
        return tuple(row for row in self.rows if row.role in ("marker", "tumour"))

    @property
    def measured(self) -> tuple[PanelRow, ...]:
        """Rows that are measured in every cell: all but `ignore`."""
        return tuple(row for row in self.rows if row.role != "ignore")

    def match(self, channels: Sequence[str]) -> dict[str, int]:
        """Find the channel of every measured marker.

        A row's `channel` is looked for by its exact name, then without regard to case, then, when it is a whole
        number, as a 0-based index.

        Parameters
        ----------
        channels
            The slide's channel names, in order.

        Returns
        -------
        dict
            marker -> 0-based channel index.

        Raises
        ------
        PanelError
            When a channel is missing, ambiguous, or claimed by two rows.
        """
        found = {row.marker: _find_channel(row, channels) for row in self.measured}
        for marker, index in found.items():
            rival = next(other for other, taken in found.items() if taken == index)
            if rival != marker:
                raise PanelError(
                    f"markers {rival!r} and {marker!r} both name channel {index} ({channels[index]!r})",
                    place="panel.csv",
                    fix="Give each marker its own channel, or write the channel's 0-based index.",
                )
        return found


def _find_channel(row: PanelRow, channels: Sequence[str]) -> int:
    for same in (lambda name: name == row.channel, lambda name: name.casefold() == row.channel.casefold()):
        hits = [index for index, name in enumerate(channels) if same(name)]
        if len(hits) == 1:
            return hits[0]
        if len(hits) > 1:
            raise PanelError(
                f"channel {row.channel!r} of marker {row.marker!r} occurs {len(hits)} times in the slide, "
                f"at {', '.join(map(str, hits))}",
                place="panel.csv",
                fix="Write the 0-based index of the one that is meant in the column channel.",
            )
    if row.channel.isdecimal() and int(row.channel) < len(channels):
        return int(row.channel)
    listed = ", ".join(f"{index}: {name}" for index, name in enumerate(channels))
    raise PanelError(
        f"panel {row.marker} not in slide {{{listed}}}: no channel {row.channel!r}",
        place="panel.csv",
        fix="Write one of these names, or its 0-based index, in the column channel.",
    )


def read_panels(path: str | Path) -> dict[str, Panel]:
    """Read `panel.csv`: panel name ("" where there is no such column) -> Panel.

    Raises
    ------
    StudyProblems
        With every problem of the file at once.
    """
    panels, problems = check_panels(path)
    if problems:
        raise StudyProblems(problems)
    return panels


def check_panels(path: str | Path) -> tuple[dict[str, Panel], list[Problem]]:
    """Read `panel.csv` and list every problem in it; the panels are complete only when the list is empty."""
    place = Path(path).name
    try:
        rows = _read_rows(Path(path))
    except PanelError as error:
        return {}, [Problem(error.place, error.what, error.fix)]
    problems: list[Problem] = []
    panels: dict[str, list[PanelRow]] = {}
    for line, cells in rows:
        row = _panel_row(cells, f"{place}, line {line}", problems)
        if row is not None:
            panels.setdefault(cells.get("panel", ""), []).append(row)
    if not rows:
        problems.append(Problem(place, "no channel is listed", "Write one line for each channel of the slide."))
    checked = {name: Panel(name, _coloured(listed)) for name, listed in panels.items()}
    for name, panel in checked.items():
        problems += _panel_problems(panel, f"{place}, panel {name!r}" if name else place)
    return checked, problems


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PanelError(
            "there is no panel.csv", place=path.name, fix="Run: mihc init FOLDER, it writes one from the slides."
        ) from None
    except UnicodeDecodeError as error:
        raise PanelError(
            f"encoding: byte {error.start} is not UTF-8", place=path.name, fix="Save the table as CSV UTF-8."
        ) from None
    table = [(number, row) for number, row in enumerate(csv.reader(text.splitlines()), 1) if any(map(str.strip, row))]
    if not table:
        raise PanelError("the file is empty", place=path.name, fix="It needs the columns channel, marker, role.")
    header = [name.strip() for name in table[0][1]]
    _check_header(header, path.name)
    for number, row in table[1:]:
        if len(row) != len(header):
            raise PanelError(
                f"{len(row)} cells where the header has {len(header)}", place=f"{path.name}, line {number}"
            )
    return [(number, {k: v.strip() for k, v in zip(header, row)}) for number, row in table[1:]]


def _check_header(header: list[str], place: str) -> None:
    if len(header) == 1 and ";" in header[0]:
        raise PanelError("found ';' between the columns", place=place, fix="Save the table with commas.")
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in ("channel", "marker", "role") if name not in header]
    if unknown or missing or len(set(header)) < len(header):
        raise PanelError(
            f"the header is {', '.join(header)}"
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
            + (f"; missing: {', '.join(missing)}" if missing else ""),
            place=place,
            fix=f"The columns are {', '.join(COLUMNS)}; all but channel, marker and role may be left out.",
        )


def _panel_row(cells: dict[str, str], place: str, problems: list[Problem]) -> PanelRow | None:
    known = len(problems)
    role = cells.get("role", "") or "marker"
    marker = cells.get("marker", "") or cells.get("channel", "")
    compartment = cells.get("compartment", "") or ("nucleus" if role == "nuclei" else "cell")
    if role not in ROLES:
        problems.append(Problem(place, f"role {role!r} is unknown", f"Write one of {', '.join(ROLES)}."))
    if compartment not in COMPARTMENTS:
        problems.append(
            Problem(place, f"compartment {compartment!r} is unknown", f"Write one of {', '.join(COMPARTMENTS)}.")
        )
    problems.extend(
        Problem(place, f"{text[:60]!r} holds a control character", "Type the name anew.")
        for text in dict.fromkeys(cells.values())
        if CONTROL.search(text)
    )
    if not cells.get("channel"):
        problems.append(Problem(place, "the column channel is empty", "Write the slide's channel name or its index."))
    if "|" in marker or '"' in marker or marker != marker.strip():
        problems.append(Problem(place, f"marker {marker!r} holds a | or a double quote", "Choose a plain name."))
    colour = cells.get("colour", "").lstrip("#").upper()
    if colour and (len(colour) != 6 or any(digit not in "0123456789ABCDEF" for digit in colour)):
        problems.append(Problem(place, f"colour {colour!r} is not six hexadecimal digits", "Write for example 2EB888."))
    threshold = _threshold(cells.get("threshold", ""), place, problems)
    levels = _levels(cells, threshold, place, problems)
    if len(problems) > known:
        return None
    return PanelRow(cells["channel"], marker, role, compartment, threshold, colour, levels)


def _threshold(text: str, place: str, problems: list[Problem], name: str = "threshold") -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        hint = "Write a decimal point." if "," in text else "Write a number of counts, or leave it empty."
        problems.append(Problem(place, f"{name} {text!r} is not a number", hint))
        return None
    if not math.isfinite(value) or value < 0:
        problems.append(Problem(place, f"{name} {text!r} is not a number of counts", "It must be 0 or more."))
    return value


def _levels(cells: dict[str, str], threshold: float | None, place: str, problems: list[Problem]) -> tuple[float, ...]:
    typed = [_threshold(cells.get(name, ""), place, problems, name) for name in LEVEL_COLUMNS]
    if typed == [None, None]:
        return ()
    what = levels_problem(threshold, typed)
    readable = threshold is not None or not cells.get("threshold")
    if what and readable and all(math.isfinite(value) for value in (threshold, *typed) if value is not None):
        problems.append(Problem(place, what, LEVELS_FIX))
    return tuple(value for value in typed if value is not None)


def levels_problem(threshold: float | None, levels: Sequence[float | None]) -> str:
    """What stands against a threshold with the cut-offs of "moderate" and "strong" above it; "" if nothing does."""
    cuts = {"threshold": threshold, **dict(zip(LEVEL_COLUMNS, levels, strict=True))}
    missing = [name for name, value in cuts.items() if value is None]
    if missing:
        return f"levels need threshold, moderate and strong, all three typed; missing: {', '.join(missing)}"
    told = ", ".join(f"{name} {value:g}" for name, value in cuts.items())
    return "" if cuts["threshold"] < cuts["moderate"] < cuts["strong"] else f"levels do not ascend: {told}"


def _coloured(rows: list[PanelRow]) -> tuple[PanelRow, ...]:
    """Rows with a colour each: blue for nuclei, grey for autofluorescence, the palette in order for the others."""
    palette = iter(MARKER_COLOURS * (1 + len(rows) // len(MARKER_COLOURS)))
    fixed = {"nuclei": NUCLEAR_BLUE, "autofluorescence": GREY, "ignore": GREY}
    return tuple(replace(row, colour=row.colour or fixed.get(row.role) or next(palette)) for row in rows)


def _panel_problems(panel: Panel, place: str) -> list[Problem]:
    problems = []
    if not panel.nuclei:
        problems.append(
            Problem(place, "no channel has the role nuclei", "Give the DNA stain (DAPI, Hoechst) the role nuclei.")
        )
    for field, fix in (("marker", "Give each its own name."), ("channel", "Name each channel once.")):
        seen: dict[str, str] = {}
        for row in panel.rows:
            name = getattr(row, field)
            if field == "marker" and row.role == "ignore":
                continue
            if name.casefold() in seen:
                problems.append(Problem(place, f"{field} {name!r} is listed twice", fix))
            seen[name.casefold()] = name
    return problems
