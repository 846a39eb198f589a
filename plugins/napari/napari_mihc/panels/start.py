"""Start here: from a folder of slides to a report, without a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QProgressBar,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

import mihc
from napari_mihc.desk import Desk, login_name
from napari_mihc.panels.background import in_background
from napari_mihc.panels.pieces import button, fill_table, new_table, row_of, wrapped
from napari_mihc.panels.sheets import SheetPage
from napari_mihc.review import begin_review
from napari_mihc.start import CHOICES, PAGES, NewStudy, Progress, problems_in_words, results_in_words

MS_BETWEEN_LOOKS = 200
MIN_WIDTH = 580  # pixels
PROBLEM_HEADS = ("", "where", "what", "what to do")
TITLES = ("Slides", "Panel", "Patients", "Classes", "Cells")


class StartPanel(QWidget):
    """Choose a folder, look its tables over, check, run, open the report or the review."""

    def __init__(self, viewer: object) -> None:
        super().__init__()
        self.viewer, self.study = viewer, None
        self.folder, self.pseudonyms = (
            QLineEdit(),
            QCheckBox("name slides S001, S002, ... instead of after their files"),
        )
        self.folder.setPlaceholderText("the folder that holds the slides")
        self.pages, self.said, self.progress = QTabWidget(), QLabel(), QProgressBar()
        self.problems, self.working, self.how_far = new_table(PROBLEM_HEADS), None, Progress(0)
        self.reviewing: QWidget | None = None  # the panels of the review that was opened from here
        self.timer = QTimer(self)
        self.timer.setInterval(MS_BETWEEN_LOOKS)
        self.timer.timeout.connect(self._look)
        self.said.setWordWrap(True)
        self.said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.begin_button = button("Begin", self.begin, "Read the slides and write the study's files")
        self.check_button = button("Check", self.check, "Every problem, before any pixel is computed")
        self.run_button = button("Run", self.run, "The whole flow; only what changed is computed again")
        self.stop_button = button("Stop", self.stop, "What is done stays; Run goes on from there")
        self.report_button = button("Open the report", self.open_report, "In your browser")
        self.review_button = button("Review", self.review, "Look at the slides here and correct them")
        self._build()
        self.refresh()

    def _build(self) -> None:
        inner, area = QWidget(), QScrollArea()
        layout = QVBoxLayout(inner)
        layout.addWidget(wrapped("<b>1. The slides.</b> Choose their folder; the study is written beside them."))
        layout.addLayout(row_of([self.folder, button("Choose ...", self.choose, "A folder of slides, or a study")]))
        layout.addWidget(self.pseudonyms)
        layout.addWidget(self.begin_button)
        layout.addWidget(wrapped("<b>2. Its tables.</b> What was guessed is yours to correct; each change is kept."))
        self.pages.setMinimumHeight(220)
        layout.addWidget(self.pages, stretch=2)
        layout.addWidget(wrapped("<b>3. Check and run.</b>"))
        layout.addLayout(row_of([self.check_button, self.run_button, self.stop_button]))
        layout.addWidget(self.progress)
        layout.addWidget(self.said)
        self.problems.setWordWrap(True)
        self.problems.setMinimumHeight(120)
        layout.addWidget(self.problems, stretch=1)
        layout.addWidget(wrapped("<b>4. Look.</b>"))
        layout.addLayout(row_of([self.report_button, self.review_button]))
        area.setWidget(inner)
        area.setWidgetResizable(True)
        area.setMinimumWidth(MIN_WIDTH)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.folder.returnPressed.connect(lambda: self.open(self.folder.text()))

    def refresh(self) -> None:
        """Show what can be done now."""
        is_free, is_begun = self.working is None, self.study is not None and self.study.is_begun
        self.begin_button.setEnabled(is_free and bool(self.folder.text().strip()) and not is_begun)
        self.check_button.setEnabled(is_free and is_begun)
        self.run_button.setEnabled(is_free and is_begun)
        self.stop_button.setEnabled(not is_free)
        self.progress.setVisible(not is_free)
        self.problems.setVisible(self.problems.rowCount() > 0)
        self.pages.setEnabled(is_free)
        has_report = is_begun and self.study.report is not None
        self.report_button.setEnabled(has_report)
        self.review_button.setEnabled(is_free and is_begun and (self.study.folder / "results").is_dir())

    # The folder

    def choose(self) -> None:
        """Ask for a folder."""
        found = QFileDialog.getExistingDirectory(self, "Slides")
        if found:
            self.open(found)

    def open(self, folder: str) -> None:
        """Take a folder: of slides, or of a study that was begun."""
        self.folder.setText(folder)
        self.study = NewStudy(Path(folder).expanduser()) if folder.strip() else None
        if self.study is not None and not self.study.folder.is_dir():
            self.said.setText(f"{folder}: there is no such folder.\nName the folder that holds the slides.")
            self.study = None
        elif self.study is not None:
            self.said.setText(_how_far(self.study))
        self._show_pages()

    def begin(self) -> None:
        """Write the study's files."""
        if self.study is None:
            self.open(self.folder.text())
        if self.study is not None:
            pseudonyms = self.pseudonyms.isChecked()
            self._do(lambda: self.study.begin(pseudonyms=pseudonyms), self._begun, "Reading the slides ...")

    def _begun(self, notes: list[str]) -> None:
        self.said.setText("\n".join(notes))
        self._show_pages()

    def _show_pages(self) -> None:
        self.pages.clear()
        self.problems.setRowCount(0)
        if self.study is not None and self.study.is_begun:
            for name, title in zip(PAGES, TITLES, strict=True):
                self.pages.addTab(SheetPage(self.study, name, CHOICES, self.said.setText), title)
        self.refresh()

    # Check and run

    def check(self) -> None:
        """List every problem."""
        self._do(self.study.check, self._checked, "Checking ...")

    def _checked(self, problems: list[mihc.errors.Problem]) -> None:
        rows = [(one.severity, one.place, one.what, one.fix) for one in problems]
        fill_table(self.problems, pd.DataFrame(rows, columns=list(PROBLEM_HEADS)))
        for column, width in ((1, 100), (2, 185), (3, 185)):
            self.problems.setColumnWidth(column, width)
        self.problems.resizeRowsToContents()
        self.said.setText(problems_in_words(problems))

    def run(self) -> None:
        """Run beside the viewer, which stays usable."""
        self.problems.setRowCount(0)
        study = self.study

        def all_of_it() -> mihc.Results:
            slides = mihc.read_study(study.folder).slides
            self.how_far = Progress(len(slides))
            return study.run(self.how_far.tell)

        self._do(all_of_it, self._ran, "Running ...")
        self.timer.start()

    def _ran(self, results: mihc.Results) -> None:
        self.said.setText(results_in_words(results))

    def _look(self) -> None:
        """Show how far the run is."""
        if self.working is None:
            self.timer.stop()
        elif not self.study.stopping.is_set() and self.how_far.slides:
            self.progress.setRange(0, self.how_far.slides)
            self.progress.setValue(len(self.how_far.done))
            failed = "".join(f"\nFAILED {slide}: {what}" for slide, what in list(self.how_far.failed.items()))
            self.said.setText(self.how_far.words + failed)

    def stop(self) -> None:
        """End what is under way."""
        if self.study is not None:
            self.study.stop()
            self.said.setText("Stopping; what is done stays ...")

    def _do(self, work: Callable[[], object], then: Callable[[object], None], said: str) -> None:
        if self.working is not None:
            return
        self.said.setText(said)
        self.progress.setRange(0, 0)
        self.working = in_background(
            self,
            work,
            lambda done: self._ended(lambda: then(done)),
            lambda error: self._ended(lambda: self._failed(error)),
        )
        self.refresh()

    def _ended(self, show: Callable[[], None]) -> None:
        self.working = None
        show()
        self.refresh()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, mihc.Stopped):
            self.said.setText("Stopped. What is done stays; Run goes on from there.")
        elif isinstance(error, mihc.errors.StudyProblems):
            self._checked(list(error.problems))
        elif isinstance(error, mihc.errors.MihcError):
            self.said.setText(str(error))
        else:
            self.said.setText(f"A defect of mihc: {type(error).__name__}: {error}")

    # Look

    def open_report(self) -> None:
        """Open the report in the browser."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.study.report)))

    def review(self) -> None:
        """Open the panels of a review in this viewer."""
        if self.reviewing is not None:
            self.reviewing.table.desk.close()
            self.viewer.window.remove_dock_widget(self.reviewing)
            self.reviewing = None
        try:
            self.reviewing = begin_review(self.viewer, Desk(self.study.folder, login_name()))
        except mihc.errors.MihcError as error:
            self.said.setText(str(error))


def _how_far(study: NewStudy) -> str:
    """What is there of a study, and what comes next."""
    if study.report is not None:
        return "This study has been run: look at it below. After a change, Run computes what hangs on it."
    if study.is_begun:
        return "This is a study already: look its tables over, then check and run."
    return "Begin reads the slides; nothing of theirs is changed."
