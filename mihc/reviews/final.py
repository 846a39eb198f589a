"""review/final.toml: whose review counts. Without it, or where it names nobody for a slide, the machine's results do.

    reviewer = "anna"      # of every slide that is not named below
    [slides]
    S03 = "ben"            # "" = nobody's

Only what this file names is ever read by a run: a second reviewer's work lies beside it and changes nothing.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from mihc.errors import DamagedError, MihcError, OutputConflict, Problem
from mihc.panel import LEVEL_COLUMNS
from mihc.reviews.journal import FOLDER, journal_file, reviewer_name
from mihc.reviews.states import SlideReview, read_review
from mihc.stores.files import replace_file, told_plainly
from mihc.stores.locks import Lock

FILE = "review/final.toml"
KEYS = ("reviewer", "slides")
CHOOSING_S, TRIES = 5.0, 100  # how long one who chooses waits for another


@dataclass(frozen=True)
class Final:
    """Whose review counts."""

    reviewer: str = ""  # of every slide that is not named; "" = nobody's
    slides: Mapping[str, str] = field(default_factory=dict)

    def of(self, slide: str) -> str:
        """The reviewer of a slide; "" for nobody."""
        return self.slides.get(slide, self.reviewer)


def reviewers(folder: Path) -> list[str]:
    """Who has a journal of any slide in a study folder, by name."""
    return sorted({path.parents[1].name for path in (folder / FOLDER).glob("*/*/journal.jsonl")})


def read_final(folder: Path, slides: Collection[str]) -> tuple[Final, list[Problem]]:
    """Read review/final.toml of a study folder, and list what is wrong with it; without it nobody's review counts."""
    try:
        content = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Final(), []
    except (OSError, ValueError) as error:
        return Final(), [Problem(FILE, f"cannot be read: {error}", 'Write reviewer = "NAME".')]
    problems = [_unknown(FILE, f"key {key!r}", key, KEYS) for key in content if key not in KEYS]
    named = content.get("slides", {})
    if not isinstance(named, dict):
        return Final(), [*problems, Problem(FILE, "slides is no table", 'Write [slides], then S01 = "NAME".')]
    problems += [_unknown(f"{FILE}, [slides]", f"slide {one!r}", one, slides) for one in named if one not in slides]
    chosen = {"": content.get("reviewer", ""), **named}
    problems += [problem for slide, name in chosen.items() for problem in _name_problems(folder, slide, name)]
    return (Final() if problems else Final(chosen.pop(""), chosen)), problems


@contextmanager
def held_final(folder: Path) -> Iterator[None]:
    """Hold review/final.toml while it is read and written anew; two who choose at once come one after the other.

    Raises
    ------
    OutputConflict
        When another process holds it for longer than choosing takes.
    """
    with told_plainly(folder):
        (folder / FOLDER / ".locks").mkdir(parents=True, exist_ok=True)
        lock = _lock_soon(folder / FOLDER / ".locks" / "final")
    try:
        yield
    finally:
        lock.release()


def _lock_soon(path: Path) -> Lock:
    for _ in range(TRIES):
        with suppress(OutputConflict):
            return Lock(path)
        time.sleep(CHOOSING_S / TRIES)
    return Lock(path)


def write_final(folder: Path, final: Final) -> None:
    """Write review/final.toml, whole or not at all."""
    lines = [f'reviewer = "{reviewer_name(final.reviewer) if final.reviewer else ""}"']
    if final.slides:
        lines += ["[slides]", *(f'{slide} = "{reviewer_name(n) if n else ""}"' for slide, n in final.slides.items())]
    with told_plainly(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, ("\n".join(lines) + "\n").encode())


def read_final_reviews(folder: Path, slides: Collection[str]) -> tuple[dict[str, SlideReview], list[Problem]]:
    """Read the reviews that count, by slide; a slide without one is not in it. And what is wrong with them."""
    final, problems = read_final(folder, slides)
    found: dict[str, SlideReview] = {}
    for slide in slides:
        if not final.of(slide) or not journal_file(folder, final.of(slide), slide).exists():
            continue
        try:
            found[slide] = read_review(folder, final.of(slide), slide)
        except DamagedError as error:
            problems.append(Problem(error.place, error.what, error.fix))
    return found, problems + _of_no_slide(folder, final, slides)


def _of_no_slide(folder: Path, final: Final, slides: Collection[str]) -> list[Problem]:
    """Work of those who count on slides that slides.csv does not list: a slide may have been renamed."""
    names = sorted({final.reviewer, *final.slides.values()} - {""})
    lost = [path.parent for name in names for path in sorted((folder / FOLDER / name).glob("*/journal.jsonl"))]
    what = "slides.csv has no such slide, so this review counts for nothing"
    fix = "If the slide has another name now, give this folder that name."
    return [
        Problem(path.relative_to(folder).as_posix(), what, fix, "warning") for path in lost if path.name not in slides
    ]


def with_reviewed(
    thresholds: pd.DataFrame, reviews: Mapping[str, SlideReview], markers: Mapping[str, Collection[str]]
) -> tuple[pd.DataFrame, list[Problem]]:
    """Lay the final reviews' thresholds over those of thresholds.csv.

    Parameters
    ----------
    thresholds
        As thresholds.csv was read.
    reviews
        By slide, what `read_final_reviews` gave.
    markers
        slide -> the markers of its panel; a reviewed threshold of another marker is named and not used.
    """
    rows, problems = [], []
    for slide, review in reviews.items():
        for one in review.thresholds.values():
            if one.marker not in markers[slide]:
                place = f"review/{review.reviewer}/{slide}"
                fix = "It is not used; nothing needs to be done."
                problems.append(Problem(place, f"there is no marker {one.marker!r} any more", fix, "warning"))
                continue
            levels = dict(zip(LEVEL_COLUMNS, one.levels or (float("nan"),) * len(LEVEL_COLUMNS)))
            said = {"who": one.who, "when": one.when, "reason": one.reason}
            rows.append({"slide": slide, "marker": one.marker, "value": one.value, **said, **levels})
    if not rows:
        return thresholds, problems
    reviewed = {(row["slide"], row["marker"]) for row in rows}
    typed = [pair not in reviewed for pair in zip(thresholds["slide"], thresholds["marker"])]
    added = pd.DataFrame(rows, columns=list(thresholds.columns)).astype(thresholds.dtypes)
    kept = thresholds[typed]
    return (pd.concat([kept, added], ignore_index=True) if len(kept) else added), problems


def _name_problems(folder: Path, slide: str, name: object) -> list[Problem]:
    place = f"{FILE}, [slides] {slide}" if slide else f"{FILE}, reviewer"
    if name == "":
        return []
    try:
        reviewer_name(str(name))
    except MihcError as error:
        return [Problem(place, error.what, error.fix)]
    if not isinstance(name, str) or not (folder / FOLDER / name).is_dir():
        return [_unknown(place, f"reviewer {name!r}", str(name), reviewers(folder))]
    return []


def _unknown(place: str, what: str, found: str, known: Collection[str]) -> Problem:
    near = get_close_matches(found, known, n=1)
    hint = f"; did you mean {near[0]}" if near else f"; there are {', '.join(sorted(known)) or 'none'}"
    return Problem(place, f"{what} is unknown{hint}", "Correct the name.")
