"""A small drawn study that uses levels, phenotypes of phenotypes, impossible pairs, corrections and PD-L1 scores."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mihc
from mihc.corrections import Surroundings, fit_corrections
from mihc.store import digest_results, read_cells, read_csv
from mihc.synthetic import draw_study

CALLS = """
[measure]
features = ["background", "spillover"]
spillover_correction = "off"
[phenotypes]
"cytotoxic T cell" = "T cell & CD8+"
"T cell" = "CD3+"
"bright B cell" = "CD20+++"
[pairs]
impossible = ["CD3+ CD20+", "T cell & CD21+"]
[pdl1]
marker = "Ki67"
tumour = "PanCK+"
immune = "T cell | CD20+"
immune_within_um = 30.0
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A study of two patients with its results, not to be written to; Ki67 stands for PD-L1."""
    folder = draw_study(tmp_path_factory.mktemp("calls") / "study", patients=2, size_px=(448, 448))
    toml = (folder / "study.toml").read_text()
    toml = re.sub(r"\[phenotypes\][^\[]*", "", toml)
    (folder / "study.toml").write_text(toml + CALLS)
    (folder / "thresholds.csv").write_text(
        "slide,marker,value,moderate,strong\n*,CD20,700,1100,1500\n*,CD3,600,,\n*,CD8,600,,\n*,Ki67,750,,\n"
    )
    assert mihc.run(mihc.read_study(folder)).failed == {}
    return folder


def results(folder: Path, name: str) -> pd.DataFrame:
    return read_csv(folder / "results" / f"{name}.csv")


def cells_of(folder: Path, slide: str) -> pd.DataFrame:
    cells = read_cells(folder / "results" / "cells" / f"{slide}.parquet")
    return cells[cells["tissue_class"].isin(["tumour", "stroma", "other"])]


def test_levels_stand_in_the_cells_and_the_thresholds(drawn):
    cells = cells_of(drawn, "S01")
    value = cells["CD20_cell_mean"]
    expected = sum((value >= cut).astype(int) for cut in (700, 1100, 1500))
    assert str(cells["CD20_level"].dtype) == "UInt8"
    assert (cells["CD20_level"] == expected).all() and cells["CD20_level"].max() == 3
    assert "CD3_level" not in cells
    assert (cells["phenotype_bright B cell"] == (cells["CD20_level"] == 3)).all()
    rows = results(drawn, "thresholds").set_index(["slide", "marker"])
    assert rows.loc[("S01", "CD20"), ["value", "moderate", "strong"]].tolist() == [700, 1100, 1500]
    assert rows.loc[("S01", "CD3"), ["moderate", "strong"]].isna().all()


def test_h_scores_of_regions_and_patients_are_those_of_the_cells(drawn):
    regions = results(drawn, "regions")
    assert (regions["h_score"].notna() == (regions["population"] == "CD20")).all()
    cells = pd.concat([cells_of(drawn, "S01"), cells_of(drawn, "S02")])
    patients = read_csv(drawn / "results" / "patients.csv", text=["patient"], only=True).set_index("patient")
    for slide, patient in (("S01", "001"), ("S02", "002")):
        mine = cells[cells["slide"] == slide]
        for tissue_class in ("tumour", "stroma"):
            here = mine[mine["tissue_class"] == tissue_class]
            expected = 100 * int(here["CD20_level"].sum()) / len(here)
            assert patients.loc[patient, f"CD20|{tissue_class}|h_score"] == expected
        assert patients.loc[patient, "CD20|all|h_score"] == 100 * int(mine["CD20_level"].sum()) / len(mine)
    assert "CD3|tumour|h_score" not in patients


def test_a_child_is_a_part_of_its_parent(drawn):
    for slide in ("S01", "S02", "CONTROL"):
        cells = read_cells(drawn / "results" / "cells" / f"{slide}.parquet")
        assert not (cells["phenotype_cytotoxic T cell"] & ~cells["phenotype_T cell"]).any()


def test_pairs_and_coexpression_are_counted_from_the_cells(drawn):
    pairs = results(drawn, "pairs").set_index(["slide", "pair"])
    together = results(drawn, "coexpression").set_index(["slide", "tissue_class", "marker", "other"])
    for slide in ("S01", "S02"):
        cells = cells_of(drawn, slide)
        t, b = (cells[f"{marker}_positive"].to_numpy(bool) for marker in ("CD3", "CD20"))  # typed, so known
        row = pairs.loc[(slide, "CD3+ CD20+")]
        assert (row.cells, row.first_cells, row.second_cells, row.both_cells) == (
            len(t),
            t.sum(),
            b.sum(),
            (t & b).sum(),
        )
        stroma = (cells["tissue_class"] == "stroma").to_numpy()
        found = together.loc[(slide, "stroma", "CD3", "CD20")]
        assert found.positive_cells == (t & stroma).sum()
        assert found.both_cells == (t & stroma & b).sum()
    checks = results(drawn, "qc")
    named = checks[checks["check"].str.startswith("impossible pair")]
    assert set(named["check"]) == {"impossible pair: CD3+ CD20+", "impossible pair: T cell & CD21+"}
    assert {"S01", "S02"} <= set(named["slide"])


def test_intensities_are_those_of_the_positive_cells(drawn):
    rows = results(drawn, "intensities").set_index(["slide", "tissue_class", "population", "marker"])
    cells = cells_of(drawn, "S02")
    mine = cells[(cells["tissue_class"] == "stroma") & cells["phenotype_cytotoxic T cell"]]["CD8_cell_mean"]
    row = rows.loc[("S02", "stroma", "cytotoxic T cell", "CD8")]
    assert row["positive_cells"] == len(mine)
    assert row["mean"] == pytest.approx(mine.mean(), rel=1e-12) and row["median"] == mine.median()


def test_the_scores_count_viable_tumour_cells_and_immune_cells_near_them(drawn):
    table = results(drawn, "pdl1").set_index(["patient", "slide"])
    cells = cells_of(drawn, "S01")
    inside, positive = (cells["tissue_class"] == "tumour"), cells["Ki67_positive"]
    near = inside | (cells["distance_to_margin_um"] <= 30)
    immune = (cells["phenotype_T cell"] | cells["CD20_positive"]) & ~cells["PanCK_positive"]
    row = table.loc[("001", "S01")]
    assert row["viable_tumour_cells"] == (inside & cells["PanCK_positive"]).sum()
    assert row["positive_tumour_cells"] == (inside & cells["PanCK_positive"] & positive).sum()
    assert row["positive_immune_cells"] == (near & immune & positive).sum()
    assert row["positive_immune_cells"] < (immune & positive).sum()  # the far ones are not counted
    if row["evaluable"]:
        assert row["TPS_percent_low"] <= row["TPS_percent"] <= row["TPS_percent_high"]
    assert not any("PD-L1 scores" in name for name in cells)


def test_the_report_shows_all_of_it(drawn):
    report = (drawn / "results" / "report.html").read_text()
    said = [
        "Pairs that cannot exist",
        "Light that is not the marker's",
        "Co-expression",
        "H-scores",
        "research use only",
    ]
    assert [line for line in said if line not in report] == []
    assert "of stroma within 30 µm of the tumour" in report
    sources = re.findall(r'data-value="([^"]+)" data-source="pairs.csv:(\d+)/(\w+)"', report)
    assert len(sources) > 10
    pairs = results(drawn, "pairs")
    assert all(float(value) == pairs.at[int(line) - 2, column] for value, line, column in sources)  # NP46


def test_the_correction_is_used_only_where_it_is_asked_for_and_the_mean_stays(drawn, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    toml = (folder / "study.toml").read_text().replace('spillover_correction = "off"', 'spillover_correction = "on"')
    (folder / "study.toml").write_text(toml)
    done = mihc.run(mihc.read_study(folder), until="study")
    assert {step.stage for step in done.steps if step.why != "reused"} == {"values", "positives", "study"}
    before, after = (read_cells(one / "results" / "cells" / "S01.parquet") for one in (drawn, folder))
    assert "CD20_corrected" not in before
    assert after["CD20_cell_mean"].equals(before["CD20_cell_mean"])
    expected = np.maximum(after["CD20_cell_mean"] - after["CD20_spillover"], 0)
    assert np.array_equal(after["CD20_corrected"], expected)
    assert (after["CD20_positive"] == (after["CD20_corrected"] >= 700)).all()
    off, on = (effects(one, "spillover") for one in (drawn, folder))
    assert set(off["used"]) == {"uncorrected"} and set(on["used"]) == {"corrected"}
    counted = after[after["tissue_class"].isin(["tumour", "stroma", "other"])]["CD20_positive"].sum()
    assert on.loc[("S01", "CD20"), "positive_cells_corrected"] == counted
    same = ["cells", "positive_cells_uncorrected", "positive_cells_corrected"]
    assert off.loc[("S01", "CD20"), same].tolist() == on.loc[("S01", "CD20"), same].tolist()  # a typed threshold


def effects(folder: Path, correction: str) -> pd.DataFrame:
    """The rows of corrections.csv of one correction."""
    table = results(folder, "corrections")
    return table[table["correction"] == correction].set_index(["slide", "marker"])


def test_background_and_autofluorescence_are_taken_where_asked_and_it_is_said(drawn, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    switched = 'background_correction = "on"\nautofluorescence_correction = "on"'
    toml = (folder / "study.toml").read_text().replace('spillover_correction = "off"', switched)
    (folder / "study.toml").write_text(toml)
    done = mihc.run(mihc.read_study(folder))
    remade = {step.stage for step in done.steps if step.why != "reused"}
    assert done.failed == {} and not {"slide", "cells", "regions"} & remade
    cells, off = cells_of(folder, "S01"), cells_of(drawn, "S01")
    rows = results(folder, "thresholds").set_index(["slide", "marker"])
    background, glow = (effects(folder, name) for name in ("background", "autofluorescence"))
    slope = glow.loc[("S01", "CD20"), "slope"]
    whole = read_cells(folder / "results" / "cells" / "S01.parquet")
    near = Surroundings(whole).near(cells)
    (one,) = fit_corrections(
        cells, {"CD20": "cell"}, glow="AF", asked=["background", "autofluorescence"], near=near
    ).values()
    assert one.slope == slope
    np.testing.assert_array_equal(cells["CD20_corrected"], one.values(cells, near))
    assert np.abs(cells["CD20_corrected"] - cells["CD20_cell_mean"]).median() > 1
    assert (cells["CD20_positive"] == (cells["CD20_corrected"] >= 700)).all()
    assert rows.loc[("S01", "CD20"), "correction"] == f"background, autofluorescence x {slope:.3g}"
    assert set(results(drawn, "thresholds")["correction"].fillna("")) == {""}
    assert background.loc[("S01", "CD20"), "positive_cells_corrected"] == cells["CD20_positive"].sum()
    assert glow.loc[("S01", "CD20"), "positive_cells_corrected"] == cells["CD20_positive"].sum()
    assert set(glow["used"]) == set(background["used"]) == {"corrected"}
    shown = effects(drawn, "background").loc[("S01", "CD20")]  # without being asked for
    assert (shown["used"], shown["positive_cells_uncorrected"]) == ("uncorrected", off["CD20_positive"].sum())
    checks = results(folder, "qc").set_index(["slide", "check"])
    assert checks.loc[("S01", "autofluorescence correction"), "value"] == glow.loc["S01", "slope"].max()
    assert f"CD20 {slope:.3g}" in checks.loc[("S01", "autofluorescence correction"), "explanation"]
    report = (folder / "results" / "report.html").read_text()
    assert "by means corrected for background, then for autofluorescence, and thresholds are counts of these" in report
    assert "Thresholds are counts of these corrected means." in report


def test_the_settings_are_in_run_json(drawn):
    settings = json.loads((drawn / "results" / "run.json").read_text())["settings"]
    assert settings["pairs"]["impossible"] == ["CD3+ CD20+", "T cell & CD21+"]
    assert settings["measure"]["spillover_correction"] == "off"


def test_a_table_of_cells_may_bring_levels(tmp_path):
    (tmp_path / "study.toml").write_text('[study]\nname = "levels"\n[phenotypes]\n"bright" = "CD3++"\n')
    (tmp_path / "panel.csv").write_text("channel,marker,role\nDAPI,DAPI,nuclei\nCD3,CD3,marker\n")
    (tmp_path / "slides.csv").write_text("slide,patient,cells\nS1,P1,S1.csv\nS2,P2,S2.csv\n")
    (tmp_path / "S1.csv").write_text("x_um,y_um,CD3_level\n1,1,0\n2,1,1\n3,1,2\n4,1,3\n")
    (tmp_path / "S2.csv").write_text("x_um,y_um,CD3_level\n1,1,0\n2,1,\n")
    assert mihc.run(mihc.read_study(tmp_path)).failed == {}
    cells = read_cells(tmp_path / "results" / "cells" / "S1.parquet")
    assert cells["CD3_positive"].tolist() == [False, True, True, True]
    assert cells["phenotype_bright"].tolist() == [False, False, True, True]
    regions = results(tmp_path, "regions").set_index(["slide", "population"])
    assert regions.loc[("S1", "CD3"), "h_score"] == 150.0
    assert np.isnan(regions.loc[("S2", "CD3"), "h_score"])  # a cell's level is not known
    empty = read_cells(tmp_path / "results" / "cells" / "S2.parquet")["CD3_level"]
    assert empty.isna().tolist() == [False, True]
    assert len(digest_results(tmp_path / "results")) == 64


def test_a_table_of_cells_cannot_be_corrected_for_what_it_lacks_and_says_so(tmp_path):
    asked = 'spillover_correction = "on"\nbackground_correction = "on"\n'
    settings = f'[study]\nname = "x"\n[measure]\nfeatures = ["spillover", "background"]\n{asked}'
    (tmp_path / "study.toml").write_text(settings)
    (tmp_path / "panel.csv").write_text(
        "channel,marker,role,compartment,threshold\nD,D,nuclei,,\nCD3,CD3,marker,cell,5\n"
    )
    (tmp_path / "slides.csv").write_text("slide,patient,cells\nS1,P1,S1.csv\n")
    (tmp_path / "S1.csv").write_text("x_um,y_um,CD3_cell_mean\n1,1,4\n2,1,6\n")
    assert mihc.run(mihc.read_study(tmp_path)).failed == {}
    checks = results(tmp_path, "qc")
    assert checks["check"].tolist() == ["spillover correction", "background correction"]
    assert set(checks["verdict"]) == {"warn"}
    assert checks["explanation"].str.contains("by the means as they are").all()


def test_a_table_of_cells_with_an_autofluorescence_channel_can_be_corrected_for_it(tmp_path):
    (tmp_path / "study.toml").write_text('[study]\nname = "x"\n[measure]\nautofluorescence_correction = "on"\n')
    (tmp_path / "panel.csv").write_text("channel,marker,role\nD,D,nuclei\nCD3,CD3,marker\nAF,Glow,autofluorescence\n")
    (tmp_path / "slides.csv").write_text("slide,patient,cells\nS1,P1,S1.parquet\n")
    generator = np.random.default_rng(1)
    glow = 100 + generator.normal(0, 10, 4000) + (generator.random(4000) < 0.1) * generator.exponential(120, 4000)
    positive = np.arange(4000) < 80
    light = 300 + generator.normal(0, 25, 4000) + 0.8 * glow + positive * generator.gamma(8, 30, 4000)
    cells = pd.DataFrame({"x_um": np.arange(4000.0), "y_um": 1.0, "CD3_cell_mean": light, "Glow_cell_mean": glow})
    cells.to_parquet(tmp_path / "S1.parquet")
    assert mihc.run(mihc.read_study(tmp_path)).failed == {}
    (row,) = results(tmp_path, "thresholds").to_dict("records")
    assert row["verdict"] == "separable" and row["correction"].startswith("autofluorescence x 0.8")
    assert abs(row["positive_cells"] - 80) <= 20
    found = read_cells(tmp_path / "results" / "cells" / "S1.parquet")
    assert (found["CD3_positive"] == (found["CD3_corrected"] >= row["value"])).all()
    (effect,) = results(tmp_path, "corrections").to_dict("records")
    assert effect["positive_cells_corrected"] == row["positive_cells"] and effect["note"] == ""
