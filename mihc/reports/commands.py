"""What to type to see a doubtful thing oneself: the command that opens the slide, the region, the population."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mihc.errors import quoted
from mihc.reports.numbers import Numbers, text


@dataclass(frozen=True)
class Target:
    """What a review opens; "" = no particular one."""

    slide: str
    region: str = ""
    population: str = ""  # or a marker, which is a population too

    @property
    def command(self) -> str:
        """The command that opens it; STUDY stands for the study's folder."""
        named = {"slide": self.slide, "region": self.region, "population": self.population}
        return "mihc review STUDY" + "".join(f" --{option} {quoted(word)}" for option, word in named.items() if word)


def failed(slides: pd.DataFrame) -> pd.DataFrame:
    """The slides that have no result."""
    if slides.empty or "status" not in slides:
        return slides.iloc[:0]
    return slides[slides["status"].astype(str).str.lower().str.startswith("fail")]


def opened(numbers: Numbers) -> set[str]:
    """The slides that a review can open: they have an image, whose area was measured, and they did not fail."""
    ledger = numbers["area_ledger"]
    measured = set(ledger["slide"].map(text)) if len(ledger) else set()
    slides = failed(numbers["slides"])
    return measured - (set(slides["slide"].map(text)) if len(slides) else set())
