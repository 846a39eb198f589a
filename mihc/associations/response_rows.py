"""Response: its proportion, and whether clinical or mutation groups differ in it."""

from __future__ import annotations

from collections.abc import Sequence

from mihc import statistics
from mihc.associations.groupings import Grouping
from mihc.associations.rows import Row, not_made, row


def response_rows(response: Grouping, groups: Sequence[Grouping]) -> list[Row]:
    """The share of responders with its exact interval, of all patients and of each group; Fisher between groups."""
    family = "Response of all patients"
    rows = [_proportion(response, "responder", None, family=family, split="overall", term="all patients")]
    for grouping in groups:
        rows += rows_of_groups(response, grouping, _about(grouping))
    return rows


def rows_of_groups(response: Grouping, grouping: Grouping, about: str) -> list[Row]:
    """The share of responders of each group, and Fisher's test between them."""
    return [
        *(
            _proportion(response, "responder", (grouping, level), family=about, split=grouping.split, term=level)
            for level in reversed(grouping.levels)
        ),
        _fisher(response, grouping, f"{about}: Fisher"),
    ]


def _about(grouping: Grouping) -> str:
    return f"Response by {grouping.split.removeprefix('group:')}"


def _proportion(
    response: Grouping, answer: str, within: tuple[Grouping, str] | None, *, family: str, split: str, term: str
) -> Row:
    known = response.members(answer) | response.members("non-responder")
    among = known & within[0].members(within[1]) if within else known
    found = statistics.exact_proportion(int((response.members(answer) & among).sum()), int(among.sum()))
    left_out = int((~known).sum()) if within is None else 0
    note = f"{left_out} patients without a value left out" if left_out else ""
    return row(
        "proportion", found, family=family, endpoint=response.endpoint, split=split, term=term, kind="proportion",
        notes=[note],
    )  # fmt: skip


def _fisher(response: Grouping, grouping: Grouping, family: str) -> Row:
    common = {"family": family, "endpoint": response.endpoint, "split": grouping.split, "term": grouping.term}
    if response.columns & grouping.columns:
        return row(
            "fisher", not_made(grouping, 0, "not tested: these groups are made of the response itself"), **common
        )
    table = [
        [int((grouping.members(level) & response.members(answer)).sum()) for answer in response.levels]
        for level in grouping.levels
    ]
    n = sum(map(sum, table))
    if sum(any(counts) for counts in table) < 2:
        return row("fisher", not_made(grouping, n), **common)
    found = statistics.fisher_exact(table)
    two = len(grouping.levels) == 2
    notes = [grouping.note, "" if two else f"{len(table)} x 2 table: no single odds ratio"]
    return row(
        "fisher", found, kind="odds_ratio" if two else "", notes=notes,
        groups=(sum(table[0]), sum(table[1])) if two else None, **common,
    )  # fmt: skip
