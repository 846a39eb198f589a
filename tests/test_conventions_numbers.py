"""Sentences of docs/conventions.md on counts, areas, groups and models; see test_conventions.py."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import shapely

import mihc
from mihc.associate import associate
from mihc.regions import Region, area_ledger, partition
from mihc.statistics import cox, cut_split, given_split, median_split, slope_change_split, tertile_split
from mihc.studies.settings import Outcome, Settings, Splits, StudyInfo
from mihc.study import study_notes, study_table

CLASSES = ("tumour", "stroma", "other", "excluded", "outside")
CD20 = "CD20|tumour|density_per_mm2"
box = shapely.box
count_populations = mihc.count_populations


# ---- definitions


def cells_of(*rows: tuple[str, str, bool]) -> pd.DataFrame:
    cells = pd.DataFrame(rows, columns=["region", "tissue_class", "CD20_positive"])
    return cells.astype({"CD20_positive": "boolean"})


def test_C01_positivity():
    """Positivity (%) = cells positive for a marker or phenotype in a region / all cells in that region x 100."""
    cells = cells_of(*[("nest", "tumour", True)] * 3, *[("nest", "tumour", False)] * 5, ("rest", "stroma", True))
    counts = count_populations(cells, populations={"CD20": "CD20_positive"}, area_mm2={("nest", "tumour"): 1.0})
    assert counts.set_index("region")["positivity_percent"].to_dict() == {"nest": 37.5, "rest": 100.0}


def test_C02_density():
    """Density (cells/mm²) = those positive cells / analysed area of that region in mm²."""
    cells = cells_of(*[("nest", "tumour", True)] * 3, *[("nest", "tumour", False)] * 5)
    counts = count_populations(cells, populations={"CD20": "CD20_positive"}, area_mm2={("nest", "tumour"): 0.25})
    assert counts["density_per_mm2"].tolist() == [12.0]


# ---- cells


def test_C23_percentiles_and_deviations():
    """A percentile is R's type 7 and a standard deviation divides by n; of no pixels both are NaN."""
    labels = np.array([[1, 1, 1, 1, 0]])
    cells = mihc.measure_cells(
        np.array([[[1, 2, 4, 8, 99]]]), labels, labels, markers=["a"], pixel_size_um=1.0,
        features=["percentile:40", "sd"],
    )  # fmt: skip
    assert cells["a_cell_p40"][0] == pytest.approx(2.4, rel=1e-15)  # R 4.2: quantile(c(1, 2, 4, 8), 0.4, type = 7)
    assert cells["a_cell_sd"][0] == math.sqrt(85 / 4 - (15 / 4) ** 2)
    assert cells[["a_cytoplasm_p40", "a_cytoplasm_sd"]].isna().all(axis=None)


def test_C24_axes():
    """Axes are those of the ellipse with the same second moments, a pixel being a filled square."""
    labels = np.array([[1, 1, 1]])
    cells = mihc.measure_cells(np.ones((1, 1, 3)), labels, labels, markers=["a"], pixel_size_um=1.0, features=["shape"])
    # a rectangle of 3 x 1 has the moments 9/12 and 1/12, an ellipse of full axes a and b has a^2/16 and b^2/16
    assert cells["cell_major_axis_um"][0] == pytest.approx(math.sqrt(16 * 9 / 12), rel=1e-15)
    assert cells["cell_minor_axis_um"][0] == pytest.approx(math.sqrt(16 / 12), rel=1e-15)


# ---- areas


