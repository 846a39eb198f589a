"""A table of cells instead of a picture: slides.csv, column `cells`.

The columns are those of results/cells/<slide>.parquet; calls that it has (`<marker>_positive`) are used as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from mihc.errors import CONTROL, Problem, StudyProblems
from mihc.panel import Panel
from mihc.studies.cell_files import CellFile, packing_of, read_cell_file
from mihc.studies.near_names import near_miss

COMPARTMENTS = ("nucleus", "cytoplasm", "cell")
CLASSES = ("tumour", "stroma", "other", "excluded", "outside")
LENGTHS_AND_AREAS = ("nucleus_area_um2", "cell_area_um2", "distance_to_margin_um")
CALLS = {
    "1": True,
    "true": True,
    "yes": True,
    "0": False,
    "false": False,
    "no": False,
    "": None,
    "na": None,
    "nan": None,
}
CALLS |= {"1.0": True, "0.0": False, "<na>": None, "none": None}


def read_cell_table(
    path: Path, panel: Panel, *, slide: str, phenotypes: Iterable[str] = (), means_only: bool = False
) -> pd.DataFrame:
    """Read the cells of one slide from a CSV (also .csv.gz) or parquet file.

    Parameters
    ----------
    path
        One row per cell. Columns: `x_um`, `y_um`, and as far as they are known `slide` (a table of several slides),
        `cell`, `region`, `tissue_class`, `nucleus_area_um2`, `cell_area_um2`, `distance_to_margin_um`,
        `<marker>_positive` (1/0, true/false, empty = not known), `phenotype_<name>` (same), `<marker>_level` (0
        negative, 1 weak, 2 moderate, 3 strong, empty = not known), `<marker>_<compartment>_mean` (counts), `flags`.
    panel
        Which markers the slide was stained for. Each needs calls, or means in its compartment to take a threshold of.
    slide
        Id of the slide: a table of several slides is cut to it.
    phenotypes
        Names for which calls may be given; a phenotype without calls is made from its expression.
    means_only
        Read and check `tissue_class` and the means in the markers' own compartments, those of autofluorescence too, and
        nothing else.

    Returns
    -------
    DataFrame
        `slide, cell` (uint32; numbered from 1 where not given), `x_um, y_um, region, tissue_class, flags`, then means
        as float64, calls as nullable booleans (levels alone bring them too) and levels as nullable UInt8. Without
        `tissue_class` every cell is "other"; without `region` a region is named by its class. Rows keep their order.
        With `means_only`: `tissue_class` and the means.

    Raises
    ------
    StudyProblems
        With every problem of the table at once.
    """
    phenotypes = tuple(phenotypes)
    means = _means(panel, own_only=means_only)
    numbers, words = set(means), {"slide", "tissue_class"}
    if not means_only:
        numbers |= {"cell", "x_um", "y_um", "flags", *LENGTHS_AND_AREAS, *(f"{r.marker}_level" for r in panel.markers)}
        words |= {"region", *_callable(panel, phenotypes)}
    table = _of_slide(read_cell_file(path, numbers=numbers.__contains__, words=words.__contains__), slide, path.name)
    reader = _CellReader(table, path.name)
    if means_only:
        cells = {"tissue_class": reader.classes()} | reader.measurements(means)
    else:
        cells = reader.cells(slide) | reader.measurements(means) | reader.calls(panel, phenotypes)
        reader.needs_values(panel, cells)
    if reader.problems:
        raise StudyProblems(reader.problems)
    return pd.DataFrame(cells, copy=False)


def _means(panel: Panel, *, own_only: bool) -> list[str]:
    if own_only:
        glow = [row.marker for row in panel.rows if row.role == "autofluorescence"]
        names = [f"{one}_{row.compartment}_mean" for row in panel.markers for one in (row.marker, *glow)]
        return list(dict.fromkeys(names))
    return [f"{row.marker}_{compartment}_mean" for row in panel.measured for compartment in COMPARTMENTS]


def _callable(panel: Panel, phenotypes: tuple[str, ...]) -> list[str]:
    return [f"{row.marker}_positive" for row in panel.markers] + [f"phenotype_{name}" for name in phenotypes]


def is_of_one_slide(path: Path) -> bool:
    """Whether a table has cells and no column `slide`, so that it is one slide's whole; False if it cannot be read."""
    try:
        if path.name.lower().endswith(".parquet"):
            from pyarrow import parquet

            found = parquet.read_metadata(path)
            return found.num_rows > 0 and "slide" not in found.schema.names
        head = pd.read_csv(path, dtype=str, nrows=1, encoding="utf-8-sig", compression=packing_of(path))
    except (OSError, ValueError, pd.errors.ParserError, EOFError):
        return False
    return len(head) > 0 and "slide" not in head


