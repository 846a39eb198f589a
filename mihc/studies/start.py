"""A study's files, written from a folder of slides: `mihc init`.

Nothing that exists is overwritten, and everything that was guessed is meant to be read over by a person.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from mihc.errors import InputError
from mihc.studies.clinical import WORKBOOK as CLINICAL_WORKBOOK
from mihc.studies.first_panel import COLUMNS as PANEL_COLUMNS
from mihc.studies.first_panel import first_panel, panel_notes
from mihc.studies.slide_list import COLUMNS as SLIDE_COLUMNS
from mihc.studies.slide_list import DEVICE_NAMES
from mihc.studies.template import study_toml

SUFFIXES = (".czi", ".qptiff", ".ome.tiff", ".ome.tif", ".tiff", ".tif")
FOLDER_SUFFIXES = (".ome.zarr", ".zarr")
SEGMENTATION_MAPS = "_binary_seg_maps.tif"  # inForm's, beside its pictures
NOT_SLIDES = frozenset(["results", "review", "annotations", "truth"])


class InitReport(NamedTuple):
    """What `init_study` did."""

    written: tuple[Path, ...]
    notes: tuple[str, ...]  # sentences for the person who goes on from here


@dataclass(frozen=True)
class _Found:
    """A picture in the folder: one row of slides.csv."""

    file: str  # relative to the study folder
    identifier: str  # of the file, cleaned
    scene: str = ""
    number: int = 0  # of the scene, from 1; 0 where the file has one
    channels: tuple[str, ...] | None = None  # None: the file cannot be read
    panel: str = ""

    @property
    def slide(self) -> str:
        return f"{self.identifier[:58]}_s{self.number}" if self.number else self.identifier


def init_study(folder: str | Path, *, pseudonyms: bool = False) -> InitReport:
    """Write study.toml, panel.csv, slides.csv, clinical.csv and annotations/ for a folder of slides.

    Slides are looked for in the folder and one level below, but in results/, review/ and annotations/.

    Parameters
    ----------
    folder
        Where the slides lie.
    pseudonyms
        Name slides S001, S002, ... instead of after their files; slides.csv is then the only key to who they are, and
        readable by its owner only.

    Returns
    -------
    InitReport
        The paths written, and notes to show: what was kept, what was guessed, what cannot be read.

    Raises
    ------
    InputError
        When there is no folder, or no slide in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("there is no such folder", place=str(folder), fix="Name the folder that holds the slides.")
    paths = find_slides(folder)
    if not paths:
        endings = " ".join(["*" + suffix for suffix in (*SUFFIXES, *FOLDER_SUFFIXES)])
        raise InputError(f"0 files match {endings}", place=str(folder), fix="Name the folder that holds the slides.")
    found, notes = _read_all(folder, paths, pseudonyms)
    found, panels, panel_remarks = _with_panels(found)
    glow = dict.fromkeys(row["marker"] for row in panels if row["role"] == "autofluorescence")
    texts = {
        "study.toml": study_toml(folder.resolve().name, autofluorescence=tuple(glow)),
        "panel.csv": _csv(PANEL_COLUMNS if any(row["panel"] for row in panels) else PANEL_COLUMNS[1:], panels),
        "slides.csv": _csv(SLIDE_COLUMNS[:-1], [_slide_row(each) for each in found]),
        "clinical.csv": _csv(("patient",), [{"patient": name} for name in dict.fromkeys(f.identifier for f in found)]),
    }
    if (folder / CLINICAL_WORKBOOK).exists():
        del texts["clinical.csv"]
        notes.append(f"{CLINICAL_WORKBOOK} is the clinical table: no clinical.csv is written beside it.")
    written, kept = _write(folder, texts)
    if pseudonyms and folder / "slides.csv" in written:
        (folder / "slides.csv").chmod(0o600)
    notes += [f"{path.name} was there before and is kept as it is." for path in kept]
    return InitReport(
        tuple(written), tuple([*notes, *panel_remarks, *_next_steps(pseudonyms, folder / "slides.csv" in written)])
    )


def find_slides(folder: Path) -> list[Path]:
    """Find the slides in a folder and one level below, sorted."""
    found = []
    for path in sorted(folder.iterdir()):
        if _is_slide(path):
            found.append(path)
        elif path.is_dir() and not path.name.startswith(".") and path.name not in NOT_SLIDES:
            found += [below for below in sorted(path.iterdir()) if _is_slide(below)]
    return found


def _is_slide(path: Path) -> bool:
    if path.name.startswith(".") or path.name.endswith(SEGMENTATION_MAPS):
        return False
    return path.name.lower().endswith(FOLDER_SUFFIXES if path.is_dir() else SUFFIXES)


