"""Cells and regions -> cells as a final review left them: what was edited is measured and placed, all else stays.

    .stages/edits/<slide>.parquet           rows of the edited cells alone, measured and placed; without edits none
    .stages/edits/<slide>.area_ledger.csv   the slide's account with them

The machine's labels and its tables are not touched: who reads a slide's cells lays these rows over them (`Edits`). An
edited cell is measured by the same code on the same counts as every other; where a feature looks beyond a cell
(background, spillover), the cells around are measured again too. Automatic thresholds and the checks of the slide are
of what the machine found: correcting a cell moves neither.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mihc import store
from mihc.cells import FLAGS, CellSettings, features_halo_px
from mihc.errors import InputError
from mihc.measures.pixels import Labelled
from mihc.measures.table import cell_table
from mihc.nuclei import longest_nucleus_px
from mihc.nuclei_ids import block_of_id
from mihc.regions import OUTSIDE, moved_cells
from mihc.reviews.runs import PARTS, box_of, laid_over, paint
from mihc.reviews.states import EditedCell, SlideReview
from mihc.stages import Job, code_hash
from mihc.steps import place
from mihc.steps.segment import measured_table
from mihc.store import Record, StoredImage, Transaction, hash_json
from mihc.study import SlideRow

MODULES = (
    "mihc.cells",
    "mihc.cells_kernels",
    "mihc.measures",
    "mihc.regions",
    "mihc.areas",
    "mihc.reviews.runs",
    "mihc.reviews.states",
    "mihc.steps.edit",
    "mihc.steps.place",
)
STAGE = "edits"
AUTOMATIC = "automatic_class"  # a column of the edited cells: their class by the automatic regions
LABEL_COLUMNS = ("cell", "x_um", "y_um", "nucleus_area_um2", "cell_area_um2")
PLACED = ("cell", "region", "tissue_class")
LOOK_AROUND = {"background", "spillover"}  # features that look beyond their cell
Box = tuple[int, int, int, int]  # y0, y1, x0, x1, half open


def edited_table(slide: str) -> str:
    """Where the rows of a slide's edited cells lie under results/."""
    return f".stages/edits/{slide}.parquet"


def ledger_part(job: Job, slide: str) -> str:
    """Where a slide's rows of area_ledger.csv lie under results/: with the edits, where there are any."""
    edited = job.store.record(STAGE, slide) is not None
    return f".stages/edits/{slide}.area_ledger.csv" if edited else place.part("area_ledger", slide)


