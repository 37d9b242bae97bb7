"""Where encoded audio is read from: a local file, or a stream that may break under the decoder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from audioclf.audio.frames import AudioError, Failure

HEAD_BYTES = 12
"""How much of a file's beginning tells its kind."""


class BinaryFile(Protocol):
    """An open file that can seek."""

    def read(self, size: int = -1, /) -> bytes | None: ...  # noqa: D102
    def seek(self, offset: int, whence: int = 0, /) -> int: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


class Source:
    """Encoded audio that a decoder can be opened on, more than once.

    Args:
        name: for messages.
        file: open; a buffer of its own would run ahead of libsndfile, which reads local files by their descriptor.
        path: of a local file; None for a stream.

    Attributes:
        head: the first ``HEAD_BYTES``.
    """

    def __init__(self, name: str, file: FileIO | Stream, path: Path | None) -> None:
        self.name = name
        self.path = path
        self.file = file
        self.head = self.rewound().read(HEAD_BYTES)

    def rewound(self) -> FileIO | Stream:
        """The open file, at its beginning."""
        self.file.seek(0)
        return self.file


class Stream:
    """A binary file for C libraries, which cannot pass an exception on: where reading fails, the file ends.

    Args:
        file: seekable.

    Attributes:
        error: what reading failed with; nothing is read any more after it.
    """

    def __init__(self, file: BinaryFile) -> None:
        self._file = file
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; none at the end, and after an error."""
        if self.error is None:
            try:
                return self._file.read(size) or b""
            except Exception as error:
                self.error = error
        return b""

    def readinto(self, buffer: Any) -> int:
        """Fills all of a buffer, short of the end: libsndfile, which reads by this, takes less for a broken file."""
        count = 0
        while count < len(buffer) and (piece := self.read(len(buffer) - count)):
            buffer[count : count + len(piece)] = piece
            count += len(piece)
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position; one before the beginning, which damaged files name, changes nothing."""
        with suppress(OSError, ValueError):
            return self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        """The position of the next byte."""
        return self._file.tell()


@contextmanager
def open_source(source: str | os.PathLike[str] | BinaryFile, name: str) -> Iterator[Source]:
    """A file by its path, or an open one, ready for decoders.

    Args:
        source: a path, or a binary file that can seek; the latter stays open.
        name: for messages.

    Raises:
        AudioError: the file is missing, empty or cannot be read.
        Exception: what reading an open file raised, once the decoder is through; it goes before any other error.
    """
    if not isinstance(source, str | os.PathLike):
        stream = Stream(source)
        try:
            yield _checked(Source(name, stream, None))
        except Exception:
            if stream.error is None:
                raise
        if stream.error:
            raise stream.error from stream.error.__cause__  # what the decoder made of it is no part of the story
        return
    path = Path(source)
    try:
        with _open(path, name) as file:
            yield _checked(Source(name, file, path))
    except OSError as error:
        failure = Failure.MISSING if isinstance(error, FileNotFoundError | NotADirectoryError) else Failure.UNREADABLE
        raise AudioError(failure, f"{name}: {error.strerror or error}") from error


def _checked(source: Source) -> Source:
    if not source.head:
        raise AudioError(Failure.EMPTY, f"{source.name}: 0 bytes")
    return source


def _open(path: Path, name: str) -> FileIO:
    """Opens a file once it is known to be a regular one: a pipe would wait forever."""
    try:
        status = path.stat()
    except ValueError as error:  # a NUL in the name
        raise AudioError(Failure.MISSING, f"{str(path)!r}: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise AudioError(Failure.UNREADABLE, f"{name}: {what}, expected a file")
    return path.open("rb", buffering=0)