def account() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A slide of 1 mm², 0.6 mm² of it tissue, with regions of 0.1 mm² steps; and a cell in each tenth, left to right.

    x in mm: tumour 0 to 0.2, stroma 0.2 to 0.5 with a fold from 0.4, tissue without annotation to 0.6, other (drawn on
    glass) to 0.7, glass.
    """
    regions = [
        Region("nest", "tumour", box(0, 0, 200, 1000)),
        Region("rest", "stroma", box(200, 0, 500, 1000)),
        Region("fold", "excluded", box(400, 0, 500, 1000)),
        Region("gland", "other", box(600, 0, 700, 1000)),
    ]
    scanned, tissue = box(0, 0, 1000, 1000), box(0, 0, 600, 1000)
    cells = pd.DataFrame({"x_um": np.arange(50.0, 1000, 100), "y_um": 500.0})
    cells = cells.join(
        mihc.assign_regions(cells["x_um"], cells["y_um"], regions, precedence=("excluded", *CLASSES[:3]))
    )
    parts = partition(regions, scanned=scanned)
    return area_ledger("S1", parts, scanned=scanned, tissue=tissue, cells=cells), cells


def test_C12_outside_and_excluded_cells():
    """outside = glass, or tissue that no annotation covers; excluded and outside cells are in no denominator."""
    ledger, cells = account()
    outside = cells[cells["tissue_class"] == "outside"]
    assert outside["x_um"].tolist() == [550.0, 750.0, 850.0, 950.0]
    counted = ledger.set_index("category")["cells"]
    assert (counted["unannotated"], counted["glass"], counted["excluded"]) == (1, 3, 1)
    cells["CD20_positive"] = pd.array([True] * 10, dtype="boolean")
    counts = count_populations(cells, populations={"CD20": "CD20_positive"}, area_mm2={("nest", "tumour"): 0.2})
    assert counts[["tissue_class", "cells"]].to_numpy().tolist() == [["tumour", 2], ["other", 1], ["stroma", 2]]


def test_C13_the_ledger():
    """Area ledger, per slide, in mm² from polygons: scanned = glass + tissue; tissue = tumour + stroma + other +
    excluded (by reason) + unannotated (what an annotation covers counts as tissue); analysed = tumour + stroma + other.
    """
    ledger, _ = account()
    area = ledger.set_index("category")["area_mm2"].round(12).to_dict()
    assert area == {
        "scanned": 1.0, "glass": 0.3, "tissue": 0.7, "tumour": 0.2, "stroma": 0.2, "other": 0.1, "excluded": 0.1,
        "unannotated": 0.1, "analysed": 0.5, "holes": 0.0,
    }  # fmt: skip
    assert ledger.set_index("category").loc["excluded", "region"] == "fold"


# ---- groups and models


def test_C17_positive():
    """Positive means value >= threshold."""
    below = np.nextafter(150.0, 0)
    cells = pd.DataFrame({"CD3_cell_mean": [below, 150.0, 151.0]})
    called = mihc.call_positives(cells, {"CD3": 150.0}, compartments={"CD3": "cell"})
    assert called["CD3_positive"].tolist() == [False, True, True]


def test_C18_groups():
    """Groups: low = value <= cut, high = value > cut (median, tertiles by R's type 7, slope, maxstat); a given number
    is a clinical cut-off: high = value >= number.
    """
    assert median_split([1, 2, 3]).labels.tolist() == ["low", "low", "high"]
    # R: quantile(c(1, 2, 4, 8), c(1/3, 2/3), type = 7) is 2 and 4
    tertiles = tertile_split([1, 2, 4, 8])
    assert tertiles.cuts == pytest.approx((2, 4))
    assert tertile_split([0, 3, 6, 9]).labels.tolist() == ["low", "low", "middle", "high"]
    # two straight lines, of slopes 1 and 10, that part between 5 and 15: the cut is 10
    times = [1, 2, 3, 4, 5, 15, 25, 35, 45]
    slope = slope_change_split([*times, 10.0], [1] * 10)
    assert [label for time, label in zip([*times, 10.0], slope.labels) if time <= slope.cut] == ["low"] * slope.n_low
    assert set(np.array([*times, 10.0])[slope.labels == "high"] > slope.cut) == {True}
    assert cut_split([1, 2, 3], 2).labels.tolist() == ["low", "low", "high"]  # maxstat's cut
    assert given_split([1, 2, 3], 2).labels.tolist() == ["low", "high", "high"]


def patients_of(values: list[float]) -> pd.DataFrame:
    n = len(values)
    time = np.array([2.0 + (7 * place) % 11 for place in range(n)])
    event = np.array([float(place % 3 > 0) for place in range(n)])
    return pd.DataFrame({"patient": [f"P{place}" for place in range(n)], CD20: values, "os": time, "dead": event})


def associations(patients: pd.DataFrame) -> pd.DataFrame:
    settings = Settings(
        StudyInfo("test"),
        outcomes={"OS": Outcome("os", "dead")},
        splits=Splits(outcome=("median",), marker=("median",)),
    )
    return associate(patients, settings)


def test_C19_cox():
    """In Cox a marker enters as log1p(value) / its SD over the patients analysed."""
    values = [0, 3, 12, 5, 40, 7, 90, 1, 22, 15, 300, 2, math.nan, 9]
    patients = patients_of(values)
    patients.loc[1, "os"] = math.nan  # not analysed, so not in the SD either
    found = associations(patients).query("analysis == 'cox' and split == 'continuous'").iloc[0]
    analysed = patients.dropna()
    logs = np.log1p(analysed[CD20].to_numpy())
    (expected,) = cox(analysed["os"], analysed["dead"], logs / logs.std(ddof=1))
    assert found["n"] == len(analysed) == 12
    assert found["estimate"] == pytest.approx(expected.estimate, rel=1e-9)


# ---- what is missing is said


def test_C20_a_value_is_withheld():
    """A patient's value is NaN if a slide that should show the population has none (`unclear = "withhold"`), and the
    slide is named.
    """
    rows = [("S1", "nest", "tumour", "CD20", 100, 10.0, 1.0), ("S2", "nest", "tumour", "CD20", 100, math.nan, 1.0)]
    names = ["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
    regions = pd.DataFrame(rows, columns=names)
    slides = pd.DataFrame({"slide": ["S1", "S2"], "patient": "P1"})
    assert study_table(regions, slides, None)[CD20].isna().tolist() == [True]
    assert study_table(regions, slides, None, unclear="leave_out")[CD20].tolist() == [10.0]
    notes = study_notes(regions, slides)
    withheld = notes[notes["note"].str.startswith("withheld")]
    assert set(withheld["slide"]) == {"S2"} and {"tumour", "all"} == set(withheld["tissue_class"])
    other_panel = slides.assign(panel=["one", "two"])  # S2 is not stained for it, so nothing is missing
    shown = study_table(regions[:1], other_panel, None, populations={"CD20": {"one"}})
    assert shown[CD20].tolist() == [10.0]


def test_C22_the_patient_is_the_unit():
    """The patient is the unit of every test, never the cell."""
    rng = np.random.default_rng(8)
    names = ["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
    rows = [  # two slides of each of twelve patients, a thousand cells on each
        (f"P{place}_{half}", "nest", "tumour", "CD20", 1000, float(rng.integers(10, 400)), 1.0)
        for place in range(12)
        for half in range(2)
    ]
    regions = pd.DataFrame(rows, columns=names)
    slides = pd.DataFrame({"slide": regions["slide"], "patient": regions["slide"].str[:-2]})
    clinical = patients_of([0.0] * 12)[["patient", "os", "dead"]]
    found = associations(study_table(regions, slides, clinical))
    assert found["n"].max() == 12
    more = regions.assign(cells=10 * regions["cells"], positive_cells=10 * regions["positive_cells"], area_mm2=10.0)
    again = associations(study_table(more, slides, clinical))
    same = found["measure"] == "density_per_mm2"
    assert found.loc[same, "p"].notna().any()
    pd.testing.assert_frame_equal(found[same], again[same])
