"""The panel of strokes: paint, see the map, accept it or not."""

from __future__ import annotations

import pandas as pd
from qtpy.QtWidgets import QComboBox, QLabel, QProgressBar, QVBoxLayout, QWidget

import mihc
from napari_mihc.panels.background import in_background
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of, wrapped
from napari_mihc.strokes import CLASSES, areas_of
from napari_mihc.table import ReviewTable

AREA_HEADS = ("class", "mm² now", "mm² by the map")
TOLD_HEADS = ("painted", "called", "% of pixels")
WORDS = (
    "Paint a few strokes of each class, well inside it, tissue and glass too; then let the tissue classifier learn from"
    " them and look at its map of this slide. Nothing is written before you accept it. Accepted, it gives the regions"
    " of every slide of this panel that has no annotations."
)


class StrokePanel(QWidget):
    """Teach the tissue classifier."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.painter = table, table.strokes
        self.tissue_class, self.said, self.progress = QComboBox(), QLabel(), QProgressBar()
        self.areas, self.told = new_table(AREA_HEADS), new_table(TOLD_HEADS)
        self.working: object | None = None
        self.tissue_class.addItems(CLASSES)
        self.tissue_class.setEditable(True)
        self.tissue_class.setToolTip("Or type a reason to exclude, or a class of your own that study.toml knows")
        self.said.setWordWrap(True)
        self.progress.hide()
        self.accept = button("Accept the map", self.keep, "From the next Save or run on, regions come from it")
        self.reject = button("Reject it", self.drop, "Nothing of it is kept")
        self.show_map = button("Learn and show the map", self.start, "Takes seconds to minutes; can be stopped")
        self.stop = button("Stop", self._stop, "End the learning")
        layout = QVBoxLayout(self)
        layout.addWidget(wrapped(WORDS))
        paint = button("Paint", self.paint, "Drag in the picture; the pan tool (Space) moves it in between")
        last = button("Take the last one away", lambda: table.do(self.painter.take_last), "Of this slide")
        layout.addWidget(self.tissue_class)
        layout.addLayout(row_of([paint, last]))
        layout.addLayout(row_of([self.show_map, self.stop]))
        for widget in (self.progress, self.said, self.areas, self.told):
            layout.addWidget(widget)
        layout.addLayout(row_of([self.accept, self.reject]))
        layout.addStretch()
        self.refresh()

    def refresh(self) -> None:
        """Show what can be done now."""
        has_map = self.painter.trial is not None
        self.accept.setEnabled(has_map)
        self.reject.setEnabled(has_map)
        self.show_map.setEnabled(self.working is None)
        self.stop.setEnabled(self.working is not None)
        for table in (self.areas, self.told):
            table.setVisible(has_map)
        if not has_map and self.working is None and self.table.desk.session is not None:
            count = len(self.painter.painted()) if self.painter.is_begun else 0
            self.said.setText(f"{count} stroke{'s' * (count != 1)} painted on this slide." if count else "")

    def paint(self) -> None:
        """Begin to paint."""
        label = self.tissue_class.currentText().strip()
        if label:
            self.table.do(lambda: self.painter.paint(label), f"Drag in the picture: {label}")

    def start(self) -> None:
        """Learn beside the picture, which stays usable."""
        if self.working is not None or self.table.desk.session is None:
            return
        strokes = self.painter.painted()
        self.painter.stopping.clear()  # here and not in the thread, which may begin after Stop was pressed
        self.said.setText("Learning ...")
        self.progress.setRange(0, 0)
        self.progress.show()
        self.working = in_background(self, lambda: self.painter.map_of(strokes), self._learnt, self._failed)
        self.refresh()

    def _stop(self) -> None:
        self.painter.stopping.set()
        self.said.setText("Stopping ...")

    def _ended(self) -> None:
        self.working = None
        self.progress.hide()
        self.refresh()

    def _failed(self, error: Exception) -> None:
        self._ended()
        self.said.setText("Stopped; nothing was written." if isinstance(error, mihc.Stopped) else str(error))

    def _learnt(self, trial: mihc.review.Trial) -> None:
        session = self.table.desk.session
        if session is None or session.row.slide != trial.slide:  # another slide lies on the desk by now
            self._ended()
            return
        self.painter.show_map(trial)
        now, then = areas_of(session.regions()), areas_of(trial.regions)
        rows = [(name, now.get(name), then.get(name)) for name in dict.fromkeys([*now, *then])]
        fill_table(self.areas, pd.DataFrame(rows, columns=list(AREA_HEADS)))
        told = trial.told[trial.told["slide"] == "*"] if len(trial.told) else trial.told
        seen = told[["drawn", "predicted", "percent"]] if len(told) else pd.DataFrame(columns=list(TOLD_HEADS))
        fill_table(self.told, seen)
        self._ended()
        unseen = "" if len(told) else "Paint two strokes or more of each class to see how it calls unseen ones."
        self.said.setText("\n".join([f"Learnt by {trial.method}.", *trial.remarks, unseen]).strip())
        self.table.tell(f"the map of {trial.slide} is in the picture: accept or reject it")

    def keep(self) -> None:
        """Accept the map."""
        self.table.do(self.painter.keep, "accepted; Save lets the numbers follow")
        self.refresh()

    def drop(self) -> None:
        """Reject the map."""
        self.painter.drop_map()
        self.table.tell("the map is gone, and nothing of it was written; the strokes stay until you close the study")
