"""PD-L1: what TPS and CPS are made of, by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from mihc.studies.pdl1 import (
    ENDS,
    POSITIVE_IMMUNE_CELLS,
    POSITIVE_TUMOUR_CELLS,
    TUMOUR_CELLS,
    near_tumour,
)
from mihc.study import pdl1_table, study_notes, study_table

COLUMNS = ["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
SLIDES = pd.DataFrame({"slide": ["S1", "S2", "S3"], "patient": ["P1", "P1", "P2"]})
NO_REGIONS = pd.DataFrame(columns=COLUMNS)


def counts(slide: str, tumour: float, positive: float, immune: tuple[float, float], ends: tuple = ()) -> list[tuple]:
    """Rows of one slide: its tumour cells, the positive ones, positive immune cells of (tumour, stroma)."""
    rows = [
        (slide, "T", "tumour", TUMOUR_CELLS, 1000, tumour, 1.0),
        (slide, "T", "tumour", POSITIVE_TUMOUR_CELLS, 1000, positive, 1.0),
        (slide, "T", "tumour", POSITIVE_IMMUNE_CELLS, 1000, immune[0], 1.0),
        (slide, "S", "stroma", TUMOUR_CELLS, 1000, 9, 1.0),  # tumour cells by their marker, in stroma: not counted
        (slide, "S", "stroma", POSITIVE_TUMOUR_CELLS, 1000, 9, 1.0),
        (slide, "S", "stroma", POSITIVE_IMMUNE_CELLS, 1000, immune[1], 1.0),
    ]
    for end, (cells, others) in zip(ENDS, ends):
        rows.append((slide, "T", "tumour", f"{POSITIVE_TUMOUR_CELLS}|{end}", 1000, cells, 1.0))
        rows.append((slide, "T", "tumour", f"{POSITIVE_IMMUNE_CELLS}|{end}", 1000, others, 1.0))
    return rows


def table(*slides: list[tuple], **kwargs) -> pd.DataFrame:
    rows = pd.DataFrame([row for slide in slides for row in slide], columns=COLUMNS)
    found = pdl1_table(NO_REGIONS, SLIDES, pdl1_counts=rows, **kwargs)
    patients = study_table(NO_REGIONS, SLIDES, None, pdl1_counts=rows, **kwargs).set_index("patient")
    pooled = found[found["slide"] == ""].set_index("patient")
    pd.testing.assert_frame_equal(pooled[["TPS_percent", "CPS"]], patients[["TPS_percent", "CPS"]])
    return found.set_index(["patient", "slide"])


def test_the_counts_behind_tps_and_cps_are_those_of_the_slides_and_their_sum():
    found = table(counts("S1", 150, 15, (3, 6)), counts("S2", 50, 25, (1, 2)), counts("S3", 99, 9, (0, 0)))
    behind = ["viable_tumour_cells", "positive_tumour_cells", "positive_immune_cells"]
    assert found.loc[("P1", ""), behind].tolist() == [200, 40, 12]
    assert found.loc[("P1", "S1"), behind].tolist() == [150, 15, 9]
    assert found.loc[("P1", "S2"), behind].tolist() == [50, 25, 3]
    assert found.loc[("P1", ""), ["TPS_percent", "CPS"]].tolist() == [20.0, 26.0]
    assert found.index.tolist() == [("P1", ""), ("P1", "S1"), ("P1", "S2"), ("P2", ""), ("P2", "S3")]


def test_fewer_than_100_viable_tumour_cells_are_not_evaluable_and_still_counted():
    found = table(counts("S1", 150, 15, (3, 6)), counts("S2", 50, 25, (1, 2)), counts("S3", 99, 9, (0, 0)))
    assert found["evaluable"].tolist() == [True, True, False, False, False]
    assert found.loc[("P2", ""), "viable_tumour_cells"] == 99
    assert found.loc[("P2", ""), "note"] == "not evaluable: 99 tumour cells, needed 100"
    assert math.isnan(found.loc[("P1", "S2"), "TPS_percent"])


def test_cps_is_capped_at_100_in_its_interval_too():
    found = table(counts("S3", 100, 90, (30, 0), ends=((80, 10), (100, 90))))
    row = found.loc[("P2", "")]
    assert row[["TPS_percent_low", "TPS_percent", "TPS_percent_high"]].tolist() == [80.0, 90.0, 100.0]
    assert row[["CPS_low", "CPS", "CPS_high"]].tolist() == [90.0, 100.0, 100.0]


def test_a_slide_without_an_interval_adds_its_counts_to_both_ends():
    ends = ((10, 2), (20, 4))
    both = table(counts("S1", 150, 15, (3, 0), ends), counts("S2", 150, 15, (3, 0), ends))
    assert both.loc[("P1", ""), ["TPS_percent_low", "TPS_percent_high"]].tolist() == [20 / 3, 40 / 3]
    one = table(counts("S1", 150, 15, (3, 0), ends), counts("S2", 150, 15, (3, 0)))
    assert one.loc[("P1", ""), ["TPS_percent_low", "TPS_percent_high"]].tolist() == [25 / 3, 35 / 3]
    assert one.loc[("P1", ""), ["CPS_low", "CPS_high"]].tolist() == [100 * (25 + 5) / 300, 100 * (35 + 7) / 300]
    assert one.loc[("P1", "S2"), ["TPS_percent_low", "TPS_percent_high"]].isna().all()  # a typed threshold
    assert one.loc[("P1", "S1"), "TPS_percent_low"] == 20 / 3


@pytest.mark.parametrize(("unclear", "tumour_cells"), [("withhold", math.nan), ("leave_out", 150)])
def test_a_slide_that_cannot_tell_is_withheld_or_left_out(unclear, tumour_cells):
    unknown = counts("S2", math.nan, math.nan, (math.nan, math.nan))
    row = table(counts("S1", 150, 15, (3, 6)), unknown, unclear=unclear).loc[("P1", "")]
    assert row["viable_tumour_cells"] == pytest.approx(tumour_cells, nan_ok=True)
    assert bool(row["evaluable"]) == (unclear == "leave_out")


@pytest.mark.parametrize(
    ("positive", "immune", "tps"),
    [(math.nan, (math.nan, math.nan), 10.0), (50, (math.nan, math.nan), 10.0), (50, (0, math.nan), 10.0)],
)
def test_a_slide_left_out_of_a_numerator_is_left_out_of_its_denominator(positive, immune, tps):
    """PD-L1 cannot be told on S2, or the immune marker cannot, while its tumour cells are known."""
    rows = [*counts("S1", 150, 15, (3, 6)), *counts("S2", 850, positive, immune)]
    found = table(rows, unclear="leave_out").loc[("P1", "")]
    assert found["viable_tumour_cells"] == 150
    assert found[["TPS_percent", "CPS"]].tolist() == [tps, 16.0]
    notes = study_notes(NO_REGIONS, SLIDES, pdl1_counts=pd.DataFrame(rows, columns=COLUMNS), unclear="leave_out")
    assert ("TPS and CPS", "S2") in set(notes[["population", "slide"]].itertuples(index=False, name=None))
    withheld = table(rows).loc[("P1", "")]
    assert math.isnan(withheld["CPS"])


def test_where_no_slide_knows_its_immune_cells_tps_stands_alone():
    unknown = (math.nan, math.nan)
    rows = [*counts("S1", 150, 15, unknown), *counts("S2", 850, math.nan, unknown)]
    found = table(rows, unclear="leave_out").loc[("P1", "")]
    assert found["TPS_percent"] == 10.0
    assert math.isnan(found["CPS"])


def test_what_is_said_of_the_interval_is_no_note_to_the_patients():
    rows = pd.DataFrame(counts("S1", 150, 15, (3, 6), ends=((10, 2), (20, 4))), columns=COLUMNS)
    notes = study_notes(NO_REGIONS, SLIDES[:1], pdl1_counts=rows)
    assert notes.empty


# ---- near the tumour


CELLS = pd.DataFrame(
    {
        "tissue_class": ["tumour", "stroma", "stroma", "stroma", "other"],
        "distance_to_margin_um": [-300.0, 50.0, 50.1, math.nan, 10.0],
    }
)


def test_without_a_distance_every_cell_is_near_enough():
    assert near_tumour(CELLS, None).tolist() == [True] * 5


def test_with_a_distance_stroma_counts_up_to_it_and_tumour_always():
    assert near_tumour(CELLS, 50.0).tolist() == [True, True, False, False, True]  # NaN: no tumour on the slide


def test_a_table_without_distances_cannot_tell():
    found = near_tumour(CELLS[["tissue_class"]], 50.0)
    assert [None if value is pd.NA else value for value in found] == [True, None, None, None, None]
