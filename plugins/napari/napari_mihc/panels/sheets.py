"""A table of a study's folder that is edited in place; every change is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QStyledItemDelegate, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

import mihc
from napari_mihc.panels.pieces import button, row_of, wrapped
from napari_mihc.start import NewStudy

WORDS = {
    "slides.csv": "The patient of each slide. Batch, control and the rest are optional.",
    "panel.csv": "What each channel shows: its marker, what it is for, and where in the cell it is measured.",
    "clinical.csv": "One row per patient; add the columns of times, events and groups that study.toml names.",
    "classes of annotations": "What the classes in your annotation files mean.",
    "kinds of cells": 'A name and what it is: B cell is CD20+; proliferating B cell is "B cell" & Ki67+.',
}


class SheetPage(QWidget):
    """One table, with its choices where a column has them."""

    def __init__(
        self, study: NewStudy, name: str, choices: Mapping[str, Sequence[str]], tell: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.study, self.name, self.choices, self.tell = study, name, choices, tell
        self.columns: tuple[str, ...] = ()
        self.cells = QTableWidget(0, 0)
        self.cells.setItemDelegate(ChoiceDelegate(self))
        layout = QVBoxLayout(self)
        layout.addWidget(wrapped(WORDS[name]))
        layout.addWidget(self.cells)
        buttons = [
            button("Add a row", self.add_row, "At the end"),
            button("Remove the row", self.remove_row, "The one that is chosen"),
            button("Read again", self.read, "After a change outside of napari"),
        ]
        layout.addLayout(row_of(buttons))
        self.cells.itemChanged.connect(lambda _: self.write())
        self.read()

    def read(self) -> None:
        """Show what lies in the folder."""
        try:
            sheet = self.study.page(self.name)
        except mihc.errors.MihcError as error:
            self.tell(str(error))
            return
        self.columns = sheet.columns
        self.cells.blockSignals(True)
        self.cells.setColumnCount(len(sheet.columns))
        self.cells.setHorizontalHeaderLabels(list(sheet.columns))
        self.cells.setRowCount(len(sheet.rows))
        for number, row in enumerate(sheet.rows):
            for column, text in enumerate(row):
                self.cells.setItem(number, column, QTableWidgetItem(text))
        self.cells.resizeColumnsToContents()
        self.cells.blockSignals(False)

    def write(self) -> None:
        """Write the table as it stands."""
        try:
            self.study.write(self.name, self.columns, self.rows())
        except mihc.errors.MihcError as error:
            self.tell(str(error))

    def rows(self) -> list[list[str]]:
        """The texts of the table."""
        columns = range(self.cells.columnCount())
        return [[self._text(row, column) for column in columns] for row in range(self.cells.rowCount())]

    def add_row(self) -> None:
        """Add an empty row; where a column has choices, with the first of them."""
        row = self.cells.rowCount()
        self.cells.blockSignals(True)
        self.cells.insertRow(row)
        for column in range(self.cells.columnCount()):
            self.cells.setItem(row, column, QTableWidgetItem(""))
        self.cells.blockSignals(False)
        self.cells.setCurrentCell(row, 0)
        self.cells.editItem(self.cells.item(row, 0))

    def remove_row(self) -> None:
        """Remove the row that is chosen."""
        if self.cells.currentRow() >= 0:
            self.cells.removeRow(self.cells.currentRow())
            self.write()

    def _text(self, row: int, column: int) -> str:
        item = self.cells.item(row, column)
        return item.text() if item is not None else ""


class ChoiceDelegate(QStyledItemDelegate):
    """Lets a person choose where a column has few values, and type elsewhere."""

    def __init__(self, page: SheetPage) -> None:
        super().__init__(page)
        self.page = page

    def createEditor(self, parent: QWidget, option: object, index: object) -> QWidget:
        """Make a box of choices, or a line to type into."""
        choices = self.page.choices.get(self.page.columns[index.column()])
        if choices is None:
            return super().createEditor(parent, option, index)
        box = QComboBox(parent)
        box.addItems(choices)
        box.activated.connect(lambda _: self.commitData.emit(box))
        return box

    def setEditorData(self, editor: QWidget, index: object) -> None:
        """Show the cell's text in the editor."""
        if isinstance(editor, QComboBox):
            editor.setCurrentText(str(index.data(Qt.ItemDataRole.EditRole) or ""))
        else:
            super().setEditorData(editor, index)

    def setModelData(self, editor: QWidget, model: object, index: object) -> None:
        """Take the editor's text into the cell."""
        if isinstance(editor, QComboBox):
            model.setData(index, editor.currentText())
        else:
            super().setModelData(editor, model, index)
