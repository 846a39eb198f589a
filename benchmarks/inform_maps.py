"""inForm's areas, densities and tissue categories reproduced from its own maps (akoyabio/phenoptr's sample field).

    python -m benchmarks.inform_maps FOLDER

FOLDER holds *_binary_seg_maps.tif (page 1 the tissue map, page 2 the nucleus labels), *_cell_seg_data.csv.gz and
*_cell_seg_data_summary.txt. The tissue map's classes become polygons along their pixels' edges and go the way of
annotations; inForm's cells go to them by its positions and by the centroids of its nucleus labels (mihc's rule), and
by most of the nucleus' pixels (inForm's rule, which the table follows).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
import tifffile

from mihc.cells import measure_cells
from mihc.regions import (
    Region,
    assign_regions,
    check_regions,
    count_populations,
    map_classes,
    mask_to_polygons,
    partition,
    rasterise,
)

PIXEL_UM = 0.5
CLASSES = {"Tumor": "tumour", "Stroma": "stroma", "Background": "excluded"}


def tissue_regions(maps: Path) -> tuple[list[Region], tuple[float, float]]:
    """The tissue map as regions that were drawn by hand would come: read, mapped, checked; and its height and width."""
    with tifffile.TiffFile(maps) as file:
        page = file.pages[0]
        tissue, names = page.asarray(), re.findall(r"<Name>(.*?)</Name>", page.description)
    extent = (tissue.shape[0] * PIXEL_UM, tissue.shape[1] * PIXEL_UM)
    drawn = [
        Region(name, name, mask_to_polygons(tissue == index, pixel_size_um=(PIXEL_UM, PIXEL_UM)))
        for index, name in enumerate(names)
        if (tissue == index).any()
    ]
    regions, _ = check_regions(map_classes(drawn, CLASSES), extent_um=extent, place=maps.name)
    return partition(regions, scanned=shapely.box(0, 0, extent[1], extent[0])), extent


def labels_of(maps: Path) -> np.ndarray:
    """inForm's nucleus labels, (y, x) uint32."""
    with tifffile.TiffFile(maps) as file:
        return file.pages[1].asarray().astype(np.uint32)


def summary_of(path: Path) -> pd.DataFrame:
    """inForm's own counts, areas and densities per tissue category and phenotype."""
    table = pd.read_csv(path, sep="\t")
    names = {
        "Tissue Category": "category",
        "Phenotype": "phenotype",
        "Total Cells": "cells",
        "Tissue Category Area (pixels)": "area_px",
        "Cell Density (per megapixel)": "per_megapixel",
    }
    return table[list(names)].rename(columns=names)


def counted(cells: pd.DataFrame, called: pd.DataFrame, regions: list[Region]) -> pd.DataFrame:
    """Rows of regions.csv for inForm's phenotypes."""
    columns: dict[str, str] = {}
    for phenotype in sorted(cells["Phenotype"].unique()):
        columns[phenotype] = f"{phenotype} here"
        called[columns[phenotype]] = (cells["Phenotype"] == phenotype).astype("boolean").to_numpy()
    areas = {(region.name, region.tissue_class): region.area_mm2 for region in regions}
    return count_populations(called, populations=columns, area_mm2=areas)


def compare(rows: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """The largest differences from inForm's table."""
    found = theirs.assign(region=theirs["category"]).merge(
        rows, left_on=["region", "phenotype"], right_on=["region", "population"], suffixes=("_theirs", "")
    )
    density = found["per_megapixel"] / PIXEL_UM**2  # a megapixel is PIXEL_UM² mm²; given to four digits
    return {
        "rows compared": len(found),
        "area, mm²": float((found["area_mm2"] - found["area_px"] * PIXEL_UM**2 / 1e6).abs().max()),
        "cells": float((found["positive_cells"] - found["cells_theirs"]).abs().max()),
        "density, %": float((100 * (found["density_per_mm2"] / density - 1).abs()).replace(np.inf, np.nan).max()),
    }


def most_of_nucleus(labels: np.ndarray, regions: list[Region]) -> np.ndarray:
    """For each label the name of the region that holds most of its pixels: inForm's rule, not mihc's."""
    painted = rasterise(regions, labels.shape, PIXEL_UM)
    counts = np.zeros((labels.max() + 1, len(regions) + 1), dtype=np.int64)
    np.add.at(counts, (labels.ravel(), painted.ravel()), 1)
    return np.array(["", *(region.name for region in regions)], dtype=object)[counts.argmax(axis=1)]


def main(folder: Path) -> None:
    """Print how far mihc is from inForm."""
    maps = next(folder.glob("*_binary_seg_maps.tif"))
    cells = pd.read_csv(next(folder.glob("*_cell_seg_data.csv.gz")))
    theirs = summary_of(next(folder.glob("*_cell_seg_data_summary.txt")))
    regions, _ = tissue_regions(maps)
    for region in regions:
        print(f"{region.name:12s} {region.area_mm2 * 1e6 / PIXEL_UM**2:12.1f} pixels, {region.area_mm2:.6f} mm²")
    labels = labels_of(maps)
    dark = np.zeros((1, *labels.shape), np.uint16)
    measured = measure_cells(dark, labels, labels, markers=["none"], pixel_size_um=PIXEL_UM)
    centroids = measured.set_index("cell").reindex(cells["Cell ID"])
    print(f"{len(measured)} nucleus labels, {len(cells)} rows of cells, {int(centroids['x_um'].notna().sum())} in both")
    places = {
        "inForm's positions": (cells["Cell X Position"].to_numpy(float), cells["Cell Y Position"].to_numpy(float)),
        "centroids of inForm's nuclei": (centroids["x_um"].to_numpy(), centroids["y_um"].to_numpy()),
    }  # fmt: skip
    for name, (x, y) in places.items():
        called = assign_regions(x, y, regions)
        same = (called["region"] == cells["Tissue Category"]).to_numpy()
        print(f"{name}: {int(same.sum())} of {len(cells)} cells in inForm's category ({100 * same.mean():.2f} %)")
        print("   largest differences:", compare(counted(cells, called, regions), theirs))
    region = most_of_nucleus(labels, regions)[cells["Cell ID"].to_numpy()]
    same = region == cells["Tissue Category"].to_numpy()
    print(f"by inForm's rule, most of the nucleus' pixels: {int(same.sum())} of {len(cells)} cells in its category")
    called = pd.DataFrame({"region": region, "tissue_class": pd.Series(region).map(CLASSES)})
    print("   largest differences:", compare(counted(cells, called, regions), theirs))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