@dataclass(frozen=True)
class Edits:
    """A slide's edited cells, to be laid over the machine's tables."""

    rows: pd.DataFrame  # by cell: what was measured, region, tissue_class, ..., and AUTOMATIC where there is such
    gone: np.ndarray  # ids of the machine's rows that count no more

    def over(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of the machine's cells, sorted by `cell`, with the edits; few rows come and go, so none is sorted."""
        ids, added = table["cell"].to_numpy(), self.rows[list(table)]
        gone = np.searchsorted(ids, _among(ids, self.gone))
        if not len(added) and not len(gone):
            return table
        parts = _parts(len(ids), gone, np.searchsorted(ids, added["cell"].to_numpy()))
        return pd.DataFrame({name: _with_rows(table[name], added[name], parts) for name in table}, copy=False)

    def in_groups(self, last: np.ndarray) -> dict[int, Edits]:
        """The edits by the row group of the machine's table that they fall into.

        `last` are the groups' last cells, ascending; cells with ids beyond are under the number of groups.
        """
        of_rows, of_gone = (np.searchsorted(last, ids) for ids in (self.rows["cell"].to_numpy(), self.gone))
        return {
            group: Edits(self.rows[of_rows == group], self.gone[of_gone == group])
            for group in np.union1d(of_rows, of_gone).tolist()
        }


Part = tuple[bool, slice]  # rows of a table with edits: of the machine's, or of the edited ones where True


def _parts(rows: int, gone: np.ndarray, at: np.ndarray) -> list[Part]:
    """A table of so many rows without those that are `gone`, and with others before the rows `at`; both ascend."""
    parts: list[Part] = []
    begun = 0
    events = [(int(row), 1, 0) for row in gone] + [(int(row), 0, number) for number, row in enumerate(at)]
    for row, leaves, number in sorted(events):
        parts.append((False, slice(begun, row)))
        begun = row + leaves
        if not leaves:
            parts.append((True, slice(number, number + 1)))
    return [*parts, (False, slice(begun, rows))]


def _with_rows(column: pd.Series, added: pd.Series, parts: list[Part]) -> pd.Series:
    """A column put together of parts; whole stretches are copied, which takes no time beside choosing row by row."""
    values = column.array
    if isinstance(column.dtype, np.dtype):
        both = column.to_numpy(), added.to_numpy().astype(column.dtype)
        return pd.Series(np.concatenate([both[edited][rows] for edited, rows in parts]), copy=False)
    if isinstance(values, pd.Categorical):
        values = values.add_categories(sorted({*added} - {*values.categories}))
    both = pd.Series(values), pd.Series(added.array, dtype=values.dtype)
    return pd.concat([both[edited].iloc[rows] for edited, rows in parts], ignore_index=True)


def _among(ids: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Those of `some` that are among the ids, which rise; rising, each once."""
    some = np.unique(some).astype(ids.dtype)
    place = np.searchsorted(ids, some)
    inside = place < len(ids)
    return some[inside][ids[place[inside]] == some[inside]]


def edits_of(job: Job, slide: str) -> Edits | None:
    """The edits of a slide's final review as they were measured; None without any."""
    record = job.store.record(STAGE, slide)
    if record is None:
        return None
    rows = store.read_cells(job.store.path(edited_table(slide)))
    return Edits(rows, np.array(record.notes["gone"], np.uint32))


def cells_hash(cells: pd.DataFrame) -> str:
    """A hash of a machine's cells, by which an edit knows the labels that it was made on."""
    digest = hashlib.sha256()
    for name in LABEL_COLUMNS:
        digest.update(np.ascontiguousarray(cells[name].to_numpy()))
    return digest.hexdigest()


def edit(job: Job, row: SlideRow, image: Record, cells: Record, outlines: Record, regions: Record) -> Record | None:
    """Lay the cell edits of a slide's final review over its cells -> what was stored of them; None without any.

    Raises
    ------
    InputError
        When the edits were made on other labels than those that are there now.
    """
    review = job.study.reviews.get(row.slide)
    if review is None or not review.edits_cells:
        if job.store.record(STAGE, row.slide):
            job.store.withdraw(STAGE, row.slide)
        return None
    key = {
        "image": image.digest,
        "cells": cells.digest,
        "outlines": outlines.digest,
        "regions": regions.digest,
        "edits": review.cells_hash,
        "measure": hash_json(job.study.settings.measure.features),
        "code": code_hash(*MODULES),
    }
    done = {"slide": image, "cells": cells, "outlines": outlines}
    return job.stage(STAGE, row.slide, key, lambda transaction: _edit(job, row, done, review, transaction))


def _edit(job: Job, row: SlideRow, done: Mapping[str, Record], review: SlideReview, transaction: Transaction) -> None:
    slide = row.slide
    _refuse_other_labels(job, slide, done["cells"], review)
    machine = store.read_cells(job.store.path(measured_table(slide)), columns=["cell"])["cell"].to_numpy()
    folder = job.store.path(f"slides/{slide}.ome.zarr")
    stored, labels = store.open_image(folder), {name: store.open_labels(folder, name)[0] for name in PARTS}
    measured = measure_edits(stored, labels, review, _settings(job, stored, done["slide"], done["cells"]))
    measured.insert(0, "slide", slide)
    rows = measured.drop(columns="flags").join(_places(job, slide, measured, done["outlines"]))
    gone = _among(machine, np.array([*review.removed, *measured["cell"]], np.uint32))
    store.write_cells(transaction.path(edited_table(slide)), rows)
    ledger = _ledger(job, slide, machine, Edits(rows, gone))
    store.write_csv(transaction.path(f".stages/edits/{slide}.area_ledger.csv"), ledger)
    transaction.notes |= {
        "removed": len(review.removed),
        "added": len(review.added),
        "gone": gone.tolist(),
        "labels": review.labels,
    }


def _refuse_other_labels(job: Job, slide: str, cells: Record, review: SlideReview) -> None:
    """Refuse edits of other cells than the machine's; the same cells, once compared, are not read again for that."""
    before = job.store.record(STAGE, slide)
    if before and (before.key.get("cells"), before.notes.get("labels")) == (cells.digest, review.labels):
        return
    if cells_hash(store.read_cells(job.store.path(measured_table(slide)), columns=LABEL_COLUMNS)) != review.labels:
        raise InputError(
            f"the cells were edited by {review.reviewer} on other labels than these, which were found anew since",
            place=slide,
            fix="Undo the cell edits in mihc review, or take back what changed the segmentation.",
        )


def _places(job: Job, slide: str, measured: pd.DataFrame, outlines: Record) -> pd.DataFrame:
    """Where edited cells lie; where all were deleted, no outline is read, which on a large slide are many."""
    if not len(measured):
        names, numbers = dict.fromkeys(PLACED[1:], object), {"distance_to_margin_um": float, "flags": np.uint32}
        columns = names | numbers | ({AUTOMATIC: object} if "automatic_areas_mm2" in outlines.notes else {})
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in columns.items()})
    shapes = place.shapes_of(job, slide)
    placed = place.placed_cells(job, slide, measured, shapes, outlines)
    if shapes["automatic"]:
        placed[AUTOMATIC] = place.automatic_classes(measured, shapes, outlines)
    return placed


