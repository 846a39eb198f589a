"""A reviewer's desk: the study, the slide that lies on it, and what is done to it; without Qt.

It speaks of positions as napari has them, (y, x) in µm with 0 at the centre of the first pixel, and hands them to mihc
in pixels or µm from that pixel's corner.
"""

from __future__ import annotations

import getpass
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mihc
from napari_mihc.model import SlideView, slide_view, thumbnail

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry import Polygon

BINS = 96
GALLERY, TILE_PX = 24, 32
OTHER_SLIDES = 12  # of the batch that a histogram is set beside


def login_name() -> str:
    """The name that the reviewer has on this computer, as a review can carry it."""
    try:
        return re.sub(r"[^A-Za-z0-9_-]+", "-", getpass.getuser()).strip("-")[:64] or "reviewer"
    except (OSError, KeyError, ImportError):
        return "reviewer"


@dataclass(frozen=True)
class MarkerView:
    """A marker's cells on this slide, for a picture: counts on a log axis, beside those of its batch."""

    marker: str
    edges: np.ndarray  # (n + 1,) counts
    cells: np.ndarray  # (n,) share of this slide's cells
    batch: np.ndarray  # (n,) share of the cells of the batch's other slides; zeros where there are none
    threshold: mihc.Threshold


@dataclass
class Desk:
    """One reviewer at one study."""

    folder: Path
    reviewer: str = field(default_factory=login_name)
    view: SlideView | None = None
    session: mihc.review.Session | None = None
    version: int = 0  # counts what may have changed thresholds behind the back of whoever shows them
    selected: list[int] = field(default_factory=list)  # cells, in the order in which they were chosen
    _live: mihc.review.LiveCounts | None = None
    _cells: pd.DataFrame | None = None
    _thumbnails: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        mihc.review.reviewer_name(self.reviewer)
        self.study = mihc.read_study(self.folder)

    # Slides

    def slides(self) -> pd.DataFrame:
        """The list of slides; see `mihc.review.slide_list`."""
        return mihc.review.slide_list(self.study, self.reviewer)

    def open(self, slide: str | None = None) -> SlideView:
        """Put a slide on the desk instead of the one that lies there; None: the first that is measured."""
        view = slide_view(self.study, slide)
        if self.session is not None and self.session.row.slide == view.slide:
            return view
        opened = mihc.review.open_review(self.study, view.slide, self.reviewer)
        self.close()
        self.view, self.session = view, opened
        return view

    def checks(self, slide: str) -> list[str]:
        """What the checks of a slide found wrong, a line each, the gravest first."""
        found = mihc.review.slide_checks(self.study, slide)
        told = [f"{one.verdict}: {one.check}. {one.explanation}" for one in found.itertuples() if one.verdict != "ok"]
        return told or ["Every check of this slide is ok." if len(found) else "It has no checks yet."]

    def thumbnail(self, slide: str) -> np.ndarray:
        """A small picture of a slide, (y, x, 3) uint8; read when it is first asked for, which may be in a thread."""
        if slide not in self._thumbnails:
            self._thumbnails[slide] = thumbnail(SlideView(self.study, slide))
        return self._thumbnails[slide]

    def has_thumbnail(self, slide: str) -> bool:
        """Whether it was asked for already."""
        return slide in self._thumbnails

    def close(self) -> None:
        """Take the slide off the desk."""
        if self.session is not None:
            self.session.close()
        self.session, self.view, self._live, self._cells = None, None, None, None
        self.selected.clear()

    def beside(self, step: int) -> str | None:
        """The measured slide that many places further in the list; None at its ends."""
        measured = mihc.measured_slides(self.study)
        place = measured.index(self.session.row.slide) + step if self.session else 0
        return measured[place] if 0 <= place < len(measured) else None

    # Thresholds

    @property
    def cells(self) -> pd.DataFrame:
        """The slide's cells: id, place, region."""
        if self._cells is None:
            wanted = ["cell", "x_um", "y_um", "region", "tissue_class"]
            self._cells = mihc.slide_cells(self.study, self.view.slide, columns=wanted)
        return self._cells

    @property
    def cell_count(self) -> int:
        """How many cells the slide has."""
        return len(mihc.slide_cells(self.study, self.view.slide, columns=["cell"]))

    @property
    def live(self) -> mihc.review.LiveCounts:
        """The slide's cells, counted by the thresholds as they stand or are being moved."""
        if self._live is None:
            self._live = self.session.live_counts()
        return self._live

    @property
    def markers(self) -> list[str]:
        """The markers whose threshold can be moved."""
        return list(self.live.values)

    def marker_view(self, marker: str) -> MarkerView:
        """What there is to draw of a marker."""
        values = self.live.values[marker]
        known = values[np.isfinite(values)]
        top = max(float(known.max(initial=1.0)), 1.0)
        low = max(float(np.quantile(known, 0.001)) if known.size else 1.0, 1.0)
        edges = np.geomspace(min(low, top / 2), top * 1.05, BINS + 1)
        return MarkerView(
            marker,
            edges,
            _shares(known, edges),
            _shares(self._batch_values(marker), edges),
            self.session.thresholds()[marker],
        )

    def _batch_values(self, marker: str) -> np.ndarray:
        row = self.session.row
        line = next(one for one in self.study.panel_of(row).markers if one.marker == marker)
        known = set(mihc.measured_slides(self.study))
        others = [
            one.slide
            for one in self.study.slides
            if one.slide in known and one.slide != row.slide and (one.panel, one.batch) == (row.panel, row.batch)
        ]
        name = f"{marker}_{line.compartment}_mean"
        parts = [
            mihc.slide_cells(self.study, slide, columns=[name])[name].to_numpy(float) for slide in others[:OTHER_SLIDES]
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def try_threshold(self, marker: str, value: float | None) -> pd.DataFrame:
        """Count by a threshold that is not kept yet (None: negative) -> rows of the marker and of its phenotypes."""
        verdict = "negative slide" if value is None else "manual"
        levels = tuple(one for one in self.session.thresholds()[marker].levels if value is not None and one > value)
        number = math.inf if value is None else value
        self.live.set(marker, mihc.Threshold(number, math.nan, math.nan, "manual", verdict, "", levels))
        return self.live.table(self.live.touched(marker))

    def counts(self, marker: str) -> pd.DataFrame:
        """The rows of a marker and its phenotypes by the thresholds as they stand."""
        return self.live.table(self.live.touched(marker))

    def keep_threshold(
        self, marker: str, value: float | None, *, slides: Sequence[str] = (), reason: str = ""
    ) -> dict[str, str]:
        """Keep a threshold, on this slide and on others -> what stood in the way, by slide."""
        self.session.set_threshold(marker, value, reason=reason)
        self._live = None
        others = [slide for slide in slides if slide != self.session.row.slide]
        return self.session.set_threshold_on(others, marker, value, reason=reason)

    def accept(self, marker: str = "") -> None:
        """Say that a marker's threshold, or the whole slide, is right as it is."""
        self.session.accept(marker)

    def undo(self) -> str:
        """Take the last gesture back -> what it was, in words."""
        return self._again_looked_at(self.session.undo(), "took back", "nothing to undo")

    def redo(self) -> str:
        """Do the gesture that was undone last again -> what it was, in words."""
        return self._again_looked_at(self.session.redo(), "did again", "nothing to do again")

    def _again_looked_at(self, line: object | None, done: str, nothing: str) -> str:
        self._live, self.version = None, self.version + 1
        if line is None:
            return nothing
        what = line.content.get("marker") or line.content.get("name") or ""
        return f"{done}: {line.gesture} {what}".strip()

    def positive_points(self, population: str) -> np.ndarray:
        """(n, 2) the positive cells by the thresholds as they are being moved, as napari has them."""
        rows = self.live.positive_rows(population)
        x, y = (self.cells[name].to_numpy()[rows] for name in ("x_um", "y_um"))
        return self.view.viewer_yx(x, y)

    def gallery(self, marker: str, value: float) -> tuple[np.ndarray, np.ndarray]:
        """The cells nearest to a threshold: (n, TILE_PX, TILE_PX) counts of the marker, and (n, 2) where they lie."""
        rows = self.live.nearest(marker, value, GALLERY)
        x, y = (self.cells[name].to_numpy()[rows] for name in ("x_um", "y_um"))
        image = mihc.open_image(self.view.path)
        level, plane = image.levels[0], list(image.channels).index(marker)
        tiles = np.zeros((len(rows), TILE_PX, TILE_PX), np.float32)
        for tile, centre_y, centre_x in zip(tiles, y / self.view.pixel_size_um[0], x / self.view.pixel_size_um[1]):
            y0, x0 = (max(int(centre) - TILE_PX // 2, 0) for centre in (centre_y, centre_x))
            piece = np.asarray(level[plane, y0 : y0 + TILE_PX, x0 : x0 + TILE_PX])
            tile[: piece.shape[0], : piece.shape[1]] = piece
        return tiles, self.view.viewer_yx(x, y)

    # Cells and regions

    def pixel(self, position_um: Sequence[float]) -> np.ndarray:
        """(..., 2) pixels from the corner of the first, of positions as napari has them."""
        return np.asarray(position_um, float) / np.asarray(self.view.pixel_size_um) + 0.5

    def choose_cell(self, position_um: Sequence[float]) -> int:
        """Choose the cell at a position, or let it go if it was chosen -> its id; 0 for none."""
        cell = self.session.cell_at(*self.pixel(position_um))
        if cell in self.selected:
            self.selected.remove(cell)
        elif cell:
            self.selected.append(cell)
        return cell

    def merge(self) -> None:
        """Make one cell of the chosen ones."""
        self._edited(lambda: self.session.merge(self.selected))

    def delete(self) -> None:
        """Delete the chosen cells."""
        self._need_cells()
        self._edited(lambda: self.session.delete(self.selected))

    def split(self, line_um: np.ndarray) -> None:
        """Cut the cell in the middle of a line, or the one chosen, along it."""
        line = self.pixel(line_um)
        cell = self.selected[-1] if self.selected else self.session.cell_at(*_middle(line))
        self._edited(lambda: self.session.split(cell, line))

    def add(self, outline_um: np.ndarray) -> None:
        """Add a cell by the outline of its nucleus."""
        self._edited(lambda: self.session.add(self.pixel(outline_um)))

    def redraw(self, outline_um: np.ndarray) -> None:
        """Give the chosen cell, or the one under the outline's middle, another nucleus."""
        outline = self.pixel(outline_um)
        cell = self.selected[-1] if self.selected else self.session.cell_at(*outline.mean(axis=0))
        self._edited(lambda: self.session.redraw(cell, outline))

    def _edited(self, gesture: Callable[[], object]) -> None:
        gesture()
        self.selected.clear()

    def _need_cells(self) -> None:
        if not self.selected:
            raise mihc.errors.UsageError("no cell is chosen", fix="Hold Ctrl and click on a cell.")

    def polygon_um(self, outline_um: np.ndarray) -> Polygon:
        """An outline as napari has it as a polygon in mihc's µm."""
        import shapely

        y, x = (self.pixel(outline_um) * self.view.pixel_size_um).T
        return shapely.Polygon(np.column_stack([x, y])) if len(x) > 2 else shapely.Polygon()

    # Saving

    def save(self, progress: Callable[[object], None] = lambda event: None, *, report: bool = False) -> object:
        """Let the numbers follow -> `mihc.review.Changes`; the slide on the desk is looked at anew."""
        slides = [self.session.row.slide] if self.session else []
        changes = mihc.review.save(self.folder, reviewer=self.reviewer, slides=slides, report=report, progress=progress)
        self.reread()
        return changes

    def reread(self) -> None:
        """Take the study as it is on the disk now."""
        self.study = mihc.read_study(self.folder)
        self._live, self._cells, self.version = None, None, self.version + 1
        if self.session is not None:
            self.session.study = self.study
            self.view = SlideView(self.study, self.session.row.slide)


def _middle(line: np.ndarray) -> np.ndarray:
    """The point half way along a line."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    return np.array([np.interp(along[-1] / 2, along, line[:, axis]) for axis in (0, 1)])


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.histogram(np.clip(values[np.isfinite(values)], edges[0], edges[-1]), edges)[0]
    return counts / max(counts.sum(), 1)
