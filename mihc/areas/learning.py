"""Training of the tissue classifier: which forest predicts whole strokes best that it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mihc.areas.classifier import TissueClass, classes_in_order
from mihc.areas.forest import Forest
from mihc.errors import AnnotationError

FEWEST_PIXELS = 30  # of a class
MOST_PIXELS = 1500  # of a stroke, evenly taken: no long stroke outweighs the others
MOST_FOLDS = 5
SEED = 20260101
TREES = 64
DEEPEST = 12
CANDIDATES = {  # in the order in which equals are preferred
    "random forest, leaves of 5 pixels": ("RandomForestClassifier", 5),
    "random forest, leaves of 25 pixels": ("RandomForestClassifier", 25),
    "extremely randomised trees, leaves of 5 pixels": ("ExtraTreesClassifier", 5),
    "extremely randomised trees, leaves of 25 pixels": ("ExtraTreesClassifier", 25),
}
ALL_SLIDES = "*"


@dataclass(frozen=True, eq=False)
class StrokePixels:
    """The pixels of one stroke."""

    slide: str
    tissue_class: TissueClass
    features: np.ndarray  # (n, features) float32


@dataclass(frozen=True, eq=False)
class Trained:
    """What training gives."""

    forest: Forest
    classes: tuple[TissueClass, ...]
    method: str
    confusion: tuple[dict[str, Any], ...]  # rows: slide, drawn, predicted, strokes, pixels, percent


def train(strokes: Sequence[StrokePixels], *, place: str = "annotations/strokes") -> Trained:
    """Train the forest that predicts left-out strokes best; the same strokes give the same forest.

    Every candidate is fitted to the other strokes and asked about the left-out ones, in at most five rounds; pixels of
    one stroke are never on both sides. The one with the best mean of the classes' shares of pixels predicted right is
    fitted to all strokes. A class with a single stroke stays in training and is not asked about.

    Raises
    ------
    AnnotationError
        When there is one class only, or a class has too few pixels.
    """
    strokes = [_thinned(stroke) for stroke in strokes]
    classes = classes_in_order([stroke.tissue_class for stroke in strokes])
    _refuse_too_little(strokes, classes, place)
    number = {one: index for index, one in enumerate(classes)}
    label = np.concatenate([np.full(len(one.features), number[one.tissue_class]) for one in strokes])
    stroke_of = np.repeat(np.arange(len(strokes)), [len(one.features) for one in strokes])
    features = np.concatenate([one.features for one in strokes])
    fold = _folds([number[one.tissue_class] for one in strokes])[stroke_of]
    asked = fold >= 0
    predicted = (
        {name: _left_out(name, features, label, fold, len(classes)) for name in CANDIDATES} if asked.any() else {}
    )
    scores = {name: _mean_recall(label[asked], found[asked]) for name, found in predicted.items()}
    best = max(scores, key=scores.__getitem__) if scores else next(iter(CANDIDATES))
    rows = _confusion(strokes, stroke_of[asked], label[asked], predicted[best][asked], classes) if scores else ()
    forest = _as_arrays(_fitted(best, features, label), len(classes))
    return Trained(forest, classes, f"{best}, {TREES} trees", rows)


def _thinned(stroke: StrokePixels) -> StrokePixels:
    n = len(stroke.features)
    if n <= MOST_PIXELS:
        return stroke
    picked = np.linspace(0, n - 1, MOST_PIXELS).astype(np.int64)
    return StrokePixels(stroke.slide, stroke.tissue_class, stroke.features[picked])


def _refuse_too_little(strokes: Sequence[StrokePixels], classes: Sequence[TissueClass], place: str) -> None:
    named = ", ".join(one.name for one in classes) or "none"
    if len(classes) < 2:
        raise AnnotationError(
            f"strokes of one class only ({named}): there is nothing to tell it from",
            place=place,
            fix="Draw strokes of at least two classes, such as tumour and stroma.",
        )
    for one in classes:
        pixels = sum(len(stroke.features) for stroke in strokes if stroke.tissue_class == one)
        if pixels < FEWEST_PIXELS:
            raise AnnotationError(
                f"the strokes of class {one.name} cover {pixels} pixels; at least {FEWEST_PIXELS} are needed",
                place=place,
                fix="Draw a longer stroke, or several.",
            )


def _folds(classes: Sequence[int]) -> np.ndarray:
    """Return in which round each stroke is left out, -1 for the only stroke of a class."""
    labels = np.asarray(classes)
    count = np.bincount(labels)
    rounds = min(MOST_FOLDS, int(count.max()))
    fold = np.full(len(labels), -1)
    for one in np.flatnonzero(count > 1):
        fold[labels == one] = np.arange(count[one]) % rounds
    return fold


def _left_out(name: str, features: np.ndarray, label: np.ndarray, fold: np.ndarray, classes: int) -> np.ndarray:
    """Return what a candidate says of each stroke's pixels when it has not seen the stroke."""
    predicted = np.full(len(label), -1)
    for one in range(fold.max() + 1):
        forest = _as_arrays(_fitted(name, features[fold != one], label[fold != one]), classes)
        predicted[fold == one] = forest.probabilities(features[fold == one].T).argmax(axis=0)
    return predicted


