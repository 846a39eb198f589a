"""What a run measured on a drawn study, beside what was planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from mihc.associations.rows import LEVEL
from mihc.drawing.tissue import inside
from mihc.errors import InputError

FEWEST_CELLS = 100  # of 100 planted cells, 3 % is three; below that a density cannot be judged by its limit
ANALYSED = ("tumour", "stroma", "other")
# quantity: (largest error accepted, its unit). IoU and p are limits on the measured value itself.
LIMITS = {
    "cells": (2.0, "%"),
    "positivity_percent": (2.0, "pp"),
    "density_per_mm2": (3.0, "%"),
    "annotated area_mm2": (0.1, "%"),
    "automatic area_mm2": (5.0, "%"),
    "automatic region IoU": (0.9, "at least"),
    "hazard_ratio": (0.05, "p_adjusted"),
    "claims on independent populations": (0.0, "claims"),
}
COLUMNS = [
    "quantity",
    "tissue_class",
    "population",
    "slide",
    "planted",
    "measured",
    "error",
    "unit",
    "limit",
    "verdict",
    "note",
]
KEYS = ["slide", "tissue_class", "population"]


def compare_with_truth(folder: str | Path) -> pd.DataFrame:
    """Hold results/ of a drawn study against truth/.

    Returns
    -------
    DataFrame
        One row per comparison: quantity, tissue_class ("all" = tumour + stroma + other), population, slide ("" = all
        slides pooled), planted, measured, error (in `unit`: % of the planted value, or percentage points), limit,
        verdict ("ok" | "miss" | "not measured" | "too few": a density of under 100 planted cells), note. Cells are
        compared within the outlines that the run analysed, so that the row judges the finding of cells alone;
        positivity and density are compared as planted, outlines and all. Where a run withheld a population on a slide,
        the pooled rows leave that slide out on both sides.

    Raises
    ------
    InputError
        When the folder holds no truth or no results.
    """
    folder = Path(folder)
    planted, measured = _regions(folder / "truth", "draw the study again"), _regions(folder / "results", "mihc run")
    planted = planted[(planted["control"] == "") & planted["tissue_class"].isin(ANALYSED)]
    both = _joined(planted, measured)
    outlines = {slide: _outlines(folder, slide) for slide in planted["slide"].unique()}
    rows = [
        *_cells(folder, both, outlines),
        *_populations(both),
        *_areas(planted, measured),
        *_overlaps(folder, planted, outlines),
        *_associations(folder),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def comparison_summary(table: pd.DataFrame) -> str:
    """The comparison in lines for people: each quantity pooled over the study, then its worst slide."""
    lines = []
    for quantity, rows in table.groupby("quantity", sort=False):
        pooled, single = rows[rows["slide"] == ""], rows[rows["slide"] != ""]
        limit, unit = LIMITS[quantity]
        judged = pooled if len(pooled) else single
        verdicts = judged["verdict"].value_counts()
        lines.append(f"{quantity}: {verdicts.get('ok', 0)} of {len(judged)} within the limit ({limit:g} {unit})")
        for verdict, words in (("not measured", "not measured"), ("too few", "of too few planted cells to judge")):
            if verdict in verdicts:
                lines[-1] += f", {verdicts[verdict]} {words}"
        lines += [f"    {_told(row)}" for row in judged[judged["verdict"] == "miss"].itertuples()]
        worst = single[single["error"].notna()] if len(pooled) else single.iloc[:0]
        if len(worst) and quantity != "density_per_mm2":  # a density of few cells on one slide says little
            lines.append(f"    worst slide: {_told(worst.loc[worst['error'].abs().idxmax()])}")
    return "\n".join(lines)


def _told(row: pd.Series) -> str:
    place = " ".join(part for part in (row.slide, row.tissue_class, row.population) if part)
    off = f" ({row.error:+.2f} {row.unit})" if np.isfinite(row.error) else ""
    note = f"; {row.note}" if row.note else ""
    return f"{place}: planted {row.planted:.4g}, measured {row.measured:.4g}{off}{note}"


def _regions(folder: Path, command: str) -> pd.DataFrame:
    path = folder / "regions.csv"
    if not path.exists():
        raise InputError("no regions.csv to compare", place=str(folder), fix=f"Make it first: {command}.")
    text = {name: str for name in ("slide", "patient", "region", "population", "control", "annotations")}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"positive_cells": [""], "area_mm2": [""]})


def _joined(planted: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Sums by slide, class (with "all") and population, planted and measured side by side."""
    sides = []
    for table in (planted, measured[measured["tissue_class"].isin(ANALYSED)]):
        everything = pd.concat([table, table.assign(tissue_class="all")])
        sums = ["cells", "positive_cells", "area_mm2"]
        sides.append(everything.groupby(KEYS)[sums].agg(lambda values: values.sum(skipna=False)))
    return sides[0].join(sides[1], lsuffix="_planted", rsuffix="_measured").reset_index()


