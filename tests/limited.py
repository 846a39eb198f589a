"""Files that may harm are opened in a process of its own, which may not ask for more than 4 GB of addresses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHILD = """
import json, pathlib, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from mihc.errors import MihcError
from mihc.slide import inspect_slide, open_slide
for path in json.load(sys.stdin):
    try:
        inspect_slide(path)
        with open_slide(path, pixel_size_um=0.5) as slide:
            said = ["read", int(slide.image[:].sum(dtype="u8"))]
    except MihcError as error:
        said = ["refused", error.what]
    status = pathlib.Path("/proc/self/status").read_text()  # ru_maxrss would count what the parent had before
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1000
    print(json.dumps([path, *said, peak]), flush=True)
"""


def outcomes(paths: Sequence[Path], *, seconds: float = 120) -> dict[str, tuple[str, object, float]]:
    """File name -> ("read", sum of its pixels) or ("refused", the words), and the peak memory so far in MB.

    A crash or a traceback of the process fails the test that asks, with the file that it was at.
    """
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", CHILD]
    names = [str(path) for path in paths]
    done = subprocess.run(command, input=json.dumps(names), capture_output=True, text=True, timeout=seconds)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    at = names[len(lines)] if len(lines) < len(names) else "the end"
    assert done.returncode == 0, f"exit {done.returncode} at {at}: {done.stderr[-2000:]}"
    return {Path(path).name: (word, said, peak) for path, word, said, peak in lines}
