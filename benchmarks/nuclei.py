"""How well nuclei are found on pictures with drawn truth, beside the scikit-image recipe, and how fast.

    python benchmarks/nuclei.py DATA [--overlays FOLDER] [SET ...]

DATA holds a folder per set, with pictures <name>_img.png or .tif and their truth <name>_lab.tif (labels), or
img2d.tif and mask2d.tif. Files without a pixel size get the one that makes their median true nucleus 8 µm across; the
column "one size" withholds that: one pixel size for the set, that of its median nucleus. F1 is at IoU above 0.5. The
overlays are the ten worst pictures: truth cyan, found yellow.

A set of clumps of two has centres instead (pairs_img.tif, pairs_clump_lab.tif, pairs_nucleus_centres.csv with y, x):
the share of them that a nucleus of ours, each counting once, has its centroid within half a radius of.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from skimage import io

import mihc
from benchmarks.peers import f1, recipe

USUAL_UM = 8.0
Picture = tuple[str, np.ndarray, np.ndarray]


def pictures(folder: Path) -> Iterator[Picture]:
    """Name, image (y, x) and true labels (y, x) of a set's pictures."""
    for truth in sorted([*folder.glob("*_lab.tif"), *folder.glob("mask2d.tif")]):
        stem = truth.name.replace("_lab.tif", "_img").replace("mask2d.tif", "img2d")
        found = [folder / (stem + ending) for ending in (".png", ".tif") if (folder / (stem + ending)).exists()]
        if found and "membrane" not in stem:
            image, labels = io.imread(found[0]), tifffile.imread(truth)
            if labels.ndim == 2:
                yield f"{folder.name}/{stem}", image if image.ndim == 2 else image[..., :3].max(-1), labels


def usual_px(labels: np.ndarray) -> float:
    """Diameter in pixels of the median true nucleus."""
    areas = np.bincount(labels.ravel())[1:]
    return float(2 * np.sqrt(np.median(areas[areas > 0]) / np.pi))


def scored(method: Callable, found: list[Picture], diameters: list[float]) -> tuple[list[float], float]:
    """F1 of each picture, and CPU seconds of the second of two passes: the first one compiles."""
    for _ in range(2):
        started = time.process_time()
        labels = [method(image, USUAL_UM / diameter) for (_, image, _), diameter in zip(found, diameters)]
        seconds = time.process_time() - started
    return [f1(each, truth) for each, (_, _, truth) in zip(labels, found)], seconds


def centres_found(folder: Path, method: Callable) -> tuple[int, int]:
    """Marked centres that have a nucleus of their own near by, and how many are marked."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist
    from skimage.measure import regionprops_table

    image, clumps = (tifffile.imread(folder / f"pairs_{name}.tif") for name in ("img", "clump_lab"))
    marked = pd.read_csv(folder / "pairs_nucleus_centres.csv")[["y", "x"]].to_numpy()
    diameter = usual_px(clumps) / np.sqrt(2)  # a clump is two nuclei
    table = regionprops_table(method(image, USUAL_UM / diameter), properties=("centroid",))
    near = cdist(marked, np.column_stack([table["centroid-0"], table["centroid-1"]])) <= diameter / 4
    return int(near[linear_sum_assignment(near, maximize=True)].sum()), len(marked)


def draw(folder: Path, rank: int, picture: Picture, score: float) -> None:
    """A PNG of the picture with the outlines of truth (cyan) and of what was found (yellow)."""
    from skimage.segmentation import find_boundaries

    name, image, truth = picture
    found = mihc.segment_nuclei(image, pixel_size_um=USUAL_UM / usual_px(truth))
    times = max(1, round(900 / max(image.shape)))
    low, high = np.quantile(image, (0.01, 0.998))
    grey = np.clip((image - low) / max(high - low, 1), 0, 1) ** 0.6
    rgb = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2).repeat(times, 0).repeat(times, 1)
    for labels, colour in ((truth, (0, 230, 230)), (found, (255, 220, 0))):
        rgb[find_boundaries(labels.repeat(times, 0).repeat(times, 1), mode="inner")] = colour
    folder.mkdir(parents=True, exist_ok=True)
    io.imsave(folder / f"{rank:02d}_{score:.2f}_{name.replace('/', '_')}.png", rgb, check_contrast=False)


def segmented(image: np.ndarray, pixel_size_um: float) -> np.ndarray:
    return mihc.segment_nuclei(image, pixel_size_um=pixel_size_um)


def by_recipe(image: np.ndarray, pixel_size_um: float) -> np.ndarray:
    return recipe(image, local=True, diameter_px=USUAL_UM / pixel_size_um)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--overlays", type=Path)
    chosen = parser.parse_args()
    folders = [chosen.data / name for name in chosen.sets] or sorted(chosen.data.glob("nuclei_*"))
    print(f"{'set':28s}   n    mihc  worst one size  recipe  times as fast as the recipe")
    all_scores = []
    for folder in folders:
        if (folder / "pairs_nucleus_centres.csv").exists():
            (ours, marked), (theirs, _) = (centres_found(folder, method) for method in (segmented, by_recipe))
            print(f"{folder.name:28s} {marked:3d}  {ours / marked:6.3f}{theirs / marked:25.3f}   (centres)")
            continue
        found = list(pictures(folder))
        if not found:
            continue
        told = [usual_px(truth) for _, _, truth in found]
        withheld = [float(np.median(told))] * len(found)
        scores, seconds = scored(segmented, found, told)
        blind, _ = scored(segmented, found, withheld)
        theirs, their_seconds = scored(by_recipe, found, told)
        all_scores += zip(scores, found)
        print(
            f"{folder.name:28s} {len(found):3d}  {np.mean(scores):6.3f} {min(scores):6.3f} {np.mean(blind):8.3f}  "
            f"{np.mean(theirs):6.3f}  {their_seconds / seconds:6.1f}"
        )
    if chosen.overlays:
        for rank, (score, picture) in enumerate(sorted(all_scores, key=lambda one: one[0])[:10]):
            draw(chosen.overlays, rank, picture, score)
            print(f"{score:.3f} {picture[0]}")


if __name__ == "__main__":
    main()
