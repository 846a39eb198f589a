"""What the correction for light of touching neighbours does on crowded drawn slides, held against their truth.

    python -m benchmarks.spillover

True outlines, so that only light is judged. Three slides for each blur and growth; thresholds "auto" (each chosen from
the values it is used on, but for "kept"), or "low": 4 SDs over the negatives' median, as somebody might set them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

import mihc
from mihc.corrections import Correction
from mihc.pairs import impossible_pairs, parse_pair
from mihc.positives import Threshold, manual_threshold
from mihc.synthetic import Densities, Layout, Optics, draw_slide

MARKERS = ("CD3", "CD8", "CD20", "CD21")
COMPARTMENTS = dict.fromkeys(MARKERS, "cell")
CROWDED = Densities(b_tumour=900, t_tumour=1200, t_stroma=2500, cells_stroma=5500)
BLURS_UM, GROWTHS_UM, SEEDS = (0.42, 0.8, 1.2), (2.5, 4.0), (1, 2, 3)


def measured(seed: int, blur_um: float) -> Iterator[tuple[float, pd.DataFrame, pd.DataFrame]]:
    """Growth, the cells with their spillover, and their truth."""
    layout = Layout(aggregates=1, aggregate_radius_um=70)
    drawn = draw_slide(seed=seed, densities=CROWDED, layout=layout, optics=Optics(blur_um=blur_um))
    size = drawn.pixel_size_um
    for growth in GROWTHS_UM:
        cells = mihc.grow_cells(drawn.nuclei, pixel_size_um=size, distance_um=growth)
        table = mihc.measure_cells(
            drawn.image, drawn.nuclei, cells, markers=drawn.channels, pixel_size_um=size, features=("spillover",)
        )
        truth = drawn.table.set_index("cell").loc[table["cell"]].reset_index(drop=True)
        yield growth, table.assign(tissue_class="other"), truth


def low(values: np.ndarray, positive: np.ndarray) -> Threshold:
    """A threshold 4 SDs (from the median distance) over the median of the negatives."""
    negative = values[~positive]
    middle = np.median(negative)
    return manual_threshold(float(middle + 4 * 1.4826 * np.median(np.abs(negative - middle))))


def judged(table: pd.DataFrame, truth: pd.DataFrame) -> Iterator[tuple[str, float, int]]:
    """Way, mean error of positivity in percentage points, and CD3+ CD20+ cells."""
    changed = table.assign(**{f"{m}_corrected": Correction(m, "cell", spillover=True).values(table) for m in MARKERS})
    positive = {m: truth[f"{m}_positive"].to_numpy(bool) for m in MARKERS}
    raw = {m: table[f"{m}_cell_mean"].to_numpy() for m in MARKERS}
    chosen = {m: mihc.choose_threshold(raw[m]) for m in MARKERS}
    again = {m: mihc.choose_threshold(changed[f"{m}_corrected"]) for m in MARKERS}
    lows = {m: low(raw[m], positive[m]) for m in MARKERS}
    ways = {"auto without": (table, chosen), "auto with": (changed, again), "auto with, kept": (changed, chosen)}
    ways |= {"low without": (table, lows), "low with": (changed, lows)}
    pair = parse_pair("CD3+ CD20+", MARKERS, {})
    for way, (values, thresholds) in ways.items():
        calls = mihc.call_positives(values, thresholds, compartments=COMPARTMENTS)
        errors = [abs(calls[f"{m}_positive"].mean() - positive[m].mean()) for m in MARKERS]
        both = impossible_pairs(table[["tissue_class"]].join(calls), [pair])["both_cells"].iloc[0]
        yield way, 100 * float(np.mean(errors)), int(both)


def main() -> None:
    """Print both figures for every blur, growth and way."""
    rows = [
        (blur, growth, *found)
        for blur in BLURS_UM
        for seed in SEEDS
        for growth, table, truth in measured(seed, blur)
        for found in judged(table, truth)
    ]
    table = pd.DataFrame(rows, columns=["blur_um", "growth_um", "way", "error", "doubles"])
    grouped = table.groupby(["blur_um", "growth_um", "way"], sort=False)
    found = pd.DataFrame({"error (points)": grouped["error"].mean().round(2), "doubles": grouped["doubles"].sum()})
    sys.stdout.write(found.to_string() + "\n")


if __name__ == "__main__":
    main()
