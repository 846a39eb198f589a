"""The chapter of slides: for each one picture, quality, thresholds, ledger, regions and the command that opens it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from mihc.figures import SlidePicture, shrunk
from mihc.panel import Panel
from mihc.plots.overlays import MOST_POINTS, histogram_svg, ledger_svg, slide_layers
from mihc.plots.pictures import Histogram, Histograms
from mihc.plots.style import POINT_COLOURS
from mihc.reports.commands import Target, opened
from mihc.reports.doubts import Suspect
from mihc.reports.numbers import Numbers, as_float, text

BUDGET_BYTES = 5_000_000  # of all thumbnails together, as text in the page
DOTS_BYTES = 1_500_000  # of all dots on them
_BYTES_PER_DOT = 6.5
LONGEST_PX = 900
_COLOUR = re.compile("[0-9A-Fa-f]{6}")
_BYTES_PER_PX = 0.34  # what a fluorescence thumbnail costs as base64 JPEG, at the upper end


@dataclass(frozen=True)
class Layer:
    """A layer of the slide's picture that can be switched on and off."""

    name: str
    colour: str
    count: int
    on: bool


@dataclass(frozen=True)
class Row:
    """One row of a table on a slide's page: its place in the whole table, and its cells."""

    index: int
    cells: pd.Series
    picture: Markup | str = ""

    @property
    def fine(self) -> bool:
        """Whether a quality check has nothing to say."""
        return text(self.cells.get("verdict")) == "ok"


@dataclass(frozen=True)
class RegionColumn:
    """One region of a slide: its rows of regions.csv by population."""

    name: str
    tissue_class: str
    rows: dict[str, int]  # population -> row of regions.csv
    first: int


@dataclass(frozen=True)
class SlidePage:
    """What the page shows of one slide."""

    anchor: str
    slide: str
    facts: pd.Series  # its row of the slides table
    worst: str  # "ok" | "warn" | "fail" | "failed"
    picture: Markup
    layers: tuple[Layer, ...]
    qc: tuple[Row, ...]
    thresholds: tuple[Row, ...]
    ledger: tuple[Row, ...]
    ledger_bar: Markup
    regions: tuple[RegionColumn, ...]
    populations: tuple[str, ...]
    command: str  # opens it where nothing is in doubt
    doubt: Suspect | None = None  # why to look at it first, and what to type for that


def slide_pages(
    numbers: Numbers,
    pictures: Sequence[SlidePicture],
    panels: dict[str, Panel],
    leading: Sequence[str],
    histograms: Histograms | None = None,
    suspected: Sequence[Suspect] = (),
) -> list[SlidePage]:
    """One page per slide, in the order of the slides table.

    Parameters
    ----------
    numbers : Numbers
    pictures : sequence of SlidePicture
        A slide without one gets its tables only.
    panels : dict of name to Panel
        For the colours of markers.
    leading : sequence of str
        Populations that the report speaks of: their dots are shown from the start.
    histograms : dict of slide to dict of marker to Histogram
        For the table of thresholds; without them the pictures'.
    suspected : sequence of Suspect
        Why to look at a slide: the same reasons in the same order as at the top of the report.
    """
    slides = numbers["slides"]
    most = most_points(pictures)
    shapes = {picture.slide: picture.histograms for picture in pictures} if histograms is None else histograms
    by_slide = {picture.slide: shrunk(picture, thumbnail_px(len(pictures))) for picture in pictures}
    pages = [
        _page(numbers, index, row, by_slide.get(text(row["slide"])), panels, leading, most, shapes)
        for index, row in slides.iterrows()
    ]
    doubtful = {suspect.slide: suspect for suspect in suspected}
    can_open = opened(numbers)
    return [
        replace(page, doubt=doubtful.get(page.slide), command=page.command if page.slide in can_open else "")
        for page in pages
    ]


def thumbnail_px(slides: int) -> int:
    """The longest side that keeps all thumbnails within `BUDGET_BYTES`, however many slides there are."""
    return int(min(LONGEST_PX, (BUDGET_BYTES / max(1, slides) / _BYTES_PER_PX) ** 0.5))


def most_points(pictures: Sequence[SlidePicture]) -> int:
    """How many dots a population may have on a slide so that all of them keep within `DOTS_BYTES`."""
    layers = sum(len(picture.positives) for picture in pictures)
    return int(min(MOST_POINTS, DOTS_BYTES / _BYTES_PER_DOT / max(1, layers)))


