"""Names of markers and phenotypes that a reader takes for one another: refused, for they would be counted apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mihc.errors import Problem
from mihc.panel import Panel
from mihc.studies.joining import difference, near_pairs, plain
from mihc.studies.settings import Settings


def near_miss(found: str, known: Iterable[str]) -> str:
    """Say which known name an unknown one is a near-miss of, and by what; "" where it is none."""
    for name in known:
        if name != found and plain(name) == plain(found):
            return f"; near-miss of {name!r}: {difference(found, name)}"
    return ""


def near_names(settings: Settings, panels: Mapping[str, Panel]) -> list[Problem]:
    """Populations whose names differ only by case, spaces, or letters of another alphabet that look alike.

    Markers of one name in two panels are pooled; of two such names they would be two populations, each with half of
    the slides. Two markers of one panel that differ by case alone are refused where panel.csv is read.
    """
    of_panel = {name: {row.marker for row in panel.markers} for name, panel in panels.items()}
    markers = set().union(*of_panel.values()) if of_panel else set()
    problems = []
    for one, other, kind in near_pairs([*markers, *settings.phenotypes]):
        same_case = one.casefold() == other.casefold()
        if same_case and (not {one, other} <= markers or any({one, other} <= names for names in of_panel.values())):
            continue  # said elsewhere
        place = "panel.csv, column marker" if {one, other} <= markers else "study.toml, [phenotypes]"
        what = f"{one!r} and {other!r} are near-misses, they differ only by {kind}"
        problems.append(
            Problem(place, what, "Write the same name for the same marker, else names that look different.")
        )
    return problems