def _row(
    quantity: str,
    place: tuple[str, str, str],
    planted: float,
    measured: float,
    *,
    note: str = "",
) -> tuple:
    """One comparison, judged by the limit of its quantity. `place` is tissue class, population, slide."""
    limit, unit = LIMITS[quantity]
    if unit == "%":
        error = 100 * (measured - planted) / planted if planted else (0.0 if measured == planted else np.nan)
    else:
        error = measured - planted
    if unit == "at least":
        good = measured >= limit
    else:
        good = abs(error) <= limit
    verdict = "not measured" if np.isnan(measured) else "ok" if good else "miss"
    return (quantity, *place, planted, measured, error, unit, limit, verdict, note)


def _cells(folder: Path, both: pd.DataFrame, outlines: dict) -> list[tuple]:
    """All cells in the analysed area, whatever they carry."""
    counts = []
    one_population = both[both["population"] == both["population"].iloc[0]]
    for slide, rows in one_population.groupby("slide"):
        truth = pd.read_parquet(
            folder / "truth" / "cells" / f"{slide}.parquet", columns=["x_um", "y_um", "tissue_class"]
        )
        found = rows.set_index("tissue_class")["cells_measured"]
        for tissue_class in ("tumour", "stroma"):
            planted = _planted_cells(truth, tissue_class, outlines[slide])
            counts.append((slide, tissue_class, planted, found.get(tissue_class, np.nan)))
    table = pd.DataFrame(counts, columns=["slide", "tissue_class", "planted", "measured"])
    table = pd.concat([table, table.assign(tissue_class="all")])
    by_slide = table.groupby(["tissue_class", "slide"])[["planted", "measured"]].sum(min_count=1).reset_index()
    rows = [
        _row("cells", (name, "", ""), group["planted"].sum(), group["measured"].sum())
        for name, group in by_slide.groupby("tissue_class")
    ]
    return rows + [_row("cells", (r.tissue_class, "", r.slide), r.planted, r.measured) for r in by_slide.itertuples()]


def _planted_cells(truth: pd.DataFrame, tissue_class: str, outlines: list | None) -> int:
    """Planted cells within the outlines that the run analysed; within the planted ones where those are not kept."""
    if outlines is None:
        return int((truth["tissue_class"] == tissue_class).sum())
    polygons = [polygon for name, polygon in outlines if name == tissue_class]
    x, y = truth["x_um"].to_numpy(), truth["y_um"].to_numpy()
    return int(sum(inside(x, y, polygon).sum() for polygon in polygons))


def _populations(both: pd.DataFrame) -> list[tuple]:
    """Positivity and density of every population, pooled and slide by slide."""
    rows = []
    for (tissue_class, population), group in both.groupby(["tissue_class", "population"]):
        known = group[group["positive_cells_measured"].notna()]
        note = f"{len(group) - len(known)} of {len(group)} slides withheld" if len(known) < len(group) else ""
        sums = known.drop(columns=KEYS).sum(min_count=1)
        rows += _shares(sums, (tissue_class, population, ""), note)
        for one in group.to_dict("records"):
            rows += _shares(one, (tissue_class, population, one["slide"]), "")
    return rows


def _shares(sums: pd.Series | dict, place: tuple[str, str, str], note: str) -> list[tuple]:
    values = {}
    for side in ("planted", "measured"):
        positive, cells, area = (sums[f"{name}_{side}"] for name in ("positive_cells", "cells", "area_mm2"))
        values["positivity_percent", side] = 100 * positive / cells if cells else np.nan
        values["density_per_mm2", side] = positive / area if area else np.nan
    share, density = (
        _row(quantity, place, values[quantity, "planted"], values[quantity, "measured"], note=note)
        for quantity in ("positivity_percent", "density_per_mm2")
    )
    if sums["positive_cells_planted"] < FEWEST_CELLS and density[-2] != "not measured":
        density = (*density[:-2], "too few", note)
    return [share, density]


