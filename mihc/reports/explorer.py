"""What the page's script draws from: who is in which group, and which row of statistics.csv belongs to which question.

Nothing that is measured is here a second time: the script reads every value from the page's own tables, where it stands
with its source, so that what it draws is what the tables say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from mihc.associate import marker_columns
from mihc.plots.style import GROUP_COLOURS, plain
from mihc.reports.associations import named_groups
from mihc.reports.claims import MEASURES, TEST_NAMES, is_exploratory, is_multivariable, split_words
from mihc.reports.commands import Target, opened, quoted
from mihc.reports.groups import PatientGroups
from mihc.reports.numbers import Numbers, as_float, text

_GROUPS = "0123456789abcdefghij"  # one letter per patient
_UNITS = {"density_per_mm2": "cells/mm²", "positivity_percent": "%"}
_SHAPES = {"continuous": "time", "marker": "survival"}  # every other split is drawn as boxes
DRAWN = ("rank_sum", "kruskal", "log_rank", "maxstat", "cox", "spearman", "weighted_auc")


@dataclass(frozen=True)
class Explorer:
    """The data of the page's script, and where its choices start."""

    data: dict[str, object]

    @property
    def json(self) -> Markup:
        """The data as text that is safe within a script element: no character of it can end or open anything."""
        written = json.dumps(_shown(self.data), ensure_ascii=False, separators=(",", ":"))
        for character in "<>&\u2028\u2029":
            written = written.replace(character, f"\\u{ord(character):04x}")
        return Markup(written)

    @property
    def any(self) -> bool:
        """Whether there is something to choose."""
        return bool(self.data["questions"])


def explorer(numbers: Numbers, groups: PatientGroups, leading: Sequence[int]) -> Explorer:
    """Gather the questions of all populations.

    Parameters
    ----------
    numbers : Numbers
    groups : PatientGroups
    leading : sequence of int
        Rows of statistics.csv, the one that the report speaks of first; the choices start at the first that is drawn.
    """
    columns = marker_columns(numbers["patients"])
    places = {(one.population, one.tissue_class, one.measure): place for place, one in enumerate(columns)}
    questions, cuts, tests = _questions(numbers, groups, places)
    populations = list(dict.fromkeys(one.population for one in columns))
    starts = [test[1:3] for row in leading for test in tests if test[0] == row + 2]
    return Explorer({
        "patients": _patients(numbers),
        "slides": _slides(numbers, populations),
        "populations": [[name, quoted(name)] for name in populations],
        "columns": [[populations.index(m.population), m.tissue_class, m.measure, m.column] for m in columns],
        "measures": {name: [word, _UNITS.get(name, "")] for name, word in MEASURES.items()},
        "endpoints": {
            name: [outcome.unit, outcome.time, outcome.event]
            for name, outcome in groups.settings.outcomes.items()
        },
        "questions": questions,
        "cuts": cuts,
        "tests": tests,
        "start": next(iter(starts), tests[0][1:3] if tests else [0, 0]),
        "colours": list(GROUP_COLOURS),
    })  # fmt: skip


def _patients(numbers: Numbers) -> list[list[object]]:
    """Every patient of patients.csv, in its order, with the places of the slides that count for them."""
    slides, patients = numbers["slides"], numbers["patients"]
    control = slides["control"].map(text) if "control" in slides else pd.Series("", index=slides.index)
    of: dict[str, list[int]] = {}
    for place, (patient, kind) in enumerate(zip(slides["patient"], control)) if len(slides) else ():
        if not kind:
            of.setdefault(text(patient), []).append(place)
    return [[text(name), of.get(text(name), [])] for name in patients["patient"]] if len(patients) else []


