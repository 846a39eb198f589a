"""What mihc makes of results that are there already: of an older mihc, without their marker, on a file server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from mihc.errors import DamagedError
from mihc.store import Store, hash_json, rebuild_marker, write_text

MARKER = ".records/mihc.json"


def write_stage(store: Store, text: str) -> None:
    with store.transaction("table", {"input": text}) as transaction:
        write_text(transaction.path("regions.csv"), text)


def made_older(folder: Path) -> None:
    """The marker and every record as a mihc of schema 0 would have left them."""
    for path in (folder / ".records").rglob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "schema": 0}))


def test_OD5_results_of_an_older_mihc_are_computed_again_and_said_to_be(tmp_path: Path):
    write_stage(Store(tmp_path / "results"), "old")
    made_older(tmp_path / "results")
    store = Store(tmp_path / "results")
    assert store.remarks == ["These results are of an older mihc: what it computed is computed again."]
    assert store.why_recompute("table", {"input": "old"}) == "no earlier result"
    assert (store.folder / "regions.csv").read_text() == "old"  # until the new generation is whole
    write_stage(store, "new")
    assert store.path("regions.csv").read_text() == "new" and store.verify() == []
    assert Store(tmp_path / "results").remarks == []
    assert Store(tmp_path / "results").why_recompute("table", {"input": "new"}) == ""


def test_OD5_an_older_record_that_was_changed_is_still_damaged(tmp_path: Path):
    write_stage(Store(tmp_path / "results"), "old")
    made_older(tmp_path / "results")
    record = tmp_path / "results/.records/cohort/table.json"
    content = json.loads(record.read_text())
    content["record"]["digest"] = hash_json("another")
    record.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match="does not match its checksum"):
        Store(tmp_path / "results").record("table")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"schema": "x"}', b"\xff\xfe\x00"])
def test_OD9_a_marker_that_is_missing_or_garbage_is_damage_and_can_be_rebuilt(tmp_path: Path, content: bytes | None):
    write_stage(Store(tmp_path / "results"), "kept")
    marker = tmp_path / "results" / MARKER
    if content is None:
        marker.unlink()
    else:
        marker.write_bytes(content)
    with pytest.raises(DamagedError, match="the marker of the results") as refused:
        Store(tmp_path / "results")
    assert refused.value.exit_code == 7 and "--repair" in refused.value.fix
    assert (tmp_path / "results/regions.csv").read_text() == "kept"
    rebuild_marker(tmp_path / "results")
    store = Store(tmp_path / "results")
    assert store.verify() == [] and store.path("regions.csv").read_text() == "kept"


def test_OD9_the_command_line_exits_7_and_repairs(tmp_path: Path):
    write_stage(Store(tmp_path / "results"), "kept")
    (tmp_path / "results" / MARKER).unlink()
    command = [sys.executable, "-m", "mihc", "verify", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 7 and "the marker of the results is missing" in refused.stderr
    repaired = subprocess.run([*command, "--repair"], capture_output=True, text=True)
    assert (repaired.returncode, repaired.stdout) == (0, "Every stored byte is as it was written.\n")


def test_OD9_a_marker_is_not_invented_for_a_folder_of_somebody_else(tmp_path: Path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/thesis.docx").write_text("years of work")
    rebuild_marker(tmp_path / "results")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["thesis.docx"]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("nfs4", "rw,nolock,hard", "nfs4, nolock"),
        ("fuse.sshfs", "rw", "fuse.sshfs"),
        ("cifs", "rw,soft", "cifs, soft"),
        ("NTFS", "rw,remote", "ntfs"),
        ("ext4", "rw,relatime", ""),
    ],
)
def test_OD11_a_shared_file_system_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, said: str
):
    """The table of mounts is made up: no test can mount a file server."""
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4", opts="rw")]
    mounts.append(SimpleNamespace(mountpoint=str(tmp_path.resolve()), fstype=kind, opts=options))
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    store = Store(tmp_path / "results")
    write_stage(store, "a")
    write_stage(store, "b")
    assert [remark for remark in store.remarks if "shared file system" in remark] == store.remarks
    assert [f"({said})" in remark for remark in store.remarks] == ([True] if said else [])
