"""Two reviewers of one slide beside each other: how far they agree cell by cell, and what differs per region."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mihc import statistics
from mihc.reviewing.session import counted_cells, live_counts_of, thresholds_of
from mihc.reviews.states import SlideReview, read_review

if TYPE_CHECKING:
    import pandas as pd

    from mihc.reviews.live import LiveCounts
    from mihc.study import Study


@dataclass(frozen=True)
class Comparison:
    """Two reviewers of one slide; both are counted on the cells that the results have."""

    agreement: pd.DataFrame  # population, cells, both, only_one, only_other, neither, agreement_percent, kappa
    regions: pd.DataFrame  # region, tissue_class, population, positive_cells_* , positivity_percent_*, density_*
    thresholds: pd.DataFrame  # marker, value_one, verdict_one, value_other, verdict_other
    edits: pd.DataFrame  # what ("cell edits", "region edits"), one, other: how many stand


def compare(study: Study, slide: str, one: str, other: str) -> Comparison:
    """Compare two reviewers of a slide by their journals; who set no threshold of a marker has that of the results.

    `kappa` is Cohen's (1960): (po - pe) / (1 - pe), of the calls of every analysed cell; NaN where both call every cell
    alike and the same, since chance alone would agree then.
    """
    import pandas as pd

    cells = counted_cells(study, slide)
    reviews = [read_review(study.folder, name, slide) for name in (one, other)]
    counts = [live_counts_of(study, slide, cells, review) for review in reviews]
    populations = [*counts[0].values, *counts[0].expressions]
    agreement = pd.DataFrame([_agreement(name, *counts) for name in populations])
    tables = [each.table() for each in counts]
    keys = ["region", "tissue_class", "population", "cells"]
    regions = tables[0].merge(tables[1], on=keys, suffixes=("_one", "_other"))
    both = [thresholds_of(study, slide, review) for review in reviews]
    thresholds = pd.DataFrame(
        [
            {
                "marker": marker,
                "value_one": first.value,
                "verdict_one": first.verdict,
                "value_other": both[1][marker].value,
                "verdict_other": both[1][marker].verdict,
            }
            for marker, first in both[0].items()
        ]
    )
    return Comparison(agreement, regions, thresholds, pd.DataFrame(_edits(*reviews), columns=["what", "one", "other"]))


def _edits(one: SlideReview, other: SlideReview) -> list[tuple[str, int, int]]:
    return [
        ("machine's cells removed or changed", len(one.removed), len(other.removed)),
        ("cells made or changed", len(one.added), len(other.added)),
        ("region edits", len(one.regions), len(other.regions)),
    ]


def _agreement(population: str, one: LiveCounts, other: LiveCounts) -> dict[str, object]:
    cells = len(one.rows)
    first, second = (set(each.positive_rows(population).tolist()) for each in (one, other))
    both, only_one, only_other = len(first & second), len(first - second), len(second - first)
    neither = cells - both - only_one - only_other
    return {
        "population": population,
        "cells": cells,
        "both": both,
        "only_one": only_one,
        "only_other": only_other,
        "neither": neither,
        "agreement_percent": 100 * (both + neither) / cells if cells else math.nan,
        "kappa": statistics.kappa_of_counts([[both, only_one], [only_other, neither]]).estimate,
    }
