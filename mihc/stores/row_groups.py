"""A table of cells put together from tables that are stored: column chunks that stay are copied byte for byte.

A parquet file is a row of column chunks with a footer that says where each begins. A slide's cells table has most of
its columns from stages that are stored already, in row groups of the same cells: those chunks are copied, neither read
nor compressed again, and only new columns and row groups in which cells came or went are written anew. Row groups that
an earlier table has just so are copied whole. The bytes are those of writing it all anew.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pandas as pd

from mihc.errors import DamagedError
from mihc.stores.footers import I64, LIST, STRUCT, Struct, decode, encode
from mihc.stores.tables import arrow_table, arrow_writer, empty_cells

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"PAR1"
# fields of parquet.thrift
ROWS, GROUPS = 3, 4  # of the footer
COLUMNS, PLAIN_BYTES, GROUP_ROWS, GROUP_AT, STORED_BYTES = 1, 2, 3, 5, 6  # of a row group
CHUNK = 3  # of a column chunk: what is known of it
NAME, PLAIN_SIZE, STORED_SIZE = 3, 6, 7  # of that
PLACES = (9, 10, 11)  # of that: where its data, its index and its dictionary begin in the file


@dataclass(frozen=True)
class StoredRows:
    """A row group whose cells are those of the stored tables' row group of this number."""

    number: int
    first: int  # of the new columns, the row that belongs to its first cell
    rows: int


@dataclass(frozen=True)
class KeptRows:
    """A row group that is the one of this number of an earlier table with the same columns."""

    table: Path
    number: int
    rows: int


def write_joined_cells(
    path: str | Path,
    columns: Mapping[str, Path | None],
    added: pd.DataFrame,
    pieces: Iterable[StoredRows | KeptRows | pd.DataFrame],
) -> tuple[int, str]:
    """Write a table of cells of which much is stored -> its bytes and their sha256.

    Parameters
    ----------
    path
        Where to write.
    columns
        The table's columns in their order: the stored table that a column is taken from, None where it is new.
    added
        The new columns.
    pieces
        The table's row groups in their order: as the stored tables have them with rows of `added`, as an earlier table
        has them, or with all columns. None has more rows than `ROW_GROUP`; those without rows are passed over.

    Raises
    ------
    DamagedError
        a stored table has not the row group, or its footer cannot be read
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        sources, new = _Sources(stack), None
        out = _Writer(stack.enter_context(Path(path).open("wb")))
        out.begin(_header(columns, added))
        for piece in pieces:
            made: dict[str, _Chunk] = {}
            if isinstance(piece, pd.DataFrame):
                made = _encoded(arrow_table(piece[list(columns)])) if len(piece) else {}
            elif isinstance(piece, StoredRows) and len(added.columns):
                new = arrow_table(added) if new is None else new
                made = _encoded(new.slice(piece.first, piece.rows))
            rows = len(piece) if isinstance(piece, pd.DataFrame) else piece.rows
            if rows:
                out.add(rows, list(_chunks(columns, sources, piece, made)))
        return out.finish()


def _header(columns: Mapping[str, Path | None], added: pd.DataFrame) -> Struct:
    """The footer of the table without rows."""
    stored = {table: empty_cells(table) for table in set(columns.values()) if table is not None}
    names = {name: (added if table is None else stored[table])[name].iloc[:0] for name, table in columns.items()}
    return _footer(_written(arrow_table(pd.DataFrame(names))))


def _chunks(
    columns: Mapping[str, Path | None],
    sources: _Sources,
    piece: StoredRows | KeptRows | pd.DataFrame,
    made: Mapping[str, _Chunk],
) -> Iterator[_Chunk]:
    """The column chunks of a row group, in the table's order: those that were `made`, and stored ones."""
    for name, table in columns.items():
        if name in made:
            yield made[name]
        else:
            source = sources.of(piece.table if isinstance(piece, KeptRows) else table)
            yield source.chunk(piece.number, name, piece.rows)


@dataclass(frozen=True)
class _Chunk:
    """A column of a row group as it lies in a file."""

    told: Struct  # what the footer says of it
    data: bytes

    @property
    def known(self) -> Struct:
        return self.told[CHUNK][1]

    def at(self, place: int) -> Struct:
        """What a footer says of it where it begins at `place`."""
        known = dict(self.known)
        moved = place - _start(known)
        for field in PLACES:
            if field in known:
                kind, old = known[field]
                known[field] = kind, old + moved
        return {**self.told, CHUNK: (STRUCT, known)}


