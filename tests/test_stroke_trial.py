"""Strokes that are painted in a review: a map is looked at first, and only what is accepted counts."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading

import numpy as np
import pytest
import shapely
import tifffile
from drawn_strokes import overlap, planted, strokes_on
from study_folders import errors_of, write_study

import mihc
from mihc import review
from mihc.errors import AnnotationError, UsageError
from mihc.synthetic import draw_slide

PANEL = "channel,marker,role,compartment,threshold\n" + "".join(
    f"{name},{name},{role},cell,{cut}\n"
    for name, role, cut in (("DAPI", "nuclei", ""), ("PanCK", "tumour", 900), ("CD3", "marker", 900))
)
SIDE, PIXEL_UM = 512, 0.5
CLASSIFIER = ("review", "classifier", "classifier.json")


@pytest.fixture(scope="module")
def drawn():
    return {name: draw_slide(seed=seed, size_px=(SIDE, SIDE)) for name, seed in (("S1", 3), ("S2", 12))}


@pytest.fixture(scope="module")
def measured(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("painted") / "study"
    folder.mkdir()
    listed = "slide,file,patient\nS1,S1.ome.tif,P1\nS2,S2.ome.tif,P2\n"
    write_study(folder, settings='[study]\nname = "painted"\n', panel=PANEL, slides=listed)
    for name, slide in drawn.items():
        metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "PanCK", "CD3"]},
                    "PhysicalSizeX": PIXEL_UM, "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": PIXEL_UM, "PhysicalSizeYUnit": "µm"}  # fmt: skip
        tifffile.imwrite(folder / f"{name}.ome.tif", slide.image[:3], metadata=metadata, ome=True)
    assert mihc.run(mihc.read_study(folder), until="positives").failed == {}
    return folder


@pytest.fixture
def folder(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "study")


def painted(slide, each=2, seed=1) -> list[review.Painted]:
    return [
        review.Painted(label, shapely.get_coordinates(line)[:, ::-1] / PIXEL_UM)
        for label, line in strokes_on(slide, each, seed=seed)
    ]


def every_byte(folder) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "inputs" not in path.parts):
        total.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return total.hexdigest()


def test_a_map_that_is_not_accepted_leaves_nothing(folder, drawn):
    before = every_byte(folder)
    trial = review.try_strokes(mihc.read_study(folder), "S1", painted(drawn["S1"]))
    assert every_byte(folder) == before
    found = {one.name: one.polygon_um for one in trial.regions}
    assert overlap(found["tumour"], planted(drawn["S1"], "tumour")) > 0.7
    assert set(trial.told["drawn"]) == {"tumour", "stroma", "glass"}
    assert any('source = "both" becomes "classifier"' in one for one in trial.remarks)


def test_what_was_accepted_is_what_the_next_run_makes_of_every_slide(folder, drawn):
    study = mihc.read_study(folder)
    trial = review.try_strokes(study, "S1", painted(drawn["S1"]))
    review.keep_trial(study, trial)
    kept = folder.joinpath(*CLASSIFIER).read_bytes()
    assert errors_of(folder) == []
    study = mihc.read_study(folder)
    assert study.settings.regions.source == "classifier"
    results = mihc.run(study, until="positives")
    assert results.failed == {}
    assert {step.stage for step in results.steps if step.why == "reused"} == {"slide", "cells"}
    assert mihc.slide_regions(study, "S1") == list(trial.regions)
    tumour = next(one for one in mihc.slide_regions(study, "S2") if one.name == "tumour")
    assert overlap(tumour.polygon_um, planted(drawn["S2"], "tumour")) > 0.6
    assert folder.joinpath(*CLASSIFIER).read_bytes() == kept
    folder.joinpath(*CLASSIFIER).unlink()
    mihc.store.Store(folder / "results").forget("classifier")
    mihc.run(study, until="regions")
    assert json.loads(folder.joinpath(*CLASSIFIER).read_bytes()) == json.loads(kept)  # trained anew it is the same
    again = review.painted_strokes(study, "S1")
    assert [one.label for one in again] == [one.label for one in trial.strokes]
    assert all(np.array_equal(a.line_yx, b.line_yx) for a, b in zip(again, trial.strokes))


def test_strokes_of_other_slides_are_learnt_from_too(folder, drawn):
    study = mihc.read_study(folder)
    review.keep_trial(study, review.try_strokes(study, "S2", painted(drawn["S2"])))
    study = mihc.read_study(folder)
    two = [one for one in painted(drawn["S1"]) if one.label == "tumour"]  # alone they would be one class only
    assert set(review.try_strokes(study, "S1", two).told["slide"]) == {"*", "S1", "S2"}
    with pytest.raises(AnnotationError, match="one class only"):
        review.try_strokes(study, "S2", [one for one in painted(drawn["S2"]) if one.label == "tumour"])


def test_a_trial_can_be_stopped(folder, drawn):
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(mihc.Stopped):
        review.try_strokes(mihc.read_study(folder), "S1", painted(drawn["S1"]), stopping=stopping)


def test_what_stands_against_a_trial_is_told_in_words(folder, drawn):
    study, strokes = mihc.read_study(folder), painted(drawn["S1"])
    with pytest.raises(UsageError, match="no picture of slide 'S9'"):
        review.try_strokes(study, "S9", strokes)
    with pytest.raises(AnnotationError, match=r"class unknown: 'nest'(.|\n)*study.toml"):
        review.try_strokes(study, "S1", [*strokes, review.Painted("nest", np.array([[9.0, 9.0], [60.0, 60.0]]))])
    with pytest.raises(AnnotationError, match="off the slide"):
        review.try_strokes(study, "S1", [*strokes, review.Painted("other", np.array([[9.0, 9.0], [-90.0, 9.0]]))])
    with pytest.raises(UsageError, match="no stroke is painted"):
        review.try_strokes(study, "S1", [])
    with pytest.raises(UsageError, match="without length"):
        review.try_strokes(study, "S1", [review.Painted("other", np.array([[9.0, 9.0], [9.0, 9.0]]))])
    shutil.rmtree(folder / "results")
    with pytest.raises(UsageError, match=r"not read yet(.|\n)*--until slide"):
        review.try_strokes(study, "S1", strokes)
