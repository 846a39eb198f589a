"""The array form of docs/cluster.md with processes of this machine: jobs of a study at once, then one that joins."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from table_study import write_table_study

import mihc
from mihc.store import digest_results, read_csv
from mihc.synthetic import draw_study

ROOT = Path(__file__).parents[1]
UNUSED = ("CD8", "CD20", "CD21", "Ki67")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mihc", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    told, _ = process.communicate(timeout=400)
    assert process.returncode == 0, told
    return told


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=2, seed=3, size_px=(256, 256))
    (folder / "study.toml").write_text(
        '[study]\nname = "array"\n[regions]\nclasses = { Tumor = "tumour", Stroma = "stroma", Necrosis = "excluded",'
        ' Fold = "excluded" }\n'
    )
    panel = (folder / "panel.csv").read_text().splitlines()
    (folder / "panel.csv").write_text("\n".join(line for line in panel if line.split(",")[1] not in UNUSED) + "\n")
    return folder


def test_jobs_of_an_array_at_once_and_a_joining_run_give_the_bytes_of_a_plain_run(drawn, tmp_path):
    plain, array = (Path(shutil.copytree(drawn, tmp_path / name)) for name in ("plain", "array"))
    slides = read_csv(array / "slides.csv", text=("slide",))["slide"].tolist()
    assert len(slides) >= 2
    jobs = [started("run", array, "--slides", slide, "--workers", 1) for slide in slides]
    for slide, told in zip(slides, [ended(job) for job in jobs]):
        assert f"{slide}: cells: computing: no earlier result" in told
    assert not (array / "results" / "regions.csv").exists()
    joined = ended(started("run", array))
    assert all(f"{slide}: cells: reused" in joined for slide in slides), joined
    assert mihc.run(mihc.read_study(plain)).failed == {}
    assert digest_results(array / "results") == digest_results(plain / "results")


def test_a_job_that_was_killed_is_made_up_for_by_the_joining_run(tmp_path):
    folder = write_table_study(tmp_path / "study")
    plain = Path(shutil.copytree(folder, tmp_path / "plain"))
    ended(started("run", folder, "--slides", "S01,S02"))
    killed = started("run", folder, "--slides", "S03,S04,S05,S06")
    while not list((folder / "results").glob(".locks/slide-S0[3-6]")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    joined = ended(started("run", folder))
    assert "S01: positives: reused" in joined
    assert mihc.run(mihc.read_study(plain)).failed == {}
    assert digest_results(folder / "results") == digest_results(plain / "results")


def test_the_line_of_the_array_script_picks_every_slide_once(tmp_path):
    folder = write_table_study(tmp_path / "STUDY", patients=4)
    script = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    choice = next(line for line in script.splitlines() if line.startswith("slide="))
    count = re.search(r"--array=1-(\$\(\(.*?\)\)) ", script).group(1)
    assert subprocess.check_output(["sh", "-c", f"echo {count}"], cwd=tmp_path, text=True).strip() == "4"
    picked = [
        subprocess.check_output(
            ["sh", "-c", f'{choice}\nprintf %s "$slide"'],
            cwd=tmp_path, text=True, env=ENVIRONMENT | {"SLURM_ARRAY_TASK_ID": str(number)},
        )
        for number in range(1, 5)
    ]  # fmt: skip
    assert picked == ["S01", "S02", "S03", "S04"]
    assert folder.is_dir()


def test_a_slide_taken_out_of_slides_csv_is_in_no_table_and_said(tmp_path):
    folder = write_table_study(tmp_path / "study")
    mihc.run(mihc.read_study(folder))
    fresh = write_table_study(tmp_path / "fresh")
    for study in (folder, fresh):
        lines = (study / "slides.csv").read_text().splitlines(keepends=True)
        (study / "slides.csv").write_text("".join(line for line in lines if not line.startswith("S03,")))
    told = ended(started("run", folder))
    assert "slides.csv does not list S03: what was measured of them is kept in results/" in told
    assert (folder / "results" / "cells" / "S03.parquet").is_file()
    mihc.run(mihc.read_study(fresh))
    tables = sorted(path.name for path in (fresh / "results").glob("*.csv"))
    assert {"regions.csv", "patients.csv", "statistics.csv", "thresholds.csv", "qc.csv"} <= set(tables)
    for name in tables:
        assert (folder / "results" / name).read_bytes() == (fresh / "results" / name).read_bytes(), name
    assert "S03" not in (folder / "results" / "report.html").read_text()
    with (folder / "slides.csv").open("a") as slides:
        slides.write("S03,P03,S03.csv\n")
    again = ended(started("run", folder))
    assert "does not list" not in again
    assert "S03: positives: reused" in again
