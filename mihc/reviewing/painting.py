"""Strokes painted on a slide -> the map that a tissue classifier would make of it; kept only when it is accepted.

A trial reads the slides that have been measured and writes nothing. What is accepted is what a person could have drawn
and typed: annotations/strokes/<slide>.geojson and `source = "classifier"` in study.toml, with the classifier, so that
the next run need not train it again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from mihc.annotations.strokes import Stroke, read_strokes
from mihc.areas.classifier import PixelClassifier, classifier_as_json
from mihc.errors import InputError, UsageError, quoted_path
from mihc.regions import Region
from mihc.stages import Event, Job, MemoryMeter
from mihc.steps.learn import trained_on, what_is_learnt
from mihc.steps.outline import regions_by
from mihc.store import Store, open_image, write_beside
from mihc.studies.sheets import write_region_source
from mihc.studies.strokes import EXTRA, FOLDER, stroke_files
from mihc.study import SlideRow, Study, classifier_file, read_study

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "classifier"


@dataclass(frozen=True, eq=False)
class Painted:
    """One stroke as it was painted."""

    label: str  # its class: tumour, stroma, other, glass, or a reason to exclude, such as necrosis
    line_yx: np.ndarray  # (n, 2) pixels of the full resolution, 0 at the corner of the first


@dataclass(frozen=True, eq=False)
class Trial:
    """What a tissue classifier makes of a slide; nothing of it is written yet."""

    slide: str
    strokes: tuple[Painted, ...]  # on this slide
    regions: tuple[Region, ...]  # as the next run would have them, before a review's edits of regions; none overlap
    told: pd.DataFrame  # what it says of strokes that it had not seen: the columns of classifier.csv but panel
    method: str  # in words
    remarks: tuple[str, ...]  # what there is to know before it is accepted
    classifier: PixelClassifier


def painted_strokes(study: Study, slide: str) -> list[Painted]:
    """The strokes that lie in annotations/strokes/ for a slide; none without a file."""
    path = _strokes_file(study, slide)
    if not path.is_file():
        return []
    lines = [(one.label, line) for one in read_strokes(path) for line in getattr(one.line_px, "geoms", [one.line_px])]
    return [Painted(label, shapely.get_coordinates(line)[:, ::-1]) for label, line in lines]


def try_strokes(
    study: Study,
    slide: str,
    strokes: Sequence[Painted],
    *,
    progress: Callable[[Event], None] = lambda event: None,
    stopping: threading.Event | None = None,
) -> Trial:
    """Train on these strokes, and on those that lie in the study for other slides of its panel; map this slide.

    Parameters
    ----------
    study, slide
        The slide must have been measured, and the others that have strokes too.
    strokes
        All strokes of this slide; those that lie in the study for it do not count beside them.
    progress
        As `mihc.run`; called from one thread at a time.
    stopping
        When set, the trial ends with `mihc.Stopped` as soon as it can.

    Raises
    ------
    UsageError
        Without strokes, when the slide or another with strokes was not read yet, or scikit-learn is not installed.
    AnnotationError
        For an unknown class, strokes off the slide, too few pixels, or one class only.
    """
    if find_spec("sklearn") is None:
        raise UsageError("a tissue classifier needs scikit-learn", fix=EXTRA)
    row = _row(study, slide)
    if not strokes:
        raise UsageError("no stroke is painted on it yet", place=slide, fix="Paint some of each class, glass too.")
    drawn = {one: read_strokes(path) for one, path in stroke_files(study).items() if one.panel == row.panel}
    drawn[row] = [_as_stroke(one, slide, number) for number, one in enumerate(strokes, 1)]
    rows = [one for one in study.slides if one in drawn]
    store = Store(study.results)
    pictures = {one.slide: open_image(_picture(study, store, one)) for one in rows}
    by_slide = {one.slide: drawn[one] for one in rows}
    with ThreadPoolExecutor(study.settings.compute.workers) as executor:
        job = Job(study, store, executor, progress, MemoryMeter(), stopping=stopping or threading.Event())

        def each(done: int) -> None:
            job.go_on()
            job.say("", "strokes", done, len(rows))

        each(0)
        classes = study.settings.regions.classes
        trained = trained_on(row.panel, pictures, by_slide, classes, each=each)
        job.say(slide, "map")
        regions = regions_by(job, row, store.record("slide", slide), trained)
    return _trial(study, row, strokes, regions, trained)


def keep_trial(study: Study, trial: Trial) -> None:
    """Accept a trial: from the next run on, slides without annotations get their regions from this classifier.

    Writes annotations/strokes/<slide>.geojson, the classifier, and, last, `source` in study.toml: a kill in between
    leaves strokes that are not used yet.

    Raises
    ------
    InputError
        When study.toml is written in a way in which `source` cannot be set by itself.
    """
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": np.asarray(one.line_yx, float)[:, ::-1].tolist()},
            "properties": {"class": one.label},
        }
        for one in trial.strokes
    ]
    content = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
    write_beside(_strokes_file(study, trial.slide), content.encode())
    study = read_study(study.folder)
    if {row.panel for row in stroke_files(study)} == {trial.classifier.panel}:  # else the run trains them all
        job = Job(study, Store(study.results), None, lambda event: None, MemoryMeter())
        content = {"learnt_from": what_is_learnt(job), "classifiers": [classifier_as_json(trial.classifier)]}
        write_beside(classifier_file(study), (json.dumps(content, ensure_ascii=False) + "\n").encode())
    if study.settings.regions.source != SOURCE:
        write_region_source(study.folder, SOURCE)


def _trial(
    study: Study, row: SlideRow, strokes: Sequence[Painted], regions: Sequence[Region], trained: PixelClassifier
) -> Trial:
    import pandas as pd

    remarks = []
    if row.annotations is not None:
        remarks.append(f"{row.slide} has annotations, which count on it; the classifier is for slides without any.")
    if row.slide in study.reviews and study.reviews[row.slide].regions:
        remarks.append("Edits of this slide's regions stay, and are laid over the new map.")
    source = study.settings.regions.source
    if source != SOURCE:
        remarks.append(f'Accepting it changes study.toml: source = "{source}" becomes "{SOURCE}", for every slide.')
    if not trained.finds_glass:
        remarks.append("No stroke is glass: tissue is found as on any other slide.")
    told = pd.DataFrame([dict(one) for one in trained.confusion])
    return Trial(row.slide, tuple(strokes), tuple(regions), told, trained.method, tuple(remarks), trained)


def _as_stroke(one: Painted, slide: str, number: int) -> Stroke:
    place = f"stroke {number} on {slide}"
    line = np.asarray(one.line_yx, float)[:, ::-1]
    if len(line) < 2 or not np.isfinite(line).all() or np.ptp(line, axis=0).max(initial=0.0) == 0:
        raise UsageError("a stroke without length", place=place, fix="Delete it, or draw it longer.")
    return Stroke(one.label, shapely.LineString(line), place)


def _strokes_file(study: Study, slide: str) -> Path:
    return study.folder / FOLDER / f"{_row(study, slide).slide}.geojson"


def _row(study: Study, slide: str) -> SlideRow:
    row = next((one for one in study.slides if one.slide == slide and one.file is not None), None)
    if row is None:
        raise UsageError(f"there is no picture of slide {slide!r}", fix="Choose a slide that has one.")
    return row


def _picture(study: Study, store: Store, row: SlideRow) -> Path:
    try:
        return store.path(f"slides/{row.slide}.ome.zarr")
    except InputError:
        fix = f"Type: mihc run {quoted_path(study.folder)} --until slide"
        raise UsageError("it has strokes and was not read yet", place=row.slide, fix=fix) from None
