"""The first card of the report: what was found for each endpoint, in the order in which study.toml names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mihc.reports.claims import Finding, silent_endpoints
from mihc.reports.numbers import Numbers, text
from mihc.study import Study

_WORDS = {
    "HR": "A hazard ratio says by how much the risk of the event is multiplied at any time: per SD, for one standard "
    "deviation more of log(1 + value). Below 1 means longer.",
    "location_shift": "A shift is the median difference between a patient of the one group and one of the other.",
    "odds_ratio": "An odds ratio is the odds of the one group divided by those of the other.",
}


@dataclass(frozen=True)
class Answer:
    """One endpoint, response or clinical column with all that is claimed of it."""

    name: str
    findings: tuple[Finding, ...]  # the strongest first
    silent: Markup  # what is said where nothing is claimed


def answers(numbers: Numbers, study: Study, found: Sequence[Finding]) -> list[Answer]:
    """One answer for everything that was asked; none where nothing at all is claimed, which is said once."""
    if not found:
        return []
    settings, silent = study.settings, silent_endpoints(numbers, found)
    names = [*settings.outcomes, *settings.responses, *settings.groups, *(one.question[0] for one in found)]
    return [
        Answer(
            name,
            tuple(one for one in found if one.question[0] == name),
            silent.get(name, Markup("Nothing could be tested.")),
        )
        for name in dict.fromkeys(names)
    ]


def same_words(finding: Finding, phenotypes: dict[str, str]) -> list[str]:
    """Why populations are not told beside this finding, a sentence for each; `phenotypes` as in study.toml."""
    return [_same(finding.question[1], other, phenotypes) for other in finding.also]


def _same(told: str, other: str, phenotypes: dict[str, str]) -> str:
    named = f"{other} ({phenotypes[other]})" if other in phenotypes else other
    cells = {phenotypes.get(name, f"{name}+").replace('"', "").strip() for name in (told, other)}
    if len(cells) == 1:
        return f"{named} is counted from the same cells, so it is the same finding."
    return f"{named} has the same value as {told} in every patient, so it is the same finding."


def words_of(numbers: Numbers, found: Sequence[Finding]) -> list[str]:
    """What the estimates of the first claims are, in words."""
    kinds = dict.fromkeys(text(numbers["statistics"].at[one.rows[0], "estimate_kind"]) for one in found)
    return [_WORDS[kind] for kind in kinds if kind in _WORDS]
