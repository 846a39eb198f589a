"""A real study without an effect, from tables of cells to the report: what does it claim?

285,412 cells of 50 patients with lung cancer (`cells_lung_vectra_outcome`: Vectra, calls given, overall survival). Its
publishers found no immune population that goes with survival. The script writes the study into a temporary folder,
runs it, and prints what the report says and how long each part took.

    python -m benchmarks.lung DATA/cells_lung_vectra_outcome [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import html
import re
import tempfile
import time
from pathlib import Path

import pandas as pd

import mihc
from mihc.store import read_csv

MARKERS = {"CK": "ck", "CD8": "cd8", "CD14": "cd14", "CD19": "cd19", "CD4": "cd4"}
SETTINGS = """
[study]
name = "Lung cancer, Vectra"
[phenotypes]
"B cell" = "CD19+"
"cytotoxic T cell" = "CD8+ CD4-"
"macrophage" = "CD14+ CK-"
[outcomes.OS]
time = "survival_days"
event = "survival_status"
unit = "days"
[groups]
columns = ["gender"]
[cox]
covariates = ["age"]
[splits]
outcome = ["slope_change", "landmark:1000", "median"]
marker = ["median", "tertiles", "maxstat"]
"""


def write_study(data: Path, folder: Path) -> dict[str, int]:
    """Write the data set as a study of tables of cells, one per field; returns how many cells and patients."""
    cells = pd.read_csv(data / "lung_cells.csv.gz")
    patient = next(name for name in cells.columns if "patient" in name.casefold())
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["channel,marker,role,compartment", "DAPI,DAPI,nuclei,nucleus"]
    lines += [f"{marker},{marker},marker,cell" for marker in MARKERS]
    (folder / "panel.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.toml").write_text(SETTINGS, encoding="utf-8")
    calls = {f"{marker}_positive": _calls(cells, marker) for marker in MARKERS}
    table = pd.DataFrame({"x_um": cells["x"], "y_um": cells["y"], "tissue_class": "tumour", **calls})
    rows, names = ["slide,patient,cells"], cells[patient].astype(str)
    for (name, field), part in table.groupby([names, cells["image_id"].astype(str)], sort=True):
        slide = f"L{_plain(name)}-{_plain(field)}"
        part.to_csv(folder / f"{slide}.csv", index=False)
        rows.append(f"{slide},{_plain(name)},{slide}.csv")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    known = ["age", "gender", "survival_days", "survival_status"]
    clinical = cells.groupby(names, sort=True)[known].first().rename_axis("patient").reset_index()
    clinical["patient"] = clinical["patient"].map(_plain)
    clinical.to_csv(folder / "clinical.csv", index=False)
    return {"cells": len(cells), "patients": len(clinical), "fields": len(rows) - 1}


def _plain(name: str) -> str:
    return re.sub("[^A-Za-z0-9_-]", "_", name.removesuffix(".0"))


def _calls(cells: pd.DataFrame, marker: str) -> pd.Series:
    """1 where the column of the marker says "CD8+", 0 where it says "CD8-", empty where it says nothing."""
    column = next(name for name in cells if name.casefold().endswith(marker.casefold()))
    return cells[column].map({f"{marker}+": 1, f"{marker}-": 0}).astype("Int64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=Path, help="write the study here and keep it")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary) / "lung"
        print("cells {cells}, patients {patients}, fields {fields}".format(**write_study(chosen.data, folder)))
        started = time.process_time()
        results = mihc.run(mihc.read_study(folder))
        print(f"failed slides {len(results.failed)}, {time.process_time() - started:.1f} s of CPU")
        for step in results.steps:
            if not step.slide:
                print(f"  {step.stage}: {step.seconds:.1f} s")
        _tell(folder / "results")


def _tell(results: Path) -> None:
    tests = read_csv(results / "statistics.csv")
    tested = tests[tests["p"].notna()]
    print(f"{len(tested)} tests, {(tested['p'] < 0.05).sum()} raw p < 0.05, "
          f"{(tested['p_adjusted'] < 0.05).sum()} adjusted p < 0.05")  # fmt: skip
    for row in tested[tested["p_adjusted"] < 0.05].itertuples():
        print(f"  {row.family}: {row.endpoint} {row.population} {row.term} p {row.p:.3g} adjusted {row.p_adjusted:.3g}")
    universes = read_csv(results / "robustness.csv")
    print(f"multiverse: {len(universes)} analyses, {100 * (universes['p'] < 0.05).mean():.1f} % with p < 0.05")
    page = (results / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(style|script).*?</\1>", "", page))))
    for sentence in re.findall(r"[^.]*(?:No association|went with|was (?:higher|lower) in)[^.]*(?:\.\d[^.]*)*\.", text)[
        :6
    ]:
        print("report:", sentence.strip()[:400])


if __name__ == "__main__":
    main()
