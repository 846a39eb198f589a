"""Phenotype expressions: `CD20+ Ki67+`, `CD3+ CD8-`, `CD21+ | CD23+`, `!("Pan CK"+ | CD3+)`, `T cell & PD-L1++`.

    either   = both { "|" both }
    both     = single { ["&"] single }
    single   = "!" single | "(" either ")" | marker ("+" | "++" | "+++" | "-") | phenotype

`X+` is at least weak, `X++` at least moderate, `X+++` strong, `X-` not even weak. The panel's marker names are matched
longest first, so that `PD-L1+` and `HLA-DR-` read as one marker and a sign; what is no marker with a sign may be the
name of another phenotype, the longest first. A phenotype that stands among the conjuncts of another is its parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING

from mihc.errors import PanelError

if TYPE_CHECKING:
    from pandas.arrays import BooleanArray, IntegerArray

LEVELS = ("weak", "moderate", "strong")  # levels 1, 2 and 3 of a marker; 0 is negative
DEEPEST = 50  # parentheses, and phenotypes of phenotypes
MOST_TRIALS = 20_000  # in the search for a cell that could match; beyond them an expression is taken as it is


@dataclass(frozen=True)
class Expression:
    """A parsed phenotype: `operator` is "marker", "phenotype", "not", "and" or "or"."""

    operator: str
    marker: str = ""  # the marker's or the phenotype's name
    parts: tuple[Expression, ...] = ()  # of a phenotype: what it stands for
    level: int = 1  # of a marker: 1 = at least weak, 2 = at least moderate, 3 = strong

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Markers that the expression names, through its phenotypes too, each once, in their order."""
        return tuple(dict.fromkeys(name for name, _ in self.literals))

    @cached_property
    def literals(self) -> tuple[tuple[str, int], ...]:
        """Markers with the level at which they are asked for, each once, in their order."""
        if self.operator == "marker":
            return ((self.marker, self.level),)
        return tuple(dict.fromkeys(literal for part in self.parts for literal in part.literals))

    @property
    def parents(self) -> tuple[str, ...]:
        """Phenotypes that every matching cell belongs to because they stand among the conjuncts."""
        if self.operator == "phenotype":
            return (self.marker,)
        return tuple(dict.fromkeys(n for p in self.parts for n in p.parents)) if self.operator == "and" else ()

    def __str__(self) -> str:
        """The expression in plain words of its kind: `CD3+`, `T cell`, `!(CD8+ | CD20+)`."""
        if self.operator == "marker":
            return self.marker + "+" * self.level
        if self.operator == "phenotype":
            return self.marker
        if self.operator == "not":
            inside = self.parts[0]
            negative = inside.operator == "marker" and inside.level == 1
            return f"{inside.marker}-" if negative else f"!({inside})"
        joined = (" | " if self.operator == "or" else " ").join(
            f"({part})" if part.operator in ("and", "or") else str(part) for part in self.parts
        )
        return joined

    def evaluate(
        self, positive: Mapping[str, BooleanArray], levels: Mapping[str, IntegerArray] | None = None
    ) -> BooleanArray:
        """Evaluate by Kleene's logic: unknown and False is False, unknown and True is unknown.

        Parameters
        ----------
        positive
            marker -> (cells,) nullable booleans. A phenotype that is in it is taken from it, else from its expression.
        levels
            marker -> (cells,) nullable integers 0 to 3. `X++` of a marker that is not in it is False where the cell is
            negative, else unknown.

        Returns
        -------
        BooleanArray
            (cells,) nullable booleans.
        """
        if self.operator == "marker":
            return self._called(positive, levels or {})
        if self.operator == "phenotype":
            known = positive.get(self.marker)
            return self.parts[0].evaluate(positive, levels) if known is None else known
        if self.operator == "not":
            return ~self.parts[0].evaluate(positive, levels)
        result = self.parts[0].evaluate(positive, levels)
        for part in self.parts[1:]:
            other = part.evaluate(positive, levels)
            result = result & other if self.operator == "and" else result | other
        return result

    def _called(self, positive: Mapping[str, BooleanArray], levels: Mapping[str, IntegerArray]) -> BooleanArray:
        if self.level == 1:
            return positive[self.marker]
        if self.marker in levels:
            return levels[self.marker] >= self.level
        weak = positive[self.marker].copy()
        weak[weak.fillna(False)] = None
        return weak


