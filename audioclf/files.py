"""Files that are there whole or not at all, whenever the process is killed.

A file is written under a temporary name in its own folder, flushed to the disk and renamed. The temporary name says
which process on which machine writes it, so that what a killed one left behind can be told from work in progress.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from audioclf.errors import UserError

TEMPORARY_SUFFIX = ".tmp"
STALE_AFTER_S = 3600.0
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def exists(path: Path) -> bool:
    """Whether anything lies there; no also where the name cannot be one, or may not be looked at.

    ``Path.exists`` and its like raise then (until Python 3.14): at a long URL, or in another user's home.
    """
    return bool(_mode(path))


def is_file(path: Path) -> bool:
    """Whether a file lies there; no also as :func:`exists` does."""
    return stat.S_ISREG(_mode(path))


def is_dir(path: Path) -> bool:
    """Whether a folder lies there; no also as :func:`exists` does."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """What a path leads to, as ``os.stat`` has it; 0 where that is nothing."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def temporary_name(path: Path) -> Path:
    """The name under which this process writes ``path`` before it is whole."""
    return path.with_name(f"{path.name}.{_machine()}-{os.getpid()}{TEMPORARY_SUFFIX}")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens ``path`` for writing so that its name appears, or changes its content, only once all of it is on the disk.

    Folders above it are made. Where the block raises, nothing is left and what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def cannot_write(what: str, error: OSError) -> UserError:
    """The error for a file, or ``"in FOLDER"``, that cannot be written: the next one would fail as well."""
    hint = "make room" if error.errno in DISK_FULL else "check the folder's permissions, or name another"
    return UserError(f"cannot write {what}: {error.strerror}", f"{hint}, then run again: what is done stays done")


def remove_stale(folder: Path, pattern: str = "") -> int:
    """Removes what killed processes left half-written in a folder; how many files and folders that was.

    A temporary file (or folder, with all in it) goes where its process is of this machine and gone, or where it is an
    hour old.

    Args:
        folder: where to look.
        pattern: glob of the files' final names below it, e.g. ``"??/*.flac"``.
    """
    removed = 0
    for path in folder.glob(f"{pattern}*{TEMPORARY_SUFFIX}"):
        machine, _, pid = path.name.removesuffix(TEMPORARY_SUFFIX).rpartition(".")[2].partition("-")
        try:
            dead = machine == _machine() and pid.isdigit() and not _is_running(int(pid))
            if dead or time.time() - path.stat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
        except FileNotFoundError:  # its process renamed it, or another cleaned it first
            continue
    return removed


def _machine() -> str:
    """Eight hex digits for this machine, so that a folder on a network drive is not cleaned under another's hands."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_running(pid: int) -> bool:
    """Whether a process of this machine has that id; yes wherever that cannot be asked without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
