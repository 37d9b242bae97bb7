"""From clips to the waveforms that a front-end takes, by the very steps of training, but in memory.

Training keeps each clip as 16 bits at 44,100 Hz and resamples it from there; so does this. A recording as a timeline is
decoded once, from its beginning to its end, and its windows are cut from that as clips of a table would be.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from audioclf.audio.decode import (
    MAX_CLIP_S,
    MIN_DURATION_S,
    AudioError,
    Decoded,
    Failure,
    Samples,
    decode,
    probe_duration,
)
from audioclf.audio.importer import cores
from audioclf.audio.ledger import LEDGER, Ledger, LedgerRow, State
from audioclf.audio.match import LocalPiece
from audioclf.audio.store import CANONICAL_RATE, LENGTH_TOLERANCE_S, AudioStore, Pcm, state_of, to_pcm
from audioclf.audio.stream import stream
from audioclf.clips.clip import Clip
from audioclf.clips.links import is_url
from audioclf.errors import UserError
from audioclf.features.extract import as_waveform
from audioclf.features.frontend import FrontEnd
from audioclf.features.text import Annotations
from audioclf.fetch.status import look_up
from audioclf.files import is_file
from audioclf.predict.inputs import Refused

LONG_S = 600.0  # a whole file longer than this is a timeline: of its middle alone nobody wants to know
HEAVY_S = 60.0  # longer clips are decoded one at a time, so that memory does not grow with the number of cores
AHEAD = 2  # clips waiting for each worker
MIN_HOP_S = 0.01  # a hundred windows a second
CROPPED = "only the middle counts"
NOT_FETCHED = "not fetched: `python -m audioclf fetch` brings what a table links to, paths.cache=DIR says where it lies"


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip, or a window of one.

    Attributes:
        clip: what was asked for.
        start, end: of what was found, in s; ``end`` is None where nothing was.
        state: as in the audio store: ok, partial, silent or failed.
        reason: the failure's class and message, or what should be known of the sound.
        waveform: what the front-end takes, ``[n]``; None where there is nothing to take.
        picture: what was asked to be made of its 16-bit samples.
    """

    clip: Clip
    start: float
    end: float | None
    state: State
    reason: str = ""
    waveform: torch.Tensor | None = None
    picture: Any = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A clip and where its audio lies.

    Attributes:
        clip: what was asked for.
        piece: the part of a file that holds it; None where there is none.
        row: what the ledger says of it, where it was fetched.
        refused: why there is no piece.
    """

    clip: Clip
    piece: LocalPiece | None = None
    row: LedgerRow | None = None
    refused: str = ""


class Listener:
    """Turns clips into sounds, several at a time, in their order.

    Args:
        front_end: whose waveforms they are.
        cache: where the audio of links was fetched.
        timeline: every recording in windows; else, without a hop, only whole files longer than :data:`LONG_S`.
        hop_s: from one window's start to the next one's, in s, at least :data:`MIN_HOP_S`; None: a window's length.
        picture: called with a sound's 16-bit samples at ``CANONICAL_RATE``.

    Raises:
        UserError: ``hop_s`` is no such length.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        cache: Path,
        *,
        timeline: bool = False,
        hop_s: float | None = None,
        picture: Callable[[Pcm], Any] | None = None,
    ) -> None:
        self.front_end, self.timeline, self.picture = front_end, timeline or hop_s is not None, picture
        self.cache, self.store = cache, AudioStore(cache / "audio")
        self.window_s = window_s(front_end)
        self.hop_s = self.window_s if hop_s is None else hop_s
        if not MIN_HOP_S <= self.hop_s < math.inf:
            raise UserError(f"hop={hop_s}: expected at least {MIN_HOP_S:g} s", f"hop={self.window_s:.3g} is a window")
        self._heavy = Lock()

    def sounds(self, inputs: Iterable[Clip | Refused]) -> Iterator[Sound]:
        """The inputs' sounds; what fails is one as well.

        Raises:
            UserError: there are links, and the ledger of what was fetched cannot be read.
        """
        inputs = list(inputs)
        rows = self._rows([given for given in inputs if isinstance(given, Clip) and is_url(given.source)])
        workers = cores()
        waiting: deque[tuple[Asked, Future[Sound | None]]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="listen")
        try:
            for given in inputs:
                asked = self._asked(given, rows)
                waiting.append((asked, pool.submit(self._whole, asked)))
                if len(waiting) > AHEAD * workers:
                    yield from self._next(waiting)
            while waiting:
                yield from self._next(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _rows(self, links: Sequence[Clip]) -> dict[Clip, LedgerRow | None]:
        """What the ledger says of each link; nothing where its audio is gone."""
        path = self.cache / LEDGER
        if not links or not is_file(path):
            return {}
        with Ledger(path, read_only=True) as ledger:
            return dict(look_up(links, self.store, ledger))

    def _asked(self, given: Clip | Refused, rows: Mapping[Clip, LedgerRow | None]) -> Asked:
        """Where an input's audio lies; that of a link in its FLAC, which holds the clip and nothing else."""
        if isinstance(given, Refused):
            return Asked(given.clip, refused=given.reason)
        if not is_url(given.source):
            return Asked(given, LocalPiece(Path(given.source), given.start, given.end))
        row = rows.get(given)
        if row is None:
            return Asked(given, refused=f"{NOT_FETCHED} ({given.source} is not in {self.cache})")
        if row.state is State.FAILED:
            return Asked(given, refused=f"{row.failure}: {row.message}")
        return Asked(given, LocalPiece(self.store.path(given), 0.0, None), row)

    def _next(self, waiting: deque[tuple[Asked, Future[Sound | None]]]) -> Iterator[Sound]:
        asked, future = waiting.popleft()
        sound = future.result()
        if sound is None:
            yield from self._windows(asked)
        else:
            yield sound

    def _whole(self, asked: Asked) -> Sound | None:
        """A clip as training hears it; None: to be heard as a timeline."""
        clip, piece = asked.clip, asked.piece
        if piece is None:
            return Sound(clip, clip.start, None, State.FAILED, asked.refused)
        if self.front_end.reads_text and clip.id == clip.source:  # a bare file: only tables have annotations
            return _failed(
                clip, "no_annotation", f"{clip.source}: the model reads annotations; expected a table with them"
            )
        if self.timeline:
            return None
        try:
            length_s = probe_duration(piece.path) if piece.end_s is None else piece.end_s - piece.start_s
            if clip.end is None and not clip.start and (length_s or 0) > LONG_S:
                return None
            with nullcontext() if length_s is not None and length_s < HEAVY_S else self._heavy:
                decoded = decode(piece.path, piece.start_s, piece.end_s, CANONICAL_RATE)
                return self._heard(clip, clip.start, decoded, asked.row)
        except AudioError as error:
            if error.failure is Failure.TOO_LONG and clip.end is None:  # its header did not say how long it is
                return None
            return _failed(clip, error.failure, error.message)
        except Exception as error:  # a decoder may fail in ways of its own: it costs this clip, not the others
            return _failed(clip, Failure.UNREADABLE, f"{clip.source}: {type(error).__name__}: {error}")

    def _heard(self, clip: Clip, start_s: float, decoded: Decoded, row: LedgerRow | None = None) -> Sound:
        pcm = to_pcm(decoded.samples)
        state, reason = (row.state, row.message) if row else state_of(decoded, pcm)
        end_s = start_s + decoded.duration_s
        if not state.usable:
            return Sound(clip, start_s, end_s, state, "; ".join(filter(None, ["all samples are equal", reason])))
        if decoded.duration_s > self.window_s + LENGTH_TOLERANCE_S:
            reason = "; ".join(filter(None, [reason, f"{CROPPED}, {self.window_s:.3g} s"]))
        if self.front_end.reads_text and not clip.annotation:
            reason = "; ".join(filter(None, [reason, "no annotation: read as an empty text"]))
        waveform = fitted(self.front_end, as_waveform(pcm, self.front_end.sample_rate)).clone()
        return Sound(clip, start_s, end_s, state, reason, waveform, self.picture(pcm) if self.picture else None)

    def _windows(self, asked: Asked) -> Iterator[Sound]:
        """A recording, or the segment of it that a clip names, in windows; what ends it early comes last."""
        clip, piece = asked.clip, asked.piece
        assert piece is not None
        before_s = clip.start - piece.start_s  # of the recording, before the file begins
        cutter = Cutter(piece.start_s, piece.end_s, self.window_s, self.hop_s)
        found = False
        try:
            for block in stream(piece.path, CANONICAL_RATE):
                for start_s, samples in cutter.take(block):
                    found = True
                    yield self._window(clip, before_s + start_s, samples)
                if cutter.done:
                    break
        except AudioError as error:
            broken: Sound | None = _failed(clip, error.failure, error.message)
        except Exception as error:
            broken = _failed(clip, Failure.UNREADABLE, f"{clip.source}: {type(error).__name__}: {error}")
        else:
            broken = None
        for start_s, samples in cutter.rest():
            found = True
            yield self._window(clip, before_s + start_s, samples)
        if broken is not None:
            yield replace(broken, start=max(before_s + cutter.end_s, clip.start))
        elif not found:
            short = clip.start < before_s + cutter.end_s
            failure = Failure.TOO_SHORT if short else Failure.OUT_OF_RANGE
            yield _failed(clip, failure, f"{clip.source}: {cutter.end_s:.3f} s, asked for from {piece.start_s:g} s on")

    def _window(self, clip: Clip, start_s: float, samples: Samples) -> Sound:
        peak = float(np.abs(samples).max())
        note = f"peak {peak:.3f} scaled to 1" if peak > 1 else ""
        samples = samples / np.float32(peak) if peak > 1 else samples  # as decode does with a clip
        length_s = len(samples) / CANONICAL_RATE
        return self._heard(clip, start_s, Decoded(samples, CANONICAL_RATE, length_s, CANONICAL_RATE, 1, "", note))


class Cutter:
    """Cuts windows from the blocks of a recording, of which it holds no more than one window's length and a block.

    Args:
        start_s: where the first window begins.
        end_s: where the last one ends at the latest; None: at the recording's end.
        window_s: length of a window, in s.
        hop_s: from one start to the next, in s.
    """

    def __init__(self, start_s: float, end_s: float | None, window_s: float, hop_s: float) -> None:
        self._window, self._hop_s, self._first_s = round(window_s * CANONICAL_RATE), hop_s, start_s
        self._stop = None if end_s is None else round(end_s * CANONICAL_RATE)
        self._count = 0  # windows given
        self._at = 0  # of the first sample held, from the recording's beginning
        self._held: list[Samples] = []
        self._end = 0  # of the last one
        self._covered = 0  # up to where there were windows

    @property
    def end_s(self) -> float:
        """How far the recording was taken, in s."""
        return self._end / CANONICAL_RATE

    @property
    def done(self) -> bool:
        """Whether all was taken that the clip names."""
        return self._stop is not None and self._end >= self._stop

    def take(self, block: Samples) -> Iterator[tuple[float, Samples]]:
        """Takes the recording's next block ``[n]``; gives the windows that are whole now, each with its start in s."""
        if self._stop is not None:
            block = block[: self._stop - self._end]
        self._held.append(block)
        self._end += len(block)
        while self._end >= self._start + self._window:
            yield self._cut(self._start + self._window)
        if self._end <= self._start:  # between windows, or before the first one
            self._held, self._at = [], self._end

    def rest(self) -> Iterator[tuple[float, Samples]]:
        """The last window, shorter than the others, where no window reached the end."""
        shortest = round(MIN_DURATION_S * CANONICAL_RATE)
        if self._end > self._covered and self._end - self._start >= shortest:
            yield self._cut(self._end)

    @property
    def _start(self) -> int:
        return round((self._first_s + self._count * self._hop_s) * CANONICAL_RATE)

    def _cut(self, end: int) -> tuple[float, Samples]:
        held = np.concatenate(self._held)
        window = held[self._start - self._at : end - self._at].copy()
        start_s, self._covered = self._start / CANONICAL_RATE, end
        self._count += 1
        keep = min(self._start, self._end)
        self._held, self._at = [held[keep - self._at :]], keep
        return start_s, window


def fitted(front_end: FrontEnd, waveform: torch.Tensor) -> torch.Tensor:
    """A waveform ``[n]`` as long as every one of a batch; empty where the front-end hears nothing and reads alone."""
    return waveform[:0] if isinstance(front_end, Annotations) else front_end.fit_length(waveform)


def window_s(front_end: FrontEnd) -> float:
    """How much of a clip reaches the model, in s; where that is its annotation alone, the longest clip that there is."""
    return front_end.heard() / front_end.sample_rate or MAX_CLIP_S


def _failed(clip: Clip, failure: str, message: str) -> Sound:
    return Sound(clip, clip.start, None, State.FAILED, f"{failure}: {message}")
