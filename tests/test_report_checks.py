"""Cross-checks of the report: each holds on sound tables, and each sees the one number that is spoilt."""

import pytest
from drawn_report import drawn_run, drawn_study, drawn_tables

from mihc.reports.checklists import checklists
from mihc.reports.checks import checks
from mihc.reports.numbers import Numbers


@pytest.fixture(scope="module")
def tables():
    drawn = drawn_tables()
    lost = drawn["slides"]["slide"][drawn["slides"]["status"] == "failed"]
    drawn["regions"] = drawn["regions"][~drawn["regions"]["slide"].isin(lost)].reset_index(drop=True)
    columns = [name for name in drawn["patients"] if name.count("|") == 2]
    gone = drawn["patients"]["patient"] == "P007"
    drawn["patients"].loc[gone, columns] = float("nan")
    return drawn


def told(tables, **spoilt):
    return {check.name: check for check in checks(Numbers(tables | spoilt))}


def broken(tables, **spoilt):
    return [name for name, check in told(tables, **spoilt).items() if not check.holds]


def changed(table, row, column, value):
    other = table.copy()
    other.loc[row, column] = value
    return other


def test_sound_tables_pass_every_check(tables):
    assert broken(tables) == []
    assert len(told(tables)) == 10


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "name"),
    [
        ("regions", 3, "positivity_percent", 50.0, "Positivity is"),
        ("regions", 3, "density_per_mm2", 1.0, "Density is"),
        ("regions", 3, "cells", 999_999, "All populations of a region have one denominator"),
        ("patients", 2, "CD20|stroma|density_per_mm2", 7.0, "A patient's density is the sum"),
        ("patients", 2, "patient", "P001", "Every slide's patient"),
        ("slides", 0, "status", "failed", "Failed slides are in no number"),
        ("slides", 0, "slide", "S99", "Failed slides are in no number"),
        ("area_ledger", 4, "area_mm2", 9.0, "Areas sum"),
        ("area_ledger", 0, "cells", 1, "Cells sum"),
        ("statistics", 2, "p_adjusted", -0.1, "Every p has an adjusted p"),
        ("statistics", 2, "n", 25, "No test has more patients"),
    ],
)
def test_a_spoilt_number_breaks_its_check_and_is_named(tables, table, row, column, value, name):
    one = tables["statistics"]
    row = int(one.index[one["p"].notna()][0]) if table == "statistics" else row
    failing = broken(tables, **{table: changed(tables[table], row, column, value)})
    assert any(said.startswith(name) for said in failing)
    found = told(tables, **{table: changed(tables[table], row, column, value)})
    assert all("; not so: " in found[said].told for said in failing)


def test_checks_without_their_tables_are_not_listed():
    assert checks(Numbers({})) == []


def test_both_checklists_are_whole_and_say_what_a_person_must_fill_in(tables):
    remark, mif = checklists(Numbers(tables), drawn_study(), drawn_run())
    assert [item.number for item in remark.items] == [str(k) for k in range(1, 21)]
    assert len(mif.items) == 14
    by_number = {item.number: item for item in remark.items}
    assert not by_number["3"].known and by_number["3"].told == ""
    assert by_number["7"].known and "pfs_months (months)" in by_number["7"].told
    assert "CR, PR in best_response" in by_number["7"].told
    assert "24 patients, 24 slides, 1 of them failed" in by_number["12"].told
    assert "Beside ecog" in by_number["16"].told


def test_checklists_of_an_empty_study_claim_nothing():
    remark, _mif = checklists(Numbers({}), drawn_study(), {})
    assert {item.told for item in remark.items if item.number == "10"} == {"Nothing was tested. See Methods."}


def test_a_value_without_an_interval_is_not_a_missing_value(tables):
    patients = tables["patients"].copy()
    for end in ("low", "high"):  # nobody's interval is known, and one patient of 24 lacks values
        patients[f"CD20|tumour|density_per_mm2_{end}"] = float("nan")
    lacking = int(patients[[name for name in patients if name.endswith(("_mm2", "_percent"))]].isna().any(axis=1).sum())
    remark, _mif = checklists(Numbers(tables | {"patients": patients}), drawn_study(), drawn_run())
    (told,) = [item.told for item in remark.items if item.number == "13"]
    assert lacking == 2 and "2 patients lack a value" in told
