"""The panels of cells and regions."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_mihc.panels.pieces import button, row_of
from napari_mihc.table import CHOSEN, DRAWN, KEYS, ReviewTable

CLASSES = ("tumour", "stroma", "other", "excluded")


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
                button("Draw a line", lambda: self.draw("add_path"), "Drag across a cell, to cut it"),
                button("Draw an outline", lambda: self.draw("add_polygon_lasso"), "Drag around a nucleus"),
            ])
        )  # fmt: skip
        for key in ("Shift-M", "Shift-X", "Shift-C", "Shift-I", "Shift-R"):
            name, text = KEYS[key]
            layout.addWidget(button(f"{text} ({key})", getattr(table, name), key))
        layout.addWidget(self.said)
        layout.addStretch()

    def draw(self, mode: str) -> None:
        """Begin to draw."""
        self.table.draw(mode)

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
        layout.addWidget(button("Draw an outline", lambda: table.draw("add_polygon_lasso"), "Drag around it"))
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
