"""The cells of a measured slide put together: what was measured, where the cells lie, a review's edits, and the calls.

cells/<slide>.parquet   row groups of the cells that were measured together; where no cell was edited, their columns
                        are the stored ones, byte for byte, beside those of the calls
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mihc import store
from mihc.errors import InputError
from mihc.results import cells_file
from mihc.stages import Job
from mihc.steps.correct import correction_columns
from mihc.steps.edit import Edits, edits_of
from mihc.steps.place import regions_table
from mihc.steps.segment import measured_table
from mihc.store import StoredRows, Transaction
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


def write_cells_table(job: Job, slide: str, transaction: Transaction, table: pd.DataFrame) -> None:
    """Write a slide's cells table; `table` has all its rows: what `placed_cells` gave, and what calls add."""
    measured, placed = (job.store.path(one(slide)) for one in (measured_table, regions_table))
    sizes = store.row_groups(measured)
    columns = _columns(measured, placed if store.row_groups(placed) == sizes else None, table)
    added = table[[name for name, stored in columns.items() if stored is None]]
    pieces = _pieces(measured, sizes, edits_of(job, slide), columns, table)
    written = store.write_joined_cells(transaction.path(cells_file(slide)), columns, added, pieces)
    folder, _, name = cells_file(slide).partition("/")
    transaction.vouch(folder, {name: written})


def _columns(measured: Path, placed: Path | None, table: pd.DataFrame) -> Columns:
    """Where each column comes from; the flags are those with the place's."""
    names = store.cell_columns(measured)
    columns: Columns = dict.fromkeys(FIRST, measured) | dict.fromkeys(PLACES, placed)
    columns |= dict.fromkeys(names[len(FIRST) :], measured) | {"flags": placed}
    return columns | {name: None for name in table if name not in columns}


def _pieces(
    measured: Path, sizes: list[int], edits: Edits | None, columns: Mapping[str, Path | None], table: pd.DataFrame
) -> Iterator[StoredRows | pd.DataFrame]:
    """The table's row groups: as they are stored, or with the edits that fall into them."""
    ends = np.cumsum(sizes, dtype=np.int64)
    ids = store.read_cells(measured, columns=["cell"])["cell"].to_numpy()
    edited = edits.in_groups(ids[ends - 1]) if edits else {}
    first = 0
    for number, size in enumerate(sizes):
        if number in edited:
            rows = edited[number].over(store.read_cells(measured, groups=[number]))
            yield _whole(rows, table.iloc[first : first + len(rows)], columns)
            first += len(rows)
        else:
            yield StoredRows(number, first, size)
            first += size
    if len(sizes) in edited:
        rows = edited[len(sizes)].over(store.empty_cells(measured))
        yield _whole(rows, table.iloc[first:], columns)


def _whole(rows: pd.DataFrame, mine: pd.DataFrame, columns: Mapping[str, Path | None]) -> pd.DataFrame:
    """All columns of some rows: what was measured of them, and `mine`, what the table has beside it."""
    mine = mine.reset_index(drop=True)
    return pd.DataFrame({name: mine[name] if name in mine else rows[name] for name in columns})