def _areas(planted: pd.DataFrame, measured: pd.DataFrame) -> list[tuple]:
    rows = []
    for quantity, drawn in (("annotated area_mm2", True), ("automatic area_mm2", False)):
        mine = planted[(planted["annotations"] != "") == drawn]
        if mine.empty:
            continue
        truth, found = (_area_by_slide(t[t["slide"].isin(mine["slide"])]) for t in (mine, measured))
        both = pd.concat([truth.rename("planted"), found.rename("measured")], axis=1).fillna({"measured": 0.0})
        both = both[both["planted"].notna()].reset_index()
        for name, group in both.groupby("tissue_class"):
            rows.append(_row(quantity, (name, "", ""), group["planted"].sum(), group["measured"].sum()))
        rows += [_row(quantity, (r.tissue_class, "", r.slide), r.planted, r.measured) for r in both.itertuples()]
    return rows


def _area_by_slide(regions: pd.DataFrame) -> pd.Series:
    once = regions[regions["tissue_class"].isin(ANALYSED)].drop_duplicates(["slide", "region", "tissue_class"])
    return once.groupby(["slide", "tissue_class"])["area_mm2"].sum()


def _outlines(folder: Path, slide: str) -> list[tuple[str, shapely.Geometry]] | None:
    """(tissue class, polygon in µm) of the regions that the run kept for a slide; None where it kept none."""
    path = folder / "results" / ".stages" / "regions" / f"{slide}.regions.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [(one["tissue_class"], shapely.geometry.shape(one["polygon_um"])) for one in kept]


def _overlaps(folder: Path, planted: pd.DataFrame, outlines: dict) -> list[tuple]:
    """Intersection over union of the automatic tumour and stroma with the planted ones; pooled by area."""
    shared = dict.fromkeys(("tumour", "stroma"), 0.0)
    united = dict.fromkeys(shared, 0.0)
    rows = []
    for slide in planted.loc[planted["annotations"] == "", "slide"].unique():
        if outlines[slide] is None:
            continue
        truth = _planted_polygons(folder, slide)
        for name in shared:
            found = shapely.union_all([polygon for kind, polygon in outlines[slide] if kind == name])
            both, either = found.intersection(truth[name]).area, found.union(truth[name]).area
            shared[name], united[name] = shared[name] + both, united[name] + either
            rows.append(_row("automatic region IoU", (name, "", slide), 1.0, both / either if either else np.nan))
    pooled = [(name, 1.0, shared[name] / united[name]) for name in shared if united[name]]
    return [_row("automatic region IoU", (name, "", ""), one, iou) for name, one, iou in pooled] + rows


def _planted_polygons(folder: Path, slide: str) -> dict[str, shapely.Geometry]:
    planted = json.loads((folder / "truth" / "planted.json").read_text(encoding="utf-8"))
    content = json.loads((folder / "truth" / "regions" / f"{slide}.geojson").read_text(encoding="utf-8"))
    shapes = {one["properties"]["classification"]["name"]: one["geometry"] for one in content["features"]}
    return {
        name: shapely.transform(
            shapely.geometry.shape(shapes[name]) if name in shapes else shapely.Polygon(),
            lambda points: points * planted["pixel_size_um"],
        )
        for name in ("tumour", "stroma")
    }


def _associations(folder: Path) -> list[tuple]:
    """Whether the planted hazard ratio was found, and whether anything independent of the outcome was claimed."""
    path = folder / "results" / "statistics.csv"
    if not path.exists():
        return []
    truth = json.loads((folder / "truth" / "planted.json").read_text(encoding="utf-8"))
    statistics = pd.read_csv(path)
    cox = statistics[(statistics["analysis"] == "cox") & (statistics["estimate_kind"] == "HR")]
    cox = cox[~cox["exploratory"].astype(str).str.lower().isin(["true", "1"])]
    mine = cox
    for name in ("population", "tissue_class", "measure"):
        mine = mine[mine[name] == truth[name]]
    rows = []
    for one in mine.drop_duplicates("endpoint").itertuples():
        found = one.p_adjusted < LEVEL and (one.estimate < 1) == (truth["hazard_ratio"] < 1)
        note = f"{one.endpoint}: 95 % interval {one.ci_low:.3g} to {one.ci_high:.3g}, p_adjusted {one.p_adjusted:.2g}"
        row = _row(
            "hazard_ratio", (one.tissue_class, one.population, ""), truth["hazard_ratio"], one.estimate, note=note
        )
        rows.append((*row[:9], "ok" if found else "miss", note))
    claimed = cox[cox["population"].isin(truth["independent"]) & (cox["p_adjusted"] < LEVEL)]
    note = ", ".join(dict.fromkeys(f"{one.population} {one.tissue_class}" for one in claimed.itertuples()))
    rows.append(_row("claims on independent populations", ("", "", ""), 0.0, float(len(claimed)), note=note))
    return rows
