"""What a value of study.toml may be: each function returns it, or says in words what is needed (ValueError)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from mihc.measures.features import known_features
from mihc.studies.settings import OUTCOME_SPLITS, PRECEDENCE


def table(value: Any) -> dict[str, Any]:
    """A section."""
    if not isinstance(value, dict):
        raise ValueError("a section, written on its own line in square brackets")
    return value


def text(value: Any) -> str:
    """Text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text in double quotes")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(unit: str, low: float, high: float) -> Callable[[Any], float]:
    """A number between two bounds, both allowed."""

    def convert(value: Any) -> float:
        if isinstance(value, str) and "," in value:
            raise ValueError(f"a number with a decimal point and without quotes, in {unit}")
        if not _is_number(value) or not low <= value <= high:
            raise ValueError(f"a number in {unit}, from {low:g} to {high:g}")
        return float(value)

    return convert


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    """A whole number between two bounds, both allowed."""

    def convert(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return convert


def yes_or_no(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false, without quotes")
    return value


def one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    """One of some words."""

    def convert(value: Any) -> str:
        if value not in choices:
            near = get_close_matches(str(value), choices, n=1)
            hint = f"; did you mean {near[0]}" if near else ""
            raise ValueError("one of " + ", ".join(f'"{choice}"' for choice in choices) + hint)
        return value

    return convert


def texts(value: Any) -> tuple[str, ...]:
    """A list of text, or one text; nothing twice."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) and item.strip() for item in listed):
        raise ValueError('a list of text in double quotes, such as ["a", "b"]')
    if len(set(listed)) < len(listed):
        raise ValueError("a list that names each thing once")
    return tuple(listed)


def some_of(choices: tuple[str, ...]) -> Callable[[Any], tuple[str, ...]]:
    """A list of some of the words."""

    def convert(value: Any) -> tuple[str, ...]:
        return tuple(one_of(choices)(item) for item in texts(value))

    return convert


def features(value: Any) -> tuple[str, ...]:
    """A list of what is measured of a cell."""
    return known_features(texts(value))


def outcome_splits(value: Any) -> tuple[str, ...]:
    """slope_change, median, none or landmark:<time>."""
    for item in texts(value):
        kind, _, time = item.partition(":")
        if kind == "landmark":
            if not re.fullmatch(r"\d+(\.\d+)?", time) or float(time) <= 0:
                raise ValueError('a landmark with its time, such as "landmark:12", with a decimal point')
        else:
            one_of(OUTCOME_SPLITS)(item)
    return texts(value)


def precedence(value: Any) -> tuple[str, ...]:
    """All four tissue classes in an order."""
    if sorted(texts(value)) != sorted(PRECEDENCE):
        raise ValueError(f"each of {', '.join(PRECEDENCE)} once, the winner first")
    return texts(value)


def event_value(value: Any) -> int | float | str:
    """A number or text."""
    if isinstance(value, str) and value.strip():
        return value
    if not _is_number(value):
        raise ValueError("the number or the text in the event column that means: the event happened")
    return value


def encoding(value: Any) -> str:
    """A text encoding that Python knows."""
    try:
        "".encode(text(value))
    except LookupError:
        raise ValueError('the name of a text encoding, such as "utf-8", "latin-1", "cp1252" or "utf-16"') from None
    return value
