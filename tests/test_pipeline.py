"""The whole flow on a small drawn study: what is reused, what is isolated, what survives."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import mihc
from mihc.errors import InputError, OutputConflict, UsageError
from mihc.pipeline import run
from mihc.store import Store, digest_results
from mihc.study import read_study


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy with results, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


def recomputed(folder: Path, **choices) -> set[tuple[str, str]]:
    """Run again; the stages that were not reused."""
    results = run(read_study(folder), **choices)
    return {(step.stage, step.slide) for step in results.steps if step.why != "reused"}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_file_of_the_contract_is_there(finished):
    results = finished / "results"
    slides = pd.read_csv(finished / "slides.csv", dtype=str)["slide"]
    names = [
        "regions.csv",
        "bands.csv",
        "patients.csv",
        "statistics.csv",
        "thresholds.csv",
        "area_ledger.csv",
        "qc.csv",
    ]
    names += ["coexpression.csv", "intensities.csv", "pairs.csv", "corrections.csv", "report.html", "run.json"]
    names += [f"cells/{slide}.parquet" for slide in slides] + [f"slides/{slide}.ome.zarr/zarr.json" for slide in slides]
    assert [name for name in names if not (results / name).is_file()] == []
    labels = sorted(path.name for path in (results / "slides" / f"{slides[0]}.ome.zarr" / "labels").iterdir())
    assert labels == ["cells", "nuclei", "regions", "zarr.json"]


def test_a_second_run_computes_nothing(study):
    assert recomputed(study) == set()


def test_run_json_tells_time_and_memory_of_every_stage(finished):
    content = json.loads((finished / "results" / "run.json").read_text())
    told = {step["stage"] for step in content["stages"]}
    assert told >= {"slide", "cells", "regions", "positives", "study", "statistics", "report"}
    assert all(step["seconds"] > 0 and step["peak_memory_mb"] > 0 for step in content["stages"])
    assert content["versions"]["mihc"]


def test_another_threshold_recomputes_only_what_hangs_on_it(study):
    slide = read_study(study).slides[0].slide
    (study / "thresholds.csv").write_text(f"slide,marker,value\n{slide},CD3,700\n")
    assert recomputed(study) == {
        ("positives", slide),
        ("study", ""),
        ("statistics", ""),
        ("robustness", ""),
        ("report", ""),
    }
    thresholds = pd.read_csv(study / "results" / "thresholds.csv").set_index(["slide", "marker"])
    assert thresholds.loc[(slide, "CD3"), "value"] == 700
    assert thresholds.loc[(slide, "CD3"), "verdict"] == "manual"


def test_another_expansion_recomputes_cells_but_not_the_image(study):
    edit(study / "study.toml", "cell_expansion_um = 2.5", "cell_expansion_um = 3.0")
    done = recomputed(study)
    assert {stage for stage, _ in done} >= {"cells", "regions", "positives", "study"}
    assert {stage for stage, _ in done} & {"slide", "outlines"} == set()  # no pixel of a region depends on a cell


def test_a_run_that_is_stopped_goes_on_to_the_same_result(drawn, finished, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "study")
    for until in ("cells", "outlines", "positives"):
        stopping = threading.Event()

        def stop(event, until=until, stopping=stopping):
            if event.stage == until:
                stopping.set()

        with pytest.raises(mihc.Stopped):
            run(read_study(folder), progress=stop, stopping=stopping)
        assert Store(folder / "results").verify() == []
    assert run(read_study(folder)).failed == {}
    assert digest_results(folder / "results") == digest_results(finished / "results")


def test_R8_of_two_runs_at_once_the_second_is_told_at_its_start_and_the_first_ends(study):
    """Where each could stop the other at a slide, neither would end."""
    edit(study / "study.toml", "cell_expansion_um = 2.5", "cell_expansion_um = 3.0")
    begun, go_on, ended, heard = threading.Event(), threading.Event(), [], []

    def pause(event):
        begun.set()
        assert go_on.wait(60)

    first = threading.Thread(target=lambda: ended.append(run(read_study(study), progress=pause, until="cells")))
    first.start()
    assert begun.wait(60)
    with pytest.raises(OutputConflict, match="held by"):
        run(read_study(study), progress=heard.append, until="cells")
    go_on.set()
    first.join()
    assert heard == [] and ended[0].failed == {}
    assert {step.why for step in run(read_study(study), until="cells").steps} == {"reused"}


def test_other_clinical_data_recompute_only_the_cohort(study):
    clinical = pd.read_csv(study / "clinical.csv", dtype=str)
    clinical.loc[0, "pfs_months"] = "0.5"
    clinical.to_csv(study / "clinical.csv", index=False)
    assert recomputed(study) == {("study", ""), ("statistics", ""), ("robustness", ""), ("report", "")}


def test_windows_and_workers_change_no_byte_of_the_result(drawn, finished, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    text = (folder / "study.toml").read_text()
    window = "\n[compute]\nwindow = 1024\nworkers = 1\n"
    assert "[compute]" not in text
    (folder / "study.toml").write_text(text + window)
    run(read_study(folder), workers=4)
    assert digest_results(folder / "results") == digest_results(finished / "results")


def test_NP1_NP3_threads_of_libraries_hash_seed_locale_and_time_zone_change_no_byte(drawn, finished, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    surroundings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    surroundings |= {"PYTHONHASHSEED": "77", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "mihc", "run", str(folder)]
    subprocess.run(command, env=os.environ | surroundings, capture_output=True, check=True)
    assert digest_results(folder / "results") == digest_results(finished / "results")


def test_a_failed_slide_is_named_and_stops_no_other(drawn, finished, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    first = read_study(folder).slides[0]
    first.file.write_bytes(first.file.read_bytes()[:5000])
    results = run(read_study(folder))
    assert list(results.failed) == [first.slide]
    assert "truncated" in results.failed[first.slide]
    regions = pd.read_csv(folder / "results" / "regions.csv", dtype={"slide": str})
    whole = pd.read_csv(finished / "results" / "regions.csv", dtype={"slide": str})
    assert first.slide not in set(regions["slide"])
    kept = whole[whole["slide"] != first.slide].reset_index(drop=True)
    pd.testing.assert_frame_equal(regions, kept)
    patients = pd.read_csv(folder / "results" / "patients.csv", dtype={"patient": str}).set_index("patient")
    assert patients.loc[first.patient].filter(like="density_per_mm2").isna().all()
    assert first.slide in (folder / "results" / "report.html").read_text()


def test_the_ledger_sums_on_every_slide(finished):
    ledger = pd.read_csv(finished / "results" / "area_ledger.csv")
    for _, rows in ledger.groupby("slide"):
        area = rows.groupby("category")["area_mm2"].sum()
        parts = area.reindex(["tumour", "stroma", "other", "excluded", "unannotated"]).fillna(0)
        assert area["scanned"] == pytest.approx(area["glass"] + area["tissue"], rel=1e-9)
        assert area["tissue"] == pytest.approx(parts.sum(), rel=1e-9)
        assert area["analysed"] == pytest.approx(parts[["tumour", "stroma", "other"]].sum(), rel=1e-9)


def test_counts_are_those_of_the_cells_tables(finished):
    regions = pd.read_csv(finished / "results" / "regions.csv", dtype={"slide": str})
    slide = regions["slide"].iloc[0]
    cells = pd.read_parquet(finished / "results" / "cells" / f"{slide}.parquet")
    rows = regions[(regions["slide"] == slide) & (regions["population"] == "CD3")]
    assert len(rows) > 0
    for row in rows.itertuples():
        inside = cells[(cells["region"] == row.region) & (cells["tissue_class"] == row.tissue_class)]
        assert len(inside) == row.cells
        assert inside["CD3_positive"].sum() == row.positive_cells
        assert row.density_per_mm2 == row.positive_cells / row.area_mm2


def test_only_some_slides_are_measured_when_asked(drawn, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    slide = read_study(folder).slides[1].slide
    results = run(read_study(folder), slides=[slide], until="cells")
    assert {(step.stage, step.slide) for step in results.steps} == {("slide", slide), ("cells", slide)}
    assert results.report is None


def test_an_unknown_slide_or_stage_is_refused(drawn):
    with pytest.raises(UsageError, match="no slide 'S99'"):
        run(read_study(drawn), slides=["S99"])
    with pytest.raises(UsageError, match="no stage 'cell'"):
        run(read_study(drawn), until="cell")


def test_a_study_without_a_readable_slide_is_refused(drawn, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    for row in read_study(folder).slides:
        row.file.write_bytes(b"")
    with pytest.raises(InputError, match="no slide could be measured"):
        run(read_study(folder))


def test_kills_at_random_moments_are_resumed_to_the_same_result(drawn, finished, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    generator = random.Random(11)
    command = [sys.executable, "-m", "mihc", "run", str(folder)]
    for _ in range(4):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(generator.uniform(1.0, 9.0))
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Store(folder / "results").verify() == []
    assert digest_results(folder / "results") == digest_results(finished / "results")


def test_another_pixel_size_in_the_same_process_is_used(study):
    before = recomputed(study)
    slides = pd.read_csv(study / "slides.csv", dtype=str, keep_default_na=False)
    first = read_study(study).slides[0]
    cells = study / "results" / "cells" / f"{first.slide}.parquet"
    area = pd.read_parquet(cells)["cell_area_um2"].sum()
    slides["pixel_size_um"] = ["0.504" if slide == first.slide else "" for slide in slides["slide"]]
    slides.to_csv(study / "slides.csv", index=False)
    assert before == set()
    assert ("slide", first.slide) in recomputed(study)
    assert pd.read_parquet(cells)["cell_area_um2"].sum() == pytest.approx(area)  # within 1 % the file's own is kept


def test_a_slide_that_was_replaced_is_read_anew_in_the_same_process(study):
    first, second = read_study(study).slides[:2]
    before = pd.read_parquet(study / "results" / "cells" / f"{first.slide}.parquet")
    shutil.copy(second.file, first.file)
    done = recomputed(study, slides=[first.slide])
    assert ("slide", first.slide) in done
    after = pd.read_parquet(study / "results" / "cells" / f"{first.slide}.parquet")
    other = pd.read_parquet(study / "results" / "cells" / f"{second.slide}.parquet")
    assert len(after) != len(before)
    pd.testing.assert_series_equal(after["x_um"], other["x_um"])


def test_a_slide_that_leaves_the_study_leaves_its_digest(drawn, study, tmp_path):
    slides = pd.read_csv(study / "slides.csv", dtype=str, keep_default_na=False)
    fresh = Path(shutil.copytree(drawn, tmp_path / "fresh"))
    for folder in (study, fresh):
        slides.iloc[1:].to_csv(folder / "slides.csv", index=False)
        run(read_study(folder))
    assert digest_results(study / "results") == digest_results(fresh / "results")


def test_every_file_of_the_segmenter_is_part_of_the_cells_stages_key():
    import mihc
    from mihc.steps import segment

    files = Path(mihc.__file__).parent.glob("*.py")
    loops = {f"mihc.{path.stem}" for path in files if path.stem.split("_")[0] in ("nuclei", "cells", "kernels")}
    assert len(loops) > 5
    assert loops <= set(segment.MODULES)
