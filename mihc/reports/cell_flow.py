"""What became of the cells: segmented -> excluded, and why -> analysed; of every slide, and of all that count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from mihc.reports.numbers import Numbers, as_float, rounded, sentence, text

ANALYSED = ("tumour", "stroma", "other")
OUTSIDE = {  # categories of area_ledger.csv, and of a table of cells, that are no region
    "glass": "outside on glass",
    "unannotated": "outside the annotations",
    "outside": "outside",
}


@dataclass(frozen=True)
class Cells:
    """A number of cells and the row of area_ledger.csv that has it; None where it is a sum, or of a table of cells."""

    count: int
    row: int | None = None

    def show(self, numbers: Numbers) -> Markup:
        """The number for the page, with its source where one cell of a table has it."""
        if self.row is not None:
            return numbers.show("area_ledger", self.row, "cells", "count")
        return Markup("{}").format(rounded(float(self.count), "count"))


@dataclass(frozen=True)
class CellFlow:
    """The cells of one slide, or of several together: segmented = excluded + analysed."""

    slide: str  # "" = several
    segmented: Cells
    reasons: tuple[tuple[str, Cells], ...]  # why cells are excluded; reasons without a cell are left out
    analysed: Cells

    @property
    def excluded(self) -> int:
        """Cells that are in no number, for whatever reason."""
        return sum(cells.count for _why, cells in self.reasons)

    @property
    def sums(self) -> bool:
        """Whether every cell is in exactly one place."""
        return self.segmented.count == self.excluded + self.analysed.count

    def told(self, numbers: Numbers) -> Markup:
        """ "874 segmented → 71 excluded (fold 71) → 803 analysed"."""
        why = self.why(numbers)
        pieces = {
            "segmented": self.segmented.show(numbers),
            "excluded": Cells(self.excluded).show(numbers),
            "why": sentence(" ({why})", {"why": why}) if why else "",
            "analysed": self.analysed.show(numbers),
        }
        return sentence("{segmented} segmented → {excluded} excluded{why} → {analysed} analysed", pieces)

    def why(self, numbers: Numbers) -> Markup:
        """ "fold 71, Necrosis 3"; empty where no cell is excluded."""
        told = [sentence("{why} {n}", {"why": why, "n": cells.show(numbers)}) for why, cells in self.reasons]
        return Markup(", ").join(told)


def cell_flows(numbers: Numbers) -> dict[str, CellFlow]:
    """Every slide whose cells were counted, in the order of the slides' table: from area_ledger.csv, and for a slide
    that came as a table of cells from that ("given_cells": slide, tissue_class, region, cells)."""
    ledger, given = _by_slide(numbers["area_ledger"]), _by_slide(numbers["given_cells"])
    slides = numbers["slides"]
    flows = {}
    for slide in dict.fromkeys(slides["slide"].map(text)) if len(slides) else ():
        flow = _of_ledger(slide, ledger[slide]) if slide in ledger else None
        if flow is None and slide in given:
            flow = _of_table(slide, given[slide])
        if flow is not None:
            flows[slide] = flow
    return flows


def pooled(flows: Iterable[CellFlow]) -> CellFlow:
    """Several slides together; reasons that differ only by upper and lower case are one."""
    flows = list(flows)
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for why, cells in (reason for flow in flows for reason in flow.reasons):
        names.setdefault(why.lower(), why)
        counts[why.lower()] = counts.get(why.lower(), 0) + cells.count
    reasons = sorted(counts, key=lambda key: (-counts[key], key))
    return CellFlow(
        slide="",
        segmented=Cells(sum(flow.segmented.count for flow in flows)),
        reasons=tuple((names[key], Cells(counts[key])) for key in reasons),
        analysed=Cells(sum(flow.analysed.count for flow in flows)),
    )


def counted_flows(numbers: Numbers, flows: dict[str, CellFlow]) -> list[CellFlow]:
    """The flows of slides that count for a patient: controls do not."""
    controls = numbers.control_slides
    return [flow for slide, flow in flows.items() if slide not in controls]


def _by_slide(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {text(slide): rows for slide, rows in table.groupby("slide", sort=False)} if len(table) else {}


def _of_ledger(slide: str, rows: pd.DataFrame) -> CellFlow | None:
    """None where the ledger does not say both ends."""
    whole, reasons = {}, []
    for index, row in rows.iterrows():
        category, cells = text(row["category"]), as_float(row["cells"])
        one = Cells(int(cells), int(index)) if cells == cells else Cells(0)
        if category in ("scanned", "analysed"):
            whole[category] = one
        elif one.count and category not in ("tissue", "holes", *ANALYSED):
            reasons.append((_why(category, text(row["region"])), one))
    if len(whole) < 2:
        return None
    return CellFlow(slide, whole["scanned"], _largest_first(reasons), whole["analysed"])


def _of_table(slide: str, rows: pd.DataFrame) -> CellFlow:
    analysed = rows["tissue_class"].isin(ANALYSED)
    left = rows[~analysed]
    reasons = [(_why(text(row.tissue_class), text(row.region)), Cells(int(row.cells))) for row in left.itertuples()]
    total = Cells(int(rows["cells"].sum()))
    return CellFlow(slide, total, _largest_first(reasons), Cells(int(rows.loc[analysed, "cells"].sum())))


def _why(category: str, region: str) -> str:
    return OUTSIDE.get(category) or region or category


def _largest_first(reasons: list[tuple[str, Cells]]) -> tuple[tuple[str, Cells], ...]:
    return tuple(sorted(reasons, key=lambda reason: (-reason[1].count, reason[0])))