def _ledger(job: Job, slide: str, machine: np.ndarray, edits: Edits) -> pd.DataFrame:
    """The account with the edits: from the machine's, of whom `machine` are the ids, where nothing outside changes."""
    left = _places_of(job, slide, machine, edits.gone)
    if OUTSIDE in {*left["tissue_class"], *edits.rows["tissue_class"]}:
        placed = store.read_cells(job.store.path(place.regions_table(slide)), columns=PLACED)
        where = store.read_cells(job.store.path(measured_table(slide)), columns=["x_um", "y_um"])
        every = edits.over(placed.join(where))
        return place.whole_ledger(job, slide, every, place.shapes_of(job, slide))
    change = Counter(zip(edits.rows["region"], edits.rows["tissue_class"]))
    change.subtract(zip(left["region"], left["tissue_class"]))
    return moved_cells(store.read_csv(job.store.path(place.part("area_ledger", slide))), change)


def _places_of(job: Job, slide: str, ids: np.ndarray, cells: np.ndarray) -> pd.DataFrame:
    """Where some of the machine's cells, all of whose ids are given, lie; only their row groups are read."""
    path = job.store.path(place.regions_table(slide))
    ends = np.cumsum(store.row_groups(path), dtype=np.int64)
    groups = np.unique(np.searchsorted(ids[ends - 1], cells))
    found = store.read_cells(path, columns=PLACED, groups=groups.tolist())
    return found[np.isin(found["cell"], cells)]


def _settings(job: Job, stored: StoredImage, image: Record, cells: Record) -> CellSettings:
    """What the window pass measured with, as far as cells that are known need it."""
    segmentation, bits = job.study.settings.segmentation, image.notes["significant_bits"]
    return CellSettings(
        nucleus_diameter_um=segmentation.nucleus_diameter_um,
        cell_expansion_um=segmentation.cell_expansion_um,
        nuclei_channels=(),
        measured=tuple(enumerate(stored.channels)),
        fixed_point_bits=tuple(cells.notes["fixed_point_bits"][channel] for channel in stored.channels),
        ceilings=(2**bits - 1,) * len(stored.channels) if bits else (),
        features=job.study.settings.measure.features,
    )


def measure_edits(
    stored: StoredImage, labels: dict[str, store.StoredArray], review: SlideReview, settings: CellSettings
) -> pd.DataFrame:
    """Measure a review's edited cells, and the cells whose values an edit changes: rows as `measure_cells` gives them.

    Parameters
    ----------
    stored
        The slide's picture.
    labels
        The machine's "nuclei" and "cells", full resolution.
    review
        The edits.
    settings
        What the window pass measured with.
    """
    own = [_own_row(stored, one, settings) for one in review.added.values()]
    tables = own if not LOOK_AROUND & set(settings.features) else _around(stored, labels, review, settings)
    if not tables:
        return _no_rows(stored, settings)
    table = pd.concat(tables, ignore_index=True).drop_duplicates("cell").sort_values("cell", ignore_index=True)
    is_edited = table["cell"].isin(list(review.added))
    table.loc[is_edited, "flags"] |= np.uint32(FLAGS["edited"])
    return table


