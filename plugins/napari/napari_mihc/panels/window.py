"""All panels in one dock beside the picture."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QTabWidget, QVBoxLayout, QWidget

from napari_mihc.panels.others import CellPanel, HelpPanel, RegionPanel, ReviewersPanel, SavePanel, SlidePanel
from napari_mihc.panels.thresholds import ThresholdPanel
from napari_mihc.table import ReviewTable


class ReviewPanels(QWidget):
    """The dock of a review."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self._slide = table, ""
        self.slides, self.thresholds, self.cells = SlidePanel(table), ThresholdPanel(table), CellPanel(table)
        self.regions, self.save, self.reviewers = RegionPanel(table), SavePanel(table), ReviewersPanel(table)
        self.tabs, self.said = QTabWidget(), QLabel()
        self.said.setWordWrap(True)
        pages = {
            "Slides": self.slides,
            "Thresholds": self.thresholds,
            "Cells": self.cells,
            "Regions": self.regions,
            "Save": self.save,
            "Reviewers": self.reviewers,
            "Help": HelpPanel(table),
        }
        for name, page in pages.items():
            self.tabs.addTab(page, name)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addWidget(self.said)
        self.tabs.currentChanged.connect(lambda _: self.refresh())
        table.listen(self.refresh)

    def refresh(self) -> None:
        """Show what is so now; only the page that is seen, and the thresholds where the slide is another."""
        self.said.setText(self.table.said[-1] if self.table.said else "")
        page, session = self.tabs.currentWidget(), self.table.desk.session
        if page is self.thresholds:
            if session is not None and session.row.slide != self._slide:
                self._slide = session.row.slide
                page.show_slide()
        elif hasattr(page, "refresh"):
            page.refresh()
