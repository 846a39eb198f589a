"""The folder of an export: nothing else is touched, nothing is half there, and what is asked for wrongly is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mihc
from mihc.errors import DamagedError, OutputConflict, ResourceError, UsageError
from mihc.export import FORMATS, export_study
from mihc.exports.folders import MARKER
from mihc.store import Store, digest_results


def test_nothing_under_results_is_touched(study, exported):
    before = {path: path.stat().st_mtime_ns for path in study.results.rglob("*") if path.is_file()}
    digest = digest_results(study.results)
    for to in FORMATS:
        exported(to)
        export_study(study, to=to, out=exported(to))
    after = {path: path.stat().st_mtime_ns for path in study.results.rglob("*") if path.is_file()}
    assert {path for path in before if ".locks" not in path.parts} == {p for p in after if ".locks" not in p.parts}
    assert all(after[path] == time for path, time in before.items() if ".locks" not in path.parts)
    assert digest_results(study.results) == digest


def test_an_older_export_is_replaced_and_a_foreign_file_is_not(study, tmp_path):
    out = tmp_path / "mine"
    export_study(study, out=out)
    slide = mihc.measured_slides(study)[0]
    export_study(study, to="geojson", out=out, slides=[slide])
    assert sorted(path.name for path in out.iterdir()) == [f"{slide}.geojson", f"{slide}_cells.geojson", MARKER]
    (out / "notes.docx").write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputConflict, match=r"holds notes\.docx, which no export") as caught:
        export_study(study, out=out)
    assert caught.value.exit_code == 5
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize("kind", ["folder", "file", "marker"])
def test_what_no_export_wrote_is_refused(study, tmp_path, kind):
    out = tmp_path / "there"
    if kind == "file":
        out.write_text("x")
    else:
        out.mkdir()
        (out / ("slide.czi" if kind == "folder" else MARKER)).write_text("x")
    with pytest.raises(OutputConflict if kind != "marker" else DamagedError):
        export_study(study, out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_an_export_does_not_lie_in_the_results_nor_hold_them(study):
    for out in (study.results / "export", study.results, study.folder, study.folder.parent):
        with pytest.raises(UsageError, match="cannot lie in results"):
            export_study(study, out=out)


def test_an_error_half_way_leaves_the_older_export_whole(study, tmp_path, monkeypatch):
    from mihc.exports import geojson

    out = export_study(study, to="geojson", out=tmp_path / "out").folder
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(path, source):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(geojson, "write_cell_file", full)  # a full disk
    with pytest.raises(ResourceError, match="no room"):
        export_study(study, to="geojson", out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import sys, mihc, os, signal
from pathlib import Path
from mihc.stores import files
from mihc.export import export_study
steps, move = [], files.move
def deadly(source, target):
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    steps.append(target)
    move(source, target)
files.move = deadly
export_study(mihc.read_study(sys.argv[1]), out=Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("step", [0, 1])
def test_a_kill_between_the_renames_loses_nothing_and_the_same_command_goes_on(study, tmp_path, step):
    out = export_study(study, out=tmp_path / "out").folder
    before = {path.name: path.read_bytes() for path in (out / "cells").iterdir()}
    done = subprocess.run([sys.executable, "-c", KILLED, str(study.folder), str(out), str(step)], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    held = out if step == 0 else out.with_name(".out.old")
    assert {path.name: path.read_bytes() for path in (held / "cells").iterdir()} == before
    assert export_study(study, out=out).folder == out
    assert {path.name: path.read_bytes() for path in (out / "cells").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if "lock" not in path.name] == ["out"]


def test_results_that_change_meanwhile_are_not_exported(study, finished, tmp_path, monkeypatch):
    from mihc.exports import csv_tables

    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    changed = mihc.read_study(folder)
    slide, write = mihc.measured_slides(study)[0], csv_tables.write_cells_csv

    def meanwhile(path, source):
        write(path, source)
        Store(changed.results).forget("positives", slide)  # as a run does that computes it anew

    monkeypatch.setattr(csv_tables, "write_cells_csv", meanwhile)
    with pytest.raises(OutputConflict, match="a run changed the results"):
        export_study(changed, out=tmp_path / "out", slides=[slide])
    assert not (tmp_path / "out").exists()


# ---- what is asked for wrongly


def test_unknown_formats_slides_and_studies_without_results_are_refused(study, drawn, tmp_path):
    with pytest.raises(UsageError, match="Write one of csv, xlsx"):
        export_study(study, to="parquet", out=tmp_path / "out")
    with pytest.raises(UsageError, match="no slide 'S99'"):
        export_study(study, out=tmp_path / "out", slides=["S99"])
    with pytest.raises(UsageError, match="Type: mihc run"):
        export_study(mihc.read_study(drawn), out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_slide_without_results_is_named_and_the_others_are_exported(study, finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    slide, *others = mihc.measured_slides(study)
    Store(folder / "results").forget("positives", slide)
    done = export_study(mihc.read_study(folder), out=tmp_path / "out")
    assert done.slides == tuple(others)
    assert done.notes == (f"{slide}: has no results, so it is not in the export",)


def test_the_verb_says_where_the_files_lie(study, tmp_path):
    command = [sys.executable, "-m", "mihc", "export", str(study.folder), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--to", "mcquant"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    slides = mihc.measured_slides(study)
    assert done.stdout == f"wrote {tmp_path / 'out'}: {len(slides)} slides as mcquant\n"
    refused = subprocess.run([*command, "--to", "tiff"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
