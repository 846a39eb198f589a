"""clinical.csv, or clinical.xlsx: read as text, checked against study.toml, and typed.

Only the columns that study.toml names are read on; the others leave no trace.
"""

from __future__ import annotations

import datetime
import math
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from mihc.errors import Problem
from mihc.studies.response_columns import course_columns, course_problems
from mihc.studies.settings import Outcome, Settings
from mihc.studies.tables import MISSING, TextTable, filled_cells, number_in, read_table, read_workbook_table

FILE = "clinical.csv"
WORKBOOK = "clinical.xlsx"
OLD_WORKBOOK = "clinical.xls"
RESERVED = ("slides", "TPS_percent", "CPS")
HOW_LONG = "Write how long it took from the start of follow-up, in the endpoint's unit."
EXCEL_DATES = (25_569, 73_050)  # 1970 to 2099, as Excel counts days; as days of follow-up 70 years and more


def read_clinical(folder: Path, settings: Settings) -> tuple[pd.DataFrame | None, list[Problem]]:
    """Read clinical.csv: `patient` and the columns that study.toml names, all text, one row per patient.

    None without a file (a problem only if study.toml names a column of it) and where the file cannot be used.
    Errors and warnings are listed together.
    """
    named = settings.clinical_columns
    path, problems = _file(folder)
    if path is None:
        fix = "Write the table (columns patient and these), or remove the sections from study.toml."
        missing = Problem(FILE, f"the file does not exist, but study.toml names {', '.join(named)}", fix)
        return None, problems or ([missing] if named else [])
    clinical = settings.clinical
    if path.name == WORKBOOK:
        table, problems = read_workbook_table(path, sheet=clinical.sheet)
    else:
        table, problems = read_table(path, encoding=clinical.encoding, separator=clinical.separator)
    if table is None:
        return None, problems
    problems += _columns(table, settings)
    if "patient" not in table.columns:
        return None, problems
    kept, repeated = _one_row_per_patient(table)
    problems += repeated
    for outcome in settings.outcomes.values():
        problems += _times(table, kept, outcome, clinical.decimal)
        problems += _events(table, kept, outcome) + _half_known(table, kept, outcome)
    problems += course_problems(table, kept, settings) + _words(table, kept, settings)
    columns = ["patient", *(name for name in named if name in table.columns and name != "patient")]
    frame = pd.DataFrame({name: [table.cell(row, name) for row in kept] for name in columns}, dtype=object)
    return frame, problems


def clinical_name(folder: Path) -> str:
    """What the clinical table's file is called in a study: clinical.csv, unless it is a workbook."""
    return (_file(folder)[0] or folder / FILE).name


def _file(folder: Path) -> tuple[Path | None, list[Problem]]:
    """The clinical table: clinical.csv or clinical.xlsx, never both; None where there is none that can be read."""
    found = [folder / name for name in (FILE, WORKBOOK) if (folder / name).exists()]
    if len(found) > 1:
        what = f"there are both {FILE} and {WORKBOOK}, and which of them holds cannot be known"
        return None, [Problem(FILE, what, "Keep one of them in the study folder.")]
    if not found and (folder / OLD_WORKBOOK).exists():
        what = "is an old Excel workbook (.xls), which mihc does not read"
        return None, [Problem(OLD_WORKBOOK, what, f"In Excel: save it as {WORKBOOK}, or as CSV UTF-8.")]
    return (found[0] if found else None), []


def _columns(table: TextTable, settings: Settings) -> list[Problem]:
    uses = [("patient", "")]
    for name, outcome in settings.outcomes.items():
        uses += [(outcome.time, f"[outcomes.{name}] time"), (outcome.event, f"[outcomes.{name}] event")]
    for name, response in settings.responses.items():
        uses += [(response.column, f"[responses.{name}] column"), (response.change, f"[responses.{name}] change")]
        uses += [(column, f"[responses.{name}] changes") for column in response.changes]
        uses.append((response.start, f"[responses.{name}] start"))
    uses += [(column, "[groups] columns") for column in settings.groups]
    uses += [(column, "[cox] covariates") for column in settings.cox_covariates]
    problems = []
    for column, user in uses:
        if column and column not in table.columns:
            near = get_close_matches(column, table.columns, n=1)
            hint = f"; did you mean {near[0]}" if near else f"; found {', '.join(table.columns)}"
            asked = f", which study.toml names under {user}" if user else ""
            fix = f"Rename the column, or change {user} in study.toml." if user else "Name the id column patient."
            problems.append(Problem(table.header, f"there is no column {column!r}{asked}{hint}", fix))
        if column in RESERVED or "|" in column:
            what = f"column {column!r} is a name that patients.csv uses itself"
            problems.append(Problem(table.header, what, "Rename it here and in study.toml."))
    return problems + _conflicting_roles(settings)


