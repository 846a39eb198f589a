"""The chapter of each response's course: waterfall, spider and swimmer plots, where study.toml names their columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mihc.associate import label_text
from mihc.figures import Course, safe_name, spider_plot, swimmer_plot, waterfall_plot
from mihc.reports.numbers import Numbers, as_float, text
from mihc.study import Response, Settings, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ResponseCourse:
    """The figures of one response."""

    name: str
    figures: tuple[tuple[str, str], ...]  # key in the report, what the figure shows
    until: str  # the endpoint that ends a response, "" where none is named


def endpoint_units(settings: Settings) -> dict[str, str]:
    """The unit of the times of every endpoint; that of a response is the unit of the endpoint that ends it."""
    units = {name: outcome.unit for name, outcome in settings.outcomes.items()}
    ended = {name: units[one.until] for name, one in settings.responses.items() if one.until in units}
    return units | ended


def response_courses(numbers: Numbers, study: Study, figures: dict[str, Figure]) -> list[ResponseCourse]:
    """Every response with a figure of its course; the figures are put into `figures`."""
    found = [_course(numbers, study.settings, name, figures) for name in study.settings.responses]
    return [course for course in found if course.figures]


def _course(numbers: Numbers, settings: Settings, name: str, figures: dict[str, Figure]) -> ResponseCourse:
    response = settings.responses[name]
    patients = courses_of(numbers, settings, response)
    unit = endpoint_units(settings).get(name, "")
    drawn = {}
    if any(math.isfinite(one.best_change) for one in patients):
        drawn["waterfall", "Best change of each patient's lesions"] = waterfall_plot(
            patients, title=f"{name}: best change"
        )
    if any(one.changes for one in patients):
        drawn["spider", "Change of each patient's lesions in time"] = spider_plot(
            patients, title=f"{name}: change in time", unit=unit
        )
    if response.until and any(math.isfinite(one.time) for one in patients):
        drawn["swimmer", f"Each patient's follow-up until {response.until}"] = swimmer_plot(
            patients, title=f"{name}: follow-up until {response.until}", unit=unit, until=response.until
        )
    keys = []
    for (kind, shows), figure in drawn.items():
        keys.append((safe_name(kind, name), shows))
        figures[keys[-1][0]] = figure
    return ResponseCourse(name, tuple(keys), response.until)


def courses_of(numbers: Numbers, settings: Settings, response: Response) -> list[Course]:
    """Every patient's course, in the order of patients.csv."""
    outcome = settings.outcomes.get(response.until)
    courses = []
    for row in numbers["patients"].to_dict("records"):
        time, event = (as_float(row.get(column)) for column in ((outcome.time, outcome.event) if outcome else ("", "")))
        known = math.isfinite(time) and math.isfinite(event)
        changes = ((when, as_float(row.get(column))) for column, when in response.changes.items())
        courses.append(
            Course(
                patient=text(row["patient"]),
                category=label_text(row.get(response.column)),
                best_change=as_float(row.get(response.change)),
                changes=tuple(sorted(one for one in changes if math.isfinite(one[1]))),
                start=as_float(row.get(response.start)),
                time=time if known else math.nan,
                event=event if known else math.nan,
            )
        )
    return courses
