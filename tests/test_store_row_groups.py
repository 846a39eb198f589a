"""A table put together of stored column chunks is, byte for byte, the one that is written at once."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import DamagedError
from mihc.store import KeptRows, StoredRows, read_cells, row_groups, write_cells, write_joined_cells
from mihc.stores import tables
from mihc.stores.footers import BINARY, DOUBLE, FALSE, I32, I64, LIST, STRUCT, TRUE, decode, encode

GROUP = 8
NEW = ["called", "level"]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", GROUP)


def whole_table(rows: int = 29) -> pd.DataFrame:
    """Of every kind of column, with gaps; the first three are stored in one table, the next two in another."""
    rng = np.random.default_rng(rows)
    gaps = rng.random(rows) < 0.3
    return pd.DataFrame(
        {
            "slide": ["S1"] * rows,
            "cell": np.arange(1, rows + 1, dtype=np.uint32) * 3,
            "mean": np.where(gaps, np.nan, rng.random(rows)),
            "region": rng.choice(["nest", "Stroma é", ""], rows),
            "flags": rng.integers(0, 9, rows).astype(np.uint32),
            "called": pd.array(np.where(gaps, None, rng.random(rows) < 0.5), dtype="boolean"),
            "level": pd.array(rng.integers(0, 4, rows), dtype="UInt8"),
        }
    )


def stored_in(folder, table: pd.DataFrame) -> dict:
    """The columns of a table, and where those are stored that are."""
    measured, placed = folder / "measured.parquet", folder / "placed.parquet"
    write_cells(measured, table[["slide", "cell", "mean"]])
    write_cells(placed, table[["cell", "region", "flags"]])
    return dict.fromkeys(["slide", "cell", "mean"], measured) | dict.fromkeys(["region", "flags"], placed) | {
        "called": None, "level": None,
    }  # fmt: skip


def pieces_of(table: pd.DataFrame, anew: set[int]) -> list:
    ends = [*range(0, len(table), GROUP), len(table)]
    return [
        table.iloc[a:b] if number in anew else StoredRows(number, a, b - a)
        for number, (a, b) in enumerate(pairwise(ends))
    ]


@pytest.mark.parametrize("anew", [set(), {0}, {1, 3}, {0, 1, 2, 3}], ids=len)
def test_whichever_row_groups_are_copied_the_bytes_are_those_of_writing_all(tmp_path, anew):
    table = whole_table()
    write_cells(tmp_path / "whole.parquet", table)
    columns = stored_in(tmp_path, table)
    size, sha = write_joined_cells(tmp_path / "joined.parquet", columns, table[NEW], pieces_of(table, anew))
    joined = (tmp_path / "joined.parquet").read_bytes()
    assert joined == (tmp_path / "whole.parquet").read_bytes()
    assert (size, sha) == (len(joined), hashlib.sha256(joined).hexdigest())


@pytest.mark.parametrize("kept", [{0, 1, 2, 3}, {1, 2}, {3}], ids=len)
def test_row_groups_of_an_earlier_table_are_those_of_writing_all(tmp_path, kept):
    """The earlier table had one row group more before them, and another last cell."""
    table = whole_table()
    write_cells(tmp_path / "whole.parquet", table)
    earlier = tmp_path / "earlier.parquet"
    write_cells(earlier, pd.concat([table.iloc[:GROUP].assign(mean=1.0), table], ignore_index=True))
    pieces = pieces_of(table, {0})
    for number in kept:
        pieces[number] = KeptRows(earlier, number + 1, len(table.iloc[GROUP * number : GROUP * (number + 1)]))
    write_joined_cells(tmp_path / "joined.parquet", stored_in(tmp_path, table), table[NEW], pieces)
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_rows_that_came_and_went_are_where_they_belong(tmp_path):
    table = whole_table()
    columns = stored_in(tmp_path, table)
    shorter = table.iloc[8:16].drop(index=[9, 12])
    more = table.iloc[:2].assign(cell=np.array([900, 901], np.uint32), region="drawn")
    pieces = pieces_of(table, set())
    pieces[1] = shorter
    write_joined_cells(tmp_path / "joined.parquet", columns, table[NEW], [*pieces, more])
    found = read_cells(tmp_path / "joined.parquet")
    pd.testing.assert_frame_equal(found, pd.concat([table.drop(index=[9, 12]), more], ignore_index=True))
    assert row_groups(tmp_path / "joined.parquet") == [8, 6, 8, 5, 2]


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_a_table_of_no_or_one_row_group(tmp_path, rows):
    table = whole_table(rows)
    columns = stored_in(tmp_path, table)
    pieces = pieces_of(table, set()) if rows else []
    write_joined_cells(tmp_path / "joined.parquet", columns, table[NEW], pieces)
    pd.testing.assert_frame_equal(read_cells(tmp_path / "joined.parquet"), table)


def test_another_program_reads_it_with_every_checksum(tmp_path):
    """Columns, single row groups and statistics by pyarrow's own reader."""
    table = whole_table()
    write_joined_cells(tmp_path / "joined.parquet", stored_in(tmp_path, table), table[NEW], pieces_of(table, {2}))
    with pq.ParquetFile(tmp_path / "joined.parquet", page_checksum_verification=True) as file:
        for number in range(4):
            mine = table.iloc[number * GROUP : number * GROUP + GROUP]
            assert (
                file.read_row_group(number, ["mean", "flags"])
                .to_pandas()
                .equals(mine[["mean", "flags"]].reset_index(drop=True))
            )
            told = file.metadata.row_group(number).column(1).statistics
            assert (told.min, told.max) == (mine["cell"].min(), mine["cell"].max())


