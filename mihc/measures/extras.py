"""Columns of the cells table that are there where asked: spread, percentiles, sums, shapes, and what lies around."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mihc.measures.features import Features
from mihc.measures.pixels import Labelled, Sums, whole_plane
from mihc.measures.settings import FLAGS, CellSettings

COMPARTMENTS = ("nucleus", "cytoplasm", "cell")
BACKGROUND_UM = 15.0  # how far from the nucleus' centroid, along y and along x, its background is looked for
BLUR_UM = 0.5  # standard deviation of the blur that carries light over a border: optics and the section's thickness
STAIRCASE = math.pi / 4  # mean length of a line in units of the pixel edges that draw it
CROWDED = 2  # a cell is crowded where its border times this part is no more than what it shares
SAFE = 2.0**62


@dataclass(frozen=True)
class Extras:
    """What the extra columns are made from."""

    image: np.ndarray  # (c, y, x)
    labelled: Labelled
    sums: Sums  # of the table's rows
    everyone: Sums  # of the rows too that only lend their light
    size: tuple[float, float]  # µm of a pixel along y and x
    settings: CellSettings

    def columns(self, features: Features) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The columns, and the flags that they bring."""
        columns: dict[str, np.ndarray] = {}
        flags = np.zeros(self.labelled.own, np.int64)
        if "shape" in features:
            columns |= self.shapes()
        if "spillover" in features:
            flags[self.crowded()] = FLAGS["crowded"]
        for k, (_, marker) in enumerate(self.settings.measured):
            columns |= {f"{marker}_{name}": values for name, values in self.of_channel(k, features).items()}
        return columns, flags

    def of_channel(self, k: int, features: Features) -> dict[str, np.ndarray]:
        """The columns of one measured channel, named without its marker."""
        found: dict[str, np.ndarray] = {}
        if features.quantiles:
            found |= self._quantiles(k, features.quantiles)
        if "sd" in features:
            found |= self._spread(k)
        if "integrated" in features:
            found |= {f"{part}_integrated": total / self._one(k) for part, total in self.sums.light_of(k).items()}
        if "background" in features:
            found["background"] = self._background(k)
        if "spillover" in features:
            found["spillover"] = self._spillover(k)
        return found

    def _one(self, k: int) -> float:
        return float(2 ** self.settings.fixed_point_bits[k])

    def _plane(self, k: int) -> np.ndarray:
        return whole_plane(self.image, k, self.settings)

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray]:
        from mihc.measures.value_kernels import runs_by_row

        return runs_by_row(self.labelled.nuclei, self.labelled.cells, self.labelled.rows, self.labelled.own)

    # ---- values

    def _quantiles(self, k: int, wanted: tuple[tuple[str, float], ...]) -> dict[str, np.ndarray]:
        from mihc.measures.value_kernels import quantiles

        found = quantiles(self._plane(k), *self._runs, np.array([percent for _, percent in wanted])) / self._one(k)
        return {
            f"{part}_{name}": np.ascontiguousarray(found[:, place, number])
            for place, part in enumerate(COMPARTMENTS)
            for number, (name, _) in enumerate(wanted)
        }

    def _spread(self, k: int) -> dict[str, np.ndarray]:
        """Standard deviations of the population: of the squares about a whole number near each mean."""
        from mihc.measures.value_kernels import HALF, squares

        pixels, light = self.sums.shapes[:, :, 0], self.sums.light[:, :, k]
        some = np.maximum(pixels, 1)
        pivots = light // some
        found = squares(self._plane(k), *self._runs, pivots).astype(np.float64)
        about = found[:, :, 0] * 2.0 ** (2 * HALF) + found[:, :, 1] * 2.0 ** (HALF + 1) + found[:, :, 2]
        rest = light - pivots * some
        about = np.maximum(about - rest.astype(np.float64) ** 2 / some, 0.0)  # about the mean
        (cytoplasm, nucleus), (a, b) = about.T, pixels.T.astype(np.float64)
        apart = light[:, 0] / some[:, 0] - light[:, 1] / some[:, 1]
        cell = cytoplasm + nucleus + apart**2 * a * b / (a + b)
        unit, a = self._one(k), np.where(a > 0, a, np.nan)
        return {
            "nucleus_sd": np.sqrt(nucleus / b) / unit,
            "cytoplasm_sd": np.sqrt(cytoplasm / a) / unit,
            "cell_sd": np.sqrt(cell / self.sums.pixels["cell"]) / unit,
        }

    # ---- shapes

    def shapes(self) -> dict[str, np.ndarray]:
        """Axes, eccentricity and solidity of nucleus and cell."""
        from mihc.measures.value_kernels import hull_pixels

        columns: dict[str, np.ndarray] = {}
        for part, sums in (("nucleus", self.sums.shapes[:, 1]), ("cell", self.sums.shapes.sum(axis=1))):
            major, minor = _axes(sums, self.size)
            columns |= {
                f"{part}_major_axis_um": major,
                f"{part}_minor_axis_um": minor,
                f"{part}_eccentricity": np.sqrt(1 - (minor / major) ** 2),
                f"{part}_solidity": sums[:, 0] / hull_pixels(*self._runs, part == "nucleus"),
            }
        return columns

    # ---- surroundings

    @cached_property
    def _boxes(self) -> np.ndarray:
        """Where each cell's background is looked for, (rows, 4) y0, y1, x0, x1 in pixels of the array.

        The centres of its pixels are at most a whole number of pixels from the nucleus' centroid, so that a mirrored
        slide has the mirrored boxes.
        """
        place = self.labelled
        pixels, y, x = self.sums.shapes[:, 1, :3].T
        sides = []
        for total, size, start, end, length in (
            (y, self.size[0], place.y0, place.height, place.cells.shape[0]),
            (x, self.size[1], place.x0, place.width, place.cells.shape[1]),
        ):
            reach = background_px(size)
            first = np.clip(-((reach * pixels - total) // pixels), 0, end)
            last = np.clip((total + reach * pixels) // pixels + 1, 0, end)
            sides += [np.clip(first - start, 0, length), np.clip(last - start, 0, length)]
        return np.stack(sides, axis=1)

    @cached_property
    def _free(self) -> np.ndarray:
        from mihc.measures.around_kernels import box_sums, free_pixels

        return box_sums(free_pixels(self.labelled.cells), self._boxes)

    def _background(self, k: int) -> np.ndarray:
        """Mean light of the pixels around that no cell has; NaN where there is none."""
        from mihc.measures.around_kernels import box_sums, free_light

        height, width = self.labelled.cells.shape
        corners = np.zeros((height + 1, width + 1), np.int64)
        free_light(self._plane(k), self.labelled.cells, corners)
        return box_sums(corners, self._boxes) / (np.where(self._free > 0, self._free, np.nan) * self._one(k))

    @cached_property
    def _borders(self) -> tuple[np.ndarray, np.ndarray]:
        from mihc.measures.around_kernels import borders

        return borders(self.labelled.cells, self.labelled.rows, len(self.labelled.ids))

    @cached_property
    def _shared(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the cells of the table and of each neighbour that they touch, and the border's length in µm.

        Neighbours are in the order of their ids, the slide's, so that their light is added in one order everywhere.
        """
        listed, _ = self._borders
        count, ids = len(self.labelled.ids), self.labelled.ids
        both = np.concatenate([listed, listed[:, [1, 0, 2]]])
        both = both[both[:, 0] < self.labelled.own]
        pairs, at = np.unique(both[:, 0] * count + both[:, 1], return_inverse=True)
        edges = [np.bincount(at[both[:, 2] == direction], minlength=len(pairs)) for direction in (0, 1)]
        lengths = STAIRCASE * (edges[0] * self.size[0] + edges[1] * self.size[1])
        cell, neighbour = np.divmod(pairs, count) if count else (pairs, pairs)
        order = np.lexsort((ids[neighbour], cell))
        return cell[order], neighbour[order], lengths[order]

    def _spillover(self, k: int) -> np.ndarray:
        """Light that blur carries into a cell over the borders with its neighbours, per pixel of the cell.

        Of a straight border between a bright and a dark field the blur carries mean x BLUR / sqrt(2 pi) over each µm.
        """
        cell, neighbour, length = self._shared
        mean = self.everyone.light_of(k)["cell"] / (self.everyone.pixels["cell"] * self._one(k))
        carried = np.bincount(cell, length * mean[neighbour], minlength=self.labelled.own)
        area = self.sums.pixels["cell"] * (self.size[0] * self.size[1])
        return BLUR_UM / math.sqrt(2 * math.pi) * carried / area

    def crowded(self) -> np.ndarray:
        """Cells that share at least half of their border's edges with other cells."""
        listed, edges = self._borders
        shared = np.bincount(listed[:, :2].ravel(), minlength=len(edges))
        return (CROWDED * shared >= edges.sum(axis=1))[: self.labelled.own]


def background_px(size_um: float) -> int:
    """Pixels of a side that background is looked for."""
    return max(1, round(BACKGROUND_UM / size_um))


def _axes(sums: np.ndarray, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Full lengths in µm of the axes of the ellipse with the same second moments, a pixel being a filled square.

    Moments of centres alone would give a row of pixels no width; each pixel adds its own, side^2 / 12.
    """
    pixels, y, x, yy, xy, xx = sums.T
    size_y, size_x = size
    a = _moment(pixels, y, y, yy) * size_y**2 + size_y**2 / 12
    b = _moment(pixels, y, x, xy) * (size_y * size_x)
    c = _moment(pixels, x, x, xx) * size_x**2 + size_x**2 / 12
    half, apart = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b**2)
    least = min(size_y, size_x) ** 2 / 12
    return 4 * np.sqrt(half + apart), 4 * np.sqrt(np.maximum(half - apart, least))


def _moment(pixels: np.ndarray, u: np.ndarray, v: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Mean of (u - mean u)(v - mean v), exact until the division: n sum(uv) - sum(u) sum(v), over n^2.

    About whole numbers near the means, the sums are small and shifts and mirrors change nothing; what wraps in
    between cancels.
    """
    p, q = u // pixels, v // pixels
    about = uv - p * v - q * u + p * q * pixels
    rest_u, rest_v = u - p * pixels, v - q * pixels
    exact = pixels * about - rest_u * rest_v
    large = np.flatnonzero(pixels.astype(np.float64) * np.abs(about.astype(np.float64)) > SAFE)
    found = exact / pixels.astype(np.float64) ** 2
    for row in large.tolist():
        whole = int(pixels[row]) * int(about[row]) - int(rest_u[row]) * int(rest_v[row])
        found[row] = whole / int(pixels[row]) ** 2
    return found
