"""Reading and comparing the cases of a folder of R's answers (format: tests/reference/README.md)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

PLANTED = {"Inf": math.inf, "-Inf": -math.inf, "NaN": math.nan, "NA": math.nan}
UNCOUNTED = ("id", "description", "r_call", "warnings", "notes", "compare", "tol", "error", "input", "args", "expected")


@dataclass
class Compared:
    """One case's comparisons."""

    case: dict
    folder: Path
    failures: list[str] = field(default_factory=list)
    worst: float = 0.0  # |got - want| / max(1, |want|) of values at the case's own tolerance
    worst_drawn: float = 0.0  # the same of values that R drew by simulation and that name their own tolerance
    values: int = 0

    @property
    def args(self) -> dict:
        return self.case["args"] or {}

    @property
    def input(self) -> dict:
        return self.case["input"] or {}

    @property
    def expected(self) -> dict:
        return self.case["expected"]

    @property
    def tol(self) -> float:
        return (
            self.case["tol"] if isinstance(self.case["tol"], (int, float)) else 1e-6
        )  # one case explains itself there

    def same(self, what: str, got: object, want: object, tol: float | None = None) -> None:
        """Compare numbers, texts, truth values or lists of them; {"value": ..., "tol": ...} has its own tolerance."""
        if isinstance(want, dict) and set(want) >= {"value", "tol"}:
            want, tol = want["value"], want["tol"]
        if isinstance(want, list) and want and not isinstance(got, (list, tuple)):
            got = [got]
        if isinstance(want, list) and (want or isinstance(got, (list, tuple))):
            self.values += 1
            if len(got) != len(want):
                self.fail(what, got, want)
                return
            for place, (one, other) in enumerate(zip(got, want, strict=True)):
                self.same(f"{what}[{place}]", one, other, tol)
        elif isinstance(want, (bool, str)) and want not in PLANTED:
            self.values += 1
            if got != want:
                self.fail(what, got, want)
        else:
            self._same_number(what, got, number(want), tol)

    def _same_number(self, what: str, got: object, want: float, tol: float | None) -> None:
        self.values += 1
        found = math.nan if got is None else float(got)
        if math.isnan(want) or math.isinf(want) or not math.isfinite(found):
            if not (found == want or (math.isnan(found) and math.isnan(want))):
                self.fail(what, found, want)
            return
        error = abs(found - want) / max(1.0, abs(want))
        if tol is None:
            self.worst = max(self.worst, error)
        else:
            self.worst_drawn = max(self.worst_drawn, error)
        if error > (self.tol if tol is None else tol):
            self.fail(what, found, want)

    def true(self, what: str, holds: bool) -> None:
        self.values += 1
        if not holds:
            self.failures.append(what)

    def fail(self, what: str, got: object, want: object) -> None:
        self.failures.append(f"{what}: got {shown(got)}, want {shown(want)}")

    def knows(self, what: str, found: Iterable[str], known: Iterable[str]) -> None:
        """A key that this adapter does not know is a failure, not something to pass over."""
        unknown = sorted(set(found) - set(known))
        if unknown:
            self.failures.append(f"{what} not known here: {', '.join(unknown)}")

    def table(self) -> pd.DataFrame:
        """The case's table: a file beside the cases, numbers read exactly."""
        with (self.folder / self.input["file"]).open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return pd.DataFrame({name: column([row[name] for row in rows]) for name in rows[0]})


def column(texts: list[str]) -> list[float] | list[str | None]:
    """All numbers, or all text; an empty field is missing."""
    try:
        return [float(text) if text not in ("", "NA") else math.nan for text in texts]
    except ValueError:
        return [text or None for text in texts]


def number(value: object) -> float:
    if value is None or value == [] or value == {}:
        return math.nan
    return PLANTED[value] if isinstance(value, str) else float(value)


def numbers(values: Iterable) -> list[float]:
    return [number(value) for value in values]


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value!r:.120}"


def families(folder: Path) -> dict[str, list[dict]]:
    """Every family of a folder and its cases, by the name that the file gives."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "cases" in content:
            found[content.get("family", path.stem)] = [complete(case) for case in content["cases"]]
    return found


def complete(case: dict) -> dict:
    """A case with every key of the format, so that what is left out means nothing asked."""
    return {
        "args": {}, "input": {}, "expected": None, "error": None, "tol": 1e-6, "compare": True, "warnings": [], **case
    }  # fmt: skip
