"""The tissue classifier: trained on a few strokes, the same for any windows, stored as numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from drawn_strokes import CLASSES, PIXEL_UM, overlap, overview, patchy, planted, stroke_pixels, strokes_on

from mihc.annotations.strokes import Stroke, read_strokes
from mihc.areas.classifier import (
    NOTHING,
    Frame,
    PixelClassifier,
    TissueClass,
    classified_regions,
    classifier_as_json,
    classifier_from_json,
    classify_window,
    window_halo,
    without_small_pieces,
)
from mihc.areas.learning import StrokePixels, train
from mihc.areas.textures import ALIGN, Light, at_pixels, halo_px, names_of, slide_light, textures
from mihc.errors import AnnotationError, InputError
from mihc.regions import automatic_regions, check_strokes, map_strokes
from mihc.synthetic import Layout, draw_slide

ROLES = ("nuclei", "tumour", "marker", "marker", "marker", "marker", "marker", "autofluorescence")
CHANNELS = ("DAPI", "PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67", "AF")


def trained_on(pixels, strokes):
    trained = train(stroke_pixels(pixels, strokes))
    scale = slide_light(pixels).scale
    return PixelClassifier("", CHANNELS, trained.classes, scale, trained.forest, trained.method, trained.confusion)


def picture_of(pixels, classifier, wanted=None):
    shape = pixels.shape[1:]
    frame = Frame.around((0, shape[0], 0, shape[1]), window_halo(PIXEL_UM), shape)
    wanted = np.ones(shape, bool) if wanted is None else wanted
    light = classifier.light_on(slide_light(pixels))
    return classify_window(pixels, frame, classifier, light=light, pixel_um=PIXEL_UM, wanted=wanted)


def regions_of(pixels, classifier):
    found = classified_regions(picture_of(pixels, classifier), classifier, pixel_size_um=(PIXEL_UM, PIXEL_UM))
    return {region.name: region.polygon_um for region in found}


@pytest.fixture(scope="module")
def drawn():
    return draw_slide(seed=3)


@pytest.fixture(scope="module")
def taught(drawn):
    return trained_on(overview(drawn), strokes_on(drawn, 3, seed=1))


# what it finds


def test_three_strokes_of_a_class_find_tumour_and_stroma_where_the_marker_is_patchy():
    overlaps = []
    for seed in (0, 3, 8):
        drawn = draw_slide(seed=seed)
        pixels = patchy(overview(drawn), seed)
        found = regions_of(pixels, trained_on(pixels, strokes_on(drawn, 3, seed)))
        without = automatic_regions(pixels, pixel_size_um=(PIXEL_UM, PIXEL_UM), roles=ROLES).regions
        alone = next((region.polygon_um for region in without if region.name == "tumour"), shapely.Polygon())
        truth = planted(drawn, "tumour")
        overlaps.append(overlap(found["tumour"], truth))
        assert overlaps[-1] > overlap(alone, truth) + 0.1
        assert overlap(found["stroma"], planted(drawn, "stroma")) >= 0.85
        assert set(found) == {"tumour", "stroma"}  # glass is no region
    assert np.mean(overlaps) >= 0.85 and min(overlaps) >= 0.82


def test_what_was_learnt_on_one_slide_holds_on_another_of_other_exposure(taught):
    other = draw_slide(seed=12)
    pixels = np.rint(overview(other) * 0.6 + 40).astype(np.uint16)
    found = regions_of(pixels, taught)
    assert overlap(found["tumour"], planted(other, "tumour")) >= 0.8


def test_a_slide_without_tumour_is_not_stretched_until_it_has_some(taught):
    other = draw_slide(seed=40, layout=Layout(tumour_fraction=0.0))
    found = regions_of(overview(other), taught)
    assert found.get("tumour", shapely.Polygon()).area < 0.02 * found["stroma"].area


# windows change nothing


@pytest.mark.parametrize(("side", "blocks"), [(64, 1), (104, 1), (64, 2), (128, 4)])
def test_NP6_windows_change_no_class(drawn, taught, side, blocks):
    pixels = overview(drawn)[:, :250, :243]
    wanted = np.random.default_rng(0).random(pixels.shape[1:]) < 0.9
    light, halo, shape = taught.light_on(slide_light(pixels)), window_halo(PIXEL_UM), pixels.shape[1:]

    def classes(box):
        frame = Frame.around(box, halo, shape)
        part = {"light": light, "pixel_um": PIXEL_UM, "wanted": wanted[frame.read], "blocks": blocks}
        return classify_window(pixels[:, *frame.read], frame, taught, **part)

    whole = classes((0, shape[0], 0, shape[1]))
    pieces = [
        [classes((y, min(y + side, shape[0]), x, min(x + side, shape[1]))) for x in range(0, shape[1], side)]
        for y in range(0, shape[0], side)
    ]
    assert np.array_equal(np.block(pieces), whole)
    assert set(np.unique(whole)) <= {0, 1, 2, NOTHING}


@pytest.mark.parametrize("pixel_um", [1.5, 2.0, 2.8])
def test_textures_of_a_window_are_those_of_the_whole(pixel_um):
    random = np.random.default_rng(5)
    pixels = random.integers(50, 5000, (2, 301, 283)).astype(np.uint16)
    light, halo = Light((60.0, 70.0), (3000.0, 2500.0)), halo_px(pixel_um)
    whole = at_pixels(textures(pixels, light, pixel_um), slice(100, 160), slice(90, 140))
    assert whole.shape == (len(names_of(("a", "b"))), 60, 50)
    top, left = (100 - halo) // ALIGN * ALIGN if halo < 100 else 0, 0
    cut = pixels[:, top : 160 + halo, left : 140 + halo]
    part = at_pixels(textures(cut, light, pixel_um), slice(100 - top, 160 - top), slice(90 - left, 140 - left))
    assert np.array_equal(part, whole)


def test_textures_have_the_values_that_a_plain_look_gives():
    light, pixels = Light((0.0,), (100.0,)), np.full((1, 40, 48), 100, np.uint16)
    flat = at_pixels(textures(pixels, light, 2.0), slice(0, 40), slice(0, 48))
    level = np.log2(1.02)
    assert flat[0] == pytest.approx(np.full((40, 48), level), abs=1e-6)  # level of the first octave
    assert np.abs(np.delete(flat, [0, 5, 10, 15], axis=0)).max() < 1e-3  # no slope, curvature, spread, texture
    ramp = 100 * (2.0 ** (np.arange(48) / 8))[None, None, :].repeat(40, axis=1)
    seen = at_pixels(textures(ramp, Light((0.0,), (100.0,)), 2.0), slice(16, 24), slice(16, 32))
    assert seen[1] == pytest.approx(np.full((8, 16), 1 / 8), rel=0.02)  # an eighth of an octave per pixel
    assert seen[6] == pytest.approx(np.full((8, 16), 2 / 8), rel=0.02)  # and twice that per pair of pixels


# the forest


def test_the_stored_forest_says_what_scikit_learn_says():
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    from mihc.areas.learning import _as_arrays

    random = np.random.default_rng(1)
    features = random.normal(size=(600, 7)).astype(np.float32)
    label = (features[:, 0] + features[:, 1] ** 2 > 0.5).astype(int) + (features[:, 2] > 1)
    new = random.normal(size=(4000, 7)).astype(np.float32)
    for kind in (RandomForestClassifier, ExtraTreesClassifier):
        theirs = kind(n_estimators=30, min_samples_leaf=3, random_state=0, class_weight="balanced").fit(features, label)
        ours = _as_arrays(theirs, 3)
        stored = classifier_from_json(json.loads(json.dumps(classifier_as_json(with_forest(ours, 7))))).forest
        for forest in (ours, stored):
            found = forest.probabilities(new.T)
            assert np.abs(found.T - theirs.predict_proba(new)).max() < 1e-6
            assert np.array_equal(found.argmax(axis=0), theirs.predict(new))


def with_forest(forest, features):
    """A classifier around a forest whose features need not be textures of channels."""
    names = ("tumour", "stroma", "other")
    channels = tuple(f"c{k}" for k in range(-(-features // 20)))
    return PixelClassifier(
        "", channels, tuple(TissueClass(n, n) for n in names), (1.0,) * len(channels), forest, "", ()
    )


def test_columns_that_are_not_wanted_cost_nothing_and_are_zero(taught):
    features = np.random.default_rng(0).normal(size=(160, 50)).astype(np.float32)
    wanted = np.arange(50) % 2 == 0
    found = taught.forest.probabilities(features, wanted)
    assert (found[:, ~wanted] == 0).all()
    assert np.array_equal(found[:, wanted], taught.forest.probabilities(features[:, wanted]))


def test_the_same_strokes_give_the_same_classifier(drawn):
    pixels, strokes = overview(drawn), strokes_on(drawn, 2, seed=4)
    one, two = (json.dumps(classifier_as_json(trained_on(pixels, strokes))) for _ in range(2))
    assert one == two


def test_a_classifier_comes_back_from_json_as_it_was(drawn, taught):
    text = json.dumps(classifier_as_json(taught))
    back = classifier_from_json(json.loads(text))
    assert json.dumps(classifier_as_json(back)) == text
    pixels = overview(drawn)[:, :96, :96]
    assert np.array_equal(picture_of(pixels, back), picture_of(pixels, taught))
    assert len(text) < 3_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["forest"]["left"].__setitem__(0, 10**7), "names what is not there"),
        (lambda c: c["forest"]["left"].__setitem__(0, 0), "names what is not there"),  # round in a circle
        (lambda c: c["forest"]["feature"].__setitem__(0, 160), "names what is not there"),
        (lambda c: c["forest"].pop("leaf"), "cannot be read"),
        (lambda c: c["features"].pop(), "another mihc"),
        (lambda c: c["scale"].pop(), "do not fit"),
        (lambda c: c.pop("classes"), "cannot be read"),
    ],
)
def test_a_damaged_classifier_is_refused_before_it_is_walked(taught, change, said):
    content = json.loads(json.dumps(classifier_as_json(taught)))
    change(content)
    with pytest.raises(InputError, match=said):
        classifier_from_json(content)


# training


def stroke_of(name, n, seed, slide="S1"):
    random = np.random.default_rng(seed)
    centre = {"tumour": 1.0, "stroma": -1.0, "glass": 4.0}[name]
    return StrokePixels(slide, TissueClass(name, CLASSES[name]), random.normal(centre, 1, (n, 5)).astype(np.float32))


def test_pixels_of_one_stroke_are_never_on_both_sides():
    """Strokes that only their own mark can tell: with pixels on both sides every pixel would be predicted right."""
    random = np.random.default_rng(3)
    strokes = []
    for k in range(8):
        mark = np.zeros((200, 8), np.float32)
        mark[:, k] = 5
        name = ("tumour", "stroma")[k % 2]
        features = mark + random.normal(0, 0.1, mark.shape).astype(np.float32)
        strokes.append(StrokePixels("S1", TissueClass(name, name), features))
    right = [row["percent"] for row in train(strokes).confusion if row["drawn"] == row["predicted"]]
    assert sum(right) / 2 < 65


def test_the_confusion_counts_left_out_strokes_for_all_slides_and_each():
    strokes = [stroke_of(name, 100, k, slide) for k, (name, slide) in enumerate(
        [("tumour", "A"), ("stroma", "A"), ("tumour", "B"), ("stroma", "B"), ("glass", "B")]
    )]  # fmt: skip
    rows = train(strokes).confusion
    assert {(row["slide"], row["drawn"]) for row in rows} == {
        (slide, drawn) for slide in ("*", "A", "B") for drawn in ("tumour", "stroma")
    }  # the only stroke of glass stays in training
    assert {row["predicted"] for row in rows} == {"tumour", "stroma", "glass"}
    for slide, count in (("*", 200), ("A", 100)):
        for drawn in ("tumour", "stroma"):
            mine = [row for row in rows if (row["slide"], row["drawn"]) == (slide, drawn)]
            assert sum(row["pixels"] for row in mine) == count
            assert sum(row["percent"] for row in mine) == pytest.approx(100)
            assert {row["strokes"] for row in mine} == {2 if slide == "*" else 1}


def test_with_one_stroke_a_class_it_is_trained_and_says_nothing_of_itself():
    trained = train([stroke_of("tumour", 100, 0), stroke_of("stroma", 100, 1)])
    assert trained.confusion == ()
    assert [one.name for one in trained.classes] == ["tumour", "stroma"]


def test_strokes_that_cannot_teach_are_refused_with_words():
    with pytest.raises(AnnotationError, match=r"one class only \(tumour\)"):
        train([stroke_of("tumour", 100, 0), stroke_of("tumour", 100, 1)])
    with pytest.raises(AnnotationError, match="class stroma cover 12 pixels; at least 30"):
        train([stroke_of("tumour", 100, 0), stroke_of("stroma", 12, 1)])


# strokes


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


LINE = {"type": "LineString", "coordinates": [[10, 20], [30, 40, 0]]}


def test_strokes_are_read_with_a_plain_class_or_qupaths(tmp_path):
    path = tmp_path / "S1.geojson"
    many = {"type": "MultiLineString", "coordinates": [[[0, 0], [5, 5]], [[9, 9], [9, 12]]]}
    content = [feature(LINE, **{"class": "tumour"}), feature(many, classification={"name": "Necrosis"})]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": content}))
    one, two = read_strokes(path)
    assert (one.label, shapely.get_coordinates(one.line_px).tolist()) == ("tumour", [[10, 20], [30, 40]])
    assert (two.label, two.line_px.geom_type) == ("Necrosis", "MultiLineString")
    assert map_strokes([one, two], {}) == [TissueClass("tumour", "tumour"), TissueClass("necrosis", "excluded")]


def test_classes_of_strokes_are_mapped_as_those_of_regions_and_glass_is_known():
    strokes = [Stroke(label, shapely.LineString([(0, 0), (1, 1)]), "") for label in ("Tumor", "Background", "Fat")]
    assert map_strokes(strokes, {"Fat": "other"}) == [
        TissueClass("tumour", "tumour"), TissueClass("glass", "outside"), TissueClass("other", "other"),
    ]  # fmt: skip
    with pytest.raises(AnnotationError, match=r"unknown: 'Fat' \(1 stroke\)"):
        map_strokes(strokes, {})


@pytest.mark.parametrize(
    ("geometry", "properties", "said"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}, {"class": "tumour"}, "is a Polygon"),
        (LINE, {}, "without a class"),
        ({"type": "LineString", "coordinates": [[1, 1]]}, {"class": "tumour"}, "needs two points"),
        ({"type": "LineString", "coordinates": [[1, 1], [1, 1]]}, {"class": "tumour"}, "without length"),
        ({"type": "LineString", "coordinates": [[1, 1], ["a", 1]]}, {"class": "tumour"}, "not two numbers"),
        ({"type": "LineString", "coordinates": [[1, 1], [1e12, 1]]}, {"class": "tumour"}, "no pixel of any slide"),
    ],
)
def test_what_is_no_stroke_is_refused_by_name(tmp_path, geometry, properties, said):
    path = tmp_path / "S1.geojson"
    path.write_text(json.dumps([feature(LINE, **{"class": "stroma"}), feature(geometry, **properties)]))
    with pytest.raises(AnnotationError, match=said) as caught:
        read_strokes(path)
    assert caught.value.place == "S1.geojson, feature 2"


def test_strokes_off_the_slide_are_refused():
    inside, off = (
        Stroke("tumour", shapely.LineString([(10, 10), (90, y)]), "S1.geojson, feature 1") for y in (90, 130)
    )
    check_strokes([inside], shape=(100, 100))
    with pytest.raises(AnnotationError, match="off the slide"):
        check_strokes([off], shape=(100, 100))


# small pieces


def test_small_pieces_become_what_touches_them_most():
    # 0 0 0 0 1     the piece of 2 touches more of 0, the pixel of 1 has only 0 beside it, NOTHING stays
    # 0 2 2 0 1
    # 0 0 1 0 1
    # N N 0 0 1
    picture = np.array([[0, 0, 0, 0, 1], [0, 2, 2, 0, 1], [0, 0, 1, 0, 1], [255, 255, 0, 0, 1]], np.uint8)
    tidy = without_small_pieces(picture, 3)
    assert tidy.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [255, 255, 0, 0, 1]]
    assert np.array_equal(without_small_pieces(picture, 1), picture)
    alone = np.full((3, 3), NOTHING, np.uint8)
    alone[1, 1] = 1
    assert np.array_equal(without_small_pieces(alone, 5), alone)
