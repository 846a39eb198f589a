"""Every file of a folder opened as a slide, each in its own process under a limit of time and memory.

    python benchmarks/odd_files.py FOLDER [--seconds 20] [--megabytes 1000]

A file must be read, or refused in words: no traceback, no crash of a decoder, no hang, no memory beyond the limit. What
was read is compared with tifffile, where tifffile reads the file as an array of the same size. Exit code 1 when a file
is neither.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ADDRESS_SPACE = 4 << 30  # bytes a child may ask for at all
BLOCK = 1024
SLIDES = (".tif", ".tiff", ".qptiff", ".czi", ".zarr")


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    file: str
    word: str  # "read" | "refused" | "CRASH" | "HANG" | "MEMORY" | "OTHER PIXELS"
    seconds: float
    peak_mb: float
    said: str


def found(folder: Path) -> list[Path]:
    """The slides in a folder; an OME-Zarr is one, whatever lies inside it."""
    inside = [path for path in sorted(folder.rglob("*")) if path.suffix.casefold() in SLIDES]
    return [path for path in inside if not any(parent.suffix.casefold() == ".zarr" for parent in path.parents)]


def look(path: Path) -> dict[str, str]:
    """Open a file and read every pixel; what a person must choose (pixel size, scene, plane) is chosen for it."""
    from mihc.errors import MihcError

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    try:
        return read_all(path)
    except MihcError as error:
        return {"word": "refused", "said": error.what}


def read_all(path: Path) -> dict[str, str]:
    from mihc.slide import open_slide, read_contents

    contents = read_contents(path)
    sized = any(not claim.problem for claim in contents.scenes[0].pixel_sizes)
    several = contents.scenes[0].z_planes > 1
    choice = {"scene": 0 if len(contents.scenes) > 1 else None, "z": "max" if several else None}
    with open_slide(path, pixel_size_um=None if sized else 0.5, **choice) as slide:
        _, height, width = slide.image.shape
        for y in range(0, height, BLOCK):
            for x in range(0, width, BLOCK):
                _ = slide.image[:, y : y + BLOCK, x : x + BLOCK]
        said = f"{slide.format} {' x '.join(map(str, slide.image.shape))} {slide.image.dtype}"
        other = None if several else in_tifffile(path, slide.image.shape)
        if other is not None and not (slide.image[:] == other).all():
            return {"word": "OTHER PIXELS", "said": said}
        return {"word": "read", "said": said + ("" if other is None else ", as tifffile reads it")}


def in_tifffile(path: Path, shape: tuple[int, int, int]):
    """The same picture as tifffile sees it, as (c, y, x); None when it sees another shape or none."""
    import numpy as np
    import tifffile

    try:
        pixels = np.squeeze(tifffile.imread(path))
    except Exception:  # any reason
        return None
    wanted = tuple(side for side in shape if side > 1)
    if pixels.shape == wanted:
        return pixels.reshape(shape)
    if pixels.ndim == 3 and np.moveaxis(pixels, -1, 0).shape == shape:
        return np.moveaxis(pixels, -1, 0)
    return None


def try_file(path: Path, name: str, seconds: float, megabytes: float) -> Outcome:
    """Look at one file in a process of its own."""
    command = [sys.executable, __file__, "--one", str(path)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    hung = False
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        hung = True
    taken = time.monotonic() - started
    told = json.loads(out.decode().splitlines()[-1]) if process.returncode == 0 and out else {}
    peak = float(told.get("peak_mb", "nan"))
    word, said = told.get("word", "CRASH"), told.get("said", (err.decode().strip().splitlines() or ["no word"])[-1])
    if hung:
        word, said = "HANG", f"over {seconds:g} s"
    elif peak > megabytes:
        word = "MEMORY"
    return Outcome(name, word, taken, peak, said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--one", action="store_true", help="look at one file in this process (used by the script)")
    asked = parser.parse_args()
    if asked.one:
        told = look(asked.folder)
        status = Path("/proc/self/status").read_text()  # ru_maxrss would count what the parent had before
        told["peak_mb"] = str(int(status.split("VmHWM:")[1].split()[0]) / 1000)
        print(json.dumps(told))
        return 0
    outcomes = []
    for path in found(asked.folder):
        outcome = try_file(path, str(path.relative_to(asked.folder)), asked.seconds, asked.megabytes)
        outcomes.append(outcome)
        print(f"{outcome.word:<8} {outcome.seconds:5.1f} s {outcome.peak_mb:6.0f} MB  {outcome.file}")
        print(f"    {outcome.said}")
    bad = [outcome for outcome in outcomes if outcome.word not in ("read", "refused")]
    slowest = max((outcome.seconds for outcome in outcomes), default=0.0)
    largest = max((outcome.peak_mb for outcome in outcomes if outcome.peak_mb == outcome.peak_mb), default=0.0)
    counts = {word: sum(outcome.word == word for outcome in outcomes) for word in ("read", "refused")}
    print(f"{len(outcomes)} files: {counts['read']} read, {counts['refused']} refused, {len(bad)} neither;", end=" ")
    print(f"at most {slowest:.1f} s and {largest:.0f} MB")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
