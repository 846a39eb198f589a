"""The panels of slides, cells, regions, saving, reviewers and help."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QLineEdit, QProgressBar, QVBoxLayout, QWidget

import mihc
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of
from napari_mihc.table import CHOSEN, DRAWN, KEYS, ReviewTable

CLASSES = ("tumour", "stroma", "other", "excluded")
SLIDE_HEADS = ("slide", "patient", "cells", "QC", "cannot tell", "review", "gestures", "final")
CHANGE_HEADS = ("what", "before", "after")
SHOWN = ("positivity_percent", "density_per_mm2")  # of what changed in regions; the tables in results/ have it all


class SlidePanel(QWidget):
    """The list of slides; a double click opens one."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.listed = table, new_table(SLIDE_HEADS)
        self.listed.cellDoubleClicked.connect(lambda row, _: self.open(self.listed.item(row, 0).text()))
        layout = QVBoxLayout(self)
        layout.addWidget(self.listed)
        buttons = [
            button("Previous", table.previous_slide, "Shift-B"),
            button("Next", table.next_slide, "Shift-N"),
            button("Accept slide", table.accept_slide, "Shift-Y"),
        ]
        layout.addLayout(row_of(buttons))

    def refresh(self) -> None:
        """Read the list anew."""
        fill_table(self.listed, self.table.desk.slides())

    def open(self, slide: str) -> None:
        """Open a slide."""
        self.table.do(lambda: self.table.show(slide))


class CellPanel(QWidget):
    """Merge, split, delete, add, redraw."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table = table
        self.said = QLabel()
        self.said.setWordWrap(True)
        words = QLabel(
            f"Hold Ctrl and click on cells to choose them ({CHOSEN!r}). Lines and outlines are drawn on the layer"
            f" {DRAWN!r}. Every edit is kept at once and can be taken back, tomorrow too."
            " The machine's own labels stay as they are."
        )
        words.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addWidget(words)
        layout.addLayout(
            row_of([
                button("Draw a line", lambda: self.draw("add_path"), "To cut a cell along"),
                button("Draw an outline", lambda: self.draw("add_polygon"), "Of a nucleus or a region"),
            ])
        )  # fmt: skip
        for key in ("Shift-M", "Shift-X", "Shift-C", "Shift-A", "Shift-R", "Shift-U"):
            name, text = KEYS[key]
            layout.addWidget(button(f"{text} ({key})", getattr(table, name), key))
        layout.addWidget(self.said)
        layout.addStretch()

    def draw(self, mode: str) -> None:
        """Begin to draw."""
        layer = self.table.drawing()
        layer.mode = mode
        self.table.viewer.layers.selection.active = layer

    def refresh(self) -> None:
        """Say how many edits there are."""
        session = self.table.desk.session
        if session is not None:
            state = session.state
            self.said.setText(
                f"{len(self.table.desk.selected)} chosen; {len(state.removed)} of the machine's cells are changed,"
                f" {len(state.added)} are yours."
            )


class RegionPanel(QWidget):
    """Draw, cut, remove, reclassify, import, export."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table = table
        self.region, self.name, self.tissue_class = QComboBox(), QLineEdit(), QComboBox()
        self.name.setPlaceholderText("name of a new region")
        self.tissue_class.addItems(CLASSES)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("class"))
        layout.addWidget(self.tissue_class)
        layout.addWidget(self.name)
        layout.addWidget(button("Region from the outline drawn", self.draw, "What lay under it gives way"))
        layout.addWidget(QLabel("region"))
        layout.addWidget(self.region)
        layout.addLayout(
            row_of([
                button("Cut the outline out", lambda: table.cut_region(self.region.currentText()), "Subtract"),
                button("Give it the class", self.reclassify, "Reclassify"),
                button("Remove", lambda: table.remove_region(self.region.currentText()), "Take it away"),
            ])
        )  # fmt: skip
        layout.addLayout(
            row_of([
                button("Import ...", self.choose_import, "QuPath GeoJSON, HALO, ImageJ, ASAP"),
                button("Export ...", self.choose_export, "GeoJSON for QuPath"),
            ])
        )  # fmt: skip
        layout.addStretch()

    def refresh(self) -> None:
        """List the regions."""
        session = self.table.desk.session
        if session is None:
            return
        names = list(dict.fromkeys(one.name for one in session.regions()))
        if names != [self.region.itemText(k) for k in range(self.region.count())]:
            self.region.clear()
            self.region.addItems(names)

    def draw(self) -> None:
        """Make a region of what was drawn."""
        tissue_class = self.tissue_class.currentText()
        self.table.draw_region(self.name.text() or tissue_class.capitalize(), tissue_class)

    def reclassify(self) -> None:
        """Give the region the class."""
        self.table.reclassify_region(self.region.currentText(), self.tissue_class.currentText())

    def choose_import(self) -> None:
        """Ask for a file and take its regions."""
        path, _ = QFileDialog.getOpenFileName(self, "Regions", str(self.table.desk.folder))
        if path:
            self.import_from(path)

    def import_from(self, path: str) -> None:
        """Take the regions of a file."""
        if self.table.do(lambda: self.table.desk.session.import_regions(path), f"regions of {path}") is not None:
            self.table.show_regions()

    def choose_export(self) -> None:
        """Ask for a file and write the regions."""
        path, _ = QFileDialog.getSaveFileName(self, "Regions", str(self.table.desk.folder / "regions.geojson"))
        if path:
            self.table.do(lambda: self.table.desk.session.export_regions(path), f"wrote {path}")


