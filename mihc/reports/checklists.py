"""Reporting checklists, filled from what was done; what a program cannot know is left for the authors, and said.

REMARK: Altman, McShane, Sauerbrei, Taube: Reporting recommendations for tumor marker prognostic studies (REMARK):
explanation and elaboration. PLoS Medicine 9, 2012, e1001216; its 20 items.
mIF: the topics of Taube, Akturk, Angelo et al.: The Society for Immunotherapy of Cancer statement on best practices for
multiplex immunohistochemistry and immunofluorescence staining and validation. J Immunother Cancer 8, 2020, e000155;
and Taube, Sunshine, Angelo et al.: updates and best practices for image analysis and data sharing. J Immunother Cancer
13, 2025, e008875. Journals may ask for the items of STORMI (Sater et al., J Immunother Cancer 13, 2025, e012280).
The words are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from mihc.reports.claims import TEST_NAMES, split_words, tests
from mihc.reports.commands import failed
from mihc.reports.doubts import listed
from mihc.reports.numbers import Numbers, counted, text
from mihc.reports.thresholds import interval_columns
from mihc.study import Study

REMARK = "the REMARK recommendations (Altman and others, PLoS Medicine 2012, 9:e1001216)"
MIF = (
    "the SITC statements on multiplex staining and image analysis (Taube and others, J Immunother Cancer 2020, "
    "8:e000155 and 2025, 13:e008875); journals may ask for the items of STORMI (Sater and others, 2025, 13:e012280)"
)


@dataclass(frozen=True)
class Item:
    """One thing that a reader of a publication must be told."""

    number: str
    asked: str
    told: str
    known: bool = True  # False: a person must fill it in; `told` is what mihc has towards it


@dataclass(frozen=True)
class Checklist:
    """A list of items and where they come from."""

    title: str
    source: str
    items: tuple[Item, ...]


def checklists(numbers: Numbers, study: Study, run: dict) -> list[Checklist]:
    """Both checklists; `run` is what run.json holds."""
    return [
        Checklist("REMARK, prognostic markers", REMARK, tuple(_remark(numbers, study))),
        Checklist("Multiplex immunofluorescence, image analysis", MIF, tuple(_mif(numbers, study, run))),
    ]


def _remark(numbers: Numbers, study: Study) -> Iterator[Item]:
    settings, patients, slides = study.settings, numbers["patients"], numbers["slides"]
    rows = tests(numbers["statistics"])
    yield Item("1", "The markers, the aims and the hypotheses fixed beforehand",
               f"Markers: {_populations(patients)}. Aims and hypotheses: the authors'.", False)  # fmt: skip
    yield Item("2", "The patients: stage, co-morbidity, where from, whom taken and left out", _counts(numbers), False)
    yield Item("3", "The treatments, and how they were chosen", "", False)
    yield Item("4", "The specimens: kind, handling, storage, controls", _controls(slides), False)
    yield Item("5", "The assay: reagents, protocol, scoring, blinding",
               f"Scored by program: {_thresholds(numbers)}. The program saw no outcome while it measured. "
               "Antibodies and protocol: the authors'.")  # fmt: skip
    yield Item("6", "The design: prospective or not, period, follow-up", _follow_up(numbers, study), False)
    yield Item("7", "The clinical endpoints, exactly", _endpoints(study), bool(settings.outcomes or settings.responses))
    yield Item("8", "All variables that were looked at or considered", _variables(study))
    yield Item(
        "9", "The sample size and how it was chosen", f"{_power(numbers)}The reason for it: the authors'.", False
    )
    yield Item("10", "The statistical methods, model building, missing data", f"{_methods(rows)} See Methods.")
    yield Item("11", "How marker values were handled in the analyses, cut points and how they were found", _cuts(study))
    yield Item("12", "The flow of patients through the study, events in each group", _flow(numbers))
    yield Item("13", "The distribution of patients' characteristics and of the markers, with what is missing",
               "Every patient stands in the table of patients; distributions are drawn in Associations. "
               f"{_missing(patients)}")  # fmt: skip
    yield Item("14", "The relation of the marker to standard prognostic variables",
               f"Tested against {listed(settings.groups)}." if settings.groups else "No clinical column was compared.",
               bool(settings.groups))  # fmt: skip
    yield Item("15", "Univariable relations with outcome, effect and interval, Kaplan-Meier", _univariable(rows))
    yield Item("16", "Multivariable effects with intervals, with all variables of the model", _beside(study),
               bool(settings.cox_covariates))  # fmt: skip
    yield Item("17", "Effects of marker and standard variables whether significant or not",
               "All tests stand by family, significant or not, the covariates of each model among them.")  # fmt: skip
    yield Item(
        "18", "Further investigations: checks of assumptions, sensitivity, internal validation", _further(numbers)
    )
    yield Item("19", "The results in the light of the hypotheses and of other studies; limits",
               "What makes numbers fragile is listed at the top; the discussion: the authors'.", False)  # fmt: skip
    yield Item("20", "What follows for research and for the clinic", "Research use only.", False)


def _mif(numbers: Numbers, study: Study, run: dict) -> Iterator[Item]:
    settings = study.settings
    panels = {name: ", ".join(row.marker for row in panel.markers) for name, panel in study.panels.items()}
    told = "; ".join(f"{name or 'panel'}: {markers}" for name, markers in panels.items())
    yield Item(
        "1", "The panel: antibodies, clones, fluorophores, order, validation", f"{told}. The rest: the authors'.", False
    )
    yield Item("2", "Controls of staining, and batch effects", f"{_controls(numbers['slides'])} {_batches(numbers)}")
    yield Item(
        "3", "Scanner, objective, exposure, pixel size", f"Pixel sizes are listed in Methods. {_pixels(numbers)}", False
    )
    yield Item("4", "Unmixing, flat field, registration", "As the scanner's software delivered the images.", False)
    yield Item("5", "Whole slides or fields; how regions were chosen", _regions(study))
    yield Item("6", "Quality control of tissue and image, what was excluded", _quality(numbers))
    yield Item("7", "Segmentation of tissue, nuclei and cells: method, settings, how it was checked",
               f"Nuclei: method {settings.segmentation.method}, hint {settings.segmentation.nucleus_diameter_um:g} "
               f"µm; cells: grown by at most {settings.segmentation.cell_expansion_um:g} µm. The outlines can be "
               "looked at in the review.")  # fmt: skip
    yield Item("8", "Phenotypes: definition, thresholds, who set them", f"{_phenotypes(study)} {_thresholds(numbers)}.")
    yield Item("9", "Impossible or unexpected co-expression", _pairs(numbers), len(numbers["pairs"]) > 0)
    yield Item("10", "The measures: density, percentage, denominators, areas",
               "Density: positive cells / analysed mm²; positivity: positive / all cells of the region × 100; with "
               "their counts in regions.csv.")  # fmt: skip
    yield Item(
        "11",
        "Several slides or fields of a patient: how combined",
        "Pooled: sum of positive cells / sum of area or of cells; patients are the unit of every test.",
    )
    yield Item("12", "Readers: who reviewed, agreement with a pathologist", _reviewed(numbers), False)
    versions = run.get("versions", {})
    named = ", ".join(f"{name} {versions[name]}" for name in ("mihc", "python") if name in versions)
    yield Item("13", "Software with versions and settings; repeatability",
               f"{named or 'see Provenance'}; settings and hashes of the inputs stand in Provenance.")  # fmt: skip
    yield Item("14", "Where images, tables and code can be had", "", False)


def _populations(patients: pd.DataFrame) -> str:
    return listed((str(name).split("|")[0] for name in patients if str(name).count("|") == 2), 12) or "none"


def _counts(numbers: Numbers) -> str:
    slides, patients = numbers["slides"], numbers["patients"]
    lost = len(failed(slides))
    return f"{counted(len(patients), 'patient')}, {counted(len(slides), 'slide')}, {lost} of them failed."


def _controls(slides: pd.DataFrame) -> str:
    names = [text(row.slide) for row in slides.itertuples() if text(getattr(row, "control", ""))]
    return f"Control slides: {listed(names)}." if names else "No control slide is listed in slides.csv."


def _batches(numbers: Numbers) -> str:
    slides = numbers["slides"]
    names = {text(name) for name in slides["batch"]} - {""} if "batch" in slides else set()
    return f"{counted(len(names), 'batch', 'batches')}, compared in Thresholds." if names else "No batch is named."


def _thresholds(numbers: Numbers) -> str:
    table = numbers["thresholds"]
    if table.empty:
        return "thresholds came with the cells"
    verdicts = table["verdict"].map(text).value_counts()
    return "thresholds by slide and marker, " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())


def _follow_up(numbers: Numbers, study: Study) -> str:
    rows = numbers["statistics"]
    rows = rows[rows["term"] == "follow-up"] if len(rows) else rows
    told = [
        f"{text(row.endpoint)}: median follow-up {float(row.estimate):.3g} {study.settings.outcomes[row.endpoint].unit}"
        for row in rows.itertuples()
        if text(row.endpoint) in study.settings.outcomes and float(row.estimate) == float(row.estimate)
    ]
    return f"{'; '.join(told)} (reverse Kaplan-Meier)." if told else ""


def _endpoints(study: Study) -> str:
    outcomes = [f"{name}: {one.time} ({one.unit}), event where {one.event} is {one.event_value}" for name, one in
                study.settings.outcomes.items()]  # fmt: skip
    responses = [
        f"{name}: {', '.join(one.responders)} in {one.column}" for name, one in study.settings.responses.items()
    ]
    return "; ".join(outcomes + responses) + "." if outcomes or responses else "None was given."


def _variables(study: Study) -> str:
    settings = study.settings
    named = [*settings.outcomes, *settings.responses, *settings.groups, *settings.cox_covariates]
    return f"{listed(named, 20) or 'No clinical variable'}; all populations in every tissue class and measure."


def _power(numbers: Numbers) -> str:
    families = numbers["families"]
    return "What each family could have found stands in Robustness. " if len(families) else ""


def _methods(rows: pd.DataFrame) -> str:
    used = [TEST_NAMES[name] for name in dict.fromkeys(rows["analysis"])] if len(rows) else []
    return (
        f"{', '.join(used)}; patients with a missing value are left out of that test."
        if used
        else "Nothing was tested."
    )


def _cuts(study: Study) -> str:
    splits = study.settings.splits
    cuts = [split_words(f"marker:{name}") for name in splits.marker]
    times = [split_words(f"outcome:{name}") for name in splits.outcome if name != "none"]
    told = "Continuous first (log1p, per SD)"
    told += f"; markers cut by {', '.join(cuts)}" if cuts else ""
    return (
        told
        + (f"; follow-up cut by {', '.join(times)}" if times else "")
        + "; cuts chosen by the data are marked exploratory."
    )


def _flow(numbers: Numbers) -> str:
    return f"{_counts(numbers)} Patients and events stand beside every test; slides and cells in Slides."


def _missing(patients: pd.DataFrame) -> str:
    own, _bounded = interval_columns(patients.columns)  # a value that has no interval is not missing
    columns = [name for name in own if name.count("|") == 2]
    n = int(patients[columns].isna().any(axis=1).sum()) if columns else 0
    return (
        f"{counted(n, 'patient lacks', 'patients lack')} a value, each with its reason."
        if n
        else "No value is missing."
    )


def _univariable(rows: pd.DataFrame) -> str:
    n = int((rows["analysis"] == "cox").sum()) if len(rows) else 0
    return f"{counted(n, 'Cox estimate')} with intervals, each population by itself; Kaplan-Meier curves." if n else \
        "No endpoint with follow-up was given."  # fmt: skip


def _beside(study: Study) -> str:
    names = study.settings.cox_covariates
    return (
        f"Beside {listed(names)}, the univariable model next to it."
        if names
        else "No covariate is named in study.toml."
    )


def _further(numbers: Numbers) -> str:
    cox = numbers["statistics"]
    checked = "p_proportional" in cox and pd.to_numeric(cox["p_proportional"], errors="coerce").notna().any()
    found = ["proportional hazards of each Cox term (score test, beside its p)"] if checked else []
    found += [words for name, words in (
        ("robustness", "every analysis under other plausible choices"), ("influence", "each patient left out in turn"),
        ("dropout", "censoring that goes with a marker"),
    ) if len(numbers[name])]  # fmt: skip
    return (
        f"{found[0][0].upper()}{', '.join(found)[1:]}. No other cohort was seen."
        if found
        else "None beside the checks of this report."
    )


def _pixels(numbers: Numbers) -> str:
    slides = numbers["slides"]
    if "pixel_size_um" not in slides:
        return ""
    sizes = sorted({text(size) for size in slides["pixel_size_um"]} - {""})
    return f"{listed(sizes, 4)} µm per pixel." if sizes else ""


def _regions(study: Study) -> str:
    regions = study.settings.regions
    return f"Whole slides; regions: {regions.source}; where they overlap {' > '.join(regions.precedence)}."


def _quality(numbers: Numbers) -> str:
    qc = numbers["qc"]
    if qc.empty:
        return "The cells came as tables."
    verdicts = qc["verdict"].map(text).value_counts()
    told = ", ".join(f"{n} {word}" for word, n in verdicts.items())
    return f"Checks: {told}; excluded areas by reason in the area ledger."


def _phenotypes(study: Study) -> str:
    told = [f"{name} = {expression}" for name, expression in study.settings.phenotypes.items()]
    return f"{'; '.join(told)}." if told else "Markers only."


def _pairs(numbers: Numbers) -> str:
    pairs = numbers["pairs"]
    return f"{counted(pairs['pair'].nunique(), 'pair')} measured on every slide, see Calls." if len(pairs) else ""


def _reviewed(numbers: Numbers) -> str:
    table = numbers["thresholds"]
    typed = table[table["verdict"] == "manual"] if len(table) else table
    if typed.empty:
        return "No threshold was typed by a person."
    who = [text(name) for name in typed["who"]] if "who" in typed else []
    by = f" by {listed(name for name in who if name)}" if any(who) else ""
    return f"{counted(len(typed), 'threshold')} typed{by}."
