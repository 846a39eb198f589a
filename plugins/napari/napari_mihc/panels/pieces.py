"""Small pieces that the panels share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QAbstractItemView, QHBoxLayout, QLabel, QPushButton, QTableWidget, QTableWidgetItem, QWidget

if TYPE_CHECKING:
    import pandas as pd


def button(text: str, action: Callable[[], object], tip: str) -> QPushButton:
    """A button that does one thing."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda _=False: action())
    return made


def wrapped(text: str) -> QLabel:
    """Words that fill as many lines as they need."""
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def row_of(widgets: Sequence[QWidget]) -> QHBoxLayout:
    """Widgets beside each other."""
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def new_table(heads: Sequence[str]) -> QTableWidget:
    """An empty table to read."""
    table = QTableWidget(0, len(heads))
    table.setHorizontalHeaderLabels(list(heads))
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.verticalHeader().hide()
    return table


def fill_table(table: QTableWidget, rows: pd.DataFrame) -> None:
    """Show a frame's rows."""
    table.setRowCount(len(rows))
    for number, row in enumerate(rows.itertuples(index=False)):
        for column, value in enumerate(row):
            table.setItem(number, column, QTableWidgetItem(shown(value)))
    table.resizeColumnsToContents()


def shown(value: object) -> str:
    """A value as people read it: numbers to four digits, unknown as nothing."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"
    return str(value)
