"""The files of a study as tables of texts that people edit: read as they are, whatever is wrong with them, and written.

Nothing is judged here: `check_study` does that, as for files that were typed.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mihc.errors import AnnotationError, InputError
from mihc.regions import class_of, read_annotations
from mihc.stores.files import replace_file, told_plainly
from mihc.studies.tables import read_table
from mihc.studies.toml_writing import FILE, with_key, with_table

SHEETS = ("slides.csv", "panel.csv", "clinical.csv")
NOT_SAID = ""  # of a class of annotations that nothing maps yet


@dataclass(frozen=True)
class Sheet:
    """A table of a study folder, all text."""

    name: str  # of SHEETS
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_sheet(folder: str | Path, name: str) -> Sheet:
    """Read slides.csv, panel.csv or clinical.csv as it stands, ids and numbers as they were typed.

    Raises
    ------
    InputError
        When it is not there or no table; the message says where.
    """
    if name not in SHEETS:
        raise ValueError(f"{name} is none of {SHEETS}")
    table, problems = read_table(Path(folder) / name)
    if table is None:
        raise InputError(problems[0].what, place=problems[0].place, fix=problems[0].fix)
    return Sheet(name, table.columns, table.rows)


def write_sheet(folder: str | Path, sheet: Sheet) -> None:
    """Write a table whole or not at all, as UTF-8 with commas; who may read the file stays as it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sheet.columns)
    writer.writerows(sheet.rows)
    _replace(Path(folder) / sheet.name, text.getvalue())


def read_classes(folder: str | Path) -> dict[str, str]:
    """What the classes of a study's annotation files mean: class -> tumour, stroma, other, excluded, or NOT_SAID.

    Those of study.toml come first, then those that the files have; a class that everybody means alike ("Tumor") has
    its meaning without being in study.toml. Files that cannot be read are passed over: `check_study` names them.
    """
    typed = {str(name): str(value) for name, value in _section(folder, "regions").get("classes", {}).items()}
    found = dict.fromkeys(label for path in _annotation_files(Path(folder)) for label in _labels(path))
    return typed | {label: class_of(label, typed) or NOT_SAID for label in found if label not in typed}


def write_classes(folder: str | Path, classes: Mapping[str, str]) -> None:
    """Write what the classes of annotation files mean into study.toml; those without a meaning are left out.

    Raises
    ------
    InputError
        When study.toml is written in a way in which they cannot be set by themselves.
    """
    said = {name: meaning for name, meaning in classes.items() if name.strip() and meaning}

    def changed(text: str) -> str:
        try:
            return with_key(text, "regions", "classes", said)
        except InputError:
            return with_table(text, "regions.classes", said)

    _rewrite(folder, changed)


def read_phenotypes(folder: str | Path) -> dict[str, str]:
    """The kinds of cells that study.toml names: name -> expression, in their order."""
    return {str(name): str(text) for name, text in _section(folder, "phenotypes").items()}


def write_phenotypes(folder: str | Path, phenotypes: Mapping[str, str]) -> None:
    """Write the kinds of cells into study.toml; those without a name are left out. Raises as `write_classes`."""
    named = {name: text for name, text in phenotypes.items() if name.strip()}
    _rewrite(folder, lambda text: with_table(text, "phenotypes", named))


def write_region_source(folder: str | Path, source: str) -> None:
    """Write where regions come from into study.toml. Raises as `write_classes`."""
    _rewrite(folder, lambda text: with_key(text, "regions", "source", source))


def _annotation_files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in (folder / "annotations").glob("*") if path.is_file())


def _labels(path: Path) -> list[str]:
    try:
        regions, _ = read_annotations(path, pixel_size_um=1.0, repair="even-odd")
    except AnnotationError:
        return []
    return [region.tissue_class or region.name for region in regions]


def _section(folder: str | Path, name: str) -> Mapping[str, object]:
    try:
        section = tomllib.loads(_text(folder)).get(name, {})
    except ValueError as error:
        raise InputError(f"is not valid TOML: {error}", place=FILE, fix="Repair it in a text editor.") from None
    return section if isinstance(section, dict) else {}


def _text(folder: str | Path) -> str:
    try:
        return (Path(folder) / FILE).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", place=FILE, fix="Begin a new study in this folder.") from None


def _rewrite(folder: str | Path, change: Callable[[str], str]) -> None:
    before = _text(folder)
    after = change(before)
    if after != before:
        _replace(Path(folder) / FILE, after)


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode if path.exists() else None
    with told_plainly(path.parent):
        replace_file(path, text.encode())
        if mode is not None:
            path.chmod(mode & 0o777)
