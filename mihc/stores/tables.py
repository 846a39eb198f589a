"""Tables and small files: parquet for cells, CSV for people, both read back exactly as written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.errors import DamagedError

if TYPE_CHECKING:
    import pyarrow as pa

# Read as text whatever they look like: an id 007 is not 7, and a patient named NA is not missing.
_TEXT = """slide patient panel batch control region tissue_class population marker category check verdict explanation
    reason remark own_verdict method who when status message family analysis endpoint measure split term adjust_method
    estimate_kind note unit"""
TEXT_COLUMNS = frozenset(_TEXT.split())
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n]")
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$')
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|-?inf|nan")


def write_cells(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as parquet: zstd, a checksum per page, floats byte-stream-split; the same table, the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = table.assign(
        **{name: table[name].astype(object) for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)}
    )
    arrow = pa.Table.from_pandas(plain, preserve_index=False)
    arrow = arrow.cast(pa.schema([_portable(field) for field in arrow.schema]))
    floats = [field.name for field in arrow.schema if pa.types.is_floating(field.type)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        arrow,
        path,
        compression="zstd",
        use_dictionary=False,
        use_byte_stream_split=floats,
        write_page_checksum=True,
        row_group_size=1 << 18,
    )


def _portable(field: pa.Field) -> pa.Field:
    """The same type of text whichever pandas wrote it."""
    import pyarrow as pa

    text = pa.types.is_large_string(field.type) or pa.types.is_string_view(field.type)
    return pa.field(field.name, pa.string() if text else field.type)


def read_cells(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a parquet table, every page against its checksum; booleans come back as pandas' nullable ones.

    Raises
    ------
    DamagedError
        the file cannot be read or a checksum does not hold
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            arrow = file.read(columns=None if columns is None else list(columns))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        raise DamagedError(
            f"the table does not match its checksums ({error})",
            place=str(path),
            fix="Type: mihc verify STUDY --repair",
        ) from error
    return arrow.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as UTF-8 CSV: floats that round-trip, NaN and null empty, no text that a spreadsheet would run."""
    write_text(path, csv_text(table))


def csv_text(table: pd.DataFrame) -> str:
    """What `write_csv` writes."""
    columns = [[_cell(value) for value in table[name]] for name in table.columns]
    lines = [",".join(_quoted(_guarded(str(name))) for name in table.columns)]
    lines.extend(",".join(row) for row in zip(*columns))
    return "\n".join(lines) + "\n"


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
    if Path(path).stat().st_size <= 1:  # no columns: an empty line
        return pd.DataFrame()
    raw = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8", lineterminator="\n", skip_blank_lines=False)
    raw.columns = [_bare(name) for name in raw.columns]
    as_text = set(text) if only else TEXT_COLUMNS | set(text)
    data = {name: _text(raw[name]) if name in as_text else _values(raw[name]) for name in raw.columns}
    return pd.DataFrame(data, index=raw.index)


def _bare(text: str) -> str:
    return text[1:] if _GUARDED.match(text) else text


def _text(cells: pd.Series) -> pd.Series:
    return cells.map(_bare)


def _values(cells: pd.Series) -> pd.Series:
    kinds = set(cells.unique())
    filled = kinds - {""}
    if filled and filled <= {"True", "False"}:
        return cells.map({"True": True, "False": False, "": pd.NA}).astype("boolean")
    if kinds and all(_INTEGER.fullmatch(cell) and len(cell.lstrip("-")) < 19 for cell in kinds):
        return cells.map(int).astype(np.int64)
    if all(_NUMBER.fullmatch(cell) for cell in filled):
        return cells.map(lambda cell: float(cell) if cell else math.nan).astype(np.float64)
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
