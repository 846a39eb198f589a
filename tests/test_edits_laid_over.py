"""Edited cells laid over the machine's tables: by hand, by row groups, and placed one by one as all at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point, Polygon, box

from mihc.areas import margins
from mihc.regions import (
    Region,
    area_ledger,
    assign_regions,
    distance_to_margin,
    distance_to_outline,
    moved_cells,
    partition,
    tumour_outline,
)
from mihc.steps.edit import Edits

MACHINE = pd.DataFrame(
    {"cell": np.array([2, 5, 7, 9], np.uint32), "x_um": [0.2, 0.5, 0.7, 0.9], "region": ["a", "a", "b", "b"]}
)
ROWS = pd.DataFrame(
    {"cell": np.array([5, 20, 21], np.uint32), "x_um": [5.5, 20.0, 21.0], "region": ["b", "a", "a"], "more": [1, 2, 3]}
)
EDITS = Edits(ROWS, np.array([5, 7], np.uint32))


def test_edits_are_laid_over_a_table_by_hand():
    found = EDITS.over(MACHINE)
    assert found["cell"].tolist() == [2, 5, 9, 20, 21] and found["x_um"].tolist() == [0.2, 5.5, 0.9, 20.0, 21.0]
    assert found["region"].tolist() == ["a", "b", "b", "a", "a"] and list(found) == list(MACHINE)
    assert found["cell"].dtype == np.uint32 and found.index.tolist() == [0, 1, 2, 3, 4]
    only_gone = Edits(ROWS[:0], np.array([2], np.uint32))
    assert only_gone.over(MACHINE)["cell"].tolist() == [5, 7, 9]
    assert Edits(ROWS[:0], np.zeros(0, np.uint32)).over(MACHINE) is MACHINE


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("edits", [EDITS, Edits(ROWS[:1], np.array([5], np.uint32)), Edits(ROWS[:0], EDITS.gone)])
def test_row_group_by_row_group_is_the_same_as_at_once(size, edits):
    parts = [MACHINE[first : first + size].reset_index(drop=True) for first in range(0, len(MACHINE), size)]
    edited = edits.in_groups(np.array([part["cell"].iloc[-1] for part in parts]))
    parts.append(MACHINE[:0])  # of the cells that were added
    untouched = Edits(ROWS[:0], np.zeros(0, np.uint32))
    together = [edited.get(number, untouched).over(part) for number, part in enumerate(parts)]
    pd.testing.assert_frame_equal(pd.concat(together, ignore_index=True), edits.over(MACHINE), check_dtype=True)
    for number, one in edited.items():
        low, high = parts[number]["cell"].min(), parts[number]["cell"].max()
        assert number == len(parts) - 1 or one.gone.size == 0 or low <= one.gone.min() <= one.gone.max() <= high


def test_every_cell_of_a_slide_may_be_gone():
    gone = Edits(ROWS[:0], MACHINE["cell"].to_numpy())
    assert len(gone.over(MACHINE)) == 0 and list(gone.in_groups(np.array([5, 9]))) == [0, 1]
    assert EDITS.over(MACHINE[:0])["cell"].tolist() == [5, 20, 21]
    assert list(EDITS.in_groups(np.zeros(0, np.uint32))) == [0]


def test_a_region_that_no_machine_cell_lies_in_is_known_to_a_table_of_categories():
    machine = MACHINE.assign(region=MACHINE["region"].astype("category"))
    edits = Edits(ROWS.assign(region=["drawn", "a", "b"]), EDITS.gone)
    assert edits.over(machine)["region"].tolist() == ["a", "drawn", "b", "a", "b"]
    assert Edits(ROWS[:0], EDITS.gone).over(machine)["region"].tolist() == ["a", "b"]


SCANNED = box(0, 0, 100, 100)
NEST = Point(30, 40).buffer(25).union(box(60, 60, 100, 100))  # its corner lies on the edge of the scan
REGIONS = [
    Region("T", "tumour", NEST),
    Region("hole", "excluded", Point(30, 40).buffer(6)),
    Region("S", "stroma", Polygon([(0, 70), (55, 70), (55, 100), (0, 100)])),
]


def points(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 100, (2, count))
    return x, y


def test_a_few_points_lie_as_far_from_the_margin_as_among_many():
    x, y = points(400)
    x[7], y[11] = np.nan, np.inf
    many = distance_to_margin(x, y, REGIONS, scanned=SCANNED)
    outline = tumour_outline(REGIONS, SCANNED)
    assert len(x) > margins.FEW and np.isfinite(many).sum() == 398
    one_by_one = [distance_to_outline(x[k : k + 1], y[k : k + 1], outline, scanned=SCANNED)[0] for k in range(len(x))]
    np.testing.assert_array_equal(np.array(one_by_one), many)


@pytest.mark.parametrize("outline", [Polygon(), SCANNED])
def test_without_a_margin_few_points_have_no_distance_either(outline):
    x, y = points(5)
    assert np.isnan(distance_to_outline(x, y, outline, scanned=SCANNED)).all()
    assert distance_to_outline(x[:0], y[:0], outline, scanned=SCANNED).shape == (0,)


def test_the_ledger_of_moved_cells_is_that_of_all_cells():
    parts, tissue = partition(REGIONS, scanned=SCANNED), box(5, 5, 95, 95)

    def ledger(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
        cells = assign_regions(x, y, REGIONS).assign(x_um=x, y_um=y)
        return area_ledger("S1", parts, scanned=SCANNED, tissue=tissue, cells=cells)

    x, y = points(300)
    placed = assign_regions(x, y, REGIONS)
    inside = np.flatnonzero(placed["tissue_class"] != "outside")[:160]
    gone, come = inside[:100], inside[100:]
    change = {}
    for rows, sign in ((gone, -1), (come, 1)):
        for key in zip(placed["region"].iloc[rows], placed["tissue_class"].iloc[rows]):
            change[key] = change.get(key, 0) + sign
    before = np.setdiff1d(np.arange(300), come)
    after = np.setdiff1d(np.arange(300), gone)
    assert {kind for _, kind in change} == {"tumour", "stroma", "excluded"}
    pd.testing.assert_frame_equal(moved_cells(ledger(x[before], y[before]), change), ledger(x[after], y[after]))
