"""Background and autofluorescence taken from the means: no window and no number of workers changes a byte of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

import mihc
from mihc.drawing.files import write_ome_tiff
from mihc.export import export_study
from mihc.store import LABEL_CHUNK, read_cells, read_csv
from mihc.synthetic import draw_slide

SETTINGS = """[study]
name = "corrected"
[measure]
features = ["background"]
background_correction = "on"
autofluorescence_correction = "on"
[pairs]
impossible = ["CD3+ CD20+"]
[phenotypes]
"T cell" = "CD3+ CD20-"
"""
TABLES = ("corrections", "thresholds", "regions", "bands", "patients", "pairs", "intensities", "qc", "area_ledger")
SPILLOVER = ('features = ["background"]', 'features = ["background", "spillover"]\nspillover_correction = "on"')
CHANNELS = ("DAPI", "PanCK", "CD3", "CD20", "AF")
GLOW = 0.4  # counts of every marker for each of autofluorescence, planted


@pytest.fixture(scope="module", params=["without spillover", "with spillover"])
def folder(request, tmp_path_factory) -> Path:
    """One slide, no outline, every threshold automatic: each fifth cell glows, and more light lies on its right."""
    folder = tmp_path_factory.mktemp("corrected")
    drawn = draw_slide(size_px=(1090, 1300), seed=3)
    amount = np.random.default_rng(1).gamma(4.0, 250.0, drawn.cells.max() + 1)
    amount[np.arange(len(amount)) % 5 > 0] = 0.0
    light = amount[drawn.cells]
    image = drawn.image[[drawn.channels.index(name) for name in CHANNELS]].astype(float)
    for channel, name in enumerate(CHANNELS):
        image[channel] += (0.0 if name == "DAPI" else 1.0 if name == "AF" else GLOW) * light
        image[channel] += np.linspace(0, 60, image.shape[2]) * (name != "DAPI")
    write_ome_tiff(
        folder / "S1.ome.tif",
        np.round(image).astype(np.uint16),
        channels=CHANNELS,
        pixel_size_um=drawn.pixel_size_um,
    )
    roles = {"DAPI": "nuclei", "PanCK": "tumour", "AF": "autofluorescence"}
    lines = "".join(f"{name},{name},{roles.get(name, 'marker')}\n" for name in CHANNELS)
    (folder / "panel.csv").write_text("channel,marker,role\n" + lines)
    (folder / "slides.csv").write_text("slide,file,patient\nS1,S1.ome.tif,P1\n")
    settings = SETTINGS.replace(*SPILLOVER) if request.param == "with spillover" else SETTINGS
    (folder / "study.toml").write_text(settings)
    return folder


def run_with(folder: Path, copy: Path, window: int, workers: int) -> Path:
    shutil.copytree(folder, copy)
    with (copy / "study.toml").open("a") as settings:
        settings.write(f"[compute]\nwindow = {window}\nworkers = {workers}\n")
    assert mihc.run(mihc.read_study(copy), until="study").failed == {}
    return copy / "results"


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    """Its results of one window and one worker."""
    return run_with(folder, tmp_path_factory.mktemp("whole") / "study", 65536, 1)


def test_both_corrections_move_values_and_calls_and_the_slope_is_the_planted_one(whole):
    cells = read_cells(whole / "cells" / "S1.parquet")
    assert np.abs(cells["CD20_corrected"] - cells["CD20_cell_mean"]).median() > 1
    effect = read_csv(whole / "corrections.csv").set_index(["correction", "marker"])
    assert set(effect.index.get_level_values(0)) >= {"background", "autofluorescence"}
    assert (effect["positive_cells_uncorrected"] != effect["positive_cells_corrected"]).any()
    assert effect.loc[("autofluorescence", "CD20"), "slope"] == pytest.approx(GLOW, rel=0.1)


@pytest.mark.parametrize(("window", "workers"), [(LABEL_CHUNK, 1), (64, 3)])
def test_no_window_and_no_number_of_workers_changes_a_byte_of_corrected_results(
    folder, whole, tmp_path, window, workers
):
    """A window is at least a chunk of labels, and of those the slide has two by two."""
    results = run_with(folder, tmp_path / "study", window, workers)
    for name in ("cells/S1.parquet", *(f"{one}.csv" for one in TABLES)):
        assert (results / name).read_bytes() == (whole / name).read_bytes(), name


def test_exports_hold_what_the_calls_were_made_by_beside_the_threshold(whole, tmp_path):
    study, cells = mihc.read_study(whole.parent), read_cells(whole / "cells" / "S1.parquet")
    called = read_csv(whole / "thresholds.csv").set_index("marker")
    table = anndata.read_h5ad(export_study(study, to="anndata", out=tmp_path / "a").folder / "S1.h5ad")
    assert table.var.index[table.var["corrected"]].tolist() == ["PanCK", "CD3", "CD20"]
    assert not any("corrected" in name for name in table.obs)
    for marker, verdict in called["verdict"].items():
        values = table[:, marker].layers["called_by"].ravel()
        np.testing.assert_array_equal(values, cells[f"{marker}_corrected"])
        if verdict == "separable":
            assert (values >= table.var.loc[marker, "threshold"]).tolist() == cells[f"{marker}_positive"].tolist()
    np.testing.assert_array_equal(table[:, "AF"].layers["called_by"].ravel(), cells["AF_cell_mean"])
    drawn = json.loads((export_study(study, to="geojson", out=tmp_path / "g").folder / "S1_cells.geojson").read_text())
    values = {one["properties"]["name"]: one["properties"]["measurements"] for one in drawn["features"]}
    for row in cells.itertuples():
        assert values[str(row.cell)]["Cell: CD20 mean, corrected"] == row.CD20_corrected
        assert values[str(row.cell)]["Cell: CD20 mean"] == row.CD20_cell_mean


def test_an_export_for_qupath_says_which_calls_are_not_known(folder, tmp_path):
    """There a cell has a class or none: one that cannot be told must not pass for a negative one."""
    shutil.copytree(folder, tmp_path / "s")
    (tmp_path / "s" / "thresholds.csv").write_text("slide,marker,value\n*,CD3,600\n*,CD20,600\n")
    (tmp_path / "s" / "study.toml").write_text(SETTINGS + '[thresholds]\nmethod = "manual"\n')
    assert mihc.run(mihc.read_study(tmp_path / "s"), until="positives").failed == {}
    study = mihc.read_study(tmp_path / "s")
    notes = export_study(study, to="geojson", out=tmp_path / "g").notes
    assert notes == ("S1: calls of PanCK are not known; cells without the class may be of them",)
    assert export_study(study, to="mcquant", out=tmp_path / "m").notes == ()
