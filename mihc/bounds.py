"""What the thresholds' intervals make of the calls: who may be no positive cell, and who else may be one.

A marker's ends are those of its threshold's interval. The thresholds of a phenotype's markers do not err together: each
is drawn by itself, 1,024 times, from two half normals about its value whose ends of 95 % are those of its interval, and
the phenotype's ends leave 2.5 % of the counts beyond on either side, in every region by itself. They never pass the
worst case, all thresholds at their worst end at once (`CD3+ CD8-`: fewest with CD3 at its high, CD8 at its low end).

How far a call is from turning is a number, its margin, in standard deviations of a threshold: the thresholds may all
move so far, each to its worse side, before it does. Of a marker it is the value's distance from the threshold, above 0
where the cell is positive; "and" takes the smaller margin, "or" the larger, "not" the opposite (the robustness of
Fainekos and Pappas, Theor. Comput. Sci. 2009, 410: 4262), and 0 is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mihc.phenotypes import Expression, parse_expression
from mihc.positives import marker_values
from mihc.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd
    from pandas.arrays import BooleanArray

DRAWS = 1024  # of each threshold
BEYOND = 25  # draws whose counts lie beyond an end: 2.5 % of them, rounded down
END = NormalDist().inv_cdf(0.975)  # SDs: where an interval ends
FARTHEST = NormalDist().inv_cdf(1 - 0.5 / DRAWS)  # SDs: the draw that lies farthest away
ROWS = 1 << 12  # kinds of cells whose draws are counted at a time, which bounds the memory

Known = TypeVar("Known")


@dataclass(frozen=True)
class Doubt:
    """Cells of one population whose call the intervals leave open, as positions in the cells table."""

    positive: np.ndarray  # (n,) int64: called positive, and perhaps not
    negative: np.ndarray  # (m,) int64: not called positive, and perhaps so


@dataclass(frozen=True)
class _Range:
    """A marker's values and its threshold, which has an interval."""

    values: np.ndarray  # (cells,) counts
    threshold: Threshold
    near: np.ndarray  # (cells,) bool: some draw may call it otherwise

    def margins(self, place: np.ndarray) -> np.ndarray:
        """(place,) SDs: how far the cells lie above the threshold; what has no value is surely negative.

        A positive cell of an end's very value stays positive there, so its margin is a step larger than the end's.
        """
        away = self.values[place] - self.threshold.value
        above, below = self.threshold.high - self.threshold.value, self.threshold.value - self.threshold.low
        with np.errstate(over="ignore"):
            sides = [END * (away / one) if one > 0 else np.copysign(np.inf, away) for one in (above, below)]
        found = np.where(away >= 0, np.nextafter(sides[0], np.inf), sides[1])
        return np.where(np.isnan(found), -np.inf, found)


def call_doubts(
    cells: pd.DataFrame,
    thresholds: Mapping[str, Threshold],
    called: pd.DataFrame,
    *,
    compartments: Mapping[str, str],
    phenotypes: Mapping[str, str] | None = None,
    brought: Collection[str] = (),
    groups: np.ndarray | None = None,
) -> dict[str, Doubt]:
    """Find the cells that another threshold within the intervals would call otherwise.

    Parameters
    ----------
    cells
        Cells table with `<marker>_<compartment>_mean`, counts.
    thresholds
        marker -> threshold; one without an interval (low or high is NaN) is taken as certain, and the plausible range
        of one that cannot be told is no interval.
    called
        What `call_positives` made of them: `<marker>_positive`, `<marker>_level`, `phenotype_<name>`.
    compartments
        marker -> "nucleus" | "cytoplasm" | "cell", of every marker that `called` has.
    phenotypes
        name -> expression over these markers and over the other names.
    brought
        Phenotypes among them that were called elsewhere, and are certain.
    groups
        (cells,) 0, 1, ...: the region whose count a cell belongs to; -1: none, and then no phenotype of it is in doubt.
        None: all cells are one region.

    Returns
    -------
    dict
        Column of `called` -> its doubt; a column that hangs on no interval is not in it. An unknown marker stays
        unknown: a cell counts as called for certain only where no value of it changes that.
    """
    ranges = {
        marker: _range(marker_values(cells, marker, compartments[marker]), threshold)
        for marker, threshold in thresholds.items()
        if np.isfinite([threshold.value, threshold.low, threshold.high]).all()
    }
    groups = np.zeros(len(cells), dtype=np.int64) if groups is None else groups
    doubts = {f"{marker}_positive": _doubt_of_marker(one) for marker, one in ranges.items()}
    for name, text in (phenotypes or {}).items():
        expression = parse_expression(text, list(compartments), name=name, phenotypes=phenotypes)
        question = _Question(expression, ranges, called, frozenset(brought))
        if name not in brought and question.moving:
            column = f"phenotype_{name}"
            doubts[column] = question.doubt(called[column], groups)
    return doubts


