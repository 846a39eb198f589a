"""Ingest beside a tuned loop of the same work: CPU seconds, peak memory, and what a second worker gains.

    python benchmarks/ingest.py [FOLDER] [--side 4096] [--pairs 5]
    python benchmarks/ingest.py FOLDER --until cells # what a second worker gains until the cells are measured
    python benchmarks/ingest.py FOLDER --layouts     # chunks and shards: seconds to write, window and viewer reads

The slide (8 channels, 16 bit, zlib OME-TIFF in tiles of 512) is drawn into FOLDER once and kept. The loop decodes,
halves, compresses and writes on two threads: no hashes, no checksums, nothing forced to the disk. mihc's seconds are
those of `mihc run --until slide`, its decoding processes included, without the imports of any of them: the hash of the
input, the pixels' checks, the checksums and the commit are in them. Its memory is PSS summed over all processes, 10
times a second. Each run has its own process. What a second worker gains is measured with the start of the processes,
and beside the pure loop in turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

CHANNELS, TILE, CHUNK = 8, 512, 1024


def draw(folder: Path, side: int) -> Path:
    """A study of one slide, made of one drawn tile of 2048 pixels; returns the slide."""
    from mihc.drawing.study_files import PANEL
    from mihc.synthetic import draw_slide

    slide = folder / f"S{side}.ome.tif"
    folder.mkdir(parents=True, exist_ok=True)
    if not slide.exists():
        drawn = draw_slide(seed=1, size_px=(2048, 2048))
        image = np.tile(drawn.image, (1, side // 2048, side // 2048))
        names = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": list(drawn.channels)}}
        tifffile.imwrite(slide, image, tile=(TILE, TILE), compression="zlib", metadata=names, photometric="minisblack")
    (folder / "study.toml").write_text('[study]\nname = "ingest"\n')
    (folder / "panel.csv").write_text(PANEL)
    (folder / "clinical.csv").write_text("patient\n001\n")
    (folder / "slides.csv").write_text(f"slide,file,patient\nS1,{slide.name},001\n")
    return slide


def ingest(slide: Path, workers: int, until: str) -> float:
    """What mihc does; returns its peak memory in MB."""
    from mihc import pipeline
    from mihc.study import read_study

    results = pipeline.run(read_study(slide.parent), workers=workers, until=until)
    assert not results.failed, results.failed
    return results.peak_memory_mb or 0.0


def cpu_of_starts(count: int) -> float:
    """CPU seconds of decoding processes that start, import and do nothing."""
    from mihc.decoders import Decoders
    from mihc.pipeline import DECODING

    before = cpu_seconds()
    with Decoders(DECODING) as decoders, ThreadPoolExecutor(count) as pool:
        decoders.prepare(count)
        pool.submit(lambda: decoders.tell_idle("close_slide", [["", None, None, None, ""]])).result()
    return cpu_seconds() - before


def limit(slide: Path, workers: int, decode: Callable) -> None:
    """The same work in one tuned loop: the pyramid of a channel is halved in memory, chunks are files."""
    out = slide.parent / "limit"
    shutil.rmtree(out, ignore_errors=True)
    with tifffile.TiffFile(slide) as tiff, slide.open("rb") as file:
        import os

        pages, across = list(tiff.pages), tiff.pages[0].imagewidth // TILE
        places = [(page.dataoffsets, page.databytecounts) for page in pages]
        height, width = pages[0].shape

        def put(level: int, c: int, y: int, x: int, pixels: np.ndarray) -> None:
            data = imagecodecs.blosc_encode(
                np.ascontiguousarray(pixels), level=1, compressor="zstd", shuffle="bitshuffle", typesize=2, numthreads=1
            )
            path = out / f"{level}/c/{c}/{y}/{x}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        def one(c: int, y: int, x: int) -> None:
            offsets, counts = places[c]
            block = np.empty((CHUNK, CHUNK), np.uint16)
            for i, j in itertools.product(range(CHUNK // TILE), repeat=2):
                tile = (y * CHUNK // TILE + i) * across + x * CHUNK // TILE + j
                pixels = np.frombuffer(decode(os.pread(file.fileno(), counts[tile], offsets[tile])), np.uint16)
                block[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE] = pixels.reshape(TILE, TILE)
            put(0, c, y, x, block)
            half = CHUNK // 2
            halved[c][y * half : (y + 1) * half, x * half : (x + 1) * half] = halve(block)

        halved: dict[int, np.ndarray] = {}
        with ThreadPoolExecutor(workers) as pool:
            for c in range(CHANNELS):
                level, halved[c] = 1, np.empty((height // 2, width // 2), np.uint16)
                grid = itertools.product([c], range(height // CHUNK), range(width // CHUNK))
                list(pool.map(lambda at: one(*at), grid))
                plane = halved.pop(c)
                while True:
                    for y, x in itertools.product(*(range(0, side, CHUNK) for side in plane.shape)):
                        put(level, c, y // CHUNK, x // CHUNK, plane[y : y + CHUNK, x : x + CHUNK])
                    if max(plane.shape) <= CHUNK // 2:
                        break
                    level, plane = level + 1, halve(plane)


def compiled_halve() -> Callable[[np.ndarray], np.ndarray]:
    """The mean of 2 x 2 pixels, as fast as it can be."""
    from numba import njit

    @njit("u2[:,:](u2[:,::1])", nogil=True)
    def mean(block: np.ndarray) -> np.ndarray:
        out = np.empty((block.shape[0] // 2, block.shape[1] // 2), np.uint16)
        for y in range(out.shape[0]):
            for x in range(out.shape[1]):
                top = np.uint32(block[2 * y, 2 * x]) + block[2 * y, 2 * x + 1]
                out[y, x] = (top + block[2 * y + 1, 2 * x] + block[2 * y + 1, 2 * x + 1] + np.uint32(2)) >> np.uint32(2)
        return out

    return mean


def spinning() -> Callable[[int], None]:
    """A pure numba loop of a second or so, split among threads."""
    from numba import njit

    @njit("u8(u8, u8)", nogil=True)
    def spin(rounds: int, seed: int) -> int:
        state = np.uint64(seed)
        for _ in range(rounds):
            state ^= state << np.uint64(13)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
        return state

    def run(threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda seed: spin(80_000_000, seed), range(1, 9)))

    return run


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    told = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in told)


def peak_mb() -> float:
    """Peak memory of this process so far."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024  # ru_maxrss would count the parent's too


