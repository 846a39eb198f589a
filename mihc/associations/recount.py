"""One slide's cells counted again under other thresholds within their intervals, and in other regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mihc.phenotypes import Expression, parse_expression
from mihc.positives import marker_values
from mihc.regions import ANALYSED
from mihc.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd
    from pandas.arrays import BooleanArray

AS_ANALYSED = "as analysed"
POSITIONS = {AS_ANALYSED: 0.0, "low": -1.0, "half low": -0.5, "half high": 0.5, "high": 1.0}  # within the interval
COUNT_COLUMNS = ("threshold", "regions", "slide", "region", "tissue_class", "population", "cells", "positive_cells",
                 "area_mm2")  # fmt: skip


@dataclass(frozen=True, eq=False)
class SlideCells:
    """What is needed of a slide to count it again."""

    slide: str
    cells: pd.DataFrame  # the marker's values, the calls as they were made, levels where they are known
    thresholds: Mapping[str, Threshold]  # marker -> as it was used
    compartments: Mapping[str, str]  # marker -> "nucleus" | "cytoplasm" | "cell"
    phenotypes: Mapping[str, str]  # name -> expression, of those that the slide can show
    regions: Mapping[str, tuple[np.ndarray, Mapping[str, float]]]
    # name of the definition -> tissue class of every cell, and mm² of each analysed class (NaN: not known)


def settings_of(markers: Sequence[str], movable: Sequence[str]) -> dict[str, dict[str, float]]:
    """The threshold settings of a population: name -> marker -> position in its interval, -1 low end to 1 high end.

    All movable markers move together; where there are several, each also moves alone to its ends.
    """
    moved = [marker for marker in markers if marker in set(movable)]
    if not moved:
        return {AS_ANALYSED: {}}
    together = {name: dict.fromkeys(moved, position) for name, position in POSITIONS.items()}
    alone = {f"{marker} {end}": {marker: POSITIONS[end]} for marker in moved for end in ("low", "high")}
    return together | (alone if len(moved) > 1 else {})


def movable_markers(slides: Sequence[Mapping[str, Threshold]]) -> list[str]:
    """The markers whose threshold has an interval on at least one slide."""
    found = {marker: None for one in slides for marker, threshold in one.items() if _moves(threshold)}
    return list(found)


def moved(threshold: Threshold, position: float) -> float:
    """The threshold at a position of its interval: -1 its low end, 0 its value, 1 its high end; linear between."""
    if not _moves(threshold) or position == 0:
        return threshold.value
    end = threshold.low if position < 0 else threshold.high
    return threshold.value + abs(position) * (end - threshold.value)


def _moves(threshold: Threshold) -> bool:
    known = bool(np.isfinite([threshold.value, threshold.low, threshold.high]).all())
    return known and threshold.verdict not in ("negative slide", "cannot tell") and threshold.low < threshold.high


def recount(slide: SlideCells, settings: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[tuple]:
    """Count every population of a slide under every setting and in every definition of the regions.

    Parameters
    ----------
    slide
        Its cells.
    settings
        population -> its settings, as `settings_of` gives them.

    Returns
    -------
    list of tuple
        Rows of `COUNT_COLUMNS`; region is the tissue class. A population that cannot be told has NaN positive cells,
        as in regions.csv; one whose calls its own thresholds do not give (a table of cells brought them) does not move.
    """
    rows: list[tuple] = []
    classes = {name: _codes(kinds) for name, (kinds, _) in slide.regions.items()}
    sizes = {name: np.bincount(codes, minlength=len(ANALYSED) + 1) for name, codes in classes.items()}
    calls = _Calls(slide)
    for population, of_population in settings.items():
        if not calls.shows(population):
            continue
        for name, positions in of_population.items():
            called = calls.of(population, positions)
            values, unknown = (np.asarray(part) for part in (called._data, called._mask))
            for definition, (_, areas) in slide.regions.items():
                positive = np.bincount(classes[definition][values & ~unknown], minlength=len(ANALYSED) + 1)
                null = np.bincount(classes[definition][unknown], minlength=len(ANALYSED) + 1)
                rows += [
                    (name, definition, slide.slide, kind, kind, population, int(sizes[definition][code]),
                     float(positive[code]) if not null[code] else np.nan, float(areas[kind]))
                    for code, kind in enumerate(ANALYSED)
                    if kind in areas
                ]  # fmt: skip
    return rows


def _codes(kinds: np.ndarray) -> np.ndarray:
    """Position of each cell's tissue class in `ANALYSED`, one more for every other class."""
    codes = np.full(len(kinds), len(ANALYSED), dtype=np.intp)
    for code, kind in enumerate(ANALYSED):
        codes[kinds == kind] = code
    return codes


class _Calls:
    """Calls of one slide's cells; each marker is called once at each position."""

    def __init__(self, slide: SlideCells):
        self.slide = slide
        self.values: dict[str, np.ndarray] = {}
        self.known: dict[tuple[str, float], BooleanArray] = {}
        names = list(slide.compartments)
        self.expressions = {
            name: parse_expression(text, names, name=name, phenotypes=slide.phenotypes)
            for name, text in slide.phenotypes.items()
        }
        levels = {marker: f"{marker}_level" for marker in names}
        self.levels = {m: slide.cells[column].array for m, column in levels.items() if column in slide.cells}
        self.fixed = {name for name in self.expressions if not self._follows(name)}

    def shows(self, population: str) -> bool:
        return population in self.slide.compartments or population in self.expressions

    def of(self, population: str, positions: Mapping[str, float]) -> BooleanArray:
        if population not in self.expressions:
            return self._marker(population, positions.get(population, 0.0))
        if population in self.fixed or not any(positions.values()):
            return self._stored(f"phenotype_{population}")
        return self._evaluated(self.expressions[population], positions)

    def _evaluated(self, expression: Expression, positions: Mapping[str, float]) -> BooleanArray:
        called = {marker: self._marker(marker, positions.get(marker, 0.0)) for marker in expression.markers}
        fixed = {name: self._stored(f"phenotype_{name}") for name in getattr(self, "fixed", ())}
        return expression.evaluate(called | fixed, self.levels)

    def _follows(self, name: str) -> bool:
        """Whether the calls that are stored are those that the markers' own calls give."""
        import pandas as pd

        made = pd.Series(self._evaluated(self.expressions[name], {}))
        return made.equals(pd.Series(self._stored(f"phenotype_{name}")))

    def _stored(self, column: str) -> BooleanArray:
        return self.slide.cells[column].astype("boolean").array

    def _marker(self, marker: str, position: float) -> BooleanArray:
        import pandas as pd

        threshold = self.slide.thresholds.get(marker)
        if threshold is None or position == 0 or not _moves(threshold):
            position = 0.0
        if (marker, position) not in self.known:
            if position == 0:
                self.known[marker, position] = self._stored(f"{marker}_positive")
            else:
                if marker not in self.values:
                    self.values[marker] = marker_values(self.slide.cells, marker, self.slide.compartments[marker])
                called = self.values[marker] >= moved(threshold, position)
                self.known[marker, position] = pd.arrays.BooleanArray(called, np.zeros(len(called), dtype=bool))
        return self.known[marker, position]
