"""A study whose regions come from strokes: trained once, kept with people's work, applied to every slide."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from drawn_strokes import overlap, planted, strokes_geojson, strokes_on
from study_folders import errors_of, warnings_of, write_study

import mihc
from mihc.results import slide_regions
from mihc.store import read_csv
from mihc.synthetic import draw_slide

PANEL = "channel,marker,role,compartment,threshold\n" + "".join(
    f"{name},{name},{role},cell,{cut}\n"
    for name, role, cut in (("DAPI", "nuclei", ""), ("PanCK", "tumour", 900), ("CD3", "marker", 900))
)
SETTINGS = '[study]\nname = "strokes"\n[regions]\nsource = "classifier"\n'
SIDE = 640


@pytest.fixture(scope="module")
def slides():
    return {name: draw_slide(seed=seed, size_px=(SIDE, SIDE)) for name, seed in (("S1", 3), ("S2", 12))}


@pytest.fixture(scope="module")
def study(slides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strokes")
    listed = "slide,file,patient\nS1,S1.ome.tif,P1\nS2,S2.ome.tif,P2\n"
    write_study(folder, settings=SETTINGS, panel=PANEL, slides=listed)
    for name, drawn in slides.items():
        metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "PanCK", "CD3"]},
                    "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}  # fmt: skip
        metadata |= {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
        tifffile.imwrite(folder / f"{name}.ome.tif", drawn.image[:3], metadata=metadata, ome=True)
    write_strokes(folder, "S1", strokes_on(slides["S1"], 3, seed=1))
    return folder


def write_strokes(folder, slide, strokes):
    (folder / "annotations" / "strokes").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / "strokes" / f"{slide}.geojson").write_text(strokes_geojson(strokes, 0.5))


def run(folder, **options):
    return mihc.run(mihc.read_study(folder), **options)


def why(results):
    return {(step.stage, step.slide): step.why for step in results.steps}


def test_a_study_with_strokes_from_beginning_to_end(study, slides):
    assert errors_of(study, open_slides=True) == []
    first = run(study)
    assert first.failed == {}
    for name, drawn in slides.items():
        found = {region.name: region.polygon_um for region in slide_regions(mihc.read_study(study), name)}
        assert overlap(found["tumour"], planted(drawn, "tumour")) > 0.8
        assert "glass" not in found
    kept = study / "review" / "classifier" / "classifier.json"
    content = json.loads(kept.read_text())
    assert [one["channels"] for one in content["classifiers"]] == [["DAPI", "PanCK", "CD3"]]
    confusion = read_csv(study / "results" / "classifier.csv", text=("panel", "slide", "drawn", "predicted"))
    assert set(confusion["drawn"]) == {"tumour", "stroma", "glass"} and set(confusion["slide"]) == {"*"}
    ledger = read_csv(study / "results" / "area_ledger.csv")
    scanned = ledger[ledger["category"] == "scanned"]["area_mm2"]
    assert scanned.to_numpy() == pytest.approx([(SIDE * 0.5 / 1000) ** 2] * 2)
    report = (study / "results" / "report.html").read_text()
    assert "Tissue classifier" in report and "by a tissue classifier trained on strokes" in report

    digest = mihc.store.digest_results(study / "results")
    assert set(why(run(study)).values()) == {"reused"}

    other_windows = (study / "study.toml").read_text() + "[compute]\nwindow = 512\nworkers = 1\n"
    (study / "study.toml").write_text(other_windows)
    store = mihc.store.Store(study / "results")
    for name in slides:
        store.forget("outlines", name)
    bytes_before = kept.read_bytes()
    store.forget("classifier")
    run(study)
    assert kept.read_bytes() == bytes_before  # what is kept is taken, not trained anew
    assert mihc.store.digest_results(study / "results") == digest
    kept.unlink()
    store.forget("classifier")
    run(study)
    assert kept.read_bytes() == bytes_before  # and training gives the same bytes

    write_strokes(study, "S2", strokes_on(slides["S2"], 2, seed=5))
    again = why(run(study))
    assert (
        again["classifier", ""] == "recomputed because changed: strokes, slides" or "changed" in again["classifier", ""]
    )
    assert {stage for (stage, _), reason in again.items() if reason == "reused"} == {"slide", "cells"}
    assert kept.read_bytes() != bytes_before
    confusion = read_csv(study / "results" / "classifier.csv", text=("panel", "slide", "drawn", "predicted"))
    assert list(dict.fromkeys(confusion["slide"])) == ["*", "S1", "S2"]

    for path in (study / "annotations" / "strokes").glob("*"):
        path.unlink()
    assert errors_of(study) == []  # the kept classifier is used as it is
    mine = kept.read_bytes()
    results = run(study)
    assert results.failed == {} and kept.read_bytes() == mine
    kept.write_text("{}")
    store.forget("classifier")
    with pytest.raises(mihc.errors.InputError, match="cannot be used"):
        run(study)


def test_of_jobs_of_an_array_at_once_one_trains_and_the_others_wait_for_it(study, slides, tmp_path):
    """Each needs the classifier before its first slide; it is the study's, and one alone writes it."""
    folder = tmp_path / "study"
    shutil.copytree(study, folder, ignore=shutil.ignore_patterns("results", "review"))
    for name, seed in (("S1", 1), ("S2", 5)):
        write_strokes(folder, name, strokes_on(slides[name], 2, seed=seed))
    with ThreadPoolExecutor(2) as jobs:
        both = list(jobs.map(lambda name: run(folder, slides=[name], until="regions", workers=1), slides))
    assert [done.failed for done in both] == [{}, {}]
    assert sorted(why(done)["classifier", ""] for done in both) == ["recomputed because no earlier result", "reused"]
    with mihc.store.Store(folder / "results").lock():  # what is learnt needs no lock
        assert why(run(folder, slides=["S1"], until="regions"))["classifier", ""] == "reused"


