"""Names, hashes and durable moves of files: what every part of the store stands on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import psutil

from mihc.errors import DamagedError, MihcError, OutputConflict, ResourceError

LONGEST_PATH = 120  # characters under results/, so that Windows' 260 leave room for the study's own folder
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # what file browsers leave behind; nobody's result
SYNCS_AT_ONCE = 4  # files that are forced to the disk together
_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9_-]")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # a virus scanner lets go within a second; a person's Excel does not
_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])})
_SHARED = ("nfs", "cifs", "smb", "fuse", "9p", "afs", "davfs", "vboxsf", "drvfs")
_DENIED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def checked_relative(relative: str) -> str:
    """`relative` if it is a name that any file system can hold, below results/ and nowhere else."""
    parts = PurePosixPath(relative).parts
    plain = bool(parts) and "/".join(parts) == relative and not relative.startswith("/")
    if not plain or not all(_NAME.fullmatch(part) and not _DEVICES.fullmatch(part) for part in parts):
        raise MihcError(f"{relative!r} is no portable name below results/ (letters, digits, . _ - and / only)")
    if len(relative) > LONGEST_PATH:
        raise MihcError(f"{relative!r} has {len(relative)} characters; at most {LONGEST_PATH} are portable")
    return relative


def below(relative: str, root: str) -> bool:
    """Whether `relative` is `root` or lies in it."""
    return relative == root or relative.startswith(root + "/")


def outermost(relatives: Sequence[str]) -> list[str]:
    """The paths that lie in no other one, sorted."""
    kept: list[str] = []
    for relative in sorted(set(relatives), key=lambda path: path.split("/")):
        if not kept or not below(relative, kept[-1]):
            kept.append(relative)
    return kept


def hash_json(value: object) -> str:
    """sha256 of the canonical JSON of `value` (sorted keys, no spaces), as hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: str | Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: str | Path) -> int | None:
    """A file's bytes; None where there is no file."""
    try:
        told = os.stat(path)  # noqa: PTH116  (of thousands of files, a Path takes longer than the look)
    except FileNotFoundError:
        return None
    return None if stat.S_ISDIR(told.st_mode) else told.st_size


def files_in(folder: Path, root: str) -> list[str]:
    """Every file that `root` is or holds, relative to `folder`, sorted; what file browsers leave is passed over."""
    start = folder / root
    if not start.is_dir():
        return [root] if start.exists() else []
    found = [p.relative_to(folder).as_posix() for p in start.rglob("*") if p.name not in LITTER and p.is_file()]
    return sorted(found)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> bool:
    """Force a folder's entries to the disk; False where the file system has no such thing (Windows, some shares)."""
    if sys.platform == "win32":
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def seal(
    folder: Path, roots: Sequence[str], known: Mapping[str, tuple[int, str]]
) -> tuple[dict[str, tuple[int, str]], bool]:
    """Force everything in `roots` to the disk and hash it, but for what was forced and hashed already.

    Parameters
    ----------
    known
        (size, sha256) of such files, whose bytes were in hand when they were written, by name relative to `folder`

    Returns
    -------
    (size, sha256) per file, and whether the file system could force folders too

    Raises
    ------
    DamagedError
        a file has not the size that was written
    """
    files = [checked_relative(relative) for root in roots for relative in files_in(folder, root)]
    folders = {parent for relative in files for parent in PurePosixPath(relative).parents}
    with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
        facts = pool.map(lambda relative: _seal_file(folder / relative, known.get(relative)), files)
        sealed = dict(zip(files, facts))
        durable = list(pool.map(lambda path: sync_folder(folder / path), folders))
    return sealed, all(durable)


def _seal_file(path: Path, known: tuple[int, str] | None) -> tuple[int, str]:
    told = path.stat()
    if known:
        if known[0] != told.st_size:
            raise DamagedError(f"{known[0]} bytes were written and {told.st_size} are there", place=str(path))
        return known
    if told.st_nlink == 1:  # else it is a slide's own file under a second name, on the disk since long
        sync_file(path)
    return told.st_size, hash_file(path)


def replace_file(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write `data` to `path` so that a kill leaves the old bytes or the new ones; `shared`: no lock guards `path`."""
    aside = path.with_name(path.name + ("~" + secrets.token_hex(4) if shared else "~new"))
    aside.write_bytes(data)
    sync_file(aside)
    move(aside, path)
    sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename, also over an existing file; tries again for two seconds while another program holds either."""
    for pause in (*_PAUSES, None):
        try:
            source.replace(target)
            return
        except PermissionError:
            if pause is None:
                raise
            time.sleep(pause)


def remove(path: Path) -> bool:
    """Delete a file or a folder that nobody needs; False when some of it resists (held open, a failing disk)."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return not path.exists()


def shared_file_system(folder: Path) -> str:
    """The name and weak options of a network or FUSE file system that holds a folder; "" for a disk of this machine."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()).resolve()
    holding = [mount for mount in psutil.disk_partitions(all=True) if there.is_relative_to(mount.mountpoint)]
    if not holding:
        return "a network share" if str(there).startswith("\\\\") else ""
    mount = max(holding, key=lambda mount: len(mount.mountpoint))
    kind, options = mount.fstype.casefold(), mount.opts.casefold().split(",")
    if not kind.startswith(_SHARED) and "remote" not in options:
        return ""
    return ", ".join([kind or "remote", *(option for option in options if option in ("nolock", "soft"))])


@contextlib.contextmanager
def told_plainly(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals (full disk, read-only folder) into mihc's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _SPACE:
            raise ResourceError(
                f"there is no room to write ({error.strerror})",
                place=str(folder),
                fix="Free some space and type the same command again: it goes on from here.",
            ) from error
        if error.errno in _DENIED and str(folder) in str(error.filename or ""):
            raise OutputConflict(
                f"may not be written ({error.strerror})",
                place=str(folder),
                fix="Give this user the right to write there, or copy the study to a folder of your own.",
            ) from error
        raise
