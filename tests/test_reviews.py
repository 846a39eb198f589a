"""Journals that survive kills and notice what was changed, what they come to, and whose counts."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.errors import DamagedError, OutputConflict, ResourceError, UsageError
from mihc.reviews.final import Final, read_final, read_final_reviews, write_final
from mihc.reviews.journal import Journal, Line, journal_file, read_journal, reviewer_name
from mihc.reviews.states import SlideReview, replay, standing, taken_back

ROOT = Path(__file__).parents[1]


def threshold(marker: str, value: float | None) -> dict:
    return {"marker": marker, "value": value, "reason": ""}


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path, "anna", "S1") as opened:
        yield opened


# ---- the journal


def test_a_gesture_is_on_the_disk_when_its_call_returns(journal, tmp_path):
    journal.add("threshold", threshold("CD3", 200.0))
    line = json.loads((tmp_path / "review" / "anna" / "S1" / "journal.jsonl").read_text())
    assert (line["n"], line["who"], line["gesture"], line["what"]["value"]) == (1, "anna", "threshold", 200.0)
    assert line["when"].endswith("Z") and len(line["check"]) == 16
    assert read_journal(journal.path) == journal.lines


@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_no_line_and_the_next_one_follows_the_whole_ones(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    with Journal(folder, "anna", "S1") as journal:
        for value in range(3):
            journal.add("threshold", threshold("CD3", float(value)))
    whole = journal.path.read_bytes()
    ends = [k + 1 for k, byte in enumerate(whole) if byte == ord("\n")]
    left = max(len(whole) - cut, 0)
    journal.path.write_bytes(whole[:left])
    expected = sum(end <= left for end in ends)
    assert len(read_journal(journal.path)) == expected
    with Journal(folder, "anna", "S1") as again:
        again.add("undo", {"of": expected})
    assert [line.number for line in read_journal(journal.path)] == list(range(1, expected + 2))


@pytest.mark.parametrize("what", ["200.0", '"anna"', '"threshold"', '"CD3"'])
def test_a_line_that_was_changed_is_noticed(journal, what):
    for _ in range(2):
        journal.add("threshold", threshold("CD3", 200.0))
    first, second, _ = journal.path.read_text().split("\n")
    other = {"200.0": "201.0", '"anna"': '"ben"', '"threshold"': '"accept"', '"CD3"': '"CD8"'}[what]
    journal.path.write_text(f"{first.replace(what, other, 1)}\n{second}\n")
    with pytest.raises(DamagedError, match="line 1 is not what was written"):
        read_journal(journal.path)


def test_a_last_line_that_was_changed_is_noticed_too(journal):
    for _ in range(2):
        journal.add("threshold", threshold("CD3", 200.0))
    first, second, _ = journal.path.read_text().split("\n")
    journal.path.write_text(f"{first}\n{second.replace('200.0', '201.0')}\n")
    with pytest.raises(DamagedError, match="line 2 is not what was written"):
        read_journal(journal.path)


def test_a_last_line_of_zeros_is_what_a_power_cut_left(journal):
    journal.add("threshold", threshold("CD3", 200.0))
    with journal.path.open("ab") as file:
        file.write(b"\0" * 40 + b"\n")
    assert read_journal(journal.path) == journal.lines


def test_lines_that_were_taken_from_an_open_journal_are_written_again(journal):
    for value in range(3):
        journal.add("threshold", threshold("CD3", float(value)))
    whole = journal.path.read_bytes()
    for left in (b"", whole[:-5], whole[: whole.index(b"\n") + 1], None):
        if left is None:
            shutil.rmtree(journal.path.parents[1])
        else:
            journal.path.write_bytes(left)
        journal.add("undo", {"of": 3})
        assert read_journal(journal.path) == journal.lines and journal.path.read_bytes().startswith(whole)
        whole = journal.path.read_bytes()


def test_what_another_program_wrote_to_an_open_journal_is_left_alone(journal, tmp_path):
    journal.add("threshold", threshold("CD3", 200.0))
    shutil.copytree(tmp_path / "review" / "anna", tmp_path / "elsewhere" / "review" / "anna")
    with Journal(tmp_path / "elsewhere", "anna", "S1") as other:
        other.add("threshold", threshold("CD3", 300.0))
        shutil.copy(other.path, journal.path)
    for _ in range(2):
        with pytest.raises(OutputConflict, match="another program wrote to it"):
            journal.add("undo", {"of": 1})
        assert read_journal(journal.path) == other.lines and len(journal.lines) == 1


def test_a_writer_whose_lock_was_taken_away_writes_no_more(journal, tmp_path):
    shutil.rmtree(tmp_path / "review" / ".locks" / "anna.S1")
    with Journal(tmp_path, "anna", "S1") as other:
        other.add("accept", {"marker": ""})
        with pytest.raises(OutputConflict, match="its lock was taken away"):
            journal.add("accept", {"marker": "CD3"})
    assert [line.content["marker"] for line in read_journal(journal.path)] == [""]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("at", ["write", "fsync", "sync_folder", "truncate too"])
def test_a_gesture_that_the_disk_refuses_does_not_count_and_the_next_one_does(journal, monkeypatch, number, at):
    if at != "sync_folder":
        journal.add("threshold", threshold("CD3", 100.0))
    before = list(journal.lines)

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        if at == "sync_folder":
            broken.setattr("mihc.reviews.journal.sync_folder", refused)
        else:
            broken.setattr(os, "fsync" if at == "truncate too" else at, refused)
        if at == "truncate too":
            plain = Path.open
            broken.setattr(Path, "open", lambda *of, **named: Stubborn(plain(*of, **named)))
        with pytest.raises(ResourceError):
            journal.add("threshold", threshold("CD3", 200.0))
    assert journal.lines == before
    journal.add("threshold", threshold("CD3", 300.0))
    assert read_journal(journal.path) == journal.lines and len(journal.lines) == len(before) + 1


class Stubborn:
    """A file that is cut once and then no more, as on a disk that fails."""

    def __init__(self, file: object) -> None:
        self.file, self.cuts = file, 0

    def __enter__(self) -> Stubborn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def truncate(self, size: int) -> None:
        self.cuts += 1
        if self.cuts > 1:
            raise OSError(errno.EIO, "Input/output error")
        self.file.truncate(size)


def test_a_line_that_was_taken_out_is_noticed(journal):
    for value in range(3):
        journal.add("threshold", threshold("CD3", float(value)))
    lines = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text(lines[0] + lines[2] + lines[1])
    with pytest.raises(DamagedError, match="line 2"):
        read_journal(journal.path)


def test_one_writer_at_a_time(journal, tmp_path):
    with pytest.raises(OutputConflict, match="held by"):
        Journal(tmp_path, "anna", "S1")
    Journal(tmp_path, "ben", "S1").close()
    Journal(tmp_path, "anna", "S2").close()


@pytest.mark.parametrize("name", ["", "a/b", "..", "anna lee", "classifier", "x" * 65])
def test_a_name_that_can_be_no_folder_is_refused(name):
    with pytest.raises(UsageError, match="cannot be a reviewer's name"):
        reviewer_name(name)


def test_numbers_that_are_none_are_not_written(journal):
    with pytest.raises(ValueError, match="JSON"):
        journal.add("threshold", threshold("CD3", float("nan")))
    assert journal.lines == [] and not journal.path.exists()


WRITER = """
import sys
from pathlib import Path
from mihc.reviews.journal import Journal
with Journal(Path(sys.argv[1]), "anna", "S1") as journal:
    while True:
        line = journal.add("threshold", {"marker": "CD3", "value": 1.0, "reason": "x" * 5000})
        print(line.number, flush=True)
