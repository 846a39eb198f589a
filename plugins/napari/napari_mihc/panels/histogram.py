"""A marker's histogram on a log axis, with the automatic interval and a line that is dragged."""

from __future__ import annotations

import math

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_mihc.desk import MarkerView

MINE, INTERVAL, LINE = "#3ba3dd", "#e0b000", "#e0a100"  # seen on the dark theme and on the light one
MARGIN, FOOT = 8, 18  # pixels


class HistogramWidget(QWidget):
    """Shows a MarkerView; `moved` tells a threshold while it is dragged, `dropped` the one it was left at."""

    moved = Signal(float)
    dropped = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.view: MarkerView | None = None
        self.value = math.nan
        self.setMinimumHeight(150)
        self.setToolTip("Drag the line. Blue: this slide; grey: its batch; yellow: what is plausible")

    def show_marker(self, view: MarkerView) -> None:
        """Draw another marker."""
        self.view, self.value = view, view.threshold.value
        self.update()

    def move_to(self, value: float) -> None:
        """Put the line at a value, in counts."""
        self.value = value
        self.update()

    def mousePressEvent(self, event: object) -> None:
        """Take the line to the pointer."""
        self._drag(event)

    def mouseMoveEvent(self, event: object) -> None:
        """Drag the line."""
        self._drag(event)

    def mouseReleaseEvent(self, event: object) -> None:
        """Leave the line where it is."""
        if self.view is not None:
            self.dropped.emit(self.value)

    def _drag(self, event: object) -> None:
        if self.view is not None:
            self.move_to(self.count_at(event.position().x()))
            self.moved.emit(self.value)

    def count_at(self, x: float) -> float:
        """The counts at a pixel of the widget."""
        low, high = np.log(self.view.edges[[0, -1]])
        part = min(max((x - MARGIN) / max(self.width() - 2 * MARGIN, 1), 0.0), 1.0)
        return float(np.exp(low + part * (high - low)))

    def x_of(self, counts: float) -> float:
        """The pixel of some counts."""
        low, high = np.log(self.view.edges[[0, -1]])
        part = (math.log(max(counts, self.view.edges[0])) - low) / (high - low)
        return MARGIN + min(max(part, 0.0), 1.0) * (self.width() - 2 * MARGIN)

    def paintEvent(self, event: object) -> None:
        """Draw it all; heights are of the square root, so that few positive cells are seen beside many negative."""
        if self.view is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        floor = self.height() - FOOT
        top = math.sqrt(max(self.view.cells.max(), self.view.batch.max(), 1e-9))
        threshold = self.view.threshold
        if math.isfinite(threshold.low) and math.isfinite(threshold.high):
            colour = QColor(INTERVAL)
            colour.setAlpha(60)
            left, right = self.x_of(threshold.low), self.x_of(threshold.high)
            painter.fillRect(QRectF(left, MARGIN, max(right - left, 1.0), floor - MARGIN), colour)
        batch = self.palette().color(QPalette.ColorRole.WindowText)
        batch.setAlpha(150)
        for shares, colour in ((self.view.batch, batch), (self.view.cells, QColor(MINE))):
            heights = np.sqrt(shares) / top * (floor - MARGIN)
            places = [self.x_of(edge) for edge in np.sqrt(self.view.edges[:-1] * self.view.edges[1:])]
            line = QPolygonF([QPointF(x, floor - height) for x, height in zip(places, heights)])
            painter.setPen(QPen(colour, 1.5))
            painter.drawPolyline(line)
        painter.setPen(QPen(QColor("#9a9a9a"), 1))
        painter.drawLine(QPointF(MARGIN, floor), QPointF(self.width() - MARGIN, floor))
        for ten in range(math.floor(math.log10(self.view.edges[0])), math.ceil(math.log10(self.view.edges[-1])) + 1):
            for counts in (10.0**ten, 2 * 10.0**ten, 5 * 10.0**ten):
                if self.view.edges[0] <= counts <= self.view.edges[-1]:
                    painter.drawText(QPointF(self.x_of(counts) - 8, self.height() - 3), f"{counts:g}")
        if math.isfinite(self.value):
            painter.setPen(QPen(QColor(LINE), 2, Qt.PenStyle.SolidLine))
            x = self.x_of(self.value)
            painter.drawLine(QPointF(x, MARGIN), QPointF(x, floor))
        painter.end()
