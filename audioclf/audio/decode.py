"""One segment of an audio or video file as mono float samples, or a typed reason why not.

libsndfile reads first: it is the faster decoder and exact to the sample. PyAV (ffmpeg's libraries) reads what libsndfile
refuses (AAC, MP4, WebM), what breaks under it, and MP3.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import soxr

from audioclf.audio.frames import MAX_CLIP_S, AudioError, Failure, Piece, Samples, Window
from audioclf.audio.readers import declared_frames, open_pyav, open_sndfile, read_pyav, read_sndfile
from audioclf.audio.source import BinaryFile, Source, open_source

__all__ = ["MAX_CLIP_S", "MIN_DURATION_S", "AudioError", "Decoded", "Failure", "Samples", "decode", "probe_duration"]

MIN_DURATION_S = 0.1


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded segment.

    Attributes:
        samples: mono, float32 ``[n]``, finite, within [-1, 1].
        rate: of ``samples``, in Hz.
        asked_s: the length asked for, in seconds; for "to the end", what the file's header declares from the start on.
        source_rate: the file's own rate, in Hz.
        source_channels: how many channels were averaged.
        decoder: name and version.
        note: what a reader of the samples should know (scaled, broken off), or empty.
        missing_s: seconds of silence in place of what the file leaps over.
    """

    samples: Samples
    rate: int
    asked_s: float
    source_rate: int
    source_channels: int
    decoder: str
    note: str = ""
    missing_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """The length of ``samples``, in seconds."""
        return len(self.samples) / self.rate


def decode(
    source: str | os.PathLike[str] | BinaryFile, start_s: float, end_s: float | None, rate: int, *, name: str = ""
) -> Decoded:
    """Decodes one segment of a file, mixes it to mono and resamples it.

    The cut is read with 50 ms of context on both sides, resampled, then trimmed: cut first and resample later would fade
    both edges, because the filter takes what lies outside for silence. Adjacent clips thus join as if the whole file had
    been resampled. Channels are averaged. Where the peak exceeds 1 (float files, lossy codecs, overshoot of the
    resampling filter) the clip is divided by it, so that 16 bits keep its shape.

    Offsets are as the container states them. Raw AAC and MPEG-TS do not state their encoder's delay: it stays in (21 ms).
    An Ogg file cut off at a page looks like a shorter one.

    Args:
        source: a path, or an open binary file that can seek, of which little more than the segment is read where its
            format allows that; audio or video, any number of channels.
        start_s: where the segment begins, in seconds, >= 0.
        end_s: where it ends, in seconds, > ``start_s``; None means to the end of the file.
        rate: of the samples that come back, in Hz.
        name: of the source, for messages; empty: the path.

    Returns:
        The segment; shorter than asked where the file ends or breaks off early.

    Raises:
        AudioError: the file is missing, empty, unreadable or no audio, or does not hold a usable segment.
        Exception: what reading an open file raised: its clip is not given, not even as far as it came.
    """
    name = name or str(source)
    if end_s is not None:
        _check_length(end_s - start_s, name)
    window = Window(start_s, end_s, rate)
    with open_source(source, name) as file:
        piece = read_sndfile(file, window)
        if piece is None or piece.error or piece.declared == 0:  # 0: a recorder that died before it wrote the size
            other = read_pyav(file, window)
            if other is not None:
                piece = replace(other, declared=(piece and piece.declared) or other.declared)
        if piece is None:
            raise no_audio(file)
        return _finish(piece, window, name)


def no_audio(file: Source) -> AudioError:
    """The error for a file that neither decoder reads."""
    if file.head[4:8] == b"ftyp":
        return AudioError(Failure.TRUNCATED, f"{file.name}: an MP4 without its index, as a broken download leaves it")
    return AudioError(Failure.NOT_AUDIO, f"{file.name}: neither libsndfile nor ffmpeg finds audio in it")


