"""A first panel.csv from the channel names of the slides: guesses that a person reads over."""

from __future__ import annotations

import re
from collections.abc import Sequence

COLUMNS = ("panel", "channel", "marker", "role", "compartment", "threshold", "colour")
NUCLEAR_STAINS = re.compile(
    r"(dapi|hoechst|dna|nuclei|nucleus|nuclear|draq|syto|dapi.*nuclei|nuclei.*dapi|histone)[\d_\s-]*", re.IGNORECASE
)
AUTOFLUORESCENCE = re.compile(r"(af|auto-?\s*fluo.*|autofl|blank)", re.IGNORECASE)
TUMOUR = re.compile(
    r"(pan-?\s?(cyto)?(ck|keratins?)|ck(\d.*)?|cytokeratins?.*|keratins?.*|epcam|ae1.?ae3)", re.IGNORECASE
)
DYES = re.compile(
    r"(af|alexa.*|cy|opal|qd|q-?dot|dylight|atto|coralite|sytox|bodipy|txred|fitc|tritc|cf|pe|apc|gfp|rfp)[\s_-]*\d*",
    re.IGNORECASE,
)
NUCLEAR_MARKERS = (
    *("ki67", "mki67", "pcna", "ph3", "phh3", "cyclind1", "myc", "h2ax", "gammah2ax"),
    *("foxp3", "tbet", "eomes", "tcf1", "tcf7", "tox", "rorgt", "gata3", "irf4", "mum1", "irf8", "bcl6", "pax5"),
    *("p53", "tp53", "p63", "p40", "ttf1", "sox2", "sox10", "pax8", "cdx2", "nkx31", "erg"),
    *("er", "pr", "ar", "esr1", "pgr"),
)


def first_panel(channels: Sequence[str], *, panel: str = "") -> list[dict[str, str]]:
    """Guess the panel of a list of channels: one row of panel.csv per channel, in their order.

    A channel without a name of its own is named by its 0-based index.
    """
    rows, markers = [], set()
    for index, channel in enumerate(channels):
        by_index = not channel.strip() or list(channels).count(channel) > 1 or channel[0] in "=+-@\t\r"
        marker = _marker(channel) or f"channel {index}"
        while marker.casefold() in markers:
            marker = f"{marker} {index}"
        markers.add(marker.casefold())
        role = _role(marker)
        rows.append(
            {
                "panel": panel,
                "channel": str(index) if by_index else channel,
                "marker": marker,
                "role": role,
                "compartment": "nucleus" if role == "nuclei" or _key(marker) in NUCLEAR_MARKERS else "cell",
                "threshold": "",
                "colour": "",
            }
        )
    return rows


def _marker(channel: str) -> str:
    """The name before a dye in brackets, without what a marker's name may not hold."""
    name = re.sub(r"\s*\([^()]*\)\s*$", "", channel) or channel
    return re.sub(r'[|"\s]+', " ", name).strip().lstrip("=+-@ ")


def _key(marker: str) -> str:
    return re.sub(r"[^a-z0-9]", "", marker.casefold())


def _role(marker: str) -> str:
    if NUCLEAR_STAINS.fullmatch(marker):
        return "nuclei"
    if AUTOFLUORESCENCE.fullmatch(marker):
        return "autofluorescence"
    parts = re.split(r"[\s,+/_-]+", marker)
    return "tumour" if TUMOUR.fullmatch(marker) or all(map(TUMOUR.fullmatch, parts)) else "marker"


def panel_notes(rows: Sequence[dict[str, str]], place: str) -> list[str]:
    """What a person has to look at in a guessed panel."""
    roles = [row["role"] for row in rows]
    notes = []
    if "nuclei" not in roles:
        notes.append(f"{place}: no channel looks like a DNA stain; give one the role nuclei.")
    if "tumour" not in roles:
        notes.append(
            f"{place}: no channel looks like a tumour marker; without one, and without annotations, "
            "tumour and stroma cannot be told apart."
        )
    dyes = [row["marker"] for row in rows if row["role"] == "marker" and DYES.fullmatch(row["marker"])]
    if dyes:
        notes.append(f"{place}: {', '.join(dyes)} are dyes; write the marker that each stains in the column marker.")
    return notes
