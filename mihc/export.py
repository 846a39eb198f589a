"""Other people's formats: a study's cells and regions in a folder of their own, written aside and then visible at once.

    csv          cells/<slide>.csv and regions.csv
    xlsx         <slide>.xlsx and regions.xlsx
    anndata      <slide>.h5ad
    spatialdata  <slide>.zarr: image, labels, regions and the table that annotates the cells' labels
    geojson      <slide>.geojson and <slide>_cells.geojson, for QuPath
    mcquant      <slide>_cells.csv and markers.csv, as MCMICRO has them

Nothing under results/ is touched. Where a review counts, numbers, regions, outlines and labels are as it left them, and
mihc-export.json says whose it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import mihc
from mihc.errors import OutputConflict, ResourceError, UsageError
from mihc.exports.folders import export_folder
from mihc.exports.sources import Source, sources
from mihc.store import hash_json
from mihc.study import Study

FORMATS = ("csv", "xlsx", "anndata", "spatialdata", "geojson", "mcquant")
NEEDS = {"xlsx": "xlsxwriter", "anndata": "anndata", "spatialdata": "anndata"}  # from the extra "export"
OF_IMAGES = ("spatialdata", "geojson", "mcquant")  # formats of pixels


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    slides: tuple[str, ...]
    notes: tuple[str, ...]  # what is not in it, and whose review is, in words


def export_study(
    study: Study,
    *,
    to: str = "csv",
    out: Path | None = None,
    slides: Sequence[str] | None = None,
    images: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Exported:
    """Write a study's cells and regions for other programs.

    Parameters
    ----------
    to
        One of `FORMATS`.
    out
        The folder; None is exports/<to> in the study's. An older export there is replaced, anything else is refused.
    slides
        Only these; None is every slide that has results.
    images
        Whether SpatialData gets the pictures too (gigabytes); labels, regions and table it always gets.
    tell
        Called with a slide's id when its turn comes.

    Raises
    ------
    UsageError
        The format is unknown, its library is not installed, a slide has no results, or nothing of the format can be
        written.
    OutputConflict
        The folder holds what no export wrote, a run changed the results meanwhile, or cells were edited since the last.
    """
    if to not in FORMATS:
        raise UsageError(f"no format is called {to!r}", fix=f"Write one of {', '.join(FORMATS)}.")
    if to in NEEDS and find_spec(NEEDS[to]) is None:
        raise UsageError(f"--to {to} needs {NEEDS[to]}", fix='Type: pip install "mihc[export]"')
    chosen, missing = sources(study, list(slides) if slides is not None else None)
    notes = [f"{slide}: has no results, so it is not in the export" for slide in missing]
    chosen, left_out = _with_pixels(chosen, to)
    notes += left_out + (_without_class(chosen) if to == "geojson" else [])
    for source in chosen:
        source.check_review_is_in_results()
    reviewed = {source.slide: source.reviewed() for source in chosen if source.review}
    notes += [_reviewed_words(slide, done) for slide, done in reviewed.items()]
    before = _state(chosen)
    about = {"format": to, "mihc": mihc.__version__, "study": study.settings.study.name, "results": before}
    about |= {"slides": [source.slide for source in chosen], "reviews": reviewed}
    folder = out if out is not None else study.folder / "exports" / to
    _require_space(folder, chosen, to, images)
    with export_folder(folder, results=study.results, about=about) as aside:
        _write(aside, to, chosen, images=images, tell=tell or (lambda slide: None))
        if _state(chosen) != before:
            raise OutputConflict(
                "a run changed the results while they were exported; nothing was written",
                place=str(study.results),
                fix="Type the same command again when the run has ended.",
            )
    return Exported(folder, tuple(about["slides"]), tuple(notes))


def _reviewed_words(slide: str, done: dict) -> str:
    counts = {
        "cells removed or changed": done["cells_removed_or_changed"],
        "cells made or changed": done["cells_made_or_changed"],
        "edit of regions" if done["region_edits"] == 1 else "edits of regions": done["region_edits"],
    }
    said = [f"{count} {what}" for what, count in counts.items() if count]
    said += [f"thresholds of {', '.join(done['thresholds'])}"] if done["thresholds"] else []
    return f"{slide}: as {done['reviewer']} left it in a review ({', '.join(said)})"


def _with_pixels(chosen: list[Source], to: str) -> tuple[list[Source], list[str]]:
    """The slides that a format can hold, and a note for each of the others."""
    if to not in OF_IMAGES:
        return chosen, []
    kept = [source for source in chosen if source.has_image]
    if not kept:
        raise UsageError(
            f"no slide has an image, and --to {to} is of pixels",
            fix="Cells that came as tables go out with --to csv, xlsx or anndata.",
        )
    return kept, [
        f"{source.slide}: its cells came as a table, so it is not in the export"
        for source in chosen
        if source not in kept
    ]


def _without_class(chosen: Sequence[Source]) -> list[str]:
    """A note for each slide with calls that are not known: in QuPath a cell has a class or none, nothing between."""
    notes = []
    for source in chosen:
        calls = source.some([column for column in source.populations.values() if column in source.columns])
        unknown = [
            name for name, column in source.populations.items() if column in calls and calls[column].isna().any()
        ]
        if unknown:
            named = ", ".join(unknown)
            notes.append(f"{source.slide}: calls of {named} are not known; cells without the class may be of them")
    return notes


def _state(chosen: Sequence[Source]) -> str:
    """A hash of what is exported."""
    digests = {source.slide: {stage: record.digest for stage, record in source.records.items()} for source in chosen}
    study = chosen[0].store.record("study")
    return hash_json([digests, study.digest if study else ""])


def _require_space(folder: Path, chosen: Sequence[Source], to: str, images: bool) -> None:
    """Refuse before anything is written where pictures would not fit."""
    if to != "spatialdata":
        return
    needed = sum(source.size(images=images) for source in chosen)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ResourceError(
            f"about {needed / 1e9:.1f} GB are copied and {free / 1e9:.1f} GB are free",
            place=str(folder),
            fix="Free some space, name another --out, or leave the pictures out with --no-images.",
        )


def _write(folder: Path, to: str, chosen: Sequence[Source], *, images: bool, tell: Callable[[str], None]) -> None:
    if to in ("csv", "xlsx"):
        _write_tables(folder, to, chosen, tell)
        return
    for source in chosen:
        tell(source.slide)
        if to == "geojson":
            from mihc.exports.geojson import write_cell_file, write_region_file

            write_region_file(folder / f"{source.slide}.geojson", source)
            write_cell_file(folder / f"{source.slide}_cells.geojson", source)
        elif to == "anndata":
            from mihc.exports.annotated import write_annotated

            write_annotated(folder / f"{source.slide}.h5ad", source)
        elif to == "spatialdata":
            from mihc.exports.spatial_data import write_spatial_data

            write_spatial_data(folder / f"{source.slide}.zarr", source, images=images)
        else:
            from mihc.exports.mcquant import write_quantified

            write_quantified(folder / f"{source.slide}_cells.csv", source)
    if to == "mcquant":
        from mihc.exports.mcquant import write_markers

        write_markers(folder, chosen)


def _write_tables(folder: Path, to: str, chosen: Sequence[Source], tell: Callable[[str], None]) -> None:
    """Cells with their regions, and the study's rows of regions.csv."""
    from mihc.exports.csv_tables import region_rows, write_cells_csv
    from mihc.exports.workbooks import refuse_too_many, write_cells_book, write_regions_book
    from mihc.store import write_csv

    regions = region_rows(chosen)
    if to == "csv":
        write_csv(folder / "regions.csv", regions)
        (folder / "cells").mkdir()
        for source in chosen:
            tell(source.slide)
            write_cells_csv(folder / "cells" / f"{source.slide}.csv", source)
        return
    for source in chosen:
        refuse_too_many(source)
    write_regions_book(folder / "regions.xlsx", regions)
    for source in chosen:
        tell(source.slide)
        write_cells_book(folder / f"{source.slide}.xlsx", source, regions[regions["slide"] == source.slide])
