"""Why values of patients are missing: the notes to patients.csv, in one line per slide and marker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from mihc.errors import PanelError
from mihc.positives import parse_expression
from mihc.reports.commands import Target, opened
from mihc.reports.numbers import Numbers, counted, sentence, text
from mihc.study import Study, pdl1_expressions

SCORES = "TPS and CPS"
CANNOT_TELL = "the threshold cannot tell"
CLASSES = {"all": "the whole tissue"}
MEASURES = {"density_per_mm2": "densities of ", "positivity_percent": "positivity of "}
MORE_MEASURES = {"h_score": "H-scores of "}  # of markers with levels only
ORDER = ("tumour", "stroma", "other", "all")
DEEDS = ("withheld", "left out")

Places = tuple[tuple[str, ...], tuple[str, ...]]  # tissue classes, measures; () = every one


@dataclass(frozen=True)
class Missing:
    """Values of patients that are missing, or pool fewer slides, for one reason."""

    slide: str  # "" = no slide in particular
    marker: str  # whose threshold cannot tell; "" where that is not the reason
    deed: str  # "withheld" | "left out" (the patient's other slides are pooled) | "" = there was nothing to measure
    reason: str
    patients: tuple[str, ...]
    values: str  # of which populations, where: "CD3, B cell in stroma"
    command: str  # "" where no review can show it

    @property
    def line(self) -> Markup:
        """The whole of it in one sentence, but for the slide's and the marker's names."""
        done = {"withheld": "withheld", "left out": "pooled without this slide"}.get(self.deed, "missing")
        patients = counted(len(self.patients), "patient").partition(" ")[2] + " " + ", ".join(self.patients)
        pieces = {"done": done, "patients": patients, "values": self.values, "reason": self.reason.removesuffix(".")}
        return sentence("{done} for {patients}: {values} ({reason})", pieces)


def missing_values(numbers: Numbers, study: Study) -> list[Missing]:
    """Every reason why a patient's value is missing: those of slides first, in the order of slides and panel.

    A phenotype stands with each marker of its expression whose threshold cannot tell on that slide.
    """
    notes = numbers["notes"]
    if notes.empty:
        return []
    unclear, scored = _Unclear(numbers["thresholds"], study.settings.phenotypes), _scores(study)
    expressions = study.settings.phenotypes | scored
    touched: dict[tuple[str, ...], dict[str, dict[str, list[tuple[str, str]]]]] = {}
    for note in notes.itertuples():
        slide, population = text(note.slide), text(note.population)
        deed, reason = _deed(text(note.note))
        markers = unclear.markers(slide, population, expressions) if reason == CANNOT_TELL else [""]
        place = (text(note.tissue_class), text(note.measure))
        for marker in markers:
            key = (slide, SCORES if marker in scored else marker, deed, reason)
            of_patient = touched.setdefault(key, {}).setdefault(text(note.patient), {})
            of_patient.setdefault(SCORES if population in scored else population, []).append(place)
    reported = _reported(numbers["patients"])
    can_open = opened(numbers)
    found = [
        Missing(*key, patients=patients, values=values, command=_command(key, can_open))
        for key, by_patient in touched.items()
        for values, patients in _alike(by_patient, reported).items()
    ]
    return sorted(found, key=lambda one: (one.slide == "", unclear.place(numbers["slides"], one), one.patients))


def withheld(found: Sequence[Missing]) -> list[Missing]:
    """Those that a slide is the reason of: a person can do something about them."""
    return [one for one in found if one.deed and one.slide]


def summed_up(found: Sequence[Missing]) -> list[Markup]:
    """What `withheld` lists, in one sentence per reason: which markers, of how many patients."""
    reasons: dict[tuple[str, str], dict[str, set[str]]] = {}
    for one in found:
        names = reasons.setdefault((one.deed, one.reason.removesuffix(".")), {})
        names.setdefault(one.marker or one.values, set()).update(one.patients)
    words = {"withheld": "Withheld", "left out": "Pooled without a slide"}
    return [
        sentence("{deed}: {names} ({reason}).", {
            "deed": words[deed], "reason": reason,
            "names": ", ".join(f"{name} of {counted(len(patients), 'patient')}" for name, patients in names.items()),
        })
        for (deed, reason), names in reasons.items()
    ]  # fmt: skip


def _deed(note: str) -> tuple[str, str]:
    deed, told, reason = note.partition(": ")
    return (deed, reason) if told and deed in DEEDS else ("", note)


def _scores(study: Study) -> dict[str, str]:
    """The populations that are counted for TPS and CPS only, with their expressions."""
    return pdl1_expressions(study.settings.pdl1) if study.settings.pdl1 else {}


class _Unclear:
    """Which thresholds cannot tell, by slide, and the slides' markers in the order of thresholds.csv."""

    def __init__(self, thresholds: pd.DataFrame, phenotypes: dict[str, str]):
        self.phenotypes = phenotypes
        self.verdicts: dict[str, dict[str, str]] = {}
        for row in thresholds.itertuples() if len(thresholds) else ():
            self.verdicts.setdefault(text(row.slide), {})[text(row.marker)] = text(row.verdict)

    def markers(self, slide: str, population: str, expressions: dict[str, str]) -> list[str]:
        """The markers for which a population is not known on a slide; itself where none can be named."""
        verdicts = self.verdicts.get(slide, {})
        named = () if population in verdicts else self._named(expressions.get(population, ""), verdicts)
        return [marker for marker in named if verdicts[marker] == "cannot tell"] or [population]

    def _named(self, expression: str, verdicts: dict[str, str]) -> Iterable[str]:
        try:
            parsed = parse_expression(expression, list(verdicts), phenotypes=self.phenotypes) if expression else None
        except PanelError:  # not of this slide's panel: the population stands for itself
            return ()
        return parsed.markers if parsed else ()

    def place(self, slides: pd.DataFrame, one: Missing) -> tuple[int, int]:
        """Where a line stands among the others."""
        listed = list(slides["slide"].map(text)) if len(slides) else []
        markers = list(self.verdicts.get(one.slide, {}))
        return (
            listed.index(one.slide) if one.slide in listed else len(listed),
            markers.index(one.marker) if one.marker in markers else len(markers),
        )


