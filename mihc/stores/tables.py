"""Tables and small files: parquet for cells, CSV for people, both read back exactly as written."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd

from mihc.errors import DamagedError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Read as text whatever they look like: an id 007 is not 7, and a patient named NA is not missing.
_TEXT = """slide patient panel batch control region tissue_class population marker category check verdict explanation
    reason remark own_verdict method who when status message family analysis endpoint measure split term adjust_method
    estimate_kind note unit other pair first second used"""
TEXT_COLUMNS = frozenset(_TEXT.split())
ROW_GROUP = 1 << 16  # rows: of a slide's cells, what one corrected cell has written anew
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n]")
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$')
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|-?inf|nan")


def write_cells(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as parquet: LZ4, a checksum per page, floats byte-stream-split; the same table, the same bytes."""
    write_cells_in_parts(path, [table])


def write_cells_in_parts(path: str | Path, parts: Iterable[pd.DataFrame]) -> None:
    """Write as one table, as `write_cells` does, parts of it that come one after the other; few are held at a time.

    There must be at least one part; the parts may have no rows. How the rows are parted changes no byte.
    """
    import pyarrow as pa

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writer, waiting, written = None, None, False
        for part in parts:
            arrow = arrow_table(part)
            if writer is None:
                writer = stack.enter_context(arrow_writer(path, arrow.schema))
            waiting = arrow if waiting is None else pa.concat_tables([waiting, arrow.cast(waiting.schema)])
            while waiting.num_rows >= ROW_GROUP:
                writer.write_table(waiting.slice(0, ROW_GROUP).combine_chunks(), ROW_GROUP)
                waiting, written = waiting.slice(ROW_GROUP), True
        if waiting.num_rows or not written:
            writer.write_table(waiting.combine_chunks(), ROW_GROUP)


def arrow_table(table: pd.DataFrame) -> pa.Table:
    """A table as it is written."""
    import pyarrow as pa

    plain = table.assign(
        **{name: table[name].astype(object) for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)}
    )
    arrow = pa.Table.from_pandas(plain, preserve_index=False)
    return arrow.cast(pa.schema([_portable(field) for field in arrow.schema]))


