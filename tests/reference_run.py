"""Run every case of a folder of R's answers: `make reference DIR=...`, or python tests/reference_run.py FOLDER.

The folder has the format that tests/reference/README.md describes. Prints per family what passed and the worst error,
then what failed; the exit code is 1 if anything did.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from reference_cases import Compared, families
from reference_r import BY_NAME

from mihc.errors import InputError


def compared(family: str, case: dict, folder: Path) -> Compared:
    """One case run; an exception is a failure unless R refuses too and mihc says clearly why."""
    c = Compared(case, folder)
    if family not in BY_NAME:
        c.failures.append(f"family {family!r} is not known here")
        return c
    try:
        BY_NAME[family](c)
    except InputError as error:
        c.values += 1
        if not case["error"]:
            c.failures.append(f"refused: {error}")
    except Exception as error:  # a crash is one failing case, the others still run
        c.failures.append(f"{type(error).__name__}: {error}")
    if not c.values and not c.failures:
        c.failures.append("nothing was compared")
    return c


def main(folder: Path) -> int:
    """Print per family: passed / total, worst error, then the failing cases; 1 if any fails."""
    found = families(folder)
    if not found:
        print(f"{folder}: no family of cases (<family>.json) found")
        return 1
    failed: list[str] = []
    print(f"{'family':14}{'passed / total':>16}{'values':>9}{'worst error':>14}{'worst of drawn':>16}")
    for family, cases in found.items():
        done = [compared(family, case, folder) for case in cases]
        passed, values = sum(not c.failures for c in done), sum(c.values for c in done)
        worst, drawn = (max((getattr(c, kind) for c in done), default=0.0) for kind in ("worst", "worst_drawn"))
        print(f"{family:14}{passed:>7} / {len(done):<6}{values:>9}{worst:>14.1e}{drawn or math.nan:>16.1e}")
        failed += [f"{family} {c.case['id']}: {text}" for c in done for text in c.failures]
    print("\n".join(["", *failed]) if failed else "\nAll cases pass.")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/reference_run.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