def _conflicting_roles(settings: Settings) -> list[Problem]:
    """One column cannot be a time and an event, or an event with two meanings."""
    times = {outcome.time for outcome in settings.outcomes.values()}
    meanings: dict[str, set[str]] = {}
    for outcome in settings.outcomes.values():
        meanings.setdefault(outcome.event, set()).add(str(outcome.event_value))
    fix = "Give every endpoint its own event column."
    both = sorted(times & set(meanings) - {""})
    problems = [Problem("study.toml", f"column {column!r} is both a time and an event", fix) for column in both]
    return problems + [
        Problem("study.toml", f"column {column!r} has several event values: {', '.join(sorted(values))}", fix)
        for column, values in meanings.items()
        if len(values) > 1
    ]


def _one_row_per_patient(table: TextTable) -> tuple[list[int], list[Problem]]:
    """Rows that stay: the first of identical ones; blank ids and conflicting rows are errors."""
    first: dict[str, int] = {}
    problems = []
    for row, patient in enumerate(table.column("patient")):
        if not patient.strip():
            problems.append(Problem(table.place(row, "patient"), "the patient id is blank", "Fill it in."))
            continue
        known = first.setdefault(patient, row)
        if known == row:
            continue
        lines = f"{table.line_word}s {table.lines[known]} and {table.lines[row]}"
        differing = [name for name in table.columns if table.cell(known, name) != table.cell(row, name)]
        if differing:
            what = f"patient {patient!r} stands in {lines} with different {', '.join(differing)}"
            problems.append(Problem(table.place(row, "patient"), what, "One row per patient: remove the wrong one."))
        else:
            what = f"patient {patient!r} stands in {lines} with the same values; it is read once"
            problems.append(Problem(table.place(row, "patient"), what, "Remove one of the lines.", "warning"))
    return list(first.values()), problems


def _times(table: TextTable, rows: list[int], outcome: Outcome, decimal: str) -> list[Problem]:
    problems = []
    for row, text in filled_cells(table, rows, outcome.time):
        place = table.place(row, outcome.time)
        try:
            time = number_in(text, decimal=decimal)
        except ValueError as error:
            fix = 'Write a number with a decimal point; a table with commas declares [clinical] decimal = ",".'
            fix = HOW_LONG if "looks like a date" in str(error) else fix
            problems.append(Problem(place, f"time {error}", fix))
            continue
        if EXCEL_DATES[0] <= time <= EXCEL_DATES[1]:
            day = datetime.date(1899, 12, 30) + datetime.timedelta(days=int(time))
            problems.append(
                Problem(place, f"time {text!r} looks like a date that Excel counts in days: {day}", HOW_LONG)
            )
        elif not math.isfinite(time) or time < 0:
            problems.append(Problem(place, f"time {text!r}; a time is 0 or more", "Correct it or empty the cell."))
        elif time == 0:
            what = "time 0: the patient leaves at the start and counts in no comparison after it"
            problems.append(Problem(place, what, "Check that it is meant.", "warning"))
    return problems


def same_value(text: str, value: float | str) -> bool:
    """Whether a cell holds a value of study.toml: as text, or as the same number ("1.0" is 1)."""
    if text.strip() == str(value):
        return True
    try:
        return not isinstance(value, str) and float(text) == float(value)
    except ValueError:
        return False


