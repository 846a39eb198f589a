"""Regions and cells as the GeoJSON that QuPath reads: full-resolution pixels, classes with names and colours.

Regions go to a file of their own, which is also an annotation file of mihc's; cells to another, because a file of
objects that are no annotations is refused as one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from mihc.errors import DamagedError, quoted_path
from mihc.exports.outlines import Rings, cell_outlines
from mihc.exports.sources import Source
from mihc.panel import GREY, MARKER_COLOURS
from mihc.plots.style import REGION_COLOURS
from mihc.regions import Region

_IDS = uuid.UUID("b3a1f0a2-6d0e-5c53-9f6c-5d1d3a6e7c10")  # mihc's own name space: the same object, the same id


def write_region_file(path: Path, source: Source) -> int:
    """Write a slide's regions as QuPath annotations; return how many."""
    image, whose = source.image(), source.review.reviewer if source.review else ""
    return write_regions(
        path, source.slide, image.levels[0].shape[1:], source.regions(), image.pixel_size_um, reviewer=whose
    )


def write_regions(
    path: Path,
    slide: str,
    shape_yx: Sequence[int],
    regions: Sequence[Region],
    pixel_size_um: tuple[float, float],
    *,
    reviewer: str = "",
) -> int:
    """Write regions, as `reviewer` left them, as QuPath annotations of a slide of `shape_yx`; return how many."""
    features = [region_feature(region, slide=slide, pixel_size_um=pixel_size_um) for region in regions]
    return _write(path, slide, shape_yx, map(_compact, features), reviewer)


def write_cell_file(path: Path, source: Source) -> int:
    """Write a slide's cells as QuPath cells, outlines along the pixels' edges; return how many.

    Raises
    ------
    DamagedError
        A cell of the table has no pixels in the labels.
    """
    whose = source.review.reviewer if source.review else ""
    written = _write(path, source.slide, source.image().levels[0].shape[1:], _cell_features(source), whose)
    missing = len(source.some(["cell"])) - written
    if missing:
        raise DamagedError(
            f"{missing} cells of the table have no pixels in labels/cells",
            place=source.slide,
            fix=f"Type: mihc verify {quoted_path(source.study.folder)} --repair",
        )
    return written


