"""A slide as SpatialData: image, labels, regions and the table that annotates the cells' labels.

The container (version 0.2, Zarr v3) is written by hand after what spatialdata 0.7 writes, because the library would
decode and encode every pixel anew; here the chunks are copied as they are. The coordinate system "global" is µm with 0
at the corner of the first pixel, as everywhere in mihc.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import shapely

import mihc
from mihc.exports.annotated import annotated
from mihc.exports.sources import Source
from mihc.regions import Region
from mihc.store import write_label_window
from mihc.stores.chunks import boxes

if TYPE_CHECKING:
    from anndata import AnnData

    from mihc.reviews.runs import EditedLabels

CONTAINER, RASTER, SHAPES, TABLE = "0.2", "0.3", "0.3", "0.2"
NGFF = "0.5-dev-spatialdata"  # what spatialdata calls NGFF 0.5 with a transformation to a named system
ELEMENT, INSTANCE = "element", "cell"  # columns of the table: which labels it annotates, and which label


def write_spatial_data(root: Path, source: Source, *, images: bool) -> None:
    """Write a slide's container; `images` = False leaves the picture out, and keeps labels, regions and table."""
    said = {"version": CONTAINER, "spatialdata_software_version": f"mihc {mihc.__version__}"}
    _write_group(root, {"spatialdata_attrs": said})
    stored = source.image()
    if images:
        _write_group(root / "images", {})
        _copy_raster(source.folder, root / "images" / "image", "cyx", stored.pixel_size_um, stored.channels)
    _write_group(root / "labels", {"ome": {"labels": ["cells", "nuclei"]}})
    for name in ("cells", "nuclei"):
        levels = source.label_levels(name)  # opening it checks that every chunk is there
        _copy_raster(source.folder / "labels" / name, root / "labels" / name, "yx", stored.pixel_size_um)
        if source.review and source.review.edits_cells:
            _lay_edits(root / "labels" / name, levels)
    regions = source.regions()
    if regions:
        _write_group(root / "shapes", {})
        _write_regions(root / "shapes" / "regions", regions)
    _write_group(root / "tables", {})
    _write_table(root / "tables", annotated(source))


def _write_group(folder: Path, attributes: Mapping[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    (folder / "zarr.json").write_text(json.dumps(group, indent=2, ensure_ascii=False), encoding="utf-8")


def _axes(names: str) -> list[dict[str, str]]:
    return [
        {"name": name, "type": "channel"} if name == "c" else {"name": name, "type": "space", "unit": "unit"}
        for name in names
    ]


def _to_global(kind: Mapping[str, object], names: str) -> list[dict[str, object]]:
    """A transformation from an element's own axes to the system "global", which is µm."""
    return [
        {**kind, "input": {"name": names, "axes": _axes(names)}, "output": {"name": "global", "axes": _axes(names)}}
    ]


def _copy_raster(
    source: Path, target: Path, names: str, pixel_size_um: tuple[float, float], channels: Sequence[str] = ()
) -> None:
    """Copy the levels of an image or of labels, and write what spatialdata wants to know about them."""
    ome = json.loads((source / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]
    levels = [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]]
    lead = [1.0] * (len(names) - 2)
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [*lead, 2.0**k, 2.0**k]}]}
        for k, path in enumerate(levels)
    ]
    said = {
        "version": NGFF,
        "multiscales": [
            {
                "name": target.name,
                "axes": [{key: value for key, value in axis.items() if key != "unit"} for axis in _axes(names)],
                "datasets": datasets,
                "coordinateTransformations": _to_global({"type": "scale", "scale": [*lead, *pixel_size_um]}, names),
            }
        ],
    }
    if channels:
        said["omero"] = {"channels": [{"label": channel} for channel in channels]}
    _write_group(target, {"ome": said, "spatialdata_attrs": {"version": RASTER}})
    for path in levels:
        shutil.copytree(source / path, target / path, copy_function=shutil.copyfile)


def _lay_edits(target: Path, levels: Sequence[EditedLabels]) -> None:
    """Write the chunks of copied labels that cell edits change."""
    for number, level in enumerate(levels):
        for y0, y1, x0, x1 in boxes(level.shape, level.chunks):
            edited = level[y0:y1, x0:x1]
            if not np.array_equal(edited, level.machine[y0:y1, x0:x1]):
                write_label_window(target, number, y0, x0, edited)


def _write_regions(folder: Path, regions: Sequence[Region]) -> None:
    """Write the regions as GeoParquet, µm."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = {
        "encoding-type": "ngff:shapes",
        "axes": ["x", "y"],
        "coordinateTransformations": _to_global({"type": "identity"}, "xy"),
        "spatialdata_attrs": {"version": SHAPES},
    }
    _write_group(folder, said)
    polygons = [region.polygon_um for region in regions]
    geometry = {
        "encoding": "WKB",
        "crs": None,
        "geometry_types": sorted({polygon.geom_type for polygon in polygons}),
        "bbox": shapely.total_bounds(polygons).tolist(),
    }
    table = pa.table(
        {
            "name": [region.name for region in regions],
            "tissue_class": [region.tissue_class for region in regions],
            "area_mm2": [region.area_mm2 for region in regions],
            "geometry": pa.array(shapely.to_wkb(polygons).tolist(), pa.binary()),
        }
    )
    geo = {"primary_column": "geometry", "columns": {"geometry": geometry}, "version": "1.1.0"}
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), folder / "shapes.parquet")


def _write_table(folder: Path, table: AnnData) -> None:
    """Write the table; it annotates labels/cells by their ids."""
    import anndata
    import zarr

    table.obs[ELEMENT] = pd.Categorical(["cells"] * table.n_obs, categories=["cells"])
    table.obs[INSTANCE] = table.obs[INSTANCE].astype(np.int64)
    keys = {"region": "cells", "region_key": ELEMENT, "instance_key": INSTANCE}
    table.uns["spatialdata_attrs"] = keys
    wanted = {"zarr_write_format": 3, "auto_shard_zarr_v3": False}  # a setting that this anndata lacks is its default
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "This setting will be removed", DeprecationWarning
        )  # anndata 0.13, of the first
        known = {name: value for name, value in wanted.items() if hasattr(anndata.settings, name)}
        with anndata.settings.override(**known):
            group = zarr.open_group(str(folder), mode="a")
            anndata.io.write_elem(group, "table", table)
    path = folder / "table" / "zarr.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["attributes"] |= {"spatialdata-encoding-type": "ngff:regions_table", "version": TABLE, **keys}
    path.write_text(json.dumps(told, indent=2), encoding="utf-8")
