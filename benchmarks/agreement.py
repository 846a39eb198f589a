"""Agreement with other programs' calls and counts on public data, per marker; docs/agreement.md holds the figures.

    python -m benchmarks.agreement DATA

DATA holds cells_prostate_halo_tma (HALO's objects with its own summary), vectra_inform_fihc4 (inForm's tables of two
small fields), vectra_inform_lung_more_fields (inForm's maps) and RESTRICTED_positivity_deepliif (a person's Ki67 calls
of one tile); what is not there is passed over. The larger sets with gates are in benchmarks/thresholds.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from benchmarks.inform_maps import PIXEL_UM, labels_of, most_of_nucleus, tissue_regions
from benchmarks.thresholds import kappa
from mihc.positives import call_positives, choose_threshold, populations
from mihc.regions import count_populations

HALO_MARKERS = {
    "FOXP3": "FOXP3 (Opal 620)", "CD3": "CD3 (Opal 570)", "CD8": "CD8 (Opal 520)", "PD1": "PD1 (Opal 650)",
    "PDL1": "PDL1 (Opal 540)",
}  # fmt: skip
HALO_PHENOTYPES = {
    "CD3+ FOXP3+": "CD3+ FOXP3+", "CD3+ CD8+": "CD3+ CD8+", "CD3+ CD8+ FOXP3+": "CD3+ CD8+ FOXP3+",
    "CD3+ PD1+": "CD3+ PD1+", "CD3+ PD-L1+": "CD3+ PDL1+", "CD8+ PD1+": "CD8+ PD1+",
    "CD3+ CD8+ PD-L1+": "CD3+ CD8+ PDL1+",
}  # fmt: skip
CLASSES = {"Tumor": "tumour", "Stroma": "stroma"}
INFORM = (("Cy5", "B"), ("Alexa 594", "Cytotoxic T"), ("FITC", "Helper T"), ("Alexa 594", "Epi"))


def halo_counts(folder: Path) -> pd.DataFrame:
    """Rows of regions.csv of each core, with HALO's own count of the same cells beside them.

    `theirs`: HALO's flags summed per Classifier Label; `summary`: its summary of the whole core, where its rows are.
    """
    summary = pd.read_csv(folder / "halo_summary.csv").set_index("deidentified_sample")
    tables = []
    for path in sorted(folder.glob("*_halo_objects.csv.gz")):
        objects = pd.read_csv(path)
        core = str(objects["deidentified_sample"].iloc[0])
        label = objects["Classifier.Label"]
        cells = pd.DataFrame({"region": label, "tissue_class": label.map(CLASSES)})
        given = {
            marker: (objects[f"{name.replace(' (', '..').replace(')', '..').replace(' ', '.')}Positive"] > 0).astype(
                "boolean"
            )
            for marker, name in HALO_MARKERS.items()
        }
        called = call_positives(cells, {}, compartments=dict.fromkeys(given, "cell"), phenotypes=HALO_PHENOTYPES,
                                given=given)  # fmt: skip
        names = populations(given, HALO_PHENOTYPES)
        rows = count_populations(pd.concat([cells, called], axis=1), populations=names, area_mm2={})
        flags = {name: objects[f"{HALO_MARKERS[name].replace(' (', '..').replace(')', '..').replace(' ', '.')}Positive"]
                 for name in given}  # fmt: skip
        flags |= {
            name: objects[name.replace("+ ", "..").replace("+", ".").replace("PD-L1", "PD.L1")]
            for name in HALO_PHENOTYPES
        }
        theirs = [int((flags[r.population][(label == r.region).to_numpy()] > 0).sum()) for r in rows.itertuples()]
        named = {**{k: f"{v} Positive Cells" for k, v in HALO_MARKERS.items()}, **{k: f"{k} Cells" for k in flags
                 if k in HALO_PHENOTYPES}}  # fmt: skip
        whole = [int(summary.loc[core, named[name]]) for name in rows["population"]]
        tables.append(rows.assign(core=core, theirs=theirs, summary=whole))
    return pd.concat(tables, ignore_index=True)


def calls(data: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Set, marker, values and the calls that came with them."""
    folder = data / "vectra_inform_fihc4"
    for path in sorted(folder.glob("*_cell_seg_data.txt")):
        cells = pd.read_csv(path, sep="\t")
        for dye, phenotype in INFORM:
            called = (cells["Phenotype"] == phenotype).to_numpy()
            (column,) = [name for name in cells if name.startswith(f"Entire Cell {dye} Mean")]
            values = pd.to_numeric(cells[column], errors="coerce").to_numpy()
            known = np.isfinite(values)
            if called.sum() > 5:
                field = path.name.split("_HP_")[1].removesuffix("_cell_seg_data.txt")
                yield f"fihc4 {field}", f"{dye}: {phenotype}", values[known], called[known]
    folder = data / "RESTRICTED_positivity_deepliif"
    if folder.exists():
        labels, image = tifffile.imread(folder / "Lung1_lab.tif"), tifffile.imread(folder / "Lung1.ome.tif")
        cells = pd.read_csv(folder / "Lung1_cells.csv")
        sums = np.bincount(labels.ravel(), weights=image[2].ravel().astype(float))
        means = sums / np.maximum(np.bincount(labels.ravel()), 1)
        yield "deepliif Lung1", "Ki67", means[cells["label"]], cells["Ki67_positive"].to_numpy(bool)


