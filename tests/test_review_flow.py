"""What a reviewer corrects counts in the next run, and only there; undone, everything is as it was."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from shapely.geometry import mapping
from store_generations import leave_locks_dead

import mihc
from mihc import review, store, synthetic
from mihc.errors import InputError, StudyProblems, UsageError
from mihc.regions import distance_to_outline
from mihc.results import slide_tumour
from mihc.reviewing.session import open_review
from mihc.reviews.journal import Journal, read_journal
from mihc.store import digest_results, read_csv
from mihc.stores import transactions

SLIDE = "S01"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A small drawn study with its numbers, every feature measured; not to be written to."""
    folder = synthetic.draw_study(tmp_path_factory.mktemp("reviewed") / "study", patients=2, size_px=(512, 512))
    (folder / "thresholds.csv").write_text("slide,marker,value\n*,CD20,700\n")
    settings = folder / "study.toml"
    features = '["mean", "median", "shape", "background", "spillover"]'
    settings.write_text(settings.read_text() + f"\n[measure]\nfeatures = {features}\n")
    assert mihc.run(mihc.read_study(folder), until="statistics").failed == {}
    return folder


@pytest.fixture
def folder(measured, tmp_path) -> Path:
    return shutil.copytree(measured, tmp_path / "study")


def digest(folder: Path) -> str:
    return digest_results(folder / "results")


def machine_bytes(folder: Path) -> str:
    """Everything of the machine's labels and its own table, byte by byte."""
    total = hashlib.sha256()
    results = folder / "results"
    labels = [results / "slides" / f"{SLIDE}.ome.zarr" / "labels" / name for name in ("nuclei", "cells")]
    files = [file for one in labels for file in sorted(one.rglob("*")) if file.is_file()]
    for file in [*files, results / ".stages" / "cells" / f"{SLIDE}.parquet"]:
        total.update(file.read_bytes())
    return total.hexdigest()


def neighbours(folder: Path) -> pd.DataFrame:
    """Cells of the slide that lie inside, from the one nearest to the middle on."""
    cells = mihc.slide_cells(mihc.read_study(folder), SLIDE)
    away = (cells["x_um"] - cells["x_um"].median()) ** 2 + (cells["y_um"] - cells["y_um"].median()) ** 2
    return cells.loc[away.sort_values(kind="stable").index]


def pixel_of(session: review.Session, cell: pd.Series) -> np.ndarray:
    return np.array([cell["y_um"], cell["x_um"]]) / session.pixel_size_um


def edit_everything(folder: Path, reviewer: str = "anna") -> int:
    """One gesture of each kind -> how many cells there are more than before."""
    cells = neighbours(folder)
    with open_review(mihc.read_study(folder), SLIDE, reviewer) as session:
        first, second, third, fourth, fifth = (cells.iloc[k] for k in (0, 1, 12, 25, 40))
        session.merge([int(first["cell"]), int(second["cell"])])
        session.delete([int(third["cell"])])
        middle = pixel_of(session, fourth)
        session.split(int(fourth["cell"]), middle + np.array([[-40, 0], [40, 0]]))
        ring = pixel_of(session, fifth) + 5 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
        session.redraw(int(fifth["cell"]), ring)
        hole = pixel_of(session, third) + 4 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
        session.add(hole)
        session.set_threshold("CD20", 900.0, reason="by eye")
        with pytest.raises(UsageError, match="holds a control character"):
            session.draw_region("Necrosis\0two", "excluded", shapely.box(20, 20, 40, 40))
        session.draw_region("Necrosis 2", "excluded", shapely.box(20, 20, 40, 40))
        session.accept("CD3")
        return -1 - 1 + 1 + 0 + 1


def undo_everything(folder: Path) -> None:
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        while session.undo() is not None:
            pass


