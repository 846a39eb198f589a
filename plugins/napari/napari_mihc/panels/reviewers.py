"""The panel of reviewers: two beside each other, and whose work counts."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

import mihc
from napari_mihc.panels.background import in_background
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of
from napari_mihc.table import ReviewTable


class ReviewersPanel(QWidget):
    """Two reviewers beside each other, and whose work counts."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.other, self.said = table, QComboBox(), QLabel()
        self.working: object | None = None
        self.agreement = new_table(("population", "both", "only you", "only the other", "neither", "%", "kappa"))
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("compare with"))
        layout.addWidget(self.other)
        layout.addLayout(
            row_of([
                button("Compare", self.compare, "Cell by cell, on this slide"),
                button("Mine counts", lambda: self.choose(self.table.desk.reviewer), "From the next save on"),
                button("Theirs counts", lambda: self.choose(self.other.currentText()), "From the next save on"),
            ])
        )  # fmt: skip
        layout.addWidget(self.said)
        layout.addWidget(self.agreement)

    def refresh(self) -> None:
        """List the other reviewers."""
        desk = self.table.desk
        names = [name for name in mihc.review.reviewers(desk.folder) if name != desk.reviewer]
        if names != [self.other.itemText(k) for k in range(self.other.count())]:
            self.other.clear()
            self.other.addItems(names)
        if desk.session is not None:
            counts = mihc.review.final_reviewer(desk.study, desk.session.row.slide)
            self.said.setText(f"counts on this slide: {counts or 'nobody yet, the machine'}")

    def compare(self) -> None:
        """Show how far the two agree."""
        desk, other = self.table.desk, self.other.currentText()
        if not other or desk.session is None:
            self.table.tell("there is no other reviewer yet")
            return
        if self.working is not None:
            return
        self.table.tell("comparing ...")
        slide = desk.session.row.slide
        study, me = desk.study, desk.reviewer
        self.working = in_background(
            self, lambda: mihc.review.compare(study, slide, me, other), self._compared, self._failed
        )

    def _failed(self, error: Exception) -> None:
        self.working = None
        self.table.tell(str(error))

    def _compared(self, found: mihc.review.Comparison) -> None:
        self.working = None
        fill_table(self.agreement, found.agreement.drop(columns="cells"))
        self.table.tell("compared on the cells and regions of the results")

    def choose(self, reviewer: str) -> None:
        """Let a reviewer's work count on this slide."""
        desk = self.table.desk
        self.table.do(
            lambda: mihc.review.choose_final(desk.folder, reviewer, slides=[desk.session.row.slide]),
            f"{reviewer} counts on this slide; Save to let the numbers follow",
        )
