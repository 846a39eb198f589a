import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from drawn_report import drawn_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from shapely.geometry import MultiPolygon, Polygon, box

from mihc.figures import (
    ForestRow,
    SurvivalGroup,
    box_plot,
    composite,
    forest_plot,
    ledger_plot,
    p_text,
    plain,
    png_bytes,
    safe_name,
    save,
    shrunk,
    slide_overview,
    slide_svg,
    survival_plot,
    svg_bytes,
    threshold_plot,
    value_histogram,
)
from mihc.plots.overlays import MOST_POINTS, histogram_svg, ledger_areas, polygon_path, shown_points, slide_layers
from mihc.plots.pictures import length_text, scale_bar_um
from mihc.plots.style import DOWN_COLOUR, GROUP_COLOURS, REGION_COLOURS, UP_COLOUR

HOSTILE = '</text><script>a(1)</script>"><image href="https://x.example/"/> $\\frac{1}{0}$ \x00\u202egnp\u2028&amp;]]>'
TIME, EVENT = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, 1.0, 0.0])


def texts(figure):
    return [
        element.text for element in ElementTree.fromstring(svg_bytes(figure)).iter() if element.tag.endswith("}text")
    ]


def two_groups(label="low"):
    return box_plot(
        {label: np.array([1.0, 2.0, 3.0, 4.0]), "high": np.array([5.0, np.nan, 7.0])}, title="t", y_label="y"
    )


def test_boxes_are_type_7_quartiles_and_every_patient_is_a_dot():
    axes = two_groups().axes[0]
    edges = axes.patches[0].get_path().vertices[:, 1]
    assert (edges.min(), edges.max()) == (1.75, 3.25)  # R: quantile(1:4, c(.25, .75))
    assert sorted(axes.collections[0].get_offsets()[:, 1]) == [1.0, 2.0, 3.0, 4.0]
    assert sum(len(dots.get_offsets()) for dots in axes.collections if hasattr(dots, "get_sizes")) == 4 + 2


def test_the_number_of_patients_stands_under_each_group():
    labels = [tick.get_text() for tick in two_groups().axes[0].get_xticklabels()]
    assert labels == ["low\nn = 4", "high\nn = 2"]


def test_a_group_of_three_patients_has_no_box():
    figure = box_plot({"few": np.array([1.0, 2.0, 4.0])}, title="t", y_label="y")
    assert not figure.axes[0].patches


def test_an_empty_group_is_drawn_empty():
    figure = box_plot({"a": np.array([]), "b": np.array([np.nan])}, title="t", y_label="y")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["a\nn = 0", "b\nn = 0"]


def test_the_survival_curve_by_hand():
    # at 1: 3/4; at 3: 3/4 * 1/2; censored at 2 and 4
    figure = survival_plot([SurvivalGroup("all", TIME, EVENT)], title="t", x_label="x", y_label="y")
    curve, censored = figure.axes[0].lines
    assert curve.get_xdata().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert curve.get_ydata().tolist() == [1.0, 0.75, 0.75, 0.375, 0.375]
    assert censored.get_xydata().tolist() == [[2.0, 0.75], [4.0, 0.375]]


def test_the_numbers_at_risk_stand_below_the_curve():
    figure = survival_plot([SurvivalGroup("all", TIME, EVENT)], title="t", x_label="x", y_label="y")
    ticks = [tick for tick in figure.axes[1].get_xticks() if 0 <= tick <= 4.12]
    shown = [int(text.get_text()) for text in figure.axes[1].texts if text.get_text().isdigit()]
    assert shown == [int((tick <= TIME).sum()) for tick in ticks]
    assert shown[0] == 4


def test_a_group_without_patients_is_named_and_has_no_curve():
    groups = [SurvivalGroup("some", TIME, EVENT), SurvivalGroup("none", np.array([]), np.array([]))]
    labels = [
        text.get_text()
        for text in survival_plot(groups, title="t", x_label="x", y_label="y").axes[0].get_legend().texts
    ]
    assert labels == ["some (n = 4, 2 events)", "none (n = 0, 0 events)"]


def test_a_forest_row_that_is_not_finite_keeps_its_label_without_a_mark():
    rows = [ForestRow("a", 0.5, 0.2, 1.1, "0.5"), ForestRow("b", np.inf, np.nan, np.nan, "not estimable")]
    axes = forest_plot(rows, title="t", x_label="x").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "s"] == [0.5]


