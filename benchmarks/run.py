"""mihc beside what a user would take instead, on the same input in one run: CPU seconds, and accuracy where it applies.

    make bench

Ratios are what counts: the machine may be busy. Each figure is the smallest of three runs of one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import shapely
from shapely.geometry import Point

import mihc
from benchmarks.peers import f1, recipe
from mihc.regions import Region
from mihc.synthetic import draw_slide

PIXEL_UM = 0.5


def cpu_seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """Smallest CPU time of some calls, after one that compiles and warms up."""
    function()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        taken.append(time.process_time() - started)
    return min(taken)


def nuclei() -> None:
    """Segmentation: F1 and megapixels per CPU second on drawn slides."""
    slides = [draw_slide(seed=seed) for seed in range(900, 904)]
    planes = [slide.image[0] for slide in slides]
    methods = {
        "mihc": lambda image: mihc.segment_nuclei(image, pixel_size_um=PIXEL_UM),
        "scikit-image recipe, Otsu": lambda image: recipe(image, local=False),
        "scikit-image recipe, local threshold": lambda image: recipe(image, local=True),
    }
    for name, method in methods.items():
        scores = [f1(method(slide.image[0]), slide.nuclei) for slide in slides]
        seconds = cpu_seconds(lambda method=method: [method(plane) for plane in planes])
        speed = sum(plane.size for plane in planes) / 1e6 / seconds
        print(f"nuclei    {name:38s} F1 {np.mean(scores):.3f} (worst {min(scores):.3f})  {speed:6.2f} Mpx/CPU-s")


def cells() -> None:
    """Measuring: 8 channels in RAM."""
    from skimage.measure import regionprops_table

    slide = draw_slide(seed=905)
    labels = mihc.grow_cells(slide.nuclei, pixel_size_um=PIXEL_UM)
    channels = np.moveaxis(slide.image, 0, -1)
    ours = cpu_seconds(
        lambda: mihc.measure_cells(
            slide.image, slide.nuclei, labels, markers=list(slide.channels), pixel_size_um=PIXEL_UM
        )
    )
    theirs = cpu_seconds(
        lambda: [
            regionprops_table(found, channels, properties=("label", "area", "mean_intensity"))
            for found in (slide.nuclei, labels)
        ]
    )
    print(
        f"measure   mihc {ours:.3f} CPU-s, scikit-image regionprops_table {theirs:.3f} CPU-s: {theirs / ours:.1f} times"
    )


def regions() -> None:
    """A million points in 200 polygons of 2,000 vertices."""
    generator = np.random.default_rng(1)
    x, y = generator.random((2, 1_000_000)) * 60_000
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    outlines = []
    for cx, cy in generator.random((200, 2)) * 60_000:
        radius = 1700 + 250 * np.sin(7 * angles)
        outer = np.column_stack([cx + radius * np.cos(angles), cy + radius * np.sin(angles)])
        outlines.append(shapely.Polygon(outer).difference(Point(cx, cy).buffer(500, 50)))
    drawn = [Region(str(index), "tumour", outline) for index, outline in enumerate(outlines)]
    ours = cpu_seconds(lambda: mihc.assign_regions(x, y, drawn, precedence=("tumour",)))

    def theirs() -> int:
        order = np.argsort(y)  # the prefilter's own cost: points come in any order, for both
        sorted_x, sorted_y = x[order], y[order]
        inside = np.zeros(len(x), bool)
        for outline in outlines:
            shapely.prepare(outline)
            x0, y0, x1, y1 = outline.bounds
            first, last = np.searchsorted(sorted_y, [y0, y1])
            near = np.flatnonzero((sorted_x[first:last] >= x0) & (sorted_x[first:last] <= x1)) + first
            inside[near] |= shapely.contains_xy(outline, sorted_x[near], sorted_y[near])
        return int(inside.sum())

    other = cpu_seconds(theirs)
    print(f"regions   mihc {ours:.3f} CPU-s, shapely with a box prefilter {other:.3f} CPU-s: {other / ours:.1f} times")


if __name__ == "__main__":
    nuclei()
    cells()
    regions()
