"""A study of cell tables whose calls are known: fast to run, with outcomes, a response and a mutation group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

PANEL = (
    "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nPanCK,PanCK,tumour,cell\nCD3,CD3,marker,cell\n"
    "CD8,CD8,marker,cell\n"
)
SETTINGS = """
[study]
name = "tables"
[phenotypes]
"cytotoxic T cell" = "CD3+ CD8+"
[outcomes.PFS]
time = "pfs_months"
event = "pfs_event"
[outcomes.OS]
time = "os_months"
event = "os_event"
[responses.ORR]
column = "best_response"
responders = ["CR", "PR"]
[groups]
columns = ["signature"]
[cox]
covariates = ["liver_metastasis", "age"]
"""


def draw_clinical(patients: int, seed: int) -> pd.DataFrame:
    """Clinical rows P01, P02, ...: the signature halves the hazards and doubles the odds of a response."""
    rng = np.random.default_rng(seed)
    signed = rng.random(patients) < 0.45
    liver = rng.random(patients) < 0.3
    hazard = np.where(signed, 0.45, 1.0) * np.where(liver, 1.5, 1.0)
    progression, death = (scale * rng.exponential(1.0, patients) / hazard for scale in (9.0, 22.0))
    closing = rng.uniform(12, 30, patients)
    pfs = np.minimum(progression, death)
    best = np.where(rng.random(patients) < np.where(signed, 0.7, 0.3), "PR", "SD")
    best = np.where(pfs < 1.5, "PD", best)
    best[0] = "NE"
    return pd.DataFrame({
        "patient": [f"P{number:02}" for number in range(1, patients + 1)],
        "pfs_months": np.round(np.minimum(pfs, closing) + 0.05, 2),
        "pfs_event": (pfs <= closing).astype(int),
        "os_months": np.round(np.minimum(death, closing) + 0.05, 2),
        "os_event": (death <= closing).astype(int),
        "best_response": best,
        "signature": np.where(signed, "positive", "negative"),
        "liver_metastasis": np.where(liver, "yes", "no"),
        "age": rng.integers(40, 80, patients),
    })  # fmt: skip


def draw_cells(clinical: pd.DataFrame, seed: int, cells: int = 240) -> dict[str, pd.DataFrame]:
    """A table of called cells per patient; CD8 is commoner with the signature."""
    tables = {}
    for number, row in enumerate(clinical.itertuples()):
        rng = np.random.default_rng([seed, number])
        share = rng.uniform(0.1, 0.3) + 0.25 * (row.signature == "positive")
        cd3 = rng.random(cells) < 0.5
        tables[f"S{number + 1:02}"] = pd.DataFrame({
            "x_um": np.round(rng.uniform(0, 900, cells), 2),
            "y_um": np.round(rng.uniform(0, 900, cells), 2),
            "tissue_class": rng.choice(["tumour", "stroma"], cells),
            "PanCK_positive": (rng.random(cells) < 0.4).astype(int),
            "CD3_positive": cd3.astype(int),
            "CD8_positive": (cd3 & (rng.random(cells) < share)).astype(int),
        })  # fmt: skip
    return tables


def write_table_study(
    folder: Path, *, patients: int = 6, seed: int = 5, settings: str = SETTINGS, clinical: pd.DataFrame | None = None
) -> Path:
    """A study folder of one table of cells per patient."""
    clinical = draw_clinical(patients, seed) if clinical is None else clinical
    folder.mkdir()
    (folder / "study.toml").write_text(settings, encoding="utf-8")
    (folder / "panel.csv").write_text(PANEL)
    clinical.to_csv(folder / "clinical.csv", index=False)
    rows = []
    for (slide, cells), patient in zip(draw_cells(clinical, seed).items(), clinical["patient"]):
        cells.to_csv(folder / f"{slide}.csv", index=False)
        rows.append(f"{slide},{patient},{slide}.csv\n")
    (folder / "slides.csv").write_text("slide,patient,cells\n" + "".join(rows))
    return folder
