"""The two decoders behind ``decode``: libsndfile and PyAV, each giving mono samples at the file's own rate.

Neither is trusted about lengths: both read in blocks up to the frames that are wanted, so a header that lies costs no
memory, and both say where the audio really ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import FileIO
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from audioclf.audio.frames import GAP_S, MAX_CLIP_S, AudioError, Failure, Frames, Piece, Samples, Window, check_rate
from audioclf.audio.mp3 import seek_cbr
from audioclf.audio.source import Source

_BLOCK = 1 << 16  # frames a read, 1.5 s at 44.1 kHz
_PREROLL_S = 1.0  # decoded and dropped before a cut that was sought: Opus asks for 80 ms, AAC for a few frames
_SLACK_S = 0.1  # what containers may declare too much: encoder padding, the video's last frame
# Containers that store timestamps. The others estimate them from the bit rate, where only reading from the beginning
# finds the right sample.
_TIMED = frozenset({"mov", "matroska", "ogg", "mpegts"})
# What libsndfile reads a part of without reading it all: WAV, FLAC, Ogg, AIFF. Of MP3 it counts the frames first.
_FRUGAL = frozenset({b"RIFF", b"RF64", b"fLaC", b"FORM"})
_PLAYLISTS = frozenset({"concat", "hls", "dash", "sdp"})  # text that names other files is not audio


def open_sndfile(source: Source) -> soundfile.SoundFile | None:
    """The source by libsndfile; None for a format that it does not know, or of which it would read all of a stream."""
    if source.path is None and source.head[:4] not in _FRUGAL:
        return None
    file = source.rewound()
    try:
        return soundfile.SoundFile(file.fileno() if isinstance(file, FileIO) else file, closefd=False)
    except soundfile.LibsndfileError:
        return None


def read_sndfile(source: Source, window: Window) -> Piece | None:
    """Reads a clip with libsndfile, whose seek is exact to the sample.

    Args:
        source: stays open.
        window: the clip.

    Returns:
        The clip and its context, ``error`` set where decoding broke off, and for MP3, of which only the length is read;
        None for a format libsndfile does not know.

    Raises:
        AudioError: an impossible sample rate, or ``too_long``.
    """
    sound = open_sndfile(source)
    if sound is None:
        return None
    with sound:
        frames, error = Frames(window, sound.samplerate, source.name), ""
        if sound.format == "MP3":
            # soundfile seeks after each block, and the decoder starts anew without the bits that VBR frames lend on.
            error = "to be read by PyAV"
        try:
            frames.next = sound.seek(min(frames.lo, sound.frames))
            while not frames.full and not error:
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
    frames = int(sound.frames)
    if frames == np.iinfo(np.int64).max:
        return None
    cut = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if cut and 0 < int(cut[2]) < int(cut[1]) < 0x7FFF0000:
        return round(frames * int(cut[1]) / int(cut[2]))
    return frames


def open_pyav(source: Source) -> Any:
    """The source by PyAV; None where no demuxer knows its content.

    Raises:
        OSError: a local file cannot be opened.
    """
    import av  # takes 0.3 s to load, and most imports never need it

    # The protocols keep a name or a playlist inside from opening anything else.
    local = source.path is not None
    file = f"file:{source.path.absolute()}" if source.path else source.rewound()
    try:
        options = {"protocol_whitelist": "file" if local else "none"}
        return av.open(file, "r", metadata_errors="ignore", options=options)
    except av.FFmpegError as error:
        if local and isinstance(error, OSError):
            raise
        return None


def read_pyav(source: Source, window: Window, may_seek: bool = True) -> Piece | None:
    """Reads a clip with PyAV, placing what it decodes by the container's timestamps.

    Args:
        source: stays open.
        window: the clip.
        may_seek: False reads from the beginning.

    Returns:
        The clip and its context, ``error`` set where decoding broke off; None where there is no audio stream.

    Raises:
        AudioError: an impossible sample rate, or ``too_long``.
        OSError: a local file cannot be opened.
    """
    import av

    container = open_pyav(source)
    if container is None:
        return None
    with container:
        formats = set(container.format.name.split(","))
        if not container.streams.audio or formats & _PLAYLISTS:
            return None
        stream = container.streams.audio[0]
        timed = bool(formats & _TIMED)
        target_s = window.start_s - _PREROLL_S
        packets, origin_s = _beginning(container, stream)
        begin: int | None = 0  # the frame that decoding begins with; None: what its timestamp says
        if may_seek and target_s > 0 and timed and _seek(container, origin_s + target_s):
            packets, begin = container.demux(stream), None
        elif may_seek and target_s > 0 and "mp3" in formats:
            entry = seek_cbr(container, stream, source, target_s)
            if entry is None:
                return read_pyav(source, window, may_seek=False)
            packets, begin = entry
        sought = begin != 0
        frames, channels, rate, error = None, 0, 0, ""
        try:
            for frame in (frame for packet in packets for frame in packet.decode()):
                rate = rate or frame.sample_rate
                at = round((frame.time - origin_s) * rate) if timed and frame.time is not None else None
                if frames is None:
                    frames, channels = Frames(window, rate, source.name), frame.layout.nb_channels
                    begin = at if begin is None else begin
                    if sought and (begin is None or begin > frames.lo):  # the index led astray
                        return read_pyav(source, window, may_seek=False)
                    frames.next = begin or 0
                if frame.sample_rate != rate:
                    error = f"the sample rate changes from {rate} to {frame.sample_rate} Hz"
                    break
                frames.add(_mono(_planar(frame)), at)
                if frames.full:
                    break
        except av.FFmpegError as broken:
            error = broken.strerror or "the decoder broke off"
        if frames is None and sought:  # past the end, or broken there: reading it all tells which
            return read_pyav(source, window, may_seek=False)
        rate = rate or stream.rate or 0
        frames = frames or Frames(window, rate, source.name)
        declared_s = _declared_s(container, stream) if timed else 0.0
        declared = round(declared_s * rate) if declared_s > frames.next / rate + _SLACK_S else None
        return frames.piece(channels, declared, f"PyAV {av.__version__}", rate, error)


Block = tuple[int, Samples]
"""The rate in Hz and the mono samples ``[n]`` of a piece of a file; the next one joins it."""


def sndfile_blocks(source: Source) -> Iterator[Block] | None:
    """All of a file by libsndfile, a block at a time; None for what PyAV is to read.

    Raises:
        AudioError: while it is iterated: an impossible sample rate, or the file breaks off.
    """
    sound = open_sndfile(source)
    if sound is None:
        return None
    if sound.format == "MP3" or sound.frames == 0:  # as in read_sndfile and decode
        sound.close()
        return None
    return _sndfile_blocks(sound, source)


def _sndfile_blocks(sound: soundfile.SoundFile, source: Source) -> Iterator[Block]:
    with sound:
        rate, declared, given = int(sound.samplerate), declared_frames(sound), 0
        check_rate(rate, source.name)
        why = ""
        try:
            while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
                given += len(block)
                yield rate, _mono(block.T)
        except soundfile.LibsndfileError as error:
            why = error.error_string or "the decoder broke off"
    seen = 0
    for _, block in (pyav_blocks(source) if why else None) or ():  # as decode: PyAV comes further in a damaged file
        fresh = block[max(given - seen, 0) :]
        seen, given = seen + len(block), max(given, seen + len(block))
        yield rate, fresh
    if declared is not None and declared > given:
        raise _broken(source.name, given / rate, why or f"{declared / rate:.3f} s declared")


def pyav_blocks(source: Source) -> Iterator[Block] | None:
    """All of a file by PyAV, a block at a time, gaps in its timestamps as silence; None where there is no audio stream.

    Raises:
        AudioError: while it is iterated: an impossible sample rate, or the file breaks off.
        OSError: a local file cannot be opened.
    """
    container = open_pyav(source)
    if container is None:
        return None
    if not container.streams.audio or set(container.format.name.split(",")) & _PLAYLISTS:
        container.close()
        return None
    return _pyav_blocks(container, source.name)


def _pyav_blocks(container: Any, name: str) -> Iterator[Block]:
    import av

    with container:
        stream = container.streams.audio[0]
        timed = bool(set(container.format.name.split(",")) & _TIMED)
        packets, origin_s = _beginning(container, stream)
        rate = after = 0  # after: the frame that follows the last one given
        try:
            for frame in (frame for packet in packets for frame in packet.decode()):
                if frame.sample_rate != rate:
                    if rate:
                        raise _broken(name, after / rate, f"the sample rate changes to {frame.sample_rate} Hz")
                    rate = frame.sample_rate
                    check_rate(rate, name)
                block = _mono(_planar(frame))
                at = round((frame.time - origin_s) * rate) if timed and frame.time is not None else after
                if abs(at - after) > GAP_S * rate:
                    if at - after > MAX_CLIP_S * rate:
                        raise _broken(name, after / rate, f"the next sound is at {at / rate:.0f} s")
                    for start in range(after, at, _BLOCK):
                        yield rate, np.zeros(min(_BLOCK, at - start), np.float32)
                    block = block[max(after - at, 0) :]
                    after = max(after, at)
                after += len(block)
                yield rate, block
        except av.FFmpegError as error:
            raise _broken(name, after / rate if rate else 0.0, error.strerror) from error


def _broken(name: str, at_s: float, why: str | None) -> AudioError:
    return AudioError(Failure.TRUNCATED, f"{name}: broke off at {at_s:.3f} s: {why or 'the decoder broke off'}")


def _beginning(container: Any, stream: Any) -> tuple[Iterator[Any], float]:
    """The packets from the beginning on, and the time by the container's clock that is 0 s of its sound."""
    origin_s = max((container.start_time or 0) / 1e6, 0.0)  # below 0 lies only what the decoder drops
    packets: Iterator[Any] = container.demux(stream)
    if origin_s and "matroska" in container.format.name.split(","):
        # Opus counts what is to be dropped at 48 kHz, ffmpeg at the rate that was encoded: 6.5 ms too late for 24 kHz.
        first = next(packets)  # an empty one at the end
        origin_s = min(origin_s, max(float((first.pts or 0) * stream.time_base), 0.0))
        packets = chain([first], packets)
    return packets, origin_s