def probe_duration(path: str | os.PathLike[str]) -> float | None:
    """How long a file's header says it is, in seconds; None where it does not say or no decoder opens it."""
    try:
        with open_source(path, str(path)) as file:
            sound = open_sndfile(file)
            if sound is not None:
                with sound:
                    frames = declared_frames(sound)
                    return None if frames is None else frames / float(sound.samplerate)
            container = open_pyav(file)
            if container is None:
                return None
            with container:
                return float(container.duration) / 1e6 if container.duration and container.streams.audio else None
    except AudioError:
        return None


def _check_length(asked_s: float, name: str) -> None:
    if asked_s < MIN_DURATION_S:
        raise AudioError(Failure.TOO_SHORT, f"{name}: {asked_s:g} s asked for, at least {MIN_DURATION_S:g} s needed")
    if asked_s > MAX_CLIP_S:
        raise AudioError(Failure.TOO_LONG, f"{name}: {asked_s:g} s asked for, at most {MAX_CLIP_S:g} s allowed")


def _finish(piece: Piece, window: Window, name: str) -> Decoded:
    """From frames around the cut at the file's rate to the segment itself at the asked one."""
    first, last = window.frames(piece.rate)
    stop = piece.end if last is None else min(last, piece.end)
    total = max(piece.end, piece.declared or 0)
    if stop - first < MIN_DURATION_S * piece.rate:
        raise _too_little(piece, window, max(stop - first, 0) / piece.rate, total / piece.rate, name)
    samples = _resample(piece, window, first, stop, name)
    notes = []
    if piece.error:
        notes.append(f"broke off at {piece.end / piece.rate:.3f} s: {piece.error}")
    elif total > piece.end and (last is None or last > piece.end):
        notes.append(f"{total / piece.rate:.3f} s declared, {piece.end / piece.rate:.3f} s there")
    missing_s = piece.missing / piece.rate
    if missing_s:
        notes.append(f"{missing_s:.3f} s are missing within it")
    peak = float(np.abs(samples).max())
    if peak > 1:
        samples = samples / np.float32(peak)
        notes.append(f"peak {peak:.3f} scaled to 1")
    end_s = total / piece.rate if window.end_s is None else window.end_s
    asked_s = end_s - window.start_s
    note = "; ".join(notes)
    return Decoded(samples, window.rate, asked_s, piece.rate, piece.channels, piece.decoder, note, missing_s)


def _too_little(piece: Piece, window: Window, got_s: float, total_s: float, name: str) -> AudioError:
    """Why less than the shortest clip was found: the file breaks off, ends before the clip, or is that short."""
    if window.start_s >= total_s > 0:
        return AudioError(Failure.OUT_OF_RANGE, f"{name}: the clip starts at {window.start_s:g} s of {total_s:.3f} s")
    if piece.error or (piece.declared or 0) > piece.end:
        what = f"{got_s:.3f} s decode from {window.start_s:g} s on"
        return AudioError(Failure.TRUNCATED, f"{name}: {what} ({piece.error or f'{total_s:.3f} s declared'})")
    return AudioError(Failure.TOO_SHORT, f"{name}: {got_s:.4f} s of audio, at least {MIN_DURATION_S:g} s needed")


def _resample(piece: Piece, window: Window, first: int, stop: int, name: str) -> Samples:
    """Frames ``first`` to ``stop`` of the file at the window's rate; float32 ``[n]``."""
    cut = piece.samples[first - piece.first : stop - piece.first]
    if not np.isfinite(cut).all():
        bad = int(np.argmin(np.isfinite(cut)))
        where = f"{(first + bad) / piece.rate:.3f} s"
        raise AudioError(Failure.NON_FINITE, f"{name}: NaN or infinite samples, the first at {where}")
    if piece.rate == window.rate:
        return cut
    context = window.context(piece.rate)
    missing = piece.first - (first - context)  # before the file's beginning
    around = np.concatenate([np.zeros(missing, np.float32), np.nan_to_num(piece.samples, posinf=0, neginf=0)])
    skip = context * window.rate // piece.rate
    length_s = (stop - first) / piece.rate
    if window.end_s is not None and stop == window.frames(piece.rate)[1]:
        length_s = window.end_s - window.start_s  # the whole clip: not rounded to the file's own samples
    resampled: Samples = soxr.resample(around, piece.rate, window.rate, "HQ")
    return resampled[skip : skip + round(length_s * window.rate)]