def one_run(what: str, slide: Path, workers: int, until: str) -> None:
    """Run one of them in this process and print what it took."""
    starts = 0.0
    if what == "mihc":  # what a loop imports and compiles is not counted either
        import mihc.pipeline
        import mihc.steps.decode
        import mihc.stores.arrays  # noqa: F401

        shutil.rmtree(slide.parent / "results", ignore_errors=True)
        starts = cpu_of_starts(workers)
        run = lambda: ingest(slide, workers, until)  # noqa: E731
    else:
        decode = imagecodecs.deflate_decode if what == "libdeflate" else imagecodecs.zlib_decode
        run = lambda: limit(slide, workers, decode)  # noqa: E731
    before, started = cpu_seconds(), time.perf_counter()
    peak = run()
    wall, cpu = time.perf_counter() - started, cpu_seconds() - before
    print(json.dumps({"cpu": cpu - starts, "wall": wall, "peak": peak or peak_mb(), "starts": starts}))


def measured(what: str, slide: Path, workers: int = 2, until: str = "slide") -> dict[str, float]:
    """One run of one of them in a process of its own."""
    command = [sys.executable, __file__, str(slide.parent), "--one", what, "--workers", str(workers)]
    command += ["--until", until, "--side"]
    told = subprocess.run([*command, slide.stem.partition(".")[0][1:]], check=True, capture_output=True, text=True)
    return json.loads(told.stdout.splitlines()[-1])


