"""The content hash of a slide: read again when it may have changed, refused when it changes meanwhile."""

from __future__ import annotations

import os

import pytest

from mihc.errors import InputError
from mihc.store import Store


def test_an_input_is_hashed_again_only_when_it_may_have_changed(tmp_path, monkeypatch):
    store, slide = Store(tmp_path / "results"), tmp_path / "slide.tif"
    slide.write_bytes(b"pixels")
    monkeypatch.setattr("mihc.stores.inputs._AT_REST_NS", -1)
    first = store.hash_input(slide)
    monkeypatch.setattr("mihc.stores.inputs.hash_file", lambda path: pytest.fail("read again"))
    assert store.hash_input(slide) == first
    monkeypatch.undo()
    monkeypatch.setattr("mihc.stores.inputs._AT_REST_NS", -1)
    stat = slide.stat()
    slide.write_bytes(b"pixelZ")
    os.utime(slide, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time: still seen by its ctime
    assert store.hash_input(slide) != first


def test_an_input_at_rest_for_less_than_a_clock_tick_is_read_every_time(tmp_path):
    store, slide = Store(tmp_path / "results"), tmp_path / "slide.tif"
    slide.write_bytes(b"pixels")
    store.hash_input(slide)
    assert not (store.folder / ".records/inputs").exists()


def test_SL42_an_input_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    store, slide = Store(tmp_path / "results"), tmp_path / "slide.tif"
    slide.write_bytes(b"pixels")
    monkeypatch.setattr("mihc.stores.inputs.hash_file", lambda path: path.write_bytes(b"more pixels") and "x")
    with pytest.raises(InputError, match="changed while reading"):
        store.hash_input(slide)