def clean_id(name: str) -> str:
    """Turn a file's name into a slide id: its ending and every other character than A-Z a-z 0-9 _ - removed."""
    ending = next((s for s in (*SUFFIXES, *FOLDER_SUFFIXES) if name.lower().endswith(s)), "")
    ascii_only = unicodedata.normalize("NFKD", name[: len(name) - len(ending)]).encode("ascii", "ignore").decode()
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_only).strip("_-")[:64] or "slide"
    return f"S_{cleaned}" if cleaned.casefold() in DEVICE_NAMES else cleaned


def _unique(names: Iterable[str]) -> list[str]:
    """Names with a number appended where they repeat without case."""
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name[:60]}-{number}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique


def _read_all(folder: Path, paths: Sequence[Path], pseudonyms: bool) -> tuple[list[_Found], list[str]]:
    if pseudonyms:
        identifiers = [f"S{number:03d}" for number in range(1, len(paths) + 1)]
    else:
        identifiers = _unique(clean_id(path.name) for path in paths)
    found, notes = [], []
    for path, identifier in zip(paths, identifiers):
        scenes, remarks = _read_one(path, _relative(path, folder), identifier)
        found += scenes
        notes += remarks
    return found, notes


def _relative(path: Path, folder: Path) -> str:
    """Path as slides.csv has it; a spreadsheet must not take it for a formula."""
    text = path.relative_to(folder).as_posix()
    return f"./{text}" if text[0] in "=+-@" else text


def _read_one(path: Path, file: str, identifier: str) -> tuple[list[_Found], list[str]]:
    """The rows of one file, and what a person has to add before it can be used."""
    from mihc.slide import open_slide, read_contents

    try:
        scenes = read_contents(path).scenes
    except InputError as error:
        return [_Found(file, identifier)], [f"{file} cannot be read: {error.what}. {error.fix}".strip()]
    names = [scene.name for scene in scenes]
    if len(scenes) == 1:
        found = [_Found(file, identifier, channels=scenes[0].channels)]
    else:
        found = [
            _Found(file, identifier, _scene_text(names, index), index + 1, scene.channels)
            for index, scene in enumerate(scenes)
        ]
    notes = []
    for each in found:
        try:
            open_slide(path, scene=each.scene or None).close()
        except InputError as error:
            notes.append(f"{each.slide} ({file}): {error.what}\n    {error.fix}".rstrip())
    return found, notes


def _scene_text(names: Sequence[str], index: int) -> str:
    """A scene's name where it is one of a kind, else its index."""
    name = names[index]
    return name if name.strip() and names.count(name) == 1 and name.casefold() != "all" else str(index)


def _with_panels(found: Sequence[_Found]) -> tuple[list[_Found], list[dict[str, str]], list[str]]:
    """Slides with the same channels, in whatever order, share a panel."""
    kinds: dict[tuple[str, ...], tuple[str, ...]] = {}
    for each in found:
        if each.channels is not None:
            kinds.setdefault(_kind(each.channels), each.channels)
    names = {kind: f"panel{number}" if len(kinds) > 1 else "" for number, kind in enumerate(kinds, 1)}
    rows, notes = [], []
    for kind, channels in kinds.items():
        panel = first_panel(channels, panel=names[kind])
        rows += panel
        notes += panel_notes(panel, f"panel.csv, {names[kind]}" if names[kind] else "panel.csv")
    if len(kinds) > 1:
        notes.append(f"The slides have {len(kinds)} different lists of channels: panel.csv has a panel for each.")
    placed = [replace(each, panel=names[_kind(each.channels)]) if each.channels else each for each in found]
    return placed, rows, notes


def _kind(channels: tuple[str, ...]) -> tuple[str, ...]:
    named = all(name.strip() for name in channels) and len(set(channels)) == len(channels)
    return tuple(sorted(channels)) if named else ("by position", *channels)


def _slide_row(found: _Found) -> dict[str, str]:
    return {
        "slide": found.slide,
        "file": found.file,
        "patient": found.identifier,
        "panel": found.panel,
        "scene": found.scene,
    }


def _csv(columns: Sequence[str], rows: Iterable[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(folder: Path, texts: dict[str, str]) -> tuple[list[Path], list[Path]]:
    written, kept = [], []
    for name, text in texts.items():
        path = folder / name
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
            written.append(path)
        except FileExistsError:
            kept.append(path)
    if (folder / "annotations").exists():
        kept.append(folder / "annotations")
    else:
        (folder / "annotations").mkdir()
        written.append(folder / "annotations")
    return written, kept


def _next_steps(pseudonyms: bool, named_now: bool) -> list[str]:
    if pseudonyms:
        ids = "Slides are named S001, S002, ...; slides.csv is the only key to their files: keep it to yourself."
    else:
        ids = "Slide ids come from file names and may identify patients; --pseudonyms names them S001, S002, ..."
    fill = "Fill in: the patient of each slide in slides.csv, markers and roles in panel.csv, outcomes in clinical.csv."
    return [ids, fill] if named_now else [fill]
