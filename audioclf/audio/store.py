"""The audio store: one canonical FLAC for each clip, committed whole or not at all."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from audioclf.audio.decode import AudioError, Decoded, Failure, Samples
from audioclf.audio.ledger import LedgerRow, State
from audioclf.clips.clip import Clip
from audioclf.files import cannot_write, remove_stale, replacing

CANONICAL_RATE = 44_100
"""Sampling rate of all stored audio, in Hz; the rate a model hears is a feature setting."""

LENGTH_TOLERANCE_S = 0.020

Pcm = npt.NDArray[np.int16]


class AudioStore:
    """16-bit mono FLAC files at ``CANONICAL_RATE``, one a clip, named by its ``audio_key``.

    A file is written under a temporary name in its own folder, flushed to the disk and renamed; the caller then writes
    the ledger row. A file without a row is therefore one whose process died between the two: it is made anew.

    Args:
        root: the store's folder, made where absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, clip: Clip | str) -> Path:
        """Where the audio of a clip (or of an audio key) lies, whether or not it is there."""
        key = clip if isinstance(clip, str) else clip.audio_key
        shard = key.rpartition("-")[2][:2]  # 256 folders by the key's hash
        return self.root / shard / f"{key}.flac"

    def write(self, clip: Clip, decoded: Decoded) -> LedgerRow:
        """Stores a clip's audio and says what it is; the caller puts the row into the ledger afterwards.

        What was encoded is decoded again and compared before it gets its name. The state is that of :func:`state_of`.
        The row's sha256 is of the *samples* (little-endian int16), not of the file: another FLAC encoder gives other
        bytes for the same sound.

        Args:
            clip: whose audio it is.
            decoded: at ``CANONICAL_RATE``.

        Raises:
            UserError: the store cannot be written, e.g. the disk is full: the next clip would fail as well.
            AudioError: what was encoded does not decode to the same samples.
        """
        if decoded.rate != CANONICAL_RATE:
            raise ValueError(f"decoded.rate is {decoded.rate} Hz, expected {CANONICAL_RATE} Hz")
        pcm = to_pcm(decoded.samples)
        encoded = io.BytesIO()
        soundfile.write(encoded, pcm, CANONICAL_RATE, format="FLAC", subtype="PCM_16")
        path = self.path(clip)
        encoded.seek(0)
        if not np.array_equal(_decode_flac(encoded, str(path)), pcm):
            raise AudioError(Failure.UNREADABLE, f"{path}: the FLAC does not decode to what was encoded")
        self._commit(path, encoded.getbuffer())

        state, message = state_of(decoded, pcm)
        return replace(
            LedgerRow.of(clip, state, message=message),
            sha256=pcm_sha256(pcm),
            duration_s=decoded.duration_s,
            tool_versions=f"{decoded.decoder}, soxr {soxr.__version__}, FLAC by {soundfile.__libsndfile_version__}",
        )

    def read(self, clip: Clip | str) -> Samples:
        """A clip's audio (or that of an audio key), mono float32 ``[n]`` at ``CANONICAL_RATE``, within [-1, 1).

        Raises:
            AudioError: there is no file, or it does not decode to the length its header declares.
        """
        return read_flac(self.path(clip))

    def clean(self) -> int:
        """Removes what killed processes left half-written, streams in its own folder included; how much that was."""
        return remove_stale(self.root, "??/*.flac") + remove_stale(self.root)

    def _commit(self, path: Path, content: memoryview) -> None:
        """Writes a file so that its name appears only once all of it is on the disk."""
        try:
            with replacing(path) as file:
                file.write(content)
        except OSError as error:
            raise cannot_write(str(path), error) from error


def state_of(decoded: Decoded, pcm: Pcm) -> tuple[State, str]:
    """What a clip's audio is, and what should be known of it.

    ``silent`` where all 16-bit samples are equal, ``partial`` where the length is off by more than 20 ms from what was
    asked or more than that is missing within, else ``ok``.

    Args:
        decoded: at ``CANONICAL_RATE``.
        pcm: the same in 16 bits.
    """
    off = abs(decoded.duration_s - decoded.asked_s) > LENGTH_TOLERANCE_S
    partial = off or decoded.missing_s > LENGTH_TOLERANCE_S
    state = State.SILENT if (pcm == pcm[0]).all() else State.PARTIAL if partial else State.OK
    notes = [f"{decoded.duration_s:.3f} s of {decoded.asked_s:.3f} s"] if off else []
    return state, "; ".join([*notes, *filter(None, [decoded.note])])


def read_flac(path: Path) -> Samples:
    """A file of the store as mono float32 ``[n]`` at ``CANONICAL_RATE``, within [-1, 1).

    Raises:
        AudioError: there is no such file, or it does not decode to the length its header declares.
    """
    return from_pcm(read_pcm(path))


def read_pcm(path: Path) -> Pcm:
    """A file of the store as the 16-bit samples ``[n]`` that the ledger's sha256 is of.

    Raises:
        AudioError: as ``read_flac``.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _decode_flac(file.fileno(), str(path))
    except OSError as error:
        failure = Failure.MISSING if isinstance(error, FileNotFoundError) else Failure.UNREADABLE
        raise AudioError(failure, f"{path}: {error.strerror}; fetch or import makes it anew") from error


def to_pcm(samples: Samples) -> Pcm:
    """Float samples ``[n]`` within [-1, 1] as 16-bit ones; exact for what came from 16 bits."""
    scaled = np.rint(samples * np.float32(32768))
    pcm: Pcm = np.minimum(scaled, np.float32(32767)).astype(np.int16)
    return pcm


def from_pcm(pcm: Pcm) -> Samples:
    """16-bit samples ``[n]`` as float32 ones within [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(32768)


def pcm_sha256(pcm: Pcm) -> str:
    """The sha256 of 16-bit samples ``[n]``, taken as little-endian bytes on every machine."""
    return hashlib.sha256(pcm.astype("<i2", copy=False).tobytes()).hexdigest()


def _decode_flac(file: io.BytesIO | int, name: str) -> Pcm:
    """All samples ``[n]`` of a FLAC of the store's own kind.

    Raises:
        AudioError: it is damaged, or not of that kind.
    """
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            declared, kind = sound.frames, (sound.samplerate, sound.channels)
            pcm: Pcm = sound.read(dtype="int16")
    except soundfile.LibsndfileError as error:
        raise AudioError(
            Failure.TRUNCATED, f"{name}: damaged ({error}); remove it and import or fetch again"
        ) from error
    if len(pcm) != declared or kind != (CANONICAL_RATE, 1):
        what = f"{len(pcm)} of {declared} samples at {kind[0]} Hz, {kind[1]} channels"
        raise AudioError(Failure.TRUNCATED, f"{name}: {what}; remove it and import or fetch again")
    return pcm
