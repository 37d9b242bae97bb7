"""From one recording to its clips: extracted once, each clip cut, checked and committed by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from yt_dlp.version import __version__ as yt_dlp_version

from audioclf.audio.decode import AudioError, Failure, decode
from audioclf.audio.ledger import LedgerRow
from audioclf.audio.store import CANONICAL_RATE, LENGTH_TOLERANCE_S, AudioStore
from audioclf.clips.clip import Clip
from audioclf.errors import UserError
from audioclf.fetch.failures import Fault, FetchError, Reason, classify
from audioclf.fetch.reader import NoRangesError, RangeReader
from audioclf.fetch.recording import Outcome, Recording
from audioclf.fetch.session import WHOLE_PROTOCOLS, Media, Session
from audioclf.fetch.whole import whole_file, whole_stream

_ROUNDING_S = 1.0  # sites round a recording's length
_STALE = frozenset(
    {Reason.FORBIDDEN, Reason.CHANGED}
)  # an address that has expired: another extraction gives a new one
_CUT_SHORT = frozenset({Failure.TRUNCATED, Failure.OUT_OF_RANGE, Failure.TOO_SHORT, Failure.EMPTY})
_OF_ONE_CLIP = frozenset(
    {
        Reason.OUT_OF_RANGE,
        Reason.NO_MEDIA,
        Reason.BROKEN,
        Reason.TOO_LARGE,
        Reason.TOO_SLOW,
        Reason.INCOMPLETE,
        Reason.CHANGED,
        Reason.UNKNOWN,
    }
)


def fetch_recording(recording: Recording, session: Session, store: AudioStore) -> Iterator[Outcome]:
    """Fetches the clips of one recording into the store; the caller puts the rows into the ledger.

    What befalls one clip leaves the others be, unless it would befall them as well (the extraction failed, the site
    refuses, the server is gone): then they get the same fault without being tried.

    Args:
        recording: the link and its clips.
        session: the worker's.
        store: where the audio goes.

    Yields:
        One outcome for each clip, in the recording's order, as soon as it is known.

    Raises:
        UserError: the store cannot be written.
    """
    ended: Fault | None = None
    with _Source(recording, session, store) as source:
        for clip in recording.clips:
            row, fault, before = None, ended, session.limits.received
            if fault is None:
                try:
                    row = source.cut(clip)
                except UserError:
                    raise
                except Exception as error:  # decoders and extractors: nearly anything may come out of them
                    fault = classify(error, at_media=source.media is not None)
                    ended = None if source.opened and fault.reason in _OF_ONE_CLIP else fault
            yield Outcome(clip, row, fault, session.limits.received - before)


class _Source:
    """A recording's media, extracted and opened when first needed; a context manager that closes it.

    Attributes:
        media: None until it is extracted.
        opened: whether the clip that was cut last had media to be cut from.
    """

    def __init__(self, recording: Recording, session: Session, store: AudioStore) -> None:
        self.media: Media | None = None
        self.opened = False
        self._recording, self._session, self._store = recording, session, store
        self._stack = ExitStack()
        self._file: RangeReader | IO[bytes] | Path | None = None
        self._is_whole = True

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def cut(self, clip: Clip) -> LedgerRow:
        """Commits one clip; tried again once with a new address where the media's has expired or its file changed."""
        try:
            return self._cut(clip)
        except Exception as error:
            if self.media is None or classify(error, at_media=True).reason not in _STALE:
                raise
        self.media = None
        return self._cut(clip)

    def _cut(self, clip: Clip) -> LedgerRow:
        self.opened = False
        if self.media is None:
            self._close()
            self._session.start_clock()
            self.media = self._session.extract(self._recording.url)
        self._session.start_clock()
        length_s = self.media.duration_s
        if length_s is not None and clip.start > length_s + _ROUNDING_S:
            self.opened = True
            raise FetchError(Fault(Reason.OUT_OF_RANGE, f"the clip starts at {clip.start:g} s of {length_s:g} s"))
        file = self._file = self._file or self._open(self.media)
        self.opened = True
        if isinstance(file, RangeReader):
            file.max_bytes = file.received + self._limit
        early = FetchError(Fault(Reason.INCOMPLETE, "it may have ended early: the server did not say how long it is"))
        try:
            decoded = decode(file, clip.start, clip.end, CANONICAL_RATE, name=self._recording.url)
        except AudioError as error:
            if self._is_whole or error.failure not in _CUT_SHORT:
                raise
            raise early from error
        short = decoded.asked_s - decoded.duration_s > LENGTH_TOLERANCE_S
        if not self._is_whole and (short or clip.end is None):  # few formats say by themselves where they end
            raise early
        row = self._store.write(clip, decoded)
        tools = f"{row.tool_versions}, yt-dlp {yt_dlp_version} ({self.media.extractor})"
        return replace(row, tool_versions=tools, http_status=206 if isinstance(self._file, RangeReader) else 200)

    def _open(self, media: Media) -> RangeReader | IO[bytes] | Path:
        root, most = self._store.root, self._limit * len(self._recording.clips)
        self._is_whole = True
        if media.protocol in WHOLE_PROTOCOLS:
            return self._stack.enter_context(whole_stream(self._session, media, root, most))
        try:
            return self._stack.enter_context(self._session.open(media))
        except NoRangesError as whole:
            answer = whole.response
        file, self._is_whole = self._stack.enter_context(whole_file(self._session, media, root, most, answer))
        return file

    @property
    def _limit(self) -> int:
        return round(self._session.config.max_mb * 1e6)

    def _close(self) -> None:
        self._stack.close()
        self._file = None
