"""Expressions of study.toml (phenotypes, [pdl1], [pairs]) against the panels: who can show them, what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from mihc.errors import PanelError, Problem
from mihc.panel import Panel
from mihc.studies.given_thresholds import levels_of
from mihc.studies.near_names import near_miss
from mihc.studies.pdl1 import pdl1_expressions
from mihc.studies.settings import Pdl1, Settings
from mihc.studies.slide_list import SlideRow

NEVER_JOINED = "Cells are never joined between slides."


def markers_of(panel: Panel) -> list[str]:
    """The markers of a panel that are populations."""
    return [row.marker for row in panel.markers]


def all_markers(panels: Mapping[str, Panel]) -> list[str]:
    """The markers of every panel, each once."""
    return list(dict.fromkeys(marker for panel in panels.values() for marker in markers_of(panel)))


def panels_that_show(expression: str, panels: Mapping[str, Panel], phenotypes: Mapping[str, str]) -> frozenset[str]:
    """Names of the panels that have every marker that an expression needs, through its phenotypes too."""
    used = {marker for marker, _ in _literals(expression, panels, phenotypes)}
    return frozenset(name for name, panel in panels.items() if used <= set(markers_of(panel)))


def panels_that_score(pdl1: Pdl1, panels: Mapping[str, Panel], phenotypes: Mapping[str, str]) -> frozenset[str]:
    """Names of the panels that have every marker of [pdl1]."""
    shown = [panels_that_show(expression, panels, phenotypes) for expression in pdl1_expressions(pdl1).values()]
    return frozenset.intersection(*shown)


def _literals(
    expression: str, panels: Mapping[str, Panel], phenotypes: Mapping[str, str]
) -> tuple[tuple[str, int], ...]:
    from mihc.positives import parse_expression

    return parse_expression(expression, all_markers(panels), phenotypes=phenotypes).literals


def population_problems(settings: Settings, panels: Mapping[str, Panel]) -> list[Problem]:
    """Phenotypes, [pdl1] and [pairs] against the panels' markers."""
    markers = {marker.casefold() for marker in all_markers(panels)}
    problems = []
    for name, text in settings.phenotypes.items():
        place = f"study.toml, [phenotypes] {name}"
        if name.casefold() in markers:
            problems.append(Problem(place, f"{name!r} is already the name of a marker", "Choose another name."))
        problems += _expression_problems(text, place, panels, settings.phenotypes, name)
    if settings.pdl1 is not None:
        problems += _pdl1_problems(settings.pdl1, panels, settings.phenotypes)
    return problems + _pair_problems(settings, panels)


def _expression_problems(
    text: str, place: str, panels: Mapping[str, Panel], phenotypes: Mapping[str, str], name: str = ""
) -> list[Problem]:
    from mihc.positives import parse_expression

    try:
        parse_expression(text, all_markers(panels), name=name, phenotypes=phenotypes)
        shown = panels_that_show(text, panels, phenotypes)
    except PanelError as error:
        return [Problem(place, error.what, error.fix)]
    if shown:
        return []
    return [Problem(place, f"no single panel has all markers of {text!r}", NEVER_JOINED)]


def _pair_problems(settings: Settings, panels: Mapping[str, Panel]) -> list[Problem]:
    """Each pair needs two parts, and a panel that shows both."""
    from mihc.pairs import parse_pair

    place, problems = "study.toml, [pairs] impossible", []
    for text in settings.pairs.impossible:
        found = _expression_problems(text, place, panels, settings.phenotypes)
        if not found:
            try:
                parse_pair(text, all_markers(panels), settings.phenotypes)
            except PanelError as error:
                found = [Problem(place, error.what, error.fix)]
        problems += found
    return problems


def _pdl1_problems(pdl1: Pdl1, panels: Mapping[str, Panel], phenotypes: Mapping[str, str]) -> list[Problem]:
    markers, problems = all_markers(panels), []
    if pdl1.marker not in markers:
        what = f"marker {pdl1.marker!r} is not in panel.csv; it has {', '.join(markers)}"
        what += near_miss(pdl1.marker, markers)
        problems.append(Problem("study.toml, [pdl1] marker", what, "Write one of these names."))
    for key in ("tumour", "immune"):
        problems += _expression_problems(getattr(pdl1, key), f"study.toml, [pdl1] {key}", panels, phenotypes)
    return problems or _score_problems(pdl1, panels, phenotypes)


def _score_problems(pdl1: Pdl1, panels: Mapping[str, Panel], phenotypes: Mapping[str, str]) -> list[Problem]:
    """The marker, the tumour cells and the immune cells of [pdl1] must be seen on one slide."""
    try:
        if panels_that_score(pdl1, panels, phenotypes):
            return []
        texts = pdl1_expressions(pdl1).values()
        needed = {marker for text in texts for marker, _ in _literals(text, panels, phenotypes)}
    except PanelError as error:  # each alone can be read, but not all together: "CD3+" as tumour and as immune
        return [Problem("study.toml, [pdl1]", error.what, error.fix)]
    lacking = "; ".join(
        f"panel {name!r} lacks {', '.join(sorted(needed - set(markers_of(panel))))}" for name, panel in panels.items()
    )
    what = f"no single panel has all of {', '.join(sorted(needed))}: {lacking}"
    return [Problem("study.toml, [pdl1]", what, NEVER_JOINED)]


def level_problems(
    settings: Settings, panels: Mapping[str, Panel], slides: Sequence[SlideRow], thresholds: pd.DataFrame
) -> list[Problem]:
    """Expressions and cut-offs that ask for levels (`X++`, `h_score`) which are typed for no slide, or not for all."""
    asking: dict[str, list[str]] = defaultdict(list)
    for place, text in _every_expression(settings):
        for marker in {marker for marker, level in _literals(text, panels, settings.phenotypes) if level > 1}:
            asking[marker].append(place)
    for column in settings.splits.given:
        if column.endswith("|h_score"):
            asking[column.partition("|")[0]].append("study.toml, [splits] given")
    problems = []
    for marker, places in asking.items():
        shown = [row for row in slides if row.panel in panels and marker in markers_of(panels[row.panel])]
        lacking = [row.slide for row in shown if row.cells is None and not levels_of(panels, row, thresholds, marker)]
        if lacking:
            none = len(lacking) == len(shown)
            where = "no slide" if none else ", ".join(lacking[:5]) + ("" if len(lacking) <= 5 else " and more")
            what = f"asks for levels of {marker}, and " + (
                f"they are typed for {where}" if none else f"none are typed for {where}: it stays unknown there"
            )
            fix = "Type threshold, moderate and strong in panel.csv, or value, moderate and strong in thresholds.csv."
            problems += [Problem(place, what, fix, "error" if none else "warning") for place in places]
    return problems


def _every_expression(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, text in settings.phenotypes.items():
        yield f"study.toml, [phenotypes] {name}", text
    for text in settings.pairs.impossible:
        yield "study.toml, [pairs] impossible", text
    if settings.pdl1 is not None:
        for key in ("tumour", "immune"):
            yield f"study.toml, [pdl1] {key}", getattr(settings.pdl1, key)
