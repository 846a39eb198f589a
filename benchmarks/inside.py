"""Which of 200 polygons of 2,000 vertices, each with a hole, holds each of 1,000,000 cells: CPU seconds of one run.

    python benchmarks/inside.py [CELLS]      default 1000000

`contains_xy` asks shapely's prepared polygons of every cell, `in its box` of those within the polygon's bounds only,
and `STRtree` looks the polygons up in a tree of the cells. All must find the same. Figures are medians of calls in
turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import shapely

from mihc.regions import Region, assign_regions

ACROSS, DOWN, SIDE_UM = 20, 10, 2000.0
VERTICES, HOLE = 1800, 200
ROUNDS = 5

Found = Callable[[np.ndarray, np.ndarray, list[shapely.Polygon]], np.ndarray]


def ring(generator: np.random.Generator, radius: float, vertices: int) -> np.ndarray:
    """A ragged ring about 0, x and y in µm, that does not cross itself."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    waves = 0.1 * np.sin(7 * angle) + 0.08 * np.cos(13 * angle + generator.random())
    reach = radius * (0.75 + waves + 0.02 * generator.standard_normal(vertices))
    return np.column_stack([reach * np.cos(angle), reach * np.sin(angle)])


def drawn(cells: int) -> tuple[np.ndarray, np.ndarray, list[shapely.Polygon]]:
    """Cells, x and y in µm, over polygons that lie side by side."""
    generator = np.random.default_rng(0)
    middles = [((i + 0.5) * SIDE_UM, (j + 0.5) * SIDE_UM) for j in range(DOWN) for i in range(ACROSS)]
    polygons = [
        shapely.Polygon(middle + ring(generator, 950, VERTICES), [middle + ring(generator, 250, HOLE)])
        for middle in middles
    ]
    assert all(polygon.is_valid for polygon in polygons)
    x, y = generator.random((2, cells)) * np.array([[ACROSS * SIDE_UM], [DOWN * SIDE_UM]])
    return x, y, polygons


def ours(x: np.ndarray, y: np.ndarray, polygons: list[shapely.Polygon]) -> np.ndarray:
    regions = [Region(str(k), "other", polygon) for k, polygon in enumerate(polygons)]
    return assign_regions(x, y, regions)["region"].to_numpy()


def one_by_one(x: np.ndarray, y: np.ndarray, polygons: list[shapely.Polygon]) -> np.ndarray:
    found = np.full(len(x), "outside", dtype=object)
    for k, polygon in enumerate(polygons):
        shapely.prepare(polygon)
        found[shapely.contains_xy(polygon, x, y)] = str(k)
    return found


def in_its_box(x: np.ndarray, y: np.ndarray, polygons: list[shapely.Polygon]) -> np.ndarray:
    found = np.full(len(x), "outside", dtype=object)
    for k, polygon in enumerate(polygons):
        shapely.prepare(polygon)
        x0, y0, x1, y1 = polygon.bounds
        near = np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
        found[near[shapely.contains_xy(polygon, x[near], y[near])]] = str(k)
    return found


def in_a_tree(x: np.ndarray, y: np.ndarray, polygons: list[shapely.Polygon]) -> np.ndarray:
    names = np.array([str(k) for k in range(len(polygons))], dtype=object)
    found = np.full(len(x), "outside", dtype=object)
    polygon, cell = shapely.STRtree(shapely.points(x, y)).query(polygons, predicate="contains")
    found[cell] = names[polygon]
    return found


def main(cells: int = 1_000_000) -> None:
    """Print the seconds of each, and how many times mihc's they are."""
    ways: dict[str, Found] = {
        "mihc": ours, "contains_xy": one_by_one, "in its box": in_its_box, "STRtree": in_a_tree
    }  # fmt: skip
    x, y, polygons = drawn(cells)
    ours(x[:1000], y[:1000], polygons)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        found = {}
        for name, way in ways.items():
            start = time.process_time()
            found[name] = way(x, y, polygons)
            seconds[name].append(time.process_time() - start)
        assert all((one == found["mihc"]).all() for one in found.values())
    first = median(seconds["mihc"])
    for name, taken in seconds.items():
        print(f"{name:12} {median(taken):6.2f} s {median(taken) / first:6.1f} times mihc's")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
