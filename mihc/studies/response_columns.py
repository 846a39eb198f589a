"""The columns of clinical.csv that describe the course of a response: changes in percent, and when it began."""

from __future__ import annotations

import math

from mihc.errors import Problem
from mihc.studies.settings import Response, Settings
from mihc.studies.tables import TextTable, filled_cells, number_in


def course_columns(settings: Settings) -> set[str]:
    """Columns of numbers that responses name: changes in percent, and times of the first response."""
    responses = settings.responses.values()
    return {column for response in responses for column in (*response.changes_columns, response.start) if column}


def course_problems(table: TextTable, rows: list[int], settings: Settings) -> list[Problem]:
    """What stands against these columns: no numbers, a loss of more than all, a response after its own end.

    Parameters
    ----------
    table
        The clinical table.
    rows
        Which of its rows count: one per patient.
    settings
        study.toml.
    """
    problems = []
    for name, response in settings.responses.items():
        for column in response.changes_columns:
            fix = "Write the change in percent of the size at the start: -30 for a loss of 30 %; empty if not known."
            problems += _numbers(table, rows, column, -100.0, "change", fix, settings)
        if response.start:
            fix = "Write the time from the start of follow-up to the first response; empty without one."
            problems += _numbers(table, rows, response.start, 0.0, "start of response", fix, settings)
            problems += _starts(table, rows, name, response, settings)
    return problems


def _numbers(
    table: TextTable, rows: list[int], column: str, least: float, what: str, fix: str, settings: Settings
) -> list[Problem]:
    problems = []
    for row, text in filled_cells(table, rows, column):
        try:
            number = number_in(text, decimal=settings.clinical.decimal)
        except ValueError as error:
            problems.append(Problem(table.place(row, column), f"{what} {error}", fix))
            continue
        if not math.isfinite(number) or number < least:
            found = f"{what} {text!r}; it is {least:g} or more"
            problems.append(Problem(table.place(row, column), found, fix))
    return problems


def _starts(table: TextTable, rows: list[int], name: str, response: Response, settings: Settings) -> list[Problem]:
    """Responses that begin after they ended, responders without a start, and the reverse."""
    outcome = settings.outcomes.get(response.until)
    times = dict(filled_cells(table, rows, outcome.time)) if outcome else {}
    starts = dict(filled_cells(table, rows, response.start))
    problems = []
    for row, text in starts.items():
        try:
            start, end = (number_in(one, decimal=settings.clinical.decimal) for one in (text, times.get(row, "inf")))
        except ValueError:
            continue  # told where the column is looked at
        if start > end:
            what = f"the response starts at {text}, after {response.until} ends it at {times[row]}"
            problems.append(Problem(table.place(row, response.start), what, "Correct one of the two times."))
    if not {response.column, response.start} <= set(table.columns):
        return problems
    responders = {row for row in rows if table.cell(row, response.column).strip() in response.responders}
    for found, what in (
        (responders - starts.keys(), f"responders of [responses.{name}] without a time in {response.start}"),
        (starts.keys() - responders, f"patients with a time in {response.start} who are no responders"),
    ):
        if found:
            who = ", ".join(repr(table.cell(row, "patient")) for row in sorted(found)[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            fix = "They are left out of the duration of response."
            problems.append(Problem(table.name, f"{len(found)} {what}: {who}{more}", fix, "warning"))
    return problems