def _write(path: Path, slide: str, shape_yx: Sequence[int], features: Iterator[str], reviewer: str) -> int:
    """Write a FeatureCollection, one feature to a line; "mihc" says which slide its pixels are those of, and whose
    review it is as.
    """
    about = {"slide": slide, "size_px": [int(side) for side in shape_yx]}
    said = _compact(about | ({"reviewer": reviewer} if reviewer else {}))
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"type":"FeatureCollection","mihc":{said},"features":[')
        for count, feature in enumerate(features, start=1):
            file.write(("\n" if count == 1 else ",\n") + feature)
        file.write("\n]}\n")
    return count


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def object_id(slide: str, kind: str, name: str) -> str:
    """Return the id of one object of a slide: a UUID that follows from its name alone."""
    return str(uuid.uuid5(_IDS, f"{slide}\n{kind}\n{name}"))


def rgb(colour: str) -> list[int]:
    """Return RRGGBB, or #rrggbb, as QuPath's [r, g, b]."""
    return list(bytes.fromhex(colour.removeprefix("#")))


# ---- regions


def region_feature(region: Region, *, slide: str, pixel_size_um: tuple[float, float]) -> dict:
    """Return a region as a GeoJSON feature: an annotation with its name and its class."""
    name = f"{region.tissue_class}\n{region.name}"
    return {
        "type": "Feature",
        "id": object_id(slide, "region", name),
        "geometry": shapely.geometry.mapping(polygon_px(region.polygon_um, pixel_size_um)),
        "properties": {
            "objectType": "annotation",
            "name": region.name,
            "classification": {"name": region.tissue_class, "color": rgb(REGION_COLOURS[region.tissue_class])},
        },
    }


def polygon_px(polygon_um: Polygon | MultiPolygon, pixel_size_um: tuple[float, float]) -> Polygon | MultiPolygon:
    """Return an outline in pixels that, times the pixel size, is the one in µm again, where any number is that."""
    size = np.array([pixel_size_um[1], pixel_size_um[0]])
    return shapely.transform(polygon_um, lambda xy: pixels_of(xy, size))


def pixels_of(um: np.ndarray, size_um: np.ndarray | float) -> np.ndarray:
    """Return the doubles p next to um / size_um for which p x size_um is um, or the nearest where none is."""
    near = um / size_um
    best = near.copy()
    for towards in (-np.inf, np.inf):
        other = np.nextafter(near, towards)
        closer = np.abs(other * size_um - um) < np.abs(best * size_um - um)
        best = np.where(closer, other, best)
    return best


# ---- cells


def _cell_features(source: Source) -> Iterator[str]:
    """Every cell as the text of a feature, window by window."""
    values, named = _measured(source)
    table = source.some(["cell", *values, *named.values()]).sort_values("cell", ignore_index=True)
    classes = _Classes(source, list(named))
    ids = table["cell"].to_numpy()
    held = np.column_stack([table[column].fillna(False).to_numpy(bool) for column in named.values()] or [ids != ids])
    numbers = table[list(values)].to_numpy(np.float64)
    keys = [json.dumps(name, ensure_ascii=False) + ":" for name in values.values()]
    for mine, cells, nuclei in cell_outlines(source.labels("cells"), source.labels("nuclei"), ids):
        for label, row, calls in zip(ids[mine].tolist(), numbers[mine].tolist(), held[mine]):
            if label in cells:
                measured = ",".join(key + repr(value) for key, value in zip(keys, row) if value == value)
                yield (
                    f'{{"type":"Feature","id":"{object_id(source.slide, "cell", str(label))}",'
                    f'"geometry":{_geometry(cells[label])},{_nucleus(nuclei.get(label))}"properties":'
                    f'{{"objectType":"cell","name":"{label}",{classes.text(calls)}"measurements":{{{measured}}}}}}}'
                )


def _measured(source: Source) -> tuple[dict[str, str], dict[str, str]]:
    """Columns of the cells table with QuPath's names of them, and populations with their columns."""
    there = source.columns
    values = {"nucleus_area_um2": "Nucleus: Area µm^2", "cell_area_um2": "Cell: Area µm^2"}
    values |= {"distance_to_margin_um": "Distance to tumour margin µm"}
    for line in source.panel.measured:
        name = f"{line.compartment.capitalize()}: {line.marker} mean"
        values |= {f"{line.marker}_{line.compartment}_mean": name, f"{line.marker}_corrected": f"{name}, corrected"}
    named = {name: column for name, column in source.populations.items() if column in there}
    return {column: name for column, name in values.items() if column in there}, named


class _Classes:
    """The class of a cell: the phenotypes that it has, else the markers that it is positive for."""

    def __init__(self, source: Source, names: list[str]):
        colours = {line.marker: line.colour for line in source.panel.rows}
        palette = MARKER_COLOURS[::-1]
        phenotypes = [name for name in names if name not in colours]
        colours |= {name: palette[k % len(palette)] for k, name in enumerate(phenotypes)}
        self.names, self.colours = names, colours
        self.phenotype = np.array([name in phenotypes for name in names], dtype=bool)
        self.known: dict[bytes, str] = {}

    def text(self, calls: np.ndarray) -> str:
        """The member "classification" of a cell, with a comma after it; "" where the cell is of no population."""
        key = calls.tobytes()
        if key not in self.known:
            calls = calls[: len(self.names)]
            chosen = calls & self.phenotype if (calls & self.phenotype).any() else calls
            self.known[key] = self._text([name for name, one in zip(self.names, chosen) if one])
        return self.known[key]

    def _text(self, names: list[str]) -> str:
        if not names:
            return ""
        mixed = np.mean([rgb(self.colours.get(name, GREY)) for name in names], axis=0)
        named = {"name": names[0]} if len(names) == 1 else {"names": names}
        return f'"classification":{_compact({**named, "color": [round(float(part)) for part in mixed]})},'


def _geometry(polygons: Rings) -> str:
    if len(polygons) == 1:
        return f'{{"type":"Polygon","coordinates":{_rings(polygons[0])}}}'
    return f'{{"type":"MultiPolygon","coordinates":[{",".join(map(_rings, polygons))}]}}'


def _nucleus(polygons: Rings | None) -> str:
    return f'"nucleusGeometry":{_geometry(polygons)},' if polygons else ""


def _rings(rings: list[np.ndarray]) -> str:
    closed = [[*ring, ring[0]] for ring in (ring.tolist() for ring in rings)]
    return str(closed).replace(" ", "")