def test_check_says_what_stands_against_strokes(tmp_path):
    listed = "slide,file,patient\nS1,S1.tif,P1\n"
    write_study(tmp_path, settings=SETTINGS, panel=PANEL, slides=listed)
    tifffile.imwrite(tmp_path / "S1.tif", np.zeros((3, 64, 64), np.uint16), photometric="minisblack")
    assert any("needs strokes" in problem.what for problem in errors_of(tmp_path))
    write_strokes(tmp_path, "S1", [])
    assert any("no strokes" in problem.what for problem in errors_of(tmp_path))
    line = [("Fat", strokes_line())]
    write_strokes(tmp_path, "S1", line)
    (problem,) = [one for one in errors_of(tmp_path) if "Fat" in one.what]
    assert 'classes = { "Fat" = "?" }' in problem.fix
    write_strokes(tmp_path, "S1", [("tumour", strokes_line())])
    write_strokes(tmp_path, "S9", [("tumour", strokes_line())])
    warned = [one.place for one in warnings_of(tmp_path) if "strokes" in one.place]
    assert warned == ["annotations/strokes/S9.geojson"]
    (tmp_path / "study.toml").write_text('[study]\nname = "x"\n')
    assert any("so they are not used" in problem.what for problem in warnings_of(tmp_path))


def strokes_line():
    from shapely import LineString

    return LineString([(1, 1), (9, 9)])


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("band_um = 30.0", "is not 1 to 100 times band_um"),
        ("band_um = 1.0\nbands_to_um = 500.0", "is not 1 to 100 times"),
        ("bands_in_tests = 1", "true or false"),
        ('band_um = "25"', "a number in µm"),
        ("bands_um = 25.0", "did you mean band"),
    ],
)
def test_settings_of_bands_are_checked(tmp_path, written, said):
    write_study(
        tmp_path, settings=f'[study]\nname = "x"\n[regions]\n{written}\n', panel=PANEL, slides="slide,file,patient\n"
    )
    assert any(said in problem.what for problem in errors_of(tmp_path))
