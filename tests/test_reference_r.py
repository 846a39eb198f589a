"""R's answers in tests/reference, by the adapter that `make reference` runs on other folders of the same format."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from reference_cases import families, number
from reference_r import BY_NAME
from reference_run import compared, main

from mihc import statistics

HERE = Path(__file__).parent / "reference"
CASES = [(family, case) for family, cases in families(HERE).items() for case in cases]


@pytest.mark.parametrize(("family", "case"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1]['id']}") for pair in CASES])
def test_r_says_the_same(family, case):
    found = compared(family, case, HERE)
    assert found.failures == [], case["r_call"]
    assert found.values > 0


def test_all_thirteen_families_are_here():
    assert set(families(HERE)) == set(BY_NAME) and len(BY_NAME) == 13
    assert all(case["r_call"] for _, case in CASES)


# ---- the adapter can fail


def numbers_within(value, path=()):
    """Where a nested expected value holds numbers that are compared."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("tol", "B", "times", "probs", "tau", "r_printed", "iterations", "exactRankTests"):
                yield from numbers_within(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from numbers_within(inner, (*path, place))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


@pytest.mark.parametrize("family", sorted(BY_NAME))
def test_a_changed_number_is_found(family):
    """Every number of one case of each family, moved a little, fails."""
    asked = (c for c in families(HERE)[family] if c["compare"] and not c["error"])
    case = next(c for c in asked if list(numbers_within(c["expected"])))
    if family == "pipeline":
        case = {**case, "expected": case["expected"][2:4]}
        places = [path for path in numbers_within(case["expected"]) if not str(path[-1]).endswith(("BH", "holm"))]
    else:
        places = list(numbers_within(case["expected"]))
    assert places
    for path in places[:: max(1, len(places) // 25)]:
        moved = copy.deepcopy(case)
        inner = moved["expected"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = inner[path[-1]] + 0.05 * max(1.0, abs(inner[path[-1]]))
        assert compared(family, moved, HERE).failures, path


def test_what_the_adapter_does_not_know_is_a_failure():
    case = families(HERE)["binom"][0]
    assert "jeffreys" in " ".join(
        compared("binom", {**case, "expected": {**case["expected"], "jeffreys": 1}}, HERE).failures
    )
    assert "mid_p" in " ".join(compared("binom", {**case, "args": {**case["args"], "mid_p": True}}, HERE).failures)
    assert "not known" in compared("cmprsk", case, HERE).failures[0]


def test_a_number_where_r_refuses_is_a_failure():
    case = families(HERE)["binom"][0]
    assert compared("binom", {**case, "error": "R refuses"}, HERE).failures


def test_the_command_prints_every_family_and_fails_with_the_first_failing_case(tmp_path, capsys):
    folder = shutil.copytree(HERE, tmp_path / "answers")
    for path in folder.glob("*.json"):
        if path.stem not in ("simon", "boxplot"):
            path.unlink()
    assert main(folder) == 0
    assert re.search(r"simon +8 / 8 ", capsys.readouterr().out)
    content = json.loads((folder / "simon.json").read_text(encoding="utf-8"))
    content["cases"][0]["expected"]["alpha"] = 0.04
    (folder / "simon.json").write_text(json.dumps(content), encoding="utf-8")
    assert main(folder) == 1
    said = capsys.readouterr().out
    assert re.search(r"simon +7 / 8 ", said) and "alpha: got 0.049865" in said
    assert main(tmp_path) == 1


def test_the_limits_of_an_infinite_coefficient_are_the_likelihoods_own_without_the_scripts_bound():
    """By hand: 4 events, all with x = 1 of 5 and 5: l(c) = 4c - sum log(k e^c + 5), its limit -log(5 4 3 2)."""
    time, event, x = range(1, 11), [1] * 4 + [0] * 6, [1.0] * 5 + [0.0] * 5
    (term,) = statistics.cox(time, event, x)
    c = math.log(term.profile_low)
    fall = -math.log(120) - (4 * c - sum(math.log(k * math.exp(c) + 5) for k in (5, 4, 3, 2)))
    assert 2 * fall == pytest.approx(3.841458820694124, rel=1e-7)
    assert term.flag == "infinite +" and math.isnan(term.estimate) and math.isinf(term.profile_high)
    assert "2.54 to infinity" in term.note
    want = next(c for c in families(HERE)["coxph"] if c["id"] == "edge_separation")["expected"]["profile_ci"]
    assert term.profile_low == pytest.approx(number(want["hr_lower"]), rel=1e-4)