def _events(table: TextTable, rows: list[int], outcome: Outcome) -> list[Problem]:
    """Events are event_value or one other value; beside 1 that other value is 0 and nothing else."""
    value, cells = outcome.event_value, list(filled_cells(table, rows, outcome.event))
    others = {_number_or_text(text) for _, text in cells if not same_value(text, value)}
    found = ", ".join(sorted({repr(text.strip()) for _, text in cells})[:8])
    if cells and all(not same_value(text, value) for _, text in cells):
        what = f"no patient has the event: event_value {value!r} does not occur in column {outcome.event}"
        none = [Problem(table.name, what, f"The column holds {found}.", "warning")]
    else:
        none = []
    if value == 1 and 2.0 in others and others <= {2.0}:
        what = f"column {outcome.event} is coded 1/2, and which of them is the event cannot be known"
        return [Problem(table.name, what, "Write event_value = 2 in study.toml; if 1 is the event, write 0 for 2.")]
    if value == 1:
        bad = [(row, text) for row, text in cells if not same_value(text, 1) and not same_value(text, 0)]
    elif len(others) > 1 or (not isinstance(value, str) and any(isinstance(other, str) for other in others)):
        bad = [(row, text) for row, text in cells if not same_value(text, value) and not same_value(text, 0)]
    else:
        bad = []
    needed = "1 or 0" if value == 1 else f"{value!r} or one other value"
    fix = "Code events 1 and no event 0, or name the value of an event in study.toml: event_value = ..."
    return none + [
        Problem(table.place(row, outcome.event), f"event {text!r}, needed {needed}; the column holds {found}", fix)
        for row, text in bad
    ]


def _half_known(table: TextTable, rows: list[int], outcome: Outcome) -> list[Problem]:
    timed, known = ({row for row, _ in filled_cells(table, rows, name)} for name in (outcome.time, outcome.event))
    half = [repr(table.cell(row, "patient")) for row in rows if (row in timed) != (row in known)]
    if not half or outcome.time not in table.columns or outcome.event not in table.columns:
        return []
    more = f" and {len(half) - 5} more" if len(half) > 5 else ""
    listed = ", ".join(half[:5]) + more
    who = "1 patient has" if len(half) == 1 else f"{len(half)} patients have"
    what = f"{who} only one of {outcome.time} and {outcome.event}: {listed}; counted as missing"
    return [Problem(table.name, what, "Fill in both, or leave both empty.", "warning")]


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _words(table: TextTable, rows: list[int], settings: Settings) -> list[Problem]:
    """Warn of responders that never occur and of the word NA where it is read as a word."""
    problems = []
    for name, response in settings.responses.items():
        found = {table.cell(row, response.column).strip() for row in rows}
        for responder in response.responders:
            if response.column in table.columns and responder not in found:
                what = f"responder {responder!r} of [responses.{name}] does not occur in column {response.column}"
                listed = ", ".join(sorted(found - {""})[:8])
                problems.append(Problem(table.name, what, f"The column holds: {listed}.", "warning"))
    for column in dict.fromkeys([*(r.column for r in settings.responses.values()), *settings.groups]):
        if any(table.cell(row, column).strip() == "NA" for row in rows):
            what = f"column {column} holds the word NA, which is read as a value of its own"
            problems.append(Problem(table.name, what, "Leave the cell empty where the value is missing.", "warning"))
    return problems


def typed_clinical(clinical: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Type the clinical columns: `patient` text; times float; events 0/1 float; responses and groups text.

    A covariate is float when every cell that is not missing is a number, else text. Missing is NaN in numbers and
    None in text. The table must have passed `read_clinical` without errors.
    """
    decimal = settings.clinical.decimal
    typed = {"patient": clinical["patient"].astype(object)}
    times = {outcome.time for outcome in settings.outcomes.values()} | course_columns(settings)
    events = {outcome.event: outcome.event_value for outcome in settings.outcomes.values()}
    words = {response.column for response in settings.responses.values()} | set(settings.groups)
    for column in clinical.columns.drop("patient"):
        texts = clinical[column].tolist()
        if column in times:
            typed[column] = _numbers(texts, decimal)
        elif column in events:
            typed[column] = np.array([_event(text, events[column]) for text in texts], dtype=np.float64)
        elif column in words or not _all_numbers(texts, decimal):
            typed[column] = pd.Series([text.strip() or None for text in texts], dtype=object)
        else:
            typed[column] = _numbers(texts, decimal)
    return pd.DataFrame(typed)


def _event(text: str, event_value: float | str) -> float:
    return np.nan if text.strip() in MISSING else float(same_value(text, event_value))


def _numbers(texts: list[str], decimal: str) -> np.ndarray:
    values = [np.nan if text.strip() in MISSING else number_in(text, decimal=decimal) for text in texts]
    return np.array(values, dtype=np.float64)


def _all_numbers(texts: list[str], decimal: str) -> bool:
    try:
        values = _numbers(texts, decimal)
    except ValueError:
        return False
    return bool(np.isfinite(values).any()) and not np.isinf(values).any()
