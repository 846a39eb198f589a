"""Drawn slides of 8 channels, 16 bit, from OME-TIFF to report: CPU seconds and peak memory (PSS) by size and stage.

    python benchmarks/big_slide.py [FOLDER] [--sides 16384] [--workers 2] [--tile 2048] [--keep]
    python benchmarks/big_slide.py FOLDER --sides 8192 16384 32768 --tile 4096    # do time and memory grow?

A slide is one drawn tile, repeated (32768 pixels a side: about 9 GB, and as much again in results/), and is deleted
after its run unless it is to be kept. The CPU seconds are those of `mihc run` alone, imports and compiling included.
"""

from __future__ import annotations

import argparse
import json
import resource
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


def draw(folder: Path, side: int, tile: int) -> None:
    """Write a study of one big slide."""
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    slide = folder / "slides" / f"S{side}.ome.tif"
    if not slide.exists():
        draw_mosaic(slide, size=(side, side), tile=tile)
    (folder / "study.toml").write_text(STUDY_TOML)
    (folder / "panel.csv").write_text(PANEL)
    (folder / "slides.csv").write_text(f"slide,file,patient\nS{side},slides/{slide.name},001\n")
    (folder / "clinical.csv").write_text(CLINICAL)


def run(folder: Path, workers: int) -> tuple[float, float, dict]:
    """Run a study anew -> CPU seconds, seconds, and what run.json tells."""
    shutil.rmtree(folder / "results", ignore_errors=True)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "mihc", "run", str(folder), "--workers", str(workers)]
    with (folder / "run.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, seconds, json.loads((folder / "results" / "run.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("big-slide"))
    parser.add_argument("--sides", type=int, nargs="+", default=[16384])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tile", type=int, default=2048, help="pixels of the drawn tile that is repeated")
    parser.add_argument("--keep", action="store_true", help="do not delete the slide and its results afterwards")
    chosen = parser.parse_args()
    for side in chosen.sides:
        folder = chosen.folder / str(side)
        draw(folder, side, chosen.tile)
        cpu, seconds, told = run(folder, chosen.workers)
        print(f"{side} x {side} x 8  {'seconds':>9s} {'peak MB (PSS)':>14s}")
        for step in told["stages"]:
            print(f"  {step['stage']:14s} {step['seconds']:9.1f} {step['peak_memory_mb']:14.0f}")
        print(f"  {'whole run':14s} {seconds:9.1f} {told['peak_memory_mb']:14.0f}")
        print(f"  {cpu:.0f} CPU seconds, {1e6 * cpu / side**2:.3f} per megapixel", flush=True)
        if not chosen.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
