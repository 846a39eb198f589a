"""One reviewer at one slide: every gesture journalled, undone the other way round, and shown by what it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mihc.errors import CONTROL, MihcError, OutputConflict, UsageError
from mihc.positives import Threshold, manual_threshold
from mihc.regions import ANALYSED, Region, map_classes, read_regions
from mihc.results import cells_file, found_regions, population_columns, slide_cells, slide_image, slide_regions
from mihc.reviewing.tables import slide_thresholds
from mihc.reviews import cell_edits
from mihc.reviews.cell_edits import CellEdit, Piece
from mihc.reviews.journal import CELL_GESTURES, Journal, Line
from mihc.reviews.live import LiveCounts
from mihc.reviews.region_edits import class_name, edit_regions, polygon_as_json
from mihc.reviews.runs import EditedLabels, box_of
from mihc.reviews.states import NEGATIVE, SlideReview, largest_added_id, replay, standing, taken_back
from mihc.steps.edit import LABEL_COLUMNS, cells_hash
from mihc.steps.segment import measured_table
from mihc.store import Store, cell_columns, open_image, open_labels, read_cells
from mihc.study import SlideRow, Study

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry import MultiPolygon, Polygon

AROUND_PX = 64  # pixels that are read around a cell at first
BLOCK = 2  # side of the blocks of pixels that the machine's ids count


def open_review(study: Study, slide: str, reviewer: str) -> Session:
    """Begin, or go on with, a reviewer's work on a slide.

    Raises
    ------
    UsageError
        When the slide is not in slides.csv or not measured yet, or the name cannot be a reviewer's.
    OutputConflict
        When the same reviewer has the slide open elsewhere.
    """
    row = next((row for row in study.slides if row.slide == slide), None)
    if row is None:
        raise UsageError(
            f"slides.csv has no slide {slide!r}", fix=f"It has {', '.join(r.slide for r in study.slides)}."
        )
    with suppress(OutputConflict):  # a run is at it, or it may not be written: it is read as it is
        Store(study.results).recover()  # what a kill left of a save is half visible till then
    slide_cells(study, slide, columns=["cell"])
    return Session(study, row, Journal(study.folder, reviewer, slide))


@dataclass
class Session:
    """A reviewer's slide while it is open.

    Positions of cells and lines are (y, x) in pixels, 0 at the corner of the first; polygons are in mihc's µm.
    """

    study: Study
    row: SlideRow
    journal: Journal
    _replayed: tuple[int, SlideReview] | None = None  # after how many lines, and what they came to
    _found: str = ""  # the digest of the machine's cells that were looked at; "" before

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others open the slide under this name; nothing needs to be saved."""
        self.journal.close()

    @property
    def state(self) -> SlideReview:
        """What all gestures so far come to."""
        known, count = self._replayed, len(self.journal.lines)
        if known is None or known[0] != count:
            self._replayed = known = (count, replay(self.row.slide, self.journal.who, self.journal.lines))
        return known[1]

    @property
    def gestures(self) -> list[Line]:
        """The gestures that stand, the oldest first."""
        return standing(self.journal.lines)

    def undo(self) -> Line | None:
        """Take the last gesture that stands back, one of an earlier day too -> which; None where there is none."""
        stands = self.gestures
        if not stands:
            return None
        self.journal.add("undo", {"of": stands[-1].number})
        return stands[-1]

    def redo(self) -> Line | None:
        """Do the gesture that was undone last again -> which; None where there is none, or another one came since."""
        back = taken_back(self.journal.lines)
        if not back:
            return None
        self.journal.add("redo", {"of": back[-1].number})
        return back[-1]

    # Thresholds

    def set_threshold(
        self, marker: str, value: float | None, *, levels: Sequence[float] | None = None, reason: str = ""
    ) -> Line:
        """Set a marker's threshold on this slide, in counts; None: the slide is negative for it.

        `levels` are moderate and strong; None keeps those that hold now, which must lie above the value.
        """
        now = self._threshold_now(marker)
        kept = tuple(now.levels if levels is None else levels)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{value} is no number of counts", fix="Give a number from 0 on.")
        if value is not None and not all(a < b for a, b in zip((value, *kept), kept)):
            shown = ", ".join(f"{one:g}" for one in kept)
            raise UsageError(
                f"{value:g} does not lie below moderate and strong, {shown}", place=marker, fix="Set all three anew."
            )
        content: dict[str, object] = {"marker": marker, "value": None if value is None else float(value)}
        if kept:
            content["levels"] = [None if value is None else float(one) for one in kept]
        return self.journal.add("threshold", content | {"reason": reason})

    def set_threshold_on(
        self, slides: Sequence[str], marker: str, value: float | None, *, reason: str = ""
    ) -> dict[str, str]:
        """Set a threshold on several slides, each in its own journal -> what stood in the way, by slide."""
        failed = {}
        for slide in slides:
            try:
                if slide == self.row.slide:
                    self.set_threshold(marker, value, reason=reason)
                else:
                    with open_review(self.study, slide, self.journal.who) as other:
                        other.set_threshold(marker, value, reason=reason)
            except MihcError as error:
                failed[slide] = str(error)
        return failed

    def accept(self, marker: str = "") -> Line:
        """Say that a marker's threshold, or ("") the whole slide, was looked at and is right as it is."""
        if marker:
            self._threshold_now(marker)
        return self.journal.add("accept", {"marker": marker})

    def thresholds(self) -> dict[str, Threshold]:
        """The slide's thresholds by marker: this reviewer's where they set one, else those of the results."""
        return thresholds_of(self.study, self.row.slide, self.state)

    def live_counts(self) -> LiveCounts:
        """The slide's cells as the results have them, to be counted while a threshold moves."""
        slide = self.row.slide
        return live_counts_of(self.study, slide, counted_cells(self.study, slide), self.state)

    def _threshold_now(self, marker: str) -> Threshold:
        known = self.thresholds()
        if marker not in known:
            raise UsageError(f"slide {self.row.slide} has no marker {marker!r}", fix=f"It has {', '.join(known)}.")
        return known[marker]

    # Cells

    @cached_property
    def pixel_size_um(self) -> tuple[float, float]:
        """(y, x) of the full resolution."""
        return open_image(slide_image(self.study, self.row.slide)).pixel_size_um

    def labels(self, name: str) -> list[EditedLabels]:
        """The levels of "nuclei" or "cells" with this reviewer's edits over them; the machine's are not touched."""
        state = self.state
        return [
            EditedLabels(level, state, name, step=round(self._machine["cells"][0].shape[0] / level.shape[0]))
            for level in self._machine[name]
        ]

    def cell_at(self, y: float, x: float) -> int:
        """The id of the cell at a position; 0 for none."""
        row, column = math.floor(y), math.floor(x)
        height, width = self._shape
        if not (0 <= row < height and 0 <= column < width):
            return 0
        return int(self.labels("cells")[0][row : row + 1, column : column + 1][0, 0])

    def merge(self, cells: Sequence[int]) -> Line:
        """Make one cell of several."""
        new = self._next_id()
        return self._edit("merge", cells, lambda piece: cell_edits.merge(piece, cells, new=new))

    def delete(self, cells: Sequence[int]) -> Line:
        """Make background of cells."""
        return self._edit("delete", cells, lambda piece: cell_edits.delete(piece, cells))

    def split(self, cell: int, line_yx: np.ndarray) -> Line:
        """Cut a cell in two along a line (n, 2)."""
        new = self._next_id()
        return self._edit("split", [cell], lambda piece: cell_edits.split(piece, cell, line_yx, new=(new, new + 1)))

    def add(self, outline_yx: np.ndarray) -> Line:
        """Add a cell by the outline of its nucleus (n, 2)."""
        new = self._next_id()
        return self._edit("add", [], lambda piece: cell_edits.add(piece, outline_yx, new=new), outline_yx)

    def redraw(self, cell: int, outline_yx: np.ndarray) -> Line:
        """Give a cell another nucleus by its outline (n, 2)."""
        return self._edit("redraw", [cell], lambda piece: cell_edits.redraw(piece, cell, outline_yx), outline_yx)

    def _edit(
        self, gesture: str, cells: Sequence[int], edit: Callable[[Piece], CellEdit], outline: np.ndarray | None = None
    ) -> Line:
        state = self.state
        self._look_again()
        if state.labels and state.labels != self._labels_hash:
            raise UsageError(
                "the cells were found anew since they were edited", place=self.row.slide, fix="Undo the edits of cells."
            )
        made = edit(self._piece(state, cells, outline))
        return self.journal.add(gesture, made.as_json() | {"labels": self._labels_hash})

    def _look_again(self) -> None:
        """Forget the labels that were read where a run has found the cells anew since."""
        record = Store(self.study.results).record("cells", self.row.slide)
        now = record.digest if record else ""
        if self._found not in ("", now):
            for name in ("_machine", "_labels_hash"):
                self.__dict__.pop(name, None)
        self._found = now

    def _piece(self, state: SlideReview, cells: Sequence[int], outline: np.ndarray | None) -> Piece:
        """The labels around some cells and an outline, large enough to hold the cells whole."""
        boxes = [self._place(state, cell) for cell in cells]
        if outline is not None and len(outline):
            low, high = np.floor(np.min(outline, axis=0)), np.ceil(np.max(outline, axis=0))
            boxes.append((int(low[0]), int(high[0]), int(low[1]), int(high[1])))
        if not boxes:
            raise UsageError("no cell is named", place=self.row.slide, fix="Choose cells in the view.")
        around, (height, width) = AROUND_PX, self._shape
        while True:
            y0, x0 = (max(min(box[k] for box in boxes) - around, 0) for k in (0, 2))
            y1, x1 = (
                min(max(box[k] for box in boxes) + around, size) for k, size in ((1, height), (3, width))
            )  # fmt: skip
            nuclei, found = (EditedLabels(self._machine[n][0], state, n)[y0:y1, x0:x1] for n in ("nuclei", "cells"))
            cut = np.concatenate([found[0] * (y0 > 0), found[-1] * (y1 < height)]).tolist()
            cut += np.concatenate([found[:, 0] * (x0 > 0), found[:, -1] * (x1 < width)]).tolist()
            if not set(cells) & set(cut) or around > max(height, width):
                expansion = self.study.settings.segmentation.cell_expansion_um
                return Piece(nuclei, found, (y0, x0), self.pixel_size_um, expansion)
            around *= 2

    def _place(self, state: SlideReview, cell: int) -> tuple[int, int, int, int]:
        if cell in state.added:
            return box_of(state.added[cell].whole)
        height, width = self._shape
        columns = -(-width // BLOCK)
        y, x = (cell - 1) // columns * BLOCK, (cell - 1) % columns * BLOCK
        if not (cell > 0 and y < height):
            raise UsageError(f"there is no cell {cell}", place=self.row.slide, fix="Choose cells in the view.")
        return y, y + BLOCK, x, x + BLOCK

    def _next_id(self) -> int:
        """An id that no cell of the machine can have, and that no edit of this slide has had."""
        height, width = self._shape
        machine = -(-height // BLOCK) * -(-width // BLOCK)
        return max(machine, largest_added_id([one for one in self.journal.lines if one.gesture in CELL_GESTURES])) + 1

    @cached_property
    def _machine(self) -> dict[str, list]:
        path = slide_image(self.study, self.row.slide)
        return {name: open_labels(path, name) for name in ("nuclei", "cells")}

    @property
    def _shape(self) -> tuple[int, int]:
        return tuple(self._machine["cells"][0].shape)

    @cached_property
    def _labels_hash(self) -> str:
        path = Store(self.study.results).path(measured_table(self.row.slide))
        return cells_hash(read_cells(path, columns=LABEL_COLUMNS))

    # Regions

    def regions(self) -> list[Region]:
        """The regions with this reviewer's edits over what was found, saved or not."""
        return edit_regions(found_regions(self.study, self.row.slide), self.state.regions)[0]

    def draw_region(self, name: str, tissue_class: str, polygon_um: Polygon | MultiPolygon) -> Line:
        """Draw a region; all that lay under it gives way."""
        if not name.strip():
            raise UsageError("a region needs a name", fix="Write one, Tumor 2 say.")
        if CONTROL.search(name):
            raise UsageError(f"the name {name!r} holds a control character", fix="Type it anew.")
        content = {"op": "draw", "name": name.strip(), "tissue_class": class_name(tissue_class)}
        return self._add_region(content | {"polygon": polygon_as_json(polygon_um)})

    def cut_region(self, name: str, polygon_um: Polygon | MultiPolygon) -> Line:
        """Take a piece out of a region, or ("") out of all: what lay there is in no region then."""
        self._check_region(name or None)
        return self._add_region({"op": "cut", "name": name, "polygon": polygon_as_json(polygon_um)})

    def remove_region(self, name: str) -> Line:
        """Take a region away."""
        self._check_region(name)
        return self._add_region({"op": "remove", "name": name})

    def reclassify_region(self, name: str, tissue_class: str) -> Line:
        """Give a region another class."""
        self._check_region(name)
        content = {"op": "reclassify", "name": name, "tissue_class": class_name(tissue_class)}
        return self._add_region(content)

    def import_regions(self, path: str | Path) -> Line:
        """Take all regions from an annotation file instead (QuPath GeoJSON, HALO, ImageJ, ASAP)."""
        read = read_regions(path, pixel_size_um=self.pixel_size_um)
        regions = map_classes(read, self.study.settings.regions.classes)
        if not regions:
            raise UsageError("no regions are in it", place=Path(path).name, fix="Draw at least one.")
        listed = [
            {"name": one.name, "tissue_class": one.tissue_class, "polygon": polygon_as_json(one.polygon_um)}
            for one in regions
        ]
        return self._add_region({"op": "replace", "regions": listed})

    def export_regions(self, path: str | Path) -> None:
        """Write the regions as GeoJSON that QuPath and mihc read."""
        from mihc.exports.geojson import write_regions

        write_regions(Path(path), self.row.slide, self._shape, self.regions(), self.pixel_size_um)

    def _add_region(self, content: dict) -> Line:
        """Journal an edit of regions with the size of the picture that it was made on."""
        return self.journal.add("region", content | {"size_px": list(self._shape)})

    def _check_region(self, name: str | None) -> None:
        known = list(dict.fromkeys(one.name for one in self.regions()))
        if name is not None and name not in known:
            raise UsageError(
                f"slide {self.row.slide} has no region {name!r}", fix=f"It has {', '.join(known) or 'none'}."
            )


def thresholds_of(study: Study, slide: str, review: SlideReview) -> dict[str, Threshold]:
    """A slide's thresholds by marker: a review's where it set one, else those of results/thresholds.csv."""
    known = {str(line.marker): _from_row(line) for line in slide_thresholds(study, slide).itertuples()}
    set_here = [one for one in review.thresholds.values() if one.marker in known]
    return known | {one.marker: _as_threshold(one.value, one.levels, one.reason) for one in set_here}


def counted_cells(study: Study, slide: str) -> pd.DataFrame:
    """Of a slide's cells what counting needs: their places and the markers' values; a million fit in memory."""
    row = next(row for row in study.slides if row.slide == slide)
    wanted = {"region", "tissue_class"}
    for one in study.panel_of(row).markers:
        wanted |= {f"{one.marker}_{one.compartment}_mean", f"{one.marker}_corrected"}
    there = cell_columns(Store(study.results).path(cells_file(slide)))
    return slide_cells(study, slide, columns=[name for name in there if name in wanted])


def live_counts_of(study: Study, slide: str, cells: pd.DataFrame, review: SlideReview) -> LiveCounts:
    """A slide's cells, its whole table, counted by a review's thresholds."""
    row = next(row for row in study.slides if row.slide == slide)
    lines = study.panel_of(row).markers
    measured = {one.marker: one.compartment for one in lines if f"{one.marker}_{one.compartment}_mean" in cells}
    shown = population_columns(study, slide)
    phenotypes = {name: text for name, text in study.settings.phenotypes.items() if name in shown}
    if len(measured) < len(lines):  # calls that came with a table have no value to be dragged
        phenotypes = {}
    thresholds = {marker: one for marker, one in thresholds_of(study, slide, review).items() if marker in measured}
    areas = _areas(study, row, cells)
    return LiveCounts(cells, thresholds, compartments=measured, phenotypes=phenotypes, area_mm2=areas)


def _areas(study: Study, row: SlideRow, cells: pd.DataFrame) -> dict[tuple[str, str], float]:
    """(region, tissue class) -> mm² of every region; regions of one name and class are one."""
    present = cells.loc[cells["tissue_class"].isin(ANALYSED), ["region", "tissue_class"]].drop_duplicates()
    areas = {key: math.nan for key in present.itertuples(index=False, name=None)} if row.file is None else {}
    for one in slide_regions(study, row.slide) if row.file is not None else ():
        if one.tissue_class in ANALYSED:
            areas[one.name, one.tissue_class] = one.area_mm2
    return areas


def _as_threshold(value: float, levels: tuple[float, ...], reason: str) -> Threshold:
    if value == NEGATIVE:
        return Threshold(math.inf, math.nan, math.nan, "manual", "negative slide", reason, levels)
    return manual_threshold(value, reason=reason, levels=levels)


def _from_row(line: object) -> Threshold:
    levels = tuple(one for one in (line.moderate, line.strong) if not math.isnan(one))
    reason = line.reason if isinstance(line.reason, str) else ""
    return Threshold(line.value, line.low, line.high, line.method, line.verdict, reason, levels)
