"""Problems that only the slides' own words show: channels, pixel sizes, scenes, annotations, copies of a file.

A slide's description is read and none of its pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mihc.errors import InputError, Problem, StudyProblems
from mihc.segmenters import CLASSICAL, EXTRAS, missing_packages
from mihc.studies.copies import repeated_scenes, same_annotations, same_content
from mihc.studies.folder import Study
from mihc.studies.given_cells import given_cells, markers_without_threshold
from mihc.studies.given_thresholds import EVERY_SLIDE
from mihc.studies.given_thresholds import FILE as THRESHOLDS
from mihc.studies.near_names import near_miss
from mihc.studies.slide_list import ANNOTATION_SUFFIXES, SlideRow
from mihc.studies.strokes import stroke_problems
from mihc.windows import pixel_size_pair

UNMEASURED_PIXEL_UM = 1.0  # stands in when only the form of an annotation file is looked at


def slide_problems(study: Study, *, open_slides: bool) -> list[Problem]:
    """List the problems of every slide, its annotations, and of slides with the same content."""
    problems, called, scenes = [], {}, {}
    for row in study.slides:
        if row.cells is not None:
            if open_slides and row.cells.is_file() and row.panel in study.panels:
                problems_of_cells, called[row.slide] = _cells_problems(study, row)
                problems += problems_of_cells
        elif row.file is not None and row.file.exists() and open_slides:
            problems += _opened(study, row, scenes)
        else:
            problems += _annotations(study, row, row.pixel_size_um or UNMEASURED_PIXEL_UM, None)
    problems += _segmenter(study) + _untyped_thresholds(study, called) + repeated_scenes(study.slides, scenes)
    problems += same_content(study.slides) + same_annotations(study.slides) + _stray_annotations(study)
    return problems + stroke_problems(study)


def _segmenter(study: Study) -> list[Problem]:
    """What stands against the segmenter that study.toml names: its package, its weights."""
    named = study.settings.segmentation
    place = "study.toml, [segmentation]"
    if named.method in CLASSICAL:
        fix = "Name the method that reads them, or remove the key."
        return [Problem(place, f'method = "{named.method}" has no weights', fix)] if named.weights else []
    missing = missing_packages(named.method)
    if missing:
        return [
            Problem(place, f'method = "{named.method}" needs {missing}', f'Type: pip install "mihc[{named.method}]"')
        ]
    weights = study.folder / named.weights
    if named.weights and not weights.exists():
        fix = "Copy the trained model into the study's folder: mihc downloads nothing."
        return [Problem(place, f"there are no weights {named.weights}", fix)]
    if not named.weights and named.method in EXTRAS:
        fix = 'Write weights = "models/..." with the file or folder of the trained model: mihc downloads nothing.'
        return [Problem(place, f'method = "{named.method}" needs weights', fix)]
    return []


def _untyped_thresholds(study: Study, called: Mapping[str, Collection[str]]) -> list[Problem]:
    """Markers that stay uncalled under method = "manual"; `called` are those whose calls a slide's table brings."""
    if study.settings.thresholds.method != "manual":
        return []
    slides_of: dict[str, list[str]] = defaultdict(list)
    for row in study.slides:
        if row.panel in study.panels:
            for marker in markers_without_threshold(study, row):
                if marker not in called.get(row.slide, ()):
                    slides_of[marker].append(row.slide)
    return [
        Problem(
            'study.toml, [thresholds] method = "manual"',
            f"no threshold of {marker} is typed for {_some(slides)}: it stays unknown there",
            f"Type it in panel.csv or {THRESHOLDS}, or write method = " + '"auto".',
            "warning",
        )
        for marker, slides in slides_of.items()
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _stray_annotations(study: Study) -> list[Problem]:
    """Files in annotations/ that no slide uses: their regions would silently be left out."""
    used = {row.annotations for row in study.slides}
    folder = study.folder / "annotations"
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in ANNOTATION_SUFFIXES)
    return [
        Problem(
            f"annotations/{path.name}",
            "belongs to no slide, so it is not used",
            "Name it after a slide id of slides.csv, or write it in the column annotations.",
            "warning",
        )
        for path in found
        if path not in used
    ]


def _as_problems(error: InputError, row: SlideRow) -> list[Problem]:
    if isinstance(error, StudyProblems):
        return list(error.problems)
    place = f"slide {row.slide}, {error.place}" if error.place else f"slide {row.slide}"
    return [Problem(place, error.what, error.fix)]


