"""SIGKILLs at random moments of a run, each resumed with the same command; the digest must be the undisturbed run's.

    python benchmarks/kill.py STUDY [--kills 20] [--seed 1]

STUDY has finished results; it is copied without them. Each kill hits the whole process group after a random part of
what an undisturbed run still has to do, so that the kills are spread from the first slide to the report.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mihc.store import Store, digest_results


def killed(command: list[str], after: float) -> bool:
    """Start the command, kill it after a time; False when it had finished by then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds until a kill, at most")
    chosen = parser.parse_args()
    generator = random.Random(chosen.seed)
    expected = digest_results(chosen.study / "results")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        shutil.copytree(chosen.study, folder, ignore=shutil.ignore_patterns("results"))
        command = [sys.executable, "-m", "mihc", "run", str(folder)]
        kills = 0
        while kills < chosen.kills:
            if killed(command, generator.uniform(0.3, chosen.longest)):
                kills += 1
                continue
            shutil.rmtree(folder / "results")  # it had finished: begin again
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        damage = Store(folder / "results").verify()
        same = digest_results(folder / "results") == expected
        leftovers = len(list((folder / "results" / ".tmp").glob("*"))) if (folder / "results" / ".tmp").exists() else 0
        print(
            f"kills={kills} exit={done.returncode} digest_equal={same} damaged={len(damage)} leftovers={leftovers} "
            f"last_resume_s={time.perf_counter() - started:.1f}"
        )
        return 0 if same and not damage and done.returncode == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