def parse_expression(
    text: str, markers: Sequence[str], *, name: str = "", phenotypes: Mapping[str, str] | None = None
) -> Expression:
    """Parse a phenotype expression over a panel's markers.

    Parameters
    ----------
    text
        The expression.
    markers
        Marker names that may be used.
    name
        The phenotype's name, for messages.
    phenotypes
        name -> expression of the phenotypes that may be used by name.

    Raises
    ------
    PanelError
        Naming the position, when the text cannot be read or names what is unknown; naming the way round, when a
        phenotype is made of itself; and when no cell could ever match, also through the phenotypes that it names.
    """
    known = phenotypes or {}
    place = f"study.toml, [phenotypes] {name}".rstrip()
    expression = _parse(text, _Names.of(markers, known), place, (name,) if name in known else ())
    _check_satisfiable(expression, text, known, place)
    return expression


def conjuncts(expression: Expression) -> tuple[Expression, ...]:
    """The expressions that must all hold; of a phenotype by name or of one marker, that alone."""
    return expression.parts if expression.operator == "and" else (expression,)


def _check_satisfiable(expression: Expression, text: str, phenotypes: Mapping[str, str], place: str) -> None:
    if _satisfiable(expression):
        return
    named = [f"{name} = {phenotypes[name]!r}" for name in _named_phenotypes(expression)]
    through = f" (with {', '.join(named)})" if named else ""
    what = f"{text!r} contradicts itself{through}: no cell can ever match"
    raise PanelError(what, place=place, fix="Check its + and - signs.")


def _named_phenotypes(expression: Expression) -> tuple[str, ...]:
    inner = tuple(dict.fromkeys(name for part in expression.parts for name in _named_phenotypes(part)))
    return (expression.marker, *inner) if expression.operator == "phenotype" else inner


def _satisfiable(expression: Expression) -> bool:
    """Whether some levels of the markers make it true: one marker after the other, given up where it is false."""
    highest: dict[str, set[int]] = {}
    for marker, level in expression.literals:
        highest.setdefault(marker, {0}).add(level)
    trials = MOST_TRIALS

    def some(fixed: dict[str, int], left: list[str]) -> bool:
        nonlocal trials
        trials -= 1
        value = _truth(expression, fixed)
        if value is not None or trials <= 0 or not left:
            return value is not False
        return any(some(fixed | {left[0]: level}, left[1:]) for level in sorted(highest[left[0]]))

    return some({}, list(highest))


def _truth(expression: Expression, levels: Mapping[str, int]) -> bool | None:
    """The value for one cell; None where a marker without a level decides."""
    if expression.operator == "marker":
        level = levels.get(expression.marker)
        return None if level is None else level >= expression.level
    values = [_truth(part, levels) for part in expression.parts]
    if expression.operator == "not":
        return None if values[0] is None else not values[0]
    deciding = expression.operator == "or"  # one True decides an "or", one False decides what else there is
    return deciding if deciding in values else None if None in values else not deciding


@dataclass(frozen=True)
class _Names:
    """What may be named, longest first."""

    markers: tuple[str, ...]
    phenotypes: dict[str, str]

    @classmethod
    def of(cls, markers: Sequence[str], phenotypes: Mapping[str, str]) -> _Names:
        def longest_first(names: Sequence[str]) -> list[str]:
            return sorted(names, key=lambda one: (-len(one), one))

        return cls(tuple(longest_first(markers)), {one: phenotypes[one] for one in longest_first(list(phenotypes))})


def _parse(text: str, names: _Names, place: str, within: tuple[str, ...]) -> Expression:
    """`within` are the phenotypes whose expressions led here, the first of all first."""
    parser = _Parser(text, names, place, within)
    expression = parser.either()
    if parser.position < len(text):
        raise parser.error(f"unexpected {text[parser.position]!r}")
    return expression


