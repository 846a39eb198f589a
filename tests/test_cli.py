"""The command line as a person meets it: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from study_folders import write_picture

from mihc.cli import main
from mihc.store import Store
from mihc.synthetic import draw_study

SIGNALS = (signal.SIGINT, signal.SIGTERM)
UNUSED = ("CD8", "CD20", "CD21", "Ki67")
SETTINGS = """
[study]
name = "small"
[regions]
classes = { Tumor = "tumour", Stroma = "stroma", Necrosis = "excluded", Fold = "excluded" }
"""
VERBS = ("demo", "init", "inspect", "check", "run", "review", "verify", "digest")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def mihc(*arguments: object) -> Done:
    """Run a command in this process, which is fast; signals and pipes are tested with processes of their own."""
    out, err, handlers = StringIO(), StringIO(), [signal.getsignal(each) for each in SIGNALS]
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["mihc", *map(str, arguments)])
        try:
            main()
        except SystemExit as left:
            code = left.code
        finally:
            for each, handler in zip(SIGNALS, handlers):
                signal.signal(each, handler)
    return Done(int(code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A drawn study of two patients and a control that asks for no statistics, not to be written to."""
    folder = draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=2, seed=3, size_px=(256, 256))
    (folder / "study.toml").write_text(SETTINGS)
    panel = (folder / "panel.csv").read_text().splitlines()
    (folder / "panel.csv").write_text("\n".join(line for line in panel if line.split(",")[1] not in UNUSED) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory) -> Path:
    """The same with its results, not to be written to."""
    folder = Path(shutil.copytree(drawn, tmp_path_factory.mktemp("finished") / "study"))
    done = mihc("run", folder)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert f"Report: {folder / 'results' / 'report.html'}" in done.stdout
    return folder


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy with results, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_help_lists_the_verbs():
    shown = mihc("--help")
    assert shown.returncode == 0
    listed = [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ") and line.strip()]
    assert [verb for verb in VERBS if verb not in listed] == []


@pytest.mark.parametrize(
    "arguments",
    [("wash",), ("run",), ("run", "x", "--fast"), ("run", "x", "--workers", "0"), ("run", "x", "--workers", "many"),
     ("inspect", "x", "--pixel-size-um", "0,25")],
)  # fmt: skip
def test_CL3_CL4_a_command_typed_wrongly_exits_2_without_a_traceback(arguments):
    refused = mihc(*arguments)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""


def test_inspect_prints_channels_and_where_the_pixel_size_comes_from(tmp_path):
    shown = mihc("inspect", write_picture(tmp_path / "a.ome.tif", channels=("DAPI", "PanCK", "CD8")))
    assert shown.returncode == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[-3:] == [["0", "DAPI"], ["1", "PanCK"], ["2", "CD8"]]
    assert ["pixel", "size", "0.5", "µm", "(OME-XML", "PhysicalSize)"] in lines


def test_inspect_of_a_slide_without_pixel_size_says_what_to_type_and_not_itself(tmp_path):
    shown = mihc("inspect", write_picture(tmp_path / "a.ome.tif", pixel_size_um=None))
    assert shown.returncode == 0
    told = shown.stdout.partition("mihc cannot use this file yet:")[2]
    assert "no physical pixel size" in told
    assert "slides.csv, column pixel_size_um" in told
    assert "mihc inspect" not in told


def test_CL1_a_folder_without_slides_exits_3(tmp_path):
    refused = mihc("init", tmp_path)
    assert refused.returncode == 3
    assert "0 files match" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_and_check_lead_from_a_folder_of_slides_to_what_is_missing(tmp_path):
    write_picture(tmp_path / "a.ome.tif", channels=("DAPI", "PanCK", "CD8"), pixel_size_um=None)
    begun = mihc("init", tmp_path)
    assert begun.returncode == 0
    assert f"mihc check {tmp_path}" in begun.stdout
    assert "PanCK,PanCK,tumour" in (tmp_path / "panel.csv").read_text()
    before = sorted(tmp_path.rglob("*"))
    refused = mihc("check", tmp_path)
    assert refused.returncode == 3
    assert "error: slide a, a.ome.tif: no physical pixel size" in refused.stdout
    assert "slides.csv, column pixel_size_um" in refused.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_check_lists_every_problem_at_once(drawn, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    (folder / "study.toml").write_text((folder / "study.toml").read_text() + "\n[segmentatoin]\n")
    panel = (folder / "panel.csv").read_text().splitlines()
    (folder / "panel.csv").write_text("\n".join([*panel, "9,Foo,glue,cell,,"]))
    refused = mihc("check", folder)
    assert refused.returncode == 3
    assert "did you mean segmentation" in refused.stdout
    assert "role 'glue' is unknown" in refused.stdout


def test_check_of_a_sound_study_names_the_next_command(drawn):
    sound = mihc("check", drawn)
    assert sound.returncode == 0
    assert f"Next: mihc run {drawn}" in sound.stdout


def test_results_that_are_not_there_are_no_defect(drawn):
    for verb in ("verify", "digest", "review"):
        refused = mihc(verb, drawn)
        assert refused.returncode == 2
        assert f"mihc run {drawn}" in refused.stderr


def test_a_failed_slide_is_named_and_the_run_exits_4(study):
    slide = next(study.glob("**/*.ome.tif*"))
    slide.write_bytes(slide.read_bytes()[:5000])
    done = mihc("run", study)
    assert done.returncode == 4
    assert f"{slide.name.partition('.')[0]}: failed: {slide.name}: truncated" in done.stderr
    assert f"FAILED {slide.name.partition('.')[0]}" in done.stdout
    assert "1 of" in done.stderr and "slides failed" in done.stderr
    assert (study / "results" / "report.html").is_file()


def test_OD2_locked_results_exit_5_and_say_who_holds_them(study):
    with Store(study / "results").lock():
        (study / "clinical.csv").write_text((study / "clinical.csv").read_text() + "\n")
        refused = mihc("run", study)
    assert refused.returncode == 5
    assert "held by" in refused.stderr


def test_OD1_a_foreign_results_folder_exits_5_untouched(drawn, tmp_path):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    (folder / "results").mkdir()
    (folder / "results" / "thesis.docx").write_text("mine")
    refused = mihc("run", folder)
    assert refused.returncode == 5
    assert "not a mihc output" in refused.stderr
    assert [path.name for path in (folder / "results").iterdir()] == ["thesis.docx"]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damageable(study: Path) -> list[Path]:
    results = study / "results"
    chunk = max((p for p in (results / "slides").rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)
    return [results / "regions.csv", next((results / "cells").iterdir()), chunk]


def test_verify_finds_flipped_bytes_and_repair_heals_them(study, finished):
    assert mihc("verify", study).returncode == 0
    harmed = damageable(study)
    for path in harmed:
        flip_a_byte(path)
    found = mihc("verify", study)
    assert found.returncode == 7
    for path in harmed:
        assert path.relative_to(study / "results").as_posix() in found.stdout
    assert "mihc verify" in found.stderr and "--repair" in found.stderr
    repaired = mihc("verify", study, "--repair")
    assert repaired.returncode == 0, repaired.stderr
    assert mihc("verify", study).returncode == 0
    assert mihc("digest", study).stdout == mihc("digest", finished).stdout


def test_digest_is_the_same_twice_and_another_for_another_number(study):
    first, second = mihc("digest", study), mihc("digest", study)
    assert first.stdout == second.stdout
    assert len(first.stdout.strip()) == 64
    (study / "thresholds.csv").write_text("slide,marker,value\n*,CD3,700\n")
    assert mihc("run", study).returncode == 0
    assert mihc("digest", study).stdout != first.stdout


@pytest.mark.parametrize(("number", "code"), list(zip(SIGNALS, (130, 143))))
def test_an_interrupted_run_stops_soon_and_goes_on_to_the_same_result(drawn, finished, tmp_path, number, code):
    folder = Path(shutil.copytree(drawn, tmp_path / "study"))
    command = [sys.executable, "-m", "mihc", "run", str(folder)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert "slide: computing" in run.stderr.readline()
    run.send_signal(number)
    sent = time.monotonic()
    _, told = run.communicate(timeout=20)
    assert run.returncode == code
    assert time.monotonic() - sent < 10
    assert "The same command goes on from here." in told
    assert "Traceback" not in told
    assert not (folder / "results" / "report.html").exists()
    assert mihc("run", folder).returncode == 0
    assert mihc("digest", folder).stdout == mihc("digest", finished).stdout


STUCK = """
import sys, time
import mihc.cli, mihc.pipeline
mihc.cli.MOST_SECONDS_TO_STOP = 0.5
mihc.pipeline._measure = lambda job, row, until: (print("stuck", flush=True), time.sleep(60))
sys.argv = ["mihc", "run", sys.argv[1]]
mihc.cli.main()
"""


def test_an_interrupted_run_that_hangs_is_ended(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "study")
    run = subprocess.Popen([sys.executable, "-c", STUCK, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    run.stdout.readline()
    run.send_signal(signal.SIGINT)
    sent = time.monotonic()
    run.communicate(timeout=50)
    assert (run.returncode, time.monotonic() - sent < 10) == (130, True)


UNHEARD = STUCK.replace("time.sleep(60)", "signal.pthread_kill(threading.get_ident(), signal.SIGINT), time.sleep(60)")


def test_a_signal_that_wakes_another_thread_is_heard(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "study")
    code = "import signal, threading" + UNHEARD
    run = subprocess.run(
        [sys.executable, "-c", code, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=50
    )
    assert run.returncode == 130


def test_CL11_a_closed_pipe_makes_no_traceback(study):
    shown = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m mihc --help | head -n 1"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in shown.stderr
