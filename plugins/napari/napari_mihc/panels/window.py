"""All panels in one dock beside the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QLabel, QTabWidget, QVBoxLayout, QWidget

from napari_mihc.panels.background import in_background
from napari_mihc.panels.corrections import CellPanel, RegionPanel
from napari_mihc.panels.guide import HelpPanel
from napari_mihc.panels.pieces import button, row_of
from napari_mihc.panels.reviewers import ReviewersPanel
from napari_mihc.panels.saving import SavePanel
from napari_mihc.panels.slides import SlidePanel
from napari_mihc.panels.strokes import StrokePanel
from napari_mihc.panels.thresholds import ThresholdPanel
from napari_mihc.table import ReviewTable

MS_TO_DRAW = 100  # that the viewer has for a picture, before more comes


class ReviewPanels(QWidget):
    """The dock of a review."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self._seen = table, ("", 0)  # slide and version of the desk that the thresholds were shown of
        self.slides, self.thresholds, self.cells = SlidePanel(table), ThresholdPanel(table), CellPanel(table)
        self.regions, self.save, self.reviewers = RegionPanel(table), SavePanel(table), ReviewersPanel(table)
        self.tabs, self.said = QTabWidget(), QLabel()
        self.said.setWordWrap(True)
        self.strokes = StrokePanel(table)
        pages = {
            "Slides": self.slides,
            "Thresholds": self.thresholds,
            "Cells": self.cells,
            "Regions": self.regions,
            "Strokes": self.strokes,
            "Save": self.save,
            "Reviewers": self.reviewers,
            "Help": HelpPanel(),
        }
        for name, page in pages.items():
            self.tabs.addTab(page, name)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        back = button("Undo", table.undo, "Take the last gesture back, also one of yesterday (Shift-U)")
        again = button("Redo", table.redo, "Do again what was taken back last (Shift-D)")
        layout.addLayout(row_of([back, again]))
        layout.addWidget(self.said)
        self.tabs.currentChanged.connect(lambda _: self.refresh())
        table.listen(self.refresh)
        table.busy, table.later = self.busy, self.later

    def later(self, work: Callable[[], object], then: Callable[[object], None]) -> None:
        """Do some work beside the viewer, once it has drawn what there is."""

        def begin() -> None:
            if isalive(self):
                in_background(self, work, then, lambda error: self.table.tell(str(error)))

        QTimer.singleShot(MS_TO_DRAW, begin)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Say what is being done while nothing else can be, with the pointer that waits."""
        self.said.setText(text)
        self.said.repaint()
        QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
        try:
            yield
        finally:
            QApplication.restoreOverrideCursor()
            self.said.setText(self.table.said[-1] if self.table.said else "")

    def refresh(self) -> None:
        """Show what is so now; only the page that is seen, and the thresholds where they may be others."""
        self.said.setText(self.table.said[-1] if self.table.said else "")
        page, session = self.tabs.currentWidget(), self.table.desk.session
        if page is self.thresholds:
            if session is not None and (session.row.slide, self.table.desk.version) != self._seen:
                self._seen = session.row.slide, self.table.desk.version
                with self.busy("Reading the cells ..."):
                    page.show_slide()
        elif hasattr(page, "refresh"):
            page.refresh()
