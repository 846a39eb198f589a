"""A new study from a folder of slides, step by step, as `mihc init`, `mihc check` and `mihc run` do it; without Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mihc
from mihc.study import SHEETS, Sheet

CLASSES, CELLS = "classes of annotations", "kinds of cells"
PAGES = (*SHEETS, CLASSES, CELLS)  # what is edited as a table
COLUMNS = {CLASSES: ("class", "tissue class"), CELLS: ("name", "is")}
CHOICES = {  # of a column; the first is for a new row
    "role": ("marker", "nuclei", "tumour", "autofluorescence", "ignore"),
    "compartment": ("cell", "nucleus", "cytoplasm"),
    "control": ("", "isotype", "unstained", "negative"),
    "tissue class": ("", "tumour", "stroma", "other", "excluded"),
}
STAGES = {
    "slide": "reading",
    "cells": "finding cells",
    "edits": "edited cells",
    "classifier": "tissue classifier",
    "outlines": "regions",
    "regions": "regions of the cells",
    "values": "thresholds",
    "positives": "positive cells",
    "study": "the study's tables",
    "statistics": "statistics",
    "robustness": "other plausible choices",
    "report": "report",
}


@dataclass
class Progress:
    """How far a run or a save is, told by its events."""

    slides: int
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    now: str = ""

    def tell(self, event: object) -> None:
        """Take in what a run says."""
        if event.message.startswith("failed: "):
            self.failed[event.slide] = event.message.removeprefix("failed: ")
        if event.stage == "done":
            self.done.add(event.slide)
        elif event.stage in STAGES:
            part = f", {event.done} of {event.total}" if event.total > 1 else ""
            self.now = f"{event.slide or 'the study'}: {STAGES[event.stage]}{part}"

    @property
    def words(self) -> str:
        """In a line."""
        return f"{len(self.done)} of {self.slides} slides done. {self.now}"


@dataclass
class NewStudy:
    """One folder of slides on its way to a study with results."""

    folder: Path
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)

    @property
    def is_begun(self) -> bool:
        """Whether the folder is a study already."""
        return (self.folder / "study.toml").is_file()

    @property
    def report(self) -> Path | None:
        """The report, once there is one."""
        path = self.folder / "results" / "report.html"
        return path if path.is_file() else None

    def begin(self, *, pseudonyms: bool = False) -> list[str]:
        """Write the study's files from what the slides say -> notes for the person; nothing that exists is changed."""
        made = mihc.study.init_study(self.folder, pseudonyms=pseudonyms)
        names = ", ".join(path.name for path in made.written)
        return [f"Wrote {names}.", *(note.replace("--pseudonyms", "the box above") for note in made.notes)]

    def page(self, name: str) -> Sheet:
        """One of PAGES as a table of texts."""
        if name in SHEETS:
            return mihc.study.read_sheet(self.folder, name)
        read = mihc.study.read_classes if name == CLASSES else mihc.study.read_phenotypes
        return Sheet(name, COLUMNS[name], tuple(read(self.folder).items()))

    def write(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write one of PAGES; rows without any text are left out."""
        kept = [tuple(cell.strip() for cell in row) for row in rows]
        kept = [row for row in kept if any(row)]
        if name in SHEETS:
            mihc.study.write_sheet(self.folder, Sheet(name, tuple(columns), tuple(kept)))
        elif name == CLASSES:
            mihc.study.write_classes(self.folder, dict(kept))
        else:
            mihc.study.write_phenotypes(self.folder, dict(kept))

    def check(self) -> list[mihc.errors.Problem]:
        """Every problem of the study, errors first."""
        return mihc.study.check_study(self.folder)

    def run(self, progress: Callable[[object], None] = lambda event: None) -> mihc.Results:
        """Run the whole flow; `stop` ends it, and the next run goes on from there. Raises as `mihc.run`."""
        self.stopping.clear()
        return mihc.run(mihc.read_study(self.folder), progress=progress, stopping=self.stopping)

    def stop(self) -> None:
        """End a run as soon as it can."""
        self.stopping.set()


def problems_in_words(problems: Sequence[mihc.errors.Problem]) -> str:
    """What a check found, in a sentence."""
    errors = sum(one.severity == "error" for one in problems)
    warnings = len(problems) - errors
    if errors:
        return f"{errors} problem{'s' * (errors > 1)} to solve before it can run, {warnings} to look at."
    return f"It can run. {warnings} warning{'s' * (warnings != 1)} to look at." if warnings else "It can run."


def results_in_words(results: mihc.Results) -> str:
    """What a run did, in a few lines."""
    computed = sum(step.why != "reused" for step in results.steps)
    lines = [f"Done: {results.slides - len(results.failed)} of {results.slides} slides, {computed} stages computed."]
    return "\n".join([*lines, *(f"FAILED {slide}: {what}" for slide, what in results.failed.items())])