def _fitted(name: str, features: np.ndarray, label: np.ndarray) -> Any:
    from sklearn import ensemble

    kind, smallest = CANDIDATES[name]
    forest = getattr(ensemble, kind)(
        n_estimators=TREES,
        max_depth=DEEPEST,
        min_samples_leaf=smallest,
        class_weight="balanced",
        random_state=SEED,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        return forest.fit(features, label)


def _as_arrays(fitted: Any, classes: int) -> Forest:
    """Return a fitted forest's trees as arrays; a tree's children come after it, as scikit-learn stores them."""
    trees = [one.tree_ for one in fitted.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    shift = np.repeat(starts[:-1], np.diff(starts))
    left, right = (np.concatenate([getattr(tree, f"children_{side}") for tree in trees]) for side in ("left", "right"))
    inner = left >= 0
    shares = np.concatenate([tree.value[:, 0, :] for tree in trees])
    leaf = np.zeros((len(left), classes))
    leaf[:, fitted.classes_] = shares / shares.sum(axis=1, keepdims=True)
    leaf[inner] = 0.0
    return Forest(
        roots=starts[:-1].astype(np.int64),
        feature=np.where(inner, np.concatenate([tree.feature for tree in trees]), -1).astype(np.int64),
        threshold=np.where(inner, np.concatenate([tree.threshold for tree in trees]), 0.0),
        left=np.where(inner, left + shift, -1).astype(np.int64),
        right=np.where(inner, right + shift, -1).astype(np.int64),
        leaf=leaf,
    )


def _mean_recall(label: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean([np.mean(predicted[label == one] == one) for one in np.unique(label)]))


def _confusion(
    strokes: Sequence[StrokePixels],
    stroke_of: np.ndarray,
    label: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[TissueClass],
) -> tuple[dict[str, Any], ...]:
    """Return how the pixels of left-out strokes were called: for all slides, then for each where there are several."""
    names = np.array([one.name for one in classes], dtype=object)
    pixels = pd.DataFrame(
        {
            "slide": np.array([strokes[k].slide for k in stroke_of], dtype=object),
            "drawn": names[label],
            "predicted": names[predicted],
            "stroke": stroke_of,
        }
    )
    slides = list(dict.fromkeys(stroke.slide for stroke in strokes))
    rows: list[dict[str, Any]] = []
    for slide in [ALL_SLIDES, *(slides if len(slides) > 1 else [])]:
        mine = pixels if slide == ALL_SLIDES else pixels[pixels["slide"] == slide]
        for drawn in names:
            here = mine[mine["drawn"] == drawn]
            if not len(here):
                continue
            for called in names:
                count = int((here["predicted"] == called).sum())
                rows.append(
                    {
                        "slide": slide,
                        "drawn": drawn,
                        "predicted": called,
                        "strokes": int(here["stroke"].nunique()),
                        "pixels": count,
                        "percent": 100 * count / len(here),
                    }
                )
    return tuple(rows)
