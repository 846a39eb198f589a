"""Strokes -> tissue classifier: trained once for the study, kept with people's work in review/classifier/.

What was trained is used as long as strokes, slides and panel are the same, whatever becomes of results/. Without
strokes, a classifier that somebody put there is used as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from mihc import store
from mihc.annotations.strokes import Stroke, read_strokes
from mihc.areas.classifier import (
    Frame,
    PixelClassifier,
    TissueClass,
    classifier_as_json,
    classifier_from_json,
    window_halo,
    window_side,
)
from mihc.areas.learning import StrokePixels, train
from mihc.areas.membership import paint
from mihc.areas.textures import Light, at_pixels, slide_light, textures
from mihc.errors import AnnotationError, InputError
from mihc.quality.fields import mean_pixel
from mihc.regions import check_strokes, map_strokes
from mihc.stages import Job, code_hash
from mihc.steps.classify import read_window
from mihc.steps.ingest import ingest
from mihc.steps.levels import TISSUE_PIXEL_UM, level_pixel_um, nearest_level, overview_of
from mihc.store import Record, StoredImage, Transaction, hash_file, hash_json
from mihc.study import SlideRow, classifier_file, stroke_files

MODULES = (
    "mihc.kernels",
    "mihc.regions",
    "mihc.areas",
    "mihc.annotations",
    "mihc.quality.fields",
    "mihc.steps.classify",
    "mihc.steps.levels",
    "mihc.steps.learn",
)
STAGE = "classifier"
RECIPE = 1  # changes when other features, classes or pixels are learnt from: then people's classifiers are trained anew
STROKE_UM = 3.0  # pixels within this distance of a line are of its class
KEPT = ".stages/classifier/classifier.json"  # under results/: what this run used
TABLE = ".stages/classifier/classifier.csv"
COLUMNS = ("panel", "slide", "drawn", "predicted", "strokes", "pixels", "percent")
TEXT = COLUMNS[:4]


def learn(job: Job) -> Record | None:
    """Train the tissue classifier, or take the one that is there; None where study.toml names another source."""
    if job.study.settings.regions.source != "classifier":
        return None
    drawn = {row.slide: path for row, path in stroke_files(job.study).items()}
    mine = what_is_learnt(job)
    given = "" if drawn else _hash_of(classifier_file(job.study))
    key = mine | {"given": given, "code": code_hash(*MODULES)}
    waits = not job.whole and bool(job.store.why_recompute(STAGE, key))  # of an array's jobs one learns for all
    with job.store.lock_in_turn("", job.go_on) if waits else nullcontext():
        record = job.stage(STAGE, "", key, lambda transaction: _learn(job, mine, transaction))
    _keep(job)
    return record


def classifier_of(job: Job, row: SlideRow) -> PixelClassifier:
    """Return the classifier of a slide's panel.

    Raises
    ------
    InputError
        When there are no strokes on slides of that panel.
    """
    content = json.loads(job.store.path(KEPT).read_text(encoding="utf-8"))
    found = next((one for one in content["classifiers"] if one["panel"] == row.panel), None)
    if found is None:
        raise InputError(
            f"no strokes were drawn on slides of panel {row.panel!r}, so there is no tissue classifier for it",
            place=row.slide,
            fix=f"Draw some: annotations/strokes/{row.slide}.geojson",
        )
    return classifier_from_json(found)


def _hash_of(path: Path) -> str:
    if not path.is_file():
        raise InputError(
            'source = "classifier" needs strokes, and there are none',
            place="study.toml, [regions]",
            fix="Draw lines in QuPath, give each a class, and save them as annotations/strokes/<slide>.geojson.",
        )
    return hash_file(path)


def what_is_learnt(job: Job) -> dict[str, str]:
    """What a trained classifier depends on; a version of mihc or of a library is not in it."""
    files = stroke_files(job.study)
    panels = {row.panel: job.study.panel_of(row).measured for row in files}
    return {
        "strokes": hash_json({row.slide: hash_file(path) for row, path in files.items()}),
        "slides": hash_json(
            {row.slide: [job.input_hash(row.file), row.scene, row.z, row.pixel_size_um, row.panel] for row in files}
        ),
        "panel": hash_json({name: [(one.marker, one.channel) for one in lines] for name, lines in panels.items()}),
        "classes": hash_json(job.study.settings.regions.classes),
        "recipe": str(RECIPE),
    }


def _learn(job: Job, mine: dict[str, str], transaction: Transaction) -> None:
    content = _kept(classifier_file(job.study))
    rows = list(stroke_files(job.study))
    if content is None or (rows and content["learnt_from"] != mine):
        panels = dict.fromkeys(row.panel for row in rows)
        trained = [_trained(job, name, [row for row in rows if row.panel == name]) for name in panels]
        content = {"learnt_from": mine, "classifiers": [classifier_as_json(one) for one in trained]}
    store.write_json(transaction.path(KEPT), content, indent=None)
    told = [{"panel": one["panel"]} | row for one in content["classifiers"] for row in one["confusion"]]
    store.write_csv(transaction.path(TABLE), pd.DataFrame(told, columns=list(COLUMNS)))


def _kept(path: Path) -> dict[str, Any] | None:
    """The content of review/classifier/classifier.json, each classifier in it looked through; None without one."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for one in content["classifiers"]:
            classifier_from_json(one)
        return {"learnt_from": dict(content["learnt_from"]), "classifiers": list(content["classifiers"])}
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise InputError(
            f"the tissue classifier cannot be used: {error}",
            place="review/classifier/classifier.json",
            fix="Bring the file back, or delete it: with strokes it is trained anew.",
        ) from None