def _start(known: Struct) -> int:
    """Where a chunk begins: its pages lie one after the other."""
    return min(known[field][1] for field in PLACES if field in known)


def _encoded(table: pa.Table) -> dict[str, _Chunk]:
    """The column chunks of a table that is one row group."""
    data = _written(table)
    return dict(_in_group(_footer(data)[GROUPS][1][1][0], lambda at, size: data[at : at + size]))


def _in_group(group: Struct, read: Callable[[int, int], bytes]) -> Iterator[tuple[str, _Chunk]]:
    for told in group[COLUMNS][1][1]:
        known = told[CHUNK][1]
        (name,) = known[NAME][1][1]
        yield name.decode(), _Chunk(told, read(_start(known), known[STORED_SIZE][1]))


def _written(table: pa.Table) -> bytes:
    """A small table as a file."""
    out = io.BytesIO()
    with arrow_writer(out, table.schema) as writer:
        if table.num_rows:
            writer.write_table(table.combine_chunks(), table.num_rows)
    return out.getvalue()


def _footer(data: bytes) -> Struct:
    """The footer of a file in memory."""
    size = int.from_bytes(data[-8:-4], "little")
    return decode(data[len(data) - 8 - size : -8])


class _Sources:
    """Stored tables, each opened when the first of its chunks is copied."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._opened = stack, dict[Path, _Source]()

    def of(self, table: Path) -> _Source:
        """The table that lies there."""
        if table not in self._opened:
            self._opened[table] = _Source(self._stack.enter_context(table.open("rb")), table)
        return self._opened[table]


class _Source:
    """A stored table whose chunks are copied."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path
        end = file.seek(-8, io.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        file.seek(end - size)
        try:
            self.groups = [self._by_name(group) for group in decode(file.read(size))[GROUPS][1][1]]
        except (ValueError, KeyError) as error:
            raise self._damaged(f"its footer cannot be read ({error})") from error

    def _by_name(self, group: Struct) -> tuple[int, dict[str, Struct]]:
        named = {told[CHUNK][1][NAME][1][1][0].decode(): told for told in group[COLUMNS][1][1]}
        return group[GROUP_ROWS][1], named

    def chunk(self, number: int, name: str, rows: int) -> _Chunk:
        """The chunk of a column in a row group, which must have so many rows."""
        there, named = self.groups[number] if number < len(self.groups) else (0, {})
        if there != rows or name not in named:
            raise self._damaged(f"row group {number} has not the {rows} rows of {name} that were there")
        told = named[name]
        self.file.seek(_start(told[CHUNK][1]))
        return _Chunk(told, self.file.read(told[CHUNK][1][STORED_SIZE][1]))

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(what, place=str(self.path), fix="Type: mihc verify STUDY --repair")


class _Writer:
    """A parquet file, row group by row group."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.hash = file, 0, hashlib.sha256()
        self.groups: list[Struct] = []

    def begin(self, footer: Struct) -> None:
        """Take the schema of the table."""
        self.footer = footer
        self._write(MAGIC)

    def add(self, rows: int, chunks: Sequence[_Chunk]) -> None:
        """Write a row group."""
        first, told = self.size, []
        for chunk in chunks:
            told.append(chunk.at(self.size))
            self._write(chunk.data)
        plain = sum(chunk.known[PLAIN_SIZE][1] for chunk in chunks)
        group = {
            COLUMNS: (LIST, (STRUCT, told)),
            PLAIN_BYTES: (I64, plain),
            GROUP_ROWS: (I64, rows),
            GROUP_AT: (I64, first),
            STORED_BYTES: (I64, self.size - first),
        }
        self.groups.append(group)

    def finish(self) -> tuple[int, str]:
        """Write the footer -> the file's bytes and their sha256."""
        rows = sum(group[GROUP_ROWS][1] for group in self.groups)
        told = encode({**self.footer, ROWS: (I64, rows), GROUPS: (LIST, (STRUCT, self.groups))})
        self._write(told + len(told).to_bytes(4, "little") + MAGIC)
        return self.size, self.hash.hexdigest()

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.hash.update(data)
        self.size += len(data)