def _of_slide(table: CellFile, slide: str, name: str) -> CellFile:
    if "slide" not in table:
        return table
    named, codes = table.words("slide")
    mine = np.isin(codes, [code for code, one in enumerate(named) if one == slide])
    if not mine.any():
        found = ", ".join(map(repr, sorted({named[code] for code in np.unique(codes)})[:5]))
        what = f"0 of {table.size} cells are of slide {slide!r}; the column slide has {found}"
        raise StudyProblems([Problem(name, what, "Write the slide ids of slides.csv, or remove the column slide.")])
    return table if mine.all() else table.only(mine)


class _CellReader:
    """Takes columns of a table as numbers, calls and words, and keeps every problem."""

    def __init__(self, table: CellFile, name: str):
        self.table, self.name = table, name
        self.problems: list[Problem] = []

    def problem(self, column: str, what: str, fix: str = "") -> None:
        self.problems.append(Problem(f"{self.name}, column {column}", what, fix))

    def cells(self, slide: str) -> dict[str, object]:
        """The columns that every table of cells has."""
        size = self.table.size
        tissue_class = self.classes()
        region = self._regions(tissue_class) if "region" in self.table else tissue_class.copy()
        taken: dict[str, object] = {
            "slide": np.full(size, slide, dtype=object),
            "cell": self._ids(size),
            "x_um": self._numbers("x_um", needed=True),
            "y_um": self._numbers("y_um", needed=True),
            "region": region,
            "tissue_class": tissue_class,
            "flags": np.nan_to_num(self._numbers("flags")).astype(np.uint32)
            if "flags" in self.table
            else np.zeros(size, np.uint32),
        }
        return taken | {name: self._numbers(name) for name in LENGTHS_AND_AREAS if name in self.table}

    def measurements(self, means: Iterable[str]) -> dict[str, object]:
        """Mean intensities, as far as the table has them."""
        return {name: self._numbers(name) for name in means if name in self.table}

    def calls(self, panel: Panel, phenotypes: tuple[str, ...]) -> dict[str, object]:
        """Calls of markers and phenotypes, as far as the table has them."""
        names = _callable(panel, phenotypes)
        for name in self.table.names:
            if name.endswith("_positive") and name not in names:
                near = get_close_matches(name, names, n=1)
                hint = near_miss(name, names) or (f"; did you mean {near[0]}" if near else "")
                self.problem(name, f"panel.csv has no marker {name.removesuffix('_positive')!r}{hint}")
        called = {name: self._calls(name) for name in names if name in self.table}
        return called | self._with_levels(panel, called)

    def _with_levels(self, panel: Panel, called: dict[str, object]) -> dict[str, object]:
        """Levels, and calls made from them; calls that the table has beside them must say the same."""
        found: dict[str, object] = {}
        for marker in [row.marker for row in panel.markers if f"{row.marker}_level" in self.table]:
            column, calls = f"{marker}_level", f"{marker}_positive"
            values = self._numbers(column)
            if not np.isin(values[~np.isnan(values)], (0, 1, 2, 3)).all():
                self.problem(column, "a level is none of 0, 1, 2 and 3", "0 negative, 1 weak, 2 moderate, 3 strong.")
                continue
            unknown = np.isnan(values)
            found[column] = pd.arrays.IntegerArray(np.nan_to_num(values).astype(np.uint8), unknown)
            positive = pd.arrays.BooleanArray(values >= 1, unknown)
            if calls in called and not pd.Series(called[calls]).equals(pd.Series(positive)):
                self.problem(column, f"differs from {calls}: positive means level 1, 2 or 3", "Remove one of them.")
            found[calls] = positive
        return found

    def needs_values(self, panel: Panel, taken: dict[str, object]) -> None:
        """Every marker needs calls, or the means to make them from."""
        for row in panel.markers:
            mean = f"{row.marker}_{row.compartment}_mean"
            if f"{row.marker}_positive" not in taken and mean not in taken:
                what = f"the table has neither {row.marker}_positive nor {mean}"
                self.problems.append(Problem(self.name, what, f"Add one, or remove {row.marker} from the panel."))

    def _ids(self, size: int) -> np.ndarray:
        if "cell" not in self.table:
            return np.arange(1, size + 1, dtype=np.uint32)
        ids = self._numbers("cell", needed=True)
        if not np.all((ids >= 1) & (ids < 2**32) & (ids == np.floor(ids))):
            self.problem("cell", "a cell id is no whole number from 1 to 4294967295", "Or leave the column out.")
            return np.zeros(size, dtype=np.uint32)
        if len(np.unique(ids)) < size:
            self.problem("cell", f"{size - len(np.unique(ids))} cell ids are there twice", "Or leave the column out.")
        return ids.astype(np.uint32)

    def classes(self) -> np.ndarray:
        """(rows,) The tissue class of each cell; "other" where the table has no such column."""
        if "tissue_class" not in self.table:
            return np.full(self.table.size, "other", dtype=object)
        names, codes = self.table.words("tissue_class")
        unknown = sorted({names[code] for code in np.unique(codes)} - set(CLASSES))
        if unknown:
            what = f"unknown: {', '.join(map(repr, unknown[:5]))}"
            self.problem("tissue_class", what, f"Write one of {', '.join(CLASSES)}.")
        return np.array(names, dtype=object)[codes]

    def _regions(self, tissue_class: np.ndarray) -> np.ndarray:
        """(rows,) The region of each cell; one without a name is named by its class."""
        names, codes = self.table.words("region")
        wrong = sorted(name for name in {names[code] for code in np.unique(codes)} if CONTROL.search(name))
        if wrong:
            self.problem("region", f"{wrong[0]!r} holds a control character", "Write names that can be read.")
        blank = np.array([not name for name in names])
        return np.where(blank[codes], tissue_class, np.array(names, dtype=object)[codes])

    def _numbers(self, column: str, *, needed: bool = False) -> np.ndarray:
        """A column as float64; an empty cell is NaN, or a problem where a number is needed."""
        if column not in self.table:
            self.problem(column, "the column is missing", "Nucleus centroids in µm, from the slide's top-left corner.")
            return np.full(self.table.size, np.nan)
        values, wrong = self.table.numbers(column)
        wrong |= np.isnan(values) & needed
        if wrong.any():
            row = int(np.argmax(wrong))
            found = self.table.text(column, row)
            self.problem(column, f"{int(wrong.sum())} cells are no number, first {found!r} in row {row + 1}")
        return values

    def _calls(self, column: str) -> pd.arrays.BooleanArray:
        """A column of calls: True, False, or missing where it is not known."""
        names, codes = self.table.words(column)
        plain = [name.strip().lower() for name in names]
        unknown = sorted({plain[code] for code in np.unique(codes)} - set(CALLS))
        if unknown:
            self.problem(column, f"unknown calls {', '.join(map(repr, unknown[:5]))}", "Write 1, 0 or nothing.")
        meant = [CALLS.get(name) for name in plain]
        positive = np.array([call is True for call in meant])[codes]
        return pd.arrays.BooleanArray(positive, np.array([call is None for call in meant])[codes])