def _keep(job: Job) -> None:
    """Put the classifier that is used where people's work lies, unless it is there already."""
    kept, path = job.store.path(KEPT).read_bytes(), classifier_file(job.study)
    if not path.is_file() or path.read_bytes() != kept:
        store.write_beside(path, kept)


def _trained(job: Job, panel: str, rows: list[SlideRow]) -> PixelClassifier:
    stored = {}
    for row in rows:
        with job.store.lock(row.slide):
            ingest(job, row)
        stored[row.slide] = store.open_image(job.store.path(f"slides/{row.slide}.ome.zarr"))
    files, classes = stroke_files(job.study), job.study.settings.regions.classes
    drawn = {row.slide: read_strokes(files[row]) for row in rows}
    return trained_on(panel, stored, drawn, classes, each=lambda done: job.say("", STAGE, done, len(rows)))


def trained_on(
    panel: str,
    stored: Mapping[str, StoredImage],
    strokes: Mapping[str, Sequence[Stroke]],
    classes: Mapping[str, str],
    *,
    each: Callable[[int], None] = lambda done: None,
) -> PixelClassifier:
    """Train the classifier of a panel on strokes of one slide or several; the same strokes give the same classifier.

    Parameters
    ----------
    panel
        Its name.
    stored, strokes
        By slide, in the order of slides.csv: its pictures, and the lines on it.
    classes
        study.toml's, of annotations.
    each
        Called with how many slides have been read.

    Raises
    ------
    AnnotationError
        For an unknown class, strokes off their slide, too few pixels, or one class only.
    """
    channels = next(iter(stored.values())).channels
    lights = {slide: slide_light(overview_of(image).pixels) for slide, image in stored.items()}
    logs = np.log([light.scale for light in lights.values()])
    scale = tuple(float(one) for one in np.exp(logs.sum(axis=0) / len(logs)))
    untrained = PixelClassifier(panel, tuple(channels), (), scale, None, "", ())
    pixels: list[StrokePixels] = []
    for done, (slide, image) in enumerate(stored.items(), 1):
        pixels += _of_slide(slide, image, strokes[slide], classes, untrained.light_on(lights[slide]))
        each(done)
    trained = train(pixels)
    return PixelClassifier(
        panel, tuple(channels), trained.classes, scale, trained.forest, trained.method, trained.confusion
    )


def _of_slide(
    slide: str, stored: StoredImage, strokes: Sequence[Stroke], named: Mapping[str, str], light: Light
) -> list[StrokePixels]:
    """The pixels of each stroke on a slide; where strokes of different classes cross, they are nobody's."""
    classes = map_strokes(strokes, named)
    check_strokes(strokes, shape=stored.levels[0].shape[1:])
    level = nearest_level(stored, TISSUE_PIXEL_UM)
    size = level_pixel_um(stored, level)
    found: list[list[np.ndarray]] = [[] for _ in strokes]
    for frame, owner in _windows(stored, level, strokes, classes):
        octaves = textures(read_window(stored, level, frame), light, mean_pixel(size))
        features = at_pixels(octaves, *frame.asked)
        for index in np.unique(owner[owner >= 0]):
            found[index].append(features[:, owner == index].T)
    covered = [
        StrokePixels(slide, one, np.concatenate(pixels)) for one, pixels in zip(classes, found, strict=True) if pixels
    ]
    if not covered:
        raise AnnotationError("its strokes cover no pixel", place=slide, fix="Draw longer strokes.")
    return covered


def _windows(
    stored: StoredImage, level: int, strokes: Sequence[Stroke], classes: Sequence[TissueClass]
) -> Iterator[tuple[Frame, np.ndarray]]:
    """Yield the windows that strokes cross, and in each which stroke every pixel belongs to, -1 = none."""
    size, shape = level_pixel_um(stored, level), stored.levels[level].shape[1:]
    scale = stored.pixel_size_um[1], stored.pixel_size_um[0]
    lines = [shapely.transform(stroke.line_px, lambda xy: xy * scale).buffer(STROKE_UM) for stroke in strokes]
    bounds = shapely.bounds(lines) / [size[1], size[0], size[1], size[0]]
    side, halo = window_side(stored.levels[level].shape[0]), window_halo(mean_pixel(size))
    for y in range(0, shape[0], side):
        for x in range(0, shape[1], side):
            box = (y, min(y + side, shape[0]), x, min(x + side, shape[1]))
            near = (bounds[:, 0] < box[3]) & (bounds[:, 2] > x) & (bounds[:, 1] < box[1]) & (bounds[:, 3] > y)
            owner = np.full((box[1] - y, box[3] - x), -1)
            contested = np.zeros(owner.shape, dtype=bool)
            for index in np.flatnonzero(near):
                mine = paint([lines[index]], [1], owner.shape, size, (y, x)) > 0
                others = [k for k in range(len(classes)) if classes[k] != classes[index]]
                contested |= mine & np.isin(owner, others)
                owner[mine & (owner < 0)] = index
            owner[contested] = -1
            if (owner >= 0).any():
                yield Frame.around(box, halo, shape), owner
