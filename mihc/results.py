"""A study's results read back, each file compared with what was committed: for reviewers, exports and scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from mihc.errors import UsageError, quoted_path
from mihc.positives import parse_expression, populations
from mihc.regions import Region
from mihc.store import Store, read_cells

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry import MultiPolygon, Polygon

    from mihc.study import SlideRow, Study


def cells_file(slide: str) -> str:
    """Where a slide's cells table lies under results/."""
    return f"cells/{slide}.parquet"


def image_folder(slide: str) -> str:
    """Where a slide's pyramid and labels lie under results/."""
    return f"slides/{slide}.ome.zarr"


def outlines_file(slide: str) -> str:
    """Where a slide's regions lie under results/, as polygons that do not overlap."""
    return f".stages/regions/{slide}.regions.json"


def found_file(slide: str) -> str:
    """Where a slide's regions lie under results/ as they were before a review; only where one edited them."""
    return f".stages/regions/{slide}.found.json"


def found_regions(study: Study, slide: str) -> list[Region]:
    """Return a slide's regions as they were before any review. Raises as `slide_regions`."""
    if not (study.results / found_file(slide)).exists():
        return slide_regions(study, slide)
    content = json.loads(_committed(study, found_file(slide), slide).read_text(encoding="utf-8"))
    return [region_from_json(one) for one in content]


def measured_slides(study: Study) -> list[str]:
    """Return the ids of the slides that have an image and a cells table, in the order of slides.csv."""
    store = Store(study.results)
    return [row.slide for row in study.slides if row.file is not None and store.record("positives", row.slide)]


def slide_image(study: Study, slide: str) -> Path:
    """Return the folder of a slide's OME-Zarr.

    Raises
    ------
    UsageError
        When the slide has not been measured, or was given as a table of cells and has no image.
    DamagedError
        When a file of it is missing or changed.
    """
    if _row(study, slide).file is None:
        raise UsageError("its cells come from a table, so there is no image of it", place=slide)
    return _committed(study, image_folder(slide), slide)


def slide_cells(study: Study, slide: str, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a slide's cells table, one row per cell; columns as in the contract, None for all. Raises as above."""
    return read_cells(_committed(study, cells_file(slide), slide), columns=columns)


def slide_regions(study: Study, slide: str) -> list[Region]:
    """Return a slide's regions, µm, cut so that none overlap; one that others cover is empty. Raises as above."""
    content = json.loads(_committed(study, outlines_file(slide), slide).read_text(encoding="utf-8"))
    return [region_from_json(one) for one in content]


def tumour_file(slide: str) -> str:
    """Where the outline of a slide's tumour lies under results/, before anything is excluded from it."""
    return f".stages/regions/{slide}.tumour.json"


def slide_tumour(study: Study, slide: str) -> shapely.Geometry | None:
    """Return a slide's tumour, µm, whose outline is the margin; None without tumour. Raises as above."""
    content = json.loads(_committed(study, tumour_file(slide), slide).read_text(encoding="utf-8"))
    return shapely.geometry.shape(content) if content else None


def region_as_json(region: Region) -> dict:
    """A region as plain JSON, µm."""
    polygon = shapely.geometry.mapping(region.polygon_um)
    return {"name": region.name, "tissue_class": region.tissue_class, "polygon_um": polygon}


def region_from_json(content: dict) -> Region:
    """The region that `region_as_json` wrote."""
    return Region(content["name"], content["tissue_class"], polygon_from_json(content["polygon_um"]))


def polygon_from_json(content: dict) -> Polygon | MultiPolygon:
    """A polygon as shapely's `shape` reads it from GeoJSON, many rings at once, as large slides have."""
    is_one = content["type"] == "Polygon"
    polygons = [content["coordinates"]] if is_one else content["coordinates"]
    rings = [ring for polygon in polygons for ring in polygon]
    if not rings or not all(polygons) or content["type"] not in ("Polygon", "MultiPolygon"):
        return shapely.geometry.shape(content)
    points = np.fromiter(chain.from_iterable(chain.from_iterable(rings)), np.float64).reshape(-1, 2)
    ring_of_point = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    polygon_of_ring = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    made = shapely.polygons(shapely.linearrings(points, indices=ring_of_point), indices=polygon_of_ring)
    return made[0] if is_one else shapely.multipolygons(made)


def population_columns(study: Study, slide: str) -> dict[str, str]:
    """Return every population that the slide can show, with its column of the cells table."""
    row = _row(study, slide)
    shown = study.populations()
    names = [name for name in study.settings.phenotypes if row.panel in shown[name]]
    return populations([line.marker for line in study.panel_of(row).markers], names)


def population_markers(study: Study, slide: str, population: str) -> tuple[str, ...]:
    """Return the markers that decide who belongs to a population: itself, or those that its expression names.

    Raises
    ------
    UsageError
        When the slide cannot show it; the message lists what it can.
    """
    columns = population_columns(study, slide)
    if population not in columns:
        raise UsageError(f"slide {slide} has no population {population!r}", fix=f"It has {', '.join(columns)}.")
    markers = [line.marker for line in study.panel_of(_row(study, slide)).markers]
    if population in markers:
        return (population,)
    phenotypes = study.settings.phenotypes
    return parse_expression(phenotypes[population], markers, name=population, phenotypes=phenotypes).markers


def viewer_um(
    x_um: np.ndarray, y_um: np.ndarray, *, pixel_size_um: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Convert mihc's µm, 0 at the corner of the first pixel, to (y, x) as napari and OME-Zarr have it, 0 at its centre.

    Parameters
    ----------
    x_um, y_um
        (n,) positions.
    pixel_size_um
        (y, x) of the full-resolution level.
    """
    size_y, size_x = pixel_size_um
    return np.asarray(y_um) - size_y / 2, np.asarray(x_um) - size_x / 2


def _row(study: Study, slide: str) -> SlideRow:
    row = next((row for row in study.slides if row.slide == slide), None)
    if row is None:
        known = ", ".join(row.slide for row in study.slides)
        raise UsageError(f"slides.csv has no slide {slide!r}", fix=f"It has {known}.")
    return row


def _committed(study: Study, relative: str, slide: str) -> Path:
    _row(study, slide)
    if not (study.results / relative).exists():
        raise UsageError(
            "this slide has no results yet", place=slide, fix=f"Type: mihc run {quoted_path(study.folder)}"
        )
    return Store(study.results).path(relative)
