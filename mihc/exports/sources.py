"""A slide's results as the writers see them, each file compared with what was committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mihc import results, store
from mihc.errors import OutputConflict, UsageError, quoted_path
from mihc.panel import Panel
from mihc.regions import Region
from mihc.reviews.runs import EditedLabels
from mihc.reviews.states import SlideReview
from mihc.store import Record, Store
from mihc.study import SlideRow, Study

if TYPE_CHECKING:
    import pandas as pd

    from mihc.store import StoredImage
    from mihc.stores.arrays import StoredArray

ROWS = 1 << 16  # cells that are held at once


@dataclass(frozen=True)
class Source:
    """One slide that has been measured."""

    study: Study
    row: SlideRow
    store: Store

    @property
    def slide(self) -> str:
        """The slide's id."""
        return self.row.slide

    @property
    def panel(self) -> Panel:
        """What it was stained with."""
        return self.study.panel_of(self.row)

    @property
    def populations(self) -> dict[str, str]:
        """Every population that it can show, with its column of the cells table."""
        return results.population_columns(self.study, self.slide)

    @property
    def has_image(self) -> bool:
        """Whether its cells were measured on an image, so that there are outlines and areas of them."""
        return self.row.file is not None

    @property
    def records(self) -> dict[str, Record]:
        """What is committed of it."""
        found = {stage: self.store.record(stage, self.slide) for stage in ("slide", "cells", "regions", "positives")}
        return {stage: record for stage, record in found.items() if record is not None}

    def size(self, *, images: bool) -> int:
        """How many bytes its labels have on the disk, and its picture."""
        made = {stage: record.files.items() for stage, record in self.records.items()}
        stages = ("slide", "cells") if images else ("cells",)
        return sum(size for stage in stages for _, (size, _) in made.get(stage, ()))

    @property
    def cells_file(self) -> Path:
        """Its cells table."""
        return self.store.path(results.cells_file(self.slide))

    @property
    def folder(self) -> Path:
        """Its OME-Zarr."""
        return self.store.path(results.image_folder(self.slide))

    def cells(self) -> pd.DataFrame:
        """Read the whole cells table, its patient after its slide."""
        return self._with_patient(store.read_cells(self.cells_file))

    @property
    def columns(self) -> list[str]:
        """The columns of its cells table, without its patient."""
        return store.cell_columns(self.cells_file)

    def some(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns of the whole cells table."""
        return store.read_cells(self.cells_file, columns=columns)

    def parts(self, rows: int = ROWS) -> Iterator[pd.DataFrame]:
        """Read the cells table part by part, columns as in `cells`; one without rows where there is no cell."""
        for part in store.read_cells_in_parts(self.cells_file, rows):
            yield self._with_patient(part)

    def image(self) -> StoredImage:
        """Open the pyramid."""
        return store.open_image(self.folder)

    def labels(self, name: str) -> StoredArray | EditedLabels:
        """Open the full-resolution labels "cells" or "nuclei", with the cell edits of the review that counts."""
        return self.label_levels(name)[0]

    def label_levels(self, name: str) -> list[StoredArray] | list[EditedLabels]:
        """Open every level of the labels "cells" or "nuclei", largest first, with the cell edits."""
        self.store.path(f"{results.image_folder(self.slide)}/labels/{name}")
        machine, review = store.open_labels(self.folder, name), self.review
        if review is None or not review.edits_cells:
            return machine
        return [EditedLabels(level, review, name, step=2**k) for k, level in enumerate(machine)]

    @property
    def review(self) -> SlideReview | None:
        """The review that counts, None where nobody's does or it changed nothing."""
        review = self.study.reviews.get(self.slide)
        return review if review and review.changes_numbers else None

    def reviewed(self) -> dict[str, object]:
        """What the review that counts did to this slide; empty without one."""
        return self.review.told() if self.review else {}

    def check_review_is_in_results(self) -> None:
        """Raise OutputConflict where cells were edited, or edits undone, since the results were made."""
        edited, record = self.review is not None and self.review.edits_cells, self.store.record("edits", self.slide)
        if (record.key["edits"] if record else "") != (self.review.cells_hash if edited else ""):
            raise OutputConflict(
                "its cells were edited since the last run, so that labels and numbers would not fit together",
                place=self.slide,
                fix=f"Type: mihc run {quoted_path(self.study.folder)}",
            )

    def regions(self) -> list[Region]:
        """Its regions that hold any area; none overlap."""
        return [region for region in results.slide_regions(self.study, self.slide) if not region.polygon_um.is_empty]

    def _with_patient(self, cells: pd.DataFrame) -> pd.DataFrame:
        cells.insert(1, "patient", self.row.patient)
        return cells


def sources(study: Study, slides: list[str] | None) -> tuple[list[Source], list[str]]:
    """Return the slides that have results, in the order of slides.csv, and the ids of those that have none.

    Raises
    ------
    UsageError
        Where there are no results at all, or a slide that was named has none, or is not in slides.csv.
    """
    if not study.results.is_dir():
        raise UsageError(
            "there are no results yet", place=str(study.folder), fix=f"Type: mihc run {quoted_path(study.folder)}"
        )
    opened = Store(study.results)
    opened.recover()
    known = {row.slide: row for row in study.slides}
    strangers = [slide for slide in slides or [] if slide not in known]
    if strangers:
        raise UsageError(f"slides.csv has no slide {strangers[0]!r}", fix=f"It has {', '.join(known)}.")
    wanted = [row for row in study.slides if slides is None or row.slide in slides]
    measured = [row for row in wanted if opened.record("positives", row.slide)]
    missing = [row.slide for row in wanted if row not in measured]
    if (slides is not None and missing) or not measured:
        fix = f"Type: mihc run {quoted_path(study.folder)}"
        raise UsageError(f"no results yet of {', '.join(missing)}", place=str(study.folder), fix=fix)
    return [Source(study, row, opened) for row in measured], missing
