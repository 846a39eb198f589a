"""What a transaction makes visible, replaces, refuses and takes with it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from store_generations import assert_old_or_new, reference_generations, write_generation

from mihc.errors import DamagedError, InputError, MihcError, OutputConflict, ResourceError
from mihc.store import Store, write_csv, write_text
from mihc.stores import files


@pytest.fixture
def generations(tmp_path):
    return reference_generations(tmp_path)


def test_R6_an_exception_inside_leaves_the_old_generation_and_no_trace(tmp_path, generations):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    with pytest.raises(ZeroDivisionError), store.transaction("table", {"input": "2"}) as transaction:
        write_text(transaction.path("regions.csv"), "half")
        raise ZeroDivisionError
    assert assert_old_or_new(store.folder, generations) == 1


def test_R6_a_file_that_was_announced_and_not_written_commits_nothing(tmp_path, generations):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    with pytest.raises(MihcError, match="announced patients"), store.transaction("table", {}) as transaction:
        write_text(transaction.path("regions.csv"), "new")
        transaction.path("patients.csv")
    assert assert_old_or_new(store.folder, generations) == 1


def test_R4_the_reason_to_compute_again_names_the_fields_that_changed(tmp_path):
    store, key = Store(tmp_path / "results"), {"input": "a", "settings": "b", "code": "1"}
    assert store.why_recompute("cells", key, "S1") == "no earlier result"
    with store.transaction("cells", key, "S1") as transaction:
        write_text(transaction.path("cells/S1.csv"), "cell\n1\n")
    assert store.why_recompute("cells", key, "S1") == ""
    assert store.why_recompute("cells", key, "S2") == "no earlier result"
    assert store.why_recompute("cells", {**key, "code": "2", "input": "z"}, "S1") == "changed: code, input"
    assert store.why_recompute("cells", {"input": "a", "settings": "b"}, "S1") == "changed: code"
    store.path("cells/S1.csv").write_text("cell\n1\n2\n")
    assert store.why_recompute("cells", key, "S1") == "changed file cells/S1.csv"
    (store.folder / "cells/S1.csv").unlink()
    assert store.why_recompute("cells", key, "S1") == "missing file cells/S1.csv"
    store.forget("cells", "S1")
    assert store.why_recompute("cells", key, "S1") == "no earlier result"


def test_R5_the_digest_follows_the_content_and_not_the_time(tmp_path):
    digests = []
    for name, notes in (("a", 1), ("b", 1), ("c", 2)):
        store = Store(tmp_path / name)
        with store.transaction("cells", {"run": name}, "S1") as transaction:
            write_text(transaction.path("cells/S1.csv"), "cell\n1\n")
            transaction.notes["bits"] = notes
        digests.append(store.record("cells", "S1").digest)
    assert digests[0] == digests[1] != digests[2]
    assert Store(tmp_path / "c").open_notes("cells", "S1") == {"bits": 2}


def test_S6_a_new_image_takes_the_stages_with_it_whose_labels_lay_inside(tmp_path):
    store = Store(tmp_path / "results")

    def image(number):
        with store.transaction("slide", {"n": str(number)}, "S1") as transaction:
            write_text(transaction.path("slides/S1.ome.zarr") / "zarr.json", "{}")

    image(1)
    for stage, labels in (("cells", "cells"), ("regions", "regions")):
        with store.transaction(stage, {}, "S1") as transaction:
            write_text(transaction.path(f"slides/S1.ome.zarr/labels/{labels}/zarr.json"), "{}")
            if stage == "regions":
                write_csv_of_one(transaction.path("unrelated.csv"))
    names = json.loads((store.folder / "slides/S1.ome.zarr/labels/zarr.json").read_text())
    assert names["attributes"]["ome"] == {"version": "0.5", "labels": ["cells", "regions"]}
    assert store.verify() == []
    image(2)
    assert store.why_recompute("cells", {}, "S1") == store.why_recompute("regions", {}, "S1") == "no earlier result"
    assert store.verify() == []


def write_csv_of_one(path):
    write_csv(path, pd.DataFrame({"cells": [1]}))


def test_R1_many_slides_are_written_at_once_by_threads_of_one_process(tmp_path):
    store, barrier = Store(tmp_path / "results"), threading.Barrier(8)

    def slide(number):
        barrier.wait()
        for generation in range(5):
            with (
                store.lock(f"S{number}"),
                store.transaction("cells", {"g": str(generation)}, f"S{number}") as transaction,
            ):
                write_text(transaction.path(f"cells/S{number}.csv"), f"{generation}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(slide, range(8)))
    assert store.verify() == []
    assert {store.path(f"cells/S{number}.csv").read_text() for number in range(8)} == {"4"}


def test_OD1_a_folder_of_somebody_else_is_refused_and_not_touched(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputConflict, match="not a mihc output") as refusal:
        Store(folder)
    assert refusal.value.exit_code == 5
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("thesis.docx", "years of work")]


def test_OD4_results_of_a_newer_mihc_are_refused(tmp_path):
    write_generation(Store(tmp_path / "results"), 1)
    marker = tmp_path / "results/.records/mihc.json"
    marker.write_text(json.dumps({"schema": 99, "mihc": "7.1"}))
    with pytest.raises(OutputConflict, match=r"need mihc >= 7\.1") as refusal:
        Store(tmp_path / "results")
    assert refusal.value.exit_code == 5


def test_OD7_results_behind_a_symbolic_link_are_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        Store(tmp_path / "results")


def test_OD8_too_little_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(ResourceError, match="needed") as refusal:
        Store(tmp_path / "results").require_space(10**18)
    assert refusal.value.exit_code == 6 and not (tmp_path / "results").exists()


def test_OD10_a_file_changed_by_hand_is_found_by_name_and_not_read(tmp_path):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    (store.folder / "regions.csv").write_text("generation\n7\n")
    assert store.verify() == ["regions.csv: the file's content is not what was committed (stage table)"]
    with pytest.raises(MihcError, match="not what was committed") as refusal:
        store.path("regions.csv")
    assert refusal.value.exit_code == 7


def test_OD10_whatever_is_done_to_any_stored_file_is_found(tmp_path):
    store = Store(tmp_path / "results")
    write_generation(store, 1)
    stored = [p for p in store.folder.rglob("*") if p.is_file() and p.name not in ("mihc.json",)]
    assert len(stored) == 5  # regions.csv, old_only.csv, two pictures, the record
    for path in stored:
        content = path.read_bytes()
        for bit in range(0, 8 * len(content), 13):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            assert store.verify() != []
        for damaged in (b"", content[:-1], content + b"\0"):
            path.write_bytes(damaged)
            assert store.verify() != []
        path.write_bytes(content)
        assert store.verify() == []
    (store.folder / "figures/p9.svg").write_text("not mine")
    assert store.verify() == ["figures/p9.svg: the file was not committed by any stage (stage table)"]


def test_a_missing_result_says_what_to_type(tmp_path):
    with pytest.raises(InputError, match="mihc run"):
        Store(tmp_path / "results").path("cells/S1.parquet")


def test_X4_names_that_some_file_system_cannot_hold_are_refused(tmp_path):
    hostile = [
        "../x",
        "/x",
        "a//b",
        "a/../b",
        "x:y",
        "a\\b",
        "CON",
        "nul.csv",
        "a.",
        "a b",
        "",
        ".",
        "é",
        "x" * 121,
        "a\0",
    ]
    with Store(tmp_path / "results").transaction("table", {}) as transaction:
        for name in hostile:
            with pytest.raises(MihcError):
                transaction.path(name)
        for name in (".tmp/x", ".locks/x", ".records/x"):
            with pytest.raises(MihcError, match="belongs to the store"):
                transaction.path(name)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_file_held_open_by_another_program_keeps_both_and_the_next_run_puts_it_in_place(tmp_path, monkeypatch):
    store, replace = Store(tmp_path / "results"), os.replace
    write_generation(store, 1)
    monkeypatch.setattr(files, "_PAUSES", (0.0,))

    def held(source, target):
        if Path(target) == store.folder / "regions.csv":
            raise PermissionError(errno.EACCES, "in use", str(target))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OutputConflict, match=r"results/regions\.csv is held open") as conflict:
        write_generation(store, 2)
    assert conflict.value.exit_code == 5
    assert (store.folder / "regions.csv").read_text() == "generation\n1\n"
    assert store.path("regions.csv").read_text() == "generation\n2\n"  # the store knows where the new one is
    assert store.path("figures/p3.svg").read_text() == "picture 3 of 2"  # the rest is finished
    assert store.why_recompute("table", {"input": "2"}) == ""
    assert store.verify() == []
    monkeypatch.setattr(os, "replace", replace)
    with store.lock():
        pass
    assert (store.folder / "regions.csv").read_text() == "generation\n2\n"
    assert not (store.folder / "regions_new.csv").exists()
    assert store.record("table").beside == {} and store.verify() == []


def test_a_folder_held_open_is_kept_beside_too(tmp_path, monkeypatch, generations):
    store, replace = Store(tmp_path / "results"), os.replace
    write_generation(store, 1)
    monkeypatch.setattr(files, "_PAUSES", ())
    held = store.folder / "figures"
    monkeypatch.setattr(
        os,
        "replace",
        lambda a, b: (_ for _ in ()).throw(PermissionError(13, "in use")) if Path(a) == held else replace(a, b),
    )
    with pytest.raises(OutputConflict, match="results/figures_new"):
        write_generation(store, 2)
    assert store.verify() == []
    monkeypatch.setattr(os, "replace", replace)
    store.recover()
    with store.lock():
        pass
    assert assert_old_or_new(store.folder, generations) == 2


def test_what_is_vouched_for_is_recorded_as_it_was_written_and_a_disk_that_loses_bytes_is_noticed(tmp_path):
    store, text = Store(tmp_path / "results"), "counts\n"
    fact = {"a.txt": (len(text), hashlib.sha256(text.encode()).hexdigest())}
    with store.transaction("table", {}) as transaction:
        write_text(transaction.path("figures") / "a.txt", text)
        transaction.vouch("figures", fact)
    assert store.record("table").files == {"figures/a.txt": fact["a.txt"]} and store.verify() == []
    with pytest.raises(DamagedError, match="7 bytes were written and 5 are there"), store.transaction("table", {}) as t:
        write_text(t.path("figures") / "a.txt", text[:5])
        t.vouch("figures", fact)
    assert store.path("figures/a.txt").read_text() == text
    with store.transaction("table", {}) as transaction:
        write_text(transaction.path("figures") / "a.txt", "kounts\n")  # same length, other bytes than were in hand
        transaction.vouch("figures", fact)
    assert store.verify() == ["figures/a.txt: the file's content is not what was committed (stage table)"]
