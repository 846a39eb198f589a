"""Each adapter of a trained model, and SpatialData, in an environment of its own, made by pip: minutes each.

The tests themselves are in tests/adapters/check_<method>.py; they hear every attempt to reach the network and fail.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKS = ROOT / "tests" / "adapters"
METHODS = ("stardist", "instanseg", "cellpose")


def environment(method: str) -> Path:
    """The Python of .venv-<method>, which `make clean` removes; made again when what it needs has changed."""
    folder = ROOT / f".venv-{method}"
    needs = CHECKS / f"{method}.txt"
    stamp, wanted = folder / "needs.txt", needs.read_text() + (ROOT / "pyproject.toml").read_text()
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not stamp.is_file() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "-r", str(needs)], check=True, cwd=ROOT)
        stamp.write_text(wanted)
    return python


def run_check(name: str) -> None:
    options = ["-q", "-c", "none.ini", "--rootdir", ".", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning"]
    command = [environment(name), "-m", "pytest", *options, f"check_{name}.py"]
    done = subprocess.run(command, cwd=CHECKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_loads_scales_and_owns_in_its_own_environment(method):
    run_check(method)


@pytest.mark.slow
def test_spatialdata_reads_and_validates_what_is_exported():
    run_check("spatialdata")