def test_what_stands_in_a_forest_is_bold_and_no_colour_of_a_group():
    rows = [ForestRow("a", 0.5, 0.2, 0.9, "stands", marked=True), ForestRow("b", 0.9, 0.5, 1.4, "does not")]
    axes = forest_plot(rows, title="t", x_label="x").axes[0]
    weights = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert weights == {"stands": "bold", "does not": "normal"}
    used = {to_hex(line.get_color()) for line in axes.lines} | {to_hex(text.get_color()) for text in axes.texts}
    assert not used & {*GROUP_COLOURS, UP_COLOUR, DOWN_COLOUR} and len({UP_COLOUR, DOWN_COLOUR, *GROUP_COLOURS}) == 8


def test_titles_name_the_test():
    figure = box_plot({"a": TIME}, title="PFS", y_label="y", test="Wilcoxon rank-sum test: p = 0.03")
    assert "Wilcoxon rank-sum test: p = 0.03" in texts(figure)


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.5, "p = 0.50"),
        (0.0321, "p = 0.032"),
        (0.00042, "p = 0.0004"),
        (1e-9, "p <\u00a00.0001"),
        (np.nan, "p not computed"),
    ],
)
def test_p_values_are_said_as_people_read_them(p, shown):
    assert p_text(p) == shown


def test_the_same_figure_is_the_same_bytes(tmp_path):
    groups = [SurvivalGroup("all", TIME, EVENT)]
    once, again = (survival_plot(groups, title="t", x_label="x", y_label="y") for _ in range(2))
    assert svg_bytes(once) == svg_bytes(again)
    assert png_bytes(once) == png_bytes(again)
    paths = save(two_groups(), tmp_path / "figures", "a")
    assert [path.name for path in paths] == ["a.svg", "a.png"]
    assert paths[0].read_bytes() == svg_bytes(two_groups())
    assert b"date" not in svg_bytes(once).lower()


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    svg_bytes(two_groups())
    assert dict(matplotlib.rcParams) == before