def test_S9_edits_follow_into_every_number_and_undone_leave_no_trace(folder):
    before, machine = digest(folder), machine_bytes(folder)
    cells_before = len(neighbours(folder))
    more = edit_everything(folder)
    assert digest(folder) == before  # nobody's review counts yet
    changes = review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    assert changes.failed == {} and machine_bytes(folder) == machine
    assert {step.split()[-1] for step in changes.computed} == {SLIDE, "study", "statistics"}
    assert f"cells {SLIDE}" not in changes.computed and f"slide {SLIDE}" not in changes.computed
    saved = digest(folder)
    assert saved != before
    cells = mihc.slide_cells(mihc.read_study(folder), SLIDE)
    assert len(cells) == cells_before + more and cells["cell"].is_monotonic_increasing and cells["cell"].is_unique
    assert set(changes.regions["slide"]) == {SLIDE} and "area_mm2" in set(changes.regions["measure"])
    study = mihc.read_study(folder)
    again = mihc.run(study, until="statistics")
    assert {step.why for step in again.steps} == {"reused"} and digest(folder) == saved
    threshold = read_csv(folder / "results" / "thresholds.csv").query("slide == @SLIDE and marker == 'CD20'").iloc[0]
    assert (threshold["value"], threshold["verdict"], threshold["who"]) == (900.0, "manual", "anna")
    assert threshold["reason"] == "from a review: by eye"
    with open_review(study, SLIDE, "anna") as session:
        named = {one.name for one in session.regions()}
    assert "Necrosis 2" in named
    undo_everything(folder)
    mihc.run(mihc.read_study(folder), until="statistics")
    assert digest(folder) == before and machine_bytes(folder) == machine
    assert not list((folder / "results" / ".stages").glob("edits/*.parquet"))
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:  # tomorrow
        while session.redo() is not None:
            pass
    mihc.run(mihc.read_study(folder), until="statistics")
    assert digest(folder) == saved


def test_an_edit_of_cells_looks_at_no_pixel_of_the_regions_again(folder):
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        session.delete([int(neighbours(folder).iloc[0]["cell"])])
    changes = review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    again = {step.removesuffix(f" {SLIDE}") for step in changes.computed}
    assert again == {"edits", "positives", "study", "statistics"}
    ledger = read_csv(folder / "results" / "area_ledger.csv").query("slide == @SLIDE").set_index("category")
    assert ledger.loc["scanned", "cells"] == len(mihc.slide_cells(mihc.read_study(folder), SLIDE))


def test_edited_cells_are_measured_as_the_whole_slide_would_be(folder):
    """Every feature of every cell, bit for bit, against one pass over the edited labels in one piece."""
    edit_everything(folder)
    review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    study = mihc.read_study(folder)
    with open_review(study, SLIDE, "anna") as session:
        nuclei, cells = (session.labels(name)[0][:, :] for name in ("nuclei", "cells"))
    image = mihc.open_image(mihc.slide_image(study, SLIDE))
    expected = mihc.measure_cells(
        image.levels[0][:, :, :],
        nuclei,
        cells,
        markers=image.channels,
        pixel_size_um=image.pixel_size_um,
        features=study.settings.measure.features,
    )
    found = mihc.slide_cells(study, SLIDE)
    edited = (found["flags"] & 8) > 0
    assert 5 <= edited.sum() <= 12
    assert_placed_as_all_at_once(study, found)
    found["flags"] &= ~np.uint32(8 | 4)  # edited, out of focus: not of the measuring
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_exact=True)


