"""Calling 20 markers and 10 phenotypes on 1,000,000 cells, thresholds given: CPU seconds of one run.

    python benchmarks/calling.py [CELLS]      default 1000000

`limit` is the least that any program has to do: one comparison per cell and marker and a numpy expression per
phenotype, without unknowns, tables or intervals. `doubts` finds the calls that the thresholds' intervals leave open,
and `counts` makes the rows of regions.csv, of two regions. Figures are medians of calls made in turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pandas as pd

from mihc.bounds import call_doubts
from mihc.positives import Threshold, call_positives, populations
from mihc.regions import count_populations, region_codes

MARKERS = tuple(f"M{k}" for k in range(20))
PHENOTYPES = {
    "two": "M0+ M1+", "three": "M0+ M1+ M2-", "either": "M3+ | M4+", "none": "M5- M6- M7-",
    "nested": "(M8+ | M9+) M10-", "not": "!(M11+ | M12+)", "four": "M13+ M14- M15+ M16-", "one": "M17+",
    "mixed": "M18+ (M19- | M0+)",
    "long": "M0+ M2+ | M4+ M6+ | M8+ M10+",
}  # fmt: skip
AREAS = {("tumour", "tumour"): 1.5, ("stroma", "stroma"): 2.5}
COMPARTMENTS = dict.fromkeys(MARKERS, "cell")
ROUNDS = 5


def drawn_cells(count: int) -> pd.DataFrame:
    """A tenth of the cells positive for each marker, log-normal; half of them in each region."""
    generator = np.random.default_rng(1)
    cells = {
        f"{marker}_cell_mean": 200 * generator.lognormal(0, 0.15, count) * np.where(generator.random(count) < 0.1, 4, 1)
        for marker in MARKERS
    }
    places = np.where(generator.random(count) < 0.5, "tumour", "stroma").astype(object)
    return pd.DataFrame(cells).assign(region=places, tissue_class=places)


def limit(cells: pd.DataFrame) -> list[np.ndarray]:
    """Plain comparisons, and plain numpy for the phenotypes."""
    m = [cells[f"{marker}_cell_mean"].to_numpy() >= 400.0 for marker in MARKERS]
    return [
        *m, m[0] & m[1], m[0] & m[1] & ~m[2], m[3] | m[4], ~m[5] & ~m[6] & ~m[7], (m[8] | m[9]) & ~m[10],
        ~(m[11] | m[12]), m[13] & ~m[14] & m[15] & ~m[16], m[17], m[18] & (~m[19] | m[0]),
        m[0] & m[2] | m[4] & m[6] | m[8] & m[10],
    ]  # fmt: skip


def main(count: int = 1_000_000) -> None:
    """Print one line per step."""
    cells = drawn_cells(count)
    # 290 is 2.5 SDs above the negatives' median: 0.6 % of the cells may be positive for a marker and are not called so
    thresholds = {marker: Threshold(330.0, 290.0, 420.0, "mixture", "separable", "") for marker in MARKERS}
    named = {"compartments": COMPARTMENTS, "phenotypes": PHENOTYPES}
    called = call_positives(cells, thresholds, **named)
    doubts = call_doubts(cells, thresholds, called, groups=region_codes(cells), **named)
    whole = cells[["region", "tissue_class"]].join(called)
    columns = populations(MARKERS, PHENOTYPES)
    steps: dict[str, Callable[[], object]] = {
        "limit": lambda: limit(cells),
        "calls": lambda: call_positives(cells, thresholds, **named),
        "doubts": lambda: call_doubts(cells, thresholds, called, groups=region_codes(cells), **named),
        "counts": lambda: count_populations(whole, populations=columns, area_mm2=AREAS),
        "counts with both ends": lambda: count_populations(whole, populations=columns, area_mm2=AREAS, doubts=doubts),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            started = time.process_time()
            step()
            taken[name].append(time.process_time() - started)
    print(f"{count} cells, {len(MARKERS)} markers, {len(PHENOTYPES)} phenotypes: CPU seconds")
    for name, seconds in taken.items():
        print(f"{name:24s}{median(seconds):8.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
