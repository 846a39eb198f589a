"""The one HTML that a person reads, and the figures folder beside it.

The report answers first and shows its work after. It is one file that fetches nothing: pictures are data URIs, the
style is inside, and its content security policy forbids everything else. Text from files is escaped at one place, the
template engine, after control and direction characters have been made visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mihc.figures import (
    SlidePicture,
    ledger_plot,
    plain,
    png_bytes,
    safe_name,
    save,
    slide_overview,
    slide_svg,
    threshold_plot,
)
from mihc.plots.pictures import Histogram, Histograms
from mihc.plots.style import REGION_COLOURS
from mihc.reports.answers import answers, same_words, words_of
from mihc.reports.associations import families, forests, leading, leading_words
from mihc.reports.calls import calls_chapter
from mihc.reports.cell_flow import cell_flows, counted_flows, pooled
from mihc.reports.checklists import checklists
from mihc.reports.checks import checks
from mihc.reports.claims import (
    KINDS,
    LEVEL,
    MEASURES,
    TEST_NAMES,
    claimable,
    effect_form,
    findings,
    is_exploratory,
    nothing_found,
    split_words,
    stands,
    tests,
)
from mihc.reports.commands import failed
from mihc.reports.doubts import claimed_markers, doubts, suspects
from mihc.reports.explorer import explorer
from mihc.reports.groups import PatientGroups
from mihc.reports.heat import heat_maps
from mihc.reports.methods import flattened, methods
from mihc.reports.numbers import Numbers, as_float, counted, rounded, text
from mihc.reports.outcomes import endpoints, responses
from mihc.reports.patient_slides import patient_slides
from mihc.reports.response_course import endpoint_units, response_courses
from mihc.reports.robustness import robustness, sureness
from mihc.reports.scripts import policy, scripts
from mihc.reports.slide_pages import most_points, point_colours, points_note, slide_pages
from mihc.reports.thresholds import Drift, drifts, has_interval, interval_columns, taken_beside_own, typed
from mihc.reports.tissue import confusion, margin_profiles
from mihc.reports.withheld import missing_values, summed_up, withheld
from mihc.study import Study

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

MOST_ROWS = 500  # of regions.csv in the page; the rest stands in the file, and on each slide's own page
MOST_COLUMNS = 20  # of a table on paper
TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    folder: Path,
    *,
    study: Study,
    tables: dict[str, pd.DataFrame],
    run: dict,
    pictures: Sequence[SlidePicture],
    histograms: Histograms | None = None,
) -> list[Path]:
    """Write report.html and figures/ into `folder`.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.
    study : Study
    tables : dict of DataFrame
        "regions", "bands", "patients", "statistics", "thresholds", "area_ledger", "qc" and, as far as the study has
        them, "classifier", "coexpression", "intensities", "pairs", "corrections", "pdl1", as the files of those names
        have them; "slides": slide, patient, panel, status ("ok" | "failed"), message and, where known, pixel_size_um,
        pixel_size_source; "notes": why patients' values are missing, as `study_notes` has them; "given_cells": slide,
        tissue_class, region, cells of the slides that came as tables of cells; "batches": how batches lie beside each
        other, "history": who typed which threshold when; "robustness", "robustness_summary", "influence",
        "splits", "families", "dropout" as the statistics write them. A missing or empty table leaves its chapter empty.
    run : dict
        What run.json holds: versions, settings, inputs, stages; shown as it is.
    pictures : sequence of SlidePicture
        One per slide that has a picture.
    histograms : dict of slide to dict of marker to Histogram
        Of slides without one.

    Returns
    -------
    list of Path
        Every file written, report.html first.
    """
    numbers = Numbers(tables, endpoint_units(study.settings))
    drawn: dict[str, Figure] = {}
    shapes = {**(histograms or {}), **{picture.slide: picture.histograms for picture in pictures}}
    page = _page(numbers, study, run, pictures, shapes, drawn)
    saved = {name: save(figure, folder / "figures", name) for name, figure in drawn.items()}
    path = folder / "report.html"
    path.write_text(_render(page | {"figure": _embedder(saved)}), encoding="utf-8", errors="replace", newline="\n")
    of_slides = [_slide_figures(folder / "figures", study, picture) for picture in pictures]
    of_slides += [_threshold_figures(folder / "figures", numbers, slide, found) for slide, found in shapes.items()]
    of_markers = [_drift_figure(folder / "figures", one) for one in page["drifts"]]
    return [path, *(file for files in (*saved.values(), *of_slides) for file in files), *of_markers]


def _page(
    numbers: Numbers,
    study: Study,
    run: dict,
    pictures: Sequence[SlidePicture],
    histograms: Histograms,
    drawn: dict[str, Figure],
) -> dict:
    """Everything that the template shows; figures are drawn into `drawn` on the way."""
    found = findings(numbers)
    spoken = tuple(dict.fromkeys(finding.question[1] for finding in found))
    if len(numbers["area_ledger"]):
        drawn["area_ledger"] = ledger_plot(numbers["area_ledger"], title="Area ledger")
    flows, missing = cell_flows(numbers), missing_values(numbers, study)
    groups = PatientGroups(numbers["patients"], study.settings)
    patient_columns, bounded = interval_columns(numbers["patients"].columns)
    region_columns, region_bounded = interval_columns(numbers["regions"].columns)
    suspected = suspects(numbers, claimed_markers(numbers, spoken, study.settings.phenotypes))
    pages = slide_pages(numbers, pictures, study.panels, spoken or _leading_populations(numbers), histograms, suspected)
    asked = _asked(numbers, study)
    spoken_rows = [row for finding in found for row in finding.rows] or _smallest(numbers)
    explored = explorer(numbers, groups, spoken_rows)
    run_here = scripts(TEMPLATES, explored=explored.any)
    shown = leading(numbers, study, groups, drawn, found)
    margin_bands, taught = margin_profiles(numbers, asked["populations"], drawn), confusion(numbers)
    return {
        "numbers": numbers,
        "explored": explored,
        "checks": checks(numbers),
        "checklists": checklists(numbers, study, run),
        "most_rows": MOST_ROWS,
        "most_columns": MOST_COLUMNS,
        "robust": robustness(numbers, spoken_rows),
        "sure": {finding.rows[0]: sureness(numbers, finding) for finding in found},
        "same": {finding.rows[0]: same_words(finding, study.settings.phenotypes) for finding in found},
        "heat": heat_maps(numbers, explored),
        "scripts": run_here,
        "policy": policy(run_here),
        "margin_bands": margin_bands,
        "confusion": taught,
        "called": list(dict.fromkeys(name for row in taught for name in row.rows)),
        "name": study.settings.study.name,
        "asked": asked,
        "findings": found,
        "nothing": nothing_found(numbers) if not found else "",
        "answers": answers(numbers, study, found),
        "estimate_words": words_of(numbers, found),
        "doubts": doubts(numbers),
        "withheld": withheld(missing),
        "withheld_words": summed_up(withheld(missing)),
        "missing": missing,
        "suspects": suspected,
        "flows": flows,
        "whole_flow": pooled(counted_flows(numbers, flows)),
        "responses": responses(numbers, study),
        "courses": response_courses(numbers, study, drawn),
        "endpoints": endpoints(numbers, study, drawn),
        "leading": shown,
        "leading_words": leading_words(shown, found),
        "forests": forests(numbers, drawn),
        "families": families(numbers),
        "calls": calls_chapter(numbers, study),
        "slides": pages,
        "patient_slides": patient_slides(numbers),
        "ledgers": bool(drawn.get("area_ledger")),
        "anchors": {page.slide: page.anchor for page in pages},
        "layer_count": max((len(page.layers) for page in pages), default=0),
        "region_colours": REGION_COLOURS,
        "drifts": drifts(numbers),
        "beside_own": taken_beside_own(numbers),
        "typed": typed(numbers),
        "region_columns": region_columns,
        "patient_columns": patient_columns,
        "bounded": bounded | region_bounded,
        "measured": _measured_columns(numbers["patients"]),
        "points_note": points_note(most_points(pictures)),
        "methods": methods(numbers, study, run),
        "run": {name: list(flattened(run[name])) for name in run if isinstance(run[name], (dict, list))},
    }


def _asked(numbers: Numbers, study: Study) -> dict[str, object]:
    patients, slides = numbers["patients"], numbers["slides"]
    controls = slides["slide"].map(text).isin(numbers.control_slides) if len(slides) else pd.Series(dtype=bool)
    columns = [str(name).split("|")[0] for name in patients if str(name).count("|") == 2]
    rows = tests(numbers["statistics"])
    return {
        "patients": len(patients),
        "slides": len(slides),
        "failed": len(failed(slides)),
        "controls": int(controls.sum()),
        "counting": len(slides[~controls & ~slides.index.isin(failed(slides).index)]) if len(slides) else 0,
        "endpoints": [*study.settings.outcomes, *study.settings.responses],
        "groups": list(study.settings.groups),
        "populations": list(dict.fromkeys(columns)),
        "tests": len(rows),
        "families": int(rows["family"].nunique()) if len(rows) else 0,
        "covariates": _covariate_estimates(numbers["statistics"]),
    }


def _covariate_estimates(statistics: pd.DataFrame) -> int:
    """How many p belong to covariates of a model: they were not asked, and stand in families of their own."""
    of_covariates = statistics["family"].map(text).str.endswith("the covariates") if len(statistics) else []
    return (
        int(pd.to_numeric(statistics.loc[of_covariates, "p"], errors="coerce").notna().sum()) if len(statistics) else 0
    )


def _measured_columns(patients: pd.DataFrame) -> set[str]:
    """The columns of patients.csv that hold numbers; the others are shown as text."""
    numeric = {str(name) for name in patients.select_dtypes("number").columns}
    return numeric | {str(name) for name in patients if str(name).count("|") == 2}


def _smallest(numbers: Numbers) -> list[int]:
    """The rows of statistics.csv with the smallest p, for a report that claims nothing."""
    rows = claimable(numbers["statistics"])
    return [int(index) for index in pd.to_numeric(rows["p"]).sort_values(kind="stable").index] if len(rows) else []


def _leading_populations(numbers: Numbers) -> tuple[str, ...]:
    """The population of the smallest p, for a report that claims nothing."""
    rows = claimable(numbers["statistics"])
    rows = rows[rows["population"].map(text) != ""] if len(rows) else rows
    return (text(rows.loc[pd.to_numeric(rows["p"]).idxmin(), "population"]),) if len(rows) else ()


def _embedder(saved: dict[str, list[Path]]) -> Callable[[str], str]:
    """A function for the template: a figure's name to its SVG as a data URI."""
    from mihc.plots.pictures import data_uri

    return lambda name: data_uri(saved[name][0].read_bytes(), "image/svg+xml")


