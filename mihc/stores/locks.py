"""One writer at a time: a lock is a folder that appears under its name by one rename, its owner already inside.

A lock whose process is dead on this very machine is taken over. One of another machine cannot be judged from here,
so it is respected, and the message says who holds it and which folder to delete.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from mihc.errors import OutputConflict
from mihc.stores.files import remove

_BEAT_S = 20.0  # a sign of life; shown to people, never judged, since clocks of two machines differ
_SILENT_S = 9 * _BEAT_S  # without a sign of life nobody waits on; shared file systems tell of one late
_LOOK_S = 0.5
_GRAVE_S = 3600.0  # dead locks stay this long, so that nobody takes over the same dead lock twice
_TRIES = 3  # the holder may let go, or be buried, between two looks
_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, *([errno.EACCES] if sys.platform == "win32" else [])})


class Held(OutputConflict):
    """Another run, or another thread of this one, holds the lock."""


class Lock:
    """A lock that this process holds until `release`."""

    def __init__(self, path: Path):
        self.path = path
        self.nonce = secrets.token_hex(4)
        self._released = threading.Event()
        self._acquire()
        threading.Thread(target=self._beat, daemon=True).start()

    def still_ours(self) -> bool:
        """Whether nobody broke this lock meanwhile."""
        return _owner(self.path).get("nonce") == self.nonce

    def release(self) -> None:
        """Let the next one in."""
        self._released.set()
        if self.still_ours():
            grave = _beside(self.path, self.nonce)
            with contextlib.suppress(OSError):
                self.path.rename(grave)
                remove(grave)

    def _acquire(self) -> None:
        aside = _beside(self.path, self.nonce)
        aside.mkdir(parents=True)
        try:
            (aside / "owner.json").write_text(json.dumps(this_process(self.nonce)), encoding="utf-8")
            for _ in range(_TRIES):
                if _renamed(aside, self.path):
                    break
                _bury_if_dead(self.path)
            else:
                raise _held(self.path)
        finally:
            remove(aside)
        _sweep_graves(self.path)

    def _beat(self) -> None:
        while not self._released.wait(_BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path / "owner.json")


def await_release(path: Path, go_on: Callable[[], None]) -> bool:
    """Wait until a lock is let go: then True; False when its holder has given no sign of life for too long.

    Signs are held against each other, never against this machine's clock; `go_on` may raise to end the wait.
    """
    seen, since = _last_beat(path), time.monotonic()
    while seen and time.monotonic() - since < _SILENT_S:
        go_on()
        time.sleep(_LOOK_S)
        beat = _last_beat(path)
        if beat != seen:
            seen, since = beat, time.monotonic()
    return not seen


def _last_beat(path: Path) -> int:
    """When the holder last gave a sign of life; 0 when nobody holds the lock, or a dead process of this machine."""
    owner = _owner(path)
    with contextlib.suppress(OSError):
        return (path / "owner.json").stat().st_mtime_ns if owner and is_alive(owner) else 0
    return 0


def _beside(path: Path, nonce: str) -> Path:
    return path.with_name(f"{path.name}~{nonce}")


def _renamed(aside: Path, path: Path) -> bool:
    """Rename a folder to a name that must be free; an occupied lock is never empty, so the rename cannot replace it."""
    try:
        aside.rename(path)
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    return True


def _bury_if_dead(path: Path) -> None:
    """Move a dead process's lock away, to a name that only one taker can use."""
    owner = _owner(path)
    if owner and not is_alive(owner):
        with contextlib.suppress(OSError):
            path.rename(_beside(path, str(owner["nonce"])))


def _sweep_graves(path: Path) -> None:
    for grave in path.parent.glob(f"{path.name}~*"):
        with contextlib.suppress(OSError):
            if time.time() - grave.stat().st_mtime > _GRAVE_S:
                remove(grave)


def _held(path: Path) -> Held:
    owner = _owner(path)
    who = "another run"
    if owner:
        who = f"{owner['host']}/{owner['pid']} since {owner['since']}"
        with contextlib.suppress(OSError):
            beat = datetime.datetime.fromtimestamp((path / "owner.json").stat().st_mtime, datetime.UTC)
            who += f", last sign of life {beat:%Y-%m-%d %H:%M} UTC"
    return Held(
        f"held by {who}",
        place=str(path.parent.parent),
        fix=f"Wait until that run has ended. If you know that it is dead, delete the folder {path}",
    )


def _owner(path: Path) -> dict[str, str]:
    try:
        owner = json.loads((path / "owner.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and {"host", "pid", "since", "nonce"} <= owner.keys() else {}


def this_process(nonce: str) -> dict[str, str]:
    """What tells this process from every other one, to be kept beside what it is at."""
    pid = os.getpid()
    return {
        "host": platform.node(),
        "boot": _boot(),
        "pid": str(pid),
        "started": _started(pid),
        "since": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC",
        "nonce": nonce,
    }


def is_alive(owner: dict[str, str]) -> bool:
    """Whether the owner may still be running; another machine's process always may."""
    if owner["host"] != platform.node():
        return True
    if owner.get("boot") != _boot():
        return False
    return bool(owner.get("started")) and _started(int(owner["pid"])) == owner["started"]


def _boot() -> str:
    """This boot of the machine; empty where the system does not name its boots."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _started(pid: int) -> str:
    """When a process began, as a text that no change of the clock alters; empty when it is gone or a zombie."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(int(process.create_time()))
    return ""