def _range(values: np.ndarray, threshold: Threshold) -> _Range:
    """Near are the cells within the reach of any draw."""
    wider = FARTHEST / END
    low = threshold.value - wider * (threshold.value - threshold.low)
    high = threshold.value + wider * (threshold.high - threshold.value)
    return _Range(values, threshold, (values >= low) & (values < high))


def _doubt_of_marker(one: _Range) -> Doubt:
    """Between the ends of the interval."""
    is_called, high, low = (one.values >= cut for cut in (one.threshold.value, one.threshold.high, one.threshold.low))
    return Doubt(np.flatnonzero(is_called & ~high), np.flatnonzero(low & ~is_called))


@dataclass(frozen=True)
class _Question:
    """Which cells are of a phenotype, asked of thresholds that may move."""

    expression: Expression
    ranges: Mapping[str, _Range]  # of the markers whose thresholds may move
    called: pd.DataFrame
    brought: frozenset[str]  # phenotypes that are certain

    @property
    def moving(self) -> list[str]:
        """The markers of the expression whose thresholds may move, in an order that no panel changes."""
        literals = _literals(self.expression, self.brought)
        return sorted({one.marker for one in literals if one.operator == "marker"} & set(self.ranges))

    def doubt(self, calls: pd.Series, groups: np.ndarray) -> Doubt:
        """Only cells near a threshold can be in doubt: few are looked at."""
        near = np.logical_or.reduce([self.ranges[marker].near for marker in self.moving])
        place = np.flatnonzero(near & (groups >= 0))
        margin = self.margins(place)
        open_to_draws = np.abs(margin) <= FARTHEST
        place, margin = place[open_to_draws], margin[open_to_draws]
        is_called = calls.array[place].fillna(False).to_numpy(bool)
        positive, negative = is_called & (margin <= END), ~is_called & (margin >= -END)
        named = [one.marker for one in _literals(self.expression, self.brought) if one.marker in self.moving]
        if len(named) > 1:  # of a marker that is named once, its own interval is the answer
            fewer, more = self._plausible(place, is_called, groups[place])
            positive &= _nearest(positive, margin, groups[place], fewer)
            negative &= _nearest(negative, -margin, groups[place], more)
        return Doubt(place[positive], place[negative])

    def margins(self, place: np.ndarray) -> np.ndarray:
        """(place,) SDs: see the top of this file."""

        def leaf(literal: Expression) -> np.ndarray:
            if literal.marker in self.ranges and literal.operator == "marker":
                margin = self.ranges[literal.marker].margins(place)
                return margin if literal.level == 1 else np.minimum(margin, 0.0)  # how bright it is, nobody knows
            calls = self._certain(literal, place)
            return np.where(calls.isna(), 0.0, np.where(calls.fillna(False), np.inf, -np.inf))

        return _fold(self.expression, self.brought, leaf, np.minimum, np.maximum, np.negative)

    def draws(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place, words) uint64, twice: a bit for each draw, whether the cell surely matches and whether it may."""
        tables = dict(zip(self.moving, _drawn(len(self.moving))))
        none = np.zeros((len(place), DRAWS // 64), dtype=np.uint64)

        def leaf(literal: Expression) -> tuple[np.ndarray, np.ndarray]:
            state = self._state(literal, place)
            if literal.marker in tables and literal.operator == "marker":
                bits = tables[literal.marker][state]
                return (bits, bits) if literal.level == 1 else (none, bits)
            sure, possible = (np.where(state[:, None] >= least, ~none, none) for least in (2, 1))
            return (sure, possible) if (state == 1).any() else (sure, sure)

        return _fold(self.expression, self.brought, leaf, _on_both(np.bitwise_and), _on_both(np.bitwise_or), _turned)

    def _state(self, literal: Expression, place: np.ndarray) -> np.ndarray:
        """(place,) how many draws of its threshold the cell reaches; of what is certain 0 no, 1 unknown, 2 yes."""
        if literal.marker in self.ranges and literal.operator == "marker":
            return np.searchsorted(_deviates(), self.ranges[literal.marker].margins(place), side="right")
        calls = self._certain(literal, place)
        return np.where(calls.isna(), 1, 2 * calls.fillna(False).to_numpy(int))

    def _kinds(self, place: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A cell of each kind, as its place in `place`, and how many there are: no draw tells cells of a kind apart."""
        import pandas as pd

        kinds = groups
        for literal in dict.fromkeys(_literals(self.expression, self.brought)):
            kinds, _ = pd.factorize(kinds * (DRAWS + 1) + self._state(literal, place))
        sizes = np.bincount(kinds)
        first = np.empty(len(sizes), dtype=np.int64)
        first[kinds[::-1]] = np.arange(len(kinds))[::-1]
        return first, sizes

    def _certain(self, literal: Expression, place: np.ndarray) -> BooleanArray:
        if literal.operator == "phenotype":
            return self.called[f"phenotype_{literal.marker}"].array[place]
        marker = literal.marker
        positive = {marker: self.called[f"{marker}_positive"].array[place]}
        levels = {marker: self.called[f"{marker}_level"].array[place]} if f"{marker}_level" in self.called else {}
        return literal.evaluate(positive, levels)

    def _plausible(self, place: np.ndarray, is_called: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many called cells each region may lose, and how many others it may gain: (regions,) int64 each."""
        regions = int(groups.max(initial=-1)) + 1
        first, sizes = self._kinds(place, groups)
        sure, possible = np.zeros((2, regions, DRAWS), dtype=np.int64)
        for start in range(0, len(first), ROWS):
            mine, size = first[start : start + ROWS], sizes[start : start + ROWS]
            for counts, bits in zip((sure, possible), self.draws(place[mine])):
                _count_draws(counts, groups[mine], bits, size)
        now = np.bincount(groups[is_called], minlength=regions)
        fewest = np.sort(sure, axis=1)[:, BEYOND]
        most = np.sort(possible, axis=1)[:, DRAWS - 1 - BEYOND]
        return np.maximum(now - fewest, 0), np.maximum(most - now, 0)


def _literals(expression: Expression, brought: Collection[str]) -> Iterator[Expression]:
    """What an expression is made of in the end: markers with a level, and phenotypes that were brought."""
    if expression.operator == "marker" or (expression.operator == "phenotype" and expression.marker in brought):
        yield expression
    else:
        for part in expression.parts:
            yield from _literals(part, brought)


def _fold(
    expression: Expression,
    brought: Collection[str],
    leaf: Callable[[Expression], Known],
    both: Callable[[Known, Known], Known],
    either: Callable[[Known, Known], Known],
    opposite: Callable[[Known], Known],
) -> Known:
    """What an expression comes to where its literals, and the phenotypes that were brought, come to `leaf`."""
    if expression.operator == "marker" or (expression.operator == "phenotype" and expression.marker in brought):
        return leaf(expression)
    parts = (_fold(part, brought, leaf, both, either, opposite) for part in expression.parts)
    found = next(parts)
    if expression.operator == "not":
        return opposite(found)
    for part in parts:
        found = both(found, part) if expression.operator == "and" else either(found, part)
    return found


def _on_both(join: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    """`join` of what is sure and of what is possible; where these are the same, it is done once."""

    def joined(
        one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        sure = join(one[0], other[0])
        same = one[0] is one[1] and other[0] is other[1]
        return sure, sure if same else join(one[1], other[1])

    return joined


def _turned(one: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    sure = ~one[1]
    return sure, sure if one[0] is one[1] else ~one[0]


@cache
def _deviates() -> np.ndarray:
    """(DRAWS,) where the draws of any threshold lie, in SDs, ascending: the middles of as many equal shares."""
    return np.array([NormalDist().inv_cdf((k + 0.5) / DRAWS) for k in range(DRAWS)])


@cache
def _drawn(markers: int) -> np.ndarray:
    """(markers, DRAWS + 1, words) uint64: the bits of the draws that call a cell with so many draws at or below it.

    Each marker has the same deviates, in an order of its own: the ranks of the additive sequence whose steps are the
    powers of 1 / g, g being the root of g ** (markers + 1) = g + 1 (M. Roberts' generalisation of the golden ratio).
    It fills the cube evenly, the same on every machine, and hangs on no generator of random numbers.
    """
    golden = 2.0
    for _ in range(64):
        golden = (1 + golden) ** (1 / (markers + 1))
    reached = np.arange(DRAWS + 1)[:, None]
    tables = []
    for marker in range(markers):
        order = np.argsort((0.5 + np.arange(1, DRAWS + 1) * golden ** -(marker + 1.0)) % 1.0, kind="stable")
        tables.append(np.packbits(np.argsort(order) < reached, axis=1).view(np.uint64))
    return np.array(tables)


def _count_draws(counts: np.ndarray, groups: np.ndarray, bits: np.ndarray, sizes: np.ndarray) -> None:
    """Add `sizes`, (kinds,) cells, to `counts`, (regions, DRAWS), wherever the kind's bits, (kinds, words), are set."""
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    for group, mine in zip(present, np.split(order, starts[1:])):
        set_bits = np.unpackbits(bits[mine].view(np.uint8), axis=1)
        counts[group] += (set_bits * sizes[mine, None]).sum(axis=0)


def _nearest(candidates: np.ndarray, margin: np.ndarray, groups: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(cells,) bool: each region's `wanted` candidates of the smallest margins, with those that tie with the last."""
    place = np.flatnonzero(candidates)
    place = place[np.lexsort([margin[place], groups[place]])]
    present, starts, sizes = np.unique(groups[place], return_index=True, return_counts=True)
    last = np.full(len(wanted), -np.inf)
    some = wanted[present] > 0
    last[present[some]] = margin[place[starts + np.minimum(wanted[present], sizes) - 1][some]]
    return margin <= last[groups]
