from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import ClinicalError, InputError
from mihc.studies.settings import Pdl1
from mihc.study import pdl1_expressions, pdl1_scores, study_notes, study_table

REGION_COLUMNS = ["slide", "patient", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
# P1 has two slides: tumour 10 of 100 in 1 mm² and 5 of 300 in 4 mm²; stroma on S1 only. P2 has one.
REGIONS = pd.DataFrame(
    [
        ("S1", "P1", "A", "tumour", "CD20", 60, 6, 0.5),
        ("S1", "P1", "B", "tumour", "CD20", 40, 4, 0.5),
        ("S1", "P1", "C", "stroma", "CD20", 50, 25, 2.0),
        ("S2", "P1", "A", "tumour", "CD20", 300, 5, 4.0),
        ("S3", "P2", "A", "tumour", "CD20", 10, 0, 1.0),
    ],
    columns=REGION_COLUMNS,
)
SLIDES = pd.DataFrame({"slide": ["S1", "S2", "S3"], "patient": ["P1", "P1", "P2"]})
CLINICAL = pd.DataFrame({"patient": ["P2", "P1"], "os": [3.0, 12.5], "response": ["SD", "CR"]})


def value(table: pd.DataFrame, patient: str, column: str) -> float:
    return table.set_index("patient")[column][patient]


def test_a_patient_pools_its_slides_by_hand():
    table = study_table(REGIONS, SLIDES, CLINICAL)
    assert table.columns.tolist() == [
        "patient",
        "slides",
        "CD20|tumour|density_per_mm2",
        "CD20|tumour|positivity_percent",
        "CD20|stroma|density_per_mm2",
        "CD20|stroma|positivity_percent",
        "CD20|all|density_per_mm2",
        "CD20|all|positivity_percent",
        "os",
        "response",
    ]
    assert table["patient"].tolist() == ["P1", "P2"]
    assert table["slides"].tolist() == [2, 1]
    assert value(table, "P1", "CD20|tumour|density_per_mm2") == 15 / 5.0  # the mean of slides would be 5.625
    assert value(table, "P1", "CD20|tumour|positivity_percent") == 100 * 15 / 400
    assert value(table, "P1", "CD20|stroma|density_per_mm2") == 12.5
    assert value(table, "P1", "CD20|all|density_per_mm2") == 40 / 7.0
    assert value(table, "P1", "CD20|all|positivity_percent") == 100 * 40 / 450
    assert value(table, "P1", "os") == 12.5
    assert value(table, "P2", "response") == "SD"


def test_measured_none_is_0_and_no_region_is_nan():
    table = study_table(REGIONS, SLIDES, None)
    assert value(table, "P2", "CD20|tumour|density_per_mm2") == 0.0
    assert math.isnan(value(table, "P2", "CD20|stroma|density_per_mm2"))
    notes = study_notes(REGIONS, SLIDES)
    assert ("P2", "stroma", "no such region was analysed") in set(
        notes[["patient", "tissue_class", "note"]].itertuples(index=False, name=None)
    )


def test_other_tissue_has_columns_where_a_slide_has_it():
    more = pd.DataFrame([("S3", "P2", "gland", "other", "CD20", 20, 10, 0.5)], columns=REGION_COLUMNS)
    table = study_table(pd.concat([REGIONS, more]), SLIDES, None)
    assert value(table, "P2", "CD20|other|density_per_mm2") == 20.0
    assert math.isnan(value(table, "P1", "CD20|other|density_per_mm2"))
    assert value(table, "P2", "CD20|all|density_per_mm2") == 10 / 1.5


def with_unclear_s2() -> pd.DataFrame:
    regions = REGIONS.copy()
    regions["positive_cells"] = regions["positive_cells"].astype("Int64")
    regions.loc[regions["slide"] == "S2", "positive_cells"] = pd.NA
    return regions


def test_a_slide_that_cannot_tell_withholds_the_patient_and_is_named():
    table = study_table(with_unclear_s2(), SLIDES, None)
    assert math.isnan(value(table, "P1", "CD20|tumour|density_per_mm2"))
    assert math.isnan(value(table, "P1", "CD20|all|positivity_percent"))
    assert value(table, "P2", "CD20|tumour|density_per_mm2") == 0.0
    notes = study_notes(with_unclear_s2(), SLIDES)
    assert set(notes.loc[notes["slide"] == "S2", "note"]) == {"withheld: the threshold cannot tell"}


def test_a_slide_that_cannot_tell_is_left_out_on_request_and_is_named():
    table = study_table(with_unclear_s2(), SLIDES, None, unclear="leave_out")
    assert value(table, "P1", "CD20|tumour|density_per_mm2") == 10.0
    notes = study_notes(with_unclear_s2(), SLIDES, unclear="leave_out")
    assert set(notes.loc[notes["slide"] == "S2", "note"]) == {"left out: the threshold cannot tell"}


def test_a_failed_slide_counts_as_missing_with_its_reason():
    slides = SLIDES.assign(failed=[False, True, False], message=["", "truncated", ""])
    regions = REGIONS[REGIONS["slide"] != "S2"]
    table = study_table(regions, slides, None)
    assert math.isnan(value(table, "P1", "CD20|stroma|density_per_mm2"))
    assert value(table, "P1", "slides") == 1
    notes = study_notes(regions, slides)
    assert set(notes.loc[notes["slide"] == "S2", "note"]) == {"withheld: the slide failed: truncated"}
    pooled = study_table(regions, slides, None, unclear="leave_out")
    assert value(pooled, "P1", "CD20|stroma|density_per_mm2") == 12.5


def test_a_patient_whose_only_slide_failed_keeps_its_row():
    slides = SLIDES.assign(failed=[False, False, True])
    table = study_table(REGIONS[REGIONS["slide"] != "S3"], slides, CLINICAL)
    assert table["patient"].tolist() == ["P1", "P2"]
    assert value(table, "P2", "slides") == 0
    assert value(table, "P2", "os") == 3.0
    assert math.isnan(value(table, "P2", "CD20|tumour|density_per_mm2"))


def test_a_study_in_which_every_slide_failed_has_its_patients_and_no_value():
    table = study_table(
        pd.DataFrame(),
        SLIDES.assign(failed=True),
        CLINICAL,
        populations={"CD20": {""}},
        pdl1_counts=pd.DataFrame(),
    )
    assert table["patient"].tolist() == ["P1", "P2"]
    assert table["slides"].tolist() == [0, 0]
    assert table["CD20|tumour|density_per_mm2"].isna().all()
    assert table[["TPS_percent", "CPS"]].isna().all(axis=None)
    assert table["os"].tolist() == [12.5, 3.0]


def test_a_control_slide_is_never_counted():
    slides = SLIDES.assign(control=["", "isotype", ""])
    table = study_table(REGIONS, slides, None)
    assert value(table, "P1", "CD20|tumour|density_per_mm2") == 10.0
    assert value(table, "P1", "slides") == 1
    assert study_table(REGIONS, SLIDES.assign(control="negative"), None).empty


def test_a_slide_counts_for_a_population_only_if_its_panel_can_show_it():
    regions = pd.concat([REGIONS, REGIONS[REGIONS["slide"] == "S1"].assign(population="Ki67")])
    slides = SLIDES.assign(panel=["T", "B", "B"])
    table = study_table(regions, slides, None, populations={"Ki67": {"T"}, "CD20": {"B", "T"}})
    assert table.columns[2] == "Ki67|tumour|density_per_mm2"
    assert value(table, "P1", "Ki67|tumour|density_per_mm2") == 10.0
    assert value(table, "P1", "CD20|tumour|density_per_mm2") == 3.0
    assert math.isnan(value(table, "P2", "Ki67|tumour|density_per_mm2"))
    notes = study_notes(regions, slides)
    assert ("P2", "Ki67", "no slide of the patient is stained for it") in set(
        notes[["patient", "population", "note"]].itertuples(index=False, name=None)
    )


def test_unknown_area_leaves_positivity_and_withholds_density():
    regions = REGIONS.assign(area_mm2=np.nan)
    table = study_table(regions, SLIDES, None)
    assert table["CD20|tumour|density_per_mm2"].isna().all()
    assert value(table, "P1", "CD20|tumour|positivity_percent") == 100 * 15 / 400
    assert "withheld: the area is not known" in set(study_notes(regions, SLIDES)["note"])


def test_patients_without_clinical_row_stay_and_clinical_rows_without_slide_add_nobody():
    clinical = pd.DataFrame({"patient": ["P1", "X"], "os": [1.0, 2.0], "response": ["CR", "PD"]})
    table = study_table(REGIONS, SLIDES, clinical)
    assert table["patient"].tolist() == ["P1", "P2"]
    assert math.isnan(value(table, "P2", "os"))
    assert value(table, "P2", "response") is None


def test_two_clinical_rows_of_a_patient_are_refused():
    with pytest.raises(ClinicalError, match="'P2' has several rows"):
        study_table(REGIONS, SLIDES, pd.concat([CLINICAL, CLINICAL]))


def test_regions_of_an_unknown_slide_are_refused():
    with pytest.raises(ValueError, match="S3"):
        study_table(REGIONS, SLIDES.iloc[:2], None)


# --- properties ---


@st.composite
def studies(draw):
    """Regions, slides and clinical rows in which ids of one table may be missing from the other."""
    names = ["1", "01", "NA", "p", "P", "é"]
    slides = [(f"S{n}", draw(st.sampled_from(names))) for n in range(draw(st.integers(1, 6)))]
    rows = []
    for slide, patient in slides:
        for region, tissue_class in draw(
            st.lists(st.sampled_from([("a", "tumour"), ("b", "tumour"), ("c", "stroma")]), unique=True)
        ):
            cells = draw(st.integers(0, 50))
            area = draw(st.floats(0.001, 10))
            positive = draw(st.one_of(st.just(np.nan), st.integers(0, cells)))
            rows.append((slide, patient, region, tissue_class, "CD20", cells, positive, area))
    clinical = [(name, float(n)) for n, name in enumerate(draw(st.lists(st.sampled_from([*names, "zz"]), unique=True)))]
    return (
        pd.DataFrame(rows, columns=REGION_COLUMNS),
        pd.DataFrame(slides, columns=["slide", "patient"]),
        pd.DataFrame({"patient": [c[0] for c in clinical], "os": np.array([c[1] for c in clinical], dtype=np.float64)}),
    )


@given(study=studies(), seed=st.integers(0, 99), unclear=st.sampled_from(["withhold", "leave_out"]))
def test_NP40_the_order_of_rows_changes_nothing(study, seed, unclear):
    shuffled = [table.sample(frac=1, random_state=seed) for table in study]
    one = study_table(*study, unclear=unclear)
    other = study_table(*shuffled, unclear=unclear)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@given(study=studies())
def test_NP42_the_join_invents_and_loses_nobody(study):
    regions, slides, clinical = study
    table = study_table(regions, slides, clinical)
    assert table["patient"].tolist() == sorted(set(slides["patient"]))
    assert table["slides"].sum() == len(slides)
    expected = dict(zip(clinical["patient"], clinical["os"]))
    for patient, os in zip(table["patient"], table["os"]):
        assert os == expected[patient] if patient in expected else math.isnan(os)


@given(study=studies())
def test_NP41_unrelated_clinical_rows_change_nothing(study):
    regions, slides, clinical = study
    more = pd.concat([clinical, pd.DataFrame({"patient": ["unrelated"], "os": [9.0]})])
    pd.testing.assert_frame_equal(study_table(regions, slides, clinical), study_table(regions, slides, more))


@given(study=studies())
def test_NP43_a_replicate_slide_leaves_density(study):
    regions, slides, clinical = study
    twice = pd.concat([regions, regions.assign(slide=regions["slide"] + "b")])
    slides_twice = pd.concat([slides, slides.assign(slide=slides["slide"] + "b")])
    one, two = study_table(regions, slides, clinical), study_table(twice, slides_twice, clinical)
    assert two["slides"].tolist() == [2 * n for n in one["slides"]]
    pd.testing.assert_frame_equal(one.drop(columns="slides"), two.drop(columns="slides"), rtol=1e-12, atol=0)


# --- PD-L1 ---


def test_pdl1_scores_by_hand():
    scores = pdl1_scores(tumour_cells=200, positive_tumour_cells=30, positive_immune_cells=20)
    assert (scores.tps_percent, scores.cps, scores.note) == (15.0, 25.0, "")


def test_cps_is_at_most_100():
    assert pdl1_scores(tumour_cells=100, positive_tumour_cells=80, positive_immune_cells=50).cps == 100.0


def test_fewer_than_100_tumour_cells_are_not_evaluable():
    scores = pdl1_scores(tumour_cells=99, positive_tumour_cells=99, positive_immune_cells=5)
    assert math.isnan(scores.tps_percent) and math.isnan(scores.cps)
    assert "not evaluable: 99 tumour cells" in scores.note
    assert pdl1_scores(tumour_cells=100, positive_tumour_cells=0, positive_immune_cells=0).tps_percent == 0.0


def test_unknown_immune_cells_leave_tps():
    scores = pdl1_scores(tumour_cells=100, positive_tumour_cells=10, positive_immune_cells=np.nan)
    assert scores.tps_percent == 10.0
    assert math.isnan(scores.cps)


def test_pdl1_scores_are_pooled_over_slides():
    names = list(pdl1_expressions(Pdl1("PD-L1", "PanCK+", "CD3+")))
    rows = [
        ("S1", "P1", "A", "tumour", names[0], 500, 80, 1.0),
        ("S1", "P1", "A", "tumour", names[1], 500, 8, 1.0),
        ("S1", "P1", "A", "tumour", names[2], 500, 1, 1.0),
        ("S1", "P1", "B", "stroma", names[0], 500, 7, 1.0),  # tumour cells by their marker, in stroma: not counted
        ("S1", "P1", "B", "stroma", names[2], 500, 5, 1.0),
        ("S2", "P1", "A", "tumour", names[0], 500, 120, 1.0),
        ("S2", "P1", "A", "tumour", names[1], 500, 12, 1.0),
        ("S2", "P1", "A", "tumour", names[2], 500, 4, 1.0),
        ("S3", "P2", "A", "tumour", names[0], 50, 20, 1.0),
        ("S3", "P2", "A", "tumour", names[1], 50, 20, 1.0),
        ("S3", "P2", "A", "tumour", names[2], 50, 0, 1.0),
    ]
    counts = pd.DataFrame(rows, columns=REGION_COLUMNS)
    table = study_table(REGIONS, SLIDES, CLINICAL, pdl1_counts=counts)
    assert table.columns.tolist()[-4:] == ["TPS_percent", "CPS", "os", "response"]
    assert value(table, "P1", "TPS_percent") == 10.0
    assert value(table, "P1", "CPS") == 15.0
    assert math.isnan(value(table, "P2", "TPS_percent"))
    notes = study_notes(REGIONS, SLIDES, pdl1_counts=counts)
    assert any("20 tumour cells" in note for note in notes["note"])
    assert not any(column.startswith(names[0]) for column in table)


def test_a_cell_that_is_tumour_and_immune_counts_once():
    from mihc.positives import parse_expression

    expressions = pdl1_expressions(Pdl1("PD-L1", "PanCK+", "CD3+ | CD68+"))
    markers = ["PD-L1", "PanCK", "CD3", "CD68"]
    cell = {name: pd.array([True], dtype="boolean") for name in markers}
    held = [bool(parse_expression(text, markers).evaluate(cell)[0]) for text in expressions.values()]
    assert held == [True, True, False]


# ---- intervals


def with_intervals(low: list[float], high: list[float]) -> pd.DataFrame:
    return REGIONS.assign(positive_cells_low=low, positive_cells_high=high)


def test_a_patients_interval_pools_the_ends_of_its_slides():
    """S2 has a typed threshold, so no interval: its 5 cells count at both ends."""
    nan = math.nan
    regions = with_intervals([4, 3, 20, nan, 0], [8, 5, 30, nan, 2])
    assert regions["positive_cells"].tolist() == [6, 4, 25, 5, 0]
    table = study_table(regions, SLIDES, CLINICAL)
    assert table.columns[2:5].tolist() == [f"CD20|tumour|density_per_mm2{end}" for end in ("", "_low", "_high")]
    assert value(table, "P1", "CD20|tumour|density_per_mm2") == 15 / 5.0
    assert value(table, "P1", "CD20|tumour|density_per_mm2_low") == (4 + 3 + 5) / 5.0
    assert value(table, "P1", "CD20|tumour|density_per_mm2_high") == (8 + 5 + 5) / 5.0
    assert value(table, "P1", "CD20|all|positivity_percent_high") == 100 * (8 + 5 + 30 + 5) / 450
    assert value(table, "P2", "CD20|tumour|positivity_percent_high") == 20
    assert value(table, "P2", "CD20|tumour|positivity_percent_low") == 0


def test_where_no_slide_has_an_interval_there_are_no_columns_for_it():
    nothing = [math.nan] * 5
    assert study_table(with_intervals(nothing, nothing), SLIDES, CLINICAL).equals(
        study_table(REGIONS, SLIDES, CLINICAL)
    )


def test_an_end_of_an_interval_is_never_tested():
    from mihc.associations.columns import marker_columns

    table = study_table(with_intervals([4, 3, 20, 5, 0], [8, 5, 30, 5, 2]), SLIDES, CLINICAL)
    plain = study_table(REGIONS, SLIDES, CLINICAL)
    assert marker_columns(table) == marker_columns(plain)
    assert len(table.columns) == len(plain.columns) + 12


def test_a_withheld_value_has_no_interval():
    regions = with_unclear_s2().assign(positive_cells_low=0.0, positive_cells_high=9.0)
    regions.loc[regions["positive_cells"].isna(), ["positive_cells_low", "positive_cells_high"]] = math.nan
    table = study_table(regions, SLIDES, CLINICAL).set_index("patient")
    assert table.loc["P1"].filter(regex="^CD20.(tumour|all)").isna().all()
    left_out = study_table(regions, SLIDES, CLINICAL, unclear="leave_out").set_index("patient")
    assert left_out.loc["P1", "CD20|tumour|density_per_mm2_high"] == 18 / 1.0


@pytest.mark.parametrize("table", ["regions", "slides", "clinical"])
def test_names_that_pandas_would_take_as_one_are_refused(table):
    """pandas groups "P1\\0a" with "P1\\0b": two patients would be one."""
    column = {"regions": "population", "slides": "patient", "clinical": "patient"}[table]
    tables = {"regions": REGIONS, "slides": SLIDES, "clinical": CLINICAL}
    names = tables[table][column].astype(object).tolist()
    tables[table] = tables[table].assign(**{column: [f"{names[0]}\0a", *names[1:]]})
    with pytest.raises(InputError, match=f"{table}, column {column}, row 1.*control character"):
        study_table(tables["regions"], tables["slides"], tables["clinical"])
