"""The README keeps what it promises: its example runs, its links lead somewhere, its verbs exist."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from mihc.cli import app

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
