"""One look for every figure: palette, type, and how a figure becomes the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import math
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22303c"  # text and axes
QUIET = "#7b8794"  # secondary text, reference lines
GRID = "#e3e8ec"
GROUP_COLOURS = (
    "#2f6f9f",
    "#d0802b",
    "#3f9a7b",
    "#8d6aa8",
    "#8a8f98",
    "#b5525c",
)  # told apart by every common colour vision
UP_COLOUR, DOWN_COLOUR = "#1b7837", "#762a83"  # of a direction, never of a group; ColorBrewer's PRGn
REGION_COLOURS = {  # bright on dark fluorescence; Okabe and Ito's colours
    "tumour": "#e69f00",
    "stroma": "#56b4e9",
    "other": "#c9cdd2",
    "excluded": "#cc79a7",
}
AREA_COLOURS = REGION_COLOURS | {"glass": "#eef1f3", "unannotated": "#f3ecd2"}
POINT_COLOURS = ("#f0e442", "#7fe0b8", "#ff9da0", "#ffffff", "#c9a6ff", "#ffc266", "#9fd3ff", "#d5f088")
VERDICT_COLOURS = {"ok": "#3f9a7b", "warn": "#c27a12", "fail": "#b23a48"}

_SETTINGS = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],  # the first comes with matplotlib: one layout
    "font.size": 9.0,
    "text.parse_math": False,  # a "$" in a patient's group is a dollar sign
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, searchable, editable
    "svg.hashsalt": "mihc",  # the same figure is the same file
    "savefig.dpi": 150,
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Draw within this: mihc's settings, and no complaint about glyphs that the PNG's font lacks."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support", category=UserWarning)
        yield


def plain(text: object, longest: int = 0) -> str:
    """Text as one safe line: control, direction and broken characters become "�"; cut to `longest` characters."""
    line = str(text)
    if not line.isprintable():
        line = "".join(_shown(character) for character in line)
    if longest and len(line) > longest:
        return line[: longest - 1].rstrip() + "…"
    return line


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category in {"Zl", "Zp"}:
        return " "
    direction_override = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    not_in_xml = category in {"Cc", "Cs"} or ord(character) & 0xFFFE == 0xFFFE
    return "\ufffd" if direction_override or not_in_xml else character


def p_number(p: float) -> str:
    """A p value as a reader expects it: "0.0004", "0.032", "0.45", "< 0.0001"; NaN is a dash."""
    if not math.isfinite(p):
        return "–"
    if p < 0.0001:
        return "<\u00a00.0001"
    return f"{p:.1g}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_text(p: float) -> str:
    """A p value in a sentence: "p = 0.032", "p < 0.0001", "p not computed"."""
    number = p_number(p)
    return "p not computed" if number == "–" else f"p {number}" if number.startswith("<") else f"p = {number}"


def new_figure(width_in: float, height_in: float, layout: str | None = "constrained") -> Figure:
    """An empty figure outside pyplot's global state; without a layout its axes stay where they are put, and it is drawn
    once instead of twice."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout=layout, facecolor="white")


def headline(axes: Axes, title: str, test: str = "") -> None:
    """The title, and under it in quiet ink the test and its p value."""
    axes.set_title(plain(title, 70), pad=20 if test else 8, fontweight="bold")
    if test:
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "annotation_clip": False}
        said = axes.annotate(plain(test, 90), xy=(0, 1), xytext=(0, 4.5), color=QUIET, fontsize=8.5, **place)
        said.set_in_layout(False)


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG: text as text, no date, the same bytes every time."""
    buffer = io.BytesIO()
    with look():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG, the same bytes every time."""
    buffer = io.BytesIO()
    with look():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"compress_level": 4})
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg and `name`.png into `folder`, made if missing; `name` comes from `safe_name`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    paths[0].write_bytes(svg_bytes(figure))
    figure.set_layout_engine("none")  # laid out once, for both
    paths[1].write_bytes(png_bytes(figure))
    return paths


def safe_name(*parts: object, longest: int = 72) -> str:
    """A file name from words: [A-Za-z0-9_-] only, at most `longest` characters; a digest tells changed ones apart."""
    import hashlib

    whole = "_".join(str(part) for part in parts if str(part))
    ascii_only = unicodedata.normalize("NFKD", whole).encode("ascii", "ignore").decode()
    cleaned = "".join(c if c.isalnum() or c in "_-" else "-" for c in ascii_only)
    if cleaned == whole and len(cleaned) <= longest:
        return cleaned
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{cleaned[: longest - 7].strip('-')}-{digest}"
