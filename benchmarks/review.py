"""A review of a slide of 32768 x 32768 x 8 pixels and a million cells: first picture, pan and zoom, thresholds, saving.

    python -m benchmarks.review FOLDER [--side 32768] [--tile 4096] [--keep]     (the viewer needs a screen: xvfb-run)

The slide is one drawn tile again and again, with results as a run writes them (benchmarks/mosaic_study.py), and is
deleted afterwards. Memory is PSS of the process. A save is that of one cell, report apart, with every stage's seconds,
after getting ready for it as a viewer does; memory is looked at in the last one alone, since that takes time too.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil

import mihc
from benchmarks.mosaic_study import BIG, draw_study
from mihc import review

REVIEWER, THRESHOLDS, VIEWS, SAVES = "bench", 50, 40, 5
PARTS = ("viewer", "threshold", "save")


class PeakMemory:
    """The largest PSS of this process while it is looked after, ten times a second."""

    def __init__(self) -> None:
        self.megabytes, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.megabytes = max(self.megabytes, psutil.Process().memory_full_info().pss / 1e6)


def timed(call: object) -> tuple[float, float, object]:
    """Seconds, CPU seconds, and what came of it."""
    started, cpu = time.perf_counter(), time.process_time()
    made = call()
    return time.perf_counter() - started, time.process_time() - cpu, made


def measure_viewer(study: Path) -> None:
    """Open the slide in a viewer that runs, then look at many places of it."""
    import napari

    from napari_mihc.desk import Desk
    from napari_mihc.review import begin_review

    app = napari.qt.get_qapp()
    viewer, desk = napari.Viewer(), Desk(study, REVIEWER)
    app.processEvents()

    def shown(act: object) -> object:
        made = act()
        app.processEvents()
        viewer.screenshot(flash=False)
        return made

    with PeakMemory() as peak:
        seconds, cpu, _ = timed(lambda: shown(lambda: begin_review(viewer, desk, slide=BIG)))
        print(
            f"first picture              {seconds:8.2f} s  {cpu:8.2f} CPU s  peak {peak.megabytes:6.0f} MB", flush=True
        )
        side = viewer.layers[0].extent.world[1][-1]
        rng, steps, camera = np.random.default_rng(0), [], viewer.scene.camera
        whole = camera.zoom
        for zoom in np.geomspace(whole, 2.0, VIEWS):
            camera.zoom = float(zoom)
            centre = tuple(rng.uniform(0.2, 0.8, 2) * side)
            steps.append(timed(lambda centre=centre: shown(lambda: setattr(camera, "center", centre)))[:2])
    told = [f"{statistics.median(part):.2f} / {max(part):.2f}" for part in zip(*steps)]
    print(f"{VIEWS} places, zoom {whole:.3f} to 2: median / slowest {told[0]} s, {told[1]} CPU s", flush=True)
    print(f"peak memory of the viewer  {peak.megabytes:8.0f} MB (PSS)", flush=True)
    desk.close()
    viewer.close()


def measure_threshold(study: Path) -> None:
    """Move a threshold that a phenotype names too."""
    from napari_mihc.desk import Desk

    desk = Desk(study, REVIEWER)
    with PeakMemory() as peak:
        desk.open(BIG)
        seconds, cpu, _ = timed(lambda: desk.try_threshold("CD20", 500.0))
        print(f"thresholds, first update   {seconds:8.2f} s  {cpu:8.2f} CPU s  {len(desk.live.rows)} cells", flush=True)
        steps = [timed(lambda value=value: desk.try_threshold("CD20", value))[:2] for value in
                 np.linspace(300, 900, THRESHOLDS)]  # fmt: skip
    wall, own = (1000 * statistics.median(part) for part in zip(*steps))
    print(f"thresholds, {THRESHOLDS} updates     median {wall:.1f} ms, {own:.1f} CPU ms", flush=True)
    print(f"peak memory of the model   {peak.megabytes:8.0f} MB (PSS)", flush=True)
    desk.close()


def save_once(study: Path, steps: list[tuple[str, float]]) -> review.Changes:
    """Save, report apart; `steps` gets the stages that were computed, and when."""

    def tell(event: object) -> None:
        if event.done and event.message.startswith("recomputed"):
            steps.append((event.stage, time.perf_counter()))

    return review.save(study, reviewer=REVIEWER, slides=[BIG], report=False, progress=tell)


def measure_save(study: Path) -> None:
    """Delete one cell and save, several times."""
    ids = mihc.slide_cells(mihc.read_study(study), BIG, columns=["cell", "tissue_class"])
    ids = ids.loc[ids["tissue_class"] == "tumour", "cell"].to_numpy()
    ids = np.random.default_rng(int(time.time())).choice(ids, SAVES, replace=False)
    ready = timed(review.get_ready)  # as a viewer does it beside the picture
    print(f"getting ready              {ready[0]:8.2f} s  {ready[1]:8.2f} CPU s", flush=True)
    for cell in ids.tolist():
        with review.open_review(mihc.read_study(study), BIG, REVIEWER) as session:
            gesture = timed(lambda session=session, cell=cell: session.delete([cell]))
        steps: list[tuple[str, float]] = []
        with PeakMemory() if cell == ids[-1] else nullcontext() as peak:
            started = time.perf_counter()
            seconds, cpu, changes = timed(lambda steps=steps: save_once(study, steps))
        looked = f", peak {peak.megabytes:.0f} MB" if peak else ""
        told = ", ".join(f"{stage} {at - started:.2f}" for stage, at in steps)
        print(
            f"gesture {gesture[0]:.2f} s; save {seconds:.2f} s, {cpu:.2f} CPU s{looked}; "
            f"{len(changes.regions)} numbers, {len(changes.statistics)} tests changed; done at {told}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("big-review"))
    parser.add_argument("--side", type=int, default=32768)
    parser.add_argument("--tile", type=int, default=4096)
    parser.add_argument("--keep", action="store_true", help="do not delete the study afterwards")
    parser.add_argument("--part", choices=PARTS, help="one measurement on a study that is there")
    chosen = parser.parse_args()
    if chosen.part:
        {"viewer": measure_viewer, "threshold": measure_threshold, "save": measure_save}[chosen.part](chosen.folder)
        return
    study = draw_study(chosen.folder, side=chosen.side, tile=chosen.tile)
    seconds, cpu, done = timed(lambda: mihc.run(mihc.read_study(study), until="statistics"))
    for step in done.steps:
        if step.slide in (BIG, ""):
            print(f"  {step.stage:12s} {step.seconds:8.1f} s  {step.why}")
    print(f"from the cells to the tests {seconds:.0f} s, {cpu:.0f} CPU s", flush=True)
    for part in PARTS:  # each in a process of its own, so that its memory is its own
        subprocess.run([sys.executable, "-m", "benchmarks.review", str(study), "--part", part], check=True)
    if not chosen.keep:
        shutil.rmtree(chosen.folder)


if __name__ == "__main__":
    main()
