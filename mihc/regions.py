"""Tissue, tumour, stroma, annotations, margins and the area ledger.

A region is vector geometry in µm: x right, y down, 0 at the top-left corner of the slide's first pixel. A cell belongs
to the region that holds its nucleus centroid, by a half-open rule, so every cell is in exactly one or outside all.

    read_regions -> map_classes -> check_regions -> assign_regions (cells)
                                                 -> partition -> area_ledger, count_populations (areas)
    find_tissue, automatic_regions: the same from pixels, where nobody drew
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from shapely.geometry import Polygon

from mihc.annotations.shapes import Outlines, Shape, polygons_of
from mihc.annotations.strokes import Stroke
from mihc.areas.automatic import FoundRegions, automatic_regions, find_tissue, tissue_mask
from mihc.areas.bands import Bands, band_areas
from mihc.areas.classifier import GLASS, TissueClass
from mihc.areas.counts import count_bands, count_populations, region_codes
from mihc.areas.exclusions import excluded_regions
from mihc.areas.ledger import area_ledger, check_ledger, ledger_warnings, moved_cells, partition
from mihc.areas.margins import distance_to_margin, distance_to_outline, tumour_outline
from mihc.areas.membership import Edges, first_holder
from mihc.areas.outlines import mask_to_polygons
from mihc.areas.region import (
    ANALYSED,
    OUTSIDE,
    PRECEDENCE,
    TISSUE_CLASSES,
    Region,
    by_precedence,
    united,
)
from mihc.errors import CONTROL, AnnotationError
from mihc.windows import pixel_size_pair

__all__ = [
    "ANALYSED",
    "DEFAULT_CLASSES",
    "OUTSIDE",
    "PRECEDENCE",
    "TISSUE_CLASSES",
    "Bands",
    "Edges",
    "FoundRegions",
    "Region",
    "area_ledger",
    "assign_regions",
    "automatic_regions",
    "band_areas",
    "check_ledger",
    "check_regions",
    "check_strokes",
    "class_of",
    "count_bands",
    "count_populations",
    "distance_to_margin",
    "distance_to_outline",
    "excluded_regions",
    "find_tissue",
    "ledger_warnings",
    "map_classes",
    "map_strokes",
    "mask_to_polygons",
    "moved_cells",
    "partition",
    "rasterise",
    "read_annotations",
    "read_regions",
    "region_codes",
    "region_edges",
    "tissue_mask",
    "tumour_outline",
]

# What people call things, compared without case. A derived class ("Tumor: CD8") is mapped in study.toml or not at all.
DEFAULT_CLASSES = {
    **dict.fromkeys(["tumour", "tumor", "tumour epithelium", "tumor epithelium", "carcinoma", "cancer"], "tumour"),
    **dict.fromkeys(["stroma", "tumour stroma", "tumor stroma"], "stroma"),
    **dict.fromkeys(["other", "other tissue", "normal"], "other"),
    **dict.fromkeys(
        ["necrosis", "necrotic", "fold", "folds", "tissue fold", "debris", "artefact", "artifact"], "excluded"
    ),
    **dict.fromkeys(["exclude", "exclude*", "excluded", "exclusion", "ignore", "ignore*", "ignored"], "excluded"),
}

GLASS_NAMES = ("glass", "background", "outside", "empty")  # of strokes, where there is no tissue


def read_regions(path: str | Path, *, pixel_size_um: float | tuple[float, float]) -> list[Region]:
    """Return the regions of an annotation file of QuPath (.geojson), HALO (.annotations), ImageJ (.roi, .zip) or ASAP.

    Outlines of one name and class are united; an unnamed one takes its class as name. `tissue_class` is as the file has
    it ("" when it has none) until `map_classes`. What was left aside (rulers, comments, cells) comes as a UserWarning.
    Raises AnnotationError naming the feature, and the point where geometry is broken.
    """
    regions, notes = read_annotations(path, pixel_size_um=pixel_size_um)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return regions


def read_annotations(
    path: str | Path,
    *,
    pixel_size_um: float | tuple[float, float],
    slide: str = "",
    size_px: tuple[int, int] | None = None,
    repair: str = "none",
) -> tuple[list[Region], list[str]]:
    """Return the regions of an annotation file as `read_regions` does, and its warnings as text.

    Where `slide` and `size_px` (height, width) are given and the file says which slide it was drawn on, they must
    agree. `repair` = "even-odd" takes what an odd number of loops holds of an outline that crosses itself, and says so.
    """
    outlines = _reader(Path(path))(Path(path), even_odd=repair == "even-odd")
    _must_be_of(outlines, slide, size_px, Path(path).name)
    shapes, repeated = _without_repeats(outlines.shapes)
    notes = [
        *outlines.notes,
        *(f"{place}: the same outline, name and class as before, counted once" for place in repeated),
    ]
    size_y, size_x = (1.0, 1.0) if outlines.in_um else pixel_size_pair(pixel_size_um)
    regions = [
        Region(
            _writable(shape.name or shape.tissue_class, shape.place),
            _writable(shape.tissue_class, shape.place),
            shapely.normalize(shapely.transform(shape.polygon_px, lambda xy: xy * (size_x, size_y))),
        )
        for shape in shapes
    ]
    return united(regions), notes


def _writable(name: str, place: str) -> str:
    """A name, with U+FFFD for half a character of UTF-16, which JSON can say and no file can hold."""
    if CONTROL.search(name):
        fix = "Rename it where it was drawn, and export again."
        raise AnnotationError(f"the name {name[:60]!r} holds a control character", place=place, fix=fix)
    return name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _must_be_of(outlines: Outlines, slide: str, size_px: tuple[int, int] | None, place: str) -> None:
    """Refuse what was drawn on another slide, as far as the file says."""
    found = f"slide {outlines.slide}" if slide and outlines.slide not in ("", slide) else ""
    if size_px is not None and outlines.size_px not in (None, tuple(size_px)):
        found = "an image of {1} x {0} pixels".format(*outlines.size_px)
    if found:
        raise AnnotationError(
            f"drawn on {found}, and this is {slide or 'another'}"
            + ("" if size_px is None else f" of {size_px[1]} x {size_px[0]} pixels"),
            place=place,
            fix="Export the annotations of this very slide, or remove the file.",
        )


def _reader(path: Path) -> Callable[..., Outlines]:
    from mihc.annotations.asap import read_asap
    from mihc.annotations.halo import read_halo
    from mihc.annotations.imagej import read_roi, read_roi_set
    from mihc.annotations.qupath import read_qupath

    readers = {".geojson": read_qupath, ".json": read_qupath, ".annotations": read_halo}
    readers |= {".roi": read_roi, ".zip": read_roi_set, ".xml": read_asap}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise AnnotationError(
            f"a file {path.suffix or 'without suffix'} cannot be read as regions",
            place=path.name,
            fix="QuPath's .geojson, HALO's .annotations, ImageJ's .roi and .zip and ASAP's .xml can.",
        )
    return reader


def _without_repeats(shapes: Sequence[Shape]) -> tuple[list[Shape], list[str]]:
    seen: set[tuple[str, str, bytes]] = set()
    kept, repeated = [], []
    for shape in shapes:
        key = (shape.name, shape.tissue_class, shapely.to_wkb(shapely.normalize(shape.polygon_px)))
        if key in seen:
            repeated.append(shape.place)
        else:
            kept.append(shape)
            seen.add(key)
    return kept, repeated


def map_classes(regions: Sequence[Region], classes: Mapping[str, str]) -> list[Region]:
    """Return the regions with their file's classes turned into mihc's: tumour, stroma, other, excluded.

    A class is looked up in `classes` (study.toml, [regions] classes) exactly, then without case, then in
    DEFAULT_CLASSES. A region without a class is looked up by its name, as some programs keep the class there.
    Raises AnnotationError listing every class that no map knows, with the line to add.
    """
    wrong = {key: value for key, value in classes.items() if value not in TISSUE_CLASSES}
    if wrong:
        key, value = next(iter(wrong.items()))
        raise AnnotationError(
            f"class {key!r} is mapped to {value!r}, which is none of {', '.join(TISSUE_CLASSES)}",
            place="study.toml, [regions] classes",
        )
    mapped = [(region, _mapped_class(region, classes)) for region in regions]
    unknown = Counter(region.tissue_class or region.name for region, tissue_class in mapped if tissue_class is None)
    if unknown:
        raise _unknown_classes(unknown)
    return united([replace(region, tissue_class=str(tissue_class)) for region, tissue_class in mapped])


def _mapped_class(region: Region, classes: Mapping[str, str]) -> str | None:
    return class_of(region.tissue_class or region.name, classes)


def class_of(label: str, classes: Mapping[str, str]) -> str | None:
    """What a class of an annotation file means, as `map_classes` looks it up; None where no map knows it."""
    folded = {key.casefold(): value for key, value in reversed(list(classes.items()))}
    return classes.get(label) or folded.get(label.casefold()) or DEFAULT_CLASSES.get(label.casefold())


def _unknown_classes(unknown: Counter[str], kind: str = "region") -> AnnotationError:
    listed = ", ".join(f"{label!r} ({count} {kind}{'s' * (count > 1)})" for label, count in unknown.items())
    lines = ", ".join(f'{_toml_key(label)} = "?"' for label in unknown)
    return AnnotationError(
        f"annotation class unknown: {listed}",
        place="annotations",
        fix=f"In study.toml, [regions], write tumour, stroma, other or excluded for each ?:\nclasses = {{ {lines} }}",
    )


def _toml_key(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)


def map_strokes(strokes: Sequence[Stroke], classes: Mapping[str, str]) -> list[TissueClass]:
    """Return what each stroke teaches: a tissue class as `map_classes` finds it, glass, or a reason to exclude.

    Raises AnnotationError listing every class that no map knows, with the line to add.
    """
    taught: list[TissueClass] = []
    unknown: Counter[str] = Counter()
    for stroke in strokes:
        found = class_of(stroke.label, classes)
        if found is None and stroke.label.casefold() in GLASS_NAMES:
            taught.append(TissueClass(GLASS, OUTSIDE))
        elif found is None:
            unknown[stroke.label] += 1
        else:
            taught.append(TissueClass(stroke.label.casefold() if found == "excluded" else found, found))
    if unknown:
        raise _unknown_classes(unknown, "stroke")
    return taught


def check_strokes(strokes: Sequence[Stroke], *, shape: tuple[int, int]) -> None:
    """Raise AnnotationError for a stroke of which more than 1 % lies outside an image of `shape` (y, x) pixels."""
    canvas = shapely.box(0, 0, shape[1], shape[0])
    for stroke in strokes:
        beyond = 1 - stroke.line_px.intersection(canvas).length / stroke.line_px.length
        if beyond > 0.01:
            x0, y0, x1, y1 = stroke.line_px.bounds
            raise AnnotationError(
                f"{100 * beyond:.3g} % of the stroke lies off the slide: another frame? It spans x {x0:.0f} to "
                f"{x1:.0f}, y {y0:.0f} to {y1:.0f} pixels; the image is {shape[1]} wide and {shape[0]} high",
                place=stroke.place,
                fix="Draw it on this very image (not a crop or another scene), in full-resolution pixels.",
            )


def check_regions(
    regions: Sequence[Region], *, extent_um: tuple[float, float], place: str = "annotations"
) -> tuple[list[Region], list[str]]:
    """Return the regions cut to the image, and a warning for each that reached up to 1 % of its area beyond it.

    `extent_um` is the image's (height, width) in µm. Raises AnnotationError for a region more than 1 % outside: it was
    drawn in another frame (a cropped export, another pixel size, another scene).
    """
    height, width = extent_um
    canvas = shapely.box(0, 0, width, height)
    inside, notes = [], []
    for region in regions:
        kept = polygons_of(region.polygon_um.intersection(canvas)) or Polygon()
        beyond = 1 - kept.area / region.polygon_um.area
        if shapely.covers(canvas, region.polygon_um):
            inside.append(region)
            continue
        if beyond > 0.01:
            raise _other_frame(region, beyond, extent_um, place)
        inside.append(replace(region, polygon_um=kept))
        notes.append(
            f'{place}: region "{region.name}": {100 * beyond:.2g} % of it lay outside the image and was cut off'
        )
    return inside, notes


def _other_frame(region: Region, beyond: float, extent_um: tuple[float, float], place: str) -> AnnotationError:
    x0, y0, x1, y1 = region.polygon_um.bounds
    return AnnotationError(
        f'region "{region.name}" lies {100 * beyond:.3g} % outside the image: another frame? '
        f"It spans x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f} µm; "
        f"the image is {extent_um[1]:.0f} wide and {extent_um[0]:.0f} high",
        place=place,
        fix="Export the annotations from this very image (not a crop or another scene), and check its pixel size.",
    )


def assign_regions(
    x_um: np.ndarray, y_um: np.ndarray, regions: Sequence[Region], *, precedence: Sequence[str] = PRECEDENCE
) -> pd.DataFrame:
    """Return region and tissue_class of each point, "outside" in both where no region holds it (or it is NaN).

    Where regions overlap, the class first in `precedence` has the point, within a class the region first in the list.
    A point is in a region when an odd number of its edges with y0 <= y < y1 cross the point's row strictly to the right
    of it: of two regions along a shared edge exactly one has a point on it, and a box is [left, right) x [top, bottom).
    """
    ordered = by_precedence(regions, precedence)
    holder = first_holder(x_um, y_um, [region.polygon_um for region in ordered])
    names = np.array([*(region.name for region in ordered), OUTSIDE], dtype=object)
    classes = np.array([*(region.tissue_class for region in ordered), OUTSIDE], dtype=object)
    return pd.DataFrame({"region": names[holder], "tissue_class": classes[holder]})


def rasterise(
    regions: Sequence[Region],
    shape: tuple[int, int],
    pixel_size_um: float | tuple[float, float],
    *,
    origin: tuple[int, int] = (0, 0),
    precedence: Sequence[str] = PRECEDENCE,
) -> np.ndarray:
    """Return uint32 (y, x): 1 + the index in `regions` of the region over each pixel's centre, 0 where none is.

    A picture for labels/regions: nothing is counted on it. `origin` is the window's first pixel (y, x) on the slide.
    """
    return region_edges(regions, precedence=precedence).paint(shape, pixel_size_pair(pixel_size_um), origin)


def region_edges(regions: Sequence[Region], *, precedence: Sequence[str] = PRECEDENCE) -> Edges:
    """The regions' edges, from which any part of `rasterise`'s picture is painted."""
    value = {id(region): index for index, region in enumerate(regions, start=1)}
    painted = by_precedence(regions, precedence)[::-1]
    return Edges.of([region.polygon_um for region in painted], [value[id(region)] for region in painted])
