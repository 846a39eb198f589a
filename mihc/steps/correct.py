"""The corrections of a slide's values: found with its values, used by its calls, and shown beside them.

    .stages/positives/<slide>.corrections.csv   its rows of corrections.csv: positive cells without and with each

What they are, `mihc.corrections` says. Each that this slide's measurements allow is found with and without, whether it
is asked for or not, so that its effect can always be shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from mihc import store
from mihc.corrections import (
    CORRECTIONS,
    Correction,
    Near,
    Surroundings,
    fit_corrections,
    looked_at,
    measured_corrections,
    needed_columns,
)
from mihc.panel import Panel, PanelRow
from mihc.positives import Threshold
from mihc.stages import Job
from mihc.steps.segment import measured_table
from mihc.store import Record
from mihc.study import SlideRow

COLUMNS = (
    "slide", "marker", "correction", "threshold", "cells", "positive_cells_uncorrected", "positive_cells_corrected",
    "positivity_percent_uncorrected", "positivity_percent_corrected", "used", "slope", "note",
)  # fmt: skip
WHAT = {
    "spillover": "light of touching neighbours",
    "background": "the background around cells",
    "autofluorescence": "autofluorescence",
}
NEEDS = {
    "spillover": "a measured spillover",
    "background": "a measured background",
    "autofluorescence": "an autofluorescence channel",
}


@dataclass(frozen=True)
class Corrections:
    """What is found of one slide's corrections."""

    asked: tuple[str, ...]  # some of CORRECTIONS, in their order
    ways: Mapping[tuple[str, ...], Mapping[str, Correction]]  # corrections, as asked or all but one -> by marker

    @property
    def used(self) -> Mapping[str, Correction]:
        """marker -> what is taken from its means before calls are made."""
        return self.ways.get(self.asked, {})

    @property
    def shown(self) -> tuple[str, ...]:
        """Those whose effect is known: there is a way with it and one without."""
        return tuple(name for name in CORRECTIONS if all(way in self.ways for way in self.both_ways(name)))

    def both_ways(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Without and with one of them, the others being as they are asked for."""
        without = tuple(one for one in self.asked if one != name)
        return without, tuple(one for one in CORRECTIONS if one in without or one == name)

    def columns(self, cells: pd.DataFrame, way: tuple[str, ...], near: Near | None) -> dict[str, np.ndarray]:
        """`<marker>_corrected` of a table of cells, of every marker from which something is taken."""
        return {f"{marker}_corrected": one.values(cells, near) for marker, one in self.ways.get(way, {}).items()}

    def as_json(self) -> dict:
        """For the record of the values."""
        return {
            "asked": list(self.asked),
            "ways": [[list(way), {marker: asdict(one) for marker, one in of.items()}] for way, of in self.ways.items()],
        }

    @classmethod
    def from_json(cls, content: Mapping) -> Corrections:
        """Read what `as_json` made."""
        ways = {tuple(way): {marker: _read(one) for marker, one in of.items()} for way, of in content["ways"]}
        return cls(tuple(content["asked"]), ways)


def _read(content: Mapping) -> Correction:
    return Correction(**{**content, "glow": _read(content["glow"]) if content["glow"] else None})


def asked_corrections(job: Job) -> tuple[str, ...]:
    """What study.toml asks for, in the order in which it is applied."""
    measure = job.study.settings.measure
    return tuple(name for name in CORRECTIONS if getattr(measure, f"{name}_correction") == "on")


def glow_of(panel: Panel) -> str:
    """The panel's (first) autofluorescence channel; "" without one."""
    return next((line.marker for line in panel.rows if line.role == "autofluorescence"), "")


def correction_columns(panel: Panel) -> set[str]:
    """What of the cells table the panel's corrections may need."""
    needed = (needed_columns(line.marker, line.compartment, glow_of(panel)) for line in panel.markers)
    return {"x_um", "y_um", "nucleus_area_um2", "cell_area_um2"}.union(*needed)


def near_cells(job: Job, row: SlideRow, cells: pd.DataFrame) -> Near | None:
    """The nearest of the slide's cells, as the machine found them, of each cell; None where no background is measured.

    An edited cell lies among the machine's cells too, so that it moves no other.
    """
    if row.cells is not None:
        return None
    path = job.store.path(measured_table(row.slide))
    names = [name for name in store.cell_columns(path) if name.endswith("_background")]
    return Surroundings(store.read_cells(path, columns=["x_um", "y_um", *names])).near(cells) if names else None


def find_corrections(job: Job, row: SlideRow, cells: pd.DataFrame) -> Corrections:
    """Find them on a slide's analysed cells."""
    panel, cells = job.study.panel_of(row), looked_at(cells)
    glow, asked, near = glow_of(panel), asked_corrections(job), near_cells(job, row, cells)
    compartments = {line.marker: line.compartment for line in panel.markers}
    measured = {name for line in panel.markers for name in measured_corrections(cells, *_place(line), glow)}
    none = Corrections(asked, {})
    ways = {asked, *(way for name in CORRECTIONS if name in measured for way in none.both_ways(name))}
    return Corrections(
        asked, {way: fit_corrections(cells, compartments, glow=glow, asked=way, near=near) for way in sorted(ways)}
    )


def found_corrections(record: Record) -> Corrections:
    """Those that are stored with a slide's values."""
    return Corrections.from_json(record.notes["corrections"])


def used_columns(job: Job, row: SlideRow, found: Corrections, cells: pd.DataFrame) -> dict[str, np.ndarray]:
    """`<marker>_corrected` of some of a slide's cells, where study.toml asks for it: what calls are made by."""
    near = near_cells(job, row, cells) if "background" in found.asked else None
    return found.columns(cells, found.asked, near)


def _place(line: PanelRow) -> tuple[str, str]:
    return line.marker, line.compartment


def effect_rows(
    job: Job,
    row: SlideRow,
    cells: pd.DataFrame,
    is_analysed: np.ndarray,
    thresholds: Mapping[str, Threshold],
    found: Corrections,
) -> pd.DataFrame:
    """Rows of corrections.csv: analysed cells that are positive without and with each, by the threshold in use.

    A marker whose calls came with a table of cells has no row.
    """
    total = int(is_analysed.sum())
    panel, near, rows = job.study.panel_of(row), near_cells(job, row, cells) if found.shown else None, []
    for name in found.shown:
        without, corrected = found.both_ways(name)
        for line in panel.markers:
            one = found.ways[corrected].get(line.marker)
            chosen = thresholds[line.marker]
            if one is None or name not in one.names or chosen.method == "given":
                continue
            other = found.ways[without].get(line.marker, Correction(*_place(line)))
            counts = [_positive(way.values(cells, near), is_analysed, chosen) for way in (other, one)]
            shares = [100 * count / total if total else np.nan for count in counts]
            used = "corrected" if name in found.asked else "uncorrected"
            slope = (one.slope, one.note) if name == "autofluorescence" else (np.nan, "")
            rows.append((row.slide, line.marker, name, chosen.value, total, *counts, *shares, used, *slope))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _positive(values: np.ndarray, among: np.ndarray, threshold: Threshold) -> float:
    if threshold.verdict == "cannot tell":
        return np.nan
    is_negative = threshold.verdict == "negative slide"
    return 0.0 if is_negative else float(np.count_nonzero(among & (values >= threshold.value)))


def correction_checks(slide: str, found: Corrections) -> list[tuple]:
    """Rows of qc.csv: what was asked for and cannot be done, and the slopes of autofluorescence that were used."""
    rows = []
    for name in found.asked:
        with_it = [one for one in found.used.values() if name in one.names]
        check = f"{name} correction"
        if not with_it:
            said = f"The correction for {WHAT[name]} is asked for, but this slide's cells came without {NEEDS[name]}"
            rows.append((slide, check, np.nan, "", "warn", f"{said}: calls were made by the means as they are."))
        elif name == "autofluorescence":
            rows.append((slide, check, max(one.slope for one in with_it), "counts per count", "ok", _slopes(with_it)))
    return rows


def _slopes(corrections: Collection[Correction]) -> str:
    told = [f"{one.marker} {one.slope:.3g}" + (f" ({one.note})" if one.note else "") for one in corrections]
    return f"Taken for each count of autofluorescence beyond the usual: {', '.join(told)}."
