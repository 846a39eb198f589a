"""How long does the multiverse take? A drawn study of 50 patients and 300,000 cells, from tables of intensities.

    python -m benchmarks.multiverse [--patients 50] [--cells 300000] [--slides 2]

It prints how many analyses were made and the CPU seconds of the stage alone: counting the cells again, pooling,
testing, leaving out each patient and drawing them again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import mihc
from mihc.steps import vary
from mihc.store import read_csv

MARKERS = ("CD3", "CD8", "CD20", "Ki67", "PD-L1")
SETTINGS = """
[study]
name = "multiverse"
[phenotypes]
"cytotoxic T cell" = "CD3+ CD8+"
"proliferating B cell" = "CD20+ Ki67+"
[outcomes.PFS]
time = "pfs"
event = "pfs_event"
[outcomes.OS]
time = "os"
event = "os_event"
[responses.ORR]
column = "best"
responders = ["CR", "PR"]
[splits]
outcome = ["slope_change", "landmark:12"]
marker = ["median", "tertiles"]
"""


def write_study(folder: Path, patients: int, cells: int, slides: int, seed: int = 5) -> None:
    """Draw a study of tables of cells: two overlapping groups of intensities per marker, and no effect."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = ["channel,marker,role,compartment", "DAPI,DAPI,nuclei,nucleus", *(f"{m},{m},marker,cell" for m in MARKERS)]
    (folder / "panel.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.toml").write_text(SETTINGS, encoding="utf-8")
    rows = ["slide,patient,cells"]
    for patient in range(patients):
        for slide in range(slides):
            name = f"P{patient:02d}-{slide}"
            _cells(rng, cells // (patients * slides)).to_parquet(folder / f"{name}.parquet", index=False)
            rows.append(f"{name},P{patient:02d},{name}.parquet")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    clinical = pd.DataFrame({"patient": [f"P{patient:02d}" for patient in range(patients)]})
    for endpoint, scale in (("pfs", 10), ("os", 18)):
        event, end = rng.exponential(scale, patients), rng.uniform(6, 30, patients)
        clinical[endpoint] = np.round(np.minimum(event, end), 2)
        clinical[f"{endpoint}_event"] = (event <= end).astype(int)
    clinical["best"] = rng.choice(["CR", "PR", "SD", "PD"], patients)
    clinical.to_csv(folder / "clinical.csv", index=False)


def _cells(rng: np.random.Generator, n: int) -> pd.DataFrame:
    table = pd.DataFrame({"x_um": rng.uniform(0, 2000, n), "y_um": rng.uniform(0, 2000, n)})
    table["tissue_class"] = rng.choice(["tumour", "stroma", "outside"], n, p=[0.55, 0.4, 0.05])
    for marker in MARKERS:
        positive = rng.random(n) < rng.uniform(0.05, 0.4)
        table[f"{marker}_cell_mean"] = np.exp(rng.normal(np.where(positive, 6.3, 4.5), 0.4))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=50)
    parser.add_argument("--cells", type=int, default=300_000)
    parser.add_argument("--slides", type=int, default=2, help="per patient")
    chosen = parser.parse_args()
    spent = []

    def timed(*arguments: object) -> None:
        started = time.process_time()
        made(*arguments)
        spent.append(time.process_time() - started)

    made, vary._vary = vary._vary, timed
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        write_study(folder, chosen.patients, chosen.cells, chosen.slides)
        results = mihc.run(mihc.read_study(folder), until="robustness")
        tables = {name: read_csv(folder / "results" / f"{name}.csv") for name in vary.TABLES}
        sizes = {name: (folder / "results" / f"{name}.csv").stat().st_size / 1e6 for name in tables}
    again = [step for step in results.steps if step.stage == "robustness"]
    print(f"{chosen.patients} patients, {chosen.patients * chosen.slides} slides, {chosen.cells} cells")
    for name, table in tables.items():
        print(f"{name}.csv: {len(table)} rows, {sizes[name]:.1f} MB")
    print(f"robustness: {spent[0]:.1f} s of CPU, {again[0].seconds:.1f} s")


if __name__ == "__main__":
    main()
