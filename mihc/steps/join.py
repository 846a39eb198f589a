"""The cells of a measured slide put together: what was measured, where the cells lie, a review's edits, and the calls.

cells/<slide>.parquet   row groups of the cells that were measured together; where no cell was edited, their columns
                        are the stored ones, byte for byte, beside those of the calls

A row group hangs on what the calls are made by and on the edits of its own cells. The record of the table keeps both,
so that the next table copies every row group whose two are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mihc import store
from mihc.errors import InputError, MihcError
from mihc.results import cells_file
from mihc.stages import Job
from mihc.steps.correct import correction_columns
from mihc.steps.edit import Edits, edits_of
from mihc.steps.place import regions_table
from mihc.steps.segment import measured_table
from mihc.store import KeptRows, StoredRows, Transaction, hash_json
from mihc.study import SlideRow

PLACES = ("region", "tissue_class", "distance_to_margin_um")
FIRST = ("slide", "cell", "x_um", "y_um", "nucleus_area_um2", "cell_area_um2")  # columns, before the places
NAMES = ("region", "tissue_class")  # read as categories: a slide has few
Columns = dict[str, Path | None]  # of a table, in its order -> the stored table that has it; None: it is new


def placed_cells(job: Job, row: SlideRow) -> pd.DataFrame:
    """The cells with their regions and the edits; of what was measured, only what calls and counts need."""
    wanted = {*FIRST[1:], *correction_columns(job.study.panel_of(row))}
    path = job.store.path(measured_table(row.slide))
    cells = store.read_cells(path, columns=[name for name in store.cell_columns(path) if name in wanted])
    places = job.store.path(regions_table(row.slide))
    placed = store.read_cells(places, columns=["cell", *PLACES, "flags"], categories=NAMES)
    if not cells["cell"].equals(placed["cell"]):
        raise InputError("cells and regions are of different runs", place=row.slide, fix="Type the same command again.")
    both = {name: one[name] for one in (placed, cells) for name in one}
    cells, edits = pd.DataFrame(both, copy=False), edits_of(job, row.slide)
    return cells if edits is None else edits.over(cells)


def write_cells_table(job: Job, slide: str, transaction: Transaction, table: pd.DataFrame, made_by: str) -> None:
    """Write a slide's cells table.

    Parameters
    ----------
    job, slide, transaction
        The run, the slide, and the stage that writes.
    table
        All rows of the table: what `placed_cells` gave, and what calls add.
    made_by
        A hash of all that a row hangs on beside the edits.
    """
    measured, placed = (job.store.path(one(slide)) for one in (measured_table, regions_table))
    sizes = store.row_groups(measured)
    columns = _columns(measured, placed if store.row_groups(placed) == sizes else None, table)
    groups = _groups(measured, sizes, edits_of(job, slide))
    transaction.notes["row_groups"] = {"made_by": made_by, "groups": [[group.rows, group.mark] for group in groups]}
    added = table[[name for name, stored in columns.items() if stored is None]]
    pieces = _pieces(measured, groups, _kept(job, slide, made_by), columns, table)
    written = store.write_joined_cells(transaction.path(cells_file(slide)), columns, added, pieces)
    folder, _, name = cells_file(slide).partition("/")
    transaction.vouch(folder, {name: written})


def _columns(measured: Path, placed: Path | None, table: pd.DataFrame) -> Columns:
    """Where each column comes from; the flags are those with the place's."""
    names = store.cell_columns(measured)
    columns: Columns = dict.fromkeys(FIRST, measured) | dict.fromkeys(PLACES, placed)
    columns |= dict.fromkeys(names[len(FIRST) :], measured) | {"flags": placed}
    return columns | {name: None for name in table if name not in columns}


@dataclass(frozen=True)
class _Group:
    """A row group of the machine's table with the edits that fall into it."""

    number: int  # as many as there are groups: the cells beyond the last
    rows: int  # with the edits
    edits: Edits | None

    @property
    def mark(self) -> str:
        """What tells its edits from others; "" without any."""
        return "" if self.edits is None else hash_json([self.edits.rows.to_dict("list"), self.edits.gone.tolist()])


def _groups(measured: Path, sizes: list[int], edits: Edits | None) -> list[_Group]:
    """The machine's row groups, and where cells were added beyond the last, one more."""
    edited: Mapping[int, Edits] = {}
    if edits is not None:
        ids = store.read_cells(measured, columns=["cell"])["cell"].to_numpy()
        edited = edits.in_groups(ids[np.cumsum(sizes, dtype=np.int64) - 1])
    changes = {number: len(one.rows) - len(one.gone) for number, one in edited.items()}
    found = [_Group(k, size + changes.get(k, 0), edited.get(k)) for k, size in enumerate([*sizes, 0])]
    return found if len(sizes) in edited else found[:-1]


def _kept(job: Job, slide: str, made_by: str) -> dict[tuple[int, str], KeptRows]:
    """Row groups of the table that is there, by their number in the machine's and the mark of their edits."""
    record = job.store.record("positives", slide)
    told = record.notes.get("row_groups", {}) if record else {}
    if told.get("made_by") != made_by:
        return {}
    try:
        path = job.store.path(cells_file(slide))
        there = enumerate((number, rows, mark) for number, (rows, mark) in enumerate(told["groups"]) if rows)
        return {(number, mark): KeptRows(path, place, rows) for place, (number, rows, mark) in there}
    except MihcError:  # damaged, or taken away: it is all written anew
        return {}


def _pieces(
    measured: Path,
    groups: Sequence[_Group],
    kept: Mapping[tuple[int, str], KeptRows],
    columns: Mapping[str, Path | None],
    table: pd.DataFrame,
) -> Iterator[StoredRows | KeptRows | pd.DataFrame]:
    """The table's row groups: as an earlier table has them, as they are stored, or with their edits."""
    first = 0
    for group in groups:
        if (group.number, group.mark) in kept:
            yield kept[group.number, group.mark]
        elif group.edits is None:
            yield StoredRows(group.number, first, group.rows)
        else:
            stored = store.row_groups(measured)
            machine = (
                store.read_cells(measured, groups=[group.number])
                if group.number < len(stored)
                else store.empty_cells(measured)
            )
            yield _whole(group.edits.over(machine), table.iloc[first : first + group.rows], columns)
        first += group.rows


def _whole(rows: pd.DataFrame, mine: pd.DataFrame, columns: Mapping[str, Path | None]) -> pd.DataFrame:
    """All columns of some rows: what was measured of them, and `mine`, what the table has beside it."""
    mine = mine.reset_index(drop=True)
    return pd.DataFrame({name: mine[name] if name in mine else rows[name] for name in columns})
