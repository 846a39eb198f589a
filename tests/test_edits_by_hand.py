"""Single edits of cells and regions, by hand: small labels and boxes whose outcome can be read off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from mihc.errors import UsageError
from mihc.regions import Region
from mihc.reviews.cell_edits import Piece, add, delete, merge, redraw, split
from mihc.reviews.region_edits import edit_regions, polygon_as_json
from mihc.reviews.runs import laid_over, runs_of
from mihc.reviews.states import SlideReview

# ---- cells by hand


CELLS = np.array(
    [
        [1, 1, 1, 1, 2, 2, 2, 0],
        [1, 1, 1, 1, 2, 2, 2, 0],
        [1, 1, 1, 1, 2, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    np.uint32,
)
NUCLEI = np.where([[k in (1, 2, 5, 6) for k in range(8)]] * 3 + [[False] * 8], CELLS, 0).astype(np.uint32)
PIECE = Piece(NUCLEI, CELLS, (10, 20), (0.5, 0.5), 0.5)


def after(edit) -> tuple[list, list]:
    """Nuclei and cells of the piece once an edit is laid over it."""
    review = SlideReview("S1", "anna", removed=frozenset(edit.removed), added={one.cell: one for one in edit.added})
    return tuple(
        laid_over(labels, review, name, origin_yx=PIECE.origin_yx).tolist()
        for labels, name in ((NUCLEI, "nuclei"), (CELLS, "cells"))
    )


def test_two_cells_merged_by_hand():
    nuclei, cells = after(merge(PIECE, [1, 2], new=9))
    assert nuclei[0] == [0, 9, 9, 0, 0, 9, 9, 0] and cells[0] == [9] * 7 + [0] and cells[3] == [0] * 8


def test_a_cell_deleted_by_hand():
    nuclei, cells = after(delete(PIECE, [2]))
    assert nuclei[1] == [0, 1, 1, 0, 0, 0, 0, 0] and cells[1] == [1, 1, 1, 1, 0, 0, 0, 0]


def test_a_cell_split_by_hand():
    row = Piece(
        np.array([[0] + [3] * 11 + [0]] * 3, np.uint32), np.array([[3] * 13] * 3, np.uint32), (0, 0), (1.0, 1.0), 1.0
    )
    made = split(row, 3, np.array([[-1.0, 6.5], [4.0, 6.5]]), new=(8, 9))
    assert made.removed == (3,)
    first, second = made.added
    assert first.nucleus[0] == (0, 1, 6) and second.nucleus[0] == (0, 7, 5)  # the cut's own pixels: the first of equals
    assert first.whole[0] == (0, 0, 7) and second.whole[0] == (0, 7, 6)
    with pytest.raises(UsageError, match="does not cut the nucleus in two"):
        split(row, 3, np.array([[-1.0, 0.5], [4.0, 0.5]]), new=(8, 9))


def test_a_cell_added_by_hand_takes_cytoplasm_but_no_nucleus():
    edit = add(PIECE, np.array([[12, 22], [12, 26], [14, 26], [14, 22]], float), new=9)
    nuclei, cells = after(edit)
    assert nuclei[2] == [0, 1, 1, 9, 9, 2, 2, 0] and nuclei[3] == [0, 0, 9, 9, 9, 9, 0, 0]
    assert cells[2] == [1, 1, 1, 9, 9, 2, 2, 0] and cells[1] == CELLS[1].tolist()  # of equals the higher
    assert cells[3] == [0, 0, 9, 9, 9, 9, 0, 0] and sorted(edit.removed) == [1, 2]


def test_a_cell_redrawn_by_hand_keeps_its_id():
    nuclei, cells = after(redraw(PIECE, 2, np.array([[10, 25], [10, 27], [12, 27], [12, 25]], float)))
    assert [row[5:7] for row in nuclei] == [[2, 2], [2, 2], [0, 0], [0, 0]]
    assert [row[4:] for row in cells] == [[2, 2, 2, 2], [2, 2, 2, 2], [0, 2, 2, 0], [0, 0, 0, 0]]


def test_cells_that_are_not_there_are_named():
    with pytest.raises(UsageError, match="there is no cell 7"):
        delete(PIECE, [1, 7])
    with pytest.raises(UsageError, match="cannot be merged"):
        merge(PIECE, [1, 1], new=9)
    with pytest.raises(UsageError, match="no other nucleus"):
        add(PIECE, np.array([[10, 21], [10, 23], [12, 23], [12, 21]], float), new=9)


@given(seed=st.integers(0, 999))
def test_runs_hold_exactly_the_pixels_of_a_mask(seed):
    mask = np.random.default_rng(seed).random((7, 9)) < 0.5
    painted = np.zeros((7, 9), bool)
    for y, x, length in runs_of(mask, origin_yx=(100, 200)):
        assert not painted[y - 100, x - 200 : x - 200 + length].any()
        painted[y - 100, x - 200 : x - 200 + length] = True
    assert np.array_equal(painted, mask)


# ---- regions by hand

TUMOUR, STROMA = Region("T", "tumour", box(0, 0, 10, 10)), Region("S", "stroma", box(10, 0, 20, 10))


def shown(regions: list[Region]) -> list[tuple[str, str, float]]:
    return [(one.name, one.tissue_class, one.polygon_um.area) for one in regions]


def test_region_edits_by_hand():
    drawn = {"op": "draw", "name": "N", "tissue_class": "excluded", "polygon": polygon_as_json(box(8, 0, 12, 10))}
    edits = [drawn]
    assert shown(edit_regions([TUMOUR, STROMA], edits)[0]) == [
        ("T", "tumour", 80.0),
        ("S", "stroma", 80.0),
        ("N", "excluded", 40.0),
    ]
    edits.append({"op": "reclassify", "name": "N", "tissue_class": "other"})
    edits.append({"op": "cut", "name": "T", "polygon": polygon_as_json(box(0, 0, 4, 20))})
    edits.append({"op": "remove", "name": "S"})
    found, remarks = edit_regions([TUMOUR, STROMA], edits)
    assert shown(found) == [("T", "tumour", 40.0), ("N", "other", 40.0)] and remarks == []
    edits.append({"op": "cut", "name": "S", "polygon": polygon_as_json(box(0, 0, 1, 1))})
    assert "found no region 'S'" in edit_regions([TUMOUR, STROMA], edits)[1][0]


def test_an_outline_that_crosses_itself_is_refused():
    from shapely.geometry import Polygon

    with pytest.raises(UsageError, match="crosses itself"):
        polygon_as_json(Polygon([(0, 0), (4, 4), (4, 0), (0, 2)]))
    with pytest.raises(UsageError, match="holds no area"):
        polygon_as_json(Polygon())
