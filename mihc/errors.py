"""The exceptions of mihc, and the exit code that each one means on the command line.

    MihcError                 1   a defect of mihc itself
    ├── LedgerError           1   areas or cells of a slide do not sum: the run stops
    ├── UsageError            2   the command was typed wrongly
    ├── InputError            3   an input is invalid; nothing was written
    │   ├── SlideError            a slide cannot be read as it is
    │   ├── PanelError            panel.csv does not fit
    │   ├── AnnotationError       a region file is broken
    │   ├── ClinicalError         clinical.csv or its join does not hold
    │   └── StudyProblems         all problems of a study at once
    ├── PartialFailure        4   finished, but a slide failed
    ├── OutputConflict        5   results are locked, foreign, or held open
    ├── ResourceError         6   memory, disk or workers ran out
    └── DamagedError          7   stored results do not match their checksums

Every message says where, what was found, and what to do.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# What no name may hold: pandas takes texts that differ only after a zero as one, and no picture shows them apart.
# Tab and line ends are not among them: a quoted cell may hold those.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BARE = re.compile(r"[\w./][\w./-]*")  # needs no quotes in any shell
_BARE_ON_WINDOWS = re.compile(r"[\w.:\\][\w.:\\-]*")
_SAME_IN_DOUBLE_QUOTES = re.compile(r'[^"\\$`!%\r\n]+')  # what a POSIX shell, PowerShell and cmd all take as it stands


def quoted(word: str, *, windows: bool = sys.platform == "win32") -> str:
    """A word as a shell takes it, for commands that people are told to type.

    Bare where that is safe, else in double quotes, which every shell knows. What means something within them is put
    into single quotes for a POSIX shell; on Windows, where a backslash is a letter of paths, as its programs read it.
    """
    if (_BARE_ON_WINDOWS if windows else _BARE).fullmatch(word):
        return word
    if _SAME_IN_DOUBLE_QUOTES.fullmatch(word):
        return f'"{word}"'
    if not windows:
        return shlex.quote(word)
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def quoted_path(path: str | Path) -> str:
    """A path as a shell and then mihc take it: one that begins with a dash is no option."""
    word = str(path)
    return quoted(f"./{word}" if word.startswith("-") else word)


class MihcError(Exception):
    """What went wrong (`what`), where (`place`), and what to type or change (`fix`)."""

    exit_code = 1

    def __init__(self, what: str, *, place: str = "", fix: str = ""):
        super().__init__(what, place, fix)
        self.what, self.place, self.fix = what, place, fix

    def __str__(self) -> str:
        headline = f"{self.place}: {self.what}" if self.place else self.what
        return f"{headline}\n{self.fix}" if self.fix else headline


class LedgerError(MihcError):
    """The account of a slide's area or cells does not sum: no number of it can be trusted, and the run stops."""


class UsageError(MihcError):
    """The command line cannot be understood."""

    exit_code = 2


class InputError(MihcError):
    """An input is invalid; nothing was written."""

    exit_code = 3


class SlideError(InputError):
    """A slide cannot be read, or says too little or too much about itself."""


class PanelError(InputError):
    """The panel does not fit the slide or contradicts itself."""


class AnnotationError(InputError):
    """A region file is broken or does not belong to its slide."""


class ClinicalError(InputError):
    """The clinical table or its join to the slides does not hold."""


class PartialFailure(MihcError):
    """The run finished, but at least one slide failed."""

    exit_code = 4


class OutputConflict(MihcError):
    """Results are locked by another run, belong to another program, or are held open."""

    exit_code = 5


class ResourceError(MihcError):
    """Memory, disk space or workers ran out; the same command resumes."""

    exit_code = 6


class DamagedError(MihcError):
    """Stored results do not match their checksums."""

    exit_code = 7


@dataclass(frozen=True)
class Problem:
    """One problem of a study."""

    place: str  # file, row and column as a person would look it up
    what: str  # what was found and what is needed
    fix: str = ""  # what to type or change
    severity: str = "error"  # "error" stops the run | "warning" is shown and reported

    def __str__(self) -> str:
        line = f"{self.place}: {self.what}" if self.place else self.what
        return f"{line}\n    {self.fix}" if self.fix else line


class StudyProblems(InputError):
    """Every error of a study, all at once."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