def _drift_figure(folder: Path, drift: Drift) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{safe_name('drift', drift.name)}.svg"
    path.write_text(f"{drift.picture}\n", encoding="utf-8", errors="replace", newline="\n")
    return path


def _slide_figures(folder: Path, study: Study, picture: SlidePicture) -> list[Path]:
    colours = point_colours(list(picture.positives), study.panels.get(picture.panel))
    folder.mkdir(parents=True, exist_ok=True)
    name = safe_name("slide", picture.slide)
    written = [folder / f"{name}.svg", folder / f"{name}.png"]
    written[0].write_text(slide_svg(picture, colours), encoding="utf-8", errors="replace", newline="\n")
    written[1].write_bytes(png_bytes(slide_overview(picture, colours), dpi=110))
    return written


def _threshold_figures(folder: Path, numbers: Numbers, slide: str, found: dict[str, Histogram]) -> list[Path]:
    thresholds = numbers["thresholds"]
    if not found or not len(thresholds):
        return []
    rows = thresholds[thresholds["slide"].astype(str) == slide]
    figure = threshold_plot(found, rows, title=f"{slide}: thresholds")
    return save(figure, folder, safe_name("thresholds", slide))


def _render(page: dict) -> str:
    return _templates().get_template("report.html.j2").render(page)


def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            value if isinstance(value, Markup) else plain(value) if isinstance(value, str) else value
        ),
    )
    environment.globals.update(text=text, as_float=as_float, rounded=rounded, tests=TEST_NAMES, measures=MEASURES)
    environment.globals.update(counts=lambda n: rounded(float(n), "count"))
    environment.globals.update(
        effect_form=effect_form, counted=counted, kinds=KINDS, is_exploratory=is_exploratory, split_words=split_words
    )
    environment.globals.update(has_interval=has_interval, level=f"{LEVEL:g}", stands=stands)
    return environment
