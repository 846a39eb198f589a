"""The page's own scripts: written by hand, and the only ones that its content security policy lets run."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

NAMES = ("explorer.js", "tables.js")


def scripts(folder: Path, *, explored: bool) -> list[Markup]:
    """The scripts' text, as it stands between the tags; the first only where there is something to explore."""
    names = NAMES if explored else NAMES[1:]
    return [Markup((folder / name).read_text(encoding="utf-8")) for name in names]


def policy(texts: list[Markup]) -> str:
    """A policy that allows these scripts by their hashes, the page's style and its own pictures, and nothing else."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
