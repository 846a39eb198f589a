"""Segmenters that study.toml names: found by an entry point, refused in words, run and verified in a study."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from drawn_nuclei import draw, matched

import mihc
from mihc.errors import InputError
from mihc.pipeline import run
from mihc.segmenters import Segmenter, known_methods, open_segmenter, segmenter_versions
from mihc.store import LABEL_CHUNK, Store, digest_results, open_labels, read_cells
from mihc.study import check_study, read_study
from mihc.synthetic import draw_study

UM = 0.5

# --- an outsider's segmenter, installed by an entry point

PLUGIN = """
    import threading
    from scipy import ndimage

    ASKED = []

    class BrightSpots:
        planes = ("nuclei",)
        pixel_size_um = 0.5
        window_px, overlap_px = 256, 32

        def __init__(self, cut):
            self.cut = cut

        def labels(self, picture):
            ASKED.append(threading.get_ident())
            mood = int(abs(float(picture.sum(dtype="f8"))) * 1000) % 5
            return ndimage.label(ndimage.gaussian_filter(picture[0], 2) > self.cut + 0.01 * mood)[0]

    def bright_spots(*, weights, nucleus_diameter_um, sensitivity):
        return BrightSpots(float(weights.read_text()) if weights else 0.3)

    def nothing_much(*, weights, nucleus_diameter_um, sensitivity):
        return object()
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A package with a segmenter, as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "bright_package.py").write_text(textwrap.dedent(PLUGIN))
    info = folder / "bright_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-package\nVersion: 1.2\n")
    points = ["bright = bright_package:bright_spots", "nothing = bright_package:nothing_much"]
    points += ["broken = bright_package:no_such_name"]
    (info / "entry_points.txt").write_text("[mihc.segmenters]\n" + "\n".join(points) + "\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("bright_package", None)


def test_a_segmenter_is_found_by_its_entry_point_and_used_by_name(plugin):
    assert known_methods()[:5] == ("auto", "classical", "cellpose", "stardist", "instanseg")
    assert "bright" in known_methods()
    segmenter = open_segmenter("bright")
    assert isinstance(segmenter, Segmenter)
    versions = segmenter_versions("bright")
    assert versions["bright-package"] == "1.2" and len(versions["code"]) == 16
    image, truth = draw((300, 300), seed=3, spacing=30.0)
    labels = mihc.segment_nuclei(image[0], pixel_size_um=UM, method=segmenter)
    hits, found, planted = matched(labels, truth)
    assert 2 * hits / (found + planted) > 0.8


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("magic", 'no segmenter "magic"'),
        ("nothing", "lacks one of planes"),
        ("broken", "cannot be loaded from bright_package:no_such_name"),
    ],
)
def test_a_segmenter_that_cannot_be_used_is_refused(plugin, method, says):
    with pytest.raises(InputError, match=says):
        open_segmenter(method)


def test_weights_that_are_not_there_and_packages_that_are_not_installed_are_refused(plugin, tmp_path):
    with pytest.raises(InputError, match="there are no weights"):
        open_segmenter("bright", weights=tmp_path / "gone")
    with pytest.raises(InputError, match=r'unknown sensitivity "much"'):
        open_segmenter("bright", sensitivity="much")
    for method in ("cellpose", "stardist", "instanseg"):  # not among what the tests install
        with pytest.raises(InputError, match=rf"pip install 'mihc\[{method}\]'"):
            open_segmenter(method, weights=tmp_path)


def test_the_example_of_the_documentation_is_a_segmenter():
    import textwrap as text

    source = text.dedent(
        mihc.segmenters.__doc__.split("three keywords and returns a `Segmenter`:")[1].split("Nothing")[0]
    )
    namespace = {}
    exec("import scipy.ndimage\n" + source, namespace)
    segmenter = namespace["bright_spots"](weights=None, nucleus_diameter_um=8.0, sensitivity="normal")
    image, truth = draw((300, 300), seed=3, spacing=30.0)
    found = len(np.unique(mihc.segment_nuclei(image[0], pixel_size_um=UM, method=segmenter))) - 1
    assert abs(found / truth.max() - 1) < 0.1


@pytest.fixture(scope="module")
def bright_study(plugin, tmp_path_factory):
    """A drawn study of two patients whose nuclei the outsider's segmenter finds, and its results."""
    folder = draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=2, seed=5, size_px=(700, 1300))
    (folder / "models").mkdir()
    (folder / "models" / "cut.txt").write_text("0.3")
    text = (folder / "study.toml").read_text()
    added = '[segmentation]\nmethod = "bright"\nweights = "models/cut.txt"\n'
    (folder / "study.toml").write_text(text.replace("[segmentation]\n", added))
    run(read_study(folder), until="cells")
    return folder


@pytest.fixture
def study(bright_study, tmp_path):
    return Path(shutil.copytree(bright_study, tmp_path / "study"))


def steps(folder, **choices):
    """Run up to the cells; stage -> why, of the first slide."""
    results = run(read_study(folder), until="cells", **choices)
    assert not results.failed
    return {step.stage: step.why for step in results.steps if step.slide == read_study(folder).slides[0].slide}


