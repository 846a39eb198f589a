"""The panel of saving: the numbers follow, and what that changed is shown."""

from __future__ import annotations

import threading

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHeaderView, QLabel, QProgressBar, QVBoxLayout, QWidget

import mihc
from napari_mihc.changes import HEADS, changed_rows, changes_in_words
from napari_mihc.panels.background import in_background
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of
from napari_mihc.start import Progress
from napari_mihc.table import ReviewTable

MS_BETWEEN_LOOKS = 200


class SavePanel(QWidget):
    """Let the numbers follow, and see what that changed."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.changed, self.progress = table, new_table(HEADS), QProgressBar()
        self.said = QLabel("Every gesture is kept already. Save computes the numbers that follow from them.")
        self.said.setWordWrap(True)
        self.progress.hide()
        self.working: object | None = None
        self.how_far, self.stopping, self.timer = Progress(0), threading.Event(), QTimer(self)
        self.timer.setInterval(MS_BETWEEN_LOOKS)
        self.timer.timeout.connect(self._look)
        self.changed.horizontalHeader().setStretchLastSection(True)
        self.stop_button = button("Stop", self.stop, "What is done stays; Save goes on from there")
        self.stop_button.setEnabled(False)
        buttons = [
            button("Save", self.start, "Compute what the edits touch"),
            button("Save with report", lambda: self.start(report=True), "And write report.html"),
            self.stop_button,
        ]
        layout = QVBoxLayout(self)
        layout.addLayout(row_of(buttons))
        for widget in (self.progress, self.said, self.changed):
            layout.addWidget(widget)

    def start(self, *, report: bool = False) -> None:
        """Save beside the picture, which stays usable."""
        if self.working is not None:
            self.table.tell("a save is under way")
            return
        desk = self.table.desk
        slides = [desk.session.row.slide] if desk.session else []
        self.how_far = Progress(len(desk.study.slides))
        self.stopping.clear()

        def save() -> mihc.review.Changes:
            return mihc.review.save(
                desk.folder,
                reviewer=desk.reviewer,
                slides=slides,
                report=report,
                progress=self.how_far.tell,
                stopping=self.stopping,
            )

        self.working = in_background(self, save, self.show_changes, self._failed)
        self.progress.setRange(0, 0)
        self.progress.show()
        self.stop_button.setEnabled(True)
        self.timer.start()

    def stop(self) -> None:
        """End a save as soon as it can."""
        self.stopping.set()
        self.said.setText("Stopping; what is done stays ...")

    def _look(self) -> None:
        if self.working is not None and not self.stopping.is_set():
            self.progress.setRange(0, self.how_far.slides)
            self.progress.setValue(len(self.how_far.done))
            self.said.setText(self.how_far.words)

    def _failed(self, error: Exception) -> None:
        self._ended()
        stopped = isinstance(error, mihc.Stopped)
        self.said.setText("Stopped. What is done stays; Save goes on from there." if stopped else f"not saved: {error}")
        self.table.tell("save stopped" if stopped else f"not saved: {error}")

    def _ended(self) -> None:
        self.working = None
        self.timer.stop()
        self.progress.hide()
        self.stop_button.setEnabled(False)

    def show_changes(self, changes: mihc.review.Changes) -> None:
        """Show what a save changed."""
        self._ended()
        self.table.saved()
        fill_table(self.changed, changed_rows(changes))
        self.changed.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        self.changed.setColumnWidth(0, max(self.width() - 260, 200))
        for column in (1, 2):
            self.changed.setColumnWidth(column, 110)
        self.said.setText(changes_in_words(changes))
        self.table.tell("saved")
