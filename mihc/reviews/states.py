"""A journal replayed: what a reviewer's slide is after all gestures that were not undone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mihc.reviews.journal import CELL_GESTURES, Line, journal_file, read_journal
from mihc.stores.files import hash_json

Runs = tuple[tuple[int, int, int], ...]  # (y, x, length): pixels of the full resolution, row by row
NEGATIVE = math.inf  # a threshold that no cell reaches: the reviewer calls the slide negative


@dataclass(frozen=True)
class ReviewedThreshold:
    """A marker's threshold as a reviewer set it."""

    marker: str
    value: float  # counts; NEGATIVE: the slide is negative
    levels: tuple[float, ...]  # counts: moderate and strong; () = one level only
    who: str
    when: str
    reason: str


@dataclass(frozen=True)
class EditedCell:
    """The pixels of a cell that a reviewer made, or changed."""

    cell: int
    nucleus: Runs
    whole: Runs  # nucleus included


@dataclass(frozen=True)
class SlideReview:
    """What a reviewer's journal of a slide comes to."""

    slide: str
    reviewer: str
    thresholds: Mapping[str, ReviewedThreshold] = field(default_factory=dict)  # by marker
    removed: frozenset[int] = frozenset()  # the machine's cells that are no more, or no more what they were
    added: Mapping[int, EditedCell] = field(default_factory=dict)  # by id
    labels: str = ""  # the hash of the machine's cells that were edited; "" without cell edits
    regions: tuple[dict, ...] = ()  # region edits in their order, see `region_edits`
    accepted: tuple[str, ...] = ()  # markers whose threshold was accepted as it is, "" for the whole slide

    @property
    def edits_cells(self) -> bool:
        """Whether any cell is not the machine's."""
        return bool(self.removed or self.added)

    @property
    def changes_numbers(self) -> bool:
        """Whether anything but what was accepted is in it."""
        return self.edits_cells or bool(self.regions or self.thresholds)

    def told(self) -> dict[str, object]:
        """Whose it is and how much it changed, as plain JSON."""
        return {
            "reviewer": self.reviewer, "cells_removed_or_changed": len(self.removed),
            "cells_made_or_changed": len(self.added), "region_edits": len(self.regions),
            "thresholds": sorted(self.thresholds),
        }  # fmt: skip

    @property
    def cells_hash(self) -> str:
        """What the cell edits come to, in whatever order they were made."""
        added = [[one.cell, one.nucleus, one.whole] for _, one in sorted(self.added.items())]
        return hash_json([sorted(self.removed), added, self.labels])


def read_review(folder: Path, reviewer: str, slide: str) -> SlideReview:
    """Read what a reviewer made of a slide; without a journal nothing. Raises as `read_journal`."""
    return replay(slide, reviewer, read_journal(journal_file(folder, reviewer, slide)))


def replay(slide: str, reviewer: str, lines: Sequence[Line]) -> SlideReview:
    """What a journal's lines come to, in their order, without those that were undone."""
    thresholds: dict[str, ReviewedThreshold] = {}
    removed: set[int] = set()
    added: dict[int, EditedCell] = {}
    labels, regions, accepted = "", [], []
    for line in standing(lines):
        what = line.content
        if line.gesture == "threshold":
            thresholds[what["marker"]] = _threshold(line)
        elif line.gesture in CELL_GESTURES:
            labels = what["labels"]
            _edit_cells(what, removed, added)
        elif line.gesture == "region":
            regions.append(what)
        elif line.gesture == "accept":
            accepted.append(what["marker"])
    done = tuple(dict.fromkeys(accepted))
    return SlideReview(slide, reviewer, thresholds, frozenset(removed), added, labels, tuple(regions), done)


def standing(lines: Sequence[Line]) -> list[Line]:
    """The gestures that were not undone; an undo takes back the last one that stands, a redo brings it again."""
    return _standing(lines)[0]


def taken_back(lines: Sequence[Line]) -> list[Line]:
    """The gestures that a redo can bring again, the one that is next last; another gesture leaves none."""
    return _standing(lines)[1]


def _standing(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    stands: list[Line] = []
    back: list[Line] = []
    for line in lines:
        if line.gesture == "undo":
            if stands:
                back.append(stands.pop())
        elif line.gesture == "redo":
            if back:
                stands.append(back.pop())
        else:
            stands.append(line)
            back.clear()
    return stands, back


def largest_added_id(lines: Sequence[Line]) -> int:
    """The largest id that any cell edit gave, undone ones too, since an id is never given twice; 0 without any."""
    edits = [line.content for line in lines if line.gesture in CELL_GESTURES]
    return max((one["cell"] for what in edits for one in what["added"]), default=0)


def _threshold(line: Line) -> ReviewedThreshold:
    what = line.content
    value = NEGATIVE if what["value"] is None else float(what["value"])
    levels = tuple(NEGATIVE if one is None else float(one) for one in what.get("levels", ()))
    return ReviewedThreshold(what["marker"], value, levels, line.who, line.when, what.get("reason", ""))


def _edit_cells(what: Mapping, removed: set[int], added: dict[int, EditedCell]) -> None:
    for cell in what["removed"]:
        if added.pop(cell, None) is None:
            removed.add(cell)
    for one in what["added"]:
        nucleus, whole = (tuple(tuple(run) for run in one[part]) for part in ("nucleus", "whole"))
        added[one["cell"]] = EditedCell(one["cell"], nucleus, whole)
