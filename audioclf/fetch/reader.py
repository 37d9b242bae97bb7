"""A media file on a web server as a seekable file, of which only what is read is fetched."""

from __future__ import annotations

import io
import os
import random
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextlib import closing

from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError

from audioclf.errors import shown
from audioclf.fetch.failures import Fault, FetchError, Reason, classify

FIRST_BLOCK = 16 << 10
"""Bytes asked for after a jump. Reading on from there, each block is twice as long as the one before."""

LARGEST_BLOCK = 1 << 20
TRIES = 3
"""How often a block is asked for before a connection that breaks counts as a failure."""

_BACKOFF_S = 0.25  # before the second try, twice that before the third; randomised
_PIECE = 4096  # a connection that breaks costs at most as many bytes that had come
_CACHE = 64 << 20
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RETRIED = frozenset({Reason.TIMEOUT, Reason.CONNECTION, Reason.SERVER_ERROR, Reason.INCOMPLETE})


class NoRangesError(Exception):
    """The server sends the whole file only.

    Attributes:
        response: its answer with the whole file, unread, so that it need not be asked again; to be closed. None where
            the answer was of no use.
    """

    def __init__(self, response: Response | None) -> None:
        super().__init__("the server has no ranges")
        self.response = response


class RangeReader(io.RawIOBase):
    """Reads a file over HTTP in ranges, all of one version of the file.

    The first answer says the file's size and version (a strong ETag, or its date). Each later one must be of the same:
    asked by If-Range, and compared. Blocks that were read are kept, so going back costs nothing. Not for threads.

    Args:
        open_url: sends a request, e.g. ``YoutubeDL.urlopen``; it sees to time limits and to who may be asked.
        url: of the file. Where it redirects, later ranges are asked at the place that it led to.
        headers: to be sent along.
        max_bytes: bytes that may be received, in all; None: any number. May be raised later.

    Attributes:
        size: of the file, in bytes.
        received: bytes that came so far.

    Raises:
        NoRangesError: the first answer is not a range of a file of known size.
        FetchError: here and in ``read``: ``changed`` where the file is another than at first, ``incomplete`` where a
            range is not the one that was asked for or breaks off ``TRIES`` times, ``no_media`` for a web page,
            ``broken`` for compressed or no bytes, ``too_large``.
        RequestError: yt-dlp's, here and in ``read``, e.g. for 403, or where no connection comes about.
    """

    def __init__(
        self,
        open_url: Callable[[Request], Response],
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        max_bytes: int | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.received = 0
        self.size = 0
        self._open_url = open_url
        self._url = url
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}
        self._version: tuple[str, str] | None = None  # the header that names it, and its value
        self._pinned = False
        self._position = 0
        self._block = FIRST_BLOCK
        self._starts: list[int] = []  # of the blocks that are kept, sorted
        self._blocks: dict[int, bytes] = {}  # the longest unused first
        self._fetch(0)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position, also beyond the end; nothing is asked of the server.

        Raises:
            OSError: a position before the file's beginning.
        """
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if position < 0:
            raise OSError(f"position {position} lies before the beginning")
        self._position = position
        return position

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Fills a buffer as far as the kept block that holds the position reaches, or the one now fetched; 0: the end."""
        if self._position >= self.size:
            return 0
        start = self._kept()
        if start is None:
            start = self._position
            self._fetch(start)
        block = self._blocks[start]
        part = memoryview(block)[self._position - start :][: len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _kept(self) -> int | None:
        """The start of the kept block that holds the position."""
        i = bisect_right(self._starts, self._position)
        start = self._starts[i - 1] if i else 0
        if not i or self._position >= start + len(self._blocks[start]):
            return None
        self._blocks[start] = self._blocks.pop(start)
        return start

    def _fetch(self, start: int) -> None:
        """Gets the block from ``start`` on, to where the next kept one begins at most."""
        before = bisect_right(self._starts, start)
        last = self._starts[before - 1] if before else -1
        on = before and last + len(self._blocks[last]) == start
        self._block = min(2 * self._block, LARGEST_BLOCK) if on else FIRST_BLOCK
        stop = start + self._block
        if self._pinned:
            stop = min(stop, self.size, *self._starts[before : before + 1])
        block = self._get(start, stop)
        self._starts.insert(before, start)
        self._blocks[start] = block
        while len(self._blocks) > 1 and sum(map(len, self._blocks.values())) > _CACHE:
            oldest = next(iter(self._blocks))
            self._starts.remove(oldest)
            del self._blocks[oldest]

    def _get(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop``, or to the file's end; asked for again from where a connection broke."""
        block = bytearray()
        tries = 0
        while not self._pinned or start + len(block) < min(stop, self.size):
            try:
                self._receive(start + len(block), stop, block)
            except NoRangesError:
                raise
            except Exception as error:  # yt-dlp's, http.client's and the system's
                tries += 1
                if tries == TRIES or classify(error, at_media=True).reason not in _RETRIED:
                    raise
                time.sleep(_BACKOFF_S * 2 ** (tries - 1) * random.uniform(0.5, 1.5))
        return bytes(block)

    def _receive(self, start: int, stop: int, block: bytearray) -> None:
        """One request; puts the bytes that come behind ``block``."""
        if self.max_bytes is not None and self.received + stop - start > self.max_bytes:
            raise FetchError(Fault(Reason.TOO_LARGE, "a clip needs more bytes than it may (fetch.max_mb)"))
        headers = {**self._headers, "Range": f"bytes={start}-{stop - 1}"}
        if self._version:
            headers["If-Range"] = self._version[1]
        try:
            response = self._open_url(Request(self._url, headers=headers))
        except HTTPError as error:
            if error.status == 416 and not self._pinned:  # an empty file
                raise NoRangesError(None) from error
            raise
        try:
            left = self._check(response, start, stop)
        except NoRangesError:
            raise
        except BaseException:
            response.close()
            raise
        with closing(response):
            while left > 0:
                piece = response.read(min(_PIECE, left))
                if not piece:
                    raise FetchError(Fault(Reason.INCOMPLETE, f"{left} bytes of a range did not come", response.status))
                block += piece
                self.received += len(piece)
                left -= len(piece)

    def _check(self, response: Response, start: int, stop: int) -> int:
        """How many bytes the answer to a range holds, once it is known to be of that range and of that file."""
        kind = (response.get_header("Content-Type") or "").lower()
        if kind.startswith(("text/html", "application/xhtml")):
            raise FetchError(Fault(Reason.NO_MEDIA, "a web page where media should be", response.status))
        coding = response.get_header("Content-Encoding") or "identity"
        if coding.lower() != "identity":
            raise FetchError(Fault(Reason.BROKEN, f"media compressed with {shown(coding)}", response.status))
        told = response.get_header("Content-Range") or ""
        found = _RANGE.fullmatch(told)
        if not self._pinned and response.status != 206:
            raise NoRangesError(response)
        if not self._pinned and (not told or told.endswith("/*")):
            response.close()
            raise NoRangesError(None)
        if response.status != 206:
            raise FetchError(Fault(Reason.CHANGED, "another version of the file than at first", response.status))
        first, last, size = map(int, found.groups()) if found else (-1, -1, -1)
        if self._pinned and found and (size != self.size or not self._same_version(response)):
            raise FetchError(Fault(Reason.CHANGED, "another version of the file than at first", response.status))
        if first != start or not start <= last < min(stop, size):
            asked = f"bytes {start}-{stop - 1}"
            raise FetchError(Fault(Reason.INCOMPLETE, f"{shown(told)} where {asked} were asked for", response.status))
        if not self._pinned:
            self._pin(response, size)
        return last + 1 - first

    def _pin(self, response: Response, size: int) -> None:
        """Takes the first answer for what the file is."""
        self.size = size
        self._url = response.url or self._url
        etag, date = response.get_header("ETag"), response.get_header("Last-Modified")
        if etag and not etag.startswith("W/"):
            self._version = ("ETag", etag)
        elif date:
            self._version = ("Last-Modified", date)
        self._pinned = True

    def _same_version(self, response: Response) -> bool:
        name, value = self._version or ("ETag", None)
        now = response.get_header(name)
        return value is None or now is None or now == value
