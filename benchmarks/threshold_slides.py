"""Automatic thresholds on drawn slides, through their pixels, without and with the corrections of the means.

    python -m benchmarks.threshold_slides [--repeats N] [--first N] [--side PX] [--rows FILE]

A slide is drawn with and without antibodies, from the same seed. Its cells, in their planted outlines, are measured on
both pictures; between the two, every separation lies, and of the autofluorescence channel more may be added: means and
backgrounds are sums over pixels, so that those of a mixed picture are the mixed ones, but for the rounding of counts.
Separations are in SDs of the uncorrected negatives of that slide.
"""

from __future__ import annotations

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.thresholds import PREVALENCES, SEPARATIONS, row, summary
from mihc import measure_cells
from mihc.corrections import Surroundings, fit_corrections
from mihc.synthetic import Densities, DrawnSlide, Layout, Optics, draw_slide

SLOPES = (0.0, 0.22, 0.8)  # by which part of its light the lamp changes over the slide
GLOWS = {"as drawn": 0.0, "more": 0.25}  # counts added for each count of the autofluorescence channel over its median
WAYS = {
    "as they are": (),
    "background": ("background",),
    "autofluorescence": ("autofluorescence",),
    "both": ("background", "autofluorescence"),
}
WITHOUT = 2  # times as many slides without positives, each of which is one case
MARKER, GLOW, PIXEL_UM = "CD20", "AF", 0.5


def drawn(prevalence: float, slope: float, seed: int, side: int, *, antibodies: bool) -> DrawnSlide:
    """One of the two pictures of a slide."""
    densities = Densities(b_tumour=5000 * prevalence, b_stroma=2900 * prevalence, t_tumour=200, t_stroma=300)
    layout, optics = Layout(aggregates=0, glass_fraction=0.05), Optics(slope=slope)
    drawing = {"size_px": (side, side), "seed": seed, "densities": densities, "optics": optics, "layout": layout}
    return draw_slide(**drawing, antibodies=antibodies, pixel_size_um=PIXEL_UM)


def measured(prevalence: float, slope: float, seed: int, side: int) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
    """Mean and background per cell of the marker without antibodies ("dark"), of what they add ("light") and of the
    autofluorescence channel ("glow"); and which cells are positive.
    """
    stained, bare = (drawn(prevalence, slope, seed, side, antibodies=here) for here in (True, False))
    whole = np.where(stained.nuclei > 0, stained.nuclei, stained.cells)
    at, glow = stained.channels.index(MARKER), stained.channels.index(GLOW)
    planes = [bare.image[at], stained.image[at], bare.image[glow]]
    table = measure_cells(
        np.stack(planes), stained.nuclei, whole, markers=["dark", "full", "glow"], pixel_size_um=PIXEL_UM,
        features=("background",),
    )  # fmt: skip
    truth = stained.table.set_index("cell").loc[table["cell"]]
    analysed = truth["tissue_class"].isin(["tumour", "stroma"]).to_numpy()  # no fold, no necrosis, no glass
    found = {
        name: pd.DataFrame({"mean": table[f"{name}_cell_mean"], "background": table[f"{name}_background"]})[analysed]
        for name in ("dark", "full", "glow")
    }
    found["place"] = table.loc[analysed, ["x_um", "y_um"]]
    found["light"] = found["full"] - found["dark"]
    return found, truth[f"{MARKER}_positive"].to_numpy()[analysed]


def slide_rows(job: tuple[float, float, int, int]) -> list[dict]:
    """One slide at each separation and each amount of autofluorescence, each way of correction."""
    prevalence, slope, seed, _ = job
    found, positive = measured(*job)
    rows = []
    for tail, more in GLOWS.items():
        dark = found["dark"] + more * (found["glow"] - found["glow"]["mean"].median())
        spread = dark.loc[~positive, "mean"].std()
        light = found["light"]["mean"]
        step = (light[positive].mean() - light[~positive].mean()) / spread if prevalence else 1.0
        for separation in SEPARATIONS if prevalence else (0.0,):
            mixed = dark + found["light"] * (separation / step)
            cells = pd.DataFrame(
                {f"{name}_{column}": table[kind] for name, table in ((MARKER, mixed), (GLOW, found["glow"]))
                 for kind, column in (("mean", "cell_mean"), ("background", "background"))}
            )  # fmt: skip
            cells = pd.concat([cells, found["place"]], axis=1)
            near = Surroundings(cells).near(cells)
            case = {"prevalence": prevalence, "separation": separation, "slope": slope, "tail": tail, "seed": seed}
            for way, asked in WAYS.items():
                taken = fit_corrections(cells, {MARKER: "cell"}, glow=GLOW, asked=asked, near=near).get(MARKER)
                values = taken.values(cells, near) if taken else cells[f"{MARKER}_cell_mean"].to_numpy()
                dim = values[~positive].std()
                seen = {"way": way, "slope found": taken.slope if taken else 0.0, "narrower": dim / spread}
                lost = {"no surroundings": cells[f"{MARKER}_background"].isna().mean(), "cells": len(cells)}
                rows.append(case | seen | lost | row(values, positive))
    return rows


def tables(rows: pd.DataFrame) -> None:
    """Print what the acceptance asks, for each way, then by parts."""
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 300, "display.precision", 1)
    part = np.select(
        [rows["prevalence"] == 0, rows["separation"] >= 3], ["no positives", "3 SDs or more apart"], "nearer than 3 SDs"
    )
    rows = rows.assign(part=part)
    for by in (["part", "way"], ["part", "tail", "way"], ["part", "slope", "way"], ["way", "prevalence", "separation"]):
        print(summary(rows, by), "\n")
    told = rows.groupby(["tail", "slope", "way"])[["cells", "slope found", "narrower", "no surroundings"]].median()
    print(told.to_string(float_format="%.3g"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="of the repeats: other numbers, other seeds")
    parser.add_argument("--side", type=int, default=2048, help="of the slides, in pixels of half a µm")
    parser.add_argument("--rows", type=Path, help="a CSV file for one row per slide and way")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    jobs = [
        (prevalence, slope, seed, chosen.side)
        for prevalence, slope in itertools.product(PREVALENCES, SLOPES)
        for seed in range(chosen.first, chosen.first + chosen.repeats * (1 if prevalence else WITHOUT))
    ]
    rows = []
    with ProcessPoolExecutor(chosen.workers) as pool:
        for found in pool.map(slide_rows, jobs):
            rows += found
            if chosen.rows:
                pd.DataFrame(rows).to_csv(chosen.rows, index=False)
    tables(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
