"""An export of a study that people corrected holds what they left, labels and outlines too, and says whose it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import shapely
import zarr

import mihc
from mihc import review, synthetic
from mihc.errors import OutputConflict
from mihc.export import FORMATS, export_study
from mihc.reviewing.session import open_review

SLIDE, OTHER = "S01", "S02"
SAID = {
    "reviewer": "anna",
    "cells_removed_or_changed": 4,
    "cells_made_or_changed": 3,
    "region_edits": 1,
    "thresholds": ["CD20"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A study whose first slide was corrected and saved; not to be written to."""
    folder = synthetic.draw_study(tmp_path_factory.mktemp("corrected") / "study", patients=2, size_px=(512, 512))
    (folder / "thresholds.csv").write_text("slide,marker,value\n*,CD20,700\n")
    assert mihc.run(mihc.read_study(folder), until="statistics").failed == {}
    edit(folder)
    assert review.save(folder, reviewer="anna", slides=[SLIDE], report=False).failed == {}
    return folder


def edit(folder: Path) -> None:
    """Merge two cells, delete one, split one, draw a region, set a threshold."""
    study = mihc.read_study(folder)
    cells = mihc.slide_cells(study, SLIDE)
    away = (cells["x_um"] - cells["x_um"].median()) ** 2 + (cells["y_um"] - cells["y_um"].median()) ** 2
    cells = cells.loc[away.sort_values(kind="stable").index]
    with open_review(study, SLIDE, "anna") as session:
        session.merge(cells["cell"].iloc[:2].tolist())
        session.delete([int(cells["cell"].iloc[12])])
        middle = cells[["y_um", "x_um"]].iloc[25].to_numpy() / session.pixel_size_um
        session.split(int(cells["cell"].iloc[25]), middle + np.array([[-40, 0], [40, 0]]))
        session.draw_region("Necrosis 2", "excluded", shapely.box(20, 20, 40, 40))
        session.set_threshold("CD20", 900.0)


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    out, study = tmp_path_factory.mktemp("exports"), mihc.read_study(folder)
    notes = {to: export_study(study, to=to, out=out / to, images=False).notes for to in FORMATS}
    return out, notes


@pytest.fixture(scope="module")
def cells(folder) -> pd.DataFrame:
    return mihc.slide_cells(mihc.read_study(folder), SLIDE)


@pytest.fixture(scope="module")
def labels(folder) -> dict[str, list[np.ndarray]]:
    """What the reviewer sees, level by level."""
    with open_review(mihc.read_study(folder), SLIDE, "ben") as mine:
        machine = mine.labels("cells")[0][:, :]
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        seen = {name: [level[:, :] for level in session.labels(name)] for name in ("cells", "nuclei")}
    assert not np.array_equal(seen["cells"][0], machine)
    return seen


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_says_whose_review_it_holds(exported, to):
    out, notes = exported
    assert json.loads((out / to / "mihc-export.json").read_text())["reviews"] == {SLIDE: SAID}
    assert tuple(note for note in notes[to] if "are not known" not in note) == (
        f"{SLIDE}: as anna left it in a review (4 cells removed or changed, 3 cells made or changed, 1 edit of regions,"
        " thresholds of CD20)",
    )


@pytest.mark.parametrize("name", ["cells", "nuclei"])
def test_the_labels_of_spatialdata_are_the_corrected_ones_on_every_level(exported, labels, cells, name):
    root = exported[0] / "spatialdata" / f"{SLIDE}.zarr" / "labels" / name
    found = [zarr.open_array(root / str(k), mode="r")[:, :] for k in range(len(labels[name]))]
    for level, expected in zip(found, labels[name]):
        np.testing.assert_array_equal(level, expected)
    assert np.array_equal(np.unique(found[0])[1:], cells["cell"])


