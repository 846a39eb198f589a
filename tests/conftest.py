"""Settings of the tests, and the small study that several files of them look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no defect: nothing is timed here (speed lives in benchmarks/). `make test` tries the same examples
# every time, so that it tells of the change at hand; `make test-all` looks for new ones.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("untimed", **UNTIMED)
settings.register_profile("repeatable", **UNTIMED, derandomize=True)

collect_ignore = ["adapters"]  # they run in environments of their own, see test_adapters.py


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("repeatable" if config.option.markexpr == "not slow" else "untimed")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """A drawn study of three patients, not to be written to."""
    from mihc.synthetic import draw_study

    return draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=3, seed=5, size_px=(512, 512))


@pytest.fixture(scope="session")
def finished(drawn, tmp_path_factory) -> Path:
    """The same with its results, not to be written to."""
    from mihc.pipeline import run
    from mihc.study import read_study

    folder = tmp_path_factory.mktemp("finished") / "study"
    shutil.copytree(drawn, folder)
    run(read_study(folder))
    return folder


@pytest.fixture(scope="session")
def study(finished):
    """The same, read."""
    from mihc.study import read_study

    return read_study(finished)


@pytest.fixture(scope="session")
def exported(study, tmp_path_factory):
    """The folder of its export in a format, each made once, not to be written to."""
    from mihc.export import export_study

    made: dict[str, Path] = {}

    def folder(to: str) -> Path:
        if to not in made:
            made[to] = export_study(study, to=to, out=tmp_path_factory.mktemp("exports") / to).folder
        return made[to]

    return folder
