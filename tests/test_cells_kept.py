"""Row groups of cells that a save leaves alone are copied from the table before: the bytes are those of it anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import mihc
from mihc import review, store, synthetic
from mihc.results import cells_file
from mihc.steps import join
from mihc.store import KeptRows, Store
from mihc.stores import tables

SLIDE = "S01"
GROUP = 8  # cells: the slide has some thirty row groups


@pytest.fixture(scope="module", autouse=True)
def small_groups():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROW_GROUP", GROUP)
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A small drawn study with all features that look beyond a cell; not to be written to."""
    folder = synthetic.draw_study(tmp_path_factory.mktemp("kept") / "study", patients=1, size_px=(512, 512))
    settings = folder / "study.toml"
    settings.write_text(settings.read_text() + '\n[measure]\nfeatures = ["mean", "background", "spillover"]\n')
    run(folder)
    return folder


@pytest.fixture
def folder(measured, tmp_path) -> Path:
    return shutil.copytree(measured, tmp_path / "study")


@pytest.fixture
def pieces(monkeypatch) -> list[type]:
    """What the row groups of the slide's table were made of, the last time that it was written."""
    seen: list[type] = []
    write = store.write_joined_cells

    def watched(path, columns, added, made):
        if Path(path).stem != SLIDE:
            return write(path, columns, added, made)
        made = list(made)
        seen[:] = [type(one) for one in made]
        return write(path, columns, added, made)

    monkeypatch.setattr(join.store, "write_joined_cells", watched)
    return seen


def run(folder: Path) -> None:
    assert mihc.run(mihc.read_study(folder), until="positives").failed == {}


def table_bytes(folder: Path) -> bytes:
    return (folder / "results" / cells_file(SLIDE)).read_bytes()


def cells(folder: Path) -> pd.DataFrame:
    return mihc.slide_cells(mihc.read_study(folder), SLIDE)


def edit(folder: Path, gesture) -> None:
    with review.open_review(mihc.read_study(folder), SLIDE, "anna") as session:
        gesture(session)
    review.choose_final(folder, "anna", slides=[SLIDE])


def bytes_anew(folder: Path) -> bytes:
    """The table as it is written where no earlier one is there."""
    Store(folder / "results").withdraw("positives", SLIDE)
    run(folder)
    return table_bytes(folder)


def test_save_after_save_copies_what_it_leaves_alone(folder, pieces):
    known = cells(folder)["cell"].to_numpy()
    count = -(-len(known) // GROUP)
    assert count > 20
    for number, gesture in enumerate([
        lambda session: session.delete([int(known[3])]),
        lambda session: session.delete([int(known[-1])]),
        lambda session: session.merge([int(known[100]), int(review_neighbour(folder, known[100]))]),
        lambda session: session.undo(),
        lambda session: session.delete([int(one) for one in known[GROUP : 2 * GROUP]]),
    ]):  # fmt: skip
        edit(folder, gesture)
        run(folder)
        copied = sum(one is KeptRows for one in pieces)
        assert count > copied >= 4, number
        assert table_bytes(folder) == bytes_anew(folder), number
        assert KeptRows not in pieces


def review_neighbour(folder: Path, cell: int) -> int:
    """The cell nearest to another one."""
    table = cells(folder).set_index("cell")
    away = (table["x_um"] - table.at[cell, "x_um"]) ** 2 + (table["y_um"] - table.at[cell, "y_um"]) ** 2
    return int(away.drop(index=cell).idxmin())


def test_another_threshold_or_other_regions_leave_no_row_group_as_it_was(folder, pieces):
    before = cells(folder)
    edit(folder, lambda session: session.set_threshold("CD20", float(before["CD20_cell_mean"].median())))
    run(folder)
    assert pieces and KeptRows not in pieces
    assert cells(folder)["CD20_positive"].sum() >= len(before) // 2 > before["CD20_positive"].sum()
    assert table_bytes(folder) == bytes_anew(folder)
    region = before["region"].mode()[0]
    edit(folder, lambda session: session.remove_region(region))
    run(folder)
    assert pieces and KeptRows not in pieces and (cells(folder)["region"] == region).sum() == 0
    assert table_bytes(folder) == bytes_anew(folder)


def test_a_damaged_table_is_not_copied_from(folder, pieces):
    known = cells(folder)["cell"].to_numpy()
    path = folder / "results" / cells_file(SLIDE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    edit_of_a_damaged = mihc.read_study(folder)
    with pytest.raises(mihc.errors.DamagedError):
        review.open_review(edit_of_a_damaged, SLIDE, "anna")
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    edit(folder, lambda session: session.delete([int(known[3])]))
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    run(folder)
    assert pieces and KeptRows not in pieces
    assert table_bytes(folder) == bytes_anew(folder)


def test_every_cell_of_a_slide_can_be_deleted(folder):
    """Where features look beyond a cell, its surroundings are measured again, and at the end nobody is left in them."""
    known = cells(folder)["cell"].tolist()
    for some in (known[:-1], known[-1:]):
        edit(folder, lambda session, some=some: session.delete(some))
        run(folder)
    assert len(cells(folder)) == 0 and list(cells(folder))[:2] == ["slide", "cell"]
    counts = store.read_csv(folder / "results" / ".stages" / "positives" / f"{SLIDE}.regions.csv")
    assert len(counts) and (counts["cells"] == 0).all() and counts["positivity_percent"].isna().all()
    edit(folder, lambda session: session.undo())
    run(folder)
    assert cells(folder)["cell"].tolist() == known[-1:]


LOOK = """
import sys
import mihc
from mihc import review
study = mihc.read_study(sys.argv[1])
cell = int(mihc.slide_cells(study, "S01")["cell"].iloc[0])
with review.open_review(study, "S01", "anna") as session:
    session.delete([cell])
review.get_ready()
before = set(sys.modules)
assert "positives S01" in review.save(sys.argv[1], reviewer="anna", slides=["S01"], report=False).computed
print([name for name in ("numba", "scipy.optimize", "pyarrow.parquet", "zarr") if name in set(sys.modules) - before])
"""


def test_whoever_got_ready_waits_for_no_library_in_the_first_save(folder):
    run(folder)
    done = subprocess.run([sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