class _Parser:
    """Recursive descent over the text; `position` is the next character to read."""

    def __init__(self, text: str, names: _Names, place: str, within: tuple[str, ...]):
        self.text, self.names, self.place, self.within = text, names, place, within
        self.position = self.depth = 0

    def error(self, what: str, hint: str = "") -> PanelError:
        known = ", ".join(sorted(self.names.markers)) or "none"
        more = f" The phenotypes are: {', '.join(sorted(self.names.phenotypes))}." if self.names.phenotypes else ""
        return PanelError(
            f"{what} at character {self.position + 1} of {self.text!r}{hint}",
            place=self.place,
            fix=f"Write markers with + or -, for example CD20+ Ki67+. The panel's markers are: {known}.{more}",
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
        if character not in ("!", "("):
            return self.named()
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} parentheses and ! within each other")
        self.position += 1
        inside = self.single() if character == "!" else self.either()
        if character == "(":
            if self.skip_spaces() != ")":
                raise self.error("a closing parenthesis is missing")
            self.position += 1
        self.depth -= 1
        return Expression("not", parts=(inside,)) if character == "!" else inside

    def named(self) -> Expression:
        if self.skip_spaces() == '"':
            name = self._quoted_name()
            return self._phenotype(name) if name in self.names.phenotypes else self._signed(name)
        for name in self.names.markers:
            if self._is_here(name) and self._after(name) in ("+", "-"):
                self.position += len(name)
                return self._signed(name)
        for name in self.names.phenotypes:
            if self._is_here(name) and (self._after(name) in ("", *"&|()!+-") or self._after(name).isspace()):
                self.position += len(name)
                return self._phenotype(name)
        raise self._unknown()

    def _is_here(self, name: str) -> bool:
        return self.text.startswith(name, self.position)

    def _after(self, name: str) -> str:
        return self.text[self.position + len(name) : self.position + len(name) + 1]

    def _signed(self, name: str) -> Expression:
        rest = self.text[self.position :]
        sign = rest[:1] if rest[:1] != "+" else rest[: len(rest) - len(rest.lstrip("+"))]
        if sign[:1] not in ("+", "-"):
            raise self.error(f"marker {name!r} needs + or -, found {sign!r}" if sign else f"{name!r} needs + or -")
        if len(sign) > len(LEVELS):
            raise self.error(f"{name}{sign} is no level; + is weak, ++ moderate and +++ strong")
        self.position += len(sign)
        expression = Expression("marker", marker=name, level=len(sign))
        return Expression("not", parts=(expression,)) if sign == "-" else expression

    def _phenotype(self, name: str) -> Expression:
        sign = self.text[self.position : self.position + 1]
        if sign in ("+", "-") and sign:
            raise self.error(f"{name!r} is a phenotype and takes no {sign} (write ! before it for not)")
        way = (*self.within, name)
        if name in self.within:
            what = f"{' > '.join(way[way.index(name) :])}: a phenotype cannot be made of itself"
            raise PanelError(what, place=self.place, fix="Take one of these names out of the other's expression.")
        if len(way) > DEEPEST:
            raise self.error(f"more than {DEEPEST} phenotypes within each other")
        inside = _parse(self.names.phenotypes[name], self.names, self.place, way)
        return Expression("phenotype", marker=name, parts=(inside,))

    def _quoted_name(self) -> str:
        end = self.text.find('"', self.position + 1)
        name = self.text[self.position + 1 : end]
        if end < 0:
            raise self.error("a closing double quote is missing")
        if name not in self.names.markers and name not in self.names.phenotypes:
            raise self.error(f"{name!r} is no marker and no phenotype", self._nearest(name))
        self.position = end + 1
        return name

    def _unknown(self) -> PanelError:
        rest = self.text[self.position :]
        if not rest:
            return self.error("a marker is missing")
        found = rest[: min([rest.find(mark) for mark in "&|()!" if mark in rest], default=len(rest))].strip()
        or_phenotype = " and no phenotype" if self.names.phenotypes else ""
        nearest = self._nearest(found.rstrip("+-").strip())
        return self.error(f"no marker followed by + or -{or_phenotype} is here", nearest)

    def _nearest(self, found: str) -> str:
        folded = {name.casefold(): name for name in (*self.names.markers, *self.names.phenotypes)}
        words = [found, *found.split()[:1]]  # the whole, else its first word
        near = [name for word in words for name in get_close_matches(word.casefold(), folded, n=1)]
        return f"; did you mean {folded[near[0]]}" if near else ""