def _command(key: tuple[str, ...], can_open: set[str]) -> str:
    slide, marker, _deed, _reason = key
    return Target(slide, population=marker if marker != SCORES else "").command if slide in can_open else ""


def _reported(patients: pd.DataFrame) -> dict[str, set[str]]:
    """Every population of patients.csv with the tissue classes it has columns of."""
    reported: dict[str, set[str]] = {}
    for name in patients:
        if str(name).count("|") == 2:
            population, tissue_class, _measure = str(name).split("|")
            reported.setdefault(population, set()).add(tissue_class)
    return reported


def _alike(
    by_patient: dict[str, dict[str, list[tuple[str, str]]]], reported: dict[str, set[str]]
) -> dict[str, tuple[str, ...]]:
    """What is missing, in words, with the patients of whom just that is missing."""
    alike: dict[str, tuple[str, ...]] = {}
    for patient, populations in sorted(by_patient.items()):
        values = _values({name: _places(name, places, reported) for name, places in populations.items()}, reported)
        alike[values] = (*alike.get(values, ()), patient)
    return alike


def _places(population: str, places: list[tuple[str, str]], reported: dict[str, set[str]]) -> Places:
    """Tissue classes and measures; empty where it is every one, and for TPS and CPS, which have but one value."""
    classes, measures = ({place[index] for place in places} for index in (0, 1))
    every_class = "" in classes or classes >= reported.get(population, set())
    every_measure = "" in measures or measures >= set(MEASURES)
    if population == SCORES:
        return (), ()
    return (
        () if every_class else tuple(sorted(classes, key=lambda name: (name not in ORDER, _rank(name), name))),
        () if every_measure else tuple(sorted(measures)),
    )


def _rank(tissue_class: str) -> int:
    return ORDER.index(tissue_class) if tissue_class in ORDER else len(ORDER)


def _values(populations: dict[str, Places], reported: dict[str, set[str]]) -> str:
    """ "CD3, B cell in stroma": populations of one place together, in the order of patients.csv."""
    together: dict[Places, list[str]] = {}
    for name in [*(name for name in reported if name in populations), *(n for n in populations if n not in reported)]:
        together.setdefault(populations[name], []).append(name)
    return "; ".join(_told(names, *places, set(reported)) for places, names in together.items())


def _told(names: list[str], classes: tuple[str, ...], measures: tuple[str, ...], reported: set[str]) -> str:
    every = len(reported) > 1 and reported <= set(names)
    named = ["every population", *(name for name in names if name not in reported)] if every else names
    where = " and ".join(CLASSES.get(name, name) for name in classes)
    return (MEASURES | MORE_MEASURES).get("".join(measures), "") + ", ".join(named) + (f" in {where}" if where else "")
