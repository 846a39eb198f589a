"""A study with one very large slide whose results are there, without the quarter of an hour that computing them takes.

One drawn tile is measured by mihc itself; picture, labels and cells of the large slide are that tile again and again,
in the format and under the keys of the stages `slide` and `cells`, so that a run takes them for its own and goes on
from there. Its picture's files are links to the tile's. Twenty-three patients more come as tables of cells, so that
there are tests to change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import mihc
from mihc import store, synthetic
from mihc.drawing.files import write_ome_tiff
from mihc.drawing.study_files import PANEL, STUDY_TOML
from mihc.nuclei_ids import block_of_id, nucleus_ids
from mihc.pipeline import local_executor
from mihc.results import cells_file, image_folder
from mihc.stages import Job, MemoryMeter
from mihc.steps.ingest import ingest
from mihc.steps.segment import LABELS, measured_table, segment
from mihc.store import Record, Store, Transaction

BIG, TILE = "BIG", "TILE"
OTHERS, THEIR_CELLS = 23, 3000


def draw_study(folder: Path, *, side: int, tile: int, seed: int = 1) -> Path:
    """Write a study of one slide of `side` x `side` pixels and tables of cells, measured as far as its cells."""
    measured = _measured_tile(folder / "tile", tile, seed)
    study = folder / "study"
    (study / "slides").mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "tile" / "slides" / f"{TILE}.ome.tif", study / "slides" / f"{BIG}.ome.tif")
    for name, text in {"study.toml": STUDY_TOML, "panel.csv": PANEL}.items():
        (study / name).write_text(text)
    _write_patients(study, mihc.slide_cells(measured, TILE))
    _place_tiles(mihc.read_study(study), measured, side // tile)
    return study


def _measured_tile(folder: Path, tile: int, seed: int) -> mihc.Study:
    slide = folder / "slides" / f"{TILE}.ome.tif"
    slide.parent.mkdir(parents=True, exist_ok=True)
    if not slide.exists():
        layout = synthetic.Layout(aggregates=4, glass_fraction=0.1)
        drawn = synthetic.draw_slide(seed=seed, size_px=(tile, tile), layout=layout)
        write_ome_tiff(slide, drawn.image, channels=drawn.channels, pixel_size_um=drawn.pixel_size_um)
    for name, text in {"study.toml": STUDY_TOML, "panel.csv": PANEL}.items():
        (folder / name).write_text(text)
    (folder / "slides.csv").write_text(f"slide,file,patient\n{TILE},slides/{slide.name},001\n")
    (folder / "clinical.csv").write_text(_clinical(1).to_csv(index=False))
    failed = mihc.run(mihc.read_study(folder), until="positives").failed
    if failed:
        raise RuntimeError(failed)
    return mihc.read_study(folder)


def _clinical(patients: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    months = rng.exponential(12, patients).round(2) + 0.1
    return pd.DataFrame({
        "patient": [f"{number:03}" for number in range(1, patients + 1)],
        "pfs_months": months,
        "pfs_event": rng.integers(0, 2, patients),
        "os_months": (months + rng.exponential(10, patients)).round(2),
        "os_event": rng.integers(0, 2, patients),
        "best_response": rng.choice(["CR", "PR", "SD", "PD"], patients),
        "signature": rng.choice(["a", "b"], patients),
        "liver_metastasis": rng.choice(["yes", "no"], patients),
        "ecog": rng.integers(0, 3, patients),
    })  # fmt: skip


def _write_patients(study: Path, cells: pd.DataFrame) -> None:
    """slides.csv, clinical.csv, and a table of cells for every patient but the first."""
    lines, rng = [f"{BIG},slides/{BIG}.ome.tif,001,"], np.random.default_rng(2)
    called = [name for name in cells if name.startswith("phenotype_") or name.endswith(("_positive", "_level"))]
    for number in range(2, OTHERS + 2):
        name = f"T{number:03}"
        drawn = cells.drop(columns=[*called, "slide"]).sample(THEIR_CELLS, random_state=rng).sort_values("cell")
        drawn.to_parquet(study / f"{name}.parquet", index=False)
        lines.append(f"{name},,{number:03},{name}.parquet")
    (study / "slides.csv").write_text("slide,file,patient,cells\n" + "\n".join(lines) + "\n")
    _clinical(OTHERS + 1).to_csv(study / "clinical.csv", index=False)


@dataclass(frozen=True)
class Tiles:
    """A measured tile, and how often it is laid along each side."""

    study: mihc.Study
    count: int

    @property
    def folder(self) -> Path:
        """Its OME-Zarr."""
        return self.study.results / image_folder(TILE)

    def record(self, stage: str) -> Record:
        """What its own run stored of a stage."""
        return Store(self.study.results).record(stage, TILE)

    @property
    def side(self) -> int:
        """Its pixels along a side."""
        return store.open_image(self.folder).levels[0].shape[-1]

    def names(self, ids: np.ndarray, row: int, column: int) -> np.ndarray:
        """Its cells' ids where it is laid."""
        seeds = block_of_id(ids, (self.side, self.side)) + np.array([row, column]) * self.side
        return nucleus_ids(seeds, (self.side * self.count,) * 2)


