"""What children of test_decoders.py are asked to do."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from mihc.decoders import still_at_it
from mihc.errors import SlideError


def echo(value: object) -> object:
    return value


def process() -> int:
    return os.getpid()


def crash() -> None:
    """What a decoder does that trusts a length."""
    ctypes.string_at(0)


def crash_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def run_out_of_memory() -> None:
    raise MemoryError


def refuse(place: str) -> None:
    raise SlideError("no such thing", place=place, fix="Make one.")


def read_nothing() -> None:
    Path("there is no such file").read_bytes()


def be_wrong() -> None:
    {}["a key"]


def print_much() -> str:
    print("{}\n" * 20_000, flush=True)
    os.write(1, b"as libraries do\n")
    return "quiet"


def take(seconds: float, *, told: bool = False) -> str:
    for _ in range(10):
        time.sleep(seconds / 10)
        if told:
            still_at_it()
    return "done"


def take_and_tell(seconds: float) -> str:
    return take(seconds, told=True)


TASKS = {
    task.__name__: task
    for task in (
        echo,
        process,
        crash,
        crash_once,
        run_out_of_memory,
        refuse,
        read_nothing,
        be_wrong,
        print_much,
        take,
        take_and_tell,
    )
}
