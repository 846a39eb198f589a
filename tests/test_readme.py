"""The README keeps what it promises: its example runs, its links lead somewhere, its verbs exist."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from study_folders import errors_of, write_picture

from mihc.cli import app
from mihc.study import read_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    return code


def test_the_example_runs_as_printed_and_finds_what_was_planted(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    made: dict[str, object] = {}
    exec(compile(example(), "README.md", "exec"), made)
    truth = pd.read_csv("sample_slides/truth/nests.cells.csv")
    made["slide"].close()
    assert capsys.readouterr().out.startswith(f"{made['positive'].sum()} of {len(made['table'])} cells are CD3+")
    assert len(made["table"]) == pytest.approx(len(truth), rel=0.10)
    assert abs(int(made["positive"].sum()) - int(truth["CD3_positive"].sum())) <= 3


def test_the_example_has_eight_lines_after_the_import():
    lines = [line for line in example().splitlines() if line]
    assert lines[0] == "import mihc"
    assert len(lines) == 1 + 8


def worked_study(folder: Path) -> Path:
    """The study that the README fills in, its two tables side by side in one block, with slides of those channels."""
    told = README.split("## A study of your own")[1]
    (tables,) = re.findall(r"```text\n(.*?)```", told, flags=re.DOTALL)
    names, *lines = [line for line in tables.splitlines() if line.strip()]
    width = names.index("clinical.csv")
    panel, clinical = ([line[part].strip() for line in lines] for part in (slice(width), slice(width, None)))
    assert names.split() == ["panel.csv", "clinical.csv"] and len(panel) == 4 and panel[0].startswith("channel,")
    (settings,) = re.findall(r"```toml\n *# study.toml\n(.*?)```", told, flags=re.DOTALL)
    folder.mkdir()
    (folder / "panel.csv").write_text("\n".join(panel) + "\n")
    (folder / "clinical.csv").write_text("\n".join(filter(None, clinical)) + "\n")
    (folder / "study.toml").write_text(settings)
    (folder / "slides.csv").write_text("slide,file,patient\nS01,S01.ome.tif,P01\nS02,S02.ome.tif,P02\n")
    for number, name in enumerate(("S01", "S02")):
        channels = [line.split(",")[0] for line in panel[1:]]
        write_picture(folder / f"{name}.ome.tif", channels=channels, seed=number)
    return folder


def test_the_worked_example_of_a_study_has_no_error(tmp_path):
    folder = worked_study(tmp_path / "study")
    assert errors_of(folder, open_slides=True) == []
    settings = read_study(folder).settings
    assert (settings.study.name, list(settings.outcomes), settings.cox_covariates) == ("ESCC pilot", ["PFS"], ("ecog",))
    assert settings.phenotypes == {"B cell": "CD20+ PanCK-"}
    for name, wrong in (("study.toml", ("pfs_event", "pfs_evnt")), ("panel.csv", ("Opal 570", "Opal 690"))):
        whole = (folder / name).read_text()
        (folder / name).write_text(whole.replace(*wrong))  # the check that finds nothing does look
        assert errors_of(folder, open_slides=True)
        (folder / name).write_text(whole)


def test_every_verb_of_the_readme_exists_and_every_verb_is_in_the_readme():
    told = set(re.findall(r"^\| `mihc (\w+)", README, flags=re.MULTILINE))
    assert told == {command.callback.__name__ for command in app.registered_commands}


def test_every_link_and_picture_of_the_readme_leads_to_a_file():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_command_of_the_makefile_that_the_readme_names_exists():
    named = re.findall(r"make (\w[\w-]*)", README)
    rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(named) <= set(rules)