def assert_placed_as_all_at_once(study: mihc.Study, cells: pd.DataFrame) -> None:
    """Region, class, distance and the ledger of a table with edited cells against one pass over all of its cells."""
    at = cells["x_um"].to_numpy(), cells["y_um"].to_numpy()
    placed = mihc.assign_regions(*at, mihc.slide_regions(study, SLIDE))
    assert placed["region"].tolist() == cells["region"].tolist()
    assert placed["tissue_class"].tolist() == cells["tissue_class"].tolist()
    scanned = shapely.box(0, 0, 256, 256)
    away = distance_to_outline(*at, slide_tumour(study, SLIDE), scanned=scanned)
    np.testing.assert_array_equal(away, cells["distance_to_margin_um"])
    ledger = read_csv(study.results / "area_ledger.csv").query("slide == @SLIDE").set_index(["category", "region"])
    for (region, kind), count in cells.groupby(["region", "tissue_class"]).size().items():
        if kind != "outside":
            assert ledger.loc[(kind, region), "cells"] == count
    assert ledger.loc[("scanned", ""), "cells"] == len(cells)
    analysed = cells["tissue_class"].isin(["tumour", "stroma", "other"]).sum()
    assert ledger.loc[("analysed", ""), "cells"] == analysed


def test_a_second_reviewer_changes_nothing_until_chosen(folder):
    edit_everything(folder)
    review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    saved = digest(folder)
    with open_review(mihc.read_study(folder), SLIDE, "ben") as session:
        session.set_threshold("CD20", 600.0)
        session.set_threshold("CD3", None)
    assert review.save(folder, reviewer="ben", slides=[SLIDE], report=False).regions.empty and digest(folder) == saved
    study = mihc.read_study(folder)
    compared = review.compare(study, SLIDE, "anna", "ben")
    row = compared.agreement.set_index("population").loc["CD20"]
    cells = mihc.slide_cells(study, SLIDE)
    analysed = cells[cells["tissue_class"].isin(["tumour", "stroma", "other"])]
    compartment = next(line.compartment for line in study.panel_of(study.slides[0]).markers if line.marker == "CD20")
    values = analysed[f"CD20_{compartment}_mean"]
    assert row["cells"] == len(analysed) and row["only_one"] == 0 and row["both"] == (values >= 900).sum()
    assert row["only_other"] == ((values >= 600) & (values < 900)).sum() > 0 and 0 < row["kappa"] < 1
    review.choose_final(folder, "ben", slides=[SLIDE])
    review.save(folder, report=False)
    thresholds = read_csv(folder / "results" / "thresholds.csv").query("slide == @SLIDE").set_index("marker")
    assert thresholds.loc["CD20", "value"] == 600.0 and thresholds.loc["CD20", "who"] == "ben"
    assert thresholds.loc["CD3", "verdict"] == "negative slide" and thresholds.loc["CD3", "positive_cells"] == 0
    assert not (mihc.slide_cells(mihc.read_study(folder), SLIDE)["flags"] & 8).any()


def test_edits_on_other_labels_stop_the_slide_and_say_so(folder):
    edit_everything(folder)
    review.choose_final(folder, "anna")
    settings = folder / "study.toml"
    settings.write_text(settings.read_text().replace("cell_expansion_um = 2.5", "cell_expansion_um = 3.0"))
    failed = mihc.run(mihc.read_study(folder), until="positives", slides=[SLIDE]).failed
    assert "edited by anna on other labels" in failed[SLIDE] and "Undo the cell edits" in failed[SLIDE]


def test_a_session_that_is_open_while_the_cells_are_found_anew_edits_the_new_ones(folder):
    settings = folder / "study.toml"
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        first = int(neighbours(folder).iloc[3]["cell"])
        session.delete([first])
        session.undo()
        settings.write_text(settings.read_text().replace("cell_expansion_um = 2.5", "cell_expansion_um = 3.0"))
        assert mihc.run(mihc.read_study(folder), until="positives", slides=[SLIDE]).failed == {}
        session.delete([first])
    review.choose_final(folder, "anna")
    assert mihc.run(mihc.read_study(folder), until="positives", slides=[SLIDE]).failed == {}
    assert first not in mihc.slide_cells(mihc.read_study(folder), SLIDE)["cell"].tolist()


