"""Where in an MP3 of constant bit rate a moment lies, so that it is found without reading all that comes before it.

An MP3 has no timestamps, and its table of contents is too coarse. But where all frames are equally long, a frame's
position tells its number, and so its time, exactly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

from audioclf.audio.source import Source

# Bit rates of MPEG audio layer III by the header's index, in kbit/s (ISO/IEC 11172-3 and 13818-3, table of
# bitrate_index); 0: free format.
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MPEG_1, _LAYER_3 = 3, 1
_KIND = 0xFFFFFC00  # a header's bits but for padding and what may change from frame to frame
_TAG_REACH = 2048  # bytes; more than the longest frame


def seek_cbr(container: Any, stream: Any, source: Source, target_s: float) -> tuple[Iterator[Any], int] | None:
    """Moves a freshly opened MP3 to the last frame before a moment.

    Only where the encoder says by an "Info" tag that the bit rate is constant, and the frames found agree: anything else
    is to be read from the beginning.

    Args:
        container: PyAV's, of ``source``; where None comes back, it is to be opened anew.
        stream: its audio stream.
        source: of the container.
        target_s: in seconds.

    Returns:
        The packets from there on and the sample that the first begins with, the encoder's delay taken off.
    """
    import av

    first = next(container.demux(stream))  # an empty one, without a position, at the end
    header = _header(first)
    length, samples = _frame(header, stream.rate)
    if first.pos is None or not length or not _is_tagged(source, first.pos):
        return None
    container.flags |= av.container.Flags.fast_seek.value
    try:
        container.seek(round(target_s * 1e6))
        packets = container.demux(stream)
        packet = next(packets)
    except av.FFmpegError:
        return None
    if packet.pos is None:
        return None
    number = round((packet.pos - first.pos) / length)
    off = packet.pos - first.pos - number * length
    if _header(packet) != header or abs(off) > 1 or abs(packet.size - length) > 1:
        return None
    delay = round((stream.start_time or 0) * stream.time_base * stream.rate)
    return chain([packet], packets), number * samples - delay


def _header(packet: Any) -> int:
    return int.from_bytes(bytes(packet)[:4]) & _KIND


def _frame(header: int, rate: int) -> tuple[Fraction, int]:
    """A frame's mean length in bytes, padding included, and in samples; 0 bytes where the header does not tell."""
    version, layer, index = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15
    kbps = (_KBPS_1 if version == _MPEG_1 else _KBPS_2)[index] if layer == _LAYER_3 else 0
    samples = 1152 if version == _MPEG_1 else 576
    return Fraction(samples * kbps * 1000, 8 * rate), samples


def _is_tagged(source: Source, position: int) -> bool:
    """Whether the frame before ``position`` is an "Info" tag; the file is left where it was."""
    file, before = source.file, source.file.tell()
    start = max(position - _TAG_REACH, 0)
    file.seek(start)
    found = b"Info" in file.read(position - start)
    file.seek(before, os.SEEK_SET)
    return found
