"""Where strokes and the tissue classifier lie in a study, and what stands against using them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mihc.errors import InputError, Problem

if TYPE_CHECKING:
    from mihc.studies.folder import Study
    from mihc.studies.slide_list import SlideRow

FOLDER = "annotations/strokes"
EXTRA = 'Type: pip install "mihc[classifier]"'


def stroke_files(study: Study) -> dict[SlideRow, Path]:
    """Return the slides that have strokes, with their file, in the order of slides.csv."""
    files = {row: study.folder / FOLDER / f"{row.slide}.geojson" for row in study.slides if row.file is not None}
    return {row: path for row, path in files.items() if path.is_file()}


def classifier_file(study: Study) -> Path:
    """Return where the trained tissue classifier lies, with people's work."""
    return study.folder / "review" / "classifier" / "classifier.json"


def stroke_problems(study: Study) -> list[Problem]:
    """List what stands against strokes and the classifier that study.toml asks for."""
    files = stroke_files(study)
    strays = _stray_strokes(study, files)
    if study.settings.regions.source != "classifier":
        fix = 'Write source = "classifier" under [regions], or move the folder away.'
        what = "strokes are there, but study.toml takes regions from elsewhere, so they are not used"
        return strays + ([Problem(f"{FOLDER}/", what, fix, "warning")] if files else [])
    if not files and not classifier_file(study).is_file():
        fix = f"Draw lines in QuPath, give each a class, and save them as {FOLDER}/<slide>.geojson."
        return [*strays, Problem("study.toml, [regions]", 'source = "classifier" needs strokes: there are none', fix)]
    problems = [problem for row, path in files.items() for problem in _unreadable(study, row, path)]
    if files and find_spec("sklearn") is None:
        problems.append(Problem("study.toml, [regions]", 'source = "classifier" needs scikit-learn', EXTRA))
    return strays + problems + (_panels_without(study, files) if files else [])


def _stray_strokes(study: Study, files: Mapping[SlideRow, Path]) -> list[Problem]:
    used = set(files.values())
    fix = "Name it <slide>.geojson, after a slide id of slides.csv that has a picture."
    found = sorted(path for path in (study.folder / FOLDER).glob("*") if path.is_file() and path.suffix)
    return [
        Problem(f"{FOLDER}/{path.name}", "belongs to no slide, so it is not used", fix, "warning")
        for path in found
        if path not in used
    ]


def _unreadable(study: Study, row: SlideRow, path: Path) -> list[Problem]:
    from mihc.annotations.strokes import read_strokes
    from mihc.regions import map_strokes

    try:
        map_strokes(read_strokes(path), study.settings.regions.classes)
    except InputError as error:
        return [Problem(f"slide {row.slide}, {error.place}", error.what, error.fix)]
    return []


def _panels_without(study: Study, files: Mapping[SlideRow, Path]) -> list[Problem]:
    """Slides that would need a classifier of a panel on which nobody drew."""
    taught = {row.panel for row in files}
    needing = [row for row in study.slides if row.file is not None and row.annotations is None]
    lacking = dict.fromkeys(row.panel for row in needing if row.panel not in taught)
    return [
        Problem(
            f"{FOLDER}/",
            f"no slide of panel {panel!r} has strokes, and its slides have no annotations",
            "Draw strokes on one of its slides: a classifier knows only the channels it was trained on.",
        )
        for panel in lacking
    ]
