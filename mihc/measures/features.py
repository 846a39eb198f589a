"""What is measured of a cell where it is asked for, beside its place, its areas and its means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

FEATURES = ("mean", "median", "percentile:90", "sd", "integrated", "shape", "background", "spillover")
_PERCENTILE = re.compile(r"percentile:(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Features:
    """The words of `known_features`, taken apart."""

    names: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @property
    def quantiles(self) -> tuple[tuple[str, float], ...]:
        """What ends a column's name, and the percentile, of each that is asked for: ("median", 50.0), ("p90", 90.0)."""
        median = [("median", 50.0)] if "median" in self.names else []
        found = [match[1] for match in map(_PERCENTILE.fullmatch, self.names) if match]
        return (*median, *((f"p{text}", float(text)) for text in found))


def known_features(names: Sequence[str]) -> tuple[str, ...]:
    """The features in one order, each once, "mean" among them, percentiles as short as they can be written.

    Raises
    ------
    ValueError
        For a word that is none of FEATURES (with any percentile from 0 to 100), naming the nearest.
    """
    found = {"mean", *map(_known, names)}
    percentiles = sorted(found.difference(FEATURES[:2], FEATURES[3:]), key=lambda name: float(name.partition(":")[2]))
    return (*(name for name in FEATURES[:2] if name in found), *percentiles,
            *(name for name in FEATURES[3:] if name in found))  # fmt: skip


def _known(name: str) -> str:
    percentile = _PERCENTILE.fullmatch(name)
    if percentile and float(percentile[1]) <= 100:
        return f"percentile:{float(percentile[1]):.10g}"
    if percentile or name not in FEATURES:
        near = get_close_matches(name, FEATURES, n=1)
        hint = f"; did you mean {near[0]}" if near else ""
        what = "a percentile from 0 to 100" if name.startswith("percentile") else f"not {name!r}"
        raise ValueError(f"some of {', '.join(FEATURES)}; {what}{hint}")
    return name