def compare(slide: Path, pairs: int) -> None:
    """CPU seconds and memory of interleaved runs; the ratio is the median of the pairs'."""
    runs = {what: [] for what in ("zlib", "libdeflate", "mihc")}
    for _ in range(pairs):
        for what, found in runs.items():
            found.append(measured(what, slide))
    for what, found in runs.items():
        cpu, peak = statistics.median(run["cpu"] for run in found), max(run["peak"] for run in found)
        ratio = statistics.median(ours["cpu"] / run["cpu"] for ours, run in zip(runs["mihc"], found))
        name = what if what == "mihc" else f"loop, {what}"
        print(f"ingest    {name:18s} {cpu:6.2f} CPU-s, peak {peak:4.0f} MB;  mihc takes {ratio:4.2f} times as long")
    starts = statistics.median(run["starts"] for run in runs["mihc"])
    print(f"ingest    {'':18s} {starts:6.2f} CPU-s more in every run to start two processes")


def speed_up(slide: Path, pairs: int, until: str) -> None:
    """What a second worker gains, beside what a second thread gains a loop that only computes."""
    spin = spinning()

    def seconds(threads: int) -> float:
        started = time.perf_counter()
        spin(threads)
        return time.perf_counter() - started

    shares = []
    for _ in range(pairs):
        one, loop_1 = measured("mihc", slide, 1, until)["wall"], seconds(1)
        two, loop_2 = measured("mihc", slide, 2, until)["wall"], seconds(2)
        shares.append(one / two / (loop_1 / loop_2))
        print(f"2 workers until {until}: mihc {one / two:4.2f} times as fast, a pure numba loop {loop_1 / loop_2:4.2f}")
    print(f"2 workers until {until}: median share {statistics.median(shares):4.2f}")


def note(rates: dict[str, float], name: str, size: int, started: float) -> None:
    """Keep the best of some rates, in MB per CPU second."""
    rates[name] = max(rates.get(name, 0.0), size / 1e6 / (time.process_time() - started))


def layouts(slide: Path) -> None:
    """Seconds to write two channels, MB per CPU second of window reads and viewer reads, for chunks and shards."""
    from mihc.stores.arrays import create_array
    from mihc.stores.chunks import read_box, read_layout, write_box

    image, folder = tifffile.imread(slide, key=[0, 1]), slide.parent / "layout"
    generator = np.random.default_rng(0)
    for chunk, shard in ((256, 2048), (512, 512), (512, 2048), (512, 4096), (1024, 1024), (1024, 2048)):
        shutil.rmtree(folder, ignore_errors=True)
        sides = {"chunk": (1, chunk, chunk), "shard": (1, shard, shard), "dimension_names": "cyx"}
        create_array(folder, shape=image.shape, dtype=image.dtype, **sides)
        layout, rates = read_layout(folder), {}
        for _ in range(3):
            started = time.process_time()
            write_box(folder, layout, (0, 0, 0), image)
            note(rates, "written", image.nbytes, started)
            for name, side, count in (("windows", 2176, 12), ("screens", 1024, 24), ("tiles", 256, 100)):
                places = [[int(at) for at in generator.integers(0, image.shape[1] - side, 2)] for _ in range(count)]
                started = time.process_time()
                for y, x in places:
                    read_box(folder, layout, ((0, 2), (y, y + side), (x, x + side)))
                note(rates, name, count * 4 * side**2, started)
        files = sum(1 for path in (folder / "c").rglob("*") if path.is_file())
        told = ", ".join(f"{name} {rate:4.0f}" for name, rate in rates.items())
        print(f"layout    chunk {chunk:4d} shard {shard:4d}: {told} MB per CPU-s; {files} files")
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("ingest-benchmark"))
    parser.add_argument("--side", type=int, default=4096, help="pixels, a multiple of 2048")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--layouts", action="store_true")
    parser.add_argument("--until", default="slide", help="what a second worker gains until this stage, such as cells")
    parser.add_argument("--workers", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=["mihc", "zlib", "libdeflate"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        global halve
        halve = compiled_halve() if chosen.one != "mihc" else None
        slide = chosen.folder.resolve() / f"S{chosen.side}.ome.tif"
        one_run(chosen.one, slide, chosen.workers, chosen.until)
        return
    slide = draw(chosen.folder.resolve(), chosen.side)
    if chosen.layouts:
        layouts(slide)
        return
    if chosen.until == "slide":
        compare(slide, chosen.pairs)
    speed_up(slide, chosen.pairs, chosen.until)


if __name__ == "__main__":
    main()
