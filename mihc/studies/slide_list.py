"""slides.csv: one row per slide, or per scene of a slide."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mihc.errors import Problem
from mihc.studies.tables import TextTable, check_columns, number_in, read_table

FILE = "slides.csv"
NEEDED = ("slide", "patient")
COLUMNS = (
    "slide",
    "file",
    "patient",
    "panel",
    "scene",
    "z",
    "annotations",
    "pixel_size_um",
    "batch",
    "control",
    "cells",
)
CONTROLS = ("isotype", "unstained", "negative")
ANNOTATION_SUFFIXES = (".geojson", ".json", ".annotations", ".xml", ".zip", ".roi")
CELL_SUFFIXES = (".csv", ".csv.gz", ".parquet")
SLIDE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEVICE_NAMES = frozenset(["con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))])
PIXEL_SIZE_RANGE_UM = (0.05, 5.0)


@dataclass(frozen=True)
class SlideRow:
    """One row of slides.csv; paths are absolute."""

    slide: str  # id: [A-Za-z0-9_-]{1,64}, unique without case
    file: Path | None  # the picture, or
    patient: str  # "" only for a control
    panel: str = ""  # "" where panel.csv has one panel
    scene: str | None = None  # name or index of a scene, "all", or None where there is one
    z: str | None = None
    annotations: Path | None = None  # as given, or annotations/<slide>.*
    pixel_size_um: float | None = None  # None: from the file
    batch: str = ""
    control: str = ""  # "" | "isotype" | "unstained" | "negative": never counted for a patient
    cells: Path | None = None  # a table of cells instead of a picture

    @property
    def counts(self) -> bool:
        """Whether the slide counts for its patient."""
        return not self.control


def read_slides(folder: Path, panels: tuple[str, ...]) -> tuple[tuple[SlideRow, ...], list[Problem]]:
    """Read slides.csv; `panels` are the panel names that it may use.

    A row with a problem is among the rows too, so that the other checks of the study see it.
    """
    table, problems = read_table(folder / FILE)
    if table is None:
        return (), problems
    problems += check_columns(table, NEEDED, COLUMNS)
    if "file" not in table.columns and "cells" not in table.columns:
        problems.append(Problem(f"{FILE}, line 1", "there is neither a column file nor a column cells", "Add one."))
    if problems:
        return (), problems
    if not table.rows:
        return (), [Problem(FILE, "0 slides are listed: 0 files match", "Add a line per slide, or run: mihc init")]
    rows = []
    for index in range(len(table.rows)):
        reader = _RowReader(folder, table, index)
        rows.append(reader.read(panels))
        problems += reader.problems
    return tuple(rows), problems + _repeated(table, folder)


class _RowReader:
    """One line of slides.csv: each column with its own check, every problem kept."""

    def __init__(self, folder: Path, table: TextTable, index: int):
        self.folder, self.table, self.index = folder, table, index
        self.problems: list[Problem] = []

    def cell(self, column: str) -> str:
        return self.table.cell(self.index, column)

    def problem(self, column: str, what: str, fix: str) -> None:
        self.problems.append(Problem(self.table.place(self.index, column), what, fix))

    def read(self, panels: tuple[str, ...]) -> SlideRow:
        control = self._one_of("control", CONTROLS)
        file = self._path("file", lambda path: path.exists())
        cells = self._path("cells", lambda path: path.is_file() and path.name.lower().endswith(CELL_SUFFIXES))
        if bool(self.cell("file").strip()) == bool(self.cell("cells").strip()):
            both = "both are" if self.cell("file").strip() else "neither is"
            self.problem("file", f"one of file and cells is needed; {both} given", "Fill exactly one of them.")
        return SlideRow(
            slide=self._slide(),
            file=file,
            patient=self._patient(control),
            panel=self._panel(panels),
            scene=self.cell("scene").strip() or None,
            z=self.cell("z").strip() or None,
            annotations=self._annotations(),
            pixel_size_um=self._pixel_size(),
            batch=self.cell("batch").strip(),
            control=control,
            cells=cells,
        )

    def _slide(self) -> str:
        slide = self.cell("slide")
        if not SLIDE_ID.fullmatch(slide):
            what = f"slide id {slide!r} is blank" if not slide.strip() else f"slide id {slide!r} cannot name files"
            self.problem("slide", what, "Use 1 to 64 of the letters A-Z a-z, digits, _ and -.")
        elif slide.casefold() in DEVICE_NAMES:
            self.problem("slide", f"slide id {slide!r} is a device name in Windows", "Choose another, such as S_con.")
        return slide

    def _patient(self, control: str) -> str:
        patient = self.cell("patient")
        if not patient.strip() and not control:
            self.problem("patient", "the patient id is blank", "Fill it in; only a control may be without.")
        return patient if patient.strip() else ""

    def _panel(self, panels: tuple[str, ...]) -> str:
        panel = self.cell("panel").strip()
        if panel in panels or not panels:
            return panel
        if not panel and len(panels) == 1:
            return panels[0]
        named = ", ".join(name or "(without a name)" for name in panels)
        found = f"panel {panel!r} is not in panel.csv" if panel else "the slide's panel is not named"
        self.problem("panel", f"{found}; it has {named}", "Write one of these names.")
        return panel

    def _one_of(self, column: str, choices: tuple[str, ...]) -> str:
        found = self.cell(column).strip()
        if found and found not in choices:
            self.problem(column, f"{found!r}; needed one of {', '.join(choices)}, or nothing", "Correct the word.")
        return found

    def _pixel_size(self) -> float | None:
        text = self.cell("pixel_size_um")
        if not text.strip():
            return None
        low, high = PIXEL_SIZE_RANGE_UM
        try:
            size = number_in(text)
            if not (math.isfinite(size) and low <= size <= high):
                raise ValueError(f"{text!r} µm is implausible; needed {low} to {high} µm")
        except ValueError as error:
            self.problem("pixel_size_um", str(error), "Write the size of one pixel in µm, such as 0.325.")
            return None
        return size

    def _path(self, column: str, good: Callable[[Path], bool]) -> Path | None:
        text = self.cell(column)
        if not text.strip():
            return None
        path = self.folder / text
        if _resolved(path) is None:
            self.problem(column, f"{text[:60]!r}... cannot be the name of a file here", "Shorten or correct the path.")
            return None
        if _resolved(path).is_relative_to((self.folder / "results").resolve()):
            what = f"{text!r} lies in results/, which may be deleted at any time"
            self.problem(column, what, "Move the file out of results/.")
        elif not good(path):
            there = "is no CSV or parquet file" if path.exists() else "does not exist"
            self.problem(column, f"{text!r} {there}", f"Paths start at the study folder, {self.folder.name}/.")
        return path

    def _annotations(self) -> Path | None:
        if self.cell("annotations").strip():
            return self._path("annotations", lambda path: path.is_file())
        found = _annotations_of(self.folder, self.cell("slide"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            self.problem("annotations", f"several files annotate this slide: {names}", "Name one in annotations.")
        return found[0] if found else None


def _annotations_of(folder: Path, slide: str) -> list[Path]:
    """Files annotations/<slide>.<suffix>, in the order of the suffixes."""
    if not SLIDE_ID.fullmatch(slide):
        return []
    candidates = (folder / "annotations" / f"{slide}{suffix}" for suffix in ANNOTATION_SUFFIXES)
    return [path for path in candidates if path.is_file()]


def _resolved(path: Path) -> Path | None:
    """The path without links and dots; None when no file can have it (too long, links in a circle)."""
    try:
        path.exists()  # raises where the name is too long
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _repeated(table: TextTable, folder: Path) -> list[Problem]:
    """Slide ids, and pictures, that stand in two lines."""
    problems = []
    ids: dict[str, int] = {}
    pictures: dict[Path | None, list[int]] = {}
    for index in range(len(table.rows)):
        slide, file = table.cell(index, "slide"), table.cell(index, "file")
        first = ids.setdefault(slide.casefold(), index)
        if first != index and slide.strip():
            what = f"slide id {slide!r} is already in line {table.lines[first]}, as {table.cell(first, 'slide')!r}"
            problems.append(Problem(table.place(index, "slide"), what, "Ids must differ by more than their case."))
        if file.strip():
            pictures.setdefault(_resolved(folder / file), []).append(index)
    pictures.pop(None, None)
    for rows in pictures.values():
        problems += _repeated_scenes(table, rows)
    return problems


def _repeated_scenes(table: TextTable, rows: list[int]) -> list[Problem]:
    """One file may stand in several lines only with a different scene in each."""
    scenes = [table.cell(row, "scene").strip().casefold() for row in rows]
    return [
        Problem(
            table.place(row, "file"),
            f"the file is already in line {table.lines[rows[0]]}, and its scenes are not kept apart",
            "Remove the line, or write another scene in each.",
        )
        for position, (row, scene) in enumerate(zip(rows, scenes))
        if position and (scene in ("", "all") or scene in scenes[:position] or scenes[0] in ("", "all"))
    ]
