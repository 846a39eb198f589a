"""The file of a table of cells, column by column: CSV, also packed, or parquet.

Only the columns that are asked for are read. Numbers of a CSV become the nearest float64, as Python reads them, and a
line of another width than the header's refuses the file.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mihc.errors import Problem, StudyProblems

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 22
BLANKS = ("", "na", "nan", "<na>")  # without case: no number
SPELT_BLANKS = ["", "NA", "na", "Na", "NaN", "nan", "NAN", "<NA>", "<na>", "-nan"]


class CellFile:
    """Columns of a file, each taken once."""

    def __init__(self, columns: dict[str, pa.ChunkedArray], names: list[str], size: int):
        self._columns, self.names, self.size = columns, names, size

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) float64, NaN where there is no number; and True where something stands that is none, inf included."""
        import pyarrow as pa
        from pyarrow import compute

        found = self._columns[name]
        if pa.types.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
        if _is_text(found.type):
            trimmed = compute.utf8_trim_whitespace(found.cast(pa.string()))
            blank = compute.is_in(compute.utf8_lower(trimmed), pa.array(BLANKS))
            trimmed = compute.if_else(blank, None, trimmed)
            try:
                found = trimmed.cast(pa.float64())
            except pa.ArrowInvalid:
                texts = trimmed.to_pandas()
                values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
                return values, np.isinf(values) | (np.isnan(values) & texts.notna().to_numpy())
        elif not (pa.types.is_integer(found.type) or pa.types.is_floating(found.type) or pa.types.is_null(found.type)):
            known = found.is_valid().to_numpy()
            return np.full(len(known), np.nan), known
        values = found.cast(pa.float64(), safe=False).to_numpy()
        wrong = np.isinf(values)
        if not wrong.any():
            del self._columns[name]
        return values, wrong

    def text(self, name: str, row: int) -> str:
        """What stands in a row of a column whose `numbers` were wrong; "" elsewhere."""
        found = self._columns[name][row].as_py() if name in self._columns else None
        return "" if found is None else str(found)

    def words(self, name: str) -> tuple[list[str], np.ndarray]:
        """The different texts of a column, and (rows,) the index of each row's; what is missing is ""."""
        import pyarrow as pa

        found = self._columns.pop(name)
        coded = found.combine_chunks() if pa.types.is_dictionary(found.type) else found.dictionary_encode()
        coded = coded.unify_dictionaries().combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        if isinstance(coded, pa.ChunkedArray):  # of no rows
            coded = coded.chunk(0) if coded.num_chunks else pa.array([], type=coded.type)
        texts = ["" if one is None else str(one) for one in coded.dictionary.to_pylist()]
        codes = coded.indices.fill_null(len(texts)).to_numpy()
        return [*texts, ""], codes

    def only(self, keep: np.ndarray) -> CellFile:
        """The rows that are True in `keep`."""
        import pyarrow as pa

        mask = pa.array(keep)
        kept = {name: self._columns.pop(name).filter(mask) for name in list(self._columns)}
        return CellFile(kept, self.names, int(keep.sum()))


def read_cell_file(path: Path, *, numbers: Callable[[str], bool], words: Callable[[str], bool]) -> CellFile:
    """Read the columns of a CSV or parquet file whose names are wanted, as numbers or as words.

    Raises
    ------
    StudyProblems
        When the file cannot be read as a table.
    """
    import pyarrow as pa

    try:
        if path.name.lower().endswith(".parquet"):
            return _parquet(path, lambda name: numbers(name) or words(name))
        packing = packing_of(path)
        _refuse_zero_bytes(path, packing)
        return _csv(path, packing, numbers, words)
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyProblems([Problem(path.name, f"cannot be read as a table of cells: {first}")]) from error


def packing_of(path: Path) -> str | None:
    """ "gzip" where the file begins as such a one does."""
    with path.open("rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else None


def _parquet(path: Path, wanted: Callable[[str], bool]) -> CellFile:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    names = _unlike(file.schema_arrow.names)
    table = file.read(columns=[name for name in names if wanted(name)])
    return CellFile(dict(zip(table.column_names, table.columns)), names, file.metadata.num_rows)


def _csv(path: Path, packing: str | None, numbers: Callable[[str], bool], words: Callable[[str], bool]) -> CellFile:
    import pyarrow as pa
    from pyarrow import csv

    with pa.input_stream(path, compression=packing) as stream:
        names = _unlike(csv.open_csv(stream, parse_options=_lines()).schema.names)
    if len(names) == 1 and ";" in names[0]:
        raise StudyProblems([Problem(path.name, "found ';' between the columns", "Save it with commas.")])
    texts = {name: pa.dictionary(pa.int32(), pa.string()) for name in names if words(name)}
    values = [name for name in names if numbers(name) and name not in texts]
    try:
        table = _read_csv(path, packing, texts | dict.fromkeys(values, pa.float64()))
    except pa.ArrowInvalid:  # what is no number is named with its row; a table that is none is refused again
        table = _read_csv(path, packing, texts | dict.fromkeys(values, pa.string()))
    return CellFile(dict(zip(table.column_names, table.columns)), names, table.num_rows)


def _read_csv(path: Path, packing: str | None, types: dict[str, pa.DataType]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    # Without a column there would be no rows to count.
    convert = csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=SPELT_BLANKS)
    with pa.input_stream(path, compression=packing) as stream:
        table = csv.read_csv(stream, parse_options=_lines(), convert_options=convert)
    pa.default_memory_pool().release_unused()  # the text that the numbers came from
    return table


def _lines() -> object:
    from pyarrow import csv

    return csv.ParseOptions(newlines_in_values=True)


def _unlike(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"column {twice[0]!r} is there twice")
    return names


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _refuse_zero_bytes(path: Path, packing: str | None) -> None:
    """A zero byte would end a text for some programs, which would make two regions one."""
    with gzip.open(path) if packing else path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            if b"\0" in block:
                raise ValueError("it holds zero bytes, so it is no text")
