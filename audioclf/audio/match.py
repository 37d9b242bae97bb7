"""Which file of a folder holds which clip: for audio that the user already has.

A manifest's sources are often links while the audio lies on a disk, named after the recording's id. Names are read as
``<id>``, ``Y<id>``, ``<id>_<start>`` or ``Y<id>_<start>`` (any audio extension, any depth of folders), where ``<id>`` is
the clip's id or its group, itself perhaps with ``_`` and ``-``, and ``<start>`` counts seconds (``30``, ``30.0``,
``000030``) or, where no clip starts there, milliseconds (``30000``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audioclf.audio.decode import probe_duration
from audioclf.clips.clip import Clip
from audioclf.clips.folder import list_folder
from audioclf.errors import UserError

LENGTH_MATCH_S = 0.1  # more than MP3 and AAC add at the ends (some 50 ms), less than any clip worth having
_START_MATCH_S = 0.001
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class LocalPiece:
    """The part of a local file that holds a clip.

    Attributes:
        path: the file.
        start_s: where the clip begins in *this* file, in seconds.
        end_s: where it ends in this file, in seconds; None means to the file's end.
    """

    path: Path
    start_s: float
    end_s: float | None


class _UnclearError(Exception):
    """A file that is named after clips but whose length says that it is none of them."""


@dataclass(frozen=True)
class FileMatch:
    """What a folder holds of a manifest.

    Attributes:
        pieces: the file and cut for each clip that was found.
        unmatched: clips without a file.
        unused: audio files that no clip takes.
        ambiguous: clips with several files, the one taken first.
        unclear: files named after a recording whose length fits neither the clip nor the recording.
    """

    pieces: dict[Clip, LocalPiece] = field(default_factory=dict)
    unmatched: list[Clip] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    ambiguous: list[tuple[Clip, list[Path]]] = field(default_factory=list)
    unclear: list[Path] = field(default_factory=list)

    def summary_lines(self) -> list[str]:
        """The outcome for people, a few lines whatever the number of clips."""
        lines = [
            f"{len(self.pieces)} clips have a file, {len(self.unmatched)} have none; {len(self.unused)} files are not used"
        ]
        for clip, paths in self.ambiguous[:_SHOWN]:
            lines.append(f"  {clip.id}: {len(paths)} files, {paths[0]} taken")
        if len(self.ambiguous) > _SHOWN:
            lines.append(f"  ... and {len(self.ambiguous) - _SHOWN} more clips with several files")
        lines += [
            f"  {path}: neither as long as its clip nor reaching its end; name a cut clip <id>_<start>"
            for path in self.unclear[:_SHOWN]
        ]
        if len(self.unclear) > _SHOWN:
            lines.append(f"  ... and {len(self.unclear) - _SHOWN} more such files")
        return lines


def match_files(clips: Sequence[Clip], folder: Path) -> FileMatch:
    """Finds the file of each clip in a folder, by name and, where the name leaves it open, by length.

    A name with a start is a clip that was cut already: it is taken from its first second. A name without one is a cut
    clip where its length is the clip's (to 0.1 s), and the whole recording where it reaches the clip's end; where it is
    neither, or could be the cut of several clips, it is not taken: no audio is better than another clip's. Of several
    files for one clip, one with a start in its name comes first, then a cut clip, then a recording, then the first path.

    Args:
        clips: the manifest's.
        folder: searched with all folders in it; hidden files are passed over.

    Raises:
        UserError: ``folder`` is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", "name the folder that holds your audio files")
    names: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        for name in {clip.id, clip.group}:
            names[name].append(clip)
    found: defaultdict[Clip, list[tuple[int, Path, LocalPiece]]] = defaultdict(list)
    files, unclear = list(list_folder(folder)), []
    for path in files:
        try:
            for clip, rank, piece in _candidates(path, names):
                found[clip].append((rank, path, piece))
        except _UnclearError:
            unclear.append(path)
    pieces, ambiguous = {}, []
    for clip, options in found.items():
        options.sort(key=lambda option: option[:2])
        pieces[clip] = options[0][2]
        if len(options) > 1:
            ambiguous.append((clip, [path for _, path, _ in options]))
    used = {piece.path for piece in pieces.values()}
    unmatched = [clip for clip in clips if clip not in pieces]
    return FileMatch(pieces, unmatched, [path for path in files if path not in used], ambiguous, unclear)


def named_clips(stem: str, names: dict[str, list[Clip]]) -> tuple[list[Clip], list[Clip]]:
    """The clips a file name can mean: those it names with their start, and those it names by id or group alone.

    The name as it stands goes before the name without a leading ``Y``, and a known id goes before a start.

    Args:
        stem: the file's name without its extension.
        names: clips by id and by group.

    Returns:
        Clips named with their start; clips named without.
    """
    for name in (stem, stem[1:] if stem.startswith("Y") else ""):
        head, _, tail = name.rpartition("_")
        started: list[Clip] = []
        for start_s in _starts(tail):
            started = started or [clip for clip in names.get(head, ()) if abs(clip.start - start_s) < _START_MATCH_S]
        exact = names.get(name, [])
        if exact:
            return [clip for clip in exact if clip in started], [clip for clip in exact if clip not in started]
        if started:
            return started, []
    return [], []


def _candidates(path: Path, names: dict[str, list[Clip]]) -> list[tuple[Clip, int, LocalPiece]]:
    """The clips that a file may hold, each with a rank (the lowest is taken) and the cut.

    Raises:
        _UnclearError: the name fits, the length does not.
    """
    started, exact = named_clips(path.stem, names)
    cut, recording = _by_length(path, exact) if exact else ([], [])
    if exact and not (started or cut or recording):
        raise _UnclearError
    return [
        *((clip, 0, _whole(path, clip)) for clip in started),
        *((clip, 1, _whole(path, clip)) for clip in cut),
        *((clip, 2, LocalPiece(path, clip.start, clip.end)) for clip in recording),
    ]


def _by_length(path: Path, clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Those of ``clips`` that the file is the cut of, and those that it holds as their whole recording."""
    duration_s = probe_duration(path)
    cut, recording = [], []
    for clip in clips:
        if duration_s is None or clip.end is None or clip.start == 0:
            recording.append(clip)  # from 0 s on, cut and recording are the same; a bad file fails when it is decoded
        elif abs(duration_s - (clip.end - clip.start)) <= LENGTH_MATCH_S:
            cut.append(clip)
        elif duration_s >= clip.end - LENGTH_MATCH_S:
            recording.append(clip)
    if cut and (recording or len({(clip.start, clip.end) for clip in cut}) > 1):
        # As long as the cut of one clip, but of which? Only a clip whose own id the file bears can be meant.
        own = (path.stem, path.stem.removeprefix("Y"))
        cut = [clip for clip in cut if clip.id in own]
        recording = [clip for clip in recording if clip.id in own]
    return cut, recording


def _whole(path: Path, clip: Clip) -> LocalPiece:
    return LocalPiece(path, 0.0, None if clip.end is None else clip.end - clip.start)


def _starts(text: str) -> list[float]:
    """The starts that a name's last part can mean, in seconds: as written, and as milliseconds."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        return []
    return [float(text)] if "." in text else [float(text), int(text) / 1000]