def test_regions_that_were_drawn_on_another_picture_stop_the_slide(folder):
    with Journal(folder, "anna", SLIDE) as journal:
        drawn = {"op": "draw", "name": "N", "tissue_class": "excluded", "polygon": mapping(shapely.box(0, 0, 9, 9))}
        journal.add("region", {**drawn, "size_px": [4096, 512]})
    review.choose_final(folder, "anna")
    failed = mihc.run(mihc.read_study(folder), until="regions", slides=[SLIDE]).failed
    assert "anna drew regions on another picture, of (4096, 512) pixels" in failed[SLIDE]


def test_live_counts_are_those_of_the_run(folder):
    study = mihc.read_study(folder)
    with open_review(study, SLIDE, "anna") as session:
        session.set_threshold("CD20", 850.0)
        session.set_threshold("CD3", 300.0)
        live = session.live_counts().table()
    review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    regions = read_csv(folder / "results" / "regions.csv").query("slide == @SLIDE")
    keys = ["region", "tissue_class", "population"]
    both = live.merge(regions, on=keys, suffixes=("_live", ""))
    assert len(both) == len(live) == len(regions)
    for name in ("cells", "positive_cells", "positivity_percent"):
        np.testing.assert_array_equal(both[f"{name}_live"].astype(float), both[name].astype(float))
    np.testing.assert_allclose(both["density_per_mm2_live"], both["density_per_mm2"], rtol=1e-12)


def test_regions_are_imported_and_exported_again(folder, tmp_path):
    study = mihc.read_study(folder)
    with open_review(study, SLIDE, "anna") as session:
        session.reclassify_region(session.regions()[0].name, "other")
        session.export_regions(tmp_path / "out.geojson")
        before = [(one.name, one.tissue_class, one.area_mm2) for one in session.regions()]
        session.import_regions(tmp_path / "out.geojson")
        after = [(one.name, one.tissue_class, one.area_mm2) for one in session.regions()]
        assert [one[:2] for one in after] == [one[:2] for one in before]
        assert [one[2] for one in after] == pytest.approx([one[2] for one in before])
        with pytest.raises(UsageError, match="has no region 'X'"):
            session.remove_region("X")


def test_a_geojson_export_has_the_edited_cells(folder, tmp_path):
    edit_everything(folder)
    review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    study = mihc.read_study(folder)
    from mihc.export import export_study

    export_study(study, to="geojson", out=tmp_path / "out", slides=[SLIDE], images=False)
    text = next((tmp_path / "out").rglob(f"{SLIDE}*cells*")).read_text()
    assert text.count('"objectType":"cell"') == len(mihc.slide_cells(study, SLIDE))


def test_the_list_of_slides_says_how_far_a_review_is(folder):
    study = mihc.read_study(folder)
    with open_review(study, SLIDE, "anna") as session:
        session.accept("CD3")
    listed = review.slide_list(study, "anna").set_index("slide")
    assert listed.loc[SLIDE, ["review", "gestures", "final"]].tolist() == ["begun", 1, ""]
    assert set(listed["review"].drop(SLIDE)) == {"not begun"}
    with open_review(study, SLIDE, "anna") as session:
        session.accept()
    review.choose_final(folder, "anna", slides=[SLIDE])
    listed = review.slide_list(study, "anna").set_index("slide")
    assert listed.loc[SLIDE, ["review", "gestures", "final"]].tolist() == ["accepted", 2, "anna"]
    assert listed.loc[SLIDE, "cells"] == len(mihc.slide_cells(study, SLIDE))


def test_a_damaged_journal_is_a_problem_of_the_study(folder):
    edit_everything(folder)
    review.choose_final(folder, "anna")
    path = folder / "review" / "anna" / SLIDE / "journal.jsonl"
    path.write_text(path.read_text().replace("900.0", "901.0", 1))
    with pytest.raises(StudyProblems, match="is not what was written"):
        mihc.read_study(folder)