def arrow_writer(path: str | Path | BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """What writes parquet as mihc does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    return pq.ParquetWriter(
        path,
        schema,
        compression="lz4",  # as small as zstd on split floats, and written four times as fast
        use_dictionary=False,
        use_byte_stream_split=floats,
        write_page_checksum=True,
    )


def _portable(field: pa.Field) -> pa.Field:
    """The same type of text whichever pandas wrote it, and where a part of a table has none."""
    import pyarrow as pa

    kind = field.type
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
    return pa.field(field.name, pa.string() if text else field.type)


def read_cells(
    path: str | Path,
    columns: Sequence[str] | None = None,
    *,
    groups: Sequence[int] | None = None,
    categories: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a parquet table, every page against its checksum; booleans and levels (uint8) come back as nullable.

    Parameters
    ----------
    columns, groups
        Of these names, and of the row groups of these numbers; None: all.
    categories
        Columns of text that come as categories.

    Raises
    ------
    DamagedError
        the file cannot be read or a checksum does not hold
    """
    with _opened(path, categories) as file:
        wanted = None if columns is None else list(columns)
        return _as_frame(file.read(wanted) if groups is None else file.read_row_groups(list(groups), wanted))


def read_cells_in_parts(path: str | Path, rows: int) -> Iterator[pd.DataFrame]:
    """Read a parquet table as `read_cells` does, at most `rows` rows at a time; one empty part where it has none."""
    import pyarrow as pa

    with _opened(path) as file:
        if file.metadata.num_rows == 0:
            yield _as_frame(file.read())
        for batch in file.iter_batches(batch_size=rows):
            yield _as_frame(pa.Table.from_batches([batch]))


def empty_cells(path: str | Path) -> pd.DataFrame:
    """The columns of a parquet table, without its rows, as `read_cells` has them."""
    with _opened(path) as file:
        return _as_frame(file.schema_arrow.empty_table())


def row_groups(path: str | Path) -> list[int]:
    """How many rows each row group of a parquet table has."""
    with _opened(path) as file:
        return [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]


def cell_columns(path: str | Path) -> list[str]:
    """The columns of a parquet table."""
    with _opened(path) as file:
        return file.schema_arrow.names


@contextlib.contextmanager
def _opened(path: str | Path, categories: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=list(categories)) as file:
            yield file
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        raise DamagedError(
            f"the table does not match its checksums ({error})",
            place=str(path),
            fix="Type: mihc verify STUDY --repair",
        ) from error


def _as_frame(arrow: pa.Table) -> pd.DataFrame:
    import pyarrow as pa

    return arrow.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype(), pa.uint8(): pd.UInt8Dtype()}.get)


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as UTF-8 CSV: floats that round-trip, NaN and null empty, no text that a spreadsheet would run."""
    write_text(path, csv_text(table))


def csv_text(table: pd.DataFrame) -> str:
    """What `write_csv` writes."""
    return csv_header(table.columns) + csv_lines(table)


def csv_header(columns: Iterable[str]) -> str:
    """The first line of what `write_csv` writes."""
    return ",".join(_quoted(_guarded(str(name))) for name in columns) + "\n"


def csv_lines(table: pd.DataFrame) -> str:
    """The lines of what `write_csv` writes, without the first."""
    columns = [_cells(table[name]) for name in table.columns]
    return "".join(",".join(row) + "\n" for row in zip(*columns))


def guarded(text: str) -> str:
    """Text with an apostrophe before it where a spreadsheet would take it for a formula."""
    return _guarded(text)


def _cells(column: pd.Series) -> list[str]:
    """What `_cell` says of every value, sooner for columns of one type."""
    if column.dtype == np.float64:
        return ["" if value != value else repr(value) for value in column.tolist()]
    if column.dtype.kind in "iu" and isinstance(column.dtype, np.dtype):
        return list(map(str, column.tolist()))
    known: dict[object, str] = {}
    return [_known(value, known) for value in column]


def _known(value: object, known: dict[object, str]) -> str:
    if not isinstance(value, str):
        return _cell(value)
    if value not in known:
        known[value] = _cell(value)
    return known[value]


def _cell(value: object) -> str:
    if isinstance(value, str):
        return _quoted(_guarded(value))
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, np.float32):
        value = float(str(value))
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else repr(float(value))
    return _quoted(_guarded(str(value)))


def _guarded(text: str) -> str:
    return "'" + text if _FORMULA.match(text) else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def read_csv(path: str | Path, text: Iterable[str] = (), *, only: bool = False) -> pd.DataFrame:
    """Read a CSV that `write_csv` wrote.

    Parameters
    ----------
    text
        columns to keep as text, beside those that the contract knows as text (ids, names, classes, notes); an empty
        cell is an empty text there. Every other column becomes integers, floats (empty = NaN) or nullable booleans
        when all its cells are such, and stays text otherwise.
    only
        no column is text but those of `text`: for patients.csv, whose clinical columns have names of their own.
    """
    return _parsed(Path(path).read_bytes(), set(text) if only else TEXT_COLUMNS | set(text))


def read_csv_parts(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Read CSVs that `write_csv` wrote as one table, their rows in the paths' order; parsed once where headers agree.

    A part without rows says nothing of the columns beside one that has some.
    """
    parts = [Path(path).read_bytes() for path in paths]
    parts = [data for data in parts if data.count(b"\n") > 1] or parts[:1]
    headers = {data.partition(b"\n")[0] for data in parts}
    if len(headers) == 1 and b'"' not in next(iter(headers)):  # a quoted name may hold the end of a line
        bodies = (data.partition(b"\n")[2] for data in parts)
        return _parsed(b"".join([*headers, b"\n", *bodies]), TEXT_COLUMNS)
    tables = [_parsed(data, TEXT_COLUMNS) for data in parts]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _parsed(data: bytes, as_text: Collection[str]) -> pd.DataFrame:
    if len(data) <= 1:  # no columns: an empty line
        return pd.DataFrame()
    plain = {"dtype": str, "na_filter": False, "skip_blank_lines": False}
    raw = pd.read_csv(io.BytesIO(data), encoding="utf-8", lineterminator="\n", **plain)
    raw.columns = [_bare(name) for name in raw.columns]
    columns = {name: _text(raw[name]) if name in as_text else _values(raw[name]) for name in raw.columns}
    return pd.DataFrame(columns, index=raw.index)


def _bare(text: str) -> str:
    return text[1:] if _GUARDED.match(text) else text


def _text(cells: pd.Series) -> pd.Series:
    values = cells.tolist()
    known = {cell: _bare(cell) for cell in set(values)}
    return pd.Series([known[cell] for cell in values], index=cells.index, dtype=object)


def _values(cells: pd.Series) -> pd.Series:
    values = cells.tolist()
    kinds = set(values)
    filled = kinds - {""}
    if filled and filled <= {"True", "False"}:
        return cells.map({"True": True, "False": False, "": pd.NA}).astype("boolean")
    if kinds and all(_INTEGER.fullmatch(cell) and len(cell.lstrip("-")) < 19 for cell in kinds):
        return pd.Series([int(cell) for cell in values], index=cells.index, dtype=np.int64)
    if all(_NUMBER.fullmatch(cell) for cell in filled):
        return pd.Series([float(cell) if cell else math.nan for cell in values], index=cells.index, dtype=np.float64)
    return _text(cells)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with plain line ends."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes, making the folder if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def write_json(path: str | Path, value: object, *, indent: int | None = 2) -> None:
    """Write JSON that people can read, keys in their order; without `indent` on one line, several times as fast."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