class MosaicJob(Job):
    """A run whose stages `slide` and `cells` lay tiles instead of reading and segmenting."""

    tiles: Tiles

    def stage(self, name: str, slide: str, key: dict[str, str], make: object) -> Record:
        """Write a stage of the large slide under the key that mihc gives it."""
        laid = {"slide": self._lay_picture, "cells": self._lay_cells}[name]
        return super().stage(name, slide, key, laid)

    def _lay_picture(self, transaction: Transaction) -> None:
        small, tiles = store.open_image(self.tiles.folder), self.tiles
        side, root = tiles.side * tiles.count, image_folder(BIG)
        path = transaction.path(root)
        store.create_image(
            path, shape=(len(small.channels), side, side), dtype=small.levels[0].dtype,
            pixel_size_um=small.pixel_size_um, channels=small.channels, colours=small.colours, windows=small.windows,
            name=BIG,
        )  # fmt: skip
        linked = 1 if tiles.side % store.IMAGE_PASS else 2  # a shard of level 1 holds no whole number of smaller tiles
        transaction.vouch(root, dict(self._linked(path, linked)))
        transaction.vouch(root, store.build_pyramid(path, self.submit, first=linked))
        box = f"POLYGON ((0 0, {side} 0, {side} {side}, 0 {side}, 0 0))"
        shape = [len(small.channels), side, side]
        transaction.notes |= tiles.record("slide").notes | {"shape": shape, "scanned_px": box}

    def _linked(self, path: Path, levels: int) -> Iterator[tuple[str, tuple[int, str]]]:
        """Links of the first levels, whose shards hold a tile or a part of it: name in the picture -> size, sha256."""
        root = f"{image_folder(TILE)}/"
        for name, fact in self.tiles.record("slide").files.items():
            level, *place = name.removeprefix(root).split("/")
            if not level.isdigit() or int(level) >= levels or place[0] != "c":
                continue
            shards = max(self.tiles.side // store.IMAGE_SHARD >> int(level), 1)
            channel, *at = map(int, place[1:])
            for row in range(self.tiles.count):
                for column in range(self.tiles.count):
                    y, x = at[0] + row * shards, at[1] + column * shards
                    link = path / level / "c" / str(channel) / str(y) / str(x)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    os.link(self.tiles.study.results / name, link)
                    yield link.relative_to(path).as_posix(), fact

    def _lay_cells(self, transaction: Transaction) -> None:
        tiles, table = self.tiles, store.read_cells(self.tiles.study.results / measured_table(TILE))
        small, ids = store.open_image(tiles.folder), table["cell"].to_numpy()
        for name in LABELS:
            folder = transaction.path(f"{image_folder(BIG)}/labels/{name}")
            side = tiles.side * tiles.count
            store.create_labels(folder, shape=(side, side), pixel_size_um=small.pixel_size_um, name=name)
            labels = store.open_labels(tiles.folder, name)[0][:, :]
            places = np.where(labels == 0, 0, 1 + np.searchsorted(ids, labels))
            for row in range(tiles.count):
                for column in range(tiles.count):
                    named = np.concatenate([[np.uint32(0)], tiles.names(ids, row, column)])
                    store.write_label_window(folder, 0, row * tiles.side, column * tiles.side, named[places])
            store.build_label_pyramid(folder, self.submit)
        store.write_cells_in_parts(transaction.path(measured_table(BIG)), self._rows(table, small.pixel_size_um))
        transaction.notes |= tiles.record("cells").notes | {"cells": len(table) * tiles.count**2}

    def _rows(self, table: pd.DataFrame, pixel_size_um: tuple[float, float]) -> Iterator[pd.DataFrame]:
        """The tile's cells again and again; their values differ in the last bits, or the table would be small."""
        tiles, ids = self.tiles, table["cell"].to_numpy()
        means, noise = [name for name in table if name.endswith("_mean")], np.random.default_rng(3)
        for row in range(tiles.count):
            parts = []
            for column in range(tiles.count):
                y, x = (place * tiles.side * size for place, size in zip((row, column), pixel_size_um))
                moved = {"cell": tiles.names(ids, row, column), "x_um": table["x_um"] + x, "y_um": table["y_um"] + y}
                shaken = {name: table[name] * (1 + 1e-6 * noise.random(len(table))) for name in means}
                parts.append(table.assign(slide=BIG, **moved, **shaken))
            yield pd.concat(parts, ignore_index=True).sort_values("cell", kind="stable", ignore_index=True)


def _place_tiles(study: mihc.Study, measured: mihc.Study, count: int) -> None:
    row = next(row for row in study.slides if row.slide == BIG)
    with local_executor(2) as executor, MemoryMeter() as meter:
        job = MosaicJob(study, Store(study.results), executor, lambda event: None, meter)
        job.tiles = Tiles(measured, count)
        with job.store.lock(BIG):
            segment(job, row, ingest(job, row))


def cells_of(study: mihc.Study) -> int:
    """How many cells the large slide has."""
    return len(store.read_cells(study.results / cells_file(BIG), columns=["cell"]))
