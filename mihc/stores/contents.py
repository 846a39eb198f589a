"""One hash of what the results say: labels, cells and numbers as decoded values, however they are stored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from mihc.stores.arrays import StoredArray
from mihc.stores.chunks import boxes
from mihc.stores.labels import label_names, open_labels
from mihc.stores.records import read_record, record_path
from mihc.stores.tables import read_cells

_TILE = 1024  # pixels: the order in which labels are hashed; not the order in which they are stored


def digest_results(folder: str | Path) -> str:
    """sha256 over every label image, cells table and CSV under `folder` (results/), as hex.

    Once the study's tables are made, only the slides in them count: what is left of others is not of the study.
    Not in it: times, versions and pictures (run.json, report.html, figures, the image pyramids), chunk sizes, and
    anything that depends on windows or workers.

    Raises
    ------
    DamagedError
        something stored does not match its checksum
    """
    folder, total = Path(folder), hashlib.sha256()
    study = read_record(record_path(folder, "study", ""))
    listed = study.notes.get("slides") if study else None
    for path in sorted((folder / "slides").glob("*.ome.zarr")):
        if listed is not None and path.name.removesuffix(".ome.zarr") not in listed:
            continue
        for name in label_names(path):
            _add(total, f"{path.name}/{name}", _labels(open_labels(path, name)[0]))
    for path in sorted((folder / "cells").glob("*.parquet")):
        if listed is not None and path.stem not in listed:
            continue
        _add(total, path.name, _table(read_cells(path)))
    for path in sorted(folder.glob("*.csv")):
        _add(total, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return total.hexdigest()


def _add(total: hashlib._Hash, name: str, digest: str) -> None:
    total.update(f"{name}\n{digest}\n".encode())


def _labels(array: StoredArray) -> str:
    content = hashlib.sha256(f"{array.shape}".encode())
    for y0, y1, x0, x1 in boxes(array.shape, (_TILE, _TILE)):
        content.update(np.ascontiguousarray(array[y0:y1, x0:x1], dtype="<u4").tobytes())
    return content.hexdigest()


def _table(table: pd.DataFrame) -> str:
    content = hashlib.sha256(f"{len(table)}".encode())
    for name in table.columns:
        content.update(f"\n{name}\n".encode())
        _add_column(content, table[name])
    return content.hexdigest()


def _add_column(content: hashlib._Hash, column: pd.Series) -> None:
    null = column.isna().to_numpy()
    if isinstance(column.dtype, pd.BooleanDtype):
        content.update(b"boolean" + np.where(null, 2, column.fillna(False).to_numpy(bool)).astype("u1").tobytes())
    elif column.dtype.kind in "iu":
        values = column.fillna(0) if null.any() else column
        content.update(b"integer" + values.to_numpy().astype("<i8").tobytes() + (null.tobytes() if null.any() else b""))
    elif column.dtype.kind == "f":
        values = column.to_numpy().astype("<f8")
        content.update(b"float" + np.where(null, np.nan, values + 0.0).astype("<f8").tobytes())
    else:
        codes, texts = pd.factorize(column, use_na_sentinel=True)
        content.update(b"text" + codes.astype("<i8").tobytes() + repr([str(text) for text in texts]).encode())