def _seek(container: Any, target_s: float) -> bool:
    """Moves to the last entry point before ``target_s``; False where that is not possible."""
    import av

    try:
        container.seek(round(target_s * 1e6))
    except av.FFmpegError:
        return False
    return True


def _declared_s(container: Any, stream: Any) -> float:
    """The audio's length by the container, in seconds, or 0; beside a video only the stream's own figure counts."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1
    return float(container.duration) / 1e6 if alone and container.duration else 0.0


def _planar(frame: Any) -> npt.NDArray[np.float32]:
    """A PyAV frame as float32 ``[channels, n]``, integers scaled to [-1, 1)."""
    samples: npt.NDArray[Any] = frame.to_ndarray()
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    planar = samples.astype(np.float32, copy=False)
    if samples.dtype.kind == "u":
        planar = (planar - np.float32(128)) / np.float32(128)
    elif samples.dtype.kind == "i":
        planar = planar / np.float32(1 << (8 * samples.dtype.itemsize - 1))
    return planar


def _mono(planar: npt.NDArray[np.float32]) -> Samples:
    """The mean over channels; ``[channels, n]`` to float32 ``[n]``."""
    mono: Samples = planar[0] if len(planar) == 1 else planar.mean(axis=0, dtype=np.float32)
    return mono
