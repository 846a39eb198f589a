"""Measuring cells beside scikit-image and beside a plain loop, in CPU seconds of one run.

    python benchmarks/measure.py [SIDE ...]      default 2048 4096: drawn slides of 8 channels, in memory

`limit` is the least that any program has to do: one loop over the labels and the counts that sums 8 channels per cell,
without moments, compartments, saturation or a table. Figures are medians of calls made in turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numba import njit
from skimage.measure import regionprops_table

import mihc
from benchmarks.peers import recipe
from mihc.cells import CellSettings, cells_in_window, known_features
from mihc.nuclei import find_nuclei, slide_reference
from mihc.synthetic import DrawnSlide, draw_slide
from mihc.windows import whole

PIXEL_UM = 0.5
MOMENTS = ("label", "area", "centroid", "axis_major_length", "axis_minor_length", "eccentricity", "mean_intensity")
FEATURES = (["median"], ["percentile:90"], ["sd"], ["integrated"], ["shape"], ["background"], ["spillover"])


@njit(nogil=True, fastmath=True)
def limit_numba(image: np.ndarray, labels: np.ndarray, sums: np.ndarray, pixels: np.ndarray) -> None:
    """Sums of each channel over runs of equal labels along the rows."""
    channels, height, width = image.shape
    first, last = np.empty((2, width), np.int32)
    for y in range(height):
        runs, x = 0, 0
        while x < width:
            label = labels[y, x]
            if label == 0:
                x += 1
                continue
            start = x
            while x < width and labels[y, x] == label:
                x += 1
            first[runs], last[runs] = start, x
            runs += 1
            pixels[label] += x - start
        for c in range(channels):
            row = image[c, y]
            for k in range(runs):
                total = np.uint32(0)
                for at in range(first[k], last[k]):
                    total += row[at]
                sums[labels[y, first[k]], c] += total


def limit(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of each channel per label, by the loop alone."""
    count = int(labels.max()) + 1
    sums, pixels = np.zeros((count, len(image))), np.zeros(count, np.int64)
    limit_numba(image, labels, sums, pixels)
    return sums[1:] / np.maximum(pixels[1:, None], 1)


def cpu_seconds(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median CPU time of each call, after one that compiles and warms up; the calls take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            if turn:
                taken[name].append(time.process_time() - started)
    return {name: median(times) for name, times in taken.items()}


def measuring(slide: DrawnSlide, cells: np.ndarray, turns: int) -> None:
    """Means and moments: mihc, the limit, and scikit-image."""
    image, nuclei = slide.image, slide.nuclei
    last = np.moveaxis(image, 0, -1)

    def ours(features: list[str]) -> Callable[[], object]:
        return lambda: mihc.measure_cells(
            image, nuclei, cells, markers=list(slide.channels), pixel_size_um=PIXEL_UM, features=features
        )

    quick = cpu_seconds(
        {"limit": lambda: limit(image, cells), "limit, nuclei": lambda: limit(image, nuclei), "mihc": ours([])}
        | {name[0]: ours(name) for name in FEATURES},
        turns,
    )
    means, moments = (
        cpu_seconds({"cells": lambda names=names: regionprops_table(cells, last, properties=names)}, 1)["cells"]
        for names in (("label", "area", "mean_intensity"), MOMENTS)
    )
    check(image, cells, ours([])())
    both = quick["limit"] + quick["limit, nuclei"]
    print(f"  limit, cells                       {quick['limit']:.3f} CPU-s   (cells and nuclei {both:.3f})")
    rows = {
        "mihc, all compartments, moments": (quick["mihc"], f"{quick['mihc'] / quick['limit']:.2f} x limit, cells"),
        "": (quick["mihc"], f"{quick['mihc'] / both:.2f} x limit, cells and nuclei"),
        "mihc with axes and hulls": (quick["shape"], f"{quick['shape'] / quick['limit']:.2f} x limit, cells"),
        "regionprops_table, cells, means": (means, f"mihc is {means / quick['mihc']:.1f} times as fast"),
        "regionprops_table, cells, axes": (moments, f"mihc with axes and hulls {moments / quick['shape']:.1f} times"),
    }
    for name, (seconds, says) in rows.items():
        print(f"  {name:34s} {seconds:.3f}   {says}")
    for name in FEATURES:
        print(f"  + {name[0]:32s} {quick[name[0]] - quick['mihc']:.3f}")


def check(image: np.ndarray, cells: np.ndarray, table: object) -> None:
    """The means are the limit's."""
    means = limit(image, cells)[table["cell"].to_numpy() - 1]
    ours = table[[name for name in table if name.endswith("_cell_mean")]].to_numpy()
    np.testing.assert_allclose(ours, means, rtol=1e-12)


def fused(slide: DrawnSlide, turns: int) -> None:
    """One window's pass beside its parts run apart."""
    image, shape = slide.image, slide.image.shape[1:]
    reference = slide_reference(image[0], pixel_size_um=PIXEL_UM)
    given = {"pixel_size_um": PIXEL_UM, "reference": reference}
    labels, _ = find_nuclei(image[0], nucleus_diameter_um=8.0, **given)
    cells = mihc.grow_cells(labels, pixel_size_um=PIXEL_UM)
    chosen = CellSettings(
        8.0, 4.0, (0,), tuple(enumerate(slide.channels)), (0,) * len(image), features=known_features([])
    )
    taken = cpu_seconds(
        {
            "segment": lambda: find_nuclei(image[0], nucleus_diameter_um=8.0, **given),
            "grow": lambda: mihc.grow_cells(labels, pixel_size_um=PIXEL_UM),
            "measure": lambda: mihc.measure_cells(
                image, labels, cells, markers=list(slide.channels), pixel_size_um=PIXEL_UM
            ),
            "recipe": lambda: recipe(image[0], local=True, diameter_px=8.0 / PIXEL_UM),
            "reference": lambda: slide_reference(image[0], pixel_size_um=PIXEL_UM),
            "fused": lambda: cells_in_window(image, whole(shape), shape=shape, settings=chosen, **given),
        },
        turns,
    )
    apart = taken["grow"] + taken["measure"]
    print("  " + ", ".join(f"{name} {seconds:.3f}" for name, seconds in taken.items()))
    ours = taken["segment"]  # a window's; the reference is taken once, of the whole slide's overview
    ratio, with_reference = taken["recipe"] / ours, taken["recipe"] / (ours + taken["reference"])
    print(f"  segment is {ratio:.1f} times as fast as the scikit-image recipe, {with_reference:.1f} with the reference")
    bound = taken["segment"] + 1.3 * apart
    print(f"  segment + 1.3 x (grow + measure) = {bound:.3f}: the fused pass takes {taken['fused'] / bound:.3f} of it")


if __name__ == "__main__":
    for side in [int(text) for text in sys.argv[1:]] or [2048, 4096]:
        slide = draw_slide(size_px=(side, side), seed=905)
        cells = mihc.grow_cells(slide.nuclei, pixel_size_um=PIXEL_UM)
        print(f"{side} x {side} x {len(slide.image)}, {len(slide.table)} cells, {(cells > 0).mean():.0%} of the pixels")
        measuring(slide, cells, 5 if side <= 2048 else 3)
        fused(slide, 7 if side <= 2048 else 3)