def _cells_problems(study: Study, row: SlideRow) -> tuple[list[Problem], list[str]]:
    """The problems of a table of cells, and the markers that it brings calls of."""
    markers = [line.marker for line in study.panel_of(row).markers]
    try:
        cells = given_cells(study, row)
    except InputError as error:
        return _as_problems(error, row), markers
    return [], [marker for marker in markers if f"{marker}_positive" in cells]


def _opened(study: Study, row: SlideRow, scenes: dict[str, str]) -> list[Problem]:
    """Compare a slide with the study; its scene's name is put among `scenes`."""
    from mihc.slide import open_slide

    try:
        slide = open_slide(row.file, scene=row.scene, pixel_size_um=row.pixel_size_um, z=row.z)
    except InputError as error:
        return _as_problems(error, row) + _annotations(study, row, UNMEASURED_PIXEL_UM, None)
    with slide:
        scenes[row.slide] = slide.scene
        problems = [Problem(f"slide {row.slide}, {row.file.name}", text, "", "warning") for text in slide.warnings]
        problems += _channels(study, row, slide.channels)
        problems += _thresholds(study, row, slide.image.dtype)
        problems += _annotations(study, row, slide.pixel_size_um, slide.image.shape[1:])
    return problems


def _channels(study: Study, row: SlideRow, channels: Sequence[str]) -> list[Problem]:
    """The panel against the slide's channels, and channels that no line of the panel names."""
    if row.panel not in study.panels:
        return []
    panel = study.panel_of(row)
    try:
        used = set(panel.match(channels).values())
    except InputError as error:
        near = [f"{line.marker}{said}" for line in panel.measured if (said := near_miss(line.channel, channels))]
        return [replace(one, what="; ".join([one.what, *near])) for one in _as_problems(error, row)]
    ignored = {line.channel.casefold() for line in panel.rows if line.role == "ignore"}
    unused = [
        f"{index}: {name}"
        for index, name in enumerate(channels)
        if index not in used and name.casefold() not in ignored and str(index) not in ignored
    ]
    if not unused:
        return []
    what = f"channels that panel.csv does not name are not used: {', '.join(unused)}"
    return [Problem(f"slide {row.slide}", what, "Add them with the role ignore if that is meant.", "warning")]


def _thresholds(study: Study, row: SlideRow, dtype: np.dtype) -> list[Problem]:
    """Given thresholds that no pixel of the slide can reach."""
    if dtype.kind != "u" or row.panel not in study.panels:
        return []
    highest = int(np.iinfo(dtype).max)
    markers = study.panel_of(row).markers
    in_panel = [("panel.csv", line.marker, line.threshold) for line in markers if line.threshold]
    applies = study.thresholds["slide"].isin([EVERY_SLIDE, row.slide])
    applies &= study.thresholds["marker"].isin([line.marker for line in markers])
    given = study.thresholds.loc[applies, ["marker", "value"]].itertuples(index=False, name=None)
    return [
        Problem(
            f"slide {row.slide}, {place}",
            f"threshold {value:g} of {marker} is above {highest}, the most that {dtype.name} pixels can hold",
            "Give it in counts of this slide.",
        )
        for place, marker, value in [*in_panel, *((THRESHOLDS, *pair) for pair in given)]
        if value > highest
    ]


def _annotations(
    study: Study, row: SlideRow, pixel_size_um: float | tuple[float, float], shape: tuple[int, int] | None
) -> list[Problem]:
    """Whether the file parses, every class is mapped, and the regions lie on the slide (when its shape is known)."""
    from mihc import regions

    settings = study.settings.regions
    if settings.source == "auto" or row.annotations is None or not row.annotations.is_file():
        return []
    try:
        found, notes = regions.read_annotations(
            row.annotations, pixel_size_um=pixel_size_um, slide=row.slide, size_px=shape, repair=settings.repair
        )
        mapped = regions.map_classes(found, settings.classes)
        if shape is not None:
            size_y, size_x = pixel_size_pair(pixel_size_um)
            extent = shape[0] * size_y, shape[1] * size_x
            notes += regions.check_regions(mapped, extent_um=extent, place=row.annotations.name)[1]
    except InputError as error:
        return _as_problems(error, row)
    return [Problem(f"slide {row.slide}, {row.annotations.name}", note, "", "warning") for note in notes]
