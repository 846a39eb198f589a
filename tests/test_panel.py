"""panel.csv: channels by name, every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mihc.errors import PanelError, StudyProblems
from mihc.panel import Panel, PanelRow, check_panels, read_panels

GOOD = "channel,marker,role,compartment,threshold,colour\nDAPI,DNA,nuclei,,,\nCy3,CD20,marker,cell,120.5,2EB888\n"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "panel.csv"
    path.write_bytes(text.encode(encoding))
    return path


def problems_of(folder: Path, text: str) -> str:
    return "\n".join(map(str, check_panels(write(folder, text))[1]))


def test_a_panel_is_read_with_its_defaults(tmp_path):
    panel = read_panels(write(tmp_path, GOOD))[""]
    assert panel.rows[0] == PanelRow("DAPI", "DNA", "nuclei", "nucleus", None, "3B6FE0")
    assert panel.rows[1] == PanelRow("Cy3", "CD20", "marker", "cell", 120.5, "2EB888")
    assert [row.marker for row in panel.markers] == ["CD20"]


def test_two_panels_are_kept_apart(tmp_path):
    text = "panel,channel,marker,role\nB,DAPI,DNA,nuclei\nB,c1,CD20,marker\nT,DAPI,DNA,nuclei\nT,c1,CD3,marker\n"
    panels = read_panels(write(tmp_path, text))
    assert {name: [row.marker for row in panel.markers] for name, panel in panels.items()} == {
        "B": ["CD20"],
        "T": ["CD3"],
    }


def test_PC10_a_byte_order_mark_crlf_and_blank_lines_change_nothing(tmp_path):
    plain = read_panels(write(tmp_path, GOOD))
    dressed = "\ufeff" + GOOD.replace("\n", "\r\n") + "\r\n\r\n"
    assert read_panels(write(tmp_path, dressed)) == plain


def test_a_channel_is_matched_by_name_then_case_then_index():
    rows = tuple(PanelRow(c, m, "marker", "cell", None, "FFFFFF") for c, m in [("Cy3", "A"), ("fitc", "B"), ("0", "C")])
    assert Panel("", rows).match(["DAPI", "FITC", "Cy3"]) == {"A": 2, "B": 1, "C": 0}


def test_PC4_a_marker_that_the_slide_lacks_is_named_with_what_is_there():
    panel = Panel("", (PanelRow("CD8", "CD8", "marker", "cell", None, "FFFFFF"),))
    with pytest.raises(PanelError, match=r"panel CD8 not in slide \{0: DAPI, 1: CD3\}"):
        panel.match(["DAPI", "CD3"])


def test_SL32_a_channel_name_that_occurs_twice_is_refused_unless_its_index_is_given():
    row = PanelRow("CD3", "CD3", "marker", "cell", None, "FFFFFF")
    with pytest.raises(PanelError, match="occurs 2 times in the slide, at 1, 2"):
        Panel("", (row,)).match(["DAPI", "CD3", "CD3"])
    by_index = PanelRow("2", "CD3", "marker", "cell", None, "FFFFFF")
    assert Panel("", (by_index,)).match(["DAPI", "CD3", "CD3"]) == {"CD3": 2}


def test_two_markers_on_one_channel_are_refused():
    rows = tuple(PanelRow(c, m, "marker", "cell", None, "FFFFFF") for c, m in [("Cy3", "A"), ("1", "B")])
    with pytest.raises(PanelError, match="'A' and 'B' both name channel 1"):
        Panel("", rows).match(["DAPI", "Cy3"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channel;marker;role\nDAPI;DNA;nuclei\n", "found ';'"),
        ("channel,marker,role\nDAPI,DNA,nuclei,9\n", "4 cells where the header has 3"),
        ("channel,marker,rolle\nDAPI,DNA,nuclei\n", "unknown: rolle"),
        ("channel,marker,role\nDAPI,DNA,nucleus\n", "role 'nucleus' is unknown"),
        ('channel,marker,role,threshold\nDAPI,DNA,nuclei,\nc1,CD3,marker,"1,5"\n', "Write a decimal point"),
        ("channel,marker,role,threshold\nDAPI,DNA,nuclei,\nc1,CD3,marker,nan\n", "not a number of counts"),
        ("channel,marker,role,threshold\nDAPI,DNA,nuclei,\nc1,CD3,marker,-4\n", "not a number of counts"),
        ("channel,marker,role\nc1,CD3,marker\n", "no channel has the role nuclei"),
        ("channel,marker,role\nDAPI,DNA,nuclei\nc1,CD3,marker\nc2,cd3,marker\n", "marker 'cd3' is listed twice"),
        ("channel,marker,role\nDAPI,DNA,nuclei\nc1,CD3|x,marker\n", "holds a |"),
        ("channel,marker,role,colour\nDAPI,DNA,nuclei,blue\n", "not six hexadecimal digits"),
        ("channel,marker,role\n", "no channel is listed"),
        ("", "the file is empty"),
    ],
)
def test_a_broken_panel_is_refused_in_words(tmp_path, text, said):
    assert said in problems_of(tmp_path, text)


def test_every_problem_comes_at_once(tmp_path):
    path = write(tmp_path, "channel,marker,role,threshold\nDAPI,DNA,dna,\nc1,CD3,marker,high\n")
    with pytest.raises(StudyProblems) as refused:
        read_panels(path)
    assert [problem.place for problem in refused.value.problems] == ["panel.csv, line 2", "panel.csv, line 3"]


def test_a_table_that_is_not_utf8_is_refused_naming_the_byte(tmp_path):
    path = write(tmp_path, "channel,marker,role\nDAPI,µ,nuclei\n", encoding="latin-1")
    assert "byte 25 is not UTF-8" in str(check_panels(path)[1][0])
