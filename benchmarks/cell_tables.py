"""A slide given as a table of 1,000,000 cells x 20 markers: CPU seconds and peak memory until its cells are called.

    python benchmarks/cell_tables.py [CELLS] [CHECKOUT ...]      default 1000000, this code

Each checkout of mihc (a folder that holds `mihc/`) runs the same drawn study in a process of its own, one after the
other, so that two versions can be compared in one run. `read` is the reading of the table alone, `values` and
`positives` are the stages; the digest is of cells, regions and thresholds as they were stored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent.parent
MARKERS = tuple(f"M{k}" for k in range(20))
RUN = """
import hashlib, json, resource, sys, time
from pathlib import Path
import mihc
from mihc.study import given_cells
folder = Path(sys.argv[1])
study = mihc.read_study(folder)
before = time.process_time()
result = mihc.run(study, until="positives")
cpu = time.process_time() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = time.process_time()
cells = given_cells(study, study.slides[0])
read = time.process_time() - before
digest = hashlib.sha256()
for path in sorted([*folder.glob("results/.stages/**/*.csv")]):
    digest.update(path.read_bytes())
import pandas as pd
table = pd.read_parquet(folder / "results" / "cells" / "S1.parquet")
digest.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())
stages = {step.stage: round(step.seconds, 1) for step in result.steps}
print(json.dumps({"cpu_s": round(cpu, 1), "read_s": round(read, 1), "peak_MB": round(peak), "stages_s": stages,
                  "digest": digest.hexdigest()[:12], "failed": result.failed}))
"""


def draw(folder: Path, count: int) -> None:
    """Write a study of one slide: a tenth of the cells positive for each marker, three tissue classes."""
    generator = np.random.default_rng(1)
    cells = {
        "x_um": generator.uniform(0, 2e4, count).round(3),
        "y_um": generator.uniform(0, 2e4, count).round(3),
        "tissue_class": generator.choice(["tumour", "stroma", "outside"], count, p=[0.5, 0.4, 0.1]),
        "cell_area_um2": generator.uniform(40, 160, count).round(2),
    }
    for marker in MARKERS:
        bright = np.where(generator.random(count) < 0.1, 6.0, 1.0)
        cells[f"{marker}_cell_mean"] = (200 * generator.lognormal(0, 0.2, count) * bright).round(4)
    pd.DataFrame(cells).to_csv(folder / "cells.csv", index=False)
    (folder / "study.toml").write_text('[study]\nname = "drawn"\n[phenotypes]\n"double" = "M0+ M1+"\n')
    lines = ["channel,marker,role", "DAPI,DAPI,nuclei", *(f"{marker},{marker},marker" for marker in MARKERS)]
    (folder / "panel.csv").write_text("\n".join(lines) + "\n")
    (folder / "slides.csv").write_text("slide,patient,cells\nS1,P1,cells.csv\n")


def main(count: int = 1_000_000, *checkouts: str) -> None:
    """Print one line per checkout."""
    with tempfile.TemporaryDirectory() as name:
        for number, checkout in enumerate(checkouts or (str(HERE),)):
            folder = Path(name) / f"study{number}"
            folder.mkdir()
            draw(folder, count)
            environment = os.environ | {"PYTHONPATH": checkout}
            done = subprocess.run(
                [sys.executable, "-c", RUN, str(folder)],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            told = done.stdout.strip().splitlines()[-1:] or [json.dumps({"error": done.stderr[-500:]})]
            print(f"{checkout}  {(folder / 'cells.csv').stat().st_size / 1e6:.0f} MB  {told[0]}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
