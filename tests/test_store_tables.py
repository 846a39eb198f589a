"""Tables come back as they were written, and no text in them can run."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import DamagedError
from mihc.store import (
    digest_results,
    read_cells,
    read_csv,
    read_csv_parts,
    write_cells,
    write_cells_in_parts,
    write_csv,
)
from mihc.stores import tables

CELLS = pd.DataFrame(
    {
        "slide": ["S1"] * 3,
        "cell": np.array([1, 2, 2**32 - 1], "uint32"),
        "x_um": [0.1 + 0.2, np.nan, -0.0],
        "mean": np.array([1.5, 2.5, np.nan], "float32"),
        "CD20_positive": pd.array([True, None, False], dtype="boolean"),
        "flags": np.array([0, 1, 9], "uint32"),
    }
)


def test_NP45_cells_come_back_with_every_type_and_bit(tmp_path):
    write_cells(tmp_path / "c.parquet", CELLS)
    got = read_cells(tmp_path / "c.parquet")
    assert [str(dtype) for dtype in got.dtypes][1:] == ["uint32", "float64", "float32", "boolean", "uint32"]
    assert got["slide"].tolist() == ["S1"] * 3
    assert got["x_um"].to_numpy().tobytes() == CELLS["x_um"].to_numpy().tobytes()
    assert got["CD20_positive"].tolist() == [True, pd.NA, False]
    assert read_cells(tmp_path / "c.parquet", columns=["cell"]).columns.tolist() == ["cell"]


def test_cells_without_a_row_keep_their_types(tmp_path):
    write_cells(tmp_path / "c.parquet", CELLS.iloc[:0])
    got = read_cells(tmp_path / "c.parquet")
    assert len(got) == 0
    assert [str(dtype) for dtype in got.dtypes][1:] == ["uint32", "float64", "float32", "boolean", "uint32"]


def test_the_same_cells_are_the_same_bytes_and_categories_are_text(tmp_path):
    write_cells(tmp_path / "a.parquet", CELLS)
    write_cells(tmp_path / "b.parquet", CELLS.assign(slide=CELLS["slide"].astype("category")))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_S3_no_flipped_bit_of_a_parquet_page_reads_as_a_number(tmp_path):
    rng, path = np.random.default_rng(5), tmp_path / "c.parquet"
    truth = pd.DataFrame({"cell": np.arange(5000, dtype="uint32"), "x_um": rng.normal(size=5000)})
    write_cells(path, truth)
    good, loud = path.read_bytes(), 0
    pages = len(good) - 8 - struct.unpack("<I", good[-8:-4])[0]  # what lies before the footer
    for _ in range(200):
        bad = bytearray(good)
        bit = int(rng.integers(32, 8 * pages))
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            assert read_cells(path).equals(truth)
        except DamagedError:
            loud += 1
    assert loud > 190  # the others are bits of page headers that say nothing


def test_a_truncated_parquet_file_is_told(tmp_path):
    path = tmp_path / "c.parquet"
    write_cells(path, CELLS)
    for length in (0, 3, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DamagedError, match="mihc verify"):
            read_cells(path)


def test_a_csv_by_hand(tmp_path):
    table = pd.DataFrame(
        {
            "slide": ["001", "NA", "a,b"],
            "cells": [1, -2, 3],
            "area_mm2": [0.1, math.nan, 1e-300],
            "ok": pd.array([True, None, False], dtype="boolean"),
            "note": ["=1+1", None, 'say "x"\nand go'],
        }
    )
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_bytes().decode() == (
        'slide,cells,area_mm2,ok,note\n001,1,0.1,True,\'=1+1\nNA,-2,,,\n"a,b",3,1e-300,False,"say ""x""\nand go"\n'
    )
    got = read_csv(tmp_path / "t.csv")
    assert got["slide"].tolist() == ["001", "NA", "a,b"] and got["note"].tolist() == ["=1+1", "", 'say "x"\nand go']
    assert got["cells"].tolist() == [1, -2, 3] and got["cells"].dtype == np.int64
    assert got["ok"].tolist() == [True, pd.NA, False] and math.isnan(got["area_mm2"][1])


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
            st.floats(width=64),
            st.integers(-(10**17), 10**17),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_NP45_any_text_float_and_integer_comes_back_from_csv(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    table = pd.DataFrame(rows, columns=["note", "value", "count"]).astype({"value": "float64", "count": "int64"})
    write_csv(path, table)
    got = read_csv(path)
    assert got["note"].tolist() == [text for text, _, _ in rows]
    assert got["count"].tolist() == [count for _, _, count in rows]
    assert np.array_equal(got["value"].to_numpy(float), table["value"].to_numpy(), equal_nan=True)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'=", "''-"])
def test_T7_text_that_a_spreadsheet_would_run_is_disarmed_in_cells_and_headers(tmp_path, start):
    payload = start + "cmd|' /C calc'!A0"
    write_csv(tmp_path / "t.csv", pd.DataFrame({"note": [payload], payload: [-1.5]}))
    header, cell = (tmp_path / "t.csv").read_bytes().decode().split("\n", 1) if "\n" not in start else ("", "")
    for text in (header.partition(",")[2], cell):
        assert not text.lstrip('"').startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (tmp_path / "t.csv").read_bytes().decode().count("'" + start) == 2
    got = read_csv(tmp_path / "t.csv", text=["note"])
    assert got["note"].tolist() == [payload] and got[payload].tolist() == [-1.5]  # numbers are untouched


def test_T1_ids_stay_text_and_what_only_looks_like_a_number_too(tmp_path):
    (tmp_path / "t.csv").write_text("patient,code,n,mixed,none\n007,1E3,5,1,\n1,2,6,x,\n")
    got = read_csv(tmp_path / "t.csv", text=["code"])
    assert got["patient"].tolist() == ["007", "1"] and got["code"].tolist() == ["1E3", "2"]
    assert got["n"].tolist() == [5, 6] and got["mixed"].tolist() == ["1", "x"]
    assert got["none"].isna().all() and got["none"].dtype == np.float64
    (tmp_path / "t.csv").write_text("zip\n01234\n1_000\n")
    assert read_csv(tmp_path / "t.csv")["zip"].tolist() == ["01234", "1_000"]
    (tmp_path / "t.csv").write_text("zip,patient,slide\n01234,1,2\n00,3,4\n")
    got = read_csv(tmp_path / "t.csv")
    assert got.to_numpy().tolist() == [["01234", "1", "2"], ["00", "3", "4"]]


def test_T5_the_locale_of_the_machine_changes_no_byte(tmp_path, monkeypatch):
    import locale

    write_csv(tmp_path / "a.csv", pd.DataFrame({"v": [1234567.25]}))
    for name in ("de_DE.UTF-8", "C"):
        monkeypatch.setenv("LC_ALL", name)
    monkeypatch.setattr(locale, "localeconv", lambda: {"decimal_point": ",", "thousands_sep": "."})
    write_csv(tmp_path / "b.csv", pd.DataFrame({"v": [1234567.25]}))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes() == b"v\n1234567.25\n"


def test_a_csv_without_rows_keeps_its_header(tmp_path):
    write_csv(tmp_path / "t.csv", pd.DataFrame({"slide": [], "cells": []}))
    assert (tmp_path / "t.csv").read_text() == "slide,cells\n"
    assert read_csv(tmp_path / "t.csv").columns.tolist() == ["slide", "cells"]


def test_the_digest_sees_every_kind_of_change_in_the_cells(tmp_path):
    seen = set()
    changes = [
        {},
        {"slide": ["S1", "S1", "S2"]},
        {"x_um": [0.1 + 0.2, 0.0, -0.0]},
        {"flags": np.array([0, 1, 8], "uint32")},
        {"CD20_positive": pd.array([True, False, False], dtype="boolean")},
        {"CD20_positive": pd.array([None, None, False], dtype="boolean")},
    ]
    for number, change in enumerate(changes):
        write_cells(tmp_path / f"{number}/cells/S1.parquet", CELLS.assign(**change))
        seen.add(digest_results(tmp_path / str(number)))
    write_cells(tmp_path / "renamed/cells/S2.parquet", CELLS)
    write_csv(tmp_path / "csv/regions.csv", CELLS)
    seen |= {digest_results(tmp_path / "renamed"), digest_results(tmp_path / "csv"), digest_results(tmp_path / "none")}
    assert len(seen) == len(changes) + 3


def test_a_table_without_columns_comes_back_as_one(tmp_path):
    write_csv(tmp_path / "t.csv", pd.DataFrame())
    assert read_csv(tmp_path / "t.csv").shape == (0, 0)


def test_only_the_named_columns_are_text_when_the_table_has_columns_of_its_own(tmp_path):
    (tmp_path / "t.csv").write_text("patient,status,unit\n007,1,a\n008,,b\n")
    got = read_csv(tmp_path / "t.csv", text=["patient"], only=True)
    assert got["patient"].tolist() == ["007", "008"]
    assert got["status"][0] == 1.0 and math.isnan(got["status"][1])
    assert got["unit"].tolist() == ["a", "b"]


@pytest.mark.parametrize("rows", [[0], [0, 0], [5, 0, 3], [3, 9, 9, 1], [20], [8], [4, 4, 8]])
def test_parts_of_a_table_make_the_file_of_the_whole(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    count = sum(rows)
    whole = pd.DataFrame(
        {"slide": ["S1"] * count, "cell": np.arange(count, dtype=np.uint32), "CD3_cell_mean": np.linspace(0, 1, count)}
    )
    ends = np.cumsum([0, *rows])
    parts = [whole.iloc[a:b].reset_index(drop=True) for a, b in itertools.pairwise(ends)]
    write_cells(tmp_path / "whole.parquet", whole)
    write_cells_in_parts(tmp_path / "parts.parquet", parts)
    pd.testing.assert_frame_equal(read_cells(tmp_path / "parts.parquet"), whole, check_dtype=False)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "parts.parquet").read_bytes()


def test_a_part_without_any_text_is_text_like_the_others(tmp_path):
    parts = [pd.DataFrame({"cell": [1], "region": [None]}), pd.DataFrame({"cell": [2], "region": ["nest"]})]
    write_cells_in_parts(tmp_path / "cells.parquet", parts)
    assert read_cells(tmp_path / "cells.parquet")["region"].tolist() == [None, "nest"]


EMPTY = pd.DataFrame({"slide": pd.Series([], dtype=str), "n": []})
FIRST = pd.DataFrame({"slide": ["1", "a,b"], "n": [1, 2], "x": [0.1, np.nan]})
PARTS = {
    "numbers and texts": [FIRST, pd.DataFrame({"slide": ["3"], "n": [3], "x": [2.0]})],
    "whole numbers and others": [pd.DataFrame({"slide": ["1"], "n": [1]}), pd.DataFrame({"slide": ["2"], "n": [1.5]})],
    "one without rows": [EMPTY, pd.DataFrame({"slide": ["2\n3"], "n": [1]})],
    "no rows": [EMPTY],
    "other columns": [pd.DataFrame({"slide": ["1"], "n": [1]}), pd.DataFrame({"slide": ["2"], "m": [2]})],
    "none": [],
}


@pytest.mark.parametrize("tables", PARTS.values(), ids=PARTS)
def test_parts_read_as_one_table_say_what_each_says(tmp_path, tables):
    paths = [tmp_path / f"{k}.csv" for k in range(len(tables))]
    for path, table in zip(paths, tables):
        write_csv(path, table)
    each = [read_csv(path) for path in paths]
    each = [one for one in each if len(one)] or each[:1]
    expected = pd.concat(each, ignore_index=True) if each else pd.DataFrame()
    pd.testing.assert_frame_equal(read_csv_parts(paths), expected)
