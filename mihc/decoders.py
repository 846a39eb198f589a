"""Processes of their own for foreign files: a decoder that crashes or hangs costs one slide, never the run.

A child is this same Python, started anew; lines of JSON on its standard input tell it what to do, and it answers in
lines of JSON. It is no fork (Windows has none) and runs nothing of the user's main module; what comes back is data, so
a file that took the child over runs nothing here. Its input ends when the driver does, however that ends, and the child
with it. It is deaf to Ctrl-C and terminations: stopping in good order is the driver's affair. See docs/decisions.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from mihc import errors
from mihc.errors import MihcError, ResourceError, SlideError

SECONDS_WITHOUT_PROGRESS = 120.0  # then a child hangs
SECONDS_TO_END = 5.0  # of a killed process; what a dead network share holds stays longer, and is left to it
LONGEST_LINE = 1 << 26  # bytes of an answer
_SECONDS_UNHEARD = 0.5  # at most, between a signal to the driver and its being heard here
_NO_MEMORY = 86  # exit code
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mihc.decoders import serve; serve(sys.argv[2])"

# ---- the driver's side


class Lost(Exception):
    """A child died (the text says how) or made no progress for too long (no text)."""


class ChildError(Exception):
    """A defect that showed in a child: its type, its text and the line of mihc."""


class Decoders:
    """Children that do the tasks of a module, one each at a time; none is there before it is needed."""

    def __init__(self, module: str):
        """`module` has TASKS: functions of JSON values that return one, by name."""
        self._module = module
        self._idle: list[_Child] = []
        self._busy = 0  # calls under way
        self._waiting = 0  # calls that want to be the only one
        self._alone = False  # one is
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
        self._end_idle()

    def prepare(self, count: int) -> None:
        """Have `count` children, busy ones included; they start while other things are done."""
        with self._changed:
            while len(self._idle) + self._busy < count:
                self._idle.append(_Child(self._module))

    def call(self, task: str, arguments: Sequence, *, place: str, go_on: Callable[[], None]) -> object:
        """Have a child do a task and wait for what it returns.

        Parameters
        ----------
        task, arguments
            One of the module's tasks, and what it is given.
        place
            The file that is read, for the message.
        go_on
            Raises when nobody waits for the answer any more; the child is then ended.

        Raises
        ------
        SlideError
            The child made no progress, or died twice, the second time with no other one beside it: where memory runs
            out, the system may end the wrong one.
        ResourceError
            No child can be started.
        """
        try:
            return self._once(task, arguments, go_on)
        except Lost as lost:
            if not str(lost):
                raise _refusal(lost, place) from None
        with self._being_alone(go_on):
            try:
                return self._once(task, arguments, go_on, alone=True)
            except Lost as lost:
                raise _refusal(lost, place) from None

    def tell_idle(self, task: str, arguments: Sequence) -> None:
        """Have every child that waits do a task that takes no time."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._busy += len(idle)
        for child in idle:
            try:
                with contextlib.suppress(Lost, ChildError, OSError):
                    child.ask(task, arguments, lambda: None)
            finally:
                self._give_back(child)

    def _once(self, task: str, arguments: Sequence, go_on: Callable[[], None], *, alone: bool = False) -> object:
        with self._changed:
            while self._waiting and not alone:
                self._wait(go_on)
            self._busy += 1
            child = self._idle.pop() if self._idle else None
        try:
            if child and not child.lives():  # whatever ended it while it waited, this task did not
                child.end()
                child = None
            child = child or _Child(self._module)
            return child.ask(task, arguments, go_on)
        finally:
            self._give_back(child)

    @contextlib.contextmanager
    def _being_alone(self, go_on: Callable[[], None]) -> Iterator[None]:
        """No other call under way, and no other child there, until the block ends."""
        with self._changed:
            self._waiting += 1
        try:
            with self._changed:
                while self._busy or self._alone:
                    self._wait(go_on)
                self._alone = True
            self._end_idle()
            try:
                yield
            finally:
                self._alone = False
        finally:
            with self._changed:
                self._waiting -= 1
                self._changed.notify_all()

    def _wait(self, go_on: Callable[[], None]) -> None:
        self._changed.wait(_SECONDS_UNHEARD)
        go_on()

    def _give_back(self, child: _Child | None) -> None:
        keep = child is not None and child.usable
        with self._changed:
            self._busy -= 1
            keep = keep and not self._closed
            if keep:
                self._idle.append(child)
            self._changed.notify_all()
        if child and not keep:
            child.end()

    def _end_idle(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()


def _refusal(lost: Lost, place: str) -> SlideError:
    if not str(lost):
        return SlideError(
            f"the decoder made no progress for {SECONDS_WITHOUT_PROGRESS:.0f} s while reading it, and was stopped",
            place=place,
            fix="If its disk or network share stood still, type the same command again; else copy or export it again.",
        )
    return SlideError(
        f"the decoder crashed while reading it, twice ({lost})",
        place=place,
        fix="Copy or export the slide again from the scanner's program; where memory ran out, take fewer workers.",
    )


class _Child:
    """One process, which does one task at a time."""

    def __init__(self, module: str):
        from multiprocessing.spawn import get_executable  # another Python's name where a program has one built in

        command = [os.fsdecode(get_executable()), "-c", _BOOT, json.dumps([str(path) for path in sys.path]), module]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            with _signals_kept_off():
                self._process = subprocess.Popen(
                    command, **pipes, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
                )
        except OSError as error:
            raise _not_started(str(error)) from error
        self.usable = True  # it waits for a task
        self._ready = False
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, name="mihc-decoder", daemon=True)
        self._listener.start()

    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, task: str, arguments: Sequence, go_on: Callable[[], None]) -> object:
        """What the task returns; raises what it raises, Lost, or what `go_on` does: then the child is of no use."""
        self.usable = False
        with contextlib.suppress(BrokenPipeError):  # it is dead, which is heard below
            self._process.stdin.write(json.dumps({"task": task, "arguments": arguments}).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._hear(go_on)
        self.usable = True
        if "error" in answer:
            raise _as_error(answer["error"])
        return answer["result"]

    def _hear(self, go_on: Callable[[], None]) -> dict:
        """The answer. Time is counted by waits, so that a night's sleep of the computer is not taken for a hang."""
        silent = 0.0
        while silent < SECONDS_WITHOUT_PROGRESS:
            try:
                line = self._lines.get(timeout=_SECONDS_UNHEARD)
            except queue.Empty:
                silent += _SECONDS_UNHEARD
                go_on()
                continue
            if not line.endswith(b"\n"):
                raise self._death()
            silent, answer = 0.0, json.loads(line)
            if "failed" in answer:
                raise _not_started(answer["failed"])
            if answer:
                return answer
            self._ready = True
        raise Lost

    def _death(self) -> Exception:
        go_away = self._process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        how = "it ended its answers" if go_away and self._process.poll() is None else _how(self._process.returncode)
        return Lost(how) if self._ready else _not_started(how)

    def _listen(self) -> None:
        """Hand over the child's lines; one without its end is the last."""
        with self._process.stdout as lines:
            while True:
                line = lines.readline(LONGEST_LINE)
                self._lines.put(line)
                if not line.endswith(b"\n"):
                    return

    def end(self) -> None:
        """Kill it, whatever it is doing."""
        self.usable = False
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        self._listener.join(SECONDS_TO_END)
        with contextlib.suppress(OSError):  # what it did not read
            self._process.stdin.close()


@contextlib.contextmanager
def _signals_kept_off() -> Iterator[None]:
    """What is started within inherits that Ctrl-C and terminations do not reach it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where a process without a window hears no Ctrl-C
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _how(code: int) -> str:
    if code == _NO_MEMORY:
        return "memory ran out"
    if code >= 0:
        return f"exit code {code}" if code < 256 else f"exit code 0x{code:08X}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _not_started(how: str) -> ResourceError:
    return ResourceError(
        f"the process that decodes slides cannot be started: {how}",
        fix="Close other programs and type the same command again: it goes on from here.",
    )


def _as_error(told: dict) -> Exception:
    kind = getattr(errors, told["kind"], None)
    if isinstance(kind, type) and issubclass(kind, MihcError):
        return kind(told["what"], place=told["place"], fix=told["fix"])
    if told["kind"] == "OSError":
        return OSError(told["errno"], told["strerror"], told["filename"])
    return ChildError(told["text"])


# ---- the child's side

_answers: BinaryIO | None = None  # to the driver; None in a process that is no child


def still_at_it() -> None:
    """Tell the driver that a long task makes progress; in other processes nothing happens."""
    if _answers:
        _set_clock()
        _answer({})


def serve(module: str) -> None:
    """Do what the driver says until it ends."""
    global _answers
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print do not talk to the driver
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen_to_driver, args=(requests,), daemon=True).start()
    _be_expendable()
    try:
        tasks = importlib.import_module(module).TASKS
    except Exception as error:
        _answer({"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _answer({})
    while True:
        request = json.loads(requests.get())
        _set_clock()
        try:
            answer = {"result": tasks[request["task"]](*request["arguments"])}
        except MemoryError:
            os._exit(_NO_MEMORY)
        except Exception as error:
            answer = {"error": _told(error)}
        _answer(answer)
        faulthandler.cancel_dump_traceback_later()  # waiting for the next task is no hang


def _set_clock() -> None:
    """What hangs in a codec ends by a clock that needs no interpreter, also when the driver is gone."""
    faulthandler.dump_traceback_later(1.25 * SECONDS_WITHOUT_PROGRESS, exit=True)


def _answer(content: dict) -> None:
    try:
        _answers.write(json.dumps(content).encode() + b"\n")
        _answers.flush()
    except OSError:
        os._exit(1)


def _listen_to_driver(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _be_expendable() -> None:
    """Where memory runs out, Linux ends this process and not the driver; Windows asks nobody about a crash."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    if sys.platform == "win32":
        import msvcrt

        msvcrt.SetErrorMode(msvcrt.SEM_FAILCRITICALERRORS | msvcrt.SEM_NOGPFAULTERRORBOX)


def _told(error: Exception) -> dict:
    if isinstance(error, MihcError):
        return {"kind": type(error).__name__, "what": error.what, "place": error.place, "fix": error.fix}
    if isinstance(error, OSError):
        name = str(error.filename) if error.filename else None
        return {"kind": "OSError", "errno": error.errno, "strerror": error.strerror or str(error), "filename": name}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "mihc" in Path(frame.filename).parts]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return {"kind": "defect", "text": f"{type(error).__name__}: {' '.join(str(error).split())}{where}"}
