"""A whole study with its truth: slides, annotations, follow-up, and the files a person would have written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from mihc.drawing.files import Outline, write_halo, write_ome_tiff, write_qupath
from mihc.drawing.follow_up import draw_follow_up
from mihc.drawing.nuclei import Densities
from mihc.drawing.slide import DrawnSlide, draw_slide
from mihc.drawing.study_files import CLASS_NAMES, PANEL, PHENOTYPES, README, STUDY_TOML
from mihc.drawing.tissue import Layout

PLANTED = {"population": "CD20", "tissue_class": "tumour", "measure": "density_per_mm2"}
RELATED = (
    "CD20",
    "B cell",
    "proliferating B cell",
    "CD21",
    "PanCK",
)  # B cells, and the tumour cells that they displace
INDEPENDENT = ("CD3", "CD8", "cytotoxic T cell", "Ki67")  # of the outcome and of the planted density
ENOUGH_PATIENTS = 14  # for the drawn densities to be made exactly uncorrelated


@dataclass(frozen=True)
class SlideRecipe:
    """All that is needed to draw one slide of a study."""

    slide: str
    patient: str  # "" for a control
    seed: int
    layout: Layout
    densities: Densities
    annotations: str = ""  # "" (left to the automatic regions) | "qupath" | "qupath_overlapping" | "halo"
    control: str = ""


def draw_study(
    folder: str | Path,
    *,
    patients: int = 36,
    seed: int = 7,
    hazard_ratio: float = 0.4,
    size_px: tuple[int, int] = (1024, 1024),
    executor: Executor | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Draw a study folder that `mihc run` can run, with truth/ beside it; return the folder.

    One slide for each patient, two for every ninth, and a negative control. The density of CD20+ cells in tumour
    varies between patients and sets the hazard of progression and death (`hazard_ratio` per SD of log1p). CD3, CD8 and
    Ki67 vary independently of it and of the outcome; from 14 patients on, what is asked for is exactly uncorrelated.
    Every other slide has annotations. `executor` draws slides in parallel; `progress` is called with each slide's id as
    it is done. The same arguments draw the same study.
    """
    folder = Path(folder)
    for name in ("slides", "annotations", "truth/cells", "truth/nuclei", "truth/regions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    recipes = plan_study(patients, seed)
    tasks = [(folder, recipe, size_px) for recipe in recipes]
    counted = []
    for recipe, rows in zip(recipes, _each(executor, _draw_and_write, tasks)):
        counted.append(rows)
        if progress:
            progress(recipe.slide)
    regions = pd.concat(counted, ignore_index=True)
    density = planted_density(regions)
    _write_study(
        folder, recipes, regions, density, {"seed": seed, "hazard_ratio": hazard_ratio, "pixel_size_um": 0.5, **PLANTED}
    )
    redraw_follow_up(folder, seed=seed)
    return folder


def redraw_follow_up(folder: str | Path, *, seed: int) -> pd.DataFrame:
    """Draw a new follow-up for the patients of a drawn study and write it to its clinical.csv."""
    folder = Path(folder)
    planted = json.loads((folder / "truth" / "planted.json").read_text(encoding="utf-8"))
    truth = pd.read_csv(folder / "truth" / "patients.csv", dtype={"patient": str})
    density = truth.set_index("patient")["planted_density_per_mm2"]
    clinical = draw_follow_up(density, hazard_ratio=planted["hazard_ratio"], seed=seed)
    clinical.to_csv(folder / "clinical.csv", index=False, lineterminator="\n")
    return clinical


def planted_density(regions: pd.DataFrame) -> pd.Series:
    """Density of the planted population by patient, slides pooled, from the rows of truth/regions.csv."""
    mine = (regions["population"] == PLANTED["population"]) & (regions["tissue_class"] == PLANTED["tissue_class"])
    pooled = regions[mine & (regions["patient"] != "")].groupby("patient")[["positive_cells", "area_mm2"]].sum()
    return pooled["positive_cells"] / pooled["area_mm2"]


def plan_study(patients: int, seed: int) -> list[SlideRecipe]:
    """Decide what to draw for every slide."""
    rng = np.random.default_rng([seed, 1])
    scores = _uncorrelated_scores(patients, 9, rng)
    recipes: list[SlideRecipe] = []
    for i in range(patients):
        for _ in range(2 if i % 9 == 4 else 1):
            k = len(recipes)
            annotations = ("qupath", "", "qupath_overlapping", "", "halo", "")[k % 6]
            layout = _layout(scores[i], annotated=bool(annotations), k=k, rng=rng)
            name = f"S{k + 1:02d}"
            recipes.append(
                SlideRecipe(name, f"{i + 1:03d}", seed * 1000 + k, layout, _densities(scores[i]), annotations)
            )
    control = SlideRecipe("CONTROL", "", seed * 1000 + 999, Layout(), Densities(), control="negative")
    return [*recipes, control]


def _uncorrelated_scores(patients: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """(patients, columns) normal scores, mean 0 and SD 1, uncorrelated in this very sample where it is large enough."""
    scores = rng.standard_normal((patients, columns))
    if patients < ENOUGH_PATIENTS:
        return scores
    orthonormal, _ = np.linalg.qr(scores - scores.mean(axis=0))
    return orthonormal * np.sqrt(patients - 1)


def _densities(score: np.ndarray) -> Densities:
    def around(median: float, spread: float, of: int) -> float:
        return median * float(np.exp(spread * np.clip(score[of], -2.2, 2.2)))

    return Densities(
        b_tumour=around(240, 0.85, 0),
        t_tumour=around(380, 0.45, 1),
        t_stroma=around(750, 0.40, 2),
        cd8_share=float(np.clip(0.45 + 0.09 * score[3], 0.2, 0.7)),
        ki67_tumour=around(800, 0.45, 4),
        ki67_stroma=around(300, 0.35, 5),
        cells_tumour=around(5000, 0.06, 6),
    )


def _layout(score: np.ndarray, *, annotated: bool, k: int, rng: np.random.Generator) -> Layout:
    return Layout(
        tumour_fraction=float(np.clip(0.44 + 0.05 * score[7], 0.32, 0.58)),
        nest_um=float(rng.uniform(62, 92)),
        aggregates=1 if score[8] > 0.2 else 0,
        aggregate_radius_um=float(np.clip(52 + 6 * score[8], 48, 64)),
        glass_fraction=float(rng.choice([0.0, 0.08, 0.12, 0.18])),
        fold=(k % 10 == 6) or (k % 20 == 3),
        necrosis=annotated and k % 8 == 2,
    )


def _each(executor: Executor | None, function: Callable, tasks: list[tuple]) -> Iterable:
    """Results in the order of the tasks."""
    if executor is None:
        return (function(*task) for task in tasks)
    futures = [executor.submit(function, *task) for task in tasks]
    return (future.result() for future in futures)


def _draw_and_write(folder: Path, recipe: SlideRecipe, size_px: tuple[int, int]) -> pd.DataFrame:
    """Draw one slide, write it with its annotations and truth; return its rows of truth/regions.csv."""
    import tifffile

    drawn = draw_slide(
        seed=recipe.seed,
        size_px=size_px,
        layout=recipe.layout,
        densities=recipe.densities,
        antibodies=not recipe.control,
    )
    path = folder / "slides" / f"{recipe.slide}.ome.tif"
    write_ome_tiff(path, drawn.image, channels=drawn.channels, pixel_size_um=drawn.pixel_size_um)
    _write_annotations(folder / "annotations", recipe, drawn)
    truth = folder / "truth"
    tifffile.imwrite(truth / "nuclei" / f"{recipe.slide}.tif", drawn.nuclei, compression="zlib")
    outlines = [(region.name, region.polygon_um) for region in drawn.regions]
    write_qupath(truth / "regions" / f"{recipe.slide}.geojson", outlines, drawn.pixel_size_um)
    cells = with_phenotypes(drawn.table)
    cells.insert(0, "slide", recipe.slide)
    cells.to_parquet(truth / "cells" / f"{recipe.slide}.parquet", index=False)
    rows = count_truth(cells, drawn)
    rows.insert(0, "patient", recipe.patient)
    rows.insert(0, "slide", recipe.slide)
    return rows.assign(annotations=recipe.annotations, control=recipe.control)


def with_phenotypes(table: pd.DataFrame) -> pd.DataFrame:
    """The truth of the cells with a column phenotype_<name> for each phenotype of the study."""
    found = table.copy()
    for name, (positive, _) in PHENOTYPES.items():
        found[f"phenotype_{name}"] = np.logical_and.reduce([table[f"{marker}_positive"] for marker in positive])
    return found


def count_truth(cells: pd.DataFrame, drawn: DrawnSlide) -> pd.DataFrame:
    """Cells and positive cells by region and population, counted where the drawn nuclei's centroids lie."""
    columns = {c.removesuffix("_positive"): c for c in cells if c.endswith("_positive")}
    columns |= {c.removeprefix("phenotype_"): c for c in cells if c.startswith("phenotype_")}
    rows = []
    for region in drawn.regions:
        here = cells[cells["region"] == region.name]
        for population, column in columns.items():
            positive = int(here[column].sum())
            rows.append((region.name, region.tissue_class, population, len(here), positive, region.area_mm2))
    names = ["region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
    found = pd.DataFrame(rows, columns=names)
    found["positivity_percent"] = found["positive_cells"] / found["cells"].where(found["cells"] > 0) * 100
    found["density_per_mm2"] = found["positive_cells"] / found["area_mm2"]
    return found


def _write_annotations(folder: Path, recipe: SlideRecipe, drawn: DrawnSlide) -> None:
    if recipe.annotations == "halo":
        write_halo(folder / f"{recipe.slide}.annotations", _outlines(drawn), drawn.pixel_size_um)
    elif recipe.annotations:
        outlines = _outlines(drawn, overlapping=recipe.annotations == "qupath_overlapping")
        write_qupath(folder / f"{recipe.slide}.geojson", outlines, drawn.pixel_size_um)


def _outlines(drawn: DrawnSlide, *, overlapping: bool = False) -> list[Outline]:
    """What a pathologist draws; overlapping = the stroma's outline takes in all that lies in it."""
    regions = [region for region in drawn.regions if region.name in CLASS_NAMES]
    outlines = [(CLASS_NAMES[region.name], region.polygon_um) for region in regions]
    if overlapping:
        tissue = shapely.union_all([polygon for _, polygon in outlines], grid_size=drawn.pixel_size_um)
        outlines = [(name, tissue if name == "Stroma" else polygon) for name, polygon in outlines]
    return outlines


def _write_study(
    folder: Path, recipes: list[SlideRecipe], regions: pd.DataFrame, density: pd.Series, planted: dict
) -> None:
    slides = pd.DataFrame(
        {
            "slide": [recipe.slide for recipe in recipes],
            "file": [f"slides/{recipe.slide}.ome.tif" for recipe in recipes],
            "patient": [recipe.patient for recipe in recipes],
            "control": [recipe.control for recipe in recipes],
        }
    )
    slides.to_csv(folder / "slides.csv", index=False, lineterminator="\n")
    (folder / "study.toml").write_text(STUDY_TOML, encoding="utf-8")
    (folder / "panel.csv").write_text(PANEL, encoding="utf-8")
    truth = folder / "truth"
    regions.to_csv(truth / "regions.csv", index=False, lineterminator="\n")
    asked = {r.patient: r.densities.b_tumour for r in recipes if r.patient}
    patients = pd.DataFrame({"patient": density.index, "planted_density_per_mm2": density.to_numpy()})
    patients["asked_density_per_mm2"] = patients["patient"].map(asked)
    patients.to_csv(truth / "patients.csv", index=False, lineterminator="\n")
    facts = {**planted, "related": RELATED, "independent": INDEPENDENT}
    facts["slides"] = [asdict(recipe) for recipe in recipes]
    (truth / "planted.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (truth / "README.md").write_text(README, encoding="utf-8")