def change(folder, old, new):
    text = (folder / "study.toml").read_text()
    assert old in text
    (folder / "study.toml").write_text(text.replace(old, new))


def first_slide(folder):
    slide = read_study(folder).slides[0].slide
    return (
        folder / "results" / "slides" / f"{slide}.ome.zarr",
        folder / "results" / ".stages" / "cells" / f"{slide}.parquet",
    )


# --- the whole flow


def test_a_run_gives_what_the_public_function_gives(bright_study):
    image, cells = first_slide(bright_study)
    stored = mihc.open_image(image)
    panel = read_study(bright_study).panels[""]
    from mihc.nuclei_stain import NuclearStain
    from mihc.steps.find import stain_of

    stain = stain_of(stored, panel)
    assert isinstance(stain, NuclearStain) and stain.autofluorescence is not None
    plane = stain[0 : stain.shape[0], 0 : stain.shape[1]]
    segmenter = open_segmenter("bright", weights=bright_study / "models" / "cut.txt")
    expected = mihc.segment_nuclei(plane, pixel_size_um=stored.pixel_size_um, method=segmenter)
    assert (np.asarray(open_labels(image, "nuclei")[0][:]) == expected).all()
    assert len(read_cells(cells)) == len(np.unique(expected)) - 1 > 300


@pytest.mark.parametrize(("window", "workers"), [(LABEL_CHUNK, 1), (LABEL_CHUNK, 4), (4096, 2)])
def test_NP6_windows_and_workers_change_nothing_for_another_segmenter(bright_study, tmp_path, window, workers):
    folder = Path(shutil.copytree(bright_study, tmp_path / "study", ignore=shutil.ignore_patterns("results")))
    text = (folder / "study.toml").read_text() + f"\n[compute]\nwindow = {window}\nworkers = {workers}\n"
    (folder / "study.toml").write_text(text.replace("[compute]\n", "[compute]\n", 1))
    steps(folder, workers=workers)
    assert digest_results(folder / "results") == digest_results(bright_study / "results")


def test_the_segmenter_is_asked_once_per_tile_and_never_for_what_comes_after(study):
    module = sys.modules["bright_package"]
    module.ASKED.clear()
    change(study, "cell_expansion_um = 2.5", "cell_expansion_um = 5.0")
    why = steps(study)
    assert why["nuclei"] == "reused" and why["cells"].startswith("recomputed because changed: segmentation")
    assert module.ASKED == []
    change(study, 'method = "bright"', 'method = "bright"\nsensitivity = "high"')
    assert steps(study)["nuclei"].startswith("recomputed because changed: segmentation")
    tiles = len(read_study(study).slides) * -(-700 // 192) * -(-1300 // 192)
    assert 0.8 * tiles < len(module.ASKED) <= tiles


def test_other_weights_find_the_nuclei_anew_even_under_the_same_name(study):
    (study / "models" / "cut.txt").write_text("0.5")
    why = steps(study)
    assert why["nuclei"].startswith("recomputed because changed: weights")
    assert why["cells"].startswith("recomputed because changed: nuclei")


def test_back_to_the_classical_method_nothing_is_left_of_the_other(study):
    change(study, 'method = "bright"\nweights = "models/cut.txt"\n', "")
    why = steps(study)
    assert "nuclei" not in why and why["cells"].startswith("recomputed")
    assert not list((study / "results" / ".stages" / "nuclei").glob("*"))
    assert Store(study / "results").verify() == []


def test_the_stored_nuclei_are_verified(study):
    assert Store(study / "results").verify() == []
    chunk = next((study / "results" / ".stages" / "nuclei").rglob("c/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert [damage.stage for damage in Store(study / "results").damage()] == ["nuclei"]


def problems(folder):
    return [problem for problem in check_study(folder, open_slides=False) if "segmentation" in problem.place]


def test_check_names_what_a_segmenter_lacks_before_any_pixel_is_read(study):
    assert problems(study) == []
    (study / "models" / "cut.txt").unlink()
    assert "there are no weights models/cut.txt" in problems(study)[0].what
    change(study, 'method = "bright"', 'method = "cellpose"')
    assert 'pip install "mihc[cellpose]"' in problems(study)[0].fix
    change(study, 'method = "cellpose"', 'method = "auto"')
    assert "has no weights" in problems(study)[0].what
    change(study, 'method = "auto"', 'method = "brihgt"')
    assert "did you mean bright" in problems(study)[0].what


def test_a_role_that_the_panel_lacks_is_said(study, plugin):
    source = (plugin / "bright_package.py").read_text()
    try:
        (plugin / "bright_package.py").write_text(source.replace('("nuclei",)', '("nuclei", "ignore")'))
        sys.modules["bright_package"].BrightSpots.planes = ("nuclei", "ignore")
        results = run(read_study(study), until="cells")
    except InputError as error:
        assert "needs a channel with the role ignore" in str(error)
    else:
        assert "needs a channel with the role ignore" in next(iter(results.failed.values()))
    finally:
        (plugin / "bright_package.py").write_text(source)
        sys.modules["bright_package"].BrightSpots.planes = ("nuclei",)