def best_cut(values: np.ndarray, truth: np.ndarray) -> float:
    """The best kappa that any threshold of these values can have: what is left is not the threshold's fault."""
    return max(kappa(truth, values >= cut) for cut in np.unique(values))


def main(data: Path) -> None:
    """Print the figures."""
    folder = data / "cells_prostate_halo_tma"
    if folder.exists():
        rows = halo_counts(folder)
        exact = (rows["positive_cells"] == rows["theirs"]).sum()
        whole = rows.groupby(["core", "population"]).agg({"positive_cells": "sum", "summary": "first"})
        same = int((whole["positive_cells"] == whole["summary"]).sum())
        print(f"HALO: {exact} of {len(rows)} counts per core, Classifier Label and population are exact;")
        print(f"      {same} of {len(whole)} counts of whole cores are those of HALO's summary")
        print(rows.groupby("core")["cells"].agg(lambda cells: cells.iloc[0]).to_string())
    print("set, marker, cells, theirs %, ours %, verdict, kappa, best kappa of any threshold")
    for place, marker, values, truth in calls(data):
        chosen = choose_threshold(values)
        ours = values >= chosen.value if np.isfinite(chosen.value) else None
        if chosen.verdict == "negative slide":
            ours = np.zeros(len(values), bool)
        told = "  -      -  " if ours is None else f"{100 * ours.mean():5.1f} {kappa(truth, ours):6.2f}"
        print(f"{place:16s} {marker:22s} {len(values):4d} {100 * truth.mean():5.1f} {told} {chosen.verdict:15s} "
              f"best {best_cut(values, truth):5.2f}  {chosen.reason}")  # fmt: skip
    for maps in sorted((data / "vectra_inform_lung_more_fields").glob("*_binary_seg_maps.tif")):
        regions, extent = tissue_regions(maps)
        labels = labels_of(maps)
        held = pd.Series(most_of_nucleus(labels, regions)[np.unique(labels)[1:]]).value_counts()
        print(maps.name, f"{extent[0] * extent[1] / 1e6:.4f} mm² imaged")
        with tifffile.TiffFile(maps) as file:
            tissue = file.pages[0].asarray()
        pixels = np.sort(np.bincount(tissue.ravel()))[::-1]
        areas = sorted((region.area_mm2 for region in regions), reverse=True)
        worst = max(abs(area * 1e6 / PIXEL_UM**2 - count) for area, count in zip(areas, pixels[pixels > 0]))
        for region in regions:
            nuclei = int(held.get(region.name, 0))
            density = nuclei / region.area_mm2
            print(f"   {region.name:12s} {region.area_mm2:.6f} mm², {nuclei} nuclei, {density:.0f} per mm²")
        print(f"   largest difference of an area from its pixels: {worst:.6f} pixels")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
