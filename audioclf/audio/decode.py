"""One segment of a local audio or video file as mono float samples, or a typed reason why not.

libsndfile reads first: it is the faster decoder and exact to the sample. PyAV (ffmpeg's libraries) reads what libsndfile
refuses (AAC, MP4, WebM) and what breaks under it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
import soundfile
import soxr

from audioclf.audio.frames import MAX_CLIP_S, AudioError, Failure, Piece, Samples, Window
from audioclf.audio.readers import declared_frames, open_pyav, read_pyav, read_sndfile

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
    """

    samples: Samples
    rate: int
    asked_s: float
    source_rate: int
    source_channels: int
    decoder: str
    note: str = ""

    @property
    def duration_s(self) -> float:
        """The length of ``samples``, in seconds."""
        return len(self.samples) / self.rate


def decode(path: str | os.PathLike[str], start_s: float, end_s: float | None, rate: int) -> Decoded:
    """Decodes one segment of a file, mixes it to mono and resamples it.

    The cut is read with 50 ms of context on both sides, resampled, then trimmed: cut first and resample later would fade
    both edges, because the filter takes what lies outside for silence. Adjacent clips thus join as if the whole file had
    been resampled. Channels are averaged. Where the peak exceeds 1 (float files, lossy codecs, overshoot of the
    resampling filter) the clip is divided by it, so that 16 bits keep its shape.

    Offsets are as the container states them. Raw AAC and MPEG-TS do not state their encoder's delay: it stays in (21 ms).
    An Ogg file cut off at a page looks like a shorter one.

    Args:
        path: the file; audio or video, any number of channels.
        start_s: where the segment begins, in seconds, >= 0.
        end_s: where it ends, in seconds, > ``start_s``; None means to the end of the file.
        rate: of the samples that come back, in Hz.

    Returns:
        The segment; shorter than asked where the file ends or breaks off early.

    Raises:
        AudioError: the file is missing, empty, unreadable or no audio, or does not hold a usable segment.
    """
    path = Path(path)
    if end_s is not None:
        _check_length(end_s - start_s, path)
    window = Window(start_s, end_s, rate)
    try:
        with _open(path) as file:
            is_mp4 = file.read(8)[4:] == b"ftyp"
            file.seek(0)
            piece = read_sndfile(file.fileno(), path, window)
            if piece is None or piece.error or piece.declared == 0:  # 0: a recorder that died before it wrote the size
                other = read_pyav(path, window)
                if other is not None:
                    piece = replace(other, declared=(piece and piece.declared) or other.declared)
    except OSError as error:
        failure = Failure.MISSING if isinstance(error, FileNotFoundError | NotADirectoryError) else Failure.UNREADABLE
        raise AudioError(failure, f"{path}: {error.strerror or error}") from error
    if piece is None and is_mp4:
        raise AudioError(Failure.TRUNCATED, f"{path}: an MP4 without its index, as an interrupted download leaves it")
    if piece is None:
        raise AudioError(Failure.NOT_AUDIO, f"{path}: neither libsndfile nor ffmpeg finds audio in it")
    return _finish(piece, window, path)


def probe_duration(path: str | os.PathLike[str]) -> float | None:
    """How long a file's header says it is, in seconds; None where it does not say or no decoder opens it."""
    try:
        with _open(Path(path)) as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            frames = declared_frames(sound)
            return None if frames is None else frames / float(sound.samplerate)
    except (OSError, AudioError):
        return None
    except soundfile.LibsndfileError:
        pass
    import av

    try:
        with open_pyav(Path(path)) as container:
            return float(container.duration) / 1e6 if container.duration and container.streams.audio else None
    except (OSError, av.FFmpegError):
        return None


def _open(path: Path) -> FileIO:
    """Opens a file once it is known to be a regular one (a pipe would wait forever) with something in it."""
    try:
        status = path.stat()
    except ValueError as error:  # a NUL in the name
        raise AudioError(Failure.MISSING, f"{str(path)!r}: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise AudioError(Failure.UNREADABLE, f"{path}: {what}, expected a file")
    if status.st_size == 0:
        raise AudioError(Failure.EMPTY, f"{path}: 0 bytes")
    return path.open("rb", buffering=0)  # libsndfile reads on from the descriptor: a buffer would have run ahead


def _check_length(asked_s: float, path: Path) -> None:
    if asked_s < MIN_DURATION_S:
        raise AudioError(Failure.TOO_SHORT, f"{path}: {asked_s:g} s asked for, at least {MIN_DURATION_S:g} s needed")
    if asked_s > MAX_CLIP_S:
        raise AudioError(Failure.TOO_LONG, f"{path}: {asked_s:g} s asked for, at most {MAX_CLIP_S:g} s allowed")


def _finish(piece: Piece, window: Window, path: Path) -> Decoded:
    """From frames around the cut at the file's rate to the segment itself at the asked one."""
    first, last = window.frames(piece.rate)
    stop = piece.end if last is None else min(last, piece.end)
    total = max(piece.end, piece.declared or 0)
    if stop - first < MIN_DURATION_S * piece.rate:
        raise _too_little(piece, window, max(stop - first, 0) / piece.rate, total / piece.rate, path)
    samples = _resample(piece, window, first, stop, path)
    notes = []
    if piece.error:
        notes.append(f"broke off at {piece.end / piece.rate:.3f} s: {piece.error}")
    elif total > piece.end and (last is None or last > piece.end):
        notes.append(f"{total / piece.rate:.3f} s declared, {piece.end / piece.rate:.3f} s there")
    peak = float(np.abs(samples).max())
    if peak > 1:
        samples = samples / np.float32(peak)
        notes.append(f"peak {peak:.3f} scaled to 1")
    end_s = total / piece.rate if window.end_s is None else window.end_s
    asked_s = end_s - window.start_s
    return Decoded(samples, window.rate, asked_s, piece.rate, piece.channels, piece.decoder, "; ".join(notes))


def _too_little(piece: Piece, window: Window, got_s: float, total_s: float, path: Path) -> AudioError:
    """Why less than the shortest clip was found: the file breaks off, ends before the clip, or is that short."""
    if window.start_s >= total_s > 0:
        return AudioError(Failure.OUT_OF_RANGE, f"{path}: the clip starts at {window.start_s:g} s of {total_s:.3f} s")
    if piece.error or (piece.declared or 0) > piece.end:
        what = f"{got_s:.3f} s decode from {window.start_s:g} s on"
        return AudioError(Failure.TRUNCATED, f"{path}: {what} ({piece.error or f'{total_s:.3f} s declared'})")
    return AudioError(Failure.TOO_SHORT, f"{path}: {got_s:.4f} s of audio, at least {MIN_DURATION_S:g} s needed")


def _resample(piece: Piece, window: Window, first: int, stop: int, path: Path) -> Samples:
    """Frames ``first`` to ``stop`` of the file at the window's rate; float32 ``[n]``."""
    cut = piece.samples[first - piece.first : stop - piece.first]
    if not np.isfinite(cut).all():
        bad = int(np.argmin(np.isfinite(cut)))
        where = f"{(first + bad) / piece.rate:.3f} s"
        raise AudioError(Failure.NON_FINITE, f"{path}: NaN or infinite samples, the first at {where}")
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