def test_stored_rows_that_are_not_those_that_were_there_are_told(tmp_path):
    table = whole_table()
    columns = stored_in(tmp_path, table)
    for wrong in (StoredRows(0, 0, 5), StoredRows(7, 0, 8), KeptRows(columns["mean"], 0, 8)):
        with pytest.raises(DamagedError, match="has not the"):
            write_joined_cells(tmp_path / "joined.parquet", columns, table[NEW], [wrong])
    path = columns["mean"]
    path.write_bytes(path.read_bytes()[:-40] + b"\0" * 40)
    with pytest.raises(DamagedError):
        write_joined_cells(tmp_path / "joined.parquet", columns, table[NEW], pieces_of(table, set()))


WHOLE = st.integers(-(2**63), 2**63 - 1)
LEAVES = st.one_of(
    st.tuples(st.sampled_from([I32, I64]), WHOLE),
    st.tuples(st.just(BINARY), st.binary(max_size=200)),
    st.sampled_from([(TRUE, True), (FALSE, False)]),
    st.floats(allow_nan=False).map(lambda value: (DOUBLE, struct.pack("<d", value))),
    st.lists(WHOLE, max_size=40).map(lambda values: (LIST, (I64, values))),
)
STRUCTS = st.recursive(
    st.dictionaries(st.integers(1, 300), LEAVES, max_size=5),
    lambda inner: st.dictionaries(
        st.integers(1, 300),
        st.one_of(LEAVES, inner.map(lambda one: (STRUCT, one)), inner.map(lambda one: (LIST, (STRUCT, [one, {}])))),
        max_size=5,
    ),
    max_leaves=20,
)


@given(STRUCTS)
def test_any_footer_comes_back_as_it_was_written(content):
    assert decode(encode(content)) == content


def test_a_footer_by_hand():
    """Field 1: 150 (zigzag 300 = ac 02), field 3: "ab", field 20 (16 on, so with its own number): true."""
    told = {1: (I64, 150), 3: (BINARY, b"ab"), 20: (TRUE, True)}
    assert encode(told) == bytes([0x16, 0xAC, 0x02, 0x28, 0x02]) + b"ab" + bytes([0x01, 0x28, 0x00])
    assert encode({1: (I64, -1)}) == bytes([0x16, 0x01, 0x00])


def test_a_footer_that_is_cut_is_told():
    data = encode({1: (I64, 150), 3: (BINARY, b"ab" * 30), 4: (LIST, (I64, list(range(20))))})
    for size in range(len(data)):
        with pytest.raises(ValueError, match="ends too early"):
            decode(data[:size])