def test_the_labels_of_a_slide_without_edits_are_the_machines_bytes(folder, exported):
    root = exported[0] / "spatialdata" / f"{OTHER}.zarr" / "labels" / "cells"
    machine = folder / "results" / "slides" / f"{OTHER}.ome.zarr" / "labels" / "cells"
    chunks = sorted(path.relative_to(machine) for path in machine.glob("*/c/**/*") if path.is_file())
    assert chunks and all((root / one).read_bytes() == (machine / one).read_bytes() for one in chunks)


def test_tables_hold_the_corrected_cells_and_thresholds(exported, cells):
    out, _ = exported
    table = anndata.read_h5ad(out / "anndata" / f"{SLIDE}.h5ad")
    in_zarr = anndata.io.read_elem(zarr.open_group(out / "spatialdata" / f"{SLIDE}.zarr" / "tables" / "table"))
    for one in (table, in_zarr):
        assert one.obs["cell"].tolist() == cells["cell"].tolist()
        np.testing.assert_array_equal(one[:, "CD20"].X.ravel(), cells["CD20_cell_mean"])
        assert one.var.loc["CD20", "threshold"] == 900.0
        told = one.uns["mihc"]["review"]
        assert (told["reviewer"], told["cells_made_or_changed"], told["thresholds"]) == ("anna", 3, "CD20")
    assert "review" not in anndata.read_h5ad(out / "anndata" / f"{OTHER}.h5ad").uns["mihc"]
    csv = pd.read_csv(out / "csv" / "cells" / f"{SLIDE}.csv")
    mcquant = pd.read_csv(out / "mcquant" / f"{SLIDE}_cells.csv")
    workbook = pd.read_excel(out / "xlsx" / f"{SLIDE}.xlsx", sheet_name="cells")
    for one in (csv["cell"], mcquant["CellID"], workbook["cell"]):
        assert one.tolist() == cells["cell"].tolist()
    assert (csv["flags"] & 8).gt(0).sum() == 3


def test_mcquant_counts_the_pixels_of_the_corrected_labels(exported, labels):
    table = pd.read_csv(exported[0] / "mcquant" / f"{SLIDE}_cells.csv").set_index("CellID")
    ids, pixels = np.unique(labels["cells"][0], return_counts=True)
    assert table["Area"].to_dict() == dict(zip(ids[1:].tolist(), pixels[1:].tolist()))


def test_qupath_gets_the_corrected_outlines_and_regions(exported, labels):
    folder = exported[0] / "geojson"
    cells, regions = (json.loads((folder / f"{SLIDE}{end}.geojson").read_text()) for end in ("_cells", ""))
    assert cells["mihc"]["reviewer"] == regions["mihc"]["reviewer"] == "anna"
    areas = {one["properties"]["name"]: shapely.geometry.shape(one["geometry"]).area for one in cells["features"]}
    ids, pixels = np.unique(labels["cells"][0], return_counts=True)
    assert areas == {str(one): count for one, count in zip(ids[1:].tolist(), pixels[1:].tolist())}
    assert "Necrosis 2" in {one["properties"]["name"] for one in regions["features"]}
    assert "reviewer" not in json.loads((folder / f"{OTHER}.geojson").read_text())["mihc"]


@pytest.mark.parametrize("undo", [False, True])
def test_edits_that_no_run_has_taken_up_are_not_exported(folder, tmp_path, undo):
    copy = shutil.copytree(folder, tmp_path / "study")
    with open_review(mihc.read_study(copy), SLIDE, "anna") as session:
        while undo and session.undo() is not None:
            pass
        if not undo:
            session.delete([int(mihc.slide_cells(session.study, SLIDE)["cell"].iloc[30])])
    study = mihc.read_study(copy)
    with pytest.raises(OutputConflict, match="edited since the last run"):
        export_study(study, to="csv", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_study(study, to="csv", out=tmp_path / "out", slides=[OTHER]).slides == (OTHER,)
    mihc.run(study, until="study")
    assert export_study(study, to="geojson", out=tmp_path / "out", images=False).slides[:2] == (SLIDE, OTHER)