"""


def kill_writers(folder: Path, kills: int) -> None:
    """Kill writers of one journal in the middle of their work; after each, nothing that was told to be done is lost."""
    rng = random.Random(7)
    path = journal_file(folder, "anna", "S1")
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as child:
            told = int(child.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.02))
            os.kill(child.pid, signal.SIGKILL)
            told = max([told, *map(int, filter(str.isdigit, child.stdout.read().splitlines()))])
        lines = read_journal(path)
        assert len(lines) in (told, told + 1)  # the one that was under way may have come through
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))


def test_S9_no_gesture_is_lost_to_a_kill(tmp_path):
    kill_writers(tmp_path, 8)


@pytest.mark.slow
def test_S9_no_gesture_is_lost_to_two_hundred_kills(tmp_path):
    kill_writers(tmp_path, 200)


# ---- what a journal comes to


def test_an_undo_takes_back_the_last_gesture_that_stands(journal):
    for value in (100.0, 200.0, 300.0):
        journal.add("threshold", threshold("CD3", value))
    journal.add("undo", {"of": 3})
    assert replay("S1", "anna", journal.lines).thresholds["CD3"].value == 200.0
    journal.add("undo", {"of": 2})
    journal.add("threshold", threshold("CD8", None))
    state = replay("S1", "anna", journal.lines)
    assert state.thresholds["CD3"].value == 100.0 and state.thresholds["CD8"].value == float("inf")
    for _ in range(5):
        journal.add("undo", {"of": 0})
    assert replay("S1", "anna", journal.lines) == SlideReview("S1", "anna")


@given(moves=st.lists(st.sampled_from(["do", "undo", "redo"]), max_size=40))
def test_undo_and_redo_go_to_and_fro_as_in_any_editor(moves):
    lines, history, place = [], [], 0  # by hand: what was done, and how much of it stands
    for move in moves:
        lines.append(Line(len(lines) + 1, "", "anna", "accept" if move == "do" else move, {"marker": str(len(lines))}))
        if move == "do":
            history, place = [*history[:place], lines[-1]], place + 1
        else:
            place = min(max(place + (1 if move == "redo" else -1), 0), len(history))
    assert standing(lines) == history[:place]
    assert taken_back(lines) == history[place:][::-1]


def test_whose_review_counts_is_read_as_it_was_written(tmp_path):
    for name in ("anna", "ben"):
        with Journal(tmp_path, name, "S1") as journal:
            journal.add("accept", {"marker": ""})
    written = Final("anna", {"S2": "ben", "S3": ""})
    write_final(tmp_path, written)
    final, problems = read_final(tmp_path, ["S1", "S2", "S3"])
    assert (final, problems) == (written, [])
    assert [final.of(slide) for slide in ("S1", "S2", "S3")] == ["anna", "ben", ""]


CHOOSER = """
import sys
from pathlib import Path
from mihc.reviews.final import Final, held_final, read_final, write_final
folder, slide = Path(sys.argv[1]), sys.argv[2]
for _ in range(20):
    with held_final(folder):
        final, _ = read_final(folder, ["S1", "S2"])
        write_final(folder, Final(final.reviewer, {**final.slides, slide: ""}))
    with held_final(folder):
        final, _ = read_final(folder, ["S1", "S2"])
        write_final(folder, Final(final.reviewer, {**final.slides, slide: "anna"}))
