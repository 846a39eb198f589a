"""A small study as the pipeline hands it to the report: 24 patients, 26 slides, its numbers drawn and not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from shapely.geometry import Polygon, box

from mihc.areas.region import Region
from mihc.associate import associate
from mihc.figures import SlidePicture, composite, value_histogram
from mihc.panel import Panel, PanelRow
from mihc.studies.folder import Study
from mihc.studies.patients import study_notes
from mihc.studies.settings import Outcome, Response, Settings, Splits, StudyInfo

POPULATIONS = ("CD20", "CD3", "PanCK", "B cell")
CLASSES = ("tumour", "stroma")


def drawn_settings(name: str = "Drawn study", group: str = "signature") -> Settings:
    return Settings(
        study=StudyInfo(name),
        phenotypes={"B cell": "CD20+ CD3-"},
        outcomes={"PFS": Outcome("pfs_months", "pfs_event"), "OS": Outcome("os_months", "os_event")},
        responses={"ORR": Response("best_response", ("CR", "PR"))},
        groups=(group,),
        cox_covariates=("ecog",),
        splits=Splits(outcome=("slope_change", "landmark:12"), marker=("median",)),
    )


def drawn_regions_table(effect: float, seed: int = 4, patients: int = 24) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(patients):
        density = {(p, c): float(np.exp(rng.normal(4.0, 0.9))) for p in POPULATIONS for c in CLASSES}
        for c in CLASSES:
            area, cells = float(rng.uniform(0.8, 2.2)), int(rng.integers(4000, 9000))
            for p in POPULATIONS:
                positive = int(density[p, c] * area)
                unknown = p in ("CD3", "B cell") and k == 5
                rows.append({
                    "slide": f"S{k + 1:02d}", "patient": f"P{k + 1:03d}",
                    "region": c, "tissue_class": c, "population": p,
                    "cells": cells, "positive_cells": np.nan if unknown else positive, "area_mm2": area,
                    "positivity_percent": np.nan if unknown else 100 * positive / cells,
                    "density_per_mm2": np.nan if unknown else positive / area,
                })  # fmt: skip
    return pd.DataFrame(rows)


def drawn_patients(regions: pd.DataFrame, effect: float, seed: int = 4) -> pd.DataFrame:
    wide = {}
    for measure in ("density_per_mm2", "positivity_percent"):
        for (p, c), rows in regions.groupby(["population", "tissue_class"], sort=False):
            wide[f"{p}|{c}|{measure}"] = rows.set_index("patient")[measure]
    frame = pd.DataFrame(wide).reset_index()
    frame.insert(1, "slides", 1)
    rng = np.random.default_rng(seed + 1)
    marker = np.log1p(frame["CD20|tumour|density_per_mm2"].to_numpy())
    hazard = np.exp(-effect * (marker - marker.mean()) / marker.std(ddof=1))
    pfs, cut_off = rng.exponential(14 / hazard), rng.uniform(14, 30, len(frame))
    frame["pfs_months"], frame["pfs_event"] = np.round(np.minimum(pfs, cut_off), 2), (pfs <= cut_off).astype(float)
    death = pfs + rng.exponential(9, len(frame))
    frame["os_months"], frame["os_event"] = np.round(np.minimum(death, cut_off), 2), (death <= cut_off).astype(float)
    frame["best_response"] = rng.choice(["CR", "PR", "SD", "PD", "NE"], len(frame), p=[0.1, 0.4, 0.25, 0.2, 0.05])
    frame["signature"] = rng.choice(["mutated", "wild type"], len(frame))
    frame["ecog"] = rng.choice(["0", "1"], len(frame))
    return frame


def drawn_slide_tables(regions: pd.DataFrame, panel: str = "") -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(9)
    slides = regions[["slide", "patient"]].drop_duplicates().reset_index(drop=True)
    slides["panel"], slides["status"], slides["message"] = panel, "ok", ""
    slides["pixel_size_um"], slides["pixel_size_source"] = 0.5, "OME-XML PhysicalSizeX"
    slides.loc[6, ["status", "message"]] = ["failed", "plane 3 is truncated after 1024 rows"]
    thresholds, ledger, qc = [], [], []
    for slide in slides["slide"]:
        for marker in ("CD20", "CD3", "PanCK"):
            verdict = (
                "cannot tell"
                if slide == "S06" and marker == "CD3"
                else "negative slide"
                if slide == "S11" and marker == "CD20"
                else "separable"
            )
            value = np.nan if verdict != "separable" else float(rng.normal(900, 120))
            thresholds.append((slide, marker, value, value * 0.9, value * 1.12, "auto", verdict, "automatic"))
        tissue = float(rng.uniform(3, 4))
        parts = {
            "tumour": tissue * 0.45,
            "stroma": tissue * 0.4,
            "excluded": tissue * 0.05,
            "unannotated": tissue * 0.1,
        }
        ledger += [
            (slide, "scanned", "", tissue + 1.5, 16012, np.nan),
            (slide, "glass", "", 1.5, 12, np.nan),
            (slide, "tissue", "", tissue, 16000, np.nan),
            (slide, "analysed", "", tissue * 0.85, 8000, np.nan),
        ]
        ledger += [
            (slide, c, "fold" if c == "excluded" else c, a, 4000, 14.2 if slide == "S09" and c == "stroma" else 0.4)
            for c, a in parts.items()
        ]
        focus = "fail" if slide == "S03" else "warn" if slide in ("S08", "S20") else "ok"
        qc.append(
            (slide, "focus", 0.91 if focus == "ok" else 0.4, "share in focus", focus, "share of tissue tiles in focus")
        )
        qc.append((slide, "saturation", 0.02, "%", "ok", "pixels at the sensor's limit"))
    columns = {
        "thresholds": ["slide", "marker", "value", "low", "high", "method", "verdict", "who"],
        "area_ledger": ["slide", "category", "region", "area_mm2", "cells", "glass_percent"],
        "qc": ["slide", "check", "value", "unit", "verdict", "explanation"],
    }
    rows = {"thresholds": thresholds, "area_ledger": ledger, "qc": qc}
    return {"slides": slides} | {name: pd.DataFrame(rows[name], columns=columns[name]) for name in columns}


def drawn_tables(effect: float = 1.4, seed: int = 4) -> dict[str, pd.DataFrame]:
    regions = drawn_regions_table(effect, seed)
    patients = drawn_patients(regions, effect, seed)
    return {
        "regions": regions, "patients": patients, "statistics": associate(patients, drawn_settings()),
        **drawn_slide_tables(regions), "notes": drawn_notes(regions),
    }  # fmt: skip


def drawn_notes(regions: pd.DataFrame) -> pd.DataFrame:
    return study_notes(regions, regions[["slide", "patient"]].drop_duplicates())


def drawn_study(name: str = "Drawn study") -> Study:
    rows = (
        PanelRow("DAPI", "DAPI", "nuclei", "nucleus", None, "3B6FE0"),
        PanelRow("CD20", "CD20", "marker", "cell", None, "2EB888"),
        PanelRow("CD3", "CD3", "marker", "cell", None, "F0B400"),
        PanelRow("PanCK", "PanCK", "tumour", "cytoplasm", None, "E8743B"),
    )
    return Study(
        Path("study"), drawn_settings(name), {"": Panel("", rows)}, (), None,
        pd.DataFrame(columns=["slide", "marker", "value"]),
    )  # fmt: skip


def drawn_picture(slide: str, seed: int = 0, side: int = 160, um_per_px: float = 8.0) -> SlidePicture:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    tissue = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.22).astype(float)
    nest = tissue * (np.sin(17 * x + seed) + np.cos(16 * y + seed) > 0.4)
    light = np.stack([90 * tissue + 40 * nest, 25 * tissue * (1 - nest), 120 * nest])
    planes = rng.poisson(light * rng.gamma(1.2, 1.0, (side, side)) + 8)
    w = side * um_per_px
    regions = [
        Region(
            "tumour",
            "tumour",
            box(0.1 * w, 0.1 * w, 0.55 * w, 0.9 * w).difference(box(0.2 * w, 0.3 * w, 0.3 * w, 0.5 * w)),
        ),
        Region("stroma", "stroma", box(0.56 * w, 0.1 * w, 0.9 * w, 0.7 * w)),
        Region("fold", "excluded", Polygon([(0.6 * w, 0.75 * w), (0.9 * w, 0.75 * w), (0.75 * w, 0.95 * w)])),
    ]
    positives = {name: rng.uniform(0.05 * w, 0.95 * w, (n, 2)) for name, n in zip(POPULATIONS, (250, 400, 900, 200))}
    intensities = np.concatenate([rng.lognormal(5.5, 0.4, 6000), rng.lognormal(7.4, 0.4, 900)])
    histograms = {name: value_histogram(intensities * (1 + 0.1 * k)) for k, name in enumerate(("CD20", "CD3", "PanCK"))}
    return SlidePicture(
        slide, composite(planes, ["3B6FE0", "2EB888", "E8743B"]), um_per_px, regions, positives, "", histograms
    )


def drawn_run() -> dict:
    return {
        "versions": {"mihc": "0.1.0", "python": "3.11.2", "numpy": "2.4.6"},
        "settings": {"segmentation": {"nucleus_diameter_um": 8.0}},
        "inputs": {"clinical.csv": "9f2c" * 16},
        "stages": [{"stage": "cells", "slide": "S01", "seconds": 12.5, "peak_mb": 410}],
    }
