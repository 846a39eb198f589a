"""The command line in processes of its own: odd paths, signals, pipes, and switches of the interpreter."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_folders import write_picture, write_study
from table_study import write_table_study

from mihc.errors import quoted, quoted_path

ROOT = Path(__file__).parents[1]
MIHC = (sys.executable, "-m", "mihc")


def mihc(
    *arguments: object, switches: tuple[str, ...] = (), folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, *switches, "-m", "mihc", *map(str, arguments)],
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=300, cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A study of six tables of cells with its results, not to be written to."""
    folder = write_table_study(tmp_path_factory.mktemp("finished") / "study")
    done = mihc("run", folder)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    return folder


@pytest.fixture(scope="module")
def digest(finished) -> str:
    printed = mihc("digest", finished).stdout
    assert len(printed) == 65
    return printed


def unrun(finished: Path, folder: Path) -> Path:
    return Path(shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("results")))


def test_a_demo_is_not_shown_on_a_study_of_ones_own(finished, tmp_path):
    folder = unrun(finished, tmp_path / "study")
    before = sorted(path for path in folder.rglob("*"))
    refused = mihc("demo", folder)
    assert refused.returncode == 2 and "is a study of your own" in refused.stderr and "mihc run" in refused.stderr
    assert sorted(path for path in folder.rglob("*")) == before