class SavePanel(QWidget):
    """Let the numbers follow, and see what that changed."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.changed, self.progress = table, new_table(CHANGE_HEADS), QProgressBar()
        self.said = QLabel("Every gesture is kept already. Save computes the numbers that follow from them.")
        self.said.setWordWrap(True)
        self.progress.setRange(0, 1)
        self.working: object | None = None
        layout = QVBoxLayout(self)
        buttons = [
            button("Save", self.start, "Compute what the edits touch"),
            button("Save with report", lambda: self.start(report=True), "And write report.html"),
        ]
        layout.addLayout(row_of(buttons))
        for widget in (self.progress, self.said, self.changed):
            layout.addWidget(widget)

    def start(self, *, report: bool = False) -> None:
        """Save beside the picture, which stays usable."""
        from napari.qt.threading import create_worker

        if self.working is not None:
            self.table.tell("a save is under way")
            return
        self.progress.setRange(0, 0)
        desk = self.table.desk
        slides = [desk.session.row.slide] if desk.session else []
        self.working = create_worker(
            mihc.review.save, desk.folder, reviewer=desk.reviewer, slides=slides, report=report
        )
        self.working.returned.connect(self.show_changes)
        self.working.errored.connect(self._failed)
        self.working.start()

    def _failed(self, error: Exception) -> None:
        self._ended()
        self.table.tell(f"not saved: {error}")

    def _ended(self) -> None:
        self.working = None
        self.progress.setRange(0, 1)
        self.progress.setValue(1)

    def show_changes(self, changes: mihc.review.Changes) -> None:
        """Show what a save changed."""
        import pandas as pd

        self._ended()
        self.table.desk.reread()
        regions, patients, tests = changes.regions, changes.patients, changes.statistics
        seen = regions[regions["measure"].isin(SHOWN)]
        rows = [
            *((f"{r.slide} {r.region} {r.population} {r.measure}", r.before, r.after) for r in seen.itertuples()),
            *(
                (
                    f"patient {r.patient} {r.column}",
                    f"{r.before:.4g} ({r.group_before})",
                    f"{r.after:.4g} ({r.group_after})",
                )
                for r in patients.itertuples()
            ),
            *(
                (f"p: {r.analysis} {r.endpoint} {r.population} {r.tissue_class} {r.measure}", r.p_before, r.p_after)
                for r in tests.itertuples()
            ),
        ]  # fmt: skip
        fill_table(self.changed, pd.DataFrame(rows, columns=list(CHANGE_HEADS)))
        wrong = "".join(f"\nFAILED {slide}: {what}" for slide, what in changes.failed.items())
        report = "" if changes.report else " The report is written by the next mihc run, or Save with report."
        self.said.setText(
            f"{len(regions)} numbers of regions, {len(patients)} of patients and {len(tests)} tests changed, in"
            f" {changes.seconds:.1f} s.{report}{wrong}"
        )
        self.table.tell("saved")


class ReviewersPanel(QWidget):
    """Two reviewers beside each other, and whose work counts."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        self.table, self.other, self.said = table, QComboBox(), QLabel()
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
        if not other:
            self.table.tell("there is no other reviewer yet")
            return
        found = self.table.do(lambda: mihc.review.compare(desk.study, desk.session.row.slide, desk.reviewer, other))
        if found is not None:
            fill_table(self.agreement, found.agreement.drop(columns="cells"))

    def choose(self, reviewer: str) -> None:
        """Let a reviewer's work count on this slide."""
        desk = self.table.desk
        self.table.do(
            lambda: mihc.review.choose_final(desk.folder, reviewer, slides=[desk.session.row.slide]),
            f"{reviewer} counts on this slide; Save to let the numbers follow",
        )


class HelpPanel(QWidget):
    """What to do, and the keys."""

    def __init__(self, table: ReviewTable) -> None:
        super().__init__()
        text = QLabel(
            "<p><b>Slides</b>: look at what failed a check or cannot tell first. <b>Thresholds</b>: drag the line, look"
            " at the points and at the cells nearest to it, then Keep or Accept. <b>Cells</b> and <b>Regions</b>:"
            " correct what is wrong. <b>Save</b>: the numbers follow, before and after are shown.</p><p>"
            + "<br>".join(f"<b>{key}</b> {words}" for key, (_, words) in KEYS.items())
            + "<br><b>Ctrl + click</b> choose a cell</p>"
        )
        text.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addWidget(text)
        layout.addStretch()