"""


def test_two_who_choose_at_once_lose_nothing_of_each_other(tmp_path):
    for slide in ("S1", "S2"):
        with Journal(tmp_path, "anna", slide) as journal:
            journal.add("accept", {"marker": ""})
    both = [subprocess.Popen([sys.executable, "-c", CHOOSER, str(tmp_path), slide], cwd=ROOT) for slide in ("S1", "S2")]
    assert [one.wait(120) for one in both] == [0, 0]
    assert read_final(tmp_path, ["S1", "S2"]) == (Final("", {"S1": "anna", "S2": "anna"}), [])


def test_the_review_of_a_slide_that_is_listed_no_more_is_named(tmp_path):
    for name in ("anna", "ben"):
        with Journal(tmp_path, name, "S1") as journal:
            journal.add("accept", {"marker": ""})
    write_final(tmp_path, Final("anna"))
    assert read_final_reviews(tmp_path, ["S1"])[1] == []
    found, problems = read_final_reviews(tmp_path, ["renamed"])
    assert found == {} and [(one.place, one.severity) for one in problems] == [("review/anna/S1", "warning")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('reviewer = "ana"', "did you mean anna"),
        ('reviewr = "anna"', "did you mean reviewer"),
        ('[slides]\nS9 = "anna"', "there are S1, S2"),
        ("slides = 3", "slides is no table"),
        ("reviewer = 3", "reviewer"),
        ("reviewer = anna", "cannot be read"),
    ],
)
def test_what_is_wrong_in_final_toml_is_named(tmp_path, text, said):
    with Journal(tmp_path, "anna", "S1") as journal:
        journal.add("accept", {"marker": ""})
    (tmp_path / "review" / "final.toml").write_text(text)
    final, problems = read_final(tmp_path, ["S1", "S2"])
    assert final == Final() and said in str(problems[0]) and problems[0].severity == "error"