def _page(
    numbers: Numbers,
    index: int,
    facts: pd.Series,
    picture: SlidePicture | None,
    panels: dict[str, Panel],
    leading: Sequence[str],
    most: int,
    histograms: Histograms,
) -> SlidePage:
    slide = text(facts["slide"])
    regions = _regions(numbers["regions"], slide)
    populations = tuple(dict.fromkeys(population for region in regions for population in region.rows))
    colours = point_colours(list(picture.positives), panels.get(picture.panel)) if picture else {}
    known = [name for name in populations if any(_is_told(numbers, region.rows.get(name)) for region in regions)]
    ledger = _rows(numbers["area_ledger"], slide)
    return SlidePage(
        anchor=f"slide-{index + 1}",
        slide=slide,
        facts=facts,
        worst=_worst(numbers, slide, text(facts.get("status"))),
        picture=slide_layers(picture, colours, most) if picture else Markup(""),
        layers=_layers(picture, colours, leading) if picture else (),
        qc=_rows(numbers["qc"], slide),
        thresholds=_thresholds(numbers["thresholds"], slide, histograms.get(slide, {})),
        ledger=ledger,
        ledger_bar=ledger_svg(pd.DataFrame([row.cells for row in ledger])) if ledger else Markup(""),
        regions=regions,
        populations=populations,
        command=review_command(slide, regions, known, leading or _with_dots(picture)),
    )


def _is_told(numbers: Numbers, row: int | None) -> bool:
    """Whether a row of regions.csv has a count of positive cells."""
    return row is not None and bool(text(numbers["regions"].at[row, "positive_cells"]))


def point_colours(populations: Sequence[str], panel: Panel | None) -> dict[str, str]:
    """A colour for each population's dots: its channel's where it is a marker, else the next of a fixed cycle."""
    by_marker = {row.marker: f"#{row.colour}" for row in panel.rows if _COLOUR.fullmatch(row.colour)} if panel else {}
    return {
        name: by_marker.get(name, POINT_COLOURS[place % len(POINT_COLOURS)]) for place, name in enumerate(populations)
    }


def _layers(picture: SlidePicture, colours: dict[str, str], leading: Sequence[str]) -> tuple[Layer, ...]:
    populations = list(picture.positives)
    shown = [name for name in populations if name in leading][:2] or _with_dots(picture)[:1]
    dots = (Layer(name, colours[name], len(picture.positives[name]), name in shown) for name in populations)
    margin = (Layer("distance to the margin", "#ffffff", 0, False),) if picture.tumour_um is not None else ()
    return (Layer("regions", "", len(picture.regions), True), *dots, *margin)


def _with_dots(picture: SlidePicture | None) -> list[str]:
    """The populations of which the picture has a positive cell."""
    return [name for name, points in picture.positives.items() if len(points)] if picture else []


def _rows(table: pd.DataFrame, slide: str) -> tuple[Row, ...]:
    if table.empty:
        return ()
    return tuple(Row(int(index), cells) for index, cells in table[table["slide"].astype(str) == slide].iterrows())


def _thresholds(table: pd.DataFrame, slide: str, histograms: dict[str, Histogram]) -> tuple[Row, ...]:
    return tuple(Row(row.index, row.cells, _histogram(row.cells, histograms)) for row in _rows(table, slide))


def _histogram(cells: pd.Series, histograms: dict) -> Markup:
    histogram = histograms.get(cells["marker"])
    if histogram is None:
        return Markup("")
    value, low, high = (as_float(cells.get(key)) for key in ("value", "low", "high"))
    return histogram_svg(histogram, value=value, low=low, high=high, verdict=text(cells["verdict"]))


def _regions(table: pd.DataFrame, slide: str) -> tuple[RegionColumn, ...]:
    if table.empty:
        return ()
    rows = table[table["slide"].astype(str) == slide]
    return tuple(
        RegionColumn(
            text(name), text(kind), {text(p): int(i) for i, p in group["population"].items()}, int(group.index[0])
        )
        for (name, kind), group in rows.groupby(["region", "tissue_class"], sort=False)
    )


def _worst(numbers: Numbers, slide: str, status: str) -> str:
    if status.lower().startswith("fail"):
        return "failed"
    qc = numbers["qc"]
    verdicts = set(qc.loc[qc["slide"].astype(str) == slide, "verdict"]) if len(qc) else set()
    return next((verdict for verdict in ("fail", "warn") if verdict in verdicts), "ok")


def review_command(
    slide: str, regions: Sequence[RegionColumn], populations: Sequence[str], leading: Sequence[str]
) -> str:
    """What to type to see the slide's first region and the population spoken of; "" without a result.

    `populations` are those that the slide can tell; without one the region is shown alone.
    """
    if not regions:
        return ""
    shown = next((name for name in leading if name in populations), next(iter(populations), ""))
    return Target(slide, regions[0].name, shown).command


def points_note(most: int) -> str:
    """How dots are thinned."""
    return (
        f"Dots mark thumbnail pixels that hold a positive cell, at most {most} per population; "
        "the review shows every cell. Beside a threshold the cells are drawn by their counts: a line at the threshold, "
        "its interval shaded, heights as square roots of numbers of cells, so that a few positive ones are seen."
    )