def test_X7_hostile_names_stay_text_in_every_figure():
    drawn = drawn_picture(HOSTILE, side=40)
    regions = [replace(region, name=HOSTILE) for region in drawn.regions]
    picture = replace(drawn, regions=regions, positives={HOSTILE: drawn.positives["CD20"]})
    ledger = pd.DataFrame({"slide": [HOSTILE], "category": ["tumour"], "area_mm2": [1.0]})
    thresholds = pd.DataFrame(
        {"marker": ["CD20"], "value": [900.0], "low": [800.0], "high": [1000.0], "verdict": [HOSTILE]}
    )
    figures = [
        two_groups(HOSTILE),
        survival_plot(
            [SurvivalGroup(HOSTILE, TIME, EVENT)], title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE, test=HOSTILE
        ),
        forest_plot([ForestRow(HOSTILE, 1.0, 0.5, 2.0, HOSTILE)], title=HOSTILE, x_label=HOSTILE),
        slide_overview(picture, {HOSTILE: "#ffffff"}),
        ledger_plot(ledger, title=HOSTILE),
        threshold_plot(picture.histograms, thresholds, title=HOSTILE),
    ]
    documents = [svg_bytes(figure) for figure in figures] + [slide_svg(picture, {HOSTILE: "#ffffff"}).encode()]
    for document in documents:
        elements = list(ElementTree.parse(io.BytesIO(document)).iter())
        assert not [element for element in elements if element.tag.endswith("script")]
        links = [value for element in elements for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/")) for link in links)


@given(st.text())
def test_plain_text_is_one_line_that_xml_can_carry(text):
    shown = plain(text)
    assert ElementTree.fromstring(f"<a>{shown.replace('&', '&amp;').replace('<', '&lt;')}</a>").text in (shown, None)
    assert not re.search("[\x00-\x1f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown)
    assert len(shown) == len(text)


@given(st.lists(st.text(), max_size=3))
def test_file_names_are_short_and_safe_on_every_system(parts):
    assert re.fullmatch(r"[A-Za-z0-9_-]{0,72}", safe_name(*parts))


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_two_names_have_two_files(first, second):
    assert (safe_name(first) == safe_name(second)) == (first == second)


def test_a_composite_by_hand():
    planes = np.array([[[0, 100, 100]], [[0, 50, 0]]])
    mixed = composite(planes, ["FF0000", "0000FF"], [(0, 100), (0, 100)])
    assert mixed.tolist() == [[[0, 0, 0], [255, 0, 128], [255, 0, 0]]]


def test_many_channels_on_one_pixel_do_not_overflow():
    mixed = composite(np.full((8, 1, 1), 50), ["804020"] * 8, [(0, 100)] * 8)
    assert mixed[0, 0].tolist() == [round(255 * (1 - (1 - 0.5 * c / 255) ** 8)) for c in (0x80, 0x40, 0x20)]


def test_a_channel_without_signal_stays_dark():
    noise = np.random.default_rng(1).poisson(300, (1, 64, 64))
    signal = np.where(np.arange(64) > 50, 5000, noise)
    assert composite(noise, ["FFFFFF"]).max() < 30
    assert composite(signal, ["FFFFFF"])[:, 51:].min() == 255


@given(st.lists(st.floats(-5, 1e5), max_size=200))
def test_a_histogram_loses_no_cell(values):
    histogram = value_histogram(np.array([*values, np.nan]))
    assert histogram.counts.sum() == len(values)
    assert (np.diff(histogram.edges) > 0).all() or len(values) > 1  # rising; equal only where floats meet
    assert len(histogram.edges) == len(histogram.counts) + 1


def test_a_shrunk_picture_shows_the_same_width():
    picture = drawn_picture("S01", side=160, um_per_px=8.0)
    small = shrunk(picture, 40)
    assert small.rgb.shape == (40, 40, 3)
    assert small.um_per_px * 40 == 160 * 8.0
    assert shrunk(picture, 500) is picture


@pytest.mark.parametrize(
    ("width", "bar", "text"), [(1000, 200, "200 µm"), (8000, 2000, "2 mm"), (30, 5, "5 µm"), (4, 1, "1 µm")]
)
def test_the_scale_bar_is_round_and_at_most_a_quarter(width, bar, text):
    assert scale_bar_um(width) == bar
    assert length_text(bar) == text


def test_a_polygon_with_a_hole_becomes_a_path_of_two_rings():
    square = box(0, 0, 40, 40).difference(box(10, 10, 20, 20))
    assert polygon_path(square, 10.0).count("M") == 2
    assert (
        polygon_path(MultiPolygon([box(0, 0, 10, 10), box(20, 0, 30, 10)]), 10.0)
        == "M1 0l0 1 -1 0 0-1zM3 0l0 1 -1 0 0-1z"
    )
    assert polygon_path(Polygon(), 10.0) == ""


def test_dots_are_thinned_evenly_and_pixels_shown_once():
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 10.0
    assert len(shown_points(grid, 10.0)) == MOST_POINTS
    assert shown_points(np.array([[1.0, 2.0], [3.0, 4.0], [25.0, 4.0]]), 10.0).tolist() == [[0, 0], [2, 0]]
    assert len(shown_points(np.empty((0, 2)), 10.0)) == 0


def test_the_ledger_bar_shows_parts_and_no_total():
    ledger = pd.DataFrame(
        {
            "category": ["scanned", "glass", "tissue", "tumour", "tumour", "excluded"],
            "area_mm2": [5.0, 1.0, 4.0, 1.5, 1.5, 1.0],
        }
    )
    assert ledger_areas(ledger) == {"tumour": 3.0, "excluded": 1.0, "glass": 1.0}


def test_an_unknown_threshold_is_not_drawn():
    histogram = value_histogram(np.arange(1.0, 100.0))
    drawn = histogram_svg(histogram, value=50.0, low=40.0, high=60.0, verdict="separable")
    unknown = histogram_svg(histogram, value=np.nan, low=np.nan, high=np.nan, verdict="cannot tell")
    assert (drawn.count("<path"), drawn.count("<rect")) == (2, 1)
    assert re.findall(">([0-9.]+)</text>", str(drawn)) == ["1.1", "13.5", "98.9"]
    assert (unknown.count("<path"), unknown.count("<rect")) == (1, 0)


def test_a_line_that_regions_share_is_the_tumours_and_that_of_what_is_excluded():
    """In the page's picture and in the file beside it, whatever the order of the regions."""
    picture = drawn_picture("S01")
    first = picture.regions[0]
    kinds = ("excluded", "tumour", "stroma")
    picture = replace(picture, positives={}, regions=[replace(first, name=kind, tissue_class=kind) for kind in kinds])
    lines = [line.get_color() for line in slide_overview(picture, {}).axes[0].lines]
    order = [REGION_COLOURS[kind] for kind in ("stroma", "tumour", "excluded")]
    assert list(dict.fromkeys(lines))[:3] == order
    assert re.findall(r'class="region"[^>]*stroke="(#[0-9a-f]{6})"', str(slide_layers(picture, {}))) == order