def test_CL2_a_file_that_two_endings_match_is_listed_once(tmp_path):
    write_picture(tmp_path / "a.ome.tif")  # *.ome.tif and *.tif
    write_picture(tmp_path / "b.tif", seed=1)
    assert mihc("init", tmp_path).returncode == 0
    lines = (tmp_path / "slides.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == ["a.ome.tif", "b.tif"]


def test_CL2_a_slide_named_twice_is_run_once(finished, tmp_path):
    done = mihc("run", unrun(finished, tmp_path / "study"), "--slides", "S01,S02,S01")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("S01: positives: computing: ") == 1


def test_CL5_a_decimal_comma_in_a_pixel_size_names_the_decimal_point(tmp_path):
    typed = mihc("inspect", write_picture(tmp_path / "a.ome.tif"), "--pixel-size-um", "0,25")
    assert typed.returncode == 2
    assert "decimal point" in typed.stderr
    assert "Traceback" not in typed.stderr
    slides = 'slide,file,patient,pixel_size_um\nS1,a.tif,P1,"0,25"\nS2,b.tif,P2,\nS3,c.tif,P3,\n'
    written = mihc("check", write_study(tmp_path / "study", slides=slides))
    assert written.returncode == 3
    assert "slides.csv, line 2, column pixel_size_um" in written.stdout
    assert "decimal point" in written.stdout


def test_CL6_a_pixel_size_that_the_slide_contradicts_is_refused(tmp_path):
    picture = write_picture(tmp_path / "a.ome.tif", pixel_size_um=0.5)
    typed = mihc("inspect", picture, "--pixel-size-um", "0.25")
    assert "cannot use this file yet:\n  pixel_size_um is 0.25 µm, but OME-XML PhysicalSize" in typed.stdout
    folder = write_study(tmp_path / "study", slides="slide,file,patient,pixel_size_um\nS1,../a.ome.tif,P1,0.25\n")
    written = mihc("check", folder)
    assert written.returncode == 3
    assert "slide S1" in written.stdout and "0.25" in written.stdout and "0.5" in written.stdout


@pytest.mark.parametrize(
    "name", ["two words", "new\nline", "emoji \N{MICROSCOPE}", "-dash", "it's $HOME; `x`", "a&b%c"]
)
def test_CL7_any_name_of_a_study_folder_works_and_what_is_printed_can_be_typed(finished, tmp_path, name):
    folder = unrun(finished, tmp_path / name)
    checked = mihc("check", "--", name, folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    command = checked.stdout.partition("Next: ")[2].rstrip("\n")
    assert command.startswith("mihc run ")
    typed = f"{quoted(sys.executable)} -m {command} --until positives"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", typed], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "results" / "cells" / "S01.parquet").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(
    ("word", "on_posix", "on_windows"),
    [
        ("S1", "S1", "S1"),
        ("B cell", '"B cell"', '"B cell"'),
        ("/data/my study", '"/data/my study"', '"/data/my study"'),
        ("C:\\data\\study", "'C:\\data\\study'", "C:\\data\\study"),
        ("C:\\my data\\", "'C:\\my data\\'", '"C:\\my data\\\\"'),
        ('a "b"', "'a \"b\"'", '"a \\"b\\""'),
        ("$x", "'$x'", '"$x"'),
        ("CD3+ & CD8+", '"CD3+ & CD8+"', '"CD3+ & CD8+"'),
        ("", "''", '""'),
    ],
)
def test_words_are_quoted_as_the_shell_of_each_system_takes_them(word, on_posix, on_windows):
    assert quoted(word, windows=False) == on_posix
    assert quoted(word, windows=True) == on_windows
    assert subprocess.run(["sh", "-c", f"printf %s {on_posix}"], capture_output=True, text=True).stdout == word
    if " " in word:  # where quotes are needed, they are those that Windows programs are started with
        assert on_windows == subprocess.list2cmdline([word])
    assert quoted_path("-x") == "./-x"


def test_CL9_a_changed_setting_recomputes_and_names_what_changed(finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    settings = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(settings.replace('"CD3+ CD8+"', '"CD3+ & !CD8+"'))
    done = mihc("run", folder)
    assert done.returncode == 0, done.stderr
    assert "S01: positives: computing: changed: phenotypes" in done.stderr, done.stderr


STUCK = """
import os, sys, time
import mihc.cli, mihc.pipeline
mihc.pipeline._propose = lambda job, row, done: (os.write(1, b"stuck\\n"), time.sleep(60))  # from two threads
sys.argv = ["mihc", "run", sys.argv[1]]
mihc.cli.main()
"""


def test_CL10_a_second_interrupt_ends_within_two_seconds(finished, digest, tmp_path):
    folder = unrun(finished, tmp_path / "study")
    run = subprocess.Popen(
        [sys.executable, "-c", STUCK, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "stuck\n"
    run.send_signal(signal.SIGINT)
    while "Stopping." not in run.stderr.readline():
        pass
    run.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, told = run.communicate(timeout=30)
    assert time.monotonic() - sent < 2
    assert run.returncode == 130
    assert "Traceback" not in told
    assert mihc("run", folder).returncode == 0
    assert mihc("digest", folder).stdout == digest


@pytest.mark.parametrize("verb", ["--help", "check", "run"])
def test_CL11_a_closed_pipe_ends_without_a_traceback(finished, tmp_path, verb):
    """The reader is gone before the first byte, so that every line meets a closed pipe."""
    folder = Path(shutil.copytree(finished, tmp_path / "study"))
    read, write = os.pipe()
    os.close(read)
    arguments = [verb] if verb == "--help" else [verb, str(folder)]
    run = subprocess.run([*MIHC, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    os.close(write)
    assert "Traceback" not in run.stderr and "Exception ignored" not in run.stderr, run.stderr
    assert "BrokenPipe" not in run.stderr
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("switches", "environment"),
    [
        (("-O",), {"PYTHONHASHSEED": "1"}),
        ((), {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "77"}),
        (("-O",), {"LC_ALL": "de_DE.UTF-8", "TZ": "Pacific/Chatham", "PYTHONHASHSEED": "random"}),
    ],
)
def test_CL12_switches_of_the_interpreter_locale_and_hash_seed_change_no_digit(
    finished, digest, tmp_path, switches, environment
):
    folder = unrun(finished, tmp_path / "study")
    done = mihc("run", folder, switches=switches, **environment)
    assert done.returncode == 0, done.stderr
    assert mihc("digest", folder, switches=switches, **environment).stdout == digest
