"""Phenotype expressions: `CD20+ Ki67+`, `CD3+ CD8-`, `CD21+ | CD23+`, `!("Pan CK"+ | CD3+)`.

    either   = both { "|" both }
    both     = single { ["&"] single }
    single   = "!" single | "(" either ")" | marker ("+" | "-")

The panel's marker names are matched longest first, so that `PD-L1+` and `HLA-DR-` read as one marker and a sign.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mihc.errors import PanelError

if TYPE_CHECKING:
    from pandas.arrays import BooleanArray

SATISFIABILITY_MARKERS = 12  # 2^12 rows of a truth table are checked at once; nobody names more markers


@dataclass(frozen=True)
class Expression:
    """A parsed phenotype: `operator` is "marker", "not", "and" or "or"."""

    operator: str
    marker: str = ""
    parts: tuple[Expression, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        """Markers that the expression names, each once, in their order."""
        if self.operator == "marker":
            return (self.marker,)
        return tuple(dict.fromkeys(name for part in self.parts for name in part.markers))

    def evaluate(self, positive: Mapping[str, BooleanArray]) -> BooleanArray:
        """Evaluate by Kleene's logic: unknown and False is False, unknown and True is unknown.

        Parameters
        ----------
        positive
            marker -> (cells,) nullable booleans.

        Returns
        -------
        BooleanArray
            (cells,) nullable booleans.
        """
        if self.operator == "marker":
            return positive[self.marker]
        if self.operator == "not":
            return ~self.parts[0].evaluate(positive)
        result = self.parts[0].evaluate(positive)
        for part in self.parts[1:]:
            other = part.evaluate(positive)
            result = result & other if self.operator == "and" else result | other
        return result


def parse_expression(text: str, markers: Sequence[str], *, name: str = "") -> Expression:
    """Parse a phenotype expression over a panel's markers.

    Parameters
    ----------
    text
        The expression.
    markers
        Marker names that may be used.
    name
        The phenotype's name, for messages.

    Raises
    ------
    PanelError
        Naming the position, when the text cannot be read, names an unknown marker, or can never be true.
    """
    place = f"study.toml, [phenotypes] {name}".rstrip()
    parser = _Parser(text, sorted(markers, key=lambda marker: (-len(marker), marker)), place)
    expression = parser.either()
    if parser.position < len(text):
        raise parser.error(f"unexpected {text[parser.position]!r}")
    _check_satisfiable(expression, text, place)
    return expression


def _check_satisfiable(expression: Expression, text: str, place: str) -> None:
    import numpy as np
    import pandas as pd

    names = expression.markers
    if len(names) > SATISFIABILITY_MARKERS:
        return
    truth = np.array(list(itertools.product((False, True), repeat=len(names)))).T
    if not expression.evaluate({m: pd.array(row, dtype="boolean") for m, row in zip(names, truth)}).any():
        raise PanelError(
            f"{text!r} contradicts itself: no cell can ever match", place=place, fix="Check its + and - signs."
        )


class _Parser:
    """Recursive descent over the text; `position` is the next character to read."""

    def __init__(self, text: str, markers: list[str], place: str):
        self.text, self.markers, self.place, self.position = text, markers, place, 0

    def error(self, what: str) -> PanelError:
        known = ", ".join(sorted(self.markers)) or "none"
        return PanelError(
            f"{what} at character {self.position + 1} of {self.text!r}",
            place=self.place,
            fix=f"Write markers with + or -, for example CD20+ Ki67+. The panel's markers are: {known}.",
        )

    def skip_spaces(self) -> str:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def either(self) -> Expression:
        parts = [self.both()]
        while self.skip_spaces() == "|":
            self.position += 1
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Expression("or", parts=tuple(parts))

    def both(self) -> Expression:
        parts = [self.single()]
        while self.skip_spaces() not in ("", "|", ")"):
            if self.skip_spaces() == "&":
                self.position += 1
            parts.append(self.single())
        return parts[0] if len(parts) == 1 else Expression("and", parts=tuple(parts))

    def single(self) -> Expression:
        character = self.skip_spaces()
        if character == "!":
            self.position += 1
            return Expression("not", parts=(self.single(),))
        if character == "(":
            self.position += 1
            inside = self.either()
            if self.skip_spaces() != ")":
                raise self.error("a closing parenthesis is missing")
            self.position += 1
            return inside
        return self.marker()

    def marker(self) -> Expression:
        name = self._quoted_name() if self.skip_spaces() == '"' else self._plain_name()
        sign = self.text[self.position : self.position + 1]
        if sign not in ("+", "-"):
            raise self.error(f"marker {name!r} needs + or -, found {sign!r}" if sign else f"{name!r} needs + or -")
        self.position += 1
        expression = Expression("marker", marker=name)
        return expression if sign == "+" else Expression("not", parts=(expression,))

    def _quoted_name(self) -> str:
        end = self.text.find('"', self.position + 1)
        name = self.text[self.position + 1 : end]
        if end < 0:
            raise self.error("a closing double quote is missing")
        if name not in self.markers:
            raise self.error(f"{name!r} is no marker")
        self.position = end + 1
        return name

    def _plain_name(self) -> str:
        for name in self.markers:
            after = self.text[self.position + len(name) : self.position + len(name) + 1]
            if self.text.startswith(name, self.position) and after in ("+", "-"):
                self.position += len(name)
                return name
        if self.position >= len(self.text):
            raise self.error("a marker is missing")
        raise self.error("no marker followed by + or - is here")
