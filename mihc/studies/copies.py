"""The same cells in two lines of slides.csv: one file twice, copies of a file, one scene by two of its names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mihc.errors import Problem
from mihc.studies.cell_tables import is_of_one_slide
from mihc.studies.slide_list import FILE, SlideRow

SAMPLE_BYTES = 1 << 20
REMEDY = "Remove one of the two lines."
OUTLINES_REMEDY = "Export the annotations of each picture into a file of its own."
FEWEST_BYTES = 200  # an outline takes more; files without any are alike


def same_scene(one: tuple[str | None, str], other: tuple[str | None, str]) -> bool:
    """Whether two lines mean the same part of one file; each is (the word of slides.csv, the scene's name)."""
    words = [(word or "").strip().casefold() for word, _ in (one, other)]
    if all(word.isdecimal() for word in words):
        return int(words[0]) == int(words[1])  # two scenes of one name are told apart by their indices
    return "all" in words or one[1] == other[1]


def repeated_scenes(rows: Sequence[SlideRow], scenes: Mapping[str, str]) -> list[Problem]:
    """Lines that name one scene of one file by different words; `scenes` has the scene's name of opened slides."""
    of_file: dict[Path, list[SlideRow]] = defaultdict(list)
    for row in rows:
        if row.slide in scenes and row.scene is not None:
            of_file[row.file.resolve()].append(row)
    return [
        Problem(
            f"{FILE}, slide {row.slide}, column scene",
            f"scene {row.scene!r} of {row.file.name} is the scene {twin.scene!r} of slide {twin.slide}",
            REMEDY,
        )
        for group in of_file.values()
        for position, row in enumerate(group)
        for twin in group[:position]
        if row.scene.casefold() != twin.scene.casefold()  # else the list itself shows it
        and same_scene((row.scene, scenes[row.slide]), (twin.scene, scenes[twin.slide]))
    ]


def repeated_tables(rows: Sequence[SlideRow]) -> list[Problem]:
    """Tables of cells in two lines that no column `slide` divides between them."""
    of_table: dict[Path, list[SlideRow]] = defaultdict(list)
    for row in rows:
        if row.cells is not None and row.cells.is_file():
            of_table[row.cells.resolve()].append(row)
    return [
        Problem(
            f"{FILE}, slide {row.slide}, column cells",
            f"{row.cells.name} is the table of slide {group[0].slide} too, and has no column slide to divide it",
            "Remove the line, or add the column slide to the table.",
        )
        for group in of_table.values()
        if len(group) > 1 and is_of_one_slide(group[0].cells)
        for row in group[1:]
    ]


def same_content(rows: Sequence[SlideRow]) -> list[Problem]:
    """Different files with the same bytes: one slide would count twice."""
    by_size: dict[tuple[str, int, ...], list[tuple[SlideRow, Path]]] = defaultdict(list)
    for path, (row, column) in _files(rows).items():
        sizes = tuple(part.stat().st_size for part in _parts(path))
        if sum(sizes):  # empty files are refused for being empty
            by_size[column, *sizes].append((row, path))
    problems = []
    for (column, *_), group in by_size.items():
        for position, (row, path) in enumerate(group):
            twin = next((pair for pair in group[:position] if _same_bytes(pair[1], path)), None)
            if twin is not None and (column == "file" or is_of_one_slide(path)):
                what = duplicate(twin[0], row)
                problems.append(Problem(f"{FILE}, column {column}", what, REMEDY))
    return problems


def same_annotations(rows: Sequence[SlideRow]) -> list[Problem]:
    """Annotation files of two pictures with the same bytes: outlines are of one picture's pixels."""
    by_size: dict[int, list[SlideRow]] = defaultdict(list)
    for row in rows:
        if row.annotations is not None and row.annotations.is_file():
            by_size[row.annotations.stat().st_size].append(row)
    problems = []
    for size, group in by_size.items():
        for position, row in enumerate(group):
            earlier = (one for one in group[:position] if one.annotations.resolve() != row.annotations.resolve())
            twin = next((one for one in earlier if _same_bytes(one.annotations, row.annotations)), None)
            if twin is not None and size >= FEWEST_BYTES:
                what = f"{row.annotations.name} is a copy of {twin.annotations.name}, slide {twin.slide}"
                problems.append(Problem(f"slide {row.slide}, annotations", what, OUTLINES_REMEDY, "warning"))
    return problems


def duplicate(one: SlideRow, other: SlideRow) -> str:
    """Say that two slides have one content."""
    names = [(row.file or row.cells).name for row in (one, other)]
    return f"duplicate content {one.slide}={other.slide}: {' and '.join(names)} are the same"


def _files(rows: Sequence[SlideRow]) -> dict[Path, tuple[SlideRow, str]]:
    """Every picture and table that is there, once, with the line and the column that name it."""
    named = [(row.file or row.cells, row, "file" if row.file else "cells") for row in rows]
    return {path.resolve(): (row, column) for path, row, column in named if path is not None and path.exists()}


def _parts(path: Path) -> list[Path]:
    """The files of a slide, in order: itself, or everything in an OME-Zarr folder."""
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


def _same_bytes(one: Path, other: Path) -> bool:
    """Compare from both ends first, so that slides of one size that differ are told apart at once."""
    pairs = list(zip(_parts(one), _parts(other)))
    return all(_ends(a) == _ends(b) for a, b in pairs) and all(
        x == y for a, b in pairs for x, y in zip(_blocks(a), _blocks(b))
    )


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(max(0, path.stat().st_size - 4096))
        return start, file.read(4096)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(SAMPLE_BYTES):
            yield block