def test_levels_stay_above_their_threshold(folder):
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        session.set_threshold("CD20", 700.0, levels=(800.0, 900.0))
        session.set_threshold("CD20", 750.0)
        assert session.thresholds()["CD20"].levels == (800.0, 900.0)
        with pytest.raises(UsageError, match="does not lie below moderate"):
            session.set_threshold("CD20", 850.0)
        with pytest.raises(UsageError, match="has no marker"):
            session.set_threshold("CD99", 850.0)
        session.set_threshold("CD20", None)
        assert session.thresholds()["CD20"].verdict == "negative slide"
        with pytest.raises(UsageError, match="no cell is named"):
            session.delete([])


EDITOR = """
import sys
import mihc
from mihc import review
folder, slide = sys.argv[1:]
while True:
    study = mihc.read_study(folder)
    with review.open_review(study, slide, "anna") as session:
        alive = sorted({cell for cell in session.labels("cells")[0][:, :].ravel().tolist()[::97] if cell})
        if len(alive) > 20:
            print(session.delete(alive[:1]).number, flush=True)
        else:  # a slide is soon empty on a fast machine
            for _ in range(60):
                session.undo()
        line = session.set_threshold("CD20", 500.0 + len(session.gestures))
        print(line.number, flush=True)
    review.save(folder, reviewer="anna", slides=[slide], report=False)
    print("saved", flush=True)
"""


def kill_editors(folder: Path, fresh: Path, kills: int) -> None:
    """Kill a reviewer who edits and saves, again and again; then what is there is what the journal says."""
    rng, machine = random.Random(3), machine_bytes(folder)
    path = folder / "review" / "anna" / SLIDE / "journal.jsonl"
    trouble = fresh.parent / "trouble.txt"
    for _ in range(kills):
        command = [sys.executable, "-c", EDITOR, str(folder), SLIDE]
        with (
            trouble.open("w") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as child,
        ):
            told = [child.stdout.readline()]
            time.sleep(rng.uniform(0.0, 5.0))
            os.kill(child.pid, signal.SIGKILL)
            told += child.stdout.read().splitlines()
        last = max(int(one) for one in told if one.strip().isdigit())
        assert len(read_journal(path)) >= last and trouble.read_text() == ""
        assert machine_bytes(folder) == machine
    review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    shutil.copytree(folder / "review", fresh / "review", ignore=shutil.ignore_patterns(".locks"), dirs_exist_ok=True)
    mihc.run(mihc.read_study(fresh), until="statistics")
    assert digest(folder) == digest(fresh) and store.Store(folder / "results").verify() == []


def test_S9_a_review_opens_what_a_kill_left_half_visible(folder):
    """Killed between two renames of a commit: the slide's new files lie under the old record."""
    edit_everything(folder)
    review.choose_final(folder, "anna", slides=[SLIDE])
    placed = transactions._placed

    def killed(results, root, *others):
        done = placed(results, root, *others)
        if root.endswith("thresholds.csv"):
            raise KeyboardInterrupt
        return done

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transactions, "_placed", killed)
        review.save(folder, reviewer="anna", slides=[SLIDE], report=False)
    leave_locks_dead(folder / "results")
    with open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        assert session.thresholds()["CD20"].value == 900.0 and session.live_counts().values
    assert store.Store(folder / "results").verify() == []


def test_S9_editing_and_saving_survive_kills(folder, measured, tmp_path):
    kill_editors(folder, shutil.copytree(measured, tmp_path / "fresh"), 3)


@pytest.mark.slow
def test_S9_editing_and_saving_survive_two_hundred_kills(folder, measured, tmp_path):
    kill_editors(folder, shutil.copytree(measured, tmp_path / "fresh"), 200)


def test_edits_of_labels_that_changed_meanwhile_are_refused_at_once(folder):
    study = mihc.read_study(folder)
    edit_everything(folder)
    with open_review(study, SLIDE, "anna") as session:
        session.__dict__["_labels_hash"] = "another"
        with pytest.raises(UsageError, match="found anew"):
            session.delete([int(neighbours(folder).iloc[60]["cell"])])
    assert InputError.exit_code == 3
