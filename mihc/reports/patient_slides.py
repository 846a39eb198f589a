"""Which slides are of which patient: the way from a patient's number to the pictures behind it."""

from __future__ import annotations

from dataclasses import dataclass

from mihc.reports.commands import failed
from mihc.reports.numbers import Numbers, text


@dataclass(frozen=True)
class PatientSlides:
    """A patient's slides in the order of slides.csv, each with what makes it count for nothing ("" = it counts)."""

    patient: str
    slides: tuple[tuple[str, str], ...]


def patient_slides(numbers: Numbers) -> list[PatientSlides]:
    """Every patient with slides, first those of patients.csv in its order; a patient without any has none."""
    slides, patients = numbers["slides"], numbers["patients"]
    found: dict[str, list[tuple[str, str]]] = {text(name): [] for name in patients.get("patient", ())}
    lost = set(failed(slides)["slide"].map(text)) if len(slides) else set()
    for row in slides.to_dict("records"):
        name, patient = text(row["slide"]), text(row.get("patient"))
        if patient:
            why = "failed" if name in lost else "control" if name in numbers.control_slides else ""
            found.setdefault(patient, []).append((name, why))
    return [PatientSlides(patient, tuple(mine)) for patient, mine in found.items()]
