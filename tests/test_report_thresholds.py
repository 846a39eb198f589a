"""The report's chapter of thresholds, and intervals beside the values."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from drawn_report import drawn_study, drawn_tables

from mihc.plots.drift import DriftPoint, drift_svg
from mihc.report import write_report
from mihc.reports import thresholds
from mihc.reports.doubts import doubts, suspects
from mihc.reports.numbers import Numbers


@pytest.fixture(scope="module")
def tables():
    return drawn_tables()


def plain_text(line: str) -> str:
    return re.sub("<[^>]+>", "", line)


def beside_their_batch(tables) -> dict[str, pd.DataFrame]:
    """The drawn study with S02 drifted in CD20, S03 lent its CD3 threshold, and batch B brighter in CD3."""
    rows = tables["thresholds"].copy()
    numbers = {"negative_peak": 300.0, "negative_width": 30.0, "batch_peak": 300.0, "batch_width": 30.0}
    words = {"batch": "A", "control": "", "remark": "", "own_verdict": rows["verdict"], "reason": "two peaks"}
    rows = rows.assign(**numbers, **words, own_value=rows["value"], control_p99=float("nan"))
    drifted = (rows["slide"] == "S02") & (rows["marker"] == "CD20")
    rows.loc[drifted, ["negative_peak", "remark"]] = [690.0, "the negative peak of S02 lies 2.3 times that of <A>"]
    lent = (rows["slide"] == "S03") & (rows["marker"] == "CD3")
    rows.loc[lent, ["verdict", "own_verdict", "reason"]] = ["harmonised", "cannot tell", "the threshold of batch A"]
    batches = pd.DataFrame(
        {"panel": ["", ""], "batch": ["A", "B"], "marker": "CD3", "remark": ["", "batch B: far off"]}
    )
    columns = ["noticed", "slide", "marker", "level", "old_value", "new_value", "who", "when", "reason"]
    history = pd.DataFrame([["t", "*", "CD3", "value", "", "500.0", "<b>Ada</b>", "March", "why"]], columns=columns)
    return tables | {"thresholds": rows, "batches": batches, "history": history}


def test_drift_and_lent_thresholds_are_doubts_and_reasons_to_look(tables):
    numbers = Numbers(beside_their_batch(tables))
    said = [plain_text(line) for line in doubts(numbers)]
    apart = "the negative cells or the threshold stand apart from their batch A or a control"
    assert f"CD20: on 1 slide {apart}: S02" in said
    assert "In batch B the negative cells lie elsewhere than in the other batches: CD3" in said
    assert "1 threshold taken from the batch, because the slide's own was weak: CD3" in said
    reasons = {one.slide: one for one in suspects(numbers)}["S02"]
    assert "CD20: the negative peak of S02 lies 2.3 times that of <A>" in reasons.reasons
    assert reasons.commands == ("mihc review STUDY --slide S02 --population CD20",)


def test_a_threshold_typed_far_from_what_the_cells_say_is_a_doubt_and_a_reason_to_look(tables):
    told = beside_their_batch(tables)
    rows = told["thresholds"]
    remark = "the typed threshold, 60000, lies far above what its own threshold may be, 456 to 978"
    rows.loc[(rows["slide"] == "S03") & (rows["marker"] == "CD20"), ["verdict", "remark"]] = ["manual", remark]
    said = [plain_text(line) for line in doubts(Numbers(told))]
    assert "CD20: the threshold typed for 1 slide lies far from what their cells say: S03" in said
    assert not any("apart from" in line and "S03" in line for line in said)
    assert f"CD20: {remark}" in {one.slide: one for one in suspects(Numbers(told))}["S03"].reasons


def test_what_cannot_be_told_of_a_control_is_no_doubt_of_the_study(tables):
    told = beside_their_batch(tables)
    rows = told["thresholds"]
    rows.loc[rows["slide"] == "S02", "verdict"] = "cannot tell"
    assert any("could be told" in line and "S02" in line for line in doubts(Numbers(told)))
    slides = told["slides"].assign(control=np.where(told["slides"]["slide"] == "S02", "unstained", ""))
    assert not any("could be told" in line and "S02" in line for line in doubts(Numbers(told | {"slides": slides})))


def test_the_chapter_of_thresholds_shows_drift_what_was_lent_and_who_typed(tables, tmp_path):
    written = write_report(tmp_path, study=drawn_study(), tables=beside_their_batch(tables), run={}, pictures=[])
    page = (tmp_path / "report.html").read_text()
    assert page.count('<svg class="drift"') == 3  # one per marker
    assert "S02: the negative peak of S02 lies 2.3 times that of &lt;A&gt;" in page
    assert "batch B: far off" in page
    assert "the threshold of batch A" in page and "&lt;b&gt;Ada&lt;/b&gt;" in page and "<b>Ada</b>" not in page
    assert [path.name for path in written if path.name.startswith("drift")] == [
        "drift_CD20.svg", "drift_CD3.svg", "drift_PanCK.svg",
    ]  # fmt: skip
    for name in ("drift_CD20.svg", "drift_CD3.svg"):
        ElementTree.parse(tmp_path / "figures" / name)


def test_of_a_large_study_only_markers_with_a_remark_are_in_the_page(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(thresholds, "MOST_MARKS", 10)
    written = write_report(tmp_path, study=drawn_study(), tables=beside_their_batch(tables), run={}, pictures=[])
    page = (tmp_path / "report.html").read_text()
    assert page.count('<svg class="drift"') == 2  # CD20 has a drifted slide, CD3 a drifted batch
    assert "in figures/ only: PanCK." in page
    assert len([path for path in written if path.name.startswith("drift")]) == 3


def test_without_what_lies_beside_a_batch_there_is_no_chapter_of_thresholds(tables, tmp_path):
    write_report(tmp_path, study=drawn_study(), tables=tables, run={}, pictures=[])
    assert 'id="thresholds"' not in (tmp_path / "report.html").read_text()


def test_an_interval_stands_beside_its_value_where_it_says_something(tables, tmp_path):
    regions, patients = tables["regions"].copy(), tables["patients"].copy()
    regions["density_per_mm2_low"], regions["density_per_mm2_high"] = 12.5, 99.5
    name = "CD20|tumour|density_per_mm2"
    patients[f"{name}_low"], patients[f"{name}_high"] = patients[name], patients[name] + 7
    given = tables | {"regions": regions, "patients": patients}
    write_report(tmp_path, study=drawn_study(), tables=given, run={}, pictures=[])
    page = (tmp_path / "report.html").read_text()
    assert 'data-source="regions.csv:2/density_per_mm2_low">12.5</span> to' in page
    assert f'data-source="patients.csv:2/{name}_high"' in page
    assert f"{name}_high</th>" not in page  # no column of its own
    same = given | {"patients": patients.assign(**{f"{name}_high": patients[name]})}
    assert not thresholds.has_interval(same["patients"], 0, name)
    assert doubts(Numbers(given)) == doubts(Numbers(tables))  # an end that is missing is no missing value


def point(slide: str, batch: str = "A", *, peak: float = 200.0, **other) -> DriftPoint:
    known = {"control": False, "width": 20.0, "value": 400.0, "low": 380.0, "high": 430.0, "own": np.nan}
    known |= {"verdict": "separable", "remark": "", "apart": False}
    return DriftPoint(slide=slide, batch=batch, peak=peak, **{**known, **other})


def drawn(points: list[DriftPoint]) -> ElementTree.Element:
    return ElementTree.fromstring(drift_svg(points, title="CD3"))


def marks(svg: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [one for one in svg.iter() if one.tag.endswith(f"}}{kind}")]


def test_a_slides_marks_lie_by_their_counts():
    svg = drawn([point("S1"), point("S2", peak=300.0)])
    first, second = (float(one.get("cy")) for one in marks(svg, "circle"))
    assert second < first  # more counts, higher up
    box = marks(svg, "rect")[0]
    assert float(box.get("y")) + float(box.get("height")) < second  # the threshold's interval lies above both
    assert len(marks(svg, "rect")) == 2


def test_batches_lie_side_by_side_with_their_names_and_medians():
    svg = drawn([point("S1", "B"), point("S2", "A"), point("S3", "B")])
    words = ["".join(one.itertext()) for one in marks(svg, "text")]
    assert [word for word in words if word in ("AA", "BB")] == ["BB", "AA"]  # a name, and its tooltip
    assert len([one for one in marks(svg, "path") if one.get("stroke-dasharray")]) == 2


def test_what_stands_apart_is_ringed_and_what_cannot_be_told_is_asked():
    nothing = {"value": np.nan, "low": np.nan, "high": np.nan}
    svg = drawn([point("S1", apart=True, remark="far"), point("S2", verdict="cannot tell", **nothing)])
    assert [one.get("r") for one in marks(svg, "circle")] == ["2.6", "5.5", "2.6"]
    assert "?" in [one.text for one in marks(svg, "text")]
    assert "S1: separable; far" in [one.text for one in marks(svg, "title")]


@pytest.mark.parametrize("peak", [np.nan, 0.0, -50.0, 1e9])
def test_any_counts_can_be_drawn(peak):
    svg = drawn([point("</svg><script>", "<b>", peak=peak, width=0.0, value=peak, low=peak, high=peak)])
    numbers = [float(one.get(name)) for one in svg.iter() for name in ("x", "y", "cx", "cy") if one.get(name)]
    assert np.isfinite(numbers).all()
    assert not marks(svg, "script")
