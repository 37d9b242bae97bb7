"""A whole recording in blocks: ten hours take no more memory than ten seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import soxr

from audioclf.audio.decode import MIN_DURATION_S, no_audio
from audioclf.audio.frames import AudioError, Failure, Samples, Window
from audioclf.audio.readers import Block, pyav_blocks, sndfile_blocks
from audioclf.audio.source import open_source


def stream(path: str | os.PathLike[str], rate: int) -> Iterator[Samples]:
    """Decodes a recording from its beginning to its end, mixes it to mono and resamples it.

    The blocks joined are what :func:`audioclf.audio.decode.decode` gives of the whole file, of any length, but not
    scaled where its peak exceeds 1: that is for whoever cuts clips from it.

    Args:
        path: of an audio or video file.
        rate: of the samples that come back, in Hz.

    Yields:
        Mono samples ``[n]``, float32, finite.

    Raises:
        AudioError: the file is missing, empty, unreadable or no audio. Where it breaks off, what came before is given
            first.
    """
    name = str(path)
    with open_source(path, name) as file:
        blocks = sndfile_blocks(file) or pyav_blocks(file)
        if blocks is None:
            raise no_audio(file)
        with closing(_Resampled(blocks, rate, name)) as resampled:
            yield from resampled.blocks()
            yield resampled.rest()
            resampled.check()


class _Resampled:
    """Blocks of a file, at another rate."""

    def __init__(self, blocks: Iterator[Block], rate: int, name: str) -> None:
        self._source, self._rate, self._name = blocks, rate, name
        self._taken = self._given = self._source_rate = self._skip = 0
        self._stream: soxr.ResampleStream | None = None
        self._error: AudioError | None = None

    def blocks(self) -> Iterator[Samples]:
        """All but the end, as far as the file decodes."""
        while (block := self._next()) is not None:
            self._taken += len(block)
            samples = block if self._source_rate == self._rate else self._resample(block)
            self._given += len(samples)
            yield samples

    def rest(self) -> Samples:
        """What the filter still holds, cut to the recording's length."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        samples = self._skipped(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return samples[: max(round(self._taken * self._rate / self._source_rate) - self._given, 0)]

    def check(self) -> None:
        """Says why the recording ended early, or is too short to be one."""
        if self._error is not None:
            raise self._error
        if self._taken < MIN_DURATION_S * self._source_rate or not self._taken:
            got_s = self._taken / max(self._source_rate, 1)
            message = f"{self._name}: {got_s:.4f} s of audio, at least {MIN_DURATION_S:g} s needed"
            raise AudioError(Failure.TOO_SHORT, message)

    def close(self) -> None:
        """Closes the decoder, also where not all was wanted."""
        self._source.close()  # type: ignore[attr-defined]  # a generator, which has the file open

    def _resample(self, block: Samples) -> Samples:
        """The next block; the first one after the silence that ``decode`` takes a recording to begin with."""
        if self._stream is not None:
            return self._skipped(self._stream.resample_chunk(block))
        self._stream = soxr.ResampleStream(self._source_rate, self._rate, 1, dtype="float32", quality="HQ")
        context = Window(0.0, None, self._rate).context(self._source_rate)
        self._skip = context * self._rate // self._source_rate
        return self._resample(np.concatenate([np.zeros(context, np.float32), block]))

    def _skipped(self, samples: Samples) -> Samples:
        """Without what the silence before the beginning became."""
        skip = min(self._skip, len(samples))
        self._skip -= skip
        return samples[skip:]

    def _next(self) -> Samples | None:
        try:
            self._source_rate, block = next(self._source, (self._source_rate, None))
        except AudioError as error:  # what came before it is sound
            self._error = error
            return None
        if block is not None and not np.isfinite(block).all():
            where = f"{(self._taken + int(np.argmin(np.isfinite(block)))) / self._source_rate:.3f} s"
            message = f"{self._name}: NaN or infinite samples, the first at {where}"
            self._error = AudioError(Failure.NON_FINITE, message)
            return None
        return block
