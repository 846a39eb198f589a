"""The panel of slides: each with its thumbnail, its checks and how far its review is."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QSize, QTimer
from qtpy.QtGui import QColor, QIcon, QImage, QPixmap
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_mihc.model import THUMBNAIL_PX
from napari_mihc.panels.background import in_background
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of
from napari_mihc.table import ReviewTable

HEADS = ("slide", "patient", "cells", "QC", "cannot tell", "review", "gestures", "final")
QC_COLUMN = HEADS.index("QC")
QC_COLOURS = {"fail": "#ff6b6b", "warn": "#c27800"}  # read on the dark theme and on the light one


class SlidePanel(QWidget):
    """The list of slides; a double click opens one."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.listed, self.said = table, new_table(HEADS), QLabel()
        self.working: object | None = None
        self._failed: set[str] = set()
        self.said.setWordWrap(True)
        self.listed.setIconSize(QSize(THUMBNAIL_PX, THUMBNAIL_PX))
        self.listed.verticalHeader().setDefaultSectionSize(THUMBNAIL_PX + 4)
        self.listed.cellDoubleClicked.connect(lambda row, _: self.open(self.listed.item(row, 0).text()))
        self.listed.verticalScrollBar().valueChanged.connect(lambda _: self.fetch())
        self.listed.currentCellChanged.connect(lambda row, *_: self._tell_of(row))
        layout = QVBoxLayout(self)
        layout.addWidget(self.listed)
        layout.addWidget(self.said)
        buttons = [
            button("Previous", table.previous_slide, "Shift-B"),
            button("Next", table.next_slide, "Shift-N"),
            button("Accept slide", table.accept_slide, "Shift-Y"),
        ]
        layout.addLayout(row_of(buttons))

    def refresh(self) -> None:
        """Read the list anew."""
        chosen = self.listed.currentRow()
        fill_table(self.listed, self.table.desk.slides())
        for row in range(self.listed.rowCount()):
            self._colour(row)
            if self.table.desk.has_thumbnail(self._slide(row)):
                self._draw(row)
        self.listed.resizeColumnToContents(QC_COLUMN)  # some of it is bold now
        self.listed.setColumnWidth(0, self.listed.columnWidth(0) + THUMBNAIL_PX + 16)
        if chosen >= 0:
            self.listed.setCurrentCell(chosen, 0)
        QTimer.singleShot(0, self.fetch)

    def open(self, slide: str) -> None:
        """Open a slide."""
        self.table.do(lambda: self.table.show(slide))

    def fetch(self) -> None:
        """Read the thumbnail of the first row in sight that has none yet, beside the picture; then that of the next."""
        row = next((row for row in self._in_sight() if self._is_wanted(row)), None)
        if row is None or self.working is not None:
            return
        slide = self._slide(row)
        self.working = in_background(
            self,
            lambda: self.table.desk.thumbnail(slide),
            lambda _: self._fetched(slide),
            lambda _: self._not_fetched(slide),
        )

    def _fetched(self, slide: str) -> None:
        self.working = None
        for row in range(self.listed.rowCount()):
            if self._slide(row) == slide:
                self._draw(row)
        self.fetch()

    def _not_fetched(self, slide: str) -> None:
        """A slide without a readable picture has none in the list; opening it says why."""
        self.working = None
        self._failed.add(slide)
        self.fetch()

    def _in_sight(self) -> list[int]:
        if not self.isVisible() or not self.listed.rowCount():
            return []
        bar = self.listed.verticalScrollBar()  # in rows
        first = bar.value()
        return list(range(first, min(first + bar.pageStep() + 1, self.listed.rowCount())))

    def _is_wanted(self, row: int) -> bool:
        slide = self._slide(row)
        is_measured = bool(self.listed.item(row, HEADS.index("cells")).text())
        return is_measured and slide not in self._failed and not self.table.desk.has_thumbnail(slide)

    def _slide(self, row: int) -> str:
        return self.listed.item(row, 0).text()

    def _draw(self, row: int) -> None:
        pixels = np.ascontiguousarray(self.table.desk.thumbnail(self._slide(row)))
        height, width, _ = pixels.shape
        image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        self.listed.item(row, 0).setIcon(QIcon(QPixmap.fromImage(image)))

    def _colour(self, row: int) -> None:
        item = self.listed.item(row, QC_COLUMN)
        if item.text() in QC_COLOURS:
            item.setForeground(QColor(QC_COLOURS[item.text()]))
            font = item.font()
            font.setBold(True)
            item.setFont(font)

    def _tell_of(self, row: int) -> None:
        """What the checks of the chosen slide have to say."""
        if row < 0 or self.listed.item(row, 0) is None:
            return
        self.said.setText("\n".join(self.table.desk.checks(self._slide(row))))
