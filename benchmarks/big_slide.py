"""A drawn slide of 16384 x 16384 x 8 channels, 16 bit, from OME-TIFF to report: time and peak memory per stage.

    python benchmarks/big_slide.py [FOLDER] [--side 16384] [--workers 2]

The slide (about 4 GB) is drawn into FOLDER once and kept; results/ is deleted before each run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mihc.drawing.study_files import PANEL, STUDY_TOML
from mihc.synthetic import draw_mosaic

CLINICAL = (
    "patient,pfs_months,pfs_event,os_months,os_event,best_response,signature,liver_metastasis,ecog\n"
    "001,9,1,20,1,PR,a,no,0\n"
)


def draw(folder: Path, side: int) -> None:
    """Write a study of one big slide."""
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    slide = folder / "slides" / f"S{side}.ome.tif"
    if not slide.exists():
        draw_mosaic(slide, size=(side, side))
    (folder / "study.toml").write_text(STUDY_TOML)
    (folder / "panel.csv").write_text(PANEL)
    (folder / "slides.csv").write_text(f"slide,file,patient\nS{side},slides/{slide.name},001\n")
    (folder / "clinical.csv").write_text(CLINICAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("big-slide"))
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    folder = chosen.folder / str(chosen.side)
    draw(folder, chosen.side)
    shutil.rmtree(folder / "results", ignore_errors=True)
    started = time.perf_counter()
    command = [sys.executable, "-m", "mihc", "run", str(folder), "--workers", str(chosen.workers)]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    told = json.loads((folder / "results" / "run.json").read_text())
    print(f"{'stage':12s} {'seconds':>9s} {'peak MB (PSS)':>14s}")
    for step in told["stages"]:
        print(f"{step['stage']:12s} {step['seconds']:9.1f} {step['peak_memory_mb']:14.0f}")
    print(f"{'whole run':12s} {seconds:9.1f} {told['peak_memory_mb']:14.0f}")


if __name__ == "__main__":
    main()
