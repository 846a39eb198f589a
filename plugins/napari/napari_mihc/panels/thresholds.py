"""The panel of thresholds: a histogram, the counts that follow, the cells nearest to the line."""

from __future__ import annotations

import math

import numpy as np
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QGridLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_mihc.panels.histogram import HistogramWidget
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of
from napari_mihc.table import ReviewTable

COLUMNS = ("region", "population", "cells", "positive_cells", "positivity_percent", "density_per_mm2")
HEADS = ("region", "population", "cells", "positive", "%", "per mm²")
TILES_IN_ROW = 12


class ThresholdPanel(QWidget):
    """Move, keep and accept thresholds."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.desk = table, table.desk
        self.marker, self.histogram = QComboBox(), HistogramWidget()
        self.value, self.said, self.counts = QDoubleSpinBox(), QLabel(), new_table(HEADS)
        self.slides, self.reason, self.gallery = QLineEdit(), QLineEdit(), QLabel()
        self._build()
        self.marker.currentTextChanged.connect(self._chosen)
        self.histogram.moved.connect(self.try_value)
        self.histogram.dropped.connect(lambda _: self.show_near())
        self.value.editingFinished.connect(self._typed)

    def _build(self) -> None:
        self.value.setRange(0.0, 1e9)
        self.value.setDecimals(1)
        self.said.setWordWrap(True)
        self.slides.setPlaceholderText("also on these slides: S02, S03")
        self.reason.setPlaceholderText("why (kept beside the threshold)")
        buttons = [
            button("Keep", self.keep, "Keep this threshold"),
            button("Accept", self.accept, "The threshold is right as it is"),
            button("Negative slide", self.negative, "No cell of this slide is positive"),
        ]
        layout = QVBoxLayout(self)
        grid = QGridLayout()
        grid.addWidget(QLabel("marker"), 0, 0)
        grid.addWidget(self.marker, 0, 1)
        grid.addWidget(QLabel("counts"), 0, 2)
        grid.addWidget(self.value, 0, 3)
        layout.addLayout(grid)
        for widget in (self.histogram, self.said, self.counts, self.gallery, self.slides, self.reason):
            layout.addWidget(widget)
        layout.addLayout(row_of(buttons))

    def show_slide(self) -> None:
        """Take over the slide on the desk."""
        self.marker.blockSignals(True)
        here = self.marker.currentText()
        self.marker.clear()
        self.marker.addItems(self.desk.markers)
        self.marker.setCurrentText(here)
        self.marker.blockSignals(False)
        self.show_marker()

    def _chosen(self, marker: str) -> None:
        """Another marker: its channel comes into the picture."""
        if marker:
            self.table.look_for(marker)
        self.show_marker()

    def show_marker(self) -> None:
        """Draw the chosen marker and its counts."""
        marker = self.marker.currentText()
        if not marker:
            return
        view = self.desk.marker_view(marker)
        self.histogram.show_marker(view)
        self._show_value(view.threshold.value)
        threshold = view.threshold
        interval = f", plausible {threshold.low:.4g} to {threshold.high:.4g}" if math.isfinite(threshold.low) else ""
        self.said.setText(f"{threshold.verdict}{interval}. {threshold.reason}")
        self._show_counts(self.desk.counts(marker))
        self.table.show_positive(marker)
        self.show_near()

    def try_value(self, value: float) -> None:
        """Count by a threshold that is not kept yet."""
        self._show_value(value)
        self._show_counts(self.desk.try_threshold(self.marker.currentText(), value))
        self.table.show_positive(self.marker.currentText())

    def keep(self) -> None:
        """Keep the threshold, here and on the slides that are named."""
        self._keep(self.value.value())

    def negative(self) -> None:
        """Call the slide negative."""
        self._keep(None)

    def accept(self) -> None:
        """Accept the threshold as it is."""
        marker = self.marker.currentText()
        self.table.do(lambda: self.desk.accept(marker), f"{marker}: accepted")

    def show_near(self) -> None:
        """Show the cells nearest to the line: those below it first."""
        value = self.value.value()
        if self.marker.currentText() and math.isfinite(value):
            self.gallery.setPixmap(_pixmap(self.desk.gallery(self.marker.currentText(), value)[0]))

    def _keep(self, value: float | None) -> None:
        marker = self.marker.currentText()
        slides = [name.strip() for name in self.slides.text().split(",") if name.strip()]

        def kept() -> None:
            failed = self.desk.keep_threshold(marker, value, slides=slides, reason=self.reason.text())
            shown = "negative" if value is None else f"{value:g}"
            self.table.tell("\n".join([f"{marker}: {shown}, kept", *failed.values()]))
            self.show_marker()

        self.table.do(kept)

    def _typed(self) -> None:
        self.histogram.move_to(self.value.value())
        self.try_value(self.value.value())
        self.show_near()

    def _show_value(self, value: float) -> None:
        self.value.blockSignals(True)
        self.value.setValue(value if math.isfinite(value) else 0.0)
        self.value.blockSignals(False)

    def _show_counts(self, rows: object) -> None:
        fill_table(self.counts, rows[list(COLUMNS)])


def _pixmap(tiles: np.ndarray) -> QPixmap:
    """Tiles in rows, bright by the brightest of all."""
    if not len(tiles):
        return QPixmap()
    scaled = np.clip(255 * tiles / max(float(np.quantile(tiles, 0.998)), 1.0), 0, 255).astype(np.uint8)
    side = tiles.shape[1]
    lines = -(-len(tiles) // TILES_IN_ROW)
    sheet = np.zeros((lines * (side + 1), TILES_IN_ROW * (side + 1)), np.uint8)
    for number, tile in enumerate(scaled):
        y, x = (side + 1) * (number // TILES_IN_ROW), (side + 1) * (number % TILES_IN_ROW)
        sheet[y : y + side, x : x + side] = tile
    image = QImage(sheet.tobytes(), sheet.shape[1], sheet.shape[0], sheet.shape[1], QImage.Format.Format_Grayscale8)
    return QPixmap.fromImage(image)
