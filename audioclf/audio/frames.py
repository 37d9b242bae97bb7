"""Which frames of a file a clip needs, how a decoder's blocks become them, and why it may have none to give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

MAX_CLIP_S = 3600.0

_RATES_HZ = range(1_000, 1_000_001)  # outside, the header is damaged and the resampling ratio unbounded
_CONTEXT_S = 0.05  # on both sides of a cut, far beyond the reach of the resampling filter
GAP_S = 0.03  # timestamps that jump by more are a gap; by less, rounding (WebM counts in ms)

Samples = npt.NDArray[np.float32]


class Failure(StrEnum):
    """Why a file gave no clip."""

    MISSING = "missing"
    EMPTY = "empty"
    NOT_AUDIO = "not_audio"
    TRUNCATED = "truncated"
    NON_FINITE = "non_finite"
    OUT_OF_RANGE = "out_of_range"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    UNREADABLE = "unreadable"


class AudioError(Exception):
    """Audio that cannot be used.

    Attributes:
        failure: the reason's class.
        message: one line that names the file, the value and what was expected.
    """

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


def check_rate(rate: int, name: str) -> None:
    """Refuses a rate in Hz that only a damaged header declares.

    Raises:
        AudioError: ``not_audio``.
    """
    if rate not in _RATES_HZ:
        raise AudioError(Failure.NOT_AUDIO, f"{name}: declares a sample rate of {rate} Hz")


@dataclass(frozen=True, slots=True)
class Window:
    """A clip from ``start_s`` to ``end_s`` (None: to the end), to be had at ``rate`` Hz."""

    start_s: float
    end_s: float | None
    rate: int

    def frames(self, source_rate: int) -> tuple[int, int | None]:
        """First frame of the cut and the one after its last (None: to the end), at the file's rate in Hz."""
        first = round(self.start_s * source_rate)  # the length is rounded by itself: equal clips get equal lengths
        return first, None if self.end_s is None else first + round((self.end_s - self.start_s) * source_rate)

    def context(self, source_rate: int) -> int:
        """Frames to read on each side of the cut for the resampling filter.

        A whole number of the periods after which source and output samples coincide, so that the context's length in
        output samples is a whole number too.
        """
        if source_rate == self.rate:
            return 0
        period = source_rate // math.gcd(source_rate, self.rate)
        return period * math.ceil(_CONTEXT_S * source_rate / period)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a decoder gave.

    Attributes:
        samples: mono, float32 ``[n]``, of the file's frames ``first`` to ``first + n``.
        first: where ``samples`` begin in the file, in frames.
        end: where the file's audio ended, or where reading stopped, in frames.
        rate: the file's rate, in Hz.
        channels: how many were averaged.
        declared: frames in the whole file as its header has it; None where it does not say.
        decoder: name and version.
        error: the decoder's message where it broke off, else empty.
        missing: frames of silence among ``samples`` for what the file's timestamps leap over.
    """

    samples: Samples
    first: int
    end: int
    rate: int
    channels: int
    declared: int | None
    decoder: str
    error: str = ""
    missing: int = 0


class Frames:
    """Collects a file's frames ``[lo, hi)`` (the cut and its context) and keeps no others.

    Args:
        window: the clip.
        rate: the file's rate, in Hz.
        name: of the file, for messages.
    """

    def __init__(self, window: Window, rate: int, name: str) -> None:
        check_rate(rate, name)
        first, last = window.frames(rate)
        context = window.context(rate)
        self.lo = max(first - context, 0)
        self.hi = None if last is None else last + context
        self.next = 0  # the frame that follows the last one seen
        self.missing = 0  # frames of gaps; that the sound begins later than the picture is none
        self._most = self.lo + round(MAX_CLIP_S * rate) + 2 * context
        self._gap = round(GAP_S * rate)
        self._name = name
        self._blocks: list[Samples] = []

    @property
    def full(self) -> bool:
        """Whether frame ``hi`` was reached."""
        return self.hi is not None and self.next >= self.hi

    def add(self, block: Samples, at: int | None = None) -> None:
        """Takes the next block; ``at`` is its first frame by its timestamp: gaps become silence, overlaps are dropped.

        Raises:
            AudioError: ``too_long`` past the longest clip that is allowed.
        """
        if at is None or abs(at - self.next) <= self._gap:
            at = self.next
        end = max(at + len(block), self.next)
        if self.hi is None and end > self._most:
            raise AudioError(Failure.TOO_LONG, f"{self._name}: over {MAX_CLIP_S:g} s long; give the clip an end")
        have = max(self.next, self.lo)
        silence = (at if self.hi is None else min(at, self.hi)) - have
        if silence > 0:
            self._blocks.append(np.zeros(silence, np.float32))
            self.missing += silence if self.next else 0
        self._blocks.append(block[max(have - at, 0) :])
        self.next = end

    def piece(self, channels: int, declared: int | None, decoder: str, rate: int, error: str) -> Piece:
        """Everything collected."""
        samples = np.concatenate([np.zeros(0, np.float32), *self._blocks])
        if self.hi is not None:
            samples = samples[: max(self.hi - self.lo, 0)]
        return Piece(samples, self.lo, self.next, rate, channels, declared, decoder, error, self.missing)