def _slides(numbers: Numbers, populations: list[str]) -> list[list[object]]:
    """Every slide: its id, the command that opens it ("" where nothing can), its regions by class, its populations."""
    slides, regions, can_open = numbers["slides"], numbers["regions"], opened(numbers)
    named: dict[str, dict[str, list[str]]] = {}
    shown: dict[str, list[int]] = {}
    if len(regions):
        for slide, region, kind in regions[["slide", "region", "tissue_class"]].drop_duplicates().to_numpy():
            named.setdefault(text(slide), {}).setdefault(text(kind), []).append(quoted(text(region)))
        for slide, population in regions[["slide", "population"]].drop_duplicates().to_numpy():
            if text(population) in populations:
                shown.setdefault(text(slide), []).append(populations.index(text(population)))
    names = slides["slide"].map(text) if len(slides) else ()
    commands = {name: Target(name).command if name in can_open else "" for name in names}
    return [[name, commands[name], named.get(name, {}), shown.get(name, [])] for name in names]


def _questions(
    numbers: Numbers, groups: PatientGroups, places: dict[tuple[str, str, str], int]
) -> tuple[list[list[object]], dict[str, str], list[list[object]]]:
    """Everything that populations were set against; per column who is in which group of its own cuts; the tests."""
    statistics = numbers["statistics"]
    asked: dict[tuple[str, str], int] = {}
    questions: list[list[object]] = []
    cuts: dict[str, str] = {}
    tests: list[list[object]] = []
    rows = statistics[statistics["analysis"].isin(DRAWN)] if len(statistics) else statistics
    for index, row in zip(rows.index, rows.to_dict("records")):
        place = places.get((text(row["population"]), text(row["tissue_class"]), text(row["measure"])))
        if place is None or np.isnan(as_float(row["p"])):
            continue
        key = (text(row["endpoint"]), text(row["split"]))
        of_marker = key[1].startswith("marker:")
        if key not in asked or (of_marker and f"{place} {asked[key]}" not in cuts):
            masks = {} if key[1] == "continuous" else groups.masks(row)
            if key[1] != "continuous" and not masks:
                continue
            if key not in asked:
                asked[key] = len(questions)
                questions.append(_question(row, key, masks))
            if of_marker:
                levels = questions[asked[key]][4]
                levels += [level for level in masks if level not in levels]
                cuts[f"{place} {asked[key]}"] = _letters(masks, levels, len(groups.patients))
        tests.append([int(index) + 2, place, asked[key], _named(row)])
    return questions, cuts, tests


def _question(row: dict, key: tuple[str, str], masks: dict[str, np.ndarray]) -> list[object]:
    """[what it is set against, how it is split, endpoint, shape, groups, letters of the patients, exploratory]."""
    endpoint, split = key
    shape = _SHAPES.get(split.partition(":")[0], "boxes")
    words = {"continuous": "each patient's time", "response": "responders or not"}.get(split, split_words(split))
    if shape == "survival":
        words = f"survival by {words}"
    against = endpoint or split.removeprefix("group:")
    levels = list(masks) if shape == "survival" else list(named_groups(row, masks))
    of_all = "" if shape != "boxes" else _letters(masks, list(masks), len(next(iter(masks.values()))))
    shown = endpoint if shape != "boxes" else ""
    return [against, "its groups" if not endpoint else words, shown, shape, levels, of_all, is_exploratory(row)]


def _letters(masks: dict[str, np.ndarray], levels: Sequence[str], n: int) -> str:
    """One letter per patient: the place of the group, "." for none."""
    letters = np.full(n, ".")
    for place, level in enumerate(levels):
        if level in masks:
            letters[masks[level]] = _GROUPS[place]
    return "".join(letters)


def _named(row: dict) -> str:
    """What a test is called: its name, the term where it needs one, and whether covariates stood beside it."""
    name = TEST_NAMES[text(row["analysis"])]
    beside = ", beside the covariates" if is_multivariable(row) else ""
    return f"{name} ({text(row['term'])}){beside}" if text(row["term"]) else f"{name}{beside}"


def _shown(data: object) -> object:
    """Text as the page shows it: control and direction characters made visible."""
    if isinstance(data, str):
        return plain(data)
    if isinstance(data, dict):
        return {plain(name): _shown(value) for name, value in data.items()}
    return [_shown(value) for value in data] if isinstance(data, (list, tuple)) else data
