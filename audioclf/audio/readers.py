"""The two decoders behind ``decode``: libsndfile and PyAV, each giving mono samples at the file's own rate.

Neither is trusted about lengths: both read in blocks up to the frames that are wanted, so a header that lies costs no
memory, and both say where the audio really ended.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

MAX_CLIP_S = 3600.0

_BLOCK = 1 << 16  # frames a read, 1.5 s at 44.1 kHz
_RATES_HZ = range(1_000, 1_000_001)  # outside, the header is damaged and the resampling ratio unbounded
_CONTEXT_S = 0.05  # on both sides of a cut, far beyond the reach of the resampling filter
_PREROLL_S = 1.0  # decoded and dropped before a cut that was sought: Opus asks for 80 ms, AAC for a few frames
_GAP_S = 0.03  # timestamps that jump by more are a gap; by less, rounding (WebM counts in ms)
_SLACK_S = 0.1  # what containers may declare too much: encoder padding, the video's last frame
# Containers that store timestamps. The others estimate them from the bit rate, where only reading from the beginning
# finds the right sample.
_TIMED = frozenset({"mov", "matroska", "ogg", "mpegts"})
_PLAYLISTS = frozenset({"concat", "hls", "dash", "sdp"})  # text that names other files is not audio

Samples = npt.NDArray[np.float32]


class Failure(StrEnum):
    """Why a local file gave no clip."""

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


@dataclass(frozen=True, slots=True)
class Window:
    """A clip from ``start_s`` to ``end_s`` (None: to the end), to be had at ``rate`` Hz."""

    start_s: float
    end_s: float | None
    rate: int

    def frames(self, source_rate: int) -> tuple[int, int | None]:
        """First frame of the cut and the one after its last (None: to the end), at the file's rate in Hz."""
        return round(self.start_s * source_rate), None if self.end_s is None else round(self.end_s * source_rate)

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
    """

    samples: Samples
    first: int
    end: int
    rate: int
    channels: int
    declared: int | None
    decoder: str
    error: str = ""


class _Frames:
    """Collects a file's frames ``[lo, hi)`` (the cut and its context) and keeps no others.

    Args:
        window: the clip.
        rate: the file's rate, in Hz.
        path: for messages.
    """

    def __init__(self, window: Window, rate: int, path: Path) -> None:
        if rate not in _RATES_HZ:
            raise AudioError(Failure.NOT_AUDIO, f"{path}: declares a sample rate of {rate} Hz")
        first, last = window.frames(rate)
        context = window.context(rate)
        self.lo = max(first - context, 0)
        self.hi = None if last is None else last + context
        self.next = 0  # the frame that follows the last one seen
        self._most = self.lo + round(MAX_CLIP_S * rate) + 2 * context
        self._gap = round(_GAP_S * rate)
        self._path = path
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
            raise AudioError(Failure.TOO_LONG, f"{self._path}: over {MAX_CLIP_S:g} s long; give the clip an end")
        have = max(self.next, self.lo)
        silence = (at if self.hi is None else min(at, self.hi)) - have
        if silence > 0:
            self._blocks.append(np.zeros(silence, np.float32))
        self._blocks.append(block[max(have - at, 0) :])
        self.next = end

    def piece(self, channels: int, declared: int | None, decoder: str, rate: int, error: str) -> Piece:
        """Everything collected."""
        samples = np.concatenate([np.zeros(0, np.float32), *self._blocks])
        if self.hi is not None:
            samples = samples[: max(self.hi - self.lo, 0)]
        return Piece(samples, self.lo, self.next, rate, channels, declared, decoder, error)


def read_sndfile(descriptor: int, path: Path, window: Window) -> Piece | None:
    """Reads a clip with libsndfile, whose seek is exact to the sample.

    Args:
        descriptor: of the open file, at its beginning; stays open.
        path: for messages.
        window: the clip.

    Returns:
        The clip and its context, ``error`` set where decoding broke off; None for a format libsndfile does not know.

    Raises:
        AudioError: an impossible sample rate, or ``too_long``.
    """
    try:
        sound = soundfile.SoundFile(descriptor, closefd=False)
    except soundfile.LibsndfileError:
        return None
    with sound:
        frames, error = _Frames(window, sound.samplerate, path), ""
        try:
            frames.next = sound.seek(min(frames.lo, sound.frames))
            while not frames.full:
                wanted = _BLOCK if frames.hi is None else min(_BLOCK, frames.hi - frames.next)
                block = sound.read(wanted, dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                frames.add(_mono(block.T))
        except soundfile.LibsndfileError as broken:
            error = broken.error_string or "the decoder broke off"
        decoder = f"libsndfile {soundfile.__libsndfile_version__}"
        return frames.piece(sound.channels, declared_frames(sound), decoder, sound.samplerate, error)


def declared_frames(sound: soundfile.SoundFile) -> int | None:
    """How many frames the header declares; None where it does not say.

    libsndfile lowers the length of a cut-off WAV to what is there and says so only in its log. A size near 2^31 or 2^32
    bytes is what a program writes that streams a WAV and cannot know its length.
    """
    if sound.frames == np.iinfo(np.int64).max:
        return None
    cut = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if cut and 0 < int(cut[2]) < int(cut[1]) < 0x7FFF0000:
        return round(sound.frames * int(cut[1]) / int(cut[2]))
    return int(sound.frames)


def open_pyav(path: Path) -> Any:
    """A PyAV container on a local file.

    Raises:
        OSError: the file cannot be opened.
        av.FFmpegError: no demuxer knows its content.
    """
    import av  # takes 0.3 s to load, and most imports never need it

    # "file:" and the list of protocols keep a name or a playlist inside from opening anything over the network.
    name = f"file:{os.path.abspath(path)}"
    return av.open(name, metadata_errors="ignore", options={"protocol_whitelist": "file"})


def read_pyav(path: Path, window: Window, may_seek: bool = True) -> Piece | None:
    """Reads a clip with PyAV, placing what it decodes by the container's timestamps.

    Args:
        path: the file.
        window: the clip.
        may_seek: False reads from the beginning.

    Returns:
        The clip and its context, ``error`` set where decoding broke off; None where there is no audio stream or nothing
        of it decodes.

    Raises:
        AudioError: an impossible sample rate, or ``too_long``.
        OSError: the file cannot be opened.
    """
    import av

    try:
        container = open_pyav(path)
    except OSError:  # several of PyAV's errors are both
        raise
    except av.FFmpegError:
        return None
    with container:
        formats = set(container.format.name.split(","))
        if not container.streams.audio or formats & _PLAYLISTS:
            return None
        stream = container.streams.audio[0]
        origin_s = max((container.start_time or 0) / 1e6, 0.0)  # below 0 lies only what the decoder drops
        timed = bool(formats & _TIMED)
        sought = may_seek and timed and _seek(container, origin_s, window.start_s - _CONTEXT_S - _PREROLL_S)
        frames, channels, rate, error = None, 0, 0, ""
        try:
            for frame in container.decode(stream):
                rate = rate or frame.sample_rate
                at = round((frame.time - origin_s) * rate) if timed and frame.time is not None else None
                if frames is None:
                    frames, channels = _Frames(window, rate, path), frame.layout.nb_channels
                    if sought and (at is None or at > frames.lo):  # the index led astray
                        return read_pyav(path, window, may_seek=False)
                    frames.next = at if sought and at is not None else 0
                if frame.sample_rate != rate:
                    error = f"the sample rate changes from {rate} to {frame.sample_rate} Hz"
                    break
                frames.add(_mono(_planar(frame)), at)
                if frames.full:
                    break
        except av.FFmpegError as broken:
            error = broken.strerror or "the decoder broke off"
        if frames is None and sought:  # past the end, or broken there: reading it all tells which
            return read_pyav(path, window, may_seek=False)
        if frames is None and error:
            return None
        rate = rate or stream.rate
        frames = frames or _Frames(window, rate, path)
        declared = _declared_s(container, stream) if timed else None
        declared_n = None if declared is None else round((declared - _SLACK_S) * rate)
        return frames.piece(channels, declared_n, f"PyAV {av.__version__}", rate, error)


def _seek(container: Any, origin_s: float, target_s: float) -> bool:
    """Moves to the last entry point before ``target_s``; False where that is not possible or not needed."""
    import av

    if target_s <= 0:
        return False
    try:
        container.seek(round((origin_s + target_s) * 1e6))
    except av.FFmpegError:
        return False
    return True


def _declared_s(container: Any, stream: Any) -> float | None:
    """The audio's length by the container, in seconds; beside a video only the stream's own figure counts."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1
    return container.duration / 1e6 if alone and container.duration else None


def _planar(frame: Any) -> npt.NDArray[Any]:
    """A PyAV frame as float32 ``[channels, n]``, integers scaled to [-1, 1)."""
    samples = frame.to_ndarray()
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "u":
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / float(2 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32, copy=False)


def _mono(planar: npt.NDArray[Any]) -> Samples:
    """The mean over channels; ``[channels, n]`` to float32 ``[n]``."""
    return planar[0] if len(planar) == 1 else planar.mean(axis=0, dtype=np.float32)