def _own_row(stored: StoredImage, one: EditedCell, settings: CellSettings) -> pd.DataFrame:
    """The row of one edited cell from its own pixels."""
    y0, y1, x0, x1 = box_of(one.whole)
    nuclei, cells = (np.zeros((y1 - y0, x1 - x0), np.uint32) for _ in PARTS)
    paint(nuclei, one.nucleus, 1, origin_yx=(y0, x0))
    paint(cells, one.whole, 1, origin_yx=(y0, x0))
    plain = [name for name in settings.features if name not in LOOK_AROUND]
    return _measured(stored, nuclei, cells, np.array([one.cell], np.uint32), 1, (y0, x0), _with(settings, plain))


def _around(
    stored: StoredImage, labels: dict[str, store.StoredArray], review: SlideReview, settings: CellSettings
) -> list[pd.DataFrame]:
    """Rows of the edited cells and of all cells near them, each from a piece that holds whatever its values need."""
    shape, size = stored.levels[0].shape[1:], stored.pixel_size_um
    longest = longest_nucleus_px(size, settings.nucleus_diameter_um)
    longest += 2 * math.ceil(settings.cell_expansion_um / min(size)) + 2
    reach = features_halo_px(size, longest, settings.cell_expansion_um, settings.features)
    tables = []
    for box in _touched(review, shape, longest):
        near = _grown(box, reach, shape)
        tallest = max([longest, *(max(y1 - y0, x1 - x0) for y0, y1, x0, x1 in map(_whole_box, review.added.values()))])
        y0, y1, x0, x1 = _grown(near, tallest + reach, shape)
        nuclei, cells = (laid_over(labels[name][y0:y1, x0:x1], review, name, origin_yx=(y0, x0)) for name in PARTS)
        inner = cells[near[0] - y0 : near[1] - y0, near[2] - x0 : near[3] - x0]
        wanted = np.setdiff1d(inner, [0])
        if not len(wanted):  # every cell there is was deleted
            continue
        present = np.setdiff1d(np.union1d(nuclei, []).astype(np.uint32), [0, *wanted])  # with a nucleus in the piece
        ids = np.concatenate([wanted, present]).astype(np.uint32)
        tables.append(_measured(stored, *_numbered(nuclei, cells, ids), ids, len(wanted), (y0, x0), settings))
    return tables


def _whole_box(one: EditedCell) -> Box:
    return box_of(one.whole)


def _touched(review: SlideReview, shape: tuple[int, int], longest: int) -> list[Box]:
    """The boxes in which pixels are no longer whose they were."""
    boxes = [_whole_box(one) for one in review.added.values()]
    for y, x in block_of_id(np.array(sorted(review.removed), np.uint32), shape):
        boxes.append(_grown((int(y), int(y) + 2, int(x), int(x) + 2), longest, shape))
    return boxes


def _grown(box: Box, by: int, shape: tuple[int, int]) -> Box:
    y0, y1, x0, x1 = box
    return max(y0 - by, 0), min(y1 + by, shape[0]), max(x0 - by, 0), min(x1 + by, shape[1])


def _numbered(nuclei: np.ndarray, cells: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1, 2, ... in the order of `ids`; a cell whose nucleus lies outside the piece is background."""
    order = np.argsort(ids)
    return _renamed(nuclei, ids[order], order), _renamed(cells, ids[order], order)


def _renamed(labels: np.ndarray, known: np.ndarray, order: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(known, labels), max(len(known) - 1, 0))
    return np.where(known[place] == labels, order[place] + 1, 0).astype(np.uint32)


def _measured(
    stored: StoredImage,
    nuclei: np.ndarray,
    cells: np.ndarray,
    ids: np.ndarray,
    own: int,
    origin_yx: tuple[int, int],
    settings: CellSettings,
) -> pd.DataFrame:
    """Rows of the first `own` of the labels 1, 2, ..., whose names are `ids`."""
    level = stored.levels[0]
    (y0, x0), (height, width) = origin_yx, cells.shape
    rows = np.arange(-1, len(ids), dtype=np.int32)
    labelled = Labelled(nuclei, cells, rows, ids, own, y0, x0, *level.shape[1:])
    piece = np.asarray(level[:, y0 : y0 + height, x0 : x0 + width])
    return cell_table(piece, labelled, stored.pixel_size_um, settings)


def _with(settings: CellSettings, features: Sequence[str]) -> CellSettings:
    return replace(settings, features=tuple(features))


def _no_rows(stored: StoredImage, settings: CellSettings) -> pd.DataFrame:
    """The columns without a row: every edited cell was deleted."""
    nothing = np.zeros((1, 1), np.uint32)
    return _measured(stored, nothing, nothing, np.zeros(0, np.uint32), 0, (0, 0), settings)
